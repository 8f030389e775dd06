"""The template of an own chapter, on the reader's own folder: it runs, and is a page of a course with a live slider."""

import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from test_course import book, built  # noqa: F401  (a fixture)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import build as builder  # noqa: E402
import notebooks  # noqa: E402

TEMPLATE = ROOT / "jupyter_book_config" / "template" / "12_my_images.py"
FOLDER, PUBLIC = 'FOLDER, SIZE = "drawn_digits", 28', 'PUBLIC = FOLDER == "drawn_digits"'


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """mine/12_my_images.py on data/skin, two classes of ninety pictures, with a hundredth of the steps."""
    rng = np.random.RandomState(0)
    for name in ("mole", "nail_bed"):
        (tmp_path / "data" / "skin" / name).mkdir(parents=True)
        for k in range(90):
            pixels = rng.randint(0, 256, (40, 44, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / "skin" / name / f"{k}.png")
    for name, value in {"DATA": tmp_path / "data", "RUNS": tmp_path / "runs", "BUDGET": 0.01, "PUBLIC": 1}.items():
        monkeypatch.setenv(f"GENMED_{name}", str(value))
    (tmp_path / "mine").mkdir()
    source, text = tmp_path / "mine" / TEMPLATE.name, TEMPLATE.read_text(encoding="utf-8")
    assert FOLDER in text and PUBLIC in text
    source.write_text(text.replace(FOLDER, 'FOLDER, SIZE = "skin", 32').replace(PUBLIC, "PUBLIC = True"))
    return source


def test_a_copy_on_ones_own_images_is_a_chapter_of_a_course(mine, book, monkeypatch):  # noqa: F811
    monkeypatch.setattr(builder, "vendor", lambda: None)
    assert notebooks.build(mine) < notebooks.SIZE_LIMIT
    assert notebooks.problems(mine) == [] and notebooks.sources(["12"], mine.parent) == [mine]
    stored = nbformat.read(mine.with_suffix(".ipynb"), as_version=4)
    printed = "".join(output.get("text", "") for cell in stored.cells for output in cell.get("outputs", []))
    assert "skin train: 108 images of 2 classes from $GENMED_DATA/skin, each made square, grey and 32x32" in printed
    assert "share of the variance of test images" in printed and str(mine.parent.parent) not in str(stored.cells)
    page = built(book, {"contents": [{"part": "A", "pages": ["02_bounds", "mine/12_my_images.ipynb"]}]})["12_my_images"]
    assert len(page.select("article img[alt]")) >= 2 and "A chapter of your own" in page.h1.get_text()
    assert "genmed_core.widgets.explorer.LatentExplorer" in str(page.select("script")), "a live slider"
