"""Planted answers to chapter 4's exercises."""

D_LOSS = "def discriminator_loss(a, b):\n    "
G_LOSSES = "def generator_losses(s):\n    "
LOSSES = "def losses(G, D, x, z):\n    sp = F.softplus\n    "
BEST = "def best_game(p, q):\n    D = p / (p + q)\n    "
COEF = "def coefficients(theta, tau):\n    "
REMEDY = "def remedy(p, q):\n    m = (p + q) / 2\n    "
PRICE = "def price(w):\n    t = (2 - w) / (2 - 2 * w)\n    "
SQUARES = "def least_squares(p, q, a, b, c):\n    "
SMALL = '''def smallest_gan(eta, gamma, steps):
    def game(in_turn):
        theta, psi, out = 1.0, 0.0, [1.0]
        for _ in range(steps):
            new = psi - eta * theta - eta * gamma * psi
            theta, psi = theta + eta * (new if in_turn else psi), new
            out.append((theta**2 + psi**2) ** 0.5)
        return out
    return game(False), game(True)
'''
STEEP = "def steepness(D, x, n, sigma):\n    "
KEEP = "def keep_probabilities(s, share):\n    r = s.exp()\n    "
MODES = "def modes(p, c, sd):\n    near = torch.cdist(p, c) < 3 * sd\n    shares = near.float().mean(0)\n    "

WRONG = {
    "4.1": [("prediction_4_1 = 0", "whispers"), ("prediction_4_1 = 1", "chain rule"),
            ("prediction_4_1 = -8", "positive"),
            ("prediction_4_1 = 64", "One θ too many"), ("prediction_4_1 = 32", "a value"),
            ("prediction_4_1 = 20", "too high")],
    "4.2": [("prediction_4_2 = 100", "more circle"), ("prediction_4_2 = 2.4", "there are eight"),
            ("prediction_4_2 = 9.5", "either side"), ("prediction_4_2 = 38", "4π"), ("prediction_4_2 = 6", "too low"),
            ("prediction_4_2 = 3.5", "one standard deviation")],
    "4.3": [
        (D_LOSS + "return (F.softplus(-a) + F.softplus(b)).mean()", "are added"),
        (D_LOSS + "return (F.softplus(a) + F.softplus(-b)).mean() / 2", "labels are swapped"),
        (D_LOSS + "return (F.logsigmoid(a) + F.logsigmoid(-b)).mean() / 2", "sign is turned"),
        (D_LOSS + "one = torch.ones_like(a)\n    bce = F.binary_cross_entropy_with_logits\n"
                  "    return (bce(a, one) + bce(b, one)) / 2", "the generator's trick"),
        (D_LOSS + "return (F.softplus(-a) + F.softplus(b)) / 2", "has the shape (6, 1)"),
    ],
    "4.4": [
        (G_LOSSES + "D = s.sigmoid()\n    return (1 - D).log().mean(), -D.log().mean()", "is infinite for a score"),
        (G_LOSSES + "return F.softplus(-s).mean(), -F.softplus(s).mean()", "wrong order"),
        (G_LOSSES + "return F.softplus(s).mean(), F.softplus(-s).mean()", "sign turned: made small, yours"),
        (G_LOSSES + "return F.logsigmoid(-s).mean(), F.softplus(s).mean()", "G claims the label 1"),
        (G_LOSSES + "return F.logsigmoid(-s).sum(), -F.logsigmoid(s).sum()", "sums over the batch"),
        (G_LOSSES + "return F.logsigmoid(-s).mean(), F.logsigmoid(s).mean()", "makes D surer"),
        (G_LOSSES + "s = s.detach()\n    return F.logsigmoid(-s).mean(), -F.logsigmoid(s).mean()",
         "carries no gradient"),
    ],
    "4.5": [
        (LOSSES + "f = D(G(z))\n    return (sp(-D(x)) + sp(f)).mean() / 2, sp(-f).mean()", "sends a gradient into G"),
        (LOSSES + "f = D(G(z).detach())\n    return (sp(-D(x)) + sp(f)).mean() / 2, sp(-f).mean()",
         "No gradient reaches G"),
        (LOSSES + "return (sp(-D(x)) + sp(D(G(z).detach()))).mean() / 2, (1 - D(G(z)).sigmoid()).log().mean()",
         "saturating"),
        (LOSSES + "return (sp(-D(x)) + sp(D(G(z).detach()))).mean() / 2, sp(D(G(z))).mean()", "to be recognised"),
        (LOSSES + "return (sp(-D(x)) + sp(D(G(z).detach()))).mean(), sp(-D(G(z))).mean()", "adds its two halves"),
        (LOSSES + "return (sp(D(x)) + sp(-D(G(z).detach()))).mean() / 2, sp(-D(G(z))).mean()", "labels in D's loss"),
    ],
    "4.6": [('choice_4_6 = "a"', "never sees a real picture"), ('choice_4_6 = "b"', "false on purpose"),
            ('choice_4_6 = "d"', "cannot share a loss"), ('choice_4_6 = "x"', "is asked for"),
            ("choice_4_6 = 3", "not 3")],
    "4.7": [
        ("def best_game(p, q):\n    D = p / (p + q)\n"
         "    return p / q, (torch.xlogy(p, D) + torch.xlogy(q, 1 - D)).sum()",
         "the odds"),
        ("def best_game(p, q):\n    D = q / (p + q)\n    return D, (torch.xlogy(p, D) + torch.xlogy(q, 1 - D)).sum()",
         "probability of a *fake*"),
        (BEST + "return D, (torch.xlogy(p, D) + torch.xlogy(q, 1 - D)).sum() / 2", "V is their sum"),
        (BEST + "return D, -(torch.xlogy(p, D) + torch.xlogy(q, 1 - D)).sum()", "V is positive"),
        (BEST + "m = (p + q) / 2\n    js = (torch.xlogy(p, p / m) + torch.xlogy(q, q / m)).sum() / 2\n"
                "    return D, js - 2 * math.log(2)", "counts the divergence once"),
        (BEST + "m = (p + q) / 2\n    return D, (torch.xlogy(p, p / m) + torch.xlogy(q, q / m)).sum()", "2 JS alone"),
        (BEST + "return D, (p * D.log() + q * (1 - D).log()).sum()", "NaN"),
    ],
    "4.8": [
        (COEF + "return -(1 / tau**2 - 1) / 2, theta / tau**2, -theta**2 / (2 * tau**2) - math.log(tau)",
         "log-odds of *fake*"),
        (COEF + "return (1 / tau**2 - 1) / 2, -theta / tau**2, theta**2 / (2 * tau**2)", "lacks a term"),
        (COEF + "return (1 / tau - 1) / 2, -theta / tau, theta**2 / (2 * tau) + math.log(tau)", "has the variance"),
        (COEF + "return 0, -theta, theta**2 / 2", "equal widths"),
        (COEF + "return 1 / tau**2 - 1, -theta / tau**2, theta**2 / tau**2 + math.log(tau)", "half of the exponent"),
        (COEF + "return (1 / tau**2 - 1) / 2, -theta / tau**2, theta**2 / (2 * tau**2) - math.log(tau)", "wrong sign"),
        (COEF + "return -theta, theta**2 / 2", "3 things are asked for"),
    ],
    "4.9": [
        (REMEDY + "return (q * (q / p).log()).sum()", "the first part of it"),
        (REMEDY + "return (q * (q / p).log() - (p * (p / m).log() + q * (q / m).log()) / 2).sum()", "subtracted once"),
        (REMEDY + "return (m * (m / p).log()).sum()", "this is half of it"),
        (REMEDY + "return 2 * (p * (p / m).log()).sum()", "arguments are turned"),
        (REMEDY + "return -(q * (p / (p + q)).log()).sum()", "the loss itself"),
        (REMEDY + "return (p * (p / m).log() + q * (q / m).log()).sum()", "*saturating* loss minimises"),
    ],
    "4.10": [
        (PRICE + "return (1 - w) * t * math.log(t) - w * math.log(2) / 2", "*twice* KL"),
        (PRICE + "return 2 * (w / 2 * math.log(1 / 2))", "the rest must grow"),
        (PRICE + "return -math.log(1 - w)", "as if the generator's pictures alone"),
        (PRICE + "return 2 * (1 - w) * t * math.log(t)", "not counted"),
        (PRICE + "return 2 * (1 - w) * t * math.log(t) + w * math.log(2)", "enter with the wrong sign"),
    ],
    "4.11": [
        (SQUARES + "D = (a * p + b * q) / (p + q)\n    return D, ((p + q) * (D - c) ** 2).sum() / 2",
         "targets are swapped"),
        (SQUARES + "D = (b * p + a * q) / (p + q)\n    return D, (q * (D - c) ** 2).sum() / 2", "lacks the real term"),
        (SQUARES + "D = (b * p + a * q) / (p + q)\n    return D, ((p + q) * (D - c) ** 2).sum()", "half is forgotten"),
        (SQUARES + "D = p / (p + q)\n    return D, ((p + q) * (D - c) ** 2).sum() / 2", "under a cross-entropy"),
        (SQUARES + "D = b * p + a * q\n    return D, ((p + q) * (D - c) ** 2).sum() / 2", "divide by p_r + p_g"),
        (SQUARES + "D = (b * p + a * q) / (p + q)\n    return D, ((p + q) * (D - b) ** 2).sum() / 2", "target is c"),
    ],
    "4.12": [('choice_4_12 = "a"', "other way round"), ('choice_4_12 = "c"', "covers all and blurs"),
             ('choice_4_12 = "d"', "has no encoder"), ('choice_4_12 = "e"', "a score in a match"),
             ('choice_4_12 = "x"', "is asked for")],
    "4.13": [
        (SMALL.replace("game(False), game(True)", "game(True), game(True)"), "the ψ from before"),
        (SMALL.replace("game(False), game(True)", "game(False), game(False)"), "has just moved to"),
        (SMALL.replace("eta * gamma * psi", "2 * eta * gamma * psi"), "is doubled"),
        (SMALL.replace("- eta * gamma * psi", ""), "penalty is missing"),
        (SMALL.replace("- eta * gamma * psi", "+ eta * gamma * psi"), "penalty has the wrong sign"),
        (SMALL.replace("psi - eta * theta", "psi + eta * theta"), "want the same"),
        (SMALL.replace(" ** 0.5", ""), "squared distances"),
        (SMALL.replace("            new = psi", "            if in_turn:\n                theta += eta * psi\n"
                       "            new = psi").replace("(new if in_turn else psi)",
                        "(0 if in_turn else psi)"), "G moves first"),
        (SMALL.replace("range(steps)", "range(steps - 1)"), "has the shape"),
    ],
    "4.14": [
        ("def penalties(eta):\n    return 0, 2 / eta + eta / 2", "has to make up for that"),
        ("def penalties(eta):\n    return eta, 2", "complex pair"),
        ("def penalties(eta):\n    return eta, 2 / eta", "the penalty alone"),
        ("def penalties(eta):\n    return 0, 2 / eta - eta / 2", "*alternating* game"),
        ("def penalties(eta):\n    return eta / 2, 1 / eta + eta / 4", "half of what is asked"),
        ("def penalties(eta):\n    return eta**2, 2 / eta + eta / 2", "one η too many"),
    ],
    "4.15": [
        (STEEP + "return ((D(x + n) - D(x)) / sigma).square().mean()", "at full size"),
        (STEEP + "return (D(x + sigma * n) - D(x)).square().mean()", "no slope yet"),
        (STEEP + "return (D(x + sigma * n) - D(x)).square().mean() / sigma", "divided by ς once"),
        (STEEP + "return ((D(x + sigma * n) - D(x)) / sigma).mean() ** 2", "opposite sign cancel"),
        (STEEP + "with torch.no_grad():\n        return ((D(x + sigma * n) - D(x)) / sigma).square().mean()",
         "teaches nobody"),
        (STEEP + "with torch.no_grad():\n        s = D(x)\n    return ((D(x + sigma * n) - s) / sigma).square().mean()",
         "Half of the gradient"),
        (STEEP + "return ((D(x + sigma * n) - D(x)) / sigma).abs().mean()", "absolute slopes"),
    ],
    "4.16": [
        (KEEP + "return (share * r / r.mean()).clamp(max=1)", "before the minimum is taken"),
        (KEEP + "return share * r / r.mean()", "exceed 1"),
        (KEEP + "return r / r.max()", "whatever the share"),
        (KEEP + "k = round(share * len(r))\n    return (s >= s.sort(descending=True).values[k - 1]).float()",
         "all others never"),
        ("def keep_probabilities(s, share):\n    r, low, high = s.sigmoid(), 1e-6, 1e6\n    for _ in range(200):\n"
         "        M = math.sqrt(low * high)\n"
         "        low, high = (M, high) if (r / M).clamp(max=1).mean() > share else (low, M)\n"
         "    return (r / M).clamp(max=1)", "in proportion to D"),
    ],
    "4.17": [
        (MODES + "return shares, near.any(0).sum()", "as soon as one point"),
        (MODES + "return shares, (shares >= 1 / len(c)).sum()", "a whole fair share"),
        (MODES + "return shares, (shares >= 1 / 16).sum()", "*eight* modes"),
        (MODES + "shares = shares / near.any(1).float().mean()\n    return shares, (shares >= 1 / 2 / len(c)).sum()",
         "Take them of all points"),
        (MODES + "shares = (torch.cdist(p, c) < sd).float().mean(0)\n    return shares, (shares >= 0.5 / len(c)).sum()",
         "within one standard deviation"),
        (MODES + "shares = F.one_hot(torch.cdist(p, c).argmin(1), len(c)).float().mean(0)\n"
                 "    return shares, (shares >= 0.5 / len(c)).sum()", "nearest centre, however far"),
    ],
    "4.18": [('choice_4_18 = "a"', "just what starves"), ('choice_4_18 = "b"', "Room in G"),
             ('choice_4_18 = "c"', "*this* D"), ('choice_4_18 = "x"', "is asked for"), ("choice_4_18 = 3", "not 3")],
}
OTHER = {
    "4.1": ["prediction_4_1 = 8.0", "prediction_4_1 = torch.tensor(7.99)"],
    "4.2": ["prediction_4_2 = 19.1", "prediction_4_2 = 800 * 0.3 / (4 * math.pi)"],
    "4.3": [D_LOSS + "bce = F.binary_cross_entropy\n    p, q = torch.sigmoid(a), torch.sigmoid(b)\n"
            "    return 0.5 * (bce(p, torch.ones_like(p)) + bce(q, torch.zeros_like(q)))"],
    "4.4": [G_LOSSES + "bce = F.binary_cross_entropy_with_logits\n"
            "    return -bce(s, torch.zeros_like(s)), bce(s, torch.ones_like(s))"],
    "4.5": ["def losses(G, D, x, z):\n    bce = F.binary_cross_entropy_with_logits\n    with torch.no_grad():\n"
            "        fake = G(z)\n    s = D(torch.cat([x, fake]))\n"
            "    y = torch.cat([torch.ones(len(x), 1), torch.zeros(len(z), 1)])\n"
            "    on_G = D(G(z))\n    return bce(s, y), bce(on_G, torch.ones_like(on_G))"],
    "4.6": ['choice_4_6 = "(C)"'],
    "4.7": ["def best_game(p, q):\n    D = torch.sigmoid(p.log() - q.log())\n    V = 0\n"
            "    for a, b, d in zip(p, q, D):\n"
            "        V = V + (a * d.log() if a > 0 else 0) + (b * (1 - d).log() if b > 0 else 0)\n    return D, V"],
    "4.8": [COEF + "v = tau**2\n"
                   "    return torch.tensor([0.5 * (1 - v) / v, -theta / v, 0.5 * (theta**2 / v + math.log(v))])\\\n"
            "        .tolist()"],
    "4.9": ["def remedy(p, q):\n    p, q = p.double(), q.double()\n    m = (p + q) / 2\n"
            "    return (q * (q / p).log() - p * (p / m).log() - q * (q / m).log()).sum()"],
    "4.10": ["def price(w):\n    p, q = torch.tensor([w, 1 - w]), torch.tensor([0.0, 1.0])\n    m = (p + q) / 2\n"
             "    return 2 * (m * (m / p).log()).sum()"],
    "4.11": ["def least_squares(p, q, a, b, c):\n    D = a + (b - a) * torch.sigmoid(p.log() - q.log())\n"
             "    return D, 0.5 * (p * (D - c).square()).sum() + 0.5 * (q * (D - c).square()).sum()"],
    "4.12": ['choice_4_12 = "(B)"'],
    "4.13": [SMALL, "def smallest_gan(eta, gamma, steps):\n    A = torch.tensor([[1, eta], [-eta, 1 - eta * gamma]])\n"
             "    B = torch.tensor([[1 - eta**2, eta * (1 - eta * gamma)], [-eta, 1 - eta * gamma]])\n"
             "    power = torch.linalg.matrix_power\n"
             "    return [torch.stack([power(M, k)[:, 0].norm() for k in range(steps + 1)]) for M in (A, B)]"],
    "4.14": ["def penalties(eta):\n    return torch.tensor([eta, (4 + eta**2) / (2 * eta)]).unbind()"],
    "4.15": [STEEP + "moved, still = D(torch.cat([x + sigma * n, x])).chunk(2)\n"
             "    return F.mse_loss(moved, still) / sigma**2"],
    "4.16": ["def keep_probabilities(s, share):\n    M = s.exp().mean()\n    for _ in range(2000):\n"
             "        M = M * (s.exp() / M).clamp(max=1).mean() / share\n    return (s.exp() / M).clamp(max=1)"],
    "4.17": ["def modes(p, c, sd):\n    p, c = p.numpy(), c.numpy()\n"
             "    d = ((p[:, None] - c[None]) ** 2).sum(-1) ** 0.5\n"
             "    shares = (d < 3 * sd).mean(0)\n    return shares, sum(s * len(c) >= 0.5 for s in shares)"],
    "4.18": ['choice_4_18 = "(D)"'],
}
