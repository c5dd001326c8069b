"""How the files of a corpus are read: shown before its import, corrected before and after it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.imports import MIN_EXAMPLES
from hydralora.corpus.plan import LOOKED_AT
from hydralora.errors import UserError
from hydralora.plain import shown
from jobs.store.records import Corpus, Job, Reading
from jobs.store.status import JobStatus
from studio import cards
from studio.cards import Markup
from studio.pages.common import EVENT, TICK, address_id, chosen_text, job_state
from studio.pages.corpora.reading_views import command, contract, names_of, option_choices
from studio.pages.corpora.uses import with_use
from studio.pages.page import Changes, Part
from studio.widgets import Choices

BASE = "starter"  # that New run begins with
LOOKING = "Looking at the first rows"
COUNTING = "Counting tokens"
UNREAD = "Nobody has looked at the columns since the files were read."


class ReadingPart(Part):
    """The contract of an import: columns with their uses, examples as the model will see them, one button."""

    def layout(self) -> None:
        self.verdict = gr.HTML()
        with gr.Accordion("What the model will see", open=False, elem_id="part-reading") as self.fold:
            self.form = Choices(elem_id="reading")
            self.state = gr.HTML()
            with gr.Row():
                self.begin = gr.Button("Import", variant="primary", elem_id="import-corpus", visible=False)
                self.look = gr.Button("Look at the columns", elem_id="look-at-columns", visible=False)
            self.command = gr.HTML()

    def parts(self) -> list[Any]:
        """Everything that ``draw`` fills."""
        return [self.verdict, self.fold, self.form, self.state, self.begin, self.look, self.command]

    def link(self, stamp: gr.Textbox) -> None:
        """Name the handlers; each empties ``stamp``, so that the page is drawn anew."""
        more = {**TICK, "trigger_mode": "multiple"}  # two selects may be changed in quick succession
        self.stamp = stamp
        self.form.select(self.choose, None, [stamp, self.form, self.state], **more)
        self.begin.click(self.import_files, None, stamp, **EVENT)
        self.look.click(self.look_again, None, stamp, **EVENT)

    # Handlers

    def choose(self, request: gr.Request, event: gr.EventData) -> Changes:
        """Take another use of a column, or another option, and look at the rows anew."""
        number = address_id(request, "corpus") or 0
        sent = event._data if isinstance(event._data, dict) else {}
        name, of, value = (chosen_text(sent.get(key)) for key in ("name", "of", "value"))
        reading = self.store.corpora.reading(number)
        if reading.source is None or of != str(reading.source.id):
            raise UserError("The columns were read anew meanwhile. Choose again.")
        roles, options = reading.given, reading.options.dump()
        match name.split(" "):
            case ["column", position, index] if position.isdecimal() and index.isdecimal() and len(name) < 40:
                roles = with_use(reading, int(position), int(index), value)
            case ["option", option] if option in option_choices():
                options[option] = _option(option, value)
            case _:
                raise UserError(f"There is no choice called {shown(name)}. Reload the page and choose again.")
        self.store.corpora.preview(number, roles, options, base=BASE)
        return {self.stamp: "", **self._form(self.store.corpora.reading(number))}

    def import_files(self, request: gr.Request) -> Changes:
        """Import the kept files as the columns say now."""
        number = address_id(request, "corpus") or 0
        reading = self.store.corpora.reading(number)
        self.store.corpora.import_again(number, reading.given, reading.options.dump())
        return {self.stamp: ""}

    def look_again(self, request: gr.Request) -> Changes:
        """Look at the columns of the kept files, read as they were."""
        number = address_id(request, "corpus") or 0
        reading = self.store.corpora.reading(number)
        self.store.corpora.preview(number, reading.given, reading.options.dump(), base=BASE)
        return {self.stamp: ""}

    # Drawing

    def draw(self, corpus: Corpus | None) -> Changes:
        """All of it for one corpus."""
        if corpus is None:
            return {self.verdict: "", self.form: "", self.state: "", self.command: ""}
        reading = self.store.corpora.reading(corpus.id)
        return {
            self.verdict: verdict(self.store.home, corpus, reading),
            self.fold: gr.Accordion(open=corpus.examples is None),
            **self._form(reading),
            self.begin: self._button(corpus, reading),
            self.look: gr.Button(visible=not reading.jobs and bool(reading.files)),
            self.command: command(reading) if reading.preview else "",
        }

    def _form(self, reading: Reading) -> Changes:
        return {self.form: contract(reading), self.state: progress(reading)}

    @staticmethod
    def _button(corpus: Corpus, reading: Reading) -> gr.Button:
        is_read = corpus.job is not None and not corpus.job.is_finished and not corpus.is_draft
        return gr.Button(
            "Import" if corpus.is_draft else "Read the files again",
            visible=reading.preview is not None and not is_read,
            interactive=not obstacle(reading),
        )


def stamp_of(reading: Reading) -> object:
    """What changes whenever the panel has to be drawn anew."""
    return [(job.id, job.status) for job in reading.jobs], reading.source and reading.source.id


def progress(reading: Reading) -> Markup:
    """What is still being looked at, what went wrong with it, and why an import must wait."""
    first, waiting = next(reversed(reading.jobs), None), reading.waits_for
    if first is not None and (_has_failed(first) or reading.preview is None):
        return job_state(first)
    if waiting is not None:
        words = COUNTING if reading.source in reading.jobs else LOOKING
        return Markup(f"<p class='hy-quiet' role='status'>{words} …</p>")
    failed = next((job for job in reading.jobs if _has_failed(job)), None)
    if failed is not None:
        return job_state(failed)
    why = too_few(reading)
    return cards.note("bad", "It cannot be imported so.", why) if why else cards.text(obstacle(reading))


def _has_failed(job: Job) -> bool:
    return job.status in (JobStatus.FAILED, JobStatus.LOST)


def obstacle(reading: Reading) -> str:
    """Why the files cannot be imported as they are read now; empty where they can."""
    preview = reading.preview
    if reading.jobs and _has_failed(reading.jobs[-1]):
        return "The files cannot be read so. Choose otherwise, or add other files."
    unread = [table.name for table in preview.tables if table.problem] if preview else []
    if unread:
        return f"{names_of(unread)} cannot be read so: choose what its columns are used as."
    return too_few(reading)


def too_few(reading: Reading) -> str:
    """That the rows make no corpus, where all of them were looked at and can be read; empty where they do."""
    tables = reading.preview.tables if reading.preview else []
    made, has_more = sum(table.examples for table in tables), any(table.rows >= LOOKED_AT for table in tables)
    if made >= MIN_EXAMPLES or has_more or any(table.problem for table in tables) or len(reading.files) > len(tables):
        return ""
    found = "One usable example" if made else "No usable example"
    return f"{found}; a corpus needs at least {MIN_EXAMPLES}. Choose otherwise, or add other files."


def verdict(home: Any, corpus: Corpus, reading: Reading) -> Markup:
    """One sentence of what was decided, or what is to be done."""
    if corpus.examples is not None:
        manifest = Rows(home.corpus(corpus.id)).manifest
        unused = f"{names_of(manifest.unused)} {_are(manifest.unused)} not used." if manifest.unused else ""
        rows = manifest.counts.rows or corpus.examples
        words = f"All {rows:,} rows read. {unused or 'Every column is used.'}"
        return Markup(f"<p class='hy-verdict'>{cards.text(words)}</p>")
    if corpus.is_draft and reading.preview is not None:
        words = "Nothing is imported yet. Look at the columns and at what the model will see, then press Import."
        return Markup(f"<p class='hy-verdict'>{words}</p>")
    return Markup("")


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _option(name: str, value: str) -> Any:
    """An option's value of the text that a select sends.

    Raises:
        UserError: When it may not be that.
    """
    if value not in option_choices()[name]:
        raise UserError(f"`{name}` cannot be {shown(value)}. Choose one of: {', '.join(option_choices()[name])}.")
    known: dict[str, Any] = {"True": True, "False": False, **({"": None} if name == "header" else {})}
    return known.get(value, value)
