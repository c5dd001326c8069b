"""Take an adapter elsewhere: plain LoRAs that stock PEFT loads, each with its measured gap; or the merged model.

A routed layer adds ``s sum_i g_i(x) B_i A x``. Replacing the gates of every layer by constants gives a plain
LoRA: with one A, ``B = s sum_i g_i B_i`` of the same rank; with an A for each head, the heads side by side,
``B = s [g_1 B_1 | ... | g_N B_N]``, rank N r. The scaling is folded into B, so ``lora_alpha = r``.

- ``uniform``: ``g_i = 1 / N``;
- ``mean_gate``: the mean gates of each layer over the tokens of training examples;
- ``cluster``: the same for each task (cluster or label) apart, one LoRA for each; hard LoRA-Split gives
  each task's own head, which is exact;
- ``merged``: the whole model with the adapter in its weights, only where that is exact.

The gap is measured on held-out examples: mean loss per answer token, and mean ``KL(live || exported)`` of the
next-token distributions at answer tokens, both in nats; the base is measured beside them as a yardstick.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import save_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from hydralora.adapt import open_adapter
from hydralora.base import load_base, read_adapter_facts
from hydralora.checkpoints import WEIGHTS, write_json
from hydralora.corpus import Corpus, split_examples
from hydralora.errors import AdapterError, StoppedError
from hydralora.gaps import Gap, measure_gaps, share_weights
from hydralora.gates import GateCapture, override_experts
from hydralora.groups import Placed, Tasks, read_tasks
from hydralora.layer import HydraLoraLinear
from hydralora.methods import EXPORTS, METHODS
from hydralora.prompt import encode_example
from hydralora.trainer import Collator

MAX_CALIBRATION = 256  # training examples whose gates are averaged
MAX_MEASURED = 128  # held-out examples on which gaps are measured
BATCH = 8
RESULT = "export.json"

Gates = dict[str, list[float]]  # constant gate weights by layer name, N each


def check_how(how: str) -> None:
    """Refuse an unknown way of exporting.

    Raises:
        AdapterError: Naming the ways there are.
    """
    if how not in EXPORTS:
        raise AdapterError(f"`how` must be one of {', '.join(EXPORTS)}, got '{how}'.")


def export_lora(model: Any, folder: Path, gates: Gates) -> None:
    """Save the active routed adapter of ``model`` as a plain LoRA with constant gates.

    Raises:
        AdapterError: When the adapter is none of ours, or trains whole layers too.
    """
    layers = [module for module in model.modules() if isinstance(module, HydraLoraLinear)]
    if not layers:
        raise AdapterError("This adapter has no heads to average. Use its own files, or export it `merged`.")
    name = model.active_adapters[0]
    if model.peft_config[name].modules_to_save:
        raise AdapterError("This adapter also trains whole layers (`modules_to_save`), which a plain LoRA cannot hold.")
    weights, ranks = {}, {}
    for layer in layers:
        a, b = plain_factors(layer, name, gates[layer.name])
        stem = f"base_model.model.{layer.name}"
        weights[f"{stem}.lora_A.weight"], weights[f"{stem}.lora_B.weight"] = a.contiguous().cpu(), b.contiguous().cpu()
        ranks[layer.name] = a.shape[0]
    rank = max(ranks.values())
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    other = {layer: r for layer, r in ranks.items() if r != rank}
    LoraConfig(
        r=rank, lora_alpha=rank, target_modules=list(ranks), rank_pattern=other, alpha_pattern=other,
        lora_dropout=0.0, task_type="CAUSAL_LM", inference_mode=True,
        fan_in_fan_out=isinstance(layers[0].get_base_layer(), Conv1D),
        base_model_name_or_path=model.peft_config[name].base_model_name_or_path,
    ).save_pretrained(folder)  # fmt: skip


@torch.no_grad()
def plain_factors(layer: HydraLoraLinear, name: str, gates: list[float]) -> tuple[Tensor, Tensor]:
    """A ``(r', in)`` and B ``(out, r')`` with ``B A = s sum_i gates_i B_i A_i``; r' is r, or N r where A's differ."""
    count, rank, scale = layer.num_experts[name], layer.r[name], layer.scaling[name]
    a, b = layer.hydralora_A[name].weight.detach(), layer.hydralora_B[name].weight.detach()
    share = torch.tensor(gates, dtype=torch.float64, device=b.device) * scale
    heads = b.double().view(-1, count, rank) * share[:, None]  # (out, N, r)
    plain = heads.sum(1) if layer.options[name].shared_a else heads.flatten(1)
    return a, plain.to(b.dtype)


def masked(layer: HydraLoraLinear, name: str, gates: list[float]) -> list[float]:
    """Gates with heads that are silent at inference at zero, the others adding up to what they all did."""
    silent = set(layer.options[name].head_mask or [])
    kept = [0.0 if head in silent else gate for head, gate in enumerate(gates)]
    return [gate * sum(gates) / sum(kept) for gate in kept]


def uniform_gates(model: Any) -> Gates:
    """Equal shares for every head that speaks at inference; fixed combinations keep theirs."""
    name, found = model.active_adapters[0], {}
    for layer in model.base_model.routed_layers():
        count = layer.num_experts[name]
        found[layer.name] = layer.fixed_gates(name) or masked(layer, name, [1.0 / count] * count)
    return found


def own_head(model: Any, head: int) -> Gates:
    """All of one head in every layer."""
    name = model.active_adapters[0]
    return {layer.name: [float(head == i) for i in range(layer.num_experts[name])]
            for layer in model.base_model.routed_layers()}  # fmt: skip


@torch.inference_mode()
def mean_gates(model: Any, batches: list[dict[str, Tensor]]) -> Gates:
    """Mean gate weights of every layer over all tokens of ``batches`` that are not padding."""
    total: Tensor | None = None
    tokens = 0
    for batch in batches:
        with GateCapture(model) as capture:
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            gates, mask = capture.take().double(), batch["attention_mask"].bool()
        part = gates[:, mask].sum(1)  # (layers, N)
        total, tokens = part if total is None else total + part, tokens + int(mask.sum())
    if total is None:
        raise AdapterError("There is no example to average the gates over. Choose a corpus that fits this model.")
    return uniform_gates(model) | dict(zip(capture.names, (total / tokens).tolist(), strict=True))


def export_run(
    run_folder: Path, corpus_folder: Path, out_folder: Path, how: str, *, clusters_folder: Path | None = None,
    report: Callable[[float, str], None] = lambda share, text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:  # fmt: skip
    """Export a finished run into ``out_folder`` and measure each part; ``export.json`` holds the figures.

    Raises:
        AdapterError: When ``how`` is unknown or not possible for the run's method; says why.
        StoppedError: When asked to stop; nothing is kept.
    """
    check_how(how)
    aside = out_folder.with_name(out_folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        source = _Source(run_folder, corpus_folder, clusters_folder, report, should_stop)
        parts = _merge(source, aside) if how == "merged" else _approximate(source, aside, how)
        result = {"how": how, "method": source.facts["config"]["method"], "measured_on": source.measured_on,
                  "parts": parts, "sentence": _sentence(parts, source.measured_on)}  # fmt: skip
        write_json(aside / RESULT, result)
        shutil.rmtree(out_folder, ignore_errors=True)
        aside.rename(out_folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return result


class _Source:
    """The live model of a run, a twin over the same base weights, and the corpus."""

    def __init__(
        self, run_folder: Path, corpus_folder: Path, clusters_folder: Path | None,
        report: Callable[[float, str], None], should_stop: Callable[[], bool],
    ) -> None:  # fmt: skip
        facts = read_adapter_facts(run_folder / "adapter")
        if facts is None:
            raise AdapterError("This run has no finished adapter yet. Wait for it, or resume it.")
        report(0.05, "Loading the adapter")
        self.facts, self.clusters, self.folder = facts, clusters_folder, run_folder / "adapter"
        self.train, self.options = facts["config"]["train"], facts["config"]["adapter"]
        self.title = METHODS[facts["config"]["method"]].title
        self.hard = self.options.get("combine") == "hard"
        self.corpus, self.report, self.should_stop = Corpus(corpus_folder), report, should_stop
        base, self.tokenizer = load_base(facts["config"]["base"], dtype=self.train["dtype"])
        self.twin = share_weights(base)
        self.live = open_adapter(base, self.folder)
        calibration, held_out = split_examples(self.corpus, self.train["held_out_fraction"])
        self.measured_on = "held-out" if held_out else "training"
        self.calibration = self._take(calibration, MAX_CALIBRATION)
        self.measured = self._take(held_out or calibration, MAX_MEASURED)

    def _take(self, ids: list[int], limit: int) -> Placed:
        """Up to ``limit`` of these examples, spread evenly."""
        ids = [ids[i * len(ids) // limit] for i in range(limit)] if len(ids) > limit else list(ids)
        return list(zip(ids, self.corpus.take(ids), strict=True))

    def batches(self, examples: Placed) -> list[dict[str, Tensor]]:
        """Padded batches on the model's device; examples that do not fit are left out."""
        rows = [encode_example(self.tokenizer, example, self.train["max_length"]) for _, example in examples]
        fitting = [row for row in rows if row is not None]
        collate = Collator(self.tokenizer.pad_token_id)
        made = [collate(fitting[start : start + BATCH]) for start in range(0, len(fitting), BATCH)]
        return [{key: value.to(self.live.device) for key, value in batch.items()} for batch in made]

    def tasks(self) -> Tasks:
        """What ``cluster`` cuts the corpus by: what the run was trained on, else its clusters, else labels."""
        source = self.options.get("tasks") or ("cluster" if self.clusters else "label")
        known = self.facts.get("tasks")
        found = Tasks(known, source, self.clusters) if known else read_tasks(self.calibration, source, self.clusters)
        assert found is not None
        return found

    def go_on(self, share: float, text: str) -> None:
        """Report, unless a stop was asked for."""
        if self.should_stop():
            raise StoppedError("The export was stopped; nothing was kept.")
        self.report(share, text)


def _approximate(source: _Source, out: Path, how: str) -> list[dict[str, Any]]:
    """Plain LoRAs with constant gates, each measured."""
    live = source.live
    if not hasattr(live.base_model, "routed_layers"):
        raise AdapterError(
            f"{source.title} has no heads to average; its own files are what it is. Download the adapter, or export "
            "it `merged`."
        )
    if how == "uniform":
        return [_plain(source, out / "adapter", "all", uniform_gates(live), source.measured)]
    if not GateCapture(live).names or (how == "mean_gate" and source.hard):
        way = "cluster, one head for each task" if source.hard else "merged"
        raise AdapterError(
            f"{source.title} as trained here has no router whose gates could be averaged. Export it `{way}`."
        )
    if how == "mean_gate":
        source.go_on(0.2, "Averaging the gates")
        return [
            _plain(
                source, out / "adapter", "all", mean_gates(live, source.batches(source.calibration)), source.measured
            )
        ]
    tasks, parts = source.tasks(), []
    trained, held_out = tasks.numbers(source.calibration), tasks.numbers(source.measured)
    for number, name in enumerate(tasks.names):
        source.go_on(0.2 + 0.7 * number / len(tasks.names), f"{name}: averaging the gates")
        own = [pair for pair, task in zip(source.calibration, trained, strict=True) if task == number]
        gates = own_head(live, number) if source.hard else mean_gates(live, source.batches(own))
        measured = [pair for pair, task in zip(source.measured, held_out, strict=True) if task == number]
        parts.append(
            _plain(source, out / f"adapter-{number + 1}", name, gates, measured, number if source.hard else None)
        )
    return parts


def _plain(
    source: _Source, folder: Path, name: str, gates: Gates, measured: Placed, head: int | None = None
) -> dict[str, Any]:
    """Save one plain LoRA, load it back with stock PEFT and measure it; ``head`` is the live model's for a task."""
    export_lora(source.live, folder, gates)
    source.go_on(0.6, f"{name}: measuring the gap")
    batches = source.batches(measured)
    plain = PeftModel.from_pretrained(source.twin, folder).eval()
    with override_experts(source.live, {}, force=head) if head is not None else nullcontext():
        live, others = measure_gaps(source.live, {"exported": plain, "base": _without(source.live)}, batches)
    source.twin = plain.unload()
    part = _part(name, folder.name, live, others)
    part["gates"] = {layer: [round(gate, 5) for gate in row] for layer, row in gates.items()}
    (folder / "README.md").write_text(_readme(source, part), "utf-8")
    return part


def _without(live: Any) -> Callable[..., Any]:
    def base(**inputs: Tensor) -> Any:
        with live.disable_adapter():
            return live(**inputs)

    return base


def _merge(source: _Source, out: Path) -> list[dict[str, Any]]:
    """The whole model with the adapter in its weights; what rounding has done to it is measured."""
    if source.live.active_peft_config.is_prompt_learning:
        raise AdapterError(f"{source.title} changes what the model reads, not its weights, so nothing can be merged.")
    # A base of its own: merging writes into the weights that the live model and its twin share.
    base, _ = load_base(source.facts["config"]["base"], dtype=source.train["dtype"])
    merged = open_adapter(base, source.folder).merge_and_unload().eval()
    source.go_on(0.5, "Measuring the merged model")
    others = {"exported": merged, "base": _without(source.live)}
    live, gaps = measure_gaps(source.live, others, source.batches(source.measured))
    source.go_on(0.8, "Writing the model")
    merged.save_pretrained(out / "model", safe_serialization=True)
    source.tokenizer.save_pretrained(out / "model")
    part = _part("all", "model", live, gaps)
    (out / "model" / "README.md").write_text(_readme(source, part), "utf-8")
    return [part]


def _part(name: str, folder: str, live: Gap, others: dict[str, Gap]) -> dict[str, Any]:
    found, base = others["exported"], others["base"]
    return {"name": name, "folder": folder, "examples": live.examples, "tokens": live.tokens, "live_loss": live.loss,
            "loss": found.loss, "kl": found.kl, "base_loss": base.loss, "base_kl": base.kl}  # fmt: skip


def _sentence(parts: list[dict[str, Any]], where: str) -> str:
    """The gap over all parts, weighted by their answer tokens."""
    counted = [part for part in parts if part["tokens"]]
    tokens = sum(part["tokens"] for part in counted)
    if not tokens:
        return "Written, but there was no example to measure the gap on."
    live, loss, kl, base = (
        sum(part[key] * part["tokens"] for part in counted) / tokens for key in ("live_loss", "loss", "kl", "base_kl")
    )
    return (
        f"Loss on {where} examples {loss:.4f} nats per answer token, live {live:.4f}; KL from the live model {kl:.4f} "
        f"(the base alone is {base:.4f} away)."
    )


def _readme(source: _Source, part: dict[str, Any]) -> str:
    """A few lines that travel with the files."""
    base = Path(source.facts["config"]["base"]).name
    if part["folder"] == "model":
        how = f"{source.title} merged into `{base}`. Load it with `AutoModelForCausalLM.from_pretrained`."
    else:
        how = (
            f"A plain-LoRA approximation of a {source.title} adapter with constant gates ({part['name']}), for base "
            f"`{base}`. Load it with `peft.PeftModel.from_pretrained(base, folder)`; nothing else is needed."
        )
    return f"# Export\n\n{how}\n\n{_sentence([part], source.measured_on)}\n"
