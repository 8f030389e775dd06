"""Editions for a class: no line of a solution reaches a student, everything that a link leads to does."""

import re
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
import tiny_class
import yaml
from test_course import book  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import editions  # noqa: E402
import notebooks  # noqa: E402
import stored_widgets  # noqa: E402

PACKAGE = "genmed @ git+https://example.org/genmed"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The tiny chapter's editions: the folder that holds them."""
    folder = tmp_path_factory.mktemp("class")
    source = tiny_class.write(folder / "chapters")
    for edition in ("student", "instructor"):
        editions.make(edition, source=source, out=folder, package=PACKAGE)
    return folder


def read(path):
    return nbformat.read(path, as_version=4)


def everything(path):
    """The text of every file of a zip."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode("utf-8", "replace") for name in archive.namelist()}


def solution_lines(notebook):
    """The lines of a notebook's solutions that tell something."""
    cells = [c for c in notebook.cells if "solution" in c.metadata.get("tags", [])]
    lines = [line.strip() for cell in cells for line in cell.source.splitlines()]
    return [line for line in lines if len(line) > 20 and not re.match(r"```|</?details|def |import |from ", line)]


def test_no_line_of_a_solution_is_in_the_students_zip(made):
    lines = solution_lines(tiny_class.notebook())
    assert len(lines) >= 8
    texts = everything(made / "student.zip")
    for name, text in texts.items():
        assert not [line for line in lines if line in text or line.replace('"', '\\"') in text], name
        assert "secret" not in text and "olution" not in re.sub(r'"solution": (true|false)', "", text), name
        assert '"measured"' not in text, "what the book's run found answers the prediction"
    assert "secret" in str(everything(made / "instructor.zip"))


def test_the_real_chapters_leave_no_line_of_a_solution_behind():
    for path in sorted((ROOT / "chapters").glob("[0-9][0-9]_*.ipynb")):
        before = read(path)
        lines = set(solution_lines(before))
        elsewhere = "\n".join(c.source for c in before.cells if "solution" not in c.metadata.get("tags", []))
        after = editions.of_notebook(before, "student", path.name)
        text = "\n".join(cell.source for cell in after.cells)
        assert not [line for line in lines if line in text and line not in elsewhere]
        assert '<details class="solution"' not in text
    intro = editions.of_text((ROOT / "chapters" / "intro.md").read_text(encoding="utf-8"), "student", "intro.md")
    assert "solution" not in intro.lower()
    marks = re.findall("<!--.*", intro)
    assert marks, "the front page draws"
    assert not [mark for mark in marks if not mark.startswith("<!-- live ")], "no mark of what was left out"


def test_stubs_checks_hints_and_outputs_stay(made):
    cells = read(made / "student" / "01_tiny.ipynb").cells
    text = "\n".join(cell.source for cell in cells)
    for _, _, _, stub, check, _ in tiny_class.EXERCISES:
        assert stub in text and check in text
    assert text.count("Hint 1") == 4
    assert [o.data["text/plain"] for c in cells for o in c.get("outputs", [])] == ["○ 1.3 waits for your answer."]
    solved = read(made / "instructor" / "01_tiny.ipynb").cells
    assert len(solved) == len(cells) + 4 and '<details class="solution" open>' in solved[7].source


def test_what_links_lead_to_is_packed_and_absent_chapters_are_words(made):
    texts = everything(made / "student.zip")
    assert {name.removeprefix("student/") for name in texts} == {
        "01_tiny.ipynb", "figures/dot.svg", "intro.md", "more.md", "index.html"}
    assert "and chapter 2." in texts["student/01_tiny.ipynb"] and "02_absent" not in str(texts)
    assert "](01_tiny.ipynb)" in texts["student/more.md"]


def test_the_start_page_says_how_to_begin(made):
    page = (made / "student" / "index.html").read_text(encoding="utf-8")
    assert f'pip install "{PACKAGE}"' in page and "jupyter lab 01_tiny.ipynb" in page
    assert '<a href="01_tiny.ipynb">01_tiny.ipynb</a>: A tiny chapter' in page
    assert "{" not in page.partition("<body>")[2]
    assert "instructor" not in page and "make grade" in (made / "instructor" / "index.html").read_text(encoding="utf-8")


def test_nbgraders_marks(made):
    cells = read(made / "student" / "01_tiny.ipynb").cells
    marks = [cell.metadata.nbgrader for cell in cells if "nbgrader" in cell.metadata]
    shown = [(m.grade_id, m.grade, m.solution, m.locked, m.get("points")) for m in marks]
    assert shown[:2] == [("answer-1-1", False, True, False, None), ("check-1-1", True, False, True, 2)]
    assert shown[-1][1:] == (True, True, False, 3) and shown[-1][0].startswith("explain-1-4")
    assert len(shown) == 9 and {m.schema_version for m in marks} == {3}


def test_the_same_content_is_the_same_zip_and_old_files_go(made):
    before = (made / "student.zip").read_bytes()
    (made / "student" / "left.ipynb").touch()
    editions.make("student", ["1"], made / "chapters", made, PACKAGE)
    assert (made / "student.zip").read_bytes() == before and not (made / "student" / "left.ipynb").exists()


def spoil(source, change):
    notebook = tiny_class.notebook()
    change(notebook.cells)
    (source / "01_tiny.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")


SPOILED = {
    "01_tiny.ipynb holds a solution outside .* or tag its cell": lambda cells: cells[7].metadata.clear(),
    "does not stand below its exercise's text": lambda cells: cells.pop(5),
    "does not stand below": lambda cells: cells.pop(4),
}


@pytest.mark.parametrize("message", SPOILED)
def test_a_chapter_that_would_tell_or_not_ask_is_refused(tmp_path, message):
    source = tiny_class.write(tmp_path / "chapters")
    spoil(source, SPOILED[message])
    with pytest.raises(editions.EditionError, match=message):
        editions.make("student", source=source, out=tmp_path, package=PACKAGE)
    assert not (tmp_path / "student").exists()


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path):
    source = tiny_class.write(tmp_path / "chapters")
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "mine.txt").touch()
    with pytest.raises(editions.EditionError, match="was not made by this command"):
        editions.make("student", source=source, out=tmp_path, package=PACKAGE)
    assert (tmp_path / "student" / "mine.txt").exists()


def test_other_errors_are_sentences(tmp_path, monkeypatch, capsys):
    source = tiny_class.write(tmp_path / "chapters")
    with pytest.raises(editions.EditionError, match="there is no chapter '7'; those that exist: 01_tiny"):
        editions.make("student", ["7"], source, tmp_path, PACKAGE)
    with pytest.raises(editions.EditionError, match="run `make notebooks` first"):
        editions.make("student", [], tmp_path, tmp_path, PACKAGE)
    (source / "01_tiny.ipynb").write_text("{", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["editions.py", "student", "--source", str(source), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: nothing was written:\n01_tiny.*cannot be read as a notebook"):
        editions.main()


@pytest.mark.parametrize("remote, said", [("https://example.org/a.git", "genmed @ git+https://example.org/a.git"),
                                          ("https://me:token@example.org/a.git", "your instructor"),
                                          ("git@example.org:a.git", "your instructor"), ("", "your instructor")])
def test_the_packages_address_is_gits_unless_it_is_private(monkeypatch, remote, said):
    done = editions.subprocess.CompletedProcess([], 0, stdout=remote + "\n")
    monkeypatch.setattr(editions.subprocess, "run", lambda *arguments, **options: done)
    assert said in editions.own_address()


def test_an_open_question_stores_its_sentence_and_what_was_measured():
    output = nbformat.v4.new_output("display_data", {stored_widgets.VIEW: {}, "text/plain": "○ 1.3 waits."},
                                    metadata={"genmed": {"measured": 2.5}})
    notebooks._tidy(output)
    assert output.data == {"text/plain": "○ 1.3 waits."} and output.metadata.genmed.measured == 2.5


@pytest.fixture
def own_course(book):  # noqa: F811
    """A course file that names chapters of the book `book`, and of one's own in mine/: the file, and that folder."""
    mine = tiny_class.write(book.parent / "mine")
    (mine / "dates.md").write_text("# Dates\n", encoding="utf-8")
    entries = {"title": "Bilder & Modelle", "repository": "https://example.org/kurs/bilder", "contents": [
        {"part": "A", "pages": ["03_labels", "mine/01_tiny.ipynb", "01_codes"]},
        {"part": "B", "pages": ["mine/dates.md"]}]}
    file = book.parent / "mine.yml"
    file.write_text(yaml.safe_dump(entries), encoding="utf-8")
    return file, mine


def test_a_course_gives_an_edition_its_title_order_own_chapters_and_address(own_course, book, tmp_path):  # noqa: F811
    (book / "intro.md").write_text(f"# {editions.course.our_title()}\n\n[Bounds](02_bounds.ipynb)\n", encoding="utf-8")
    editions.make("instructor", source=book, out=tmp_path, course_file=own_course[0])
    made = tmp_path / "instructor"
    start = (made / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'href="(\w+)\.ipynb"', start) == ["03_labels", "01_tiny", "01_codes"]
    assert "<h1>Bilder &amp; Modelle</h1>" in start and "genmed @ git+https://example.org/kurs/bilder" in start
    assert (made / "intro.md").read_text(encoding="utf-8") == "# Bilder &amp; Modelle\n\nBounds\n"
    assert (made / "figures" / "dot.svg").is_file() and (made / "dates.md").is_file()
    assert not (made / "02_bounds.ipynb").exists()
    assert read(made / "nbgrader" / "source" / "01_tiny" / "01_tiny.ipynb").cells
    editions.make("student", ["01_tiny"], book, tmp_path, PACKAGE, own_course[0])
    assert {path.name for path in (tmp_path / "student").glob("*.ipynb")} == {"01_tiny.ipynb"}


def test_what_a_course_names_in_vain_is_said_before_an_edition_is_written(own_course, book, tmp_path):  # noqa: F811
    file, mine = own_course
    (mine / "intro.md").write_text("# Mine\n", encoding="utf-8")
    (mine / "dates.md").write_text("[First](intro.md)\n", encoding="utf-8")
    with pytest.raises(editions.EditionError, match="two different files intro.md, the book's and one in .*mine"):
        editions.make("student", source=book, out=tmp_path, package=PACKAGE, course_file=file)
    for contents, words in (([{"part": "A", "pages": ["mine/gone.ipynb"]}], "neither a page of this book"),
                            ([{"part": "A", "pages": ["mine/dates.md"]}], "mine.yml names no notebook")):
        file.write_text(yaml.safe_dump({"contents": contents}), encoding="utf-8")
        with pytest.raises(editions.EditionError, match=words):
            editions.make("student", source=book, out=tmp_path / "none", package=PACKAGE, course_file=file)
    assert not (tmp_path / "none").exists()
