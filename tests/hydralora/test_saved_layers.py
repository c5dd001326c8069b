"""Layers of the base that are trained whole beside an adapter (`modules_to_save`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hydralora.adapters.build import add_adapter, count_parameters, open_adapter
from hydralora.analysis.export import export_run
from hydralora.bases.facts import read_facts
from hydralora.bases.load import load_base
from hydralora.corpus.imports import import_corpus
from hydralora.errors import AdapterError, StoppedError
from hydralora.generate import ChatModel, GenerationSettings
from hydralora.progress import Progress
from hydralora.training.memory import trainable
from hydralora.training.train import train_adapter
from tests.hydralora.conftest import DEVICE, write_lines
from tests.hydralora.test_full import QUESTION, make, tied_llama
from tests.hydralora.test_preferences import config_of, planted
from tests.hydralora.test_train import Recorder, make_config, same_weights, stop_after

WHOLE = {"r": 4, "num_experts": 3, "modules_to_save": ["lm_head", "norm"]}


@pytest.fixture(scope="module")
def run(base_folder: Path, easy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train_adapter(make_config(base_folder, adapter=WHOLE), easy_corpus, folder)
    return folder


def test_the_copies_learn_and_are_saved_with_the_adapter(run: Path, base_folder: Path) -> None:
    saved = load_file(run / "adapter" / "adapter_model.safetensors")
    base = load_base(str(base_folder), device=DEVICE)[0]
    for name in ("lm_head", "model.norm"):
        (key,) = (key for key in saved if key.endswith(f"{name}.weight"))
        assert not torch.equal(saved[key], base.get_submodule(name).weight.cpu())


def test_an_opened_adapter_answers_with_the_copies(run: Path, base_folder: Path, ids: torch.Tensor) -> None:
    model = open_adapter(load_base(str(base_folder), device=DEVICE)[0], run / "adapter")
    with torch.no_grad():
        tuned = model(input_ids=ids).logits
        with model.disable_adapter():
            plain = model(input_ids=ids).logits
        base = load_base(str(base_folder), device=DEVICE)[0].eval()(input_ids=ids).logits
    assert torch.equal(plain, base) and (tuned - base).abs().max() > 0.1


def test_a_chat_tells_it_from_adapters_without_copies(run: Path, base_folder: Path, easy_corpus, tmp_path) -> None:
    train_adapter(make_config(base_folder), easy_corpus, tmp_path)
    settings = GenerationSettings(max_tokens=4, temperature=0.0)

    def answer(chat: ChatModel, adapter: Path | None) -> str:
        return "".join(event.text for event in chat.stream(QUESTION, adapter=adapter, settings=settings))

    alone = {folder: answer(ChatModel(str(base_folder), device=DEVICE), folder) for folder in folders_of(run, tmp_path)}
    shared = ChatModel(str(base_folder), device=DEVICE)
    assert [answer(shared, folder) for folder in (*alone, *alone)] == [*alone.values(), *alone.values()]


def folders_of(*runs: Path) -> list[Path | None]:
    return [None, *(run / "adapter" for run in runs)]


def test_a_stopped_run_goes_on_with_its_copies(run: Path, base_folder: Path, easy_corpus: Path, tmp_path: Path) -> None:
    config, steps = make_config(base_folder, adapter=WHOLE), Recorder()
    with pytest.raises(StoppedError):
        train_adapter(config, easy_corpus, tmp_path, on_step=steps, progress=Progress(should_stop=stop_after(5, steps)))
    train_adapter(config, easy_corpus, tmp_path, on_step=steps, resume=True)
    assert same_weights(run, tmp_path)


def test_a_whole_model_of_a_lora_holds_the_copies(base_folder, easy_corpus, ids, tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    adapter = {"r": 4, "modules_to_save": ["lm_head"]}
    train_adapter(make_config(base_folder, "lora", adapter), easy_corpus, tmp_path / "run")
    export_run(tmp_path / "run", easy_corpus, tmp_path / "out", "merged")
    (config,) = (tmp_path / "out").rglob("config.json")
    merged = AutoModelForCausalLM.from_pretrained(config.parent).to(DEVICE).eval()
    tuned = open_adapter(load_base(str(base_folder), device=DEVICE)[0], tmp_path / "run" / "adapter")
    with torch.no_grad():
        assert torch.allclose(merged(input_ids=ids).logits, tuned(input_ids=ids).logits, atol=1e-4)


def test_copies_learn_preferences_too(base_folder: Path, tmp_path: Path) -> None:
    import_corpus([write_lines(tmp_path / "rows.jsonl", planted())], tmp_path / "corpus")
    steps = Recorder()
    config = config_of(base_folder, adapter=WHOLE, max_steps=10, eval_every=10)
    train_adapter(config, tmp_path / "corpus", tmp_path / "run", on_step=steps)
    assert steps.values[0]["eval_margin"] == pytest.approx(0.0, abs=1e-5) and steps.values[10]["eval_margin"] > 0.1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"modules_to_save": ["nowhere"]}, "No layer is called 'nowhere'. This model has: embed_tokens"),
    "a group": ({"modules_to_save": ["mlp"]}, "'model.layers.0.mlp' .* is no single layer"),
    "adapted": ({"modules_to_save": ["q_proj"], "target_modules": ["q_proj"]}, "adapted or trained whole"),
    "a pattern": ({"modules_to_save": [".*"]}, "only letters, digits, _ and dots"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_cannot_be_trained_whole_are_refused_by_name(name: str, tiny: Any) -> None:
    options, words = REFUSED[name]
    with pytest.raises(AdapterError, match=words):
        add_adapter(tiny, "hydralora", options)


def test_tied_layers_are_refused_by_name() -> None:
    with pytest.raises(AdapterError, match="'lm_head' shares its weights"):
        add_adapter(make(tied_llama), "lora", {"r": 4, "modules_to_save": ["lm_head"]})


def test_a_layer_that_is_named_is_not_adapted_by_itself(tiny: Any) -> None:
    model = add_adapter(tiny, "hydralora", {"modules_to_save": ["down_proj"]})
    assert "down_proj" not in model.peft_config["default"].target_modules


def test_copies_count_in_the_estimate_of_memory(base_folder: Path) -> None:
    facts = read_facts(base_folder, "tiny")
    config = make_config(base_folder, "lora", {"r": 4, "modules_to_save": ["lm_head"]})
    model = add_adapter(load_base(str(base_folder), device=DEVICE)[0], "lora", config.adapter)
    assert trainable(facts, config) == count_parameters(model).trainable
