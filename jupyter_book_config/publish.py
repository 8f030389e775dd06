"""Put the pages that `make book` built on the branch gh-pages, one commit without a past, and push it.

    python jupyter_book_config/publish.py                  to the remote origin
    python jupyter_book_config/publish.py --remote ADDRESS
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from launch import DOWNLOADS, PUBLISHED

ROOT = Path(__file__).resolve().parent.parent
AUTHOR = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
          for what, value in (("NAME", "genmed site"), ("EMAIL", "site@localhost"))}


class PublishError(RuntimeError):
    """Nothing was published; the message says why."""


def publish(pages: Path, remote: str = "origin", clone: Path = ROOT) -> str:
    """Push a folder of pages; returns its commit. The clone's own branches, index and files stay as they are."""
    if not (pages / "index.html").is_file():
        raise PublishError(f"{pages} holds no built book: run `make book` first")
    closed = [path.name for path in (pages / DOWNLOADS).glob("*.ipynb") if '"closed": true' in path.read_text("utf-8")]
    if closed:
        raise PublishError(f"{', '.join(closed)} shows images that not everybody may see: take it out of the course")
    with tempfile.TemporaryDirectory() as scratch:
        settings = os.environ | AUTHOR | {"GIT_INDEX_FILE": str(Path(scratch) / "index")}

        def git(*words: str) -> str:
            done = subprocess.run(["git", *words], cwd=clone, env=settings, capture_output=True, text=True)
            if done.returncode:
                raise PublishError(f"git {words[0]}: {done.stderr.strip()}")
            return done.stdout.strip()

        git("--work-tree", str(pages), "add", "--all", "--force", str(pages))
        commit = git("commit-tree", git("write-tree"), "-m", "The site, built")
        git("push", "--force", remote, f"{commit}:refs/heads/{PUBLISHED}")
    return commit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, default=ROOT / "_build" / "html", help="default _build/html")
    parser.add_argument("--remote", default="origin", help="default origin")
    options = parser.parse_args()
    try:
        commit = publish(options.pages.resolve(), options.remote)
    except PublishError as problem:
        sys.exit(f"error: {problem}")
    print(f"Published as {commit[:9]} on the branch {PUBLISHED} of {options.remote}")


if __name__ == "__main__":
    main()
