"""dvc.yaml says what the code does: dependencies, settings and outputs of every stage."""
import ast
from pathlib import Path

import pytest
import yaml

from kws.config import load_config

PIPELINE = yaml.safe_load(Path("dvc.yaml").read_text())
STAGES = PIPELINE["stages"]
CONFIG = Path("configs/kws.yaml")
WITHOUT_INFLUENCE = {"kws/cli.py", "kws/errors.py", "kws/tracking.py", "kws/load.py"}  # on what a stage writes


def imported(path):
    package = path.parent.as_posix().replace("/", ".")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module}" if node.level else node.module
            yield from (module, *(f"{module}.{name.name}" for name in node.names))
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def modules_of(script):
    """All modules of the package that a script needs, by way of others too."""
    found, waiting = set(), [Path(script)]
    while waiting:
        for name in imported(waiting.pop()):
            path = Path(name.replace(".", "/") + ".py")
            if name.startswith("kws.") and path.is_file() and str(path) not in found | WITHOUT_INFLUENCE:
                found.add(str(path))
                waiting.append(path)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_script_and_on_all_modules_behind_it(stage):
    command, listed = STAGES[stage]["cmd"], STAGES[stage]["deps"]
    scripts = {line.split()[1] for line in ([command] if isinstance(command, str) else command)}
    expected = scripts.union(*map(modules_of, scripts))
    assert sorted(name for name in listed if name.endswith(".py")) == sorted(expected)
    assert len(set(listed)) == len(listed)


def test_packages_hold_no_code_that_a_stage_could_depend_on():
    for path in Path("kws").rglob("__init__.py"):
        kinds = {type(node) for node in ast.parse(path.read_text()).body}
        assert kinds <= {ast.Expr, ast.Assign, ast.ImportFrom}, path


@pytest.mark.parametrize("stage", STAGES)
def test_settings_of_a_stage_exist(stage):
    config = load_config(CONFIG).model_dump()
    (params,) = STAGES[stage]["params"]
    for key in params[str(CONFIG)]:
        value = config
        for name in key.split("."):
            value = value[name]


def test_every_setting_but_those_of_tracking_belongs_to_a_stage():
    listed = {key for stage in STAGES.values() for params in stage["params"] for key in params[str(CONFIG)]}
    config = load_config(CONFIG).model_dump()
    config.pop("tracking")
    for section, values in config.items():
        keys = {f"{section}.{name}" for name in values} if isinstance(values, dict) else {section}
        assert section in listed or keys <= listed, keys - listed


def test_paths_of_the_pipeline_are_those_of_the_configuration():
    config = load_config(CONFIG)
    outputs = {name for stage in STAGES.values() for item in stage["outs"] for name in item}
    assert {str(config.data.prepared), str(config.training.model)} <= outputs
    assert str(config.data.root) in STAGES["prepare"]["deps"]
    assert PIPELINE["artifacts"]["kws"]["path"] == str(config.training.model)
    assert str(config.training.model) in STAGES["evaluate"]["cmd"]
