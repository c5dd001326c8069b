"""Every button of the page as a command; both call the same functions of the store.

Exit status: 0 done, 1 the job failed, 2 wrong input, 3 the job was stopped, 130 interrupted (the
job goes on). With ``--json`` the answer is one JSON object on standard output; progress and
errors go to standard error.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from hydralora.corpus import Corpus as Rows
from hydralora.errors import UserError
from hydralora.presets import PRESETS
from hydralora.samples import CORPORA, GENERATORS
from jobs.chat import ChatClient
from jobs.home import Home
from jobs.records import Job, Run
from jobs.status import JobStatus
from jobs.store import Store
from jobs.tour import Tour
from jobs.worker import main as worker_main
from jobs.worker import start_worker
from studio.doctor import examine
from studio.estimate import settings_of

FAILED, WRONG, STOPPED, INTERRUPTED = 1, 2, 3, 130
POLL_SECONDS = 0.3
LOOKS = ("answers", "routing", "weights")  # what `inspect` measures

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Hydra Studio on the command line.", pretty_exceptions_enable=False
)
corpora_app = typer.Typer(no_args_is_help=True, help="Corpora: add, list, show, cluster, delete.")
runs_app = typer.Typer(no_args_is_help=True, help="Runs: start, list, show, stop, resume, delete.")
app.add_typer(corpora_app, name="corpora")
app.add_typer(runs_app, name="runs")

out = Console(highlight=False, markup=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
AsJson = Annotated[bool, typer.Option("--json", help="Answer as one JSON object")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask")]


class Studio:
    """Where the commands work; set before any of them runs."""

    home: Path | None = None

    @classmethod
    def store(cls) -> Store:
        """The store of the chosen folder."""
        return Store(Home(cls.home))


@app.callback()
def choose(home: Annotated[Path | None, typer.Option(help="Folder that keeps everything")] = None) -> None:
    """Hydra Studio on the command line."""
    Studio.home = home


def show(answer: dict[str, Any] | list[dict[str, Any]], as_json: bool, lines: Callable[[], None]) -> None:
    """Print JSON, or what ``lines`` prints for people."""
    if as_json:
        print(json.dumps(answer, ensure_ascii=False))
    else:
        lines()


def print_table(head: list[str], rows: list[list[object]]) -> None:
    """A plain table."""
    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    out.print(table)


@contextlib.contextmanager
def bar(text: str) -> Iterator[Callable[[float, str], None]]:
    """A progress bar on a terminal; nothing elsewhere."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(text, total=1.0)
        yield lambda share, words: progress.update(task, completed=share, description=words or text)


def wait_for(store: Store, job: Job | None, text: str) -> Job:
    """Wait for the end of a job, showing how far it is."""
    assert job is not None
    with bar(text) as report:
        while not job.is_finished:
            report(job.progress, job.progress_text)
            time.sleep(POLL_SECONDS)
            job = store.queue.get(job.id)
    return job


def finished(store: Store, job: Job | None, text: str) -> Job:
    """Wait for a job that must succeed; ends the command with its sentence when it does not."""
    done = wait_for(store, job, text)
    if done.status != JobStatus.SUCCEEDED:
        err.print(done.error or done.progress_text or done.status)
        wrong_input = done.error_kind == "user"
        raise typer.Exit(STOPPED if done.status == JobStatus.STOPPED else WRONG if wrong_input else FAILED)
    return done


# Corpora


@corpora_app.command("add")
def add_corpus(
    paths: Annotated[list[str], typer.Argument(help=f"Files of one corpus, or a sample: {', '.join(GENERATORS)}")],
    name: Annotated[str, typer.Option(help="Name; the file's when left out")] = "",
    prompt: Annotated[list[str] | None, typer.Option(help="Column of the prompt (repeat to join several)")] = None,
    answer: Annotated[str, typer.Option(help="Column of the answer")] = "",
    text: Annotated[str, typer.Option(help="Column of plain text")] = "",
    label: Annotated[str, typer.Option(help="Column of a label, never trained on")] = "",
    as_json: AsJson = False,
) -> None:
    """Add a corpus from files and wait until it is read."""
    store = Studio.store()
    is_sample = len(paths) == 1 and paths[0] in GENERATORS and not Path(paths[0]).exists()
    files = [CORPORA / paths[0] / f"{paths[0]}.jsonl"] if is_sample else [Path(path) for path in paths]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such file. Give a file, or one of the samples: {', '.join(GENERATORS)}.")
    given = {"prompt": prompt or [], "answer": answer, "text": text, "label": label}
    roles = given if any(given.values()) else None
    corpus = store.add_corpus(name or files[0].name.split(".")[0], files, roles=roles, is_sample=is_sample)
    start_worker(store.home)
    finished(store, corpus.job, f"Reading {files[0].name}")
    corpus_view(store, corpus.id, as_json)


def corpus_view(store: Store, corpus_id: int, as_json: bool) -> None:
    """One corpus as an answer."""
    corpus = store.corpus(corpus_id)
    answer: dict[str, Any] = {"corpus_id": corpus.id, "name": corpus.name, "examples": corpus.examples, "rejected": corpus.rejected,
                              "format": corpus.format, "status": corpus.job.status if corpus.job else None}  # fmt: skip
    if corpus.examples is not None:
        rows = Rows(store.home.corpus(corpus.id))
        refused = [{"file": r.source, "row": r.row, "reason": r.reason} for r in rows.rejected()[:100]]
        answer |= {"roles": rows.manifest["roles"], "shape": rows.manifest["shape"], "refused_rows": refused}
        clustering = store.latest_clustering(corpus.id, finished=True)
        answer["suggested_k"] = clustering.result["suggested_k"] if clustering and clustering.result else None

    def lines() -> None:
        if corpus.examples is None:
            out.print(
                f"Corpus {corpus.id} '{corpus.name}': {answer['status']}. {(corpus.job and corpus.job.error) or ''}"
            )
            return
        out.print(
            f"Corpus {corpus.id} '{corpus.name}': {corpus.examples:,} examples, {corpus.rejected:,} refused rows, {answer['shape']}, {corpus.format}"
        )
        for row in answer["refused_rows"][:10]:
            out.print(f"  {row['file']}: {row['reason']}")

    show(answer, as_json, lines)


@corpora_app.command("list")
def list_corpora(as_json: AsJson = False) -> None:
    """List all corpora."""
    found = Studio.store().corpora()
    answer = [{"corpus_id": c.id, "name": c.name, "examples": c.examples, "rejected": c.rejected} for c in found]
    show(
        answer, as_json, lambda: print_table(["id", "name", "examples", "refused"], [list(a.values()) for a in answer])
    )


@corpora_app.command("show")
def show_corpus(corpus_id: int, as_json: AsJson = False) -> None:
    """Show one corpus."""
    corpus_view(Studio.store(), corpus_id, as_json)


@corpora_app.command("delete")
def delete_corpus(corpus_id: int, yes: Yes = False) -> None:
    """Delete a corpus with its clusterings."""
    if yes or typer.confirm(f"Delete corpus {corpus_id} for good?", err=True):
        Studio.store().delete_corpus(corpus_id)


@corpora_app.command("cluster")
def cluster(
    corpus_id: int,
    k: Annotated[str, typer.Option(help="Number of clusters, or auto")] = "auto",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Cluster a corpus and suggest a number of experts."""
    if k != "auto" and not k.isdecimal():
        raise UserError(f"`--k` must be a whole number or auto, got {k!r}.")
    store = Studio.store()
    clustering = store.add_clustering(corpus_id, None if k == "auto" else int(k), seed)
    start_worker(store.home)
    finished(store, clustering.job, "Clustering")
    result = store.clustering(clustering.id).result or {}
    answer = {"corpus_id": corpus_id, "clustering_id": clustering.id,
              **{name: result[name] for name in ("k", "suggested_k", "reason", "sizes", "words")}}  # fmt: skip

    def lines() -> None:
        out.print(f"Suggested number of experts: {answer['suggested_k']}. {answer['reason']}")
        rows = [
            [f"C{i + 1}", size, ", ".join(words)]
            for i, (size, words) in enumerate(zip(answer["sizes"], answer["words"], strict=True))
        ]
        print_table(["cluster", "examples", "words"], rows)

    show(answer, as_json, lines)


# Runs


def run_view(run: Run) -> dict[str, Any]:
    """One run as an answer."""
    job = run.job
    return {"run_id": run.id, "name": run.name, "status": run.status, "method": run.config["method"], "base": run.config["base"],
            "corpus_id": run.corpus_id, "progress": job.progress if job else 0.0, "text": job.progress_text if job else "",
            "error": job.error if job else None, "summary": run.summary}  # fmt: skip


def print_run(answer: dict[str, Any]) -> None:
    """One run for people."""
    summary = answer["summary"] or {}
    out.print(f"Run {answer['run_id']} '{answer['name']}': {answer['status']}. {answer['error'] or answer['text']}")
    if summary.get("held_out_loss") is not None:
        out.print(f"  held-out loss {summary['held_out_loss']:.3f}, before training {summary['held_out_loss_before'] or float('nan'):.3f}; "
                  f"{summary['trainable']:,} trainable of {summary['total']:,}")  # fmt: skip


def parse_setting(text: str) -> tuple[str, str, Any]:
    """``train.seed=3`` as ("train", "seed", 3)."""
    name, sign, value = text.partition("=")
    part, dot, field = name.partition(".")
    if not sign or not dot or part not in ("adapter", "train"):
        raise UserError(f"`--set {text}`: write adapter.NAME=VALUE or train.NAME=VALUE.")
    try:
        return part, field, json.loads(value)
    except json.JSONDecodeError:
        return part, field, value


@runs_app.command("start")
def start_run(
    corpus: Annotated[int, typer.Option(help="Id of the corpus")],
    base: Annotated[str, typer.Option(help="starter, a folder, or a hub id")] = "starter",
    method: Annotated[str, typer.Option(help="hydralora, lora, ...")] = "hydralora",
    preset: Annotated[str, typer.Option(help=f"{', '.join(PRESETS)}")] = "Quick",
    experts: Annotated[int | None, typer.Option(help="Number of heads B")] = None,
    rank: Annotated[int | None, typer.Option(help="Width of A and B")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples in one pass")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights and order")] = None,
    name: Annotated[str, typer.Option(help="Name of the run")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", help="Any other setting: train.eval_every=25")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, with a progress bar")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a training run in the background."""
    if preset.capitalize() not in PRESETS:
        raise UserError(f"`--preset` must be one of {', '.join(PRESETS)}, got '{preset}'.")
    given = {"max_steps": max_steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    store = Studio.store()
    chosen = settings_of(store, preset.capitalize(), corpus, base, method)
    train = {**chosen, **{name_: value for name_, value in given.items() if value is not None}}
    adapter = {name_: value for name_, value in {"num_experts": experts, "rank": rank}.items() if value is not None}
    config: dict[str, Any] = {"base": base, "method": method, "adapter": adapter, "train": train}
    for text in settings or ():
        part, field, value = parse_setting(text)
        config[part][field] = value
    run = store.start_run(corpus, config, name=name)
    start_worker(store.home)
    follow(store, run, wait, as_json)


def follow(store: Store, run: Run, wait: bool, as_json: bool) -> None:
    """Answer at once, or wait for the end of a run and answer then."""
    if wait:
        done = wait_for(store, run.job, f"Run {run.id}")
        run = store.run(run.id)
    answer = run_view(run)
    show(answer, as_json, lambda: print_run(answer))
    if wait and done.status != JobStatus.SUCCEEDED:
        if as_json:
            err.print(done.error or done.progress_text)
        raise typer.Exit(STOPPED if done.status == JobStatus.STOPPED else FAILED)


@runs_app.command("list")
def list_runs(as_json: AsJson = False) -> None:
    """List all runs."""
    answer = [run_view(run) for run in Studio.store().runs()]
    rows = [[a["run_id"], a["name"], a["method"], a["status"], f"{a['progress']:.0%}"] for a in answer]
    show(answer, as_json, lambda: print_table(["id", "name", "method", "status", "progress"], rows))


@runs_app.command("show")
def show_run(run_id: int, as_json: AsJson = False) -> None:
    """Show one run."""
    run = Studio.store().run(run_id)
    answer = {**run_view(run), "config": run.config}
    show(answer, as_json, lambda: print_run(answer))


@runs_app.command("stop")
def stop_run(run_id: int, wait: Annotated[bool, typer.Option("--wait")] = False, as_json: AsJson = False) -> None:
    """Stop a run; it writes a checkpoint first."""
    store = Studio.store()
    run = store.stop_run(run_id)
    if wait:
        wait_for(store, run.job, "Stopping")
    answer = run_view(store.run(run_id))
    show(answer, as_json, lambda: print_run(answer))


@runs_app.command("resume")
def resume_run(run_id: int, wait: Annotated[bool, typer.Option("--wait")] = False, as_json: AsJson = False) -> None:
    """Go on with a stopped, failed or lost run from its last checkpoint."""
    store = Studio.store()
    run = store.resume_run(run_id)
    start_worker(store.home)
    follow(store, run, wait, as_json)


@runs_app.command("delete")
def delete_run(run_id: int, yes: Yes = False) -> None:
    """Delete a run with its checkpoints."""
    if yes or typer.confirm(f"Delete run {run_id} for good?", err=True):
        Studio.store().delete_run(run_id)


# Looking inside


@app.command("inspect")
def inspect_run(run_id: int, as_json: AsJson = False) -> None:
    """Compare answers before and after, measure how the experts are used and how alike the heads are."""
    store = Studio.store()
    answer: dict[str, Any] = {"run_id": run_id}
    start_worker(store.home)
    for kind in LOOKS:
        analysis = store.analyse(run_id, kind)
        done = wait_for(store, analysis.job, f"Analysis: {kind}")
        if done.status != JobStatus.SUCCEEDED:
            answer[kind] = {"error": done.error or done.status}
            continue
        answer[kind] = json.loads((store.home.analysis(analysis.id) / f"{kind}.json").read_text("utf-8"))

    def lines() -> None:
        for kind in LOOKS:
            out.print(answer[kind].get("error") or answer[kind]["sentence"])
        for name, group in answer["routing"].get("groups", {}).items():
            out.print(f"{name}: {group['sentence']}")
        if "mean" in answer["routing"]:
            experts = [f"E{e + 1}" for e in range(answer["routing"]["experts"])]
            rows = [
                [layer, *(f"{g:.2f}" for g in gates)]
                for layer, gates in zip(answer["routing"]["layers"], answer["routing"]["mean"], strict=True)
            ]
            print_table(["layer", *experts], rows)

    show(answer, as_json, lines)
    if all("error" in answer[kind] for kind in LOOKS):
        raise typer.Exit(FAILED)


@app.command()
def chat(
    run_id: int,
    prompt: str,
    gates: Annotated[bool, typer.Option("--gates", help="Show the leading expert of every token")] = False,
    max_tokens: Annotated[int, typer.Option(min=1, max=4096)] = 96,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0)] = 0.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Ask a tuned model one question."""
    store = Studio.store()
    run = store.run(run_id)
    if run.summary is None:
        raise UserError(f"Run {run_id} is not finished ({run.status}). Wait for it, or resume it.")
    settings = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    question = {"request_id": f"cli-{time.time_ns()}", "base": run.config["base"], "run_id": run_id, "settings": settings,
                "messages": [{"role": "user", "content": prompt}]}  # fmt: skip
    tokens: list[str] = []
    shares: list[dict[str, list[float]]] = []
    details: dict[str, Any] = {}
    for line in ChatClient(store).ask(question):
        if "text" in line:
            tokens.append(line["text"])
            shares.append({"gates": line["gates"]})
            if not as_json and not gates:
                print(line["text"], end="", flush=True)
        elif "layers" in line:
            details |= line
    layers = details.get("layers") or []
    answer: dict[str, Any] = {"run_id": run_id, "text": "".join(tokens), "tokens": tokens,
              "gates": [dict(zip(layers, s["gates"] or [], strict=False)) for s in shares],
              "tokens_per_second": details.get("tokens_per_second"), "done": details.get("done")}  # fmt: skip

    def lines() -> None:
        if not gates:
            print()
            return
        for token, layer_gates in zip(tokens, answer["gates"], strict=True):
            rows = list(layer_gates.values())
            means = [sum(row[e] for row in rows) / len(rows) for e in range(len(rows[0]))] if rows else []
            out.print(f"{token!r:<20} " + "  ".join(f"E{e + 1} {m:.2f}" for e, m in enumerate(means)))

    show(answer, as_json, lines)


@app.command("tour")
def take_tour(
    minutes: Annotated[float, typer.Option(min=0.1, max=600.0, help="How long it trains")] = PRESETS["Quick"].minutes,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, with a progress bar")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the sample runs and corpora instead")] = False,
    as_json: AsJson = False,
) -> None:
    """Walk the whole way on a sample corpus: read, cluster, train, compare."""
    store = Studio.store()
    tour = Tour(store)
    start_worker(store.home)
    if remove:
        tour.remove()
    else:
        tour.begin(minutes)
    while wait and not remove and not (tour.is_done or tour.problem):
        open_job = next((stage.job for stage in tour.stages() if stage.job and not stage.is_done), None)
        if open_job is not None and open_job.is_finished:
            raise UserError(
                open_job.error or f"The tour's job {open_job.id} was {open_job.status}. Resume it, then wait again."
            )
        wait_for(store, open_job, "Tour") if open_job else time.sleep(POLL_SECONDS)
    answer: dict[str, Any] = {"run_id": tour.run_id, "done": tour.is_done, "problem": tour.problem,
              "stages": {stage.name: stage.job.status if stage.job else None for stage in tour.stages()}}  # fmt: skip
    show(
        answer,
        as_json,
        lambda: print_table(
            ["step", "state"], [[name, state or "to come"] for name, state in answer["stages"].items()]
        ),
    )
    if tour.problem:
        err.print(tour.problem)
        raise typer.Exit(FAILED)


@app.command()
def worker() -> None:
    """Run a worker in the foreground until it is interrupted."""
    sys.argv = ["worker", *(["--home", str(Studio.home)] if Studio.home else [])]
    raise typer.Exit(worker_main())


@app.command()
def doctor(
    port: Annotated[int, typer.Option(help="Port the studio would use")] = 7860, as_json: AsJson = False
) -> None:
    """Look for what is wrong with this installation, and say how to mend it."""
    findings = examine(Studio.home, port)
    answer = {"ok": all(f.ok for f in findings), "findings": [vars(f) for f in findings]}
    show(
        answer,
        as_json,
        lambda: print_table(
            ["", "what", "found", "way out"],
            [["ok" if f.ok else "WRONG", f.name, f.found, f.way_out] for f in findings],
        ),
    )
    if not answer["ok"]:
        raise typer.Exit(FAILED)


def main() -> None:
    """Entry of ``python -m studio``: errors a person can mend become one sentence."""
    try:
        app()
    except UserError as error:
        err.print(str(error))
        sys.exit(WRONG)
    except KeyboardInterrupt:
        err.print("Interrupted. What was started goes on in the background.")
        sys.exit(INTERRUPTED)
