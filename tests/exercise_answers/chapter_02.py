"""Planted answers to chapter 2's exercises."""


def choices(name, right, wrong):
    """Wrong answers to a choice, by letter with some words of what each is told, and one right one in another form."""
    planted = [(f'{name} = "{letter}"', words) for letter, words in wrong.items()]
    return (planted + [(f'{name} = "x"', "is asked for"), (f"{name} = 3", "is asked for, not 3")],
            [f'{name} = "({right.upper()})"', f'{name} = " {right} "'])


WRONG = {
    "2.2": [
        ("prediction_2_2 = 784", "in bits"),
        ("prediction_2_2 = math.log(2)", "one pixel"),
        ("prediction_2_2 = 392", "not one half"),
        ("prediction_2_2 = 392 * math.log(2)", "off as well"),
        ("prediction_2_2 = 784 * math.log(0.5)", "The sign"),
    ],
    "2.5": [
        ("def aggregate(mu, logvar):\n"
         "    return mu.mean(0), mu.var(0)", "of the means alone"),
        ("def aggregate(mu, logvar):\n"
         "    return mu.mean(0), logvar.exp().mean(0)", "mean width"),
        ("def aggregate(mu, logvar):\n"
         "    return mu.mean(0), logvar.mean(0).exp() + mu.var(0)", "geometric"),
        ("def aggregate(mu, logvar):\n"
         "    s = torch.exp(logvar / 2)\n"
         "    return mu.mean(0), s.mean(0) ** 2 + mu.var(0)", "averaged and squared"),
        ("def aggregate(mu, logvar):\n"
         "    return mu.mean(0), logvar.exp().square().mean(0) + mu.var(0)", "logarithm of a standard deviation"),
        ("def aggregate(mu, logvar):\n"
         "    return mu.mean(0), (logvar.exp().mean(0) + mu.var(0)).sqrt()", "the root of"),
        ("def aggregate(mu, logvar):\n"
         "    return mu.mean(1), logvar.exp().mean(1) + mu.var(1)", "has the shape (3000,)"),
    ],
    "2.6": [
        ("def code_price(mu, logvar):\n"
         "    return (mu**2 + logvar.exp() - 1 - logvar).sum(1)", "one half is forgotten"),
        ("def code_price(mu, logvar):\n"
         "    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean(1)", "over the coordinates"),
        ("def code_price(mu, sigma):\n"
         "    return 0.5 * (mu**2 + (2 * sigma).exp() - 1 - 2 * sigma).sum(1)", "logarithm of sigma"),
        ("def code_price(mu, logvar):\n"
         "    return 0.5 * (mu**2 + logvar.exp() - 1 + logvar).sum(1)", "logarithm's sign"),
        ("def code_price(mu, logvar):\n"
         "    return 0.5 * (mu**2 + logvar.exp() - logvar).sum(1)", "The 1 is missing"),
        ("def code_price(mu, logvar):\n"
         "    q = distributions.Normal(mu, (logvar / 2).exp())\n"
         "    return distributions.kl_divergence(distributions.Normal(0.0, 1.0), q).sum(1)", "the other way"),
        ("def code_price(mu, logvar):\n"
         "    return 0.5 * (mu**2 + logvar.exp()**2 - 1 - logvar).sum(1)", "8.27"),
        ("def code_price(mu, logvar):\n"
         "    return 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)", "minus the KL"),
        ("def code_price(mu, logvar):\n"
         "    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(0)", "has the shape (3,)"),
        ("def code_price(mu, sigma):\n"
         "    return 0.5 * (mu**2 + sigma**2 - 1 - 2 * torch.log(sigma)).sum(1)", "NaN"),
    ],
    "2.7": [
        ("def gaussian_divergence(m1, s1, m2, s2):\n"
         "    return torch.log(s1 / s2) + (s2**2 + (m1 - m2) ** 2) / (2 * s1**2) - 0.5", "not symmetric"),
        ("def gaussian_divergence(m1, v1, m2, v2):\n"
         "    return 0.5 * (torch.log(v2 / v1) + (v1 + (m1 - m2) ** 2) / v2 - 1)", "They are standard deviations"),
        ("def gaussian_divergence(m1, s1, m2, s2):\n"
         "    return torch.log(s1 / s2) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5", "upside down"),
        ("def gaussian_divergence(m1, s1, m2, s2):\n"
         "    return torch.log(s2 / s1) + (s1 / s2) ** 2 / 2 + (m1 - m2) ** 2 / 2 - 0.5", "widths of the second"),
        ("def gaussian_divergence(m1, s1, m2, s2):\n"
         "    return torch.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2)", "at the end is missing"),
        ("def gaussian_divergence(m1, s1, m2, s2):\n"
         "    return 0.5 * (torch.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / s2**2 - 1)", "one half too many"),
    ],
    "2.8": [
        ("def draw_code(mu, logvar, eps):\n"
         "    return mu + logvar.exp() * eps", "scaled by the variance"),
        ("def draw_code(mu, logvar, eps):\n"
         "    return mu + logvar * eps", "itself scales"),
        ("def draw_code(mu, logvar, eps):\n"
         "    with torch.no_grad():\n"
         "        return mu + (logvar / 2).exp() * eps", "no gradient gets through"),
        ("def draw_code(mu, logvar, eps):\n"
         "    return mu + (logvar / 2).exp().detach() * eps", "by the variance is cut off"),
        ("def draw_code(mu, logvar, eps):\n"
         "    return mu.data + (logvar / 2).exp() * eps", "by the mean is cut off"),
        ("def draw_code(mu, logvar, eps):\n"
         "    return (logvar / 2).exp() * eps", "mean is left out"),
        ("def draw_code(mu, logvar, eps):\n"
         "    return mu + eps / (logvar / 2).exp()", "exponent's sign"),
        ("def draw_code(mu, logvar, eps):\n"
         "    return (mu + (logvar / 2).exp() * eps).sum()", "of the shape (4, 3)"),
    ],
    "2.9": [
        ("def estimator_variances(mu):\n"
         "    return mu**4 + 18 * mu**2 + 15, 4", "The first is a mean square"),
        ("def estimator_variances(mu):\n"
         "    return mu**4 + 18 * mu**2 + 15, 4 * mu**2 + 4", "Both are mean squares"),
        ("def estimator_variances(mu):\n"
         "    return mu**4 + 14 * mu**2 + 6, 4", "sixth moment"),
        ("def estimator_variances(mu):\n"
         "    return mu**4 + 12 * mu**2 - 4 * mu**2 + 15, 4", "first and the third"),
        ("def estimator_variances(mu):\n"
         "    return 4, mu**4 + 14 * mu**2 + 15", "The order"),
        ("def estimator_variances(mu):\n"
         "    return mu**4 + 14 * mu**2 + 15, 2", "pathwise estimator is 2 z"),
        ("def estimator_variances(mu):\n"
         "    return math.sqrt(mu**4 + 14 * mu**2 + 15), 2", "standard deviations"),
        ("def estimator_variances(mu):\n"
         "    return mu**4 + 14 * mu**2 + 15", "2 things"),
    ],
    "2.10": [
        ("def pixel_nll(a, x):\n"
         "    return F.binary_cross_entropy_with_logits(a, x, reduction='none').mean((1, 2, 3))",
         "averaged over the pixels"),
        ("def pixel_nll(a, x):\n"
         "    return (x * a - F.softplus(a)).flatten(1).sum(1)", "the log-likelihood"),
        ("def pixel_nll(a, x):\n"
         "    return F.binary_cross_entropy_with_logits(a, x, reduction='sum')", "whole batch"),
        ("def pixel_nll(a, x):\n"
         "    return F.binary_cross_entropy_with_logits(a, x, reduction='sum') / len(x)", "over the batch already"),
        ("def pixel_nll(a, x):\n"
         "    return (x * F.softplus(-a)).flatten(1).sum(1)", "off, too"),
        ("def pixel_nll(a, x):\n"
         "    return F.binary_cross_entropy(a.sigmoid(), x, reduction='none').flatten(1).sum(1)", "very sure"),
        ("def pixel_nll(a, x):\n"
         "    return (F.softplus(a) - (1 - x) * a).flatten(1).sum(1)", "changed places"),
        ("def pixel_nll(a, x):\n"
         "    p = a.sigmoid()\n"
         "    return -(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1)", "gives NaN"),
    ],
    "2.11": [
        ("def bound_loss_of(a, x, mu, logvar, beta):\n"
         "    nll = F.binary_cross_entropy_with_logits(a, x, reduction='sum') / len(x)\n"
         "    return nll + beta * 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()", "wrong sign"),
        ("def bound_loss_of(a, x, mu, logvar, beta):\n"
         "    nll = F.binary_cross_entropy_with_logits(a, x, reduction='sum') / len(x)\n"
         "    return -nll - beta * 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()", "made large"),
        ("def bound_loss_of(a, x, mu, logvar, beta):\n"
         "    nll = F.binary_cross_entropy_with_logits(a, x)\n"
         "    return nll + beta * 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()", "the code dies"),
        ("def bound_loss_of(a, x, mu, logvar, beta):\n"
         "    nll = F.binary_cross_entropy_with_logits(a, x, reduction='sum') / len(x)\n"
         "    return nll + beta * 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean()", "over the coordinates"),
        ("def bound_loss_of(a, x, mu, logvar, beta):\n"
         "    nll = F.binary_cross_entropy_with_logits(a, x, reduction='sum') / len(x)\n"
         "    return beta * nll + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()", "wrong term"),
        ("def bound_loss_of(a, x, mu, logvar, beta):\n"
         "    nll = F.binary_cross_entropy_with_logits(a, x, reduction='sum') / len(x)\n"
         "    return nll + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()", "not charged"),
        ("def bound_loss_of(a, x, mu, logvar, beta):\n"
         "    nll = F.binary_cross_entropy_with_logits(a, x, reduction='sum') / len(x)\n"
         "    return nll + beta * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()", "lacks its one half"),
        ("def bound_loss_of(a, x, mu, logvar, beta):\n"
         "    nll = F.binary_cross_entropy_with_logits(a, x, reduction='sum')\n"
         "    return nll + beta * 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()", "sum over the batch"),
    ],
    "2.13": [
        ("def linear_posterior(W, x, s):\n"
         "    C = torch.linalg.inv(torch.eye(2) + W.T @ W / s)\n"
         "    return C @ W.T @ x / s, C", "to be squared"),
        ("def linear_posterior(W, x, s):\n"
         "    C = torch.linalg.inv(W.T @ W / s**2)\n"
         "    return C @ W.T @ x / s**2, C", "prior is forgotten"),
        ("def linear_posterior(W, x, s):\n"
         "    P = torch.eye(2) + W.T @ W / s**2\n"
         "    return torch.linalg.solve(P, W.T @ x / s**2), P", "the precision"),
        ("def linear_posterior(W, x, s):\n"
         "    C = torch.linalg.inv(torch.eye(2) + W.T @ W / s**2)\n"
         "    return C @ W.T @ x, C", "divided by it"),
        ("def linear_posterior(W, x, s):\n"
         "    P = W.T @ W / s**2\n"
         "    return torch.linalg.solve(torch.eye(2) + P, W.T @ x / s**2), torch.linalg.inv(P)", "lacks the prior's"),
        ("def linear_posterior(W, x, s):\n"
         "    C = torch.linalg.inv(torch.eye(2) + W.T @ W / s**2)\n"
         "    return C", "2 things"),
    ],
    "2.14": [
        ("def log_weight(z, W, x, s, mean, cov):\n"
         "    a = distributions.Normal(z @ W.T, s).log_prob(x).sum(-1)\n"
         "    return a - distributions.MultivariateNormal(mean, cov).log_prob(z)", "prior is missing"),
        ("def log_weight(z, W, x, s, mean, cov):\n"
         "    a = distributions.Normal(z @ W.T, s).log_prob(x).sum(-1)\n"
         "    a = a + distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)\n"
         "    return a + distributions.MultivariateNormal(mean, cov).log_prob(z)", "divided by"),
        ("def log_weight(z, W, x, s, mean, cov):\n"
         "    a = distributions.Normal(z @ W.T, s).log_prob(x).sum(-1)\n"
         "    return a + distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)", "log q is missing"),
        ("def log_weight(z, W, x, s, mean, cov):\n"
         "    a = -0.5 * ((x - z @ W.T) / s).square().sum(-1)\n"
         "    a = a + distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)\n"
         "    return a - distributions.MultivariateNormal(mean, cov).log_prob(z)", "lacks its constant"),
        ("def log_weight(z, W, x, s, mean, cov):\n"
         "    a = distributions.Normal(z @ W.T, s**0.5).log_prob(x).sum(-1)\n"
         "    a = a + distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)\n"
         "    return a - distributions.MultivariateNormal(mean, cov).log_prob(z)", "variance of a pixel"),
        ("def log_weight(z, W, x, s, mean, cov):\n"
         "    a = distributions.Normal(z @ W.T, s).log_prob(x).sum(-1)\n"
         "    a = a + distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)\n"
         "    return (a - distributions.MultivariateNormal(mean, cov).log_prob(z)).mean()", "single draws"),
        ("def log_weight(z, W, x, s, mean, cov):\n"
         "    a = distributions.Normal(z @ W.T, s).log_prob(x).sum(-1)\n"
         "    a = a + distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)\n"
         "    return a - distributions.Normal(mean, cov.diagonal().sqrt()).log_prob(z).sum(-1)", "only the diagonal"),
    ],
    "2.15": [
        ("def weighted_bound(log_w):\n"
         "    return log_w.mean(0)", "the ELBO"),
        ("def weighted_bound(log_w):\n"
         "    return log_w.logsumexp(0)", "not divided by k"),
        ("def weighted_bound(log_w):\n"
         "    return log_w.logsumexp(1) - math.log(log_w.shape[1])", "wrong axis"),
        ("def weighted_bound(log_w):\n"
         "    return torch.log(torch.exp(log_w).mean(0))", "vanish"),
        ("def weighted_bound(log_w):\n"
         "    return log_w.logsumexp(0) - math.log(log_w.shape[1])", "number of images"),
        ("def weighted_bound(log_w):\n"
         "    return log_w.amax(0)", "best draw"),
    ],
    "2.16": [
        ("def no_code_nll(x):\n"
         "    m = x.mean(0)\n"
         "    return F.binary_cross_entropy(m.expand_as(x), x)", "over the pixels"),
        ("def no_code_nll(x):\n"
         "    m = x.mean(0)\n"
         "    return torch.special.entr(m).sum() / math.log(2) + torch.special.entr(1 - m).sum() / math.log(2)",
         "in bits"),
        ("def no_code_nll(x):\n"
         "    m = x.mean()\n"
         "    return x.shape[1] * -(m * m.log() + (1 - m) * (1 - m).log())", "share one probability"),
        ("def no_code_nll(x):\n"
         "    return x.shape[1] * math.log(2)", "at one half"),
        ("def no_code_nll(x):\n"
         "    return torch.special.entr(x.mean(0)).sum()", "the other half"),
        ("def no_code_nll(x):\n"
         "    return F.binary_cross_entropy(x.mean(0).expand_as(x), x, reduction='sum')", "images are added up"),
        ("def no_code_nll(x):\n"
         "    m = x.mean(0)\n"
         "    return -(m * m.log() + (1 - m) * (1 - m).log()).sum()", "NaN"),
    ],
    "2.17": [
        ("def fit_coordinates(lam, sigma2, beta):\n"
         "    w, a = torch.zeros_like(lam), torch.zeros_like(lam)\n"
         "    for _ in range(50):\n"
         "        of_w = -(1 - w * a) * a * lam / sigma2 + w / sigma2\n"
         "        of_a = -(1 - w * a) * w * lam / sigma2 + beta * a * lam\n"
         "        w, a = w - 0.01 * of_w, a - 0.01 * of_a\n"
         "    return w, a, torch.ones_like(lam)", "start at w = 0"),
        ("def fit_coordinates(lam, sigma2, beta):\n"
         "    w = (lam - sigma2).relu().sqrt()\n"
         "    return w, w / (w**2 + sigma2), sigma2 / (w**2 + sigma2)", "price is not charged"),
        ("def fit_coordinates(lam, sigma2, beta):\n"
         "    t = 2 * beta * sigma2\n"
         "    w = (lam - t).relu().sqrt()\n"
         "    return w, w / (w**2 + t), t / (w**2 + t)", "price is doubled"),
        ("def fit_coordinates(lam, sigma2, beta):\n"
         "    t = beta * sigma2 / 2\n"
         "    w = (lam - t).relu().sqrt()\n"
         "    return w, w / (w**2 + t), t / (w**2 + t)", "price is halved"),
        ("def fit_coordinates(lam, sigma2, beta):\n"
         "    t = beta * sigma2**2\n"
         "    w = (lam - t).relu().sqrt()\n"
         "    return w, w / (w**2 + t), t / (w**2 + t)", "square it once more"),
        ("def fit_coordinates(lam, sigma2, beta):\n"
         "    t = beta * sigma2\n"
         "    w = (lam - t).relu().sqrt()\n"
         "    return w, w / (w**2 + t), (t / (w**2 + t)) ** 0.5", "The third is a standard deviation"),
        ("def fit_coordinates(lam, sigma2, beta):\n"
         "    return lam, lam", "Three things"),
    ],
    "2.18": [
        ("def best_weight(lam, sigma2, beta):\n"
         "    return F.relu(lam - beta * sigma2)", "take the root"),
        ("def best_weight(lam, sigma2, beta):\n"
         "    return (lam - beta * sigma2).abs() ** 0.5", "would be negative"),
        ("def best_weight(lam, sigma2, beta):\n"
         "    return F.relu(lam - sigma2).sqrt()", "does not enter"),
        ("def best_weight(lam, sigma2, beta):\n"
         "    return lam.sqrt()", "Neither price nor noise"),
        ("def best_weight(lam, sigma2, beta):\n"
         "    return F.relu(lam - beta * sigma2**2).sqrt()", "square it once more"),
        ("def best_weight(lam, sigma2, beta):\n"
         "    return F.relu(lam - sigma2 / beta).sqrt()", "The price divides"),
        ("def best_weight(lam, sigma2, beta):\n"
         "    return (lam - beta * sigma2).sqrt()", "NaN"),
    ],
}
OTHER = {
    "2.2": [
        "prediction_2_2 = 543",
        "prediction_2_2 = torch.tensor(784.0) * 0.6931",
    ],
    "2.5": [
        "def aggregate(mu, logvar):\n"
        "    second = (mu**2 + torch.exp(logvar)).mean(0)\n"
        "    return mu.mean(0).numpy(), (second - mu.mean(0) ** 2).numpy()",
    ],
    "2.6": [
        "def code_price(mu, logvar):\n"
        "    s = torch.exp(logvar / 2)\n"
        "    return (0.5 * mu**2 + 0.5 * s**2 - 0.5 - torch.log(s)).sum(-1)",
        "def code_price(mu, logvar):\n"
        "    q = distributions.Normal(mu.double(), (0.5 * logvar.double()).exp())\n"
        "    return distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).sum(1)",
    ],
    "2.7": [
        "def gaussian_divergence(m1, s1, m2, s2):\n"
        "    v1, v2 = s1**2, s2**2\n"
        "    return 0.5 * (torch.log(v2) - torch.log(v1) + v1 / v2 + (m1 - m2) ** 2 / v2 - 1)",
        "def gaussian_divergence(m1, s1, m2, s2):\n"
        "    return distributions.kl_divergence(distributions.Normal(m1, s1), distributions.Normal(m2, s2))",
    ],
    "2.8": [
        "def draw_code(mu, logvar, eps):\n"
        "    return torch.addcmul(mu, logvar.exp().sqrt(), eps)",
        "def draw_code(mu, logvar, eps):\n"
        "    return eps * math.e ** (logvar / 2) + mu",
    ],
    "2.9": [
        "def estimator_variances(mu):\n"
        "    return (mu**2 + 7) ** 2 - 34, torch.tensor(4.0)",
    ],
    "2.10": [
        "def pixel_nll(a, x):\n"
        "    return F.binary_cross_entropy_with_logits(a, x, reduction='none').sum((1, 2, 3))",
        "def pixel_nll(a, x):\n"
        "    return -(F.logsigmoid(a) * x + F.logsigmoid(-a) * (1 - x)).flatten(1).sum(1)",
    ],
    "2.11": [
        "def bound_loss_of(a, x, mu, logvar, beta):\n"
        "    nll = (F.softplus(a) - x * a).flatten(1).sum(1)\n"
        "    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)\n"
        "    return (nll + beta * kl).mean()",
    ],
    "2.13": [
        "def linear_posterior(W, x, s):\n"
        "    A = W.T @ W + s**2 * torch.eye(W.shape[1])\n"
        "    return torch.linalg.solve(A, W.T @ x), s**2 * torch.linalg.inv(A)",
        "def linear_posterior(W, x, s):\n"
        "    K = W.T @ torch.linalg.inv(W @ W.T + s**2 * torch.eye(len(x)))\n"
        "    return K @ x, torch.eye(W.shape[1]) - K @ W",
    ],
    "2.14": [
        "def log_weight(z, W, x, s, mean, cov):\n"
        "    found = []\n"
        "    P = torch.linalg.inv(cov)\n"
        "    for v in z:\n"
        "        a = -0.5 * ((x - W @ v) ** 2).sum() / s**2 - len(x) * math.log(s * math.sqrt(2 * math.pi))\n"
        "        b = -0.5 * (v @ v) - len(v) / 2 * math.log(2 * math.pi)\n"
        "        c = -0.5 * (v - mean) @ P @ (v - mean) - 0.5 * torch.logdet(2 * math.pi * cov)\n"
        "        found.append(a + b - c)\n"
        "    return torch.stack(found)",
    ],
    "2.15": [
        "def weighted_bound(log_w):\n"
        "    top = log_w.amax(0)\n"
        "    return top + torch.log(torch.exp(log_w - top).mean(0))",
        "def weighted_bound(log_w):\n"
        "    return torch.logcumsumexp(log_w, 0)[-1] - math.log(len(log_w))",
    ],
    "2.16": [
        "def no_code_nll(x):\n"
        "    m = x.mean(0)\n"
        "    return (torch.special.entr(m) + torch.special.entr(1 - m)).sum()",
        "def no_code_nll(x):\n"
        "    m = x.mean(0).clamp(1e-7, 1 - 1e-7)\n"
        "    return F.binary_cross_entropy(m.expand_as(x), x, reduction='sum') / len(x)",
    ],
    "2.17": [
        "def fit_coordinates(lam, sigma2, beta):\n"
        "    found = []\n"
        "    for v in lam.tolist():\n"
        "        w = torch.linspace(-4, 4, 8001).double()\n"
        "        t = w**2 + beta * sigma2\n"
        "        a, s2 = w / t, beta * sigma2 / t\n"
        "        J = ((1 - w * a) ** 2 * v + w**2 * s2) / (2 * sigma2) + beta / 2 * (a**2 * v + s2 - s2.log())\n"
        "        k = J.argmin()\n"
        "        found.append((w[k], a[k], s2[k]))\n"
        "    return [torch.stack(part) for part in zip(*found)]",
        "def fit_coordinates(lam, sigma2, beta):\n"
        "    w = torch.full_like(lam, -0.3)\n"
        "    for _ in range(1000):\n"
        "        t = w**2 + beta * sigma2\n"
        "        w = 0.5 * w + 0.5 * w * lam / t\n"
        "    return w, w / (w**2 + beta * sigma2), beta * sigma2 / (w**2 + beta * sigma2)",
    ],
    "2.18": [
        "def best_weight(lam, sigma2, beta):\n"
        "    return torch.tensor([max(0.0, float(v) - beta * sigma2) ** 0.5 for v in lam])",
        "def best_weight(lam, sigma2, beta):\n"
        "    return torch.where(lam > beta * sigma2, lam - beta * sigma2, 0.0).sqrt()",
    ],
}
for number, right, wrong in (
        ("2.1", "c", {"a": "not the logarithm of the mean", "b": "flattens", "d": "dimension", "e": "no bias"}),
        ("2.3", "b", {"a": "full price", "c": "no aim in itself", "d": "both ends are poor", "e": "worth"}),
        ("2.4", "d", {"a": "in blur", "b": "aggregate", "c": "on the code", "e": "no likelihood"}),
        ("2.12", "a", {"b": "not symmetric", "c": "a term of the bound", "d": "not a variance", "e": "posterior"})):
    WRONG[number], OTHER[number] = choices(f"choice_{number.replace('.', '_')}", right, wrong)
