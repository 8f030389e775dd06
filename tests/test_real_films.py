"""The page on real films: its tables are those of the stored figures, and nothing is stored that the audit refuses."""

import json

import pytest
from benchmarks import real_films

from genmed_core import audit


def verdicts(*answers):
    return [{"question": question, "answer": "?", "verdict": verdict, "because": "a number"}
            for question, verdict in zip(real_films.PRIVACY, answers, strict=True)]


def stored():
    return json.loads(real_films.JSON.read_text(encoding="utf-8"))


def test_samples_are_shown_only_if_all_of_privacy_passes():
    assert real_films.refusals(verdicts("pass", "pass", "pass", "pass", "pass")) == []
    assert len(real_films.refusals(verdicts("pass", "pass", "fail", "unclear", "pass"))) == 2, "unclear is not a pass"
    assert len(real_films.refusals(verdicts("unclear", "pass", "pass", "pass", "pass"))) == 1, "the control counts too"
    assert "did not ask" in real_films.refusals(verdicts("pass", "pass", "pass", "pass", "pass")[:3])[0]


def test_a_refused_set_leaves_no_picture_and_the_page_says_why():
    passing = {"verdicts": verdicts("pass", "pass", "pass", "pass", "pass")}
    assert "real_films.png" in real_films.pictures(passing)
    refused = real_films.pictures({"verdicts": verdicts("pass", "unclear", "pass", "pass", "pass")})
    assert ".png" not in refused and real_films.PRIVACY[1] in refused


def test_the_page_shows_the_stored_figures():
    page = real_films.PAGE.read_text(encoding="utf-8")
    assert real_films.filled(page, real_films.tables(stored())) == page, "run real_films.py --from-json"
    shown = not real_films.refusals(stored()["verdicts"])
    assert real_films.PICTURE.exists() == shown == ("real_films.png" in page)


def test_a_stored_pass_has_its_whole_interval_on_the_good_side():
    privacy = stored()["privacy"]
    found = {v["question"]: v["verdict"] for v in stored()["verdicts"]}
    for question, interval, bar in (("Are they closer to training images?", privacy["closer"], audit.BARS["closer"]),
                                    ("Can membership be inferred?", privacy["membership"], audit.BARS["membership"])):
        assert found[question] != "pass" or interval["high"] <= bar, question


def test_the_stored_figures_name_no_file_of_a_patient():
    text = real_films.JSON.read_text(encoding="utf-8")
    assert ".png" not in text and '"closest"' not in text


def test_a_page_without_a_place_for_a_table_is_an_error():
    with pytest.raises(ValueError, match="0 places for 'audit'"):
        real_films.filled("no comments here", {"audit": "text"})
