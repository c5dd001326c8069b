"""The command that opens the studio: what can be chosen, who may come in, and the process that listens."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import ipaddress
import os
import re
import secrets
import socket
from pathlib import Path

import psutil
import uvicorn

from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.home import HOME_VARIABLE, Home
from jobs.http import MOST_CONNECTIONS, PatientProtocol
from jobs.store.bases import BASES_VARIABLE
from studio.cli.terminal import err, out
from studio.web.address import Address
from studio.web.door import Door
from studio.web.proxies import NamedProxies
from studio.web.server import LOOPBACK_NAMES, create_app

HOST, PORT = "127.0.0.1", 7860
PASSWORD_VARIABLE, TOKEN_VARIABLE = "HYDRA_STUDIO_PASSWORD", "HYDRA_STUDIO_TOKEN"
SHUTDOWN_SECONDS = 2
# No lone `*`: it would let every name in, and with it pages that make a browser take their name for this machine.
HOST_NAME = re.compile(r"(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]")
ASK = object()  # `--password` without a value


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Hydra Studio: train multi-expert LoRA and see which expert speaks.")
    parser.add_argument("--host", default=HOST, help=f"address to listen on (default {HOST}: this machine only)")
    parser.add_argument("--port", type=int, default=PORT, help=f"port (default {PORT})")
    parser.add_argument(
        "--home",
        type=Path,
        default=None,
        help=f"folder that keeps everything (default: ${HOME_VARIABLE}, else the user's data folder)",
    )
    parser.add_argument(
        "--no-worker", action="store_true", help="start no worker; `python -m jobs.runner.worker` runs one on its own"
    )
    parser.add_argument(
        "--base",
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder of a base model that runs may use; can be given several times (see `python -m studio bases`)",
    )
    _add_door_options(parser)
    return parser.parse_args(arguments)


def _add_door_options(parser: argparse.ArgumentParser) -> None:
    door = parser.add_argument_group("who may come in", "By default whoever has the address that is printed.")
    door.add_argument(
        "--password",
        nargs="?",
        const=ASK,
        default=None,
        help=f"a password instead of the token; asked for when no value is given, or taken from ${PASSWORD_VARIABLE}",
    )
    door.add_argument("--no-token", action="store_true", help="ask for nothing; for this machine only")
    door.add_argument(
        "--allow-network", action="store_true", help="allow a --host other than this machine; needs a password"
    )
    door.add_argument(
        "--host-name",
        action="append",
        default=[],
        help="a name under which the studio may be reached from the network; can be given several times",
    )
    door.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        help="address of a proxy whose X-Forwarded headers are believed; can be given several times",
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
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
            f"python app.py --port {port + 1 if port < 65535 else PORT}"
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


def choose_secret(options: argparse.Namespace) -> tuple[str | None, bool]:
    """What opens the door, and whether it is a password; None opens it to everybody on this machine.

    Raises:
        UserError: When the choice would open the studio to everybody on a network.
    """
    on_network = not is_loopback(options.host)
    token = os.environ.pop(TOKEN_VARIABLE, "")  # the worker and its jobs do not need to know it
    if on_network and not options.allow_network:
        raise UserError(
            f"--host {options.host} would open the studio to the network. Add --allow-network and a --password if that "
            "is what you want."
        )
    password = options.password if options.password is not None else os.environ.pop(PASSWORD_VARIABLE, "") or None
    if options.no_token and (on_network or password is not None):
        reason = "has a password" if password is not None else f"listens on {options.host}"
        raise UserError(
            f"--no-token is for a studio of this machine without a password; this one {reason}. Leave it out."
        )
    if on_network and password is None:
        raise UserError(
            f"--host {options.host} opens the studio to the network, and it has no password. Add --password, or set "
            f"{PASSWORD_VARIABLE}."
        )
    if password is ASK:
        password = getpass.getpass("Password of this studio: ")
    if password is not None:
        return password, True
    return None if options.no_token else token or secrets.token_urlsafe(24), False


def main(arguments: list[str] | None = None) -> int:
    """Run the studio until it is interrupted; gives the exit status."""
    options = parse_options(arguments)
    try:
        secret, is_password = choose_secret(options)
        bound = bind(options.host, options.port)
        home = Home(options.home)
        if options.base:
            os.environ[BASES_VARIABLE] = os.pathsep.join(str(Path(folder).absolute()) for folder in options.base)
        door = Door(secret, home.server / "cookie.key", is_password=is_password)
        hosts = allowed_hosts(options.host, options.host_name)
        app = create_app(home, hosts=hosts, keep_worker=not options.no_worker, door=door)
        config = server_config(app, options.trusted_proxy)
    except UserError as error:
        err.print(str(error))
        return 2
    address = Address.of(options.host, bound.getsockname()[1], door)
    out.print(f"Hydra Studio: {address.link}   everything is kept in {home.root}")
    if door.is_open:
        err.print("No token is asked for: every account of this machine can read and delete everything.")
    with address.kept(home):
        uvicorn.Server(config).run(sockets=[bound])
    return 0


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
