"""Notebooks away from the book: what the download and launch buttons lead to.

A page's download is its stored notebook with a first cell (first_cell.py) that gets the package where it is missing,
if it imports that.
Colab opens the same file from the branch that .github/workflows/pages.yml publishes; Codespaces opens the repository
by .devcontainer/. Both are offered where the course file asks for them and its repository is on GitHub.
"""

import html
from collections.abc import Sequence
from pathlib import Path

import course
import editions
import nbformat
from notebooks import read_notebook

HERE = Path(__file__).resolve().parent
PUBLISHED = "gh-pages"  # the branch of the built pages
DOWNLOADS = "_sources"  # where the theme's download button looks, beside the pages
FIRST_CELL = HERE / "first_cell.py"
NO_ADDRESS = ("genmed_core is not installed here. Install the book's package with pip from a copy of the book's ",
              "repository, python -m pip install FOLDER, then run this notebook again.")


def theme_options(given: course.Course) -> dict:
    """What the theme has to know to show the launch buttons; nothing where there is none."""
    name = course.on_github(given.repository)
    if name is None:
        return {}
    options: dict = {}
    if "colab" in given.launch:
        options |= {"launch_buttons": {"colab_url": "https://colab.research.google.com"},
                    "repository_branch": PUBLISHED, "path_to_docs": DOWNLOADS}
    if "codespaces" in given.launch:
        options["icon_links"] = [{"name": "Open in GitHub Codespaces", "url": f"https://codespaces.new/{name}",
                                  "icon": "fa-solid fa-laptop-code"}]
    return options


def footer(given: course.Course) -> str:
    """What every page says of getting its notebook and the book's package, as HTML."""
    said = "The arrow above a chapter downloads its notebook"
    if not given.repository:
        return (f"<p>{said}. It needs the book's package: <code>python -m pip install FOLDER</code>, FOLDER a copy of "
                "the book's repository.</p>")
    package = html.escape(f"genmed @ git+{given.repository}")
    return (f"<p>{said}, whose first cell gets the book's package where it is missing. By hand: "
            f'<code>python -m pip install "{package}"</code></p>')


def first_cell(repository: str | None) -> nbformat.NotebookNode:
    """The cell that gets the package from a repository; without one, that says what is missing."""
    if repository:
        source = FIRST_CELL.read_text(encoding="utf-8").replace("{PACKAGE}", f"genmed @ git+{repository}")
    else:
        source = ("import importlib.util\n\nif importlib.util.find_spec(\"genmed_core\") is None:\n"
                  f"    raise ModuleNotFoundError(\n        {NO_ADDRESS[0]!r}\n        {NO_ADDRESS[1]!r})")
    return nbformat.v4.new_code_cell(source.strip(), metadata={"tags": ["first-cell"]}, id="get-the-package")


def write_downloads(pages: Path, notebooks: Sequence[Path], given: course.Course, edition: str) -> None:
    """Put what a reader downloads beside the pages: stored outputs, as the edition has them, with the first cell."""
    (pages / DOWNLOADS).mkdir(parents=True, exist_ok=True)
    for path in notebooks:
        notebook = editions.of_notebook(read_notebook(path), edition, path.name)
        if any(cell.cell_type == "code" and "genmed_core" in cell.source for cell in notebook.cells):
            notebook.cells.insert(0, first_cell(given.repository))
        nbformat.write(notebook, pages / DOWNLOADS / path.name)
    (pages / ".nojekyll").touch()  # GitHub Pages would leave out folders that begin with _
