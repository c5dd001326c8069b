"""The commands `artefacts ...`: where finished folders lie besides the home."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hydralora.errors import UserError
from jobs.artefact_choice import choose_artefacts, folders_of
from jobs.sending import send_what_waits
from jobs.store.store import Store
from studio.cli.terminal import AsJson, Studio, out, show

artefacts_app = typer.Typer(no_args_is_help=True, help="The artefact store: status, use, send.")


@artefacts_app.command("status")
def status(as_json: AsJson = False) -> None:
    """Say where finished folders are kept besides this home, and what waits to be sent."""
    _tell(Studio.store(), as_json)


@artefacts_app.command("use")
def use(
    url: Annotated[str, typer.Argument(help="s3://BUCKET/PREFIX, file:///FOLDER, or none")],
    as_json: AsJson = False,
) -> None:
    """Choose the artefact store from now on; what is here already waits to be sent. Credentials: by the environment."""
    store = Studio.store()
    choose_artefacts(store, url)
    _tell(store, as_json)


@artefacts_app.command("send")
def send(
    again: Annotated[bool, typer.Option("--again", help="Send everything of this home anew")] = False,
    as_json: AsJson = False,
) -> None:
    """Send what waits, now; with --again everything, in place of what is missing or damaged in the store."""
    store = Studio.store()
    artefacts = store.home.artefacts
    if not artefacts.is_on:
        raise UserError("There is no artefact store. Choose one: `python -m studio artefacts use s3://BUCKET/PREFIX`.")
    for folder in folders_of(store) if again else ():
        artefacts.send(folder, again=True)
    send_what_waits(store)
    _tell(store, as_json)


def _tell(store: Store, as_json: bool) -> None:
    artefacts = store.home.artefacts
    waiting = [f"{what} {folder.relative_to(store.home.root)}" for what, folder in artefacts.waiting()]
    answer: dict[str, Any] = {"url": artefacts.url or None, "waiting": waiting}

    def lines() -> None:
        if not artefacts.is_on:
            out.print("Everything is kept in this home alone.")
            return
        out.print(f"Finished folders are kept in {artefacts.url} too; {len(waiting):,} wait for it.", markup=False)
        for line in waiting[:20]:
            out.print(f"  {line}", markup=False)

    show(answer, as_json, lines)
