"""A wipe: one of several pictures left of an edge, the truth right of it, and the edge moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from genmed_core.widgets.frames import Frames, _picture
from genmed_core.widgets.panel import Slider


class Wipe(Frames):
    """Two sliders: which picture stands left of the edge, and where the edge stands.

    pictures: {name: picture}, each (H, W) or (1, H, W) as in `Frames`; truth: what stands right of
    the edge, of the same size; places: how many places the edge has, from all truth to all picture.
    ValueError where there is no picture, where sizes differ, or for fewer than two places.
    """

    def __init__(self, pictures: Mapping[str, Any], truth: Any, *, places: int = 9,
                 width: int = 320, caption: str = "") -> None:
        if not pictures or places < 2:
            raise ValueError(f"{len(pictures)} pictures and {places} places: give one picture or "
                             "more, and two places or more")
        behind = _picture(truth)
        front = {name: _picture(picture) for name, picture in pictures.items()}
        others = {name: picture.shape for name, picture in front.items()
                  if picture.shape != behind.shape}
        if others:
            raise ValueError(f"the truth is {behind.shape}, and these are not: {others}")
        shares = np.linspace(0, 1, places)
        sliders = [Slider.of("left of the edge", front),
                   Slider.of("edge", [f"{share:.0%}" for share in shares])]
        frames = [wiped(picture, behind, share) for picture in front.values() for share in shares]
        super().__init__(frames, sliders, start=[0, places // 2], width=width, caption=caption)


def wiped(front: np.ndarray, behind: np.ndarray, share: float) -> np.ndarray:
    """front left of the edge, behind right of it, a white line between: all uint8 (H, W)."""
    edge = round(share * behind.shape[1])
    page = np.concatenate([front[:, :edge], behind[:, edge:]], axis=1)
    if 0 < edge < behind.shape[1]:
        page[:, edge] = 255
    return page
