"""The house rules of the code: who may import whom, and what stays light.

Each rule is a function that finds what breaks it; it is tried on the tree, and on a planted fault that it must find.
"""
import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import kws

# From the ground up: a module imports from lower packages and from its own.
FLOORS = ("errors", "files", "model", "audio", "inference", "web", "config", "corpus", "data", "evaluation",
          "export", "tracking", "training", "commands", "__main__", "predict")
LIGHT = ("errors", "files", "audio", "inference", "web", "commands", "__main__", "predict")
HEAVY = ("torch", "transformers", "pandas", "sklearn", "scipy", "matplotlib", "datasets", "pydantic", "yaml",
         "requests")

SOURCES = {str(path): path.read_text() for folder in ("kws", "scripts", "torchserve")
           for path in sorted(Path(folder).rglob("*.py")) if "pretrained" not in path.parts}
# Who may use the one implementation of a step of the road.
ONE_WAY = {
    "kws.audio.decode.decode": {"kws/inference/spotter.py", "kws/audio/blocks.py"},
    "kws.audio.decode.decode_recording": {"kws/data/inspection.py"},
    "kws.model.window.pad_or_crop": {"kws/inference/spotter.py", "kws/model/modeling.py", "kws/data/inspection.py"},
    "kws.inference.decision.decide": {"kws/inference/spotter.py"},
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


def package_of(path):
    return path.removesuffix(".py").split("/")[1]


def wrong_imports(path, source):
    """Yield what a module of the package imports from a higher package than its own."""
    below = FLOORS[:FLOORS.index(package_of(path)) + 1]
    for _, full in imports(path, source):
        if full.startswith("kws.") and full.split(".")[1] in FLOORS and full.split(".")[1] not in below:
            yield full


def circle(sources):
    """Return modules that import each other in a circle; [] where none do."""
    modules = {path.removesuffix(".py").replace("/", "."): path for path in sources if path.startswith("kws/")}
    graph = {name: {module for _, full in imports(path, sources[path])
                    for module in (full, full.rpartition(".")[0]) if module in modules and module != name}
             for name, path in modules.items()}
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        return error.args[1]
    return []


PACKAGE = [path for path in SOURCES if path.startswith("kws/") and Path(path).name not in ("__init__.py", "modeling.py")
           or path == "kws/model/modeling.py"]


@pytest.mark.parametrize("path", PACKAGE)
def test_modules_import_only_from_their_own_package_and_from_lower_ones(path):
    assert list(wrong_imports(path, SOURCES[path])) == []


def test_every_package_has_a_floor():
    assert {package_of(path) for path in PACKAGE} == set(FLOORS)


def test_no_modules_import_each_other():
    assert circle(SOURCES) == []
    planted = SOURCES["kws/inference/decision.py"] + "\nfrom kws.inference.spotter import KeywordSpotter\n"
    assert "kws.inference.decision" in circle({**SOURCES, "kws/inference/decision.py": planted})


@pytest.mark.parametrize("path, line", [
    ("kws/audio/decode.py", "from kws.inference.spotter import KeywordSpotter"),
    ("kws/audio/decode.py", "from kws import inference"), ("kws/audio/decode.py", "import kws.inference.spotter"),
    ("kws/audio/decode.py", "def f():\n    from ..inference import x"),
    ("kws/audio/decode.py", "from .. import inference"), ("kws/data/split.py", "from ..training import train"),
    ("kws/data/split.py", "import kws.training.trainer as t"), ("kws/errors.py", "from .model.labels import LabelSet"),
])
def test_an_import_from_above_is_seen(path, line):
    assert list(wrong_imports(path, f"{SOURCES[path]}\n{line}\n")) != []


def test_a_newcomer_sees_few_rooms():
    for folder in (Path("kws"), *(path for path in Path("kws").iterdir() if path.is_dir())):
        assert len([path for path in folder.iterdir() if not path.name.startswith(("_", "."))]) <= 18, folder


def test_no_two_modules_of_tests_have_one_name():
    names = [path.name for path in Path("tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))  # pytest would collect only one of them


def heavy_after(code):
    code += f"; import sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


WING = [path for path in SOURCES if path.startswith("kws/") and (package_of(path) in LIGHT or path in (
    "kws/__init__.py", "kws/model/folder.py", "kws/model/labels.py", "kws/model/loading.py", "kws/model/window.py"))]


def test_the_light_wing_stays_light():
    names = (path.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for path in WING)
    assert heavy_after("import " + ", ".join(names)) == "[]"
    assert heavy_after("import kws.model.labels, yaml") == "['yaml']"


def reasons_against_3_9(source):
    try:
        ast.parse(source, feature_version=(3, 9))
    except SyntaxError as error:
        return [str(error)]
    return [] if "from __future__ import annotations" in source else ["annotations are evaluated"]


@pytest.mark.parametrize("path", [*(path for path in WING if not path.endswith("__init__.py")),
                                  "torchserve/handler.py", "torchserve/healthcheck.py"])
def test_the_light_wing_is_valid_on_python_3_9(path):
    """That it runs there, tests/integration/test_pythons.py shows."""
    assert reasons_against_3_9(SOURCES[path]) == []
    assert reasons_against_3_9(SOURCES[path] + "\nmatch 1:\n    case 1:\n        pass\n") != []
    assert reasons_against_3_9(SOURCES[path].replace("from __future__ import annotations", "")) != []


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
    wing = [SOURCES[path] for path in WING]
    assert names == imported_packages(wing) | {"onnxruntime"}  # which is imported when a model is loaded
    assert "yaml" in imported_packages([*wing, "try:\n    import yaml\nexcept ImportError:\n    pass"])


def test_the_image_carries_the_version_of_the_package():
    assert f"ARG VERSION={kws.__version__}\n" in Path("docker/Dockerfile").read_text()


@pytest.mark.parametrize("name", ONE_WAY)
def test_there_is_one_way_to_do_it(name):
    assert users(SOURCES, name) == ONE_WAY[name]


@pytest.mark.parametrize("path", ["kws/evaluation/metrics.py", "kws/data/split.py", "scripts/archive.py",
                                  "torchserve/handler.py"])
@pytest.mark.parametrize("name", ONE_WAY)
def test_a_second_way_is_seen(path, name):
    _, package, module, function = name.split(".")
    dots = "." * (len(Path(path).parts) - 1)
    ways = [f"from kws.{package}.{module} import {function}\n{function}(x)",
            f"from kws.{package}.{module} import {function} as f\nf(x)",
            f"from kws.{package} import {module}\n{module}.{function}(x)",
            f"import kws.{package}.{module}\nkws.{package}.{module}.{function}(x)",
            f"import kws.{package}.{module} as m\nm.{function}(x)",
            f"import kws\nmap(kws.{package}.{module}.{function}, xs)",
            f"def f():\n    from kws.{package}.{module} import {function}\n    return list(map({function}, xs))"]
    if path.startswith("kws/"):
        ways += [f"from {dots}{package}.{module} import {function}\n{function}(x)",
                 f"from {dots}{package} import {module}\n{module}.{function}(x)"]
    for way in ways:
        assert users({**SOURCES, path: f"{SOURCES[path]}\n{way}\n"}, name) == {*ONE_WAY[name], path}, way
    other = f"{SOURCES[path]}\nb''.decode()\nencoder.fit(x)\n"
    assert users({**SOURCES, path: other}, name) == ONE_WAY[name], "methods of others are others"


def users_of_mlflow(sources):
    return {path for path, source in sources.items() if path.startswith("kws/")
            for _, full in imports(path, source) if full.split(".")[0] == "mlflow"}


def test_mlflow_is_left_to_the_modules_that_are_for_it():
    expected = {f"kws/tracking/{name}.py" for name in ("connection", "tracker", "registry", "pyfunc")}
    assert users_of_mlflow(SOURCES) == expected
    for line in ("import mlflow.pyfunc as p", "from mlflow import log_metric", "def f():\n    import mlflow"):
        assert users_of_mlflow({**SOURCES, "kws/training/trainer.py": line}) == {*expected, "kws/training/trainer.py"}


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
