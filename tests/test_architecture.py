"""The house rules of the code: who may import whom, and what stays light."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kws

FLOORS = {
    "errors": 0, "labels": 0, "window": 0, "atomic": 0,
    "audio": 1, "postprocess": 1, "metrics": 1, "documents": 1, "cli": 1, "report": 1, "model_card": 1, "load": 1,
    "schema": 1, "distributed": 1, "locks": 1, "architecture": 2, "config": 2, "plots": 2, "features": 2, "augment": 2, "data": 2, "provenance": 2,
    "broadcast_residual": 2, "progress": 2,
    "network": 3, "modeling": 4, "runtime": 5, "registry": 5, "rarity": 6, "inference": 6, "listing": 6,
    "tracking": 6, "journal": 7, "tally": 7, "pyfunc": 7, "distillation": 7, "evaluation": 7, "export": 7,
    "checkpoints": 7,    "quantize": 7, "training": 8, "predict": 8,
}
SERVING = ("errors", "labels", "window", "audio", "postprocess", "cli", "runtime", "inference", "listing", "journal",
           "tally", "predict")
HEAVY = ("torch", "transformers", "pandas", "sklearn", "matplotlib", "datasets", "pydantic", "yaml")


def modules():
    return [path for path in sorted(Path("kws").rglob("*.py")) if path.name != "__init__.py"]


def floor_name(path):
    return path.relative_to("kws").parts[0].removesuffix(".py")


def imported(path):
    """Names of the kws modules that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield node.module
        elif isinstance(node, ast.ImportFrom) and node.module == "kws":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kws."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("kws."))


@pytest.mark.parametrize("path", modules(), ids=str)
def test_modules_import_only_from_lower_floors(path):
    own = floor_name(path)
    for name in imported(path):
        assert (own == name == "data") or FLOORS[name] < FLOORS[own], f"{path} imports {name}"


@pytest.mark.parametrize("module", SERVING)
def test_the_serving_wing_stays_light(module):
    code = f"import sys, kws.{module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [*(f"kws/{module}.py" for module in SERVING), "torchserve/handler.py",
                                  "torchserve/healthcheck.py"])
def test_the_serving_wing_is_valid_on_python_3_9(path):
    source = Path(path).read_text()
    ast.parse(source, feature_version=(3, 9))
    assert "from __future__ import annotations" in source


def test_the_image_takes_the_serving_wing_and_nothing_else_of_the_package():
    allowed = {line for line in Path(".dockerignore").read_text().splitlines() if line.startswith("!kws/")}
    assert allowed == {f"!kws/{module}.py" for module in ("__init__", *SERVING)}


def test_the_image_installs_what_is_tested():
    tested, installed = ({line for line in Path(path).read_text().splitlines() if "==" in line}
                         for path in ("requirements.txt", "docker/requirements.txt"))
    assert installed <= tested
    assert {line.partition("==")[0] for line in installed} == {"numpy", "soundfile", "soxr", "onnxruntime", "tqdm"}


def test_the_image_carries_the_version_of_the_package():
    assert f"ARG VERSION={kws.__version__}\n" in Path("docker/Dockerfile").read_text()


@pytest.mark.parametrize("function, homes", [
    ("decode", {"kws/inference.py"}), ("decide", {"kws/inference.py"}),
])
def test_there_is_one_way_to_do_it(function, homes):
    callers = {str(path) for path in modules() for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function}
    assert callers <= homes


def test_mlflow_is_left_to_the_modules_that_are_for_it():
    users = {str(path) for path in modules() for node in ast.walk(ast.parse(path.read_text()))
             for name in ([node.module] if isinstance(node, ast.ImportFrom) else
                          [alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
             if (name or "").split(".")[0] == "mlflow"}
    assert users == {"kws/tracking.py", "kws/registry.py", "kws/pyfunc.py"}


def test_nothing_large_is_in_git():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a Git checkout")
    files = [Path(name) for name in listed.stdout.splitlines() if Path(name).is_file()]
    assert [file for file in files if file.stat().st_size > 2**20] == []
