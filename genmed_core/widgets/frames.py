"""Sliders over ready-made pictures, each stored once as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from PIL import Image

from genmed_core.widgets.panel import Panel, Slider, positive

MAX_FRAME_BYTES = 1_500_000
COLOURS = 64  # of a picture in colour: a plot's, with its soft edges
MAX_FLOAT = 20  # no picture on the scale 0..1 gets there, however noisy


def _as_bytes(frame: np.ndarray) -> np.ndarray:
    """Grey levels 0..255 as uint8, from integers 0..255, booleans or floats on the scale 0..1."""
    if frame.dtype == np.uint8:
        return frame
    if frame.dtype == bool:
        return 255 * frame.astype(np.uint8)
    if not np.isfinite(frame).all():
        raise ValueError("a frame holds NaN or infinity")
    low, high = frame.min(), frame.max()
    if np.issubdtype(frame.dtype, np.integer):
        if low < 0 or high > 255:
            raise ValueError(f"a frame of whole numbers must hold 0 to 255, not {low} to {high}: "
                             "pass it as floats between 0 and 1")
        return frame.astype(np.uint8)
    if max(-low, high) > MAX_FLOAT:
        raise ValueError(f"a frame of floats is on the scale 0 to 1, and this one holds {low:g} to "
                         f"{high:g}: divide it by 255, or pass uint8")
    return np.round(255 * np.clip(frame.astype(np.float64), 0, 1)).astype(np.uint8)


def _picture(frame: Any) -> np.ndarray:
    """One frame as uint8 (H, W) or (H, W, 3)."""
    if isinstance(frame, torch.Tensor):
        frame = frame.detach().cpu()
        frame = frame.float().numpy() if frame.is_floating_point() else frame.numpy()
    frame = np.asarray(frame)
    if frame.ndim == 3 and frame.shape[0] == 1:
        frame = frame[0]
    if frame.ndim != 2 and frame.shape[2:] != (3,):
        raise ValueError(f"a frame must be (H, W), (1, H, W) or (H, W, 3), not {frame.shape}")
    if frame.size == 0:
        raise ValueError(f"a frame of shape {frame.shape} holds no pixel")
    return _as_bytes(frame)


def _png(frame: Any) -> bytes:
    """One frame as PNG, one in colour in COLOURS colours at most."""
    if isinstance(frame, bytes):
        picture = Image.open(io.BytesIO(frame))
        if picture.mode not in ("RGB", "RGBA"):
            return frame
    else:
        picture = Image.fromarray(_picture(frame))
    file = io.BytesIO()
    _few_colours(picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def _few_colours(picture: Image.Image) -> Image.Image:
    """The same picture with a palette, where its colours fit into one or are brought into one."""
    if picture.mode == "L":
        return picture
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


def _encode(frames: Iterable) -> tuple[list[bytes], int]:
    """Frames, or lists of frames to show side by side -> PNGs in order, and how many a step."""
    steps = [list(frame) if isinstance(frame, (list, tuple)) else [frame] for frame in frames]
    if not steps or not steps[0] or len({len(step) for step in steps}) != 1:
        raise ValueError("frames must not be empty, and every step must have the same number of "
                         "pictures")
    for side_by_side in zip(*steps, strict=True):
        shapes = {np.shape(f)[-2:] if np.shape(f)[-1:] != (3,) else np.shape(f)[:2]
                  for f in side_by_side if not isinstance(f, bytes)}
        if len(shapes) > 1:
            raise ValueError(f"the frames of one slider must be of one size, not {sorted(shapes)}")
    pngs = [_png(frame) for step in steps for frame in step]
    size = sum(map(len, pngs))
    if size > MAX_FRAME_BYTES:
        raise ValueError(f"{len(pngs)} frames take {size / 1e6:.1f} MB, and one widget may add "
                         f"{MAX_FRAME_BYTES / 1e6} MB to a page: keep fewer frames, or make them "
                         "smaller")
    return pngs, len(steps[0])


class Frames(Panel):
    """Ready-made pictures behind any number of sliders over labels.

    frames: one a combination of places, the last slider's places next to each other.  A frame is
    (H, W), (1, H, W) or (H, W, 3), bytes 0..255 of any integer type or floats on the scale 0..1
    (clipped), or the bytes of a PNG; or a list of such pictures, shown side by side under
    `captions`.  Pictures in colour are kept in COLOURS colours.
    start: where each slider stands, counted as in a list.  width of one picture in px.
    play: milliseconds a step where a button moves the first slider by itself, 0 for no button.
    ValueError where the frames take over MAX_FRAME_BYTES as PNG.
    """

    view = traitlets.Unicode("frames").tag(sync=True)
    frames = traitlets.List().tag(sync=True)  # each picture once
    order = traitlets.List().tag(sync=True)  # which of them stands at each place and column
    columns = traitlets.Int(1).tag(sync=True)
    captions = traitlets.List().tag(sync=True)
    interval = traitlets.Int(0).tag(sync=True)

    def __init__(self, frames: Iterable, sliders: Sequence[Slider], *, start: Sequence[int],
                 captions: Sequence[str] | None = None, width: int = 168, caption: str = "",
                 play: int = 0) -> None:
        positive(width=width)
        pngs, columns = _encode(frames)
        once = list(dict.fromkeys(pngs))
        places = math.prod(len(slider.labels) for slider in sliders)
        if len(pngs) // columns != places:
            raise ValueError(f"the sliders have {places} places, and there are "
                             f"{len(pngs) // columns} frames")
        captions = [str(c) for c in captions or []]
        if captions and len(captions) != columns:
            raise ValueError(f"{len(captions)} captions for {columns} pictures side by side")
        values = [slider.place(k) for slider, k in zip(sliders, start, strict=True)]
        super().__init__(sliders=list(sliders), values=values, frames=once, columns=columns,
                         order=[once.index(png) for png in pngs], captions=captions,
                         width=width, caption=caption, interval=play)

    @property
    def nbytes(self) -> int:
        """How much the frames add to a page, before its base64."""
        return sum(map(len, self.frames))

    def at(self, *places: int | None) -> np.ndarray | list[np.ndarray]:
        """The picture at one place a slider, None for where it stands; a list where several are."""
        pictures = [np.array(picture) for picture in self._opened(*places)]
        return pictures[0] if self.columns == 1 else pictures

    def move(self, *places: int) -> np.ndarray | list[np.ndarray]:
        """Move every slider; returns the picture there."""
        self.values = [slider.place(k) for slider, k in zip(self.sliders, places, strict=True)]
        return self.at(*places)

    def pictures(self) -> list[np.ndarray]:
        """What is shown now, colours and transparency of a PNG turned to grey or RGB."""
        opened = self._opened(*[None] * len(self.sliders))
        return [np.array(p if p.mode in ("L", "RGB") else p.convert("RGB")) for p in opened]

    def _opened(self, *places):
        index = 0
        for slider, place, value in zip(self.sliders, places, self.values, strict=True):
            place = int(value) if place is None else slider.place(place)
            index = index * len(slider.labels) + place
        shown = self.order[index * self.columns:(index + 1) * self.columns]
        opened = [Image.open(io.BytesIO(self.frames[k])) for k in shown]
        return [p.convert("RGB") if p.mode == "P" else p for p in opened]


class FrameSlider(Frames):
    """A slider, with Play, over ready-made pictures: noise steps, a path of samples, a run each.

    frames: one a step, as in `Frames`.  labels: what the slider says at each step, default its
    number.  interval: milliseconds a step while it plays.  ValueError as in `Frames`.
    """

    def __init__(self, frames: Iterable, *, labels: Iterable | None = None,
                 description: str = "step", start: int = 0, play: bool = True, interval: int = 150,
                 width: int = 168, captions: Sequence[str] | None = None,
                 caption: str = "") -> None:
        positive(interval=interval)
        frames = list(frames)
        labels = list(range(len(frames)) if labels is None else labels)
        if len(labels) != len(frames):
            raise ValueError(f"{len(labels)} labels for {len(frames)} frames")
        super().__init__(frames, [Slider.of(description, labels)], start=[start],
                         captions=captions, width=width, caption=caption,
                         play=interval if play else 0)

    @property
    def slider(self) -> Slider:
        """The one slider."""
        return self.sliders[0]

    def frame(self, step: int | None = None) -> np.ndarray | list[np.ndarray]:
        """The picture at a step, default the slider's, as stored; a list where several are."""
        return self.at(step)

    def show(self, step: int) -> np.ndarray | list[np.ndarray]:
        """Move the slider to a step; returns the picture there.  IndexError beyond the last."""
        return self.move(step)


class GridSlider(Frames):
    """Two sliders that pick one picture out of a table: class by style, beta by coordinate.

    frames: R rows of C pictures, each as in `Frames`, and with its budget.  rows, columns: what the
    two sliders say at each place; descriptions: the sliders' names.
    """

    def __init__(self, frames: Iterable, *, rows: Iterable | None = None,
                 columns: Iterable | None = None, descriptions: Sequence[str] = ("row", "column"),
                 start: Sequence[int] = (0, 0), width: int = 168, caption: str = "") -> None:
        table = [list(row) for row in frames]
        if not table or not table[0] or len({len(row) for row in table}) != 1:
            raise ValueError("frames must be rows of equal length, and at least one")
        wanted = [len(table), len(table[0])]
        names = [list(range(n) if given is None else given)
                 for given, n in zip((rows, columns), wanted, strict=True)]
        given = [len(axis) for axis in names]
        if given != wanted:
            raise ValueError(f"names for {given} rows and columns, but frames for {wanted}")
        sliders = [Slider.of(name, axis) for name, axis in zip(descriptions, names, strict=True)]
        super().__init__([frame for row in table for frame in row], sliders, start=start,
                         width=width, caption=caption)

    def frame(self, row: int | None = None,
              column: int | None = None) -> np.ndarray | list[np.ndarray]:
        """The picture in a row and column, default the sliders', as stored."""
        return self.at(row, column)

    def show(self, row: int, column: int) -> np.ndarray | list[np.ndarray]:
        """Move both sliders; returns the picture there.  IndexError beyond the table."""
        return self.move(row, column)
