"""The voices of the speech engines, one fresh process per voice: `kws/corpus/engines.py` is that process.

It is what makes the sound repeatable: engines keep state from word to word (echoes, noise) that no call resets, but
the same words in the same order in a new process are the same bytes.
"""
from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from typing import Iterator, Sequence

from kws.corpus import engines
from kws.corpus.engines import ESPEAK, PICO
from kws.errors import DataError

_PACKAGES = {ESPEAK: "espeakng_loader", PICO: "py_nanotts"}
_INSTALL = "pip install espeakng-loader==0.2.4 py-nanotts==0.1.1"
# SVOX Pico reads memory that it never wrote: what lay there before decided how a word sounded. With these two
# settings of glibc every allocation starts as zeros (the complement of 255), those of the thread's cache too.
_CLEAN_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.perturb=255:glibc.malloc.tcache_count=0"}
_TIMEOUT_SECONDS = 600  # a voice takes one second; only an engine that hangs takes this

ESPEAK_ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-gbclan",
                  "en-gb-x-gbcwmd")  # all but Shavian, which reads another alphabet
# The voice variants of espeak-ng 1.52 but for six: three whose echo never dies away, and the three that a
# spotter trained on real speech understands least.
ESPEAK_VARIANTS = tuple((
    "Alex,Alicia,Andrea,Andy,Annie,AnxiousAndy,Demonic,Denis,Diogo,Gene,Gene2,Henrique,Hugo,"
    "Jacky,Lee,Marco,Mario,Michael,Mike,Mr serious,Nguyen,Reed,Storm,UniRobot,adam,anika,"
    "anikaRobot,announcer,antonio,aunty,belinda,benjamin,caleb,croak,david,ed,edward,edward2,"
    "f1,f2,f3,f4,f5,fast,grandma,grandpa,gustave,ian,iven,iven2,iven3,iven4,john,"
    "kaukovalta,klatt,klatt2,klatt3,klatt4,klatt5,klatt6,linda,m1,m2,m3,m4,m5,m6,m7,m8,"
    "marcelo,max,michel,miguel,mike2,norbert,pablo,paul,pedro,quincy,rob,robosoft,robosoft2,"
    "robosoft3,robosoft4,robosoft5,robosoft6,robosoft7,robosoft8,sandro,shelby,steph,steph2,"
    "steph3,travis,victor,whisper,whisperf,zac"
).split(","))
ESPEAK_LEFT_OUT = ("RicishayMax", "RicishayMax2", "RicishayMax3", "Tweaky", "boris", "robert")
PICO_VOICES = ("en-US", "en-GB")


@dataclass(frozen=True)
class Voice:
    """A voice of an engine: ("espeak", "en-us+f2") or ("pico", "en-GB")."""

    engine: str
    name: str


@dataclass(frozen=True)
class Utterance:
    """What to say and how.

    Args:
        text: words of the language of the voice.
        speed: 0.5..2.5, times the usual speaking rate of the engine.
        pitch: 0.6..1.4, times (roughly) the usual pitch of the voice.
    """

    text: str
    speed: float = 1.0
    pitch: float = 1.0


def check_installed() -> None:
    """Raise DataError "missing_voices" unless the packages of all engines are installed."""
    missing = [package for package in _PACKAGES.values() if importlib.util.find_spec(package) is None]
    if missing:
        raise DataError(f"the voices need {' and '.join(missing)}, which is not installed: {_INSTALL}",
                        "missing_voices")


def pronounce(voice: Voice, utterances: Sequence[Utterance], seed: int) -> list[bytes]:
    """Say all utterances, in this order, in a fresh process.

    Args:
        voice: who speaks.
        utterances: what to say.
        seed: 0..2**31-1, of the engine's own noise (breath, roughness).
    Returns:
        per utterance its samples: int16 of this machine's byte order, mono, at engines.SAMPLE_RATES[voice.engine].
    Raises:
        DataError: "voice_failed" if the engine does not know the voice or crashes.
    """
    command = [sys.executable, engines.__file__, voice.engine, voice.name, "--seed", str(seed)]
    request = json.dumps([[item.text, item.speed, item.pitch] for item in utterances])
    result = subprocess.run(command, input=request.encode(), capture_output=True, timeout=_TIMEOUT_SECONDS,
                            env={**os.environ, **_CLEAN_MEMORY})
    answers = list(_unpack(result.stdout))
    if result.returncode != 0 or len(answers) != len(utterances):
        reason = result.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise DataError(f"{voice.engine} voice '{voice.name}': ended with code {result.returncode} after "
                        f"{len(answers)} of {len(utterances)} utterances ({reason[0]})", "voice_failed")
    return answers


def _unpack(stream: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(stream):
        (size,) = struct.unpack_from("<I", stream, position)
        yield stream[position + 4:position + 4 + size]
        position += 4 + size
