"""A deterministic corpus of synthetic speech commands in the layout of Google Speech Commands.

One voice variant is one speaker, with an accent, a rate, a pitch, a vocal tract (by resampling), a room and a
microphone of its own. No variant has a second speaker, so none can be on both sides of a split. A speaker's
name, eight hexadecimal digits, depends on the variant alone: the dataset's SHA-1 rule splits the corpus
79/11/10, the same way for every seed and list of words, and no validation or testing list is needed.
"""
from __future__ import annotations

import hashlib
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence

import numpy as np
from tqdm import tqdm

from kws.audio.folders import NOISE_FOLDER
from kws.corpus import acoustics, voices
from kws.corpus.voices import ESPEAK, PICO, Utterance, Voice
from kws.errors import DataError
from kws.files.atomic import atomic_folder
from kws.inference.cores import available_cores

KEYWORDS = tuple("yes no up down left right on off stop go".split())
OTHER_WORDS = tuple("bed bird cat dog eight five four happy house marvin nine one seven sheila six three "
                    "tree two wow zero backward follow forward learn visual".split())
NOISE_SECONDS = 40.0

_LONGEST_WORD = 14_400  # samples, 0.9 s: a clip of one second leaves a word some room to move
_HURRY = 1.25  # times faster, each time that a word is longer than that
_MAX_ATTEMPTS = 7  # up to 3.8 times as fast; engines go no further than about 2.6 times
# To 16 kHz from 22.05 and from 16, and 8 % (Pico: 9 %) less .. 10 % more: a shorter .. a longer vocal tract.
_ESPEAK_RATIOS = ((2, 3), (9, 13), (7, 10), (5, 7), (8, 11), (11, 15), (3, 4), (7, 9), (4, 5))
_PICO_RATIOS = ((10, 11), (1, 1), (11, 10))
_BABBLE = ("Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut "
           "labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco "
           "laboris nisi ut aliquip ex ea commodo consequat. Duis aute irure dolor in reprehenderit in "
           "voluptate velit esse cillum dolore.")

logger = logging.getLogger(__name__)


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
    """

    name: str
    voice: Voice
    speed: float
    pitch: float
    ratio: tuple[int, int]
    response: np.ndarray
    hiss: float


def synthesize(destination: Path, keywords: Sequence[str] = KEYWORDS, words: Sequence[str] = OTHER_WORDS,
               keyword_takes: int = 5, word_takes: int = 2, speakers: Optional[int] = None, seed: int = 0,
               workers: Optional[int] = None, overwrite: bool = False) -> int:
    """Fill a folder with `<word>/<speaker>_nohash_<take>.wav` and six noises, whole or not at all.

    Args:
        destination: folder to make.
        keywords: words to spot, each said `keyword_takes` times by every speaker.
        words: other words, each said `word_takes` times; those that are keywords are ignored here.
        keyword_takes, word_takes: takes of a word by a speaker.
        speakers: only the first so many speakers, for a quick try (10 are enough to have all three splits).
        seed: of all variation; the speakers' names do not depend on it.
        workers: voices at a time, all processors if None; has no influence on the result.
        overwrite: replace a corpus that was made by this function.
    Returns:
        number of word clips.
    Raises:
        DataError: "missing_voices", "folder_not_empty", "bad_word", "word_not_spoken", "word_too_long",
            "voice_failed", "bad_number".
    """
    takes = {**dict.fromkeys(words, word_takes), **dict.fromkeys(keywords, keyword_takes)}
    _check_words(takes)
    for number in (keyword_takes, word_takes, speakers, workers):
        if number is not None and number < 1:
            raise DataError(f"takes, speakers and workers: found {number}; expected 1 or more", "bad_number")
    voices.check_installed()
    _check_destination(destination, overwrite)
    cast = list(_cast(seed))[:speakers]
    logger.info("%d speakers say %d words, %d clips each", len(cast), len(takes), sum(takes.values()))
    with atomic_folder(destination) as folder:
        executor = ThreadPoolExecutor(workers or available_cores())  # a thread per process of a voice
        try:
            jobs = executor.map(lambda speaker: _write_clips(folder, speaker, takes, seed), cast)
            _write_noises(folder / NOISE_FOLDER, seed)
            return sum(tqdm(jobs, desc="voices", total=len(cast), unit="voice", disable=None))
        finally:  # also after Ctrl-C: nobody may write to the folder any more when it is removed
            executor.shutdown(wait=True, cancel_futures=True)


def tree_digest(folder: Path) -> str:
    """Hash names and contents of all files below a folder, in the order of their names."""
    digest = hashlib.sha256()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in names:
        content = (folder / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def speaker_name(engine: str, variant: str) -> str:
    """Name the speaker of a voice variant."""
    return hashlib.sha1(f"{engine}/{variant}".encode()).hexdigest()[:8]


def _variants() -> Iterator[tuple[str, str]]:
    yield from ((PICO, variant) for variant in voices.PICO_VOICES)  # first: it is the one that refuses words
    yield from ((ESPEAK, variant) for variant in voices.ESPEAK_VARIANTS)


def _cast(seed: int) -> Iterator[Speaker]:
    """Draw the speakers of a seed."""
    for engine, variant in _variants():
        rng = acoustics.generator(seed, engine, variant)
        # Half of the variants speak American, the others any of the other accents; Pico has its own.
        accents = (voices.ESPEAK_ACCENTS[0],) * 7 + voices.ESPEAK_ACCENTS[1:]
        accent = accents[rng.integers(len(accents))]
        ratios = _ESPEAK_RATIOS if engine == ESPEAK else _PICO_RATIOS
        yield Speaker(name=speaker_name(engine, variant),
                      voice=Voice(engine, f"{accent}+{variant}" if engine == ESPEAK else variant),
                      speed=rng.uniform(0.7, 1.05), pitch=rng.uniform(0.8, 1.2),
                      ratio=ratios[rng.integers(len(ratios))], response=acoustics.room_response(rng),
                      hiss=rng.uniform(0.0, 0.95))


def _check_words(words: Mapping[str, int]) -> None:
    """A word is the name of a folder, and spoken as it is written."""
    for word in words:
        if not re.fullmatch(r"[^\W_]([\w' -]*\w)?", word):
            raise DataError(f"word '{word}': expected letters and digits, inside it also spaces, - _ and '",
                            "bad_word")


def _check_destination(destination: Path, overwrite: bool) -> None:
    """Refuse to take the place of anything that is not ours."""
    if not destination.exists():
        return
    if not destination.is_dir():
        raise DataError(f"{destination}: is a file; expected a folder, or nothing", "folder_not_empty")
    if not overwrite and any(destination.iterdir()):
        raise DataError(f"{destination}: not empty; remove it, choose another folder or replace it (--force)",
                        "folder_not_empty")
    speakers = {speaker_name(*variant) for variant in _variants()}
    for path in sorted(destination.rglob("*")):
        is_noise = path.parent.name == NOISE_FOLDER and path.stem in acoustics.NOISES
        if path.is_file() and not is_noise and path.name.partition("_nohash_")[0] not in speakers:
            raise DataError(f"{path}: not a synthetic clip; move it away, --force replaces nothing else",
                            "folder_not_empty")


def _write_noises(folder: Path, seed: int) -> None:
    """Write the noises; those who babble are no speakers, and talk in Latin: no keyword of anyone's."""
    babblers = []
    for variant in voices.ESPEAK_LEFT_OUT:
        voice = Voice(ESPEAK, f"la+{variant}")
        (talk,) = voices.pronounce(voice, [Utterance(_BABBLE)], _engine_seed(seed, variant))
        babblers.append(acoustics.resample(talk, 8, 11))
    rng = acoustics.generator(seed, NOISE_FOLDER)
    for name, samples in acoustics.background_noises(babblers, NOISE_SECONDS, rng).items():
        acoustics.write(folder / f"{name}.wav", samples)


def _write_clips(folder: Path, speaker: Speaker, takes: Mapping[str, int], seed: int) -> int:
    """Write all clips of one speaker; returns their number."""
    names = [(word, take) for word, number in takes.items() for take in range(number)]
    utterances = []
    for word, take in names:
        rng = acoustics.generator(seed, speaker.name, word, take, "speech")
        utterances.append(Utterance(word.replace("_", " "), speed=speaker.speed * rng.uniform(0.88, 1.12),
                                    pitch=speaker.pitch * rng.uniform(0.9, 1.1)))
    spoken = _speak(speaker, utterances, seed)
    for (word, take), waveform in zip(names, spoken):
        rng = acoustics.generator(seed, speaker.name, word, take, "recording")
        clip = acoustics.record(waveform, speaker.response, speaker.hiss, rng)
        acoustics.write(folder / word / f"{speaker.name}_nohash_{take}.wav", clip)
    return len(names)


def _speak(speaker: Speaker, utterances: Sequence[Utterance], seed: int) -> list[np.ndarray]:
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
        answers = voices.pronounce(speaker.voice, faster, _engine_seed(seed, speaker.name))
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


def _engine_seed(seed: int, name: str) -> int:
    return int(acoustics.generator(seed, "engine", name).integers(2 ** 31))
