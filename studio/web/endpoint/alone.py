"""The endpoint without the page."""

from __future__ import annotations

from typing import Any

from starlette.middleware.trustedhost import TrustedHostMiddleware

from jobs.store.store import Store
from studio.web.endpoint.api import build_endpoint
from studio.web.endpoint.gate import EndpointGate
from studio.web.guard import Guard


def endpoint_app(store: Store, only: list[int] | None, hosts: list[str], *, needs_key: bool = True) -> Any:
    """The endpoint on its own, behind its gate and the guards of the studio."""
    gate = EndpointGate(None, build_endpoint(store, only), store, lambda: True, needs_key=needs_key)
    return TrustedHostMiddleware(Guard(gate), allowed_hosts=hosts)
