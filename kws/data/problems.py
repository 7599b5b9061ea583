"""Problems found in recordings, as values: collected, counted and summarised."""
from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, Sequence

logger = logging.getLogger(__name__)

_MAX_LISTED = 10  # errors that a message lists
_MAX_EXAMPLES = 3  # paths that a warning names


@dataclass(frozen=True)
class Problem:
    """One finding.

    Args:
        severity: "error": the data cannot be used; "warning": it can.
        code: a stable slug for programs.
        path: the clip it is about, relative to the data folder; "" if it is about all of them.
        message: one line: where, what was found, what was expected or done.
    """

    severity: Literal["error", "warning"]
    code: str
    path: str
    message: str


def describe_errors(problems: Sequence[Problem], root: str, listing: str) -> str:
    """Count the errors in one line and list the first of them.

    Args:
        problems: errors and warnings.
        root: the data folder.
        listing: the file that lists all of them.
    """
    errors = [problem for problem in problems if problem.severity == "error"]
    lines = [f"{root}: {len(errors):,} error(s) in the recordings; nothing was prepared"]
    lines += [f"  {problem.message}" for problem in errors[:_MAX_LISTED]]
    if len(errors) > _MAX_LISTED:
        lines.append(f"  ... and {len(errors) - _MAX_LISTED:,} more, all of them in {listing}")
    return "\n".join(lines)


def log_warnings(problems: Sequence[Problem]) -> None:
    """Log one line per kind of warning: how many, and the first of them."""
    for code, group in group_by_code(problems, "warning").items():
        if len(group) == 1:
            logger.warning("warning: %s: %s", code, group[0].message)
            continue
        others = [problem.path for problem in group[1:_MAX_EXAMPLES]]
        logger.warning("warning: %s, %d times: %s; also %s%s", code, len(group), group[0].message, ", ".join(others),
                       " ..." if len(group) > _MAX_EXAMPLES else "")


def group_by_code(problems: Sequence[Problem], severity: str) -> dict[str, list[Problem]]:
    """Gather the problems of one severity by their code, in the order they were found."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.severity == severity:
            groups.setdefault(problem.code, []).append(problem)
    return groups
