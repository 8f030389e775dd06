"""Birds and cats: one picture for one seed, repainted from its factors, which do what their names say."""

import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from genmed_core import data, downloads, mnist_cifar, runtime
from genmed_core.data import DataError, animals
from genmed_core.synthetic.animals import (
    BLOCK,
    COATS,
    FACTORS,
    POSES,
    SCENES,
    draw,
    draw_animals,
    pose_names,
)

# --- the drawings ---------------------------------------------------------------------------------------


def middling(labels, **changes):
    """Animals with everything at its middle but `changes`; on a plain ground, so that parts can be told from it."""
    labels = torch.as_tensor(labels)
    _, _, factors = draw_animals(len(labels), seed=5, labels=labels)
    factors["individual"][:] = factors["individual"][0]
    for name, (law, a, b) in FACTORS.items():
        middle = {"uniform": (a + b) / 2, "normal": a, "lognormal": 1.0}[law]
        value = torch.as_tensor(changes.get(name, {"facing": 1.0, "clutter": 0.0}.get(name, middle)))
        factors[name] = value.float().expand(len(labels)).clone()
    return draw(labels, factors).float() / 255


def test_shapes_types_ranges_and_balance():
    images, labels, factors = draw_animals(600, seed=3)
    assert images.shape == (600, 3, 32, 32) and images.dtype == torch.uint8
    assert labels.dtype == torch.int64 and labels.bincount().tolist() == [300, 300]
    assert set(factors) == {*FACTORS, "individual"} and factors["individual"].dtype == torch.int64
    for name, (law, a, b) in FACTORS.items():
        column = factors[name]
        assert column.shape == (600,) and column.dtype == torch.float32 and column.std() > 0
        x, reach = (column.log() if law == "lognormal" else column), 2.501 * b
        low, high = (a, b) if law == "uniform" else (a - reach, a + reach)
        assert low <= x.min() and x.max() <= high, name
    spread = (images.amax((2, 3)).int() - images.amin((2, 3)).int()).amax(1)
    assert spread.min() > 40, "every picture shows something"
    names = pose_names(labels, factors["pose"])
    shares = {name: names.count(name) / 300 for kind in POSES.values() for name in kind}
    assert len(shares) == 8 and all(0.15 < share < 0.35 for share in shares.values())
    assert torch.corrcoef(torch.stack([labels.float(), factors["scene"]]))[0, 1].abs() < 0.1


def test_a_picture_does_not_depend_on_what_is_painted_beside_it():
    images, labels, factors = draw_animals(6 * BLOCK, seed=7, labels=torch.arange(6 * BLOCK) % 7 // 6)
    for n in (1, 13):
        fewer, fewer_labels, _ = draw_animals(n, seed=7, labels=labels[:n])
        assert torch.equal(fewer, images[:n]) and torch.equal(fewer_labels, labels[:n])
    rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:50]
    assert torch.equal(draw(labels[rows], {k: v[rows] for k, v in factors.items()}), images[rows])


def test_threads_and_torchs_own_randomness_change_nothing():
    before, torch_state = torch.get_num_threads(), torch.get_rng_state()
    labels, factors = draw_animals(20, seed=2, labels=1)[1:]
    factors["pose"] = torch.full((20,), 0.1)  # one block
    try:
        torch.set_num_threads(1)
        one = draw(labels, factors)
        torch.set_num_threads(2)
        assert torch.equal(draw(labels, factors), one)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert not torch.equal(draw_animals(20, seed=3, labels=1)[0], draw_animals(20, seed=2, labels=1)[0])


def test_nothing_and_one_for_all():
    images, labels, factors = draw_animals(0, seed=0)
    assert images.shape == (0, 3, 32, 32) and len(labels) == len(factors["size"]) == 0
    assert draw_animals(3, seed=0, labels=1)[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("label", [0, 1])
def test_facing_mirrors_and_light_lightens(label):
    right, left = middling([label] * 2, facing=torch.tensor([0.5, -0.5]))
    assert (right - left.flip(2)).abs().max() < 0.02 < (right - left).abs().max()
    dark, light = middling([label] * 2, light=torch.tensor([0.8, 1.2]))
    assert light.mean() > 1.2 * dark.mean()


def where(images, ground):
    """Mean row and column, and number, of the pixels that differ from the ground."""
    apart = (images - ground).abs().amax(1) > 0.06
    at = apart.nonzero().float()
    return at[:, 1].mean().item(), at[:, 2].mean().item(), apart.sum().item()


@pytest.mark.parametrize("label, pose", [(0, 0.4), (0, 0.6), (1, 0.1), (1, 0.6), (1, 0.9)])
def test_place_and_size(label, pose):
    ground = middling([label], pose=pose, size=1e-3)
    _, _, small = where(middling([label], pose=pose, size=0.6), ground)
    row, column, large = where(middling([label], pose=pose, size=0.8), ground)
    assert large > 1.4 * small
    row_moved, column_moved, _ = where(middling([label], pose=pose, size=0.8, right=0.1, down=0.1), ground)
    assert row_moved - row == pytest.approx(1.6, abs=0.7) and column_moved - column == pytest.approx(1.6, abs=0.7)


def test_coats_scenes_and_marks_are_seen():
    for label, name in enumerate(("bird", "cat")):
        coats = torch.arange(len(COATS[name])) / len(COATS[name]) + 0.01
        seen = middling([label] * len(coats), coat=coats).mean((2, 3))
        assert torch.pdist(seen).min() > 0.01, name
    scenes = torch.arange(len(SCENES)) / len(SCENES) + 0.01
    top = middling([1] * len(scenes), scene=scenes)[:, :, 0].mean(2)
    assert (top - torch.tensor([s[0] for s in SCENES])).abs().max() < 0.03
    plain, striped = middling([1, 1], marks=torch.tensor([0.0, 1.0]))
    assert (plain - striped).abs().max() > 0.1


@pytest.mark.parametrize("make, error, words", [
    (lambda: draw_animals(-1, seed=0), ValueError, "fewer than 0 animals"),
    (lambda: draw_animals(2.5, seed=0), TypeError, "float"),
    (lambda: draw_animals(2, seed=0, labels=[0, 2]), ValueError, "0 .bird. or 1 .cat."),
    (lambda: draw_animals(2, seed=0, labels=[0, 1, 1]), ValueError, r"shape \(2,\), not \(3,\)"),
    (lambda: draw_animals(2, seed=0, labels=[0.0, 1.0]), TypeError, "whole numbers"),
    (lambda: draw([0], {}), ValueError, "factors must be"),
])
def test_what_cannot_be_drawn_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


# --- the reader: a CIFAR-10 in torchvision's layout, in miniature ---------------------------------------

PER_BATCH = 40  # images, of ten classes in turn: four birds and four cats in each


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No settings of the user's, an empty data folder and cache, no network, nothing remembered."""
    for name in ("GENMED_DATA", "GENMED_DATA_SOURCE", "GENMED_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime, "root", lambda: tmp_path)
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/" + CIFAR10.filename)
    monkeypatch.setattr(data, "ANIMAL_SPLITS", {"train": (24, 1), "val": (8, 2), "test": (12, 3)})
    downloads._once.cache_clear()
    yield
    downloads._once.cache_clear()


@pytest.fixture
def batches(monkeypatch):
    """The six batches of a miniature whose checksums `data` accepts -> {name: contents}."""
    rng, files = np.random.RandomState(0), {}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        batch = {"data": rng.randint(0, 256, (PER_BATCH, 3072)).astype(np.uint8),
                 "labels": [i % 10 for i in range(PER_BATCH)]}
        files[name] = pickle.dumps(batch)
    sums = [[name, hashlib.md5(content).hexdigest()] for name, content in files.items()]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(mnist_cifar, "CIFAR_VAL", 10)
    return files


def archive_of(files):
    """The batches as torchvision's archive has them -> bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(params=["folder", "archive", "CIFAR10/folder"])
def placed(request, batches, tmp_path):
    """The miniature under data/, unpacked or not -> what holds it."""
    base = tmp_path / "data" / ("CIFAR10" if "/" in request.param else "")
    base.mkdir(parents=True)
    if request.param == "archive":
        place = base / CIFAR10.filename
        place.write_bytes(archive_of(batches))
        return place
    place = base / CIFAR10.base_folder
    place.mkdir()
    for name, content in batches.items():
        (place / name).write_bytes(content)
    return place


def test_birds_and_cats_are_read_and_shared_out(placed, batches, capsys):
    sets = {split: animals(split) for split in data.SPLITS}
    assert [len(d) for d in sets.values()] == [30, 10, 8]
    for d in sets.values():
        assert d.source == "cifar10" and d.caption == "CIFAR-10" and d.classes == ("bird", "cat")
        assert d.images.shape[1:] == (3, 32, 32) and set(d.labels.tolist()) == {0, 1}
    out = capsys.readouterr().out
    assert out.count("\n") == 3 and f"birds and cats of CIFAR-10 from data/{placed.relative_to(placed.parents[0])}" in (
        out.replace("data/CIFAR10/", "data/"))
    whole = pickle.loads(batches["test_batch"])
    first = np.array([i for i, label in enumerate(whole["labels"]) if label in (2, 3)])
    assert np.array_equal(sets["test"].images.numpy().reshape(8, -1), whole["data"][first])
    assert sets["test"].labels.tolist() == [0, 1] * 4
    seen = {bytes(x.numpy()) for split in ("train", "val") for x in sets[split].images}
    assert len(seen) == 40, "a training image is in one split"


@pytest.mark.parametrize("damage, words", [
    (lambda path: os.truncate(path, path.stat().st_size - 1), "checksum|truncated|archive"),
    (lambda path: path.write_bytes(b"<html>404</html>"), "checksum|archive"),
    (lambda path: path.write_bytes(b""), "checksum|archive"),
])
@pytest.mark.parametrize("source", ["auto", "cifar10"])
def test_damaged_files_are_named_and_never_replaced_by_drawings(placed, damage, words, source):
    path = placed if placed.is_file() else placed / "data_batch_3"
    if placed.is_file():
        os.truncate(path, path.stat().st_size // 2)
    damage(path)
    with pytest.raises(DataError, match=words) as caught:
        animals("train", source)
    assert str(path) in str(caught.value) and "Copy it anew" in str(caught.value)


def test_a_missing_batch_is_named(batches, tmp_path):
    folder = tmp_path / "data" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(batches["data_batch_1"])
    with pytest.raises(DataError, match="data_batch_2: missing"):
        animals("train")


def test_absent_gives_drawings_and_says_why(capsys, monkeypatch):
    assert animals("val").source == "animals"
    out = capsys.readouterr().out
    assert "8 embedded drawings of birds and cats (no CIFAR-10 files, and the download failed" in out
    with pytest.raises(DataError, match="CIFAR-10 is not there"):
        animals("val", "cifar10")
    monkeypatch.setenv("GENMED_OFFLINE", "1")
    drawn = animals("train")
    assert "GENMED_OFFLINE forbids the download" in capsys.readouterr().out
    assert len(drawn) == 24 and drawn.labels.bincount().tolist() == [12, 12] and {"pose", "coat"} < set(drawn.factors)
    assert repr(drawn) == "ImageSet(24 images 32x32 in colour, 2 classes, source='animals')"
    again = animals("train", "embedded")
    assert torch.equal(drawn.images, again.images) and torch.equal(drawn.factors["size"], again.factors["size"])


@pytest.fixture
def server(tmp_path, monkeypatch, batches):
    """Serves the archive on this machine -> its path there."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    path = folder / CIFAR10.filename
    path.write_bytes(archive_of(batches))
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{httpd.server_port}/{path.name}")
        yield path
        httpd.shutdown()


def test_a_download_is_kept(server, tmp_path, capsys):
    assert len(animals("train")) == 30
    out = capsys.readouterr().out
    assert "downloading CIFAR-10, 170 MB, once" in out and "from a fresh download" in out
    assert [p.name for p in (tmp_path / "data").iterdir()] == [CIFAR10.base_folder]
    server.unlink()
    downloads._once.cache_clear()
    assert len(animals("test")) == 8 and "from data/cifar-10-batches-py" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", [lambda p: os.truncate(p, 200), lambda p: p.write_bytes(b"<html>Sign in</html>")])
def test_a_spoilt_download_is_not_taken(server, tmp_path, spoil):
    spoil(server)
    assert animals("val").source == "animals"
    assert not list((tmp_path / "data").iterdir())
