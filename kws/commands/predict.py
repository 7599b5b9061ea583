"""Label recordings: files, folders, or the rows of a manifest.

  kws predict a.wav recordings/                        prints a line for each
  kws predict recordings/ --output_path preds.csv      writes a table
  kws predict manifest.csv --output_path preds.jsonl --threshold 0.8
  kws predict meetings/ --output_path preds.csv --detections words.csv
  kws predict s3://bucket/wavs --output_path s3://bucket/labels/ --ray auto

A manifest (.csv, .parquet) has a column path, relative to the manifest, and optionally label, which adds accuracy and
a confusion matrix to the summary. The table has one row per input, in order: path, label, confidence, a column for
each label, start_seconds (where the answer begins in a recording longer than the window), error (why a recording could
not be used). A recording longer than the window is searched for keywords; its label is the surest of them.

With --ray the work is done on a cluster, in parts that are kept when something fails. OUT that ends with .csv, .jsonl
or .parquet is then one table, in order; any other is a folder of parts. Every node must reach INPUT and OUT: a shared
folder, or an address such as s3://bucket/folder.

exit code: 0 every row was labelled, 3 some rows are errors, 2 nothing could be done (the message says why),
           130 interrupted (the same command with --resume continues)
"""
from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Optional, Sequence

import kws
from kws.commands.cli import EXIT_OK, EXIT_SOME_FAILED, add_model, chosen_model, refuse_recording, within
from kws.errors import AudioError, DataError
from kws.files.locks import exclusive
from kws.files.places import is_remote, place
from kws.inference.batch.cluster import LOCAL, cluster, label_parts
from kws.inference.batch.columns import FORMATS, TableColumns
from kws.inference.batch.inputs import Inputs, Row, list_inputs
from kws.inference.batch.labelling import label_rows, predict
from kws.inference.batch.parts import PartsFolder
from kws.inference.batch.summary import Summary
from kws.inference.batch.table import ResumableTable
from kws.inference.cores import available_cores
from kws.inference.decision import as_record
from kws.inference.lines import in_one_line
from kws.inference.runtime import RUNTIMES
from kws.inference.spotter import Answer, KeywordSpotter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("inputs", type=place, nargs="*", metavar="INPUT",
                        help="file, folder or manifest; also elsewhere, as s3://bucket/folder")
    parser.add_argument("--input_path", type=place, action="append", metavar="IN", help="same as INPUT")
    parser.add_argument("--output_path", type=place, metavar="OUT", help="the table, replaced (default: the terminal)")
    parser.add_argument("--detections", type=place, metavar="CSV",
                        help="a table of every keyword in recordings longer than the window, beside OUT: path, word, "
                        "start_s, end_s, time_s, confidence")
    add_model(parser)
    parser.add_argument("--runtime", choices=RUNTIMES,
                        help="default: onnx if the model has been exported; torch uses a GPU")
    parser.add_argument("--threshold", type=within(float, 0, 1), default=0.0, metavar="CONFIDENCE",
                        help="least confidence of a keyword, 0 to 1; below it the answer is _unknown_ (default: 0)")
    parser.add_argument("--top_k", type=within(int, 1), metavar="K",
                        help="write only the K greatest confidences of a row")
    parser.add_argument("--format", choices=FORMATS, help="of the table (default: by the suffix of OUT, else csv)")
    parser.add_argument("--batch_size", type=within(int, 1), default=64, metavar="N",
                        help="files a worker takes at a time (default: 64)")
    parser.add_argument("--workers", type=within(int, 1), metavar="N",
                        help="threads that decode and label, with --ray processes (default: one for each core)")
    parser.add_argument("--ray", metavar="ADDRESS", help="label on a Ray cluster: HOST:PORT, auto on one of its nodes, "
                        f"or {LOCAL} for one that is this machine")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run of the same command")


def run(args: argparse.Namespace) -> int:
    """Label, and print what came out."""
    sources = [*args.inputs, *(args.input_path or [])]
    if not sources:
        raise DataError("no input; name a file, a folder or a manifest: kws predict recordings/", "no_input")
    _check_output(args, sources)
    model = chosen_model(args.model)
    spotter = KeywordSpotter(model, runtime=args.runtime, threads=1)
    if args.detections is not None:
        spotter.stream([])  # raises ModelError for a model that detects nothing
    listing = list_inputs(*sources)
    if args.ray is not None:
        with nullcontext() if is_remote(args.output_path) else exclusive(args.output_path, "a prediction"):
            return _predict_on_cluster(spotter, model, listing, args)
    if args.output_path is None:
        return _print_rows(spotter, listing, args)
    kind = args.format or _kind_by_suffix(args.output_path) or "csv"
    table = ResumableTable(args.output_path, spotter.labels, kind, args.top_k,
                           {"version": kws.__version__, "model": spotter.digest, "threshold": args.threshold},
                           args.detections)
    summary = predict(spotter, listing, table, args.threshold, args.batch_size, args.workers or available_cores(),
                      args.resume)
    return _report(summary, args)


def _predict_on_cluster(spotter: KeywordSpotter, model: Path, listing: Inputs, args: argparse.Namespace) -> int:
    """Write parts, and join them where one table is wanted."""
    out, kind = args.output_path.absolute(), _kind_by_suffix(args.output_path)  # nodes have folders of their own
    folder = PartsFolder(out if kind is None else out.with_name(f"{out.name}.parts"),
                         "csv" if kind is not None else args.format or "parquet", spotter.digest, args.threshold,
                         args.top_k, args.detections is not None)
    with cluster(args.ray, args.workers) as workers:
        names, summary = label_parts(listing, folder, model, args.runtime, spotter.labels, args.batch_size, workers,
                                     args.resume)
    if args.detections is not None:
        folder.join_detections(names, args.detections)
    if kind is not None:
        folder.join(names, TableColumns(spotter.labels, args.top_k), out, args.format or kind)
        folder.remove()
    return _report(summary, args)


def _kind_by_suffix(path: Path) -> Optional[str]:
    suffix = path.suffix.lstrip(".").lower()
    return suffix if suffix in FORMATS else None


def _report(summary: Summary, args: argparse.Namespace) -> int:
    print(summary.text())
    for path in filter(None, (args.output_path, args.detections)):
        print(f"{path}: written")
    return EXIT_SOME_FAILED if summary.errors else EXIT_OK


def _check_output(args: argparse.Namespace, sources: Sequence[Path]) -> None:
    if args.output_path is None and (args.resume or args.detections or args.ray or args.format not in (None, "jsonl")):
        raise DataError("--resume, --detections, --ray, csv and parquet need a table to write; add --output_path",
                        "no_output")
    if args.output_path is None and args.top_k is not None and args.format is None:
        raise DataError("--top_k: a printed line has one answer; add --format jsonl or --output_path", "no_effect")
    if args.detections is not None and args.detections.suffix.lower() != ".csv":
        raise DataError(f"{args.detections}: the table of detections is CSV; expected a name that ends with .csv",
                        "not_csv")
    taken = list(sources)
    for path in filter(None, (args.output_path, args.detections)):
        if args.ray is None and is_remote(path):
            raise DataError(f"{path}: tables elsewhere are written by a cluster; add --ray {LOCAL}", "no_cluster")
        if any(_is_same(path, other) for other in taken):
            raise DataError(f"{path}: is the input, or another table; expected another file to write", "same_file")
        refuse_recording(path)
        taken.append(path)


def _is_same(path: Path, other: Path) -> bool:
    if is_remote(path) or is_remote(other):
        return str(path).rstrip("/") == str(other).rstrip("/")
    return path.resolve() == other.resolve() or path.exists() and other.exists() and path.samefile(other)


def _print_rows(spotter: KeywordSpotter, listing: Inputs, args: argparse.Namespace) -> int:
    failed = False
    workers = args.workers or available_cores()
    for rows, answers in label_rows(spotter, iter(listing), args.threshold, args.batch_size, workers):
        for row, found in zip(rows, answers):
            failed |= isinstance(found, AudioError)
            print(_json_line(row, found, args.top_k) if args.format == "jsonl" else _text_line(row, found), flush=True)
    return EXIT_SOME_FAILED if failed else EXIT_OK


def _json_line(row: Row, found: Answer, top_k: Optional[int]) -> str:
    told = {"error": f"{found.code}: {found}"} if isinstance(found, AudioError) else as_record(found, top_k)
    return json.dumps({"path": row.path, **told}, ensure_ascii=False)


def _text_line(row: Row, found: Answer) -> str:
    if isinstance(found, AudioError):
        return f"{'error':<12}        {in_one_line(str(found))}"
    where = f", from {found.start_seconds:.2f} s" if found.start_seconds else ""
    return f"{found.label:<12} {found.confidence:6.1%}  {in_one_line(row.path)}{where}"
