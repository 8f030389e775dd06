"""Birds and cats: small colour pictures drawn by formula, for want of CIFAR-10's files.

A picture is painted from back to front: a background, then the parts of an animal in one of a few
poses (`POSES`), each part a soft-edged shape with shading. Everything random comes from a hash of
(seed, index, column), so a picture is the same whatever is drawn beside it, and every factor that
shaped it is returned (`FACTORS`).
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

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
CLASSES = ("bird", "cat")
SIDE, FINE = 32, 64  # pixels of an image's side, and of the page that it is painted on
BLOCK = 64  # pictures painted together; always this many, so that rounding cannot depend on n

# factor -> (law, its two parameters); normal laws are cut at 2.5 standard deviations. Lengths are
# in halves of the picture's side, colours from 0 to 1.
FACTORS = {
    "pose": ("uniform", 0.0, 1.0),  # which of the animal's POSES, all equally common
    "coat": ("uniform", 0.0, 1.0),  # which of the animal's COATS, all equally common
    "facing": ("uniform", -1.0, 1.0),  # below 0 it looks to the left
    "size": ("uniform", 0.78, 0.95),  # half of the animal's height, about
    "right": ("normal", 0.0, 0.06),  # where its middle is
    "down": ("normal", 0.0, 0.04),
    "tilt": ("normal", 0.0, 0.06),  # radians, clockwise
    "plump": ("lognormal", 0.0, 0.1),  # width of the body
    "head": ("lognormal", 0.0, 0.09),  # size of the head
    "limb": ("uniform", 0.0, 1.0),  # how high tail or wing is held
    "marks": ("uniform", 0.0, 1.0),  # contrast of a cat's stripes, of a bird's wing
    "tone": ("normal", 0.0, 0.07),  # lighter (> 0) or darker than the coat's usual colour
    "scene": ("uniform", 0.0, 1.0),  # which of the SCENES, all equally common
    "horizon": ("uniform", 0.2, 0.75),  # height at which the ground begins, downwards
    "blur": ("uniform", 0.05, 0.5),  # how softly
    "clutter": ("uniform", 0.01, 0.06),  # strength of the blotches in the background
    "light": ("lognormal", 0.0, 0.08),  # of the whole picture
}
# main colour, belly and muzzle, wing or stripes
COATS = {
    "bird": [
        ((0.22, 0.42, 0.78), (0.90, 0.88, 0.82), (0.12, 0.22, 0.50)),  # blue
        ((0.80, 0.16, 0.13), (0.88, 0.34, 0.25), (0.50, 0.08, 0.10)),  # red
        ((0.93, 0.78, 0.20), (0.97, 0.90, 0.55), (0.35, 0.33, 0.22)),  # yellow
        ((0.55, 0.40, 0.26), (0.87, 0.78, 0.63), (0.33, 0.22, 0.14)),  # brown
        ((0.60, 0.62, 0.66), (0.80, 0.80, 0.82), (0.36, 0.38, 0.44)),  # grey
        ((0.94, 0.94, 0.93), (1.00, 1.00, 1.00), (0.62, 0.65, 0.70)),  # white
        ((0.28, 0.60, 0.26), (0.75, 0.80, 0.35), (0.14, 0.38, 0.20)),  # green
        ((0.13, 0.13, 0.16), (0.24, 0.24, 0.28), (0.06, 0.06, 0.09)),  # black
    ],
    "cat": [
        ((0.88, 0.54, 0.22), (0.98, 0.86, 0.70), (0.62, 0.32, 0.10)),  # ginger
        ((0.52, 0.50, 0.48), (0.80, 0.79, 0.77), (0.28, 0.27, 0.27)),  # grey tabby
        ((0.15, 0.14, 0.15), (0.22, 0.21, 0.22), (0.07, 0.07, 0.08)),  # black
        ((0.94, 0.92, 0.89), (1.00, 0.99, 0.97), (0.80, 0.76, 0.71)),  # white
        ((0.48, 0.35, 0.23), (0.82, 0.72, 0.58), (0.25, 0.16, 0.10)),  # brown tabby
        ((0.90, 0.80, 0.65), (0.97, 0.92, 0.82), (0.70, 0.56, 0.40)),  # cream
        ((0.18, 0.18, 0.20), (0.97, 0.97, 0.95), (0.09, 0.09, 0.11)),  # black and white
    ],
}
# above the horizon, below it
SCENES = [
    ((0.53, 0.73, 0.92), (0.42, 0.58, 0.28)),  # sky over grass
    ((0.72, 0.82, 0.90), (0.72, 0.64, 0.50)),  # haze over sand
    ((0.36, 0.50, 0.27), (0.28, 0.37, 0.18)),  # leaves
    ((0.80, 0.74, 0.64), (0.55, 0.38, 0.25)),  # wall over floorboards
    ((0.62, 0.66, 0.70), (0.45, 0.46, 0.48)),  # wall over stone
    ((0.86, 0.84, 0.80), (0.70, 0.30, 0.26)),  # wall over a red cloth
    ((0.48, 0.60, 0.64), (0.32, 0.45, 0.55)),  # mist over water
]
BEAKS = torch.tensor([[0.95, 0.62, 0.15], [0.30, 0.28, 0.26], [0.85, 0.75, 0.45]])
EYES = torch.tensor([[0.55, 0.72, 0.25], [0.90, 0.72, 0.20], [0.45, 0.68, 0.85]])


def draw_animals(n: int, *, seed: int,
                 labels: Labels | None = None) -> tuple[Tensor, Tensor, Factors]:
    """Paint n animals -> images (n, 3, 32, 32) uint8, labels (n,) int64, factors {name: (n,)}.

    `labels`: 0 for a bird, 1 for a cat, (n,) or one for all; without it they take turns, so that
    there are as many of each. A picture depends on (seed, index, label) only. `factors` holds
    float32 columns named in FACTORS, and `individual` (int64), the key of what else is random;
    `draw` paints the same pictures from them again. The factors do not depend on the label.

    Raises ValueError for a negative n, labels other than 0 and 1 or of another length; TypeError
    for non-integers.
    """
    n, seed = operator.index(n), operator.index(seed)
    if n < 0:
        raise ValueError(f"n = {n}: cannot draw fewer than 0 animals")
    key = scramble(scramble(torch.tensor(int64(seed))) + torch.arange(n))
    labels = _checked_labels(torch.arange(n) % 2 if labels is None else labels, n)
    factors = sample_factors(FACTORS, key) | {"individual": key}
    return draw(labels, factors), labels, factors


def draw(labels: Labels, factors: Factors) -> Tensor:
    """Paint labels (n,) with factors that `draw_animals` returned, or edited -> (n, 3, 32, 32).

    Raises ValueError when a factor is missing, unknown, not of shape (n,) or impossible.
    """
    labels = _checked_labels(labels, None)
    n = len(labels)
    check_factors(FACTORS, factors, n, key="individual")
    images = torch.empty(n, 3, SIDE, SIDE, dtype=torch.uint8)
    kinds = pose_numbers(labels, factors["pose"])
    painters = [(name, paint) for name in CLASSES for paint in POSES[name].values()]
    for kind, (name, paint) in enumerate(painters):
        mine = (kinds == kind).nonzero()[:, 0]
        for start in range(0, len(mine), BLOCK):
            rows = mine[start : start + BLOCK]
            full = torch.cat([rows, rows[-1:].expand(BLOCK - len(rows))])  # always BLOCK of them
            block = _paint(name, paint, {k: v[full] for k, v in factors.items()})
            images[rows] = block[: len(rows)]
    return images


def pose_numbers(labels: Tensor, pose: Tensor) -> Tensor:
    """Which of all poses, birds' first, labels (n,) with pose factors (n,) take -> (n,) int64."""
    counts = torch.tensor([len(POSES[name]) for name in CLASSES])
    return torch.tensor([0, len(POSES["bird"])])[labels] + _choice(pose, counts[labels])


def pose_names(labels: Tensor, pose: Tensor) -> list[str]:
    """The names of these poses."""
    names = [name for kind in CLASSES for name in POSES[kind]]
    return [names[i] for i in pose_numbers(labels, pose)]


def _choice(u, count):
    """Which of `count` things numbers u (n,) in [0, 1] stand for."""
    return (u * count).long().clamp(min=0).minimum(torch.as_tensor(count) - 1)


def _checked_labels(labels, n):
    labels = torch.as_tensor(labels)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels are whole numbers, not {labels.dtype}")
    if n is not None and labels.dim() == 0:
        labels = labels.expand(n)
    if labels.dim() != 1 or n not in (None, len(labels)):
        wanted = "n" if n is None else n
        raise ValueError(f"labels must have shape ({wanted},), not {tuple(labels.shape)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= 1:
        raise ValueError("labels must be 0 (bird) or 1 (cat); got "
                         f"{int(labels.min())}..{int(labels.max())}")
    return labels.long()


# --- the page: shapes as distances, painted over each other ---------------------------------------


class _Page:
    """A block of pictures being painted, and the animal's own axes on it.

    The animal looks to the right and is about two units high, y downwards; shapes are distances
    (B, S, S) in its units, negative inside. Numbers may be floats or (B, 1, 1). Pixels see only
    sums, products and roots, which every processor rounds alike.
    """

    def __init__(self, canvas, f):
        self.canvas, self.f = canvas, f
        grid = (torch.arange(FINE) + 0.5) / FINE * 2 - 1
        x, y = grid - f["right"], grid[:, None] - f["down"]
        cos, sin = f["tilt"].cos(), f["tilt"].sin()
        mirror = torch.where(f["facing"] < 0, -1.0, 1.0)
        self.x = mirror * (cos * x + sin * y) / f["size"]
        self.y = (cos * y - sin * x) / f["size"]
        self.pixels = f["size"] * FINE / 2  # in a unit

    def ellipse(self, cx, cy, rx, ry, turn=0.0):
        """An ellipse about (cx, cy), turned clockwise by radians."""
        cos, sin = math.cos(turn), math.sin(turn)
        x, y = self.x - cx, self.y - cy
        x, y = (cos * x + sin * y) / rx, (cos * y - sin * x) / ry
        inner = (x * x + y * y).sqrt()
        slope = ((x / rx).square() + (y / ry).square()).sqrt().clamp(min=1e-3)
        return inner * (inner - 1) / slope

    def limb(self, start, end, thick, thin):
        """A straight limb between two points, its radius going from thick to thin."""
        (ax, ay), (bx, by) = start, end
        along_x, along_y = bx - ax, by - ay
        x, y = self.x - ax, self.y - ay
        share = (x * along_x + y * along_y) / (along_x * along_x + along_y * along_y)
        share = share.clamp(0, 1)
        away = ((x - share * along_x).square() + (y - share * along_y).square()).sqrt()
        return away - (thick + (thin - thick) * share)

    def curve(self, points, thick, thin):
        """A limb through several points."""
        radii = [thick + (thin - thick) * i / (len(points) - 1) for i in range(len(points))]
        parts = [self.limb(*ends) for ends in zip(points, points[1:], radii, radii[1:])]
        return _join(*parts)

    def polygon(self, *corners):
        """A convex polygon with its corners in clockwise order on the page."""
        sides = []
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1]):
            along_x, along_y = bx - ax, by - ay
            length = (torch.as_tensor(along_x) ** 2 + torch.as_tensor(along_y) ** 2) ** 0.5
            sides.append(((self.x - ax) * along_y - (self.y - ay) * along_x) / length)
        return _meet(*sides)

    def paint(self, shape, colour, *, volume=0.0, opacity=1.0):
        """Lay a colour (B, 3, 1, 1) over a shape; volume: how much darker its rim and foot are."""
        cover = (0.5 - shape * self.pixels).clamp(0, 1) * opacity
        if volume:
            depth = 1 - (1 + shape / 0.3).clamp(0, 1).square()  # 0 at the rim, 1 well inside
            shade = 1 + volume * (depth - 0.7) - 0.5 * volume * self.y
            colour = colour * shade[:, None]
        self.canvas = torch.lerp(self.canvas, colour.expand_as(self.canvas), cover[:, None])


def _join(first, *others, soft=0.0):
    """The union of shapes; `soft`, in units, rounds the seam off."""
    for other in others:
        if soft:
            share = (0.5 + 0.5 * (other - first) / soft).clamp(0, 1)
            first = other + (first - other) * share - soft * share * (1 - share)
        else:
            first = torch.minimum(first, other)
    return first


def _meet(first, *others):
    for other in others:
        first = torch.maximum(first, other)
    return first


def _paint(name, paint, factors):
    """Paint one block of animals in one pose -> (B, 3, 32, 32) uint8."""
    f = {k: v[:, None, None] for k, v in factors.items()}
    noise = normal(uniform(factors["individual"], 19, first=len(FACTORS))).clamp(-2.5, 2.5)
    page = _Page(_background(factors, noise[:, :16]), f)
    coats = torch.tensor(COATS[name])[_choice(factors["coat"], len(COATS[name]))]  # (B, 3, rgb)
    coats = coats + factors["tone"][:, None, None] + 0.02 * noise[:, None, 16:]
    page.coat, page.pale, page.dark = coats.clamp(0.03, 1)[..., None, None].unbind(1)
    spare = uniform(factors["individual"], 2, first=len(FACTORS) + 19)
    page.beak = BEAKS[_choice(spare[:, 0], 3)][..., None, None]
    page.iris = EYES[_choice(spare[:, 1], 3)][..., None, None]
    paint(page, f)
    picture = page.canvas * factors["light"].view(-1, 1, 1, 1)
    return (255 * F.avg_pool2d(picture, FINE // SIDE)).round().clamp(0, 255).to(torch.uint8)


def _background(factors, noise):
    """Two colours that meet at the horizon, with blotches -> (B, 3, S, S)."""
    scenes = torch.tensor(SCENES)[_choice(factors["scene"], len(SCENES))][..., None, None]
    y = (torch.arange(FINE) + 0.5) / FINE * 2 - 1
    f = {k: factors[k].view(-1, 1, 1, 1) for k in ("horizon", "blur", "clutter")}
    below = (0.5 + (y[:, None] - f["horizon"]) / (2 * f["blur"])).clamp(0, 1)
    blotches = F.interpolate(noise.view(-1, 1, 4, 4), size=FINE, mode="bilinear",
                             align_corners=True)
    ground = torch.lerp(scenes[:, 0], scenes[:, 1], below)
    return (ground + f["clutter"] * blotches).clamp(0, 1)


def _colour(red, green, blue):
    return torch.tensor([red, green, blue]).view(1, 3, 1, 1)


# --- cats -----------------------------------------------------------------------------------------

BLACK, WHITE = _colour(0.05, 0.05, 0.06), _colour(1.0, 1.0, 1.0)
PINK = _colour(0.88, 0.58, 0.56)


def _stripes(page, shape, x, y, width=0.17):
    """Dark bands across a shape, as strong as the cat's marks; x says where along, y bends them."""
    phase = (x + 0.35 * y.square()) / width
    wave = (phase - phase.floor() - 0.5).abs() * 2 - 0.55  # a triangle wave: no sine on pixels
    bands = _meet(-wave * width / 2, shape + 0.03)
    page.paint(bands, page.dark, opacity=0.75 * page.f["marks"])


def _cat_head(page, f, cx, cy, r, look=0.0):
    """A cat's head about (cx, cy) of radius r, its face moved by `look` to the side it looks to."""
    for side in (-1, 1):
        out, x = side * r, cx + 0.1 * look * r
        inner, outer = (x + 0.18 * out, cy - 0.72 * r), (x + 0.98 * out, cy - 0.2 * r)
        tip = (x + 0.78 * out, cy - 1.38 * r)
        ear = [inner, tip, outer] if side > 0 else [outer, tip, inner]
        page.paint(page.polygon(*ear), page.coat, volume=0.3)
        centre = [sum(axis) / 3 for axis in zip(*ear)]
        small = [tuple(m + 0.5 * (v - m) for v, m in zip(corner, centre)) for corner in ear]
        page.paint(page.polygon(*small), PINK, opacity=0.75)
    jaw = page.ellipse(cx, cy + 0.22 * r, 0.86 * r, 0.6 * r)
    skull = _join(page.ellipse(cx, cy, r, 0.84 * r), jaw)
    page.paint(skull, page.coat, volume=0.35)
    brow = _meet(skull, page.y - (cy - 0.28 * r))
    _stripes(page, brow, (page.x - cx) * 1.0, page.y * 0, width=0.34 * r)
    _cat_face(page, cx + look * r, cy, r)


def _cat_face(page, cx, cy, r):
    for side in (-1, 1):
        cheek = page.ellipse(cx + side * 0.18 * r, cy + 0.42 * r, 0.27 * r, 0.22 * r)
        page.paint(cheek, page.pale, volume=0.1)
        eye = page.ellipse(cx + side * 0.42 * r, cy - 0.02 * r, 0.22 * r, 0.18 * r, 0.15 * side)
        page.paint(eye - 0.06 * r, page.dark * 0.6)
        page.paint(eye, page.iris)
        page.paint(page.ellipse(cx + side * 0.42 * r, cy - 0.02 * r, 0.085 * r, 0.17 * r), BLACK)
        for rise in (-0.06, 0.12):
            start = cx + side * 0.35 * r, cy + 0.42 * r
            end = cx + side * 1.15 * r, cy + (0.42 + rise) * r
            page.paint(page.limb(start, end, 0.02 * r, 0.015 * r), WHITE, opacity=0.45)
    top, tip = cy + 0.2 * r, (cx, cy + 0.36 * r)
    page.paint(page.polygon((cx - 0.13 * r, top), (cx + 0.13 * r, top), tip), PINK * 0.85)
    page.paint(page.limb(tip, (cx, cy + 0.5 * r), 0.03 * r, 0.03 * r), page.dark * 0.6)


def _sitting_cat(page, f):
    wide, up = f["plump"], f["limb"]
    tail = [(-0.30 * wide, 0.86), (-0.62, 0.86 - 0.1 * up), (-0.78, 0.66 - 0.35 * up),
            (-0.68, 0.48 - 0.7 * up)]
    page.paint(page.curve(tail, 0.11, 0.08), page.coat, volume=0.3)
    chest = page.ellipse(0.02, 0.15, 0.30 * wide, 0.42)
    body = _join(page.ellipse(0, 0.52, 0.46 * wide, 0.44), chest, soft=0.2)
    page.paint(body, page.coat, volume=0.45)
    _stripes(page, body, page.y, page.x * 1.5)
    page.paint(page.ellipse(0.03, 0.22, 0.17, 0.28), page.pale, opacity=0.9)
    for x in (-0.14, 0.17):
        page.paint(page.limb((x, 0.3), (x, 0.86), 0.13, 0.10) - 0.025, page.dark, opacity=0.55)
        page.paint(page.limb((x, 0.3), (x, 0.86), 0.13, 0.10), page.coat, volume=0.3)
        page.paint(page.ellipse(x + 0.01, 0.9, 0.14, 0.09), page.pale, volume=0.2)
    _cat_head(page, f, 0.03, -0.42, 0.42 * f["head"], 0.08)


def _portrait_cat(page, f):
    body = page.ellipse(-0.05, 1.15, 0.95 * f["plump"], 0.75)
    page.paint(body, page.coat, volume=0.4)
    _stripes(page, body, page.x, page.y, width=0.28)
    page.paint(page.ellipse(0.08, 0.95, 0.34, 0.45), page.pale, opacity=0.9)
    _cat_head(page, f, 0, 0.02, 0.74 * f["head"], 0.16 * (f["limb"] - 0.3))


def _walking_cat(page, f):
    wide, up = f["plump"], f["limb"]
    tail = [(-0.62, 0.0), (-0.86, 0.05 - 0.25 * up), (-0.98, -0.05 - 0.5 * up),
            (-0.90, -0.2 - 0.75 * up)]
    page.paint(page.curve(tail, 0.10, 0.07), page.coat, volume=0.3)
    for x, step in ((-0.36, 0.12), (0.42, -0.12)):  # the far legs
        page.paint(page.limb((x, 0.25), (x + step, 0.86), 0.13, 0.08), page.coat * 0.68)
    body = _join(page.ellipse(-0.42, 0.13, 0.34, 0.33 * wide),
                 page.ellipse(0.02, 0.12, 0.5, 0.27 * wide),
                 page.ellipse(0.36, 0.08, 0.30, 0.31 * wide), soft=0.15)
    page.paint(body, page.coat, volume=0.45)
    page.paint(_meet(body, 0.27 - page.y), page.pale, opacity=0.5)
    _stripes(page, body, page.x, page.y)
    for x, step in ((-0.52, -0.10), (0.34, 0.12)):
        page.paint(page.limb((x, 0.2), (x + step, 0.86), 0.15, 0.085), page.coat, volume=0.3)
        page.paint(page.ellipse(x + step + 0.04, 0.9, 0.13, 0.075), page.pale, volume=0.2)
    _cat_head(page, f, 0.60, -0.28, 0.36 * f["head"], 0.14)


def _lying_cat(page, f):
    wide, up = f["plump"], f["limb"]
    haunch = page.ellipse(-0.5, 0.5, 0.42, 0.42 * wide)
    body = _join(page.ellipse(-0.22, 0.48, 0.72, 0.38 * wide), haunch, soft=0.1)
    page.paint(body, page.coat, volume=0.5)
    _stripes(page, body, page.x, page.y)
    tail = [(-0.80, 0.72), (-0.5, 0.88), (-0.15, 0.88 - 0.05 * up), (0.1, 0.84 - 0.15 * up)]
    page.paint(page.curve(tail, 0.10, 0.08) - 0.02, page.dark, opacity=0.5)
    page.paint(page.curve(tail, 0.10, 0.08), page.coat, volume=0.3)
    page.paint(page.ellipse(0.40, 0.52, 0.26, 0.33), page.pale, opacity=0.9)
    for x in (0.32, 0.62):
        page.paint(page.limb((x - 0.15, 0.72), (x + 0.14, 0.82), 0.11, 0.10), page.coat, volume=0.3)
    _cat_head(page, f, 0.42, 0.02, 0.44 * f["head"], 0.08)


# --- birds ----------------------------------------------------------------------------------------


def _bird_head(page, f, cx, cy, r, beak=0.75):
    """Beak and eye of a head about (cx, cy) of radius r."""
    low, high = (cx + 0.72 * r, cy + 0.42 * r), (cx + 0.78 * r, cy - 0.22 * r)
    page.paint(page.polygon(high, (cx + (1 + beak) * r, cy + 0.2 * r), low), page.beak)
    gape = (cx + 0.85 * r, cy + 0.16 * r), (cx + (0.9 + beak) * r, cy + 0.2 * r)
    page.paint(page.limb(*gape, 0.03, 0.02), page.beak * 0.55)
    page.paint(page.ellipse(cx + 0.34 * r, cy - 0.12 * r, 0.25 * r, 0.25 * r), WHITE, opacity=0.75)
    page.paint(page.ellipse(cx + 0.36 * r, cy - 0.12 * r, 0.18 * r, 0.18 * r), BLACK)


def _belly(page, body, shape):
    page.paint(_meet(body + 0.02, shape), page.pale, opacity=0.9)


def _wing(page, shape, f):
    colour = torch.lerp(page.coat, page.dark, 0.35 + 0.65 * f["marks"][:, None])
    page.paint(shape, colour, volume=0.35)


def _perched_bird(page, f):
    wide, r = f["plump"], 0.27 * f["head"]
    branch = page.limb((-1.6, 0.98), (1.6, 0.78), 0.11, 0.07)
    page.paint(branch, _colour(0.36, 0.25, 0.16), volume=0.4)
    drop = 0.3 * (f["limb"] - 0.5)
    tail = page.polygon((-0.30, 0.20), (-0.12, 0.50), (-0.62, 1.08 + drop), (-0.80, 0.92 + drop))
    page.paint(tail, page.dark, volume=0.2)
    for x in (0.02, 0.2):
        page.paint(page.limb((x, 0.55), (x + 0.03, 0.84), 0.035, 0.03), page.beak * 0.75)
    head = page.ellipse(0.30, -0.48, r, r * 0.95)
    body = _join(page.ellipse(0.02, 0.14, 0.60, 0.37 * wide, -0.95), head, soft=0.25)
    page.paint(body, page.coat, volume=0.45)
    _belly(page, body, page.ellipse(0.28, 0.22, 0.24, 0.48, 0.35))
    _wing(page, page.ellipse(-0.12, 0.20, 0.50, 0.19 * wide, -0.98), f)
    _bird_head(page, f, 0.30, -0.48, r)


def _standing_bird(page, f):
    wide, r = f["plump"], 0.22 * f["head"]
    for x, step in ((-0.06, -0.08), (0.12, 0.1)):
        page.paint(page.limb((x, 0.4), (x + step, 0.92), 0.045, 0.035), page.beak * 0.7)
        toes = page.limb((x + step, 0.93), (x + step + 0.16, 0.95), 0.04, 0.03)
        page.paint(toes, page.beak * 0.7)
    tail = page.polygon((-0.42, -0.02), (-0.30, 0.26), (-0.98, 0.34), (-1.0, 0.18))
    page.paint(tail, page.dark, volume=0.2)
    neck_x, neck_y = 0.50, -0.50 - 0.2 * f["limb"]
    neck = page.limb((0.34, 0.05), (neck_x, neck_y), 0.2, 0.16)
    body = _join(page.ellipse(0.0, 0.14, 0.56, 0.31 * wide, -0.15), neck,
                 page.ellipse(neck_x, neck_y, r, r * 0.92), soft=0.2)
    page.paint(body, page.coat, volume=0.45)
    _belly(page, body, page.ellipse(0.20, 0.34, 0.46, 0.22, -0.2))
    _wing(page, page.ellipse(-0.16, 0.10, 0.50, 0.20 * wide, 0.12), f)
    _bird_head(page, f, neck_x, neck_y, r, beak=1.1)


def _flying_bird(page, f):
    wide, r = f["plump"], 0.20 * f["head"]
    lift = 1.1 * f["limb"] - 0.15  # from spread wings to raised ones
    far = [(0.16, 0.05), (0.10, -0.22 - 0.28 * lift), (0.26, -0.40 - 0.62 * lift)]
    page.paint(page.curve(far, 0.20, 0.05), page.dark * 0.8, volume=0.2)
    tail = page.polygon((-0.40, 0.02), (-0.34, 0.20), (-0.98, 0.36), (-1.02, 0.02))
    page.paint(tail, page.dark, volume=0.2)
    head = page.ellipse(0.55, -0.02, r, r * 0.9)
    body = _join(page.ellipse(0.02, 0.12, 0.58, 0.22 * wide, 0.02), head, soft=0.25)
    page.paint(body, page.coat, volume=0.45)
    _belly(page, body, page.ellipse(0.15, 0.28, 0.55, 0.16))
    near = [(0.02, 0.10), (-0.22, -0.22 - 0.28 * lift), (-0.52, -0.36 - 0.70 * lift)]
    _wing(page, page.curve(near, 0.25, 0.06), f)
    _bird_head(page, f, 0.55, -0.02, r, beak=0.9)


def _swimming_bird(page, f):
    wide, r = f["plump"], 0.24 * f["head"]
    water = _colour(0.30, 0.46, 0.58)
    page.paint(0.30 - page.y + 0.0 * page.x, water)
    end = 0.02 - 0.1 * f["limb"]
    tail = page.polygon((-0.62, 0.14), (-0.50, 0.42), (-0.92, end + 0.1), (-0.94, end))
    page.paint(tail, page.dark, volume=0.2)
    neck_y = -0.42 - 0.25 * f["limb"]
    neck = page.limb((0.42, 0.25), (0.42, neck_y), 0.19, 0.14)
    body = _join(page.ellipse(-0.05, 0.36, 0.68, 0.32 * wide, -0.06), neck,
                 page.ellipse(0.46, neck_y, r, r * 0.88), soft=0.18)
    page.paint(body, page.coat, volume=0.45)
    _belly(page, body, page.ellipse(0.36, 0.40, 0.3, 0.26))
    _wing(page, page.ellipse(-0.20, 0.28, 0.48, 0.20 * wide, -0.12), f)
    page.paint(_meet(body, 0.52 - page.y), water * 0.8, opacity=0.75)
    page.paint(_meet((page.y - 0.56).abs() - 0.03, page.x.abs() - 0.85), WHITE, opacity=0.4)
    _bird_head(page, f, 0.46, neck_y, r, beak=0.95)


Painter = Callable[[Any, Factors], None]
POSES: dict[str, dict[str, Painter]] = {
    "bird": {"perched": _perched_bird, "standing": _standing_bird, "flying": _flying_bird,
             "swimming": _swimming_bird},
    "cat": {"sitting": _sitting_cat, "portrait": _portrait_cat, "walking": _walking_cat,
            "lying": _lying_cat},
}
