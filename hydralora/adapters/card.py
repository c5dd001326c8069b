"""The model card of an export: what it is, what came of it, on which data, how far it is from the live model."""

from __future__ import annotations

import json
import re

from hydralora.bases.folder import is_hub_id, shown_base
from hydralora.errors import UserError
from hydralora.methods import EXPORTS, FORMS, METHODS
from hydralora.plain import shown
from hydralora.results import AdapterFacts, Answers, Export, ExportedPart

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
HEAD = ("part", "examples", "loss", "live", "base", "KL from live", "llama.cpp gap", "of base")


def check_repository(name: str) -> str:
    """A name ``owner/name``.

    Raises:
        UserError: When it is none.
    """
    if REPOSITORY.fullmatch(name) is None or ".." in name or name.endswith(".git"):
        raise UserError(f"{shown(name)} is no name of a model on the hub. Write owner/name.")
    return name


def model_card(facts: AdapterFacts, export: Export, answers: Answers | None, repository: str) -> str:
    """The text of ``README.md``: metadata of the hub in front, as YAML, and the rest as Markdown.

    https://huggingface.co/docs/hub/model-cards
    """
    config, title = facts.config, METHODS[facts.config.method].title
    is_whole = export.how.startswith("merged")
    parts = [
        _metadata(facts, is_gguf=export.form != "safetensors", is_whole=is_whole),
        f"# {repository.partition('/')[2]}\n",
        f"{EXPORTS[export.how]} ({FORMS[export.form]}), made by Hydra Studio from a {title} run on "
        f"`{shown_base(config.base)}`.\n",
        "## Results\n",
        *_results(facts, answers),
        "## How far it is from the live adapter\n",
        f"{export.sentence}\n",
        "\n".join([f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *map(_row, export.parts)]) + "\n",
        "## Data\n",
        f"Corpus with the SHA-256 `{facts.corpus_hash or 'not known'}` over its content; the training set's is "
        f"`{facts.summary.training_hash or 'not known'}` ({facts.summary.train_examples:,} examples).\n",
        "## How to load it\n",
        _how_to_load(facts, export, repository),
    ]
    return "\n".join(parts)


def _metadata(facts: AdapterFacts, *, is_gguf: bool, is_whole: bool) -> str:
    values: dict[str, object] = {
        "library_name": "gguf" if is_gguf else "transformers" if is_whole else "peft",
        "pipeline_tag": "text-generation",
        "tags": ["hydra-studio", facts.config.method, *(["gguf"] if is_gguf else []), *([] if is_whole else ["lora"])],
    }
    if is_hub_id(facts.config.base):
        values["base_model"] = facts.config.base
    lines = [f"{name}: {json.dumps(value)}" for name, value in values.items()]  # JSON is YAML
    return "\n".join(["---", *lines, "---", ""])


def _results(facts: AdapterFacts, answers: Answers | None) -> list[str]:
    summary, lines = facts.summary, []
    if summary.held_out_loss is not None:
        before = summary.held_out_loss_before
        was = "" if before is None else f", before training {before:.4f}"
        lines.append(
            f"- Held-out loss of the live adapter: {summary.held_out_loss:.4f} nats per answer token{was} "
            f"({summary.held_out_examples:,} examples)"
        )
    if answers is not None:
        lines += [f"- Exact match, {name}: {score.exact_match:.1%}" for name, score in answers.scores.items()]
        lines.append(f"- {answers.sentence}")
    return [("\n".join(lines) or "- Nothing was measured on held-out examples.") + "\n"]


def _row(part: ExportedPart) -> str:
    check = part.llama
    figures = [part.loss, part.live_loss, part.base_loss, part.kl]
    figures += [check.gap, check.base_gap] if check else [None, None]
    name = part.name.replace("|", "\\|").replace("\n", " ")
    return " | ".join([f"| {name}", str(part.examples), *("–" if x is None else f"{x:.4f}" for x in figures)]) + " |"


def _how_to_load(facts: AdapterFacts, export: Export, repository: str) -> str:
    folder = export.parts[0].folder
    base = facts.config.base if is_hub_id(facts.config.base) else f"FOLDER OF {shown_base(facts.config.base)}"
    if export.form != "safetensors":
        file = f"{folder}/{'model' if export.how.startswith('merged') else 'adapter'}.gguf"
        model = file if export.how.startswith("merged") else f"base.gguf --lora {file}"
        return (
            f"```\nhf download {repository} --local-dir model && cd model\nllama-cli -m {model}\n"
            f"cd {folder} && ollama create mine && ollama run mine\n```\n"
        )
    if export.how.startswith("merged"):
        lines = [f"model = AutoModelForCausalLM.from_pretrained({repository!r}, subfolder={folder!r})"]
    else:
        lines = [
            f"base = AutoModelForCausalLM.from_pretrained({base!r})",
            f"model = PeftModel.from_pretrained(base, {repository!r}, subfolder={folder!r})",
        ]
    imports = ["from peft import PeftModel"] if len(lines) > 1 else []
    return "\n".join(["```python", *imports, "from transformers import AutoModelForCausalLM", "", *lines, "```", ""])
