"""What training changed in the answers: base and tuned model on the held-out part, side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from hydralora.analysis.runs import corpus_of, load_run, settings_on
from hydralora.bases.load import context_length
from hydralora.corpus.batches import by_length
from hydralora.corpus.encode import encode_prompt, end_tokens
from hydralora.corpus.examples import Example, messages_of
from hydralora.corpus.split import learnt_prompts, split_examples
from hydralora.corpus.tasks import Placed, Tasks
from hydralora.errors import AdapterError
from hydralora.progress import SILENT, Progress
from hydralora.results import AdapterFacts, AnswerRow, Answers, Score
from hydralora.tuner.gates import can_cache, choose_heads

MAX_TOKENS = 128  # of one answer
MOST_SHOWN = 600  # characters of a text that are kept to be shown


def _is_indented(text: str) -> bool:
    return any(line.strip() and line[0].isspace() for line in text.strip().splitlines()[1:])


def is_right(answer: str, wanted: str) -> bool:
    """Whether an answer is the wanted one, white space aside; case counts.

    Where a line is indented, as in code, white space has a meaning and counts, but for that before the whole text.
    """
    if not (_is_indented(answer) or _is_indented(wanted)):
        return answer.split() == wanted.split()
    return _lines_of(answer) == _lines_of(wanted)


def _lines_of(text: str) -> list[str]:
    """The lines of code: what stands at their ends says nothing, what stands before them does."""
    return [line.rstrip() for line in text.strip().splitlines()]


def spread(positions: Sequence[int], limit: int) -> list[int]:
    """At most ``limit`` of these, evenly spaced."""
    if len(positions) <= limit:
        return list(positions)
    return [positions[int(i * len(positions) / limit)] for i in range(limit)]


@torch.inference_mode()
def answer_examples(
    model: Any,
    tokenizer: Any,
    examples: list[Example],
    *,
    max_tokens: int = MAX_TOKENS,
    batch_size: int = 32,
    heads: list[int] | None = None,
    report: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """Greedy answers, in order; prompts of a batch are padded on the left.

    Examples of similar length share a batch. A prompt that does not fit the context answers "".

    Args:
        heads: For hard LoRA-Split, the head of every example; -1 where its task is not known.
    """
    prompts = [encode_prompt(tokenizer, messages_of(e), e.details().get("tools")) for e in examples]
    room = context_length(model) - 8
    fitting = [i for i, ids in enumerate(prompts) if len(ids) < room]
    answers, done = [""] * len(examples), 0
    for places in by_length([len(prompts[i]) for i in fitting], batch_size):
        chosen = [fitting[place] for place in places]
        ids, mask = _pad_left([prompts[i] for i in chosen], tokenizer.pad_token_id)
        width = ids.shape[1]
        choose_heads(model, torch.tensor([heads[i] for i in chosen], device=model.device) if heads else None)
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=False,
            max_new_tokens=min(max_tokens, context_length(model) - width),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=end_tokens(tokenizer, model),
            use_cache=can_cache(model),
        )
        for i, tokens in zip(chosen, out[:, width:].tolist(), strict=True):
            answers[i] = tokenizer.decode(tokens, skip_special_tokens=True).strip()
        report(done := done + len(chosen))
    choose_heads(model, None)
    return answers


def _pad_left(prompts: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask ``(batch, longest)``, every prompt at the right end."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask


def score(examples: list[Example], answers: list[str]) -> Score:
    """Exact match: the share of answers that ``is_right``; per label too."""
    hits = [is_right(a, e.answer) for e, a in zip(examples, answers, strict=True)]
    by_label: dict[str, list[bool]] = defaultdict(list)
    for example, hit in zip(examples, hits, strict=True):
        by_label[example.label or "all"].append(hit)
    return Score(
        exact_match=sum(hits) / max(1, len(hits)),
        hits=hits,
        by_label={name: sum(found) / len(found) for name, found in sorted(by_label.items())},
    )


def compare_answers(
    run_folder: Path,
    corpus_folder: Path,
    out_folder: Path,
    *,
    clusters_folder: Path | None = None,
    is_own: bool = True,
    limit: int = 240,
    progress: Progress = SILENT,
) -> Answers:
    """Let base and tuned model answer held-out prompts; writes ``answers.json`` to ``out_folder``.

    Where heads belong to tasks (hard LoRA-Split), every example is answered by the head of its own.

    Args:
        is_own: Whether the run was trained on this corpus. If not, nothing was held out for it: questions are drawn
            from all examples, and clusters of the same number are other tasks.

    Raises:
        AdapterError: When the corpus has no questions, or no held-out part.
        StoppedError: When asked to stop; nothing is kept.
    """
    progress.report(0.0, "Loading the adapter")
    model, tokenizer, facts = load_run(run_folder)
    corpus = corpus_of(facts, corpus_folder)
    split = split_examples(corpus, settings_on(facts, corpus)) if is_own else None
    ids = spread(split.held_out if split else range(len(corpus)), limit)
    learnt = learnt_prompts(corpus, split.train, ids) if split else 0
    pairs = [(i, example) for i, example in zip(ids, corpus.take(ids), strict=True) if example.prompt]
    if not pairs:
        raise AdapterError(
            "There are no held-out questions to answer: the corpus is plain text, or nothing was held out."
        )
    examples = [example for _, example in pairs]
    longest = min(MAX_TOKENS, max(len(tokenizer(e.answer)["input_ids"]) for e in examples) + 8)

    def watch(name: str, begin: float) -> Callable[[int], None]:
        part = progress.part(begin, begin + 0.5, f"{name}: ")
        count = len(examples)
        return lambda done: part.step(done / count, f"{done:,} of {count:,} answers", "The comparison")

    with model.disable_adapter():
        base = answer_examples(model, tokenizer, examples, max_tokens=longest, report=watch("Base", 0.0))
    heads = _heads(facts, pairs, clusters_folder if is_own else None)
    tuned = answer_examples(model, tokenizer, examples, max_tokens=longest, heads=heads, report=watch("Tuned", 0.5))
    scores = {"base": score(examples, base), "tuned": score(examples, tuned)}
    result = Answers(
        examples=len(examples),
        scores=scores,
        sentence=_sentence(scores, len(examples), is_own, learnt),
        learnt_prompts=learnt,
        is_own=is_own,
        rows=list(_rows(pairs, base, tuned)),
    )
    return result.write(out_folder)


def _rows(pairs: Placed, base: list[str], tuned: list[str]) -> Iterator[AnswerRow]:
    for (i, e), before, after in zip(pairs, base, tuned, strict=True):
        yield AnswerRow(
            id=i,
            prompt=e.prompt[:MOST_SHOWN],
            wanted=e.answer[:MOST_SHOWN],
            label=e.label,
            base=before[:MOST_SHOWN],
            tuned=after[:MOST_SHOWN],
        )


def _heads(facts: AdapterFacts, pairs: Placed, clusters_folder: Path | None) -> list[int] | None:
    """The head of every example where heads belong to tasks that are known, else None."""
    adapter, names = facts.config.adapter, facts.tasks
    source = adapter.task_source
    if adapter.combined_by != "hard" or not names or source is None:
        return None
    if source == "cluster" and clusters_folder is None:
        return None
    return Tasks(names, source, clusters_folder).numbers(pairs)


def _sentence(scores: dict[str, Score], count: int, is_own: bool, learnt: int) -> str:
    base, tuned = (scores[name].exact_match for name in ("base", "tuned"))
    if not is_own:
        return (
            f"Exact match on {count:,} questions of this corpus: {base:.0%} without the adapter, {tuned:.0%} with it."
        )
    words = f"Exact match on {count:,} held-out questions: {base:.0%} before training, {tuned:.0%} after."
    if learnt:
        words += (
            f" The prompts of {learnt:,} of them were also trained on (this run was split by row), so the score after "
            "training is too high."
        )
    if tuned <= base:
        return words + " Training did not raise this score; long free answers rarely match exactly, so read some below."
    return words
