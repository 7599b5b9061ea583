"""`kws evaluate --manifest`: the answers of `kws predict`, and what is not counted."""
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from kws import KeywordSpotter
from kws.__main__ import main
from kws.audio.decode import decode
from kws.commands.cli import EXIT_OK, EXIT_SOME_FAILED
from kws.model.folder import SHIPPED

SAMPLES = Path(__file__).resolve().parents[2] / "docs/samples"


@pytest.fixture
def evaluate(tmp_path, monkeypatch, capsys):
    """Evaluate the shipped model on rows of (path, label); return exit code, metrics, answers and what was printed."""
    def run(*rows):
        monkeypatch.chdir(tmp_path)
        pd.DataFrame(rows, columns=["path", "label"]).to_csv("clips.csv", index=False)
        code = main(["evaluate", str(SHIPPED), "--manifest", "clips.csv", "--output", "report"])
        metrics = json.loads(Path("report/metrics.json").read_text())
        return code, metrics, pd.read_csv("report/answers.csv"), capsys.readouterr().out

    return run


def test_recordings_longer_than_the_window_are_answered_as_by_predict(evaluate, tmp_path):
    left = decode(SAMPLES / "left.flac", 16000)
    slow = np.tile(np.interp(np.arange(0, len(left), 0.5), np.arange(len(left)), left), 4)
    soundfile.write(tmp_path / "slow.wav", slow, 16000)  # windows of it sound like left, the detector finds nothing
    paths = [SAMPLES / "five-words.flac", SAMPLES / "yes.flac", tmp_path / "slow.wav"]
    expected = KeywordSpotter(SHIPPED, runtime="torch")(paths)
    code, metrics, answers, _ = evaluate(*((path, answer.label) for path, answer in zip(paths, expected)))
    assert code == EXIT_OK and metrics["accuracy"] == 1.0
    assert answers["answered"].tolist() == [answer.label for answer in expected]
    np.testing.assert_allclose(answers["confidence"], [answer.confidence for answer in expected], atol=1e-6)


def test_what_is_not_labelled_or_not_readable_is_counted(evaluate):
    code, metrics, answers, printed = evaluate((SAMPLES / "yes.flac", "yes"), (SAMPLES / "left.flac", ""),
                                               ("absent.wav", "no"))
    assert code == EXIT_SOME_FAILED and len(answers) == 1
    assert (metrics["clips"], metrics["unlabelled"], metrics["unreadable"]) == (1, 1, 1)
    assert "1 clips could not be read" in printed and "1 rows without a label were left out" in printed
