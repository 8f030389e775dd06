"""Are samples nearer to training images than to held-out ones, more often than chance has it?"""

import torch

from genmed_core.audit.attacks import Neighbours, attack, search
from genmed_core.audit.intervals import equal_share, median_ratio
from genmed_core.audit.questions import BARS, Finding, above, question, shown


@attack(ratio_train="distance to train / held-out's", closer="closer to train (honest 0.5)",
        ratio_held_out="distance to held-out / train's")
def closer(neighbours: Neighbours) -> dict:
    """Shares nearest to each real set, as with equal set sizes, and ratios of distances."""
    sets, rng = neighbours.sets, neighbours.rng
    n, m = len(sets["train"]), len(sets["held-out"])
    _, nearest = neighbours.nearest("synthetic", "real")
    _, of_held = search(sets["held-out"], sets["real"], own=n + torch.arange(m))
    to_train, _ = neighbours.nearest("synthetic", "train")
    to_held, _ = neighbours.nearest("synthetic", "held-out")
    held_to_train, _ = neighbours.nearest("held-out", "train")
    train_to_held, _ = neighbours.nearest("some", "held-out")
    return {
        "closer": equal_share(nearest < n, nearest, n / m, rng),
        "control": equal_share(of_held >= n, of_held, (m - 1) / n, rng),
        "ratio_train": median_ratio(to_train, held_to_train, rng),
        "ratio_held_out": median_ratio(to_held, train_to_held, rng)}


@question("Are they closer to training images?", good="no", bad="yes")
def _closer(report: dict) -> Finding:
    found, ratio = report["privacy"]["closer"], report["privacy"]["ratio_train"]
    because = f"share {shown(found)}, honest 0.5; distance ratio {shown(ratio)}"
    return Finding(above(found, BARS["closer"], 0.65), because, f"above {BARS['closer']} is")
