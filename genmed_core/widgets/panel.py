"""What every slider kind shares: the sliders, the pictures they move, and a still of them.

A kind is one class.  It makes its `sliders`, says in `pictures` what it shows at their `values`,
and names in `view` the entry of VIEWS in widgets.js that draws the same in the browser.  A kind
with a drawing of its own adds it behind the shared script:
`_esm = Panel._esm + "VIEWS.mine = ..."`.  Its `PLACE` names the traits that say where its controls
stand: "Reset" brings them back, and the page's address keeps them (address.js).
"""

from __future__ import annotations

import base64
import io
import math
import operator
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image, ImageDraw, ImageFont

from genmed_core.widgets.export import write_page

HERE = Path(__file__).parent
GAP = 12  # px between pictures that stand side by side in a still
SHADES = 32  # a still's colours: enough for the eye, half the bytes of 256
CUE = "Run the chapter down to here to move the sliders."


@dataclass(frozen=True)
class Slider:
    """One slider: numbers from low to high by step, or places 0, 1, ... that have labels."""

    name: str
    low: float = 0.0
    high: float = 0.0
    step: float = 1.0
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, labels: Iterable[object]) -> Slider:
        """A slider over labels."""
        labels = tuple(str(label) for label in labels)
        return cls(name, high=len(labels) - 1, labels=labels)

    @property
    def options(self) -> list[tuple[str, int]]:
        """(label, place) pairs, as the selection widgets of ipywidgets have them."""
        return [(label, place) for place, label in enumerate(self.labels)]

    def nearest(self, value: float) -> float:
        """The place where the slider can stand that is nearest to value; ValueError beyond it."""
        slack = 1e-6 * self.step
        if not self.low - slack <= value <= self.high + slack:
            raise ValueError(f"{self.name} = {value:g} is beyond its slider, which runs from "
                             f"{self.low:g} to {self.high:g}: stay within, or make the explorer "
                             "with a wider z_range")
        last = math.floor((self.high - self.low) / self.step + 1e-6)
        return round(self.low + min(last, round((value - self.low) / self.step)) * self.step, 10)

    def place(self, index: int) -> int:
        """A place counted as in a list, so that -1 is the last; IndexError beyond the ends."""
        count = len(self.labels)
        if not -count <= operator.index(index) < count:
            raise IndexError(f"{self.name} has {count} places, 0 to {count - 1}, not {index}")
        return operator.index(index) % count

    def text(self, value: float) -> str:
        """What the slider says at a value."""
        return self.labels[int(value)] if self.labels else f"{value:.{self.digits}f}"

    @property
    def digits(self) -> int:
        """Decimals that tell two neighbouring numbers apart, two at least."""
        return max(2, math.ceil(-math.log10(self.step)))


def positive(**settings: float) -> None:
    """ValueError unless every setting is a finite number over 0."""
    for name, value in settings.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a number over 0, not {value}")


class Panel(anywidget.AnyWidget):
    """A picture and its sliders.  `values` holds what each slider stands at."""

    PLACE: tuple[str, ...] = ("values",)
    _esm = "".join((HERE / name).read_text(encoding="utf-8")
                   for name in ("address.js", "widgets.js"))
    _css = (HERE / "widgets.css").read_text(encoding="utf-8")
    view = traitlets.Unicode().tag(sync=True)
    sliders = traitlets.List().tag(
        sync=True, to_json=lambda sliders, _: [asdict(s) | {"digits": s.digits} for s in sliders])
    values = traitlets.List().tag(sync=True)
    caption = traitlets.Unicode().tag(sync=True)
    width = traitlets.Int(168).tag(sync=True)
    unfolded = traitlets.Int(0).tag(sync=True)  # how many sliders are seen at first, 0 for all
    home = traitlets.Dict().tag(sync=True)  # the traits of PLACE as they began

    def __init__(self, **state: Any) -> None:
        super().__init__(**state)
        self.home = {name: getattr(self, name) for name in self.PLACE}

    def pictures(self) -> list[np.ndarray]:
        """What is shown at the sliders' values: uint8 (H, W) or (H, W, 3), side by side."""
        raise NotImplementedError

    def describe(self) -> str:
        """The picture in words, for those who cannot see it."""
        said = zip(self.sliders, self.values, strict=True)
        return ", ".join(f"{slider.name} {slider.text(value)}" for slider, value in said)

    def still(self) -> bytes:
        """What is shown now as a small PNG, for a notebook that is read without a kernel."""
        parts = [_at_width(Image.fromarray(picture), self.width) for picture in self.pictures()]
        font, lines = ImageFont.load_default(13), [line for line in (self.caption, CUE) if line]
        width = sum(part.width + GAP for part in parts) - GAP
        height = max(part.height for part in parts)
        mode = "RGB" if any(part.mode == "RGB" for part in parts) else "L"
        words = math.ceil(max(map(font.getlength, lines)))
        page = Image.new(mode, (max(width, words), height + 4 + 18 * len(lines)), "white")
        left = 0
        for part in parts:
            page.paste(part, (left, 0))
            left += part.width + GAP
        for k, line in enumerate(lines):
            ImageDraw.Draw(page).text((0, height + 4 + 18 * k), line, "black", font)
        file = io.BytesIO()
        page.quantize(SHADES, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
        return file.getvalue()

    def export(self, path: str | Path, title: str = "") -> Path:
        """Write the widget as it stands as one file that needs no kernel and no network.

        "name.html" is a page of its own, "name.mjs" a module for MyST's directive `anywidget`.
        ValueError for any other ending.
        """
        return write_page(self, path, title or self.caption)

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        data["image/png"] = base64.b64encode(self.still()).decode()
        data["text/plain"] = f"{self.describe()}. {CUE}"
        return data, metadata


def _at_width(picture, width):
    """A picture enlarged by a whole number, so that its pixels stay sharp, or made smaller."""
    if picture.width > width:
        height = round(picture.height * width / picture.width)
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    factor = max(1, width // picture.width)
    larger = picture.width * factor, picture.height * factor
    return picture.resize(larger, Image.Resampling.NEAREST)
