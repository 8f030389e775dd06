"""Planted answers to chapter 11's exercises."""


def one(head, value):
    """A function of one line."""
    return f"def {head}:\n    return {value}"


def choices(name, wrong):
    """Wrong letters with words of their explanations, and answers that are no letter of the list."""
    return [(f'{name} = "{letter}"', words) for letter, words in wrong.items()] + [
        (f'{name} = "x"', "is asked for"), (f"{name} = 3", "is asked for, not 3")]


def planted(code, right, *changes):
    """A template with one thing wrong at a time: (what, instead), words of the message."""
    return [(code.format(**right | change), words) for change, words in changes]


MASK = """
def causal_mask(k, first):
    i, j = torch.meshgrid(torch.arange(k), torch.arange(k), indexing="ij")
    c = k // 2
    seen = {seen}
    return {back}
"""
MASKS = {"seen": "(i < c) | (i == c) & (j < c + (not first))", "back": "seen.float()"}

DRAW = """
def draw(conditional, u):
    x, p = torch.zeros_like(u), torch.zeros_like(u)
    for i in range(u.shape[1]):
        p[:, i] = {p}
        x[:, i] = {x}
    return {back}
"""
DRAWS = {"p": "torch.sigmoid(conditional(x)[:, i])", "x": "(u[:, i] < p[:, i]).float()", "back": "x"}

QUANTISE = """
def quantise(z, codebook):
    d = torch.cdist(z, codebook)
    e = codebook[{k}]
    return {back}
"""
QUANTISES = {"k": "d.argmin(1)", "back": "z + (e - z).detach()"}

CODES = """
def perplexity(k, K):
    p = torch.bincount(k, minlength=K) / len(k)
    p = p[p > 0]
    H = -(p * p.log()).sum()
    return {back}
"""
CODESS = {"back": "H.exp()"}

DENSITY = "def log_density(x, slope):\n    log_p = -x**2 / 2 {constant}\n    return {back}"
DENSITIES = {"constant": "- 0.5 * math.log(2 * math.pi)", "back": "log_p - slope.log()"}

COUPLE = """
def couple(x, net):
    x1, x2 = x.chunk(2, 1)
    s, b = net({read})
    y2 = {y2}
    return torch.cat([{order}], 1), {log_det}
"""
COUPLES = {"read": "x1", "y2": "x2 * s.exp() + b", "order": "x1, y2", "log_det": "s.sum(1)"}

BACK = """
def uncouple(y, net):
    y1, y2 = y.chunk(2, 1)
    s, b = net({read})
    return torch.cat([y1, {x2}], 1)
"""
BACKS = {"read": "y1", "x2": "(y2 - b) / s.exp()"}

POINT = """
def point_and_target(x, eps, t):
    t = t[:, None, None, None]
    return {point}, {target}
"""
POINTS = {"point": "t * x + (1 - t) * eps", "target": "x - eps"}

STRAIGHT = """
def straightened(x_s, v, bar):
    a, b = bar.sqrt(), (1 - bar).sqrt()
    x, eps = {x}, {eps}
    return {x_t}, {t}, {u}
"""
STRAIGHTS = {"x": "a * x_s - b * v", "eps": "b * x_s + a * v", "x_t": "x_s / (a + b)", "t": "a / (a + b)",
             "u": "x - eps"}

VELOCITY = """
def marginal_velocity(x, t, m, s):
    V = {V}
    slope = {slope}
    return m + slope * (x - {centre})
"""
VELOCITIES = {"V": "(t * s)**2 + (1 - t)**2", "slope": "(t * s**2 - 1 + t) / V", "centre": "t * m"}

GUESS = "def marginal_velocity(x, t, m, s):\n    guess = m + t * s**2 / ((t * s)**2 + (1 - t)**2) * (x - t * m)\n"

HEUN = """
def heun(u, x, t, h):
    a = u(x, t)
    b = u({place}, {time})
    return x + h * {mean}
"""
HEUNS = {"place": "x + h * a", "time": "t + h", "mean": "(a + b) / 2"}

NEAR = """
def coupled_noise(x, eps):
    d = ((x.flatten(1)[:, None] - eps.flatten(1)[None])**2).sum(2)
    order = {order}
    return {back}
"""
NEARS = {"order": "torch.tensor(linear_sum_assignment(d.numpy())[1])", "back": "eps[order]"}

EULER = """
def euler_sd(s, rho, K):
    size = 1.0
    for k in range({steps}):
        t = {t}
        V = (1 - t)**2 + (t * s)**2 {mixed}
        slope = (t * s**2 - (1 - t) + (1 - 2 * t) * rho * s) / V
        size *= 1 + slope / K
    return {back}
"""
EULERS = {"steps": "K", "t": "k / K", "mixed": "+ 2 * t * (1 - t) * rho * s", "back": "size"}

NATS = "F.binary_cross_entropy_with_logits({logits}, x, reduction='none')"
EACH = NATS.format(logits="logits")

WRONG = {
    "11.1": [("answer_11_1 = 511", "whole table"), ("answer_11_1 = 512", "white and black"),
             ("answer_11_1 = 255", "of its own"), ("answer_11_1 = 8", "their patterns"),
             ("answer_11_1 = 9", "logistic"), ("answer_11_1 = 128", "not seven"), ("answer_11_1 = 1000", "too high")],
    "11.2": planted(
        MASK, MASKS, ({"seen": "(i < c) | (i == c) & (j <= c)"}, "would copy it"),
        ({"seen": "(i < c) | (i == c) & (j < c)"}, "as well"),
        ({"seen": "(i < c) | (i == c) & (j < c + first)"}, "`first` is turned"),
        ({"seen": "(i <= c) & ~((i == c) & (j == c) & first)"}, "To its right"),
        ({"seen": "(i <= c) & (j <= c) & ~((i == c) & (j == c) & first)"}, "in every row"),
        ({"back": "seen.float().T"}, "column by column"),
        ({"seen": "(i > c) | (i == c) & (j > c - (not first))"}, "*after* the centre"),
        ({"back": "2 * seen"}, "is not it")),
    "11.3": [
        (one("exact_nats(logits, x)", EACH + ".mean((1, 2, 3))"), "mean over the pixels"),
        (one("exact_nats(logits, x)", EACH + ".sum((1, 2, 3)).mean()"), "over the batch"),
        (one("exact_nats(logits, x)", "-" + EACH + ".sum((1, 2, 3))"), "Its *negative*"),
        (one("exact_nats(logits, x)", EACH + ".sum((1, 2, 3)) / math.log(2)"), "are bits"),
        (one("exact_nats(logits, x)", NATS.format(logits="logits.sigmoid()") + ".sum((1, 2, 3))"), "taken twice"),
        (one("exact_nats(logits, x)", "(x * F.softplus(-logits)).sum((1, 2, 3))"), "Only white"),
    ],
    "11.4": choices("choice_11_4", {"a": "for the true factors", "c": "any order", "d": "two models"}),
    "11.5": planted(
        DRAW, DRAWS, ({"p": "torch.sigmoid(conditional(0 * x)[:, i])"}, "an empty picture"),
        ({"x": "p[:, i]", "back": "(u < p).float()"}, "feed probabilities"),
        ({"x": "(u[:, i] > p[:, i]).float()"}, "*above*"), ({"x": "(p[:, i] > 0.5).float()"}, "likelier value"),
        ({"p": "conditional(x)[:, i]"}, "log-odds themselves"), ({"back": "p"}, "is not it")),
    "11.6": planted(
        QUANTISE, QUANTISES, ({"back": "e"}, "no gradient reaches z"), ({"back": "e.detach()"}, "detach too much"),
        ({"back": "e + z - z.detach()"}, "gets the gradient as well"), ({"back": "z"}, "nothing was quantised"),
        ({"k": "(z @ codebook.T).argmax(1)"}, "inner product"), ({"k": "d.argmax(1)"}, "farthest"),
        ({"back": "z + (z - e).detach()"}, "other side of z"), ({"back": "e[0]"}, "has the shape")),
    "11.7": planted(
        CODES, CODESS, ({"back": "H"}, "is the entropy"), ({"back": "(-H).exp()"}, "sign is turned"),
        ({"back": "len(p)"}, "occur at all"), ({"back": "2**H"}, "2 to the power"),
        ({"back": "(H / math.log(2)).exp()"}, "e to the power"), ({"back": "H.exp() / K"}, "divide by K")) + [
        (one("perplexity(k, K)", "(lambda p: (-(p * p.log()).sum()).exp())(torch.bincount(k, minlength=K) / len(k))"),
         "gives NaN")],
    "11.8": planted(
        DENSITY, DENSITIES, ({"back": "log_p + slope.log()"}, "longer piece"), ({"back": "log_p"}, "density at x"),
        ({"back": "log_p - slope"}, "slope itself"), ({"back": "log_p.exp() / slope"}, "That is the density."),
        ({"constant": ""}, "half the logarithm")),
    "11.9": planted(
        COUPLE, COUPLES, ({"log_det": "-s.sum(1)"}, "way back"), ({"log_det": "s.exp().sum(1)"}, "no exponential"),
        ({"log_det": "s.mean(1)"}, "mean over"), ({"log_det": "s.sum()"}, "one number for all"),
        ({"y2": "x2 * s + b"}, "multiply by s"), ({"y2": "(x2 + b) * s.exp()"}, "shift comes first"),
        ({"read": "x2"}, "half that is changed"), ({"order": "y2, x1"}, "are exchanged")),
    "11.10": planted(
        BACK, BACKS, ({"x2": "y2 / s.exp() - b"}, "wrong order"), ({"x2": "(y2 - b) * s.exp()"}, "once more"),
        ({"x2": "y2 * s.exp() + b"}, "way forwards"), ({"x2": "(y2 - b) / s"}, "divide by s"),
        ({"read": "y2"}, "has been changed"), ({"x2": "(y2 + b) / s.exp()"}, "added again")),
    "11.11": [
        (one("bits_per_dimension(n, D)", "n / D / math.log(2)"), "are missing"),
        (one("bits_per_dimension(n, D)", "n / D / math.log(2) - 8"), "wrong sign"),
        (one("bits_per_dimension(n, D)", "n / D + math.log(256)"), "nats per dimension"),
        (one("bits_per_dimension(n, D)", "n / D * math.log(2) + 8"), "*more* bits"),
        (one("bits_per_dimension(n, D)", "(n / math.log(2) + 8) / D"), "once for the whole"),
        (one("bits_per_dimension(n, D)", "n / math.log(2) + 8 * D"), "divide by the number"),
        (one("bits_per_dimension(n, D)", "8 - n / D / math.log(2)"), "sign of the nats"),
    ],
    "11.12": [("answer_11_12 = math.log(100)", "nats, of the whole"),
              ("answer_11_12 = math.log2(100)", "by its pixels"),
              ("answer_11_12 = math.log(100) / 784", "nats per dimension"),
              ("answer_11_12 = -math.log2(0.99) / 784", "the *noise*"),
              ("answer_11_12 = 2 / 784", "decimal"), ("answer_11_12 = 0", "A little is lost"),
              ("answer_11_12 = 0.99", "99 samples"), ("answer_11_12 = 0.02", "too high")],
    "11.13": planted(
        POINT, POINTS, ({"point": "t * eps + (1 - t) * x", "target": "eps - x"}, "from data to noise"),
        ({"target": "eps - x"}, "points back"), ({"point": "t * eps + (1 - t) * x"}, "starts at the data"),
        ({"target": "x - (t * x + (1 - t) * eps)"}, "left of the way"), ({"target": "x"}, "is the picture"),
        ({"point": "t.sqrt() * x + (1 - t).sqrt() * eps"}, "is an arc"),
        ({"target": "(x - eps) / t"}, "Right is: x_t")),
    "11.14": planted(
        STRAIGHT, STRAIGHTS, ({"u": "v"}, "chapter 8's arc"), ({"u": "eps - x"}, "noise less picture"),
        ({"x_t": "x_s"}, "is not scaled"), ({"t": "bar"}, "Your t is ᾱ"), ({"t": "a"}, "factor of the picture"),
        ({"t": "b / (a + b)"}, "counts from the data"), ({"u": "(x - eps) / (a + b)"}, "scale u as well"),
        ({"x": "a * x_s + b * v", "eps": "b * x_s - a * v"}, "sign of v")),
    "11.15": planted(
        VELOCITY, VELOCITIES, ({"slope": "0"}, "of *all* pairs"), ({"centre": "0"}, "is missing"),
        ({"centre": "m"}, "t m, not m"), ({"slope": "(t * s**2 + 1 - t) / V"}, "wrong sign"),
        ({"V": "t * s**2 + 1 - t"}, "enter the variance"), ({"V": "t**2 * s + (1 - t)**2",
         "slope": "(t * s - 1 + t) / V"}, "s for the variance"),
        ({"slope": "(t * s**2 - 1 + t) / V**0.5"}, "slope has the *variance*")) + [
        (GUESS + "    return guess", "mean of the data"), (GUESS + "    return guess - x", "time that is left, 1 - t")],
    "11.16": planted(
        HEUN, HEUNS, ({"mean": "a"}, "Euler's step: it"), ({"place": "x + h / 2 * a", "time": "t + h / 2", "mean": "b"},
         "midpoint"),
        ({"time": "t"}, "old time"), ({"place": "x"}, "old place"), ({"mean": "(a + b)"}, "twice as far"),
        ({"mean": "b"}, "Only the slope"), ({"place": "x + a"}, "whole unit")),
    "11.17": choices("choice_11_17", {"a": "of the *pairs*", "b": "however long", "d": "has said all"}),
    "11.18": planted(
        NEAR, NEARS, ({"back": "eps"}, "old order"), ({"order": "d.argmin(1)"}, "taken twice"),
        ({"order": "torch.tensor(linear_sum_assignment(d.T.numpy())[1])"}, "is the inverse"),
        ({"order": "torch.tensor(linear_sum_assignment(d.numpy(), maximize=True)[1])"}, "as large as"),
        ({"order": "torch.tensor(linear_sum_assignment(d.T.numpy())[1])", "back": "x[order]"}, "are the pictures"),
        ({"order": "torch.tensor(linear_sum_assignment(d.sqrt().numpy())[1])"}, "*squared*"),
        ({"order": "[]\n    for row in d:\n        row = row.clone()\n        row[order] = math.inf\n"
                   "        order.append(int(row.argmin()))"}, "First come")),
    "11.19": planted(
        EULER, EULERS, ({"mixed": "", "t": "k / K\n        rho = 0"}, "leave `rho` out"), ({"back": "s"}, "infinitely"),
        ({"back": "size**2"}, "the variance"), ({"t": "(k + 1) / K"}, "end of each step"),
        ({"steps": "K - 1"}, "too few"), ({"t": "k / (K - 1)"}, "both ends"), ({"mixed": ""}, "covary")),
}

OTHER = {
    "11.1": ["answer_11_1 = 256", "answer_11_1 = 511 - sum(2**k for k in range(8))"],
    "11.2": [MASK.format(**MASKS),
             one("causal_mask(k, first)", "(np.arange(k * k) < k * k // 2 + (not first)).reshape(k, k)")],
    "11.3": [one("exact_nats(logits, x)", "F.softplus((1 - 2 * x) * logits).sum((1, 2, 3))"),
             one("exact_nats(logits, x)",
                 "-(x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).flatten(1).sum(1)")],
    "11.4": ['choice_11_4 = "(B)"'],
    "11.5": [DRAW.format(**DRAWS),
             "def draw(conditional, u):\n    x = torch.zeros_like(u)\n    for _ in range(u.shape[1]):\n"
             "        x = (u < conditional(x).sigmoid()).float()  # one more column is right after each pass\n"
             "    return x",
             "def draw(conditional, u):\n    x = torch.zeros(u.shape, dtype=torch.int64)\n"
             "    for i in range(u.shape[1]):\n"
             "        x[:, i] = (u[:, i].logit() < conditional(x)[:, i])\n    return x"],
    "11.6": [QUANTISE.format(**QUANTISES),
             one("quantise(z, codebook)", "codebook[(codebook.pow(2).sum(1) - 2 * z @ codebook.T).argmin(1)].detach() "
                                          "+ z - z.detach()")],
    "11.7": [CODES.format(**CODESS),
             one("perplexity(k, K)", "np.exp(-sum(p * np.log(p) for p in np.bincount(k, minlength=K) / len(k) if p))")],
    "11.8": [DENSITY.format(**DENSITIES),
             one("log_density(x, slope)", "torch.distributions.Normal(0.0, 1.0).log_prob(x) + (1 / slope).log()")],
    "11.9": [COUPLE.format(**COUPLES),
             "def couple(x, net):\n    d = x.shape[1] // 2\n    s, b = net(x[:, :d])\n    y = x.clone()\n"
             "    y[:, d:] = y[:, d:] * torch.exp(s) + b\n    return y, s.exp().prod(1).log()"],
    "11.10": [BACK.format(**BACKS)],
    "11.11": [one("bits_per_dimension(n, D)", "(n + D * math.log(256)) / (D * math.log(2))")],
    "11.12": ["answer_11_12 = 0.0085", "answer_11_12 = math.log(100) / math.log(2) / 28**2"],
    "11.13": [POINT.format(**POINTS),
              "def point_and_target(x, eps, t):\n    u = x - eps\n    return eps + t.reshape(-1, 1, 1, 1) * u, u"],
    "11.14": [STRAIGHT.format(**STRAIGHTS),
              "def straightened(x_s, v, bar):\n    a, b = bar.sqrt(), (1 - bar).sqrt()\n"
              "    return x_s / (a + b), a / (a + b), (a - b) * x_s - (a + b) * v"],
    "11.15": [VELOCITY.format(**VELOCITIES), GUESS + "    return (guess - x) / (1 - t)"],
    "11.16": [HEUN.format(**HEUNS),
              "def heun(u, x, t, h):\n    ahead = x + h * u(x, t)\n    return (x + ahead + h * u(ahead, t + h)) / 2"],
    "11.17": ['choice_11_17 = "C"'],
    "11.18": [NEAR.format(**NEARS),
              "def coupled_noise(x, eps):\n    cost = -x.flatten(1) @ eps.flatten(1).T\n"
              "    return eps[linear_sum_assignment(cost)[1]]"],
    "11.19": [EULER.format(**EULERS),
              "def euler_sd(s, rho, K):\n    V = lambda t: t**2 * s**2 + (1 - t)**2 + 2 * t * (1 - t) * rho * s\n"
              "    slopes = [(V(k / K + 1e-5) - V(k / K - 1e-5)) / 4e-5 / V(k / K) for k in range(K)]\n"
              "    return np.prod([1 + a / K for a in slopes])"],
}
