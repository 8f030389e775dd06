"""Figures in one style: image grids, curves, bars. With `widgets`, the only importer of matplotlib.

Every function returns a matplotlib Figure made without pyplot: a cell ends in `plots.show_grid(...)` and shows
it once; anywhere else `fig.savefig("grid.png")` keeps it.
"""

import io
import math

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure as _Figure
from PIL import Image

# Okabe & Ito 2008: told apart with every common kind of colour blindness
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
SYNTHETIC = "synthetic, not for diagnosis"
_STYLE = {
    "font.size": 10, "axes.titlesize": 10.5, "axes.labelsize": 10, "figure.dpi": 110, "savefig.dpi": 110,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "axes.prop_cycle": mpl.cycler(color=COLOURS), "legend.frameon": False, "lines.linewidth": 1.8,
    "image.cmap": "gray", "figure.facecolor": "white",
}


class Figure(_Figure):
    """A matplotlib Figure that a notebook shows as PNG, whatever the backend."""

    def _repr_png_(self):
        buffer = io.BytesIO()
        with mpl.rc_context(_STYLE):
            self.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.05)
        return _palette_png(buffer)


def _palette_png(png):
    """The same picture in 256 colours: half the bytes in a notebook, no difference to the eye."""
    buffer = io.BytesIO()
    picture = Image.open(png).convert("RGB")
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def figure(width=7.0, height=3.0, rows=1, columns=1, **options):
    """A Figure in the project's style with (rows, columns) axes: -> figure, axes (one axis, or an array)."""
    with mpl.rc_context(_STYLE):
        fig = Figure(figsize=(width, height), layout="constrained", dpi=_STYLE["figure.dpi"])
        axes = fig.subplots(rows, columns, **options)
    return fig, axes


def _as_images(images):
    """Any images -> float numpy (N, H, W) in [0, 1]; raises ValueError for shapes that are not grey images."""
    images = getattr(images, "images", images)
    x = torch.as_tensor(images).detach().cpu()
    x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    if x.ndim == 4 and x.shape[1] == 1:
        x = x[:, 0]
    if x.ndim != 3:
        raise ValueError(f"expected grey images (N, 1, H, W) or (N, H, W), got {tuple(x.shape)}")
    return x.clamp(0, 1).numpy()


def tile(images, rows, columns, gap=1):
    """The first rows x columns images as one picture (H', W') with light gaps; missing ones stay blank."""
    x = _as_images(images)[: rows * columns]
    h, w = x.shape[1:]
    page = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap), 0.85, dtype=np.float32)
    for i, image in enumerate(x):
        r, c = divmod(i, columns)
        page[r * (h + gap) : r * (h + gap) + h, c * (w + gap) : c * (w + gap) + w] = image
    return page


def show_grid(images, *, columns=10, rows=None, title=None, row_labels=None, column_labels=None, width=7.0,
              note=None):
    """One grid of grey images, the first rows x columns of them in the order given.

    images (N, 1, H, W) or (N, H, W), float in [0, 1] or uint8. row_labels and column_labels: a string for each.
    note: small print under the grid, such as `plots.SYNTHETIC`.
    """
    rows = math.ceil(len(images) / columns) if rows is None else rows
    page = tile(images, rows, columns)
    fig, ax = figure(width, width * page.shape[0] / page.shape[1] + (0.3 if title else 0))
    _draw_page(ax, page, rows, columns, title, row_labels, column_labels)
    if note:
        fig.supxlabel(note, fontsize=8.5, color="#555555")
    return fig


def show_grids(groups, *, columns=5, rows=None, width=7.0, note=None, row_labels=None):
    """Several grids side by side at the same grey range: {title: images}; row_labels stand beside each."""
    rows = math.ceil(max(len(v) for v in groups.values()) / columns) if rows is None else rows
    pages = [tile(images, rows, columns) for images in groups.values()]
    height = width / len(pages) * pages[0].shape[0] / pages[0].shape[1] + 0.35
    fig, axes = figure(width, height, 1, len(pages), squeeze=False)
    for ax, page, title in zip(axes[0], pages, groups):
        _draw_page(ax, page, rows, columns, title, row_labels, None)
    if note:
        fig.supxlabel(note, fontsize=8.5, color="#555555")
    return fig


def show_rows(rows, *, columns=10, width=7.0, title=None, note=None):
    """One labelled row of images for each entry of {label: images}, all at the same grey range."""
    stacked = torch.cat([torch.as_tensor(_as_images(v)[:columns]) for v in rows.values()])
    return show_grid(stacked, rows=len(rows), columns=columns, row_labels=list(rows), width=width, title=title,
                     note=note)


def _draw_page(ax, page, rows, columns, title, row_labels, column_labels):
    ax.imshow(page, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.grid(False)
    ax.set_frame_on(False)
    step_y, step_x = (page.shape[0] + 1) / rows, (page.shape[1] + 1) / columns
    ax.set_yticks([(r + 0.5) * step_y for r in range(rows)] if row_labels else [], labels=list(row_labels or []))
    ax.set_xticks([(c + 0.5) * step_x for c in range(columns)] if column_labels else [], labels=column_labels or [])
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    if title:
        ax.set_title(title)


def show_curves(curves, *, x_label, y_label, title=None, width=6.0, height=3.0, log_x=False, log_y=False,
                lines=None, y_range=None):
    """Curves on one pair of axes: {label: (x, y)}; x and y of equal length.

    lines: {label: y} horizontal reference lines, such as the book's figure or a floor.
    """
    fig, ax = figure(width, height)
    for label, (x, y) in curves.items():
        ax.plot(np.asarray(x), np.asarray(y), label=label)
    for i, (label, level) in enumerate((lines or {}).items()):
        ax.axhline(level, color="#777777", linestyle=["--", ":", "-."][i % 3], linewidth=1.2, label=label)
    ax.set(xlabel=x_label, ylabel=y_label, title=title)
    if log_x:
        ax.set_xscale("log")
    if log_y:
        ax.set_yscale("log")
    if y_range:
        ax.set_ylim(*y_range)
    if len(curves) + len(lines or {}) > 1:
        ax.legend()
    return fig


def show_bars(values, *, y_label, title=None, width=6.0, height=2.8, floor=None, digits=1):
    """A bar for each entry of {label: value}, its value written on it; floor: a dashed reference line."""
    fig, ax = figure(width, height)
    bars = ax.bar(list(values), list(values.values()), width=0.65,
                  color=[COLOURS[i % len(COLOURS)] for i in range(len(values))])
    ax.bar_label(bars, fmt=f"%.{digits}f", padding=2)
    ax.grid(axis="x", visible=False)
    ax.set(ylabel=y_label, title=title)
    ax.margins(y=0.12)
    if floor is not None:
        ax.axhline(floor, color="#777777", linestyle="--", linewidth=1.2)
    return fig
