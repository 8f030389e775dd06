"""The code cells of a chapter: read from its source, found by what they do, run outside a notebook.

torchrun, the scoreboard, the page on real films, the shipped weights and the tests all use them.
"""

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def cells(path: str | Path) -> list[Any]:
    """The code cells of a chapter's source, each with `source` and `metadata`.

    Raises ModuleNotFoundError without jupytext, which genmed itself does not need.
    """
    try:
        import jupytext
    except ModuleNotFoundError:
        remedy = "reading a chapter's source needs jupytext: pip install jupytext"
        raise ModuleNotFoundError(remedy) from None
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == "code"]


def run(cells: Sequence[Any], namespace: dict[str, Any], name: str) -> None:
    """Execute cells in order in one namespace; tracebacks know them under the chapter's name."""
    for number, cell in enumerate(cells, 1):
        exec(compile(cell.source, f"{name}, code cell {number}", "exec"), namespace)


def tagged(cells: Sequence[Any], tag: str) -> int:
    """The index of the first cell with a tag.  Raises ValueError where none has it."""
    for i, cell in enumerate(cells):
        if tag in _tags(cell):
            return i
    raise ValueError(f"no code cell has the tag {tag!r}")


def calling(cells: Sequence[Any], function: str) -> list[int]:
    """The indices of the cells that call a function, named as they name it: "expect.model"."""
    return [i for i, cell in enumerate(cells) if function in _called(ast.parse(cell.source).body)]


def last_training(cells: Sequence[Any]) -> int:
    """The index of the last cell that trains, solutions apart; -1 if none does.

    A cell trains that calls `train.fit` or a function that does.
    """
    trees = [ast.parse(cell.source) for cell in cells]
    fitting = _functions_that_fit(trees)
    last = -1
    for i, (cell, tree) in enumerate(zip(cells, trees)):
        defined = ast.FunctionDef | ast.ClassDef
        at_once = [node for node in tree.body if not isinstance(node, defined)]
        if fitting & _last_names(_called(at_once)) and "solution" not in _tags(cell):
            last = i
    return last


def _tags(cell: Any) -> list[str]:
    return cell.metadata.get("tags", [])


def _called(nodes: Iterable[ast.AST]) -> set[str]:
    """All functions called in syntax nodes, as the code names them."""
    inside = [node for top in nodes for node in ast.walk(top)]
    return {ast.unparse(node.func) for node in inside if isinstance(node, ast.Call)}


def _last_names(called: set[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in called}


def _functions_that_fit(trees: list[ast.Module]) -> set[str]:
    """`fit` and the names of all functions that call it, or call one that does, and so on."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    fitting, before = {"fit"}, 0
    while len(fitting) != before:
        before = len(fitting)
        fitting |= {f.name for f in functions if fitting & _last_names(_called(f.body))}
    return fitting
