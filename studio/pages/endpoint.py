"""Endpoint: the studio's models for programs that speak OpenAI's API; its switch, its keys, what it serves."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.errors import UserError
from jobs.store.keys import Key
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.endpoint import ROOT, count_keys, in_python, with_curl
from studio.pages.common import TICK, chosen_text
from studio.pages.page import Changes, Page
from studio.served import Models
from studio.widgets import Choice, LiveChanges

LEAD = "Programs that speak OpenAI's API can ask every finished run and every base, and get routing weights with it."
WHICH = "Keys are for programs and open the endpoint alone; the link or password of the studio is for people."
SURE = "Tick “Yes, revoke it” first."
SHOWN = 50  # models in the table; the endpoint itself lists all


def address_for(request: gr.Request | None) -> str:
    """Where programs find the endpoint, as the visitor reaches the studio."""
    inner = getattr(request, "request", None)
    url = getattr(inner, "url", None)
    return f"{url.scheme}://{url.netloc}{ROOT}" if url is not None else f"http://127.0.0.1:7860{ROOT}"


def state_view(store: Store, address: str) -> Markup:
    """Whether it is on, where it is, and how many keys open it."""
    keys = len(store.keys.all())
    if not store.keys.is_on:
        return cards.note("info", "The endpoint is off.", "Nobody can ask it, whatever key they have.")
    return cards.note("good" if keys else "warn", f"The endpoint is on: {address}", f"{count_keys(keys)}.")


def keys_table(keys: list[Key]) -> Markup:
    """The keys that are valid."""
    if not keys:
        return cards.empty("No key yet", "Make one below, one for each program, so that each can be revoked.")
    rows: list[list[object]] = [
        [
            key.name,
            f"…{key.ending}",
            cards.moment(key.created_at),
            cards.moment(key.used_at) if key.used_at else "never",
        ]
        for key in keys
    ]
    return cards.table(["key", "ends in", "made", "last used"], rows, caption="Keys of the endpoint")


def models_table(store: Store) -> Markup:
    """What can be asked, by the name that a program gives."""
    served = Models(store).all()
    rows: list[list[object]] = [
        [model.name, model.run.name if model.run else "the base alone", store.bases.name_of(model.base["base"])]
        for model in served[:SHOWN]
    ]
    more = f"The newest {SHOWN} of {len(served)}" if len(served) > SHOWN else "Models"
    return cards.table(["model", "what it is", "base"], rows, caption=f"{more}, as programs name them")


def examples_view(store: Store, address: str) -> Markup:
    """How it is asked, with the newest model."""
    name = Models(store).all()[0].name
    return cards.join(
        Markup("<h4>With curl</h4>"),
        cards.log(with_curl(address, name, "YOUR-KEY")),
        Markup("<h4>With OpenAI's client for Python</h4>"),
        cards.log(in_python(address, name, "YOUR-KEY")),
    )


class EndpointPage(Page):
    """The switch, the keys, the models, and how they are asked."""

    title = "Endpoint"
    path = "endpoint"
    in_header = False  # six names do not fit a phone; chat and runs lead here

    def layout(self) -> None:
        gr.HTML(cards.head("Endpoint", LEAD))
        self.watch = LiveChanges()
        self.state = gr.HTML()
        self.switch = gr.Button("Switch it on", elem_id="switch-endpoint", scale=0, min_width=160)
        gr.Markdown(f"## Keys\n\n{WHICH}")
        self.keys = gr.HTML()
        with gr.Row(equal_height=True):
            self.name = gr.Textbox(
                label="Name of a new key", placeholder="Who or what will use it", max_lines=1, elem_id="key-name"
            )
            self.create = gr.Button("Make a key", elem_id="make-key", scale=0, min_width=130)
        self.told = gr.HTML(elem_id="new-key")
        self.secret = gr.Textbox(
            label="The new key", visible=False, interactive=False, buttons=["copy"], elem_id="key-secret"
        )
        with gr.Accordion("Revoke a key", open=False), gr.Row():
            self.chosen = Choice([], label="Key", min_width=200, elem_id="revoke-name")
            self.sure = gr.Checkbox(False, label="Yes, revoke it", min_width=150, scale=0)
            self.revoke = gr.Button("Revoke", variant="stop", scale=0, min_width=110, elem_id="revoke-key")
        gr.Markdown("## Models")
        self.models = gr.HTML()
        with gr.Accordion("How to ask it", open=False):
            self.examples = gr.HTML()

    def connect(self) -> None:
        live = [self.watch, self.state, self.switch, self.keys, self.chosen, self.models, self.examples]
        self.on_change(self.watch, self.draw, self.chosen, live)
        self.on_click(self.switch, self.turn, None, None).success(self.draw, self.chosen, live, **TICK)
        made = [self.told, self.secret, self.name]
        self.on_click(self.create, self.make, self.name, made).success(self.draw, self.chosen, live, **TICK)
        gone = [self.sure, self.told, self.secret]
        self.on_click(self.revoke, self.end, [self.chosen, self.sure], gone).success(
            self.draw, self.chosen, live, **TICK
        )

    def draw(self, request: gr.Request, chosen: Any = None) -> Changes:
        """Everything but a key that has just been made, which only its maker is told; ``chosen`` stays chosen."""
        keys, address = self.store.keys.all(), address_for(request)
        names = [key.name for key in keys]
        return {
            self.watch: self.watching("settings", "runs"),
            self.state: state_view(self.store, address),
            self.switch: gr.Button("Switch it off" if self.store.keys.is_on else "Switch it on"),
            self.keys: keys_table(keys),
            self.chosen: gr.Dropdown(choices=names, value=chosen if chosen in names else None),
            self.models: models_table(self.store),
            self.examples: examples_view(self.store, address),
        }

    def turn(self) -> None:
        """Switch the endpoint on or off."""
        self.store.keys.switch(not self.store.keys.is_on)

    def make(self, name: Any) -> Changes:
        """A new key, shown this once."""
        key, secret = self.store.keys.create(chosen_text(name))
        told = cards.note("good", f"The key '{key.name}' is made.", "Copy it now: only its hash is kept.")
        return {self.told: told, self.secret: gr.Textbox(value=secret, visible=True), self.name: ""}

    def end(self, name: Any, is_sure: Any) -> Changes:
        """Make a key open nothing any more."""
        if is_sure is not True:
            raise UserError(SURE)
        key = self.store.keys.revoke(chosen_text(name))
        told = cards.note("info", f"The key '{key.name}' opens nothing any more.")
        return {self.sure: False, self.told: told, self.secret: gr.Textbox(value="", visible=False)}
