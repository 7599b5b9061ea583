"""Base of the configuration sections: strict types, and all problems of a file in one message."""
from __future__ import annotations

import difflib
from typing import Annotated, Any, Optional, Sequence, TypeVar

from pydantic import (AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr,
                      ValidationError)

from kws.errors import ConfigError

_YAML_BOOLEAN = "YAML reads an unquoted true/false as a boolean: quote it"


def _refuse_even(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("expected an odd number, so that there is a middle")
    return value


def _refuse_boolean(value: Any) -> Any:
    """Floats stay lax, so that `1e-3` (a string to YAML) works; but `true` is not 1.0."""
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


Float = Annotated[float, BeforeValidator(_refuse_boolean), Field(allow_inf_nan=False)]
Probability = Annotated[Float, Field(ge=0.0, le=1.0)]
Positive = Annotated[Float, Field(gt=0.0)]
NotNegative = Annotated[Float, Field(ge=0.0)]
Count = Annotated[StrictInt, Field(ge=1)]
CountOrZero = Annotated[StrictInt, Field(ge=0)]
Odd = Annotated[Count, AfterValidator(_refuse_even)]
Dropout = Annotated[Float, Field(ge=0.0, le=0.9)]
Text = Annotated[StrictStr, Field(min_length=1)]
Range = tuple[Float, Float]
Pair = tuple[Count, Count]


class Section(BaseModel):
    """A frozen section that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


SectionType = TypeVar("SectionType", bound=Section)


def validate(section: type[SectionType], document: dict[str, Any], source: str) -> SectionType:
    """Check a document against a section; raises ConfigError with all problems, each naming its key."""
    try:
        return section.model_validate(document)
    except ValidationError as error:
        problems = [_problem(section, dict(item)) for item in error.errors()]
        raise ConfigError(source, [problem for problem in problems if problem]) from None


def _problem(section: type[Section], item: dict[str, Any]) -> str:
    """One line of a ConfigError: key, what was found, what was expected."""
    names = [str(part) for part in item["loc"]]
    key = "".join(f"[{name}]" if name.isdigit() else f".{name}" for name in names).lstrip(".")
    if item["type"] == "extra_forbidden":
        known = _keys_at(section, names[:-1])
        near: Optional[str] = next(iter(difflib.get_close_matches(names[-1], known, n=1)), None)
        return f"{key}: unknown key; " + (f"did you mean {near!r}?" if near else f"expected one of {', '.join(known)}")
    if item["type"] == "missing":
        return f"{key}: missing"
    if item["type"] == "too_short" and item["input"]:
        return ""  # its items are refused one by one already
    message = item["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if item["type"] != "value_error":  # pydantic's own words, not ours with a user's in them
        message = message.replace("tuple", "list").replace(" after validation", "")
    if item["type"] == "value_error" and not isinstance(item["input"], (str, int, float)):
        return f"{key}.{message}" if key else message
    hint = f" ({_YAML_BOOLEAN})" if isinstance(item["input"], bool) else ""
    return f"{key}: found {item['input']!r}; {message}{hint}"


def _keys_at(section: type[Section], names: Sequence[str]) -> list[str]:
    """Keys of the nested section that `names` leads to."""
    for name in names:
        if name.isdigit():
            continue
        annotation = section.model_fields[name].annotation
        inner = getattr(annotation, "__args__", (annotation,))[0]
        section = inner if isinstance(inner, type) and issubclass(inner, Section) else section
    return list(section.model_fields)
