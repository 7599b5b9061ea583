"""The house rules of the code: who may import whom, and what stays light.

Each rule is a function that finds what breaks it; it is tried on the tree, and on a planted fault that it must find.
"""
import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import kws

FLOORS = {
    "errors": -1, "labels": 0, "window": 0, "atomic": 0, "formats": 0,
    "audio": 1, "postprocess": 1, "metrics": 1, "documents": 1, "cli": 1, "report": 1, "model_card": 1, "load": 1,
    "schema": 1, "distributed": 1, "locks": 1, "folder": 2, "architecture": 2, "config": 2, "plots": 2, "features": 2,
    "augment": 2, "provenance": 2,
    "broadcast_residual": 2, "progress": 2,
    "data": 3, "network": 3, "modeling": 4, "runtime": 5, "registry": 5, "rarity": 6, "inference": 6, "listing": 6,
    "tracking": 6, "journal": 7, "tally": 7, "pyfunc": 7, "distillation": 7, "evaluation": 7, "export": 7,
    "checkpoints": 7, "quantize": 7, "training": 8, "predict": 8,
}
SERVING = ("errors", "labels", "window", "atomic", "formats", "audio", "postprocess", "cli", "runtime", "inference",
           "folder", "listing", "journal", "tally", "predict")
HEAVY = ("torch", "transformers", "pandas", "sklearn", "matplotlib", "datasets", "pydantic", "yaml")


SOURCES = {str(path): path.read_text() for folder in ("kws", "scripts", "torchserve")
           for path in sorted(Path(folder).rglob("*.py"))}
# Who may use the one implementation of a step of the road.
ONE_WAY = {
    "kws.audio.decode": {"kws/inference.py"},
    "kws.audio.decode_recording": {"kws/data/inspection.py"},
    "kws.window.fit": {"kws/inference.py", "kws/modeling.py", "kws/data/inspection.py"},
    "kws.postprocess.decide": {"kws/inference.py"},
}


def imports(path, source):
    """Yield (name in the file, what it is, in full) of everything that a file imports anywhere."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            package = Path(path).with_suffix("").parts[:-node.level] if node.level else ()
            module = ".".join([*package, *([node.module] if node.module else [])])
            yield from ((alias.asname or alias.name, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0], alias.name)


@functools.lru_cache(maxsize=None)
def uses(path, source):
    """Return the full names of what a file refers to, called or not, through whatever name it has been imported."""
    known = {name: name if full.startswith(f"{name}.") else full for name, full in imports(path, source)}
    found = set()
    for node in ast.walk(ast.parse(source)):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name) and node.id in known:
            found.add(".".join([known[node.id], *reversed(parts)]))
    return found


def users(sources, name):
    return {path for path, source in sources.items() if name in uses(path, source)}


def floor_name(name):
    return name.split(".")[1]


def wrong_floors(path, source):
    """Yield the modules that a module of the package imports from its own floor or a higher one."""
    own = floor_name(path.removesuffix(".py").replace("/", "."))
    for _, full in imports(path, source):
        if full.startswith("kws.") and floor_name(full) in FLOORS:
            name = floor_name(full)
            if not (own == name == "data") and FLOORS[name] >= FLOORS[own]:
                yield name


PACKAGE = [path for path in SOURCES if path.startswith("kws/") and not path.endswith("__init__.py")]


@pytest.mark.parametrize("path", PACKAGE)
def test_modules_import_only_from_lower_floors(path):
    assert list(wrong_floors(path, SOURCES[path])) == []


def test_every_module_has_a_floor():
    assert {floor_name(path.removesuffix(".py").replace("/", ".")) for path in PACKAGE} == set(FLOORS)


@pytest.mark.parametrize("path, line", [
    ("kws/audio.py", "from kws.inference import KeywordSpotter"), ("kws/audio.py", "from kws import inference"),
    ("kws/audio.py", "import kws.inference"), ("kws/audio.py", "def f():\n    from .inference import x"),
    ("kws/audio.py", "from . import inference"), ("kws/audio.py", "from kws.postprocess import decide"),
    ("kws/data/split.py", "from ..training import train"), ("kws/data/split.py", "import kws.training as t"),
])
def test_an_import_from_above_is_seen(path, line):
    assert list(wrong_floors(path, f"{SOURCES[path]}\n{line}\n")) != []


def heavy_after(code):
    code += f"; import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_serving_wing_stays_light():
    assert heavy_after("import " + ", ".join(f"kws.{module}" for module in SERVING)) == "[]"
    assert heavy_after("import kws.labels, yaml") == "['yaml']"


def reasons_against_3_9(source):
    try:
        ast.parse(source, feature_version=(3, 9))
    except SyntaxError as error:
        return [str(error)]
    return [] if "from __future__ import annotations" in source else ["annotations are evaluated"]


@pytest.mark.parametrize("path", [*(f"kws/{module}.py" for module in SERVING), "torchserve/handler.py",
                                  "torchserve/healthcheck.py"])
def test_the_serving_wing_is_valid_on_python_3_9(path):
    """That it runs there, tests/integration/test_pythons.py shows."""
    assert reasons_against_3_9(SOURCES[path]) == []
    assert reasons_against_3_9(SOURCES[path] + "\nmatch 1:\n    case 1:\n        pass\n") != []
    assert reasons_against_3_9(SOURCES[path].replace("from __future__ import annotations", "")) != []


def taken_by_the_image(ignore):
    return {line for line in ignore.splitlines() if line.startswith("!kws/")}


def test_the_image_takes_the_serving_wing_and_nothing_else_of_the_package():
    allowed, ignore = {f"!kws/{module}.py" for module in ("__init__", *SERVING)}, Path(".dockerignore").read_text()
    assert taken_by_the_image(ignore) == allowed
    assert taken_by_the_image(ignore + "!kws/training.py\n") != allowed
    assert taken_by_the_image(ignore.replace("!kws/tally.py\n", "")) != allowed


def imported_packages(sources):
    """Everything that is imported when these modules are, and is neither Python's nor ours."""
    def at_import(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                yield child
            elif not isinstance(child, (ast.FunctionDef, ast.If)):
                yield from at_import(child)
    names = {(node.module if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
             for source in sources for node in at_import(ast.parse(source)) for alias in node.names}
    return names - set(sys.stdlib_module_names) - {"kws"}


def pins(path):
    return {line for line in Path(path).read_text().splitlines() if "==" in line}


def test_the_image_installs_what_is_tested():
    installed = pins("docker/requirements.txt")
    assert installed and installed <= pins("requirements.txt")
    names = {line.partition("==")[0] for line in installed}
    wing = [SOURCES[f"kws/{module}.py"] for module in SERVING]
    assert names == imported_packages(wing) | {"onnxruntime"}  # which is imported when a model is loaded
    assert "yaml" in imported_packages([*wing, "try:\n    import yaml\nexcept ImportError:\n    pass"])


def test_the_image_carries_the_version_of_the_package():
    assert f"ARG VERSION={kws.__version__}\n" in Path("docker/Dockerfile").read_text()


@pytest.mark.parametrize("name", ONE_WAY)
def test_there_is_one_way_to_do_it(name):
    assert users(SOURCES, name) == ONE_WAY[name]


@pytest.mark.parametrize("path", ["kws/metrics.py", "kws/data/split.py", "scripts/evaluate.py",
                                  "torchserve/handler.py"])
@pytest.mark.parametrize("name", ONE_WAY)
def test_a_second_way_is_seen(path, name):
    _, module, function = name.split(".")
    dots = "." * (len(Path(path).parts) - 1)
    ways = [f"from kws.{module} import {function}\n{function}(x)", f"from kws.{module} import {function} as f\nf(x)",
            f"from kws import {module}\n{module}.{function}(x)", f"import kws.{module}\nkws.{module}.{function}(x)",
            f"import kws.{module} as m\nm.{function}(x)", f"import kws\nmap(kws.{module}.{function}, xs)",
            f"def f():\n    from kws.{module} import {function}\n    return list(map({function}, xs))"]
    if path.startswith("kws/"):
        ways += [f"from {dots}{module} import {function}\n{function}(x)", f"from {dots} import {module}\n"
                 f"{module}.{function}(x)"]
    for way in ways:
        assert users({**SOURCES, path: f"{SOURCES[path]}\n{way}\n"}, name) == {*ONE_WAY[name], path}, way
    other = f"{SOURCES[path]}\nb''.decode()\nencoder.fit(x)\n"
    assert users({**SOURCES, path: other}, name) == ONE_WAY[name], "methods of others are others"


def users_of_mlflow(sources):
    return {path for path, source in sources.items() if path.startswith("kws/")
            for _, full in imports(path, source) if full.split(".")[0] == "mlflow"}


def test_mlflow_is_left_to_the_modules_that_are_for_it():
    expected = {"kws/tracking.py", "kws/registry.py", "kws/pyfunc.py"}
    assert users_of_mlflow(SOURCES) == expected
    for line in ("import mlflow.pyfunc as p", "from mlflow import log_metric", "def f():\n    import mlflow"):
        assert users_of_mlflow({**SOURCES, "kws/training.py": line}) == {*expected, "kws/training.py"}


def large(files):
    return [file for file in files if file.is_file() and file.stat().st_size > 2**20]


def test_nothing_large_is_in_git(tmp_path):
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a Git checkout")
    files = [Path(name) for name in listed.stdout.splitlines()]
    assert len(files) > 100 and large(files) == []
    (tmp_path / "large").write_bytes(bytes(2**20 + 1))
    assert large([*files, tmp_path / "large"]) == [tmp_path / "large"]
