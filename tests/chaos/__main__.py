"""`python -m tests.chaos --runs 200 --seed 1 --json docs/chaos.json`: ends processes of a studio at bad moments."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.suite import Suite, Verdict


def main() -> int:
    """Run, print each verdict and `N of N`, and write the summary; 0 where all were right."""
    parser = argparse.ArgumentParser(description="End processes of a studio that trains, and see what comes of it.")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first run: with the seed it repeats one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--studio", action="store_true", help="the whole studio with a model that trains: ten times as long"
    )
    parser.add_argument("--minutes", type=float, default=None, help="begin no run after so many")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        kind: type[Suite] = Suite
        if options.studio:
            from tests.chaos.studio import StudioSuite as kind  # loads torch
        suite = kind(options.seed, Path(folder), tell)
        with suite.small_disk():
            for index in range(options.first, options.first + options.runs):
                if options.minutes is not None and time.monotonic() - began > 60 * options.minutes:
                    break
                suite.run(index)
    summary = suite.summary()
    print(f"{summary['passed']} of {summary['runs']}", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 0 if summary["passed"] == summary["runs"] else 1


def tell(verdict: Verdict) -> None:
    """One line of the table."""
    words = "; ".join(verdict.wrong) or "right"
    print(
        f"{verdict.index:4d}  {verdict.seconds:5.1f} s  {verdict.fault}: {verdict.details}: {words}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
