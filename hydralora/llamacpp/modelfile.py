"""A Modelfile, by which Ollama makes a model of its own out of the files.

https://github.com/ollama/ollama/blob/main/docs/modelfile.md
"""

from __future__ import annotations

from typing import Any

from hydralora.corpus.encode import encode_prompt, end_of_turn

USER, SYSTEM, ANSWER = "SAID-BY-THE-USER", "SAID-BY-THE-SYSTEM", "SAID-BY-THE-MODEL"


def modelfile(tokenizer: Any, base: str, adapter: str | None = None) -> str:
    """The text of a Modelfile.

    Args:
        base: The GGUF file of the model, from where the Modelfile lies.
        adapter: The GGUF file of an adapter on it.
    """
    lines = [f"FROM {base}", *([f"ADAPTER {adapter}"] if adapter else [])]
    template = ollama_template(tokenizer)
    if template is not None:
        lines.append(f'TEMPLATE """{template}"""')
    if tokenizer.chat_template:
        end = str(tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)))
        if end.isprintable() and not set(end) & set('"\\'):  # it is the base's, and a line of ours
            lines.append(f'PARAMETER stop "{end}"')
    return "\n".join(lines) + "\n"


def ollama_template(tokenizer: Any) -> str | None:
    """The chat template for one question as Ollama writes it; None where it cannot be told from two conversations.

    The base's own template is asked what it writes around a question, with a system text and without.
    """
    if not tokenizer.chat_template:
        return None
    user = {"role": "user", "content": USER}
    alone = _written(tokenizer, [user])
    head, has_system, rest = _written(tokenizer, [{"role": "system", "content": SYSTEM}, user]).partition(SYSTEM)
    before, found, after = alone.partition(USER)
    middle, has_user, end = rest.partition(USER)
    behind = _behind_an_answer(tokenizer)
    if not found or any(sign in alone + head + middle + behind for sign in '"{}'):
        return None  # signs of Modelfiles and their templates, which the base's own words may not write
    turn = f"{{{{ .Prompt }}}}{after}{{{{ .Response }}}}{behind}"
    if not (has_system and has_user) or end != after:
        return f"{before}{turn}"
    return f"{{{{ if .System }}}}{head}{{{{ .System }}}}{middle}{{{{ else }}}}{before}{{{{ end }}}}{turn}"


def _behind_an_answer(tokenizer: Any) -> str:
    """What ends an answer in the middle of a conversation, with the white space behind it; empty where it is not told.

    Ollama repeats its template for every turn, and cuts what stands behind the last answer.
    """
    question = {"role": "user", "content": USER}
    between = _written(tokenizer, [question, {"role": "assistant", "content": ANSWER}, question]).partition(ANSWER)[2]
    end = str(tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)))
    if not between.startswith(end):
        return ""
    rest = between.removeprefix(end)
    return end + rest[: len(rest) - len(rest.lstrip())]


def _written(tokenizer: Any, messages: list[dict[str, Any]]) -> str:
    """A conversation as text up to the answer, without the token that llama.cpp puts in front by itself."""
    ids = encode_prompt(tokenizer, messages)
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return str(tokenizer.decode(ids[1:] if begins and ids[:1] == [tokenizer.bos_token_id] else ids))
