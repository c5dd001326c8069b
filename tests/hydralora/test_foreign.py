"""Adapters from elsewhere: told apart, checked against their base, and the same model afterwards."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig
from safetensors.torch import load_file, save_file

from hydralora import limits
from hydralora.adapters.build import adapter_config, add_adapter, open_adapter
from hydralora.adapters.imports import check_again, describe_config, import_adapter
from hydralora.analysis.weights import compare_adapter
from hydralora.bases.folder import STARTER, name_base
from hydralora.errors import AdapterError, StoppedError, UserError
from hydralora.files import CONFIG, FACTS, WEIGHTS
from hydralora.methods import METHODS
from hydralora.progress import Progress
from tests.hydralora.conftest import DEVICE, make_llama, randomise
from tests.hydralora.test_authors import HEADS, theirs  # noqa: F401  (a fixture)

# One of each kind that can be told from its configuration; ThanoRA, MeTA-LoRA and LoRAHub save plain LoRAs.
OPTIONS: dict[str, dict[str, Any]] = {
    "hydralora": {"r": 2, "num_experts": 3, "router_input": "Ax"},
    "lora_moe": {"r": 2, "num_experts": 2, "balance_weight": 0.1},
    "lora_split": {"r": 2, "num_experts": 2, "combine": "sum"},
    "r_lora": {"r": 2, "num_experts": 2, "head_init_gamma": 32.0},
    "lora": {"r": 3, "lora_alpha": 6.0, "use_rslora": True},
    "adalora": {"target_r": 2, "init_r": 3},
    "ia3": {"target_modules": ["down_proj", "k_proj", "v_proj"]},
    "prompt_tuning": {"num_virtual_tokens": 3},
    "p_tuning": {"num_virtual_tokens": 3, "encoder_hidden_size": 8},
    "prefix_tuning": {"num_virtual_tokens": 3},
}
IDS = torch.tensor([[1, 9, 40, 7, 21, 5]])


@pytest.fixture
def made(load_tiny: Callable[[], Any], tmp_path: Path) -> Callable[..., Path]:
    """A trained-looking adapter of a method in a folder of its own."""

    def make(method: str = "lora", **options: Any) -> Path:
        model = randomise(add_adapter(load_tiny(), method, options or OPTIONS[method]))
        folder = tmp_path / f"{method}-made"
        model.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
        return folder

    return make


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def logits(base: Any, adapter: Path) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = open_adapter(base, adapter)(IDS.to(DEVICE)).logits
    return found


@pytest.mark.parametrize("method", OPTIONS)
def test_method_and_options_are_read_back_from_what_peft_saves(
    method: str, made: Callable[..., Path], run_folder: Path, base_folder: Path
) -> None:
    found = import_adapter([made(method)], run_folder, base=str(base_folder)).config
    wanted = METHODS[method].options(**OPTIONS[method]).model_dump()
    given = {name: value for name, value in found.adapter.model_dump().items() if name in OPTIONS[method]}
    assert found.method == method and given == {name: wanted[name] for name in OPTIONS[method]}


@pytest.mark.parametrize("method", ["hydralora", "lora", "adalora", "ia3", "prompt_tuning", "prefix_tuning"])
def test_an_imported_adapter_gives_the_logits_of_the_one_it_came_from(
    method: str, made: Callable[..., Path], run_folder: Path, base_folder: Path, load_tiny: Callable[[], Any]
) -> None:
    folder = made(method)
    before = logits(load_tiny(), folder)
    import_adapter([folder], run_folder, base=str(base_folder))
    assert torch.equal(logits(load_tiny(), run_folder / "adapter"), before)


def test_a_config_that_is_described_builds_the_same_config(load_tiny: Callable[[], Any]) -> None:
    for name, options in OPTIONS.items():
        first = adapter_config(load_tiny(), name, options)
        method, read = describe_config(first)
        assert describe_config(adapter_config(load_tiny(), method, read)) == (method, read)


def test_the_authors_adapter_is_converted(theirs: Path, run_folder: Path, base_folder: Path) -> None:  # noqa: F811
    found = import_adapter([theirs], run_folder, base=str(base_folder))
    assert found.config.method == "hydralora" and found.config.adapter.experts == HEADS
    assert found.summary.router > 0 and not (run_folder / "given").exists()


def test_parameters_are_counted_with_the_router_apart(
    made: Callable[..., Path], run_folder: Path, base_folder: Path
) -> None:
    folder = made("hydralora")
    weights = load_file(folder / WEIGHTS)
    router = sum(w.numel() for name, w in weights.items() if "router" in name)
    summary = import_adapter([folder], run_folder, base=str(base_folder)).summary
    adapter = sum(w.numel() for w in weights.values())
    assert summary.router == router and summary.trainable == adapter - router
    assert summary.total == adapter + sum(p.numel() for p in make_llama().parameters())


def test_a_zip_of_ours_keeps_the_method_that_only_we_know(
    made: Callable[..., Path], run_folder: Path, base_folder: Path, tmp_path: Path
) -> None:
    folder = made("lora")
    config = {"base": "elsewhere", "method": "thanora", "adapter": {"r": 3, "tasks": "label"}}
    (folder / FACTS).write_text(json.dumps({"config": config}), "utf-8")
    shutil.make_archive(str(tmp_path / "adapter"), "zip", folder)
    found = import_adapter([tmp_path / "adapter.zip"], run_folder, base=str(base_folder)).config
    assert (found.method, found.adapter.task_source, found.base) == ("thanora", "label", str(base_folder))


def test_an_adapter_for_a_wider_model_is_refused_with_the_layer_that_differs(
    made: Callable[..., Path], run_folder: Path, base_folder: Path
) -> None:
    folder = made("lora")
    weights = load_file(folder / WEIGHTS)
    name = next(key for key in weights if "layers.1.mlp.down_proj.lora_A" in key)
    save_file({**weights, name: torch.zeros(3, 96)}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match=r"down_proj.lora_A.weight is 3×96 in the file and 3×48 in that model"):
        import_adapter([folder], run_folder, base=str(base_folder))
    assert not (run_folder / "adapter").exists()


def test_an_adapter_for_a_deeper_model_is_refused(
    made: Callable[..., Path], run_folder: Path, base_folder: Path
) -> None:
    folder = made("lora")
    weights = load_file(folder / WEIGHTS)
    extra = {name.replace("layers.1.", "layers.7."): w.clone() for name, w in weights.items() if "layers.1." in name}
    save_file({**weights, **extra}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match=r"layers\.7\..* missing in that model"):
        import_adapter([folder], run_folder, base=str(base_folder))


def test_without_its_base_an_adapter_is_kept_and_its_matrices_can_be_read(
    made: Callable[..., Path], run_folder: Path
) -> None:
    summary = import_adapter([made("hydralora")], run_folder, base="nobody/has-this").summary
    assert "nobody/has-this" in summary.base_problem and summary.total is None
    assert len(compare_adapter(run_folder / "adapter")) == 14


def test_a_base_that_comes_later_is_found_and_the_adapter_never_moves(
    made: Callable[..., Path], run_folder: Path, base_folder: Path, tmp_path: Path
) -> None:
    later = tmp_path / "later"
    assert import_adapter([made("hydralora")], run_folder, base=str(later)).summary.base_problem
    weights = (run_folder / "adapter" / WEIGHTS).stat()
    shutil.copytree(base_folder, later)
    found = check_again(run_folder, str(later))
    assert found.summary.base_problem is None and found.summary.total > found.summary.trainable
    assert (run_folder / "adapter" / WEIGHTS).stat() == weights


def test_a_base_that_comes_later_and_does_not_fit_leaves_the_adapter(
    made: Callable[..., Path], run_folder: Path, tmp_path: Path
) -> None:
    import_adapter([made("lora")], run_folder, base=str(tmp_path / "later"))
    before = {path.name: path.read_bytes() for path in (run_folder / "adapter").iterdir()}
    make_llama(width=64).save_pretrained(tmp_path / "later")
    with pytest.raises(AdapterError, match="does not fit"):
        check_again(run_folder, str(tmp_path / "later"))
    assert {path.name: path.read_bytes() for path in (run_folder / "adapter").iterdir()} == before


def test_without_a_base_named_anywhere_it_is_asked_for(made: Callable[..., Path], run_folder: Path) -> None:
    folder = made("lora")
    values = json.loads((folder / CONFIG).read_text("utf-8"))
    (folder / CONFIG).write_text(json.dumps({**values, "base_model_name_or_path": None}), "utf-8")
    with pytest.raises(AdapterError, match="does not name its base"):
        import_adapter([folder], run_folder)


def test_pickled_weights_are_refused_unopened(made: Callable[..., Path], run_folder: Path) -> None:
    folder = made("lora")
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match=r"adapter_model\.bin is pickled"):
        import_adapter([folder], run_folder, base="starter")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"peft_type": "NEWEST"}, "'NEWEST', which PEFT does not know"),
        ({"peft_type": "LOHA"}, "kind LOHA are not known here"),
        ({"r": 0}, "`r`: input should be greater than or equal to 1, got 0"),
        ({"lora_alpha": "many"}, "not one that PEFT can use|does not fit|number"),
        ({"rank_pattern": {"(a+)+$": 4}}, r"`rank_pattern` holds '\(a\+\)\+\$', which names no layer"),
        ({"init_lora_weights": "pissa"}, "`init_lora_weights` is 'pissa', which changes the base's own weights"),
        ({"bias": "all"}, "biases of the base were trained too"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "`layer_replication` is set"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_with_its_value(
    change: dict[str, Any], sentence: str, made: Callable[..., Path], run_folder: Path, base_folder: Path
) -> None:
    folder = made("lora")
    values = json.loads((folder / CONFIG).read_text("utf-8"))
    (folder / CONFIG).write_text(json.dumps({**values, **change}), "utf-8")
    with pytest.raises(UserError, match=sentence):
        import_adapter([folder], run_folder, base=str(base_folder))


def test_a_config_cannot_have_a_module_imported(made: Callable[..., Path], run_folder: Path, base_folder: Path) -> None:
    folder = made("lora")
    values = json.loads((folder / CONFIG).read_text("utf-8"))
    hostile = {
        "megatron_config": {"a": 1},
        "megatron_core": "this_is_not_there",
        "auto_mapping": {"parent_library": "this_is_not_there", "base_model_class": "X"},
    }
    (folder / CONFIG).write_text(json.dumps({**values, **hostile}), "utf-8")
    import_adapter([folder], run_folder, base=str(base_folder))
    kept = PeftConfig.from_pretrained(str(run_folder / "adapter"))
    assert kept.megatron_config is None and kept.auto_mapping is None


def test_a_pattern_of_a_stranger_is_never_matched(
    made: Callable[..., Path], run_folder: Path, base_folder: Path
) -> None:
    folder = made("lora")
    values = json.loads((folder / CONFIG).read_text("utf-8"))
    for name in ("target_modules", "exclude_modules"):
        values[name] = "([a-z._0-9]+)+#"  # takes for ever on a long name
    (folder / CONFIG).write_text(json.dumps(values), "utf-8")
    import_adapter([folder], run_folder, base=str(base_folder))
    kept = PeftConfig.from_pretrained(str(run_folder / "adapter"))
    assert kept.exclude_modules is None and len(kept.target_modules) == 14


def test_weights_of_the_base_itself_are_refused(made: Callable[..., Path], run_folder: Path, base_folder: Path) -> None:
    folder = made("lora")
    name = "base_model.model.model.embed_tokens.weight"
    save_file({**load_file(folder / WEIGHTS), name: torch.zeros(320, 32)}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match=r"embed_tokens\.weight, a weight of the base itself"):
        import_adapter([folder], run_folder, base=str(base_folder))


def test_importing_leaves_the_base_as_it_is(
    made: Callable[..., Path], run_folder: Path, base_folder: Path, load_tiny: Callable[[], Any]
) -> None:
    import_adapter([made("lora")], run_folder, base=str(base_folder))
    before = {name: weight.clone() for name, weight in load_tiny().state_dict().items()}
    base = load_tiny()
    open_adapter(base, run_folder / "adapter").unload()
    assert all(torch.equal(base.state_dict()[name], weight) for name, weight in before.items())


def test_an_adapter_of_ours_names_its_own_base(made: Callable[..., Path], run_folder: Path, base_folder: Path) -> None:
    folder = made("lora")  # whose configuration names the folder that the base had elsewhere
    values = json.loads((folder / CONFIG).read_text("utf-8"))
    (folder / CONFIG).write_text(json.dumps({**values, "base_model_name_or_path": "/elsewhere/base"}), "utf-8")
    config = {"base": str(base_folder), "method": "lora", "adapter": {"r": 3}}
    (folder / FACTS).write_text(json.dumps({"config": config}), "utf-8")
    assert import_adapter([folder], run_folder).config.base == str(base_folder)


def test_the_folder_of_the_starter_is_the_starter() -> None:
    assert name_base(str(STARTER)) == "starter"


@pytest.mark.parametrize("text", ["[" * 100_000, "[1, 2]", "{", "\ud800".encode("utf-8", "surrogatepass")])
def test_a_config_that_is_no_json_object_is_refused(
    text: str | bytes, made: Callable[..., Path], run_folder: Path
) -> None:
    folder = made("lora")
    (folder / CONFIG).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AdapterError, match=CONFIG):
        import_adapter([folder], run_folder, base="starter")


def test_names_in_an_archive_are_never_paths(
    made: Callable[..., Path], run_folder: Path, base_folder: Path, tmp_path: Path
) -> None:
    folder = made("lora")
    archive = tmp_path / "hostile.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in (CONFIG, WEIGHTS):
            file.write(folder / name, f"../../../{name}")
        file.writestr("../escaped.txt", "out")
    import_adapter([archive], run_folder, base=str(base_folder))
    assert not list(tmp_path.rglob("escaped.txt"))
    assert {path.name for path in (run_folder / "adapter").iterdir()} == {CONFIG, WEIGHTS, FACTS}


def test_an_archive_that_unpacks_to_more_than_allowed_is_refused(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_WEIGHTS_BYTES", 2**20)
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(WEIGHTS, bytes(2**21))
    with pytest.raises(AdapterError, match="larger than 1 MiB"):
        import_adapter([archive], run_folder, base="starter")


def test_two_adapters_at_once_are_refused(made: Callable[..., Path], run_folder: Path) -> None:
    with pytest.raises(AdapterError, match="several files called"):
        import_adapter([made("lora"), made("hydralora")], run_folder, base="starter")


@pytest.mark.parametrize("broken", [b"PK\x03\x04 no archive", b""])
def test_a_damaged_archive_is_refused(broken: bytes, run_folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "broken.zip"
    archive.write_bytes(broken)
    with pytest.raises(AdapterError, match="cannot be read"):
        import_adapter([archive], run_folder, base="starter")


def test_a_truncated_weights_file_is_refused(made: Callable[..., Path], run_folder: Path) -> None:
    folder = made("lora")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])
    with pytest.raises(AdapterError, match="damaged"):
        import_adapter([folder], run_folder, base="starter")


def test_a_stopped_import_keeps_no_adapter(made: Callable[..., Path], run_folder: Path) -> None:
    with pytest.raises(StoppedError):
        import_adapter([made("lora")], run_folder, base="starter", progress=Progress(should_stop=lambda: True))
    assert not list(run_folder.iterdir())


def test_a_full_disk_is_told_before_it_is_full(
    made: Callable[..., Path], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SPARE_DISK_BYTES", 2**62)
    with pytest.raises(AdapterError, match="The disk has no room"):
        import_adapter([made("lora")], run_folder, base="starter")
    assert not list(run_folder.iterdir())


def test_an_archive_damaged_in_the_middle_is_refused(
    made: Callable[..., Path], run_folder: Path, tmp_path: Path
) -> None:
    folder, archive = made("lora"), tmp_path / "damaged.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in (CONFIG, WEIGHTS):
            file.write(folder / name, name)
    content = bytearray(archive.read_bytes())
    content[2_000:2_400] = bytes(400)
    archive.write_bytes(bytes(content))
    with pytest.raises(AdapterError, match="cannot be read"):
        import_adapter([archive], run_folder, base="starter")


def test_a_second_try_after_a_kill_begins_anew(made: Callable[..., Path], run_folder: Path, base_folder: Path) -> None:
    for left in ("given", "adapter.part"):  # as a killed process leaves them
        (run_folder / left).mkdir()
        (run_folder / left / WEIGHTS).write_bytes(b"half")
    import_adapter([made("lora")], run_folder, base=str(base_folder))
    assert sorted(path.name for path in run_folder.iterdir()) == ["adapter"]
