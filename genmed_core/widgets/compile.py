"""A trained decoder becomes a program for the browser: operations over one block of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from genmed_core.widgets.twin import TWINS

MAX_WEIGHTS = 1_000_000  # float16, so 2 MB; a page carries them as text, a third larger
FLOAT16_MAX = 65504
OUTPUTS = ("logits", "tanh", "unit")


class Program(NamedTuple):
    """A decoder ready for the browser: operations with offsets into one float16 block."""

    ops: list[dict]
    weights: np.ndarray  # float16 (n,)
    inputs: int
    shape: tuple[int, int]  # height, width


class Compiler:
    """Follows the shape of one picture through the layers and writes down the operations."""

    def __init__(self, inputs: int) -> None:
        self.shape: tuple[int, ...] = (inputs,)
        self.ops: list[dict] = []
        self.blocks: list[np.ndarray] = []
        self.length = 0

    def store(self, tensor: torch.Tensor, layer: nn.Module) -> int:
        """Append a layer's tensor to the weights and return where it starts."""
        flat = tensor.detach().cpu().double().reshape(-1).numpy()
        if not np.isfinite(flat).all():
            raise ValueError(f"a weight of {layer} is not finite: did training diverge?")
        largest = np.abs(flat).max(initial=0)
        if largest > FLOAT16_MAX:
            raise ValueError(f"a weight of {layer} is {largest:.3g}, beyond float16's "
                             f"{FLOAT16_MAX}: train with weight decay or a smaller learning rate")
        start = self.length
        self.length += flat.size
        if self.length > MAX_WEIGHTS:
            raise ValueError(f"the decoder has more than {MAX_WEIGHTS:,} weights, too many for one "
                             "page: show a narrower one, or precompute pictures for FrameSlider")
        self.blocks.append(flat.astype(np.float16))
        return start

    def store_bias(self, bias: torch.Tensor | None, size: int, layer: nn.Module) -> int:
        """The same for a bias, which is zero where the layer has none."""
        return self.store(torch.zeros(size) if bias is None else bias, layer)

    def add(self, op: str, shape: tuple[int, ...] | None = None, **settings: Any) -> None:
        """Write down one operation, and the shape that it leaves (None: as it was)."""
        self.ops.append({"op": op, **settings})
        if shape is not None:
            self.shape = tuple(shape)

    def expect_image(self, layer: nn.Module) -> tuple[int, int, int]:
        """The shape (C, H, W) that a layer over images gets; ValueError where it gets a vector."""
        if len(self.shape) != 3:
            raise ValueError(f"{type(layer).__name__} needs a (channels, height, width) input but "
                             f"gets {self.shape}: put an nn.Unflatten before it")
        return self.shape

    def expect_channels(self, layer: nn.Module, channels: int) -> None:
        """ValueError unless the layer gets as many channels as it was made for."""
        if self.shape[0] != channels:
            raise ValueError(f"{layer} gets {self.shape[0]} channels")


COMPILERS: dict[type[nn.Module], Callable[[Compiler, Any], None]] = {}


def add_layer(*kinds: type[nn.Module], compile: Callable[[Compiler, Any], None],
              **twins: Callable) -> None:
    """Teach the compiler a layer.

    kinds: the modules; compile(compiler, layer) writes the layer down as operations.  Each further
    keyword names an operation and gives its twin in torch, twin(op, weights, x) -> y, which
    computes what OPS[name] in widgets.js does.
    """
    COMPILERS.update(dict.fromkeys(kinds, compile))
    TWINS.update(twins)


def flatten(decoder: Any) -> list:
    """A decoder's layers in order, out of nested nn.Sequential and lists."""
    if isinstance(decoder, (nn.Sequential, nn.ModuleList, list, tuple)):
        return [layer for child in decoder for layer in flatten(child)]
    return [decoder]


def compile_decoder(decoder: nn.Module | list, *, inputs: int | None = None,
                    output: str = "auto") -> Program:
    """Turn a trained decoder into a `Program` that runs in the browser.

    decoder: nn.Sequential (nested or not) or list of layers, from a vector (B, inputs) to one grey
    picture, (B, H*W) of a square picture or (B, 1, H, W).  output: "logits" (a sigmoid is applied),
    "tanh" (-1..1 is mapped to 0..1), "unit" (already 0..1); "auto" reads it off the last layer.
    Layers run as in evaluation, whatever mode the decoder is in.
    Raises ValueError on a layer, a shape or a size that the browser cannot take, and says what it
    can.
    """
    layers = flatten(decoder)
    if not layers:
        raise ValueError("the decoder has no layers")
    if inputs is None and not isinstance(layers[0], nn.Linear):
        raise ValueError("the decoder does not begin with nn.Linear: pass z0, for the code's size")
    inputs = layers[0].in_features if inputs is None else inputs
    compiler = Compiler(inputs)
    for layer in layers:
        _compile_layer(compiler, layer)
    _finish(compiler, layers[-1], output)
    weights = np.concatenate(compiler.blocks or [np.zeros(0, np.float16)])
    return Program(compiler.ops, weights, inputs, _picture_shape(compiler.shape))


def _compile_layer(compiler, layer):
    if type(layer) not in COMPILERS:
        known = ", ".join(kind.__name__ for kind in COMPILERS)
        raise ValueError(f"{type(layer).__name__} does not run in the browser; these do: {known}. "
                         "Pass a decoder of them as an nn.Sequential or a list")
    COMPILERS[type(layer)](compiler, layer)
    if min(compiler.shape) < 1:
        raise ValueError(f"{layer} leaves nothing of the picture: its output is {compiler.shape}")


def _finish(compiler, last, output):
    """Bring the last layer's output to the scale 0..1."""
    if output not in ("auto", *OUTPUTS):
        raise ValueError(f"output must be 'auto', 'logits', 'tanh' or 'unit', not {output!r}")
    if output == "auto":
        output = {nn.Sigmoid: "unit", nn.Tanh: "tanh"}.get(type(last), "logits")
    if output == "logits":
        compiler.add("sigmoid")
    if output == "tanh":
        compiler.add("half")


def _picture_shape(shape):
    side = round(shape[0] ** 0.5)
    if len(shape) == 1 and side**2 == shape[0]:
        return side, side
    if len(shape) == 3 and shape[0] == 1:
        return shape[1], shape[2]
    raise ValueError(f"the decoder ends in shape {shape}, not in one grey picture "
                     "(1, height, width)")
