"""An adapter that was trained elsewhere, taken in as if it had been trained here.

Known are PEFT's own adapters of the methods in ``METHODS``, ours, and those of the authors' HydraLoRA code
(``authors.py``). Whether an adapter fits its base is told from names and shapes alone, on a model without
weights, so a large base is never loaded for it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model, get_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from hydralora.adapt import HYDRA_NAMES
from hydralora.authors import KEY, import_authors_adapter
from hydralora.base_folder import find_base
from hydralora.checkpoints import write_json
from hydralora.config import RunConfig, parse_config
from hydralora.errors import AdapterError, BaseModelError, StoppedError, UserError
from hydralora.hydra_config import HydraLoraConfig
from hydralora.methods import METHODS

CONFIG, WEIGHTS, FACTS = "adapter_config.json", "adapter_model.safetensors", "run.json"
MOST_JSON = 4 * 2**20  # bytes of a configuration
MOST_WEIGHTS = 64 * 2**30  # bytes of weights
PIECE = 2**22  # bytes copied at once
# Fields by which PEFT would import a module that the file names.
UNSAFE = ("auto_mapping", "megatron_config", "megatron_core")

Shapes = dict[str, tuple[int, ...]]
Report = Callable[[float, str], None]


def import_adapter(
    files: list[Path], run_folder: Path, *, base: str | None = None,
    report: Report = lambda share, text: None, should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:  # fmt: skip
    """Take in the adapter in ``files`` and keep it in ``run_folder/adapter``.

    Args:
        files: ``adapter_config.json`` and ``adapter_model.safetensors``, one zip archive that holds them, or one
            folder; anything else in there is left alone.
        base: The base model it was made for; without it the one that the adapter names.

    Returns:
        ``config`` as a run keeps it, and ``summary``: parameters, adapted layers, and in ``base_problem`` why the
        base is not there, where it is not.

    Raises:
        AdapterError: When the files are missing, pickled, damaged, of an unknown kind, or do not fit the base.
    """
    given, aside = run_folder / "given", run_folder / "adapter.part"
    for folder in (given, aside):
        shutil.rmtree(folder, ignore_errors=True)
    report(0.0, "Reading the files")
    gather(files, given, should_stop)
    if is_authors(given):
        import_authors_adapter(given, aside)
        shutil.rmtree(given)
    else:
        os.replace(given, aside)
    report(0.6, "Checking the adapter")
    shapes = read_shapes(aside / WEIGHTS)
    peft_config = read_peft_config(aside)
    method, options = describe_config(peft_config)
    named = base or peft_config.base_model_name_or_path or ""
    if not named:
        raise AdapterError(f"{CONFIG} does not name its base model. Say which one it was trained on.")
    stated = read_facts(aside)
    config = _config_of(stated, method, options, named)
    problem, total = None, None
    try:
        report(0.7, f"Comparing it with {named}")
        total = check_fit(named, aside, peft_config, shapes)
    except BaseModelError as error:
        problem = str(error)
    router = sum(math.prod(shape) for name, shape in shapes.items() if "router" in name)
    weights = sum(math.prod(shape) for shape in shapes.values())
    summary = {
        "imported": True, "trainable": weights - router, "router": router, "total": total,
        "base_problem": problem, "held_out_loss": None,
    }  # fmt: skip
    facts = {"config": config.model_dump(), "base_fingerprint": stated.get("base_fingerprint"), "summary": summary}
    write_json(aside / FACTS, facts)
    adapter = run_folder / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)
    os.replace(aside, adapter)
    return {"config": config.model_dump(), "summary": summary}


def gather(files: list[Path], folder: Path, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Copy the files of an adapter, and nothing else, into an empty ``folder``.

    Raises:
        AdapterError: When the weights are missing, pickled or too large, or an archive is damaged.
    """
    folder.mkdir(parents=True)
    listed = [path for file in files for path in (sorted(file.rglob("*")) if file.is_dir() else [file])]
    seen: list[str] = []
    for path in listed:
        if path.suffix.lower() == ".zip":
            _unpack(path, folder, seen, should_stop)
        elif path.is_file():
            seen.append(path.name)
            if path.name in (CONFIG, WEIGHTS, FACTS):
                with path.open("rb") as source:
                    _keep(source, folder / path.name, should_stop)
    if not (folder / WEIGHTS).exists():
        pickled = sorted(name for name in seen if name.endswith((".bin", ".pt", ".pth")))
        if pickled:
            raise AdapterError(
                f"{pickled[0]} is pickled, and pickled weights are never read: they can run code. Save the adapter "
                "as safetensors (PEFT: `save_pretrained(..., safe_serialization=True)`)."
            )
        raise AdapterError(f"There is no {WEIGHTS} among the files. Give it and {CONFIG}, or a zip of both.")


def _unpack(path: Path, folder: Path, seen: list[str], should_stop: Callable[[], bool]) -> None:
    """The adapter's files of an archive; names in it are compared, never used as paths."""
    try:
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                name = item.filename.rpartition("/")[2]
                seen.append(name)
                if name in (CONFIG, WEIGHTS, FACTS):
                    with archive.open(item) as source:
                        _keep(source, folder / name, should_stop)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise AdapterError(f"The archive cannot be read ({error}). Pack it again without a password.") from error


def _keep(source: Any, target: Path, should_stop: Callable[[], bool]) -> None:
    if target.exists():
        raise AdapterError(f"There are several files called {target.name}. Give one adapter at a time.")
    most = MOST_WEIGHTS if target.name == WEIGHTS else MOST_JSON
    size = 0
    with target.open("wb") as file:
        while piece := source.read(PIECE):
            size += len(piece)
            if size > most:
                raise AdapterError(f"{target.name} is larger than {most // 2**20:,} MiB. That is no adapter.")
            if should_stop():
                raise StoppedError("The import was stopped; nothing was kept.")
            file.write(piece)


def read_shapes(path: Path) -> Shapes:
    """Shapes by name, from the head of a safetensors file.

    Raises:
        AdapterError: When it is damaged or empty.
    """
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path.name} is damaged ({error}). Copy it again.") from error
    if not found:
        raise AdapterError(f"{path.name} is empty. Save the adapter again.")
    return found


def is_authors(folder: Path) -> bool:
    """Whether the weights are named as the authors' HydraLoRA code names them (``lora_B0``, ``lora_route``)."""
    found = [match for name in read_shapes(folder / WEIGHTS) if (match := KEY.match(name))]
    return any(match["head"] is not None or match["part"] == "route" for match in found)


def read_peft_config(folder: Path) -> PeftConfig:
    """The adapter's configuration, without the fields by which a file could have modules imported.

    Raises:
        AdapterError: When it is missing, unreadable or of a kind nobody knows.
    """
    path = folder / CONFIG
    if not path.exists():
        raise AdapterError(
            f"There is no {CONFIG} among the files. It says how the weights are to be used; give it too."
        )
    try:
        values = dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise AdapterError(f"{CONFIG} is not valid JSON ({error}). Save the adapter again.") from error
    kind = PEFT_TYPE_TO_CONFIG_MAPPING.get(str(values.get("peft_type")))
    if kind is None:
        raise AdapterError(f"{CONFIG} says `peft_type` {values.get('peft_type')!r}, which PEFT does not know.")
    names = {item.name for item in fields(kind) if item.init}
    kept = {name: value for name, value in values.items() if name in names and name not in UNSAFE}
    try:
        found: PeftConfig = kind(**{**kept, "inference_mode": True})
    except (TypeError, ValueError, AttributeError, UserError) as error:
        raise AdapterError(f"{CONFIG} is not one that PEFT can use: {error}") from error
    found.save_pretrained(str(folder))
    return found


def describe_config(config: PeftConfig) -> tuple[str, dict[str, Any]]:
    """Method and options that stand for a PEFT configuration: what ``adapter_config`` does, the other way round.

    Raises:
        AdapterError: When no method of ours is of its kind.
    """
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if isinstance(config, HydraLoraConfig):
        method, names = _method_of_heads(config), HYDRA_NAMES
    elif kind in KINDS:
        method, names = KINDS[kind]
    else:
        raise AdapterError(
            f"Adapters of the kind {kind} are not known here. Known are: {', '.join(['HYDRALORA', *KINDS])}."
        )
    known = METHODS[method].options.model_fields
    options = {name: getattr(config, source) for name, source in names.items() if name in known}
    if "targets" in options:
        targets = options["targets"]
        options["targets"] = (
            sorted(targets) if isinstance(targets, (set, list)) else [str(targets)] if targets else None
        )
    return method, options


LORA_NAMES = {"rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout", "targets": "target_modules",
              "use_rslora": "use_rslora"}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "LORA": ("lora", LORA_NAMES),
    "ADALORA": ("adalora", {**LORA_NAMES, "rank": "target_r", "initial_rank": "init_r"}),
    "IA3": ("ia3", {"targets": "target_modules"}),
    "PROMPT_TUNING": ("prompt_tuning", {"virtual_tokens": "num_virtual_tokens"}),
    "P_TUNING": ("p_tuning", {"virtual_tokens": "num_virtual_tokens", "encoder_width": "encoder_hidden_size"}),
    "PREFIX_TUNING": ("prefix_tuning", {"virtual_tokens": "num_virtual_tokens"}),
}


def _method_of_heads(config: HydraLoraConfig) -> str:
    if not config.shared_a:
        return "lora_moe" if config.combine == "router" else "lora_split"
    if config.head_mask:
        return "lope"
    return "r_lora" if config.dropout_place == "heads" else "hydralora"


def read_facts(folder: Path) -> dict[str, Any]:
    """What a run of ours has written beside its adapter; empty for any other.

    Raises:
        AdapterError: When the file cannot be used.
    """
    path = folder / FACTS
    if not path.exists():
        return {}
    try:
        values = dict(json.loads(path.read_text("utf-8")))
        return {"config": dict(values["config"]), "base_fingerprint": values.get("base_fingerprint")}
    except (ValueError, TypeError, KeyError) as error:
        raise AdapterError(f"{FACTS} beside the adapter cannot be used ({error}). Leave it out.") from error


def _config_of(stated: dict[str, Any], method: str, options: dict[str, Any], base: str) -> RunConfig:
    """The run's configuration: what a run of ours says of itself, else what PEFT's configuration tells."""
    if not stated:
        return parse_config({"base": base, "method": method, "adapter": options})
    try:
        return parse_config({**stated["config"], "base": base})
    except UserError as error:
        raise AdapterError(f"{FACTS} beside the adapter cannot be used: {error} Leave it out.") from error


def check_fit(base: str, adapter: Path, config: PeftConfig, shapes: Shapes) -> int:
    """Compare names and shapes with the base's; gives the number of parameters of both together.

    Raises:
        BaseModelError: When the base cannot be found.
        AdapterError: Naming the first layer that is missing or differs.
    """
    try:
        model_config = AutoConfig.from_pretrained(find_base(base), trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(model_config, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise BaseModelError(f"Base model '{base}' cannot be read: {line}") from error
    try:
        adapted = get_peft_model(model, config, low_cpu_mem_usage=True)
    except (ValueError, RuntimeError, TypeError, KeyError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise AdapterError(f"The adapter of {adapter.parent.name} does not fit '{base}': {line}") from error
    wanted = {name: tuple(weight.shape) for name, weight in get_peft_model_state_dict(adapted).items()}
    for name in [*wanted, *shapes]:
        if wanted.get(name) != shapes.get(name) and not _is_extra(name, wanted):
            raise AdapterError(
                f"The adapter does not fit '{base}': {name} is {_shape(shapes.get(name))} in the file and "
                f"{_shape(wanted.get(name))} in that model. Name the base it was trained on."
            )
    return sum(weight.numel() for name, weight in adapted.named_parameters() if ".original_module." not in name)


def _is_extra(name: str, wanted: Shapes) -> bool:
    """Embeddings that PEFT may have saved beside the adapter."""
    return name not in wanted and ("embed" in name or "lm_head" in name)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "×".join(str(size) for size in shape)
