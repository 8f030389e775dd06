"""Chapter 3's exercises: each oracle is written without the chapter's code."""

import math

import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from genmed_core.exercises.answers import Case
from genmed_core.exercises.sheet import Sheet

sheet = Sheet("03_cvae")


def normal(g: torch.Generator, *size: int) -> torch.Tensor:
    """Standard Gaussian numbers from a generator."""
    return torch.randn(*size, generator=g)


def between(g: torch.Generator, low: float, high: float) -> float:
    """A number, evenly from low to high."""
    return low + (high - low) * float(torch.rand((), generator=g))


def labels(g: torch.Generator, n: int, classes: int) -> torch.Tensor:
    """n labels that differ, the last class not among them, in no order."""
    return (torch.arange(n) % (classes - 1))[torch.randperm(n, generator=g)]


# --- 3.1 and 3.2, in the middle of the chapter -----------------------------------------------


sheet.choice("3.1", "predict", 1, "What the label will gain", answer="b", why=(
    "(3.5) limits the true densities. The table compares bounds of two small networks, each far from the true density, "
    "and a label also lends a network ten sets of biases for one."), wrongs={
    "a": "(3.5) holds for the true p(x) and p(x | y). Which of the two does a small network reach? A worse "
         "model of p(x) leaves more to gain.",
    "c": "That the class can be seen in x helps the encoder, not the bound: what the code says of the class is paid "
         "for in the KL, while the label is given for nothing.",
    "d": "Every pixel is easier to predict once the class is known, but all of them tell the same few nats. The gains "
         "of the single pixels do not add up: I(x; y) is at most H(y).",
})


sheet.choice("3.2", "predict", 1, "Free to move apart", answer="c", why=(
    "The KL charges nothing for moving, and the reconstruction hardly asks for it: early in training z has told the "
    "decoder the class, and there is little left to gain."), wrongs={
    "a": "Nothing holds the clouds back, true; but what would drive them? A gradient comes from the reconstruction "
         "alone, and z tells it the class already.",
    "b": "In (3.4) the prior of each class moves along with its e_y: the KL compares q with "
         "N(e_y, I), and pulls nothing to zero but μ.",
    "d": "(3.4) says that two ways of writing the bound agree, for every e_y. The bound does depend on e_y, through "
         "the decoder's input z + e_y.",
})


# --- 3.3 -------------------------------------------------------------------------------------


def code_and_label(g: torch.Generator) -> Case:
    """Codes, labels and a table of label vectors; all three sizes differ."""
    return {"z": normal(g, 6, 3), "y": labels(g, 6, 5), "table": normal(g, 5, 3)}


@sheet.function("3.3", "code", 1, "Three ways to hand over a label", cases=code_and_label,
                returns=("added", "concatenated", "one-hot"))
def join(z, y, table):
    """Row by row, in a loop."""
    added, joined, hot = [], [], []
    for code, label in zip(z, y.tolist(), strict=True):
        vector = [0.0] * len(table)
        vector[label] = 1.0
        added.append([float(a + b) for a, b in zip(code, table[label], strict=True)])
        joined.append(code.tolist() + table[label].tolist())
        hot.append(code.tolist() + vector)
    return tuple(torch.tensor(rows, dtype=torch.float64) for rows in (added, joined, hot))


@join.mistake("The label itself is joined as one number. A label is a name, not an amount: 8 is no more than 3, and a "
              "first layer can only scale such a number.")
def _(z, y, table):
    added, joined, _ = join.oracle(z, y, table)
    return added, joined, torch.cat([z, y[:, None].to(z)], 1)


@join.mistake("The label stands before the code. The order would not matter to a network that is trained with it, but "
              "here the code is asked for first, as in the chapter's `decode`.")
def _(z, y, table):
    added = join.oracle(z, y, table)[0]
    return added, torch.cat([table[y], z], 1), torch.cat([torch.eye(len(table))[y].to(z), z], 1)


@join.mistake("The one-hot vectors are only as long as the largest label of the *batch* says. A class that is absent "
              "from a batch still needs its place: there are as many classes as rows in `table`.")
def _(z, y, table):
    added, joined, hot = join.oracle(z, y, table)
    return added, joined, hot[:, : z.shape[1] + int(y.max()) + 1]


@join.mistake("The vectors are taken from the table in its own order, and not by the labels of the batch: look up "
              "`table` at `y`.")
def _(z, y, table):
    rows = table[torch.arange(len(z)) % len(table)]
    return z + rows, torch.cat([z, rows], 1), join.oracle(z, y, table)[2]


@join.mistake("The embedding is multiplied into the code, not added. That is another way (a gate for each coordinate), "
              "but not the one of (3.3).")
def _(z, y, table):
    return z * table[y], *join.oracle(z, y, table)[1:]


# --- 3.4 -------------------------------------------------------------------------------------


def first_layer(g: torch.Generator) -> Case:
    """The weight of a first layer for added labels, and the label vectors."""
    return {"W": normal(g, 7, 3), "table": normal(g, 5, 3)}


@sheet.function("3.4", "code", 2, "Added is concatenated with tied weights", cases=first_layer,
                returns=("weight for the embedding", "weight for the one-hot vector"))
def tied(W, table):
    """A linear map's weight is what it makes of the unit vectors: ask the added layer, one input at a time."""
    d = W.shape[1]
    of_pair = [W @ (unit[:d] + unit[d:]) for unit in torch.eye(2 * d).to(W)]
    of_hot = [W @ (unit[:d] + sum(u * e for u, e in zip(unit[d:], table, strict=True)))
              for unit in torch.eye(d + len(table)).to(W)]
    return torch.stack(of_pair, 1), torch.stack(of_hot, 1)


@tied.mistake("With zeros for the label's columns the layer never hears of the label. What does `W @ (z + e)` do with "
              "e_y?")
def _(W, table):
    return torch.cat([W, 0 * W], 1), torch.cat([W, torch.zeros(len(W), len(table)).to(W)], 1)


@tied.mistake("The weights are halved, as if the added layer took the mean of code and label. It takes their sum.")
def _(W, table):
    return tuple(part / 2 for part in tied.oracle(W, table))


@tied.mistake("The first weight is right. But a one-hot vector picks a *column* of its block: let that column be what "
              "W makes of this class's vector, each class its own.")
def _(W, table):
    return tied.oracle(W, table)[0], torch.cat([W, (W @ table.mean(0))[:, None].expand(-1, len(table))], 1)


@tied.mistake("The two blocks are in the other order: the input is the code first, then the label.")
def _(W, table):
    pair, hot = tied.oracle(W, table)
    return pair, torch.cat([hot[:, W.shape[1]:], W], 1)


@tied.mistake("The first weight is right. In the one-hot block stand the label vectors by themselves, as if they were "
              "added to the hidden units; they are added to the code, and W comes after.")
def _(W, table):
    block = torch.zeros(len(W), len(table)).to(W)
    block[: table.shape[1]] = table.T
    return tied.oracle(W, table)[0], torch.cat([W, block], 1)


# --- 3.5 and 3.6: what a label is worth ------------------------------------------------------


SHARE = 0.01
sheet.number("3.5", "derive", 1, "What a rare label can save", truth=-SHARE * math.log(SHARE)
             - (1 - SHARE) * math.log(1 - SHARE), within=0.03, why=(
    "It is H(y): most films are healthy, as one would have guessed, and of those the label says nearly nothing. A "
    "mean log-likelihood cannot show whether a model listens to a rare label."), mistakes=[
    (-SHARE * math.log2(SHARE) - (1 - SHARE) * math.log2(1 - SHARE),
     "That is the entropy in bits; the bound is in nats, with natural logarithms."),
    (math.log(2), "That is log 2, of two classes that are equally frequent. Weigh each class by how often it "
                  "occurs."),
    (-math.log(SHARE), "That is saved on a film of the rare disease. On average over all films it comes once in a "
                       "hundred, and the others save almost nothing."),
    (-SHARE * math.log(SHARE), "That is the rare films' part. The healthy ones save little each, and are many."),
])


sheet.choice("3.6", "derive", 1, "The label of a chest film", answer="b", why=(
    "I(x; y) = H(y) - H(y | x). What was found in a laboratory and is not to be seen makes H(y | x) large."),
    wrongs={
    "a": "I(x; y) = H(y) needs H(y | x) = 0: every image shows its label beyond doubt. For digits that nearly "
         "holds; would two radiologists always agree about this film?",
    "c": "The mutual information is bounded by either entropy: I(x; y) ≤ H(y), however much else the image holds.",
    "d": "The *densities* average out, Σ_y p(y) p(x | y) = p(x), their logarithms do not. The mean of "
         "log p(x | y) - log p(x) over pairs is a KL divergence, hence not negative.",
})


# --- 3.7 -------------------------------------------------------------------------------------


def images_and_codes(g: torch.Generator) -> Case:
    """Binary images, logits for them, and q and its class's prior mean, all far enough from zero to tell."""
    return {"x": (torch.rand(5, 1, 4, 3, generator=g) > 0.5).float(), "logits": normal(g, 5, 1, 4, 3),
            "mu": normal(g, 5, 3), "logvar": normal(g, 5, 3) - 0.5, "y": labels(g, 5, 4),
            "centres": 1.5 * normal(g, 4, 3)}


def nll_and_kl(x, logits, mu, logvar, means, scale=0.5):
    """Sums over pixels and coordinates, by torch.distributions."""
    nll = -Bernoulli(logits=logits).log_prob(x).flatten(1).sum(1)
    return nll, kl_divergence(Normal(mu, torch.exp(scale * logvar)), Normal(means, 1.0)).sum(1)


@sheet.function("3.7", "code", 2, "The bound with a prior for each class", cases=images_and_codes)
def conditional_loss(x, logits, mu, logvar, y, centres):
    """Mean over images of -log p(x | y, z) + KL(q || N(m_y, I))."""
    nll, kl = nll_and_kl(x, logits, mu, logvar, centres[y])
    return (nll + kl).mean()


@conditional_loss.mistake("The KL is taken to N(0, I): the label's centre is missing from it, so that "
                          "every class would be pulled to the same place.")
def _(x, logits, mu, logvar, y, centres):
    nll, kl = nll_and_kl(x, logits, mu, logvar, torch.zeros_like(mu))
    return (nll + kl).mean()


@conditional_loss.mistake("The pixels are averaged, not added. An image's log-likelihood is the *sum* over its pixels; "
                          "with their mean the KL weighs as much as all of them.")
def _(x, logits, mu, logvar, y, centres):
    nll, kl = nll_and_kl(x, logits, mu, logvar, centres[y])
    return (nll / x[0].numel() + kl).mean()


@conditional_loss.mistake("It is the sum over the batch, not the mean: the loss should not grow with the batch.")
def _(x, logits, mu, logvar, y, centres):
    return len(x) * conditional_loss.oracle(x, logits, mu, logvar, y, centres)


@conditional_loss.mistake("The half in front of the KL is missing.")
def _(x, logits, mu, logvar, y, centres):
    nll, kl = nll_and_kl(x, logits, mu, logvar, centres[y])
    return (nll + 2 * kl).mean()


@conditional_loss.mistake("`logvar` is treated as the logarithm of a standard deviation; it is that of the variance.")
def _(x, logits, mu, logvar, y, centres):
    nll, kl = nll_and_kl(x, logits, mu, logvar, centres[y], scale=1.0)
    return (nll + kl).mean()


@conditional_loss.mistake("The KL is subtracted. In the bound it is; this is the *negative* bound, so that it is "
                          "charged on top of the reconstruction.")
def _(x, logits, mu, logvar, y, centres):
    nll, kl = nll_and_kl(x, logits, mu, logvar, centres[y])
    return (nll - kl).mean()


@conditional_loss.mistake("The KL is that of one coordinate on average. It is a sum over the code's coordinates: each "
                          "of them is paid for.")
def _(x, logits, mu, logvar, y, centres):
    nll, kl = nll_and_kl(x, logits, mu, logvar, centres[y])
    return (nll + kl / mu.shape[1]).mean()


# --- 3.8 -------------------------------------------------------------------------------------


def codes_of_classes(g: torch.Generator) -> Case:
    """q of fourteen images of three classes, and the class in question."""
    y = torch.tensor([0] * 6 + [1] * 5 + [2] * 3)[torch.randperm(14, generator=g)]
    return {"mu": 0.5 + 1.3 * normal(g, 14, 2) + y[:, None] * normal(g, 1, 2), "logvar": normal(g, 14, 2) - 0.7,
            "y": y, "label": int(torch.randint(2, (), generator=g))}


def saving(mu, var, m, S):
    """Mean KL to N(0, I) less mean KL to N(m, S), over the images given."""
    q = MultivariateNormal(mu, torch.diag_embed(var))
    to_standard, to_fitted = (kl_divergence(q, p).mean() for p in (
        MultivariateNormal(torch.zeros_like(m), torch.eye(len(m)).to(m)), MultivariateNormal(m, S)))
    return to_standard - to_fitted


def replaced(mu, var, m, S):
    """The same by (3.7): with another S than the right one the two differ."""
    return kl_divergence(MultivariateNormal(m, S), MultivariateNormal(torch.zeros_like(m), torch.eye(len(m)).to(m)))


def fitted(mu, logvar, y, label, make, save):
    """m, S and the saving, with S made from the class's means and variances."""
    mu, var = mu[y == label], logvar[y == label].exp()
    m, S = mu.mean(0), make(mu, var)
    return m, S, save(mu, var, m, S)


@sheet.function("3.8", "code", 2, "The best prior after the fact", cases=codes_of_classes,
                returns=("mean", "covariance", "saving"))
def best_prior(mu, logvar, y, label):
    """First and second moments of the mixture, image by image; the saving as a difference of two mean KLs."""
    rows = [k for k in range(len(y)) if int(y[k]) == label]
    m = sum(mu[k] for k in rows) / len(rows)
    second = sum(torch.outer(mu[k], mu[k]) + torch.diag(logvar[k].exp()) for k in rows) / len(rows)
    S = second - torch.outer(m, m)
    return m, S, saving(mu[rows], logvar[rows].exp(), m, S)


for _message, _make in [
    ("The covariance is that of the means alone. A draw of z also scatters around its image's own mean: the average of "
     "the variances is missing.", lambda mu, var: torch.cov(mu.T, correction=0)),
    ("The covariance is the average of the variances alone. The images of a class have different means, and these "
     "scatter too.", lambda mu, var: var.mean(0).diag()),
    ("You average `logvar` and then take the exponential: a geometric mean. Variances of a mixture are averaged as "
     "they are.", lambda mu, var: torch.cov(mu.T, correction=0) + var.log().mean(0).exp().diag()),
    ("The covariance of the means is divided by n − 1. The mixture of these n clouds is the whole population here, and "
     "maximum likelihood divides by n.", lambda mu, var: torch.cov(mu.T) + var.mean(0).diag()),
]:
    for _save in (saving, replaced):  # both ways to the third number are seen
        best_prior.mistake(_message)(lambda mu, logvar, y, label, _make=_make, _save=_save:
                                     fitted(mu, logvar, y, label, _make, _save))


@best_prior.mistake("All images went into it. The prior of a class is fitted to the codes of that class.")
def _(mu, logvar, y, label):
    return best_prior.oracle(mu, logvar, torch.full_like(y, label), label)


@best_prior.mistake("Mean and covariance are right. The saving is the other KL: (3.7) has the learned prior first, as "
                    "the one that takes the place of the codes.")
def _(mu, logvar, y, label):
    m, S, _ = best_prior.oracle(mu, logvar, y, label)
    standard = MultivariateNormal(torch.zeros_like(m), torch.eye(len(m)).to(m))
    return m, S, kl_divergence(standard, MultivariateNormal(m, S))


# --- 3.9 -------------------------------------------------------------------------------------


def bounds_by_label(g: torch.Generator) -> Case:
    """Bounds of the size that images of 784 pixels have, and shares of the classes that are not equal."""
    return {"bounds": 1.5 * normal(g, 6, 4) - between(g, 110, 160),
            "shares": torch.softmax(1.2 * normal(g, 4), 0)}


@sheet.function("3.9", "code", 2, "A generator that classifies", cases=bounds_by_label,
                returns=("p(y | x)", "bound on log p(x)"))
def classify(bounds, shares):
    """Bayes' rule as it is written, with plain products: float64 still holds e to the power of -160."""
    joint = torch.exp(bounds) * shares
    return joint / joint.sum(1, keepdim=True), joint.sum(1).log()


@classify.mistake("The shares of the classes are left out: that is right only where all are equally frequent. Bayes' "
                  "rule has p(y) in it, and so has the mixture.")
def _(bounds, shares):
    return bounds.softmax(1), bounds.logsumexp(1) - math.log(len(shares))


@classify.mistake("The shares of the classes are left out, and so is the 1/K of equal ones: ten densities added up are "
                  "no density.")
def _(bounds, shares):
    return bounds.softmax(1), bounds.logsumexp(1)


@classify.mistake("It is normalised over the images of the batch. For one image, the probabilities of its *labels* are "
                  "to add up to one.")
def _(bounds, shares):
    joint = bounds + shares.log()
    return joint.softmax(0), joint.logsumexp(1)


@classify.mistake("Your p(y | x) is right. Your second value averages the logarithms; log p(x) is the "
                  "logarithm of the average, and larger (Jensen). Both are below log p(x), yours needlessly far.")
def _(bounds, shares):
    return classify.oracle(bounds, shares)[0], bounds @ shares


@classify.mistake("Your p(y | x) is right. Your second value is the best label's term alone; the other labels add "
                  "to p(x) too.")
def _(bounds, shares):
    return classify.oracle(bounds, shares)[0], (bounds + shares.log()).max(1).values


@classify.mistake("The sign is turned: these are bounds on log p(x | y), the larger the likelier. You read them "
                  "as losses.")
def _(bounds, shares):
    joint = shares.log() - bounds
    return joint.softmax(1), joint.logsumexp(1)


# --- 3.10 and 3.11: the gap ------------------------------------------------------------------


def linear_model(g: torch.Generator) -> Case:
    """An image of five numbers, a code of three, and any Gaussian q."""
    root = 0.5 * normal(g, 3, 3) + 0.4 * torch.eye(3)
    return {"x": 2 * normal(g, 5), "shift": normal(g, 5), "A": normal(g, 5, 3), "var": between(g, 0.3, 0.8),
            "m": normal(g, 3), "C": root @ root.T + 0.05 * torch.eye(3)}


def posterior_of(x, shift, A, var):
    """p(z | x) by conditioning the joint Gaussian of z and x."""
    gain = A.T @ torch.linalg.inv(A @ A.T + var * torch.eye(len(A)).to(A))
    S = torch.eye(A.shape[1]).to(A) - gain @ A
    return gain @ (x - shift), (S + S.T) / 2


@sheet.function("3.10", "derive", 3, "The bound in closed form", cases=linear_model)
def exact_bound(x, shift, A, var, m, C):
    """(3.2) read from the left: log p(x | y) less the KL from q to the exact posterior."""
    log_px = MultivariateNormal(shift, A @ A.T + var * torch.eye(len(A)).to(A)).log_prob(x)
    return log_px - kl_divergence(MultivariateNormal(m, C), MultivariateNormal(*posterior_of(x, shift, A, var)))


@exact_bound.mistake("The likelihood is taken at q's mean alone. On average over q the squared error is larger, by the "
                     "scatter that C makes in the image: a trace is missing.")
def _(x, shift, A, var, m, C):
    return exact_bound.oracle(x, shift, A, var, m, C) + 0.5 * torch.trace(A @ C @ A.T) / var


@exact_bound.mistake("The normalising constant of the Gaussian pixels is missing. It does not depend on q, but without "
                     "it this is no bound on a log density.")
def _(x, shift, A, var, m, C):
    return exact_bound.oracle(x, shift, A, var, m, C) + 0.5 * len(x) * math.log(2 * math.pi * var)


@exact_bound.mistake("`var` is the variance of a pixel already; it is squared once more.")
def _(x, shift, A, var, m, C):
    return exact_bound.oracle(x, shift, A, var**2, m, C)


@exact_bound.mistake("That is the expected log-likelihood alone: the KL between q and the prior is not charged.")
def _(x, shift, A, var, m, C):
    standard = MultivariateNormal(torch.zeros_like(m), torch.eye(len(m)).to(m))
    return exact_bound.oracle(x, shift, A, var, m, C) + kl_divergence(MultivariateNormal(m, C), standard)


@exact_bound.mistake("The KL is the wrong way round: q comes first, for the mean in (3.2) is over q.")
def _(x, shift, A, var, m, C):
    standard, q = MultivariateNormal(torch.zeros_like(m), torch.eye(len(m)).to(m)), MultivariateNormal(m, C)
    return exact_bound.oracle(x, shift, A, var, m, C) + kl_divergence(q, standard) - kl_divergence(standard, q)


@exact_bound.mistake("That is log p(x | y) itself, whatever q is. The bound is as far below it as q is from the "
                     "posterior.")
def _(x, shift, A, var, m, C):
    return MultivariateNormal(shift, A @ A.T + var * torch.eye(len(A)).to(A)).log_prob(x)


@exact_bound.mistake("The label's part of the mean, `shift`, is forgotten: this is the bound for a model without a "
                     "label.")
def _(x, shift, A, var, m, C):
    return exact_bound.oracle(x, 0 * shift, A, var, m, C)


sheet.number("3.11", "derive", 1, "Too sure of the code", truth=8 / 2 * (math.log(2) - 0.5), within=0.02, why=(
    "KL(N(m, P/2)‖N(m, P)) = d/2 (log 2 - ½), whatever x and "
    "the decoder are."), mistakes=[
    (8 / 2 * (1 - math.log(2)), "That is the KL from the posterior to q. The gap in (3.2) is the KL from q to the "
                                "posterior: its mean is over q."),
    (8 / 2 * math.log(2), "That is the part of the log determinants. The trace has shrunk too, and gives a part back."),
    ((math.log(2) - 0.5) / 2, "That is one coordinate's share; there are eight."),
    (0.0, "The mean is right, but a bound is tight only where all of q is the posterior, its width as well."),
    (8 * (math.log(2) - 0.5), "The half in front of the KL is missing."),
])


# --- 3.12 and 3.13: another label ------------------------------------------------------------


def images_to_relabel(g: torch.Generator) -> Case:
    """Images of a linear model, their labels, and others; every label changes."""
    y = labels(g, 5, 5)
    return {"x": 2 * normal(g, 5, 6), "y": y, "y_new": (y + 2) % 4, "A": normal(g, 6, 3), "table": normal(g, 4, 6),
            "var": between(g, 1.5, 2.5)}


@sheet.function("3.12", "code", 2, "The same code, another label", cases=images_to_relabel)
def relabel(x, y, y_new, A, table, var):
    """Image by image, with the posterior's mean from the joint Gaussian."""
    return torch.stack([table[b] + A @ posterior_of(row, table[a], A, var)[0]
                        for row, a, b in zip(x, y.tolist(), y_new.tolist(), strict=True)])


@relabel.mistake("The image is encoded with its *new* label. What it was belongs to the encoder; what it shall be, to "
                 "the decoder. Otherwise the code takes up the difference of the classes, and puts it back.")
def _(x, y, y_new, A, table, var):
    return relabel.oracle(x, y_new, y_new, A, table, var)


@relabel.mistake("It decodes with the old label: that is a reconstruction.")
def _(x, y, y_new, A, table, var):
    return relabel.oracle(x, y, y, A, table, var)


@relabel.mistake("The class means are exchanged in the image itself. What no code can express, a speck or a marker, is "
                 "then carried along; an analogy passes through the code.")
def _(x, y, y_new, A, table, var):
    return x - table[y] + table[y_new]


@relabel.mistake("That is the code that fits the image best. The posterior's mean also heeds the prior "
                 "N(0, I), which pulls it towards zero, the more so the larger `var`.")
def _(x, y, y_new, A, table, var):
    return table[y_new] + (x - table[y]) @ torch.linalg.pinv(A).T @ A.T


@relabel.mistake("The old label's mean is not taken off before encoding: the code then tells the old class once more, "
                 "and the new image is of both.")
def _(x, y, y_new, A, table, var):
    return torch.stack([table[b] + A @ posterior_of(row, 0 * row, A, var)[0]
                        for row, b in zip(x, y_new.tolist(), strict=True)])


sheet.choice("3.13", "predict", 1, "A mark on the film", answer="d", why=(
    "Given the label, the code need only say whether an image is usual for its label. An unmarked 3 is usual, so its "
    "code says so; decoded as an 8, usual means marked."), wrongs={
    "a": "Nothing tells the model that the square is no part of an 8. It learns p(x | y) of the images that came "
         "with the label, and nine in ten of those had one.",
    "b": "Then z would have to say 'no mark' for every image without one. That costs nats; with the label given it is "
         "cheaper to say only what is *unusual*, and for these images nothing is.",
    "c": "A decoder that sees label and code has no reason to toss a coin. What do these two say about the mark?",
})


# --- 3.14 and 3.15: averaged draws -----------------------------------------------------------


def a_posterior(g: torch.Generator) -> Case:
    """q of some images, and how many draws are averaged."""
    return {"mu": normal(g, 5, 3), "logvar": normal(g, 5, 3) - 1, "n": int(torch.randint(2, 6, (), generator=g))}


def kl_of(mu, var):
    """KL from N(mu, var) to N(0, I), nats per image."""
    return kl_divergence(Normal(mu, var.sqrt()), Normal(0.0, 1.0)).sum(1)


@sheet.function("3.14", "derive", 2, "The KL that is due", cases=a_posterior, returns=("charged", "due"))
def charged_and_due(mu, logvar, n):
    """By torch.distributions, with the variance of the mean by its covariance matrix: 1/n in all entries' sum."""
    weights = torch.full((n,), 1 / n, dtype=mu.dtype)
    share = weights @ torch.eye(n, dtype=mu.dtype) @ weights
    return kl_of(mu, logvar.exp()), kl_of(mu, share * logvar.exp())


@charged_and_due.mistake("What is charged is right. The average's variance is σ²/n; you divide `logvar` by n, "
                         "which is a root of the variance.")
def _(mu, logvar, n):
    return kl_of(mu, logvar.exp()), kl_of(mu, (logvar / n).exp())


@charged_and_due.mistake("What is charged is right. The *standard deviation* is divided by n here; independent draws "
                         "average out more slowly, the variance falls as 1/n.")
def _(mu, logvar, n):
    return kl_of(mu, logvar.exp()), kl_of(mu, logvar.exp() / n**2)


@charged_and_due.mistake("What is charged is right. The log term is corrected, but a smaller variance also costs less "
                         "by itself: look at both places where σ² stands in the KL.")
def _(mu, logvar, n):
    charged = kl_of(mu, logvar.exp())
    return charged, charged + 0.5 * mu.shape[1] * math.log(n)


@charged_and_due.mistake("What is charged is right. The sum of n draws has n times the variance, their *average* an "
                         "n-th of it.")
def _(mu, logvar, n):
    return kl_of(mu, logvar.exp()), kl_of(mu, n * logvar.exp())


@charged_and_due.mistake("The two are exchanged: the companion charges the KL of one draw, and due is that of the "
                         "average.")
def _(mu, logvar, n):
    return kl_of(mu, logvar.exp() / n), kl_of(mu, logvar.exp())


@charged_and_due.mistake("It is halved whatever n is: two draws are the companion's case, n is asked for.")
def _(mu, logvar, n):
    return kl_of(mu, logvar.exp()), kl_of(mu, logvar.exp() / 2)


def scalar_model(g: torch.Generator) -> Case:
    """A decoder of one number, one image of one pixel, and the number of draws that are averaged."""
    return {"a": between(g, 0.8, 1.6), "var": between(g, 0.4, 0.8), "x": between(g, 1.0, 2.5),
            "n": int(torch.randint(2, 5, (), generator=g))}


def least_reported(a, var, x, n):
    """Where the reported loss is least: its mean, its variance, and the loss there, by calculus."""
    m, v = a * x / (a**2 + var), 1 / (1 + a**2 / (n * var))
    squares = (x - a * m) ** 2 + a**2 * v / n
    return m, v, 0.5 * (squares / var + math.log(2 * math.pi * var) + m**2 + v - 1 - math.log(v))


def true_nll(a, var, x):
    """-log p(x): x is Gaussian, with variance a^2 + var."""
    return -float(Normal(0.0, math.sqrt(a**2 + var)).log_prob(torch.tensor(x, dtype=torch.float64)))


@sheet.function("3.15", "investigate", 2, "Train on the average", cases=scalar_model,
                returns=("variance", "margin"), rtol=5e-3, atol=2e-3)
def trained_on_average(a, var, x, n):
    """The trained variance, and the least loss above -log p(x | y): negative, so that it is no bound."""
    _, v, loss = least_reported(a, var, x, n)
    return v, loss - true_nll(a, var, x)


@trained_on_average.mistake("The margin is zero: you average n *reconstruction terms*, each for its own draw. That "
                            "is the right way to use n draws, and leaves the bound alone. The companion averages the "
                            "draws, and decodes once.")
def _(a, var, x, n):
    return trained_on_average.oracle(a, var, x, 1)


@trained_on_average.mistake("You charge the KL that is due, for a variance of v/n; so the bound is mended, and the "
                            "margin gone. Charge that of a single draw, as the companion does, and see what it buys.")
def _(a, var, x, n):
    return n * trained_on_average.oracle(a, var, x, 1)[0], 0.0


@trained_on_average.mistake("The margin's sign is turned: it is the trained loss minus -log p(x), and what is "
                            "striking is that it falls below zero.")
def _(a, var, x, n):
    v, margin = trained_on_average.oracle(a, var, x, n)
    return v, -margin


@trained_on_average.mistake("The loss is compared with the reconstruction at q's mean. The truth is -log p(x) with "
                            "the code integrated out: here x is Gaussian too, with a variance of its own.")
def _(a, var, x, n):
    m, v, loss = least_reported(a, var, x, n)
    return v, loss + float(Normal(a * m, math.sqrt(var)).log_prob(torch.tensor(x)))


@trained_on_average.mistake("The first value is the variance of the average, v/n. What the encoder has learned is "
                            "v, and that has grown in order to be divided.")
def _(a, var, x, n):
    v, margin = trained_on_average.oracle(a, var, x, n)
    return v / n, margin


@trained_on_average.mistake("The noise of the average is divided by n as a standard deviation; its variance is v/n.")
def _(a, var, x, n):
    return trained_on_average.oracle(a, var, x, n**2)


# --- 3.16 ------------------------------------------------------------------------------------


def two_ways(g: torch.Generator) -> Case:
    """How loud the label is, what the code costs, and how long is trained."""
    return {"volume": between(g, 0.5, 1.5), "cost": between(g, 0.03, 0.1),
            "steps": int(torch.randint(30, 60, (), generator=g)), "rate": 0.05}


def slopes(u, w, v, volume, cost):
    """The gradient, worked out by hand."""
    error = 1 - (w * u + volume * v)
    return cost * u - error * w, -error * u, -error * volume


def race(volume, cost, steps, rate, change=lambda slopes, u, w, volume, cost: slopes):
    """Plain gradient descent on (u, w, v), with slopes that a mistake may change; returns u, w, v."""
    u, w, v = 0.3, 0.3, 0.0
    for _ in range(steps):
        du, dw, dv = change(slopes(u, w, v, volume, cost), u, w, volume, cost)
        u, w, v = u - rate * du, w - rate * dw, v - rate * dv
    return u, w, v


@sheet.function("3.16", "investigate", 3, "Who gets the word in first", cases=two_ways,
                returns=("through the code", "through the label"))
def word_in_first(volume, cost, steps, rate):
    """What code and label contribute after so many steps."""
    u, w, v = race(volume, cost, steps, rate)
    return w * u, volume * v


@word_in_first.mistake("The code is free of charge here. The term ½ c u² stands for the KL, and it is what "
                       "makes the code give way in the end.")
def _(volume, cost, steps, rate):
    return word_in_first.oracle(volume, 0.0, steps, rate)


@word_in_first.mistake("The charge falls on w too. Only what the *encoder* sends is paid for; the decoder may weigh it "
                       "as it likes.")
def _(volume, cost, steps, rate):
    u, w, v = race(volume, cost, steps, rate, lambda s, u, w, volume, cost: (s[0], s[1] + cost * w, s[2]))
    return w * u, volume * v


@word_in_first.mistake("The halves in front of the squared error and the charge are missing: these are steps of twice "
                       "the length.")
def _(volume, cost, steps, rate):
    return word_in_first.oracle(volume, cost, steps, 2 * rate)


@word_in_first.mistake("The half in front of the charge is missing: the code is twice as dear here.")
def _(volume, cost, steps, rate):
    return word_in_first.oracle(volume, 2 * cost, steps, rate)


@word_in_first.mistake("The label's weight moves as if the label were not loud. The volume multiplies the label's "
                       "*input*, so that the gradient of v carries it: that is its head start.")
def _(volume, cost, steps, rate):
    u, w, v = race(volume, cost, steps, rate, lambda s, u, w, volume, cost: (s[0], s[1], s[2] / volume))
    return w * u, volume * v


@word_in_first.mistake("The three numbers move one after the other, each after looking at what has moved already. Take "
                       "all gradients first, as an optimiser does.")
def _(volume, cost, steps, rate):
    u, w, v = 0.3, 0.3, 0.0
    for _ in range(steps):
        u -= rate * slopes(u, w, v, volume, cost)[0]
        w -= rate * slopes(u, w, v, volume, cost)[1]
        v -= rate * slopes(u, w, v, volume, cost)[2]
    return w * u, volume * v


@word_in_first.mistake("Gradients pile up from step to step: clear them before each `backward`.")
def _(volume, cost, steps, rate):
    summed = [0.0, 0.0, 0.0]

    def pile(s, u, w, volume, cost):
        summed[:] = [before + now for before, now in zip(summed, s, strict=True)]
        return summed

    u, w, v = race(volume, cost, steps, rate, pile)
    return w * u, volume * v


@word_in_first.mistake("These are the weights u and v themselves. What counts is what each way contributes to the "
                       "output: wu and Vv.")
def _(volume, cost, steps, rate):
    u, _, v = race(volume, cost, steps, rate)
    return u, v
