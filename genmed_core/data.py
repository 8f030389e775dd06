"""Data sets as verified uint8 images: real files where they are, embedded drawings where they are not.

Environment variables read here: GENMED_DATA, GENMED_DATA_SOURCE, GENMED_OFFLINE (see data/README.md).
"""

import contextlib
import functools
import gzip
import hashlib
import io
import math
import os
import socket
import struct
import tempfile
import threading
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import MNIST
from torchvision.datasets.utils import download_and_extract_archive

from genmed_core.cache import cached, progress
from genmed_core.errors import DataError
from genmed_core.radiographs import CXR_CLASSES, FOLDER, KAGGLE_SIZE, find_database, read_database
from genmed_core.runtime import root
from genmed_core.synthetic.strokes import stroke_digits

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
# how files that turn up in MNIST's place begin, in lower case
FOREIGN = {
    b"<": "a web page",
    b"\x89png": "a PNG image",
    b"\xff\xd8": "a JPEG image",
    b"\x1f\x8b": "a gzip file without .gz in its name",
    b"pk\x03\x04": "a zip archive",
}
# split -> (phantoms, seed), in the proportions of the database's splits
PHANTOM_SPLITS = {"train": (2_400, 201), "val": (800, 202), "test": (800, 203)}
STALL, PATIENCE = 4, 90  # seconds without an answer, and for a whole download, after which it is given up


@dataclass(eq=False, repr=False)
class ImageSet:
    """Images with their labels: images (N, 1, H, W) uint8, labels (N,) int64, one class name per label.

    `source` says where they come from ("mnist", "strokes", "database", "phantom"); `factors` {name: (N,)} holds
    what shaped each image where that is known, that is for embedded data. Raises ValueError when parts do not fit.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple
    source: str
    factors: dict | None = None

    def __post_init__(self):
        n = len(self.images)
        if self.images.dtype != torch.uint8 or self.images.dim() != 4 or self.images.shape[1] != 1:
            raise ValueError(f"images must be uint8 (N, 1, H, W), not {_kind(self.images)}")
        if self.labels.dtype != torch.int64 or self.labels.shape != (n,):
            raise ValueError(f"labels must be int64 ({n},), one per image, not {_kind(self.labels)}")
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise ValueError(f"labels must lie in 0..{len(self.classes) - 1}, one of {self.classes}")
        for name, column in (self.factors or {}).items():
            if column.shape != (n,):
                raise ValueError(f"factor {name!r} must have shape ({n},), not {tuple(column.shape)}")

    def __len__(self):
        return len(self.images)

    def __repr__(self):
        n, _, height, width = self.images.shape
        return f"ImageSet({n:,} images {height}x{width}, {len(self.classes)} classes, source={self.source!r})"

    def subset(self, index):
        """The images at `index` (anything that indexes a tensor's first axis), with labels and factors."""
        factors = self.factors and {name: column[index] for name, column in self.factors.items()}
        return ImageSet(self.images[index], self.labels[index], self.classes, self.source, factors)


def class_counts(*sets):
    """Images of each class in all the sets together -> {class name: count}, the largest first.

    class_counts(train, val, test) of the whole chest X-ray database are the figures that the book prints.
    """
    totals = sum(torch.bincount(data.labels.cpu(), minlength=len(data.classes)) for data in sets).tolist()
    return dict(sorted(zip(sets[0].classes, totals), key=lambda item: -item[1]))


def _kind(tensor):
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def digits(split="train", source="auto"):
    """Handwritten digits, 28x28 -> ImageSet; prints one line that says which.

    split "train", "val" or "test": of MNIST 55,000, 5,000 (taken from the training files by a fixed seed)
    and the 10,000 test images; of the embedded stroke drawings 20,000, 2,500 and 5,000.
    source "mnist", "embedded", or "auto": MNIST's files under $GENMED_DATA (default data/), else a download,
    else the embedded drawings. GENMED_DATA_SOURCE=embedded makes "auto" mean "embedded".

    Raises DataError for files that are there but damaged, and when "mnist" is asked for and cannot be had;
    ValueError for an unknown split or source.
    """
    _one_of("split", split, SPLITS)
    _one_of("source", source, ("auto", "mnist", "embedded"))
    if source == "auto":
        source = _forced_source() or source
    if source == "embedded":
        return _stroke_digits(split, "as asked")
    folder = _data_folder()
    raw, where = _mnist_folder(folder)
    if raw is None and source == "mnist":
        raise DataError(f"{folder / 'MNIST' / 'raw'}: MNIST is not there ({where}). {_remedy()}")
    if raw is None:
        return _stroke_digits(split, f"{where}; for MNIST see data/README.md")
    data = _read_mnist(raw, split)
    print(f"digits {split}: {len(data):,} MNIST images from {where}")
    return data


def cxr(split="train", source="auto", size=64):
    """Frontal chest X-rays, size x size, of four classes -> ImageSet; prints one line that says which.

    split "train", "val" or "test": 60, 20 and 20 % of the database, a patient never in two of them where file
    names tell (Kaggle's do not) and exact copies kept together; of the embedded phantoms 2,400, 800 and 800.
    source "database", "embedded", or "auto": the COVID-19 Radiography Database, or a part of it, under $GENMED_DATA
    (default data/), else the embedded phantoms. GENMED_DATA_SOURCE=embedded makes "auto" mean "embedded".
    The labels are those of all four classes even where the folder holds fewer. The first call for a size reads every
    file and keeps the tensors in runs/cache; a few unusable images are left out and counted.

    Raises DataError for a folder that is there but damaged, and when "database" is asked for and is not there;
    ValueError for an unknown split, source or size.
    """
    _one_of("split", split, SPLITS)
    _one_of("source", source, ("auto", "database", "embedded"))
    if type(size) is not int or not 16 <= size <= KAGGLE_SIZE:
        raise ValueError(f"size {size!r} is not possible; choose a whole number of pixels from 16 to {KAGGLE_SIZE}")
    if source != "embedded" and _public():
        if source == "database":
            raise DataError("GENMED_PUBLIC is set: these outputs are to be published, and films of patients must not "
                            "be. Unset it, or GENMED_PUBLIC=0, where nobody but you will see them.")
        return _phantoms(split, size, "these outputs are to be published")
    if source == "auto":
        source = _forced_source() or source
    if source == "embedded":
        return _phantoms(split, size, "as asked")
    folder = _data_folder()
    place = find_database(folder)
    if place is None and source == "database":
        raise DataError(f"{folder / FOLDER}: the COVID-19 Radiography Database is not there. Download it from Kaggle "
                        f"and put its folder into {folder} (see data/README.md). source='embedded' needs no files.")
    if place is None:
        where = "$GENMED_DATA" if os.environ.get("GENMED_DATA") else "data/"
        return _phantoms(split, size, f"no {FOLDER} in {where}; how to get it: data/README.md")
    images, labels, splits, left_out = read_database(place, size)
    mine = splits == SPLITS.index(split)
    notes = "".join(f"; no {name}" for i, name in enumerate(CXR_CLASSES) if not (labels == i).any())
    if left_out:
        notes += f"; {len(left_out)} of {len(labels) + len(left_out):,} files left out, such as {left_out[0]}"
    shown = place.relative_to(folder).as_posix()
    shown = ("$GENMED_DATA" if os.environ.get("GENMED_DATA") else "data") + (f"/{shown}" if shown != "." else "")
    print(f"cxr {split}: {int(mine.sum()):,} X-rays of the COVID-19 Radiography Database from {shown}{notes}")
    return ImageSet(images[mine], labels[mine], CXR_CLASSES, "database")


# --- which source ---------------------------------------------------------------------------------------


def _one_of(what, value, choices):
    if value not in choices:
        raise ValueError(f"{what} {value!r} is not known; choose one of {', '.join(map(repr, choices))}")


def _forced_source():
    """What GENMED_DATA_SOURCE makes of "auto": "embedded" or None."""
    forced = os.environ.get("GENMED_DATA_SOURCE", "auto") or "auto"
    if forced not in ("auto", "embedded"):
        raise DataError(f"GENMED_DATA_SOURCE={forced!r} is not known: set it to 'embedded', or unset it.")
    return None if forced == "auto" else forced


def _offline():
    return _is_set("GENMED_OFFLINE")


def _public():
    """Whether what is printed and drawn will be published: set where notebooks are stored and the book is built."""
    return _is_set("GENMED_PUBLIC")


def _is_set(name):
    return os.environ.get(name, "0").lower() not in ("", "0", "false", "no")


def _data_folder():
    """$GENMED_DATA, which must exist, or data/ beside the chapters."""
    named = os.environ.get("GENMED_DATA")
    if not named:
        return root() / "data"
    folder = Path(named).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"GENMED_DATA={named}: {what}. Name the folder that holds the data sets, or unset GENMED_DATA."
        )
    return folder


def _remedy():
    return (
        f"Put the four files {', '.join(MNIST_MD5)} (or their .gz) into MNIST/raw of the folder that "
        "GENMED_DATA names, or allow the download (network on, GENMED_OFFLINE unset). "
        "source='embedded' needs no files."
    )


def _stroke_digits(split, why):
    n, seed = STROKE_SPLITS[split]
    images, labels, factors = stroke_digits(n, seed=seed)
    print(f"digits {split}: {n:,} embedded stroke drawings ({why})")
    return ImageSet(images[:, None], labels, DIGITS, "strokes", factors)


def _phantoms(split, size, why):
    from genmed_core.synthetic import _common, phantom  # here: digits should not wait for it

    n, seed = PHANTOM_SPLITS[split]

    def draw():
        print(f"cxr {split}: drawing {n:,} phantoms, once", flush=True)
        tell = progress(f"cxr {split}: phantoms drawn", n)
        images, labels, factors = phantom.cxr_phantom(n, size=size, seed=seed, tell=tell)
        labels = torch.tensor([CXR_CLASSES.index(name) for name in phantom.CLASSES])[labels]  # it has its own order
        columns = {f"factor {name}": column for name, column in factors.items()}
        return {"images": images.reshape(n, 1, size, size), "labels": labels} | columns, {"names": "|".join(factors)}

    recipe = hashlib.sha256(b"".join(Path(module.__file__).read_bytes() for module in (phantom, _common))).hexdigest()
    tensors, notes = cached("phantom", [n, size, seed, CXR_CLASSES, recipe], draw)
    print(f"cxr {split}: {n:,} embedded phantoms ({why})")
    factors = {name: tensors[f"factor {name}"] for name in notes["names"].split("|")}
    return ImageSet(tensors["images"], tensors["labels"], CXR_CLASSES, "phantom", factors)


# --- MNIST ----------------------------------------------------------------------------------------------


def _mnist_folder(folder):
    """The folder that holds MNIST's files and a name for it to print; or None and why there is none."""
    raw = folder / "MNIST" / "raw"
    if any(_mnist_file(raw, name).exists() for name in MNIST_MD5):
        return raw, ("$GENMED_DATA" if os.environ.get("GENMED_DATA") else "data") + "/MNIST/raw"
    if _offline():
        return None, "no MNIST files, and GENMED_OFFLINE forbids the download"
    return _download_mnist(folder)


def _mnist_file(raw, name):
    """Path of one of MNIST's files: unpacked, or packed as it is shipped."""
    packed = raw / f"{name}.gz"
    return packed if packed.exists() and not (raw / name).exists() else raw / name


def _read_mnist(raw, split):
    """Read and verify one split from the folder `raw` -> ImageSet."""
    for name in MNIST_MD5:
        if not _mnist_file(raw, name).is_file():
            raise DataError(f"{raw / name}: missing, unlike others of MNIST's four files. {_again(raw)}")
    part = "t10k" if split == "test" else "train"
    names = [f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"]
    paths = [_mnist_file(raw, name) for name in names]
    contents = [_read_bytes(path) for path in paths]
    images = _parse_idx(contents[0], paths[0], dims=3)
    labels = _parse_idx(contents[1], paths[1], dims=1)
    if len(images) != len(labels):
        raise DataError(f"{paths[1]}: {len(labels):,} labels for {len(images):,} images. {_again(raw)}")
    for content, path, name in zip(contents, paths, names, strict=True):
        if hashlib.md5(content).hexdigest() != MNIST_MD5[name]:
            raise DataError(f"{path}: its checksum is not MNIST's: changed or damaged. {_again(raw)}")
    data = ImageSet(images[:, None], labels.long(), DIGITS, "mnist")
    return data if split == "test" else data.subset(_train_or_val(len(data), split))


def _train_or_val(n, split):
    """Sorted rows of MNIST's n training images that make up a split."""
    order = np.random.RandomState(MNIST_SEED).permutation(n)  # the one generator that numpy froze for good
    rows = order[:MNIST_VAL] if split == "val" else order[MNIST_VAL:]
    return torch.from_numpy(np.sort(rows))


def _read_bytes(path):
    """Contents of a file, unpacked if it is a .gz -> bytearray."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            return bytearray(file.read())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: truncated, or not a gzip file ({error}). {_again(path.parent)}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Make it readable.") from error


def _parse_idx(content, path, dims):
    """Contents of an idx file of unsigned bytes with `dims` axes -> uint8 tensor.

    torchvision's reader asserts, without a message, and cannot read what it has not unpacked to disk.
    """
    start = 4 * (dims + 1)
    magic, shape = bytes(content[:4]), struct.unpack(f">{dims}I", content[4:start].ljust(4 * dims, b"\0"))
    if magic[:3] != b"\0\0\x08":
        raise DataError(f"{path}: {_looks_like(content)}, not an idx file of MNIST. {_again(path.parent)}")
    promised = start + math.prod(shape)
    if magic[3] != dims or (dims == 3 and shape[1:] != (28, 28) and len(content) >= start):
        wanted = "28x28 images" if dims == 3 else "labels"
        raise DataError(f"{path}: an idx file, but not of {wanted} (files swapped?). {_again(path.parent)}")
    if len(content) != promised:
        raise DataError(
            f"{path}: {len(content):,} bytes where its header promises {promised:,}: "
            f"truncated, perhaps by an interrupted download or copy. {_again(path.parent)}"
        )
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).view(shape)


def _looks_like(content):
    """What a file that is not ours seems to be, in words."""
    head = bytes(content[:64]).lstrip().lower()
    if not head:
        return "an empty file"
    return next((name for mark, name in FOREIGN.items() if head.startswith(mark)), "a foreign file")


def _again(raw):
    return f"Copy it anew, or delete the folder {raw} so that it is downloaded again."


# --- download -------------------------------------------------------------------------------------------


@functools.cache  # once per process: neither a failure nor a temporary copy is worth a second try
def _download_mnist(folder):
    """Fetch MNIST's files into folder/MNIST/raw, whole or not at all; results as of `_mnist_folder`.

    Where the folder cannot be written, the files stay in a temporary one until the process ends.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".download-", ignore_cleanup_errors=True)
    except OSError:
        scratch = tempfile.TemporaryDirectory(prefix="genmed-", ignore_cleanup_errors=True)
    try:
        _fetch_mnist(Path(scratch.name) / "raw")
    except Exception:  # whatever closed the way, the embedded drawings are the answer
        scratch.cleanup()
        return None, "no MNIST files, and the download failed"
    target = folder / "MNIST" / "raw"
    if _move(Path(scratch.name) / "raw", target):
        scratch.cleanup()
        return target, "a fresh download"
    _KEPT.append(scratch)
    return Path(scratch.name) / "raw", f"a temporary download ({folder.name}/ cannot be written)"


_KEPT = []  # temporary folders in use; removed when the process ends


def _move(source, target):
    """Move a whole folder to `target` in one step; False where that cannot be done."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            target.rmdir()  # if it is empty
        source.rename(target)
    except OSError:
        return False
    return True


def _fetch_mnist(raw):
    """Download MNIST's files, unpacked, into `raw` from the first mirror that has them, or raise OSError."""
    for mirror in MNIST.mirrors:
        with contextlib.suppress(OSError, RuntimeError):
            _within(STALL, _knock, mirror)
            _within(PATIENCE, _fetch_from, mirror, raw)
            return
    raise OSError("no mirror of MNIST answers")


def _knock(mirror):
    """See whether a mirror answers at all; torchvision would try every address and protocol in turn."""
    urllib.request.urlopen(mirror + MNIST.resources[0][0], timeout=STALL).close()


def _fetch_from(mirror, raw):
    for name, md5 in MNIST.resources:
        download_and_extract_archive(mirror + name, raw, md5=md5, remove_finished=True)


def _within(seconds, work, *args):
    """Run work(*args) in a thread and wait at most so long: a name look-up knows no timeout of its own."""
    outcome = []

    def run():
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
