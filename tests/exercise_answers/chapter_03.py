"""Planted answers to chapter 3's exercises."""


def choices(name, wrong):
    """Wrong letters with words of their explanations, and answers that are no letter of the list."""
    return [(f'{name} = "{letter}"', words) for letter, words in wrong.items()] + [
        (f'{name} = "x"', "is asked for"), (f"{name} = 3", "is asked for, not 3")]


JOIN = "def join(z, y, table):\n    e = table[y]\n    hot = F.one_hot(y, len(table)).float()\n"
LOSS = ("def conditional_loss(x, logits, mu, logvar, y, centres):\n"
        "    nll = F.binary_cross_entropy_with_logits(logits, x, reduction='sum') / len(x)\n")
PRIOR = ("def best_prior(mu, logvar, y, label):\n    mu, logvar = mu[y == label], logvar[y == label]\n"
         "    m, V = mu.mean(0), torch.cov(mu.T, correction=0)\n")
SAVED = "    return m, S, 0.5 * (S.trace() + m @ m - len(m) - S.logdet())"
BOUND = ("def exact_bound(x, shift, A, var, m, C):\n    r = (x - shift - A @ m).square().sum()\n"
         "    t = (A @ C @ A.T).trace()\n    kl = 0.5 * (C.trace() + m @ m - len(m) - C.logdet())\n"
         "    constant = 0.5 * len(x) * math.log(2 * math.pi * var)\n")
RELABEL = "def relabel(x, y, y_new, A, table, var):\n    P = torch.linalg.inv(torch.eye(A.shape[1]) + A.T @ A / var)\n"
KL = "    def kl(v):\n        return 0.5 * (mu**2 + v - 1 - v.log()).sum(1)\n    v = logvar.exp()\n"
DUE = "def charged_and_due(mu, logvar, n):\n" + KL
TRAIN = """def trained_on_average(a, var, x, n):
    m, s = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([m, s], max_iter=60, line_search_fn="strong_wolfe")
    def closure():
        optimizer.zero_grad()
        v = s.exp()
        nll = 0.5 * (((x - a * m) ** 2 + a**2 * {used}) / var + math.log(2 * math.pi * var))
        loss = nll + 0.5 * (m**2 + {charged} - 1 - torch.log({charged}))
        loss.backward()
        return loss
    loss = optimizer.step(closure)
    loss = closure().item()
    v = s.exp().item()
    truth = 0.5 * (x**2 / (a**2 + var) + math.log(2 * math.pi * (a**2 + var)))
    {end}
"""
END = "return v, loss - truth"


def trained(used="v / n", charged="v", end=END):
    """The loop with another loss or another end."""
    return TRAIN.format(used=used, charged=charged, end=end)


RACE = """def word_in_first(volume, cost, steps, rate):
    p = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.3, 0.3, 0.0)]
    optimizer = torch.optim.SGD(p, lr=rate)
    for _ in range(steps):
        u, w, v = p
        loss = {loss}
        {clear}
        loss.backward()
        optimizer.step()
    u, w, v = p
    return {end}
"""
RIGHT = "0.5 * (1 - w * u - volume * v) ** 2 + 0.5 * cost * u**2"


def raced(loss=RIGHT, clear="optimizer.zero_grad()", end="w * u, volume * v"):
    """The loop with another loss or another end."""
    return RACE.format(loss=loss, clear=clear, end=end)


WRONG = {
    "3.1": choices("choice_3_1", {"a": "true p(x)", "c": "given for nothing", "d": "do not add up"}),
    "3.2": choices("choice_3_2", {"a": "what would drive them", "b": "moves along", "d": "does depend on e_y"}),
    "3.3": [
        (JOIN + "    return z + e, torch.cat([z, e], 1), torch.cat([z, y[:, None].float()], 1)", "not an amount"),
        (JOIN + "    return z + e, torch.cat([e, z], 1), torch.cat([hot, z], 1)", "before the code"),
        (JOIN + "    return z + e, torch.cat([z, e], 1), torch.cat([z, F.one_hot(y).float()], 1)", "absent"),
        (JOIN + "    return z * e, torch.cat([z, e], 1), torch.cat([z, hot], 1)", "multiplied into"),
        (JOIN + "    return z + e, torch.cat([z, e], 0), torch.cat([z, hot], 1)", "has the shape (12, 3)"),
        (JOIN + "    return z + e, torch.cat([z, e], 1)", "3 things are asked for"),
    ],
    "3.4": [
        ("def tied(W, table):\n    zero = torch.zeros(len(W), len(table))\n"
         "    return torch.cat([W, torch.zeros_like(W)], 1), torch.cat([W, zero], 1)", "never hears"),
        ("def tied(W, table):\n    return torch.cat([W, W], 1) / 2, torch.cat([W, W @ table.T], 1) / 2", "halved"),
        ("def tied(W, table):\n    return torch.cat([W, W], 1), torch.cat([W @ table.T, W], 1)", "in the other order"),
        ("def tied(W, table):\n    V = F.linear(table.mean(0, keepdim=True), W).T.repeat(1, len(table))\n"
         "    return torch.cat([W, W], 1), torch.cat([W, V], 1)", "each class its own"),
        ("def tied(W, table):\n    return W, W @ table.T", "has the shape (7, 3)"),
    ],
    "3.5": [("prediction_3_5 = math.log(2)", "equally frequent"), ("prediction_3_5 = 0.0808", "in bits"),
            ("prediction_3_5 = -math.log(0.01)", "film of the rare disease"), ("prediction_3_5 = 0.046", "rare films'"),
            ("prediction_3_5 = 0.5", "too high")],
    "3.6": choices("choice_3_6", {"a": "two radiologists", "c": "either entropy", "d": "logarithms do not"}),
    "3.7": [
        (LOSS + "    return nll + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()", "to N(0, I)"),
        (LOSS + "    m = mu - centres[y]\n    return nll / 12 + 0.5 * (m**2 + logvar.exp() - 1 - logvar).sum(1).mean()",
         "averaged, not added"),
        (LOSS + "    m = mu - centres[y]\n    return nll + (m**2 + logvar.exp() - 1 - logvar).sum(1).mean()",
         "half in front"),
        (LOSS + "    m = mu - centres[y]\n    return nll - 0.5 * (m**2 + logvar.exp() - 1 - logvar).sum(1).mean()",
         "subtracted"),
        (LOSS + "    m = mu - centres[y]\n    return nll + 0.5 * (m**2 + logvar.exp() - 1 - logvar).mean()",
         "one coordinate on average"),
        (LOSS + "    m = mu - centres[y]\n"
         "    return nll * len(x) + 0.5 * (m**2 + logvar.exp() - 1 - logvar).sum()", "sum over the batch"),
        (LOSS + "    m = mu - centres[y]\n"
         "    return nll + 0.5 * (m**2 + (2 * logvar).exp() - 1 - 2 * logvar).sum(1).mean()", "a standard deviation"),
    ],
    "3.8": [
        (PRIOR + "    S = V\n" + SAVED, "means alone"),
        (PRIOR + "    S = logvar.exp().mean(0).diag()\n" + SAVED, "variances alone"),
        (PRIOR + "    S = V + logvar.mean(0).exp().diag()\n" + SAVED, "geometric mean"),
        (PRIOR + "    S = V + logvar.exp().mean(0).diag()\n"
         "    inverse = torch.linalg.inv(S)\n"
         "    return m, S, 0.5 * (inverse.trace() + m @ inverse @ m - len(m) + S.logdet())", "the other KL"),
        (PRIOR + "    return m, V + logvar.exp().mean(0), 0.0", "Right is: mean"),
    ],
    "3.9": [
        ("def classify(bounds, shares):\n    return bounds.softmax(1), bounds.logsumexp(1)", "no density"),
        ("def classify(bounds, shares):\n    return bounds.softmax(1), bounds.logsumexp(1) - math.log(bounds.shape[1])",
         "only where all are equally frequent"),
        ("def classify(bounds, shares):\n    j = bounds + shares.log()\n    return j.softmax(1), bounds @ shares",
         "(Jensen)"),
        ("def classify(bounds, shares):\n    j = bounds + shares.log()\n    return j.softmax(0), j.logsumexp(1)",
         "over the images"),
        ("def classify(bounds, shares):\n    j = bounds.exp() * shares\n    return j / j.sum(1, True), j.sum(1).log()",
         "NaN"),
    ],
    "3.10": [
        (BOUND + "    return -constant - 0.5 * r / var - kl", "a trace is missing"),
        (BOUND + "    return -0.5 * (r + t) / var - kl", "normalising constant"),
        (BOUND + "    return -constant - 0.5 * (r + t) / var", "not charged"),
        (BOUND + "    constant = len(x) * math.log(var * math.sqrt(2 * math.pi))\n"
         "    return -constant - 0.5 * (r + t) / var**2 - kl", "squared once more"),
        (BOUND + "    px = torch.distributions.MultivariateNormal(shift, A @ A.T + var * torch.eye(len(x)))\n"
         "    return px.log_prob(x)", "whatever q is"),
    ],
    "3.11": [("prediction_3_11 = 4 * (1 - math.log(2))", "from the posterior to q"),
             ("prediction_3_11 = 2.77", "log determinants"), ("prediction_3_11 = 0.0966", "one coordinate's"),
             ("prediction_3_11 = 0", "its width as well"), ("prediction_3_11 = 1.545", "half in front")],
    "3.12": [
        (RELABEL + "    return table[y_new] + (x - table[y_new]) @ A @ P / var @ A.T", "with its *new* label"),
        (RELABEL + "    return table[y] + (x - table[y]) @ A @ P / var @ A.T", "a reconstruction"),
        (RELABEL + "    return table[y_new] + x @ A @ P / var @ A.T", "not taken off"),
        (RELABEL + "    return x + table[y_new] - table[y]", "in the image itself"),
        (RELABEL + "    z = torch.linalg.lstsq(A, (x - table[y]).T).solution\n    return table[y_new] + (A @ z).T",
         "fits the image best"),
    ],
    "3.13": choices("choice_3_13", {"a": "nine in ten", "b": "costs nats", "c": "toss a coin"}),
    "3.14": [
        (DUE + "    return kl(v), kl((logvar / n).exp())", "divide `logvar`"),
        (DUE + "    return kl(v), kl((logvar.exp().sqrt() / n) ** 2)", "*standard deviation*"),
        (DUE + "    return kl(v), kl(v) + mu.shape[1] / 2 * math.log(n)", "both places"),
        (DUE + "    return kl(v / n), kl(v)", "exchanged"),
        (DUE + "    return kl(v), kl(v * n)", "sum of n draws"),
    ],
    "3.15": [
        (trained(used="v"), "reconstruction terms"), (trained(charged="(v / n)"), "KL that is due"),
        (trained(end="return v, truth - loss"), "sign is turned"), (trained(end="return v / n, loss - truth"), "v/n"),
        (trained(used="v / n**2"), "as a standard deviation"),
        (trained(end="return v, loss - 0.5 * ((x - a * m.item()) ** 2 / var + math.log(2 * math.pi * var))"),
         "code integrated out"),
    ],
    "3.16": [
        (raced(clear="pass"), "pile up"), (raced(loss="0.5 * (1 - w * u - volume * v) ** 2"), "free of charge"),
        (raced(loss=RIGHT + " + 0.5 * cost * w**2"), "falls on w too"),
        (raced(loss="(1 - w * u - volume * v) ** 2 + cost * u**2"), "twice the length"),
        (raced(loss="0.5 * (1 - w * u - volume * v) ** 2 + cost * u**2"), "twice as dear"),
        (raced(end="u, v"), "weights u and v"),
        ("def word_in_first(V, c, steps, rate):\n    u, w, v = 0.3, 0.3, 0.0\n    for _ in range(steps):\n"
         "        u -= rate * (c * u - (1 - w * u - V * v) * w)\n        w += rate * (1 - w * u - V * v) * u\n"
         "        v += rate * (1 - w * u - V * v) * V\n    return w * u, V * v", "one after the other"),
    ],
}
OTHER = {
    "3.1": ['choice_3_1 = "(B)"'],
    "3.2": ['choice_3_2 = "C"'],
    "3.3": ["def join(z, y, table):\n    hot = torch.zeros(len(z), len(table)).scatter_(1, y[:, None], 1.0)\n"
            "    e = hot @ table\n    return z + e, torch.hstack([z, e]), torch.hstack([z, hot])"],
    "3.4": ["def tied(W, table):\n    W, table = W.numpy(), table.numpy()\n    import numpy as np\n"
            "    return np.hstack([W, W]), np.hstack([W, np.stack([W @ e for e in table], 1)])"],
    "3.5": ["prediction_3_5 = 0.056",
            "prediction_3_5 = torch.distributions.Bernoulli(torch.tensor(0.01)).entropy()"],
    "3.6": ['choice_3_6 = "(b)"'],
    "3.7": ["def conditional_loss(x, logits, mu, logvar, y, centres):\n    total = 0.0\n    for k in range(len(x)):\n"
            "        p = torch.sigmoid(logits[k].double())\n"
            "        total -= (x[k] * p.log() + (1 - x[k]) * (1 - p).log()).sum()\n"
            "        q = torch.distributions.Normal(mu[k], (logvar[k] / 2).exp())\n"
            "        prior = torch.distributions.Normal(centres[y[k]], torch.ones_like(mu[k]))\n"
            "        total += torch.distributions.kl_divergence(q, prior).sum()\n    return total / len(x)"],
    "3.8": ["def best_prior(mu, logvar, y, label):\n    D = torch.distributions\n"
            "    mu, var = mu[y == label], logvar[y == label].exp()\n"
            "    m = mu.mean(0)\n    S = ((mu - m)[:, :, None] * (mu - m)[:, None] + torch.diag_embed(var)).mean(0)\n"
            "    standard = D.MultivariateNormal(torch.zeros_like(m), torch.eye(len(m)))\n"
            "    return m, S, D.kl_divergence(D.MultivariateNormal(m, S), standard)"],
    "3.9": ["def classify(bounds, shares):\n    top = bounds.max(1, keepdim=True).values\n"
            "    joint = (bounds - top).exp() * shares\n    total = joint.sum(1, keepdim=True)\n"
            "    return joint / total, (total.log() + top)[:, 0]"],
    "3.10": ["def exact_bound(x, shift, A, var, m, C):\n    D = torch.distributions\n"
             "    q, prior = D.MultivariateNormal(m, C), D.MultivariateNormal(0 * m, torch.eye(len(m)))\n"
             "    pixels = D.Normal(shift + A @ m, math.sqrt(var)).log_prob(x).sum()\n"
             "    return pixels - 0.5 * (A.T @ A * C).sum() / var - D.kl_divergence(q, prior)"],
    "3.11": ["prediction_3_11 = 0.7726"],
    "3.12": ["def relabel(x, y, y_new, A, table, var):\n    cov = A @ A.T + var * torch.eye(len(A))\n"
             "    z = A.T @ torch.linalg.solve(cov, (x - table[y]).T)\n    return (A @ z).T + table[y_new]"],
    "3.13": ['choice_3_13 = "D"'],
    "3.14": ["def charged_and_due(mu, logvar, n):\n    D = torch.distributions\n    std = (logvar / 2).exp()\n"
             "    return tuple(D.kl_divergence(D.Normal(mu, s), D.Normal(0.0, 1.0)).sum(1) "
             "for s in (std, std / math.sqrt(n)))"],
    "3.15": [trained(),
             "def trained_on_average(a, var, x, n):\n    v = torch.linspace(1e-3, 1, 20001, dtype=torch.float64)\n"
             "    m = a * x / (a**2 + var)\n    loss = 0.5 * (((x - a * m) ** 2 + a**2 * v / n) / var\n"
             "        + math.log(2 * math.pi * var) + m**2 + v - 1 - v.log())\n    k = loss.argmin()\n"
             "    return v[k], loss[k] - 0.5 * (x**2 / (a**2 + var) + math.log(2 * math.pi * (a**2 + var)))"],
    "3.16": [raced()],
}
