"""Speech engines from pip, one fresh process per voice: `python -m kws.corpus.voices` is that process.

espeak-ng is GPL-3: it is loaded only in that process, which shares nothing with us but a pipe. The process is
also what makes the sound repeatable: engines keep state from word to word (echoes, noise) that no call
resets, but the same words in the same order in a new process are the same bytes.
"""
from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Sequence

from kws.errors import DataError

ESPEAK, PICO = "espeak", "pico"
SAMPLE_RATES = {ESPEAK: 22050, PICO: 16000}  # Hz
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
        per utterance its samples: int16 of this machine's byte order, mono, at SAMPLE_RATES[voice.engine].
    Raises:
        DataError: "voice_failed" if the engine does not know the voice or crashes.
    """
    command = [sys.executable, "-m", "kws.corpus.voices", voice.engine, voice.name, "--seed", str(seed)]
    request = json.dumps([[item.text, item.speed, item.pitch] for item in utterances])
    result = subprocess.run(command, input=request.encode(), capture_output=True, timeout=_TIMEOUT_SECONDS,
                            env={**os.environ, **_CLEAN_MEMORY},
                            cwd=Path(__file__).parents[2])  # where `-m` finds this very package
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


# From here on: the child process.

Speak = Callable[[Utterance], bytes]


def _start_espeak(name: str, seed: int) -> Speak:
    """Load espeak-ng; numbers are those of its header speak_lib.h."""
    import espeakng_loader

    synchronous, utf8, end_pause, rate, volume, pitch = 2, 0x0001, 0x1000, 1, 2, 3
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    found = library.espeak_Initialize(synchronous, 0, os.fsencode(espeakng_loader.get_data_path()), 0)
    if found != SAMPLE_RATES[ESPEAK]:
        raise RuntimeError(f"espeak-ng starts with {found} Hz; expected {SAMPLE_RATES[ESPEAK]}")
    spoken = bytearray()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def collect(samples: int, count: int, _events: int) -> int:
        if samples and count:
            spoken.extend(ctypes.string_at(samples, 2 * count))
        return 0

    library.espeak_SetSynthCallback(collect)
    if library.espeak_SetVoiceByName(name.encode()) != 0:
        raise RuntimeError("espeak-ng has no such voice")
    library.espeak_SetParameter(volume, 50, 0)  # at the usual 100 some voices clip
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed))

    def speak(item: Utterance) -> bytes:
        assert collect  # the library holds only a bare pointer to it: this reference keeps it alive
        spoken.clear()
        library.espeak_SetParameter(rate, min(max(round(175 * item.speed), 80), 450), 0)  # words per minute
        library.espeak_SetParameter(pitch, min(max(round(50 * item.pitch), 0), 99), 0)
        text = item.text.encode()
        # Without the pause at the end, the echo of one word would sound at the start of the next.
        if library.espeak_Synth(text, len(text) + 1, 0, 1, 0, utf8 | end_pause, None, None) != 0:
            raise RuntimeError(f"espeak-ng cannot say '{item.text}'")
        return bytes(spoken)

    return speak


def _start_pico(name: str, _seed: int) -> Speak:
    """Load SVOX Pico, which has no noise to seed."""
    import py_nanotts

    engine = py_nanotts.NanoTTS()
    half = 0.5  # at full volume it clips its own peaks
    return lambda item: engine.speak(item.text, name, item.speed, item.pitch, half)


def _main() -> int:
    """Read utterances (JSON) from stdin, write their samples to stdout, each after its size in bytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=sorted(SAMPLE_RATES))
    parser.add_argument("voice")
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an engine itself prints must not end up among the samples
    speak = (_start_espeak if args.engine == ESPEAK else _start_pico)(args.voice, args.seed)
    for text, speed, pitch in json.load(sys.stdin):
        samples = speak(Utterance(text, speed, pitch))
        output.write(struct.pack("<I", len(samples)) + samples)
    output.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
