"""Keep passwords and tokens out of what is shown and recorded."""
from __future__ import annotations

import re
from urllib.parse import unquote

from kws.errors import first_line


def without_password(text: str) -> str:
    """Remove credentials from a URI, or from a text that quotes some: user and password, tokens in a query.

    A password with an unescaped @, / or : is not told from the host by its place, so all before the last @ goes.
    """
    text = re.sub(r"^(\w[\w+.-]*://)(?!/).*@", r"\1", text, flags=re.DOTALL)
    text = re.sub(r"((?:\w[\w+.-]*:)?(?<!/)//(?!/))[^\s\"'<>]*@", r"\1", text)
    return re.sub(r"([?&;][^=\s&;]*(?:pass|pwd|token|secret|key|auth|sig)[^=\s&;]*=)[^\s&;\"'<>)]*", r"\1...", text,
                  flags=re.IGNORECASE)


def reason(error: BaseException, uri: str = "") -> str:
    """The first line of what went wrong, without a password of the URI that it may quote, whole or in parts."""
    text = first_line(error).replace(uri, without_password(uri))
    _, _, behind = uri.partition("//")
    user, _, secret = behind.rpartition("@")[0].partition(":")
    parts = {part for text in (secret or user, unquote(secret or user)) for part in (text, *re.split("[@:/]", text))}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, "...") if len(part) > 2 else text
    return without_password(text)[:200]
