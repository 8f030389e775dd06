"""Errors that several modules raise."""


class DataError(RuntimeError):
    """Data that cannot be used; the message names the file and the remedy."""


class Absent(DataError):
    """A source that is not there: `why` in a few words; the message also says how to get it."""

    def __init__(self, why: str, message: str):
        super().__init__(message)
        self.why = why


def first_line(error: BaseException) -> str:
    """The first line of an error's message, shortened; its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
