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
# # Capstone. A bird and a cat
#
# **The task.** The textbook's chapter ends with a programming question: with a variational autoencoder, a GAN or
# latent diffusion, generate a bird and a cat from CIFAR-10. This notebook makes a project of it. The pictures are in
# colour, 32 × 32, and of two classes; the generator is told which one is wanted. You choose the model, build it, train
# it, and then do what nobody asks for in such tasks and everybody should: show, with numbers that could have come out
# otherwise, that what it draws is a bird or a cat, that it draws more than one of each, and that these are not the
# pictures it was shown.
#
# You hand in this notebook, run from top to bottom, with your model in it and a page of text. What is here already:
#
# - the data, in one line, and what is to be known about them;
# - the measure, the same for everybody: a reader, five numbers, and two generators that mark the ends of the scale;
# - a starter for each of three routes, with what the earlier chapters give and where they stop;
# - the points.
#
# Plan for one to two days. Everything can be done on one processor core: the trainings that we have in mind take
# minutes, not hours. Running this notebook as it is takes about four minutes of processor time on one core, most of it
# for a run of our own at the end.

# %%
import genmed_core  # noqa: F401  (first: it sets how threads wait)

import torch
from IPython.display import Markdown
from torch import nn
from torch.nn import functional as F

from genmed_core import data, diffusion, kernels, metrics, nets, plots, runtime, train

SEED = runtime.chapter_seed(0)
device = runtime.device()
print(runtime.machine())

# %% [markdown]
# ## The data
#
# CIFAR-10 (Krizhevsky 2009) holds 60,000 photographs of ten classes, among them 6,000 birds and 6,000 cats: one in six
# for testing, the rest for training, of which we set a tenth aside. `data.animals` takes them where their files lie
# (`data/README.md` says where) or can be downloaded. Elsewhere it paints 12,000 birds and cats of its own: four poses
# of each, seven or eight coats, seven backgrounds, any place, size and tilt. The lines that the cell prints say which
# you have.

# %%
train_set, val_set, test_set = (data.animals(split) for split in ("train", "val", "test"))
expect = metrics.Expectations("capstone", source=train_set.source)
BIRD, CAT = 0, 1
x_test, y_test = test_set.images.to(device) / 255, test_set.labels.to(device)


def show(groups, columns=12, width=7.0):
    """{label: images (N, 3, H, W) in [0, 1]} as a picture in colour, each group on as many rows as it needs."""
    rows = {label: x.detach().cpu().float().clamp(0, 1).permute(0, 2, 3, 1).split(columns)
            for label, x in groups.items()}
    page = torch.full((34 * sum(map(len, rows.values())) - 2, 34 * columns - 2, 3), plots.BLANK)
    top, middles = 0, []
    for parts in rows.values():
        middles.append(top + 17 * len(parts))
        for part in parts:
            for j, picture in enumerate(part):
                page[top : top + 32, 34 * j : 34 * j + 32] = picture
            top += 34
    fig, ax = plots.figure(width, width * page.shape[0] / page.shape[1] + 0.1)
    ax.imshow(page, interpolation="nearest")
    ax.set_yticks(middles, labels=list(rows))
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.set_frame_on(False)
    return fig


# %% mystnb={"image": {"alt": "Two rows of twelve small colour pictures of birds, then two rows of cats."}}
show({"birds": x_test[y_test == BIRD][:24], "cats": x_test[y_test == CAT][:24]})

# %% [markdown]
# **Figure C.1.** Test pictures of both classes.
#
# The drawings are for want of better, and they are easier than photographs. A model that draws them well has shown
# less than one that draws CIFAR-10 well, and figures measured on the one are not figures for the other. In one respect
# they are better: every factor that shaped a drawing is known. `train_set.factors["coat"]` is a column of numbers, and
# so are `pose`, `size`, `tilt` and the others that `genmed_core/synthetic/animals.py` lists. You may ask whether your
# model has found them; of photographs you may not.
#
# **Three rules.** Train on `train_set`. Choose whatever you choose (a width, a step count, a guidance) by what you
# measure against `val_set`. Hold the final model against `test_set` once, and report that.
#
# ## The measure
#
# A picture is not good because its maker likes it. Four questions, each with a number, and for each number a value
# that means "as good as real" and one that means "worthless":
#
# - **Is it what was asked for?** A reader, trained below on the real training pictures, looks at every sample. *Read
#   as asked*: the share in which it sees the class that was asked for. Real test pictures set the mark, which is not 1
#   on photographs; coin tossing gives one half.
# - **Is it like the real ones?** The *Fréchet distance* (Heusel et al. 2017) between samples and test pictures, in
#   what the reader sees. It is zero only for the same distribution and an endless number of pictures, so beside it
#   stands its **floor**: what as many *real* pictures score that the model never saw. We divide by it; 1 is perfect.
# - **Is there more than one?** *Diversity* within the class, relative to real pictures, and *recall*, the share of
#   real pictures that have a sample in their neighbourhood. [Chapter 5](05_cgan.ipynb) shows why the first two numbers
#   say nothing about these.
# - **Is it new?** For each sample, the nearest training picture or its mirror image. *Too near*: the share of samples
#   that are nearer to a training picture than the nearest hundredth of the test pictures are. Real pictures score 1 %;
#   much more is a memory, and not a model.
#
# [How the measures work](measuring.md) has a page of its own. All four are for 500 samples, of which half should be
# birds. First the reader. It is a plain convolutional network; what it passes on as features are the averages over the
# picture of two of its layers, so that they know of texture and colour as well as of shape.

# %%
class AnimalReader(nn.Module):
    """Tells birds from cats: x (B, 3, 32, 32) in [0, 1] -> scores (B, 2).

    `features` and `read` are what the project's reports ask of a reader of pictures.
    """

    shape, classes = (3, 32, 32), 2

    def __init__(self):
        super().__init__()
        def block(channels_in, channels_out, stride):
            return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
                                 nn.BatchNorm2d(channels_out), nn.ReLU())
        self.early = nn.Sequential(block(3, 32, 2), block(32, 48, 1), block(48, 64, 2))           # (B, 64, 8, 8)
        self.late = nn.Sequential(block(64, 64, 1), block(64, 96, 2))                             # (B, 96, 4, 4)
        self.head = nn.Linear(160, 2)

    def look(self, x):
        early = self.early(2 * x - 1)
        return torch.cat([early.mean((2, 3)), self.late(early).mean((2, 3))], 1)                  # (B, 160)

    def forward(self, x):
        return self.head(self.look(x))

    @torch.no_grad()
    def features(self, x):
        return torch.cat([self.look(part) for part in x.split(250)])

    @torch.no_grad()
    def read(self, x):
        return self.head(x if x.ndim == 2 else self.features(x)).softmax(1)


# %%
def mirrored(x):
    """Each picture or its mirror image, at random: a cat that looks to the left is a cat."""
    return torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, x, x.flip(3))


READER_STEPS = 400
torch.manual_seed(SEED)
reader = AnimalReader().to(device)


def reading_loss(batch):
    x = nets.shift_augment(mirrored(batch.x))
    return F.cross_entropy(reader(x), batch.y, label_smoothing=0.05), {}


step = kernels.TrainStep(reading_loss, torch.optim.AdamW(reader.parameters(), lr=3e-3, weight_decay=0.05),
                         batches=kernels.Batches(train_set, batch_size=64, seed=SEED, device=device), model=reader,
                         seed=SEED, schedule=kernels.linear_decay(0.1))
train.fit(step, runtime.budget(READER_STEPS), title="reader of animals")
reader.eval().requires_grad_(False)
references = {"val": metrics.real_reference(val_set, n=500, reader=reader),
              "test": metrics.real_reference(test_set, held_out=val_set, n=500, reader=reader)}
floor = references["test"].floor
print(f"of {len(test_set):,} test pictures it reads {100 * floor['read_accuracy']:.1f} % rightly")

# %% [markdown]
# On photographs a reader as small as this one is wrong about a good many, and "read as asked" cannot be trusted beyond
# its own mark. If your photographs deserve a better reader, train it longer; then say so, and measure *everything*
# with it, ours too.
#
# Now the report. `judge("name", x)` takes 500 pictures for the labels `asked`, holds them against the test pictures,
# and keeps the numbers; `table()` shows them all. While you choose, write `judge("name", x, split="val")`.

# %%
asked = torch.arange(500, device=device) % 2                          # bird, cat, bird, cat, ...
x_train, y_train = train_set.images.to(device) / 255, train_set.labels.to(device)
small_train = F.avg_pool2d(torch.cat([x_train, x_train.flip(3)]), 2).flatten(1)


def to_nearest(x):
    """Distance from each picture (N, 3, 32, 32) to the nearest training picture or mirror image, at half size."""
    return torch.cdist(F.avg_pool2d(x, 2).flatten(1), small_train).amin(1)


too_near = to_nearest(x_test).quantile(0.01)
reports = {}


def judge(name, x, split="test"):
    """Report on pictures x (500, 3, 32, 32) in [0, 1] that were drawn for the labels `asked`."""
    x = x.detach().float().clamp(0, 1)
    near = (to_nearest(x) < too_near).float().mean().item()
    name += ", against validation pictures" * (split == "val")
    reports[name] = metrics.sample_report(x, references[split], asked) | {"near": near}


def table():
    """All reports so far as Markdown: one row for each generator, real pictures first."""
    rows = {"*real pictures*": floor | {"fd_ratio": 1.0, "near": 0.01}} | reports
    lines = [f"| {name} | {100 * r['read_accuracy']:.1f} % | {r['fd_ratio']:.1f} | {r['diversity']:.2f} "
             f"| {r['recall']:.2f} | {100 * r['near']:.1f} % |" for name, r in rows.items()]
    return Markdown("\n".join(["| pictures | read as asked | FD / floor | diversity | recall | too near |",
                               "|---|---:|---:|---:|---:|---:|", *lines]))


# %% [markdown]
# Two generators mark the ends of the scale. Neither has learned anything that you would call a picture.
#
# **The copyist** returns training pictures of the class that was asked for. It should pass every test but the last. A
# measure that it passes altogether is no measure.
#
# **A Gaussian for each class** is the least that deserves to be called a model: the mean picture of the class, plus
# random amounts of its 64 principal components. It is a *linear* decoder with a Gaussian code, fitted in closed form
# ([chapter 1](01_autoencoder.ipynb) has met it). A network that does not beat it has not earned its training.

# %%
def gaussian_model(x, parts=64):
    """Pictures (N, 3, 32, 32) -> a function that draws n of their Gaussian in the space of `parts` components."""
    flat = x.flatten(1)
    mean = flat.mean(0)
    _, scale, directions = torch.pca_lowrank(flat - mean, q=parts, center=False)
    scale = scale / len(flat) ** 0.5                                  # standard deviation of each component
    return lambda n: (mean + (torch.randn(n, parts, device=x.device) * scale) @ directions.T).view(n, 3, 32, 32)


torch.manual_seed(SEED)
of_class = {label: gaussian_model(x_train[y_train == label]) for label in (BIRD, CAT)}
x_gauss, x_copied = torch.empty_like(x_test[:500]), torch.empty_like(x_test[:500])
for label in (BIRD, CAT):
    x_gauss[asked == label] = of_class[label](250)
    x_copied[asked == label] = x_train[y_train == label][:250]
judge("copyist", x_copied)
judge("Gaussian per class", x_gauss)
table()

# %% mystnb={"image": {"alt": "Blurred blots of colour in which a bird or a cat can hardly be made out."}}
show({"birds": x_gauss[asked == BIRD][:12], "cats": x_gauss[asked == CAT][:12]})

# %% [markdown]
# **Figure C.2.** Twelve birds and twelve cats from the Gaussians.
#
# Look at figure C.2, and then at the table again. The pictures are fog, and yet a row of numbers can be computed for
# them, some of them not bad. This is your floor; the copyist is the warning at the other end.
#
# ## Three routes
#
# Take one. The stubs run as they are and return nothing; what you write is up to you. Whatever your route, in the end
# there must be a function `draw(y)` that takes labels `(B,)` and returns pictures `(B, 3, 32, 32)` in $[0, 1]$.
#
# **Route A, a conditional VAE** (chapters [2](02_vae.ipynb) and [3](03_cvae.ipynb)). `nets.ConvVAE` is there to be
# widened to three channels and four more rows. Grey digits could pass for probabilities; colours cannot. Take a
# Gaussian with one learned scale for all pixels,
#
# $$ -\log p(x \mid z, y) = \frac{1}{2\sigma^2} \lVert x - \hat x \rVert^2 + D \log \sigma
#    + \text{const}, \qquad D = 3072, \tag{C.1} $$
#
# and let $\sigma$ train: it settles at the size of the error. A fixed $\sigma = 1$ is the classic mistake. It makes
# the divergence so dear that the code stays empty. What else goes wrong is blur, and a decoder that listens to the
# label alone. The first sign that it works: reconstructions of *validation* pictures that you would call cats.

# %%
class ColourVAE(nn.Module):
    """Route A. encode: x (B, 3, 32, 32), y (B,) -> mu, logvar (B, d). decode: z (B, d), y (B,) -> x_hat."""

    def __init__(self, latent=64):
        super().__init__()
        self.latent = latent
        self.log_sigma = nn.Parameter(torch.zeros(()))

    def encode(self, x, y):
        ...

    def decode(self, z, y):
        ...


def negative_elbo(model, batch):
    """Mean over the batch of -ELBO in nats per picture, with one sample of z."""


# %% [markdown]
# **Route B, a conditional GAN** (chapters [4](04_gan.ipynb), [5](05_cgan.ipynb) and [6](06_wgan.ipynb)).
# `nets.DigitGenerator` and `nets.DigitCritic` show the form: a generator that begins at 8 × 8 and doubles twice, a
# critic without batch normalisation that is told the label (chapter 5's "one output per class" is a good first
# choice), and a penalty on the slope of its score. Keep a moving average of the generator's weights and draw with
# that. What goes wrong is one picture for each class, and a critic that wins. Save a row of samples every few hundred
# steps from the *same* noise: a collapse is seen there long before a loss shows it.

# %%
class ColourGenerator(nn.Module):
    """Route B. z (B, 64), y (B,) -> pictures (B, 3, 32, 32) in [-1, 1]."""

    def forward(self, z, y):
        ...


class ColourCritic(nn.Module):
    """Route B. x (B, 3, 32, 32) in [-1, 1], y (B,) -> scores (B,), before the sigmoid."""

    def forward(self, x, y):
        ...


def critic_loss(G, D, batch):
    ...


def generator_loss(G, D, batch):
    ...


# %% [markdown]
# **Route C, diffusion** (chapters [8](08_ddpm.ipynb) and [9](09_ldm_cxr.ipynb)). `nets.UNet(3, classes=2)`,
# `diffusion.Schedule` and `diffusion.sample` are ready. *Latent* diffusion runs in the code of an autoencoder. At 32 ×
# 32 you may leave the autoencoder out and diffuse pixels, if you have the patience: ours still drew rags after three
# minutes. If you keep it, report what it alone does to real pictures: that part of the damage is not the diffusion's.
# Predict $v$ (Salimans and Ho 2022), as chapter 9 does; drop the label now and then, so that the same network learns
# to do without it and can be guided (Ho and Salimans 2021). What goes wrong is impatience, and guidance that costs
# variety.

# %%
def diffusion_loss(net, schedule, batch):
    """Route C. Mean squared error of v_hat on a batch with x in [0, 1]; the label is dropped in one case of ten."""


# %% [markdown]
# Whichever you took: here it is judged. Ask for 500, look at the first dozen of each class (the *first*, not the
# best), and add your row.

# %%
def draw(y):
    """Your generator: labels (B,) -> pictures (B, 3, 32, 32) in [0, 1]."""


x_mine = draw(asked)
if x_mine is None:
    print("draw(y) returns nothing yet")
else:
    judge("mine", x_mine)

# %%
table() if x_mine is None else show({"birds": x_mine[asked == BIRD][:12], "cats": x_mine[asked == CAT][:12]})

# %% [markdown]
# ## The points
#
# A hundred in all. The pictures themselves are not among them: a modest model that is honestly measured earns more
# than a handsome one that is not.
#
# - **Question, 10 points.** *Full marks*: one sentence that a number can answer, stated *before* the training, such as
#   "does a learned $\sigma$ make cats more varied than $\sigma = 1$?" *Half*: a topic ("GANs on cats").
# - **Model, 30 points.** *Full marks*: the loss is yours and right, every term can be traced to an equation of a
#   chapter; it runs from top to bottom with another seed; each choice that matters has a reason. *Half*: it runs, and
#   a term or a choice is not accounted for. *Nothing*: copied, or it does not run.
# - **Evidence, 25 points.** *Full marks*: all the numbers beside those of real pictures, of the Gaussian and of the
#   copyist; at least two seeds; samples that were not picked; each class by itself. *Half*: numbers of one seed, or
#   without their floors. *Nothing*: a picture of one nice cat.
# - **Control, 20 points.** *Full marks*: one change that should *break* what you claim, run and reported: labels
#   shuffled, the label withheld, a term left out, a tenth of the data. *Half*: a comparison that could hardly have
#   come out otherwise.
# - **Honesty, 15 points.** *Full marks*: what the numbers do not show; the worst samples beside the first; everything
#   that was tried, with what was given up; nothing chosen on the test set. *Half*: limits in general words. *Nothing*:
#   claims beyond the table.
#
# **The page of text** has five paragraphs, in this order. You may hold yours against these questions before you hand
# it in:
#
# 1. Would somebody who has not seen the notebook know what was asked, and what would count as an answer?
# 2. Could she rebuild the model from the text and the equations it names?
# 3. Is every number in the text also in an output, and does each come with the floor it is to be read against?
# 4. What did the control show? What would you have written if it had come out the other way?
# 5. Which of the two classes is worse, and how do you know that it is the model and not the reader?
#
# **Mistakes that cost most**, from the chapters: measuring with a reader that was trained on the samples; choosing the
# guidance on the test set; comparing Fréchet distances of different numbers of pictures; showing the mean of $p(x \mid
# z)$ as if it were a sample without saying so; a moving average that was not used; a $\sigma$, $\beta$ or penalty that
# was tuned for one of the two models in a comparison only.

# %% [markdown] tags=["solution"]
# ## A run of ours
#
# <details class="solution"><summary>The question and the model</summary>
#
# **Question.** Trained for some three minutes on one core, does diffusion in the code of a small autoencoder draw what
# is asked for? And of what is missing, how much is lost by the code, and how much by the diffusion in it?
#
# **Model.** Route C. The autoencoder is a VAE with 64 numbers for a picture. Its likelihood is a Laplace density with
# one learned scale $b$, $-\log p(x \mid z) = \lVert x - \hat x \rVert_1 / b + D \log 2b$: the absolute error is kinder
# to edges than the square. Per pixel, and without constants, the negative ELBO is $\lvert x - \hat x \rvert / b + \log
# b + \mathrm{KL} / D$. The code is scaled to unit variance, and a network of three residual blocks learns to predict
# $v = \sqrt{\bar\alpha_t}\, \varepsilon - \sqrt{1 - \bar\alpha_t}\, z_0$ in it, told step and label, the label dropped
# in one case of ten. Both are used with a moving average of their weights.
#
# </details>

# %% tags=["solution"]
LATENT, VAE_STEPS = 64, 2000


def normed(channels):
    return nn.Sequential(nn.GroupNorm(8, channels), nn.SiLU())


class AnimalVAE(nn.Module):
    """encode: x (B, 3, 32, 32) in [0, 1] -> mu, logvar (B, 64). decode: z -> x_hat (B, 3, 32, 32)."""

    def __init__(self):
        super().__init__()
        self.log_b = nn.Parameter(torch.tensor(-2.0))
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, 48, 3, padding=1), normed(48),                    # (B, 48, 16, 16)
            nn.Conv2d(48, 96, 3, 2, 1), normed(96), nn.Conv2d(96, 160, 3, 2, 1), normed(160),     # (B, 160, 4, 4)
            nn.Flatten(), nn.Linear(2560, 2 * LATENT))
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 2048), nn.Unflatten(1, (128, 4, 4)), normed(128),
            nn.Conv2d(128, 384, 3, padding=1), nn.PixelShuffle(2), normed(96),                    # (B, 96, 8, 8)
            nn.Conv2d(96, 256, 3, padding=1), nn.PixelShuffle(2), normed(64),                     # (B, 64, 16, 16)
            nn.Conv2d(64, 48, 3, padding=1), normed(48), nn.Conv2d(48, 12, 3, padding=1), nn.PixelShuffle(2))

    def encode(self, x):
        return self.encoder(2 * x - 1).float().chunk(2, 1)

    def decode(self, z):
        return self.decoder(z).float() / 2 + 0.5


# %% tags=["solution"]
torch.manual_seed(SEED)
vae = AnimalVAE().to(device)


def vae_loss(batch):
    with runtime.autocast(device):
        mu, logvar = vae.encode(batch.x)
        x_hat = vae.decode(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu))
    error = (batch.x - x_hat).abs().mean()
    kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()
    return error / vae.log_b.exp() + vae.log_b + kl / 3072, {"error": error.detach(), "KL": kl.detach()}


step = kernels.TrainStep(vae_loss, torch.optim.Adam(vae.parameters(), lr=2e-3),
                         batches=kernels.Batches(train_set, batch_size=32, seed=SEED, device=device), model=vae,
                         ema=0.99, seed=SEED, schedule=kernels.linear_decay(0.05))
train.fit(step, runtime.budget(VAE_STEPS), title="VAE")
vae = step.ema_model.eval().requires_grad_(False)
mu, logvar = (torch.cat(parts) for parts in zip(*(vae.encode(x) for x in x_train.split(500)), strict=True))
scale = (mu.var(0) + logvar.exp().mean(0)).sqrt()                     # of each number of the code
x_val, y_val = val_set.images.to(device) / 255, val_set.labels.to(device)
errors = [(x - vae.decode(vae.encode(x)[0])).abs().mean() for x in (x_train[:1000], x_val)]
print(f"{(mu.var(0) > 0.01).sum()} of {LATENT} numbers are used; mean error of a reconstruction {errors[0]:.3f} in "
      f"training, {errors[1]:.3f} in validation")

# %% tags=["solution"]
T, DIFFUSION_STEPS = 1000, 2500
schedule = diffusion.Schedule.cosine(T).to(device)


class CodeDenoiser(nn.Module):
    """z (B, 64), t and y (B,) -> v_hat (B, 64); y = `null`, or None, means "no label"."""

    def __init__(self, width=384, blocks=3, classes=2):
        super().__init__()
        self.null = classes
        self.label, self.time = nets.LabelEmbedding(classes + 1, 128), nn.Linear(64, 128)
        self.enter = nn.Linear(LATENT, width)
        self.blocks = nn.ModuleList(nn.ModuleDict({
            "norm": nn.LayerNorm(width), "one": nn.Linear(width, width), "modulate": nn.Linear(128, 2 * width),
            "two": nn.Linear(width, width)}) for _ in range(blocks))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, LATENT))

    def forward(self, z, t, y=None):
        y = torch.full_like(t, self.null) if y is None else y
        e = F.silu(self.time(nets.time_embedding(t, 64)) + self.label(y))
        h = self.enter(z)
        for block in self.blocks:
            gain, shift = block["modulate"](e).chunk(2, 1)
            h = h + block["two"](F.silu(block["one"](block["norm"](h)) * (1 + gain) + shift))
        return self.leave(h).float()


# %% tags=["solution"]
torch.manual_seed(SEED)
net = CodeDenoiser().to(device)


def code_loss(batch):
    mu, logvar = batch.x.flatten(1).chunk(2, 1)
    z0 = (mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)) / scale
    t, eps = diffusion.stratified_timesteps(len(z0), T, device=z0.device), torch.randn_like(z0)
    y = torch.where(torch.rand(len(z0), device=z0.device) < 0.1, net.null, batch.y)
    with runtime.autocast(device):
        v_hat = net(diffusion.q_sample(z0, t, eps, schedule), t, y)
    return (diffusion.target(z0, eps, t, schedule, predicts="v") - v_hat).square().mean(), {}


codes = torch.cat([mu, logvar], 1)[:, :, None, None]
step = kernels.TrainStep(code_loss, torch.optim.Adam(net.parameters(), lr=1e-3),
                         batches=kernels.Batches(codes, y_train, batch_size=128, seed=SEED, device=device), model=net,
                         ema=0.998, seed=SEED, schedule=kernels.linear_decay(0.05))
train.fit(step, runtime.budget(DIFFUSION_STEPS), title="diffusion in the code")
drawer = step.ema_model.eval().requires_grad_(False)

# %% [markdown] tags=["solution"]
# <details class="solution"><summary>Evidence and controls</summary>
#
# Four rows beside the one that counts. **Guidance 2** asks louder. **Label withheld** is the control of the asking:
# the same networks, the same noise, no label. If "read as asked" were a property of the pictures or of the reader, it
# would stay where it is; it should fall to one half. **The VAE's own prior** leaves the diffusion out and decodes
# standard normal codes; it knows no label either. **Through the code** are validation pictures, encoded and decoded:
# the part of the damage that is not the diffusion's.
#
# </details>

# %% tags=["solution"]
noise = torch.randn(len(asked), LATENT, generator=torch.Generator().manual_seed(SEED)).to(device)


def ours(y, guidance=None):
    """500 labels or None -> pictures (500, 3, 32, 32) in [0, 1]; from the same noise, whatever the labels."""
    z = diffusion.sample(drawer, noise.shape, schedule, steps=50, y=y, guidance=guidance, predicts="v", x_T=noise)
    return vae.decode(z * scale).clamp(0, 1)


x_ours, x_guided, x_unasked = ours(asked), ours(asked, guidance=2.0), ours(None)
x_coded = torch.empty_like(x_ours)
for label in (BIRD, CAT):
    x_coded[asked == label] = vae.decode(vae.encode(x_val[y_val == label][:250])[0]).clamp(0, 1)
judge("diffusion in the code", x_ours)
judge("the same, guidance 2", x_guided)
judge("the same, label withheld", x_unasked)
judge("the VAE's own prior", vae.decode(noise))
judge("through the code", x_coded)
table()

# %% mystnb={"image": {"alt": "Two rows of birds and two of cats, each whole, and a little soft."}} tags=["solution"]
show({"birds": x_ours[asked == BIRD][:24], "cats": x_ours[asked == CAT][:24]})

# %% [markdown] tags=["solution"]
# **Figure C.3.** The first 24 birds and the first 24 cats of our run, in the order in which they were drawn.

# %% mystnb={"image": {"alt": "Pairs of pictures: the second, from the code, lacks fine detail."}} tags=["solution"]
pairs = torch.stack([x_val[:18], vae.decode(vae.encode(x_val[:18])[0])], 1).flatten(0, 1)
show({"pairs": pairs})

# %% [markdown] tags=["solution"]
# **Figure C.4.** Validation pictures, each followed by what the code keeps of it.
#
# <details class="solution"><summary>What we would write</summary>
#
# **The answer.** Birds and cats come as asked, and with the label withheld the share falls to what guessing gives: it
# is the asking that does it. Figure C.3 shows whole animals in every pose. They are soft, and the Fréchet distance does
# not forgive that: without guidance they are no nearer to the real pictures than the fog of figure C.2 is, though
# nobody who looks at both would hesitate. Most of it the code has to answer for, since real pictures that merely go
# through it score little better (last row). Figure C.4 shows what is lost there: legs, beaks, eyes and stripes,
# whatever is a pixel wide. Guidance 2, which we had fixed beforehand, brings the distance below even that: it prefers
# the animals that the decoder draws clearly. So the last row is no bound. The diffusion itself is worth its training:
# codes from the VAE's own prior, which knows no label, score 47.2 floors, the diffusion with its label withheld 19.5.
#
# **What it does not show.** The reader reads fog as asked in most cases (the Gaussian's row), so its verdict on the
# class is cheap. Recall and diversity are measured in its features, and soft pictures lie apart from real ones there
# without being more varied. "Too near" compares at half size. One seed is shown, and by the points above that costs us
# some. And nothing here says what the same networks would do with photographs.
#
# **What we gave up.** Diffusion on the pixels with `nets.UNet`: after 1,864 steps of 32 pictures, on drawings that
# varied more, the colours were right and the animals were rags. Hidden layers of 512 before and after a code of 48
# numbers: after 2,200 steps the error was still larger. And a promise: we had expected, before the first full run, a
# Fréchet distance of at most eight tenths of the Gaussian's without guidance. It was not kept, and we took it out and
# say so here.
#
# </details>

# %% [markdown] tags=["solution"]
# The promises below are for the drawn animals; for CIFAR-10 nothing is promised, since this run was not made on
# photographs.

# %% tags=["solution", "nbval-check-output"]
ours_now = reports["diffusion in the code"]
expect("read as asked", ours_now["read_accuracy"], above={"cifar10": None, "animals": 0.9})
expect("read as asked, beyond the share with the label withheld",
       ours_now["read_accuracy"] - reports["the same, label withheld"]["read_accuracy"],
       above={"cifar10": None, "animals": 0.3})

# %% [markdown]
# ## References
#
# - A. Krizhevsky. *[Learning multiple layers of features from tiny
#   images](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf).* University of Toronto, 2009. CIFAR-10.
# - M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter. *[GANs trained by a two time-scale update rule
#   converge to a local Nash equilibrium](https://arxiv.org/abs/1706.08500).* NIPS 2017. The Fréchet distance.
# - T. Salimans, J. Ho. *[Progressive distillation for fast sampling of diffusion
#   models](https://arxiv.org/abs/2202.00512).* ICLR 2022. Predicting $v$.
# - J. Ho, T. Salimans. *[Classifier-free diffusion guidance](https://arxiv.org/abs/2207.12598).* NeurIPS workshop on
#   deep generative models, 2021.
