"""What a chapter invites its reader to change can be changed: every later code cell still runs.

Nothing is learned here: a few training steps, small sets of drawn digits, few samples, no probes, no reader.
"""

import time
from pathlib import Path

import pytest
import torch

from genmed_core import chapters, data, diffusion, metrics, train

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"
INVITED = {  # {chapter: {a line's part as it stands: what a reader might write}}
    "01_autoencoder": {"CODE, HIDDEN = 32, 128": "CODE, HIDDEN = 16, 64", "UNITS, K = 256, 24": "UNITS, K = 128, 5"},
    "02_vae": {"LATENT, HIDDEN = 8, 128": "LATENT, HIDDEN = 4, 32", "CONV_LATENT = 16": "CONV_LATENT = 8"},
    "03_cvae": {"LATENT = 8": "LATENT = 4"},
    "04_gan": {"LATENT = 64": "LATENT = 16", "KEPT = 0.25": "KEPT = 0.13"},
    "05_cgan": {"LATENT = 64": "LATENT = 16", "KEPT = 0.25": "KEPT = 0.2"},
    "07_simple_diffusion": {"SIGMA, T = 0.3, 25": "SIGMA, T = 0.4, 10"},
    "08_ddpm": {"T = 1000": "T = 200", "unet = nets.UNet()": "unet = nets.UNet(widths=(8, 16))"},
}
QUICKER = {  # and what takes time there, whatever the constants
    "03_cvae": {"steps=1500": "steps=5"},
    "04_gan": {"torch.randn(5000, LATENT": "torch.randn(1000, LATENT", "16_000, least=2000": "16_000, least=1000"},
    "05_cgan": {"torch.randn(5000, LATENT": "torch.randn(1000, LATENT",
                "torch.arange(5000, dev": "torch.arange(1000, dev"},
    "08_ddpm": {"n=128, rounds=8": "n=8, rounds=1",
                'metrics.load_weights(nets.UNet(), "ddpm_digits")': "nets.UNet(widths=(8, 16))"},
}
SIZES = {"train": 1000, "val": 300, "test": 500}


@pytest.fixture(scope="module")
def drawn():
    """The few digits by split, drawn once for all chapters."""
    return {}


@pytest.fixture
def small_world(monkeypatch, drawn, few_pairs):
    """Few steps, few digits, few samples: what takes time in a chapter and does not depend on its constants."""
    for name, value in (("BUDGET", "0.008"), ("DATA_SOURCE", "embedded"), ("THREADS", "1")):
        monkeypatch.setenv(f"GENMED_{name}", value)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    digits, report, sample, fit = data.digits, metrics.sample_report, diffusion.sample, train.fit
    reference = metrics.real_reference

    def few_digits(split):
        if split not in drawn:
            drawn[split] = digits(split).subset(torch.arange(SIZES[split]))
        return drawn[split]

    def short_report(fake, real, labels=None, **options):
        if not isinstance(real, metrics.RealReference):
            options["n"] = min(options.get("n", 100), 100)
        return report(fake, real, labels, **options)

    def short_sample(model, shape, schedule, *, steps=None, callback=None, y=None, **options):
        if steps is not None and callback is None and y is not None:  # pictures, not a check of the sampler
            steps = min(steps, 2)
        return sample(model, shape, schedule, steps=steps, callback=callback, y=y, **options)

    def seldom_looked_at(step, steps, *, reports=50, callback=None, **options):  # a look draws 500 samples in chapter 4
        return fit(step, steps, reports=min(reports, 3) if callback else reports, callback=callback, **options)

    monkeypatch.setattr(data, "digits", few_digits)
    monkeypatch.setattr(train, "fit", seldom_looked_at)
    monkeypatch.setattr(metrics, "sample_report", short_report)
    monkeypatch.setattr(metrics, "real_reference", lambda real, *, n=100, **options: reference(
        real, n=min(n, 100), **options))
    monkeypatch.setattr(metrics, "read_digits", lambda x: torch.rand(len(x), 10, device=x.device))
    monkeypatch.setattr(metrics, "linear_probe", lambda *codes, **options: 0.5)
    monkeypatch.setattr(diffusion, "sample", short_sample)


def changed(cells, changes):
    """The cells with each part replaced where it first stands."""
    for old, new in changes.items():
        cell = next(cell for cell in cells if old in cell.source)
        cell.source = cell.source.replace(old, new, 1)
    return cells


@pytest.mark.parametrize("chapter", INVITED)
def test_a_chapter_runs_with_what_it_invites_to_change(chapter, small_world, monkeypatch):
    monkeypatch.chdir(CHAPTERS)
    cells = chapters.cells(CHAPTERS / f"{chapter}.py")
    changes = INVITED[chapter] | QUICKER.get(chapter, {})
    begin = time.process_time()
    chapters.run(changed(cells, changes), {"__name__": "chapter"}, chapter)
    print(f"{chapter}: {time.process_time() - begin:.0f} s")
