#!/usr/bin/env python
"""Measure Python code: files, functions, annotations, docstrings, tests, and import cycles.

usage: python scripts/measure_house.py [kws] [--tests tests]

Works on any folder of packages; nothing is imported. A part is a folder or a module directly below it.
Imports inside functions count as any others.
"""
from __future__ import annotations

import argparse
import ast
from pathlib import Path
from statistics import median
from typing import Iterator, Mapping, NamedTuple, Optional, Sequence, Union

from kws.commands.cli import EXIT_OK, guard
from kws.errors import DataError

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Module(NamedTuple):
    """A module: its dotted name, the package that it is in (itself, for an `__init__`), lines, and syntax tree."""

    name: str
    package: str
    lines: int
    tree: ast.Module

    def functions(self) -> list[Function]:
        """All functions and methods."""
        return [node for node in ast.walk(self.tree) if isinstance(node, _FUNCTIONS)]

    def public(self) -> list[ast.AST]:
        """What ought to have a docstring: the module, its public classes and functions, and their public methods."""
        found: list[ast.AST] = [self.tree]
        for parent in found:  # which grows
            found += [node for node in getattr(parent, "body", ()) if isinstance(node, (ast.ClassDef, *_FUNCTIONS))
                      and not isinstance(parent, _FUNCTIONS) and not node.name.startswith("_")]
        return found

    def imported(self) -> Iterator[str]:
        """Names that it imports: each may be a module, or what a module holds."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self.package.split(".")[:len(self.package.split(".")) + 1 - node.level] if node.level else []
                source = ".".join([*base, *filter(None, [node.module])])
                yield from (f"{source}.{alias.name}" for alias in node.names)


def read(folder: Path) -> dict[str, Module]:
    """Parse all modules below a folder; an `__init__` goes by the name of its package.

    Raises:
        DataError: "no_code" if there are none.
    """
    modules = {}
    for path in sorted(folder.rglob("*.py")):
        text, parts = path.read_text(encoding="utf-8"), path.relative_to(folder.parent).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name, package = ".".join(parts[:-1] if is_package else parts), ".".join(parts[:-1])
        modules[name] = Module(name, package, len(text.splitlines()), ast.parse(text))
    if not modules:
        raise DataError(f"{folder}: no Python files; expected a folder of packages", "no_code")
    return modules


def is_annotated(function: Function) -> bool:
    """Whether the result and all arguments have types; `self` and `cls` need none."""
    given = function.args
    names = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, [given.vararg, given.kwarg])]
    return bool(function.returns) and all(name.annotation or name.arg in ("self", "cls") for name in names)


def imports(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Which of the modules import which."""
    def target(name: str) -> str:
        return name if name in modules else name.rpartition(".")[0]

    return {name: {target(other) for other in module.imported()} & modules.keys() - {name}
            for name, module in modules.items()}


def by_part(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The same between parts: `kws.data.store` is in the part `kws.data`."""
    def part(name: str) -> str:
        return ".".join(name.split(".")[:2])

    found: dict[str, set[str]] = {part(name): set() for name in graph}
    for name, others in graph.items():
        found[part(name)] |= {part(other) for other in others} - {part(name)}
    return found


def cycles(graph: Mapping[str, set[str]]) -> list[str]:
    """Groups of names that reach one another, as text."""
    reach = {name: set(others) for name, others in graph.items()}
    for middle in reach:  # Warshall's algorithm
        for others in reach.values():
            if middle in others:
                others |= reach[middle]
    groups = {frozenset(other for other in others if name in reach[other])
              for name, others in reach.items() if name in others}
    return sorted(" <> ".join(sorted(group)) for group in groups)


def figures(modules: Mapping[str, Module], tests: Mapping[str, Module]) -> dict[str, str]:
    """Everything that is measured, by name."""
    files = sorted((module.lines, name) for name, module in modules.items())
    found = [(function, name) for name, module in modules.items() for function in module.functions()]
    bodies = sorted(((function.end_lineno or 0) - function.lineno + 1, f"{name}.{function.name}")
                    for function, name in found)
    public = [node for module in modules.values() for node in module.public()]
    documented = sum(bool(ast.get_docstring(node)) for node in public)  # type: ignore[arg-type]
    annotated = sum(is_annotated(function) for function, _ in found)
    total, graph = sum(lines for lines, _ in files), imports(modules)
    parts = by_part(graph)
    result = {"code": f"{len(files):,} files, {total:,} lines; {len(parts):,} parts",
              "annotated": f"{annotated / max(len(found), 1):.0%} of functions",
              "documented": f"{documented / len(public):.0%} of public names",
              "tests / code": f"{sum(module.lines for module in tests.values()) / max(total, 1):.2f} lines",
              "imports": f"{sum(map(len, graph.values())):,} between modules, "
                         f"{sum(map(len, parts.values())):,} between parts"}
    for kind, lengths in (("files", files), ("functions", bodies)):
        if lengths:
            result[kind] = (f"median {median(lines for lines, _ in lengths):g} lines, longest {lengths[-1][0]} "
                            f"({lengths[-1][1]})")
    for kind, edges in (("modules", graph), ("parts", parts)):
        result[f"cycles of {kind}"] = "; ".join(cycles(edges)) or "none"
    return result


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure, and print one line a figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("package", type=Path, nargs="?", default=Path("kws"), help="default: %(default)s")
    parser.add_argument("--tests", type=Path, default=Path("tests"), help="default: %(default)s")
    args = parser.parse_args(argv)
    for name, value in figures(read(args.package.resolve()), read(args.tests.resolve())).items():
        print(f"{name:<20}{value}")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
