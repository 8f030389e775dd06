"""Imports in genmed_core point one way, and chapters import the core and never each other."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ["errors", "arguments", "runtime", "startup", "places", "cache", "imagefiles", "collection", "idx",
          "downloads", "mnist_cifar", "kernels", "synthetic", "radiographs", "data", "own", "pyhealth", "nets",
          "diffusion", "flow_matching", "progress", "history", "checkpoints", "train", "metrics", "audit",
          "hallucinations", "plots", "widgets", "exercises", "chapters", "distributed"]
DRAWS = {"plots", "widgets"}  # the only ones that may import matplotlib


def imported(path):
    """Names of all modules imported anywhere in a file, `from a import b` as a.b as well as a."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: write imports from genmed_core in full"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def core_files():
    return sorted((ROOT / "genmed_core").rglob("*.py"))


def layer(path):
    return path.relative_to(ROOT / "genmed_core").parts[0].removesuffix(".py")


def test_readme_lists_the_core_from_top_to_bottom():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text[text.index("\ngenmed_core/ ") : text.index("\ndata/ ")]
    listed = [line.split()[0].removesuffix(".py").rstrip("/") for line in block.strip().splitlines()[1:]]
    assert [name for name in reversed(listed) if name != "weights"] == LAYERS


def test_links_in_the_readme_lead_to_files():
    for page in ("README.md", ".github/CONTRIBUTING.md", "CHANGELOG.md", "data/README.md"):
        path = ROOT / page
        prose = re.sub(r"`[^`\n]*`", "", path.read_text(encoding="utf-8"))
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", prose)
        assert not [link for link in links if not (path.parent / link).exists()], page
    chapters = {p.name for p in (ROOT / "chapters").glob("[0-9][0-9]_*.ipynb")}
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(chapters/(\d\d_\w+\.ipynb)\)", text)) == chapters


@pytest.mark.parametrize("path", core_files(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_core_imports_point_down(path):
    here = layer(path)
    if here == "__init__":
        return
    assert here in LAYERS, f"{here} has no place in the order of layers: add it to LAYERS and to the README"
    for name in imported(path):
        if name.startswith("genmed_core."):
            there = name.split(".")[1]
            assert LAYERS.index(there) <= LAYERS.index(here), f"{here} imports {there}, which stands above it"
        if name.split(".")[0] == "matplotlib":
            assert here in DRAWS, f"{here} imports matplotlib: figures belong to plots"


@pytest.mark.parametrize("path", sorted((ROOT / "chapters").glob("*.py")), ids=lambda p: p.name)
def test_chapters_import_the_core_first_and_never_each_other(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    first = next(node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    assert ast.unparse(first) == "import genmed_core", "import genmed_core first: it sets how threads wait"
    others = {p.stem for p in (ROOT / "chapters").glob("*.py")}
    assert not {name.split(".")[0] for name in imported(path)} & others


def functions(body):
    """Public functions and methods of a module, those of public classes included."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", core_files(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_functions_stay_short_and_public_ones_say_what_they_do(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= 40, f"{path.name}: {node.name} has {lines} lines"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


@pytest.mark.parametrize("path", core_files(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_arguments_and_results_of_public_functions_are_annotated(path):
    if path.parent.name == "sheets":  # oracles in the letters of the exercises, whose text says what they are
        return
    for node in functions(ast.parse(path.read_text(encoding="utf-8")).body):
        given = node.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, [given.vararg, given.kwarg])]
        bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        assert not bare, f"{path.name}: {node.name} does not say what {', '.join(bare)} may be"
        assert node.returns is not None, f"{path.name}: {node.name} does not say what it returns"
