"""Folders of images, read grey and 64x64; sets that cannot be audited are named in a sentence."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from genmed_core.collection import classes_in
from genmed_core.errors import DataError
from genmed_core.imagefiles import Unusable, grey8, image_files, read_image

SIZE = 64
LEAST = 30          # different images in a set of real ones
BAD_SHARE = 0.05    # more files than this that cannot be read are no accident
SHORTEST, LONGEST = 8, 4  # a side in pixels; the longer side, in shorter ones
SETS = ("train", "held-out", "synthetic")


class AuditError(DataError):
    """Input that cannot be audited; the message names the file or folder and the remedy."""


class Folder(NamedTuple):
    """What `read_folder` found."""

    images: torch.Tensor  # (N, 1, SIZE, SIZE) uint8
    names: list[str]      # of the files, relative to the folder
    classes: list[str]    # empty where there are no class folders
    labels: torch.Tensor  # (N,) int64, or (0,)
    left_out: list[str]   # files that could not be read, with the reason
    changed: list[str] = []  # what was done to files to read them, in sentences

    def select(self, keep: list[int]) -> "Folder":
        """The same folder with some of its images."""
        labels = self.labels[keep] if self.classes else self.labels
        names = [self.names[i] for i in keep]
        return self._replace(images=self.images[keep], names=names, labels=labels)


def generator(seed: int, limit: int | None = None) -> np.random.Generator:
    """Random numbers for draws of at most `limit`. Raises AuditError where either is too small."""
    if limit is not None and limit < LEAST:
        raise AuditError(f"limit {limit}: give {LEAST} or more, for no set may have fewer images")
    if seed < 0:
        raise AuditError(f"seed {seed}: give a whole number, 0 or above")
    return np.random.default_rng(seed)


def read_folder(folder: Path | str, *, limit: int | None = None, seed: int = 0) -> Folder:
    """The images of a folder, or `limit` of them drawn at random. Raises AuditError."""
    folder, rng = Path(folder).expanduser(), generator(seed, limit)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise AuditError(f"{folder}: {found}; name a folder of images")
    files, classes = _list(folder)
    if limit is not None and len(files) > limit:
        drawn = rng.choice(len(files), limit, replace=False)
        files = [files[i] for i in sorted(drawn)]
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(_read, [path for path, _ in files]))
    names = [path.relative_to(folder).as_posix() for path, _ in files]
    good = [i for i, image in enumerate(read) if not isinstance(image, str)]
    left_out = [f"{name}: {why}" for name, why in zip(names, read) if isinstance(why, str)]
    _check_count(folder, len(good), left_out)
    pixels, sizes, modes = zip(*[read[i] for i in good])
    images = torch.from_numpy(np.stack(pixels))[:, None]
    labels = torch.tensor([files[i][1] for i in good if classes], dtype=torch.int64)
    names, how = [names[i] for i in good], _changed(sizes, modes)
    return Folder(images, names, classes, labels, left_out, how)


def _changed(sizes: Sequence[tuple[int, int]], modes: Sequence[str]) -> list[str]:
    """Sentences on how files of these sizes and Pillow modes became SIZE x SIZE grey levels."""
    some = f"of {len(sizes)} images"
    all_sizes = sorted(set(sizes), key=lambda size: size[0] * size[1])
    least, most = (f"{width}x{height}" for width, height in (all_sizes[0], all_sizes[-1]))
    small = sum(min(size) < SIZE for size in sizes)
    oblong = sum(max(size) > 1.05 * min(size) for size in sizes)
    deep = sum(mode.startswith("I") for mode in modes)
    said = []
    if least != most:
        said.append(f"{len(all_sizes)} sizes, from {least} to {most} pixels; "
                    f"compared at {SIZE}x{SIZE}")
    if small:
        said.append(f"{small} {some} have a side under {SIZE} pixels and were enlarged: what they "
                    "lack cannot be seen")
    if oblong:
        said.append(f"{oblong} {some} are not square and were squeezed")
    if deep:
        said.append(f"{deep} {some} have 16 bits, each scaled to 8 by its own range")
    return said


def _check_count(folder: Path, good: int, left_out: list[str]) -> None:
    files = good + len(left_out)
    if len(left_out) > BAD_SHARE * files:
        raise AuditError(f"{folder}/{left_out[0]}. {len(left_out)} of {files} files cannot be "
                         "used, too many to leave out: save them as PNG or JPEG again")
    if good < LEAST:
        raise AuditError(f"{folder}: {good} images are too few; at least {LEAST} are needed, and "
                         "some hundreds for intervals that tell anything")


def _list(folder: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """[(path, class number)] and the class names of a folder."""
    loose = image_files(folder)
    # a class of the database: its masks are no samples
    if not loose and (folder / "images").is_dir():
        return [(path, 0) for path in image_files(folder / "images")], []
    found = classes_in(folder)
    classes = [name for name, files in found.items() if files]
    if loose and classes:
        raise AuditError(f"{folder}: holds images ({loose[0].name}) beside folders of images "
                         f"({classes[0]}): put all into class folders, or none")
    if not loose and not classes:
        raise AuditError(f"{folder}: holds no PNG or JPEG image, nor class folders that do")
    if classes and len(classes) < len(found):
        empty = next(name for name, files in found.items() if not files)
        raise AuditError(f"{folder / empty}: holds no PNG or JPEG image; fill it, or move it away")
    files = [(path, 0) for path in loose]
    files += [(path, i) for i, name in enumerate(classes) for path in found[name]]
    return files, [name.replace("_", " ") for name in classes]


def _read(path: Path) -> tuple[np.ndarray, tuple[int, int], str] | str:
    """One image -> uint8 (SIZE, SIZE), its file's size and mode; or why it cannot be used."""
    mode = ""

    def as_grey(image: Image.Image) -> Image.Image:
        nonlocal mode
        mode = image.mode
        return _as_grey(image)

    outcome = read_image(path, SIZE, as_grey)
    return outcome if isinstance(outcome, str) else (outcome[0], outcome[1].size, mode)


def _as_grey(image: Image.Image) -> Image.Image:
    """An image of any mode and of a shape that 64x64 can show -> 8-bit grey, or Unusable."""
    short, long = sorted(image.size)
    if short < SHORTEST or long > LONGEST * short:
        raise Unusable(f"{image.width}x{image.height} pixels, too small or too long")
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise Unusable(f"animated, {frames} frames; save each as an image of its own")
    return grey8(image)


# --- sets that cannot be audited ------------------------------------------------------------------


def usable(
    train: Folder, held_out: Folder, synthetic: Folder, *, samples: bool = True
) -> tuple[list[Folder], list[str]]:
    """The three sets without real images that would mislead, and notes. Raises AuditError.

    samples: whether the third is looked at too.
    """
    for name, folder in zip(SETS, (train, held_out, synthetic)):
        images = folder.images
        if images.dtype != torch.uint8 or images.shape[1:] != (1, SIZE, SIZE):
            raise AuditError(f"{name}: images are {images.dtype} {tuple(images.shape)}; give uint8 "
                             f"grey levels (N, 1, {SIZE}, {SIZE})")
    train, notes, known = _different(train, "train", set())
    held_out, more, strangers = _different(held_out, "held-out", known)
    sets = [train, held_out, synthetic]
    notes = left_out(sets) + changed(sets) + notes + more
    if samples:
        notes += _check_samples(synthetic.images, strangers - known)
    if min(len(folder.images) for folder in sets) < 200:
        notes.append("fewer than 200 images in a set: the intervals are wide, little can pass")
    if (least := len(held_out.images)) < 999:
        notes.append(f"hits at few false alarms: {least} held-out images show none fewer than "
                     f"{1 / (least + 1):.1%}")
    return sets, notes


def left_out(sets: list[Folder]) -> list[str]:
    """Notes on files that could not be read."""
    return [f"{name}: {len(folder.left_out)} of the files left out, such as {folder.left_out[0]}"
            for name, folder in zip(SETS, sets) if folder.left_out]


def changed(sets: Sequence[Folder]) -> list[str]:
    """Notes on files that were not SIZE x SIZE and 8-bit grey, where that may mislead."""
    named = zip(SETS, sets)
    return [f"{name}: {sentence}" for name, folder in named for sentence in folder.changed]


def _check_samples(images: torch.Tensor, held_out: set[str]) -> list[str]:
    """Notes on samples that are not what they should be. Raises AuditError."""
    digests, n = _digests(images), len(images)
    if len(set(digests[~flat(images).numpy()])) < 2:
        raise AuditError(f"synthetic: no two of {n} images differ and show anything: the generator "
                         "has collapsed, or these are not its samples; nothing else can be said")
    known = sum(digest in held_out for digest in digests)
    if known > BAD_SHARE * n:
        raise AuditError(f"synthetic: {known} of {n} images are held-out images, pixel for pixel: "
                         "give samples, and held-out images that the generator never saw")
    notes = [f"synthetic: {known} images are held-out images, pixel for pixel"] if known else []
    different = len(set(digests))
    return notes + [f"synthetic: only {different} of {n} images differ"] * (different < n)


def _different(
    folder: Folder, name: str, known: set[str]
) -> tuple[Folder, list[str], set[str]]:
    """A real set, each image once and none of those known; notes on the others; all its digests."""
    keep: list[int] = []
    seen: set[str] = set()
    dropped: Counter[str] = Counter()
    for i, (digest, blank) in enumerate(zip(_digests(folder.images), flat(folder.images))):
        if blank:
            dropped["of one grey level"] += 1
        elif digest in known:
            dropped["also training images"] += 1
        elif digest in seen:
            dropped["copies of another in the set"] += 1
        else:
            keep.append(i)
        seen.add(digest)
    why = [f"{count} {reason}" for reason, count in dropped.items()]
    if len(keep) < LEAST:
        raise AuditError(f"{name}: {len(keep)} of {len(folder.images)} images are left without "
                         f"{' and '.join(why) or 'any dropped'}; at least {LEAST} are needed: give "
                         "real images, each once" + ", that the generator never saw" * bool(known))
    notes = [f"{name}: images dropped, {' and '.join(why)}"] if why else []
    return folder.select(keep), notes, seen


def flat(images: torch.Tensor) -> torch.Tensor:
    """Which images (N, 1, H, W) are of one grey level: bool (N,)."""
    pixels = images.flatten(1)
    return pixels.amin(1) == pixels.amax(1)


def _digests(images: torch.Tensor) -> np.ndarray:
    contents = (x.numpy().tobytes() for x in images)
    return np.array([hashlib.blake2b(c, digest_size=16).hexdigest() for c in contents])
