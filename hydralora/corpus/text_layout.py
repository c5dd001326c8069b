"""How a text is laid out, as a guess with a reason: a document, one text a line, blocks, or questions with answers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from statistics import mean

from hydralora.corpus.reading import Layout

SAMPLE_LINES = 400
LONGEST_BLOCK = 60  # lines of a text between separators, on average
LEAST_LINES = 4  # that make a list of texts
# Words that stand before a question and before its answer, in pairs that belong together.
SPEAKERS = (
    ("q", "a"),
    ("f", "a"),
    ("p", "r"),
    ("q", "r"),
    ("d", "r"),
    ("в", "о"),
    ("question", "answer"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "response"),
    ("instruction", "output"),
    ("input", "output"),
    ("user", "assistant"),
    ("user", "bot"),
    ("user", "ai"),
    ("human", "assistant"),
    ("human", "ai"),
    ("frage", "antwort"),
    ("nutzer", "assistent"),
    ("benutzer", "assistent"),
    ("kunde", "antwort"),
    ("question", "réponse"),
    ("utilisateur", "assistant"),
    ("pregunta", "respuesta"),
    ("usuario", "asistente"),
    ("pergunta", "resposta"),
    ("domanda", "risposta"),
    ("vraag", "antwoord"),
    ("pytanie", "odpowiedź"),
    ("otázka", "odpověď"),
    ("soru", "cevap"),
    ("вопрос", "ответ"),
    ("питання", "відповідь"),
    ("问", "答"),
    ("問", "答"),
    ("问题", "答案"),
    ("問題", "答案"),
    ("质问", "回答"),
    ("質問", "回答"),
    ("質問", "答え"),
    ("질문", "답변"),
    ("질문", "답"),
    ("سؤال", "جواب"),
    ("שאלה", "תשובה"),
)
WORDS = sorted({word for pair in SPEAKERS for word in pair}, key=len, reverse=True)
SPEAKER = re.compile(
    rf"(?:#{{1,6}} |>|\*\*|__)?[ \t]{{0,8}}({'|'.join(map(re.escape, WORDS))})[ \t]{{0,8}}\d{{0,6}}(?:\*\*)?"
    r"[ \t]{0,8}[:：.)](?:\*\*)?[ \t]?",
    re.IGNORECASE,
)
SEPARATOR = re.compile(r"[ \t]*(<\|endoftext\|>|-{3,}|={3,}|\*{3,}|_{3,}|#{3,}|%)[ \t]*")


@dataclass(frozen=True)
class Laid:
    """A layout with the reason for it, and the words that mark questions and answers."""

    layout: Layout
    reason: str
    speakers: tuple[str, str] = ("", "")


def guess_layout(lines: list[str]) -> Laid:
    """How the text that begins with ``lines`` is laid out; where nothing speaks for another layout, as a document."""
    full = [line for line in lines if line.strip()]
    pair = speakers_of(full)
    if pair != ("", ""):
        return Laid(
            "questions", f"lines begin with `{pair[0].capitalize()}` and `{pair[1].capitalize()}` in turn", pair
        )
    separators = Counter(found[1] for line in full if (found := SEPARATOR.fullmatch(line.rstrip("\r\n"))))
    sign, count = separators.most_common(1)[0] if separators else ("", 0)
    if count >= 2 and len(full) <= LONGEST_BLOCK * count and _is_throughout(sign, lines):
        return Laid("blocks", f"`{sign}` stands between texts, {count} times in the first {len(lines)} lines")
    if _is_list(lines, full):
        return Laid("lines", f"no blank lines between the first {len(full)} lines, and none is a wrapped one")
    return Laid("document", "paragraphs between blank lines, joined to pieces of a usual length")


def _is_throughout(sign: str, lines: list[str]) -> bool:
    """Whether a separator stands in every third of the lines, and not only above and below something in them."""
    third = max(1, len(lines) // 3)
    parts = (lines[:third], lines[third:-third], lines[-third:])
    return len(lines) < 20 or all(any(line.strip() == sign for line in part) for part in parts)


def match_speaker(line: str) -> re.Match[str] | None:
    """The word at the beginning of a line that marks a question or an answer, with what belongs to it."""
    return SPEAKER.match(line, len(line) - len(line.lstrip(" \t")))


def speakers_of(lines: list[str]) -> tuple[str, str]:
    """The words before questions and before answers where they take turns; empty ones where they do not."""
    said = [found[1].lower() for line in lines if (found := match_speaker(line))]
    best, most = ("", ""), 1
    for question, answer in SPEAKERS:
        turns = [word for word in said if word in (question, answer)]
        pairs = sum(turns[i : i + 2] == [question, answer] for i in range(len(turns)))
        is_marked = len(question) > 1 or turns.count(question) <= pairs * 1.4
        if pairs > most and pairs >= 0.6 * turns.count(question) and is_marked:
            best, most = (question, answer), pairs
    return best


def _is_list(lines: list[str], full: list[str]) -> bool:
    """One text on each line: hardly a blank line, and lines that are not one text wrapped at a margin."""
    if len(full) < LEAST_LINES or len(full) < 0.95 * len([*_without_end(lines)]):
        return False
    lengths = [len(line.rstrip()) for line in full]
    margin = max(lengths)
    ended = mean(line.rstrip()[-1:] in ".!?。！？…\"”»)'" for line in full)
    if ended >= 0.6:
        return True
    near = mean(length > 0.75 * margin for length in lengths[:-1] or [0])
    return margin > 120 or near < 0.6


def _without_end(lines: list[str]) -> list[str]:
    """The lines without blank ones behind the last text."""
    last = max((place for place, line in enumerate(lines) if line.strip()), default=-1)
    return lines[: last + 1]
