"""The COVID-19 Radiography Database, or films of one's own: files -> verified uint8 tensors.

`data.cxr` is what chapters call. The database is taken as Kaggle ships it, in its older forms, or
any part of it:

    COVID-19_Radiography_Dataset/COVID/images/COVID-1.png       299x299, grey
                                 COVID/masks/COVID-1.png        never read
                                 COVID.metadata.xlsx            never read

Films of one's own stand in the same class folders, in any size and under any other names.
"""

import functools
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from genmed_core.cache import Notes, Tensors, cached, progress
from genmed_core.errors import DataError
from genmed_core.imagefiles import Unusable, grey8, image_files, read_image

FOLDER = "COVID-19_Radiography_Dataset"
# alphabetical, as PyHealth numbers them
CXR_CLASSES = ("COVID", "Lung Opacity", "Normal", "Viral Pneumonia")
CLASS_FOLDERS = "COVID, Lung_Opacity, Normal, Viral Pneumonia"
# how the database's versions spell its classes and itself, in small letters without signs
CLASS_NAMES = {"covid": 0, "covid19": 0, "lungopacity": 1, "normal": 2, "viralpneumonia": 3}
DATABASE_NAMES = re.compile(r"covid19radiography(dataset|database)?")
ITS_FILES = re.compile(r"(covid|covid-19|lung_opacity|normal|viral pneumonia)[ _-]*\(?\d+\)?", re.I)
KAGGLE_SIZE = 299
ITS_SIZES = {(KAGGLE_SIZE, KAGGLE_SIZE), (1024, 1024)}  # the second before 2021
COLOUR = 8  # levels by which the channels of a grey picture saved in colour may differ
BAD_SHARE = 0.05  # more unusable images than this are no accident
SHARES = (0.6, 0.8)  # where train ends and where val ends
VERSION = 2  # of what the cache holds: raise it with any change below that changes the tensors
# how collections that this database was made from write a patient into a file name
PATIENT = [
    re.compile(r"^(\d{8})_\d{3}$"),  # NIH ChestX-ray: patient_follow-up
    # Kermany, CheXpert, BIMCV
    re.compile(r"(?:^|[^a-z])((?:person|patient|subject|sub)[-_ ]?\d*[a-z]?\d+)(?![a-z0-9])", re.I),
]


@dataclass
class Films:
    """What a folder of X-rays holds: images (N, 1, size, size) uint8; labels and splits (N,) int64.

    splits: 0 train, 1 val, 2 test; left_out: a line for each file that cannot be used; own: whether
    most files have other names than the database's, and so are the reader's own.
    """

    images: torch.Tensor
    labels: torch.Tensor
    splits: torch.Tensor
    left_out: list[str]
    own: bool


@dataclass
class ImageFile:
    """A file of the folder, with what tells that it has changed."""

    path: Path
    name: str  # class folder/file
    label: int
    size: int
    mtime: int

    @property
    def of_database(self) -> bool:
        """Whether it is named as the database's files are."""
        return bool(ITS_FILES.fullmatch(self.path.stem))


# --- the folder -----------------------------------------------------------------------------------


def find_database(folder: Path) -> Path | None:
    """The folder that holds the class folders: `folder`, or one inside named as the database.

    Raises DataError where the database is there but not as it can be read: still packed, or without
    a class folder.
    """
    named = _named_as_database(folder)
    for place in named:
        if class_folders(place):
            return place
    if any(image_files(_images_in(of_class)) for of_class, _ in class_folders(folder)):
        return folder
    if named:
        raise DataError(
            f"{named[0]}: holds none of the class folders {CLASS_FOLDERS}. It holds "
            f"{_inside(named[0])}. Copy the class folders of the Kaggle archive into it"
        )
    packed = next((path for path in _entries(folder) if _is_its_archive(path)), None)
    if packed:
        raise DataError(f"{packed}: the database is still packed. Unpack it into {folder}")
    return None


def _named_as_database(folder: Path, depth: int = 3) -> list[Path]:
    """Folders below with the database's names, also in each other or in Kaggle's archive/."""
    found: list[Path] = []
    for path in _entries(folder) if depth else []:
        name = _letters(path.name)
        if os.path.isdir(path) and (DATABASE_NAMES.fullmatch(name) or name == "archive"):
            inner = _named_as_database(path, depth - 1)
            found += inner + [path] * (name != "archive" or bool(class_folders(path)))
    return sorted(found, key=lambda place: not class_folders(place))


def class_folders(place: Path) -> list[tuple[Path, int]]:
    """The folders of classes in `place`, in any spelling of the database, each with its number."""
    names = [(path, _letters(path.name)) for path in _entries(place) if os.path.isdir(path)]
    folders = [(path, CLASS_NAMES[name]) for path, name in names if name in CLASS_NAMES]
    return sorted(folders, key=lambda found: found[1])


def list_images(place: Path) -> list[ImageFile]:
    """The images of every class that is there, sorted by name within a class.

    They stand in the folder images/ of a class, or directly in the class's folder. Raises DataError
    for a class folder without images; a class without a folder is left out.
    """
    found = []
    for folder, number in class_folders(place):
        inner = _images_in(folder)
        paths = image_files(inner)
        if not paths:
            raise DataError(
                f"{inner}: holds no image. It holds {_inside(inner)}. Copy the X-rays into it; or "
                f"move the folder {folder.name} elsewhere, and the other classes are read"
            )
        found += [_stamped(path, f"{folder.name}/{path.name}", number) for path in paths]
    return found


def _images_in(class_folder: Path) -> Path:
    """Where the images of a class are: its folder images/, else itself."""
    named = [path for path in _entries(class_folder) if _letters(path.name) == "images"]
    places = [*filter(os.path.isdir, named), class_folder]
    return next((place for place in places if image_files(place)), places[0])


def _stamped(path: Path, name: str, number: int) -> ImageFile:
    try:
        stat = path.stat()
    except OSError:  # a link to nowhere: reading it will say so
        return ImageFile(path, name, number, 0, 0)
    return ImageFile(path, name, number, stat.st_size, stat.st_mtime_ns)


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted, hidden things apart; nothing for what is no folder."""
    if not os.path.isdir(folder):
        return []
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}). Make it readable") from error


def _inside(folder: Path) -> str:
    """The first few names in a folder, in words."""
    names = [path.name for path in _entries(folder)]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more if names else "nothing"


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _is_its_archive(path: Path) -> bool:
    """Whether a file is the database still packed, by its name or by what is in a zip."""
    packed = path.suffix.lower() in (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz")
    if not packed or not path.is_file():
        return False
    if "covid" in path.name.lower() and "radiography" in path.name.lower():
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(FOLDER in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


# --- reading --------------------------------------------------------------------------------------


def read_database(place: Path, size: int) -> Films:
    """Every usable image of the folder, from the cache or decoded now.  Raises DataError."""
    files = list_images(place)
    own = sum(file.of_database for file in files) * 2 <= len(files)
    inputs = [(file.name, file.label, file.size, file.mtime) for file in files]
    key = {"size": size, "version": VERSION, "files": inputs}
    tensors, notes = cached("cxr", key, lambda: _decode_all(files, size))
    return Films(
        tensors["images"], tensors["labels"], tensors["splits"], json.loads(notes["left_out"]), own
    )


def _decode_all(files: list[ImageFile], size: int) -> tuple[Tensors, Notes]:
    """Decode on all cores -> tensors and notes for the cache. Raises DataError."""
    images = np.empty((len(files), size, size), np.uint8)
    digests: dict[int, str] = {}
    bad: dict[int, str] = {}
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    tell = progress("X-rays read, once", len(files))
    # Pillow lets go of Python's lock while it decodes and resizes
    with ThreadPoolExecutor(cores) as pool:
        for i, outcome in enumerate(pool.map(lambda file: _decode(file, size), files)):
            if isinstance(outcome, str):
                bad[i] = outcome
            else:
                images[i], digests[i] = outcome
            tell(i + 1)
    _judge(files, bad)
    good = list(digests)
    labels = torch.tensor([files[i].label for i in good])
    keys = patients([files[i].name for i in good], list(digests.values()))
    splits = assign_splits(keys, labels)
    left_out = [f"{files[i].name}: {reason}" for i, reason in bad.items()]
    pictures = torch.from_numpy(images[good])[:, None]
    tensors = {"images": pictures, "labels": labels, "splits": splits}
    return tensors, {"left_out": json.dumps(left_out)}


def _decode(file: ImageFile, size: int) -> tuple[np.ndarray, str] | str:
    """One image -> (uint8 (size, size), digest of its pixels), or why it cannot be used."""
    as_film = functools.partial(_film, least=size, of_database=file.of_database)
    outcome = read_image(file.path, size, as_film)
    if isinstance(outcome, str):
        return outcome
    small, grey = outcome
    return small, hashlib.blake2b(grey.tobytes(), digest_size=16).hexdigest()


def _film(image: Image.Image, *, least: int, of_database: bool) -> Image.Image:
    """An open image -> the film, 8-bit grey and square, or Unusable."""
    shape = f"{image.width}x{image.height} pixels"
    if of_database and image.size not in ITS_SIZES:
        hint = "; the database's masks have this size" if image.size == (256, 256) else ""
        raise Unusable(f"{shape} instead of {KAGGLE_SIZE}x{KAGGLE_SIZE}{hint}")
    if min(image.size) < least:
        raise Unusable(f"{shape}, fewer than the {least} asked for")
    grey = grey8(image)
    # a few are grey pictures saved so: channels that agree
    if not image.mode.startswith(("I", "L", "1")):
        channels = np.asarray(image.convert("RGB")).astype(np.int16)
        if (channels.max(2) - channels.min(2)).mean() > COLOUR:
            raise Unusable(f"in colour ({image.mode}); save it as grey if it is an X-ray at all")
    if grey.getcolors(2):
        raise Unusable("of one or two grey values, as a mask is")
    return grey if of_database else _square(grey)


def _square(grey: Image.Image) -> Image.Image:
    """The whole film in the middle of a black square."""
    side = max(grey.size)
    if grey.width == grey.height:
        return grey
    return ImageOps.pad(grey, (side, side), Image.Resampling.BILINEAR)


def _judge(files: list[ImageFile], bad: dict[int, str]) -> None:
    """Raise DataError when the unusable images are too many to be left out."""
    for number, name in enumerate(CXR_CLASSES):
        of_class = [i for i, file in enumerate(files) if file.label == number]
        if of_class and all(i in bad for i in of_class):
            first = of_class[0]
            raise DataError(
                f"{files[first].path}: {bad[first]}. Not one image of the class {name} can be "
                f"used. {_remedy(files[first])}"
            )
    if len(bad) > BAD_SHARE * len(files):
        first = next(iter(bad))
        raise DataError(
            f"{files[first].path}: {bad[first]}. {len(bad):,} of {len(files):,} images cannot be "
            f"used, too many to leave out. {_remedy(files[first])}, and the others like it"
        )


def _remedy(file: ImageFile) -> str:
    mended = "Copy it anew from the Kaggle archive" if file.of_database else "Mend it"
    return f"{mended}, or move it out of {file.path.parent}"


# --- the split ------------------------------------------------------------------------------------


def patients(names: Sequence[str], digests: Sequence[str]) -> list[str]:
    """Whose each image is -> a key for each: the patient in its name, and one for equal pixels.

    names "class folder/file.png"; the Kaggle names (COVID-12.png) tell of no patient, and then an
    image stands for itself and for its exact copies.
    """
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    own = [_patient(name) for name in names]
    for key, digest in zip(own, digests):
        # "~" sorts last: a name, not a digest, names the group
        a, b = sorted((find(key), find(f"~{digest}")))
        parent[b] = a
    return [find(key) for key in own]


def _patient(name: str) -> str:
    stem = Path(name).stem
    found = next((m for m in (pattern.search(stem) for pattern in PATIENT) if m), None)
    return f"patient {found[1].lower()}" if found else name


def assign_splits(keys: Sequence[str], labels: torch.Tensor) -> torch.Tensor:
    """60 % train, 20 % val, 20 % test of every class -> (N,) of 0, 1, 2; no key is divided.

    The order within a class is that of the keys' hashes, so it depends on neither the listing's
    order nor a random generator; the classes are merged in proportion, so the whole is cut at 60 %
    and 80 % to the image.
    """
    members: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        members.setdefault(key, []).append(i)
    ranks = {key: hashlib.sha256(key.encode()).hexdigest() for key in members}
    totals = torch.bincount(labels, minlength=1).tolist()
    seen, places = [0] * len(totals), []
    for key in sorted(members, key=ranks.__getitem__):
        label, n = int(labels[members[key][0]]), len(members[key])
        places.append(((seen[label] + n / 2) / totals[label], ranks[key], key))
        seen[label] += n
    splits, before = torch.empty(len(keys), dtype=torch.int64), 0
    for _, _, key in sorted(places):
        middle = (before + len(members[key]) / 2) / len(keys)
        splits[members[key]] = sum(middle >= share for share in SHARES)
        before += len(members[key])
    return splits
