"""From bytes or a file to a waveform: the only decoder in the tree."""
from __future__ import annotations

import io
import os
import stat
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import soundfile
import soxr

from kws.audio.formats import EXPECTED, complete
from kws.audio.wav import Wav, find_wav
from kws.errors import AudioError, first_line
from kws.files.places import is_remote, place
from kws.model.window import FULL_SCALE

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"})

# Asking for `max_bytes` at once would allocate them for every clip (measured: half of the time of reading one).
_USUAL_BYTES = 2**18

# A float file may exceed 1 by what editors and resamplers add, 18 dB here; samples of integers stored as floats exceed
# this even in a quiet 16-bit recording, whose noise alone is a few steps.
_LOUDEST = 8.0
CANCELLED = 0.75  # share of energy (6 dB) that unrelated channels never lose when they are averaged
_NEARLY_ALL = 0.99  # share of energy (20 dB) after whose loss what is heard is no longer the recording
_SILENCE = 1e-8  # power, -80 dBFS: below is the noise of converters, which may all lie above 8 kHz

Source = Union[bytes, bytearray, memoryview, str, "os.PathLike[str]"]  # the last two: see kws.files.places


@dataclass(frozen=True)
class Limits:
    """Limits of the decoder, so that one upload cannot exhaust the memory of a service.

    Args:
        max_bytes: size of the encoded file.
        max_seconds: length of the recording.
        max_channels: channels of the recording.
        max_values: samples of all channels together: 3 MB of FLAC can hold 12 GB of silence.
    """

    max_bytes: int = 64 * 2**20
    max_seconds: float = 600.0
    max_channels: int = 64
    max_values: int = 2**26


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Losses:
    """Energy lost between file and model, as shares of 0..1; a constant offset does not count.

    Args:
        downmix: lost by averaging the channels, of what unrelated channels leave: 1 if they cancel each other.
        channel: the loudest channel, from 0, if it was taken in place of the average because of that.
        resampling: lost above half of the wanted rate.
        clipping: lost beyond -1..1.
    """

    downmix: float = 0.0
    channel: Optional[int] = None
    resampling: float = 0.0
    clipping: float = 0.0


@dataclass(frozen=True)
class Recording:
    """A decoded file.

    Args:
        waveform: [T] float32 in -1..1, mono, at the rate that was asked for, T >= 1.
        sample_rate: Hz, of the file.
        num_samples: of each channel of the file, decoded.
        channels: of the file.
        losses: what `waveform` lacks of the file's sound; less than nearly all of it, which is an error.
    """

    waveform: np.ndarray
    sample_rate: int
    num_samples: int
    channels: int
    losses: Losses = Losses()


def decode(source: Source, sample_rate: int, limits: Limits = DEFAULT_LIMITS, name: str = "") -> np.ndarray:
    """Decode WAV, FLAC, Ogg (Vorbis, Opus, FLAC) or MP3 to a mono waveform; other rates are resampled.

    Channels are averaged; where they cancel each other, the loudest one is taken.

    Args:
        source: encoded bytes, or the path of a file.
        sample_rate: Hz, wanted.
        limits: what is refused before it is decoded.
        name: what to call the clip in messages; a path is its own name.
    Returns:
        [T] float32 in -1..1, mono, at `sample_rate`, T >= 1.
    Raises:
        AudioError: "not_found", "unreadable", "empty_audio", "too_large", "too_long", "unsupported_audio",
            "truncated_audio" (bytes are missing or left over), "bad_samples" (NaN, infinite, not within -1..1) or
            "lost_sound" (nearly all of it is above what `sample_rate` can hold, or beyond -1..1).
    """
    return decode_recording(source, sample_rate, limits, name).waveform


def decode_recording(source: Source, sample_rate: int, limits: Limits = DEFAULT_LIMITS,
                     name: str = "") -> Recording:
    """Decode as `decode` does, and also describe the file; raises as `decode` does."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        content, name = bytes(source), name or "upload"
    else:
        name = name or str(source)
        content = read_bytes(source, name, limits)
    if not content:
        raise AudioError(f"{name}: 0 bytes; expected an audio file", "empty_audio")
    if len(content) > limits.max_bytes:
        raise AudioError(f"{name}: {len(content):,} bytes; the limit is {limits.max_bytes:,}", "too_large")
    wav = find_wav(content, name)
    samples, rate = _plain_samples(wav, sample_rate) if wav else None, sample_rate
    if samples is None or len(samples) > limits.max_seconds * rate:
        samples, rate = _decode_samples(wav.bare() if wav else complete(content, name), name, limits)
    waveform, losses = hear(samples, rate, sample_rate, name)
    return Recording(waveform, rate, len(samples), samples.shape[1], losses)


def read_bytes(path: Union[str, os.PathLike[str]], name: str, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Read a file, stopping just past the size limit.

    Raises:
        AudioError: "not_found" or "unreadable".
    """
    if is_remote(path):
        return _read_remote(path, name, limits)
    path = Path(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: a pipe would be waited for
            raise AudioError(f"{name}: a folder, pipe or device; expected a file", "unreadable")
        with open(path, "rb") as file:
            content = file.read(_USUAL_BYTES)
            if len(content) == _USUAL_BYTES:
                content += file.read(max(limits.max_bytes + 1 - _USUAL_BYTES, 0))
            return content
    except FileNotFoundError:
        raise AudioError(f"{name}: no such file", "not_found") from None
    except OSError as error:
        raise AudioError(f"{name}: cannot be read: {error.strerror}", "unreadable") from None
    except ValueError as error:  # a zero byte in the path, half a character
        raise AudioError(f"{name!r}: cannot be the path of a file: {error}", "not_found") from None


def _read_remote(path: Union[str, os.PathLike[str]], name: str, limits: Limits) -> bytes:
    """As `read_bytes`; whatever a library of an object store raises is this recording's trouble alone."""
    try:
        remote: Any = place(path)
        size = remote.fs.info(remote.path)["size"]  # an empty object has no range to ask for
        return remote.fs.cat_file(remote.path, start=0, end=min(size, limits.max_bytes + 1)) if size else b""
    except FileNotFoundError:
        raise AudioError(f"{name}: no such file", "not_found") from None
    except Exception as error:
        raise AudioError(f"{name}: cannot be read: {first_line(error)}", "unreadable") from error


def _plain_samples(wav: Wav, sample_rate: int) -> Optional[np.ndarray]:
    """Read 16-bit mono PCM at the wanted rate (the usual case) without a decoder: [T, 1] float32.

    libsndfile gives the same samples, in ten times the time, most of it in calls back into Python.
    """
    if wav.content[:4] != b"RIFF" or wav.format[:16] != _plain_header(sample_rate):
        return None
    values = np.frombuffer(wav.content[wav.start:wav.start + wav.size // 2 * 2], dtype="<i2")
    return values[:, None] * np.float32(1 / FULL_SCALE)


@lru_cache
def _plain_header(sample_rate: int) -> bytes:
    """The format chunk of 16-bit mono PCM: format, channels, rate, bytes a second, bytes a frame, bits."""
    return struct.pack("<HHIIHH", 1, 1, sample_rate, 2 * sample_rate, 2, 16)


def _decode_samples(content: bytes, name: str, limits: Limits) -> tuple[np.ndarray, int]:
    """Decode to ([T, channels] float32, rate)."""
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.channels > limits.max_channels:
                raise AudioError(f"{name}: {file.channels} channels; the limit is {limits.max_channels}")
            wanted = min(file.frames, int(limits.max_seconds * file.samplerate) + 1)
            if wanted * file.channels > limits.max_values:
                raise AudioError(f"{name}: more than {limits.max_values:,} samples in {file.channels} channels",
                                 "too_large")
            samples, rate = file.read(wanted, dtype="float32", always_2d=True), file.samplerate
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name}: not readable as audio ({error.error_string.strip()}); {EXPECTED}") from None
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise AudioError(f"{name}: not readable as audio ({type(error).__name__}); {EXPECTED}") from None
    if len(samples) < wanted:
        raise AudioError(f"{name}: {len(samples):,} of {wanted:,} samples could be decoded. Is the file damaged?",
                         "truncated_audio")
    if len(samples) > limits.max_seconds * rate:
        raise AudioError(f"{name}: longer than the limit of {limits.max_seconds:g} s", "too_long")
    return samples, rate


def hear(samples: np.ndarray, rate: int, sample_rate: int, name: str) -> tuple[np.ndarray, Losses]:
    """Convert samples to the model input: downmix, resample, clip; and report what was lost.

    Args:
        samples: [T, channels] float in -1..1; what lies a little beyond, as editors leave it in files, is clipped.
        rate: Hz, of `samples`.
        sample_rate: Hz, wanted.
        name: what to call the recording in messages.
    Returns:
        [T'] float32 in -1..1, mono, at `sample_rate`, T' >= 1; and the losses.
    Raises:
        AudioError: "empty_audio", "bad_samples" or "lost_sound".
    """
    if len(samples) == 0:
        raise AudioError(f"{name}: 0 samples; expected at least 1. Is the file truncated?", "empty_audio")
    peak = _peak(samples, name)
    waveform, downmix, channel = _downmix(samples.astype(np.float32, copy=False))
    resampling = clipping = 0.0
    if rate != sample_rate:
        before = waveform
        waveform = soxr.resample(before, rate, sample_rate, quality="HQ").astype(np.float32, copy=False)
        if len(waveform) == 0:
            raise AudioError(f"{name}: too short to resample from {rate:,} Hz", "empty_audio")
        resampling = _lost(_power(before), _power(waveform), _SILENCE)
    if rate != sample_rate or peak > 1.0:
        before = waveform
        waveform = np.clip(before, -1.0, 1.0)
        clipping = _lost(_power(before), _power(waveform)) if peak > 1.0 else 0.0
    for lost, where in ((resampling, f"above {sample_rate / 2:,.0f} Hz, where the model hears nothing"),
                        (clipping, f"beyond -1..1, up to {peak:,.1f}; scale it")):
        if lost > _NEARLY_ALL:
            raise AudioError(f"{name}: {lost:.1%} of its sound is {where}", "lost_sound")
    return waveform, Losses(downmix, channel, resampling, clipping)


def samples_of(array: np.ndarray, name: str) -> np.ndarray:
    """Bring an array [T] of float in -1..1 or int16 to the shape and scale of decoded samples, [T, 1] float.

    Raises:
        AudioError: "empty_audio" for another shape, "bad_samples" for another type, whose full scale nobody knows.
    """
    if array.ndim != 1 or not len(array):
        raise AudioError(f"{name}: shape {list(array.shape)}; expected [T], mono, T of at least 1", "empty_audio")
    if array.dtype != np.int16 and array.dtype.kind != "f":
        raise AudioError(f"{name}: samples of type {array.dtype}; expected float in -1..1, or int16", "bad_samples")
    return (array / np.float32(FULL_SCALE) if array.dtype == np.int16 else array)[:, None]


def _peak(samples: np.ndarray, name: str) -> float:
    """Return the peak; raise AudioError if it is not finite or the scale is wrong."""
    low, high = samples.min(), samples.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise AudioError(f"{name}: {np.count_nonzero(~np.isfinite(samples))} NaN or infinite samples", "bad_samples")
    check_scale(np.array((low, high)), name)
    return max(-float(low), float(high))


def check_scale(samples: np.ndarray, name: str) -> None:
    """Raise AudioError "bad_samples" for samples, of any shape, that floats in -1..1 do not reach, however clipped.

    What is NaN or infinite counts as silence.
    """
    peak = float(np.nan_to_num(np.abs(samples), nan=0.0, posinf=0.0).max(initial=0.0))
    if peak > _LOUDEST:
        raise AudioError(f"{name}: samples up to {peak:,.0f}; expected floats in -1..1. Are they integers? Divide them "
                         "by their full scale, 32768 for 16 bit", "bad_samples")


def _downmix(samples: np.ndarray) -> tuple[np.ndarray, float, Optional[int]]:
    """[T, channels] -> [T], the share of energy that averaging loses, and the channel taken instead, if any."""
    if samples.shape[1] == 1:
        return samples[:, 0], 0.0, None
    average = samples.mean(axis=1)
    powers = samples.var(axis=0, dtype=np.float64)
    lost = _lost(float(powers.sum()) / len(powers) ** 2, _power(average))  # powers of unrelated channels add up
    if lost <= CANCELLED:
        return average, lost, None
    channel = int(powers.argmax())
    return np.ascontiguousarray(samples[:, channel]), lost, channel


def _power(waveform: np.ndarray) -> float:
    """Mean square of [T] around its mean."""
    return float(waveform.var(dtype=np.float64))


def _lost(before: float, after: float, silence: float = 0.0) -> float:
    """Return the share of power lost, 0..1; 0 for silence."""
    return max(1.0 - after / before, 0.0) if before > silence else 0.0
