"""Rows are edited: one is opened by its number, changed, and listed; each edit can be taken back."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.bounds import LONGEST_MESSAGE
from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.turns import Turn, is_conversation, turn_at, turns_of
from hydralora.errors import UserError
from jobs.store.edits import Edit
from jobs.store.records import Corpus
from studio import cards
from studio.cards import Markup
from studio.edits import changed_words, turn_title
from studio.pages.common import TICK, address_id, chosen_id, chosen_text
from studio.pages.page import Changes, Part
from studio.widgets import Choice

SHOWN = 200  # newest edits that are listed
SAYS = (
    "Its number stands in the first column of the table above. The import stays as it was: an edit lies over it, new "
    "runs, clusters, checks and exports read it, and it can be taken back."
)


class EditsPart(Part):
    """A form for one row, and the list of what was edited."""

    def layout(self) -> None:
        with gr.Accordion("Edit a row", open=False):
            gr.HTML(Markup(f"<p class='hy-quiet'>{SAYS}</p>"))
            with gr.Row():
                self.position = gr.Number(0, label="Row", precision=0, minimum=0, min_width=110, scale=0)
                self.open = gr.Button("Open this row", scale=0, min_width=150, elem_id="open-row")
            self.prompt = gr.Textbox(label="Prompt", lines=3, max_lines=12, max_length=LONGEST_MESSAGE, visible=False)
            self.answer = gr.Textbox(label="Answer", lines=3, max_lines=12, max_length=LONGEST_MESSAGE, visible=False)
            self.turn = Choice([], label="Turn of the conversation", visible=False, elem_id="edit-turn")
            self.text = gr.Textbox(label="Text", lines=3, max_lines=12, max_length=LONGEST_MESSAGE, visible=False)
            self.calls = gr.Textbox(
                label="Calls of tools, a JSON list", lines=4, max_lines=16, max_length=LONGEST_MESSAGE, visible=False
            )
            self.save = gr.Button("Save the edit", visible=False, elem_id="save-edit")
            self.list = gr.HTML()
            with gr.Row(visible=False) as self.undoing:
                self.edit = Choice([], label="Edit", min_width=260, elem_id="edit")
                self.undo = gr.Button("Take back or make again", scale=0, min_width=220, elem_id="undo-edit")
        self.opened = gr.Textbox(visible=False)  # the row that stands in the form

    def connect_to(self, stamp: gr.Textbox) -> None:
        """Connect its events; each that changes something empties ``stamp``, whereupon the page looks anew."""
        self.stamp = stamp
        self.on_click(self.open, self.open_row, self.position, self.form)
        self.turn.input(self.open_turn, [self.opened, self.turn], [self.text, self.calls], **TICK)
        self.on_click(self.save, self.save_row, [self.opened, *self.fields], [*self.form, stamp])
        self.on_click(self.undo, self.toggle, self.edit, stamp)

    @property
    def fields(self) -> list[Any]:
        """What is written of one row: prompt and answer, or a turn of a conversation."""
        return [self.prompt, self.answer, self.turn, self.text, self.calls]

    @property
    def form(self) -> list[Any]:
        """All that belongs to one row."""
        return [*self.fields, self.save, self.opened]

    @property
    def drawn(self) -> list[Any]:
        """What ``draw`` fills."""
        return [self.list, self.undoing, self.edit]

    def draw(self, corpus: Corpus | None) -> Changes:
        """All edits of a corpus that has been read."""
        if corpus is None or corpus.examples is None:
            return {self.list: "", self.undoing: gr.Row(visible=False)}
        found = self.store.edits.all(corpus.id, SHOWN)
        return {
            self.list: edits_table(found, self.store.edits.count(corpus.id)),
            self.undoing: gr.Row(visible=bool(found)),
            self.edit: gr.Dropdown(
                choices=[(_title(one), one.id) for one in found], value=found[0].id if found else None
            ),
        }

    def state_of(self, corpus_id: int) -> object:
        """What tells one look from another."""
        return self.store.edits.states(corpus_id)

    # Handlers

    def open_row(self, request: gr.Request, position: Any) -> Changes:
        """Put a row into the form, as it is now."""
        wanted = chosen_id(position)
        if wanted is None:
            raise UserError("A row is named by its number, from 0.")
        example = self._example(request, wanted)
        opened = {self.save: gr.Button(f"Save row {wanted}", visible=True), self.opened: str(wanted)}
        if is_conversation(example):
            turns = turns_of(example)
            choices = [(turn_title(turn), turn.place) for turn in turns]
            chooser = gr.Dropdown(choices=choices, value=turns[-1].place, visible=True)
            return {**self._hidden(), self.turn: chooser, **self._turn(turns[-1]), **opened}
        _refuse_long(example.prompt, example.answer)
        return {
            **self._hidden(),
            self.prompt: gr.Textbox(example.prompt, visible=bool(example.prompt)),
            self.answer: gr.Textbox(example.answer, visible=True, label="Answer" if example.prompt else "Text"),
            **opened,
        }

    def open_turn(self, request: gr.Request, opened: Any, turn: Any) -> Changes:
        """Put another turn of the row into the form."""
        return self._turn(turn_at(self._example(request, _number(opened)), _place(turn)))

    def save_row(
        self,
        request: gr.Request,
        opened: Any,
        prompt: Any,
        answer: Any,
        turn: Any = None,
        text: Any = "",
        calls: Any = "",
    ) -> Changes:
        """Keep what stands in the form as an edit of its row."""
        corpus_id, number = self._corpus(request), _number(opened)
        example = self._example(request, number)
        if is_conversation(example):
            place = _place(turn)
            written = chosen_text(calls) if turn_at(example, place).calls else None
            self.store.edits.add_turn(corpus_id, number, place, chosen_text(text), written)
        else:
            self.store.edits.add(corpus_id, number, chosen_text(prompt), chosen_text(answer))
        return {**self._hidden(), self.save: gr.Button(visible=False), self.opened: "", self.stamp: ""}

    def toggle(self, request: gr.Request, edit: Any) -> Changes:
        """Take an edit back, or make it again."""
        known = {one.id: one for one in self.store.edits.all(self._corpus(request))}
        wanted = chosen_id(edit)
        if wanted is None or wanted not in known:
            raise UserError("Choose the edit that shall be taken back.")
        (self.store.edits.redo if known[wanted].undone_at else self.store.edits.undo)(wanted)
        return {self.stamp: ""}

    def _hidden(self) -> Changes:
        """Every field of a row, empty."""
        texts = (self.prompt, self.answer, self.text, self.calls)
        return {self.turn: gr.Dropdown([], value=None, visible=False)} | {
            field: gr.Textbox("", visible=False) for field in texts
        }

    def _turn(self, turn: Turn) -> Changes:
        _refuse_long(turn.text, turn.calls)
        return {
            self.text: gr.Textbox(turn.text, label=f"Text of {turn_title(turn)}", visible=True),
            self.calls: gr.Textbox(turn.calls, visible=bool(turn.calls)),
        }

    def _example(self, request: gr.Request, position: int) -> Example:
        """A row as it is now."""
        return Rows(self.store.home.corpus(self._corpus(request))).take([position])[0]

    def _corpus(self, request: gr.Request) -> int:
        return self.store.corpora.ready(address_id(request, "corpus") or 0).id


def _number(opened: Any) -> int:
    """The row that stands in the form.

    Raises:
        UserError: When there is none.
    """
    number = chosen_text(opened)
    if not (number.isascii() and number.isdecimal() and len(number) < 16):
        raise UserError("Open a row first.")
    return int(number)


def _place(turn: Any) -> int:
    """The turn that was chosen.

    Raises:
        UserError: When there is none.
    """
    if not isinstance(turn, int) or isinstance(turn, bool):
        raise UserError("Choose a turn of the conversation.")
    return turn


def _refuse_long(*texts: str) -> None:
    if max(map(len, texts)) > LONGEST_MESSAGE:
        raise UserError(f"This text has more than {LONGEST_MESSAGE:,} characters, too many for a form. Use a command.")


def _title(edit: Edit) -> str:
    return f"row {edit.position}, {cards.moment(edit.created_at)}: {'taken back' if edit.undone_at else 'edited'}"


def edits_table(found: list[Edit], now: int) -> Markup:
    """The newest edits, newest first; ``now`` rows are edited in all."""
    if not found:
        return Markup("")
    rows: list[list[object]] = [
        [
            one.position,
            cards.long_text(one.prompt, 300),
            cards.long_text(one.answer, 300),
            changed_words(one),
            "taken back" if one.undone_at else "edited",
            cards.moment(one.created_at),
        ]
        for one in found
    ]
    caption = f"{now:,} {'row is' if now == 1 else 'rows are'} edited; listed are the newest edits, {SHOWN} at most"
    return cards.table(["Row", "Prompt", "Answer or text", "Also", "State", "When"], rows, caption=caption, numbers=[0])
