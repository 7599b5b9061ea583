from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from kws.config.architecture import load_architecture
from kws.config.sections import Config, load_config
from kws.config.yaml_files import read_yaml
from kws.errors import ConfigError
from kws.model.folder import SHIPPED
from kws.model.labels import LabelSet
from kws.model.modeling import build_model
from kws.model.network import build_network

CONFIGS = sorted(Path("configs").glob("*.yaml"))
ARCHITECTURES = sorted(Path("configs/arch").glob("*.yaml"))
DEFAULT = Path("configs/kws.yaml")


def problems(*overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(DEFAULT, overrides)
    return caught.value.problems


def keys(section):
    return {name: keys(field.annotation) if isinstance(field.annotation, type)
            and issubclass(field.annotation, BaseModel) else None for name, field in section.model_fields.items()}


def without_values(document):
    return {key: without_values(value) if isinstance(value, dict) else None for key, value in document.items()}


def test_the_main_file_states_every_key():
    assert without_values(yaml.safe_load(DEFAULT.read_text())) == keys(Config)


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_configuration_loads_and_its_architecture_builds(path):
    config = load_config(path)
    labels = LabelSet.from_keywords(config.data.keywords)
    build_model(labels.names, config.data.sample_rate, config.data.num_samples, config.features.model_dump(),
                load_architecture(config.architecture).as_json())


def test_keywords_of_the_main_file_are_words_and_not_booleans():
    assert {"yes", "no", "on", "off"} <= set(load_config(DEFAULT).data.keywords)


@pytest.mark.parametrize("text", ["[yes, no, on, off, falsetto]", '["yes", "no", "on", "off", "falsetto"]'])
def test_words_need_no_quotes(text):
    assert load_config(DEFAULT, [f"data.keywords={text}"]).data.keywords == ("yes", "no", "on", "off", "falsetto")


def test_overrides_are_yaml_and_strings_like_1e_3_are_numbers():
    config = load_config(DEFAULT, ["training.epochs=3", "training.learning_rate=1e-3", 'data.keywords=["on", "off"]'])
    assert config.training.epochs == 3
    assert config.training.learning_rate == 0.001
    assert config.data.keywords == ("on", "off")


@pytest.mark.parametrize("override, expected", [
    ("training.lr_rate=1", "training.lr_rate: unknown key"),
    ("training.learning_rat=1", "did you mean 'learning_rate'?"),
    ("training.epochs=many", "training.epochs: found 'many'"),
    ("training.epochs=0", "training.epochs: found 0"),
    ("seed=4294967296", "seed: found 4294967296; input should be less than 4294967296"),
    ("training.epochs=2.5", "training.epochs: found 2.5"),
    ("training.batch_size=true", "training.batch_size: found True"),
    ("training.learning_rate=true", "quote it"),
    ("training.learning_rate=yes", "training.learning_rate: found 'yes'"),
    ("training.learning_rate=.inf", "training.learning_rate: found inf"),
    ("training.learning_rate=.nan", "training.learning_rate: found nan"),
    ("training.warmup_epochs=99", "training.warmup_epochs"),
    ("data.keywords=[true, false]", "data.keywords[0]: found True"),
    ("data.keywords=[]", "data.keywords: found []; list should have at least 1 item, not 0"),
    ("training.teachers=models/base", "training.teachers: found 'models/base'; input should be a valid list"),
    ("data.keywords=[tuple, tuple]", "tuple repeated"),
    ("data.left_out=[up, bed]", "left_out: up is a keyword"),
    ("features.window_ms=0.05", "features.window_ms: 1 samples at 16000 Hz; expected 2 to features.n_fft"),
    ('data.keywords=["_unknown_"]', "'_unknown_'; expected the name of a word's folder"),
    ('data.keywords=["a/b"]', "'a/b'; expected the name of a word's folder"),
    ("data.sample_rate=0", "data.sample_rate: found 0"),
    ("augment.snr_db=[9, 1]", "augment.snr_db: 9 is above 1"),
    ("features.window_ms=100", "features.window_ms: 1600 samples"),
    ("features.fmax_hz=9000", "features.fmax_hz: 9000"),
    ("features.fmin_hz=8000", "features.fmin_hz: 8000 is not below"),
    ("data.clip_seconds=3", "streams.seconds: 4; expected at least 1.5 times data.clip_seconds = 3"),
    ("features=3", "features: found 3"),
    ("training.checkpoints=.", "training.checkpoints: found '.'; expected the path of a folder with a name"),
    ("tracking.experiment=2024-13-45", "the value is not YAML"),
    ("nonsense.key=1", "nonsense: unknown key"),
])
def test_a_problem_names_its_key_and_what_was_found(override, expected):
    found = problems(override)
    assert len(found) == 1 or override == "data.keywords=[true, false]"
    assert expected in found[0]


def test_all_problems_are_reported_at_once():
    found = problems("training.epochs=x", "data.keywords=[true]", "features.n_mels=3")
    assert {line.split(":")[0] for line in found} == {"training.epochs", "data.keywords[0]", "features.n_mels"}


@pytest.mark.parametrize("override", ["epochs", "=3", "training.epochs=[", "seed.deep=1"])
def test_a_malformed_override_is_refused(override):
    assert repr(override) in problems(override)[0]


@pytest.mark.parametrize("content, expected", [
    (b"- a\n", "found list"), (b"", "found NoneType"), (b"a: [", "while parsing"), (b"\xff\xfe\xfa", "cannot be read"),
    (b"seed: 1\n", "data: missing"),
])
def test_a_file_that_is_no_configuration(tmp_path, content, expected):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)) as caught:
        load_config(path)
    assert expected in caught.value.problems[0]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize("path", ARCHITECTURES, ids=str)
def test_architecture_files_state_every_key_and_build(path):
    document, architecture = yaml.safe_load(path.read_text()), load_architecture(path)
    assert {name for name, field in type(architecture).model_fields.items() if field.is_required()} <= set(document)
    assert architecture.as_json() == document
    build_network(architecture.as_json(), 12, 40)


@pytest.mark.parametrize("name, keys, value, expected", [
    ("bcresnet-1", ("stages", 1, "kernel"), 4, "stages[1].kernel: found 4; expected an odd number"),
    ("bcresnet-1", ("stages",), [], "stages: found []"),
    ("bcresnet-1", ("spectral",), [], "spectral: unknown key; expected one of network, stem, stages"),
    ("bcresnet-1", ("stages", 0, "blockz"), 2, "stages[0].blockz: unknown key; did you mean 'blocks'?"),
    ("nano", ("stem", "kernel"), [5, 4], "stem.kernel[1]: found 4; expected an odd number"),
    ("nano", ("temporal", "kernel"), 8, "temporal.kernel: found 8; expected an odd number"),
    ("nano", ("temporal", "kernel"), True, "temporal.kernel: found True"),
    ("nano", ("temporal", "blocs"), 2, "temporal.blocs: unknown key; did you mean 'blocks'?"),
    ("nano", ("spectral", 2, "strides"), 2, "spectral[2].strides: unknown key; did you mean 'stride'?"),
    ("nano", ("spectral", 2, "stride"), [0, 1], "spectral[2].stride[0]: found 0"),
    ("nano", ("dropout",), 1, "dropout: found 1"),
    ("nano", ("network",), "folded", "network: found 'folded'; input should be 'folded-mel' or 'broadcast-residual'"),
    ("nano", ("network",), ["folded-mel"], "network: found ['folded-mel']"),
    ("nano", ("network",), None, "network: missing"),
    ("nano", ("dropout",), None, "dropout: missing"),
])
def test_a_problem_of_an_architecture_names_its_key_and_what_was_found(tmp_path, name, keys, value, expected):
    document = yaml.safe_load(Path(f"configs/arch/{name}.yaml").read_text())
    *parents, last = keys
    section = document
    for key in parents:
        section = section[key]
    section[last] = value
    if value is None:
        del section[last]
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=str(path)) as caught:
        load_architecture(path)
    found, = caught.value.problems
    assert expected in found


def test_the_main_file_and_the_defaults_of_the_code_agree():
    stated = load_config(DEFAULT)
    assert (stated.streams.start_from or Path()).resolve() == SHIPPED  # which lies elsewhere without the clone
    assert stated == Config(data={"keywords": stated.data.keywords}, streams={"start_from": stated.streams.start_from})


@pytest.mark.parametrize("word", ["path", "label", "error", "confidence", "None", "NaN", "a,b", 'quote"d', "a=b", "😀",
                                  "nul", "x" * 255, " yes", "a\\b"])
def test_a_keyword_may_be_called_anything(tmp_path, word):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"data": {"keywords": [word, "yes"]}}, allow_unicode=True), encoding="utf-8")
    assert load_config(path).data.keywords == (word, "yes")


@pytest.mark.parametrize("found, expected", [
    ("null", "quote it"), ("~", "quote it"), ("1", "quote it"), ("1.5", "quote it"), ("true", "quote it"),
    ('"null"', ""), ('"1"', ""), ('"true"', ""), ('".."', "no _ or . at its start"), ('"two\\nlines"', "line breaks"),
    (f'"{"x" * 256}"', "at most 255 bytes"), ('""', "not empty")])
def test_a_word_that_cannot_be_one_says_what_helps(tmp_path, found, expected):
    path = tmp_path / "c.yaml"
    for key, document in (("keywords", f"data: {{keywords: [{found}]}}"),
                          ("left_out", f"data: {{keywords: [no], left_out: [{found}]}}")):
        path.write_text(document, encoding="utf-8")
        if not expected:
            load_config(path)
            continue
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert f"data.{key}[0]" in str(caught.value) and expected in str(caught.value)


def test_keywords_are_kept_in_one_form(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data: {keywords: [zwo\u0308lf]}", encoding="utf-8")
    assert load_config(path).data.keywords == ("zw\u00f6lf",)
    for document in ("keywords: [zwo\u0308lf, zw\u00f6lf]", "keywords: [zwo\u0308lf], left_out: [zw\u00f6lf]"):
        path.write_text(f"data: {{{document}}}", encoding="utf-8")
        with pytest.raises(ConfigError, match="zw\u00f6lf"):
            load_config(path)


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("data: {keywords: [go]}\nseed: 1\ndata: {keywords: [left]}\n")
    with pytest.raises(ConfigError, match="a.yaml: data is there twice, the second time in line 3"):
        load_config(path)
    path.write_text("[a]: 1\n[a]: 2\n")
    with pytest.raises(ConfigError, match="unhashable key"):
        read_yaml(path)
    path.write_text("a: &a {keywords: [go]}\ndata: {<<: *a, keywords: [left]}\n")
    assert read_yaml(path)["data"] == {"keywords": ["left"]}


def test_long_clips_are_fine_where_nothing_is_trained_for_running_sound():
    assert load_config(DEFAULT, ["data.clip_seconds=3", "streams.steps=0"]).data.num_samples == 48000


def test_trainings_whose_names_have_a_dot_have_logs_of_their_own():
    training = load_config(DEFAULT, ["training.checkpoints=runs/lr0.01"]).training
    assert training.log_file() == Path("runs/lr0.01.log")
    assert training.log_file("streams.log") == Path("runs/lr0.01.streams.log")


def test_a_second_look_that_nothing_would_train_is_refused():
    with pytest.raises(ConfigError, match="streams.second_look: found configs/arch/large.yaml; expected null"):
        load_config(Path("configs/kws.yaml"), ["training.trains=classifier", "training.start_from=models/kws",
                                               "streams.second_look=configs/arch/large.yaml"])


@pytest.mark.parametrize("pattern, expected", [("([a-z]+)_", "a group called speaker"),
                                               ("(?P<speaker>", "not a regular expression")])
def test_a_speaker_pattern_is_checked_before_it_is_used(pattern, expected):
    with pytest.raises(ConfigError, match=f"data.speaker_pattern: .*{expected}"):
        load_config(Path("configs/kws.yaml"), [f"data.speaker_pattern={pattern}"])


def test_a_speaker_pattern_may_come_from_the_command_line():
    for pattern in ("^[^/]+/(?P<speaker>[^/]+)/", "^[^/]+/[^/_]+_(?P<speaker>[^/_]+)_"):
        config = load_config(Path("configs/kws.yaml"), [f"data.speaker_pattern={pattern}"])
        assert config.data.speaker_pattern == pattern
