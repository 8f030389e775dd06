"""Each chapter's notebook is built from its source: paired, fresh, free of widget state, small, and honest."""

import re
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import notebooks  # noqa: E402

CHAPTERS = notebooks.sources()
each_chapter = pytest.mark.parametrize("source", CHAPTERS, ids=lambda p: p.stem)


def cells(source, kind=None):
    return [c for c in jupytext.read(source).cells if kind is None or c.cell_type == kind]


def test_there_are_chapters():
    numbers = [int(p.name[:2]) for p in CHAPTERS]
    assert numbers == sorted(set(numbers)) and {1, 2, 3} <= set(numbers) <= set(range(1, 10))


@each_chapter
def test_the_notebook_is_the_one_its_source_makes(source):
    assert notebooks.problems(source) == []


def test_no_notebook_stands_without_its_source():
    assert {p.stem for p in (ROOT / "chapters").glob("*.ipynb")} <= {p.stem for p in CHAPTERS}


@each_chapter
def test_cells_are_short_and_prose_outweighs_code(source):
    code, prose = cells(source, "code"), cells(source, "markdown")
    longest = max(len(c.source.splitlines()) for c in code)
    assert longest <= 40, f"a code cell has {longest} lines: split it"
    words = sum(len(re.findall(r"\w+", c.source)) for c in prose)
    assert 1_800 <= words <= 6_500, f"{words} words in all, solutions included"


@each_chapter
def test_every_figure_has_alt_text(source):
    for cell in cells(source, "code"):
        if re.search(r"^plots\.show_", cell.source, re.M):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 20, f"no alt text for the figure of the cell that begins {cell.source[:60]!r}"


@each_chapter
def test_the_chapter_promises_something_and_nbval_compares_it(source):
    promises = [c for c in cells(source, "code") if re.search(r"\bexpect\(", c.source)]
    assert promises, "a chapter ends in expectations"
    assert all("nbval-check-output" in c.metadata.get("tags", []) for c in promises)


@each_chapter
def test_the_chapter_has_exercises_each_followed_by_its_solution(source):
    numbers, all_cells = [], cells(source)
    for cell, following in zip(all_cells, all_cells[1:]):
        exercise = re.search(r"^\*\*(?:Exercise )?(?:\d+\.)?(\d+)[.* (]", cell.source, re.M)
        if cell.cell_type != "markdown" or not exercise or "solution" in cell.metadata.get("tags", []):
            continue
        numbers.append(int(exercise[1]))
        assert "solution" in following.metadata.get("tags", []), f"no solution after exercise {numbers[-1]}"
        assert following.source.startswith('<details class="solution"><summary>Solution'), following.source[:60]
        assert following.source.rstrip().endswith("</details>"), f"solution {numbers[-1]} does not close its fold"
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 5, numbers


@each_chapter
def test_stored_outputs_name_no_place_of_the_machine_they_ran_on(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("text", "") + "".join(
                v for k, v in output.get("data", {}).items() if k.startswith("text") and isinstance(v, str))
            assert not re.search(r"(?<![\w.$])/(home|root|work|tmp|Users)/", text), text[:200]


def test_the_check_notices_a_stale_and_a_drifted_notebook(tmp_path):
    source = tmp_path / "01_x.py"
    source.write_text("# %%\nprint(1)\n")
    assert "missing" in notebooks.problems(source)[0]
    notebook = jupytext.read(source)
    notebook.metadata["genmed"] = {"source_sha256": notebooks.sha256(source.read_text(encoding="utf-8"))}
    jupytext.write(notebook, source.with_suffix(".ipynb"))
    drifted = jupytext.writes(notebook, fmt="py:percent")
    source.write_text(drifted.replace("print(1)", "print(2)"))
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text=f"555 {notebooks.FILMS} data")]
    jupytext.write(notebook, source.with_suffix(".ipynb"))
    found = " ".join(notebooks.problems(source))
    assert "films of patients" in found
    assert "was not built from the present" in found and "differ in their cells" in found


@pytest.mark.parametrize("word", ["1", "01", "001", "01_a", "chapters/01_a.py", "01_a.ipynb"])
def test_chapters_are_named_by_number_or_whole_name(word):
    assert notebooks.pick(["01_a", "02_b", "10_c"], [word]) == ["01_a"]


def test_an_unknown_chapter_is_refused_and_those_that_exist_are_listed():
    assert notebooks.pick(["01_a", "10_c"], []) == ["01_a", "10_c"]
    assert notebooks.pick(["01_a", "02_b", "10_c"], ["10", "2"]) == ["02_b", "10_c"]
    for words in (["99"], ["1", "99"], ["01_"], ["0"], ["-1"], [""], ["b"], ["02_b extra"]):
        with pytest.raises(notebooks.ChapterError, match="those that exist: 01_a, 02_b, 10_c"):
            notebooks.pick(["01_a", "02_b", "10_c"], words)
