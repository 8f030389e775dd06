"""Planted answers to chapter 7's exercises."""


def choices(number, wrong):
    """The wrong letters of a choice with their words, and two answers of no kind."""
    name = f"choice_{number.replace('.', '_')}"
    return [(f'{name} = "{letter}"', words) for letter, words in wrong.items()] + [
        (f'{name} = "x"', "is asked for"), (f"{name} = 3", "is asked for")]


WRONG = {
    "7.1": [
        ("def onward(x, s, t, eps, sigma):\n    return x + sigma * (t.sqrt() - s.sqrt()).view(-1, 1, 1, 1) * eps",
         "subtract standard deviations"),
        ("def onward(x, s, t, eps, sigma):\n    return x + sigma * (t - s).view(-1, 1, 1, 1) * eps", "partly cancel"),
        ("def onward(x, s, t, eps, sigma):\n    return x + sigma * t.sqrt().view(-1, 1, 1, 1) * eps", "is not x_0"),
        ("def onward(x, s, t, eps, sigma):\n    return x + sigma * eps", "a single step"),
        ("def onward(x, s, t, eps, sigma):\n    return x + (sigma * (t - s)).sqrt().view(-1, 1, 1, 1) * eps",
         "sigma for a variance"),
        ("def onward(x, s, t, eps, sigma):\n    return x + sigma * (t - s).sqrt() * eps", "The arguments' shapes"),
    ],
    "7.2": [
        ("def head(out, sigma):\n    return sigma * (out - out.mean(0)) / out.std(0, correction=0)", "over the batch"),
        ("def head(out, sigma):\n    return sigma * (out - out.mean()) / out.std()", "Each image needs its own"),
        ("def head(out, sigma):\n    return sigma * out / out.std(1, keepdim=True)", "mean is still there"),
        ("def head(out, sigma):\n    return sigma * (out - out.mean(1, keepdim=True)) / out.var(1, keepdim=True)",
         "divide by the variance"),
        ("def head(out, sigma):\n    return F.layer_norm(out, out.shape[1:])", "standard deviation 1"),
        ("def head(out, sigma):\n    return sigma**0.5 * F.layer_norm(out, out.shape[1:])", "variance is sigma"),
    ],
    "7.3": choices("7.3", {"a": "the wrong length", "c": "comes close", "d": "from above"}),
    "7.4": [("prediction_7_4 = 25", "of the *variance*"), ("prediction_7_4 = 20", "How many were needed"),
            ("prediction_7_4 = 1", "only σ long"), ("prediction_7_4 = 24", "long before the end"),
            ("prediction_7_4 = 8", "too high")],
    "7.5": choices("7.5", {"a": "has no parameters", "b": "plays no part", "d": "only if x₀ is known"}),
    "7.6": [],  # below
    "7.7": choices("7.7", {"a": "needs the same noise", "b": "exact for every", "c": "far larger than one step"}),
    "7.8": [
        ("def chain_moments(beta):\n    a = (1 - beta).cumprod(0)\n    return a, 1 - a", "*root* of 1"),
        ("def chain_moments(beta):\n    return (1 - beta).cumprod(0).sqrt(), beta.cumsum(0)", "shrinks nothing"),
        ("def chain_moments(beta):\n    a = (1 - beta).cumprod(0)\n    return a.sqrt(), (1 - a).sqrt()",
         "standard deviation"),
        ("def chain_moments(beta):\n    a = torch.cat([torch.ones(1), (1 - beta[:-1]).cumprod(0)])\n"
         "    return a.sqrt(), 1 - a", "one step late"),
        ("def chain_moments(beta):\n    a = (1 - beta).cumprod(0).sqrt()\n    return a, 1 - a", "*square* of it"),
        ("def chain_moments(beta):\n    return (1 - beta).cumprod(0).sqrt()", "2 things are asked for"),
    ],
    "7.9": choices("7.9", {"b": "needs its x_0", "c": "need not be near 1", "d": "both factors stay"}),
    "7.10": [
        ("def posterior(x, x0, a, b, c, v):\n    w = a * v + b\n"
         "    return (a.sqrt() * v * x + c.sqrt() * b * x0) / w, b", "The variance is not"),
        ("def posterior(x, x0, a, b, c, v):\n    w = a * v + b\n"
         "    return (a.sqrt() * v * x + c.sqrt() * b * x0) / w, (b * v / w).sqrt()", "is the standard deviation"),
        ("def posterior(x, x0, a, b, c, v):\n    w = v + b\n"
         "    return (a.sqrt() * v * x + c.sqrt() * b * x0) / w, b * v / w", "not 1/β"),
        ("def posterior(x, x0, a, b, c, v):\n    w = a * v + b\n"
         "    return (a.sqrt() * v * x + b * x0) / w, b * v / w", "You weigh x_0 itself"),
        ("def posterior(x, x0, a, b, c, v):\n    w = a * v + b\n"
         "    return (a.sqrt() * b * x + c.sqrt() * v * x0) / w, b * v / w", "are exchanged"),
        ("def posterior(x, x0, a, b, c, v):\n    w = a * v + b\n"
         "    return (v * x + c.sqrt() * b * x0) / w, b * v / w", "lacks its root"),
    ],
    "7.11": [
        ("def gaussian_guess(t, s, sigma):\n    w = s**2 + t * sigma**2\n"
         "    return s**2 / w, s**2 * t * sigma**2 / w, 1 / t", "someone who knows x_0"),
        ("def gaussian_guess(t, s, sigma):\n    w = s**2 + t * sigma**2\n"
         "    return s**2 / w, s**2 * t * sigma**2 / w, t * sigma**2 / w", "the *total* noise"),
        ("def gaussian_guess(t, s, sigma):\n    w = s**2 + t * sigma**2\n"
         "    return t * sigma**2 / w, s**2 * t * sigma**2 / w, sigma**2 / w", "the other share"),
        ("def gaussian_guess(t, s, sigma):\n    w = s**2 + t * sigma**2\n"
         "    return s**2 / w, s**2 + 0 * w, sigma**2 / w", "has not seen x_t"),
        ("def gaussian_guess(t, s, sigma):\n    w = s**2 + t * sigma**2\n"
         "    return s**2 / w, s**2 * t * sigma**2 / w, sigma / w.sqrt()", "take its square"),
        ("def gaussian_guess(t, s, sigma):\n    w = s + t * sigma\n"
         "    return s / w, s * t * sigma / w, sigma / w", "where variances should be"),
    ],
    "7.12": [
        ("def loss_of_length(t, sigma, c):\n    return 2 * sigma**2 * (1 - t**-0.5)", "That is (7.7)"),
        ("def loss_of_length(t, sigma, c):\n    return sigma**2 * (1 + c**2 - 2 * c / t)", "the *square* of the corr"),
        ("def loss_of_length(t, sigma, c):\n    return sigma**2 * (1 + c - 2 * c / t.sqrt())", "you have c."),
        ("def loss_of_length(t, sigma, c):\n    return sigma**2 * (1 + c**2 - c / t.sqrt())", "there twice"),
        ("def loss_of_length(t, sigma, c):\n    return sigma * (1 + c**2 - 2 * c / t.sqrt())", "you have σ"),
        ("def loss_of_length(t, sigma, c):\n    return sigma**2 * (c - 1 / t.sqrt())**2", "no guess can reach"),
    ],
    "7.13": [
        ("def score(x, p, v):\n    w = (-torch.cdist(x, p)**2 / (2 * v[:, None])).softmax(1)\n"
         "    return (x - w @ p) / v[:, None]", "sign is turned"),
        ("def score(x, p, v):\n    w = (-torch.cdist(x, p)**2 / (2 * v[:, None])).softmax(1)\n"
         "    return (w @ p - x) / v.sqrt()[:, None]", "divide by the standard deviation"),
        ("def score(x, p, v):\n    w = (-torch.cdist(x, p)**2 / (2 * v[:, None])).softmax(1)\n    return w @ p - x",
         "over the variance"),
        ("def score(x, p, v):\n    w = (-torch.cdist(x, p)**2 / (2 * v[:, None])).softmax(1)\n    return w @ p",
         "best guess of x_0 itself"),
        ("def score(x, p, v):\n    w = (-torch.cdist(x, p)**2 / v[:, None]).softmax(1)\n"
         "    return (w @ p - x) / v[:, None]", "lacks the 2"),
        ("def score(x, p, v):\n    return (p[torch.cdist(x, p).argmin(1)] - x) / v[:, None]", "nearest point alone"),
        ("def score(x, p, v):\n    return (p.mean(0) - x) / v[:, None]", "count the same"),
        ("def score(x, p, v):\n    w = (-torch.cdist(x, p)**2 / (2 * v[:, None])).softmax(0)\n"
         "    return (w @ p - x) / v[:, None]", "over the batch"),
    ],
    "7.14": choices("7.14", {"a": "nothing exists but", "c": "fewer images each time", "d": "not trained at all"}),
    "7.15": [
        ("def start_nats(x, T, sigma):\n    return x.flatten(1).square().sum(1) / (T * sigma**2)", "half is missing"),
        ("def start_nats(x, T, sigma):\n    return x.flatten(1).square().sum(1) / (2 * T**0.5 * sigma)",
         "divide by the standard deviation"),
        ("def start_nats(x, T, sigma):\n    return x.flatten(1).square().sum(1) / (2 * (T * sigma)**2)", "You take Tσ"),
        ("def start_nats(x, T, sigma):\n    return x.flatten(1).square().mean(1) / (2 * T * sigma**2)",
         "mean over the pixels"),
        ("def start_nats(x, T, sigma):\n    return x.flatten(1).square().sum(1) / (2 * T * sigma**2) / math.log(2)",
         "in bits"),
        ("def start_nats(x, T, sigma):\n    return x.flatten(1).square().sum(1).mean() / (2 * T * sigma**2)",
         "one for each picture"),
    ],
    "7.16": [("prediction_7_16 = 80 / 0.3**2", "half of (7.11)"), ("prediction_7_16 = 80 / 0.6", "σ where σ²"),
             ("prediction_7_16 = 106", "1/T²"), ("prediction_7_16 = 80 * 784 / 0.18", "for every pixel"),
             ("prediction_7_16 = 30", "too low")],
    "7.17": [],
}

# a leap's distance from a Gaussian, with one thing wrong at a time
LEAP = """
def leap_gap(x_t, v, s):
    z = torch.linspace(-7, 7, 14001, dtype=torch.float64)
    n = lambda m, var: (-(z - m) ** 2 / (2 * var)).exp() / (2 * math.pi * var) ** 0.5
    odds, var = {odds}, {var}
    one, two = 1 + s / v * (x_t - 1), -1 + s / v * (x_t + 1)
    true = odds * n(one, var) + (1 - odds) * n(two, var)
    like = n(odds * one + (1 - odds) * two, {width})
    return {half} * (true - like).abs().sum() * 0.001
"""
GOOD = {"odds": "1 / (1 + math.exp(-2 * x_t / v))", "var": "s * (v - s) / v", "half": "0.5",
        "width": "var + odds * (1 - odds) * (one - two) ** 2"}
WRONG["7.6"] = [(LEAP.format(**GOOD | change), words) for change, words in (
    ({"half": "1"}, "half of that"), ({"odds": "0.5"}, "equal odds"), ({"var": "s"}, "to know x_t makes it narrower"),
    ({"width": "var"}, "as narrow as one hump"), ({"odds": "1 / (1 + math.exp(-4 * x_t / v))"}, "too sure"))]

LEAPS = """
def in_leaps(denoise, x, stops):
    for t, s in {pairs}:
        guess = denoise(x, {told})
        x = guess + {factor} * (x - guess)
    return x
"""
RIGHT = {"pairs": "zip(stops, stops[1:])", "told": "t", "factor": "(s / t) ** 0.5"}
WRONG["7.17"] = [(LEAPS.format(**RIGHT | change), words) for change, words in (
    ({"factor": "(s / t)"}, "Its *variance* is to shrink"), ({"factor": "((t - 1) / t) ** 0.5"}, "one step away"),
    ({"told": "s"}, "told of the stop where you land"), ({"pairs": "zip(stops[:-1], stops[1:-1])"}, "one leap short"),
    ({"factor": "0"}, "is not it"))] + [
    ("def in_leaps(denoise, x, stops):\n    return denoise(x, stops[0])", "in one go")]

OTHER = {
    "7.1": ["def onward(x, s, t, eps, sigma):\n    out = x.clone()\n    for i in range(len(x)):\n"
            "        out[i] += math.sqrt((int(t[i]) - int(s[i])) * sigma**2) * eps[i]\n    return out"],
    "7.2": ["def head(out, sigma):\n    return sigma * F.layer_norm(out, out.shape[1:])"],
    "7.3": ['choice_7_3 = "(B)"'],
    "7.4": ["prediction_7_4 = torch.tensor(5)"],
    "7.5": ['choice_7_5 = " C "'],
    "7.6": [LEAP.format(**GOOD), """
def leap_gap(x_t, v, s):
    z = torch.linspace(-5, 5, 5001)
    prior = (-(z - 1) ** 2 / (2 * s)).exp() + (-(z + 1) ** 2 / (2 * s)).exp()
    p = prior * (-(x_t - z) ** 2 / (2 * (v - s))).exp()
    p = p / p.sum()
    mean = (p * z).sum()
    q = (-(z - mean) ** 2 / (2 * (p * (z - mean) ** 2).sum())).exp()
    return (p - q / q.sum()).abs().sum() / 2
"""],
    "7.7": ['choice_7_7 = "(d)"'],
    "7.8": ["def chain_moments(beta):\n    scale, var, s, v = [], [], 1.0, 0.0\n    for b in beta.tolist():\n"
            "        s, v = s * math.sqrt(1 - b), (1 - b) * v + b\n        scale.append(s)\n        var.append(v)\n"
            "    return torch.tensor(scale), torch.tensor(var)"],
    "7.9": ['choice_7_9 = "A"'],
    "7.10": ["def posterior(x, x0, alpha, beta, a, v):\n    variance = 1 / (alpha / beta + 1 / v)\n"
             "    return variance * (alpha.sqrt() * x / beta + a.sqrt() * x0 / v), variance"],
    "7.11": ["def gaussian_guess(t, s, sigma):\n    slope = s**2 / (s**2 + t * sigma**2)\n"
             "    m = (1 - slope)**2 * s**2 + slope**2 * t * sigma**2\n"
             "    return slope, m, 1 / t - m / (t * sigma)**2"],
    "7.12": ["def loss_of_length(t, sigma, c):\n    return sigma**2 * ((c - 1 / t.sqrt())**2 + 1 - 1 / t)"],
    "7.13": ["def score(x, p, v):\n    x = x.clone().requires_grad_()\n"
             "    log_p = (-((x[:, None] - p)**2).sum(2) / (2 * v[:, None])).logsumexp(1)\n"
             "    return torch.autograd.grad(log_p.sum(), x)[0]"],
    "7.14": ['choice_7_14 = "B"'],
    "7.15": ["def start_nats(x, T, sigma):\n    return torch.stack([(one**2).sum() for one in x]) / T / sigma**2 / 2"],
    "7.16": ["prediction_7_16 = 440"],
    "7.17": [LEAPS.format(**RIGHT), """
def in_leaps(denoise, x_T, stops):
    x = x_T
    for k in range(1, len(stops)):
        guess = denoise(x, stops[k - 1])
        x = guess * (1 - math.sqrt(stops[k] / stops[k - 1])) + x * math.sqrt(stops[k] / stops[k - 1])
    return x
"""],
}
