"""Measure a model on running sound: misses, false accepts per hour, which threshold.

  kws evaluate-streams
  kws evaluate-streams streams/
  kws evaluate-streams streams/ --model models/kws --per-hour 1 --write

A folder of streams holds manifest.csv (path, seconds, kind, language, keyword_free) and events.csv (stream, start_s,
end_s, word, voice_end_s). Without --per-hour the rule that came with the model is measured; with it the threshold that
has so many false accepts an hour of keyword-free speech.

Prints a table; writes metrics.json, conditions.csv, det.png, words.png, timeline.png and report.html.
"""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from kws.audio.folders import STREAMS_FOLDER
from kws.commands.cli import EXIT_OK, add_config, add_stream_model, chosen_model, logger, within
from kws.errors import DataError
from kws.inference.detector import DetectorSettings
from kws.model.folder import SHIPPED, STREAM_FILE

if TYPE_CHECKING:
    from kws.evaluation.stream_evaluation import StreamSet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("streams", type=Path, nargs="?",
                        help=f"folder with manifest.csv and events.csv (default: {STREAMS_FOLDER} of the data folder)")
    add_stream_model(parser)
    parser.add_argument("--per-hour", type=within(float, 0), metavar="N",
                        help="false accepts an hour to choose the threshold for")
    parser.add_argument("--write", action="store_true", help="store the rule and the advice on thresholds in the model")
    parser.add_argument("--timeline", metavar="PATH",
                        help="stream to draw a minute of, as manifest.csv names it (default: the one with most words)")
    parser.add_argument("--output", type=Path, default=Path("reports/streams"), metavar="DIR",
                        help="folder for the reports, replaced (default: reports/streams)")
    add_config(parser, "configs/kws.yaml", "names where a tracked training was recorded; the result is added to it")


def _missing(*paths: Path) -> Optional[str]:
    """Say what the pipeline lacks to measure running sound: own data may come without streams."""
    return next((f"{path}: not there" for path in paths if not path.exists()), None)


def _rule_for(per_hour: float, streams: StreamSet, folder: Path) -> DetectorSettings:
    """Choose the threshold for so many false accepts an hour of speech without keywords."""
    from kws.evaluation.threshold_advice import confidence_for, with_confidence

    speech, settings = streams.keyword_free_speech, streams.model.settings
    confidence = confidence_for(per_hour, speech, settings)
    if 0 < per_hour * speech.hours < 1:
        logger.warning("%s: %.2g hours of speech without keywords are too short to tell %g false accepts an hour; the "
                       "threshold is a guess", folder, speech.hours, per_hour)
    return with_confidence(settings, confidence)


def run(args: argparse.Namespace) -> int:
    """Listen, choose, count, write the reports, print the table."""
    from dataclasses import asdict

    from kws.config.sections import load_config
    from kws.evaluation.stream_evaluation import StreamSet
    from kws.evaluation.stream_report import (check_report, evaluate_streams, figures, summary, write_empty_report,
                                              write_report)
    from kws.inference.listening import StreamModel
    from kws.tracking.results import log_evaluation
    from kws.tracking.run_file import read_run

    is_named, args.model = args.model is not None, chosen_model(args.model)
    if args.write and not is_named and args.model == SHIPPED:
        raise DataError(f"--write would change the model of the package, {SHIPPED}; copy it, and give the copy as "
                        "--model", "shipped")
    tracked = read_run(args.model)
    # Who did not train has no configuration.
    config = load_config(args.config, args.set) if tracked or args.streams is None else None
    check_report(args.output)
    folder = args.streams if config is None else args.streams or config.data.root / STREAMS_FOLDER
    if args.streams is None and (missing := _missing(folder, args.model / STREAM_FILE)):
        write_empty_report(args.output, missing)
        print(f"{missing}: nothing to measure")
        return EXIT_OK
    model = StreamModel(args.model / STREAM_FILE)
    streams = StreamSet.listen(folder, model)
    settings = model.settings if args.per_hour is None else _rule_for(args.per_hour, streams, folder)
    evaluation = evaluate_streams(streams, settings)
    write_report(evaluation, args.output, f"{args.model} on {folder}", args.timeline)
    if args.write:
        from kws.export.to_stream import write_detector

        write_detector(args.model, asdict(settings), [asdict(item) for item in evaluation.advice])
    if config and tracked:
        log_evaluation(config, args.model, figures(evaluation), args.output, "streams", "streams")
    print(summary(evaluation))
    print(f"reports: {args.output}/report.html, metrics.json, conditions.csv, det.png, words.png, timeline.png")
    return EXIT_OK
