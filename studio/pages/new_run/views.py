"""What New run shows of a corpus and a method, and the configuration that it begins with."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.corpus.folder import Corpus as Rows
from hydralora.errors import UserError
from hydralora.methods import METHODS
from hydralora.settings import Settings
from jobs.store.records import Corpus, Run
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.clusterings import experts_reason, experts_title
from studio.estimate import Place, settings_of
from studio.form import shown_value
from studio.pages.common import chosen_text


def about_corpus(store: Store, corpus: Corpus) -> tuple[Markup, int | None]:
    """What is known about a corpus, and how many experts its clusters speak for: the number chosen, else suggested."""
    clustering, size = store.clusterings.latest(corpus.id, finished=True), _size(store, corpus)
    if clustering is None or clustering.result is None:
        way = cards.join(
            "Cluster it on its ",
            cards.link(f"/corpora?corpus={corpus.id}", "page"),
            " to get a suggested number of experts.",
        )
        return cards.note("info", f"{size}, not clustered yet.", way), None
    return cards.note("good", f"{size}; {experts_title(clustering)}.", experts_reason(clustering)), (clustering.experts)


def _size(store: Store, corpus: Corpus) -> str:
    """Examples, and how many of them are pairs where there are any."""
    pairs = Rows(store.home.corpus(corpus.id)).manifest.counts.pairs
    told = f", {pairs:,} of them pairs of a better and a worse answer (`objective` dpo learns from these)"
    return f"{corpus.examples:,} examples" + (told if pairs else "")


def about_method(name: str) -> Markup:
    """Summary, formula, source and honest remarks of a method."""
    method = METHODS[name]
    merge = {
        "exact": "Can be merged into the base exactly.",
        "fixed": "Can be merged into the base exactly where the parts are added as mean or sum.",
        "no": "Cannot be merged into the base: its gates depend on every token."
        if method.routed
        else "Cannot be merged into the base: it changes what the model reads, not its weights.",
    }[method.mergeable]
    return cards.join(
        cards.note("info", method.summary, merge),
        Markup("<details class='hy-more'><summary>Formula, source, and what we had to decide</summary>"),
        Markup("<pre>"),
        method.formula,
        Markup("</pre><p>"),
        method.source,
        Markup("</p><p>"),
        method.reconstruction,
        Markup("</p></details>"),
    )


def known_method(name: Any) -> str:
    """The name of a method, as its input holds it.

    Raises:
        UserError: When there is no such method.
    """
    if chosen_text(name) not in METHODS:
        raise UserError("That method does not exist.")
    return chosen_text(name)


def first_config(
    store: Store, source: Run | None, corpus: Corpus | None, experts: int | None, base: str = ""
) -> dict[str, Any]:
    """The configuration a new run begins with: that of the run to repeat, else HydraLoRA with the Quick preset."""
    if source is not None:
        config = source.config.model_dump()
        former = {"learn": "all"} if source.config.train.learn == "former" else {}
        # A new run holds out by prompt, whatever the run to repeat did before that was known to be needed.
        return {**config, "train": {**config["train"], **former, "split_by": "prompt"}}
    train = settings_of(store, "Quick", Place(corpus.id if corpus else None, base or "starter", "hydralora"))
    adapter = {"num_experts": experts} if experts else {}
    return {"base": base or "starter", "method": "hydralora", "adapter": adapter, "train": train}


def shown_fields(options: type[Settings], values: dict[str, Any]) -> dict[str, Any]:
    """Every setting by the id of its input: the given values, else the defaults."""
    return {
        f"field-{name}": shown_value(values.get(name, info.get_default(call_default_factory=True)))
        for name, info in options.model_fields.items()
    }


def published_choices(method_name: str) -> Any:
    """The published settings of a method as choices; hidden where it has none."""
    names = list(METHODS[method_name].presets)
    return gr.Dropdown(choices=names, value=None, visible=bool(names))
