"""The commands `keys ...` and `serve`: the OpenAI-compatible endpoint, with the page or without it."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Annotated, Any

import typer

from hydralora.bounds import LARGEST_ID
from hydralora.errors import UserError
from jobs.chat.client import ChatClient
from jobs.store.keys import Key
from jobs.store.store import Store
from studio.cards import moment
from studio.cli.terminal import AsJson, Studio, Yes, err, out, print_table, show
from studio.endpoint import count_keys, last_used
from studio.served import Models, name_of
from studio.web.listening import HOST, allowed_hosts, bind, is_loopback, server_config

PORT = 7861
keys_app = typer.Typer(no_args_is_help=True, help="Keys of the endpoint: create, list, revoke; and its switch.")


def key_view(key: Key) -> dict[str, Any]:
    """One key as an answer; its secret is nowhere any more."""
    return {"name": key.name, "ending": key.ending, "created_at": key.created_at, "used_at": key.used_at}


@keys_app.command("create")
def create_key(name: Annotated[str, typer.Argument(help="Who or what will use it")], as_json: AsJson = False) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    store = Studio.store()
    key, secret = store.keys.create(name)

    def lines() -> None:
        out.print(secret)
        err.print(f"This is the key '{key.name}'. It is not shown again.")
        if not store.keys.is_on:
            err.print("The endpoint is off: `python -m studio keys on`, or start with `python app.py --endpoint`.")

    show({**key_view(key), "key": secret}, as_json, lines)


@keys_app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys, and say whether the endpoint is on."""
    store = Studio.store()
    keys, is_on = store.keys.all(), store.keys.is_on
    rows: list[list[object]] = [[key.name, f"…{key.ending}", moment(key.created_at), last_used(key)] for key in keys]

    def lines() -> None:
        print_table(["name", "ends in", "made", "last used"], rows)
        out.print(f"The endpoint is {'on' if is_on else 'off'}.")

    show({"endpoint": is_on, "keys": [key_view(key) for key in keys]}, as_json, lines)


@keys_app.command("revoke")
def revoke_key(name: str, yes: Yes = False, as_json: AsJson = False) -> None:
    """Make a key open nothing any more."""
    store = Studio.store()
    if not yes:
        typer.confirm(f"Revoke the key '{name}' for good?", err=True, abort=True)
    key = store.keys.revoke(name)
    show(key_view(key), as_json, lambda: out.print(f"The key '{key.name}' opens nothing any more."))


@keys_app.command("on")
def switch_on(as_json: AsJson = False) -> None:
    """Switch the endpoint of the studio on; it is off at first."""
    _switch(True, as_json)


@keys_app.command("off")
def switch_off(as_json: AsJson = False) -> None:
    """Switch the endpoint of the studio off."""
    _switch(False, as_json)


def _switch(on: bool, as_json: bool) -> None:
    Studio.store().keys.switch(on)
    show({"endpoint": on}, as_json, lambda: out.print(f"The endpoint is {'on' if on else 'off'}."))


def serve(
    runs: Annotated[
        list[int] | None, typer.Argument(min=0, max=LARGEST_ID, help="Runs to serve, with their bases; all without one")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; this machine only by default")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port")] = PORT,
    allow_network: Annotated[
        bool, typer.Option("--allow-network", help="Allow a --host other than this machine")
    ] = False,
    host_name: Annotated[list[str] | None, typer.Option(help="A name it may be reached under (several)")] = None,
    trusted_proxy: Annotated[list[str] | None, typer.Option(help="Address of a proxy to believe (several)")] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="Ask for no key; for this machine only")] = False,
) -> None:
    """Serve runs to OpenAI's clients, without the page, until it is interrupted."""
    import uvicorn  # and the endpoint brings FastAPI: 0.3 s that no other command needs

    from studio.web.endpoint.alone import endpoint_app

    store = Studio.store()
    served = check_served(store, runs or [])
    _check_network(host, allow_network, no_key)
    bound = bind(host, port, "python -m studio serve")
    if not no_key and not store.keys.all():
        _, secret = store.keys.create("first")
        out.print(f"Key 'first':  {secret}   (it is not shown again)")
    app = endpoint_app(store, runs or None, allowed_hosts(host, host_name or []), needs_key=not no_key)
    address = f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}/v1"
    opened = "asks for no key" if no_key else count_keys(len(store.keys.all()))
    config = server_config(app, trusted_proxy or [])
    bound.listen(config.backlog)  # whoever reads the address and comes at once waits
    out.print(f"Endpoint:     {address}   {opened}")
    out.print(f"Models:       {', '.join(served)}")
    if runs:
        threading.Thread(target=_warm, args=(store, runs[0]), daemon=True).start()
    uvicorn.Server(config).run(sockets=[bound])


def check_served(store: Store, runs: list[int]) -> list[str]:
    """Names of the models that will be served.

    Raises:
        UserError: When a run does not exist, or has nothing to answer with.
    """
    models = Models(store, runs or None)
    names = [served.name for served in models.all()]
    for run_id in runs:
        run = store.runs.get(run_id)
        if name_of(run) not in names:
            raise UserError(f"Run {run_id} has no adapter to answer with ({run.status}). Wait for it, or resume it.")
    return names


def _check_network(host: str, allow_network: bool, no_key: bool) -> None:
    if not is_loopback(host) and not allow_network:
        raise UserError(f"--host {host} would open the endpoint to the network. Add --allow-network if you want that.")
    if not is_loopback(host) and no_key:
        raise UserError(f"--no-key is for this machine only; this endpoint listens on {host}. Leave it out.")


def _warm(store: Store, run_id: int) -> None:
    """Have the first run in memory; what is wrong with it is told when it is asked."""
    with suppress(UserError):
        served = Models(store, [run_id]).find(f"run-{run_id}")
        ChatClient(store).warm(served.speaker)
