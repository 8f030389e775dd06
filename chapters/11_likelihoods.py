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
# # 11. Exact likelihoods and straight paths
#
# **The question.** The VAE of [chapter 2](02_vae.ipynb) and the diffusion of [chapter 8](08_ddpm.ipynb) only bound the
# probability of a picture; the GANs of [chapter 4](04_gan.ipynb) do not state one at all. Two families state it
# exactly: one draws a picture pixel by pixel, the other bends space by a map that can be undone. What does the exact
# number buy? And a third thing grew out of the second: if noise may flow to data along *any* path, why not along a
# straight one?
#
# You will be able to
# - factor the probability of a picture into one question for each pixel, and train a network that answers all at once;
# - draw from it in 784 passes, and cut their cost by what was computed before;
# - turn a picture into discrete codes, and see codes die and come back;
# - change variables in one, two and 784 dimensions, and count the volume;
# - show that a better likelihood can go with worse pictures, and that strange pictures can be the likelier ones;
# - train chapter 8's network to follow straight paths, and draw with it in a few steps.
#
# Running time: about eight minutes of processor time on one core, most of it training.

# %%
import genmed_core  # noqa: F401  (first: it sets how threads wait)
import io
import math
import time

import numpy as np
import torch
from IPython.display import Markdown
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional as F

from genmed_core import (data, diffusion, exercises, flow_matching, kernels, metrics, nets, plots, runtime, train,
                         widgets)

SEED = runtime.chapter_seed(0)
device = runtime.device()
print(runtime.machine())

# %%
train_set, val_set, test_set = data.digits("train"), data.digits("val"), data.digits("test")
expect = metrics.Expectations("11_likelihoods", source=train_set.source)
sheet = exercises.sheet("11_likelihoods")


def binarise(x):
    """Grey levels in [0, 1] -> 0 or 1, as in chapter 2; 128/255 itself is off."""
    return (x > 128.5 / 255).float()


x_test = binarise(test_set.images[:4000].to(device) / 255)  # (N, 1, 28, 28), from chapter 2's test images
labels = test_set.labels[:4000]

# %% [markdown]
# ## One pixel at a time
#
# Number the pixels of a picture row by row from the top left. By the definition of conditional probability, and with
# nothing left out,
#
# $$ \log p(x) = \sum_{i=1}^{784} \log p(x_i \mid x_1, \dots, x_{i-1}). \tag{11.1} $$
#
# Each factor asks one question of the pixels before it: is this one black or white? The logarithms add up to the
# *exact* likelihood. There is no code to integrate over, so there is no bound and no gap. What is given up is a code
# that says what a picture is about, and speed: to *draw*, each pixel has to wait for the one before it.
#
# A table cannot hold the answers (exercise 11.1). A network can, if its $i$-th answer cannot see pixel $i$ or a later
# one. Then one pass answers all 784 questions of a training picture at once.

# %% [markdown]
# **Exercise 11.1 (predict ★). What the last pixel needs.** By (11.1) the table of the probabilities of all black and
# white pictures of $3 \times 3$ pixels splits into nine tables, one for each pixel given those before it. How many
# free numbers does the *last* pixel's table have? (The solution counts all nine.)
#
# <details class="hint"><summary>Hint 1</summary>
#
# The first pixel needs one number, the second one two: what if the first was black, what if it was white.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# In how many ways can the eight pixels before the last one look?
#
# </details>

# %% tags=["answer"]
answer_11_1 = None  # a number: the last pixel's

# %% tags=["check"]
sheet.check("11.1", answer_11_1)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.1</summary>
#
# $2^8 = 256$. All nine have $1 + 2 + \dots + 256 = 2^9 - 1 = 511$, as many as the whole table: the chain rule saves
# nothing by itself. What saves is a network that shares its weights between contexts; for 784 pixels the last table
# alone would have $2^{783}$ entries.
#
# ```python
# answer_11_1 = 2**8
# ```
#
# </details>

# %% [markdown]
# Two ways to keep a network from seeing what comes later. **MADE**, the masked autoencoder (Germain and others 2015),
# gives each hidden unit a number, the last pixel that it may depend on, and cuts every weight that would break that
# promise. The **PixelCNN** (van den Oord and others 2016) cuts the kernels of its convolutions: rows above in full, the
# own row up to the left neighbour, and in later layers the place itself.

# %%
class MADE(nn.Module):
    """Binary pictures (B, 1, H, W) -> logits of the same shape, each of the pixels before it in `order` alone."""

    def __init__(self, order, hidden=512, seed=0):
        super().__init__()
        n, g = len(order), torch.Generator().manual_seed(seed)
        rank = order.argsort()                                                  # when each pixel has its turn
        one, two = (torch.randint(n - 1, (hidden,), generator=g).sort().values for _ in range(2))  # may see up to here
        self.enter, self.middle, self.leave, self.direct = (
            nn.Linear(i, o) for i, o in ((n, hidden), (hidden, hidden), (hidden, n), (n, n)))
        nn.init.zeros_(self.direct.weight)
        for name, mask in (("enters", one[:, None] >= rank), ("passes", two[:, None] >= one),
                           ("leaves", rank[:, None] > two), ("before", rank[:, None] > rank)):
            self.register_buffer(name, mask.float())

    def forward(self, x):
        x_flat = 2 * x.flatten(1) - 1
        h = F.relu(F.linear(x_flat, self.enter.weight * self.enters, self.enter.bias))
        h = F.relu(F.linear(h, self.middle.weight * self.passes, self.middle.bias))
        out = F.linear(h, self.leave.weight * self.leaves, self.leave.bias)
        return (out + F.linear(x_flat, self.direct.weight * self.before, self.direct.bias)).view_as(x)

# %% [markdown]
# **Exercise 11.2 (code ★★). What a causal convolution may see.** Write the mask of a causal convolution with a kernel
# of odd side `k`: ones where a pixel lies before the one in the centre, row by row from the top left, and zeros where
# it comes later. The centre itself is a zero in the first layer (`first`) and a one in all others.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Rows above the centre's are seen in full, rows below it not at all. That leaves the row of the centre.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Start with ones, and fill two slices with zeros. Or number the places of the kernel from 0 to $k^2 - 1$.
#
# </details>

# %% tags=["answer"]
def causal_mask(k, first):
    """Side of the kernel, odd; whether it is the first layer (bool) -> mask (k, k) of zeros and ones."""
    ...

# %% tags=["check"]
sheet.check("11.2", causal_mask)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.2</summary>
#
# After the first layer the centre holds what was computed from pixels before it, so later layers may use it. One layer
# with a one in the centre too early, and the network copies each pixel: a likelihood that is too good to be true.
#
# ```python
# def causal_mask(k, first):
#     mask = torch.ones(k, k)
#     mask[k // 2, k // 2 + (0 if first else 1):] = 0
#     mask[k // 2 + 1:] = 0
#     return mask
# ```
#
# </details>

# %%
class Causal(nn.Conv2d):
    """A convolution that sees the rows above, and its own row to the left; first: without the place itself.

    reach: rows and columns, `spread` pixels apart.
    """

    def __init__(self, inputs, outputs, reach, spread=1, first=False):
        super().__init__(inputs, outputs, (reach + 1, 2 * reach + 1), dilation=spread)
        self.far, mask = reach * spread, torch.ones(reach + 1, 2 * reach + 1)
        mask[-1, reach + (not first):] = 0
        self.register_buffer("mask", mask)

    def pad(self, x):
        return F.pad(x, (self.far, self.far, self.far, 0))                      # left, right, above

    def forward(self, x):
        return F.conv2d(self.pad(x), self.weight * self.mask, self.bias, dilation=self.dilation)

    def at(self, padded, r, c):
        """The output (B, outputs, 1, 1) at row r and column c alone, from inputs that are padded already."""
        seen = padded[:, :, r:r + self.far + 1, c:c + 2 * self.far + 1]
        return F.conv2d(seen, self.weight * self.mask, self.bias, dilation=self.dilation)

# %%
class PixelCNN(nn.Module):
    """Values (B, inputs, size, size), labels (B,) or None -> logits (B, outputs, size, size), each of what came before.

    A layer for each of `spreads`; every place has numbers of its own, so that the network knows where it is.
    """

    def __init__(self, inputs=1, outputs=1, size=28, width=32, reach=3, spreads=(1, 2, 4, 2, 1), classes=1):
        super().__init__()
        self.first, self.label = Causal(inputs, width, reach, first=True), nn.Embedding(classes, width)
        self.place = nn.Parameter(torch.zeros(1, width, size, size))
        self.causal = nn.ModuleList(Causal(width, width, 1, spread) for spread in spreads)
        self.mix = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in spreads)
        self.out = nn.Sequential(nn.SiLU(), nn.Conv2d(width, 2 * width, 1),
                                 nn.SiLU(), nn.Conv2d(2 * width, outputs, 1))
        for layer in (*self.mix, self.label):                                   # each layer begins as the identity
            nn.init.zeros_(layer.weight)

    def forward(self, x, y=None):
        h = self.first(2 * x - 1) + self.place
        if y is not None:
            h = h + self.label(y)[:, :, None, None]
        for causal, mix in zip(self.causal, self.mix):
            h = h + mix(F.silu(causal(F.silu(h))))
        return self.out(h)


# %% [markdown]
# Before anything is trained, two identities. A picture of $3 \times 3$ pixels has $2^9$ forms, and whatever the
# weights are, their probabilities must add up to one. And the answer for a pixel in the middle must not change with any
# pixel that comes later.

# %%
def nats(model, x):
    """Exact -log p(x) of binary pictures (B, 1, H, W) -> (B,)."""
    return F.binary_cross_entropy_with_logits(model(x).to(x.dtype), x, reduction="none").flatten(1).sum(1)


torch.manual_seed(SEED)
all_512 = torch.tensor([[int(b) for b in f"{k:09b}"] for k in range(512)]).view(-1, 1, 3, 3).float()
shuffled = torch.randperm(784, generator=torch.Generator().manual_seed(SEED))
sums, leaks = {}, {}
for name, tiny, large in (("MADE", MADE(torch.randperm(9)), MADE(shuffled)),
                          ("PixelCNN", PixelCNN(size=3), PixelCNN())):
    for p in [*tiny.parameters(), *large.parameters()]:
        nn.init.normal_(p, std=0.3)
    sums[name] = (-nats(tiny.double(), all_512.double())).exp().sum().item()
    x = torch.rand(1, 1, 28, 28, requires_grad=True)
    turn = shuffled.argsort() if name == "MADE" else torch.arange(784)
    large(x).flatten()[turn == 400].backward()
    leaks[name] = x.grad.flatten()[turn >= 400].abs().max().item()
    print(f"{name}: the 512 probabilities add up to {sums[name]:.8f}; largest slope along a later pixel {leaks[name]}")

# %% [markdown]
# ### Training
#
# Maximum likelihood is a sum of 784 cross-entropies, nothing else.

# %%
def fit(model, steps, rate, batch_size, title):
    """-> the averaged model, ready to be asked, and its history."""

    def loss_fn(batch):
        with runtime.autocast(device):
            return nats(model, batch.x).mean(), {}

    step = kernels.TrainStep(
        loss_fn, torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99)), model=model, ema=0.99, seed=SEED,
        batches=kernels.Batches(train_set, batch_size=batch_size, seed=SEED, device=device, transform=binarise),
        schedule=kernels.linear_decay(0.05))
    history = train.fit(step, runtime.budget(steps), title=title)
    return step.ema_model.eval().requires_grad_(False), history


STEPS = 1200  # yours to change
torch.manual_seed(SEED)
pixel_cnn, history = fit(PixelCNN().to(device), STEPS, 4e-3, 16, "PixelCNN")
row_by_row, _ = fit(MADE(torch.arange(784)).to(device), STEPS, 2e-3, 128, "MADE, row by row")
scattered, _ = fit(MADE(shuffled).to(device), STEPS, 2e-3, 128, "MADE, pixels in a random order")

# %% [markdown]
# **Exercise 11.3 (code ★). Exact nats.** A causal network has answered with log-odds of white, `logits`, for each pixel
# of black and white pictures `x`. Return each picture's negative log-likelihood, in nats.
#
# <details class="hint"><summary>Hint 1</summary>
#
# By (11.1) the logarithms of all pixels' chances add up. A black pixel's chance is 1 less that of white.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `F.binary_cross_entropy_with_logits(..., reduction="none")` has one number for each pixel.
#
# </details>

# %% tags=["answer"]
def exact_nats(logits, x):
    """Log-odds and pictures of zeros and ones, both (B, 1, H, W) -> nats (B,)."""
    ...

# %% tags=["check"]
sheet.check("11.3", exact_nats)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.3</summary>
#
# It is the reconstruction term of chapter 2, to the letter. There it was one part of a bound; here nothing is missing,
# because no pixel was used for its own logit.
#
# ```python
# def exact_nats(logits, x):
#     return F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
# ```
#
# </details>

# %% [markdown]
# **Exercise 11.4 (predict ★). Another order of the pixels.** You shuffle the pixels, once and for all pictures in the
# same way, and train another network on them, with the same number of weights. What can you say of its nats on the
# test pictures?
#
# - (a) They are the same as before: (11.1) holds in every order.
# - (b) They are exact as before, but they may be others.
# - (c) They are an upper bound only: (11.1) is exact in raster order.
# - (d) They are the same for every single picture; only drawn pictures look different.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Which of these are statements about the true $p$, and which about a network?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Guess a pixel from its left and upper neighbours; then guess it from pixels far away.
#
# </details>

# %% tags=["answer"]
choice_11_4 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("11.4", choice_11_4)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.4</summary>
#
# A convolution, moreover, relies on neighbours being near: for shuffled pixels it is a poor choice. Masked
# autoencoders with full layers care less, and can even be trained on many orders at once.
#
# ```python
# choice_11_4 = "b"
# ```
#
# </details>

# %%
def over_test(model, x=x_test):
    return torch.cat([nats(model, part) for part in x.split(500)])


shown = kernels.Batches(train_set, batch_size=5000, seed=SEED, transform=binarise).next().x.mean(0, keepdim=True)
frequency = shown.clamp(1e-3, 1 - 1e-3).to(device)
exact = {"each pixel on its own": F.binary_cross_entropy(frequency.expand_as(x_test), x_test,
                                                         reduction="none").flatten(1).sum(1),
         "MADE, pixels in a random order": over_test(scattered), "MADE, row by row": over_test(row_by_row),
         "PixelCNN": over_test(pixel_cnn)}
of_test = {name: value.mean().item() for name, value in exact.items()}
print(f"{'exact nats, ' + format(len(x_test), ',') + ' test digits':34}{'mean':>8}{'± (standard error)':>20}")
for name, value in exact.items():
    print(f"{name:34}{of_test[name]:8.1f}{value.std().item() / math.sqrt(len(value)):20.2f}")

# %% [markdown]
# These are not bounds. Of chapter 2's convolutional VAE, with 16 numbers a code, only a bound of $\log p$ is known:
# 77.9 nats with twenty draws of the code for each of 500 test digits (mean of three trainings, `make study
# STUDY=strange`), and about five more with one draw. How much of the difference to the PixelCNN is model, and how much
# the gap of the bound, the bound does not say.
#
# All orders of the pixels obey (11.1), and yet they are not equally easy for a network: a pixel whose neighbours are
# known is a smaller question, while the first few pixels of a random order tell more of the whole. One training of each
# is in the table.

# %% [markdown]
# ### Drawing: 784 passes, or one pixel's worth of each
#
# To draw, ask for the first pixel, toss a coin with that probability, write the result down, ask for the second. Each
# question is a pass through the whole network, of which one number is used. But nearly everything in that pass was
# computed before: what a layer said about earlier pixels does not change, for it cannot see the new one. Keep it, and
# each turn computes *one* place in each layer.

# %%
def draw_slowly(model, u):
    """u (B, 1, H, W) uniform -> binary pictures, by one pass through the network for each pixel."""
    x = torch.zeros_like(u)
    for r in range(u.shape[2]):
        for c in range(u.shape[3]):
            x[:, :, r, c] = (u[:, :, r, c] < model(x)[:, :, r, c].sigmoid()).float()
    return x


@torch.no_grad()
def draw_kept(model, u, pick, y=None, known=None, rows=0):
    """u (B, 1, H, W) -> values (B, inputs, H, W), each place of each layer computed once.

    pick(logits (B, outputs), u (B, 1)) -> (B, inputs).  The first `rows` rows are those of `known` (B, inputs, H, W).
    """
    B, _, H, W = u.shape
    seen = [layer.pad(u.new_zeros(B, layer.in_channels, H, W)) for layer in (model.first, *model.causal)]
    x = u.new_zeros(B, model.first.in_channels, H, W)
    told = 0 if y is None else model.label(y)[:, :, None, None]
    for r in range(H):
        for c in range(W):
            h = model.first.at(seen[0], r, c) + model.place[:, :, r:r + 1, c:c + 1] + told
            for causal, mix, past in zip(model.causal, model.mix, seen[1:]):
                past[:, :, r + causal.far, c + causal.far] = F.silu(h)[:, :, 0, 0]
                h = h + mix(F.silu(causal.at(past, r, c)))
            chosen = known[:, :, r, c] if r < rows else pick(model.out(h)[:, :, 0, 0], u[:, :, r, c])
            x[:, :, r, c] = chosen
            seen[0][:, :, r + model.first.far, c + model.first.far] = 2 * chosen - 1
    return x

# %%
def coin(logits, u):
    return (u < logits.sigmoid()).float()


g = torch.Generator().manual_seed(SEED)
u = torch.rand(100, 1, 28, 28, generator=g).to(device)
begin = time.process_time()
slowly = draw_slowly(pixel_cnn, u[:4])
one_by_one = time.process_time()
kept = draw_kept(pixel_cnn, u[:4], coin)
four_kept = time.process_time()
quickly = draw_kept(pixel_cnn, u, coin)
slow_each, quick_each = (one_by_one - begin) / 4, (four_kept - one_by_one) / 4
same = (torch.cat([kept, quickly[:4]]) == slowly.repeat(2, 1, 1, 1)).float().mean().item()
print(f"processor seconds for each of four digits: 784 passes {slow_each:.3f}, with what is kept {quick_each:.3f}; of "
      f"a hundred {(time.process_time() - four_kept) / 100:.3f}; {100 * same:.2f} % of the pixels agree")

# %% mystnb={"image": {"alt": "Rows of ten: test digits, ragged ones by MADE, cleaner ones by the PixelCNN"}}
u_made, by_made = torch.rand(10, 1, 28, 28, generator=g).to(device), torch.zeros(10, 1, 28, 28, device=device)
for i in range(784):
    turn = by_made.flatten(1)
    turn[:, i] = (u_made.flatten(1)[:, i] < row_by_row(by_made).flatten(1)[:, i].sigmoid()).float()
plots.show_rows({"test digits": x_test[:10], "MADE": by_made, "PixelCNN": quickly[:10]})

# %% [markdown]
# **Figure 11.1.** Ten test digits, and ten draws from each of two models, none picked.

# %% [markdown]
# ### Under the pointer: what each pixel costs
#
# A test digit, the chance that the PixelCNN gave to white at each pixel, told all pixels before it, and what the pixel
# as it is then cost, $-\log p$. The fourth map asks how much hangs on those before: by how much does the chance move
# when one of them is flipped, whichever moves it most? The probe begins where that is largest. On black, one white
# pixel close by is enough, for ink goes on; within a stroke many pixels agree, and no single one matters much. Point
# at another pixel, or move the sliders by the arrow keys. The sum of the third map is this digit's exact negative
# log-likelihood. Where is it spent?

# %%
@torch.no_grad()
def moved_by_a_flip(model, x):
    """Of each pixel's chance, the largest change when one pixel is flipped: x (1, 1, H, W) binary -> (H, W)."""
    flipped = (x.flatten(1) - torch.eye(x.numel(), device=x.device)).abs().view(-1, *x.shape[1:])
    return (model(flipped).sigmoid() - model(x).sigmoid()).abs().amax(0)[0]


chance, moved = pixel_cnn(x_test[:1]).sigmoid()[0, 0], moved_by_a_flip(pixel_cnn, x_test[:1])
row, column = divmod(moved.argmax().item(), 28)
costs = F.binary_cross_entropy(chance, x_test[0, 0], reduction="none")
dearest = costs.flatten().sort(descending=True).values.cumsum(0)
half_of_it = (dearest < costs.sum() / 2).sum() + 1
print(f"{costs.sum():.1f} nats in all, half of them at {half_of_it} of the 784 pixels; at row {row}, column {column} "
      f"the chance of white is {chance[row, column]:.2f}, and one flip moves it by {moved[row, column]:.2f}")
widgets.Probe({"pixel": x_test[0, 0], "chance of white": chance, "nats": costs, "moved by a flip": moved},
              start=(row, column), width=140)

# %% [markdown]
# **Exercise 11.5 (code ★★). One pixel after another.** `conditional(x)` returns log-odds (B, D), and the $i$-th of them
# depends on `x[:, :i]` alone. Draw pictures with it: pixel $i$ is white, 1, where `u[:, i]` lies below the sigmoid of
# its log-odds.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Start with zeros, and fill in one column at a time. What must be asked again after each?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# In the loop: `x[:, i] = (u[:, i] < conditional(x)[:, i].sigmoid()).float()`.
#
# </details>

# %% tags=["answer"]
def draw(conditional, u):
    """conditional: pictures (B, D) of zeros and ones -> log-odds (B, D); u (B, D) uniform -> pictures (B, D)."""
    ...

# %% tags=["check"]
sheet.check("11.5", draw)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.5</summary>
#
# $D$ passes for $D$ pixels, where training needed one for all of them. Of each pass only one column is used; a cache
# keeps what does not change.
#
# ```python
# def draw(conditional, u):
#     x = torch.zeros_like(u)
#     for i in range(u.shape[1]):
#         x[:, i] = (u[:, i] < conditional(x)[:, i].sigmoid()).float()
#     return x
# ```
#
# </details>

# %% [markdown]
# ### Half a digit, completed exactly
#
# A model that factors can be told the first half and asked for the rest, with no second network: $p(\text{lower} \mid
# \text{upper})$ is the second half of the product (11.1), exact for this model. (Ours looks thirteen rows up and misses
# part of the upper right, so the lowest row knows the given half only by what was drawn since.) Draw it several times,
# and the draws differ where the upper half leaves open what digit it is.

# %% mystnb={"image": {"alt": "Five upper halves, each with seven completions, which differ in form and in class"}}
HALF, COUNT = 14, 7
upper = x_test[:5].repeat_interleave(COUNT, 0)
completed = draw_kept(pixel_cnn, torch.rand(len(upper), 1, 28, 28, generator=g).to(device), coin, known=upper,
                      rows=HALF)
pages = completed.view(5, COUNT, 1, 28, 28)
given = x_test[:5].clone()
given[:, :, HALF:] = 0.35
rows = [torch.cat([given[i:i + 1], pages[i], x_test[i:i + 1]]) for i in range(5)]
plots.show_grid(torch.cat(rows), columns=COUNT + 2, column_labels=["given", *[""] * COUNT, "test"], width=6)

# %% [markdown]
# **Figure 11.2.** The upper halves of the first five test digits, seven completions of each, and the digit they are
# from.

# %%
classes = metrics.read_digits(completed).argmax(1).view(5, COUNT)
agree = (classes == labels[:5, None]).float().mean().item()
print("read:", *["/".join(map(str, row.tolist())) for row in classes], f"   {100 * agree:.0f} % as the test digit")

# %% [markdown]
# In figure 11.2 the upper half often settles the class, and not always: some completions are of another digit, and some
# of none.
#
# ### Slider: the pixels appear
#
# One draw in the making. Left the pixels so far; right what the network expects of every pixel that is still to come,
# *if all between were unknown*, as the mean of forty completions. Move the slider, and see when the class is decided.

# %%
one, many = u[3:4], torch.rand(40, 1, 28, 28, generator=g).to(device)
whole, frames = draw_kept(pixel_cnn, one, coin), []
for rows in range(0, 29, 2):
    rest = draw_kept(pixel_cnn, many, coin, known=whole.expand(40, -1, -1, -1), rows=rows)
    so_far = whole[0, 0].clone()
    so_far[rows:] = 0.35
    frames.append([so_far, rest.mean(0)[0]])
appearing = widgets.FrameSlider(frames, labels=range(0, 29, 2), description="rows drawn", start=6, width=190,
                                interval=500, captions=["so far", "expected of the rest"])
appearing

# %% [markdown]
# ## Discrete codes
#
# Chapter 9 drew films in the continuous codes of an autoencoder. Its codes can be discrete as well, and then the models
# above can draw *them*: 49 questions for a digit instead of 784. The encoder of a **VQ-VAE** (van den Oord and others
# 2017) says a vector $z$ for each of $7 \times 7$ places, and each is replaced by the nearest of $K$ learned **code
# vectors**,
#
# $$ e(z) = e_k, \qquad k = \arg\min_j \|z - e_j\|. \tag{11.2} $$
#
# This step has no slope. The **straight-through** estimate pretends that it were the identity: forward $e$, backward as
# if $z$. With $\mathrm{sg}$ for "no gradient here", and the copy $\hat x$ decoded from $e$,
#
# $$ L = \|x - \hat x(e)\|^2 + \|\mathrm{sg}(z) - e\|^2 + \beta\, \|z - \mathrm{sg}(e)\|^2 : \tag{11.3} $$
#
# copy well, draw the code vectors to where the encoder speaks, and commit the encoder to what it has said.

# %% [markdown]
# **Exercise 11.6 (code ★★). Straight through.** Quantise `z` by (11.2): each row becomes the nearest row of the
# codebook. Going back, the gradient passes as if nothing had happened: what arrives at $z_q$ goes to `z` unchanged, and
# none of it to the codebook. The check looks at values and gradients.
#
# <details class="hint"><summary>Hint 1</summary>
#
# `torch.cdist(z, codebook)` has all distances. Its `argmin` has no gradient: that is the trouble.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Add a constant to `z` that makes it the code. What does `detach` make of a tensor?
#
# </details>

# %% tags=["answer"]
def quantise(z, codebook):
    """z (B, D), codebook (K, D) -> z_q (B, D): the nearest codes, with the gradient of z."""
    ...

# %% tags=["check"]
sheet.check("11.6", quantise)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.6</summary>
#
# $z + \operatorname{sg}(e_k - z)$ has the value $e_k$ and the derivative of $z$. The gradient is wrong, strictly: a
# small step of $z$ changes nothing at all. It is useful as long as $z$ lies near its code, which the commitment term of
# (11.3) sees to.
#
# ```python
# def quantise(z, codebook):
#     e = codebook[torch.cdist(z, codebook).argmin(1)]
#     return z + (e - z).detach()
# ```
#
# </details>

# %%
CODES = 64  # yours to change


class VQVAE(nn.Module):
    """Grey digits (B, 1, 28, 28) in [0, 1] <-> 7 x 7 codes (B, 7, 7), each one of CODES."""

    def __init__(self, width=8):
        super().__init__()
        self.encoder = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 32, 3, padding=1), nn.SiLU(),
                                     nn.Conv2d(32, 64, 4, stride=2, padding=1), nn.SiLU(), nn.Conv2d(64, width, 1))
        self.decoder = nn.Sequential(nn.Conv2d(width, 64, 3, padding=1), nn.SiLU(), nn.Conv2d(64, 128, 1),
                                     nn.PixelShuffle(2), nn.Conv2d(32, 32, 3, padding=1), nn.SiLU(),
                                     nn.Conv2d(32, 4, 3, padding=1), nn.PixelShuffle(2))
        self.vectors = nn.Parameter(torch.randn(CODES, width))
        self.register_buffer("used", torch.full((CODES,), 1 / CODES))           # a moving average of their shares
        self.register_buffer("heard", torch.zeros(64 * 49, width))              # what the encoder said last

    def nearest(self, z):
        """(B, width, 7, 7) -> (B, 7, 7), the numbers of the nearest code vectors, (11.2)."""
        return torch.cdist(z.movedim(1, -1).flatten(0, -2), self.vectors).argmin(1).view(len(z), *z.shape[2:])

    def decode(self, k):
        return self.decoder(self.vectors[k].movedim(-1, 1))

# %%
def vq_loss(model, beta=0.25):
    """-> loss_fn(batch): (11.3), the first term in units of the pixels' variance."""

    def loss_fn(batch):
        with runtime.autocast(device):
            z = model.encoder(2 * batch.x - 1).float()
        k = model.nearest(z)
        e = model.vectors[k].movedim(-1, 1)
        with runtime.autocast(device):
            x_hat = model.decoder(z + (e - z).detach()).float()                 # straight through
        off = (batch.x - x_hat).square().mean()
        with torch.no_grad():
            model.used.lerp_(torch.bincount(k.flatten(), minlength=CODES) / k.numel(), 0.02)
            model.heard.copy_(z.movedim(1, -1).flatten(0, -2))
        return off / 0.06 + (z.detach() - e).square().mean() + beta * (z - e.detach()).square().mean(), {"off": off}

    return loss_fn

# %% [markdown]
# **Codes die.** A vector that starts far from everything is never the nearest, gets no gradient, and stays where it is.
# How many codes work is told by the **perplexity** of the shares $p_k$ in which they are used, $\exp(-\sum_k p_k \log
# p_k)$: $K$ if all are used alike, 1 if only one is. A common cure: what is hardly used is put where the encoder has
# just spoken. More codes in use need not mean much better copies; both are printed.

# %%
@torch.no_grad()
def revive(model):
    """Put each vector that has less than a tenth of a fair share on one of the encoder's last outputs."""
    dead = model.used < 0.1 / CODES
    model.vectors[dead] = model.heard[torch.randint(len(model.heard), (int(dead.sum()),), device=device)]
    model.used[dead] = 1 / CODES


def perplexity_of(k):
    """Numbers of codes, any shape -> exp of the entropy of their shares."""
    return torch.special.entr(torch.bincount(k.flatten(), minlength=CODES) / k.numel()).sum().exp().item()


# %%
grey_test, in_use, copied = test_set.images[:2000].float().to(device) / 255, {}, {}
for name, cure in (("as they come", None), ("the dead revived", revive)):
    torch.manual_seed(SEED)
    vq = VQVAE().to(device)
    optimizer = torch.optim.AdamW(vq.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.0)
    update = kernels.Update(vq_loss(vq), optimizer, after=cure and (lambda vq=vq: revive(vq)))
    step = kernels.TrainStep(update, batches=kernels.Batches(train_set, batch_size=64, seed=SEED, device=device),
                             model=vq, seed=SEED, schedule=kernels.linear_decay(0.05))
    train.fit(step, runtime.budget(600), title=f"VQ-VAE, {name}")
    vq = vq.eval().requires_grad_(False)
    k_test = vq.nearest(vq.encoder(2 * grey_test - 1))
    in_use[name], copied[name] = perplexity_of(k_test), (vq.decode(k_test) - grey_test).square().mean().item()
    print(f"{name:18} perplexity {in_use[name]:5.1f} of {CODES}, squared error of copies {copied[name]:.5f}")

# %% [markdown]
# **Exercise 11.7 (code ★). Codes in use.** How many of the `K` codes does an encoder use? Counting those that occur
# says too much of rare ones. Return the perplexity: the exponential of the entropy of the codes' shares. One code for
# everything gives 1, all codes equally often give $K$.
#
# <details class="hint"><summary>Hint 1</summary>
#
# `torch.bincount(k, minlength=K)` counts. What should a code that never occurs add to the entropy?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $-\sum_k p_k \log p_k$ over those with $p_k > 0$; or `torch.special.entr`, which knows that.
#
# </details>

# %% tags=["answer"]
def perplexity(k, K):
    """Numbers of codes (N,) int64 in 0..K-1, size of the codebook -> a number from 1 to K."""
    ...

# %% tags=["check"]
sheet.check("11.7", perplexity)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.7</summary>
#
# Half of the codes used equally often, the others never: $K / 2$. It is also what a prior over single codes has to pay:
# $\log$ of it, in nats, for each code.
#
# ```python
# def perplexity(k, K):
#     share = torch.bincount(k, minlength=K) / len(k)
#     return torch.special.entr(share).sum().exp()
# ```
#
# </details>

# %% [markdown]
# Then the prior: a PixelCNN over the $7 \times 7$ codes, told the label, trained by a cross-entropy with 64 answers
# instead of two. It reads each code as its vector, so that codes alike look alike.

# %%
def spoken(k):
    """Numbers of codes (B, 7, 7) -> their vectors (B, width, 7, 7)."""
    return vq.vectors[k].movedim(-1, 1)


def code_loss(model):
    """-> loss_fn(batch): exact nats of the codes of a digit, given its label."""

    def loss_fn(batch):
        k = batch.x[:, 0].long()
        with runtime.autocast(device):
            logits = model(spoken(k), batch.y)
        return F.cross_entropy(logits.float(), k, reduction="sum") / len(k), {}

    return loss_fn


k_train = torch.cat([vq.nearest(vq.encoder(2 * part.float().to(device) / 255 - 1))
                     for part in train_set.images.split(1000)])
torch.manual_seed(SEED)
prior = PixelCNN(8, CODES, size=7, width=96, reach=2, spreads=(1, 2, 1, 2), classes=10).to(device)
step = kernels.TrainStep(code_loss(prior), torch.optim.AdamW(prior.parameters(), lr=3e-3, betas=(0.9, 0.99)),
                         batches=kernels.Batches(k_train[:, None].float(), train_set.labels, batch_size=16, seed=SEED,
                                                 device=device),
                         model=prior, ema=0.99, seed=SEED, schedule=kernels.linear_decay(0.05))
train.fit(step, runtime.budget(1500), title="prior of the codes")
prior = step.ema_model.eval().requires_grad_(False)


# %%
def code_of(logits, u):
    """logits (B, CODES), u (B, 1) -> vectors (B, width), drawn by inverting the cumulative probabilities."""
    return vq.vectors[(logits.softmax(1).cumsum(1) < u).sum(1).clamp(max=CODES - 1)]


N = runtime.sample_count(2000)
asked = torch.arange(N, device=device) % 10
by_codes = torch.cat([vq.decoder(draw_kept(prior, torch.rand(len(y), 1, 7, 7, generator=g).to(device), code_of, y=y))
                      for y in asked.split(200)]).clamp(0, 1)
report_codes = metrics.sample_report(by_codes.cpu(), test_set, asked.cpu(), held_out=val_set, n=N)
Markdown(metrics.report_table({"VQ-VAE and a prior of its codes": report_codes}))

# %% mystnb={"image": {"alt": "Ten test digits, their codes as 7 x 7 tiles, their copies, and ten drawn digits"}}
codes_of_ten = F.interpolate(k_test[:10, None].float() / (CODES - 1), scale_factor=4)
plots.show_rows({"test": grey_test[:10], "codes": codes_of_ten, "copies": vq.decode(k_test[:10]).clamp(0, 1),
                 "drawn": by_codes[:10]})

# %% [markdown]
# **Figure 11.3.** Test digits, their 49 codes (each shade a code; neighbouring shades mean nothing), the copies made of
# them, and digits decoded from codes that the prior has drawn, one of each class, none picked.
#
# The copies in figure 11.3 are good, the draws are not: 61 % are read as asked, and they lie 26 floors away. What is
# weak is the prior, after less than a minute of training, and not the code.
#
# **On films.** [Chapter 9](09_ldm_cxr.ipynb) keeps four numbers at each of 16 by 16 places of a phantom film. In their
# stead: two codes of 512, between the same encoder and decoder, trained in as many steps on the same films (`make study
# STUDY=latents`, one seed). The bits of the four numbers are their KL, the price of a draw from $q(z \mid x)$ under
# the prior; those of codes are a fixed length.
#
# | copies of test films | bits | PSNR, dB | detail | perplexity | codes used |
# | --- | ---: | ---: | ---: | ---: | ---: |
# | 4 numbers a place (chapter 9) | 4,704 | 37.7 | 0.90 |  |  |
# | 2 codes a place, of 512 | 4,608 | 36.5 | 0.92 | 387 | 512 |
#
# At about the same price the codes copy a little less exactly and keep as much of the fine detail. All 512 are in use.

# %% [markdown]
# ## Change of variables
#
# The second family, **normalising flows**, maps a picture to a point $z = f(x)$, one to one and back, where $z$ has a
# simple density $p_Z$. Probability is conserved, space is not: a small box around $x$ becomes a box $|\det
# \partial f / \partial x|$ times as large, and so
#
# $$ \log p(x) = \log p_Z(f(x)) + \log\left|\det \frac{\partial f}{\partial x}\right|. \tag{11.4} $$
#
# In one dimension this is the chain rule of calculus (exercise 11.8). In 784 a determinant costs $784^3$ operations,
# unless $f$ is made so that it costs nothing.

# %% [markdown]
# **Exercise 11.8 (code ★). A stretched line.** Let $x \sim \mathcal{N}(0, 1)$ and $y = f(x)$ with $f$ increasing. You
# know `x` and the slope $f'(x)$ there. Return $\log p(y)$.
#
# <details class="hint"><summary>Hint 1</summary>
#
# (11.4) goes from data to noise: its derivative is that of the *inverse*. Which slope has that?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Where $f$ stretches by 2, the density is halved.
#
# </details>

# %% tags=["answer"]
def log_density(x, slope):
    """x (B,), slope f'(x) (B,) > 0 -> log p(y) at y = f(x), (B,)."""
    ...

# %% tags=["check"]
sheet.check("11.8", log_density)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.8</summary>
#
# $\log p(y) = -\frac12 x^2 - \frac12 \log 2\pi - \log f'(x)$. In (11.4) $f$ is the way from the data to the noise, so
# the logarithm there has a plus.
#
# ```python
# def log_density(x, slope):
#     return -0.5 * x**2 - 0.5 * math.log(2 * math.pi) - slope.log()
# ```
#
# </details>

# %% [markdown]
# A **coupling layer** (Dinh and others 2017) leaves one half of the coordinates as it is, and lets it say how the other
# half is scaled and shifted:
#
# $$ y_1 = x_1, \qquad y_2 = x_2\, e^{s(x_1)} + b(x_1), \qquad
#    \log\left|\det \frac{\partial y}{\partial x}\right| = \sum_i s_i(x_1). \tag{11.5} $$
#
# Its matrix of derivatives is triangular, so the determinant is the product of its diagonal. And it can be undone with
# $s$ and $b$ as they are: whatever network computes them never has to be inverted. Layers are stacked, with the halves
# taking turns, and the logarithms add up.

# %%
class Coupling(nn.Module):
    """(11.5) along dimension 1, then the halves change places: x -> y, log|det|."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def scale_and_shift(self, x1):
        s, b = self.net(x1).float().chunk(2, dim=1)
        return 2 * (s / 2).tanh(), b                                            # between 1/e^2 and e^2 times

    def forward(self, x):
        x1, x2 = x.chunk(2, dim=1)
        s, b = self.scale_and_shift(x1)
        return torch.cat([x2 * s.exp() + b, x1], dim=1), s.flatten(1).sum(1)

    def inverse(self, y):
        y2, x1 = y.chunk(2, dim=1)
        s, b = self.scale_and_shift(x1)
        return torch.cat([x1, (y2 - b) * (-s).exp()], dim=1)

# %%
class Flow(nn.Module):
    """Layers one after the other; each has forward(x) -> y, log|det| and inverse(y) -> x."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        total = 0
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def log_prob(self, x):
        """log p(x), (11.4), with a standard Gaussian p_Z -> (B,)."""
        z, log_det = self(x)
        return log_det - 0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)

    def inverse(self, z):
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        return z

# %% [markdown]
# **Exercise 11.9 (code ★★). One half bends the other.** An affine coupling, (11.5): the first half of each point stays,
# the second is multiplied by $e^s$ and shifted by $b$, where `net(x1)` returns $s$ and $b$. Return $y$ and
# $\log|\det \partial y / \partial x|$ of each point. The check takes the determinant of the whole matrix.
#
# <details class="hint"><summary>Hint 1</summary>
#
# `x.chunk(2, 1)` has both halves. The matrix of derivatives is triangular: what stands on its diagonal?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The determinant is the product of the factors $e^{s_i}$. Take its logarithm.
#
# </details>

# %% tags=["answer"]
def couple(x, net):
    """x (B, 2D), net: (B, D) -> s, b, both (B, D).  Returns y (B, 2D), log_det (B,)."""
    ...

# %% tags=["check"]
sheet.check("11.9", couple)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.9</summary>
#
# How `net` depends on $x_1$ stands below the diagonal, and the determinant does not see it. So the net may be anything,
# and its own derivatives are never needed.
#
# ```python
# def couple(x, net):
#     x1, x2 = x.chunk(2, 1)
#     s, b = net(x1)
#     return torch.cat([x1, x2 * s.exp() + b], 1), s.sum(1)
# ```
#
# </details>

# %% [markdown]
# **Exercise 11.10 (code ★). And back.** The inverse of `couple`: from `y` to `x`, with the same `net`, which nobody can
# invert.
#
# <details class="hint"><summary>Hint 1</summary>
#
# What did the net read, and do you still have it?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# What was done last is undone first.
#
# </details>

# %% tags=["answer"]
def uncouple(y, net):
    """y (B, 2D), net: (B, D) -> s, b, both (B, D).  Returns x (B, 2D)."""
    ...

# %% tags=["check"]
sheet.check("11.10", uncouple)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.10</summary>
#
# One pass each way: a flow draws as fast as it measures a likelihood. A model that goes pixel by pixel measures in one
# pass and draws in $D$.
#
# ```python
# def uncouple(y, net):
#     y1, y2 = y.chunk(2, 1)
#     s, b = net(y1)
#     return torch.cat([y1, (y2 - b) * (-s).exp()], 1)
# ```
#
# </details>

# %% [markdown]
# ### In two dimensions
#
# Two moons, and eight coupling layers. Here the promise of exactness can be tested with a grid: the density, summed
# over the plane, must be one; and it must agree with (11.4) where the determinant is taken of the whole map by
# automatic differentiation, which knows nothing of triangles.

# %%
def moons(n, seed):
    """Points on two half circles that reach into each other, blurred a little: (n, 2)."""
    g = torch.Generator().manual_seed(seed)
    angle, side = math.pi * torch.rand(n, generator=g), torch.randint(2, (n,), generator=g)
    x = torch.stack([angle.cos(), angle.sin()], 1) * (1 - 2 * side[:, None]) + side[:, None] * torch.tensor([1.0, 0.5])
    return 1.3 * (x - torch.tensor([0.5, 0.25])) + 0.12 * torch.randn(n, 2, generator=g)


def mlp(inputs, outputs, width=64):
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
                         nn.Linear(width, outputs))


def fit_points(model, loss_fn, steps, title, rate=3e-3):
    """Train on fresh moons of a large set, 256 a step -> the averaged model."""
    batches = kernels.Batches(moons(20_000, SEED).view(-1, 2, 1, 1), batch_size=256, seed=SEED, device=device)
    step = kernels.TrainStep(loss_fn, torch.optim.Adam(model.parameters(), lr=rate), batches=batches, model=model,
                             ema=0.99, seed=SEED, schedule=kernels.linear_decay(0.05))
    train.fit(step, runtime.budget(steps), title=title)
    return step.ema_model.eval().requires_grad_(False)


torch.manual_seed(SEED)
bend = Flow(*(Coupling(mlp(1, 2)) for _ in range(8))).to(device)
bent = fit_points(bend, lambda batch: (-bend.log_prob(batch.x.flatten(1)).mean(), {}), 1000, "flow of the moons")

# %%
SIDE, REACH = 400, 4.0
axis = torch.linspace(-REACH, REACH, SIDE, device=device)
plane = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(-1, 2)
density = bent.log_prob(plane).exp().view(SIDE, SIDE)
mass = density.sum().item() * (2 * REACH / (SIDE - 1)) ** 2
x = moons(200, SEED + 1).to(device)
z, _ = bent(x)
back = (bent.inverse(z) - x).abs().max().item()
jacobian = torch.func.vmap(torch.func.jacrev(lambda point: bent(point[None])[0][0]))(x)
by_whole = jacobian.det().abs().log() - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
off_grid = (by_whole - bent.log_prob(x)).abs().max().item()
print(f"mass on the grid {mass:.4f}; back and forth differ by {back:.1e}; log densities by the layers and by the whole "
      f"matrix differ by {off_grid:.1e} nats")

# %% mystnb={"image": {"alt": "Left two moons of points; middle their learned density; right a bent grid"}}
fig, (left, middle, right) = plots.figure(8, 2.8, 1, 3)
left.plot(*moons(1500, SEED + 3).T, ".", markersize=2)
middle.imshow(density.cpu(), extent=(-REACH, REACH, -REACH, REACH), origin="lower", cmap="Blues")
line, at = torch.linspace(-2.5, 2.5, 200), torch.linspace(-2.5, 2.5, 11)
for level in at:
    for pair in ((line, level.expand_as(line)), (level.expand_as(line), line)):
        right.plot(*bent.inverse(torch.stack(pair, 1).to(device)).cpu().T, color="C0", linewidth=0.7)
for ax, name in ((left, "data"), (middle, "density"), (right, "a square grid of z, seen in x")):
    ax.set(xlim=(-2.6, 2.6), ylim=(-2.2, 2.2), title=name, aspect="equal")
    ax.grid(False)
fig

# %% [markdown]
# **Figure 11.4.** Points of two moons, the density that the flow has learned, and what its inverse makes of a square
# grid.

# %% [markdown]
# Look for the bridge in figure 11.4. A continuous map that can be undone tears nothing apart: one blob of noise
# becomes one blob of data, so the density cannot be zero all the way between the moons.
#
# ### Slider: layer by layer
#
# From noise to data, one layer at a time. Colours keep the neighbours of $z$ together.

# %%
def as_picture(points, colours):
    """Points in the plane as the bytes of a square PNG."""
    fig, ax = plots.figure(2.4, 2.4)
    ax.scatter(*points.cpu().T, c=colours, s=2, cmap="twilight")
    ax.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
    file = io.BytesIO()
    fig.savefig(file, dpi=100)
    return file.getvalue()


z = torch.randn(1500, 2, generator=torch.Generator().manual_seed(SEED)).to(device)
angles, stages = torch.atan2(z[:, 1], z[:, 0]).cpu(), [z]
for layer in reversed(bent.layers):
    stages.append(layer.inverse(stages[-1]))
layer_by_layer = widgets.FrameSlider([as_picture(points, angles) for points in stages], labels=range(len(stages)),
                                     description="layers", width=240, interval=700)
layer_by_layer

# %% [markdown]
# ### Digits: what is a density of whole numbers?
#
# Grey levels are whole numbers, and a density may grow without bound at them: a flow would rather sharpen 256 spikes
# than learn digits. **Dequantise** first: add uniform noise $u \in [0, 1)^D$ to the levels, so that a probability
# becomes the mean density of a box of side one. By Jensen's inequality
#
# $$ \log P(x) = \log \int_{[0,1)^D} p(x + u)\, du \;\ge\; \mathbb{E}_u \log p(x + u). \tag{11.6} $$
#
# Counted in **bits per dimension**, that is $-\log P(x) / (D \log 2)$.
# So even here a bound comes back in, by the side door. Our network is small: the levels are moved to the real line by a
# logit, folded into blocks of pixels, and mixed between the couplings by matrices of $4 \times 4$ and $16 \times 16$
# (Kingma and Dhariwal 2018).

# %%
EDGE = 0.05  # keeps the logit finite


class Fold(nn.PixelUnshuffle):
    """Blocks of 2 x 2 pixels become channels."""

    def forward(self, x):
        return super().forward(x), x.new_zeros(len(x))

    def inverse(self, y):
        return F.pixel_shuffle(y, 2)


class Mix(nn.Module):
    """The channels of a place, times a matrix that begins as a rotation."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, channels)))

    def forward(self, x):
        log_det = x[0, 0].numel() * self.weight.slogdet().logabsdet
        return F.conv2d(x, self.weight[:, :, None, None]), log_det.expand(len(x))

    def inverse(self, y):
        return F.conv2d(y, self.weight.inverse()[:, :, None, None])


class Standardise(nn.Module):
    """Each coordinate, moved and scaled; begins with the mean and spread of `x`."""

    def __init__(self, x):
        super().__init__()
        self.shift, self.log_scale = nn.Parameter(-x.mean(0)), nn.Parameter(-(x.std(0) + 1e-3).log())

    def forward(self, x):
        return (x + self.shift) * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def inverse(self, y):
        return y * (-self.log_scale).exp() - self.shift

# %%
def to_line(x):
    """Grey levels in [0, 1] -> dequantised, on the real line, and log|det| of the way there, from boxes of side one."""
    u = EDGE + (1 - 2 * EDGE) * (255 * x + torch.rand_like(x)) / 256
    log_det = math.log((1 - 2 * EDGE) / 256) - u.log() - (1 - u).log()
    return u.logit(), log_det.flatten(1).sum(1)


def bits(flow, x):
    """Bits per dimension of grey levels in [0, 1], by (11.6) with one draw of the noise -> (B,)."""
    y, log_det = to_line(x)
    return -(flow.log_prob(y) + log_det) / (784 * math.log(2))


def says(channels, width):
    """The network of a coupling, which begins by changing nothing."""
    last = nn.Conv2d(width, 2 * channels, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 1), nn.SiLU(),
                         last)


torch.manual_seed(SEED)
levels = train_set.images.to(device)
couplings = [[Mix(c), Coupling(says(c // 2, width))] for c, width, n in ((4, 32, 2), (16, 96, 8)) for _ in range(n)]
digit_flow = Flow(Standardise(to_line(levels[:2000].float() / 255)[0]), Fold(2), *sum(couplings[:2], []), Fold(2),
                  *sum(couplings[2:], [])).to(device)


def flow_loss(batch):
    with runtime.autocast(device):
        return bits(digit_flow, batch.x).mean(), {}


step = kernels.TrainStep(flow_loss, torch.optim.AdamW(digit_flow.parameters(), lr=3e-3, betas=(0.9, 0.99)),
                         batches=kernels.Batches(train_set, batch_size=32, seed=SEED, device=device), model=digit_flow,
                         ema=0.99, seed=SEED, clip_norm=10.0, schedule=kernels.linear_decay(0.05))
train.fit(step, runtime.budget(600), title="flow of the digits")
digit_flow = step.ema_model.eval().requires_grad_(False)

# %%
torch.manual_seed(SEED)
of_grey = {"a flow of ten couplings": torch.cat([bits(digit_flow, x) for x in grey_test.split(500)]).mean().item()}
counts = torch.stack([torch.bincount(pixel.long(), minlength=256) for pixel in levels.flatten(1).T]) + 0.01
histogram = (counts / counts.sum(1, keepdim=True)).log2()
of_grey["a table of 784 histograms"] = -histogram.gather(1, (255 * grey_test).round().long().flatten(1).T).mean().item()
y, _ = to_line(grey_test[:100])
z, _ = digit_flow(y)
undone = (digit_flow.inverse(z) - y).abs().max().item()
drawn = digit_flow.inverse(0.8 * torch.randn(z[:20].shape, generator=g).to(device)).sigmoid()
by_flow = ((drawn - EDGE) / (1 - 2 * EDGE)).clamp(0, 1)
print("bits per dimension:", ", ".join(f"{name} {value:.2f}" for name, value in of_grey.items()))
print(f"there and back again differ by {undone:.1e}")

# %% mystnb={"image": {"alt": "Twenty digits by the flow: blots and strokes that rarely make a digit"}}
plots.show_grid(by_flow, columns=10)

# %% [markdown]
# **Figure 11.5.** Twenty pictures that the inverse makes of noise with a standard deviation of 0.8 in the place of 1,
# none picked: a calmer choice than draws of the model itself.

# %% [markdown]
# Figure 11.5 is the work of a small flow after a brief training. What every flow pays: each layer holds as many
# numbers as the picture, none may be narrow, and each needs an inverse and a cheap determinant. Those that draw faces
# have about two hundred couplings (Kingma and Dhariwal 2018). And the table of histograms, whose draws would be salt
# and pepper, has the smaller number, if the flow's is a bound by (11.6): it knows which corners are always black.

# %% [markdown]
# **Exercise 11.11 (derive ★★). From a density to bits.** Pictures of `D` pixels with 256 grey levels were dequantised,
# $(\text{level} + \text{uniform}) / 256$, so that they lie in $[0, 1]^D$. A flow has the negative log-densities `nats`
# there, one for each picture. Return bits per dimension, as (11.6) counts them for the levels.
#
# <details class="hint"><summary>Hint 1</summary>
#
# A density is no chance. Multiply it by the size of the cell of one pattern of levels, $256^{-D}$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Change the unit from nats to bits, divide by $D$, and the cell adds a constant.
#
# </details>

# %% tags=["answer"]
def bits_per_dimension(nats, D):
    """Negative log-densities (B,) of pictures in [0, 1]^D -> bits per dimension (B,)."""
    ...

# %% tags=["check"]
sheet.check("11.11", bits_per_dimension)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.11</summary>
#
# $\frac{\texttt{nats}}{D \ln 2} + 8$. An even density on the cube has 0 nats and 8 bits, as it should: it knows nothing
# of 256 levels. Who scales to $[-1, 1]$ has a cell of another size, and seven in the place of eight.
#
# ```python
# def bits_per_dimension(nats, D):
#     return nats / (D * math.log(2)) + 8
# ```
#
# </details>

# %% [markdown]
# ## A better likelihood, worse pictures
#
# It is tempting to read a list of nats as a list of quality. Here is a model that forbids it (Theis and others 2016).
# Toss a coin that shows heads once in a hundred: at heads draw a digit from the PixelCNN, else draw snow, every pixel
# black or white at even odds. Ninety-nine of a hundred pictures are snow, and still
#
# $$ \log p_{\text{mix}}(x) = \log\big(0.01\, p(x) + 0.99 \cdot 2^{-784}\big) \ge \log p(x) - \log 100, \tag{11.7} $$
#
# for whoever mixes in one part of a hundred loses at most $\log 100 = 4.6$ nats, be the other parts what they may.

# %%
mixed = torch.logaddexp(math.log(0.01) - exact["PixelCNN"].double(),
                        torch.tensor(math.log(0.99) - 784 * math.log(2), dtype=torch.float64, device=device))
of_test["1 % PixelCNN, 99 % snow"] = -mixed.mean().item()
lost = of_test["1 % PixelCNN, 99 % snow"] - of_test["PixelCNN"]
print(f"1 % PixelCNN, 99 % snow: {-mixed.mean():.1f} nats, {lost:.2f} more than the PixelCNN alone; MADE, row by row: "
      f"{of_test['MADE, row by row']:.1f}")

# %% [markdown]
# Ranked by nats, snow with a grain of PixelCNN is a better model of digits than MADE, whose draws in figure 11.1 at
# least have their ink where digits have it. The few nats that it takes are less than the gap between two of our
# models.
#
# **Nor is a likelihood an alarm.** Chapter 2 found a blank page likelier than digits, by a bound. Was the bound to
# blame? Ask the exact number:

# %%
some = x_test[:500]
strange = {"a blank page": torch.zeros_like(some[:1]), "upper half alone": some * (torch.arange(28) < 14)[:, None],
           "two digits in one": torch.maximum(some, some.roll(1, 0)), "digits lying": torch.rot90(some, 1, (2, 3)),
           "snow": (torch.rand(some.shape, generator=g) < 0.5).float()}
usual, auc = exact["PixelCNN"][500:1500], {}
for name, x in strange.items():
    unlikely = nats(pixel_cnn, x.to(device))
    auc[name] = (unlikely[:, None] > usual).float().mean().item()
    print(f"{name:20} {unlikely.mean():7.1f} nats; less likely than a test digit with chance {auc[name]:.2f}")

# %% [markdown]
# The bound was not to blame: the blank page is likelier than nearly every test digit, as little in it surprises.
# Nalisnick and others (2019) found flows and PixelCNNs of photographs to rate house numbers above their own training
# pictures. Nor is the exact number the better alarm: by chapter 2's bound, of another network, the upper half alone
# was less likely than a digit with chance 0.82, digits lying with 0.98 (`make study STUDY=strange`, with what works
# better).

# %% [markdown]
# **Exercise 11.12 (derive ★★). One sample in a hundred.** A mixture draws from a good model with the chance $0.01$, and
# noise with the chance $0.99$. By how many bits per dimension can it be worse than the good model alone, at most, on
# any picture of 784 pixels?
#
# <details class="hint"><summary>Hint 1</summary>
#
# By (11.7) the mixture gives every picture at least $0.01$ times what the good model gives it.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $\log 100$ nats for the whole picture. Then in bits, and for one pixel of 784.
#
# </details>

# %% tags=["answer"]
answer_11_12 = None  # bits per dimension, positive

# %% tags=["check"]
sheet.check("11.12", answer_11_12)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.12</summary>
#
# Less than a hundredth of a bit, the last digit that tables in this unit print. Of such a model $99$ samples in $100$
# are noise. Likelihood and the look of samples are two questions (Theis et al. 2016).
#
# ```python
# answer_11_12 = math.log2(100) / 784
# ```
#
# </details>

# %% [markdown]
# ## Straight paths
#
# A flow need not come in layers. Let a point move with a velocity $u(x, t)$ from noise at $t = 0$ to data at $t = 1$,
# as a solution of $dx/dt = u(x, t)$. That can be undone for *any* smooth network $u$: follow it backwards. [Chapter
# 8](08_ddpm.ipynb)'s sampler without noise follows such an equation, the **probability-flow ODE**.
#
# How is $u$ learned, without following paths in training? **Flow matching** (Lipman and others 2023, Liu and others
# 2023): *choose* a path for each pair of a picture $x$ and a noise $\varepsilon$, the straight one, and regress on its
# velocity:
#
# $$ x_t = (1 - t)\,\varepsilon + t\, x, \qquad
#    L = \mathbb{E}_{t, x, \varepsilon}\big\|u_\theta(x_t, t) - (x - \varepsilon)\big\|^2. \tag{11.8} $$
#
# Many pairs pass through one point at one time, with different velocities, and least squares asks for the mean of them
# ([chapter 10](10_translation.ipynb)):
#
# $$ u(z, t) = \mathbb{E}\big[x - \varepsilon \,\big|\, x_t = z\big]. \tag{11.9} $$
#
# That mean velocity carries the whole distribution from noise to data: at every $t$ the crowd that follows it is spread
# as the straight paths are, though nobody in it walks one. Where paths of pairs cross, the mean turns.

# %% [markdown]
# **Exercise 11.13 (code ★). A point and its velocity.** Write what (11.8) needs: the point $x_t$ between noise `eps`
# ($t = 0$) and data `x` ($t = 1$), another time for each picture, and the velocity that the network is to learn.
#
# <details class="hint"><summary>Hint 1</summary>
#
# A factor for each picture has shape (B, 1, 1, 1).
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Differentiate $(1 - t)\,\varepsilon + t\,x$ with respect to $t$.
#
# </details>

# %% tags=["answer"]
def point_and_target(x, eps, t):
    """x, eps (B, 1, H, W), t (B,) in [0, 1] -> x_t and its velocity, both (B, 1, H, W)."""
    ...

# %% tags=["check"]
sheet.check("11.13", point_and_target)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.13</summary>
#
# No schedule, no running products, no table of betas. Papers differ in the direction of time; nothing else changes
# with it but a sign.
#
# ```python
# def point_and_target(x, eps, t):
#     t = t.view(-1, 1, 1, 1)
#     return (1 - t) * eps + t * x, x - eps
# ```
#
# </details>

# %% [markdown]
# **Exercise 11.14 (code ★★). Chapter 8's network, on the straight path.** A network of chapter 8 has answered with $v$
# at $x_s = \sqrt{\bar\alpha}\,x_0 + \sqrt{1 - \bar\alpha}\,\varepsilon$, and $v = \sqrt{\bar\alpha}\,\varepsilon -
# \sqrt{1 - \bar\alpha}\,x_0$. Scale $x_s$ so that it lies on the straight path between the same noise and the same
# picture. Return that point, its time $t$, and the velocity $x_0 - \varepsilon$ that the answer amounts to. `bar` is
# $\bar\alpha$.
#
# <details class="hint"><summary>Hint 1</summary>
#
# On the straight path the two factors sum to 1. By what has $x_s$ to be divided?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $x_0 = \sqrt{\bar\alpha}\,x_s - \sqrt{1 - \bar\alpha}\,v$ and $\varepsilon = \sqrt{1 - \bar\alpha}\,x_s +
# \sqrt{\bar\alpha}\,v$: a rotation, undone.
#
# </details>

# %% tags=["answer"]
def straightened(x_s, v, bar):
    """x_s, v, bar (B,), 0 < bar < 1 -> x_t, t, u, all (B,)."""
    ...

# %% tags=["check"]
sheet.check("11.14", straightened)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.14</summary>
#
# $t = \sqrt{\bar\alpha} / (\sqrt{\bar\alpha} + \sqrt{1 - \bar\alpha})$. A network that was trained by chapter 8 can be
# sampled by an equation of this chapter, with no further training: what differs between the two is how training weighs
# the times.
#
# ```python
# def straightened(x_s, v, bar):
#     a, b = bar.sqrt(), (1 - bar).sqrt()
#     x0, eps = a * x_s - b * v, b * x_s + a * v
#     return x_s / (a + b), a / (a + b), x0 - eps
# ```
#
# </details>

# %% [markdown]
# **Exercise 11.15 (derive ★★). The velocity of a Gaussian.** Data, here $x_1$, are single numbers from
# $\mathcal{N}(m, s^2)$. Find the marginal velocity (11.9) at place `x`, time `t`. The check averages over all pairs
# that pass through `x`.
#
# <details class="hint"><summary>Hint 1</summary>
#
# $x_t$ and $x_1 - \varepsilon$ (data less noise) are Gaussian together: the conditional mean is a regression line.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# $x_t$ has mean $t m$ and variance $t^2 s^2 + (1 - t)^2$; its covariance with $x_1 - \varepsilon$ is $t s^2 - (1 - t)$.
#
# </details>

# %% tags=["answer"]
def marginal_velocity(x, t, m, s):
    """x, t (B,), the data's mean and standard deviation, numbers -> u(x, t), (B,)."""
    ...

# %% tags=["check"]
sheet.check("11.15", marginal_velocity)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.15</summary>
#
# At $t = 0$ it is $m - x$: from pure noise the best one can do is to head for the mean, which is where a single step of
# Euler's method ends. At $t = 1$ it is the place $x$ itself, the mean of $x_1 - \varepsilon$ once the data are known.
# In between the slope changes with $t$: all paths but the middle one are curves.
#
# ```python
# def marginal_velocity(x, t, m, s):
#     variance = t**2 * s**2 + (1 - t) ** 2
#     return m + (t * s**2 - (1 - t)) / variance * (x - t * m)
# ```
#
# </details>

# %% [markdown]
# ### In two dimensions: how straight is straight?
#
# The moons again, and a small network that is told $x$ and $t$. Trained twice: with pairs as they come, and with the
# noises of a batch dealt out anew so that the squared distances of the pairs add up to the least (**optimal coupling**;
# Tong and others 2024). Fewer paths cross then, and the mean has less to turn.

# %%
class Velocity(nn.Module):
    """x (B, 2), t a number or (B,) -> u (B, 2)."""

    def __init__(self):
        super().__init__()
        self.net = mlp(4, 2, width=96)

    def forward(self, x, t):
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))[:, None]
        return self.net(torch.cat([x, (math.pi * t).cos(), (math.pi * t).sin()], 1))


def point_loss(net, couple):
    """-> loss_fn(batch): (11.8) for points."""

    def loss_fn(batch):
        x = batch.x.flatten(1)
        eps, t = torch.randn_like(x), torch.rand(len(x), device=x.device)
        if couple:
            eps = flow_matching.optimal_coupling(x, eps)
        x_t = flow_matching.interpolate(x, eps, t)
        return (net(x_t, t) - flow_matching.velocity_target(x, eps)).square().mean(), {}

    return loss_fn


start, fields, bent_by, strides = torch.randn(2000, 2, generator=g).to(device), {}, {}, {}
for name, couple in (("as they come", False), ("coupled", True)):
    torch.manual_seed(SEED)
    net = Velocity().to(device)
    fields[name] = fit_points(net, point_loss(net, couple), 1500, f"pairs {name}")
    path = []
    end = flow_matching.ode_sample(fields[name], start, flow_matching.times(100),
                                   callback=lambda t, x, path=path: path.append(x))
    speed = torch.stack(path).diff(dim=0) * 100
    bent_by[name] = (speed - (end - start)).square().sum(2).mean().item() / (end - start).square().sum(1).mean().item()
    strides[name] = {n: (flow_matching.ode_sample(fields[name], start, flow_matching.times(n)) - end).square().sum(1)
                     .mean().sqrt().item() for n in (1, 2, 4, 8)}
    print(f"pairs {name:13} bend {bent_by[name]:.3f};   off the end after " +
          ", ".join(f"{n} steps {value:.3f}" for n, value in strides[name].items()))

# %% mystnb={"image": {"alt": "Paths from noise to the moons: curved for pairs as they come, else nearly straight"}}
fig, axes = plots.figure(7, 2.9, 1, 2)
for ax, (name, field) in zip(axes, fields.items()):
    path = []
    flow_matching.ode_sample(field, start[:60], flow_matching.times(50),
                             callback=lambda t, x, path=path: path.append(x.cpu()))
    ax.plot(*moons(600, SEED + 4).T, ".", markersize=2, color="#bbbbbb")
    ax.plot(*torch.stack(path).movedim(2, 0), color="C0", linewidth=0.6)
    ax.plot(*path[-1].T, ".", markersize=4, color="C3")
    ax.set(xlim=(-3, 3), ylim=(-2.4, 2.4), title=f"pairs {name}", aspect="equal")
fig

# %% [markdown]
# **Figure 11.6.** Sixty paths from noise to the moons, followed in fifty steps, after two trainings that differ in the
# pairing alone.

# %% [markdown]
# The bend printed above figure 11.6 is the mean square of the velocity's deviation from the path's own mean velocity,
# over the mean squared distance from start to end: 0 for straight paths walked at one speed, more than 1 where detours
# outweigh the way. Coupling takes away most of it, and with it the error of long strides, in as many steps but more
# seconds.

# %% [markdown]
# **An exact likelihood along the way.** Along a path the density changes by the trace of the derivatives in the place
# of a determinant (Chen and others 2018),
#
# $$ \frac{d}{dt} \log p_t(x_t) = -\operatorname{div} u(x_t, t), \tag{11.10} $$
#
# so the density of a point is that of the noise it flows back to, less what space was stretched on the way. In two
# dimensions the divergence costs two derivatives; in 784 its mean over random signs has to do (Grathwohl and others
# 2019). Of moons we know the true density, an average of Gaussians along two half circles, which no model can beat on
# average. What a model lacks is the error of its network: (11.10) is exact for the field that was learned, up to the
# solver's steps.

# %%
def true_log_density(x):
    """log p of the moons at x (N, 2)."""
    angle = torch.linspace(0, math.pi, 2001)
    arc = torch.stack([angle.cos(), angle.sin()], 1)
    centres = 1.3 * (torch.cat([arc, torch.tensor([1.0, 0.5]) - arc]) - torch.tensor([0.5, 0.25]))
    squares = torch.cdist(x, centres).square()
    return (-squares / (2 * 0.12**2)).logsumexp(1) - math.log(len(centres) * 2 * math.pi * 0.12**2)


x = moons(1000, SEED + 5)
of_points = {"the true density": true_log_density(x), "eight coupling layers": bent.log_prob(x.to(device)).cpu()}
of_points |= {f"straight paths, pairs {name}":
              flow_matching.log_likelihood(field, x.to(device), flow_matching.times(100)).cpu()
              for name, field in fields.items()}
of_points = {name: -value.mean().item() for name, value in of_points.items()}
for name, value in of_points.items():
    print(f"{name:36} {value:.3f} nats a point")

# %% [markdown]
# The coupling layers were trained on just this number, 0.1 nats above the truth; the straight paths on squared errors,
# and they are half a nat further off.

# %% [markdown]
# **Exercise 11.16 (code ★). Heun's step.** One step of Heun's method for $dx/dt = u(x, t)$, from `t` to `t + h`: try
# Euler's step, look at the velocity where it ends, and go with the mean of both.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Two calls of `u`, and the second one at another place *and* another time.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The step itself starts at `x` again.
#
# </details>

# %% tags=["answer"]
def heun(u, x, t, h):
    """u(x, t) -> velocities like x; x (B,), t and h numbers.  Returns x at t + h, (B,)."""
    ...

# %% tags=["check"]
sheet.check("11.16", heun)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.16</summary>
#
# Twice the calls for each step, and an error that falls like $h^2$ where Euler's falls like $h$. Compare methods at
# equal calls of the network.
#
# ```python
# def heun(u, x, t, h):
#     first = u(x, t)
#     second = u(x + h * first, t + h)
#     return x + h / 2 * (first + second)
# ```
#
# </details>

# %% [markdown]
# **Exercise 11.17 (predict ★). When one step is enough.** A network has learned its velocity perfectly. When does a
# single step of Euler's method, from $t = 0$ to $t = 1$, end where the exact path ends?
#
# - (a) Always, if it was trained by (11.8): all its training paths were straight lines with constant velocity.
# - (b) Never: Euler's method has an error that only falls with the number of steps.
# - (c) Where every path of the learned velocity is itself a straight line with constant speed; (11.8) does not ensure
#   that.
# - (d) Where the paths are straight, but only with Heun's method, as one slope cannot know where the path ends.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Two training lines cross at some point and time. Which velocity is learned there?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# What is the error of Euler's step made of? Look at exercise 11.15 at $t = 0$.
#
# </details>

# %% tags=["answer"]
choice_11_17 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("11.17", choice_11_17)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.17</summary>
#
# With pairs drawn at random, one step from noise ends at the mean of all data, a blur. Couplings of near pairs make
# paths straighter, and so does *reflow* (Liu and others 2023): train again on pairs of a noise and where its own path
# ended.
#
# ```python
# choice_11_17 = "c"
# ```
#
# </details>

# %%
widgets.Laboratory(data="moons", model="flow", caption="Flow matching in two dimensions, trained on this page")

# %% [markdown]
# Above, the same trains on the page: choose points of your own, or put diffusion beside it. What the network learned is
# drawn as arrows; *exact* shows (11.9) in closed form.
#
# ### Digits: three lines of chapter 8
#
# The straight path holds, up to a factor, the same pictures as chapter 8's: its $x_t$, divided by $\sqrt{t^2 + (1 -
# t)^2}$, is a $\sqrt{\bar\alpha}\,x_0 + \sqrt{1 - \bar\alpha}\,\varepsilon$ with the same ratio of signal to noise. So
# at one ratio everything that a network can be asked for is the same knowledge in other words. With $a = t$, $s = 1 -
# t$ and $\ell = \sqrt{a^2 + s^2}$:
#
# | it says | the picture $\hat x$ | the noise $\hat\varepsilon$ | velocity $\hat u = \hat x - \hat\varepsilon$ |
# |---|---|---|---|
# | $\hat\varepsilon$ | $(x_t - s\hat\varepsilon)/a$ | $\hat\varepsilon$ | $(x_t - \hat\varepsilon)/a$ |
# | $\hat x$ | $\hat x$ | $(x_t - a\hat x)/s$ | $(\hat x - x_t)/s$ |
# | $\hat v$ of (8.11) | $(a x_t/\ell - s \hat v)/\ell$ | $(s x_t/\ell + a \hat v)/\ell$ | their difference |
# | $\hat u$ | $x_t + s\hat u$ | $x_t - a\hat u$ | $\hat u$ |
#
# The paths do not differ: a stride of DDIM, (8.13) with $\eta = 0$, divided by $\sqrt{\bar\alpha} + \sqrt{1 -
# \bar\alpha}$, is Euler's stride on the straight path. What differs is where a sampler stops on the way, and in
# training the weight and the distribution of the times. The engine holds this table; there and back on random
# numbers:

# %%
torch.manual_seed(SEED)
x0, eps = torch.randn(2, 8, 1, 4, 4, dtype=torch.float64)
t, table_error = torch.linspace(0.1, 0.9, 8, dtype=torch.float64), 0.0
x_t = flow_matching.interpolate(x0, eps, t)
for says_what in flow_matching.PREDICTS:
    output = flow_matching.target(x0, eps, t, predicts=says_what)
    u = flow_matching.to_velocity(output, x_t, t, predicts=says_what)
    table_error = max(table_error, (u - (x0 - eps)).abs().max().item())
print(f"velocities by the four rows differ from x - eps by at most {table_error:.1e}")

# %% [markdown]
# Now chapter 8's U-Net, its batches, rates and number of steps, and Algorithm 1 with **three lines changed**: the path,
# the target, and the times, drawn as in [chapter 9](09_ldm_cxr.ipynb), more of them in the middle. The network is still
# told a step from 0 to $T - 1$, noisiest last, so that its sense of time stays.

# %%
T, FM_STEPS = 1000, 2400  # yours to change


def fm_loss(model, drop=0.1):
    """-> loss_fn(batch): chapter 8's Algorithm 1 on the straight path."""

    def loss_fn(batch):
        x = 2 * batch.x - 1
        k = diffusion.stratified_timesteps(len(x), T, spread=1.0, device=x.device)  # changed: the times
        eps = torch.randn_like(x)
        x_t = flow_matching.interpolate(x, eps, 1 - (k + 1) / T)                # changed: the path
        y = torch.where(torch.rand(len(x), device=x.device) < drop, model.null, batch.y)
        with runtime.autocast(device):
            u_hat = model(x_t, k, y)
        u = flow_matching.velocity_target(x, eps)                               # changed: the target
        return (u - u_hat).square().mean(), {}

    return loss_fn


torch.manual_seed(SEED)
unet = nets.UNet().to(device)
step = kernels.TrainStep(fm_loss(unet), torch.optim.AdamW(unet.parameters(), lr=6e-3, betas=(0.9, 0.99), fused=True),
                         batches=kernels.Batches(train_set, batch_size=32, seed=SEED, device=device), model=unet,
                         ema=0.997, seed=SEED, schedule=kernels.linear_decay(0.05))
history_fm = train.fit(step, runtime.budget(FM_STEPS), title="U-Net, straight paths")
straight = step.ema_model.eval()

# %%
def in_precision(x_t, k, y=None):
    with runtime.autocast(device):
        return straight(x_t, k, y)


def draw_straight(y, steps, method="euler", guidance=2.0, between=(0.2, 1.0), shift=2.0, seed=SEED):
    """Digits for labels y (B,), guided where chapter 8's are, strides shorter near noise: (B, 1, 28, 28) in [0, 1]."""
    noise = torch.randn(len(y), 1, 28, 28, generator=torch.Generator().manual_seed(seed)).to(device)
    parts = []
    for labels_part, start in zip(y.to(device).split(64), noise.split(64)):
        field = flow_matching.guided(flow_matching.from_network(in_precision, T), labels_part, null=unet.null,
                                     guidance=guidance, between=between)
        times = flow_matching.times(steps, shift)
        end = flow_matching.ode_sample(flow_matching.clipped(field), start, times, method)
        parts.append(((end + 1) / 2).clamp(0, 1).cpu())
    return torch.cat(parts)


few, quality = runtime.sample_count(500), {}
asked_few = torch.arange(few) % 10
reference = metrics.real_reference(val_set, n=few)
for n in (1, 2, 4, 10, 20, 50):
    quality[n] = metrics.sample_report(draw_straight(asked_few, n), reference, asked_few)
    print(f"{n:2} Euler steps: Fréchet distance {quality[n]['fd']:6.1f}, "
          f"read as asked {100 * quality[n]['read_accuracy']:5.1f} %")

# %%
N_FM = runtime.sample_count(2000)
ordered = train_set.labels.sort().values                                        # labels as frequent as in the data
asked_all = ordered[torch.linspace(0, len(ordered) - 1, N_FM).long()]
by_straight, each_straight = metrics.timed_samples(lambda: draw_straight(asked_all, 5, "heun"))
report_fm = metrics.sample_report(by_straight, test_set, asked_all, held_out=val_set, n=N_FM)
expect.model("Flow matching", report=report_fm, samples=by_straight, labels=asked_all, real=test_set,
             train_seconds=history_fm.seconds, sample_seconds=each_straight, parameters=metrics.parameter_count(unet),
             note="class-conditional, 5 steps of Heun, 9 passes, guidance 2")
Markdown(metrics.report_table({"straight paths, 9 passes": report_fm}))

# %% mystnb={"image": {"alt": "Rows of ten digits after 1, 2, 4, 10 and 50 steps: a blur, then digits, then the same"}}
ten = torch.arange(10)
by_steps = {n: draw_straight(ten, n, seed=SEED + 5) for n in (1, 2, 4, 10, 50)}
plots.show_rows({f"{n} step{'s' * (n > 1)}": x for n, x in by_steps.items()})

# %% [markdown]
# **Figure 11.7.** The ten digits from the same noise in 1, 2, 4, 10 and 50 Euler steps.

# %% [markdown]
# In figure 11.7 one step gives a blur, two a digit in the rough, and from four on little changes but the edges. One
# seed decides little. Chapter 8's cells were run as they stand and with path and target changed, three seeds each, with
# the same number of steps of training (`make study STUDY=flow_matching`):
#
# | Fréchet distance / floor, by passes | seeds | 1 | 2 | 4 | 10 | 20 | 50 |
# | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
# | chapter 8's path, DDIM | 3 | 53.86 ± 1.45 | 53.08 ± 1.22 | 3.98 ± 0.39 | 2.09 ± 0.21 | 1.98 ± 0.21 | 1.97 ± 0.23 |
# | straight path, Euler | 3 | 52.81 ± 1.65 | 5.66 ± 0.46 | 2.82 ± 0.28 | 1.95 ± 0.15 | 1.81 ± 0.13 | 1.82 ± 0.17 |
# | straight path, Heun | 3 |  |  | 2.86 ± 0.15 | 1.71 ± 0.07 | 1.81 ± 0.18 |  |
# | Euler, coupled in the batch | 1 | 47.42 | 4.77 | 2.89 | 2.11 | 1.92 | 1.95 |
# | Euler, logit-normal t | 3 | 35.26 ± 1.91 | 3.18 ± 0.31 | 1.80 ± 0.10 | 1.43 ± 0.08 | 1.40 ± 0.06 | 1.40 ± 0.05 |
#
# A guided pass, with the label and without, counts once; Heun's five steps, nine passes, stand under ten. The straight
# path in ten steps is as near as chapter 8's in twenty. DDIM's strides are Euler's on it, so this is a matter of the
# stops and of the training. Chapter 8's stops lie evenly, and the last pass is spent at step 0, where next to nothing
# is left to do: its two passes are hardly more than one. The straight path's stops were moved towards the noise, by a
# shift that was tried on validation images (one seed, ten Euler steps: 2.35 without, 2.11 with, 2.09 with a larger
# one); chapter 8's were not tuned. From ten on the gain is small beside the spread of the seeds (±). Both sides draw
# 500 digits, as does the floor.
#
# Two changes more, to the training alone. Noises dealt out anew in a batch of 32 gain a little in one or two passes and
# nothing later (one seed): among so few pairs in 784 dimensions none are near (exercise 11.19). Logit-normal times,
# more of them in the middle, where the guess is hardest (Esser and others 2024), gain more than all of the above in as
# many steps, with each of three seeds; so the cell above has them.
#
# The same study follows the equation backwards, with (11.10), for the bits per dimension of 64 test digits that were
# dequantised as in (11.6). It begins a little before $t = 1$, where validation images had the fewest bits:
#
# | bits per dimension, ± over images | bound of chapter 8 | by the ODE |
# | --- | ---: | ---: |
# | straight path | none | 1.99 ± 0.04 |
# | chapter 8's path, ten times as long | 1.59 ± 0.04 | 1.47 ± 0.03 |
#
# The rows do not compare the paths, for the second network was trained ten times as long. It has both numbers, and the
# equation's is the lower, though by (11.6) it is a bound for the grey levels too: the walk without noise is another
# model than the noisy one, with the same network.

# %% [markdown]
# **One to four steps.** Paths bend where pairs cross, so take pairs that hardly do: a noise, and the digit at the end
# of *its own* path. Training on these is **reflow** (Liu and others 2023). The network with logit-normal times drew ten
# thousand, guided, in four steps of Heun; then it was trained on for half as many steps, with even times, on these
# pairs or on pairs at random, all else alike (`make study STUDY=straighter`, one seed):
#
# | Fréchet distance / floor, by passes | seeds | 1 | 2 | 4 | 10 |
# | --- | ---: | ---: | ---: | ---: | ---: |
# | straight path, logit-normal t | 1 | 32.32 | 3.07 | 1.79 | 1.46 |
# | trained on, pairs at random | 1 | 54.82 | 5.49 | 2.33 | 1.54 |
# | trained on, its own pairs | 1 | 5.12 | 2.92 | 2.29 | 1.91 |
#
# In one pass reflow is more than ten times nearer than the control, and six times nearer than before. In ten the
# control is the nearer: a reflowed network learns its teacher's digits, errors and all, not the data. Its pairs hold
# the guidance, so it is asked once a pass where the others are asked twice.

# %% [markdown]
# **On latents.** [Chapter 9](09_ldm_cxr.ipynb)'s denoiser, trained once more in as many steps with path and target
# changed, and asked by that chapter's sampler or by Euler's steps (`make study STUDY=latents`, one seed):
#
# | 300 films | passes | Fréchet | kernel | recall | coverage | detail | read as asked |
# | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
# | chapter 9's path, its sampler | 4 | 16.92 | 0.95 | 0.62 | 0.58 | 0.96 | 0.87 |
# | chapter 9's path, its sampler | 10 | 7.11 | 0.33 | 0.86 | 0.76 | 0.95 | 0.88 |
# | straight path, the same sampler | 4 | 17.97 | 1.12 | 0.36 | 0.54 | 0.88 | 0.79 |
# | straight path, the same sampler | 10 | 7.62 | 0.39 | 0.80 | 0.84 | 0.93 | 0.84 |
# | straight path, Euler | 4 | 14.79 | 0.93 | 0.50 | 0.64 | 0.92 | 0.79 |
# | straight path, Euler | 10 | 8.96 | 0.50 | 0.72 | 0.79 | 0.90 | 0.82 |
#
# Nothing is gained here that one seed could show: in four passes the straight path by Euler is nearest, in ten chapter
# 9's own. It may have less to gain there, for that sampler is of second order and that training draws logit-normal
# times.

# %% [markdown]
# ### Slider: how many steps
#
# Thirty digits from the same noise.

# %%
thirty = torch.arange(10).repeat(3)
COUNTS = (1, 2, 3, 4, 6, 8, 12, 20, 50)
step_slider = widgets.FrameSlider([plots.tile(draw_straight(thirty, n, seed=SEED + 6), 3, 10) for n in COUNTS],
                                  labels=COUNTS, description="Euler steps", start=3, width=460, interval=900)
step_slider

# %% [markdown]
# ## Everything on one page
#
# | family | likelihood | passes a draw | training | its code |
# |---|---|---|---|---|
# | [VAE](02_vae.ipynb) | bound | 1 | steady | continuous, by the encoder |
# | [GAN](04_gan.ipynb), [WGAN](06_wgan.ipynb) | none | 1 | a game, can collapse | continuous, no encoder |
# | [diffusion](08_ddpm.ipynb) | bound; exact along its ODE | 10 to 1000 | steady | the noise |
# | pixel by pixel | exact | 784; of one pixel each, if the rest is kept | steady | none |
# | discrete codes and a prior | bound | $7 \times 7$, and the decoder | steady; codes can die | discrete |
# | coupling layers | exact, of dequantised data | 1 | steady | the noise, by the inverse |
# | straight paths | exact along the ODE, of dequantised data | 4 to 50 | steady | the noise, by the way back |
#
# What each is suited to in medicine, as a guide for further reading, not a finding of this chapter: the VAE to codes
# that group patients, and to a second look at strange scans; GANs to sharper restorations, and to other scanners
# ([chapter 10](10_translation.ipynb)); diffusion and straight paths to many answers to one measurement, and to films
# that are synthetic; models that draw one symbol after another to reports, genomes and records; discrete codes to
# volumes too large to draw pixel by pixel; coupling layers to the posterior of a few quantities that a scan does not
# settle. Editing goes by the code: where there is one, move it; where there is noise, go back along the path, change
# what is asked for, and come again.
#
# "Steady" says that the loss falls to where more of the same helps little; it does not say that the pictures are good.

# %% [markdown]
# ## What this chapter promises

# %% tags=["nbval-check-output"]
expect("MADE: probabilities of all 3 x 3 pictures, sum", sums["MADE"], above=0.999, below=1.001)
expect("PixelCNN: probabilities of all 3 x 3 pictures, sum", sums["PixelCNN"], above=0.999, below=1.001)
expect("largest slope along a later pixel", max(leaks.values()), below=1e-9)
expect("PixelCNN, exact nats per test digit", of_test["PixelCNN"], below={"mnist": 69, "strokes": 69},
       above={"mnist": 58, "strokes": 30})
expect("MADE, row by row, nats above the PixelCNN", of_test["MADE, row by row"] - of_test["PixelCNN"], above=3)
expect("pixels that both ways of drawing agree on", same, above=0.999)
expect("four digits: times faster with what is kept", slow_each / quick_each, above=2.5)
expect("completions read as the test digit, share", agree, above=0.2)
expect("nats lost by mixing in 99 % snow", lost, above=4.5, below=4.7)
expect("a blank page is less likely than a digit, chance", auc["a blank page"], below=0.05)
expect("perplexity of the codes, revived", in_use["the dead revived"], above=18)
expect("digits of the code prior read as asked, share", report_codes["read_accuracy"],
       above={"mnist": 0.4, "strokes": 0.4})
expect("mass of the plane's flow", mass, above=0.98, below=1.02)
expect("flow of the moons, back and forth", back, below=1e-3)
expect("log densities by layers and by the whole matrix, nats", off_grid, below=0.02)
expect("flow of the digits, bits per dimension", of_grey["a flow of ten couplings"],
       below={"mnist": 2.55, "strokes": 2.55}, above={"mnist": 1.2, "strokes": 0.8})
expect("nats a point that straight paths lose to the true density",
       of_points["straight paths, pairs as they come"] - of_points["the true density"], above=0, below=1.2)
expect("velocities by the table, largest difference", table_error, below=1e-9)
expect("bend of coupled paths over that of the others", bent_by["coupled"] / bent_by["as they come"], below=0.7)
expect("Fréchet distance at 4 steps over that at 50", quality[4]["fd"] / quality[50]["fd"], below=2)
expect("straight paths, 9 passes, Fréchet distance", report_fm["fd"], below={"mnist": 70, "strokes": 90})
expect("straight paths, 9 passes, read as asked", report_fm["read_accuracy"], above={"mnist": 0.94, "strokes": 0.9})

# %% [markdown]
# ## Exercises
#
# The checks run on fresh random cases. Answers use what the first cell imports and nothing else of the chapter.

# %% [markdown]
# **Exercise 11.18 (code ★★). Pairs that are near.** Reorder the noise of a batch so that the total squared distance
# between the pictures and their noise is as small as it can be. Every noise is used once; the pictures keep their
# places.
#
# <details class="hint"><summary>Hint 1</summary>
#
# All pairs' squared distances make a matrix (B, B). Flatten the pictures first.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `linear_sum_assignment(cost)` returns rows and columns, the rows in their order. It wants numpy: `.numpy()`.
#
# </details>

# %% tags=["answer"]
def coupled_noise(x, eps):
    """Pictures and noise, both (B, 1, H, W) -> the noise, reordered, (B, 1, H, W)."""
    ...

# %% tags=["check"]
sheet.check("11.18", coupled_noise)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.18</summary>
#
# Each noise is still used once, so that on average over batches the noise is Gaussian as before; only who is paired
# with whom has changed, and fewer lines cross.
#
# ```python
# def coupled_noise(x, eps):
#     cost = torch.cdist(x.flatten(1), eps.flatten(1)) ** 2
#     _, order = linear_sum_assignment(cost.numpy())
#     return eps[torch.as_tensor(order)]
# ```
#
# </details>

# %% [markdown]
# **Exercise 11.19 (investigate ★★★). What bends the paths.** Take the network out: data $x \sim \mathcal{N}(0, s^2)$,
# noise $\varepsilon \sim \mathcal{N}(0, 1)$, and pairs that agree by a correlation `rho` between $x$ and
# $\varepsilon$: 0 for pairs at random, more for near ones. The velocity (11.9) is then proportional to $x_t$. Let `K`
# steps of Euler's method, of equal length, lead noise from $t = 0$ to $t = 1$, and return the standard deviation of
# what arrives. Then investigate: one step with `rho` 0, one with `rho` 1, and all between; how many steps come within
# $1\,\%$ of $s$? Which `rho` has a batch of 2, 8, 64 pairs after exercise 11.18, in one dimension and in fifty?
#
# <details class="hint"><summary>Hint 1</summary>
#
# $\operatorname{Cov}(x, \varepsilon) = \rho s$. As in exercise 11.15: the slope is the covariance of
# $x - \varepsilon$ and $x_t$ over the variance of $x_t$, and both have one term more.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The variance is $t^2 s^2 + (1 - t)^2 + 2 t (1 - t) \rho s$, the covariance half its derivative. Each step multiplies
# by $1 + \text{slope} / K$.
#
# </details>

# %% tags=["answer"]
def euler_sd(s, rho, K):
    """The data's standard deviation, the pairs' correlation, number of steps -> standard deviation at t = 1."""
    ...

# %% tags=["check"]
sheet.check("11.19", euler_sd)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 11.19</summary>
#
# One step gives $\rho s$: nothing but the mean for pairs at random, and exactly $s$ for $\rho = 1$, where $x = s\,
# \varepsilon$ and all lines are paths. To come within $1\,\%$ of $s = 0.6$ takes $K = 139$ for $\rho = 0$, $29$ for
# $0.75$ and $5$ for $0.96$. On a line, batches of $2$, $8$ and $64$ find $\rho \approx 0.3$, $0.75$ and $0.96$; in
# fifty dimensions, where no draw is near any picture, $0.06$, $0.17$ and $0.3$. To see it:
#
# ```
# for d in (1, 50):
#     for B in (2, 8, 64):
#         x, eps = torch.randn(2, 200, B, 1, 1, d)
#         near = torch.stack([coupled_noise(*pair) for pair in zip(x, eps)])
#         print(d, B, float((x * near).mean()))
# ```
#
# ```python
# def euler_sd(s, rho, K):
#     size = 1.0
#     for k in range(K):
#         t = k / K
#         variance = t**2 * s**2 + (1 - t) ** 2 + 2 * t * (1 - t) * rho * s
#         slope = (t * s**2 - (1 - t) + (1 - 2 * t) * rho * s) / variance
#         size = size * (1 + slope / K)
#     return abs(size)
# ```
#
# </details>

# %%
sheet.summary()

# %% [markdown]
# ## References
#
# - R. T. Q. Chen and others. *[Neural ordinary differential equations](https://arxiv.org/abs/1806.07366).* NeurIPS
#   2018.
# - L. Dinh, J. Sohl-Dickstein, S. Bengio. *[Density estimation using Real NVP](https://arxiv.org/abs/1605.08803).* ICLR
#   2017.
# - P. Esser and others. *[Scaling rectified flow transformers for high-resolution image
#   synthesis](https://arxiv.org/abs/2403.03206).* ICML 2024.
# - M. Germain, K. Gregor, I. Murray, H. Larochelle. *[MADE: masked autoencoder for distribution
#   estimation](https://arxiv.org/abs/1502.03509).* ICML 2015.
# - W. Grathwohl and others. *[FFJORD: free-form continuous dynamics for scalable reversible generative
#   models](https://arxiv.org/abs/1810.01367).* ICLR 2019.
# - D. Kingma, P. Dhariwal. *[Glow: generative flow with invertible 1x1
#   convolutions](https://arxiv.org/abs/1807.03039).* NeurIPS 2018.
# - Y. Lipman and others. *[Flow matching for generative modeling](https://arxiv.org/abs/2210.02747).* ICLR 2023.
# - X. Liu, C. Gong, Q. Liu. *[Flow straight and fast: learning to generate and transfer data with rectified
#   flow](https://arxiv.org/abs/2209.03003).* ICLR 2023.
# - E. Nalisnick and others. *[Do deep generative models know what they don't know?](https://arxiv.org/abs/1810.09136)*
#   ICLR 2019.
# - A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu. *[Pixel recurrent neural
#   networks](https://arxiv.org/abs/1601.06759).* ICML 2016.
# - A. van den Oord, O. Vinyals, K. Kavukcuoglu. *[Neural discrete representation
#   learning](https://arxiv.org/abs/1711.00937).* NeurIPS 2017.
# - L. Theis, A. van den Oord, M. Bethge. *[A note on the evaluation of generative
#   models](https://arxiv.org/abs/1511.01844).* ICLR 2016.
# - A. Tong and others. *[Improving and generalizing flow-based generative models with minibatch optimal
#   transport](https://arxiv.org/abs/2302.00482).* TMLR 2024.
