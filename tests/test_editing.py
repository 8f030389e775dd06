"""The study of editing and its page: paths there and back, scores of maps, tables as printed, references as cited."""

import json
import sys
from pathlib import Path

import pytest
import study_tables
import torch
from test_references_and_figures import prose_and_references, uncited, unlisted
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(study_tables.STUDIES))
import editing  # noqa: E402

from genmed_core import diffusion  # noqa: E402

PAGE = ROOT / "chapters" / "editing.md"
MEANS, SD = torch.tensor([-0.4, 0.3]), 0.2


class OfTwoGaussians(nn.Module):
    """The exact v of films whose pixels are N(MEANS[y], SD^2)."""

    null = 2

    def forward(self, x_t, t, y):
        _, _, alpha_bar, noise_var = (s.float().view(-1, 1, 1, 1) for s in editing.SCHEDULE.at(t))
        mean = MEANS[y].view(-1, 1, 1, 1)
        x0 = mean + SD**2 * alpha_bar.sqrt() / (SD**2 * alpha_bar + noise_var) * (x_t - alpha_bar.sqrt() * mean)
        eps = (x_t - alpha_bar.sqrt() * x0) / noise_var.sqrt()
        return diffusion.target(x0, eps, t, editing.SCHEDULE, predicts="v")


def test_a_film_comes_back_under_its_own_label_and_takes_its_quantile_along_to_another():
    own = torch.zeros(200, dtype=torch.int64)
    x = MEANS[0] + SD * torch.randn(200, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    steps = list(range(0, 1000, 3))
    noisy = editing.walk(OfTwoGaussians(), x, own, steps)
    torch.testing.assert_close(noisy, (x - MEANS[0]) / SD, rtol=0, atol=0.1)  # standard normal noise
    back = editing.walk(OfTwoGaussians(), noisy, own, steps[::-1])
    there = editing.walk(OfTwoGaussians(), noisy, 1 - own, steps[::-1])
    coarse = editing.walk(OfTwoGaussians(), editing.walk(OfTwoGaussians(), x, own, steps[::3]), own, steps[::3][::-1])
    assert (back - x).abs().max() < 0.02 and (coarse - x).abs().max() > 2 * (back - x).abs().max(), "finer steps"
    torch.testing.assert_close(there - back, torch.full_like(x, MEANS[1] - MEANS[0]), rtol=0, atol=0.02)


def test_average_precision_and_placements_are_those_that_one_counts_by_hand():
    found = editing.precision(torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([True, False, True, False]))
    assert found.item() == pytest.approx((1 + 2 / 3) / 2)
    values = editing.placements(torch.tensor([3.0, 1.0, 2.0, 0.0]))  # ill 3 and 1, well 2 and 0
    assert values.mean().item() == pytest.approx(0.75)
    assert values.chunk(2)[0].mean() == values.chunk(2)[1].mean()


@pytest.fixture(scope="module")
def eight_ways(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENMED_RUNS", str(tmp_path_factory.mktemp("runs")))
        return editing.patients(6, 3, every=True)


def test_true_edits_change_what_they_name(eight_ways):
    well, ill = eight_ways["x"][0], eight_ways["x"][1]
    changed, opaque = (ill - well).abs() > 0.1, eight_ways["opaque"][1]
    assert (ill - well)[opaque].mean() > 0.1 and not eight_ways["opaque"][0].any()
    assert (changed & ~eight_ways["lungs"][1]).sum() < changed.sum() / 2
    assert (eight_ways["x"][2] - well).mean() < -0.05, "dark films are darker"
    assert (eight_ways["x"][4] - well).mean() > 0, "a larger heart is bright"
    c = torch.tensor([[1, 0, 1]]).expand(6, 3)
    assert torch.equal(editing.version(eight_ways, c), eight_ways["x"][5])


def test_the_true_counterfactual_is_the_best_map(eight_ways):
    ill = torch.ones(6, dtype=torch.int64)
    true = editing.smooth(eight_ways["x"][1] - eight_ways["x"][0])
    lungs, opaque = eight_ways["lungs"][ill, torch.arange(6)], eight_ways["opaque"][ill, torch.arange(6)]
    seen = opaque.flatten(1).sum(1) > 5
    noise = torch.rand(true.shape, generator=torch.Generator().manual_seed(0))
    best, worst = (editing.located(one[seen], true[seen], lungs[seen], opaque[seen]) for one in (true, noise))
    assert best["correlation"].min() > 0.999
    assert best["precision"].mean() > worst["precision"].mean() + 0.3 and best["area"].mean() > 0.85


def test_every_piece_of_the_study_runs(eight_ways, monkeypatch):
    monkeypatch.setattr(editing, "PASSES", 3)
    ways = torch.tensor([[k & 1, k >> 1 & 1, k >> 2 & 1] for k in range(8)])
    films = {"x": eight_ways["x"].flatten(0, 1), "c": ways.repeat_interleave(6, 0)}
    assert editing.number(ways).tolist() == list(range(8))
    read = editing.reader(films, steps=2)
    runs = []
    for seed in (0, 1):
        edit = editing.Editors(films, seed, steps=(2, 2))
        runs.append({"seed": seed, "edits": editing.as_lists(editing.edits_of(edit, read, eight_ways)),
                     "maps": editing.as_lists(editing.finding(edit, read, eight_ways))})
    text = editing.table(editing.together(runs))
    assert all(name in text for name in (*editing.EDITS, "StarGAN", "truth", "classifier"))
    true = runs[0]["edits"]["heart"]["truth"]
    assert max(true["error"]) == 0 and max(true["misread"]) == 0, "the truth is off nowhere"
    alone = editing.together(runs[:1])["edits"]["heart"]["StarGAN"]["takes"]
    assert set(alone) == {"value"}, "one training tells nothing of the others"


def test_the_edit_asked_for_changes_one_attribute():
    c = torch.tensor([[0, 1, 0], [1, 1, 1]])
    for name, (at, goal) in editing.EDITS.items():
        before, wanted, _ = editing.asked(c, name)
        assert (before != wanted).sum(1).tolist() == [1, 1] and (before != wanted)[:, at].all()
        assert goal is None or wanted[:, at].tolist() == [goal, goal]


def page():
    return PAGE.read_text(encoding="utf-8")


def test_the_tables_of_the_page_are_those_that_the_study_prints():
    shown, printed = ([line for line in text.splitlines() if line.startswith("|")]
                      for text in (page(), study_tables.printed("editing")))
    assert shown == printed, "paste what editing.py --table prints"


def test_true_edits_are_ceilings_in_the_stored_figures():
    stored = json.loads(editing.JSON.read_text(encoding="utf-8"))
    for name, row in stored["edits"].items():
        assert row["truth"]["takes"]["value"] > row["nothing"]["takes"]["value"] + 0.5, name
        assert all(row["truth"]["error"]["value"] < one["error"]["value"] for way, one in row.items() if way != "truth")
    best = stored["maps"]["truth"]
    assert all(best[key]["value"] >= one[key]["value"] for one in stored["maps"].values() for key in best if key in one)


def test_every_reference_of_the_page_is_cited_and_its_figure_captioned_and_named():
    prose, entries = prose_and_references(page())
    assert entries and (uncited(prose, entries), unlisted(prose, entries)) == ([], [])
    assert "](figures/editing.png)\n\n**Figure E.1.** " in page() and prose.count("igure E.1") >= 2
    assert editing.JSON.with_suffix(".png").stat().st_size < 300_000
