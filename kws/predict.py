"""Label recordings offline: every row of a manifest, every audio file of a folder, or one file.

usage: python -m kws.predict --input_path wavs/ --output_path preds.csv
       python -m kws.predict --input_path manifest.csv --output_path preds.jsonl --threshold 0.8

The table has one row for every input, in order: path, label, confidence, a column for each label, start_seconds (of
the window that was answered for, in recordings longer than it), error. A recording that cannot be used is a row whose
`error` says why.

exit code: 0 every row was labelled, 3 some rows are errors, 2 nothing could be done (the message says why),
           130 interrupted (the same command with --resume goes on)
"""
from __future__ import annotations

import argparse
import signal
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Callable, Iterable, Iterator, Optional, Sequence

from tqdm import tqdm

from kws.cli import EXIT_OK, EXIT_SOME_FAILED, add_verbosity, available_cores, guard, start_logging
from kws.errors import DataError
from kws.inference import Answer, KeywordSpotter
from kws.journal import FORMATS, Journal
from kws.listing import Listing, Row, list_rows
from kws.runtime import RUNTIMES, TRAINED, default_model, load_runtime
from kws.tally import Tally


def predict(spotter: KeywordSpotter, listing: Listing, journal: Journal, threshold: float = 0.0, batch_size: int = 64,
            workers: int = 1, resume: bool = False) -> Tally:
    """Label every row of a listing; the journal becomes the finished table.

    Args:
        spotter: with a runtime of one thread: several workers share it, each decodes and labels whole batches.
        listing: what to label.
        journal: where the rows go.
        threshold: 0..1, the least confidence of a keyword.
        batch_size: recordings that a worker takes at a time.
        workers: threads.
        resume: whether to keep what an interrupted prediction has written.
    Returns:
        what came out, for all rows.
    Raises:
        DataError: "other_journal" if there is nothing to resume for these rows, and those of entering a journal.
        OSError: if the table cannot be written; what is there can be resumed.
    """
    def label(batch: list[Row]) -> list[Answer]:
        return spotter.classify([row.location for row in batch], threshold, names=[row.path for row in batch])

    tally, rows = Tally(spotter.labels), iter(listing)
    with journal:
        if resume:
            for done in journal.resume(iter(listing)):
                tally.add_written(next(rows), done)
        else:
            journal.start()
        began, already = time.perf_counter(), tally.rows
        with tqdm(total=listing.count, initial=already, unit="file", disable=None) as bar:
            for batch, answers in _in_order(label, _batches(rows, batch_size), workers):
                journal.write(batch, answers)
                tally.add(batch, answers)
                bar.update(len(batch))
        journal.finish()
    tally.rows_per_second = (tally.rows - already) / (time.perf_counter() - began)
    return tally


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


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m kws.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS)
    parser.add_argument("--input_path", type=Path, required=True, metavar="IN",
                        help="manifest (.csv, .parquet) with a column path, relative to it, and perhaps label, which "
                             "adds accuracy and confusion; or a folder, searched for wav, flac, ogg and mp3; or a file")
    parser.add_argument("--output_path", type=Path, required=True, metavar="OUT", help="the table, replaced")
    parser.add_argument("--model", type=Path,
                        help=f"model folder, or an ONNX file (default: {TRAINED}, or the shipped one without it)")
    parser.add_argument("--runtime", choices=RUNTIMES,
                        help="default: ONNX Runtime where the model has been exported; torch uses a GPU")
    parser.add_argument("--threshold", type=probability, default=0.0,
                        help="least confidence of a keyword, 0 to 1; below it the answer is _unknown_ (default: 0)")
    parser.add_argument("--top_k", type=count, metavar="K", help="write only the K greatest confidences of a row")
    parser.add_argument("--format", choices=FORMATS, help="default: by the suffix of OUT, else csv")
    parser.add_argument("--batch_size", type=count, default=64, help="files a worker takes at a time (default: 64)")
    parser.add_argument("--workers", type=count, default=available_cores(),
                        help="threads that decode and label (default: one for each core that may be used)")
    parser.add_argument("--resume", action="store_true", help="go on where the same command was interrupted")
    add_verbosity(parser)
    return parser.parse_args(argv)


def probability(text: str) -> float:
    """Read a number of 0 to 1 from the command line; argparse puts the name of this function into its message."""
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 to 1")
    return value


def count(text: str) -> int:
    """Read a number of 1 or more, likewise."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 or more")
    return value


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Label, and print what came out."""
    args = parse_args(argv)
    start_logging(args.verbose)
    if args.output_path.exists() and args.output_path.samefile(args.input_path):
        raise DataError(f"{args.output_path}: is the input; expected another file to write", "same_file")
    listing = list_rows(args.input_path)
    suffix = args.output_path.suffix.lstrip(".").lower()
    runtime = load_runtime(args.model or default_model(), args.runtime, threads=1)
    spotter = KeywordSpotter(runtime)
    journal = Journal(args.output_path, spotter.labels, args.format or (suffix if suffix in FORMATS else "csv"),
                      args.top_k, {"model": runtime.digest, "threshold": args.threshold})
    tally = predict(spotter, listing, journal, args.threshold, args.batch_size, args.workers, args.resume)
    print(tally.text())
    print(f"{args.output_path}: written")
    return EXIT_SOME_FAILED if tally.errors else EXIT_OK


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `docker stop` is Ctrl-C
    raise SystemExit(guard(main))
