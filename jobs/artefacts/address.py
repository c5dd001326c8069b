"""The address of an artefact store, as it may be given, and the words for a store that cannot be used."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from hydralora.errors import UserError
from hydralora.plain import shown

VARIABLE = "HYDRA_STUDIO_ARTEFACTS"
KEY = "artefacts"  # of the setting that keeps the choice
STORE = "store"  # ``error_kind`` of a job for which the store could not be used
NONE = "none"  # what takes the setting back
SECRET = re.compile(r"(key|secret|token|password|sig)[^=]*=", re.IGNORECASE)
FORM = "Write it as s3://BUCKET/PREFIX or file:///a/shared/folder."


class StoreError(UserError):
    """The artefact store cannot be used now, or has not got what is asked of it; what lies in the home stays there."""


def checked_url(url: str) -> str:
    """An address without a password in it; empty where none is wanted.

    Raises:
        UserError: When it is none, or holds a secret; the secret is not repeated.
    """
    url = url.strip().rstrip("/")
    if url in ("", NONE):
        return ""
    parts = urlsplit(url)
    if "@" in parts.netloc or SECRET.search(parts.query):
        raise UserError(
            "The address of the artefact store holds a password or a key, which would be stored in clear. Leave it "
            "out, and give it by the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3."
        )
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^#]+", url):  # without the slashes fsspec takes it for a local folder
        raise UserError(f"{shown(url)} is no address of an artefact store. {FORM}")
    if parts.scheme in ("memory", "http", "https"):
        raise UserError(f"{parts.scheme}:// cannot hold what several processes write and read. {FORM}")
    return url
