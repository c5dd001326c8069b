"""Prompt, answer or text where no whole name says it: by words inside names, then by what the values look like."""

from __future__ import annotations

from hydralora.corpus import header_words as words
from hydralora.corpus.role_columns import Columns

QUESTION_SHARE = 0.3  # of a column's values, from which it is one of questions


def find_by_contents(table: Columns) -> None:
    """Where names do not say it: words inside the names, then what the values look like."""
    usable = [c for c in table.free() if table.facts[c].kind in ("text", "label", "short", "list", "object")]
    usable = [c for c in usable if table.facts[c].strings or _may_be_answers(table, c)]
    _pair_by_words(table, usable)
    texts = [c for c in usable if c not in table.guess.reasons and table.facts[c].has_sentences]
    if not table.guess.has("prompt"):
        _question_by_contents(table, texts, usable)
    if table.guess.has("prompt") and not table.guess.has("answer"):
        _answer_by_contents(table, usable)
    if table.guess.has("answer") and not table.guess.has("prompt"):
        table.forget_guess("answer")
    if not table.is_complete():
        table.forget_guess("prompt")
        _only_text(table)


def _may_be_answers(table: Columns, column: str) -> bool:
    return words.plain_name(column) in words.ANSWERS or bool(words.says(column, words.ANSWER_WORDS))


def _pair_by_words(table: Columns, usable: list[str]) -> None:
    for role, known in (("answer", words.ANSWER_WORDS), ("prompt", words.PROMPT_WORDS)):
        for column in usable:
            said = words.says(column, known)
            if said and not table.guess.has(role) and column not in table.guess.reasons and _is_worth(table, column):
                table.guess.take(role, column, f"its name says `{said}`")


def _is_worth(table: Columns, column: str) -> bool:
    """Whether a column may be prompt or answer by a word in its name: no few short names, unless it is alone."""
    others = [c for c in table.free() if c != column and table.facts[c].has_sentences]
    return table.facts[column].kind != "label" or not others


def _question_by_contents(table: Columns, texts: list[str], usable: list[str]) -> None:
    asking = [c for c in (texts or usable) if table.facts[c].questions >= QUESTION_SHARE]
    best = max(asking, key=lambda column: table.facts[column].questions, default="")
    if best:
        table.guess.take("prompt", best, f"{table.facts[best].questions:.0%} of its values end with a question mark")
    elif len(texts) >= 2 or (texts and table.guess.has("answer")):
        table.guess.take("prompt", texts[0], "the first column of texts")


def _answer_by_contents(table: Columns, usable: list[str]) -> None:
    free = [c for c in usable if c not in table.guess.reasons]
    texts = [c for c in free if table.facts[c].has_sentences]
    prompt = table.guess.roles["prompt"][-1]
    behind = (
        [c for c in texts if table.columns.index(c) > table.columns.index(prompt)] if prompt in table.columns else []
    )
    if texts:
        table.guess.take("answer", (behind or texts)[0], "texts, behind the question" if behind else "texts")
        return
    asks = table.facts[prompt].questions >= QUESTION_SHARE if prompt in table.facts else True
    short = [c for c in free if table.facts[c].kind == "short"] or ([c for c in free] if asks else [])
    table.guess.take("answer", short[0] if short else "", "short texts, and the only ones beside the question")


def _only_text(table: Columns) -> None:
    """One column of texts is plain text; two of any length are question and answer."""
    strings = [
        c for c in table.free() if table.facts[c].strings and table.facts[c].kind not in ("date", "number", "id")
    ]
    named = [c for c in strings if words.says(c, words.TEXT_WORDS)]
    texts = named or [c for c in strings if table.facts[c].has_sentences] or strings
    free = [c for c in strings if table.facts[c].kind != "label" and not words.says(c, words.LABEL_WORDS)]
    if not named and len(free) == 2:
        table.guess.take("prompt", free[0], "the first of two columns of text")
        table.guess.take("answer", free[1], "the second of two columns of text")
    elif texts:
        reason = "its name says that it is a text" if named else "the only column of texts"
        table.guess.take("text", max(texts, key=lambda c: table.facts[c].length), reason)
