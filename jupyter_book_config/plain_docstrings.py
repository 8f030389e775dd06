"""Sphinx extension: the core's docstrings are plain text, in which only `names` in backticks mean something.

So an asterisk or a bar in one is what it is, and an indented line is shown as it was written. And the lines of a long
signature are no list of definitions, as which Sphinx writes them: a screen reader would announce one without terms.
"""

import re

PARAMETERS = r'<dl>\s*((?:<dd><em class="sig-param">.*?</dd>\s*)+)</dl>'  # a signature's, a line each


def as_text(app, what, name, obj, options, lines):
    """Turn the lines of a docstring into reStructuredText that shows them as they are, in place."""
    text = "\n".join(lines)
    paragraphs = [indented(p) if p.startswith("    ") else escaped(p) for p in re.split(r"\n\s*\n", text.strip("\n"))]
    lines[:] = [*"\n\n".join(paragraphs).splitlines(), ""]


def indented(paragraph):
    return "::\n\n" + paragraph


def escaped(paragraph):
    """Words with their special characters escaped; what stands between backticks as code, letters beside it or not."""
    words = re.split(r"(`+)(.+?)\1", paragraph, flags=re.S)
    for k in range(0, len(words), 3):
        words[k] = re.sub(r"([\\*_|`])", r"\\\1", words[k])
    for k in range(1, len(words), 3):
        words[k : k + 2] = ["", rf"\ ``{' '.join(words[k + 1].split())}``\ "]
    return "".join(words)


def left_out(app, what, name, obj, skip, options):
    """The fields of a named tuple say nothing of themselves: their class does."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def signatures_as_lines(app, page, template, context, doctree):
    """Lines of signatures as plain elements, in place; genmed.css sets them below each other."""
    def lines(found):
        return f'<span class="sig-lines">{found[1].replace("<dd>", "<span>").replace("</dd>", "</span>")}</span>'

    if "body" in context:
        context["body"] = re.sub(PARAMETERS, lines, context["body"], flags=re.S)


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", as_text)
    app.connect("autodoc-skip-member", left_out)
    app.connect("html-page-context", signatures_as_lines)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
