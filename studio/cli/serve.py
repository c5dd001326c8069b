"""The command that opens the studio: what can be chosen, who may come in, and the process that listens."""

from __future__ import annotations

import argparse
import gc
import getpass
import os
import secrets
import threading
from pathlib import Path

import uvicorn

from hydralora.errors import UserError
from jobs.artefact_choice import check_artefacts, choose_artefacts
from jobs.artefacts.address import checked_url
from jobs.home import HOME_VARIABLE, root_of
from jobs.runner.executors import find_executor
from jobs.runner.executors.by_lane import choose
from jobs.store.bases import BASES_VARIABLE
from jobs.store.database import open_home
from studio.cli.executor import add_executor_options, chosen
from studio.cli.terminal import err, out
from studio.endpoint import count_keys
from studio.figures.warm import warm_up
from studio.web.address import Address
from studio.web.door import Door
from studio.web.footprint import keep_small
from studio.web.listening import HOST, PORT, allowed_hosts, bind, is_loopback, server_config
from studio.web.server import create_app

PASSWORD_VARIABLE, TOKEN_VARIABLE = "HYDRA_STUDIO_PASSWORD", "HYDRA_STUDIO_TOKEN"
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
    parser.add_argument(
        "--endpoint",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="switch the OpenAI-compatible endpoint on or off, for good (default: as it was; off at first); its keys "
        "are made with `python -m studio keys create NAME`",
    )
    add_executor_options(parser)
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


def start() -> int:
    """The studio as a program, which has its process to itself."""
    keep_small()
    return main()


def main(arguments: list[str] | None = None) -> int:
    """Run the studio until it is interrupted; gives the exit status."""
    options = parse_options(arguments)
    try:
        secret, is_password = choose_secret(options)
        choice = chosen(options)
        bound = bind(options.host, options.port)
        root = root_of(options.home)
        if options.base:
            os.environ[BASES_VARIABLE] = os.pathsep.join(str(Path(folder).absolute()) for folder in options.base)
        if choice is not None:
            find_executor(choice, root).check()
        if options.artefacts is not None and (url := checked_url(options.artefacts)):
            check_artefacts(root, url)
        home = open_home(root)  # nothing is made before what was asked for is known to work
        door = Door(secret, home.server / "cookie.key", is_password=is_password)
        hosts = allowed_hosts(options.host, options.host_name)
        app = create_app(home, hosts=hosts, keep_worker=not options.no_worker, door=door)
        if choice is not None:
            choose(app.state.store, choice)
        if options.artefacts is not None:
            choose_artefacts(app.state.store, options.artefacts)
        keys = app.state.store.keys  # a second store of one home would drop the first one's locks of the database
        if options.endpoint is not None:
            keys.switch(options.endpoint)
        config = server_config(app, options.trusted_proxy)
    except UserError as error:
        err.print(str(error))
        return 2
    # Some 360,000 objects of the pages live as long as the process. Whoever looks for garbage during a request need
    # not go through them each time: that took half of the time of reading a thousand runs.
    gc.collect()
    gc.freeze()
    threading.Thread(target=warm_up, daemon=True).start()
    bound.listen(config.backlog)  # whoever reads the address and comes at once waits
    address = Address.of(options.host, bound.getsockname()[1], door)
    out.print(f"Hydra Studio: {address.link}   everything is kept in {home.root}")
    if keys.is_on:
        out.print(f"Endpoint:     {address.url}/v1   {count_keys(len(keys.all()))}")
    if door.is_open:
        err.print("No token is asked for: every account of this machine can read and delete everything.")
    with address.kept(home):
        uvicorn.Server(config).run(sockets=[bound])
    return 0
