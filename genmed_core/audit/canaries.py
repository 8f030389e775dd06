"""Planted copies of training images, so that a pass says how blind it was.

Copies of a known kind are put among a copy of the samples, and the search for copies is asked about
them as it was about the samples, with the same bars. What it sees of them is what it would have
seen of real ones. Add a kind: an entry of KINDS.
"""

from collections.abc import Callable

import torch

from genmed_core.audit.attacks import Neighbours
from genmed_core.audit.attacks.copies import is_copy
from genmed_core.audit.intervals import share
from genmed_core.audit.views import exposed, no_pose, placed, random_pose, softened

PLANTED = 40  # of each kind, of as many different training images
Kind = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def _turned(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    signs = 2.0 * torch.randint(0, 2, (len(x),), generator=generator) - 1
    return placed(x, no_pose(len(x))._replace(turn=signs * 12))


def _zoomed(factor: float) -> Kind:
    return lambda x, _: placed(x, no_pose(len(x))._replace(zoom=torch.full((len(x),), factor)))


def _posed(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return placed(x, random_pose(len(x), generator, turn=12, zoom=1.15, shift=3 / 64))


KINDS: dict[str, Kind] = {
    "verbatim": lambda x, _: x,
    "mirrored": lambda x, _: x.flip(-1),
    "shifted": lambda x, g: placed(x, random_pose(len(x), g, turn=0, zoom=1, mirror=0)),
    "contrast": lambda x, g: exposed(x, g, noise=0),
    "noisy": lambda x, g: x + 0.05 * torch.randn(x.shape, generator=g),
    "softened": lambda x, _: softened(x, 1.0),
    "turned by 12 degrees": _turned,
    "enlarged by 15 %": _zoomed(1.15),
    "made smaller by 13 %": _zoomed(1 / 1.15),
    "cropped by 25 %": _zoomed(4 / 3),
    "turned, zoomed, shifted, mirrored": _posed,
    "all of these, and contrast": lambda x, g: exposed(_posed(x, g), g),
    "half and half with another": lambda x, _: 0.5 * (x + x.roll(1, 0)),
}


def planted(kind: str, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Copies of images, both uint8 (N, 1, 64, 64), of one kind of KINDS."""
    generator = torch.Generator().manual_seed(seed)
    x = KINDS[kind](images.float() / 255, generator)
    return (255 * x.clamp(0, 1)).round().to(torch.uint8)


def canaries(neighbours: Neighbours, bars: list[float], each: int = PLANTED) -> dict[str, dict]:
    """{kind: {"planted", "found", and the share found with its exact interval}}.

    A canary counts as found where it is called a copy, and of its own original.
    """
    train = neighbours.images["train"]
    chosen = torch.from_numpy(neighbours.rng.permutation(len(train))[:each])
    limits, report = torch.tensor(bars).numpy(), {}
    for number, kind in enumerate(KINDS):
        match = neighbours.match(planted(kind, train[chosen], seed=number), "train")
        right = match.which == chosen.numpy()
        if kind == "half and half with another":
            right |= match.which == chosen.roll(1).numpy()
        found = int((is_copy(match, limits) & right).sum())
        report[kind] = {"planted": len(chosen), "found": found} | share(found, len(chosen))
    return report
