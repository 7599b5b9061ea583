#!/usr/bin/env python
"""`kws download`, from a checkout; python scripts/download.py --help explains it."""
import sys

from kws.__main__ import run_program

if __name__ == "__main__":
    run_program(["download", *sys.argv[1:]])
