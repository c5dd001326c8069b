"""Where a server of the studio listens, under which names it answers, and the process that does."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket

import psutil
import uvicorn

from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.http import MOST_CONNECTIONS, PatientProtocol
from studio.web.guard import LOOPBACK_NAMES
from studio.web.proxies import NamedProxies

HOST, PORT = "127.0.0.1", 7860
SHUTDOWN_SECONDS = 2
# No lone `*`: it would let every name in, and with it pages that make a browser take their name for this machine.
HOST_NAME = re.compile(r"(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def bind(host: str, port: int, command: str = "python app.py") -> socket.socket:
    """A socket on the address.

    Raises:
        UserError: When the port is taken or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host.strip("[]"), port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"Port {port} on {host} cannot be used ({reason}). Close the program that has it, or choose another: "
            f"{command} --port {port + 1 if port < 65535 else PORT}"
        ) from error
    return bound


def allowed_hosts(host: str, names: list[str]) -> list[str]:
    """Names under which the studio answers: loopback, and on the network its addresses and given names.

    Raises:
        UserError: When a name is none.
    """
    wrong = next((name for name in names if not HOST_NAME.fullmatch(name)), None)
    if wrong is not None:
        raise UserError(
            f"`--host-name {shown(wrong)}`: write a name as it stands in the address, such as studio.example.org, or "
            "*.example.org for all below one."
        )
    if is_loopback(host):
        return [*LOOPBACK_NAMES, *names]
    if host.strip("[]") not in ("0.0.0.0", "::"):
        return [*LOOPBACK_NAMES, host, *names]
    addresses = [a.address for card in psutil.net_if_addrs().values() for a in card if a.family == socket.AF_INET]
    return [*LOOPBACK_NAMES, *addresses, socket.gethostname(), *names]


def server_config(app: object, trusted_proxies: list[str]) -> uvicorn.Config:
    """How the studio is served: bounds on connections and half-sent requests; only named proxies are believed.

    Raises:
        UserError: When a proxy's address is none.
    """
    return uvicorn.Config(
        NamedProxies(app, trusted_proxies),
        http=PatientProtocol,
        log_level="warning",
        limit_concurrency=MOST_CONNECTIONS,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
