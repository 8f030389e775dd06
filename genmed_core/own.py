"""Pictures of one's own: any folder of class folders, or any idx set -> verified uint8 tensors.

    skin/mole/1.png, skin/melanoma/7.jpg, ...               own.folder("skin", "train", size=64)
    fashion/train-images-idx3-ubyte, ...-labels-idx1-ubyte  own.idx("fashion", "train")

A relative place lies in the folder that GENMED_DATA names (default data/), so that a chapter finds
it wherever it runs. What comes is an `ImageSet`, as of `data.digits` and `data.cxr`.
"""

import os
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from genmed_core import runtime
from genmed_core.collection import (
    ImageFile,
    assign_splits,
    classes_in,
    digest,
    entries,
    inside,
    patients,
    read_collection,
    squared,
    stamped,
)
from genmed_core.data import SPLITS, ImageSet, data_folder, shown
from genmed_core.errors import DataError
from genmed_core.idx import parse_idx, read_bytes
from genmed_core.imagefiles import Unusable, grey8, image_files, read_image, rgb8

LEAST = 10  # pictures of a class: with fewer a split may lack it
SIZES = (8, 512)
VERSION = 1  # of what the cache holds: raise it with any change that changes the tensors
TRAIN_OR_VAL = (0.9,)  # where train ends, of an idx set that comes with test files


def folder(
    place: str | Path, split: str = "train", size: int = 64, *, colour: bool = False,
    public: bool = False,
) -> ImageSet:
    """One split of a folder of class folders -> ImageSet; prints one line that says what it holds.

    place/class/*.png, or place/class/images/*.png, PNG or JPEG, of any sizes not under `size`: each
    is made square on black, size x size, and grey, or with `colour` red, green and blue. split
    "train", "val" or "test": 60, 20 and 20 % of every class by a hash of the files' names, exact
    copies together, and a patient in one split alone where names tell (person12_3.png). public:
    whether anyone may see them; else they are refused where GENMED_PUBLIC says that outputs will
    be published. The first call decodes every file and keeps the tensors in runs/cache; a few
    unusable files are left out and counted.

    Raises DataError for a folder that is not there or cannot be used and for a class that the split
    would lack, since no patient and no picture is divided; ValueError for an unknown
    split or size and for a switch that is neither True nor False.
    """
    _switch("colour", colour)
    where = _opened(place, split, public)
    if not isinstance(size, Integral) or not SIZES[0] <= size <= SIZES[1]:
        wanted = f"choose a whole number of pixels from {SIZES[0]} to {SIZES[1]}"
        raise ValueError(f"size {size!r} is not possible; {wanted}")
    size = int(size)  # numpy has its own
    files, classes = _list(where)
    settings = {"place": str(where), "size": size, "colour": colour, "version": VERSION}
    found = read_collection(
        "images", "own", settings, files, lambda file: _decode(file, size, colour),
        shape=(size, size, 3) if colour else (size, size), classes=classes, remedy=_remedy)
    mine = found.splits == SPLITS.index(split)
    left = {line.partition(": ")[0] for line in found.left_out}
    _refuse_gaps(where, split, found.labels, mine, classes, lambda: patients(
        [file.name for file in files if file.name not in left],
        [digest(image) for image in found.images.numpy()]))
    words = f"each made square, {'in colour' if colour else 'grey'} and {size}x{size}"
    if found.left_out:
        n = len(found.left_out)
        words += f"; {n} of {len(files):,} files left out, such as {found.left_out[0]}"
    images = ImageSet(found.images[mine], found.labels[mine], classes, where.name)
    return _told(images, where, split, words)


def idx(
    place: str | Path, split: str = "train", *, names: Sequence[str] | None = None,
    public: bool = False,
) -> ImageSet:
    """One split of a folder with idx files, as MNIST's -> ImageSet; prints one line.

    A pair of files of images and labels, whose names differ in that word alone (train-images-idx3-
    ubyte, train-labels-idx1-ubyte), packed as .gz or not: 60, 20 and 20 % of every class, exact
    copies together. With a second pair, named t10k or test, that is "test", and the first is 90 and
    10 %. names: of the classes, in the order of their numbers; default the numbers. public: as for
    `folder`.

    Raises DataError for files that are not there or cannot be used and for a class that the split
    would lack, ValueError for an unknown split and for names that do not fit.
    """
    where = _opened(place, split, public)
    if names is not None:
        names = _names(names)
    pairs = [_read_pair(*pair) for pair in _pairs(where)]
    numbers = torch.cat([labels for _, labels in pairs]).unique()
    if names is not None and len(names) != len(numbers):
        raise ValueError(f"{len(names)} names for {len(numbers)} classes, {numbers.tolist()}")
    if len({images.shape[1:] for images, _ in pairs}) > 1:
        raise DataError(f"{where}: its training and test images differ in size. Give each set a "
                        "folder of its own.")
    images, labels = pairs[-1] if split == "test" else pairs[0]
    labels = torch.searchsorted(numbers, labels)
    classes = tuple(names or map(str, numbers.tolist()))
    if split != "test" or len(pairs) == 1:
        keys = [digest(image) for image in images.numpy()]
        shares = {} if len(pairs) == 1 else {"shares": TRAIN_OR_VAL}
        mine = assign_splits(keys, labels, **shares) == SPLITS.index(split)
        _refuse_gaps(where, split, labels, mine, classes, lambda: keys)
        images, labels = images[mine], labels[mine]
    data = ImageSet(images[:, None], labels, classes, where.name)
    return _told(data, where, split, f"{images.shape[1]}x{images.shape[2]}")


def write_folder(images: ImageSet, place: str | Path) -> Path:
    """Write pictures as place/class/00001.png, which `folder` and genmed-audit read -> the folder.

    Raises DataError where something lies there already.
    """
    where = find(place)
    if entries(where):
        raise DataError(f"{where}: holds {inside(where)} already. Name another folder.")
    for number, (image, label) in enumerate(zip(images.images, images.labels.tolist()), 1):
        of_class = where / images.classes[label].replace(" ", "_")
        of_class.mkdir(parents=True, exist_ok=True)
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(of_class / f"{number:05d}.png")
    return where


def find(place: str | Path) -> Path:
    """Where a place is: as it stands, or in the folder that GENMED_DATA names (default data/).

    Raises ValueError for what is no path.
    """
    if not isinstance(place, str | Path) or "\0" in str(place):
        raise ValueError(f"place {place!r} is no folder: give its path as text")
    try:
        return data_folder() / Path(place).expanduser()
    except RuntimeError:  # ~name, and nobody here is called so
        raise ValueError(f"place {place!r}: nobody here is called so. Give the full path") from None


def _opened(place: str | Path, split: str, public: bool) -> Path:
    """The folder that is to be read. Raises DataError where it may not be or is not there."""
    if split not in SPLITS:
        known = ", ".join(map(repr, SPLITS))
        raise ValueError(f"split {split!r} is not known; choose one of {known}")
    _switch("public", public)
    if runtime.setting("GENMED_PUBLIC") and not public:
        raise DataError(
            f"{place}: these outputs are to be published (GENMED_PUBLIC is set). Write public=True "
            "where anyone may see these images; else unset GENMED_PUBLIC, or set it to 0, and keep "
            "the outputs where the images are kept.")
    where = find(place)
    if not os.path.isdir(where):  # as Path's own, which raises for a name too long
        file = "is a file; name the folder that it was unpacked into"
        absent = "does not exist. Put the folder there, or give its full path"
        what = file if os.path.exists(where) else absent
        raise DataError(f"{where}: {what}.")
    return where


def _switch(name: str, value: object) -> None:
    """ValueError for what is no bool: "no" would count as yes."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r}: give True or False")


def _refuse_gaps(
    where: Path, split: str, labels: torch.Tensor, mine: torch.Tensor, classes: Sequence[str],
    whose: Callable[[], list[str]],
) -> None:
    """DataError where a split, the images `mine` (N,), lacks a class that the set holds.

    whose: gives a key for each image, one for those of one patient or of equal pixels.
    """
    for number, name in enumerate(classes):
        of_class = (labels == number).nonzero().flatten().tolist()
        if not of_class or mine[of_class].any():
            continue
        every = whose()
        keys = sorted({every[i] for i in of_class})
        people = [key.removeprefix("patient ") for key in keys if key.startswith("patient ")]
        kind = "patient" if people else "different image"
        count = f"one {kind}" if len(keys) == 1 else f"{len(keys)} {kind}s"
        remedy = f"Where {people[0]} is no patient, rename the files; else add" if people else "Add"
        other = "other patients" if people else "its own"
        raise DataError(
            f"{where}: no image of {name!r} is left for {split}: all images of {name!r} are of "
            f"{count}, and none is divided between splits. {remedy} images of {other}, or move the "
            "class out.")


def _told(images: ImageSet, where: Path, split: str, words: str) -> ImageSet:
    base = data_folder()
    shows = shown(base, where) if where.is_relative_to(base) else where.name
    count = len(images.classes)
    classes = f"{count} class{'es' if count > 1 else ''}"
    print(f"{where.name} {split}: {len(images):,} images of {classes} from {shows}, {words}")
    return images


# --- class folders --------------------------------------------------------------------------------


def _list(where: Path) -> tuple[list[ImageFile], tuple[str, ...]]:
    """The files of all class folders, and the classes' names. Raises DataError."""
    flat, found = image_files(where), classes_in(where)
    if flat:
        raise DataError(f"{where}: holds images, such as {flat[0].name}, outside of class folders. "
                        "Move each into the folder of its class; where there is one class alone, "
                        f"into one folder, such as {where / 'all'}.")
    if not any(found.values()):
        raise DataError(f"{where}: holds no class folders with images. It holds {inside(where)}. "
                        f"{_deeper(where)}.")
    for name, paths in found.items():
        if not paths:
            deep = any(classes_in(where / name).values())
            what = _one_level(where / name) if deep else f"Fill it, or move it out of {where}"
            raise DataError(f"{where / name}: holds no PNG or JPEG image. It holds "
                            f"{inside(where / name)}. {what}.")
        if len(paths) < LEAST:
            raise DataError(f"{where / name}: {len(paths)} images are too few to be split; a class "
                            f"needs {LEAST}. Add some, or move the folder out of {where}.")
    classes = tuple(name.replace("_", " ") for name in found)
    for name, of_class in zip(found, classes):
        if (first := list(found)[classes.index(of_class)]) != name:
            raise DataError(f"{where}: the folders {first!r} and {name!r} would both be the class "
                            f"{of_class!r}. Rename one of them, or move its images to the other.")
    files = [stamped(path, f"{name}/{path.name}", label)
             for label, (name, paths) in enumerate(found.items()) for path in paths]
    return files, classes


def _deeper(where: Path) -> str:
    """What to do about a folder whose folders hold no images."""
    deeper = [path for path in entries(where) if any(classes_in(path).values())]
    train = [path for path in deeper if path.name.lower().startswith("train")]
    if not deeper:
        return "Put a folder for each class into it, with PNG or JPEG images"
    if train:
        return f"Name {train[0]}, which is cut into train, val and test anew"
    if len(deeper) == 1:
        return f"Name the folder whose folders hold images: {deeper[0]}"
    return _one_level(deeper[0])


def _one_level(class_folder: Path) -> str:
    """What to do about images in folders of a class folder, one for each patient as a rule."""
    inner = next(name for name, paths in classes_in(class_folder).items() if paths)
    return (f"Its images lie a folder too deep, in {class_folder.name}/{inner}: put them into "
            f"{class_folder} itself, the patient first in each name (patient12_3.png). Or, where "
            f"its folders are the classes, name {class_folder}")


def _decode(file: ImageFile, size: int, colour: bool) -> tuple[np.ndarray, str] | str:
    """One image -> (uint8 (size, size) or (size, size, 3), digest of its pixels), or why not."""
    def picture(image: Image.Image) -> Image.Image:
        if min(image.size) < size:
            shape = f"{image.width}x{image.height} pixels"
            raise Unusable(f"{shape}, fewer than the {size} asked for")
        return squared(rgb8(image) if colour else grey8(image))

    outcome = read_image(file.path, size, picture)
    return outcome if isinstance(outcome, str) else (outcome[0], digest(outcome[1]))


def _remedy(file: ImageFile) -> str:
    return f"Mend it, move it out of {file.path.parent}, or ask for a smaller size if it is small"


# --- idx files ------------------------------------------------------------------------------------


def _pairs(where: Path) -> list[tuple[Path, Path]]:
    """The files of images and labels in a folder, those of the test last. Raises DataError."""
    files = {_plain(path): path for path in reversed(entries(where))
             if "idx" in path.name.lower() and path.is_file()}
    pairs = {}
    for name in sorted(name for name in files if "images" in name):
        wanted = name.replace("images", "labels").replace("idx3", "idx1")
        if wanted not in files:
            raise DataError(f"{files[name]}: its labels, {wanted}, are not there. Put them beside "
                            "it.")
        pairs[name] = files[name], files[wanted]
    test = [name for name in pairs if "t10k" in name or "test" in name]
    train = [name for name in pairs if name not in test]
    if not pairs:
        raise DataError(f"{where}: holds no pair of idx files such as train-images-idx3-ubyte and "
                        f"train-labels-idx1-ubyte. It holds {inside(where)}. Put them there, "
                        "unpacked or as .gz.")
    if len(train) > 1 or len(test) > 1:
        first, second = (train if len(train) > 1 else test)[:2]
        raise DataError(f"{where}: holds several sets ({first}, {second}). Give each a folder of "
                        "its own.")
    return [pairs[name] for name in train + test]


def _names(names: Sequence[str]) -> list[str]:
    """Names of classes, or ValueError."""
    found = [] if isinstance(names, str) else list(names)
    if len(set(map(str, found))) < len(found) or not found or not all(
            isinstance(name, str) and name.strip() for name in found):
        raise ValueError(f"names={names!r}: give a list of different words, one for each class")
    return found


def _plain(path: Path) -> str:
    """The name of an idx file without what archives change about it."""
    return path.name.lower().removesuffix(".gz").replace(".idx", "-idx")


def _read_pair(of_images: Path, of_labels: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, H, W) uint8 and labels (N,) int64 of two files. Raises DataError."""
    read = []
    for path, dims in ((of_images, 3), (of_labels, 1)):
        remedy = f"Copy it anew, or move it out of {path.parent}."
        read.append(parse_idx(read_bytes(path, remedy), path, dims, remedy=remedy))
    images, labels = read
    if len(images) != len(labels):
        counts = f"{len(labels):,} labels for {len(images):,} images"
        raise DataError(f"{of_labels}: {counts}. Copy both files anew, from one set.")
    return images, labels.long()
