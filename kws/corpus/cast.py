"""The speakers of the synthetic corpus: who they are, and how they say a word.

One voice variant is one speaker, with an accent, a rate, a pitch, a vocal tract (by resampling), a room and a
microphone of its own. No variant has a second speaker, so none can be on both sides of a split.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Iterator, Sequence

import numpy as np

from kws.corpus import acoustics, voices
from kws.corpus.engines import ESPEAK, PICO
from kws.corpus.voices import Utterance, Voice
from kws.errors import DataError

TRAINING, VALIDATION, TESTING = "training", "validation", "testing"
# Where the data set's rule on the names puts the variants; all others train.
_PARTS = {
    **dict.fromkeys("Denis david edward f4 iven2 klatt klatt4 klatt6 m2 m4 travis".split(), VALIDATION),
    **dict.fromkeys("Alex anikaRobot f1 michel norbert robosoft2 robosoft3 steph2 victor whisperf".split(), TESTING)}
_LONGEST_WORD = 14_400  # samples, 0.9 s: a clip of one second leaves a word some room to move
_HURRY = 1.25  # times faster, each time that a word is longer than that
_MAX_ATTEMPTS = 7  # up to 3.8 times as fast; engines go no further than about 2.6 times
# To 16 kHz from 22.05 and from 16, and 8 % (Pico: 9 %) less .. 10 % more: a shorter .. a longer vocal tract.
_ESPEAK_RATIOS = ((2, 3), (9, 13), (7, 10), (5, 7), (8, 11), (11, 15), (3, 4), (7, 9), (4, 5))
_PICO_RATIOS = ((10, 11), (1, 1), (11, 10))


@dataclass(frozen=True)
class Speaker:
    """A voice and everything about its recordings that stays the same from clip to clip.

    Args:
        name: 8 hexadecimal digits.
        voice: who speaks.
        speed, pitch: times the usual speed and pitch of the engine.
        ratio: (up, down), of the rates: from the engine's to ours, and a little beside it.
        response: [R] float64, room and microphone.
        hiss: 0..1, colour of the noise floor.
        part: "training", "validation" or "testing": the split that the name falls into.
    """

    name: str
    voice: Voice
    speed: float
    pitch: float
    ratio: tuple[int, int]
    response: np.ndarray
    hiss: float
    part: str


def speaker_name(engine: str, variant: str) -> str:
    """Name the speaker of a voice variant."""
    return hashlib.sha1(f"{engine}/{variant}".encode()).hexdigest()[:8]


def variants() -> Iterator[tuple[str, str]]:
    """List all speakers: engine and variant."""
    yield from ((PICO, variant) for variant in voices.PICO_VOICES)  # first: it is the one that refuses words
    yield from ((ESPEAK, variant) for variant in voices.ESPEAK_VARIANTS)


def whole_cast(seed: int) -> Iterator[Speaker]:
    """Draw the speakers of a seed."""
    for engine, variant in variants():
        rng = acoustics.generator(seed, engine, variant)
        # Half of the variants speak American, the others any of the other accents; Pico has its own.
        accents = (voices.ESPEAK_ACCENTS[0],) * 7 + voices.ESPEAK_ACCENTS[1:]
        accent = accents[rng.integers(len(accents))]
        ratios = _ESPEAK_RATIOS if engine == ESPEAK else _PICO_RATIOS
        yield Speaker(name=speaker_name(engine, variant),
                      voice=Voice(engine, f"{accent}+{variant}" if engine == ESPEAK else variant),
                      speed=rng.uniform(0.7, 1.05), pitch=rng.uniform(0.8, 1.2),
                      ratio=ratios[rng.integers(len(ratios))], response=acoustics.room_response(rng),
                      hiss=rng.uniform(0.0, 0.95), part=_PARTS.get(variant, TRAINING))


def utterance(speaker: Speaker, word: str, rng: np.random.Generator) -> Utterance:
    """Draw how a speaker says a word this time."""
    return Utterance(word.replace("_", " "), speed=speaker.speed * rng.uniform(0.88, 1.12),
                     pitch=speaker.pitch * rng.uniform(0.9, 1.1))


def say_words(speaker: Speaker, utterances: Sequence[Utterance], seed: int) -> list[np.ndarray]:
    """Have everything said; what is too long for a clip is said again, faster, never cut.

    Returns:
        per utterance [T] float64 in -1..1, 0 < T <= _LONGEST_WORD.
    """
    spoken: dict[int, np.ndarray] = {}
    for attempt in range(_MAX_ATTEMPTS):
        waiting = [index for index in range(len(utterances)) if index not in spoken]
        if not waiting:
            break
        faster = [Utterance(item.text, item.speed * _HURRY ** attempt, item.pitch)
                  for item in (utterances[index] for index in waiting)]
        answers = voices.pronounce(speaker.voice, faster, engine_seed(seed, speaker.name))
        for index, answer in zip(waiting, answers):
            word = acoustics.trim(acoustics.resample(answer, *speaker.ratio))
            if len(word) == 0:
                raise DataError(f"word '{utterances[index].text}': the {speaker.voice.engine} voice "
                                f"'{speaker.voice.name}' says nothing; expected an English word",
                                "word_not_spoken")
            if len(word) <= _LONGEST_WORD:
                spoken[index] = word
    if len(spoken) < len(utterances):
        text = next(item.text for index, item in enumerate(utterances) if index not in spoken)
        seconds = _LONGEST_WORD / acoustics.SAMPLE_RATE
        raise DataError(f"word '{text}': longer than {seconds:g} s however fast it is said; clips last 1 s. "
                        "Choose a shorter one", "word_too_long")
    return [spoken[index] for index in range(len(utterances))]


def engine_seed(seed: int, name: str) -> int:
    """Draw the seed of an engine that speaks for somebody."""
    return int(acoustics.generator(seed, "engine", name).integers(2 ** 31))
