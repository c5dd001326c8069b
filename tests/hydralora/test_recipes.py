"""docs/recipes.md: every block runs as it stands, is short, and leaves an adapter that has learnt."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import Trainer
from trl import SFTTrainer

from hydralora.methods import METHODS
from hydralora.training.mixin import TrainsMethod
from hydralora.training.train import find_trainer
from hydralora.tuner.gates import choose_heads
from tests.hydralora.conftest import easy_rows, write_lines
from tests.hydralora.test_lorahub import make_source

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text("utf-8")
BLOCKS = re.findall(r"^## (.*?)$.*?^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
MOST_LINES = 40


@pytest.fixture
def folder(base_folder: Path, load_tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the recipes name: a base, rows with tasks, finished LoRAs."""
    shutil.copytree(base_folder, tmp_path / "base")
    rows = [{"prompt": row["prompt"], "completion": row["answer"], "task": row["label"]} for row in easy_rows()]
    write_lines(tmp_path / "tasks.jsonl", rows)
    for seed in (1, 2, 3):
        make_source(tmp_path / "loras" / f"lora{seed}", load_tiny(), seed=seed)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("title", "code"), BLOCKS, ids=[title.partition(":")[0] for title, _ in BLOCKS])
def test_a_recipe_runs_as_it_stands_and_leaves_its_adapter(title, code, folder, load_tiny, ids):
    names: dict[str, Any] = {}
    exec(compile(code, title, "exec"), names)
    trainer = names["trainer"]
    losses = [entry["train_loss"] for entry in trainer.state.log_history if "train_loss" in entry]
    assert trainer.state.global_step > 3 and all(map(math.isfinite, losses))
    assert isinstance(trainer, TrainsMethod) and isinstance(trainer, SFTTrainer) == ("SFTTrainer" in code)
    choose_heads(trainer.model, None)
    (saved,) = folder.glob("*/adapter")
    again = PeftModel.from_pretrained(load_tiny(), saved).eval()
    with torch.inference_mode():
        tuned, base = again(input_ids=ids).logits, load_tiny()(input_ids=ids).logits
        assert torch.isfinite(tuned).all() and not torch.allclose(tuned, base, atol=1e-4)
        torch.testing.assert_close(trainer.model.eval()(input_ids=ids[:1]).logits, tuned[:1], rtol=1e-3, atol=1e-3)


def test_every_method_with_a_training_of_its_own_has_a_recipe_of_fewer_than_forty_lines():
    assert all(len(code.strip().splitlines()) < MOST_LINES for _, code in BLOCKS)
    code = "\n".join(code for _, code in BLOCKS)
    mixins = {method.mixin.rpartition(".")[2] for method in METHODS.values() if method.mixin}
    assert len(mixins) == 6 and all(f"({mixin}, " in code for mixin in mixins)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.mixin])
def test_a_run_of_the_studio_trains_with_the_class_of_the_recipe(method):
    kind = find_trainer(method)
    assert issubclass(kind, Trainer) and f"({kind.__mro__[1].__name__}, " in TEXT
