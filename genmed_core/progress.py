"""A training's progress bar, the same in JupyterLab, in the book and under nbval."""

import contextlib
import time
from html import escape
from types import TracebackType
from typing import Any


class ProgressBar:
    """A bar whose last state is plain HTML. Outside a notebook it prints one line at the end."""

    def __init__(self, total: int, title: str, *, start: int = 0):
        self.total, self.title, self.at, self.note = total, title, start, ""
        self._start, self._begin = start, 0.0
        self._handle: Any = None
        self._shown = 0.0  # when it was last drawn
        self._stopped = False

    def __enter__(self) -> "ProgressBar":
        self._begin = time.monotonic()
        with contextlib.suppress(ImportError):
            from IPython import display, get_ipython

            if getattr(get_ipython(), "kernel", None) is not None:
                self._handle = display.display(self.bundle(), raw=True, display_id=True)
        return self

    def update(self, at: int, note: str = "") -> None:
        """Show the step that has been reached, and a word on it."""
        self.at, self.note = at, note
        now = time.monotonic()
        if self._handle is not None and (now - self._shown > 0.2 or at >= self.total):
            self._handle.update(self.bundle(), raw=True)
            self._shown = now

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stopped = kind is not None
        if self._handle is not None:
            self._handle.update(self.bundle(), raw=True)
        else:
            print(self.text())

    def text(self) -> str:
        """The bar as a line of words."""
        seconds = time.monotonic() - self._begin
        left = ""
        if self._stopped:
            left = ", stopped"
        elif self._start < self.at < self.total:
            per_step = seconds / (self.at - self._start)
            left = f", {per_step * (self.total - self.at):.0f} s left"
        where = f"step {self.at:,} of {self.total:,}"
        return f"{self.title}: {where}, {seconds:.0f} s{left}  {self.note}".rstrip()

    def bundle(self) -> dict[str, str]:
        """What a notebook shows: HTML, and the line for those that show none."""
        bar = (f'<progress max="{self.total}" value="{self.at}" aria-label="{escape(self.title)}" '
               'style="width:14em;accent-color:#2b6cb0"></progress>')
        html = ('<div class="genmed-progress" style="display:flex;gap:.7em;align-items:center;'
                f'flex-wrap:wrap">{bar}<span>{escape(self.text())}</span></div>')
        return {"text/html": html, "text/plain": self.text()}
