"""The COVID-19 Radiography Database, or films of one's own: files -> verified uint8 tensors.

`data.cxr` is what chapters call. The database is taken as Kaggle ships it, in its older forms, or
any part of it:

    COVID-19_Radiography_Dataset/COVID/images/COVID-1.png       299x299, grey
                                 COVID/masks/COVID-1.png        never read
                                 COVID.metadata.xlsx            never read

Films of one's own stand in the same class folders, in any size and under any other names.
"""

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from genmed_core.collection import (
    Decoded,
    ImageFile,
    digest,
    entries,
    inside,
    read_collection,
    squared,
    stamped,
)
from genmed_core.errors import DataError
from genmed_core.imagefiles import Unusable, grey8, image_files, in_colour, read_image

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
VERSION = 2  # of what the cache holds: raise it with any change that changes the tensors


@dataclass
class Films(Decoded):
    """What a folder of X-rays holds.

    own: whether most files have other names than the database's, and so are the reader's own.
    """

    own: bool


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
            f"{inside(named[0])}. Copy the class folders of the Kaggle archive into it"
        )
    packed = next((path for path in entries(folder) if _is_its_archive(path)), None)
    if packed:
        raise DataError(f"{packed}: the database is still packed. Unpack it into {folder}")
    return None


def _named_as_database(folder: Path, depth: int = 3) -> list[Path]:
    """Folders below with the database's names, also in each other or in Kaggle's archive/."""
    found: list[Path] = []
    for path in entries(folder) if depth else []:
        name = _letters(path.name)
        if os.path.isdir(path) and (DATABASE_NAMES.fullmatch(name) or name == "archive"):
            inner = _named_as_database(path, depth - 1)
            found += inner + [path] * (name != "archive" or bool(class_folders(path)))
    return sorted(found, key=lambda place: not class_folders(place))


def class_folders(place: Path) -> list[tuple[Path, int]]:
    """The folders of classes in `place`, in any spelling of the database, each with its number."""
    names = [(path, _letters(path.name)) for path in entries(place) if os.path.isdir(path)]
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
                f"{inner}: holds no image. It holds {inside(inner)}. Copy the X-rays into it; or "
                f"move the folder {folder.name} elsewhere, and the other classes are read"
            )
        found += [stamped(path, f"{folder.name}/{path.name}", number) for path in paths]
    return found


def _images_in(class_folder: Path) -> Path:
    """Where the images of a class are: its folder images/, else itself."""
    named = [path for path in entries(class_folder) if _letters(path.name) == "images"]
    places = [*filter(os.path.isdir, named), class_folder]
    return next((place for place in places if image_files(place)), places[0])


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
    own = sum(map(_of_database, files)) * 2 <= len(files)
    found = read_collection(
        "X-rays", "cxr", {"size": size, "version": VERSION}, files,
        lambda file: _decode(file, size), shape=(size, size), classes=CXR_CLASSES, remedy=_remedy)
    return Films(**vars(found), own=own)


def _of_database(file: ImageFile) -> bool:
    """Whether a file is named as the database's are."""
    return bool(ITS_FILES.fullmatch(file.path.stem))


def _decode(file: ImageFile, size: int) -> tuple[np.ndarray, str] | str:
    """One image -> (uint8 (size, size), digest of its pixels), or why it cannot be used."""
    of_database = _of_database(file)
    outcome = read_image(file.path, size, lambda image: _film(image, size, of_database))
    return outcome if isinstance(outcome, str) else (outcome[0], digest(outcome[1]))


def _film(image: Image.Image, least: int, of_database: bool) -> Image.Image:
    """An open image -> the film, 8-bit grey and square, or Unusable."""
    shape = f"{image.width}x{image.height} pixels"
    if of_database and image.size not in ITS_SIZES:
        hint = "; the database's masks have this size" if image.size == (256, 256) else ""
        raise Unusable(f"{shape} instead of {KAGGLE_SIZE}x{KAGGLE_SIZE}{hint}")
    if min(image.size) < least:
        raise Unusable(f"{shape}, fewer than the {least} asked for")
    grey = grey8(image)
    if in_colour(image):
        raise Unusable(f"in colour ({image.mode}); save it as grey if it is an X-ray at all")
    if grey.getcolors(2):
        raise Unusable("of one or two grey values, as a mask is")
    return grey if of_database else squared(grey)


def _remedy(file: ImageFile) -> str:
    mended = "Copy it anew from the Kaggle archive" if _of_database(file) else "Mend it"
    return f"{mended}, or move it out of {file.path.parent}"
