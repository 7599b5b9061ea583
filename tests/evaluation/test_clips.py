import json

import numpy as np
import pandas as pd
import pytest
import soundfile

from kws import KeywordSpotter
from kws.__main__ import main
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_OK
from kws.errors import DataError, ModelError
from kws.evaluation import clips as evaluation
from kws.model.labels import LabelSet
from kws.model.loading import load_torch_model

LABELS = LabelSet.from_keywords(["yes", "no"])


@pytest.fixture(scope="module")
def spotter(exported):
    return KeywordSpotter(exported)


@pytest.fixture
def manifest(tmp_path):
    """Six clips of which one is missing and one is text; one is longer than the window."""
    rng = np.random.default_rng(0)
    for name, rate, seconds in (("a", 16000, 0.5), ("ünïcode, name", 8000, 0.5), ("c", 16000, 0.5), ("long", 16000, 3)):
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.normal(size=int(rate * seconds)), rate)
    (tmp_path / "text.wav").write_text("not audio")
    rows = [("a.wav", "yes"), ("ünïcode, name.wav", "no"), ("absent.wav", "no"), ("text.wav", "yes"), ("c.wav", "bed"),
            ("long.wav", "yes")]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(tmp_path / "clips.csv", index=False, encoding="utf-8-sig")
    return tmp_path / "clips.csv"


def flat(window):
    return window[:4000].reshape(40, 100)


def test_a_manifest_keeps_good_clips_and_names_the_bad(spotter, manifest):
    result = evaluation.evaluate(spotter, evaluation.clips_of_manifest(manifest, LABELS))
    assert result.targets.tolist() == [0, 1, 2, 0]
    assert [error.split(":")[0] for error in result.errors] == ["absent.wav", "text.wav"]
    assert result.metrics["clips"] == 4 and result.metrics["unreadable"] == 2


def test_figures_follow_from_the_answers_of_the_one_spotter(spotter, manifest):
    result = evaluation.evaluate(spotter, evaluation.clips_of_manifest(manifest, LABELS))
    paths = [manifest.parent / name for name in ("a.wav", "ünïcode, name.wav", "c.wav", "long.wav")]
    answers = spotter(paths)
    expected = np.array([list(answer.confidences.values()) for answer in answers])
    np.testing.assert_allclose(result.probabilities, expected, atol=1e-6)
    assert result.metrics["accuracy"] == (expected.argmax(axis=1) == result.targets).mean()
    by_name = {str(path.name): answer for path, answer in zip(paths, answers)}
    assert result.mistakes  # an untrained model makes some
    for mistake in result.mistakes:
        answer = by_name[mistake.name]
        assert (mistake.answered, mistake.confidence) == (answer.label, pytest.approx(answer.confidence, abs=1e-6))
        assert mistake.spoken != mistake.answered
        window = spotter.window(manifest.parent / mistake.name, answer.start_seconds)
        np.testing.assert_array_equal(mistake.window, window)


def test_reports_are_written_whole(spotter, manifest, tmp_path):
    result = evaluation.evaluate(spotter, evaluation.clips_of_manifest(manifest, LABELS))
    folder = tmp_path / "reports"
    evaluation.write_evaluation(result, folder, "a <title>", flat)
    assert json.loads((folder / "metrics.json").read_text()) == result.metrics
    table = pd.read_csv(folder / "confusion.csv", index_col="spoken")
    assert table.to_numpy().sum() == 4 and table.index.tolist() == list(LABELS)
    for picture in ("confusion.png", "curves.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    page = (folder / "mistakes.html").read_text()
    assert "a &lt;title&gt;" in page and "absent.wav" in page and "data:image/png;base64," in page
    assert "accuracy" in evaluation.summary_table(result)


@pytest.mark.parametrize("content, expected", [
    ("path,word\na.wav,yes\n", "no column label"), ("path,label\n", "no rows"),
    ("path,label\na.wav,\n", "1 rows, none with a label"), ("", "no column path")])
def test_a_manifest_that_cannot_be_used_is_explained(tmp_path, content, expected):
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(DataError, match=f"bad.csv: {expected}"):
        evaluation.clips_of_manifest(tmp_path / "bad.csv", LABELS)


def test_clips_of_which_none_can_be_read_are_explained(spotter, tmp_path):
    (tmp_path / "bad.csv").write_text("path,label\nx.wav,yes\n")
    with pytest.raises(DataError, match="none of 1 clips can be read; x.wav: no such file"):
        evaluation.evaluate(spotter, evaluation.clips_of_manifest(tmp_path / "bad.csv", LABELS))


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(DataError, match="absent.csv: no such file"):
        evaluation.clips_of_manifest(tmp_path / "absent.csv", LABELS)


def test_a_folder_that_is_no_model_is_named(exported, tmp_path):
    with pytest.raises(ModelError, match="no config.json"):
        load_torch_model(tmp_path)
    load_torch_model(exported).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_torch_model(tmp_path)


def test_a_folder_that_holds_something_else_is_left_alone(spotter, manifest, tmp_path):
    result = evaluation.evaluate(spotter, evaluation.clips_of_manifest(manifest, LABELS))
    with pytest.raises(FileExistsError, match="holds other files"):
        evaluation.write_evaluation(result, tmp_path, "title", flat)
    assert manifest.exists()
    evaluation.write_evaluation(result, tmp_path / "reports", "title", flat)
    evaluation.write_evaluation(result, tmp_path / "reports", "again", flat)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("setting, found", [("data.clip_seconds=0.5", "8,000 samples at 16,000 Hz"),
                                            ("data.sample_rate=16100", "16,100 samples at 16,100 Hz")])
def test_clips_prepared_for_another_window_are_refused(corpus, exported, tmp_path, capsys, setting, found):
    values = (f"data.root={corpus()}", f"data.prepared={tmp_path / 'prepared'}", 'data.keywords=["yes", "no"]', setting)
    config = ["configs/kws.yaml", *(word for value in values for word in ("--set", value))]
    assert main(["prepare", *config, "--reports", str(tmp_path / "reports")]) == EXIT_OK
    for command in ("evaluate", "robustness"):
        assert main([command, str(exported), "--config", *config]) == EXIT_BAD_INPUT
        assert f"{found}; expected the model's window, 16,000 samples at 16,000 Hz" in capsys.readouterr().err
