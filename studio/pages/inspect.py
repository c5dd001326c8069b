"""Inspect: what the gates do, how alike the heads are, and where the matrices lie."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.errors import UserError
from hydralora.methods import METHODS
from jobs.records import Analysis, Run
from jobs.status import JobStatus
from jobs.store import Store
from studio import cards
from studio.api import read_json
from studio.cards import Markup
from studio.figures import short_layer
from studio.pages.common import (
    EVENT,
    LIVE_SECONDS,
    TICK,
    address_id,
    job_state,
    run_choices,
    set_address,
    shows_errors,
)
from studio.palette import expert_colour, expert_name
from studio.widgets import FigurePanel, figure

SHOWN_ANSWERS = 40
LEAD = "Do the experts differ, and does the router choose? Every picture comes with what chance alone would give."
LAYOUTS = [("PCA", "pca"), ("t-SNE", "tsne"), ("UMAP", "umap")]
MATRICES = [("heads B", "B"), ("matrices A", "A")]
COMPARISONS = [("updates B A", "update_cosine"), ("heads B", "head_cosine"), ("column spaces", "overlap")]
GROUPS = [("clusters", "cluster"), ("labels", "label")]


def is_routed(run: Run) -> bool:
    """Whether the run's method has gates."""
    return METHODS[run.config["method"]].routed or run.config["adapter"].get("combine") == "router"


def finished_runs(store: Store) -> list[Run]:
    """Runs with an adapter."""
    return [run for run in store.runs() if run.summary is not None]


def ask(store: Store, run: Run, kind: str, params: dict[str, Any], *, again: bool = False) -> Analysis | None:
    """The analysis with these parameters, queued if it was never tried (or failed, where ``again``)."""
    if kind == "routing" and not is_routed(run):
        return None
    known = store.find_analysis(run.id, kind, params, failed=not again)
    return known or store.analyse(run.id, kind, params)


def state_of(found: Analysis | None, missing: str) -> Markup:
    """Progress or trouble of an analysis; when done, its sentence."""
    if found is None or found.job is None:
        return cards.note("info", missing)
    if found.job.status == JobStatus.SUCCEEDED:
        return cards.note("info", (found.job.result or {}).get("sentence", "Done."))
    return job_state(found.job)


def source(found: Analysis | None, view: str, **query: Any) -> dict[str, Any]:
    """The value of a panel that shows one view of an analysis."""
    if found is None or found.job is None or found.job.status != JobStatus.SUCCEEDED:
        return figure(None, "It appears when the analysis is done.")
    more = "&".join(f"{name}={value}" for name, value in query.items())
    return figure(f"/ui/figures/analyses/{found.id}/{view}?{more}")


def result_of(store: Store, found: Analysis | None, name: str) -> dict[str, Any] | None:
    """The stored result of a finished analysis."""
    if found is None or found.job is None or found.job.status != JobStatus.SUCCEEDED:
        return None
    return read_json(store.home.analysis(found.id) / name)


def routing_cards(found: dict[str, Any]) -> Markup:
    """Experts that are dead or dominant, and how many speak at once."""
    effective = found["effective_experts"]

    def names(key: str) -> str:
        return ", ".join(expert_name(e) for e in found[key]) or "none"

    parts = [
        cards.card(
            "Measured", f"{found['tokens']:,}", f"tokens of {found['examples']:,} examples, held-out ones first"
        ),
        cards.card(
            "Speak at once",
            f"{sum(effective) / len(effective):.2f}",
            f"of {found['experts']} experts (effective number)",
        ),
        cards.card("Dead experts", names("dead"), "below a quarter of an equal share in every layer"),
        cards.card("Dominant experts", names("dominant"), "above 90 % of all gate weight"),
    ]
    for kind, group in found["groups"].items():
        verdict = "yes" if group.get("real") else "no"
        parts.append(cards.card(f"Follow the {kind}s?", verdict, group["sentence"]))
    return cards.cards(parts)


def answers_table(found: dict[str, Any]) -> Markup:
    """Scores by kind, then wanted, base and tuned answers beside each other."""
    scores = found["scores"]
    kinds = [
        [name, f"{scores['base']['by_label'][name]:.0%}", f"{share:.0%}"]
        for name, share in scores["tuned"]["by_label"].items()
    ]
    rows: list[list[object]] = []
    for row, hit in list(zip(found["rows"], scores["tuned"]["hits"], strict=True))[:SHOWN_ANSWERS]:
        texts = (cards.long_text(row[name] or "(nothing)", 400) for name in ("prompt", "wanted", "base", "tuned"))
        rows.append([*texts, Markup("✓") if hit else ""])
    return cards.join(
        cards.table(["Kind", "Base", "Tuned"], list(kinds), caption="Word-for-word right, by kind", numbers=[1, 2]),
        cards.table(["Question", "Wanted", "Base", "Tuned", "Right"], rows, caption=f"The first {len(rows)} of {found['examples']:,} held-out questions"),
    )  # fmt: skip


def favourites(found: dict[str, Any]) -> Markup:
    """The tokens each expert is weighed up for."""
    rows: list[list[object]] = []
    for expert, tokens in enumerate(found["favourites"]):
        shown = cards.words(f"{t['text']!r} {t['gate']:.2f} ({t['count']})" for t in tokens)
        rows.append([cards.dot(expert_colour(expert), expert_name(expert)), shown])
    return cards.table(
        ["Expert", "Tokens with the highest mean gate above its own mean (times seen)"],
        rows,
        caption="Favourite tokens",
    )


def cell_texts(found: dict[str, Any], layer: int, expert: int) -> Markup:
    """The examples with the highest mean gate in one cell of layers x experts."""
    ids = found["cells"][layer][expert]
    rows: list[list[object]] = [[i, cards.long_text(found["texts"].get(str(i), ""), 600)] for i in ids]
    caption = f"{short_layer(found['layers'][layer])}, {expert_name(expert)}: the examples with the highest mean gate"
    return cards.table(["#", "Text"], rows, caption=caption, numbers=[0])


def build(page: gr.Blocks, store: Store) -> None:
    """Draw the page."""
    gr.HTML(cards.head("Inspect", LEAD))
    stamp = gr.Textbox(visible=False)
    with gr.Row():
        chosen = gr.Dropdown([], label="Run", min_width=260, elem_id="inspect-run")
        layer = gr.Dropdown([], label="Layer", min_width=200, elem_id="inspect-layer")
    with gr.Tabs():
        with gr.Tab("Answers", id="answers"):
            answer_state = gr.HTML()
            answer_rows = gr.HTML(elem_id="answers")
        with gr.Tab("Gates", id="gates"):
            gate_state = gr.HTML()
            gate_facts = gr.HTML()
            panels: dict[str, FigurePanel] = {"layers": FigurePanel(height=320, elem_id="gate-layers")}
            texts = gr.HTML()
            group = gr.Radio(GROUPS, value="cluster", label="Compare the gates with")
            with gr.Row():
                with gr.Column(min_width=320):
                    panels["groups"] = FigurePanel(height=300, elem_id="gate-groups")
                with gr.Column(min_width=320):
                    panels["agreement"] = FigurePanel(height=300)
            with gr.Row():
                with gr.Column(min_width=320):
                    panels["distribution"] = FigurePanel(height=300, elem_id="gate-distribution")
                with gr.Column(min_width=320):
                    panels["effective"] = FigurePanel(height=300)
            panels["classes"] = FigurePanel(height=300)
            tokens = gr.HTML()
        with gr.Tab("Heads", id="heads"):
            head_state = gr.HTML()
            compare = gr.Radio(COMPARISONS, value="update_cosine", label="Compare")
            with gr.Row():
                with gr.Column(min_width=320):
                    panels["grid"] = FigurePanel(height=320, elem_id="head-grid")
                with gr.Column(min_width=320):
                    panels["heads"] = FigurePanel(height=320, elem_id="head-similarity")
            panels["norms"] = FigurePanel(height=300)
        with gr.Tab("Map", id="map"):
            with gr.Row():
                which = gr.Radio(MATRICES, value="B", label="Matrices", min_width=200)
                layout = gr.Radio(LAYOUTS, value="pca", label="Layout", min_width=240, elem_id="map-layout")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=10_000, min_width=90, scale=0)
            map_state = gr.HTML()
            panels["map"] = FigurePanel(height=440, elem_id="matrix-map")
    again = gr.Button("Try the failed analyses again", visible=False)

    picks: list[Any] = [chosen, layer, group, compare, which, layout, seed]
    live = [
        answer_state,
        answer_rows,
        gate_state,
        gate_facts,
        tokens,
        head_state,
        map_state,
        again,
        layer,
        *panels.values(),
        stamp,
    ]

    def blank(body: Markup) -> tuple[Any, ...]:
        empty = figure(None, "Choose a run.")
        return (body, "", body, "", "", "", "", gr.update(visible=False), gr.skip(), *[empty] * len(panels), "none")

    def look(run: Run, wanted: dict[str, Any], *, retry: bool = False) -> dict[str, Analysis | None]:
        given = {"which": wanted["which"], "layout": wanted["layout"], "seed": int(wanted["seed"] or 0)}
        if given["which"] not in dict(MATRICES).values() or given["layout"] not in dict(LAYOUTS).values():
            raise UserError("That map does not exist.")
        kinds: tuple[tuple[str, dict[str, Any]], ...] = (
            ("answers", {}), ("routing", {}), ("weights", {}), ("map", given),
        )  # fmt: skip
        return {kind: ask(store, run, kind, params, again=retry) for kind, params in kinds}

    def draw(run_id: int | None, layer_: str | None, group_: str, compare_: str, which_: str, layout_: str,
             seed_: float, known: str, retry: bool = False) -> tuple[Any, ...]:  # fmt: skip
        runs = finished_runs(store)
        run = next((r for r in runs if r.id == run_id), None)
        if run is None:
            way = cards.join(
                "Start one on the ", cards.link("/new-run", "New run"), " page; its experts are shown here."
            )
            body = cards.empty("No run is finished yet", way) if not runs else cards.note("info", "Choose a run above.")
            return tuple([gr.skip()] * len(live)) if known == "none" else blank(body)
        found = look(run, {"which": which_, "layout": layout_, "seed": seed_}, retry=retry)
        jobs = [(a.id, a.job.status, round(a.job.progress, 2)) if a and a.job else None for a in found.values()]
        now = repr((run_id, layer_, group_, compare_, which_, layout_, seed_, jobs))
        if now == known:
            return tuple([gr.skip()] * len(live))
        return show(run, found, layer_ or "", group_, compare_, now)

    def show(
        run: Run, found: dict[str, Analysis | None], layer_: str, group_: str, compare_: str, now: str
    ) -> tuple[Any, ...]:
        routing, weights, plane = found["routing"], found["weights"], found["map"]
        compared = result_of(store, found["answers"], "answers.json")
        gates = result_of(store, routing, "routing.json")
        heads = result_of(store, weights, "weights.json")
        head_names = [h["name"] for h in heads["layers"]] if heads else []
        names = gates["layers"] if gates else head_names
        chosen_layer = layer_ if layer_ in names else names[0] if names else ""
        place = names.index(chosen_layer) if names else 0
        head_place = head_names.index(chosen_layer) if chosen_layer in head_names else 0
        failed = any(a and a.job and a.job.is_finished and a.job.status != JobStatus.SUCCEEDED for a in found.values())
        views = {
            "layers": source(routing, "layers"), "groups": source(routing, "groups", group=group_),
            "agreement": source(routing, "agreement", group=group_), "distribution": source(routing, "distribution", layer=place),
            "effective": source(routing, "effective"), "classes": source(routing, "classes"),
            "grid": source(weights, "layers"), "heads": source(weights, "heads", layer=head_place, what=compare_),
            "norms": source(weights, "norms"), "map": source(plane, "map"),
        }  # fmt: skip
        title = METHODS[run.config["method"]].title
        no_router = f"{title} has no router, so there are no gate weights. Its matrices are under Heads and Map."
        return (
            state_of(found["answers"], "Nothing to compare."), answers_table(compared) if compared else "",
            state_of(routing, no_router), routing_cards(gates) if gates else "", favourites(gates) if gates else "",
            state_of(weights, "Nothing to compare."), state_of(plane, "Nothing to place."), gr.update(visible=failed),
            gr.Dropdown(choices=[(short_layer(n), n) for n in names], value=chosen_layer) if names else gr.skip(),
            *[views[name] for name in panels], now,
        )  # fmt: skip

    def first(request: gr.Request) -> Any:
        runs, wanted = finished_runs(store), address_id(request, "run")
        value = next((r.id for r in runs if r.id == wanted), runs[0].id if runs else None)
        return gr.Dropdown(choices=run_choices(runs), value=value)

    shown = shows_errors(draw)
    page.load(first, None, chosen, **TICK).then(shown, [*picks, stamp], live, **TICK)
    gr.Timer(LIVE_SECONDS).tick(shown, [*picks, stamp], live, **TICK)
    chosen.input(None, chosen, chosen, js=set_address("run")).then(shown, [*picks, stamp], live, **TICK)
    for pick in picks[1:]:
        pick.input(shown, [*picks, stamp], live, **TICK)

    @shows_errors
    def try_again(
        run_id: int | None, layer_: str, group_: str, compare_: str, which_: str, layout_: str, seed_: float
    ) -> tuple[Any, ...]:
        return draw(run_id, layer_, group_, compare_, which_, layout_, seed_, "", True)

    again.click(try_again, picks, live, **EVENT)

    def picked(event: gr.EventData) -> Any:
        points = event._data.get("points") if isinstance(event._data, dict) else None
        return points[0].get("id") if isinstance(points, list) and points and isinstance(points[0], dict) else None

    @shows_errors
    def open_cell(run_id: int | None, event: gr.EventData) -> tuple[Any, Any]:
        cell, found = picked(event), store.find_analysis(run_id or 0, "routing", {})
        gates = result_of(store, found, "routing.json")
        whole = isinstance(cell, list) and len(cell) == 2 and all(isinstance(i, int) for i in cell)
        if not whole or gates is None or not (0 <= cell[0] < len(gates["layers"]) and 0 <= cell[1] < gates["experts"]):
            return gr.skip(), gr.skip()
        return cell_texts(gates, *cell), gates["layers"][cell[0]]

    @shows_errors
    def open_layer(run_id: int | None, event: gr.EventData) -> Any:
        index = picked(event)
        heads = result_of(store, store.find_analysis(run_id or 0, "weights", {}), "weights.json")
        inside = heads is not None and isinstance(index, int) and 0 <= index < len(heads["layers"])
        return heads["layers"][index]["name"] if heads and inside else gr.skip()

    panels["layers"].select(open_cell, chosen, [texts, layer], **TICK).then(shown, [*picks, stamp], live, **TICK)
    panels["grid"].select(open_layer, chosen, layer, **TICK).then(shown, [*picks, stamp], live, **TICK)
