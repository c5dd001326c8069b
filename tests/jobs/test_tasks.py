"""The real tasks in real processes, from a file to an answer."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hydralora.corpus.folder import Corpus
from hydralora.errors import UserError
from jobs.breakdown import start_breakdown
from jobs.chat.client import ChatClient
from jobs.home import Home
from jobs.runner.service import start_worker
from jobs.store.records import Job
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.hydralora.conftest import easy_rows, make_llama, make_tokenizer, write_lines
from tests.jobs.conftest import end_home, wait_for


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, tokenizer = tmp_path_factory.mktemp("base"), make_tokenizer()
    make_llama(len(tokenizer), positions=2048).save_pretrained(folder)  # room for an answer that takes seconds
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, base: str) -> Iterator[Store]:
    home = Home(tmp_path_factory.mktemp("home"))
    store = Store(home)
    store.bases.add(Path(base))
    start_worker(home)
    yield store
    end_home(home)


def ended(store: Store, job: Job | None, seconds: float = 120.0) -> Job:
    assert job is not None
    wait_for(lambda: store.queue.get(job.id).is_finished, seconds)
    return store.queue.get(job.id)


@pytest.fixture(scope="module")
def corpus(store: Store, tmp_path_factory: pytest.TempPathFactory) -> int:
    """The id of a small corpus that was read and clustered."""
    file = write_lines(tmp_path_factory.mktemp("files") / "easy.jsonl", easy_rows())
    made = store.corpora.add("easy", [file])
    assert ended(store, made.job).status == JobStatus.SUCCEEDED
    assert ended(store, store.clusterings.add(made.id, 2).job).status == JobStatus.SUCCEEDED
    return made.id


@pytest.fixture(scope="module")
def trained(store: Store, base: str, corpus: int) -> int:
    """The id of a finished run."""
    run = store.runs.start(corpus, config(base, max_steps=8))
    assert ended(store, run.job).status == JobStatus.SUCCEEDED
    return run.id


def config(base: str, **train: Any) -> dict[str, Any]:
    return {
        "base": base,
        "adapter": {"num_experts": 2, "r": 4},
        # So slow that a tiny model does not learn to end its answers at once: they must have tokens.
        "train": {"batch_size": 8, "eval_every": 0, "gate_every": 2, "max_length": 96, "learning_rate": 3e-4, **train},
    }


def test_a_corpus_is_read_and_clustered(store: Store, corpus: int) -> None:
    assert store.corpora.get(corpus).examples == 64
    assert not any(store.home.uploads.glob(f"corpus-{corpus}/*/nothing"))
    result = store.clusterings.clustered(corpus).result
    assert result is not None and result.k == 2 and sum(result.sizes) == 64


def test_a_run_is_trained(store: Store, trained: int) -> None:
    steps = store.runs.steps(trained)
    assert [s.step for s in steps if "loss" in s.numbers] == list(range(1, 9))
    gates = next(s.gates for s in steps if s.gates)
    assert all(abs(sum(row) - 1) < 1e-4 for row in gates.values())


def test_a_run_learns_preferences_and_is_looked_into(store: Store, base: str, tmp_path: Path) -> None:
    rows = [{"prompt": row["prompt"], "chosen": row["answer"], "rejected": "or not"} for row in easy_rows()]
    made = store.corpora.add("liked", [write_lines(tmp_path / "liked.jsonl", rows)])
    assert ended(store, made.job).status == JobStatus.SUCCEEDED
    run = store.runs.start(made.id, config(base, objective="dpo", max_steps=4) | {"method": "hydralora"})
    done = ended(store, run.job)
    assert done.status == JobStatus.SUCCEEDED, done.error
    known = store.runs.training_set(run.id)
    assert known is not None and known.pairs == known.examples > 50
    steps = [step for step in store.runs.steps(run.id) if "loss" in step.numbers]
    assert len(steps) == 4 and all({"margin", "preferred"} <= step.numbers.keys() for step in steps)
    looked = ended(store, store.analyses.ask(run.id, "answers").job)
    assert looked.status == JobStatus.SUCCEEDED, looked.error


@pytest.mark.parametrize("kind", ["routing", "weights", "answers", "experts"])
def test_it_is_looked_into(store: Store, kind: str, trained: int) -> None:
    analysis = store.analyses.ask(trained, kind)
    done = ended(store, analysis.job)
    assert done.status == JobStatus.SUCCEEDED, done.error
    assert (done.result or {})["sentence"]


@pytest.mark.parametrize("how", ["uniform", "mean_gate", "cluster"])
def test_it_is_exported_with_its_gap(store: Store, how: str, trained: int) -> None:
    export = store.analyses.export(trained, how)
    done = ended(store, export.job)
    assert done.status == JobStatus.SUCCEEDED, done.error
    parts = (done.result or {})["parts"]
    assert len(parts) == (2 if how == "cluster" else 1)
    for part in parts:
        assert (store.home.analysis(export.id) / part["folder"] / "adapter_model.safetensors").exists()
        assert part["kl"] is None or part["kl"] >= 0.0


def test_an_adapter_from_elsewhere_is_taken_in_and_measured_like_its_source(
    store: Store, base: str, corpus: int, trained: int
) -> None:
    made = store.home.run(trained) / "adapter"
    files = [made / "adapter_config.json", made / "adapter_model.safetensors"]
    run = store.runs.import_adapter(files, base=base, corpus_id=corpus)
    assert (done := ended(store, run.job)).status == JobStatus.SUCCEEDED, done.error
    assert store.runs.get(run.id).config.adapter.experts == 2
    first, second = (store.analyses.ask(number, "routing") for number in (trained, run.id))
    assert (done := ended(store, second.job)).status == JobStatus.SUCCEEDED, done.error
    gates = [json.loads((store.home.analysis(a.id) / "routing.json").read_text("utf-8")) for a in (first, second)]
    assert gates[0]["mean"] == gates[1]["mean"]


def test_finished_loras_are_mixed(store: Store, base: str, corpus: int) -> None:
    loras = [
        store.runs.start(corpus, {**config(base, max_steps=4, seed=seed), "method": "lora", "adapter": {"r": 4}})
        for seed in (1, 2)
    ]
    for run in loras:
        assert ended(store, run.job).status == JobStatus.SUCCEEDED
    sources = {"sources": [run.id for run in loras], "shots": 4}
    mixed = store.runs.start(corpus, {**config(base, max_steps=6), "method": "lorahub", "adapter": sources})
    done = ended(store, mixed.job)
    assert done.status == JobStatus.SUCCEEDED, done.error
    assert [step.step for step in store.runs.steps(mixed.id) if "loss" in step.numbers] == list(range(1, 7))


@pytest.mark.parametrize(
    "layout, start", [("pca", True), ("tsne", False), pytest.param("umap", False, marks=pytest.mark.long)]
)
def test_its_matrices_are_placed_on_a_map(store: Store, layout: str, start: bool, trained: int) -> None:
    name = f"run {trained}"
    analysis = store.analyses.ask(trained, "map", {"which": "A", "layout": layout, "seed": 0, "start": start})
    done = ended(store, analysis.job)
    assert done.status == JobStatus.SUCCEEDED, done.error
    points = json.loads((store.home.analysis(analysis.id) / "map.json").read_text("utf-8"))["points"]
    assert {point["run"] for point in points} == ({name, f"{name}, untrained"} if start else {name})


def test_its_clusters_are_broken_down_and_their_adapters_compared(store: Store, trained: int) -> None:
    runs = start_breakdown(store, trained, own_seeds=True)
    assert all(ended(store, run.job).status == JobStatus.SUCCEEDED for run in runs) and len(runs) == 2
    sizes = [store.runs.get(run.id).summary.train_examples for run in runs]
    assert sum(sizes) == store.runs.get(trained).summary.train_examples
    analysis = store.analyses.ask(runs[0].id, "compare", {"other_runs": [runs[1].id]})
    done = ended(store, analysis.job)
    assert done.status == JobStatus.SUCCEEDED, done.error
    found = json.loads((store.home.analysis(analysis.id) / "compare.json").read_text("utf-8"))
    assert found["parts"]["A"]["start"] < 0.99 and found["runs"] == [f"run {run.id}" for run in runs]


def question(base: str, run: int, number: str, **more: Any) -> dict[str, Any]:
    return {
        "request_id": number,
        "base": base,
        "run_id": run,
        "messages": [{"role": "user", "content": "The door is red."}],
        "settings": {"temperature": 0, "max_tokens": 6},
        **more,
    }


def test_the_model_server_answers_with_gates(store: Store, base: str, trained: int) -> None:
    lines = list(ChatClient(store).ask(question(base, trained, "a")))
    tokens = [line for line in lines if "text" in line]
    assert tokens and lines[-1]["done"] in ("end", "length")
    for token in tokens:
        assert all(abs(sum(row) - 1) < 0.01 for row in token["gates"])


def test_an_answer_can_be_stopped(store: Store, base: str, trained: int) -> None:
    client, seen = ChatClient(store), []
    settings = {"temperature": 0, "max_tokens": 1_500}  # greedy, it goes in circles and never ends by itself
    for line in client.ask(question(base, trained, "b", settings=settings)):
        seen.append(line)
        if "text" in line and len(seen) == 4:
            client.stop("b")  # before the next line is read
    assert seen[-1]["done"] == "stopped"
    assert sum("text" in line for line in seen) < 1_500


def test_the_words_of_an_answer_are_scored_with_an_expert_muted(store: Store, base: str, trained: int) -> None:
    client = ChatClient(store)
    ids = [line["id"] for line in client.ask(question(base, trained, "w")) if "text" in line]
    asked = {**question(base, trained, "w"), "tokens": ids}
    del asked["request_id"]
    own, muted = client.score(asked), client.score({**asked, "factors": {0: 0.0}})
    assert len(own) == len(muted) == len(ids) and own != muted


def test_what_cannot_be_scored_is_said(store: Store, base: str) -> None:
    asked = {**question(base, 99, "w"), "tokens": [1, 2]}
    del asked["request_id"]
    with pytest.raises(UserError, match="no adapter"):
        ChatClient(store).score(asked)


def test_a_model_server_leaves_alone_what_the_studio_keeps_beside_its_address(
    store: Store, base: str, trained: int
) -> None:
    kept = store.home.server / "cookie.key"  # with another one everybody would be signed out
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(b"a key")
    store.queue.stop(next(job.id for job in store.queue.jobs(kind="serve") if not job.is_finished))
    wait_for(lambda: all(job.is_finished for job in store.queue.jobs(kind="serve")))
    assert any("text" in line for line in ChatClient(store).ask(question(base, trained, "k")))
    assert kept.read_bytes() == b"a key"


def test_a_killed_model_server_is_replaced(store: Store, base: str, trained: int) -> None:
    client = ChatClient(store)
    assert any("text" in line for line in client.ask(question(base, trained, "c")))
    server = store.queue.jobs(kind="serve")[0]
    os.killpg((server.process or {})["pid"], signal.SIGKILL)
    wait_for(lambda: store.queue.get(server.id).is_finished)
    lines = list(client.ask(question(base, trained, "d")))
    assert any("text" in line for line in lines)


def test_a_question_to_a_run_without_adapter_is_refused(store: Store, base: str) -> None:
    with pytest.raises(UserError, match="no adapter"):
        list(ChatClient(store).ask(question(base, 99, "d")))


def test_a_killed_training_goes_on_from_its_checkpoint_with_every_step_once(
    store: Store, base: str, corpus: int
) -> None:
    run = store.runs.start(corpus, config(base, max_steps=60, save_every=10))
    wait_for(lambda: (store.home.run(run.id) / "checkpoints" / "checkpoint-20" / "complete.json").exists(), 120)
    job = store.runs.get(run.id).job
    assert job is not None
    os.killpg((job.process or {})["pid"], signal.SIGKILL)
    done = ended(store, job)
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 2)
    assert [s.step for s in store.runs.steps(run.id) if "loss" in s.numbers] == list(range(1, 61))
    assert store.runs.get(run.id).summary.resumed_from >= 20


def test_a_stopped_run_keeps_a_checkpoint_and_resumes(store: Store, base: str, corpus: int) -> None:
    run = store.runs.start(corpus, config(base, max_steps=300))
    wait_for(lambda: store.runs.steps(run.id))
    store.runs.stop(run.id)
    assert ended(store, store.runs.get(run.id).job).status == JobStatus.STOPPED
    reached = max(s.step for s in store.runs.steps(run.id))
    assert reached < 300
    resumed = store.runs.resume(run.id)
    assert ended(store, resumed.job).status == JobStatus.SUCCEEDED
    assert [s.step for s in store.runs.steps(run.id) if "loss" in s.numbers] == list(range(1, 301))
    assert store.runs.get(run.id).summary.resumed_from == reached


def test_rows_that_are_too_long_are_shortened_by_one_job_and_taken_back_by_one_step(
    store: Store, base: str, tmp_path: Path
) -> None:
    rows = [{"prompt": f"Which {i}?", "answer": f"Number {i}. " * (40 if i < 3 else 1)} for i in range(9)]
    made = store.corpora.add("long", [write_lines(tmp_path / "long.jsonl", rows)])
    ended(store, made.job)
    assert ended(store, store.checks.add(made.id, base=base, max_length=64)).status == JobStatus.SUCCEEDED
    job = store.shortenings.add(made.id, "cut")
    with pytest.raises(UserError, match="being shortened already"):
        store.shortenings.add(made.id, "cut")
    assert ended(store, job).status == JobStatus.SUCCEEDED
    folder = store.home.corpus(made.id)
    assert [len(example.answer) < 200 for example in Corpus(folder)] == [True] * 9
    (done,) = store.shortenings.all(made.id)
    assert (done.id, done.count, done.left, done.undone_at) == (job.id, 3, 0, None)
    assert store.shortenings.undo(done.id).undone_at is not None and store.edits.name(made.id) == ""
    assert [example.answer for example in Corpus(folder)] == [example.answer for example in Corpus(folder, "")]
    assert store.shortenings.redo(done.id).undone_at is None and store.edits.count(made.id) == 3
    with pytest.raises(UserError, match="Check again, then shorten"):
        store.shortenings.add(made.id, "cut")


def test_a_rank_that_fits_no_layer_fails_with_layer_and_value(store: Store, base: str, corpus: int) -> None:
    run = store.runs.start(corpus, {**config(base, max_steps=2), "adapter": {"r": 500}})
    done = ended(store, run.job)
    assert (done.status, done.error_kind) == (JobStatus.FAILED, "user")
    assert "got 500" in (done.error or "") and "q_proj" in (done.error or "")


def test_a_base_of_pickled_weights_is_refused_before_anything_is_queued(
    store: Store, base: str, corpus: int, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    torch.save({}, tmp_path / "pytorch_model.bin")
    store.bases.name_at_start([str(tmp_path)])
    before = len(store.runs.all())
    with pytest.raises(UserError, match="pickled weights are never loaded"):
        store.runs.start(corpus, config(str(tmp_path), max_steps=2))
    assert len(store.runs.all()) == before


def test_rubbish_leaves_a_sentence_and_no_corpus_folder(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "rubbish.csv"
    file.write_bytes(bytes(range(256)) * 40)
    corpus = store.corpora.add("rubbish", [file])
    done = ended(store, corpus.job)
    assert done.status == JobStatus.FAILED and "rubbish.csv" in (done.error or "")
    assert not store.home.corpus(corpus.id).exists()


def test_a_full_disk_is_said_plainly_and_leaves_nothing_half(store: Store, tmp_path: Path) -> None:
    """A file-size limit in the importing process stands for a full disk: writes fail the same way."""
    import resource
    import subprocess
    import sys

    file = tmp_path / "large.csv"
    file.write_text("question,answer\n" + "".join(f"what is {i}?,{'it is ' * 40}{i}\n" for i in range(4_000)), "utf-8")
    corpus = store.corpora.add("large", [file])
    ended(store, corpus.job)
    store.corpora.import_again(corpus.id, {"prompt": ["question"], "answer": "answer"})
    ended(store, store.corpora.get(corpus.id).job)
    folder = tmp_path / "job"
    folder.mkdir()
    payload = {"corpus_id": 999, "files": [str(file)], "roles": None}
    (folder / "spec.json").write_text(json.dumps({"kind": "ingest", "payload": payload, "home": str(store.home.root)}))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    subprocess.run(
        [sys.executable, "-m", "jobs.runner.child", str(folder)],
        preexec_fn=limit,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["error_kind"]) == ("failed", "disk")
    assert not store.home.corpus(999).exists()
