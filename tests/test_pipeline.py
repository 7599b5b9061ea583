"""dvc.yaml says what the code does: dependencies, settings and outputs of every stage."""
import ast
import re
from pathlib import Path

import pytest
import yaml

from kws.config.sections import load_config
from kws.model.folder import STREAM_WEIGHTS_FILE

PIPELINE = yaml.safe_load(Path("dvc.yaml").read_text())
STAGES = PIPELINE["stages"]
CONFIG = Path("configs/kws.yaml")
WITHOUT_INFLUENCE = ("kws/commands/cli.py", "kws/errors.py", "kws/tracking/")  # on what a stage writes


def imported(path):
    package = path.parent.as_posix().replace("/", ".")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module}" if node.level else node.module
            yield from (module, *(f"{module}.{name.name}" for name in node.names))
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def modules_of(command):
    """The module of a command, and all modules of the package behind it."""
    found, waiting = {command}, [Path(command)]
    while waiting:
        for name in imported(waiting.pop()):
            path = Path(name.replace(".", "/") + ".py")
            if name.startswith("kws.") and path.is_file() and str(path) not in found \
                    and not str(path).startswith(WITHOUT_INFLUENCE):
                found.add(str(path))
                waiting.append(path)
    return found


def needed(stage):
    """All modules that can change the results of a stage."""
    lines = STAGES[stage]["cmd"]
    scripts = [Path(line.split()[1]) for line in ([lines] if isinstance(lines, str) else lines)]
    return set().union(*(modules_of(f"kws/commands/{script.name}") for script in scripts))


def holds(listed, module):
    return module == listed or module.startswith(f"{listed}/")


def uncovered(listed, modules):
    return sorted(module for module in modules if not any(holds(name, module) for name in listed))


def idle(listed, modules):
    """What is listed of the package's code without need."""
    return sorted(name for name in listed if name.startswith("kws") and not name.endswith(".safetensors")
                  and not any(holds(name, each) for each in modules))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_behind_it_and_on_no_package_besides(stage):
    listed, modules = STAGES[stage]["deps"], needed(stage)
    assert len(modules) > 10 and uncovered(listed, modules) == idle(listed, modules) == []
    assert uncovered([name for name in listed if name != "kws/model"], modules) != []
    assert idle([*listed, "kws/tracking"], modules) == ["kws/tracking"]


def test_editing_a_report_does_not_train_again():
    assert not any(holds(name, "kws/evaluation/reports/page.py") for name in STAGES["train"]["deps"])


def test_packages_hold_no_code_that_a_stage_could_depend_on():
    for path in Path("kws").rglob("__init__.py"):
        kinds = {type(node) for node in ast.parse(path.read_text()).body}
        assert kinds <= {ast.Expr, ast.Assign, ast.ImportFrom}, path


def settings_of(stage):
    """The keys of the configuration that a stage depends on; a stage whose command reads none has no `params`."""
    return [key for params in STAGES[stage].get("params", []) for key in params[str(CONFIG)]]


@pytest.mark.parametrize("stage", STAGES)
def test_settings_of_a_stage_exist(stage):
    config = load_config(CONFIG).model_dump()
    for key in settings_of(stage):
        value = config
        for name in key.split("."):
            value = value[name]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_settings_if_its_command_reads_the_configuration(stage):
    assert bool(settings_of(stage)) == (str(CONFIG) in str(STAGES[stage]["cmd"]) or stage.startswith("evaluate"))


@pytest.mark.parametrize("stage", ["prepare", "evaluate", "evaluate-streams"])
def test_a_stage_depends_on_the_settings_that_its_command_names(stage):
    command = Path(f"kws/commands/{stage.replace('-', '_')}.py").read_text()
    named = {".".join(key) for key in re.findall(r"config\.(data|training|streams)\.(\w+)", command)}
    assert named and named <= set(settings_of(stage))


def test_every_setting_but_those_of_tracking_belongs_to_a_stage():
    listed = {key for stage in STAGES for key in settings_of(stage)}
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
    assert f"{config.streams.start_from}/{STREAM_WEIGHTS_FILE}" in STAGES["train"]["deps"]
    assert PIPELINE["artifacts"]["kws"]["path"] == str(config.training.model)
    for stage in ("evaluate", "evaluate-streams"):
        assert str(config.training.model) in STAGES[stage]["cmd"]
    assert str(config.data.root) in STAGES["evaluate-streams"]["deps"]  # its running sound lies there
