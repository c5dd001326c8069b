"""The pages in order. Each ``build(page, store)`` draws and connects; the work is in plain functions."""

from __future__ import annotations

import gradio as gr

from jobs.store import Store
from studio.pages import chat, corpora, inspect, new_run, overview, run

PAGES = (
    ("Corpora", "corpora", corpora, True),
    ("New run", "new-run", new_run, True),
    ("Run", "run", run, False),
    ("Inspect", "inspect", inspect, True),
    ("Chat", "chat", chat, True),
)


def build_pages(store: Store) -> gr.Blocks:
    """All pages over one store; every state comes from it and from the address."""
    with gr.Blocks(title="Hydra Studio", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        gr.Navbar(main_page_name="Overview")
        overview.build(demo, store)
    for name, path, module, in_navbar in PAGES:
        with demo.route(name, path, show_in_navbar=in_navbar) as page:
            gr.Navbar(main_page_name="Overview")
            module.build(page, store)
    return demo.queue(default_concurrency_limit=8, max_size=64)
