"""A chapter of four exercises and its sheet, so that the tests of a class need none of the book's chapters."""

from textwrap import dedent

import nbformat.v4 as nb

SHEET = '''\
import torch

from genmed_core import exercises

sheet = exercises.Sheet("01_tiny")


@sheet.function("1.1", "code", 2, "The mean square", cases=lambda g: {"x": torch.randn(5, generator=g)})
def mean_square(x):
    return (x**2).mean()


@mean_square.mistake("The sum stands where the mean is asked for.")
def _(x):
    return (x**2).sum()


sheet.choice("1.2", "derive", 1, "Which way", answer="b", why="Down it is.", wrongs={"a": "Up is for rewards."})
sheet.number("1.3", "predict", 1, "How many", truth=None, why="As was measured.", mistakes=[(0, "Some there are.")])


def slope(function, case):
    x = case["x"].clone().requires_grad_()
    function(x).sum().backward()
    return {"its gradient": x.grad}


@sheet.function("1.4", "code", 3, "A slope of two", cases=lambda g: {"x": torch.randn(4, generator=g)}, observe=slope)
def straight(x):
    return 2 * x
'''

EXERCISES = [
    ("1.1", "code ★★", "The mean square", 'def mean_square(x):\n    """Of x (n,).  Returns a number."""\n    ...',
     "sheet.check(\"1.1\", mean_square)", "def mean_square(x):\n    return x.pow(2).mean()  # the secret way"),
    ("1.2", "derive ★", "Which way", 'choice_1_2 = None  # "a" or "b"', 'sheet.check("1.2", choice_1_2)',
     'choice_1_2 = "b"  # a secret letter'),
    ("1.3", "predict ★", "How many", "prediction_1_3 = None  # a number",
     'sheet.check("1.3", prediction_1_3, measured=found)', "prediction_1_3 = 40.0  # a secret number"),
    ("1.4", "code ★★★", "A slope of two", 'def straight(x):\n    """Of x (n,).  Returns (n,)."""\n    ...',
     'sheet.check("1.4", straight)', "def straight(x):\n    return x + x  # a secret slope"),
]
RIGHT = {number: solution for number, _, _, _, _, solution in EXERCISES}


def notebook(sheet_cell=SHEET):
    """The chapter, as `make notebooks` stores one; the third exercise's check has an output with what was measured."""
    cells = [nb.new_markdown_cell("# A tiny chapter\n\n![A dot](figures/dot.svg) and [chapter 2](02_absent.ipynb)."),
             nb.new_code_cell("import math\n\nimport torch\n\nfrom genmed_core import exercises"),
             nb.new_code_cell(sheet_cell),
             nb.new_code_cell("found = 40.0\nraise RuntimeError('this cell trains')")]
    for number, kind, title, stub, check, solution in EXERCISES:
        cells += [nb.new_markdown_cell(f"**Exercise {number} ({kind}). {title}.** Do it.\n\n<details class=\"hint\">"
                                       "<summary>Hint 1</summary>\n\nA nudge.\n\n</details>"),
                  nb.new_code_cell(stub, metadata={"tags": ["answer"]}),
                  nb.new_code_cell(check, metadata={"tags": ["check"]}),
                  nb.new_markdown_cell(dedent(f'''\
                      <details class="solution"><summary>Solution {number}</summary>

                      Because of a secret reason {number}.

                      ```python
                      ''') + solution + "\n```\n\n</details>", metadata={"tags": ["solution"]})]
    cells[14].outputs = [nb.new_output("display_data", {"text/plain": "○ 1.3 waits for your answer."},
                                       metadata={"genmed": {"measured": 40.0}})]
    cells.append(nb.new_markdown_cell("In your own words:", metadata={"tags": ["explain"]}))
    cells.append(nb.new_code_cell("sheet.summary()"))
    for k, cell in enumerate(cells):
        cell["id"] = f"cell-{k:03d}"
    return nb.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def write(folder, sheet_cell=SHEET):
    """Write the chapter, its sheet and what it links to into a folder; returns the folder."""
    (folder / "sheets").mkdir(parents=True)
    (folder / "figures").mkdir()
    (folder / "figures" / "dot.svg").write_text("<svg/>", encoding="utf-8")
    (folder / "sheets" / "chapter_01.py").write_text(SHEET, encoding="utf-8")
    (folder / "01_tiny.ipynb").write_text(nb.writes(notebook(sheet_cell)), encoding="utf-8")
    (folder / "intro.md").write_text("# Welcome\n\nDo them<!-- solutions --> before the solutions<!-- /solutions -->, "
                                     "and [see](more.md).\n", encoding="utf-8")
    (folder / "more.md").write_text("More of [chapter 1](01_tiny.ipynb).\n", encoding="utf-8")
    return folder


def filled(notebook, answers, grade_ids=True):
    """A notebook with answers by number in place of its stubs, as a student saves it."""
    cells = notebook.cells
    for k, cell in enumerate(cells):
        if "check" in cell.metadata.get("tags", []):
            number = cell.source.partition('sheet.check("')[2][:3]
            if number in answers:
                cells[k - 1].source = answers[number]
        if not grade_ids:
            cell.metadata.pop("nbgrader", None)
    return notebook
