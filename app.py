"""Open the studio: database, worker, page. ``python app.py --help`` shows what can be chosen."""

from __future__ import annotations

import sys

from studio.cli.serve import start

if __name__ == "__main__":
    sys.exit(start())
