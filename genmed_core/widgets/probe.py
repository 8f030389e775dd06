"""A probe: maps side by side whose pixels tell their numbers under the pointer or two sliders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import traitlets

from genmed_core.widgets.panel import HERE, Panel, Slider, positive

MARK = (255, 140, 26)  # the pixel that is asked, in a still


class Probe(Panel):
    """Maps of numbers, and what each says at one pixel: the one under the pointer.

    maps: {name: (H, W)} of one size, numbers of at least 0, kept to three digits; each is drawn
    from 0 (black) to the larger of 1 and its largest number (white).  start: row and column, which
    have a slider each.  width of one map in px.  ValueError for maps that are not such.
    """

    _esm = Panel._esm + (HERE / "probe.js").read_text(encoding="utf-8")
    view = traitlets.Unicode("probe").tag(sync=True)
    maps = traitlets.List().tag(sync=True)
    names = traitlets.List().tag(sync=True)
    shape = traitlets.List().tag(sync=True)

    def __init__(self, maps: Mapping[str, Any], *, start: tuple[int, int] = (0, 0),
                 width: int = 196, caption: str = "") -> None:
        positive(width=width)
        arrays = {name: _numbers(name, map_) for name, map_ in maps.items()}
        shapes = {array.shape for array in arrays.values()}
        if len(shapes) != 1:
            raise ValueError(f"maps of {sorted(shapes)}: give one map or more, all of one size")
        shape = list(shapes.pop())
        sliders = [Slider.of(name, range(n)) for name, n in zip(("row", "column"), shape)]
        values = [slider.place(k) for slider, k in zip(sliders, start, strict=True)]
        super().__init__(sliders=sliders, values=values, names=list(arrays), shape=shape,
                         maps=[array.flatten().tolist() for array in arrays.values()],
                         width=width, caption=caption)

    def at(self, row: int | None = None, column: int | None = None) -> dict[str, float]:
        """What each map says at a pixel, default the one that is asked: {name: number}."""
        row, column = (int(old) if new is None else slider.place(new) for slider, old, new
                       in zip(self.sliders, self.values, (row, column), strict=True))
        return {name: numbers[row * self.shape[1] + column]
                for name, numbers in zip(self.names, self.maps, strict=True)}

    def show(self, row: int, column: int) -> dict[str, float]:
        """Ask another pixel; returns what each map says there.  IndexError beyond the maps."""
        self.values = [slider.place(k) for slider, k in zip(self.sliders, (row, column))]
        return self.at()

    def describe(self) -> str:
        """What the maps say at the pixel that is asked."""
        row, column = self.values
        said = ", ".join(f"{name} {number:.12g}" for name, number in self.at().items())
        return f"Row {row}, column {column}: {said}"

    def pictures(self) -> list[np.ndarray]:
        """The maps in grey, the pixel that is asked in colour."""
        found = []
        for numbers in self.maps:
            grey = 255 * np.reshape(numbers, self.shape) / max(1, *numbers)
            picture = np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)
            picture[tuple(self.values)] = MARK
            found.append(picture)
        return found


def _numbers(name, map_):
    """A map as float64 (H, W) to three digits; ValueError where it is none."""
    array = np.asarray(map_.detach().cpu() if isinstance(map_, torch.Tensor) else map_, float)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}: a map is one picture (H, W), so take "
                         "one image of a batch, and one channel")
    if not (np.isfinite(array).all() and array.min() >= 0):
        raise ValueError(f"{name} holds numbers below 0, or none at all (NaN, infinity): a map's "
                         "are finite and at least 0, so give chances, or shift them")
    return array.round(3) + 0.0  # no -0
