"""The study of unpaired translators and the slider of chapter 10: what is counted, stored and shown is the same."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import study_tables
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(study_tables.STUDIES), str(ROOT / "jupyter_book_config")]
import stored_widgets  # noqa: E402
import unpaired_shares as study  # noqa: E402

PICTURE = study.JSON.with_suffix(".png")
STORED = json.loads(study.JSON.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENMED_RUNS", str(tmp_path_factory.mktemp("runs")))
        return study.drawn(8, 29, 8)


def test_a_perfect_translator_paints_nothing_and_one_that_makes_ill_paints_in_everybody(few):
    def bright(x):
        return (x.mean((1, 2, 3)) > 1).float()

    shows = few["opaque"].flatten(1).sum(1) > 5
    perfect = study.counted(study.scanner, lambda x: few["ill"], bright, few)
    assert perfect == {"made ill": [0] * 8, "painted": [0] * 8, "erased": [0] * int(shows.sum())}
    harmful = study.counted(lambda x: study.scanner(few["ill"]), lambda x: few["well"], lambda x: 1 - bright(x), few)
    assert harmful["made ill"] == [1] * 8 and sum(harmful["painted"]) >= shows.sum() - 1
    assert harmful["erased"] == [1] * int(shows.sum())


def test_films_come_back_as_they_were_kept_and_so_does_who_is_ill(few, tmp_path):
    strips = {name: study.side_by_side(few["well"] / k) for k, name in enumerate([*study.BESIDE, *study.SHARES], 1)}
    found = STORED | {"runs": [{"setting": name, "seed": study.SHOWN_SEED, "made ill": [0, 1] * 100}
                               for name in study.SETTINGS]}
    study.keep(tmp_path / "films.png", dict(reversed(strips.items())), found)
    back = study.kept(tmp_path / "films.png")
    assert list(back) == list(strips) and all(np.array_equal(back[name], strips[name]) for name in strips)
    assert study.kept(tmp_path / "none.png") == {}


def test_the_picture_has_a_row_for_each_share_and_the_counts_of_the_study():
    with Image.open(PICTURE) as picture:
        told = json.loads(picture.text["found"])
        assert picture.mode == "L" and picture.size == (study.SHOWN * study.SIDE, len(told["films"]) * study.SIDE)
    assert told["films"] == [*study.BESIDE, *study.SHARES]
    assert told["rulers"] == STORED["rulers"] and told["rows"] == {name: STORED["rows"][name] for name in study.SHARES}
    first = {run["setting"]: run["made ill"] for run in STORED["runs"] if run["seed"] == study.SHOWN_SEED}
    assert told["made ill"] == {name: first[name][:study.SHOWN] for name in study.SHARES}


def test_the_kept_films_are_of_one_patient_in_each_column():
    strips = study.kept(PICTURE)
    a, b = (torch.from_numpy(strips[name]) / 255 for name in study.BESIDE)
    assert (study.scanner(a) - b).abs().max() < 1.2 / 255, "the true film of B is the film of A by the other scanner"
    for name in study.SHARES:
        after = torch.from_numpy(strips[name]) / 255
        off = [(after - other).abs().mean() for other in (b, torch.roll(b, study.SIDE, 1))]
        assert off[0] < off[1] / 2, f"{name}: nearer to one's own film than to the neighbour's"


def test_the_slider_says_of_each_share_what_the_study_counted():
    models = stored_widgets.kept(stored_widgets.path_for(ROOT / "chapters" / "10_translation.ipynb"))
    slider, = (m["state"] for m in models.values() if "lesions invented" in m["state"].get("caption", ""))
    labels = slider["sliders"][0]["labels"]
    assert len(labels) == len(study.SHARES) and len(slider["order"]) == 2 * len(labels) == len(set(slider["order"]))
    for label, name in zip(labels, study.SHARES, strict=True):
        row = STORED["rows"][name]
        wanted = ", ".join(study.in_words(row[what]).replace(" %", f" % {what}") for what in ("made ill", "painted"))
        assert label.replace("\u00a0", " ") == name.replace("% of B ill", " %: ") + wanted


def test_every_interval_of_made_ill_holds_what_the_shares_ask_for_and_those_of_the_ends_do_not_meet():
    false, finds = (STORED["rulers"][words]["value"] for words in ("healthy that the classifier calls ill",
                                                                   "opacities that the classifier finds"))
    made_ill = {r: STORED["rows"][name]["made ill"] for name, (r, *_) in study.SHARES.items()}
    for r, row in made_ill.items():
        assert row["low"] <= false + r * (finds - false) <= row["high"], f"a share of {r}"
    assert made_ill[0.0]["high"] < made_ill[0.5]["low"]
