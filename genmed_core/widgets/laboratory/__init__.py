"""A laboratory in two dimensions: games and diffusion that train on the page, with no kernel.

Its program is one module, joined from the files beside this one in the order of PARTS: perceptrons
with their derivatives, the games, data as mixtures, diffusion, and what is drawn and pressed.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image, ImageDraw, ImageFont

from genmed_core.widgets.export import write_page

HERE = Path(__file__).parent
PARTS = ("../address.js", "nets.js", "games.js", "mixtures.js", "diffusion.js", "trial.js",
         "drawing.js", "view.js")
CUE = "Run the chapter down to here to train on the page."

DATA = {
    "ring": "a ring of eight", "spiral": "a spiral", "moons": "two moons", "lines": "two far lines",
    "drawn": "points of your own",
}
MODELS = {
    "gan": "GAN", "gan-saturating": "GAN, saturating", "lsgan": "least-squares GAN",
    "r1": "GAN with R1", "wgan-clip": "WGAN, clipped", "wgan-gp": "WGAN with gradient penalty",
    "diffusion": "diffusion", "flow": "flow matching",
}
BACKGROUNDS = ("learned", "exact", "none")
REACH = 3.0  # the plane runs from -REACH to REACH both ways
MAX_POINTS = 400
# name: (lowest, highest) of the settings that are numbers, as the sliders in view.js have them
RANGES = {
    "rate_d": (1e-5, 0.1), "rate_g": (1e-5, 0.1), "critic_steps": (1, 10), "momentum": (0.0, 0.9),
    "penalty": (0.0, 100.0), "clip": (0.001, 1.0), "level": (0.0, 1.0), "steps": (1, 100),
    "seed": (0, 9999),
}
WHOLE = ("critic_steps", "steps", "seed")
# What each model starts with.  GAN and R1 differ in the penalty alone, the two critics in how their
# slope is held; so each shows on the ring what it is known for.
GAME: dict[str, float] = {
    "rate_d": 0.003, "rate_g": 0.001, "critic_steps": 1, "momentum": 0.5, "penalty": 0.2,
    "clip": 0.1,
}
CRITIC = GAME | {"rate_d": 0.005, "critic_steps": 3, "momentum": 0.0, "penalty": 1.0}
DEFAULTS: dict[str, dict[str, float]] = {
    "gan": GAME, "gan-saturating": GAME, "lsgan": GAME, "r1": GAME,
    "wgan-clip": CRITIC, "wgan-gp": CRITIC,
    "diffusion": GAME | {"momentum": 0.9}, "flow": GAME | {"momentum": 0.9},
}


class Laboratory(anywidget.AnyWidget):
    """Two dimensions, small networks, and every setting in the reader's hand.

    data: one of DATA; points: the centres [(x, y), ...] of data "drawn", each within -3 and 3.
    model: one of MODELS.  The other settings begin as DEFAULTS says and are numbers within RANGES:
    rates of Adam, its momentum, steps of D (or the critic) to one of G, the weight of the penalty,
    the bound that weights are clipped at; level: the level of noise that is shown, 0 to 1, and
    steps: those of a path down, of diffusion; seed: of weights and noise.  shown: the background
    "learned" by D (or the field learned by a denoiser), "exact", or "none".  at: where the particle
    of diffusion stands.  ValueError where anything is unknown or out of its range.

    `settings` is where every control stands, `progress` what training came to, as it last stood
    still; `state` is both.
    """

    _esm = "\n".join((HERE / part).read_text(encoding="utf-8") for part in PARTS)
    _css = "\n".join(path.read_text(encoding="utf-8")
                     for path in (HERE.parent / "widgets.css", HERE / "laboratory.css"))
    settings = traitlets.Dict().tag(sync=True)
    home = traitlets.Dict().tag(sync=True)  # the settings as they began
    progress = traitlets.Dict().tag(sync=True)
    defaults = traitlets.Dict(DEFAULTS).tag(sync=True)
    datasets = traitlets.Dict(DATA).tag(sync=True)
    models = traitlets.Dict(MODELS).tag(sync=True)
    most_points = traitlets.Int(MAX_POINTS).tag(sync=True)
    caption = traitlets.Unicode().tag(sync=True)

    def __init__(self, data: str = "ring", model: str = "gan", *,
                 points: Sequence[Sequence[float]] = (), shown: str = "learned",
                 arrows: bool = True, particle: bool = False, at: Sequence[float] = (1.0, 0.5),
                 caption: str = "", **numbers: float) -> None:
        _known("data", data, DATA)
        _known("model", model, MODELS)
        _known("background", shown, BACKGROUNDS)
        if points and data != "drawn":
            raise ValueError(f'points are the centres of data="drawn", and data is "{data}": '
                             'leave out one of the two')
        if len(points) > MAX_POINTS:
            raise ValueError(f"{len(points)} points, and the page takes {MAX_POINTS}: pass fewer")
        settings = {"level": 0.0, "steps": 20, "seed": 1} | DEFAULTS[model] | _numbers(numbers)
        settings |= {"data": data, "model": model, "points": [_place(point) for point in points],
                     "shown": shown, "arrows": bool(arrows), "particle": bool(particle),
                     "at": _place(at)}
        super().__init__(settings=settings, home={"settings": settings}, progress={},
                         caption=caption)

    @property
    def state(self) -> dict[str, Any]:
        """Where every control stands, and under the progress' names what training came to."""
        return {**self.settings, **self.progress}

    def describe(self) -> str:
        """The laboratory in words, for a notebook that is read without a kernel."""
        return (f"A laboratory in two dimensions: {MODELS[self.settings['model']]} "
                f"on {DATA[self.settings['data']]}")

    def export(self, path: str | Path, title: str = "") -> Path:
        """Write it as it stands as one file, as every panel does: see `Panel.export`."""
        return write_page(self, path, title or self.caption)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        data["image/png"] = base64.b64encode(self.still()).decode()
        data["text/plain"] = f"{self.describe()}. {CUE}"
        return data, metadata

    def still(self, width: int = 240) -> bytes:
        """The data as a small PNG."""
        page = Image.new("RGB", (width + 90, width + 24), "white")
        pen = ImageDraw.Draw(page)
        pen.rectangle((0, 0, width, width), outline="#999999")
        for x, y in centres(self.settings["data"], self.settings["points"]):
            left, top = (x + REACH) / (2 * REACH) * width, (REACH - y) / (2 * REACH) * width
            pen.ellipse((left - 3, top - 3, left + 3, top + 3), fill="#0072B2")
        pen.text((0, width + 6), CUE, "black", ImageFont.load_default(13))
        file = io.BytesIO()
        page.quantize(16, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        return file.getvalue()


def centres(data: str, points: Sequence[Sequence[float]] = ()) -> np.ndarray:
    """Centres (K, 2) of the mixture that a data set is; mixtures.js says their spread."""
    u = (np.arange(96) + 0.5) / 96
    half = (np.arange(48) + 0.5) / 48
    turn = {"ring": 2 * np.pi * np.arange(8) / 8, "spiral": 3.8 * np.pi * np.sqrt(u)}
    if data == "ring":
        return 2 * _circle(turn["ring"])
    if data == "spiral":
        return (0.3 + 2.1 * np.sqrt(u))[:, None] * _circle(turn["spiral"])
    if data == "moons":
        moon = 1.6 * _circle(np.pi * half) + [-0.8, -0.4]
        return np.concatenate([moon, -moon])
    if data == "lines":
        height = 3 * half - 1.5
        return np.concatenate([np.stack([np.full(48, x), height], 1) for x in (-2.0, 2.0)])
    return np.array(points, float).reshape(-1, 2)


def _circle(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def _known(what: str, name: str, names: Any) -> None:
    if name not in names:
        raise ValueError(f'the laboratory has no {what} "{name}": it has ' + ", ".join(names))


def _numbers(numbers: dict[str, float]) -> dict[str, float]:
    for name, value in numbers.items():
        if name not in RANGES:
            raise TypeError(f"the laboratory has no setting {name}: it has {', '.join(RANGES)}")
        low, high = RANGES[name]
        if not (isinstance(value, (int, float)) and math.isfinite(value) and low <= value <= high):
            raise ValueError(f"{name} must be a number from {low:g} to {high:g}, not {value}")
        if name in WHOLE and value != int(value):
            raise ValueError(f"{name} must be a whole number, not {value}")
    return {name: int(value) if name in WHOLE else value for name, value in numbers.items()}


def _place(point: Sequence[float]) -> list[float]:
    x, y = (float(value) for value in point)
    if not (abs(x) <= REACH and abs(y) <= REACH):
        raise ValueError(f"the point ({x:g}, {y:g}) lies off the plane, which runs from "
                         f"{-REACH:g} to {REACH:g}: scale the points")
    return [x, y]
