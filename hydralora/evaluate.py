"""What training changed in the answers: base and tuned model on the held-out part, side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from hydralora.base import context_length
from hydralora.checkpoints import write_json
from hydralora.corpus import Corpus, Example, split_examples
from hydralora.errors import AdapterError, StoppedError
from hydralora.gates import can_cache, choose_heads
from hydralora.groups import Placed, Tasks
from hydralora.prompt import encode_prompt, messages_of
from hydralora.routing import load_run

MAX_TOKENS = 128  # of one answer


def normalise(text: str) -> str:
    """Text for comparison: without space at the ends, runs of white space as one, case kept."""
    return " ".join(text.split())


def choose_held_out(corpus: Corpus, fraction: float, limit: int) -> list[int]:
    """Up to ``limit`` held-out positions, spread evenly over the held-out part."""
    return spread(split_examples(corpus, fraction)[1], limit)


def spread(positions: Sequence[int], limit: int) -> list[int]:
    """At most ``limit`` of these, evenly spaced."""
    if len(positions) <= limit:
        return list(positions)
    return [positions[int(i * len(positions) / limit)] for i in range(limit)]


@torch.inference_mode()
def answer_examples(
    model: Any, tokenizer: Any, examples: list[Example], *, max_tokens: int = MAX_TOKENS, batch_size: int = 32,
    heads: list[int] | None = None, report: Callable[[int], None] = lambda count: None,
) -> list[str]:  # fmt: skip
    """Greedy answers, in order; prompts of a batch are padded on the left.

    Examples of similar length share a batch. A prompt that does not fit the context answers "".

    Args:
        heads: For hard LoRA-Split, the head of every example; -1 where its task is not known.
    """
    prompts = [encode_prompt(tokenizer, messages_of(example)) for example in examples]
    room = context_length(model) - 8
    order = sorted((i for i, ids in enumerate(prompts) if len(ids) < room), key=lambda i: len(prompts[i]))
    answers = [""] * len(examples)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        width = max(len(prompts[i]) for i in chosen)
        ids = torch.full((len(chosen), width), tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(chosen):
            ids[row, width - len(prompts[i]) :] = torch.tensor(prompts[i])
            mask[row, width - len(prompts[i]) :] = 1
        choose_heads(model, torch.tensor([heads[i] for i in chosen], device=model.device) if heads else None)
        out = model.generate(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), do_sample=False,
            max_new_tokens=min(max_tokens, context_length(model) - width), pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id, use_cache=can_cache(model),
        )  # fmt: skip
        for i, tokens in zip(chosen, out[:, width:].tolist(), strict=True):
            answers[i] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
        report(min(start + batch_size, len(order)))
    choose_heads(model, None)
    return answers


def score(examples: list[Example], answers: list[str]) -> dict[str, Any]:
    """Exact match: the share of answers equal to the wanted one after ``normalise``; per label too."""
    hits = [normalise(a) == normalise(e.answer) for e, a in zip(examples, answers, strict=True)]
    by_label: dict[str, list[bool]] = defaultdict(list)
    for example, hit in zip(examples, hits, strict=True):
        by_label[example.label or "all"].append(hit)
    return {"exact_match": sum(hits) / max(1, len(hits)), "hits": hits,
            "by_label": {name: sum(found) / len(found) for name, found in sorted(by_label.items())}}  # fmt: skip


def compare_answers(
    run_folder: Path, corpus_folder: Path, out_folder: Path, *, clusters_folder: Path | None = None, is_own: bool = True,
    limit: int = 240, report: Callable[[float, str], None] = lambda share, text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:  # fmt: skip
    """Let base and tuned model answer held-out prompts; writes ``answers.json`` to ``out_folder``.

    Where heads belong to tasks (hard LoRA-Split), every example is answered by the head of its own.

    Args:
        is_own: Whether the run was trained on this corpus. If not, nothing was held out for it: questions are drawn
            from all examples, and clusters of the same number are other tasks.

    Raises:
        AdapterError: When the corpus has no questions, or no held-out part.
        StoppedError: When asked to stop; nothing is kept.
    """
    report(0.0, "Loading the adapter")
    model, tokenizer, facts = load_run(run_folder)
    corpus = Corpus(corpus_folder)
    fraction = facts["config"]["train"]["held_out_fraction"]
    ids = choose_held_out(corpus, fraction, limit) if is_own else spread(range(len(corpus)), limit)
    pairs = [(i, example) for i, example in zip(ids, corpus.take(ids), strict=True) if example.prompt]
    if not pairs:
        raise AdapterError(
            "There are no held-out questions to answer: the corpus is plain text, or nothing was held out."
        )
    examples = [example for _, example in pairs]
    longest = min(MAX_TOKENS, max(len(tokenizer(e.answer)["input_ids"]) for e in examples) + 8)
    found: dict[str, list[str]] = {}

    def watch(name: str, offset: float) -> Callable[[int], None]:
        def step(count: int) -> None:
            if should_stop():
                raise StoppedError("The comparison was stopped; nothing was kept.")
            report(offset + 0.5 * count / len(examples), f"{name}: {count:,} of {len(examples):,} answers")

        return step

    with model.disable_adapter():
        found["base"] = answer_examples(model, tokenizer, examples, max_tokens=longest, report=watch("Base", 0.0))
    heads = _heads(facts, pairs, clusters_folder if is_own else None)
    found["tuned"] = answer_examples(
        model, tokenizer, examples, max_tokens=longest, heads=heads, report=watch("Tuned", 0.5)
    )
    scores = {name: score(examples, answers) for name, answers in found.items()}
    result = {
        "examples": len(examples), "scores": scores, "sentence": _sentence(scores, len(examples), is_own), "is_own": is_own,
        "rows": [{"id": i, "prompt": e.prompt[:600], "wanted": e.answer[:600], "label": e.label,
                  "base": b[:600], "tuned": t[:600]}
                 for (i, e), b, t in zip(pairs, found["base"], found["tuned"], strict=True)],
    }  # fmt: skip
    out_folder.mkdir(parents=True, exist_ok=True)
    write_json(out_folder / "answers.json", result)
    return result


def _heads(facts: dict[str, Any], pairs: Placed, clusters_folder: Path | None) -> list[int] | None:
    """The head of every example where heads belong to tasks that are known, else None."""
    adapter, names = facts["config"]["adapter"], facts.get("tasks")
    if adapter.get("combine") != "hard" or not names:
        return None
    if adapter["tasks"] == "cluster" and clusters_folder is None:
        return None
    return Tasks(names, adapter["tasks"], clusters_folder).numbers(pairs)


def _sentence(scores: dict[str, Any], count: int, is_own: bool) -> str:
    base, tuned = (scores[name]["exact_match"] for name in ("base", "tuned"))
    if not is_own:
        return f"Word-for-word right on {count:,} questions of this corpus: {base:.0%} without the adapter, {tuned:.0%} with it."
    words = f"Word-for-word right on {count:,} held-out questions: {base:.0%} before training, {tuned:.0%} after."
    if tuned <= base:
        return (
            words
            + " Training did not raise this score; long free answers rarely match word for word, so read some below."
        )
    return words
