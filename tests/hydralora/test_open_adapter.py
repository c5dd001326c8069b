"""A saved adapter that does not fit is refused in one sentence, whatever is wrong with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hydralora.analysis.runs import load_run
from hydralora.errors import AdapterError
from hydralora.training.train import train_adapter
from tests.hydralora.conftest import make_llama
from tests.hydralora.test_generate import damage_adapter
from tests.hydralora.test_train import make_config


@pytest.fixture(scope="module")
def whole(base_folder: Path, easy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a base folder of its own."""
    root = tmp_path_factory.mktemp("whole")
    shutil.copytree(base_folder, root / "base")
    config = make_config(root / "base", max_steps=1, save_every=0, eval_every=0)
    train_adapter(config, easy_corpus, root / "run-7")
    return root / "run-7"


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("truncated", "run-7 does not fit its base or is damaged"),
        ("other shape", "run-7 does not fit its base or is damaged"),
        ("no config", "run-7 does not fit its base or is damaged"),
        ("no weights", "run-7 holds no adapter_model.safetensors"),
        ("pickled", "adapter_model.bin is pickled, and pickled weights are never read"),
    ],
)
def test_a_damaged_run_is_refused_by_name(how, sentence, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run-7")
    damage_adapter(tmp_path / "run-7" / "adapter", how)
    with pytest.raises(AdapterError, match=sentence) as error:
        load_run(tmp_path / "run-7")
    assert "\n" not in str(error.value)


def test_a_base_that_was_changed_since_is_refused(whole, tokenizer):
    kept = (whole.parent / "base" / "model.safetensors").read_bytes()
    make_llama(len(tokenizer), seed=9).save_pretrained(whole.parent / "base")
    with pytest.raises(AdapterError, match="trained on another base model"):
        load_run(whole)
    (whole.parent / "base" / "model.safetensors").write_bytes(kept)
    assert load_run(whole)[2].summary.steps == 1
