"""The browser's program in torch: each operation's twin, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genmed_core.widgets.operations import TWINS

if TYPE_CHECKING:
    from genmed_core.widgets.compile import Program


def run(program: Program, **inputs: Any) -> tuple[Tensor, ...]:
    """What the browser computes: inputs by name, each (B, ...) -> each output (B, ...), float32.

    Twin of `run` in engine.js.  ValueError where an input is missing or has another shape.
    """
    shapes = {name: program.graph["registers"][k]["shape"]
              for name, k in program.graph["inputs"].items()}
    if set(inputs) != set(shapes):
        raise ValueError(f"the program's inputs are {', '.join(shapes)}, not {', '.join(inputs)}")
    values = {name: torch.as_tensor(x).detach().cpu().float() for name, x in inputs.items()}
    for name, x in values.items():
        if list(x.shape[1:]) != shapes[name][1:]:
            raise ValueError(f"{name} is {tuple(x.shape)}: the program takes "
                             f"(B, {', '.join(map(str, shapes[name][1:]))})")
    constants = unpacked(program)
    each = [run_one(program.graph, constants, dict(zip(values, parts)))
            for parts in zip(*(x.split(1) for x in values.values()), strict=True)]
    return tuple(torch.cat(parts) for parts in zip(*each))


@torch.no_grad()
def run_one(graph: dict, constants: dict[int, Tensor], inputs: dict[str, Tensor]) -> list[Tensor]:
    """One image through the program's operations, given the values of its constants."""
    values = dict(constants)
    for name, k in graph["inputs"].items():
        values[k] = inputs[name]

    def value(k: int) -> Tensor:
        register = graph["registers"][k]
        if k not in values and "view" in register:
            base, offset = register["view"]
            count = int(np.prod(register["shape"]))
            values[k] = value(base).reshape(-1)[offset:offset + count].reshape(register["shape"])
        return values[k]

    for op in graph["ops"]:
        result = TWINS[op["op"]](op, *map(value, op["in"]))
        values[op["out"]] = result.reshape(graph["registers"][op["out"]]["shape"])
    return [value(k) for k in graph["outputs"]]


def unpacked(program: Program) -> dict[int, Tensor]:
    """The constants of a program by register, float32.  Twin of `unpack` in engine.js."""
    found, at = {}, 0
    for k, register in enumerate(program.graph["registers"]):
        if "data" not in register:
            continue
        shape, kind = register["shape"], np.dtype(register["data"]).newbyteorder("<")
        count, scale = int(np.prod(shape)), np.ones(1, "<f4")
        block = register.get("block", count // (shape[0] if shape else 1))  # by default a row
        if kind == np.int8:
            scale = np.frombuffer(program.weights, "<f4", -(-count // block), at)
            at += scale.nbytes
        values = np.frombuffer(program.weights, kind, count, at)
        at += values.nbytes
        values = values.astype("<f4") * (scale.repeat(block)[:count] if len(scale) > 1 else scale)
        found[k] = torch.from_numpy(values).reshape(shape)
    return found
