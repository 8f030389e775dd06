"""Pictures of one's own: class folders of any kind and idx sets; what cannot be used is said with what to do."""

import gzip
import os

import numpy as np
import pytest
import torch
from PIL import Image
from test_data import idx as idx_bytes

from genmed_core import own, runtime
from genmed_core.data import SPLITS, DataError, ImageSet

CLASSES = ("mole", "nail_bed")


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No settings of the user's, an empty data folder."""
    for name in ("GENMED_DATA", "GENMED_DATA_SOURCE", "GENMED_PUBLIC", "GENMED_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime, "root", lambda: tmp_path)


def picture(seed, size=(40, 40), mode="RGB"):
    small = np.random.RandomState(seed).randint(0, 256, (4, 4, 3)).astype(np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def skin(tmp_path):
    """data/skin: 30 moles and 20 nail beds, in colour."""
    place = tmp_path / "data" / "skin"
    for number, (name, count) in enumerate(zip(CLASSES, (30, 20), strict=True)):
        (place / name).mkdir(parents=True)
        for k in range(count):
            picture(100 * number + k).save(place / name / f"{k}.png")
    return place


def three(place="skin", **options):
    return [own.folder(place, split, 32, **options) for split in SPLITS]


# --- class folders --------------------------------------------------------------------------------------


def test_a_folder_of_class_folders_is_split_alike_in_every_class(skin, capsys):
    sets = three()
    assert [len(d) for d in sets] == [30, 10, 10] and sets[0].classes == ("mole", "nail bed")
    assert [d.labels.bincount().tolist() for d in sets] == [[18, 12], [6, 4], [6, 4]]
    assert sets[0].images.shape[1:] == (1, 32, 32) and sets[0].source == sets[0].caption == "skin"
    line = "skin train: 30 images of 2 classes from data/skin, each made square, grey and 32x32\n"
    assert capsys.readouterr().out.startswith(line)
    pixels = {x.numpy().tobytes() for d in sets for x in d.images}
    assert len(pixels) == 50, "every image once, and none in two splits"


def test_a_place_is_relative_to_the_data_or_full_and_no_path_of_the_machine_is_printed(skin, monkeypatch, capsys):
    first = own.folder("skin", "val", 32)
    elsewhere = own.folder(skin.rename(skin.parents[1] / "elsewhere"), "val", 32)
    assert torch.equal(first.images, elsewhere.images), "the split is that of the names"
    monkeypatch.setenv("GENMED_DATA", str(skin.parents[1]))
    assert len(own.folder("elsewhere", "val", 32)) == 10
    out = capsys.readouterr().out
    assert "from elsewhere," in out and "from $GENMED_DATA/elsewhere," in out and str(skin.parents[1]) not in out


def test_colour_is_kept_where_it_is_asked_for(skin):
    (train, *_), (grey, *_) = three(colour=True), three()
    assert train.images.shape[1:] == (3, 32, 32) and grey.images.shape[1:] == (1, 32, 32)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    assert (train.images.float().mul(weights).sum(1, keepdim=True) - grey.images.float()).abs().max() < 3


def test_mixed_sizes_depths_and_kinds_become_one(skin):
    shapes = [((64, 48), "L"), ((33, 90), "RGBA"), ((200, 200), "P"), ((40, 32), "LA")]
    for k, (size, mode) in enumerate(shapes):
        picture(k, size, mode).save(skin / "mole" / f"{k}.png")
    picture(9).save(skin / "mole" / "9.jpg")
    deep = (np.asarray(picture(8, mode="L")).astype(np.uint16)) * 257
    Image.fromarray(deep).save(skin / "mole" / "8.png")
    for colour in (False, True):
        assert sum(map(len, three(colour=colour))) == 51
    wide = own._decode(own.stamped(skin / "mole" / "0.png", "mole/0.png", 0), 32, False)[0]
    assert wide[:3].max() == wide[-3:].max() == 0 and wide[6:-6].std() > 5, "whole, on black"
    sixteen = own._decode(own.stamped(skin / "mole" / "8.png", "mole/8.png", 0), 32, False)[0]
    assert len(np.unique(sixteen)) > 40


def test_images_in_a_folder_images_of_each_class_and_one_class_alone(skin, capsys):
    inner = skin / "mole" / "images"
    inner.mkdir()
    for path in list((skin / "mole").glob("*.png")):
        path.rename(inner / path.name)
    assert sum(map(len, three())) == 50
    (skin / "nail_bed").rename(skin.parent / "away")
    assert [len(d) for d in three()] == [18, 6, 6] and "images of 1 class from" in capsys.readouterr().out


def test_copies_and_patients_stay_in_one_split(skin):
    for k in range(10):
        (skin / "mole" / f"copy{k}.png").write_bytes((skin / "mole" / "3.png").read_bytes())
        picture(500 + k).save(skin / "nail_bed" / f"person7_{k}.png")
    sets = three()
    same = own._decode(own.stamped(skin / "mole" / "3.png", "", 0), 32, False)[0].tobytes()
    assert sum(same in {x.numpy().tobytes() for x in d.images} for d in sets) == 1
    person = {own._decode(own.stamped(p, "", 0), 32, False)[0].tobytes() for p in skin.glob("*/person7_*")}
    assert sum(bool(person & {x.numpy().tobytes() for x in d.images}) for d in sets) == 1


def test_files_are_decoded_once_until_one_changes(skin, monkeypatch):
    calls, decode = [], own._decode
    monkeypatch.setattr(own, "_decode", lambda *given: calls.append(given) or decode(*given))
    three()
    three()
    assert len(calls) == 50
    os.utime(skin / "mole" / "3.png", ns=(1, 1))
    own.folder("skin", "val", 32)
    assert len(calls) == 100


def test_a_few_bad_files_are_left_out_and_counted_many_are_an_error(skin, capsys):
    broken = skin / "mole" / "4.png"
    broken.write_bytes(broken.read_bytes()[:-40])
    assert sum(map(len, three())) == 49
    assert "; 1 of 50 files left out, such as mole/4.png: truncated or damaged" in capsys.readouterr().out
    (skin / "mole" / "5.png").write_text("<html>404</html>")
    picture(1, (20, 50)).save(skin / "mole" / "6.png")
    with pytest.raises(DataError, match=r"4.png: truncated.*3 of 50 images cannot be used.*Mend it, move it out of"):
        own.folder("skin", "train", 32)


def test_images_smaller_than_asked_for_name_the_size_that_works(skin):
    with pytest.raises(DataError, match="40x40 pixels, fewer than the 64 asked for.*ask for a smaller size"):
        own.folder("skin")
    assert len(own.folder("skin", size=40)) == 30


def emptied(place):
    for path in (place / "mole").iterdir():
        path.unlink()
    (place / "mole" / "notes.txt").touch()


def nearly_emptied(place):
    for path in sorted((place / "mole").iterdir())[9:]:
        path.unlink()


def too_deep(place):
    (place / "photos").mkdir()
    for name in ("mole", "nail_bed"):
        (place / name).rename(place / "photos" / name)


def of_one_patient(place):
    for path in sorted((place / "mole").iterdir()):
        path.rename(path.with_name(f"person7_{path.name}"))


def copies(place):
    for path in (place / "mole").iterdir():
        picture(0).save(path)


def under_patients(place):
    for path in list(place.glob("*/*.png")):
        path.parent.joinpath("p1").mkdir(exist_ok=True)
        path.rename(path.parent / "p1" / path.name)


def one_under_patients(place):
    (place / "mole").rename(place.parent / "away")
    (place / "mole").mkdir()
    (place.parent / "away").rename(place / "mole" / "p1")


def cut_already(place):
    for part in ("test", "train"):
        (place / part).mkdir()
        for name in CLASSES:
            (place / part / name).mkdir()
            picture(0).save(place / part / name / "0.png")
    for name in CLASSES:
        (place / name).rename(place.parent / name)


def no_classes(place):
    for path in list(place.glob("*/*.png")):
        path.unlink()


BAD = {
    "gone": (lambda p: p.rename(p.parent / "other"), "skin: does not exist. Put the folder there, or give its full"),
    "a file": (lambda p: (p.rename(p.parent / "x"), p.write_bytes(b"PK")), "skin: is a file; name the folder that it"),
    "empty class": (emptied, "skin/mole: holds no PNG or JPEG image. It holds notes.txt. Fill it, or move it out"),
    "too few": (nearly_emptied, "skin/mole: 9 images are too few to be split; a class needs 10. Add some, or move"),
    "no classes": (no_classes, "skin: holds no class folders with images. It holds mole, nail_bed. Put a folder for"),
    "too deep": (too_deep, "no class folders with images. It holds photos. Name the folder whose .*skin/photos"),
    "one patient": (of_one_patient, "no image of 'mole' is left for val: all images of 'mole' are of one patient, and "
                    "none is divided between splits. Where person7 is no patient, rename the files; else add images"),
    "copies": (copies, "all images of 'mole' are of one different image, and none is divided.*Add images of its own"),
    "patients": (under_patients, "It holds mole, nail_bed. Its images lie a folder too deep, in mole/p1: put them"),
    "patients of one": (one_under_patients, "mole: holds no PNG.* It holds p1. Its images lie a folder too deep, in"),
    "cut already": (cut_already, "It holds test, train. Name .*skin/train, which is cut into train, val and test anew"),
    "one name": (lambda p: (p / "mole").rename(p / "nail bed"), "'nail bed' and 'nail_bed' would both be the class"),
    "flat": (lambda p: picture(0).save(p / "0.png"), "skin: holds images, such as 0.png, outside of class folders"),
}


@pytest.mark.parametrize("change, words", BAD.values(), ids=BAD)
def test_a_folder_that_cannot_be_used_is_named_with_a_remedy(skin, change, words):
    change(skin)
    with pytest.raises(DataError, match=words):
        for split in SPLITS:
            own.folder("skin", split, 32)


@pytest.mark.parametrize("options, words", [
    ({"split": "tset"}, "'tset' is not known.*'train', 'val', 'test'"),
    ({"size": 4}, "size 4 is not possible; choose a whole number of pixels from 8 to 512"),
    ({"size": 64.0}, "size 64.0"),
    ({"size": True}, "size True is not possible"),
    ({"place": 5}, "place 5 is no folder: give its path as text"), ({"place": None}, "place None is no folder"),
    ({"place": b"skin"}, "is no folder: give"), ({"place": "sk\0in"}, "is no folder: give"),
    ({"place": "~nobody_here/x"}, "'~nobody_here/x': nobody here is called so. Give the full path"),
    ({"colour": "no"}, "colour='no': give True or False"),
])
def test_unknown_splits_and_sizes_list_the_choices(skin, options, words):
    with pytest.raises(ValueError, match=words):
        own.folder(**{"place": "skin"} | options)


def test_numpys_numbers_long_names_and_pipes(skin):
    assert torch.equal(own.folder("skin", "val", np.int64(32)).images, own.folder("skin", "val", 32).images)
    with pytest.raises(DataError, match="does not exist. Put the folder there"):
        own.folder("x" * 300)
    if hasattr(os, "mkfifo"):
        os.mkfifo(skin / "mole" / "pipe.png")
        assert sum(map(len, three())) == 50, "it is left out, and nothing waits for it"


def test_nothing_is_published_that_was_not_said_to_be_public(skin, monkeypatch):
    monkeypatch.setenv("GENMED_PUBLIC", "1")
    with pytest.raises(DataError, match="skin: these outputs are to be published.*public=True.*GENMED_PUBLIC"):
        own.folder("skin", size=32)
    assert len(own.folder("skin", size=32, public=True)) == 30
    for read in (own.folder, own.idx):
        with pytest.raises(ValueError, match="public='no': give True or False"):
            read("skin", public="no")
    monkeypatch.setenv("GENMED_PUBLIC", "0")
    assert len(own.folder("skin", size=32)) == 30


def test_a_folder_that_was_written_is_read_again_and_never_written_over(tmp_path):
    images = ImageSet(torch.randint(0, 256, (30, 3, 9, 9), dtype=torch.uint8), torch.arange(30) % 2,
                      ("a cat", "bird"), "mine")
    place = own.write_folder(images, "written")
    assert place == tmp_path / "data" / "written"
    sets = [own.folder("written", split, 9, colour=True) for split in SPLITS]
    assert {x.numpy().tobytes() for d in sets for x in d.images} == {x.numpy().tobytes() for x in images.images}
    assert sets[0].classes == images.classes
    with pytest.raises(DataError, match="written: holds a_cat, bird already. Name another folder"):
        own.write_folder(images, "written")


# --- idx sets -------------------------------------------------------------------------------------------


@pytest.fixture
def fashion(tmp_path):
    """data/fashion: 60 training and 20 test images 6x5 of classes 1, 2 and 5."""
    place = tmp_path / "data" / "fashion"
    place.mkdir(parents=True)
    rng = np.random.RandomState(0)
    for part, n in (("train", 60), ("t10k", 20)):
        (place / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(rng.randint(0, 256, (n, 6, 5)).astype(np.uint8)))
        labels = np.array([1, 2, 5] * n)[:n].astype(np.uint8)
        (place / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return place


def test_an_idx_set_with_test_files(fashion, capsys):
    train, val, test = (own.idx("fashion", split) for split in SPLITS)
    assert [len(d) for d in (train, val, test)] == [54, 6, 20]
    assert val.labels.bincount().tolist() == [2, 2, 2] and train.classes == ("1", "2", "5")
    assert train.images.shape[1:] == (1, 6, 5) and test.labels[:3].tolist() == [0, 1, 2]
    assert "fashion test: 20 images of 3 classes from data/fashion, 6x5\n" in capsys.readouterr().out
    assert own.idx("fashion", names=["shirt", "shoe", "bag"]).classes == ("shirt", "shoe", "bag")
    with pytest.raises(ValueError, match=r"2 names for 3 classes, \[1, 2, 5\]"):
        own.idx("fashion", names=["shirt", "shoe"])
    for wrong in (["a", "a", "a"], "abc", [1, 2, 3], ["a", "", "b"]):
        with pytest.raises(ValueError, match="give a list of different words, one for each class"):
            own.idx("fashion", names=wrong)


def test_one_pair_is_cut_into_three_and_archives_may_rename_and_pack_it(fashion):
    for path in list(fashion.iterdir()):
        name = f"letters-{path.name.replace('-idx', '.idx')}.gz"
        if path.name.startswith("train"):
            (fashion / name).write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    sets = [own.idx("fashion", split) for split in SPLITS]
    assert [d.labels.bincount().tolist() for d in sets] == [[12, 12, 12], [4, 4, 4], [4, 4, 4]]
    assert len({x.numpy().tobytes() for d in sets for x in d.images}) == 60


def replaced(name, change):
    def damage(place):
        path = place / name
        path.write_bytes(change(path.read_bytes()))
    return damage


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BAD_IDX = {
    "truncated": (replaced(IMAGES, lambda b: b[:-7]), "1,809 bytes where its header promises 1,816: truncated"),
    "empty": (replaced(IMAGES, lambda b: b""), "an empty file, not an idx file. Copy it anew"),
    "web page": (replaced(LABELS, lambda b: b"<html>"), "a web page, not an idx file"),
    "16 bit": (replaced(IMAGES, lambda b: b[:2] + b"\x0b" + b[3:]), "of 16-bit numbers, not of unsigned bytes"),
    "swapped": (replaced(LABELS, lambda b: idx_bytes(np.zeros((60, 6, 5), np.uint8))), "not of labels .files swapped"),
    "counts": (replaced(LABELS, lambda b: idx_bytes(np.zeros(59, np.uint8))), "59 labels for 60 images. Copy both"),
    "none": (replaced(IMAGES, lambda b: idx_bytes(np.zeros((0, 6, 5), np.uint8))), "with nothing in it. Copy"),
    "sizes": (replaced(IMAGES, lambda b: idx_bytes(np.ones((60, 5, 5), np.uint8))), "test images differ in size. Give"),
    "no labels": (lambda p: (p / LABELS).unlink(), f"its labels, {LABELS}, are not there. Put them beside it"),
    "nothing": (lambda p: [x.rename(p / f"{i}.bin") for i, x in enumerate(sorted(p.iterdir()))],
                "holds no pair of idx files such as .* It holds 0.bin, 1.bin"),
    "two sets": (lambda p: [(p / f"b-{x.name}").write_bytes(x.read_bytes()) for x in sorted(p.iterdir())],
                 "holds several sets .b-train-images.*Give each a folder"),
    "one image": (lambda p: [(p / x).write_bytes(idx_bytes(np.ones((1, 6, 5)[:n], np.uint8)))
                             for x, n in ((IMAGES, 3), (LABELS, 1))], "no image of '1' is left for val: .*one diff"),
    "all equal": (replaced(IMAGES, lambda b: idx_bytes(np.ones((60, 6, 5), np.uint8))), "of one different image, and"),
    "unpacked badly": (lambda p: (p / IMAGES).rename(p / f"{IMAGES}.gz"), "truncated, or not a gzip file"),
}


@pytest.mark.parametrize("change, words", BAD_IDX.values(), ids=BAD_IDX)
def test_an_idx_set_that_cannot_be_used_is_named_with_a_remedy(fashion, change, words):
    change(fashion)
    with pytest.raises(DataError, match=words):
        for split in SPLITS:
            own.idx("fashion", split)
