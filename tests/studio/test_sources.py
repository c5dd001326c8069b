"""Runs that are mixed by LoRAHub: chosen by id, checked before anything is queued."""

from __future__ import annotations

import pytest

from hydralora.config import parse_config
from hydralora.errors import UserError
from hydralora.options import HubOptions, sources_of
from jobs.store.store import Store
from studio.form import collect, field_input, shown_value
from tests.studio.stored import CONFIG, Stored

LORA = {"method": "lora", "adapter": {}}


def hub(*sources: int, **more: object) -> dict[str, object]:
    return {**CONFIG, "method": "lorahub", "adapter": {"sources": list(sources)}, **more}


def test_the_form_takes_ids_with_commas() -> None:
    values = {name: info.get_default() for name, info in HubOptions.model_fields.items()} | {"sources": " 3, 12 "}
    config = parse_config({"method": "lorahub", "adapter": collect(HubOptions, values)})
    assert sources_of(config.adapter) == [3, 12] and shown_value([3, 12]) == "3, 12"
    assert field_input("sources", HubOptions.model_fields["sources"]).placeholder == "ids of runs: 1, 2"


@pytest.mark.parametrize("given", ["../../etc", "/tmp/adapter", "one"])
def test_a_source_is_a_number_and_never_a_path(given: str) -> None:
    with pytest.raises(UserError, match=r"`sources\.0`: input should be a valid integer"):
        parse_config({"method": "lorahub", "adapter": {"sources": [given]}})


def test_finished_loras_on_one_base_are_taken(store: Store, stored: Stored) -> None:
    corpus = stored.corpus()
    ids = [stored.run(corpus, **LORA).id for _ in range(2)]
    run = store.runs.start(corpus.id, hub(*ids))
    assert run.job is not None and run.job.payload["config"]["adapter"]["sources"] == ids


def test_no_source_is_refused(store: Store, stored: Stored) -> None:
    with pytest.raises(UserError, match=r"LoRAHub mixes finished LoRA runs\. Name their ids in `sources`"):
        store.runs.start(stored.corpus().id, hub())


def test_an_unfinished_source_is_refused(store: Store, stored: Stored) -> None:
    corpus = stored.corpus()
    waiting = stored.run(corpus, finished=False, **LORA)
    with pytest.raises(UserError, match=f"Run {waiting.id} is not finished"):
        store.runs.start(corpus.id, hub(waiting.id))


def test_a_routed_source_is_refused(store: Store, stored: Stored) -> None:
    corpus = stored.corpus()
    routed = stored.run(corpus)
    with pytest.raises(UserError, match=rf"Run {routed.id} is no plain LoRA \(hydralora\)"):
        store.runs.start(corpus.id, hub(routed.id))


def test_a_source_on_another_base_is_refused(store: Store, stored: Stored) -> None:
    corpus = stored.corpus()
    other = stored.run(corpus, **LORA, base="someone/else")
    with pytest.raises(UserError, match=f"Run {other.id} has base someone/else"):
        store.runs.start(corpus.id, hub(other.id))


def test_a_source_that_does_not_exist_is_refused(store: Store, stored: Stored) -> None:
    with pytest.raises(UserError, match="Run 99999 does not exist"):
        store.runs.start(stored.corpus().id, hub(99999))
