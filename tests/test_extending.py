"""What others add to the project: one of each kind is one entry, and nothing else is touched."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
import torch
import yaml
from benchmarks import scoreboard
from chapter_steps import study
from training_steps import autoencoder, gan, weights

from genmed_core import chapters, kernels, metrics, runtime, train

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import build  # noqa: E402
import notebooks  # noqa: E402


def test_a_new_metric_is_one_entry(request, few_pairs):
    def mean_gap(c):
        return (c.real.mean(0) - c.fake.mean(0)).norm().item()

    metrics.register(metrics.Measure("mean_gap", "distance of means", "lower", mean_gap, format=".3f"))
    request.addfinalizer(lambda: metrics.MEASURES.pop("mean_gap"))

    x = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    report = metrics.sample_report(x[:20], x[20:], n=20)
    assert report["mean_gap"] > 0 and report["floor"]["mean_gap"] > 0
    row = f"| distance of means | {report['floor']['mean_gap']:.3f} | {report['mean_gap']:.3f} |"
    assert row in metrics.report_table({"noise": report}).splitlines()
    metrics.Expectations("04_gan", source="mnist").model(
        "noise", report=report, samples=x[:20], real=x[20:], train_seconds=1, sample_seconds=1, parameters=1)
    (model,) = json.loads((runtime.runs_dir() / "results" / "04_gan.json").read_text())["models"]
    assert model["mean_gap"] == report["mean_gap"] and model["floor"]["mean_gap"] == report["floor"]["mean_gap"]


# --- a training mode is one class -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [autoencoder, gan])
def test_a_new_training_mode_is_one_class(make, digits_like, request, capsys):
    """Steps in pairs, whose images are looked up at once: with schedule, noise, two players and reports as ever."""
    taken = []

    class Pairs(kernels.Mode):
        name = "pairs"

        def advance(self, most):
            step, steps = self.step, min(2, most)
            for index in step.batches.take(steps * step.batches_per_step).split(step.batches_per_step):
                step.rates.apply(step.count, step.total)
                step.take_step(index)
                step.state.count += 1
            taken.append(steps)
            return steps

    request.addfinalizer(lambda: kernels.MODES.pop("pairs"))
    ends = []
    for mode in ("eager", "pairs"):
        _, step = make(*digits_like, mode=mode)
        logs = train.fit(step, 22, reports=2).logs
        assert step.mode == mode and step.count == 22
        ends.append((weights(step.model), logs))
    assert taken == [2, 2, 2, 2, 2, 1] * 2
    assert torch.equal(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]

    Pairs.obstacle = classmethod(lambda cls, step: "pairs want an even number")
    _, step = make(*digits_like, mode="pairs")
    assert step.mode == "eager" and "note: pairs want an even number; running eagerly" in capsys.readouterr().out
    with pytest.raises(ValueError, match="choose one of auto, eager, compile, graph, pairs"):
        make(*digits_like, mode="twos")


# --- a data set is one reader ---------------------------------------------------------------------------

CORE = Path(__file__).resolve().parent.parent / "genmed_core"

READER = '''"""Discs of two sizes: a data set that is not part of the book."""

import torch

from genmed_core import data


def discs(split, size=32):
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = ((y - size / 2) ** 2 + (x - size / 2) ** 2).sqrt()
    labels = torch.arange(8) % 2
    images = (distance[None, None] < size / 4 * (1 + labels.view(-1, 1, 1, 1) / 2)) * 255
    return data.ImageSet(images, labels, ("small", "large"), "discs"), "discs, drawn"


data.READERS["discs"] = {"drawn": discs}
'''

USE = '''
import genmed_core
from genmed_core import data, discs
found = data.load("discs", "val", size=16)
assert genmed_core.__file__.startswith({copy!r})
assert len(found) == 8 and found.images.shape == (8, 1, 16, 16) and found.caption == "discs"
assert data.class_counts(found) == {{"small": 4, "large": 4}}
try:
    data.load("discs", "val", "kaggle")
except ValueError as error:
    print(error)
'''


def test_a_new_data_set_is_one_reader(tmp_path):
    shutil.copytree(CORE, tmp_path / "genmed_core", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "genmed_core" / "discs.py").write_text(READER)
    done = subprocess.run([sys.executable, "-c", USE.format(copy=str(tmp_path))], cwd=tmp_path, text=True,
                          capture_output=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "discs val: 8 discs, drawn\n" in done.stdout
    assert "source 'kaggle' is not known; choose one of 'auto', 'drawn'" in done.stdout


CHAPTER = '''
# %% [markdown]
# # 10. Flow matching

# %%
import genmed_core
import torch
from genmed_core import kernels, metrics, train

model = torch.nn.Linear(4, 4)
images = torch.rand(64, 1, 2, 2)
step = kernels.TrainStep(lambda batch: (model(batch.x.flatten(1)).square().mean(), {}),
                         torch.optim.SGD(model.parameters(), lr=0.1), model=model,
                         batches=kernels.Batches(images, batch_size=8))
history = train.fit(step, 4, title="straight paths")

# %%
expect = metrics.Expectations("10_flow", source="mnist")
expect.model("Flow matching")
'''


def test_a_new_chapter_is_one_file_and_its_line_in_the_contents(tmp_path, monkeypatch):
    """Notebooks, book, scoreboard and parity all take chapter 10, and chapter 1 is still chapter 1."""
    for name in ("01_autoencoder.py", "09_ldm_cxr.py"):
        shutil.copy(ROOT / "chapters" / name, tmp_path)
    source = tmp_path / "10_flow.py"
    source.write_text(CHAPTER.lstrip())
    for path in tmp_path.glob("*.py"):
        jupytext.write(jupytext.read(path), path.with_suffix(".ipynb"))
    contents = [{"part": "Autoencoders", "pages": ["01_autoencoder"]},
                {"part": "Diffusion", "pages": ["09_ldm_cxr", "10_flow"]}]
    (tmp_path / "course.yml").write_text(yaml.safe_dump({"contents": contents}))

    assert [path.name[:2] for path in notebooks.sources(folder=tmp_path)] == ["01", "09", "10"]
    book = build.course_of(tmp_path, None)
    for picked, name in (("1", "01_autoencoder"), ("10", "10_flow")):
        assert [page.stem for page in build.table_of_contents(book, [picked])[1]] == [name]

    assert [cell.source for cell in scoreboard.to_recording(source)] == [c.source for c in chapters.cells(source)]
    monkeypatch.setattr(scoreboard, "CONFIG", tmp_path)
    assert scoreboard.family("10_flow", "Flow matching") == "diffusion"
    assert study("10_flow", lambda title, step: step.count, monkeypatch, folder=tmp_path) == {"straight paths": 0}


# --- an attack of the audit is one file -----------------------------------------------------------------

ATTACK = '''"""Are all samples in one place?"""

from genmed_core.audit.attacks import attack
from genmed_core.audit.questions import Finding, question


@attack(spread="spread of the distances")
def spread(neighbours):
    distance, _ = neighbours.nearest("synthetic", "held-out")
    value = float(distance.std())
    return {"spread": {"value": value, "low": value, "high": value}}


@question("Are they in one place?", good="no", bad="yes")
def _in_one_place(report):
    value = report["privacy"]["spread"]["value"]
    return Finding(value < 9, f"spread {value:.2f}", "below 9 they are")
'''

AUDIT = '''
import genmed_core
import numpy as np, torch
from genmed_core.audit import Known, Neighbours, privacy, questions, report
assert genmed_core.__file__.startswith({copy!r})
images = torch.randint(0, 256, (3, 12, 1, 64, 64), dtype=torch.uint8)
known = Known(images[0], images[1], np.random.default_rng(0), steps=2)
found = privacy(Neighbours(known, images[2], np.random.default_rng(0)))
print(*report._privacy(found), sep="\\n")
(asked,) = (q for q in questions.QUESTIONS if q.text == "Are they in one place?")
assert asked.find({{"privacy": found}}).bad and questions.QUESTIONS[0].text.startswith("Is the held-out set")
'''


def test_a_new_attack_is_one_file(tmp_path):
    shutil.copytree(CORE, tmp_path / "genmed_core", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "genmed_core" / "audit" / "attacks" / "place.py").write_text(ATTACK)
    done = subprocess.run([sys.executable, "-c", AUDIT.format(copy=str(tmp_path))], cwd=tmp_path, text=True,
                          capture_output=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "spread of the distances" in done.stdout


# --- a slider kind is one widget, a layer one entry on each side ------------------------------------------


def test_a_new_slider_kind_is_one_widget(tmp_path):
    """Three sliders over ready-made pictures, with a picture of its own beside them: one class, its script with it."""
    import traitlets
    import widget_page

    from genmed_core.widgets import Frames, Panel, Slider

    class Cube(Frames):
        _esm = Panel._esm + """
            VIEWS.cube = (model, place) => {
              const frames = framesView(model, place), sum = place.appendChild(document.createElement("strong"));
              return { ...frames, draw() { frames.draw(); sum.textContent = model.get("values").join("+"); } };
            };"""
        view = traitlets.Unicode("cube").tag(sync=True)

        def __init__(self, frames, **names):
            sliders = [Slider.of(name, labels) for name, labels in names.items()]
            super().__init__(frames, sliders, start=[0] * len(sliders))

    pictures = torch.arange(24, dtype=torch.uint8).view(24, 1, 1).expand(24, 4, 4)
    cube = Cube(pictures, style="ab", disease=["none", "mild", "severe"], guidance=[0, 1, 2, 4])
    assert cube.move(1, 2, 3)[0, 0] == 23 and cube.move(1, 0, 2)[0, 0] == 14
    assert cube.describe() == "style b, disease none, guidance 2"
    assert "image/png" in cube._repr_mimebundle_()[0]

    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        page = widget_page.show(widget_page.launch(driver), tmp_path / "cube.html", cube)
        page.get_by_role("slider", name="disease").press("End")
        page.get_by_text("1+2+2").wait_for()
        page.get_by_role("img", name="style b, disease severe, guidance 2").wait_for()
        assert page.locator("[data-place='22']").count() == 1 and not page.trouble


def test_a_new_operation_is_one_entry(request, tmp_path):
    """In Python, and in OPS of engine.js."""
    import engine_node
    from torch import nn

    from genmed_core import widgets

    widgets.add_operation("softplus", lower=lambda r, out, x, beta=1, *rest: r.emit("softplus", [x], out, beta=beta),
                          softplus=lambda op, x: nn.functional.softplus(x, op["beta"]))
    request.addfinalizer(lambda: (widgets.LOWERINGS.pop("softplus"), widgets.TWINS.pop("softplus")))
    entry = "softplus: pointwise((x, op) => Math.log(1 + Math.exp(op.beta * x)) / op.beta),"
    request.getfixturevalue("monkeypatch").setattr(
        widgets, "ENGINE", widgets.ENGINE.replace("const OPS = {", "const OPS = { " + entry))
    decoder = nn.Sequential(nn.Linear(2, 9), nn.Softplus(2.0), nn.Sigmoid())
    x = torch.randn(3, 2)
    explorer = widgets.LatentExplorer(decoder)
    assert torch.allclose(explorer.decode(x).flatten(1), decoder(x), atol=1e-3)
    (drawn,), = engine_node.run(tmp_path, [(explorer.program, {"z": x})])
    assert torch.allclose(drawn, explorer.decode(x), atol=1e-5)


def test_contributing_points_to_the_test_of_each_kind():
    shown = set(re.findall(r"`(test_a_new_\w+)`", (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert shown == {name for name in globals() if name.startswith("test_a_new_")}
