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
# # 5. Conditional GAN
#
# **The question.** The generator of [chapter 4](04_gan.ipynb) draws a digit, any digit. We want the digit we ask for,
# in as many handwritings as there are. The first half is easy to check: ask for a 3, and see whether a 3 comes. Is
# that enough? This chapter builds a conditional GAN that passes the check almost perfectly and is worthless, and then
# some that are not.
#
# You will be able to
# - write the training loop of a conditional GAN in four forms, and say what each discriminator is asked;
# - find the best discriminator of each form, and the term that two of them leave out;
# - measure a conditional generator: is it read as asked, and how varied are its drawings within a class;
# - show with figures why the first number, alone, says nothing about the second.
#
# Running time: about four minutes of processor time on one core with fast bfloat16, up to twice as much without, most
# of it training.

# %%
import genmed_core  # noqa: F401  (first: it sets how threads wait)
import copy
import functools
import math

import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from genmed_core import data, exercises, kernels, metrics, nets, plots, runtime, train, widgets

SEED = runtime.chapter_seed(0)
device = runtime.device()
print(runtime.machine())

# %% [markdown]
# ## The data, and two questions about a drawing
#
# Digits in grey, now with their labels.

# %%
train_set, val_set, test_set = (data.digits(split) for split in ("train", "val", "test"))
x_test, y_test = test_set.images.to(device) / 255, test_set.labels.to(device)
asked = torch.arange(10 * 200, device=device) % 10                    # the labels we shall ask for: 200 of each
expect = metrics.Expectations("05_cgan", source=test_set.source)
sheet = exercises.sheet("05_cgan")                                    # the exercises, which check what you answer

# %% [markdown]
# We shall ask each generator for 200 drawings of each digit, and measure three things ([how the measures
# work](measuring.md) has a page of its own).
#
# - **Read as asked.** Our reader of digits, a classifier that comes with the project, looks at every drawing. In what
#   share does it see the digit that was asked for?
# - **Diversity within the class.** Describe each drawing by the 128 features of the reader's last layer. Take all pairs
#   of drawings that are read as the same digit, and their mean distance; divide by the same for real test digits;
#   average over the ten classes. 1 is as varied as the real ones, 0 is one picture for each class.
# - **Fréchet distance (FD).** One Gaussian is fitted to the features of all drawings and one to those of real test
#   images, and the two are compared. Its **floor** is what 2,000 real images score that were kept out of training.
#
# To see that these are different questions, let the first "generator" be a cheat. It owns one real test digit of each
# class and returns it every time.

# %%
reference = metrics.real_reference(test_set, held_out=val_set)        # features of real images, and the floor
reports = {}


def measure(name, x, labels=asked):
    """Report on 2,000 drawings x of the labels asked for, and keep it for the table."""
    reports[name] = metrics.sample_report(x.clamp(0, 1), reference, labels)


def table():
    """The reports so far, as Markdown: one row for each generator, the floor first."""
    rows = [("*real digits, the floor*", reference.floor | {"fd_ratio": 1.0}), *reports.items()]
    lines = [f"| {name} | {r['fd']:.1f} | {r['fd_ratio']:.1f} | {100 * r['read_accuracy']:.1f} % "
             f"| {r['diversity']:.2f} | {r['recall']:.2f} |" for name, r in rows]
    return Markdown("\n".join(["| generator | FD | FD / floor | read as asked | diversity | recall |",
                               "|---|---:|---:|---:|---:|---:|", *lines]))


sure = metrics.read_digits(x_test[:1000]).gather(1, y_test[:1000, None])[:, 0]      # how clearly a digit is read
best = torch.stack([(sure * (y_test[:1000] == c)).argmax() for c in range(10)])
measure("cheat: one real digit per class", x_test[best][asked])
table()

# %% [markdown]
# Every drawing is read as asked, which even real digits do not quite manage. The diversity is zero. Keep the cheat in
# mind.

# %% [markdown]
# ## The textbook's form: eleven classes
#
# The textbook turns the discriminator into a classifier with $K + 1$ classes: the ten digits, and an eleventh, "fake".
# Real images should be put into their class, generated ones into the eleventh. The generator is told the label by an
# **embedding**, a learned vector $e_y$ that is *added* to the noise, and wants its drawing put into class $y$. With
# $D_k(x)$ the softmax over the eleven scores, numbered from 0, so that $K = 10$ is "fake",
#
# $$ L_D = -\tfrac12\, \mathbb{E}_{(x, y) \sim p_r} \log D_y(x)
#    - \tfrac12\, \mathbb{E}_{y, z} \log D_K\big(G(z + e_y)\big),
#    \qquad L_G = -\mathbb{E}_{y, z} \log D_y\big(G(z + e_y)\big) . \tag{5.1} $$
#
# Both are cross-entropies. The eleventh class comes from semi-supervised learning (Salimans and others 2016), where the
# aim is a good classifier and the generator is not told any label.
#
# The textbook prints the networks and skips the training loop. Here it is. Labels are asked for as often as they occur.
# $D$ moves first, on fakes that are *detached*: no gradient flows back into the generator. Then $G$ moves, and the
# embedding with it, on fresh fakes. The networks are those of chapter 4's textbook GAN, with eleven outputs.

# %%
class BookGenerator(nn.Module):
    """The textbook's: z (B, 8), y (B,) -> images (B, 1, 28, 28) in [0, 1]."""

    def __init__(self):
        super().__init__()
        self.label = nn.Embedding(10, 8)
        self.net = nn.Sequential(nn.Linear(8, 128), nn.LeakyReLU(), nn.Linear(128, 256), nn.LeakyReLU(),
                                 nn.Linear(256, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))

    def forward(self, z, y):
        return self.net(z + self.label(y))                            # added


FAKE = 10                                                             # the eleventh class


def book_losses(G, D):
    def judge(x):
        with runtime.autocast(device):
            return D(x).float()                                       # scores (B, 11)

    def fakes(y):
        with runtime.autocast(device):
            return G(torch.randn(len(y), 8, device=device), y).float()

    def discriminator_loss(batch):
        on_real, on_fake = judge(batch.x), judge(fakes(batch.y).detach())
        loss = (F.cross_entropy(on_real, batch.y) + F.cross_entropy(on_fake, torch.full_like(batch.y, FAKE))) / 2
        return loss, {"D": loss.detach()}

    def generator_loss(batch):
        loss = F.cross_entropy(judge(fakes(batch.y)), batch.y)
        return loss, {"G": loss.detach()}

    return discriminator_loss, generator_loss


# %% [markdown]
# As in chapter 4, both losses are asked where their answers are known, before anything is trained. A generator of one
# number paints a grey that says which digit it was asked for. A discriminator without any decodes the grey and gives
# that digit the score 3, and 0 to all others, "fake" included. On real pictures it is always right; so if labels are
# those of the pictures, both losses can be told: $3 - \log(e^3 + 10)$ for a picture under its own label, $-\log(e^3 +
# 10)$ under any other class.

# %%
class Painter(nn.Module):
    """A generator of one number w: label y is drawn as the grey w y / 10, in the book's range or in [-1, 1]."""

    def __init__(self, signed=False):
        super().__init__()
        self.w, self.signed = nn.Parameter(torch.ones((), device=device)), signed

    def forward(self, z, y):
        grey = self.w * (y.float() / 10).view(-1, 1, 1, 1) * torch.ones(len(y), 1, 28, 28, device=device)
        return 2 * grey - 1 if self.signed else grey


def decoded(x):
    """The digit that a Painter's picture in [0, 1] says, as a float (B,)."""
    return 10 * x.flatten(1).mean(1)


def where_known(make_losses, G, D):
    """D's loss, whether it reaches G, G's loss and whether it does, for real pictures that a Painter would draw."""
    y = torch.arange(250, device=device) * 7 % 10
    batch = kernels.Batch(((y / 10).view(-1, 1, 1, 1)).expand(-1, 1, 28, 28).contiguous(), y)
    discriminator_loss, generator_loss = make_losses(G, D)
    on_D = discriminator_loss(batch)[0]
    leaks = on_D.requires_grad and torch.autograd.grad(on_D, G.w, retain_graph=True, allow_unused=True)[0] is not None
    on_G = generator_loss(batch._replace(y=batch.y.flip(0)))[0]       # G's step gets a batch of its own
    return on_D.item(), float(leaks), on_G.item(), torch.autograd.grad(on_G, G.w)[0].abs().item()


class ElevenScores(nn.Module):
    """Scores (B, 11): 3 for the digit that a picture says, falling off by 3 for every digit of distance, to 0."""

    def forward(self, x):
        away = (decoded(x)[:, None] - torch.arange(11.0, device=x.device)).abs()
        return 3 * (1 - away).clamp(min=0) * (torch.arange(11, device=x.device) < 10)


# %% tags=["nbval-check-output"]
on_D, leaks, on_G, reaches = where_known(book_losses, Painter(), ElevenScores())
total = math.log(math.exp(3) + 10)                                    # of eleven scores, one of them 3
expect("book: D's loss over its known value", on_D / (total - 1.5), below=1.001, above=0.999)
expect("book: D's loss reaches G", leaks, below=0.5)
expect("book: G's loss over its known value", on_G / (total - 3), below=1.001, above=0.999)
expect("book: G's loss reaches G", reaches, above=1e-3)

# %% [markdown]
# **Exercise 5.1 (predict ★). A loss that means a perfect generator.** Suppose that the generator is perfect, $p_g(x) =
# p_r(x)$, and that no digit could be taken for another. How small can the best possible $D$ make $L_D$ of (5.1)? With
# this number in mind look at D's loss in the training that follows.
#
# <details class="hint"><summary>Hint 1</summary>
#
# The best $D$ reads which digit a picture shows. What is left that it cannot know?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# At every picture: probability one half for its digit, one half for "fake". Put that into both terms of (5.1), and mind
# the halves in front.
#
# </details>

# %% tags=["answer"]
prediction_5_1 = None  # a number, nats

# %% tags=["check"]
sheet.check("5.1", prediction_5_1)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.1</summary>
#
# $-\frac12 \log \frac12 - \frac12 \log \frac12 = \log 2$. As in chapter 4, a loss below it says how well fakes are
# told from real ones. A loss of $\log 11$ would be that of a $D$ that has learned nothing, not even to read.
#
# ```python
# prediction_5_1 = math.log(2)
# ```
#
# </details>

# %%
BOOK_STEPS = 600
torch.manual_seed(SEED)
G_book = BookGenerator().to(device)
D_book = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.LeakyReLU(), nn.Linear(256, 128), nn.LeakyReLU(),
                       nn.Linear(128, 11)).to(device)
discriminator_loss, generator_loss = book_losses(G_book, D_book)
step = kernels.TrainStep([kernels.Update(discriminator_loss, torch.optim.AdamW(D_book.parameters(), lr=2e-4)),
                          kernels.Update(generator_loss, torch.optim.AdamW(G_book.parameters(), lr=2e-4))],
                         batches=kernels.Batches(train_set, batch_size=256, device=device, seed=SEED),
                         model={"G": G_book, "D": D_book}, seed=SEED)
book_history = train.fit(step, runtime.budget(BOOK_STEPS), reports=20, title="the book's CGAN")

# %%
torch.manual_seed(SEED)
with torch.no_grad():
    x_book = G_book(torch.randn(2000, 8, device=device), asked)
measure("the book's networks and loss", x_book)
table()

# %% mystnb={"image": {"alt": "Ten rows of ten drawings, all nearly the same patch of dots, none a digit."}}
plots.show_grid(torch.cat([x_book[asked == c][:10] for c in range(10)]), columns=10, row_labels=list("0123456789"),
                width=4.2, title="the book's CGAN: the first ten of each digit")

# %% [markdown]
# **Figure 5.1.** Ten drawings for each digit asked for, after three epochs of the textbook's form.
#
# $D$ wins here as it did in chapter 4: its loss is far below $\ln 11 = 2.4$ nats, that of guessing among eleven, and
# the generator's has climbed to many nats. What comes out is one picture, and no digit, whatever is asked for (figure
# 5.1). (The companion code takes 30 epochs, we about three.) <!-- from the textbook -->
#
# Is it the networks' fault, or the loss's? Keep the loss (5.1) and exchange everything else.

# %% [markdown]
# ## The same loss, better networks
#
# We take chapter 4's generator and critic with all that made them work there: convolutions, the penalty (4.6) on the
# score's slope, Adam without momentum, averaged weights, one batch of fakes for both players. For this the loss must be
# taken apart. Call the scores $s_0, \dots, s_K$ and define
#
# $$ r(x) = \log \sum_{k < K} e^{s_k(x)} - s_K(x), \qquad q(k \mid x) = \frac{e^{s_k(x)}}{\sum_{j < K} e^{s_j(x)}}
#    \quad (k < K). \tag{5.2} $$
#
# $r$ is the score, in log-odds, for "real, whatever digit", and $q$ the classifier over digits given that the image is
# real. The probability of class $y$ is the probability of "real" times $q(y \mid x)$, so
#
# $$ -\log D_y(x) = \underbrace{\log\big(1 + e^{-r(x)}\big)}_{\text{chapter 4's loss, with score } r}
#    \underbrace{{} - \log q(y \mid x)}_{\text{class term}} , \qquad
#    -\log D_K(x) = \log\big(1 + e^{r(x)}\big) . \tag{5.3} $$
#
# So the eleven-class GAN is an ordinary GAN that cannot see labels, and a classifier beside it. $D$ trains the
# classifier on reals only. $G$ has to please both, and the class term has weight 1.
#
# Seen like this, it is a close relative of the **auxiliary classifier GAN** (AC-GAN; Odena, Olah and Shlens 2017),
# which has ten outputs for the digit and a separate one for real or fake. Its classifier is trained on reals *and* on
# fakes, which are expected to be what was asked for.
#
# Two more forms will follow. All four go into one class, which returns a real-or-fake score and, if the form has a
# class term, the ten class scores.

# %%
class Discriminator(nn.Module):
    """x (B, 1, 28, 28) in [-1, 1], y (B,) -> score (B,) of "real", and class scores (B, 10) or None.

    form: "eleven classes", "auxiliary", "label as input" or "one output per class".
    """

    def __init__(self, form):
        super().__init__()
        outputs = {"eleven classes": 11, "auxiliary": 11, "label as input": 1, "one output per class": 10}
        self.form, self.critic = form, nets.DigitCritic(outputs=outputs[form])
        if form == "label as input":
            self.plane = nn.Embedding(10, 784)                        # a learned picture for each label
            self.critic.net[1] = nn.Conv2d(8, 32, 3, padding=1)       # two channels, shuffled to 14 x 14, make eight

    def forward(self, x, y):
        if self.form == "label as input":
            x = torch.cat([x, self.plane(y).view(-1, 1, 28, 28)], 1)
        s = self.critic(x)                                            # (B, outputs)
        if self.form == "label as input":
            return s[:, 0], None
        if self.form == "one output per class":
            return s.gather(1, y[:, None])[:, 0], None                # the y-th
        if self.form == "auxiliary":
            return s[:, 10], s[:, :10]
        return s[:, :10].logsumexp(1) - s[:, 10], s[:, :10]           # equation (5.2)


# %% [markdown]
# The losses are chapter 4's, with a class term of weight `weight` for both players. As there, $D$ moves first, on fakes
# that $G$ is then told about, and the penalty (4.6) is charged on every second image. The generator is told the label
# by an embedding that is concatenated to the noise, in all forms from here on, so that these differ in the
# discriminator alone.
#
# One trap. Each player's step gets a batch of its own, so the fakes have to be kept *with* the labels that they were
# drawn for. If they are judged under the labels of the other player's batch, $G$ is rewarded for something it was not
# asked for. If $G$ moves first, $D$ learns to spot fakes by their wrong labels, so that any drawing that fits its label
# passes, however poor: the game has become a class term.

# %%
SIGMA, GAMMA = 0.05, 0.1
LATENT = 64  # numbers of noise: yours to change, before you run what follows


def make_losses(G, D, weight):
    made = {}                                                         # the fakes, with their labels, for both players

    def judge(x, y):
        with runtime.autocast(device):
            return D(x, y)

    def discriminator_loss(batch):
        with runtime.autocast(device):
            made["x"] = G(torch.randn(len(batch.x), LATENT, device=device), batch.y).float()
        made["y"] = batch.y
        x, y = torch.cat([2 * batch.x - 1, made["x"].detach()]), torch.cat([batch.y, made["y"]])
        moved = x[::2] + SIGMA * torch.randn_like(x[::2])             # every second image, a little noisy
        score, classes = judge(torch.cat([x, moved]), torch.cat([y, y[::2]]))
        score, score_moved = score.split([len(x), len(moved)])
        real, fake = score.chunk(2)
        adversarial = (F.softplus(-real) + F.softplus(fake)).mean()
        loss = adversarial + GAMMA * ((score_moved - score[::2]) / SIGMA).square().mean()
        if classes is not None:
            n = len(x) if D.form == "auxiliary" else len(batch.x)     # AC-GAN classifies fakes too
            loss = loss + weight * F.cross_entropy(classes[:n], y[:n])
        return loss, {"D": adversarial.detach()}

    def generator_loss(_):
        score, classes = judge(made["x"], made["y"])
        adversarial = F.softplus(-score).mean()
        class_term = 0 if classes is None else weight * F.cross_entropy(classes, made["y"])
        return adversarial + class_term, {"G": adversarial.detach()}

    return discriminator_loss, generator_loss


# %% [markdown]
# Before we use them, check (5.3): at weight 1 our two losses, without the penalty, must be the cross-entropies of (5.1)
# for any scores ($D$'s twice over, for we dropped the ½).

# %% tags=["nbval-check-output"]
with torch.no_grad():
    D = Discriminator("eleven classes").to(device)
    x, y = 2 * x_test[:500] - 1, y_test[:500]
    s, (r, classes) = D.critic(x), D(x, y)
    as_real = F.softplus(-r).mean() + F.cross_entropy(classes, y)     # what (5.3) says
    as_fake = F.softplus(r).mean()
print("as class y:", torch.isclose(as_real, F.cross_entropy(s, y), atol=1e-5).item(),
      " as fake:", torch.isclose(as_fake, F.cross_entropy(s, torch.full_like(y, FAKE)), atol=1e-5).item())

# %% [markdown]
# And the trap: with the Painter again, and a discriminator whose score is 3 for a picture under its own label and lower
# the further that label is from what the picture says. The batches of the two players differ.

# %% tags=["nbval-check-output"]
class PairScore(nn.Module):
    """3 less the distance of the label from what the picture says, and class scores where the form has them."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x, y):
        says = decoded((x + 1) / 2)
        away = (says[:, None] - torch.arange(10.0, device=x.device)).abs()
        classes = 3 * (1 - away).clamp(min=0) if self.form in ("auxiliary", "eleven classes") else None
        return 3 - (says - y).abs(), classes


low, high = math.log1p(math.exp(-3)), math.log1p(math.exp(3))        # what surely right and surely wrong cost
class_term = math.log(math.exp(3) + 9) - 3
for form in ("auxiliary", "one output per class"):
    on_D, leaks, on_G, reaches = where_known(functools.partial(make_losses, weight=1.0), Painter(True), PairScore(form))
    extra = class_term if form == "auxiliary" else 0.0
    expect(f"{form}: D's loss over its known value", on_D / (low + high + extra), below=1.06, above=0.98)
    expect(f"{form}: D's loss reaches G", leaks, below=0.5)
    expect(f"{form}: G's loss over its known value", on_G / (low + extra), below=1.03, above=0.97)
    expect(f"{form}: G's loss reaches G", reaches, above=1e-3)


# %% [markdown]
# ## Train
#
# One function for all forms. The short runs below have 500 steps of 32 images each, and show what goes on; the forms
# are compared over several seeds and at 1,000 steps each further down.

# %%
@torch.no_grad()
def draw(G, z, y, batch_size=500):
    """Pictures (N, 1, 28, 28) in [0, 1] for codes z (N, 64) and labels y (N,); train or eval mode is left as it is."""
    pairs = zip(z.split(batch_size), y.split(batch_size), strict=True)
    return torch.cat([G(*pair) for pair in pairs]).float() / 2 + 0.5


def refresh_statistics(G):
    """Collect batch normalisation's statistics for the averaged weights (chapter 4 says why); eval mode."""
    for layer in G.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None                                     # None: a plain average over batches
    z = torch.randn(5000, LATENT, device=device, generator=torch.Generator(device).manual_seed(SEED))
    draw(G.train(), z, torch.arange(5000, device=device) % 10)
    return G.eval()


# %%
SHORT, LONG, BATCH = 500, 3000, 32


def train_cgan(form, steps, *, weight=0.0, title=None, callback=None):
    """Train one form; returns the averaged generator, the discriminator and the history."""
    torch.manual_seed(SEED)
    G, D = (net.to(device, memory_format=torch.channels_last)
            for net in (nets.DigitGenerator(LATENT, classes=10), Discriminator(form)))
    discriminator_loss, generator_loss = make_losses(G, D, weight)
    adam = {"lr": 2e-3, "betas": (0.0, 0.99), "fused": True}
    # the rate is constant at first and then falls: a short run is the beginning of a long one
    step = kernels.TrainStep([kernels.Update(discriminator_loss, torch.optim.Adam(D.parameters(), **adam)),
                              kernels.Update(generator_loss, torch.optim.Adam(G.parameters(), **adam))],
                             batches=kernels.Batches(train_set, batch_size=BATCH, device=device, seed=SEED),
                             model={"G": G, "D": D}, ema=0.998, seed=SEED,
                             schedule=kernels.linear_decay(warmup=0.0, flat=0.5) if steps == LONG else None)
    history = train.fit(step, runtime.budget(steps), reports=20, title=title or form, callback=callback)
    return refresh_statistics(step.ema_model["G"]), D, history


# %%
torch.manual_seed(SEED + 1)
codes = torch.randn(2000, LATENT, device=device)                      # the same codes for every generator
generators, discriminators, histories = {}, {}, {}


def try_form(name, form, steps=SHORT, **options):
    generators[name], discriminators[name], histories[name] = train_cgan(form, steps, title=name, **options)
    measure(name, draw(generators[name], codes, asked))


# %% [markdown]
# **Exercise 5.2 (predict ★). The same loss in better networks.** The next cell trains the loss (5.1) in chapter 4's
# networks, and measures its drawings. What will the table say?
#
# - (a) Seldom read as asked, but varied: $G$ has two wishes, and to look real is the stronger one.
# - (b) Read as asked, and about as varied as real digits: the networks were the trouble, not the loss.
# - (c) Read as asked nearly always, and far less varied than real digits.
# - (d) Some digits are missing altogether, as happened to the collapsed GANs of chapter 4.
#
# <details class="hint"><summary>Hint 1</summary>
#
# In (5.3) the generator hears two terms. Which kind of picture makes the class term smallest?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Remember the cheat. Does any term of the loss tell it from an honest generator?
#
# </details>

# %% tags=["answer"]
choice_5_2 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("5.2", choice_5_2)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.2</summary>
#
# The class term pays for clearness and is paid in full by one clear picture of each digit. No class can go missing,
# since each is asked for; what goes missing is the variety inside it.
#
# ```python
# choice_5_2 = "c"
# ```
#
# </details>

# %%
try_form("eleven classes, weight 1", "eleven classes", weight=1.0)
table()

# %% mystnb={"image": {"alt": "Ten rows of ten digits; the ten in a row are almost the same picture."}}
styles = codes[:10]                                                   # the first ten codes, one for each column
every_class = torch.arange(10, device=device).repeat_interleave(10)


def class_by_style(G):
    """Every digit (rows) in every style (columns): (100, 1, 28, 28)."""
    return draw(G, styles.repeat(10, 1), every_class)


plots.show_grid(class_by_style(generators["eleven classes, weight 1"]), columns=10, row_labels=list("0123456789"),
                width=4.2, title="the book's loss, our networks: ten codes, one for each column")

# %% [markdown]
# **Figure 5.2.** The textbook's loss in our networks: a digit for each row, a code for each column.
#
# Every digit is read as asked, about as reliably as real ones are. Now look along the rows of figure 5.2. Ten codes,
# one picture: the generator has stopped listening to $z$. The diversity says so, and even flatters: what varies within
# a row are ragged edges and hardly the handwriting. Recall, the share of real digits that have a drawing near them, is
# zero.
#
# In chapter 4 collapse meant that whole classes went missing, and a count of classes showed it. Here all ten are there
# in equal shares, because we asked for them; what is lost is the variety *within* each class.

# %% [markdown]
# ## What the class term leaves out
#
# Hold $G$ fixed. At each $x$ the discriminator of (5.1) shares out a probability of one among eleven classes, which
# weigh $p_r(x, k)$ for the ten, and $p_g(x)$ for the last. The best shares are in proportion (exercise 5.6):
#
# $$ D_k^*(x) = \frac{p_r(x, k)}{p_r(x) + p_g(x)}, \quad D_K^*(x) = \frac{p_g(x)}{p_r(x) + p_g(x)}
#    \quad\Longrightarrow\quad r^*(x) = \log \frac{p_r(x)}{p_g(x)}, \quad q^*(k \mid x) = p_r(k \mid x) . \tag{5.4} $$
#
# Nowhere does it say which label was *asked* for. Compare with what we want: that pairs $(x, y)$ of drawing and label
# come from $p_r(x, y)$. By the chain rule,
#
# $$ \mathrm{KL}\big(p_g(x, y) \,\|\, p_r(x, y)\big) = \mathrm{KL}\big(p_g(x) \,\|\, p_r(x)\big)
#    + \mathbb{E}_{p_g}\big[-\log p_r(y \mid x)\big] - H_g(y \mid x) . \tag{5.5} $$
#
# The first term is what a generator hears from $r^*$ (up to a JS term); the second is the class term. The third is
# missing. $H_g(y \mid x)$ is the uncertainty about the label behind a generated drawing. A real 4 may look half like a
# 9, and then so may ours: this term pays for what the second one charges. Without it, the class term alone is least
# for pictures that nobody could mistake, and one such picture for each class will do. Exercise 5.11 works out a case
# exactly: the generator reproduces each class *cut off* where another becomes more likely.
#
# That is the direction of the fault, not its full size: digits are seldom ambiguous, so the exact solution would lose
# only the odd 4. What we saw is the game as networks play it, and for that we have reasons, no proof. $q$ is never
# exactly 1 and can always be raised by moving away from the other classes. The classifier is learned within the first
# steps and pulls steadily from then on, while the real-or-fake score changes with every move of the opponent. And no
# term says that the generator has stopped listening to $z$: both look at one drawing at a time.
#
# ### A mend: turn the class term down
#
# If the term is wrong, use less of it: a tenth, for both players. Beside it AC-GAN, as published.

# %% [markdown]
# **Exercise 5.3 (predict ★). Who marks the drawings.** We shall let two classifiers read AC-GAN's drawings: its own,
# and our reader, which has never seen a fake. In what share will each see the digit that was asked for?
#
# - (a) Both in nearly all drawings, like real ones: a digit is a digit, whoever reads it.
# - (b) Its own in nearly all, our reader in clearly fewer.
# - (c) Its own in clearly fewer than our reader: it has seen fakes in training, and is suspicious of them.
# - (d) Both in few, and about equally: a class term of weight one spoils the game.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Both classifiers have learned to read real digits. What else has AC-GAN's own been told?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# It is told of every fake that it *is* what was asked for, and $G$ is told to make it right. On what are the two
# players bound to agree?
#
# </details>

# %% tags=["answer"]
choice_5_3 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("5.3", choice_5_3)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.3</summary>
#
# Class by class the players are partners, not opponents. They may settle on any marks that $D$ can read, and nobody
# else is asked whether they look like a digit.
#
# ```python
# choice_5_3 = "b"
# ```
#
# </details>

# %%
try_form("eleven classes, weight 0.1", "eleven classes", weight=0.1)
try_form("auxiliary classifier", "auxiliary", weight=1.0)
table()

# %%
x_aux = 2 * draw(generators["auxiliary classifier"], codes, asked) - 1
with torch.no_grad():
    own = discriminators["auxiliary classifier"](x_aux, asked)[1].argmax(1)
own_accuracy = (own == asked).float().mean().item()
print(f"AC-GAN's drawings read as asked by its own classifier: {100 * own_accuracy:.1f} %, "
      f"by our reader: {100 * reports['auxiliary classifier']['read_accuracy']:.1f} %")

# %% [markdown]
# Turning the term down gives back part of the diversity and costs some obedience, here hardly any and with other seeds
# more (the three seeds below); recall stays near zero. It is a compromise: a term that points the wrong way, kept
# small. And the number that is reported most often, read as asked, advises the wrong weight.
#
# AC-GAN shows another fault. Its classifier is trained on fakes too, and told that they are what was asked for. So the
# two players agree on a code of their own: marks that $D$ reads without fail and an outsider may not. Never let a
# model's own classifier mark it.

# %% [markdown]
# ## Judge the pair
#
# Better than a small wrong term is none. Show $D$ the *pair*: real images with their labels, fakes with the labels they
# were asked for. This was the first conditional GAN (Mirza and Osindero 2014), the game of chapter 4 over pairs:
#
# $$ V(D, G) = \mathbb{E}_{(x, y) \sim p_r} \log D(x, y) + \mathbb{E}_{y, z} \log\big(1 - D(G(z, y), y)\big),
#    \qquad s^*(x, y) = \log \frac{p_r(x, y)}{p_g(x, y)} . \tag{5.6} $$
#
# The derivation of (4.2) holds for pairs word for word. A perfect 3 with the label 8 is unmasked because no real pair
# looks like that. No class term is needed, and all of (5.5) is there. If labels are asked for as often as they occur,
# $s^*(x, y) = \log p_r(x \mid y) - \log p_g(x \mid y)$: ten games at once, with shared weights.
#
# How does a network take in the label?
# - **Label as input**, the classic form: both players are handed the label. For $D$ its embedding is shaped like a
#   picture and becomes a second channel; the network has to find out by itself what to do with it.
# - **One output per class.** The critic has ten outputs, and the $y$-th is *the* score of the pair; the others are not
#   looked at. All layers but the last are shared. This is the projection discriminator of Miyato and Koyama (2018) in
#   another form (exercise 5.9), and StarGAN v2 (Choi and others 2020) has it as here. There is *no* softmax over the
#   ten: they do not compete, and nothing asks which digit this is.

# %%
try_form("label as input", "label as input")
table()

# %% [markdown]
# No collapse, but many drawings are misread: after so few steps this network does not quite know what its second
# channel is for. Now ours: one output per class, for four times as many steps. On the way we keep a copy after as many
# steps as the short runs had, so that it can be held against them.

# %%
early = {}


def keep_early(step, means):
    if not early and step.count >= step.total * SHORT / LONG:
        early["G"] = copy.deepcopy(step.ema_model["G"])


OURS = "one output per class"
try_form(OURS, OURS, LONG, callback=keep_early)
measure(f"ours after {SHORT} steps", draw(refresh_statistics(early["G"]), codes, asked))
E = generators[OURS]
print(f"ours: {LONG:,} steps, {histories[OURS].seconds:.0f} s")

# %% mystnb={"image": {"alt": "Losses of both players over training: D rises, G falls towards the dashed levels."}}
curves = {name: (histories[OURS].steps, histories[OURS][name]) for name in ("D", "G")}
plots.show_curves(curves, x_label="step", y_label="nats", title="ours",
                  lines={"D if nobody can tell": 2 * math.log(2), "G if nobody can tell": math.log(2)})

# %% [markdown]
# **Figure 5.3.** The losses of ours; dashed, what they are if nobody can tell.
#
# After the first few hundred steps the losses of figure 5.3 move towards what they would be if nobody could tell, D's
# for about half of the training, and neither arrives.
#
# ## Look: class × style
#
# Rows are digits, columns are codes $z$, the first ten of the seed, the same in both grids.

# %% mystnb={"image": {"alt": "Two grids, digits by codes: left the columns hardly differ, right they do."}}
plots.show_grids({"eleven classes, weight 1": class_by_style(generators["eleven classes, weight 1"]),
                  "one output per class": class_by_style(E)}, columns=10, width=8.5)

# %% [markdown]
# **Figure 5.4.** The collapsed generator after 500 steps and ours after all of its own: digits by codes.

# %% mystnb={"image": {"alt": "Two grids of a hundred digits: real test digits, and drawings of our generator."}}
real = torch.cat([x_test[y_test == c][:10] for c in range(10)])
ours = torch.cat([draw(E, codes, asked)[asked == c][:10] for c in range(10)])
plots.show_grids({"real test digits": real, "ours, a code for each": ours}, columns=10, width=8.5)

# %% [markdown]
# **Figure 5.5.** The first ten test digits of each class, and as many of our drawings.
#
# Beside real digits (figure 5.5) ours look plausible and a little less varied. On the right of figure 5.4, a row is one
# digit in ten hands. Is a column one hand writing ten digits? Often, in
# thickness and slant. As in [chapter 3](03_cvae.ipynb), nothing in the loss asks for that; it comes from shared
# weights.

# %% [markdown]
# ## Keep the better drawings
#
# Our discriminator of pairs has a further use. At its best its score is $\log p_r(x \mid y) - \log p_g(x \mid y)$, so
# chapter 4's rejection sampling works within each class: calibrate the score on validation pairs, and keep a drawing
# with probability $a = \min(1, e^{c\,s - \log M_y})$, with $M_y$ such that the share kept is the same for all labels.
# To be compared with the others, the kept ones must have the very labels that those were asked for. A drawing is kept
# where a random number $u$ of its own is below $a$, so where $u/a < 1$; we take, of each class, as many as were asked
# for, those of the smallest $u/a$.

# %%
KEPT = 0.25  # share of the drawings of each class that are kept: yours to change, from 0.15 on


@torch.no_grad()
def pair_scores(x, y, batch_size=500):
    """Scores (N,) of our discriminator for pictures x (N, 1, 28, 28) in [0, 1] under labels y (N,)."""
    D = discriminators[OURS]
    return torch.cat([D(2 * a - 1, b)[0] for a, b in zip(x.split(batch_size), y.split(batch_size))]).cpu()


# %%
def fresh(y):
    """New drawings (N, 1, 28, 28) of the labels y (N,)."""
    return draw(E, torch.randn(len(y), LATENT, device=device), y).clamp(0, 1)


x_val, y_val = val_set.images.to(device) / 255, val_set.labels.to(device)
sharpened, _ = metrics.calibrate(pair_scores(x_val, y_val), pair_scores(fresh(y_val), y_val))


def kept_for(y):
    """Drawings (N, 1, 28, 28) that the judge keeps, one for each of the labels y (N,), and how many were drawn."""
    many = y.repeat(math.ceil(1 / KEPT))
    pool, chosen = fresh(many), torch.zeros_like(y)
    log_ratio, u = sharpened * pair_scores(pool, many), torch.rand(len(many))
    for c in y.unique():
        of_class = (many == c).nonzero()[:, 0].cpu()
        order = (u[of_class] / metrics.acceptance(log_ratio[of_class], KEPT)).argsort()
        chosen[y == c] = of_class[order[:(y == c).sum()]].to(device)
    return pool[chosen], len(pool)


x_kept, tried = kept_for(asked)
measure(f"ours, {KEPT:.0%} of the drawings kept", x_kept)
print(f"the score is multiplied by {sharpened:.2f}; {tried:,} drawn, {len(x_kept):,} kept")

# %% [markdown]
# ## Measure

# %%
table()

# %% [markdown]
# FD notices missing quality and missing variety at once, and does not say which; one real digit for each class scores
# about a hundred floors. Asked for the same labels, the quarter of the drawings that is kept comes no nearer to the
# real ones than all of them, where in [chapter 4](04_gan.ipynb) keeping took away more than half of the distance. (On
# the [scoreboard](scoreboard.md), with labels as frequent as in the data and over several seeds, the quarter scores
# 3.7 ± 0.6 floors, all drawings 3.0 ± 0.2.) There recall was near its floor and many drawings were no digits, which a
# judge can throw away. Here nearly all are read as asked and what is missing is variety: no judge can choose what is
# not drawn.

# %% [markdown]
# What a quarter bought in chapter 4, over three seeds (`make study STUDY=rejection`):
#
# | model | seeds | kept | FD, validation | FD / floor, test | precision | recall | coverage |
# | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
# | GAN | 3 | 100% | 105 ± 4 | 12.3 ± 0.3 | 0.62 ± 0.02 | 0.83 ± 0.01 | 0.65 ± 0.01 |
# | GAN | 3 | 50% | 55 ± 4 | 6.6 ± 0.4 | 0.68 ± 0.01 | 0.83 ± 0.01 | 0.75 ± 0.00 |
# | GAN | 3 | 35% | 46 ± 1 | 5.6 ± 0.2 | 0.70 ± 0.01 | 0.82 ± 0.01 | 0.77 ± 0.00 |
# | GAN | 3 | 25% | 46 ± 2 | 5.6 ± 0.3 | 0.71 ± 0.01 | 0.82 ± 0.02 | 0.77 ± 0.00 |
# | GAN | 3 | 15% | 46 ± 4 | 5.6 ± 0.2 | 0.73 ± 0.01 | 0.82 ± 0.01 | 0.78 ± 0.01 |

# %% [markdown]
# The short runs differ from ours in their steps. Below all forms have *equal* steps (1,000; the last row has more),
# batch, networks and schedule; mean and standard deviation of three seeds (`make study STUDY=cgan_forms` repeats it):
#
# | discriminator | FD | FD / floor | read as asked, by our reader | by its own classifier | diversity | recall |
# | --- | ---: | ---: | ---: | ---: | ---: | ---: |
# | *real digits, the floor* | 9.0 | 1.0 | 99.6 % |  | 1.02 | 0.88 |
# | eleven classes, weight 1 | 435 ± 28 | 48.1 ± 3.1 | 100.0 ± 0.0 % | 90.8 ± 14.4 % | 0.19 ± 0.03 | 0.00 ± 0.00 |
# | eleven classes, weight 0.1 | 489 ± 32 | 54.1 ± 3.5 | 89.4 ± 11.3 % | 57.3 ± 14.1 % | 0.46 ± 0.06 | 0.00 ± 0.00 |
# | auxiliary classifier | 892 ± 42 | 98.7 ± 4.7 | 39.0 ± 8.8 % | 99.2 ± 1.1 % | 0.65 ± 0.05 | 0.00 ± 0.00 |
# | label as input | 126 ± 38 | 13.9 ± 4.2 | 91.7 ± 2.4 % |  | 0.96 ± 0.04 | 0.43 ± 0.08 |
# | one output per class | 125 ± 40 | 13.8 ± 4.5 | 96.9 ± 1.5 % |  | 0.86 ± 0.06 | 0.32 ± 0.09 |
# | one output per class, 3,000 steps | 29 ± 3 | 3.2 ± 0.3 | 99.2 ± 0.1 % |  | 0.95 ± 0.01 | 0.69 ± 0.01 |

# %% [markdown]
# The conclusion about the class term stands, over all seeds: its generator is always read as asked and has the least
# variety of all. A tenth of the term gives back variety, and how much obedience it costs depends on the seed. AC-GAN's
# private code is plainest, and the two judges of pairs alone have a recall that is not zero. Between these two the
# order is unclear: in distance they are alike, one output per class is read as asked more often, and the label as an
# input is more varied, each by little more than the seeds differ.
#
# The last row is ours with all of its steps, from three seeds: the distance is about a quarter of that after 1,000, so
# that steps buy more here than any choice between the two.

# %% mystnb={"image": {"alt": "Two bar charts. Cheat, collapsed and ours are read as asked; diversity differs widely."}}
fig, axes = plots.figure(8, 3.4, 1, 2, sharey=True)
names = list(reports)[::-1]
for ax, key, title in zip(axes, ("read_accuracy", "diversity"), ("read as asked", "diversity within the class")):
    bars = ax.barh(names, [reports[name][key] for name in names],
                   color=[plots.COLOURS[1 if name == OURS else 0] for name in names])
    ax.axvline(reference.floor[key], color="#777777", linestyle="--", linewidth=1.2)
    ax.bar_label(bars, fmt="%.2f", padding=3, fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    ax.set(title=title, xlim=(0, 1.18), xlabel="share of drawings" if key == "read_accuracy" else "distance, real = 1")
fig

# %% [markdown]
# **Figure 5.6.** Two measures of the generators of this chapter; dashed, real digits.
#
# Take the left panel of figure 5.6 by itself. Five bars reach the dashed line of real digits, or nearly: the cheat's,
# those of the eleven classes, and ours, all drawings and the quarter. Nothing there tells them apart, and the surest
# way to be read as asked is to draw the most legible picture every time. **Read accuracy alone does not miss collapse,
# it rewards it.** In the right panel cheat, collapsed generator and ours lie far apart. It needs the left one too:
# badly drawn digits are varied.
#
# One caution about our own measure. Diversity sees how far apart drawings are, not how many different ones there are: a
# cheat with ten real digits for each class would reach 0.9 (exercise 5.14), and stray drawings raise it. Recall is
# harder to deceive: the cheat has almost none, ours less than real digits have. Look at several numbers, each with its
# floor, and at the pictures.
#
# For the [scoreboard](scoreboard.md) of all chapters ours is asked once more, now for each digit as often as it occurs
# in the data; beside it the quarter that is kept. Its time for a picture includes those rejected, and the judging.

# %% tags=["nbval-check-output"]
labels = y_test[:2000]
drawn, per_image = metrics.timed_samples(lambda: draw(E, codes[:len(labels)], labels).clamp(0, 1))
expect.model("CGAN", report=metrics.sample_report(drawn, reference, labels), samples=drawn, labels=labels,
             real=test_set, train_seconds=histories[OURS].seconds, sample_seconds=per_image, parameters=E,
             note="one output per class")
_, per_judged = metrics.timed_samples(lambda: pair_scores(draw(E, codes[:len(labels)], labels), labels))
x_kept, _ = kept_for(labels)
judged_by_D = metrics.sample_report(x_kept, reference, labels)
expect.model("CGAN, best quarter", report=judged_by_D, samples=x_kept, labels=labels, real=test_set,
             train_seconds=histories[OURS].seconds, sample_seconds=per_judged / KEPT,
             parameters=nn.ModuleList([E, discriminators[OURS]]), note="drawings kept by the calibrated critic")

# %% [markdown]
# ## Class and style in your hands
#
# The sliders run our generator in your browser. A linear layer in front of it maps six sliders to the 64 numbers of
# style and passes the label's embedding on. The six directions are those to which the generator's first layer $W$
# reacts most: the leading eigenvectors of $W^\top W$.

# %%
W = E.net[0].weight.detach()[:, :LATENT].cpu()                        # (3136, 64): what the style does
strongest = torch.linalg.eigh(W.T @ W).eigenvectors[:, -6:].flip(1)   # (64, 6)
width = E.label.embedding_dim
panel = nn.Linear(6 + width, LATENT + width)
with torch.no_grad():
    panel.weight.copy_(torch.block_diag(2 * strongest, torch.eye(width)))
    panel.bias.copy_(torch.cat([codes[0].cpu(), torch.zeros(width)]))
explorer = widgets.LatentExplorer([panel, E.net], embedding=E.label, join="concat", label=3, z0=[0.0] * 6,
                                  names=[f"style {i}" for i in range(1, 7)], z_range=2.5,
                                  alt="Digit drawn by the conditional GAN, for")

# %% [markdown]
# First as a plain function: the browser's arithmetic, with weights rounded to 16 bits, against the network.

# %% tags=["nbval-check-output"]
positions = torch.cat([torch.zeros(1, 6), 2 * torch.eye(6), -2 * torch.eye(6)])     # (13, 6)
style = (codes[0].cpu() + positions @ (2 * strongest).T).to(device)
worst = 0.0
for label in range(10):
    from_network = draw(E, style, torch.full((13,), label, device=device))[:, 0].cpu()
    worst = max(worst, (explorer.decode(positions, label) - from_network).abs().max().item())
print("slider and network agree:", worst < 0.05)

# %%
explorer

# %% [markdown]
# Choose a style, then move *class* alone. What of a handwriting survives?

# %% [markdown]
# ## In medicine: asking for a diagnosis
#
# The rare class has too few images, so let a conditional GAN draw more of it: an understandable wish. Three warnings.
#
# *The usual check is the one that fails.* Synthetic images of a disease are often validated by a classifier: it reads
# them as the disease, so they are good. The cheat passes, and so does a generator that draws the clearest opacity at
# the commonest place, over and over. A classifier trained on such images learns the textbook case and misses the early
# and the atypical one. Ask for diversity *within the diagnosis*, against held-out real images.
#
# *Class terms reward caricature.* Where two diagnoses share signs, as many do on a chest X-ray, $p_r(y \mid x)$ is far
# from 0 and 1. There the missing entropy in (5.5) is no detail: a class term removes exactly the films over which
# radiologists hesitate.
#
# *The rare class collapses first, and unseen.* A disease that makes up one image in fifty has one gradient in fifty.
# Asking for it more often helps (exercise 5.16), but then the discriminator may learn the same few films by heart and
# drive the generator towards copies. An average hides this: 0.9 over ten classes is possible with one class at zero.
# Report every class by itself, with the number of real images behind it.

# %%
features, real, labels = metrics.digit_features(draw(E, codes, asked).clamp(0, 1)).cpu(), *reference[:2]
per_class = []
for c in range(10):
    drawn, of_class = features[asked.cpu() == c], real[labels == c]
    per_class.append((torch.pdist(drawn).mean() / torch.pdist(of_class).mean()).item())
print("ours, diversity class by class:", "  ".join(f"{c}: {v:.2f}" for c, v in enumerate(per_class)))

# %% [markdown]
# Even where no class is rare, the mean, 0.94, covers classes from 0.85 to 1.01.
#
# ## What this chapter promises

# %% tags=["nbval-check-output"]
full, final = reports["eleven classes, weight 1"], reports[OURS]
expect("ours: Fréchet distance", final["fd"], below=90, above=5)
expect("ours: share read as asked", final["read_accuracy"], above=0.96)
expect("ours: diversity within the class, of real", final["diversity"], above=0.8, below=1.1)
expect("ours: recall", final["recall"], above=0.35, below=0.9)
expect("kept: recall", judged_by_D["recall"], above=0.3)
expect("the book's loss in our networks: share read as asked", full["read_accuracy"], above=0.97)
expect("the book's loss in our networks: diversity", full["diversity"], below=0.5, above=0.02)

# %% [markdown]
# ## Exercises
#
# Each exercise has a cell for your answer; the cell below it checks it, and says what it can about a mistake. One star
# takes a minute or two, three take half an hour. What is left open stops nothing. Exercises 5.1 to 5.3 stand further
# up, each before the result that it asks for.

# %% [markdown]
# **Exercise 5.4 (code ★). Eleven classes.** The textbook prints no training loop, so write its two losses: from $D$'s
# scores before the softmax, both sides of (5.1). The real pictures come with labels `y`, the generated ones with the
# labels `asked` that they were drawn for, and the two have nothing to do with each other.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Both are cross-entropies, `F.cross_entropy(scores, labels)`. What is the label of a fake, for $D$ and for $G$?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `torch.full_like(asked, 10)` is a label "fake" for each. And $L_D$ has a half in front of each term.
#
# </details>

# %% tags=["answer"]
def eleven_losses(on_real, y, on_fake, asked):
    """The losses of (5.1).

    on_real, on_fake (B, 11): scores, the last one for "fake"; y, asked (B,) int64 in 0..9.  Returns L_D and L_G.
    """
    ...


# %% tags=["check"]
sheet.check("5.4", eleven_losses)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.4</summary>
#
# $D$ never learns what was asked for: `asked` does not stand in its loss.
#
# ```python
# def eleven_losses(on_real, y, on_fake, asked):
#     fake = torch.full_like(asked, 10)
#     on_D = (F.cross_entropy(on_real, y) + F.cross_entropy(on_fake, fake)) / 2
#     return on_D, F.cross_entropy(on_fake, asked)
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.5 (code ★). Taking the loss apart.** From the eleven scores compute the two parts of (5.2): the score $r$
# of "real, whatever digit", and the logarithm of the classifier $q$ over the ten digits. With them (5.3) turns the
# textbook's loss into chapter 4's loss and a class term, whose weight can be turned down.
#
# <details class="hint"><summary>Hint 1</summary>
#
# "Real" is ten classes together, and it is probabilities that add up, not scores.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `logsumexp` over the first ten. For $\log q$ the eleventh score must not take part at all.
#
# </details>

# %% tags=["answer"]
def apart(scores):
    """The two parts of (5.2).

    scores (B, 11), the last one for "fake".  Returns r (B,) and log q (B, 10).
    """
    ...


# %% tags=["check"]
sheet.check("5.5", apart)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.5</summary>
#
# Both are differences of scores, so that a constant added to all eleven changes nothing.
#
# ```python
# def apart(scores):
#     return scores[:, :10].logsumexp(1) - scores[:, 10], scores[:, :10].log_softmax(1)
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.6 (derive ★★). The best discriminator of eleven classes.** Derive (5.4), and write it as a function: on
# finitely many points $x$, given the table $p_r(x, y)$ and the vector $p_g(x)$, return $D^*$ with "fake" in the last
# column, $r^*$ and $q^*$. The check finds them by gradient descent on (5.1) over a table of scores.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Take one $x$ by itself. Its part of $L_D$ is $-\sum_{k<K} p_r(x, k) \log D_k - p_g(x) \log D_K$, up to a half.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Divide by $p_r(x) + p_g(x)$: a cross-entropy between fixed shares and $D(x)$. By Gibbs' inequality it is least where
# the two are equal.
#
# </details>

# %% tags=["answer"]
def best_discriminator(p_r, p_g):
    """What minimises (5.1) for given densities on N points.

    p_r (N, K): p_r(x, y); p_g (N,).  Returns D (N, K + 1), r (N,) and q (N, K).
    """
    ...


# %% tags=["check"]
sheet.check("5.6", best_discriminator)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.6</summary>
#
# At each $x$ the probability of one is shared out in proportion to what weighs on each class. Then $r^* = \log
# \sum_{k<K} D^*_k - \log D^*_K$ and $q^*(k \mid x) = D^*_k / \sum_{j<K} D^*_j$. None of the three contains the label
# that was *asked* for.
#
# ```python
# def best_discriminator(p_r, p_g):
#     real = p_r.sum(1)
#     D = torch.cat([p_r, p_g[:, None]], 1) / (real + p_g)[:, None]
#     return D, real.log() - p_g.log(), p_r / real[:, None]
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.7 (code ★★). Judge the pair.** Write $D$'s loss for pairs. Real pictures with their labels are to be
# called real; fakes with the labels they were asked for, fake; and, as Reed and others (2016) add, *real* pictures
# under a `wrong` label are fake pairs too, so that $D$ soon finds out what labels are for. The two kinds of bad pairs
# count a half each. This is $D$'s step: no gradient may reach the generator. The check looks at your loss and at both
# gradients.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Calling a score $s$ real costs $\log(1 + e^{-s})$, calling it fake $\log(1 + e^{s})$: `F.softplus`. Each kind of pair
# is a mean over the batch.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Three calls of `D(picture, label)`, each with the labels that belong to its pictures; and `fake.detach()`.
#
# </details>

# %% tags=["answer"]
def pair_loss(D, x, y, fake, asked, wrong):
    """D's loss on pairs of picture and label.

    D(x, y) gives scores (B,), before the sigmoid.  x: real pictures, y: their labels, wrong: labels that are not
    theirs; fake: generated pictures, asked: what they were drawn for.  Returns a number with D's graph.
    """
    ...


# %% tags=["check"]
sheet.check("5.7", pair_loss)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.7</summary>
#
# A real picture under a wrong label differs from a real pair in nothing but the label: $D$ cannot tell the two apart
# without looking at it.
#
# ```python
# def pair_loss(D, x, y, fake, asked, wrong):
#     real = F.softplus(-D(x, y)).mean()
#     drawn, mismatched = F.softplus(D(fake.detach(), asked)).mean(), F.softplus(D(x, wrong)).mean()
#     return real + (drawn + mismatched) / 2
# ```
#
# With the wrong pairs the best score is no longer (5.6): its denominator becomes half $p_g(x, y)$ and half the real
# pictures under wrong labels. The generator's optimum moves with it, so the chapter does without them.
#
# </details>

# %% [markdown]
# **Exercise 5.8 (code ★★). The auxiliary classifier.** Write both losses of AC-GAN as the chapter trains it: chapter
# 4's two losses on the score of "real", plus `weight` times a class term. $D$'s class term is the mean over *all*
# pictures, real and generated; $G$'s is that of its drawings. Before the check: which of the two players would be hurt
# if the other one did better on the class term?
#
# <details class="hint"><summary>Hint 1</summary>
#
# $D$ is told that a fake *is* what was asked for. `F.cross_entropy` is a mean over its batch.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The mean over all pictures is half of the two means: both batches are equally large. Adversarial: $D$ pays
# $\log(1 + e^{-s})$ on reals and $\log(1 + e^{s})$ on fakes, added; $G$ pays $\log(1 + e^{-s})$ on fakes.
#
# </details>

# %% tags=["answer"]
def auxiliary_losses(real, real_classes, y, fake, fake_classes, asked, weight):
    """AC-GAN's two losses.

    real, fake (B,): scores of "real"; real_classes, fake_classes (B, K): class scores; y, asked (B,) int64; weight a
    number.  Returns the loss of D and the loss of G.
    """
    ...


# %% tags=["check"]
sheet.check("5.8", auxiliary_losses)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.8</summary>
#
# Neither would be hurt. The class term stands in both losses with the same sign, so that D and G play it together, and
# a private code is as good as a digit.
#
# ```python
# def auxiliary_losses(real, real_classes, y, fake, fake_classes, asked, weight):
#     on_fakes = F.cross_entropy(fake_classes, asked)
#     on_D = F.softplus(-real).mean() + F.softplus(fake).mean()
#     on_D = on_D + weight * (F.cross_entropy(real_classes, y) + on_fakes) / 2
#     return on_D, F.softplus(-fake).mean() + weight * on_fakes
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.9 (code ★★). Projection.** Miyato and Koyama (2018) score a pair by $s(x, y) = v^\top \varphi(x) + c +
# e_y^\top \varphi(x)$, with features $\varphi$, a vector $v$ that does not depend on the label and an embedding $e_y$.
# Our "one output per class" has the rows $w_y$ of a matrix $W$ in their place. Rewrite ours as theirs: find $v$ and
# $e_y$ with the same scores, and let the $e_y$ add up to zero over the labels, which makes the answer unique. What may
# still differ in training?
#
# <details class="hint"><summary>Hint 1</summary>
#
# The scores agree for every $\varphi$ if $v + e_y = w_y$ for each label. How many solutions has that?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Add these equations up over the labels, with $\sum_y e_y = 0$.
#
# </details>

# %% tags=["answer"]
def projection(W):
    """The parts of a projection discriminator with the scores of one output per class.

    W (K, F): a row for each class.  Returns v (F,), and e (K, F) with e.sum(0) = 0.
    """
    ...


# %% tags=["check"]
sheet.check("5.9", projection)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.9</summary>
#
# $v$ is what the rows have in common. Our biases stay as they are, one for each class where theirs is shared. The
# functions are the same, the *path* is not: in their form $v$ moves at every step, for all classes, so that what is
# common to "real" is learned faster at first; in ours a row moves only when its label is in the batch.
#
# ```python
# def projection(W):
#     v = W.mean(0)
#     return v, W - v
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.10 (derive ★★). The chain rule, and what is missing.** Prove (5.5) and write its three terms for tables
# of $p_g(x, y)$ and $p_r(x, y)$: the KL of the images, the class term, and the entropy $H_g(y \mid x)$. (That the first
# two less the third are the KL of the pairs, you can check by yourself.) For which generators does the missing term not
# matter?
#
# <details class="hint"><summary>Hint 1</summary>
#
# $\log \frac{p_g(x, y)}{p_r(x, y)} = \log \frac{p_g(x)}{p_r(x)} + \log p_g(y \mid x) - \log p_r(y \mid x)$. Over which
# distribution is the mean?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# All three are means over $p_g(x, y)$. Conditional on $x$ means: divide by the sum over $y$, which is axis 1.
#
# </details>

# %% tags=["answer"]
def three_terms(p_g, p_r):
    """The terms of (5.5), in nats.

    p_g, p_r (N, K): tables of p(x, y) that add up to one, without zeros.  Returns KL(p_g(x) || p_r(x)),
    E_g[-log p_r(y | x)] and H_g(y | x).
    """
    ...


# %% tags=["check"]
sheet.check("5.10", three_terms)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.10</summary>
#
# Average the first hint over $p_g(x, y)$; the mean of $\log p_g(y \mid x)$ is $-H_g(y \mid x)$. It is zero for
# generators whose drawings never leave a doubt about the label they were asked for. If the real classes overlap, these
# are the wrong generators. Shu, Bui and Ermon (2017) found the bias; Gong and others (2019) mend it with a second
# classifier, trained on fakes, that estimates $p_g(y \mid x)$.
#
# ```python
# def three_terms(p_g, p_r):
#     g, r = p_g.sum(1, keepdim=True), p_r.sum(1, keepdim=True)
#     return (g * (g / r).log()).sum(), -(p_g * (p_r / r).log()).sum(), -(p_g * (p_g / g).log()).sum()
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.11 (derive ★★★). The best generator for a game without the entropy.** Which $p_g(x, y)$ minimises
# $\mathrm{KL}(p_g(x) \| p_r(x)) + \lambda\, \mathbb{E}_{p_g}[-\log p_r(y \mid x)]$, that is (5.5) without its last
# term, for a class term of weight $\lambda$? Find it for a table $p_r(x, y)$. The check tries every way of giving
# labels to points.
#
# <details class="hint"><summary>Hint 1</summary>
#
# First hold $p_g(x)$ fixed. The second term is linear in $p_g(y \mid x)$: at each $x$, who gets it all?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# With $m(x) = \max_y p_r(y \mid x)$ there remains $\mathbb{E}_{p_g}[\log p_g(x) - \log p_r(x) - \lambda \log m(x)]$: a
# divergence from a density that is not normalised yet.
#
# </details>

# %% tags=["answer"]
def cut_off(p_r, weight):
    """The generator that minimises the first two terms of (5.5), the class term with a weight.

    p_r (N, K): p_r(x, y), adds up to one; weight a number.  Returns p_g(x, y) (N, K).
    """
    ...


# %% tags=["check"]
sheet.check("5.11", cut_off)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.11</summary>
#
# $p_g(x, y) \propto p_r(x)\, m(x)^\lambda\, \mathbb{1}[y = \arg\max_k p_r(k \mid x)]$. Even for $\lambda \to 0$ the
# labels stay separated. At $\lambda = 1$, $p_r\, m$ is $\max_y p_r(x, y)$: each class is the real one *cut off* where
# another becomes more likely.
#
# ```python
# def cut_off(p_r, weight):
#     mass = p_r.sum(1)
#     largest, label = (p_r / mass[:, None]).max(1)
#     mass = mass * largest**weight
#     return F.one_hot(label, p_r.shape[1]) * (mass / mass.sum())[:, None]
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.12 (derive ★★). What is left of a class.** Let the two classes be $\mathcal{N}(-1, 1)$ and
# $\mathcal{N}(1, 1)$, equally frequent, and let the generator solve exercise 5.11 at $\lambda = 1$. What is the
# standard deviation of its drawings of one class, where the real one has 1?
#
# <details class="hint"><summary>Hint 1</summary>
#
# Where is the boundary, and what becomes of a Gaussian that is cut there?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# For $\mathcal{N}(1, 1)$ above 0, with $h = \phi(1)/\Phi(1)$, density over distribution function, the variance is
# $1 - h - h^2$. Or sum over a fine grid.
#
# </details>

# %% tags=["answer"]
prediction_5_12 = None  # a number

# %% tags=["check"]
sheet.check("5.12", prediction_5_12)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.12</summary>
#
# The boundary is at 0, one deviation below the class's mean. Diversity is lost though the generator is perfect in the
# game it was given.
#
# ```python
# x = torch.linspace(0, 9, 9001, dtype=torch.float64)
# p = torch.softmax(-0.5 * (x - 1) ** 2, 0)
# prediction_5_12 = ((p * x**2).sum() - (p * x).sum() ** 2).sqrt().item()
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.13 (code ★★). Diversity within the class.** Write the measure that told ours from the cheat. Per class:
# the mean distance over all pairs of different drawings of this class, divided by the same for its real pictures. Then
# the mean over the classes, each counting once. (The chapter takes the label that is *read*; here it is given.)
#
# <details class="hint"><summary>Hint 1</summary>
#
# `torch.pdist(features)` has each pair of different rows once. Loop over the classes.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Divide within the class, before you average. Each of the two sets has labels of its own.
#
# </details>

# %% tags=["answer"]
def diversity(drawn, asked, real, labels):
    """Mean over the classes of (mean distance of two drawings) / (mean distance of two real ones).

    drawn (M, d), real (N, d): features; asked (M,), labels (N,) int64.  Returns a number.
    """
    ...


# %% tags=["check"]
sheet.check("5.13", diversity)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.13</summary>
#
# Dividing first makes a wide and a narrow class count alike.
#
# ```python
# def diversity(drawn, asked, real, labels):
#     ratios = [torch.pdist(drawn[asked == c]).mean() / torch.pdist(real[labels == c]).mean() for c in labels.unique()]
#     return sum(ratios) / len(ratios)
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.14 (predict ★). A cheat with five pictures.** A generator owns five real test digits of each class, and
# returns one of them at random. What diversity do you expect, over many drawings? And which of our numbers would expose
# it?
#
# <details class="hint"><summary>Hint 1</summary>
#
# Two drawings are either the same picture or two different real ones.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# How often are they the same? Then their distance is zero; otherwise it is on average that of two real digits.
#
# </details>

# %% tags=["answer"]
prediction_5_14 = None  # a number

# %% tags=["check"]
sheet.check("5.14", prediction_5_14)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.14</summary>
#
# $1 - 1/m$, so that ten stored pictures give $0.9$. Few pictures scatter around it, since *which* ones are owned
# matters. Recall exposes the cheat, and so do the distances to the nearest training image, if the stored ones are from
# there. Read the other way, a diversity of $0.23$, as that of our collapsed generator, is that of $m = 1.3$: between
# one and two pictures for each class.
#
# ```python
# prediction_5_14 = 1 - 1 / 5
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.15 (code ★★). Recall, class by class.** Report every class by itself, the chapter says. Write a recall
# that does: of the real pictures of each class, the share that has a drawing *asked for as this class* within the given
# radius. Return these shares in the order of the labels, and their mean, in which the rare class counts like any other.
#
# <details class="hint"><summary>Hint 1</summary>
#
# `torch.cdist(real, drawn)` has all distances, (N, M). What has to be true besides being near?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `near = (distance <= radius) & (labels[:, None] == asked)`, and `any` over the drawings.
#
# </details>

# %% tags=["answer"]
def recall(real, labels, drawn, asked, radius):
    """The share of real points of each class that have a drawing of the same class near.

    real (N, d), drawn (M, d): features; labels (N,), asked (M,) int64; radius a number.
    Returns the shares, one for each label in increasing order, and their mean.
    """
    ...


# %% tags=["check"]
sheet.check("5.15", recall)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.15</summary>
#
# One near drawing is enough, and a hundred copies of it are no better: that is why a cheat cannot raise it. (The
# chapter's recall takes, as the radius of each drawing, the distance to its k-th neighbour.)
#
# ```python
# def recall(real, labels, drawn, asked, radius):
#     near = (torch.cdist(real, drawn) <= radius) & (labels[:, None] == asked)
#     covered = near.any(1).float()
#     shares = torch.stack([covered[labels == c].mean() for c in labels.unique()])
#     return shares, shares.mean()
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.16 (derive ★★). Asking for the rare class more often.** Real labels occur with shares $\pi_r(y)$, and in
# training we ask for label $y$ with share $\pi_g(y)$, say all equally often. Find the best score of a *pair*, for "one
# output per class", and the best score $r$ of a *picture*, for "eleven classes", on finitely many points.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Equations (5.6) and (5.4), with $p(x, y) = \pi(y)\, p(x \mid y)$ for real and for generated pairs.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# A picture's density is a mixture, $p(x) = \sum_y \pi(y)\, p(x \mid y)$, and each side has shares of its own.
#
# </details>

# %% tags=["answer"]
def scores_with_shares(real, fake, share_real, share_fake):
    """The best scores where labels are asked for with other shares than they occur with.

    real, fake (N, K): p_r(x | y) and p_g(x | y), each column adds up to one; share_real, share_fake (K,).
    Returns the score of pairs (N, K) and the score of pictures (N,).
    """
    ...


# %% tags=["check"]
sheet.check("5.16", scores_with_shares)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.16</summary>
#
# For pairs $s^*(x, y) = \log p_r(x \mid y) - \log p_g(x \mid y) + \log \pi_r(y) - \log \pi_g(y)$; for pictures the
# logarithm of a ratio of mixtures.
#
# ```python
# def scores_with_shares(real, fake, share_real, share_fake):
#     of_pairs = (real * share_real).log() - (fake * share_fake).log()
#     return of_pairs, (real @ share_real).log() - (fake @ share_fake).log()
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.17 (derive ★★). Whose optimum moves.** Use your function: let the generator be perfect within each class,
# $p_g(x \mid y) = p_r(x \mid y)$, and ask for a rare class more often than it occurs. Which generator is now pushed
# away from the perfect pictures?
#
# - (a) That of the eleven classes; with one output per class nothing pushes a perfect picture.
# - (b) That of one output per class; the eleven classes do not look at the label that was asked for.
# - (c) Both: whatever is asked for too often looks fake.
# - (d) Neither: perfect pictures are perfect, however often each class is drawn.
#
# <details class="hint"><summary>Hint 1</summary>
#
# The generator is moved by the score's gradient with respect to the *picture*. Does a constant have one?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Compute both scores for perfect classes. Which of them depends on $x$?
#
# </details>

# %% tags=["answer"]
choice_5_17 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("5.17", choice_5_17)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.17</summary>
#
# For pairs the new part does not depend on $x$: it shifts the $y$-th score by a constant, which the $y$-th bias
# absorbs. It changes how loudly a class is heard, through the slope of the softplus, and no optimum. It is cleaner to
# draw real pictures of each class equally often as well, so that the shift is zero.
#
# For eleven classes $r^*$ compares *mixtures*: pictures of a class that is asked for too often look fake as such,
# however good they are, and $r$ pushes the generator to draw something else under that label. Class term and score then
# contradict each other.
#
# ```python
# choice_5_17 = "a"
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.18 (investigate ★★★). Who moves the embedding.** The companion code hands the generator's embedding to
# *D's* optimiser too (see the errata below). Does that do harm? Play the smallest such game. The generator is $x = A(z
# + e_y)$ and the scores are $V x$, with "fake" in the last row; of all this only the table of the $e_y$ moves. First
# game: in each round one step down $G$'s loss, the cross-entropy for class $y$. Second game: in each round one step
# down $D$'s loss, the cross-entropy for "fake", and then one down $G$'s. Every step has the length `rate`: the gradient
# of the whole table divided by its norm, as Adam nearly does. Return $G$'s loss at the end of either game. Then run it
# on random matrices for twenty rounds, as often as you like.
#
# <details class="hint"><summary>Hint 1</summary>
#
# `torch.autograd.grad(loss, table)` gives a gradient without a backward pass through anything else. Start both games
# from the same table, and do not change the argument in place.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# A helper `step(table, target)` does for both: scores, cross-entropy, gradient, `table - rate * g / g.norm()`. The
# number of "fake" is `len(V) - 1`.
#
# </details>

# %% tags=["answer"]
def moved(table, A, V, z, y, steps, rate):
    """G's loss after two games on the embedding.

    table (K, d): the vectors e_y; A (D, d); V (K + 1, D); z (B, d); y (B,) int64; steps an int, rate a number.
    Returns G's loss after G alone has moved the table, and after D and G have, in turns.
    """
    ...


# %% tags=["check"]
sheet.check("5.18", moved)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.18</summary>
#
# With both players on it, $G$ ends with the higher loss in nearly every draw: much of what $G$'s step gains, $D$'s next
# step takes back. That the weaker gradient is much the shorter one does not help, as steps are divided by it.
#
# ```python
# def moved(table, A, V, z, y, steps, rate):
#     def loss(t, target):
#         return F.cross_entropy((z + t[y]) @ A.T @ V.T, target)
#
#     def step(t, target):
#         t = t.detach().requires_grad_()
#         g, = torch.autograd.grad(loss(t, target), t)
#         return (t - rate * g / g.norm()).detach()
#
#     alone, both, fake = table, table, torch.full_like(y, len(V) - 1)
#     for _ in range(steps):
#         alone = step(alone, y)
#         both = step(step(both, fake), y)
#     return loss(alone, y), loss(both, y)
# ```
#
# </details>

# %% [markdown]
# **Exercise 5.19 (derive ★). Four forms.** (review) For each of the four discriminators say what it is given, how many
# outputs it has, what is asked of it, and what the generator is told. Which of them can be used as a classifier of
# digits afterwards?
#
# - (a) All four: each was trained with the labels.
# - (b) "One output per class" alone: take the largest of its ten outputs.
# - (c) "Eleven classes" and "auxiliary", and no other.
# - (d) "Label as input" alone: try all ten labels, and take the one with the highest score.
#
# <details class="hint"><summary>Hint 1</summary>
#
# A classifier answers "which digit?" about one picture. Which of the four was ever asked that?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# What is the best score of a pair when the generator is perfect? Does it then say anything about the digit?
#
# </details>

# %% tags=["answer"]
choice_5_19 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("5.19", choice_5_19)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 5.19</summary>
#
# | form | given | outputs | asked | the generator is told |
# |---|---|---|---|---|
# | eleven classes | image | 11, softmax | which digit, or fake | to be put into class $y$ |
# | auxiliary | image | 1 and 10 | real? which digit? | to look real and be read as $y$ |
# | label as input | image, label | 1 | is this a real *pair*? | to make a real-looking pair |
# | one output per class | image, label | 10, one is used | is this a real *pair*? | to make a real-looking pair |
#
# The first two are classifiers: $q(k \mid x)$. The last two are not, at least not directly: their scores compare real
# with generated images of one class, and are not calibrated against each other. With a good generator they approach a
# constant for every label that fits.
#
# ```python
# choice_5_19 = "c"
# ```
#
# </details>

# %%
sheet.summary()

# %% [markdown]
# ## What the sources get wrong
#
# The training loop that the textbook's text skips is in its companion code, and differs from ours in two places.
#
# **Fakes are not detached in $D$'s step.** Then the backward pass of $D$'s loss runs through the generator as well.
# $D$'s own gradients are the same: seconds are wasted, nothing else. **The embedding is among the parameters that $D$'s
# optimiser moves.** That is worse. $D$'s loss falls when fakes are easier to detect, so $D$'s steps move the embedding
# to where the *generator's* drawings are worse. We check both on the textbook's networks, as trained above.

# %% tags=["nbval-check-output"]
y = torch.arange(1000, device=device) % 10
z = torch.randn(1000, 8, device=device, generator=torch.Generator(device).manual_seed(SEED))
fake, as_fake = G_book(z, y), torch.full_like(y, FAKE)
with_detach, without = (torch.autograd.grad(F.cross_entropy(D_book(x), as_fake), D_book.parameters())
                        for x in (fake.detach(), G_book(z, y)))
same = all(torch.allclose(*pair, atol=1e-6) for pair in zip(with_detach, without, strict=True))
embedding = G_book.label.weight
on_D, on_G = (torch.autograd.grad(F.cross_entropy(D_book(fake), target), embedding, retain_graph=True)[0].flatten()
              for target in (as_fake, y))
cosine = F.cosine_similarity(on_D, on_G, 0).item()
print("D's gradients are the same with and without detach:", same)
print("on the embedding the two players pull in opposite directions:", cosine < -0.2)

# %%
ratio = (on_D.norm() / on_G.norm()).item()
print(f"cosine of the two gradients on the embedding: {cosine:+.2f}; length of D's, relative to G's: {ratio:.2f}")

# %% [markdown]
# What one player's step gives to the embedding, the other's takes back. $D$'s gradient is much the shorter one, but
# Adam divides by the size of the gradients it has seen, so both players move the embedding about equally far.
#
# ## References
#
# - M. Mirza, S. Osindero. *[Conditional generative adversarial nets](https://arxiv.org/abs/1411.1784).* 2014. The label
#   as an input of both players.
# - T. Salimans and others. *[Improved techniques for training GANs](https://arxiv.org/abs/1606.03498).* NeurIPS 2016. A
#   discriminator with $K + 1$ classes, for semi-supervised learning.
# - S. Reed and others. *[Generative adversarial text to image synthesis](https://arxiv.org/abs/1605.05396).* ICML 2016.
#   Real images under a wrong text are shown to the discriminator as fake pairs.
# - A. Odena, C. Olah, J. Shlens. *[Conditional image synthesis with auxiliary classifier
#   GANs](https://arxiv.org/abs/1610.09585).* ICML 2017. They measure diversity within each class too, by the structural
#   similarity of pairs.
# - R. Shu, H. Bui, S. Ermon. *[AC-GAN learns a biased distribution](http://ruishu.io/docs/ac-gan-learns.pdf).* NIPS
#   workshop on Bayesian Deep Learning, 2017.
# - T. Miyato, M. Koyama. *[cGANs with projection discriminator](https://arxiv.org/abs/1802.05637).* ICLR 2018.
# - M. Gong, Y. Xu, C. Li, K. Zhang, K. Batmanghelich. *[Twin auxiliary classifiers
#   GAN](https://arxiv.org/abs/1907.02690).* NeurIPS 2019. The missing entropy of (5.5), restored.
# - Y. Choi, Y. Uh, J. Yoo, J.-W. Ha. *[StarGAN v2: diverse image synthesis for multiple
#   domains](https://arxiv.org/abs/1912.01865).* CVPR 2020. A discriminator with one output for each class.
