"""Each chapter's notebook is built from its source: paired, fresh, free of widget state, small, and honest."""

import json
import lzma
import re
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
import torch
from ipywidgets import embed

from genmed_core.widgets import Copy, LatentExplorer, Pad

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import notebooks  # noqa: E402
import stored_widgets  # noqa: E402

CHAPTERS = notebooks.sources()
each_chapter = pytest.mark.parametrize("source", CHAPTERS, ids=lambda p: p.stem)


def cells(source, kind=None):
    return [c for c in jupytext.read(source).cells if kind is None or c.cell_type == kind]


def test_there_are_chapters():
    numbers = [int(p.name[:2]) for p in CHAPTERS if p.stem != "capstone"]
    assert numbers == sorted(set(numbers)) and {1, 2, 3} <= set(numbers)


@each_chapter
def test_the_notebook_is_the_one_its_source_makes(source):
    assert notebooks.problems(source) == []


@each_chapter
def test_jupytext_makes_the_source_out_of_the_notebook(source):
    """As `jupytext --to py` would: what the build adds does not leak into a source."""
    notebook = jupytext.read(source.with_suffix(".ipynb"))
    assert jupytext.writes(notebook, fmt="py:percent") == source.read_text(encoding="utf-8")


def test_no_notebook_stands_without_its_source():
    assert {p.stem for p in (ROOT / "chapters").glob("*.ipynb")} <= {p.stem for p in CHAPTERS}


@each_chapter
def test_cells_are_short_and_prose_outweighs_code(source):
    code, prose = cells(source, "code"), cells(source, "markdown")
    longest = max(len(c.source.splitlines()) for c in code)
    assert longest <= 40, f"a code cell has {longest} lines: split it"
    read = [re.sub(r"<details.*?</details>|\]\(https?:[^)]*\)", "", c.source, flags=re.S) for c in prose]
    words = sum(len(re.findall(r"\w+", text)) for text in read)
    assert 1_800 <= words <= 6_500, f"{words} words in all, what is folded away and addresses not counted"


@each_chapter
def test_every_figure_has_alt_text(source):
    for cell in cells(source, "code"):
        if re.search(r"^plots\.show_", cell.source, re.M):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 20, f"no alt text for the figure of the cell that begins {cell.source[:60]!r}"


@each_chapter
def test_the_chapter_promises_something_and_nbval_compares_it(source):
    promises = [c for c in cells(source, "code") if re.search(r"\bexpect\(", c.source)]
    assert promises, "a chapter ends in expectations"
    assert all("nbval-check-output" in c.metadata.get("tags", []) for c in promises)


@each_chapter
def test_stored_outputs_name_no_place_of_the_machine_they_ran_on(source):
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("text", "") + "".join(
                v for k, v in output.get("data", {}).items() if k.startswith("text") and isinstance(v, str))
            assert not re.search(r"(?<![\w.$])/(home|root|work|tmp|Users)/", text), text[:200]


def test_the_check_notices_a_stale_and_a_drifted_notebook(tmp_path):
    source = tmp_path / "01_x.py"
    source.write_text("# %%\nprint(1)\n")
    assert "missing" in notebooks.problems(source)[0]
    notebook = jupytext.read(source)
    notebook.metadata["genmed"] = {"source_sha256": notebooks.sha256(source.read_text(encoding="utf-8"))}
    jupytext.write(notebook, source.with_suffix(".ipynb"))
    drifted = jupytext.writes(notebook, fmt="py:percent")
    source.write_text(drifted.replace("print(1)", "print(2)"))
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text=f"555 {notebooks.FILMS} data")]
    jupytext.write(notebook, source.with_suffix(".ipynb"))
    found = " ".join(notebooks.problems(source))
    assert "films of patients" in found
    assert "was not built from the present" in found and "differ in their cells" in found


@pytest.mark.parametrize("word", ["1", "01", "001", "01_a", "chapters/01_a.py", "01_a.ipynb"])
def test_chapters_are_named_by_number_or_whole_name(word):
    assert notebooks.pick(["01_a", "02_b", "10_c"], [word]) == ["01_a"]


def test_an_unknown_chapter_is_refused_and_those_that_exist_are_listed():
    assert notebooks.pick(["01_a", "10_c"], []) == ["01_a", "10_c"]
    assert notebooks.pick(["01_a", "02_b", "10_c"], ["10", "2"]) == ["02_b", "10_c"]
    for words in (["99"], ["1", "99"], ["01_"], ["0"], ["-1"], [""], ["b"], ["02_b extra"]):
        with pytest.raises(notebooks.ChapterError, match="those that exist: 01_a, 02_b, 10_c"):
            notebooks.pick(["01_a", "02_b", "10_c"], words)


# --- how a notebook is built and read --------------------------------------------------------------------------------

SMALL = '''\
# %% [markdown]
# # Title

# %%
import ipywidgets

class Slider(ipywidgets.IntSlider):
    def _repr_mimebundle_(self, **kwargs):
        return super()._repr_mimebundle_(**kwargs) | {"image/png": "iVBORw0KGgo="}

Slider()

# %%
ipywidgets.IntSlider()

# %%
print("the answer")
'''


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    source = tmp_path_factory.mktemp("chapters") / "01_small.py"
    source.write_text(SMALL, encoding="utf-8")
    notebooks.build(source)
    return source


@pytest.fixture
def small(built, tmp_path):
    """A chapter of one's own without a jupytext header, and its notebook."""
    for path in (built, built.with_suffix(".ipynb"), stored_widgets.path_for(built)):
        copy = tmp_path / path.relative_to(built.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path / built.name


def test_a_source_without_a_header_matches_its_notebook(small):
    assert notebooks.problems(small) == []


def test_a_slider_leaves_its_picture_or_says_what_to_do(small):
    cells = nbformat.read(small.with_suffix(".ipynb"), as_version=4).cells
    (picture,), (words,) = cells[1].outputs, cells[2].outputs
    assert picture.data["image/png"].startswith("iVBOR") and notebooks.is_still(picture)
    assert words.data == {"text/plain": "To move the sliders, run the chapter down to here."}
    assert stored_widgets.VIEW not in picture.data


def test_sliders_are_kept_beside_the_notebook_and_come_back(small):
    place = stored_widgets.path_for(small)
    notebook = nbformat.read(small.with_suffix(".ipynb"), as_version=4)
    assert "widgets" not in notebook.metadata
    stored_widgets.restore(notebook, place)
    state = notebook.metadata.widgets[stored_widgets.STATE].state
    views = [output.data[stored_widgets.VIEW].model_id for output in stored_widgets.shown(notebook)]
    assert [state[name].model_name for name in views] == ["IntSliderModel"] * 2
    for name in views:
        assert state[state[name].state.layout.removeprefix("IPY_MODEL_")].model_name == "LayoutModel"
    nbformat.validate(notebook)


def test_kept_sliders_are_the_same_bytes_when_nothing_changed(small):
    notebook = nbformat.read(small.with_suffix(".ipynb"), as_version=4)
    first = stored_widgets.path_for(small).read_bytes()
    stored_widgets.restore(notebook, stored_widgets.path_for(small))
    text = json.dumps(notebook).replace("0" * 31, "f" * 31)  # other names, as in another run
    stored_widgets.store(nbformat.reads(text, as_version=4), stored_widgets.path_for(small))
    assert stored_widgets.path_for(small).read_bytes() == first


def test_our_widgets_are_kept_without_their_scripts_and_get_those_of_today(tmp_path):
    explorer = LatentExplorer(torch.nn.Linear(2, 784))
    state = {key: value for key, value in explorer.get_state().items() if not isinstance(value, bytes)}
    model = {"model_name": "AnyModel", "model_module": "anywidget", "state": state | {"_esm": "old", "layout": ""}}
    output = nbformat.v4.new_output("display_data", {stored_widgets.VIEW: {"model_id": "a" * 32}})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
    notebook.metadata["widgets"] = {stored_widgets.STATE: {"state": {"a" * 32: model}}}
    stored_widgets.store(notebook, tmp_path / "w.json.xz")
    assert "_esm" not in lzma.decompress((tmp_path / "w.json.xz").read_bytes()).decode()
    stored_widgets.restore(notebook, tmp_path / "w.json.xz")
    (back,) = notebook.metadata.widgets[stored_widgets.STATE]["state"].values()
    assert back["state"]["_esm"] == explorer._esm and back["state"]["_css"] == explorer._css


def test_a_pad_is_kept_without_our_reader_and_gets_it_back(tmp_path):
    pad = Pad(Copy(torch.nn.Identity(), torch.rand(5, 1, 28, 28)))
    saved = embed.dependency_state([pad], drop_defaults=False)[pad.model_id]
    assert saved["buffers"][0]["path"] == stored_widgets.READER
    saved["state"]["layout"] = ""
    file = stored_widgets.compressed("", {"a": saved})
    assert len(file) < 0.1 * len(pad.weights[0])
    (tmp_path / "w.json.xz").write_bytes(file)
    (back,) = stored_widgets.kept(tmp_path / "w.json.xz").values()
    assert back["buffers"] == saved["buffers"]
    assert back["state"]["readings"] == json.loads(json.dumps(saved["state"]["readings"]))


def test_what_sliders_hold_is_light_in_the_repository():
    """Networks under 6 MB: all that is kept, less its pictures, which LZMA leaves as they are."""
    places = [*(ROOT / "chapters" / "figures" / "widgets").glob("*.json.xz")]
    buffers = [b for place in places for model in stored_widgets.kept(place).values() for b in model.get("buffers", [])]
    pictures = sum(len(data) for data in {b["data"] for b in buffers if b["path"][0] == "frames"}) * 3 // 4
    whole = sum(place.stat().st_size for place in places)
    assert whole - pictures < 6_000_000 and whole < 8_000_000


@pytest.mark.parametrize("change, words", [
    (lambda place, source: place.unlink(), "01_small.ipynb has no kept sliders"),
    (lambda place, source: rewrite(source, lambda nb: nb.cells[1].update(source="Slider(), 1")), "has other code than"),
])
def test_sliders_that_are_missing_or_of_other_code_are_named(small, change, words):
    change(stored_widgets.path_for(small), small)
    assert any(words in problem and "run `" in problem for problem in notebooks.problems(small))


def test_the_language_is_stored_and_does_not_depend_on_the_machine(small):
    language = nbformat.read(small.with_suffix(".ipynb"), as_version=4).metadata["language_info"]
    assert language["name"] == "python" and "version" not in language


def rewrite(source, change):
    """Change the notebook of `source` as JupyterLab would, and save it."""
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    change(notebook)
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    return source.with_suffix(".ipynb").read_text(encoding="utf-8")


EDITS = {
    "a cell changed": lambda nb: nb.cells[2].update(source="print(2)"),
    "a cell more": lambda nb: nb.cells.append(nbformat.v4.new_markdown_cell("my note")),
    "a cell less": lambda nb: nb.cells.pop(),
    "cells moved": lambda nb: nb.cells.reverse(),
    "a tag": lambda nb: nb.cells[2].metadata.update(tags=["solution"]),
    "not built by us": lambda nb: nb.metadata.pop("genmed"),
}


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_edits_by_hand_are_not_overwritten(small, change, monkeypatch):
    text = rewrite(small, change)
    small.write_text(SMALL.replace("answer", "other answer"), encoding="utf-8")
    monkeypatch.setattr(notebooks, "build_all", lambda *arguments: pytest.fail("it was run"))
    monkeypatch.setattr(sys, "argv", ["notebooks.py", "--source", str(small.parent)])
    with pytest.raises(SystemExit, match="edited by hand.*--overwrite"):
        notebooks.main()
    with pytest.raises(notebooks.ChapterError, match="edited by hand"):
        notebooks.refuse_edited(small)
    assert small.with_suffix(".ipynb").read_text(encoding="utf-8") == text


def test_running_and_folding_is_no_edit(small):
    def run(notebook):
        notebook.metadata.language_info["version"] = "3.12.1"
        notebook.cells[2].update(outputs=[], execution_count=7)
        notebook.cells[2].metadata.update(jupyter={"source_hidden": True}, collapsed=True, scrolled=True)
    rewrite(small, run)
    notebooks.refuse_edited(small)
    small.with_suffix(".ipynb").write_text("{broken", encoding="utf-8")  # nothing that could be kept
    notebooks.refuse_edited(small)


def test_an_edit_made_while_the_chapter_runs_is_kept(small, monkeypatch):
    monkeypatch.setattr(notebooks.NotebookClient, "execute", lambda client: rewrite(small, EDITS["a cell more"]))
    with pytest.raises(notebooks.ChapterError, match="edited by hand"):
        notebooks.build(small)
    assert "my note" in small.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert notebooks.build(small, overwrite=True) == small.with_suffix(".ipynb").stat().st_size
    assert notebooks.problems(small) == []


@pytest.mark.parametrize("arguments, message", [
    (["--workers", "0"], "--workers 0"), (["--workers", "-1"], "--workers -1"), (["--workers", "two"], "invalid int"),
    (["99"], "those that exist: 01_small"), (["1", "9", "--check"], "there is no chapter '9'"),
    (["--source", "/nowhere"], "no NN_name.py in"), (["--source", __file__], "no NN_name.py in")])
def test_arguments_that_mean_nothing_are_named(small, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["notebooks.py", "--source", str(small.parent), *arguments])
    with pytest.raises(SystemExit) as stop:
        notebooks.main()
    assert stop.value.code not in (0, None) and message in capsys.readouterr().err


def test_more_workers_than_chapters_are_no_trouble(small, monkeypatch, capsys):
    monkeypatch.setattr(notebooks, "build", lambda source, overwrite: 1000)
    assert notebooks.build_all([small], 10_000, False) == [] and "1 KB" in capsys.readouterr().out


@pytest.mark.parametrize("path", [".py", ".ipynb"])
def test_marks_of_a_conflict_are_named_before_anything_runs(small, path, monkeypatch, capsys):
    spoiled = small.with_suffix(path)
    spoiled.write_text("<<<<<<< HEAD\n" + spoiled.read_text(encoding="utf-8"), encoding="utf-8")
    assert any(f"01_small{path} holds git's marks" in line for line in notebooks.problems(small))
    monkeypatch.setattr(notebooks, "build_all", lambda *arguments: [])
    monkeypatch.setattr(sys, "argv", ["notebooks.py", "--source", str(small.parent)])
    with pytest.raises(SystemExit) as stop:
        notebooks.main()
    # a source has to be settled; a notebook is built anew, and that settles it
    assert (stop.value.code == 0) == (path == ".ipynb")


def test_outside_of_the_book_a_source_of_any_name_is_built_where_it_is_asked_for(tmp_path):
    for name in ("flow", "helper", "12_skin"):
        (tmp_path / f"{name}.py").touch()
    assert notebooks.sources(["flow"], tmp_path) == [tmp_path / "flow.py"]
    assert notebooks.sources([], tmp_path) == [tmp_path / "12_skin.py"], "the others may be no notebooks"
    with pytest.raises(notebooks.ChapterError, match="there is no chapter 'flaw'"):
        notebooks.sources(["flaw"], tmp_path)
