"""Label many recordings in several threads, into a table."""
from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Callable, Iterable, Iterator

from tqdm import tqdm

from kws.inference.batch.inputs import Inputs, Row
from kws.inference.batch.summary import Summary
from kws.inference.batch.table import ResumableTable
from kws.inference.spotter import Answer, KeywordSpotter


def predict(spotter: KeywordSpotter, inputs: Inputs, table: ResumableTable, threshold: float = 0.0,
            batch_size: int = 64, workers: int = 1, resume: bool = False) -> Summary:
    """Label every input and write the table.

    Args:
        spotter: with a runtime of one thread: several workers share it, each decodes and labels whole batches.
        inputs: what to label.
        table: where the rows go.
        threshold: 0..1, the least confidence of a keyword.
        batch_size: recordings that a worker takes at a time.
        workers: threads.
        resume: whether to keep what an interrupted prediction has written.
    Returns:
        what came out, for all rows.
    Raises:
        DataError: "other_table" if there is nothing to resume for these rows, and those of entering a table.
        OSError: if the table cannot be written; what is there can be resumed.
    """
    summary, rows = Summary(spotter.labels), iter(inputs)
    with table:
        if resume:
            for done in table.resume(iter(inputs)):
                summary.add_written(next(rows), done)
        else:
            table.start()
        began, already = time.perf_counter(), summary.rows
        with tqdm(total=inputs.count, initial=already, unit="file", disable=None) as bar:
            for batch, answers in label_rows(spotter, rows, threshold, batch_size, workers):
                table.write(batch, answers)
                summary.add(batch, answers)
                bar.update(len(batch))
        table.finish()
    summary.rows_per_second = (summary.rows - already) / (time.perf_counter() - began)
    return summary


def label_rows(spotter: KeywordSpotter, rows: Iterator[Row], threshold: float, batch_size: int,
               workers: int) -> Iterator[tuple[list[Row], list[Answer]]]:
    """Label rows in several threads and yield them in order, batch by batch; arguments as for `predict`."""
    def label(batch: list[Row]) -> list[Answer]:
        return spotter.classify([row.location for row in batch], threshold, names=[row.path for row in batch])

    return _in_order(label, _batches(rows, batch_size), workers)


def _batches(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(islice(rows, size)):
        yield batch


def _in_order(function: Callable[[list[Row]], list[Answer]], batches: Iterable[list[Row]],
              workers: int) -> Iterator[tuple[list[Row], list[Answer]]]:
    """Apply a function to batches in several threads; results come in order, few are ever ahead of the reader."""
    pending: deque[tuple[list[Row], Future[list[Answer]]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for batch in batches:
            pending.append((batch, pool.submit(function, batch)))
            if len(pending) > 2 * workers:
                rows, answers = pending.popleft()
                yield rows, answers.result()
        for rows, answers in pending:
            yield rows, answers.result()
    finally:
        pool.shutdown(cancel_futures=True)
