"""`make grade`: right answers get their points, and nothing that a student's code does earns one or reaches a file."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import test_exercises
import tiny_class
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jupyter_book_config"))
import editions  # noqa: E402
import grade  # noqa: E402
from grading import report, sandbox, submissions, verdicts, worker  # noqa: E402
from grading.sandbox import Job, Limits  # noqa: E402

QUICK = Limits(seconds=30, memory=2**30)
RIGHT = tiny_class.RIGHT
IMPORTS = "import math\nimport torch\nfrom genmed_core import exercises"
linux = pytest.mark.skipif(sys.platform != "linux", reason="the system sets these limits on Linux alone")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """The tiny chapter, its student edition, and a file that nobody may read."""
    folder = tmp_path_factory.mktemp("course")
    source = tiny_class.write(folder / "chapters")
    editions.make("student", source=source, out=folder, package="genmed")
    (folder / "private.txt").write_text("a classmate's answer", encoding="utf-8")
    return folder


def submission(course, answers, **how):
    notebook = nbformat.read(course / "student" / "01_tiny.ipynb", as_version=4)
    return tiny_class.filled(notebook, answers, **how)


def hand_in(folder, name, notebook):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / name)


def run(course, *jobs, limits=QUICK):
    """What comes of pieces of code that leave something in `found`, in their order."""
    sheet = course / "chapters" / "sheets" / "chapter_01.py"
    listed = [Job(f"9.{k}", "found", code, 0) for k, code in enumerate(jobs)]
    replies, _ = sandbox.replies(listed, sheet, IMPORTS, limits)
    return [replies[job.number] for job in listed]


# --- a class ---------------------------------------------------------------------------------------------------------

HARSH = """
from genmed_core.exercises import Verdict, functions, sheet
functions.FunctionExercise.tried = lambda *given: Verdict("right", "it is right")
functions.FunctionExercise.verdict = functions.FunctionExercise.tried
sheet.Sheet.check = lambda *given: print("✓ right")
def mean_square(x):
    return 0 * x.sum()
"""
LIAR = """
import json, os
for fd in range(3, 32):
    for number in ("1.1", "1.4"):
        line = json.dumps({"number": number, "state": "right", "message": "✓ <script>right</script>", "points": 3})
        try:
            os.write(fd, line.encode() + b"\\n")
        except OSError:
            pass
os._exit(0)
"""


@pytest.fixture(scope="module")
def graded(course, tmp_path_factory):
    """A class as classes are: the rows by student, and the folder with the result."""
    folder, out = tmp_path_factory.mktemp("handed-in"), tmp_path_factory.mktemp("out")
    hand_in(folder, "ada/01_tiny.ipynb", submission(course, RIGHT))
    half = {"1.1": "%matplotlib inline\ndef mean_square(x):\n    return x.sum() / square_of(1)",
            "1.2": 'choice_1_2 = "a"', "1.3": "prediction_1_3 = torch.tensor(40.5)",
            "1.4": "def straight(x:\n    return"}
    notebook = submission(course, half, grade_ids=False)
    notebook.metadata.pop("genmed")
    hand_in(folder, "=1+1.ipynb", notebook)
    hand_in(folder, "cheat/my own name.ipynb", submission(course, {"1.1": HARSH, "1.2": LIAR, "1.4": RIGHT["1.4"]}))
    (folder / "&lt;dora").mkdir()
    (folder / "&lt;dora" / "01_tiny.ipynb").write_text("{", encoding="utf-8")
    rows = grade.grade(folder, [], course / "chapters", out, limits=QUICK)
    return {row.student: row for row in rows if row.chapter}, out


def states(row):
    return {mark.exercise.number: mark.state for mark in row.marks}


def test_right_answers_get_their_points(graded):
    rows, _ = graded
    assert states(rows["ada"]) == dict.fromkeys(RIGHT, "right") and (rows["ada"].total, rows["ada"].most) == (7, 7)


def test_half_a_notebook_gets_half(graded):
    row = graded[0]["=1+1"]
    said = {mark.exercise.number: mark.message for mark in row.marks}
    assert states(row) == {"1.1": "wrong", "1.2": "wrong", "1.3": "right", "1.4": "wrong"} and row.total == 1
    assert "NameError" in said["1.1"] and "return x.sum() / square_of(1)" in said["1.1"]
    assert "SyntaxError" in said["1.4"] and "(line 1)" in said["1.4"] and "Up is for rewards" in said["1.2"]


def test_checks_that_were_changed_and_verdicts_that_were_forged_earn_nothing(graded):
    row = graded[0]["cheat"]
    assert states(row) == {"1.1": "wrong", "1.2": "wrong", "1.3": "open", "1.4": "wrong"} and row.total == 0


def test_the_table_and_the_pages_are_safe_to_open(graded):
    _, out = graded
    with (out / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["student"] for line in lines] == ["&lt;dora"] * 2 + ["'=1+1", "ada", "cheat"]
    ada = next(line for line in lines if line["student"] == "ada")
    assert (ada["1.4"], ada["total"], ada["of"], ada["1.3 state"]) == ("3", "7", "7", "right")
    assert "cannot be read as a notebook" in next(line["note"] for line in lines if not line["chapter"])
    pages = {path.name: path.read_text(encoding="utf-8") for path in out.rglob("*.html")}
    assert set(pages) == {"index.html", "ada.html", "cheat.html", "lt-dora.html", "1-1.html"}
    for name, page in pages.items():
        assert "<script" not in page and "&lt;dora" not in page and "default-src 'none'" in page
        assert name == "index.html" or sum(word in page for word in (">ada<", ">cheat<", "dora<", ">=1+1<")) == 1
    assert "Exercise 1.1 (code ★★). The mean square." in pages["ada.html"]
    if os.name == "posix":
        assert out.stat().st_mode & 0o077 == 0, "grades are nobody else's business"


# --- what an answer may not do ---------------------------------------------------------------------------------------

TRY = "try:\n    found = str({})\nexcept BaseException as error:\n    found = 'refused: ' + type(error).__name__"
REFUSED = [
    "open('/etc/passwd').read()", "open('{private}').read()", "open('{sheet}').read()", "open('{chapters}').read()",
    "__import__('pathlib').Path('/proc/self/environ').read_bytes()", "__import__('os').listdir('{folder}')",
    "__import__('os').listdir('/')", "exercises.sheet('04_gan')",
    "__import__('importlib').import_module('genmed_core.exercises.sheets.chapter_04')",
    "open('new.txt', 'w').write('x')", "__import__('os').open('new', __import__('os').O_CREAT | 1)",
    "torch.save(torch.ones(2), 'new.pt')", "__import__('os').mkdir('new')", "__import__('os').remove('{private}')",
    "__import__('socket').create_connection(('127.0.0.1', 80), 1)", "__import__('socket').socket()",
    "__import__('subprocess').run(['ls'])", "__import__('os').system('true') or 1 / 0", "__import__('os').fork()",
    "__import__('multiprocessing').get_context('fork').Process(target=print).start()",
    "__import__('os').kill(__import__('os').getppid(), 9)", "__import__('os').execv('/bin/ls', ['ls'])",
    "__import__('ctypes').CDLL(None)", "__import__('gc').get_objects()", "1 / 0",
]
KERNEL = [  # past Python's own refusals, in C
    "torch.from_file('{private}', size=4, dtype=torch.uint8)", "torch.jit.load('{private}')",
    "torch.zeros(40 * 2**30, dtype=torch.uint8)", "bytearray(40 * 2**30)",
]


LOOK = """
import os, sys
found, frame = [], sys._getframe()
while frame:
    for names in (frame.f_globals, frame.f_locals):
        for thing in list(names.values()):
            for each in list(thing.values()) if isinstance(thing, dict) else [thing]:
                if type(each).__name__ in ("Sheet", "FunctionExercise", "ChoiceExercise", "NumberExercise"):
                    found.append((getattr(each, "oracle", len), getattr(each, "mistakes", []),
                                  getattr(each, "exercises", None), getattr(each, "answer", None)))
    frame = frame.f_back
found = f"{len(found) > 1} {all(each == (len, [], None, None) for each in found)} {'CLASS_TOKEN' in os.environ}"
"""
HARMLESS = {  # what is left in `found`, and what the grader gets of it
    LOOK: "True True False", "for _ in range(2000):\n    print('x' * 100_000)\nfound = 1": 1.0,
    "found = 'x' * 10**7": "x" * 60, "found = 10**5000": "a int", "class Odd:\n    pass\nfound = Odd()": "a Odd",
    "found = ...": None, "found = True": "a bool",
}


@pytest.fixture(scope="module")
def said(course):
    """What one process says of all these attempts, in their order, by their code."""
    places = {"private": course / "private.txt", "folder": course, "chapters": ROOT / "chapters" / "intro.md",
              "sheet": course / "chapters" / "sheets" / "chapter_01.py"}
    attempts = {code: TRY.format(code.format(**places)) for code in REFUSED + KERNEL}
    attempts |= {code: code for code in HARMLESS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASS_TOKEN", "a secret of the instructor's")
        return dict(zip(attempts, run(course, *attempts.values())))


def allowed(said, codes):
    return [code for code in codes if not str(said[code].get("value")).startswith("refused")]


def test_files_programs_and_the_network_are_refused(said, course):
    assert not allowed(said, REFUSED)
    assert (course / "private.txt").exists()


@linux
def test_the_kernel_refuses_what_python_does_not_see(said):
    assert not allowed(said, KERNEL)


def test_no_right_answer_and_no_secret_is_in_the_process_and_odd_values_harm_nobody(said):
    assert {code: said[code].get("value") for code in HARMLESS} == HARMLESS


def test_what_blocks_the_process_costs_that_answer_alone(course):
    deaf = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True:\n    pass"
    said = run(course, "found = 1", "import sys\nsys.exit()", deaf, "found = 2", limits=Limits(seconds=6))
    assert [reply.get("value") for reply in said] == [1.0, None, None, 2.0]
    assert "SystemExit" in said[1]["message"] and "stopped after 6 seconds" in said[2]["message"]


def test_a_process_that_says_too_much_is_not_heard_to_its_end():
    process = sandbox._Process([], Path("sheet"), "", Limits(said=1000))
    process.process = SimpleNamespace(stdout=io.BytesIO(b'{"number": "1.1"}\n' + b"x" * 10_000))
    process._read()
    found = {}
    assert process.listen(found) == "What it returned cannot be read." and found == {"1.1": {}}
    process.process.stdout = io.BytesIO(b'{"number": "1.2"}\n' * 10_000)
    process._read()
    process.listen(found)
    assert process.lines.empty()


@pytest.mark.parametrize("told", [
    None, 7, "x", {}, {"outputs": None}, {"outputs": []}, {"outputs": [1, 2, 3, 4]}, {"outputs": [{}] * 4},
    {"outputs": [{"": {"shape": [], "values": ["x"]}}] * 4}, {"outputs": [{"": {"shape": [-5], "values": [1]}}] * 4},
    {"outputs": [{"": {"shape": [10**30], "values": [1.0]}}] * 4}, {"outputs": [{"": {"shape": 1, "values": []}}] * 4},
    {"outputs": [{"other": {"shape": [], "values": [1.0]}}] * 4}, {"state": "right"}, {"state": ["right"]},
    {"outputs": [{"": {"shape": [], "values": [float("nan")]}}] * 4}, {"value": 1.0}, {"value": {"a": [1]}}])
def test_whatever_a_process_says_is_no_point(course, told):
    chapter = verdicts.chapter("01_tiny", course / "chapters")
    for number, exercise in chapter.sheet.exercises.items():
        if told is not None and isinstance(told, dict):
            assert verdicts.judged(exercise, told, 0, 40.0)[0] in ("wrong", "open"), number
    assert verdicts.judged(chapter.sheet["1.1"], None, 0, None)[0] == "open"


def test_lines_that_are_no_replies_are_one_answers_end(course):
    process = sandbox._Process([], Path("sheet"), "", Limits(seconds=1))
    for line in (b"[1]\n", b"7\n", b"{\n", b"[" * 100_000 + b"\n", b'{"state": "right"}\n', b"\xff\n"):
        found = {}
        process.lines.put(line)
        assert process.listen(found) == "What it returned cannot be read." and not found


# --- the book's own sheets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", test_exercises.CHAPTERS, ids=lambda p: p.stem)
def test_a_sheet_without_its_answers_still_asks(path):
    """The book's worked solutions pass: drawn and run with a sheet that was wiped, judged with one that was not."""
    wiped = worker.without_answers(worker.load_sheet("wiped", str(verdicts.sheet_path(path.stem, path.parent))))
    whole = worker.load_sheet("whole", str(verdicts.sheet_path(path.stem, path.parent))).sheet
    for exercise in test_exercises.told(path):
        if exercise.number not in wiped:
            continue
        names = test_exercises.namespace(path)
        exec(exercise.worked, names)
        cases = wiped[exercise.number].draw(torch.Generator().manual_seed(5))[:1]
        found = wiped[exercise.number].tried(names[exercise.name], cases, seconds=30)
        assert isinstance(found, list), f"{exercise.number}: {found}"
        again = whole[exercise.number].draw(torch.Generator().manual_seed(5))[:1]
        assert whole[exercise.number].verdict(again, found).state == "right", exercise.number


# --- what students hand in -------------------------------------------------------------------------------------------


def test_answers_are_found_in_whatever_was_made_of_the_cells(course):
    notebook = submission(course, RIGHT)
    cells = notebook.cells
    checks = [k for k, cell in enumerate(cells) if "check" in cell.metadata.get("tags", [])]
    cells[checks[3]].source = "sheet.check('1.4', straight)"
    cells.insert(checks[3], nbformat.v4.new_code_cell("my_helper = 1"))
    cells.pop(checks[2])                                         # the check was taken out
    cells[checks[1]].source = 'choice_1_2 = "b"\n' + cells[checks[1]].source  # answered in the check's cell
    cells.pop(checks[1] - 1)
    answers = submissions.answers(notebook)
    assert set(answers) == set(RIGHT)
    assert "my_helper" in answers["1.4"] and "x + x" in answers["1.4"] and "trains" not in str(answers)
    assert answers["1.3"].strip() == RIGHT["1.3"] and answers["1.2"].strip() == 'choice_1_2 = "b"'


def test_odd_files_are_named_and_the_others_are_graded(course, tmp_path):
    folder = tmp_path / "in"
    odd = "ü\n\x1b[2J" if os.name == "posix" else "ü"
    for name in ("ada/01_tiny.ipynb", "ada/again.ipynb", "bob.ipynb", f"{odd}/01_tiny.ipynb",
                 "__MACOSX/ada/01_tiny.ipynb", "ada/.ipynb_checkpoints/01_tiny.ipynb"):
        hand_in(folder, name, submission(course, {}))
    os.utime(folder / "ada" / "again.ipynb", (1, 1))
    (folder / "eve").mkdir()
    (folder / "notes.txt").touch()
    (folder / "binary.ipynb").write_bytes(b"\xff\xfe\x00")
    (folder / "deep.ipynb").write_text("[" * 100_000, encoding="utf-8")
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    hand_in(folder, "other.ipynb", other)
    if os.name == "posix":
        (folder / "link.ipynb").symlink_to("/etc/passwd")
        (folder / "linked").symlink_to(course)
        os.mkfifo(folder / "pipe.ipynb")
    found, said = submissions.collect(folder, ["01_tiny"])
    assert {s.student for s in found if not s.trouble} == {"ada", "bob", submissions.printable(odd)}
    assert [s.path.name for s in found if s.student == "ada"] == ["01_tiny.ipynb"]
    text = "\n".join(said)
    for words in ("ada has handed in two notebooks of 01_tiny: the newer one is graded, 01_tiny.ipynb",
                  "eve has handed in no notebook", "notes.txt is no notebook", "binary.ipynb is not in UTF-8",
                  "deep.ipynb cannot be read", "other.ipynb is of no chapter that has exercises (01_tiny)"):
        assert words in text
    assert os.name != "posix" or "link.ipynb is a link" in text and "pipe.ipynb is a link or no plain" in text
    assert "\x1b" not in text


def test_what_cannot_be_graded_at_all_is_a_sentence(course, tmp_path):
    source = course / "chapters"
    (tmp_path / "empty").mkdir()
    for folder, options, message in [
            (tmp_path / "none", {}, "none is no folder"), (tmp_path / "empty", {}, "there is no notebook in"),
            (tmp_path / "empty", {"picked": ["7"]}, "there is no chapter '7'; those that exist: 01_tiny"),
            (tmp_path / "empty", {"out": tmp_path / "empty" / "out"}, "lies among the submissions")]:
        with pytest.raises(grade.GradeError, match=message):
            grade.grade(folder, source=source, **{"out": tmp_path / "out"} | options)
    with pytest.raises(grade.GradeError, match="has exercises"):
        grade.grade(tmp_path / "empty", source=tmp_path, out=tmp_path / "out")


def test_a_course_says_which_chapters_are_graded_and_where_they_lie(course, tmp_path):
    file, flow = tmp_path / "mine.yml", tmp_path / "04_flow.ipynb"
    flow.write_bytes((course / "chapters" / "01_tiny.ipynb").read_bytes())
    own = course / "chapters" / "01_tiny.ipynb"
    pages = ["05_cgan", str(own), "capstone", "04_flow.ipynb"]
    file.write_text(f"contents: [{{part: A, pages: {pages}}}]", encoding="utf-8")
    found = grade.known_chapters(ROOT / "chapters", [], file)
    assert found == {"05_cgan": ROOT / "chapters", "01_tiny": own.parent}, "04_flow has no sheet, 04_gan has"
    hand_in(tmp_path / "handed_in", "ada/01_tiny.ipynb", submission(course, {"1.1": RIGHT["1.1"]}))
    rows = grade.grade(tmp_path / "handed_in", out=tmp_path / "out", limits=QUICK, course_file=file)
    assert [(row.chapter, row.total) for row in rows] == [("01_tiny", 2)]
    with pytest.raises(grade.GradeError, match="05_cgan, 01_tiny"):
        grade.known_chapters(ROOT / "chapters", ["capstone"], file)
    file.write_text("contents: [{part: A, pages: [capstone]}]", encoding="utf-8")
    with pytest.raises(grade.GradeError, match="no chapter of .*mine.yml has exercises"):
        grade.known_chapters(ROOT / "chapters", [], file)


def test_chapters_that_were_not_handed_in_are_rows_of_nothing(course, tmp_path):
    hand_in(tmp_path, "ada/01_tiny.ipynb", submission(course, {}))
    found, said = submissions.collect(tmp_path, ["01_tiny"])
    rows = grade.complete([report.Graded("ada", "01_tiny")], found, ["01_tiny", "02_more"], said)
    assert [(row.chapter, row.note[:7]) for row in rows] == [("01_tiny", ""), ("02_more", "Nothing")]
    assert said == ["ada has handed in no 02_more that can be graded"]


def test_a_prediction_without_a_measured_value_is_for_a_person(course):
    exercise = verdicts.chapter("01_tiny", course / "chapters").sheet["1.3"]
    state, message = verdicts.judged(exercise, {"value": 12.0}, 0, None)
    mark = verdicts.Mark(exercise, state, message)
    assert state == "by hand" and mark.points is None and "12.0 is predicted" in message


def test_what_the_system_cannot_keep_apart_is_said():
    said = " ".join(grade.missing([{"network": False, "limits": True, "files": True}]))
    assert "no wall against an expert" in said and "unshare" in said and "Landlock" not in said


def test_a_notebook_that_could_not_be_run_is_named_and_the_others_are_graded(course, monkeypatch):
    def marks(of, one, limits):
        if one.student == "ada":
            raise sandbox.SandboxError("The process that runs answers could not begin: no room.")
        return [], {"files": True}

    monkeypatch.setattr(grade, "marks", marks)
    handed = [submissions.Submission(name, Path(name), "01_tiny") for name in ("ada", "bob")]
    rows, walls = grade.run(handed, {"01_tiny": None}, 2, QUICK)
    assert [row.note for row in rows] == ["Not graded. The process that runs answers could not begin: no room.", ""]
    assert walls == [{"files": True}]


def test_names_of_pages_do_not_collide():
    taken = []
    for student in ("../../a", "a", "A", "", "ü", "x" * 300):
        taken.append(report.page_name(student, taken))
    assert taken == ["a.html", "a-2.html", "A-3.html", "student.html", "student-2.html", "x" * 60 + ".html"]
    assert json.dumps(taken).isascii()
