"""The data folder, and how notebooks print what lies in it."""

import os
from pathlib import Path

from genmed_core import runtime
from genmed_core.errors import DataError


def data_folder() -> Path:
    """$GENMED_DATA, which must exist, or data/ beside the chapters."""
    folder = runtime.setting("GENMED_DATA") or runtime.root() / "data"
    if _named() and not os.path.isdir(folder):
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"GENMED_DATA: {folder} {what}. Name the folder that holds the data sets, "
                        "or unset GENMED_DATA.")
    return folder


def shown(folder: Path, place: Path) -> str:
    """A place in the data folder as notebooks print it, without the paths of this machine."""
    base = "$GENMED_DATA" if _named() else "data"
    inner = place.relative_to(folder).as_posix()
    return base if inner == "." else f"{base}/{inner}"


def _named() -> bool:
    return runtime.setting("GENMED_DATA") is not None
