"""Exports on the page, in the store and as a download."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from hydralora.errors import UserError
from hydralora.methods import EXPORTS, METHODS, export_ways
from hydralora.results import Export, ExportedPart, LlamaCheck, RunSummary
from jobs.store.records import Analysis, Run
from jobs.store.status import JobStatus
from jobs.store.store import Store
from studio.exports import EXPORT_HEAD, export_row, is_doubtful, trainable
from studio.pages.run.export import export_view
from studio.pages.run.views import run_cards
from tests.studio.stored import Stored, weights_result

PART = ExportedPart(
    name="<b>all</b>",
    folder="adapter",
    examples=12,
    tokens=90,
    live_loss=1.0,
    loss=1.125,
    kl=0.0625,
    base_loss=3.0,
    base_kl=2.0,
)


def exported(stored: Stored, run: Run, files: list[str]) -> Analysis:
    """A finished export with these files."""
    row = stored.store.analyses.export(run.id, "mean_gate")
    folder = stored.home.analysis(row.id)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"this is {name}", "utf-8")
    stored.end(row.job, Export(sentence="Loss 1.125.", measured_on="held-out", parts=[PART]).row())
    return stored.store.analyses.get(row.id)


def test_the_download_holds_the_allowed_files_only(client: TestClient, stored: Stored) -> None:
    allowed = ["adapter/README.md", "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "export.json"]
    hidden = ["adapter/optimizer.pt", "notes.txt", "adapter/deep/adapter_config.json", "training_args.bin"]
    found = exported(stored, stored.run(stored.corpus()), [*allowed, *hidden])
    reply = client.get(f"/ui/analyses/{found.id}/export.zip")
    archive = zipfile.ZipFile(io.BytesIO(reply.content))
    assert sorted(archive.namelist()) == allowed
    assert f'filename="run-{found.run_id}-mean_gate.zip"' in reply.headers["content-disposition"]


def test_an_unfinished_export_is_not_downloaded(client: TestClient, stored: Stored) -> None:
    waiting = stored.store.analyses.export(stored.run(stored.corpus()).id, "uniform")
    reply = client.get(f"/ui/analyses/{waiting.id}/export.zip")
    assert reply.status_code == 400 and "no finished export" in reply.json()["detail"]


def test_another_analysis_is_no_export(client: TestClient, stored: Stored) -> None:
    other = stored.analysis(stored.run(stored.corpus()), "weights", weights_result())
    assert client.get(f"/ui/analyses/{other.id}/export.zip").status_code == 400


def test_the_page_shows_the_gap_and_the_way_to_the_files(stored: Stored) -> None:
    run = stored.run(stored.corpus())
    found = exported(stored, run, ["export.json"])
    view = str(export_view(stored.store, run))
    assert EXPORTS["mean_gate"] in view and f"/ui/analyses/{found.id}/export.zip" in view
    assert "1.1250" in view and "0.0625" in view and "<b>all" not in view


def test_a_failed_export_says_why(stored: Stored) -> None:
    run = stored.run(stored.corpus())
    row = stored.store.analyses.export(run.id, "uniform")
    stored.end(row.job, None, JobStatus.FAILED, error="The disk is full.", error_kind="disk")
    assert "The disk is full." in str(export_view(stored.store, run))


def test_the_same_export_is_made_once(stored: Stored) -> None:
    run = stored.run(stored.corpus())
    assert stored.store.analyses.export(run.id, "uniform").id == stored.store.analyses.export(run.id, "uniform").id


@pytest.mark.parametrize("how", ["merged", "sideways"])
def test_a_way_that_the_method_does_not_allow_is_refused_with_those_it_does(
    store: Store, stored: Stored, how: str
) -> None:
    run = stored.run(stored.corpus())
    with pytest.raises(UserError, match=f"cannot be exported as '{how}'. Choose one of: uniform, mean_gate, cluster"):
        store.analyses.export(run.id, how)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_exported_or_changes_no_weights(method: str) -> None:
    ways = export_ways(method, METHODS[method].options())
    assert set(ways) <= set(EXPORTS)
    assert bool(ways) != method.startswith(("prompt", "prefix", "p_tuning"))
    assert ("merged" in ways) == (METHODS[method].mergeable != "no")


def test_a_row_fills_its_head() -> None:
    assert len(export_row(PART)) == len(EXPORT_HEAD)
    assert export_row(PART.model_copy(update={"loss": None, "kl": None}))[2] == "–"


COUNT = RunSummary(trainable=90, router=10, total=1_000)


def test_parameters_are_told_with_and_without_the_router() -> None:
    assert trainable(COUNT) == "90 trainable + 10 of the router = 100, 10.0% of 1,000"
    assert trainable(COUNT.model_copy(update={"router": 0})) == "90 trainable, 9.0% of 1,000"


def test_the_page_of_a_run_shows_both_counts(stored: Stored) -> None:
    run = stored.run(stored.corpus())
    view = str(run_cards(replace(run, summary=COUNT), None, None))
    assert ">90<" in view and "+ 10 of the router = 100, 10.0% of 1,000" in view


def test_an_export_of_each_form_is_its_own(stored: Stored) -> None:
    run = stored.run(stored.corpus())
    plain, gguf = (stored.store.analyses.export(run.id, "uniform", form) for form in ("safetensors", "gguf"))
    assert plain.id != gguf.id and plain.params == {"how": "uniform"}
    with pytest.raises(UserError, match="`form` must be one of safetensors, gguf, gguf-q8_0, got 'onnx'"):
        stored.store.analyses.export(run.id, "uniform", "onnx")


def test_an_export_that_llama_cpp_computes_otherwise_is_shown_with_a_warning() -> None:
    check = LlamaCheck(prompts=9, gap=0.5, largest=0.9, base_gap=0.01, texts=3, same_tokens=3, is_close=False)
    part = PART.model_copy(update={"llama": check})
    assert export_row(part)[-2:] == ["0.5000", "0.0100"] and len(export_row(part)) == len(EXPORT_HEAD)
    doubtful = Export(measured_on="held-out", parts=[part], sentence="")
    assert is_doubtful(doubtful) and not is_doubtful(doubtful.model_copy(update={"parts": [PART]}))


def test_only_a_finished_export_is_sent_to_the_hub(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stored.run(stored.corpus())
    found = exported(stored, run, ["export.json"])
    other = stored.analysis(run, "weights", weights_result())
    with pytest.raises(UserError, match="no finished export"):
        stored.store.analyses.push(other.id, "me/mine")
    with pytest.raises(UserError, match="is no name of a model on the hub"):
        stored.store.analyses.push(found.id, "../mine")
    job = stored.store.analyses.push(found.id, "me/mine")
    assert job.payload["private"] is True and job.run_id == run.id
    monkeypatch.setenv("HYDRA_STUDIO_HUB", "no")
    with pytest.raises(UserError, match="HYDRA_STUDIO_HUB says no"):
        stored.store.analyses.push(found.id, "me/mine")
    stored.end_all()
