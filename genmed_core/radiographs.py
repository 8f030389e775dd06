"""The folder of the COVID-19 Radiography Database: files -> verified uint8 tensors, read once and then cached.

`data.cxr` is what chapters call. The folder is taken as Kaggle ships it, or any part of it:

    COVID-19_Radiography_Dataset/COVID/images/COVID-1.png       299x299, 8-bit grey
                                 COVID/masks/COVID-1.png        never read
                                 COVID.metadata.xlsx            never read
"""

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from genmed_core.cache import cached, progress
from genmed_core.errors import DataError
from genmed_core.imagefiles import Unusable, grey8, is_image, read_image

FOLDER = "COVID-19_Radiography_Dataset"
CXR_CLASSES = ("COVID", "Lung Opacity", "Normal", "Viral Pneumonia")  # alphabetical, as PyHealth numbers them
KAGGLE_SIZE = 299
COLOUR = 8  # levels by which a grey picture saved in colour, through JPEG perhaps, may differ between its channels
BAD_SHARE = 0.05  # more unusable images than this are no accident
SHARES = (0.6, 0.8)  # where train ends and where val ends
VERSION = 2  # of what the cache holds: raise it with any change below that changes the tensors
# how collections that this database was made from write a patient into a file name
PATIENT = [re.compile(p, re.I) for p in (
    r"^(\d{8})_\d{3}$",                                             # NIH ChestX-ray: patient_follow-up
    r"(?:^|[^a-z])((?:person|patient|subject|sub)[-_ ]?\d*[a-z]?\d+)(?![a-z0-9])",  # Kermany, CheXpert, BIMCV
)]


# --- the folder -----------------------------------------------------------------------------------------


def find_database(folder):
    """The folder that holds the class folders, in `folder` or `folder` itself -> Path, or None."""
    for place in (folder / FOLDER, folder / FOLDER / FOLDER, folder):  # unpacking may nest it
        if any(_class_folder(place, name) for name in CXR_CLASSES):
            return place
    if (folder / FOLDER).is_dir():
        raise DataError(f"{folder / FOLDER}: holds none of the class folders COVID, Lung_Opacity, Normal, "
                        f"Viral Pneumonia. {_again(folder / FOLDER)}")
    return None


def _class_folder(place, name):
    """The folder of a class, written with a space or an underscore -> Path, or None."""
    for spelling in (name.replace(" ", "_"), name):
        if (place / spelling).is_dir() and ((place / spelling / "images").is_dir() or place.name == FOLDER):
            return place / spelling
    return None


def list_images(place):
    """The images of every class that is there -> [(path, class number, bytes, mtime in ns)], sorted by name.

    Raises DataError for a class folder without images; a class without a folder is left out.
    """
    found = []
    for number, name in enumerate(CXR_CLASSES):
        folder = _class_folder(place, name)
        if folder is None:
            continue
        if not (folder / "images").is_dir():
            raise DataError(f"{folder}: has no folder images/ inside (the layout before 2021, or an unfinished "
                            f"copy). Move the X-rays into {folder / 'images'}, or {_again(folder, start='copy')}")
        with os.scandir(folder / "images") as entries:
            files = sorted((e.name, e.stat()) for e in entries if is_image(e.name) and e.is_file())
        if not files:
            raise DataError(f"{folder / 'images'}: holds no image. {_again(folder)} Without the folder {folder.name} "
                            "the other classes are read.")
        found += [(folder / "images" / file, number, s.st_size, s.st_mtime_ns) for file, s in files]
    return found


def _again(path, *, start="Copy"):
    return f"{start} it anew from the Kaggle archive, or delete {path}."


def read_database(place, size):
    """Every usable image of the folder, from the cache or decoded now.

    -> images (N, 1, size, size) uint8, labels (N,) int64, splits (N,) int64 with 0 train, 1 val, 2 test, and the
    list of images that were left out, each with the reason. Raises DataError.
    """
    listed = list_images(place)
    names = [f"{path.parent.parent.name}/{path.name}" for path, *_ in listed]
    inputs = [(name, number, *stamp) for name, (_, number, *stamp) in zip(names, listed)]
    tensors, notes = cached("cxr", {"size": size, "version": VERSION, "files": inputs},
                            lambda: _decode_all(listed, names, size))
    return tensors["images"], tensors["labels"], tensors["splits"], json.loads(notes["left_out"])


def _decode_all(listed, names, size):
    """Decode on all cores -> tensors and notes for the cache. Raises DataError where too much is unusable."""
    images, digests, bad = np.empty((len(listed), size, size), np.uint8), {}, {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    tell = progress("X-rays read, once", len(listed))
    with ThreadPoolExecutor(cores) as pool:  # Pillow lets go of Python's lock while it decodes and resizes
        for i, outcome in enumerate(pool.map(lambda item: _decode(item[0], size), listed)):
            if isinstance(outcome, str):
                bad[i] = outcome
            else:
                images[i], digests[i] = outcome
            tell(i + 1)
    _judge(listed, bad)
    good = list(digests)
    labels = torch.tensor([listed[i][1] for i in good])
    splits = assign_splits(patients([names[i] for i in good], [digests[i] for i in good]), labels)
    left_out = [f"{names[i]}: {reason}" for i, reason in bad.items()]
    tensors = {"images": torch.from_numpy(images[good])[:, None], "labels": labels, "splits": splits}
    return tensors, {"left_out": json.dumps(left_out)}


def _decode(path, size):
    """One image of the database -> (uint8 (size, size), digest of its pixels), or why it cannot be used."""
    outcome = read_image(path, size, _as_grey)
    if isinstance(outcome, str):
        return outcome
    small, grey = outcome
    return small, hashlib.blake2b(grey.tobytes(), digest_size=16).hexdigest()


def _as_grey(image):
    """A database image -> 8-bit grey and decoded, or Unusable."""
    if image.size != (KAGGLE_SIZE, KAGGLE_SIZE):
        hint = "; the database's masks have this size" if image.size == (256, 256) else ""
        raise Unusable(f"{image.width}x{image.height} pixels instead of {KAGGLE_SIZE}x{KAGGLE_SIZE}{hint}")
    image.load()
    if image.mode == "L" or image.mode.startswith("I"):
        return grey8(image)
    if image.mode == "RGB":  # a few are grey pictures saved so: three channels that agree
        channels = np.asarray(image).astype(np.int16)
        if (channels.max(2) - channels.min(2)).mean() <= COLOUR:
            return image.convert("L")
        raise Unusable("in colour (RGB); save it as 8-bit grey if it is an X-ray at all")
    kind = "with an alpha channel" if image.mode in ("LA", "RGBA", "PA") else f"of mode {image.mode}"
    raise Unusable(f"{kind} instead of plain grey; save it as 8-bit grey without transparency")


def _judge(listed, bad):
    """Raise DataError when the unusable images are too many to be left out."""
    if not bad:
        return
    i, reason = next(iter(bad.items()))
    for number, name in enumerate(CXR_CLASSES):
        of_class = [j for j, item in enumerate(listed) if item[1] == number]
        if of_class and all(j in bad for j in of_class):
            i = of_class[0]
            raise DataError(f"{listed[i][0]}: {bad[i]}. Not one image of the class {name} can be used. "
                            f"{_again(listed[i][0].parent.parent)}")
    if len(bad) > BAD_SHARE * len(listed):
        raise DataError(f"{listed[i][0]}: {reason}. {len(bad):,} of {len(listed):,} images cannot be used, too many "
                        f"to leave out. {_again(listed[i][0])} and the others like it")


# --- the split ------------------------------------------------------------------------------------------


def patients(names, digests):
    """Whose each image is -> a key for each: the patient where the file name tells, and one for equal pixels.

    names "class folder/file.png"; the Kaggle names (COVID-12.png) tell of no patient, and then an image stands for
    itself and for its exact copies.
    """
    parent = {}

    def find(key):
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    own = [_patient(name) for name in names]
    for key, digest in zip(own, digests):
        a, b = sorted((find(key), find(f"~{digest}")))  # "~" sorts last: a name, not a digest, names the group
        parent[b] = a
    return [find(key) for key in own]


def _patient(name):
    stem = Path(name).stem
    found = next((m for m in (pattern.search(stem) for pattern in PATIENT) if m), None)
    return f"patient {found[1].lower()}" if found else name


def assign_splits(keys, labels):
    """60 % train, 20 % val, 20 % test of every class -> (N,) int64 of 0, 1, 2; a key is never divided.

    The order within a class is that of the keys' hashes, so it depends on neither the listing's order nor a random
    generator; the classes are merged in proportion, so the whole is cut at 60 % and 80 % to the image.
    """
    members = {}
    for i, key in enumerate(keys):
        members.setdefault(key, []).append(i)
    ranks = {key: hashlib.sha256(key.encode()).hexdigest() for key in members}
    totals = torch.bincount(labels, minlength=1).tolist()
    seen, places = [0] * len(totals), []
    for key in sorted(members, key=ranks.get):
        label, n = int(labels[members[key][0]]), len(members[key])
        places.append(((seen[label] + n / 2) / totals[label], ranks[key], key))
        seen[label] += n
    splits, before = torch.empty(len(keys), dtype=torch.int64), 0
    for _, _, key in sorted(places):
        middle = (before + len(members[key]) / 2) / len(keys)
        splits[members[key]] = sum(middle >= share for share in SHARES)
        before += len(members[key])
    return splits
