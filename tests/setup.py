"""Install what the browser tests need and pip cannot give: a Chromium from the system.

Run by ``make test``. The headless shell is wanted: it opens a page in half the time, as it draws no window around it;
a whole Chromium does where it cannot be had.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

SHELL = "chromium-headless-shell"
NAMES = (SHELL, "chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Path of the first Chromium on this machine, or None. ``CHROMIUM`` in the environment wins."""
    named = os.environ.get("CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


def install_chromium() -> None:
    """Install Debian's Chromium where apt may be used: the shell, or, in an older Debian, the whole."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        print("No headless Chromium found. Install it (Debian: apt-get install chromium-headless-shell).")
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=False, env=environment)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "fonts-dejavu-core"]
    for package in (SHELL, "chromium"):
        done = subprocess.run([*install, package], check=False, env=environment, stdout=subprocess.DEVNULL)
        if done.returncode == 0 or find_chromium():
            return


if __name__ == "__main__":
    if shutil.which(SHELL) is None and not os.environ.get("CHROMIUM"):
        install_chromium()
    found = find_chromium()
    print(f"Chromium: {found or 'none: the browser tests are skipped'}")
    sys.exit(1 if found is None and os.environ.get("CI") else 0)
