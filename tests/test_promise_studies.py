"""The studies about promises: bugs are planted where they are meant to be, and bars are judged by the right formula."""

import random
import sys
from pathlib import Path

import pytest

STUDIES = Path(__file__).resolve().parent / "benchmarks" / "studies"
sys.path.insert(0, str(STUDIES))
import bars  # noqa: E402
import planted_bugs  # noqa: E402
from planted_bugs import Bug, planted, slice_for  # noqa: E402

from genmed_core import chapters  # noqa: E402

CELLS = [
    "SCALE = 2\nx = 5",
    "import math\ndef loss(x):\n    return SCALE * x",
    "costly = [x] * 1000\ncostly[0] = 3",
    "x = 4\nvalue = loss(x)",
    "expect('costly', sum(costly), below=1)\nshown = value + 1\nexpect('double', shown, above=8.5, below=9.5)",
]


def test_a_slice_holds_the_cells_that_a_promise_needs_and_no_others():
    assert slice_for(CELLS, ("double",)) == [
        CELLS[0], CELLS[1], CELLS[3], "shown = value + 1\nexpect('double', shown, above=8.5, below=9.5)"]
    assert CELLS[2] in slice_for(CELLS, ("costly",)) and CELLS[3] not in slice_for(CELLS, ("costly",))
    with pytest.raises(LookupError, match="no promise is named 'treble'"):
        slice_for(CELLS, ("double", "treble"))


def test_a_bug_breaks_its_promise_and_the_cells_without_it_do_not():
    import genmed_core.metrics as metrics
    cells = ["from genmed_core import metrics\nexpect = metrics.Expectations('x', source='mnist')", *CELLS]
    bug = Bug("01", "scale", "return SCALE * x", "return x", ("double",))
    assert planted_bugs.broken_promise(slice_for(cells, bug.promises)) == ""
    broken = planted_bugs.broken_promise(slice_for(planted(bug, cells), bug.promises))
    assert broken.startswith("double is 5 on mnist")
    assert issubclass(metrics.ExpectationFailed, AssertionError)


@pytest.mark.parametrize("text, count", [("return TWICE", 0), ("expect(", 2)])
def test_a_bug_whose_text_is_not_there_once_is_refused(text, count):
    with pytest.raises(LookupError, match=f"found {count} times, not once"):
        planted(Bug("01", "none", text, "", ("double",)), CELLS)


def test_the_bugs_are_many_and_unlike():
    names = {(bug.chapter, bug.name) for bug in planted_bugs.BUGS}
    assert len(planted_bugs.BUGS) == len(names) >= 25


CHAPTERS = sorted({bug.chapter for bug in planted_bugs.BUGS})


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_bug_can_be_planted_and_its_promises_are_made(chapter):
    path = next((STUDIES.parents[2] / "chapters").glob(f"{chapter}_*.py"))
    sources = [c.source for c in chapters.cells(path) if "solution" not in c.metadata.get("tags", [])]
    for bug in [bug for bug in planted_bugs.BUGS if bug.chapter == chapter]:
        spoiled = slice_for(planted(bug, sources), bug.promises)
        assert spoiled != slice_for(sources, bug.promises), f"{bug.name}: the bug is not in the cells that are run"


def test_a_false_alarm_is_as_frequent_as_it_is_said_to_be():
    generator = random.Random(0)
    alarms, said, caught, runs = 0, 0.0, 0, 4000
    for _ in range(runs):
        seen = [generator.gauss(10, 2) for _ in range(5)]
        found = bars.judged(seen, below=15, above=None)
        said += found["false_alarm"]
        alarms += generator.gauss(10, 2) >= 15
        caught += generator.gauss(10 + found["caught"], 2) >= 15
    assert abs(found["mean"] - 10) < 4 and said / runs > alarms / runs, "few seeds make one careful"
    assert abs(caught / runs - 0.9) < 0.03
    exact = bars.judged([1.0, 1.0, 1.0], below=2, above=0.5)
    assert exact == {"mean": 1.0, "sd": 0.0, "false_alarm": 0.0, "caught": 0.5}


def test_the_table_names_each_promise():
    promises = {}
    for seed, value in enumerate((1.0, 2.0, 3.0)):
        assert bars.table({"02_vae": {"promises": promises}}).count("\n") == 1, "too few seeds to judge by"
        bars.add_seed(promises, seed, [{"name": "error", "value": value, "below": 9, "above": None},
                                       {"name": "only recorded", "value": value, "below": None, "above": None}])
    assert "| 2 | error | 3 | 2 ± 1 | below 9 |" in bars.table({"02_vae": {"promises": promises}})


def notebook(chapter, printed):
    """The stored outputs of a chapter."""
    output = bars.nbformat.v4.new_output("stream", text=printed)
    cells = [bars.nbformat.v4.new_code_cell("", outputs=[output])]
    bars.nbformat.write(bars.nbformat.v4.new_notebook(cells=cells), chapter.with_suffix(".ipynb"))


def test_a_moved_bar_judges_the_seeds_that_are_there(tmp_path, monkeypatch):
    chapter, output = tmp_path / "02_vae.py", tmp_path / "bars.json"
    values = {0: 1.0, 1: 2.0, 2: 3.0}
    monkeypatch.setattr(bars, "run_seed", lambda path, seed: (
        "mnist", [{"name": "error", "value": values.pop(seed), "below": 9, "above": None}]))
    chapter.write_text('# %%\nexpect("error", x, below=9)\n')
    notebook(chapter, "error: 2, promised below 9: margin 7: yes\n")
    bars.complete(chapter, [0, 1, 2], output)
    chapter.write_text('# %%\nexpect("error", x, below={"mnist": 30, "strokes": None}, above=-1e3)\n')
    notebook(chapter, "error: 2, promised below 30 (mnist), nothing promised (strokes) and above -1000: margin 28: "
                      "kept where promised\n")
    bars.complete(chapter, [0, 1, 2], output)
    entry = bars.json.loads(output.read_text())["02_vae"]["promises"]["error"]
    assert (entry["below"], entry["above"], entry["caught"] > 28) == (30, -1000, True) and not values


def test_every_bar_is_read_back_from_the_stored_outputs():
    for stem, found in bars.json.loads(bars.STORED.read_text(encoding="utf-8")).items():
        bars_today = bars.bars_of(bars.ROOT / "chapters" / f"{stem}.py", found["source"])
        for name, entry in found["promises"].items():
            assert bars_today[name] == {"below": entry["below"], "above": entry["above"]}, name


def test_a_chapter_goes_on_with_the_seeds_that_it_lacks_and_begins_anew_when_its_code_changes(tmp_path, monkeypatch):
    chapter, output, asked = tmp_path / "02_vae.py", tmp_path / "bars.json", []
    notebook(chapter, "error: 0.5, promised below 9: margin 8.5: yes\n")

    def run_seed(path, seed):
        asked.append(seed)
        return "mnist", [{"name": "error", "value": float(seed), "below": 9, "above": None}]

    monkeypatch.setattr(bars, "run_seed", run_seed)
    chapter.write_text("# %%\nx = 1\n")
    bars.complete(chapter, [0, 1], output)
    bars.complete(chapter, [0, 1, 2], output)
    assert asked == [0, 1, 2]
    chapter.write_text("# %% [markdown]\n# Words.\n\n# %%\nx = 1\n")
    bars.complete(chapter, [2], output)
    assert asked == [0, 1, 2]
    chapter.write_text("# %%\nx = 2\n")
    bars.complete(chapter, [2], output)
    stored = bars.json.loads(output.read_text())["02_vae"]
    assert asked == [0, 1, 2, 2] and list(stored["promises"]["error"]["values"]) == ["2"]
