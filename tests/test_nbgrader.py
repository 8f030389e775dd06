"""nbgrader takes the instructor's course folder as it is: released, answered, graded, with nothing edited by hand."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
import tiny_class

pytest.importorskip("nbgrader", reason="nbgrader is not installed: pip install nbgrader")
if sys.platform == "win32":
    pytest.skip("nbgrader takes paths apart with / alone", allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import editions  # noqa: E402

RIGHT = tiny_class.RIGHT
ANSWERS = {
    "right": RIGHT,
    "half": {"1.1": "def mean_square(x):\n    return x.pow(2).sum()", "1.2": "import sys; sys.exit()",
             "1.4": "import warnings\n\ndef straight(x):\n    warnings.warn('x')\n    return 2 * x"},
}
POINTS = {  # by check
    "right": {"1.1": 2, "1.2": 1, "1.3": 1, "1.4": 3},
    "half": {"1.1": 0, "1.2": 0, "1.3": 0, "1.4": 3},  # the third waits; a warning is no mistake
}


def by_number(notebook):
    """A notebook's check cells."""
    cells = [c for c in notebook.cells if "check" in c.metadata.get("tags", [])]
    return {re.search(r'check\("(.+?)"', c.source)[1]: c for c in cells}


def cheated(notebook):
    """A submission with its checks changed, made worth more, or taken out: nbgrader puts them back."""
    checks = by_number(notebook)
    checks["1.1"].source = "2"
    checks["1.1"].metadata["nbgrader"]["points"] = 100
    checks["1.2"].source = 'print("✓ 1.2 is right")'
    notebook.cells.remove(checks["1.3"])
    return notebook


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # nbgrader runs the command alembic, which stands beside python
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        yield tmp_path_factory.mktemp("class")


@pytest.fixture(scope="module")
def api(course):
    """The API of a course that was released, answered by two students, and graded."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config, PyFileConfigLoader

    source = tiny_class.write(course / "chapters")
    editions.make("instructor", source=source, out=course, package="genmed")
    course = course / "instructor" / "nbgrader"
    config = Config(PyFileConfigLoader("nbgrader_config.py", str(course)).load_config())
    config.CourseDirectory.root = str(course)
    config.Exchange.root = str(course / "exchange")
    api = NbGraderAPI(config=config)
    released = api.generate_assignment("01_tiny")
    assert released["success"], released["error"]
    for student, answers in ANSWERS.items():
        place = course / "submitted" / student / "01_tiny"
        place.mkdir(parents=True)
        notebook = nbformat.read(course / "release" / "01_tiny" / "01_tiny.ipynb", as_version=4)
        tiny_class.filled(notebook, answers)
        nbformat.write(cheated(notebook) if student == "half" else notebook, place / "01_tiny.ipynb")
        graded = api.autograde("01_tiny", student)
        assert graded["success"], graded["error"]
    return api


def test_students_get_the_stubs_and_neither_solutions_nor_what_was_measured(api):
    path = Path(api.coursedir.root) / "release" / "01_tiny" / "01_tiny.ipynb"
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.read(path, as_version=4)
    source = "\n".join(cell.source for cell in notebook.cells)
    for _, _, _, stub, check, _ in tiny_class.EXERCISES:
        assert stub in source and check in source
    assert "secret" not in text and "HIDDEN" not in text and "found = 40.0\n###" not in source
    assert source.count("found = 40.0") == 1, "the training cell's own line"


@pytest.mark.parametrize("student", ANSWERS)
def test_the_gradebook_has_each_students_points(api, student):
    with api.gradebook as gradebook:
        grades = gradebook.find_submission_notebook("01_tiny", "01_tiny", student).grades
        points = {grade.name.removeprefix("check-").replace("-", "."): grade for grade in grades}
        assert {number: points[number].auto_score for number in POINTS[student]} == POINTS[student]
        assert {number: points[number].max_score for number in RIGHT} == {"1.1": 2, "1.2": 1, "1.3": 1, "1.4": 3}
        (free,) = [grade for name, grade in points.items() if name.startswith("explain")]
        assert free.max_score == 3


def test_nothing_was_trained(api):
    for student in ANSWERS:
        path = Path(api.coursedir.root) / "autograded" / student / "01_tiny" / "01_tiny.ipynb"
        assert "this cell trains" not in str([c.get("outputs") for c in nbformat.read(path, as_version=4).cells])
