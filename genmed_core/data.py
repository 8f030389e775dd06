"""Data sets as verified uint8 images: real files where they are, embedded drawings elsewhere.

Every source of a data set has one reader in READERS; data/README.md says where files go.
"""

import contextlib
import functools
import gzip
import hashlib
import io
import os
import pickle
import socket
import tarfile
import tempfile
import threading
import urllib.request
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.datasets import CIFAR10, MNIST
from torchvision.datasets.utils import download_and_extract_archive

from genmed_core import runtime
from genmed_core.cache import Notes, Tensors, cached, progress
from genmed_core.collection import entries
from genmed_core.errors import DataError
from genmed_core.idx import parse_idx, read_bytes
from genmed_core.radiographs import (
    CXR_CLASSES,
    FOLDER,
    KAGGLE_SIZE,
    Films,
    find_database,
    read_database,
)
from genmed_core.synthetic.strokes import stroke_digits

Files = dict[str, Path]  # MNIST's, by name
SPLITS = ("train", "val", "test")
DIGITS = tuple("0123456789")
# split -> (drawings, seed): three seeds, so that no drawing is in two splits
STROKE_SPLITS = {"train": (20_000, 101), "val": (2_500, 102), "test": (5_000, 103)}
MNIST_VAL, MNIST_SEED = 5_000, 0  # how many of the 60,000 training images are set aside, and how
# MD5 of the unpacked files
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
# of animals: split -> (drawings, seed), as many as CIFAR-10 has birds and cats
ANIMAL_SPLITS = {"train": (9_000, 301), "val": (1_000, 302), "test": (2_000, 303)}
CIFAR_NUMBERS = {"bird": 2, "cat": 3}  # among CIFAR-10's ten classes
CIFAR_VAL = 1_000  # how many of its 10,000 training images are set aside
# split -> (phantoms, seed), in the proportions of the database's splits
PHANTOM_SPLITS = {"train": (2_400, 201), "val": (800, 202), "test": (800, 203)}
STALL, PATIENCE = 4, 90  # seconds without an answer, and for a whole download, then it is given up
CIFAR_PATIENCE = 600  # 170 MB
OWN_FILMS = "own films"
OF_PATIENTS = ("database", OWN_FILMS)  # sources of which no picture leaves this machine
# what figures call the images of a source
CAPTIONS = {
    "mnist": "MNIST",
    "strokes": "drawn digits",
    "cifar10": "CIFAR-10",
    "animals": "drawn animals",
    "database": "COVID-19 Radiography Database",
    OWN_FILMS: "films of your own",
    "phantom": "simulated X-rays of no patient",
}


class Absent(DataError):
    """A source that is not there: `why` in a few words; the message also says how to get it."""

    def __init__(self, why: str, message: str):
        super().__init__(message)
        self.why = why


@dataclass(eq=False, repr=False)
class ImageSet:
    """Images (N, 1, H, W) uint8 with labels (N,) int64 and a class name for each label.

    Colour images are (N, 3, H, W), red, green, blue. Images in a wider integer type are taken as
    bytes where their values are 0 to 255. `source` says where they come from, one of CAPTIONS or a
    name of your own; `factors` {name: (N,)} holds what shaped each image where that is known, that
    is for embedded data. Raises ValueError when parts do not fit.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    source: str
    factors: Mapping[str, torch.Tensor] | None = None

    def __post_init__(self) -> None:
        self.images, self.labels = _as_bytes(self.images), torch.as_tensor(self.labels)
        n = len(self.images)
        if self.labels.dtype != torch.int64 or self.labels.shape != (n,):
            found = _kind(self.labels)
            raise ValueError(f"labels must be int64 ({n},), one per image, not {found}")
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            last = len(self.classes) - 1
            raise ValueError(f"labels must lie in 0..{last}, one of {self.classes}")
        for name, column in (self.factors or {}).items():
            if column.shape != (n,):
                shape = tuple(column.shape)
                raise ValueError(f"factor {name!r} must have shape ({n},), not {shape}")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        n, channels, height, width = self.images.shape
        colour = " in colour" if channels == 3 else ""
        what = f"{n:,} images {height}x{width}{colour}, {len(self.classes)} classes"
        return f"ImageSet({what}, source={self.source!r})"

    @property
    def caption(self) -> str:
        """What figures call these images."""
        return CAPTIONS.get(self.source, self.source)

    def subset(self, index: Any) -> "ImageSet":
        """The images at `index` (anything that indexes a first axis), with labels and factors."""
        factors = self.factors and {name: column[index] for name, column in self.factors.items()}
        return ImageSet(
            self.images[index], self.labels[index], self.classes, self.source, factors)


Reader = Callable[..., tuple[ImageSet, str]]  # see READERS


def _as_bytes(images: torch.Tensor) -> torch.Tensor:
    """Images as uint8 (N, 1, H, W), in colour (N, 3, H, W), or ValueError."""
    images = torch.as_tensor(images)
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError("images must be uint8 (N, 1, H, W), or in colour (N, 3, H, W), "
                         f"not {_kind(images)}")
    if images.dtype == torch.uint8:
        return images
    if images.is_floating_point() or images.is_complex() or images.dtype == torch.bool:
        raise ValueError(
            f"images must be uint8 (N, 1, H, W), 0 to 255, not {_kind(images)}; of grey values in "
            "[0, 1] they are (255 * images).round().to(torch.uint8)")
    if images.numel() and not 0 <= int(images.min()) <= int(images.max()) <= 255:
        low, high = int(images.min()), int(images.max())
        raise ValueError(f"images must be whole numbers from 0 to 255, not from {low} to {high}")
    return images.to(torch.uint8)


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def class_counts(*sets: ImageSet) -> dict[str, int]:
    """Images of each class in all the sets together -> {class name: count}, the largest first.

    class_counts(train, val, test) of the whole chest X-ray database gives the figures that the book
    prints.
    """
    classes = sets[0].classes
    totals = torch.zeros(len(classes), dtype=torch.int64)
    for data in sets:
        totals += torch.bincount(data.labels.cpu(), minlength=len(classes))
    return dict(sorted(zip(classes, totals.tolist()), key=lambda item: -item[1]))


def require(
    *sets: ImageSet, images: int, classes: int = 1, including: Sequence[str] = ()
) -> None:
    """See, before anything is trained, that the sets together hold enough for what is to come.

    images: how many at least; classes: of how many classes; including: which must be among them.
    Raises DataError.
    """
    counts = class_counts(*sets)
    total, present = sum(counts.values()), [name for name, n in counts.items() if n]
    if total >= images and len(present) >= classes and set(including) <= set(present):
        return
    held = ", ".join(f"{counts[name]:,} {name}" for name in present) or "none"
    wanted = f"at least {images:,} images of {classes} class{'es' if classes > 1 else ''}"
    if including:
        wanted += f", {' and '.join(including)} among them"
    raise DataError(
        f"{sets[0].caption}: {total:,} images ({held}) do not suffice for what follows, "
        f"which needs {wanted}. Add images, or set GENMED_DATA_SOURCE=embedded for the drawn ones.")


# --- what chapters ask for ------------------------------------------------------------------------


def digits(split: str = "train", source: str = "auto") -> ImageSet:
    """Handwritten digits, 28x28 -> ImageSet; prints one line that says which.

    split "train", "val" or "test": of MNIST 55,000, 5,000 (taken from the training files by a fixed
    seed) and the 10,000 test images; of the embedded stroke drawings 20,000, 2,500 and 5,000.
    source "mnist", "embedded", or "auto": MNIST's files under $GENMED_DATA (default data/), else a
    download, else the embedded drawings. GENMED_DATA_SOURCE=embedded makes "auto" mean "embedded".

    Raises DataError for files that are there but damaged, and when "mnist" is asked for and cannot
    be had; ValueError for an unknown split or source.
    """
    return load("digits", split, source)


def cxr(split: str = "train", source: str = "auto", size: int = 64) -> ImageSet:
    """Frontal chest X-rays, size x size, of four classes -> ImageSet; prints which, in one line.

    split "train", "val" or "test": 60, 20 and 20 % of the films, a patient never in two of them
    where file names tell (Kaggle's do not) and exact copies kept together; of the embedded phantoms
    2,400, 800 and 800. source "database", "embedded", or "auto": the COVID-19 Radiography Database,
    a part of it or films of your own in its class folders, under $GENMED_DATA (default data/), else
    the embedded phantoms. GENMED_DATA_SOURCE=embedded makes "auto" mean "embedded". The labels are
    those of all four classes even where the folder holds fewer. The first call for a size reads
    every file and keeps the tensors in runs/cache; a few unusable images are left out and counted.

    Raises DataError for a folder that is there but damaged, and when "database" is asked for and is
    not there; ValueError for an unknown split, source or size.
    """
    if type(size) is not int or not 16 <= size <= KAGGLE_SIZE:
        wanted = f"choose a whole number of pixels from 16 to {KAGGLE_SIZE}"
        raise ValueError(f"size {size!r} is not possible; {wanted}")
    return load("cxr", split, source, size=size)


def animals(split: str = "train", source: str = "auto") -> ImageSet:
    """Birds and cats in colour, 32x32 -> ImageSet; prints one line that says which.

    split "train", "val" or "test": 9,000, 1,000 and 2,000, half of them birds. source "cifar10",
    "embedded", or "auto": CIFAR-10's files under $GENMED_DATA (default data/), else a download,
    else the embedded drawings, whose factors are known. GENMED_DATA_SOURCE=embedded makes "auto"
    mean "embedded".

    Raises DataError for files that are there but damaged, and when "cifar10" is asked for and
    cannot be had; ValueError for an unknown split or source.
    """
    return load("animals", split, source)


def load(name: str, split: str = "train", source: str = "auto", **options: Any) -> ImageSet:
    """One split of a data set in READERS -> ImageSet; prints one line that says which.

    source: the name of a reader, or "auto": the first whose files are there. options go to the
    reader. Raises DataError as the reader does, ValueError for a name that is not known.
    """
    _one_of("data set", name, READERS)
    _one_of("split", split, SPLITS)
    _one_of("source", source, ("auto", *READERS[name]))
    why, absent = "as asked", DataError(f"{name} has no reader")
    for key in _order(READERS[name], source):
        try:
            images, words = READERS[name][key](split, **options)
        except Absent as error:
            why, absent = error.why, error
            continue
        reason = f" ({why})" if key == "embedded" else ""
        print(f"{name} {split}: {len(images):,} {words}{reason}")
        return images
    raise absent


def _order(readers: Mapping[str, Reader], source: str) -> list[str]:
    """Which readers to try, one after the other."""
    if source != "auto":
        return [source]
    forced = runtime.setting("GENMED_DATA_SOURCE", "auto")
    return [forced] if forced in readers else list(readers)


def _one_of(what: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        known = ", ".join(map(repr, choices))
        raise ValueError(f"{what} {value!r} is not known; choose one of {known}")


# --- folders --------------------------------------------------------------------------------------


def data_folder() -> Path:
    """$GENMED_DATA, which must exist, or data/ beside the chapters."""
    folder = runtime.path_setting("GENMED_DATA", "data")
    if _named() and not os.path.isdir(folder):
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"GENMED_DATA: {folder} {what}. Name the folder that holds the data sets, "
                        "or unset GENMED_DATA.")
    return folder


def _named() -> bool:
    return runtime.setting("GENMED_DATA") is not None


def shown(folder: Path, place: Path) -> str:
    """A place in the data folder as notebooks print it, without the paths of this machine."""
    base = "$GENMED_DATA" if _named() else "data"
    inner = place.relative_to(folder).as_posix()
    return base if inner == "." else f"{base}/{inner}"


# --- the readers ----------------------------------------------------------------------------------


def _stroke_digits(split: str) -> tuple[ImageSet, str]:
    n, seed = STROKE_SPLITS[split]
    images, labels, factors = stroke_digits(n, seed=seed)
    return ImageSet(images[:, None], labels, DIGITS, "strokes", factors), "embedded stroke drawings"


def _phantoms(split: str, size: int) -> tuple[ImageSet, str]:
    from genmed_core.synthetic import _common, phantom  # here: digits should not wait for it

    n, seed = PHANTOM_SPLITS[split]

    def draw() -> tuple[Tensors, Notes]:
        print(f"cxr {split}: drawing {n:,} phantoms, once", flush=True)
        tell = progress(f"cxr {split}: phantoms drawn", n)
        images, labels, factors = phantom.cxr_phantom(n, size=size, seed=seed, tell=tell)
        numbers = torch.tensor([CXR_CLASSES.index(name) for name in phantom.CLASSES])
        tensors = {f"factor {name}": column for name, column in factors.items()}
        tensors |= {"images": images.reshape(n, 1, size, size), "labels": numbers[labels]}
        return tensors, {"names": "|".join(factors)}

    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (phantom, _common))
    recipe = hashlib.sha256(code).hexdigest()
    tensors, notes = cached("phantom", [n, size, seed, CXR_CLASSES, recipe], draw)
    factors = {name: tensors[f"factor {name}"] for name in notes["names"].split("|")}
    images, labels = tensors["images"], tensors["labels"]
    return ImageSet(images, labels, CXR_CLASSES, "phantom", factors), "embedded phantoms"


def _drawn_animals(split: str) -> tuple[ImageSet, str]:
    from genmed_core.synthetic import _common, animals  # here: digits should not wait for it

    n, seed = ANIMAL_SPLITS[split]

    def draw() -> tuple[Tensors, Notes]:
        images, labels, factors = animals.draw_animals(n, seed=seed)
        columns = {f"factor {name}": column for name, column in factors.items()}
        return columns | {"images": images, "labels": labels}, {"names": "|".join(factors)}

    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (animals, _common))
    recipe = hashlib.sha256(code).hexdigest()
    tensors, notes = cached("animals", [n, seed, recipe], draw)
    factors = {name: tensors[f"factor {name}"] for name in notes["names"].split("|")}
    data = ImageSet(tensors["images"], tensors["labels"], animals.CLASSES, "animals", factors)
    return data, "embedded drawings of birds and cats"


def _films(split: str, size: int) -> tuple[ImageSet, str]:
    """X-rays from the database's folder or from films of the reader's own."""
    if runtime.setting("GENMED_PUBLIC"):
        why = "these outputs are to be published"
        raise Absent(why, f"GENMED_PUBLIC is set: {why}, and films of patients must not be. Unset "
                          "it, or GENMED_PUBLIC=0, where nobody but you will see them.")
    folder = data_folder()
    place = find_database(folder)
    if place is None:
        where = "$GENMED_DATA" if _named() else "data/"
        raise Absent(f"no {FOLDER} in {where}; how to get it: data/README.md",
                     f"{folder / FOLDER}: the COVID-19 Radiography Database is not there. Download "
                     f"it from Kaggle and put its folder into {folder} (see data/README.md). "
                     "source='embedded' needs no files.")
    films = read_database(place, size)
    mine = films.splits == SPLITS.index(split)
    source = OWN_FILMS if films.own else "database"
    data = ImageSet(films.images[mine], films.labels[mine], CXR_CLASSES, source)
    return data, _what_films(films, shown(folder, place))


def _what_films(films: Films, where: str) -> str:
    """Which X-rays these are, for the printed line, and what is missing among them."""
    words = f"X-rays of the COVID-19 Radiography Database from {where}"
    if films.own:
        size = films.images.shape[-1]
        words = f"films of your own from {where}, each made square and {size}x{size}"
    for i, name in enumerate(CXR_CLASSES):
        if not (films.labels == i).any():
            words += f"; no {name}"
    if films.left_out:
        n = len(films.left_out)
        words += f"; {n} of {len(films.labels) + n:,} files left out, such as {films.left_out[0]}"
    return words


def _mnist(split: str) -> tuple[ImageSet, str]:
    folder = data_folder()
    files, where = _find_mnist(folder)
    return _read_mnist(files, split), f"MNIST images from {where}"


def _cifar(split: str) -> tuple[ImageSet, str]:
    place, where = _find_cifar(data_folder())
    return _read_cifar(place, split), f"birds and cats of CIFAR-10 from {where}"


# data set -> {source: reader}, in the order in which "auto" tries them. A reader takes the split
# and the options of `load`; it gives an ImageSet and words for the printed line, or raises Absent.
READERS: dict[str, dict[str, Reader]] = {
    "digits": {"mnist": _mnist, "embedded": _stroke_digits},
    "cxr": {"database": _films, "embedded": _phantoms},
    "animals": {"cifar10": _cifar, "embedded": _drawn_animals},
}


# --- MNIST ----------------------------------------------------------------------------------------


def _find_mnist(folder: Path) -> tuple[Files, str]:
    """Paths of MNIST's four files and a name for where they lie; raises Absent where none is."""
    found = [(place, _mnist_files(place)) for place in _mnist_places(folder)]
    place, files = max(found, key=lambda item: len(item[1]))  # the first of the fullest
    if len(files) == len(MNIST_MD5):
        return files, shown(folder, place)
    raw, where = ((None, "GENMED_OFFLINE forbids the download")
                  if runtime.setting("GENMED_OFFLINE") else _download_mnist(folder))
    if raw is not None:
        return _mnist_files(raw), where
    if files:
        name = next(name for name in MNIST_MD5 if name not in files)
        raise DataError(f"{place / name}: missing, unlike others of MNIST's four files, and "
                        f"{where}. Put it there, too.")
    others = [path.name for path in entries(folder) if "mnist" in path.name.lower()]
    why = f"no MNIST files, and {where}" + "".join(f"; {name} is not read" for name in others[:1])
    raise Absent(f"{why}; for MNIST see data/README.md",
                 f"{folder / 'MNIST' / 'raw'}: MNIST is not there ({why}). Put the four files "
                 f"{', '.join(MNIST_MD5)} (or their .gz) into MNIST/raw of the folder that "
                 "GENMED_DATA names, or allow the download (network on, GENMED_OFFLINE unset). "
                 "source='embedded' needs no files.")


def _mnist_places(folder: Path) -> list[Path]:
    """Folders in which MNIST's files may lie: MNIST/raw, MNIST, raw or the folder itself."""
    def inside(place: Path, name: str) -> list[Path]:
        return [path for path in entries(place) if path.name.lower() == name]

    outer = inside(folder, "mnist")
    raw = [path for place in (*outer, folder) for path in inside(place, "raw")]
    return [*raw, *outer, folder]


def _mnist_files(place: Path) -> Files:
    """Those of MNIST's files that a folder holds -> {name: path}.

    Unpacked or as .gz; with a dot before idx, as some archives have it; in a folder of its name.
    """
    found: Files = {}
    for path in entries(place):  # "x" comes before "x.gz"
        name = path.name.lower().removesuffix(".gz").replace(".idx", "-idx")
        if os.path.isdir(path):
            path = path / path.name
        if name in MNIST_MD5 and os.path.lexists(path) and not os.path.isdir(path):
            found.setdefault(name, path)
    return found


def _read_mnist(files: Files, split: str) -> ImageSet:
    """Read and verify one split from the paths of the files -> ImageSet."""
    part = "t10k" if split == "test" else "train"
    names = [f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"]
    paths = [files[name] for name in names]
    contents = [read_bytes(path, _again(path)) for path in paths]
    images, labels = (
        parse_idx(content, path, dims, remedy=_again(path), of=" of MNIST", sides=(28, 28))
        for content, path, dims in zip(contents, paths, (3, 1), strict=True))
    if len(images) != len(labels):
        counts = f"{len(labels):,} labels for {len(images):,} images"
        raise DataError(f"{paths[1]}: {counts}. {_again(paths[1])}")
    for content, path, name in zip(contents, paths, names, strict=True):
        if hashlib.md5(content).hexdigest() != MNIST_MD5[name]:
            reason = "its checksum is not MNIST's: changed or damaged"
            raise DataError(f"{path}: {reason}. {_again(path)}")
    data = ImageSet(images[:, None], labels.long(), DIGITS, "mnist")
    return data if split == "test" else data.subset(_train_or_val(len(data), split, MNIST_VAL))


def _train_or_val(n: int, split: str, aside: int) -> torch.Tensor:
    """Sorted indices of n training images that make up a split, `aside` of them for "val"."""
    order = np.random.RandomState(MNIST_SEED).permutation(n)  # the one that numpy froze for good
    chosen = order[:aside] if split == "val" else order[aside:]
    return torch.from_numpy(np.sort(chosen))


def _again(path: Path) -> str:
    return f"Copy it anew, or move it out of {path.parent}, and it is downloaded again."


# --- CIFAR-10 -------------------------------------------------------------------------------------


def _find_cifar(folder: Path) -> tuple[Path, str]:
    """Where CIFAR-10's batches lie, a folder or the archive, and its name; raises Absent."""
    names = [name for name, _ in [*CIFAR10.train_list, *CIFAR10.test_list]]
    outer = [path for path in entries(folder) if path.name.lower() in ("cifar10", "cifar-10")]
    for base in (folder, *outer):
        place, archive = base / CIFAR10.base_folder, base / CIFAR10.filename
        if os.path.isdir(place):
            if missing := [name for name in names if not os.path.lexists(place / name)]:
                raise DataError(f"{place / missing[0]}: missing. {_again(place)}")
            return place, shown(folder, place)
        if os.path.lexists(archive):
            return archive, shown(folder, archive)
    fetched, where = ((None, "GENMED_OFFLINE forbids the download")
                      if runtime.setting("GENMED_OFFLINE") else _download_cifar(folder))
    if fetched is not None:
        return fetched, where
    raise Absent(f"no CIFAR-10 files, and {where}; for CIFAR-10 see data/README.md",
                 f"{folder / CIFAR10.base_folder}: CIFAR-10 is not there ({where}). Put the "
                 f"archive {CIFAR10.filename}, or the folder in it, into the folder that "
                 "GENMED_DATA names, or allow the download (network on, GENMED_OFFLINE unset). "
                 "source='embedded' needs no files.")


def _read_cifar(place: Path, split: str) -> ImageSet:
    """Read and verify the birds and cats of one split -> ImageSet."""
    batches = CIFAR10.test_list if split == "test" else CIFAR10.train_list
    images, labels = [], []
    contents = _cifar_contents(place, [name for name, _ in batches])
    for (name, md5), content in zip(batches, contents, strict=True):
        if hashlib.md5(content).hexdigest() != md5:
            path = place / name if os.path.isdir(place) else place
            what = "its checksum is not CIFAR-10's: truncated, changed or damaged"
            raise DataError(f"{path}: {what}. {_again(path)}")
        batch = pickle.loads(content, encoding="latin1")  # a file whose checksum is CIFAR-10's
        images.append(torch.as_tensor(batch["data"]).view(-1, 3, 32, 32))
        labels.append(torch.as_tensor(batch["labels"]))
    x, numbers = torch.cat(images), torch.cat(labels)
    wanted = torch.tensor(list(CIFAR_NUMBERS.values()))
    rows = torch.isin(numbers, wanted).nonzero()[:, 0]
    y = (numbers[rows, None] == wanted).long().argmax(1)
    data = ImageSet(x[rows], y, tuple(CIFAR_NUMBERS), "cifar10")
    return data if split == "test" else data.subset(_train_or_val(len(data), split, CIFAR_VAL))


def _cifar_contents(place: Path, names: Sequence[str]) -> list[bytes]:
    """Contents of CIFAR-10's batches of these names, from their folder or from the archive."""
    if os.path.isdir(place):
        return [bytes(read_bytes(place / name, _again(place / name))) for name in names]
    try:
        with tarfile.open(place) as archive:
            members = [archive.extractfile(f"{CIFAR10.base_folder}/{name}") for name in names]
            return [member.read() if member else b"" for member in members]
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, KeyError) as error:
        reason = f"truncated, or not the archive of CIFAR-10 ({error})"
        raise DataError(f"{place}: {reason}. {_again(place)}") from error
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror}). Make it readable.") from error


# --- download -------------------------------------------------------------------------------------


@functools.cache
def _download_cifar(folder: Path) -> tuple[Path | None, str]:
    """Fetch CIFAR-10, whole or not at all, into `folder` -> its folder or None, and words."""
    scratch = _scratch(folder)
    try:
        _within(STALL, _knock, CIFAR10.url)
        print("animals: downloading CIFAR-10, 170 MB, once", flush=True)
        _within(CIFAR_PATIENCE, download_and_extract_archive, CIFAR10.url, scratch.name, None,
                CIFAR10.filename, CIFAR10.tgz_md5, True)
        fetched = Path(scratch.name) / CIFAR10.base_folder
        entries(fetched)[0]  # it is there
    except Exception:  # whatever closed the way, the embedded drawings are the answer
        scratch.cleanup()
        return None, "the download failed"
    target = folder / CIFAR10.base_folder
    with contextlib.suppress(OSError):
        fetched.rename(target)
        scratch.cleanup()
        return target, "a fresh download"
    _KEPT.append(scratch)
    return fetched, f"a temporary download ({target} cannot take it)"


@functools.cache  # once per process: neither a failure nor a temporary copy is worth a second try
def _download_mnist(folder: Path) -> tuple[Path | None, str]:
    """Fetch MNIST's files, all or none, into folder/MNIST/raw -> that folder or None, and words.

    Where the folder cannot be written, the files stay in a temporary one until the process ends.
    """
    scratch = _scratch(folder)
    try:
        _fetch_mnist(Path(scratch.name) / "raw")
    except Exception:  # whatever closed the way, the embedded drawings are the answer
        scratch.cleanup()
        return None, "the download failed"
    target = folder / "MNIST" / "raw"
    if _copy_missing(Path(scratch.name) / "raw", target):
        scratch.cleanup()
        return target, "a fresh download"
    _KEPT.append(scratch)
    return Path(scratch.name) / "raw", f"a temporary download ({target} cannot take it)"


def _scratch(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    """A temporary folder inside `folder`, or elsewhere where that cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(
            dir=folder, prefix=".download-", ignore_cleanup_errors=True)
    except OSError:
        return tempfile.TemporaryDirectory(prefix="genmed-", ignore_cleanup_errors=True)


# temporary folders in use; removed when the process ends
_KEPT: list[tempfile.TemporaryDirectory] = []


def _copy_missing(source: Path, target: Path) -> bool:
    """Move files into `target`, beside what lies there -> whether `target` holds MNIST then."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(os.path.isdir(target / name) for name in MNIST_MD5):
            return False
        for path in entries(source):
            if not os.path.lexists(target / path.name):
                path.rename(target / path.name)
    except (OSError, DataError):
        pass
    return len(_mnist_files(target)) == len(MNIST_MD5)


def _fetch_mnist(raw: Path) -> None:
    """Download MNIST's files, unpacked, from the first mirror that has them, or raise OSError."""
    for mirror in MNIST.mirrors:
        with contextlib.suppress(OSError, RuntimeError):
            _within(STALL, _knock, mirror + MNIST.resources[0][0])
            _within(PATIENCE, _fetch_from, mirror, raw)
            return
    raise OSError("no mirror of MNIST answers")


def _knock(address: str) -> None:
    """See whether a server answers; torchvision would try every address and protocol in turn."""
    urllib.request.urlopen(address, timeout=STALL).close()


def _fetch_from(mirror: str, raw: Path) -> None:
    for name, md5 in MNIST.resources:
        download_and_extract_archive(mirror + name, raw, md5=md5, remove_finished=True)


def _within(seconds: float, work: Callable[..., object], *args: object) -> None:
    """Run work(*args) in a thread and wait at most so long: a name look-up knows no timeout."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(work(*args))
        except Exception as error:
            outcome.append(error)

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # torchvision's progress bar
            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            thread.join(seconds)
    finally:
        socket.setdefaulttimeout(before)
    if not outcome:
        raise TimeoutError(f"no answer within {seconds} s")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
