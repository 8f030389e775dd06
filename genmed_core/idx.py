"""Files of the idx format, in which MNIST came: bytes with a header that says their shape.

    00 00 08 03 | N | height | width | N * height * width unsigned bytes      images
    00 00 08 01 | N | N unsigned bytes                                        labels
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import NoReturn

import torch

from genmed_core.errors import DataError

# how files that turn up in such a file's place begin, in lower case
FOREIGN = {
    b"<": "a web page",
    b"\x89png": "a PNG image",
    b"\xff\xd8": "a JPEG image",
    b"\x1f\x8b": "a gzip file without .gz in its name",
    b"pk\x03\x04": "a zip archive",
}
# the third byte of the header
TYPES = {9: "signed bytes", 11: "16-bit numbers", 12: "32-bit numbers", 13: "floats", 14: "doubles"}


def read_bytes(path: Path, remedy: str) -> bytearray:
    """Contents of a file, unpacked if it is a .gz -> bytearray.

    remedy: the sentence that tells what to do about a damaged one. Raises DataError.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            return bytearray(file.read())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = f"truncated, or not a gzip file ({error})"
        raise DataError(f"{path}: {reason}. {remedy}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Make it readable.") from error


def parse_idx(
    content: bytearray, path: Path, dims: int, *, remedy: str, of: str = "",
    sides: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Contents of an idx file of unsigned bytes with `dims` axes -> uint8 tensor.

    of: whose file it should be, " of MNIST"; sides: of its images, where they are known.
    torchvision's reader asserts, without a message, and cannot read what is not on disk. Raises
    DataError.
    """
    def refuse(what: str) -> NoReturn:
        raise DataError(f"{path}: {what}. {remedy}")

    start = 4 * (dims + 1)
    magic = bytes(content[:4])
    shape = struct.unpack(f">{dims}I", content[4:start].ljust(4 * dims, b"\0"))
    if magic[:2] == b"\0\0" and len(magic) == 4 and magic[2] in TYPES:
        refuse(f"an idx file of {TYPES[magic[2]]}, not of unsigned bytes, 0 to 255")
    if magic[:3] != b"\0\0\x08":
        refuse(f"{_looks_like(content)}, not an idx file{of}")
    promised = start + math.prod(shape)
    whole = len(content) >= start
    if magic[3] != dims or (dims == 3 and sides not in (None, shape[1:]) and whole):
        images = f"{sides[0]}x{sides[1]} images" if sides else "grey images"
        refuse(f"an idx file, but not of {images if dims == 3 else 'labels'} (files swapped?)")
    if len(content) != promised:
        refuse(f"{len(content):,} bytes where its header promises {promised:,}: truncated, perhaps "
               "by an interrupted download or copy")
    if not math.prod(shape):
        refuse("an idx file with nothing in it")
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).view(shape)


def _looks_like(content: bytearray) -> str:
    """What a file that is not ours seems to be, in words."""
    head = bytes(content[:64]).lstrip().lower()
    if not head:
        return "an empty file"
    return next((name for mark, name in FOREIGN.items() if head.startswith(mark)), "a foreign file")
