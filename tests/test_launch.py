"""What download and launch buttons lead to is there; a notebook's first cell replaces nothing that is installed."""

import json
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from test_course import ONE, ROOT, book, built  # noqa: F401

import build as builder  # isort: skip
import course  # isort: skip
import launch  # isort: skip

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def wheel(folder, name, version, *needs):
    """A package of one module that knows its version."""
    info = f"{name}-{version}.dist-info"
    files = {f"{name}.py": f"VERSION = '{version}'\n", f"{info}/RECORD": "",
             f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
             f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
                                 + "".join(f"Requires-Dist: {need}\n" for need in needs)}
    if name == "genmed":
        files["genmed_core.py"] = ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def test_the_first_cell_gets_what_is_missing_and_replaces_nothing(tmp_path):
    """Here `preloaded` 1.0 plays a PyTorch older than the book asks for."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for version in ("1.0", "2.0"):
        wheel(shelf, "preloaded", version)
    wheel(shelf, "absent", "3.0", "preloaded>=1.0")
    wheel(shelf, "for_tests", "1.0")
    wheel(shelf, "genmed", "0.1", "preloaded>=2.0", "absent>=3", 'for_tests; extra == "dev"')
    venv.create(tmp_path / "away", with_pip=True)
    python = next(p for p in (tmp_path / "away").glob("*/python*") if p.stem == "python")
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf), "PIP_CONFIG_FILE": "/dev/null",
                "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PATH": ""}

    def run(*words):
        return subprocess.run([str(python), *words], env=settings, capture_output=True, text=True, cwd=tmp_path)

    run("-m", "pip", "install", "-q", "preloaded==1.0")
    cell = launch.first_cell("https://github.com/you/course").source
    assert "genmed @ git+https://github.com/you/course" in cell
    cell = cell.replace("genmed @ git+https://github.com/you/course", "genmed")
    site = run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    Path(site, "damaged-1.0.dist-info").mkdir()
    (shelf / "absent-3.0-py3-none-any.whl").rename(tmp_path / "away.whl")
    for _ in range(2):  # where the second step fails, it is not left out the next time
        done = run("-c", cell)
        assert re.search("pip could not install .*absent.*run this cell again", done.stderr), done.stderr
    (tmp_path / "away.whl").rename(shelf / "absent-3.0-py3-none-any.whl")
    for _ in range(2):  # the second time there is nothing to do
        done = run("-c", cell + "\nimport genmed_core, preloaded, absent\nprint(preloaded.VERSION, absent.VERSION)")
        assert done.returncode == 0 and done.stdout.split()[-2:] == ["1.0", "3.0"], done.stderr
        assert done.stderr == "" and "preloaded 1.0 is kept, and the book is tested from 2.0\n" in done.stdout
    assert run("-c", "import for_tests").returncode != 0


def test_without_a_repository_the_first_cell_says_what_is_missing():
    source = launch.first_cell(None).source
    done = subprocess.run([sys.executable, "-I", "-S", "-c", source], capture_output=True, text=True)
    assert "genmed_core is not installed here. Install the book's package with pip" in done.stderr
    exec(source)  # here it is installed: silence
    assert not re.search(r"\w'\n *'\w", source), "no word is broken"


def test_a_notebook_without_the_package_gets_no_first_cell(book, monkeypatch):  # noqa: F811
    (book.parent / "out").mkdir()
    launch.write_downloads(book.parent / "out", [book / "01_codes.ipynb"], course.read(), "self-study")
    assert "get-the-package" not in (book.parent / "out" / launch.DOWNLOADS / "01_codes.ipynb").read_text()


def targets(page, pages):
    """The addresses of all launch and download buttons of a page, each with the file that it opens, or None."""
    for link in page.select("a.btn[href], a.pst-navbar-icon[href], .icon-link-image, a.nav-link[href*=codespaces]"):
        address = urlsplit(link["href"])
        if address.hostname == "colab.research.google.com":
            owner, name, kind, branch, *path = address.path.removeprefix("/github/").split("/")
            assert (owner, name, kind, branch) == ("you", "course", "blob", launch.PUBLISHED)
            yield "colab", pages / Path(*path)
        elif address.hostname == "codespaces.new":
            assert address.path == "/you/course"
            yield "codespaces", ROOT / ".devcontainer" / "devcontainer.json"
        elif address.path.endswith(".ipynb"):
            yield "download", pages / address.path


def test_every_button_leads_to_a_file(book, monkeypatch):  # noqa: F811
    monkeypatch.setattr(builder, "vendor", lambda: None)
    chapter = book / "01_codes.ipynb"
    chapter.write_text(chapter.read_text(encoding="utf-8").replace("1 + 1", "import genmed_core"), encoding="utf-8")
    made = built(book, {"repository": "https://github.com/you/course", "launch": ["colab", "codespaces"],
                        "edition": "student", "contents": ONE})
    pages = book.parent / "out" / "_build" / "html"
    found = dict(targets(made["01_codes"], pages))
    assert set(found) == {"colab", "codespaces", "download"}
    assert all(path.is_file() for path in found.values()), found
    assert 'python -m pip install "genmed @ git+https://github.com/you/course"' in made["01_codes"].get_text()
    assert (pages / ".nojekyll").exists()
    downloaded = nbformat.read(found["download"], as_version=4)
    nbformat.validate(downloaded)
    assert downloaded.cells[0].source == launch.first_cell("https://github.com/you/course").source
    assert "Forty-two" not in str(downloaded.cells), "the student's edition"


def test_without_a_repository_there_is_a_download_alone(book, monkeypatch):  # noqa: F811
    monkeypatch.setattr(builder, "vendor", lambda: None)
    made = built(book, {"contents": ONE})
    assert set(dict(targets(made["01_codes"], book.parent))) == {"download"}
    assert "python -m pip install FOLDER" in made["01_codes"].get_text()
    assert launch.theme_options(course.read()) == {}, "the book's own course knows no repository"


@pytest.mark.parametrize("entries, message", [
    ({"launch": ["binder"]}, "launch must be empty, or a list of colab and codespaces"),
    ({"launch": ["colab"]}, "launch: colab needs a repository on https://github.com"),
    ({"launch": ["codespaces"], "repository": "https://gitlab.com/you/course"}, "needs a repository on https://github"),
])
def test_a_button_that_would_lead_nowhere_is_refused(book, entries, message):  # noqa: F811
    with pytest.raises(builder.BookError, match=message):
        built(book, {"contents": ONE} | entries)


def test_a_codespace_is_set_up_by_make():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    commands = [container["postCreateCommand"], container["postAttachCommand"]]
    assert [re.match(r"make (\w+)", command)[1] for command in commands] == ["setup", "lab"]
    assert all(re.search(rf"^{command.split()[1]}:", MAKEFILE, re.M) for command in commands)
    assert "TORCH=cpu" in commands[0] and container["image"].endswith("python:3.12")
