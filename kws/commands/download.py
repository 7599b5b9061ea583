"""Fetch and unpack the real Speech Commands recordings.

which archive:
  v0.02        2.4 GB (about 3.3 GB unpacked), 105,829 clips of 35 words, 2018: train on this one
  v0.01        1.5 GB, 64,727 clips of 30 words, 2017: to compare with older results
  v0.02-test   0.1 GB, 4,890 clips: the fixed test set of v0.02, one folder per label (_unknown_, _silence_)

examples:
  kws download v0.02 --output data-real
  kws download v0.02-test --output downloads/test_v0.02
  kws download v0.02 --url https://mirror.example.org/speech_commands_v0.02.tar.gz

An interrupted download continues when the same command runs again. The archive stays in --downloads.
The recordings: P. Warden, "Speech Commands" (Google, https://arxiv.org/abs/1804.03209), licensed CC BY 4.0
(https://creativecommons.org/licenses/by/4.0/): name the source if you publish them or a model trained on them.
"""
from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from kws.commands.cli import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("archive", choices=("v0.01", "v0.02", "v0.02-test"), help="which one, see above")
    parser.add_argument("--output", type=Path, default=Path("data"), metavar="DIR",
                        help="folder to unpack into, new or empty (default: data)")
    parser.add_argument("--downloads", type=Path, default=Path("downloads"), metavar="DIR",
                        help="folder for the archive, which stays there (default: downloads)")
    parser.add_argument("--url", help="mirror to download from; its file must have the same checksum")
    parser.add_argument("--sha256", metavar="HEX", type=str.lower,
                        help="checksum of the file, if the mirror has another one")


def run(args: argparse.Namespace) -> int:
    """Download, unpack, print what is there."""
    from kws.corpus.download import ARCHIVES, check_destination, download, extract

    archive = ARCHIVES[args.archive]
    if args.url:
        archive = replace(archive, url=args.url)
    if args.sha256:
        archive = replace(archive, sha256=args.sha256)
    check_destination(args.output)
    num_files = extract(download(archive, args.downloads), args.output)
    print(f"{args.output}: {num_files:,} files")
    return EXIT_OK
