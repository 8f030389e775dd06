"""MNIST and CIFAR-10 from the network: whole or not at all, and given up within seconds.

torchvision, which takes seconds to import, is imported where something is to be downloaded.
"""

import contextlib
import functools
import io
import os
import socket
import tempfile
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genmed_core import runtime
from genmed_core.collection import entries

STALL, PATIENCE = 4, 90  # seconds without an answer, and for a whole download, then it is given up
CIFAR_PATIENCE = 600  # 170 MB
Found = tuple[Path | None, str]  # the folder that holds the files, None without; and words
# temporary folders in use; removed when the process ends
_KEPT: list[tempfile.TemporaryDirectory] = []


def mnist(folder: Path) -> Found:
    """MNIST's four files, unpacked, in MNIST/raw of the data folder."""
    return _fetched(folder, "raw", folder / "MNIST" / "raw", _fetch_mnist)


def cifar(folder: Path) -> Found:
    """CIFAR-10's batches, in their own folder in the data folder."""
    from torchvision.datasets import CIFAR10

    return _fetched(folder, CIFAR10.base_folder, folder / CIFAR10.base_folder, _fetch_cifar)


def _fetched(*download: Any) -> Found:
    if runtime.setting("GENMED_OFFLINE"):
        return None, "GENMED_OFFLINE forbids the download"
    return _once(*download)


@functools.cache  # once per process: neither a failure nor a temporary copy is worth a second try
def _once(folder: Path, name: str, target: Path, fetch: Callable[[Path], None]) -> Found:
    """Fetch into a scratch folder inside `folder`, and move what `name` holds there to `target`.

    Where that cannot be written, the files stay in a temporary folder until the process ends.
    """
    scratch = _scratch(folder)
    fetched = Path(scratch.name) / name
    try:
        fetch(Path(scratch.name))
        entries(fetched)[0]  # it is there
    except Exception:  # whatever closed the way, the embedded drawings are the answer
        scratch.cleanup()
        return None, "the download failed"
    if _moved(fetched, target):
        scratch.cleanup()
        return target, "a fresh download"
    _KEPT.append(scratch)
    return fetched, f"a temporary download ({target} cannot take it)"


def _scratch(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    """A temporary folder inside `folder`, or elsewhere where that cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(
            dir=folder, prefix=".download-", ignore_cleanup_errors=True)
    except OSError:
        return tempfile.TemporaryDirectory(prefix="genmed-", ignore_cleanup_errors=True)


def _moved(source: Path, target: Path) -> bool:
    """Move files to `target`, beside what lies there -> whether all of them are there then."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            source.rename(target)
            return True
        new = entries(source)
        if any(os.path.isdir(target / path.name) for path in new):
            return False
        for path in new:
            if not os.path.lexists(target / path.name):
                path.rename(target / path.name)
    except OSError:
        return False
    return True


def _fetch_cifar(scratch: Path) -> None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    _within(STALL, _knock, CIFAR10.url)
    print("animals: downloading CIFAR-10, 170 MB, once", flush=True)
    _within(CIFAR_PATIENCE, download_and_extract_archive, CIFAR10.url, scratch, None,
            CIFAR10.filename, CIFAR10.tgz_md5, True)


def _fetch_mnist(scratch: Path) -> None:
    """From the first mirror that has the files. Raises OSError where none has."""
    from torchvision.datasets import MNIST

    for mirror in MNIST.mirrors:
        with contextlib.suppress(OSError, RuntimeError):
            _within(STALL, _knock, mirror + MNIST.resources[0][0])
            _within(PATIENCE, _fetch_from, mirror, scratch / "raw")
            return
    raise OSError("no mirror of MNIST answers")


def _knock(address: str) -> None:
    """See whether a server answers; torchvision would try every address and protocol in turn."""
    urllib.request.urlopen(address, timeout=STALL).close()


def _fetch_from(mirror: str, raw: Path) -> None:
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_and_extract_archive

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
