"""Pairs of phantoms: one patient twice, where nothing differs but what was asked for."""

import pytest
import torch
from torch.nn import functional as F

from genmed_core.synthetic import pairs as pairs_
from genmed_core.synthetic import phantom
from genmed_core.synthetic.pairs import KINDS, at_hospital_b, edited, pairs

N = 12


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """N pairs of each kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENMED_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield {kind: pairs(N, kind, seed=3) for kind in KINDS}


def difference(pair):
    return (pair.source.int() - pair.target.int()).abs()


def around(masks, pixels):
    return F.max_pool2d(masks.float(), 2 * pixels + 1, 1, pixels).bool()


def test_edits_that_change_nothing_and_an_exposure_of_ones_own_leave_films_as_they_are():
    images, labels, factors = phantom.cxr_phantom(8, seed=5)
    nothing = {name: torch.full((8,), value) for name, value in phantom.NOTHING.items()}
    assert torch.equal(phantom.draw(labels, factors | nothing), images)
    assert torch.equal(phantom.draw(labels, factors, like=(labels, factors)), images)
    again, columns = phantom.cxr_patients(8, seed=5)
    assert torch.equal(again, labels) and set(columns) == set(factors)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_has_shapes_types_and_its_own_truth(drawn, kind):
    pair = drawn[kind]
    for images in (pair.source, pair.target):
        assert images.shape == (N, 1, 64, 64) and images.dtype == torch.uint8
    assert pair.lesions.shape == (N, 1, 64, 64) and pair.lesions.dtype == torch.bool
    assert pair.discs.shape == (N, 3) and pair.labels.shape == (N,) and pair.kind == kind
    has = pair.lesions.flatten(1).any(1)
    assert torch.equal(has, ~pair.discs.isnan().any(1)) and (has.all() if kind == "lesion" else 0 < has.sum() < N)
    assert (difference(pair).flatten(1).amax(1) > 3).all(), "every pair differs"
    rows = torch.tensor([4, 1])
    assert torch.equal(pair.subset(rows).target, pair.target[rows])
    assert torch.equal(pair.subset(rows).factors["heart"], pair.factors["heart"][rows])


def test_a_nodule_changes_its_place_and_nothing_else(drawn):
    pair = drawn["lesion"]
    far = ~around(pair.lesions, 10)
    assert difference(pair)[far].max() <= 1 and (difference(pair)[far] > 0).float().mean() < 0.02
    brighter = (pair.target.float() - pair.source.float() * 1)[pair.lesions]
    assert brighter.mean() > 6 and (brighter > 0).float().mean() > 0.95
    lung = phantom.organs(pair.factors)[:, :2].sum(1)
    assert lung[pair.lesions[:, 0]].mean() > 0.9, "in a lung"


def test_discs_say_where_the_masks_are(drawn):
    pair = drawn["lesion"]
    side = torch.arange(64.0)
    area = pair.lesions.float().sum((1, 2, 3))
    row, column = ((pair.lesions[:, 0].float().sum(k) @ side) / area for k in (2, 1))
    assert (row - pair.discs[:, 0]).abs().max() < 0.7 and (column - pair.discs[:, 1]).abs().max() < 0.7
    assert ((area / torch.pi).sqrt() - pair.discs[:, 2]).abs().max() < 0.5
    assert pair.discs[:, 2].min() > 1.0 and pair.discs[:, 2].max() < 4.5


def test_a_patients_nodule_does_not_depend_on_the_others():
    factors = phantom.cxr_patients(8, seed=1)[1]
    one = phantom.with_nodules({name: column[5:6] for name, column in factors.items()})
    all_ = phantom.with_nodules(factors)
    assert all(torch.equal(one[name], all_[name][5:6]) for name in phantom.EDITS if name in one)
    half = phantom.with_nodules(phantom.cxr_patients(400, seed=1)[1], share=0.3)
    assert (half["nodule"] > 0).float().mean() == pytest.approx(0.3, abs=0.07)


def test_without_ribs_the_lungs_are_smoother_and_the_greys_the_same(drawn):
    pair = drawn["bones"]
    lung = phantom.organs(pair.factors)[:, :2].sum(1, keepdim=True) > 0.9

    def rough(x):
        x = x.float()
        return (x - F.avg_pool2d(x, 5, 1, 2)).square()[lung].mean()

    assert rough(pair.target) < 0.8 * rough(pair.source)
    belly = torch.zeros_like(lung)
    belly[:, :, 60:, 20:44] = True  # below the ribs
    assert difference(pair)[belly].float().mean() < 3


def test_a_quarter_of_the_dose_has_twice_the_noise_and_the_target_next_to_none():
    def noise(dose):
        pair = pairs(N, "dose", dose=dose, seed=3)
        return (pair.source.float() - pair.target.float()).square().mean().sqrt().item()

    full, quarter = noise(1.0), noise(0.25)
    assert quarter / full == pytest.approx(2, abs=0.25)
    assert noise(100) < 0.2 * full, "at a hundred times the dose nearly the target"
    assert 20 < -20 * torch.tensor(quarter / 255).log10() < 30, "a denoiser has something to do"


def test_another_take_has_other_noise_of_the_same_size(drawn):
    pair = drawn["dose"]
    first, again = (phantom.draw(pair.labels, edited(pair.source_factors, take=take), like=(pair.labels, pair.factors))
                    for take in (0, 1))
    assert torch.equal(first, pair.source)
    lung = phantom.organs(pair.factors)[:, :2].sum(1, keepdim=True) > 0.9  # no grey is cut off there
    a, b = ((x.float() - pair.target.float())[lung] for x in (first, again))
    assert torch.corrcoef(torch.stack([a, b]))[0, 1].abs() < 0.1 and a.std() / b.std() == pytest.approx(1, abs=0.1)


def test_hospital_b_films_the_same_patients_otherwise(drawn):
    pair = drawn["scanner"]
    assert torch.equal(phantom.organs(pair.factors), phantom.organs(pair.source_factors))
    changed = {name for name in phantom.FACTORS if not torch.equal(pair.factors[name], pair.source_factors[name])}
    assert changed == set(pairs_.HOSPITAL_B)
    assert pair.source[:, :, 20:44, 10:54].float().mean() > pair.target[:, :, 20:44, 10:54].float().mean() + 10
    again = at_hospital_b(pair.source_factors)
    assert all(torch.equal(again[name], pair.factors[name]) for name in pairs_.HOSPITAL_B)


def test_disease_lies_in_the_lungs(drawn):
    pair = drawn["disease"]
    assert (pair.labels == phantom.OPACITY).all()
    lung = around(phantom.organs(pair.factors)[:, :2].sum(1, keepdim=True) > 0.5, 6)
    changed = difference(pair).float()
    assert changed[lung].mean() > 8 * changed[~lung].mean()


def test_pairs_repeat_and_are_read_from_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GENMED_RUNS", str(tmp_path))
    first = pairs(3, "bones", size=16, seed=1)
    monkeypatch.setattr(phantom, "draw", lambda *a, **k: pytest.fail("drawn again"))
    again = pairs(3, "bones", size=16, seed=1)
    assert torch.equal(first.source, again.source) and torch.equal(first.discs.isnan(), again.discs.isnan())


@pytest.mark.parametrize("arguments, error, words", [
    ({"kind": "time"}, ValueError, "'time' is not known.*scanner"),
    ({"dose": 0}, ValueError, "dose = 0.*above 0"),
    ({"nodules": 1.5}, ValueError, "share = 1.5"),
    ({"n": 0}, ValueError, "n = 0"),
    ({"size": 8}, ValueError, "size = 8"),
    ({"classes": "Flu"}, ValueError, "'Flu' is not known"),
])
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        pairs(**({"n": 2, "kind": "dose", "seed": 0, "size": 16} | arguments))


def test_bad_edits_are_named():
    factors = phantom.cxr_patients(2, seed=0)[1]
    for change, words in (({"nodule": torch.zeros(3)}, r"shape \(2,\)"),
                          ({"cage": torch.full((2,), torch.nan)}, "cage"), ({"tumour": torch.zeros(2)}, "tumour")):
        with pytest.raises(ValueError, match=words):
            phantom.draw([0, 0], factors | change, size=16)
    with pytest.raises(ValueError, match="2 for n = 1|n = 1|1 for n"):
        phantom.draw([0], {k: v[:1] for k, v in factors.items()}, size=16, like=([0, 0], factors))
