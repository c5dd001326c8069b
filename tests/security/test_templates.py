"""Chat templates of strangers are rendered with bounds, in another process, and give what they always gave."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import AutoTokenizer

from hydralora.bases import templates
from hydralora.bases.folder import STARTER
from hydralora.corpus.encode import encode_example, encode_prompt
from hydralora.corpus.examples import Example
from hydralora.errors import BaseModelError
from hydralora.generate import ChatModel
from jobs.chat.server import Ask, Server
from jobs.home import Home
from jobs.store.bases import Bases
from tests.hydralora.conftest import make_llama, make_tokenizer

# As published for families of models; the ways they are written differ.
PUBLISHED = {
    "ChatML": (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] "
        "+ '<|im_end|>' + '\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "Llama 3": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
        "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
        "{% if loop.index0 == 0 %}"
        "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "Zephyr": (
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
        "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'assistant' %}\n"
        "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
    ),
    "Gemma": (
        "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] + '\n\n' -%}"
        "{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- set loop_messages = messages -%}"
        "{%- endif -%}{%- for message in loop_messages -%}"
        "{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}{{ "
        "'<start_of_turn>' + role + '\n' + (first if loop.first else '') }}"
        "{{ message['content'] | trim }}{{ '<end_of_turn>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}"
        "{{ '<start_of_turn>model\n' }}{%- endif -%}"
    ),
    "a namespace, macros, tojson and a break": (
        "{%- set ns = namespace(count=0) -%}{%- macro show(m) -%}[{{ m.role | upper }}] {{ m | tojson(indent=1) }}"
        "{%- endmacro -%}{%- for m in messages -%}{%- set ns.count = ns.count + 1 -%}{%- if "
        "ns.count > 3 -%}{%- break -%}"
        "{%- endif -%}{{ show(m) }}{%- endfor -%}{{ strftime_now('%Y') }} {{ dict(a=1) }} {{ tools is none }}"
    ),
    "generation": (STARTER / "chat_template.jinja").read_text("utf-8").replace("<|begin|>", "<|begin|><|begin|>"),
}
TALKS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Which colour has the door?"}],
    [
        {"role": "system", "content": "Be brief.\n"},
        {"role": "user", "content": "  Ünïcode 漢字 \U0001f600 \\ \" '{{ 7 * 7 }}' "},
    ],
    [
        {"role": "user", "content": "<|end|> <|user|> <|im_start|> [INST]"},
        {"role": "assistant", "content": "<|begin|>no"},
        {"role": "user", "content": "again <|end"},
    ],
]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
HOSTILE = {
    "a loop": LOOP,
    "a long word": "{{ 'a' * 10**10 }}",
    "a doubled word": "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x "
    "%}{% endfor %}{{ ns.x }}",
    "much text": "{{ 'a' * 9000000 }}",
    "a large number": "{{ 10 ** (10 ** 8) }}",
    "a recursion": "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "what it is made of": "{{ messages[0].__class__.__mro__ }}",
    "half a template": "{{ ",
    "a refusal": "{{ raise_exception('no system text, please') }}",
    "too long": "a" * 300_000,
}


@pytest.fixture
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """Every renderer is ended after a test, so that the next one counts its own."""
    yield
    while templates._renderers:
        templates._renderers.popitem()[1].close()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_template_gives_the_ids_that_transformers_gives(name: str, tokenizer: Any) -> None:
    for tokens in (tokenizer, AutoTokenizer.from_pretrained(STARTER)):
        tokens.chat_template = PUBLISHED[name]
        tokens.add_tokens(["<|im_start|>", "[INST]"])
        for talk in TALKS:
            own = tokens.apply_chat_template(
                talk, add_generation_prompt=True, tokenize=True, return_dict=False, sanitize_control_tokens=True
            )
            assert encode_prompt(tokens, talk) == list(own)


def test_control_tokens_that_a_tokenizer_names_itself_are_taken(tokenizer: Any) -> None:
    tokenizer.chat_template = PUBLISHED["ChatML"]
    tokenizer.add_tokens(["[INST]", "<|im_start|>"])
    tokenizer.chat_control_tokens = ["[INST]"]
    own = tokenizer.apply_chat_template(
        TALKS[2], add_generation_prompt=True, tokenize=True, return_dict=False, sanitize_control_tokens=True
    )
    assert encode_prompt(tokenizer, TALKS[2]) == list(own)


def test_one_of_several_templates_is_taken_as_before(tokenizer: Any) -> None:
    tokenizer.chat_template = {"default": PUBLISHED["ChatML"], "tool_use": LOOP}
    assert tokenizer.decode(encode_prompt(tokenizer, TALKS[0])).startswith("<|im_start|>user")
    tokenizer.chat_template = {"one": LOOP, "two": LOOP}
    with pytest.raises(BaseModelError, match="several chat templates"):
        encode_prompt(tokenizer, TALKS[0])


@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_takes_too_much_ends_with_one_sentence(name: str, tokenizer: Any) -> None:
    before = psutil.Process().memory_info().rss
    tokenizer.chat_template = HOSTILE[name]
    with pytest.raises(BaseModelError, match="The chat template of the base") as error:
        encode_prompt(tokenizer, TALKS[0])
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)
    assert psutil.Process().memory_info().rss - before < 300e6  # nothing of it happened here


@pytest.mark.timeout(90)
def test_a_process_that_was_ended_is_replaced_at_the_next_call(tokenizer: Any) -> None:
    tokenizer.chat_template = "{% if messages[0]['content'] == 'loop' %}" + LOOP + "{% endif %}" + PUBLISHED["ChatML"]
    good = encode_prompt(tokenizer, TALKS[0])
    with pytest.raises(BaseModelError):
        encode_prompt(tokenizer, [{"role": "user", "content": "loop"}])
    assert encode_prompt(tokenizer, TALKS[0]) == good
    children(tokenizer)[0].kill()
    children(tokenizer)[0].wait()
    with pytest.raises(BaseModelError):
        templates.renderer(tokenizer.chat_template)._ask({"messages": [], "tokens": {}})
    assert encode_prompt(tokenizer, TALKS[0]) == good


def children(tokenizer: Any) -> list[psutil.Process]:
    child = templates.renderer(tokenizer.chat_template)._child
    assert child is not None
    return [psutil.Process(child.pid)]


def test_one_process_renders_many_conversations_and_holds_no_secret_and_no_torch(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    tokenizer.chat_template = PUBLISHED["ChatML"]
    encode_prompt(tokenizer, TALKS[0])
    first = children(tokenizer)[0]
    for talk in TALKS * 20:
        encode_prompt(tokenizer, talk)
    assert children(tokenizer) == [first]
    assert "HF_TOKEN" not in first.environ() and first.memory_info().rss < 150e6
    assert not any("torch" in Path(mapped.path).name for mapped in first.memory_maps())


def test_only_so_many_processes_are_kept(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MOST_CHILDREN", 1)
    before = set(psutil.Process().children())
    for number in range(3):
        tokenizer.chat_template = f"{number}" + PUBLISHED["ChatML"]
        encode_prompt(tokenizer, TALKS[0])
    assert len(set(psutil.Process().children()) - before) == templates.MOST_CHILDREN


def test_the_starters_own_template_needs_no_process() -> None:
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    assert encode_prompt(tokenizer, TALKS[0]) and not templates._renderers
    tokenizer.chat_template += " "
    assert encode_prompt(tokenizer, TALKS[0]) and len(templates._renderers) == 1


def test_the_process_ends_with_the_one_that_started_it(tokenizer: Any) -> None:
    tokenizer.chat_template = PUBLISHED["ChatML"]
    encode_prompt(tokenizer, TALKS[0])
    child = children(tokenizer)[0]
    templates.renderer(tokenizer.chat_template)._connection.close()  # as when this process is gone
    child.wait(timeout=30)


@pytest.fixture(scope="module")
def looping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose template never ends."""
    folder, tokenizer = tmp_path_factory.mktemp("bases") / "looping", make_tokenizer()
    tokenizer.chat_template = LOOP
    make_llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.timeout(90)
def test_a_looping_template_does_not_hold_the_chat(looping: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    good = Path(shutil.copytree(STARTER, tmp_path / "good"))
    for folder in (looping, good):
        Bases(home).add(folder)
    server, talk = Server(home), TALKS[0]
    said = list(server.answer(Ask(request_id="a", base=str(looping), messages=talk)))
    assert "The chat template of the base took" in said[-1]
    settings = {"max_tokens": 2}
    said = list(server.answer(Ask(request_id="b", base=str(good), messages=talk, settings=settings)))  # type: ignore[arg-type]
    assert '"done"' in said[-1] and not server.turn.is_held


@pytest.mark.timeout(90)
def test_a_looping_template_ends_a_training_with_a_sentence(looping: Path) -> None:
    tokenizer = ChatModel(str(looping), device="cpu").tokenizer
    with pytest.raises(BaseModelError, match="The chat template of the base took"):
        encode_example(tokenizer, Example(prompt="Which colour?", answer="red"), 64)


def test_what_a_template_could_do_to_files_is_bounded(tokenizer: Any) -> None:
    """A process that has escaped jinja's sandbox still can write no file; Linux tells the limits of a process."""
    tokenizer.chat_template = PUBLISHED["ChatML"]
    encode_prompt(tokenizer, TALKS[0])
    child = children(tokenizer)[0]
    if not Path(f"/proc/{child.pid}/limits").exists():
        pytest.skip("limits of another process are told by Linux only")
    limits = Path(f"/proc/{child.pid}/limits").read_text("utf-8")
    assert any(line.startswith("Max file size") and line.split()[3] == "0" for line in limits.splitlines())
    assert os.path.realpath(f"/proc/{child.pid}/cwd") == "/"
