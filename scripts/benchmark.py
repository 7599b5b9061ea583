#!/usr/bin/env python
"""Measure speed on this machine; every table compares what was measured in one run.

usage: python scripts/benchmark.py features [--clips 1000] [--threads 2]     log-mel, against librosa
       python scripts/benchmark.py training [--threads 2]                    a training step of every architecture
       python scripts/benchmark.py predict --wavs FOLDER [--model models/kws] [--threads 2]
                                                   offline prediction, against the runtime alone and a pipeline
"""
from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Callable, Optional, Sequence

from kws.cli import EXIT_OK, add_verbosity, guard, start_logging
from kws.config import Config, load_architecture, load_config
from kws.inference import DEFAULT_MODEL

_REPEATS = 5
_BATCH_SIZE = 100


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("what", choices=("features", "training", "predict"))
    parser.add_argument("--config", type=Path, default=Path("configs/kws.yaml"))
    parser.add_argument("--clips", type=int, default=1000, help="random clips to measure features on (default: 1000)")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help=f"exported (default: {DEFAULT_MODEL})")
    parser.add_argument("--wavs", type=Path, default=Path("data"), help="folder to predict (default: data)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    add_verbosity(parser)
    return parser.parse_args(argv)


def best_seconds(work: Callable[[], object], repeats: int = _REPEATS) -> float:
    """Time some work: the fastest of several runs, which other programs disturbed least; one more warms up."""
    def once() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    once()
    return min(once() for _ in range(repeats))


def print_rates(rates: dict[str, float], reference: str) -> None:
    """Print clips per second, and each as a multiple of the reference."""
    print(f"{'':<44}{'clips/s':>9}{'ratio':>8}")
    for name, rate in rates.items():
        print(f"{name:<44}{rate:>9.0f}{rate / rates[reference]:>8.2f}")


def measure_features(config: Config, num_clips: int) -> None:
    """Log-mel energies of random clips: ours in batches and clip by clip, and librosa's."""
    import librosa
    import numpy as np
    import torch

    from kws.features import LogMel

    rate, settings = config.data.sample_rate, config.features
    waveforms = 0.1 * torch.randn(num_clips, config.data.num_samples, generator=torch.Generator().manual_seed(0))
    front_end, arrays = LogMel(sample_rate=rate, **settings.model_dump()), waveforms.numpy()

    def with_librosa() -> None:
        for waveform in arrays:
            energies = librosa.feature.melspectrogram(
                y=waveform, sr=rate, n_fft=settings.n_fft, win_length=round(settings.window_ms * rate / 1000),
                hop_length=round(settings.hop_ms * rate / 1000), n_mels=settings.num_mels, fmin=settings.fmin_hz,
                fmax=settings.fmax_hz, pad_mode="constant", htk=True, norm=None)
            np.log(energies + settings.log_offset)

    work = {f"kws, batches of {_BATCH_SIZE}": lambda: [front_end(batch) for batch in waveforms.split(_BATCH_SIZE)],
            "torchaudio, clip by clip": lambda: [front_end(batch) for batch in waveforms.split(1)],
            "librosa, clip by clip": with_librosa}
    with torch.inference_mode():
        rates = {name: num_clips / best_seconds(function) for name, function in work.items()}
    print_rates(rates, "librosa, clip by clip")


def measure_training(config: Config) -> None:
    """One optimisation step on a batch, of every architecture: augmentation, log-mel, forward, backward, update."""
    import torch

    from kws.augment import Augmenter
    from kws.labels import LabelSet
    from kws.modeling import KwsForAudioClassification, build_model

    generator = torch.Generator().manual_seed(0)
    waveforms, noise = 0.1 * torch.randn(2, _BATCH_SIZE, config.data.num_samples, generator=generator)
    labels = LabelSet.from_keywords(config.data.keywords)
    targets = torch.randint(len(labels), (_BATCH_SIZE,), generator=generator)
    augmenter = Augmenter(sample_rate=config.data.sample_rate, **config.augment.model_dump())
    rates = {}
    for path in sorted(Path("configs/arch").glob("*.yaml")):
        model = build_model(labels.names, config.data.sample_rate, config.data.num_samples,
                            config.features.model_dump(), load_architecture(path).model_dump(mode="json"))
        optimizer = torch.optim.AdamW(model.parameters())

        def step(model: KwsForAudioClassification = model, optimizer: torch.optim.Optimizer = optimizer) -> None:
            with torch.no_grad():
                features = model.features(augmenter.waveforms(waveforms, noise, generator))
                features = augmenter.features(features, generator)
            optimizer.zero_grad()
            model(input_features=features, labels=targets).loss.backward()
            optimizer.step()

        num_parameters = sum(weight.numel() for weight in model.parameters())
        rates[f"{path.stem}, {num_parameters:,} parameters"] = _BATCH_SIZE / best_seconds(step)
    print_rates(rates, next(iter(rates)))


def measure_predict(model: Path, wavs: Path, threads: int) -> None:
    """Files a second of `kws.predict`, of its runtime on arrays that are ready, and of transformers' pipeline."""
    import os
    import tempfile
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    import soundfile
    from transformers import pipeline

    import kws.modeling  # noqa: F401  # registers the model with transformers
    from kws.inference import BATCH_SIZE, KeywordSpotter
    from kws.journal import Journal
    from kws.listing import list_rows
    from kws.predict import predict
    from kws.runtime import load_runtime

    listing, runtime = list_rows(wavs), load_runtime(model, "onnx", threads=1)
    spotter, paths = KeywordSpotter(runtime), [row.location for row in listing]
    batch = np.random.default_rng(0).uniform(-0.1, 0.1, (BATCH_SIZE, runtime.num_samples)).astype(np.float32)
    calls = len(paths) // BATCH_SIZE
    pipe = pipeline("audio-classification", model=str(model))

    def alone() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(runtime.logits, [batch] * calls))

    def with_pipeline() -> None:
        few = paths[:len(paths) // 8]  # it is slow
        clips = ({"array": soundfile.read(path, dtype="float32")[0], "sampling_rate": runtime.sample_rate}
                 for path in few)
        list(pipe(clips, batch_size=64))  # type: ignore[arg-type]  # it takes generators, but does not say so

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder, "preds.csv"), spotter.labels)
        cpu, began = os.times(), time.perf_counter()
        predict(spotter, listing, journal, workers=threads)
        used, seconds = os.times(), time.perf_counter() - began
        rates = {"kws.predict": listing.count / best_seconds(
                     lambda: predict(spotter, listing, journal, workers=threads), 3),
                 "its runtime on ready arrays": calls * BATCH_SIZE / best_seconds(alone, 3),
                 "transformers.pipeline, batches of 64": len(paths) // 8 / best_seconds(with_pipeline, 1)}
    print_rates(rates, "kws.predict")
    print(f"{listing.count:,} files, {threads} threads; processor time of kws.predict "
          f"{(used.user + used.system - cpu.user - cpu.system) / seconds:.2f} of {threads} cores")


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure and print a table."""
    args = parse_args(argv)
    start_logging(args.verbose)
    config = load_config(args.config)
    import torch

    torch.set_num_threads(args.threads)
    if args.what == "features":
        measure_features(config, args.clips)
    elif args.what == "predict":
        measure_predict(args.model, args.wavs, args.threads)
    else:
        measure_training(config)
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
