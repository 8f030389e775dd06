"""Chest X-rays from the database's folder or from formulas; every damaged file meets its own clear error."""

import os
import sys
import time
import types
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genmed_core import cache, data, imagefiles, metrics, radiographs, runtime
from genmed_core.collection import assign_splits, patients
from genmed_core.data import CXR_CLASSES, DataError, class_counts, cxr
from genmed_core.radiographs import FOLDER

REAL = os.environ.get("GENMED_DATA")  # before the fixture below hides it
FOLDERS = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No settings of the user's, an empty data folder, nothing remembered from another test."""
    for name in ("GENMED_DATA", "GENMED_DATA_SOURCE", "GENMED_OFFLINE", "GENMED_PUBLIC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime, "root", lambda: tmp_path)
    (tmp_path / "data").mkdir()
    cache._KEPT.clear()


def picture(seed, size=299, mode="L"):
    """A smooth picture that deflates quickly; another for every seed."""
    small = np.random.RandomState(seed).randint(0, 256, (4, 4)).astype(np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture(scope="session")
def contents(tmp_path_factory):
    """Bytes of 48 pictures, PNG, made once."""
    folder, made = tmp_path_factory.mktemp("pictures"), []
    for seed in range(48):
        picture(seed).save(folder / "x.png", compress_level=1)
        made.append((folder / "x.png").read_bytes())
    return made


@pytest.fixture
def place(contents, tmp_path, monkeypatch):
    """A database of 12 images in each class, as Kaggle ships it: masks and metadata beside the images."""
    here = tmp_path / "user" / FOLDER
    for number, name in enumerate(FOLDERS):
        for kind in ("images", "masks"):
            (here / name / kind).mkdir(parents=True)
        for k in range(12):
            (here / name / "images" / f"{name}-{k + 1}.png").write_bytes(contents[12 * number + k])
        Image.new("L", (256, 256), 255).save(here / name / "masks" / f"{name}-1.png")
        (here / f"{name}.metadata.xlsx").write_bytes(b"PK\3\4")
    monkeypatch.setenv("GENMED_DATA", str(tmp_path / "user"))
    return here


def three(**options):
    return [cxr(split, "database", **options) for split in data.SPLITS]


# --- what is read ---------------------------------------------------------------------------------------


def test_reads_the_folder_as_kaggle_ships_it(place, capsys):
    train, val, test = three()
    assert [len(d) for d in (train, val, test)] == [29, 9, 10] and train.source == "database"
    assert train.images.shape[1:] == (1, 64, 64) and train.classes == CXR_CLASSES and train.factors is None
    out = capsys.readouterr().out
    assert out.count("\n") == 3
    assert f"29 X-rays of the COVID-19 Radiography Database from $GENMED_DATA/{FOLDER}\n" in out
    assert str(place) not in out, "no path of this machine ends up in a notebook"


def pyhealths_counts(place, sheets):
    """What PyHealth 1.1.6 counts, by the rule of its COVID19CXRDataset: one sample for each row of a class's sheet."""
    counts = Counter()
    for name, rows in sheets.items():
        for row in rows:
            file = row.capitalize() if name == "Normal" else row  # Kaggle's sheet says NORMAL-1
            assert (place / name / "images" / f"{file}.png").is_file(), "PyHealth demands it"
            counts[name.replace("_", " ")] += 1
    return counts


def test_counts_are_pyhealths_and_no_mask_is_among_them(place):
    """PyHealth itself, given a fabricated folder with its sheets, counted as this rule and as class_counts do."""
    numbers = dict(zip(FOLDERS, (5, 9, 12, 3), strict=True))
    sheets = {name: [f"{name.upper() if name == 'Normal' else name}-{k + 1}" for k in range(n)]
              for name, n in numbers.items()}
    for name, n in numbers.items():
        for k in range(n, 12):
            (place / name / "images" / f"{name}-{k + 1}.png").unlink()
    (place / "Normal" / "images" / "Normal-12.png").write_bytes((place / "COVID/images/COVID-1.png").read_bytes())
    sets = three()
    counts = class_counts(*sets)
    assert counts == pyhealths_counts(place, sheets), "exact copies count, as there"
    assert list(counts) == ["Normal", "Lung Opacity", "COVID", "Viral Pneumonia"], "the largest first"
    assert all((d.images.amax((1, 2, 3)) < 255).any() for d in sets), "masks are white"


def test_an_image_is_its_file_made_smaller(place):
    sets = three(size=299)
    images = torch.cat([d.images for d in sets])[:, 0].numpy()
    labels = torch.cat([d.labels for d in sets]).tolist()
    mine = {(x.tobytes(), CXR_CLASSES[label]) for x, label in zip(images, labels)}
    files = {(np.asarray(Image.open(p)).tobytes(), p.parent.parent.name.replace("_", " "))
             for p in place.glob("*/images/*.png")}
    assert mine == files
    small = torch.cat([d.images for d in three(size=32)]).float()
    assert small.mean().item() == pytest.approx(images.mean(), abs=0.5)


def test_other_files_are_not_read(place):
    images = place / "COVID" / "images"
    for name in ("._COVID-1.png", "Thumbs.db", "notes.txt"):
        (images / name).write_bytes(b"something else")
    (images / "folder.png").mkdir()
    (place / "Tuberculosis" / "images").mkdir(parents=True)
    assert sum(map(len, three())) == 48


def test_underscores_nesting_and_the_folder_itself(place, monkeypatch, capsys):
    (place / "Viral Pneumonia").rename(place / "Viral_Pneumonia")
    assert sum(map(len, three())) == 48
    monkeypatch.setenv("GENMED_DATA", str(place))
    assert sum(map(len, three())) == 48 and "from $GENMED_DATA\n" in capsys.readouterr().out
    inner = place.parent / "again" / FOLDER
    inner.mkdir(parents=True)
    place.rename(inner / FOLDER)
    monkeypatch.setenv("GENMED_DATA", str(inner.parent))
    assert sum(map(len, three())) == 48


def test_a_missing_class_is_said_and_keeps_the_numbers_of_the_others(place, capsys):
    full = torch.cat([d.labels for d in three()]).bincount(minlength=4)
    (place / "COVID").rename(place.parent / "elsewhere")
    counts = torch.cat([d.labels for d in three()]).bincount(minlength=4)
    assert full.tolist() == [12] * 4 and counts.tolist() == [0, 12, 12, 12]
    assert "; no COVID\n" in capsys.readouterr().out


@pytest.mark.parametrize("spell", [
    lambda place: [(place / n).rename(place / n.upper()) for n in FOLDERS],
    lambda place: [(place / n / "images").rename(place / n / "Images") for n in FOLDERS],
    lambda place: (place / "COVID").rename(place / "COVID-19"),
    lambda place: place.rename(place.with_name("COVID-19 Radiography Database")),
    lambda place: ((place.parent / "archive").mkdir(), place.rename(place.parent / "archive" / FOLDER)),
    lambda place: [p.rename(p.parent.parent / p.name) for p in place.glob("*/images/*.png")],
    lambda place: [(place / n).rename(place.parent / n) for n in FOLDERS],
], ids=["capitals", "Images", "COVID-19", "older name", "archive/", "no images/", "classes in GENMED_DATA"])
def test_other_versions_of_the_folder_are_read(place, spell):
    spell(place)
    sets = three()
    assert class_counts(*sets) == dict.fromkeys(CXR_CLASSES, 12) and sets[0].source == "database"


def test_the_1024_pixels_of_the_versions_before_2021(place):
    for path in place.glob("COVID/images/*.png"):
        Image.open(path).resize((1024, 1024)).save(path)
    assert sum(map(len, three())) == 48


@pytest.mark.parametrize("name", [f"{FOLDER}.zip", "covid19-radiography-database.zip", "archive.zip"])
def test_the_database_still_packed_is_named_and_not_replaced_by_phantoms(tmp_path, monkeypatch, name):
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr(f"{FOLDER}/COVID/images/COVID-1.png", b"")
    monkeypatch.setenv("GENMED_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"{name}: the database is still packed. Unpack it into"):
        cxr("train")


def test_class_folders_without_pictures_beside_other_data_are_none_of_ours(tmp_path, phantom, monkeypatch):
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / "table.csv").write_text("a,b")
    monkeypatch.setenv("GENMED_DATA", str(tmp_path))
    assert cxr("val").source == "phantom"


def test_a_folder_that_may_not_be_listed(place, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\). Make it readable"):
        cxr("train")


# --- films of one's own -----------------------------------------------------------------------------------


def own_films(place, size, mode="L", n=10):
    for number, name in enumerate(FOLDERS[:2]):
        folder = place / name / "images"
        folder.mkdir(parents=True)
        for k in range(n):
            picture(100 * number + k, 300).resize(size).convert(mode).save(folder / f"film {k}.png")


@pytest.mark.parametrize("size, mode", [((512, 512), "L"), ((299, 299), "RGBA"), ((256, 256), "L"), ((640, 400), "LA"),
                                        ((400, 512), "P")])
def test_films_of_ones_own_of_any_size_and_mode(tmp_path, monkeypatch, capsys, size, mode):
    own_films(tmp_path / FOLDER, size, mode)
    monkeypatch.setenv("GENMED_DATA", str(tmp_path))
    sets = three()
    assert sum(map(len, sets)) == 20 and {d.source for d in sets} == {"own films"}
    assert sets[0].caption == "films of your own", "not captioned as the database"
    out = capsys.readouterr().out
    assert f"films of your own from $GENMED_DATA/{FOLDER}, each made square and 64x64" in out
    assert "Radiography Database" not in out


def test_a_film_that_is_not_square_is_whole_on_black(tmp_path, monkeypatch):
    own_films(tmp_path / FOLDER, (640, 320))
    monkeypatch.setenv("GENMED_DATA", str(tmp_path))
    images = torch.cat([d.images for d in three()])
    assert images[:, :, :15].max() == images[:, :, -15:].max() == 0
    assert images[:, :, 17:-17].float().std((1, 2, 3)).min() > 5


def test_sixteen_bit_films_are_read(tmp_path, monkeypatch):
    own_films(tmp_path / FOLDER, (299, 299))
    for path in tmp_path.glob("*/*/*/*.png"):
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 16).save(path)
    monkeypatch.setenv("GENMED_DATA", str(tmp_path))
    images = torch.cat([d.images for d in three()])
    assert len(images) == 20 and all(len(x.unique()) > 60 for x in images)


def test_promises_are_not_judged_on_films_of_ones_own(capsys):
    expect = metrics.Expectations("09_ldm_cxr", source="own films")
    expect("share read as asked", 0.1, above={"phantom": 0.85, "database": None})
    expect("distance", 9.0, below=2)
    assert capsys.readouterr().out.count("not judged, for these are films of your own") == 2


def test_nobody_is_told_to_remove_films_of_his_own(tmp_path, monkeypatch):
    own_films(tmp_path / FOLDER, (40, 40))
    monkeypatch.setenv("GENMED_DATA", str(tmp_path))
    with pytest.raises(DataError, match="40x40 pixels, fewer than the 64 asked for") as caught:
        cxr("train")
    assert "delete" not in str(caught.value) and "Kaggle" not in str(caught.value)
    assert len(three(size=32)[0]) == 12


# --- the split ------------------------------------------------------------------------------------------


def test_the_whole_database_is_cut_as_the_book_cuts_it():
    counts = {"COVID": 3616, "Lung_Opacity": 6012, "Normal": 10_192, "Viral Pneumonia": 1345}
    names = [f"{name}/{name}-{k}.png" for name, n in counts.items() for k in range(1, n + 1)]
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor(list(counts.values())))
    splits = assign_splits(names, labels)
    assert splits.bincount().tolist() == [12_699, 4_233, 4_233]
    shares = torch.stack([labels[splits == s].bincount() for s in range(3)]) / labels.bincount()
    assert (shares - torch.tensor([[0.6], [0.2], [0.2]])).abs().max() < 0.001, "every class alike"
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))
    again = assign_splits([names[i] for i in order], labels[order])
    assert torch.equal(again, splits[order]), "the order of the listing is of no consequence"


def test_patients_are_never_divided():
    names = [f"Normal/{p:08d}_{k:03d}.png" for p in range(60) for k in range(p % 5 + 1)]
    names += [f"Lung_Opacity/{p:08d}_{9:03d}.png" for p in range(0, 60, 2)]  # the same people with another finding
    names += [f"Viral Pneumonia/person{p}_virus_{k}.jpeg" for p in range(40) for k in (1, 2)]
    keys = patients(names, [str(i) for i in range(len(names))])
    assert len(set(keys)) == 100
    labels = torch.tensor([CXR_CLASSES.index(n.split("/")[0].replace("_", " ")) for n in names])
    splits = assign_splits(keys, labels)
    for key in set(keys):
        assert len({s for k, s in zip(keys, splits.tolist()) if k == key}) == 1
    shares = splits.bincount() / len(splits)
    assert torch.allclose(shares, torch.tensor([0.6, 0.2, 0.2]), atol=0.03)


@pytest.mark.parametrize("stem, patient", [
    ("00000013_005", "00000013"), ("person12_virus_40", "person12"), ("sub-S03044_ses-E06", "sub-s03044"),
    ("patient00001_view1", "patient00001"), ("COVID-12", None), ("Viral Pneumonia-12", None), ("Lung_Opacity-7", None),
])
def test_patients_are_read_from_names(stem, patient):
    found = patients([f"COVID/{stem}.png"], ["0"])
    assert found == [f"patient {patient}" if patient else f"COVID/{stem}.png"]


def test_exact_copies_stay_together_and_tie_their_patients():
    names = ["A/00000001_001.png", "A/00000002_001.png", "A/00000002_002.png", "B/COVID-1.png", "B/COVID-2.png"]
    keys = patients(names, ["x", "x", "y", "y", "z"])
    assert len(set(keys[:4])) == 1 and keys[4] == "B/COVID-2.png"


# --- the cache ------------------------------------------------------------------------------------------


@pytest.fixture
def cache_folder(monkeypatch, tmp_path):
    return tmp_path / "runs" / "cache"


def count_decoding(monkeypatch):
    calls, decode = [], radiographs._decode
    monkeypatch.setattr(radiographs, "_decode", lambda path, size: calls.append(path) or decode(path, size))
    return calls


def test_files_are_decoded_once_for_each_size(place, monkeypatch, cache_folder):
    calls = count_decoding(monkeypatch)
    first = three()
    assert len(calls) == 48 and len(list(cache_folder.iterdir())) == 1
    again = three()
    assert len(calls) == 48
    assert all(torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in zip(first, again))
    cxr("val", size=32)
    assert len(calls) == 96


@pytest.mark.parametrize("change", [
    lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    lambda file: os.utime(file, ns=(1, 1)),
    lambda file: file.rename(file.with_name("COVID-99.png")),
    lambda file: file.unlink(),
], ids=["size", "mtime", "name", "gone"])
def test_a_change_in_the_folder_is_noticed(place, monkeypatch, change):
    cxr("val")
    calls = count_decoding(monkeypatch)
    change(place / "COVID" / "images" / "COVID-3.png")
    cxr("val")
    assert len(calls) >= 47


@pytest.mark.parametrize("damage", [
    lambda path: os.truncate(path, path.stat().st_size - 1000),
    lambda path: os.truncate(path, 0),
    lambda path: path.write_bytes(path.read_bytes()[:-9] + b"x" * 9),
    lambda path: path.write_bytes(b"not ours"),
], ids=["cut short", "empty", "altered", "foreign"])
def test_a_damaged_cache_is_made_anew(place, cache_folder, capsys, damage):
    before = cxr("test").images
    (path,) = cache_folder.iterdir()
    damage(path)
    assert torch.equal(cxr("test").images, before)
    assert f"{path.name} in the cache is damaged" in capsys.readouterr().out
    cxr("test")
    assert "damaged" not in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_is_no_error(place, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("a file, so nothing can be made inside it")
    monkeypatch.setenv("GENMED_RUNS", str(tmp_path / "file"))
    calls = count_decoding(monkeypatch)
    assert sum(map(len, three())) == 48
    out = capsys.readouterr().out
    assert out.count("cannot be written") == 1 and "GENMED_RUNS" in out
    assert len(calls) == 48, "the three splits share one reading"


def test_nothing_is_left_of_a_cache_that_fills_the_disk(place, monkeypatch, cache_folder):
    def full(*args, **options):
        Path(args[1]).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    cxr("val")
    assert not list(cache_folder.iterdir())


def test_progress_is_shown_when_reading_takes_long(place, monkeypatch, capsys):
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr(cache.time, "monotonic", lambda: next(clock))
    cxr("val")
    assert "X-rays read, once: 2 of 48" in capsys.readouterr().out


# --- damaged files --------------------------------------------------------------------------------------


def colour(path, alpha=False):
    image = Image.merge("RGB", [picture(s) for s in (1, 2, 3)])
    (image.convert("RGBA") if alpha else image).save(path)


DAMAGE = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-400]), "truncated or damaged"),
    "header only": (lambda p: p.write_bytes(p.read_bytes()[:20]), "truncated or damaged|not a PNG"),
    "garbled": (lambda p: p.write_bytes(p.read_bytes()[:60] + bytes(200) + p.read_bytes()[260:]), "or damaged"),
    "web page": (lambda p: p.write_text("<html>404</html>"), "not a PNG or JPEG image"),
    "empty": (lambda p: p.write_bytes(b""), ": empty"),
    "mask": (lambda p: picture(0, 256).save(p), "256x256 pixels instead of 299x299; the database's masks"),
    "small": (lambda p: picture(0, 64).save(p), "64x64 pixels instead of 299x299"),
    "colour": (colour, r"in colour \(RGB\); save it as grey"),
    "colour and alpha": (lambda p: colour(p, alpha=True), r"in colour \(RGBA\)"),
    "one bit": (lambda p: picture(0).convert("1").save(p), "of one or two grey values, as a mask is"),
    "link to nowhere": (lambda p: (p.unlink(), p.symlink_to("../annex/gone")), "a link to a file that is not there"),
    "link to itself": (lambda p: (p.unlink(), p.symlink_to(p.name)), "a link to a file that is not there"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_one_bad_image_is_left_out_and_counted_many_are_an_error(place, kind, capsys):
    break_it, words = DAMAGE[kind]
    images = place / "Normal" / "images"
    break_it(images / "Normal-5.png")
    assert sum(map(len, three())) == 47
    out = capsys.readouterr().out
    assert out.count("; 1 of 48 files left out, such as Normal/Normal-5.png: ") == 3
    for k in (2, 7):
        break_it(images / f"Normal-{k}.png")
    with pytest.raises(DataError, match=words) as caught:
        cxr("train")
    assert str(images / "Normal-2.png") in str(caught.value) and "3 of 48 images cannot be used" in str(caught.value)
    assert f"Copy it anew from the Kaggle archive, or move it out of {images}" in str(caught.value)
    assert "delete" not in str(caught.value), "what lies there is the reader's own"


def test_grey_saved_as_colour_is_read(place):
    """Three equal channels lose nothing, and JPEG's rounding next to nothing."""
    before = torch.cat([d.images for d in three()]).float()
    path = place / "Viral Pneumonia" / "images" / "Viral Pneumonia-2.png"
    Image.open(path).convert("RGB").save(path)
    jpeg = path.with_name("Viral Pneumonia-3.jpg")
    Image.open(path.with_name("Viral Pneumonia-3.png")).convert("RGB").save(jpeg, quality=90)
    path.with_name("Viral Pneumonia-3.png").unlink()
    after = torch.cat([d.images for d in three()]).float()
    assert len(after) == 48 and abs(after.mean() - before.mean()) < 0.2


def test_a_file_that_may_not_be_read(place, monkeypatch, capsys):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(imagefiles.Image, "open", refuse)
    with pytest.raises(DataError, match="COVID-1.png: cannot be read; make it readable"):
        cxr("train")


def test_a_class_of_which_nothing_can_be_used_is_an_error(place):
    for path in (place / "COVID" / "images").iterdir():
        if path.name != "COVID-2.png":
            path.unlink()
    DAMAGE["mask"][0](place / "COVID" / "images" / "COVID-2.png")
    with pytest.raises(DataError, match="COVID-2.png: 256x256.*Not one image of the class COVID"):
        cxr("train")


def emptied(place):
    for path in (place / "COVID" / "images").iterdir():
        path.unlink()


def without_images(place):
    emptied(place)
    (place / "COVID" / "images").rmdir()


def no_class(place):
    for name in FOLDERS:
        (place / name).rename(place / f"x{name}")


@pytest.mark.parametrize("change, words", [
    (emptied, "COVID/images: holds no image. It holds nothing. Copy the X-rays.*elsewhere.*the other classes are read"),
    (without_images, "COVID: holds no image. It holds masks. Copy the X-rays"),
    (no_class, f"{FOLDER}: holds none of the class folders COVID, Lung_Opacity, Normal, Viral Pneumonia. "
               "It holds COVID.metadata.xlsx, Lung_Opacity.metadata.xlsx, .* and 4 more"),
])
@pytest.mark.parametrize("source", ["auto", "database"])
def test_folders_that_hold_too_little(place, change, words, source):
    """Also in "auto": a damaged folder must not quietly turn into phantoms."""
    change(place)
    with pytest.raises(DataError, match=words):
        cxr("train", source)


# --- which source ---------------------------------------------------------------------------------------


@pytest.fixture
def phantom(monkeypatch):
    """A stand-in for the phantom that counts its calls."""
    def cxr_phantom(n, *, size, classes=None, seed, tell):
        calls.append(n)
        for done in range(10, n + 1, 10):
            tell(done)
        g = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (n, 1, size, size), generator=g, dtype=torch.uint8)
        return images, torch.arange(n) % 4, {"heart": torch.rand(n, generator=g)}

    calls = []
    fake = types.ModuleType("genmed_core.synthetic.phantom")
    fake.cxr_phantom, fake.__file__ = cxr_phantom, __file__
    fake.CLASSES = ("Normal", "Lung Opacity", "COVID", "Viral Pneumonia")
    monkeypatch.setitem(sys.modules, "genmed_core.synthetic.phantom", fake)
    monkeypatch.setattr("genmed_core.synthetic.phantom", fake, raising=False)
    monkeypatch.setattr(data, "PHANTOM_SPLITS", {"train": (60, 1), "val": (20, 2), "test": (20, 3)})
    return calls


def test_without_the_database_there_are_phantoms_drawn_once(phantom, capsys):
    first, again = cxr("train"), cxr("train")
    assert phantom == [60] and torch.equal(first.images, again.images)
    assert torch.equal(first.factors["heart"], again.factors["heart"])
    assert first.source == "phantom" and first.classes == CXR_CLASSES and first.images.shape == (60, 1, 64, 64)
    assert first.labels[:4].tolist() == [2, 1, 0, 3], "numbered as the database's classes, not as the phantom's"
    out = capsys.readouterr().out
    assert f"60 embedded phantoms (no {FOLDER} in data/; how to get it: data/README.md)" in out


def test_drawing_shows_its_progress(phantom, monkeypatch, capsys):
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr(cache.time, "monotonic", lambda: next(clock))
    cxr("train")
    out = capsys.readouterr().out
    assert "cxr train: drawing 60 phantoms, once\n" in out and "cxr train: phantoms drawn: 20 of 60\n" in out


def test_the_genuine_phantom_fits(monkeypatch):
    pytest.importorskip("genmed_core.synthetic.phantom")
    monkeypatch.setattr(data, "PHANTOM_SPLITS", {"train": (8, 1), "val": (4, 2), "test": (4, 3)})
    x = cxr("train", size=32)
    assert len(x) == 8 and x.labels.bincount().tolist() == [2, 2, 2, 2] and x.factors
    assert x.images.float().std((1, 2, 3)).min() > 5


def test_embedded_can_be_forced(place, phantom, monkeypatch):
    assert cxr("val", "embedded").source == "phantom"
    monkeypatch.setenv("GENMED_DATA_SOURCE", "embedded")
    assert cxr("val").source == "phantom"
    assert cxr("val", "database").source == "database", "an explicit wish counts more"


def test_what_is_to_be_published_holds_no_film_of_a_patient(place, phantom, monkeypatch, capsys):
    monkeypatch.setenv("GENMED_PUBLIC", "1")
    assert cxr("val").source == "phantom" and "to be published" in capsys.readouterr().out
    with pytest.raises(DataError, match="GENMED_PUBLIC is set"):
        cxr("val", "database")
    monkeypatch.setenv("GENMED_PUBLIC", "0")
    assert cxr("val").source == "database"


def test_the_database_asked_for_and_not_there():
    with pytest.raises(DataError, match=f"{FOLDER}: the COVID-19 Radiography Database is not there.*Kaggle.*README"):
        cxr("train", "database")


@pytest.mark.parametrize("arguments, words", [
    (("tset",), "'tset'.*'train', 'val', 'test'"),
    (("test", "kaggle"), "'kaggle'.*'auto', 'database', 'embedded'"),
    (("test", "auto", 0), "size 0 is not possible.*16 to 299"),
    (("test", "auto", 300), "size 300"),
    (("test", "auto", 64.0), "size 64.0"),
    (("test", "auto", "64"), "size '64'"),
    (("test", "auto", True), "size True"),
])
def test_unknown_names_and_sizes_list_the_choices(place, arguments, words):
    with pytest.raises(ValueError, match=words):
        cxr(*arguments)


def test_genmed_data_must_name_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMED_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"nowhere does not exist.*unset GENMED_DATA"):
        cxr("val")


# --- the genuine files ----------------------------------------------------------------------------------


def test_genuine_x_rays(monkeypatch):
    if not REAL or not (Path(REAL) / FOLDER).is_dir():
        pytest.skip(f"GENMED_DATA names no folder with {FOLDER}: genuine X-rays are not tested")
    monkeypatch.setenv("GENMED_DATA", REAL)
    sets = three()
    files = Counter(p.parent.parent.name.replace("_", " ") for p in (Path(REAL) / FOLDER).glob("*/images/*.png"))
    assert class_counts(*sets) == {name: files[name] for name in sorted(CXR_CLASSES, key=lambda n: -files[n])}
    n = sum(map(len, sets))
    assert [round(len(d) / n, 2) for d in sets] == [0.6, 0.2, 0.2]
    assert all(25 < d.images.float().mean() < 200 and d.images.float().std((1, 2, 3)).min() > 5 for d in sets)
    start = time.monotonic()
    cxr("train", "database")
    assert time.monotonic() - start < 1, "read from the cache"
