"""The folded part of New run that imports an external adapter in the place of training one."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from jobs.store.bases import is_hub_allowed
from studio.pages.common import chosen_id, chosen_text, corpus_choices, go_to, known_bases
from studio.pages.page import Changes, Part
from studio.widgets import Choice

FILE_TYPES = [".safetensors", ".json", ".zip"]
LEAD = (
    "PEFT's LoRA and AdaLoRA, HydraLoRA and its siblings, and what the authors' HydraLoRA code saves: "
    "`adapter_config.json` with `adapter_model.safetensors`, or a zip of both. Pickled weights (`.bin`) are never read."
)
FROM_FILES = "the one the adapter names"


class ImportPart(Part):
    """Files, base and corpus of an external adapter; it ends on the page of the new run."""

    def layout(self) -> None:
        with gr.Accordion("Import an external adapter", open=False, elem_id="import-adapter"):
            gr.Markdown(LEAD)
            self.files = gr.File(
                label="Files of one adapter",
                file_count="multiple",
                file_types=FILE_TYPES,
                height=130,
                elem_id="adapter-files",
            )
            with gr.Row():
                self._about_it()
            self.add = gr.Button("Import adapter", variant="primary", elem_id="start-import")
        self.opened = gr.Textbox(visible=False)

    def _about_it(self) -> None:
        self.name = gr.Textbox(
            label="Name", placeholder="Imported adapter", max_lines=1, min_width=200, elem_id="adapter-name"
        )
        hub = ", or a hub id" if is_hub_allowed() else ""
        self.base = Choice(
            [(FROM_FILES, "")],
            value="",
            allow_custom_value=is_hub_allowed(),
            label="Base model it was trained on",
            min_width=260,
            elem_id="adapter-base",
            info=f"one of the list{hub}; without the base only its matrices can be seen",
        )
        self.corpus = Choice(
            [("none", 0)],
            value=0,
            label="Corpus to measure it on",
            min_width=220,
            elem_id="adapter-corpus",
            info="for gates, experts and answers; can be left out",
        )

    def connect(self) -> None:
        given = [self.files, self.name, self.base, self.corpus]
        self.on_open(self.offer, None, [self.base, self.corpus])
        self.on_click(self.add, self.begin, given, self.opened).success(
            None, self.opened, None, js=go_to("/run", "run")
        )

    def offer(self) -> Changes:
        """The bases and corpora there are."""
        bases = [(FROM_FILES, ""), *((known, known) for known in known_bases(self.store))]
        return {
            self.base: gr.Dropdown(choices=bases),
            self.corpus: gr.Dropdown(choices=[("none", 0), *corpus_choices(self.store)]),
        }

    def begin(self, files: list[str] | None, name: str, base: str | None, corpus_id: int | None) -> Changes:
        """Queue the import."""
        run = self.store.runs.import_adapter(
            [Path(path) for path in files or []],
            base="" if base == FROM_FILES else chosen_text(base),
            corpus_id=chosen_id(corpus_id) or None,
            name=chosen_text(name),
            keep_files=False,
        )
        return {self.opened: str(run.id)}
