"""environment.yml, pyproject.toml and constraints.txt say the same, and hold nothing of one machine."""

import re
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
