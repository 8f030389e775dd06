"""The book's page of names, api.md: docstrings are shown as the plain text that they are, those of all modules."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import plain_docstrings  # noqa: E402


@pytest.mark.parametrize("text", [
    "images (N, *shape), **options, a trailing_ underscore_, |x| and p(x | z), back\\slash",
    "x, x_hat (B, C, H, W) -> {\"fd\": 1}; `Update`s and `schedule(t)`, a `name that\nis wrapped`",
    "an odd ` mark",
])
def test_a_docstring_is_shown_as_it_was_written(text):
    core = pytest.importorskip("docutils.core")
    lines = text.splitlines()
    plain_docstrings.as_text(None, "function", "f", None, None, lines)
    shown = core.publish_doctree("\n".join(lines), settings_overrides={"report_level": 1, "halt_level": 1})
    written = re.sub(r"`([^`]+)`", r"\1", text)
    assert shown.astext().split() == written.split()
    assert len(list(shown.findall(lambda node: node.tagname == "literal"))) == text.count("`") // 2


def test_indented_lines_stand_as_they_are():
    lines = ["One family:", "", "    x_t = a * x", "    with y", "", "More *words*."]
    plain_docstrings.as_text(None, "module", "m", None, None, lines)
    assert lines == ["One family:", "", "::", "", "    x_t = a * x", "    with y", "", r"More \*words\*.", ""]


def test_a_signature_in_lines_is_no_list_without_terms():
    context = {"body": '<dl>\n<dd><em class="sig-param">a</em>,</dd>\n<dd><em class="sig-param">b</em>,</dd>\n</dl>'
                       '<dl><dt>term</dt><dd>its meaning</dd></dl>'}
    plain_docstrings.signatures_as_lines(None, "api", "page.html", context, None)
    assert context["body"] == ('<span class="sig-lines"><span><em class="sig-param">a</em>,</span>\n'
                               '<span><em class="sig-param">b</em>,</span>\n</span>'
                               '<dl><dt>term</dt><dd>its meaning</dd></dl>')


def test_the_page_has_every_module_that_chapters_import():
    page = (ROOT / "chapters" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. automodule:: genmed_core\.(\w+)$", page, re.M)
    used = set()
    for path in (ROOT / "chapters").glob("[0-9][0-9]_*.py"):
        for names in re.findall(r"^from genmed_core import ([\w, ]+)", path.read_text(encoding="utf-8"), re.M):
            used |= {name.strip() for name in names.split(",")}
    assert used <= set(listed) and len(listed) == len(set(listed))
