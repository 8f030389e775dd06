"""Attacks on privacy. Each file here is one: what it measures, and the question that it answers."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from genmed_core.audit.alignment import Match, fit, likely, posed_codes
from genmed_core.audit.embedding import STEPS, train_embedding
from genmed_core.audit.neighbours import fingerprints, nearest

Nearest = tuple[np.ndarray, np.ndarray]  # distances (N,) and indices (N,)
SOME = 3000  # training images that are looked at where all would take too long
ALIGNED = 500  # training images that are laid over held-out ones, for a bar
EMBEDDED, POSED = 6, 3  # candidates by embedding and in poses; a nearest fingerprint is one more


class Known:
    """What is learned of the real images alone, once, for all sets of samples audited by them."""

    def __init__(self, train: torch.Tensor, held: torch.Tensor, rng: np.random.Generator, *,
                 steps: int = STEPS, tell: Callable[[float], object] = float):
        self.some = rng.permutation(len(train))[:SOME]
        # who is nearer is asked in one search of all real images: two would look less closely at
        # the larger set
        self.images = {"train": train, "held-out": held, "some": train[self.some],
                       "few": train[self.some[:ALIGNED]],
                       "real": torch.cat([train, held])}
        self.prints = {name: fingerprints(x) for name, x in self.images.items()}
        self.embedding = train_embedding(train, held, seed=int(rng.integers(2**31)), steps=steps,
                                         tell=tell)
        self.codes = {name: self.embedding(x) for name, x in self.images.items()}
        self.found: dict[tuple, Nearest] = {}
        self.matches: dict[tuple, Match] = {}
        self.posed: dict[str, torch.Tensor] = {}


class Neighbours:
    """Who is nearest to whom among all sets; searched when first asked, real sets only once."""

    def __init__(self, known: Known, fake: torch.Tensor, rng: np.random.Generator):
        self.known, self.rng, self.some = known, rng, known.some
        self.images = known.images | {"synthetic": fake}
        self.sets = known.prints | {"synthetic": fingerprints(fake)}
        self.codes = known.codes | {"synthetic": known.embedding(fake)}
        self._found: dict[tuple, Nearest] = {}
        self._matches: dict[tuple, Match] = {}

    def nearest(self, of: str, among: str) -> Nearest:
        """The nearest image of one set for each of another, by fingerprint."""
        kept = self._found if "synthetic" in (of, among) else self.known.found
        if (of, among) not in kept:
            kept[of, among] = search(self.sets[of], self.sets[among])
        return kept[of, among]

    def nearest_other(self, of: str) -> Nearest:
        """The nearest other real image of each of a set of real ones, by fingerprint."""
        if (of, "other") not in self.known.found:
            own = torch.arange(len(self.sets["real"]))
            own = {"some": torch.from_numpy(self.some), "real": own,
                   "held-out": own[len(self.sets["train"]):]}[of]
            self.known.found[of, "other"] = search(self.sets[of], self.sets["real"], own)
        return self.known.found[of, "other"]

    def embedded(self, of: str, among: str) -> Nearest:
        """The same by the learned embedding; distances are 1 - cosine."""
        alike, index = (self.codes[of] @ self.codes[among].T).max(1)
        return (1 - alike).numpy(), index.numpy()

    def matched(self, of: str, among: str) -> Match:
        """Each image of one set aligned with its candidates of another."""
        kept = self._matches if "synthetic" in (of, among) else self.known.matches
        if (of, among) not in kept:
            kept[of, among] = self.match(self.images[of], among)
        return kept[of, among]

    def match(self, images: torch.Tensor, among: str) -> Match:
        """Any images uint8 (N, 1, 64, 64) aligned with their candidates of a real set."""
        known, embedding = self.known, self.known.embedding
        k = min(EMBEDDED, len(known.codes[among]))
        if among not in known.posed:
            known.posed[among] = posed_codes(known.images[among])
        posed = likely(images, known.posed[among], POSED)
        alike = (embedding(images) @ known.codes[among].T).topk(k, 1).indices
        _, close = nearest(fingerprints(images), known.prints[among])
        return fit(images, known.images[among], torch.cat([alike, posed, close[:, None]], 1))


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


def privacy(neighbours: Neighbours) -> dict:
    """What every attack finds."""
    found: dict = {}
    for each in ATTACKS:
        found |= each.run(neighbours)
    return found
