#!/usr/bin/env python
"""`kws evaluate`, from a checkout; python scripts/evaluate.py --help explains it."""
import sys

from kws.__main__ import run_program

if __name__ == "__main__":
    run_program(["evaluate", *sys.argv[1:]])
