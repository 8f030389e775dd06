"""The audit of synthetic images: honest samplers pass, memorisers and poor samplers are flagged, with numbers."""

import io
import itertools
import json
import math
import runpy
import sys

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
    equal_share,
    fingerprints,
    main,
    nearest,
    neighbours,
    read_folder,
)
from genmed_core.audit.attacks.copies import among_closest
from genmed_core.audit.folders import usable
from genmed_core.audit.intervals import interval, median_ratio
from genmed_core.audit.questions import above


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


@pytest.fixture(scope="module")
def world():
    """800 images and their labels; and the fingerprints of all."""
    images, labels = blobs(800, 0)
    return images, labels, fingerprints(images)


@pytest.fixture
def private(world):
    """privacy(train, held-out, synthetic) from slices of the world, or from images, with the verdicts on it."""
    def run(train, held, fake):
        prints = [world[2][s] if isinstance(s, slice) else fingerprints(s) for s in (train, held, fake)]
        found = audit.privacy(*prints, np.random.default_rng(0))
        best = dict.fromkeys(("fd", "detail", "coverage"), 1.0)
        counts = dict(zip(audit.SETS, map(len, prints)))
        report = {"quality": {"synthetic": best, "floor": best}, "utility": None, "privacy": found, "counts": counts}
        verdicts = [v["verdict"] for v in audit.judge(report)]
        return found, dict(zip(("control", "looks", "varied", "closer", "copies", "membership"), verdicts))

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
        a, b, c = (world[2][i] for i in order.split([n, m, 800 - n - m]))
        values.append(audit.privacy(a, b, c, rng)["closer"]["value"])
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


@pytest.mark.parametrize("train, held", [((0, 250), (250, 500)), ((0, 440), (440, 500)), ((0, 60), (60, 500))])
def test_an_honest_sampler_passes_whatever_the_set_sizes(private, train, held):
    found, verdicts = private(slice(*train), slice(*held), slice(500, 800))
    assert verdicts["copies"] == "pass" and "flag" not in verdicts.values()
    assert abs(found["closer"]["value"] - 0.5) < 0.2 and 0.9 < found["ratio_train"]["value"] < 1.1
    assert found["near_synthetic"] == 0


@pytest.mark.parametrize("kind", ["noise", "shift", "brightness", "flip", "all"])
def test_a_memoriser_is_flagged_whatever_it_changes(world, private, kind):
    found, verdicts = private(slice(0, 200), slice(200, 400), changed(world[0][:200], kind))
    assert [verdicts[q] for q in ("closer", "copies", "membership")] == ["flag"] * 3 and verdicts["control"] == "pass"
    assert found["closer"]["low"] > 0.9 and found["membership"]["low"] > 0.9
    assert found["near_synthetic"] > 150 and found["ratio_train"]["high"] < 0.5


@pytest.mark.parametrize("train, held", [((0, 440), (440, 500)), ((0, 60), (60, 500))])
def test_a_memoriser_is_flagged_whatever_the_set_sizes(world, private, train, held):
    fakes = changed(world[0][:60].repeat(3, 1, 1, 1), "all")
    _, verdicts = private(slice(*train), slice(*held), fakes)
    assert verdicts["closer"] == verdicts["copies"] == "flag"


def test_one_copy_in_ten_is_found_and_named(world, private):
    fakes = torch.cat([world[0][500:680], changed(world[0][:20], "all")])
    found, verdicts = private(slice(0, 250), slice(250, 500), fakes)
    assert verdicts["copies"] == "flag" and verdicts["control"] == "pass"
    near = [pair for pair in found["closest"] if pair["nearly_the_same"]]
    assert len(near) == found["near_synthetic"] > 11
    assert all(pair["synthetic"] - 180 == pair["train"] for pair in near), "each is named with its original"


@pytest.mark.parametrize("train, held", [((0, 250), (250, 500)), ((0, 110), (110, 500)), ((0, 320), (320, 500))])
def test_a_few_copies_are_found_although_patients_come_twice(world, private, train, held):
    """Where some held-out patients have another film in the training set, the closest strangers are very close."""
    images = world[0].clone()
    again = slice(held[0], held[0] + 8)
    images[:8] = changed(images[again], "noise", seed=1)
    fakes = torch.cat([images[500:740], changed(images[10:40], "all")])
    found, verdicts = private(images[slice(*train)], images[slice(*held)], fakes)
    assert verdicts["copies"] == "flag" and verdicts["control"] == "pass"
    assert found["near_synthetic"] == 0, "none is nearer than the two films of a patient"
    _, verdicts = private(images[slice(*train)], images[slice(*held)], images[500:770])
    assert verdicts["copies"] == "pass"


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
    for hits in (3, 6, 8):
        members = torch.from_numpy(rng.permutation(n + m))  # new numbers: the first n are trained on
        members = torch.cat([members[members < n][:hits], members[members >= n][:10 - hits]])
        found = among_closest(closeness, members[neighbours], n, m)[1]
        drawn = np.array([(rng.permutation(n + m)[:10] < n).sum() >= hits for _ in range(4000)])
        assert found["train"] == hits and found["neighbours"] == 10 and found["expected"] == pytest.approx(4)
        assert found["chance"] == pytest.approx(drawn.mean(), abs=0.025)


def test_many_samples_of_one_training_image_are_copies(world, private):
    _, verdicts = private(slice(0, 250), slice(250, 500), changed(world[0][:1].repeat(100, 1, 1, 1), "noise"))
    assert verdicts["copies"] == "flag"


def test_blur_alone_is_no_memory(world, private):
    found, verdicts = private(slice(0, 250), slice(250, 500), changed(world[0][500:800], "blur"))
    assert verdicts["closer"] == verdicts["copies"] == "pass" and found["near_synthetic"] == 0


def test_a_held_out_set_of_another_kind_is_no_control(world, private):
    other = world[0][250:500].clone()
    other[:, :, 20:44, 20:44] = 0  # another hospital's marker
    _, verdicts = private(slice(0, 250), other, slice(500, 800))
    assert verdicts["control"] == "flag"


# --- fidelity, variety, usefulness, and the whole -------------------------------------------------------


@pytest.fixture(scope="module")
def reports(world):
    """Whole audits of an honest, a blurring, a collapsed and a useless sampler."""
    images, labels, _ = world
    real = [folder(images[:250], labels[:250]), folder(images[250:500], labels[250:500])]
    fake, asked = images[500:750], labels[500:750]
    sets = {"honest": (fake, asked), "blurred": (changed(fake, "blur"), asked),
            "collapsed": (changed(fake[:5].repeat(50, 1, 1, 1), "noise"), asked[:5].repeat(50)),
            "mislabelled": (fake, 1 - asked)}
    return {name: audit.audit(*real, folder(*pair)) for name, pair in sets.items()}


def verdicts(report):
    names = ("control", "looks", "varied", "trains", "helps", "closer", "copies", "membership")
    return dict(zip(names, [v["verdict"] for v in report["verdicts"]]))


def test_honest_samples_pass_everything(reports):
    report = reports["honest"]
    assert set(verdicts(report).values()) == {"pass"}
    q = report["quality"]
    assert q["synthetic"]["fd"] == pytest.approx(q["floor"]["fd"], rel=0.4)
    assert q["synthetic"]["detail"] == pytest.approx(1, abs=0.1)
    assert abs(report["utility"]["gap"]["value"]) < 0.05 and report["utility"]["real"]["value"] > 0.9


def test_blur_shows_in_the_fine_detail(reports):
    assert verdicts(reports["blurred"])["looks"] == "flag"
    assert reports["blurred"]["quality"]["synthetic"]["detail"] < 0.5
    floor = reports["blurred"]["quality"]["floor"]
    assert floor["detail"] == pytest.approx(1, abs=0.1), "the floor is of training images"
    assert floor["fd"] == reports["honest"]["quality"]["floor"]["fd"]


def test_collapse_shows_in_the_coverage(reports):
    assert verdicts(reports["collapsed"])["varied"] == "flag"
    assert reports["collapsed"]["quality"]["synthetic"]["recall"] < 0.1


def test_wrong_labels_show_in_the_usefulness(reports):
    assert verdicts(reports["mislabelled"])["trains"] == "flag"
    assert reports["mislabelled"]["utility"]["synthetic"]["value"] < 0.2
    assert verdicts(reports["mislabelled"])["looks"] == "pass"


def test_the_report_is_json_and_a_table(reports):
    for report in reports.values():
        assert json.loads(json.dumps(report, allow_nan=False))["counts"] == dict.fromkeys(audit.SETS, 250)
        text = audit.table(report)
        assert all(v["question"] in text and v["bar"] in text for v in report["verdicts"])
        assert max(map(len, text.splitlines())) < 200


def test_the_same_seed_gives_the_same_report(world):
    images, labels, _ = world
    sets = [folder(images[a:a + 40], labels[a:a + 40]) for a in (0, 40, 80)]
    assert audit.audit(*sets) == audit.audit(*sets)


def test_held_out_images_from_the_training_set_are_dropped(world):
    images, _, _ = world
    report = audit.audit(folder(images[:60]), folder(images[30:120]), folder(images[200:240]))
    assert report["counts"]["held-out"] == 60 and report["utility"] is None
    assert "held-out: images dropped, 30 also training images" in " ".join(report["notes"])
    with pytest.raises(AuditError, match="0 of 60 images are left without 60 also training images; at least"):
        audit.audit(folder(images[:60]), folder(images[:60]), folder(images[200:240]))


def test_usefulness_is_measured_on_the_classes_that_all_have(world):
    images, labels, _ = world
    a, b, c = (folder(images[i:i + 60], labels[i:i + 60]) for i in (0, 60, 120))
    c = c._replace(classes=["left", "another"])
    notes = audit.audit(a, b, c)["notes"]
    assert any("without another, right" in note for note in notes) and any("fewer than two" in note for note in notes)


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
    return ["--train", str(place / train), "--held-out", str(place / held), "--synthetic", str(place / fake), *more]


def test_the_command_line_prints_a_table_and_writes_json(places, capsys):
    assert main(arguments(places, "--json", str(places / "report.json"))) == 0
    out = capsys.readouterr().out
    assert "Are there copies of training images?" in out and "balanced accuracy" in out and "fewer than 200" in out
    report = json.loads((places / "report.json").read_text())
    assert report["counts"] == dict.fromkeys(audit.SETS, 40) and len(report["verdicts"]) == 8
    assert report["privacy"]["closest"][0]["synthetic"].endswith(".png")


def test_a_finding_is_no_failure(places, capsys):
    assert main(arguments(places, fake="copied")) == 2, "no such folder yet"
    for word in ("left", "right"):
        (places / "copied").mkdir(exist_ok=True)
        (places / "train" / word).rename(places / "copied" / word)
        save(places / "train" / word, [torch.from_numpy(np.array(Image.open(p)))[None]
                                       for p in (places / "copied" / word).iterdir()])
    assert main(arguments(places, fake="copied")) == 0
    assert "FLAG Are there copies" in capsys.readouterr().out


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


def test_one_damaged_file_is_left_out_and_said(places, capsys):
    (places / "fake" / "left" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(arguments(places)) == 0
    assert "note: synthetic: 1 of the files left out, such as left/broken.png: " in capsys.readouterr().out


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
    found = audit.privacy(train, held, fake, np.random.default_rng(0))
    to_train, to_held = brute_force(fake, train).min(1), brute_force(fake, held).min(1)
    between = brute_force(held, train)
    held_train, train_held = between.min(1), brute_force(train, held).min(1)
    ratios = np.median(to_train) / np.median(held_train), np.median(to_held) / np.median(train_held)
    assert [found[k]["value"] for k in ("ratio_train", "ratio_held_out")] == pytest.approx(ratios, rel=0.01)
    for key, distance, strangers in (("copies", to_train, held_train), ("close_to_held_out", to_held, train_held)):
        assert found[key]["value"] == pytest.approx((distance <= np.quantile(strangers, 0.05)).mean(), abs=0.03)
    assert found["near"] == pytest.approx(0.5 * np.quantile(held_train, 0.01), rel=0.01)
    assert found["near_synthetic"] == (to_train < found["near"]).sum() > 10
    assert found["near_held_out"] == 0
    share = (to_train < to_held).mean()
    assert found["closer"]["value"] == pytest.approx(share / (share + n / m * (1 - share)), abs=0.03)
    own = brute_force(held, held) + 9 * np.eye(m)
    share = (own.min(1) < held_train).mean()
    assert found["control"]["value"] == pytest.approx(share / (share + (m - 1) / n * (1 - share)), abs=0.03)
    reals = torch.cat([train, held])
    to_fake, others = brute_force(reals, fake).min(1), (brute_force(reals, reals) + 9 * np.eye(n + m)).min(1)
    for key, score in (("membership", others / to_fake), ("membership_plain", -to_fake)):
        wins = (score[:n, None] > score[None, n:]).mean()
        assert found[key]["value"] == pytest.approx(wins, abs=0.03)
        hits = (score[:n] > np.quantile(score[n:], 0.99)).mean()
        assert found[key]["hits_at_1_percent"] == pytest.approx(hits, abs=0.05)


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
    drawn = audit.close_share(np.full(40, 0.5), np.arange(40), np.linspace(0, 10, 400), rng)
    assert drawn["value"] == 1 and drawn["low"] < 1, "that strangers were drawn is part of the doubt"
    few = audit.close_share(np.linspace(0, 10, 2000), np.arange(2000), np.linspace(0, 10, 20), rng)
    assert few["high"] - few["low"] > 0.1, "and twenty of them leave much of it"


@pytest.mark.parametrize("found, verdict", [
    ({"low": 0.56, "high": 0.9}, True), ({"low": 0.5, "high": 0.7}, None), ({"low": 0.4, "high": 0.6}, False)])
def test_what_straddles_is_unclear(found, verdict):
    assert above(found, 0.55, 0.65) is verdict


def judged(**changes):
    """Verdicts on a report in which all is well but for the changes."""
    good = {"fd": 1.0, "detail": 1.0, "coverage": 1.0}
    half = {"value": 0.5, "low": 0.45, "high": 0.55}
    none = {"value": 0.0, "low": -0.02, "high": 0.02}
    privacy = {"control": half, "closer": half, "ratio_train": half, "membership": half, "copies": none,
               "close_to_held_out": none, "near_synthetic": 0, "near_held_out": 0,
               "among_closest": [{"share": 0.05, "neighbours": 20, "train": 10, "expected": 10, "chance": 0.6}]}
    report = {"quality": {"synthetic": good | changes.pop("synthetic", {}), "floor": good | changes.pop("floor", {})},
              "utility": {"synthetic": half, "real": half, "gap": none, "gain": none} | changes.pop("utility", {}),
              "privacy": privacy | changes, "counts": dict.fromkeys(audit.SETS, 500)}
    return verdicts({"verdicts": audit.judge(report)})


def bounds(low, high):
    return {"value": (low + high) / 2, "low": low, "high": high}


@pytest.mark.parametrize("changes, question, verdict", [
    ({}, "looks", "pass"), ({"synthetic": {"fd": 2.1}}, "looks", "flag"), ({"floor": {"fd": 0.4}}, "looks", "flag"),
    ({"synthetic": {"detail": 0.79}}, "looks", "flag"), ({"synthetic": {"detail": 1.26}}, "looks", "flag"),
    ({"synthetic": {"fd": math.nan}}, "looks", "flag"), ({"synthetic": {"detail": math.nan}}, "looks", "flag"),
    ({"synthetic": {"coverage": 0.79}}, "varied", "flag"), ({"synthetic": {"coverage": math.nan}}, "varied", "flag"),
    ({"synthetic": {"coverage": 0.6}, "floor": {"coverage": 0.7}}, "varied", "pass"),
    ({"utility": {"gap": bounds(0.04, 0.08)}}, "trains", "flag"),
    ({"utility": {"gap": bounds(0, 0.04)}}, "trains", "pass"),
    ({"utility": {"gain": bounds(-0.08, -0.01)}}, "helps", "flag"),
    ({"utility": {"gain": bounds(-0.02, 0.04)}}, "helps", "pass"),
    ({"near_synthetic": 1}, "copies", "pass"), ({"near_synthetic": 10}, "copies", "flag"),
    ({"near_synthetic": 10, "near_held_out": 10}, "copies", "pass"), ({"copies": bounds(0.11, 0.2)}, "copies", "flag"),
    ({"copies": bounds(0.11, 0.2), "close_to_held_out": bounds(0.05, 0.3)}, "copies", "pass"),
    ({"closer": bounds(0.56, 0.6)}, "closer", "flag"), ({"closer": bounds(0.5, 0.66)}, "closer", "unclear"),
    ({"membership": bounds(0.56, 0.6)}, "membership", "flag"),
    ({"membership": bounds(0.5, 0.66)}, "membership", "unclear"),
    ({"control": bounds(0.61, 0.9)}, "control", "flag"), ({"control": bounds(0.5, 0.76)}, "control", "unclear"),
])
def test_each_verdict_turns_at_its_bar(changes, question, verdict):
    assert judged(**changes)[question] == verdict


def test_against_an_unfair_control_nothing_passes():
    found = judged(control=bounds(0.61, 0.9), membership=bounds(0.6, 0.7))
    assert found.pop("control") == found.pop("membership") == "flag" and set(found.values()) == {"unclear"}


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
    report = audit.audit(folder(world[0][:40]), folder(held), folder(world[0][80:120]))
    assert verdicts(report)["control"] == "flag" and verdicts(report)["looks"] == "unclear"


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
def ready(world, monkeypatch):
    """The command line with a report that is already there."""
    audited = audit.audit(*(folder(world[0][i:i + 40], name="Zoë\udcff") for i in (0, 40, 80)))
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
