"""Stroke digits: handwritten-looking digits drawn by formula, for want of MNIST's files.

A drawing follows a pen. Its path is one of a few forms of the digit (`FORMS`), bent by the writer's
habits (`FACTORS`) and by the tremble of the hand (`TREMBLE`); ink is laid where the path is nearer
than the pen's radius. Everything random comes from a hash of (seed, index, column), so a drawing is
the same whatever is drawn beside it, and every factor that shaped it is returned.
"""

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from genmed_core.synthetic._common import (
    check_factors,
    int64,
    normal,
    sample_factors,
    scramble,
    uniform,
)

Factors = Mapping[str, Tensor]
Labels = Tensor | Sequence[int] | int
SIDE = 28  # pixels of an image's side
SAMPLES = 112  # points along a digit's path
SHEET = 256  # pixels of the side of the sheet of paper that drawings are cut from
BLOCK = 256  # drawings computed together; always this many, so that rounding cannot depend on n

# digit -> its forms: (how common, name, drawing, drawing at the other extreme). A drawing lists the
# points "x,y" that the pen passes through, x to the right, y down, a digit about 6 wide and 10
# high; "!" marks a corner, "|" lifts the pen. Each digit written is a blend of the extremes, point
# by point.
FORMS = {
    0: [
        (6, "one loop",
         "4.2,0 1.8,1.6 0,5 0.8,8.6 2.6,10 5,8.8 6.4,5 6,1.6 4.1,0",
         "5.4,0.2 2,1 0,5 0.6,8.6 3,9.8 6,8.6 7.6,5 6.6,1 3.8,0.3"),
        (3, "loop that closes inside",
         "5,1 3,0.2 0.8,2 0,5.5 1,9 3,10 5.2,8.6 6,5 5,1.8 3,0.8 1.6,1.6",
         "5.4,0 2.2,1.5 0,5 0,8 2,10 5,8.6 6.6,5 6.4,2 4.4,1 3.2,1.5 2.7,3"),
        (1, "loop with a tail",
         "1,1 0,4 0,7 1.2,9.4 3.4,10 5.4,8.5 6,5 5,1.4 3,0 1.5,0.5 0.5,2",
         "2,0 0.4,3 0,7 1.2,9.6 3.4,10 6,7.5 6,4 5,1 4,0.6 3.4,1.5 3.6,3"),
    ],
    1: [
        (9, "bar",
         "3.8,0 3.2,5 2.4,10",
         "3.5,0 2.8,5 2.9,10"),
        (0.6, "bar with a flag",
         "2.2,1.8 2.7,1 3.2,0! 3,5 2.8,10",
         "1.4,2.4 2.2,1.6 3.2,0! 3,5 2.8,10"),
        (0.4, "printed one",
         "1,2 2,1.2 3,0! 3,5 3,10 | 0.6,10 3,10 5.4,10",
         "2.2,0.6 2.6,0.4 3,0! 3,5 3,10 | 0,10 3,10 6,10"),
    ],
    2: [
        (4, "sharp corner",
         "0.3,2 1.5,0.3 3.8,0.2 5,2 4,5 2,8 0.2,9.8! 3,9.6 6,9.8",
         "0,1 2,0 4.4,0.3 5,2.5 4,5 2,7.4 0,9.2! 3,9.4 7,10"),
        (4, "small loop",
         "0.5,2 2,0.2 4.5,0.5 5,3 3.6,6.5 1.5,9.3 0.2,9 1,7.6 3,8.6 6,10",
         "0,2.5 2,0 5,0.6 5.4,4 3.5,8 1,9.8 0,8.3 1.5,6.8 4,8.3 7,9"),
        (2, "large loop",
         "0,1.5 1.2,0 3.5,0 5,2.5 4.5,6.5 2,9.8 0,8.8 0,6.6 2,6 4.2,8.4 6,10",
         "0,2 1,0.2 4,0 5.6,3 4.6,8 2,10 0,8 1,5.6 3,6 5,8 6.6,9.4"),
        (3, "swan",
         "0.5,2 1.5,0.4 3.4,0.8 3.6,3.4 2,6.6 0,9! 2.5,8.6 5,8.6 8,8.8",
         "-0.6,1 1.4,0.2 3.2,1.4 2.6,4.4 1.4,7 0,9.4! 2.6,9.2 5.2,8.8 8.6,8"),
        (2, "hanging loop",
         "0.8,2.6 1.4,0.6 3.4,0 4.6,1.8 4.2,5 3.2,8.6 1.4,10 0.2,8.6 1.4,6.8 3.4,7.6 5.4,8.8",
         "0.6,1.6 2,0.2 4,0.4 5,2.6 4.8,5.4 3.6,9 1.6,10 0,8.6 0.6,6.2 3,6.6 6.4,8.2"),
        (1.2, "curled start",
         "1.8,3.6 0.4,2.6 0.8,0.8 3.2,0 5,2 3.6,6.2 0,9.8! 3,9.4 6.4,9.6",
         "2.6,3 0.8,3.8 0,1.8 2.2,0 5,1.8 3,6.6 0.4,9.6! 3,9.2 6,9.2"),
    ],
    3: [
        (5, "two bows",
         "0.5,1.2 2.5,0 4.8,0.8 4.4,3.2 2,4.8! 4.8,5.2 5.9,7.4 3.6,9.8 0,9.3",
         "0,1.5 2.5,0 5,1.5 4,4 2.5,4.6! 5,5 6,7.8 3.2,10 0,8.5"),
        (2, "looped waist",
         "0.5,1 3,0 5,1.2 4.2,3.6 2.2,5 2.4,4.5 5,5.2 6,7.6 3.4,10 0.4,9",
         "0,1 3,0 5,1.5 4,4 1.6,5.2 1.8,4.2 4.8,5 6,7.8 3,10 0,9"),
        (1, "flat top",
         "0.4,0.4 2.5,0.2 5,0! 3.8,2.2 2.4,4.2! 4.8,5 5.4,7.6 3.2,9.9 0,9"),
        (2, "open below",
         "0.4,1.2 2.6,0 4.4,1 3.4,3.6 1.8,4.4! 3.8,5 4.2,7 2.6,10",
         "0,1.6 3,0 5,0.6 3.4,3.6 2,4.6! 4.4,5.2 4.8,7.6 1.6,10"),
        (1, "curled start",
         "1.2,2.4 0.3,1.4 2.2,0 4.6,0.8 4,3.6 2,4.6! 4.8,5.2 5.6,7.6 3.4,9.8 0.6,9.4 0.4,8.2",
         "1.6,1.8 0.4,1.8 1.6,0.2 4.4,0.4 4.6,3 2.6,4.8! 5.4,5.4 5.8,8 3,10 0.4,9 1,7.6"),
    ],
    4: [
        (5, "open",
         "0.8,0 0.3,2.5 0.2,5 1.4,5.6 5.6,5.2 | 5,0 4.7,4 4.4,10",
         "1.5,0.5 0.6,3 0,6 2,6 6.5,5.4 | 5.4,0 4.8,4 4.6,10"),
        (2, "triangle",
         "4.4,0 2.4,3 0,6.4! 3,6.4 6.4,6.2 | 4.4,0.2 4.3,5 4.2,10",
         "3.4,0.4 1.4,3.4 0,6! 3,6.2 6,6 | 4.4,0.2 4.3,5 4.2,10"),
        (2, "one stroke",
         "0.8,0 0,3 0.8,4.8 3.5,4.6 5.2,0.4! 4.8,5 4.4,10",
         "1,0 0.4,4 2,5.2 4.6,4 5.6,0.2! 4.8,5 4,10"),
        (2, "broad",
         "1.4,0.4 0.6,3 0,6.2! 3,5.8 6.4,5 | 5.4,1.4 4.6,5 4,10",
         "1,1 0.5,3.4 0,5.6! 3.4,5.4 7.6,4.8 | 4.4,2.4 4,5.4 3.8,10"),
    ],
    5: [
        (3, "hat drawn last",
         "1.6,0.4 1.3,2 1,4.2! 4,3.8 6,5.8 5,9 0,9.6 | 1.6,0.4 4,0.3 7,0",
         "1.8,0.8 1.4,2 1,4! 3.4,4 5.2,6.4 3.8,9.6 0,9.4 | 1.8,0.6 5,0.5 8,0.4"),
        (3, "hat drawn first",
         "7.4,0 4.4,0.2 1.8,0.6! 1.5,2.4 1.4,4.2! 4,4.6 5.4,6.8 3.2,9.6 0,9.2",
         "7,0.6 4.4,0.2 1.7,0! 1.4,2.4 0.8,4.6! 4.4,4 6,6.5 4.4,9.8 0,8.8"),
        (1, "snake",
         "6,0 4,0.2 2.2,0.8 1.2,3 2.4,4.6 4.4,6.2 4.2,9 2.2,10 0,9"),
        (1, "round belly",
         "7,0.2 4.4,0.2 2,0.6! 1.6,2.4 1,4.6! 3.6,4 5.4,6 4.6,9.4 2,10 0.4,8.8",
         "7.6,0 4.4,0.2 2,0.8! 1.5,2.4 0.8,4.8! 3.2,4.2 5.2,6 4,9.6 1.2,9.4 1,7.4"),
    ],
    6: [
        (5, "round",
         "3.6,0 1.6,2.5 0.2,6.2 1,9.2 3.2,10 5.6,8.6 5.2,6.6 3.2,6.2 1,8.2",
         "3,0 1,3 0,7 1.2,9.8 3.8,9.8 6,7.9 5.2,5.7 3,5.8 1.4,8.6"),
        (3, "upright",
         "2,0 0.8,3 0.2,6.6 1,9.4 3,10 5,8.6 4.6,6.4 2.6,5.8 0.5,7.6",
         "6,0.4 2.5,2 0.4,5.6 0.8,9 3.2,10 5.2,8.4 4.4,6.4 2.4,6.6 1.2,9"),
        (2, "late loop",
         "1,0 0.4,3 0,6.5 0.8,9.4 3,10 5,8.4 4.4,6.4 3,7 2,9.4",
         "0.8,0 0,3.4 0.2,7.4 2.2,10 5,9 6,6.6 4.8,4.8 3,6 2.2,9.2"),
        (1.5, "small loop",
         "2.4,0 1,4 0.2,7.5 0.9,9.8 2.6,9.8 3.4,8.6 2.6,7.6 1.4,8 0.8,9.2",
         "4.4,0 1.8,3.6 0.2,7.4 1,9.8 3,9.9 4,8.4 3,7.2 1.4,7.8 1,9"),
    ],
    7: [
        (6, "plain",
         "-0.6,0.7 2.5,0.4 5.6,0! 4,4 2.2,10",
         "-0.4,0.9 3,0 5.9,0.2! 4.9,4.5 4,10"),
        (3, "hooked",
         "0,2.4 0.2,0.5! 2.6,0.4 5.6,0! 4,4 2.4,10",
         "-0.4,2.6 0.2,0.6! 3,0.5 5.6,0! 4.6,5 3.8,10"),
        (2.5, "crossed",
         "-0.4,0.7 2.5,0.4 5.6,0! 4,4 2.4,10 | 1.2,5.4 3.4,5.2 5.6,5",
         "-0.2,1.2 2.8,0 5.6,0.2! 4.2,5 3.2,10 | 0.6,5.4 3.4,5.3 6.4,5"),
        (2, "round shoulder",
         "0,1.8 1,0.4 3,0 4.6,0.9 3.9,5 2.4,10",
         "-0.4,2.6 0.8,0.4 3,0 5,1 4.4,6 3.6,10"),
    ],
    8: [
        (5, "from the top right",
         "4.6,1.2 2.8,0 0.8,1.4 1.6,3.6 4,5.6 4.8,8 2.8,10 0.6,8.4 1.8,5.8 4.2,3.4 4.8,1",
         "5.2,0.6 3,0 1,2 2,4.2 4,6 4.2,8.6 2,10 0,8.6 1.6,6 4.2,4 5.8,1.4"),
        (2, "from the waist",
         "3,4.6 1,3 1.4,0.8 3.2,0 4.8,1.2 4.4,3.4 3,4.6 1,6.4 0.6,8.6 2.8,10 5,8.6 4.6,6.2 3,4.6",
         "2.6,5.4 0.4,3.6 0.8,1 3.2,0 5.2,1.4 4.4,4 3,5.4 1.6,6.6 1.4,8.8 2.8,10 "
          "4.2,8.8 4,6.6 3,5.2"),
        (3, "open top",
         "6.4,0.8 3.6,0 1,1.6 2,4 4,6 4.4,8.6 2,10 0.2,8.4 1.8,5.8 3.8,4 5,2",
         "5,0 2.6,0.2 0.4,2 2,4.6 3.2,6.2 3.4,8.6 2,10 1,8.6 2,6 4,3.6 6,0.6"),
        (2, "narrow below",
         "4.8,1 3,0 1,1.6 2,4 3.4,6 3.6,8.6 2.6,10 1.8,8.4 2.4,6 4.4,3.6 5.2,1.2",
         "5.2,0.8 2.8,0 0.2,1.8 1.2,4.4 2.8,6.4 2.8,9 2.2,10 1.6,8.8 2.2,6.6 4.6,4 5.6,1.4"),
        (1.5, "open at the right",
         "5.6,0.6 2.8,0.2 0.8,2 2.2,4.4 4.6,6.4 4.4,9 2.2,10 0.6,8.4 2,6 4,4.6 5.2,3.4",
         "5,1.4 3.2,0 1,1.4 1.6,4.2 4.2,5.8 5,8.4 3,10 0.6,8.8 1.2,6.4 3.6,4.8 6.4,3.2"),
        (1, "large below",
         "4,1 2.6,0 1.4,1.2 2,3.4 5,5.2 6,7.8 3.4,10 0.2,8.2 0.8,5.2 3,3.4 4.2,1.4",
         "4.6,1 3,0 1.6,1.4 2.6,3.2 5.8,4.8 6.6,7.6 3.6,10 0,8.4 0.4,5 3.6,3.2 4.6,1.4"),
    ],
    9: [
        (4, "corner at the stem",
         "5,0.6 3.2,-0.2 0.6,1 0.5,4 2.2,5 4.2,3.6 5.2,-0.2! 4.9,5 4.6,10",
         "4.8,0.2 2.8,0 0,1.6 0.2,4.2 2.2,5 4.2,3.2 5.2,-0.4! 4.4,5 3.2,10"),
        (3.5, "loop from the stem",
         "4.6,3.8 2.4,5 0.3,3.8 1,0.8 3.4,0 5.2,0.8 4.9,5 4.4,10",
         "4,4.6 1.6,4.8 0,3.4 1.4,0.6 4,-0.2 5.3,1 4.6,5.6 3.4,10"),
        (2, "curled tail",
         "4.8,0.8 3.2,0 0.8,1.2 0.6,3.6 2.4,4.7 4.6,3.4 5.2,0.4 5,5 4,9 2.2,10 0.2,9.2",
         "4.6,0.8 3,0 0.6,1.2 0.8,3.8 2.6,4.6 4.4,3.2 5,0.6 5,5 4.2,8.6 2.6,10 1,9.6"),
        (1.5, "pointed loop",
         "4.8,0 2,1.2 0,4.2! 2.4,4.8 4.6,3.4 5,-0.2! 4.6,5 3.8,10",
         "3.6,0.2 0.6,1.6 0,4.6! 2.4,4.8 4.4,3.6 5.4,0! 4.6,5 4.4,10"),
        (2, "open on top",
         "3.8,0.2 1.4,0.8 0.2,3 1.4,4.8 3.8,4.2 5.2,0.8! 4.9,5 4.4,10",
         "3.2,0 0.8,0.8 0,3.4 1.6,4.8 4,4 5.4,1.4! 4.8,5.4 3.6,10"),
        (1, "bar on top",
         "5.8,0.2 3,0 0.6,1.6 0.8,3.8 2.6,4.6 4.8,1.8! 4.5,6 3.6,10",
         "6.2,-0.2 3,0 0.4,2 0.6,4.2 2.6,4.8 4.8,2.2! 4,6.4 2.6,10"),
        (1, "large loop",
         "5,0.6 3,0 0.4,1.6 0,4.8 2,6.6 4.4,5 5,0.8! 5,5.4 5,10",
         "5.2,0.8 2.8,0 0,2 0.2,5.4 2.6,6.2 4.6,4.4 5.4,0.4! 5,5.4 4,10"),
    ],
}

# factor -> (law, its two parameters); normal laws are cut at 2.5 standard deviations
FACTORS = {
    "style": ("uniform", 0.0, 1.0),  # which of the digit's forms, by how common they are
    "blend": ("uniform", -0.2, 1.2),  # from the form's first extreme (0) to its second (1)
    "corner": ("uniform", 0.2, 1.0),  # 0: corners rounded off, 1: sharp
    "slant": ("normal", 0.11, 0.25),  # shift to the right per height; > 0 leans to the right
    "aspect": ("lognormal", 0.1, 0.2),  # width, relative to the form's
    "rotation": ("normal", 0.0, 0.08),  # radians, clockwise on the page
    "waist": ("normal", 0.0, 0.7),  # moves the middle down (> 0), in tenths of the height
    "flare": ("normal", 0.0, 0.15),  # widens the lower half (> 0) at the cost of the upper
    "wobble": ("uniform", 0.1, 0.45),  # size of the hand's error at each point passed through
    "elastic": ("uniform", 0.0, 0.5),  # size of two slow waves that bend the page
    "thickness": ("lognormal", 0.23, 0.28),  # radius of the pen, pixels
    "taper": ("normal", 0.04, 0.15),  # > 0: pressed harder towards the end
    "rough": ("uniform", 0.0, 0.08),  # unevenness of the pen's radius
    "size": ("uniform", 18.6, 19.4),  # longer side, between the pen's outer edges, pixels
    "paper": ("uniform", 0.0, 0.25),  # how far the paper's grain moves the edge, pixels
    "ink": ("uniform", 0.95, 1.2),  # blackness; above 1 it saturates
    "edge": ("uniform", 0.9, 1.4),  # width of the grey rim, pixels
}
# MNIST shrank tall digits more to fit its frame, so their pen looks finer
PEN = (1.02, 1, 1, 0.93, 0.88, 0.94, 0.96, 0.98, 0.92, 0.88)


def stroke_digits(n: int, *, seed: int,
                  labels: Labels | None = None) -> tuple[Tensor, Tensor, Factors]:
    """Draw n digits -> images (n, 28, 28) uint8, labels (n,) int64, factors {name: (n,)}.

    `labels`: the digits to draw, (n,) or one for all; without it each is drawn with equal chance. A
    drawing depends on (seed, index, label) only. `factors` holds float32 columns named in FACTORS,
    and `hand` (int64), the key of the drawing's tremble; `draw` makes the same images from them
    again. The factors do not depend on the label: two calls with one seed write different digits in
    the same hands.

    Raises ValueError for a negative n, labels outside 0..9 or of another length; TypeError for
    non-integers.
    """
    n, seed = operator.index(n), operator.index(seed)
    if n < 0:
        raise ValueError(f"n = {n}: cannot draw fewer than 0 digits")
    hand = scramble(scramble(torch.tensor(int64(seed))) + torch.arange(n))
    if labels is None:
        labels = (10 * uniform(hand, 1, first=len(FACTORS))[:, 0]).long()
    labels = _checked_labels(labels, n)
    factors = sample_factors(FACTORS, hand) | {"hand": hand}
    return draw(labels, factors), labels, factors


def draw(labels: Labels, factors: Factors) -> Tensor:
    """Draw labels (n,) with factors that `stroke_digits` returned, or edited -> (n, 28, 28) uint8.

    Raises ValueError when a factor is missing, unknown, not of shape (n,) or impossible.
    """
    labels = _checked_labels(labels, None)
    n = len(labels)
    check_factors(FACTORS, factors, n, key="hand")
    images = torch.empty(n, SIDE, SIDE, dtype=torch.uint8)
    for start in range(0, n, BLOCK):
        rows = torch.arange(start, start + BLOCK).clamp(max=n - 1)  # the last block is filled up
        block = _draw_block(labels[rows], {k: v[rows] for k, v in factors.items()})
        images[start : start + BLOCK] = block[: n - start]
    return images


def pen_paths(labels: Labels, factors: Factors) -> list[list[Tensor]]:
    """The strokes that `draw` inks: for each digit, each stroke's points (k, 2), x and y in pixels.

    Raises ValueError as `draw` does.
    """
    labels = _checked_labels(labels, None)
    check_factors(FACTORS, factors, len(labels), key="hand")
    x, y, _, pen, *_ = _write(labels, factors)
    paths = []
    for points, down in zip(torch.stack([x, y], 2), pen, strict=True):
        lifts = [int(k) + 1 for k in (down == 0).nonzero()]  # the pen is up after these points
        starts = [0, *[k for k in lifts if k < len(points)]]
        paths.append([points[a:b] for a, b in zip(starts, [*starts[1:], len(points)], strict=True)])
    return paths


def form_names(labels: Tensor, style: Tensor) -> list[str]:
    """Names of the forms in which digits (n,) with style factors (n,) are written."""
    names = [form[1] for forms in FORMS.values() for form in forms]
    return [names[i] for i in _forms().pick(labels, style)]


def _checked_labels(labels, n):
    labels = torch.as_tensor(labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels are whole numbers, not {labels.dtype}")
    if n is not None and labels.dim() == 0:
        labels = labels.expand(n)
    if labels.dim() != 1 or n not in (None, len(labels)):
        wanted = "n" if n is None else n
        raise ValueError(f"labels must have shape ({wanted},), not {tuple(labels.shape)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= 9:
        raise ValueError(f"labels must lie in 0..9; got {int(labels.min())}..{int(labels.max())}")
    return labels.long()


# --- the tremble ----------------------------------------------------------------------------------


def _tremble(hand, points):
    """What the hand adds to drawings with keys (n,): named arrays of normal or uniform numbers."""
    shapes = {"points": (points + 2, 2), "bend": (2, 2, 2), "grain": (SAMPLES // 4,),
              "phase": (2, 1, 2), "pressure": (1,), "shift": (2,), "paper": (2,)}
    out, first = {}, 64  # the columns before are the factors'
    for name, shape in shapes.items():
        count = math.prod(shape)
        u = uniform(hand, count, first).view(-1, *shape)
        out[name] = normal(u) if name in ("points", "bend", "grain") else u
        first += count
    return out


# --- the forms, as matrices that take control points to a path ------------------------------------


class _Forms(NamedTuple):
    """All S forms stacked: control points (S, 2, N, 2), path matrices (S, K, N), pens (S, K)."""

    points: torch.Tensor  # both extremes, padded with zeros to N points
    sharp: torch.Tensor  # with corners
    smooth: torch.Tensor  # without
    pen: torch.Tensor  # 0 where the pen jumps to its next stroke
    first: torch.Tensor  # (10,) each digit's first form
    shares: torch.Tensor  # (10, forms) where in [0, 1) each of a digit's forms ends

    def pick(self, labels, style):
        """Index (n,) of the form for each label (n,) and style (n,)."""
        return self.first[labels] + (style[:, None] >= self.shares[labels]).sum(1)


@functools.cache
def _forms():
    """Parse FORMS -> _Forms."""
    rows = [_parse(drawings) for forms in FORMS.values() for _, _, *drawings in forms]
    size = -(-max(points.shape[1] for points, _ in rows) // 4) * 4

    def stack(tensors, dim):
        pads = [[0, 0] * (t.dim() - 1 - dim % t.dim()) + [0, size - t.shape[dim]] for t in tensors]
        padded = [torch.nn.functional.pad(t, p) for t, p in zip(tensors, pads, strict=True)]
        return torch.stack(padded)

    sharp = [_path_matrix(points[0], strokes, corners=True) for points, strokes in rows]
    smooth = [_path_matrix(points[0], strokes, corners=False) for points, strokes in rows]
    counts = torch.tensor([len(forms) for forms in FORMS.values()])
    shares = torch.full((10, int(counts.max())), math.inf)
    for digit, forms in FORMS.items():
        weights = torch.tensor([float(form[0]) for form in forms])
        shares[digit, : len(forms) - 1] = (weights.cumsum(0) / weights.sum())[:-1]
    return _Forms(
        stack([points for points, _ in rows], -2),
        stack([matrix for matrix, _ in sharp], -1),
        stack([matrix for matrix, _ in smooth], -1),
        torch.stack([pen for _, pen in sharp]),
        counts.cumsum(0) - counts,
        shares,
    )


def _parse(drawings):
    """Drawings in the notation of FORMS -> points (2, N, 2) and, per stroke, its corners."""
    extremes = [[stroke.split() for stroke in drawing.split("|")] for drawing in drawings]
    def coordinates(point):
        return [float(v) for v in point.rstrip("!").split(",")]

    points = [[coordinates(p) for s in d for p in s] for d in extremes]
    corners = [[p.endswith("!") for p in stroke] for stroke in extremes[0]]
    return torch.tensor([points[0], points[-1]]), corners


def _segments(strokes, corners):
    """Curve pieces i -> j, neighbours a, b setting tangents: (a, i, j, b, ends its stroke)."""
    first = 0
    for flags in strokes:
        last = first + len(flags) - 1
        for i in range(first, last):
            j = i + 1
            a = i if i == first or (corners and flags[i - first]) else i - 1
            b = j if j == last or (corners and flags[j - first]) else j + 1
            yield a, i, j, b, j == last
        first = last + 1


def _path_matrix(points, strokes, corners):
    """Matrix (K, N) from control points to a path through them, and the pen flags (K,).

    Catmull and Rom 1974: cubic pieces whose tangent at a point is parallel to the line between its
    neighbours; at a corner the tangent is one-sided. Samples are shared out by the pieces' lengths.
    """
    segments = list(_segments(strokes, corners))
    length = torch.stack([(points[j] - points[i]).norm() for _, i, j, _, _ in segments])
    stops = (length.cumsum(0) / length.sum() * SAMPLES).round().long().tolist()
    matrix, pen, start = torch.zeros(SAMPLES, len(points)), torch.ones(SAMPLES), 0
    for (a, i, j, b, final), stop in zip(segments, stops, strict=True):
        count = stop - start
        t = torch.linspace(0, 1, count) if final else torch.arange(count) / count
        h = 3 * t**2 - 2 * t**3
        leave, arrive = (t**3 - 2 * t**2 + t) / (j - a), (t**3 - t**2) / (b - i)
        for column, weight in ((i, 1 - h - arrive), (j, h + leave), (a, -leave), (b, arrive)):
            matrix[start:stop, column] += weight
        if final:
            pen[stop - 1] = 0
        start = stop
    return matrix, pen


# --- drawing one block ----------------------------------------------------------------------------


def _draw_block(labels, factors):
    """Images (B, 28, 28) uint8 of labels (B,) with factors {name: (B,)}."""
    return _ink(*_write(labels, factors))


def _write(labels, factors):
    """How the pen moves: all that `_ink` needs, first x, y, length and pen, each (B, K)."""
    forms = _forms()
    tremble = _tremble(factors["hand"], forms.points.shape[2])
    # a column for arithmetic along the path; a thick pen needs wider loops
    f = {name: x.float()[:, None] for name, x in factors.items() if name != "hand"}
    f["thickness"] = f["thickness"] * torch.tensor(PEN)[labels][:, None]
    f["aspect"] = f["aspect"] * f["thickness"] ** 0.2
    form = forms.pick(labels, factors["style"])
    pen = forms.pen[form]
    path = _bend(_trace(forms, form, f, tremble), f, tremble)
    radius = _pen_radius(f, tremble)
    x, y, length = _frame(path, pen, radius, f, tremble)
    return x, y, length, pen, radius, f, tremble


def _trace(forms, form, f, tremble):
    """The pen's path (B, K, 2) in the units of FORMS, its centre at 0."""
    blend, corner, wobble = (f[name][..., None] for name in ("blend", "corner", "wobble"))
    start, end = forms.points[form].unbind(1)  # (B, N, 2)
    e = tremble["points"]
    error = (e[:, :-2] + 2 * e[:, 1:-1] + e[:, 2:]) / math.sqrt(6)  # neighbouring points err alike
    points = start + blend * (end - start) + wobble * error
    matrix = corner * forms.sharp[form] + (1 - corner) * forms.smooth[form]  # (B, K, N)
    return matrix @ points - torch.tensor([3.0, 5.0])


def _bend(path, f, tremble):
    """Bend the page, then apply waist, flare, width, slant and rotation to a path (B, K, 2)."""
    for wave, phase in zip(tremble["bend"].unbind(1), tremble["phase"].unbind(1), strict=True):
        path = path + f["elastic"][..., None] * torch.sin(path @ (0.45 * wave) + math.tau * phase)
    x, y = path.unbind(-1)
    y = y + f["waist"] * torch.cos(0.3 * y)
    x = x * f["aspect"] * (1 + f["flare"] * y / 5) - f["slant"] * y
    cos, sin = f["rotation"].cos(), f["rotation"].sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _pen_radius(f, tremble):
    """Radius of the pen along the path (B, K), pixels: thickness, taper, pressure, unevenness."""
    u = torch.linspace(-1, 1, SAMPLES)
    pressure = 0.1 * torch.sin(5 * u + math.tau * tremble["pressure"])
    grain = f["rough"] * tremble["grain"].repeat_interleave(4, 1)
    return f["thickness"] * (1 + f["taper"] * u + pressure + grain)


def _frame(path, pen, radius, f, tremble):
    """Path in pixels, framed as MNIST: longer side 20, centred by mass -> x, y, length (B, K).

    `length` is the path's from one sample to the next, 0 where the pen is lifted.  LeCun et al.
    1998, III.
    """
    span = (path.amax(1) - path.amin(1)).amax(1, keepdim=True)
    path = path * ((f["size"] - 2 * f["thickness"]) / span)[..., None]
    steps = path.diff(dim=1).norm(dim=-1)
    length = torch.cat([steps, steps[:, -1:]], 1) * pen
    mass = (length * radius)[..., None]
    centre = (path * mass).sum(1) / mass.sum(1)
    path = path + (SIDE / 2 - 0.5 + tremble["shift"] - centre)[:, None]
    return *path.unbind(-1), length


@functools.cache
def _sheet():
    """A sheet of paper (SHEET, SHEET): uniform noise of mean 0, variance 1, along the diagonals."""
    return math.sqrt(12) * (uniform(torch.arange(SHEET), SHEET) - 0.5)


def _paper_grain(corner):
    """Pieces (B, 28, 28) of the sheet, each from its own corner (B, 2) in (0, 1)."""
    top, left = (corner * (SHEET - SIDE)).long().unbind(1)
    steps = torch.arange(SIDE)
    return _sheet()[(top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None, :]]


def _ink(x, y, length, pen, radius, f, tremble):
    """Lay ink along a path (B, K) -> (B, 28, 28) uint8.

    A Gaussian pen is separable, so its ink over the whole page is one matrix product. Beside a
    straight stroke that ink falls as exp(-2 d^2 / r^2): solved for the distance d it says which
    pixels the pen covers.
    """
    grid, sigma = torch.arange(float(SIDE)), 0.5 * radius
    width = (math.sqrt(0.5) / sigma)[..., None]
    offsets = ((grid - v[..., None]) * width for v in (x, y))
    # cut where nothing is left of the ink: tinier numbers take the processor a slow path
    spread_x, spread_y = ((-d * d).clamp_min(-40).exp() for d in offsets)  # (B, K, 28)
    tips = 1 - pen
    amount = length / (math.sqrt(math.tau) * sigma) + 0.5 * (tips + tips.roll(1, 1))  # round tips
    field = (spread_y * amount[..., None]).transpose(1, 2) @ spread_x
    distance = (-0.5 * field.clamp(1e-9, 1).log()).sqrt()  # in radii
    names = "thickness", "edge", "ink", "paper"
    thickness, edge, ink, paper = (f[name][..., None] for name in names)
    inside = (1 - distance) * thickness + paper * _paper_grain(tremble["paper"])  # pixels
    cover = (0.5 + inside / edge).clamp(0, 1)
    return (255 * cover * ink).clamp(0, 255).round().to(torch.uint8)
