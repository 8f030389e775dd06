# For a notebook away from its book, on Colab for instance: gets the book's package where that is missing.
# Nothing that is installed already is replaced, PyTorch least of all.
import contextlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from importlib import metadata


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def numbers(version):
    return [int(n) for n in re.findall(r"\d+", version.partition("+")[0])[:3]]


def pip(*words):
    done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", *words], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["no word from pip"]
        raise RuntimeError(f"pip could not install {' '.join(words[1:])} ({said[0]}). It needs pip in this Python, git "
                           "and a network: see to those, and run this cell again.")
    importlib.invalidate_caches()


kept = {}
for package in metadata.distributions():
    with contextlib.suppress(Exception):  # a damaged one has no name
        kept[plain(package.name)] = package.version
if importlib.util.find_spec("genmed_core") is None:
    pip("--no-deps", "{PACKAGE}")
asked = {}
with contextlib.suppress(metadata.PackageNotFoundError):  # of a copy that lies there and was not installed
    asked = {plain(re.match(r"[\w.-]+", line)[0]): line for line in metadata.requires("genmed") or []
             if "extra ==" not in line}
if missing := [line for name, line in asked.items() if name not in kept]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as constraints:
        constraints.writelines(f"{name}=={version}\n" for name, version in kept.items() if version)
    pip("-c", constraints.name, *missing)
least = {name: re.search(r">=\s*([\d.]+)", line) for name, line in asked.items() if kept.get(name)}
if older := [f"{name} {kept[name]} is kept, and the book is tested from {wanted[1]}" for name, wanted in least.items()
             if wanted and numbers(kept[name]) < numbers(wanted[1])]:
    print("note: " + "; ".join(older))
if "google.colab" in sys.modules:
    from google.colab import output

    output.enable_custom_widget_manager()  # without it a slider is its still picture
