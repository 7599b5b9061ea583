"""File formats: find all audio in the bytes of a file, or refuse it. Lengths in headers are not trusted.

libsndfile decodes as much as a header promises and says nothing of the rest. So containers are walked here, from the
first byte to the last, and are given to it in a form whose length is true.
"""
from __future__ import annotations

from kws.audio.flac import complete_flac
from kws.audio.mp3 import complete_mp3, is_mp3, without_tags
from kws.audio.ogg import complete_ogg
from kws.audio.wav import CONVERT
from kws.errors import AudioError

EXPECTED = "expected WAV, FLAC, Ogg (Vorbis, Opus or FLAC) or MP3"
_FOREIGN = (  # what people send instead: offset, first bytes, name
    (0, b"\x1f\x8b", "gzip"), (0, b"PK\3\4", "ZIP"), (4, b"ftyp", "MP4 (.m4a)"), (0, b"\x1aE\xdf\xa3", "WebM"),
    (0, b"FORM", "AIFF"), (0, b".snd", "AU"), (0, b"caff", "CAF"), (0, b"riff", "Wave64"), (0, b"RF64", "RF64"),
    (0, b"BW64", "BW64"), (0, b"#!AMR", "AMR"), (0, b"0&\xb2u", "WMA"), (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
)


def complete(content: bytes, name: str) -> bytes:
    """Check that a FLAC, Ogg or MP3 file is whole, and return it in a form that libsndfile reads to its end.

    Raises:
        AudioError: "truncated_audio" if bytes are missing or left over, "unsupported_audio" for other files.
    """
    content = without_tags(content)
    if content[:4] == b"fLaC":
        return complete_flac(content, name)
    if content[:4] == b"OggS":
        return complete_ogg(content, name)
    if is_mp3(content):
        return complete_mp3(content, name)
    for offset, magic, kind in _FOREIGN:
        if content.startswith(magic, offset):
            raise AudioError(f"{name}: {kind}; {EXPECTED}; "
                             f"{'unpack it first' if kind in ('gzip', 'ZIP') else CONVERT}")
    raise AudioError(f"{name}: not readable as audio; {EXPECTED}")
