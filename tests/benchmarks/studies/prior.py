"""The prior is the model: digits drawn through one decoder from codes of different distributions.

    make study STUDY=prior                  writes chapters/figures/prior.json; about 12 minutes of one core
    make study STUDY=prior ARGS="--table"   prints its tables again

Chapter 2's network is trained with and without noise on its codes, with and without their price, at one width of the
code and without both at another; its convolutional network as it stands; chapter 3's larger network with and without
the label. Each decoder is given codes from N(0, I) and from distributions fitted to its training codes, and the same
reader judges all.

The divergence KL(q(z) || p) of the aggregate posterior q from a prior p is bounded from below on held-out codes: for
any density r, E_q[log r(z) - log p(z)] <= KL(q || p). Our r is the mixture of 100 Gaussians, tilted by a classifier
that was trained to tell training codes from the mixture's draws. Where the encoder gives densities, the mean of all
those of the training images is an upper bound, by convexity. The lower bound is first tried where the answer is known.
"""

import math

from genmed_core import data, metrics  # first: it sets how threads wait
from genmed_core.metrics.readers import DIGITS

import torch  # isort: skip
from chapter_cells import definitions, markdown, mean_sd, progress, run_seeds, said
from torch import distributions, nn
from torch.nn import functional as F

N = 2000  # samples of a row
WIDTHS, STEPS = (8, 32), 500
PRIORS = ("N(0, I)", "one Gaussian", "a Gaussian a class", "100 Gaussians")
TEST_CODES = "codes of test images"
CHAPTER_2 = ("F", "binarise", "LATENT", "VAE", "bound_loss", "start_at_the_data", "fit_vae")
CONV_LATENT, LARGE_STEPS = 16, 700  # as in chapters 2 and 3
CHAPTER_3 = ("F", "binarise", "x_test", "LATENT", "CVAE", "bound_terms", "train_cvae")


# --- models: {name: (model, steps, options)}, each with encode and decode ------------------------------------------


def no_noise(VAE):
    """Chapter 2's network without noise: the code is the mean. Its price is then half the squared length."""

    class NoNoise(VAE):
        def forward(self, x):
            mu, logvar = self.encode(x)
            return self.decode(mu), mu, torch.zeros_like(logvar)

    return NoNoise


def small_models(c, seed):
    """(name, width, model) of chapter 2's network in three trainings that differ by one thing at a time."""
    kinds = {"autoencoder": (no_noise(c["VAE"]), 0.0), "with the price": (no_noise(c["VAE"]), 1.0),
             "with price and noise": (c["VAE"], 1.0)}
    for d in WIDTHS:
        for name, (kind, beta) in kinds.items():
            if d == 32 and beta:
                continue  # the controls at one width are enough
            torch.manual_seed(seed)
            model = c["start_at_the_data"](kind(latent=d))
            c["fit_vae"](model, STEPS, title=f"{name}, d = {d}", beta=beta, batch_size=512)
            yield name, d, model.eval()


def conv_model(c, seed):
    """Chapter 2's convolutional network, trained as there."""
    torch.manual_seed(seed)
    model = c["nets"].ConvVAE(latent=CONV_LATENT, width=16, hidden=128)
    c["fit_vae"](model, 400, title="convolutional", optimizer=c["optimizers"](model, lr=0.01, muon_lr=0.05))
    return model.eval()


# --- codes ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def encoded(encode, x, noise):
    """Codes of images, in parts: one draw of q(z|x), or its mean -> z, mu, logvar (N, d)."""
    mu, logvar = (torch.cat(parts).float() for parts in zip(*(encode(part) for part in x.split(2000))))
    return (mu + torch.randn_like(mu) * torch.exp(0.5 * logvar) if noise else mu), mu, logvar


def gaussian(z):
    ridge = 1e-6 * z.var() * torch.eye(z.shape[1])
    return distributions.MultivariateNormal(z.mean(0), torch.cov(z.T) + ridge)


def priors_of(z, y):
    """The distributions of codes that are compared, by name; "a Gaussian a class" is a list of ten."""
    by_class = [gaussian(z[y == k]) for k in range(10)]
    return dict(zip(PRIORS, (standard(z.shape[1]), gaussian(z), by_class, fit_mixture(z, 100))))


def standard(d):
    return distributions.MultivariateNormal(torch.zeros(d), torch.eye(d))


def fit_mixture(z, components, rounds=20):
    """Codes z (N, d) -> a mixture of Gaussians: k-means, then the share, mean and covariance of each cluster."""
    centres = z[torch.randperm(len(z), device=z.device)[:components]]
    for _ in range(rounds):
        nearest = torch.cdist(z, centres).argmin(1)                  # (N,)
        counts = torch.bincount(nearest, minlength=components)
        sums = torch.zeros_like(centres).index_add_(0, nearest, z)
        centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1), centres)
    apart = z - centres[nearest]
    covariances = torch.stack([torch.cov(apart[nearest == k].T, correction=0) if counts[k] > 0
                               else torch.zeros_like(apart[:1].T @ apart[:1]) for k in range(components)])
    covariances += 1e-3 * apart.var() * torch.eye(z.shape[1], device=z.device)  # few members, or a dead unit
    return distributions.MixtureSameFamily(distributions.Categorical(counts / len(z)),
                                           distributions.MultivariateNormal(centres, covariances))


def by_label(each, y):
    """Draws (len(y), d): the n-th from the distribution of class y[n]."""
    z = torch.stack([p.sample((len(y),)) for p in each])  # (10, n, d)
    return z[y, torch.arange(len(y))]


def log_prob(p, z, shares=None):
    """log p(z) in parts; a list of ten is a mixture with those shares of the classes."""
    if isinstance(p, list):
        return torch.logsumexp(torch.stack([q.log_prob(z) for q in p]) + shares.log()[:, None], 0)
    return torch.cat([p.log_prob(part) for part in z.split(1000)])


# --- the divergence of the codes from a prior ----------------------------------------------------------------------


def draws(mixture, n):
    """n codes of a mixture of Gaussians: `mixture.sample` draws all of its components for each."""
    which, parts = mixture.mixture_distribution.sample((n,)), mixture.component_distribution
    eps = torch.randn(n, parts.loc.shape[1])
    return parts.loc[which] + torch.einsum("nij,nj->ni", parts.scale_tril[which], eps)


def classifier(z, fakes, steps=800):
    """Train a network to tell codes z from draws -> its log odds T(z), kept within -10 and 6."""
    mean, sd = z.mean(0), z.std(0) + 1e-6
    net = nn.Sequential(nn.Linear(z.shape[1], 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    wanted = (torch.arange(1024) < 512).float()
    for _ in range(steps):
        both = torch.cat([z[torch.randint(len(z), (512,))], fakes[torch.randint(len(fakes), (512,))]])
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(net((both - mean) / sd)[:, 0], wanted).backward()
        optimizer.step()
        schedule.step()
    net.requires_grad_(False)
    return lambda z: net((z - mean) / sd)[:, 0].clamp(-10, 6)


def held_out_density(z_train, z_val, mixture):
    """log r(z), normalised: the mixture times exp(a T), with the share a of T that does best on validation codes."""
    T = classifier(z_train, draws(mixture, 50_000))
    at_draws, at_val = T(draws(mixture, 100_000)), T(z_val).mean()
    normaliser = {a: (torch.logsumexp(a * at_draws, 0) - math.log(len(at_draws))).item() for a in (0.0, 0.5, 1.0)}
    best = max(normaliser, key=lambda a: a * at_val - normaliser[a])
    return lambda z: log_prob(mixture, z) + best * T(z) - normaliser[best]


@torch.no_grad()
def log_aggregate(z, mu, logvar):
    """log of the mean over n of N(z; mu_n, exp logvar_n), z (M, d), mu and logvar (N, d) -> (M,)."""
    precision = torch.exp(-logvar)
    constant = -0.5 * (logvar + mu**2 * precision).sum(1) - 0.5 * mu.shape[1] * math.log(2 * math.pi)
    parts = []
    for part in z.split(250):
        exponent = part @ (mu * precision).T - 0.5 * part**2 @ precision.T + constant
        parts.append(torch.logsumexp(exponent, 1) - math.log(len(mu)))
    return torch.cat(parts)


def try_the_estimate(seed):
    """Where KL(q || N(0, I)) is known: q a Gaussian, and q uniform in a cube of unit variance."""
    torch.manual_seed(seed)
    found = {}
    for d in WIDTHS:
        root = torch.randn(d, d) / d**0.5
        q = distributions.MultivariateNormal(torch.full((d,), 0.5), root @ root.T + 0.2 * torch.eye(d))
        half = math.sqrt(3)
        cube = distributions.Independent(distributions.Uniform(torch.full((d,), -half), torch.full((d,), half)), 1)
        exact = {"Gaussian": distributions.kl_divergence(q, standard(d)).item(),
                 "cube": d * (0.5 * math.log(2 * math.pi) + 0.5 - math.log(2 * half))}
        for name, p in {"Gaussian": q, "cube": cube}.items():
            z, z_val, z_test = (p.sample((n,)) for n in (55_000, 5000, 10_000))
            mixture = fit_mixture(z, 100)
            estimate = held_out_density(z, z_val, mixture)(z_test) - standard(d).log_prob(z_test)
            found[f"{name}, d = {d}"] = {"exact": exact[name], "at least": estimate.mean().item()}
    return found


# --- one seed ------------------------------------------------------------------------------------------------------


class Judge:
    """Reads samples beside real digits cut at one half, as chapters 2 and 3 do."""

    def __init__(self, test, val):
        self.reference = metrics.real_reference(test, held_out=val, n=N, binarised=True)

    def __call__(self, x, asked=None):
        """Samples (N, 1, 28, 28) of 0 and 1 -> floors, log inception score in nats, read as asked."""
        features = metrics.digit_features(x)
        p = DIGITS.read(features)
        fd = metrics.frechet_distance(self.reference.features, features)
        inception = torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(1).mean()
        row = {"floors": fd / self.reference.floor["fd"], "inception": inception.item()}
        return row if asked is None else row | {"asked": (p.argmax(1) == asked).float().mean().item()}


def drawn(decode, z, y=None):
    with torch.no_grad():
        logits = decode(z) if y is None else decode(z, y)
    return (logits > 0).float()


def measure(model, noise, digits, judge, seed):
    """All rows of one model that knows no label: {prior: its measures}, and facts of its codes."""
    torch.manual_seed(seed)
    codes = {split: encoded(model.encode, x, noise) for split, (x, _) in digits.items()}
    z, y = codes["train"][0], digits["train"][1]
    priors = priors_of(z, y)
    log_q = held_out_density(z, codes["val"][0], priors["100 Gaussians"])
    z_test, shares = codes["test"][0], torch.bincount(y, minlength=10) / len(y)
    log_q_test, seen = log_q(z_test), z[:1000]
    aggregate = log_aggregate(seen, *codes["train"][1:]).mean() if noise else None
    rows, asked = {}, digits["test"][1][:N]
    for name, p in priors.items():
        drawn_codes = by_label(p, asked) if isinstance(p, list) else p.sample((N,))
        rows[name] = judge(drawn(model.decode, drawn_codes), asked if isinstance(p, list) else None)
        rows[name]["kl"] = (log_q_test - log_prob(p, z_test, shares)).mean().item()
        if noise:
            rows[name]["kl_most"] = (aggregate - log_prob(p, seen, shares).mean()).item()
    rows[TEST_CODES] = judge(drawn(model.decode, z_test[:N]))
    facts = {"code_sd": z.std(0).mean().item()}
    if noise:
        facts["kl_of_an_image"] = metrics.gaussian_kl(*codes["test"][1:]).sum(1).mean().item()
    return rows, facts


def measure_labelled(model, digits, judge, seed):
    """The same for chapter 3's model that is told the label: its priors are compared class by class."""
    torch.manual_seed(seed)
    x, y = digits["train"]
    with torch.no_grad():
        mu, logvar = model.encode(x, y)
    z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
    each = {"N(0, I)": [standard(z.shape[1])] * 10, "one Gaussian": [gaussian(z)] * 10,
            "a Gaussian a class": [gaussian(z[y == k]) for k in range(10)],
            "100 Gaussians": [fit_mixture(z[y == k], 10) for k in range(10)]}
    x_test, y_test = digits["test"]
    rows, asked = {}, y_test[:N]
    with torch.no_grad():
        mu, logvar = model.encode(x_test, y_test)
    z_test = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
    of_its_class = {name: torch.cat([log_prob(p[k], z_test[y_test == k]) for k in range(10)])
                    for name, p in each.items()}
    for name, p in each.items():
        rows[name] = judge(drawn(model.decode, by_label(p, asked), asked), asked)
        rows[name]["kl"] = (of_its_class["100 Gaussians"] - of_its_class[name]).mean().item()
    rows["100 Gaussians"].pop("kl")  # it is its own yardstick here
    rows[TEST_CODES] = judge(drawn(model.decode, z_test[:N], asked), asked)
    return rows, {"code_sd": z.std(0).mean().item()}


def of_chapter_2(seed, digits, judge):
    """{model: (rows, facts)} of chapter 2's networks."""
    c = definitions("02_vae", CHAPTER_2, seed=seed)
    models = {}
    for name, d, model in small_models(c, seed):
        models[f"{name}, d = {d}"] = measure(model, "noise" in name, digits, judge, seed)
        progress(f"seed {seed}: {name}, d = {d}")
    models["convolutional VAE"] = measure(conv_model(c, seed), True, digits, judge, seed)
    return models


def of_chapter_3(seed, digits, judge):
    """{model: (rows, facts)} of chapter 3's larger network, without and with the label."""
    c = definitions("03_cvae", CHAPTER_3, seed=seed)
    sizes = {"hidden": (256, 256), "activation": nn.SiLU}
    plain, _ = c["train_cvae"]("none", LARGE_STEPS, **sizes)
    told, _ = c["train_cvae"]("both", LARGE_STEPS, volume=4.0, **sizes)
    return {"chapter 3's, without label": measure(_Unlabelled(plain), True, digits, judge, seed),
            "chapter 3's, told the label": measure_labelled(told, digits, judge, seed)}


def one_seed(seed, parts=(of_chapter_2, of_chapter_3)):
    """The floor, and {model: (rows, facts)} of a seed."""
    binarise = definitions("02_vae", ("F", "binarise"), seed=seed)["binarise"]
    sets = {split: data.digits(split) for split in ("train", "val", "test")}
    digits = {split: (binarise(s.images / 255), s.labels) for split, s in sets.items()}
    judge = Judge(sets["test"], sets["val"])
    models = {}
    for part in parts:
        models |= part(seed, digits, judge)
    floor = judge.reference.floor["fd"]
    return {"seed": seed, "source": sets["test"].source, "floor": floor, "models": models}


class _Unlabelled:
    """Chapter 3's network without a label, as chapter 2's: it is given one and ignores it."""

    def __init__(self, model):
        self.model = model

    def encode(self, x):
        return self.model.encode(x, torch.zeros(len(x), dtype=torch.long))

    def decode(self, z):
        return self.model.decode(z, torch.zeros(len(z), dtype=torch.long))


# --- all seeds, the file and its tables -----------------------------------------------------------------------------


def together(runs):
    """Means and deviations over seeds of what `one_seed` found."""
    models = {}
    for name, (rows, facts) in runs[0]["models"].items():
        over = [run["models"][name] for run in runs]
        models[name] = {
            "priors": {p: {m: mean_sd([rows_s[p][m] for rows_s, _ in over]) for m in rows[p]} for p in rows},
            **{fact: mean_sd([facts_s[fact] for _, facts_s in over]) for fact in facts}}
    return {"floor": mean_sd([run["floor"] for run in runs]), "models": models}


def tables(found):
    """{what: Markdown table}."""
    priors = (*PRIORS, TEST_CODES)
    made = {}
    for what, measure_name, digits in (("distance, floors", "floors", 1), ("log inception score", "inception", 2),
                                       ("KL(q ‖ p) at least", "kl", 1), ("KL(q ‖ p) at most", "kl_most", 1),
                                       ("read as asked", "asked", 3)):
        lines = [[name, *(said(model["priors"][p].get(measure_name), digits) for p in priors)]
                 for name, model in found["models"].items()]
        made[what] = markdown([what, *priors], lines)
    lines = [[name, f"{v['exact']:.2f}", f"{v['at least']:.2f}"] for name, v in found["estimate tried"].items()]
    made["the estimate tried"] = markdown(["q", "exact", "at least"], lines)
    return made


def show(found):
    """All tables, one below the other."""
    return "\n\n".join(tables(found).values())


def with_the_estimate(runs):
    """The seeds together, and the estimate where the answer is known."""
    return {**together(runs), "estimate tried": try_the_estimate(runs[0]["seed"])}


if __name__ == "__main__":
    run_seeds(__doc__, "prior", one_seed, with_the_estimate, show, samples=N, steps=STEPS)
