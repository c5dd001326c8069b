"""The commands that compare runs, tag and archive them, and repeat them: `runs compare`, `tag`, `archive`, `again`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hydralora.errors import UserError
from hydralora.options import LoraOptions
from hydralora.sheets import as_csv
from jobs.repeats import equal_lora, start_equal_lora, start_seeds
from jobs.runner.service import start_worker
from jobs.store.run_list import RunLine
from jobs.store.store import Store
from studio.cli.terminal import AsJson, Studio, finished, out, print_table, show
from studio.comparison.address import parse_ids
from studio.comparison.groups import SETTINGS, Compared, compare
from studio.comparison.scores import Row, exact_difference, score_rows
from studio.comparison.settings import title
from studio.comparison.tables import TABLES, settings_by_group, speeds_of
from studio.comparison.verdict import Verdict, percent, verdict_of

compare_app = typer.Typer()
Ids = Annotated[str, typer.Argument(show_default=False, help="Ids of runs and ranges of them: 1,4-9")]


@compare_app.command("compare")
def compare_runs(
    runs: Ids,
    by: Annotated[str, typer.Option(help="Grouped by: settings (all but the seed), run, or one such as adapter.r")] = (
        SETTINGS
    ),
    ask: Annotated[bool, typer.Option("--ask", help="Ask the unseen questions first, where they were not")] = False,
    csv: Annotated[Path | None, typer.Option(help=f"Write {', '.join(TABLES)} as CSV into this new folder")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: scores by group, what differs in the settings, and whether it is more than chance."""
    if csv is not None and csv.exists():
        raise UserError(f"{csv} exists already. Name a folder that does not.")
    store, ids = Studio.store(), parse_ids(runs)
    store.run_list.fill_scores()
    if ask:
        _ask(store, store.run_list.lines(ids))
    lines = store.run_list.lines(ids)
    if not lines:
        raise UserError(f"None of the runs {runs} exists. `runs list` names those that do.")
    there = {line.id for line in lines}
    compared = compare(lines, by, [run_id for run_id in ids if run_id not in there])
    rows = score_rows(compared, speeds_of(store, compared))
    verdict = verdict_of(compared, rows)
    if csv is not None:
        _write(store, compared, csv)
    show(_answer(compared, rows, verdict), as_json, lambda: _print(compared, rows, verdict, csv))


def _ask(store: Store, lines: list[RunLine]) -> None:
    """Wait for the answers of the runs that were never asked."""
    asked = [
        store.analyses.ask(line.id, "answers", {})
        for line in lines
        if line.score is None and line.summary is not None and line.corpus_id is not None
    ]
    if asked:
        start_worker(store.home)
    for one in asked:
        finished(store, one.job, f"Answers of run {one.run_id}")


def _write(store: Store, compared: Compared, folder: Path) -> None:
    """Every table as a file; answers need two runs, the first ones of the first two groups."""
    folder.mkdir(parents=True)
    firsts = [group.lines[0].id for group in compared.groups if group.scores][:2]
    for name, table in TABLES.items():
        if name != "answers":
            (folder / f"{name}.csv").write_text(as_csv(*table(store, compared, (0, 0))), "utf-8")
        elif len(firsts) == 2:
            (folder / f"{name}.csv").write_text(as_csv(*table(store, compared, (firsts[0], firsts[1]))), "utf-8")


def _answer(compared: Compared, rows: list[Row], verdict: Verdict) -> dict[str, Any]:
    """The comparison for machines."""
    groups = []
    for row in rows:
        spreads = {name: value for name, value in vars(row).items() if name not in ("group", "by_label")}
        told = {name: asdict(value) if value is not None else None for name, value in spreads.items()}
        told["by_label"] = {name: asdict(value) for name, value in row.by_label.items()}
        groups.append({"name": row.group.name, "runs": [line.id for line in row.group.lines], **told})
    two = compared.groups if len(compared.groups) == 2 else []
    difference = exact_difference(two[0], two[1]) if two else None
    return {
        "verdict": verdict.text,
        "body": [words for words in verdict.body if words],
        "warnings": verdict.warnings,
        "by": compared.by,
        "groups": groups,
        "difference": {**asdict(difference[0]), "questions": difference[1]} if difference else None,
        "settings": dict(settings_by_group(compared)),
        "missing": list(compared.missing),
    }


def _print(compared: Compared, rows: list[Row], verdict: Verdict, csv: Path | None) -> None:
    out.print(verdict.text)
    for words in filter(None, [*verdict.body, *verdict.warnings]):
        out.print(f"  {words}")
    for run_id in compared.missing:
        out.print(f"  Run {run_id} does not exist.")
    head = ["group", "runs", "exact match", "held-out loss", "minutes", "tokens/s", "trained weights"]
    print_table(head, [_row(row) for row in rows])
    differing = settings_by_group(compared)
    if differing:
        print_table(["setting", *(group.name for group in compared.groups)], [[title(n), *v] for n, v in differing])
    if csv is not None:
        out.print(f"{csv}: {', '.join(sorted(path.name for path in csv.iterdir()))}")


def _row(row: Row) -> list[object]:
    exact = percent(row.exact.mean) if row.exact else "–"
    if row.exact and row.exact.sd is not None:
        exact += f" ± {100 * row.exact.sd:.1f}"
    loss = f"{row.loss.mean:.3f}" if row.loss else "–"
    minutes = f"{row.seconds.mean / 60:.1f}" if row.seconds else "–"
    speed = f"{row.speed.mean:,.0f}" if row.speed else "–"
    weights = f"{row.weights:,.0f}" if row.weights else "–"
    return [row.group.name, row.group.runs_words, exact, loss, minutes, speed, weights]


@compare_app.command("tag")
def tag_runs(
    runs: Ids,
    add: Annotated[list[str] | None, typer.Option(help="Put this tag on")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Take this tag off")] = None,
    as_json: AsJson = False,
) -> None:
    """Put tags on runs, and take them off."""
    if not add and not remove:
        raise UserError("Name a tag with --add or --remove.")
    store, ids = Studio.store(), parse_ids(runs)
    count = store.run_list.tag(ids, add=add or [], remove=remove or [])
    if not count:
        raise UserError(f"None of the runs {runs} exists. `runs list` names those that do.")
    answer = [{"run_id": line.id, "name": line.name, "tags": list(line.tags)} for line in store.run_list.lines(ids)]
    rows: list[list[object]] = [[line.id, line.name, ", ".join(line.tags)] for line in store.run_list.lines(ids)]
    show(answer, as_json, lambda: print_table(["id", "name", "tags"], rows))


@compare_app.command("archive")
def archive_runs(
    runs: Ids,
    back: Annotated[bool, typer.Option("--back", help="Put them back into the list")] = False,
    as_json: AsJson = False,
) -> None:
    """Take runs out of the list; nothing of them is deleted."""
    count = Studio.store().run_list.archive(parse_ids(runs), back=back)
    what = "back in the list" if back else "archived"
    words = f"{count} {'run is' if count == 1 else 'runs are'} {what}."
    show({"changed": count, "archived": not back}, as_json, lambda: out.print(words))


@compare_app.command("again")
def run_again(
    runs: Ids,
    seeds: Annotated[str, typer.Option(help="Seeds that each configuration is to be there with: 1-4")] = "",
    equal: Annotated[
        bool, typer.Option("--equal-lora", help="A plain LoRA with as many trained weights, beside a run with experts")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Repeat runs with other seeds, or as a LoRA of equal size; what is there already is not started again."""
    if bool(seeds) == equal:
        raise UserError("Name either --seeds, such as --seeds 1-4, or --equal-lora.")
    store, ids = Studio.store(), parse_ids(runs)
    sizes = []
    if equal:
        started = []
        for run_id in ids:
            config, weights, wanted = equal_lora(store, store.runs.get(run_id))
            started.append(start_equal_lora(store, run_id))
            rank = config.options_as(LoraOptions).r
            sizes.append(f"LoRA of rank {rank}: {weights:,} trained weights; run {run_id} has {wanted:,}.")
    else:
        started = start_seeds(store, ids, parse_ids(seeds))
    start_worker(store.home)
    answer = [{"run_id": run.id, "name": run.name, "status": run.status} for run in started]

    def lines() -> None:
        for words in sizes:
            out.print(words)
        print_table(["id", "name", "status"], [list(one.values()) for one in answer])

    show(answer, as_json, lines)
