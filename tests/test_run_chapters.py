"""`make chapters`: which notebooks it takes, and the table that it ends in."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat.v4 as nb
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import run_chapters  # noqa: E402


def rows_of(folder, notebooks, **settings):
    """Runs small notebooks, name: cells, under two workers; what pytest returned, and the table's rows by name."""
    for name, cells in notebooks.items():
        notebook = nb.new_notebook(cells=[nb.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        (folder / f"{name}.ipynb").write_text(nb.writes(notebook), encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", str(folder), "-p", "run_chapters", "--nbval-lax",
                           "--nbval-current-env", "-n", "2", "--dist", "loadscope"], cwd=ROOT, capture_output=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT / "jupyter_book_config")} | settings, text=True)
    lines = [re.split(r" *\| *", line) for line in done.stdout.splitlines()]
    return done, {line[1]: line[2:-1] for line in lines if len(line) > 6}


def test_the_table_has_time_memory_and_promises(tmp_path):
    """Two small notebooks under two workers, one of which breaks a promise and raises."""
    said = 'print("error: 2.5, promised below 3 (mnist): margin 0.5: yes\\nFD: 4, promised below 40: margin 36: yes")'
    done, rows = rows_of(tmp_path, {"01_a": [said, "x = bytearray(50_000_000)"],
                                    "02_b": ['print("KL: 9, promised below 8: margin -1: no")', "1 / 0"]},
                         GITHUB_STEP_SUMMARY=str(tmp_path / "page.md"))
    assert done.returncode == 1, done.stdout + done.stderr
    cells, failed, _, memory, kept, nearest = rows["01_a"]
    assert (cells, failed, kept, nearest) == ("2", "0", "2 of 2", "error: 2.5, margin 0.5")
    assert float(memory) > 50 or sys.platform != "linux"
    assert rows["02_b"][1] == "1" and rows["02_b"][4:] == ["0 of 1", "KL: 9, margin -1"]
    assert "| 01_a | 2 | 0 |" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_notebooks_whose_turn_comes_too_late_are_left_out(tmp_path):
    done, rows = rows_of(tmp_path, {"01_a": ["1 / 0"]}, GENMED_CHAPTERS_UNTIL=str(time.time() - 1))
    assert done.returncode == 0 and rows["01_a"][:2] == ["left out", "0"], done.stdout + done.stderr


def test_a_notebook_that_has_begun_goes_on_to_its_end(monkeypatch):
    first, other = SimpleNamespace(nodeid="01_a.ipynb::Cell 0"), SimpleNamespace(nodeid="02_b.ipynb::Cell 0")
    monkeypatch.setattr(run_chapters, "BEGUN", set())
    monkeypatch.setenv("GENMED_CHAPTERS_UNTIL", str(time.time() + 100))
    run_chapters.pytest_runtest_setup(first)
    monkeypatch.setenv("GENMED_CHAPTERS_UNTIL", str(time.time() - 1))
    run_chapters.pytest_runtest_setup(first)
    with pytest.raises(pytest.skip.Exception, match="02_b.ipynb is left out"):
        run_chapters.pytest_runtest_setup(other)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository of three chapters, with one commit."""
    def git(*words):
        return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], cwd=tmp_path,
                              check=True, capture_output=True)

    for name in ("chapters/01_a.ipynb", "chapters/02_b.ipynb", "chapters/02_b.py", "chapters/10_c.ipynb",
                 "genmed_core/train.py", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(run_chapters, "ROOT", tmp_path)
    monkeypatch.setattr(run_chapters.notebooks, "CHAPTERS", tmp_path / "chapters")
    return tmp_path


@pytest.mark.parametrize("files, names", [
    ([], []), (["README.md"], []), (["chapters/02_b.py"], ["02_b"]),
    (["chapters/01_a.ipynb", "chapters/10_c.ipynb", "README.md"], ["10_c", "01_a"]),
    (["genmed_core/train.py"], ["10_c", "02_b", "01_a"])])
def test_what_differs_is_run_and_all_where_the_core_does(clone, files, names):
    for file in files:
        (clone / file).write_text("2")
    assert [path.stem for path in run_chapters.picked([], "HEAD")] == names


def test_later_chapters_come_first_and_a_reference_that_is_none_is_named(clone):
    assert [path.stem for path in run_chapters.picked([], None)] == ["10_c", "02_b", "01_a"]
    assert [path.stem for path in run_chapters.picked(["2"], None)] == ["02_b"]
    with pytest.raises(SystemExit, match="git cannot compare with 'nowhere'"):
        run_chapters.picked([], "nowhere")
