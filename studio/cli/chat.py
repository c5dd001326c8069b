"""The command `chat`: one question, the answer's routing weights, and what changed experts would have said."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

import typer

from hydralora.answer_settings import Change, GenerationSettings
from hydralora.bounds import MOST_STEPS, LayerName, Message, checked
from hydralora.errors import UserError
from jobs.chat.client import ChatClient, base_of
from jobs.store.records import Run
from studio.cli.terminal import AsJson, RunId, Studio, out, show
from studio.figures.palette import expert_name

EXPERT = re.compile(r"[Ee]?([0-9]{1,4})")


def expert_index(text: str) -> int:
    """``E2`` or ``2`` as index 1.

    Raises:
        UserError: When it is neither.
    """
    found = EXPERT.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise UserError(f"`{text}` is not an expert. Write E1, E2, ... as the pages name them.")
    return int(found[1]) - 1


def changes_of(mute: list[str], scale: list[str], only: str, layer: str) -> dict[str, Any]:
    """The changed experts, as the model server takes them; empty where nothing is changed."""
    factors = {expert_index(name): 0.0 for name in mute}
    for text in scale:
        name, _, value = text.partition("=")
        try:
            factors[expert_index(name)] = float(value)
        except ValueError as error:
            raise UserError(f"`--scale {text}`: write an expert and a factor, E1=0.5.") from error
    change: dict[str, Any] = {"factors": factors} if factors else {}
    if only:
        change["force"] = expert_index(only)
    change = checked(Change, change, "change").model_dump(exclude_unset=True)
    return {"layers": {checked(LayerName, layer, "layer"): change}} if layer and change else change


def collect(client: ChatClient, question: dict[str, Any], *, echo: bool) -> dict[str, Any]:
    """Read one answer to its end; ``echo`` prints its words as they come."""
    tokens: list[str] = []
    ids: list[int] = []
    rows: list[Any] = []
    details: dict[str, Any] = {}
    for line in client.ask({"request_id": f"cli-{time.time_ns()}", **question}):
        if "text" in line:
            tokens.append(line["text"])
            ids.append(line["id"])
            rows.append(line["gates"] or [])
            if echo:
                out.write(line["text"])
        elif "layers" in line:
            details |= line
    layers = details.get("layers") or []
    return {
        "text": "".join(tokens),
        "tokens": tokens,
        "ids": ids,
        "gates": [dict(zip(layers, row, strict=False)) for row in rows],
        "tokens_per_second": details.get("tokens_per_second"),
        "done": details.get("done"),
        "dropped": details.get("dropped", 0),
    }


def print_gates(answer: dict[str, Any]) -> None:
    """One line for each token: its mean routing weights over all layers."""
    for token, layers in zip(answer["tokens"], answer["gates"], strict=True):
        rows = list(layers.values())
        means = [sum(row[e] for row in rows) / len(rows) for e in range(len(rows[0]))] if rows else []
        out.print(f"{token!r:<20} " + "  ".join(f"{expert_name(e)} {mean:.2f}" for e, mean in enumerate(means)))


def speaker_of(run: Run, untuned: bool, step: int | None) -> dict[str, Any]:
    """Who answers: the finished adapter, one of its checkpoints, or its base.

    Raises:
        UserError: When the run has no adapter there yet.
    """
    if not untuned and run.summary is None and step is None:
        raise UserError(
            f"Run {run.id} is not finished ({run.status}). Wait for it, resume it, or name a checkpoint with --step."
        )
    return {**base_of(run), "run_id": None if untuned else run.id, "step": step}


def chat(
    run_id: RunId,
    prompt: str,
    gates: Annotated[bool, typer.Option("--gates", help="Show the routing weights of every token")] = False,
    mute: Annotated[list[str] | None, typer.Option(help="Expert to silence, E1 (repeat for several)")] = None,
    scale: Annotated[list[str] | None, typer.Option(help="Factor on an expert's routing weight, E1=0.5")] = None,
    expert: Annotated[str, typer.Option(help="The one expert that speaks, E1")] = "",
    layer: Annotated[str, typer.Option(help="Change experts in this layer only, by its full name")] = "",
    untuned: Annotated[bool, typer.Option("--base", help="Ask the base model without the adapter")] = False,
    step: Annotated[int | None, typer.Option(min=0, max=MOST_STEPS, help="Ask the checkpoint of this step")] = None,
    system: Annotated[str, typer.Option(help="System text")] = "",
    max_tokens: Annotated[int, typer.Option(help="Longest answer")] = 96,
    temperature: Annotated[float, typer.Option(help="0 is greedy: always the likeliest word")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Only the likeliest words up to this share")] = 0.95,
    seed: Annotated[int, typer.Option(help="Same seed, same answer")] = 0,
    as_json: AsJson = False,
) -> None:
    """Ask a tuned model one question; with changed experts, see what they would have said instead."""
    store = Studio.store()
    change = changes_of(mute or [], scale or [], expert, layer)
    drawn = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    settings = checked(GenerationSettings, drawn, "").model_dump()
    messages = [{"role": "system", "content": checked(Message, system, "system")}] if system else []
    messages.append({"role": "user", "content": checked(Message, prompt, "prompt")})
    question = {**speaker_of(store.runs.get(run_id), untuned, step), "messages": messages, "settings": settings}
    client = ChatClient(store)
    answer = {"run_id": run_id, **collect(client, question, echo=not (as_json or gates))}
    if change:
        changed = {**question, **change}
        answer["changed"] = {**collect(client, changed, echo=False), "change": change}
        if answer["ids"]:
            here, own = (client.score({**q, "tokens": answer["ids"]}) for q in (changed, question))
            answer["changed"]["scored"] = {"own": own, "here": here}

    def lines() -> None:
        print_gates(answer) if gates else out.print()
        if change:
            out.print(f"With the change: {answer['changed']['text']}")
            for token, (own_, here_) in zip(answer["tokens"], _pairs(answer["changed"].get("scored")), strict=False):
                out.print(f"{token!r:<20} {own_:.3f} -> {here_:.3f}")

    show(answer, as_json, lines)


def _pairs(scored: dict[str, list[float]] | None) -> list[tuple[float, float]]:
    return list(zip(scored["own"], scored["here"], strict=True)) if scored else []
