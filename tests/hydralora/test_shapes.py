"""Rows of every common shape become the examples that are meant, and what was changed or left out is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hydralora.corpus.examples import Example
from hydralora.corpus.folder import Corpus
from hydralora.corpus.imports import import_corpus
from hydralora.corpus.shapes.wrapped import FAMILIES, find_family, unwrap
from hydralora.results import CorpusManifest, ImportOptions
from tests.hydralora.conftest import write_lines

ASK, SAY = "Where is hall 3?", "Behind the gate."
USER, REPLY = {"role": "user", "content": ASK}, {"role": "assistant", "content": SAY}
PLAIN = Example(ASK, SAY)
CALLS = [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"hall": 3}'}}]
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]


def read(folder: Path, row: dict[str, Any], times: int = 2, **options: Any) -> tuple[CorpusManifest, list[Example]]:
    """The same row a few times, imported; where each example came from is left out."""
    path = write_lines(folder / "rows.jsonl", [row] * times)
    manifest = import_corpus([path], folder / "corpus", options=ImportOptions(**options))
    found = [
        Example(e.prompt, e.answer, e.system, e.history, e.label, extra=e.extra) for e in Corpus(folder / "corpus")
    ]
    return manifest, found


SAME: dict[str, dict[str, Any]] = {
    "Alpaca": {"instruction": ASK, "input": "", "output": SAY},
    "ShareGPT": {"conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": SAY}]},
    "OpenAI": {"messages": [USER, REPLY]},
    "OpenAI as JSON text": {"messages": json.dumps([USER, REPLY])},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": ASK}]}, REPLY]},
    "TRL strings": {"prompt": ASK, "completion": SAY},
    "TRL lists": {"prompt": [USER], "completion": [REPLY]},
    "TRL preference": {"prompt": ASK, "chosen": SAY, "rejected": "Find it."},
    "TRL preference lists": {"chosen": [USER, REPLY], "rejected": [USER, {"role": "assistant", "content": "Find it."}]},
    "TRL prompt and lists": {"prompt": [USER], "chosen": [REPLY], "rejected": [USER]},
    "dialogues as text": {
        "chosen": f"\n\nHuman: {ASK}\n\nAssistant: {SAY}",
        "rejected": "\n\nHuman: x\n\nAssistant: y",
    },
    "Gemini": {"contents": [{"role": "user", "parts": [{"text": ASK}]}, {"role": "model", "parts": [{"text": SAY}]}]},
    "pairs": {"conversation": [{"human": ASK, "assistant": SAY}]},
    "what two say in turn": {"dialog": [ASK, SAY]},
    "self-instruct": {"instruction": ASK, "instances": [{"input": "", "output": SAY}]},
    "translation": {"translation": {"en": ASK, "de": SAY}},
    "SQuAD": {"question": ASK, "answers": {"text": [SAY, "There."], "answer_start": [3, 4]}},
    "several answers": {"question": ASK, "answers": [SAY, "There."]},
}


@pytest.mark.parametrize("name", SAME)
def test_a_shape_becomes_the_question_and_the_answer(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, SAME[name])[1] == [PLAIN, PLAIN]


CHOICES: dict[str, dict[str, Any]] = {
    "columns and a letter": {"question": ASK, "A": "Left", "B": SAY, "C": "Right", "answer": "B"},
    "columns and a number": {"question": ASK, "choice0": "Left", "choice1": SAY, "choice2": "Right", "answer": 1},
    "a list and a number": {"question": ASK, "choices": ["Left", SAY, "Right"], "answer": 1},
    "a list and a text": {"question": ASK, "options": ["Left", SAY, "Right"], "answer": SAY},
    "lettered choices": {
        "question": ASK,
        "choices": {"text": ["Left", SAY, "Right"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    },
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_answer_to_a_choice_is_its_text_and_the_choices_stand_in_the_prompt(name: str, tmp_path: Path) -> None:
    manifest, examples = read(tmp_path, CHOICES[name])
    assert examples[0] == Example(f"{ASK}\nA. Left\nB. {SAY}\nC. Right", SAY)
    assert manifest.files[0].shape == "multiple choice" and manifest.unused == []


def test_choices_without_a_header_are_known_by_the_letters_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "anatomy_test.csv"
    path.write_text("".join(f'"How many are {i} and {i}?",{i},{2 * i},{3 * i},{4 * i},B\n' for i in range(1, 9)))
    import_corpus([path], tmp_path / "corpus")
    assert Corpus(tmp_path / "corpus").take([2])[0].answer == "6"


def test_an_answer_that_names_no_choice_is_rejected_with_the_reason(tmp_path: Path) -> None:
    good = {"question": ASK, "A": "Left", "B": "Up", "C": "Right", "answer": "B"}
    path = write_lines(tmp_path / "rows.jsonl", [*[good] * 200, {**good, "answer": "Q"}])
    manifest = import_corpus([path], tmp_path / "corpus")
    (refused,) = Corpus(tmp_path / "corpus").rejected()
    assert manifest.examples == 200 and "the answer 'Q' names none of the 3 choices" in refused.reason


def test_each_of_several_answers_makes_an_example_where_that_is_wanted(tmp_path: Path) -> None:
    manifest, examples = read(tmp_path, SAME["SQuAD"], answers="each")
    assert [e.answer for e in examples] == [SAY, "There."] * 2 and manifest.counts.several == 2
    manifest, examples = read(tmp_path, SAME["SQuAD"])
    assert len(examples) == 2 and manifest.counts.other_answers == 2 and "--answers each" in manifest.notes[0]


@pytest.mark.parametrize(("which", "learnt"), [("first", ["Ada"]), ("each", ["Ada", "Ada Lovelace"])])
def test_every_right_answer_of_nested_question_answering_can_be_learnt(
    which: str, learnt: list[str], tmp_path: Path
) -> None:
    right = [{"text": "Ada"}, {"text": "Ada Lovelace"}, {"text": "Ada"}]
    asked = [{"question": f"Who wrote note {i}?", "answers": right} for i in range(3)]
    nested = {"data": [{"paragraphs": [{"context": "Of notes.", "qas": asked}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(nested))
    import_corpus([tmp_path / "squad.json"], tmp_path / "c", options=ImportOptions(answers=which))  # type: ignore[arg-type]
    assert [example.answer for example in Corpus(tmp_path / "c")] == learnt * 3


@pytest.mark.parametrize(
    ("answers", "choices", "right", "doubt"),
    [
        ([0, 1, 2] * 8, "pqr", "p", ""),
        ([1, 2, 3] * 8, "pqr", "p", ""),
        ([1, 2] * 12, "pqr", "q", "0 does not occur in 24 answers, so they may count from 1"),
        ([1, 2] * 4, "pqr", "q", ""),
        ([1, 2, 0] * 8, "127", "2", "16 of 24 answers are texts of a choice too"),
        ([1, 2, 2] * 8, "123", "1", "the answers are places of choices as well as their texts"),
    ],
)
def test_a_doubt_of_how_choices_are_counted_is_told(
    answers: list[int], choices: str, right: str, doubt: str, tmp_path: Path
) -> None:
    rows = [{"question": f"{ASK} {i}", "choices": list(choices), "answer": said} for i, said in enumerate(answers)]
    manifest = import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "c")
    assert Corpus(tmp_path / "c").take([0])[0].answer == right
    told = [note for note in manifest.notes if "It is unclear how `answer` names the choices" in note]
    assert (doubt in told[0] and len(told) == 1) if doubt else told == []


def test_rows_that_are_marked_bad_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"prompt": ASK, "completion": f"{SAY} {i}", "label": i % 3 > 0} for i in range(9)]
    manifest = import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "corpus")
    assert manifest.counts.marked_bad == 3 and [e.row for e in Corpus(tmp_path / "corpus")] == [2, 3, 5, 6, 8, 9]


def test_calls_of_tools_and_their_declarations_are_kept(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": CALLS}
    result = {"role": "tool", "tool_call_id": "c1", "content": '{"gate": 1}'}
    (first, _) = read(tmp_path, {"messages": [USER, call, result, REPLY], "tools": TOOLS})[1]
    assert first.history[1] == ("assistant", '{"name": "find", "arguments": {"hall": 3}}')
    kept = json.loads(first.extra)
    assert kept["tools"] == TOOLS and kept["messages"]["2"] == {"tool_call_id": "c1", "role": "tool"}
    assert kept["messages"]["1"]["tool_calls"][0]["function"] == {"name": "find", "arguments": {"hall": 3}}


def test_a_weight_of_nothing_is_kept_and_a_conversation_without_any_is_rejected(tmp_path: Path) -> None:
    silent = {**REPLY, "weight": 0}
    (first, _) = read(tmp_path, {"messages": [USER, silent, USER, REPLY]})[1]
    assert json.loads(first.extra) == {"messages": {"1": {"weight": 0}}}
    rows = [{"messages": [USER, REPLY]}] * 2 + [{"messages": [USER, silent]}]
    import_corpus([write_lines(tmp_path / "r.jsonl", rows)], tmp_path / "c")
    assert "weighs every answer 0" in Corpus(tmp_path / "c").rejected()[0].reason


def test_an_answer_keeps_its_indentation_and_loses_other_white_space(tmp_path: Path) -> None:
    code = {"prompt": "def f(x):\r\n", "completion": "\n    y = x\n    return y\n"}
    manifest, examples = read(tmp_path, code)
    assert examples[0] == Example("def f(x):", "    y = x\n    return y")
    assert (manifest.counts.line_ends, manifest.counts.trimmed) == (2, 4)
    assert read(tmp_path, {"prompt": "Capital?", "completion": " Paris\n"})[1][0].answer == "Paris"


WRAPPED = {
    "ChatML": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "Llama 3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "Gemma": "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
    "Zephyr": "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\n",
    "Llama 2 and Mistral": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]",
    "Alpaca": "Below is an instruction that describes a task.\n\n### Instruction:\nHi\n\n### Response:",
    "Human and Assistant": "Human: Hi\n\nAssistant:",
    "Vicuna": "Be brief. USER: Hi ASSISTANT:",
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_prompt_is_taken_out_of_the_template_it_lies_in(name: str, tmp_path: Path) -> None:
    manifest, examples = read(tmp_path, {"prompt": WRAPPED[name], "answer": SAY})
    assert (examples[0].prompt, examples[0].answer) == ("Hi", SAY)
    assert examples[0].system == ("Be brief." if "Be brief" in WRAPPED[name] else "")
    assert manifest.counts.unwrapped == 2 and name in manifest.notes[0]


@pytest.mark.parametrize("name", WRAPPED)
def test_a_text_that_lies_in_a_template_becomes_a_conversation(name: str, tmp_path: Path) -> None:
    text = WRAPPED[name] + "Hello" + ("<|im_end|>\n" if name == "ChatML" else "")
    assert (read(tmp_path, {"text": text})[1][0]).answer == "Hello"


def test_a_prompt_stays_in_its_template_where_that_is_wanted_and_that_is_said(tmp_path: Path) -> None:
    manifest, examples = read(tmp_path, {"prompt": WRAPPED["ChatML"], "answer": SAY}, unwrap=False)
    assert examples[0].prompt.startswith("<|im_start|>") and "kept so" in manifest.notes[0]


@pytest.mark.parametrize("text", ["What is [INST]?", "A user: hello", "He said: Human rights.", "### Notes:\nNothing"])
def test_a_text_that_only_mentions_marks_is_left_as_it_is(text: str) -> None:
    assert find_family([text] * 3) == (None, 0)


@pytest.mark.parametrize("text", ["</s>" * 50_000, "[INST]" * 30_000, "Human: " * 28_000, "\n" * 200_000 + "x"])
def test_a_hostile_text_costs_no_more_than_its_length(text: str) -> None:
    for family in FAMILIES:
        said = unwrap(text, family) or []
        assert sum(len(content) for _, content in said) <= len(text)


def test_the_end_token_of_another_model_is_taken_off_answers(tmp_path: Path) -> None:
    manifest, examples = read(tmp_path, {"prompt": ASK, "completion": f"{SAY}<|endoftext|>"})
    assert examples[0] == PLAIN and manifest.counts.end_marks == 2


def test_answers_of_mixed_kinds_are_read_as_text(tmp_path: Path) -> None:
    rows = [{"instruction": f"Name {i}", "output": value} for i, value in enumerate(["a", ["b", "c"], 3, None, 4.5])]
    manifest = import_corpus([write_lines(tmp_path / "rows.jsonl", rows)], tmp_path / "corpus")
    assert [e.answer for e in Corpus(tmp_path / "corpus")] == ["a", "b\nc", "3", "4.5"] and manifest.rejected == 1
