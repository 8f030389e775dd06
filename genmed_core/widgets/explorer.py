"""Sliders over the code of a trained decoder, which itself runs in the browser."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from torch import nn

from genmed_core.widgets.compile import compile_decoder
from genmed_core.widgets.panel import HERE, Panel, Slider, positive

MAX_SLIDERS = 10
ENGINE = (HERE / "engine.js").read_text(encoding="utf-8")


def _vector(name: str, values: Any) -> list[float]:
    """A code as a list of numbers; ValueError where one is not finite."""
    numbers = [float(v) for v in torch.as_tensor(values).detach().cpu().flatten()]
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be finite numbers, and at least one, not {numbers}")
    return numbers


class Labels(NamedTuple):
    """What a label adds to the code: vectors (K, d'), how they join it, and the classes' slider."""

    vectors: torch.Tensor
    how: str  # "add" or "concat"
    slider: Slider

    @property
    def width(self) -> int:
        """How many inputs of the decoder are the label's own."""
        return self.vectors.shape[1] if self.how == "concat" else 0


def _labels(n_classes, class_names, embedding, join) -> Labels | None:
    """Settle what the label adds; None for a decoder without one."""
    if embedding is None:
        if join == "add":
            raise ValueError("join='add' needs an embedding as wide as the code")
        if n_classes is None and class_names is None:
            return None
        count = len(class_names) if n_classes is None else int(n_classes)
        vectors, join = torch.eye(count), "concat"
    else:
        weight = embedding.weight if isinstance(embedding, nn.Embedding) else embedding
        vectors, join = torch.as_tensor(weight).detach().cpu().float(), join or "add"
    if join not in ("add", "concat"):
        raise ValueError(f"join must be 'add' or 'concat', not {join!r}")
    if vectors.dim() != 2 or len(vectors) == 0 or not vectors.isfinite().all():
        raise ValueError("the labels must be a finite matrix with a row a class, not of shape "
                         f"{tuple(vectors.shape)}")
    if n_classes not in (None, len(vectors)):
        raise ValueError(f"n_classes={n_classes} beside an embedding of {len(vectors)} classes: "
                         "leave n_classes out")
    names = list(range(len(vectors)) if class_names is None else class_names)
    if len(names) != len(vectors):
        raise ValueError(f"{len(names)} class names for {len(vectors)} classes")
    return Labels(vectors, join, Slider.of("class", names))


def _limits(z_range: float | tuple[float, float], step: float) -> tuple[float, float]:
    """The ends of the sliders; ValueError where no step fits between them."""
    positive(step=step)
    if isinstance(z_range, Real):
        positive(z_range=z_range)
        z_range = (-z_range, z_range)
    low, high = (float(end) for end in z_range)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"z_range must be a number over 0 or a pair (low, high), not {z_range}")
    if step > high - low:
        raise ValueError(f"step={step} is larger than the sliders' range, {low:g} to {high:g}")
    return low, high


def _dimensions(sliders: Iterable[int] | None, size: int) -> list[int]:
    """Which coordinates get a slider."""
    if sliders is None:
        return list(range(min(size, MAX_SLIDERS)))
    dims = [int(dim) for dim in sliders]
    if len(dims) > MAX_SLIDERS:
        raise ValueError(f"sliders names {len(dims)} coordinates, and {MAX_SLIDERS} fit")
    if len(set(dims)) != len(dims):
        raise ValueError(f"sliders={dims} names a coordinate twice")
    beyond = [dim for dim in dims if not 0 <= dim < size]
    if beyond:
        raise ValueError(f"sliders={beyond} is beyond a code of {size} numbers, 0 to {size - 1}")
    return dims


def _reaching(name, low, high, step, value):
    """A slider from low to high, or as far beyond, in whole steps, as its start lies."""
    low -= step * max(0, math.ceil((low - value) / step - 1e-6))
    high += step * max(0, math.ceil((value - high) / step - 1e-6))
    return Slider(name, round(low, 10), round(high, 10), float(step))


class LatentExplorer(Panel):
    """Sliders over the coordinates of z, beside the picture that the trained decoder makes of them.

    decoder: nn.Sequential or list of layers from (B, d) to one grey picture; see `compile_decoder`
    for `output` and for what runs (at most MAX_BYTES of weights).  z0 (d,): where
    to start, default 0.  z_range: sliders run from -z_range to z_range, or a pair (low, high).
    sliders: which coordinates get one, default the first MAX_SLIDERS; `names` labels them, default
    z[0], z[1], ...  Sliders move by `step`, and the coordinates they hold are rounded to it: what
    they say is what is drawn.  A conditional decoder takes a label y: `embedding` (K, d') is added
    to z (join="add") or set behind it ("concat"); with n_classes or class_names alone the label
    goes in as a one-hot vector, set behind z.  int8: half the bytes of float16; the decoders of
    chapters 1 to 5 would move by 0.15 to 0.5 grey levels of 255 on average, one pixel in a thousand
    by over 4 to 10, 26 at most.  ValueError on settings that do not fit.
    """

    _esm = Panel._esm + ENGINE + (HERE / "explorer.js").read_text(encoding="utf-8")
    PLACE = ("values", "base")
    view = traitlets.Unicode("decoder").tag(sync=True)
    graph = traitlets.Dict().tag(sync=True)
    weights = traitlets.Bytes().tag(sync=True)
    shape = traitlets.List().tag(sync=True)
    base = traitlets.List().tag(sync=True)
    dims = traitlets.List().tag(sync=True)
    gaussian = traitlets.Bool(True).tag(sync=True)
    embedding = traitlets.List().tag(sync=True)
    how = traitlets.Unicode().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)

    def __init__(self, decoder: nn.Module | list, *, z0: Any = None,
                 z_range: float | tuple[float, float] = 3.0, n_classes: int | None = None,
                 class_names: Sequence | None = None, embedding: Any = None,
                 join: str | None = None, label: int = 0, size: int = 168,
                 sliders: Iterable[int] | None = None, names: Sequence[str] | None = None,
                 step: float = 0.05, output: str = "auto", int8: bool = False, caption: str = "",
                 alt: str = "Picture decoded from") -> None:
        positive(size=size)
        labels = _labels(n_classes, class_names, embedding, join)
        self.program, code = _start(decoder, z0, labels, output, int8)
        dims = _dimensions(sliders, len(code))
        axes = _axes(names, dims, code, _limits(z_range, step), step)
        values = [axis.nearest(code[dim]) for axis, dim in zip(axes, dims, strict=True)]
        self.labels = labels
        if labels is not None:
            axes, values = [labels.slider, *axes], [labels.slider.place(label), *values]
        elif label:
            raise ValueError(f"label={label}, but there are no classes: pass n_classes, "
                             "class_names or embedding")
        super().__init__(
            sliders=axes, values=values, base=code, dims=dims, caption=caption, width=size, alt=alt,
            gaussian=isinstance(z_range, Real), graph=self.program.graph,
            weights=self.program.weights, shape=self.program.shape()[1:],
            how=labels.how if labels else "add",
            embedding=labels.vectors.tolist() if labels else [])

    @classmethod
    def between(cls, decoder: nn.Module | list, a: torch.Tensor, b: torch.Tensor, *,
                name: str = "t", embedding: Any = None, n_classes: int | None = None,
                class_names: Sequence | None = None, join: str | None = None,
                **settings: Any) -> LatentExplorer:
        """One slider that walks in a straight line from code a (t = 0) to code b (t = 1).

        a, b (d,).  A conditional decoder's label is joined to the code on the line, as above.
        """
        a, b = torch.tensor(_vector("a", a)), torch.tensor(_vector("b", b))
        if a.shape != b.shape:
            raise ValueError(f"a has {len(a)} numbers and b has {len(b)}: they must be codes of "
                             "one decoder")
        labels = _labels(n_classes, class_names, embedding, join)
        if labels is not None:
            settings |= {"embedding": labels.vectors, "join": "concat",
                         "class_names": labels.slider.labels}
        return cls([_line(a, b, labels), decoder], z0=[0.0], z_range=(0.0, 1.0), names=[name],
                   step=0.01, **settings)

    @property
    def z(self) -> torch.Tensor:
        """The code now shown, (d,)."""
        z = torch.tensor(self.base)
        z[self.dims] = torch.tensor(self.values[len(self.values) - len(self.dims):])
        return z

    @property
    def y(self) -> int | None:
        """The label now shown, or None for a decoder without one."""
        return None if self.labels is None else int(self.values[0])

    def decode(self, z: Any = None, y: Any = None) -> torch.Tensor:
        """What the browser draws at codes z and labels y, by default the sliders'.

        z (d,) or (B, d); y a label or (B,) of them -> (H, W) or (B, H, W) in [0, 1].
        ValueError on a code of another length, or a label that no class has.
        """
        z = self.z if z is None else torch.as_tensor(z, dtype=torch.float32).detach().cpu()
        if z.dim() not in (1, 2) or z.shape[-1] != len(self.base):
            raise ValueError(f"z must be ({len(self.base)},) or (B, {len(self.base)}), not "
                             f"{tuple(z.shape)}")
        codes = z.reshape(-1, len(self.base))
        if y is not None:
            y = self._checked(y)
        if self.labels is not None:
            codes = self._joined(codes, self.y if y is None else y)
        pictures = self.program.run(z=codes)[0].clamp(0, 1)
        return pictures[0] if z.dim() == 1 else pictures

    def _checked(self, y):
        y = torch.as_tensor(y)
        if self.labels is None:
            raise ValueError("this decoder has no classes: leave y out")
        count = len(self.labels.vectors)
        if y.is_floating_point() or y.min() < 0 or y.max() >= count:
            raise ValueError(f"y must be whole numbers from 0 to {count - 1}, not {y.tolist()}")
        return y.cpu()

    def _joined(self, codes, y):
        vectors = self.labels.vectors[y].expand(len(codes), -1)
        return codes + vectors if self.how == "add" else torch.cat([codes, vectors], 1)

    def show(self, z: Any = None, y: int | None = None) -> torch.Tensor:
        """Move the sliders to code z (d,), to the nearest step, and label y; returns the picture.

        ValueError where a coordinate lies beyond its slider.
        """
        values = list(self.values)
        if y is not None:
            values[0] = int(self._checked(y))
        if z is not None:
            z = _vector("z", z)
            if len(z) != len(self.base):
                raise ValueError(f"z has {len(z)} numbers, and a code {len(self.base)}")
            first = len(values) - len(self.dims)
            values[first:] = [slider.nearest(z[dim]) for slider, dim
                              in zip(self.sliders[first:], self.dims, strict=True)]
            self.base = z
        self.values = values
        return self.decode()

    def pictures(self) -> list[np.ndarray]:
        """What is shown now, uint8 (H, W)."""
        return [(255 * self.decode()).round().byte().numpy()]

    def describe(self) -> str:
        """The picture in words: its code to one decimal, and its class."""
        moved = ", ".join(f"{value:.1f}" for value in self.z[self.dims].tolist())
        of_class = f", class {self.labels.slider.labels[self.y]}" if self.labels else ""
        return f"{self.alt} z = ({moved}){of_class}"


def _start(decoder, z0, labels, output, int8):
    """The program, and the code to start from: z0, or zeros as many as the decoder takes."""
    extra = labels.width if labels else 0
    code = None if z0 is None else _vector("z0", z0)
    inputs = None if code is None else len(code) + extra
    program = compile_decoder(decoder, inputs=inputs, output=output, int8=int8)
    (_, width) = program.shape("z")
    if width <= extra:
        raise ValueError(f"the decoder takes {width} numbers, and the label alone has {extra}")
    code = [0.0] * (width - extra) if code is None else code
    if labels and labels.how == "add" and labels.vectors.shape[1] != len(code):
        raise ValueError(f"an embedding of width {labels.vectors.shape[1]} cannot be added to a "
                         f"code of {len(code)}: use join='concat'")
    return program, code


def _axes(names, dims, code, limits, step):
    """A slider for each coordinate that gets one."""
    names = [f"z[{dim}]" for dim in dims] if names is None else [str(name) for name in names]
    if len(names) != len(dims):
        raise ValueError(f"{len(names)} names for {len(dims)} sliders")
    return [_reaching(name, *limits, step, code[dim])
            for name, dim in zip(names, dims, strict=True)]


def _line(a, b, labels):
    """The layer in front of a decoder that takes (t, label) to the code on the line, and label."""
    d, extra = len(a), labels.vectors.shape[1] if labels else 0
    added = labels is not None and labels.how == "add"
    if added and extra != d:
        raise ValueError(f"an embedding of width {extra} cannot be added to a code of {d}: use "
                         "join='concat'")
    line = nn.Linear(1 + extra, d if added else d + extra)
    with torch.no_grad():
        line.weight.zero_()
        line.bias.zero_()
        line.bias[:d] = a
        line.weight[:d, 0] = b - a
        if extra:
            line.weight[-extra:, 1:] = torch.eye(extra)
    return line
