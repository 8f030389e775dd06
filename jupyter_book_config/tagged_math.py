r"""Sphinx extension: display formulas reach MathJax as they were written.

Sphinx wraps a formula that holds \\ in a split environment, where \tag is an error, and so tears down the numbers of
the chapters' equations. Between \[ and \] a formula needs no wrapping.
"""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform


class KeepTaggedMath(SphinxPostTransform):
    default_priority = 500

    def run(self, **settings):
        for formula in self.document.findall(nodes.math_block):
            if "\\tag" in formula.astext() and not formula.get("nowrap"):
                formula.children = [nodes.Text(f"\\[{formula.astext()}\\]")]
                formula["nowrap"] = True


def setup(app):
    app.add_post_transform(KeepTaggedMath)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
