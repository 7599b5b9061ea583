#!/usr/bin/env python
"""Measure speed on this machine; every table compares what was measured in one run.

usage: python scripts/benchmark.py features [--clips 1000] [--threads 2]     log-mel, against librosa
       python scripts/benchmark.py training [--threads 2]                    a training step of every architecture
       python scripts/benchmark.py model                                     size and speed of every architecture
       python scripts/benchmark.py predict --wavs FOLDER [--model models/kws] [--threads 2]
                                                   offline prediction, against the runtime alone and a pipeline
"""
from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional, Sequence

from kws.commands.cli import EXIT_OK, TRAINED, add_verbosity, chosen_model, guard, start_logging
from kws.config.architecture import load_architecture
from kws.config.sections import Config, load_config
from kws.model.folder import CONFIG_FILE, SHIPPED
from kws.model.window import FULL_SCALE

if TYPE_CHECKING:
    from kws.model.modeling import KwsForAudioClassification

_REPEATS, _CALLS = 5, 300
_BATCH_SIZE = 100


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("what", choices=("features", "training", "model", "predict"))
    parser.add_argument("--config", type=Path, default=Path("configs/kws.yaml"))
    parser.add_argument("--clips", type=int, default=1000, help="random clips to measure features on (default: 1000)")
    parser.add_argument("--model", type=Path,
                        help=f"exported folder (default: {TRAINED}, or the shipped one without it)")
    parser.add_argument("--wavs", type=Path, default=Path("data"), help="folder to predict (default: data)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    add_verbosity(parser)
    return parser.parse_args(argv)


def best_seconds(work: Callable[[], object], repeats: int = _REPEATS) -> float:
    """Time some work: the fastest of several runs, which other programs disturbed least; one more warms up."""
    _seconds(work)
    return min(_seconds(work) for _ in range(repeats))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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

    from kws.model.features import LogMel

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
    rates = {}
    for path in architectures():
        model = untrained_model(config, path)
        rates[f"{path.stem}, {model.num_parameters():,} parameters"] = (
            _BATCH_SIZE / best_seconds(training_step(config, model)))
    print_rates(rates, next(iter(rates)))


def architectures() -> list[Path]:
    """List the architecture files."""
    return sorted(Path("configs/arch").glob("*.yaml"))


def untrained_model(config: Config, architecture: Path) -> KwsForAudioClassification:
    """Build a model of the configured task with the network of an architecture file."""
    from kws.model.labels import LabelSet
    from kws.model.modeling import build_model

    return build_model(LabelSet.from_keywords(config.data.keywords).names, config.data.sample_rate,
                       config.data.num_samples, config.features.model_dump(),
                       load_architecture(architecture).as_json())


def training_step(config: Config, model: KwsForAudioClassification) -> Callable[[], None]:
    """Return what optimises the model on one batch, as training does."""
    import torch

    from kws.training.augment import Augmenter

    generator = torch.Generator().manual_seed(0)
    waveforms, noise = 0.1 * torch.randn(2, _BATCH_SIZE, config.data.num_samples, generator=generator)
    targets = torch.randint(len(model.config.id2label or {}), (_BATCH_SIZE,), generator=generator)
    augmenter = Augmenter(sample_rate=config.data.sample_rate, **config.augment.model_dump())
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        with torch.no_grad():
            features = augmenter.spectrograms(waveforms, lambda _, count: noise[:count], model.features, generator)
        optimizer.zero_grad()
        model(input_features=features, labels=targets).loss.backward()
        optimizer.step()

    return step


def measure_models(config: Config) -> None:
    """Every architecture: size, multiplications, speed as exported on one thread (front end included), in training.

    Weights and recordings do not matter for speed: hardly trained models hear noise.
    """
    import json
    import tempfile

    import numpy as np
    from transformers.utils.logging import disable_progress_bar

    from kws.export.quantize import write_int8
    from kws.export.to_onnx import export
    from kws.inference.runtime import OnnxRuntime
    from kws.inference.spotter import BATCH_SIZE
    from kws.model.folder import INT8_FILE

    disable_progress_bar()  # of transformers, for every file it writes
    shipped = json.loads((SHIPPED / CONFIG_FILE).read_text(encoding="utf-8"))["architecture"]
    noise = np.random.default_rng(0).normal(0, 3000, (BATCH_SIZE, config.data.num_samples)).astype(np.int16)
    batch = noise.astype(np.float32) / FULL_SCALE
    print(f"{'':<24}{'parameters':>10}{'multiplications':>22}{'ms':>8}{'clips/s':>9}{'kB':>7}{'int8 ms':>9}{'kB':>7}"
          f"{'training':>10}\n{'':<34}{'network':>11}{'front end':>11}{'alone':>8}{f'by {BATCH_SIZE}':>9}{'':>7}"
          f"{'alone':>9}{'':>7}{'clips/s':>10}")
    for path in architectures():
        model = untrained_model(config, path)
        training_rate = _BATCH_SIZE / best_seconds(training_step(config, model))
        network, front_end = multiplications(model.eval())
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            model.save_pretrained(folder)
            exported = export(folder, noise).path
            write_int8(exported, folder / INT8_FILE, noise)
            runtime, int8 = (OnnxRuntime(file, threads=1) for file in (exported, folder / INT8_FILE))
            alone, alone_int8 = median_seconds(partial(runtime.logits, batch[:1]), partial(int8.logits, batch[:1]))
            together, = median_seconds(partial(runtime.logits, batch))
            sizes = [file.stat().st_size / 1000 for file in (exported, folder / INT8_FILE)]
        name = path.stem + " (shipped)" * (model.config.architecture == shipped)
        print(f"{name:<24}{model.num_parameters():>10,}{network:>11,}{front_end:>11,}{1000 * alone:>8.2f}"
              f"{BATCH_SIZE / together:>9,.0f}{sizes[0]:>7,.0f}{1000 * alone_int8:>9.2f}{sizes[1]:>7,.0f}"
              f"{training_rate:>10,.0f}")


def multiplications(model: KwsForAudioClassification) -> tuple[int, int]:
    """Count the multiplications of one window in convolutions and matrix products: of the network, of the front end."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from kws.export.to_onnx import WaveformClassifier

    def count(module: torch.nn.Module, inputs: torch.Tensor) -> tuple[int, torch.Tensor]:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            outputs = module(inputs)
        return counter.get_total_flops() // 2, outputs  # it counts additions too

    exported = WaveformClassifier(model)
    front_end, features = count(exported.features, torch.zeros(1, model.config.num_samples))
    return count(exported.network, features)[0], front_end


def median_seconds(*works: Callable[[], object]) -> list[float]:
    """Time some works in turn, many times, so that what disturbs the machine disturbs all of them: the medians."""
    times = [[_seconds(work) for work in works] for _ in range(_CALLS)]
    return [statistics.median(column) for column in zip(*times)]


def measure_predict(model: Path, wavs: Path, threads: int) -> None:
    """Files a second of `kws.predict`, of its runtime on arrays that are ready, and of transformers' pipeline."""
    import os
    import tempfile
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    import soundfile
    from transformers import pipeline

    import kws.model.modeling  # noqa: F401  # registers the model with transformers
    from kws.inference.batch.labelling import predict
    from kws.inference.batch.inputs import list_inputs
    from kws.inference.runtime import load_runtime
    from kws.inference.spotter import BATCH_SIZE, KeywordSpotter
    from kws.inference.batch.table import ResumableTable

    listing, runtime = list_inputs(wavs), load_runtime(model, "onnx", threads=1)
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
        journal = ResumableTable(Path(folder, "preds.csv"), spotter.labels)
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
        measure_predict(chosen_model(args.model), args.wavs, args.threads)
    elif args.what == "model":
        measure_models(config)
    else:
        measure_training(config)
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(guard(main))
