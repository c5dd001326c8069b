"""The pages in order. Each is a class: what it draws, and what its events do."""

from __future__ import annotations

import gradio as gr

from jobs.store.store import Store
from studio import cards
from studio.pages.bases.page import BasesPage
from studio.pages.chat import ChatPage
from studio.pages.common import Pages
from studio.pages.corpora.page import CorporaPage
from studio.pages.endpoint import EndpointPage
from studio.pages.inspect.page import InspectPage
from studio.pages.new_run.page import NewRunPage
from studio.pages.overview.page import OverviewPage
from studio.pages.page import Page
from studio.pages.run.page import RunPage

PAGES: tuple[type[Page], ...] = (
    CorporaPage,
    BasesPage,
    NewRunPage,
    RunPage,
    InspectPage,
    ChatPage,
    EndpointPage,
)


def build_pages(store: Store, *, has_sign_out: bool = False) -> gr.Blocks:
    """All pages over one store; every state comes from it and from the address."""
    with Pages(title="Hydra Studio", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        draw_header(OverviewPage, has_sign_out)
        OverviewPage(demo, store)
    for kind in PAGES:
        with demo.route(kind.title, kind.path, show_in_navbar=kind.in_header) as page:
            draw_header(kind, has_sign_out)
            kind(page, store)
    demo.protect()
    return demo.queue(default_concurrency_limit=8, max_size=64)


def draw_header(current: type[Page], has_sign_out: bool) -> None:
    """Our header in the place of Gradio's; routes stay Gradio's."""
    gr.Navbar(visible=False)
    kinds: tuple[type[Page], ...] = (OverviewPage, *PAGES)
    listed = [(kind.title, f"/{kind.path}") for kind in kinds if kind.in_header]
    gr.HTML(cards.header(listed, f"/{current.path}", has_sign_out=has_sign_out))
