"""The browser's program in torch: each operation's twin, and the run over all of them.

layers.py fills TWINS.  A test holds every twin to widgets.js, and to the layer it came from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from genmed_core.widgets.compile import Program

TWINS: dict[str, Callable[[dict, torch.Tensor, torch.Tensor], torch.Tensor]] = {}


def weight(weights: torch.Tensor, op: dict, *shape: int) -> torch.Tensor:
    """An operation's weight, of the given shape."""
    return weights[op["w"]:op["w"] + math.prod(shape)].reshape(shape)


def bias(weights: torch.Tensor, op: dict, n: int) -> torch.Tensor:
    """An operation's bias (n,)."""
    return weights[op["b"]:op["b"] + n]


def run_program(program: Program, x: torch.Tensor) -> torch.Tensor:
    """What the browser computes: x (B, inputs) -> pictures (B, H, W) in [0, 1]."""
    weights = torch.from_numpy(program.weights.astype(np.float32))
    x = x.float()
    with torch.no_grad():
        for op in program.ops:
            x = TWINS[op["op"]](op, weights, x)
    return x.reshape(-1, *program.shape).clamp(0, 1)
