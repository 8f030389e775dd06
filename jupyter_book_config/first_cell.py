# For a notebook away from its book, on Colab for instance: gets the book's package where that is missing.
# Nothing that is installed already is replaced, PyTorch least of all.
import importlib.util
import re
import subprocess
import sys
import tempfile
from importlib import metadata


def pip(*words):
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *words], check=True)


if importlib.util.find_spec("genmed_core") is None:
    kept = {re.sub(r"[-_.]+", "-", d.name).lower(): d.version for d in metadata.distributions()}
    pip("--no-deps", "{PACKAGE}")
    asked = [line for line in metadata.requires("genmed") if "extra ==" not in line]
    missing = [line for line in asked
               if re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower() not in kept]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as constraints:
        constraints.writelines(f"{name}=={version}\n" for name, version in kept.items())
    if missing:
        pip("-c", constraints.name, *missing)
if "google.colab" in sys.modules:
    from google.colab import output

    output.enable_custom_widget_manager()  # without it a slider is its still picture
