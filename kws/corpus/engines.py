"""Speech engines from pip, in a process of their own: this file is run by its path, see `kws.corpus.voices`.

espeak-ng is GPL-3: it is loaded only in that process, which shares nothing with us but a pipe. Nothing of the package
is imported, which would take longer than to say a word.
"""
from __future__ import annotations

import argparse
import ctypes
import json
import os
import struct
import sys
from typing import Callable

ESPEAK, PICO = "espeak", "pico"
SAMPLE_RATES = {ESPEAK: 22050, PICO: 16000}  # Hz

Speak = Callable[[str, float, float], bytes]  # text, speed, pitch: see `kws.corpus.voices.Utterance`


def _start_espeak(name: str, seed: int) -> Speak:
    """Load espeak-ng; numbers are those of its header speak_lib.h."""
    import espeakng_loader

    synchronous, utf8, end_pause, rate, volume, espeak_pitch = 2, 0x0001, 0x1000, 1, 2, 3
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

    def speak(text: str, speed: float, pitch: float) -> bytes:
        assert collect  # the library holds only a bare pointer to it: this reference keeps it alive
        spoken.clear()
        library.espeak_SetParameter(rate, min(max(round(175 * speed), 80), 450), 0)  # words per minute
        library.espeak_SetParameter(espeak_pitch, min(max(round(50 * pitch), 0), 99), 0)
        encoded = text.encode()
        # Without the pause at the end, the echo of one word would sound at the start of the next.
        if library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, utf8 | end_pause, None, None) != 0:
            raise RuntimeError(f"espeak-ng cannot say '{text}'")
        return bytes(spoken)

    return speak


def _start_pico(name: str, _seed: int) -> Speak:
    """Load SVOX Pico, which has no noise to seed."""
    import py_nanotts

    engine = py_nanotts.NanoTTS()
    half = 0.5  # at full volume it clips its own peaks
    return lambda text, speed, pitch: engine.speak(text, name, speed, pitch, half)


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
        samples = speak(text, speed, pitch)
        output.write(struct.pack("<I", len(samples)) + samples)
    output.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
