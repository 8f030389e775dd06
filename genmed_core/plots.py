"""Figures in one style: image grids, curves, bars. With `widgets`, the only importer of matplotlib.

Functions return a matplotlib Figure made without pyplot: a cell ends in `plots.show_grid(...)`
and shows it once; anywhere else `fig.savefig("grid.png")` keeps it. Images are grey, (N, 1, H, W)
or (N, H, W): floats, of which [0, 1] is shown and the rest cut, or whole numbers up to 255.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence, Sized
from numbers import Real
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure as _Figure
from matplotlib.rcsetup import cycler
from PIL import Image

from genmed_core import arguments

# Okabe & Ito 2008: told apart with every common kind of colour blindness
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
SYNTHETIC = "synthetic, not for diagnosis"
BLANK = 0.85  # grey of gaps and of places without an image
Images = torch.Tensor | np.ndarray
Labels = Sequence[str] | None
_STYLE: dict[Any, Any] = {
    "font.size": 10, "axes.titlesize": 10.5, "axes.labelsize": 10,
    "figure.dpi": 110, "savefig.dpi": 110, "figure.facecolor": "white", "image.cmap": "gray",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "axes.prop_cycle": cycler(color=COLOURS), "lines.linewidth": 1.8, "legend.frameon": False,
}


class Figure(_Figure):
    """A matplotlib Figure that a notebook shows as PNG, whatever the backend."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with mpl.rc_context(_STYLE):
            self.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.05)
        return _palette_png(buffer)


def _palette_png(png: io.BytesIO) -> bytes:
    """The same picture in 256 colours: half the bytes in a notebook, no difference to the eye."""
    buffer = io.BytesIO()
    picture = Image.open(png).convert("RGB")
    picture = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def figure(width: float = 7.0, height: float = 3.0, rows: int = 1, columns: int = 1,
           **options: Any) -> tuple[Figure, Any]:
    """A Figure in the project's style, sizes in inches -> figure, its Axes or an array of them."""
    for name, value in {"width": width, "height": height}.items():
        if not isinstance(value, Real) or not 0 < value < 100:
            raise ValueError(f"{name}={value!r}: give inches above 0 and below 100, such as 7")
    with mpl.rc_context(_STYLE):
        fig = Figure(figsize=(width, height), layout="constrained", dpi=_STYLE["figure.dpi"])
        axes = fig.subplots(rows, columns, **options)
    return fig, axes


def _as_images(images: Any) -> np.ndarray:
    """Any images -> float numpy (N, H, W) in [0, 1]; ValueError for what is not grey images."""
    images = getattr(images, "images", images)
    if isinstance(images, (list, tuple)) and len(images):
        images = torch.stack([torch.as_tensor(image) for image in images])
    x = torch.as_tensor(images).detach().cpu()
    if x.ndim == 4 and x.shape[1] == 1:
        x = x[:, 0]
    if x.ndim != 3 or 0 in x.shape[1:]:
        shape = tuple(x.shape)
        raise ValueError(f"expected grey images (N, 1, H, W) or (N, H, W), got {shape}: give "
                         "one (H, W) as x[None], colours (N, 3, H, W) as x.mean(1)")
    return (_unit_range(x) if len(x) else x.float()).clamp(0, 1).numpy()


def _unit_range(x: torch.Tensor) -> torch.Tensor:
    """Grey levels as floats whose range shown is [0, 1]: bytes, in any type, are divided by 255."""
    low, high = float(x.min()), float(x.max())
    if not math.isfinite(low + high):
        raise ValueError("the images hold NaN or infinity: torch.nan_to_num(x) draws the rest")
    if not x.is_floating_point() and x.dtype != torch.bool:
        if low < 0 or high > 255:
            raise ValueError(f"whole numbers {low:g} to {high:g} are no grey levels 0 to 255: give "
                             "floats, divided by the largest possible value")
        is_mask = high == 1 and x.dtype != torch.uint8
        return x.float() if is_mask else x.float() / 255
    if max(-low, high) > 25 or (high > 1 and bool((x == x.round()).all())):
        raise ValueError(f"floats from {low:g} to {high:g} are drawn white or black beyond [0, 1]: "
                         "for grey levels give x / 255")
    if low == -1 and high <= 1 and float((x == -1).float().mean()) > 0.1:
        raise ValueError("images in [-1, 1] lose their darker half in [0, 1]: give (x + 1) / 2")
    return x.float()


def tile(images: Images, rows: int, columns: int, gap: int = 1) -> np.ndarray:
    """The first rows x columns images as one picture (H', W') with light gaps; the rest blank."""
    x = _as_images(images)
    return _page(list(x), x.shape[1:], rows, columns, gap)


def _page(pictures: Sequence[np.ndarray | None], size: Sequence[int], rows: int, columns: int,
          gap: int = 1) -> np.ndarray:
    """Pictures of one size in reading order; None leaves a place blank."""
    for name, value, least in (("rows", rows, 1), ("columns", columns, 1), ("gap", gap, 0)):
        arguments.whole(name, value, least)
    h, w = size
    shape = rows * (h + gap) - gap, columns * (w + gap) - gap
    page = np.full(shape, BLANK, dtype=np.float32)
    for i, picture in enumerate(pictures[: rows * columns]):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        if picture is not None:
            page[top : top + h, left : left + w] = picture
    return page


def show_grid(images: Images, *, columns: int = 10, rows: int | None = None,
              title: str | None = None, row_labels: Sequence[str] | None = None,
              column_labels: Sequence[str] | None = None, width: float = 7.0,
              note: str | None = None) -> Figure:
    """One grid of grey images, the first rows x columns of them in the order given.

    row_labels, column_labels: a string for each. note: small print, such as `plots.SYNTHETIC`.
    """
    rows = _rows_for(images, rows, columns)
    pages = {title: tile(images, rows, columns)}
    return _show(pages, rows, columns, width, note, row_labels, column_labels)


def show_grids(groups: Mapping[str, Images], *, columns: int = 5, rows: int | None = None,
               width: float = 7.0, note: str | None = None,
               row_labels: Sequence[str] | None = None) -> Figure:
    """Several grids side by side at one grey range: {title: images}, row_labels beside each."""
    rows = _rows_for(max(groups.values(), key=len, default=()), rows, columns)
    pages: dict[str | None, np.ndarray] = {
        title: tile(images, rows, columns) for title, images in groups.items()}
    return _show(pages, rows, columns, width, note, row_labels)


def show_rows(groups: Mapping[str, Images], *, columns: int = 10, width: float = 7.0,
              title: str | None = None, note: str | None = None) -> Figure:
    """A labelled row for each entry of {label: images}: its first `columns`, blank where fewer."""
    rows = {label: _as_images(images) for label, images in groups.items()}
    size, *others = {x.shape[1:] for x in rows.values()} or [()]
    if others or not any(len(x) for x in rows.values()):
        found = {label: x.shape for label, x in rows.items()}
        raise ValueError(f"rows must hold images, all of one size; these are {found}")
    pictures: list[np.ndarray | None] = []
    for x in rows.values():
        pictures += [*x[:columns], *[None] * (columns - len(x))]
    pages = {title: _page(pictures, size, len(rows), columns)}
    return _show(pages, len(rows), columns, width, note, list(rows))


def _rows_for(images: Sized, rows: int | None, columns: int) -> int:
    """As many rows as the images need, unless given."""
    if len(images) == 0 or columns < 1:
        raise ValueError(f"{len(images)} images in columns={columns}: give 1 or more of each")
    return math.ceil(len(images) / columns) if rows is None else rows


def _show(pages: Mapping[str | None, np.ndarray], rows: int, columns: int, width: float,
          note: str | None, row_labels: Labels, column_labels: Labels = None) -> Figure:
    """{title: page} side by side, their rows and columns labelled, small print under them."""
    tallest = max(page.shape[0] / page.shape[1] for page in pages.values())
    height = width / len(pages) * tallest + (0.35 if any(pages) else 0)
    fig, axes = figure(width, height, 1, len(pages), squeeze=False)
    for ax, (title, page) in zip(axes[0], pages.items()):
        ax.imshow(page, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.grid(False)
        ax.set_frame_on(False)
        _label(ax.set_yticks, "row_labels", row_labels, rows, page.shape[0])
        _label(ax.set_xticks, "column_labels", column_labels, columns, page.shape[1])
        ax.tick_params(length=0, labeltop=True, labelbottom=False)
        ax.set_title(title or "")
    if note:
        fig.supxlabel(note, fontsize=8.5, color="#555555")
    return fig


def _label(set_ticks: Callable[..., object], name: str, labels: Labels, count: int,
           pixels: int) -> None:
    """A label at the middle of each of `count` rows or columns of a page."""
    labels = list(labels or [])
    if labels and len(labels) != count:
        raise ValueError(f"{name} holds {len(labels)} labels: give one for each of the {count}")
    step = (pixels + 1) / count
    set_ticks([(i + 0.5) * step for i in range(len(labels))], labels=labels)


def show_curves(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, x_label: str,
                y_label: str, title: str | None = None, width: float = 6.0, height: float = 3.0,
                log_x: bool = False, log_y: bool = False, lines: Mapping[str, float] | None = None,
                y_range: tuple[float, float] | None = None) -> Figure:
    """Curves on one pair of axes: {label: (x, y)}; x and y of equal length.

    lines: {label: y} horizontal reference lines, such as the book's figure or a floor.
    """
    lines = lines or {}
    if y_range and not (y_range[0] < y_range[1] and (y_range[0] > 0 or not log_y)):
        raise ValueError(f"y_range={y_range}: give (low, high), low < high, and above 0 for log_y")
    fig, ax = figure(width, height)
    for label, (x, y) in curves.items():
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(f"curve {label!r}: {len(x)} x and {len(y)} y, give as many, 1 or more")
        ax.plot(np.asarray(x), np.asarray(y), label=label)
    for i, (label, level) in enumerate(lines.items()):
        style = ["--", ":", "-."][i % 3]
        ax.axhline(level, color="#777777", linestyle=style, linewidth=1.2, label=label)
    ax.set(xlabel=x_label, ylabel=y_label, title=title)
    ax.set_xscale("log" if log_x else "linear")
    ax.set_yscale("log" if log_y else "linear")
    if y_range:
        ax.set_ylim(*y_range)
    if len(curves) + len(lines) > 1:
        ax.legend()
    return fig


def show_bars(values: Mapping[str, float], *, y_label: str) -> Figure:
    """A bar for each entry of {label: value}, its value written on it."""
    if not values:
        raise ValueError("0 bars: give 1 or more")
    fig, ax = figure(6.0, 2.8)
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(values))]
    bars = ax.bar(list(values), list(values.values()), width=0.65, color=colours)
    ax.bar_label(bars, fmt="%.1f", padding=2)
    ax.grid(axis="x", visible=False)
    ax.set(ylabel=y_label)
    ax.margins(y=0.12)
    return fig
