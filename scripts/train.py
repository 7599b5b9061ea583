#!/usr/bin/env python
"""`kws train`, from a checkout; python scripts/train.py --help explains it."""
import sys

from kws.__main__ import run_program

if __name__ == "__main__":
    run_program(["train", *sys.argv[1:]])
