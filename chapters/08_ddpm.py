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
# # 8. Denoising diffusion
#
# **The question.** Drop ink into water and it spreads until nothing is left to see. Nobody has ever seen it gather
# again. Yet over one *short* moment, forwards and backwards look nearly alike. If we spoil an image in a thousand short
# steps, can a network learn to undo each of them, and so lead pure noise back to a digit? And what has that to do with
# maximising a likelihood?
#
# You will be able to
# - add noise to an image in one jump or in a thousand steps, and prove that both are the same;
# - derive the posterior $q(x_{t-1} \mid x_t, x_0)$ by Bayes' rule, and check it on a grid;
# - follow the variational bound term by term down to a squared error, and say what was dropped on the way;
# - build a U-Net that knows the time, and train it by Algorithm 1;
# - sample by Algorithm 2, and in a fiftieth of its steps by DDIM;
# - ask for a digit by guidance, and see what the asking costs;
# - bound the likelihood of the model, in bits per dimension.
#
# Running time: about eight minutes of processor time on one core, twice that and more without fast bfloat16, a quarter
# of it training; measured by `make notebooks`.

# %%
import genmed_core  # first: it sets how threads wait
import functools
import inspect
import math
import statistics

import torch
from IPython.display import Markdown
from torch import nn

from genmed_core import data, diffusion, exercises, kernels, metrics, nets, plots, runtime, train, widgets

SEED = runtime.chapter_seed(0)
device = runtime.device()
print(runtime.machine())

# %% [markdown]
# ## The data
#
# Digits in grey, moved from $[0, 1]$ to $[-1, 1]$. The noise that we are about to add has mean 0 and variance 1, and
# the data should be of the same size: what counts is the mean *square* of a pixel, which should be near 1, so that the
# network sees inputs of one size from the first step to the last.

# %%
train_set, val_set, test_set = data.digits("train"), data.digits("val"), data.digits("test")
expect = metrics.Expectations("08_ddpm", source=train_set.source)
sheet = exercises.sheet("08_ddpm")


def to_signed(x):
    """Grey levels in [0, 1] -> [-1, 1]."""
    return 2 * x - 1


def to_grey(x):
    """[-1, 1] -> grey levels in [0, 1], cut where a sample overshoots."""
    return ((x + 1) / 2).clamp(0, 1)


x_test = to_signed(test_set.images.to(device) / 255)  # (N, 1, 28, 28)
y_test = test_set.labels.to(device)
for name, x in (("in [0, 1]", to_grey(x_test)), ("in [-1, 1]", x_test)):
    print(f"{name:10}  mean {x.mean():5.2f}   standard deviation {x.std():.2f}   mean square {x.square().mean():.2f}")

# %% [markdown]
# ## Forwards: how to spoil an image
#
# The **forward process** takes $T = 1000$ steps. Each of them shrinks the image a little and adds a little noise:
#
# $$ q(x_t \mid x_{t-1}) = \mathcal{N}\big(x_t;\ \sqrt{1 - \beta_t}\, x_{t-1},\ \beta_t I\big),
#    \qquad t = 1, \dots, T. \tag{8.1} $$
#
# Why shrink? If a pixel of $x_{t-1}$ has mean square 1, then a pixel of $x_t$ has $(1 - \beta_t) \cdot 1 + \beta_t =
# 1$. **The variance is preserved**, and after many steps we end in $\mathcal{N}(0, I)$ and not in noise without
# bound.
#
# Must we take all steps to reach $x_t$? Write $\alpha_t = 1 - \beta_t$, and put two steps together:
#
# $$ x_t = \sqrt{\alpha_t}\big(\sqrt{\alpha_{t-1}}\, x_{t-2} + \sqrt{\beta_{t-1}}\, \varepsilon_{t-1}\big)
#    + \sqrt{\beta_t}\, \varepsilon_t. $$
#
# The two noises are independent Gaussians, so their sum is one Gaussian whose variance is the sum, $\alpha_t (1 -
# \alpha_{t-1}) + (1 - \alpha_t) = 1 - \alpha_t \alpha_{t-1}$. Two steps have the form of one, with $\alpha_t
# \alpha_{t-1}$ in the place of $\alpha_t$. By induction, with $\bar\alpha_t = \prod_{s \le t} \alpha_s$,
#
# $$ q(x_t \mid x_0) = \mathcal{N}\big(\sqrt{\bar\alpha_t}\, x_0,\ (1 - \bar\alpha_t) I\big),
#    \qquad x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \varepsilon. \tag{8.2} $$
#
# This closed form makes training cheap: one multiplication leads to any $t$. In code, steps count from 0, so `t = 0`
# is the papers' $t = 1$. First, we put (8.2) to the test. Two hundred images walk a thousand steps of (8.1); at
# some of them we ask how much of $x_0$ is left (by regression), and how large the rest and the whole are.

# %% [markdown]
# **Exercise 8.1 (code ★). Any step in one jump.** Write (8.2) as code: images `x0` (B, 1, H, W), steps `t` (B,) int64
# that count from 0, another for each image, noise `eps`, and the betas of *any* chain, `beta` (T,). The check walks the
# chain (8.1).
#
# <details class="hint"><summary>Hint 1</summary>
#
# Start with $\bar\alpha$ for all steps, a running product, and pick the entries at `t`.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# A factor for each image has shape (B, 1, 1, 1). Which of the two factors are variances, and which are their roots?
#
# </details>

# %% tags=["answer"]
def jump(x0, t, eps, beta):
    """x_t in one jump, (8.2).

    x0, eps (B, 1, H, W), t (B,) int64 in 0..T-1, beta (T,).  Returns x_t, shaped like x0.
    """
    ...

# %% tags=["check"]
sheet.check("8.1", jump)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.1</summary>
#
# Because `t = 0` is the papers' first step, `alpha_bar[t]` is a product of $t + 1$ factors, and no shift is needed.
#
# ```python
# def jump(x0, t, eps, beta):
#     bar = (1 - beta).cumprod(0)[t].view(-1, 1, 1, 1)
#     return bar.sqrt() * x0 + (1 - bar).sqrt() * eps
# ```
#
# </details>

# %%
T = 1000  # yours to change, from 100 on, before you run what follows
linear, cosine = diffusion.Schedule.linear(T).to(device), diffusion.Schedule.cosine(T).to(device)

torch.manual_seed(SEED)
x0 = x_test[:200] / x_test[:200].square().mean().sqrt()  # of mean square 1, to the last digit
x, worst = x0, 0.0
print(f"{'step':>5}{'image left':>12}{'closed form':>13}{'noise var':>11}{'closed form':>13}{'mean square':>13}")
for t in range(T):
    x = (1 - linear.beta[t]).sqrt() * x + linear.beta[t].sqrt() * torch.randn_like(x)        # (8.1)
    if t + 1 in (1, T // 100, T // 10, 3 * T // 10, 6 * T // 10, T):
        left = (x * x0).mean() / x0.square().mean()
        noise, size = (x - left * x0).square().mean(), x.square().mean()
        a, v = linear.alpha_bar[t].sqrt(), 1 - linear.alpha_bar[t]                           # (8.2)
        print(f"{t + 1:5}{left:12.4f}{a:13.4f}{noise:11.4f}{v:13.4f}{size:13.4f}")
        worst = max(worst, abs(left - a).item(), abs(noise - v).item(), abs(size - 1).item())
assert worst < 0.02

# %% [markdown]
# ## How fast? Two schedules
#
# The betas are ours to choose. Sohl-Dickstein et al. (2015), who began all this, learned some of theirs. Ho et al.
# (2020) let them rise in a straight line from $10^{-4}$ to $2 \cdot 10^{-2}$. Nichol and Dhariwal (2021) noticed that
# this ruins small images too early: a fifth of the steps could be left out with hardly a loss. They chose $\bar\alpha$
# instead, and let it fall as a squared cosine:
#
# $$ \bar\alpha_t = \frac{f(t)}{f(0)}, \qquad f(t) = \cos^2\!\left(\frac{t/T + s}{1 + s} \cdot \frac{\pi}{2}\right),
#    \qquad \beta_t = \min\!\left(1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}},\ 0.999\right). \tag{8.3} $$
#
# The offset $s = 0.008$ keeps the first steps from being too small. What matters is the **signal-to-noise ratio**
# $\mathrm{SNR}_t = \bar\alpha_t / (1 - \bar\alpha_t)$; its logarithm tells the two apart.

# %% [markdown]
# **Exercise 8.2 (code ★★). The cosine schedule.** Write (8.3): the betas of the cosine schedule for `T` steps with
# offset `s`, as a tensor (T,), first step first. Its last entry is a case of its own.
#
# <details class="hint"><summary>Hint 1</summary>
#
# You need $f$ at $T + 1$ places, $t = 0, \dots, T$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $1 - f(t)/f(t - 1)$: the $f(0)$ of both $\bar\alpha$ cancels. `clamp(max=0.999)` at the end.
#
# </details>

# %% tags=["answer"]
def cosine_beta(T, s):
    """The betas of the cosine schedule.

    T an integer, s a number such as 0.008.  Returns beta (T,).
    """
    ...

# %% tags=["check"]
sheet.check("8.2", cosine_beta)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.2</summary>
#
# In double precision, since one less a ratio near 1 loses digits. At $t = T$ the cosine is zero, so $\beta_T$ would be
# 1 and $\bar\alpha_T$ zero.
#
# ```python
# def cosine_beta(T, s):
#     t = torch.arange(T + 1, dtype=torch.float64)
#     f = ((t / T + s) / (1 + s) * math.pi / 2).cos().square()
#     return (1 - f[1:] / f[:-1]).clamp(max=0.999)
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.3 (predict ★). Half of the image.** Before you see figure 8.1: with the linear schedule, $\beta$ rising
# from $10^{-4}$ to $2 \cdot 10^{-2}$ in $1000$ steps, after how many steps is half of the image's variance gone,
# $\bar\alpha_t = \frac12$?
#
# <details class="hint"><summary>Hint 1</summary>
#
# $\log\bar\alpha_t = \sum_{s \le t} \log(1 - \beta_s)$, and $\log(1 - \beta) \approx -\beta$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $10^{-4}\,t + \frac12 \cdot 1.99 \cdot 10^{-5}\,t^2 = \ln 2$.
#
# </details>

# %% tags=["answer"]
prediction_8_3 = None  # a number

# %% tags=["check"]
sheet.check("8.3", prediction_8_3, measured=int((linear.alpha_bar > 0.5).sum()))

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.3</summary>
#
# About a quarter of the way: the root of the quadratic in the second hint. From there on, three quarters of the way,
# there is less image than noise in what the network is shown.
#
# ```python
# a, b = 0.5 * 1.99e-5, 1e-4
# prediction_8_3 = (-b + math.sqrt(b**2 + 4 * a * math.log(2))) / (2 * a)
# ```
#
# </details>

# %% mystnb={"image": {"alt": "Left: alpha bar falls sooner for the linear schedule. Right: log SNR against the step"}}
fig, (left, right) = plots.figure(8, 2.8, 1, 2)
for name, s in (("linear", linear), ("cosine", cosine)):
    a = s.alpha_bar.cpu()
    left.plot(range(1, T + 1), a, label=name)
    right.plot(range(1, T + 1), (a / (1 - a)).log10(), label=name)
left.set(xlabel="step t", ylabel="ᾱ: share of the image's variance")
right.set(xlabel="step t", ylabel="log10 SNR", ylim=(-6, 4.5))
left.legend()
fig

# %% [markdown]
# **Figure 8.1.** The share of the image's variance that is left, and the signal-to-noise ratio, for both schedules. The
# right axis is cut at −6.

# %% mystnb={"image": {"alt": "A digit drowns in noise along t, with the linear schedule sooner than with the cosine"}}
shown = [0, *range(T // 10 - 1, T, T // 10)]
eps = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(SEED)).to(device)
rows = [diffusion.q_sample(x_test[:1], t, eps, s) for s in (linear, cosine) for t in shown]
plots.show_grid(to_grey(torch.cat(rows)), columns=len(shown), row_labels=["linear", "cosine"],
                column_labels=[f"t = {t + 1}" if t == 0 else str(t + 1) for t in shown])

# %% [markdown]
# **Figure 8.2.** One digit and one draw of noise, along both schedules.
#
# In figure 8.1 the linear schedule is the first to lose the image, and figure 8.2 shows what that means for a digit.
#
# ## Slider: forwards in time
#
# Eight test digits, the same noise in both halves. Find the step at which you can no longer tell the class. First the
# frames, then the slider itself.

# %%
def forward_frame(t, s):
    noise = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(SEED)).to(device)
    return plots.tile(to_grey(diffusion.q_sample(x_test[:8], t, noise, s)), 2, 4)


times = [0, *range(T // 20 - 1, T, T // 20)]
forward_slider = widgets.FrameSlider([[forward_frame(t, linear), forward_frame(t, cosine)] for t in times],
                                     labels=[t + 1 for t in times], description="t", width=230, interval=300,
                                     captions=["linear", "cosine"])
for place in (0, 10, -1):
    one, two = forward_slider.frame(place)
    assert one.shape == two.shape == (57, 115)
    print(f"t = {times[place] + 1:4}: spread {one.std() / 255:.2f} (linear), {two.std() / 255:.2f} (cosine)")

# %%
forward_slider

# %% [markdown]
# ## Backwards, if we knew the image
#
# Going back needs $q(x_{t-1} \mid x_t)$, which depends on all images that could have led to $x_t$. But *given* $x_0$
# it is a small exercise. Bayes' rule, and (8.1) does not look at $x_0$:
#
# $$ q(x_{t-1} \mid x_t, x_0) = \frac{q(x_t \mid x_{t-1})\, q(x_{t-1} \mid x_0)}{q(x_t \mid x_0)}. \tag{8.4} $$
#
# **Step 1.** Take logarithms, and keep only what depends on $x_{t-1}$. The denominator drops out:
#
# $$ \log q = -\frac12\left[\frac{(x_t - \sqrt{\alpha_t}\, x_{t-1})^2}{\beta_t}
#    + \frac{(x_{t-1} - \sqrt{\bar\alpha_{t-1}}\, x_0)^2}{1 - \bar\alpha_{t-1}}\right] + \text{const}. $$
#
# **Step 2.** This is a quadratic in $x_{t-1}$, so the result is Gaussian. Its precision is the factor of
# $x_{t-1}^2$. Use $\alpha_t (1 - \bar\alpha_{t-1}) + \beta_t = 1 - \bar\alpha_t$:
#
# $$ \frac{1}{\tilde\beta_t} = \frac{\alpha_t}{\beta_t} + \frac{1}{1 - \bar\alpha_{t-1}}
#    = \frac{1 - \bar\alpha_t}{\beta_t\,(1 - \bar\alpha_{t-1})}
#    \quad\Rightarrow\quad \tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\, \beta_t. \tag{8.5} $$
#
# **Step 3.** The mean is $\tilde\beta_t$ times the factor of $x_{t-1}$ in the cross terms,
# $\frac{\sqrt{\alpha_t}}{\beta_t} x_t + \frac{\sqrt{\bar\alpha_{t-1}}}{1 - \bar\alpha_{t-1}} x_0$:
#
# $$ \tilde\mu_t(x_t, x_0) = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t}\, x_0
#    + \frac{\sqrt{\alpha_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, x_t. \tag{8.6} $$
#
# A weighted mean of where we are and where we come from. Check it by brute force: multiply the two densities on a
# fine grid, for a single pixel, and read off mean and variance.

# %%
x0, x_t = torch.tensor([[0.8]], dtype=torch.float64), torch.tensor([[-0.4]], dtype=torch.float64)
posterior_error = 0.0
for t in (1, T // 4, T // 2, 99 * T // 100):
    beta, alpha, _, _ = (v.item() for v in cosine.at(torch.tensor([t], device=device)))
    _, _, bar, _ = (v.item() for v in cosine.at(torch.tensor([t - 1], device=device)))
    mean, var = (v.item() for v in diffusion.q_posterior(x0.to(device), x_t.to(device), t, cosine))
    grid = mean + torch.linspace(-9, 9, 40_001, dtype=torch.float64) * math.sqrt(var)
    log_q = -((x_t.item() - math.sqrt(alpha) * grid) ** 2 / beta + (grid - math.sqrt(bar) * 0.8) ** 2 / (1 - bar)) / 2
    q = torch.softmax(log_q, 0)                                                              # (8.4)
    brute_mean, brute_var = (q * grid).sum(), (q * (grid - (q * grid).sum()) ** 2).sum()
    posterior_error = max(posterior_error, abs(brute_mean / mean - 1).item(), abs(brute_var / var - 1).item())
    print(f"t = {t + 1:4}   mean {mean:8.5f}, on the grid {brute_mean:8.5f}   "
          f"variance {var:.3e}, on the grid {brute_var:.3e}")

# %% [markdown]
# **Exercise 8.4 (code ★★). One step back, if the image is known.** (review) Turn (8.5) and (8.6) into code, for single
# numbers `x0`, `x_t` (B,) at steps `t` (B,) that count from 0, given the betas of any chain. Return mean and variance
# of $q(x_{t-1} \mid x_t, x_0)$. At `t = 0`, $x_{t-1}$ is $x_0$ itself: one more place where an index can go wrong.
#
# <details class="hint"><summary>Hint 1</summary>
#
# $\bar\alpha_{t-1}$ before the first step is an empty product.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Put a 1 in front of the running product: entry `t` of that is $\bar\alpha_{t-1}$, entry `t + 1` is $\bar\alpha_t$.
#
# </details>

# %% tags=["answer"]
def step_back(x0, x_t, t, beta):
    """Mean and variance of q(x_{t-1} | x_t, x_0), (8.5) and (8.6).

    x0, x_t (B,), t (B,) int64 in 0..T-1, beta (T,).  Returns mean (B,), variance (B,).
    """
    ...

# %% tags=["check"]
sheet.check("8.4", step_back)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.4</summary>
#
# The check conditions the chain's joint Gaussian on $x_t$, and knows nothing of (8.6).
#
# ```python
# def step_back(x0, x_t, t, beta):
#     bars = torch.cat([torch.ones(1), (1 - beta).cumprod(0)])
#     before, bar, beta = bars[t], bars[t + 1], beta[t]
#     mean = (before.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - before) * x_t) / (1 - bar)
#     return mean, (1 - before) / (1 - bar) * beta
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.5 (derive ★★). The same mean, from the noise.** (review) Simplify $\tilde\mu_t$: put what (8.2) says
# about $x_0$ into (8.6), and return the mean as a function of $x_t$ and $\varepsilon$. Two terms in $x_t$ become one.
# This is what a sampler needs whose network guesses noise.
#
# <details class="hint"><summary>Hint 1</summary>
#
# $x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\,\varepsilon)/\sqrt{\bar\alpha_t}$, and $\bar\alpha_t = \alpha_t
# \bar\alpha_{t-1}$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The factor of $x_t$ is $\frac{\beta_t + \alpha_t(1 - \bar\alpha_{t-1})}{(1 - \bar\alpha_t)\sqrt{\alpha_t}}$. What is
# its numerator?
#
# </details>

# %% tags=["answer"]
def mean_from_noise(x_t, eps, t, beta):
    """The mean of q(x_{t-1} | x_t, x_0) from the noise in x_t.

    x_t, eps (B,), t (B,) int64 in 0..T-1, beta (T,).  Returns (B,).
    """
    ...

# %% tags=["check"]
sheet.check("8.5", mean_from_noise)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.5</summary>
#
# The factor of $x_t$ is
#
# $$ \frac{\beta_t}{(1 - \bar\alpha_t)\sqrt{\alpha_t}} + \frac{\sqrt{\alpha_t}(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}
#    = \frac{\beta_t + \alpha_t - \bar\alpha_t}{(1 - \bar\alpha_t)\sqrt{\alpha_t}} = \frac{1}{\sqrt{\alpha_t}}, $$
#
# and that of $\varepsilon$ is $-\frac{\beta_t}{(1 - \bar\alpha_t)\sqrt{\alpha_t}} \sqrt{1 - \bar\alpha_t} =
# -\frac{\beta_t}{\sqrt{\alpha_t}\sqrt{1 - \bar\alpha_t}}$. You will meet it in Algorithm 2.
#
# ```python
# def mean_from_noise(x_t, eps, t, beta):
#     bar, beta = (1 - beta).cumprod(0)[t], beta[t]
#     return (x_t - beta / (1 - bar).sqrt() * eps) / (1 - beta).sqrt()
# ```
#
# </details>

# %% [markdown]
# ## From the bound to a squared error
#
# Now the model. It starts from $p(x_T) = \mathcal{N}(0, I)$ and walks back by Gaussian steps with learned means,
#
# $$ p_\theta(x_{t-1} \mid x_t) = \mathcal{N}\big(\mu_\theta(x_t, t),\ \sigma_t^2 I\big). \tag{8.7} $$
#
# Seen from [chapter 2](02_vae.ipynb), this is a VAE whose code is the whole path $x_1, \dots, x_T$ and whose encoder,
# the forward process, has nothing to learn. The bound is the same:
#
# $$ -\log p_\theta(x_0) \le \mathbb{E}_q\!\left[\log \frac{q(x_{1:T} \mid x_0)}{p_\theta(x_{0:T})}\right]
#    = \mathbb{E}_q\!\left[-\log p(x_T) + \sum_{t=1}^{T} \log \frac{q(x_t \mid x_{t-1})}{p_\theta(x_{t-1} \mid x_t)}
#    \right]. $$
#
# The two densities in the sum look in opposite directions. Turn $q$ around with (8.4), $q(x_t \mid x_{t-1}) =
# q(x_{t-1} \mid x_t, x_0)\, q(x_t \mid x_0) / q(x_{t-1} \mid x_0)$ for $t > 1$. The last two factors telescope along
# the path and leave only $q(x_T \mid x_0)$. What remains are divergences between Gaussians:
#
# $$ -\log p_\theta(x_0) \le
#    \underbrace{\mathrm{KL}\big(q(x_T \mid x_0) \,\|\, p(x_T)\big)}_{L_T\text{: nothing to learn}}
#    + \sum_{t=2}^{T} \underbrace{\mathbb{E}\,\mathrm{KL}\big(q(x_{t-1} \mid x_t, x_0) \,\|\,
#      p_\theta(x_{t-1} \mid x_t)\big)}_{L_{t-1}}
#    + \underbrace{\mathbb{E}[-\log p_\theta(x_0 \mid x_1)]}_{L_0\text{: reconstruction}}. \tag{8.8} $$
#
# This is the textbook's "reconstruction plus a series of KLs". Let $\sigma_t^2 = \tilde\beta_t$. Two Gaussians of one
# variance differ in their means alone, and the best guess of a mean of the form (8.6) puts a guess $\hat x_0(x_t, t)$
# where the true $x_0$ stood:
#
# $$ L_{t-1} = \mathbb{E}\,\frac{\|\tilde\mu_t - \mu_\theta\|^2}{2 \tilde\beta_t}
#    = \tfrac12\big(\mathrm{SNR}_{t-1} - \mathrm{SNR}_t\big)\, \mathbb{E}\,\|x_0 - \hat x_0\|^2
#    = \frac{\beta_t}{2 \alpha_t (1 - \bar\alpha_{t-1})}\, \mathbb{E}\,\|\varepsilon - \hat\varepsilon\|^2. \tag{8.9} $$
#
# The last form uses (8.2): who knows the noise knows the image. So *predicting the noise maximises a bound on the
# likelihood*, if each step is weighted as (8.9) says. Ho et al. found better pictures with all weights set to one:
#
# $$ L_{\text{simple}}
#    = \mathbb{E}_{t, x_0, \varepsilon}\,\big\|\varepsilon - \hat\varepsilon(x_t, t)\big\|^2. \tag{8.10} $$
#
# Compute (8.9) three ways for a model that is wrong on purpose, and look at the weights that (8.10) throws away:

# %%
torch.manual_seed(SEED)
x0, eps = x_test[:50], torch.randn(50, 1, 28, 28, device=device)
wrong = eps + 0.1 * torch.randn_like(eps)  # what our poor model says, whatever it is shown
print("KL summed over 784 pixels, in nats; the two variances of a step, (8.5) over beta")
print(f"{'t':>5}{'KL':>12}{'by x0_hat':>12}{'by eps_hat':>12}{'weight':>12}{'variances':>11}")
for t in (1, T // 100, T // 10, T // 2, 9 * T // 10, 99 * T // 100, T - 1):
    at = torch.full((50,), t, device=device)
    kl = diffusion.vlb_terms(lambda x, t, y: wrong, x0, at, cosine, eps=eps).mean() * 784 * math.log(2)
    x0_hat, _ = diffusion.predict(wrong, diffusion.q_sample(x0, at, eps, cosine), at, cosine)
    (beta, alpha, bar, _), (_, _, bar_before, _) = cosine.at(at[:1]), cosine.at(at[:1] - 1)
    snr, snr_before = bar / (1 - bar), bar_before / (1 - bar_before)
    by_x0 = 0.5 * (snr_before - snr) * (x0 - x0_hat).double().square().sum((1, 2, 3)).mean()
    weight = beta / (2 * alpha * (1 - bar_before))
    by_eps = weight * (eps - wrong).double().square().sum((1, 2, 3)).mean()
    print(f"{t + 1:5}{kl:12.5f}{by_x0.item():12.5f}{by_eps.item():12.5f}{weight.item():12.5f}"
          f"{((1 - bar_before) / (1 - bar)).item():11.3f}")
    torch.testing.assert_close(torch.stack([by_x0[0], by_eps[0]]), kl.expand(2), rtol=1e-3, atol=0)

# %% [markdown]
# The bound cares about the first steps, where the noise is too faint to see and where most of the bits are spent.
# $L_{\text{simple}}$ turns to the noisy steps, where a stroke becomes a seven or a one. But at the end of the cosine
# schedule the weight of (8.9) *rises* again, and steeply: at $t = T$, where (8.3) holds $\beta_T$ at $0.999$, it is the
# largest of all. The weight of an error of the image, $\frac12 (\mathrm{SNR}_{t-1} - \mathrm{SNR}_t)$, does not rise.
# But $\hat x_0$ is $\hat\varepsilon$ divided by $\sqrt{\mathrm{SNR}_t}$, which goes to zero there: the last steps ask
# for the noise to many digits, of an input that is nearly all noise.
#
# **Fixed or learned variance?** We set $\sigma_t^2 = \tilde\beta_t$, which is exactly right when the data are a
# single point. For data that are white noise of variance 1, $\sigma_t^2 = \beta_t$ is right. The truth lies between,
# and from about the hundredth step on the two are nearly the same (last column). $L_{\text{simple}}$ contains no
# $\sigma$ at all, so it cannot teach one. Nichol and Dhariwal let the network output $r$ in $\sigma_t^2 =
# \exp\!\big(r \log \beta_t + (1 - r) \log \tilde\beta_t\big)$ and train it by a small share of (8.8). They gain
# likelihood. We keep it fixed, and measure below what a learned one would have gained.
#
# ## What should the network say?
#
# Given $x_t$ and $t$, the noise, the image and every mixture of the two are the same knowledge, by (8.2). They are
# not the same to a network whose outputs carry an error. Salimans and Ho (2022) proposed
#
# $$ v = \sqrt{\bar\alpha_t}\, \varepsilon - \sqrt{1 - \bar\alpha_t}\, x_0,
#    \qquad \hat x_0 = \sqrt{\bar\alpha_t}\, x_t - \sqrt{1 - \bar\alpha_t}\, \hat v,
#    \qquad \hat\varepsilon = \sqrt{1 - \bar\alpha_t}\, x_t + \sqrt{\bar\alpha_t}\, \hat v. \tag{8.11} $$
#
# It is a rotation: $(x_0, \varepsilon)$ turned by an angle into $(x_t, v)$, so nothing is ever divided by a small
# number. Suppose the output is off by 0.1 in every pixel. How far off is the image, and how far the noise?

# %% tags=["nbval-check-output"]
print("an error of 0.1 in the output becomes an error of ... in x0_hat / in eps_hat")
print(f"{'t':>5}" + "".join(f"{'predicting ' + name:>22}" for name in diffusion.PREDICTS))
zeros = torch.zeros(1, 1, 1, 1)
for t in (T // 100 - 1, T // 10 - 1, T // 2 - 1, 9 * T // 10 - 1, 99 * T // 100 - 1):
    row = ""
    for name in diffusion.PREDICTS:
        pair = diffusion.predict(zeros + 0.1, zeros, t, cosine.to("cpu"), predicts=name)
        row += "".join(f"{part.abs().item():11.3f}" for part in pair)
    print(f"{t + 1:5}{row}")

# %% [markdown]
# Late in the chain the image cannot be read from a predicted noise, and early the noise cannot be read from a predicted
# image. Predicting $v$ is safe at both ends. Its squared error is that of $x_0$ times $1 + \mathrm{SNR}_t$: Algorithm 1
# with other weights, and nothing else changes. So every choice of a target is a choice of weights for one error:

# %% mystnb={"image": {"alt": "Weights by step: the bound is least in the middle in the noise; v never vanishes"}}
t = torch.arange(1, T, device=device)                                          # the papers' 2, ..., T
(beta, alpha, bar, _), (_, _, bar_before, _) = ([v.flatten().double().cpu() for v in cosine.at(s)] for s in (t, t - 1))
snr, ones = bar / (1 - bar), torch.ones(T - 1, dtype=torch.float64)
weights = {"noise, L_simple": ones, "image": 1 / snr, "v": 1 + 1 / snr,
           "bound (8.9)": beta / (2 * alpha * (1 - bar_before))}
fig, (left, right) = plots.figure(8, 3, 1, 2)
for name, of_noise in weights.items():
    for ax, weight in ((left, of_noise), (right, of_noise * snr)):             # the two errors differ by SNR
        ax.plot(range(2, T + 1), weight, "--" if name == "v" else "-", label=name)
left.set(xlabel="step t", ylabel="weight of the noise's squared error", yscale="log")
right.set(xlabel="step t", ylabel="weight of the image's squared error", yscale="log")
left.legend()
fig

# %% [markdown]
# **Figure 8.3.** What four losses weigh the squared error of a pixel with, as an error of the noise and as one of the
# image, from $t = 2$ to $T$ of the cosine schedule. The axes are logarithmic.
#
# In figure 8.3 $v$ weighs as the noise does at first, and as the image does at last. Neither of its weights is ever
# below 1. **We predict $v$, and not, by (8.10), $\varepsilon$.** Is it worth it? The cells below, run with another
# target and nothing else changed, at equal steps (`make study STUDY=prediction_targets`; 1,000 digits in 20 steps with
# noise; one of the nine trainings ran in bfloat16; guidance, recall and bits are explained further down):
#
# | predicts | seeds | FD / floor, no guidance | FD / floor, guided | recall | read as asked, % | bits per dimension |
# | --- | ---: | ---: | ---: | ---: | ---: | ---: |
# | noise, L_simple | 3 | 14.3 ± 0.9 | 5.6 ± 0.6 | 0.69 ± 0.01 | 91.1 ± 1.0 | 2.00 ± 0.16 |
# | image | 3 | 5.0 ± 0.3 | 3.3 ± 0.4 | 0.66 ± 0.05 | 98.1 ± 0.7 | 102.61 ± 41.86 |
# | v, the chapter's | 3 | 5.6 ± 0.6 | 3.1 ± 0.3 | 0.63 ± 0.02 | 99.0 ± 0.2 | 2.00 ± 0.15 |
#
# Without guidance, who guesses the noise ends with every seed more than twice as far from real digits as who guesses
# $v$, and their bounds on the likelihood cannot be told apart: few of the bound's bits lie in the steps with much
# noise, where the shape of a digit is decided and where, by figure 8.3, $L_{\text{simple}}$ weighs an error of the
# image next to nothing. The guess of the image draws about as well as $v$, but its bound collapses, with every seed: in
# the last steps, with little noise, it asks for a precision that this target never taught.
#
# ## The model: a U-Net that knows the time
#
# One network serves all steps, so it must be told which one. A bare number $t$ would be hard to tell from its
# neighbour. Like the hands of many clocks, sines and cosines of different speeds mark each step, as they mark the place
# of a word in Vaswani et al. (2017):

# %% tags=["nbval-check-output"]
print(inspect.getsource(nets.time_embedding))

# %% mystnb={"image": {"alt": "Stripes of sines and cosines: fast on the left, slow to the right, one row a step"}}
fig, ax = plots.figure(6.5, 2.2)
ax.imshow(nets.time_embedding(torch.arange(0, T, 5), 64), cmap="RdBu", aspect="auto", vmin=-1, vmax=1,
          extent=(0, 64, T, 0), interpolation="nearest")
ax.grid(False)
ax.set(xlabel="coordinate: 32 sines, then 32 cosines", ylabel="step t")
fig

# %% [markdown]
# **Figure 8.4.** What the network is told of the time: one row for every fifth step.
#
# No two rows of figure 8.4 are alike, and near ones are similar. The building block has two convolutions beside a short
# cut. Between them, every channel is scaled and shifted as the embedding of time and label says. The last convolution
# begins at zero: the block starts as the identity, and learns what to add.

# %% tags=["nbval-check-output"]
print(inspect.getsource(nets.ResidualBlock))

# %% [markdown]
# A convolution sees three by three pixels. Whether the upper and the lower half of an 8 fit together is a matter of
# distant places, and **self-attention** lets all of them talk. At size 7 there are $7 \times 7 = 49$, which costs
# little.

# %% tags=["nbval-check-output"]
print(inspect.getsource(nets.SelfAttention))

# %% [markdown]
# The whole is shaped like a U (Ronneberger et al. 2015): down to half the size, where a place sees much of the digit,
# and up again. The bridge across the U carries the fine detail, which noise removal needs at its exact place. Before
# all this, blocks of $2 \times 2$ pixels are folded into four channels, so that no layer works on $28 \times 28$, but
# on a quarter of the places.

# %% tags=["nbval-check-output"]
print(inspect.getsource(nets.UNet))

# %% tags=["nbval-check-output"]
parameters = metrics.parameter_count(nets.UNet())
print(f"{parameters:,} parameters")

# %% [markdown]
# Many processors multiply faster in bfloat16, numbers of 8 bits precision. Does it pay here? We time both:

# %%
def images_per_second(model, bf16, n=128, rounds=8):
    """Speed of the forward pass; the one number read at the end waits for the device."""
    x, t = torch.randn(n, 1, 28, 28, device=device), torch.zeros(n, dtype=torch.int64, device=device)
    with torch.no_grad(), runtime.autocast(device, bf16):
        model(x, t).sum().item()
        begin = runtime.clock()
        sum(model(x, t).sum() for _ in range(rounds)).item()
    return n * rounds / (runtime.clock() - begin)


rate = {bf16: images_per_second(nets.UNet().to(device), bf16) for bf16 in (False, True)}
BF16 = runtime.has_fast_bf16() and rate[True] > rate[False]
print(f"float32 {rate[False]:,.0f} images/s, bfloat16 {rate[True]:,.0f} images/s"
      if runtime.has_fast_bf16() else "no fast bfloat16 on this processor")
print("the network runs in", "bfloat16" if BF16 else "float32")

# %% [markdown]
# ## Algorithm 1: training
#
# The published algorithm has five lines: repeat; draw an image; draw a step; draw noise; take a gradient step on
# (8.10). Here are its lines in the same order. One change: the error is that of $v$. Two additions: the steps of a
# batch are spread evenly over $1, \dots, T$ (each alone is still uniform, but the loss varies less; Kingma et al.
# 2021), and every tenth label is replaced by the **null label**, so that the network also learns to denoise without
# being told the digit. We shall need that for guidance.

# %%
PREDICTS = "v"


def ddpm_loss(model, drop=0.1):
    """-> loss_fn(batch) for a training step: Algorithm 1, with the squared error of v per pixel."""

    def loss_fn(batch):                                                     # 1: repeat
        x0 = to_signed(batch.x)                                             # 2: x_0 ~ q(x_0)
        B = len(x0)
        t = diffusion.stratified_timesteps(B, T, device=x0.device)          # 3: t ~ Uniform(1, ..., T)
        eps = torch.randn_like(x0)                                          # 4: eps ~ N(0, I)
        x_t = diffusion.q_sample(x0, t, eps, cosine)                        # (8.2)
        y = torch.where(torch.rand(B, device=x0.device) < drop, model.null, batch.y)
        with runtime.autocast(x0.device, BF16):
            v_hat = model(x_t, t, y)
        v = diffusion.target(x0, eps, t, cosine, predicts=PREDICTS)         # (8.11)
        loss = (v - v_hat).square().mean()                                  # 5: gradient step on this
        return loss, {}

    return loss_fn


# %% [markdown]
# Is the loss what it says? A network that *knows* the one image of its data can read the noise off $x_t$ by (8.2) and
# return the true $v$, all by hand. Its loss must be zero, the noise that it reads off must have a mean square of one,
# and a tenth of its labels must be the null label.

# %%
class Knows(nn.Module):
    """A network that knows the one image x0 (1, 1, 28, 28) of its data: it returns the true v."""

    null = 10

    def __init__(self, x0):
        super().__init__()
        self.x0, self.noise, self.labels = x0, [], []

    def forward(self, x_t, t, y):
        bar = cosine.alpha_bar.double()[t].view(-1, 1, 1, 1)
        eps = (x_t - bar.sqrt() * self.x0) / (1 - bar).sqrt()               # (8.2), solved for the noise
        self.noise.append(eps)
        self.labels.append(y)
        return (bar.sqrt() * eps - (1 - bar).sqrt() * self.x0).float()


torch.manual_seed(SEED)
image = test_set.images[:1].to(device) / 255
knows = Knows(2 * image.double() - 1)
one_image = kernels.Batch(image.expand(4000, 1, 28, 28), torch.full((4000,), 7, device=device))
loss_of_truth = ddpm_loss(knows)(one_image)[0].item()
noise_square = torch.cat(knows.noise).square().mean().item()
left_out = (torch.cat(knows.labels) == knows.null).float().mean().item()
print(f"loss {loss_of_truth:.1e}, mean square of the noise {noise_square:.3f}, labels left out {left_out:.3f}")

# %% [markdown]
# ## Train
#
# AdamW with a rate that rises over the first twentieth of the steps and then falls to zero. For sampling we use a
# moving average of the weights, as Ho et al. do.

# %%
STEPS, BATCH, RATE = 2400, 32, 6e-3
torch.manual_seed(SEED)
unet = nets.UNet().to(device)
optimizer = torch.optim.AdamW(unet.parameters(), lr=RATE, betas=(0.9, 0.99), fused=True)
batches = kernels.Batches(train_set, batch_size=BATCH, seed=SEED, device=device)
step = kernels.TrainStep(ddpm_loss(unet), optimizer, batches=batches, model=unet, ema=0.997, seed=SEED,
                         schedule=kernels.linear_decay(0.05))

# %% tags=["train"]
history = train.fit(step, runtime.budget(STEPS), title="U-Net")
trained = step.ema_model.eval()
print(f"{history.seconds:.0f} s, {history.images_per_second:,.0f} images/s, "
      f"{history.images / len(train_set):.1f} times through the data")

# %% mystnb={"image": {"alt": "Training loss falls steeply at first and then slowly, all along the training"}}
plots.show_curves({"mean over a report": (history.steps, history["loss"])}, x_label="step", y_range=(0, 0.5),
                  y_label="squared error of v, per pixel")

# %% [markdown]
# **Figure 8.5.** The training loss. Its axis ends at 0.5.
#
# The loss in figure 8.5 says little, since its floor is unknown. What counts are the samples. (The bar tells time on
# the wall. All other seconds here are processor time if one thread computes, as for the stored numbers; else wall time
# too.)
#
# ## Algorithm 2: sampling
#
# To walk back, put $\hat x_0$ into (8.6), or, written with the noise, which comes to the same (exercise 8.5),
#
# $$ x_{t-1} = \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}}\,
#    \hat\varepsilon(x_t, t)\right) + \sigma_t z, \qquad z \sim \mathcal{N}(0, I), \tag{8.12} $$
#
# with $z = 0$ at the last step. Why add noise to an image that we want to clean? Because $x_{t-1}$ is *meant* to be
# noisy, and the mean of the posterior is too smooth to be a draw from it. We limit $\hat x_0$ to the grey levels that
# exist.

# %%
def denoiser(model):
    """The network as the samplers call it, in the precision that was chosen above."""

    def denoise(x_t, t, y=None):
        with runtime.autocast(device, BF16):
            return model(x_t, t, y)

    return denoise


@torch.no_grad()
def algorithm_2(denoise, y, generator, schedule=cosine):
    """y (B,) labels -> x_0 (B, 1, 28, 28), by T steps of (8.12)."""
    shape = (len(y), 1, 28, 28)
    x = torch.randn(shape, generator=generator).to(device)                       # 1: x_T ~ N(0, I)
    for t in range(T - 1, -1, -1):                                               # 2: for t = T, ..., 1
        z = torch.randn(shape, generator=generator).to(device) if t > 0 else 0   # 3: z ~ N(0, I), or 0
        at = torch.full((len(y),), t, device=device)
        _, eps_hat = diffusion.predict(denoise(x, at, y), x, at, schedule, predicts=PREDICTS, clip=(-1, 1))
        beta, alpha, bar, _ = (v[0].float() for v in schedule.at(at))
        bar_before = schedule.at(at - 1)[2][0].float()
        mean = (x - beta / (1 - bar).sqrt() * eps_hat) / alpha.sqrt()
        sigma = (beta * (1 - bar_before) / (1 - bar)).sqrt()                     # (8.5)
        x = mean + sigma * z                                                     # 4: (8.12)
    return x                                                                     # 5, 6: end for; return x_0


# %% mystnb={"image": {"alt": "The ten digits drawn by a thousand steps of Algorithm 2, one of each class"}}
each_class = torch.arange(10, device=device)
ten, slow = metrics.timed_samples(
    lambda: algorithm_2(denoiser(trained), each_class, torch.Generator().manual_seed(SEED)))
print(f"{T} steps: {slow:.1f} s for each digit")
plots.show_grid(to_grey(ten), columns=10, column_labels=list("0123456789"))

# %% [markdown]
# **Figure 8.6.** The ten digits by Algorithm 2, one draw of each, from the first seed.
#
# The digits of figure 8.6 took the steps one by one. The engine behind this book's samplers takes the same step, as a
# test of one jump shows:

# %%
torch.manual_seed(SEED)
x, eps_hat, z = (torch.randn(4, 1, 28, 28, dtype=torch.float64, device=device) for _ in range(3))
step_error = 0.0
for t in (0, 1, 2 * T // 5, 9 * T // 10):
    beta, alpha, bar, _ = (v[0] for v in cosine.at(torch.tensor([t], device=device)))
    bar_before = cosine.at(torch.tensor([t - 1], device=device))[2][0]
    sigma = (beta * (1 - bar_before) / (1 - bar)).sqrt()
    by_hand = (x - beta / (1 - bar).sqrt() * eps_hat) / alpha.sqrt() + sigma * z * (t > 0)
    step_error = max(step_error, (diffusion.ddpm_step(x, t, eps_hat, cosine, z) - by_hand).abs().max().item())
print(f"largest difference {step_error:.1e}")

# %% [markdown]
# **Why is it slow?** A GAN or VAE draws with one pass through its network, Algorithm 2 with a thousand, one after the
# other: no step can begin before the last has ended. The steps must be small because (8.7) is a Gaussian, and going
# back from $x_t$ is Gaussian only over a short time. Ahead of a large jump lie many possible images, and one Gaussian
# around their mean is a poor account of them.
#
# ## DDIM: the same network, few steps
#
# Training never used the chain (8.1), only its marginals (8.2). So any process with the same marginals will do, and
# there is one that needs none after $x_T$. Given $\hat x_0$ and $\hat\varepsilon$ at step $t$, jump to any earlier $s$
# by (8.2) itself (Song et al. 2021):
#
# $$ x_s = \sqrt{\bar\alpha_s}\, \hat x_0 + \sqrt{1 - \bar\alpha_s - \sigma^2}\; \hat\varepsilon + \sigma z,
#    \qquad \sigma^2 = \eta^2\, \frac{1 - \bar\alpha_s}{1 - \bar\alpha_t}
#    \left(1 - \frac{\bar\alpha_t}{\bar\alpha_s}\right). \tag{8.13} $$
#
# With $\eta = 1$ and $s = t - 1$ this is Algorithm 2. With $\eta = 0$ no noise is added: the image is a
# function of $x_T$ alone, and the path is the solution of a differential equation, which can be followed in long
# strides. The whole sampler is a few lines; `diffusion.sample` does the same, with guidance and a callback.

# %%
@torch.no_grad()
def ddim(denoise, y, steps, generator):
    """y (B,) labels -> x_0 (B, 1, 28, 28), by `steps` jumps of (8.13) with eta = 0."""
    x = torch.randn(len(y), 1, 28, 28, generator=generator).to(device)
    times = diffusion.spaced_timesteps(T, steps).tolist()
    for t, s in zip(times, times[1:] + [-1]):
        at = torch.full((len(y),), t, device=device)
        _, eps_hat = diffusion.predict(denoise(x, at, y), x, at, cosine, predicts=PREDICTS, clip=(-1, 1))
        x = diffusion.ddim_step(x, at, torch.full_like(at, s), eps_hat, cosine, clip=(-1, 1))
    return x


# %% mystnb={"image": {"alt": "Fifty digits drawn with twenty DDIM steps, five of each class in columns"}}
hundred = each_class.repeat(10)
for y in (each_class, hundred):
    quick, fast = metrics.timed_samples(lambda y=y: ddim(denoiser(trained), y, 20, torch.Generator().manual_seed(SEED)))
    print(f"20 DDIM steps, {len(y):3} at once: {fast:.3f} s for each digit, {slow / fast:.0f} times as fast")
plots.show_grid(to_grey(quick[:50]), columns=10, width=5)

# %% [markdown]
# **Figure 8.7.** Fifty of a hundred digits in 20 steps of DDIM, one column for each class, none picked. (Of the factors
# above it fifty is the steps'.)
#
# ## Guidance: more of a seven
#
# Look closely at figure 8.7, and some of these digits are not what was asked for. A denoiser learns to use the label
# only as far as it lowers the squared error, and once $x_t$ shows a stroke the stroke says more. **Classifier-free
# guidance** (Ho and Salimans 2022) asks the network twice, with and without the label, and exaggerates the difference:
#
# $$ \tilde v = \hat v(x_t, t, \varnothing)
#    + w\,\big(\hat v(x_t, t, y) - \hat v(x_t, t, \varnothing)\big). \tag{8.14} $$
#
# $w = 1$ is the plain conditional model, $w = 0$ forgets the label. (By (8.11) $\hat\varepsilon$ is
# $\sqrt{\bar\alpha_t}\,\hat v$ plus a multiple of $x_t$, and the weights $1 - w$ and $w$ add up to 1: the same rule
# holds for $\hat\varepsilon$.) Up to known factors $-\hat\varepsilon$ is the gradient of $\log p(x_t)$, so the bracket
# is the gradient of $\log p(x_t \mid y) - \log p(x_t) = \log p(y \mid x_t) + \text{const}$: an implicit classifier,
# trusted $w$ times. Samples move to where the classifier is surest, and crowd there.

# %%
def draw(model, y, *, steps, guidance=None, between=(0, T), eta=0.0, seed=SEED, **options):
    """Digits for labels y (B,) -> (B, 1, 28, 28) in [0, 1], guided at the steps t of `between`, and only there."""

    def guided(x_t, t, y):
        inside = between[0] <= t[0] < between[1]
        return diffusion.guided(denoiser(model), x_t, t, y, guidance if inside else None, unet.null)

    generator = torch.Generator().manual_seed(seed)
    parts = [diffusion.sample(guided, (len(part), 1, 28, 28), cosine, steps=steps, eta=eta, y=part, clip=(-1, 1),
                              predicts=PREDICTS, generator=generator, **options)
             for part in y.to(device).split(64)]  # small parts fit the cache of a small processor
    return to_grey(torch.cat(parts))


class Paints(nn.Module):
    """A network for which every image is grey: of height 0 without a label, 0.1 with one, in [-1, 1]."""

    def forward(self, x_t, t, y):
        bar = cosine.alpha_bar[t].view(-1, 1, 1, 1)
        height = 0.1 * (y != unet.null).float().view(-1, 1, 1, 1)
        return (bar.sqrt() * x_t - height) / (1 - bar).sqrt()               # the v of that x_0


grey = draw(Paints(), torch.zeros(2, dtype=torch.long), steps=5, guidance=4.0).mean().item()
print(f"guided by 4: a grey of {2 * grey - 1:.3f}, where the rule (8.14) says 0.4")


def labels_like_the_data(n):
    """n labels in the proportions of the training set, without chance."""
    ordered = train_set.labels.sort().values
    return ordered[torch.linspace(0, len(ordered) - 1, n).long()]


# %% [markdown]
# ## Measure
#
# Two thousand digits with 50 steps, labels as frequent as in the training data, held against the test set as [the page
# on measuring](measuring.md) explains. The floor is what held-out real digits score. How to draw follows the tables
# below: guidance $w = 2$ at all but the noisiest fifth of the steps, and fresh noise, $\eta = 1$. Those tables are made
# with validation images, so that nothing is chosen on the test images that judge it here.

# %%
W, SETTLED = 2.0, (0, 4 * T // 5)
N = runtime.sample_count(2000)  # fewer where GENMED_BUDGET asks for a quick look
asked = labels_like_the_data(N)
samples, each_50 = metrics.timed_samples(lambda: draw(trained, asked, steps=50, guidance=W, between=SETTLED, eta=1.0))
report = metrics.sample_report(samples, test_set, asked, held_out=val_set, n=N)
expect.model("DDPM", report=report, samples=samples, labels=asked, real=test_set, train_seconds=history.seconds,
             sample_seconds=each_50, parameters=parameters, note="class-conditional, 50 steps with noise, guidance 2")
print(f"{N:,} digits, 50 steps with guidance: {N * each_50:.0f} s")
Markdown(metrics.report_table({"50 steps, w = 2": report}))

# %% mystnb={"image": {"alt": "Real digits and samples side by side: alike, the samples a little more regular"}}
some = torch.linspace(0, N - 1, 40).long()  # evenly through the classes, not picked
real = test_set.images[test_set.labels.sort(stable=True).indices[:: len(test_set) // 40][:40]] / 255
plots.show_grids({"real": real, "50 steps, w = 2": samples[some]}, columns=8, rows=5)

# %% [markdown]
# **Figure 8.8.** Forty test digits, and forty samples at even distances through the classes, none picked.
#
# The class is nearly always right, in the table and in figure 8.8, and yet the Fréchet distance is several times its
# floor (over five seeds: the [scoreboard](scoreboard.md)). The other rows say where it is lost: some digits are not
# quite real (precision), and more of the real ones never appear (recall, diversity).
#
# **Cost against quality.** Sets of 500 samples now, with a floor of their own, for several numbers of steps, without
# noise on the way and with fresh noise at every step. Other draws would give other numbers; how far off? Of each two
# neighbours in a set take one at random: such halves scatter about their set as sets do about the mean of all sets. The
# spread over ten halves follows each ±. Of five and ten steps we draw three sets, for their mean, whose ± is less by
# $\sqrt3$. Two numbers less than three ± apart may differ by chance.

# %% [markdown]
# **Exercise 8.6 (predict ★). Noise on the way, or none.** Which sampler has the smaller Fréchet distance: without noise
# on the way ($\eta = 0$), or with fresh noise ($\eta = 1$)? The next cell draws with 5, 10, 20 and 50 steps.
#
# - (a) The one without noise, at any number of steps: noise can only spoil.
# - (b) The one with noise, at any number of steps: it is Algorithm 2.
# - (c) The one without noise at few steps; at many, the one with noise has caught up.
# - (d) Neither: both have the same marginals.
#
# <details class="hint"><summary>Hint 1</summary>
#
# What is added in a long stride has to be taken out in the strides that are left.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The network errs. What becomes of an error made halfway, on a path without noise, and on one with it?
#
# </details>

# %% tags=["answer"]
choice_8_6 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("8.6", choice_8_6)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.6</summary>
#
# The next figure shows it. At five steps the noise of a stride is large and few strides follow; at fifty it is small,
# and hides errors made before.
#
# ```python
# choice_8_6 = "c"
# ```
#
# </details>

# %%
few = runtime.sample_count(500)
asked_few = labels_like_the_data(few)
others = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(SEED))[:5000]
aside = train_set.subset(others)  # the settings are chosen on validation images
reference, of_half = (metrics.real_reference(val_set, held_out=aside, n=n) for n in (few, few // 2))


def judged(*sets):
    """Sets of `few` digits, drawn alike -> {measure: (mean over the sets, its spread from halves of the first)}."""
    whole, halves = [metrics.sample_report(x, reference, asked_few) for x in sets], []
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(10):
        rows = torch.arange(0, few - 1, 2) + torch.randint(0, 2, (few // 2,), generator=generator)
        halves.append(metrics.sample_report(sets[0][rows], of_half, asked_few[rows]))
    return {key: (statistics.fmean(r[key] for r in whole),
                  statistics.stdev(r[key] for r in halves) / math.sqrt(len(sets)))
            for key in ("fd", "read_accuracy", "precision", "recall", "diversity")}


def told(value, factor=1, digits=1):
    """A mean and its spread in words."""
    return " ± ".join(f"{factor * part:.{digits}f}" for part in value)


STRIDES, SETS, quality = (5, 10, 20, 50), {5: 3, 10: 3}, {}
for eta in (0.0, 1.0):
    for steps in STRIDES:
        one = functools.partial(draw, trained, asked_few, steps=steps, guidance=W, between=SETTLED, eta=eta)
        x, each = metrics.timed_samples(one)
        quality[eta, steps] = q = judged(x, *(one(seed=SEED + i) for i in range(1, SETS.get(steps, 1))))
        print(f"eta {eta:.0f}, {steps:2} steps: {100 * each:5.2f} s per 100 digits, "
              f"Fréchet distance {told(q['fd']):>11}, read as asked {told(q['read_accuracy'], 100):>11} %")

# %% mystnb={"image": {"alt": "Frechet distance over steps: DDIM is ahead with five steps, and no longer with fifty"}}
fig, ax = plots.figure(6, 3)
for name, eta in (("DDIM, eta = 0", 0.0), ("with noise, eta = 1", 1.0)):
    ax.errorbar(STRIDES, *zip(*(quality[eta, n]["fd"] for n in STRIDES)), capsize=4, label=name)
ax.axhline(reference.floor["fd"], color="#777777", linestyle="--", label="real digits")
ax.set(xlabel="steps (and cost)", ylabel=f"Fréchet distance, n = {few}", ylim=(0, None))
ax.legend()
fig

# %% [markdown]
# **Figure 8.9.** Distance from real digits against the number of steps, with ± one spread. The axis begins at 0.
#
# Cost is proportional to steps; quality, in figure 8.9, is not. Five steps already settle the class. Without noise,
# what more than ten bring is within chance: the network's own error remains, and more steps only follow it more
# faithfully. Fresh noise is worse at five and at ten, for what a long stride adds the few strides left cannot take out.
# At twenty and at fifty the distances cannot be told apart, and with noise fewer digits are misread at all four. For
# noise has a merit: it buries part of the errors made so far, and the steps after it work on a fresh state (Karras et
# al. 2022). And $\eta = 0$ has another: the same $x_T$ gives nearly the same digit in eight steps as in fifty (see the
# last slider).
#
# **What does guidance cost?** The same labels, 20 steps with noise, three strengths. And once guidance at $t < 800$
# only, and once in the middle of the way, as Kynkäänniemi et al. (2024) advise: at the noisiest steps a push towards
# the class is a push towards its commonest shape, and at the last steps there is nothing left to decide.

# %%
MIDDLE = (T // 5, 7 * T // 10)
strengths = {}
for w, between in ((1.0, (0, T)), (2.0, (0, T)), (4.0, (0, T)), (2.0, SETTLED), (2.0, MIDDLE)):
    name = f"{w:.0f}" + (f", if {between[0]} <= t < {between[1]}" if between != (0, T) else "")
    known = (w, between) == (W, SETTLED)  # drawn above
    strengths[name] = quality[1.0, 20] if known else judged(
        draw(trained, asked_few, steps=20, guidance=w, between=between, eta=1.0))
print(f"{'w':21}{'read as asked, %':>17}{'Fréchet':>14}{'precision':>14}{'recall':>14}{'diversity':>14}")
for w, q in strengths.items():
    print(f"{w:21}{told(q['read_accuracy'], 100):>17}{told(q['fd']):>14}"
          + "".join(f"{told(q[key], digits=2):>14}" for key in ("precision", "recall", "diversity")))

# %% [markdown]
# Guidance of 2 pays in digits that are the ones asked for and look real (precision), and is paid for in recall and
# diversity; the distance is the same within chance. Strong guidance draws the same textbook seven again and again. Left
# out at the noisiest fifth of the steps, guidance costs less diversity, for a reading not to be told from that before,
# and the distance falls by a third. In the middle only it costs less diversity still; all else is within chance of the
# row above it. So the samples above were guided at $t < 800$, and guiding them in the middle would have been as well
# founded.
#
# ## Bits per dimension
#
# The bound (8.8) says how well the model compresses. Divide by the 784 pixels and by $\ln 2$, and the unit is bits
# per dimension: how many bits a grey level would take, of the 8 that it is stored in. For $L_0$, a Gaussian
# gives each of the 256 grey levels the probability of its *interval*. Eight test images at each of the thousand steps:

# %%
@torch.no_grad()
def bound_terms(model, per_step):
    """Every term of (8.8), mean over some test images, bits per dimension -> L_0, L_1, ... (T,), L_T."""
    g = torch.Generator().manual_seed(SEED)
    rows = torch.randint(0, len(x_test), (per_step * T,), generator=g)
    eps = torch.randn(len(rows), 1, 28, 28, generator=g).to(device)
    t = torch.arange(T).repeat_interleave(per_step).to(device)
    parts = zip(x_test[rows].split(500), t.split(500), y_test[rows].split(500), eps.split(500))
    terms = torch.cat([diffusion.vlb_terms(model, x, t, cosine, y=y, eps=e, predicts=PREDICTS, clip=(-1, 1))
                       for x, t, y, e in parts])
    return terms.view(T, per_step).mean(1).cpu(), diffusion.prior_bits(x_test[:1000], cosine).mean().item()


# %%
terms, L_T = bound_terms(trained, per_step=runtime.sample_count(8, least=1))
bits = terms.sum().item() + L_T
kl = terms[1:] * math.log(2)                               # nats per dimension, for the variance (8.5)
one_number = 0.5 * torch.log1p(2 * kl) / math.log(2)       # exercise 8.19
gained = (terms[1:] - one_number).sum().item()
print(f"L_0 {terms[0]:.3f} + L_1 ... L_(T-1) {terms[1:].sum():.3f} + L_T {L_T:.6f} = {bits:.2f} bits per dimension")
print(f"the first {T // 10} of {T} steps hold {100 * terms[: T // 10].sum() / terms.sum():.0f} % of it")
print(f"a variance learned for each step, one number: {bits - gained:.2f} bits per dimension")

# %%
def cells(images):
    """Number of each pixel's cell in a table of 784 pixels by 256 grey levels: (N, 784) int64."""
    return images.flatten(1).long() + 256 * torch.arange(784)


counts = cells(train_set.images[:20_000]).flatten().bincount(minlength=784 * 256).view(784, 256) + 0.01
log_p = (counts / counts.sum(1, keepdim=True)).log2().flatten()
print(f"independent pixels, each with its own histogram: {-log_p[cells(test_set.images[:5000])].mean():.2f} bits "
      "per dimension")

# %% mystnb={"image": {"alt": "Bits at each step on logarithmic axes: most are spent at the very first steps"}}
plots.show_curves({"term of the bound": (range(1, T + 1), terms.tolist())}, x_label="step t", log_x=True, log_y=True,
                  y_label="bits per dimension")

# %% [markdown]
# **Figure 8.10.** Where the bits are spent: every term of (8.8), on logarithmic axes.
#
# Most bits go into the first steps of figure 8.10, into grain that no eye sees. The bound pays for grain, our training
# for shape. And look at the humble rival: a table of histograms, which has never drawn a digit, needs *fewer* bits for
# MNIST than the bound asks for. It knows that the corners are exactly black, while a Gaussian step must pay for the
# exact level of every pixel. A good likelihood and good pictures are different things. (We told the model the label.
# Without it, the bound can grow by at most $\log_2 10$ bits an image, which is 0.004 bits per dimension.)
#
# ## Ten times as long
#
# The distance is still far from its floor. Is that the method's fault, or the clock's? In `genmed_core/weights/` lies
# the same network, trained ten times as long: **our own weights, made from MNIST** by the command that the next cell
# prints. That command runs the cells above as they stand, with `GENMED_BUDGET=10`, and stores the averaged weights in
# float16. The two networks get the same labels and 50 steps, and are held against the same images. They are not drawn
# alike in the table: the shipped one without fresh noise, and guided in the middle only. (With stroke drawings, which
# it has never seen, it is left out.)

# %%
trained_longer = metrics.load_weights(nets.UNet(), "ddpm_digits").to(device)


def shipped(x_t, t, y=None):
    """The longer-trained network, which knows a thousand steps whatever T is."""
    return trained_longer(x_t, t * 1000 // T, y)


facts = metrics.weights_facts("ddpm_digits")
print(f"shipped weights: {int(facts['steps']):,} steps of {facts['batch_size']} on {facts['source']}, "
      f"{float(facts['seconds']) / 60:.0f} minutes; made by `{facts['made_by']}`")

# %%
reports, longer = {"this notebook, w = 2": report}, None
if train_set.source == facts["source"]:
    x, each = metrics.timed_samples(lambda: draw(shipped, asked, steps=50, guidance=W, between=MIDDLE))
    longer = metrics.sample_report(x, test_set, asked, held_out=val_set, n=N)
    reports["shipped, w = 2 in the middle"] = longer
    expect.model("DDPM, shipped weights", report=longer, samples=x, labels=asked, real=test_set, sample_seconds=each,
                 train_seconds=float(facts["seconds"]), parameters=parameters,
                 note="ten times the steps, 50 DDIM steps, guidance 2 in the middle")
    short, alike = (judged(draw(net, asked_few, steps=20, guidance=W, between=MIDDLE)) for net in (trained, shipped))
    print(f"{int(facts['steps']) / step.count:.0f} times the steps: Fréchet distance {report['fd_ratio']:.1f} -> "
          f"{longer['fd_ratio']:.1f} times its floor. Drawn alike, {few} digits in 20 steps: {told(short['fd'])} -> "
          f"{told(alike['fd'])}, where real digits score {told((reference.floor['fd'], reference.floor['fd_sd']))}")
Markdown(metrics.report_table(reports))

# %% mystnb={"image": {"alt": "Two galleries of fifty digits from the same noise: this notebook's and the shipped"}}
plots.show_grids({name: draw(net, hundred[:50], steps=20, guidance=W, between=MIDDLE)
                  for name, net in (("this notebook", trained), ("our shipped weights", shipped))}, columns=10)

# %% [markdown]
# **Figure 8.11.** Fifty digits by two networks, from the same noise, both in 20 steps without fresh noise and guided in
# the middle only; one column for each class, none picked.
#
# Most of the gap was the clock's, and figure 8.11 shows both. The line above the table compares the two drawn alike,
# without noise and guided in the middle: by 500 digits and 20 steps, longer training takes away all of the excess over
# real digits that so few can show. Two thousand digits show more: some of the excess remains. The shipped digits vary
# more (recall, diversity; perhaps in part because they are guided less), and more of the real ones have a neighbour
# among them (coverage).
#
# ## Sliders: backwards in time, guidance, steps
#
# All sliders draw with **the shipped weights**: handwritten digits, whatever your data. Your own network is one word
# away: put `trained` for `shipped` in the next cell, and run the rest.
#
# The first holds the network itself, and draws in your browser: left the state $x_t$, right the guess $\hat x_0$ made
# from it. Choose a class and a seed, and watch when the class is settled, and when the grain. *Compare* keeps the
# settings of now, and draws them from the same noise beside those that you choose next: move the guidance, the number
# of steps, or $\eta$. *Take this* makes the digit that was drawn the picture to begin from, *Draw your own* one from
# your hand. *Begin at t* then noises it to that step by (8.2), from where the network draws on, as the class that you
# ask for now. *Fill in* puts a part of it back at every step, noised as $x_t$ is, and leaves the rest to the network;
# paint over the picture to choose the part. First as a plain function.

# %%
shown_net, CAPTION = shipped, "drawn by our longer-trained weights, made from MNIST"
twenty = torch.arange(10).repeat(2)
drawing = widgets.DiffusionExplorer(shown_net, cosine, class_names=range(10), predicts=PREDICTS, null=unet.null,
                                    guidance=W, window=MIDDLE, label=3, redraw=True, caption=CAPTION, device=device,
                                    int8=False)  # in sixteen bits a weight, as the file of shipped weights has them
for y, seed, steps in ((3, 0, 25), (7, 1, 25), (7, 1, 3)):
    way = []
    digit = drawing.sample(y, seed=seed, steps=steps,
                           callback=lambda t, x_t, x0_hat, way=way: way.append((x_t - x0_hat).abs().mean()))
    assert digit.shape == (28, 28) and len(way) == steps
    print(f"class {y}, seed {seed}, {steps:2} steps: x_t and its guess differ by {way[0]:.3f} in the first step, "
          f"{way[steps // 2]:.3f} halfway, {way[-1]:.3f} in the last; ink {digit.mean():.3f}")

# %%
drawing

# %% [markdown]
# Guidance next: one $x_T$ for each digit, nine strengths.

# %%
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
guidance_frames = [plots.tile(draw(shown_net, twenty.repeat(2), steps=20, guidance=w), 4, 10) for w in STRENGTHS]
guidance_slider = widgets.FrameSlider(guidance_frames, labels=STRENGTHS, description="guidance w", start=2, width=460,
                                      interval=900, caption=CAPTION)
for place in (0, 2, -1):
    page = guidance_slider.frame(place)
    assert page.shape == (115, 289)
    print(f"w = {STRENGTHS[place]}: ink {page.mean() / 255:.3f}")

# %%
guidance_slider

# %% mystnb={"image": {"alt": "Rows of ten digits for three guidance strengths: unasked, as asked, and emphatic"}}
three = torch.cat([draw(shown_net, torch.arange(10), steps=20, guidance=w) for w in (0.0, 1.0, 4.0)])
plots.show_grid(three, columns=10, row_labels=["w = 0", "w = 1", "w = 4"], column_labels=list("0123456789"))

# %% [markdown]
# **Figure 8.12.** The ten digits unasked, as asked, and emphatic, from the same noise by the shipped weights.
#
# In figure 8.12 strong guidance adds ink. Last the number of steps, from the same noise, without fresh noise and with
# it.

# %%
COUNTS = (1, 2, 3, 5, 8, 12, 20, 50)
step_frames = [[plots.tile(draw(shown_net, twenty, steps=n, guidance=W, eta=eta), 4, 5) for eta in (0.0, 1.0)]
               for n in COUNTS]
steps_slider = widgets.FrameSlider(step_frames, labels=COUNTS, description="steps", start=4, width=230, interval=900,
                                   captions=["DDIM, eta = 0", "eta = 1"], caption=CAPTION)
for place in (0, 4, -1):
    one, two = (page / 255 for page in steps_slider.frame(place))
    assert one.shape == (115, 144)
    print(f"{COUNTS[place]:3} steps: far from the frame of 50 by {abs(one - step_frames[-1][0]).mean():.3f} (DDIM), "
          f"{abs(two - step_frames[-1][1]).mean():.3f} (with noise)")

# %%
steps_slider

# %% [markdown]
# A single step shows what the network makes of pure noise: the mean of the class, pushed by guidance away from the mean
# of all digits. Either way a blur.
#
# ## What this chapter promises

# %% tags=["nbval-check-output"]
expect(f"walk of {T} steps against the closed form, largest difference", worst, below=0.03)
expect("posterior against the grid, relative error", posterior_error, below=1e-4)
expect("Algorithm 2's step by hand against the engine, largest difference", step_error, below=1e-6)
expect("loss of the v of the true image", loss_of_truth, below=1e-4)
expect("mean square of the noise", noise_square, below=1.01, above=0.99)
expect("share of labels left out", left_out, below=0.13, above=0.07)
expect("guidance of a known network, less the rule", 2 * grey - 1 - 0.4, below=0.01, above=-0.01)
expect("parameters", parameters, below=1_000_000)
expect("digits read as asked, 50 steps and w = 2, share", report["read_accuracy"],
       above={"mnist": 0.96, "strokes": 0.9})
expect("Fréchet distance, 50 steps and w = 2", report["fd"], below={"mnist": 60, "strokes": 90})
expect("classes drawn", report["classes"], above=9)
expect("coverage", report["coverage"], above={"mnist": 0.55, "strokes": 0.55})
expect("Fréchet distance of 5 steps over that of 20, with noise", quality[1.0, 5]["fd"][0] / quality[1.0, 20]["fd"][0],
       above={"mnist": 1.1, "strokes": 1.1})
expect("share read as asked that guidance adds, 20 steps",
       strengths["4"]["read_accuracy"][0] - strengths["1"]["read_accuracy"][0],
       above={"mnist": 0, "strokes": 0.03})
expect("diversity that guidance of 4 costs",
       strengths["1"]["diversity"][0] - strengths["4"]["diversity"][0], above=0.03)
expect("bits per dimension, test set", bits, below={"mnist": 3, "strokes": 2.5})
expect("shipped weights, 50 steps: Fréchet distance, times its floor", longer and longer["fd_ratio"],
       below={"mnist": 2.5, "strokes": None})

# %% [markdown]
# ## Exercises
#
# Each exercise has a cell for your answer; the cell below it checks it, and says what it can about a mistake. One star
# takes a minute or two, three take half an hour. What is left open stops nothing.

# %% [markdown]
# **Exercise 8.7 (predict ★). Two ways to a noisy sample.** (review) A noisy $x_t$ can be built by walking (8.1), or by
# one jump (8.2). Keep *one* $\varepsilon$ and move $t$ in (8.2), as the first slider does. Which is true?
#
# - (a) It is a path of (8.1), since each of its $x_t$ has the right distribution.
# - (b) It is no path of (8.1), though each $x_t$ is right. Training needs each $x_t$ alone, and jumps; sampling walks,
#   backwards.
# - (c) It is no path of (8.1), so training has to walk. Sampling jumps.
# - (d) It is nearly a path of (8.1), the more nearly the smaller the betas: (8.2) is a limit.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Does (8.1) bring anything new between step $s$ and step $t$? Does moving $t$ with one $\varepsilon$?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# (8.10) is a mean over single steps: which of them does it ever compare with one another?
#
# </details>

# %% tags=["answer"]
choice_8_7 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("8.7", choice_8_7)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.7</summary>
#
# By induction both give one distribution for each single $x_t$. Not for the pair: with one $\varepsilon$ the noises of
# two steps have correlation 1, in the chain each step brings fresh noise.
#
# ```python
# choice_8_7 = "b"
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.8 (derive ★★). How much the noise of two steps agrees.** For steps `s` < `t` of the chain (8.1), (B,)
# each, counted from 0: find the correlation of the noises $x_s - \sqrt{\bar\alpha_s}\,x_0$ and $x_t -
# \sqrt{\bar\alpha_t}\,x_0$. What does it become in terms of the signal-to-noise ratio?
#
# <details class="hint"><summary>Hint 1</summary>
#
# $x_t = \sqrt{\bar\alpha_t / \bar\alpha_s}\,x_s + \text{fresh noise}$. So what is the covariance?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Divide by $\sqrt{1 - \bar\alpha_s}\sqrt{1 - \bar\alpha_t}$, and look for $\bar\alpha/(1 - \bar\alpha)$.
#
# </details>

# %% tags=["answer"]
def noise_correlation(s, t, beta):
    """Correlation of the noise in x_s with that in x_t, along one path of (8.1).

    s, t (B,) int64, s < t, in 0..T-1, beta (T,).  Returns (B,).
    """
    ...

# %% tags=["check"]
sheet.check("8.8", noise_correlation)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.8</summary>
#
# The covariance is $\sqrt{\bar\alpha_t / \bar\alpha_s}\,(1 - \bar\alpha_s)$, so the correlation is
# $\sqrt{\frac{\bar\alpha_t (1 - \bar\alpha_s)}{\bar\alpha_s (1 - \bar\alpha_t)}} = \sqrt{\mathrm{SNR}_t /
# \mathrm{SNR}_s}$.
#
# ```python
# def noise_correlation(s, t, beta):
#     bar = (1 - beta).cumprod(0)
#     snr = bar / (1 - bar)
#     return (snr[t] / snr[s]).sqrt()
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.9 (code ★★). The loss of Algorithm 1.** Lines 2 to 5 of Algorithm 1, as published: given images, steps,
# noise and $\bar\alpha$, return the loss (8.10), a mean over images *and pixels*. `denoise(x_t, t)` is any network that
# says the noise.
#
# <details class="hint"><summary>Hint 1</summary>
#
# What does the network see, and what should it say?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Two roots for $x_t$; then one squared difference, and one mean.
#
# </details>

# %% tags=["answer"]
def simple_loss(denoise, x0, t, eps, alpha_bar):
    """L_simple, per pixel.

    denoise(x_t, t) -> eps_hat, shaped like x_t; x0, eps (B, 1, H, W), t (B,) int64 in 0..T-1, alpha_bar (T,).
    Returns a number.
    """
    ...

# %% tags=["check"]
sheet.check("8.9", simple_loss)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.9</summary>
#
# The chapter's `ddpm_loss` differs in one thing: it compares with $v$.
#
# ```python
# def simple_loss(denoise, x0, t, eps, alpha_bar):
#     bar = alpha_bar[t].view(-1, 1, 1, 1)
#     x_t = bar.sqrt() * x0 + (1 - bar).sqrt() * eps
#     return (eps - denoise(x_t, t)).square().mean()
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.10 (code ★). Labels left out.** Guidance needs a network that also denoises without a label. Given labels
# `y` and for each a uniform random number `u`, replace the share `drop` of the labels by `null`, each on its own.
#
# <details class="hint"><summary>Hint 1</summary>
#
# A number uniform in $[0, 1)$ is below `drop` with probability `drop`.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `torch.where(condition, a, b)`; do not write into `y`.
#
# </details>

# %% tags=["answer"]
def drop_labels(y, u, drop, null):
    """Labels, some replaced by the null label.

    y (B,) int64, u (B,) in [0, 1), drop a number, null an integer.  Returns (B,) int64.
    """
    ...

# %% tags=["check"]
sheet.check("8.10", drop_labels)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.10</summary>
#
# One network, two tasks, mixed image by image.
#
# ```python
# def drop_labels(y, u, drop, null):
#     return torch.where(u < drop, null, y)
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.11 (derive ★★). Image and noise, read from a score.** Guidance speaks of the gradient of $\log p(x_t)$,
# the score. Suppose a network says the score. Read from it what it implies about image and noise: return $\hat x_0$ and
# $\hat\varepsilon$. `alpha_bar` (B,) belongs to the rows of `x_t` (B, D).
#
# <details class="hint"><summary>Hint 1</summary>
#
# For known $x_0$: differentiate $\log q(x_t \mid x_0) = -\|x_t - \sqrt{\bar\alpha_t}\,x_0\|^2 / (2(1 - \bar\alpha_t))$.
# The posterior mean of this gradient is the score.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The bracket is $\sqrt{1 - \bar\alpha_t}\,\varepsilon$. Then (8.2) gives the image.
#
# </details>

# %% tags=["answer"]
def read_score(x_t, score, alpha_bar):
    """What a score says about the image and the noise in x_t.

    x_t, score (B, D), alpha_bar (B,).  Returns x0_hat (B, D), eps_hat (B, D).
    """
    ...

# %% tags=["check"]
sheet.check("8.11", read_score)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.11</summary>
#
# $\nabla \log p(x_t) = -\hat\varepsilon / \sqrt{1 - \bar\alpha_t}$, and so $\hat x_0 = (x_t + (1 - \bar\alpha_t) \nabla
# \log p(x_t)) / \sqrt{\bar\alpha_t}$, which is known as Tweedie's formula. This is the known factor that (8.14) speaks
# of.
#
# ```python
# def read_score(x_t, score, alpha_bar):
#     bar = alpha_bar[:, None]
#     eps_hat = -(1 - bar).sqrt() * score
#     return (x_t - (1 - bar).sqrt() * eps_hat) / bar.sqrt(), eps_hat
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.12 (derive ★★). The same mean, from v.** Exercise 8.5 once more, for our network, which says $v$: put
# $\hat x_0$ of (8.11) into (8.6), and simplify. The factor of $x_t$ becomes a surprise. Does anything blow up where
# $\bar\alpha_t$ is nearly zero?
#
# <details class="hint"><summary>Hint 1</summary>
#
# Collect $x_t$: $\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t \sqrt{\bar\alpha_t} + \sqrt{\alpha_t}(1 -
# \bar\alpha_{t-1})}{1 - \bar\alpha_t}$, and take out $\sqrt{\alpha_t}$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $\bar\alpha_{t-1}\beta_t + 1 - \bar\alpha_{t-1} = 1 - \bar\alpha_t$.
#
# </details>

# %% tags=["answer"]
def mean_from_v(x_t, v, t, beta):
    """The mean of q(x_{t-1} | x_t, x_0) from v.

    x_t, v (B,), t (B,) int64 in 0..T-1, beta (T,).  Returns (B,).
    """
    ...

# %% tags=["check"]
sheet.check("8.12", mean_from_v)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.12</summary>
#
# $\tilde\mu_t = \sqrt{\alpha_t}\,x_t - \beta_t \sqrt{\bar\alpha_{t-1} / (1 - \bar\alpha_t)}\;v$. The step *back*
# shrinks $x_t$ by the very factor of the step forwards; all that restores the image stands in $v$. No factor grows as
# $\bar\alpha_t \to 0$, where (8.12) divides by $\sqrt{\alpha_t}$.
#
# ```python
# def mean_from_v(x_t, v, t, beta):
#     bars = torch.cat([torch.ones(1), (1 - beta).cumprod(0)])
#     before, bar, beta = bars[t], bars[t + 1], beta[t]
#     return (1 - beta).sqrt() * x_t - beta * (before / (1 - bar)).sqrt() * v
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.13 (code ★★). A jump of DDIM.** Write (8.13): from `x_t` and the guess of its noise to $x_s$, with fresh
# noise `z`. `bar_t` < `bar_s` are $\bar\alpha_t$ and $\bar\alpha_s$, and `eta` runs from 0 to 1; all three are numbers.
#
# <details class="hint"><summary>Hint 1</summary>
#
# First $\hat x_0$, from (8.2). Then (8.2) again, for $s$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The noise in $x_s$ has variance $1 - \bar\alpha_s$ in all. $\sigma^2$ of it is fresh; how much is left for
# $\hat\varepsilon$?
#
# </details>

# %% tags=["answer"]
def ddim_jump(x_t, eps_hat, bar_t, bar_s, eta, z):
    """One jump of (8.13).

    x_t, eps_hat, z (B, 1, H, W), bar_t, bar_s, eta numbers.  Returns x_s, shaped like x_t.
    """
    ...

# %% tags=["check"]
sheet.check("8.13", ddim_jump)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.13</summary>
#
# With $\eta = 1$ the fresh noise has the posterior's variance, $\eta = 0$ keeps all of the old noise. In between the
# marginals stay the same, for what is added is taken off.
#
# ```python
# def ddim_jump(x_t, eps_hat, bar_t, bar_s, eta, z):
#     x0_hat = (x_t - math.sqrt(1 - bar_t) * eps_hat) / math.sqrt(bar_t)
#     var = eta**2 * (1 - bar_s) / (1 - bar_t) * (1 - bar_t / bar_s)
#     return math.sqrt(bar_s) * x0_hat + math.sqrt(1 - bar_s - var) * eps_hat + math.sqrt(var) * z
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.14 (code ★). Guidance on the paper's own scale.** Ho and Salimans write guidance with another scale than
# (8.14): their $w = 0$ is no guidance, and $w = 1$ goes as far beyond the answer *with* the label as that is from the
# one without. Write it.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Both answers and the guided one lie on a line. Where on it is the paper's $w = 0$, and where $w = -1$?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# (8.14) with $1 + w$ in the place of $w$.
#
# </details>

# %% tags=["answer"]
def guided_paper(with_label, without, w):
    """Classifier-free guidance on the scale of its paper.

    with_label, without (B, 1, H, W): the network's answers; w a number, 0 for no guidance.  Returns their shape.
    """
    ...

# %% tags=["check"]
sheet.check("8.14", guided_paper)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.14</summary>
#
# $(1 + w)\,\hat\varepsilon(y) - w\,\hat\varepsilon(\varnothing)$. A strength of 1 is nothing in most libraries, and
# plenty in the paper.
#
# ```python
# def guided_paper(with_label, without, w):
#     return (1 + w) * with_label - w * without
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.15 (derive ★★). The floor of the loss.** Let the data be one Gaussian number, $x_0 \sim \mathcal{N}(0,
# s^2)$. Find the slope of the best guess, $\hat\varepsilon = \texttt{slope} \cdot x_t$, and the smallest possible
# $L_{\text{simple}}$ at a step with $\bar\alpha_t$, here `alpha_bar` (B,). Where is this floor high, where low?
#
# <details class="hint"><summary>Hint 1</summary>
#
# $(\varepsilon, x_t)$ is Gaussian: the best guess is the regression line. $\operatorname{Cov}(\varepsilon, x_t)$ and
# $\operatorname{Var} x_t$ stand in (8.2).
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The floor is 1 less the squared correlation: the share of $x_t$'s variance that is *data*.
#
# </details>

# %% tags=["answer"]
def noise_guess(alpha_bar, s):
    """The best guess of the noise in x_t, when x_0 is N(0, s^2), and its mean squared error.

    alpha_bar (B,), s a number.  Returns slope (B,), floor (B,).
    """
    ...

# %% tags=["check"]
sheet.check("8.15", noise_guess)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.15</summary>
#
# $\operatorname{Cov}(\varepsilon, x_t) = \sqrt{1 - \bar\alpha_t}$ and $\operatorname{Var} x_t = \bar\alpha_t s^2 + 1 -
# \bar\alpha_t$, so
#
# $$ \mathbb{E}[\varepsilon \mid x_t] = \frac{\sqrt{1 - \bar\alpha_t}}{\bar\alpha_t s^2 + 1 - \bar\alpha_t}\, x_t,
#    \qquad \mathbb{E}(\varepsilon - \hat\varepsilon)^2
#    = \frac{\bar\alpha_t s^2}{\bar\alpha_t s^2 + 1 - \bar\alpha_t}. $$
#
# Near 1 early on, where the noise hides in the data, and near 0 at the end, where $x_t$ *is* the noise. A small loss
# says nothing until one knows the floor at that step.
#
# ```python
# def noise_guess(alpha_bar, s):
#     whole = alpha_bar * s**2 + 1 - alpha_bar
#     return (1 - alpha_bar).sqrt() / whole, alpha_bar * s**2 / whole
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.16 (investigate ★★★). The whole way back, with a perfect denoiser.** How much of a sampler's error is the
# network's, and how much that of long strides? Take the network out: data $\mathcal{N}(0, s^2)$ and the perfect
# denoiser of exercise 8.15. Write the whole way back, jumps of (8.13) from $x_T \sim \mathcal{N}(0, 1)$ over the stops
# `alpha_bar` (K,), noisiest first, with a last jump to $\bar\alpha = 1$. All stays Gaussian, so follow the *variance*
# of $x$ and draw nothing. Return the samples' standard deviation, and run it for several K.
#
# <details class="hint"><summary>Hint 1</summary>
#
# One jump multiplies $x$ by a number and adds $\sigma z$. Both guesses, $\hat x_0$ and $\hat\varepsilon$, are
# proportional to $x_t$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $\hat x_0 = \sqrt{\bar\alpha_t}\,s^2 x_t / V_t$ with $V_t = \bar\alpha_t s^2 + 1 - \bar\alpha_t$; in the loop
# `variance = m**2 * variance + sigma2`.
#
# </details>

# %% tags=["answer"]
def reverse_sd(alpha_bar, s, eta):
    """Standard deviation of what the sampler (8.13) draws, with the perfect denoiser of N(0, s^2).

    alpha_bar (K,), rising: the stops, noisiest first; s, eta numbers.  Returns a number.
    """
    ...

# %% tags=["check"]
sheet.check("8.16", reverse_sd)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.16</summary>
#
# One jump from $t$ to $u$ multiplies by $m = \frac{\sqrt{\bar\alpha_u \bar\alpha_t}\, s^2 + \sqrt{(1 - \bar\alpha_u -
# \sigma^2)(1 - \bar\alpha_t)}}{V_t}$. With $\eta = 0$, small jumps give $m \approx \sqrt{V_u / V_t}$, so the whole
# product tends to $\sqrt{V_0 / V_T} = s$: the right answer. To see how fast:
#
# ```
# bar = cosine.alpha_bar.double().cpu()
# for K in (5, 10, 20, 50, T // 5):
#     print(K, float(reverse_sd(bar[diffusion.spaced_timesteps(T, K)], 0.6, 0.0)))
# ```
#
# ```python
# def reverse_sd(alpha_bar, s, eta):
#     bars, variance = [*alpha_bar.tolist(), 1.0], 1.0
#     for a, u in zip(bars, bars[1:]):
#         V = a * s**2 + 1 - a
#         sigma2 = eta**2 * (1 - u) / (1 - a) * (1 - a / u)
#         m = (math.sqrt(u * a) * s**2 + math.sqrt((1 - u - sigma2) * (1 - a))) / V
#         variance = m**2 * variance + sigma2
#     return math.sqrt(variance)
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.17 (predict ★). Twice the steps.** With `reverse_sd`, $\eta = 0$, $s = 0.6$ and
# `diffusion.spaced_timesteps` on the cosine schedule (the solution before this shows the call): by which factor does
# the error, the distance of the samples' standard deviation from $s$, fall when the number of steps is doubled, say
# from 10 to 20? Guess first, then run it.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Each stride uses one answer of the denoiser for all of its length. For which method of solving differential equations
# is that typical?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# A method of order $p$ has an error like $K^{-p}$.
#
# </details>

# %% tags=["answer"]
prediction_8_17 = None  # a number

# %% tags=["check"]
sheet.check("8.17", prediction_8_17)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.17</summary>
#
# The error falls about like $1/K$, as for Euler's method. It shows why twenty steps are a good bargain and two hundred
# a poor one: the network's own error is soon the larger.
#
# ```python
# prediction_8_17 = 2
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.18 (derive ★★). What guidance does to a Gaussian.** Let $p(x) = \mathcal{N}(0, S^2)$ and $p(x \mid y) =
# \mathcal{N}(m, s^2)$ with $s < S$. Guidance with strength $w$ aims at $p_w(x) \propto p(x)^{1 - w}\, p(x \mid y)^w$.
# Find its mean and variance; all arguments are (B,). What happens as $w$ grows?
#
# <details class="hint"><summary>Hint 1</summary>
#
# Logarithms of Gaussians are quadratics, and here they are added with weights.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Precision: $\frac{w}{s^2} + \frac{1 - w}{S^2}$. The mean is the variance times the weighted sum of each mean over its
# variance.
#
# </details>

# %% tags=["answer"]
def guided_gaussian(m, s, S, w):
    """Mean and variance of p(x)^(1 - w) p(x | y)^w, when p is N(0, S^2) and p(x | y) is N(m, s^2).

    m, s, S, w (B,), w > 1.  Returns mean (B,), variance (B,).
    """
    ...

# %% tags=["check"]
sheet.check("8.18", guided_gaussian)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.18</summary>
#
# $\frac{1}{s_w^2} = \frac{w}{s^2} + \frac{1 - w}{S^2}$, and the mean is $s_w^2 \cdot \frac{w m}{s^2}$. For $w > 1$ the
# second term is negative: the unconditional density pushes away. The variance falls towards zero like $1/w$, and the
# mean overshoots $m$ towards $m S^2 / (S^2 - s^2)$: less variety, and further from the other classes than the class
# itself is. (This is the aim at a single noise level. No diffusion of $p_w$ itself has exactly the guided gradients at
# all levels.)
#
# ```python
# def guided_gaussian(m, s, S, w):
#     variance = 1 / (w / s**2 + (1 - w) / S**2)
#     return variance * w * m / s**2, variance
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.19 (derive ★★). The best variance of a step.** If one number $\sigma_t^2$ may be learned for each step,
# what is the best one, and what does $L_{t-1}$ become? Per dimension: the true step has variance $\tilde\beta$
# (`beta_tilde`), and the model's mean is off by `error2` in mean square. The chapter measured what it would have
# gained.
#
# <details class="hint"><summary>Hint 1</summary>
#
# $\mathrm{KL} = \frac12\big[\log\frac{\sigma^2}{\tilde\beta} + \frac{\tilde\beta + \delta^2}{\sigma^2} - 1\big]$ with
# $\delta^2$ for `error2`. Differentiate by $\sigma^2$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# At the best $\sigma^2$ the last two terms cancel.
#
# </details>

# %% tags=["answer"]
def best_variance(error2, beta_tilde):
    """The variance of a step that makes its divergence smallest, and the divergence there, in nats.

    error2, beta_tilde (B,).  Returns sigma2 (B,), nats (B,).
    """
    ...

# %% tags=["check"]
sheet.check("8.19", best_variance)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.19</summary>
#
# The derivative vanishes at $\sigma^2 = \tilde\beta + \delta^2$: the variance should also pay for not knowing the mean.
# Then $\mathrm{KL} = \frac12 \log \frac{\tilde\beta + \delta^2}{\tilde\beta} = \frac12 \log(1 + 2K) \le K$, where $K =
# \frac{\delta^2}{2 \tilde\beta}$ is the value at $\sigma^2 = \tilde\beta$ (Bao et al. 2022).
#
# ```python
# def best_variance(error2, beta_tilde):
#     sigma2 = beta_tilde + error2
#     return sigma2, 0.5 * (sigma2 / beta_tilde).log()
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.20 (code ★★). A term of the bound, from a guess of the image.** One term of the bound, in nats for each
# image: the second form of (8.9), from images `x0`, guesses `x0_hat`, steps `t` from 1 on (counted from 0) and the
# betas. The check computes the divergence of the two Gaussians (8.6).
#
# <details class="hint"><summary>Hint 1</summary>
#
# $\mathrm{SNR} = \bar\alpha/(1 - \bar\alpha)$ at `t - 1` and at `t`: which is larger?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Half of their difference, times the squared error *summed* over an image's pixels.
#
# </details>

# %% tags=["answer"]
def kl_term(x0, x0_hat, t, beta):
    """L_{t-1} of (8.9) from a guess of the image, with the posterior's variance.

    x0, x0_hat (B, 1, H, W), t (B,) int64 in 1..T-1, beta (T,).  Returns nats (B,).
    """
    ...

# %% tags=["check"]
sheet.check("8.20", kl_term)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.20</summary>
#
# Each step back raises the signal-to-noise ratio a little. A bound pays, for every bit of that rise, the error with
# which the image is known by then.
#
# ```python
# def kl_term(x0, x0_hat, t, beta):
#     bar = (1 - beta).cumprod(0)
#     snr = bar / (1 - bar)
#     return 0.5 * (snr[t - 1] - snr[t]) * (x0 - x0_hat).flatten(1).square().sum(1)
# ```
#
# </details>

# %% [markdown]
# **Exercise 8.21 (predict ★). A likelihood in disguise?** "Minimising $L_{\text{simple}}$ maximises the likelihood."
# Is that so?
#
# - (a) Yes: (8.10) is (8.9) without constant factors, and those move no minimum.
# - (b) No: (8.10) minimises the error of the noise, the bound that of the image.
# - (c) Yes, up to $L_T$ and $L_0$, which (8.10) leaves out.
# - (d) No, not for a network that cannot be perfect at all steps: it minimises the same errors under other weights.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Look at the weights in the table below (8.10).
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# A constant factor of each *term* is no constant factor of the *sum*.
#
# </details>

# %% tags=["answer"]
choice_8_21 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("8.21", choice_8_21)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 8.21</summary>
#
# The next section has more. A network without limits would reach the best answer, the posterior mean, at every step and
# so minimise both.
#
# ```python
# choice_8_21 = "d"
# ```
#
# </details>

# %%
sheet.summary()

# %% [markdown]
# ## Where the sources err
#
# **"Minimising $L_{\text{simple}}$ maximises the likelihood."** Often said in lectures. It minimises the same errors
# under other weights, and those of the bound are far from constant: in the table below (8.10) they fall a hundredfold
# and more from $t = 2$ to the middle of the chain, and at the end of the cosine schedule they rise to $499.5$. What
# that costs in bits, only a network trained on (8.8) itself would show.
#
# **"$x_T$ is pure noise"**, with the betas of a thousand steps and fewer steps. With $T = 100$ and betas from 0.0001
# to 0.02, common in tutorials, more than a third of the image's variance is still there at the end, and sampling
# starts from a noise that training never saw. The betas must grow as $T$ shrinks:

# %%
for steps, factor in ((1000, 1), (100, 1), (25, 1), (100, 10)):
    s = diffusion.Schedule.linear(steps, 1e-4 * factor, 0.02 * factor)
    print(f"T = {steps:4}, betas x {factor:2}: variance of the image left in x_T {s.alpha_bar[-1]:.5f}, "
          f"L_T {diffusion.prior_bits(x_test[:500].cpu(), s).mean():.5f} bits per dimension")
assert diffusion.Schedule.linear(100).alpha_bar[-1] > 0.33

# %% [markdown]
# **"The variance is preserved."** Only for data of mean square 1. Images in $[0, 1]$, as the textbook's simple
# diffusion has them, start far below it, and the network's input grows along the way:

# %%
for name, x in (("in [0, 1]", to_grey(x_test[:500])), ("in [-1, 1]", x_test[:500])):
    size = x.square().mean().item()
    inputs = [bar * size + 1 - bar for bar in cosine.alpha_bar[[0, T // 2 - 1, T - 1]].tolist()]
    print(f"{name:10}: mean square of x_t at t = 1, {T // 2}, {T}: " + ", ".join(f"{v:.2f}" for v in inputs))

# %% [markdown]
# **Two scales of guidance.** Ho and Salimans write $(1 + w)\hat\varepsilon(y) - w\, \hat\varepsilon(\varnothing)$,
# where $w = 0$ is no guidance. Most libraries, and (8.14), call $1 + w$ the guidance scale, where 1 is none and 0
# ignores the label. A "strength of 1" is nothing in one and plenty in the other:

# %%
cond, uncond = torch.tensor(2.0), torch.tensor(1.0)
for scale in (0.0, 1.0, 2.0):
    here, paper = uncond + scale * (cond - uncond), (1 + scale) * cond - scale * uncond
    print(f"{scale}: here {here:.0f}, in the paper {paper:.0f}")

# %% [markdown]
# **Betas read back from a float32 table.** Libraries that keep $\bar\alpha$ in single precision and read $\beta_t$
# back from the ratio $\bar\alpha_t / \bar\alpha_{t-1}$ lose digits where $\beta$ is small, and with them digits of
# the posterior:

# %%
exact = linear.at(torch.arange(T, device=device))[0].cpu()
bar = (1 - exact.float()).cumprod(0)
read_back = 1 - bar[1:] / bar[:-1]
error = (read_back.double() / exact[1:] - 1).abs()
print(f"relative error of beta: up to {error.max():.1e}, where float32 could hold {2**-24:.0e}")
assert error.max() > 100 * 2**-24

# %% [markdown]
# ## References
#
# - Bao, Li, Zhu, Zhang (2022). *[Analytic-DPM: an analytic estimate of the optimal reverse variance in diffusion
#   probabilistic models](https://arxiv.org/abs/2201.06503).* ICLR.
# - Ho, Jain, Abbeel (2020). *[Denoising diffusion probabilistic models](https://arxiv.org/abs/2006.11239).* NeurIPS.
# - Ho, Salimans (2022). *[Classifier-free diffusion guidance](https://arxiv.org/abs/2207.12598).*
# - Karras, Aittala, Aila, Laine (2022). *[Elucidating the design space of diffusion-based generative
#   models](https://arxiv.org/abs/2206.00364)*, sec. 4.
# - Kingma, Salimans, Poole, Ho (2021). *[Variational diffusion models](https://arxiv.org/abs/2107.00630).* NeurIPS.
# - Kynkäänniemi, Aittala, Karras, Laine, Aila, Lehtinen (2024). *[Applying guidance in a limited interval improves
#   sample and distribution quality in diffusion models](https://arxiv.org/abs/2404.07724).* NeurIPS.
# - Nichol, Dhariwal (2021). *[Improved denoising diffusion probabilistic models](https://arxiv.org/abs/2102.09672).*
#   ICML.
# - Ronneberger, Fischer, Brox (2015). *[U-Net: convolutional networks for biomedical image
#   segmentation](https://arxiv.org/abs/1505.04597).* MICCAI.
# - Salimans, Ho (2022). *[Progressive distillation for fast sampling of diffusion
#   models](https://arxiv.org/abs/2202.00512).* ICLR.
# - Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli (2015). *[Deep unsupervised learning using nonequilibrium
#   thermodynamics](https://arxiv.org/abs/1503.03585).* ICML.
# - Song, Meng, Ermon (2021). *[Denoising diffusion implicit models](https://arxiv.org/abs/2010.02502).* ICLR.
# - Vaswani et al. (2017). *[Attention is all you need](https://arxiv.org/abs/1706.03762).* NeurIPS.
