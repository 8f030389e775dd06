"""Image files of any collection become 8-bit grey without losing what their films show."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from genmed_core.imagefiles import Unusable, grey8, image_files, read_image


def ramp(low, high, size=64):
    """A smooth 16-bit picture whose values run from low to high."""
    values = np.linspace(low, high, size * size).round().reshape(size, size)
    return Image.fromarray(values.astype(np.uint16))


def saved(image, path):
    image.save(path)
    return Image.open(path)


# --- 16 bits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low, high, levels", [
    (0, 65_535, 256),       # the whole of 16 bits
    (0, 4095, 256),         # 12 bits of a DICOM
    (12, 1718, 256),        # 1,706 levels of 12 bits: less than half of them
    (30, 3400, 200),        # most of 12 bits
    (0, 1023, 256),         # 10 bits
    (32_768, 36_000, 256),  # signed values with their offset
    (4096, 16_383, 190),    # 14 bits
])
def test_sixteen_bit_films_keep_their_grey_levels(low, high, levels, tmp_path):
    grey = np.asarray(grey8(saved(ramp(low, high), tmp_path / "x.png")))
    assert grey.dtype == np.uint8 and len(np.unique(grey)) >= levels
    assert (np.diff(grey.ravel().astype(int)) >= 0).all(), "brighter stays brighter"


@pytest.mark.parametrize("factor", [1, 257])
def test_eight_bits_kept_in_sixteen_are_the_same_picture(factor, tmp_path):
    values = np.arange(40, 240, dtype=np.uint16).reshape(10, 20)
    grey = grey8(saved(Image.fromarray(values * factor), tmp_path / "x.png"))
    assert np.array_equal(np.asarray(grey), values)


def test_films_of_one_detector_keep_their_brightness_beside_each_other(tmp_path):
    """Twelve bits in two exposures: each is not stretched by itself."""
    dim, bright = (np.asarray(grey8(saved(ramp(0, high), tmp_path / "x.png"))).mean() for high in (2600, 4000))
    assert dim / bright == pytest.approx(2600 / 4000, abs=0.01)


def test_a_flat_sixteen_bit_image_is_no_error(tmp_path):
    assert np.unique(grey8(saved(ramp(4000, 4000), tmp_path / "x.png"))).size == 1


def png(path, colour_type, channels):
    """A 2x2 PNG with 16 bits a channel, which Pillow cannot write."""
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    line = b"\0" + b"\x0f\xa0" * channels * 2
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, colour_type, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(line * 2)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("colour_type, channels", [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_several_channels_are_refused(colour_type, channels, tmp_path):
    png(tmp_path / "x.png", colour_type, channels)
    with pytest.raises(Unusable, match="save it as 16-bit grey"):
        grey8(Image.open(tmp_path / "x.png"))


# --- other modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "RGBA", "LA", "P"])
def test_a_grey_picture_is_the_same_in_every_mode(mode, tmp_path):
    values = np.repeat(np.uint8([[0, 255]]), 4, 0)
    grey = grey8(saved(Image.fromarray(values).convert(mode), tmp_path / "x.png"))
    assert grey.mode == "L" and np.array_equal(np.asarray(grey), values)


def test_what_is_transparent_lies_on_black(tmp_path):
    image = Image.new("LA", (2, 1), (200, 255))
    image.putpixel((0, 0), (200, 0))
    assert np.asarray(grey8(saved(image, tmp_path / "x.png"))).tolist() == [[0, 200]]


# --- which files ----------------------------------------------------------------------------------------


def test_pictures_of_other_kinds_and_links_to_nowhere_are_listed_and_say_why(tmp_path):
    Image.new("L", (20, 20), 9).save(tmp_path / "a.png")
    Image.new("L", (20, 20), 9).save(tmp_path / "b.webp")
    (tmp_path / "c.png").symlink_to("nowhere.png")
    (tmp_path / "d.png").symlink_to("d.png")
    (tmp_path / "e.dcm").write_bytes(b"x")
    (tmp_path / "f.png").mkdir()
    for name in ("notes.txt", "._a.png", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in image_files(tmp_path)] == ["a.png", "b.webp", "c.png", "d.png", "e.dcm"]
    outcomes = [read_image(p, 16) for p in image_files(tmp_path)]
    assert outcomes[0][0].shape == (16, 16) and outcomes[0][0].max() == 9
    assert outcomes[1] == "a .webp file; save it as PNG"
    assert outcomes[2] == outcomes[3] == "a link to a file that is not there"


def test_capital_suffixes_are_images(tmp_path):
    for name in ("A.PNG", "b.JPeG", "c.xlsx"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in image_files(tmp_path)] == ["A.PNG", "b.JPeG"]


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr("builtins.open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, os.strerror(13))))
    assert read_image(tmp_path / "a.png", 16) == "cannot be read; make it readable"
