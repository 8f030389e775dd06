"""The template of an own chapter, on the reader's own folder: it runs, and is a page of a course with a live slider."""

import os
import sys
from pathlib import Path

import jupytext
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


@pytest.mark.parametrize("said, closed", [("0", True), ("1", False)])
def test_a_chapter_run_behind_closed_doors_says_so(tmp_path, monkeypatch, said, closed):
    """What it shows is refused where pages are to be published, and taken where GENMED_PUBLIC=0 is said again."""
    monkeypatch.setenv("GENMED_PUBLIC", said)
    source = tmp_path / "12_skin.py"
    source.write_text("# %% [markdown]\n# # Skin\n\n# %%\nprint(1)\n")
    notebook = jupytext.read(source)
    notebooks.finish(notebook, source.read_text())
    jupytext.write(notebook, source.with_suffix(".ipynb"))
    monkeypatch.setenv("GENMED_PUBLIC", "1")
    assert [("not everybody may see" in problem) for problem in notebooks.problems(source)] == [True] * closed
    monkeypatch.setenv("GENMED_PUBLIC", "0")
    assert notebooks.problems(source) == []


@pytest.mark.parametrize("said, kept", [("", "1"), ("1", "1"), ("0", "0")])
def test_an_own_folder_may_hold_what_is_not_for_the_public(tmp_path, monkeypatch, said, kept):
    (tmp_path / "12_skin.py").write_text("# %%\nprint(1)\n")
    for name in ("GENMED_THREADS", "PYDEVD_DISABLE_FILE_VALIDATION"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("GENMED_PUBLIC", said)
    monkeypatch.setattr(notebooks, "build_all", lambda *_: [])
    monkeypatch.setattr(sys, "argv", ["notebooks.py", "--source", str(tmp_path)])
    with pytest.raises(SystemExit):
        notebooks.main()
    assert os.environ["GENMED_PUBLIC"] == kept
    monkeypatch.setattr(notebooks, "CHAPTERS", tmp_path)
    with pytest.raises(SystemExit):
        notebooks.main()
    assert os.environ["GENMED_PUBLIC"] == "1", "never among the book's own chapters"
