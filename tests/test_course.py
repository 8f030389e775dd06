"""The course file: three courses are built from it as an instructor would; mistakes in it are named."""

import base64
import sys
from pathlib import Path

import nbformat.v4 as nb
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import build as builder  # noqa: E402
import course  # noqa: E402

SOLVED = '<details class="solution"><summary>Solution</summary>\n\nForty-two.\n\n</details>'
PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9" fill="#46a"/></svg>'


def notebook(path, *texts):
    """A notebook of Markdown cells; those that begin as a solution are tagged."""
    cells = [nb.new_markdown_cell(t, metadata={"tags": ["solution"]} if t == SOLVED else {}) for t in texts]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nb.writes(nb.new_notebook(cells=[*cells, nb.new_code_cell("1 + 1")])), encoding="utf-8")


@pytest.fixture
def book(tmp_path):
    """Three chapters and a page of "the book", which link to each other."""
    folder = tmp_path / "chapters"
    for name in ("01_codes", "02_bounds", "03_labels"):
        notebook(folder / f"{name}.ipynb", f"# About {name[3:]}\n\nSee [the bounds](02_bounds.ipynb#proof) and "
                 "[the rules](rules.md).\n\n## Proof\n\nNone.", SOLVED)
    (folder / "intro.md").write_text("# Welcome\n\nTo [codes](01_codes.ipynb) and [labels](03_labels.ipynb).\n")
    (folder / "rules.md").write_text("# Rules\n\nNone.\n")
    return folder


def built(book, entries, **options):
    """The pages of a course, by name."""
    path = book.parent / "my_course.yml"
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")
    out = book.parent / "out"
    html = builder.build(source=book, out=out, execute="off", course_file=path, **options)
    return {page.stem: BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser") for page in html.glob("*.html")}


def order(page):
    """The pages in the navigation, in order, after the first, which is home."""
    return [Path(link["href"]).stem for link in page.select("nav.bd-links a.reference.internal")][1:]


def test_a_reordered_book_with_a_chapter_and_a_page_of_ones_own(book, monkeypatch):
    monkeypatch.setattr(builder, "vendor", lambda: None)
    own = book.parent / "mine"
    notebook(own / "flow.ipynb", "# Straight paths\n\n![A blue square](pictures/square.svg)\n\n[Dates](dates.md)",
             "![A pasted blue square](attachment:my%20own.svg)")
    flow = nb.reads((own / "flow.ipynb").read_text(encoding="utf-8"))
    flow.cells[1].attachments = {"my own.svg": {"image/svg+xml": base64.b64encode(PICTURE.encode()).decode()}}
    (own / "flow.ipynb").write_text(nb.writes(flow), encoding="utf-8")
    (own / "dates.md").write_text("# Dates\n\n![A square, blue](pictures/square.svg) ![The same, a copy]"
                                  "(pictures/my%20sq\u00fcare.svg)\n", encoding="utf-8")
    (own / "pictures").mkdir()
    (own / "pictures" / "square.svg").write_text(PICTURE, encoding="utf-8")
    (own / "pictures" / "my sq\u00fcare.svg").write_text(PICTURE, encoding="utf-8")
    pages = built(book, {"contents": [{"part": "Late first", "pages": ["03_labels", "mine/flow.ipynb", "02_bounds"]},
                                      {"part": "When", "pages": ["mine/dates.md"]}]})
    assert order(pages["intro"]) == ["03_labels", "flow", "02_bounds", "dates"]
    assert "Late first" in pages["intro"].get_text() and "01_codes" not in pages
    assert [i["alt"] for i in pages["flow"].select("article img")] == ["A blue square", "A pasted blue square"]
    assert len(pages["dates"].select("article img")) == 2, "names with a space and an umlaut"
    assert pages["flow"].select_one("article a[href='dates.html']")
    assert not pages["intro"].select("article a[href*=codes]") and "codes" in pages["intro"].article.get_text()


def test_a_student_edition_with_another_title(book, monkeypatch):
    monkeypatch.setattr(builder, "vendor", lambda: None)
    (book.parent / "favicon.svg").write_text(PICTURE, encoding="utf-8")
    (book / "intro.md").write_text(f"# {course.our_title()}\n\nTo [codes](01_codes.ipynb).\n")
    pages = built(book, {
        "title": "Bilder & Modelle", "author": "Erika Muster", "institution": "Hochschule <Nord>",
        "logo": "favicon.svg", "repository": "https://example.org/kurs/bilder", "edition": "student", "language": "de",
        "contents": [{"part": "Alles", "pages": ["01_codes", "02_bounds", "03_labels", "rules"]}]})
    page = pages["01_codes"]
    assert pages["intro"].h1.find(string=True) == "Bilder & Modelle"
    assert page.html["lang"] == "de" and "Bilder & Modelle" in page.title.get_text()
    assert page.select_one("img.logo__image")["alt"].startswith("Bilder & Modelle")
    shown = book.parent / "out" / "_build" / "html" / page.select_one("img.logo__image")["src"]
    assert shown.read_text(encoding="utf-8") == PICTURE, "not the book's own icon, though it has that name"
    for words in ("Copyright Erika Muster", "Hochschule <Nord>", "not for diagnosis"):
        assert words in page.get_text()
    assert page.select_one("a[href='https://example.org/kurs/bilder']")
    assert "Forty-two" not in page.get_text()


def test_a_book_of_two_chapters_and_the_command_line_goes_first(book, monkeypatch):
    monkeypatch.setattr(builder, "vendor", lambda: None)
    pages = built(book, {"contents": [{"part": "Two", "pages": ["01_codes", "02_bounds"]}]}, edition="instructor")
    assert order(pages["intro"]) == ["01_codes", "02_bounds"]
    article = pages["01_codes"].article
    assert article.select_one("a[href='02_bounds.html#proof']") and not article.select("a[href*=rules]")
    assert article.select_one("details.solution").has_attr("open") and "Generative models" in pages["intro"].get_text()


def test_the_books_own_course_holds_every_page():
    there = {path.stem for form in ("*.ipynb", "*.md") for path in (ROOT / "chapters").glob(form)} - {"intro"}
    assert {page.stem for page in course.read().pages()} == there


ONE = [{"part": "One", "pages": ["01_codes"]}]
MISTAKES = [
    ({"titel": "x"}, "'titel' is not known, did you mean 'title'"),
    ({"title": 7}, "title must be text, not 7"),
    ({"title": None}, "title must be text, not None; leave the line out"),
    ({"author": ""}, "author must be text, not ''; leave the line out"),
    ({"author": ["Ann", "Bob"]}, "author must be text, not .*; write 'Ann, Bob'"),
    ({"title": "two\nlines"}, "has several lines: write it on one"),
    ({"language": "German"}, "did you mean 'de'"), ({"language": "fran\u00e7ais"}, "did you mean 'fr'"),
    ({"language": "zh"}, "did you mean 'zh_"), ({"language": False}, "for Norwegian write nb_NO"),
    ({"language": "no"}, "did you mean 'nb_NO'"),
    *(({"analytics": wrong}, "analytics must be empty, or one of") for wrong in (
        {"plausible": ""}, {"plausible": 'x"><script>'}, {"google": "foo"}, {"google": "G-A1", "plausible": "a.de"})),
    ({"logo": "empty.png"}, "logo 'empty.png' cannot be read as a picture: open .* and save it anew"),
    ({"edition": "students"}, "edition 'students' is not known"),
    ({"language": "german"}, "language 'german' is none that Sphinx has"),
    ({"repository": "github.com/me"}, "github.com/me': give the repository's own address, https://"),
    ({"logo": "gone.svg"}, "logo 'gone.svg' is no picture"),
    ({"analytics": True}, "analytics must be empty, or"),
    ({"analytics": {"matomo": "x"}}, "analytics must be empty, or"),
    ({"contents": []}, "contents must be a list of parts"),
    ({"contents": ["01_codes"]}, "'01_codes' is no part with a heading"),
    ({"contents": [{"part": "A", "pages": []}]}, "contents names no page"),
    ({"contents": [{"part": "A", "pages": ["01_code"]}]}, "'01_code' is neither .* did you mean '01_codes'"),
    ({"contents": [{"part": "A", "pages": ["mine/gone.ipynb"]}]}, "neither a page of this book nor a notebook"),
    ({"contents": ONE + ONE}, "names one page more than once .01_codes, 01_codes.: a page"),
    ({"contents": [{"part": "A", "pages": ["m y/page.md", "m y/../m y/page.md"]}]}, "once .m y/page.md, m y/../m y/pa"),
    *(({"contents": [{"part": "A", "pages": [f"m y/{name}.md"]}]}, f"{name}.md would take the place of the site's own")
      for name in ("search", "genindex", "Index", "intro")),
    ({"contents": [{"part": "A", "pages": [1]}]}, "'1' is neither .* did you mean '01_codes'"),
    ({"contents": [{"part": "A", "pages": ["lost/01_codes.ipynb"]}]}, "is neither .* did you mean '01_codes'"),
    ({"contents": [{"part": "A", "pages": ["intro"]}]}, "the introduction comes first by itself"),
    ({"contents": [{"part": None, "pages": ["01_codes"]}]}, "None is neither a heading nor the name of a page"),
    ({"contents": [{"part": "A", "pages": [["01_codes"]]}]}, r"\['01_codes'\] is neither a heading nor the name"),
    ({"contents": [{"part": "A", "pages": ["m y/flow.py"]}]},
     "is a notebook's source: run `python .*notebooks.py --source '.*/m y' flow`, and name m y/flow.ipynb here"),
    *(({"contents": [{"part": "A", "pages": [name]}]}, f"in contents, '{start}.* leads to no file .*: give another")
      for name, start in (("mine/flow\0.ipynb", "mine"), ("x" * 300 + ".md", "xxx"))),
    ({"logo": "a\0.png"}, "logo 'a.* leads to no file .embedded null byte.: give another name"),
    ({"launch": [["colab"]]}, "launch must be empty, or a list of colab and codespaces"),
    ({"language": "de-DE"}, "none that Sphinx has, did you mean 'de_DE'"),
    *(({"repository": f"https://{address}"}, "give the repository's own address, https://github.com/you/course")
      for address in ("github.com/me", "github.com/me/course/tree/main", "github.com//b", "github.com/a/..",
                      "github.com/ä/b", "www.github.com/me/course", "GitHub.com/me/course", "example.org/a/../b")),
]


@pytest.mark.parametrize("entries, message", MISTAKES)
def test_a_mistake_is_named_before_anything_is_built(book, entries, message):
    path = book.parent / "my_course.yml"
    (book.parent / "m y").mkdir()
    (book.parent / "m y" / "flow.py").touch()
    for name in ("search", "genindex", "Index", "intro", "page"):
        (book.parent / "m y" / f"{name}.md").write_text("# A page\n", encoding="utf-8")
    (book.parent / "empty.png").touch()
    path.write_text(yaml.safe_dump({"contents": ONE} | entries), encoding="utf-8")
    with pytest.raises(builder.BookError, match=message) as refusal:
        builder.build(source=book, out=book.parent, execute="off", course_file=path)
    assert "my_course.yml" in str(refusal.value) and not (book.parent / "_build" / "sources").exists()


@pytest.mark.parametrize("address, name", [
    ("https://github.com/you/course", "you/course"), ("https://github.com/you/course.git/", "you/course"),
    ("https://git.uni.de:8443/x/y", None), ("https://example.org/kurs/bilder", None)])
def test_an_address_is_taken_and_its_buttons_are_offered_on_github_alone(book, address, name):
    path = book.parent / "my_course.yml"
    given = {"contents": ONE, "repository": f"{address} ", "launch": ["Colab"] if name else [], "edition": "Student",
             "analytics": {"plausible": "kurs.uni.de"}, "language": "nb_NO"}
    path.write_text(yaml.safe_dump(given), encoding="utf-8")
    found = course.read(path, book)
    assert course.on_github(found.repository) == name and found.launch == ["colab"] * bool(name)
    assert found.edition == "student" and found.repository == address


@pytest.mark.parametrize("text, message", [
    ("title: a: b\n", "line 1: not YAML"), ("title: a\ntitle: b\n", "line 2: 'title' is there twice"),
    ("? [a, b]\n: 1\n", "line 1: "), ("title: !!python/name:os.system\n", "line 1: "), ("", "holds no entries"),
    ("- 1\n", "holds no entries"), (f"title: {'[' * 2000}{']' * 2000}\n", "holds lists within lists, too deep"),
    ("author: Müller\n", "is not in UTF-8: save it so"), (None, "is not there: copy jupyter_book_config/course.yml")])
def test_a_file_that_is_no_course_is_named(book, text, message):
    path = book.parent / "my_course.yml"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(builder.BookError, match=message):
        builder.build(source=book, out=book.parent, execute="off", course_file=path)


def test_two_pictures_of_one_name_are_refused(book):
    (book / "figures").mkdir()
    (book / "figures" / "map.svg").write_text(PICTURE, encoding="utf-8")
    own = book.parent / "mine"
    notebook(own / "flow.ipynb", "# Flow\n\n![A map whose square is red](figures/map.svg)")
    (own / "figures").mkdir()
    (own / "figures" / "map.svg").write_text(PICTURE.replace("#46a", "#a64"), encoding="utf-8")
    path = book.parent / "my_course.yml"
    path.write_text(yaml.safe_dump({"contents": [{"part": "A", "pages": ["mine/flow.ipynb"]}]}), encoding="utf-8")
    with pytest.raises(builder.BookError, match="another picture of that name: rename yours"):
        builder.build(source=book, out=book.parent, execute="off", course_file=path)


@pytest.mark.parametrize("name, text", [
    ("sol.md", f"# A\n\n{SOLVED}\n"), ("sol.md", "# A\n\n<details class='exercise solution'>\n"),
    ("sol.md", f"# A\n\n<!-- solutions -->\n{SOLVED}\n"), ("sol.ipynb", f"# A\n\n{SOLVED}\n")])
def test_no_solution_of_an_own_page_reaches_a_student(book, name, text):
    own = book.parent / name
    notebook(own, text) if own.suffix == ".ipynb" else own.write_text(text, encoding="utf-8")
    with pytest.raises(builder.BookError, match=f"{name} holds a solution outside .*: put it between"):
        built(book, {"edition": "student", "contents": [{"part": "A", "pages": [name]}]})


def test_the_course_file_may_lie_at_home(book, monkeypatch):
    (book.parent / "my.yml").write_text("title: At home\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(book.parent))
    monkeypatch.setenv("USERPROFILE", str(book.parent))
    monkeypatch.setattr(course, "_contents", lambda *_: [])
    assert builder.course_of(book, Path("~/my.yml")).title == "At home"
    with pytest.raises(builder.BookError, match="home directory"):
        builder.course_of(book, Path("~nobody_here/my.yml"))


@pytest.mark.parametrize("name, encoding", [("own.md", "latin-1"), ("own.md", "utf-16"), ("own.ipynb", "latin-1")])
def test_an_own_page_that_is_not_in_utf_8_is_named(book, name, encoding):
    own = book.parent / name
    notebook(own, "# M\u00fcller")
    text = own.read_text(encoding="utf-8").replace("\\u00fc", "\u00fc") if own.suffix == ".ipynb" else "# M\u00fcller"
    own.write_text(text, encoding=encoding)
    with pytest.raises(builder.BookError, match=f"{name} is not in UTF-8: save it in UTF-8$"):
        built(book, {"contents": [{"part": "A", "pages": [name]}]})


def test_a_link_to_itself_is_named(book):
    try:
        (book.parent / "loop.md").symlink_to("loop.md")
    except OSError:
        pytest.skip("no links here")
    with pytest.raises(builder.BookError, match="'loop.md' (leads to no file|is neither a page)"):
        built(book, {"contents": [{"part": "A", "pages": ["loop.md"]}]})


def test_a_mark_of_windows_before_a_notebook_is_no_fault(book):
    own = book.parent / "own.ipynb"
    notebook(own, "# Flow")
    own.write_text(own.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert builder.notebooks.problems(own.with_suffix(".py")) == []
    (book.parent / "target").mkdir()
    builder.copy_chapter(own, book.parent / "target", [], [], "student", None)
    assert (book.parent / "target" / "own.ipynb").read_text(encoding="utf-8").startswith("{")


@pytest.mark.parametrize("name, text, message", [
    ("own.md", "", "own.md has no heading: begin with `# Title`"),
    ("own.md", "## Lower\n", "own.md has no heading"), ("own.md", "```\n# A comment\n```\n", "own.md has no heading"),
    ("own.ipynb", "Words.", "own.ipynb has no heading: begin with `# Title`"),
    ("own.md", "# A\n\n![A blue square](../pics/a.svg)\n", "../pics/a.svg lies outside of the page's folder: put"),
    ("own.md", "# A\n\n![A blue square](gone.svg)\n", "the picture gone.svg does not exist: put it at"),
    ("own.md", '# A\n\n<img src="square.svg">\n', "the picture square.svg is in HTML, .*: write !.what it shows"),
    ("own.md", "# A\n\n![](square.svg)\n", "no alt text; in text it is written with it, !.what it shows"),
    ("own.ipynb", "# A\n\n![A blue square](attachment:x.png)", "attachment:x.png is in no cell: paste it again"),
])
def test_a_fault_of_an_own_page_is_named_before_anything_is_built(book, name, text, message):
    own = book.parent / name
    notebook(own, text) if own.suffix == ".ipynb" else own.write_text(text, encoding="utf-8")
    (book.parent / "square.svg").write_text(PICTURE, encoding="utf-8")
    with pytest.raises(builder.BookError, match=message):
        built(book, {"contents": [{"part": "A", "pages": [name]}]})
    assert not (book.parent / "out" / "_build" / "sources").exists()


def test_a_notebook_without_cells_is_named(book):
    (book.parent / "own.ipynb").write_text(nb.writes(nb.new_notebook()), encoding="utf-8")
    with pytest.raises(builder.BookError, match="own.ipynb has no heading"):
        built(book, {"contents": [{"part": "A", "pages": ["own.ipynb"]}]})


def test_links_of_own_pages_are_followed_before_anything_is_run(book, monkeypatch):
    monkeypatch.setattr(builder, "vendor", lambda: None)
    monkeypatch.setattr(builder, "run_ahead", lambda *_: pytest.fail("a notebook was run"))
    (book.parent / "own.md").write_text("# A\n\n[To nowhere](gone.md)\n", encoding="utf-8")
    path = book.parent / "my_course.yml"
    path.write_text(yaml.safe_dump({"contents": [{"part": "A", "pages": ["own.md"]}]}), encoding="utf-8")
    with pytest.raises(builder.BookError, match="met a warning"):
        builder.build(source=book, out=book.parent / "out", execute="cache", course_file=path)
