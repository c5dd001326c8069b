"""Who is asking, when a proxy stands in between: its words count only where it was named at the start."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from hydralora.errors import UserError

SAID_BY_PROXIES = ("x-forwarded-", "forwarded", "x-real-ip", "x-original-", "x-rewrite-")


class NamedProxies:
    """Takes from every request what only a proxy may say, unless the peer is one of those named.

    Wraps the whole application, so run uvicorn with ``proxy_headers=False``: it believes every peer of this machine.

    Args:
        app: The application.
        trusted: Addresses or networks of the proxies, ``10.0.0.5`` or ``10.0.0.0/24``; empty trusts none.

    Raises:
        UserError: When one of them is no address.
    """

    def __init__(self, app: Any, trusted: Iterable[str] = ()) -> None:
        self.app = app
        self.networks = [_network(name) for name in trusted]
        self.behind = ProxyHeadersMiddleware(app, trusted_hosts=[str(network) for network in self.networks])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request or websocket."""
        if scope["type"] in ("http", "websocket") and self._is_trusted(scope.get("client")):
            await self.behind(scope, receive, send)
            return
        if "headers" in scope:
            kept = [(name, value) for name, value in scope["headers"] if not _is_said_by_proxies(name)]
            scope = {**scope, "headers": kept}
        await self.app(scope, receive, send)

    def _is_trusted(self, client: Any) -> bool:
        try:
            peer = ipaddress.ip_address(client[0]) if client else None
        except ValueError:  # a Unix socket has no address
            return False
        return peer is not None and any(peer in network for network in self.networks)


def _network(name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(name.strip(), strict=False)
    except ValueError as error:
        raise UserError(
            f"`--trusted-proxy {name}`: write the proxy's address or network, 10.0.0.5 or 10.0.0.0/24."
        ) from error


def _is_said_by_proxies(name: bytes) -> bool:
    return name.decode("latin-1").lower().startswith(SAID_BY_PROXIES)
