"""Measure a model on running sound: misses by condition, false accepts per hour.

  kws evaluate-streams streams/
  kws evaluate-streams streams/ --model models/kws-streams --per-hour 1 --write

A folder of streams holds manifest.csv (path, seconds, kind, language, keyword_free) and events.csv (stream, start_s,
end_s, word, voice_end_s). Without --per-hour the rule that came with the model is measured; with it the threshold that
has so many false accepts an hour of keyword-free speech, which --write stores with the model.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path

from kws.commands.cli import EXIT_OK
from kws.model.folder import SHIPPED, STREAM_FILE

_TARGETS = (4.0, 2.0, 1.0, 0.5)  # false accepts an hour that advice is given for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("streams", type=Path, help="folder with manifest.csv and events.csv")
    parser.add_argument("--model", type=Path, default=SHIPPED,
                        help="exported model folder with a stream.onnx (default: the shipped one)")
    parser.add_argument("--per-hour", type=float, help="false accepts an hour to choose the threshold for")
    parser.add_argument("--write", action="store_true", help="store that threshold with the model")
    parser.add_argument("--output", type=Path, default=Path("reports/streams"),
                        help="folder for metrics.json and conditions.csv (default: reports/streams)")


def run(args: argparse.Namespace) -> int:
    """Listen, choose, count, print."""
    from dataclasses import asdict, replace

    from kws.evaluation.stream_evaluation import StreamSet, advice, conditions
    from kws.inference.listening import StreamModel

    model = StreamModel(args.model / STREAM_FILE)
    streams = StreamSet.listen(args.streams, model)
    settings = model.settings
    if args.per_hour is not None:
        settings = replace(settings, thresholds={}, threshold=streams.threshold_for(args.per_hour, settings))
        if args.write:
            from kws.export.to_stream import write_detector

            write_detector(args.model, asdict(settings))
    table = conditions(streams.heard, streams.outcomes(settings))
    thresholds = advice(streams, settings, _TARGETS)
    args.output.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.output / "conditions.csv", index=False)
    figures = {"detector": asdict(settings), "advice": thresholds,
               "conditions": json.loads(table.set_index("condition").to_json(orient="index"))}
    (args.output / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(table.round(3).to_string(index=False))
    for row in thresholds:
        print(f"at {row['false_accepts_per_hour']:g} false accepts an hour: threshold {row['threshold']:.2f}, "
              f"{row['miss_rate']:.1%} of all keywords missed")
    return EXIT_OK
