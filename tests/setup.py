"""Install what the browser tests need and pip cannot give: a Chromium from the system.

Run by ``make test``. Does nothing where a Chromium is found already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Path of the first Chromium on this machine, or None. ``CHROMIUM`` in the environment wins."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


def install_chromium() -> None:
    """Install Debian's ``chromium`` where apt may be used."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        print("No Chromium found. Install it (Debian: apt-get install chromium), or the browser tests are skipped.")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=False, env=environment)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    if find_chromium() is None:
        install_chromium()
    found = find_chromium()
    print(f"Chromium: {found or 'none'}")
    sys.exit(1 if found is None and os.environ.get("CI") else 0)
