"""The page on real films: its tables are those of the stored figures, and nothing is stored that the audit refuses."""

import json

import pytest
from benchmarks import real_films


def verdicts(*answers):
    return [{"question": question, "answer": "?", "verdict": verdict, "because": "a number"}
            for question, verdict in zip(real_films.PRIVACY, answers, strict=True)]


def test_samples_are_published_only_if_all_of_privacy_passes():
    assert real_films.refusals(verdicts("pass", "pass", "pass")) == []
    assert len(real_films.refusals(verdicts("pass", "flag", "unclear"))) == 2, "unclear is not a pass"
    assert "did not ask" in real_films.refusals(verdicts("pass", "pass", "pass")[:2])[0]


def test_the_page_shows_the_stored_figures():
    found = json.loads(real_films.JSON.read_text(encoding="utf-8"))
    page = real_films.PAGE.read_text(encoding="utf-8")
    assert real_films.filled(page, real_films.tables(found)) == page, "run real_films.py --from-json"
    assert real_films.refusals(found["verdicts"]) == []
    assert real_films.PICTURE.stat().st_size < 300_000


def test_the_stored_figures_name_no_file_of_a_patient():
    text = real_films.JSON.read_text(encoding="utf-8")
    assert ".png" not in text and '"closest"' not in text


def test_a_page_without_a_place_for_a_table_is_an_error():
    with pytest.raises(ValueError, match="0 places for 'audit'"):
        real_films.filled("no comments here", {"audit": "text"})
