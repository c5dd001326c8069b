"""A tiny Llama with random weights, its tokenizer, and corpora of a few lines, made in code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    set_seed,
)

from hydralora.bases.load import load_base
from hydralora.corpus.imports import import_corpus
from tests import emulated

DEVICE = os.environ.get("HYDRA_TEST_DEVICE", "cpu")  # of every model and of what is put into it
if DEVICE == emulated.NAME:
    emulated.install()
SPECIAL = ["<|pad|>", "<|begin|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEMPLATE = (
    "<|begin|>{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
COLOURS = ("red", "green", "blue", "white", "black", "brown", "pink", "grey")
THINGS = ("door", "tree", "boat", "lamp", "book", "shoe", "bird", "cup")


def pytest_configure() -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what the emulated device cannot do, with the reason."""
    for item in items:
        lacking = emulated.NOT_EMULATED.get(item.name, emulated.NOT_EMULATED.get(getattr(item, "originalname", "")))
        if lacking and DEVICE == emulated.NAME:
            item.add_marker(pytest.mark.skip(reason=f"the emulated device lacks {lacking}"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread again after each test: UMAP raises the number for the whole process."""
    yield
    torch.set_num_threads(1)


def easy_rows() -> list[dict[str, str]]:
    """64 questions of two kinds with short answers that follow from the question."""
    rows = []
    for i in range(64):
        thing, colour = THINGS[i % 8], COLOURS[i // 8]
        prompt = f"The {thing} is {colour}. Which colour?" if i % 2 else f"A {colour} {thing}. Which?"
        rows.append({"prompt": prompt, "answer": colour if i % 2 else thing, "label": "colour" if i % 2 else "thing"})
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """One JSON object per line, in UTF-8."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of at most 320 tokens, trained on the easy corpus, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [f"{row['prompt']}\n{row['answer']}" for row in easy_rows()]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=SPECIAL,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[-1],
        additional_special_tokens=SPECIAL[2:5],
        chat_template=TEMPLATE,
        model_max_length=128,
        clean_up_tokenization_spaces=False,
    )


def make_llama(vocabulary: int = 320, seed: int = 0, width: int = 32, positions: int = 128) -> LlamaForCausalLM:
    """Two layers, hidden width 32, four heads, 128 positions."""
    set_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=48 if width == 32 else 2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=positions,
            initializer_range=0.1,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=5,
        )
    )
    return model.to(DEVICE)


def randomise(model: torch.nn.Module, seed: int = 1, scale: float = 0.2) -> torch.nn.Module:
    """Give every trainable weight random values, so that heads and routers are not at their start."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = (torch.randn(weight.shape, generator=generator) * scale).to(weight.device)
    return model


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """The tiny Llama as a folder of safetensors."""
    folder = tmp_path_factory.mktemp("base")
    make_llama(len(tokenizer)).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def load_tiny(base_folder: Path) -> Callable[[], PreTrainedModel]:
    """Gives a fresh frozen copy of the tiny Llama at each call."""
    return lambda: load_base(str(base_folder), device=DEVICE)[0].eval()


@pytest.fixture
def tiny(load_tiny: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    return load_tiny()


@pytest.fixture(scope="session")
def easy_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an imported corpus of 64 short questions and answers."""
    folder = tmp_path_factory.mktemp("easy")
    import_corpus([write_lines(folder / "easy.jsonl", easy_rows())], folder / "corpus")
    return folder / "corpus"


@pytest.fixture
def ids() -> torch.Tensor:
    """Token ids ``(2, 7)`` without special tokens."""
    return torch.randint(6, 300, (2, 7), generator=torch.Generator().manual_seed(3)).to(DEVICE)
