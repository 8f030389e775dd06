"""Do more samples resemble a training image closely than resemble a held-out one?

The share of samples that are as close to a training image as only one in twenty strangers is, is
what Dar et al. 2023 and 2024 count as copies, by a contrastive embedding and the 95th percentile.
It is counted here by fingerprint and by embedding, and beside it the same share for the held-out
images, since what is blurred is close to everything. Authenticity is the share of samples that are
further from their nearest training image than that is from its own neighbour (Alaa et al. 2022,
sec. 4.3). Akbar et al. 2023 compare by the plain correlation of pixels.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from genmed_core.audit.attacks import Nearest, Neighbours, attack
from genmed_core.audit.intervals import Interval, bootstrap, excess_share
from genmed_core.audit.questions import BARS, Finding, beyond, question, shown, worst


@attack(close="close to train (honest 0.05)", close_held_out="close to held-out (honest 0.05)",
        embedded_close="the same, embedding (Dar)", authenticity="authenticity (Alaa)",
        authenticity_held_out="... of held-out images",
        correlation="highest pixel correlation (Akbar)",
        correlation_held_out="... of held-out images")
def resemblance(neighbours: Neighbours) -> dict:
    """Shares of samples that resemble a real image of each set, authenticity and correlation."""
    by_print = _excess(neighbours, neighbours.nearest)
    by_code = _excess(neighbours, neighbours.embedded)
    found = {"close": by_print["first"], "close_held_out": by_print["second"],
             "close_excess": by_print["excess"], "embedded_close": by_code["first"],
             "embedded_close_held_out": by_code["second"], "embedded_excess": by_code["excess"]}
    for name, of in (("", "synthetic"), ("_held_out", "held-out")):
        found["authenticity" + name] = _authenticity(neighbours, of)
        found["correlation" + name] = _correlation(neighbours, of)
    return found


def _excess(neighbours: Neighbours,
            find: Callable[[str, str], Nearest]) -> dict[str, Interval]:
    to_train, to_held = find("synthetic", "train"), find("synthetic", "held-out")
    strangers = find("held-out", "train")[0], find("some", "held-out")[0]
    return excess_share(to_train, to_held[0], strangers, neighbours.rng)


def _authenticity(neighbours: Neighbours, of: str) -> Interval:
    distance, index = neighbours.nearest(of, "train")
    own, _ = neighbours.nearest_other("real")
    further = (distance > own[index]).astype(float)
    return bootstrap(lambda x: x.mean(-1), (further,), neighbours.rng)


def _correlation(neighbours: Neighbours, of: str) -> Interval:
    """Pearson's correlation with the training image of the highest: the mean over images."""
    a, b = (_standard(neighbours.images[name]) for name in (of, "train"))
    highest = torch.cat([(x @ b.T).amax(1) for x in a.split(500)]).numpy()
    return bootstrap(lambda x: x.mean(-1), (highest,), neighbours.rng)


def _standard(images: torch.Tensor) -> torch.Tensor:
    x = F.avg_pool2d(images.float(), 2).flatten(1)
    return F.normalize(x - x.mean(1, keepdim=True), dim=1)


@question("Do samples resemble training images?", good="no", bad="yes")
def _resemble(report: dict) -> Finding:
    found = report["privacy"]
    pairs = [found["close_excess"], found["embedded_excess"]]
    because = (f"very close to train {shown(found['close'])}, to held-out "
               f"{found['close_held_out']['value']:.2f}; by embedding "
               f"{shown(found['embedded_close'])}, {found['embedded_close_held_out']['value']:.2f}")
    bad = worst(*(beyond(each, BARS["close"]) for each in pairs))
    return Finding(bad, because, f"excess up to {BARS['close']} is honest")
