"""Planted answers to chapter 10's exercises."""


def one(head, value):
    """A function of one line."""
    return f"def {head}:\n    return {value}"


def choices(name, wrong):
    """Wrong letters with words of their explanations, and answers that are no letter of the list."""
    return [(f'{name} = "{letter}"', words) for letter, words in wrong.items()] + [
        (f'{name} = "x"', "is asked for"), (f"{name} = 3", "is asked for, not 3")]


PIX = ("def pix2pix(on_true, on_restored, x_hat, x, weight):\n    up = lambda s: F.softplus(-s).mean()\n"
       "    down = lambda s: F.softplus(s).mean()\n    off = (x_hat - x).abs().mean()\n")
GOOD_D = "    on_D = up(on_true) + down(on_restored)\n"
NOISE = ("def wrong_noise(s, sigma, tau):\n    a = s**2 / (s**2 + tau**2)\n"
         "    best = s**2 * sigma**2 / (s**2 + sigma**2)\n")
LACKS = "corrected(x, y, keep, noise, r, sigma)"
PIXEL = "def pixel_posterior(y, m, s, a, sigma):\n    k = a * s**2 / (a**2 * s**2 + sigma**2)\n"
COUNT = "def erased_and_invented(in_truth, in_restored):\n    a, b = in_truth.float(), in_restored.float()\n"
CYCLE = ("def cycle_and_identity(G, H, a, b):\n    off = lambda x, y: (x - y).abs().mean()\n"
         "    there = off(H(G(a)), a) + off(G(H(b)), b)\n    same = off(G(b), b) + off(H(a), a)\n")

WRONG = {
    "10.1": choices("choice_10_1", {"a": "at the *median*", "b": "wrong for seven", "d": "one best guess"}),
    "10.2": [("answer_10_2 = 6.02", "twice the *amplitude*"), ("answer_10_2 = 2", "decibels are asked for"),
             ("answer_10_2 = math.log(2)", "natural logarithm"), ("answer_10_2 = 0", "as near to the truth"),
             ("answer_10_2 = 5", "too high")],
    "10.3": [
        (one("psnr(x_hat, x)", "-10 * F.mse_loss(x_hat, x).log10()"), "thrown together"),
        (one("psnr(x_hat, x)", "(-10 * (x_hat - x).pow(2).mean((1, 2, 3)).log()).mean()"), "natural one"),
        (one("psnr(x_hat, x)", "(10 * (x_hat - x).pow(2).mean((1, 2, 3)).log10()).mean()"), "sign is turned"),
        (one("psnr(x_hat, x)", "(-20 * (x_hat - x).pow(2).mean((1, 2, 3)).log10()).mean()"), "20 times"),
        (one("psnr(x_hat, x)", "(-10 * (x_hat - x).pow(2).sum((1, 2, 3)).log10()).mean()"), "added up"),
    ],
    "10.4": [
        (PIX + GOOD_D + "    return on_D, off - weight * down(on_restored)", "minimax"),
        (PIX + GOOD_D + "    return on_D, weight * off + up(on_restored)", "weight of the *critic*"),
        (PIX + GOOD_D + "    return on_D, F.mse_loss(x_hat, x) + weight * up(on_restored)", "squared"),
        (PIX + "    return down(on_true) + up(on_restored), off + weight * up(on_restored)", "exchanged"),
        (PIX + GOOD_D + "    return on_D, off + weight * up(on_true)", "of the *true* pairs"),
    ],
    "10.5": [
        (one("on_the_way(v, w)", "(1 + w) * v, w * w * v"), "straight line"),
        (one("on_the_way(v, w)", "(1 + w * w) * v, w * v"), "squared"),
        (one("on_the_way(v, w)", "(1 - w)**2 * v, w * w * v"), "truth and draw are the same"),
        (one("on_the_way(v, w)", "w * w * v, w * w * v"), "own part alone"),
    ],
    "10.6": [
        (one("covered(d, x)", "((x >= d.min()) & (x <= d.max())).float().mean()"), "over all films"),
        (one("covered(d, x)", "((x < d.amin(0)) | (x > d.amax(0))).float().mean()"), "*outside*"),
        (one("covered(d, x)", "((x >= d.amin(0)) & (x <= d.amax(0))).flatten(1).all(1).float().mean()"), "whole films"),
        (one("covered(d, x)", "((x - d.mean(0)).abs() <= d.std(0)).float().mean()"), "two thirds"),
        (one("covered(d, x)", "((d.mean(0) >= d.amin(0)) & (d.mean(0) <= d.amax(0))).float().mean()"),
         "It always does"),
    ],
    "10.7": [("answer_10_7 = 1.0", "one more draw"), ("answer_10_7 = 0.95", "one side"),
             ("answer_10_7 = 18 / 19", "nineteen draws and the truth."),
             ("answer_10_7 = 17 / 19", "two of the twenty places"), ("answer_10_7 = 0.8", "not four"),
             ("answer_10_7 = 0.5", "too low")],
    "10.8": [
        (NOISE + "    e = (1 - a)**2 * s**2 + a**2 * tau**2\n    return e, e - best", "*simulation* promises"),
        (NOISE + "    return best, 0.0", "has learned the one for tau"),
        (NOISE + "    e = (1 - a)**2 * s**2\n    return e, e - best", "gets through is missing"),
        (NOISE + "    e = (1 - a)**2 * s**2 + a**2 * sigma**2\n    return e, e - sigma**2", "doing nothing"),
    ],
    "10.9": [
        (COUNT + "    return (a * (1 - b)).mean(), (b * (1 - a)).mean()", "number of all films"),
        (COUNT + "    return (b * (1 - a)).sum() / (1 - a).sum(), (a * (1 - b)).sum() / a.sum()", "exchanged"),
        (COUNT + "    return (a * (1 - b)).sum() / a.sum(), (b * (1 - a)).sum() / b.sum()", "among"),
        (COUNT + "    return a.mean() - b.mean(), b.mean() - a.mean()", "differences of shares"),
    ],
    "10.10": [
        (one("no_nodule(x_hat, x, nodule)", "x"), "paint over it"),
        (one("no_nodule(x_hat, x, nodule)", "F.avg_pool2d(x, 31, 1, 15)"), "not a decibel more"),
        (one("no_nodule(x_hat, x, nodule)", "x_hat"), "no better than before"),
        (one("no_nodule(x_hat, x, nodule)", "x[:1]"), "of the shape"),
    ],
    "10.11": [
        (CYCLE + "    return off(H(G(a)), a), same", "too"),
        (CYCLE + "    return there, off(G(a), a) + off(H(b), b)", "forbids translating"),
        (CYCLE + "    return off(G(H(a)), a) + off(H(G(b)), b), same", "wrong network"),
        (CYCLE + "    return off(G(G(a)), a) + off(H(H(b)), b), same", "same network"),
        (CYCLE + "    return F.mse_loss(H(G(a)), a) + F.mse_loss(G(H(b)), b), same", "squared"),
        (CYCLE + "    return there / 2, same / 2", "mean of the two ways"),
    ],
    "10.12": [
        (one("must_be_made_ill(p, r)", "r - p, (r - p) / p"), "1 - p"),
        (one("must_be_made_ill(p, r)", "r, r / (1 - p)"), "may stay ill"),
        (one("must_be_made_ill(p, r)", "r * (1 - p), r"), "know nothing of each other"),
        (one("must_be_made_ill(p, r)", "r - p, r - p"), "The first is right"),
    ],
    "10.13": choices("choice_10_13", {"a": "Large where?", "c": "finds the mark", "d": "It is determined"}),
    "10.14": [
        (one(LACKS, "x + r**2 / (r**2 + sigma**2) * (y - keep * x - sigma * noise)"), "must be multiplied by `keep`"),
        (one(LACKS, "x + sigma**2 / (r**2 + sigma**2) * keep * (y - x - sigma * noise)"), "exchanged"),
        (one(LACKS, "x + r**2 / (r**2 + sigma**2) * keep * (y - x)"), "too narrow"),
        (one(LACKS, "torch.where(keep > 0, y, x)"), "pasted in"),
    ],
    "10.15": [
        (PIXEL + "    return m + s**2 / (s**2 + sigma**2) * (y - m), s**2 * sigma**2 / (s**2 + sigma**2)", "forgotten"),
        (PIXEL + "    return m + k * (y - a * m), s**2", "that of the prior"),
        (PIXEL + "    return m + k * (y - a * m), math.sqrt(s**2 * (1 - k * a))", "its root"),
        (PIXEL + "    return k * y, s**2 * (1 - k * a)", "m = 0 alone"),
    ],
}

OTHER = {
    "10.1": ['choice_10_1 = "(C)"'],
    "10.2": ["answer_10_2 = -10 * math.log10(0.5)", "answer_10_2 = 3.01"],
    "10.3": [one("psnr(x_hat, x)", "sum(-10 * math.log10(F.mse_loss(a, b)) for a, b in zip(x_hat, x)) / len(x)")],
    "10.4": [PIX + "    logs = F.logsigmoid\n    return (-logs(on_true) - logs(-on_restored)).mean(), \\\n"
             "        off - weight * logs(on_restored).mean()"],
    "10.5": [one("on_the_way(v, w)", "v + w * w * v, v * w * w")],
    "10.6": [one("covered(d, x)", "1 - ((d < x).all(0) | (d > x).all(0)).double().mean()")],
    "10.7": ["answer_10_7 = (19 - 1) / (19 + 1)", "answer_10_7 = 0.9"],
    "10.8": [NOISE + "    b = s**2 / (s**2 + sigma**2)\n    excess = (a - b)**2 * (s**2 + sigma**2)\n"
             "    return best + excess, excess"],
    "10.9": [one("erased_and_invented(a, b)", "1 - b[a].float().mean(), b[~a].float().mean()")],
    "10.10": [one("no_nodule(x_hat, x, nodule)", "torch.where(nodule, x - 0.12, x)")],
    "10.11": [CYCLE + "    l1 = F.l1_loss\n"
              "    return l1(H(G(a)), a) + l1(G(H(b)), b), l1(G(b), b) + l1(H(a), a)"],
    "10.12": [one("must_be_made_ill(p, r)", "r - p, 1 - (1 - r) / (1 - p)")],
    "10.13": ['choice_10_13 = "(B)"'],
    "10.14": [one(LACKS, "torch.where(keep > 0, x + (y - x - sigma * noise) / (1 + (sigma / r)**2), x)")],
    "10.15": [PIXEL + "    precision = 1 / s**2 + a**2 / sigma**2\n"
              "    return (m / s**2 + a * y / sigma**2) / precision, 1 / precision"],
}
