"""`make lab`: the reader's own copies of the chapters; nothing of hers is ever overwritten."""

import json
import os
import sys
from fnmatch import fnmatch
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import lab  # noqa: E402
from notebooks import LANGUAGE  # noqa: E402


@pytest.fixture
def chapters(tmp_path):
    folder = tmp_path / "chapters"
    (folder / "figures").mkdir(parents=True)
    write(folder / "01_a.ipynb", "print(1)")
    (folder / "01_a.py").write_text("print(1)")
    (folder / "intro.md").write_text("![map](figures/map.svg)")
    (folder / "figures" / "map.svg").write_text("<svg/>")
    return folder


def write(path, *cells):
    """A notebook with these code cells, as `make notebooks` stores one."""
    notebook = nbformat.v4.new_notebook(metadata={"language_info": dict(LANGUAGE)})
    notebook.cells = [nbformat.v4.new_code_cell(cell, id=f"cell-{k}") for k, cell in enumerate(cells)]
    nbformat.write(notebook, path)


def code(path):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells]


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_reader_gets_notebooks_pages_and_their_pictures(chapters, tmp_path):
    mine = tmp_path / "mine"
    assert lab.refresh(chapters, mine) == []
    assert files(mine) == {"00_start.ipynb", "01_a.ipynb", "intro.md", "figures/map.svg", "README.md",
                           ".book.json"}
    before = {path: (mine / path).stat().st_mtime_ns for path in files(mine) - {".book.json"}}
    assert lab.refresh(chapters, mine) == []
    assert before == {path: (mine / path).stat().st_mtime_ns for path in before}, "a second start writes nothing"


def test_opening_a_copy_changes_nothing(chapters, tmp_path):
    """JupyterLab compares these with what the kernel says of itself, and marks the notebook changed if they differ."""
    from ipykernel.ipkernel import IPythonKernel
    from jupyter_client.kernelspec import KernelSpecManager

    lab.refresh(chapters, tmp_path / "mine")
    metadata = nbformat.read(tmp_path / "mine" / "01_a.ipynb", as_version=4).metadata
    spec = KernelSpecManager().get_kernel_spec("python3")
    assert metadata["language_info"] == IPythonKernel.language_info
    assert metadata["kernelspec"] == {"name": "python3", "display_name": spec.display_name, "language": "python"}


def test_what_was_not_edited_follows_the_book(chapters, tmp_path):
    mine = tmp_path / "mine"
    lab.refresh(chapters, mine)
    write(chapters / "01_a.ipynb", "print(2)")
    (chapters / "intro.md").write_text("new")
    assert lab.refresh(chapters, mine) == []
    assert code(mine / "01_a.ipynb") == ["print(2)"] and (mine / "intro.md").read_text() == "new"
    (mine / "01_a.ipynb").rename(mine / "first try.ipynb")  # to begin anew
    lab.refresh(chapters, mine)
    assert code(mine / "01_a.ipynb") == ["print(2)"] and (mine / "first try.ipynb").exists()


def test_both_are_kept_where_reader_and_book_changed_a_chapter(chapters, tmp_path):
    mine = tmp_path / "mine"
    lab.refresh(chapters, mine)
    write(mine / "01_a.ipynb", "mine")
    assert lab.refresh(chapters, mine) == [] and code(mine / "01_a.ipynb") == ["mine"]
    write(chapters / "01_a.ipynb", "print(2)")
    (said,) = lab.refresh(chapters, mine)
    assert "01_a.ipynb has changed" in said and "01_a-book.ipynb" in said
    assert lab.refresh(chapters, mine) == [], "it is said once"
    write(chapters / "01_a.ipynb", "print(3)")
    lab.refresh(chapters, mine)
    assert code(mine / "01_a-book.ipynb") == ["print(3)"]
    write(mine / "01_a-book.ipynb", "mine as well")
    write(chapters / "01_a.ipynb", "print(4)")
    lab.refresh(chapters, mine)
    assert [code(mine / f"01_a{end}.ipynb") for end in ("", "-book", "-book-2")] == [
        ["mine"], ["mine as well"], ["print(4)"]]


@pytest.mark.parametrize("memory", [None, "{broken", "[]", "5", '{"01_a.ipynb": null}'])
def test_without_a_memory_everything_is_taken_for_the_readers(chapters, tmp_path, memory):
    mine = tmp_path / "mine"
    lab.refresh(chapters, mine)
    write(mine / "01_a.ipynb", "mine")
    (mine / ".book.json").unlink() if memory is None else (mine / ".book.json").write_text(memory)
    write(chapters / "01_a.ipynb", "print(2)")
    lab.refresh(chapters, mine)
    assert code(mine / "01_a.ipynb") == ["mine"] and code(mine / "01_a-book.ipynb") == ["print(2)"]
    assert "intro.md" in json.loads((mine / ".book.json").read_text())


def test_a_broken_notebook_of_the_book_is_left_out_and_named(chapters, tmp_path, capsys):
    (chapters / "02_b.ipynb").write_text("<<<<<<< HEAD\n{}")
    lab.refresh(chapters, tmp_path / "mine")
    assert "02_b.ipynb holds git's marks" in capsys.readouterr().err
    assert (tmp_path / "mine" / "01_a.ipynb").exists() and not (tmp_path / "mine" / "02_b.ipynb").exists()


def test_a_place_that_cannot_hold_copies_is_named(tmp_path, monkeypatch):
    (tmp_path / "taken").touch()
    monkeypatch.setattr(lab, "MINE", tmp_path / "taken")
    monkeypatch.setattr(lab.refresh, "__defaults__", (lab.CHAPTERS, tmp_path / "taken"))
    with pytest.raises(SystemExit, match="taken cannot hold your copies"):
        lab.main([])


def test_the_file_browser_lists_what_is_the_readers(tmp_path):
    (hide,) = [word for word in lab.settings(mine=tmp_path) if word.startswith("--ContentsManager.hide_globs=")]
    hidden = eval(hide.partition("=")[2])
    assert not [name for name in lab.LISTED if any(fnmatch(name, glob) for glob in hidden)]
    for name in ("genmed_core", "tests", "chapters", "Makefile", "weights", "figures"):
        assert name in hidden
    assert not any(fnmatch("my own figure.png", glob) for glob in hidden)


def test_the_start_page_leads_to_every_chapter_by_its_title(chapters, tmp_path):
    (chapters / "02_b.ipynb").write_text(nbformat.writes(nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# 2. The title\n\nText.")])))
    lab.refresh(chapters, tmp_path / "mine")
    start = nbformat.read(tmp_path / "mine" / lab.START, as_version=4)
    assert "- [01_a](01_a.ipynb)\n- [2. The title](02_b.ipynb)\n" in start.cells[-1].source
    assert "CHAPTERS" not in str(start.cells)
    for name in ("intro.md", "README.md"):
        assert f"]({name})" in start.cells[-1].source and (tmp_path / "mine" / name).exists()


def test_lab_shows_nothing_of_what_only_the_tests_need():
    """nbgrader brings a menu and buttons of its own, notebook 7 a second way to open a notebook."""
    page = json.loads((ROOT / "jupyter_book_config" / "lab" / "settings" / "page_config.json").read_text())
    assert page["disabledExtensions"] == {"@jupyter/nbgrader": True, "@jupyter-notebook/lab-extension": True}


def test_git_does_not_see_the_copies():
    assert "/my_chapters/" in (ROOT / ".gitignore").read_text().split()
    assert os.path.samefile(lab.MINE.parent, ROOT)


def test_the_guide_links_to_what_is_there():
    guide = (ROOT / "jupyter_book_config" / "my_chapters.md").read_text(encoding="utf-8")
    for name in ("intro.md", "01_autoencoder.ipynb"):
        assert f"]({name})" in guide and (ROOT / "chapters" / name).exists()
    assert "GENMED_BUDGET=0.1" in guide and "](../README.md)" in guide
