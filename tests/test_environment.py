"""environment.yml, pyproject.toml, constraints.txt, CI and make say the same, and hold nothing of one machine."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = [Requirement(r) for r in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line.strip()]
NAMED_BY_THE_USER = ["jupyterlab", "torch", "torchvision", "matplotlib", "ipywidgets", "nbval", "jupytext", "numpy"]


def test_the_users_packages_are_all_there():
    assert set(NAMED_BY_THE_USER) <= {r.name for r in REQUIRED}


@pytest.mark.parametrize("requirement", REQUIRED, ids=lambda r: r.name)
def test_every_requirement_is_pinned_within_its_range(requirement):
    pins = [p for p in PINS if canonicalize_name(p.name) == canonicalize_name(requirement.name)]
    assert pins, f"{requirement.name} is not in constraints.txt: run `make pins`"
    for pin in pins:
        (only,) = pin.specifier
        assert only.operator == "==" and requirement.specifier.contains(only.version), f"{pin} against {requirement}"


@pytest.mark.parametrize("requirement", REQUIRED, ids=lambda r: r.name)
def test_what_runs_here_is_what_is_pinned(requirement):
    try:
        here = version(requirement.name).split("+")[0]
    except PackageNotFoundError:
        pytest.fail(f"{requirement.name} is not installed: run `make setup`")
    applicable = [p for p in PINS if canonicalize_name(p.name) == canonicalize_name(requirement.name)
                  and (p.marker is None or p.marker.evaluate())]
    if not any(p.specifier.contains(here) for p in applicable):
        pytest.skip(f"{requirement.name} {here} runs here, not the pinned version: results may differ a little")


def test_environment_yml_installs_the_same_package_from_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    (python,) = [d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python")]
    assert PROJECT["requires-python"] == ">=3.11" and re.fullmatch(r"python=3\.1[1-3]", python)
    assert any(d == "pip" for d in environment["dependencies"])


def test_pins_hold_no_address_and_no_option():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert "://" not in line and not line.startswith("-") and "@" not in line, line


def test_torch_and_torchvision_are_a_pair():
    pins = {p.name: next(iter(p.specifier)).version for p in PINS}
    torch_minor, vision_minor = (int(pins[n].split(".")[1]) for n in ("torch", "torchvision"))
    assert vision_minor == torch_minor + 15  # torch 2.11 goes with torchvision 0.26, 2.14 with 0.29


# --- CI: what it runs, and at which ends of the ranges ---------------------------------------------------


def workflow(name="ci.yml"):
    text = (ROOT / ".github/workflows" / name).read_text(encoding="utf-8")
    return yaml.safe_load(text.replace("\non:", "\n'on':"))  # YAML takes a bare `on` for true


def test_ci_may_only_read_runs_weekly_and_stops_what_is_overtaken():
    ci = workflow()
    assert ci["permissions"] == {"contents": "read"} and ci["concurrency"]["cancel-in-progress"]
    assert {"push", "pull_request", "schedule"} <= set(ci["on"])
    minute, hour, day, month, weekday = ci["on"]["schedule"][0]["cron"].split()
    assert (day, month) == ("*", "*") and weekday.isdecimal()
    assert any("bash .ci/run" in str(step.get("run")) for step in ci["jobs"]["full"]["steps"])


def test_ci_tries_both_ends_of_the_ranges_on_three_systems():
    """The oldest Python with the oldest torch, the newest with the newest; each with the torchvision of its torch."""
    matrix = workflow()["jobs"]["ends"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    listed = sorted(line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line))
    assert matrix["python"] == [listed[0], listed[-1]] and PROJECT["requires-python"] == f">={listed[0]}"
    ranges = {r.name: r.specifier for r in REQUIRED}
    for end, combination in zip((">=", "<"), matrix["include"], strict=True):
        for name in ("torch", "torchvision"):
            (bound,) = [s.version for s in ranges[name] if s.operator == end]
            minor = int(bound.split(".")[1]) - (end == "<")
            assert combination[name] == f"0.{minor}.*" if name == "torchvision" else f"2.{minor}.*"
    assert [c["python"] for c in matrix["include"]] == matrix["python"]


def test_no_job_downloads_cuda_to_a_machine_without_a_gpu():
    jobs = workflow()["jobs"]
    assert jobs["full"]["env"]["TORCH"] == "cpu" and "make setup TORCH=cpu" in str(jobs["changed"]["steps"])


def test_the_badges_are_true():
    readme = (ROOT / "README.md").read_text("utf-8")
    badges = re.findall(r"\[!\[(.+?)\]\(https://img\.shields\.io/badge/\S+\)\]\((\S+)\)", readme)
    assert [words for words, _ in badges] == [
        f"Code: {PROJECT['license']}", "Text and figures: CC BY 4.0",
        f"Python {PROJECT['requires-python'].removeprefix('>=')} or newer"]
    assert all((ROOT / place).is_file() for _, place in badges)
    assert "license: [MIT, CC-BY-4.0]" in (ROOT / "CITATION.cff").read_text("utf-8")


WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_workflow_parses_and_runs_what_the_makefile_has(path):
    """A step is a goal of the Makefile, one of its recipes' own commands, or the installation before them."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    goals = set(re.findall(r"^([a-z][\w-]*)(?: [a-z]+)*:", makefile, re.M)) | {"instructor"}
    recipes = {line.strip().partition("$(RUN) ")[2] for line in makefile.splitlines() if "$(RUN) -m" in line}
    content = workflow(path.name)
    assert content["name"] and content["on"] and content["permissions"]
    for job in content["jobs"].values():
        assert job["runs-on"] and job["timeout-minutes"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/checkout@v4"))
            command = step.get("run", "bash .ci/run")
            if command.startswith("make "):
                assert command.split()[1] in goals, command
            elif not command.startswith(("bash .ci/run", "python -m pip install -e ")):
                assert command.removeprefix("python ") in recipes, command


def test_a_pull_request_runs_the_chapters_that_it_changes_and_publishing_runs_none():
    jobs = workflow()["jobs"]
    runs = [step.get("run", "") for step in jobs["changed"]["steps"]]
    assert any(re.match(r"make chapters CHANGED=origin/", run) for run in runs)
    assert {"make lint", "make unit", "make site"} <= set(runs), "the rest of `make test`"
    assert "pull_request'" in jobs["changed"]["if"] and jobs["full"]["if"].replace("!=", "==") == jobs["changed"]["if"]
    inputs = workflow("pages.yml")["on"]["workflow_dispatch"]["inputs"]
    assert inputs["execute"]["default"] is False and (ROOT / inputs["course"]["default"]).is_file()


def lint_commands():
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint: setup\n")[1].split("\n\n")[0]
    return [line.strip().removeprefix("$(RUN) ") for line in recipe.splitlines()]


def test_ci_and_the_hooks_before_a_commit_run_what_make_lint_runs():
    assert len(lint_commands()) == 2
    steps = [step.get("run", "") for step in workflow()["jobs"]["ends"]["steps"]]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    for command in lint_commands():
        assert f"python {command}" in steps and f"python {command}" in [hook["entry"] for hook in hooks]


# --- make: places -----------------------------------------------------------------------------------------


def clone(folder, made_for=None):
    """A folder with the Makefile and an environment that only says what it is asked to run."""
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / "chapters").mkdir()
    (folder / "chapters/01_autoencoder.ipynb").touch()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / name, folder / name)
    python = folder / ".venv/bin/python"
    python.write_text('#!/bin/sh\necho "ran $*"\n')
    python.chmod(0o755)
    (folder / ".venv/.ready").write_text(f"{made_for or folder.resolve()}\n")
    return folder


def make(folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


needs_make = pytest.mark.skipif(shutil.which("make") is None or os.name == "nt", reason="no make here")


@needs_make
@pytest.mark.parametrize("goal", ["lint", "unit", "chapters", "site", "notebooks", "book", "lab", "weights"])
def test_make_works_in_a_folder_whose_name_has_a_space(tmp_path, goal):
    said = []
    for name in ("plain", "with a space", "it's (new)"):
        result = make(clone(tmp_path / name), "-s", goal)
        assert result.returncode == 0, result.stderr
        said.append(result.stdout)
    assert "ran -m" in said[0] or "ran jupyter_book_config" in said[0] or "ran data" in said[0], said[0]
    assert said[0] == said[1] == said[2]


@needs_make
def test_make_notices_an_environment_that_was_moved_or_copied(tmp_path):
    here = clone(tmp_path / "here")
    assert make(here, "-q", "setup").returncode == 0
    moved = clone(tmp_path / "moved", made_for=here)
    for goal in ("setup", "lab", "unit"):
        result = make(moved, "-s", goal)
        assert result.returncode == 2 and "ran" not in result.stdout
        assert f"made for {here}" in result.stderr and "`make renew`" in result.stderr
    (tmp_path / "python").write_text("#!/bin/sh\n")  # stands for the one that makes environments
    (tmp_path / "python").chmod(0o755)
    result = make(moved, "renew", f"PYTHON={tmp_path / 'python'}")
    assert result.returncode == 0 and "--reinstall" in result.stdout and "--torch-backend" not in result.stdout
    assert make(moved, "-q", "setup").returncode == 0, "the advice works"


def installing(folder, *arguments):
    """The lines that setting up a clone prints, of which `ran -m uv ...` are its commands."""
    nothing = folder / "python3"
    nothing.write_text("#!/bin/sh\n")  # stands for the one that makes environments
    nothing.chmod(0o755)
    result = make(folder, "setup", f"PYTHON={nothing}", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@needs_make
def test_the_cuda_libraries_can_be_left_out(tmp_path):
    """TORCH is asked of uv beside the same pins, remembered, and changes a .venv that was set up without it."""
    here = clone(tmp_path / "here")
    (said,) = [line for line in installing(here, "TORCH=cpu") if "-m uv" in line]
    assert "--torch-backend cpu" in said and "-c constraints.txt" in said and "--reinstall-package torch" in said
    for again in ([], ["TORCH=cpu"]):
        assert make(here, "-q", "setup", *again).returncode == 0
    os.utime(here / "pyproject.toml", (4e9, 4e9))  # a later version of the book
    assert any("--torch-backend cpu" in line for line in installing(here))
    os.utime(here / "pyproject.toml", (1, 1))
    assert any("--torch-backend auto" in line for line in installing(here, "TORCH=auto"))
    refused = make(here, "setup", "TORCH=gpu")
    assert refused.returncode and "TORCH=gpu is not known: give cpu or auto" in refused.stderr


@needs_make
def test_where_that_index_cannot_be_reached_the_usual_packages_are_taken(tmp_path):
    here = clone(tmp_path / "here")
    (here / ".venv/bin/python").write_text('#!/bin/sh\ncase "$*" in *--torch-backend*) exit 2;; esac\necho "ran $*"\n')
    said = installing(here, "TORCH=cpu")
    note = next(k for k, line in enumerate(said) if line.startswith("note: no PyTorch for TORCH=cpu"))
    assert "make renew TORCH=cpu tries again" in said[note]
    assert said[note + 1].startswith("ran -m uv pip install") and len(said) == note + 2
    assert make(here, "-q", "setup", "TORCH=cpu").returncode == 0


def test_code_of_another_clone_says_so(tmp_path):
    """A copied environment runs the code that it was installed from; where that differs from its own, it says so."""
    code = "import sys; sys.path.insert(0, sys.argv[2]); sys.prefix = sys.argv[1]; import genmed_core"
    own = tmp_path / "copy"
    (own / "genmed_core").mkdir(parents=True)
    (own / "chapters").mkdir()

    def said(prefix, working):
        command = [sys.executable, "-c", code, str(prefix), str(ROOT)]
        return subprocess.run(command, cwd=working, capture_output=True, text=True, check=True).stdout

    note = said(own / ".venv", own / "chapters")
    assert f"this runs the code in {ROOT}" in note and f"For the code in {own}, run `make renew`" in note
    assert said(own / ".venv", tmp_path) == "" and said(ROOT / ".venv", ROOT / "chapters") == ""


# --- habits of a project that others join -----------------------------------------------------------------


def test_the_package_says_that_it_is_typed_and_offers_the_audit_by_name():
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert (ROOT / "genmed_core/py.typed").is_file()
    assert "py.typed" in whole["tool"]["setuptools"]["package-data"]["genmed_core"]
    for name in ("genmed-audit", "genmed-hallucinations"):
        module, function = PROJECT["scripts"][name].split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_citation_names_the_project_and_the_textbook():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["version"] == PROJECT["version"]
    assert citation["authors"] == [{"name": "The genmed authors"}] == PROJECT["authors"]
    assert any("Deep learning for healthcare" in r["title"] for r in citation["references"])


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CODE_OF_CONDUCT.md", "SECURITY.md", ".github/CONTRIBUTING.md",
                                  ".github/pull_request_template.md"])
def test_files_that_a_newcomer_looks_for_are_there(name):
    assert len((ROOT / name).read_text(encoding="utf-8").split()) > 40


def test_issue_forms_are_well_formed():
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) >= 2
    for form in (yaml.safe_load(path.read_text(encoding="utf-8")) for path in forms):
        assert form["name"] and form["description"] and all("type" in part for part in form["body"])
