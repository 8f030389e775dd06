"""Planted answers to chapter 6's exercises."""

CHEAPEST = ("def cheapest(x, y):\n    way, n = torch.cdist(x, y), len(x)\n"
            "    plans = list(itertools.permutations(range(n)))\n    ")
LINE = '''def wasserstein_1d(x, y):
    t = torch.cat([x, y]).sort().values
    P, Q = ((s[None] <= t[:, None]).float().mean(1) for s in (x, y))
    '''
GAUSS = "def between_gaussians(mu_1, sigma_1, mu_2, sigma_2):\n    a, b = mu_1 - mu_2, sigma_1 - sigma_2\n    "
DRAW = '''z = torch.linspace(-10, 10, 20001).double()
    density = (-z**2 / 2).exp()
    return (({} + {} * z).abs() * density).sum() / density.sum()'''
BARS = "def bars(theta):\n    log2, one = math.log(2), theta.clamp(max=1)\n    "
WGAN = "def wgan_losses(r, f):\n    "
GAP = "def best_gap(p, q):\n    "
PENALTY = '''def slope_penalty(f, real, fake, a):
    a = a[:, None, None, None]
    x = (a * real + (1 - a) * fake).requires_grad_()
    g, = torch.autograd.grad(f(x).sum(), x, create_graph=True)
    return (g.flatten(1).norm(dim=1) - 1).square().mean()
'''
BIASED = "def biased(d, lam):\n    "
CLIPPED = "def clipped_step(w, gradient, rate, c):\n    "
LINEAR = "def linear_gap(x, y, c):\n    delta = x.mean(0) - y.mean(0)\n    "
MMD = '''def mmd2(x, y, s):
    def k(a, b):
        return (-torch.cdist(a, b) ** 2 / (2 * s**2)).exp()
    n, m = len(x), len(y)
    '''
UNBIASED = "(k(x, x).sum() - n) / n / (n - 1) + (k(y, y).sum() - m) / m / (m - 1)"
REACH = "def reach(d, s):\n    bell = math.exp(-d**2 / (2 * s**2))\n    "
GAME = '''def smallest_wgan(eta, lam, c, steps):
    def sign(p):
        return 1.0 if p > 0 else -1.0
    games = []
    for kind in range(3):
        theta, psi = 1.0, 0.5
        places = [theta]
        for _ in range(steps):
            new = psi - eta * theta
            if kind == 0:
                new = max(-c, min(c, new))
            if kind == 1:
                new = new - eta * 2 * lam * (abs(psi) - 1) * sign(psi)
            if kind == 2:
                new = new - eta * 2 * lam * psi
            theta = theta + eta * new
            psi = new
            places.append(theta)
        games.append(places)
    return games
'''

WRONG = {
    "6.1": [("prediction_6_1 = 7", "holds a quarter"), ("prediction_6_1 = 1.354", "nearest hole"),
            ("prediction_6_1 = 2.1036", "order of the lists"), ("prediction_6_1 = 1.52", "centres of mass"),
            ("prediction_6_1 = 1", "too low"), ("prediction_6_1 = 2", "too high")],
    "6.2": [("prediction_6_2 = 0.1", "the bound itself"), ("prediction_6_2 = 0.001", "one path"),
            ("prediction_6_2 = 6.4", "one layer"), ("prediction_6_2 = 41", "crosses three weights"),
            ("prediction_6_2 = 262", "two layers"), ("prediction_6_2 = 1", "one would wish"),
            ("prediction_6_2 = 0.064", "64 paths only")],
    "6.3": [
        (CHEAPEST + "return way.min(1).values.mean()", "nearest hole, however many"),
        (CHEAPEST + "return min(way[range(n), plan].sum() for plan in plans)", "are added up"),
        (CHEAPEST + "return way.mean()", "mean of all distances"),
        (CHEAPEST + "return min((way[range(n), plan] ** 2).mean() for plan in plans) ** 0.5", "Wasserstein-2"),
        (CHEAPEST + "return (x - y).norm(dim=1).mean()", "as they are numbered"),
        (CHEAPEST + "total = 0\n    for i in range(n):\n        j = way[i].argmin()\n        total += way[i, j]\n"
                    "        way[:, j] = 1e9\n    return total / n", "greed is not optimal"),
        (CHEAPEST + "return max(way[range(n), plan].mean() for plan in plans)", "which is not it"),
    ],
    "6.4": [
        (LINE + "return (x.sort().values[:len(y)] - y.sort().values).abs().mean()", "cut to the shorter"),
        (LINE + "return (P - Q).abs()[:-1].mean()", "averaged over the places"),
        (LINE + "return (P - Q).abs().mean()", "a last place of gap 0"),
        (LINE + "return ((P - Q)[:-1] * t.diff()).sum().abs()", "lacks the absolute value"),
        (LINE + "return ((P - Q)[:-1] ** 2 * t.diff()).sum()", "Cramér"),
        (LINE + "return (P - Q).abs().max()", "Kolmogorov"),
        (LINE + "return (x[:, None] - y[None]).abs().mean()", "the plan is missing"),
    ],
    "6.5": [
        (GAUSS + "return abs(a)", "all of W only for equal widths"),
        (GAUSS + "return (a**2 + b**2) ** 0.5", "Wasserstein-2"),
        (GAUSS + "return abs(a) + abs(b) * math.sqrt(2 / math.pi)", "only an upper bound"),
        (GAUSS + "return abs(b) * math.sqrt(2 / math.pi)", "does not move"),
        (GAUSS + DRAW.format("a", "(sigma_1**2 + sigma_2**2) ** 0.5"), "independently"),
        (GAUSS + DRAW.format("a", "(sigma_1 + sigma_2)"), "runs backwards"),
    ],
    "6.6": [
        (BARS + "return theta * log2, theta", "cannot exceed log 2"),
        (BARS + "return torch.ones(5) * log2, theta", "never overlap"),
        (BARS + "return 2 * one * log2, theta", "twice too large"),
        (BARS + "return one, theta", "the total variation"),
        (BARS + "return one * log2, one", "stops at 1"),
        (BARS + "return one * log2, one * theta", "must go further"),
        (BARS + "return (1 - one) * log2, theta", "*does* overlap"),
    ],
    "6.7": [("prediction_6_7 = 0", "may cost the same"), ("prediction_6_7 = 0.5", "six orders"),
            ("prediction_6_7 = 2 / 3", "costs *more*"), ("prediction_6_7 = 1 / 6", "both to the right"),
            ("prediction_6_7 = 33.3", "in per cent"), ("prediction_6_7 = 1", "x at 0 and 10")],
    "6.8": [
        (WGAN + "return r.mean() - f.mean(), -f.mean()", "critic's sign is turned"),
        (WGAN + "return f.mean() - r.mean(), f.mean()", "generator's sign is turned"),
        (WGAN + "return r.mean() - f.mean(), f.mean()", "Both signs"),
        (WGAN + "r, f = r.sigmoid(), f.sigmoid()\n    return (f - r).mean(), -f.mean()", "rung 1"),
        (WGAN + "return (F.softplus(-r) + F.softplus(f)).mean(), F.softplus(-f).mean()", "That is the cross-entropy"),
        (WGAN + "return (F.softplus(-r) + F.softplus(f)).mean() / 2, F.softplus(-f).mean()", "halved cross-entropy"),
        (WGAN + "return (f - r).mean(), (r - f).mean()", "leave it out"),
        (WGAN + "return (f - r).mean() / 2, -f.mean()", "half of W"),
        (WGAN + "return (f - r).mean()", "2 things are asked for"),
    ],
    "6.9": [
        (GAP + "return (p - q).abs().sum()", "Twice too much"),
        (GAP + "return (p - q).max()", "a single outcome"),
        (GAP + "m = (p + q) / 2\n    return ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2",
         "Jensen-Shannon"),
        (GAP + "return (p / (p + q) * (p - q)).sum()", "best discriminator"),
        (GAP + "return torch.minimum(p, q).sum()", "the two share"),
        (GAP + "return p @ (p - q)", "all or nothing"),
        (GAP + "return (p - q).abs().max()", "largest difference in size"),
    ],
    "6.10": [
        (PENALTY.replace(", create_graph=True", ""), "teaches nobody"),
        (PENALTY.replace("g.flatten(1).norm(dim=1)", "g.flatten(1).square().sum(1)"), "squared slope"),
        (PENALTY.replace("g.flatten(1).norm(dim=1)", "g.norm(dim=1)"), "some axes only"),
        (PENALTY.replace("g.flatten(1).norm(dim=1)", "g.norm()"), "whole batch at once"),
        (PENALTY.replace("f(x).sum()", "f(x).mean()"), "*mean* score"),
        (PENALTY.replace("a[:, None, None, None]", "a[0]"), "share one weight"),
        (PENALTY.replace("a * real + (1 - a) * fake", "a * fake + (1 - a) * real"), "weighs the real picture"),
        (PENALTY.replace("norm(dim=1) - 1)", "norm(dim=1) - 1).clamp(min=0)"), "one-sided"),
        (PENALTY.replace("norm(dim=1) - 1).square().mean()", "norm(dim=1).mean() - 1).square()"), "take the mean last"),
        (PENALTY.replace("(a * real + (1 - a) * fake)", "real.clone()"), "real pictures alone"),
        (PENALTY.replace("norm(dim=1) - 1)", "norm(dim=1))"), "zero-centred"),
        (PENALTY.replace("a[:, None, None, None]", "a"), "size of tensor"),
    ],
    "6.11": [
        (BIASED + "return 1, d", "still pulls"),
        (BIASED + "return 1 + d / lam, d + d**2 / lam", "factor 2"),
        (BIASED + "return 1 - d / (2 * lam), d - d**2 / (2 * lam)", "*below* 1"),
        (BIASED + "return 1 + d / (2 * lam), d", "*should* be"),
        (BIASED + "return 1 + d / (2 * lam), 1 + d / (2 * lam)", "over the whole distance"),
        (BIASED + "s = 1 + 1 / (2 * lam)\n    return s, d * s", "does not depend on the distance"),
        (BIASED + "s = 1 + d / (2 * lam)\n    return s, d * s - lam * (s - 1) ** 2", "the least loss"),
        (BIASED + "s = 1 + d / (2 * lam)\n    return s, d + d / (2 * lam)", "Right is: slope"),
    ],
    "6.12": [
        (CLIPPED + "return (w + rate * gradient).clamp(-c, c)", "uphill"),
        (CLIPPED + "return w - rate * gradient.clamp(-c, c)", "clip the gradient"),
        (CLIPPED + "return w.clamp(-c, c) - rate * gradient", "comes last"),
        (CLIPPED + "return torch.clamp(w - rate * gradient, max=c)", "Only the upper"),
        (CLIPPED + "w = w - rate * gradient\n    return w * c / max(c, w.abs().max())", "shrink all weights"),
        (CLIPPED + "w -= rate * gradient\n    return w.clamp(-c, c)", "in place"),
    ],
    "6.13": [
        (LINEAR + "return c * delta.norm()", "of *length* c"),
        (LINEAR + "return c * delta.sum()", "-c gains more"),
        (LINEAR + "return c * delta.abs().max()", "best coordinate"),
        (LINEAR + "return delta.abs().sum()", "bound is missing"),
        (LINEAR + "return c * delta.abs().mean()", "over coordinates"),
        (LINEAR + "return c * (x.sum(0) - y.sum(0)).abs().sum()", "added up"),
        (LINEAR + "return c * delta.sum().abs()", "choose its own"),
    ],
    "6.14": [
        (MMD + "return k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean()", "with itself"),
        (MMD + f"return {UNBIASED} - k(x, y).mean()", "counts once"),
        (MMD.replace("(2 * s**2)", "s**2") + f"return {UNBIASED} - 2 * k(x, y).mean()", "half in the kernel"),
        (MMD.replace("(2 * s**2)", "(2 * s)") + f"return {UNBIASED} - 2 * k(x, y).mean()", "width is not squared"),
        (MMD.replace(" ** 2 / (2", " / (2") + f"return {UNBIASED} - 2 * k(x, y).mean()", "Laplace"),
        (MMD + "return k(x, x).mean() - 1 / n + k(y, y).mean() - 1 / m - 2 * k(x, y).mean()", "N(N - 1)"),
        (MMD + f"return abs({UNBIASED} - 2 * k(x, y).mean()) ** 0.5", "root is taken"),
    ],
    "6.15": [
        (REACH + "return 1 - bell, d / s**2 * bell, s", "Half of it"),
        (REACH + "return 2 - bell, d / s**2 * bell, s", "counts once"),
        (REACH + "return 2 - 2 * bell, -2 * d / s**2 * bell, s", "sign is turned"),
        (REACH + "return 2 - 2 * bell**2, 4 * d / s**2 * bell**2, s / math.sqrt(2)", "became s²"),
        (REACH + "return 2 - 2 * bell, 2 * d / s**2 * bell, 0", "level"),
        (REACH + "return 2 - 2 * bell, 2 * d / s**2 * bell, s / math.sqrt(2)", "not 0 at yours"),
        (REACH + "return 2 - 2 * bell, 2 * bell, s", "inner derivative"),
        (REACH + "return 2 - 2 * bell, 2 * d / s**2 * bell, 2 * s", "Right is: MMD², slope"),
    ],
    "6.16": [
        (GAME.replace("theta = theta + eta * new", "theta = theta + eta * psi"), "move at once"),
        (GAME.replace("theta = theta + eta * new", "theta = theta - eta * new"), "wrong way"),
        (GAME.replace("max(-c, min(c, new))", "new"), "not clipped"),
        (GAME.replace(" * sign(psi)", "").replace("abs(psi)", "psi"), "to +1 only"),
        (GAME.replace("eta * 2 * lam", "eta * lam"), "both penalties lack"),
        (GAME.replace("new - eta * 2", "new + eta * 2"), "penalties have the wrong sign"),
        (GAME.replace("new = max", "new = new - eta * 2 * lam * (abs(psi) - 1) * sign(psi)\n"
                      "                new = max"), "pays a penalty too"),
        (GAME.replace("places = [theta]", "places = []"), "has the shape"),
    ],
    "6.17": [('choice_6_17 = "b"', "speaks of the best critic"), ('choice_6_17 = "c"', "wrong moment"),
             ('choice_6_17 = "d"', "no more blind"), ('choice_6_17 = "x"', "is asked for"),
             ("choice_6_17 = 3", "not 3")],
}
OTHER = {
    "6.1": ["prediction_6_1 = 1.75"],
    "6.2": ["prediction_6_2 = 4.1", "prediction_6_2 = 4096e-3"],
    "6.3": ["def cheapest(x, y):\n    import functools\n"
            "    way = ((x[:, None] - y[None]) ** 2).sum(-1).sqrt().tolist()\n"
            "    @functools.cache\n    def least(i, free):\n        if not free:\n            return 0.0\n"
            "        return min(way[i][j] + least(i + 1, free - {j}) for j in free)\n"
            "    return least(0, frozenset(range(len(y)))) / len(x)"],
    "6.4": ["def wasserstein_1d(x, y):\n    u = (torch.arange(12) + 0.5) / 12\n"
            "    x, y = x.sort().values.numpy(), y.sort().values.numpy()\n"
            "    return abs(x[(u * len(x)).long().numpy()] - y[(u * len(y)).long().numpy()]).mean()"],
    "6.5": [GAUSS + DRAW.format("a", "b")],
    "6.6": ["def bars(theta):\n    return [min(t, 1) * math.log(2) for t in theta.tolist()], theta.tolist()"],
    "6.7": ["prediction_6_7 = 0.333", "prediction_6_7 = 1 / 3"],
    "6.8": [WGAN + "gap = r.mean() - f.mean()\n    return -gap, -f.sum() / len(f)"],
    "6.9": [GAP + "return (p - q).abs().sum() / 2", GAP + "return 1 - torch.minimum(p, q).sum()"],
    "6.10": ["def slope_penalty(f, real, fake, a):\n    x = torch.lerp(fake, real, a.view(-1, 1, 1, 1))\n"
             "    g = torch.func.vmap(torch.func.grad(lambda one: f(one[None]).sum()))(x)\n"
             "    return ((g.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()"],
    "6.11": [BIASED + "return (2 * lam + d) / (2 * lam), d + d**2 / (2 * lam)"],
    "6.12": [CLIPPED + "return [min(c, max(-c, float(v - rate * g))) for v, g in zip(w, gradient)]"],
    "6.13": [LINEAR + "return delta @ (c * delta.sign())"],
    "6.14": ["def mmd2(x, y, s):\n    def mean(a, b, same):\n"
             "        values = [math.exp(-float((u - v) @ (u - v)) / 2 / s / s)\n"
             "                  for i, u in enumerate(a) for j, v in enumerate(b) if not (same and i == j)]\n"
             "        return sum(values) / len(values)\n"
             "    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)"],
    "6.15": ["def reach(d, s):\n    t = torch.tensor(d, dtype=torch.float64, requires_grad=True)\n"
             "    v = 2 * (1 - torch.exp(-0.5 * (t / s) ** 2))\n    return v, torch.autograd.grad(v, t)[0], s"],
    "6.16": [GAME],
    "6.17": ['choice_6_17 = "(A)"'],
}
