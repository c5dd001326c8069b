"""Files of strangers are checked by schemas before any library reads them, and no pattern of theirs is ever matched."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hydralora.adapters.build import add_adapter
from hydralora.adapters.files import read_shapes
from hydralora.adapters.imports import check_fit, describe_adapter, import_adapter, read_peft_config
from hydralora.adapters.matrices import read_modules
from hydralora.bases.folder import STARTER, check_folder
from hydralora.bases.load import load_base
from hydralora.config import parse_config
from hydralora.errors import AdapterError, BaseModelError, UserError
from hydralora.files import CONFIG, FACTS, WEIGHTS
from hydralora.methods import METHODS
from tests.hydralora.conftest import make_llama, make_tokenizer

PROJECT = Path(__file__).resolve().parents[2]
QUICK = pytest.mark.timeout(60)  # what hangs, hangs for ever


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tokenizer = tmp_path_factory.mktemp("whole") / "little", make_tokenizer()
    make_llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def base(whole: Path, tmp_path: Path) -> Path:
    """A base of its own for a test to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "base"))


@pytest.fixture(scope="module")
def adapters(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved adapter of each of three kinds."""
    place = tmp_path_factory.mktemp("adapters")
    for method in ("lora", "ia3", "prompt_tuning"):
        options = {"target_modules": ["k_proj", "down_proj"]} if method == "ia3" else {}
        add_adapter(load_base(str(whole), device="cpu")[0], method, options).save_pretrained(place / method)
    return {folder.name: folder for folder in place.iterdir()}


@pytest.fixture
def spoilt(adapters: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """An adapter with some of its settings changed."""

    def spoil(change: dict[str, Any], method: str = "lora") -> Path:
        folder = shutil.copytree(adapters[method], tmp_path / "spoilt")
        rewrite(folder / CONFIG, change)
        return Path(folder)

    return spoil


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def rewrite(path: Path, change: dict[str, Any]) -> None:
    values = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**values, **change}), "utf-8")


# config.json and its siblings

SIZES = {
    "num_hidden_layers": 10**9,
    "n_layer": 10**9,
    "decoder_layers": 2_049,
    "hidden_size": 2**30,
    "intermediate_size": 10**12,
    "vocab_size": 2**40,
    "num_attention_heads": 10**9,
    "num_local_experts": 10**9,
    "max_position_embeddings": 2**60,
    "head_dim": -5,
    "anything_at_all": 10**30,
}


@QUICK
@pytest.mark.parametrize("name", SIZES)
def test_sizes_beyond_every_model_are_refused_before_one_is_built(name: str, base: Path) -> None:
    rewrite(base / "config.json", {name: SIZES[name]})
    with pytest.raises(BaseModelError, match=f"config.json cannot be used: `{name}` must be between"):
        check_fit(str(base), read_peft_config(adapter_of(base)), {"a": (1,)})
    with pytest.raises(BaseModelError, match=name):
        load_base(str(base), device="cpu")


def adapter_of(base: Path) -> Path:
    """The settings of some adapter; nothing of it is read once the base is refused."""
    folder = base.with_name("settings")
    folder.mkdir(exist_ok=True)
    settings = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "base_model_name_or_path": str(base)}
    (folder / CONFIG).write_text(json.dumps(settings), "utf-8")
    return folder


@QUICK
@pytest.mark.parametrize("place", ["text_config", "vision_config"])
def test_a_size_is_bounded_however_deep_it_stands(place: str, base: Path) -> None:
    rewrite(base / "config.json", {place: {"layers": [{"num_layers": 10**9}]}})
    with pytest.raises(BaseModelError, match="num_layers"):
        check_folder(base, "x")


@QUICK
def test_many_experts_in_many_layers_are_refused(base: Path) -> None:
    rewrite(base / "config.json", {"num_hidden_layers": 2_000, "num_experts": 60_000})
    with pytest.raises(BaseModelError, match="2,000 layers of 60,000 experts"):
        check_folder(base, "x")


@QUICK
@pytest.mark.parametrize(
    "text",
    [
        '{"model_type": "llama", "rope_theta": NaN}',
        '{"model_type": "llama", "rope_theta": -Infinity}',
        '{"model_type": "llama", "rope_theta": 1e999}',
        '{"model_type": "llama", "x": ' + "9" * 5_000 + "}",
        '{"model_type": "llama", "x": ' + "[" * 100_000,
        '{"model_type": "llama", "x": ' + "[" * 40 + "]" * 40 + "}",
        '{"model_type": "llama", "x": "' + "a" * 2**21 + '"}',
        '{"model_type": "../../etc/passwd"}',
        '{"model_type": ["llama"]}',
        '{"architectures": ["LlamaForCausalLM"]}',
        '{"model_type": "llama", "tie_word_embeddings": "yes"}',
        "[]",
        "",
        "\x00",
    ],
    ids=str.__len__,
)
def test_a_config_that_is_none_is_refused_with_one_sentence(text: str, base: Path) -> None:
    (base / "config.json").write_text(text, "utf-8")
    with pytest.raises(BaseModelError, match=r"Base model 'x': config.json .*Get the model again\.") as error:
        check_folder(base, "x")
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


@QUICK
def test_a_named_pipe_is_not_waited_for(base: Path) -> None:
    for name in ("config.json", "tokenizer_config.json", "model.safetensors"):
        shutil.move(base / name, base / "aside")
        os.mkfifo(base / name)
        with pytest.raises(BaseModelError, match=f"{name} is no ordinary file"):
            check_folder(base, "x")
        (base / name).unlink()
        shutil.move(base / "aside", base / name)


@QUICK
@pytest.mark.parametrize(
    ("file", "change", "word"),
    [
        ("generation_config.json", {"num_beams": 10**6}, "num_beams"),
        ("generation_config.json", {"num_return_sequences": 10**6}, "num_return_sequences"),
        ("generation_config.json", {"temperature": "hot"}, "temperature"),
        ("generation_config.json", {"custom_generate": "owner/code"}, "custom_generate"),
        ("tokenizer_config.json", {"chat_template": "a" * 2**19}, "chat_template"),
        ("tokenizer_config.json", {"model_max_length": -1}, "model_max_length"),
        ("tokenizer_config.json", {"tokenizer_class": "a.b/c"}, "tokenizer_class"),
    ],
)
def test_the_files_beside_it_are_checked_too(file: str, change: dict[str, Any], word: str, base: Path) -> None:
    rewrite(base / file, change)
    with pytest.raises(BaseModelError, match=f"{file} cannot be used: `{word}"):
        load_base(str(base), device="cpu")


@pytest.mark.parametrize(
    "name", ["../secret.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.bin", ".safetensors"]
)
def test_an_index_names_files_and_never_paths(name: str, base: Path) -> None:
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}), "utf-8")
    with pytest.raises(BaseModelError, match="weight_map"):
        check_folder(base, "x")


def test_real_models_are_not_refused() -> None:
    """Numbers as published ones have them, the largest of their kind."""
    check_folder(STARTER, "starter")
    published = [
        {"model_type": "llama", "num_hidden_layers": 126, "hidden_size": 16_384, "intermediate_size": 53_248},
        {"model_type": "deepseek_v3", "num_hidden_layers": 61, "n_routed_experts": 384, "vocab_size": 163_840},
        {"model_type": "llama4_text", "max_position_embeddings": 10_485_760, "rope_theta": 10_000_000_000},
        {"model_type": "gpt2", "n_layer": 48, "n_embd": 1_600, "n_positions": 1_024, "pad_token_id": -1},
        {
            "model_type": "qwen2",
            "max_window_layers": 80,
            "sliding_window": 131_072,
            "quantization_config": {"group_size": -1},
        },
    ]
    from hydralora.bases.schema import BaseSchema

    for values in published:
        BaseSchema.model_validate(values)


# Weights


@QUICK
@pytest.mark.parametrize("factor", [4, 16])
def test_a_small_file_cannot_ask_for_a_large_model(factor: int, base: Path) -> None:
    rewrite(base / "config.json", {"intermediate_size": 48 * 1_000 * factor})
    with pytest.raises(BaseModelError, match=r"describes [\d,]+ parameters and the files hold"):
        load_base(str(base), device="cpu")


def test_more_layers_or_words_than_weights_are_refused_without_building_the_model(base: Path) -> None:
    for change in ({"num_hidden_layers": 500}, {"vocab_size": 2**23}):
        good = (base / "config.json").read_text("utf-8")
        rewrite(base / "config.json", change)
        with pytest.raises(BaseModelError, match="is not whole"):
            check_folder(base, "x")
        (base / "config.json").write_text(good, "utf-8")


def head(values: Any, length: int | None = None, data: int = 0) -> bytes:
    """A safetensors file with this head; ``length`` is what it says of its own size."""
    text = json.dumps(values).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data)


F32 = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@QUICK
@pytest.mark.parametrize(
    "content",
    [
        head({"a": F32}, length=2**62),
        head({"a": F32}, length=2**33),
        head({"a": F32}, data=8),
        head({"a": {**F32, "shape": [2**40, 2**40]}}, data=16),
        head({"a": {**F32, "shape": [-4]}}, data=16),
        head({"a": {**F32, "shape": [4.0]}}, data=16),
        head({"a": {**F32, "shape": "4"}}, data=16),
        head({"a": {**F32, "data_offsets": [16, 0]}}, data=16),
        head({"a": {**F32, "dtype": "PICKLE"}}, data=16),
        head({"a": 1}),
        head({"a" * 600: F32}, data=16),
        head([]),
        b"",
        b"1234567",
        b"\x00" * 64,
    ],
    ids=len,
)
def test_a_head_that_does_not_fit_its_file_is_refused(content: bytes, base: Path, tmp_path: Path) -> None:
    (base / "model.safetensors").write_bytes(content)
    with pytest.raises(BaseModelError, match=r"model\.safetensors (is|holds)"):
        check_folder(base, "x")
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors (is|holds)"):
        read_shapes(tmp_path / WEIGHTS)


HUB = """
import sys
from hydralora.bases.load import load_base
from hydralora.errors import BaseModelError
try:
    load_base("owner/name", device="cpu")
    print("loaded")
except BaseModelError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("change", "said"), [({}, "loaded"), ({"num_hidden_layers": 10**9}, "`num_hidden_layers` must be")]
)
def test_a_model_of_a_hub_is_checked_like_a_folder(
    change: dict[str, Any], said: str, base: Path, tmp_path: Path
) -> None:
    rewrite(base / "config.json", change)
    commit, cached = "0" * 40, tmp_path / "hub" / "models--owner--name"
    shutil.copytree(base, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(PROJECT),
    }
    done = subprocess.run(
        [sys.executable, "-c", HUB], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert said in done.stdout, done.stderr


# adapter_config.json

SLOW = "([a-z._0-9]+)+#"  # takes for ever on the name of a layer
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *(("lora", {"target_modules": pattern}) for pattern in (SLOW, "(a|a)*b", "(.*)*x", "(\\w+\\.?)+#", "(")),
    *(("lora", {"target_modules": [pattern]}) for pattern in (SLOW, "(.*a){30}")),
    *(("lora", {"exclude_modules": pattern}) for pattern in (SLOW, [SLOW], "[")),
    *(("lora", {"modules_to_save": [pattern]}) for pattern in (SLOW, "(.*)*x", "lm_head|(.*)*x", ")")),
    *(("lora", {"layers_pattern": pattern, "layers_to_transform": [0]}) for pattern in (SLOW, [SLOW], "(.*)*x")),
    *(("lora", {"rank_pattern": {pattern: 4}}) for pattern in (SLOW, "(.*)*x")),
    *(("lora", {"alpha_pattern": {pattern: 4}}) for pattern in (SLOW, "(.*)*x")),
    *(("lora", {"target_parameters": [pattern]}) for pattern in (SLOW,)),
    *(("lora", {"trainable_token_indices": {pattern: [1]}}) for pattern in (SLOW,)),
    *(("ia3", {"feedforward_modules": pattern}) for pattern in (SLOW, [SLOW], "(.*)*x")),
    *(("ia3", {"target_modules": pattern}) for pattern in (SLOW,)),
]


@QUICK
@pytest.mark.parametrize(
    ("method", "change"), SETTINGS, ids=lambda value: value if isinstance(value, str) else next(iter(value))
)
def test_a_pattern_of_a_stranger_is_never_matched(
    method: str, change: dict[str, Any], spoilt: Callable[..., Path], run_folder: Path, whole: Path
) -> None:
    folder = spoilt(change, method)
    try:
        import_adapter([folder], run_folder, base=str(whole))
    except AdapterError as error:
        assert next(iter(change)) in str(error) and len(str(error)) < 400
        return
    described = describe_adapter(run_folder / "adapter", str(whole))[1]
    kept = [getattr(read_peft_config(run_folder / "adapter"), name, None) for name in change]
    assert not any(mark in f"{described.to_dict()} {kept}" for mark in ("#", "*", "|"))


@QUICK
@pytest.mark.parametrize("change", [{"target_modules": SLOW}, {"target_modules": SLOW, "exclude_modules": SLOW}])
def test_a_pattern_is_not_matched_either_where_the_weights_name_no_layer(
    change: dict[str, Any], spoilt: Callable[..., Path], run_folder: Path, whole: Path
) -> None:
    folder = spoilt(change)
    save_file({"something.else": torch.zeros(4)}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match="holds no weights of adapted layers"):
        import_adapter([folder], run_folder, base=str(whole))


@QUICK
@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("lora", {"r": 10**9}),
        ("lora", {"r": "8"}),
        ("lora", {"r": True}),
        ("lora", {"lora_alpha": 1e300}),
        ("lora", {"lora_alpha": -1}),
        ("lora", {"lora_dropout": 2}),
        ("lora", {"num_experts": 10**9}),
        ("lora", {"rank_pattern": {f"layer{i}": 4 for i in range(5_000)}}),
        ("lora", {"target_modules": ["q_proj"] * 200_000}),
        ("lora", {"base_model_name_or_path": "a" * 10_000}),
        ("lora", {"qalora_group_size": 0}),
        ("prompt_tuning", {"num_virtual_tokens": 10**9}),
        ("prompt_tuning", {"token_dim": 2**40}),
        ("prompt_tuning", {"num_layers": 10**9}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_settings_out_of_bounds_are_refused_by_name(
    method: str, change: dict[str, Any], spoilt: Callable[..., Path], run_folder: Path, whole: Path
) -> None:
    folder = spoilt(change, method)
    with pytest.raises(AdapterError, match=f"`{next(iter(change))}") as error:
        import_adapter([folder], run_folder, base=str(whole))
    assert len(str(error.value)) < 400


@QUICK
@pytest.mark.parametrize("constant", ["NaN", "Infinity", "1e999", "9" * 5_000])
def test_an_adapter_with_a_number_that_is_none_is_refused(
    constant: str, spoilt: Callable[..., Path], run_folder: Path, whole: Path
) -> None:
    folder = spoilt({"lora_alpha": "THIS"})
    text = (folder / CONFIG).read_text("utf-8").replace('"THIS"', constant)
    (folder / CONFIG).write_text(text, "utf-8")
    with pytest.raises(AdapterError, match=f"{CONFIG} is not valid JSON"):
        import_adapter([folder], run_folder, base=str(whole))
    (folder / CONFIG).write_text(text.replace(constant, "16"), "utf-8")
    (folder / FACTS).write_text(text, "utf-8")
    with pytest.raises(AdapterError, match=f"{FACTS} beside the adapter cannot be used"):
        import_adapter([folder], run_folder, base=str(whole))


def test_a_prompt_that_says_it_is_larger_than_its_file_takes_no_memory(
    spoilt: Callable[..., Path], run_folder: Path, whole: Path
) -> None:
    folder = spoilt({"num_virtual_tokens": 512, "token_dim": 2**20, "num_transformer_submodules": 8}, "prompt_tuning")
    with pytest.raises(AdapterError, match="does not fit"):
        import_adapter([folder], run_folder, base=str(whole))


def test_an_adapter_brings_no_tokenizer_and_no_template(
    spoilt: Callable[..., Path], run_folder: Path, whole: Path
) -> None:
    own = {
        "prompt_tuning_init": "TEXT",
        "prompt_tuning_init_text": "x",
        "tokenizer_name_or_path": "/etc",
        "tokenizer_kwargs": {"trust_remote_code": True},
    }
    folder = spoilt(own, "prompt_tuning")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"):
        (folder / name).write_text('{"chat_template": "{% for a in b %}"}', "utf-8")
    import_adapter([folder], run_folder, base=str(whole))
    assert {file.name for file in (run_folder / "adapter").iterdir()} == {CONFIG, WEIGHTS, FACTS}
    kept = read_peft_config(run_folder / "adapter")
    assert kept.tokenizer_name_or_path is None and kept.tokenizer_kwargs is None


def test_a_folder_that_is_only_looked_into_is_within_bounds_too(spoilt: Callable[..., Path]) -> None:
    for number in (0, 10**9, "many", -1):
        folder = spoilt({"num_experts": number})
        with pytest.raises(AdapterError, match="no readable adapter_config"):
            list(read_modules(folder))
        shutil.rmtree(folder)


def test_an_adapter_that_is_whole_is_still_taken_in(adapters: dict[str, Path], run_folder: Path, whole: Path) -> None:
    before = load_file(adapters["lora"] / WEIGHTS)
    found = import_adapter([adapters["lora"]], run_folder, base=str(whole))
    assert found.config.method == "lora" and found.summary.base_problem is None
    assert all(
        torch.equal(before[name], weight) for name, weight in load_file(run_folder / "adapter" / WEIGHTS).items()
    )


# Options of ours


@pytest.mark.parametrize(
    "method", [name for name, method in METHODS.items() if "target_modules" in method.options.model_fields]
)
@pytest.mark.parametrize("targets", [[SLOW], ["(.*)*x"], ["q_proj|v_proj"], [""], ["q proj"], ["all-linear"], "q_proj"])
def test_targets_are_plain_names(method: str, targets: Any) -> None:
    with pytest.raises(UserError, match="target_modules"):
        parse_config({"method": method, "adapter": {"target_modules": targets}})
