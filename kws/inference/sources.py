"""What can be listened to: recordings, folders of them, standard input, a microphone."""
from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence, Union

import numpy as np

from kws.audio.blocks import recording_blocks
from kws.audio.microphone import Gap, Microphone
from kws.audio.pipe import RawFormat, pipe_blocks
from kws.inference.batch.inputs import Inputs, list_inputs

STANDARD_INPUT = Path("-")


@dataclass(frozen=True)
class SoundSource:
    """Something to listen to.

    Args:
        name: in lines and messages.
        can_wait: whether nothing is lost while it is not heard: a recording.
        blocks: starts to yield its sound: [T] float32 each, mono, at the model's rate, and gaps.
    """

    name: str
    can_wait: bool
    blocks: Callable[[], Iterator[Union[np.ndarray, Gap]]]


def recorded_sources(paths: Sequence[Path], sample_rate: int, raw: Optional[RawFormat] = None) -> Iterator[SoundSource]:
    """List recordings, those of folders, and standard input, in this order.

    Args:
        paths: files and folders; - is standard input.
        sample_rate: Hz, of the model.
        raw: of standard input without a header.

    Raises:
        DataError: "no_input" if there is no recording in a folder; before the first source.
    """
    folders = {path: list_inputs(path) for path in paths if path.is_dir()}
    return _sources(paths, folders, sample_rate, raw)


def _sources(paths: Sequence[Path], folders: dict[Path, Inputs], sample_rate: int,
             raw: Optional[RawFormat]) -> Iterator[SoundSource]:
    for path in paths:
        if path == STANDARD_INPUT:
            yield SoundSource("-", False, partial(pipe_blocks, sys.stdin.buffer, sample_rate, raw))
        elif path in folders:
            for row in folders[path]:
                yield SoundSource(str(row.location), True, partial(recording_blocks, row.location, sample_rate))
        else:
            yield SoundSource(str(path), True, partial(recording_blocks, path, sample_rate))


def microphone_source(sample_rate: int, device: Optional[str]) -> SoundSource:
    """Open a microphone; raises DataError if there is none."""
    microphone = Microphone(sample_rate, device)
    return SoundSource(microphone.name, False, microphone.blocks)
