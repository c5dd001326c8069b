"""LoRAHub: what a mixture is, that the search finds it, and that a stopped search goes on exactly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nevergrad
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from hydralora import add_adapter
from hydralora.adapters.compose import Composition, composed_config
from hydralora.errors import AdapterError, StoppedError
from hydralora.files import last_checkpoint
from hydralora.progress import Progress
from hydralora.training.lorahub import few_shot_loss, search_weights
from hydralora.training.train import train_adapter
from tests.hydralora.conftest import DEVICE, make_llama, randomise
from tests.hydralora.test_train import Recorder, make_config, same_weights

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
TARGETS = ["q_proj", "down_proj"]


def make_source(folder: Path, model: Any, seed: int, **settings: Any) -> Path:
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": TARGETS, "task_type": "CAUSAL_LM", **settings})
    adapted = randomise(get_peft_model(model, config), seed=seed)
    adapted.save_pretrained(folder)
    adapted.unload()
    return folder


@pytest.fixture
def sources(tmp_path: Path, tiny: Any) -> list[Path]:
    return [make_source(tmp_path / f"source{i}", tiny, seed=10 + i) for i in range(3)]


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=ids).logits


@pytest.mark.parametrize("average", ["factors", "updates"])
def test_a_mixture_is_what_its_formula_says(average, sources, tiny):
    weights = [0.5, -1.0, 0.25]
    model = get_peft_model(tiny, composed_config(sources, average))
    Composition(model, sources, average).set_weights(weights)
    files = [load_file(source / "adapter_model.safetensors") for source in sources]
    layer = model.base_model.model.model.layers[1].self_attn.q_proj
    stem = "base_model.model.model.layers.1.self_attn.q_proj.lora_"
    parts = [(w, f[f"{stem}A.weight"], f[f"{stem}B.weight"]) for w, f in zip(weights, files, strict=True)]
    if average == "factors":
        expected = 2.0 * sum(w * b for w, _, b in parts) @ sum(w * a for w, a, _ in parts)
    else:
        expected = 2.0 * sum(w * b @ a for w, a, b in parts)
    torch.testing.assert_close(layer.get_delta_weight("default").cpu(), expected, **CLOSE)


@pytest.mark.parametrize("average", ["factors", "updates"])
def test_one_source_alone_is_that_source(average, sources, load_tiny, ids):
    model = get_peft_model(load_tiny(), composed_config(sources, average))
    composition = Composition(model, sources, average)
    composition.set_weights([0.0, 1.0, 0.0])
    torch.testing.assert_close(
        logits(model, ids), logits(PeftModel.from_pretrained(load_tiny(), sources[1]), ids), **CLOSE
    )
    composition.set_weights([0.0, 0.0, 0.0])
    torch.testing.assert_close(logits(model, ids), logits(load_tiny(), ids), **CLOSE)


def test_the_search_finds_the_least_value_within_its_bounds():
    tried: list[list[float]] = []

    def measure(weights: list[float]) -> float:
        tried.append(weights)
        return (weights[0] - 0.7) ** 2 + (weights[1] - 9.0) ** 2

    best = search_weights(measure, 2, evaluations=80, bound=1.5)
    assert best == pytest.approx([0.7, 1.5], abs=0.02)
    assert tried[0] == [0.0, 0.0] and all(abs(w) <= 1.5 for weights in tried for w in weights)


@pytest.mark.parametrize("evaluations", [1, 2, 7])
def test_the_search_never_measures_more_often_than_it_may(evaluations):
    count = []
    search_weights(lambda w: count.append(w) or sum(w), 5, evaluations=evaluations)
    assert len(count) == evaluations


def test_known_values_are_not_measured_again_and_change_nothing():
    def measure(weights: list[float]) -> float:
        order.append(weights)
        return sum((w - 0.3) ** 2 for w in weights)

    order: list[list[float]] = []
    whole = search_weights(measure, 3, evaluations=20)
    first, order = list(order), []
    known = [(sum((w - 0.3) ** 2 for w in weights), weights) for weights in first[:8]]
    assert search_weights(measure, 3, evaluations=20, known=known) == whole
    assert order == first[8:]


def test_what_another_search_has_tried_counts_among_the_tries_and_may_be_the_best():
    measured: list[list[float]] = []
    known = [(9.0 - number, [0.01 * number, 1.0]) for number in range(8)]  # the last is the best there is
    best = search_weights(lambda w: measured.append(w) or 5.0 + sum(w) ** 2, 2, evaluations=12, known=known)
    assert best == [0.07, 1.0] and len(measured) == 4


SOURCES, TRIES = 20, 40  # as the authors' script has them


@pytest.fixture
def planted(tmp_path: Path, load_tiny: Any) -> Any:
    """Gives, by average, the loss of a mixture of twenty LoRAs, as a share of the start's: KL from a planted one."""
    sources = [make_source(tmp_path / f"planted{i}", load_tiny(), seed=50 + i) for i in range(SOURCES)]
    ids = torch.randint(6, 300, (4, 12), generator=torch.Generator().manual_seed(3)).to(DEVICE)

    def loss_of(average: str) -> Any:
        model = get_peft_model(load_tiny(), composed_config(sources, average))
        mixture = Composition(model, sources, average)
        mixture.set_weights([0.8 * (i == 3) + 0.5 * (i == 8) + 0.6 * (i == 15) for i in range(SOURCES)])
        target = logits(model, ids).softmax(-1)

        def kl(weights: Any) -> float:
            mixture.set_weights([float(weight) for weight in weights])
            return float((target * (target.log() - logits(model, ids).log_softmax(-1))).sum(-1).mean())

        start = kl([0.0] * SOURCES)
        return lambda weights: kl(weights) / start

    return loss_of


def by_nevergrad(measure: Any) -> Any:
    """The weights that the authors' search finds: NGOpt of Nevergrad, its seed fixed."""
    search = authors_search(TRIES)
    return search.minimize(lambda weights: measure(weights)).value


def authors_search(tries: int) -> Any:
    space = nevergrad.p.Array(init=[0.0] * SOURCES, lower=[-1.5] * SOURCES, upper=[1.5] * SOURCES)
    space.random_state = np.random.RandomState(0)
    return nevergrad.optimizers.NGOpt(parametrization=space, budget=tries)


@pytest.mark.parametrize("tries", [40, 1000])
def test_the_authors_search_is_ours_at_twenty_sources(tries):
    assert authors_search(tries).optim.name == "Cobyla"


@pytest.mark.parametrize("average", ["factors", "updates"])
def test_twenty_planted_sources_are_searched_as_well_as_by_the_authors_search(average, planted):
    measure = planted(average)
    ours = measure(search_weights(measure, SOURCES, evaluations=TRIES))
    assert ours < 0.5 and ours <= measure(by_nevergrad(measure)) + 0.05


@pytest.mark.parametrize("average", ["factors", "updates"])
def test_the_source_that_knows_the_examples_is_preferred(average, base_folder, easy_corpus, load_tiny, tmp_path, ids):
    sources = [make_source(tmp_path / "noise", load_tiny(), seed=5)]
    teacher = randomise(
        add_adapter(load_tiny(), "lora", {"r": 4, "lora_alpha": 8.0, "target_modules": TARGETS}), seed=9, scale=0.3
    )
    teacher.save_pretrained(tmp_path / "teacher")
    sources.append(tmp_path / "teacher")
    labels = logits(teacher, ids).argmax(-1)
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.cat([ids[:, :1], labels[:, :-1]], 1),
    }
    model = get_peft_model(load_tiny(), composed_config(sources, average))
    mixture = Composition(model, sources, average)

    def measure(weights: list[float]) -> float:
        mixture.set_weights(weights)
        return few_shot_loss(model, [batch])

    weights = search_weights(measure, len(sources), evaluations=60)
    mixture.set_weights(weights)
    assert weights[1] > 0.3 and weights[1] > abs(weights[0])
    assert few_shot_loss(model, [batch]) < few_shot_loss(load_tiny(), [batch])


UNFIT = [
    ({"r": 2}, "`r` of source 'other' is 2, but source 'source0' has 4"),
    ({"lora_alpha": 3}, "`lora_alpha` of source 'other' is 3"),
    ({"use_dora": True}, "source 'other' is no plain LoRA"),
    ({"modules_to_save": ["lm_head"]}, "source 'other' is no plain LoRA"),
]


@pytest.mark.parametrize(("settings", "sentence"), UNFIT, ids=[str(unfit[0]) for unfit in UNFIT])
def test_a_source_of_another_shape_is_refused(settings, sentence, sources, load_tiny, tmp_path):
    other = make_source(tmp_path / "other", load_tiny(), seed=1, **settings)
    with pytest.raises(AdapterError, match=sentence):
        composed_config([sources[0], other], "factors")


def test_a_source_on_other_layers_is_refused_by_key(sources, load_tiny, tmp_path):
    other = make_source(tmp_path / "other", load_tiny(), seed=1, target_modules=["q_proj"])
    model = get_peft_model(load_tiny(), composed_config([sources[0], other], "factors"))
    with pytest.raises(AdapterError, match=r"source 'other' has no weight '.*down_proj.lora_A.weight'"):
        Composition(model, [sources[0], other], "factors")


def test_a_source_of_another_base_shape_is_refused_by_layer(sources, tiny, tmp_path):
    wide = make_llama()
    wide.model.layers[0].self_attn.q_proj = torch.nn.Linear(32, 40, bias=False)
    other = make_source(tmp_path / "other", wide, seed=1)
    with pytest.raises(AdapterError, match=r"Layer '.*layers.0.self_attn.q_proj' has shapes"):
        Composition(get_peft_model(tiny, composed_config(sources[:1], "factors")), [sources[0], other], "factors")


def test_a_damaged_source_is_refused_by_name(sources, tiny):
    path = sources[1] / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(AdapterError, match="The adapter file of source 'source1' is missing or damaged"):
        Composition(get_peft_model(tiny, composed_config(sources, "factors")), sources, "factors")


def test_a_routed_adapter_cannot_be_mixed(tiny, tmp_path):
    add_adapter(tiny, "hydralora", {"r": 2}).save_pretrained(tmp_path / "routed")
    with pytest.raises(AdapterError, match="source 'routed' is no plain LoRA"):
        composed_config([tmp_path / "routed"], "factors")


def test_no_source_at_all_is_refused(base_folder, easy_corpus, tmp_path):
    with pytest.raises(AdapterError, match=r"none was given\. Name the runs in `sources`"):
        train_adapter(make_config(base_folder, "lorahub", {}), easy_corpus, tmp_path)


@pytest.fixture(scope="module")
def trained(base_folder: Path, easy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two LoRA runs on the base of these tests."""
    root = tmp_path_factory.mktemp("sources")
    for seed in (1, 2):
        config = make_config(base_folder, "lora", {"r": 4}, max_steps=15, seed=seed, save_every=0, eval_every=0)
        train_adapter(config, easy_corpus, root / str(seed))
    return [root / "1" / "adapter", root / "2" / "adapter"]


def test_a_run_mixes_and_a_stopped_one_goes_on_exactly(trained, base_folder, easy_corpus, tmp_path, load_tiny):
    config = make_config(base_folder, "lorahub", {"shots": 8}, max_steps=14)
    whole, parts = Recorder(), Recorder()
    summary = train_adapter(config, easy_corpus, tmp_path / "whole", sources=trained, on_step=whole)
    assert summary.held_out_loss < summary.held_out_loss_before and summary.router == 0
    with pytest.raises(StoppedError, match="Stopped at step 6"):
        train_adapter(
            config,
            easy_corpus,
            tmp_path / "parts",
            sources=trained,
            on_step=parts,
            progress=Progress(should_stop=lambda: 6 in parts.values),
        )
    assert last_checkpoint(tmp_path / "parts").name == "checkpoint-6"
    train_adapter(config, easy_corpus, tmp_path / "parts", sources=trained, on_step=parts, resume=True)
    losses = [
        {step: values["loss"] for step, values in run.values.items() if "loss" in values} for run in (whole, parts)
    ]
    assert losses[0] == losses[1] and sorted(losses[0]) == list(range(1, 15))
    assert same_weights(tmp_path / "whole", tmp_path / "parts")
    PeftModel.from_pretrained(load_tiny(), tmp_path / "whole" / "adapter")


def test_a_run_on_another_base_is_refused(trained, base_folder, easy_corpus, tokenizer, tmp_path):
    shutil.copytree(base_folder, tmp_path / "base")
    make_llama(len(tokenizer), seed=7).save_pretrained(tmp_path / "base")
    with pytest.raises(AdapterError, match=r"source '1' was trained on another base .* Choose runs on the same base"):
        train_adapter(make_config(tmp_path / "base", "lorahub", {}), easy_corpus, tmp_path / "run", sources=trained)
