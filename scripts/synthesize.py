#!/usr/bin/env python
"""`kws synthesize`, from a checkout; python scripts/synthesize.py --help explains it."""
import sys

from kws.__main__ import run_program

if __name__ == "__main__":
    run_program(["synthesize", *sys.argv[1:]])
