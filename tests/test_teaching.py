"""The page for instructors is current: what it names exists, lessons fit into their time, nothing lacks its place."""

import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import course  # noqa: E402
import teaching  # noqa: E402

TEXT = (ROOT / "chapters" / "teaching.md").read_text(encoding="utf-8")
PLANS = tomllib.loads(teaching.PLANS.read_text(encoding="utf-8"))
CHAPTERS = teaching.read()
PARTS = teaching.parts(TEXT)
SOURCES = sorted((ROOT / "chapters").glob("[0-9][0-9]_*.py"))


def under(number, heading):
    """What stands under a `### ` heading of a chapter's part."""
    return re.search(rf"^### {heading}\n(.*?)(?=^### |\Z)", PARTS[number], re.M | re.S)[1]


def test_the_page_is_current_and_names_only_what_exists():
    assert teaching.problems(TEXT, PLANS, CHAPTERS, teaching.stored()) == []


def test_every_chapter_and_every_exercise_of_it_has_its_place():
    assert sorted(PARTS) == [chapter.number for chapter in CHAPTERS]
    for chapter in CHAPTERS:
        assert f"({chapter.stem}.ipynb)" in TEXT, f"no link to {chapter.stem}"
        listed = teaching.sections_table(chapter, {})
        assert all(re.search(rf"\b{re.escape(e.number)}\b", listed) for e in chapter.exercises)
        assert set(PLANS["plan"][chapter.stem]) == {"60", "90", "180"}


@pytest.mark.parametrize("name", ["intro.md", "../README.md"])
def test_the_page_is_found(name):
    assert "teaching.md)" in (ROOT / "chapters" / name).read_text(encoding="utf-8")
    assert "teaching" in [page.stem for page in course.read().pages()]


def test_every_part_is_complete():
    for number in PARTS:
        assert 3 <= len(re.findall(r"^- ", under(number, "Afterwards a student can"), re.M)) <= 5
        questions = re.findall(r"^\d\. (.+)", under(number, "To discuss"), re.M)
        assert len(questions) == 4 and all(teaching.FIGURES.search(q) and "?" in q for q in questions)
        wrong = re.findall(r'^- \*"(.+)', under(number, "Misconceptions"), re.M)
        assert 3 <= len(wrong) <= 4
        for idea in wrong:
            assert any(pattern.search(idea) for pattern in (teaching.FIGURES, teaching.NAMED, teaching.SECTION)), idea
    for number, part in PARTS.items():
        assert {n.partition(".")[0] for list_ in teaching.FIGURES.findall(part)
                for n in re.findall(r"\d+\.\d+", list_)} == {str(number)}, f"chapter {number} names another's figures"


def test_every_review_question_of_the_textbook_has_a_place():
    assert len(PLANS["review"]) == 12
    for review in PLANS["review"]:
        assert review.get("capstone") or list(teaching._places(review, CHAPTERS)), review["topic"]


def test_a_longer_lesson_keeps_what_a_shorter_one_keeps():
    for name, plans in PLANS["plan"].items():
        for kind in ("sections", "exercises"):
            hour, more, most = (set(plans[slot][kind]) for slot in ("60", "90", "180"))
            assert hour <= more <= most, f"{name}: {sorted(hour - more | more - most)} of {kind} gets lost"


# --- what the check finds ---------------------------------------------------------------------------------------------

PLANTED = [
    ("Figure 4.8", "Figure 4.88", "there is no figure 4.88"),
    ("(*What a circle scores*)", "(*What a square scores*)", "no exercise 'What a square scores'"),
    ("section *Can it judge?*", "section *Can it sing?*", "no section 'Can it sing?'"),
    (" (*The penalty's bias*)", "", "named without its title"),
    ("<!-- end of plan_7 -->", "", "lacks the marks of plan_7"),
    ("| 1 [", "| 2 [", "not current"),
]


@pytest.mark.parametrize("old, new, words", PLANTED)
def test_what_is_stale_or_not_there_is_found(old, new, words):
    assert old in TEXT
    found = teaching.problems(TEXT.replace(old, new, 1), PLANS, CHAPTERS, teaching.stored())
    assert any(words in line for line in found), found


def test_a_plan_that_does_not_fit_and_a_review_question_without_a_place_are_found():
    plans = tomllib.loads(teaching.PLANS.read_text(encoding="utf-8"))
    plans["plan"]["04_gan"]["60"] = plans["plan"]["04_gan"]["180"]
    plans["review"][0]["exercises"] = []
    found = teaching.problems(TEXT, plans, CHAPTERS, teaching.stored())
    assert any("60 minutes of 04_gan takes longer" in line for line in found)
    assert any("no place for the review question on the three families" in line for line in found)
    plans["plan"]["04_gan"]["60"] = {"sections": ["Nowhere"], "exercises": []}
    assert teaching.problems(TEXT, plans, CHAPTERS, teaching.stored()) == [
        "teaching.toml: chapter 4 has no section 'Nowhere'"]


def test_an_exercise_that_moves_is_followed_by_its_title(tmp_path):
    for source in SOURCES:
        shutil.copy(source, tmp_path)
    moved = tmp_path / "04_gan.py"
    moved.write_text(moved.read_text(encoding="utf-8").replace("Exercise 4.2 ", "Exercise 4.77 "), encoding="utf-8")
    chapters = teaching.read(tmp_path)
    text = teaching.renewed(TEXT, teaching.blocks(chapters, PLANS, teaching.stored()), chapters)
    assert "exercise 4.77 (*What a circle scores*)" in text and "exercise 4.2 (" not in text
    assert teaching.problems(text, PLANS, chapters, teaching.stored()) == []


# --- measured seconds -------------------------------------------------------------------------------------------------


def test_seconds_are_summed_by_section_and_stored_with_the_machine(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# 1. A"), nbformat.v4.new_code_cell("1"),
             nbformat.v4.new_markdown_cell("## Train"), nbformat.v4.new_code_cell("2"),
             nbformat.v4.new_markdown_cell("### More"), nbformat.v4.new_code_cell("3"),
             nbformat.v4.new_markdown_cell("## Look")]
    teaching.note("01_a", nbformat.v4.new_notebook(cells=cells), {1: 0.5, 3: 2.0, 5: 3.25}, tmp_path / "minutes")
    assert json.loads((tmp_path / "minutes" / "01_a.json").read_text()) == {
        teaching.OPENING: 0.5, "Train": 5.2, "Look": 0.0}
    (tmp_path / "figures").mkdir()
    teaching.collect(tmp_path, tmp_path / "minutes")
    kept = teaching.stored(tmp_path)
    assert kept["chapters"]["01_a"]["Train"] == 5.2 and "torch" in kept["machine"]


def test_nothing_is_invented_where_nothing_was_measured(tmp_path):
    teaching.collect(tmp_path, tmp_path / "none")
    assert teaching.stored(tmp_path) == {"machine": "", "chapters": {}}
    rows = teaching.sections_table(CHAPTERS[0], {}).splitlines()[2:]
    assert all(row.split("|")[2].strip() == "" for row in rows)


def test_stored_seconds_belong_to_sections_that_exist():
    names = {chapter.stem: {section.name for section in chapter.sections} for chapter in CHAPTERS}
    for name, seconds in teaching.stored()["chapters"].items():
        gone = set(seconds) - names.get(name, set())
        assert not gone, f"{name}: {sorted(gone)} were measured and are gone: build the notebook, run teaching.py"
