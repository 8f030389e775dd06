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
# # 1. Autoencoder
#
# **The question.** A hospital's archive holds a million images and labels for a few hundred of them: taking a picture
# is routine, having a radiologist judge it is not. Can a network learn something useful from the images alone? And if
# it can describe an image in 32 numbers, can it also invent images, by inventing numbers?
#
# You will be able to
# - train an autoencoder, and say how it differs from principal component analysis and when it does not;
# - say what squared and absolute error each ask for, and which of the two would overlook a rare finding;
# - build the denoising and the k-sparse variant, and find units that have died;
# - test whether a code helps a classifier that has few labels, with repeats and an error bar;
# - make a generator of a decoder and a distribution of codes, and measure what the distribution is worth.
#
# Running time: about two minutes of one core of an Intel Xeon, most of it training; measured by `make
# notebooks`. No GPU, no account and no network are needed. What the book is about, and how to use its notebooks, is
# told in the [introduction](intro.md).

# %%
import genmed_core  # first: it sets how threads wait
import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from genmed_core import data, exercises, kernels, metrics, plots, runtime, train, widgets

SEED = runtime.chapter_seed(0)
STEPS, BATCH, RATE = 1000, 256, 4e-3
CODE, HIDDEN = 32, 128  # numbers in a code, units in a hidden layer: yours to change, before you run all
device = runtime.device()
print(runtime.machine())

# %% [markdown]
# ## The data
#
# Digits stand in for scans in this chapter: they are small, everybody can read them, and a mistake hurts nobody.
# An image is a vector $x$ of $28 \times 28 = 784$ grey values between 0 and 1. There are labels, but training will not
# look at them. Without the MNIST files the notebook uses drawings of its own and says so.

# %%
train_set, val_set, test_set = (data.digits(split) for split in ("train", "val", "test"))
expect = metrics.Expectations("01_autoencoder", source=train_set.source)
sheet = exercises.sheet("01_autoencoder")
x_train = train_set.images.to(device).float() / 255  # (N, 1, 28, 28) in [0, 1]
x_test = test_set.images.to(device).float() / 255
y_train, y_test = train_set.labels.to(device), test_set.labels.to(device)

# %% tags=["nbval-check-output"]
print("one image:", tuple(x_train.shape[1:]), x_train.dtype, "from", x_train.min().item(), "to", x_train.max().item())

# %% mystnb={"image": {"alt": "Two rows of ten digits from the test images"}}
plots.show_grid(x_test[:20], columns=10)

# %% [markdown]
# **Figure 1.1.** The first twenty test digits.
#
# The digits of figure 1.1 are from the test set (LeCun et al. 1998, where it is MNIST).
#
# ## The idea: copy the input through a narrow place
#
# Nobody tells us what to predict, so we let the image predict itself. An **encoder** $f_\phi$ turns $x$ into a short
# **code** $z$, a **decoder** $g_\theta$ turns the code back into an image, and both are trained so that the copy
# $\hat x$ resembles the original:
#
# $$ z = f_\phi(x) \in \mathbb{R}^d, \qquad \hat x = g_\theta(z), \qquad
# \min_{\phi, \theta} \; \frac{1}{N} \sum_{n=1}^{N} \lVert x_n - g_\theta(f_\phi(x_n)) \rVert^2 . \tag{1.1} $$
#
# With $d = 784$ the problem is empty: the identity solves it. With $d = 32$ it is not. The pair has to find out which
# images occur at all and spend its 32 numbers on telling *those* apart. The narrow place, the **bottleneck**, is what
# makes copying worth learning from (Hinton and Salakhutdinov 2006).
#
# ### The opponent: principal component analysis
#
# Before a network is praised it should beat the method that has a formula. Principal component analysis (PCA) is
# (1.1) with a linear encoder and a linear decoder. Let $\mu$ be the mean image, and $v_1, \dots, v_d$ the eigenvectors
# of the covariance matrix $C$ that have the largest eigenvalues $\lambda_1 \ge \lambda_2 \ge \dots$. Then
#
# $$ z_i = v_i^\top (x - \mu), \qquad \hat x = \mu + \sum_{i=1}^{d} z_i v_i, \qquad
# \frac1N \sum_n \lVert x_n - \hat x_n \rVert^2 = \sum_{i > d} \lambda_i . \tag{1.2} $$
#
# No linear pair of the same width does better (Eckart and Young 1936; Baldi and Hornik 1989): whatever a network gains
# over (1.2) it owes to being nonlinear. PCA may leave the range $[0, 1]$. We clip it, in fairness, which takes about a
# tenth off its error.

# %%
mean = x_train.mean(0).flatten()                                     # (784,)
centred = x_train.flatten(1) - mean
eigenvalues, eigenvectors = torch.linalg.eigh(centred.T @ centred / len(centred))
eigenvalues, eigenvectors = eigenvalues.flip(0).clamp(min=0), eigenvectors.flip(1)  # largest first


def pca_encode(x, d=CODE):
    return (x.flatten(1) - mean) @ eigenvectors[:, :d]               # (B, d)


def pca_decode(z):
    return (mean + z @ eigenvectors[:, : z.shape[1]].T).clamp(0, 1).view(-1, 1, 28, 28)


def mse(x_hat, x):
    """Mean squared error per pixel: what every comparison below is in."""
    return F.mse_loss(x_hat, x).item()


pca_error = mse(pca_decode(pca_encode(x_test)), x_test)
print(f"mean image alone: {mse(mean.view(1, 1, 28, 28).expand_as(x_test), x_test):.4f} per pixel")
print(f"PCA, {CODE} numbers:  {pca_error:.4f}")

# %% [markdown]
# ## The model
#
# The textbook's autoencoder has one hidden layer on either side, 784–128–32–128–784, a rectifier,
# $\mathrm{ReLU}(a) = \max(a, 0)$, after each of them, also after the code; it ends linearly. Ours ends in a sigmoid,
# which keeps every pixel between 0 and 1: what is called the book's below is the book's but for its end. Two switches
# are ours too. `code_relu=False` takes the rectifier off the code. `mean` starts the network where PCA starts, at the
# mean image: it is subtracted from the input, and the bias of the last layer is set so that the untrained decoder draws
# roughly the mean.
#
# <!-- from the textbook -->

# %%
class AutoEncoder(nn.Module):
    """x (B, 1, 28, 28) in [0, 1] -> code (B, d) -> copy (B, 1, 28, 28)."""

    def __init__(self, code=CODE, hidden=HIDDEN, *, code_relu=True, mean=None):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, hidden), nn.ReLU(),
                                     nn.Linear(hidden, code), nn.ReLU() if code_relu else nn.Identity())
        self.decoder = nn.Sequential(nn.Linear(code, hidden), nn.ReLU(),
                                     nn.Linear(hidden, 784), nn.Sigmoid())
        self.register_buffer("mean", torch.zeros(784) if mean is None else mean.cpu().clone())
        if mean is not None:  # sigmoid(bias) = mean, kept off the flat ends of the sigmoid
            self.decoder[2].bias.data = torch.logit(self.mean.clamp(0.01, 0.99))

    def encode(self, x):
        return self.encoder(x.flatten(1) - self.mean)                # (B, d)

    def decode(self, z):
        return self.decoder(z).view(-1, 1, 28, 28)

    def forward(self, x):
        return self.decode(self.encode(x))


# %% [markdown]
# **Exercise 1.1 (derive ★). Count the parameters.** A fully connected autoencoder has layers of $n$, $h$, $d$, $h$ and
# $n$ units, as the one above. How many numbers does training adjust? Give the formula as a function, and try it on
# this chapter's model: the next cell counts them.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Four layers connect five rows of units. A layer from $m$ to $k$ units computes $k$ sums of $m$ terms.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Such a layer has $mk$ weights, and a bias for each of its $k$ sums.
#
# </details>

# %% tags=["answer"]
def parameters(n, h, d):
    """How many weights and biases the layers n-h-d-h-n have together.  Returns a whole number."""
    ...

# %% tags=["check"]
sheet.check("1.1", parameters)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.1</summary>
#
# A layer from $m$ to $k$ units has $mk$ weights and $k$ biases, and there are four.
#
# ```python
# def parameters(n, h, d):
#     return 2 * n * h + 2 * h * d + 2 * h + d + n
# ```
#
# For X-rays of 64 × 64 pixels $n = 4096$, and already $h = 512$ costs more than four million parameters, most of them
# in the two outer layers, while neighbouring pixels obey the same rules everywhere in the image. Exercise 1.5 asks what
# to do instead.
#
# </details>

# %% tags=["nbval-check-output"]
probe = AutoEncoder()
print(f"parameters: {metrics.parameter_count(probe):,}")
five = torch.rand(5, 1, 28, 28)
print("code:", tuple(probe.encode(five).shape), "copy:", tuple(probe(five).shape))

# %% [markdown]
# ## The loss, and one way to train everything
#
# The loss is a function of the model and a batch, so that each variant below needs two or three lines. We use Adam
# (Kingma and Ba 2015) at a rate that rises briefly and then falls to zero: the fall is worth a great deal in a short
# training. One thousand steps of 256 images are under five passes over MNIST; the book gives its next model fifty.

# %%
def squared_error(model, x):
    return F.mse_loss(model(x), x)


def train_model(model, loss, title, *, images=train_set, steps=STEPS, batch_size=BATCH, seed=SEED):
    """Train in place by Adam and return the model; `histories` keeps what was logged."""
    model.to(device)
    batches = kernels.Batches(images, batch_size=batch_size, seed=seed)
    step = kernels.TrainStep(lambda batch: (loss(model, batch.x), {}), torch.optim.Adam(model.parameters(), lr=RATE),
                             batches=batches, model=model, schedule=kernels.linear_decay(), seed=seed)
    histories[title] = train.fit(step, runtime.budget(steps), title=title)
    return model.eval().requires_grad_(False)


histories = {}

# %% [markdown]
# We train three networks of the same size, for the same number of steps, on the same batches: the book's (with a
# sigmoid at the end), the book's without the rectifier on the code, and the book's, rectifier included, started from
# the mean.

# %%
torch.manual_seed(SEED)
book = train_model(AutoEncoder(), squared_error, "as in the book")
torch.manual_seed(SEED)
signed = train_model(AutoEncoder(code_relu=False), squared_error, "no ReLU on the code")
torch.manual_seed(SEED)
ae = train_model(AutoEncoder(mean=mean), squared_error, "started from the mean")

# %% [markdown]
# ## Look, then count the dead
#
# A row of numbers never tells why a copy is bad; the copies might. Look at the strokes' ends and at the small loops.

# %% mystnb={"image": {"alt": "Five rows of ten digits: originals, and their copies by PCA and three autoencoders"}}
plots.show_rows({"original": x_test[:10], "PCA": pca_decode(pca_encode(x_test[:10])), "book": book(x_test[:10]),
                 "no ReLU": signed(x_test[:10]), "from mean": ae(x_test[:10])})

# %% [markdown]
# **Figure 1.2.** Ten test digits and four kinds of copy from 32 numbers each.
#
# Figure 1.2 shows copies of unlike sharpness. What does the rectifier on the code do? It
# makes every $z_i \ge 0$, so a unit can only add its part of a picture and never take it away, and it lets a unit be
# silent. It can also kill. Where $w^\top h + b < 0$ for *every* image, the unit's output is 0 and so is its gradient,
# and nothing that happens to it later can bring it back except a change in the layer below. Such a **dead unit** is a
# number of the code we pay for and do not get. We count the units that are silent on all training images, and how many
# speak for one image on average.

# %%
def census(model):
    """Dead code units over the training images, and the mean number of non-zero entries of a code."""
    z = model.encode(x_train)                                        # (N, d)
    return int((z == 0).all(0).sum()), (z != 0).float().sum(1).mean().item()


errors = {"PCA": pca_error}
for name, model in {"book": book, "no ReLU": signed, "from mean": ae}.items():
    errors[name] = mse(model(x_test), x_test)
    dead, speaking = census(model)
    print(f"{name:10s} error {errors[name]:.4f}, {errors[name] / pca_error:.2f} of PCA's;  "
          f"dead units {dead:2d} of {CODE}, on average {speaking:.1f} speak")

# %% mystnb={"image": {"alt": "Bars: test error per pixel of PCA and of three autoencoders with 32 numbers each"}}
plots.show_bars({k: 1000 * v for k, v in errors.items()}, y_label="test error per pixel, thousandths")

# %% [markdown]
# **Figure 1.3.** Test error of PCA and of three autoencoders, 32 numbers each.
#
# The book's network has lost about half of its code, and in a training as short as this it is no better than PCA
# (figure 1.3). A likely cause: what all images have in common, the mean image, pushes each unit the same way for all of
# them, and units pushed below zero stay there. Without the rectifier no unit of the code can die. With it, and with the
# mean taken out, few units or none do, and the autoencoder leaves PCA far behind. The deaths do not show in the
# training curves of figure 1.4: all three fall smoothly, the book's to a higher place.

# %% mystnb={"image": {"alt": "Training error of the three autoencoders against the training step"}}
plots.show_curves({k: (h.steps, h["loss"]) for k, h in histories.items()}, x_label="training step",
                  y_label="squared error per pixel", log_y=True, lines={"PCA (test)": pca_error})

# %% [markdown]
# **Figure 1.4.** Training error of the three networks on a logarithmic axis; the dashed line is PCA's test error.
#
# But `mean` changes two things at once, what goes in and where the output starts. Which of them saves the units? Two
# controls differ from the book's network in one of the two each:

# %%
torch.manual_seed(SEED)
mean_in = AutoEncoder()
mean_in.mean.copy_(mean)                                             # the output starts as the book's does
train_model(mean_in, squared_error, "mean taken from the input alone")
torch.manual_seed(SEED)
mean_out = AutoEncoder(mean=mean)
mean_out.mean.zero_()                                                # the input is the book's
train_model(mean_out, squared_error, "mean at the output alone")
for name, model in {"book": book, "input alone": mean_in, "output alone": mean_out, "both": ae}.items():
    print(f"mean at {name:13s} error {mse(model(x_test), x_test):.4f}, dead units {census(model)[0]:2d} of {CODE}")

# %% [markdown]
# Either half alone saves most of the units, and both together end with the smallest error; each row is a single run. So
# the mean in the input is only part of the cause. Another may be the first copies: an output that starts grey has the
# same fault for all images, too much ink nearly everywhere, and all of them push the units the same way to mend it.
#
# ### How few numbers hold a digit?
#
# That depends on who asks. The same network without a rectifier on its code, trained for 500 steps at seven widths of
# the code: its error, and how often our reader of digits still reads a copy as the digit it was (means and deviations
# of three seeds; for PCA nothing is drawn; stored, by `make study STUDY=width`):
#
# | numbers | error, PCA | error, autoencoder | read rightly, PCA | read rightly, autoencoder |
# | --- | ---: | ---: | ---: | ---: |
# | 1 | 0.0606 | 0.0544 ± 0.0005 | 11.5 % | 18.2 % ± 2.7 % |
# | 2 | 0.0555 | 0.0453 ± 0.0001 | 12.0 % | 41.4 % ± 3.3 % |
# | 4 | 0.0474 | 0.0337 ± 0.0004 | 19.6 % | 60.3 % ± 1.8 % |
# | 8 | 0.0364 | 0.0226 ± 0.0002 | 40.2 % | 84.8 % ± 0.8 % |
# | 16 | 0.0254 | 0.0143 ± 0.0000 | 74.8 % | 93.0 % ± 0.5 % |
# | 32 | 0.0152 | 0.0107 ± 0.0001 | 94.4 % | 95.2 % ± 0.2 % |
# | 64 | 0.0078 | 0.0093 ± 0.0002 | 98.7 % | 96.0 % ± 0.2 % |
#
# Up to 16 numbers the network needs about half as many as PCA for the same error, and at 8 its copies are read more
# than twice as often. At 64, in a training as short as this, PCA is ahead in both. So copies from 16 numbers of the
# network tell our reader *which* digit it is nine times in ten, and no width here holds *this* digit: the error goes on
# falling.
#
# ### A digit of your own
#
# Write a digit below, with a pointer or a finger, or with the arrow keys and the space bar. It is centred and scaled as
# MNIST's are, and copied by the autoencoder that started from the mean. First, as a plain function, the ten digits that
# lie ready on the pad, and three drawings that are none: a house, a face, a single dot.

# %%
def arc(x, y, radius, start=0.0, end=2 * math.pi):
    """A stroke on a page of 280 by 280, along a circle."""
    angles = torch.linspace(start, end, 25)
    return torch.stack([x + radius * angles.cos(), y + radius * angles.sin()], 1).tolist()


pad = widgets.Pad(widgets.Copy(ae, x_test), caption="Draw a digit, and see its copy from 32 numbers")
test_errors = (ae(x_test) - x_test).square().mean((1, 2, 3)).cpu()
low, high = test_errors.quantile(torch.tensor([0.25, 0.75])).tolist()
print(f"half of the test digits are copied with an error between {low:.4f} and {high:.4f}")
no_digits = {"house": [[[80, 130], [80, 240], [200, 240], [200, 130]], [[60, 145], [140, 50], [220, 145]]],
             "face": [arc(140, 140, 95), arc(105, 110, 8), arc(175, 110, 8), arc(140, 140, 50, 0.5, 2.6)],
             "dot": [[[140, 140], [142, 140]]]}
for name, strokes in {**{f"ready {k}": pad.ready[k] for k in range(10)}, **no_digits}.items():
    seen = pad.show(strokes)
    error, said = seen["copy"]["error"], seen["reader"]
    print(f"{name}: error {error:.4f}, above {100 * (test_errors < error).float().mean():.0f} % of the test digits'; "
          f"our reader says {said['digit']}, {100 * said['probabilities'][said['digit']]:.0f} % sure")
pad.strokes = pad.ready[3]

# %% [markdown]
# Most of the ready digits are copied about as well as those of the test set; the 4, the 5 and the 8 are not. The errors
# of the house and of the face leave the range in which half of the test digits lie. Our reader knows ten answers and no
# other: it calls either a 0, and is sure of it. **The copy's error can notice what a classifier cannot say.** It is no
# reliable alarm, though. The ready 4 is copied worse than the house. And a single dot is no digit either, but hardly a
# test digit is copied with a smaller error, since so few pixels can be missed.
#
# Now draw your own. In the copies of a house and a face look at the corners, the eyes and the mouth: the decoder has
# only parts of digits to build with.

# %%
pad

# %% [markdown]
# ## Squared or absolute error: the mean or the median
#
# The loss decides what the decoder draws where the code leaves doubt. Suppose that images with the same code have
# values $x$ with some distribution at one pixel. The best answer $c$ is
#
# $$ \arg\min_c \mathbb{E}\,(x - c)^2 = \mathbb{E}[x], \qquad
# \arg\min_c \mathbb{E}\,\lvert x - c\rvert = \operatorname{median}(x) . \tag{1.3} $$
#
# The first follows by setting the derivative $2(c - \mathbb{E}[x])$ to zero; in the second the derivative is
# $P(x < c) - P(x > c)$, zero where both sides weigh the same. Now let nine images look alike to the encoder, and three
# of them have a bright spot:

# %% tags=["nbval-check-output"]
spot = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 1, 1])
c = torch.linspace(0, 1, 301)
squared = (spot - c[:, None]).square().mean(1)                       # (301,) one value for each candidate c
absolute = (spot - c[:, None]).abs().mean(1)
print(f"squared error is least at {c[squared.argmin()]:.2f}, the mean is {spot.mean():.2f}")
print(f"absolute error is least at {c[absolute.argmin()]:.2f}, the median is {spot.median():.2f}")

# %% [markdown]
# The mean shows a faint spot that no patient has; the median shows none. **A finding present in less than half of the
# images that look alike to the code disappears entirely under absolute error**, and is greyed under squared error.
# For a whole class of digits both can be had without any training: this is what a decoder would draw whose code said
# only "a 4".

# %% mystnb={"image": {"alt": "The mean image of each digit, blurred, and below it the median image, sharper"}}
classes = [x_train[y_train == k] for k in range(10)]
plots.show_rows({"mean": torch.stack([x.mean(0) for x in classes]),
                 "median": torch.stack([x.median(0).values for x in classes])})

# %% [markdown]
# **Figure 1.5.** Mean and median of all training images of a digit, pixel by pixel.
#
# The medians of figure 1.5 are crisper and thinner. The same holds for the networks. We do not train them from scratch:
# most pixels are paper, so the blank page is nearly the median of everything, and the gradient of absolute error is as
# weak for a bad miss as for a slight one. We take two copies of the trained autoencoder and train one further on
# squared, the other on absolute error, for equally many steps. Each is judged by both measures, and by the share of
# pixels that are neither ink nor paper (between 0.1 and 0.9).

# %%
def absolute_error(model, x):
    return F.l1_loss(model(x), x)


copies, mae = {}, {}
for name, loss in {"MSE": squared_error, "L1": absolute_error}.items():
    model = copy.deepcopy(ae).requires_grad_(True)
    copies[name] = train_model(model, loss, f"then {loss.__name__}", steps=STEPS // 2)(x_test)
    errors[name], mae[name] = mse(copies[name], x_test), F.l1_loss(copies[name], x_test).item()
for name, x_hat in {"original": x_test, **copies}.items():
    grey = ((x_hat > 0.1) & (x_hat < 0.9)).float().mean()
    print(f"{name:9s} squared error {mse(x_hat, x_test):.4f}  absolute error {F.l1_loss(x_hat, x_test):.4f}  "
          f"grey pixels {100 * grey:.1f} %")

# %% mystnb={"image": {"alt": "Ten digits and their copies, trained on squared error and on absolute error"}}
plots.show_rows({"original": x_test[20:30], "MSE": copies["MSE"][20:30], "L1": copies["L1"][20:30]})

# %% [markdown]
# **Figure 1.6.** Ten test digits and their copies after further training on squared and on absolute error.
#
# Each wins by its own measure, as (1.3) leads us to expect. The absolute error's copies have cleaner paper and fewer
# grey pixels (figure 1.6), which looks like quality and is partly a habit of leaving out what is uncertain. No loss is
# innocent: choose it by the mistake you can bear.
#
# ## Walking between two codes
#
# A code is a point, so two images can be joined by a line, $z_t = (1 - t)\, z_a + t\, z_b$. If the decoder
# has understood that digits are made of strokes, the strokes should move on the way. Averaging the pixels instead
# only fades one picture into the other.

# %%
a, b = x_test[y_test == 3][:1], x_test[y_test == 8][:1]
explorer = widgets.LatentExplorer.between(
    ae.decoder, ae.encode(a)[0], ae.encode(b)[0], size=196,
    caption="t = 0 is a 3, t = 1 is an 8; the decoder runs in your browser", alt="Digit decoded between a 3 and an 8, ")
t = torch.linspace(0, 1, 10)[:, None]
walk = explorer.decode(t)                                            # what the browser draws, (10, 28, 28)
by_hand = ae.decode((1 - t.to(device)) * ae.encode(a) + t.to(device) * ae.encode(b))

# %% tags=["nbval-check-output"]
print("walk:", tuple(walk.shape), "as the decoder draws it:", torch.allclose(walk, by_hand[:, 0].cpu(), atol=0.02))

# %% mystnb={"image": {"alt": "Two rows from a 3 to an 8: decoded along the line of codes, and pixels faded over"}}
fade = (1 - t.view(-1, 1, 1, 1).to(device)) * a + t.view(-1, 1, 1, 1).to(device) * b
plots.show_rows({"codes": walk, "pixels": fade})

# %% [markdown]
# **Figure 1.7.** From a 3 to an 8: decoded along the line between the codes, and pixels faded over.
#
# Near the ends of the upper row of figure 1.7 the strokes do move. Halfway the decoder draws neither a 3 nor an 8 but a
# smudge; a later section measures such midpoints.

# %%
explorer

# %% [markdown]
# ## The denoising autoencoder
#
# A bottleneck is one way to forbid mere copying. Another is to spoil the input and still ask for the clean image
# (Vincent et al. 2008):
#
# $$ \min_{\phi, \theta} \; \mathbb{E}_{x} \, \mathbb{E}_{\tilde x \mid x}
# \lVert x - g_\theta(f_\phi(\tilde x)) \rVert^2 . \tag{1.4} $$
#
# By (1.3), applied to each $\tilde x$, the best such network returns $\mathbb{E}[x \mid \tilde x]$, the mean of all
# clean images that might hide behind the noise. To do that it must know which images are likely, and so it learns
# about their distribution: chapter 7 makes a generator out of this one sentence. We spoil in two ways.
# Gaussian noise, $\tilde x = x + \sigma \varepsilon$, shifts all pixels a little, as a low dose does to an X-ray.
# Salt and pepper sets a share $p$ of pixels to black or white and leaves the others alone, as a faulty detector does.

# %%
def gaussian(x, level):
    return x + level * torch.randn_like(x)


def salt_and_pepper(x, level):
    u = torch.rand_like(x)
    return torch.where(u < level / 2, 0.0, torch.where(u > 1 - level / 2, 1.0, x))


def denoising_error(spoil, worst):
    """A loss that spoils each image at its own level, from 0 to `worst`; the target stays clean."""
    def loss(model, x):
        level = worst * torch.rand(len(x), 1, 1, 1, device=x.device)
        return F.mse_loss(model(spoil(x, level)), x)
    return loss


# %%
torch.manual_seed(SEED)
dae_gaussian = train_model(AutoEncoder(mean=mean), denoising_error(gaussian, 1.0), "denoising, Gaussian")
torch.manual_seed(SEED)
dae_salt = train_model(AutoEncoder(mean=mean), denoising_error(salt_and_pepper, 0.7), "denoising, salt and pepper")

# %% [markdown]
# Does it help to train on noise, and does it have to be the right noise? We spoil the test images in both ways, and
# let the plain autoencoder and both denoising ones try.

# %% [markdown]
# **Exercise 1.2 (predict ★★). The error of doing nothing.** Salt and pepper touches a share $p = 0.3$ of the pixels,
# and sets each of these to 0 or to 1 with equal chances. Nearly every pixel of a digit is 0 or 1 already. What is then,
# nearly, the mean squared error per pixel of the spoilt image itself, before anyone has denoised it? It is what every
# denoiser below has to beat.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Take one pixel that is touched, and suppose it is black. Which two things can happen to it?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Share of pixels that are touched, times the chance that a touched one ends on the wrong side, times the squared miss.
#
# </details>

# %% tags=["answer"]
prediction_1_2 = None  # a number

# %% tags=["check"]
sheet.check("1.2", prediction_1_2)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.2</summary>
#
# Of the touched pixels half land where they were, and the others miss by 1: $p/2$. The measured error, in the next
# cell under "untouched", is a little less, since grey pixels are missed by less. Gaussian noise costs its variance,
# $\sigma^2$, whatever the picture.
#
# ```python
# prediction_1_2 = 0.3 / 2
# ```
#
# </details>

# %%
torch.manual_seed(SEED + 1)
noisy = {"Gaussian": gaussian(x_test, 0.5), "salt and pepper": salt_and_pepper(x_test, 0.3)}
denoisers = {"plain": ae, "Gaussian": dae_gaussian, "salt and pepper": dae_salt}
denoised = {(noise, name): mse(model(x), x_test) for noise, x in noisy.items() for name, model in denoisers.items()}
for noise, x in noisy.items():
    results = ", ".join(f"{name} {denoised[noise, name]:.4f}" for name in denoisers)
    print(f"{noise:16s} untouched {mse(x, x_test):.4f}; trained on: {results}")

# %% mystnb={"image": {"alt": "Ten digits, clean, with Gaussian noise, with salt and pepper, and denoised"}}
plots.show_rows({"clean": x_test[:10], "Gaussian": noisy["Gaussian"][:10],
                 "denoised": dae_gaussian(noisy["Gaussian"][:10]), "salt, pepper": noisy["salt and pepper"][:10],
                 "denoised ": dae_salt(noisy["salt and pepper"][:10])})

# %% [markdown]
# **Figure 1.8.** Ten test digits spoilt in two ways, and what the network trained on that noise makes of them.
#
# Figure 1.8 shows the two networks that know their noise. A plain autoencoder removes most of it too, because noise
# does not fit through the bottleneck. But it has never been told what to do with such inputs, and its error is a
# multiple of that of its copies of clean ones. Training on either noise helps against both, and the right one helps
# most.
#
# Watch the copies as the noise grows. At low levels the network recovers *this* digit; at high levels it draws *a*
# digit, clean and plausible, and not always the one that was there. **A denoised medical image that looks clean is no
# evidence that it is true**: where the data run out, the training set speaks.

# %%
levels = [round(0.1 * i, 1) for i in range(13)]
torch.manual_seed(SEED + 2)
eps = torch.randn_like(x_test[:9])                                   # one noise pattern, scaled
frames = [[plots.tile(x, 3, 3) for x in (x_test[:9], x_test[:9] + s * eps, dae_gaussian(x_test[:9] + s * eps))]
          for s in levels]
noise_slider = widgets.FrameSlider(frames, labels=levels, description="noise level", start=5, width=150,
                                   captions=["clean", "noisy", "denoised"])

# %% tags=["nbval-check-output"]
for position in (0, 6, 12):
    print("noise", levels[position], "pictures:", [picture.shape for picture in noise_slider.frame(position)])

# %%
noise_slider

# %% [markdown]
# ## The k-sparse autoencoder
#
# A third way to forbid copying: many units, few of which may speak at a time. The k-sparse autoencoder (Makhzani and
# Frey 2014) keeps the $k$ largest hidden units of each image and sets the others to zero:
#
# $$ h = W(x - \mu) + b, \qquad z = \begin{cases} h_i & \text{if } h_i \text{ is among the } k \text{ largest} \\
# 0 & \text{otherwise,} \end{cases} \qquad \hat x = g(z) . \tag{1.5} $$
#
# Which units speak is itself information, so $k$ of many numbers can say more than $k$ of $k$. The gradient flows
# through the winners only. The decoder is one linear layer and a sigmoid, so each unit owns one picture: its
# column of weights, which it adds to the drawing when it speaks.

# %%
UNITS, K = 256, 24  # all units, and those that may speak: yours to change


class KSparse(AutoEncoder):
    """One wide hidden layer of which the k largest units are kept."""

    def __init__(self, *, units=UNITS, k=K, mean):
        super().__init__(mean=mean)
        self.k, output_bias = k, self.decoder[2].bias.data
        self.encoder = nn.Linear(784, units)
        self.decoder = nn.Sequential(nn.Linear(units, 784), nn.Sigmoid())
        self.decoder[0].bias.data = output_bias

    def encode(self, x):
        h = self.encoder(x.flatten(1) - self.mean)                   # (B, units)
        kept = h.topk(self.k, dim=1)
        return torch.zeros_like(h).scatter(1, kept.indices, kept.values)


torch.manual_seed(SEED)
sparse = train_model(KSparse(mean=mean), squared_error, "k-sparse")
errors["k-sparse"] = mse(sparse(x_test), x_test)
dead, speaking = census(sparse)
print(f"k-sparse: error {errors['k-sparse']:.4f}, dead units {dead} of {UNITS}, {speaking:.1f} speak for an image")

# %% mystnb={"image": {"alt": "Forty decoder pictures of the k-sparse autoencoder: pieces of strokes"}}
often = (sparse.encode(x_test) > 0).float().mean(0).argsort(descending=True)[:40]
pictures = sparse.decoder[0].weight.T[often].view(-1, 1, 28, 28)     # ink a unit adds (white) or removes (black)
plots.show_grid(0.5 + 0.5 * pictures / pictures.abs().amax((1, 2, 3), keepdim=True), columns=10,
                title="what the forty busiest units add (white) and take away (black)")

# %% [markdown]
# **Figure 1.9.** Columns of the k-sparse decoder's weights, each scaled to its own largest entry.
#
# The dead units never win a place among the 24, for any image, and die of the same cause as those under the rectifier:
# no gradient reaches a loser.
#
# Some of the pictures in figure 1.9 are outlines of a digit, many are several strokes laid over each other, none is a
# single dot: a unit is a correction that a whole group of images can use. Try $k = 5$, and the pictures become clearer
# prototypes, at the price of a larger error.
#
# ## Do codes help when labels are few?
#
# This is what the hospital's archive was for. We pretend that only $n$ of the training images have labels, fit a linear
# classifier (multinomial logistic regression) on some description of those $n$, and test it on all test images.
# Descriptions: the 784 pixels, 32 principal components, the code of the plain and of the denoising autoencoder, and the
# k-sparse code; all these were learned from the whole unlabelled training set. One more is a control: a k-sparse code
# with the random weights it had *before* training. If it does as well, learning was not the reason. The labelled images
# are drawn anew five times, equally many of each class, because with twenty labels the luck of the draw is larger than
# most differences between methods.

# %%
torch.manual_seed(SEED)
untrained = KSparse(mean=mean).to(device).requires_grad_(False)
encoders = {"pixels": lambda x: x.flatten(1), "PCA": pca_encode, "autoencoder": ae.encode,
            "denoising": dae_gaussian.encode, "k-sparse": sparse.encode, "untrained": untrained.encode}
COUNTS, DRAWS = (20, 50, 200, 1000), 5
by_class = [(y_train == k).nonzero().flatten().cpu() for k in range(10)]
picker = torch.Generator().manual_seed(SEED)
draws = {n: [torch.cat([rows[torch.randperm(len(rows), generator=picker)[: n // 10]] for rows in by_class])
             for _ in range(DRAWS)] for n in COUNTS}

accuracy = {}  # (description, n) -> (DRAWS,)
for name, encode in encoders.items():
    features, features_test = encode(x_train), encode(x_test)
    for n in COUNTS:
        accuracy[name, n] = torch.tensor([
            metrics.linear_probe(features[rows], y_train[rows], features_test, y_test, per_feature=False)
            for rows in draws[n]])
    print(f"{name:12s}", "  ".join(f"n={n}: {100 * accuracy[name, n].mean():.1f} ± {100 * accuracy[name, n].std():.1f}"
                                   for n in COUNTS))

# %% [markdown]
# The deviations are large, but much of them is shared: an unlucky draw is unlucky for every description. So we
# compare in pairs, each description with the pixels *on the same draw*, and plot mean and deviation of the difference.

# %% mystnb={"image": {"alt": "Gain in accuracy over pixels against the number of labels, with deviations"}}
gain = {key: 100 * (accuracy[key] - accuracy["pixels", key[1]]) for key in accuracy if key[0] != "pixels"}
fig, ax = plots.figure(6.5, 3.2)
for i, name in enumerate(list(encoders)[1:]):
    ax.errorbar([place + 0.1 * (i - 2) for place in range(len(COUNTS))], [gain[name, n].mean() for n in COUNTS],
                [gain[name, n].std() for n in COUNTS], fmt="o", capsize=3, label=name)
ax.axhline(0, color="#777777", linestyle="--", linewidth=1.2)
ax.set_xticks(range(len(COUNTS)), labels=COUNTS)
ax.set(xlabel="labelled images", ylabel="points of accuracy over pixels")
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=5)
fig

# %% [markdown]
# **Figure 1.10.** Accuracy minus that of the pixels on the same labelled images, mean and deviation over five draws.
#
# Read figure 1.10 honestly.
# - Squeezing 784 pixels into 32 numbers costs a linear classifier little, and gains it little. PCA does as well as the
#   plain autoencoder, though its copies are much worse: **a better copy is not a better description.** The loss paid
#   for pixels, and pixels are what it bought.
# - The denoising code is ahead of the plain one when labels are many, by a point or two.
# - The k-sparse code is well ahead of the pixels from fifty labels on, and the control falls well behind them: it is
#   not the width alone but what was learned. A code that is wide and selective may say in a linear way what pixels say
#   only jointly; the other learned codes are neither, so which of the two counts stays open.
# - With twenty labels one draw differs from the next by more than one code from another. In pairs, on the same draws,
#   the k-sparse code is still ahead, by some two points; the other learned codes are level with the pixels. A study
#   that reports a single draw of twenty patients reports luck.
#
# Whether such a gain carries over to X-rays has to be measured there; a convolutional classifier with augmentation is
# a stronger opponent than pixels.

# %% [markdown]
# ## From a decoder to a generator: the prior is the model
#
# The decoder makes an image of any 32 numbers. So draw numbers at random, decode, and have new digits? The trouble is
# *which* numbers. Nothing in (1.1) says where codes should lie. It cannot: doubling every code and halving the
# decoder's first weights leaves the loss unchanged, so the loss does not even fix their scale (exercise 1.13). A
# generator is a decoder *and* a distribution of codes, its **prior** $p(z)$, and an autoencoder is only half of one.
#
# The other half can be supplied afterwards: look at the codes of the training images, and fit a distribution to them
# (Ghosh et al. 2020). How good a generator that makes depends on how well the distribution fits. We try four, from
# ignorant to better informed: normal noise through a rectifier, which knows nothing of the codes; each unit uniform
# over its range; each unit drawn from the values that it takes for real images, but independently of the others; and a
# single Gaussian with the codes' mean and covariance, through the rectifier. Points midway between the codes of two
# images of different classes show what lies between.

# %%
torch.manual_seed(SEED + 3)
z_train, n = ae.encode(x_train), 2000
order = torch.rand(len(z_train), CODE, device=device).argsort(0)[:n]   # a shuffle of its own for each unit
covariance = torch.cov(z_train.T) + 1e-4 * torch.eye(CODE, device=device)
fitted = z_train.mean(0) + torch.randn(n, CODE, device=device) @ torch.linalg.cholesky(covariance).T
i, j = torch.randint(len(z_train), (2, 3 * n), device=device)
unlike = y_train[i] != y_train[j]
codes = {
    "real codes": ae.encode(x_test[-n:]),
    "midway": (0.5 * (z_train[i] + z_train[j]))[unlike][:n],
    "Gaussian fit": fitted.relu(),
    "units shuffled": z_train.gather(0, order),
    "uniform": torch.rand(n, CODE, device=device) * z_train.amax(0),
    "N(0, I), ReLU": torch.randn(n, CODE, device=device).relu(),
}
decoded = {name: ae.decode(z) for name, z in codes.items()}

# %% mystnb={"image": {"alt": "Images decoded from real codes, which are digits, and from random codes"}}
plots.show_rows({name: x[:10] for name, x in decoded.items()})

# %% [markdown]
# **Figure 1.11.** Decoded from the codes of test images, from points midway between two codes, and from draws of four
# priors; the first ten of each.
#
# Figure 1.11 says most of it. To put a number on it we ask a classifier of digits that reads real ones well (it ships
# with the project). It gives ten probabilities $p_k$ to each image. Their entropy $H(p) = -\sum_k p_k \ln p_k$ is 0
# where it is certain and $\ln 10 \approx 2.30$ nats where it has no idea. But certainty is not enough: a decoder that
# draws one smudge for every code, and a judge that is sure the smudge is an 8, would score perfectly. So we also ask
# how many digits occur, and take the difference of two entropies,
#
# $$ I = H(\bar p) - \overline{H(p)} , \tag{1.6} $$
#
# where the bar is the mean over images. It is large only if each image reads as one digit *and* all digits occur. With
# another classifier this is the logarithm of the **inception score** (Salimans et al. 2016).

# %% [markdown]
# **Exercise 1.3 (predict ★). A generator that knows four digits.** A decoder draws only 0, 1, 4 and 7, all four equally
# often, and our classifier reads each drawing with certainty. How large is (1.6), in nats? You will need it to read the
# table that follows.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Take the two terms one by one. What is the entropy of a reading that is certain?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The mean of all readings gives a quarter to each of four digits, and nothing to the others.
#
# </details>

# %% tags=["answer"]
prediction_1_3 = None  # a number, in nats

# %% tags=["check"]
sheet.check("1.3", prediction_1_3)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.3</summary>
#
# Certain readings have no entropy, so the second term is 0; the first is that of four equal shares, $\ln 4$. What
# (1.6) counts, its exponential, is here the number of digits that the generator knows.
#
# ```python
# prediction_1_3 = math.log(4)
# ```
#
# </details>

# %%
def reading(x):
    """Mean highest probability, mean entropy, and (1.6), in nats, of our classifier's reading of x (N, 1, 28, 28)."""
    p = metrics.read_digits(x)                                       # (N, 10)
    H = torch.special.entr(p).sum(1).mean()
    return p.amax(1).mean().item(), H.item(), (torch.special.entr(p.mean(0)).sum() - H).item()


readings = {name: reading(x) for name, x in {"test images": x_test[-n:], **decoded}.items()}
for name, (highest, H, information) in readings.items():
    print(f"{name:15s} highest probability {highest:.2f}, entropy {H:.2f}, information (1.6) {information:.2f}")

# %% [markdown]
# Images of real codes read almost as well as the images themselves. The last row shows why certainty is not enough: the
# judge is sure, and $I$ is nearly nothing, for all these codes are short and decode to much the same smudge near the
# mean image. Every other kind of random code falls well behind, and knowing the codes' range, their separate
# distributions or their covariance mends only part of it. (The judge is generous throughout, for it has never seen
# anything but digits and must call a scribble one of them.)
#
# So real codes seem to fill a thin and curved region of their space: even the point midway between two of them is often
# no digit. Nothing is wrong with the decoder. What is missing is a good description of that region, and one Gaussian is
# a poor one. A richer one mends it, without one step of training. Below, two decoders (chapter 2's network, trained as
# a plain autoencoder with 8 and with 32 numbers) are given codes from four priors, and 2,000 drawings of each, cut at
# one half, are judged by (1.6). The second table says how far the codes $q(z)$ lie from the prior: a lower bound of
# $\mathrm{KL}(q \,\|\, p)$ in nats, on codes held out (means and deviations of three seeds; stored, by `make study
# STUDY=prior`):
#
# | log inception score | N(0, I) | one Gaussian | a Gaussian a class | 100 Gaussians | codes of test images |
# | --- | ---: | ---: | ---: | ---: | ---: |
# | autoencoder, d = 8 | 0.48 ± 0.08 | 1.85 ± 0.05 | 2.12 ± 0.00 | 2.20 ± 0.01 | 2.17 ± 0.00 |
# | autoencoder, d = 32 | 1.41 ± 0.03 | 1.46 ± 0.02 | 1.98 ± 0.01 | 2.13 ± 0.02 | 2.23 ± 0.00 |
#
# | KL(q ‖ p) at least | N(0, I) | one Gaussian | a Gaussian a class | 100 Gaussians | codes of test images |
# | --- | ---: | ---: | ---: | ---: | ---: |
# | autoencoder, d = 8 | 12.1 ± 0.6 | 2.5 ± 0.1 | 0.7 ± 0.1 | 0.0 ± 0.0 |  |
# | autoencoder, d = 32 | 19.8 ± 0.3 | 15.6 ± 0.2 | 5.8 ± 0.2 | 0.2 ± 0.2 |  |
#
# With a hundred Gaussians the decoder of 8 numbers draws digits that are read as surely as its copies of real ones. The
# decoder never changed; the prior is what makes it a generator, a poor one or a good one. Chapters 2 and 3 add rows to
# this table.
#
# The main model of every chapter goes on a [scoreboard](scoreboard.md), with its quality, variety and cost. The
# autoencoder is the yardstick there for those that bring their prior with them. Its row holds 2,000 images decoded from
# the one Gaussian.

# %% tags=["nbval-check-output"]
generator, root = torch.Generator(device).manual_seed(SEED), torch.linalg.cholesky(covariance).T
drawn, per_image = metrics.timed_samples(lambda: ae.decode(
    (z_train.mean(0) + torch.randn(n, CODE, generator=generator, device=device) @ root).relu()))
expect.model("autoencoder", report=metrics.sample_report(drawn, test_set, held_out=val_set), samples=drawn,
             real=test_set, train_seconds=histories["started from the mean"].seconds, sample_seconds=per_image,
             parameters=ae.decoder, note="no generative model: codes from a Gaussian fitted to the training codes")

# %% [markdown]
# A code of two numbers lets us look at such a region. We train one, without the rectifier, which would squeeze
# everything into a quadrant.

# %%
torch.manual_seed(SEED)
flat = train_model(AutoEncoder(code=2, code_relu=False, mean=mean), squared_error, "two numbers")
z_flat = flat.encode(x_test[:2000]).cpu()
low, high = z_flat.quantile(0.02, dim=0), z_flat.quantile(0.98, dim=0)
steps = torch.linspace(0, 1, 13)
lattice = torch.stack([torch.stack([low[0] + u * (high[0] - low[0]), high[1] - v * (high[1] - low[1])])
                       for v in steps for u in steps])               # (169, 2), top row first
page = plots.tile(flat.decode(lattice.to(device)), 13, 13)

# %% mystnb={"image": {"alt": "Left: codes of test images coloured by digit. Right: images decoded on a lattice"}}
fig, axes = plots.figure(8.0, 4.0, 1, 2)
for k in range(10):
    points = z_flat[test_set.labels[:2000] == k]
    axes[0].scatter(*points.T, s=5, alpha=0.6, color=f"C{k}" if k < 7 else ["#999999", "#7F3C8D", "#80BA5A"][k - 7])
    axes[0].annotate(str(k), points.median(0).values.tolist(), fontsize=13, weight="bold", ha="center",
                     bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0})
axes[0].set(xlabel="$z_1$", ylabel="$z_2$", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
axes[1].imshow(page, cmap="gray", vmin=0, vmax=1, extent=[0, 1, 0, 1])
axes[1].set_axis_off()
fig

# %% [markdown]
# **Figure 1.12.** Left, codes of 2,000 test digits, two numbers each (the outermost lie beyond the window); right, what
# the decoder draws on a lattice over the same window.
#
# On the left of figure 1.12, real codes gather in arms of unequal width, with bare ground between them, and the axes'
# units mean nothing. On the right, the decoder answers at every place of the same window, and between two arms one
# digit passes into another. Two numbers leave little bare ground; in 32 dimensions, by the drawings of figure 1.11,
# most ground is bare. [Chapter 2](02_vae.ipynb) goes the other way round: it names $p(z)$ before training, charges for
# codes that stray from it, and trains the decoder on noisy codes.
#
# ## What this chapter promises
#
# Each line was checked in this run, on these data.

# %% tags=["nbval-check-output"]
expect("autoencoder, test squared error per pixel", errors["from mean"], below={"mnist": 0.0115, "strokes": 0.0098})
expect(f"autoencoder's error as a share of PCA's, {CODE} numbers each", errors["from mean"] / pca_error, below=0.75)
expect("error started from the mean as a share of the book's", errors["from mean"] / errors["book"], below=0.9)
expect("squared error, trained on squared as a share of trained on absolute", errors["MSE"] / errors["L1"], below=0.95)
expect("absolute error, trained on absolute as a share of trained on squared", mae["L1"] / mae["MSE"], below=0.97)
expect("k-sparse error as a share of PCA's", errors["k-sparse"] / pca_error, below=0.7)
for noise, bar in {"Gaussian": 0.78, "salt and pepper": 0.7}.items():
    expect(f"{noise} noise: denoising autoencoder's error as a share of the plain one's",
           denoised[noise, noise] / denoised[noise, "plain"], below=bar)
best_linear = (eigenvalues * 0.5**2 / (eigenvalues + 0.5**2)).sum().item() / 784  # exercise 1.9
expect("Gaussian noise: denoising autoencoder's error as a share of the best linear denoiser's",
       denoised["Gaussian", "Gaussian"] / best_linear, below=0.95)
expect("accuracy with 200 labels, k-sparse code minus pixels, points", gain["k-sparse", 200].mean(), above=1)
expect("accuracy with 200 labels, k-sparse code minus the untrained one, points",
       (gain["k-sparse", 200] - gain["untrained", 200]).mean(), above=6)
best_guess = max(readings[name][2] for name in list(codes)[2:])
expect("information (1.6) in images of real codes minus that of the best random ones, nats",
       readings["real codes"][2] - best_guess, above=0.6)

# %%
print(f"training took {sum(h.seconds for h in histories.values()):.0f} s for {len(histories)} models")

# %% [markdown]
# ## Exercises
#
# Each exercise has a cell for your answer; the cell below it checks it, and says what it can about a mistake. One star
# takes a minute or two, three take half an hour. What is left open stops nothing. The first three stand above, each
# just before the result that it asks for.

# %% [markdown]
# **Exercise 1.4 (code ★). The error of (1.1).** Write the number that (1.1) minimises, for one batch: the squared
# distance of each copy from its original, averaged over the images. This chapter's tables state it per pixel, which
# changes no minimum; from [chapter 2](02_vae.ipynb) on, where other terms stand beside it, the difference is a factor
# of 784.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Two different things are done with two kinds of axes: one with the pixels, one with the images.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `.flatten(1)` puts all pixels of an image into one axis, whatever its shape.
#
# </details>

# %% tags=["answer"]
def reconstruction_error(x_hat, x):
    """Mean over the images of the squared norm of x - x_hat.

    x_hat, x (B, 1, H, W): copies and originals.  Returns a number.
    """
    ...

# %% tags=["check"]
sheet.check("1.4", reconstruction_error)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.4</summary>
#
# The pixels of an image are added up, the images averaged.
#
# ```python
# def reconstruction_error(x_hat, x):
#     return (x - x_hat).square().flatten(1).sum(1).mean()
# ```
#
# </details>

# %% [markdown]
# **Exercise 1.5 (predict ★). An autoencoder for X-rays without labels.** (Review.) You have a hundred thousand chest
# X-rays of $64 \times 64$ pixels, several of each patient, and no labels. Which plan is sound?
#
# - (a) Layers of 4096 units throughout, also the code, trained until the training error is 0.
# - (b) Convolutions of stride 2 down to $8 \times 8$, a linear layer to a code of some dozens of numbers, the mirror
#   image back; squared error between copy and original; the code's width chosen on images of other patients.
# - (c) The encoder of (b) with ten outputs and a softmax, trained on cross-entropy.
# - (d) The network of (b), its code widened for as long as the error on the training images falls.
# - (e) A decoder that draws each pixel from its own bias, trained on squared error.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Ask of each plan: what is the target, what forbids mere copying, and on which images is a choice made?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# One plan needs labels, one has no bottleneck, one no code, and one chooses by an error that can only fall.
#
# </details>

# %% tags=["answer"]
choice_1_5 = None  # "a", "b", "c", "d" or "e"

# %% tags=["check"]
sheet.check("1.5", choice_1_5)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.5</summary>
#
# The plan has all that an autoencoder needs: an encoder and a decoder that suit images, a narrow place, the image
# itself as target, and a measure on images it has never seen. (Chapter 9 stops at $16 \times 16$ and keeps the code as
# a small map.) Take squared error if blurred findings are more acceptable than missing ones, by (1.3). Raise the width
# until the held-out error, or the accuracy of a linear probe on the codes, stops improving.
#
# ```python
# choice_1_5 = "b"
# ```
#
# </details>

# %% [markdown]
# **Exercise 1.6 (code ★★). Principal components, end to end.** Learn (1.2) from the images `train`, and return the
# copies of other images `x` from $d$ numbers each. Images are rows here. This is the opponent that every network of
# this chapter is measured by, and an opponent that is built wrongly is easy to beat.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Three steps: what is common to all training images is taken off; the rest is projected; what was taken off is put
# back.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `torch.linalg.eigh` returns the eigenvalues of a symmetric matrix in rising order, and the eigenvectors as columns in
# the same order.
#
# </details>

# %% tags=["answer"]
def pca_copy(train, x, d):
    """Copies of x by the d principal components of train.

    train (N, n): images to learn from.  x (B, n): images to copy.  Returns (B, n), not clipped.
    """
    ...

# %% tags=["check"]
sheet.check("1.6", pca_copy)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.6</summary>
#
# Mean and directions both belong to the training images. The check takes the right singular vectors of the centred
# images instead, which are the same directions.
#
# ```python
# def pca_copy(train, x, d):
#     mean = train.mean(0)
#     centred = train - mean
#     V = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -d:]
#     return mean + (x - mean) @ V @ V.T
# ```
#
# </details>

# %% [markdown]
# **Exercise 1.7 (predict ★★). What a linear autoencoder finds.** Take every nonlinearity out of the network: $z =
# W(x - \mu)$ and $\hat x = \mu + V z$, with $d$ numbers in the code, both matrices trained on (1.1) for as long as you
# like. What do you know of the result? Exercise 1.8 puts it to the test.
#
# - (a) The rows of $W$ are the leading $d$ eigenvectors of the covariance, and the columns of $V$ too.
# - (b) With enough steps its training error falls below that of PCA.
# - (c) Its training error approaches that of PCA, $\sum_{i > d} \lambda_i$; the columns of $V$ span the space of the
#   leading eigenvectors, and $W$ need not be made of eigenvectors.
# - (d) Training may end in a poor local minimum, with the space of other eigenvectors.
# - (e) The columns of $V$ are orthogonal, but not sorted by variance as the eigenvectors are.
#
# <details class="hint"><summary>Hint 1</summary>
#
# What happens to the copies if $W$ is replaced by $AW$, and $V$ by $VA^{-1}$?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Read again what the theorems of Eckart and Young and of Baldi and Hornik are cited for, below (1.2).
#
# </details>

# %% tags=["answer"]
choice_1_7 = None  # "a", "b", "c", "d" or "e"

# %% tags=["check"]
sheet.check("1.7", choice_1_7)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.7</summary>
#
# By (1.2) no linear pair goes below $\sum_{i > d} \lambda_i$, and there are no other minima to be caught in. Any
# invertible $A$ gives an equally good pair, $AW$ and $VA^{-1}$, so $W$ is *not* the eigenvectors and its rows need not
# be orthogonal; only the product $VW$ is determined, the projection on their space.
#
# ```python
# choice_1_7 = "c"
# ```
#
# </details>

# %% [markdown]
# **Exercise 1.8 (investigate ★★★). Train one.** Write the training loop of that linear autoencoder: plain gradient
# descent on (1.1), all images in every step, from the given $W$ and $V$. The images are centred and stand in rows, so
# codes are `x @ W.T` and copies `z @ V.T`. The check compares your matrices after a few steps. Then investigate: give
# it data with eigenvalues of your choice, let it run for some thousands of steps, and look at the error against
# $\sum_{i > d} \lambda_i$, at $VW$, and at $W$.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Either write the two gradients by hand, or let autograd find them: `torch.autograd.grad(loss, (W, V))` asks for no
# `.grad` and no zeroing, if `W` and `V` require gradients.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# With the miss $m = \hat x - x$ in rows, the gradient by $V$ is $\frac2N m^\top z$, and the one by $W$ is $\frac2N
# (mV)^\top x$. Take both before you move either.
#
# </details>

# %% tags=["answer"]
def train_linear(x, W, V, rate, steps):
    """W and V after `steps` steps of gradient descent on the mean over images of the squared norm of x - x_hat.

    x (N, n): centred images.  W (d, n), V (n, d): where to start.  rate: of the descent.  Returns W, V.
    """
    ...

# %% tags=["check"]
sheet.check("1.8", train_linear)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.8</summary>
#
# Both gradients are taken at the same place.
#
# ```python
# def train_linear(x, W, V, rate, steps):
#     for _ in range(steps):
#         z = x @ W.T
#         miss = z @ V.T - x
#         of_W, of_V = 2 * (miss @ V).T @ x / len(x), 2 * miss.T @ z / len(x)
#         W, V = W - rate * of_W, V - rate * of_V
#     return W, V
# ```
#
# Let it run on:
#
# ```
# torch.manual_seed(0)
# x = torch.randn(500, 5) * torch.tensor([2.0, 1.5, 1.0, 0.5, 0.3])
# x = x - x.mean(0)
# values, vectors = torch.linalg.eigh(x.T @ x / len(x))
# W, V = train_linear(x, 0.3 * torch.randn(2, 5), 0.3 * torch.randn(5, 2), 0.02, 5000)
# print((x - x @ W.T @ V.T).square().sum(1).mean(), values[:-2].sum())       # the same
# print((V @ W - vectors[:, -2:] @ vectors[:, -2:].T).abs().max())            # nothing: the projection
# print(W @ W.T, W @ vectors[:, -2:])                                         # neither a unit matrix nor a permutation
# ```
#
# The error is PCA's, $VW$ is the projection on the leading eigenvectors, and $W$ is neither orthogonal nor made of
# them. From another start it ends at another $W$, and at the same $VW$.
#
# </details>

# %% [markdown]
# **Exercise 1.9 (derive ★★). The best linear denoiser.** Let $\tilde x = x + \sigma\varepsilon$. Show that the matrix
# $A$ that minimises $\mathbb{E}\lVert x - \mu - A(\tilde x - \mu)\rVert^2$ is diagonal in the basis of the eigenvectors
# of $C$, and return its gains $a_i$ and the least error as functions of the eigenvalues $\lambda_i$ and of $\sigma$. No
# bottleneck is needed: this filter is the reference beside which a denoising network should be put.
#
# <details class="hint"><summary>Hint 1</summary>
#
# In the eigenvectors' basis the coordinates do not hang together, so each can be treated alone: a signal of variance
# $\lambda$, noise of variance $\sigma^2$, and one number $a$ to multiply by.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The error of one coordinate is $(1 - a)^2 \lambda + a^2 \sigma^2$: what is cut off, and what is let through.
#
# </details>

# %% tags=["answer"]
def linear_denoiser(eigenvalues, sigma):
    """The best gain in each direction, and the squared error of all directions together.

    eigenvalues (n,): of the covariance.  sigma: the noise's standard deviation.  Returns gains (n,), error.
    """
    ...

# %% tags=["check"]
sheet.check("1.9", linear_denoiser)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.9</summary>
#
# Setting the derivative by $A$ to zero gives $A\,\mathbb{E}[(\tilde x - \mu)(\tilde x - \mu)^\top] =
# \mathbb{E}[(x - \mu)(\tilde x - \mu)^\top]$, that is $A(C + \sigma^2 I) = C$, so $A = C(C + \sigma^2 I)^{-1}$. In the
# basis of eigenvectors every coordinate is multiplied by $a_i = \lambda_i/(\lambda_i + \sigma^2)$: directions with more
# signal than noise are kept, the others shrunk. The error in coordinate $i$ is
# $(1 - a_i)^2 \lambda_i + a_i^2 \sigma^2 = \lambda_i\sigma^2/(\lambda_i + \sigma^2)$.
#
# ```python
# def linear_denoiser(eigenvalues, sigma):
#     gains = eigenvalues / (eigenvalues + sigma**2)
#     return gains, (gains * sigma**2).sum()
# ```
#
# On this chapter's training images, `linear_denoiser(eigenvalues, 0.5)[1] / 784` is the error per pixel that no linear
# filter beats, not even with all 784 coordinates. The chapter promises that the denoising autoencoder, with 32, does.
#
# </details>

# %% [markdown]
# **Exercise 1.10 (predict ★). Overfitting, noticed and treated.** (Review.) An autoencoder is trained on a few
# hundred scans of some dozens of patients. Which of these sentences is right?
#
# - (a) It cannot overfit: with a bottleneck it has no room to learn images by heart.
# - (b) Hold out every fifth scan at random, and compare the errors on the two parts.
# - (c) Overfitting would show as a training error that stops falling.
# - (d) Hold out whole patients; if the error on theirs stays far above the training error, spoil the inputs with fresh
#   noise, the targets staying clean: this narrows the gap.
# - (e) A wider code and more layers would help the network to copy new images as well as it copies its own.
#
# <details class="hint"><summary>Hint 1</summary>
#
# How much do two scans of one patient differ, compared with scans of two patients?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# An image to which noise is added anew at each step never comes twice.
#
# </details>

# %% tags=["answer"]
choice_1_10 = None  # "a", "b", "c", "d" or "e"

# %% tags=["check"]
sheet.check("1.10", choice_1_10)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.10</summary>
#
# It learns *these* images in place of images: the error on the training set goes on falling and that on held-out
# images does not. In medicine hold out patients, not images; two scans of one person are nearly copies, and a split by
# image hides the fault. Remedies: more unlabelled images (cheap, that is the point), a narrower bottleneck, noise on
# the input, sparsity, weight decay, early stopping on held-out error. See it with this chapter's own functions:
#
# ```
# few = train_set.subset(torch.arange(300))
# for name, loss in {"plain": squared_error, "denoising": denoising_error(gaussian, 1.0)}.items():
#     torch.manual_seed(SEED)
#     model = train_model(AutoEncoder(mean=mean), loss, f"300 images, {name}", images=few, batch_size=100)
#     print(name, "on its images", mse(model(x_train[:300]), x_train[:300]), "on others", mse(model(x_test), x_test))
# ```
#
# ```python
# choice_1_10 = "d"
# ```
#
# </details>

# %% [markdown]
# **Exercise 1.11 (code ★★). Keep the k largest.** The competition in (1.5): of each image's hidden units keep the $k$
# largest with their values, and set the others to zero. The result has the shape of `h`. Values may have either sign.
#
# <details class="hint"><summary>Hint 1</summary>
#
# `h.topk(k, dim=...)` gives values and their places. Along which axis do units compete?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Put the values back at their places in a tensor of zeros: `scatter`.
#
# </details>

# %% tags=["answer"]
def keep_largest(h, k):
    """The k largest units of each image, the others zero.

    h (B, units): before the competition.  k: how many may speak.  Returns (B, units).
    """
    ...

# %% tags=["check"]
sheet.check("1.11", keep_largest)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.11</summary>
#
# Units of one image compete, not images of one batch; and the largest win, which is not the same as those of largest
# absolute value.
#
# ```python
# def keep_largest(h, k):
#     kept = h.topk(k, dim=1)
#     return torch.zeros_like(h).scatter(1, kept.indices, kept.values)
# ```
#
# </details>

# %% [markdown]
# **Exercise 1.12 (code ★★★). The gradient that a dead unit does not get.** Images $x$ in rows, codes $z =
# \operatorname{ReLU}(x W^\top + b)$, copies $\hat x = z V^\top$, and the loss (1.1). Return its gradient by $W$. By
# hand it takes a few matrix products, and the line with the rectifier decides why half of the book's code died. One
# unit of each test is dead: look at its row.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Walk back from the end: the gradient by $\hat x$, then by $z$, then by what stands under the rectifier, then by $W$.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The rectifier's derivative is 1 where its input is positive, and 0 elsewhere: multiply the gradient by $z$ with it,
# entry by entry.
#
# </details>

# %% tags=["answer"]
def encoder_gradient(x, W, b, V):
    """The gradient by W of the mean over images of the squared norm of x - relu(x W' + b) V'.

    x (B, n), W (d, n), b (d,), V (n, d).  Returns (d, n).
    """
    ...

# %% tags=["check"]
sheet.check("1.12", encoder_gradient)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.12</summary>
#
# Where a unit is silent for every image, its column of the mask is empty, and so is its row of the gradient: its
# weights stay as they are for ever, since in this network nothing lies below them that could change.
#
# ```python
# def encoder_gradient(x, W, b, V):
#     before = x @ W.T + b
#     of_copy = 2 * (before.relu() @ V.T - x) / len(x)
#     of_code = of_copy @ V
#     return (of_code * (before > 0)).T @ x
# ```
#
# </details>

# %% [markdown]
# **Exercise 1.13 (derive ★). The loss does not fix the scale.** The encoder ends in $z = \operatorname{ReLU}(W h + b)$,
# and the decoder begins with $V z$. Change the three so that every code becomes $a$ times what it was, $a > 0$, and no
# copy changes. What does this say about drawing $z \sim \mathcal{N}(0, I)$?
#
# <details class="hint"><summary>Hint 1</summary>
#
# For which factors is $\operatorname{ReLU}(a u) = a \operatorname{ReLU}(u)$?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# The rectifier hears $W h + b$, and all of it has to grow.
#
# </details>

# %% tags=["answer"]
def louder(W, b, V, a):
    """Codes a times as large, and the same copies.

    W (d, h), b (d,): the encoder's last layer.  V (k, d): the decoder's first weights.  Returns W, b, V.
    """
    ...

# %% tags=["check"]
sheet.check("1.13", louder)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.13</summary>
#
# For $a > 0$, $\operatorname{ReLU}(a u) = a \operatorname{ReLU}(u)$, so the code becomes $az$ and $(V/a)(az) = Vz$.
#
# ```python
# def louder(W, b, V, a):
#     return a * W, a * b, V / a
# ```
#
# All these networks have the same loss, and the codes of some are ten times as wide as those of others; no fixed
# distribution can suit them all. It has to be named before training and trained for, or fitted to the codes
# afterwards. The same argument works for any invertible map that the layers can express: the geometry of an
# autoencoder's code space, distances included, is in part an accident.
#
# </details>

# %% [markdown]
# **Exercise 1.14 (code ★★). A loss for other quantiles.** With $u = x - \hat x$ the loss $\rho_q(u) = \max(q u,
# (q - 1) u)$ is absolute error, halved, for $q = \tfrac12$. Write its mean over all pixels and images. What does it
# make a decoder draw for $q = 0.9$, and when would a radiologist want that?
#
# <details class="hint"><summary>Hint 1</summary>
#
# Which of the two expressions is the larger where a pixel is drawn too faint, $u > 0$?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `torch.maximum` compares two tensors entry by entry.
#
# </details>

# %% tags=["answer"]
def quantile_loss(x_hat, x, q):
    """The mean of rho_q(x - x_hat) over all pixels of all images.

    x_hat, x (B, 1, H, W): copies and originals.  q: between 0 and 1.  Returns a number.
    """
    ...

# %% tags=["check"]
sheet.check("1.14", quantile_loss)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.14</summary>
#
# The derivative of $\mathbb{E}\,\rho_q(x - c)$ by $c$ is $(1 - q) P(x < c) - q P(x > c)$, which vanishes where
# $P(x < c) = q$: the decoder draws the $q$-quantile of each pixel.
#
# ```python
# def quantile_loss(x_hat, x, q):
#     u = x - x_hat
#     return torch.maximum(q * u, (q - 1) * u).mean()
# ```
#
# With $q = 0.9$ a spot is drawn in full as soon as more than a tenth of the images that share a code have it. That is a
# *sensitive* picture, which errs on the side of showing. It is no picture of any one patient, for the quantile is taken
# at each pixel alone.
#
# </details>

# %% [markdown]
# **Exercise 1.15 (predict ★★). How sensitive a picture.** Of the nine values of `spot`, three are 1 and six are 0. From
# which $q$ on does the loss of exercise 1.14 make the decoder draw the spot in full? Think first, then let a loop over
# $q$ and the candidates `c` of that section confirm it.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Move $c$ a little upwards from 0. By how much does the loss of the six zeros rise, and that of the three ones fall?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Six zeros cost $(1 - q)$ each for a step of 1, three ones gain $q$ each.
#
# </details>

# %% tags=["answer"]
prediction_1_15 = None  # a number between 0 and 1

# %% tags=["check"]
sheet.check("1.15", prediction_1_15)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.15</summary>
#
# The loss as a function of $c$ between 0 and 1 has the slope $\frac19\,(6(1 - q) - 3q)$, which is negative from
# $q = \tfrac69$ on: the share of images *without* the spot.
#
# ```python
# prediction_1_15 = 6 / 9
# ```
#
# </details>

# %% [markdown]
# **Exercise 1.16 (code ★★). Draw from the fitted Gaussian.** Turn a decoder into a generator: given the codes of the
# training images and normal noise, return draws from the Gaussian that has the codes' mean and covariance
# (`torch.cov(codes.T)`), one for each row of `eps`. (The rectifier that this chapter puts behind it is left out.)
#
# <details class="hint"><summary>Hint 1</summary>
#
# In one dimension it is $\mu + \sigma\varepsilon$, with the root of the variance. What is a root of a matrix?
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# `torch.linalg.cholesky(C)` gives $L$ with $LL^\top = C$. For a column $\varepsilon$ the draw is $\mu + L\varepsilon$;
# here draws stand in rows.
#
# </details>

# %% tags=["answer"]
def draw_codes(codes, eps):
    """Draws from the Gaussian with the mean and the covariance of the codes.

    codes (N, d): of training images.  eps (B, d): standard normal noise.  Returns (B, d).
    """
    ...

# %% tags=["check"]
sheet.check("1.16", draw_codes)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.16</summary>
#
# The covariance of $L\varepsilon$ is $L\,\mathbb{E}[\varepsilon\varepsilon^\top] L^\top = LL^\top$. Any other root of
# $C$ does as well; the check looks at mean and covariance alone.
#
# ```python
# def draw_codes(codes, eps):
#     L = torch.linalg.cholesky(torch.cov(codes.T))
#     return codes.mean(0) + eps @ L.T
# ```
#
# </details>

# %% [markdown]
# **Exercise 1.17 (predict ★). The three families.** (Review.) This course treats three families of deep generative
# models. Which sentence names them rightly, with their years and with what each adds to the decoder of this chapter?
#
# - (a) Generative adversarial networks (2013) name a prior and have an encoder; variational autoencoders (2014) have a
#   second network judge the drawings; diffusion models (2015) stack several decoders.
# - (b) Variational autoencoders (2013) train the decoder against a discriminator that knows real images; generative
#   adversarial networks (2014) replace it by a penalty; diffusion models (2020) drop the decoder.
# - (c) Variational autoencoders (2013) name a prior, and pay for codes that stray from it; generative adversarial
#   networks (2014) drop the encoder, and a second network judges what the decoder makes of random codes; diffusion
#   models (2015, 2020) drop the bottleneck, and apply a denoiser many times, from pure noise.
# - (d) Variational autoencoders (2013) name a prior; generative adversarial networks (2014) have a judge; diffusion
#   models (2020) learn an encoder to ever narrower codes, and a decoder for each width.
#
# <details class="hint"><summary>Hint 1</summary>
#
# Chapters 2, 4 and 7 introduce the three, in the order in which they were invented.
#
# </details>
# <details class="hint"><summary>Hint 2</summary>
#
# Which of them has an encoder that is trained, and which has no encoder or a fixed one?
#
# </details>

# %% tags=["answer"]
choice_1_17 = None  # "a", "b", "c" or "d"

# %% tags=["check"]
sheet.check("1.17", choice_1_17)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Solution 1.17</summary>
#
# *Variational autoencoders* (Kingma and Welling, and Rezende et al., 2013–2014) prescribe a distribution of codes, let
# the encoder answer with a distribution, and charge for its distance from the prescribed one. *Generative adversarial
# networks* (Goodfellow et al. 2014) drop the encoder and have a second network judge what the decoder makes of random
# codes. *Diffusion models* (Sohl-Dickstein et al. 2015; Ho et al. 2020) drop the bottleneck: a denoising network,
# trained at all noise levels as in (1.4), is applied many times from pure noise.
#
# ```python
# choice_1_17 = "c"
# ```
#
# </details>

# %%
sheet.summary()

# %% [markdown]
# ## References
#
# - P. Baldi, K. Hornik. *[Neural networks and principal component analysis: learning from examples without local
#   minima](https://doi.org/10.1016/0893-6080%2889%2990014-2).* Neural Networks 2, 1989.
# - C. Eckart, G. Young. *[The approximation of one matrix by another of lower
#   rank](https://doi.org/10.1007/BF02288367).* Psychometrika 1, 1936.
# - P. Ghosh, M. Sajjadi, A. Vergari, M. Black, B. Schölkopf. *[From variational to deterministic
#   autoencoders](https://arxiv.org/abs/1903.12436).* ICLR 2020.
# - I. Goodfellow et al. *[Generative adversarial nets](https://arxiv.org/abs/1406.2661).* NeurIPS 2014.
# - G. Hinton, R. Salakhutdinov. *[Reducing the dimensionality of data with neural
#   networks](https://doi.org/10.1126/science.1127647).* Science 313, 2006.
# - J. Ho, A. Jain, P. Abbeel. *[Denoising diffusion probabilistic models](https://arxiv.org/abs/2006.11239).* NeurIPS
#   2020.
# - D. Kingma, J. Ba. *[Adam: a method for stochastic optimization](https://arxiv.org/abs/1412.6980).* ICLR 2015.
# - D. Kingma, M. Welling. *[Auto-encoding variational Bayes](https://arxiv.org/abs/1312.6114).* ICLR 2014.
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *[Gradient-based learning applied to document
#   recognition](https://doi.org/10.1109/5.726791)* (MNIST). Proceedings of the IEEE 86, 1998.
# - A. Makhzani, B. Frey. *[k-Sparse autoencoders](https://arxiv.org/abs/1312.5663).* ICLR 2014.
# - D. Rezende, S. Mohamed, D. Wierstra. *[Stochastic backpropagation and approximate inference in deep generative
#   models](https://arxiv.org/abs/1401.4082).* ICML 2014.
# - T. Salimans, I. Goodfellow, W. Zaremba, V. Cheung, A. Radford, X. Chen. *[Improved techniques for training
#   GANs](https://arxiv.org/abs/1606.03498).* NeurIPS 2016.
# - J. Sohl-Dickstein et al. *[Deep unsupervised learning using nonequilibrium
#   thermodynamics](https://arxiv.org/abs/1503.03585).* ICML 2015.
# - P. Vincent, H. Larochelle, Y. Bengio, P.-A. Manzagol. *[Extracting and composing robust features with denoising
#   autoencoders](https://doi.org/10.1145/1390156.1390294).* ICML 2008.
