"""Inspect, the folded part that takes in an adapter from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from jobs.store import Store
from studio.pages.common import EVENT, TICK, corpus_choices, go_to, known_bases, shows_errors

FILE_TYPES = [".safetensors", ".json", ".zip"]
LEAD = (
    "PEFT's LoRA and AdaLoRA, HydraLoRA and its siblings, and what the authors' HydraLoRA code saves: "
    "`adapter_config.json` with `adapter_model.safetensors`, or a zip of both. Pickled weights (`.bin`) are never read."
)
FROM_FILES = "the one the adapter names"


def build_import(page: gr.Blocks, store: Store) -> None:
    """Draw the part and connect it; it ends on the page of the new run."""
    with gr.Accordion("Look into an adapter from elsewhere", open=False, elem_id="import-adapter"):
        gr.Markdown(LEAD)
        files = gr.File(label="Files of one adapter", file_count="multiple", file_types=FILE_TYPES, height=130, elem_id="adapter-files")  # fmt: skip
        with gr.Row():
            name = gr.Textbox(label="Name", placeholder="Imported adapter", max_lines=1, min_width=200, elem_id="adapter-name")  # fmt: skip
            base = gr.Dropdown([], allow_custom_value=True, label="Base model it was trained on", min_width=260, elem_id="adapter-base",
                               info="starter, a folder, or a hub id; without the base only its matrices can be seen")  # fmt: skip
            corpus = gr.Dropdown([], label="Corpus to measure it on", min_width=220, elem_id="adapter-corpus",
                                 info="for gates, experts and answers; can be left out")  # fmt: skip
        add = gr.Button("Import adapter", variant="primary", elem_id="start-import")
    opened = gr.Textbox(visible=False)

    def load() -> tuple[Any, Any]:
        bases = [(FROM_FILES, ""), *((known, known) for known in known_bases(store))]
        return gr.Dropdown(choices=bases, value=""), gr.Dropdown(choices=[("none", 0), *corpus_choices(store)], value=0)

    @shows_errors
    def begin(given: list[str] | None, name_: str, base_: str | None, corpus_: int | None) -> str:
        paths = [Path(path) for path in given or []]
        chosen = "" if base_ == FROM_FILES else base_ or ""
        run = store.import_run(paths, base=chosen, corpus_id=corpus_ or None, name=name_ or "", keep_files=False)
        return str(run.id)

    page.load(load, None, [base, corpus], **TICK)
    add.click(begin, [files, name, base, corpus], opened, **EVENT).success(
        None, opened, None, js=go_to("/run", "run")
    )  # fmt: skip
