"""A digit of the reader's own: a pad to draw on, and what MNIST's preparation makes of the drawing.

`drawn` inks strokes on a page and `centred` brings the page to MNIST's form; strokes.js does the
same, and tests hold the two together.  readings.py has the networks that look at it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import traitlets

from genmed_core.synthetic import strokes as stroke_digits
from genmed_core.widgets.explorer import ENGINE
from genmed_core.widgets.panel import HERE, Panel
from genmed_core.widgets.readings import Reader, Reading

PAGE = 280  # pixels of the pad's side
RADIUS, SOFT = 10.5, 7.0  # the brush: where its ink has fallen to a half, and the width of its edge
SIDE, BOX = 28, 20  # MNIST's image, and the square that a digit fills
MARGIN = (SIDE - BOX) // 2
FAINT = 0.25  # ink below this does not count towards the digit's extent
LEAST = 0.25  # a drawing smaller than this part of the page is enlarged as if it were so large
HAND = 19  # whose hand of `stroke_digits` writes the ready digits

Stroke = Sequence[Sequence[float]]  # (x, y) points, in pixels of the page


def drawn(strokes: Sequence[Stroke], side: int = PAGE) -> np.ndarray:
    """Strokes inked with the pad's soft brush -> a page (side, side) in [0, 1], float64."""
    page = np.zeros((side, side))
    for points in strokes:
        points = [(float(x), float(y)) for x, y in points]
        for start, end in zip(points, points[1:] or points, strict=False):
            _ink(page, start, end)
    return page


def _ink(page, start, end):
    """Lay the ink of one straight piece of a stroke, where it is more than what lies there."""
    reach = RADIUS + SOFT / 2
    (x0, y0), (x1, y1) = start, end
    left, right = max(0, math.floor(min(x0, x1) - reach)), math.ceil(max(x0, x1) + reach)
    top, bottom = max(0, math.floor(min(y0, y1) - reach)), math.ceil(max(y0, y1) + reach)
    part = page[top:bottom, left:right]
    y, x = np.mgrid[top:top + part.shape[0], left:left + part.shape[1]] + 0.5
    dx, dy = x1 - x0, y1 - y0
    length = dx * dx + dy * dy
    t = 0.0 if length == 0 else np.clip(((x - x0) * dx + (y - y0) * dy) / length, 0, 1)
    distance = np.sqrt((x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2)
    np.maximum(part, np.clip(0.5 + (RADIUS - distance) / SOFT, 0, 1), out=part)


def centred(image: torch.Tensor | np.ndarray) -> torch.Tensor:
    """A drawing in MNIST's form: light on dark, 20 pixels long, its mass in the middle of 28 x 28.

    image (H, W), or (1, H, W): 0 to 255 in whole numbers, or 0 to 1 -> (1, 28, 28) float32 in
    [0, 1], all 0 for an empty page.  The longer side of the drawn part is brought to 20 pixels by
    averaging areas, and moved by whole pixels until its centre of mass lies in pixel (14, 14), as
    in every image of MNIST; a drawing of less than a quarter of the page is enlarged less, so that
    a dot stays one.  Raises ValueError where the image is none of this.
    LeCun et al. 1998, section III.A.
    """
    page = _page(image)
    rows, columns = (np.flatnonzero((page > FAINT).any(axis)) for axis in (1, 0))
    if not len(rows):
        return torch.zeros(1, SIDE, SIDE)
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    size = max(height, width, LEAST * max(page.shape)) / BOX  # page pixels a new one
    digit = _areas(page.shape[0], rows[0], size) @ page @ _areas(page.shape[1], columns[0], size).T
    middle, mass = np.arange(SIDE) + 0.5, digit.sum()
    top = _shift(digit.sum(1) @ middle / mass, height / size)
    left = _shift(digit.sum(0) @ middle / mass, width / size)
    placed = np.zeros((3 * SIDE, 3 * SIDE))  # what leaves the image on a side is empty, or faint
    placed[SIDE + top:2 * SIDE + top, SIDE + left:2 * SIDE + left] = digit
    image = placed[None, SIDE:2 * SIDE, SIDE:2 * SIDE]
    return torch.from_numpy(image.clip(0, 1).astype(np.float32))


def _areas(n, start, size):
    """Shares of n pixels in each of 28 of this size, the fifth beginning at start: (28, n)."""
    low = start + size * (np.arange(SIDE)[:, None] - MARGIN)
    pixel = np.arange(n)
    overlap = np.minimum(pixel + 1, low + size) - np.maximum(pixel, low)
    return overlap.clip(min=0) / size


def _shift(centre, extent):
    """Whole pixels that bring a centre of mass into pixel 14, the digit's extent staying inside."""
    wanted = SIDE // 2 - math.floor(centre + 1e-6)
    return min(max(wanted, -MARGIN), SIDE - MARGIN - math.ceil(extent))


def _page(image):
    """The drawing as float64 (H, W) in [0, 1]; ValueError with a remedy for what is no drawing."""
    values = np.asarray(image.detach().cpu() if isinstance(image, torch.Tensor) else image)
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"a drawing is one grey picture (H, W), not of shape {values.shape}: pass "
                         "one image of a batch, and one channel of a coloured one")
    whole = np.issubdtype(values.dtype, np.integer)
    values = values.astype(np.float64) / (255 if whole else 1)
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("a drawing's values are whole numbers from 0 to 255 or fractions from 0 "
                         f"to 1, not {values.min():g} to {values.max():g}: divide by the largest")
    return values


@functools.cache
def ready_digits() -> tuple[list[Stroke], ...]:
    """Strokes of the digits 0 to 9 in one hand of `synthetic.strokes`, in the page's pixels."""
    _, _, factors = stroke_digits.stroke_digits(HAND + 1, seed=0)
    hand = {name: column[HAND].repeat(10) for name, column in factors.items()}
    scale = PAGE / SIDE
    return tuple([_thinned(scale * (stroke + 0.5)) for stroke in strokes]
                 for strokes in stroke_digits.pen_paths(torch.arange(10), hand))


def _thinned(stroke):
    """Every second point of a stroke, and its last, to a tenth of a pixel."""
    points = stroke.tolist()
    return [[round(x, 1), round(y, 1)] for x, y in [*points[:-1:2], points[-1]]]


class Pad(Panel):
    """A pad to draw a digit on, and what networks make of it, one reading each, our reader first.

    readings: of readings.py, such as `Copy(ae, x_test)`.  start: the ready digit that is drawn at
    first, 0 to 9, or None for an empty page.  ValueError on anything else.
    """

    _esm = Panel._esm + ENGINE + "".join((HERE / name).read_text(encoding="utf-8")
                                         for name in ("charts.js", "strokes.js", "pad.js"))
    _css = Panel._css + (HERE / "explorables.css").read_text(encoding="utf-8")
    PLACE = ("strokes",)
    view = traitlets.Unicode("pad").tag(sync=True)
    strokes = traitlets.List().tag(sync=True)
    ready = traitlets.List().tag(sync=True)
    readings = traitlets.List().tag(
        sync=True, to_json=lambda readings, _: [_stated(reading) for reading in readings])
    weights = traitlets.List().tag(sync=True)

    def __init__(self, *readings: Reading, start: int | None = 3, caption: str = "") -> None:
        if start not in (None, *range(10)):
            raise ValueError(f"start must be a digit from 0 to 9, or None, not {start!r}")
        readings = (Reader(), *readings)
        for reading in readings:
            if not isinstance(reading, Reading):
                raise ValueError(f"{type(reading).__name__} is no reading: wrap the network, for "
                                 "example widgets.Copy(network, real digits)")
        strokes = [] if start is None else ready_digits()[start]
        super().__init__(strokes=strokes, ready=list(ready_digits()),
                         readings=list(readings), caption=caption, weights=[
                             program.weights for reading in readings
                             for program in reading.programs.values()])

    @property
    def page(self) -> np.ndarray:
        """What is drawn, (280, 280) in [0, 1]."""
        return drawn(self.strokes)

    def show(self, strokes: Sequence[Stroke]) -> dict[str, dict[str, Any]]:
        """Draw strokes, points (x, y) from 0 to 280; returns what the readings make of them."""
        self.strokes = [[[float(x), float(y)] for x, y in stroke] for stroke in strokes]
        return self.read()

    def read(self, image: torch.Tensor | np.ndarray | None = None) -> dict[str, dict[str, Any]]:
        """What each reading makes of an image, by default the drawing: {kind: its numbers}.

        ValueError where there is nothing on the page.
        """
        x = centred(self.page if image is None else image)
        if not x.any():
            raise ValueError("the page is empty: draw a digit, or take a ready one")
        return {reading.kind: reading(x) for reading in self.readings}

    def describe(self) -> str:
        """What our reader says, in words."""
        if not self.strokes:
            return "An empty pad"
        said = self.read()["reader"]
        share = said["probabilities"][said["digit"]]
        return f"A drawing that our reader takes for a {said['digit']}, {100 * share:.0f} %"

    def pictures(self) -> list[np.ndarray]:
        """The drawing and its form in MNIST, uint8."""
        pictures = self.page[::2, ::2], centred(self.page)[0].numpy()
        return [(255 * picture).round().astype(np.uint8) for picture in pictures]


def read(image: torch.Tensor | np.ndarray) -> tuple[int, torch.Tensor]:
    """What our reader says to a drawing (H, W) of any size: the digit, and ten probabilities.

    ValueError where there is nothing on it.
    """
    x = centred(image)
    if not x.any():
        raise ValueError("the drawing is empty: there is nothing to read")
    said = Reader()(x)
    return said["digit"], said["probabilities"]


def _stated(reading):
    """A reading as the page has it; its weights travel on their own."""
    return {"kind": reading.kind, "heading": reading.heading, "settings": reading.settings,
            # pairs, for the weights are in their order, and files sort what has names
            "programs": [[name, program.graph] for name, program in reading.programs.items()]}
