"""Texts that become tokens of a base, and tokens whose embeddings are trained beside an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hydralora.adapters.build import add_adapter, count_parameters, open_adapter
from hydralora.adapters.new_tokens import extend_base
from hydralora.analysis.export import export_run
from hydralora.bases.facts import read_facts
from hydralora.bases.load import load_base, load_tokenizer
from hydralora.corpus.encode import encode_text
from hydralora.corpus.imports import import_corpus
from hydralora.errors import AdapterError, BaseModelError, StoppedError
from hydralora.generate import ChatModel
from hydralora.progress import Progress
from hydralora.training.memory import trainable
from hydralora.training.train import train_adapter
from tests.hydralora.conftest import DEVICE, make_tokenizer, write_lines
from tests.hydralora.test_full import make, tied_llama
from tests.hydralora.test_train import Recorder, make_config, same_weights, stop_after

WORDS = ["<tool>", "⟦ok⟧"]
LONG = {"max_steps": 40, "learning_rate": 0.02}
LEARNS = {"r": 2, "num_experts": 2, "trainable_tokens": WORDS}


@pytest.fixture(scope="module")
def wider(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with two tokens more."""
    folder = tmp_path_factory.mktemp("wider") / "base"
    extend_base(str(base_folder), WORDS, folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers that are one of the new tokens."""
    folder = tmp_path_factory.mktemp("tokens")
    rows = [{"prompt": f"The {i} is {'red' if i % 2 else 'blue'}.", "answer": WORDS[i % 2]} for i in range(48)]
    import_corpus([write_lines(folder / "rows.jsonl", rows)], folder / "corpus")
    return folder / "corpus"


@pytest.fixture(scope="module")
def run(wider: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train_adapter(make_config(wider, adapter=LEARNS, **LONG), corpus, folder)
    return folder


def test_a_new_token_is_one_token_and_begins_as_the_mean_of_its_parts(base_folder: Path, wider: Path) -> None:
    before, after = load_tokenizer(str(base_folder)), load_tokenizer(str(wider))
    model, old = load_base(str(wider), device=DEVICE)[0], load_base(str(base_folder), device=DEVICE)[0]
    for word in WORDS:
        (new,), parts = encode_text(after, word), encode_text(before, word)
        assert len(parts) > 1 and after.decode([new]) == word
        for table in ("get_input_embeddings", "get_output_embeddings"):
            mean = getattr(old, table)().weight[parts].mean(0)
            torch.testing.assert_close(getattr(model, table)().weight[new], mean)


def test_what_a_base_read_before_it_reads_as_before(base_folder: Path, wider: Path, ids: torch.Tensor) -> None:
    old, new = (load_base(str(place), device=DEVICE)[0].eval() for place in (base_folder, wider))
    with torch.inference_mode():
        found = new(input_ids=ids).logits
        assert torch.equal(old(input_ids=ids).logits, found[..., : old.config.vocab_size])
    text = "The door is red."
    assert encode_text(load_tokenizer(str(base_folder)), text) == encode_text(load_tokenizer(str(wider)), text)


def test_tied_tables_stay_tied(tmp_path: Path) -> None:
    make(tied_llama).save_pretrained(tmp_path / "tied")
    make_tokenizer().save_pretrained(tmp_path / "tied")
    extend_base(str(tmp_path / "tied"), WORDS, tmp_path / "wider")
    model = load_base(str(tmp_path / "wider"), device=DEVICE)[0]
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    adapted = add_adapter(model, "hydralora", LEARNS, tokenizer=load_tokenizer(str(tmp_path / "wider")))
    assert sum("trainable_tokens" in name for name, _ in adapted.named_parameters()) == 1
    facts = read_facts(tmp_path / "wider", "tied")
    assert trainable(facts, make_config(tmp_path, adapter=LEARNS)) == sum(every(adapted))


REFUSED: dict[str, tuple[list[str], str]] = {
    "none": ([], "0 tokens are given"),
    "too many": ([f"<{i}>" for i in range(1_025)], "1,025 tokens are given. Give between 1 and 1,024"),
    "a space": (["  "], "'  ' cannot be a token"),
    "a line end": (["a\nb"], "cannot be a token. Give 1 to 64 characters"),
    "long": (["x" * 65], "cannot be a token"),
    "twice": (["<a>", "<b>", "<a>"], "'<a>' is given twice"),
    "known": (["<|end|>"], "'<|end|>' is one token of this base already. Leave it out."),
    "a letter": (["a"], "'a' is one token of this base already"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_new_token_is_refused_and_nothing_is_written(name: str, base_folder, tmp_path) -> None:
    tokens, words = REFUSED[name]
    with pytest.raises(BaseModelError) as refused:
        extend_base(str(base_folder), tokens, tmp_path / "out")
    assert words in str(refused.value) and not (tmp_path / "out").exists()


def test_a_stop_leaves_nothing_behind(base_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        extend_base(str(base_folder), WORDS, tmp_path / "out", progress=Progress(should_stop=lambda: True))
    assert list(tmp_path.iterdir()) == []


def test_only_the_rows_of_the_named_tokens_learn_and_lie_with_the_adapter(run: Path, wider: Path) -> None:
    saved = load_file(run / "adapter" / "adapter_model.safetensors")
    rows = {key: value for key, value in saved.items() if "trainable_tokens" in key}
    width = load_base(str(wider), device=DEVICE)[0].config.hidden_size
    assert len(rows) == 2 and all(value.shape == (2, width) for value in rows.values())
    assert not any("embed_tokens.weight" in key or "lm_head.weight" in key for key in saved)


def test_a_run_learns_to_say_new_tokens(run: Path, wider: Path) -> None:
    chat, tokenizer = ChatModel(str(wider), device=DEVICE), load_tokenizer(str(wider))
    asked = [{"role": "user", "content": "The 7 is red."}]

    def likelihood(adapter: Path | None) -> list[float]:
        return [chat.score(asked, encode_text(tokenizer, word), adapter=adapter)[0] for word in WORDS]

    before = likelihood(None)
    assert sum(likelihood(run / "adapter")) > 0.5 > 10 * sum(before)
    assert likelihood(None) == before


def test_a_chat_tells_it_from_adapters_without_rows(run: Path, wider: Path, corpus: Path, tmp_path: Path) -> None:
    train_adapter(make_config(wider, adapter={"r": 2, "num_experts": 2}), corpus, tmp_path)
    places = [None, run / "adapter", tmp_path / "adapter"]
    ids = [encode_text(load_tokenizer(str(wider)), "The door is red.")]

    def probabilities(chat: ChatModel, adapter: Path | None) -> list[float]:
        return chat.score("The 7 is red.", ids[0], adapter=adapter)

    alone = [probabilities(ChatModel(str(wider), device=DEVICE), place) for place in places]
    shared = ChatModel(str(wider), device=DEVICE)
    assert [probabilities(shared, place) for place in (*places, *places)] == [*alone, *alone]


def test_a_stopped_run_goes_on_with_its_rows(run: Path, wider: Path, corpus: Path, tmp_path: Path) -> None:
    config, steps = make_config(wider, adapter=LEARNS, **LONG), Recorder()
    with pytest.raises(StoppedError):
        train_adapter(config, corpus, tmp_path, on_step=steps, progress=Progress(should_stop=stop_after(5, steps)))
    train_adapter(config, corpus, tmp_path, on_step=steps, resume=True)
    assert same_weights(run, tmp_path)


def test_a_whole_model_of_a_lora_holds_the_rows(wider: Path, corpus: Path, ids: torch.Tensor, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    adapter = {"r": 2, "trainable_tokens": WORDS}
    train_adapter(make_config(wider, "lora", adapter), corpus, tmp_path / "run")
    export_run(tmp_path / "run", corpus, tmp_path / "out", "merged")
    (config,) = (tmp_path / "out").rglob("config.json")
    merged = AutoModelForCausalLM.from_pretrained(config.parent).to(DEVICE).eval()
    tuned = open_adapter(load_base(str(wider), device=DEVICE)[0], tmp_path / "run" / "adapter")
    asked = ids.clone()
    asked[:, 0] = encode_text(load_tokenizer(str(wider)), WORDS[0])[0]
    with torch.no_grad():
        assert torch.allclose(merged(input_ids=asked).logits, tuned(input_ids=asked).logits, atol=1e-4)


def test_a_text_that_is_several_tokens_is_refused(tiny: Any, tokenizer: Any) -> None:
    with pytest.raises(AdapterError, match=r"`trainable_tokens`: '<tool>' is \d tokens of this base. Add it"):
        add_adapter(tiny, "lora", {"trainable_tokens": ["<tool>"]}, tokenizer=tokenizer)


def test_rows_count_in_the_estimate_of_memory(wider: Path) -> None:
    config = make_config(wider, "lora", {"r": 2, "trainable_tokens": WORDS})
    base, tokenizer = load_base(str(wider), device=DEVICE)
    model = add_adapter(base, "lora", config.adapter, tokenizer=tokenizer)
    assert trainable(read_facts(wider, "tiny"), config) == sum(every(model))


def every(model: Any) -> tuple[int, int]:
    """Trainable numbers of the adapter and of its router."""
    counts = count_parameters(model)
    return counts.trainable, counts.router
