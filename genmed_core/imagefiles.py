"""Image files of any collection: which files are images, and how each becomes 8-bit grey pixels.

Every reader of pictures takes them through `grey8`, so that films, held-out films and samples meet
one rule.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

READ = {".png", ".jpg", ".jpeg"}
# pictures that are not read, but counted and named among what is left out
OTHER = {".bmp", ".dcm", ".dicom", ".gif", ".heic", ".jp2", ".nii", ".tif", ".tiff", ".webp"}
COLOUR = 8  # levels by which the channels of a grey picture saved in colour may differ
DEPTHS = (8, 10, 12, 14, 16)  # bits in which detectors and archives keep grey values


class Unusable(Exception):
    """One image that cannot be used; the message says why."""


def image_files(folder: Path) -> list[Path]:
    """Every file of a folder that is named as a picture, sorted by name.

    Among them are those that `read_image` refuses, so that they are counted: other kinds and links
    to nowhere.
    """
    entries = (path for path in folder.iterdir() if _suffix(path.name) in READ | OTHER)
    return sorted(path for path in entries if not os.path.isdir(path))


def _suffix(name: str) -> str:
    return "" if name.startswith(".") else Path(name).suffix.lower()  # "._COVID-1.png": a Mac's


def grey8(image: Image.Image) -> Image.Image:
    """An open image of any mode -> the same decoded and 8-bit grey (mode "L").

    A 16-bit image with values up to 255 keeps them. Another is scaled from the smallest depth of
    10, 12, 14 or 16 bits that holds its largest value, where its values span half of that depth or
    more; otherwise from its own least to its largest value, as where values have an offset. So it
    spans 128 of the 256 levels or more. What is transparent lies on black. Raises Unusable for 16
    bits in each of several channels, of which Pillow would keep eight.
    """
    image = _loaded(image)
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image).astype(np.int64)))
    return image.convert("RGB").convert("L") if image.mode == "P" else image.convert("L")


def rgb8(image: Image.Image) -> Image.Image:
    """An open image of any mode -> the same decoded, in 8-bit red, green and blue (mode "RGB").

    Grey of 16 bits is scaled as `grey8` says. Raises Unusable as that does.
    """
    image = _loaded(image)
    return (grey8(image) if image.mode.startswith("I") else image).convert("RGB")


def _loaded(image: Image.Image) -> Image.Image:
    """An open image decoded, what is transparent on black; Unusable where Pillow would halve it."""
    deep = any("16" in str(tile[3]) for tile in getattr(image, "tile", []))
    image.load()
    if deep and not image.mode.startswith("I"):
        raise Unusable("16 bits in each of several channels; save it as 16-bit grey")
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)


def in_colour(image: Image.Image) -> bool:
    """Whether an image shows colour. A few are grey pictures saved so: channels that agree."""
    if image.mode.startswith(("I", "L", "1")):
        return False
    channels = np.asarray(image.convert("RGB")).astype(np.int16)
    return bool((channels.max(2) - channels.min(2)).mean() > COLOUR)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Whole numbers (H, W) -> uint8 (H, W), by the rule of `grey8`."""
    low, high = int(values.min()), int(values.max())
    depth = next(bits for bits in DEPTHS if high < 2**bits)
    if depth == 8 or high - low >= 2 ** (depth - 1):
        low, high = 0, 2**depth - 1
    scaled = (values - low) * 255 / max(high - low, 1)
    return scaled.round().clip(0, 255).astype(np.uint8)


def read_image(
    path: Path, size: int, as_grey: Callable[[Image.Image], Image.Image] = grey8
) -> tuple[np.ndarray, Image.Image] | str:
    """A PNG or JPEG file -> uint8 (size, size) and the whole grey image; or why it cannot be used.

    as_grey: an open Pillow image -> the same decoded and 8-bit grey; raises Unusable.
    """
    if path.suffix.lower() in OTHER:
        return f"a {path.suffix} file; save it as PNG"
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        return "no file, but a pipe or a device"
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            grey = as_grey(image)
        small = grey.resize((size, size), Image.Resampling.BILINEAR)  # with Pillow's antialiasing
        return np.asarray(small), grey
    except Unusable as error:
        return str(error)
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        return "empty" if empty else "not a PNG or JPEG image, whatever its name says"
    except PermissionError:
        return "cannot be read; make it readable"
    # Pillow raises all of them
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        nowhere = path.is_symlink() and not path.exists()
        why = "a link to a file that is not there"
        return why if nowhere else f"truncated or damaged ({error})"
