"""Every reference links out and is cited, every citation is listed; every figure has number, caption and mention."""

import re
import sys
from functools import cache
from pathlib import Path

import jupytext
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import notebooks  # noqa: E402

CHAPTERS = notebooks.sources()
each_chapter = pytest.mark.parametrize("source", CHAPTERS, ids=lambda path: path.stem)


# --- references ------------------------------------------------------------------------------------------------------

LATER = r"(?:,? (?:and others|et al\.|and colleagues)|,? (?:and|&) [A-Z][\w'’-]+|, [A-Z][\w'’-]+)*"
CITATION = re.compile(rf"\b([A-Z][^\W\d_]+(?:-[A-Z][^\W\d_]+)?){LATER}(?:'s|’s)?,? \(?((?:19|20)\d\d)[a-z]?\b")
NO_AUTHORS = {"In", "Since", "Until", "By", "From", "After", "Before", "The", "January", "February", "March", "April",
              "May", "June", "July", "August", "September", "October", "November", "December"}


def prose_and_references(text):
    """A chapter's prose without formulas and code, and the entries of its list of references."""
    prose, _, rest = text.partition("\n## References")
    listed, _, after = rest.partition("\n## ")
    plain = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", " ", prose + after, flags=re.S)
    return re.sub(r"\s+", " ", plain), re.findall(r"^- (.*(?:\n(?!- |\s*$).*)*)", listed, re.M)


def surnames(entry):
    """The capitalised names before an entry's title, the first author's first."""
    authors = re.split(r"[*“\"]|(?<=[a-zà-ž]{2})\. ", re.sub(r"\s+", " ", entry), maxsplit=1)[0]
    return re.findall(r"(?<![\w.])(?:[a-z]+ )?([A-ZÀ-Ž][^\W\d_]+(?:-[A-Z][^\W\d_]+)?)", authors)


def uncited(prose, entries):
    """Entries whose first author the prose does not name."""
    return [entry for entry in entries if not re.search(rf"\b{re.escape((surnames(entry) or [entry])[0])}\b", prose)]


def unlisted(prose, entries):
    """Citations "Author 2014" or "Author and others (2014)" that no entry answers, by first author and year."""
    found = []
    for author, year in CITATION.findall(prose):
        years = year, f"arxiv.org/abs/{year[2:]}"  # of the journal or of the preprint
        answered = any(author in surnames(entry) and any(y in entry for y in years) for entry in entries)
        if author not in NO_AUTHORS and not answered:
            found.append(f"{author} {year}")
    return found


@cache
def markdown(source):
    return "\n\n".join(cell.source for cell in jupytext.read(source).cells if cell.cell_type == "markdown")


@each_chapter
def test_every_reference_is_cited_and_every_citation_listed(source):
    prose, entries = prose_and_references(markdown(source))
    assert entries, "the chapter has no list of references"
    assert (uncited(prose, entries), unlisted(prose, entries)) == ([], [])


def test_what_the_check_of_references_finds():
    text = ("By Goodfellow and others (2014), as Kingma and Welling 2012 and (Le Cun, Bottou 1998) show. Since 2014, "
            "Kingma 2013.\n\n"
            "## References\n\n- I. Goodfellow and others. *Generative nets.* 2014.\n- D. P. Kingma, M. Welling.\n"
            "  *[Auto-encoding](https://arxiv.org/abs/1312.6114).* ICLR 2014.\n- A. van den Oord. *Pixels.* 2016.\n\n"
            "## More\n\nMao 2017")
    prose, entries = prose_and_references(text)
    assert [surnames(entry)[0] for entry in entries] == ["Goodfellow", "Kingma", "Oord"]
    assert [surnames(entry)[0] for entry in uncited(prose, entries)] == ["Oord"]
    assert unlisted(prose, entries) == ["Kingma 2012", "Cun 1998", "Mao 2017"]


# --- addresses -------------------------------------------------------------------------------------------------------

PAGES = sorted(path for path in notebooks.CHAPTERS.glob("*.md") if "\n## References" in path.read_text("utf-8"))
TITLE = re.compile(r"\*\[([^]]+)\]\((\S+?)\)[.,]?\*")  # *[A title](address).*
NEW, OLD = r"(?:1[5-9]|[2-9]\d)(?:0[1-9]|1[0-2])\.\d{5}", r"(?:0[7-9]|1[0-4])(?:0[1-9]|1[0-2])\.\d{4}"
PERMANENT = re.compile(rf"https://(?:arxiv\.org/abs/(?:{NEW}|{OLD})|doi\.org/10\.\d{{4,9}}/[^\s()?#]+[^\s()?#.,;])")
ELSEWHERE = {  # without arXiv number and DOI: the proceedings', the journal's or the authors' own address
    "https://approximateinference.org/2016/accepted/HoffmanJohnson2016.pdf",
    "https://jmlr.org/papers/v13/gretton12a.html",
    "https://jmlr.org/papers/v6/hyvarinen05a.html",
    "https://kellerjordan.github.io/posts/muon/",
    "https://openreview.net/forum?id=Sy2fzU9gl",
    "https://papers.nips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html",
    "http://ruishu.io/docs/ac-gan-learns.pdf",
    "https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf"}
UNLINKED = {  # by the beginning of the entry
    "C. S. Danzer.": "1919; no address could be confirmed",
    "ICRU. *Tissue substitutes": "Report 44 of 1989; no address could be confirmed",
    "L. Kantorovich, G. Rubinstein.": "a Soviet journal of 1958; no address could be confirmed"}
POSTED_LATER = {  # on arXiv only in the year after the meeting
    "https://arxiv.org/abs/2207.12598": "a workshop of 2021", "https://arxiv.org/abs/2501.05441": "NeurIPS of 2024"}


def listed(path):
    """The entries of a chapter's or a page's list of references, each on one line."""
    text = markdown(path) if path.suffix == ".py" else path.read_text("utf-8")
    return [re.sub(r"\s+", " ", entry) for entry in prose_and_references(text)[1]]


def wrong_address(entry):
    """What is wrong with the address of an entry's title, or None."""
    titles = TITLE.findall(entry)
    if any(entry.startswith(start) for start in UNLINKED):
        return "is linked, and named as unlinked" if "](" in entry else None
    if len(titles) != 1 or entry.count("](") != 1:
        return "has not its title, and nothing else, as a link"
    address = titles[0][1]
    if address not in ELSEWHERE and not PERMANENT.fullmatch(address):
        return "leads to no arXiv number and no DOI"
    years = [int(year) for year in re.findall(r"\b(?:19|20)\d\d\b", TITLE.sub("", entry))]
    if not years:
        return "has no year"
    posted = re.search(r"arxiv\.org/abs/(\d\d)", address)
    if posted and 2000 + int(posted[1]) > max(years) and address not in POSTED_LATER:
        return "was on arXiv only after its year"
    return None


def two_of_one(entries):
    """Titles with two addresses and addresses with two titles, over all lists."""
    pairs = {(re.sub(r"\W+", " ", title).lower().strip(), address)
             for entry in entries for title, address in TITLE.findall(entry)}
    sides = [[pair[side] for pair in pairs] for side in (0, 1)]
    return sorted({name for side in sides for name in side if side.count(name) > 1})


@pytest.mark.parametrize("path", [*CHAPTERS, *PAGES], ids=lambda path: path.stem)
def test_every_reference_links_out(path):
    entries = listed(path)
    assert entries, "the list of references is empty"
    assert [(entry, wrong_address(entry)) for entry in entries if wrong_address(entry)] == []


def test_a_paper_has_one_address_and_no_exception_is_left_over():
    entries = [entry for path in [*CHAPTERS, *PAGES] for entry in listed(path)]
    assert two_of_one(entries) == []
    addresses = {address for entry in entries for _, address in TITLE.findall(entry)}
    assert (ELSEWHERE | POSTED_LATER.keys()) - addresses == set()
    assert [start for start in UNLINKED if not any(entry.startswith(start) for entry in entries)] == []


def test_what_the_check_of_addresses_finds():
    def wrong(address, rest="ICLR 2014."):
        return wrong_address(f"D. Kingma. *[Bayes](https://{address}).* {rest}")

    good = ["arxiv.org/abs/1312.6114", "doi.org/10.1016/0893-6080%2889%2990014-2", "doi.org/10.1093/biomet/26.4.404"]
    assert [wrong(address) for address in good] == [None] * 3
    assert wrong_address("C. S. Danzer. *The ratio.* 1919.") is None
    no_number = ["arxiv.org/pdf/1312.6114", "arxiv.org/abs/1313.6114", "arxiv.org/abs/1312.06114", "doi.org/1016/0893",
                 "arxiv.org/abs/1502.3509", "arxiv.org/abs/1312.6114v2", "example.org/a.pdf", "doi.org/10.1016/0893."]
    assert {wrong(address) for address in no_number} == {"leads to no arXiv number and no DOI"}
    unlinked = "has not its title, and nothing else, as a link"
    assert wrong_address("D. Kingma. *Bayes.* ICLR 2014. arXiv:1312.6114") == unlinked
    assert wrong(good[0], "ICLR 2014, [arXiv](https://arxiv.org/abs/1312.6114).") == unlinked
    assert wrong(good[0], "ICLR.") == "has no year"
    assert wrong(good[0], "ICLR 2012.") == "was on arXiv only after its year"
    one, other = "A. *[Bayes](https://a.org/1).* 2014.", "A. B. *[bayes?](https://a.org/2)* 2014."
    assert two_of_one([one, one]) == []
    assert two_of_one([one, other]) == ["bayes"]
    assert two_of_one([one, "A. *[Nets](https://a.org/1).* 2014."]) == ["https://a.org/1"]


# --- figures ---------------------------------------------------------------------------------------------------------

CAPTION = re.compile(r"\*\*Figure (\d+)\.(\d+)\.\*\* ")


def is_figure(cell):
    """Whether a stored cell shows a picture that is not a slider's still."""
    return cell.cell_type == "code" and any(
        key.startswith("image/") for output in cell.outputs if not notebooks.is_still(output)
        for key in output.get("data", {}))


def of_figures(notebook, number):
    """What is wrong with the figures of a chapter, as sentences."""
    cells, found, count = notebook.cells, [], 0
    for cell, following in zip(cells, [*cells[1:], None]):
        if not is_figure(cell):
            continue
        count += 1
        caption = CAPTION.match(following.source) if following and following.cell_type == "markdown" else None
        if not caption:
            found.append(f"no caption after the figure of the cell that begins {cell.source[:50]!r}")
        elif (int(caption[1]), int(caption[2])) != (number, count):
            found.append(f"figure {caption[1]}.{caption[2]} is the chapter's figure {number}.{count}")
    prose = " ".join(CAPTION.sub("", cell.source) for cell in cells if cell.cell_type == "markdown")
    prose = re.sub(r"\s+", " ", prose)
    named = {int(k) for run in re.findall(rf"[Ff]igures? {number}\.\d+(?:(?:,| and| to|–| or)+ ?{number}\.\d+)*", prose)
             for k in re.findall(rf"{number}\.(\d+)", run)}
    found += [f"figure {number}.{k} is referred to nowhere" for k in range(1, count + 1) if k not in named]
    found += [f"figure {number}.{k} is referred to, and is not there" for k in sorted(named) if k > count]
    return found + re.findall(r"\b(?:the|this) (?:figure|picture)s? (?:above|below)\b", prose, re.I)


@each_chapter
def test_figures_are_numbered_captioned_and_referred_to(source):
    if source.stem == "capstone":
        pytest.skip("its figures are C.1, C.2, ...")
    notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert of_figures(notebook, int(source.name[:2])) == []


def test_what_the_check_of_figures_finds():
    def figure(still=False):
        metadata = {"genmed": {"still": True}} if still else {}
        shown = nbformat.v4.new_output("display_data", {"image/png": "iVBOR"}, metadata=metadata)
        return nbformat.v4.new_code_cell("show()", outputs=[shown])

    def text(words):
        return nbformat.v4.new_markdown_cell(words)

    good = [figure(), text("**Figure 2.1.** One."), figure(True), figure(), text("**Figure 2.2.** Two."),
            text("Figures 2.1 and 2.2 say it.")]
    assert of_figures(nbformat.v4.new_notebook(cells=good), 2) == []
    bad = [figure(), text("**Figure 2.2.** One."), figure(), text("Nothing. See figure 2.4, or the figure above.")]
    assert of_figures(nbformat.v4.new_notebook(cells=bad), 2) == [
        "figure 2.2 is the chapter's figure 2.1", "no caption after the figure of the cell that begins 'show()'",
        "figure 2.1 is referred to nowhere", "figure 2.2 is referred to nowhere",
        "figure 2.4 is referred to, and is not there", "the figure above"]
