"""Takes of several words, one after the other."""
import weakref

import numpy as np
import soundfile

from kws.audio.recording.files import TakeFolder
from kws.audio.recording.recorder import Recorder
from kws.audio.recording.takes import TakeFinder
from kws.commands import prompts
from kws.commands.prompts import Prompts

RATE = 16000


def takes(count):
    """Tones between pauses, as they are found in running sound."""
    tone, pause = 0.3 * np.sin(np.arange(RATE // 2) * 0.2), np.zeros(RATE)
    sound = np.concatenate([pause, *(part for _ in range(count) for part in (tone, pause))])
    finder = TakeFinder(RATE)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(sound))
    return [*finder.feed((sound + noise).astype(np.float32)), *finder.finish()]


def test_the_sound_of_kept_takes_is_in_files_only(tmp_path):
    recorder = Recorder(["fan"], None, TakeFolder(tmp_path, "anna", RATE), 1.0)
    sound = []
    for take in takes(2):
        assert recorder.add(take) is None
        sound.append(weakref.ref(take.samples))
    del take
    assert len(recorder.kept) == 2 and [samples() for samples in sound] == [None, None]


def test_the_last_take_that_is_still_there_is_played(tmp_path, monkeypatch, caplog):
    recorder = Recorder(["fan"], None, TakeFolder(tmp_path, "anna", RATE), 1.0)
    for take in takes(2):
        recorder.add(take)
    played = []
    monkeypatch.setattr(prompts, "play", lambda samples, rate: played.append((samples, rate)))
    keys = Prompts(recorder, "microphone", True, prompts.LevelBar(open("/dev/null", "w")), None)
    assert keys.answer("r") and keys.answer("p")
    (samples, rate), = played
    np.testing.assert_array_equal(samples, soundfile.read(recorder.kept[0].path, dtype="float32")[0])
    recorder.kept[0].path.unlink()
    assert keys.answer("p") and rate == RATE and "No such file" in caplog.text
