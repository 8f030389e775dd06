"""Who is drawn, and how ill, as guidance rises? Chapter 9's latent diffusion on phantoms, whose factors are known.

    make study STUDY=groups                                three seeds, about forty minutes on one core
    python tests/benchmarks/studies/groups.py --table      only print the table that chapter 9 shows

A small network learns to read severity, build, age and exposure from training and validation phantoms; it reads test
phantoms and samples alike, so that readings are compared with readings. Three groups of 5 % are the heaviest, the
oldest and the palest (the lowest gamma). A sample belongs to one where it is read beyond the 95 % quantile of the
readings of training films. Coverage and accuracy are asked of the held-out phantoms that are in it by their true
factor: the share with a sample in their ball of five neighbours (Naeem et al. 2020), and the share that a network
reads rightly which was taught by the samples. As many training films in the place of samples are the floor. Nothing is
chosen here.
"""


import _films
import torch
from chapter_cells import parser_of

JSON = _films.CHAPTERS / "figures" / "groups.json"
GUIDANCE, SAMPLES, RUNS, NEIGHBOURS = (1.0, 3.0, 5.0), 400, 2, 5
FACTORS = {"severity": 1, "build": 1, "age": 1, "gamma": -1}  # and which end of it is rare
GROUPS = {"build": "heaviest", "age": "oldest", "gamma": "palest"}
STEPS = 800


def factor_reader(names):
    """-> read(images uint8) -> standardised factors (N, 4), by a network taught by training and validation films."""
    sets = names["train_set"], names["val_set"]
    columns = torch.stack([torch.cat([s.factors[k].float() * sign for s in sets]) for k, sign in FACTORS.items()], 1)
    healthy = torch.cat([s.labels for s in sets]) == names["classes"].index("Normal")
    truth = (columns - columns.mean(0)) / columns.std(0)
    known = torch.ones_like(truth)
    known[healthy, 0] = 0  # nothing shows how ill the healthy would be
    net = names["FilmReader"](width=32)
    kernels = names["kernels"]

    def loss_fn(batch):
        off = net(names["nets"].shift_augment(batch.x, 3)).float() - truth[batch.y]
        return (known[batch.y] * off.square()).mean(), {}

    films = torch.cat([s.images for s in sets])
    step = kernels.TrainStep(
        loss_fn, torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05), model=net, seed=names["SEED"],
        batches=kernels.Batches(films, torch.arange(len(films)), batch_size=64, seed=names["SEED"]),
        schedule=kernels.linear_decay(0.1))
    names["train"].fit(step, names["runtime"].budget(STEPS), title="reader of factors")
    net.eval()
    return lambda images: names["in_parts"](lambda part: net(part / 255), images).float()


def drawn(names, guidance):
    """Samples of one guidance with their spread restored, and the classes that were asked for."""
    labels = names["train_set"].labels.sort().values
    asked = labels[torch.linspace(0, len(labels) - 1, SAMPLES).long()]
    z = names["draw_latents"](names["denoiser"], asked, guidance=guidance)
    spread = z.std((0, 2, 3), keepdim=True)
    return names["decode"](z, (names["m"], names["s"] / spread)), asked


def as_many_films(names):
    """Training films in the place of samples."""
    rows = torch.randperm(len(names["train_set"]), generator=torch.Generator().manual_seed(names["SEED"]))[:SAMPLES]
    return names["train_set"].images[rows], names["train_set"].labels[rows]


class Judge:
    """What is measured of any set of films, by the held-out films and their true factors."""

    def __init__(self, names):
        self.names, self.read = names, factor_reader(names)
        self.films, self.labels = names["held_out"], names["held_labels"]
        factors = {k: torch.cat([names[f"{part}_set"].factors[k].float() for part in ("val", "test")]) * sign
                   for k, sign in FACTORS.items()}
        self.members = {name: factors[name] >= factors[name].quantile(0.95) for name in GROUPS}
        self.healthy = names["classes"].index("Normal")
        real = self.read(names["train_set"].images)
        sick = names["train_set"].labels != self.healthy
        self.bars = {name: real[:, i].quantile(0.95).item() for i, name in enumerate(FACTORS) if name in GROUPS}
        self.mild, self.severe = real[sick, 0].quantile(torch.tensor([0.25, 0.75])).tolist()

    def features(self, films):
        return self.names["project"](self.names["audit"].random_features(films)).float()

    def error(self):
        """Correlation of readings with the truth on test films, for each factor."""
        test = self.names["test_set"]
        read, sick = self.read(test.images), test.labels != self.healthy
        found = {}
        for i, (name, sign) in enumerate(FACTORS.items()):
            use = sick if name == "severity" else torch.ones_like(sick)
            pair = torch.stack([read[use, i], sign * test.factors[name].float()[use]])
            found[name] = torch.corrcoef(pair)[0, 1].item()
        return found

    def __call__(self, films, labels):
        """Films uint8 (N, 1, 64, 64) and their classes -> {measure: [hits, of]}."""
        read, sick = self.read(films), labels != self.healthy
        found = {"mild": counted(read[sick, 0] < self.mild), "severe": counted(read[sick, 0] > self.severe)}
        for i, name in enumerate(FACTORS):
            if name in GROUPS:
                found[f"share {name}"] = counted(read[:, i] > self.bars[name])
        held = self.features(self.films)
        radius = torch.cdist(held, held).kthvalue(NEIGHBOURS + 1, 1).values
        covered = torch.cdist(held, self.features(films)).amin(1) < radius
        right = torch.stack([self.taught(films, labels, run) == self.labels for run in range(RUNS)], 1)
        for name, rows in (("all", torch.ones_like(covered)), *self.members.items()):
            found[f"coverage {name}"], found[f"accuracy {name}"] = counted(covered[rows]), counted(right[rows])
        return found

    def taught(self, films, labels, run):
        """Classes of the held-out films as a network reads them that learned from these films."""
        from genmed_core.audit.usefulness import learned

        return learned(films, labels, self.films, len(self.names["classes"]), seed=1000 * run + self.names["SEED"])


def counted(hits):
    return [int(hits.sum()), hits.numel()]


def measure(names):
    """One seed -> {"reader": correlations, "films": counts, "samples": counts for each guidance}."""
    judge = Judge(names)
    test = names["test_set"]
    return {"seed": names["SEED"], "reader": judge.error(), "test films": judge_only_readings(judge, test),
            "training films": judge(*as_many_films(names)),
            "samples": {f"{w:g}": judge(*drawn(names, w)) for w in GUIDANCE}}


def judge_only_readings(judge, test):
    """Readings of test films: what an honest set shows."""
    read, sick = judge.read(test.images), test.labels != judge.healthy
    found = {"mild": counted(read[sick, 0] < judge.mild), "severe": counted(read[sick, 0] > judge.severe)}
    return found | {f"share {name}": counted(read[:, i] > judge.bars[name])
                    for i, name in enumerate(FACTORS) if name in GROUPS}


ROWS = {"mild": "sick ones read as mild as a quarter of the films", "severe": "... as severe as a quarter",
        "share build": "read among the heaviest 5 %", "share age": "... the oldest 5 %",
        "share gamma": "... the palest 5 %",
        "coverage all": "coverage of held-out films", "coverage build": "... of the heaviest",
        "coverage age": "... of the oldest", "coverage gamma": "... of the palest",
        "accuracy all": "read rightly by a network taught so", "accuracy build": "... the heaviest",
        "accuracy age": "... the oldest", "accuracy gamma": "... the palest"}


def table(stored):
    """Percentages with exact 95 % intervals, the films of all seeds together."""
    from scipy.stats import binomtest

    def cell(counts):
        hits, of = (sum(column) for column in zip(*counts))
        low, high = binomtest(hits, of).proportion_ci()
        return f"{100 * hits / of:.0f} ({100 * low:.0f} to {100 * high:.0f})"

    runs = stored["runs"]
    lines = ["| share, % | films | " + " | ".join(f"w = {w}" for w in runs[0]["samples"]) + " |",
             "|:--|" + "--:|" * (1 + len(runs[0]["samples"]))]
    for key, words in ROWS.items():
        where = "test films" if key in runs[0]["test films"] else "training films"
        cells = [cell([run[where][key] for run in runs])]
        cells += [cell([run["samples"][w][key] for run in runs]) for w in runs[0]["samples"]]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    mean = {k: sum(run["reader"][k] for run in runs) / len(runs) for k in FACTORS}
    says = ", ".join(f"{k} {v:.2f}" for k, v in mean.items())
    return "\n".join([*lines, "", f"Seeds: {len(runs)}. Correlation of what the network reads with the truth: {says}."])


def main():
    parser = parser_of(__doc__, JSON)
    options = parser.parse_args()
    _films.run(options, lambda names, _: measure(names), table, SAMPLES)


if __name__ == "__main__":
    main()
