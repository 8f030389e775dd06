"""Planted answers to chapter 1's exercises."""


def choices(name, right, wrong):
    """Wrong answers to a choice, by letter with some words of what each is told, and one right one in another form."""
    planted = [(f'{name} = "{letter}"', words) for letter, words in wrong.items()]
    return (planted + [(f'{name} = "x"', "is asked for"), (f"{name} = 3", "is asked for, not 3")],
            [f'{name} = "({right.upper()})"', f'{name} = " {right} "'])


WRONG = {
    "1.1": [
        ("def parameters(n, h, d):\n"
         "    return 2 * (n * h + h * d)", "biases are missing"),
        ("def parameters(n, h, d):\n"
         "    return n * h + h + h * d + d", "encoder alone"),
        ("def parameters(n, h, d):\n"
         "    return n * h + h + h * d + d + d * h + h + h * n", "each of them has a bias"),
        ("def parameters(n, h, d):\n"
         "    return n + h + d + h + n", "counts units"),
        ("def parameters(n, h, d):\n"
         "    return (n + 1) * h + (h + 1) * d + h + n", "tied weights"),
        ("def parameters(n, h, d):\n"
         "    return 2 * n * h + 2 * h * d + 2 * (n + h) + d", "input has no bias"),
    ],
    "1.2": [
        ("prediction_1_2 = 0.3", "touched too"),
        ("prediction_1_2 = 0.09", "squares the share"),
        ("prediction_1_2 = 0.3 / 4", "Half too little"),
        ("prediction_1_2 = 0.7", "left alone"),
        ("prediction_1_2 = 5", "too high"),
    ],
    "1.3": [
        ("prediction_1_3 = math.log2(4)", "in bits"),
        ("prediction_1_3 = math.log(10)", "all ten digits"),
        ("prediction_1_3 = 0", "second term"),
        ("prediction_1_3 = 4", "exponential"),
        ("prediction_1_3 = math.log(10 / 4)", "lacks"),
    ],
    "1.4": [
        ("def reconstruction_error(x_hat, x):\n"
         "    return F.mse_loss(x_hat, x)", "per pixel"),
        ("def reconstruction_error(x_hat, x):\n"
         "    return F.mse_loss(x_hat, x, reduction='sum')", "divides by N"),
        ("def reconstruction_error(x_hat, x):\n"
         "    return (x - x_hat).flatten(1).norm(dim=1).mean()", "took a root"),
        ("def reconstruction_error(x_hat, x):\n"
         "    return F.l1_loss(x_hat, x, reduction='sum') / len(x)", "absolute"),
        ("def reconstruction_error(x_hat, x):\n"
         "    return (x - x_hat).square().mean((1, 2, 3)).sum()", "changed places"),
        ("def reconstruction_error(x_hat, x):\n"
         "    return (x - x_hat).square().sum((1, 2, 3))", "has the shape (5,)"),
    ],
    "1.6": [
        ("def pca_copy(train, x, d):\n"
         "    m = train.mean(0)\n"
         "    c = train - m\n"
         "    V = torch.linalg.eigh(c.T @ c).eigenvectors[:, :d]\n"
         "    return m + (x - m) @ V @ V.T", "least variance"),
        ("def pca_copy(train, x, d):\n"
         "    V = torch.linalg.svd(train).Vh[:d].T\n"
         "    return x @ V @ V.T", "Nothing is centred"),
        ("def pca_copy(train, x, d):\n"
         "    m = train.mean(0)\n"
         "    V = torch.linalg.svd(train - m).Vh[:d].T\n"
         "    return (x - m) @ V @ V.T", "never put back"),
        ("def pca_copy(train, x, d):\n"
         "    V = torch.linalg.svd(train - train.mean(0)).Vh[:d].T\n"
         "    m = x.mean(0)\n"
         "    return m + (x - m) @ V @ V.T", "their own mean"),
        ("def pca_copy(train, x, d):\n"
         "    m = train.mean(0)\n"
         "    V = torch.linalg.svd(train - m).Vh[:d].T\n"
         "    return m + x @ V @ V.T", "never taken off"),
        ("def pca_copy(train, x, d):\n"
         "    m = train.mean(0)\n"
         "    V = torch.linalg.svd(train - m).Vh[:d].T\n"
         "    return (x - m) @ V", "has the shape"),
    ],
    "1.8": [
        ("def train_linear(x, W, V, rate, steps):\n"
         "    W, V = W.clone().requires_grad_(), V.clone().requires_grad_()\n"
         "    for _ in range(steps):\n"
         "        loss = (x @ W.T @ V.T - x).square().sum(1).mean()\n"
         "        loss.backward()\n"
         "        with torch.no_grad():\n"
         "            W -= rate * W.grad\n"
         "            V -= rate * V.grad\n"
         "    return W, V", "pile up"),
        ("def train_linear(x, W, V, rate, steps):\n"
         "    W, V = nn.Parameter(W.clone()), nn.Parameter(V.clone())\n"
         "    sgd = torch.optim.SGD([W, V], lr=rate)\n"
         "    for _ in range(steps):\n"
         "        sgd.zero_grad()\n"
         "        F.mse_loss(x @ W.T @ V.T, x).backward()\n"
         "        sgd.step()\n"
         "    return W, V", "per pixel"),
        ("def train_linear(x, W, V, rate, steps):\n"
         "    for _ in range(steps):\n"
         "        m = x @ W.T @ V.T - x\n"
         "        V = V - 2 * rate * m.T @ x @ W.T / len(x)\n"
         "        m = x @ W.T @ V.T - x\n"
         "        W = W - 2 * rate * (m @ V).T @ x / len(x)\n"
         "    return W, V", "The second matrix moves"),
        ("def train_linear(x, W, V, rate, steps):\n"
         "    for _ in range(steps):\n"
         "        z = x @ W.T\n"
         "        W = W - 2 * rate * ((z @ V.T - x) @ V).T @ x / len(x)\n"
         "        z = x @ W.T\n"
         "        V = V - 2 * rate * (z @ V.T - x).T @ z / len(x)\n"
         "    return W, V", "after W has moved"),
        ("def train_linear(x, W, V, rate, steps):\n"
         "    for _ in range(steps):\n"
         "        z = x @ W.T\n"
         "        m = z @ V.T - x\n"
         "        W, V = W - rate * (m @ V).T @ x / len(x), V - rate * m.T @ z / len(x)\n"
         "    return W, V", "half as long"),
        ("def train_linear(x, W, V, rate, steps):\n"
         "    for _ in range(steps):\n"
         "        z = x @ W.T\n"
         "        m = x - z @ V.T\n"
         "        W, V = W - 2 * rate * (m @ V).T @ x / len(x), V - 2 * rate * m.T @ z / len(x)\n"
         "    return W, V", "It climbs"),
        ("def train_linear(x, W, V, rate, steps):\n"
         "    for _ in range(steps):\n"
         "        z = x @ W.T\n"
         "        m = z @ V.T - x\n"
         "        return W - 2 * rate * (m @ V).T @ x / len(x), V - 2 * rate * m.T @ z / len(x)", "Only one step"),
        ("def train_linear(x, W, V, rate, steps):\n"
         "    return V", "2 things are asked for"),
    ],
    "1.9": [
        ("def linear_denoiser(lam, s):\n"
         "    a = lam / (lam + s)\n"
         "    return a, (a * s).sum()", "variance is its square"),
        ("def linear_denoiser(lam, s):\n"
         "    a = s**2 / (lam + s**2)\n"
         "    return a, (lam * s**2 / (lam + s**2)).sum()", "turned round"),
        ("def linear_denoiser(lam, s):\n"
         "    a = lam / (lam + s**2)\n"
         "    return a, ((1 - a) ** 2 * lam).sum()", "let through"),
        ("def linear_denoiser(lam, s):\n"
         "    a = lam / (lam + s**2)\n"
         "    return a, (a**2 * s**2).sum()", "only the noise"),
        ("def linear_denoiser(lam, s):\n"
         "    a = lam / (lam + s**2)\n"
         "    return a, (a * s**2).mean()", "averaged"),
        ("def linear_denoiser(lam, s):\n"
         "    a = lam**0.5 / (lam**0.5 + s)\n"
         "    return a, ((1 - a)**2 * lam + a**2 * s**2).sum()", "add up in variance"),
        ("def linear_denoiser(lam, s):\n"
         "    a = lam / (lam + s**2)\n"
         "    return a, a.sum()", "Right is: gains"),
    ],
    "1.11": [
        ("def keep_largest(h, k):\n"
         "    i = h.abs().topk(k, 1).indices\n"
         "    return torch.zeros_like(h).scatter(1, i, h.gather(1, i))", "absolute value"),
        ("def keep_largest(h, k):\n"
         "    least = h.flatten().topk(k * len(h)).values[-1]\n"
         "    return torch.where(h >= least, h, 0)", "whole batch"),
        ("def keep_largest(h, k):\n"
         "    t = h.topk(k, dim=0)\n"
         "    return torch.zeros_like(h).scatter(0, t.indices, t.values)", "wrong axis"),
        ("def keep_largest(h, k):\n"
         "    return torch.zeros_like(h).scatter(1, h.topk(k, 1).indices, 1.0)", "zeros and ones"),
        ("def keep_largest(h, k):\n"
         "    t = h.topk(k, 1)\n"
         "    return torch.zeros_like(h).scatter(1, t.indices, t.values.relu())", "no rectifier"),
        ("def keep_largest(h, k):\n"
         "    return h.scatter(1, h.topk(k, 1).indices, 0.0)", "keep the others"),
        ("def keep_largest(h, k):\n"
         "    h[h < h.topk(k, 1).values[:, -1:]] = 0\n"
         "    return h", "in place"),
    ],
    "1.12": [
        ("def encoder_gradient(x, W, b, V):\n"
         "    m = (x @ W.T + b).relu() @ V.T - x\n"
         "    return 2 * (m @ V).T @ x / len(x)", "missing on the way back"),
        ("def encoder_gradient(x, W, b, V):\n"
         "    z = (x @ W.T + b).relu()\n"
         "    return 2 * ((z @ V.T - x) @ V * z).T @ x / len(x)", "however loudly"),
        ("def encoder_gradient(x, W, b, V):\n"
         "    z = (x @ W.T + b).relu()\n"
         "    return ((z @ V.T - x) @ V * (z > 0)).T @ x / len(x)", "factor 2"),
        ("def encoder_gradient(x, W, b, V):\n"
         "    z = (x @ W.T + b).relu()\n"
         "    return 2 * ((z @ V.T - x) @ V * (z > 0)).T @ x", "sum over the images"),
        ("def encoder_gradient(x, W, b, V):\n"
         "    W = W.clone().requires_grad_()\n"
         "    F.mse_loss((x @ W.T + b).relu() @ V.T, x).backward()\n"
         "    return W.grad", "over the pixels too"),
        ("def encoder_gradient(x, W, b, V):\n"
         "    z = (x @ W.T + b).relu()\n"
         "    return 2 * ((x - z @ V.T) @ V * (z > 0)).T @ x / len(x)", "sign is turned"),
        ("def encoder_gradient(x, W, b, V):\n"
         "    z = (x @ W.T + b).relu()\n"
         "    return 2 * ((z @ V.T - x) @ V * (x @ W.T > 0)).T @ x / len(x)", "forgets the bias"),
        ("def encoder_gradient(x, W, b, V):\n"
         "    z = (x @ W.T + b).relu()\n"
         "    return 2 * x.T @ ((z @ V.T - x) @ V * (z > 0)) / len(x)", "has the shape (6, 4)"),
    ],
    "1.13": [
        ("def louder(W, b, V, a):\n"
         "    return a * W, b, V / a", "bias stays"),
        ("def louder(W, b, V, a):\n"
         "    return a * W, a * b, a * V", "multiplies again"),
        ("def louder(W, b, V, a):\n"
         "    return a * W, a * b, V", "has not been told"),
        ("def louder(W, b, V, a):\n"
         "    return W / a, b / a, V * a", "wrong side"),
        ("def louder(W, b, V, a):\n"
         "    return a * W, a * b, V / a / a", "twice over"),
        ("def louder(W, b, V, a):\n"
         "    return a * W, V / a", "Three things"),
    ],
    "1.14": [
        ("def quantile_loss(x_hat, x, q):\n"
         "    u = x_hat - x\n"
         "    return torch.maximum(q * u, (q - 1) * u).mean()", "changed places"),
        ("def quantile_loss(x_hat, x, q):\n"
         "    return q * F.l1_loss(x_hat, x)", "the median"),
        ("def quantile_loss(x_hat, x, q):\n"
         "    u = x - x_hat\n"
         "    return torch.min(q * u, (q - 1) * u).mean()", "smaller of the two"),
        ("def quantile_loss(x_hat, x, q):\n"
         "    u = x - x_hat\n"
         "    return torch.maximum(q * u, (q - 1) * u).sum()", "adds up"),
        ("def quantile_loss(x_hat, x, q):\n"
         "    u = x - x_hat\n"
         "    return torch.where(u > 0, q * u**2, (1 - q) * u**2).mean()", "expectile"),
        ("def quantile_loss(x_hat, x, q):\n"
         "    return (q * F.relu(x - x_hat)).mean()", "costs nothing"),
    ],
    "1.15": [
        ("prediction_1_15 = 3 / 9", "share of images with"),
        ("prediction_1_15 = 0.5", "At one half"),
        ("prediction_1_15 = 0.9", "far from the least"),
        ("prediction_1_15 = 1", "any image has"),
    ],
    "1.16": [
        ("def draw_codes(codes, eps):\n"
         "    return codes.mean(0) + eps @ torch.cov(codes.T)", "covariance itself"),
        ("def draw_codes(codes, eps):\n"
         "    return codes.mean(0) + codes.std(0) * eps", "on its own"),
        ("def draw_codes(codes, eps):\n"
         "    return eps @ torch.linalg.cholesky(torch.cov(codes.T)).T", "around the origin"),
        ("def draw_codes(codes, eps):\n"
         "    return codes.mean(0) + eps @ torch.linalg.cholesky(torch.cov(codes.T))", "wrong way round"),
        ("def draw_codes(codes, eps):\n"
         "    return codes.mean(0) + eps * codes.var(0)", "by the variances"),
        ("def draw_codes(codes, eps):\n"
         "    C = codes.T @ codes / len(codes)\n"
         "    return codes.mean(0) + eps @ torch.linalg.cholesky(C).T", "centre first"),
        ("def draw_codes(codes, eps):\n"
         "    return codes.mean(0)", "one draw for each row"),
    ],
}
OTHER = {
    "1.1": [
        "def parameters(n, h, d):\n"
        "    layers = nn.Linear(n, h), nn.Linear(h, d), nn.Linear(d, h), nn.Linear(h, n)\n"
        "    return sum(p.numel() for layer in layers for p in layer.parameters())",
        "def parameters(n, h, d):\n"
        "    return (n + 1) * h + (h + 1) * d + (d + 1) * h + (h + 1) * n",
    ],
    "1.2": [
        "prediction_1_2 = torch.tensor(0.145)",
        "prediction_1_2 = 0.3 * 0.5",
    ],
    "1.3": [
        "prediction_1_3 = 1.39",
        "prediction_1_3 = 2 * torch.log(torch.tensor(2.0))",
    ],
    "1.4": [
        "def reconstruction_error(x_hat, x):\n"
        "    return F.mse_loss(x_hat, x) * x[0].numel()",
        "def reconstruction_error(x_hat, x):\n"
        "    x_hat, x = x_hat.double().numpy(), x.double().numpy()\n"
        "    return ((x - x_hat) ** 2).sum() / len(x)",
    ],
    "1.6": [
        "def pca_copy(train, x, d):\n"
        "    m = train.mean(0, keepdim=True)\n"
        "    V = torch.pca_lowrank(train, q=7)[2][:, :d]\n"
        "    return m + (x - m) @ V @ V.T",
    ],
    "1.8": [
        "def train_linear(x, W, V, rate, steps):\n"
        "    W, V = nn.Parameter(W.clone()), nn.Parameter(V.clone())\n"
        "    sgd = torch.optim.SGD([W, V], lr=rate)\n"
        "    for _ in range(steps):\n"
        "        sgd.zero_grad()\n"
        "        (x - x @ W.T @ V.T).square().sum(1).mean().backward()\n"
        "        sgd.step()\n"
        "    return [W, V]",
    ],
    "1.9": [
        "def linear_denoiser(lam, s):\n"
        "    a = 1 / (1 + s**2 / lam)\n"
        "    return a, ((1 - a) ** 2 * lam + a**2 * s**2).sum()",
        "def linear_denoiser(lam, s):\n"
        "    return [float(v / (v + s * s)) for v in lam], sum(float(v) * s * s / (float(v) + s * s) for v in lam)",
    ],
    "1.11": [
        "def keep_largest(h, k):\n"
        "    return torch.where(h >= h.sort(1, descending=True).values[:, k - 1 : k], h, 0.0)",
        "def keep_largest(h, k):\n"
        "    rank = h.argsort(1, descending=True).argsort(1)\n"
        "    return h * (rank < k)",
    ],
    "1.12": [
        "def encoder_gradient(x, W, b, V):\n"
        "    W = W.clone().requires_grad_()\n"
        "    (((x @ W.T + b).relu() @ V.T - x) ** 2).sum(1).mean().backward()\n"
        "    return W.grad",
        "def encoder_gradient(x, W, b, V):\n"
        "    g = torch.zeros_like(W)\n"
        "    for v in x:\n"
        "        u = W @ v + b\n"
        "        g += torch.outer((V.T @ (V @ u.clamp(min=0) - v)) * (u > 0).float(), v)\n"
        "    return g * 2 / len(x)",
    ],
    "1.13": [
        "def louder(W, b, V, a):\n"
        "    return W * a, b * a, V * (1 / a)",
        "def louder(W, b, V, a):\n"
        "    W, b, V = W.numpy(), b.numpy(), V.numpy()\n"
        "    return [W * a, b * a, V / a]",
    ],
    "1.14": [
        "def quantile_loss(x_hat, x, q):\n"
        "    u = x - x_hat\n"
        "    return (u * (q - (u < 0).float())).mean()",
        "def quantile_loss(x_hat, x, q):\n"
        "    u = (x - x_hat).double()\n"
        "    return (u.abs() / 2 + (q - 0.5) * u).mean()",
    ],
    "1.15": [
        "prediction_1_15 = 0.667",
        "prediction_1_15 = 1 - 3 / 9",
    ],
    "1.16": [
        "def draw_codes(codes, eps):\n"
        "    U, s, Vh = torch.linalg.svd(codes - codes.mean(0), full_matrices=False)\n"
        "    return codes.mean(0) + eps @ (s[:, None] * Vh) / (len(codes) - 1) ** 0.5",
        "def draw_codes(codes, eps):\n"
        "    L = torch.linalg.cholesky(torch.cov(codes.T))\n"
        "    return torch.stack([codes.mean(0) + L @ e for e in eps])",
    ],
}
for number, right, wrong in (
        ("1.5", "b", {"a": "identity solves", "c": "needs labels", "d": "images of other patients", "e": "no code"}),
        ("1.7", "c", {"a": "any other basis", "b": "Eckart and Young", "d": "wrong bottoms", "e": "Orthogonal"}),
        ("1.10", "d", {"a": "by heart", "b": "hold out patients", "c": "from inside", "e": "the opposite"}),
        ("1.17", "c", {"a": "turned round", "b": "belongs to the GAN", "d": "no bottleneck"})):
    WRONG[number], OTHER[number] = choices(f"choice_{number.replace('.', '_')}", right, wrong)
