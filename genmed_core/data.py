"""Data sets as verified uint8 images: real files where they are, embedded drawings elsewhere.

Every source of a data set has one reader in READERS; data/README.md says where files go.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from genmed_core import mnist_cifar, runtime
from genmed_core.cache import Notes, Tensors, cached, progress
from genmed_core.errors import Absent, DataError
from genmed_core.places import data_folder, shown
from genmed_core.radiographs import (
    CXR_CLASSES,
    FOLDER,
    KAGGLE_SIZE,
    Films,
    find_database,
    read_database,
)
from genmed_core.synthetic.strokes import stroke_digits

SPLITS = ("train", "val", "test")
DIGITS = tuple("0123456789")
# split -> (drawings, seed): three seeds, so that no drawing is in two splits
STROKE_SPLITS = {"train": (20_000, 101), "val": (2_500, 102), "test": (5_000, 103)}
# of animals: split -> (drawings, seed), as many as CIFAR-10 has birds and cats
ANIMAL_SPLITS = {"train": (9_000, 301), "val": (1_000, 302), "test": (2_000, 303)}
# split -> (phantoms, seed), in the proportions of the database's splits
PHANTOM_SPLITS = {"train": (2_400, 201), "val": (800, 202), "test": (800, 203)}
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
Drawn = tuple[torch.Tensor, torch.Tensor, Mapping[str, torch.Tensor]]  # images, labels, factors


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


# --- the readers ----------------------------------------------------------------------------------


def _stroke_digits(split: str) -> tuple[ImageSet, str]:
    n, seed = STROKE_SPLITS[split]
    images, labels, factors = stroke_digits(n, seed=seed)
    return ImageSet(images[:, None], labels, DIGITS, "strokes", factors), "embedded stroke drawings"


def _phantoms(split: str, size: int) -> tuple[ImageSet, str]:
    from genmed_core.synthetic import phantom  # here: digits should not wait for it

    n, seed = PHANTOM_SPLITS[split]

    def draw() -> Drawn:
        print(f"cxr {split}: drawing {n:,} phantoms, once", flush=True)
        tell = progress(f"cxr {split}: phantoms drawn", n)
        images, labels, factors = phantom.cxr_phantom(n, size=size, seed=seed, tell=tell)
        numbers = torch.tensor([CXR_CLASSES.index(name) for name in phantom.CLASSES])
        return images.reshape(n, 1, size, size), numbers[labels], factors

    images, labels, factors = _drawn_once("phantom", [n, size, seed, CXR_CLASSES], phantom, draw)
    return ImageSet(images, labels, CXR_CLASSES, "phantom", factors), "embedded phantoms"


def _animals(split: str) -> tuple[ImageSet, str]:
    from genmed_core.synthetic import animals  # here: digits should not wait for it

    n, seed = ANIMAL_SPLITS[split]
    images, labels, factors = _drawn_once(
        "animals", [n, seed], animals, lambda: animals.draw_animals(n, seed=seed))
    data = ImageSet(images, labels, animals.CLASSES, "animals", factors)
    return data, "embedded drawings of birds and cats"


def _drawn_once(stem: str, inputs: list[object], maker: ModuleType,
                draw: Callable[[], Drawn]) -> Drawn:
    """What draw() gives, from the cache as long as neither `inputs` nor the maker's code change."""
    from genmed_core.synthetic import _common

    def make() -> tuple[Tensors, Notes]:
        images, labels, factors = draw()
        columns = {f"factor {name}": column for name, column in factors.items()}
        return columns | {"images": images, "labels": labels}, {"names": "|".join(factors)}

    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (maker, _common))
    tensors, notes = cached(stem, [*inputs, hashlib.sha256(code).hexdigest()], make)
    factors = {name: tensors[f"factor {name}"] for name in notes["names"].split("|")}
    return tensors["images"], tensors["labels"], factors


def _films(split: str, size: int) -> tuple[ImageSet, str]:
    """X-rays from the database's folder or from films of the reader's own."""
    if runtime.setting("GENMED_PUBLIC"):
        why = "these outputs are to be published"
        raise Absent(why, f"GENMED_PUBLIC is set: {why}, and films of patients must not be. Unset "
                          "it, or GENMED_PUBLIC=0, where nobody but you will see them.")
    folder = data_folder()
    place = find_database(folder)
    if place is None:
        where = "$GENMED_DATA" if runtime.setting("GENMED_DATA") else "data/"
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
    images, labels, where = mnist_cifar.mnist(split)
    return ImageSet(images, labels, DIGITS, "mnist"), f"MNIST images from {where}"


def _cifar(split: str) -> tuple[ImageSet, str]:
    images, labels, where = mnist_cifar.cifar(split)
    data = ImageSet(images, labels, tuple(mnist_cifar.CIFAR_NUMBERS), "cifar10")
    return data, f"birds and cats of CIFAR-10 from {where}"


# data set -> {source: reader}, in the order in which "auto" tries them. A reader takes the split
# and the options of `load`; it gives an ImageSet and words for the printed line, or raises Absent.
READERS: dict[str, dict[str, Reader]] = {
    "digits": {"mnist": _mnist, "embedded": _stroke_digits},
    "cxr": {"database": _films, "embedded": _phantoms},
    "animals": {"cifar10": _cifar, "embedded": _animals},
}
