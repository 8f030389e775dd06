"""X-ray phantoms: one patient for one seed at any resolution, factors that do what they say, signs of disease."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from benchmarks import phantom as bench
from torch.nn import functional as F

from genmed_core.synthetic import phantom
from genmed_core.synthetic._common import sample_factors, scramble
from genmed_core.synthetic.phantom import CLASSES, COVID, FACTORS, NORMAL, OPACITY, VIRAL, air_share, cxr_phantom, draw

MIDDLE = {"uniform": lambda a, b: (a + b) / 2, "normal": lambda a, b: a, "some": lambda a, b: 0.0,
          "lognormal": lambda a, b: torch.tensor(a).exp().item()}


def patients(n=8, **changes):
    """n patients with every factor at its middle (nothing extra on the film) but their keys and `changes`."""
    _, _, factors = cxr_phantom(n, size=16, seed=1, classes=NORMAL)
    for name, (law, a, b) in FACTORS.items():
        factors[name] = torch.full((n,), float(changes.get(name, MIDDLE[law](a, b))))
    return factors


def pictures(label=NORMAL, *, size=64, n=8, **changes):
    return draw([label] * n, patients(n, **changes), size=size)[:, 0].float() / 255


@pytest.fixture(scope="module")
def forty():
    return cxr_phantom(40, size=64, seed=7)


# --- what comes out -------------------------------------------------------------------------------------


def test_shapes_types_and_ranges(forty):
    images, labels, factors = forty
    assert images.shape == (40, 1, 64, 64) and images.dtype == torch.uint8
    assert labels.shape == (40,) and labels.dtype == torch.int64
    assert set(factors) == {*FACTORS, "patient"} and factors["patient"].dtype == torch.int64
    flat = images.flatten(1).float()
    assert (flat.std(1) > 20).all() and (flat.amax(1) > 150).all() and (flat.amin(1) < 60).all()
    assert images.unique(dim=0).shape[0] == 40


def test_factors_follow_their_laws():
    factors = sample_factors(FACTORS, scramble(torch.arange(5000)))
    for name, (law, a, b) in FACTORS.items():
        column = factors[name]
        assert column.shape == (5000,) and column.dtype == torch.float32
        if law == "some":
            drawn = column[column > 0]
            assert len(drawn) / 5000 == pytest.approx(a, abs=0.03), name
            assert 0.199 * b <= drawn.min() and drawn.max() <= 1.001 * b, name
            continue
        x = column.log() if law == "lognormal" else column
        low, high = (a, b) if law == "uniform" else (a - 2.501 * b, a + 2.501 * b)
        assert low <= x.min() and x.max() <= high and x.std() > 0.25 * (high - low) / 2, name
    table = torch.stack([factors[name] for name in FACTORS])
    assert (torch.corrcoef(table) - torch.eye(len(table))).abs().max() < 0.07, "factors are independent"


def test_classes_are_balanced_or_as_asked(forty):
    _, labels, factors = forty
    assert (labels.view(10, 4).sort(1).values == torch.arange(4)).all(), "each four in a row have all classes"
    assert len(labels.view(10, 4).unique(dim=0)) > 3, "in changing order"
    asked = ["COVID", "Lung_Opacity", 0, "Viral Pneumonia"]
    images, labels, same = cxr_phantom(4, size=64, seed=7, classes=asked)
    assert labels.tolist() == [COVID, OPACITY, NORMAL, VIRAL] and CLASSES[COVID] == "COVID"
    assert all(torch.equal(same[name], factors[name][:4]) for name in factors), "the same patients"
    alone, labels, _ = cxr_phantom(1, size=64, seed=7, classes="COVID")
    assert torch.equal(alone[0], images[0]) and labels.tolist() == [COVID]
    assert torch.equal(cxr_phantom(4, size=64, seed=7, classes=torch.tensor([2, 1, 0, 3]))[0], images)


# --- the same picture -----------------------------------------------------------------------------------


def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(forty, monkeypatch):
    images, labels, factors = forty
    for n in (1, 6):
        fewer, fewer_labels, fewer_factors = cxr_phantom(n, size=64, seed=7)
        assert torch.equal(fewer, images[:n]) and torch.equal(fewer_labels, labels[:n])
        assert all(torch.equal(fewer_factors[name], column[:n]) for name, column in factors.items())
    monkeypatch.setattr(phantom, "BLOCK", 7 * 128**2)
    assert torch.equal(cxr_phantom(10, size=64, seed=7)[0], images[:10])


def test_factors_redraw_the_image(forty):
    images, labels, factors = forty
    rows = torch.tensor([31, 2, 17, 8, 4])
    again = draw(labels[rows], {name: column[rows] for name, column in factors.items()}, size=64)
    assert torch.equal(again, images[rows])


@pytest.fixture
def threads():
    """torch.set_num_threads, undone afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_picture_does_not_depend_on_the_threads(forty, threads, count):
    threads(count)
    images, _, factors = cxr_phantom(20, size=64, seed=7)
    assert torch.equal(images, forty[0][:20]), "also where the share of each thread is not whole"
    assert torch.get_num_threads() == count
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == count, "later threads are not kept to one"
    assert images.unique(dim=0).shape[0] == 20 and not any(column.requires_grad for column in factors.values())


@pytest.mark.parametrize("count", [1, 2])
def test_progress_is_told_and_an_error_in_a_thread_is_not_lost(threads, count, monkeypatch):
    threads(count)
    told = []
    cxr_phantom(10, size=16, seed=0, tell=told.append)
    assert told == [4, 8, 10]
    monkeypatch.setattr(phantom, "_render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cxr_phantom(10, size=16, seed=0)
    assert torch.get_num_threads() == count


def test_each_class_is_drawn_as_among_the_others():
    """Blocks hold one class where they can, and leave out what nobody in them has."""
    factors = cxr_phantom(8, size=16, seed=3)[2]
    alone = {label: draw([label] * 8, factors, size=64) for label in range(4)}
    mixed = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0])
    assert torch.equal(draw(mixed, factors, size=64), torch.stack([alone[c][i] for i, c in enumerate(mixed.tolist())]))


@pytest.mark.parametrize("size", [128, 192, 256])
def test_another_resolution_shows_the_same_patient(forty, size):
    """The noise too: it is the detector's, and a pixel averages it."""
    n = 3
    large, _, _ = cxr_phantom(n, size=size, seed=7)
    assert large.shape == (n, 1, size, size)
    difference = F.adaptive_avg_pool2d(large.float(), 64) - forty[0][:n]
    assert difference.abs().mean() < 2.5 and difference.pow(2).mean().sqrt() < 5
    assert (difference.flatten(1).mean(1).abs() < 1.5).all()


def test_noise_is_the_patients_at_every_resolution():
    quiet, loud = ({s: pictures(size=s, n=2, dose=d) for s in (128, 256)} for d in (9.0, 2.0))
    fine, coarse = (F.adaptive_avg_pool2d(loud[s] - quiet[s], 64).flatten() for s in (256, 128))
    assert torch.corrcoef(torch.stack([fine, coarse]))[0, 1] > 0.9
    assert coarse.std() > 0.003


def test_nothing_outside_is_touched_and_seeds_differ(forty):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    for seed in (0, -1, 2**40):
        assert not torch.equal(cxr_phantom(1, size=64, seed=seed)[0], forty[0][:1])
    assert torch.equal(torch.rand(1), expected), "the global generator moved"


def test_odd_sizes_are_drawn():
    assert cxr_phantom(1, size=16, seed=0)[0].shape == (1, 1, 16, 16)
    assert cxr_phantom(2, size=99, seed=0)[0].shape == (2, 1, 99, 99)


# --- what the factors do --------------------------------------------------------------------------------


def middle_of(factor, low, high, measure, label=NORMAL, **changes):
    """The measure (4,) of four patients at both ends of a factor."""
    return [measure(pictures(label, **{factor: v}, **({"n": 4} | changes))) for v in (low, high)]


@pytest.mark.parametrize("factor, low, high, rows, columns", [
    ("heart", -2, 2, slice(34, 46), slice(34, 46)),  # a large heart whitens what lies left of the middle
    ("volume", 2, -2, slice(40, 50), slice(14, 26)),  # a shallow breath lifts the diaphragm
    ("breast", 0, 1.6, slice(38, 46), slice(14, 24)),
    ("gas", 1, 0, slice(44, 60), slice(36, 56)),  # gas is dark
    ("arms", 1, 0, slice(30, 44), slice(0, 6)),
    ("gamma", 1, 0.45, slice(0, 64), slice(0, 64)),
    ("white", 0.82, 1, slice(50, 64), slice(24, 40)),
    ("black", 0.0, 0.05, slice(0, 64), slice(0, 64)),
    ("tube", 0, 1, slice(8, 20), slice(30, 34)),
    ("collimator", 0.07, 0, slice(0, 64), slice(0, 64)),
    ("marker", 0, 1, slice(0, 16), slice(0, 64)),
])
def test_a_factor_brightens_its_place(factor, low, high, rows, columns):
    dark, bright = middle_of(factor, low, high, lambda x: x[:, rows, columns].mean((1, 2)))
    assert (bright > dark + 1e-4).float().mean() >= 0.75 and bright.mean() > dark.mean()


def test_pose_moves_the_patient():
    def centre(x):
        return (x.mean(1) * torch.arange(64)).sum(1) / x.mean(1).sum(1)

    left, right = middle_of("shift_x", 1.5, -1.5, centre, field=46)
    assert (right > left + 1).all(), "the film moves one way, the patient's picture the other"
    wide, near = middle_of("field", 60, 31, lambda x: (x[:, 24:36, :3] < 0.15).float().mean((1, 2)))
    assert (wide >= near).all() and wide.mean() > near.mean(), "a wide film shows air beside the patient"


def test_exposure_sets_noise_blur_and_detail():
    def rough(x):
        return (x[:, 1:-1, 1:-1] - F.avg_pool2d(x[:, None], 3, 1)[:, 0]).pow(2).mean((1, 2))

    for factor, low, high in (("dose", 6.0, 3.0), ("spot", 0.3, 0.02), ("detail", 0.1, 1.2), ("ribs", 0.2, 1.3)):
        smooth, sharp = middle_of(factor, low, high, rough, size=128)
        assert (sharp > smooth).all(), factor


# --- the classes' signs ---------------------------------------------------------------------------------


def lungs(size=32):
    """Where the lungs of a middling patient are, (size, size) bool, and the pixels' x, y in cm."""
    grid = (torch.arange(size) + 0.5) / size - 0.5
    y, x = torch.meshgrid(34 * grid, 34 * grid, indexing="ij")
    return (x.abs() > 4) & (x.abs() < 11.5) & (y > -8) & (y < 7), x, y


def lost(label, **changes):
    """The share of air that disease takes from eight patients, (8, 32, 32)."""
    factors = patients(8, **changes)
    return 1 - air_share([label] * 8, factors, size=32)


def test_normal_lungs_lose_nothing():
    assert lost(NORMAL).abs().max() == 0


def test_a_focal_opacity_is_dense_and_on_its_side():
    inside, x, _ = lungs()
    for side, there in ((-0.5, x < 0), (0.5, x > 0)):
        share = lost(OPACITY, side=side, severity=0.8)
        here, other = share[:, inside & there], share[:, inside & ~there]
        assert (here.amax(1) > 0.6).all() and (other.amax(1) < 0.1).all()
        assert ((here > 0.4).float().mean(1) < 0.8).all(), "focal"


def test_covid_lies_in_both_lungs_at_the_wall_and_low():
    inside, x, y = lungs()
    share = lost(COVID, severity=0.8)
    right, left = (share[:, inside & side].amax(1) for side in (x < 0, x > 0))
    assert (right > 0.2).all() and (left > 0.2).all()
    wall, hilum = (share[:, inside & zone].mean() for zone in (x.abs() > 9, x.abs() < 6))
    low, high = (share[:, inside & zone].mean() for zone in (y > 0, y < -3))
    assert wall > 1.5 * hilum and low > 1.2 * high
    assert share.max() <= 0.8, "ground glass leaves air"


def test_viral_pneumonia_is_a_net_in_both_lungs():
    inside, x, _ = lungs()
    share = lost(VIRAL, severity=0.8)
    for side in (x < 0, x > 0):
        part = share[:, inside & side]
        assert (part.mean(1) > 0.05).all() and ((part > 0.02).float().mean(1) > 0.6).all(), "diffuse"
    net, patch = (x[:, inside] for x in (share, lost(OPACITY, severity=0.8)))
    assert (net.std(1) / net.mean(1) < patch.std(1) / patch.mean(1)).all(), "more even than a patch"


def test_disease_whitens_the_lungs_and_severity_adds_to_it():
    inside, _, _ = lungs(size=64)
    healthy = pictures(NORMAL)[:, inside].mean()
    for label in (OPACITY, COVID, VIRAL):
        mild, severe = (pictures(label, severity=v)[:, inside].mean() for v in (0.5, 1.0))
        assert healthy + 0.004 < mild < severe, CLASSES[label]


# --- bad inputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, error, words", [
    ({"n": 0}, ValueError, "n = 0.*at least 1"),
    ({"n": 2.0}, TypeError, "n must be a whole number, not 2.0"),
    ({"size": 8}, ValueError, "size = 8.*at least 16"),
    ({"size": 64.0}, TypeError, "size must be a whole number"),
    ({"seed": "a"}, TypeError, "seed must be a whole number, not 'a'"),
    ({"seed": None}, TypeError, "seed must be a whole number, not None"),
    ({"classes": "Flu"}, ValueError, "'Flu' is not known.*Viral Pneumonia"),
    ({"classes": 4}, ValueError, "4 is not known"),
    ({"classes": [0, 1, -1]}, ValueError, "-1 is not known"),
    ({"classes": [0, 1, 0.5]}, ValueError, "0.5 is not known"),
    ({"classes": [0, 1]}, ValueError, "2 for n = 3 images"),
])
def test_bad_inputs_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        cxr_phantom(**({"n": 3, "size": 64, "seed": 0} | arguments))


def test_bad_factors_are_named():
    factors = patients(4)
    for change, words in (
        ({"weight": factors["heart"]}, "weight"),
        ({"heart": torch.zeros(3)}, r"shape \(4,\).*'heart': \(3,\)"),
        ({"patient": factors["heart"]}, "'patient' must be int64"),
        ({"dose": torch.tensor([1, 1, 1, torch.nan])}, "'dose'.*not finite"),
        ({"field": torch.zeros(4)}, "'field' must be positive"),
    ):
        with pytest.raises(ValueError, match=words):
            draw([0] * 4, factors | change)
    with pytest.raises(ValueError, match="heart"):
        draw([0] * 4, {k: v for k, v in factors.items() if k != "heart"})


# --- the page -------------------------------------------------------------------------------------------


def test_the_page_says_what_was_measured_on_these_phantoms():
    found, text = json.loads(bench.KEPT.read_text(encoding="utf-8")), bench.PAGE.read_text(encoding="utf-8")
    assert bench.filled(text, found) == text, "run python tests/benchmarks/phantom.py --page"
    assert bench.fingerprint() == pytest.approx(found["drawn"], abs=0.5), "other phantoms: measure them again"
    assert f"{found['likeness']['n']} pictures" in text and f"{sum(found['films'].values())} films" in text
    assert f"{len(FACTORS)} factors" in text and "fork four times" in text and phantom.FORKS == 5


def test_the_pages_pictures_are_small_and_marked():
    text = bench.PAGE.read_text(encoding="utf-8")
    pictures = sorted(bench.FIGURES.glob("xrays_*"))
    assert len(pictures) == 3 and all(f"](figures/{path.name})" in text for path in pictures)
    assert sum(path.stat().st_size for path in pictures) < 300_000
    assert text.count("imulated, not for diagnosis") >= 3
