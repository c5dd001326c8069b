"""What training changed in the answers: base and tuned model on the held-out part, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from hydralora.analysis.runs import corpus_of, load_run, settings_on
from hydralora.answering import answer_examples, answer_room, score, spread
from hydralora.corpus.split import learnt_prompts, split_examples
from hydralora.corpus.tasks import Placed, Tasks
from hydralora.errors import AdapterError
from hydralora.progress import SILENT, Progress
from hydralora.results import AdapterFacts, AnswerRow, Answers, Score

MOST_SHOWN = 600  # characters of a text that are kept to be shown


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
    longest = answer_room(tokenizer, examples)

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
