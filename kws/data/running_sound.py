"""Running sound to train on: keywords said into noise and talk, and hours in which none is said.

A clip of one word never shows what a detector hears most: sentences, music, and the beginnings and ends of words.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np
import soxr
from scipy import signal

from kws.model.window import FULL_SCALE

_LEVEL_DB = -25.0  # of what is in front, of its active moments, before the whole is made louder or quieter
_ACTIVE_DB = 25.0  # below the loudest moment, down to which a moment counts as active
_BLOCK_SECONDS = 0.02
_QUIETEST = 1e-3  # active level below which a clip holds no voice
_HUSHED = 0.15  # of compositions in which what is behind the words stops for them
_IN_ROOM = 0.25  # of compositions


@dataclass(frozen=True)
class Spoken:
    """A keyword in a composition: its index, and where the voice begins and ends, in seconds."""

    keyword: int
    start: float
    end: float


@dataclass(frozen=True)
class Sources:
    """What compositions are made of, int16 samples.

    Args:
        keywords: for each keyword its clips, [N, T].
        others: for each other word its clips, [N, T]; words are drawn by the root of how many clips they have.
            Without any, noise stands in for them. Every keyword, and one of them, has a clip with a voice.
        speech: recordings of minutes without a keyword, [T'] each; drawn by length; without any, rows of
            other words stand in for them.
        backgrounds: recordings of noise, hums and music, [T'] each; equally likely.
        rooms: impulse responses, [R] each, of rooms that some compositions are heard in; may be none.
        shares: [K] of the keywords, how often each is drawn, of sum 1; None: alike.
    """

    keywords: Sequence[np.ndarray]
    others: Sequence[np.ndarray]
    speech: Sequence[np.ndarray]
    backgrounds: Sequence[np.ndarray]
    rooms: Sequence[np.ndarray] = ()
    shares: Optional[np.ndarray] = None


class Composer:
    """Composes running sound at random.

    Args:
        sources: what of.
        sample_rate: Hz.
        seconds: of a composition.
        keyword_share: of compositions in which keywords are said.
        speed: largest relative change of speed, each way.
        snr_db: range of a word's level over its background.
    """

    def __init__(self, sources: Sources, sample_rate: int, seconds: float, keyword_share: float = 0.68,
                 speed: float = 0.13, snr_db: tuple[float, float] = (0.0, 30.0)) -> None:
        self._sources, self._rate, self._size = sources, sample_rate, round(seconds * sample_rate)
        self._share, self._speed, self._snr_db = keyword_share, speed, snr_db
        lengths = np.array([len(recording) for recording in sources.speech], dtype=np.float64)
        self._speech_weights = lengths / max(lengths.sum(), 1.0)
        counts = np.sqrt([len(clips) for clips in sources.others])
        self._other_weights = counts / counts.sum()

    def compose(self, rng: np.random.Generator) -> tuple[np.ndarray, list[Spoken]]:
        """Draw a composition: [T] float32 in -1..1 and the keywords in it, in order."""
        spoken: list[Spoken] = []
        if rng.random() < self._share:
            sound = self._bed(rng)
            spoken = self._say_words(sound, rng)
        else:
            sound = self._without_keywords(rng)
        if self._sources.rooms and rng.random() < _IN_ROOM:
            response = self._sources.rooms[int(rng.integers(len(self._sources.rooms)))]
            sound = signal.oaconvolve(sound, response)[:self._size]
        sound = _tilted(sound, rng, 0.3) * 10 ** (rng.uniform(-18, 8) / 20)
        return sound.clip(-1, 1).astype(np.float32), spoken

    def _bed(self, rng: np.random.Generator) -> np.ndarray:
        """What words are said into: near silence, noise, or somebody else's talk, perhaps in noise."""
        kind = rng.random()
        if kind < 0.25:
            return self._at(self._background(rng), rng.uniform(-85, -50))
        over = self._background(rng) if kind < 0.6 else self._talk(rng)
        sound = self._at(over, _LEVEL_DB - rng.uniform(*self._snr_db))
        return sound + self._behind(rng) if rng.random() < 0.2 else sound

    def _behind(self, rng: np.random.Generator) -> np.ndarray:
        return self._at(self._background(rng), _LEVEL_DB - rng.uniform(10, 30))

    def _without_keywords(self, rng: np.random.Generator) -> np.ndarray:
        """Talk, chains of other words and of halves of them, or no speech at all, at times over noise or more talk."""
        kind = rng.random()
        if kind < 0.18:
            sound = self._chain(rng)
        else:
            sound = self._background(rng) if kind < 0.28 else self._talk(rng)
        sound = self._at(sound, _LEVEL_DB)
        if rng.random() < 0.35:
            behind = self._background(rng) if rng.random() < 0.75 else self._talk(rng)
            sound = sound + self._at(behind, _LEVEL_DB - rng.uniform(0, 25))
        return sound

    def _say_words(self, sound: np.ndarray, rng: np.random.Generator) -> list[Spoken]:
        """Add words to a sound, in place, one after the other; return the keywords."""
        spoken: list[Spoken] = []
        hurried, hushed = rng.random() < 0.5, rng.random() < _HUSHED
        start = int(rng.uniform(0, 1) * self._rate)
        while True:
            keyword = self._keyword(rng) if rng.random() < 0.78 or not self._sources.others else None
            word, first, last = self._word(keyword, rng)
            if start + len(word) > self._size:
                return spoken
            if hushed:
                self._hush(sound, start, start + len(word), rng)
            sound[start:start + len(word)] += word
            if keyword is not None:
                spoken.append(Spoken(keyword, start / self._rate + first, start / self._rate + last))
            start += len(word) + int(rng.uniform(*((0, 0.3) if hurried else (0.3, 1.6))) * self._rate)

    def _keyword(self, rng: np.random.Generator) -> int:
        count, shares = len(self._sources.keywords), self._sources.shares
        return int(rng.integers(count) if shares is None else rng.choice(count, p=shares))

    def _hush(self, sound: np.ndarray, start: int, end: int, rng: np.random.Generator) -> None:
        """Let what is behind a word stop around it, in place, as a speaker does who says it in a sentence."""
        before, after = (rng.uniform(0.02, 0.3, size=2) * self._rate).astype(int)
        first, last = max(start - before, 0), min(end + after, self._size)
        ramp, gain = self._rate // 100, 10 ** (rng.uniform(-60, -20) / 20)
        sound[first:last] *= np.interp(np.arange(first, last), [first, first + ramp, last - ramp, last],
                                       [1, gain, gain, 1]).astype(np.float32)

    def _chain(self, rng: np.random.Generator) -> np.ndarray:
        """Say other words in a row, and halves of them; where there are none, this is noise."""
        if not self._sources.others:
            return self._background(rng)
        sound, start = np.zeros(self._size, dtype=np.float32), 0
        while True:
            word, _, _ = self._word(None, rng)
            if rng.random() < 0.3:
                cut = int(len(word) * rng.uniform(0.3, 0.7))
                word = word[:cut] if rng.random() < 0.5 else word[cut:]
            if start + len(word) > self._size:
                return sound
            sound[start:start + len(word)] += word
            start = max(start + len(word) + int(rng.uniform(-0.25, 0.1) * self._rate), 0)

    def _word(self, keyword: int | None, rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
        """Draw a clip of a keyword, or of another word: samples, and where its voice begins and ends in seconds."""
        voice = None
        while voice is None:
            clips = self._sources.keywords[keyword] if keyword is not None else \
                self._sources.others[int(rng.choice(len(self._sources.others), p=self._other_weights))]
            voice = _voice_of(clips[rng.integers(len(clips))], self._rate)
        word = _tilted(self._warped(voice, rng), rng, 0.4)
        active, level = _active(word, self._rate)
        ramp = np.linspace(0, 1, self._rate // 100, dtype=np.float32)
        word[:len(ramp)] *= ramp
        word[-len(ramp):] *= ramp[::-1]
        gain = min(10 ** (_LEVEL_DB / 20) / level, 10.0)
        return word * np.float32(gain), active[0] * _BLOCK_SECONDS, (active[-1] + 1) * _BLOCK_SECONDS

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        recordings = self._sources.backgrounds
        return self._cut(recordings[int(rng.integers(len(recordings)))], self._size, rng)

    def _talk(self, rng: np.random.Generator) -> np.ndarray:
        recordings = self._sources.speech
        if not recordings:
            return self._chain(rng)
        recording = recordings[int(rng.choice(len(recordings), p=self._speech_weights))]
        spare = int(self._size * (1 + self._speed)) + 2
        warped = self._warped(self._cut(recording, spare, rng), rng)
        return _tilted(warped[:self._size] if len(warped) >= self._size
                       else np.pad(warped, (0, self._size - len(warped))), rng, 0.5)

    def _cut(self, recording: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        start = int(rng.integers(max(len(recording) - size, 0) + 1))
        return np.resize(recording[start:start + size], size) / np.float32(FULL_SCALE)

    def _warped(self, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Play it faster or slower, rate and pitch together, band-limited."""
        percent = 100 + round(100 * rng.uniform(-self._speed, self._speed))
        return soxr.resample(sound.astype(np.float32, copy=False), percent, 100, quality="MQ")

    def _at(self, sound: np.ndarray, level_db: float) -> np.ndarray:
        """Bring the active level of a sound to dB of full scale."""
        return sound * np.float32(10 ** (level_db / 20) / max(_active(sound, self._rate)[1], 1e-5))


def has_voice(clips: np.ndarray, sample_rate: int) -> bool:
    """Tell whether a clip of [N, T] int16 has 0.1 s of sound, of -60 dB of full scale or more where it is active."""
    return any(_voice_of(clip, sample_rate) is not None for clip in clips)


def _voice_of(clip: np.ndarray, sample_rate: int) -> Optional[np.ndarray]:
    """Cut a clip [T] int16 from its first to its last sound, as float32 in -1..1; None if it holds no voice."""
    sounds = np.flatnonzero(clip)
    if len(sounds) < sample_rate // 10:
        return None
    voice = clip[sounds[0]:sounds[-1] + 1] / np.float32(FULL_SCALE)
    return voice if _active(voice, sample_rate)[1] > _QUIETEST else None


def _active(sound: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float]:
    """Find the active blocks of a sound, and their level."""
    size = round(_BLOCK_SECONDS * sample_rate)
    levels = np.sqrt(np.square(sound[:len(sound) // size * size].reshape(-1, size)).mean(axis=1))
    if not len(levels):
        return np.empty(0, dtype=np.int64), 0.0
    active = np.flatnonzero(levels >= levels.max() * 10 ** (-_ACTIVE_DB / 20))
    return active, float(np.sqrt(np.square(levels[active]).mean()))


def _tilted(sound: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Brighten or dull some sounds, as microphones and rooms do."""
    if rng.random() >= share:
        return sound
    return sound - np.float32(rng.uniform(-0.5, 0.5)) * np.concatenate([[np.float32(0)], sound[:-1]])
