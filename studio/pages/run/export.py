"""Export: takes the adapter of a run elsewhere, with the measured gap."""

from __future__ import annotations

import itertools
from typing import Any

import gradio as gr

from hydralora.errors import UserError
from hydralora.methods import EXPORTS, FORMS, export_ways
from hydralora.results import Export
from jobs.store.analyses import export_params
from jobs.store.records import Job, Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.exports import EXPORT_HEAD, export_row, is_doubtful
from studio.pages.common import address_id, chosen_id, chosen_text, corpus_choices, job_state
from studio.pages.page import Changes
from studio.pages.run.tab import Found, Look, Tab
from studio.widgets import Choice

LEAD = (
    "A plain LoRA works wherever PEFT does, without this studio, and as GGUF in llama.cpp and Ollama. Where gates "
    "depend on the token it is an approximation, and how far it is off is measured on held-out examples; GGUF files "
    "are checked by llama.cpp where it is installed."
)


def export_view(store: Store, run: Run) -> Markup:
    """Every export of a run: its state, or its gaps in a table and the way to its files."""
    pieces: list[object] = []
    pushes = [job for job in store.queue.jobs(kind="push") if job.run_id == run.id]
    for how, form in itertools.product(EXPORTS, FORMS):
        found = store.analyses.find(run.id, "export", export_params(how, form), failed=True)
        if found is None or found.job is None:
            continue
        pieces.append(Markup(f"<h4>{cards.text(EXPORTS[how])}, {cards.text(FORMS[form])}</h4>"))
        if found.job.status != JobStatus.SUCCEEDED:
            pieces.append(job_state(found.job))
            continue
        result = Export.load(found.job.result or {}, "The database")
        caption = "Nats per answer token; KL is how far the next-token distributions lie from the live adapter's"
        pieces += [
            cards.note("warn" if is_doubtful(result) else "good", "Ready.", result.sentence),
            cards.table(EXPORT_HEAD, [export_row(part) for part in result.parts], caption=caption, numbers=range(1, 9)),
            Markup("<div class='hy-links'>"),
            cards.link(f"/ui/analyses/{found.id}/export.zip", "Download"),
            Markup("</div>"),
            *(_push_state(job) for job in pushes if job.payload["analysis_id"] == found.id),
        ]
    return cards.join(*pieces)


def _push_state(job: Job) -> Markup:
    """How far an export is on its way to the hub."""
    if job.status == JobStatus.SUCCEEDED:
        return cards.note("good", "Sent.", (job.result or {}).get("sentence", ""))
    return job_state(job)


class ExportTab(Tab):
    """Ways out of the studio."""

    title = "Export"
    place = 70

    def layout(self) -> None:
        self.own = gr.HTML()
        gr.Markdown(LEAD)
        with gr.Row(visible=False) as self.without_corpus:
            self.corpus = Choice(
                [], label="Corpus of this adapter, to measure the gap on", min_width=260, elem_id="export-corpus"
            )
            self.use = gr.Button("Use this corpus", scale=0, min_width=150, elem_id="use-corpus")
        with gr.Row():
            self.how = Choice([], label="What", min_width=260, elem_id="export-how")
            self.form = gr.Dropdown(
                [(words, form) for form, words in FORMS.items()],
                value="safetensors",
                label="As",
                min_width=220,
                elem_id="export-form",
            )
            # It can be pressed once the ways to export are known.
            self.start = gr.Button("Export", scale=0, min_width=130, elem_id="start-export", interactive=False)
        self.view = gr.HTML(elem_id="exports")
        with gr.Row(equal_height=True):
            self.repository = gr.Textbox(
                label="Send this export to the hub, as",
                placeholder="owner/name",
                max_lines=1,
                min_width=240,
                elem_id="push-to",
            )
            self.public = gr.Checkbox(False, label="Everybody may see it (of a new repository)", min_width=170, scale=0)
            self.push = gr.Button("Send to the hub", scale=0, min_width=150, elem_id="push-export")

    def connect(self) -> None:
        self.on_click(self.use, self.use_corpus, self.corpus, None).success(**self.drawing)
        self.on_click(self.start, self.begin, [self.how, self.form], None).success(**self.drawing)
        pushed = [self.how, self.form, self.repository, self.public]
        self.on_click(self.push, self.send, pushed, None).success(**self.drawing)

    def picks(self) -> list[Any]:
        return [self.how]

    def live(self) -> list[Any]:
        return [self.own, self.how, self.start, self.view, self.without_corpus, self.corpus]

    def show(self, look: Look, found: Found) -> Changes:
        run = look.run
        ways = export_ways(run.method, run.config.adapter)
        homeless = run.corpus_id is None
        is_chosen = chosen_text(look.values[self.how]) in ways  # it stays then, while an export goes on
        moved: dict[str, Any] = {} if is_chosen else {"value": ways[0] if ways else None}
        return {
            self.own: cards.paragraph(
                cards.link(f"/ui/runs/{run.id}/adapter.zip", "Download the adapter"), " as it is, for this library."
            ),
            self.how: gr.Dropdown(choices=[(EXPORTS[way], way) for way in ways], **moved),
            self.start: gr.Button(interactive=bool(ways) and not homeless),
            self.without_corpus: gr.update(visible=homeless),
            self.corpus: gr.Dropdown(choices=corpus_choices(self.store)),
            self.view: export_view(self.store, run),
        }

    def state(self, look: Look) -> Any:
        return str(export_view(self.store, look.run)) if look.run.summary else None

    def begin(self, request: gr.Request, way: str | None, form: str | None = "safetensors") -> None:
        """Queue an export."""
        if not chosen_text(way):
            raise UserError("There is nothing to export yet.")
        self.store.analyses.export(address_id(request, "run") or 0, chosen_text(way), chosen_text(form))

    def send(
        self, request: gr.Request, way: str | None, form: str | None, repository: str | None, is_public: bool | None
    ) -> None:
        """Queue sending the chosen export to the hub, which must be finished."""
        params = export_params(chosen_text(way), chosen_text(form))
        found = self.store.analyses.find(address_id(request, "run") or 0, "export", params)
        if found is None:
            raise UserError("This export has not been made yet. Press Export first.")
        self.store.analyses.push(found.id, chosen_text(repository).strip(), private=is_public is not True)

    def use_corpus(self, request: gr.Request, corpus_id: int | None) -> None:
        """Give an adapter that came without a corpus one to be measured on."""
        chosen = chosen_id(corpus_id)
        if chosen is None:
            raise UserError("Choose a corpus first.")
        self.store.runs.use_corpus(address_id(request, "run") or 0, chosen)
