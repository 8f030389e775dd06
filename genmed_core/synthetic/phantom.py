"""Chest X-ray phantoms: frontal radiographs from rays through a parametric thorax, no files.

A patient is a set of thickness maps: how many centimetres of water each ray would have to cross to
be weakened as much as by the body, the lungs' air, the heart, the bones. Thicknesses add, the beam
decays as exp(-MU * thickness), and the film adds scatter, blur, quantum noise and its own scale of
greys. Everything is measured in centimetres in the patient's frame: x to the right of the picture
(the patient's left), y down, the origin on the spine at half the height of the lungs. What is
random comes from a hash of (seed, index, column), so that a patient is the same at any resolution
and in any batch, and all factors are returned.

Not for diagnosis, and not a model of any disease: it has the signs that tell four classes apart, no
more.
"""

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

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
Classes = Tensor | Sequence[int | str] | int | str
Tell = Callable[[int], object]
CLASSES = ("Normal", "Lung Opacity", "COVID", "Viral Pneumonia")
NORMAL, OPACITY, COVID, VIRAL = range(4)

# factor -> (law, its two parameters); normal laws are cut at 2.5 standard deviations, "some" is 0
# but for a share (first parameter) of the images, where it is uniform between a fifth of the second
# parameter and all of it
FACTORS = {
    # the patient
    "width": ("normal", 13.1, 0.8),  # half the inner width of the rib cage, cm (adults: 11 to 15)
    "height": ("lognormal", 0.0, 0.05),  # of the trunk, relative
    "build": ("lognormal", 0.06, 0.14),  # soft tissue, relative
    "volume": ("normal", -0.2, 1.1),  # depth of the breath: > 0 lowers the diaphragm
    "heart": ("normal", 0.0, 1.0),  # size of the heart, standard deviations of one tenth
    "age": ("uniform", 0.0, 1.0),  # unfolds the aorta
    "breast": ("some", 0.5, 1.6),  # size of the breasts; 0: pectoral muscles instead
    "ribs": ("uniform", 0.5, 1.2),  # mineral in the bones, relative
    "slope": ("normal", 0.0, 1.0),  # how steeply the ribs fall
    "scoliosis": ("normal", 0.0, 0.4),  # bow of the spine, cm
    "markings": ("uniform", 0.5, 1.3),  # mass of the lungs' vessels, relative
    "gas": ("some", 0.5, 1.0),  # air in the stomach
    # how the patient stands
    "yaw": ("normal", 0.0, 0.5),  # turn about the long axis: shift of what lies in front, cm
    "roll": ("normal", 0.0, 0.035),  # turn in the plane of the film, radians
    "shift_x": ("normal", 0.0, 1.0),  # of the film's centre, cm
    "shift_y": ("normal", 0.3, 1.8),
    "shrug": ("normal", 0.0, 0.8),  # raises (< 0) or lowers the shoulders, cm
    "arms": ("uniform", 0.0, 1.0),  # 0: hang down, 1: held away from the body
    "field": ("lognormal", 3.52, 0.1),  # width of the film, cm
    "stretch": ("uniform", 0.94, 1.12),  # height of the film by its width; a square squeezes it
    # exposure and film
    "dose": ("uniform", 3.7, 5.2),  # decimal logarithm of the photons in one of DETECTOR^2 elements
    "scatter": ("uniform", 0.3, 1.6),  # scattered by direct radiation
    "spot": ("uniform", 0.02, 0.09),  # blur of focal spot and detector, cm (1 sd)
    "detail": ("uniform", 0.1, 1.1),  # enhancement of fine structure by the workstation
    "gamma": ("uniform", 0.42, 0.95),  # < 1 brightens
    "toe": ("uniform", 0.0, 0.2),  # how grey the thinnest part of the body is
    "black": ("uniform", 0.0, 0.03),  # grey of open air, 0..1
    "white": ("uniform", 0.76, 0.97),  # grey of the densest part
    # what else is on it
    "collimator": ("some", 0.3, 0.07),  # how far the shutters reach in, share of the side
    "marker": ("some", 0.75, 1.0),  # brightness of the letter L or R
    "leads": ("some", 0.25, 1.0),  # wires of an electrocardiogram
    "tube": ("some", 0.12, 1.0),  # in the windpipe
    # disease, where the class has one
    "severity": ("uniform", 0.15, 1.0),  # how much of the air it takes; the mild end is hard to see
    "extent": ("uniform", 0.75, 1.3),  # of its patches, relative
    "side": ("uniform", -1.0, 1.0),  # of a focal opacity: < 0 left in the picture
    "level": ("uniform", -7.0, 6.0),  # its height, cm
    "depth": ("uniform", 0.15, 0.75),  # 0 at the chest wall, 1 at the hilum
    "effusion": ("some", 0.35, 4.0),  # fluid beside a focal opacity, cm high
}

# what `draw` also takes and `cxr_phantom` never sets: edits of the same patient, in tables of
# factors of their own so that all that was drawn before stays as it is; absent, each is as nothing
EDITS = {
    "nodule": ("uniform", 0.8, 1.7),  # radius of a round, partly calcified mass, cm; 0: none
    "nodule_x": ("uniform", -11.0, 11.0),  # its centre in the patient's frame, cm
    "nodule_y": ("uniform", -10.0, 8.0),
    "cage": ("uniform", 1.0, 1.0),  # of ribs and collar bones, relative; 0: a film of soft tissue
    "take": ("uniform", 0.0, 0.0),  # number of the exposure: another has other noise
}
# factors and edits that a film alone has: another value leaves all thicknesses as they are
FILM = ("dose", "scatter", "spot", "detail", "gamma", "toe", "black", "white", "collimator",
        "marker", "take")
BODY = [name for name in (*FACTORS, *EDITS) if name not in FILM]
NOTHING = {"nodule": 0.0, "nodule_x": 0.0, "nodule_y": 0.0, "cage": 1.0, "take": 0.0}

# 1/cm, water at 65 keV, about the mean of a filtered 120 kV beam (Hubbell and Seltzer 1995, NIST)
MU = 0.20
AIR = 0.74  # water that 1 cm of inflated lung lacks: 1 - 0.26 (ICRU 44: lung 0.26 g/cm^3)
# water that 1 cm of bone adds to the 1 cm of soft tissue it displaces, at 65 keV: spongy (1.18
# g/cm^3) and compact (1.92 g/cm^3; both ICRU 46); and the inner by the outer radius of a rib's
# shell, 0.6 mm thick
SPONGY, COMPACT, INNER = 0.35, 1.8, 0.91
APEX = -12.4  # level of the lungs' top, cm
RIBS = 11  # the twelfth lies below the film's contrast
RIB_PITCH = 2.25  # from one rib to the next at the spine, cm
# fall of each rib from spine to breastbone, cm, and the distance from the middle where its bone
# turns to cartilage
RIB_FALL = (3.6, 5.6, 7.6, 9.0, 10.0, 10.6, 10.8, 10.8, 10.4, 10.0, 8.6)
RIB_END = (2.8, 4.2, 5.0, 5.6, 6.2, 7.0, 8.0, 9.4, 10.6, 11.6, 99)
PATCHES = 3  # of ground glass in each lung in COVID
SEEN = 1.5  # cm of lung or heart along a ray that are outlined
TRUNKS, FORKS, POINTS = 9, 5, 8  # vessels that leave a hilum, their forks, points along a piece

LEAST = 16  # pixels of the smallest side that can be asked for
FINE = 128  # pixels of the smallest side computed; smaller pictures are averaged from it
COARSE = 48  # pixels of the side on which a place for a nodule is looked for
DETECTOR = 256  # elements of the detector's side: its noise is drawn there and averaged over pixels
SHEET = 1024  # side of the one sheet of normal numbers that noise and textures are cut from
REACH = 30.0  # textures cover -REACH..REACH cm
BLOCK = 2**16  # pixels computed together; blocks are filled up: rounding cannot depend on n


def cxr_phantom(n: int, *, size: int = 64, classes: Classes | None = None, seed: int,
                tell: Tell | None = None) -> tuple[Tensor, Tensor, Factors]:
    """X-ray n phantoms -> images (n, 1, size, size) uint8, labels (n,) int64, factors {name: (n,)}.

    `classes`: what the patients have, names or numbers of CLASSES, (n,) or one for all; without it
    every four patients in a row have the four classes in random order. A picture depends on (seed,
    index, class, size) only, and on size only as finer or coarser pixels. `factors` holds float32
    columns named in FACTORS, and `patient` (int64), the key of all that is individual; `draw` makes
    the same images from them again. The factors do not depend on the class: two calls with one seed
    give the same patients other diseases. The work is shared out on as many threads as torch may
    use; tell(done) is called every few images.

    Raises ValueError for n < 1, size < LEAST, an unknown class or a wrong number of them; TypeError
    for n, size or seed that are not whole numbers.
    """
    size = _whole("size", size, LEAST)
    labels, factors = cxr_patients(n, classes=classes, seed=seed)
    return draw(labels, factors, size=size, tell=tell), labels, factors


def cxr_patients(n: int, *, classes: Classes | None = None, seed: int) -> tuple[Tensor, Factors]:
    """Labels and factors of the patients that `cxr_phantom` films; arguments, errors as there."""
    n, seed = _whole("n", n, 1), _whole("seed", seed)
    root = scramble(torch.tensor(int64(seed ^ 0x43585200000000)))  # "CXR": not the strokes'
    index = torch.arange(n)
    patient = scramble(root + index)
    if classes is None:
        order = uniform(scramble(~root + index // 4), 4).argsort(1)
        labels = order.gather(1, index[:, None] % 4)[:, 0]
    else:
        labels = _labels(classes, n)
    return labels, sample_factors(FACTORS, patient) | {"patient": patient}


def draw(labels: Classes, factors: Factors, *, size: int = 64, tell: Tell | None = None,
         like: tuple[Classes, Factors] | None = None) -> Tensor:
    """X-ray patients of classes (n,) with the factors that `cxr_phantom` returned, or edited ones.

    -> images (n, 1, size, size) uint8. factors may hold EDITS too. like: classes and factors of n
    other films, whose exposure and levels of black and white are taken over, so that an edit
    changes what it touches and no pixel far from it. tell: as for `cxr_phantom`. Raises ValueError
    when a factor is missing, unknown, not of shape (n,) or not finite, and as `cxr_phantom` does.
    """
    size, n = _whole("size", size, LEAST), len(labels)
    labels = _labels(labels, n)
    _check(factors, n)
    if like is not None:
        like = _labels(like[0], n), like[1]
        _check(like[1], n)
    fine = size * -(-FINE // size)
    images = torch.empty(n, 1, size, size, dtype=torch.uint8)
    block, done = max(1, BLOCK // fine**2), 0

    @torch.no_grad()
    def draw_block(rows):
        full = rows[torch.arange(block).clamp(max=len(rows) - 1)]
        scene = _Scene(labels[full], {k: v[full] for k, v in factors.items()}, fine)
        other = like and _Scene(like[0][full], {k: v[full] for k, v in like[1].items()}, fine)
        grey = _render(scene, other)
        grey = F.avg_pool2d(grey[:, None], fine // size)
        images[rows] = (255 * grey).round().to(torch.uint8)[: len(rows)]
        return len(rows)

    # like beside like: what nobody in a block has is not computed
    devices = (factors["leads"] > 0) | (factors["tube"] > 0)
    _sheet()  # before the threads ask for it
    for count in _on_threads(draw_block, (2 * labels + devices).argsort(stable=True).split(block)):
        done += count
        if tell:
            tell(done)
    return images


def _on_threads(work, pieces):
    """Results of work(piece) in order, from as many threads as torch may use, each by itself.

    Most of a picture is many short operations, on which torch's own threads would spend their time
    meeting.
    """
    threads = min(torch.get_num_threads(), len(pieces))
    if threads <= 1:
        yield from map(work, pieces)
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, pieces)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted cell stops at once
        # the workers' one thread is no wish of later threads
        torch.set_num_threads(torch.get_num_threads())


def air_share(labels: Classes, factors: Factors, *, size: int = 64) -> Tensor:
    """The share left of the air of healthy lungs along each ray -> (n, size, size), 1 outside."""
    scenes = _Scene(_labels(labels, len(labels)), factors, size)
    return _disease(scenes, _diaphragm(scenes))[0]


@torch.no_grad()
def organs(factors: Factors, *, size: int = 64) -> Tensor:
    """Where right lung, left lung and heart show: shares of each pixel, (n, 3, size, size) float.

    The lungs are the fields beside heart and great vessels, as radiologists outline them; the heart
    reaches from the pulmonary trunk down to the dome. Disease changes neither, and what lies under
    the shutters counts too. Arguments and errors as for `draw`.
    """
    size, n = _whole("size", size, LEAST), len(factors["patient"])
    _check(factors, n)
    fine = size * -(-FINE // size)
    parts = []
    for rows in torch.arange(n).split(max(1, BLOCK // fine**2)):
        s = _Scene(torch.zeros(len(rows), dtype=torch.int64),
                   {k: v[rows] for k, v in factors.items()}, fine)
        parts.append(F.avg_pool2d(_outlines(s).float(), fine // size))
    return torch.cat(parts)


def _outlines(s):
    """Right lung, left lung and heart, bool (B, 3, S, S); SEEN cm and more are outlined."""
    level = _diaphragm(s)
    lung, shadow = _lungs(s, level, _body(s))[0] > SEEN, _heart(s, level) > SEEN
    heart = shadow & (s.y > -4.5) & (s.y < level + 1)
    lung = lung & ~shadow
    return torch.stack([lung & (s.x < 0), lung & (s.x >= 0), heart], 1)


def with_nodules(factors: Factors, *, share: float = 1.0) -> dict[str, Tensor]:
    """The same patients, a share of them drawn by their keys with one nodule in a lung.

    -> factors with the three columns of EDITS that say where it is and how large; its centre lies
    where the lung is seen beside heart and great vessels, on the inner four fifths of the film, a
    centimetre and more from the lung's edge. A patient's nodule does not depend on the others'.
    Raises ValueError for a share outside 0..1, and as `draw` does.
    """
    n = len(factors["patient"])
    _check(factors, n)
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share}: the share of patients with a nodule lies in 0..1")
    u = uniform(factors["patient"], 5, 60 << 16).float()
    parts = []
    for rows in torch.arange(n).split(BLOCK // COARSE**2):
        s = _Scene(torch.zeros(len(rows), dtype=torch.int64),
                   {k: v[rows] for k, v in factors.items()}, COARSE)
        parts.append(_place(s, u[rows]))
    x, y = torch.cat(parts, 1)
    _, low, high = EDITS["nodule"]
    radius = torch.where(u[:, 0] < share, low + (high - low) * u[:, 1], 0.0)
    return dict(factors) | {"nodule": radius, "nodule_x": x, "nodule_y": y}


def _place(s, u):
    """A point in a lung of each patient (2, B), cm; u (B, 5): three of their uniform numbers."""
    lung = _outlines(s)[:, :2].any(1) & (torch.maximum(s.X.abs(), s.Y.abs()) < 0.4)
    inner = F.avg_pool2d(lung[:, None].float(), 3, 1, 1).flatten(1) > 0.99  # (B, COARSE^2)
    number = (u[:, 2:3] * inner.sum(1, keepdim=True)).floor() + 1
    chosen = (inner.cumsum(1) >= number).float().argmax(1, keepdim=True)
    pixel = s.field[:, 0, 0] / COARSE
    x, y = (v.flatten(1).gather(1, chosen)[:, 0] for v in (s.x, s.y))
    return torch.stack([x + pixel * (u[:, 3] - 0.5), y + pixel * (u[:, 4] - 0.5)])


@torch.no_grad()
def nodules(factors: Factors, *, size: int = 64) -> tuple[Tensor, Tensor]:
    """Where nodules show -> masks (n, 1, size, size) bool and discs (n, 3): row, column, radius.

    Discs are in pixels, the centre of the first pixel at 0; NaN where a patient has none. A pixel
    belongs to a nodule of which it shows half or more. Arguments and errors as for `draw`.
    """
    size, n = _whole("size", size, LEAST), len(factors["patient"])
    _check(factors, n)
    fine = size * -(-FINE // size)
    masks, discs = torch.zeros(n, 1, size, size, dtype=torch.bool), torch.full((n, 3), torch.nan)
    who = (factors["nodule"] > 0).nonzero()[:, 0] if "nodule" in factors else torch.arange(0)
    for rows in who.split(max(1, BLOCK // fine**2)):
        s = _Scene(torch.zeros(len(rows), dtype=torch.int64),
                   {k: v[rows] for k, v in factors.items()}, fine)
        shown = F.avg_pool2d((_nodule(s) > 0)[:, None].float(), fine // size)
        area, place = shown.sum((1, 2, 3)).clamp_min(1e-6), torch.arange(size).float()
        row, column = (shown.sum((1, k)) @ place / area for k in (3, 2))
        masks[rows] = shown >= 0.5
        discs[rows] = torch.stack([row, column, (area / math.pi).sqrt()], 1)
    return masks, discs


# --- arguments ------------------------------------------------------------------------------------


def _check(factors, n):
    """Raise ValueError unless factors are those of n patients, with or without any of EDITS."""
    edits = {name: law for name, law in EDITS.items() if name in factors}
    check_factors(FACTORS | edits, factors, n, key="patient")


def _whole(name, value, least=None):
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r}") from None
    if least is not None and number < least:
        raise ValueError(f"{name} = {number}: it must be at least {least}")
    return number


def _labels(classes, n):
    """Names or numbers of classes, one or n of them -> (n,) int64; underscores pass for spaces."""
    if isinstance(classes, str | int):
        classes = [classes] * n
    values = classes.tolist() if hasattr(classes, "tolist") else list(classes)
    if len(values) != n:
        raise ValueError(f"classes: {len(values)} for n = {n} images; give n, or one for all")
    names = {name: label for label, name in enumerate(CLASSES)}
    out = [names.get(v.replace("_", " "), -1) if isinstance(v, str) else v for v in values]
    for value, label in zip(values, out, strict=True):
        if type(label) is not int or not 0 <= label < len(CLASSES):
            known = f"{CLASSES} or 0..{len(CLASSES) - 1}"
            raise ValueError(f"class {value!r} is not known; choose among {known}")
    return torch.tensor(out)


# --- the scene: pixels in the patient's centimetres, and the patient's own random numbers ---------


@functools.cache
def _sheet():
    """One sheet of standard normal numbers (SHEET, SHEET)."""
    return normal(uniform(scramble(torch.arange(SHEET)), SHEET)).float()


class _Scene:
    """Patients on S x S pixels: factors as (B, 1, 1) attributes, coordinates x, y (B, S, S), cm."""

    def __init__(self, labels, factors, S):
        self.S, self.B, self.key = S, len(labels), factors["patient"]
        self._splines, self._textures = {}, {}
        for name in FACTORS:
            setattr(self, name, factors[name].float().view(-1, 1, 1))
        for name, nothing in NOTHING.items():
            value = factors[name].float() if name in factors else torch.full((self.B,), nothing)
            setattr(self, name, value.view(-1, 1, 1))
        self.label = labels.view(-1, 1, 1)
        grid = (torch.arange(S) + 0.5) / S - 0.5
        self.X, self.Y = grid.view(1, 1, S), grid.view(1, S, 1)  # shares of the side
        self.cos, self.sin = self.roll.cos(), self.roll.sin()
        self.tall = self.field * self.stretch
        self.px = S / self.field  # pixels per cm
        x = self.field * (self.cos * self.X + self.sin * self.Y) + self.shift_x
        y = (self.tall * (self.cos * self.Y - self.sin * self.X) + self.shift_y) / self.height
        # nobody is an ellipse
        self.x = x + 0.3 * self.texture(0, 8.0) - self.scoliosis * torch.sin(y / 8)
        self.y = y + 0.3 * self.texture(1, 8.0)
        self.ax, self.left = self.x.abs(), (self.x > 0).float()
        self.front = self.x - self.yaw  # organs in front move when the patient turns

    def uniform(self, stream, *shape):
        """The patients' own uniform numbers (B, *shape): another stream, other numbers."""
        return uniform(self.key, math.prod(shape), stream << 16).float().view(self.B, *shape)

    def window(self, stream, side, key=None):
        """A piece (B, side, side) of the sheet for each patient, or for other keys."""
        key = self.key if key is None else key
        corner = (uniform(key, 2, stream << 16) * (SHEET - side)).long()
        top, left = (c[:, None] + torch.arange(side) for c in corner.unbind(1))
        return _sheet()[top[:, :, None], left[:, None, :]]

    def texture(self, stream, spacing):
        """Smooth noise of unit variance (B, S, S), bumps `spacing` cm apart: splines on knots."""
        if stream not in self._textures:
            down, across = self._spline_values(spacing)
            self._textures[stream] = 2.09 * down @ self.window(100 + stream, down.shape[2]) @ across
        return self._textures[stream]

    def _spline_values(self, spacing):
        """What each knot gives to each row (B, S, knots) and to each column (B, knots, S)."""
        if spacing not in self._splines:
            knots = torch.arange(int(2 * REACH / spacing)) * spacing - REACH
            down = _spline((self.tall * self.Y + self.shift_y - knots) / spacing)
            across = _spline((self.field * self.X + self.shift_x - knots[:, None]) / spacing)
            self._splines[spacing] = down, across
        return self._splines[spacing]

    def blur(self, maps, sigma):
        """Blur maps (B, S, S) with Gaussians of sigma (B, 1, 1) cm: a product along each axis."""
        steps = torch.arange(self.S)
        distance = (steps[:, None] - steps) / (sigma * self.px).clamp_min(0.3)
        kernel = (-0.5 * distance**2).clamp_min(-30).exp()
        kernel = kernel / kernel.sum(2, keepdim=True)
        return kernel @ maps @ kernel.transpose(1, 2)

    def deposit(self, x, y, mass):
        """Thickness (B, S, S), cm, of points (B, P) of mass, cm^3 of water: on four pixels."""
        u = (x - self.shift_x[:, 0]) / self.field[:, 0]
        w = (y * self.height[:, 0] - self.shift_y[:, 0]) / self.tall[:, 0]
        cos, sin, S = self.cos[:, 0], self.sin[:, 0], self.S
        column, row = ((v + 0.5) * S - 0.5 for v in (cos * u - sin * w, sin * u + cos * w))
        i, j = row.floor(), column.floor()
        out = torch.zeros(self.B, (S + 1) * (S + 1))
        for di in (0, 1):
            for dj in (0, 1):
                weight = (1 - (row - i - di).abs()) * (1 - (column - j - dj).abs())
                a, b = i + di, j + dj
                weight = weight * ((a >= 0) & (a < S) & (b >= 0) & (b < S))
                place = a.clamp(0, S).long() * (S + 1) + b.clamp(0, S).long()
                out.scatter_add_(1, place, mass * weight)
        per_area = S * S / (self.field * self.tall)
        return out.view(self.B, S + 1, S + 1)[:, :S, :S] * per_area


def _spline(t):
    """Cubic B-spline with knots at the integers."""
    t = t.abs()
    return torch.where(t < 1, 2 / 3 - t * t * (1 - t / 2), (2 - t).clamp_min(0) ** 3 / 6)


# --- shapes ---------------------------------------------------------------------------------------


def _step(d, soft):
    """A half plane with a soft edge: 1 where d > 0."""
    return torch.sigmoid(d / soft)


def _hump(d, width):
    return torch.exp(-(d / width).square().clamp_max(30))


def _ball(dx, dy, a, b, tilt=0.0):
    """Relative thickness of an ellipsoid seen from the front, 1 in the middle."""
    if tilt:
        cos, sin = math.cos(tilt), math.sin(tilt)
        dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
    return (1 - (dx / a) ** 2 - (dy / b) ** 2).clamp_min(0).sqrt()


def _bone(d, half):
    """What a long bone of this half width adds, cm, at distance d: spongy in a compact tube."""
    u = (d / half).square()
    whole, hollow = (1 - u).clamp_min(0).sqrt(), (INNER**2 - u).clamp_min(0).sqrt()
    return 2 * half * (COMPACT * (whole - hollow) + SPONGY * hollow)


def _distance(x, y, start, end, bend=0.0):
    """Distance of (x, y) to the segment from start to end, bowed into an S."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    squared = dx * dx + dy * dy
    t = (((x - x0) * dx + (y - y0) * dy) / squared).clamp(0, 1)
    off = 0.0
    if bend:
        off = bend * (torch.sin(math.pi * t) + 0.8 * torch.sin(2 * math.pi * t)) / squared**0.5
    return ((x - x0 - t * dx + off * dy) ** 2 + (y - y0 - t * dy - off * dx) ** 2).sqrt()


# --- the thorax -----------------------------------------------------------------------------------


def _height(y):
    """0 at the level of the domes and below, 1 at the apex."""
    return ((5 - y) / (5 - APEX)).clamp(0, 1)


def _wall(s, y):
    """Distance of the inner chest wall from the middle at level y, cm."""
    taper = (1 - _height(y) ** 2).sqrt()
    return 4.9 + (s.width - 4.9) * taper - 0.012 * (y - 6).clamp_min(0) ** 2


def _diaphragm(s):
    """Level of the middle of the right dome, cm: (B, 1, 1)."""
    return 7.8 + 2.0 * s.volume


def _body(s):
    """Soft tissue of trunk, neck, shoulders and arms without any air: (B, S, S) cm."""
    ax, y, shoulder = s.ax, s.y, s.width + 4.6
    # from the neck the trapezius falls to the tip of the shoulder, which is round
    top = -18.6 + 1.5 * s.shrug + 4.4 * ((ax - 4.5) / (shoulder - 4.5)).clamp(0, 2) ** 1.4
    half = s.width + 3.2 * s.build + 0.006 * (y - 2).clamp_min(0) ** 2 + 7.5 * _step(-6.5 - y, 1.8)
    across = (1 - (ax / half).clamp_max(1) ** 3).sqrt()
    deep = 20.4 * s.build * (0.62 + 0.36 * _step(y + 7.0, 2.8) + 0.008 * y.clamp(-8, 14))
    trunk = deep * across * ((y - top) / 5.5).clamp(0, 1) ** 0.6
    neck = 14.5 * (1 - (s.x / 6.0).clamp(-1, 1) ** 2).sqrt() * _step(-12 - y, 1.4)
    chin = 8 * (s.uniform(1, 1, 1) < 0.3) * _ball(s.front, y + 22 - 1.5 * s.shrug, 5.6, 5.2)
    elbow = (s.width + 6.4 + 7 * s.arms, 19.0)
    along = ((y + 9) / 28).clamp(0, 1)  # the upper arm thins towards the elbow
    off = _distance(ax, y, (shoulder + 0.4, -9.0), elbow) / (5.6 - 1.3 * along)
    arm = 11.5 * s.build * (1 - off**2)
    arm = arm.clamp_min(0) ** 0.5 * 3.2
    parts = torch.maximum(trunk, neck + chin)
    return (parts**4 + arm**4) ** 0.25  # skin runs smoothly from trunk to arm


def _lungs(s, dome_level, body):
    """Thickness of the lungs, heart not yet taken out, cm, and levels of both domes (B, S, S)."""
    ax, y = s.ax, s.y
    q = _height(y)
    outer, inner, middle = _wall(s, y), 4.9 - 2.9 * (1 - q**7).sqrt(), 4.9 + 1.6 * (1 - q)
    out = ((ax - middle) / (outer - middle).clamp_min(0.1)).clamp(0, 1) ** 2.1
    inwards = ((middle - ax) / (middle - inner).clamp_min(0.1)).clamp(0, 1) ** 7
    r = torch.where(ax > middle, out, inwards)
    flat = 3.4 + 1.6 * s.uniform(2, 1, 1)  # how deep the angle between dome and chest wall reaches
    lateral = flat * ((ax - 5.5).clamp_min(0) / (s.width - 5.5)).clamp_max(1.3) ** 2.4
    medial = 1.2 * (1 - ax / 5.5) ** 2
    lower = 0.2 + 1.6 * s.uniform(3, 1, 1)  # the left dome lies lower, as a rule
    dome = dome_level + lower * s.left + torch.where(ax > 5.5, lateral, medial)
    dome = dome + 0.2 * s.texture(2, 4.0)
    front_back = 16.3 * (1 - 0.76 * q * q).sqrt() * (1 - 0.018 * (y + 2).clamp_min(0))
    below = 1 - ((y - dome).clamp_min(0) / 3).sqrt()
    lung = front_back * (1 - r).sqrt() * (y > APEX) * below.clamp_min(0)
    return torch.minimum(lung, (body - 4.5).clamp_min(0)), dome


def _heart(s, dome_level):
    """Heart and great vessels, one silhouette: thickness in front of the spine, cm.

    Its left border shows the aortic knob, the pulmonary trunk and the left ventricle; its right
    border the superior vena cava and the right atrium.
    """
    y, size, tip = s.y, 1 + 0.1 * s.heart, dome_level - 0.3
    u = s.uniform(4, 4, 1, 1).unbind(1)
    knob = (0.5 + 0.5 * u[0] + 0.9 * s.age) * _hump(y + 6.2 - 0.6 * s.age, 1.5)
    trunk = (0.2 + 0.6 * u[1]) * _hump(y + 2.8, 1.6)
    fall = ((y + 3.6) / (tip + 3.6)).clamp(0, 1)
    ventricle = (8.3 * size - 2.5) * fall ** (1.1 + 0.5 * u[2] - 0.12 * s.heart)
    apex = 2.5 * ((y - tip + 2) / 5).clamp(0, 1) ** 2  # rounds the heart's tip
    left = 2.4 + knob + trunk + ventricle - apex + 0.4 * _step(-11 - y, 1.0)
    atrium = (0.8 + 0.9 * u[3]) * size * _hump(y - tip + 2.6, 3.4)
    right = 2.2 + 0.4 * s.age + atrium + 0.25 * s.texture(3, 5.0)
    deep = 6.5 + 4.5 * _step(y + 2, 2.5)
    off = (2 * s.front - left + right).abs() / (left + right)
    return deep * (1 - off.clamp_max(1) ** 2.6).sqrt()


def _ellipse(s, x, y, centre, axes, tilt):
    """1 inside a tilted ellipse with a soft rim, centre, axes and tilt (B, 1, 1) each."""
    cos, sin = tilt.cos(), tilt.sin()
    dx, dy = x - centre[0], y - centre[1]
    squared = ((cos * dx + sin * dy) / axes[0]) ** 2 + ((cos * dy - sin * dx) / axes[1]) ** 2
    return _step(1 - squared, 0.3)


def _disease(s, dome_level):
    """What disease leaves: the share of air (B, S, S), and that of the contrast of vessels.

    Lung Opacity: a dense patch in one lung, some with fluid. COVID: faint patches in both lungs, at
    the wall and low (Wong et al. 2020, Radiology 296:E72). Viral pneumonia: a net in both lungs,
    densest around the hila (Koo et al. 2018, RadioGraphics 38:719).
    """
    opacity, covid, viral = (s.label == c for c in (OPACITY, COVID, VIRAL))
    lost = torch.zeros_like(s.x)
    if (opacity | covid).any():
        x = s.x + 0.5 * s.texture(4, 3.2) + 0.25 * s.texture(5, 1.2)  # ragged edges
        y = s.y + 0.5 * s.texture(6, 3.2) + 0.25 * s.texture(7, 1.2)
        cloud = (1 + 0.2 * s.texture(8, 1.6) + 0.15 * s.texture(9, 0.7)).clamp(0, 1.4)
    if opacity.any():
        lost = torch.where(opacity, (_focal(s, x, y, dome_level) * cloud).clamp(0, 0.95), lost)
    if covid.any():
        lost = torch.where(covid, (_glass(s, x, y) * cloud).clamp(0, 0.8), lost)
    if viral.any():
        lost = torch.where(viral, _net(s).clamp(0, 0.7), lost)
    keep = torch.where(covid, 1 - 0.4 * lost, 1 - lost)  # ground glass veils vessels, it hides none
    if opacity.any():
        lost = torch.where(opacity, torch.maximum(lost, _fluid(s, dome_level)), lost)
    return 1 - lost, keep


def _focal(s, x, y, dome_level):
    """Consolidation: the share of air lost to one patch, and to a lesser one above or below it."""
    u = s.uniform(5, 6, 1, 1).unbind(1)
    side, level = torch.where(s.side < 0, -1.0, 1.0), torch.minimum(s.level, dome_level - 2.5)
    hilum = 5.0 + 2.5 * (side > 0) * _step(level - 1, 1.0)  # beside the heart, not behind it
    wall = _wall(s, level)
    away = (wall - 1.0) * (1 - s.depth) + hilum.minimum(wall - 1.5) * s.depth
    axes = s.extent * (2.6 + 1.2 * u[0]), s.extent * (2.4 + 1.4 * u[1])
    main = _ellipse(s, x, y, (side * away, level), axes, 2 * u[2] - 1)
    further = level + torch.where(level > 0, -5.5, 5.5)
    small = _ellipse(s, x, y, (side * away, further), (axes[0] * 0.6, axes[1] * 0.6), 2 * u[3] - 1)
    return (0.15 + 0.75 * s.severity) * torch.maximum(main, 0.7 * (u[4] < 0.4) * small)


def _fluid(s, dome_level):
    """Pleural effusion: fluid above the dome, higher at the wall than in the middle."""
    surface = dome_level + 3.5 - s.effusion * (1 + 0.05 * (s.ax - 6).clamp_min(0) ** 1.6)
    beside = _step(torch.where(s.side < 0, -1.0, 1.0) * s.x, 0.2)
    return 0.9 * (s.effusion > 0) * beside * _step(s.y - surface, 0.5)


def _glass(s, x, y):
    """Ground glass: the air lost to PATCHES patches in each lung, near the wall, mostly low."""
    u, lost = s.uniform(6, 2 * PATCHES, 6, 1, 1), 0.0
    for k in range(2 * PATCHES):
        a, b, level, depth, tilt, dense = u[:, k].unbind(1)
        side = 1.0 if k % 2 else -1.0
        level = -4.5 + 5.5 * (k // 2) + 4 * (level - 0.5)
        away = _wall(s, level) - 0.4 - 1.6 * depth
        axes = s.extent * (1.6 + 1.1 * a), s.extent * (2.2 + 1.5 * b)
        patch = _ellipse(s, x, y, (side * away, level), axes, side * (0.3 + tilt - 0.5))
        height = 0.55 + 0.22 * (k // 2)  # fainter above
        depth = (0.1 + 0.6 * s.severity) * height * (0.7 + 0.4 * dense) * patch
        lost = 1 - (1 - lost) * (1 - depth)
    return lost


def _net(s):
    """Interstitial pattern: the air lost to the lines between smooth cells, and to a haze."""
    coarse = (0.55 - s.texture(10, 1.9).abs()).clamp_min(0)
    fine = (0.55 - s.texture(11, 1.1).abs()).clamp_min(0)
    place = _hump(s.ax - 5, 5.5) * _hump(s.y - 0.5, 7.5)
    return s.severity * place * (0.16 + 0.62 * (coarse + 0.8 * fine))


def _vessels(s):
    """Branching vessels from both hila, thinner at every fork: thickness (B, S, S), cm."""
    side = torch.tensor([-1.0, 1.0]).view(1, 2, 1)
    u = s.uniform(7, 3, 2, TRUNKS).unbind(1)
    angle = torch.linspace(-1.45, 1.5, TRUNKS) + 0.4 * (u[0] - 0.5)
    x, y = 2.8 + 0.9 * u[1] + 0 * angle, -0.6 - 0.9 * (side > 0) + 1.4 * angle + 0.8 * (u[2] - 0.5)
    radius, length, out = 0.36, 2.5, 0.0
    for fork in range(FORKS):
        u = s.uniform(8 + fork, 3, *angle.shape[1:]).unbind(1)
        piece = length * (0.6 + 0.8 * u[0])[..., None] / POINTS
        bent = angle[..., None] + 0.9 * (u[1] - 0.5)[..., None] * torch.arange(POINTS) / POINTS
        xs = x[..., None] + (piece * bent.cos()).cumsum(-1)
        ys = y[..., None] + (piece * bent.sin()).cumsum(-1)
        mass = 1.5 * math.pi * radius**2 * piece.expand_as(xs)  # of tubes of blood
        points = s.deposit((side[..., None] * xs).flatten(1), ys.flatten(1), mass.flatten(1))
        out = out + s.blur(points, torch.tensor(0.6 * radius).view(1, 1, 1))
        spread = 0.2 + 0.45 * u[2]
        x, y = xs[..., -1].repeat(1, 1, 2), ys[..., -1].repeat(1, 1, 2)
        angle = torch.cat([bent[..., -1] - spread, bent[..., -1] + spread], -1)
        radius, length = 0.78 * radius, 0.88 * length
    return s.markings * out


def _hila(s):
    """Main pulmonary arteries and veins where they enter the lungs, the left ones higher, cm."""
    u, y = 0.7 + 0.6 * s.uniform(20, 3, 1, 1), s.y + 0.2 + 1.0 * s.left
    artery = _ball(s.ax - 3.9, y - 1.6, 0.85, 3.2, -0.28) * u[:, 0]  # descends beside the heart
    vein = _ball(s.ax - 4.0, y + 2.2, 0.7, 2.4, 0.5) * u[:, 1]
    knot = _ball(s.ax - 3.3, y, 1.7, 1.7) * u[:, 2]
    return s.markings * (1.5 * artery + 1.0 * vein + 1.3 * knot)


def _nodule(s):
    """How far each ray runs through the nodule, a ball as dense as spongy bone, cm."""
    squared = (s.x - s.nodule_x).square() + (s.y - s.nodule_y).square()
    return 2 * (s.nodule.square() - squared).clamp_min(0).sqrt()


def _airways(s):
    """Air of the windpipe and the main bronchi, cm."""
    pipe = (0.8 * s.front + 0.25 * torch.sin(s.y / 3)).abs()
    trachea = 2.4 * _step(0.85 - pipe, 0.18) * _step(-3.8 - s.y, 0.5)
    ends = ((-3.2, -0.8), (4.0, -1.2))
    bronchi = sum(_step(0.55 - _distance(s.front, s.y, (0.0, -4.2), end), 0.15) for end in ends)
    return trachea + bronchi.clamp_max(1)


def _stomach(s, dome_level):
    """Gas under the left dome: a bubble with a flat floor of fluid, or a loop of bowel, cm."""
    u = s.uniform(21, 4, 1, 1).unbind(1)
    x, y = s.x + 0.35 * s.texture(4, 3.2), s.y + 0.35 * s.texture(6, 3.2)
    dx, dy = x - 4.5 - 5 * u[0] - s.yaw, y - dome_level - 3.4 - 2.5 * u[1]
    bubble = _ball(dx, dy, 1.2 + 2.2 * u[2], 0.9 + 1.2 * u[3])
    floor = torch.where(u[0] + u[3] < 1, _step(0.4 - dy, 0.15), 1.0)
    return 4.5 * s.gas * bubble * floor


def _chest_wall(s):
    """Breasts, or pectoral muscles, cm."""
    b, ax, y = s.breast, s.ax, s.y
    breast = _ball(ax - 8.8, y - 4.2 - 2 * b, 6.0 + b, 5.4 + b) * _step(y - 1, 3.0)
    muscle = _step(1.5 - y - 0.55 * (ax - 8), 1.2) * _step(ax - 5, 2.0) * _step(y + 11, 1.5)
    return torch.where(b > 0, 1.7 * b.clamp(0, 1.4) * breast, 1.2 * muscle)


def _spine(s):
    """Vertebral bodies, their end plates, pedicles, spinous processes: cm beyond soft tissue."""
    ax, down = s.ax, s.y + 12
    turn = torch.cos(2 * math.pi * down / (2.15 + 0.02 * down))  # one vertebra after another
    body = _step(1.55 + 0.012 * down - 0.12 * turn - ax, 0.12)
    plates = 0.9 + 0.4 * _step(turn + 0.35, 0.17) + 0.4 * _step(turn - 0.8, 0.05)
    pedicles = 0.8 * _hump(ax - 1.05, 0.28) * torch.exp(-2 * (turn - 1) ** 2)
    return 0.5 * body * plates + pedicles + 0.6 * _hump(s.x, 0.3) * _step(turn, 0.25)


def _ribs(s):
    """Both arcs of each rib, cm: the one behind falls gently, the fainter in front steeply.

    Seen from the front a rib is an ellipse: its upper half lies behind, its lower half in front.
    Every rib of either side has its own place, fall, breadth and mineral.
    """
    place, fall, breadth, mineral = (s.uniform(22, 4, 2 * RIBS, 1) - 0.5).unbind(1)  # right, left
    number = torch.arange(RIBS).repeat(2)[:, None]
    drop = torch.tensor(RIB_FALL)[number] / 2
    b = drop * (1 + 0.08 * s.slope + 0.2 * fall)
    centre = drop * (1 + 0.08 * s.slope) - 12.8 + RIB_PITCH * number + 0.01 * number**2
    centre = centre + 0.55 * place
    a = (_wall(s, centre) + 0.35) * (1 - 0.08 * (number == 0))
    lift = 0.02 + 0.04 * s.slope + 0.016 * number + 0.08 * fall
    shapes = torch.stack([a, b, centre, lift, 0.72 + 0.2 * breadth, 1 + 0.7 * mineral])[..., None]
    ax, forward, out = s.ax, s.ax + s.yaw * s.x.sign(), 0.0
    for i in range(RIBS):
        ours = torch.where(s.left > 0, shapes[:, :, RIBS + i], shapes[:, :, i])
        a, b, centre, lift, half, strength = ours.unbind(0)  # (B, S, S) each
        y = s.y - centre - lift * (ax - 0.8 * a)
        u, w = (ax / a).square(), (y / b).square()
        d = (u + w - (u + w).sqrt()) / (u / a.square() + w / b.square()).clamp_min(1e-4).sqrt()
        behind = _step(-y, 0.25) * _step(ax - 1.6, 0.15)
        front = _step(y, 0.25) * _step(forward - RIB_END[i], 0.5)
        arcs = _bone(d, half) * (2.1 * behind + 0.75 * front)  # denser than life, as on films
        # seen lengthwise at the side
        out = out + strength * arcs * (1 + 0.4 * u.clamp_max(1).square().square())
    return out


def _shoulders(s):
    """Collar bones, shoulder blades and upper arms, cm beyond soft tissue."""
    ax, y, glenoid = s.ax, s.y, s.width + 1.6
    u = s.uniform(23, 3, 1, 1).unbind(1)
    inner, lift = -9.6 + 1.2 * u[0], 0.8 * s.shrug
    outer = glenoid + 0.6, inner - 2.8 + lift
    collar = _distance(ax - s.yaw * s.x.sign(), y, (1.9, inner), outer, 0.55)
    out = 3.6 * _bone(collar, 0.6) * s.cage
    blade = -1 + 2 * u[1]  # how far the arms' position turns the blade out
    lower, upper = (glenoid - 2.4 + blade, 2.6), (glenoid - 4.6 + 0.5 * blade, -9.8 + lift)
    side = (glenoid - 0.3, -8.6 + lift)
    out = out + 1.0 * _bone(_distance(ax, y, upper, lower, 0.4), 0.35)
    out = out + 2.0 * _bone(_distance(ax, y, side, lower, -0.3), 0.5)
    out = out + 1.7 * _bone(_distance(ax, y, upper, (glenoid + 1.4, -11.6 + lift), -0.3), 0.55)
    plate = _ball(ax - glenoid + 2.6 - 0.5 * blade, y + 4.6, 2.4, 6.2, -0.15)
    out = out + 0.5 * plate.sqrt()
    head = (glenoid + 2.2, -9.4 + lift)
    out = out + 2.2 * _ball(ax - head[0], y - head[1], 2.3, 2.3)
    shaft = _distance(ax, y, head, (s.width + 6.4 + 7 * s.arms, 19.0))
    return out + 1.7 * _bone(shaft, 1.05) * _step(y - head[1], 0.8)


def _devices(s):
    """Wires and pads of an electrocardiogram, a tracheal tube: cm of water that weaken as much."""
    out = torch.zeros(s.B, s.S, s.S)
    if not (s.leads.any() or s.tube.any()):
        return out
    t = torch.linspace(0, 1, 160)
    u = 2 * s.uniform(24, 6, 4, 1) - 1
    x0, y0, x1, y1, wx, wy = (u * torch.tensor([13, 11, 20, 20, 5, 5]).view(6, 1, 1)).unbind(1)
    x = x0 + (x1 - x0) * t + wx * torch.sin(math.pi * t) + 0.4 * wy * torch.sin(2 * math.pi * t)
    y = y0 + (y1 - y0) * t + wy * torch.sin(math.pi * t)
    mass = (0.06 * s.leads[:, 0]).expand(-1, x[0].numel())
    out = out + s.deposit(x.flatten(1), y.flatten(1), mass)
    x = 0.3 * torch.sin(3 * t) + s.yaw[:, 0]
    out = out + s.deposit(x, (18 * t - 22).expand_as(x), (0.04 * s.tube[:, 0]).expand_as(x))
    out = s.blur(out, torch.tensor(0.1).view(1, 1, 1))
    for k in range(3):
        d = ((s.x - x0[:, k, None]) ** 2 + (s.y - y0[:, k, None]) ** 2).sqrt()
        pad = 2.0 * _step(0.35 - d, 0.08) + 0.6 * _step(0.2 - (d - 0.75).abs(), 0.08)
        out = out + s.leads * pad
    return out


def _thickness(s):
    """Water-equivalent thickness of all that the beam crosses: (B, S, S) cm."""
    level, body = _diaphragm(s), _body(s)
    lung, dome = _lungs(s, level, body)
    heart = _heart(s, level)
    air = (lung - heart).clamp_min(0)
    inside = (air / 5).clamp(0, 1)
    share, keep = _disease(s, level)
    grain = 1 + 0.025 * s.texture(12, 1.2) + 0.02 * s.texture(13, 0.5)
    ball = torch.minimum(air, _nodule(s))
    left = air - ball
    t = body - AIR * left * share * grain + _vessels(s) * inside * keep + _hila(s) * inside**0.3
    t = t - _airways(s) - _stomach(s, level) + _chest_wall(s) * (body > 1)
    # bones behind dense organs drown in their scatter
    seen = (1 - 0.75 * (heart / 8).clamp(0, 1)) * (1 - 0.8 * _step(s.y - dome, 0.4))
    bones = _ribs(s) * s.cage * seen + _spine(s) + _shoulders(s)
    flesh = (body / 3).clamp(0, 1)
    t = t + flesh * (s.ribs * bones + 0.3 * s.texture(14, 2.5) + 0.008 * body * s.texture(15, 1.0))
    return (t + SPONGY * ball).clamp_min(0)


# --- exposure and film ----------------------------------------------------------------------------


def _render(s, like=None):
    """Scenes of B patients -> greys (B, S, S) in 0..1; like: scenes that set exposure and greys."""
    t, exposure = _thickness(s) + _devices(s), None
    if like is not None:
        same = torch.equal(s.label, like.label) and all(
            torch.equal(getattr(s, name), getattr(like, name)) for name in BODY)
        _, *exposure = _beam(like, t if same else _thickness(like) + _devices(like))
    return _overlay(s, _film(s, t, exposure)).clamp(0, 1)


def _noise(s):
    """The detector's noise, of unit size in its DETECTOR^2 elements, averaged over pixels."""
    take = s.take[:, 0, 0].long()
    noise = s.window(90, DETECTOR, torch.where(take == 0, s.key, scramble(s.key ^ take)))[:, None]
    if s.S <= DETECTOR:
        return F.adaptive_avg_pool2d(noise, s.S)[:, 0]
    return F.interpolate(noise, size=(s.S, s.S), mode="bilinear")[:, 0]


def _film(s, t, exposure=None):
    """From thickness to film: Beer and Lambert's law, scatter, blur, noise, logarithm, greys.

    exposure: mean of the beam and levels of black and white (B, 1, 1), where others set them.
    """
    p, _, low, high = _beam(s, t, exposure)
    z = (p - low) / (high - low)
    z = (1 - s.toe) * z + s.toe * (1 + 4 * z).clamp(0, 1)  # open air stays black
    z = s.black + (s.white - s.black) * z.clamp(0, 1.1) ** s.gamma
    return torch.where(z > 0.9, 0.9 + 0.1 * torch.tanh((z - 0.9) / 0.1), z)


def _beam(s, t, exposure=None):
    """Logarithm of what the detector saw (B, S, S), mean of the beam, levels of black and white."""
    beam = torch.exp(-MU * t)
    mean = beam.mean((1, 2), keepdim=True) if exposure is None else exposure[0]
    beam = beam / mean
    beam = beam + s.scatter * s.blur(beam.clamp_max(3), torch.tensor(2.6).view(1, 1, 1))
    beam = s.blur(beam, s.spot)
    beam = beam + (beam / 10**s.dose).sqrt() * _noise(s)
    p = -beam.clamp_min(1e-3).log()
    p = p + s.detail * (p - s.blur(p, torch.tensor(1.8).view(1, 1, 1)))
    low, high = _window(p, t) if exposure is None else exposure[1:]
    return p, mean, low, high


def _window(p, t):
    """The levels (B, 1, 1) that become black and white: quantiles in the body, on a coarse grid."""
    p, t = (F.adaptive_avg_pool2d(v[:, None], 32).flatten(1) for v in (p, t))
    order = torch.where(t > 3, p, torch.inf).sort(1).values  # open air last
    count = (t > 3).sum(1, keepdim=True).clamp_min(2)
    return (order.gather(1, (q * (count - 1)).long()).unsqueeze(2) for q in (0.01, 0.985))


GLYPHS = {
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "text": "11101011101101 11010110110101 10111010101011",
    "arrow": "00100 01110 11111 00100 00100 00100 00100",
}


def _stamp(s, glyph, left, top, width, height):
    """A glyph's ink (B, S, S), its box (B, 1, 1) in shares of the side: exact areas of pixels."""
    glyph = torch.tensor([[float(c) for c in row] for row in GLYPHS[glyph].split()])

    def cover(start, length, cells):
        edges = (start + length * torch.arange(cells + 1) / cells) * s.S  # (B, 1, cells + 1)
        pixel = torch.arange(s.S).view(1, -1, 1)
        last = torch.minimum(edges[..., 1:], pixel + 1)
        return (last - torch.maximum(edges[..., :-1], pixel)).clamp_min(0)

    rows, columns = glyph.shape
    return cover(top, height, rows) @ glyph @ cover(left, width, columns).transpose(1, 2)


def _overlay(s, z):
    """What is put on the film z (B, S, S): shutters, a side marker, on a few text or an arrow."""
    u = s.uniform(25, 16, 1, 1).unbind(1)
    tilt = 0.06 * (u[0] - 0.5)
    x, y = s.X + tilt * s.Y, s.Y - tilt * s.X
    shutters = zip(u[1:5], (x, -x, y, -y), strict=True)
    inside = torch.stack([0.5 - s.collimator * reach - e for reach, e in shutters]).amin(0)
    open_ = (inside * s.S + 0.5).clamp(0, 1)
    z = torch.where(s.collimator > 0, z * open_ + 0.02 * (1 - open_), z)
    tall = 0.03 + 0.03 * u[5]
    top, near = 0.03 + 0.12 * u[6], 0.03 + 0.1 * u[7]
    is_left = u[8] < 0.6  # the patient's left is to the right of the picture
    letter = torch.where(
        is_left,
        _stamp(s, "L", 1 - near - 0.6 * tall, top, 0.6 * tall, tall),
        _stamp(s, "R", near, top, 0.6 * tall, tall),
    )
    ink = (0.7 + 0.3 * s.marker) * (s.marker > 0) * letter
    text = _stamp(s, "text", 0.6 * near, top + 0.7 * u[10], 0.09, 0.014) * (u[11] < 0.2)
    arrow = _stamp(s, "arrow", 0.9 - near, top + 0.1 + 0.5 * u[12], 0.02, 0.035) * (u[13] < 0.12)
    ink = ink + (s.marker > 0) * (0.9 * text + 0.9 * arrow)
    return torch.maximum(z, ink.clamp_max(1))
