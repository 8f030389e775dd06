"""Chapter 8's own functions against models whose answer is known, and against bugs planted in them.

Nothing is trained. The cells that define the forward process, the loss and the samplers are run, and each is given a
model that knows the clean image, or data so simple that the best guess has a closed form.
"""

import contextlib
import io
from pathlib import Path

import pytest
import torch

from genmed_core import chapters, data, diffusion, kernels

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"
SIZES = {"train": 2000, "val": 100, "test": 500}


class Chapter:
    """Some cells of a chapter, run in one namespace; `planted` runs one of them again with another line."""

    def __init__(self, name, parts, changes=()):
        self.cells = chapters.cells(CHAPTERS / f"{name}.py")
        for part, old, new in changes:
            cell = self.cell(part)
            assert old in cell.source
            cell.source = cell.source.replace(old, new)
        self.name, self.at = name, {"__name__": "chapter"}
        self.run([self.cells[0], self.cells[1], *map(self.cell, parts)])

    def cell(self, part):
        return next(cell for cell in self.cells if part in cell.source)

    def run(self, cells):
        with contextlib.redirect_stdout(io.StringIO()):
            chapters.run(cells, self.at, self.name)

    @contextlib.contextmanager
    def planted(self, part, old, new):
        cell = self.cell(part)
        right = cell.source
        assert right.count(old) >= 1, f"no line with {old!r} in the cell of {part!r}"
        cell.source = right.replace(old, new)
        try:
            self.run([cell])
            yield
        finally:
            cell.source = right
            self.run([cell])


@pytest.fixture(scope="module", autouse=True)
def drawn_digits():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("BUDGET", "0.002"), ("DATA_SOURCE", "embedded"), ("THREADS", "1")):
            patch.setenv(f"GENMED_{name}", value)
        patch.setenv("MPLBACKEND", "Agg")
        digits = data.digits
        patch.setattr(data, "digits", lambda split: digits(split).subset(torch.arange(SIZES[split])))
        yield


PARTS = ("linear, cosine = ", "def ddpm_loss", "unet = nets", "def algorithm_2", "def ddim", "def draw")


@pytest.fixture(scope="module")
def ddpm(drawn_digits):
    c = Chapter("08_ddpm", PARTS[:1], [("linear, cosine = ", "T = 1000", "T = 200")])
    c.at["BF16"] = False
    c.run([c.cell(part) for part in PARTS[1:]])
    return c


class Knows:
    """Says the v of known images x0 (B, 1, 28, 28) in [-1, 1], and notes what it was asked."""

    null = 10

    def __init__(self, x0, schedule):
        self.x0, self.schedule, self.asked = x0, schedule, []

    def __call__(self, x_t, t, y=None):
        _, _, bar, v = (value.float().view(-1, 1, 1, 1) for value in self.schedule.at(t))
        eps = (x_t - bar.sqrt() * self.x0) / v.sqrt()
        self.asked.append((t, y, eps))
        return bar.sqrt() * eps - v.sqrt() * self.x0


def loss_of_the_true_v(c):
    """Zero, at the steps and with the labels of Algorithm 1: all steps alike, every tenth label left out."""
    batch = kernels.Batches(c["train_set"], batch_size=1000, seed=0).next()
    knows = Knows(2 * batch.x - 1, c["cosine"])
    torch.manual_seed(0)
    loss, _ = c["ddpm_loss"](knows)(batch)
    (t, y, eps), = knows.asked
    assert loss < 1e-6
    assert eps.square().mean().item() == pytest.approx(1, abs=0.03)
    assert t.float().mean().item() == pytest.approx((c["T"] - 1) / 2, rel=0.01)
    assert 0.05 < (y == 10).float().mean() < 0.15


def algorithm_2_is_the_engines(c):
    """The same walk from the same noise where all pixels are Gaussian, with the spread of the data at its end."""
    sd, y = 0.25, torch.zeros(4, dtype=torch.int64)

    def best_guess(x_t, t, y=None):
        bar = c["cosine"].at(t)[2].float().view(-1, 1, 1, 1)
        return (bar * (1 - bar)).sqrt() * (1 - sd**2) * x_t / (bar * sd**2 + 1 - bar)

    by_hand = c["algorithm_2"](best_guess, y, torch.Generator().manual_seed(0))
    by_engine = diffusion.sample(best_guess, by_hand.shape, c["cosine"], steps=c["T"], eta=1.0, predicts="v",
                                 clip=(-1, 1), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(by_hand, by_engine, rtol=0, atol=1e-3)
    assert by_hand.std().item() == pytest.approx(sd, rel=0.08)


def ddim_keeps_its_noise(c):
    """With a model that knows x_0 the noise is the same at every stop, and the end is x_0."""
    x0 = c["x_test"][:4]
    knows = Knows(x0, c["cosine"])
    end = c["ddim"](knows, torch.zeros(4, dtype=torch.int64), 20, torch.Generator().manual_seed(0))
    torch.testing.assert_close(end, x0, rtol=0, atol=1e-5)
    for _, _, eps in knows.asked:
        torch.testing.assert_close(eps, knows.asked[0][2], rtol=0, atol=1e-2)


def guidance_points_away_from_no_label(c):
    """A network says 0.1 for a label: one step from noise, each unit of w beyond 1 darkens by 0.05, in the window."""
    y, T = torch.zeros(4, dtype=torch.int64), c["T"]

    def says_label(x_t, t, y):
        return 0.1 * (y != c["unet"].null).float().view(-1, 1, 1, 1).expand_as(x_t)

    plain = c["draw"](says_label, y, steps=1)
    for w, between, effect in ((0.0, (0, T), 0.05), (1.0, (0, T), 0.0), (3.0, (0, T), -0.1), (3.0, (0, T // 2), 0.0)):
        change = c["draw"](says_label, y, steps=1, guidance=w, between=between) - plain
        torch.testing.assert_close(change, torch.full_like(change, effect), rtol=0, atol=1e-4)


CHECKS = {
    loss_of_the_true_v: [
        ("def ddpm_loss", "q_sample(x0, t, eps, cosine)", "q_sample(x0, (t + 1).clamp(max=T - 1), eps, cosine)"),
        ("def ddpm_loss", "q_sample(x0, t, eps, cosine)", "q_sample(x0, t, eps, linear)"),
        ("def ddpm_loss", "predicts=PREDICTS)", "predicts='eps')"),
        ("def ddpm_loss", "x0 = to_signed(batch.x)", "x0 = batch.x"), ("def ddpm_loss", "< drop", "> drop"),
        ("def ddpm_loss", "stratified_timesteps(B, T,", "stratified_timesteps(B, T // 2,")],
    algorithm_2_is_the_engines: [
        ("def algorithm_2", "sigma = (beta * (1 - bar_before) / (1 - bar)).sqrt()", "sigma = beta.sqrt()"),
        ("def algorithm_2", "x = mean + sigma * z", "x = mean + sigma**2 * z"),
        ("def algorithm_2", "predicts=PREDICTS", "predicts='eps'")],
    ddim_keeps_its_noise: [("def ddim", "predicts=PREDICTS", "predicts='eps'"),
                           ("def ddim", "times[1:] + [-1]", "times[1:] + [0]")],
    guidance_points_away_from_no_label: [
        ("def draw", "guidance if inside else None", "None if inside else guidance"),
        ("def draw", "guidance if inside else None", "1 - guidance if inside and guidance is not None else None"),
        ("def draw", "unet.null)", "0)")],
}
BUGS = [pytest.param(check, *bug, id=f"{check.__name__}-{n}") for check, bugs in CHECKS.items()
          for n, bug in enumerate(bugs)]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_chapter_8(check, ddpm):
    check(ddpm.at)


@pytest.mark.parametrize("check, part, old, new", BUGS)
def test_a_bug_planted_in_chapter_8_is_caught(check, part, old, new, ddpm):
    with ddpm.planted(part, old, new), pytest.raises((AssertionError, ValueError)):
        check(ddpm.at)
