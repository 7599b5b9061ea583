#!/usr/bin/env python
"""`kws export`, from a checkout; python scripts/export.py --help explains it."""
import sys

from kws.__main__ import run_program

if __name__ == "__main__":
    run_program(["export", *sys.argv[1:]])
