"""What a stored study prints with --table, asked in this process: one of its own takes seconds to import torch."""

import contextlib
import io
import os
import runpy
import sys
from pathlib import Path
from unittest import mock

STUDIES = Path(__file__).resolve().parent / "benchmarks" / "studies"


def printed(name: str) -> str:
    """The output of `python tests/benchmarks/studies/NAME.py --table`; raises what the study raises.

    The environment is put back. A study may end by sys.exit, with 0 or nothing.
    """
    path, out = str(STUDIES / f"{name}.py"), io.StringIO()
    with (mock.patch.object(sys, "argv", [path, "--table"]), mock.patch.dict(os.environ),
          mock.patch.object(sys, "path", [str(STUDIES), *sys.path]), contextlib.redirect_stdout(out)):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            assert not end.code, f"{name}.py --table ended with {end.code}"
    return out.getvalue()
