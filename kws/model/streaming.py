"""The network over running sound: each layer computes a frame once and remembers what its next frames need of it.

The answer for a frame is the one of the whole sound heard at once, after silence; what lies ahead is waited for. A clip
is seen relative to its loudest point; running sound relative to the loudest point of the last seconds, so that talk in
the background stays behind a word that is said in front of it.

A larger network may take a second look: it hears again the moments at which the first one finds a keyword likely, and
costs next to nothing while no word is near.
"""
from __future__ import annotations

from typing import Iterator, Optional, cast

import torch
from torch import nn
from torch.nn import functional as F

from kws.errors import ModelError
from kws.model.features import FoldedLogMel
from kws.model.folder import BLOCK_ROWS
from kws.model.loading import labels_of
from kws.model.modeling import KwsForAudioClassification
from kws.model.network import FoldedMelNetwork, SeparableBlock

LOUDNESS_BACK, LOUDNESS_AHEAD = 500, 6  # feature frames, even, among which the loudest point is looked for
LIKELY = 0.2  # probability of a keyword, in one row of a block, that makes the block worth a second look
RECENT = 20  # rows, of whose mean an embedding in running sound is half
_SILENT = -64.0  # below every feature
_FIRST_ROW = 1 + LOUDNESS_AHEAD // 2  # to see frames of the sound, not of what was before it


def relative_to_recent(features: torch.Tensor, history: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Express each frame relative to the loudest point of the frames around it.

    Args:
        features: [B, 1, M, F].
        history: [B, 1, 1, 1], the loudest point of what was heard before; None: nothing was.
    Returns:
        [B, 1, M, F], at most 0.
    """
    loudest = F.pad(features.amax(dim=2), (LOUDNESS_BACK, LOUDNESS_AHEAD), value=_SILENT)
    reference = F.max_pool1d(loudest, LOUDNESS_BACK + LOUDNESS_AHEAD + 1, 1).unsqueeze(2)
    return features - (reference if history is None else torch.maximum(reference, history))


def frame_logits(network: FoldedMelNetwork, features: torch.Tensor,
                 history: Optional[torch.Tensor] = None) -> torch.Tensor:
    """Answer for every frame of a sound heard whole: [B, 1, M, F] -> [B, F', C]; the last ones lack what follows."""
    return cast(torch.Tensor, network.head(frame_embeddings(network, features, history)))


def frame_embeddings(network: FoldedMelNetwork, features: torch.Tensor,
                     history: Optional[torch.Tensor] = None) -> torch.Tensor:
    """What the classifier decides on for every frame: [B, 1, M, F] -> [B, F', K]."""
    inputs = relative_to_recent(features, history).to(memory_format=torch.channels_last)
    outputs = network.temporal(network.fold(network.spectral(network.stem(inputs))))
    return _embedded(network, outputs[:, :, 0], _Memory([]))


def _embedded(network: FoldedMelNetwork, rows: torch.Tensor, memory: _Memory) -> torch.Tensor:
    """Embed rows of the last block, [B, K, R] -> [B, R, K]; of length 1 are the moment and what led to it."""
    moment = network.embedding(rows.transpose(1, 2))
    if isinstance(network.embedding, nn.Identity):
        return cast(torch.Tensor, moment)
    recent = F.avg_pool1d(memory.join(rows, RECENT - 1), RECENT, 1)
    return cast(torch.Tensor, moment + network.embedding(recent.transpose(1, 2))) / 2


def check_streamable(network: nn.Module) -> None:
    """Raise ModelError unless a network can hear running sound."""
    if not isinstance(network, FoldedMelNetwork):  # the other one normalises bands over a whole clip
        raise ModelError("only folded-mel networks hear running sound; give architecture one of them", "not_streamable")
    strides = [cast(nn.Conv2d, network.stem[0]).stride[1],
               *(cast(nn.Conv2d, cast(SeparableBlock, block).block[0]).stride[1] for block in network.spectral)]
    if strides[0] != 2 or any(stride != 1 for stride in strides[1:]):
        raise ModelError(f"strides over frames: found {strides}; running sound needs 2 in the stem and 1 in the "
                         "spectral blocks", "not_streamable")


class StreamingClassifier(nn.Module):
    """One step over running sound: the next samples and a memory -> the next logits and the memory after them.

    Args:
        model: of a folded-mel network of which only the stem strides over time, by 2.
        second: another such network with the same front end and labels, which takes a second look.

    Attributes:
        step_samples: samples of a row of logits; a call takes a multiple of them, with a second look of `BLOCK_ROWS`.
        lead_samples: zeros that belong before a sound, so that layers remember silence and not nothing, and its frames
            lie where those of a clip do.
        delay_rows: rows at the start that answer for no frame of the sound.
        state_size: S, numbers that are remembered.

    Raises:
        ModelError: "not_streamable" for another network.
    """

    def __init__(self, model: KwsForAudioClassification, second: Optional[nn.Module] = None) -> None:
        super().__init__()
        self.features = FoldedLogMel(model.features)
        self.first = _row_network(model.network)
        self.second = None if second is None else _row_network(second)
        self._num_keywords = len(labels_of(model).keywords)
        hop, length = self.features.hop, self.features.length
        self._overlap = -(-length // hop) * hop - hop  # samples that windows share with those before
        self.step_samples = 2 * hop
        self._ahead = 0 if self.second is None else self.second.reach - self.first.reach  # rows; of the first network
        delay = _FIRST_ROW + self.first.reach + max(self._ahead, 0)
        silence = delay + max(self.first.reach + RECENT, 0 if self.second is None else self._rows_before)
        silence += -silence % BLOCK_ROWS
        self.lead_samples = silence * self.step_samples + 2 * hop - self._overlap + length // 2
        self.delay_rows = silence + delay
        memory = _Memory([])
        self._answer(torch.zeros(1, 15 * self.step_samples), memory)  # shows what it remembers
        self._shapes = [tuple(part.shape[1:]) for part in memory.kept]
        self._sizes = [torch.Size(shape).numel() for shape in self._shapes]
        self.state_size = sum(self._sizes)

    def initial_state(self, batch: int = 1) -> torch.Tensor:
        """Make the memory before the first sample, [B, S]: all zeros."""
        return torch.zeros(batch, self.state_size)

    def forward(self, samples: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer for the next samples: [B, R * step_samples], [B, S] -> logits [B, R, C], state [B, S]."""
        memory = _Memory([part.reshape(-1, *shape) for part, shape in
                          zip(state.split(self._sizes, dim=1), self._shapes)])
        logits = self._answer(samples, memory)
        return logits, torch.cat([part.flatten(1) for part in memory.kept], dim=1)

    def _answer(self, samples: torch.Tensor, memory: _Memory) -> torch.Tensor:
        """Compute logits [B, R, C] of the next rows."""
        inputs = _relative(self.features.of_whole_windows(memory.join(samples, self._overlap)), memory)
        logits = cast(torch.Tensor, self.first(inputs, memory))
        return logits if self.second is None else self._look_again(logits, inputs, memory)

    def _look_again(self, logits: torch.Tensor, inputs: torch.Tensor, memory: _Memory) -> torch.Tensor:
        """Let the second network answer the blocks of logits [B, R, C] in which a keyword is likely."""
        if self._ahead > 0:
            logits = memory.join(logits.transpose(1, 2), self._ahead)[..., :logits.shape[1]].transpose(1, 2)
        blocks = logits.unflatten(1, (-1, BLOCK_ROWS))
        likely = blocks.softmax(dim=3)[..., :self._num_keywords].amax(dim=(2, 3)) >= LIKELY
        frames = memory.join(inputs, 2 * self._rows_before)
        if torch.compiler.is_exporting():
            answers = torch.cond(likely.any(), self._replace, _keep, (blocks, likely, frames))
        else:
            answers = (self._replace if likely.any() else _keep)(blocks, likely, frames)
        return answers.reshape(logits.shape)

    @property
    def _rows_before(self) -> int:
        """Rows before a block that the second network's answer to it depends on."""
        return 2 * cast(_RowNetwork, self.second).reach + max(-self._ahead, 0)

    def _replace(self, blocks: torch.Tensor, likely: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Put the second network's answers in the place of likely ones.

        Args:
            blocks: [B, N, BLOCK_ROWS, C] logits.
            likely: [B, N]; at least one of them is.
            frames: [B, 1, M, F] that they depend on.
        Returns:
            [B * N * BLOCK_ROWS * C]; an exporter knows of this shape that it has no gaps.
        """
        second = cast(_RowNetwork, self.second)
        sound, block = likely.nonzero(as_tuple=True)
        torch._check(len(sound) > 0)
        at = 2 * (BLOCK_ROWS * block[:, None]) + torch.arange(2 * (2 * second.reach + BLOCK_ROWS))
        windows = frames[:, 0].transpose(1, 2)[sound[:, None], at].transpose(1, 2).unsqueeze(1)
        answers = second(windows, _NoMemory([]))
        return blocks.index_put((sound, block), answers).reshape(-1)


def _keep(blocks: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
    """Leave all blocks as they are."""
    return blocks.reshape(-1).clone()


class _Memory:
    """What layers remember, in the order in which they run; nothing yet at first."""

    def __init__(self, parts: list[torch.Tensor]) -> None:
        self._parts: Iterator[torch.Tensor] = iter(parts)
        self.kept: list[torch.Tensor] = []

    def join(self, new: torch.Tensor, length: int) -> torch.Tensor:
        """Put what is remembered before [..., T] and remember the last `length` of it all."""
        past = next(self._parts, None)
        if past is None:
            past = new.new_zeros(*new.shape[:-1], length)
        joined = torch.cat([past, new], dim=-1)
        self.kept.append(joined[..., joined.shape[-1] - length:])
        return joined


class _NoMemory(_Memory):
    """For windows that bring what their layers need of before."""

    def join(self, new: torch.Tensor, length: int) -> torch.Tensor:
        """Leave it as it is."""
        return new


class _RowNetwork(nn.Module):
    """A network that answers for rows of running sound.

    Args:
        network: that can hear running sound.

    Attributes:
        reach: rows after one that it depends on, and rows before it.
    """

    def __init__(self, network: FoldedMelNetwork) -> None:
        super().__init__()
        self.network = network
        self.reach = 1 + len(network.spectral) + sum(_reach(cast(SeparableBlock, block)) for block in network.temporal)

    def forward(self, inputs: torch.Tensor, memory: _Memory) -> torch.Tensor:
        """Answer for frames [B, 1, M, 2 R]: logits [B, R, C]."""
        network = self.network
        for layer in (network.stem, *network.spectral, network.fold, *network.temporal):
            inputs = _step(layer, inputs, memory)
        return cast(torch.Tensor, network.head(_embedded(network, inputs[:, :, 0], memory)))


def _row_network(network: nn.Module) -> _RowNetwork:
    """Raises ModelError "not_streamable" unless a network can hear running sound."""
    check_streamable(network)
    return _RowNetwork(cast(FoldedMelNetwork, network))


def _relative(features: torch.Tensor, memory: _Memory) -> torch.Tensor:
    """`relative_to_recent` of the frames that came `LOUDNESS_AHEAD` before."""
    loudest = features.amax(dim=2) - _SILENT  # above the least, so that zeros, the first memory, are below all
    span = LOUDNESS_BACK + LOUDNESS_AHEAD
    reference = F.max_pool1d(memory.join(loudest, span), span + 1, 1) + _SILENT
    delayed = memory.join(features, LOUDNESS_AHEAD)[..., :features.shape[-1]]
    return delayed - reference.unsqueeze(2)


def _step(layer: nn.Module, inputs: torch.Tensor, memory: _Memory) -> torch.Tensor:
    """Run a layer on the next frames after those that it remembers."""
    if isinstance(layer, SeparableBlock):
        depthwise, reach = cast(nn.Conv2d, layer.block[0]), _reach(layer)
        joined = memory.join(inputs, 2 * reach)
        outputs = cast(nn.Sequential, layer.block[1:])(_unpadded(depthwise, joined))
        return torch.relu(outputs + joined[..., reach:joined.shape[-1] - reach] if layer.residual else outputs)
    stem = cast(nn.Sequential, layer)
    convolution = cast(nn.Conv2d, stem[0])
    width, stride = convolution.kernel_size[1], convolution.stride[1]
    joined = memory.join(inputs, 2 * (width // 2)) if width > 1 else inputs
    return cast(torch.Tensor, stem[1:](_unpadded(convolution, joined)[..., :inputs.shape[-1] // stride]))


def _unpadded(convolution: nn.Conv2d, inputs: torch.Tensor) -> torch.Tensor:
    """Convolve without padding over time."""
    padding = cast("tuple[int, int]", convolution.padding)
    return F.conv2d(inputs, convolution.weight, convolution.bias, convolution.stride, (padding[0], 0),
                    groups=convolution.groups)


def _reach(block: nn.Module) -> int:
    """Rows after one that a block sees for it."""
    return cast(nn.Conv2d, cast(SeparableBlock, block).block[0]).kernel_size[1] // 2
