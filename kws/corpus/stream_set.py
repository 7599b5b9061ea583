"""Running sound to measure a detector on: talk without a keyword, and words in noise, with tables of what is said.

The form is that of `kws evaluate-streams`. Only voices speak that the data set's rule tests on.
"""
from __future__ import annotations

import csv
import math
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

import numpy as np
from scipy import signal

from kws.corpus import acoustics, sentences
from kws.corpus.acoustics import SAMPLE_RATE
from kws.corpus.cast import Speaker, say_words, utterance
from kws.corpus.talk import share, talks
from kws.model.labels import UNKNOWN

_TALK = "talk.flac"
# Name of a stream, and how many dB its words are above the noise; None: near silence.
_CONDITIONS: tuple[tuple[str, Optional[float]], ...] = (
    ("clean.flac", None), ("noise-20db.flac", 20.0), ("noise-10db.flac", 10.0))
FILES = ("manifest.csv", "events.csv", _TALK, *(name for name, _ in _CONDITIONS))
_SENTENCES = 10  # by each speaker
_KEYWORDS, _OTHERS = 5, 2  # in each condition by each speaker
_GAPS = (0.6, 1.7)  # s, between words
_LEVEL, _SILENCE = 0.05, 0.00018  # of words (-26 dB of full scale), and of near silence (-75 dB)


@dataclass(frozen=True)
class _Said:
    """A word as it arrives: its name in the table, [T] float64 and the samples until the voice ends."""

    name: str
    sound: np.ndarray
    length: int


@dataclass(frozen=True)
class _Event:
    """A word in a stream; start and end of the voice in samples."""

    stream: str
    name: str
    start: int
    end: int


def write_streams(folder: Path, cast: Sequence[Speaker], keywords: Sequence[str], others: Sequence[str],
                  babblers: Sequence[np.ndarray], seed: int, executor: Executor) -> None:
    """Write the streams and their tables; nothing if there is nobody to speak.

    Args:
        folder: to make.
        cast: who speaks: half a minute of talk and 12 s of words in each condition by each.
        keywords: words to spot.
        others: other words, which the tables call `_unknown_`.
        babblers: see `acoustics.background_noises`.
        seed: of all variation.
        executor: has the voices speak.
    """
    if not cast:
        return
    texts = sentences.without(sentences.FOR_TESTING, keywords)
    talking = talks(cast, texts, _SENTENCES, seed, executor)
    words = executor.map(lambda job: _say(job[1], job[0], keywords, others, seed), enumerate(cast))
    said = list(words)  # by speaker and condition
    lengths, events = {}, []
    for index, (name, snr_db) in enumerate(_CONDITIONS):
        rng = acoustics.generator(seed, folder.name, name)
        sound, found = _stream(name, [word for speaker in said for word in speaker[index]], snr_db, babblers, rng)
        acoustics.write(folder / name, sound)
        lengths[name] = len(sound)
        events += found
    if texts:
        sound = np.concatenate(list(talking))
        acoustics.write(folder / _TALK, sound)
        lengths[_TALK] = len(sound)
    _write_tables(folder, lengths, events)


def _say(speaker: Speaker, number: int, keywords: Sequence[str], others: Sequence[str],
         seed: int) -> list[list[_Said]]:
    """Have somebody say the words of all conditions, other ones in each."""
    rng = acoustics.generator(seed, speaker.name, "words of streams")
    names, utterances = [], []
    for condition in range(len(_CONDITIONS)):
        turn = number + condition
        chosen = [*share(keywords, turn, _KEYWORDS), *share(others, turn, _OTHERS)]
        names.append([UNKNOWN if word in others else word for word in chosen])
        utterances += [utterance(speaker, word, rng) for word in chosen]
    spoken = iter(say_words(speaker, utterances, seed))
    return [[_heard(name, next(spoken), speaker) for name in condition] for condition in names]


def _heard(name: str, word: np.ndarray, speaker: Speaker) -> _Said:
    wet = signal.fftconvolve(word, speaker.response)
    return _Said(name, wet * (_LEVEL / _rms(wet[:len(word)])), len(word))


def _stream(name: str, words: Sequence[_Said], snr_db: Optional[float], babblers: Sequence[np.ndarray],
            rng: np.random.Generator) -> tuple[np.ndarray, list[_Event]]:
    """Put words into noise, in any order: [T] int16 and where they are."""
    start, events, placed = _gap(rng), [], []
    for index in rng.permutation(len(words)):
        word = words[index]
        events.append(_Event(name, word.name, start, start + word.length))
        placed.append((start, word.sound))
        start += word.length + _gap(rng)
    length = max(start, placed[-1][0] + len(placed[-1][1]))
    if snr_db is None:
        sound = _SILENCE * _to_rms(acoustics.gaussian_noise(rng, length))
    else:
        sound = _LEVEL * 10 ** (-snr_db / 20) * _noises(babblers, length, rng)
    for begin, waveform in placed:
        sound[begin:begin + len(waveform)] += waveform
    return acoustics.to_int16(np.clip(sound, -1.0, 1.0)), events


def _gap(rng: np.random.Generator) -> int:
    return round(rng.uniform(*_GAPS) * SAMPLE_RATE)


def _noises(babblers: Sequence[np.ndarray], length: int, rng: np.random.Generator) -> np.ndarray:
    """Make [length] of all kinds of background noise in turn, of an RMS of 1."""
    seconds = length / SAMPLE_RATE / len(acoustics.NOISES) + 0.1
    kinds = acoustics.background_noises(babblers, seconds, rng).values()
    return np.concatenate([_to_rms(kind / 32767.0) for kind in kinds])[:length]


def _to_rms(waveform: np.ndarray) -> np.ndarray:
    return waveform / _rms(waveform)


def _rms(waveform: np.ndarray) -> float:
    return math.sqrt(math.fsum(np.square(waveform)) / len(waveform))  # fsum: exact, in whatever order


def _write_tables(folder: Path, lengths: dict[str, int], events: Sequence[_Event]) -> None:
    manifest, said = FILES[:2]
    with open(folder / manifest, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "seconds", "kind", "language", "keyword_free"))
        for name, length in lengths.items():
            kind, free = ("speech", "yes") if name == _TALK else ("mixed", "no")
            table.writerow((name, f"{length / SAMPLE_RATE:.3f}", kind, "en", free))
    with open(folder / said, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("stream", "start_s", "end_s", "word", "voice_end_s"))
        table.writerows((event.stream, f"{event.start / SAMPLE_RATE:.3f}", f"{event.end / SAMPLE_RATE:.3f}",
                         event.name, f"{event.end / SAMPLE_RATE:.3f}") for event in events)
