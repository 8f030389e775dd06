"""Planted answers to chapter 9's exercises."""

INTERVAL = """
def exact_interval(k, n):
    def at_most(c, p):
        return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(c + 1))
    def share(c, chance):
        low, high = 0.0, 1.0
        for _ in range(50):
            p = (low + high) / 2
            low, high = (p, high) if at_most(c, p) > chance else (low, p)
        return low
    return RETURNED
"""
LATENTS = """
def for_the_decoder(z_drawn, z_train):
    d = (0, 2, 3)
    m, s = z_train.mean(d, keepdim=True), z_train.std(d, keepdim=True)
    r = z_drawn.std(d, keepdim=True)
    return RETURNED
"""
FLOOR = """
def floor(n, d):
    found = 0
    for _ in range(60):
        x, y = torch.randn(n, d), torch.randn(n, d)
        S, R = torch.cov(x.T), torch.cov(y.T)
        root = torch.linalg.eigvals(S @ R).real.sqrt().sum()
        found += RETURNED
    return AT_END
"""
LOOP = """
v, beta = torch.tensor([5, 2, 0.7, 0.15, 0.04]), 0.5
a, d = torch.ones(5, requires_grad=True), torch.ones(5, requires_grad=True)
logvar = torch.full((5,), -2.0, requires_grad=True)
optimizer = torch.optim.Adam([a, d, logvar], 0.03)
for _ in range(700):
    error = (v * (1 - d * a) ** 2 + d**2 * logvar.exp()).sum()
    kl = (a**2 * v + logvar.exp() - 1 - logvar).sum() / 2
    optimizer.zero_grad()
    (LOSS).backward()
    optimizer.step()
nats_9_5 = RETURNED
"""
TURNED = """
def disguise(films):
    a = math.radians(DEGREES)
    m = torch.tensor([[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0]]).repeat(len(films), 1, 1)
    grid = F.affine_grid(ZOOM * m, films.shape, align_corners=False)
    return F.grid_sample(films, grid, padding_mode="border", align_corners=False)
"""


def returned(template, value, **others):
    """A template's code with what it returns, and other words, filled in."""
    for word, text in ({"RETURNED": value} | others).items():
        template = template.replace(word, text)
    return template


def one(signature, value):
    """A function of one line."""
    return f"def {signature}:\n    return {value}"


WRONG = {
    "9.1": [
        ('choice_9_1 = "a"', "So the eye judges"),
        ('choice_9_1 = "c"', "yet they do see"),
        ('choice_9_1 = "d"', "distance of the means"),
        ('choice_9_1 = "x"', "is asked for"),
        ("choice_9_1 = 3", "is asked for"),
    ],
    "9.2": [
        (one("half_noise(s, T)", "2 * T / math.pi * math.atan(s**2)"), "tangent is a square"),
        (one("half_noise(s, T)", "2 * T / math.pi * math.acos(s / math.sqrt(1 + s**2)) if s < 0 else "
             "2 * T / math.pi * math.acos(s / math.sqrt(1 + s**2))"), "lost early"),
        (one("half_noise(s, T)", "math.atan(s)"), "the angle"),
        (one("half_noise(s, T)", "2 / math.pi * math.atan(s)"), "share of the way"),
        (one("half_noise(s, T)", "T / math.pi * math.atan(s)"), "a factor of two"),
        (one("half_noise(s, T)", "round(2 * T / math.pi * math.atan(s))"), "You round"),
        (one("half_noise(s, T)", "T / 2"), "s must count"),
    ],
    "9.3": [
        ("prediction_9_3 = 0.5", "to two digits"),
        ("prediction_9_3 = 0.508", "add a whole"),
        ("prediction_9_3 = 1", "twenty alone"),
        ("prediction_9_3 = 20 / 2400", "share of all films"),
        ("prediction_9_3 = 0.6", "too high"),
        ('prediction_9_3 = "high"', "One number"),
    ],
    "9.4": [
        ("def price_of_scale(mu, logvar, a):\n    q = (mu**2 + logvar.exp()).mean()\n"
         "    return (a**2 - 1) / 2 * q - math.log(a), 1 / q", "a root is"),
        ("def price_of_scale(mu, logvar, a):\n    q = (mu**2 + logvar.exp()).mean()\n"
         "    return (a**2 - 1) / 2 * q - math.log(a), 1 / (mu**2).mean().sqrt()", "left the noise"),
        ("def price_of_scale(mu, logvar, a):\n    q = (mu**2 + logvar.exp()).mean()\n"
         "    return (a**2 - 1) * q - 2 * math.log(a), q**-0.5", "The ½"),
        ("def price_of_scale(mu, logvar, a):\n    q = (mu**2 + logvar.exp()).mean()\n"
         "    return (a**2 - 1) / 2 * q, q**-0.5", "has not moved"),
        ("def price_of_scale(mu, logvar, a):\n    kl = lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v).mean()\n"
         "    return kl(a * mu, logvar) - kl(mu, logvar), (mu**2 + logvar.exp()).mean()**-0.5", "only μ is scaled"),
        ("def price_of_scale(mu, logvar, a):\n    kl = lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v).mean()\n"
         "    return kl(a * mu, logvar + math.log(a)) - kl(mu, logvar), (mu**2 + logvar.exp()).mean()**-0.5",
         "twice log a"),
        ("def price_of_scale(mu, logvar, a):\n    q = mu**2 + logvar.exp()\n"
         "    return ((a**2 - 1) / 2 * q - math.log(a)).sum(), q.mean()**-0.5", "a sum over the latents"),
    ],
    "9.5": [
        (returned(LOOP, "error", LOSS="error + beta * kl"), "the squared error"),
        (returned(LOOP, "error + beta * kl", LOSS="error + beta * kl"), "the whole loss"),
        (returned(LOOP, "beta * kl", LOSS="error + beta * kl"), "beta times"),
        (returned(LOOP, "kl / math.log(2)", LOSS="error + beta * kl"), "in bits"),
        (returned(LOOP, "kl / 5", LOSS="error + beta * kl"), "the mean over"),
        (returned(LOOP, "2 * kl", LOSS="error + beta * 2 * kl"), "lost its ½"),
        (returned(LOOP, "kl", LOSS="error + kl"), "does not use"),
        (returned(LOOP, "kl", LOSS="beta * error + kl"), "multiplies the error"),
        ("v = np.array([5, 2, 0.7, 0.15, 0.04])\nnats_9_5 = np.log(v / 0.25).sum() / 2", "every pixel"),
        ("nats_9_5 = True", "One number"),
    ],
    "9.6": [
        (returned(LATENTS, "m + s * z_drawn"), "too narrow still"),
        (returned(LATENTS, "s * z_drawn / r"), "not put back"),
        (returned(LATENTS, "m + s**2 * z_drawn / r**2"), "variances"),
        (returned(LATENTS, "m + s * z_drawn * r"), "gets narrower"),
        (returned(LATENTS, "z_train.mean() + z_train.std() * z_drawn / z_drawn.std()"), "scale of its own"),
        (returned(LATENTS, "m + s * (z_drawn - z_drawn.mean(d, keepdim=True)) / r"), "subtract the mean"),
        (returned(LATENTS, "m + s * z_drawn / r").replace("(0, 2, 3)", "0"), "every place"),
        (returned(LATENTS, "m + s * z_drawn / z_drawn.std((2, 3), keepdim=True)"), "each film"),
    ],
    "9.7": [
        ("prediction_9_7 = 40 * 80 / 49", "twice at every step"),
        ("prediction_9_7 = 80 * 122 / 49", "after every pass"),
        ("prediction_9_7 = 40 * 202 / 49", "decode at every step"),
        ("prediction_9_7 = 49 / 6442", "turn it round"),
        ("prediction_9_7 = 6442", "millions"),
        ("prediction_9_7 = 5", "too low"),
        ("prediction_9_7 = True", "One number"),
    ],
    "9.8": [
        (one("floor(n, d)", "0.0 * n"), "endless sets"),
        (returned(FLOOR, "(x.mean(0) - y.mean(0)).square().sum()", AT_END="found / 60"), "means only"),
        (returned(FLOOR, "(x.mean(0) - y.mean(0)).square().sum() + (x.std(0) - y.std(0)).square().sum()",
                  AT_END="found / 60"), "direction by direction"),
        (returned(FLOOR, "x.mean(0).square().sum() + S.trace() + d - 2 * torch.linalg.eigvalsh(S).sqrt().sum()",
                  AT_END="found / 60"), "with the truth"),
        (returned(FLOOR, "(x.mean(0) - y.mean(0)).square().sum() + S.trace() + R.trace() - 2 * root",
                  AT_END="(found / 60)**0.5"), "a root at the end"),
        (returned(FLOOR, "(x.mean(0) - y.mean(0)).square().sum() + S.trace() + R.trace() - 2 * root",
                  AT_END="found / 60 / d"), "adds them up"),
    ],
    "9.9": [
        (one("closer_share(a, b, n, m)", "(a < b).float().mean()"), "the plain share"),
        (one("closer_share(a, b, n, m)", "(a < b).float().mean() - n / (n + m) + 0.5"), "add one half"),
        (one("closer_share(a, b, n, m)", "(a < b).float().mean() / (2 * n / (n + m))"), "twice the honest"),
        ("def closer_share(a, b, n, m):\n    p = (a < b).float().mean()\n    odds = p / (1 - p) * n / m\n"
         "    return odds / (1 + odds)", "wrong way round"),
        ("def closer_share(a, b, n, m):\n    p = (a < b).float().mean()\n    odds = p / (1 - p) * m / n\n"
         "    return 1 / (1 + odds)", "nearer to a held-out"),
        ("def closer_share(a, b, n, m):\n    p = (a < b).float().mean()\n    return p / (1 - p) * m / n",
         "These are odds"),
    ],
    "9.10": [
        (one("hits(x, y, a)", "(x > torch.quantile(x, 1 - a)).float().mean()"), "members' own scores"),
        (one("hits(x, y, a)", "(x > torch.quantile(torch.cat([x, y]), 1 - a)).float().mean()"), "together"),
        (one("hits(x, y, a)", "(x > torch.quantile(y, a)).float().mean()"), "wrong end"),
        (one("hits(x, y, a)", "(x[:, None] > y[None]).float().mean()"), "the AUC"),
        (one("hits(x, y, a)", "(x <= torch.quantile(y, 1 - a)).float().mean()"), "the share missed"),
        (one("hits(x, y, a)", "(x > torch.quantile(y, 1 - a)).sum()"), "how many"),
        (one("hits(x, y, a)", "(x > y.max()).float().mean()"), "no false alarm"),
    ],
    "9.11": [
        ("def auc_of_many(auc, k):\n    N = torch.distributions.Normal(0.0, 1.0)\n"
         "    return N.cdf(k * N.icdf(torch.tensor(auc)))", "multiplied by k"),
        (one("auc_of_many(auc, k)", "auc"), "unchanged"),
        (one("auc_of_many(auc, k)", "1 - (1 - auc)**k"), "at least one"),
        ("def auc_of_many(auc, k):\n    N = torch.distributions.Normal(0.0, 1.0)\n"
         "    d = math.sqrt(2) * N.icdf(torch.tensor(auc))\n    return N.cdf(math.sqrt(k) * d)", "once only"),
        (one("auc_of_many(auc, k)", "0.5 + k**0.5 * (auc - 0.5)"), "distance from one half"),
        ("def auc_of_many(auc, k):\n    N = torch.distributions.Normal(0.0, 1.0)\n"
         "    return math.sqrt(2 * k) * N.icdf(torch.tensor(auc))", "return the gap"),
    ],
    "9.12": [
        ("def exact_interval(k, n):\n    p = k / n\n    s = 1.96 * (p * (1 - p) / n)**0.5\n    return p - s, p + s",
         "normal approximation. Where"),
        ("def exact_interval(k, n):\n    p = k / n\n    s = 1.96 * (p * (1 - p) / n)**0.5\n"
         "    return max(0.0, p - s), p + s", "cut at zero"),
        (returned(INTERVAL, "(share(k - 1, 0.95) if k else 0.0), share(k, 0.05)"), "interval of 90 %"),
        (returned(INTERVAL, "share(k, 0.975), (share(k - 1, 0.025) if k else 0.0)"), "tails are strict"),
        ("def exact_interval(k, n):\n    z = 1.959964\n    p = k / n\n    c = (p + z**2 / (2 * n)) / (1 + z**2 / n)\n"
         "    w = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2))**0.5\n    return c - w, c + w", "Wilson"),
        (returned(INTERVAL, "(n * share(k - 1, 0.975) if k else 0.0), n * share(k, 0.025)"), "These are counts"),
        (returned(INTERVAL, "(share(k - 1, 0.975) if k else 0.0), 3 / n"), "rule of three"),
        (returned(INTERVAL, "share(k, 0.025)"), "Two things"),
    ],
    "9.13": [
        (one("published(films)", "films.clone()"), "as they are"),
        (one("published(films)", "0.95 * films"), "is promised"),
        (one("published(films)", "films[:1].expand_as(films) * 0.6"), "the same one"),
        (one("published(films)", "torch.rand_like(films)"), "no longer plainly"),
        (one("published(films)", "1.5 * films"), "clamp"),
        (one("published(films)", "films[:3]"), "as many films"),
    ],
    "9.14": [
        (one("disguise(films)", "films"), "as they were"),
        (one("disguise(films)", "0.3 + 0.5 * films**1.3"), "keeps its place"),
        (one("disguise(films)", "films.flip(-1)"), "A mirror"),
        (one("disguise(films)", "films.flip(-2)"), "average chest"),
        (one("disguise(films)", "1 - films"), "average chest"),
        (one("disguise(films)", "F.avg_pool2d(films, 9, 1, 4)"), "fine detail"),
        (one("disguise(films)", "films.mean(0, keepdim=True).expand_as(films)"), "Nobody is left"),
        (TURNED.replace("DEGREES", "5").replace("ZOOM", "1.0"), "still know"),
    ],
}
OTHER = {
    "9.1": ['choice_9_1 = "(B)"'],
    "9.2": ["def half_noise(s, T):\n    t = torch.linspace(0, T, 200_001, dtype=torch.float64)\n"
            "    bar = torch.cos(math.pi / 2 * t / T)**2\n    return t[(s**2 * bar < 1 - bar).float().argmax()]",
            one("half_noise(s, T)", "T * np.arccos(1 / np.sqrt(1 + s**2)) * 2 / np.pi")],
    "9.3": ["prediction_9_3 = (20 * 1 + 2380 * 0.5) / 2400", "prediction_9_3 = 0.504"],
    "9.4": ["def price_of_scale(mu, logvar, a):\n    kl = lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v).mean()\n"
            "    grid = torch.linspace(0.05, 5, 20001)\n    x = (mu**2 + logvar.exp()).mean()\n"
            "    best = grid[(grid**2 * x / 2 - grid.log()).argmin()]\n"
            "    return kl(a * mu, logvar + 2 * math.log(a)) - kl(mu, logvar), best"],
    "9.5": [returned(LOOP, "kl", LOSS="error + beta * kl"),
            "nats_9_5 = 0.5 * (math.log(20) + math.log(8) + math.log(2.8))"],
    "9.6": ["def for_the_decoder(z_drawn, z_train):\n    out = []\n    for c in range(z_train.shape[1]):\n"
            "        one, z = z_train[:, c], z_drawn[:, c]\n"
            "        out.append(one.mean() + one.var()**0.5 * z / z.var()**0.5)\n    return torch.stack(out, 1)"],
    "9.7": ["prediction_9_7 = 130", "prediction_9_7 = torch.tensor(131.5)"],
    "9.8": ["def floor(n, d):\n    rng, found = np.random.default_rng(1), []\n    for _ in range(60):\n"
            "        x, y = rng.normal(size=(2, n, d))\n        S, R = np.cov(x.T), np.cov(y.T)\n"
            "        w, U = np.linalg.eigh(S)\n        half = U * np.sqrt(w) @ U.T\n"
            "        root = np.sqrt(np.linalg.eigvalsh(half @ R @ half)).sum()\n"
            "        found.append(((x.mean(0) - y.mean(0))**2).sum() + np.trace(S + R) - 2 * root)\n"
            "    return np.mean(found)"],
    "9.9": ["def closer_share(a, b, n, m):\n    t = sum(x < y for x, y in zip(a.tolist(), b.tolist()))\n"
            "    h = len(a) - t\n    return t * m / (t * m + h * n)"],
    "9.10": ["def hits(x, y, a):\n    k = round(a * len(y))\n    bar = np.sort(y.numpy())[::-1][k]\n"
             "    return np.mean(x.numpy() > bar)",
             "def hits(x, y, a):\n    bar = y.topk(round(a * len(y))).values.min()\n"
             "    return (x >= bar).float().mean()"],
    "9.11": ["def auc_of_many(auc, k):\n    N = torch.distributions.Normal(0.0, 1.0)\n"
             "    d = 2**0.5 * N.icdf(torch.tensor(auc).double())\n    return N.cdf(k**0.5 * d / 2**0.5)"],
    "9.12": ["def exact_interval(k, n):\n    from scipy.stats import binomtest\n"
             "    found = binomtest(k, n).proportion_ci()\n    return found.low, found.high"],
    "9.13": [one("published(films)", "0.5 * films + 0.4"), one("published(films)", "films**2.5")],
    "9.14": [TURNED.replace("DEGREES", "14").replace("ZOOM", "0.8"),
             "def disguise(films):\n    n = len(films)\n"
             "    grid = F.affine_grid(torch.eye(2, 3).repeat(n, 1, 1), films.shape, align_corners=False).clone()\n"
             "    grid[..., 0] += 0.5 * torch.sin(3 * grid[..., 1])\n"
             "    return F.grid_sample(films, grid, padding_mode='border', align_corners=False)"],
}
