"""`kws predict` as a module: python -m kws.predict --input_path wavs/ --output_path preds.csv"""
from __future__ import annotations

import sys

from kws.__main__ import run_program

if __name__ == "__main__":
    run_program(["predict", *sys.argv[1:]])
