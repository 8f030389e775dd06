"""Is any sample a copy of a training image, be it one of five hundred?

Every sample is turned, zoomed, shifted and mirrored over the training images that look most like
it. It is a copy where it fits better than any honest image should, and better than it fits its
other candidates, for what is blurred fits all alike (the adaptive threshold of Carlini et al. 2023,
sec. 4.2). Both bars come from real images that are no copies of each other: held-out images over
training ones, and training images over held-out ones.
"""

from typing import Any

import numpy as np

from genmed_core.audit.alignment import Match
from genmed_core.audit.attacks import Neighbours, attack
from genmed_core.audit.intervals import binned, share, tail_bar
from genmed_core.audit.questions import ALPHA, BARS, Finding, question

SHOWN = 10  # pairs that are named although they are no copies
BASIC = ("verbatim", "mirrored", "shifted", "contrast")  # canaries that a pass must have seen


def scores(match: Match) -> np.ndarray:
    """Fit of each sample, and by how much it beats a typical candidate's, (2, N): Fisher's z."""
    both = match.likeness, match.others
    best, typical = (np.arctanh(np.clip(x, -0.9999, 0.9999)) for x in both)
    return np.stack([best, best - typical])


def bars(neighbours: Neighbours, draws: int) -> np.ndarray:
    """What the best of `draws` honest samples passes by chance ALPHA, for both scores (2,)."""
    both = [scores(neighbours.matched(*pair))
            for pair in (("held-out", "train"), ("few", "held-out"))]
    return np.max([[tail_bar(row, draws, ALPHA) for row in one] for one in both], 0)


def is_copy(match: Match, bar: np.ndarray) -> np.ndarray:
    """Which samples pass both bars."""
    return np.all(scores(match) > bar[:, None], axis=0)


@attack()
def copies(neighbours: Neighbours) -> dict:
    """Every near-duplicate with its pair, the closest others, and how many strangers look so."""
    match = neighbours.matched("synthetic", "train")
    bar = bars(neighbours, len(match.which))
    found, fits = is_copy(match, bar), scores(match)
    order = np.lexsort([-fits.min(0), ~found])
    pairs = [_pair(match, int(i)) for i in order]
    n = int(found.sum())
    held = neighbours.matched("held-out", "train")
    strangers = is_copy(held, bar)
    return {"fits": binned(synthetic=fits[0], held_out=scores(held)[0]),
            "copies": pairs[:n], "closest": pairs[:max(n, SHOWN)], "copy_bars": bar.tolist(),
            "copied": share(n, len(found)), "held_out_copies": int(strangers.sum())}


def _pair(match: Match, i: int) -> dict[str, Any]:
    """A sample and the training image it fits best, by numbers; its pose, degrees and pixels."""
    right, down = (round(64 * float(x), 1) for x in match.shift[i])
    return {"synthetic": i, "train": int(match.which[i]), "distance": 1 - float(match.likeness[i]),
            "typical": 1 - float(match.others[i]), "turned": round(float(match.turn[i]), 1),
            "zoomed": round(float(match.zoom[i]), 3), "mirrored": bool(match.mirrored[i]),
            "shift": [right, down]}


@question("Are there copies of training images?", good="no", bad="yes")
def _copies(report: dict) -> Finding:
    found, seen = report["privacy"]["copied"], report["canaries"]
    n = len(report["privacy"]["copies"])
    blind = [kind for kind in BASIC if not seen[kind]["low"] >= BARS["seen"]]
    because = f"{n} of {report['counts']['synthetic']} found"
    if n:
        pair = report["privacy"]["copies"][0]
        because += f", such as {pair['synthetic']} of {pair['train']}, {pair['distance']:.2f}"
    else:
        because += f", at most {found['high']:.1%} of their kind"
    if blind:
        counts = [f"{kind} {seen[kind]['found']} of {seen[kind]['planted']}" for kind in blind]
        because += f"; planted and seen, too few to pass: {', '.join(counts)}"
    bad = True if n else (None if blind else False)
    return Finding(bad, because, f"none, and planted ones seen, {BARS['seen']:.0%} or more")
