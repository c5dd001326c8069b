"""The call for notebooks: figures and numbers of an adapter from its folder alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import plotly.graph_objects as go
import pytest

from hydralora import add_adapter
from hydralora.errors import AdapterError
from studio.figures.heads import MEASURES
from studio.figures.notebook import compare_runs, inspect_adapter
from tests.hydralora.conftest import make_llama, make_tokenizer, randomise
from tests.hydralora.planted import EXPERTS, random_heads, write_adapter
from tests.studio.commands import ENVIRONMENT, PROJECT


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads that are alike within each layer."""
    return write_adapter(tmp_path_factory.mktemp("adapter"), random_heads(0, by_layer=1.0))


def test_an_adapter_becomes_plotly_figures_with_reading_aids(adapter: Path) -> None:
    look = inspect_adapter(adapter)
    assert {f"heads_{measure}" for measure in MEASURES} | {
        "similarity",
        "norms",
        "map_A",
        "map_B",
        "matrices_B",
    } <= set(look.figures)
    assert all(isinstance(figure, go.Figure) and look.aids[name] for name, figure in look.figures.items())
    assert (
        look.sentence.startswith("The updates of the heads are related") and len(look.numbers["weights"]["layers"]) == 6
    )


def test_the_figure_holds_the_numbers_of_the_layer_that_was_asked_for(adapter: Path) -> None:
    look = inspect_adapter(adapter, layer="layers.3.self_attn.q_proj", maps=False)
    wanted = next(row for row in look.numbers["weights"]["layers"] if row["layer"] == 3)["overlap"]
    drawn = look.figures["heads_overlap"].data[0].z
    assert [list(row) for row in drawn] == [[pytest.approx(v, abs=1e-4) for v in row] for row in wanted]
    with pytest.raises(AdapterError, match="No adapted layer is called 'lm_head'"):
        inspect_adapter(adapter, layer="lm_head", maps=False)


def test_a_plain_lora_of_peft_can_be_looked_into(tmp_path: Path) -> None:
    model = add_adapter(make_llama(len(make_tokenizer())), "lora", {"r": 4, "target_modules": ["q_proj", "v_proj"]})
    randomise(model).save_pretrained(tmp_path)
    look = inspect_adapter(tmp_path)
    assert look.sentence.startswith("One head in each layer") and "map_B" in look.figures


def test_random_runs_are_not_said_to_be_alike(tmp_path: Path) -> None:
    folders = {f"run {s}": write_adapter(tmp_path / str(s), random_heads(s), seed=s) for s in range(2)}
    look = compare_runs(dict(folders))
    assert look.sentence.count("no more alike than chance") == 3 and set(look.figures) == {"A", "B", "BA", "layers"}


def test_the_command_looks_into_a_folder_without_a_studio(adapter: Path, tmp_path: Path) -> None:
    line = [
        sys.executable,
        "-m",
        "studio",
        "--home",
        str(tmp_path / "home"),
        "inspect",
        "--adapter",
        str(adapter),
        "--json",
    ]
    done = subprocess.run(line, cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    found = json.loads(done.stdout)
    assert len(found["map_B"]["points"]) == 6 * EXPERTS and found["map_B"]["sentence"].startswith(
        "The B matrices group by layer"
    )
    assert found["sentence"] == found["weights"]["sentence"] and not (tmp_path / "home").exists()


def test_a_folder_without_an_adapter_is_refused_in_one_sentence(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "studio", "inspect", "--adapter", str(tmp_path), "--json"]
    done = subprocess.run(line, cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "") and len(done.stderr.strip().splitlines()) == 1


def test_the_example_of_the_guide_runs_as_it_stands(adapter: Path, tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "reading-the-pictures.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code
    text = code[1].replace('"outputs/adapter"', repr(str(adapter))).replace('"outputs/other"', repr(str(adapter)))
    text = text.replace('"similarity.html"', repr(str(tmp_path / "similarity.html")))
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=PROJECT, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and (tmp_path / "similarity.html").exists(), done.stderr
