#!/usr/bin/env python
"""`kws prepare`, from a checkout; python scripts/prepare.py --help explains it."""
import sys

from kws.__main__ import run_program

if __name__ == "__main__":
    run_program(["prepare", *sys.argv[1:]])
