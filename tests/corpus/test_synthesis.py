from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import welch

from kws.__main__ import main
from kws.audio.folders import NEGATIVES_FOLDER, NOISE_FOLDER, STREAMS_FOLDER
from kws.config.sections import load_config
from kws.corpus import acoustics, sentences, voices
from kws.corpus.cast import say_words, speaker_name, whole_cast
from kws.corpus.synthesis import synthesize, tree_digest
from kws.corpus.engines import ESPEAK, PICO
from kws.corpus.voices import Utterance, Voice, pronounce
from kws.errors import DataError
from kws.evaluation.streams import read_streams

ROOT = Path(__file__).resolve().parents[2]
KEYWORDS, WORDS = ("go", "turn off"), ("zero",)
NAME = re.compile(r"[0-9a-f]{8}_nohash_[0-9]+\.wav")
DEFAULT_DIGEST = "977c3aecc0c5b59d221f2d465823e1f9dafe525c45a84c19d4f7d597f0dd5c4c"


def tiny(folder: Path, **changes: object) -> Path:
    """Three speakers, three words, five clips by each."""
    options = {"keywords": KEYWORDS, "words": WORDS, "keyword_takes": 2, "word_takes": 1, "speakers": 3}
    synthesize(folder, **{**options, **changes})  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("corpus") / "data", speakers=6, workers=2)


def which_set(name: str) -> str:
    """The rule published with Speech Commands, for 10 % validation and 10 % testing."""
    percentage = int(hashlib.sha1(name.encode()).hexdigest(), 16) % 2**27 * (100.0 / (2**27 - 1))
    return "validation" if percentage < 10 else "testing" if percentage < 20 else "training"


# The same bytes

def test_neither_workers_nor_a_second_run_change_a_byte(corpus: Path, tmp_path: Path) -> None:
    again = tiny(tmp_path / "again", speakers=6, workers=1)
    assert tree_digest(again) == tree_digest(corpus)


def test_another_seed_says_it_differently_with_the_same_speakers(tmp_path: Path) -> None:
    options = {"keywords": ("go",), "words": (), "keyword_takes": 1, "speakers": 1}
    first, second = (tiny(tmp_path / str(seed), seed=seed, **options) for seed in (0, 1))
    (clip,), (other,) = ((list((folder / "go").iterdir())) for folder in (first, second))
    assert clip.name == other.name
    assert clip.read_bytes() != other.read_bytes()
    noises = [(folder / NOISE_FOLDER / "white_noise.wav").read_bytes() for folder in (first, second)]
    assert noises[0] != noises[1]


def test_generators_depend_on_all_names_and_on_nothing_else() -> None:
    def draw(*names: object) -> float:
        return acoustics.generator(*names).random()

    assert draw(0, "a", 1) == draw(0, "a", 1)
    assert len({draw(0, "a", 1), draw(0, "a", 2), draw(1, "a", 1), draw(0, "b", 1)}) == 4


def test_digest_sees_names_and_contents(tmp_path: Path) -> None:
    def digest(**files: bytes) -> str:
        folder = tmp_path / hashlib.sha1(repr(files).encode()).hexdigest()
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return tree_digest(folder)

    reference = digest(a=b"1", b=b"2")
    assert len({reference, digest(a=b"2", b=b"1"), digest(a=b"12", b=b""), digest(a=b"1", c=b"2")}) == 4
    assert digest(b=b"2", a=b"1") == reference


# What is in the folder

def test_layout_is_that_of_speech_commands(corpus: Path) -> None:
    assert {folder.name for folder in corpus.iterdir()} == {
        *KEYWORDS, *WORDS, NOISE_FOLDER, NEGATIVES_FOLDER, STREAMS_FOLDER}
    for word, takes in (("go", 2), ("turn off", 2), ("zero", 1)):
        names = [path.name for path in (corpus / word).iterdir()]
        assert all(NAME.fullmatch(name) for name in names)
        assert len(names) == 6 * takes
        assert set(Counter(name[:8] for name in names).values()) == {takes}


def test_clips_are_16_khz_mono_pcm_16_of_at_most_a_second(corpus: Path) -> None:
    for path in corpus.glob("[!_]*/*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16"), path
        assert 0.3 <= info.duration <= 1.0, path


def test_clips_are_audible_and_not_clipped(corpus: Path) -> None:
    for path in corpus.glob("[!_]*/*.wav"):
        waveform, _ = soundfile.read(path)
        assert 0.05 < np.abs(waveform).max() < 0.95, path
        assert abs(waveform.mean()) < 0.01, path


def test_words_stand_whole_in_their_clip() -> None:
    (speaker,) = (item for item in whole_cast(0) if item.voice.name == "en-GB")
    (word,) = say_words(speaker, [Utterance("seven")], seed=0)
    lengths = set()
    for take in range(40):
        rng = acoustics.generator("take", take)
        clip = acoustics.record(word, speaker.response, speaker.hiss, rng) / 32767
        reverberant = np.convolve(word, speaker.response)[:len(word)]
        match = np.correlate(clip, reverberant, "valid") / np.linalg.norm(reverberant)
        assert match.max() > 0.9 * np.linalg.norm(clip)  # the whole of it, somewhere
        lengths.add(len(clip))
    assert max(lengths) == 16_000
    assert len(lengths) > 2


def test_trim_keeps_the_word_and_drops_the_silence() -> None:
    silence, tone = np.zeros(4_000), 0.5 * np.sin(np.arange(8_000) * 0.3)
    word = acoustics.trim(np.concatenate([silence, tone, silence]))
    assert 8_000 <= len(word) <= 8_000 + 2 * 160
    assert word[0] == 0.0
    assert word[-1] == 0.0
    assert len(acoustics.trim(0.001 * tone)) == 0
    assert len(acoustics.trim(np.zeros(0))) == 0


# Speakers

def test_every_voice_variant_is_one_speaker() -> None:
    cast = list(whole_cast(0))
    variants = [speaker.voice.name.split("+")[-1] for speaker in cast]
    assert len(cast) == len({speaker.name for speaker in cast}) == len(set(variants)) >= 100
    for speaker, variant in zip(cast, variants):
        assert speaker.name == speaker_name(speaker.voice.engine, variant)


def test_the_rule_splits_the_speakers_about_80_10_10() -> None:
    sets = [which_set(speaker.name) for speaker in whole_cast(0)]
    assert sets == [speaker.part for speaker in whole_cast(0)]
    assert Counter(sets) == {"training": 79, "validation": 11, "testing": 10}
    assert len(set(sets[:10])) == 3  # as the help promises for a quick look


def test_speakers_keep_their_names_under_another_seed_and_change_their_voice() -> None:
    first, second = list(whole_cast(0)), list(whole_cast(1))
    assert [speaker.name for speaker in first] == [speaker.name for speaker in second]
    assert sum(one.speed == other.speed for one, other in zip(first, second)) == 0


def test_our_list_of_variants_is_what_the_package_has() -> None:
    import espeakng_loader

    installed = {path.name for path in (Path(espeakng_loader.get_data_path()) / "voices" / "!v").iterdir()}
    assert {*voices.ESPEAK_VARIANTS, *voices.ESPEAK_LEFT_OUT} == installed


# Noises

def noise(corpus: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> waveform [T], frequencies [F] in Hz, power density [F]."""
    waveform, rate = soundfile.read(corpus / NOISE_FOLDER / f"{name}.wav")
    return (waveform, *welch(waveform, rate, nperseg=8_000))


def test_six_noises_of_half_a_minute_or_more(corpus: Path) -> None:
    files = list((corpus / NOISE_FOLDER).iterdir())
    assert {path.stem for path in files} == set(acoustics.NOISES)
    assert len(acoustics.NOISES) == 6
    for path in files:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert 30 <= info.duration <= 60


@pytest.mark.parametrize(("colour", "db_per_octave"), [("white", 0.0), ("pink", -3.0), ("brown", -6.0)])
def test_coloured_noises_have_their_slope(corpus: Path, colour: str, db_per_octave: float) -> None:
    _, frequencies, power = noise(corpus, f"{colour}_noise")
    band = (frequencies >= 60) & (frequencies <= 3_000)
    slope = np.polyfit(np.log2(frequencies[band]), 10 * np.log10(power[band]), 1)[0]
    assert slope == pytest.approx(db_per_octave, abs=0.4)


def test_hum_is_peaked_at_the_mains_and_its_harmonics(corpus: Path) -> None:
    _, frequencies, power = noise(corpus, "mains_hum")
    for harmonic in (50, 100, 150, 300):
        between = power[frequencies == harmonic + 24][0]
        assert power[frequencies == harmonic][0] > 1_000 * between


def test_clicks_are_sparse_and_babble_is_speech_like(corpus: Path) -> None:
    clicks, _, _ = noise(corpus, "clicks")
    assert np.abs(clicks).max() > 20 * clicks.std()
    babble, frequencies, power = noise(corpus, "babble")
    assert np.abs(babble).max() < 15 * babble.std()
    assert power[(frequencies > 100) & (frequencies < 1_500)].mean() > 10 * power[frequencies > 5_000].mean()


# Running sound

SOUNDS_LIKE_ONE = "know knows write rite wright".split()  # a keyword of the default task


def test_no_sentence_has_a_keyword_or_a_word_that_sounds_like_one() -> None:
    keywords = [*load_config(ROOT / "configs/kws.yaml").data.keywords, *SOUNDS_LIKE_ONE]
    for texts in (sentences.FOR_TRAINING, sentences.FOR_TESTING):
        assert sentences.without(texts, keywords) == list(texts)
        assert len(set(texts)) == len(texts) > 45
    assert not set(sentences.FOR_TRAINING) & set(sentences.FOR_TESTING)


@pytest.mark.parametrize(("text", "keyword"), [
    ("Go!", "go"), ("It is the on-brand one.", "on"), ("Please TURN  off, now.", "turn_off"), ("He said no.", "no")])
def test_a_sentence_with_a_keyword_is_found(text: str, keyword: str) -> None:
    assert sentences.without([text, "Nobody stopped going."], [keyword]) == ["Nobody stopped going."]


def test_the_training_voices_talk_as_long_as_their_sentences_take(corpus: Path) -> None:
    training = {speaker.name for speaker in list(whole_cast(0))[:6] if speaker.part == "training"}
    files = sorted((corpus / NEGATIVES_FOLDER).iterdir())
    assert {path.name for path in files} == {f"{name}.flac" for name in training}
    for path in files:
        sound, rate = soundfile.read(path)
        assert (rate, soundfile.info(path).subtype) == (16_000, "PCM_16")
        assert 4 < len(sound) / rate < 20 and 0.05 < np.abs(sound).max() < 0.99


def test_without_sentences_that_may_be_said_nobody_talks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FOR_TRAINING", "FOR_TESTING"):
        monkeypatch.setattr(sentences, name, ("Please go.",))
    folder = tiny(tmp_path / "data", words=(), keyword_takes=1)
    assert not (folder / NEGATIVES_FOLDER).exists()
    assert [stream.keyword_free for stream in read_streams(folder / STREAMS_FOLDER)] == ["no"] * 3


def test_words_lie_in_the_streams_where_the_table_says(corpus: Path) -> None:
    streams = {stream.path: stream for stream in read_streams(corpus / STREAMS_FOLDER)}
    assert set(streams) == {"clean.flac", "noise-20db.flac", "noise-10db.flac", "talk.flac"}
    assert (streams["talk.flac"].keyword_free, streams["talk.flac"].events) == ("yes", ())
    for stream in streams.values():
        sound, rate = soundfile.read(corpus / STREAMS_FOLDER / stream.path)
        assert rate == 16_000 and len(sound) / rate == pytest.approx(stream.seconds, abs=0.001)
    for name, above_db in (("clean.flac", 49), ("noise-20db.flac", 20), ("noise-10db.flac", 10)):
        events = streams[name].events
        assert Counter(event.word == "_unknown_" for event in events) == {False: 5, True: 2}
        assert {event.word for event in events} == {*KEYWORDS, "_unknown_"}
        sound, _ = soundfile.read(corpus / STREAMS_FOLDER / name)
        said = np.zeros(len(sound), dtype=bool)
        for event in events:
            assert event.voice_end_seconds == event.end_seconds
            start, end = (round(seconds * 16_000) for seconds in (event.start_seconds, event.end_seconds))
            assert not said[max(start - 8_000, 0):end].any()  # half a second apart
            said[start:end] = True
        after = np.convolve(said, np.ones(4_001), "full")[:len(said)] > 0.5  # rooms die away in a quarter of a second
        level, noise = (np.sqrt(np.square(sound[part]).mean()) for part in (said, ~after))
        expected = 10 * np.log10(1 + 10 ** (above_db / 10))
        assert 20 * np.log10(level / noise) == pytest.approx(expected, abs=2.5)


def test_flac_is_written_without_floating_point(tmp_path: Path) -> None:
    sound = (8_000 * np.sin(np.arange(16_000) * 0.05)).astype(np.int16)
    acoustics.write(tmp_path / "a.flac", sound)
    content = (tmp_path / "a.flac").read_bytes()
    assert soundfile.read(tmp_path / "a.flac", dtype="int16")[0].tolist() == sound.tolist()
    for level, same in ((0.0, True), (None, False)):  # the least effort, and the usual one
        soundfile.write(tmp_path / "b.flac", sound, 16_000, subtype="PCM_16", compression_level=level)
        assert ((tmp_path / "b.flac").read_bytes() == content) == same


# Voices

@pytest.mark.parametrize("voice", [Voice(ESPEAK, "en-us+f2"), Voice(PICO, "en-US")])
def test_a_fresh_process_says_the_same_again(voice: Voice) -> None:
    words = [Utterance("yes"), Utterance("yes", speed=1.5), Utterance("yes", pitch=1.3)]
    first, second = pronounce(voice, words, seed=1), pronounce(voice, words, seed=1)
    assert first == second
    assert len(set(first)) == 3
    assert len(first[1]) < len(first[0])


def test_what_lay_in_memory_does_not_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [Utterance(word) for word in "yes no no bed seven".split()]
    before = pronounce(Voice(PICO, "en-US"), words, seed=0)
    monkeypatch.setenv("PYTHONMALLOC", "malloc")  # the engine's memory comes from other places
    assert pronounce(Voice(PICO, "en-US"), words, seed=0) == before
    assert before[1] == before[2]


def test_espeak_noise_has_a_seed() -> None:
    whisper = Voice(ESPEAK, "en-us+whisperf")
    assert pronounce(whisper, [Utterance("yes")], seed=1) != pronounce(whisper, [Utterance("yes")], seed=2)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_espeak_is_never_loaded_into_our_process(corpus: Path) -> None:
    assert corpus.exists()
    assert "espeak-ng.so" not in Path("/proc/self/maps").read_text()
    assert "py_nanotts" not in sys.modules


def test_a_voice_that_does_not_exist_is_named() -> None:
    with pytest.raises(DataError, match=r"'xx\+nobody'.*no such voice") as caught:
        pronounce(Voice(ESPEAK, "xx+nobody"), [Utterance("yes")], seed=0)
    assert caught.value.code == "voice_failed"


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "_PACKAGES", {ESPEAK: "no_such_espeak", PICO: "py_nanotts"})
    with pytest.raises(DataError, match="no_such_espeak.*pip install espeakng-loader.* py-nanotts") as caught:
        tiny(tmp_path / "data")
    assert caught.value.code == "missing_voices"
    assert list(tmp_path.iterdir()) == []


# Words

@pytest.mark.parametrize("word", ["", " ", "!!!", "../go", "a/b", "_silence_", ".go", "go.", "go\n"])
def test_words_that_cannot_be_a_folder_are_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(DataError) as caught:
        tiny(tmp_path / "data", keywords=(word,))
    assert caught.value.code == "bad_word"


@pytest.mark.parametrize(("word", "code"), [
    ("日本", "word_not_spoken"),
    ("turn on all of the lights in the whole house and in the garden", "word_too_long"),
])
def test_words_that_give_no_clip_are_named_and_leave_nothing(tmp_path: Path, word: str, code: str) -> None:
    with pytest.raises(DataError, match=word) as caught:
        tiny(tmp_path / "data", keywords=("go", word))
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_long_word_is_said_faster_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[Utterance]] = []
    original = voices.pronounce

    def spy(voice: Voice, utterances: list[Utterance], seed: int) -> list[bytes]:
        asked.append(utterances)
        return original(voice, utterances, seed)

    monkeypatch.setattr(voices, "pronounce", spy)
    speaker = next(whole_cast(0))
    words = [Utterance("go"), Utterance("supercalifragilistic", speed=0.7)]
    spoken = say_words(speaker, words, seed=0)
    assert [[item.text for item in batch] for batch in asked][:2] == [
        ["go", "supercalifragilistic"], ["supercalifragilistic"]]
    assert asked[1][0].speed > asked[0][1].speed
    assert all(0 < len(word) <= 14_400 for word in spoken)


@pytest.mark.parametrize("wrong", [{"keyword_takes": 0}, {"word_takes": -1}, {"speakers": 0}, {"workers": 0}])
def test_numbers_below_one_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match="expected 1 or more"):
        tiny(tmp_path / "data", **wrong)


def test_a_keyword_among_the_other_words_gets_the_takes_of_a_keyword(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "data", keywords=("go",), words=("go",), speakers=1)
    assert len(list((folder / "go").iterdir())) == 2


# Whole or not at all

@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_halfway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          failure: BaseException) -> None:
    original, count = acoustics.write, Counter[str]()

    def fail(path: Path, samples: np.ndarray) -> None:
        count["writes"] += 1
        if count["writes"] > 7:
            raise failure
        original(path, samples)

    monkeypatch.setattr(acoustics, "write", fail)
    with pytest.raises(type(failure)):
        tiny(tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_nothing_and_nobody(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/synthesize.py", str(tmp_path / "data"), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".data.*/*/*.wav")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=120)
    assert (process.returncode, message) == (130, "error: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "go").mkdir()
    (tmp_path / "go" / "mine.wav").write_bytes(b"mine")
    with pytest.raises(DataError, match="not empty.*--force") as caught:
        tiny(tmp_path)
    assert caught.value.code == "folder_not_empty"
    with pytest.raises(DataError, match="mine.wav: not a synthetic clip"):
        tiny(tmp_path, overwrite=True)
    assert (tmp_path / "go" / "mine.wav").read_bytes() == b"mine"


def test_force_replaces_a_synthetic_corpus(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "data", speakers=1)
    tiny(folder, speakers=1, words=(), overwrite=True)
    assert {item.name for item in folder.iterdir()} == {*KEYWORDS, NOISE_FOLDER, NEGATIVES_FOLDER}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(DataError, match="is a file"):
        tiny(tmp_path / "data", overwrite=True)


# The command

def test_the_command_reports_one_line(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    arguments = [str(folder), *"--keywords lights fan --words zero --takes 2 1 --speakers 2".split()]
    assert main(["synthesize", *arguments]) == 0
    report = rf"{folder}: 10 clips, 2 speakers, 3 words, \d+ s, sha256 {tree_digest(folder)}\n"
    assert re.fullmatch(report, capsys.readouterr().out)
    assert main(["synthesize", *arguments]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.slow
def test_the_default_corpus_is_the_same_everywhere(tmp_path: Path) -> None:
    for workers in (1, 3):
        assert synthesize(tmp_path / str(workers), workers=workers) == 10_000
        assert tree_digest(tmp_path / str(workers)) == DEFAULT_DIGEST
