"""What a proxy says is believed from named proxies only."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from hydralora.errors import UserError
from studio.web.proxies import NamedProxies

SAID = {
    "X-Forwarded-For": "8.8.8.8",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": "for=8.8.8.8",
    "X-Real-IP": "8.8.8.8",
}


def heard(peer: str, trusted: Iterable[str]) -> dict[str, object]:
    """Who the application takes for its visitor, and what it was told."""
    app = FastAPI()

    @app.get("/")
    def who(request: Request) -> dict[str, object]:
        told = {name: value for name, value in request.headers.items() if name in {key.lower() for key in SAID}}
        return {"client": request.client and request.client.host, "scheme": request.url.scheme, "told": told}

    with TestClient(NamedProxies(app, trusted), client=(peer, 50_000)) as client:
        return dict(client.get("/", headers=SAID).json())


@pytest.mark.parametrize(
    "peer, trusted",
    [("127.0.0.1", []), ("10.0.0.9", ["10.0.0.5"]), ("127.0.0.1", ["10.0.0.0/24"]), ("testclient", ["10.0.0.5"])],
)
def test_a_stranger_says_nothing_about_where_it_comes_from(peer: str, trusted: list[str]) -> None:
    assert heard(peer, trusted) == {"client": peer, "scheme": "http", "told": {}}


@pytest.mark.parametrize("trusted", [["10.0.0.5"], ["10.0.0.0/24"], ["::1", "10.0.0.5"]])
def test_a_named_proxy_says_who_is_behind_it(trusted: list[str]) -> None:
    found = heard("10.0.0.5", trusted)
    assert (found["client"], found["scheme"]) == ("8.8.8.8", "https")


@pytest.mark.parametrize("name", ["*", "proxy.example", "10.0.0.0/99", ""])
def test_a_proxy_is_named_by_its_address(name: str) -> None:
    with pytest.raises(UserError, match="trusted-proxy"):
        NamedProxies(FastAPI(), [name])
