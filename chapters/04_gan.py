# ---
# jupyter:
#   jupytext:
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
# # 4. GAN
#
# **The question.** Every loss so far was written down by hand: so many nats for a pixel that is wrong. Such a loss
# prefers a blurred digit to a sharp one that is a pixel out of place, a preference that no radiologist would share. We
# cannot write down what makes a picture look real. But we can collect real pictures and false ones, and train a network
# to tell them apart. What if the loss were a network too?
#
# You will be able to
# - derive the best discriminator and what the game costs at its end, and see a trained discriminator find both;
# - say why the loss of the original game starves the generator, and what the usual remedy really minimises;
# - train the textbook's GAN and one that works, and say what is different and why;
# - read the loss curves of a GAN, which mostly means: not read too much into them;
# - make mode collapse visible, and measure it;
# - walk through a latent space and do arithmetic in it.
#
# Running time: about two and a half minutes on one core of an Intel Xeon, most of it training; measured by
# `make notebooks`.

# %%
import genmed_core  # first: it sets how threads wait

import inspect
import math

import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from genmed_core import data, kernels, metrics, nets, plots, runtime, train, widgets

SEED = runtime.chapter_seed(0)
device = runtime.device()
print(runtime.machine())

# %% [markdown]
# ## The data
#
# Handwritten digits in grey, as they come. The labels are not used for training; they will help us to judge.

# %%
train_set, val_set, test_set = (data.digits(split) for split in ("train", "val", "test"))
x_test = test_set.images.to(device) / 255
expect = metrics.Expectations("04_gan", source=test_set.source)

# %% mystnb={"image": {"alt": "Two rows of twenty real handwritten digits."}}
plots.show_grid(x_test[:40], columns=20)

# %% [markdown]
# ## The idea: a forger and a detective
#
# A **generator** $G$ turns noise $z \sim \mathcal{N}(0, I)$ into a picture $G(z)$. Whatever $G$ is, its pictures
# follow some distribution $p_g$; we cannot evaluate its density, but we can draw from it, and that will do. A
# **discriminator** $D$ looks at a picture and states the probability, $D(x) \in (0, 1)$, that it is real. It is a
# classifier like any other, trained by maximum likelihood on two classes of equal size. Twice its mean log-likelihood
# is
#
# $$ V(D, G) = \mathbb{E}_{x \sim p_r} \log D(x) + \mathbb{E}_{z} \log\big(1 - D(G(z))\big) . \tag{4.1} $$
#
# $D$ wants $V$ large. $G$ appears in the second term only, and wants $V$ small: it wants $D$ to be wrong. Goodfellow
# and others (2014) put this as a game, $\min_G \max_D V(D, G)$. There is no likelihood of an image in it, and no
# comparison of a generated image with any particular real one.
#
# ### The best discriminator
#
# Hold $G$ fixed. Write both expectations as one integral,
#
# $$ V(D, G) = \int \big[\, p_r(x) \log D(x) + p_g(x) \log(1 - D(x)) \,\big]\, dx , $$
#
# and choose $D(x)$ at every $x$ by itself. For $a, b > 0$ the function $a \log y + b \log(1 - y)$ is concave with
# derivative $a/y - b/(1-y)$, which is zero at $y = a/(a+b)$. So
#
# $$ D^*(x) = \frac{p_r(x)}{p_r(x) + p_g(x)} . \tag{4.2} $$
#
# This is Bayes' rule for "real or fake?" with even odds. Its log-odds are $\log p_r(x) - \log p_g(x)$: a good
# discriminator knows a **density ratio**, which is how the game gets by without densities.
#
# ### What the game costs
#
# Put (4.2) into $V$, and add and subtract $\log 2$ twice. With $m = (p_r + p_g)/2$,
#
# $$ V(D^*, G) = -2 \log 2 + \mathrm{KL}(p_r \,\|\, m) + \mathrm{KL}(p_g \,\|\, m)
#    = -2\log 2 + 2\, \mathrm{JS}(p_r, p_g) . \tag{4.3} $$
#
# The Jensen–Shannon divergence JS lies between 0, only for $p_g = p_r$, and $\log 2$, only where the two never
# overlap. So against a perfect opponent the best a generator can reach is $-2 \log 2 \approx -1.386$, and it reaches
# it by being right: $D^* = 1/2$ everywhere, a detective reduced to tossing coins.
#
# ### See it
#
# Take two densities on a line that we can write down. Train a small network on samples from them, and lay it over
# (4.2). Then train another on two samples of the *same* density. The network gives a score $s(x)$, any real number,
# and $D = \sigma(s)$. Then $-\log D = \log(1 + e^{-s})$, which torch calls `softplus(-s)`, and $-\log(1 - D)$ is
# `softplus(s)`: no logarithm of a rounded zero.

# %%
def mixture(weights, means, sds):
    return torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor(weights)),
        torch.distributions.Normal(torch.tensor(means), torch.tensor(sds)))


p_real = mixture([0.4, 0.6], [-2.0, 1.5], [0.5, 0.9])
p_fake = mixture([1.0], [0.0], [1.2])


def train_line_discriminator(p_r, p_g, steps=1000):
    """A network's scores trained to tell samples of p_r from samples of p_g, two densities on a line."""
    torch.manual_seed(SEED)
    D = nn.Sequential(nn.Linear(1, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)).to(device)
    reals, fakes = (p.sample((100_000,)).to(device) for p in (p_r, p_g))
    pairs = torch.stack([reals, fakes], 1).view(-1, 2, 1, 1)          # one real, one fake number in each row

    def loss_fn(batch):
        real, fake = D(batch.x[:, 0, 0]), D(batch.x[:, 1, 0])         # scores (B, 1)
        return (F.softplus(-real) + F.softplus(fake)).mean(), {}

    step = kernels.TrainStep(loss_fn, torch.optim.Adam(D.parameters(), lr=3e-3), model=D, seed=SEED,
                             batches=kernels.Batches(pairs, batch_size=512, device=device, seed=SEED),
                             schedule=kernels.linear_decay())
    train.fit(step, runtime.budget(steps), title="discriminator on a line")
    return D


D_line, D_same = train_line_discriminator(p_real, p_fake), train_line_discriminator(p_real, p_real)

# %%
x = torch.linspace(-6, 6, 4001)
dx = (x[1] - x[0]).item()
r, g = p_real.log_prob(x).exp(), p_fake.log_prob(x).exp()             # densities on the line
with torch.no_grad():
    trained, same = (D(x[:, None].to(device))[:, 0].cpu().sigmoid() for D in (D_line, D_same))
best = r / (r + g)                                                    # equation (4.2)


def value(D, r, g):
    """V(D, G) of (4.1) by quadrature."""
    return ((torch.xlogy(r, D) + torch.xlogy(g, 1 - D)).sum() * dx).item()


m = (r + g) / 2
js = 0.5 * (torch.xlogy(r, r / m) + torch.xlogy(g, g / m)).sum().item() * dx
print(f"two densities: V = {value(trained, r, g):.4f} trained, {-2 * math.log(2) + 2 * js:.4f} by (4.3)")
print(f"one density:   V = {value(same, r, r):.4f} trained, {-2 * math.log(2):.4f} = -2 log 2")

# %% mystnb={"image": {"alt": "The trained discriminator lies on the optimal one; on equal densities it is one half"}}
fig, axes = plots.figure(8, 2.9, 1, 2)
axes[0].plot(x, r, label="$p_r$")
axes[0].plot(x, g, label="$p_g$")
axes[0].set(xlabel="x", ylabel="density", xlim=(-5, 5))
axes[1].plot(x, best, color="black", linewidth=4, alpha=0.3, label="$D^* = p_r/(p_r+p_g)$")
axes[1].plot(x, trained, label="trained")
axes[1].plot(x, same, label="trained on equal densities")
axes[1].set(xlabel="x", ylabel="D(x)", xlim=(-4, 5), ylim=(0, 1.5), yticks=[0, 0.25, 0.5, 0.75, 1])
axes[0].legend()
axes[1].legend(fontsize=8.5, loc="upper center")
fig

# %% [markdown]
# The network never saw a density, only samples, and drew (4.2) wherever there were samples to learn from.

# %% tags=["nbval-check-output"]
off = ((trained - best).abs() * m).sum().item() * dx
expect("mean distance of the trained D from D*", off, below=0.03)
expect("distance of V from -2 log 2 when p_g = p_r", abs(value(same, r, r) + 2 * math.log(2)), below=0.01)

# %% [markdown]
# ## Why the generator starves
#
# Read (4.1) as the generator's loss: minimise $\mathbb{E}_z \log(1 - D(G(z)))$. At the start $D$ wins easily, so the
# scores of fakes are far below zero, and that is where this loss is flat. With $D = \sigma(s)$,
#
# $$ \frac{d}{ds} \log\big(1 - \sigma(s)\big) = -\sigma(s) \to 0,
#    \qquad \frac{d}{ds} \big[-\log \sigma(s)\big] = -\big(1 - \sigma(s)\big) \to -1
#    \qquad (s \to -\infty) . \tag{4.4} $$
#
# The first loss **saturates**: the more obvious the fake, the less the generator is told about it. The second is what
# everybody uses. Instead of making "fake" unlikely it makes "real" likely: the binary cross-entropy of a fake with the
# label *real*. Both push every score upwards. They differ in which fakes are heard, the best (first) or the worst
# (second). **LSGAN** (Mao and others 2017) has no sigmoid: its discriminator regresses to 1 on reals and 0 on fakes,
# and the generator minimises $\frac12 (D - 1)^2$. Its pull grows with the distance from 1.
#
# How bad is it when $D$ is *perfect*? Let $p_r = \mathcal{N}(0, 1)$ and $p_g = \mathcal{N}(\theta, 1)$; all the
# generator has to learn is $\theta = 0$. By (4.2) the best score is $s^*(x) = \log p_r - \log p_g = \theta^2/2 -
# \theta x$, with slope $-\theta$ in $x$, and fakes are $x = \theta + \epsilon$. So the gradient in $\theta$ is
#
# $$ \mathbb{E}_\epsilon\big[\ell'(s^*(\theta + \epsilon)) \cdot (-\theta)\big] , \tag{4.5} $$
#
# with $\ell'$ from (4.4). We compute it by quadrature.

# %%
eps = torch.linspace(-9, 9, 3001, dtype=torch.float64)
weight = torch.distributions.Normal(0.0, 1.0).log_prob(eps).exp()
weight = weight / weight.sum()
theta = torch.linspace(0.05, 8, 160, dtype=torch.float64)
D_star = torch.sigmoid(-theta[:, None] ** 2 / 2 - theta[:, None] * eps)    # at x = theta + eps: (theta, eps)
slopes = {"saturating": -D_star, "non-saturating": D_star - 1, "least squares": (D_star - 1) * D_star * (1 - D_star)}
pulls = {name: (theta, (slope @ weight) * -theta) for name, slope in slopes.items()}

# %% mystnb={"image": {"alt": "Gradient against distance: two losses fall to nothing, the non-saturating one grows"}}
plots.show_curves(pulls, x_label="distance θ of fakes from reals, standard deviations", y_label="gradient in θ",
                  log_y=True, y_range=(1e-5, 20), title="what a generator is told by a perfect discriminator")

# %% [markdown]
# At eight standard deviations the saturating loss whispers; the non-saturating one pulls in proportion to the
# distance. Least squares starves as well: a *perfect* regression is as flat as a perfect classifier far from the
# reals. In practice it helps because a network with a linear output seldom gets that flat.
#
# The remedy has a price. Along the perfect discriminator the non-saturating gradient is that of
# $\mathrm{KL}(p_g \| p_r) - 2\,\mathrm{JS}(p_r, p_g)$ (exercise 4.3). It charges heavily for drawing what is not real,
# and next to nothing for *not drawing* what is. Remember that when modes go missing.

# %% [markdown]
# ## The textbook's GAN
#
# Two multilayer perceptrons. $G$: 8–128–256–784 with LeakyReLU (slope 0.01) and a sigmoid, so pixels lie in $[0, 1]$.
# $D$: 784–256–128–1, the same backwards, sigmoid at the end. Binary cross-entropy; AdamW at 2e-4 for each; batches of
# 256. A training step has two halves:
# 1. $D$ minimises the mean of its cross-entropy on reals and on fakes, (real + fake)/2.
# 2. $G$ makes *fresh* fakes and minimises their cross-entropy with the label "real".
#
# In this project that is two `Update`s in one `TrainStep`. Each moves only the weights of its own optimiser, so
# neither player has to be frozen by hand.

# %%
def book_networks():
    """The textbook's generator and discriminator."""
    torch.manual_seed(SEED)
    G = nn.Sequential(nn.Linear(8, 128), nn.LeakyReLU(), nn.Linear(128, 256), nn.LeakyReLU(),
                      nn.Linear(256, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))
    D = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.LeakyReLU(), nn.Linear(256, 128), nn.LeakyReLU(),
                      nn.Linear(128, 1), nn.Sigmoid())
    return G.to(device), D.to(device)


def book_losses(G, D):
    def discriminator_loss(batch):
        with torch.no_grad():
            fake = G(torch.randn(len(batch.x), 8, device=device))
        on_real, on_fake = D(batch.x), D(fake)                        # probabilities (B, 1)
        loss = (F.binary_cross_entropy(on_real, torch.ones_like(on_real))
                + F.binary_cross_entropy(on_fake, torch.zeros_like(on_fake))) / 2
        return loss, {"D": loss.detach(), "D(real)": on_real.mean().detach(), "D(fake)": on_fake.mean().detach()}

    def generator_loss(batch):
        on_fake = D(G(torch.randn(len(batch.x), 8, device=device)))
        loss = F.binary_cross_entropy(on_fake, torch.ones_like(on_fake))
        return loss, {"G": loss.detach()}

    return discriminator_loss, generator_loss


def book_optimizer(net):
    return torch.optim.AdamW(net.parameters(), lr=2e-4)


# %% [markdown]
# Before we let them play, watch the starvation. Train $D$ alone, against a generator that has not learned anything,
# and measure the gradient that each of the two losses would send to the generator's weights.

# %%
def gradient_norms(G, D):
    """Norm of the gradient in G's weights under the saturating and the non-saturating loss."""
    on_fake = D[:-1](G(torch.randn(256, 8, device=device)))           # the score, before the sigmoid
    losses = {"saturating": -F.softplus(on_fake).mean(), "non-saturating": F.softplus(-on_fake).mean()}
    grads = {k: torch.autograd.grad(v, G.parameters(), retain_graph=True) for k, v in losses.items()}
    return {k: math.sqrt(sum(g.square().sum().item() for g in grad)) for k, grad in grads.items()}


G, D = book_networks()
norms = {0: gradient_norms(G, D)}
step = kernels.TrainStep(book_losses(G, D)[0], book_optimizer(D), model={"G": G, "D": D}, seed=SEED,
                         batches=kernels.Batches(train_set, batch_size=256, device=device, seed=SEED))
train.fit(step, runtime.budget(150), reports=15, title="D alone",
          callback=lambda step, _: norms.update({step.count: gradient_norms(G, D)}))
starved = {k: (list(norms), [n[k] for n in norms.values()]) for k in ("saturating", "non-saturating")}

# %% mystnb={"image": {"alt": "Norm of the gradient of G while D trains: the saturating one falls, the other does not"}}
plots.show_curves(starved, x_label="steps that D has trained alone", y_label="norm of G's gradient", log_y=True,
                  title="what reaches G while D trains alone")

# %% tags=["nbval-check-output"]
ratio = {k: v[1][-1] / v[1][0] for k, v in starved.items()}
expect("what is left of the saturating gradient", ratio["saturating"], below=0.1)
expect("what is left of the non-saturating gradient", ratio["non-saturating"], above=0.5)

# %% [markdown]
# In 150 steps the saturating gradient has fallen by orders of magnitude, while the other has, if anything, grown.
#
# Now the game. Twenty times during training we keep 500 pictures, always of the same codes, with the seconds that
# training has taken so far: later we shall want to compare at equal time.

# %%
BOOK_STEPS = 2500
pictures = {"the book's GAN": {}, "our GAN": {}}              # name -> {seconds of training: (500, 1, 28, 28) uint8}


def keeper(name, draw_fixed):
    """A callback that keeps what fixed codes are turned into, as uint8."""
    def keep(step, means):
        pictures[name][step.history.seconds] = (draw_fixed() * 255).round().byte().cpu()
    return keep


G_book, D_book = book_networks()
z_book = torch.randn(500, 8, device=device)
discriminator_loss, generator_loss = book_losses(G_book, D_book)
step = kernels.TrainStep([kernels.Update(discriminator_loss, book_optimizer(D_book)),
                          kernels.Update(generator_loss, book_optimizer(G_book))],
                         model={"G": G_book, "D": D_book}, seed=SEED,
                         batches=kernels.Batches(train_set, batch_size=256, device=device, seed=SEED))
book_history = train.fit(step, runtime.budget(BOOK_STEPS), reports=20, title="the book's GAN",
                         callback=keeper("the book's GAN", lambda: G_book(z_book).detach()))


# %% mystnb={"image": {"alt": "Loss curves: that of D falls close to zero, that of G rises"}}
curves = {name: (book_history.steps, book_history[name]) for name in ("D", "G")}
plots.show_curves(curves, x_label="step", y_label="cross-entropy, nats", lines={"log 2: nobody can tell": math.log(2)},
                  title="the book's GAN")

# %% mystnb={"image": {"alt": "Forty samples of the textbook GAN: round clouds of speckle, all much alike"}}
torch.manual_seed(SEED)
with torch.no_grad():
    x_book = G_book(torch.randn(2000, 8, device=device))
plots.show_grid(x_book[:40], columns=20, title="the book's GAN: the first forty of the seed")

# %% [markdown]
# If both played perfectly, both curves would sit at $\log 2$. Instead $D$ is certain, and the generator's loss
# *rises*. The textbook prints the same pattern, as sums over an epoch's 235 batches: $G$ from 746 to 2226, that is
# from 3.2 to 9.5 nats, and $D$ from 43.9 to 2.5, from 0.19 to 0.011. Is the generator getting worse? The curve cannot
# say. A GAN's loss is no distance to the data; it is a score in a match against one opponent, who improves.
#
# The samples are poor. (We stop after a fifth of the textbook's 50 epochs; GENMED_BUDGET=4.7 trains on to its end.)
# The reason is in the setting, not in the idea. A perceptron has to learn that neighbouring pixels belong together.
# Nothing holds $D$ back, so it soon separates the two clouds with certainty, and near any fake its score is then as
# steep and as arbitrary as it likes. The generator follows wherever it points.

# %% [markdown]
# ## A GAN that works
#
# Four changes, the first from DCGAN (Radford and others 2016), the others from the years since.
#
# **Convolutions.** The generator's noise becomes 64 small maps of $7 \times 7$, which are enlarged twice; the
# discriminator, which here returns the score $s$ itself and is then called a **critic**, shrinks a picture in the same
# way. Batch normalisation only in the generator, LeakyReLU throughout. DCGAN enlarged by fractionally strided
# convolutions; ours compute four times as many channels and rearrange them into pixels (`PixelShuffle`), which is
# cheaper here. The output is a tanh, so for this section **pixels lie in $[-1, 1]$**. Both networks are shared with the
# next two chapters, so they live in the core:

# %%
Markdown("```python\n" + inspect.getsource(nets.DigitGenerator) + "\n\n" + inspect.getsource(nets.DigitCritic) + "```")

# %% [markdown]
# **A discriminator that may not be steep.** Add to its loss the squared length of its score's gradient, at reals and at
# fakes (R1 and R2; Mescheder and others 2018, Huang and others 2024). The exact form needs a gradient of a gradient. A
# finite difference does not: for $n \sim \mathcal{N}(0, I)$,
#
# $$ \mathbb{E}_n \left( \frac{s(x + \varsigma n) - s(x)}{\varsigma} \right)^2
#    \;\approx\; \mathbb{E}_n \big( n^\top \nabla s(x) \big)^2 \;=\; \lVert \nabla s(x) \rVert^2 , \tag{4.6} $$
#
# because $\mathbb{E}[n n^\top] = I$. One more evaluation of $D$ on a slightly noisy picture, and the price is paid on
# every second image only. We take $\varsigma = 0.05$ and weight $\gamma = 0.1$. A score that changes slowly from
# picture to picture still points somewhere sensible at a bad fake. That it is needed for the game to converge at all,
# even in one dimension, is exercise 4.6.
#
# **An optimiser without momentum.** Adam with $\beta_1 = 0$: an average of past gradients is an average over past
# opponents. Rate 2e-3, constant for half of the training, then falling linearly to zero.
#
# **An average of generators.** The players circle around each other; the average of $G$'s weights over the last few
# hundred steps (decay 0.998; Yazıcı and others 2019) is steadier than any one of them. Samples are drawn from the
# average, `ema_model`.
#
# The losses are the non-saturating ones from above, as `softplus` of scores. One batch of fakes serves both players:
# $D$ learns from it, then $G$ is told what the new $D$ thinks of the same fakes. The batch is small, 32: in a minute,
# many small steps beat few large ones.

# %%
SIGMA, GAMMA, LATENT = 0.05, 0.1, 64


def make_losses(G, D):
    """Losses of the discriminator and of the generator, to be taken in this order; networks in bf16 where that pays."""
    made = {}                                                         # the fakes that both players use

    def scores(x):
        with runtime.autocast(device):
            return D(x)[:, 0]                                         # (B,)

    def discriminator_loss(batch):
        with runtime.autocast(device):
            made["fake"] = G(torch.randn(len(batch.x), LATENT, device=device)).float()
        x = torch.cat([2 * batch.x - 1, made["fake"].detach()])       # (2B, 1, 28, 28)
        moved = x[::2] + SIGMA * torch.randn_like(x[::2])             # every second image, a little noisy
        s, s_moved = scores(torch.cat([x, moved])).split([len(x), len(moved)])
        real, fake = s.chunk(2)
        loss = (F.softplus(-real) + F.softplus(fake)).mean()
        steepness = ((s_moved - s[::2]) / SIGMA).square().mean()      # equation (4.6)
        logs = {"D": loss.detach(), "D(real)": real.sigmoid().mean().detach(),
                "D(fake)": fake.sigmoid().mean().detach(), "steepness": steepness.detach()}
        return loss + GAMMA * steepness, logs

    def generator_loss(batch):
        loss = F.softplus(-scores(made["fake"])).mean()
        return loss, {"G": loss.detach()}

    return discriminator_loss, generator_loss


# %% [markdown]
# ## Train

# %%
STEPS, BATCH = 3000, 32


@torch.no_grad()
def draw(net, z, batch_size=500):
    """Pictures (N, 1, 28, 28) in [0, 1] for codes z (N, 64); the mode, train or eval, is left as it is."""
    return torch.cat([net(part) for part in z.split(batch_size)]).float() / 2 + 0.5


torch.manual_seed(SEED)
# channels_last is the order in memory that convolutions like best
G, D = (net.to(device, memory_format=torch.channels_last) for net in (nets.DigitGenerator(LATENT), nets.DigitCritic()))
discriminator_loss, generator_loss = make_losses(G, D)
adam = {"lr": 2e-3, "betas": (0.0, 0.99), "fused": True}
step = kernels.TrainStep([kernels.Update(discriminator_loss, torch.optim.Adam(D.parameters(), **adam)),
                          kernels.Update(generator_loss, torch.optim.Adam(G.parameters(), **adam))],
                         batches=kernels.Batches(train_set, batch_size=BATCH, device=device, seed=SEED),
                         model={"G": G, "D": D}, ema=0.998, seed=SEED,
                         schedule=kernels.linear_decay(warmup=0.0, flat=0.5))
E = step.ema_model["G"].eval()                                        # eval: normalise by running statistics
z_fixed = torch.randn(500, LATENT, device=device)
history = train.fit(step, runtime.budget(STEPS), reports=20, title="our GAN",
                    callback=keeper("our GAN", lambda: draw(E, z_fixed)))
print(f"trained for {history.seconds:.0f} s, the book's GAN for {book_history.seconds:.0f} s")

# %% [markdown]
# ## Look

# %% mystnb={"image": {"alt": "A hundred generated digits; most are crisp and legible, some are broken"}}
torch.manual_seed(SEED)
z = torch.randn(2000, LATENT, device=device)
x_ours = draw(E, z)
plots.show_grid(x_ours[:100], columns=20, title="our GAN: the first hundred of the seed")

# %% [markdown]
# Strokes are sharp and backgrounds black, as in the data. Some strokes lead nowhere: nothing in this loss knows what a
# digit is. Drag the slider through training, or press Play. The same codes are drawn throughout, by the book's
# generator on the left and ours on the right, each after the same seconds of training; the book's stands still when
# its training is over.

# %% tags=["nbval-check-output"]
def by_then(name, seconds):
    """The pictures last kept within so many seconds of training; the first ones kept before that."""
    kept = pictures[name]
    return kept[max([s for s in kept if s <= seconds], default=min(kept))]


times = list(pictures["our GAN"])
scrubber = widgets.FrameSlider([[plots.tile(by_then(name, s)[:30], 5, 6) for name in pictures] for s in times],
                               labels=[f"{s:.0f} s" for s in times], description="trained for",
                               captions=list(pictures), start=-1, width=220)
print([scrubber.show(i)[0].shape for i in (0, -1)])

# %%
scrubber

# %% [markdown]
# Ours finds ink on black within a few seconds, strokes next, and digits last. Watch single codes: even late they
# change from one digit into another. No code is *meant* to be any digit.

# %% [markdown]
# ## Measure
#
# Without a likelihood we have to judge the samples themselves. [How the measures work](measuring.md) has its own page;
# in short, all of them look at the 128 features of our reader of digits. The **Fréchet distance** (FD) fits
# a Gaussian to the features of 2,000 samples and one to those of real test images and compares means and covariances.
# **Precision** asks how many samples lie among real ones, **recall** how many real ones lie among samples. The floor
# is what 2,000 *real* images score: no generator can be expected to do better.

# %%
samples = {"the book's GAN": x_book, "our GAN": x_ours}
reports = {name: metrics.sample_report(x, test_set, held_out=val_set) for name, x in samples.items()}
Markdown(metrics.report_table(reports))

# %% [markdown]
# The book's generator draws one thing. Ours draws all ten digits, none below 3 %. Its recall is close to the floor, but
# do not trust that alone: scattered drawings have large neighbourhoods and buy recall. Coverage, which they cannot buy,
# is well below its floor. So is precision, for about two in five drawings lie outside the real ones, and the distance
# is more than ten times the floor. Diversity above 1 is no merit; half-drawn shapes between classes raise it.
#
# **Batch normalisation** leaves a choice. While training, the generator normalises each layer by the mean and
# variance of its batch; in `eval` mode it uses running averages of these, which were collected from $G$ while its
# weights moved, not from the averaged weights. Does that matter? Draw the same codes both ways, and a third time
# after collecting the statistics afresh.

# %%
def refresh_statistics(net, z):
    """Set the running statistics of batch normalisation to averages over batches of 500 codes of z."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None                                     # None: a plain average over batches
    draw(net.train(), z)
    return net.eval()


running = x_ours
in_batch = draw(E.train(), z)
E = refresh_statistics(E, torch.randn(5000, LATENT, device=device))
x_ours = draw(E, z)
features = {name: metrics.digit_features(x.clamp(0, 1)) for name, x in
            {"running": running, "batches of 500": in_batch, "refreshed": x_ours}.items()}
real_features = metrics.digit_features(test_set)
for name, f in features.items():
    print(f"{name:15s} Fréchet distance {metrics.frechet_distance(real_features, f):.1f}")

# %% [markdown]
# Hardly: the three differ by a few per cent. Towards the end the rate goes to zero, $G$ stands nearly still, and
# averages collected then fit. But never draw a single picture in training mode: it would be normalised by its own mean
# and variance.
#
# The last of the three goes on the [scoreboard](scoreboard.md), beside the main models of the other chapters.

# %% tags=["nbval-check-output"]
_, per_image = metrics.timed_samples(lambda: draw(E, z))
final = metrics.sample_report(x_ours, test_set, held_out=val_set)
expect.model("GAN", report=final, samples=x_ours.clamp(0, 1), real=test_set, train_seconds=history.seconds,
             sample_seconds=per_image, parameters=E)

# %% [markdown]
# ### What the loss curves do not tell
#
# Here is the Fréchet distance of the 500 pictures that we kept at every twentieth of both trainings, beside the
# generator's loss at that time. The dashed lines: 500 real images, and $\log 2$.

# %% mystnb={"image": {"alt": "Left: Frechet distance over seconds of training. Right: the loss of G"}}
tracks = {name: [metrics.frechet_distance(real_features, metrics.digit_features(p.to(device))) for p in kept.values()]
          for name, kept in pictures.items()}
floor_500 = metrics.frechet_distance(real_features, metrics.digit_features(val_set.images[:500].to(device)))
fig, axes = plots.figure(8, 2.8, 1, 2)
for name, logged in (("the book's GAN", book_history), ("our GAN", history)):
    axes[0].plot(list(pictures[name]), tracks[name], label=name)
    axes[1].plot(list(pictures[name]), logged["G"], label=name)
for ax, level in zip(axes, (floor_500, math.log(2))):
    ax.axhline(level, color="#777777", linestyle="--", linewidth=1.2)
axes[0].set(xlabel="seconds of training", ylabel="Fréchet distance", yscale="log")
axes[1].set(xlabel="seconds of training", ylabel="generator's loss, nats")
axes[0].legend()
fig

# %%
for name, logged in (("the book's GAN", book_history), ("our GAN", history)):
    pair = torch.stack([torch.tensor(logged["G"]), torch.tensor(tracks[name]).log()])
    print(f"{name}: correlation of the generator's loss with log Fréchet distance {torch.corrcoef(pair)[0, 1]:+.2f}")
equal = [metrics.frechet_distance(real_features, metrics.digit_features(by_then(name, book_history.seconds).to(device)))
         for name in pictures]
print(f"both after {book_history.seconds:.0f} s: Fréchet distance {equal[0]:.0f} (book) and {equal[1]:.0f} (ours)")

# %% [markdown]
# At equal time the book's distance is more than ten times ours. Could the losses have told us? Ours stays near 1 nat
# while the distance falls to a fraction. The book's climbs to seven or so, and its distance wanders without a trend.
# For ours the sign is even the wrong one: while the distance falls fastest our generator's loss *rises*, for $D$ gets
# better too; later it changes little, and so do the pictures.
#
# What the curves do tell is who is winning. When $D$'s loss goes to zero, as the book's did within a few hundred
# steps, the match is over, and training on will not help. To know whether pictures improve, measure pictures.
#
# ## Mode collapse
#
# Nothing in the generator's loss mentions variety. It is a mean over single fakes: if one picture fools $D$, then
# drawing that picture always is as good as any other reply. $D$ notices in time that this picture is always fake, the
# generator moves to the next, and they may go round for ever. This is **mode collapse**, and it is best seen where
# one can see everything: real points on a ring of eight small Gaussians. Five games with different beginnings are
# played at once, by stacking their weights.

# %%
GAMES = 5
angle = torch.arange(8) * math.pi / 4
centres = 2 * torch.stack([angle.cos(), angle.sin()], 1).to(device)   # (8, 2)


class Stack(nn.Module):
    """GAMES perceptrons side by side: x (GAMES, B, in) -> (GAMES, B, out)."""

    def __init__(self, *sizes):
        super().__init__()
        pairs = list(zip(sizes, sizes[1:]))
        self.weights = nn.ParameterList([(2 * torch.rand(GAMES, i, o) - 1) / math.sqrt(i) for i, o in pairs])
        self.biases = nn.ParameterList([torch.zeros(GAMES, 1, o) for _, o in pairs])

    def forward(self, x):
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = torch.baddbmm(bias, F.relu(x) if k else x, weight)
        return x


def modes_covered(points):
    """How many of the eight Gaussians hold at least 1 % of the points, in each game: points (GAMES, N, 2)."""
    distance, nearest = torch.cdist(points, centres.expand(GAMES, 8, 2)).min(2)
    on_mode = (nearest[..., None] == torch.arange(8, device=points.device)) & (distance[..., None] < 0.2)
    return (on_mode.float().mean(1) > 0.01).sum(1).tolist()


# %% [markdown]
# Three games: the plain one, non-saturating; LSGAN, which differs in two lines; and the plain one with penalty (4.6),
# here with $\gamma = 0.2$. All use Adam with $\beta_1 = 0.5$, as DCGAN did.

# %%
def play(kind, steps=1500, B=128, gamma=0.2):
    """Points of five generators, (GAMES, 2000, 2), after each quarter of the game of this kind."""
    torch.manual_seed(SEED)
    G, D = Stack(8, 64, 64, 2).to(device), Stack(2, 64, 64, 1).to(device)
    ring = centres[torch.randint(0, 8, (40_000,), device=device)] + 0.05 * torch.randn(40_000, 2, device=device)

    def fakes(n=B):
        return G(torch.randn(GAMES, n, 8, device=device))

    def discriminator_loss(batch):
        x = torch.cat([batch.x.view(GAMES, B, 2), fakes().detach()], 1)
        real, fake = D(x).chunk(2, dim=1)
        loss = ((real - 1) ** 2 + fake**2) / 2 if kind == "least squares" else F.softplus(-real) + F.softplus(fake)
        loss = loss.mean((1, 2)).sum()                                # a sum over games: each has its own weights
        if kind == "smooth":
            change = (D(x + SIGMA * torch.randn_like(x)) - torch.cat([real, fake], 1)) / SIGMA
            loss = loss + gamma * change.square().mean((1, 2)).sum()
        return loss, {"D": loss.detach() / GAMES}

    def generator_loss(batch):
        score = D(fakes())
        loss = (score - 1) ** 2 / 2 if kind == "least squares" else F.softplus(-score)
        return loss.mean((1, 2)).sum(), {}

    opt = [torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.99)) for net, lr in ((D, 3e-3), (G, 1e-3))]
    step = kernels.TrainStep([kernels.Update(discriminator_loss, opt[0]), kernels.Update(generator_loss, opt[1])],
                             model={"G": G, "D": D}, seed=SEED, batches=kernels.Batches(
                                 ring.view(-1, 1, 1, 2), batch_size=GAMES * B, device=device, seed=SEED))
    kept = []
    train.fit(step, runtime.budget(steps), reports=4, title=f"ring, {kind}",
              callback=lambda *_: kept.append(fakes(2000).detach()))
    return kept


rings = {kind: play(kind) for kind in ("plain", "least squares", "smooth")}
covered = {kind: modes_covered(kept[-1]) for kind, kept in rings.items()}

# %% mystnb={"image": {"alt": "Points on the ring, by loss and time; only the smooth game ends on all eight"}}
fig, axes = plots.figure(7.5, 5.6, 3, 4, sharex=True, sharey=True)
for row, (kind, kept) in zip(axes, rings.items()):
    row[0].set_ylabel(kind)
    for k, (ax, points) in enumerate(zip(row, kept)):
        ax.scatter(*centres.T.cpu(), s=60, facecolors="none", edgecolors="#999999", linewidths=1)
        ax.scatter(*points[0, :500].T.cpu(), s=2)
        ax.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", title=f"{25 * (k + 1)} %" if kind == "plain" else None)
fig

# %%
for kind, counts in covered.items():
    print(f"{kind:14s} modes covered in five games: {counts}; all eight in {sum(c == 8 for c in counts)} of {GAMES}")

# %% [markdown]
# The plain game ends on some of the modes, in none of the five games on all eight, and with some points on the lines
# between them. (The figure shows the first of the five.) In the first pictures its points were everywhere: they *left*
# modes. Least squares does no better here. With the penalty the same networks, as many steps and the same generator's
# loss cover the whole ring. So collapse is not a lack of room in $G$. A $D$ that may be steep can be flat everywhere
# but near the fakes, and then no slope leads to a mode that nobody draws.
#
# ### On digits
#
# Nobody can see 784 dimensions, but our reader can sort samples into ten classes.

# %% mystnb={"image": {"alt": "Share of each digit: real level, the textbook GAN one class only, ours all ten"}}
by_class = {"real test digits": metrics.class_coverage(test_set.labels), "the book's GAN": reports["the book's GAN"],
            "our GAN": reports["our GAN"]}
fig, axes = plots.figure(8, 2.5, 1, 3, sharey=True)
for ax, (name, scored), colour in zip(axes, by_class.items(), plots.COLOURS):
    ax.bar(range(10), [100 * share for share in scored["shares"]], color=colour)
    ax.axhline(3, color="#777777", linestyle="--", linewidth=1)
    ax.set(title=f"{name}: {scored['entropy']:.2f} bits", xlabel="read as", xticks=range(10))
axes[0].set_ylabel("share of samples, %")
fig

# %% [markdown]
# The dashed line is at 3 %, our bar for "this class is there"; entropy is at most $\log_2 10 = 3.32$ bits. Class
# shares see only the coarsest collapse: a generator with one perfect picture of each digit would pass. That is what
# recall and the diversity within classes are for.

# %% [markdown]
# ## Walking through the latent space
#
# If $G$ had merely stored pictures, then between two codes it would fade from one into the other. Take pairs of codes
# and walk. A detail first: a Gaussian code of 64 numbers has length close to $\sqrt{64} = 8$, and practically never
# less than 6. The midpoint of two has length $8/\sqrt2 \approx 5.7$, where $G$ has never been. So we walk along the
# **great circle** instead of the straight line,
#
# $$ z(t) = \frac{\sin((1 - t)\,\omega)}{\sin \omega}\, a + \frac{\sin(t\,\omega)}{\sin \omega}\, b ,
#    \qquad \cos \omega = \frac{a^\top b}{\lVert a \rVert \lVert b \rVert} , \tag{4.7} $$
#
# which keeps the length.

# %%
def walk(a, b, t):
    """Great-circle walk: codes a, b (B, d), t (T,) -> (B, T, d).  Equation (4.7)."""
    omega = torch.acos(F.cosine_similarity(a, b)).view(-1, 1, 1)
    t = t.view(1, -1, 1)
    return (torch.sin((1 - t) * omega) * a[:, None] + torch.sin(t * omega) * b[:, None]) / torch.sin(omega)


# %% mystnb={"image": {"alt": "Five walks between two codes; one digit turns into another by plausible strokes"}}
t = torch.linspace(0, 1, 11, device=device)
path = walk(z[:5], z[5:10], t)                                        # (5, 11, 64)
plots.show_grid(draw(E, path.flatten(0, 1)), columns=11, column_labels=[f"{v:.1f}" for v in t.tolist()], width=6)

# %% [markdown]
# One digit turns into the other by moving strokes, with no double exposure on the way. In numbers: how sure is the
# reader of what it sees at 500 midpoints?

# %%
a, b = z[:500], z[500:1000]
half, faded = torch.tensor([0.5], device=device), "cross-fade of the two pictures"
midpoints = {"the ends themselves": draw(E, a), "great circle": draw(E, walk(a, b, half)[:, 0]),
             "straight line": draw(E, (a + b) / 2), faded: (draw(E, a) + draw(E, b)) / 2}
sure = {name: (metrics.read_digits(x.clamp(0, 1)).amax(1) > 0.9).float().mean().item() for name, x in midpoints.items()}
for name, share in sure.items():
    print(f"{name:32s} read with more than 90 % certainty: {100 * share:.0f} %")

# %% [markdown]
# The generator's midpoints are read as surely as its ends, those of the cross-fade are not: it has not stored pictures.
# Here the straight line does almost as well: this generator copes with the thin middle.
#
# ### Directions that mean something
#
# A GAN has no encoder, but labels for codes are cheap: draw, and measure the drawing. We measure ink (the mean pixel)
# and slant (the shear of the ink) for 3,000 codes and regress them on $z$. The weights of a linear regression are a
# direction in latent space.

# %%
def ink_and_slant(x):
    """x (B, 1, 28, 28) -> (B, 2): mean pixel, and shear of the ink in pixels per row, positive to the right."""
    x = x[:, 0].clamp(0, 1)
    place = torch.arange(28.0, device=x.device)
    total = x.sum((1, 2)) + 1e-6
    dy = place - (x.sum(2) @ place / total)[:, None]                  # (B, 28) rows
    dx = place - (x.sum(1) @ place / total)[:, None]                  # (B, 28) columns
    shear = torch.einsum("bij,bi,bj->b", x, dy, dx) / (torch.einsum("bij,bi->b", x, dy**2) + 1e-6)
    return torch.stack([x.mean((1, 2)), -shear], 1)


torch.manual_seed(SEED + 1)
codes = torch.randn(3000, LATENT, device=device)
drawn = draw(E, codes)
looks = ink_and_slant(drawn)
looks = (looks - looks.mean(0)) / looks.std(0)
fit = torch.linalg.lstsq(codes[:2000], looks[:2000]).solution         # (64, 2)
explained = 1 - (codes[2000:] @ fit - looks[2000:]).square().mean(0)
directions = F.normalize(fit, dim=0)                                  # unit length
print(f"share of variance on 1,000 further codes: ink {explained[0]:.2f}, slant {explained[1]:.2f}")

# %% mystnb={"image": {"alt": "Two codes moved along ink, from thin to thick, and along slant, from left to right"}}
steps = torch.linspace(-4, 4, 9, device=device)
rows = [(f"{name}, code {i}", z[i] + steps[:, None] * directions[:, k])
        for k, name in enumerate(("ink", "slant")) for i in (2, 3)]
plots.show_grid(torch.cat([draw(E, line) for _, line in rows]), columns=9, row_labels=[name for name, _ in rows],
                column_labels=[f"{v:+.0f}" for v in steps.tolist()], width=6)

# %% [markdown]
# ### Arithmetic
#
# Radford and others subtracted codes of faces: glasses minus no glasses, plus another person. Ours: take digits that
# the reader calls 1, average the codes of the tenth that leans most to the right, subtract the average of the tenth
# that leans most to the left, and add the difference to codes of *other* digits. If it leans them too, "slant" means
# the same thing for all.

# %%
digit = metrics.read_digits(drawn.clamp(0, 1)).argmax(1)
ones, others = codes[digit == 1], codes[digit != 1][:500]
order = looks[digit == 1][:, 1].argsort()
tenth = max(5, len(ones) // 10)
lean = ones[order[-tenth:]].mean(0) - ones[order[:tenth]].mean(0)     # leaning right minus leaning left
random = F.normalize(torch.randn_like(others), dim=1) * lean.norm()
plain = draw(E, others)
before = metrics.read_digits(plain.clamp(0, 1)).argmax(1)
for name, shift in (("half the difference", lean / 2), ("the difference", lean), ("a random step as far", random)):
    x_leaned = draw(E, others + shift)
    gained = ink_and_slant(x_leaned)[:, 1] - ink_and_slant(plain)[:, 1]
    stays = (metrics.read_digits(x_leaned.clamp(0, 1)).argmax(1) == before).float().mean()
    print(f"+ {name:22s}{100 * (gained > 0).float().mean():3.0f} % lean further right, "
          f"by {gained.mean():+.2f} pixels a row; {100 * stays:.0f} % keep their digit")

# %% [markdown]
# The lean comes over to practically all of them, and random steps of the same length bring none on average: slant means
# the same thing to every digit. But with the whole difference more than half turn into another digit. Most of that is
# the length of the step: a random one as long changes nearly as many. The rest says that slant and class are not quite
# kept apart, and nothing in the game asked for it.

# %% [markdown]
# ## Walk yourself
#
# The sliders below run the generator in your browser. Sixty-four sliders would be no help, so a linear layer goes in
# front: it maps six numbers to a code. The first two are the directions of ink and slant. The other four are the
# directions in which the generator's first layer $W$ reacts most, the leading eigenvectors of $W^\top W$ (Shen and Zhou
# 2021); they were found without any label, and what they mean you will have to find out by moving them.

# %%
W = E.net[0].weight.detach()                                          # (3136, 64)
strongest = torch.linalg.eigh(W.T @ W).eigenvectors[:, -4:].flip(1)   # (64, 4)
panel = nn.Linear(6, LATENT)
with torch.no_grad():
    panel.weight.copy_(2 * torch.cat([directions, strongest], 1).cpu())
    panel.bias.copy_(z[2].cpu())
names = ["ink", "slant", *(f"direction {i}" for i in range(1, 5))]
explorer = widgets.LatentExplorer([panel, E.net], z0=[0.0] * 6, names=names, z_range=2.5,
                                  alt="Digit drawn by the GAN's generator, for")

# %% [markdown]
# First as a plain function: the browser's arithmetic, with weights rounded to 16 bits, against the network.

# %% tags=["nbval-check-output"]
positions = torch.cat([torch.zeros(1, 6), 2 * torch.eye(6), -2 * torch.eye(6)])
with torch.no_grad():
    from_network = draw(E, panel(positions).to(device))[:, 0].cpu()
worst = max((explorer.decode(p) - x).abs().max().item() for p, x in zip(positions, from_network))
print("slider and network agree:", worst < 0.05)

# %%
explorer

# %% [markdown]
# And one walk with a single slider, in a straight line through the thin middle:

# %%
between = widgets.LatentExplorer.between(E.net, z[3], z[8], alt="Digit between two codes,")
assert between.decode([0.5]).shape == (28, 28)
between

# %% [markdown]
# ## In medicine
#
# GANs gave medical imaging its first sharp synthetic pictures, and its translators: from MR to CT, from one scanner's
# look to another's. What we saw on digits is less harmless there.
#
# *What is rare goes first.* A discriminator hardly notices the absence of a mode that makes up one case in two hundred,
# and by exercise 4.3 the generator is hardly charged for it. The rare disease is the likeliest thing to be left out,
# and no loss curve says so. Count what is there.
#
# *Plausible is not true.* The adversarial loss asks whether a picture could be real, never whether it is right for
# *this* patient. Cohen, Luck and Honari (2018) trained translators between MR contrasts on sets with different shares
# of tumours, and they added or removed tumours as the sets' shares required, in perfectly plausible images.
#
# *There is no likelihood.* A VAE can flag an unusual scan by its bound. A GAN cannot: its discriminator has learned
# to tell reals from *its own* generator's fakes, and answers arbitrarily about anything else.

# %% [markdown]
# ## What this chapter promises

# %% tags=["nbval-check-output"]
book = reports["the book's GAN"]
expect("smallest share of a class among our samples", min(final["shares"]), above=0.03)
expect("Fréchet distance of our samples", final["fd"], below={"mnist": 140, "strokes": 120})
expect("recall of our samples", final["recall"], above=0.7)
expect("Fréchet distance of the book's GAN, in multiples of ours", book["fd"] / final["fd"], above=10)
expect("the same after equal time", equal[0] / equal[1], above=4)
expect("plain games of five that cover the ring", sum(c == 8 for c in covered["plain"]), below=2)
expect("smooth games of five that cover the ring", sum(c == 8 for c in covered["smooth"]), above=3)
expect("midpoints read surely: great circle minus cross-fade", sure["great circle"] - sure[faded], above=0.1)

# %% [markdown]
# ## Exercises
#
# **Exercise 4.1 (review). Architecture and objectives.** Describe the two networks of a GAN, what each is given and
# what it returns. Write both objectives of the textbook's GAN as binary cross-entropies, and say what the labels are
# in each. Show that $D$'s is $-V/2$, and check with code.

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 4.1</summary>
#
# $G$ takes noise and returns a picture; $D$ takes a picture and returns the probability that it is real. With
# $\mathrm{BCE}(p, y) = -y \log p - (1 - y) \log(1 - p)$: $D$ minimises $\frac12[\mathrm{BCE}(D(x), 1) +
# \mathrm{BCE}(D(G(z)), 0)] = -\frac12 [\log D(x) + \log(1 - D(G(z)))]$, on average $-V/2$. $G$ minimises
# $\mathrm{BCE}(D(G(z)), 1) = -\log D(G(z))$: the label is false on purpose. That is not $V$, but the non-saturating
# substitute. Each player's gradient is used for its own weights only.
#
# </details>

# %% tags=["solution", "nbval-check-output"]
torch.manual_seed(0)
on_real, on_fake = torch.rand(1000), torch.rand(1000)                 # any two sets of probabilities
V = on_real.log().mean() + (1 - on_fake).log().mean()
bce = (F.binary_cross_entropy(on_real, torch.ones(1000)) + F.binary_cross_entropy(on_fake, torch.zeros(1000))) / 2
print("D's loss is -V/2:", torch.isclose(bce, -V / 2).item())

# %% [markdown]
# **Exercise 4.2. The best discriminator is a logistic regression.** For $p_r = \mathcal{N}(0, 1)$ and $p_g =
# \mathcal{N}(\theta, 1)$, show that $D^*$ is a logistic regression and find its two coefficients. Fit one to 200,000
# samples with $\theta = 2$ and compare.

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 4.2</summary>
#
# $\log p_r(x) - \log p_g(x) = \frac12[(x - \theta)^2 - x^2] = \theta^2/2 - \theta x$. So $D^*(x) = \sigma(w x + b)$
# with $w = -\theta$ and $b = \theta^2/2$: for $\theta = 2$ both have size 2. The loss is convex, so Newton's method
# in two unknowns finds them.
#
# </details>

# %% tags=["solution", "nbval-check-output"]
generator = torch.Generator().manual_seed(0)
reals, fakes = torch.randn(2, 200_000, generator=generator, dtype=torch.float64)
points = torch.cat([reals, fakes + 2])
inputs = torch.stack([points, torch.ones_like(points)], 1)            # (N, 2): x and a constant
labels = torch.cat([torch.ones(200_000), torch.zeros(200_000)]).double()
coefficients = torch.zeros(2, dtype=torch.float64)
for _ in range(20):                                                   # Newton
    p = torch.sigmoid(inputs @ coefficients)
    hessian = (inputs * (p * (1 - p))[:, None]).T @ inputs
    coefficients -= torch.linalg.solve(hessian, inputs.T @ (p - labels))
print("w near -2 and b near 2:", bool((coefficients - torch.tensor([-2.0, 2.0])).abs().max() < 0.05))

# %% [markdown]
# **Exercise 4.3. What the remedy minimises.** Show that with $D = D^*$ held fixed, the gradient of $\mathbb{E}_{x
# \sim p_g}[-\log D^*(x)]$ in the generator's parameters is that of $\mathrm{KL}(p_g \| p_r) - 2\,\mathrm{JS}(p_r,
# p_g)$. Check it for the two Gaussians of (4.5). What does it say about missing modes?

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 4.3</summary>
#
# Write $-\log D^* = \log\frac{p_g}{p_r} - \log\frac{p_g}{p_r + p_g}$, since $D^* = p_r/(p_r+p_g)$. Only the sampling
# density is differentiated. For the first part: the gradient of $\mathrm{KL}(p_g\|p_r) = \int p_g \log(p_g/p_r)$ is
# $\int \nabla p_g \log (p_g / p_r) + \int \nabla p_g$, and the last integral is 0. For the second: by (4.3) with
# $D^*$ optimal, the gradient of $2\,\mathrm{JS}$ is that of $V$ with $D^*$ held fixed, $\int \nabla p_g \log(1 - D^*)
# = \int \nabla p_g \log \frac{p_g}{p_r + p_g}$. Subtract. $\mathrm{KL}(p_g\|p_r)$ averages over *fakes*: a region
# that is real and never drawn contributes nothing, and the JS part even has the wrong sign (Arjovsky and Bottou
# 2017).
#
# </details>

# %% tags=["solution", "nbval-check-output"]
def kl_minus_2js(theta):
    x = eps + theta / 2
    r, g = (torch.exp(-0.5 * (x - mean) ** 2) / math.sqrt(2 * math.pi) for mean in (0.0, theta))
    js2 = torch.xlogy(r, 2 * r / (r + g)) + torch.xlogy(g, 2 * g / (r + g))
    return theta**2 / 2 - js2.sum() * (eps[1] - eps[0])               # KL of two unit Gaussians is theta^2 / 2


at = torch.tensor(1.5, dtype=torch.float64)
slope = (kl_minus_2js(at + 1e-4) - kl_minus_2js(at - 1e-4)) / 2e-4
pull = (torch.sigmoid(-at**2 / 2 - at * eps) - 1) @ weight * -at      # equation (4.5), non-saturating
print("the two gradients agree:", bool((slope - pull).abs() < 1e-5))

# %% [markdown]
# **Exercise 4.4. Least squares.** Let LSGAN's discriminator regress to $b$ on reals and $a$ on fakes, and its
# generator minimise $\frac12 \mathbb{E}_{p_g}(D - c)^2$. Find the best $D$. Show that for $b - c = 1$, $b - a = 2$,
# and with the real term $\frac12 \mathbb{E}_{p_r}(D - c)^2$ added (it does not depend on $G$), the generator
# minimises half of Pearson's $\chi^2(p_r + p_g \,\|\, 2 p_g) = \int \frac{(2 p_g - (p_r + p_g))^2}{p_r + p_g}$. Check
# with the densities from the start.

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 4.4</summary>
#
# Pointwise, $p_r (D - b)^2 + p_g (D - a)^2$ is least at $D^* = (b\,p_r + a\,p_g)/(p_r + p_g)$. Then $D^* - c = [(b -
# c) p_r + (a - c) p_g]/(p_r + p_g) = (p_r - p_g)/(p_r + p_g)$, for $a - c = (b - c) - (b - a) = -1$. So the loss is
# $\frac12 \int (p_r + p_g) \frac{(p_r - p_g)^2}{(p_r + p_g)^2}$, and $2 p_g - (p_r + p_g) = p_g - p_r$. It lies
# between 0 and 1, and like JS it is flat where the two do not overlap.
#
# </details>

# %% tags=["solution", "nbval-check-output"]
r, g = p_real.log_prob(x).exp(), p_fake.log_prob(x).exp()
b_, a_, c_ = 1.0, -1.0, 0.0
D_ls = (b_ * r + a_ * g) / (r + g)
loss = 0.5 * ((r + g) * (D_ls - c_) ** 2).sum() * dx
chi2 = ((2 * g - (r + g)) ** 2 / (r + g)).sum() * dx
print("the loss is half of Pearson's chi squared:", torch.isclose(loss, chi2 / 2).item())

# %% [markdown]
# **Exercise 4.5 (review). VAE against GAN.** Compare the two in what is optimised, what networks are needed, whether
# there is a likelihood and an encoder, the look of the samples, and how each fails.

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 4.5</summary>
#
# | | VAE | GAN |
# |---|---|---|
# | optimises | a bound on $\log p(x)$, one loss for both networks | a game of two losses |
# | networks | encoder and decoder | generator and discriminator, which is thrown away |
# | likelihood | bounded from below | none |
# | from picture to code | the encoder | only by a search, or by training one more network |
# | samples | smooth, every mode covered: it pays dearly for an image it cannot explain | sharp, modes may be missing |
# | training | one loss that falls | balance, no curve that measures success |
# | typical failure | blur, unused latent dimensions | collapse, oscillation |
#
# </details>

# %% [markdown]
# **Exercise 4.6. The smallest GAN.** Let the real distribution be a single point at 0, the generator a point at
# $\theta$, and the discriminator the linear score $s(x) = \psi x$ (Mescheder and others 2018). To see the dynamics
# alone, take $V = -\psi\theta$, which is (4.1) to first order but for a constant and a factor ½: $G$ moves by
# $-\eta\, \partial V / \partial \theta$ and $D$ by $+\eta\, \partial V/\partial \psi$, both at once. Show that every
# step multiplies the distance from the solution $(0, 0)$ by $\sqrt{1 + \eta^2}$. Then add the penalty
# $\frac{\gamma}{2} \lVert \nabla_x s \rVert^2$ to $D$'s loss, and find when it converges.

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 4.6</summary>
#
# $\theta' = \theta + \eta \psi$, $\psi' = \psi - \eta \theta$, so
# $\theta'^2 + \psi'^2 = (1 + \eta^2)(\theta^2 + \psi^2)$: the players spiral outwards at any rate, and the solution is
# the one place they never find. The penalty is $\frac\gamma2 \psi^2$ and turns the second equation into
# $\psi' = (1 - \eta\gamma) \psi - \eta \theta$. The matrix
# $\begin{pmatrix} 1 & \eta \\ -\eta & 1 - \eta\gamma \end{pmatrix}$ has determinant $1 - \eta\gamma + \eta^2$. While
# its eigenvalues are a complex pair, $\gamma < 2$, their squared size is that determinant: below 1 exactly if
# $\gamma > \eta$. For $\gamma \ge 2$ they are real, and both lie inside $(-1, 1)$ as long as
# $\gamma < 2/\eta + \eta/2$. So the game converges exactly if $\eta < \gamma < 2/\eta + \eta/2$: too strong a penalty
# overshoots.
#
# </details>

# %% tags=["solution", "nbval-check-output"]
def one_step(eta, gamma):
    return torch.tensor([[1.0, eta], [-eta, 1 - eta * gamma]], dtype=torch.float64)


after = (torch.linalg.matrix_power(one_step(0.1, 0.0), 200) @ torch.tensor([1.0, 0.0]).double()).norm().item()
print(f"distance after 200 steps of 0.1, without penalty: {after:.4f}, by the formula {1.01 ** 100:.4f}")
for penalty in (0.05, 0.1, 0.5, 20.0, 20.1):
    print(f"penalty {penalty:5}: largest eigenvalue {torch.linalg.eigvals(one_step(0.1, penalty)).abs().max():.4f}")

# %% [markdown]
# **Exercise 4.7. A gradient without a gradient.** Check (4.6) on our trained critic: compare the finite difference,
# averaged over many $n$, with the exact $\lVert \nabla s \rVert^2$ for eight real images, at $\varsigma = 0.05$ and
# at $\varsigma = 0.5$. Why is it called smoothing, not penalising?

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 4.7</summary>
#
# At the small $\varsigma$ the two agree up to the sampling error of 2,000 draws and the curvature between $x$ and
# $x + \varsigma n$. The noise of 784 pixels has length $28\,\varsigma$, so even 0.05 is a step of 1.4, not an
# infinitesimal one: what is penalised is the change of the score over a *neighbourhood*, which for $\varsigma = 0.5$
# has little to do with the slope at $x$.
#
# </details>

# %% tags=["solution"]
torch.manual_seed(SEED)
x8 = (2 * x_test[:8] - 1).requires_grad_()
exact = torch.autograd.grad(D(x8).sum(), x8)[0].flatten(1).square().sum(1)
x8 = x8.detach()
for sigma in (0.05, 0.5):
    with torch.no_grad():
        moved = torch.stack([D(x8 + sigma * torch.randn_like(x8))[:, 0] for _ in range(2000)])
        estimate = ((moved - D(x8)[:, 0]) / sigma).square().mean(0)
    print(f"noise {sigma}: finite difference / exact {(estimate.sum() / exact.sum()).item():.2f}")

# %% [markdown]
# **Exercise 4.8 (review). Troubles and remedies.** Name four things that go wrong in GAN training, and for each a
# remedy and the place in this chapter where you have seen it.

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 4.8</summary>
#
# *Starvation*: $D$ is too sure, the saturating gradient vanishes; non-saturating loss, a $D$ that is kept smooth.
# *Collapse*: few modes; the smoothness penalty on the ring, and in the chapters to come another distance (6) or the
# labels (5). *Oscillation*: the players circle; the penalty (exercise 4.6), no momentum, a falling rate, averaged
# weights. *No stopping rule*: the losses do not measure quality; Fréchet distance, recall, class shares with their
# floors.
#
# </details>

# %% [markdown]
# ## What the sources get wrong
#
# **"The output of the discriminator goes through a Softmax."** The network has one output, and a softmax over one
# number is 1 whatever the number is: its gradient is zero, and nothing would ever be learned. It is a sigmoid, in the
# textbook's own code too. The two meet when there are two outputs: softmax$(s_1, s_2)_1 = \sigma(s_1 - s_2)$.

# %% tags=["nbval-check-output"]
score = torch.randn(5, 1, generator=torch.Generator().manual_seed(0), requires_grad=True)
one = score.softmax(1)
one.log().sum().backward()
pair = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
print("softmax of one output:", one.flatten().tolist(), " its gradient is zero:", bool((score.grad == 0).all()))
print("softmax of two is a sigmoid of their difference:",
      torch.allclose(pair.softmax(1)[:, 0], torch.sigmoid(pair[:, 0] - pair[:, 1])))

# %% [markdown]
# **"If the discriminator cannot tell them apart, the generator is strong enough."** By (4.3) that holds for the
# *best* discriminator among all functions. A particular one that cannot tell may simply be weak, or badly trained.
# Let reals be $\mathcal{N}(0, 1)$ and let the "generator" toss a coin between $-1$ and $+1$. The two have no point in
# common, to speak of: JS is at its maximum. Yet the best *linear* discriminator is $D = 1/2$ everywhere, value
# $-2\log2$. For $V$ is concave in the coefficients of a score $w x + b$, and at zero its gradient is half the
# difference of the means, which is zero. Terms in $x^2$ and $x^3$ change nothing, for these means agree as well. Only
# $\mathbb{E}\,x^4$, 3 against 1, gives the forger away:

# %% tags=["nbval-check-output"]
generator = torch.Generator().manual_seed(0)
reals = torch.randn(100_000, generator=generator, dtype=torch.float64)
coins = torch.randint(0, 2, (100_000,), generator=generator).double() * 2 - 1


def best_value(degree, iterations=10):
    """The value that Newton's method reaches over logistic regressions on 1, x, ..., x^degree."""
    x = torch.cat([reals, coins])[:, None] ** torch.arange(degree + 1)
    y = torch.cat([torch.ones_like(reals), torch.zeros_like(coins)])
    w = torch.zeros(x.shape[1], dtype=torch.float64)
    for _ in range(iterations):
        p = torch.sigmoid(x @ w)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * torch.eye(x.shape[1], dtype=torch.float64)
        w -= torch.linalg.solve(hessian, x.T @ (p - y))
    return -(F.softplus(-(x @ w)[y == 1]).mean() + F.softplus((x @ w)[y == 0]).mean()).item()


for degree in (1, 3, 4):
    gain = best_value(degree) + 2 * math.log(2)
    print(f"polynomial of degree {degree}: V + 2 log 2 = {gain:.1f}, of at most {2 * math.log(2):.1f}")

# %% [markdown]
# ## References
#
# - I. Goodfellow and others. *Generative adversarial nets.* NeurIPS 2014. The game, (4.2), (4.3), both generator
#   losses.
# - A. Radford, L. Metz, S. Chintala. *Unsupervised representation learning with deep convolutional generative
#   adversarial networks.* ICLR 2016. DCGAN; interpolation and latent arithmetic.
# - X. Mao and others. *Least squares generative adversarial networks.* ICCV 2017.
# - M. Arjovsky, L. Bottou. *Towards principled methods for training generative adversarial networks.* ICLR 2017.
#   Vanishing gradients, and exercise 4.3.
# - L. Mescheder, A. Geiger, S. Nowozin. *Which training methods for GANs do actually converge?* ICML 2018. Gradient
#   penalties at reals (R1) and fakes (R2), and exercise 4.6.
# - N. Huang and others. *The GAN is dead; long live the GAN! A modern GAN baseline.* NeurIPS 2024. R1 and R2
#   together.
# - Y. Yazıcı and others. *The unusual effectiveness of averaging in GAN training.* ICLR 2019.
# - Y. Shen, B. Zhou. *Closed-form factorization of latent semantics in GANs.* CVPR 2021.
# - M. Heusel and others. *GANs trained by a two time-scale update rule converge to a local Nash equilibrium.* NeurIPS
#   2017. The Fréchet distance.
# - J. P. Cohen, M. Luck, S. Honari. *Distribution matching losses can hallucinate features in medical image
#   translation.* MICCAI 2018.
