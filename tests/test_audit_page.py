"""The audit's page and command line: one self-contained file, written only when asked for, with its warning."""

import io
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from test_audit import arguments, blobs, few_planted, folder, places, world  # noqa: F401  (three are fixtures)

from genmed_core import audit
from genmed_core.audit import command
from genmed_core.audit.page import PAIRS, WARNING


@pytest.fixture(scope="module")
def audited():
    """A small audit in which three samples are training images, and its folders."""
    images, labels = blobs(160, 5)
    fakes = torch.cat([images[120:157], images[:3]])
    train, held, fake = (folder(x, labels[:len(x)], name) for x, name in
                         ((images[:60], "film"), (images[60:120], "other"), (fakes, "<sample & one>")))
    return audit.audit(train, held, fake, effort=0.05), train, fake


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


@pytest.fixture
def page(audited):
    return audit.page(*audited)


def test_the_page_warns_first_and_allows_nothing(page):
    body = page[page.index("<h1>"):]
    assert WARNING in body[:500] and "real patients" in WARNING
    assert "allows nothing" in body and "not for diagnosis" in body


def test_the_page_needs_nothing_from_elsewhere(page):
    assert "<script" not in page and "http" not in page and "@import" not in page and "url(" not in page
    sources = [attrs["src"] for tag, attrs in Tags(page).seen if tag == "img"]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(attrs["alt"] for tag, attrs in Tags(page).seen if tag == "img")


def test_the_page_shows_every_verdict_copy_canary_and_what_is_not_tested(page, audited):
    report = audited[0]
    assert len(report["privacy"]["copies"]) == 3 and page.count("<figure class=copy>") == 3
    assert page.count('<div class="card ') == len(report["verdicts"])
    assert '<div class="card fail"><span class=verdict>fail: yes' in page
    for words in (*report["not_tested"], *audit.KINDS, "hits at 1 % false alarms"):
        assert words in page, words
    assert "&lt;sample &amp; one&gt;" in page and "<sample" not in page, "names of files are no tags"
    assert page.count("<svg") == page.count("</svg>") == 4


def test_a_page_of_many_copies_shows_some_and_says_so(audited):
    report, train, fake = audited
    pair = report["privacy"]["copies"][0]
    many = report | {"privacy": report["privacy"] | {"copies": [pair] * 60, "closest": [pair] * 60}}
    page = audit.page(many, train, fake)
    assert page.count("<figure") == PAIRS and f"The first {PAIRS} are shown" in page


def test_plots_hold_no_number_that_is_none(page):
    for svg in re.findall(r"<svg.*?</svg>", page):
        assert "nan" not in svg and "inf" not in svg


@pytest.fixture
def quick(audited, monkeypatch, places):  # noqa: F811
    report, train, fake = audited
    folders = iter([train, None, fake] * 9)
    monkeypatch.setattr(command, "read_folder", lambda *_, **__: next(folders))
    monkeypatch.setattr(command, "audit", lambda *_, tell, **__: tell("looking for copies", 0.5) or report)
    return places


def test_no_page_is_written_unless_asked_for(quick, capsys):
    before = set(quick.rglob("*"))
    assert command.main(arguments(quick)) == 0 and set(quick.rglob("*")) == before
    assert command.main(arguments(quick, "--html", str(quick / "audit.html"), "--json", str(quick / "a.json"))) == 0
    assert WARNING in (quick / "audit.html").read_text() and json.loads((quick / "a.json").read_text())
    assert command.main(arguments(quick, "--html", str(quick / "audit.html"))) == 0, "an older page may be replaced"
    assert "50% looking for copies" in capsys.readouterr().err


@pytest.mark.parametrize("option, text", [("--html", "<title>Mine</title>"), ("--json", "[1]")])
def test_files_of_the_readers_own_are_left_alone(quick, capsys, option, text):
    (quick / "mine").write_text(text)
    assert command.main(arguments(quick, option, str(quick / "mine"))) == 2
    assert "choose another name" in capsys.readouterr().err and (quick / "mine").read_text() == text


def test_the_bar_stays_on_one_line_in_a_terminal_and_is_gone_at_the_end():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    bar = command.Progress(stream)
    for share in (0.1, 0.5, 1.0):
        bar.tell("looking", share)
    bar.end()
    assert "\n" not in stream.getvalue() and "50% looking" in stream.getvalue()
    assert stream.getvalue().endswith(" \r")


@pytest.mark.parametrize("effort", ["0", "-1", "nan", "1e9"])
def test_an_effort_that_is_none_is_named_before_work(places, capsys, effort):  # noqa: F811
    assert command.main(arguments(places, "--effort", effort)) == 2
    assert "give a number above 0" in capsys.readouterr().err
