"""Collections of pictures in folders: listed, decoded on all cores, judged, and split.

What the X-ray database (`radiographs`) and anybody's own class folders (`own`) share. Each brings a
rule for what one picture may be; here it is said when too many cannot be used.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from genmed_core.cache import Notes, Tensors, cached, progress
from genmed_core.errors import DataError
from genmed_core.imagefiles import image_files

BAD_SHARE = 0.05  # more unusable images than this are no accident
SHARES = (0.6, 0.8)  # where train ends and where val ends
# how collections of films write a patient into a file name
PATIENT = [
    re.compile(r"^(\d{8})_\d{3}$"),  # NIH ChestX-ray: patient_follow-up
    # Kermany, CheXpert, BIMCV
    re.compile(r"(?:^|[^a-z])((?:person|patient|subject|sub)[-_ ]?\d*[a-z]?\d+)(?![a-z0-9])", re.I),
]
# one picture -> uint8 (size, size) or (size, size, 3) and a digest of its pixels, or why not
Decode = Callable[["ImageFile"], tuple[np.ndarray, str] | str]


@dataclass
class ImageFile:
    """A file of a collection, with what tells that it has changed."""

    path: Path
    name: str  # class folder/file
    label: int
    size: int
    mtime: int


@dataclass
class Decoded:
    """What a collection holds: images (N, C, size, size) uint8; labels and splits (N,).

    splits: 0 train, 1 val, 2 test; left_out: a line for each file that cannot be used.
    """

    images: torch.Tensor
    labels: torch.Tensor
    splits: torch.Tensor
    left_out: list[str]


# --- folders --------------------------------------------------------------------------------------


def stamped(path: Path, name: str, label: int) -> ImageFile:
    """A file as it is now."""
    try:
        stat = path.stat()
    except OSError:  # a link to nowhere: reading it will say so
        return ImageFile(path, name, label, 0, 0)
    return ImageFile(path, name, label, stat.st_size, stat.st_mtime_ns)


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted, hidden things apart; nothing for what is no folder."""
    if not os.path.isdir(folder):
        return []
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}). Make it readable") from error


def inside(folder: Path) -> str:
    """The first few names in a folder, in words."""
    names = [path.name for path in entries(folder)]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more if names else "nothing"


def classes_in(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each class folder, by its name: those in its images/, else its own."""
    found = {}
    for path in entries(folder):
        if os.path.isdir(path):
            images = path / "images"
            found[path.name] = image_files(images if images.is_dir() else path)
    return found


# --- reading --------------------------------------------------------------------------------------


def read_collection(
    what: str, stem: str, settings: dict[str, object], files: Sequence[ImageFile],
    decode: Decode, *, shape: tuple[int, ...], classes: Sequence[str],
    remedy: Callable[[ImageFile], str],
) -> Decoded:
    """Every usable picture of a collection, from the cache or decoded now.  Raises DataError.

    what: as progress calls them; stem and settings: what the cache knows the tensors by, beside the
    files; shape: of a decoded picture, (size, size) or (size, size, 3); remedy: what to do about a
    file that cannot be used, without a full stop.
    """
    key = {**settings, "files": [(file.name, file.label, file.size, file.mtime) for file in files]}

    def make() -> tuple[Tensors, Notes]:
        images, digests, bad = _decode_all(what, files, decode, shape)
        _judge(files, bad, classes, remedy)
        good = list(digests)
        labels = torch.tensor([files[i].label for i in good])
        keys = patients([files[i].name for i in good], list(digests.values()))
        pictures = images[good][:, None] if len(shape) == 2 else images[good].transpose(0, 3, 1, 2)
        left_out = [f"{files[i].name}: {reason}" for i, reason in bad.items()]
        tensors = {"images": torch.from_numpy(np.ascontiguousarray(pictures)), "labels": labels,
                   "splits": assign_splits(keys, labels)}
        return tensors, {"left_out": json.dumps(left_out)}

    tensors, notes = cached(stem, key, make)
    left_out = json.loads(notes["left_out"])
    return Decoded(tensors["images"], tensors["labels"], tensors["splits"], left_out)


def _decode_all(
    what: str, files: Sequence[ImageFile], decode: Decode, shape: tuple[int, ...]
) -> tuple[np.ndarray, dict[int, str], dict[int, str]]:
    """Decode on all cores -> uint8 (N, *shape); a digest of each good one; why others are bad."""
    images = np.empty((len(files), *shape), np.uint8)
    digests: dict[int, str] = {}
    bad: dict[int, str] = {}
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    tell = progress(f"{what} read, once", len(files))
    # Pillow lets go of Python's lock while it decodes and resizes
    with ThreadPoolExecutor(cores) as pool:
        for i, outcome in enumerate(pool.map(decode, files)):
            if isinstance(outcome, str):
                bad[i] = outcome
            else:
                images[i], digests[i] = outcome
            tell(i + 1)
    return images, digests, bad


def digest(pixels: np.ndarray | Image.Image) -> str:
    """What tells exact copies: a hash of all pixels of the file."""
    return hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()


def squared(image: Image.Image) -> Image.Image:
    """The whole picture in the middle of a black square."""
    side = max(image.size)
    if image.width == image.height:
        return image
    return ImageOps.pad(image, (side, side), Image.Resampling.BILINEAR)


def _judge(
    files: Sequence[ImageFile], bad: dict[int, str], classes: Sequence[str],
    remedy: Callable[[ImageFile], str],
) -> None:
    """Raise DataError when the unusable images are too many to be left out."""
    for number, name in enumerate(classes):
        of_class = [i for i, file in enumerate(files) if file.label == number]
        if of_class and all(i in bad for i in of_class):
            first = of_class[0]
            raise DataError(
                f"{files[first].path}: {bad[first]}. Not one image of the class {name} can be "
                f"used. {remedy(files[first])}"
            )
    if len(bad) > BAD_SHARE * len(files):
        first = next(iter(bad))
        raise DataError(
            f"{files[first].path}: {bad[first]}. {len(bad):,} of {len(files):,} images cannot be "
            f"used, too many to leave out. {remedy(files[first])}, and the others like it"
        )


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


def assign_splits(
    keys: Sequence[str], labels: torch.Tensor, shares: Sequence[float] = SHARES
) -> torch.Tensor:
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
        splits[members[key]] = sum(middle >= share for share in shares)
        before += len(members[key])
    return splits
