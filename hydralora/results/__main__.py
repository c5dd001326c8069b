"""Print every result file with its fields, as ``docs/results.md`` holds them: ``python -m hydralora.results``."""

from __future__ import annotations

from hydralora.results.describe import page

if __name__ == "__main__":
    print(page(), end="")
