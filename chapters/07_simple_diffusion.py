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
# # 7. Simple diffusion
#
# **The question.** To spoil a picture is easy: add a little noise, and again, until nothing can be seen. If a network
# could undo one small step, we might start from pure noise and walk all the way back to a digit. What is the least that
# makes this work? The textbook offers a very small model: two layers, twenty-five steps. We rebuild it, find out what
# holds it back, and repair it with the same two layers.
#
# You will be able to
# - make a noisy picture in two ways, step by step and in one go, and show that they are the same;
# - say what a network learns when it is trained to guess noise, and how well anyone *could* guess it;
# - catch a loss that cannot tell a good model from a bad one, before training anything;
# - derive the reverse step by Bayes' rule, and see what happens when its noise is left out;
# - train a two-layer network that draws the digit you ask for, and watch it do so, step by step.
#
# Running time: about three minutes of processor time on one core, most of it training; measured by `make notebooks`.

# %%
import genmed_core  # first: it sets how threads wait

import math

import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from genmed_core import data, diffusion, exercises, kernels, metrics, plots, runtime, train, widgets

SEED = runtime.chapter_seed(0)
device = runtime.device()
print(runtime.machine())

# %% [markdown]
# ## The data
#
# Digits in grey, pixels from 0 to 1, not shifted or scaled. (The textbook cuts them to black and white, at level 128.)
# We shall ask for digits by name, so the labels are used.

# %%
train_set, val_set, test_set = (data.digits(split) for split in ("train", "val", "test"))
expect = metrics.Expectations("07_simple_diffusion", source=test_set.source)
sheet = exercises.sheet("07_simple_diffusion")
x_test, y_test = test_set.images[:2000].to(device) / 255, test_set.labels[:2000].to(device)
one_of_each = torch.stack([x_test[(y_test == digit).nonzero()[0, 0]] for digit in range(10)])  # (10, 1, 28, 28)

# %% [markdown]
# ## The idea: spoil it slowly
#
# Start from an image $x_0$. At every step add fresh Gaussian noise of standard deviation $\sigma = 0.3$, and change
# nothing else:
#
# $$ x_t = x_{t-1} + \sigma e_t, \qquad e_t \sim \mathcal{N}(0, I), \qquad t = 1, \dots, T, \quad T = 25. \tag{7.1} $$
#
# This **forward process** has nothing to learn. (Diffusion models begin with Sohl-Dickstein et al. 2015. Chains that
# add noise and do not shrink the image are those of Song and Ermon 2019 and Karras et al. 2022.) Nor need we walk it. A
# sum of independent Gaussians is Gaussian, and variances add, so
#
# $$ x_t = x_0 + \sigma \sum_{s=1}^{t} e_s = x_0 + \sqrt{t}\,\sigma\,\varepsilon,
#    \qquad \varepsilon = \frac{1}{\sqrt t} \sum_{s=1}^{t} e_s \sim \mathcal{N}(0, I). \tag{7.2} $$
#
# One draw takes us to any step. At the end the noise has standard deviation $\sqrt{25} \cdot 0.3 = 1.5$, and a pixel
# only 1 between black and white.
#
# In the prose $t$ counts from 1, as in the papers. In code an index `t` counts from 0, so that `t = 0` is the first
# step; `level(t)` below is the number of steps taken, shaped to multiply images.

# %%
SIGMA, T = 0.3, 25  # noise of one step, number of steps: yours to change, before you run what follows


def level(t):
    """Steps of noise in x_t: t (B,) int64 in 0..T-1 -> 1..T as float (B, 1, 1, 1)."""
    return (t + 1).float().view(-1, 1, 1, 1)


def walk(x0, e):
    """Step by step, (7.1): x0 (B, 1, 28, 28), e (T, B, 1, 28, 28) -> x_0 ... x_T as one tensor (T + 1, ...)."""
    path = [x0]
    for noise in e:
        path.append(path[-1] + SIGMA * noise)
    return torch.stack(path)


def jump(x0, t, eps):
    """In one go, (7.2): x0, eps (B, 1, 28, 28), t (B,) int64 -> x_t."""
    return x0 + level(t).sqrt() * SIGMA * eps


# %% mystnb={"image": {"alt": "Ten digits at seven noise steps; by step 25 there is little to see but noise"}}
g = torch.Generator().manual_seed(SEED)
path = walk(one_of_each.cpu(), torch.randn(T, 10, 1, 28, 28, generator=g))
shown = [t for t in (0, 1, 2, 4, 9, 16) if t < T] + [T]
plots.show_rows({f"t = {t}": (path[t] + 1) / 3 for t in shown}, width=6)

# %% [markdown]
# **Figure 7.1.** The forward process. Grey runs from −1 to 2, for noise leaves the range of the data; even so the last
# rows are clipped, so that they show less noise than (7.2) says.
#
# At $t = 4$ most digits of figure 7.1 can be told, at $t = 25$ hardly any: by eye. What a network can tell is another
# matter.
#
# **The same, in two senses.** If the one draw is made from the many, $\varepsilon = \sum e_s / \sqrt t$, both ways give
# the *same picture*. If it is drawn afresh, they give pictures of the *same distribution*: their noise has equal means
# and variances, it is Gaussian, and no step and no pixel knows of another. We check the picture to rounding, and the
# distribution by the Kolmogorov–Smirnov distance, the largest gap between two distribution functions. For samples of
# $n$ numbers each, a gap above $1.95 \sqrt{2/n}$ would come up once in a thousand tests of equal distributions.

# %%
fixed = torch.Generator().manual_seed(7)                   # not SEED: this is a proof, and it should not vary
schedule = diffusion.Schedule.simple(T, SIGMA)             # the core's engine for the same chain
x0, e = torch.zeros(400, 1, 28, 28), torch.randn(T, 400, 1, 28, 28, generator=fixed)
chain = walk(x0, e)
same_picture, ks, limit = 0.0, {}, 1.95 * math.sqrt(2 / x0.numel())
for steps in (1, T // 5, T):
    t = torch.full((400,), steps - 1)
    eps = e[:steps].sum(0) / math.sqrt(steps)
    for other in (jump(x0, t, eps), diffusion.q_sample(x0, t, eps, schedule)):
        same_picture = max(same_picture, (other - chain[steps]).abs().max().item())
    fresh = jump(x0, t, torch.randn(x0.shape, generator=fixed)).flatten()
    both = torch.stack([chain[steps].flatten(), fresh]).sort(1).values                # (2, n)
    below = [torch.searchsorted(one, both.flatten(), right=True) / len(one) for one in both]
    ks[steps] = (below[0] - below[1]).abs().max().item()
    print(f"t = {steps:2}: sd {chain[steps].std():.4f} walked, {fresh.std():.4f} jumped, {SIGMA * steps**0.5:.4f} by "
          f"(7.2);  gap of the distributions {ks[steps]:.4f}, limit {limit:.4f}")

# %% tags=["nbval-check-output"]
expect("largest difference of the two ways with the same noise", same_picture, below=1e-5)
expect("largest Kolmogorov-Smirnov gap with fresh noise, of its limit", max(ks.values()) / limit, below=1)

# %% [markdown]
# **Exercise 7.1 (code ★). From one level of noise to another.** `x_s` (B, 1, H, W) holds images that have gone `s`
# steps of (7.1) already, `s` (B,) int64 counted as in the prose, another number for each image. Take them on to `t`
# steps, $t > s$, with *one* draw `eps` of standard normal noise; `sigma` is the standard deviation of one step. (7.2)
# is the case $s = 0$. A sampler that goes back too far and has to add noise again needs this.
#
# <details class="hint"><summary>Hint 1</summary>
#
# What is the variance of the noise that $x_t$ has and $x_s$ has not?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Variances may be subtracted, standard deviations may not. A factor for each image has shape (B, 1, 1, 1).
#
# </details>

# %% tags=["answer"]
def onward(x_s, s, t, eps, sigma):
    """From s steps of noise to t steps, s < t, in one go.

    x_s, eps (B, 1, H, W), s, t (B,) int64, sigma a number.  Returns x_t, shaped like x_s.
    """
    ...

# %% tags=["check"]
sheet.check("7.1", onward)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.1</summary>
#
# The steps from $s$ to $t$ are $t - s$ independent draws of variance $\sigma^2$ each, and their sum is one draw of
# variance $(t - s)\sigma^2$.
#
# ```python
# def onward(x_s, s, t, eps, sigma):
#     return x_s + sigma * (t - s).float().sqrt().view(-1, 1, 1, 1) * eps
# ```
#
# </details>

# %% [markdown]
# ## Slider: noise on a picture of your choice
#
# Left walked, right jumped, with different noise. At which step do you lose the digit? `CHOICE` may be the number of a
# test image or a picture of your own, 28 by 28 numbers from 0 (black) to 1, for instance
# `torchvision.io.read_image("mine.png")[0] / 255`.

# %%
CHOICE = 0


def noise_slider(choice, seed=SEED):
    """A slider over the steps: the walked and the jumped x_t of a test image, or of a (28, 28) picture."""
    picture = x_test[choice].cpu() if isinstance(choice, int) else torch.as_tensor(choice).float()
    x0, g = picture.view(1, 1, 28, 28), torch.Generator().manual_seed(seed)
    walked = walk(x0, torch.randn(T, 1, 1, 28, 28, generator=g))                      # (T + 1, 1, 1, 28, 28)
    t = torch.arange(T)
    jumped = jump(x0.expand(T, -1, -1, -1), t, torch.randn(T, 1, 28, 28, generator=g))
    jumped = torch.cat([x0, jumped])
    frames = [[(w[0, 0] + 1) / 3, (j[0] + 1) / 3] for w, j in zip(walked, jumped)]
    return widgets.FrameSlider(frames, description="steps of noise", captions=["walked", "jumped"], interval=400)


slider = noise_slider(CHOICE)
for steps in (0, T // 5, T):
    left, right = slider.frame(steps)
    print(f"{steps:2} steps: grey level {left.mean() / 85 - 1:5.2f} ± {left.std() / 85:.2f} walked, "
          f"{right.mean() / 85 - 1:5.2f} ± {right.std() / 85:.2f} jumped")

# %%
slider

# %% [markdown]
# ## What a guess of the noise can know
#
# Now backwards. Given $x_t$, someone is to guess what was added. The textbook has its network guess the *last* step's
# noise, $\sigma e_t$. One could also ask for the *total* noise $\sqrt t \sigma \varepsilon$, or for the clean image
# $x_0$. Before we train anything: what is the best possible answer to each?
#
# A network trained by squared error has one best answer. For any $x_t$ and any target $a$,
# $\mathbb{E}[\|f - a\|^2 \mid x_t]$ is smallest at the **posterior mean**
#
# $$ f^*(x_t) = \mathbb{E}[a \mid x_t], \tag{7.3} $$
#
# the average over everything that could have led to this $x_t$. Not a likely image, but the mean of all candidates:
# late in the chain a blur. Write $\hat x_0 = \mathbb{E}[x_0 \mid x_t]$. The total noise is $x_t - x_0$, so its best
# guess is $x_t - \hat x_0$. And the last step's? The order in which noise was added left no trace in $x_t$, so that
# $e_1, \dots, e_t$ all have the *same* posterior mean, and together they make up the total:
#
# $$ \mathbb{E}[\sigma e_t \mid x_t] = \frac1t\, \mathbb{E}\Big[\sum_s \sigma e_s \,\Big|\, x_t\Big]
#    = \frac{x_t - \hat x_0}{t}. \tag{7.4} $$
#
# So all three targets have the same optimum, in different clothes. But they do not have the same *noise*. Let $m_t$ be
# the mean squared error per pixel of $\hat x_0$. What is left over by a posterior mean is uncorrelated with every
# function of $x_t$, so variances add: $t\sigma^2 = \mathbb{E}(x_t - \hat x_0)^2 + m_t$. The share of the target's
# variance that (7.4) explains is therefore
#
# $$ R^2_t = \frac{\mathbb{E}(x_t - \hat x_0)^2 / t^2}{\sigma^2} = \frac1t - \frac{m_t}{t^2\sigma^2} \;\le\; \frac1t,
#    \qquad \text{for the total noise:} \quad 1 - \frac{m_t}{t\sigma^2}. \tag{7.5} $$
#
# Even someone who *knows* $x_0$ explains only a $t$-th of the last step, for that is to know the sum of $t$ numbers and
# is asked for one of them. At $t = 25$ that leaves $\frac{24}{25}$ of the target as pure chance, and a network has to
# find the rest in it.
#
# To measure this we need a world whose posterior mean is known. Here is one: let the data be 1,000 training images and
# no others. Then Bayes' rule weighs each of them by how well it explains $x_t$:
#
# $$ \hat x_0 = \sum_n w_n x^{(n)}, \qquad
#    w_n \propto \exp\!\Big(\!-\frac{\|x_t - x^{(n)}\|^2}{2t\sigma^2}\Big). \tag{7.6} $$
#
# **The same under another name.** The density of $x_t$ is a mean of Gaussians, $p(x_t) = \mathbb{E}_{x_0}
# \mathcal{N}(x_t; x_0, t\sigma^2 I)$. Take the gradient of its logarithm: $\nabla \log p(x_t) = (\hat x_0 - x_t) /
# (t\sigma^2)$, with (7.6) for $\hat x_0$. So a denoiser knows the way uphill, the **score**, and to train it by squared
# error is *denoising score matching* (Hyvärinen 2005, Vincent 2011; Song and Ermon 2019 draw with it).

# %%
world = train_set.images[:1000].to(device).float().flatten(1) / 255                  # (N, 784)


def world_x0(x_t, t):
    """The exact E[x_0 | x_t] when the data are the images of `world`, (7.6)."""
    x = x_t.flatten(1)
    score = (x @ world.T - world.square().sum(1) / 2) / (level(t).view(-1, 1) * SIGMA**2)  # |x|^2 cancels
    return (score.softmax(1) @ world).view_as(x_t)


def explained(guess, target):
    """R^2: the share of the target's variance that a guess explains."""
    return 1 - ((guess - target).square().mean() / target.square().mean()).item()


torch.manual_seed(SEED)
x0, r2 = world[:500].view(-1, 1, 28, 28), {"last": [], "total": [], "(7.5)": []}
for step in range(1, T + 1):
    t = torch.full((len(x0),), step - 1, device=device)
    before, last = jump(x0, t - 1, torch.randn_like(x0)), SIGMA * torch.randn_like(x0)  # x_{t-1} and what is added
    x_t = before + last
    x0_hat = world_x0(x_t, t)
    r2["last"].append(explained((x_t - x0_hat) / step, last))                           # (7.4)
    r2["total"].append(explained(x_t - x0_hat, x_t - x0))
    m_t = (x0_hat - x0).square().mean().item()
    r2["(7.5)"].append(1 / step - m_t / (step * SIGMA) ** 2)

# %% mystnb={"image": {"alt": "R squared by step: near 1 for the total noise, one over t for the last step's"}}
steps = range(1, T + 1)
fig, ax = plots.figure(6, 2.9)
ax.plot(steps, r2["total"], "o-", markersize=4, label="total noise")
ax.plot(steps, r2["last"], "o", markersize=4, label="last step's noise")
ax.plot(steps, [1 / s for s in steps], color="black", linewidth=1, label="1/t")
ax.set(xlabel="step t", ylabel="share explained, R²", ylim=(0, 1.05))
ax.legend()
fig

# %% [markdown]
# **Figure 7.2.** The share of each target's variance that the best guess explains, when the data are 1,000 images.
#
# In figure 7.2 the curve of the last step lies on $1/t$: with 1,000 candidates the clean image is nearly always found,
# $m_t \approx 0$, and it does not help.
#
# ## The textbook's model
#
# In full. Input: 784 noisy pixels, the step as one-hot vector of 25, the label as one-hot vector of 10. One hidden
# layer of 784 units with ReLU. Output: 784 numbers, **standardised** image by image to mean 0 and standard deviation
# $\sigma$, because that is what noise looks like. Loss: mean squared error to the last step's noise. Sampling: begin
# with $x_T \sim \mathcal{N}(0, T\sigma^2)$ and subtract the guess 25 times, $x_{t-1} = x_t - \sigma u$, where
# $\sigma u$ is the output.
#
# The class takes the last operation as an argument, since that is what we shall change.

# %% [markdown]
# **Exercise 7.2 (code ★). The textbook's head.** Before you look at the next cell: write the textbook's last operation.
# `out` (B, 784) are the raw outputs for B images. Each *image* is to have mean 0 and standard deviation `sigma`.
# Whatever the network says, its output then looks like noise of the right size; the rest of this chapter asks whether
# that helps.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Along which axis are the numbers of one image? Keep that axis, with size 1, in the mean and in the spread.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Subtract, divide, multiply. (`F.layer_norm` does the first two.)
#
# </details>

# %% tags=["answer"]
def head(out, sigma):
    """Each image's outputs, standardised to mean 0 and standard deviation sigma.

    out (B, 784), sigma a number.  Returns (B, 784).
    """
    ...

# %% tags=["check"]
sheet.check("7.2", head)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.2</summary>
#
# Divide the sum of squares by the number of pixels or by one less: with 784 of them it hardly matters.
#
# ```python
# def head(out, sigma):
#     centred = out - out.mean(1, keepdim=True)
#     return sigma * centred / out.std(1, keepdim=True)
# ```
#
# </details>

# %%
def standardised(out):
    """The textbook's head: each image's 784 outputs to mean 0 and standard deviation sigma."""
    return SIGMA * F.layer_norm(out, out.shape[1:])                   # subtracts the mean, divides by the spread


class Denoiser(nn.Module):
    """x_t (B, 1, 28, 28), t (B,), y (B,) int64 -> head of two layers, shaped like x_t."""

    def __init__(self, head, width=784):
        super().__init__()
        self.hidden, self.out, self.head = nn.Linear(784 + T + 10, width), nn.Linear(width, 784), head

    def forward(self, x_t, t, y):
        told = torch.cat([x_t.flatten(1), F.one_hot(t, T), F.one_hot(y, 10)], 1)     # (B, 819)
        with runtime.autocast(device):
            out = self.out(F.relu(self.hidden(told)))
        return self.head(out.float()).view_as(x_t)


# %% tags=["nbval-check-output"]
print(f"{metrics.parameter_count(Denoiser(standardised)):,} parameters")

# %% [markdown]
# Training, as printed: Adam at a rate of 0.1; batches of 512; for every batch all 25 steps in random order, an update
# of the weights after each. The textbook does this for 50 epochs, some 146,000 updates. <!-- from the textbook -->
#
# We take 600 here, which is a glance and no judgement. What the *loss* can tell, however long one trains, is
# decided below.

# %%
class TextbookLoss:
    """The textbook's loss: keeps a batch for T calls and gives each of the T steps one of them."""

    def __init__(self, model):
        self.model, self.calls = model, 0

    def __call__(self, batch):
        if self.calls % T == 0:
            self.batch, self.order = batch, torch.randperm(T)
        x0, y = self.batch
        t = self.order[self.calls % T].to(device).expand(len(x0))
        self.calls += 1
        before, last = jump(x0, t - 1, torch.randn_like(x0)), SIGMA * torch.randn_like(x0)
        return (self.model(before + last, t, y) - last).square().mean(), {}


def textbook_step(lr, width):
    torch.manual_seed(SEED)
    model = Denoiser(standardised, width).to(device)
    return kernels.TrainStep(TextbookLoss(model), torch.optim.Adam(model.parameters(), lr=lr), model=model, seed=SEED,
                             batches=kernels.Batches(train_set, batch_size=512, seed=SEED, device=device), mode="eager")


def fit_textbook(lr, updates, title, width=784):
    step, updates = textbook_step(lr, width), runtime.budget(updates)
    return step.model, train.fit(step, updates, title=title, reports=max(1, updates // T))


# %%
book, book_history = fit_textbook(0.1, 600, "the textbook's recipe")
slow, slow_history = fit_textbook(0.001, 200, "the same at a rate of 0.001")

# %% [markdown]
# **Exercise 7.3 (predict ★). Who scores best.** The loss is the mean squared error to the last step's noise, averaged
# over all 25 steps. Before any number is shown: which of these four has the lowest?
#
# - (a) The perfect standardised guess: its direction is that of the true noise $x_t - x_0$, which it has been told.
# - (b) A network that outputs zeros, whatever it is shown.
# - (c) The input $x_t$ itself, standardised: no idea of digits.
# - (d) The network just trained, after its last update.
#
# <details class="hint"><summary>Hint 1</summary>
#
# What does each of them score when $t$ is large, and the last step is one of many?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Write the error of a guess as its own square, plus the target's, less twice their product. For zeros only one of the
# three is left.
#
# </details>

# %% tags=["answer"]
choice_7_3 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("7.3", choice_7_3)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.3</summary>
#
# Zeros score $\sigma^2$. A standardised guess of correlation $\rho$ with the target scores $2\sigma^2(1 - \rho)$, which
# is more unless $\rho > \frac12$; and from $t = 5$ on even the perfect direction has $\rho = 1/\sqrt t < \frac12$.
#
# ```python
# choice_7_3 = "b"
# ```
#
# </details>

# %% [markdown]
# What should we hope for? Three reference points, none of which needs a network. Saying **nothing** (all zeros) scores
# the target's variance, $\sigma^2$. A standardised vector that knows **nothing**, at right angles to the target, scores
# $2\sigma^2$. And the **perfect** standardised guess? Its direction has to be that of (7.4), the total noise, whose
# correlation with one of its $t$ equal parts is $1/\sqrt t$. Both have standard deviation $\sigma$, so its error is
#
# $$ \sigma^2 + \sigma^2 - 2\,\frac{1}{\sqrt t}\,\sigma^2 = 2\sigma^2\Big(1 - \frac{1}{\sqrt t}\Big), \tag{7.7} $$
#
# which is *more* than $\sigma^2$ from $t = 5$ on, where $1/\sqrt t < \frac12$.

# %%
torch.manual_seed(SEED)
scored = {"perfect, measured": [], "its own input, standardised": []}
for step in range(1, T + 1):
    before, last = math.sqrt(step - 1) * SIGMA * torch.randn(500, 784), SIGMA * torch.randn(500, 784)
    x_t = x_test[:500].flatten(1).cpu() + before + last
    for name, guess in zip(scored, (before + last, x_t)):             # the truth about x_0; no idea of x_0
        scored[name].append((standardised(guess) - last).square().mean().item())
scored = {name: sum(values) / T for name, values in scored.items()}
mean_perfect = sum(2 * SIGMA**2 * (1 - step**-0.5) for step in range(1, T + 1)) / T
best_of_all = SIGMA**2 * (1 - sum(1 / step for step in range(1, T + 1)) / T)
rows = {"standardised, at right angles": 2 * SIGMA**2, "zeros": SIGMA**2, "perfect, by (7.7)": mean_perfect, **scored,
        "best of all, by (7.4) and (7.5)": best_of_all, "the textbook's recipe": book_history["loss"][-1],
        "the same at a rate of 0.001": slow_history["loss"][-1]}
for name, value in rows.items():
    print(f"{name:33}{value:.4f}")

# %% mystnb={"image": {"alt": "The textbook's loss falls little and stays above that of a model that outputs zeros"}}
plots.show_curves({"rate 0.1, the textbook's": (book_history.steps, book_history["loss"]),
                   "rate 0.001": (slow_history.steps, slow_history["loss"])},
                  x_label="updates", y_label="loss", y_range=(0.07, 0.23), height=3.4,
                  lines={"perfect, standardised": mean_perfect, "zeros": SIGMA**2, "best of all": best_of_all})

# %% [markdown]
# **Figure 7.3.** The textbook's loss in training, beside what no network is needed for. The axis does not begin at 0.
#
# In figure 7.3 the loss falls quickly, then hardly at all. It stays above that of a perfect guess and far above that of
# zeros. A hundredth of the rate gets it down sooner, but in so few updates to much the same place.
#
# **First fault: the loss cannot rank models.** A network that outputs zeros, and so leaves every picture as noisy as it
# was, beats a perfect denoiser. And one that hands back its own input, standardised, knows nothing at all about digits
# and comes close to perfect, ahead of both trained networks. Between knowing nothing of digits and knowing the very one
# lie a few thousandths of this loss, from 0.1234 to 0.1178.
#
# **Second fault: the target is chance.** By (7.5) at most a $t$-th of it can be learned.
#
# ## The third fault
#
# How does the printed sampler fare with a *perfect* guess, one that knows $x_0$? Of several rules we follow the noise
# that is left, the root mean square of $x_t - x_0$ in units of $\sigma$:
#
# - **printed**: subtract the standardised direction of the noise, $x_{t-1} = x_t - \sigma u$;
# - **mean alone**: subtract what (7.4) says was added last, $x_{t-1} = x_t - (x_t - x_0)/t$;
# - two rules that we have yet to derive.

# %% [markdown]
# **Exercise 7.4 (predict ★★). How long the printed rule has work.** Give the printed rule the *true* direction of the
# noise, $x_t - x_0$, standardised, at every step. At the start the noise has standard deviation $\sqrt{25}\,\sigma$.
# After how many of the 25 subtractions is next to nothing of it left? The next figure shows what the rule does from
# there on.
#
# <details class="hint"><summary>Hint 1</summary>
#
# The head has fixed the length of what is subtracted. How long is it, in units of $\sigma$, and how long is the noise?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The two vectors point the same way, so that their lengths subtract. Variances have no part in it.
#
# </details>

# %% tags=["answer"]
prediction_7_4 = None  # a number

# %% tags=["check"]
sheet.check("7.4", prediction_7_4)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.4</summary>
#
# The noise has length $5\sigma$ per pixel and each subtraction takes away $\sigma$.
#
# ```python
# prediction_7_4 = 5
# ```
#
# </details>

# %%
def printed(x_t, x0, t, noise):
    return x_t - standardised((x_t - x0).flatten(1)).view_as(x_t)


def mean_alone(x_t, x0, t, noise):
    return x_t - (x_t - x0) / level(t)


def posterior_step(x_t, x0, t, noise):
    """(7.9), derived below: the mean, and fresh noise."""
    steps = level(t)
    return x_t - (x_t - x0) / steps + SIGMA * ((steps - 1) / steps).sqrt() * noise


def no_noise_step(x_t, x0, t, noise):
    """(7.10), derived below: shrink the noise to the next step's size."""
    steps = level(t)
    return x0 + ((steps - 1) / steps).sqrt() * (x_t - x0)


@torch.no_grad()
def noise_left(rule):
    """Root mean square of x_t - x_0 in units of sigma, for t = T, ..., 0, when x_0 is known."""
    g = torch.Generator().manual_seed(SEED)
    x0 = x_test[:200].cpu()
    x, left = x0 + SIGMA * math.sqrt(T) * torch.randn(x0.shape, generator=g), []
    for step in range(T, 0, -1):
        left.append((x - x0).square().mean().sqrt().item() / SIGMA)
        x = rule(x, x0, torch.full((200,), step - 1), torch.randn(x0.shape, generator=g))
    return left + [(x - x0).square().mean().sqrt().item() / SIGMA]


# %% mystnb={"image": {"alt": "Noise left by step: the printed rule removes all in five steps and never rests"}}
rules = {"printed": printed, "mean alone": mean_alone, "posterior, with noise": posterior_step,
         "shrink, without noise": no_noise_step}
left = {name: noise_left(rule) for name, rule in rules.items()}
fig, ax = plots.figure(6.5, 3.2)
for (name, values), style in zip(left.items(), ("-", "-", "-", "--")):
    ax.plot(range(T, -1, -1), values, style, label=name)
roots = [s**0.5 for s in range(T + 1)]
ax.plot(range(T + 1), roots, color="black", linewidth=6, alpha=0.15, label="what the network is told, √t")
ax.set(xlabel="step t, as told to the network", ylabel="noise left, in σ")
ax.invert_xaxis()
ax.legend(fontsize=8.5)
fig

# %% [markdown]
# **Figure 7.4.** The noise that is left on the way down, when $x_0$ is known. The grey band is what the network is
# told.
#
# **Third fault: the sampler.** In figure 7.4 the printed rule is done long before it ends. A standardised guess always
# has length $\sigma$ per pixel, and the whole noise has only length $5\sigma$. Subtract it five times and next to
# nothing is left, at $t = 20$, with twenty steps to go (a fifth of $\sigma$, since the true noise of a single image is
# not exactly standardised). From there on the rule cannot stand still: every step moves every picture by exactly
# $\sigma$, and with no noise to remove it can only put some in. (This oracle takes it out again in the next step;
# whether a picture ends nearly clean depends on $T$ being odd.) Meanwhile the network is told of $\sqrt{20}\,\sigma$ of
# noise where there is none, an input that it has never seen in training. The mean alone goes wrong more gently: the
# noise shrinks like $t$ and not like $\sqrt t$, so pictures are always cleaner than the network is told.
#
# ## The right step back
#
# What *is* the distribution of $x_{t-1}$, seen from $x_t$? For known $x_0$, Bayes' rule answers. By (7.2) with $t-1$
# steps $x_{t-1} \sim \mathcal{N}(x_0, (t-1)\sigma^2 I)$, and by (7.1) $x_t \sim \mathcal{N}(x_{t-1}, \sigma^2 I)$.
# Multiply the densities, as functions of $x_{t-1}$:
#
# $$ q(x_{t-1} \mid x_t, x_0) \;\propto\; \exp\!\Big(\!-\frac{\|x_t - x_{t-1}\|^2}{2\sigma^2}
#    - \frac{\|x_{t-1} - x_0\|^2}{2(t-1)\sigma^2}\Big). \tag{7.8} $$
#
# The exponent is quadratic, so this is Gaussian. Precisions add, $\frac{1}{\sigma^2} + \frac{1}{(t-1)\sigma^2} =
# \frac{t}{(t-1)\sigma^2}$, and the mean is the average of $x_t$ and $x_0$ weighted by theirs:
#
# $$ q(x_{t-1} \mid x_t, x_0)
#    = \mathcal{N}\!\Big(x_t - \frac{x_t - x_0}{t},\; \frac{t-1}{t}\,\sigma^2 I\Big). \tag{7.9} $$
#
# The mean takes away a $t$-th of the noise, and here (7.4) comes back: it is the best guess of the last step. But the
# mean is not a sample. The posterior has a variance, nearly that of a whole step while $t$ is large, and **fresh
# noise** has to make up for it. Check the books: the mean leaves noise of variance $(\frac{t-1}{t})^2\, t\sigma^2$; add
# $\frac{t-1}{t}\sigma^2$, and it is $(t-1)\sigma^2$, as it should be. That is the curve on the grey band of figure 7.4.
# At $t = 1$ the step is $x_0$ itself. We do not know $x_0$; we put the network's $\hat x_0$ in its place, as Ho et al.
# (2020) do for their chain.
#
# If fresh noise is unwelcome, one can get the same variance by shrinking the old noise less:
#
# $$ x_{t-1} = \hat x_0 + \sqrt{\tfrac{t-1}{t}}\,(x_t - \hat x_0). \tag{7.10} $$
#
# This is the rule of DDIM (Song and others 2021), which [chapter 8](08_ddpm.ipynb) returns to. Both agree with the
# core's engine, which treats this chain and DDPM's in one:

# %%
g = torch.Generator().manual_seed(SEED)
x0, x_t, noise = torch.randn(3, T, 1, 28, 28, generator=g)
t = torch.arange(T)
mean, var = diffusion.q_posterior(x0, x_t, t, schedule)
torch.testing.assert_close(posterior_step(x_t, x0, t, noise), mean + var.sqrt() * noise, atol=1e-5, rtol=1e-5)
_, eps = diffusion.predict(x0, x_t, t, schedule, predicts="x0")
torch.testing.assert_close(no_noise_step(x_t, x0, t, None), diffusion.ddim_step(x_t, t, t - 1, eps, schedule),
                           atol=1e-5, rtol=1e-5)
print("variance of the reverse step in σ²:", [round(v, 2) for v in (var.flatten() / SIGMA**2).tolist()[:6]], "...")

# %% [markdown]
# ### With the exact score, in two dimensions
#
# The data below are eight small Gaussians on a ring, so that the best guess is exact, as in (7.6). (The data shrink on
# the way, as they do in chapter 8.) Arrows are the score at the *level of noise* that you choose: near 1 all of them
# point to the middle, the mean of all data; at a half they begin to part, and at a fifth each mode has its basin. From
# the ringed particle, a noisy $x_T$, the ways lead down: *DDPM* by the random step (7.9), *DDIM* by (7.10), *ODE* by
# the same rule in very many steps, while *Langevin* stays at the level of noise. Drag the particle, then press *Other
# noise* a few times: the random way ends on another mode most times, DDIM and ODE each on the same. At one *step down*,
# DDIM ends near the middle, by (7.3) on the mean of what is possible. Then choose *Score: the network's*, press *Play*,
# and hold its loss against the best possible one.

# %%
laboratory = widgets.Laboratory(model="diffusion", shown="exact", particle=True, at=(0.5, 0.3),
                                caption="The exact score of a ring, and four ways down from one point")
print(laboratory.describe())

# %%
laboratory

# %% [markdown]
# ## The same two layers, trained properly
#
# Four changes, none to the layers:
#
# 1. **One random step for each image**, not one step for a whole batch: every update hears from all noise levels.
#    (`stratified_timesteps` spreads them evenly, as Kingma et al. 2021 do.)
# 2. **The target is $x_0$**, guessed through a sigmoid, since pixels lie between 0 and 1. No standardising.
# 3. **A rate that a network can live with**: 0.005, falling to zero.
# 4. **The step (7.9)** for sampling.
#
# Why not the total noise, which (7.5) says is as good a target? In principle it is. But 784 independent noise values
# must then pass through 784 hidden units that also have to find the digit, while an image of a digit needs few of them.
# We train both, the one on noise for 250 updates only, and compare at that point what they imply about $x_0$:
# $\hat x_0 = x_t - \sqrt t \sigma\hat\varepsilon$. In the end you will draw with our network on this page, for which it
# has to be light. So we round its weights right after training, each to one of a few dozen levels, which 128 of them
# share, and measure what you will have.

# %%
def denoising_loss(model, target):
    """One random step for each image; the target is "image" or "total noise". Logs the error of x0_hat."""

    def loss_fn(batch):
        x0, eps = batch.x, torch.randn_like(batch.x)
        t = diffusion.stratified_timesteps(len(x0), T, device=device)
        x_t = jump(x0, t, eps)
        out = model(x_t, t, batch.y)
        x0_hat = out if target == "image" else x_t - level(t).sqrt() * SIGMA * out
        loss = (out - (x0 if target == "image" else eps)).square().mean()
        return loss, {"x0 error": (x0_hat - x0).square().mean().detach()}

    return loss_fn


def fit_denoiser(head, target, steps, title):
    torch.manual_seed(SEED)
    model = Denoiser(head).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.99))
    batches = kernels.Batches(train_set, batch_size=512, seed=SEED, device=device)
    step = kernels.TrainStep(denoising_loss(model, target), optimizer, batches=batches, model=model,
                             schedule=kernels.linear_decay(), seed=SEED)
    return model, train.fit(step, runtime.budget(steps), title=title)


# %%
noise_model, noise_history = fit_denoiser(nn.Identity(), "total noise", 250, "guess the total noise")
ours, our_history = fit_denoiser(torch.sigmoid, "image", 3000, "guess the image")
ours = widgets.rounded(ours, step=8)                                  # every eighth level of a byte

# %% mystnb={"image": {"alt": "Error of the clean image during training: guessing the image is far ahead of the noise"}}
plots.show_curves({"trained on the image": (our_history.steps, our_history["x0 error"]),
                   "trained on the total noise": (noise_history.steps, noise_history["x0 error"])},
                  x_label="updates", y_label="mean squared error of x̂₀", log_x=True, log_y=True,
                  lines={"variance of the pixels": x_test.var(0).mean().item()})

# %% [markdown]
# **Figure 7.5.** What two targets teach the same two layers about the clean image; both axes are logarithmic.
#
# Figure 7.5: after the same few hundred updates the network trained on noise says less about $x_0$ than one fixed image
# would, the mean of all: its error lies above the variance of the pixels. Too little of the noise gets through the
# bottleneck, and what is missing of $\hat\varepsilon$ is missing, times $\sqrt t\sigma$, from $\hat x_0$. (Two things
# more differ: its rate has fallen to zero by then, and only our network has a sigmoid at its end.) Give the noise a way
# around the bottleneck, such as the short cuts of a U-Net, and it is an excellent target ([chapter 8](08_ddpm.ipynb)).
# Here we ask for the image.
#
# ## Where to start
#
# **Fourth fault: the start.** Sampling begins at $\mathcal{N}(0, T\sigma^2 I)$. But the chain does not end there. It
# never shrinks the image, so $x_T$ is still $x_0$ plus noise: it has the data's mean and, along the directions in which
# digits vary, the data's variance. How far is the one from the other? For a single image the divergence is
#
# $$ \mathrm{KL}\big(\mathcal{N}(x_0, T\sigma^2 I)\,\|\,\mathcal{N}(0, T\sigma^2 I)\big) = \frac{\|x_0\|^2}{2T\sigma^2}
#    \tag{7.11} $$
#
# nats, and exercise 7.16 shows that it is far from zero. (By convexity its mean over images is an upper bound for the
# divergence of $x_T$ itself.) Your eye hardly finds the digit in $x_{25}$; a network that adds up 784 pixels does.
# Started from pure noise it sees, quite rightly, "no digit I know", and it has never been trained on that. We could
# take many more steps. Or we could start in a better place: fit a Gaussian to each class, mean $\mu_y$ and covariance
# $C_y$, and begin with $x_T \sim \mathcal{N}(\mu_y, C_y + T\sigma^2 I)$. It has the true mean and the true covariance
# of $x_T$. A draw needs no matrix root: $N$ images of a class, mixed at random,
# $\frac{1}{\sqrt N}\sum_n a_n (x^{(n)} - \mu_y)$ with $a_n \sim \mathcal{N}(0, 1)$, have covariance $C_y$.

# %%
def noise_start(y, g):
    """The textbook's start, N(0, T sigma^2)."""
    return SIGMA * math.sqrt(T) * torch.randn(len(y), 1, 28, 28, generator=g)


def class_start(y, g, noise=True):
    """x_T from each class's Gaussian, widened by the noise (or not): y (B,) on the CPU -> (B, 1, 28, 28)."""
    x = noise * noise_start(y, g).flatten(1)
    for digit in range(10):
        images = train_set.images[train_set.labels == digit].flatten(1) / 255          # (N, 784)
        rows, mean = (y == digit).nonzero()[:, 0], images.mean(0)
        mix = torch.randn(len(rows), len(images), generator=g) / math.sqrt(len(images))
        x[rows] += mean + mix @ (images - mean)
    return x.view(-1, 1, 28, 28)


@torch.no_grad()
def draw(model, y, start, rule=posterior_step, seed=SEED, keep=None):
    """Walk from x_T to x_0: labels y (B,) -> images (B, 1, 28, 28). `keep` collects (x_t, x0_hat) of every step."""
    g = torch.Generator().manual_seed(seed)
    x, y = start(y, g).to(device), y.to(device)
    for step in range(T, 0, -1):
        t = torch.full((len(x),), step - 1, device=device)
        x0_hat = model(x, t, y)
        if keep is not None:
            keep.append((x, x0_hat))
        x = rule(x, x0_hat, t, torch.randn(x.shape, generator=g).to(device))
    return x


@torch.no_grad()
def draw_textbook(model, y, start=noise_start, seed=SEED):
    """The printed sampler: subtract the output, 25 times."""
    x, y = start(y, torch.Generator().manual_seed(seed)).to(device), y.to(device)
    for step in range(T, 0, -1):
        x = x - model(x, torch.full((len(x),), step - 1, device=device), y)
    return x


# %% [markdown]
# Two thousand labels, in the data's own mix. The reader of digits says how often it finds what was asked for: from each
# start, with and without fresh noise, and, lest the start do all the work, in draws from the Gaussians
# $\mathcal{N}(\mu_y, C_y)$ alone. The last row tries the reader itself: real digits with the noise of one step.

# %%
picked = torch.randperm(len(test_set), generator=torch.Generator().manual_seed(SEED))[:2000]
labels = test_set.labels[picked]


def read_as_asked(x):
    return (metrics.read_digits(x.clamp(0, 1)).argmax(1).cpu() == labels).float().mean().item()


# %%
one_step = torch.randn(len(labels), 1, 28, 28, generator=torch.Generator().manual_seed(SEED))
one_step = jump(test_set.images[picked] / 255, torch.zeros_like(labels), one_step).to(device)
samples = {"ours": draw(ours, labels, class_start), "ours, from pure noise": draw(ours, labels, noise_start),
           "ours, no fresh noise": draw(ours, labels, class_start, no_noise_step),
           "Gaussians alone": class_start(labels, torch.Generator().manual_seed(SEED), noise=False).to(device),
           "textbook": draw_textbook(book, labels),
           "real, one step's noise": one_step}
read = {name: read_as_asked(x) for name, x in samples.items()}
for name, share in read.items():
    print(f"{name:24}{100 * share:5.1f} % read as asked")

# %% [markdown]
# The network is the same in the first two rows; only the start differs, and it decides. The Gaussians alone are smears
# that know their class roughly; the network turns them into digits, and makes good most of what they get wrong. Fresh
# noise makes no difference that 2,000 digits could show. The last two rows belong together: this reader was trained on
# clean digits and is blind under the noise of a single step, so that what it says of the textbook's samples, which keep
# their noise, is no verdict on them.
#
# ## Look

# %% mystnb={"image": {"alt": "Five rows of the ten digits, one column for each digit asked for, legible"}}
asked = torch.arange(10).repeat(5)
plots.show_grid(draw(ours, asked, class_start), columns=10, width=5)

# %% [markdown]
# **Figure 7.6.** Ours after 3,000 updates: one column for each digit asked for, the first five draws of each, none
# picked.
#
# Figure 7.6 took 3,000 updates. Are 600 fair to the textbook's recipe? Here it gets up to 30,000, and a second reader
# judges beside ours, one that was trained on digits with 0 to 25 steps of noise.

# %% [markdown]
# `make study STUDY=textbook_diffusion`:
#
# |  | updates | seeds | loss | FD / floor | read as asked, % | by the reader under noise, % | noise in the corners, σ |
# | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
# | the textbook's | 600 | 3 | 0.1380 ± 0.0037 | 1,516.8 ± 395.2 | 9.1 ± 0.5 | 11.6 ± 0.8 | 10.01 ± 9.09 |
# | the textbook's | 3,000 | 3 | 0.1270 ± 0.0022 | 478.4 ± 296.6 | 9.1 ± 0.6 | 15.2 ± 4.8 | 2.31 ± 2.42 |
# | the textbook's | 10,000 | 1 | 0.1239 | 331.5 | 9.3 | 52.0 | 0.75 |
# | the textbook's | 30,000 | 1 | 0.1233 | 271.9 | 9.6 | 39.2 | 0.73 |
# | ours | 600 | 3 | 0.0777 ± 0.0000 | 38.9 ± 1.3 | 93.3 ± 0.3 | 97.5 ± 0.1 | 0.00 ± 0.00 |
# | ours | 3,000 | 3 | 0.0770 ± 0.0000 | 10.6 ± 0.6 | 97.7 ± 0.5 | 98.6 ± 0.4 | 0.00 ± 0.00 |
# | real, steps of noise: 0 |  |  |  | 1.1 | 99.7 | 97.2 | 0.02 |
# | real, steps of noise: 1 |  |  |  | 471.4 | 10.8 | 96.8 | 1.00 |
# | real, steps of noise: 2 |  |  |  | 718.3 | 9.6 | 96.2 | 1.42 |
# | real, steps of noise: 4 |  |  |  | 999.9 | 9.6 | 93.8 | 1.99 |
# | real, steps of noise: 9 |  |  |  | 1,311.2 | 9.6 | 88.1 | 3.00 |
# | real, steps of noise: 25 |  |  |  | 1,606.2 | 9.6 | 66.3 | 5.01 |

# %% [markdown]
# Patience does help. After 10,000 updates of one training ghosts of digits stand in the textbook's noise
# ([pictures](measuring.md#a-reader-that-noise-does-not-blind)): by the reader under noise 52.0 of 100 are read as
# asked, where guesses would get ten. Three times as many updates bring it no more, 39.2. So this loss, by then within a
# thousandth of the copied input's, does teach something about digits. But three quarters of a step's noise stay in the
# picture, hundreds of floors from any digit, as the third fault has it; and ours is ahead after 600.
#
# ## Measure
#
# First the losses, side by side and in the textbook's own terms. By (7.4) our network guesses the last step's noise
# too: it says $(x_t - \hat x_0)/t$. On 2,000 test images:

# %%
@torch.no_grad()
def textbook_loss(guess):
    """Mean squared error to the last step's noise on the test set, per step: (T,)."""
    torch.manual_seed(SEED)
    losses = []
    for step in range(1, T + 1):
        t = torch.full((len(x_test),), step - 1, device=device)
        before, last = jump(x_test, t - 1, torch.randn_like(x_test)), SIGMA * torch.randn_like(x_test)
        losses.append((guess(before + last, t, y_test) - last).square().mean())
    return torch.stack(losses).cpu()


def copy_input(x_t, t, y):
    """A model that knows nothing of digits: its own input, standardised."""
    return standardised(x_t.flatten(1)).view_as(x_t)


# %%
guesses = {"the textbook's recipe": book, "  at a rate of 0.001": slow, "its own input, standardised": copy_input,
           "zeros": lambda x_t, t, y: torch.zeros_like(x_t), "ours, through (7.4)": lambda x_t, t, y: (
               x_t - ours(x_t, t, y)) / level(t)}
scores = {name: textbook_loss(guess) for name, guess in guesses.items()}
for name, loss in scores.items():
    first, final = (1 - loss[t].item() / SIGMA**2 for t in (0, T - 1))
    print(f"{name:28} loss {loss.mean():.4f}   R² at t = 1: {first:5.2f}, at t = {T}: {final:5.2f}")
print(f"{'perfect, standardised':28} loss {mean_perfect:.4f}")
print(f"{'bound of (7.5)':28} loss {best_of_all:.4f}   R² at t = 1:  1.00, at t = {T}: {1 / T:5.2f}")

# %% [markdown]
# Although it was never asked for a last step, our network almost reaches the bound. The textbook's explains less than
# nothing from the fifth step on, as (7.7) says it must, however long it trains. But look at the last column: at
# $t = 25$ a network that draws digits is hardly apart from one that outputs zeros. A loss with so little to say about
# the noisiest steps, where the shape of a digit is decided, is a poor teacher.
#
# Now the samples, against held-out real digits ([Measuring samples](measuring.md) explains every row).

# %%
reports = {name: metrics.sample_report(x.clamp(0, 1), test_set, labels, held_out=val_set)
           for name, x in samples.items() if name != "ours, no fresh noise"}
Markdown(metrics.report_table(reports))

# %% [markdown]
# Our distance is many times the floor, so nobody would take a set of these for real. Where is the fault? Precision is
# high: single samples are good. Recall is low and diversity short of 1: they are too much alike, smooth and typical. A
# small network's guess of $x_0$ is blurred, and twenty-five blurred guesses in a row may well favour the middle of the
# class.
# The table also keeps us honest about the start: the Gaussians alone score far worse, and pure noise shows how much of
# the success needs a start that fits. [Chapter 8](08_ddpm.ipynb) shrinks the image on the way, so that pure noise *is*
# the right start, and uses a network that knows what a neighbouring pixel is.
#
# Ours, with the start that fits, goes on the [scoreboard](scoreboard.md), beside the main models of the other chapters.
# The count of parameters there is the network's alone; the ten Gaussians of the start, a mean and a covariance for each
# class, add $10 \cdot (784 + 784 \cdot 785 / 2) = 3{,}085{,}040$ numbers.

# %% tags=["nbval-check-output"]
_, per_image = metrics.timed_samples(lambda: draw(ours, labels, class_start))
expect.model("simple diffusion", report=reports["ours"], samples=samples["ours"].clamp(0, 1), labels=labels,
             real=test_set, train_seconds=our_history.seconds, sample_seconds=per_image, parameters=ours)

# %% [markdown]
# ## Slider: watch each digit appear
#
# First as stills: the network's guess $\hat x_0$ of where each digit will end.

# %%
trail = []
last = draw(ours, torch.arange(10), class_start, seed=SEED + 1, keep=trail)
trail.append((last, last))
for position in (0, T // 3, 2 * T // 3, T):
    change = (trail[position][1] - last).square().mean().sqrt().item()
    print(f"t = {T - position:2}: the guess is {change:.3f} rms from the end")

# %% mystnb={"image": {"alt": "Guesses of the clean image for the ten digits at six moments: a blur that sharpens"}}
stills = [*(T * k // 5 for k in (5, 4, 3, 2, 1)), 1]
plots.show_rows({f"t = {t}": trail[T - t][1] for t in stills}, width=6, title="the guess of x₀ on the way")

# %% [markdown]
# **Figure 7.7.** What the network takes for the clean image, at six moments on the way down.
#
# At $t = 25$ the guess in figure 7.7 is the mean of all digits that fit the noise, soft where they differ. As the noise
# falls, fewer fit. Slant and width are settled first, the course of the stroke later, its edge last. By (7.3) each
# frame answers "what was it, on average?", and only the last of these averages is over images that hardly differ.
#
# Now draw your own: the network runs in your browser. The start that fits has to come along, and ten covariances of 784
# by 784 would not fit on a page. But the data add to the noise in few directions only. With the leading directions
# $u_k$ of a class and the variances $\lambda_k$ along them,
#
# $$ x_T = \mu_y + \sqrt T \sigma\, n + \sum_k \big(\sqrt{\lambda_k + T\sigma^2} - \sqrt T\sigma\big)\, u_k u_k^\top n,
#    \qquad n \sim \mathcal{N}(0, I), \tag{7.12} $$
#
# has the covariance $C_y + T\sigma^2 I$ along these, and along all others the noise's. We keep sixteen.

# %%
KEPT, NOISE = 16, SIGMA * math.sqrt(T)


def leading(digit):
    """A class's mean (784,) and what its leading directions add to the noise, each times its root: (KEPT, 784)."""
    images = train_set.images[train_set.labels == digit].flatten(1) / 255
    found = torch.linalg.eigh(torch.cov(images.double().T))                       # ascending, in columns
    variances, directions = (part.float() for part in found)
    added = (variances[-KEPT:] + NOISE**2).sqrt() - NOISE
    return images.mean(0), (added.sqrt() * directions[:, -KEPT:]).T


means, axes = (widgets.rounded(torch.stack(each)).to(device) for each in zip(*map(leading, range(10))))


def fitted_start(n, y):
    """x_T by (7.12): n (B, 1, 28, 28) standard normal, y (B,) -> (B, 1, 28, 28)."""
    column, along = n.flatten(1)[:, :, None], F.embedding(y, axes.flatten(1)).view(-1, KEPT, 784)
    pushed = along.transpose(1, 2) @ (along @ column)
    return (F.embedding(y, means) + NOISE * n.flatten(1) + pushed[:, :, 0]).view(-1, 1, 28, 28)


def few_directions(y, g):
    return fitted_start(torch.randn(len(y), 1, 28, 28, generator=g).to(device), y.to(device))


print(f"{KEPT} directions: {100 * read_as_asked(draw(ours, labels, few_directions)):.1f} % read as asked")

# %% [markdown]
# Sixteen are enough for the reader: it finds no fewer digits than with the whole covariance. The textbook's network
# comes along as well, with 128 hidden units, since a second one of 784 would be too heavy for a page, and at the
# gentler rate of figure 7.3: at 0.1, in a trial, so narrow a network magnified rounding errors from step to step. Its
# output, over $\sigma$, is read as the total noise $\varepsilon$; with that the printed rule does what the textbook's
# sampler does. Does the page draw what we draw here? From the same noise, ten digits by either:

# %%
narrow, narrow_history = fit_textbook(0.001, 600, "the textbook's recipe, narrower", width=128)
narrow = widgets.rounded(narrow, step=8)
drawing = widgets.DiffusionExplorer(
    ours, schedule, class_names=range(10), predicts="x0", clip=None, data_range=(0, 1), noisy_range=(-1, 2), int8=True,
    prior=fitted_start, textbook=True, other=("the textbook's", lambda x, t, y: narrow(x, t, y) / SIGMA, "eps"),
    beside={"network": 1, "prior": 1, "rule": 1}, steps=T, eta=1.0, label=3, device=device,
    alt="Digit drawn from noise")
digits, textbook = torch.arange(10), {"other": True, "pure": True, "subtract": True}
n = drawing.model.x_T(drawing.settings.seed, 0, pure=True).expand(10, -1, -1, -1).to(device) / NOISE
with widgets.InFull():                                                # float32, as in the browser
    full = {"ours": draw(ours, digits, lambda y, g: fitted_start(n, y.to(device)), no_noise_step),
            "the textbook's": draw_textbook(narrow, digits, lambda y, g: NOISE * n).clamp(0, 1)}
on_page = {"ours": [drawing.sample(d, eta=0.0) for d in range(10)],
           "the textbook's": [drawing.sample(d, **textbook) for d in range(10)]}
page_off = {name: 255 * (torch.stack(on_page[name]) - x[:, 0].cpu()).abs().max().item() for name, x in full.items()}
for name, off in page_off.items():
    print(f"{name:15} on the page at most {off:.3f} of 255 grey levels off")
print(f"loss of the textbook's with 128 hidden units {narrow_history['loss'][-1]:.4f}, with 784 "
      f"{book_history['loss'][-1]:.4f}; both and the start, "
      f"{len(drawing.weights + drawing.other_weights + drawing.prior_weights):,} bytes")

# %%
drawing

# %% [markdown]
# On the left ours, beside it the textbook's in full: its network, from pure noise, by the printed rule, from the same
# seed. *End comparing* leaves one film, *Compare* keeps the settings of now beside the next, and *Step* goes down one
# step at a time. Mend the faults one by one: give the textbook's *network* the start that fits, then the derived rule;
# or spoil ours. With $\eta = 1$ the derived step is (7.9), with $\eta = 0$ it is (7.10). The *printed* rule takes our
# network's own guess of the noise: clean after a few steps, then restless, as in figure 7.4. Its last picture on the
# right is what it leaves.

# %% [markdown]
# ## What this chapter promises

# %% tags=["nbval-check-output"]
ours_report, loss = reports["ours"], {name: values.mean().item() for name, values in scores.items()}
told_wrong = max(abs(a - b**0.5) for a, b in zip(left["posterior, with noise"], range(T, -1, -1)))
expect("R² of the last step's noise, largest distance from (7.5)",
       max(abs(a - b) for a, b in zip(r2["last"], r2["(7.5)"])), below=0.01)
expect("noise left by the posterior step, largest distance from √t, in σ", told_wrong, below=0.05)
expect("loss of the textbook's network above that of zeros", loss["the textbook's recipe"] - loss["zeros"], above=0.02)
expect("loss of the textbook's network above that of its input",
       loss["the textbook's recipe"] - loss["its own input, standardised"], above=0)
expect("loss of ours above the bound of (7.5)", loss["ours, through (7.4)"] - best_of_all, below=0.002)
expect("read as asked, real digits with one step's noise", read["real, one step's noise"], below=0.3)
expect("read as asked, ours", read["ours"], above=0.95)
expect("read as asked, ours above the Gaussians alone", read["ours"] - read["Gaussians alone"], above=0.1)
expect("read as asked, ours above ours from pure noise", read["ours"] - read["ours, from pure noise"], above=0.05)
expect("Fréchet distance of ours", ours_report["fd"], below=140)
expect("diversity of ours, 1 as real digits", ours_report["diversity"], above=0.7)
expect("grey levels of 255 that either network is off on the page, at most", max(page_off.values()), below=2)
at = min(range(len(our_history.steps)), key=lambda i: abs(our_history.steps[i] - noise_history.steps[-1]))
expect("error of x0_hat, trained on the total noise over trained on the image, after equal updates",
       noise_history["x0 error"][-1] / our_history["x0 error"][at], above=2)

# %% [markdown]
# ## Exercises
#
# Each exercise has a cell for your answer; the cell below it checks it, and says what it can about a mistake. One star
# takes a minute or two, three take half an hour. What is left open stops nothing.

# %% [markdown]
# **Exercise 7.5 (predict ★). Forward and reverse.** (review) What is fixed in a diffusion model, what is learned, and
# why does it take so many small steps?
#
# - (a) Both processes are learned, the forward one to spoil images well and the reverse one to undo it. Steps are small
#   so that gradients do not explode.
# - (b) The forward process is fixed, the reverse one learned. Steps are small because the noise of one step must not be
#   visible.
# - (c) The forward process is fixed. The reverse one is a chain of Gaussians whose means a network gives. Steps are
#   small because the true way back is nearly Gaussian over a short step only.
# - (d) The forward process is fixed, and Bayes' rule fixes the reverse one. The network only makes it faster. Steps are
#   small because (7.2) holds for small $\sigma$ only.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Which of the two has parameters?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Given $x_t$, many $x_0$ are possible. What does the density of a much earlier $x_s$ look like then, and what does the
# model's step look like?
#
# </details>

# %% tags=["answer"]
choice_7_5 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("7.5", choice_7_5)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.5</summary>
#
# The forward process adds Gaussian noise by a recipe. The reverse step is modelled as one Gaussian. The true $p(x_s
# \mid x_t) = \int q(x_s \mid x_t, x_0)\, p(x_0 \mid x_t)\, dx_0$ is a *mixture* of Gaussians (7.9), one for each
# candidate $x_0$. In a small step their means lie close together beside the width of the noise, and a mixture of them
# is Gaussian, nearly. In a leap it has as many humps as there are candidates. A chain of many simple steps can draw
# what one simple step cannot.
#
# ```python
# choice_7_5 = "c"
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.6 (investigate ★★★). How Gaussian a leap is.** Where everything can be computed: let $x_0$ be $+1$ or
# $-1$ with equal odds, one number, and let $x_t$ have noise of variance $v$. A leap goes to an $x_s$ with noise of
# variance $s < v$. Compute the total variation distance between the true $p(x_s \mid x_t)$ and the one Gaussian of the
# same mean and variance: half the integral of $|p - q|$, on a grid of your own. All arguments are numbers. Then try
# small and large leaps: from $v = 25\sigma^2$ a step is not to be told from a Gaussian.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Given both $x_t$ and $x_0$, the step is Gaussian, as in (7.9): mean $x_0 + \frac sv (x_t - x_0)$, variance $\frac sv
# (v - s)$. Mix the two with the odds of their $x_0$, given $x_t$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The odds are `sigmoid(2 * x_t / v)` and the rest. The mixture's variance is that of one hump plus the variance of the
# humps' means.
#
# </details>

# %% tags=["answer"]
def leap_gap(x_t, v, s):
    """How far p(x_s | x_t) is from a Gaussian, in total variation, when x_0 is +1 or -1.

    x_t, v, s numbers: the state, the variance of its noise, and that of x_s, s < v.  Returns a number.
    """
    ...

# %% tags=["check"]
sheet.check("7.6", leap_gap)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.6</summary>
#
# With $x_t = 0$, $v = 25\sigma^2$ and $\sigma = 0.3$, a single step is far less than a thousandth away from a Gaussian,
# and five at once are about a thousandth; with $24$ at once the distance is nearly a half, since two separate humps are
# left:
#
# ```
# for leap in (1, 5, 15, 24):
#     print(leap, leap_gap(0.0, 25 * 0.09, (25 - leap) * 0.09))
# ```
#
# ```python
# def leap_gap(x_t, v, s):
#     grid = torch.linspace(-6, 6, 6001, dtype=torch.float64)
#     odds, var = 1 / (1 + math.exp(-2 * x_t / v)), s / v * (v - s)
#     means = [x_0 + s / v * (x_t - x_0) for x_0 in (1, -1)]
#     true = sum(w * torch.distributions.Normal(m, var**0.5).log_prob(grid).exp()
#                for w, m in zip((odds, 1 - odds), means))
#     centre = odds * means[0] + (1 - odds) * means[1]
#     spread = (var + odds * (1 - odds) * (means[0] - means[1]) ** 2) ** 0.5
#     gauss = torch.distributions.Normal(centre, spread).log_prob(grid).exp()
#     return 0.5 * (true - gauss).abs().sum() * (grid[1] - grid[0])
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.7 (predict ★). The same in two senses.** (review) A noisy sample can be built step by step (7.1) or in
# one go (7.2). Which sentence is true?
#
# - (a) With fresh noise both give the same picture, up to rounding.
# - (b) (7.2) is an approximation, good as long as $\sigma$ is small.
# - (c) Jump to $x_1, x_2, \dots, x_{25}$, each with a fresh $\varepsilon$: that sequence is a path of (7.1).
# - (d) With fresh noise each $x_t$ has the same distribution either way. As a sequence, jumps with fresh noise are no
#   path of the chain.
#
# <details class="hint"><summary>Hint 1</summary>
#
# The chapter checks two senses of *the same*: one needs the same noise, one does not.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Take $x_4$ and $x_5$. By how much do they differ in the chain, and by how much after two jumps?
#
# </details>

# %% tags=["answer"]
choice_7_7 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("7.7", choice_7_7)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.7</summary>
#
# In the chain $x_5 - x_4$ has variance $\sigma^2$. After two jumps with fresh noise it has $(4 + 5)\sigma^2$. The
# step-by-step way costs $t$ draws, a jump costs one; training on random steps needs the latter, and looks at one step
# at a time.
#
# ```python
# choice_7_7 = "d"
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.8 (code ★★). DDPM's chain in one go.** (review) Show that the two ways agree for DDPM's chain as well,
# $x_t = \sqrt{1 - \beta_t}\,x_{t-1} + \sqrt{\beta_t}\,e_t$. Given `beta` (T,), return what the jump needs for every
# step: the factor of $x_0$ in $x_t$, and the *variance* of the noise in it. Entry 0 belongs to $x_1$. The check walks
# the chain.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Follow one step: what happens to the factor of the image, and what to the variance of the noise that is there already?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $\texttt{variance} \leftarrow (1 - \beta)\,\texttt{variance} + \beta$. In closed form both come from one running
# product.
#
# </details>

# %% tags=["answer"]
def chain_moments(beta):
    """DDPM's chain in one go: what is left of the image, and the variance of the noise, at every step.

    beta (T,).  Returns scale (T,), variance (T,).
    """
    ...

# %% tags=["check"]
sheet.check("7.8", chain_moments)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.8</summary>
#
# Claim $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1 - \bar\alpha_t}\,\varepsilon$ with $\bar\alpha_t = \prod_{s \le t}(1 -
# \beta_s)$. It holds for $t = 1$. One more step multiplies the image by $\sqrt{1 - \beta_t}$, which makes
# $\sqrt{\bar\alpha_t}$; the variance becomes, as claimed, $(1 - \beta_t)(1 - \bar\alpha_{t-1}) + \beta_t = 1 -
# \bar\alpha_t$. With $\beta_t$ added and nothing shrunk the same recursion gives $t\sigma^2$.
#
# ```python
# def chain_moments(beta):
#     alpha_bar = (1 - beta).cumprod(0)
#     return alpha_bar.sqrt(), 1 - alpha_bar
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.9 (predict ★). What may be dropped.** (review) Bayes' rule says $q(x_{t-1} \mid x_t, x_0) = q(x_t \mid
# x_{t-1}, x_0)\, q(x_{t-1} \mid x_0) / q(x_t \mid x_0)$. On the way to (7.8) two things were dropped. Which, and why?
#
# - (a) The $x_0$ of the first factor, since the chain forgets: $x_t$ is made from $x_{t-1}$ and fresh noise. And the
#   denominator, since $x_{t-1}$ does not occur in it.
# - (b) Both $x_0$ in the numerator, since the noise does not depend on the image.
# - (c) The denominator, since it is nearly 1, and the $x_0$ of the first factor.
# - (d) The second factor, since $x_{t-1}$ is settled once $x_t$ is known, and the denominator.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Read each factor as a function of $x_{t-1}$ alone.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# What only normalises may be dropped, and put right at the end.
#
# </details>

# %% tags=["answer"]
choice_7_9 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("7.9", choice_7_9)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.9</summary>
#
# The first is the Markov property of (7.1). The denominator is a constant, as far as $x_{t-1}$ is concerned: it makes
# the density integrate to 1, which a Gaussian does by itself.
#
# ```python
# choice_7_9 = "a"
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.10 (derive ★★). The reverse step of any chain.** (review) Derive $q(x_{t-1} \mid x_t, x_0)$ for any chain
# $x_t = \sqrt{\alpha}\,x_{t-1} + \sqrt{\beta}\,e_t$. Before the step, $x_{t-1} = \sqrt{a}\,x_0$ plus noise of variance
# $v$: `a_before` and `v_before`. All six arguments are (B,). Return mean and variance. Do not assume $\alpha + \beta =
# 1$: then $\alpha = a = 1$, $\beta = \sigma^2$, $v = (t - 1)\sigma^2$ must give (7.9), and DDPM's is in it too.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Write the exponent, two squares, and collect the terms in $x_{t-1}^2$: that is the precision. Mind the $\sqrt\alpha$
# in front of $x_{t-1}$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The precision is $\frac\alpha\beta + \frac1v$; the mean is the variance times the factor of $x_{t-1}$ in the cross
# terms, $\frac{\sqrt\alpha\,x_t}{\beta} + \frac{\sqrt a\,x_0}{v}$.
#
# </details>

# %% tags=["answer"]
def posterior(x_t, x_0, alpha, beta, a_before, v_before):
    """q(x_{t-1} | x_t, x_0) of a Gaussian chain, number by number.

    All arguments (B,); alpha, beta of the step; a_before, v_before of x_{t-1}.  Returns mean (B,), variance (B,).
    """
    ...

# %% tags=["check"]
sheet.check("7.10", posterior)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.10</summary>
#
# The exponent is $-\frac{(x_t - \sqrt{\alpha}\,x_{t-1})^2}{2\beta} - \frac{(x_{t-1} - \sqrt a\,x_0)^2}{2v}$. With
# $v_t = \alpha v + \beta$ the precision is $\frac\alpha\beta + \frac1v = \frac{v_t}{\beta v}$, so
#
# $$ \tilde\beta_t = \frac{\beta v}{v_t}, \qquad
#    \tilde\mu_t = \frac{\sqrt{\alpha}\,v}{v_t}\,x_t + \frac{\sqrt a\,\beta}{v_t}\,x_0 . $$
#
# With $\alpha = a = 1$, $\beta = \sigma^2$, $v = (t - 1)\sigma^2$ this is $\frac{t-1}{t}\sigma^2$ and
# $\frac{t-1}{t}x_t + \frac1t x_0$, (7.9). With $v_t = 1 - \bar\alpha_t$ it is DDPM's.
#
# ```python
# def posterior(x_t, x_0, alpha, beta, a_before, v_before):
#     v_t = alpha * v_before + beta
#     mean = (alpha.sqrt() * v_before * x_t + a_before.sqrt() * beta * x_0) / v_t
#     return mean, beta * v_before / v_t
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.11 (derive ★★). When the data are Gaussian.** Let the data be Gaussian, $x_0 \sim \mathcal{N}(0, s^2)$,
# pixel by pixel. After `t` (B,) steps: find the `slope` of $\mathbb{E}[x_0 \mid x_t] = \texttt{slope} \cdot x_t$, its
# mean squared error $m_t$, and the share $R^2_t$ of the *last step's* noise that (7.4) explains. Here (7.5) can be
# checked without any network.
#
# <details class="hint"><summary>Hint 1</summary>
#
# All is jointly Gaussian, so the posterior mean is the regression line: covariance over variance. What is the variance
# of $x_t$?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Two independent parts, $s^2$ and $t\sigma^2$: the slope is the first one's share of the whole. Put $m_t$ into (7.5),
# or take the squared correlation of $\sigma e_t$ with $x_t$.
#
# </details>

# %% tags=["answer"]
def gaussian_guess(t, s, sigma):
    """What can be known when x_0 is N(0, s^2) and x_t has t steps of noise.

    t (B,) int64, from 1 on; s, sigma numbers.  Returns slope, error m_t and R^2 of the last step, each (B,).
    """
    ...

# %% tags=["check"]
sheet.check("7.11", gaussian_guess)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.11</summary>
#
# The slope is $\frac{s^2}{s^2 + t\sigma^2}$, with error $m_t = \frac{s^2\,t\sigma^2}{s^2 + t\sigma^2}$. By (7.5)
# $R^2_t = \frac1t\big(1 - \frac{s^2}{s^2 + t\sigma^2}\big) = \frac{\sigma^2}{s^2 + t\sigma^2}$: below $\frac1t$ by the
# share of $x_t$'s variance that is data. It is also the slope of the last step's noise, $\operatorname{Cov}(\sigma e_t,
# x_t) / \operatorname{Var}(x_t)$.
#
# ```python
# def gaussian_guess(t, s, sigma):
#     whole = s**2 + t * sigma**2
#     return s**2 / whole, s**2 * t * sigma**2 / whole, sigma**2 / whole
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.12 (derive ★★). A guess of another length.** Was it the direction or the length that made the perfect
# guess worse than zeros? Let $u$ be the perfect standardised guess of (7.7), and multiply it by a factor $c$. Find the
# expected squared error of $c\,u$ to the last step's noise, per pixel, after `t` steps; `c` is (B,) like `t`. Then find
# the best $c$: what does the loss become?
#
# <details class="hint"><summary>Hint 1</summary>
#
# Write the guess as a sum over $e_1, \dots, e_t$, with equal coefficients. The target is one of them.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Guess and target have variances $c^2\sigma^2$ and $\sigma^2$ and correlation $1/\sqrt t$.
#
# </details>

# %% tags=["answer"]
def loss_of_length(t, sigma, c):
    """Expected squared error per pixel of c times the perfect standardised guess, to the last step's noise.

    t (B,) int64, from 1 on, sigma a number, c (B,).  Returns (B,).
    """
    ...

# %% tags=["check"]
sheet.check("7.12", loss_of_length)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.12</summary>
#
# $\sigma^2(1 + c^2 - 2c/\sqrt t)$ is least at $c = 1/\sqrt t$, with $\sigma^2(1 - 1/t)$: the bound of (7.5), below
# zeros at every step. So it was the length. A head that fixes the length at $\sigma$ forbids the one thing that squared
# error asks of an uncertain guess, to be small.
#
# ```python
# def loss_of_length(t, sigma, c):
#     return sigma**2 * (1 + c**2 - 2 * c / t.sqrt())
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.13 (code ★★). The score of a set of images.** A denoiser knows the way uphill. Let the data be the rows
# of `points` (N, D), equally likely, and `x` (B, D) such data with Gaussian noise of variance `v` (B,), another one for
# each row. Return the score, $\nabla_x \log p(x)$, (B, D): first the best guess of $x_0$ by (7.6), then the step from
# one to the other. The check differentiates the log-density itself.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Squared distances of every x to every point are (B, N). Which axis do the weights sum to 1 along?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `softmax` of $-|x - x^{(n)}|^2 / (2v)$ over the points gives the weights; the score is $(\hat x_0 - x)/v$.
#
# </details>

# %% tags=["answer"]
def score(x, points, v):
    """The gradient of log p(x), when p is the mean of Gaussians of variance v around the points.

    x (B, D), points (N, D), v (B,).  Returns (B, D).
    """
    ...

# %% tags=["check"]
sheet.check("7.13", score)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.13</summary>
#
# $p(x) = \frac1N \sum_n \mathcal{N}(x; x^{(n)}, vI)$, and the gradient of its logarithm is the mean of $(x^{(n)} -
# x)/v$ with the weights of (7.6). So whoever can denoise knows the score, and the other way round.
#
# ```python
# def score(x, points, v):
#     v = v[:, None]
#     weights = (-torch.cdist(x, points).square() / (2 * v)).softmax(1)
#     return (weights @ points - x) / v
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.14 (predict ★). What the perfect denoiser draws.** Put the *perfect* denoiser (7.6) of 1,000 training
# images in the network's place, and draw a hundred digits with (7.9) from the start that fits. What comes out?
#
# - (a) New digits, sharper than those of our network.
# - (b) Copies of training images.
# - (c) The mean digit of each class, since (7.3) is a mean.
# - (d) Noise: this denoiser has never been trained.
#
# <details class="hint"><summary>Hint 1</summary>
#
# The reverse process of a world draws from that world.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# What is $\hat x_0$ in the last steps, when the noise is far smaller than the distance between two images?
#
# </details>

# %% tags=["answer"]
choice_7_14 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("7.14", choice_7_14)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.14</summary>
#
# The posterior mean over the training images is right for the world in which nothing else exists, and its reverse
# process draws from that world. So the lowest training loss belongs to a model that has learned its images by heart.
# That a network draws new digits is owed to what it *cannot* do: with 1,258,320 parameters and 55,000 images, each seen
# under ever new noise, it has to make do with what digits have in common. (Whether it does, an audit of nearest
# neighbours has to show, as in chapter 9.) To see it:
#
# ```
# copies = draw(lambda x, t, y: world_x0(x, t), torch.arange(10).repeat(10), class_start)
# nearest = torch.cdist(copies.flatten(1), world).min(1).values
# print(f"exact copies: {100 * (nearest < 0.01).float().mean():.0f} %")
# ```
#
# ```python
# choice_7_14 = "b"
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.15 (code ★). The price of a wrong start.** Derive (7.11) and write it: the divergence, in nats, of
# $\mathcal{N}(x_0, T\sigma^2 I)$ from $\mathcal{N}(0, T\sigma^2 I)$, for each image of a batch. It says what it costs
# to start at pure noise.
#
# <details class="hint"><summary>Hint 1</summary>
#
# The log-ratio of two Gaussians of one covariance is linear in $x$. Take its mean under the first.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $(2x^\top x_0 - \|x_0\|^2)/(2T\sigma^2)$, and the mean of $x$ is $x_0$. One number for each image: flatten from axis 1
# on.
#
# </details>

# %% tags=["answer"]
def start_nats(x0, T, sigma):
    """KL(N(x_0, T sigma^2 I) || N(0, T sigma^2 I)) for each image, in nats.

    x0 (B, 1, H, W), T an integer, sigma a number.  Returns (B,).
    """
    ...

# %% tags=["check"]
sheet.check("7.15", start_nats)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.15</summary>
#
# The log-ratio is $(2 x^\top x_0 - \|x_0\|^2)/(2v)$ with $v = T\sigma^2$; its mean under the first is $\|x_0\|^2/(2v)$.
#
# ```python
# def start_nats(x0, T, sigma):
#     return x0.flatten(1).square().sum(1) / (2 * T * sigma**2)
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.16 (predict ★★). Steps enough for pure noise.** Our 2,000 test digits have $\|x_0\|^2 \approx 80$ on
# average. How many steps of $\sigma = 0.3$ would bring the mean of (7.11) below one nat, so that pure noise would be a
# fair start?
#
# <details class="hint"><summary>Hint 1</summary>
#
# Solve (7.11) for $T$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $\|x_0\|^2 / (2\sigma^2)$, with $\sigma^2 = 0.09$.
#
# </details>

# %% tags=["answer"]
prediction_7_16 = None  # a number

# %% tags=["check"]
sheet.check("7.16", prediction_7_16, measured=x_test.flatten(1).square().sum(1).mean().item() / (2 * SIGMA**2))

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.16</summary>
#
# $T > \|x_0\|^2/(2\sigma^2)$, hundreds of steps for a digit. DDPM shrinks the image while it adds noise: after its
# $1000$ steps the image is multiplied by $\sqrt{\bar\alpha_T}$, less than a hundredth, and $\|x_0\|^2$ by the square of
# that.
#
# ```python
# prediction_7_16 = 80 / (2 * 0.3**2)
# ```
#
# </details>

# %% [markdown]
# **Exercise 7.17 (code ★★). Fewer, longer steps.** Rule (7.10) need not go to the next step. Write it for a leap from
# $t$ steps of noise to any $s < t$, and with it the whole sampler: begin at `x_T`, and go from stop to stop, down to
# the last, 0. `denoise(x, t)` returns $\hat x_0$ of an `x` with `t` steps of noise; `stops` is a list such as `[25, 19,
# 13, 7, 1, 0]`. Five evaluations cost a fifth of 25: try it on `ours` and let `read_as_asked` say what is lost.
#
# <details class="hint"><summary>Hint 1</summary>
#
# The noise in $x_t$ has variance $t\sigma^2$; in $x_s$ it should have $s\sigma^2$. By which factor must the noise
# itself shrink?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `for step, following in zip(stops, stops[1:])`, and in the loop `x = x0_hat + factor * (x - x0_hat)`.
#
# </details>

# %% tags=["answer"]
def in_leaps(denoise, x_T, stops):
    """(7.10) from stop to stop.

    denoise(x, t) -> x0_hat, shaped like x; x_T (B, 1, H, W); stops a falling list of integers, from T to 0.
    Returns x_0, shaped like x_T.
    """
    ...

# %% tags=["check"]
sheet.check("7.17", in_leaps)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 7.17</summary>
#
# $x_s = \hat x_0 + \sqrt{s/t}\,(x_t - \hat x_0)$. Nothing else changes, since training never saw a chain, only single
# levels of noise. The core's sampler knows the leap as DDIM, and agrees. With our network, whose `t` counts from 0:
#
# ```
# def denoise(x, t):
#     return ours(x, torch.full((len(x),), t - 1, device=device), labels.to(device))
# # from the start that fits:
# x_T = class_start(labels, torch.Generator().manual_seed(SEED)).to(device)
# with torch.no_grad():
#     print(read_as_asked(in_leaps(denoise, x_T, [25, 19, 13, 7, 1, 0])), read["ours, no fresh noise"])
# ```
#
# ```python
# def in_leaps(denoise, x_T, stops):
#     x = x_T
#     for step, following in zip(stops, stops[1:]):
#         x0_hat = denoise(x, step)
#         x = x0_hat + math.sqrt(following / step) * (x - x0_hat)
#     return x
# ```
#
# </details>

# %%
sheet.summary()

# %% [markdown]
# ## Where the sources err
#
# **"$\Sigma = 0.3 I$".** The text of the textbook gives the covariance of a step as $0.3 I$, its code draws noise of
# *standard deviation* 0.3, whose covariance is $0.09 I$. The two chains differ by a factor of $1/\sqrt{0.3}$ in
# the standard deviation of their noise:

# %%
e = torch.randn(T, 100_000, generator=torch.Generator().manual_seed(0))
for name, sd in (("standard deviation 0.3, as run", 0.3), ("variance 0.3, as written", 0.3**0.5)):
    total = (sd * e).sum(0)
    print(f"{name:30} variance: one step {(sd * e[0]).var():.3f}, {T} steps {total.var():.2f} (sd {total.std():.2f})")

# %% [markdown]
# **A loss whose best value is worse than silence.** The same head and loss serve the textbook's latent model of chest
# X-rays, with $\sigma = 0.24$. What it prints are sums over an epoch, and each batch takes 25 steps. The companion
# notebook, which keeps 80 % of the films for training, has 67 batches in an epoch; by the split of the text, 60 %,
# there would be 50. <!-- from the textbook -->
#
# With 67:

# %% tags=["nbval-check-output"]
sigma = 0.24
first, final = 144.36 / (67 * 25), 132.24 / (67 * 25)
print(f"printed, per step: {first:.4f} in the first epoch, {final:.4f} in the last")
print(f"perfect, by (7.7): {sum(2 * sigma**2 * (1 - k**-0.5) for k in range(1, 26)) / 25:.4f}; zeros: {sigma**2:.4f}")

# %% [markdown]
# So the last epoch is more than a third *worse* than saying nothing, and a twentieth from the best that this head can
# reach. With the text's split the sums say something else: $144.36 / 1250 = 0.1155$ at first, as of a guess at right
# angles to the target, $2\sigma^2 = 0.1152$, and $132.24 / 1250 = 0.1058$ at last, far from perfect. The sums alone do
# not say which it was. Either way they are worse than silence, and no quality can be read from them.
#
# **"Subtract the predicted noise."** The reverse step is given as $x_{t-1} = x_t - \sigma u$, with the network's output
# $\sigma u$. Its mean would be right for an unstandardised guess, by (7.9); the variance $\frac{t-1}{t}\sigma^2$ is
# missing. Figure 7.4 shows the noise that either version leaves.
#
# ## References
#
# - Ho, Jain, Abbeel (2020). *[Denoising diffusion probabilistic models](https://arxiv.org/abs/2006.11239).* NeurIPS.
#   Equation (7.9) for their chain.
# - Hyvärinen (2005). *[Estimation of non-normalized statistical models by score
#   matching](https://jmlr.org/papers/v6/hyvarinen05a.html).* JMLR 6.
# - Karras, Aittala, Aila, Laine (2022). *[Elucidating the design space of diffusion-based generative
#   models](https://arxiv.org/abs/2206.00364).* NeurIPS. Chains that add noise and do not shrink the image; the denoiser
#   (7.6) of a finite training set.
# - Kingma, Salimans, Poole, Ho (2021). *[Variational diffusion models](https://arxiv.org/abs/2107.00630).* NeurIPS.
#   Stratified steps.
# - Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli (2015). *[Deep unsupervised learning using nonequilibrium
#   thermodynamics](https://arxiv.org/abs/1503.03585).* ICML. The first diffusion model.
# - Song, Ermon (2019). *[Generative modeling by estimating gradients of the data
#   distribution](https://arxiv.org/abs/1907.05600).* NeurIPS.
# - Song, Meng, Ermon (2021). *[Denoising diffusion implicit models](https://arxiv.org/abs/2010.02502).* ICLR. Equation
#   (7.10).
# - Vincent (2011). *[A connection between score matching and denoising
#   autoencoders](https://doi.org/10.1162/NECO_a_00142).* Neural Computation 23.
