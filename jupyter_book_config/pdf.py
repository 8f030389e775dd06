"""The book as a PDF, typeset by Chromium from the built pages: numbered contents, pictures for sliders.

    python jupyter_book_config/pdf.py                     every page that course.yml names, in _build/genmed.pdf
    python jupyter_book_config/pdf.py 1 04_gan            these chapters and the introduction
    python jupyter_book_config/pdf.py --course mine.yml   your own course

Nothing is run: a slider becomes a strip of its pictures (strips.py), or the still that its notebook stores. Solutions
go to the end of their chapter. A book of some chapters has them and the introduction alone.
"""

import argparse
import html
import io
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import build as site
import yaml
from bs4 import BeautifulSoup, Tag
from pypdf import PdfReader
from pypdf.errors import PdfReadError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDTH = 658  # px of text on A4 between margins of 18 mm, as genmed.css has them
ALIVE = "Alive in {name}.ipynb and on the book's pages: there the sliders move."
PATIENCE = 300_000  # ms: formulas of a whole book, on a busy machine


@dataclass(frozen=True)
class Entry:
    """A line of the contents: a part (no anchor), or a page of the book."""

    title: str
    anchor: str | None


def chapter(page: Path, repository: str | None) -> Tag:
    """The article of one page, its ids and links made unique in a book, its solutions at its end."""
    article = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select_one("article.bd-article")
    assert article is not None, page
    name = page.stem
    for useless in article.select("a.headerlink, script, .copybtn"):
        useless.decompose()
    for element in article.select("[id]"):
        element["id"] = f"{name}.{element['id']}"
    for link in article.select("a[href]"):
        link["href"] = within(str(link["href"]), name)
    for still in article.select("img[alt^='A still picture of the sliders']"):
        still.insert_after(where_it_moves(name, repository))
    for strip in article.select("div.strip"):
        strip.append(where_it_moves(name, repository))
    for details in article.select("details:not(.solution)"):
        details["open"] = ""
    solutions_last(article)
    article["id"], article["class"] = name, ["chapter"]
    return article


def within(address: str, name: str) -> str:
    """A link between pages as one within the book."""
    page, hash_, place = address.partition("#")
    if re.match(r"\w+:", address) or (page and not page.endswith(".html")):
        return address
    target = page.removesuffix(".html") or name
    return f"#{target}.{place}" if place else f"#{target}"


def where_it_moves(name: str, repository: str | None) -> Tag:
    """The sentence under a still picture; a link where the course has a repository."""
    text = html.escape(ALIVE.format(name=name))
    if repository:
        text = text.replace(f"{name}.ipynb", f'<a href="{repository}/blob/HEAD/chapters/{name}.ipynb">{name}.ipynb</a>')
    return BeautifulSoup(f'<p class="alive">{text}</p>', "html.parser").p


def solutions_last(article: Tag) -> None:
    """Move the solutions behind the chapter's text, where a printed book has them."""
    found = article.select("details.solution")
    if not found:
        return
    end = BeautifulSoup('<section class="solutions"><h2>Solutions</h2></section>', "html.parser").section
    for details in found:
        details.summary.name = "h3"
        details.name, details["class"] = "div", ["solution"]
        end.append(details.extract())
    article.append(end)


def assembled(pages: Path, toc: dict, given: site.course.Course) -> tuple[BeautifulSoup, list[Entry]]:
    """One page that holds the whole book, and the lines of its contents."""
    names, entries = ["intro"], [Entry("Introduction", "intro")]
    chapters = {"intro": chapter(pages / "intro.html", given.repository)}
    for part in toc["parts"]:
        entries.append(Entry(part["caption"], None))
        for name in (entry["file"] for entry in part["chapters"]):
            names.append(name)
            chapters[name] = chapter(pages / f"{name}.html", given.repository)
            entries.append(Entry(chapters[name].h1.get_text(), name))
    book = BeautifulSoup((pages / "intro.html").read_text(encoding="utf-8"), "html.parser")
    for script in book.select("script"):
        if not re.search(r"mathjax|/book\.js", str(script), re.I):
            script.decompose()
    book.title.string = given.title
    book.html["data-theme"] = "light"
    body = BeautifulSoup('<body><main class="bd-content"><div class="bd-article-container">'
                         '<article class="bd-article"></article></div></main></body>', "html.parser").body
    body.article.append(title_page(given, entries))
    for name in names:
        body.article.append(chapters[name])
    book.body.replace_with(body)
    return book, entries


def title_page(given: site.course.Course, entries: Sequence[Entry]) -> Tag:
    """Title, author and contents; the page numbers are filled in later."""
    lines = [f'<li class="part">{html.escape(entry.title)}</li>' if entry.anchor is None else
             f'<li><a href="#{entry.anchor}">{html.escape(entry.title)}</a><i></i>'
             f'<span data-page="{entry.anchor}"></span></li>' for entry in entries]
    page = f"""<section class="title-page"><p class="book-title">{html.escape(given.title)}</p>
        <p>{html.escape(given.author)}</p>{f"<p>{html.escape(given.institution)}</p>" if given.institution else ""}
        <p>All generated images are synthetic and not for diagnosis.</p>
        <h2>Contents</h2><ol class="book-contents">{"".join(lines)}</ol></section>"""
    return BeautifulSoup(page, "html.parser").section


def page_numbers(pdf: bytes, entries: Sequence[Entry]) -> dict[str, int]:
    """The page on which each page of the book begins, from the PDF's own named places."""
    reader = PdfReader(io.BytesIO(pdf))
    places = reader.named_destinations
    return {entry.anchor: reader.get_destination_page_number(places[f"/{entry.anchor}"]) + 1
            for entry in entries if entry.anchor is not None}


def typeset(page_file: Path, entries: Sequence[Entry]) -> bytes:
    """Print an assembled book, twice: the second time its contents know their page numbers."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise site.BookError("a PDF needs Chromium or Chrome on this machine; on Debian: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.emulate_media(media="print")
        page.goto(page_file.resolve().as_uri())
        page.wait_for_function("() => window.MathJax?.startup?.promise?.then(() => true) ?? true")
        page.evaluate("(width) => fitFormulas(width)", WIDTH)
        draft = printed(page)
        page.evaluate("""(numbers) => { for (const [name, number] of Object.entries(numbers))
            document.querySelector(`[data-page="${name}"]`).textContent = number; }""", page_numbers(draft, entries))
        final = printed(page)
        browser.close()
    return final


def printed(page) -> bytes:
    return page.pdf(prefer_css_page_size=True, print_background=True, tagged=True, outline=True)


def make(picked: Sequence[str] = (), source: Path = site.ROOT / "chapters", out: Path = site.BUILD,
         course_file: Path | None = None, edition: str | None = None, pages: Path | None = None) -> Path:
    """Write the book's PDF; returns its path.  BookError where it cannot be made.

    pages: the folder of pages that were built with stills, where that is done already.
    """
    if pages is None:
        pages = site.build(source=source, out=out / "print", execute="off", chapters=picked, course_file=course_file,
                           edition=edition, stills=True)
    if not (pages / "intro.html").is_file():
        raise site.BookError(f"{pages} holds no book: name the html folder that build.py made")
    toc = yaml.safe_load((pages.parent / "toc.yml").read_text(encoding="utf-8"))
    book, entries = assembled(pages, toc, site.course_of(source, course_file))
    whole = pages / "whole-book.html"
    whole.write_text(str(book), encoding="utf-8")
    try:
        content = typeset(whole, entries)
    except (KeyError, PdfReadError) as problem:
        raise site.BookError(f"this Chromium's PDF lacks the places ({problem}): a newer one is needed") from None
    target = out / "genmed.pdf"
    target.write_bytes(content)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", help="numbers or names, such as 2 or 02_vae; default all")
    parser.add_argument("--course", type=Path, metavar="FILE", help="your course file")
    parser.add_argument("--edition", choices=site.editions.EDITIONS, help="student leaves the solutions out")
    options = parser.parse_args()
    try:
        print("building the pages and printing them twice: some minutes for the whole book", flush=True)
        made = make(options.chapters, course_file=options.course, edition=options.edition)
    except site.BookError as problem:
        sys.exit(f"error: {problem}")
    print(f"The PDF is {made}, {len(PdfReader(made).pages)} pages, {made.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
