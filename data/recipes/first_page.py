"""What the first page shows of the sample, recorded from a real run: ``python -m data.recipes.first_page --home HOME``.

``HOME`` holds a finished tour. Of each of the kinds of question that its run is best at, the first held-out one that it
answered right is asked again; the tokens of the answers with their routing weights (mean of all layers), places of some
examples on the map, and the curves of the training are written to ``studio/pages/home/recorded.json``. Nothing else is;
with the same run it writes the same file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from hydralora.answer_settings import GenerationSettings
from hydralora.generate import ChatModel
from hydralora.results import Answers
from jobs.home import Home
from jobs.store.store import Store
from jobs.tour import Tour

FILE = Path(__file__).resolve().parents[2] / "studio" / "pages" / "home" / "recorded.json"
ANSWERS = 3  # one of a kind
LONGEST = 90  # characters of a question
POINTS = 30  # of each cluster
STEPS = 60  # of each curve


def questions(answers: Answers) -> list[str]:
    """Short held-out questions that were answered right, one of each of the best kinds."""
    best = sorted(answers.scores["tuned"].by_label.items(), key=lambda kind: (-kind[1], kind[0]))
    right = [row for row in answers.rows if row.tuned.strip() == row.wanted.strip() and len(row.prompt) <= LONGEST]
    firsts = (next((row.prompt for row in right if row.label == label), None) for label, _ in best)
    return [question for question in firsts if question is not None][:ANSWERS]


def answer(model: ChatModel, adapter: Path, question: str) -> dict[str, Any]:
    """The greedy answer to a question: each token with the mean of its routing weights over all layers."""
    said = [{"role": "user", "content": question}]
    events = model.stream(said, adapter=adapter, settings=GenerationSettings(temperature=0.0))
    tokens = [
        [event.text, np.asarray(event.gates, float).mean(0).round(3).tolist()]
        for event in events
        if event.text and event.gates is not None
    ]
    return {"question": question, "tokens": tokens}


def points(store: Store, corpus_id: int) -> list[list[float]]:
    """Places ``[x, y, cluster]`` of the first examples of each cluster."""
    known = store.selections.membership(corpus_id)
    assert known is not None
    places = known.places
    chosen = [i for c in range(len(known.sizes)) for i in np.flatnonzero(places.cluster == c)[:POINTS]]
    return [[round(float(places.x[i])), round(float(places.y[i])), int(places.cluster[i])] for i in chosen]


def curves(store: Store, run_id: int) -> dict[str, Any]:
    """The loss, and the shares in the layer whose router chooses most, by step."""
    routed = store.runs.routed_steps(run_id, STEPS)
    losses = {step.step: step.numbers.get("loss") for step in store.runs.steps(run_id, gates=False)}
    steps = [step for step in routed if step.gates and losses.get(step.step) is not None]
    layer = max(steps[-1].gates or {}, key=lambda name: max((steps[-1].gates or {})[name]))
    short = layer.replace("model.layers.", "layer ").replace("mlp.", "").replace("self_attn.", "").replace(".", " ")
    return {
        "layer": short,
        "steps": [step.step for step in steps],
        "loss": [round(float(losses[step.step] or 0), 3) for step in steps],
        "shares": [[round(share, 4) for share in (step.gates or {})[layer]] for step in steps],
    }


def main() -> None:
    """Ask, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    store = Store(Home(parser.parse_args().home))
    run = store.runs.get(Tour(store).run_id or 0)
    assert run.corpus_id is not None
    measured = store.analyses.find(run.id, "answers")
    assert measured is not None
    asked = Answers.read(store.home.analysis(measured.id))
    model = ChatModel(run.base)
    adapter = store.home.run(run.id) / "adapter"
    found = {
        "experts": run.config.adapter.experts,
        "answers": [answer(model, adapter, question) for question in questions(asked)],
        "points": points(store, run.corpus_id),
        **curves(store, run.id),
    }
    FILE.write_text(json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
