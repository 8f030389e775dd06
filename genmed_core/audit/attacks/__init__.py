"""Attacks on privacy. Each file here is one: what it measures, and the question that it answers."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from genmed_core.audit.neighbours import nearest

Nearest = tuple[np.ndarray, np.ndarray]  # distances (N,) and indices (N,)


class Neighbours:
    """Who is nearest to whom, from the fingerprints of all sets; searched when first asked."""

    def __init__(self, train: torch.Tensor, held: torch.Tensor, fake: torch.Tensor,
                 rng: np.random.Generator, most: int = 3000):
        some = train[rng.permutation(len(train))[:most]]  # where all would take too long
        # who is nearer is asked in one search of all real images: two would look less closely at
        # the larger set
        self.sets = {"train": train, "held-out": held, "synthetic": fake, "some": some,
                     "real": torch.cat([train, held])}
        self.rng = rng
        self.found: dict[tuple[str, str], Nearest] = {}

    def nearest(self, of: str, among: str) -> Nearest:
        """The nearest image of one set for each of another."""
        if (of, among) not in self.found:
            self.found[of, among] = search(self.sets[of], self.sets[among])
        return self.found[of, among]


def search(queries: torch.Tensor, references: torch.Tensor,
           own: torch.Tensor | None = None) -> Nearest:
    """As `nearest`, in numpy."""
    distance, index = nearest(queries, references, own=own)
    return distance.numpy(), index.numpy()


Run = Callable[[Neighbours], dict]


class Attack(NamedTuple):
    """An attack: Neighbours -> figures for the report; which of them its table shows, in words."""

    run: Run
    headings: dict[str, str]


ATTACKS: list[Attack] = []


def attack(**headings: str) -> Callable[[Run], Run]:
    """Adds the function below it to the attacks of every audit."""
    def add(run: Run) -> Run:
        ATTACKS.append(Attack(run, headings))
        return run

    return add


def privacy(train: torch.Tensor, held: torch.Tensor, fake: torch.Tensor,
            rng: np.random.Generator, most: int = 3000) -> dict:
    """What every attack finds, from the fingerprints (N, 32, 32) of the three sets."""
    neighbours = Neighbours(train, held, fake, rng, most)
    found: dict = {}
    for each in ATTACKS:
        found |= each.run(neighbours)
    return found
