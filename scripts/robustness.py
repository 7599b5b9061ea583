#!/usr/bin/env python
"""`kws robustness`, from a checkout; python scripts/robustness.py --help explains it."""
import sys

from kws.__main__ import run_program

if __name__ == "__main__":
    run_program(["robustness", *sys.argv[1:]])
