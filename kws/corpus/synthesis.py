"""A deterministic corpus of synthetic speech commands in the layout of Google Speech Commands.

A speaker's name, eight hexadecimal digits, depends on the voice alone: the dataset's SHA-1 rule splits the corpus
79/11/10, the same way for every seed and list of words, and no validation or testing list is needed. For running
sound the training voices also talk, without a keyword, and the testing voices speak the streams to measure on.
"""
from __future__ import annotations

import hashlib
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Iterator, Mapping, Optional, Sequence

import numpy as np
from tqdm import tqdm

from kws.audio.folders import NEGATIVES_FOLDER, NOISE_FOLDER, STREAMS_FOLDER
from kws.corpus import acoustics, sentences, stream_set, voices
from kws.corpus.cast import (TESTING, TRAINING, Speaker, engine_seed, say_words, speaker_name, utterance, variants,
                             whole_cast)
from kws.corpus.engines import ESPEAK
from kws.corpus.talk import talks
from kws.corpus.voices import Utterance, Voice
from kws.errors import DataError
from kws.files.atomic import atomic_folder
from kws.inference.cores import available_cores

KEYWORDS = tuple("yes no up down left right on off stop go".split())
OTHER_WORDS = tuple("bed bird cat dog eight five four happy house marvin nine one seven sheila six three "
                    "tree two wow zero backward follow forward learn visual".split())
NOISE_SECONDS = 40.0
SYNTHETIC = "synthetic"  # folder of a word's synthetic recordings beside those of people

_SENTENCES = 3  # of talk, by each training voice
_BABBLE = ("Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut "
           "labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco "
           "laboris nisi ut aliquip ex ea commodo consequat. Duis aute irure dolor in reprehenderit in "
           "voluptate velit esse cillum dolore.")

logger = logging.getLogger(__name__)


def synthesize(destination: Path, keywords: Sequence[str] = KEYWORDS, words: Sequence[str] = OTHER_WORDS,
               keyword_takes: int = 5, word_takes: int = 2, speakers: Optional[int] = None, seed: int = 0,
               workers: Optional[int] = None, overwrite: bool = False) -> int:
    """Fill a folder with `<word>/<speaker>_nohash_<take>.wav`, six noises, talk and streams, whole or not at all.

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
    cast = list(whole_cast(seed))[:speakers]
    logger.info("%d speakers say %d words, %d clips each", len(cast), len(takes), sum(takes.values()))
    with atomic_folder(destination) as folder, _threads(workers) as executor:
        places = {word: folder / word for word in takes}
        jobs = executor.map(lambda speaker: _write_clips(places, speaker, takes, seed), cast)
        babblers = _babblers(seed)
        _write_noises(folder / NOISE_FOLDER, babblers, seed)
        clips = sum(tqdm(jobs, desc="voices", total=len(cast), unit="voice", disable=None))
        _write_talk(folder / NEGATIVES_FOLDER, [item for item in cast if item.part == TRAINING], keywords, seed,
                    executor)
        stream_set.write_streams(folder / STREAMS_FOLDER, [item for item in cast if item.part == TESTING], keywords,
                                 [word for word in words if word not in keywords], babblers, seed, executor)
        return clips


@contextmanager
def _threads(count: Optional[int]) -> Iterator[ThreadPoolExecutor]:
    """Yield threads, one for each process of a voice; at the end, also after Ctrl-C, nobody writes any more."""
    executor = ThreadPoolExecutor(count or available_cores())
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def tree_digest(folder: Path) -> str:
    """Hash names and contents of all files below a folder, in the order of their names."""
    digest = hashlib.sha256()
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in names:
        content = (folder / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


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
    names = {speaker_name(*variant) for variant in variants()}
    for path in sorted(destination.rglob("*")):
        if path.is_file() and not _is_ours(path, names):
            raise DataError(f"{path}: not a synthetic clip; move it away, --force replaces nothing else",
                            "folder_not_empty")


def _is_ours(path: Path, names: set[str]) -> bool:
    if path.parent.name == NOISE_FOLDER:
        return path.stem in acoustics.NOISES
    if path.parent.name == STREAMS_FOLDER:
        return path.name in stream_set.FILES
    if path.parent.name == NEGATIVES_FOLDER:
        return path.stem in names
    return path.name.partition("_nohash_")[0] in names


def _babblers(seed: int) -> list[np.ndarray]:
    """Have those talk who babble: they are no speakers, and talk in Latin, no keyword of anyone's."""
    babblers = []
    for variant in voices.ESPEAK_LEFT_OUT:
        voice = Voice(ESPEAK, f"la+{variant}")
        (babble,) = voices.pronounce(voice, [Utterance(_BABBLE)], engine_seed(seed, variant))
        babblers.append(acoustics.resample(babble, 8, 11))
    return babblers


def _write_noises(folder: Path, babblers: Sequence[np.ndarray], seed: int) -> None:
    rng = acoustics.generator(seed, NOISE_FOLDER)
    for name, samples in acoustics.background_noises(babblers, NOISE_SECONDS, rng).items():
        acoustics.write(folder / f"{name}.wav", samples)


def _write_talk(folder: Path, cast: Sequence[Speaker], keywords: Sequence[str], seed: int,
                executor: ThreadPoolExecutor) -> None:
    """Write a recording of sentences without a keyword by each speaker; none if every sentence has one."""
    texts = sentences.without(sentences.FOR_TRAINING, keywords)
    for speaker, samples in zip(cast, talks(cast, texts, _SENTENCES, seed, executor)):
        acoustics.write(folder / f"{speaker.name}.flac", samples)


def add_voices(folder: Path, keywords: Sequence[str], seed: int) -> None:
    """Have every synthetic voice say each keyword once, in `<word>/synthetic/` of a folder of recordings.

    A folder of synthetic recordings is written whole or not at all; one that is there stays.

    Raises:
        DataError: "missing_voices", "bad_word", "word_not_spoken", "word_too_long", "voice_failed".
    """
    takes = {word: 1 for word in keywords if not (folder / word / SYNTHETIC).exists()}
    _check_words(takes)
    if not takes:
        return
    voices.check_installed()
    cast = list(whole_cast(seed))
    with ExitStack() as written:
        for word in takes:
            written.callback(_remove_if_empty, folder / word)  # after all else: nothing stays of what failed
        places = {word: written.enter_context(atomic_folder(folder / word / SYNTHETIC)) for word in takes}
        executor = written.enter_context(_threads(None))
        jobs = executor.map(lambda speaker: _write_clips(places, speaker, takes, seed), cast)
        for _ in tqdm(jobs, desc="voices", total=len(cast), unit="voice", disable=None):
            pass


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _write_clips(places: Mapping[str, Path], speaker: Speaker, takes: Mapping[str, int], seed: int) -> int:
    """Write all clips of one speaker, each into the folder of its word; returns their number."""
    names = [(word, take) for word, number in takes.items() for take in range(number)]
    utterances = []
    for word, take in names:
        rng = acoustics.generator(seed, speaker.name, word, take, "speech")
        utterances.append(utterance(speaker, word, rng))
    spoken = say_words(speaker, utterances, seed)
    for (word, take), waveform in zip(names, spoken):
        rng = acoustics.generator(seed, speaker.name, word, take, "recording")
        clip = acoustics.record(waveform, speaker.response, speaker.hiss, rng)
        acoustics.write(places[word] / f"{speaker.name}_nohash_{take}.wav", clip)
    return len(names)
