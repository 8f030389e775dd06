"""The weights that come with the project: small, float16, documented, made by a script that is there, and good."""

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
import torch
from safetensors import safe_open

from genmed_core import diffusion, metrics, nets

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(metrics.weights_dir().glob("*.safetensors"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)


@each_file
def test_weights_are_small_float16_and_finite(path):
    assert path.stat().st_size < 4_000_000
    with safe_open(path, "pt") as file:
        names = file.keys()
        tensors = [file.get_tensor(name) for name in names]
    assert all(v.dtype == torch.float16 for v in tensors if v.is_floating_point())
    assert all(torch.isfinite(v).all() for v in tensors)


@each_file
def test_weights_are_in_the_readme_with_the_command_that_makes_them(path):
    rows = (ROOT / "data" / "weights" / "README.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in rows if line.startswith(f"| `{path.name}` |"))
    script = row.split("`python ")[1].split("`")[0]
    assert path.stem in (ROOT / script).read_text(encoding="utf-8")
    assert script in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_no_other_file_of_weights_is_shipped():
    assert {p.suffix for p in metrics.weights_dir().iterdir()} == {".safetensors"}
    assert {p.suffix for p in (ROOT / "data" / "weights").iterdir() if p.is_file()} <= {".md", ".py"}


def test_the_denoiser_draws_what_it_is_asked_for():
    unet, y = metrics.load_weights(nets.UNet(), "ddpm_digits"), torch.arange(10).repeat(6)
    x = diffusion.sample(unet, (60, 1, 28, 28), diffusion.Schedule.cosine(), steps=10, y=y, predicts="v", clip=(-1, 1),
                         generator=torch.Generator().manual_seed(0))
    read = metrics.read_digits((x + 1) / 2).argmax(1)
    assert (read == y).float().mean() > 0.9


def test_the_denoiser_says_how_it_was_made():
    facts = metrics.weights_facts("ddpm_digits")
    assert facts["made_by"] == "python data/weights/train_ddpm.py" and facts["source"] == "mnist"
    assert int(facts["steps"]) > 10_000 and int(facts["batch_size"]) > 0 and float(facts["seconds"]) > 0


def test_chapter_8_has_one_cell_whose_training_the_script_takes_over():
    cells = jupytext.read(ROOT / "chapters" / "08_ddpm.py").cells
    training = [c.source for c in cells if "train" in c.metadata.get("tags", [])]
    assert len(training) == 1 and "train.fit(step, runtime.budget(STEPS)" in training[0]


def test_the_denoiser_is_made_from_mnist_alone():
    run = subprocess.run([sys.executable, ROOT / "data" / "weights" / "train_ddpm.py"], text=True, capture_output=True,
                         env=os.environ | {"GENMED_DATA_SOURCE": "embedded"}, timeout=900)
    assert run.returncode == 1 and "made from MNIST, which is not here" in run.stderr
