"""What the package says that it needs, against what it imports and what developers pin."""
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from test_architecture import SOURCES, imports

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PACKAGES = {"sklearn": "scikit-learn", "yaml": "pyyaml", "dvc_data": "dvc", "dvc_objects": "dvc", "urllib3": "requests",
            "upath": "universal-pathlib"}
NEVER_NAMED = {"accelerate", "onnxscript", "s3fs"}  # transformers' Trainer, torch.onnx.export and fsspec import them
PINS = {name.partition("[")[0]: Version(version) for name, version in re.findall(
    r"^([\w.\[\]-]+)==(\S+)", Path("requirements.txt").read_text(), re.MULTILINE)}


def required(lines):
    return {requirement.name: requirement.specifier for requirement in map(Requirement, lines)}


def imported(sources):
    """Packages of all that these modules import anywhere."""
    names = {full.split(".")[0] for path, source in sources.items() if path.startswith("kws/")
             for _, full in imports(path, source)} - {*sys.stdlib_module_names, "kws"}
    return {PACKAGES.get(name, name.replace("_", "-")) for name in names}


def test_it_asks_for_what_it_imports():
    asked = {name for lines in (PROJECT["dependencies"], *EXTRAS.values()) for name in required(lines)}
    assert asked == imported(SOURCES) | NEVER_NAMED
    assert "flask" in imported({"kws/audio/decode.py": "def f():\n    import flask"})


@pytest.mark.parametrize("lines", [PROJECT["dependencies"], *EXTRAS.values()], ids=["serving", *EXTRAS])
def test_what_is_pinned_for_developers_is_allowed_to_users(lines):
    for name, specifier in required(lines).items():
        bound, = specifier
        assert bound.operator == ">=" and specifier.contains(PINS[name]), name
