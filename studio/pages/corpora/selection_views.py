"""What is shown of a selection: its count, its exports, its map, and a page of its rows."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

import gradio as gr
import numpy as np

from hydralora.corpus.folder import Corpus as Rows
from hydralora.corpus.narrowing import languages
from hydralora.corpus.query import Query
from hydralora.corpus.writing import FORMATS
from jobs.store.membership import Membership
from jobs.store.selections import Selected
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.figures.corpus_map import EMPTY, map_value
from studio.pages.corpora.views import PAGE_ROWS
from studio.selections import NO_LANGUAGES, count_sentence, flags_sentence, language_title

NO_MATCH = "No row is selected"
WIDEN = "Nothing meets all of this at once. Take a choice away, or press Clear."


def count_line(found: Selected, query: Query) -> Markup:
    """The true count, and what of each finding is in it."""
    more = "" if query.is_empty else flags_sentence(found)
    return Markup(
        f"<p class='hy-count' role='status'><b>{cards.text(count_sentence(found, query))}</b> "
        f"<span>{cards.text(more)}</span></p>"
    )


def export_links(corpus_id: int, query: Query, found: Selected) -> Markup:
    """Links to what is selected, as files."""
    if not len(found.positions):
        return Markup("")
    asked = quote(json.dumps(query.dump(), separators=(",", ":")))
    links = [
        cards.link(
            f"/ui/corpora/{corpus_id}/selected.{name}?select={asked}", name.upper() if name != "parquet" else "Parquet"
        )
        for name in FORMATS
    ]
    return Markup(f"<p class='hy-exports'>Export {' '.join(links)}</p>")


def map_of(known: Membership | None, corpus_id: int, query: Query, found: Selected) -> dict[str, Any]:
    """The value of the map; what to say instead where there is none."""
    if known is None:
        return {"src": None, "empty": EMPTY}
    version = hashlib.sha256(known.places.packed()).hexdigest()[:12]
    return map_value(
        f"/ui/clusterings/{known.clustering.id}/points?version={version}",
        f"/ui/corpora/{corpus_id}/rows",
        known.names,
        known.sizes,
        None if query.is_empty else found.mask,
        query.loop,
        known.places.by,
    )


def last_page(found: Selected) -> int:
    """Pages count from 1."""
    return max(1, -(-len(found.positions) // PAGE_ROWS))


def page_of_rows(store: Store, corpus_id: int, found: Selected, number: int, known: Membership | None) -> Markup:
    """One page of what is selected, each row with its cluster where there is one."""
    if not len(found.positions):
        return cards.empty(NO_MATCH, WIDEN)
    start = (number - 1) * PAGE_ROWS
    positions = found.positions[start : start + PAGE_ROWS].tolist()
    examples = Rows(store.home.corpus(corpus_id)).take(positions)
    states = _states(store, corpus_id, positions)
    has_label, has_worse = (any(getattr(e, name) for e in examples) for name in ("label", "rejected"))
    rows: list[list[object]] = []
    for place, (position, example) in enumerate(zip(positions, examples, strict=True)):
        prompt = "\n".join([*(f"[{role}] {text}" for role, text in example.history), example.prompt])
        answer = cards.long_text(example.answer)
        cells: list[object] = [position, cards.long_text(prompt), answer]
        cells += [cards.long_text(example.rejected)] if has_worse else []
        cells += [example.label] if has_label else []
        cells += [] if known is None else [cards.cluster(int(known.places.cluster[position]))]
        rows.append([*cells, *([states[place]] if any(states) else [])])
    head = ["#", "Prompt", "Answer or text", *(["Worse answer"] * has_worse), *(["Label"] * has_label)]
    head += [] if known is None else ["Cluster"]
    head += ["State"] if any(states) else []
    caption = f"Page {number:,} of {last_page(found):,}"
    return cards.table(head, rows, caption=caption, numbers=[0])


def _states(store: Store, corpus_id: int, positions: list[int]) -> list[str]:
    """What of each row is to be known: that it is left out, that it was edited."""
    out, edited = np.isin(positions, store.exclusions.excluded(corpus_id)), store.edits.current(corpus_id)
    states = []
    for place, position in enumerate(positions):
        words = ["left out"] * bool(out[place]) + ["edited"] * (position in edited)
        states.append(", ".join(words))
    return states


def choices_of(found: list[Any]) -> gr.Dropdown:
    """A list to choose from; there is none to see where it is empty."""
    return gr.Dropdown(choices=found, visible=bool(found))


def language_choices(rows: Rows) -> gr.Dropdown:
    """The languages with their counts; why there is none where no report has told any."""
    told = languages(rows)
    if told is None:
        return gr.Dropdown(choices=[], visible=True, interactive=False, info=NO_LANGUAGES)
    titles = [(language_title(code, count), code) for code, count in told.counts().items()]
    return gr.Dropdown(choices=titles, visible=True, interactive=True, info=None)
