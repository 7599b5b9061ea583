"""YAML files of sections, keys and values, and `section.key=value` on top of them."""
from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Mapping

import yaml

from kws.errors import ConfigError

_BOOLEAN_TAG = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans, true and false, and no others: an unquoted yes, no, on or off is a word.

    DVC reads and rewrites these files by YAML 1.2 (`dvc exp run -S`), and leaves such words unquoted.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN_TAG]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a key that is there twice: the last one would count in silence."""
        node = super().compose_mapping_node(anchor)
        names: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in names:
                raise yaml.YAMLError(f"{key.value} is there twice, the second time in line {key.start_mark.line + 1}")
            names.add(key.value)
        return node


_Loader.add_implicit_resolver(_BOOLEAN_TAG, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a file that holds sections of keys and values; raises ConfigError."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(str(path), ["no such file; expected a YAML file, for example configs/kws.yaml"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read: {error}"]) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: what looks like a date and is none
        raise ConfigError(str(path), [" ".join(str(error).split())]) from None
    if not isinstance(document, dict):
        raise ConfigError(str(path), [f"found {type(document).__name__}; expected sections of keys and values"])
    return document


def override_key(document: dict[str, Any], override: str) -> None:
    """Set one `section.key=value` (the value is YAML) in a document; raises ConfigError."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError("--set", [f"{override!r}: expected section.key=value"])
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError):
        raise ConfigError("--set", [f"{override!r}: the value is not YAML"]) from None
    *parents, leaf = key.split(".")
    section = document
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise ConfigError("--set", [f"{override!r}: {parent} is a value, not a section"])
    section[leaf] = value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name every value of nested sections by its dotted key."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat.update(flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return flat
