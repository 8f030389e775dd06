"""Films to and from PyHealth: by the rule of its release 1.1.6, and with that release where it is installed."""

import importlib.util
import sys

import numpy as np
import openpyxl
import pytest
import torch
from PIL import Image
from test_cxr import pyhealths_counts

from genmed_core import data, pyhealth, runtime
from genmed_core.data import CXR_CLASSES, DataError, ImageSet, class_counts

# no dependency of ours: it wants pandas below 2 and much else. In an environment of its own:
#     pip install pyhealth openpyxl, then this package, and pytest tests/test_pyhealth.py
INSTALLED = importlib.util.find_spec("pyhealth") is not None
needs_pyhealth = pytest.mark.skipif(not INSTALLED, reason="PyHealth is not installed: held to its rule alone")


@pytest.fixture
def films(monkeypatch, tmp_path):
    """23 phantoms, so to speak."""
    for name in ("GENMED_DATA", "GENMED_DATA_SOURCE", "GENMED_PUBLIC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime, "root", lambda: tmp_path)
    small = np.random.RandomState(0).randint(0, 256, (23, 4, 4)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(x).resize((64, 64), Image.Resampling.BICUBIC)) for x in small]
    labels = torch.tensor([0, 1, 2, 2, 3] * 5)[:23]
    return ImageSet(torch.from_numpy(np.stack(large))[:, None], labels, CXR_CLASSES, "phantom")


def pixels(*sets):
    return {(x.numpy().tobytes(), CXR_CLASSES[y]) for d in sets for x, y in zip(d.images, d.labels.tolist())}


def sheet(path):
    """Rows of a spreadsheet's one sheet."""
    return [list(row) for row in openpyxl.load_workbook(path).active.values]


def test_phantoms_become_a_root_of_pyhealth_and_come_back(films, tmp_path, monkeypatch, capsys):
    root = pyhealth.write_root([films.subset(slice(0, 10)), films.subset(slice(10, None))], tmp_path / "root")
    sheets = {}
    for folder in ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"):
        head, *rows = sheet(root / f"{folder}.metadata.xlsx")
        assert head == ["FILE NAME", "FORMAT", "SIZE", "URL"]
        sheets[folder] = [row[0] for row in rows]
    assert pyhealths_counts(root, sheets) == class_counts(films)
    monkeypatch.setenv("GENMED_DATA", str(root))
    back = [data.cxr(split, "database") for split in data.SPLITS]
    assert pixels(*back) == pixels(films)
    assert {d.source for d in back} == {"own films"}, "nobody takes them for the database's"
    with pytest.raises(DataError, match="root: holds COVID, .* already. Name another folder"):
        pyhealth.write_root(films, root)


def test_samples_become_an_image_set(films, tmp_path):
    file = tmp_path / "film.png"
    Image.fromarray(films.images[0, 0].numpy()).save(file)
    samples = [{"path": x.float() / 255, "label": CXR_CLASSES[y], "url": ""}
               for x, y in zip(films.images, films.labels.tolist())]
    taken = pyhealth.from_samples([*samples, {"path": str(file), "label": "Normal"}])
    assert torch.equal(taken.images[:-1], films.images) and torch.equal(taken.labels[:-1], films.labels)
    assert torch.equal(taken.images[-1], films.images[0]) and taken.labels[-1] == 2 and taken.source == "PyHealth"
    assert pyhealth.from_samples(samples, size=32).images.shape == (23, 1, 32, 32)
    assert len(pyhealth.from_samples([])) == 0


@pytest.mark.parametrize("sample, words", [
    ({"label": "Pneumonia"}, "sample 0: the class 'Pneumonia' is none of COVID, Lung Opacity"),
    ({"path": torch.zeros(3, 9, 9)}, r"sample 0: a film is a tensor \(1, H, W\), not \(3, 9, 9\)"),
    ({"path": "gone.png"}, "gone.png: truncated or damaged.*leave sample 0 out"),
])
def test_samples_that_are_no_films_are_named(sample, words):
    with pytest.raises(DataError, match=words):
        pyhealth.from_samples([{"path": torch.zeros(1, 9, 9), "label": "COVID"} | sample])


def test_without_openpyxl_it_is_asked_for(films, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ModuleNotFoundError, match="pip install openpyxl"):
        pyhealth.write_root(films, tmp_path / "root")
    assert not (tmp_path / "root").exists(), "nothing is left half written"


def test_other_classes_are_refused(films, tmp_path):
    digits = ImageSet(torch.zeros(1, 1, 9, 9, dtype=torch.uint8), torch.tensor([0]), ("0",), "strokes")
    with pytest.raises(ValueError, match="classes must be those of data.cxr, not"):
        pyhealth.write_root([films, digits], tmp_path / "root")
    assert not (tmp_path / "root").exists(), "nothing is left half written"


# --- with the released package ----------------------------------------------------------------------------


@needs_pyhealth
def test_the_release_reads_what_we_write_and_we_take_its_samples(films, tmp_path):
    from pyhealth.datasets import COVID19CXRDataset

    samples = COVID19CXRDataset(str(pyhealth.write_root(films, tmp_path / "root"))).set_task()
    assert len(samples) == 23
    taken = pyhealth.from_samples(samples[k] for k in range(len(samples)))
    assert pixels(taken) == pixels(films) and class_counts(taken) == class_counts(films)


@needs_pyhealth
def test_the_release_measures_errors_of_images_that_it_has_scaled():
    """The textbook's MSE: by default the divergence comes first, and leaves images that sum to one."""
    from pyhealth.metrics import regression_metrics_fn

    rng = np.random.RandomState(0)
    x = rng.rand(20, 128, 128)
    worse = (x + 0.1 * rng.randn(*x.shape)).clip(0, 1)
    alone = regression_metrics_fn(x, worse, metrics=["mse"])["mse"]
    default = regression_metrics_fn(x, worse)["mse"]
    print(f"mse alone {alone:.1e}, by default {default:.1e}")
    assert alone == pytest.approx(np.square(x - worse).mean()) and default < 1e-9 * alone
