"""Preferences: read as pairs, kept with their examples, and learnt from by the loss of the paper."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from hydralora.adapters.build import add_adapter
from hydralora.bases.load import load_base
from hydralora.config import RunConfig
from hydralora.corpus.edits import Wording, write_edits
from hydralora.corpus.examples import EXAMPLES, REJECTED, Example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.pairs import cut_pair, encode_pair, pair_tokens
from hydralora.corpus.writing import write_examples
from hydralora.errors import StoppedError, TrainingError
from hydralora.methods import METHODS
from hydralora.progress import Progress
from hydralora.results import AdapterFacts, CorpusManifest, TrainingSet
from hydralora.training import objective
from hydralora.training.objective import check_objective
from hydralora.training.train import train_adapter
from tests.hydralora.conftest import COLOURS, DEVICE, THINGS, randomise, write_lines
from tests.hydralora.test_shapes import ASK, CALLS, PLAIN, REPLY, SAY, USER
from tests.hydralora.test_train import Recorder, make_config, same_weights, stop_after

WORSE = "Find it."
BAD = {"role": "assistant", "content": WORSE}
OTHER = {"role": "user", "content": "Who?"}
HEADS = {"r": 4, "num_experts": 3}


def read(folder: Path, *rows: dict[str, Any]) -> tuple[CorpusManifest, list[Example]]:
    path = write_lines(folder / "rows.jsonl", [*rows, *rows])
    manifest = import_corpus([path], folder / "corpus")
    return manifest, [replace(e, row=0, source="") for e in Corpus(folder / "corpus")]


def planted() -> list[dict[str, str]]:
    """64 questions; the better answer is the thing, the worse one the colour."""
    pairs = [(thing, colour) for thing in THINGS for colour in COLOURS]
    return [{"prompt": f"A {c} {t}. Which?", "chosen": t, "rejected": c} for t, c in pairs]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    import_corpus([write_lines(folder / "rows.jsonl", planted())], folder / "corpus")
    return folder / "corpus"


def config_of(base: Path, method: str = "hydralora", adapter: Any = None, **train: Any) -> RunConfig:
    given = {"objective": "dpo", "held_out_fraction": 0.25, "save_every": 0, **train}
    return make_config(base, method, HEADS if adapter is None else adapter, **given)


# Reading

SAME: dict[str, dict[str, Any]] = {
    "texts": {"prompt": ASK, "chosen": SAY, "rejected": WORSE},
    "messages": {"prompt": [USER], "chosen": [REPLY], "rejected": [BAD]},
    "whole conversations": {"chosen": [USER, REPLY], "rejected": [USER, BAD]},
    "messages as JSON text": {"chosen": json.dumps([USER, REPLY]), "rejected": json.dumps([USER, BAD])},
    "a conversation with a worse text": {"messages": [USER, REPLY], "rejected": WORSE},
    "dialogues": {"chosen": f"Human: {ASK}\n\nAssistant: {SAY}", "rejected": f"Human: {ASK}\n\nAssistant: {WORSE}"},
}


@pytest.mark.parametrize("name", SAME)
def test_the_worse_answer_stays_with_its_example(name: str, tmp_path: Path) -> None:
    manifest, (found, _) = read(tmp_path, SAME[name])
    assert found == replace(PLAIN, rejected=WORSE) and found.is_pair
    assert (manifest.counts.worse_answers, manifest.counts.pairs, manifest.counts.unpaired) == (2, 2, 0)


NO_PAIR: dict[str, dict[str, Any]] = {
    "the same text": {"prompt": ASK, "chosen": SAY, "rejected": SAY},
    "another prompt": {"chosen": [USER, REPLY], "rejected": [OTHER, BAD]},
    "no answer": {"prompt": [USER], "chosen": [REPLY], "rejected": [OTHER]},
    "calls of tools": {"prompt": [USER], "chosen": [REPLY], "rejected": [{**BAD, "tool_calls": CALLS}]},
    "several": {"prompt": ASK, "chosen": SAY, "rejected": [WORSE, "There."]},
    "no messages": {"prompt": [USER], "chosen": [REPLY], "rejected": [{"role": "judge", "content": "x"}]},
    "half a character": {"prompt": ASK, "chosen": SAY, "rejected": "\ud83d"},
}


@pytest.mark.parametrize("name", NO_PAIR)
def test_what_is_no_pair_is_an_example_all_the_same_and_counted(name: str, tmp_path: Path) -> None:
    manifest, (found, _) = read(tmp_path, NO_PAIR[name])
    assert found == PLAIN and manifest.rejected == 0
    assert (manifest.counts.pairs, manifest.counts.unpaired) == (0, 2)


def test_examples_of_earlier_versions_have_no_worse_answer(pairs: Path, tmp_path: Path) -> None:
    file = pa.ipc.open_file(str(pairs / EXAMPLES)).read_all().drop_columns([REJECTED])
    with pa.OSFile(str(tmp_path / EXAMPLES), "wb") as sink, pa.ipc.new_file(sink, file.schema) as out:
        out.write_table(file)
    CorpusManifest.read(pairs).write(tmp_path)
    now, before = Corpus(pairs).take([5]), Corpus(tmp_path).take([5])
    assert before == [replace(now[0], rejected="")] and now[0].rejected


def test_other_worse_answers_make_another_example() -> None:
    assert len({replace(PLAIN, rejected=text).content_hash() for text in ("", "a", "b")}) == 3
    assert PLAIN.prompt_number() == replace(PLAIN, rejected="a").prompt_number()


def test_an_edit_keeps_the_worse_answer(tmp_path: Path) -> None:
    read(tmp_path, SAME["texts"])
    folder = tmp_path / "corpus"
    write_edits(folder, {1: Wording(ASK, "Left.")}, Corpus(folder).take([1]))
    (edited,) = Corpus(folder).take([1])
    assert (edited.answer, edited.rejected) == ("Left.", WORSE)
    assert int(Corpus(folder).hashes()[1]) == edited.hash_number()


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_pairs_that_are_written_out_are_read_back(form: str, pairs: Path, tmp_path: Path) -> None:
    write_examples(Corpus(pairs), range(64), tmp_path / f"rows.{form}", form)
    import_corpus([tmp_path / f"rows.{form}"], tmp_path / "corpus")
    assert [e.rejected for e in Corpus(tmp_path / "corpus")] == [e.rejected for e in Corpus(pairs)]


# Encoding


def test_a_pair_is_one_prompt_with_two_answers_to_their_ends(tokenizer: Any) -> None:
    pair = encode_pair(tokenizer, replace(PLAIN, rejected=WORSE))
    words = {name: tokenizer.decode(ids) for name, ids in pair.items()}
    assert words["prompt_ids"] == f"<|begin|><|user|>{ASK}<|assistant|>"
    assert (words["chosen_ids"], words["rejected_ids"]) == (f"{SAY}<|end|>", f"{WORSE}<|end|>")


def test_of_a_conversation_the_last_answers_are_compared(tokenizer: Any) -> None:
    talk = Example("And 4?", "There.", history=(("user", ASK), ("assistant", SAY)), rejected="No.")
    words = {name: tokenizer.decode(ids) for name, ids in encode_pair(tokenizer, talk).items()}
    assert words["chosen_ids"] == "There.<|end|>" and words["rejected_ids"] == "No.<|end|>"
    assert f"{SAY}<|end|>" in words["prompt_ids"]


def test_a_pair_is_cut_to_its_room_and_left_out_without_any(tokenizer: Any) -> None:
    pair = encode_pair(tokenizer, replace(PLAIN, rejected=WORSE * 9))
    length = len(pair["prompt_ids"])
    cut = cut_pair(pair, length + 4)
    assert cut is not None and pair_tokens(cut) == length + 4 and len(cut["chosen_ids"]) <= 4
    assert cut_pair(pair, length + 1) is None and cut_pair(pair, pair_tokens(pair)) == pair


# Training


def log_probability(model: Any, ids: list[int], begin: int) -> torch.Tensor:
    """``log p`` of the tokens from ``begin`` on, summed."""
    row = torch.tensor([ids], device=DEVICE)
    log = F.log_softmax(model(input_ids=row).logits[0, :-1].float(), -1)
    return log.gather(1, row[0, 1:, None])[begin - 1 :, 0].sum()


@pytest.mark.parametrize("method", ["hydralora", "r_lora", "lora_moe"])
def test_the_loss_is_that_of_the_paper(method: str, base_folder: Path, tokenizer: Any, tmp_path: Path) -> None:
    from hydralora.training.preferences import PreferenceTrainer, preference_arguments, preference_collator

    adapter = HEADS if method != "lora_moe" else {**HEADS, "balance_weight": 0.0}
    config = config_of(base_folder, method, {**adapter, "lora_dropout": 0.0}, dpo_beta=0.3)
    model = add_adapter(load_base(str(base_folder), device=DEVICE)[0], config.method, config.adapter, seed=0, steps=1)
    randomise(model)
    rows = [
        encode_pair(tokenizer, Example(r["prompt"], r["chosen"], rejected=r["rejected"] + " or not"))
        for r in planted()[:5]
    ]
    trainer = PreferenceTrainer(
        model,
        preference_arguments(config, tmp_path, False, 32),
        train_dataset=rows,
        data_collator=preference_collator(0),
        processing_class=tokenizer,
    )
    batch = {name: value.to(DEVICE) for name, value in preference_collator(0)(rows).items()}
    model.train()
    loss = trainer.compute_loss(model, dict(batch)).detach()
    model.eval()
    expected = []
    for row in rows:
        begin = len(row["prompt_ids"])
        sides = [[*row["prompt_ids"], *row[f"{side}_ids"]] for side in ("chosen", "rejected")]
        policy = [log_probability(model, ids, begin) for ids in sides]
        with torch.no_grad(), model.disable_adapter():
            reference = [log_probability(model, ids, begin) for ids in sides]
        margin = (policy[0] - reference[0]) - (policy[1] - reference[1])
        expected.append(-F.logsigmoid(0.3 * margin))
    assert float(loss) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4)
    assert set(model.peft_config) == {"default"}
    assert any(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.learns_pairs])
def test_held_out_pairs_are_told_apart_better_and_better(
    method: str, base_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    adapter = {"hydralora": HEADS, "lora": {"r": 4}, "ia3": {}}.get(method, HEADS)
    steps = Recorder()
    config = config_of(base_folder, method, adapter, max_steps=30, eval_every=15, gate_every=5)
    summary = train_adapter(config, pairs, tmp_path / "run", on_step=steps)
    margins = [steps.values[step]["eval_margin"] for step in (0, 15, 30)]
    assert margins[0] == pytest.approx(0.0, abs=0.05) and margins[1] > 0.0 and margins[2] > margins[1]
    assert summary.held_out_loss < summary.held_out_loss_before
    assert steps.values[30]["eval_preferred"] > 0.9 or method == "ia3"
    assert {"margin", "preferred", "tokens_per_second"} <= steps.values[30].keys()
    if METHODS[method].routed and method != "lora_split":
        gates = next(iter(steps.values[5]["gates"].values()))
        assert sum(gates) == pytest.approx(1.0, abs=1e-4) and len(gates) == 3


def test_the_pairs_are_counted_before_the_first_step_and_held_out_by_prompt(base_folder, tmp_path, caplog):
    rows = [*planted(), *({"prompt": f"Why {i}?", "chosen": "red", "rejected": ""} for i in range(6))]
    import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "corpus")
    known: list[TrainingSet] = []
    config = config_of(base_folder, max_steps=2)
    summary = train_adapter(
        config,
        tmp_path / "corpus",
        tmp_path / "run",
        on_step=lambda *_: known.append(TrainingSet.read(tmp_path / "run")),
    )
    found = known[0]
    assert found.pairs == found.examples == summary.pairs > 30 and found.skipped == 0
    assert 0 < found.unpaired == summary.unpaired_examples <= 6
    assert found.pairs + found.unpaired + found.held_out == 70
    assert "Preferences are learnt, and they hold no better and worse answer." in caplog.text
    assert AdapterFacts.read(tmp_path / "run" / "adapter").config.train.objective == "dpo"


def test_a_stopped_and_resumed_run_of_pairs_equals_an_uninterrupted_one(base_folder, pairs, tmp_path):
    config = config_of(base_folder, adapter={**HEADS, "lora_dropout": 0.1}, save_every=4)
    whole, parts = Recorder(), Recorder()
    train_adapter(config, pairs, tmp_path / "whole", on_step=whole)
    with pytest.raises(StoppedError):
        progress = Progress(should_stop=stop_after(7, parts))
        train_adapter(config, pairs, tmp_path / "parts", on_step=parts, progress=progress)
    summary = train_adapter(config, pairs, tmp_path / "parts", on_step=parts, resume=True)
    assert summary.resumed_from == 7 and parts.curve == whole.curve
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def test_losses_of_routers_are_added_to_that_of_pairs(base_folder: Path, pairs: Path, tmp_path: Path) -> None:
    losses = []
    for weight in (0.0, 5.0):
        steps = Recorder()
        adapter = {**HEADS, "balance_weight": weight, "router_init": "normal"}
        train_adapter(
            config_of(base_folder, adapter=adapter, max_steps=1), pairs, tmp_path / str(weight), on_step=steps
        )
        losses.append(steps.values[1]["loss"])
    assert losses[1] > losses[0] + 1e-3


def test_batches_of_like_length_are_made_of_pairs(base_folder: Path, pairs: Path, tmp_path: Path) -> None:
    summary = train_adapter(config_of(base_folder, order="by length", max_steps=2), pairs, tmp_path)
    assert summary.steps == 2


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no pairs": ({}, 0, "holds no pairs of a better and a worse answer"),
    "packed": ({"train": {"packing": True}}, 9, "`packing` is on"),
    "quantised": ({"train": {"dtype": "nf4"}}, 9, "`dtype` is nf4"),
    "another training": ({"method": "lope"}, 9, "LoPE has a training of its own"),
    "no layers": ({"method": "prompt_tuning"}, 9, "no layers that can be switched off"),
    "every weight": ({"method": "full"}, 9, "no layers that can be switched off"),
    "by task": ({"method": "lora_split", "adapter": {"combine": "hard"}}, 9, "learn from the task"),
    "beta alone": ({"train": {"objective": "answers", "dpo_beta": 0.5}}, 9, "`dpo_beta` is 0.5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_preferences_that_cannot_be_learnt_are_refused_by_name(name: str) -> None:
    given, count, words = REFUSED[name]
    config = RunConfig(**{**given, "train": {"objective": "dpo", **given.get("train", {})}})
    with pytest.raises(TrainingError, match=words):
        check_objective(config, count)


def test_without_trl_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"needs the package trl. Install it \(`pip install 'hydralora\[trl\]'`\)"):
        check_objective(RunConfig(train={"objective": "dpo"}), 9)


def test_a_corpus_of_answers_is_refused_before_the_base_is_used(base_folder, easy_corpus, tmp_path):
    with pytest.raises(TrainingError, match="holds no pairs"):
        train_adapter(config_of(base_folder), easy_corpus, tmp_path)
