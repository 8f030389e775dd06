"""What others add to the project: one of each kind is one entry, and nothing else is touched."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from genmed_core import metrics, runtime


def test_a_new_metric_is_one_entry(request):
    def mean_gap(c):
        return (c.real.mean(0) - c.fake.mean(0)).norm().item()

    metrics.register(metrics.Measure("mean_gap", "distance of means", "lower", mean_gap, format=".3f"))
    request.addfinalizer(lambda: metrics.MEASURES.pop("mean_gap"))

    x = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    report = metrics.sample_report(x[:20], x[20:], n=20)
    assert report["mean_gap"] > 0 and report["floor"]["mean_gap"] > 0
    row = f"| distance of means | {report['floor']['mean_gap']:.3f} | {report['mean_gap']:.3f} |"
    assert row in metrics.report_table({"noise": report}).splitlines()
    metrics.Expectations("04_gan", source="mnist").model(
        "noise", report=report, samples=x[:20], real=x[20:], train_seconds=1, sample_seconds=1, parameters=1)
    (model,) = json.loads((runtime.runs_dir() / "results" / "04_gan.json").read_text())["models"]
    assert model["mean_gap"] == report["mean_gap"] and model["floor"]["mean_gap"] == report["floor"]["mean_gap"]


# --- a data set is one reader ---------------------------------------------------------------------------

CORE = Path(__file__).resolve().parent.parent / "genmed_core"

READER = '''"""Discs of two sizes: a data set that is not part of the book."""

import torch

from genmed_core import data


def discs(split, size=32):
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = ((y - size / 2) ** 2 + (x - size / 2) ** 2).sqrt()
    labels = torch.arange(8) % 2
    images = (distance[None, None] < size / 4 * (1 + labels.view(-1, 1, 1, 1) / 2)) * 255
    return data.ImageSet(images, labels, ("small", "large"), "discs"), "discs, drawn"


data.READERS["discs"] = {"drawn": discs}
'''

USE = '''
import genmed_core
from genmed_core import data, discs
found = data.load("discs", "val", size=16)
assert genmed_core.__file__.startswith({copy!r})
assert len(found) == 8 and found.images.shape == (8, 1, 16, 16) and found.caption == "discs"
assert data.class_counts(found) == {{"small": 4, "large": 4}}
try:
    data.load("discs", "val", "kaggle")
except ValueError as error:
    print(error)
'''


def test_a_new_data_set_is_one_reader(tmp_path):
    shutil.copytree(CORE, tmp_path / "genmed_core", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "genmed_core" / "discs.py").write_text(READER)
    done = subprocess.run([sys.executable, "-c", USE.format(copy=str(tmp_path))], cwd=tmp_path, text=True,
                          capture_output=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "discs val: 8 discs, drawn\n" in done.stdout
    assert "source 'kaggle' is not known; choose one of 'auto', 'drawn'" in done.stdout
