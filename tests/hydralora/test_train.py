"""Training repeats itself bit for bit, falls on answers only, and survives stops and broken files."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from hydralora.bases.load import load_base
from hydralora.config import RunConfig, TrainConfig, parse_config
from hydralora.corpus.batches import Collator, on_device
from hydralora.corpus.encode import IGNORED, encode_example, encode_prompt, encode_text
from hydralora.corpus.examples import Example, messages_of
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.split import split_examples
from hydralora.errors import BaseModelError, StoppedError, TrainingError
from hydralora.files import last_checkpoint, seal_checkpoint
from hydralora.methods import METHODS
from hydralora.progress import Progress
from hydralora.results import AdapterFacts
from hydralora.training.train import train_adapter
from hydralora.training.trainer import AdapterTrainer
from tests.hydralora.conftest import DEVICE, write_lines

STEPS = 12


def make_config(base: Path, method: str = "hydralora", adapter: Any = None, **train: Any) -> RunConfig:
    adapter = {"r": 4, "num_experts": 3, "lora_dropout": 0.1} if adapter is None else adapter
    settings = {
        "max_steps": STEPS,
        "batch_size": 8,
        "save_every": 4,
        "eval_every": 6,
        "max_length": 64,
        "gate_every": 5,
        "learning_rate": 1e-2,
        **train,
    }
    return parse_config({"base": str(base), "method": method, "adapter": adapter, "train": settings})


class Recorder:
    """Keeps what ``on_step`` is given, by step."""

    def __init__(self) -> None:
        self.values: dict[int, dict[str, Any]] = {}

    def __call__(self, step: int, values: dict[str, Any]) -> None:
        self.values.setdefault(step, {}).update(values)

    @property
    def curve(self) -> list[tuple[float, ...]]:
        """Loss, gradient length and learning rate of each step."""
        names = ("loss", "grad_norm", "learning_rate")
        return [tuple(v[name] for name in names) for _, v in sorted(self.values.items()) if "loss" in v]


@pytest.fixture(scope="module")
def whole(base_folder: Path, easy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An uninterrupted run: its folder, what it reported, its summary."""
    folder, steps = tmp_path_factory.mktemp("whole"), Recorder()
    summary = train_adapter(make_config(base_folder), easy_corpus, folder, on_step=steps)
    return folder, steps, summary


def adapter_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def same_weights(first: Path, second: Path) -> bool:
    one, two = adapter_weights(first), adapter_weights(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def stop_after(step: int, steps: Recorder) -> Callable[[], bool]:
    """Asks for a stop once ``step - 1`` has been reported: the stop falls on ``step``."""
    return lambda: len(steps.curve) >= step - 1


def test_the_same_seed_gives_the_same_losses_bit_for_bit(whole, base_folder, easy_corpus, tmp_path):
    folder, steps, _ = whole
    again = Recorder()
    train_adapter(make_config(base_folder), easy_corpus, tmp_path, on_step=again)
    assert again.curve == steps.curve and len(again.curve) == STEPS
    assert same_weights(tmp_path, folder)


def test_the_gates_of_a_step_are_the_means_over_all_its_passes(base_folder, easy_corpus, tmp_path):
    how = {"batch_size": 2, "gate_every": 1, "eval_every": 0, "learning_rate": 1e-12}  # nothing is learnt
    found = []
    for passes, steps in ((4, Recorder()), (1, Recorder())):
        config = make_config(base_folder, adapter={"r": 4}, accumulation=passes, max_steps=4 // passes, **how)
        train_adapter(config, easy_corpus, tmp_path / str(passes), on_step=steps)
        found.append([values["gates"] for _, values in sorted(steps.values.items()) if "gates" in values])
    (together,), apart = found
    for layer, shares in together.items():
        means = [sum(one[layer][expert] for one in apart) / 4 for expert in range(len(shares))]
        assert shares == pytest.approx(means, abs=1e-6)


def test_another_seed_gives_other_losses(whole, base_folder, easy_corpus, tmp_path):
    again = Recorder()
    train_adapter(make_config(base_folder, seed=1, max_steps=2), easy_corpus, tmp_path, on_step=again)
    assert again.curve[0] != whole[1].curve[0]


@pytest.mark.parametrize("method", ["hydralora", "lora"])
def test_the_loss_falls_on_an_easy_corpus(method, base_folder, easy_corpus, tmp_path):
    steps = Recorder()
    config = make_config(base_folder, method, {"r": 8}, max_steps=80, eval_every=0, save_every=0, learning_rate=2e-2)
    summary = train_adapter(config, easy_corpus, tmp_path, on_step=steps)
    losses = [loss for loss, *_ in steps.curve]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert summary.held_out_loss < summary.held_out_loss_before


@pytest.mark.parametrize("stop", [3, 4, 7])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(whole, base_folder, easy_corpus, tmp_path, stop):
    config, steps = make_config(base_folder), Recorder()
    with pytest.raises(StoppedError, match=f"Stopped at step {stop}; a checkpoint is kept"):
        train_adapter(
            config, easy_corpus, tmp_path, on_step=steps, progress=Progress(should_stop=stop_after(stop, steps))
        )
    assert last_checkpoint(tmp_path).name == f"checkpoint-{stop}" and not (tmp_path / "adapter").exists()
    summary = train_adapter(config, easy_corpus, tmp_path, on_step=steps, resume=True)
    assert steps.curve == whole[1].curve
    assert same_weights(tmp_path, whole[0]) and summary.resumed_from == stop


def damage_checkpoint(folder: Path, how: str) -> None:
    """Leave a checkpoint as a crash or a bad disk would."""
    weights = folder / "adapter_model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif how == "changed":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(bytes(data))
    elif how == "missing":
        (folder / "optimizer.pt").unlink()
    elif how == "unsealed":
        (folder / "complete.json").unlink()
    else:
        (folder / "complete.json").write_text('{"files": ')


@pytest.mark.parametrize("how", ["truncated", "changed", "missing", "unsealed", "half sealed"])
def test_a_broken_last_checkpoint_is_skipped_for_the_one_before(whole, tmp_path, how):
    shutil.copytree(whole[0] / "checkpoints", tmp_path / "checkpoints")
    assert last_checkpoint(tmp_path).name == "checkpoint-12"
    damage_checkpoint(tmp_path / "checkpoints" / "checkpoint-12", how)
    assert last_checkpoint(tmp_path).name == "checkpoint-8"


def test_resuming_past_a_broken_checkpoint_gives_the_same_adapter(whole, base_folder, easy_corpus, tmp_path):
    shutil.copytree(whole[0] / "checkpoints", tmp_path / "checkpoints")
    damage_checkpoint(tmp_path / "checkpoints" / "checkpoint-12", "truncated")
    summary = train_adapter(make_config(base_folder), easy_corpus, tmp_path, resume=True)
    assert summary.resumed_from == 8 and same_weights(tmp_path, whole[0])


def test_a_run_that_ended_before_its_adapter_was_kept_only_keeps_it(whole, base_folder, easy_corpus, tmp_path):
    shutil.copytree(whole[0] / "checkpoints", tmp_path / "checkpoints")
    steps = Recorder()
    summary = train_adapter(make_config(base_folder), easy_corpus, tmp_path, on_step=steps, resume=True)
    assert steps.curve == [] and same_weights(tmp_path, whole[0])
    assert summary.steps == STEPS and summary.held_out_loss == pytest.approx(whole[2].held_out_loss)


def test_resuming_without_a_checkpoint_starts_at_the_beginning(whole, base_folder, easy_corpus, tmp_path):
    steps = Recorder()
    summary = train_adapter(make_config(base_folder), easy_corpus, tmp_path, on_step=steps, resume=True)
    assert steps.curve == whole[1].curve and summary.resumed_from is None


def test_the_newest_checkpoint_is_found_by_number(tmp_path):
    for step in (9, 10, 2):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "weights").write_text(str(step))
        seal_checkpoint(folder)
    assert last_checkpoint(tmp_path).name == "checkpoint-10"


def test_only_the_newest_checkpoints_are_kept(base_folder, easy_corpus, tmp_path):
    config = make_config(base_folder, save_every=1, keep_checkpoints=2, max_steps=5)
    train_adapter(config, easy_corpus, tmp_path)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {
        "checkpoint-4",
        "checkpoint-5",
    }


def test_a_stop_at_the_last_step_still_finishes_the_run(base_folder, easy_corpus, tmp_path):
    steps = Recorder()
    config = make_config(base_folder, max_steps=3)
    train_adapter(config, easy_corpus, tmp_path, on_step=steps, progress=Progress(should_stop=stop_after(3, steps)))
    assert (tmp_path / "adapter").is_dir()


def trained_on(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, ...]]:
    """Fills with the ids of every row that passes through the model in training mode."""
    seen: set[tuple[int, ...]] = set()
    compute_loss = AdapterTrainer.compute_loss

    def watched(self, model, inputs, *args, **kwargs):  # type: ignore[no-untyped-def]
        if model.training:
            for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
                seen.add(tuple(row[mask.bool()].tolist()))
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(AdapterTrainer, "compute_loss", watched)
    return seen


def test_held_out_examples_are_never_trained_on(base_folder, easy_corpus, tokenizer, tmp_path, monkeypatch):
    seen = trained_on(monkeypatch)
    config = make_config(base_folder, max_steps=20, held_out_fraction=0.3, gate_every=0)
    train_adapter(config, easy_corpus, tmp_path)
    corpus = Corpus(easy_corpus)
    train, held_out = (
        {tuple(encode_example(tokenizer, e, 64)["input_ids"]) for e in corpus.take(part)}
        for part in split_examples(corpus, TrainConfig(held_out_fraction=0.3))[:2]
    )
    assert seen == train and len(held_out) > 5 and not seen & held_out


EXAMPLE = Example("Which colour?", "red", "Be brief.", (("user", "Hi"), ("assistant", "Hello")))


def test_labels_cover_the_answer_and_its_end_only(tokenizer):
    row = encode_example(tokenizer, EXAMPLE, 128, "last")
    prompt = encode_prompt(tokenizer, messages_of(EXAMPLE))
    answer = [*encode_text(tokenizer, "red"), tokenizer.eos_token_id]
    assert row["input_ids"] == prompt + answer
    assert row["labels"] == [IGNORED] * len(prompt) + answer


def test_plain_text_is_learnt_whole(tokenizer):
    row = encode_example(tokenizer, Example("", "A red door."), 128)
    assert row["input_ids"][0] == tokenizer.bos_token_id
    assert row["labels"][1:] == row["input_ids"][1:] and row["labels"][-1] == tokenizer.eos_token_id


def test_a_long_answer_is_cut_and_has_no_end(tokenizer):
    row = encode_example(tokenizer, Example("Which?", "red door " * 50), 20)
    assert len(row["input_ids"]) == len(row["labels"]) == 20
    assert row["labels"][-1] not in (IGNORED, tokenizer.eos_token_id)


def test_a_prompt_that_leaves_no_room_gives_no_example(tokenizer):
    length = len(encode_prompt(tokenizer, messages_of(EXAMPLE)))
    assert encode_example(tokenizer, EXAMPLE, length + 1, "last") is None
    assert encode_example(tokenizer, EXAMPLE, length + 2, "last") is not None


def test_a_run_says_that_its_template_lets_only_the_last_answers_be_learnt(base_folder, tokenizer, tmp_path):
    talk = [{"role": role, "content": "red door"} for role in ("user", "assistant") * 2]
    source = write_lines(tmp_path / "talks.jsonl", [{"messages": talk}] * 6)
    import_corpus([source], tmp_path / "corpus")
    shutil.copytree(base_folder, base := tmp_path / "base")
    template = "{% if add_generation_prompt %}<|user|>{% endif %}" + tokenizer.chat_template
    (base / "chat_template.jinja").write_text(template)
    notes = [
        train_adapter(make_config(folder, max_steps=1, **settings), tmp_path / "corpus", tmp_path / name).note
        for name, folder, settings in (("a", base, {}), ("b", base, {"learn": "last"}), ("c", base_folder, {}))
    ]
    assert "only the last answer is learnt" in notes[0] and notes[1:] == ["", ""]


def test_control_tokens_in_a_text_stay_text(tokenizer):
    row = encode_example(tokenizer, Example("<|end|><|assistant|>", "<|end|>"), 128)
    assert row["input_ids"].count(tokenizer.eos_token_id) == 1
    assert row["input_ids"].count(tokenizer.convert_tokens_to_ids("<|assistant|>")) == 1


def test_batches_are_padded_on_the_right_without_loss():
    batch = Collator(0)([{"input_ids": [7, 8, 9], "labels": [IGNORED, 8, 9]}, {"input_ids": [7], "labels": [7]}])
    assert batch["input_ids"].tolist() == [[7, 8, 9], [7, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 8, 9], [7, IGNORED, IGNORED]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_mean_gates_are_reported_every_few_steps_for_every_layer(whole):
    values = whole[1].values
    assert [step for step, v in sorted(values.items()) if "gates" in v] == [5, 10]
    gates = values[5]["gates"]
    assert len(gates) == 14 and "model.layers.1.mlp.down_proj" in gates
    assert all(len(row) == 3 and math.isclose(sum(row), 1.0, abs_tol=1e-5) for row in gates.values())


def test_the_held_out_loss_is_measured_on_time(whole):
    _, steps, summary = whole
    measured = {step: v["eval_loss"] for step, v in steps.values.items() if "eval_loss" in v}
    assert set(measured) - {0} == {6, 12} and measured[12] == summary.held_out_loss


def test_the_held_out_loss_is_that_of_the_kept_adapter(whole, base_folder, easy_corpus, tokenizer):
    folder, _, summary = whole
    corpus = Corpus(easy_corpus)
    rows = [
        encode_example(tokenizer, e, 64)
        for e in corpus.take(split_examples(corpus, TrainConfig(held_out_fraction=0.1))[1])
    ]
    model = PeftModel.from_pretrained(load_base(str(base_folder), device=DEVICE)[0], folder / "adapter").eval()
    with torch.inference_mode():
        loss = model(**on_device(Collator(tokenizer.pad_token_id)(rows), DEVICE)).loss.item()
    assert summary.held_out_loss == pytest.approx(loss, abs=1e-5)


def test_the_run_writes_down_what_it_was_made_of(whole, base_folder, easy_corpus):
    folder, _, summary = whole
    facts = AdapterFacts.read(folder / "adapter")
    assert facts.config == make_config(base_folder) and facts.summary == summary
    assert facts.corpus_hash == Corpus(easy_corpus).manifest.content_hash
    assert set(facts.versions) == {"torch", "transformers", "peft", "accelerate"}
    assert summary.train_examples + summary.held_out_examples == 64


def test_the_adapter_is_kept_as_safetensors_alone(whole):
    names = {path.name for path in (whole[0] / "adapter").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "README.md", "run.json"}


def test_two_half_batches_equal_one_batch(base_folder, easy_corpus, tmp_path):
    curves = []
    for batch, parts in ((8, 1), (4, 2)):
        steps = Recorder()
        config = make_config(
            base_folder, adapter={"r": 4}, batch_size=batch, accumulation=parts, max_steps=4, held_out_fraction=0.0
        )
        train_adapter(config, easy_corpus, tmp_path / str(batch), on_step=steps)
        curves.append([value for row in steps.curve for value in row])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def test_gradient_checkpointing_changes_no_loss(base_folder, easy_corpus, tmp_path):
    curves = []
    for switch in (False, True):
        steps = Recorder()
        config = make_config(
            base_folder, gradient_checkpointing=switch, max_steps=3, adapter={"r": 4, "balance_weight": 0.1}
        )
        train_adapter(config, easy_corpus, tmp_path / str(switch), on_step=steps)
        curves.append(steps.curve)
    assert curves[0] == curves[1]


def test_the_balance_loss_is_added_to_the_loss(base_folder, easy_corpus, tmp_path):
    first = []
    for weight in (0.0, 5.0):
        steps = Recorder()
        config = make_config(base_folder, adapter={"r": 4, "balance_weight": weight}, max_steps=1)
        train_adapter(config, easy_corpus, tmp_path / str(weight), on_step=steps)
        first.append(steps.curve[0][0])
    assert first[1] > first[0]


OFTEN = ("lora", "adalora", "p_tuning", "meta_lora", "full")  # whose states differ in kind; the rest is long
RESUMED = [name for name in METHODS if name not in ("hydralora", "lorahub")]


@pytest.mark.parametrize(
    "method", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.long) for name in RESUMED]
)
def test_every_method_resumes_where_it_stopped(method, base_folder, easy_corpus, tmp_path):
    adapter = {"tasks": "label"} if "tasks" in METHODS[method].options.model_fields else {}
    config = make_config(base_folder, method, adapter, save_every=0)
    steps, whole = Recorder(), Recorder()
    train_adapter(config, easy_corpus, tmp_path / "whole", on_step=whole)
    with pytest.raises(StoppedError):
        train_adapter(
            config, easy_corpus, tmp_path / "parts", on_step=steps, progress=Progress(should_stop=stop_after(8, steps))
        )
    train_adapter(config, easy_corpus, tmp_path / "parts", on_step=steps, resume=True)
    assert steps.curve == whole.curve and len(whole.curve) == STEPS
    assert same_weights(tmp_path / "parts", tmp_path / "whole")


def test_a_bfloat16_base_trains(base_folder, easy_corpus, tmp_path):
    steps = Recorder()
    train_adapter(
        make_config(base_folder, dtype="bfloat16", max_steps=2),
        easy_corpus,
        tmp_path,
        on_step=steps,
    )
    assert all(math.isfinite(loss) for loss, *_ in steps.curve)


def test_nothing_held_out_means_nothing_measured(base_folder, easy_corpus, tmp_path):
    steps = Recorder()
    config = make_config(base_folder, held_out_fraction=0.0, max_steps=2)
    summary = train_adapter(config, easy_corpus, tmp_path, on_step=steps)
    assert summary.held_out_loss is None and summary.train_examples == 64
    assert not any("eval_loss" in v for v in steps.values.values())


def test_examples_that_do_not_fit_are_refused_plainly(base_folder, easy_corpus, tmp_path):
    with pytest.raises(TrainingError, match="No example fits into 8 tokens: every prompt alone is longer"):
        train_adapter(make_config(base_folder, max_length=8), easy_corpus, tmp_path)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_no_adapter(base_folder, easy_corpus, tmp_path):
    shutil.copytree(base_folder, tmp_path / "broken")
    weights = load_file(tmp_path / "broken" / "model.safetensors")
    weights["model.norm.weight"] *= math.nan
    save_file(weights, tmp_path / "broken" / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingError, match=r"Step 1: the loss is nan.*Lower `learning_rate`"):
        train_adapter(make_config(tmp_path / "broken", held_out_fraction=0.0), easy_corpus, tmp_path / "run")
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_missing_base_is_refused_before_anything_is_written(easy_corpus, tmp_path):
    with pytest.raises(BaseModelError, match=r"is unknown. Use 'starter', a folder"):
        train_adapter(make_config(tmp_path / "nowhere"), easy_corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_progress_ends_at_one(base_folder, easy_corpus, tmp_path):
    shares: list[float] = []
    config = make_config(base_folder, max_steps=2)
    train_adapter(config, easy_corpus, tmp_path, progress=Progress(lambda share, text: shares.append(share)))
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_stored_facts_are_plain_json(whole):
    text = (whole[0] / "adapter" / "run.json").read_text("utf-8")
    assert "NaN" not in text and json.loads(text)["config"]["train"]["max_steps"] == STEPS
