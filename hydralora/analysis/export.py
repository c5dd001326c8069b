"""Take an adapter elsewhere: plain LoRAs that stock PEFT loads, each with its measured gap; or the merged model.

A routed layer adds ``s sum_i g_i(x) B_i A x``. Replacing the gates of every layer by constants gives a plain LoRA
(``plain_lora.py``):

- ``uniform``: ``g_i = 1 / N``;
- ``mean_gate``: the mean gates of each layer over the tokens of training examples;
- ``cluster``: the same for each task (cluster or label) apart, one LoRA for each; hard LoRA-Split gives
  each task's own head, which is exact;
- ``merged``: the whole model with the adapter in its weights, only where that is exact;
- ``merged_mean``: the whole model with the ``mean_gate`` LoRA in its weights, for routed adapters;
- ``own``: the adapter as it is, where it is a plain LoRA already.

What is written is safetensors, or GGUF beside it (``gguf_export.py``).

The gap is measured on held-out examples: mean loss per answer token, and mean ``KL(live || exported)`` of the
next-token distributions at answer tokens, both in nats; the base is measured beside them as a yardstick.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor

from hydralora.adapters.build import open_adapter
from hydralora.analysis.gaps import Gap, measure_gaps, share_weights
from hydralora.analysis.gguf_export import GgufExport
from hydralora.analysis.plain_lora import Gates, export_lora, mean_gates, own_head, uniform_gates
from hydralora.analysis.runs import corpus_of, facts_of, settings_on
from hydralora.bases.load import load_base
from hydralora.corpus.batches import padded_batches
from hydralora.corpus.encode import encode_example
from hydralora.corpus.split import split_examples
from hydralora.corpus.tasks import Placed, Tasks, read_tasks
from hydralora.errors import AdapterError
from hydralora.files import remove, written_aside
from hydralora.llamacpp.architectures import architecture_of
from hydralora.llamacpp.check import NOT_THERE, Places
from hydralora.methods import EXPORTS, FORMS, METHODS
from hydralora.progress import SILENT, Progress
from hydralora.results import Export, ExportedPart, LlamaCheck
from hydralora.tuner.gates import GateCapture, override_experts

MAX_CALIBRATION = 256  # training examples whose gates are averaged
MAX_MEASURED = 128  # held-out examples on which gaps are measured
BATCH = 8


def check_how(how: str, form: str = "safetensors") -> None:
    """Refuse an unknown way of exporting.

    Raises:
        AdapterError: Naming the ways there are.
    """
    for name, value, known in (("how", how, EXPORTS), ("form", form, FORMS)):
        if value not in known:
            raise AdapterError(f"`{name}` must be one of {', '.join(known)}, got '{value}'.")


def export_run(
    run_folder: Path,
    corpus_folder: Path,
    out_folder: Path,
    how: str,
    *,
    form: str = "safetensors",
    clusters_folder: Path | None = None,
    progress: Progress = SILENT,
) -> Export:
    """Export a finished run into ``out_folder`` and measure each part; ``export.json`` holds the figures.

    Raises:
        AdapterError: When ``how`` or ``form`` is unknown or not possible for the run's method; says why.
        BaseModelError: When the base cannot be written as GGUF.
        StoppedError: When asked to stop; nothing is kept.
    """
    check_how(how, form)
    with written_aside(out_folder) as aside:
        aside.mkdir(parents=True)
        source = _Source(run_folder, corpus_folder, clusters_folder, progress)
        if form != "safetensors":
            source.write_gguf(aside, "q8_0" if form == "gguf-q8_0" else "f16")
        parts = _merge(source, aside, how) if how.startswith("merged") else _approximate(source, aside, how)
        result = Export(
            how=how,
            form=form,
            method=source.facts.config.method,
            measured_on=source.measured_on,
            parts=parts,
            sentence=" ".join(filter(None, [_sentence(parts, source.measured_on), _checked(parts, form)])),
        )
        return result.write(aside)


class _Source:
    """The live model of a run, a twin over the same base weights, and the corpus."""

    def __init__(self, run_folder: Path, corpus_folder: Path, clusters_folder: Path | None, progress: Progress) -> None:
        self.facts, self.clusters, self.folder = facts_of(run_folder), clusters_folder, run_folder / "adapter"
        progress.report(0.05, "Loading the adapter")
        config = self.facts.config
        self.train, self.options, self.title = config.train, config.adapter, METHODS[config.method].title
        self.hard = self.options.combined_by == "hard"
        self.corpus, self.progress = corpus_of(self.facts, corpus_folder), progress
        base, self.tokenizer = load_base(config.base, dtype=self.train.dtype)
        self.twin = share_weights(base)
        self.live = open_adapter(base, self.folder)
        split = split_examples(self.corpus, settings_on(self.facts, self.corpus))
        calibration, held_out = split.train, split.held_out
        self.measured_on = "held-out" if held_out else "training"
        self.calibration = self._take(calibration, MAX_CALIBRATION)
        self.measured = self._take(held_out or calibration, MAX_MEASURED)
        self.gguf: GgufExport | None = None

    def write_gguf(self, out: Path, kind: str) -> None:
        """From now on everything is written as GGUF too; the base is, at once."""
        architecture_of(self.twin.config)
        config = self.facts.config
        texts = [example.answer or example.prompt for _, example in self.measured]
        self.gguf = GgufExport(
            self.twin,
            self.tokenizer,
            out,
            kind,
            named=config.base,
            dtype=self.train.dtype,
            title=Path(config.base).name,
            places=Places.of(self.rows(self.measured), texts),
            tell=lambda text: self.go_on(0.5, text),
        )

    def _take(self, ids: list[int], limit: int) -> Placed:
        """Up to ``limit`` of these examples, spread evenly."""
        ids = [ids[i * len(ids) // limit] for i in range(limit)] if len(ids) > limit else list(ids)
        return list(zip(ids, self.corpus.take(ids), strict=True))

    def rows(self, examples: Placed) -> list[dict[str, list[int]]]:
        """Examples in token ids; those that do not fit are left out."""
        length, learn = self.train.max_length, self.train.learn
        rows = (encode_example(self.tokenizer, example, length, learn) for _, example in examples)
        return [row for row in rows if row is not None]

    def batches(self, examples: Placed) -> list[dict[str, Tensor]]:
        """Padded batches on the model's device; examples that do not fit are left out."""
        made = padded_batches(self.rows(examples), self.tokenizer.pad_token_id, BATCH, self.live.device)
        return [batch for _, batch in made]

    def tasks(self) -> Tasks:
        """What ``cluster`` cuts the corpus by: what the run was trained on, else its clusters, else labels."""
        source = self.options.task_source or ("cluster" if self.clusters else "label")
        known = self.facts.tasks
        found = Tasks(known, source, self.clusters) if known else read_tasks(self.calibration, source, self.clusters)
        assert found is not None
        return found

    def go_on(self, share: float, text: str) -> None:
        """Report, unless a stop was asked for."""
        self.progress.step(share, text, "The export")


def _approximate(source: _Source, out: Path, how: str) -> list[ExportedPart]:
    """Plain LoRAs with constant gates, each measured."""
    live = source.live
    if how == "own":
        return [_own(source, out / "adapter")]
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
) -> ExportedPart:
    """Save one plain LoRA, load it back with stock PEFT and measure it; ``head`` is the live model's for a task."""
    export_lora(source.live, folder, gates)
    with override_experts(source.live, {}, force=head) if head is not None else nullcontext():
        return _measured(source, folder, name, measured, gates)


def _own(source: _Source, folder: Path) -> ExportedPart:
    """The adapter as it is, under the files that stock PEFT reads.

    Raises:
        AdapterError: When it is no plain LoRA.
    """
    if str(getattr(source.live.active_peft_config.peft_type, "value", "")) != "LORA":
        raise AdapterError(f"{source.title} is no plain LoRA. Download the adapter, or export it in another way.")
    source.live.save_pretrained(folder)
    return _measured(source, folder, "all", source.measured, {})


def _measured(source: _Source, folder: Path, name: str, measured: Placed, gates: Gates) -> ExportedPart:
    """Load a plain LoRA with stock PEFT, measure it, and write it as GGUF where that is wanted."""
    source.go_on(0.6, f"{name}: measuring the gap")
    plain = PeftModel.from_pretrained(source.twin, folder).eval()
    others = {"exported": plain, "base": _without(source.live)}
    live, gaps = measure_gaps(source.live, others, source.batches(measured))
    part = _part(name, folder.name, live, gaps, gates)
    if source.gguf is not None:
        part = _with_gguf(part, *source.gguf.add_lora(plain, folder))
    source.twin = plain.unload()
    (folder / "README.md").write_text(_readme(source, part), "utf-8")
    return part


def _with_gguf(part: ExportedPart, files: list[str], check: LlamaCheck | None) -> ExportedPart:
    return part.model_copy(update={"files": files, "llama": check})


def _without(live: Any) -> Callable[..., Any]:
    def base(**inputs: Tensor) -> Any:
        with live.disable_adapter():
            return live(**inputs)

    return base


def _merge(source: _Source, out: Path, how: str) -> list[ExportedPart]:
    """The whole model with the adapter in its weights; what rounding, or constant gates, have done is measured."""
    if source.live.active_peft_config.is_prompt_learning:
        raise AdapterError(f"{source.title} changes what the model reads, not its weights, so nothing can be merged.")
    # A base of its own: merging writes into the weights that the live model and its twin share.
    base, _ = load_base(source.facts.config.base, dtype=source.train.dtype)
    adapter, gates = _to_merge(source, out, how)
    merged = open_adapter(base, adapter).merge_and_unload().eval()
    if adapter != source.folder:
        remove(adapter)
    source.go_on(0.5, "Measuring the merged model")
    others = {"exported": merged, "base": _without(source.live)}
    live, gaps = measure_gaps(source.live, others, source.batches(source.measured))
    source.go_on(0.8, "Writing the model")
    part = _part("all", "model", live, gaps, gates)
    if source.gguf is None:
        merged.save_pretrained(out / "model", safe_serialization=True)
        source.tokenizer.save_pretrained(out / "model")
    else:
        part = _with_gguf(part, *source.gguf.put_model(merged, out / "model"))
    (out / "model" / "README.md").write_text(_readme(source, part), "utf-8")
    return [part]


def _to_merge(source: _Source, out: Path, how: str) -> tuple[Path, Gates]:
    """The adapter that is merged, and its constant gates where it has some.

    Raises:
        AdapterError: When it has no router whose gates could be averaged.
    """
    if how == "merged":
        return source.folder, {}
    if not GateCapture(source.live).names or source.hard:
        raise AdapterError(f"{source.title} as trained here has no router whose gates could be averaged.")
    source.go_on(0.2, "Averaging the gates")
    gates = mean_gates(source.live, source.batches(source.calibration))
    export_lora(source.live, out / "mean-gate", gates)
    return out / "mean-gate", gates


def _part(name: str, folder: str, live: Gap, others: dict[str, Gap], gates: Gates) -> ExportedPart:
    found, base = others["exported"], others["base"]
    return ExportedPart(
        name=name,
        folder=folder,
        examples=live.examples,
        tokens=live.tokens,
        live_loss=live.loss,
        loss=found.loss,
        kl=found.kl,
        base_loss=base.loss,
        base_kl=base.kl,
        gates={layer: [round(gate, 5) for gate in row] for layer, row in gates.items()},
    )


def _sentence(parts: list[ExportedPart], where: str) -> str:
    """The gap over all parts, weighted by their answer tokens."""
    tokens = sum(part.tokens for part in parts)
    if not tokens:
        return "Written, but there was no example to measure the gap on."
    live, loss, kl, base = (
        sum(getattr(part, key) * part.tokens for part in parts if part.tokens) / tokens
        for key in ("live_loss", "loss", "kl", "base_kl")
    )
    return (
        f"Loss on {where} examples {loss:.4f} nats per answer token, live {live:.4f}; KL from the live model {kl:.4f} "
        f"(the base alone is {base:.4f} away)."
    )


def _checked(parts: list[ExportedPart], form: str) -> str:
    """What llama.cpp says of GGUF files."""
    if form == "safetensors":
        return ""
    checks = [part.llama for part in parts if part.llama is not None]
    if not checks:
        return NOT_THERE
    gap, base = max(check.gap for check in checks), max(check.base_gap for check in checks)
    places, close = sum(check.prompts for check in checks), all(check.is_close for check in checks)
    other = sum(check.texts - check.same_tokens for check in checks)
    return (
        f"llama.cpp: next tokens {gap:.4f} nats away at {places} places (the base alone {base:.4f})"
        + (f", other tokens in {other} texts" if other else "")
        + ("." if close else ": FARTHER than it should be, so do not rely on it.")
    )


def _readme(source: _Source, part: ExportedPart) -> str:
    """A few lines that travel with the files."""
    base = Path(source.facts.config.base).name
    if part.folder == "model" and part.files:
        how = f"{source.title} merged into `{base}` as GGUF. `ollama create NAME` here, or `llama-cli -m model.gguf`."
    elif part.folder == "model":
        how = f"{source.title} merged into `{base}`. Load it with `AutoModelForCausalLM.from_pretrained`."
    else:
        how = (
            f"A plain-LoRA approximation of a {source.title} adapter with constant gates ({part.name}), for base "
            f"`{base}`. Load it with `peft.PeftModel.from_pretrained(base, folder)`; nothing else is needed."
        )
    if part.files and part.folder != "model":
        how += " As GGUF: `ollama create NAME` here, or `llama-cli -m ../base.gguf --lora adapter.gguf`."
    form = "gguf" if part.files else "safetensors"
    said = " ".join(filter(None, [_sentence([part], source.measured_on), _checked([part], form)]))
    return f"# Export\n\n{how}\n\n{said}\n"
