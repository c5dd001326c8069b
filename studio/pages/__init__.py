"""The pages in order. Each is a class: what it draws, and what its events do."""

from __future__ import annotations

import gradio as gr

from jobs.store.store import Store
from studio import cards
from studio.pages.bases.page import BasesPage
from studio.pages.chat import ChatPage
from studio.pages.common import Pages
from studio.pages.compare.page import ComparePage
from studio.pages.corpora.page import CorporaPage
from studio.pages.endpoint import EndpointPage
from studio.pages.home.page import HomePage
from studio.pages.new_run.page import NewRunPage
from studio.pages.page import Page
from studio.pages.run.page import RunPage
from studio.pages.runs.page import RunsPage
from studio.pages.tour.page import TourPage

PAGES: tuple[type[Page], ...] = (
    CorporaPage,
    RunsPage,
    ComparePage,
    NewRunPage,
    RunPage,
    TourPage,
    ChatPage,
    BasesPage,
    EndpointPage,
)
# What stands in the header; a page that there is not is left out, and those that are not named here stand in its menu.
HEADER = (("Data", "/corpora"), ("Runs", "/runs"), ("Compare", "/compare"))


def build_pages(store: Store, *, has_sign_out: bool = False) -> gr.Blocks:
    """All pages over one store; every state comes from it and from the address."""
    with Pages(title="Hydra Studio", analytics_enabled=False, delete_cache=(3600, 3600)) as demo:
        draw_header(HomePage, has_sign_out)
        HomePage(demo, store)
    for kind in PAGES:
        with demo.route(kind.title, kind.path, show_in_navbar=False) as page:
            draw_header(kind, has_sign_out)
            kind(page, store)
    demo.protect()
    return demo.queue(default_concurrency_limit=8, max_size=64)


def draw_header(current: type[Page], has_sign_out: bool) -> None:
    """Our header in the place of Gradio's; routes stay Gradio's."""
    gr.Navbar(visible=False)
    there = {f"/{kind.path}": kind for kind in PAGES}
    pages = [entry for entry in HEADER if entry[1] in there]
    named = {address for _, address in HEADER}
    more = [(kind.title, path) for path, kind in there.items() if kind.in_menu and path not in named]
    here = current.section or f"/{current.path}"
    gr.HTML(cards.header(pages, more, here, has_sign_out=has_sign_out))
