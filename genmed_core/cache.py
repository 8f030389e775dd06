"""What takes long is made once: tensors kept in runs/cache, and plain lines of progress."""

import hashlib
import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import torch

from genmed_core import runtime
from genmed_core.errors import first_line

Tensors = dict[str, torch.Tensor]
Notes = dict[str, str]
# the newest result that could not be written: splits share it
_KEPT: dict[Path, tuple[Tensors, Notes]] = {}


def progress(what: str, total: int) -> Callable[[int], None]:
    """-> tell(done), which prints "what: done of total" once its last line is five seconds old."""
    told = time.monotonic()

    def tell(done: int) -> None:
        nonlocal told
        # plain lines: they look the same in a terminal, Jupyter and the book
        if time.monotonic() - told > 5:
            print(f"{what}: {done:,} of {total:,}", flush=True)
            told = time.monotonic()

    return tell


def cached(
    stem: str, inputs: object, make: Callable[[], tuple[Tensors, Notes]]
) -> tuple[Tensors, Notes]:
    """What make() gives, from runs/cache when it was made from the same `inputs` before.

    inputs: anything JSON can write; notes {str: str}. A damaged file is made anew; where nothing
    can be written the result is kept in memory and a line says so.
    """
    key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:20]
    path = runtime.runs_dir() / "cache" / f"{stem}-{key}.safetensors"
    if path in _KEPT:
        return _KEPT[path]
    found = _load(path) if path.exists() else None
    if found is None:
        found = make()
        _save(path, *found)
    return found


def _load(path: Path) -> tuple[Tensors, Notes] | None:
    """Tensors and notes of a file in the cache, or None and a line where it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            notes = dict(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        if notes.pop("sum") != _checksum(tensors):
            raise ValueError("its checksum does not match")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        print(f"note: {path.name} in the cache is damaged ({first_line(error)}) and is made anew.")
        return None
    return tensors, notes


def _save(path: Path, tensors: Tensors, notes: Notes) -> None:
    """Write a result into the cache, or keep it in memory and say so."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        with runtime.whole_file(path) as part:
            save_file(whole, part, metadata=notes | {"sum": _checksum(tensors)})
    except (OSError, SafetensorError) as error:
        _KEPT.clear()
        _KEPT[path] = tensors, notes
        reason = getattr(error, "strerror", None) or error
        print(
            f"note: {path.parent} cannot be written ({reason}), so the images are read anew in "
            "every session; set GENMED_RUNS to a folder that can be written."
        )


def _checksum(tensors: Tensors) -> str:
    """Checksum over all tensors, in the order of their names."""
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].contiguous().numpy().data, total)
    return f"{total:08x}"
