"""The book as a PDF: nothing is cut, formulas fit, sliders are their pictures, the contents have page numbers."""

import base64
import io
import re
import sys
from pathlib import Path

import nbformat.v4 as nb
import pytest
import yaml
from PIL import Image

pytest.importorskip("playwright.sync_api")
pypdf = pytest.importorskip("pypdf")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import build as builder  # noqa: E402
import pdf  # noqa: E402
import test_course  # noqa: E402

LONG = "value = " + " + ".join(f"term_{k:02d}" for k in range(14)) + "  # to the end"
WIDE = " + ".join(rf"\frac{{a_{{{k}}}}}{{b_{{{k}}}}}" for k in range(1, 40))
SOLVED = '<details class="solution"><summary>Solution 1.1</summary>\n\nForty-two.\n\n</details>'


def picture():
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), "navy").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A book of two chapters, built from stored outputs; its course has a repository."""
    bundled = builder.vendor()
    if bundled is None:
        pytest.skip("the site's JavaScript could not be bundled (npm or its registry is out of reach)")
    folder = tmp_path_factory.mktemp("pdf") / "chapters"
    still = nb.new_output("display_data", data={"image/png": picture(), "text/plain": "A slider."},
                          metadata={"genmed": {"still": True}})
    first = nb.new_notebook(cells=[
        nb.new_markdown_cell("# Codes\n\nSee [the proof](02_bounds.ipynb#proof).\n\n**Exercise.** How many?"),
        nb.new_markdown_cell(SOLVED, metadata={"tags": ["solution"]}),
        nb.new_code_cell(LONG), nb.new_code_cell("slider", outputs=[still]),
        nb.new_markdown_cell(f"$$\n{WIDE} \\tag{{1.1}}\n$$\n\nThe chapter's last words.")])
    folder.mkdir()
    (folder / "01_codes.ipynb").write_text(nb.writes(first), encoding="utf-8")
    test_course.notebook(folder / "02_bounds.ipynb", "# Bounds\n\n## Proof\n\nNone.")
    (folder / "intro.md").write_text("# Welcome\n\nTo [codes](01_codes.ipynb).\n", encoding="utf-8")
    (folder / "course.yml").write_text(yaml.safe_dump({
        "title": "Two & more", "repository": "https://github.com/you/course",
        "contents": [{"part": "Both", "pages": ["01_codes", "02_bounds"]}]}), encoding="utf-8")
    return builder.build(source=folder, out=folder.parent, execute="off", stills=True)


@pytest.fixture(scope="module")
def printed(pages):
    from widget_page import shutil

    if not any(map(shutil.which, pdf.BROWSERS)):
        pytest.skip("no Chromium on this machine; on Debian: apt-get install chromium")
    return pypdf.PdfReader(pdf.make(source=pages.parent.parent / "chapters", out=pages.parent, pages=pages))


def words(page):
    return re.sub(r"\s+", " ", page.extract_text())


def test_the_contents_name_the_pages_where_chapters_begin(printed):
    contents = words(printed.pages[0])
    assert "Two & more" in contents and "not for diagnosis" in contents and "Both" in contents
    for number, title in enumerate(("Introduction", "Codes", "Bounds"), 2):
        assert re.search(rf"{title} ?{number}\b", contents), contents
        heading = "Welcome" if title == "Introduction" else title
        assert heading in words(printed.pages[number - 1])
    assert words(printed.pages[2]).startswith("3 Codes"), "each page has its number"


def test_code_is_whole_and_solutions_come_last(printed):
    chapter = words(printed.pages[2])
    assert LONG.replace(" ", "") in chapter.replace(" ", "")
    assert chapter.index("last words") < chapter.index("Solutions") < chapter.index("Forty-two")


def test_a_slider_is_its_picture_and_says_where_it_moves(printed):
    page = printed.pages[2]
    assert "Alive in 01_codes.ipynb" in words(page)
    assert [image.image.size for image in page.images] == [(300, 200)]
    links = [note.get_object()["/A"]["/URI"] for note in page["/Annots"] if "/A" in note.get_object()
             and "/URI" in note.get_object()["/A"]]
    assert links == ["https://github.com/you/course/blob/HEAD/chapters/01_codes.ipynb"]


def test_a_page_alone_prints_without_the_screens_parts_and_with_whole_formulas(pages, browser):
    """What a reader's own print command gives."""
    page = browser.new_page(viewport={"width": pdf.WIDTH, "height": 900})
    page.emulate_media(media="print")
    page.goto((pages / "01_codes.html").as_uri())
    page.wait_for_function("() => window.MathJax?.startup?.promise?.then(() => true) ?? true")
    page.wait_for_selector("div.math mjx-container", state="attached")
    width = "e => e.querySelector('mjx-math').getBoundingClientRect().width"
    wide = page.locator("div.math mjx-container").evaluate(width)
    assert wide > pdf.WIDTH, "the test's formula is wider than paper"
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    wide = page.locator("div.math mjx-container").evaluate(width)
    assert 0.7 * pdf.WIDTH < wide <= pdf.WIDTH
    code = page.locator("div.cell_input pre").first
    assert code.evaluate("e => e.scrollWidth <= e.clientWidth + 1")
    for screen in (".bd-sidebar-primary", ".bd-header-article", ".prev-next-footer"):
        assert not page.locator(screen).first.is_visible(), screen
    page.close()


def test_a_book_of_some_chapters_is_the_introduction_and_they(pages):
    """Without the hundred pages of reference that nobody asked for; their links become words."""
    source = pages.parent.parent / "chapters"
    (source / "names.md").write_text("# Names\n", encoding="utf-8")
    given = builder.course.read(source / "course.yml", source)
    given.contents[0].pages.append(source / "names.md")
    assert builder.table_of_contents(given, ["1"], alone=True)[1] == [source / "01_codes.ipynb"]
    assert source / "names.md" in builder.table_of_contents(given, [], alone=True)[1]
    assert source / "names.md" in builder.table_of_contents(given, ["1"])[1]


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(builder.BookError, match="holds no book"):
        pdf.make(pages=tmp_path)
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    with pytest.raises(builder.BookError, match="a PDF needs Chromium"):
        pdf.typeset(tmp_path / "x.html", [])
