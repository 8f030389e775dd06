"""Muon's products where bfloat16 is slow.

torch.optim.Muon makes updates orthogonal by products in bfloat16, whatever the processor. One that
emulates bfloat16 takes some thirty times as long over them as over float32, and a chapter's
training minutes in place of seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.optim import _muon

from genmed_core import runtime

NAME = "_zeropower_via_newtonschulz"  # private to torch, as the version that is pinned has it


def orthogonalized(
    grad: torch.Tensor, ns_coefficients: tuple[float, float, float], ns_steps: int, eps: float
) -> torch.Tensor:
    """Near the orthogonal matrix nearest to grad (M, N), in bfloat16: torch's function, by float32.

    Every product is taken in float32 and rounded to bfloat16, which is what a processor that has
    bfloat16 does. Newton-Schulz iterations as in Jordan et al. 2024, Muon.
    """
    a, b, c = ns_coefficients
    tall = grad.size(0) > grad.size(1)
    x = grad.T.bfloat16() if tall else grad.bfloat16()
    x = (x / x.norm().clamp(min=eps)).float()
    for _ in range(ns_steps):
        gram = (x @ x.T).bfloat16().float()
        update = torch.addmm(gram, gram, gram, beta=b, alpha=c).bfloat16().float()
        x = torch.addmm(x, update, x, beta=a).bfloat16().float()
    return (x.T if tall else x).bfloat16()


@contextlib.contextmanager
def quick_products(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """While it lasts, a Muon of CPU tensors takes its products as `orthogonalized` does.

    Changes nothing for other optimisers, and where the processor has bfloat16.
    """
    theirs = getattr(_muon, NAME, None)
    if not isinstance(optimizer, torch.optim.Muon) or theirs is None or not _emulated(optimizer):
        yield
        return
    setattr(_muon, NAME, orthogonalized)
    try:
        yield
    finally:
        setattr(_muon, NAME, theirs)


def _emulated(optimizer: torch.optim.Optimizer) -> bool:
    first = optimizer.param_groups[0]["params"][0]
    return first.device.type == "cpu" and not runtime.has_fast_bf16("cpu")
