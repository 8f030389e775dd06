"""Chapter 10: labels at hospital A, films of hospital B. Who closes the gap, and what shifted shares do.

    make study STUDY=adaptation                                three seeds, five minutes on one core; can be resumed
    python tests/benchmarks/studies/adaptation.py --table      only print the table that chapter 10 shows

The classifier, the recounted normalisation and the adversarial encoder are the chapter's own. Translations are made
here: one rising curve for the grey levels of all films, and after it a network that a critic of patches teaches,
without pairs, to make films like hospital A's of hospital B's. Every adaptation sees 500 films of B without labels,
half of them or a tenth of them of patients who are ill; all are read on the same 400 test films of B, half of them ill.
A seed is that of initialisations and of all that is drawn in training; the films are the same. The translator's two
settings were fixed after trials with seed 0; a stronger one (0.3) raised false alarms above four in five, one held
nearer (10) moved nothing. An interval adds the doubt about test patients (bootstrap) to that about three trainings
(Student's t).
"""

import json

from genmed_core import runtime  # isort: skip  (before torch: it sets how threads wait)

import numpy as np
import torch
from chapter_cells import FIGURES, definitions, markdown, mean_sd, parser_of, progress, said
from torch import nn
from torch.nn import functional as F

from genmed_core.audit.usefulness import over_runs

JSON = FIGURES / "adaptation.json"
SHARES = {"half of B's ill": 0.5, "a tenth of B's ill": 0.1}
STRENGTH, NEAR = 0.1, 3.0  # of the translator's correction; weight of its mean size


def curve(given, wanted):
    """One rising curve, as a function, that gives films like `given` the grey levels of `wanted`."""
    levels = np.linspace(0, 1, 257)
    low, high = (np.quantile(x.numpy().ravel()[::7], levels) for x in (given, wanted))
    return lambda x: torch.from_numpy(np.interp(x.numpy(), low + 1e-6 * np.arange(257), high)).float()


def translator(names, ours, theirs, steps=150):
    """-> a function that makes films like ours of films like theirs, learned without pairs."""
    seed = names["SEED"]
    torch.manual_seed(seed)
    g, G = torch.Generator().manual_seed(seed), names["UNet"](fine=16, coarse=32)
    D = nn.Sequential(nn.Conv2d(1, 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.2),
                      nn.Conv2d(64, 64, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(64, 1, 3, padding=1))
    of_D, of_G = (torch.optim.Adam(net.parameters(), 1e-3, betas=(0.0, 0.99)) for net in (D, G))
    for _ in range(steps):
        real, given = (names["turned"](films, g, 16)[0] for films in (ours, theirs))
        made = given + STRENGTH * G(given)
        both = torch.cat([real, made.detach()])
        odds = D(both)
        slope = ((D(both + 0.1 * torch.randn_like(both)) - odds).mean((1, 2, 3)) / 0.1).square().mean()
        _step(of_D, F.softplus(-odds[:16]).mean() + F.softplus(odds[16:]).mean() + 0.1 * slope)
        _step(of_G, F.softplus(-D(made)).mean() + NEAR * (made - given).abs().mean())
    G.eval().requires_grad_(False)
    return lambda x: torch.cat([part + STRENGTH / 2 * G(2 * part - 1) for part in x.split(100)]).clamp(0, 1)


def _step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def one_seed(seed):
    """-> log-odds of the test films by every method, and who is ill."""
    names = definitions("10_translation", ["SEED", "to_float", "UNet", "hospital", "turned", "recounted"], seed=seed)
    ours, theirs, test = (names["hospital"](*films) for films in names["HOSPITALS"])
    E, head = names["learn"](*ours)
    read = names["odds"]
    odds = {"source only": read(E, head, test[0]), "trained on B's labels": read(*names["learn"](*theirs), test[0])}
    for words, share in SHARES.items():
        films = names["with_share"](*theirs, share)
        matched = curve(films, ours[0])
        translated = translator(names, ours[0], matched(films))
        odds |= {f"greys matched, {words}": read(E, head, matched(test[0])),
                 f"normalisation recounted, {words}": read(names["recounted"](E, films), head, test[0]),
                 f"adversarial encoder, {words}": read(names["adapt"](E, ours[0], films), head, test[0]),
                 f"translated, {words}": read(E, head, translated(matched(test[0])))}
        progress(f"seed {seed}: {words}")
    return {"seed": seed, "odds": {name: [round(v, 3) for v in x.tolist()] for name, x in odds.items()},
            "ill": test[1].tolist()}


def area(odds, ill):
    """Probability that a patient who is ill gets higher odds than one who is not."""
    return (odds[ill][:, None] > odds[~ill]).mean() + 0.5 * (odds[ill][:, None] == odds[~ill]).mean()


def measured(runs):
    """Balanced accuracy with its interval, and means with deviations of the other measures, for each method."""
    ill = np.array(runs[0]["ill"], bool)
    classes, rows = np.stack([~ill, ill], 1).astype(float), {}
    for name in sorted(runs[0]["odds"], key=lambda name: name.split(", ")[-1] in SHARES):
        odds = np.array([run["odds"][name] for run in runs])
        right = ((odds > 0) == ill).astype(float)
        false = [float((x[~ill] > 0).mean()) for x in odds]
        rows[name] = {"right": over_runs(right, classes, np.random.default_rng(0)),
                      "auc": mean_sd([area(x, ill) for x in odds]), "false": mean_sd(false),
                      "mix": mean_sd([0.9 * (1 - f) + 0.1 * float((x[ill] > 0).mean()) for f, x in zip(false, odds)])}
    return rows


def table(stored):
    """A row for each method."""
    rows, lines = stored["rows"], []
    floor, best = (rows[name]["right"]["value"] for name in ("source only", "trained on B's labels"))
    for name, row in rows.items():
        found = row["right"]
        short = name.replace("normalisation ", "").replace(" encoder", "")
        lines.append([short, f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})",
                      f"{100 * (found['value'] - floor) / (best - floor):.0f} %", said(row["auc"], 3),
                      said(row["false"], 2), said(row["mix"], 2)])
    return markdown(["", "balanced accuracy", "gap closed", "AUC", "healthy called ill", "right, a tenth ill"], lines)


if __name__ == "__main__":
    options = parser_of(__doc__, JSON).parse_args()
    runs = json.loads(options.output.read_text(encoding="utf-8"))["runs"] if options.output.exists() else []
    for seed in [] if options.table else [s for s in options.seeds if s not in {run["seed"] for run in runs}]:
        runs.append(one_seed(seed))
        about = {"command": "make study STUDY=adaptation", "machine": runtime.machine(), "source": "phantom"}
        found = json.dumps({"settings": about, "rows": measured(runs), "runs": runs})
        options.output.write_text(found + "\n", encoding="utf-8")
    print(table(json.loads(options.output.read_text(encoding="utf-8"))))
