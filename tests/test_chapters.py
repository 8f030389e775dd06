"""A chapter's code cells: found by tag or by what they call, and run down to any of them."""

import builtins

import pytest

from genmed_core import chapters

SOURCE = """\
# %%
a = 1

# %%
def go():
    return train.fit(a)

# %%
def deep():
    go()

# %% [markdown]
# text

# %% tags=["train"]
deep()

# %%
b = [expect.model("m") for _ in range(0)]

# %% tags=["solution"]
go()
"""


@pytest.fixture
def cells(tmp_path):
    path = tmp_path / "09_x.py"
    path.write_text(SOURCE)
    return chapters.cells(path)


def test_cells_are_found_by_what_they_do(cells):
    firsts = [cell.source.split("\n")[0] for cell in cells]
    assert firsts[:4] == ["a = 1", "def go():", "def deep():", "deep()"] and firsts[5] == "go()"
    assert chapters.last_training(cells) == 3 and chapters.last_training(cells[:3]) == -1
    assert chapters.calling(cells, "expect.model") == [4] and chapters.calling(cells, "model") == []
    assert chapters.tagged(cells, "train") == 3
    with pytest.raises(ValueError, match="no code cell has the tag 'audit'"):
        chapters.tagged(cells, "audit")


def test_cells_share_a_namespace_and_an_error_names_the_chapter_and_the_cell(cells):
    namespace = {"train": None}
    chapters.run(cells[:3], namespace, "09_x.py")
    assert namespace["a"] == 1
    with pytest.raises(AttributeError) as error:
        chapters.run(cells[3:], namespace, "09_x.py")
    assert "09_x.py, code cell 1" in str(error.getrepr())


def test_without_jupytext_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    load = builtins.__import__

    def absent(name, *others):
        if name == "jupytext":
            raise ModuleNotFoundError(name)
        return load(name, *others)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ModuleNotFoundError, match="pip install jupytext"):
        chapters.cells(tmp_path / "09_x.py")
