"""Publishing: the pages alone, on a branch of their own; the zip opens from the disk."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import publish  # noqa: E402
from launch import PUBLISHED  # noqa: E402


def git(folder, *words):
    done = subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words], cwd=folder,
                          check=True, capture_output=True, text=True)
    return done.stdout.split()


@pytest.fixture
def clone(tmp_path):
    """A clone with ignored pages and an edit that is not committed."""
    folder = tmp_path / "clone"
    (folder / "_build" / "html" / "_sources").mkdir(parents=True)
    (folder / ".gitignore").write_text("_build/\n")
    (folder / "_build" / "html" / "index.html").write_text("one")
    (folder / "_build" / "html" / "_sources" / "01.ipynb").write_text("{}")
    git(tmp_path, "init", "-q", "--bare", "far")
    git(folder, "init", "-q")
    git(folder, "remote", "add", "origin", str(tmp_path / "far"))
    git(folder, "add", ".gitignore")
    git(folder, "commit", "-qm", "first")
    (folder / "begun.txt").write_text("not yet")
    git(folder, "add", "begun.txt")
    return folder


def test_the_pages_alone_are_published_and_the_clone_stays_as_it_is(clone):
    before = git(clone, "status", "--porcelain"), git(clone, "branch", "--list")
    for text in ("one", "two"):
        (clone / "_build" / "html" / "index.html").write_text(text)
        publish.publish(clone / "_build" / "html", clone=clone)
        far = clone.parent / "far"
        assert git(far, "show", f"{PUBLISHED}:index.html") == [text]
        assert git(far, "ls-tree", "-r", "--name-only", PUBLISHED) == ["_sources/01.ipynb", "index.html"]
        assert len(git(far, "rev-list", PUBLISHED)) == 1, "one commit, whatever was there"
    assert (git(clone, "status", "--porcelain"), git(clone, "branch", "--list")) == before


def test_pages_with_images_that_not_everybody_may_see_are_not_published(clone):
    page = clone / "_build" / "html" / "_sources" / "12_skin.ipynb"
    nbformat.write(nbformat.v4.new_notebook(metadata={"genmed": {"closed": True}}), page)
    with pytest.raises(publish.PublishError, match="12_skin.ipynb shows images that not everybody may see"):
        publish.publish(clone / "_build" / "html", clone=clone)
    assert git(clone.parent / "far", "branch", "--list") == []


def test_what_cannot_be_published_is_named(clone):
    with pytest.raises(publish.PublishError, match="run `make book` first"):
        publish.publish(clone / "_build", clone=clone)
    with pytest.raises(publish.PublishError, match="git push: .*nowhere"):
        publish.publish(clone / "_build" / "html", "nowhere", clone)
