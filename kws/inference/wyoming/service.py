"""What the connections of a Wyoming service share: the model, its description, the places there are."""
from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator, Sequence

from wyoming.info import Attribution, Info, WakeModel, WakeProgram

import kws
from kws.errors import DataError
from kws.inference.detector import DetectorSettings
from kws.inference.listening import Listener, StreamModel
from kws.inference.wyoming.together import Together

_ATTRIBUTION = Attribution("kws", "")


class Service:
    """The shared part of a Wyoming service.

    Args:
        model: of all connections.
        settings: the rule.
        languages: of the words, as "en".
        max_connections: at a time.
    """

    def __init__(self, model: StreamModel, settings: DetectorSettings, languages: Sequence[str],
                 max_connections: int) -> None:
        self.model, self._settings = model, settings
        self.together = Together(model)
        self.info = describe(model.labels.keywords, languages).event()
        self._max_connections, self.connections = max_connections, 0

    def listener(self) -> Listener:
        """Make the listener of a new sound."""
        return Listener(self.model, self._settings)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places for connections; raises DataError "too_many" if all are taken."""
        if self.connections >= self._max_connections:
            raise DataError(f"all {self._max_connections:,} connections are taken; try again later, or raise "
                            "--max-connections", "too_many")
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1


def describe(words: Sequence[str], languages: Sequence[str]) -> Info:
    """Describe a service that detects words: one model for each, named by it."""
    models = [WakeModel(name=word, description=word, phrase=word, languages=list(languages), installed=True,
                        version=kws.__version__, attribution=_ATTRIBUTION) for word in words]
    return Info(wake=[WakeProgram(name="kws", description="Spots spoken commands", installed=True, models=models,
                                  version=kws.__version__, attribution=_ATTRIBUTION)])
