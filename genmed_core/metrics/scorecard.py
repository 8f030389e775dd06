"""Broken promises of a notebook's cell: an error when it ends, once all have been judged."""

import sys
from typing import Any


class ExpectationFailed(AssertionError):
    """A chapter did not reach a figure that it promises."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: the sentences, and not the way that led to them."""
        return [f"{type(self).__name__}: {self}"]


class Scorecard:
    """Takes broken promises; raises for all of a cell when it ends, at once outside a notebook."""

    def __init__(self) -> None:
        self.broken: list[str] = []

    def add(self, broken: str) -> None:
        """Take the sentence that says how. Raises ExpectationFailed in plain Python."""
        shell = _shell()
        if shell is None:
            raise ExpectationFailed(broken)
        if not self.broken:
            shell.events.register("post_run_cell", self._end)
        self.broken.append(broken)

    def _end(self, result: Any) -> None:
        """Show the error, with all broken promises of the cell.

        Before a reader the cell has an error and the cells after it, with their exercises, run on.
        Where nobody sits (nbval, nbclient, a build) the run fails as for any exception.
        """
        shell = _shell()
        shell.events.unregister("post_run_cell", self._end)
        failure = ExpectationFailed("\n".join(self.broken))
        self.broken = []
        shell.showtraceback((type(failure), failure, None))
        kernel = getattr(shell, "kernel", None)
        attended = getattr(kernel, "_allow_stdin", False)  # somebody could be asked
        if not attended and result is not None and result.error_in_exec is None:
            result.error_in_exec = failure


def _shell() -> Any:
    """IPython, where this runs in it, else None."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None
