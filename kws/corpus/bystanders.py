"""Voices that say anything but a user's keywords, for a user who recorded nothing else."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Sequence

import numpy as np

from kws.corpus import sentences, voices
from kws.corpus.cast import Speaker, say_words, whole_cast
from kws.corpus.synthesis import KEYWORDS, OTHER_WORDS
from kws.corpus.talk import share, talk
from kws.corpus.voices import Utterance
from kws.inference.cores import available_cores
from kws.model.labels import normal

_SENTENCES = 3  # by each voice
_WORDS = 12
_FULL_SCALE = 32767


def bystanders(keywords: Sequence[str], count: int, num_samples: int,
               seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Have synthetic voices say other words, and talk; the same for the same seed.

    Args:
        keywords: that nobody says.
        count: of voices.
        num_samples: T of a clip of one word.
        seed: of all variation.
    Returns:
        clips of words by each voice, [N, T] int16, and talk by each voice, [T'] int16, at 16 kHz.
    Raises:
        DataError: "missing_voices" if the speech engines are not installed.
    """
    voices.check_installed()
    words = [word for word in (*KEYWORDS, *OTHER_WORDS) if word not in set(map(normal, keywords))]
    texts = sentences.without(sentences.FOR_TRAINING, keywords)
    cast = list(whole_cast(seed))[:count]
    with ThreadPoolExecutor(available_cores()) as executor:  # a thread per process of a voice
        said = list(executor.map(lambda speaker: _say(speaker, words, num_samples, seed), cast))
        talked = list(executor.map(lambda job: talk(job[1], share(texts, job[0], _SENTENCES), seed),
                                   enumerate(cast if texts else ())))
    return said, talked


def _say(speaker: Speaker, words: Sequence[str], num_samples: int, seed: int) -> np.ndarray:
    chosen = np.random.default_rng([seed, int(speaker.name, 16)]).permutation(list(words))[:_WORDS]
    spoken = say_words(speaker, [Utterance(str(word), speaker.speed, speaker.pitch) for word in chosen], seed)
    clips = [(word / max(np.abs(word).max(), 1e-6) * 0.5 * _FULL_SCALE).astype(np.int16)[:num_samples]
             for word in spoken]
    return np.stack([np.pad(clip, (0, num_samples - len(clip))) for clip in clips])
