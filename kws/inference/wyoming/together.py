"""Many listeners of one model, heard together: each waits for its own answer, the model runs for all that wait."""
from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple
from weakref import WeakSet

import numpy as np

from kws.inference.decision import Detection
from kws.inference.listening import MOST_BLOCKS, Listener, StreamModel, step_together

_MOST_LISTENERS = 16  # a call: with more the cost of each falls no further
_GATHERING_SECONDS = 0.005  # at most, until others join a call: for many it costs little more than for one


class _Turn(NamedTuple):
    """A listener with samples to hear, what was found in them so far, and who waits for it."""

    listener: Listener
    found: list[Detection]
    done: asyncio.Future[list[Detection]]


class Together:
    """Feeds listeners from coroutines of one event loop.

    A call of the model takes milliseconds, and other coroutines run between two calls. Whoever brings much sound at
    once takes turns with the others.

    Args:
        model: of all listeners.
    """

    def __init__(self, model: StreamModel) -> None:
        self._model = model
        self._turns: deque[_Turn] = deque()
        self._known: WeakSet[Listener] = WeakSet()

    async def feed(self, listener: Listener, samples: np.ndarray) -> list[Detection]:
        """Hear the next samples of a listener, as its own `feed` does; return what they complete."""
        listener.add(samples)
        if not listener.blocks:
            return []
        loop = asyncio.get_running_loop()
        turn = _Turn(listener, [], loop.create_future())
        self._known.add(listener)
        self._turns.append(turn)
        if len(self._turns) == min(len(self._known), _MOST_LISTENERS):  # nobody is left to wait for
            loop.call_soon(self._step)
        elif len(self._turns) == 1:
            loop.call_later(_GATHERING_SECONDS, self._step)
        return await turn.done

    def _step(self) -> None:
        """Let those that have waited longest hear as many blocks as each of them has."""
        turns = [self._turns.popleft() for _ in range(min(len(self._turns), _MOST_LISTENERS))]
        turns = [turn for turn in turns if not turn.done.done()]  # the connections of others have ended
        try:
            self._hear(turns)
        except Exception as error:  # whoever waits has to know
            for turn in turns:
                if not turn.done.done():
                    turn.done.set_exception(error)
        if self._turns:
            asyncio.get_running_loop().call_soon(self._step)

    def _hear(self, turns: list[_Turn]) -> None:
        if not turns:
            return
        blocks = min([MOST_BLOCKS // len(turns), *(turn.listener.blocks for turn in turns)])
        found = step_together(self._model, [turn.listener for turn in turns], blocks)
        for turn, detections in zip(turns, found):
            turn.found.extend(detections)
            if turn.listener.blocks:
                self._turns.append(turn)
            else:
                turn.done.set_result(turn.found)
