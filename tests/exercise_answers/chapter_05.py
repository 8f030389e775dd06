"""Planted answers to chapter 5's exercises."""


def choices(name, wrong):
    """Wrong letters with words of their explanations, and answers that are no letter of the list."""
    return [(f'{name} = "{letter}"', words) for letter, words in wrong.items()] + [
        (f'{name} = "x"', "is asked for"), (f"{name} = 3", "is asked for, not 3")]


ELEVEN = ("def eleven_losses(on_real, y, on_fake, asked):\n    ce = F.cross_entropy\n"
          "    fake = torch.full((len(asked),), 10)\n")
BEST = ("def best_discriminator(p_r, p_g):\n    real = p_r.sum(1)\n"
        "    D = torch.cat([p_r, p_g[:, None]], 1) / (real + p_g)[:, None]\n")
PAIR = ("def pair_loss(D, x, y, fake, asked, wrong):\n"
        "    up, down = lambda s: F.softplus(-s).mean(), lambda s: F.softplus(s).mean()\n")
AUX = ("def auxiliary_losses(real, real_classes, y, fake, fake_classes, asked, weight):\n"
       "    a = F.softplus(-real).mean() + F.softplus(fake).mean()\n    g = F.softplus(-fake).mean()\n"
       "    r, f = F.cross_entropy(real_classes, y), F.cross_entropy(fake_classes, asked)\n")
TERMS = ("def three_terms(p_g, p_r):\n    g, r = p_g.sum(1), p_r.sum(1)\n    kl = (g * (g / r).log()).sum()\n"
         "    cross = -(p_g * (p_r / r[:, None]).log()).sum()\n    H = -(p_g * (p_g / g[:, None]).log()).sum()\n")
CUT = ("def cut_off(p_r, weight):\n    p = p_r.sum(1)\n    m, label = (p_r / p[:, None]).max(1)\n"
       "    one = torch.eye(p_r.shape[1])[label]\n")
SPREAD = ("def diversity(drawn, asked, real, labels):\n    def apart(x):\n        return torch.pdist(x).mean()\n"
          "    classes = range(3)\n")
RECALL = ("def recall(real, labels, drawn, asked, radius):\n    distance = torch.cdist(real, drawn)\n"
          "    same = labels[:, None] == asked\n")
SCORES = ("def scores_with_shares(real, fake, share_real, share_fake):\n"
          "    pairs = (real * share_real / (fake * share_fake)).log()\n"
          "    pictures = ((real @ share_real) / (fake @ share_fake)).log()\n")
GAME = """def moved(table, A, V, z, y, steps, rate):
    fake = torch.full_like(y, len(V) - 1)
    def loss(t, target):
        return F.cross_entropy((z + t[y]) @ A.T @ V.T, target)
    def slope(t, target):
        t = t.clone().requires_grad_()
        loss(t, target).backward()
        return {slope}
    alone, both = table.clone(), table.clone()
    for _ in range(steps):
        alone = alone - rate * slope(alone, y)
        {round}
    return loss(alone, y), loss(both, y)
"""
ROUND = "both = both - rate * slope(both, fake); both = both - rate * slope(both, y)"


def game(slope="t.grad / t.grad.norm()", turn=ROUND):
    """The two games with another step or another round."""
    return GAME.format(slope=slope, round=turn)


WRONG = {
    "5.1": [("prediction_5_1 = math.log(11)", "guessing among eleven"), ("prediction_5_1 = 1.386", "half in front"),
            ("prediction_5_1 = 0.3466", "one of the two terms"), ("prediction_5_1 = 0", "look alike"),
            ("prediction_5_1 = math.log(10)", "guessing among ten"), ("prediction_5_1 = 0.8", "too high")],
    "5.2": choices("choice_5_2", {"a": "Obedience", "b": "asks for variety", "d": "as often as it occurs"}),
    "5.3": choices("choice_5_3", {"a": "with which labels", "c": "learns to read them", "d": "half of the game"}),
    "5.4": [
        (ELEVEN + "    return ce(on_real, y) + ce(on_fake, fake), ce(on_fake, asked)", "are added"),
        (ELEVEN + "    return (ce(on_real, y) + ce(on_fake, asked)) / 2, ce(on_fake, asked)", "D is told"),
        (ELEVEN + "    return (ce(on_real, y) + ce(on_fake, fake)) / 2, ce(on_fake, y)", "of the *real* pictures"),
        (ELEVEN + "    return (ce(on_real, y) + ce(on_fake, fake)) / 2, -ce(on_fake, fake)", "minimax"),
        (ELEVEN + "    real = 1 - on_fake.softmax(1)[:, -1]\n"
         "    return (ce(on_real, y) + ce(on_fake, fake)) / 2, -real.log().mean()", "any digit"),
        (ELEVEN + "    return (ce(on_real, y) + ce(on_fake, fake + 1)) / 2, ce(on_fake, asked)",
         "stopped with IndexError"),
    ],
    "5.5": [
        ("def apart(s):\n    return s.logsumexp(1) - s[:, 10], s[:, :10].log_softmax(1)", "among the scores"),
        ("def apart(s):\n    return s[:, :10].amax(1) - s[:, 10], s[:, :10].log_softmax(1)", "best digit alone"),
        ("def apart(s):\n    return s[:, 10] - s[:, :10].logsumexp(1), s[:, :10].log_softmax(1)", "sign is turned"),
        ("def apart(s):\n    return s[:, :10].logsumexp(1) - s[:, 10], s.log_softmax(1)[:, :10]", "with 'fake'"),
        ("def apart(s):\n    return s[:, :10].logsumexp(1) - s[:, 10], s[:, :10].softmax(1)", "q itself"),
        ("def apart(s):\n    return s[:, :10].sum(1) - s[:, 10], s[:, :10].log_softmax(1)", "*scores* are added"),
    ],
    "5.6": [
        (BEST + "    return D, (real / p_g).log(), p_r", "joint density"),
        (BEST + "    return D, real / p_g, p_r / real[:, None]", "*logarithm*"),
        (BEST + "    return D, (p_g / real).log(), p_r / real[:, None]", "sign is turned"),
        (BEST + "    D[:, :-1] = p_r / real[:, None]\n    return D, (real / p_g).log(), p_r / real[:, None]",
         "among them alone"),
        (BEST + "    D = torch.cat([p_r, p_g[:, None]], 1)\n    D = D / D.sum(0)\n"
         "    return D, (D[:, :3].sum(1) / D[:, 3]).log(), D[:, :3] / D[:, :3].sum(1, keepdim=True)", "over x"),
    ],
    "5.7": [
        (PAIR + "    return up(D(x, y)) + (down(D(fake, asked)) + down(D(x, wrong))) / 2", "flows on"),
        (PAIR + "    return up(D(x, y)) + (down(D(fake.detach(), y)) + down(D(x, wrong))) / 2",
         "judged under the labels"),
        (PAIR + "    return up(D(x, y)) + (down(D(fake.detach(), asked)) + up(D(x, wrong))) / 2", "the *pair* is not"),
        (PAIR + "    return up(D(x, y)) + down(D(fake.detach(), asked)) + down(D(x, wrong))", "twice as often"),
        (PAIR + "    return up(D(x, y)) + down(D(fake.detach(), asked))", "are missing"),
        (PAIR + "    f = fake.detach()\n    return up(D(x, y)) + (down(D(f, asked)) + down(D(f, wrong))) / 2",
         "shown with the fakes"),
        (PAIR + "    with torch.no_grad():\n"
         "        return up(D(x, y)) + (down(D(fake, asked)) + down(D(x, wrong))) / 2", "lost its graph"),
    ],
    "5.8": [
        (AUX + "    return a + weight * r, g + weight * f", "real pictures alone"),
        (AUX + "    return a + weight * (r + f), g + weight * f", "are added"),
        (AUX + "    f = F.cross_entropy(fake_classes, y)\n    return a + weight * (r + f) / 2, g + weight * f",
         "under the labels of the real"),
        (AUX + "    return a + weight * (r + f) / 2, g - weight * f", "wrong sign"),
        (AUX + "    return a + (r + f) / 2, g + f", "forgotten"),
        (AUX + "    return a + weight * (r + f) / 2, -F.softplus(fake).mean() + weight * f", "being called *fake*"),
    ],
    "5.9": [
        ("def projection(W):\n    return W[0], W - W[0]", "as any v would do"),
        ("def projection(W):\n    return W.mean(0), W", "counted twice"),
        ("def projection(W):\n    v = W.sum(0)\n    return v, W - v", "is the sum of the rows"),
        ("def projection(W):\n    v = W.mean(0)\n    return v, v - W", "wrong sign"),
        ("def projection(W):\n    return 0 * W[0], W", "Nothing is put into v"),
    ],
    "5.10": [
        (TERMS + "    return kl, -(p_r * (p_r / r[:, None]).log()).sum(), H", "over *real* pairs"),
        (TERMS + "    return kl, cross, -(p_g * p_g.log()).sum()", "of the pairs, H(x, y)"),
        (TERMS + "    return kl, cross, -(p_g.sum(0) * p_g.sum(0).log()).sum()", "labels asked for"),
        (TERMS + "    return kl, -(p_g * (p_r / p_r.sum(0)).log()).sum(), -(p_g * (p_g / p_g.sum(0)).log()).sum()",
         "Condition on x"),
        (TERMS + "    return (r * (r / g).log()).sum(), cross, H", "wrong way round"),
        (TERMS + "    return kl, cross, -H", "wrong sign"),
        (TERMS + "    return kl, -(p_g * p_r.log()).sum(), H", "charged twice"),
    ],
    "5.11": [
        (CUT + "    return p_r / p_r.sum()", "optimum of (5.5) in full"),
        (CUT + "    g = p[:, None] * (p_r / p[:, None]) ** weight\n    return g / g.sum()", "*linear*"),
        (CUT + "    return one * p[:, None]", "leave p_g(x) as p_r(x)"),
        (CUT + "    g = p * m\n    return one * (g / g.sum())[:, None]", "weight of one"),
        (CUT + "    return one * (p * m**weight)[:, None]", "not normalised"),
        (CUT + "    g = (p * m) ** weight\n    return one * (g / g.sum())[:, None]", "as a whole"),
    ],
    "5.12": [("prediction_5_12 = 0.6297", "the variance"), ("prediction_5_12 = 1.0", "the real class"),
             ("prediction_5_12 = math.sqrt(1 - 2 / math.pi)", "its own mean"), ("prediction_5_12 = 0", "keeps more"),
             ("prediction_5_12 = 0.9", "too high")],
    "5.13": [
        (SPREAD + "    return apart(drawn) / apart(real)", "lumped together"),
        (SPREAD + "    return sum(apart(drawn[asked == c]) for c in classes) / "
         "sum(apart(real[labels == c]) for c in classes)", "ratio of averages"),
        (SPREAD + "    return sum(torch.cdist(drawn[asked == c], drawn[asked == c]).mean()\n"
         "               / torch.cdist(real[labels == c], real[labels == c]).mean() for c in classes) / 3",
         "with itself"),
        (SPREAD + "    return sum((torch.pdist(drawn[asked == c]) ** 2).mean()\n"
         "               / (torch.pdist(real[labels == c]) ** 2).mean() for c in classes) / 3", "squared"),
        (SPREAD + "    return sum(apart(real[labels == c]) / apart(drawn[asked == c]) for c in classes) / 3",
         "upside down"),
    ],
    "5.14": [("prediction_5_14 = 1 / 5", "are the same picture"), ("prediction_5_14 = 1", "All five are real"),
             ("prediction_5_14 = 0.0", "single picture"), ("prediction_5_14 = 0.5", "does not count pictures"),
             ("prediction_5_14 = 0.9", "too high")],
    "5.15": [
        (RECALL + "    near = (distance <= radius).any(1).float()\n"
         "    each = torch.stack([near[labels == c].mean() for c in range(3)])\n"
         "    return each, each.mean()", "*any* class"),
        (RECALL + "    near = ((distance <= radius) & same).any(0).float()\n"
         "    each = torch.stack([near[asked == c].mean() for c in range(3)])\n"
         "    return each, each.mean()", "precision"),
        (RECALL + "    near = ((distance <= radius) & same).any(1).float()\n"
         "    return torch.stack([near[labels == c].mean() for c in range(3)]), near.mean()", "vanishes from it"),
        (RECALL + "    near = (distance <= radius).float()\n"
         "    each = torch.stack([near[labels == c][:, asked == c].mean() for c in range(3)])\n"
         "    return each, each.mean()", "counts *pairs*"),
        (RECALL + "    near = ((distance**2 <= radius) & same).any(1).float()\n"
         "    each = torch.stack([near[labels == c].mean() for c in range(3)])\n    return each, each.mean()",
         "squared distance"),
    ],
    "5.16": [
        (SCORES + "    return (real / fake).log(), pictures", "the shares are missing"),
        (SCORES + "    return (real * share_fake / (fake * share_real)).log(), "
         "((real @ share_fake) / (fake @ share_real)).log()", "exchanged"),
        (SCORES + "    return pairs, ((real @ share_real) / (fake @ share_real)).log()", "with the *real* shares"),
        (SCORES + "    return pairs, pairs @ share_real", "mean over labels"),
        (SCORES + "    return pairs, (real.mean(1) / fake.mean(1)).log()", "how often each is shown"),
        (SCORES + "    return -pairs, -pictures", "signs are turned"),
    ],
    "5.17": choices("choice_5_17", {"b": "compare mixtures", "c": "score of pairs again", "d": "perfect classes"}),
    "5.18": [
        (game(turn=ROUND.replace("both - rate * slope(both, fake)", "both + rate * slope(both, fake)")), "*climbs*"),
        (game(slope="t.grad"), "as long as the gradients"),
        (game(turn="both = both - rate * (slope(both, fake) + slope(both, y))"), "move at once"),
        (game(turn="both = both - rate * slope(both, y); both = both - rate * slope(both, fake)"), "G moves first"),
        (game(slope="F.normalize(t.grad, dim=1)"), "Each row"),
        (game(turn="both = alone"), "the same game"),
    ],
    "5.19": choices("choice_5_19", {"a": "asked different things", "b": "no softmax over them", "d": "know p_g"}),
}
OTHER = {
    "5.1": ["prediction_5_1 = 0.693"],
    "5.2": ['choice_5_2 = "(C)"'],
    "5.3": ['choice_5_3 = "B"'],
    "5.4": ["def eleven_losses(on_real, y, on_fake, asked):\n"
            "    p, q = on_real.double().softmax(1), on_fake.double().softmax(1)\n    rows = torch.arange(len(y))\n"
            "    return -0.5 * (p[rows, y].log() + q[:, 10].log()).mean(), -q[rows, asked].log().mean()"],
    "5.5": ["def apart(scores):\n    p = scores.softmax(1)\n    fake = p[:, 10:]\n"
            "    return torch.logit(1 - fake[:, 0].double()), p[:, :10].log() - torch.log1p(-fake)"],
    "5.6": ["def best_discriminator(p_r, p_g):\n    total = p_r.sum(1) + p_g\n    D = torch.zeros(len(p_r), 4)\n"
            "    for x in range(len(p_r)):\n        for k in range(3):\n            D[x, k] = p_r[x, k] / total[x]\n"
            "        D[x, 3] = p_g[x] / total[x]\n    real = D[:, :3].sum(1)\n"
            "    return D, torch.logit(real), D[:, :3] / real[:, None]"],
    "5.7": ["def pair_loss(D, x, y, fake, asked, wrong):\n    bce = F.binary_cross_entropy_with_logits\n"
            "    with torch.no_grad():\n        fake = fake.clone()\n"
            "    s = D(torch.cat([x, fake, x]), torch.cat([y, asked, wrong])).view(3, -1)\n"
            "    one, zero = torch.ones_like(s[0]), torch.zeros_like(s[:2])\n"
            "    return bce(s[0], one) + bce(s[1:], zero)"],
    "5.8": ["def auxiliary_losses(real, real_classes, y, fake, fake_classes, asked, weight):\n"
            "    both = F.cross_entropy(torch.cat([real_classes, fake_classes]), torch.cat([y, asked]))\n"
            "    on_D = -F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean() + weight * both\n"
            "    rows = torch.arange(len(asked))\n    picked = fake_classes.log_softmax(1)[rows, asked]\n"
            "    return on_D, (-F.logsigmoid(fake) - weight * picked).mean()"],
    "5.9": ["def projection(W):\n    W = W.numpy()\n    v = sum(W) / len(W)\n"
            "    return v, [list(row - v) for row in W]"],
    "5.10": ["def three_terms(p_g, p_r):\n    kl = cross = H = 0.0\n    for a, b in zip(p_g.tolist(), p_r.tolist()):\n"
             "        g, r = sum(a), sum(b)\n        kl += g * math.log(g / r)\n        for s, t in zip(a, b):\n"
             "            cross -= s * math.log(t / r)\n            H -= s * math.log(s / g)\n    return kl, cross, H"],
    "5.11": ["def cut_off(p_r, weight):\n    given = p_r / p_r.sum(1, keepdim=True)\n"
             "    logs = p_r.sum(1).log() + weight * given.max(1).values.log()\n    mass = logs.softmax(0)\n"
             "    return torch.where(given == given.max(1, keepdim=True).values, mass[:, None], 0.0)"],
    "5.12": ["prediction_5_12 = 0.79"],
    "5.13": ["def diversity(drawn, asked, real, labels):\n    def apart(x):\n        n = len(x)\n"
             "        return (x[:, None] - x).square().sum(2).sqrt().sum() / (n * (n - 1))\n    total = 0.0\n"
             "    for c in set(labels.tolist()):\n"
             "        total += apart(drawn[asked == c]) / apart(real[labels == c])\n"
             "    return total / len(set(labels.tolist()))"],
    "5.14": ["prediction_5_14 = 0.80"],
    "5.15": ["def recall(real, labels, drawn, asked, radius):\n    each = []\n"
            "    for c in sorted(set(labels.tolist())):\n"
             "        nearest = torch.cdist(real[labels == c], drawn[asked == c]).min(1).values\n"
             "        each.append((nearest <= radius).double().mean().item())\n    return each, sum(each) / len(each)"],
    "5.16": ["def scores_with_shares(real, fake, share_real, share_fake):\n"
             "    a, b = real.log() + share_real.log(), fake.log() + share_fake.log()\n"
             "    return a - b, a.logsumexp(1) - b.logsumexp(1)"],
    "5.17": ['choice_5_17 = "A"'],
    "5.18": [game()],
    "5.19": ['choice_5_19 = "(c)"'],
}
