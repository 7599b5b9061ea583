"""Talk in which no keyword is said: what a detector hears most of the time."""
from __future__ import annotations

from concurrent.futures import Executor
from typing import Iterator, Sequence

import numpy as np

from kws.corpus import acoustics, voices
from kws.corpus.cast import Speaker, engine_seed
from kws.corpus.voices import Utterance


def talk(speaker: Speaker, sentences: Sequence[str], seed: int) -> np.ndarray:
    """Have somebody say sentences, one after the other, in the speaker's room.

    Args:
        speaker: who talks.
        sentences: one or more.
        seed: of all variation.
    Returns:
        [T] int16.
    """
    rng = acoustics.generator(seed, speaker.name, "talk")
    utterances = [Utterance(text, speed=speaker.speed * rng.uniform(0.9, 1.15),
                            pitch=speaker.pitch * rng.uniform(0.9, 1.1)) for text in sentences]
    spoken = voices.pronounce(speaker.voice, utterances, engine_seed(seed, speaker.name))
    trimmed = [acoustics.trim(acoustics.resample(samples, *speaker.ratio)) for samples in spoken]
    return acoustics.record_talk(trimmed, speaker.response, speaker.hiss, rng)


def talks(cast: Sequence[Speaker], sentences: Sequence[str], count: int, seed: int,
          executor: Executor) -> Iterator[np.ndarray]:
    """Have everybody of a cast say `count` sentences: [T] int16 each, in order; none if there are no sentences."""
    return executor.map(lambda job: talk(job[1], share(sentences, job[0], count), seed),
                        enumerate(cast if sentences else ()))


def share(texts: Sequence[str], number: int, count: int) -> list[str]:
    """Deal out sentences or words to speakers, `count` to each, all of them in turn; [] if there are none."""
    return [texts[(number * count + index) % len(texts)] for index in range(count)] if texts else []
