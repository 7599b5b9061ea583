"""Errors caused by user input. Each message says where, what was found and what was expected."""
from __future__ import annotations

from typing import Sequence


class KwsError(Exception):
    """A fault of the input, not of the program.

    Args:
        message: one line for the user.
        code: a stable slug for programs ("empty_audio", "bad_config", ...).
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message, code)  # all arguments, so that the error survives a process border
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class ConfigError(KwsError):
    """A configuration that cannot be used; carries every problem found, not just the first.

    Args:
        source: the file, or the option, that holds the problems.
        problems: one line each.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        super(KwsError, self).__init__(source, problems)
        self.code = "bad_config"
        self.problems = tuple(problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.args[0]}: {self.problems[0]}"
        return "\n  ".join([f"{self.args[0]}: {len(self.problems)} problems", *self.problems])


class DataError(KwsError):
    """A data folder, manifest or prepared store that cannot be used."""

    def __init__(self, message: str, code: str = "bad_data") -> None:
        super().__init__(message, code)


class AudioError(KwsError):
    """One clip that cannot be used."""

    def __init__(self, message: str, code: str = "unsupported_audio") -> None:
        super().__init__(message, code)


class TrackingError(KwsError):
    """A tracking server or store that cannot be used."""

    def __init__(self, message: str, code: str = "no_tracking") -> None:
        super().__init__(message, code)


class ModelError(KwsError):
    """A model folder that cannot be used, or a model that answered nonsense."""

    def __init__(self, message: str, code: str = "bad_model") -> None:
        super().__init__(message, code)


def first_line(error: BaseException) -> str:
    """Return what an error of a library says, without what some write below it; of one without words, its name."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
