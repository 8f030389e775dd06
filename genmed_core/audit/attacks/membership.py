"""Can an attacker who holds an image and the samples tell whether it was trained on?

The plain score is the distance to the nearest sample (the black-box attack of GAN-Leaks, Chen et
al. 2020); the calibrated one is that distance over the one to the nearest other real image. With
densities estimated from the nearest neighbour it is DOMIAS (van Breugel et al. 2023): where samples
are denser than real images are, the generator has learned by heart. Both are judged as Carlini et
al. 2022 ask, by the hits at few false alarms: a mean hides the few.
"""

import numpy as np

from genmed_core.audit.attacks import Neighbours, attack
from genmed_core.audit.intervals import auc, binned, tail_bar
from genmed_core.audit.questions import ALPHA, BARS, Finding, beyond, question, shown, worst

SHOWN = 10  # training images of the highest risk that a report names
LEVELS = {"median": 0.5, "90 %": 0.9, "99 %": 0.99, "highest": 1.0}


@attack(membership="membership AUC, calibrated (DOMIAS)",
        membership_plain="membership AUC, plain (GAN-Leaks)",
        hits_1="hits at 1 % false alarms (Carlini)",
        hits_01="hits at 0.1 % false alarms (Carlini)")
def membership(neighbours: Neighbours) -> dict:
    """AUC and hits of a real image's distance to the samples, and the risk of each patient."""
    rng, k = neighbours.rng, len(neighbours.some)
    to_fake, to_real = (np.concatenate(pair) for pair in (
        [neighbours.nearest(of, "synthetic")[0] for of in ("some", "held-out")],
        [neighbours.nearest_other(of)[0] for of in ("some", "held-out")]))
    plain = -np.log(to_fake + 1e-4)
    calibrated = plain + np.log(to_real + 1e-4)
    found = auc(calibrated[:k], calibrated[k:], rng)
    return {"membership": found, "membership_plain": auc(plain[:k], plain[k:], rng),
            "hits_1": found["hits_at_1_percent"], "hits_01": found["hits_at_0.1_percent"],
            "risk": risk(calibrated[:k], calibrated[k:], neighbours.some)}


def risk(members: np.ndarray, others: np.ndarray, names: np.ndarray) -> dict:
    """The risk of each training image, the highest first: a mean hides the few.

    members (k,), others (m,): an attacker's scores; names (k,): which training images they are.
    "false_alarms" of a score: the share of images never trained on that an attacker would accuse
    too. "beyond": how many members pass the bar that no stranger should.
    """
    order = members.argsort()[::-1]
    bar = tail_bar(others, len(members), ALPHA, heavy=True)  # a chance twin is no rare thing
    alarms = [(1 + int((others >= members[i]).sum())) / (len(others) + 1) for i in order[:SHOWN]]
    highest = [{"train": int(names[i]), "score": float(members[i]), "false_alarms": alarm}
               for i, alarm in zip(order, alarms)]
    both = {name: {level: float(np.quantile(scores, q)) for level, q in LEVELS.items()}
            for name, scores in (("quantiles", members), ("held_out_quantiles", others))}
    return {"highest": highest, "bar": bar, "beyond": int((members > bar).sum()),
            "held_out_beyond": int((others > bar).sum()), "of": len(members),
            "bins": binned(members=members, others=others)} | both


@question("Can membership be inferred?", good="no", bad="yes")
def _membership(report: dict) -> Finding:
    found, each = report["privacy"]["membership"], report["privacy"]["risk"]
    hit, bar = found["hits_at_1_percent"], BARS["membership"]
    because = (f"AUC {shown(found)}, honest 0.5; hits at 1 % false alarms {shown(hit, 3)}, honest "
               f"0.010; {each['beyond']} of {each['of']} patients stand out from all strangers")
    bad = worst(beyond(found, bar), beyond(hit, BARS["hits"]), each["beyond"] > 0)
    return Finding(bad, because, f"AUC {bar}, hits {BARS['hits']}, nobody")
