"""An adapter that was trained elsewhere, taken in as if it had been trained here.

Known are PEFT's own adapters of the methods in ``METHODS``, ours, and those of the authors' HydraLoRA code
(``authors.py``). Whether an adapter fits its base is told from names and shapes alone, on a model without
weights, so a large base is never loaded for it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model, get_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from transformers import AutoModelForCausalLM

from hydralora.adapters.authors import KEY, import_authors_adapter
from hydralora.adapters.files import Shapes, gather, read_shapes
from hydralora.adapters.schema import read_settings
from hydralora.bases.folder import name_base, shown_base
from hydralora.bases.load import read_config
from hydralora.checked_json import read_object
from hydralora.config import RunConfig, parse_config
from hydralora.errors import AdapterError, BaseModelError, UserError, first_line
from hydralora.files import CONFIG, FACTS, WEIGHTS, remove, written_aside
from hydralora.methods import METHODS
from hydralora.model_bounds import MOST_HEADS_OF_ADAPTER, MOST_NAME
from hydralora.progress import SILENT, Progress
from hydralora.results import AdapterFacts, RunSummary
from hydralora.tuner.config import HydraLoraConfig

# Fields by which PEFT would import a module that the file names.
UNSAFE = ("auto_mapping", "megatron_config", "megatron_core")
# Fields that change the base itself, or need more than the adapter's own files.
REFUSED = (
    "layer_replication",
    "target_parameters",
    "arrow_config",
    "kasa_config",
    "use_bdlora",
    "loftq_config",
    "corda_config",
    "lora_ga_config",
    "velora_config",
    "monteclora_config",
)
PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")  # `init_lora_weights` that leave the base as it is
MODULE = re.compile(r"^(?:base_model\.model\.)?(.+?)\.(?:hydralora_|lora_|ia3_)")
WRONG = (
    TypeError,
    ValueError,
    AttributeError,
    KeyError,
    IndexError,
    ArithmeticError,
    RuntimeError,
    RecursionError,
)  # what PEFT makes of odd values

FindBase = Callable[[str], str]
FINGERPRINT = re.compile(r"[0-9a-f]{16}")
MOST_FACTS = 4 * 2**20  # bytes of run.json


def import_adapter(
    files: list[Path],
    run_folder: Path,
    *,
    base: str | None = None,
    find: FindBase = name_base,
    progress: Progress = SILENT,
) -> AdapterFacts:
    """Take in the adapter in ``files`` and keep it in ``run_folder/adapter``.

    Args:
        files: ``adapter_config.json`` and ``adapter_model.safetensors``, one zip archive that holds them, or one
            folder; anything else in there is left alone.
        base: The base model it was made for; without it the one that the adapter names.
        find: Gives the base that a name means, and refuses those that may not be used; the name may be a stranger's.

    Returns:
        What ``run.json`` holds: among it ``config`` as a run keeps it, and ``summary.base_problem``, why the base is
        not there, where it is not.

    Raises:
        AdapterError: When the files are missing, pickled, damaged, of an unknown kind, or do not fit the base.
    """
    given = run_folder / "given"
    remove(given)
    try:
        with written_aside(run_folder / "adapter") as aside:
            progress.report(0.0, "Reading the files")
            gather(files, given, progress)
            if is_authors(given):
                import_authors_adapter(given, aside)
            else:
                os.replace(given, aside)
            progress.report(0.6, "Checking the adapter")
            facts, peft_config = describe_adapter(aside, base, find)
            peft_config.save_pretrained(str(aside))
            return facts.write(aside)
    finally:
        remove(given)


def check_again(run_folder: Path, base: str, find: FindBase = name_base) -> AdapterFacts:
    """Compare an imported adapter with its base once more, when that was not there before; gives what an import gives.

    Only ``run.json`` is written, so an adapter is not lost however this ends.

    Raises:
        AdapterError: When it does not fit.
    """
    adapter = run_folder / "adapter"
    facts, _ = describe_adapter(adapter, base, find)
    return facts.write(adapter)


def describe_adapter(folder: Path, base: str | None, find: FindBase = name_base) -> tuple[AdapterFacts, PeftConfig]:
    """What is known of the adapter in ``folder``, as ``run.json`` keeps it, and its configuration made safe.

    Raises:
        AdapterError: When it is of an unknown kind or does not fit its base.
    """
    shapes, stated = read_shapes(folder / WEIGHTS), read_facts(folder)
    peft_config = read_peft_config(folder)
    method, options = describe_config(peft_config)
    modules = pin_modules(peft_config, shapes)
    if "target_modules" in options and not options["target_modules"]:  # none was named, or they were patterns
        options["target_modules"] = sorted({name.rpartition(".")[2] for name in modules}) or None
    named = base or stated.get("config", {}).get("base") or peft_config.base_model_name_or_path
    if not isinstance(named, str) or not named:
        raise AdapterError(f"{CONFIG} does not name its base model. Say which one it was trained on.")
    problem, total = None, None
    try:
        named = find(named)
        total = check_fit(named, peft_config, shapes)
    except BaseModelError as error:
        problem = str(error)
    config = _config_of(stated, method, options, named)
    router = sum(math.prod(shape) for name, shape in shapes.items() if "router" in name)
    weights = sum(math.prod(shape) for name, shape in shapes.items() if ".hydralora_start." not in name)
    summary = RunSummary(
        imported=True,
        trainable=weights - router,
        router=router,
        total=total,
        base_problem=problem,
        held_out_loss=None,
    )
    facts = AdapterFacts(
        config=config,
        base_fingerprint=stated.get("base_fingerprint"),
        summary=summary,
        tasks=stated.get("tasks"),
    )
    return facts, peft_config


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
        values = read_settings(path)
    except (ValueError, OSError) as error:
        raise AdapterError(f"{CONFIG} {error}. Save the adapter again.") from error
    kind = PEFT_TYPE_TO_CONFIG_MAPPING.get(str(values.get("peft_type")))
    if kind is None:
        raise AdapterError(f"{CONFIG} says `peft_type` {values.get('peft_type')!r}, which PEFT does not know.")
    check_base_is_left_alone(values)
    names = {item.name for item in fields(kind) if item.init}
    kept = {name: value for name, value in values.items() if name in names and name not in UNSAFE}
    if "init_lora_weights" in kept:
        kept["init_lora_weights"] = True  # the weights are there; nothing is to be started from the base's
    try:
        found: PeftConfig = kind(**{**kept, "inference_mode": True})
    except (*WRONG, UserError) as error:
        raise AdapterError(f"{CONFIG} is not one that PEFT can use: {first_line(error)}.") from error
    return found


def check_base_is_left_alone(values: dict[str, Any]) -> None:
    """Refuse adapters that change the base's own weights: it is shared by every adapter in the model server.

    Raises:
        AdapterError: Naming the field and its value.
    """
    start = values.get("init_lora_weights", True)
    if not any(start is plain or start == plain for plain in PLAIN_STARTS):
        raise AdapterError(
            f"`init_lora_weights` is {start!r}, which changes the base's own weights when the adapter "
            f"is loaded. Convert it "
            "to a plain LoRA first (PEFT: `save_pretrained(..., path_initial_model_for_weight_conversion=...)`)."
        )
    if values.get("bias", "none") != "none":
        raise AdapterError(
            f"`bias` is {values['bias']!r}: biases of the base were trained too. Only adapters are taken in."
        )
    used = next((name for name in REFUSED if values.get(name)), None)
    if used is not None:
        raise AdapterError(
            f"`{used}` is set in {CONFIG}. Adapters that use it are not taken in; merge or convert it first."
        )


def pin_modules(config: PeftConfig, shapes: Shapes) -> list[str]:
    """Name the adapted layers one by one, as the weights have them, and give them: patterns are never matched.

    Raises:
        AdapterError: When the weights hold no adapted layer, though adapters of this kind have some.
    """
    modules = sorted({found[1] for name in shapes if (found := MODULE.match(name))})
    if not hasattr(config, "target_modules"):
        return []
    if not modules:
        raise AdapterError(
            f"{WEIGHTS} holds no weights of adapted layers ({', '.join(list(shapes)[:3])}). Save it again."
        )
    config.target_modules = set(modules)
    inner = getattr(config, "feedforward_modules", None)
    if inner is not None:  # IA3 scales what goes into these; PEFT wants them named as the targets are
        ends_with = () if isinstance(inner, str) else tuple(inner)
        config.feedforward_modules = {name for name in modules if name == inner or name.endswith(ends_with)}
    ends = {name[start:] for name in modules for start in _starts(name)}
    for field in ("rank_pattern", "alpha_pattern"):
        pattern = getattr(config, field, None)
        if pattern:  # what fits no layer would only be tried on each
            setattr(config, field, {name: value for name, value in pattern.items() if name in ends})
    return modules


def _starts(name: str) -> list[int]:
    """Where a part of a dotted name begins."""
    return [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]


def describe_config(config: PeftConfig) -> tuple[str, dict[str, Any]]:
    """Method and options that stand for a PEFT configuration: what ``adapter_config`` does, the other way round.

    Raises:
        AdapterError: When no method of ours is of its kind.
    """
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    if isinstance(config, HydraLoraConfig):
        method = _method_of_heads(config)
    elif kind in KINDS:
        method = KINDS[kind]
    else:
        raise AdapterError(
            f"Adapters of the kind {kind} are not known here. Known are: {', '.join(['HYDRALORA', *KINDS])}."
        )
    options = {name: getattr(config, name) for name in METHODS[method].options.model_fields if hasattr(config, name)}
    if "target_modules" in options:
        targets = options["target_modules"]
        options["target_modules"] = (
            sorted(targets) if isinstance(targets, (set, list)) else [str(targets)] if targets else None
        )
    return method, options


# The method that stands for an adapter of a PEFT type; several train one as well.
KINDS = {
    "LORA": "lora",
    "ADALORA": "adalora",
    "IA3": "ia3",
    "PROMPT_TUNING": "prompt_tuning",
    "P_TUNING": "p_tuning",
    "PREFIX_TUNING": "prefix_tuning",
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
        values = read_object(path, MOST_FACTS)
        tasks = values.get("tasks") if values.get("config", {}).get("method") == "lora_split" else None
        names = tasks if isinstance(tasks, list) and len(tasks) <= MOST_HEADS_OF_ADAPTER else [None]
        named = all(isinstance(name, str) and len(name) <= MOST_NAME for name in names)
        mark = values.get("base_fingerprint")
        known = mark if isinstance(mark, str) and FINGERPRINT.fullmatch(mark) else None
        return {"config": dict(values["config"]), "base_fingerprint": known, "tasks": tasks if named else None}
    except (*WRONG, OSError) as error:
        raise AdapterError(f"{FACTS} beside the adapter cannot be used ({error}). Leave it out.") from error


def _config_of(stated: dict[str, Any], method: str, options: dict[str, Any], base: str) -> RunConfig:
    """The run's configuration: what a run of ours says of itself, else what PEFT's configuration tells."""
    if not stated:
        return parse_config({"base": base, "method": method, "adapter": options})
    try:
        return parse_config({**stated["config"], "base": base})
    except UserError as error:
        raise AdapterError(f"{FACTS} beside the adapter cannot be used: {error} Leave it out.") from error


def check_fit(base: str, config: PeftConfig, shapes: Shapes) -> int:
    """Compare names and shapes with the base's; gives the number of parameters of both together.

    Raises:
        BaseModelError: When the base cannot be found.
        AdapterError: Naming the first layer that is missing or differs.
    """
    shown = shown_base(base)
    try:
        model_config = read_config(base)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(model_config, trust_remote_code=False)
    except BaseModelError:
        raise
    except (OSError, *WRONG) as error:
        raise BaseModelError(f"Base model '{shown}' cannot be read: {first_line(error)}.") from error
    try:
        with torch.device("meta"):  # trained prompts too are as large as the file says
            adapted = get_peft_model(model, config, low_cpu_mem_usage=True)
    except WRONG as error:
        raise AdapterError(f"The adapter does not fit '{shown}': {first_line(error)}.") from error
    wanted = {name: tuple(weight.shape) for name, weight in get_peft_model_state_dict(adapted).items()}
    for name in [*wanted, *shapes]:
        if name not in wanted and not MODULE.match(name):
            raise AdapterError(
                f"The file also holds {name}, a weight of the base itself, which would change the base for everybody. "
                "Save the adapter without it (PEFT: `save_embedding_layers=False`)."
            )
        if wanted.get(name) != shapes.get(name):
            raise AdapterError(
                f"The adapter does not fit '{shown}': {name} is {_shape(shapes.get(name))} in the file and "
                f"{_shape(wanted.get(name))} in that model. Name the base it was trained on."
            )
    return sum(weight.numel() for name, weight in adapted.named_parameters() if ".original_module." not in name)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "×".join(str(size) for size in shape)
