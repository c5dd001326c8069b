"""Base models: how many threads one gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from hydralora.bases import load as base
from hydralora.bases.load import fit_threads


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(base, "ALL_THREADS", 4)
    yield
    torch.set_num_threads(1)


def folder_of_width(folder: Path, width: int) -> str:
    """A base without weights: only its size is read."""
    LlamaConfig(hidden_size=width, num_attention_heads=4).save_pretrained(folder)
    (folder / "model.safetensors").touch()
    return str(folder)


@pytest.mark.parametrize(("width", "threads"), [(32, 1), (160, 1), (256, 2), (1024, 4), (4096, 4)])
def test_a_narrow_model_gets_few_threads_and_a_wide_one_all(width: int, threads: int, tmp_path: Path) -> None:
    assert fit_threads(folder_of_width(tmp_path, width)) == threads == torch.get_num_threads()


def test_a_wide_model_after_a_narrow_one_gets_all_threads_again(tmp_path: Path) -> None:
    for name, width, threads in (("narrow", 32, 1), ("wide", 1024, 4)):
        assert fit_threads(folder_of_width(tmp_path / name, width)) == threads


def test_a_base_that_is_not_there_is_left_to_whoever_loads_it() -> None:
    assert fit_threads("nowhere at all") == 4
