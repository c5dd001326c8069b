"""`python -m tests.chaos --runs 200 --seed 1 --json docs/chaos.json`: ends processes of a studio at bad moments."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.suite import Suite, Verdict
from tests.chaos.summary import keep

WHAT = {
    "numbers": "a training of numbers, its rows in a file",
    "postgresql": "the same, its rows in PostgreSQL, whose server dies too",
    "studio": "the whole studio with a model that trains: ten times as long",
}


def main() -> int:
    """Run, print each verdict and `N of N`, and add the summary to those kept; 0 where all were right."""
    options = _options()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        suite = _suite(options.what)(options.seed, Path(folder), tell)
        with suite.small_disk():
            for index in range(options.first, options.first + options.runs):
                if options.minutes is not None and time.monotonic() - began > 60 * options.minutes:
                    break
                suite.run(index)
    piece = {"what": options.what, **suite.summary(options.first)}
    print(f"{piece['passed']} of {piece['runs']}", flush=True)
    if options.json:
        kept = keep(options.json, piece)
        print(f"{kept['passed']} of {kept['runs']} with those before", flush=True)
    return 0 if piece["passed"] == piece["runs"] else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="End processes of a studio that trains, and see what comes of it.")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first run: with the seed it repeats one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--what", choices=WHAT, default="numbers", help="; ".join(WHAT.values()))
    parser.add_argument("--minutes", type=float, default=None, help="begin no run after so many")
    parser.add_argument("--json", type=Path, default=None, help="file that this piece is added to")
    return parser.parse_args()


def _suite(what: str) -> type[Suite]:
    if what == "postgresql":
        from tests.chaos.over_postgresql import ServedSuite

        return ServedSuite
    if what == "studio":
        from tests.chaos.studio import StudioSuite  # loads torch

        return StudioSuite
    return Suite


def tell(verdict: Verdict) -> None:
    """One line of the table."""
    words = "; ".join(verdict.wrong) or "right"
    print(
        f"{verdict.index:4d}  {verdict.seconds:5.1f} s  {verdict.fault}: {verdict.details}: {words}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
