"""What the address of Compare asks for: the runs, how they are grouped, the tab, and how its figures are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import gradio as gr

from hydralora.bounds import LONGEST_NAME
from hydralora.errors import UserError
from studio.comparison.address import LONGEST, parse_ids, written
from studio.comparison.answers import WORDS, Which
from studio.comparison.drawings import COSTS, CURVES
from studio.comparison.groups import SETTINGS
from studio.figures.look import Look as DrawnAs
from studio.pages.common import address_id, chosen_text
from studio.pages.controls import read_look

TABS = {"scores": "Scores", "answers": "Answers", "experts": "Experts", "weights": "Weights", "cost": "Cost"}
PARTS = {"BA": "updates B A", "A": "what A reads", "B": "what the heads write"}
MATRICES = {"B": "heads B", "A": "matrices A"}
LAYOUTS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
SHOWN = 40  # questions


@dataclass(frozen=True)
class Asked:
    """Everything the address says; what it leaves out, or says wrongly, is as usual."""

    ids: tuple[int, ...]
    problem: str
    by: str
    tab: str
    a: int
    b: int
    show: Which
    most: int
    of: str
    drawn: DrawnAs
    cost: str
    part: str
    matrices: str
    arrange: str
    find: str

    def figure(self, view: str, version: int, **more: object) -> str:
        """The address of a figure of these runs; another ``version`` is drawn anew."""
        query = urlencode({"runs": written(self.ids), "by": self.by, **more, "at": version}, safe=",")
        return f"/ui/figures/compare/{view}?{query}"

    def csv(self, table: str, **more: object) -> str:
        """The address of a table as CSV."""
        return f"/ui/compare/{table}.csv?{urlencode({'runs': written(self.ids), 'by': self.by, **more}, safe=',')}"


def asked_of(request: gr.Request | None) -> Asked:
    """What an address asks for."""

    def text(name: str, most: int = LONGEST_NAME) -> str:
        value = request.query_params.get(name) if request else None
        return chosen_text(value[:most]) if value else ""

    def one_of(name: str, known: Callable[[str], bool], usual: str) -> str:
        return value if known(value := text(name)) else usual

    try:
        ids, problem = parse_ids(text("runs", LONGEST + 1)), ""
    except UserError as error:
        ids, problem = [], str(error)
    which: dict[str, Which] = {name: name for name in WORDS}
    return Asked(
        ids=tuple(ids),
        problem=problem,
        by=text("by") or SETTINGS,
        tab=one_of("tab", TABS.__contains__, "scores"),
        a=address_id(request, "a") or 0,
        b=address_id(request, "b") or 0,
        show=which.get(text("show"), "a"),
        most=min(address_id(request, "most") or SHOWN, 10_000),
        of=one_of("of", CURVES.__contains__, "held-out"),
        drawn=read_look(request.query_params if request else {}),
        cost=one_of("cost", COSTS.__contains__, "minutes"),
        part=one_of("part", PARTS.__contains__, "BA"),
        matrices=one_of("matrices", MATRICES.__contains__, "B"),
        arrange=one_of("arrange", LAYOUTS.__contains__, "pca"),
        find=text("find"),
    )
