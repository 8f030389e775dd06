"""The audit of synthetic images: honest samplers pass, memorisers and poor samplers are flagged, with numbers."""

import functools
import io
import itertools
import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from genmed_core import audit
from genmed_core.audit import (
    AuditError,
    Folder,
    auc,
    embedding,
    equal_share,
    fingerprints,
    main,
    nearest,
    neighbours,
    read_folder,
    usefulness,
    views,
)
from genmed_core.audit.attacks.closer import among_closest
from genmed_core.audit.folders import usable
from genmed_core.audit.intervals import excess_share, hits, interval, median_ratio, share, tail_bar
from genmed_core.audit.questions import beyond, short_of, worst
from genmed_core.audit.report import Prepared


def blobs(n, seed):
    """n images that no two alike: 14 soft blobs on grey and some noise; in class 1 a bright one on the left."""
    g = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    labels = torch.randint(0, 2, (n,), generator=g)
    place, width = torch.rand(n, 14, 2, generator=g), 0.04 + 0.1 * torch.rand(n, 14, generator=g)
    height = 0.25 * torch.randn(n, 14, generator=g)
    place[:, 0] = 0.1 * place[:, 0] + torch.stack([torch.tensor(0.25).expand(n), 0.75 - 0.5 * labels], 1)
    height[:, 0] = 0.6
    images = torch.full((n, 64, 64), 0.45)
    for p, w, h in zip(place.unbind(1), width.unbind(1), height.unbind(1)):
        squared = (x - p[:, 0, None, None]) ** 2 + (y - p[:, 1, None, None]) ** 2
        images += h[:, None, None] * torch.exp(-squared / (2 * w[:, None, None] ** 2))
    images += 0.03 * torch.randn(n, 64, 64, generator=g)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)[:, None], labels


def folder(images, labels=None, name="x"):
    classes = ["left", "right"] if labels is not None else []
    labels = labels if labels is not None else torch.zeros(0, dtype=torch.int64)
    return Folder(images, [f"{name}{i}.png" for i in range(len(images))], classes, labels, [])


def changed(images, kind, seed=0):
    """Copies of images with small changes of one kind."""
    g, x = torch.Generator().manual_seed(seed), images.float() / 255
    if kind in ("noise", "all"):
        x = x + 0.03 * torch.randn(x.shape, generator=g)
    if kind in ("shift", "all"):
        x = F.pad(x, (4, 4, 4, 4), mode="replicate")
        by = torch.randint(0, 9, (len(x), 2), generator=g).tolist()
        x = torch.stack([image[:, a:a + 64, b:b + 64] for image, (a, b) in zip(x, by)])
    if kind in ("brightness", "all"):
        shape = (len(x), 1, 1, 1)
        x = x * (0.7 + 0.6 * torch.rand(shape, generator=g)) + 0.1 * torch.randn(shape, generator=g)
    if kind in ("flip", "all"):
        x = x.flip(-1)
    if kind == "blur":
        x = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def briefly(real, held, fake, classes, **options):
    """`utility`; a few images teach hardly anything, so networks learn of them for a moment only."""
    less = {"runs": 2, "steps": 3} if len(real[0]) < 100 else {}
    return audit.utility(real, held, fake, classes, **options | less)


@pytest.fixture(scope="module", autouse=True)
def few_planted():
    """Whole audits plant few canaries here and train on small batches, small ones also briefly: tests of their own hold
    what both find."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genmed_core.audit.report.PLANTED", 4)
        patch.setattr("genmed_core.audit.usefulness.BATCH", 32)
        patch.setattr("genmed_core.audit.usefulness.utility", briefly)
        yield


@pytest.fixture(scope="module")
def world():
    """800 images and their labels; and the fingerprints of all."""
    images, labels = blobs(800, 0)
    return images, labels, fingerprints(images)


@functools.cache
def known(train, held, steps=40):
    """What is learned of slices of the world, once for all tests."""
    images, _ = blobs(800, 0)
    return audit.Known(images[slice(*train)], images[slice(*held)], np.random.default_rng(0), steps=steps)


QUESTIONS = ("control", "copies", "looks", "varied", "trains", "helps", "closer", "membership", "resemble")


def seen(found):
    return {"planted": 40, "found": found, **share(found, 40)}


SEEN = {kind: seen(40) for kind in audit.KINDS}


def verdicts(report):
    words = ("fair control", "copies", "look real", "varied", "train a", "help", "closer", "embership", "resemble")
    found = {v["question"]: v["verdict"] for v in report["verdicts"]}
    return {name: found[q] for name, word in zip(QUESTIONS, words) for q in found if word in q}


def judged_privacy(found, counts):
    one = {"value": 1.0, "low": 1.0, "high": 1.0}
    report = {"quality": {"intervals": dict.fromkeys(("fd_ratio", "detail", "coverage_ratio"), one)}, "utility": None,
              "privacy": found, "counts": counts, "canaries": SEEN}
    return verdicts({"verdicts": audit.judge(report)})


@pytest.fixture
def private(world):
    """What attacks find for a train and a held-out set, ends of slices of the world, and samples; and the verdicts."""
    def run(train, held, fake):
        fake = world[0][fake] if isinstance(fake, slice) else fake
        found = audit.privacy(audit.Neighbours(known(train, held), fake, np.random.default_rng(0)))
        counts = dict(zip(audit.SETS, (train[1] - train[0], held[1] - held[0], len(fake))))
        return found, judged_privacy(found, counts)

    return run


# --- the pieces -----------------------------------------------------------------------------------------


def test_fingerprints_do_not_see_brightness_and_contrast(world):
    x = world[0][:50].clamp(60, 200)
    brighter = (x.float() * 0.8 + 40).round().to(torch.uint8)
    a, b = (F.normalize(fingerprints(i).flatten(1), dim=1) for i in (x, brighter))
    assert (a * b).sum(1).min() > 0.98


@pytest.mark.parametrize("kind", ["noise", "shift", "brightness", "flip", "all"])
def test_the_copy_detector_finds_the_original(world, kind):
    distance, index = nearest(fingerprints(changed(world[0][:150], kind)), world[2])
    strangers, _ = nearest(world[2][:150], world[2][150:])
    assert (index == torch.arange(150)).float().mean() > 0.95
    assert distance.quantile(0.9) < strangers.quantile(0.05), "nine of ten copies are closer than hardly any stranger"


def test_nobody_is_his_own_neighbour(world):
    prints = world[2][:60]
    distance, index = nearest(prints, prints, own=torch.arange(60))
    assert (index != torch.arange(60)).all() and distance.min() > 0.05
    assert nearest(prints, prints)[0].max() < 1e-4


def test_alignment_is_correlation_at_the_best_shift(world):
    query, other = world[2][:1], world[2][1:2]
    middle = query[0, 3:-3, 3:-3].flatten()
    windows = other.unfold(1, 26, 1).unfold(2, 26, 1).reshape(49, -1)
    best = max(torch.corrcoef(torch.stack([middle, w]))[0, 1] for w in windows)
    assert neighbours._aligned(query, other[None])[0, 0] == pytest.approx(best.item(), abs=1e-5)


@pytest.mark.parametrize("n, m", [(100, 100), (400, 50), (50, 400)])
def test_the_share_is_fair_whatever_the_set_sizes_and_its_interval_is_honest(n, m):
    rng, values, covered = np.random.default_rng(0), [], 0
    for _ in range(100):
        points, samples = rng.normal(size=(n + m, 4)), rng.normal(size=(150, 4))
        index = ((samples[:, None] - points[None]) ** 2).sum(2).argmin(1)
        found = equal_share(index < n, index, n / m, rng)
        values.append(found["value"])
        covered += found["low"] <= 0.5 <= found["high"]
    assert np.mean(values) == pytest.approx(0.5, abs=0.03)
    assert covered >= 88


@pytest.mark.parametrize("n, m", [(360, 40), (40, 360)])
def test_images_are_as_often_nearest_to_either_set_as_the_sizes_say(world, n, m):
    """Over many divisions of the same images; searching each set apart favoured the smaller one."""
    rng, values = np.random.default_rng(1), []
    for _ in range(3):
        order = torch.from_numpy(rng.permutation(800))
        real, fake = world[2][order[:n + m]], world[2][order[n + m:]]
        _, index = nearest(fake, real)
        values.append(equal_share(index.numpy() < n, index.numpy(), n / m, rng)["value"])
    assert np.mean(values) == pytest.approx(0.5, abs=0.12)


def test_one_neighbour_says_nothing_and_many_do():
    rng = np.random.default_rng(0)
    assert equal_share(np.ones(100, bool), np.zeros(100), 1, rng)["low"] < 0.05, "100 samples of one image"
    assert equal_share(np.ones(100, bool), np.arange(100), 1, rng)["low"] > 0.95
    assert equal_share(np.zeros(100, bool), np.arange(100), 1, rng)["high"] < 0.05


def test_auc_against_the_closed_form():
    rng = np.random.default_rng(0)
    found = auc(rng.normal(1, 1, 2000), rng.normal(0, 1, 2000), rng)
    assert found["value"] == pytest.approx(0.5 * (1 + math.erf(0.5)), abs=0.015)
    assert found["low"] < 0.760 < found["high"] and found["high"] - found["low"] == pytest.approx(0.03, abs=0.01)
    assert auc(np.zeros(20), np.zeros(30), rng)["value"] == pytest.approx(0.5)


# --- privacy --------------------------------------------------------------------------------------------

HALVES = (0, 250), (250, 500)


@pytest.mark.parametrize("train, held", [HALVES, ((0, 440), (440, 500))])
def test_an_honest_sampler_never_fails_whatever_the_set_sizes(private, train, held):
    found, verdicts = private(train, held, slice(500, 620))
    assert verdicts["copies"] in ("pass", "unclear") and "fail" not in verdicts.values()
    assert found["copies"] == [] and found["risk"]["beyond"] == 0
    assert abs(found["closer"]["value"] - 0.5) < 0.2 and 0.9 < found["ratio_train"]["value"] < 1.1
    assert abs(found["authenticity"]["value"] - found["authenticity_held_out"]["value"]) < 0.25


@pytest.mark.parametrize("kind", ["noise", "all"])
def test_a_memoriser_fails_whatever_it_changes(world, private, kind):
    found, verdicts = private(*HALVES, changed(world[0][:120], kind))
    assert [verdicts[q] for q in ("closer", "copies", "membership", "resemble")] == ["fail"] * 4
    assert found["closer"]["low"] > 0.9 and found["membership"]["low"] > 0.65
    assert len(found["copies"]) > 90 and found["ratio_train"]["high"] < 0.6
    assert found["authenticity"]["high"] < 0.2 < found["authenticity_held_out"]["low"]
    assert found["risk"]["beyond"] > 60


@pytest.mark.parametrize("kind", ["verbatim", "mirrored", "shifted", "contrast", "turned by 12 degrees",
                                  "enlarged by 15 %", "turned, zoomed, shifted, mirrored"])
def test_one_copy_among_many_fails_and_is_named(world, private, kind):
    fakes = torch.cat([world[0][500:560], audit.planted(kind, world[0][17:18], seed=3)])
    found, verdicts = private(*HALVES, fakes)
    assert verdicts["copies"] == "fail"
    assert [(pair["synthetic"], pair["train"]) for pair in found["copies"]] == [(60, 17)]


def test_a_copy_is_listed_with_the_pose_that_it_has(world, private):
    pose = views.Pose(*(torch.tensor([x]) for x in (9.0, 1.12, [0.03, -0.02])), torch.tensor([True]))
    copy = views.placed(world[0][30:31].float() / 255, pose)
    found, _ = private(*HALVES, torch.cat([world[0][500:560], (255 * copy).round().to(torch.uint8)]))
    (pair,) = found["copies"]
    assert pair["turned"] == pytest.approx(9, abs=1) and pair["zoomed"] == pytest.approx(1.12, abs=0.02)
    assert pair["shift"] == pytest.approx([1.92, -1.28], abs=0.5) and pair["mirrored"] is True


def test_a_few_copies_are_found_although_patients_come_twice(world):
    """Where some held-out patients have another film in the training set, the closest strangers are very close."""
    images = world[0].clone()
    images[:8] = changed(images[250:258], "noise", seed=1)
    real = audit.Known(images[:250], images[250:500], np.random.default_rng(0), steps=12)
    for copied, count in ((images[500:506], 0), (changed(images[10:16], "brightness"), 6)):
        fakes = torch.cat([images[560:620], copied])
        found = audit.privacy(audit.Neighbours(real, fakes, np.random.default_rng(0)))
        assert len(found["copies"]) == count and found["held_out_copies"] == 8


def test_a_patient_whose_film_is_copied_stands_out(world, private):
    found, verdicts = private(*HALVES, torch.cat([world[0][500:600], changed(world[0][17:18], "noise")]))
    risk = found["risk"]
    assert risk["highest"][0]["train"] == 17 and risk["beyond"] == 1 and verdicts["membership"] == "fail"
    assert risk["highest"][0]["false_alarms"] == pytest.approx(1 / 251) and risk["of"] == 250
    assert found["membership"]["value"] < 0.6, "the mean hides him"
    assert risk["quantiles"]["highest"] > 2 * risk["quantiles"]["99 %"]


@pytest.mark.parametrize("change", [None, "blur", "noise"])
def test_looking_among_the_closest_raises_no_false_alarm(world, change):
    """Many divisions into three, one blurred or made noisy as a poor generator would; 1 in 100 may be flagged."""
    rng, alarms = np.random.default_rng(2), 0
    fakes = world[2] if change is None else fingerprints(changed(world[0], change))
    for n, m in [(250, 250), (440, 60), (60, 440)] * 4:
        order = torch.from_numpy(rng.permutation(800))
        real, fake = world[2][order[:n + m]], fakes[order[n + m:]]
        distance, neighbours = nearest(fake, real)
        alarms += any(k["chance"] < audit.ALPHA / 3 for k in among_closest(distance, neighbours, n, m))
    assert alarms <= 1


def test_the_chance_among_the_closest_is_that_of_random_memberships():
    rng, n, m = np.random.default_rng(0), 20, 30
    closeness, neighbours = torch.arange(200.0), torch.arange(200) % 10  # ten real images, all equally often
    for count in (3, 6, 8):
        members = torch.from_numpy(rng.permutation(n + m))  # new numbers: the first n are trained on
        members = torch.cat([members[members < n][:count], members[members >= n][:10 - count]])
        found = among_closest(closeness, members[neighbours], n, m)[1]
        drawn = np.array([(rng.permutation(n + m)[:10] < n).sum() >= count for _ in range(4000)])
        assert found["train"] == count and found["neighbours"] == 10 and found["expected"] == pytest.approx(4)
        assert found["chance"] == pytest.approx(drawn.mean(), abs=0.025)


def test_many_samples_of_one_training_image_are_copies(world, private):
    _, verdicts = private(*HALVES, changed(world[0][:1].repeat(60, 1, 1, 1), "noise"))
    assert verdicts["copies"] == "fail"


def test_blur_alone_is_no_memory(world, private):
    found, verdicts = private(*HALVES, changed(world[0][500:620], "blur"))
    assert found["copies"] == [] and "fail" not in (verdicts["closer"], verdicts["copies"], verdicts["resemble"])


def test_a_held_out_set_of_another_kind_is_no_control(world):
    other = world[0][120:240].clone()
    other[:, :, 20:44, 20:44] = 0  # another hospital's marker
    real = audit.Known(world[0][:120], other, np.random.default_rng(0), steps=2)
    found = audit.privacy(audit.Neighbours(real, world[0][500:530], np.random.default_rng(0)))
    assert judged_privacy(found, dict.fromkeys(audit.SETS, 120))["control"] == "fail"


# --- the learned embedding, alignment, canaries -----------------------------------------------------------


def test_the_contrastive_loss_is_that_of_its_paper():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 5, generator=g).unbind(0)
    z = F.normalize(torch.cat([a, b]), dim=1)
    terms = []
    for i, j in ((0, 3), (1, 4), (2, 5), (3, 0), (4, 1), (5, 2)):
        alike = [math.exp(float(z[i] @ z[k]) / 0.5) for k in range(6) if k != i]
        terms.append(-math.log(math.exp(float(z[i] @ z[j]) / 0.5) / sum(alike)))
    assert embedding.nt_xent(a, b, 0.5).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_training_teaches_the_embedding_to_know_images_again(world):
    untrained, trained = known(*HALVES, steps=12).embedding.validation, known(*HALVES).embedding.validation
    assert trained["nearest"] > max(0.5, untrained["nearest"] + 0.05) and trained["among_first"] > 0.8
    assert trained["distractors"] == 499 and trained["copies"] == 250


def test_poses_do_what_they_say():
    x = torch.zeros(1, 1, 64, 64)
    x[0, 0, 32, 48] = 1  # to the right of the middle
    one = views.no_pose(1)

    def where(pose):
        spot = views.placed(views.softened(x, 1.5), pose)[0, 0]
        return divmod(int(spot.argmax()), 64)

    down, right = where(one._replace(turn=torch.tensor([90.0])))
    assert down < 18 and abs(right - 32) <= 1, "against the clock: up"
    assert where(one._replace(mirrored=torch.tensor([True])))[1] < 18
    assert where(one._replace(shift=torch.tensor([[0.125, 0.25]]))) == (48, 56)
    assert where(one._replace(zoom=torch.tensor([1.5])))[1] == pytest.approx(56, abs=1)


def test_canaries_say_how_blind_the_audit_was(world):
    neighbours_ = audit.Neighbours(known(*HALVES), world[0][500:560], np.random.default_rng(0))
    bars = audit.privacy(neighbours_)["copy_bars"]
    found = audit.canaries(neighbours_, bars, each=12)
    assert found["verbatim"]["found"] == found["mirrored"]["found"] == found["verbatim"]["planted"] == 12
    assert found["half and half with another"]["found"] < 6 and found["verbatim"]["low"] < 0.8
    assert not any(one["found"] for one in audit.canaries(neighbours_, [9.0, 9.0], each=12).values())


def test_every_kind_of_canary_changes_the_image_and_verbatim_does_not(world):
    x = world[0][:4]
    for kind in audit.KINDS:
        changed_ = audit.planted(kind, x)
        assert changed_.shape == x.shape and changed_.dtype == torch.uint8
        assert torch.equal(changed_, x) == (kind == "verbatim"), kind


# --- fidelity, variety, usefulness, and the whole -------------------------------------------------------


@pytest.fixture(scope="module")
def reports(world):
    """Whole audits of an honest, a blurring, a collapsed and a useless sampler."""
    images, labels, _ = world
    real = [folder(images[:250], labels[:250]), folder(images[250:500], labels[250:500])]
    fake, asked = images[500:750], labels[500:750]
    sets = {"honest": (fake, asked), "blurred": (changed(fake, "blur"),),
            "collapsed": (changed(fake[:5].repeat(24, 1, 1, 1), "noise"),),
            "mislabelled": (fake[:120], 1 - asked[:120])}
    prepared = Prepared(*real, known((0, 250), (250, 500)), 0.1)  # what `prepare` makes, and the tests above have
    return {name: audit.audit(*real, folder(*pair), known=prepared) for name, pair in sets.items()}


def test_honest_samples_fail_nothing(reports):
    report = reports["honest"]
    found = verdicts(report)
    assert "fail" not in found.values() and set(found) == set(QUESTIONS)
    q, useful = report["quality"], report["utility"]
    assert q["synthetic"]["fd"] == pytest.approx(q["floor"]["fd"], rel=0.4)
    assert q["synthetic"]["detail"] == pytest.approx(1, abs=0.1)
    assert abs(useful["gap"]["value"]) < 0.1 and useful["real"]["low"] > 0.7
    assert useful["n"] == useful["ten"] == 250 and "all_real" not in useful and "ten_synthetic" not in useful
    for name in ("fd_ratio", "detail", "coverage_ratio"):
        one = q["intervals"][name]
        assert one["low"] < 1 < one["high"] and one["low"] < one["value"] < one["high"], name


def test_blur_shows_in_the_fine_detail(reports):
    assert verdicts(reports["blurred"])["looks"] == "fail"
    assert reports["blurred"]["quality"]["intervals"]["detail"]["high"] < 0.5
    assert reports["blurred"]["utility"] is None
    floor = reports["blurred"]["quality"]["floor"]
    assert floor["detail"] == pytest.approx(1, abs=0.1), "the floor is of training images"
    assert floor["fd"] == pytest.approx(reports["honest"]["quality"]["floor"]["fd"])


def test_collapse_shows_in_the_coverage(reports):
    assert verdicts(reports["collapsed"])["varied"] == "fail"
    assert reports["collapsed"]["quality"]["synthetic"]["recall"] < 0.1


def test_wrong_labels_show_in_the_usefulness(reports):
    assert verdicts(reports["mislabelled"])["trains"] == "fail"
    assert reports["mislabelled"]["utility"]["synthetic"]["value"] < 0.3
    assert verdicts(reports["mislabelled"])["looks"] != "fail"


def test_the_report_is_json_and_a_table(reports):
    for report in reports.values():
        assert json.loads(json.dumps(report, allow_nan=False))["counts"]["train"] == 250
        text = audit.table(report)
        assert all(v["question"] in text and v["bar"] in text for v in report["verdicts"])
        assert all(kind in text for kind in audit.KINDS) and "hits at 1 % false alarms" in text
        assert text.endswith(report["not_tested"][-1]) and len(report["not_tested"]) > 4


def test_no_sentence_licenses_a_release(reports):
    code = Path(audit.__file__).parent.rglob("*.py")
    text = " ".join(path.read_text(encoding="utf-8") for path in code).lower()
    text += " ".join(map(audit.table, reports.values())).lower()
    for words in ("may send", "safe to", "can be released", "may be released", "may publish", "are private"):
        assert words not in text, words


def test_usefulness_is_measured_on_more_where_more_is_given(world, monkeypatch):
    images, labels, _ = world
    sizes = {}

    def read(x, y, test, classes, *, seed, steps):
        sizes.setdefault(len(x), 0)
        sizes[len(x)] += 1
        return torch.where(torch.arange(len(test)) % 10 < 8, 0, 1)

    monkeypatch.setattr("genmed_core.audit.usefulness.learned", read)
    held = images[:40], torch.tensor([0, 1]).repeat(20)
    found = audit.utility((images[:40], labels[:40]), held, (images[40:400], labels[40:400]), 2, runs=3)
    assert sizes == {40: 6, 360: 3, 80: 3} and found["ten"] == 360
    assert found["real"]["value"] == pytest.approx(0.5) and found["gap"]["value"] == 0
    assert found["ten_synthetic"]["value"] == pytest.approx(0.5)


def test_a_network_learns_the_classes_it_is_shown(world):
    images, labels, _ = world
    read = usefulness.learned(images[:200], labels[:200], images[200:400], 2, seed=0, steps=60)
    assert (read == labels[200:400]).float().mean() > 0.8


@pytest.fixture(scope="module")
def forty(world):
    """Three folders of forty images, of files with odd names."""
    images, labels, _ = world
    return [folder(images[a:a + 40], labels[a:a + 40], name="Zoë\udcff") for a in (0, 40, 80)]


@pytest.fixture(scope="module")
def audited(forty):
    """The report of a small audit of them."""
    return audit.audit(*forty, effort=0.05)


def test_the_same_seed_gives_the_same_report(forty, audited):
    sets, prepared = forty, audit.prepare(*forty[:2], effort=0.05)
    assert audited == audit.audit(*sets, known=prepared)
    with pytest.raises(AuditError, match="known: made of other real images"):
        audit.audit(sets[1], sets[0], sets[2], known=prepared)
    with pytest.raises(AuditError, match="effort 0: give a number above 0"):
        audit.prepare(*sets[:2], effort=0)


def test_held_out_images_from_the_training_set_and_classes_that_not_all_have_are_dropped(world):
    images, labels, _ = world
    train, held, fake = (folder(images[a:b], labels[a:b]) for a, b in ((0, 60), (30, 120), (200, 240)))
    report = audit.audit(train, held, fake._replace(classes=["left", "another"]), effort=0.05)
    assert report["counts"]["held-out"] == 60 and report["utility"] is None
    notes = report["notes"]
    assert "held-out: images dropped, 30 also training images" in " ".join(notes)
    assert any("without another, right" in note for note in notes) and any("fewer than two" in note for note in notes)
    with pytest.raises(AuditError, match="0 of 60 images are left without 60 also training images; at least"):
        audit.audit(folder(images[:60]), folder(images[:60]), folder(images[200:240]))


# --- folders and the command line -----------------------------------------------------------------------


def save(place, images, kind="png", mode="L", size=64):
    place.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image[0].numpy()).resize((size, size)).convert(mode).save(place / f"{i:03d}.{kind}")
    return place


@pytest.fixture
def places(world, tmp_path):
    images, labels, _ = world
    for name, start in (("train", 0), ("held", 40), ("fake", 80)):
        for label, word in enumerate(("left", "right")):
            some = images[start:start + 40][labels[start:start + 40] == label]
            save(tmp_path / name / word, some)
    (tmp_path / "film.png").write_bytes((tmp_path / "fake" / "left" / "000.png").read_bytes())
    return tmp_path


def arguments(place, *more, train="train", held="held", fake="fake"):
    return ["--train", str(place / train), "--held-out", str(place / held), "--synthetic", str(place / fake),
            "--effort", "0.05", *more]


def test_the_command_line_prints_a_table_and_writes_json_and_one_damaged_file_is_left_out_and_said(places, capsys):
    (places / "fake" / "left" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(arguments(places, "--json", str(places / "report.json"))) == 0
    out = capsys.readouterr().out
    assert "note: synthetic: 1 of the files left out, such as left/broken.png: " in out
    assert "Are there copies of training images?" in out and "balanced accuracy" in out and "fewer than 200" in out
    report = json.loads((places / "report.json").read_text())
    assert report["counts"] == dict.fromkeys(audit.SETS, 40) and len(report["verdicts"]) == 9
    assert report["privacy"]["closest"][0]["synthetic"].endswith(".png")
    assert {one["planted"] for one in report["canaries"].values()} == {4}


def test_a_finding_is_no_failure(places, capsys):
    assert main(arguments(places, fake="copied")) == 2, "no such folder yet"
    for word in ("left", "right"):
        (places / "copied").mkdir(exist_ok=True)
        (places / "train" / word).rename(places / "copied" / word)
        save(places / "train" / word, [torch.from_numpy(np.array(Image.open(p)))[None]
                                       for p in (places / "copied" / word).iterdir()])
    assert main(arguments(places, fake="copied")) == 0
    assert "FAIL Are there copies" in capsys.readouterr().out


def test_sizes_modes_and_formats_do_not_matter(world, tmp_path):
    images = world[0][:36]
    plain = read_folder(save(tmp_path / "plain", images)).images.float()
    for kind, mode, size in (("png", "RGB", 64), ("png", "RGBA", 64), ("png", "LA", 128), ("jpg", "L", 100),
                             ("JPEG", "RGB", 299), ("png", "P", 64)):
        other = read_folder(save(tmp_path / f"{kind}{mode}{size}", images, kind, mode, size)).images.float()
        assert (other - plain).abs().mean() < 6
    (tmp_path / "deep").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[0].numpy().astype(np.uint16) * 257).save(tmp_path / "deep" / f"{i:03d}.png")
    assert torch.equal(read_folder(tmp_path / "deep").images.float(), plain)


def test_sizes_and_depths_that_may_mislead_are_noted(world, tmp_path):
    images = world[0][:120]
    save(tmp_path / "train", images[:40])
    save(tmp_path / "held", images[40:79], size=24)
    Image.fromarray(images[79, 0].numpy()).resize((90, 70)).save(tmp_path / "held" / "wide.png")
    odd("twelve bits", save(tmp_path / "fake", images[80:119]) / "deep", images[119])
    _, notes = usable(*(read_folder(tmp_path / name) for name in ("train", "held", "fake")))
    assert notes[:4] == [
        "held-out: 2 sizes, from 24x24 to 90x70 pixels; compared at 64x64",
        "held-out: 39 of 40 images have a side under 64 pixels and were enlarged: what they lack cannot be seen",
        "held-out: 1 of 40 images are not square and were squeezed",
        "synthetic: 1 of 40 images have 16 bits, each scaled to 8 by its own range"]


def test_masks_hidden_and_other_files_are_no_samples(world, tmp_path):
    save(tmp_path / "a" / "COVID" / "images", world[0][:40])
    save(tmp_path / "a" / "COVID" / "masks", world[0][40:80])
    save(tmp_path / "a" / "Lung_Opacity", world[0][80:90])
    (tmp_path / "a" / "COVID.metadata.xlsx").write_bytes(b"PK")
    (tmp_path / "a" / "COVID" / "images" / "._000.png").write_bytes(b"mac")
    found = read_folder(tmp_path / "a")
    assert found.classes == ["COVID", "Lung Opacity"] and found.labels.bincount().tolist() == [40, 10]
    assert len(read_folder(tmp_path / "a" / "COVID").images) == 40, "one class of the database, without its masks"
    assert len(read_folder(tmp_path / "a", limit=35).images) == 35


def break_many(place):
    for path in sorted((place / "fake" / "left").iterdir())[:5]:
        path.write_bytes(path.read_bytes()[:-200])


def mix(place):
    (place / "fake" / "left" / "000.png").rename(place / "fake" / "loose.png")


def thin_out(place):
    for path in sorted((place / "fake" / "left").iterdir()):
        path.unlink()


def only_few(place):
    thin_out(place)
    (place / "fake" / "left").rmdir()


def nothing(place):
    for word in ("left", "right"):
        for path in (place / "fake" / word).iterdir():
            path.rename(path.with_suffix(".txt"))


def only_other_kinds(place):
    for word in ("left", "right"):
        for path in (place / "fake" / word).iterdir():
            path.rename(path.with_suffix(".gif"))


@pytest.mark.parametrize("change, options, words", [
    (None, {"fake": "nowhere"}, ["nowhere: does not exist"]),
    (None, {"fake": "held/../film.png"}, ["film.png: is a file"]),
    (None, {"fake": "train"}, ["train: given twice", "three folders"]),
    (None, {"held": "train/../train"}, ["given twice"]),
    (break_many, {}, ["fake/left/000.png: truncated or damaged", "5 of 40 files"]),
    (mix, {}, ["fake: holds images (loose.png) beside folders of images (left)"]),
    (thin_out, {}, ["fake/left: holds no PNG or JPEG image; fill it, or move it away"]),
    (only_few, {}, ["images are too few; at least 30"]),
    (nothing, {}, ["fake: holds no PNG or JPEG image"]),
    (only_other_kinds, {}, ["left/000.gif: a .gif file; save it as PNG", "40 of 40 files"]),
])
def test_input_that_cannot_be_used(places, capsys, change, options, words):
    if change:
        change(places)
    assert main(arguments(places, **options)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and all(word in captured.err for word in words) and not captured.out


def test_json_that_cannot_be_written_is_noticed_at_once(places, capsys, monkeypatch):
    monkeypatch.setattr("genmed_core.audit.command.read_folder", lambda *_, **__: pytest.fail("read"))
    assert main(arguments(places, "--json", str(places / "none" / "report.json"))) == 2
    assert "its folder does not exist" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*found in sys.modules.*:RuntimeWarning")
def test_it_runs_as_a_module(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["audit", *arguments(tmp_path)])
    with pytest.raises(SystemExit) as status:
        runpy.run_module("genmed_core.audit", run_name="__main__")
    assert status.value.code == 2 and "train: does not exist" in capsys.readouterr().err


def brute_force(queries, references):
    """Distances of all pairs, each reference alone, so that no candidate can be missed: (N, M)."""
    return torch.stack([nearest(queries, one[None])[0] for one in references], 1).numpy()


def test_every_figure_of_privacy_is_taken_between_the_right_sets(world, monkeypatch):
    """Against distances of all pairs; 20 samples are copies, so that nothing is symmetric."""
    monkeypatch.setattr("genmed_core.audit.neighbours.CANDIDATES", 60)  # hardly a nearest one is missed
    prints, n, m = world[2], 50, 40
    train, held = prints[:n], prints[n:n + m]
    fake = torch.cat([fingerprints(changed(world[0][:20], "all")), prints[n + m:n + m + 25]])
    real = audit.Known(world[0][:n], world[0][n:n + m], np.random.default_rng(0), steps=2)
    images = torch.cat([changed(world[0][:20], "all"), world[0][n + m:n + m + 25]])
    found = audit.privacy(audit.Neighbours(real, images, np.random.default_rng(0)))
    to_train, to_held = brute_force(fake, train).min(1), brute_force(fake, held).min(1)
    between = brute_force(held, train)
    held_train, train_held = between.min(1), brute_force(train, held).min(1)
    ratios = np.median(to_train) / np.median(held_train), np.median(to_held) / np.median(train_held)
    assert [found[k]["value"] for k in ("ratio_train", "ratio_held_out")] == pytest.approx(ratios, rel=0.01)
    for key, distance, strangers in (("close", to_train, held_train), ("close_held_out", to_held, train_held)):
        assert found[key]["value"] == pytest.approx((distance <= np.quantile(strangers, 0.05)).mean(), abs=0.03)
    share = (to_train < to_held).mean()
    assert found["closer"]["value"] == pytest.approx(share / (share + n / m * (1 - share)), abs=0.03)
    own = brute_force(held, held) + 9 * np.eye(m)
    share = (own.min(1) < held_train).mean()
    assert found["control"]["value"] == pytest.approx(share / (share + (m - 1) / n * (1 - share)), abs=0.03)
    reals = torch.cat([train, held])
    to_fake, others = brute_force(reals, fake).min(1), (brute_force(reals, reals) + 9 * np.eye(n + m)).min(1)
    whose = brute_force(fake, train).argmin(1)
    assert found["authenticity"]["value"] == pytest.approx((to_train > others[:n][whose]).mean(), abs=0.03)
    for key, score in (("membership", others / to_fake), ("membership_plain", -to_fake)):
        assert found[key]["value"] == pytest.approx((score[:n, None] > score[None, n:]).mean(), abs=0.03)
        assert found[key]["hits_at_1_percent"]["value"] == pytest.approx((score[:n] > score[n:].max()).mean(), abs=0.05)
    x, y = (F.avg_pool2d(i.float(), 2).flatten(1).numpy() for i in (images, world[0][:n]))
    highest = np.corrcoef(x, y)[:len(x), len(x):].max(1)
    assert found["correlation"]["value"] == pytest.approx(highest.mean(), abs=1e-4)


def test_candidates_are_sought_over_flips_and_shifts(world, monkeypatch):
    """With one candidate, a shifted or flipped copy is found only if the coarse search looks for it."""
    monkeypatch.setattr("genmed_core.audit.neighbours.CANDIDATES", 1)
    for kind in ("shift", "flip"):
        _, index = nearest(fingerprints(changed(world[0][:200], kind)), world[2])
        assert (index == torch.arange(200)).float().mean() > 0.93, kind


def test_the_coarse_search_takes_the_best_of_nine_shifts(world):
    query, known = world[2][:20], world[2][20:60]
    moved = F.pad(query, (2, 2, 2, 2), mode="replicate")
    small = F.avg_pool2d(known[:, None], 4).flatten(1)
    likeness = []
    for y, x in itertools.product((0, 2, 4), repeat=2):
        shifted = F.avg_pool2d(moved[:, None, y:y + 32, x:x + 32], 4).flatten(1)
        likeness.append(np.corrcoef(shifted, small)[:20, 20:])
    found = neighbours._coarse_likeness(query, neighbours._coarse(known).T)
    assert np.allclose(found, np.max(likeness, 0), atol=1e-4)


def test_intervals_are_the_middle_95_percent():
    values = np.append(7.0, np.arange(1001.0))
    assert interval(values) == {"value": 7.0, "low": 25.0, "high": 975.0}
    rng = np.random.default_rng(0)
    found = median_ratio(rng.normal(4, 1, 300), rng.normal(2, 1, 300), rng)
    assert found["value"] == pytest.approx(2, abs=0.2) and found["low"] < 2 < found["high"]
    close = excess_share((np.full(40, 0.5), np.arange(40)), np.full(40, 9.9), (np.linspace(0, 10, 400),) * 2, rng)
    assert close["first"]["value"] == 1 and close["first"]["low"] < 1, "that strangers were drawn is part of the doubt"
    assert close["second"]["value"] == 0 and close["excess"]["value"] == 1


def test_hits_count_members_above_nearly_all_others_and_a_share_of_none_has_doubt():
    rng = np.random.default_rng(0)
    found = hits(rng.normal(2, 1, 4000), rng.normal(0, 1, 4000), 0.01, rng)
    truth = 0.5 * math.erfc((2.326 - 2) / math.sqrt(2))
    assert found["low"] < truth < found["high"] and found["alarms"] == pytest.approx(0.01, abs=1e-3)
    few = hits(np.zeros(100), np.ones(50), 0.001, rng)
    assert few["value"] == 0 and few["high"] > 0.03 and few["alarms"] == pytest.approx(1 / 51)
    covered = 0
    for _ in range(200):
        found = hits(rng.normal(0, 1, 300), rng.normal(0, 1, 300), 0.01, rng)
        covered += found["low"] <= 0.01 <= found["high"]
    assert covered >= 180


def test_a_share_has_the_exact_interval():
    assert share(0, 100)["high"] == pytest.approx(1 - 0.025 ** 0.01) and share(0, 100)["low"] == 0
    assert share(40, 40)["low"] == pytest.approx(0.025 ** (1 / 40))


def test_the_bar_of_the_tail_is_hardly_ever_passed_by_honest_scores_and_stands_some_pairs_of_a_patient():
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(300):
        bar = tail_bar(rng.normal(0, 1, 200), 500, 0.001)
        alarms += rng.normal(0, 1, 500).max() > bar
    assert alarms <= 6 and 3.5 < bar < 7
    assert tail_bar(np.append(rng.normal(0, 1, 200), np.full(10, 50.0)), 500, 0.001) < 8


@pytest.mark.parametrize("found, verdict", [
    ({"low": 0.56, "high": 0.9}, True), ({"low": 0.5, "high": 0.56}, None), ({"low": 0.4, "high": 0.54}, False),
    ({"low": math.nan, "high": math.nan}, None)])
def test_what_straddles_is_unclear(found, verdict):
    assert beyond(found, 0.55) is verdict
    mirrored = {"low": 1 - found["high"], "high": 1 - found["low"]}
    assert short_of(mirrored, 0.45) is verdict


def test_the_worst_finding_decides():
    assert worst(False, None, True) is True and worst(False, None) is None and worst(False, False) is False


def bounds(low, high):
    return {"value": (low + high) / 2, "low": low, "high": high}


PAIR = {"synthetic": "a", "train": "b", "distance": 0.01}


def judged(**changes):
    """Verdicts on a report in which all is well but for the changes."""
    one, half, none = bounds(0.95, 1.05), bounds(0.46, 0.54), bounds(-0.02, 0.02)
    hit = {"hits_at_1_percent": changes.pop("hits", bounds(0.005, 0.02))}
    risk = {"beyond": changes.pop("beyond", 0), "of": 500}
    planted = SEEN | changes.pop("canaries", {})
    intervals = dict.fromkeys(("fd_ratio", "detail", "coverage_ratio"), one) | changes.pop("intervals", {})
    useful = {"synthetic": half, "real": half, "chance": 0.25, "gap": none, "gain": bounds(0.01, 0.03)}
    privacy = {"control": half, "closer": half, "ratio_train": half, "membership": half, "close": none, "risk": risk,
               "close_held_out": none, "close_excess": none, "embedded_close": none, "embedded_excess": none,
               "embedded_close_held_out": none, "copies": [], "copied": none,
               "among_closest": [{"share": 0.05, "neighbours": 20, "train": 10, "expected": 10, "chance": 0.6}]}
    useful |= changes.pop("utility", {})
    privacy |= changes
    privacy["membership"] = privacy["membership"] | hit
    report = {"quality": {"intervals": intervals}, "utility": useful, "privacy": privacy, "canaries": planted,
              "counts": dict.fromkeys(audit.SETS, 500)}
    return verdicts({"verdicts": audit.judge(report)})


FEW = {"share": 0.05, "neighbours": 20, "train": 20, "expected": 10, "chance": 1e-5}
NAN = {"value": math.nan, "low": math.nan, "high": math.nan}


@pytest.mark.parametrize("changes, question, verdict", [
    *[({}, question, "pass") for question in QUESTIONS],
    ({"intervals": {"fd_ratio": bounds(2.1, 3)}}, "looks", "fail"),
    ({"intervals": {"fd_ratio": bounds(1, 2.1)}}, "looks", "unclear"),
    ({"intervals": {"detail": bounds(0.7, 0.79)}}, "looks", "fail"),
    ({"intervals": {"detail": bounds(1.26, 1.3)}}, "looks", "fail"),
    ({"intervals": {"detail": bounds(1.2, 1.3)}}, "looks", "unclear"),
    ({"intervals": {"fd_ratio": NAN}}, "looks", "unclear"), ({"intervals": {"detail": NAN}}, "looks", "unclear"),
    ({"intervals": {"coverage_ratio": bounds(0.5, 0.79)}}, "varied", "fail"),
    ({"intervals": {"coverage_ratio": bounds(0.7, 0.9)}}, "varied", "unclear"),
    ({"intervals": {"coverage_ratio": NAN}}, "varied", "unclear"),
    ({"utility": {"gap": bounds(0.06, 0.08)}}, "trains", "fail"),
    ({"utility": {"gap": bounds(0, 0.06)}}, "trains", "unclear"),
    *[({"utility": {"real": bounds(0.2, 0.3), **more}}, question, "unclear") for question, more in (
        ("trains", {}), ("trains", {"gap": bounds(0.06, 0.1)}), ("helps", {}), ("helps", {"gain": bounds(-0.1, 0)}))],
    ({"utility": {"gain": bounds(-0.08, -0.01)}}, "helps", "fail"),
    ({"utility": {"gain": bounds(-0.02, 0.04)}}, "helps", "unclear"),
    ({"copies": [PAIR]}, "copies", "fail"),
    ({"canaries": {"mirrored": seen(20)}}, "copies", "unclear"),
    ({"canaries": {"noisy": seen(0)}}, "copies", "pass"),
    ({"copies": [PAIR], "canaries": {"mirrored": seen(20)}}, "copies", "fail"),
    ({"closer": bounds(0.61, 0.7)}, "closer", "fail"), ({"closer": bounds(0.5, 0.61)}, "closer", "unclear"),
    ({"among_closest": [FEW]}, "closer", "fail"),
    ({"membership": bounds(0.61, 0.7)}, "membership", "fail"), ({"membership": NAN}, "membership", "unclear"),
    ({"membership": bounds(0.5, 0.61)}, "membership", "unclear"), ({"hits": bounds(0.06, 0.1)}, "membership", "fail"),
    ({"hits": bounds(0.01, 0.06)}, "membership", "unclear"), ({"beyond": 1}, "membership", "fail"),
    ({"close_excess": bounds(0.11, 0.2)}, "resemble", "fail"),
    ({"embedded_excess": bounds(0.05, 0.2)}, "resemble", "unclear"),
    ({"control": bounds(0.61, 0.9)}, "control", "fail"), ({"control": bounds(0.5, 0.61)}, "control", "unclear"),
])
def test_each_verdict_turns_at_its_bar(changes, question, verdict):
    assert judged(**changes)[question] == verdict


@pytest.mark.parametrize("control, verdict", [(bounds(0.61, 0.9), "fail"), (bounds(0.5, 0.61), "unclear")])
def test_without_a_fair_control_nothing_passes(control, verdict):
    found = judged(control=control, membership=bounds(0.62, 0.7))
    assert found.pop("control") == verdict and found.pop("membership") == "fail" and set(found.values()) == {"unclear"}


# --- sets, files and targets that cannot be audited -----------------------------------------------------


def one_grey(n):
    return (torch.arange(n) + 40).to(torch.uint8)[:, None, None, None].expand(n, 1, 64, 64)


@pytest.mark.parametrize("which, make, words", [
    ("train", lambda x: x[:1].repeat(40, 1, 1, 1), "train: 1 of 40 images are left without 39 copies of another"),
    ("held-out", lambda x: x[:1].repeat(40, 1, 1, 1), "held-out: 1 of 40 images are left without 39 copies of another"),
    ("train", lambda x: one_grey(40), "train: 0 of 40 images are left without 40 of one grey level"),
    ("held-out", lambda x: one_grey(40), "held-out: 0 of 40 images are left without 40 of one grey level"),
    ("synthetic", lambda x: one_grey(40), "synthetic: no two of 40 images differ and show anything"),
    ("synthetic", lambda x: x[:1].repeat(40, 1, 1, 1), "synthetic: no two of 40 images differ"),
    ("held-out", lambda x: x[:29], "held-out: 29 of 29 images are left without any dropped; at least 30"),
    ("synthetic", lambda x: x.float(), "synthetic: images are torch.float32"),
    ("train", lambda x: x[:, :, :32], "train: images are torch.uint8"),
])
def test_sets_that_cannot_be_audited_are_named(world, which, make, words):
    sets = {name: folder(world[0][40 * i:40 * i + 40]) for i, name in enumerate(audit.SETS)}
    sets[which] = folder(make(sets[which].images))
    with pytest.raises(AuditError) as error:
        audit.audit(*sets.values())
    assert words in str(error.value)


def test_samples_that_are_held_out_images_are_no_samples(world):
    train, held, fake = (folder(world[0][i:i + 40]) for i in (0, 40, 80))
    with pytest.raises(AuditError, match="40 of 40 images are held-out images, pixel for pixel"):
        audit.audit(train, held, held)
    _, notes = usable(train, held, folder(torch.cat([held.images[:1], fake.images[1:39], fake.images[1:2]])))
    assert notes[:2] == ["synthetic: 1 images are held-out images, pixel for pixel",
                         "synthetic: only 39 of 40 images differ"]


def test_a_held_out_set_of_noisy_copies_does_not_make_samples_look_real(world):
    held = changed(world[0][40:41].repeat(40, 1, 1, 1), "noise")
    report = audit.audit(folder(world[0][:40]), folder(held), folder(world[0][80:120]), effort=0.05)
    assert verdicts(report)["control"] == "fail" and verdicts(report)["looks"] != "pass"


def test_each_image_counts_once_and_copies_are_noted(world):
    labels = torch.arange(42) % 2
    sets, notes = usable(folder(world[0][[*range(40), 0]]), folder(world[0][[3, *range(40, 80), 41]], labels),
                         folder(world[0][80:120]))
    assert [len(s.images) for s in sets] == [40, 40, 40]
    assert notes[:2] == ["train: images dropped, 1 copies of another in the set",
                         "held-out: images dropped, 1 also training images and 1 copies of another in the set"]
    assert sets[1].names == [f"x{i}.png" for i in range(1, 41)], "names stay with their images"
    assert torch.equal(sets[1].labels, labels[1:41]), "and labels too"


def odd(kind, path, image):
    grey = Image.fromarray(image[0].numpy())
    if kind == "twelve bits":
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 16).save(path.with_suffix(".png"))
    elif kind == "animated":
        grey.save(path.with_suffix(".png"), save_all=True, append_images=[grey.rotate(90)])
    elif kind == "dangling":
        path.with_suffix(".png").symlink_to(path.with_name("gone.png"))
    elif kind == "cmyk":
        grey.convert("CMYK").save(path.with_suffix(".jpg"), quality=95)
    else:
        size = {"dot": (1, 1), "long": (2000, 20)}[kind]
        grey.resize(size).save(path.with_suffix(".png"))


@pytest.mark.parametrize("kind, reason", [("animated", "animated, 2 frames"), ("dot", "1x1 pixels, too small"),
                                          ("long", "2000x20 pixels, too small or too long"),
                                          ("dangling", "a link to a file that is not there")])
def test_files_that_are_no_samples_are_left_out_and_named(world, tmp_path, kind, reason):
    odd(kind, save(tmp_path, world[0][:40]) / "odd", world[0][40])
    found = read_folder(tmp_path)
    assert len(found.images) == 40 and len(found.left_out) == 1
    assert found.left_out[0].startswith("odd.png: ") and reason in found.left_out[0]


@pytest.mark.parametrize("kind", ["twelve bits", "cmyk"])
def test_twelve_bits_and_cmyk_keep_their_grey_levels(world, tmp_path, kind):
    for i in range(32):
        odd(kind, tmp_path / f"{i:02d}", world[0][i])
    found = read_folder(tmp_path).images
    assert (found.float() - world[0][:32].float()).abs().mean() < 3 and len(found.unique()) > 150


@pytest.mark.parametrize("limit", [-1, 0, 29])
def test_limits_and_seeds_beyond_their_range_are_named_before_work(places, capsys, monkeypatch, limit):
    with pytest.raises(AuditError, match=f"limit {limit}: give 30 or more"):
        read_folder(places / "held", limit=limit)
    with pytest.raises(AuditError, match="seed -1: give a whole number, 0 or above"):
        read_folder(places / "held", seed=-1)
    monkeypatch.setattr("genmed_core.audit.command.read_folder", lambda *_, **__: pytest.fail("read"))
    for option in (("--limit", str(limit)), ("--seed", "-1")):
        assert main(arguments(places, *option)) == 2
        assert capsys.readouterr().err.startswith(f"error: {option[0][2:]} {option[1]}: give")


def test_the_limit_draws_by_the_seed(places):
    names = [read_folder(places / "held", limit=30, seed=seed).names for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2] and all(len(some) == 30 for some in names)


def test_a_folder_in_another_is_refused(places, capsys):
    for options in ({"fake": "train/left"}, {"train": "."}):
        assert main(arguments(places, **options)) == 2
        assert "lies inside" in capsys.readouterr().err


@pytest.fixture
def ready(audited, monkeypatch):
    """The command line with a report that is already there."""
    monkeypatch.setattr("genmed_core.audit.command.read_folder", lambda *_, **__: None)
    monkeypatch.setattr("genmed_core.audit.command.audit", lambda *_, **__: audited)
    return audited


def test_the_table_is_printed_even_if_its_json_cannot_be_written(places, ready, capsys, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("genmed_core.audit.command.runtime.whole_file", full)
    assert main(arguments(places, "--json", str(places / "report.json"))) == 1
    captured = capsys.readouterr()
    assert "Can membership be inferred?" in captured.out and "No space left" in captured.err


def test_names_that_a_terminal_cannot_show_are_no_traceback(places, ready, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(arguments(places, "--json", str(places / "report.json"))) == 0
    assert b"Zo\\xeb\\udcff" in out.buffer.getvalue()
    assert json.loads((places / "report.json").read_text()) == json.loads(json.dumps(ready))
    assert main(arguments(places, "--json", str(places / "report.json"))) == 0, "an older report may be replaced"


@pytest.mark.parametrize("name, words", [("train", "is a folder; name a file"), ("notes.json", "choose another name"),
                                         ("film.png", "exists and is no report of an audit")])
def test_json_targets_that_are_the_readers_own_are_left_alone(places, ready, capsys, name, words):
    (places / "notes.json").write_text('["mine"]')
    before = (places / "notes.json").read_bytes(), (places / "film.png").read_bytes()
    assert main(arguments(places, "--json", str(places / name))) == 2
    assert words in capsys.readouterr().err
    assert before == ((places / "notes.json").read_bytes(), (places / "film.png").read_bytes())
