"""Are samples nearer to training images than to held-out ones, more often than chance has it?"""

import torch

from genmed_core.audit.attacks import Neighbours, attack
from genmed_core.audit.intervals import equal_share, median_ratio
from genmed_core.audit.questions import BARS, Finding, above, question, shown


@attack(ratio_train="distance to train / held-out's", closer="closer to train (honest 0.5)",
        ratio_held_out="distance to held-out / train's")
def closer(neighbours: Neighbours) -> dict:
    """Shares nearest to each real set, as with equal set sizes, and ratios of distances."""
    n, m, rng = len(neighbours.train), len(neighbours.held), neighbours.rng
    _, nearest = neighbours.fake_to_pool
    own = n + torch.arange(m)
    _, of_held = neighbours.search(neighbours.held, neighbours.pool, own)
    to_train, to_held = neighbours.fake_to_train[0], neighbours.fake_to_held[0]
    return {
        "closer": equal_share(nearest < n, nearest, n / m, rng),
        "control": equal_share(of_held >= n, of_held, (m - 1) / n, rng),
        "ratio_train": median_ratio(to_train, neighbours.held_to_train[0], rng),
        "ratio_held_out": median_ratio(to_held, neighbours.train_to_held[0], rng)}


@question("Are they closer to training images?", good="no", bad="yes")
def _closer(report):
    found, ratio = report["privacy"]["closer"], report["privacy"]["ratio_train"]
    because = f"share {shown(found)}, honest 0.5; distance ratio {shown(ratio)}"
    return Finding(above(found, BARS["closer"], 0.65), because, f"above {BARS['closer']} is")
