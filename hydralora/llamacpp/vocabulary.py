"""A tokenizer as llama.cpp reads it: tokens with their kinds, merges or scores, how text is cut first, the template.

llama.cpp has the ways of cutting text built in, by name; a tokenizer that cuts otherwise is refused, since its tokens
would be others there.
"""

from __future__ import annotations

import json
from typing import Any

import gguf
from gguf import TokenType

from hydralora.corpus.encode import end_of_turn
from hydralora.errors import BaseModelError

# The patterns of two families' published `tokenizer.json`; they differ in how many digits stay together.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {_WORDS.replace("DIGITS", r"\p{N}{1,3}"): "llama-bpe", _WORDS.replace("DIGITS", r"\p{N}"): "qwen2"}
SPACE = "\u2581"  # what SentencePiece writes for a space
OTHERWISE = "Its tokens would be others in llama.cpp. Export safetensors."


def describe_vocabulary(writer: gguf.GGUFWriter, tokenizer: Any, rows: int) -> None:
    """Write a tokenizer with its chat template; ``rows`` are the embeddings of the model.

    Raises:
        BaseModelError: When llama.cpp would make other tokens of a text.
    """
    values = json.loads(tokenizer.backend_tokenizer.to_str())
    if values["model"]["type"] != "BPE":
        raise BaseModelError(f"The tokenizer of this base is of the kind {values['model']['type']}. {OTHERWISE}")
    is_bytes = not values["model"].get("byte_fallback")
    tokens, kinds = _tokens(tokenizer, values, rows, is_bytes=is_bytes)
    merges = [pair if isinstance(pair, list) else pair.split(" ", 1) for pair in values["model"]["merges"]]
    if is_bytes:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(way_of_cutting(values))
        writer.add_token_list(tokens)
        writer.add_token_types(kinds)
        writer.add_token_merges([f"{left} {right}" for left, right in merges])
    else:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_add_space_prefix(_begins_with_space(values))
        writer.add_token_list(tokens)
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_token_types(kinds)
    _special(writer, tokenizer)


def way_of_cutting(values: dict[str, Any]) -> str:
    """llama.cpp's name of how a byte-level tokenizer cuts text before it merges.

    Raises:
        BaseModelError: When it has none for it.
    """
    cutter = values["pre_tokenizer"] or {}
    steps = cutter.get("pretokenizers", [cutter])
    last = steps[-1]
    plain = last.get("type") == "ByteLevel" and not last.get("add_prefix_space")
    normal = (values["normalizer"] or {}).get("type")
    found = None
    if plain and len(steps) == 1 and last.get("use_regex", True):
        found = "gpt-2"
    elif plain and len(steps) == 2 and steps[0] == {"type": "Digits", "individual_digits": True}:
        found = "smollm" if last.get("use_regex", True) else None
    elif plain and len(steps) == 2 and steps[0].get("type") == "Split" and not last.get("use_regex", True):
        found = PATTERNS.get(steps[0]["pattern"].get("Regex", ""))
    keeps_whole = bool(values["model"].get("ignore_merges"))
    if found is None or normal not in (None, *(["NFC"] if found == "qwen2" else [])):
        raise BaseModelError(f"The tokenizer of this base cuts text in a way of its own. {OTHERWISE}")
    if keeps_whole != (found == "llama-bpe"):
        raise BaseModelError(f"The tokenizer of this base merges in a way of its own (`ignore_merges`). {OTHERWISE}")
    return found


def _begins_with_space(values: dict[str, Any]) -> bool:
    """Whether SentencePiece's tokenizer puts a space in front of a text.

    Raises:
        BaseModelError: When it changes texts in another way than SentencePiece does.
    """
    cutter, normal = values["pre_tokenizer"], values["normalizer"] or {}
    if cutter and cutter.get("type") == "Metaspace" and not normal and cutter.get("replacement") == SPACE:
        return bool(cutter.get("prepend_scheme", "always") != "never")
    steps = normal.get("normalizers", [normal] if normal else [])
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    if cutter is None and steps == [{"type": "Prepend", "prepend": SPACE}, spaces]:
        return True
    if cutter is None and steps == [spaces]:
        return False
    raise BaseModelError(f"The tokenizer of this base changes texts in a way of its own. {OTHERWISE}")


def _tokens(tokenizer: Any, values: dict[str, Any], rows: int, *, is_bytes: bool) -> tuple[list[str], list[int]]:
    """Every token by its id with its kind; rows without a token are filled with unused ones."""
    known = {number: token for token, number in values["model"]["vocab"].items()}
    added = {token["id"]: token for token in values["added_tokens"]}
    texts, kinds = [], []
    for number in range(rows):
        if number in added:
            texts.append(added[number]["content"])
            kinds.append(TokenType.CONTROL if added[number]["special"] else TokenType.USER_DEFINED)
        elif number in known:
            texts.append(known[number])
            kinds.append(TokenType.BYTE if not is_bytes and _is_byte(known[number]) else TokenType.NORMAL)
        else:
            texts.append(f"[PAD{number}]")
            kinds.append(TokenType.UNUSED)
        if not is_bytes and number == tokenizer.unk_token_id:
            kinds[-1] = TokenType.UNKNOWN
    return texts, [int(kind) for kind in kinds]


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    """Of two pieces that could be joined SentencePiece joins the one with the higher score: the earlier merge."""
    place: dict[str, int] = {}
    for number, (left, right) in enumerate(merges):
        place.setdefault(left + right, number)
    return [float(-place.get(token, len(merges))) for token in tokens]


def _special(writer: gguf.GGUFWriter, tokenizer: Any) -> None:
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    writer.add_add_bos_token(begins)
    writer.add_add_eos_token(False)
    for number, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if number is not None:
            add(number)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)
        if (end := end_of_turn(tokenizer)) != tokenizer.eos_token_id:
            writer.add_eot_token_id(end)
