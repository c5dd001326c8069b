"""Texts that already lie in a chat template (ChatML, Llama, Mistral, Alpaca ...), taken out of it.

Every family is a pattern of its marks; what stands between two marks is what one side said. Marks are plain
alternatives without repetition inside each other, so a hostile text costs no more than its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hydralora import limits

ROLE_OF_MARK = {
    "system": "system",
    "<<sys>>": "system",
    "user": "user",
    "human": "user",
    "instruction": "user",
    "input": "user",
    "prompter": "user",
    "[inst]": "user",
    "<</sys>>": "user",
    "h": "user",
    "assistant": "assistant",
    "model": "assistant",
    "response": "assistant",
    "gpt": "assistant",
    "[/inst]": "assistant",
    "a": "assistant",
    "tool": "tool",
    "ipython": "tool",
}
PREAMBLE = "Below is an instruction that describes a task"  # of Alpaca's template, and no part of the question
ENDS = ("<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "<eos>", "<|end|>", "</s>")
BEGINS = re.compile(r"\A\s*(<\|begin_of_text\|>|<bos>|<s>)\s*")
ONE_MARK_IS_ENOUGH = ("ChatML", "Llama 3", "Gemma", "Zephyr", "OpenAssistant")  # nobody writes theirs by chance
ENOUGH = 0.5  # share of the first rows from which a whole table counts as wrapped

Turns = list[tuple[str, str]]


@dataclass(frozen=True)
class Family:
    """One template: its name, and the pattern of its marks, whose one group is the side that speaks next."""

    name: str
    marks: re.Pattern[str]
    may_have_preamble: bool = False


FAMILIES = (
    Family("ChatML", re.compile(r"<\|im_start\|>(system|user|assistant|tool)\b[ \t]*\n?")),
    Family(
        "Llama 3", re.compile(r"<\|start_header_id\|>(system|user|assistant|ipython|tool)<\|end_header_id\|>\n?\n?")
    ),
    Family("Gemma", re.compile(r"<start_of_turn>(user|model|system)\b[ \t]*\n?")),
    Family("Zephyr", re.compile(r"<\|(system|user|assistant)\|>[ \t]*\n?")),
    Family("Llama 2 and Mistral", re.compile(r"(?:<s>)?(\[INST\]|\[/INST\]|<<SYS>>|<</SYS>>)")),
    Family("Alpaca", re.compile(r"(?:\A|\n)###[ \t]?(System|Instruction|Input|Response):[ \t]*\n?"), True),
    Family("Human and Assistant", re.compile(r"(?:\A|\n)(?:###[ \t]?)?(Human|User|Assistant|System):[ \t]*\n?")),
    Family("OpenAssistant", re.compile(r"<\|(prompter|assistant|system)\|>")),
    Family("Vicuna", re.compile(r"(?:\A|[ \n]|</s>)(SYSTEM|USER|ASSISTANT):[ \t]*\n?"), True),
)


def find_family(texts: Iterable[str]) -> tuple[Family | None, int]:
    """The template that at least half of these texts lie in, and how many lie in any."""
    filled = [text for text in texts if text and len(text) <= limits.MAX_CHARACTERS]
    best, most = None, 0
    for family in FAMILIES:
        count = sum(unwrap(text, family) is not None for text in filled)
        if count > most:
            best, most = family, count
    return (best if most >= ENOUGH * len(filled) else None), most


def unwrap(text: str, family: Family) -> Turns | None:
    """What each side said; None where the text does not lie in this template.

    A last turn of the assistant may be empty: that is where the answer of another column belongs.
    """
    text = BEGINS.sub("", text.strip())
    marks = list(family.marks.finditer(text))
    if not marks:
        return None
    before = text[: marks[0].start()].strip()
    if before and not family.may_have_preamble:
        return None
    said: list[tuple[str, list[str]]] = []
    if before and not before.startswith(PREAMBLE):
        said.append(("system", [before]))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=True):
        _say(said, ROLE_OF_MARK[mark[1].lower()], without_end(text[mark.end() : end]))
    turns = [(role, "\n".join(parts)) for role, parts in said]
    if ROLE_OF_MARK[marks[-1][1].lower()] == "assistant" and turns and turns[-1][0] != "assistant":
        turns.append(("assistant", ""))
    is_sure = len(marks) > 1 or family.name in ONE_MARK_IS_ENOUGH
    return turns if is_sure and any(role == "user" for role, _ in turns) else None


def _say(said: list[tuple[str, list[str]]], role: str, content: str) -> None:
    if content and said and said[-1][0] == role:  # instruction and input are one question
        said[-1][1].append(content)
    elif content:
        said.append((role, [content]))


def without_end(text: str) -> str:
    """Without the marks at the end of a turn, which may follow each other; indentation of the first line stays."""
    end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        found = next((mark for mark in ENDS if text.endswith(mark, 0, end)), "")
        if not found:
            break
        end -= len(found)
    kept = text[:end].lstrip("\n")
    return kept if kept.startswith(("  ", "\t")) else kept.lstrip()
