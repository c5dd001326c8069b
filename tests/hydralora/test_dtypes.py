"""A run on a base of any type: it learns, is looked into and answers on the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hydralora.analysis.runs import load_run
from hydralora.bases.fingerprint import fingerprint
from hydralora.bases.load import QUANTISED, load_base
from hydralora.errors import AdapterError, BaseModelError
from hydralora.generate import ChatModel
from hydralora.results import AdapterFacts
from hydralora.training.train import train_adapter
from tests.hydralora.conftest import make_llama
from tests.hydralora.test_train import Recorder, make_config

TYPES = ("bfloat16", "auto", *QUANTISED)


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A base whose layers are as wide as one block of 64 weights; some CPUs cannot pack narrower ones into 4 bits."""
    folder = tmp_path_factory.mktemp("wide")
    make_llama(len(tokenizer), width=64).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(params=TYPES)
def dtype(request: Any) -> str:
    if request.param in QUANTISED:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed, so no base can be quantised")
    return str(request.param)


def test_a_run_learns_and_answers_on_its_type(dtype: str, wide_base: Path, easy_corpus: Path, tmp_path: Path) -> None:
    steps = Recorder()
    config = make_config(wide_base, adapter={"r": 4, "num_experts": 2}, dtype=dtype, max_steps=20, save_every=0)
    summary = train_adapter(config, easy_corpus, tmp_path, on_step=steps)
    losses = [loss for loss, *_ in steps.curve]
    assert sum(losses[-4:]) < sum(losses[:4]) and summary.trainable > 0
    model, _, facts = load_run(tmp_path)
    assert len(model.base_model.routed_layers()) == 14
    chat = ChatModel(str(wide_base), dtype=facts.config.train.dtype)
    said = [{"role": "user", "content": "the door"}]
    assert list(chat.stream(said, adapter=tmp_path / "adapter"))


@pytest.mark.parametrize(("trained", "asked"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_an_adapter_fits_its_base_in_another_type(
    trained: str, asked: str, wide_base: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    config = make_config(wide_base, dtype=trained, max_steps=1, eval_every=0, save_every=0)
    train_adapter(config, easy_corpus, tmp_path)
    assert ChatModel(str(wide_base), dtype=asked).use(tmp_path / "adapter") is not None


def test_a_fingerprint_changes_with_weights_and_not_with_their_type(wide_base: Path) -> None:
    marks = [fingerprint(load_base(str(wide_base), dtype=dtype)[0]) for dtype in ("float32", "bfloat16")]
    assert marks[0].now == marks[1].now and marks[0].earlier != marks[1].earlier
    other, _ = load_base(str(wide_base))
    other.lm_head.weight.data[0, 0] += 1
    assert not fingerprint(other).fits(marks[0].now) and marks[0].fits(None)


def test_an_adapter_of_an_earlier_version_fits_its_base_and_no_other(
    wide_base: Path, base_folder: Path, easy_corpus: Path, tmp_path: Path
) -> None:
    train_adapter(make_config(wide_base, max_steps=1, eval_every=0, save_every=0), easy_corpus, tmp_path)
    adapter = tmp_path / "adapter"
    facts = AdapterFacts.read(adapter)
    earlier = fingerprint(load_base(str(wide_base))[0]).earlier
    facts.model_copy(update={"base_fingerprint": earlier}).write(adapter)
    assert ChatModel(str(wide_base)).use(adapter) is not None
    facts.model_copy(update={"base_fingerprint": "0" * 16}).write(adapter)
    with pytest.raises(AdapterError, match="base"):
        ChatModel(str(wide_base)).use(adapter)


def test_auto_is_float32_without_a_gpu(wide_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_base(str(wide_base), dtype="auto", device="cpu")[0].dtype == torch.float32


@pytest.mark.parametrize("quantised", QUANTISED)
def test_a_missing_package_is_a_sentence(quantised: str, wide_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydralora.bases.load.find_spec", lambda name: None)
    with pytest.raises(BaseModelError, match=f"`dtype` is {quantised}, which needs the package bitsandbytes"):
        load_base(str(wide_base), dtype=quantised)


def test_a_type_that_this_machine_cannot_compute_in_is_a_sentence(
    wide_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")

    def cannot(*_: Any, **__: Any) -> None:  # as bitsandbytes fails with narrow layers on some processors
        raise RuntimeError("shape '[160, 2]' is invalid for input of size 400")

    monkeypatch.setattr(bitsandbytes.nn.Linear4bit, "forward", cannot)
    with pytest.raises(
        BaseModelError, match=r"`dtype` is nf4, .* cannot be computed in it on this machine .*\[160, 2\]"
    ):
        load_base(str(wide_base), dtype="nf4")
