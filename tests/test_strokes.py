"""Stroke digits: one drawing for one seed, redrawn from its factors, and good enough to learn from."""

import pytest
import torch
from benchmarks.test_strokes_read_mnist import need_mnist, read_shares, train_reader

from genmed_core.data import DIGITS, ImageSet, digits
from genmed_core.synthetic import strokes
from genmed_core.synthetic.strokes import BLOCK, FACTORS, FORMS, draw, form_names, stroke_digits


def pick(factors, rows):
    return {name: column[rows] for name, column in factors.items()}


def one_hand(n=40, **changes):
    """All ten digits, four times over, with everything at its middle but the tremble and `changes`."""
    labels = torch.arange(n) % 10
    _, _, factors = stroke_digits(n, seed=1, labels=labels)
    middle = {"uniform": lambda a, b: (a + b) / 2, "normal": lambda a, b: a,
              "lognormal": lambda a, b: torch.tensor(a).exp().item()}
    for name, (law, a, b) in FACTORS.items():
        if name != "style":
            factors[name] = torch.full((n,), changes.get(name, middle[law](a, b)))
    return draw(labels, factors).float() / 255


def moments(x):
    """Ink, and the spreads of ink x (N, 28, 28) along rows, columns and between them, each (N,)."""
    grid = torch.arange(28.0)
    ink = x.sum((1, 2))
    cx, cy = (x.sum(1) @ grid) / ink, (x.sum(2) @ grid) / ink
    dx, dy = grid - cx[:, None], grid - cy[:, None]
    xx, yy = (x.sum(1) * dx**2).sum(1) / ink, (x.sum(2) * dy**2).sum(1) / ink
    return ink, xx, yy, (x * dx[:, None, :] * dy[:, :, None]).sum((1, 2)) / ink, cx, cy


# --- what comes out -------------------------------------------------------------------------------------


def test_shapes_types_and_ranges():
    images, labels, factors = stroke_digits(500, seed=3)
    assert images.shape == (500, 28, 28) and images.dtype == torch.uint8
    assert labels.shape == (500,) and labels.dtype == torch.int64
    assert set(labels.tolist()) == set(range(10))
    assert set(factors) == {*FACTORS, "hand"} and factors["hand"].dtype == torch.int64
    for name, (law, a, b) in FACTORS.items():
        column = factors[name]
        assert column.shape == (500,) and column.dtype == torch.float32
        x, reach = (column.log() if law == "lognormal" else column), 2.501 * b
        low, high = (a, b) if law == "uniform" else (a - reach, a + reach)
        assert low <= x.min() and x.max() <= high, name
        assert column.std() > 0, name
    assert (images.amax((1, 2)) > 200).all(), "every drawing has ink"


def test_drawings_are_framed_as_in_mnist():
    images, _, _ = stroke_digits(500, seed=3)
    _, _, _, _, cx, cy = moments(images.float())
    for centre in (cx, cy):  # of mass; MNIST has 14.0 +- 0.3
        assert centre.mean() == pytest.approx(14, abs=0.15) and (centre - 14).abs().max() < 2
    sides = torch.stack([(images.amax(axis) > 0).sum(1) for axis in (1, 2)]).amax(0).float()
    assert sides.mean() == pytest.approx(20, abs=0.5) and sides.max() <= 23  # MNIST has 20


def test_factors_follow_their_laws():
    _, labels, factors = stroke_digits(20_000, seed=0)
    assert factors["slant"].mean() == pytest.approx(0.11, abs=0.01)
    assert factors["slant"].std() == pytest.approx(0.25, abs=0.01)
    assert factors["blend"].mean() == pytest.approx(0.5, abs=0.01)
    assert labels.bincount().min() / 20_000 > 0.09
    table = torch.stack([factors[name] for name in FACTORS] + [labels.float()])
    assert (torch.corrcoef(table) - torch.eye(len(table))).abs().max() < 0.04, "factors are independent"
    names = form_names(labels[labels == 2], factors["style"][labels == 2])
    weights = {name: weight for weight, name, *_ in FORMS[2]}
    for name, weight in weights.items():
        assert names.count(name) / len(names) == pytest.approx(weight / sum(weights.values()), abs=0.04)


def test_both_extremes_of_every_form_fit():
    for digit, forms in FORMS.items():
        assert len({name for _, name, *_ in forms}) == len(forms)
        for _, name, *drawings in forms:
            shape = [[["!" in p for p in stroke.split()] for stroke in d.split("|")] for d in drawings]
            assert all(s == shape[0] for s in shape), f"points or corners of the {digit} {name!r} differ"


# --- the same drawing -----------------------------------------------------------------------------------


def test_a_drawing_does_not_depend_on_what_is_drawn_beside_it(monkeypatch):
    images, labels, factors = stroke_digits(2 * BLOCK + 70, seed=7)
    for n in (1, 13, BLOCK, BLOCK + 1):
        fewer, fewer_labels, fewer_factors = stroke_digits(n, seed=7)
        assert torch.equal(fewer, images[:n]) and torch.equal(fewer_labels, labels[:n])
        assert all(torch.equal(fewer_factors[name], column[:n]) for name, column in factors.items())
    monkeypatch.setattr(strokes, "BLOCK", 96)
    assert torch.equal(stroke_digits(len(images), seed=7)[0], images)


def test_a_drawing_does_not_depend_on_the_threads():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = stroke_digits(300, seed=2)[0]
        torch.set_num_threads(2)
        assert torch.equal(stroke_digits(300, seed=2)[0], one)
    finally:
        torch.set_num_threads(before)


def test_factors_redraw_the_image():
    images, labels, factors = stroke_digits(400, seed=11)
    assert torch.equal(draw(labels, factors), images)
    rows = torch.randperm(400, generator=torch.Generator().manual_seed(0))[:37]
    assert torch.equal(draw(labels[rows], pick(factors, rows)), images[rows])


def test_nothing_outside_is_touched_and_seeds_differ():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first = stroke_digits(50, seed=0)[0]
    assert torch.equal(torch.rand(1), expected), "the global generator moved"
    for seed in (1, -1, 2**40):
        assert not torch.equal(stroke_digits(50, seed=seed)[0], first)
    hands = torch.cat([stroke_digits(1000, seed=seed)[2]["hand"] for seed in range(4)])
    assert len(hands.unique()) == 4000


def test_labels_can_be_chosen_and_leave_the_hand_alone():
    _, _, factors = stroke_digits(60, seed=5)
    images, labels, same = stroke_digits(60, seed=5, labels=[*range(10)] * 6)
    assert labels.tolist() == [*range(10)] * 6
    assert all(torch.equal(same[name], factors[name]) for name in factors)
    threes, labels, _ = stroke_digits(60, seed=5, labels=3)
    assert (labels == 3).all() and torch.equal(threes[3], images[3])
    assert stroke_digits(0, seed=0)[0].shape == (0, 28, 28)


# --- what the factors do --------------------------------------------------------------------------------


def test_a_thicker_pen_leaves_more_ink():
    ink = torch.stack([moments(one_hand(thickness=t))[0] for t in (0.7, 1.0, 1.4, 1.9, 2.5)])
    assert (ink.diff(dim=0) > 0).all()


def test_slant_leans_to_the_right():
    """The top moves right as slant grows: ink's covariance of x and y (y down) falls, for every digit."""
    lean = torch.stack([moments(one_hand(slant=s))[3] for s in (-0.5, -0.2, 0.1, 0.4)])
    assert (lean.diff(dim=0) < 0).all()


def test_aspect_widens_and_rotation_turns_clockwise():
    spreads = [moments(one_hand(aspect=a))[1:3] for a in (0.7, 1, 1.4)]
    ratio = torch.stack([xx / yy for xx, yy in spreads])
    ones = slice(1, None, 10)  # bars, which have hardly a width
    ratio[:, ones] = torch.arange(3.0)[:, None]
    assert (ratio.diff(dim=0) > 0).all()
    lean = torch.stack([moments(one_hand(rotation=r))[3][ones] for r in (-0.3, 0.0, 0.3)])
    assert (lean.diff(dim=0) < 0).all(), "a clockwise turn moves the top of a 1 to the right"


def test_grain_roughens_the_edge():
    smooth, grainy = one_hand(paper=0.0), one_hand(paper=0.25)
    bend = [x.diff(n=2, dim=1).pow(2).mean() for x in (smooth, grainy)]
    assert bend[1] > bend[0]
    assert (smooth - grainy).abs().mean() < 0.03, "and changes little else"


# --- bad inputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, error, words", [
    ({"n": -1}, ValueError, "n = -1"),
    ({"n": 2.0}, TypeError, "float.*integer"),
    ({"seed": "a"}, TypeError, "str.*integer"),
    ({"labels": [0, 1, 10]}, ValueError, r"0\.\.9.*0\.\.10"),
    ({"labels": [-1, 1, 2]}, ValueError, r"0\.\.9.*-1\.\.2"),
    ({"labels": [1, 2]}, ValueError, r"\(3,\), not \(2,\)"),
    ({"labels": torch.zeros(3, 1, dtype=torch.int64)}, ValueError, r"\(3, 1\)"),
    ({"labels": [0.5, 1.0, 2.0]}, TypeError, "float32"),
])
def test_bad_inputs_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        stroke_digits(**({"n": 3, "seed": 0} | arguments))


def test_bad_factors_are_named():
    _, labels, factors = stroke_digits(4, seed=0)
    with pytest.raises(ValueError, match="slant"):
        draw(labels, {k: v for k, v in factors.items() if k != "slant"})
    with pytest.raises(ValueError, match="weight"):
        draw(labels, factors | {"weight": factors["slant"]})
    with pytest.raises(ValueError, match=r"shape \(4,\).*'slant': \(3,\)"):
        draw(labels, factors | {"slant": torch.zeros(3)})
    with pytest.raises(ValueError, match="'hand' must be int64"):
        draw(labels, factors | {"hand": factors["slant"]})
    with pytest.raises(ValueError, match="'ink'.*not finite"):
        draw(labels, factors | {"ink": torch.tensor([1, 1, 1, torch.nan])})
    with pytest.raises(ValueError, match="'thickness' must be positive"):
        draw(labels, factors | {"thickness": torch.zeros(4)})


# --- learning from them ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader():
    images, labels, factors = stroke_digits(10_000, seed=21)
    return train_reader(ImageSet(images[:, None], labels, DIGITS, "strokes", factors), steps=200, width=8)


def test_a_reader_learns_from_strokes(reader):
    images, labels, _ = stroke_digits(2_000, seed=22)
    share, each = read_shares(reader, ImageSet(images[:, None], labels, DIGITS, "strokes"))
    assert share > 0.97 and each.min() > 0.93


def test_a_reader_of_strokes_reads_mnist(reader):
    """The quick form of benchmarks/test_strokes_read_mnist.py, whose longer training must reach 97 %."""
    need_mnist()
    share, _ = read_shares(reader, digits("test", "mnist"))
    assert share > 0.95
