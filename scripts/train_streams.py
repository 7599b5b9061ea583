#!/usr/bin/env python
"""`kws train-streams`, from a checkout; python scripts/train_streams.py --help explains it."""
import sys

from kws.__main__ import run_program

if __name__ == "__main__":
    run_program(["train-streams", *sys.argv[1:]])
