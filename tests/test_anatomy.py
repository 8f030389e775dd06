"""Anatomy in chest films: outlines of phantoms, measures of known shapes, and what the audit asks of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genmed_core import audit, data
from genmed_core.audit import anatomy, report
from genmed_core.audit.questions import BARS, judge
from genmed_core.synthetic import phantom


@pytest.fixture(scope="module")
def films():
    """120 phantoms that the segmenter never saw, their classes and factors."""
    return phantom.cxr_phantom(120, seed=77)


# --- the phantom's outlines -------------------------------------------------------------------------------------


def test_outlines_are_shares_and_lie_as_organs_do(films):
    organs = phantom.organs(films[2])
    assert organs.shape == (120, 3, 64, 64) and organs.min() >= 0 and organs.sum(1).max() <= 1 + 1e-6
    found = anatomy.measures(organs)
    assert found["found"].all(), "the phantom has two lungs and a heart between them"
    assert 0.35 < found["ctr"].median() < 0.55 and 0.15 < found["lungs"].median() < 0.5
    bright = films[0].float() / 255
    lung, heart = organs[:, :2].sum(1, keepdim=True), organs[:, 2:]
    inside = [(bright * x).sum() / x.sum() for x in (lung, heart)]
    assert inside[0] < inside[1] - 0.15, "lungs are dark, hearts are not"


def test_outlines_obey_the_factors(films):
    def with_more(name, amount):
        factors = {k: v[:12].clone() for k, v in films[2].items()}
        factors[name] = factors[name] + amount
        return anatomy.measures(phantom.organs(factors))

    plain = with_more("heart", 0.0)
    larger, deeper = with_more("heart", 1.5), with_more("volume", 0.8)
    assert (larger["ctr"] > plain["ctr"] + 0.01).all()
    assert (deeper["lungs"] > plain["lungs"]).all()


def test_outlines_of_a_finer_film_are_the_same_organs(films):
    few = {k: v[:3] for k, v in films[2].items()}
    fine = torch.nn.functional.avg_pool2d(phantom.organs(few, size=128), 2)
    assert (fine - phantom.organs(few)).abs().mean() < 0.01
    with pytest.raises(ValueError, match="size = 8"):
        phantom.organs(few, size=8)


# --- the segmenter and its measures -----------------------------------------------------------------------------


def test_measures_of_boxes_are_what_one_counts():
    shares = torch.zeros(1, 3, 64, 64)
    shares[0, 0, 10:50, 8:24] = 1  # 40 x 16
    shares[0, 1, 10:50, 40:52] = 1  # 40 x 12
    shares[0, 2, 30:50, 24:40] = 1  # 16 columns of the 44 from lung to lung
    found = {k: v.item() for k, v in anatomy.measures(shares).items()}
    assert found["ctr"] == pytest.approx(16 / 44) and found["lungs"] == pytest.approx(40 * 28 / 4096)
    assert found["asymmetry"] == pytest.approx(4 / 28) and found["found"]
    assert not anatomy.measures(shares[:, [1, 0, 2]])["found"], "the lungs have changed places"
    assert not anatomy.measures(0 * shares)["found"]


def test_the_segmenter_finds_the_organs_of_strange_phantoms(films):
    true, seen = (anatomy.measures(x) for x in (phantom.organs(films[2]), anatomy.outlines(films[0])))
    assert seen["found"].float().mean() > 0.97
    for name, error, correlation in (("ctr", 0.03, 0.7), ("lungs", 0.03, 0.9), ("asymmetry", 0.06, 0.6)):
        assert (true[name] - seen[name]).abs().mean() < error, name
        assert torch.corrcoef(torch.stack([true[name], seen[name]]))[0, 1] > correlation, name


def test_a_mirrored_film_has_its_lungs_on_the_other_sides(films):
    plain, mirrored = (anatomy.measures(anatomy.outlines(x)) for x in (films[0], films[0].flip(-1)))
    assert (plain["left"] - mirrored["right"]).abs().mean() < 0.02
    assert (plain["ctr"] - mirrored["ctr"]).abs().mean() < 0.03


# --- the question -----------------------------------------------------------------------------------------------


def asked(train, held, fake):
    found = anatomy.anatomy(train, held, fake, np.random.default_rng(0))
    good = {"privacy": {"control": {"value": 0.5, "low": 0.45, "high": 0.55}}, "anatomy": found}
    return judge(good, [q for q in report_questions() if "anatomy" in q.text or "control" in q.text])[-1], found


def report_questions():
    from genmed_core.audit.questions import QUESTIONS
    assert report.anatomy is anatomy.anatomy, "the report asks it"
    return QUESTIONS


def spread(n, seed, heart=0.45, lungs=0.3):
    """Made-up measures of n films."""
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(3, n, generator=g)
    return {"ctr": heart + 0.04 * noise[0], "lungs": lungs + 0.05 * noise[1], "asymmetry": 0.1 * noise[2],
            "found": torch.ones(n, dtype=torch.bool)}


@pytest.fixture
def made_up(monkeypatch):
    """Measures instead of films: {number of films: measures}."""
    sets = {}
    monkeypatch.setattr(anatomy, "outlines", len)
    monkeypatch.setattr(anatomy, "measures", sets.__getitem__)
    return sets


def test_honest_samples_pass_and_others_do_not(made_up):
    made_up |= {2000: spread(2000, 0), 1500: spread(1500, 1), 501: spread(501, 2), 502: spread(502, 3, heart=0.47),
                40: spread(40, 4)}
    train, held, honest, larger, few = (torch.zeros(n) for n in made_up)
    verdict, found = asked(train, held, honest)
    assert verdict["verdict"] == "pass" and abs(found["ctr"]["excess"]["value"]) < 0.1
    verdict, found = asked(train, held, larger)
    assert verdict["verdict"] == "fail" and found["ctr"]["excess"]["low"] > BARS["anatomy"]
    assert found["ctr"]["excess"]["value"] == pytest.approx(0.02 / 0.04, abs=0.15)
    assert asked(train, held, few)[0]["verdict"] == "unclear"


def test_samples_without_lungs_fail_and_other_pictures_are_not_asked(made_up):
    made_up |= {2000: spread(2000, 0), 1500: spread(1500, 1), 501: spread(501, 2)}
    train, held, fake = (torch.zeros(n) for n in made_up)
    made_up[501]["found"][:100] = False
    verdict, found = asked(train, held, fake)
    assert verdict["verdict"] == "fail" and found["lost"]["value"] == pytest.approx(100 / 501)
    made_up[501]["found"][:] = False
    verdict, found = asked(train, held, fake)
    assert verdict["verdict"] == "fail" and found["ctr"] is None
    made_up[1500]["found"][:300] = False
    assert anatomy.anatomy(train, held, fake, np.random.default_rng(0)) is None
    assert judge({"privacy": {"control": {"value": 0.5, "low": 0.45, "high": 0.55}}, "anatomy": None},
                 [q for q in report_questions() if "anatomy" in q.text]) == []


def test_digits_noise_and_turned_films_are_no_chests(films):
    g = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (60, 1, 64, 64), generator=g, dtype=torch.uint8)
    blobs = torch.nn.functional.interpolate(noise[:, :, :6, :6].float(), 64, mode="bilinear").to(torch.uint8)
    strokes = torch.nn.functional.interpolate(data.digits("val", source="embedded").images[:60].float(), 64)
    for images in (noise, blobs, strokes.to(torch.uint8), torch.full_like(noise, 90), films[0].rot90(1, (2, 3))):
        found = anatomy.measures(anatomy.outlines(images))
        assert found["found"].float().mean() < 0.5 and not anatomy.chests(found)


def test_an_audit_of_phantoms_speaks_of_anatomy(films, monkeypatch):
    monkeypatch.setattr(report, "PLANTED", 4)  # copies, which are not the question here
    images, labels, _ = films
    names = [f"{i}" for i in range(40)]
    three = [audit.Folder(images[i : i + 40], names, [], labels[:0], []) for i in (0, 40, 80)]
    found = audit.audit(*three, effort=0.02)
    assert found["anatomy"]["found"]["train"] > 0.9
    assert "cardiothoracic ratio, sd apart" in audit.table(found)
    assert any(v["question"] == "Is the anatomy that of real films?" for v in found["verdicts"])
    assert "<h2>Anatomy</h2>" in audit.page(found, three[0], three[2])


# --- the studies ------------------------------------------------------------------------------------------------


def test_the_table_of_groups_adds_the_counts_of_seeds(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent / "benchmarks" / "studies"))
    import groups

    counts = dict.fromkeys(groups.ROWS, [3, 100])
    readings = {k: [3, 100] for k in groups.ROWS if k.startswith(("mild", "severe", "share"))}
    run = {"reader": dict.fromkeys(groups.FACTORS, 0.5), "test films": readings, "training films": counts,
           "samples": {"1": counts | {"mild": [40, 100]}, "5": counts}}
    lines = groups.table({"runs": [run, run]}).splitlines()
    assert lines[0] == "| share, % | films | w = 1 | w = 5 |" and len(lines) == 2 + len(groups.ROWS) + 2
    assert lines[2].endswith("| 3 (1 to 6) | 40 (33 to 47) | 3 (1 to 6) |")
    assert lines[-1].startswith("Seeds: 2. Correlation") and "severity 0.50" in lines[-1]
