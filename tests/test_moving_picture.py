"""The README's moving picture: small, moving, described; its script names what is missing."""

import re
import sys
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api")
pytest.importorskip("pypdf")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import moving_picture  # noqa: E402


def test_the_readme_opens_with_a_moving_picture_that_is_small_and_described():
    opening = (ROOT / "README.md").read_text(encoding="utf-8")[:600]
    alt, name = re.search(r"!\[(.+?)\]\((.+?)\)", opening).groups()
    assert len(alt.split()) > 10
    path = ROOT / name
    assert path.stat().st_size < moving_picture.LIMIT
    with Image.open(path) as picture:
        assert picture.n_frames > 20 and picture.width == moving_picture.WIDTH and picture.info["loop"] == 0


def test_frames_share_one_size():
    frames = [(Image.new("RGB", size, "navy"), 90) for size in ((812, 420), (600, 500))]
    pictures, durations = moving_picture.on_one_size(frames)
    assert {picture.size for picture in pictures} == {(720, 600)} and durations == [90, 90]
    assert pictures[0].getpixel((360, 5)) == (255, 255, 255) and pictures[0].getpixel((360, 300)) == (0, 0, 128)


def test_pages_that_are_missing_are_named(tmp_path):
    with pytest.raises(moving_picture.NoPicture, match="no intro.html, 02_vae.html in .*run `make book` first"):
        moving_picture.make([tmp_path], tmp_path / "x.webp")
