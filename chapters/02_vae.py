# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: -jupyter
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. The variational autoencoder
#
# **The question.** The autoencoder of [chapter 1](01_autoencoder.ipynb) squeezes a digit into a few numbers and
# unfolds it again, and only a distribution that was fitted to its codes afterwards made it draw. Can we name the
# distribution *first*, train a decoder that turns its draws into digits, and say how probable the model finds a digit
# that it has never seen?
#
# You will be able to
# - say why the likelihood of a latent-variable model cannot be computed by sampling, and put a number on the failure;
# - derive the evidence lower bound (ELBO), its gap, and the closed-form Kullback–Leibler term, and test each of them;
# - move a gradient through a random draw, and measure what that saves;
# - train the textbook's model, beat its figure with the same architecture, and beat that with another one;
# - recognise a latent code that has died, and know two remedies.
#
# Running time: about two minutes of one core of an Intel Xeon, most of it training; measured by `make notebooks`.

# %%
import genmed_core  # first: it sets how threads wait
import inspect
import math

import torch
from torch import distributions, nn
from torch.nn import functional as F

from genmed_core import data, exercises, kernels, metrics, nets, plots, runtime, train, widgets

SEED = runtime.chapter_seed(0)
device = runtime.device()
print(runtime.machine())

# %% [markdown]
# ## The data
#
# Digits of $28 \times 28$ pixels, made black and white as in the textbook: a pixel is 1 when its grey level exceeds
# 128 of 255. A model of zeros and ones can state a true probability for every image, so that two models can be
# compared in one unit, nats per image. (A nat is the unit of a natural logarithm, $1/\ln 2 \approx 1.44$ bits.)

# %%
train_set, val_set, test_set = (data.digits(split) for split in ("train", "val", "test"))
expect = metrics.Expectations("02_vae", source=train_set.source)
sheet = exercises.sheet("02_vae")


def binarise(x):
    """Grey levels in [0, 1] -> 0 or 1; 128/255 itself is off."""
    return (x > 128.5 / 255).float()


train_x = binarise(train_set.images / 255)            # (N, 1, 28, 28)
test_x = binarise(test_set.images.to(device) / 255)
pixel_mean = train_x.mean(0).to(device)               # (1, 28, 28): how often each pixel is on

# %% mystnb={"image": {"alt": "Ten digits in grey levels, and below them the same ten in black and white"}}
plots.show_rows({"grey": test_set.images[:10], "binary": test_x[:10]})

# %% [markdown]
# **Figure 2.1.** The first ten test digits, in grey and cut at 128 of 255.
#
# As figure 2.1 shows, little is lost to the eye.
#
# ## The idea: codes that are drawn, not stored
#
# Suppose an image comes about in two steps. First a **code** $z \in \mathbb{R}^d$ is drawn from a fixed and simple
# distribution, the **prior** $p(z) = \mathcal{N}(0, I)$. Then a network with weights $\theta$, the **decoder**, turns
# $z$ into the parameters of a distribution $p_\theta(x \mid z)$ over images, and the image is drawn from it.
# Generating is easy: draw $z$, decode, draw the pixels. Learning is the trouble. We would like to raise the probability
# of every training image under the model,
#
# $$ p_\theta(x) = \int p_\theta(x \mid z)\, p(z)\, dz, \tag{2.1} $$
#
# and no one can do this integral when a network sits inside it. An integral against a distribution is an average,
# though, and averages can be sampled. With $S$ draws from the prior,
#
# $$ \hat p_S(x) = \frac1S \sum_{s=1}^{S} p_\theta(x \mid z_s), \qquad z_s \sim p(z), \tag{2.2} $$
#
# has exactly the right mean. Let us watch it fail. We need a model in which the integral *can* be done, to know the
# truth: a linear decoder with Gaussian noise (Tipping & Bishop 1999),
# $x = Wz + \sigma n$ with $n \sim \mathcal{N}(0, I)$, for which $p(x) = \mathcal{N}(0, WW^\top + \sigma^2 I)$.

# %%
def toy(d, sigma=0.1):
    """The model x = W z + sigma n with z of d numbers and 2d pixels, and one x from it -> W (2d, d), x (2d,), sigma."""
    g = torch.Generator().manual_seed(SEED)
    W = torch.randn(2 * d, d, generator=g) / math.sqrt(2 * d)
    x = W @ torch.randn(d, generator=g) + sigma * torch.randn(2 * d, generator=g)
    return W, x, sigma


def log_likelihood(z, W, x, sigma):
    """log p(x | z) = log N(x; W z, sigma^2 I) for codes z (..., d) -> (...)."""
    return -0.5 * (((x - z @ W.T) / sigma) ** 2 + math.log(2 * math.pi * sigma**2)).sum(-1)


def toy_truth(W, x, sigma):
    """log p(x), and the posterior p(z | x) as a Gaussian."""
    marginal = distributions.MultivariateNormal(torch.zeros(len(x)), W @ W.T + sigma**2 * torch.eye(len(x)))
    precision = torch.eye(W.shape[1]) + W.T @ W / sigma**2
    mean = torch.linalg.solve(precision, W.T @ x / sigma**2)
    return marginal.log_prob(x), distributions.MultivariateNormal(mean, precision_matrix=precision)


# %% [markdown]
# **Exercise 2.1 (predict ★★). The right mean, and its logarithm.** Repeat (2.2) very often with the same $S$. The mean
# of all these estimates is $p(x)$, exactly. And the mean of their *logarithms*, which is what the next figure shows?
#
# - (a) It is $\log p(x)$, exactly, for every $S$.
# - (b) It is above $\log p(x)$: a lucky draw counts for very much.
# - (c) It is below $\log p(x)$ for every $S$, and approaches it as $S$ grows.
# - (d) It is above in few dimensions, and below in many.
# - (e) It is below, for small $S$ only, since (2.2) is biased there.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Take two estimates that are equally likely, one of half the truth and one of one and a half times it.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Compare $\frac12\log\frac12 + \frac12\log\frac32$ with $\log 1$.
#
# </details>

# %% tags=["answer"]
choice_2_1 = None  # "a", "b", "c", "d" or "e"

# %% tags=["check"]
sheet.check("2.1", choice_2_1)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.1</summary>
#
# The logarithm is concave: what lies below the mean pulls it down by more than what lies as far above lifts it. In the
# hint's example the mean of the logarithms is $\frac12\log\frac34 < 0$. As $S$ grows the estimates vary less, and the
# gap closes.
#
# ```python
# choice_2_1 = "c"
# ```
#
# </details>

# %% mystnb={"image": {"alt": "Naive Monte Carlo: soon right for d = 2, many nats too low for 8 and 16"}}
torch.manual_seed(SEED)
counts = [10**k for k in range(1, 6)]
errors = {}
for d in (2, 4, 8, 16):
    W, x, sigma = toy(d)
    truth, posterior = toy_truth(W, x, sigma)
    log_p = torch.stack([log_likelihood(torch.randn(counts[-1], d), W, x, sigma) for _ in range(5)])  # (5, S)
    running = torch.logcumsumexp(log_p, 1)[:, [S - 1 for S in counts]] - torch.tensor(counts).log()   # (2.2), in logs
    errors[f"d = {d}"] = (counts, (running.mean(0) - truth).tolist())
    prior = distributions.MultivariateNormal(torch.zeros(d), torch.eye(d))
    nats = distributions.kl_divergence(posterior, prior).item()
    print(f"d = {d:2}: KL(posterior || prior) = {nats:4.1f} nats, so about {math.exp(nats):.0e} samples")
plots.show_curves(errors, x_label="samples S from the prior", y_label="estimate − log p(x), nats", log_x=True)

# %% [markdown]
# **Figure 2.2.** Estimate (2.2) minus the exact $\log p(x)$ in the linear model, mean of five runs.
#
# Figure 2.2 shows it fail from $d = 8$ on. Nearly all of the integral comes from the small region of codes that could
# have produced this $x$. The prior hits it about once in $e^{\mathrm{KL}}$ draws, where KL is the Kullback–Leibler
# divergence from the **posterior** $p_\theta(z \mid x)$ to the prior; as a rule of thumb that many samples are needed
# (Chatterjee & Diaconis 2018). That number grows exponentially with the dimension of the code. Until the first hit the
# estimate is far too low, and nothing warns us.
#
# ## A bound from Jensen
#
# So do not search blindly: let a second network, the **encoder** with weights $\phi$, look at $x$ and propose
# codes from a distribution $q_\phi(z \mid x)$. Multiply and divide by it. The logarithm is concave, so the logarithm
# of an average is at least the average of the logarithms (Jensen's inequality):
#
# $$ \log p_\theta(x)
#    = \log \mathbb{E}_{q_\phi(z \mid x)}\!\left[\frac{p_\theta(x \mid z)\,p(z)}{q_\phi(z \mid x)}\right]
#    \;\ge\; \mathbb{E}_{q_\phi(z \mid x)}\!\left[\log\frac{p_\theta(x \mid z)\,p(z)}{q_\phi(z \mid x)}\right]
#    =: \mathcal{L}(x). \tag{2.3} $$
#
# This is the **evidence lower bound**, the ELBO. Sort its terms, and both have a meaning:
#
# $$ \mathcal{L}(x)
#    = \underbrace{\mathbb{E}_{q_\phi(z \mid x)}[\log p_\theta(x \mid z)]}_{\text{does the code explain } x\text{?}}
#    \;-\; \underbrace{\mathrm{KL}\big(q_\phi(z \mid x) \,\|\, p(z)\big)}_{\text{what does the code cost?}} \tag{2.4} $$
#
# The first is a reconstruction term. The second is the price, in nats, of a code that says more than the prior
# does; it also pulls the codes to where the prior will look for them when we generate. How much did Jensen give away?
# Write $p_\theta(x \mid z)\,p(z) = p_\theta(z \mid x)\,p_\theta(x)$ in (2.3), and the answer is exact:
#
# $$ \log p_\theta(x) - \mathcal{L}(x)
#    = \mathrm{KL}\big(q_\phi(z \mid x) \,\|\, p_\theta(z \mid x)\big) \;\ge\; 0. \tag{2.5} $$
#
# Where the ELBO rises, the likelihood has risen, or the encoder has come nearer to the true posterior, or both. Which
# of them, the ELBO does not say: a step may raise it and lower the likelihood, where the gap closes by more. In the
# linear model we can hold (2.5) to account, with an encoder that is deliberately a little off:

# %%
W, x, sigma = toy(8)
truth, posterior = toy_truth(W, x, sigma)
q = distributions.MultivariateNormal(posterior.mean + 0.05, torch.diag(torch.full((8,), 0.15**2)))
prior = distributions.MultivariateNormal(torch.zeros(8), torch.eye(8))

z = q.sample((200_000,))
elbo = log_likelihood(z, W, x, sigma).mean() - distributions.kl_divergence(q, prior)  # (2.4)
gap = distributions.kl_divergence(q, posterior)                                       # (2.5)
print(f"log p(x) {truth:.2f}   ELBO {elbo:.2f}   log p(x) − ELBO {truth - elbo:.2f}   KL(q || posterior) {gap:.2f}")
assert abs(truth - elbo - gap) < 0.2

# %% [markdown]
# Now with your own hands, where nothing is hidden: a code of one number, data of two, the decoder a circle. The slider
# panel draws the posterior and a Gaussian $q$, which you drag, with every term of (2.4) and (2.5), exact. Press *Best
# q*. Then drag $x$ to the lowest point of the circle, which two codes explain equally well, and press it again: which
# of them does the best $q$ take, and what is the gap then? It is about $\log 2$: half of the posterior is given away.
# No slider of $q$ ever moves $\log p(x)$.

# %%
line_of_codes = widgets.Posterior(caption="A model with nothing hidden: z ~ N(0, 1), x = 2 (sin z, cos z) + noise")
for m, s in ((2.8, 0.25), (-2.8, 0.25), (1.5, 0.7)):  # the last is where you begin
    terms = line_of_codes.show(m=m, s=s)
    assert abs(terms.elbo + terms.gap - terms.log_p) < 1e-4  # (2.5)
    print(f"q = N({m}, {s}²): log p(x) {terms.log_p:.2f}   ELBO {terms.elbo:.2f}   gap {terms.gap:.2f}")

# %%
line_of_codes

# %% [markdown]
# ## The price of a code, in closed form
#
# The encoder gives a mean $\mu_j$ and a log-variance $\log\sigma_j^2$ for each of $d$ coordinates, and
# $q_\phi(z \mid x) = \mathcal{N}(\mu, \operatorname{diag}\sigma^2)$. Inside
# $\mathrm{KL} = \mathbb{E}_q[\log q - \log p]$ both logarithms are quadratic in $z$, and under $q$ we have
# $\mathbb{E}[(z_j - \mu_j)^2] = \sigma_j^2$ and $\mathbb{E}[z_j^2] = \mu_j^2 + \sigma_j^2$. What remains is
#
# $$ \mathrm{KL}\big(\mathcal{N}(\mu, \operatorname{diag}\sigma^2)\,\|\,\mathcal{N}(0, I)\big)
#    = \frac12 \sum_{j=1}^{d} \left(\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2\right), \tag{2.6} $$
#
# one non-negative price per coordinate, zero only at $\mu_j = 0, \sigma_j = 1$. Never trust a formula that a minute
# of sampling can test:

# %%
torch.manual_seed(SEED)
mu, logvar = torch.tensor([1.5, -0.3, 0.0]), torch.tensor([-2.0, 0.5, 0.0])
z = mu + torch.randn(400_000, 3) * (0.5 * logvar).exp()
log_ratio = metrics.log_normal(z, mu, logvar) - metrics.log_normal(z, torch.zeros(3), torch.zeros(3))
closed_form = 0.5 * (mu**2 + logvar.exp() - 1 - logvar)
print("per coordinate:", [round(v, 3) for v in closed_form.tolist()])
print(f"closed form {closed_form.sum():.3f}   Monte Carlo {log_ratio.mean():.3f} ± {log_ratio.std() / len(z)**0.5:.3f}")
assert abs(closed_form.sum() - log_ratio.mean()) < 0.02

# %% [markdown]
# ## A gradient through a random draw
#
# The first term of (2.4) is an average over draws from $q_\phi$, and $\phi$ decides what is drawn. How do we
# differentiate a dice roll by the shape of the dice? There are two ways. Write $f(z) = \log p_\theta(x \mid z)$. The
# **score-function** estimator (Williams 1992) uses $\nabla q = q \nabla \log q$ and needs only the values of $f$:
#
# $$ \nabla_\phi\, \mathbb{E}_{q_\phi}[f(z)]
#    = \mathbb{E}_{q_\phi}\!\left[f(z)\, \nabla_\phi \log q_\phi(z \mid x)\right]. \tag{2.7} $$
#
# The **pathwise** estimator rolls the dice first and shapes them afterwards, $z = \mu + \sigma \odot \varepsilon$
# with $\varepsilon \sim \mathcal{N}(0, I)$. Now the randomness no longer depends on $\phi$, and the gradient passes
# through $z$ like through any other layer:
#
# $$ \nabla_\phi\, \mathbb{E}_{q_\phi}[f(z)] = \mathbb{E}_{\varepsilon}\!\left[\nabla_z f(z)\,
#    \frac{\partial z}{\partial \phi}\right], \qquad z = \mu_\phi(x) + \sigma_\phi(x) \odot \varepsilon. \tag{2.8} $$
#
# This **reparameterisation trick** is what made variational autoencoders trainable (Kingma & Welling 2014; Rezende et
# al. 2014). Both are right on average. The question is how many draws the average takes. In the linear model the true
# gradient with respect to $\mu$ is known, $W^\top (x - W\mu)/\sigma^2$:

# %%
def gradient_estimates(d, samples=20_000, s=0.1):
    """Estimates of the gradient by mu of E[log p(x|z)], one row a draw: {name: (samples, d)}, and the truth (d,)."""
    W, x, sigma = toy(d)
    mu = toy_truth(W, x, sigma)[1].mean + 0.1
    eps = torch.randn(samples, d)
    z = (mu + s * eps).requires_grad_()
    f = log_likelihood(z, W, x, sigma)                    # (samples,)
    pathwise, = torch.autograd.grad(f.sum(), z)           # (2.8): dz/dmu = 1
    f = f.detach()[:, None]
    score = f * eps / s                                   # (2.7): the gradient of log q by mu is eps / s
    helped = (f - f.mean()) * eps / s                     # a baseline changes the noise, not the mean
    truth = (x - mu @ W.T) @ W / sigma**2
    return {"score function": score, "score, with baseline": helped, "pathwise": pathwise}, truth


# %% mystnb={"image": {"alt": "Variance of gradient estimators: the score function lies far above the pathwise one"}}
torch.manual_seed(SEED)
dims, variance = (1, 2, 4, 8, 16, 32), {}
for d in dims:
    estimates, truth = gradient_estimates(d)
    for name, g in estimates.items():
        variance.setdefault(name, []).append(g.var(0).mean().item())
        if d == 8:
            print(f"{name:21} one draw {g[0, 0]:9.1f}   mean of 20,000 {g[:, 0].mean():8.2f}   exact {truth[0]:8.2f}")
fig = plots.show_curves({k: (dims, v) for k, v in variance.items()}, x_label="dimension d of the code", log_x=True,
                        log_y=True, y_label="variance per coordinate")
fig.axes[0].set_xticks(dims, labels=dims)
fig.axes[0].minorticks_off()
fig

# %% [markdown]
# **Figure 2.3.** Variance of one draw of each estimator of the same gradient; both axes are logarithmic.
#
# The score function knows only *how good* each draw was; the pathwise estimator also knows *in which direction it would
# have been better*. At $d = 8$ its variance is a small fraction of the other's (figure 2.3), so that as small a
# fraction of the draws will do, and the ratio grows with $d$. Subtracting the mean of $f$ first, a **baseline**, leaves
# the average alone, since $\mathbb{E}[\nabla_\phi \log q_\phi] = 0$. It takes most of the excess away at large $d$, and
# helps nothing where $d$ is 1 or 2. That is why one draw per image is enough below, and why discrete codes, which have
# no path to follow, are hard.
#
# ## The model
#
# The textbook's network, in full: 784 pixels, one tanh layer of 128, a code of $d = 8$, and the mirror image back. The
# decoder's outputs are **logits** $a_i(z)$; pixel $i$ is on with probability $\pi_i = 1/(1 + e^{-a_i})$, independently
# of the others *given the code*:
#
# $$ -\log p_\theta(x \mid z) = -\sum_{i=1}^{784} \big[x_i \log \pi_i + (1 - x_i) \log(1 - \pi_i)\big]
#    = \sum_{i=1}^{784} \big[\log(1 + e^{a_i}) - x_i a_i\big]. \tag{2.9} $$
#
# This is the binary cross-entropy, summed over pixels. The sum is no matter of taste: with a mean over pixels the KL
# would weigh 784 times too much.

# %%
LATENT, HIDDEN = 8, 128  # numbers in a code, units in a hidden layer: yours to change, before you run what follows


class VAE(nn.Module):
    """The textbook's model. encode: x (B, 1, 28, 28) -> mu, logvar (B, d); decode: z (B, d) -> logits like x."""

    def __init__(self, hidden=HIDDEN, latent=LATENT):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(784, hidden), nn.Tanh(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.Tanh(), nn.Linear(hidden, 784), nn.Unflatten(1, (1, 28, 28)))

    def encode(self, x):
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        return mu, logvar

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)  # (2.8)
        return self.decode(z), mu, logvar


# %% tags=["nbval-check-output"]
print(f"{metrics.parameter_count(VAE()):,} parameters")

# %% [markdown]
# ## The loss
#
# Minus the ELBO, averaged over the batch: (2.9) at one draw of the code, plus $\beta$ times (2.6). For now $\beta =
# 1$. Where the processor multiplies matrices faster in bfloat16, a number of 16 bits, the networks run in it
# (`autocast`); the sums over 784 pixels and all weights stay in 32 bits.

# %%
def bound_loss(model, beta=1.0, bf16=True):
    """-> loss_fn(batch) for a training step: minus the ELBO, in nats per image when beta is 1."""

    def loss_fn(batch):
        with runtime.autocast(device, bf16):
            logits, mu, logvar = model(batch.x)
        mu, logvar = mu.float(), logvar.float()
        recon = kernels.bernoulli_nll(logits, batch.x).mean()                   # (2.9)
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()            # (2.6)
        return recon + beta * kl, {"reconstruction": recon.detach(), "KL": kl.detach()}

    return loss_fn


def evaluate(model):
    """Test means over every image, in nats: the reconstruction term (float), and the KL per coordinate (d,)."""

    def terms(x):
        logits, mu, logvar = model(x)
        return torch.cat([metrics.bernoulli_nll(logits, x)[:, None], metrics.gaussian_kl(mu, logvar)], 1)

    torch.manual_seed(SEED)
    means = metrics.mean_over(test_x, terms, device=device)
    return means[0].item(), means[1:]


# %% [markdown]
# `kernels.bernoulli_nll` is (2.9) with its gradient $\pi - x$ written out, which is faster than leaving it to
# autograd. The two formulas agree with PyTorch's own:

# %% [markdown]
# **Exercise 2.2 (predict ★). A decoder that knows nothing.** Suppose that all logits are 0, so every pixel is on with
# probability one half. How large is (2.9) then for an image of 784 pixels, in nats? The next cell compares an untrained
# network with it.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Does it matter whether a pixel is on or off?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# One pixel costs $-\log\frac12$.
#
# </details>

# %% tags=["answer"]
prediction_2_2 = None  # a number, in nats

# %% tags=["check"]
sheet.check("2.2", prediction_2_2)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.2</summary>
#
# On or off, a pixel costs $\log(1 + e^0) = \log 2$.
#
# ```python
# prediction_2_2 = 784 * math.log(2)
# ```
#
# </details>

# %%
torch.manual_seed(SEED)
logits, mu, logvar = VAE()(test_x[:100].cpu())
ours = metrics.bernoulli_nll(logits, test_x[:100].cpu())
theirs = F.binary_cross_entropy_with_logits(logits, test_x[:100].cpu(), reduction="none").flatten(1).sum(1)
q, prior = distributions.Normal(mu, (0.5 * logvar).exp()), distributions.Normal(0.0, 1.0)
torch.testing.assert_close(ours, theirs)
torch.testing.assert_close(metrics.gaussian_kl(mu, logvar), distributions.kl_divergence(q, prior), atol=1e-5, rtol=1e-4)
print(f"an untrained model: {ours.mean():.0f} nats an image; pixels at one half: 784 log 2 = {784 * math.log(2):.0f}")

# %% [markdown]
# Two identities hold for any weights, and nearly every slip in these lines breaks one of them: a standard deviation
# taken for a variance, noise forgotten, half a KL. On average over its draws the loss is minus the one-sample bound
# $\log p_\theta(x \mid z)\,p(z) / q_\phi(z \mid x)$, with $q_\phi$ the density that the encoder declares. And its
# gradient in the encoder's outputs is, by (2.6) and (2.8), $g + \mu$ and $\frac12 (g \odot \sigma \odot \varepsilon +
# \sigma^2 - 1)$, where $g$ is the gradient of (2.9) in $z$. Both are tried on an untrained network whose weights are
# enlarged, so that codes are spread and noisy. The promises at the end hold us to it.

# %%
torch.manual_seed(SEED)
known, x20 = VAE().to(device), test_x[:20]
with torch.no_grad():
    known.encoder[-1].weight.mul_(8)
    known.decoder[0].weight.mul_(8)


def one_draw_bound(model, x):
    """log p(x|z) p(z) / q(z|x) at one draw of the density that the encoder declares: x (B, 1, 28, 28) -> (B,)."""
    mu, logvar = model.encode(x)
    q, p = distributions.Normal(mu, logvar.exp().sqrt()), distributions.Normal(0.0, 1.0)
    z = q.sample()
    log_p = -F.binary_cross_entropy_with_logits(model.decode(z), x, reduction="none").flatten(1).sum(1)
    return log_p + (p.log_prob(z) - q.log_prob(z)).sum(1)


def gradient_by_hand(model, x):
    """The loss's gradient in the bias of the encoder's outputs, by the formulas above, for the same noise: (2d,)."""
    mu, logvar = model.encode(x)
    torch.manual_seed(SEED)
    eps, sigma = torch.randn_like(mu), logvar.exp().sqrt()
    z = (mu + sigma * eps).detach().requires_grad_()
    recon = F.binary_cross_entropy_with_logits(model.decode(z), x, reduction="sum") / len(x)
    g, = torch.autograd.grad(recon, z)
    return torch.cat([g + mu / len(x), 0.5 * (g * sigma * eps + (sigma**2 - 1) / len(x))], 1).sum(0)


with torch.no_grad():
    many = kernels.Batch(x20.repeat(500, 1, 1, 1), None)
    off_bound = (bound_loss(known, bf16=False)(many)[0] + one_draw_bound(known, many.x).mean()).item()
torch.manual_seed(SEED)
bound_loss(known, bf16=False)(kernels.Batch(x20, None))[0].backward()
off_gradient = (known.encoder[-1].bias.grad - gradient_by_hand(known, x20)).abs().max().item()
print(f"loss and minus the bound of one draw differ by {off_bound:.2f} nats, the gradients by {off_gradient:.1e}")

# %% [markdown]
# ## Train, the textbook's way
#
# AdamW at a constant rate of 0.002, batches of 256. The textbook trains for 50 epochs; two are enough to see that we
# rebuilt its recipe. (It sums over the batch where we average. AdamW does not notice: it divides the gradient by its
# own size.)
#
# <!-- from the textbook -->

# %%
torch.manual_seed(SEED)
book_way = VAE().to(device)
batches = kernels.Batches(train_x, train_set.labels, batch_size=256, seed=SEED, device=device)
step = kernels.TrainStep(bound_loss(book_way, bf16=False), torch.optim.AdamW(book_way.parameters(), lr=2e-3),
                         batches=batches, model=book_way, seed=SEED)
after_epoch = {}
for epoch in (1, 2):
    book_history = train.fit(step, runtime.budget(epoch * len(batches)), title=f"the textbook's recipe, epoch {epoch}")
    after_epoch[epoch] = evaluate(book_way)
print(f"reconstruction term on the test set after one epoch, nats per image: {after_epoch[1][0]:.1f}")

# %% [markdown]
# The textbook prints sums per batch, 33,421 at this point. What is that per image? Its 10,000 test images make 40
# batches, 39 of 256 and one of 16, its 60,000 training images 235. So a mean over test batches is to be multiplied by
# 40 and divided by 10,000. It counts epochs from 0, so its epoch 40 is the forty-first; there it prints a test
# reconstruction of 21,725 and a training KL of 4,286:
#
# <!-- from the textbook -->

# %% tags=["nbval-check-output"]
book_recon, book_kl = 21_725 * 40 / 10_000, 4_286 * 235 / 60_000
print(f"textbook on MNIST, first epoch: reconstruction {33_421 * 40 / 10_000:.1f} nats per image")
print(f"epoch 40: {book_recon:.1f} + {book_kl:.1f} = {book_recon + book_kl:.1f} nats per image")

# %% [markdown]
# ## Train, our way
#
# The same 204,832 parameters can do better, in fewer epochs. Three changes beside batches of 512, none of them to the
# architecture:
#
# 1. **Start at the data.** The output biases begin at the log-odds of each pixel, and the first layer's biases at
#    minus its response to the mean image. Without this the network spends its first epochs on learning that corners
#    are black.
# 2. **Let the rate fall to zero.** A constant rate ends in noise; a falling one settles.
# 3. **Another optimiser for the two large matrices.** Muon (Jordan et al. 2024) makes the singular values of every
#    update nearly equal, so that a matrix learns in all its directions at one speed. A little weight decay keeps the
#    network from learning the training images by heart. Biases and the small matrices stay with AdamW.

# %%
def start_at_the_data(vae):
    """Centre the input and set the output to the pixels' own frequencies, through biases alone."""
    mean = pixel_mean.flatten()
    with torch.no_grad():
        vae.encoder[1].bias -= vae.encoder[1].weight @ mean
        vae.decoder[-2].bias.copy_(torch.logit(mean.clamp(0.005, 0.995)))
    return vae.to(device)


def optimizers(model, lr=0.02, muon_lr=0.1):
    """Muon for the large matrices, AdamW for everything else."""
    def is_large(p):
        return p.ndim == 2 and min(p.shape) >= min(64, HIDDEN)

    large = [p for p in model.parameters() if is_large(p)]
    rest = [p for p in model.parameters() if not is_large(p)]
    return [torch.optim.AdamW(rest, lr=lr), torch.optim.Muon(large, lr=muon_lr, weight_decay=0.03)]


def fit_vae(model, steps, *, title, optimizer=None, beta=1.0, batch_size=256, after=None):
    """Train with the rate warmed up over a tenth of the steps and then falling to zero -> History."""
    batches = kernels.Batches(train_x, train_set.labels, batch_size=batch_size, seed=SEED, device=device)
    update = kernels.Update(bound_loss(model, beta), optimizer or optimizers(model), after=after)
    step = kernels.TrainStep([update], batches=batches, model=model, schedule=kernels.linear_decay(0.1), seed=SEED)
    return train.fit(step, runtime.budget(steps), title=title)


# %%
torch.manual_seed(SEED)
vae = start_at_the_data(VAE().to(device))
history = fit_vae(vae, 1400, title="the same network, our way", batch_size=512)

# %% mystnb={"image": {"alt": "Training loss of the two recipes against images seen"}}
seen = {"the textbook's recipe": (book_history, 256), "our recipe": (history, 512)}
plots.show_curves({k: ([s * b / 1000 for s in h.steps], h["loss"]) for k, (h, b) in seen.items()},
                  x_label="thousand images seen", y_label="training loss, nats per image", y_range=(95, 180),
                  lines={"textbook, epoch 40 (MNIST)": book_recon + book_kl})

# %% [markdown]
# **Figure 2.4.** Training loss of two recipes for one network; the axis is cut at 95 and 180 nats. The dashed line is
# what the textbook printed on MNIST at its epoch 40, test reconstruction and training KL. <!-- from the textbook -->
#
# The curves of figure 2.4 are training losses; the test set follows.
#
# ## Look
#
# Reconstructions show the pixel probabilities, the mean of $p_\theta(x \mid z)$ at the code's mean, which is why
# strokes are soft where the model is unsure (figure 2.5). Samples need no fitting now, for the prior was named before
# training: most of those in figure 2.6 are digits, and some lie undecided between two.

# %% mystnb={"image": {"alt": "Test digits, and below them their reconstructions, softer but alike"}}
with torch.no_grad():
    x_hat = torch.sigmoid(vae.decode(vae.encode(test_x[:10])[0]))
plots.show_rows({"x": test_x[:10], "x_hat": x_hat})

# %% [markdown]
# **Figure 2.5.** The first ten test digits and the pixel probabilities decoded at their codes' means.

# %% mystnb={"image": {"alt": "Forty digits decoded from random codes: most are legible, some lie between two digits"}}
torch.manual_seed(SEED)
with torch.no_grad():
    samples = torch.sigmoid(vae.decode(torch.randn(40, LATENT, device=device)))
plots.show_grid(samples, columns=10, title="decoded from z ~ N(0, I), the first forty")

# %% [markdown]
# **Figure 2.6.** Pixel probabilities decoded from the first forty codes of the prior, none chosen.
#
# ## Measure
#
# Over all test images, at one draw of the code for each:

# %%
recon, kl = evaluate(vae)
neg_elbo = recon + kl.sum().item()
rows = {"textbook, epoch 40 (printed)": (book_recon, book_kl, None),
        "its recipe, 2 epochs, here": (after_epoch[2][0], after_epoch[2][1].sum(), book_history.seconds),
        "same network, our recipe": (recon, kl.sum(), history.seconds)}
print(f"{'nats per image':32}{'recon.':>8}{'KL':>8}{'-ELBO':>8}{'seconds':>9}")
for name, (a, b, seconds) in rows.items():
    print(f"{name:32}{a:8.1f}{b:8.1f}{a + b:8.1f}{'' if seconds is None else round(seconds):>9}")

# %% [markdown]
# The textbook's row is always MNIST; the others belong to whatever data this notebook ran on.
#
# **Back to the naive estimate.** With a trained decoder in hand we can repeat the failure on digits. The exact
# $\log p_\theta(x)$ is now unknown, but a better lower bound is within reach. Draw $k$ codes from the encoder,
# and average the ratios of (2.3) *before* taking the logarithm:
#
# $$ \mathcal{L}_k(x)
#    = \mathbb{E}\left[\log \frac1k \sum_{i=1}^{k} \frac{p_\theta(x \mid z_i)\,p(z_i)}{q_\phi(z_i \mid x)}\right],
#    \qquad z_i \sim q_\phi(z \mid x). \tag{2.10} $$
#
# This is the **importance-weighted bound** (IWAE; Burda et al. 2016). $\mathcal{L}_1$ is the ELBO, more samples never
# loosen it, and as $k \to \infty$ it reaches $\log p_\theta(x)$. Both estimates, on the first hundred test images:

# %%
@torch.no_grad()
def naive_log_likelihood(model, x, counts):
    """log of (2.2) for the sample sizes `counts`: x (B, 1, 28, 28) -> (len(counts), B)."""
    draws = [torch.randn(5000, LATENT, device=x.device) for _ in range(counts[-1] // 5000)]
    a = torch.cat([model.decode(z).flatten(1) for z in draws])
    log_p = a @ x.flatten(1).T - F.softplus(a).sum(1, keepdim=True)  # (2.9) for every code and every image: (S, B)
    running = torch.logcumsumexp(log_p, 0)
    return torch.stack([running[S - 1] - math.log(S) for S in counts])


# %% mystnb={"image": {"alt": "The naive estimate stays far below the bound, which rises a few nats on its own axis"}}
torch.manual_seed(SEED)
some, counts, ks = test_x[:100], [10, 100, 1000, 10_000, 50_000], [1, 10, 100, 1000]
naive = naive_log_likelihood(vae, some, counts).mean(1).tolist()
iwae = [metrics.iwae_bound(some, vae.encode, vae.decode, samples=k).mean().item() for k in ks]
print("naive", {S: round(v, 1) for S, v in zip(counts, naive)})
print("bound", {k: round(v, 1) for k, v in zip(ks, iwae)})
fig, (both, alone) = plots.figure(6, 4.8, 2, 1, sharex=True)
both.plot(counts, naive, label="naive, z from the prior")
for ax in (both, alone):
    ax.plot(ks, iwae, color=plots.COLOURS[1], label="weighted, z from the encoder")
both.legend()
both.set(xscale="log", ylabel="log p(x), nats")
alone.set(ylim=(math.floor(min(iwae)), math.ceil(max(iwae))), xlabel="samples per image", ylabel="the same, axis cut")
fig

# %% [markdown]
# **Figure 2.7.** Two estimates of $\log p(x)$ on the first hundred test digits, against the number of codes drawn;
# below, the weighted one alone, on an axis that is cut to its own range.
#
# In figure 2.7 one draw from the encoder says more than tens of thousands from the prior. The rise from $\mathcal{L}_1$
# to $\mathcal{L}_{1000}$, which only the lower panel shows, is a lower estimate of the gap (2.5): what it costs this
# model that the encoder's answer is not the true posterior, be it for its shape or for the network that gives it.
#
# ## Slider: walk through the latent space
#
# The trained decoder is small enough to travel with the page and to run in your browser. First, what it will show,
# called as a plain function: each row starts from the code of one test digit and changes a single coordinate.

# %% mystnb={"image": {"alt": "Eight rows of digits; along each row one coordinate of the code moves"}}
start = (vae.encode(test_x[:1])[0][0] * 20).round().div(20).detach().cpu()  # on the sliders' grid of 0.05
explorer = widgets.LatentExplorer(vae.decoder.cpu(), z0=start, caption="starts at the first test digit")
values = 0.6 * torch.arange(-5, 6)
codes = start.repeat(LATENT, 11, 1)                                          # (8, 11, 8)
codes[torch.arange(LATENT), :, torch.arange(LATENT)] = values
traversal = explorer.decode(codes.view(-1, LATENT))                          # (88, 28, 28)
with torch.no_grad():
    canvas_error = (traversal - torch.sigmoid(vae.decode(codes.view(-1, LATENT)))[:, 0]).abs().max().item()
vae.to(device)
print(f"browser's decoder against torch: largest difference {canvas_error:.4f} grey levels of 1")
plots.show_grid(traversal, columns=11, row_labels=[f"z[{j}]" for j in range(LATENT)],
                column_labels=[f"{v:.1f}" for v in values])

# %% [markdown]
# **Figure 2.8.** From the code of one test digit, each row moves one coordinate and leaves the others. The sliders
# below do the same.

# %%
explorer

# %% [markdown]
# Coordinates have no names here, as the rows of figure 2.8 show. Nothing in (2.4) prefers these axes over rotated ones,
# except that the encoder's covariance is diagonal; one slider may well change slant and class together.
#
# ### A digit of your own
#
# Now yours. The pad below takes what you write, with a pointer, a finger or the arrow keys, in black and white; shows
# what is decoded at the mean of its code; charges both terms of the bound; and puts the code on a map, the plane of its
# eight dimensions in which the classes lie furthest apart. First, as plain functions, a 1, an 8 and a cross:

# %%
pad = widgets.Pad(widgets.Bound(vae, test_set.images / 255, test_set.labels),
                  caption="Draw a digit: its code, its price in nats and its bound")
cross = [[[60, 60], [220, 220]], [[220, 60], [60, 220]]]                     # two strokes on a page of 280 by 280
for name, strokes in {"a 1": pad.ready[1], "an 8": pad.ready[8], "a cross": cross}.items():
    bound = pad.show(strokes)["bound"]
    print(f"{name:8}reconstruction {bound['nll']:5.1f} nats, price of the code {bound['kl'].sum():4.1f}, "
          f"ellipse of half axes about {bound['sigma'].mean():.2f}")
pad.strokes = pad.ready[3]

# %%
pad

# %% [markdown]
# Three things to see. *The ellipse is small.* It is one $\sigma$ wide, and the codes of all digits spread over several
# units of the map: the encoder knows well which code your digit has, and (2.6) charges for knowing it. *Write the same
# digit twice*: the point comes back to much the same place, among its own kind. *Then draw what is no digit*, the cross
# or a face. The price of the code hardly moves, for any picture is put somewhere, and about as exactly. What does not
# fit is paid for in the reconstruction, where the cross costs more than twice what the 8 does. And the cheapest of all
# is a plain 1: a bound measures how simple a picture is as well as how usual.

# %% [markdown]
# ## A stronger network
#
# The fully connected network must learn anew at each place of the image what a stroke is. Convolutions learn
# it once. This one has two strided convolutions, $d = 16$, and the mirror image:

# %% tags=["nbval-check-output"]
print(inspect.getsource(nets.ConvVAE))

# %%
torch.manual_seed(SEED)
CONV_LATENT = 16
conv = nets.ConvVAE(latent=CONV_LATENT, width=16, hidden=128).to(device)
conv_history = fit_vae(conv, 400, title="convolutional VAE",
                       optimizer=optimizers(conv, lr=0.01, muon_lr=0.05))
conv_recon, conv_kl = evaluate(conv)
conv_neg_elbo = conv_recon + conv_kl.sum().item()

# %%
def conv_loss(samples):
    return metrics.mean_over(test_x[:500], lambda x: -metrics.iwae_bound(x, conv.encode, conv.decode, samples=samples),
                             batch_size=100, device=device)


conv_elbo, conv_bound = conv_loss(1), conv_loss(50)
print(f"{'nats per image':32}{'-ELBO':>8}{'seconds':>9}")
for name, value, seconds in (("textbook, epoch 40 (printed)", book_recon + book_kl, None),
                             ("same network, our recipe", neg_elbo, history.seconds),
                             ("convolutional", conv_neg_elbo, conv_history.seconds)):
    print(f"{name:32}{value:8.1f}{'' if seconds is None else round(seconds):>9}")
print(f"convolutional, first 500 test images: -ELBO {conv_elbo:.1f}, minus the bound of 50 samples {conv_bound:.1f}")

# %% mystnb={"image": {"alt": "Samples of the small and of the convolutional model side by side"}}
torch.manual_seed(SEED)
with torch.no_grad():
    conv_samples = torch.sigmoid(conv.decode(torch.randn(40, CONV_LATENT, device=device)))
plots.show_grids({f"784-{HIDDEN}-{LATENT}": samples, f"convolutional, d = {CONV_LATENT}": conv_samples}, columns=8,
                 rows=5)

# %% [markdown]
# **Figure 2.9.** The first forty samples of either model from $\mathcal{N}(0, I)$, as pixel probabilities.
#
# A better likelihood does not guarantee prettier samples. By the bound the convolutional network is far ahead. Its
# drawings are hardly so: compare the two halves of figure 2.9, and the last two rows of the next table under
# $\mathcal{N}(0, I)$. Likelihood and looks are different questions, and [chapter 4](04_gan.ipynb) begins with that.
#
# How good the pictures are is measured too, for the [scoreboard](scoreboard.md) of all chapters. The model
# knows black and white only, so we cut its probabilities at ½ and hold them against real digits cut likewise.

# %% tags=["nbval-check-output"]
z_drawn = torch.randn(2000, CONV_LATENT, generator=torch.Generator().manual_seed(SEED)).to(device)
with torch.no_grad():
    drawn, per_image = metrics.timed_samples(lambda: (conv.decode(z_drawn) > 0).float())  # a logit of 0 is ½
report = metrics.sample_report(drawn, test_set, held_out=val_set, binarised=True)
expect.model("VAE", report=report, samples=drawn, real=test_set, train_seconds=conv_history.seconds,
             sample_seconds=per_image, parameters=conv.decoder,
             note="the convolutional network; pixels cut at ½")

# %% [markdown]
# ## What the price and the noise have bought
#
# Chapter 1 ended with a suspicion: perhaps a plain autoencoder with a good prior is as good a generator. The same
# network, trained without both, with the price of the code alone (half its squared length), and with price and noise,
# is given codes from the same four priors (log inception scores, as in chapter 1; means and deviations of three seeds;
# stored, by `make study STUDY=prior`):
#
# | log inception score | N(0, I) | one Gaussian | a Gaussian a class | 100 Gaussians | codes of test images |
# | --- | ---: | ---: | ---: | ---: | ---: |
# | autoencoder, d = 8 | 0.48 ± 0.08 | 1.85 ± 0.05 | 2.12 ± 0.00 | 2.20 ± 0.01 | 2.17 ± 0.00 |
# | with the price, d = 8 | 1.82 ± 0.01 | 1.86 ± 0.05 | 2.09 ± 0.01 | 2.19 ± 0.01 | 2.17 ± 0.01 |
# | with price and noise, d = 8 | 1.78 ± 0.05 | 1.88 ± 0.03 | 2.11 ± 0.01 | 2.19 ± 0.00 | 2.16 ± 0.01 |
# | convolutional VAE | 1.86 ± 0.02 | 1.94 ± 0.03 | 2.18 ± 0.00 | 2.23 ± 0.00 | 2.24 ± 0.01 |
#
# The price brings the codes to $\mathcal{N}(0, I)$, and that is its whole gain in looks; the noise adds none. Under any
# fitted prior the three trainings are nearly level, and a mixture of 100 Gaussians, fitted afterwards, makes better
# pictures of each than the prior that the VAE was trained for. The prior is the model, here too.
#
# So what does the noise buy? First, a likelihood. Without it the code has no density $q_\phi(z \mid x)$, there is no
# ratio in (2.3) and no bound: the first two rows have nothing that says how likely an image is. Second, codes whose
# distance from the prior can be bounded. The divergence $\mathrm{KL}(q(z) \,\|\, \mathcal{N}(0, I))$ of the codes of
# all images together is at least 12.1 nats for the autoencoder and at least 4.3 with the price alone; with the noise it
# lies between 2.0 and 5.5 (a lower bound on held-out codes, and an upper one by convexity, from the same study). That
# is nearer than the autoencoder's; whether it is nearer than with the price alone, these bounds leave open. None of
# that is seen in the pictures of this small network. Who only wants pictures may fit a prior to an autoencoder; who
# wants $p(x)$ needs the noise.

# %% [markdown]
# ## Can it judge?
#
# A likelihood says how ordinary an image is. So a scan that the model finds unlikely should be strange, and one that it
# finds likely should not be. Nine kinds of strange images, 500 of each, against 500 test digits: the area under the
# curve (AUC) is the chance that a score puts a strange image above a digit, one half for a coin. The first column is
# $\log p(x)$ by the bound (2.10) of the convolutional network. The scores are minus that bound, its distance from the
# mean over training digits (*typicality*), the bound less the length of the image compressed by zlib (*ratio*; Serrà et
# al. 2020), the reconstruction term alone, the distance to the nearest training digit in the features of our *reader*,
# and, to see what little suffices, the difference in *ink*. Nothing was chosen on these images (three seeds, deviations
# at most 0.052; stored, by `make study STUDY=strange`):
#
# | images | nats | bound | typicality | ratio, zlib | reconstruction | reader | ink |
# | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
# | digits | -78 |  |  |  |  |  |  |
# | blank page | -28 | 0.01 | 0.96 | 1.00 | 0.09 | 0.95 | 1.00 |
# | one dot | -46 | 0.10 | 0.79 | 1.00 | 0.24 | 0.91 | 0.99 |
# | upper half alone | -122 | 0.82 | 0.79 | 1.00 | 0.89 | 0.97 | 0.85 |
# | digits lying | -159 | 0.98 | 0.97 | 0.96 | 0.98 | 0.98 | 0.44 |
# | two digits in one | -174 | 0.95 | 0.93 | 0.67 | 0.95 | 0.92 | 0.84 |
# | capital letters | -106 | 0.77 | 0.63 | 0.94 | 0.83 | 0.96 | 0.69 |
# | black for white | -6349 | 1.00 | 1.00 | 1.00 | 1.00 | 0.99 | 1.00 |
# | pixels shuffled | -706 | 1.00 | 1.00 | 1.00 | 1.00 | 0.98 | 0.49 |
# | snow | -2780 | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 |
#
# The likelihood fails where it matters: a blank page, a detector that never fired, is *likelier* than all but one digit
# in a hundred, because nothing in it can surprise (Nalisnick et al. 2019 found the same between whole data sets).
# Correcting for the plainness of the image, by its compressed length, mends that and spoils two digits in one. The
# distance in the features of a network that was trained for another task never falls so low in any row, and knows no
# $p(x)$ at all. A model of $p(x)$ is not yet a judge of $x$.
#
# ## β: what is a code worth?
#
# Put a factor before the price of the code (Higgins et al. 2017):
#
# $$ \mathcal{L}_\beta(x) = \mathbb{E}_{q_\phi(z \mid x)}[\log p_\theta(x \mid z)]
#    - \beta\, \mathrm{KL}\big(q_\phi(z \mid x)\,\|\,p(z)\big). \tag{2.11} $$
#
# With $\beta = 1$ this is the bound. A larger $\beta$ buys shorter codes and pays with blurred reconstructions; a
# smaller one does the reverse, and its codes drift away from the prior. The textbook's network, briefly trained at
# six prices:

# %% [markdown]
# **Exercise 2.3 (predict ★). Which price gives the best bound.** The next cells train one network at six prices, from
# $\beta = 0.1$ to $\beta = 30$, and measure the *same* bound for each on test images: minus the ELBO (2.4), in which
# the KL counts once. At which price is it least?
#
# - (a) At the smallest, for it reconstructs best.
# - (b) At $\beta = 1$.
# - (c) At the largest, for there the code costs nothing.
# - (d) It makes no difference: what is gained in one term is lost in the other.
# - (e) At $\beta = 3$, for slightly dear codes generalise better.
#
# <details class="hint"><summary>Hint 1</summary>
#
# For each model ask: what was it trained to make small, and what is it measured by?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The price in the measurement is 1.
#
# </details>

# %% tags=["answer"]
choice_2_3 = None  # "a", "b", "c", "d" or "e"

# %% tags=["check"]
sheet.check("2.3", choice_2_3)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.3</summary>
#
# Each model is best at what it was trained for, and only at $\beta = 1$ is that the bound. The table's column −ELBO
# falls down to it and rises after.
#
# ```python
# choice_2_3 = "b"
# ```
#
# </details>

# %%
BETAS = (0.1, 1, 3, 8, 16, 30)
small = {}
for beta in BETAS:
    torch.manual_seed(SEED)
    small[beta] = start_at_the_data(VAE().to(device))
    fit_vae(small[beta], 220, title=f"beta = {beta}", beta=beta)

# %% mystnb={"image": {"alt": "KL per coordinate for six values of beta: the larger beta, the more are zero"}}
rates = {}
print(f"{'beta':>6}{'recon.':>8}{'KL':>8}{'-ELBO':>8}  coordinates in use (KL above 0.05 nats)")
for beta, model in small.items():
    recon_b, rates[beta] = evaluate(model)
    total = rates[beta].sum().item()
    print(f"{beta:6}{recon_b:8.1f}{total:8.1f}{recon_b + total:8.1f}  {(rates[beta] > 0.05).sum().item()} of {LATENT}")
table = torch.stack([kl.sort(descending=True).values for kl in rates.values()])
fig, ax = plots.figure(6.5, 2.6)
ax.imshow(table, cmap="cividis", aspect="auto", vmin=0, vmax=4)
ax.grid(False)
for (i, j), value in zip([(i, j) for i in range(len(BETAS)) for j in range(LATENT)], table.flatten().tolist()):
    ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value < 2.5 else "black")
ax.set_yticks(range(len(BETAS)), labels=[f"β = {b}" for b in BETAS])
ax.set(xticks=[], xlabel="coordinates of the code, sorted by their KL in nats")
fig

# %% [markdown]
# **Figure 2.10.** KL of each coordinate at six prices; its sum is the length of the code, in nats.
#
# **Posterior collapse.** Read figure 2.10 downwards. At first all coordinates shrink together. Then, as β grows on,
# they go out one after the other. A dead coordinate has $q_\phi(z_j \mid x) = \mathcal{N}(0, 1)$ for every image, costs
# nothing, and says nothing. Exercises 2.17 and 2.18 find the price at which each one dies. The slider shows what the
# decoder makes of what is left. Its pictures, called as a plain function, come first:

# %%
@torch.no_grad()
def pictures(model):
    """Reconstructions (originals in odd rows, x_hat in even ones) and prior samples, as two pages."""
    x_hat = torch.sigmoid(model.decode(model.encode(test_x[:24])[0]))
    pairs = torch.stack([test_x[:24].view(3, 8, 1, 28, 28), x_hat.view(3, 8, 1, 28, 28)], 1).flatten(0, 2)
    z = torch.randn(48, LATENT, generator=torch.Generator().manual_seed(SEED)).to(device)
    return [plots.tile(pairs, 6, 8), plots.tile(torch.sigmoid(model.decode(z)), 6, 8)]


beta_slider = widgets.FrameSlider([pictures(model) for model in small.values()], labels=BETAS, description="beta",
                                  start=1, width=230, interval=900, captions=["x above x_hat", "prior samples"])
for position in range(len(BETAS)):
    left, right = beta_slider.frame(position)
    assert left.shape == right.shape == (173, 231)
    print(f"beta {BETAS[position]:4}: grey level of the samples {right.mean() / 255:.3f} ± {right.std() / 255:.3f}")

# %%
beta_slider

# %% [markdown]
# **Collapse at β = 1.** A price that is right in the end can be too high in the beginning. Early in training the
# decoder is bad and the code carries little; making $q$ equal to the prior is then the quickest way to lower the loss,
# and once the code is noise the decoder learns to ignore it. Deep networks are prone to it. Put four more tanh layers
# on either side of the textbook's model, give it sixteen coordinates, and train it four times, 300 steps under one
# schedule: with the textbook's start and optimiser and with ours, each without and with **KL warm-up** (Bowman et al.
# 2016; Sønderby et al. 2016), which raises β from 0 to 1 during the first two thirds of training.

# %%
class DeepVAE(VAE):
    """The textbook's model with `extra` more tanh layers on either side of the code."""

    def __init__(self, hidden=HIDDEN, latent=2 * LATENT, extra=4):
        super().__init__(hidden, latent)
        more = [[part for _ in range(extra) for part in (nn.Linear(hidden, hidden), nn.Tanh())] for _ in range(2)]
        self.encoder = nn.Sequential(*self.encoder[:3], *more[0], self.encoder[3])
        self.decoder = nn.Sequential(*self.decoder[:2], *more[1], *self.decoder[2:])
        self.register_buffer("beta", torch.ones(()))  # a tensor, so that it can change during training


def fit_deep(title, *, our_way=True, warmup=0):
    torch.manual_seed(SEED)
    model = DeepVAE().to(device)
    optimizer = optimizers(start_at_the_data(model)) if our_way else torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.beta.fill_(0.0 if warmup else 1.0)
    rise = (lambda: model.beta.add_(1 / runtime.budget(warmup)).clamp_(max=1)) if warmup else None
    fit_vae(model, 300, title=title, beta=model.beta, optimizer=optimizer, after=rise)
    return evaluate(model)


# %% mystnb={"image": {"alt": "KL per coordinate of the deep model: little with the textbook's start, much with ours"}}
deep = {"textbook's start": fit_deep("deep, textbook's start", our_way=False),
        "textbook's, with KL warm-up": fit_deep("deep, textbook's start, KL warm-up", our_way=False, warmup=200),
        "our recipe": fit_deep("deep, our recipe"),
        "ours, with KL warm-up": fit_deep("deep, our recipe, KL warm-up", warmup=200)}
p = pixel_mean.clamp(1e-6, 1 - 1e-6)
no_code = 784 * F.binary_cross_entropy(p.expand_as(test_x), test_x).item()
print(f"{'independent pixels, no code':28} -ELBO {no_code:6.1f}")
for name, (recon_d, kl_d) in deep.items():
    used = (kl_d > 0.05).sum().item()
    print(f"{name:28} -ELBO {recon_d + kl_d.sum():6.1f}   KL {kl_d.sum():5.2f}   in use {used} of {len(kl_d)}")
plots.show_curves({k: (range(1, len(v[1]) + 1), v[1].sort(descending=True).values.tolist()) for k, v in deep.items()},
                  x_label="coordinates, sorted by their KL", y_label="KL, nats")

# %% [markdown]
# **Figure 2.11.** KL per coordinate of the four deep models, largest first.
#
# The first run of figure 2.11 has collapsed: next to no KL is left, and its loss is no better than that of a model with
# no code at all, which knows only how often each pixel is on. Warm-up alone does not save it in a training as short as
# this: its code says a few nats, to which the decoder does not listen, and the bound is worse by as much. Our recipe
# escapes, but many of its coordinates never come to life. Warm-up lets them find work before the price is due, and
# several of them keep it, which gains the bound little. So what prevents the collapse here is a better start and a
# better optimiser, taken together. Each run is of one seed. The lesson is to *look at the KL per coordinate*, because
# the total loss keeps falling politely while the code dies.
#
# ## A map in two dimensions
#
# With $d = 2$ the whole latent space fits on a page. Left, where the encoder puts the test digits; right, what the
# decoder draws at a regular grid of prior *quantiles*, so that every picture stands for an equal share of $p(z)$. The
# right panel covers only $|z_j| < 1.9$, the middle of the left one.

# %%
torch.manual_seed(SEED)
flat = start_at_the_data(VAE(latent=2).to(device))
fit_vae(flat, 400, title="two-dimensional code")
recon_2, kl_2 = evaluate(flat)
print(f"-ELBO {recon_2 + kl_2.sum():.1f}: two numbers cannot say everything about a digit")

# %% mystnb={"image": {"alt": "Left: test codes coloured by class. Right: a grid of decoded digits"}}
with torch.no_grad():
    mu = flat.encode(test_x[:2000])[0].cpu()
    steps = distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.03, 0.97, 14))
    z = torch.stack(torch.meshgrid(steps, -steps, indexing="xy"), -1).view(-1, 2)  # z[1] grows upwards
    page = plots.tile(torch.sigmoid(flat.decode(z.to(device))), 14, 14, gap=0)
fig, (left, right) = plots.figure(8, 3.9, 1, 2)
for digit in range(10):
    at = test_set.labels[:2000] == digit
    left.scatter(*mu[at].T, s=3, color=[*plots.COLOURS, "#999999", "#7B3F00"][digit], label=str(digit))
edge = mu.abs().max().ceil().item()  # nothing is cut off
left.set(xlim=(-edge, edge), ylim=(-edge, edge), xlabel="z[0]", ylabel="z[1]", aspect="equal")
left.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=4, handletextpad=0.1)
right.imshow(page, cmap="gray", vmin=0, vmax=1)
right.set_axis_off()
fig

# %% [markdown]
# **Figure 2.12.** Left, means of the codes of 2,000 test digits, coloured by class; right, digits decoded on a grid
# that gives each picture an equal share of the prior.
#
# Classes touch and overlap, as in figure 1.12, and here the KL pulls all codes towards the origin as well. But the
# prior is not filled evenly: on the left of figure 2.12 there are dense arms and thin places between them.
#
# ## What this chapter promises

# %% tags=["nbval-check-output"]
expect("loss less minus the bound of one draw, known network, nats", off_bound, below=0.7, above=-0.7)
expect("gradient of the loss against the one by hand, largest difference", off_gradient, below=1e-3)
expect("test -ELBO of the textbook's network, nats per image", neg_elbo, below={"mnist": 104, "strokes": 96})
expect("test -ELBO of the convolutional network, nats per image", conv_neg_elbo, below={"mnist": 88, "strokes": 80})
expect("bound (k = 1000) above naive Monte Carlo (50,000), nats", iwae[-1] - naive[-1], above=2)
expect("score-function variance over pathwise, d = 8, log10",
       math.log10(variance["score function"][3] / variance["pathwise"][3]), above=0.4)
expect("coordinates in use at beta = 1", (rates[1] > 0.05).sum(), above=LATENT - 1)
expect("coordinates in use at beta = 30", (rates[30] > 0.05).sum(), below=LATENT / 2)
expect("KL of the collapsed deep model, nats", deep["textbook's start"][1].sum(), below=4.5)
expect("KL that warm-up adds to the deep model, nats",
       deep["ours, with KL warm-up"][1].sum() - deep["our recipe"][1].sum(), above=0)
expect("browser's decoder against torch, grey levels of 1", canvas_error, below=0.01)

# %% [markdown]
# ## Exercises
#
# Each exercise has a cell for your answer; the cell below it checks it, and says what it can about a mistake. One star
# takes a minute or two, three take half an hour. What is left open stops nothing. The first three stand above, each
# just before the result that it asks for.

# %% [markdown]
# **Exercise 2.4 (predict ★). Autoencoder and variational autoencoder.** (Review.) How do the two differ: in what the
# encoder gives, in the loss, and in what can be done with the result?
#
# - (a) The VAE adds a KL to the loss to make sharper pictures; only a VAE can be sampled from.
# - (b) The VAE's encoder maps every image to the prior, and its decoder turns that into images.
# - (c) A VAE is an autoencoder whose input is made noisy, trained on the same error.
# - (d) The autoencoder gives a point for each image, and minimises an error; a distribution of codes has to be fitted
#   afterwards. The VAE gives a distribution, and pays for its distance from a prior that was named before; its loss
#   bounds $-\log p_\theta(x)$.
# - (e) Both are judged by their reconstruction on test images, which is a bound on the likelihood for both.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Ask of each sentence what it says of one image, and what of all images together.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Which terms are needed for (2.3)?
#
# </details>

# %% tags=["answer"]
choice_2_4 = None  # "a", "b", "c", "d" or "e"

# %% tags=["check"]
sheet.check("2.4", choice_2_4)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.4</summary>
#
# An autoencoder maps $x$ to one point and back, and minimises a reconstruction error. Nothing says where the points
# should lie, so to generate one has to fit a distribution to them afterwards. A VAE maps $x$ to a *distribution*, draws
# from it, and pays for each nat of KL between it and a prior that was named before. Its loss bounds $-\log
# p_\theta(x)$, so models can be compared by it, and its decoder has been trained on noisy codes. Both blur: whatever
# the code leaves open is drawn as a mean.
#
# ```python
# choice_2_4 = "d"
# ```
#
# </details>

# %% [markdown]
# **Exercise 2.5 (code ★★). All codes together.** Averaged over *all* images, the codes of a good VAE should look like
# the prior, $\frac1N\sum_n q_\phi(z \mid x_n) \approx \mathcal{N}(0, I)$. Return the mean and the variance of each
# coordinate under this average, from the encoder's answers. Then ask your function about the trained `vae`.
#
# <details class="hint"><summary>Hint 1</summary>
#
# A draw from the average: pick an image, then draw its code. Two things vary.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The law of total variance: the mean of the variances plus the variance of the means.
#
# </details>

# %% tags=["answer"]
def aggregate(mu, logvar):
    """Mean and variance of each coordinate of z, over all images.

    mu, logvar (N, d): the encoder's answers.  Returns mean (d,), variance (d,).
    """
    ...

# %% tags=["check"]
sheet.check("2.5", aggregate)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.5</summary>
#
# By the law of total variance it is $\mathbb{E}[\sigma_j^2] + \operatorname{Var}[\mu_j]$.
#
# ```python
# def aggregate(mu, logvar):
#     return mu.mean(0), logvar.exp().mean(0) + mu.var(0)
# ```
#
# ```
# with torch.no_grad():
#     print(aggregate(*vae.encode(test_x)))
# ```
#
# prints means near 0 and variances near 1. That is necessary and far from enough: two moments a coordinate say nothing
# of holes between the arms of a cloud.
#
# </details>

# %% [markdown]
# **Exercise 2.6 (code ★). The price of a code.** Write (2.6), one price for each image of a batch.
#
# <details class="hint"><summary>Hint 1</summary>
#
# A code with mean 0 and variance 1, `logvar` 0, has to cost nothing. Try it.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $\sigma^2$ is `logvar.exp()`. The sum runs over coordinates, not over images.
#
# </details>

# %% tags=["answer"]
def code_price(mu, logvar):
    """KL from N(mu, diag(exp(logvar))) to N(0, I), in nats.

    mu, logvar (B, d): the encoder's answers.  Returns (B,).
    """
    ...

# %% tags=["check"]
sheet.check("2.6", code_price)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.6</summary>
#
# ```python
# def code_price(mu, logvar):
#     return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)
# ```
#
# </details>

# %% [markdown]
# **Exercise 2.7 (derive ★★). Between any two Gaussians.** Derive $\mathrm{KL}(\mathcal{N}(m_1, s_1^2)\,\|\,
# \mathcal{N}(m_2, s_2^2))$ for numbers, and see that (2.6) is the case $m_2 = 0, s_2 = 1$. [Chapter 3](03_cvae.ipynb)
# needs it for a learned prior. The check does the integral on a grid.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Write both log-densities out. Under the first Gaussian, what are the averages of $(z - m_1)^2$ and of $(z - m_2)^2$?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $\mathbb{E}_1[(z - m_2)^2] = s_1^2 + (m_1 - m_2)^2$.
#
# </details>

# %% tags=["answer"]
def gaussian_divergence(m1, s1, m2, s2):
    """KL from N(m1, s1^2) to N(m2, s2^2), entry by entry.

    m1, s1, m2, s2 (k,): means and standard deviations.  Returns (k,).
    """
    ...

# %% tags=["check"]
sheet.check("2.7", gaussian_divergence)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.7</summary>
#
# $\mathbb{E}_1[\log p_1 - \log p_2] = \log\frac{s_2}{s_1} - \frac12 + \frac{\mathbb{E}_1[(z - m_2)^2]}{2 s_2^2}$, so
#
# $$ \mathrm{KL} = \log\frac{s_2}{s_1} + \frac{s_1^2 + (m_1 - m_2)^2}{2 s_2^2} - \frac12. $$
#
# ```python
# def gaussian_divergence(m1, s1, m2, s2):
#     return torch.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5
# ```
#
# </details>

# %% [markdown]
# **Exercise 2.8 (code ★). A draw that lets gradients through.** Draw codes by (2.8) with the noise given. The check
# looks at three things: the draws, and the gradients that reach `mu` and `logvar` through them.
#
# <details class="hint"><summary>Hint 1</summary>
#
# The noise is multiplied by a standard deviation. How do you get it from the logarithm of a variance?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $\sigma = e^{\frac12 \log \sigma^2}$, and nothing on the way is detached.
#
# </details>

# %% tags=["answer"]
def draw_code(mu, logvar, eps):
    """z from N(mu, diag(exp(logvar))), made of standard normal noise.

    mu, logvar, eps (B, d).  Returns (B, d).
    """
    ...

# %% tags=["check"]
sheet.check("2.8", draw_code)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.8</summary>
#
# ```python
# def draw_code(mu, logvar, eps):
#     return mu + torch.exp(0.5 * logvar) * eps
# ```
#
# </details>

# %% [markdown]
# **Exercise 2.9 (derive ★★★). Two estimators of one gradient.** Let $f(z) = z^2$ and $z \sim \mathcal{N}(\mu, 1)$. The
# gradient of $\mathbb{E}[f]$ by $\mu$ is $2\mu$. Find the variance of one draw of the score-function estimator (2.7),
# without a baseline, and of the pathwise one (2.8). For which $\mu$ is the score function the better of the two?
#
# <details class="hint"><summary>Hint 1</summary>
#
# Write $z = \mu + \varepsilon$. The two estimators are $(\mu + \varepsilon)^2\,\varepsilon$ and $2(\mu + \varepsilon)$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $\mathbb{E}\varepsilon^2 = 1$, $\mathbb{E}\varepsilon^4 = 3$, $\mathbb{E}\varepsilon^6 = 15$, and odd moments vanish.
#
# </details>

# %% tags=["answer"]
def estimator_variances(mu):
    """Variances of the score-function and of the pathwise estimator for f(z) = z^2, z from N(mu, 1).

    mu: a number.  Returns score, pathwise.
    """
    ...

# %% tags=["check"]
sheet.check("2.9", estimator_variances)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.9</summary>
#
# Pathwise: $2z = 2\mu + 2\varepsilon$, variance $4$ for every $\mu$. Score function: $g = (\mu + \varepsilon)^2
# \varepsilon = \mu^2 \varepsilon + 2\mu\varepsilon^2 + \varepsilon^3$, so $\mathbb{E}[g^2] = \mu^4 + 12\mu^2 + 15 +
# 6\mu^2$, and $\mathbb{E}[g]^2 = 4\mu^2$. The variance is $\mu^4 + 14\mu^2 + 15$, above 4 for every $\mu$: the score
# function is never the better one.
#
# ```python
# def estimator_variances(mu):
#     return mu**4 + 14 * mu**2 + 15, 4.0
# ```
#
# </details>

# %% [markdown]
# **Exercise 2.10 (code ★★). The likelihood of black and white.** Write (2.9) from the logits, one number for each
# image. A trained decoder can be very sure, rightly or wrongly: the formula has to hold at $a_i = \pm 60$ too.
#
# <details class="hint"><summary>Hint 1</summary>
#
# A sigmoid that is rounded to 1 has no $\log(1 - \pi)$ any more. (2.9) has a form without probabilities.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `F.softplus(a)` is $\log(1 + e^a)$, and holds for large $a$.
#
# </details>

# %% tags=["answer"]
def pixel_nll(logits, x):
    """Minus log p(x | z) of independent pixels, in nats.

    logits, x (B, 1, H, W): the decoder's outputs, and images of zeros and ones.  Returns (B,).
    """
    ...

# %% tags=["check"]
sheet.check("2.10", pixel_nll)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.10</summary>
#
# The sum over pixels, the batch kept.
#
# ```python
# def pixel_nll(logits, x):
#     return (F.softplus(logits) - x * logits).flatten(1).sum(1)
# ```
#
# </details>

# %% [markdown]
# **Exercise 2.11 (code ★★). The loss.** Put the two together: minus (2.11), averaged over the batch, from what the
# model returns for it. One draw of the code has been made already. The commonest faults of a home-made VAE are of this
# kind: it trains, and something weighs hundreds of times too much.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Write the two terms for each image first, and average last.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Pixels are added up, coordinates are added up, images are averaged; `beta` stands before the code's price.
#
# </details>

# %% tags=["answer"]
def bound_loss_of(logits, x, mu, logvar, beta):
    """Minus the bound (2.11), a mean over the batch, in nats per image.

    logits, x (B, 1, H, W); mu, logvar (B, d); beta: a number.  Returns a number.
    """
    ...

# %% tags=["check"]
sheet.check("2.11", bound_loss_of)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.11</summary>
#
# ```python
# def bound_loss_of(logits, x, mu, logvar, beta):
#     recon = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
#     kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean()
#     return recon + beta * kl
# ```
#
# </details>

# %% [markdown]
# **Exercise 2.12 (predict ★★). The bound, derived without Jensen.** (Review.) Derive $\mathcal{L}(x) \le
# \log p_\theta(x)$ without Jensen's inequality: start from Bayes' rule, which says for every $z$ that
# $\log p_\theta(x) = \log p_\theta(x \mid z) + \log p(z) - \log p_\theta(z \mid x)$, average over $q_\phi$, and sort.
# What is left over, and when is nothing left?
#
# - (a) $\mathrm{KL}(q_\phi(z \mid x) \,\|\, p_\theta(z \mid x))$; nothing if $q_\phi$ is the posterior, and then a
#   single draw gives $\log p_\theta(x)$ exactly.
# - (b) $\mathrm{KL}(p_\theta(z \mid x) \,\|\, q_\phi(z \mid x))$; nothing if $q_\phi$ is the posterior.
# - (c) $\mathrm{KL}(q_\phi(z \mid x) \,\|\, p(z))$; nothing if $q_\phi$ is the prior.
# - (d) The variance of the draws; nothing as their number grows.
# - (e) The decoder's error; nothing if it reconstructs perfectly.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Subtract $\mathbb{E}_q[\log q_\phi(z \mid x)]$ and add it again, and compare with (2.3).
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# In what is left stand $\log q_\phi(z \mid x)$ and $-\log p_\theta(z \mid x)$, averaged over $q_\phi$.
#
# </details>

# %% tags=["answer"]
choice_2_12 = None  # "a", "b", "c", "d" or "e"

# %% tags=["check"]
sheet.check("2.12", choice_2_12)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.12</summary>
#
# With Jensen it is (2.3). Without, averaging Bayes' rule over $q_\phi$, subtracting and adding $\mathbb{E}_q[\log
# q_\phi]$:
#
# $$ \log p_\theta(x)
#    = \underbrace{\mathbb{E}_q\!\left[\log\frac{p_\theta(x \mid z)\,p(z)}{q_\phi(z \mid x)}\right]}_{\mathcal{L}(x)}
#    + \underbrace{\mathbb{E}_q\!\left[\log\frac{q_\phi(z \mid x)}{p_\theta(z \mid x)}\right]}_{\mathrm{KL}\,\ge\,0}. $$
#
# The KL is non-negative because $-\log$ is convex: $\mathbb{E}_q[-\log(p/q)] \ge -\log \mathbb{E}_q[p/q] = -\log 1 =
# 0$. Equality needs $q_\phi(z \mid x) = p_\theta(z \mid x)$. Then the ratio inside (2.3) is $p_\theta(x)$ for every
# $z$: a constant, whose logarithm has no variance. Exercise 2.14 watches this.
#
# ```python
# choice_2_12 = "a"
# ```
#
# </details>

# %% [markdown]
# **Exercise 2.13 (derive ★★). The true posterior of the linear model.** For $x = Wz + \sigma n$ with $z$ and $n$
# standard normal, find $p(z \mid x)$: its mean and its covariance. This is what every encoder tries to imitate, and the
# rare case in which it can be written down.
#
# <details class="hint"><summary>Hint 1</summary>
#
# $\log p(x \mid z) + \log p(z)$ is quadratic in $z$. Complete the square.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Precisions add: that of the prior is $I$, that of the image $W^\top W/\sigma^2$.
#
# </details>

# %% tags=["answer"]
def linear_posterior(W, x, sigma):
    """Mean and covariance of p(z | x) for x = W z + sigma n.

    W (n, d), x (n,), sigma: a number.  Returns mean (d,), covariance (d, d).
    """
    ...

# %% tags=["check"]
sheet.check("2.13", linear_posterior)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.13</summary>
#
# The terms with $z$ are $-\frac12 z^\top (I + W^\top W/\sigma^2) z + z^\top W^\top x/\sigma^2$: a Gaussian with the
# precision in brackets, and its mean where the derivative vanishes.
#
# ```python
# def linear_posterior(W, x, sigma):
#     covariance = torch.linalg.inv(torch.eye(W.shape[1]) + W.T @ W / sigma**2)
#     return covariance @ W.T @ x / sigma**2, covariance
# ```
#
# </details>

# %% [markdown]
# **Exercise 2.14 (investigate ★★). Where the bound is tight.** Return what stands inside the second expectation of
# (2.3), $\log p(x \mid z) + \log p(z) - \log q(z)$, for draws $z$ of a Gaussian $q$ and the linear model. Then
# investigate: draw from a $q$ of your own and look at the single values, not at their mean; let $q$ come nearer to
# `linear_posterior` of exercise 2.13, and arrive. What happens to the mean, and what to the spread?
#
# <details class="hint"><summary>Hint 1</summary>
#
# Three log-densities, each with all its constants: `torch.distributions` knows them.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `distributions.Normal(z @ W.T, sigma).log_prob(x).sum(-1)` is the first; `distributions.MultivariateNormal` does the
# other two.
#
# </details>

# %% tags=["answer"]
def log_weight(z, W, x, sigma, mean, cov):
    """log p(x | z) + log p(z) - log q(z) for each draw, with q = N(mean, cov) and x = W z + sigma n.

    z (S, d): draws.  W (n, d), x (n,), sigma: the model and the image.  mean (d,), cov (d, d).  Returns (S,).
    """
    ...

# %% tags=["check"]
sheet.check("2.14", log_weight)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.14</summary>
#
# ```python
# def log_weight(z, W, x, sigma, mean, cov):
#     log_p = distributions.Normal(z @ W.T, sigma).log_prob(x).sum(-1)
#     log_prior = distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
#     return log_p + log_prior - distributions.MultivariateNormal(mean, cov).log_prob(z)
# ```
#
# With `linear_posterior` of exercise 2.13:
#
# ```
# W, x, sigma = (t.double() if torch.is_tensor(t) else t for t in toy(8))
# covariance = torch.linalg.inv(torch.eye(8).double() + W.T @ W / sigma**2)
# mean = covariance @ W.T @ x / sigma**2
# for widen in (4.0, 2.0, 1.2, 1.0):
#     q = distributions.MultivariateNormal(mean, widen * covariance)
#     values = log_weight(q.sample((1000,)), W, x, sigma, mean, widen * covariance)
#     print(f"{widen}: mean {values.mean():.3f}, deviation {values.std():.1e}, log p(x) {toy_truth(*toy(8))[0]:.3f}")
# ```
#
# The mean rises to $\log p(x)$ and the deviation falls to nothing, both at once: at the posterior each *single* draw
# gives $\log p(x)$, since by Bayes' rule the ratio is the same for every $z$.
#
# </details>

# %% [markdown]
# **Exercise 2.15 (code ★★). The importance-weighted bound.** Write one draw of (2.10) for each image, from the
# logarithms of the $k$ ratios. Images of 784 pixels have ratios like $e^{-900}$, and no machine number holds that.
#
# <details class="hint"><summary>Hint 1</summary>
#
# First the average of the ratios, then the logarithm; but the ratios themselves must never be formed.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `torch.logsumexp` is the logarithm of a sum of exponentials. What makes a sum of $k$ terms an average, in logarithms?
#
# </details>

# %% tags=["answer"]
def weighted_bound(log_w):
    """log of the mean of the ratios, for each image.

    log_w (k, B): logarithms of the ratios in (2.10), k draws for each of B images.  Returns (B,).
    """
    ...

# %% tags=["check"]
sheet.check("2.15", weighted_bound)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.15</summary>
#
# ```python
# def weighted_bound(log_w):
#     return torch.logsumexp(log_w, 0) - math.log(len(log_w))
# ```
#
# The mean of `log_w` over its first axis is the ELBO, and by Jensen's inequality never above this.
#
# </details>

# %% [markdown]
# **Exercise 2.16 (code ★★). The score of a model without a code.** What does a *fully* collapsed VAE, whose KL is 0,
# score at best on a training set? Its decoder cannot know which image it is to draw, and has one probability for each
# pixel. Return the least mean of (2.9) over images `x` of zeros and ones, then hold it against the collapsed deep model
# above. Some pixels are never on.
#
# <details class="hint"><summary>Hint 1</summary>
#
# If a pixel is on in the share $m$ of the images, which $\pi$ makes $-m\log\pi - (1 - m)\log(1 - \pi)$ least?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# It is the pixel's entropy. `torch.special.xlogy(m, m)` is $m \log m$, and 0 at $m = 0$.
#
# </details>

# %% tags=["answer"]
def no_code_nll(x):
    """The least mean over images of (2.9) when the decoder has no code, in nats.

    x (N, n): images of zeros and ones, as rows of pixels.  Returns a number.
    """
    ...

# %% tags=["check"]
sheet.check("2.16", no_code_nll)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.16</summary>
#
# The mean of (2.9) over the images is $\sum_i -m_i \log \pi_i - (1 - m_i)\log(1 - \pi_i)$, smallest at $\pi_i = m_i$:
# the sum of the pixels' entropies, $\sum_i H(m_i)$.
#
# ```python
# def no_code_nll(x):
#     m = x.float().mean(0)
#     return -(torch.special.xlogy(m, m) + torch.special.xlogy(1 - m, 1 - m)).sum()
# ```
#
# `no_code_nll(train_x.flatten(1))` is what the collapsed deep model has come down to. Setting the output biases to
# $\log\frac{m_i}{1 - m_i}$ *is* this solution, so our recipe starts from the best that can be had without a code.
#
# </details>

# %% [markdown]
# **Exercise 2.17 (investigate ★★★). Watch a coordinate die.** The smallest β-VAE: one coordinate of data $x \sim
# \mathcal{N}(0, \lambda)$, decoder $\mathcal{N}(wz, \sigma^2)$ with $\sigma^2$ fixed, encoder $q = \mathcal{N}(ax,
# s^2)$. Up to constants its expected loss is
#
# $$ J = \frac{(1 - wa)^2\lambda + w^2 s^2}{2\sigma^2} + \frac{\beta}{2}\left(a^2\lambda + s^2 - 1 - \log s^2\right).
# \tag{2.12} $$
#
# Write a loop that minimises $J$ over $w$, $a$ and $s^2$, for several $\lambda$ at once, in any way you like. The check
# gives it three directions, strong to weak, and two seconds for four sets. Then raise $\beta$ yourself, step by step:
# which of them dies at which price?
#
# <details class="hint"><summary>Hint 1</summary>
#
# Take turns: hold two of the three and set the third to the best value for them, where the derivative of $J$ by it
# vanishes. A few hundred rounds will do. (Adam on $w$, $a$ and $\log s^2$ works too, and is slower.)
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Where must you not start? Look at the derivatives by $w$ and $a$ at $w = a = 0$.
#
# </details>

# %% tags=["answer"]
def fit_coordinates(lam, sigma2, beta):
    """w, a and s2 at the least J, for each variance.

    lam (k,): the data's variances.  sigma2: the decoder's variance.  beta: the price.  Returns w, a, s2, each (k,).
    """
    ...

# %% tags=["check"]
sheet.check("2.17", fit_coordinates)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.17</summary>
#
# Each line sets one derivative to zero. At $w = a = 0$ both derivatives by them vanish, though it is no minimum for a
# strong direction: start elsewhere. A pair $-w, -a$ is as good as $w, a$.
#
# ```python
# def fit_coordinates(lam, sigma2, beta):
#     w = torch.ones_like(lam)
#     for _ in range(500):
#         a = w / (w**2 + beta * sigma2)
#         s2 = beta * sigma2 / (w**2 + beta * sigma2)
#         w = a * lam / (a**2 * lam + s2)
#     return w, a, s2
# ```
#
# As `beta` rises the directions die one after the other, the weakest first, each at its own price, as in
# figure 2.10. A dead one has $w = a = 0$ and $s^2 = 1$, the prior.
#
# </details>

# %% [markdown]
# **Exercise 2.18 (derive ★★★). The price at which it dies.** Minimise (2.12) by hand: first over $a$ and $s^2$, then
# over $w$. Return the best $w \ge 0$ for each $\lambda$. At which β does it become 0?
#
# <details class="hint"><summary>Hint 1</summary>
#
# Setting the derivatives by $a$ and $s^2$ to zero gives $a = \frac{w}{w^2 + \beta\sigma^2}$ and $s^2 =
# \frac{\beta\sigma^2}{w^2 + \beta\sigma^2}$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Put them back, and write $u = w^2 + \beta\sigma^2$: up to constants $J = \frac{\beta}{2}\left(\frac{\lambda}{u} +
# \log u\right)$. Which values can $u$ have?
#
# </details>

# %% tags=["answer"]
def best_weight(lam, sigma2, beta):
    """The w >= 0 of the least J, for each variance; 0 for a dead coordinate.

    lam (k,): the data's variances.  sigma2: the decoder's variance.  beta: the price.  Returns (k,).
    """
    ...

# %% tags=["check"]
sheet.check("2.18", best_weight)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 2.18</summary>
#
# $\frac{\lambda}{u} + \log u$ falls until $u = \lambda$ and rises after, and $u$ is at least $\beta\sigma^2$. So $w^2 =
# \lambda - \beta\sigma^2$ while that is positive, and $w = 0$ from $\beta = \lambda/\sigma^2$ on: a coordinate dies
# when its price exceeds the variance it explains, measured in noise variances. Strong directions survive longer, which
# is the staircase in figure 2.10 (Lucas et al. 2019).
#
# ```python
# def best_weight(lam, sigma2, beta):
#     return (lam - beta * sigma2).clamp(min=0).sqrt()
# ```
#
# </details>

# %%
sheet.summary()

# %% [markdown]
# ## Where the sources err
#
# **Equation 8.27 of the textbook, the KL between Gaussians.** It is printed as
# $\frac d2 + \frac12 \ln\det\Sigma - \mu^\top\mu - \lVert\Sigma\rVert^2$, introduced by an integrand, $\log(p/q)$
# under $q$, whose average is *minus* the KL. Minus (2.6) is
# $\frac d2 + \frac12 \ln\det\Sigma - \frac12\mu^\top\mu - \frac12 \operatorname{tr}\Sigma$. Hold the two side by side:
# the factor ½ is lost on the two quadratic terms and only there, and a squared norm stands where the trace belongs. The
# point that decides is $q = p$, where any divergence is 0. There the printed formula gives $-d/2$. Give it back its
# ½, and it passes that test, because at $\Sigma = I$ norm and trace agree; a second point tells these two apart. Used
# as a loss, the printed formula would not even be at its best at the prior: its derivative by a variance $s$,
# $\frac{1}{2s} - 2s$, vanishes at $s = \frac12$. The cell evaluates both points.
#
# <!-- from the textbook -->

# %%
def printed(mu, var):
    """Equation 8.27 as it stands, for a diagonal covariance."""
    return len(mu) / 2 + 0.5 * var.log().sum() - mu.square().sum() - var.square().sum()


def minus_kl(mu, var, square):
    """With the factor 1/2 restored; square: 2 keeps the squared norm, 1 is the trace, which is minus (2.6)."""
    return len(mu) / 2 + 0.5 * (var.log().sum() - mu.square().sum() - (var**square).sum())


torch.manual_seed(SEED)
prior_2 = distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
for name, mu, var in (("q = p", torch.zeros(2), torch.ones(2)), ("elsewhere", torch.tensor([0.3, 0.0]),
                                                                 torch.tensor([0.5, 0.6]))):
    q = distributions.MultivariateNormal(mu, var.diag())
    z = q.sample((1_000_000,))
    sampled = (prior_2.log_prob(z) - q.log_prob(z)).mean()
    print(f"{name:10} E_q[log p/q] by sampling {sampled:7.4f}   as printed {printed(mu, var):7.4f}   "
          f"with ½ {minus_kl(mu, var, 2):7.4f}   with ½ and the trace {minus_kl(mu, var, 1):7.4f}")
    assert abs(minus_kl(mu, var, 1) - sampled) < 0.005
least = torch.linspace(0.05, 2, 1951)
best = max(least, key=lambda s: printed(torch.zeros(1), s[None]))
print(f"the printed formula is greatest at a variance of {best:.3f}, (2.6) least at 1")

# %% [markdown]
# **"The KL should increase, but goes down."** The comment in the text stands beside figures that *increase*, 2,988 →
# 4,055 → 4,170 → 4,243 → 4,286 per batch at epochs 0, 10, 20, 30 and 40, as they should: a code that says
# more costs more. So they do here, in the textbook's own recipe.
#
# <!-- from the textbook -->
#
# **The test loss leaves out the KL, and sums per batch hide the short last batch.** The printed test figure is the
# reconstruction term alone, which always flatters a model with a larger code. And 10,000 images make 39 batches of
# 256 and one of 16. Divide the printed mean batch by 256, and the model looks two nats better than it is.
#
# <!-- from the textbook -->

# %%
printed_kl = [2988, 4055, 4170, 4243, 4286]
assert printed_kl == sorted(printed_kl)
print(f"KL in our two epochs of its recipe: {book_history['KL'][0]:.1f} -> {book_history['KL'][-1]:.1f} nats per image")
print(f"test images per batch, on average: {10_000 / 40:.0f}, not 256")
print(f"epoch 40 divided by 256:     {21_725 / 256:.1f} + {4_286 / 256:.1f} = {(21_725 + 4_286) / 256:.1f}")
print(f"epoch 40 with true counts:   {book_recon:.1f} + {book_kl:.1f} = {book_recon + book_kl:.1f}")
print(f"what leaving out the KL hides: {book_kl:.1f} nats")

# %% [markdown]
# ## References
#
# - Bowman, Vilnis, Vinyals, Dai, Jozefowicz, Bengio (2016). *[Generating sentences from a continuous
#   space](https://arxiv.org/abs/1511.06349).* CoNLL.
# - Burda, Grosse, Salakhutdinov (2016). *[Importance weighted autoencoders](https://arxiv.org/abs/1509.00519).* ICLR.
# - Chatterjee, Diaconis (2018). *[The sample size required in importance sampling](https://arxiv.org/abs/1511.01437).*
#   Annals of Applied Probability 28.
# - Higgins et al. (2017). *[beta-VAE: learning basic visual concepts with a constrained variational
#   framework](https://openreview.net/forum?id=Sy2fzU9gl).* ICLR.
# - Jordan et al. (2024). *[Muon: an optimizer for hidden layers in neural
#   networks](https://kellerjordan.github.io/posts/muon/).*
# - Kingma, Welling (2014). *[Auto-encoding variational Bayes](https://arxiv.org/abs/1312.6114).* ICLR.
# - Lucas, Tucker, Grosse, Norouzi (2019). *[Don't blame the ELBO! A linear VAE perspective on posterior
#   collapse](https://arxiv.org/abs/1911.02469).* NeurIPS.
# - Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan (2019). *[Do deep generative models know what they don't
#   know?](https://arxiv.org/abs/1810.09136)* ICLR.
# - Rezende, Mohamed, Wierstra (2014). *[Stochastic backpropagation and approximate inference in deep generative
#   models](https://arxiv.org/abs/1401.4082).* ICML.
# - Serrà et al. (2020). *[Input complexity and out-of-distribution detection with likelihood-based generative
#   models](https://arxiv.org/abs/1909.11480).* ICLR.
# - Sønderby, Raiko, Maaløe, Sønderby, Winther (2016). *[Ladder variational
#   autoencoders](https://arxiv.org/abs/1602.02282).* NeurIPS.
# - Tipping, Bishop (1999). *[Probabilistic principal component analysis](https://doi.org/10.1111/1467-9868.00196).*
#   Journal of the Royal Statistical Society B 61.
# - Williams (1992). *[Simple statistical gradient-following algorithms for connectionist reinforcement
#   learning](https://doi.org/10.1007/BF00992696).* Machine Learning 8.
