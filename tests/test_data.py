"""Digits from files, from a download and from formulas; every damaged file meets its own clear error."""

import gzip
import hashlib
import http.server
import os
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import MNIST

from genmed_core import data, downloads, mnist_cifar, runtime
from genmed_core.data import DataError, ImageSet, digits

REAL = os.environ.get("GENMED_DATA")  # before the fixture below hides it
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = mnist_cifar.MNIST_MD5
TRAIN, VAL, TEST = 50, 10, 20  # images in the miniature MNIST of these tests


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No settings of the user's, an empty data folder, no network, nothing remembered from another test."""
    for name in ("GENMED_DATA", "GENMED_DATA_SOURCE", "GENMED_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime, "root", lambda: tmp_path)
    monkeypatch.setattr(MNIST, "mirrors", [])
    downloads._once.cache_clear()
    yield
    downloads._once.cache_clear()


def idx(array):
    """Bytes of an idx file of unsigned bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def miniature():
    """Contents of the four files of an MNIST of 60 + 20 images."""
    rng = np.random.RandomState(0)
    sizes = {TRAIN_IMAGES: (TRAIN + VAL, 28, 28), TRAIN_LABELS: (TRAIN + VAL,),
             TEST_IMAGES: (TEST, 28, 28), TEST_LABELS: (TEST,)}
    return {name: idx(rng.randint(0, 256 if len(size) == 3 else 10, size).astype(np.uint8))
            for name, size in sizes.items()}


@pytest.fixture
def small(monkeypatch):
    """A miniature MNIST whose checksums `data` accepts -> {name: contents}."""
    files = miniature()
    monkeypatch.setattr(mnist_cifar, "MNIST_MD5", {k: hashlib.md5(v).hexdigest() for k, v in files.items()})
    monkeypatch.setattr(mnist_cifar, "MNIST_VAL", VAL)
    return files


@pytest.fixture
def raw(small, monkeypatch, tmp_path):
    """The miniature in a folder that GENMED_DATA names -> its MNIST/raw."""
    folder = tmp_path / "mine" / "MNIST" / "raw"
    write(folder, small)
    monkeypatch.setenv("GENMED_DATA", str(tmp_path / "mine"))
    return folder


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


# --- ImageSet -------------------------------------------------------------------------------------------


def image_set(n=4, **changes):
    parts = {"images": torch.zeros(n, 1, 5, 6, dtype=torch.uint8), "labels": torch.arange(n),
             "classes": tuple("abcd"), "source": "strokes", "factors": {"slant": torch.arange(n) / 10}}
    return ImageSet(**(parts | changes))


def test_image_set_has_a_length_a_short_repr_and_subsets():
    d = image_set()
    assert len(d) == 4
    assert repr(d) == "ImageSet(4 images 5x6, 4 classes, source='strokes')"
    for index in (torch.tensor([2, 0]), [2, 0], np.array([2, 0])):
        part = d.subset(index)
        assert part.labels.tolist() == [2, 0] and part.images.shape == (2, 1, 5, 6)
        assert part.factors["slant"].tolist() == pytest.approx([0.2, 0.0])
    assert image_set(factors=None).subset(slice(1, 3)).factors is None
    assert len(d.subset(d.labels > 1)) == 2
    assert len(d.subset([])) == 0


@pytest.mark.parametrize("changes, words", [
    ({"images": torch.zeros(4, 1, 5, 6)}, "uint8.*float32.*255 \\* images"),
    ({"images": torch.full((4, 1, 5, 6), 256)}, "from 0 to 255, not from 256 to 256"),
    ({"images": torch.full((4, 1, 5, 6), -1)}, "from 0 to 255, not from -1 to -1"),
    ({"images": torch.zeros(4, 5, 6, dtype=torch.uint8)}, r"\(N, 1, H, W\).*\(4, 5, 6\)"),
    ({"images": torch.zeros(4, 2, 5, 6, dtype=torch.uint8)}, r"in colour \(N, 3, H, W\), not.*\(4, 2, 5, 6\)"),
    ({"labels": torch.arange(3)}, r"int64 \(4,\)"),
    ({"labels": torch.arange(4).int()}, "int64.*int32"),
    ({"labels": torch.tensor([0, 1, 2, 4])}, r"0\.\.3"),
    ({"labels": torch.tensor([0, 1, 2, -1])}, r"0\.\.3"),
    ({"factors": {"slant": torch.zeros(3)}}, "slant"),
])
def test_image_set_refuses_parts_that_do_not_fit(changes, words):
    with pytest.raises(ValueError, match=words):
        image_set(**changes)


@pytest.mark.parametrize("kind", [torch.int16, torch.int32, torch.int64])
def test_bytes_in_a_wider_type_are_bytes(kind):
    images = torch.arange(120).view(4, 1, 5, 6) * 2
    found = image_set(images=images.to(kind)).images
    assert found.dtype == torch.uint8 and torch.equal(found, images.to(torch.uint8))


def test_arrays_are_taken_as_tensors():
    d = image_set(images=np.zeros((4, 1, 5, 6), np.uint8), labels=[0, 1, 2, 3])
    assert torch.is_tensor(d.images) and d.labels.tolist() == [0, 1, 2, 3]


def test_captions_say_whose_images_they_are():
    captions = [image_set(source=source).caption for source in ("database", "own films", "my phantoms")]
    assert captions == ["COVID-19 Radiography Database", "films of your own", "my phantoms"]


@pytest.mark.parametrize("needs, words", [
    ({"images": 5}, "drawn digits: 4 images .1 a, 1 b, 1 c, 1 d. do not suffice.*5 images.*SOURCE=embedded"),
    ({"images": 9}, "at least 9 images of 1 class."),
    ({"images": 4, "classes": 5}, "4 images of 5 classes"),
    ({"images": 1, "including": ["z"]}, "z among them"),
])
def test_too_little_is_said_before_training(needs, words):
    data.require(image_set(), images=4, classes=4, including=["a", "d"])
    data.require(image_set(), image_set(), images=8)
    with pytest.raises(DataError, match=words):
        data.require(image_set(), **needs)


# --- the embedded drawings ------------------------------------------------------------------------------


def test_embedded_splits(capsys):
    sets = {split: digits(split, "embedded") for split in data.SPLITS}
    assert [len(d) for d in sets.values()] == [20_000, 2_500, 5_000]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all("embedded stroke drawings" in line for line in lines)
    for d in sets.values():
        assert d.source == "strokes" and d.classes == tuple("0123456789")
        assert d.images.shape[1:] == (1, 28, 28) and d.labels.bincount().min() > 0.08 * len(d)
        assert {"slant", "thickness"} < set(d.factors)
    hands = torch.cat([d.factors["hand"] for d in sets.values()])
    assert len(hands.unique()) == len(hands), "a drawing is in two splits"


def test_nothing_there_and_no_network_gives_drawings_and_says_so(capsys):
    assert digits("val").source == "strokes"
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "download failed" in out and "data/README.md" in out


def test_embedded_can_be_forced(raw, monkeypatch):
    monkeypatch.setenv("GENMED_DATA_SOURCE", "embedded")
    assert digits("val").source == "strokes"
    assert digits("val", "mnist").source == "mnist", "an explicit wish counts more"
    monkeypatch.setenv("GENMED_DATA_SOURCE", "tapes")
    with pytest.raises(runtime.SettingError, match="GENMED_DATA_SOURCE='tapes'.*embedded"):
        digits("val")


@pytest.mark.parametrize("arguments, words", [
    (("tset",), "'tset'.*'train', 'val', 'test'"),
    (("test", "emnist"), "'emnist'.*'auto', 'mnist', 'embedded'"),
])
def test_unknown_names_list_the_choices(arguments, words):
    with pytest.raises(ValueError, match=words):
        digits(*arguments)


# --- MNIST from files -----------------------------------------------------------------------------------


def test_reads_files_where_genmed_data_says(raw, small, capsys):
    sets = {split: digits(split) for split in data.SPLITS}
    assert [len(d) for d in sets.values()] == [TRAIN, VAL, TEST]
    assert all(d.source == "mnist" and d.factors is None for d in sets.values())
    out = capsys.readouterr().out
    assert out.count("\n") == 3 and "$GENMED_DATA/MNIST/raw" in out and str(raw.parent) not in out
    whole = torch.frombuffer(bytearray(small[TEST_IMAGES][16:]), dtype=torch.uint8).view(TEST, 1, 28, 28)
    assert torch.equal(sets["test"].images, whole)


def test_train_and_val_share_out_the_training_files(raw, small):
    parts = torch.cat([digits(split).images for split in ("train", "val")]).flatten(1)
    whole = torch.frombuffer(bytearray(small[TRAIN_IMAGES][16:]), dtype=torch.uint8).view(-1, 784)
    assert {bytes(x.numpy()) for x in parts} == {bytes(x.numpy()) for x in whole}
    assert len(parts) == len(whole)
    assert torch.equal(digits("val").images, digits("val").images)


def test_reads_the_default_folder_and_packed_files(small, tmp_path, capsys):
    write(tmp_path / "data/MNIST/raw", {f"{name}.gz": gzip.compress(c) for name, c in small.items()})
    assert len(digits("train")) == TRAIN and len(digits("test", "mnist")) == TEST
    assert "from data/MNIST/raw" in capsys.readouterr().out


def replaced(name, content):
    return lambda raw, small: (raw / name).write_bytes(content(small) if callable(content) else content)


def packed_and_cut(raw, small):
    (raw / TRAIN_IMAGES).unlink()
    (raw / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(small[TRAIN_IMAGES])[:-100])


def html_named_gz(raw, small):
    (raw / TRAIN_LABELS).unlink()
    (raw / f"{TRAIN_LABELS}.gz").write_bytes(b"<html>404</html>")


def folder_in_place(raw, small):
    (raw / TRAIN_LABELS).unlink()
    (raw / TRAIN_LABELS).mkdir()


@pytest.mark.parametrize("damage, name, words", [
    (lambda raw, small: (raw / TRAIN_LABELS).unlink(), TRAIN_LABELS, "missing"),
    (lambda raw, small: (raw / TEST_IMAGES).unlink(), TEST_IMAGES, "missing"),
    (folder_in_place, TRAIN_LABELS, "missing"),
    (replaced(TRAIN_IMAGES, lambda s: s[TRAIN_IMAGES][:-1]), TRAIN_IMAGES, "truncated"),
    (replaced(TRAIN_IMAGES, lambda s: s[TRAIN_IMAGES][:10]), TRAIN_IMAGES, "truncated"),
    (replaced(TRAIN_LABELS, lambda s: s[TRAIN_LABELS] + b"x"), TRAIN_LABELS, "header promises"),
    (replaced(TRAIN_IMAGES, b""), TRAIN_IMAGES, "empty file"),
    (replaced(TRAIN_IMAGES, b"\n<!DOCTYPE html><p>Sign in"), TRAIN_IMAGES, "web page"),
    (replaced(TRAIN_IMAGES, b"\x89PNG\r\n\x1a\n" + bytes(99)), TRAIN_IMAGES, "PNG image"),
    (replaced(TRAIN_LABELS, lambda s: gzip.compress(s[TRAIN_LABELS])), TRAIN_LABELS, "gzip file"),
    (replaced(TRAIN_LABELS, bytes(range(1, 200))), TRAIN_LABELS, "foreign file"),
    (replaced(TRAIN_LABELS, lambda s: s[TRAIN_IMAGES]), TRAIN_LABELS, "not of labels.*swapped"),
    (replaced(TRAIN_IMAGES, lambda s: s[TRAIN_LABELS]), TRAIN_IMAGES, "not of 28x28 images"),
    (replaced(TRAIN_LABELS, lambda s: s[TEST_LABELS]), TRAIN_LABELS, "20 labels for 60 images"),
    (replaced(TRAIN_LABELS, lambda s: s[TRAIN_LABELS][:-1] + b"\x0b"), TRAIN_LABELS, "checksum"),
    (packed_and_cut, TRAIN_IMAGES, "truncated"),
    (html_named_gz, TRAIN_LABELS, "not a gzip file"),
])
@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_damaged_files_are_named_with_the_remedy(raw, small, damage, name, words, source):
    """Also in "auto": damaged files must not quietly turn into embedded drawings."""
    damage(raw, small)
    with pytest.raises(DataError, match=words) as caught:
        digits("train", source)
    said = str(caught.value)
    assert str(raw / name) in said and "delete" not in said, "what lies there is the reader's own"
    assert f"Copy it anew, or move it out of {raw}" in said or "Put it there, too" in said


def test_the_remedy_for_a_damaged_file_works(raw, small, server, monkeypatch):
    """Moved away, as the message says, the file is downloaded again, and the others stay."""
    serve(server[0], small, monkeypatch)
    os.truncate(raw / TRAIN_LABELS, 20)
    with pytest.raises(DataError, match="move it out"):
        digits("train")
    kept = (raw / TRAIN_IMAGES).stat().st_mtime_ns
    (raw / TRAIN_LABELS).rename(raw.parent / "damaged")
    assert len(digits("train")) == TRAIN
    assert (raw / TRAIN_IMAGES).stat().st_mtime_ns == kept and len(list(raw.iterdir())) == 4


def dotted(name):
    return name.replace("-idx", ".idx")


@pytest.mark.parametrize("folder, name", [
    ("MNIST/raw", dotted),                       # 7-Zip, Kaggle
    ("MNIST/raw", lambda n: f"{n}/{n}"),         # Kaggle: a folder for each file
    ("MNIST/raw", lambda n: f"{dotted(n)}/{dotted(n)}"),
    ("MNIST/raw", lambda n: f"{dotted(n)}.gz"),
    ("MNIST", str), ("mnist/raw", str), ("mnist", dotted), ("raw", str), (".", str), ("MNIST/RAW", str.upper),
])
def test_other_names_and_places_of_mnist(small, tmp_path, monkeypatch, capsys, folder, name):
    for file, content in small.items():
        path = tmp_path / "mine" / folder / name(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    monkeypatch.setenv("GENMED_DATA", str(tmp_path / "mine"))
    assert len(digits("train", "mnist")) == TRAIN and len(digits("test")) == TEST
    assert f"from $GENMED_DATA/{folder}".removesuffix("/.") in capsys.readouterr().out


def test_the_fullest_place_counts(raw, small, tmp_path):
    write(tmp_path / "mine", {TRAIN_IMAGES: b"stray"})
    assert len(digits("train")) == TRAIN


def test_mnist_in_a_form_that_is_not_read_is_named(tmp_path, monkeypatch, capsys):
    write(tmp_path / "mine", {"mnist.npz": b"PK"})
    monkeypatch.setenv("GENMED_DATA", str(tmp_path / "mine"))
    assert digits("val").source == "strokes" and "mnist.npz is not read" in capsys.readouterr().out


def test_a_file_that_cannot_be_read(raw, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES}: cannot be read .Permission denied"):
        digits("train")


def test_genmed_data_must_name_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMED_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"nowhere does not exist.*unset GENMED_DATA"):
        digits("val")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENMED_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"is a file, not a folder"):
        digits("val", "mnist")
    assert digits("val", "embedded").source == "strokes", "embedded data need no folder"


@pytest.mark.parametrize("text, place", [("~/films", "home/films"), ("films", "films"), ("  ", "data"), ("", "data")])
def test_genmed_data_from_home_from_the_project_and_empty(tmp_path, monkeypatch, small, text, place):
    """Wherever the code runs: a notebook's kernel works in chapters/."""
    write(tmp_path / place / "MNIST/raw", small)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GENMED_DATA", text)
    assert len(digits("train", "mnist")) == TRAIN


# --- the download ---------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A mirror on this machine -> (its folder, requests it got). It serves nothing yet."""
    folder, requests = tmp_path / "mirror", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_request(self, *_):
            requests.append(self.path)

        def log_error(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{httpd.server_port}/"])
        yield folder, requests
        httpd.shutdown()


def serve(folder, small, monkeypatch):
    files = {f"{name}.gz": gzip.compress(content) for name, content in small.items()}
    write(folder, files)
    monkeypatch.setattr(MNIST, "resources", [(k, hashlib.md5(v).hexdigest()) for k, v in files.items()])


def test_a_download_is_kept(server, small, monkeypatch, tmp_path, capfd):
    serve(server[0], small, monkeypatch)
    assert len(digits("train")) == TRAIN
    captured = capfd.readouterr()
    assert "from a fresh download" in captured.out and captured.out.count("\n") == 1 and not captured.err
    assert sorted(p.name for p in (tmp_path / "data/MNIST/raw").iterdir()) == sorted(small)
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["MNIST"], "nothing else is left behind"
    server[1].clear()
    assert len(digits("test")) == TEST and not server[1], "downloaded once"


@pytest.mark.parametrize("break_it", [
    lambda mirror: (mirror / f"{TEST_LABELS}.gz").unlink(),
    lambda mirror: (mirror / f"{TEST_LABELS}.gz").write_bytes(b"<html>Sign in to this network</html>"),
    lambda mirror: os.truncate(mirror / f"{TEST_IMAGES}.gz", 99),
], ids=["interrupted", "captive portal", "cut short"])
def test_part_of_a_download_is_never_taken_for_the_whole(server, small, monkeypatch, tmp_path, break_it):
    serve(server[0], small, monkeypatch)
    break_it(server[0])
    assert digits("val").source == "strokes"
    assert not (tmp_path / "data" / "MNIST").exists() and not list((tmp_path / "data").iterdir())
    with pytest.raises(DataError, match=f"MNIST is not there.*{TRAIN_IMAGES}.*GENMED_DATA"):
        digits("val", "mnist")


def test_leftovers_of_a_killed_download_are_not_read(small, tmp_path):
    write(tmp_path / "data/.download-abc/raw", {TRAIN_IMAGES: small[TRAIN_IMAGES][:100]})
    assert digits("val").source == "strokes"


def test_a_failed_download_is_tried_once_a_process(server, small):
    digits("val")
    assert server[1]
    server[1].clear()
    digits("val")
    assert not server[1]


def test_offline_never_asks(server, small, monkeypatch, capsys):
    serve(server[0], small, monkeypatch)
    monkeypatch.setenv("GENMED_OFFLINE", "1")
    assert digits("val").source == "strokes" and "GENMED_OFFLINE" in capsys.readouterr().out
    with pytest.raises(DataError, match="GENMED_OFFLINE"):
        digits("val", "mnist")
    assert not server[1]
    monkeypatch.setenv("GENMED_OFFLINE", "0")
    assert digits("val").source == "mnist"


def test_a_silent_mirror_is_given_up_within_seconds(monkeypatch):
    monkeypatch.setattr(downloads, "STALL", 0.2)
    monkeypatch.setattr(MNIST, "mirrors", ["http://one.invalid/", "http://two.invalid/"])
    monkeypatch.setattr(downloads, "_knock", lambda mirror: time.sleep(5))
    start = time.monotonic()
    assert downloads.mnist(Path(runtime.root()) / "data")[0] is None
    assert time.monotonic() - start < 3


def test_a_folder_that_cannot_be_written(server, small, monkeypatch, tmp_path, capsys):
    serve(server[0], small, monkeypatch)
    (tmp_path / "file").write_text("a file, so nothing can be made inside it")
    monkeypatch.setattr(runtime, "root", lambda: tmp_path / "file")
    assert len(digits("train")) == TRAIN
    assert "temporary" in capsys.readouterr().out
    assert len(digits("test")) == TEST


@pytest.mark.parametrize("stray", [".DS_Store", "archive.zip", "notes.txt", dotted(TRAIN_IMAGES)])
def test_a_stray_file_stays_and_the_download_is_kept_beside_it(server, small, monkeypatch, tmp_path, stray):
    serve(server[0], small, monkeypatch)
    raw = tmp_path / "data" / "MNIST" / "raw"
    write(raw, {stray: b"the user's own"})
    assert len(digits("train")) == TRAIN
    downloads._once.cache_clear()  # another session
    server[1].clear()
    assert len(digits("test")) == TEST and not server[1], "downloaded once"
    assert (raw / stray).read_bytes() == b"the user's own"


def test_a_folder_in_a_files_place_makes_the_download_temporary(server, small, monkeypatch, tmp_path):
    serve(server[0], small, monkeypatch)
    (tmp_path / "data/MNIST/raw" / TRAIN_LABELS).mkdir(parents=True)
    assert len(digits("train")) == TRAIN and len(digits("test")) == TEST


# --- the genuine files ----------------------------------------------------------------------------------


def test_genuine_mnist(monkeypatch):
    if not REAL or not (Path(REAL) / "MNIST" / "raw").is_dir():
        pytest.skip("GENMED_DATA names no folder with MNIST/raw: the genuine MNIST is not tested")
    monkeypatch.setenv("GENMED_DATA", REAL)
    sets = {split: digits(split, "mnist") for split in data.SPLITS}
    assert [len(d) for d in sets.values()] == [55_000, 5_000, 10_000]
    assert sets["test"].labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = sets["train"].labels.bincount() + sets["val"].labels.bincount()
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert sets["train"].labels.bincount()[0] == 5417, "the split changed"
    assert sets["test"].images.float().mean() == pytest.approx(33.79, abs=0.01)
