"""Open the studio: database, worker, page. ``python app.py --help`` shows what can be chosen."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import socket
import sys
from pathlib import Path

import uvicorn

from hydralora.errors import UserError
from jobs.home import HOME_VARIABLE, Home
from studio.server import create_app

HOST, PORT = "127.0.0.1", 7860
SHUTDOWN_SECONDS = 2


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
        "--no-worker", action="store_true", help="start no worker; `python -m jobs.worker` runs one on its own"
    )
    parser.add_argument(
        "--allow-network",
        action="store_true",
        help="allow a --host other than this machine; the studio has no passwords",
    )
    return parser.parse_args(arguments)


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


def allowed_hosts(host: str, port: int) -> list[str]:
    """Names under which the studio answers; any name when it is opened to the network."""
    return ["127.0.0.1", "localhost", "[::1]"] if is_loopback(host) else ["*"]


def main(arguments: list[str] | None = None) -> int:
    """Run the studio until it is interrupted; gives the exit status."""
    options = parse_options(arguments)
    try:
        if not is_loopback(options.host) and not options.allow_network:
            raise UserError(
                f"--host {options.host} would open the studio to the network, and it has no passwords: whoever reaches "
                "it can read and delete everything. Add --allow-network if that is what you want."
            )
        bound = bind(options.host, options.port)
        home = Home(options.home)
        app = create_app(home, hosts=allowed_hosts(options.host, options.port), keep_worker=not options.no_worker)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    port = bound.getsockname()[1]
    print(f"Hydra Studio: http://{options.host}:{port}   everything is kept in {home.root}", flush=True)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=SHUTDOWN_SECONDS)
    uvicorn.Server(config).run(sockets=[bound])
    return 0


if __name__ == "__main__":
    sys.exit(main())
