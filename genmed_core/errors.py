"""Errors that several modules raise."""


class DataError(RuntimeError):
    """Data that cannot be used; the message names the file and the remedy."""
