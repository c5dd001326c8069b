"""Every result file is a type: a real one comes back as it was, a wrong one is refused by field and file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hydralora.analysis.answers import compare_answers
from hydralora.analysis.comparison import compare_adapters
from hydralora.analysis.drift import measure_weights
from hydralora.analysis.experts import measure_change, measure_experts
from hydralora.analysis.export import export_run
from hydralora.analysis.maps import draw_map
from hydralora.analysis.routing import measure_routing
from hydralora.config import parse_config
from hydralora.corpus.clusters.clustering import cluster_corpus
from hydralora.corpus.quality import FOLDER as QUALITY
from hydralora.corpus.quality.report import check_corpus
from hydralora.errors import ResultError
from hydralora.files import last_checkpoint
from hydralora.results import (
    AdapterFacts,
    Change,
    Clusters,
    CorpusManifest,
    GroupGates,
    Heads,
    MatrixMap,
    Quality,
    Result,
    RunJournal,
    TrainingSet,
    Weights,
)
from hydralora.results.describe import page, result_types
from hydralora.results.energy import Energy
from hydralora.training.energy import FOLDER
from hydralora.training.train import train_adapter

STEP = 3
Stored = dict[type[Result], tuple[Path, Result]]


@pytest.fixture(scope="module")
def stored(base_folder: Path, easy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """A real result of every kind, of one small run: its folder, and what the function that wrote it has given."""
    root = tmp_path_factory.mktemp("results")
    clusters, run = root / "clusters", root / "run"
    found: Stored = {Clusters: (clusters, cluster_corpus(easy_corpus, clusters, k=2))}
    config = {
        "base": str(base_folder),
        "adapter": {"rank": 4, "num_experts": 3},
        "train": {"max_steps": STEP, "batch_size": 8, "max_length": 64, "eval_every": 0, "learning_rate": 1e-2},
    }
    summary = train_adapter(parse_config(config), easy_corpus, run, clusters_folder=clusters)
    facts = AdapterFacts.read(run / "adapter")
    assert facts.summary == summary
    found[AdapterFacts] = run / "adapter", facts
    found[TrainingSet] = run, TrainingSet.read(run)
    checkpoint = last_checkpoint(run)
    assert checkpoint is not None
    found[RunJournal] = checkpoint, RunJournal.read(checkpoint)
    energy = Energy(cpu_kwh=0.01, cpu="estimated", co2e_kg=0.005, seconds=3.0)  # codecarbon need not be installed
    found[Energy] = run / FOLDER, energy.write(run / FOLDER, step=STEP)
    checked = check_corpus(shutil.copytree(easy_corpus, root / "corpus"), parse_config(config).train)
    found[Quality] = root / "corpus" / QUALITY, checked
    found[CorpusManifest] = easy_corpus, CorpusManifest.read(easy_corpus)
    for measure in (measure_routing, measure_experts, compare_answers):
        out = root / measure.__name__
        result = measure(run, easy_corpus, out, clusters_folder=clusters)
        found[type(result)] = out, result
    weights = measure_weights(run, root / "weights")
    found[Weights] = root / "weights", weights
    found[Heads] = root / "weights", Heads(layers=weights.layers, sentence=weights.sentence)
    drawn = draw_map({"run 1": run / "adapter"}, out_folder=root / "map")
    compared = compare_adapters({name: run / name for name in ("start", "adapter")}).write(root / "compare")
    exported = export_run(run, easy_corpus, root / "export", "uniform")
    for out, result in ((root / "map", drawn), (root / "compare", compared), (root / "export", exported)):
        found[type(result)] = out, result
    return found


def file_of(kind: type[Result], folder: Path) -> Path:
    return folder / kind.FILE.format(step=STEP)


@pytest.mark.parametrize("kind", result_types(), ids=lambda kind: kind.__name__)
def test_a_real_result_comes_back_as_it_was_under_the_keys_of_its_file(stored: Stored, kind: type[Result]) -> None:
    folder, given = stored[kind]
    found = kind.read(folder, step=STEP)
    assert found == given
    assert found.dump() == json.loads(file_of(kind, folder).read_text("utf-8"))


@pytest.mark.parametrize("kind", result_types(), ids=lambda kind: kind.__name__)
def test_a_field_of_a_wrong_type_is_refused_with_its_name_and_the_files(
    stored: Stored, kind: type[Result], tmp_path: Path
) -> None:
    values = json.loads(file_of(kind, stored[kind][0]).read_text("utf-8"))
    name = next(iter(values))
    file_of(kind, tmp_path).write_text(json.dumps({**values, name: {"no": ["such", "thing"]}}), "utf-8")
    with pytest.raises(
        ResultError, match=rf"{file_of(kind, tmp_path).name} of .* is gone or damaged.*`{name}"
    ) as refused:
        kind.read(tmp_path, step=STEP)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", result_types(), ids=lambda kind: kind.__name__)
def test_a_file_that_is_gone_or_cut_short_is_told_in_a_sentence(
    stored: Stored, kind: type[Result], tmp_path: Path
) -> None:
    with pytest.raises(ResultError, match=r"is gone or damaged\. Put that folder back"):
        kind.read(tmp_path, step=STEP)
    whole = file_of(kind, stored[kind][0]).read_bytes()
    file_of(kind, tmp_path).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResultError, match="nvalid JSON"):
        kind.read(tmp_path, step=STEP)


def test_a_result_is_never_changed(stored: Stored) -> None:
    _, result = stored[Clusters]
    with pytest.raises(ValueError, match="frozen"):
        result.k = 3  # type: ignore[attr-defined]


def test_similarity_keeps_the_key_it_had_in_earlier_files(stored: Stored) -> None:
    folder, drawn = stored[MatrixMap]
    assert json.loads((folder / "map.json").read_text("utf-8"))["likeness"] == "cosine"
    assert isinstance(drawn, MatrixMap) and drawn.similarity == "cosine"


def test_what_an_earlier_version_left_out_has_the_honest_default() -> None:
    one = GroupGates.model_validate_json('{"names": ["C1"], "real": false, "sentence": "There is only one group."}')
    assert (
        not one.is_measured
        and one.p == 1.0
        and one.dump()
        == {
            "names": ["C1"],
            "real": False,
            "sentence": "There is only one group.",
        }
    )


def test_the_spread_of_one_example_is_not_known_now_and_in_earlier_files() -> None:
    now = measure_change(np.array([0.5]), 1)
    assert now.half_width is None and json.dumps(now.dump(), allow_nan=False)
    before = '{"change": 0.5, "half_width": Infinity, "p": 1.0, "real": false, "examples": 1}'
    assert Change.model_validate_json(before).half_width is None


def test_the_page_of_the_results_says_what_the_types_say() -> None:
    written = (Path(__file__).resolve().parents[2] / "docs" / "results.md").read_text("utf-8")
    assert written == page(), "print it anew: python -m hydralora.results > docs/results.md"


@pytest.mark.parametrize("line", [line for line in page().splitlines() if line.startswith("| `")])
def test_every_field_has_a_meaning(line: str) -> None:
    assert len(line.split(" | ")[2].removesuffix(" |").split()) >= 2, line
