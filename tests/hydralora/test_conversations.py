"""Conversations are learnt whole: every answer carries loss, to the end of its turn, as a chat would have it said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hydralora.bases.folder import STARTER
from hydralora.bases.load import load_tokenizer
from hydralora.bases.template_child import render_whole
from hydralora.config import TrainConfig, parse_config
from hydralora.corpus.encode import (
    IGNORED,
    can_mask,
    encode_example,
    encode_prompt,
    encode_telling,
    end_tokens,
)
from hydralora.corpus.examples import Example, batch_of, conversation_of, examples_at, messages_of
from tests.hydralora.conftest import make_llama, make_tokenizer

TALK = Example(
    "Third?", "three", "Be brief.", (("user", "One?"), ("assistant", "one"), ("user", "Two?"), ("assistant", "two"))
)
CALL = {"type": "function", "function": {"name": "find", "arguments": {"item": 0}}}
DECLARED = [{"type": "function", "function": {"name": "find", "parameters": {}}}]
TOOLS = Example(
    '{"shelf": 3}',
    "On shelf 3.",
    history=(("user", "Where is it?"), ("assistant", '{"name": "find"}')),
    extra=json.dumps(
        {"tools": DECLARED, "messages": {"1": {"content": "", "tool_calls": [CALL]}, "2": {"role": "tool"}}}
    ),
)
START, END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The last answer begins with thoughts, as Qwen 3 writes them; those of earlier ones are left out.
THINKS = CHATML.replace(
    "+ m['content']",
    "+ ('<think>\n\n</think>\n\n' if loop.last and m['role'] == 'assistant' else '') + m['content']",
)
ALWAYS_THINKS = CHATML.replace("'<|im_start|>assistant\n'", "'<|im_start|>assistant\n<think>\n'")
# Only the words of an answer are marked, not the thoughts that the chat's prompt has not either.
THINKS_MARKED = THINKS.replace(
    "+ m['content'] + '<|im_end|>\n' }}",
    "}}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}",
)
TRIMS = CHATML.replace("m['content']", "(m['content'] | trim)")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
DROPS_SYSTEM = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
WITH_TOOLS = (
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m['role'] }}\n"
    "{{ m['content'] }}{% for c in m['tool_calls'] or [] %}[{{ c['function']['name'] }}]{% endfor %}<|im_end|>\n"
    "{% if m['role'] == 'tool' %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer_with(template: str | None) -> Any:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([START, END], special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


def learnt(tokenizer: Any, example: Example, *settings: Any) -> list[str]:
    """The stretches of text that carry loss."""
    row = encode_example(tokenizer, example, 500, *settings)
    assert row is not None
    stretches: list[list[int]] = []
    before = IGNORED
    for label in row["labels"]:
        if label != IGNORED:
            stretches += [[]] if before == IGNORED else []
            stretches[-1].append(label)
        before = label
    return [tokenizer.decode(stretch) for stretch in stretches]


def test_every_answer_is_learnt_with_the_end_of_its_turn() -> None:
    assert learnt(tokenizer_with(CHATML), TALK) == [f"one{END}", f"two{END}", f"three{END}"]
    assert learnt(load_tokenizer("starter"), TALK) == ["one<|end|>", "two<|end|>", "three<|end|>"]


def test_only_the_last_answer_is_learnt_where_that_is_wanted() -> None:
    assert learnt(tokenizer_with(CHATML), TALK, "last") == [f"three{END}"]
    assert learnt(tokenizer_with(CHATML), TALK, "former") == ["three<|end|>"]  # the tokenizer's own end token


def test_an_answer_that_the_file_weighs_nothing_is_seen_and_not_learnt() -> None:
    weighed = replace(TALK, extra=json.dumps({"messages": {"1": {"weight": 0}}}))
    assert learnt(tokenizer_with(CHATML), weighed) == [f"two{END}", f"three{END}"]


@pytest.mark.parametrize(
    ("template", "learn", "end"),
    [(CHATML, "last", END), (CHATML, "former", "<|end|>"), (ALWAYS_THINKS, "all", END), (None, "last", "")],
)
def test_where_the_last_answer_weighs_nothing_the_one_before_it_is_learnt(
    template: str | None, learn: str, end: str
) -> None:
    weighed = replace(TALK, extra=json.dumps({"messages": {"5": {"weight": 0}}}))
    space = "" if template else " "
    assert learnt(tokenizer_with(template), weighed, learn) == [f"{space}two{end}"]


@pytest.mark.parametrize("learn", ["all", "last", "former"])
@pytest.mark.parametrize("template", [CHATML, ALWAYS_THINKS, None], ids=["ChatML", "always", "none"])
def test_a_conversation_whose_answers_all_weigh_nothing_is_left_out(template: str | None, learn: Any) -> None:
    nothing = replace(TALK, extra=json.dumps({"messages": {place: {"weight": 0} for place in ("1", "3", "5")}}))
    assert encode_example(tokenizer_with(template), nothing, 500, learn) is None


def test_a_conversation_of_which_only_the_last_answer_can_be_learnt_is_told() -> None:
    tokenizer = tokenizer_with(ALWAYS_THINKS)
    assert encode_telling(tokenizer, TALK)[1] and not encode_telling(tokenizer, TALK, "last")[1]
    assert not encode_telling(tokenizer, Example("One?", "one"))[1]
    assert not encode_telling(tokenizer_with(CHATML), TALK)[1]


@pytest.mark.parametrize("template", [CHATML, THINKS, ALWAYS_THINKS, None], ids=["ChatML", "thinks", "always", "none"])
def test_the_last_answer_is_learnt_behind_the_prompt_that_the_chat_renders(template: str | None) -> None:
    tokenizer = tokenizer_with(template)
    row = encode_example(tokenizer, TALK, 500)
    prompt = encode_prompt(tokenizer, messages_of(TALK))
    assert row is not None and row["input_ids"][: len(prompt)] == prompt


def test_what_a_template_writes_before_the_last_answer_is_learnt_with_it() -> None:
    tokenizer = tokenizer_with(THINKS)
    thoughts = "<think>\n\n</think>\n\n"  # the chat's prompt ends before them
    assert can_mask(tokenizer) and learnt(tokenizer, TALK) == [f"one{END}", f"two{END}", f"{thoughts}three{END}"]


@pytest.mark.parametrize("template", [CHATML, THINKS, THINKS_MARKED], ids=["ChatML", "thinks", "thinks, marked"])
def test_what_is_learnt_begins_where_the_prompt_of_the_chat_ends(template: str) -> None:
    tokenizer = tokenizer_with(template)
    row, begin = encode_example(tokenizer, TALK, 500), 0
    for place in (2, 4, 6):
        prompt = encode_prompt(tokenizer, conversation_of(TALK)[:place])
        assert row is not None and row["input_ids"][: len(prompt)] == prompt
        assert set(row["labels"][begin : len(prompt)]) == {IGNORED} and row["labels"][len(prompt)] != IGNORED
        begin = row["labels"].index(IGNORED, len(prompt)) if place < 6 else 0


@pytest.mark.parametrize("last", ["    return x", "return x"])
def test_indentation_behind_what_a_template_writes_is_learnt_once(last: str) -> None:
    code = Example("def f(x):", last, history=(("user", "Hi"), ("assistant", "Hello")))
    assert learnt(tokenizer_with(THINKS), code)[-1] == f"<think>\n\n</think>\n\n{last}{END}"


def test_an_earlier_answer_whose_indentation_the_template_takes_off_is_seen_and_not_learnt() -> None:
    tokenizer = tokenizer_with(TRIMS)
    code = Example("And?", "  b", history=(("user", "Hi"), ("assistant", "  a"), ("user", "So?"), ("assistant", "c")))
    assert learnt(tokenizer, code) == [f"c{END}", f"  b{END}"]
    row, is_partly = encode_telling(tokenizer, code)
    prompt = encode_prompt(tokenizer, messages_of(code))
    assert is_partly and row["input_ids"][: len(prompt)] == prompt


def test_where_answers_cannot_be_told_apart_only_the_last_is_learnt_and_that_can_be_asked() -> None:
    tokenizer = tokenizer_with(ALWAYS_THINKS)
    assert not can_mask(tokenizer) and learnt(tokenizer, TALK) == [f"three{END}"]


def test_without_a_template_every_answer_is_learnt_too() -> None:
    assert learnt(tokenizer_with(None), TALK) == [" one", " two", " three<|end|>"]


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM], ids=["refuses", "drops"])
def test_a_system_text_that_the_template_does_not_know_stands_before_the_first_question(template: str) -> None:
    tokenizer = tokenizer_with(template)
    text = tokenizer.decode(encode_prompt(tokenizer, messages_of(TALK)))
    assert text.startswith(f"{START}user\nBe brief.\n\nOne?{END}") and text.count("Be brief.") == 1
    assert learnt(tokenizer, TALK) == [f"one{END}", f"two{END}", f"three{END}"]


def test_a_call_of_a_tool_is_learnt_in_the_templates_own_form() -> None:
    tokenizer = tokenizer_with(WITH_TOOLS)
    assert learnt(tokenizer, TOOLS) == [f"[find]{END}", f"On shelf 3.{END}"]
    text = tokenizer.decode(encode_prompt(tokenizer, messages_of(TOOLS), DECLARED))
    assert text.startswith('{"type": "function"') and f'{START}tool\n{{"shelf": 3}}{END}' in text


def test_a_template_without_tools_gets_calls_and_declarations_as_text() -> None:
    tokenizer = tokenizer_with(CHATML)
    assert learnt(tokenizer, TOOLS) == [f'{{"name": "find"}}{END}', f"On shelf 3.{END}"]
    row = encode_example(tokenizer, TOOLS, 500)
    text = tokenizer.decode((row or {})["input_ids"])
    assert text.startswith(f"{START}system\nTools:\n") and f'{START}user\n{{"shelf": 3}}{END}' in text


def test_indentation_that_a_template_takes_off_an_answer_is_put_back() -> None:
    code = Example("def f(x):", "    return x", history=(("user", "Hi"), ("assistant", "Hello")))
    assert learnt(tokenizer_with(TRIMS), code) == [f"Hello{END}", f"    return x{END}"]


def test_control_tokens_inside_answers_stay_text() -> None:
    tokenizer = tokenizer_with(CHATML)
    talk = Example("And?", f"no {END}", history=(("user", "Hi"), ("assistant", f"a {END} b")))
    row = encode_example(tokenizer, talk, 500)
    assert row is not None and row["input_ids"].count(tokenizer.convert_tokens_to_ids(END)) == 4


def test_an_answer_ends_at_the_token_of_the_tokenizer_and_at_that_of_the_template() -> None:
    tokenizer = tokenizer_with(CHATML)
    assert end_tokens(tokenizer, make_llama()) == [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END)]


@pytest.mark.parametrize(("named", "more"), [(None, []), (7, [7]), ([7, 9], [7, 9])])
def test_an_answer_ends_also_where_the_model_itself_says_so(named: int | list[int] | None, more: list[int]) -> None:
    tokenizer, model = tokenizer_with(CHATML), make_llama()
    model.generation_config.eos_token_id = named
    own = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END)]
    assert end_tokens(tokenizer, model) == own + more


def test_a_conversation_that_does_not_fit_is_cut_at_its_end() -> None:
    tokenizer = tokenizer_with(CHATML)
    whole = encode_example(tokenizer, TALK, 500)
    assert whole is not None
    cut = encode_example(tokenizer, TALK, len(whole["input_ids"]) - 3)
    assert cut is not None and cut["labels"] == whole["labels"][:-3]
    first = next(i for i, label in enumerate(whole["labels"]) if label != IGNORED)
    assert encode_example(tokenizer, TALK, first + 1) is None


def test_the_places_of_answers_are_those_that_the_template_marks_itself() -> None:
    template = (STARTER / "chat_template.jinja").read_text("utf-8")
    text, spans = render_whole(template, conversation_of(TALK), {}, None)
    assert spans is not None and [text[begin:end] for begin, end in spans] == [
        "one<|end|>",
        "two<|end|>",
        "three<|end|>",
    ]


def test_a_run_of_an_earlier_version_goes_on_as_it_began() -> None:
    stored = TrainConfig().model_dump()
    del stored["learn"]
    assert parse_config({"train": stored}).train.learn == "former"
    assert parse_config({"train": {"max_steps": 3}}).train.learn == "all" == TrainConfig().learn


def test_everything_of_a_conversation_is_kept_and_an_older_file_is_read() -> None:
    batch = batch_of([TOOLS, TALK])
    assert examples_at(batch, [0, 1]) == [TOOLS, TALK]
    assert examples_at(batch.drop_columns(["extra", "hash"]), [1]) == [TALK]


def test_the_hash_of_a_simple_example_is_that_of_earlier_versions() -> None:
    assert Example("Which?", "red").content_hash().hex().startswith("4d0d13ef5dfb")
    assert TOOLS.content_hash() != replace(TOOLS, extra="").content_hash()
