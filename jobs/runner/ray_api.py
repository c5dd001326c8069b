"""Requests to the HTTP API of a Ray cluster, which its dashboard answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx

from hydralora.errors import UserError
from jobs.runner.choice import UnreachableError
from jobs.runner.ray_head import TOKEN, head_of, place_of

ANSWER_SECONDS = 10.0
FAR_OPTION = "Start it, or name another with --ray-address."


class RayApi:
    """Asks one cluster.

    Args:
        address: Of its dashboard, `http://HOST:8265`.
        home: Folder of the home, whose own Ray has a token there.
    """

    def __init__(self, address: str, home: Path) -> None:
        self.address = (address if "://" in address else f"http://{address}").rstrip("/")
        self.home = home

    def ask(self, method: str, path: str, value: Any = None) -> Any:
        """One request; an empty answer where there is no such thing.

        Raises:
            UnreachableError: When the cluster does not answer, or cannot do it now.
            UserError: When it wants another token.
        """
        token = self._token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        address = f"{self.address}{path}"
        try:
            reply = httpx.request(method, address, json=value, headers=headers, timeout=ANSWER_SECONDS, trust_env=False)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = type(error).__name__
            raise UnreachableError(
                f"The Ray cluster at {self.address} does not answer ({why}). {FAR_OPTION}"
            ) from error
        if reply.status_code in (401, 403):
            raise UserError(
                f"The Ray cluster at {self.address} asks for its token: set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH."
            )
        if reply.status_code == 404 and method != "POST":
            return {}
        if reply.is_error:
            said = (reply.text.strip().splitlines() or [""])[-1][:300]
            raise UnreachableError(f"The Ray cluster at {self.address} did not do it ({reply.status_code}): {said}")
        return _json(reply, self.address)

    def nodes(self) -> list[dict[str, float]]:
        """What each node that lives has: ``CPU``, ``GPU`` and ``memory`` in bytes."""
        found = self.ask("GET", "/nodes?view=summary").get("data", {}).get("summary", [])
        alive = [node["raylet"] for node in found if node.get("raylet", {}).get("state") == "ALIVE"]
        return [node.get("resourcesTotal", {}) for node in alive]

    def _token(self) -> str:
        """The token of the home's own Ray, of any other what Ray's own variables name."""
        if head_of(self.home).get("address") == self.address:
            return (place_of(self.home) / TOKEN).read_text("ascii").strip()
        file = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
        if not os.environ.get("RAY_AUTH_TOKEN") and file and Path(file).is_file():
            return Path(file).read_text("ascii").strip()
        return os.environ.get("RAY_AUTH_TOKEN", "")


def _json(reply: httpx.Response, address: str) -> Any:
    try:
        return reply.json()
    except ValueError as error:
        raise UnreachableError(f"What answers at {address} is no Ray dashboard. {FAR_OPTION}") from error
