"""A question answered by a click or a number typed, judged in the browser with no kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

HERE = Path(__file__).parent
WAITS = "Run the chapter down to here to answer by a click."


class Question(anywidget.AnyWidget):
    """Buttons for the letters of a choice, or a field for a number, and what is said of an answer.

    number: the exercise's, such as "4.1".  key: what judging needs, as exercises make it (the form
    "choice" or "number", and the sentences).  answer: the letter or number that was given, ""
    before that.  Nothing is stored anywhere: a page that is loaded again knows of no answer.
    """

    _esm = (HERE / "question.js").read_text(encoding="utf-8")
    _css = (HERE / "question.css").read_text(encoding="utf-8")
    number = traitlets.Unicode().tag(sync=True)
    key = traitlets.Dict().tag(sync=True)
    answer = traitlets.Any("").tag(sync=True)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        data["text/plain"] = f"○ {self.number} waits for your answer. {WAITS}"
        return data, metadata
