#!/usr/bin/env python
"""`kws evaluate-streams`, from a checkout; python scripts/evaluate_streams.py --help explains it."""
import sys

from kws.__main__ import run_program

if __name__ == "__main__":
    run_program(["evaluate-streams", *sys.argv[1:]])
