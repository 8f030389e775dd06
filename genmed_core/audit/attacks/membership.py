"""Can an attacker who holds an image and the samples tell whether it was trained on?"""

import numpy as np
import torch

from genmed_core.audit.attacks import Neighbours, attack, search
from genmed_core.audit.intervals import auc
from genmed_core.audit.questions import BARS, Finding, above, question, shown


@attack(membership="membership AUC, calibrated", membership_plain="membership AUC, plain")
def membership(neighbours: Neighbours) -> dict:
    """AUC of a real image's distance to the samples, plain and over that to other real images."""
    sets, rng = neighbours.sets, neighbours.rng
    real = torch.cat([sets["some"], sets["held-out"]])
    to_fake, _ = search(real, sets["synthetic"])
    to_real, _ = search(real, real, own=torch.arange(len(real)))
    plain = -np.log(to_fake + 1e-4)
    calibrated = plain + np.log(to_real + 1e-4)
    k = len(sets["some"])
    return {"membership": auc(calibrated[:k], calibrated[k:], rng),
            "membership_plain": auc(plain[:k], plain[k:], rng)}


@question("Can membership be inferred?", good="no", bad="yes")
def _membership(report: dict) -> Finding:
    found, bar = report["privacy"]["membership"], BARS["membership"]
    measured = f"AUC {shown(found)}, honest 0.5"
    return Finding(above(found, bar, 0.65), measured, f"above {bar} it can")
