"""The model that ships with the repository, and what puts it there."""
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pretrained
import pytest
from publish import main as publish_model, parse_args as parse_publish

from kws import KeywordSpotter
from kws.__main__ import build_parser, main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_OK, guard
from kws.config.architecture import load_architecture
from kws.config.sections import load_config
from kws.inference.detector import settings_from
from kws.inference.listening import StreamModel
from kws.model.folder import INT8_FILE, ONNX_FILE, SECOND_FILE, SHIPPED, STREAM_FILE, STREAM_WEIGHTS_FILE
from kws.model.labels import SILENCE

ROOT = Path(__file__).resolve().parents[1]
CONFIG = load_config(ROOT / "configs/real.yaml")
FILES = {"README.md", "config.json", "preprocessor_config.json", "metrics.json", "model.safetensors", ONNX_FILE,
         INT8_FILE, STREAM_WEIGHTS_FILE, SECOND_FILE, STREAM_FILE, "broadcast_residual.py", "features.py",
         "modeling.py", "network.py", "window.py"}
MAX_BYTES = 2_900_000
MIN_ACCURACY = 0.93


def publish(*arguments):
    return guard(publish_model, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def clips(tone, noise):
    """Silence of several kinds, and something else."""
    return [np.zeros(16000, np.float32), noise(1, amplitude=1e-4), noise(2, amplitude=1e-3), noise(3), tone(440.0)]


@pytest.fixture(scope="module")
def expected(clips):
    """[N, C] probabilities."""
    return np.array([list(answer.confidences.values()) for answer in KeywordSpotter(SHIPPED)(clips)])


def test_it_is_small_and_whole():
    assert {path.name for path in SHIPPED.iterdir() if path.name != "__pycache__"} == FILES
    assert sum((SHIPPED / name).stat().st_size for name in FILES) < MAX_BYTES


def test_it_is_what_the_configuration_makes():
    spotter, config = KeywordSpotter(SHIPPED), json.loads((SHIPPED / "config.json").read_text())
    assert spotter.labels.keywords == CONFIG.data.keywords
    assert config["architecture"] in [load_architecture(path).as_json()
                                      for path in (ROOT / "configs/arch").glob("*.yaml")]
    assert config["features"] == CONFIG.features.model_dump()


@pytest.mark.parametrize("module", sorted(name for name in FILES if name.endswith(".py")))
def test_the_code_in_it_is_that_of_the_package(module):
    assert (SHIPPED / module).read_bytes() == (ROOT / "kws/model" / module).read_bytes()


def test_the_rule_of_the_model_for_running_sound_is_the_same_in_both_of_its_files():
    config = json.loads((SHIPPED / "config.json").read_text())
    model = StreamModel(SHIPPED / STREAM_FILE)
    assert model.settings == settings_from(config["detector"])
    assert list(model.labels) == [config["id2label"][str(index)] for index in range(len(config["id2label"]))]


def test_no_file_names_a_folder_of_the_machine_that_made_it():
    places = {"/home/", "/root/", "/tmp/", "/work/", "/Users/", "site-packages", str(ROOT), str(Path.home()),
              tempfile.gettempdir()} - {"/"}
    found = [(name, place) for name in FILES for place in places if place.encode() in (SHIPPED / name).read_bytes()]
    assert found == []


def test_its_card_states_licence_figures_and_limits():
    card = (SHIPPED / "README.md").read_text()
    validation = json.loads((SHIPPED / "metrics.json").read_text())["validation"]
    assert CONFIG.data.attribution in card and CONFIG.data.licence in card
    assert "CC BY 4.0" in card and "P. Warden" in card and "arXiv:1804.03209" in card
    assert f"accuracy {validation['accuracy']:.2%}" in card and "## Use and limits" in card


@pytest.mark.parametrize("model, runtime", [
    (SHIPPED, "onnx"), (SHIPPED, "torch"), (SHIPPED / INT8_FILE, None)], ids=["onnx", "torch", "int8"])
def test_every_runtime_hears_silence(clips, expected, model, runtime):
    answers = KeywordSpotter(model, runtime=runtime)(clips)
    assert [answer.label for answer in answers[:3]] == [SILENCE] * 3
    if model == SHIPPED:  # 8 bits are judged by their accuracy, below
        found = np.array([list(answer.confidences.values()) for answer in answers])
        np.testing.assert_allclose(found, expected, atol=1e-4)


REMOTE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import numpy as np
from transformers import pipeline
spot = pipeline("audio-classification", model=sys.argv[1], trust_remote_code=True)
for clip in np.load(sys.argv[2]):
    print(sorted((row["label"], row["score"]) for row in spot({"array": clip, "sampling_rate": 16000}, top_k=100)))
assert "kws" not in sys.modules
"""


def test_transformers_answers_alike_from_the_folder_alone(clips, expected, tmp_path):
    np.save(tmp_path / "clips.npy", np.stack(clips))
    shutil.copytree(SHIPPED, tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", REMOTE, str(tmp_path / "model"), str(tmp_path / "clips.npy")], capture_output=True,
        text=True, cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HF_HOME": str(tmp_path),
                                      "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    labels = list(KeywordSpotter(SHIPPED).labels)
    answers = [dict(eval(line)) for line in done.stdout.splitlines()[-len(clips):]]
    np.testing.assert_allclose([[answer[label] for label in labels] for answer in answers], expected, atol=1e-4)


def test_prediction_takes_it_from_any_folder(tmp_path, monkeypatch, capsys, clips, wav_bytes):
    (tmp_path / "still.wav").write_bytes(wav_bytes(clips[0]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kws.commands.cli.TRAINED", Path("models/kws"))
    assert main(["predict", "--input_path", "still.wav", "--output_path", "preds.csv"]) == EXIT_OK
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("models/kws: no such folder; ") and " ".join(CONFIG.data.keywords) in line
    assert SILENCE in (tmp_path / "preds.csv").read_text().splitlines()[1].split(",")


@pytest.mark.parametrize("file", [ONNX_FILE, INT8_FILE])
def test_real_people_are_understood(real_speech, file):
    names = (real_speech / "validation_list.txt").read_text().split()
    spotter = KeywordSpotter(SHIPPED / file)
    answers = spotter([str(real_speech / name.replace(".wav", ".flac")) for name in names])
    right = [answer.label == spotter.labels.label_of(name.partition("/")[0]) for name, answer in zip(names, answers)]
    assert np.mean(right) >= MIN_ACCURACY


def test_publishing_takes_what_is_shipped_and_nothing_else(exported, tmp_path, capsys):
    model, shipped = tmp_path / "model", tmp_path / "shipped"
    shutil.copytree(exported, model)
    (model / "history.csv").touch()
    shutil.copytree(SHIPPED, shipped)
    for name in (STREAM_FILE, SECOND_FILE, STREAM_WEIGHTS_FILE):
        shutil.copy(SHIPPED / name, model)
    before = {path: path.read_bytes() for path in shipped.iterdir() if path.is_file()}
    assert publish(model, shipped) == EXIT_BAD_INPUT
    assert "README.md, metrics.json, model.int8.onnx" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in shipped.iterdir() if path.is_file()} == before
    for name in ("README.md", "metrics.json", INT8_FILE):
        (model / name).write_text(name)
    assert publish(model, shipped) == EXIT_OK
    assert {path.name for path in shipped.iterdir()} == FILES
    assert all((shipped / name).read_bytes() == (model / name).read_bytes() for name in FILES)


def test_publishing_replaces_models_only(exported, tmp_path, capsys):
    for name in ("README.md", "metrics.json", INT8_FILE):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).touch()
    shutil.copytree(exported, tmp_path / "model", dirs_exist_ok=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").touch()
    assert publish(tmp_path / "model", tmp_path / "other") == EXIT_BAD_INPUT
    assert (tmp_path / "other/thesis.txt").exists()


@pytest.mark.parametrize("options, chosen", [((), "models/kws"), (("MODEL=models/real",), "models/real")])
def test_the_image_is_built_around_a_trained_model(tmp_path, options, chosen):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shown = subprocess.run(["make", "--dry-run", "image", *options], cwd=tmp_path, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert f"--build-arg MODEL={chosen} " in shown.stdout


@pytest.mark.parametrize("name", ["config.json", "model.onnx", "stream.onnx"])
def test_the_docker_engine_is_given_the_trained_model(name):
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines.index("!models") < lines.index("models/*/*") < lines.index(f"!models/*/{name}")


def test_every_step_that_makes_it_is_a_command_as_its_script_takes_it():
    steps = pretrained.steps(Path("recordings"), Path("shipped"), [Path("talk"), Path("it's")])
    assert [name for name, *_ in steps] == ["prepare", "train", "train", "train", "train", "train_streams", "export",
                                            "publish"]
    models = []
    for name, *arguments in steps:
        args = parse_publish(arguments) if name == "publish" \
            else build_parser().parse_args([name.replace("_", "-"), *arguments])
        if name == "train_streams":
            streams = load_config(ROOT / args.config, args.set)
            assert streams.streams.negatives == (Path("talk"), Path("it's")) and streams.streams.second_look.is_file()
            assert streams.training.model == Path("models/real")
        if name == "train":
            config = load_config(ROOT / args.config, args.set)
            assert config.data.root == Path("recordings")
            models.append((str(config.training.model), config.seed, config.training.epochs))
    assert models == [("models/teacher-0", 0, 30), ("models/teacher-1", 1, 30), ("models/teacher-2", 2, 30),
                      ("models/real", CONFIG.seed, CONFIG.training.epochs)]
    assert [str(path) for path in config.training.teachers] == [model for model, _, _ in models[:-1]]


def test_the_first_step_that_fails_ends_the_making_of_it(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/pretrained.py"), str(tmp_path / "absent"), str(tmp_path / "shipped")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == EXIT_BAD_INPUT and f"{tmp_path}/absent: no such folder" in done.stderr
    assert list(tmp_path.iterdir()) == []
