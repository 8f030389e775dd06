"""The promises of a notebook's cell: their values in a table when it ends, and only then an error.

A cell of promises is compared by nbval with its stored output, so what it prints is the same in
every run that passes. The values stand in a widget, which nbval skips.
"""

import html
import sys
from typing import Any, NamedTuple


class ExpectationFailed(AssertionError):
    """A chapter did not reach a figure that it promises."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: the sentences, and not the way that led to them."""
        return [f"{type(self).__name__}: {self}"]


class Promise(NamedTuple):
    """One promise and what became of it."""

    name: str
    value: float | None
    low: float | None  # the value should lie above it
    high: float | None  # and below this
    answer: str
    broken: str = ""  # the sentence that says how, empty where it was kept or not judged

    def cells(self) -> list[str]:
        """Name, value, bar, margin to the nearest bar, answer."""
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        bars = [("above", self.low), ("below", self.high)]
        bar = " and ".join(f"{word} {b:g}" for word, b in bars if b is not None)
        gaps = []
        if self.value is not None:
            gaps += [] if self.low is None else [self.value - self.low]
            gaps += [] if self.high is None else [self.high - self.value]
        margin = f"{min(gaps):.3g}" if gaps else ""
        if not bar:
            return [self.name, value, "nothing promised here", "", ""]
        return [self.name, value, bar, margin, self.answer]


class Scorecard:
    """Takes promises; raises for broken ones when the cell ends, at once outside a notebook."""

    def __init__(self) -> None:
        self.promises: list[Promise] = []

    def add(self, promise: Promise) -> None:
        """Show a promise at the end of the cell. Raises ExpectationFailed in plain Python."""
        shell = _shell()
        if shell is None:
            if promise.broken:
                raise ExpectationFailed(promise.broken)
            return
        if not self.promises:
            shell.events.register("post_run_cell", self._end)
        self.promises.append(promise)

    def _end(self, result: Any) -> None:
        """Show the values; then the error, with all broken promises of the cell.

        Before a reader the cell has an error and the cells after it, with their exercises, run on.
        Where nobody sits (nbval, nbclient, a build) the run fails as for any exception.
        """
        shell = _shell()
        shell.events.unregister("post_run_cell", self._end)
        promises, self.promises = self.promises, []
        _show(promises)
        if broken := [promise.broken for promise in promises if promise.broken]:
            failure = ExpectationFailed("\n".join(broken))
            shell.showtraceback((type(failure), failure, None))
            kernel = getattr(shell, "kernel", None)
            attended = getattr(kernel, "_allow_stdin", False)  # somebody could be asked
            if not attended and result is not None and result.error_in_exec is None:
                result.error_in_exec = failure


def _shell() -> Any:
    """IPython, where this runs in it, else None."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def table(promises: list[Promise]) -> str:
    """Promises as an HTML table, a row for each."""
    rows = ["".join(f"<th>{word}</th>" for word in ("promise", "value", "bar", "margin", "kept"))]
    for promise in promises:
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in promise.cells()))
    lines = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table class="promises">{lines}</table>'


def _show(promises: list[Promise]) -> None:
    import ipywidgets
    from IPython.display import display

    widget = ipywidgets.HTML(table(promises))
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    display({"application/vnd.jupyter.widget-view+json": view}, raw=True)
