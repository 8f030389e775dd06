"""The page on the audit's truth: its tables are those of the stored studies, and these show what was asked of it."""

import json
import re
from pathlib import Path

import pytest
import study_tables
from test_references_and_figures import prose_and_references, uncited, unlisted

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "chapters" / "audit_truth.md"
FIGURES = ROOT / "chapters" / "figures"
STUDIES = ("audit_truth", "audit_slips", "memorisation")


def stored(name):
    return json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8"))


def page():
    return PAGE.read_text(encoding="utf-8")


def rows(text):
    return [line for line in text.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("name", STUDIES)
def test_the_tables_of_the_page_are_those_that_the_studies_print(name):
    part = next(part for part in page().split("\n## ") if f"STUDY={name}" in part)
    assert rows(part) == rows(study_tables.printed(name)), f"paste what {name}.py --table prints"


def test_at_most_two_of_two_hundred_honest_sets_are_accused():
    found = stored("audit_truth")
    assert found["honest_runs"] >= 200 and found["false_alarms"]["count"] <= 2


@pytest.mark.parametrize("kind", ["verbatim", "mirrored", "shifted", "contrast"])
def test_one_copy_in_five_hundred_is_seen(kind):
    assert stored("audit_truth")["one_in_500"][kind]["low"] > 0.95


@pytest.mark.parametrize("kind", ["turned by 12 degrees", "enlarged by 15 %"])
def test_copies_that_are_one_in_fifty_are_seen(kind):
    few = stored("audit_truth")["sets"][kind]["2%"]
    assert few["value"] == 1 and few["runs"] >= 8


def test_a_copy_that_is_seen_is_one_of_its_own_original():
    for kind, one in stored("audit_truth")["one_in_500"].items():
        assert one["flagged"] == round(one["value"] * one["planted"]), kind


def test_memory_is_seen_where_patients_are_few_and_not_where_they_are_many():
    runs = {(r["films"], r["poses"]): r for r in stored("memorisation")["runs"] if r["seed"] == 0}
    counts = sorted({films for films, _ in runs})
    few, many = runs[counts[0], 1], runs[counts[-1], 1]
    assert few["copied"]["low"] > 0.1 and "fail" in few["verdicts"].values()
    assert many["copies"] == 0 and "fail" not in many["verdicts"].values()


def test_every_reference_of_the_page_is_cited_and_every_figure_there_captioned_and_named():
    prose, entries = prose_and_references(page())
    assert (uncited(prose, entries), unlisted(prose, entries)) == ([], [])
    pictures = re.findall(r"!\[(.+?)\]\(figures/(\S+)\)\n\n\*\*Figure A\.(\d)\.\*\* ", page())
    assert [int(number) for *_, number in pictures] == list(range(1, page().count("![") + 1))
    for alt, name, number in pictures:
        assert len(alt) > 40 and (FIGURES / name).exists() and prose.count(f"igure A.{number}") >= 2, name
