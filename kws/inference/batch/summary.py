"""Summary of a prediction: rows, errors by kind, labels, and accuracy where targets are given."""
from __future__ import annotations

from collections import Counter
from typing import Mapping, Sequence

import numpy as np

from kws.errors import AudioError
from kws.inference.batch.inputs import Row
from kws.inference.spotter import Answer
from kws.model.labels import LabelSet


class Summary:
    """Counts over rows; memory does not grow with them.

    Args:
        labels: of the model. Targets that are none of them count as `_unknown_`.
    """

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self.rows = 0
        self.rows_per_second = 0.0
        self.errors: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)

    def add(self, rows: Sequence[Row], answers: Sequence[Answer]) -> None:
        """Count new rows."""
        for row, answer in zip(rows, answers):
            if isinstance(answer, AudioError):
                self._add(row, "", answer.code)
            else:
                self._add(row, answer.label, "")

    def add_written(self, row: Row, written: Mapping[str, str]) -> None:
        """Count a row of an earlier run, as it stands in the table."""
        self._add(row, written["label"], written["error"].partition(":")[0])

    def merge(self, other: Summary) -> None:
        """Count the rows of another summary of the same labels."""
        self.rows += other.rows
        self.errors += other.errors
        self.answers += other.answers
        self.confusion += other.confusion

    def _add(self, row: Row, label: str, error_code: str) -> None:
        self.rows += 1
        if error_code:
            self.errors[error_code] += 1
            return
        self.answers[label] += 1
        if row.target is not None:
            target = self._labels.index(self._labels.label_of(row.target))
            self.confusion[target, self._labels.index(label)] += 1

    def text(self) -> str:
        """Lines that a terminal shows well."""
        lines = [f"{self.rows:,} rows, {sum(self.errors.values()):,} errors, {self.rows_per_second:,.0f} files/s"]
        lines += [f"  error {code}: {count:,}" for code, count in self.errors.most_common()]
        lines += [f"  {label:<12} {self.answers[label]:>9,}" for label in self._labels]
        scored = int(self.confusion.sum())
        if scored:
            lines.append(f"accuracy {np.trace(self.confusion) / scored:.2%} of {scored:,} rows with a label; "
                         "rows: label, columns: answer")
            width = max(len(label) for label in self._labels) + 1
            lines.append(" " * width + "".join(f"{label:>{width}}" for label in self._labels))
            lines += [f"{label:<{width}}" + "".join(f"{count:>{width},}" for count in counts)
                      for label, counts in zip(self._labels, self.confusion)]
        return "\n".join(lines)
