"""What New run opens with: the corpus or the run to repeat that the address names, else the newest corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from hydralora.config import TrainConfig
from hydralora.methods import METHODS
from jobs.store.records import Corpus, Run
from jobs.store.store import Store
from studio import cards
from studio.cards import Markup
from studio.pages.common import asked_for, known_bases, nothing_there
from studio.pages.new_run.views import about_corpus, first_config, shown_fields

OWN = "As set below"


@dataclass(frozen=True)
class Opening:
    """What an address asks for.

    Args:
        source: The run to repeat.
        corpus: What to train on; None where there is nothing to train on yet, or something that does not exist is
            asked for.
        base: The base that is named, where it is one that can be chosen; else empty.
        problem: What is wrong with the address, or what is missing; empty where all is well.
    """

    store: Store
    source: Run | None
    corpus: Corpus | None
    base: str
    problem: Markup

    @classmethod
    def of(cls, store: Store, request: gr.Request | None) -> Opening:
        """That of an address."""
        named = request.query_params.get("base", "") if request else ""
        base = named if named in known_bases(store) else ""
        source, no_run = asked_for(request, "again", "Run", store.runs.get)
        wanted, no_corpus = asked_for(request, "corpus", "Corpus", store.corpora.ready)
        if no_run or no_corpus:
            problem = nothing_there(no_run or no_corpus, "Choose a corpus below to start another run.")
            return cls(store, None, None, base, problem)
        if source is not None:
            corpus = store.corpora.ready(source.corpus_id) if source.corpus_id else None
            return cls(store, source, corpus, base, Markup(""))
        ready = [corpus for corpus in store.corpora.all() if corpus.is_ready]
        if ready:
            return cls(store, None, wanted or ready[0], base, Markup(""))
        way_on = cards.join("Add one under ", cards.link("/corpora", "Data"), ".")
        return cls(store, None, None, base, cards.empty("There is no corpus to train on yet", way_on))

    def filled(self) -> tuple[Markup, dict[str, Any]]:
        """What is known of the corpus, and the value of every field by its id."""
        note, experts = about_corpus(self.store, self.corpus) if self.corpus else (Markup(""), None)
        config = first_config(self.store, self.source, self.corpus, experts, self.base)
        values = {
            "run-corpus": self.corpus.id if self.corpus else None,
            "run-base": self.store.bases.name_of(config["base"]),
            "run-method": config["method"],
            "run-preset": OWN if self.source else "Quick",
            **shown_fields(METHODS[config["method"]].options, config["adapter"]),
            **shown_fields(TrainConfig, config["train"]),
        }
        return note, values
