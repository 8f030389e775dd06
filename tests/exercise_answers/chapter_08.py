"""Planted answers to chapter 8's exercises."""


def choices(number, wrong):
    """The wrong letters of a choice with their words, and two answers of no kind."""
    name = f"choice_{number.replace('.', '_')}"
    return [(f'{name} = "{letter}"', words) for letter, words in wrong.items()] + [
        (f'{name} = "x"', "is asked for"), (f"{name} = 3", "is asked for")]


def planted(code, right, *changes):
    """A template with one thing wrong at a time: (what, instead), words of the message."""
    return [(code.format(**right | change), words) for change, words in changes]


JUMP = """
def jump(x0, t, eps, beta):
    bar = {bar}
    bar = bar.view(-1, 1, 1, 1)
    return {image} * x0 + {noise} * eps
"""
JUMPS = {"bar": "(1 - beta).cumprod(0)[t]", "image": "bar.sqrt()", "noise": "(1 - bar).sqrt()"}

COSINE = """
def cosine_beta(T, s):
    t = torch.arange({first}, {last}, dtype=torch.float64)
    f = ((t / T + {s}) / (1 + {s}) * math.pi / 2).cos(){power}
    return {beta}
"""
COSINES = {"first": "0", "last": "T + 1", "s": "s", "power": " ** 2", "beta": "(1 - f[1:] / f[:-1]).clamp(max=0.999)"}

BACK = """
def step_back(x0, x_t, t, beta):
    whole = torch.cat([torch.ones(1), (1 - beta).cumprod(0)])
    bar, before, b = whole[t + 1], {before}, beta[t]
    mean = ({of_x0} * x0 + {of_x_t} * x_t) / (1 - bar)
    return mean, {variance}
"""
BACKS = {"before": "whole[t]", "of_x0": "before.sqrt() * b", "of_x_t": "(1 - b).sqrt() * (1 - before)",
         "variance": "b * (1 - before) / (1 - bar)"}

MEAN = """
def mean_from_noise(x_t, eps, t, beta):
    bar, b = (1 - beta).cumprod(0)[t], beta[t]
    return (x_t {sign} {of_eps} * eps) / {below}
"""
MEANS = {"sign": "-", "of_eps": "b / (1 - bar).sqrt()", "below": "(1 - b).sqrt()"}

LOSS = """
def simple_loss(denoise, x0, t, eps, alpha_bar):
    bar = alpha_bar[t].view(-1, 1, 1, 1)
    x_t = {x_t}
    return {loss}
"""
LOSSES = {"x_t": "bar.sqrt() * x0 + (1 - bar).sqrt() * eps", "loss": "((denoise(x_t, t) - eps)**2).mean()"}

READ = """
def read_score(x, score, a):
    a = a[:, None]
    eps = {eps}
    return {x0}, eps
"""
READS = {"eps": "-(1 - a).sqrt() * score", "x0": "(x - (1 - a).sqrt() * eps) / a.sqrt()"}

BY_V = """
def mean_from_v(x_t, v, t, beta):
    whole = torch.cat([torch.ones(1), (1 - beta).cumprod(0)])
    bar, before, b = whole[t + 1], whole[t], beta[t]
    return {of_x_t} * x_t {sign} {of_v} * v
"""
BY_VS = {"of_x_t": "(1 - b).sqrt()", "sign": "-", "of_v": "b * (before / (1 - bar)).sqrt()"}

DDIM = """
def ddim_jump(x_t, eps, a, u, eta, z):
    x0 = {x0}
    var = {eta} * (1 - u) / (1 - a) * (1 - a / u)
    return {image} * x0 + ({old}) ** 0.5 * eps + {fresh} * z
"""
DDIMS = {"x0": "(x_t - (1 - a) ** 0.5 * eps) / a ** 0.5", "eta": "eta**2", "image": "u ** 0.5", "old": "1 - u - var",
         "fresh": "var ** 0.5"}

FLOOR = """
def noise_guess(a, s):
    whole = {whole}
    return {slope}, {floor}
"""
FLOORS = {"whole": "a * s**2 + 1 - a", "slope": "(1 - a).sqrt() / whole", "floor": "a * s**2 / whole"}

WAY = """
def reverse_sd(alpha_bar, s, eta):
    variance, bars = {start}, alpha_bar.tolist() + {last}
    for a, u in zip(bars, bars[1:]):
        slope = {slope}
        x0 = (1 - (1 - a) ** 0.5 * slope) / a ** 0.5
        var = {eta} * (1 - u) / (1 - a) * (1 - a / u)
        m = u ** 0.5 * x0 + ({old}) ** 0.5 * slope
        variance = m**2 * variance + {fresh}
    return variance ** {power}
"""
WAYS = {"start": "1.0", "last": "[1.0]", "slope": "(1 - a) ** 0.5 / (a * s**2 + 1 - a)", "eta": "eta**2",
        "old": "max(1 - u - var, 0)", "fresh": "var", "power": "0.5"}

GUIDED = """
def guided_gaussian(m, s, S, w):
    variance = {variance}
    return {mean}, {second}
"""
GUIDEDS = {"variance": "1 / (w / s**2 + (1 - w) / S**2)", "mean": "variance * w * m / s**2", "second": "variance"}

BOUND = """
def kl_term(x0, x0_hat, t, beta):
    bar = (1 - beta).cumprod(0)
    snr = bar / (1 - bar)
    return {weight} * ((x0 - x0_hat) ** 2).flatten(1).{total}(1)
"""
BOUNDS = {"weight": "0.5 * (snr[t - 1] - snr[t])", "total": "sum"}

WRONG = {
    "8.1": planted(
        JUMP, JUMPS, ({"image": "bar"}, "It is its *variance*"), ({"noise": "(1 - bar)"}, "a draw wants"),
        ({"bar": "torch.cat([torch.ones(1), (1 - beta).cumprod(0)])[t]"}, "one step early"),
        ({"bar": "(1 - beta)[t]"}, "the single step"), ({"bar": "(1 - beta.cumsum(0)[t]).clamp(min=0)"}, "*product*")),
    "8.2": planted(
        COSINE, COSINES, ({"beta": "1 - f[1:] / f[:-1]"}, "not held at 0.999"), ({"beta": "f[1:] / f[0]"}, "return ᾱ"),
        ({"power": ""}, "to be squared"),
        ({"last": "T", "beta": "torch.cat([0 * f[:1], 1 - f[1:] / f[:-1]])"}, "one step early"),
        ({"beta": "(1 - f[1:] / f[0]).clamp(max=0.999)"}, "all the noise so far"), ({"s": "0.0"}, "offset is missing")),
    "8.3": [("prediction_8_3 = 500", "so does the *cosine*"), ("prediction_8_3 = 69", "the mean β"),
            ("prediction_8_3 = 35", "the largest β"), ("prediction_8_3 = 707", "half of the *sum*"),
            ("prediction_8_3 = 200", "too low")],
    "8.4": planted(
        BACK, BACKS, ({"variance": "b"}, "the step forwards"),
        ({"before": "(1 - beta).cumprod(0)[t - 1]"}, "counts -1"),
        ({"before": "whole[t + 1]"}, "in both places"),
        ({"of_x_t": "before.sqrt() * b", "of_x0": "(1 - b).sqrt() * (1 - before)"}, "are exchanged"),
        ({"variance": "(b * (1 - before) / (1 - bar)).sqrt()"}, "standard deviation"),
        ({"of_x0": "before * b", "of_x_t": "(1 - b) * (1 - before)"}, "roots are missing")),
    "8.5": planted(
        MEAN, MEANS, ({"of_eps": "(1 - bar).sqrt()", "below": "bar.sqrt()"}, "take out *all*"),
        ({"below": "1"}, "division by √α"), ({"of_eps": "b.sqrt()"}, "only a share of it"),
        ({"of_eps": "b / (1 - bar)"}, "not 1 - ᾱ"), ({"sign": "+"}, "noise is added"),
        ({"below": "bar.sqrt()"}, "undoes all steps")),
    "8.6": choices("8.6", {"a": "noise has a merit", "b": "Think of five", "d": "neither perfect"}),
    "8.7": choices("8.7", {"a": "the *pair* has not", "c": "other way round", "d": "exact for betas of any size"}),
    "8.8": [
        ("def noise_correlation(s, t, beta):\n    return torch.ones(len(s))", "one ε for all"),
        ("def noise_correlation(s, t, beta):\n    a = (1 - beta).cumprod(0)\n    r = a / (1 - a)\n"
         "    return r[t] / r[s]",
         "the square of the correlation"),
        ("def noise_correlation(s, t, beta):\n    a = (1 - beta).cumprod(0)\n    return (a[t] / a[s]).sqrt()",
         "Divide the covariance by *both*"),
        ("def noise_correlation(s, t, beta):\n    a = (1 - beta).cumprod(0)\n"
         "    return (a[t] / a[s]).sqrt() * (1 - a[s])",
         "That is the covariance"),
        ("def noise_correlation(s, t, beta):\n    a = (1 - beta).cumprod(0)\n    r = a / (1 - a)\n"
         "    return (r[s] / r[t]).sqrt()", "upside down"),
        ("def noise_correlation(s, t, beta):\n    a = (1 - beta).cumprod(0)\n"
         "    return ((1 - a[s]) / (1 - a[t])).sqrt()",
         "only the noises' sizes")],
    "8.9": planted(
        LOSS, LOSSES, ({"loss": "((denoise(x_t, t) - x0)**2).mean()"}, "compare with the image"), ({"x_t": "x0"},
         "clean"),
        ({"x_t": "bar * x0 + (1 - bar) * eps"}, "want their roots"),
        ({"loss": "((denoise(x_t, t) - eps)**2).sum((1, 2, 3)).mean()"}, "sum over the pixels"),
        ({"loss": "((denoise(x_t, t) - (1 - bar).sqrt() * eps)**2).mean()"}, "as it was drawn"),
        ({"loss": "(denoise(x_t, t) - eps).abs().mean()"}, "absolute error")),
    "8.10": [
        ("def drop_labels(y, u, drop, null):\n    return torch.where(u > drop, null, y)", "You keep the share"),
        ("def drop_labels(y, u, drop, null):\n    return y if u[0] >= drop else 0 * y + null", "the whole batch?"),
        ("def drop_labels(y, u, drop, null):\n    return y * (u >= drop)", "That is a digit"),
        ("def drop_labels(y, u, drop, null):\n    y = y.clone()\n    y[:int(drop * len(y))] = null\n    return y",
         "whichever they are"),
        ("def drop_labels(y, u, drop, null):\n    y[u < drop] = null\n    return y", "in place"),
        ("def drop_labels(y, u, drop, null):\n    return torch.full_like(y, null)", "All labels are gone")],
    "8.11": planted(
        READ, READS, ({"eps": "(1 - a).sqrt() * score"}, "sign is turned"), ({"eps": "-score"}, "for -ε itself"),
        ({"eps": "-(1 - a) * score"}, "as it was added"), ({"eps": "-score / (1 - a).sqrt()"}, "should multiply"),
        ({"x0": "x - (1 - a).sqrt() * eps"}, "not yet x_0")),
    "8.12": planted(
        BY_V, BY_VS, ({"of_x_t": "(1 - b)**-0.5", "of_v": "b / ((1 - bar) * (1 - b)).sqrt()"}, "First turn v"),
        ({"of_v": "b * (bar / (1 - bar)).sqrt()"}, "has cancelled"), ({"sign": "+"}, "sign of v"),
        ({"of_x_t": "(1 - b)**-0.5"}, "as in (8.12)"),
        ({"of_x_t": "bar.sqrt()", "of_v": "(1 - bar).sqrt()"}, "still to go into (8.6)")),
    "8.13": planted(
        DDIM, DDIMS, ({"old": "1 - u"}, "comes on top"), ({"eta": "eta"}, "has its square"),
        ({"fresh": "var"}, "Take the root"), ({"eta": "0"}, "whatever η"), ({"fresh": "0"}, "z is missing"),
        ({"x0": "x_t - (1 - a) ** 0.5 * eps"}, "lacks the division"), ({"image": "1"}, "guessed image itself")),
    "8.14": [
        ("def guided_paper(a, b, w):\n    return b + w * (a - b)", "the scale of (8.14)"),
        ("def guided_paper(a, b, w):\n    return (1 + w) * b - w * a", "are exchanged"),
        ("def guided_paper(a, b, w):\n    return a - w * (a - b)", "is taken back"),
        ("def guided_paper(a, b, w):\n    return (1 + w) * a + w * b", "Yours add"),
        ("def guided_paper(a, b, w):\n    return w * a - w * b", "left out the 1")],
    "8.15": planted(
        FLOOR, FLOORS, ({"slope": "a.sqrt() * s**2 / whole"}, "of the *image*"), ({"slope": "(1 - a)**-0.5"},
         "Part of it"),
        ({"floor": "(1 - a) / whole"}, "share that *can*"), ({"whole": "1", "floor": "a"}, "s² is missing"),
        ({"floor": "a * s**2"}, "over the whole"), ({"slope": "(1 - a).sqrt() / whole.sqrt()"},
         "not over its standard")),
    "8.16": planted(
        WAY, WAYS, ({"fresh": "0"}, "never added"), ({"old": "1 - u"}, "makes no room"), ({"last": "[]"},
         "one jump short"),
        ({"start": "float(alpha_bar[0] * (s**2 - 1) + 1)"}, "starts at variance 1"),
        ({"slope": "(1 - a)**-0.5"}, "all of x_t for noise"), ({"slope": "(1 - a)**0.5"}, "having variance 1"),
        ({"eta": "eta"}, "not η"), ({"power": "1"}, "Return its root")),
    "8.17": [("prediction_8_17 = 4", "second order"), ("prediction_8_17 = 1.4", "random draws"),
             ("prediction_8_17 = 1", "It does fall"), ("prediction_8_17 = 16", "Runge"), ("prediction_8_17 = 3",
              "high")],
    "8.18": planted(
        GUIDED, GUIDEDS, ({"mean": "w * m"}, "mix the *means*"), ({"mean": "m"}, "stays at that of the class"),
        ({"variance": "w * s**2 + (1 - w) * S**2"}, "mix variances"),
        ({"variance": "1 / ((1 + w) / s**2 - w / S**2)", "mean": "variance * (1 + w) * m / s**2"}, "the paper's"),
        ({"variance": "s**2 / w"}, "the class alone"), ({"variance": "1 / (w / s**2 + (w - 1) / S**2)"}, "wrong sign"),
        ({"second": "variance.sqrt()"}, "standard deviation")),
    "8.19": [
        ("def best_variance(d, b):\n    return b, d / (2 * b)", "the fixed choice"),
        ("def best_variance(d, b):\n    return d, 0.5 * (1 + d / b).log()", "of the mean alone"),
        ("def best_variance(d, b):\n    return b + d, (1 + d / b).log()", "lack the half"),
        ("def best_variance(d, b):\n    return b + d, d / (2 * b)", "Put the best one in"),
        ("def best_variance(d, b):\n    return b + d, 0.5 * (1 + d / b).log2()", "in bits"),
        ("def best_variance(d, b):\n    return (b**0.5 + d**0.5)**2, 0.5 * (1 + d / b).log()", "add their squares")],
    "8.20": planted(
        BOUND, BOUNDS, ({"weight": "(snr[t - 1] - snr[t])"}, "half is missing"),
        ({"weight": "0.5 * snr[t]"}, "by how much it *grows*"), ({"weight": "0.5 * (snr[t] - snr[t - 1])"}, "negative"),
        ({"total": "mean"}, "mean over the pixels"),
        ({"weight": "beta[t] / (2 * (1 - beta[t]) * (1 - bar[t - 1]))"}, "error of the *noise*"),
        ({"weight": "0.5 * (snr[t] - (snr * (1 - beta) / (1 + beta))[t])"}, "is not it")),
    "8.21": choices("8.21", {"a": "a thousand", "b": "same term in both", "c": "are not the trouble"}),
}

OTHER = {
    "8.1": ["def jump(x0, t, eps, beta):\n    out = []\n    for image, steps, noise in zip(x0, t.tolist(), eps):\n"
            "        left = 1.0\n        for b in beta[: steps + 1].tolist():\n            left = left * (1 - b)\n"
            "        out.append(left**0.5 * image + (1 - left) ** 0.5 * noise)\n    return torch.stack(out)"],
    "8.2": ["def cosine_beta(T, s):\n    f = lambda t: math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2\n"
            "    return torch.tensor([min(1 - f(t) / f(t - 1), 0.999) for t in range(1, T + 1)])",
            COSINE.format(**COSINES)],
    "8.3": ["prediction_8_3 = 250",
         "prediction_8_3 = int(((1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0) > 0.5).sum())"],
    "8.4": [BACK.format(**BACKS), """
def step_back(x0, x_t, t, beta):
    bar = (1 - beta).cumprod(0)
    before = torch.where(t > 0, bar[(t - 1).clamp(min=0)], 1.0)
    b = beta[t]
    precision = (1 - b) / b + 1 / (1 - before).clamp(min=1e-9)
    mean = ((1 - b).sqrt() / b * x_t + before.sqrt() / (1 - before).clamp(min=1e-9) * x0) / precision
    return mean, 1 / precision
"""],
    "8.5": ["""
def mean_from_noise(x_t, eps, t, beta):
    whole = torch.cat([torch.ones(1), (1 - beta).cumprod(0)])
    bar, before, b = whole[t + 1], whole[t], beta[t]
    x0 = (x_t - (1 - bar).sqrt() * eps) / bar.sqrt()
    return (before.sqrt() * b * x0 + (1 - b).sqrt() * (1 - before) * x_t) / (1 - bar)
"""],
    "8.6": ['choice_8_6 = "(C)"'],
    "8.7": ['choice_8_7 = "B"'],
    "8.8": ["def noise_correlation(s, t, beta):\n    a = (1 - beta).cumprod(0)\n"
            "    return (a[t] / a[s]).sqrt() * (1 - a[s]) / ((1 - a[s]) * (1 - a[t])).sqrt()"],
    "8.9": ["def simple_loss(denoise, x0, t, eps, alpha_bar):\n    a = alpha_bar[t].reshape(len(t), 1, 1, 1)\n"
            "    return torch.nn.functional.mse_loss(denoise(x0 * a**0.5 + eps * (1 - a)**0.5, t), eps)"],
    "8.10": ["def drop_labels(y, u, drop, null):\n    y = y.clone()\n    y[u < drop] = null\n    return y"],
    "8.11": ["def read_score(x, score, a):\n    a = a[:, None]\n"
             "    x0 = (x + (1 - a) * score) / a.sqrt()\n    return x0, (x - a.sqrt() * x0) / (1 - a).sqrt()"],
    "8.12": ["""
def mean_from_v(x_t, v, t, beta):
    bar, b = (1 - beta).cumprod(0)[t], beta[t]
    eps = (1 - bar).sqrt() * x_t + bar.sqrt() * v
    return (x_t - b / (1 - bar).sqrt() * eps) / (1 - b).sqrt()
"""],
    "8.13": [DDIM.format(**DDIMS)],
    "8.14": ["def guided_paper(a, b, w):\n    return a + w * (a - b)", "def guided_paper(a, b, w):\n    scale = 1 + w\n"
             "    return b + scale * (a - b)"],
    "8.15": ["def noise_guess(a, s):\n    slope = (1 - a).sqrt() / (a * s**2 + 1 - a)\n"
             "    return slope, 1 - slope * (1 - a).sqrt()"],
    "8.16": [WAY.format(**WAYS)],
    "8.17": ["prediction_8_17 = 2.04"],
    "8.18": ["def guided_gaussian(m, s, S, w):\n    p = w * s**-2 - (w - 1) * S**-2\n"
             "    return w * m * s**-2 / p, 1 / p"],
    "8.19": ["def best_variance(d, b):\n    K = d / (2 * b)\n    return b * (1 + 2 * K), 0.5 * torch.log1p(2 * K)"],
    "8.20": [BOUND.format(**BOUNDS)],
    "8.21": ['choice_8_21 = "D"'],
}
