"""MNIST and CIFAR-10: found in the data folder or downloaded, read and verified.

torchvision, which takes seconds to import, is imported where CIFAR-10 is read.
"""

import gzip
import hashlib
import os
import pickle
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from genmed_core import downloads
from genmed_core.collection import entries
from genmed_core.errors import Absent, DataError
from genmed_core.idx import parse_idx, read_bytes
from genmed_core.places import data_folder, shown

Files = dict[str, Path]  # MNIST's, by name
Read = tuple[torch.Tensor, torch.Tensor, str]  # images (N, C, H, W) uint8, labels (N,), from where
MNIST_VAL, MNIST_SEED = 5_000, 0  # how many of the 60,000 training images are set aside, and how
# MD5 of the unpacked files
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
CIFAR_NUMBERS = {"bird": 2, "cat": 3}  # among CIFAR-10's ten classes
CIFAR_VAL = 1_000  # how many of its 10,000 training images are set aside
ABSENT = ("or allow the download (network on, GENMED_OFFLINE unset). source='embedded' needs no "
          "files.")


def mnist(split: str) -> Read:
    """A split of MNIST. Raises Absent where there are no files, DataError for damaged ones."""
    folder = data_folder()
    files, where = _find_mnist(folder)
    return *_read_mnist(files, split), where


def cifar(split: str) -> Read:
    """The birds (0) and cats (1) of a split of CIFAR-10. Raises as `mnist` does."""
    place, where = _find_cifar(data_folder())
    return *_read_cifar(place, split), where


def _part(images: torch.Tensor, labels: torch.Tensor, split: str,
          aside: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The images of a split; "val" is set `aside` from those for training, in their order."""
    if split == "test":
        return images, labels
    # the generator that numpy froze for good
    order = np.random.RandomState(MNIST_SEED).permutation(len(images))
    chosen = torch.from_numpy(np.sort(order[:aside] if split == "val" else order[aside:]))
    return images[chosen], labels[chosen]


def _again(path: Path) -> str:
    return f"Copy it anew, or move it out of {path.parent}, and it is downloaded again."


# --- MNIST ----------------------------------------------------------------------------------------


def _find_mnist(folder: Path) -> tuple[Files, str]:
    """Paths of MNIST's four files and a name for where they lie; raises Absent where none is."""
    found = [(place, _mnist_files(place)) for place in _mnist_places(folder)]
    place, files = max(found, key=lambda item: len(item[1]))  # the first of the fullest
    if len(files) == len(MNIST_MD5):
        return files, shown(folder, place)
    raw, where = downloads.mnist(folder)
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
                 f"GENMED_DATA names, {ABSENT}")


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


def _read_mnist(files: Files, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Read and verify one split from the paths of the files."""
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
    return _part(images[:, None], labels.long(), split, MNIST_VAL)


# --- CIFAR-10 -------------------------------------------------------------------------------------


def _find_cifar(folder: Path) -> tuple[Path, str]:
    """Where CIFAR-10's batches lie, a folder or the archive, and its name; raises Absent."""
    from torchvision.datasets import CIFAR10

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
    fetched, where = downloads.cifar(folder)
    if fetched is not None:
        return fetched, where
    raise Absent(f"no CIFAR-10 files, and {where}; for CIFAR-10 see data/README.md",
                 f"{folder / CIFAR10.base_folder}: CIFAR-10 is not there ({where}). Put the "
                 f"archive {CIFAR10.filename}, or the folder in it, into the folder that "
                 f"GENMED_DATA names, {ABSENT}")


def _read_cifar(place: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Read and verify the birds and cats of one split."""
    from torchvision.datasets import CIFAR10

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
    return _part(x[rows], y, split, CIFAR_VAL)


def _cifar_contents(place: Path, names: Sequence[str]) -> list[bytes]:
    """Contents of CIFAR-10's batches of these names, from their folder or from the archive."""
    from torchvision.datasets import CIFAR10

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
