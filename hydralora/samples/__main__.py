"""Write the sample corpora."""

from __future__ import annotations

import argparse
from pathlib import Path

import hydralora.samples as samples

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=samples.__doc__)
    parser.add_argument("--out", type=Path, default=samples.CORPORA, help="folder to write to")
    samples.write_corpora(parser.parse_args().out)
