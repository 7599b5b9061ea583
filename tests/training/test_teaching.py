"""Own words from few recordings: the classifier, what is left out, and the whole command on the body that ships."""
import json
import shutil
import sqlite3
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from kws.__main__ import main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_OK
from kws.config.architecture import configured_architecture
from kws.config.sections import load_config
from kws.corpus.cast import whole_cast
from kws.corpus.synthesis import SYNTHETIC, add_voices
from kws.data.store import load_store
from kws.errors import DataError
from kws.inference.listening import StreamModel, listen
from kws.inference.spotter import KeywordSpotter
from kws.model.folder import BODY, OTHERS_FILE, STREAM_FILE
from kws.model.labels import LabelSet
from kws.model.loading import load_torch_model
from kws.model.streaming import RECENT, frame_embeddings
from kws.training import teach_job
from kws.training.body import Others, load_others, save_others, start_from
from kws.training.left_out import leave_out, share_of
from kws.training.own_words import summary_text
from kws.training.teaching import Lesson, embed_moments, fit

LABELS = LabelSet.from_keywords(["lights", "fan"])
SIZE = 6


def make_others(rng, size=SIZE):
    words, silence = (rng.random((count, size)).astype(np.float32) - 0.5 for count in (300, 20))
    return Others(words, tuple(f"w{index % 100}" for index in range(len(words))), silence * 0.1)


def make_lesson(rng, recordings=10, speakers=5, spread=0.1, size=SIZE):
    """Recordings of two words and of another one, each about a place of its own."""
    places = rng.random((3, size)) * 3
    targets = np.repeat([0, 1, 2], recordings)
    embeddings = places[targets][:, None] + spread * rng.standard_normal((len(targets), 3, size))
    table = pd.DataFrame({"label": np.array(LABELS.names)[targets], "word": np.array(["lights", "fan", "van"])[targets],
                          "speaker": [f"s{index % speakers}" for index in range(len(targets))]})
    table["path"] = [f"{word}/{index}.wav" for index, word in enumerate(table["word"])]
    return Lesson(embeddings.astype(np.float32), targets, np.zeros(len(targets), bool), LABELS,
                  make_others(rng, size), np.zeros((0, size), np.float32)), table


def test_the_fit_is_the_logistic_regression_of_the_weighted_rows():
    lesson, _ = make_lesson(np.random.default_rng(0))
    found = fit(lesson)
    rows = np.concatenate([lesson.embeddings.reshape(-1, SIZE), lesson.others.words, lesson.others.silence])
    targets = np.concatenate([np.repeat(lesson.targets, 3), np.full(300, 2), np.full(20, 3)])
    share = np.array([1, 1, 2, 1]) / 5 / np.bincount(targets)
    expected = LogisticRegression(C=1000, max_iter=2000).fit(rows, targets, share[targets]).decision_function(rows)
    logits = found.logits(rows)
    np.testing.assert_allclose(logits - logits.mean(axis=1, keepdims=True),
                               expected - expected.mean(axis=1, keepdims=True), atol=2e-3)


def test_the_fit_is_the_same_on_any_number_of_cores():
    lesson, _ = make_lesson(np.random.default_rng(1), recordings=400, spread=2.0, size=128)
    weights = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            weights.append(fit(lesson).weight)
    np.testing.assert_array_equal(*weights)


def test_speakers_are_left_out_together_and_the_others_answer():
    lesson, table = make_lesson(np.random.default_rng(2))
    own = leave_out(lesson, table, refused=0.95)
    assert own.by_speaker and len(own.answers) == 30
    assert own.found[0] > 0.9 and own.found[1] < own.found[0] <= own.found[2]
    assert own.curve["recordings"].is_monotonic_increasing
    assert own.others_taken == pytest.approx(0.05, abs=0.01)
    assert "by people it had not heard" in summary_text(own)


def test_a_label_that_is_wrong_is_told(capsys):
    lesson, table = make_lesson(np.random.default_rng(3))
    table.loc[0, ["label", "word"]] = "fan"  # a recording of "lights" in the folder of "fan"
    lesson.targets[0] = 1
    own = leave_out(lesson, table, refused=0.95)
    assert own.doubtful()["path"].tolist()[0] == table["path"][0]
    assert table["path"][0] in summary_text(own)


def test_a_keyword_is_none_of_the_other_words():
    others = make_others(np.random.default_rng(7)).without(["W5", "fan"])
    assert len(others.words) == len(others.names) == 297 and "w5" not in others.names


def test_synthetic_voices_help_people_and_are_not_asked_themselves():
    lesson, table = make_lesson(np.random.default_rng(8))
    synthetic = np.arange(30) % 2 == 0
    own = leave_out(replace(lesson, synthetic=synthetic), table, refused=0.95)
    assert sorted(own.answers["path"]) == sorted(table["path"][~synthetic])
    alone = leave_out(replace(lesson, synthetic=np.ones(30, dtype=bool)), table, refused=0.95)
    assert len(alone.answers) == 30


def test_one_speaker_is_left_out_take_by_take():
    lesson, table = make_lesson(np.random.default_rng(4), recordings=3, speakers=1)
    own = leave_out(lesson, table, refused=0.9)
    assert not own.by_speaker and len(own.answers) == 9
    assert "by the same voice" in summary_text(own)


def test_words_of_one_speaker_each_are_left_out_take_by_take():
    lesson, table = make_lesson(np.random.default_rng(11))
    own = leave_out(lesson, table.assign(speaker=table["word"]), refused=0.95)
    assert not own.by_speaker and own.unasked == () and own.rarity != 1.0
    assert dict(own.per_word()[["word", "recordings"]].to_numpy()) == {"lights": 10, "fan": 10}


def test_a_word_that_could_not_be_asked_is_named():
    lesson, table = make_lesson(np.random.default_rng(12))
    kept = np.r_[9:30]  # one recording of the first word
    lesson = replace(lesson, embeddings=lesson.embeddings[kept], targets=lesson.targets[kept],
                     synthetic=lesson.synthetic[kept])
    own = leave_out(lesson, table.iloc[kept].reset_index(drop=True), refused=0.95)
    assert own.found is not None and own.unasked == ("lights",)
    assert "no recording of it could be left out: lights; record it at least twice" in summary_text(own)


def test_one_recording_of_a_word_leaves_nothing_to_answer():
    lesson, table = make_lesson(np.random.default_rng(5), recordings=1, speakers=1)
    own = leave_out(lesson, table, refused=0.9)
    assert own.found is None and own.figures == {} and own.per_word().empty
    assert "record each word at least twice" in summary_text(own)


def test_what_nothing_could_be_left_out_of_is_told_not_to_be_calibrated(caplog):
    lesson, table = make_lesson(np.random.default_rng(5), recordings=1)
    lesson = replace(lesson, embeddings=lesson.embeddings[:2], targets=lesson.targets[:2], synthetic=np.zeros(2, bool))
    own = leave_out(lesson, table[:2], refused=0.9)
    assert own.rarity == 1.0 and "not calibrated" in caplog.text


def test_silence_that_somebody_recorded_is_no_keyword():
    lesson, table = make_lesson(np.random.default_rng(9))
    lesson.targets[20:] = LABELS.index("_silence_")
    table.loc[20:, ["label", "word"]] = "_silence_"
    own = leave_out(lesson, table, refused=0.95)
    assert set(own.per_word()["word"]) == {"lights", "fan"}
    assert "_silence_" not in summary_text(own)


def test_an_interval_of_shares():
    share, low, high = share_of(8, 10)
    assert share == 0.8 and low == pytest.approx(0.4902, abs=1e-4) and high == pytest.approx(0.9433, abs=1e-4)


def test_what_a_body_brings_is_saved_in_31_steps_each_way(tmp_path):
    others = make_others(np.random.default_rng(6))
    save_others(others, tmp_path)
    found = load_others(tmp_path)
    assert found.names == others.names
    for name in ("words", "silence"):
        np.testing.assert_allclose(getattr(found, name), getattr(others, name), atol=1 / 60)


@pytest.fixture
def recordings(corpus, no_pictures, tmp_path):
    """A folder of two words by several people, without background noise."""
    root = corpus()
    shutil.rmtree(root / "_background_noise_")
    return root


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_recordings_that_do_not_name_their_speaker_prove_nothing_about_new_people(recordings, here, capsys):
    for path in recordings.glob("*/*_nohash_*.wav"):
        path.rename(path.with_name(path.name.replace("_nohash_", "-")))
    pattern = r"data.speaker_pattern=/(?P<speaker>[^/-]+)-"
    for settings, told, by in (([], "by voices that it may have heard", "take"),
                               ([pattern], "by people it had not heard", "speaker")):
        train_on(recordings, *settings)
        assert told in capsys.readouterr().out
        assert json.loads((here / "models/kws/metrics.json").read_text())["left_out"]["by"] == by


def test_one_command_from_recordings_to_a_model_that_hears_them(recordings, here, capsys):
    assert main(["teach", str(recordings), "--output_path", "models/kws", "--keywords", "yes", "no"]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "left out in turn" in printed and "\nmodels/kws/own-words.html shows more" in printed
    assert "\nmodels/kws/model.onnx: " in "\n" + printed
    folder = here / "models" / "kws"
    assert (folder / "own-words.html").is_file() and "left out" in (folder / "README.md").read_text()
    assert json.loads((folder / "metrics.json").read_text())["left_out"]["by"] == "speaker"
    spotter = KeywordSpotter(folder)
    clips = sorted((recordings / "yes").glob("*.wav"))
    answers = [prediction.label for prediction in spotter(clips)]
    assert answers.count("yes") > 0.8 * len(clips)
    model = StreamModel(folder / STREAM_FILE)
    assert model.labels.keywords == ("yes", "no")
    assert list(listen(model, [np.zeros(32000, dtype=np.float32)])) == []


def test_an_older_model_stays_until_the_new_one_is_whole(recordings, here, exported, monkeypatch):
    folder = shutil.copytree(exported, here / "models" / "kws")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr("kws.export.to_onnx._TOLERANCE", -1.0)  # no export is as good
    assert main(["teach", str(recordings), "--output_path", "models/kws", "--keywords", "yes", "no"]) == EXIT_BAD_INPUT
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["kws"]


def test_own_words_need_no_training_for_running_sound(recordings, here, capsys):
    settings = of_yes_and_no(recordings)
    assert main(["train-streams", str(BODY / "own.yaml"), *settings]) == EXIT_BAD_INPUT
    assert "hears running sound as it is" in capsys.readouterr().err


def test_moments_of_talk_that_the_user_brings_are_no_keyword():
    lesson, _ = make_lesson(np.random.default_rng(10))
    talk = np.repeat(lesson.embeddings[lesson.targets == 0, 0] + 0.01, 100, axis=0)  # sounds like the first word
    told = fit(replace(lesson, talk=talk.astype(np.float32)))
    taken = [(classifier.logits(talk).argmax(axis=1) == 0).mean() for classifier in (fit(lesson), told)]
    assert taken[0] > 0.9 and taken[1] < 0.5


@torch.inference_mode()
def test_moments_are_those_of_running_sound(noise):
    body = load_torch_model(BODY).eval()
    talk, short = ((noise(seed, seconds) * 32767).astype(np.int16) for seed, seconds in ((3, 4.0), (4, 1.5)))
    for recording in (talk, short):  # of one piece
        found = embed_moments(body, [recording, recording[:100], recording[:0]], seed=0)
        sound = torch.from_numpy(recording / np.float32(32768))[None]
        rows = frame_embeddings(body.network, body.features(sound))[0].numpy()
        np.testing.assert_allclose(found, rows[RECENT:-RECENT:8], atol=1e-5)
    assert 1000 < len(embed_moments(body, [np.tile(talk, 100)], seed=0)) < 1500
    assert embed_moments(body, [talk[:100]], seed=0).shape == embed_moments(body, [], seed=0).shape == (0, 128)


def of_yes_and_no(recordings, body=BODY):
    """Settings for two words that start from a body."""
    return [word for value in (f"data.root={recordings}", 'data.keywords=["yes", "no"]',
                               f"training.start_from={body}") for word in ("--set", value)]


def train_on(recordings, *settings):
    """Prepare recordings of two words and train a classifier on them, each varied but twice, without tracking."""
    config = [str(BODY / "own.yaml"), *of_yes_and_no(recordings), *(
        word for value in ("tracking.enabled=false", "training.variations=2", *settings) for word in ("--set", value))]
    assert main(["prepare", *config]) == EXIT_OK
    assert main(["train", *config]) == EXIT_OK


def refusal_of(body, recordings, capsys, *more):
    """Train a classifier on a body by the steps, which has to be refused; return what was said."""
    config = str(BODY / "own.yaml")
    settings = of_yes_and_no(recordings, body)
    assert main(["prepare", config, *settings]) == EXIT_OK
    assert main(["train", config, *settings, *more]) == EXIT_BAD_INPUT
    return capsys.readouterr().err


def test_a_body_of_another_front_end_is_refused(recordings, here, capsys):
    error = refusal_of(BODY, recordings, capsys, "--set", "features.num_mels=32")
    assert "features.num_mels: found 32; expected 40" in error


def test_a_model_that_is_no_body_is_refused(recordings, here, exported, capsys):
    assert f"{exported / OTHERS_FILE}: cannot be read" in refusal_of(exported, recordings, capsys)
    assert not (here / "models/kws").exists()


def test_a_network_without_an_embedding_is_no_body(recordings, here, exported, capsys):
    shutil.copy(BODY / OTHERS_FILE, exported)
    assert f"{exported}: its network has no embedding" in refusal_of(exported, recordings, capsys)
    assert not (here / "models/kws").exists()


def test_talk_of_the_users_own_is_learned_from(recordings, here, monkeypatch, noise):
    talk = recordings / "_negative_speech_"
    talk.mkdir()
    soundfile.write(talk / "tv.ogg", np.stack([noise(1, 5.0, 8000)] * 2, axis=1), 8000)
    learned = []
    monkeypatch.setattr(teach_job, "fit", lambda lesson: learned.append(lesson) or fit(lesson))
    train_on(recordings)
    assert [len(lesson.talk) > 10 for lesson in learned] == [True]


def test_words_left_out_are_not_learned(recordings, here):
    train_on(recordings, "data.left_out=[bed]")
    words = load_store(here / "prepared/own").split("training")["word"].value_counts()
    summary = json.loads((here / "models/kws/metrics.json").read_text())
    assert words["bed"] > 0 and summary["recordings"] == words["yes"] + words["no"]


def test_there_is_nothing_to_resume(here, capsys):
    config = [str(BODY / "own.yaml"), "--set", f"training.start_from={BODY}"]
    assert main(["train", *config, "--resume"]) == EXIT_BAD_INPUT
    assert "--resume" in capsys.readouterr().err


def test_recordings_prepared_for_other_words_are_refused(recordings, here, capsys):
    settings = ["--set", f"data.root={recordings}", "--set", f"training.start_from={BODY}"]
    config = str(BODY / "own.yaml")
    assert main(["prepare", config, *settings, "--set", 'data.keywords=["yes", "no"]']) == EXIT_OK
    assert main(["train", config, *settings, "--set", 'data.keywords=["yes"]']) == EXIT_BAD_INPUT
    assert "run `kws prepare` again" in capsys.readouterr().err


def test_one_recording_of_each_word_is_taken_and_told(here, noise, capsys):
    for word, seed in (("lights", 1), ("fan", 2), ("van", 3), ("can", 4)):
        (here / "mine" / word).mkdir(parents=True)
        stereo = np.stack([noise(seed, 0.6, 8000), noise(seed, 0.6, 8000)], axis=1)
        soundfile.write(here / "mine" / word / "me_nohash_0.wav", stereo, 8000)
    settings = [word for value in ("data.root=mine", 'data.keywords=["lights", "fan"]', "tracking.enabled=false",
                                   f"training.start_from={BODY}") for word in ("--set", value)]
    assert main(["prepare", str(BODY / "own.yaml"), *settings]) == EXIT_OK
    assert main(["train", str(BODY / "own.yaml"), *settings]) == EXIT_OK
    assert "record each word at least twice" in capsys.readouterr().out
    assert json.loads((here / "models/kws/metrics.json").read_text())["left_out"] is None
    assert "nothing could be left out" in (here / "models/kws/README.md").read_text()


def test_a_taught_classifier_is_recorded(recordings, here, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here / 'runs.db'}")
    train_on(recordings, "tracking.enabled=true")
    with sqlite3.connect(here / "runs.db") as runs:
        figures = dict(runs.execute("select key, value from latest_metrics"))
    assert figures["final_left_out_found"] > 0.5


def test_a_network_that_starts_from_a_body_has_its_weights():
    config = load_config(BODY / "own.yaml", [f"training.start_from={BODY}"])
    started, body = start_from(BODY, ["lights", "fan", "_unknown_", "_silence_"], config), load_torch_model(BODY)
    for name, weight in started.state_dict().items():
        assert name.startswith("network.head.") or torch.equal(weight, body.state_dict()[name]), name
    assert configured_architecture(config).as_json() == body.config.architecture


def test_synthetic_voices_come_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("kws.corpus.synthesis.whole_cast", lambda seed: iter([*whole_cast(seed)][:3]))
    (tmp_path / "fan" / SYNTHETIC).mkdir(parents=True)
    add_voices(tmp_path, ["lights", "fan"], 0)
    assert len(list((tmp_path / "lights" / SYNTHETIC).glob("*_nohash_0.wav"))) == 3
    assert list((tmp_path / "fan" / SYNTHETIC).iterdir()) == []  # it was there, and stays
    with pytest.raises(DataError):
        add_voices(tmp_path, ["x" * 60 + " " + "y" * 60], 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fan", "lights"]


def test_a_keyword_without_recordings_is_told(recordings, here, capsys):
    assert main(["teach", str(recordings), "--output_path", "models/kws", "--keywords", "lights"]) == EXIT_BAD_INPUT
    assert "no clips of the keyword(s) lights" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told_with_what_makes_it(here, capsys):
    assert main(["teach", "nowhere", "--keywords", "lights", "fan"]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("error: nowhere: no such folder") and "kws record lights" in error
    assert "--synthesize" in error and error.count("\n") == 1 and not list(here.rglob("*"))


def test_an_unreadable_recording_is_named(recordings, here, capsys):
    (recordings / "yes" / "broken_nohash_0.wav").write_bytes(b"RIFF")
    assert main(["teach", str(recordings), "--output_path", "models/kws", "--keywords", "yes", "no"]) == EXIT_BAD_INPUT
    assert "broken_nohash_0.wav" in capsys.readouterr().err
    assert not (here / "models" / "kws").exists()
