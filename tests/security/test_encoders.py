"""A sentence encoder of a stranger says what it is made of, and never what is to be run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hydralora.bases.folder import STARTER
from hydralora.corpus.clusters.encoder_files import check_encoder
from hydralora.errors import CorpusError

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    {"idx": 3, "name": "3", "path": "3_Normalize", "type": "sentence_transformers.models.Normalize"},
]
DENSE = {"in_features": 8, "out_features": 4, "activation_function": "torch.nn.modules.activation.Tanh"}


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """The files of an encoder around the starter."""
    folder = tmp_path / "encoder"
    for name in ("", "1_Pooling", "2_Dense"):
        (folder / name).mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).symlink_to(STARTER / name)
    save_file({"linear.weight": torch.zeros(4, 8)}, folder / "2_Dense" / "model.safetensors")
    write(folder, "modules.json", MODULES)
    write(folder, "sentence_bert_config.json", {"max_seq_length": 128, "do_lower_case": False, "model_args": {}})
    write(folder, "config_sentence_transformers.json", {"similarity_fn_name": "cosine", "prompts": {"query": "q: "}})
    write(folder, "1_Pooling/config.json", {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True})
    write(folder, "2_Dense/config.json", DENSE)
    return folder


def write(folder: Path, name: str, value: Any) -> None:
    (folder / name).unlink(missing_ok=True)  # it may be the starter's own
    (folder / name).write_text(json.dumps(value))


def module(**changes: Any) -> list[dict[str, Any]]:
    return [MODULES[0] | changes, *MODULES[1:]]


def config(**changes: Any) -> dict[str, Any]:
    return json.loads((STARTER / "config.json").read_text()) | changes


def test_an_encoder_as_it_is_saved_is_taken(encoder: Path) -> None:
    check_encoder(encoder)


BERT, WHOLE = "sentence_bert_config.json", "config_sentence_transformers.json"
HOSTILE: dict[str, tuple[str, Any]] = {
    "a module of its own": ("modules.json", module(type="evil.Model")),
    "a function of the library": ("modules.json", module(type="sentence_transformers.util.misc.import_from_string")),
    "a whole model as a module": ("modules.json", module(type="sentence_transformers.SentenceTransformer")),
    "a class whose name ends alike": ("modules.json", module(type="sentence_transformers.models.Pooling.evil.Dense\n")),
    "a folder elsewhere": ("modules.json", module(path="../elsewhere")),
    "an absolute folder": ("modules.json", module(path="/etc")),
    "no modules": ("modules.json", []),
    "an object in place of modules": ("modules.json", {}),
    "very many modules": ("modules.json", MODULES * 100),
    "code in the configuration": ("config.json", config(auto_map={"AutoModel": "evil.Model"})),
    "sizes beyond every model": ("config.json", config(hidden_size=10**9)),
    "more than the weights hold": ("config.json", config(vocab_size=2_000_000)),
    "trust in code": (BERT, {"model_args": {"trust_remote_code": True}}),
    "a pickle asked for": (BERT, {"model_kwargs": {"use_safetensors": False}}),
    "another model": (BERT, {"config_args": {"name_or_path": "/etc"}}),
    "a method of the model": (BERT, {"modality_config": {"text": {"method": "push_to_hub"}}}),
    "a setting that nobody knows": (BERT, {"backend": "x"}),
    "a length of its own": (BERT, {"max_seq_length": 10**12}),
    "an odd kind of model": (WHOLE, {"model_type": "CrossEncoder"}),
    "numbers that are none": ("1_Pooling/config.json", {"word_embedding_dimension": 1e999}),
    "a vector of any width": ("1_Pooling/config.json", {"word_embedding_dimension": 10**30}),
    "any function as activation": ("2_Dense/config.json", DENSE | {"activation_function": "os.abort"}),
    "any function of torch": ("2_Dense/config.json", DENSE | {"activation_function": "torch.hub.list"}),
    "a layer without weights": ("2_Dense/config.json", DENSE | {"in_features": 60_000, "out_features": 60_000}),
    "an adapter": ("adapter_config.json", {"base_model_name_or_path": "/etc", "target_modules": "(a+)+$"}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_an_encoder_may_not_say_is_refused_in_one_sentence_before_a_library_reads_it(
    name: str, encoder: Path
) -> None:
    file, value = HOSTILE[name]
    write(encoder, file, value)
    with pytest.raises(CorpusError, match=r"^The encoder in 'encoder' cannot be loaded: ") as error:
        check_encoder(encoder)
    said = str(error.value)
    assert said.endswith(".") and said.isprintable() and len(said) < 400 and str(encoder.parent) not in said


BROKEN: dict[str, Callable[[Path], object]] = {
    "not JSON": lambda file: file.write_text("{"),
    "deep": lambda file: file.write_text("[" * 100_000),
    "large": lambda file: file.write_text(" " * 5 * 2**20),
    "not UTF-8": lambda file: file.write_bytes(b"\xff\xfe"),
    "a pipe": os.mkfifo,
    "two values": lambda file: file.write_text('[]}{"modules": []'),
}


@pytest.mark.parametrize("file", ["modules.json", BERT, WHOLE, "config.json", "2_Dense/config.json"])
@pytest.mark.parametrize("how", BROKEN)
def test_a_file_that_is_none_is_refused_and_not_waited_for(how: str, file: str, encoder: Path) -> None:
    (encoder / file).unlink()
    BROKEN[how](encoder / file)
    with pytest.raises(CorpusError) as error:
        check_encoder(encoder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["pytorch_model.bin", "2_Dense/x.PT", "deep/er/y.joblib"])
def test_a_pickle_anywhere_in_it_is_refused(name: str, encoder: Path) -> None:
    (encoder / name).parent.mkdir(parents=True, exist_ok=True)
    (encoder / name).write_bytes(b"")
    with pytest.raises(CorpusError, match="may run code"):
        check_encoder(encoder)
