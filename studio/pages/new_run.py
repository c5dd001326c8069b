"""New run: corpus, base, method, preset; one click starts the training."""

from __future__ import annotations

from typing import Any

import gradio as gr

from hydralora.config import TrainConfig
from hydralora.errors import UserError
from hydralora.methods import METHODS
from hydralora.presets import PRESETS
from jobs.records import Corpus
from jobs.store import Store
from studio import cards
from studio.cards import Markup
from studio.estimate import ask_speed, known_speed, settings_of, tell
from studio.form import BASIC, collect, field_input, method_fields, shown_value, train_fields
from studio.pages.common import EVENT, LIVE_SECONDS, TICK, address_id, corpus_choices, go_to, known_bases, shows_errors

LEAD = "Choose a corpus and press Start. Everything else has a sensible value already."
OWN = "As set below"
GROUPS = {
    "Training": ("batch_size", "accumulation", "learning_rate", "warmup_fraction", "scheduler", "weight_decay",
                 "max_grad_norm", "max_length", "only_cluster", "seed"),
    "Measuring and saving": ("held_out_fraction", "eval_every", "save_every", "gate_every", "keep_checkpoints"),
    "Memory": ("dtype", "gradient_checkpointing"),
}  # fmt: skip


def about_corpus(store: Store, corpus: Corpus) -> tuple[Markup, int | None]:
    """What is known about a corpus, and the number of experts its clusters suggest."""
    clustering = store.latest_clustering(corpus.id, finished=True)
    if clustering is None or clustering.result is None:
        way = cards.join(
            "Cluster it on its ",
            cards.link(f"/corpora?corpus={corpus.id}", "page"),
            " to get a suggested number of experts.",
        )
        return cards.note("info", f"{corpus.examples:,} examples, not clustered yet.", way), None
    found = clustering.result
    title = f"{corpus.examples:,} examples; suggested number of experts: {found['suggested_k']}."
    return cards.note("good", title, found["reason"]), int(found["suggested_k"])


def about_method(name: str) -> Markup:
    """Summary, formula, source and honest remarks of a method."""
    method = METHODS[name]
    merge = {
        "exact": "Can be merged into the base exactly.",
        "fixed": "Can be merged into the base exactly where the parts are added as mean or sum.",
        "no": "Cannot be merged into the base: its gates depend on every token."
        if method.routed
        else "Cannot be merged into the base: it changes what the model reads, not its weights.",
    }[method.mergeable]
    return cards.join(
        cards.note("info", method.summary, merge),
        Markup("<details class='hy-more'><summary>Formula, source, and what we had to decide</summary>"),
        Markup("<pre>"), method.formula, Markup("</pre><p>"), method.source, Markup("</p><p>"), method.reconstruction,
        Markup("</p></details>"),
    )  # fmt: skip


def build(page: gr.Blocks, store: Store) -> None:
    """Draw the page."""
    options, training = method_fields(), train_fields()
    gr.HTML(cards.head("New run", LEAD))
    problem = gr.HTML()
    with gr.Row():
        corpus = gr.Dropdown([], label="Corpus", min_width=260, elem_id="run-corpus")
        name = gr.Textbox(
            label="Name of the run", placeholder="method on corpus, when left empty", max_lines=1, min_width=260
        )
    corpus_note = gr.HTML()
    with gr.Row():
        base = gr.Dropdown(["starter"], value="starter", allow_custom_value=True, label="Base model", min_width=260, elem_id="run-base",
                           info="starter, a folder with config.json and safetensors, or a hub id such as owner/name")  # fmt: skip
        method = gr.Dropdown([(m.title, m.name) for m in METHODS.values()], value="hydralora", label="Method", min_width=260,
                             info="How the adapter is built", elem_id="run-method")  # fmt: skip
    method_note = gr.HTML(about_method("hydralora"))
    preset = gr.Radio(
        [*PRESETS, OWN],
        value="Quick",
        label="How thorough",
        elem_id="run-preset",
        info=" · ".join(f"{name_}: {preset_.summary}" for name_, preset_ in PRESETS.items()),
    )
    inputs: dict[str, Any] = {}
    with gr.Row():
        for field in ("max_steps", "num_experts", "rank"):
            inputs[field] = field_input(field, {**options, **training}[field])
    with gr.Row(equal_height=True):
        estimate = gr.HTML(min_width=240)
        clock = gr.Button("Time a few steps", size="sm", scale=0, min_width=150, visible=False, elem_id="time-steps")
    stamp = gr.Textbox(visible=False)
    start = gr.Button("Start training", variant="primary", size="lg", elem_id="start-run")
    with gr.Accordion("Expert settings", open=False, elem_id="expert-settings"):
        published = gr.Dropdown(
            [],
            label="Published settings of this method",
            info="Fills in what a paper or its script used",
            min_width=200,
        )
        gr.Markdown("**Adapter**")
        with gr.Row():
            for field, info in options.items():
                if field not in BASIC:
                    inputs[field] = field_input(field, info)
        for title, names in GROUPS.items():
            gr.Markdown(f"**{title}**")
            with gr.Row():
                for field in names:
                    inputs[field] = field_input(field, training[field])
    opened = gr.Textbox(visible=False)
    adapter_names = list(options)
    adapter_inputs = [inputs[field] for field in adapter_names]
    all_names, all_inputs = list(inputs), list(inputs.values())

    def ready() -> list[Corpus]:
        return [c for c in store.corpora() if c.examples is not None]

    def visible(method_name: str, values: dict[str, Any]) -> list[Any]:
        fields = METHODS[method_name].options.model_fields
        updates = []
        for field in adapter_names:
            if field in fields:
                value = values.get(field, fields[field].get_default(call_default_factory=True))
                updates.append(gr.update(visible=True, value=shown_value(value)))
            else:
                updates.append(gr.update(visible=False))
        return updates

    def load(request: gr.Request) -> tuple[Any, ...]:
        found, again = ready(), address_id(request, "again")
        wanted = address_id(request, "corpus")
        source = next((r for r in store.runs() if r.id == again), None)
        if source is not None:
            wanted = source.corpus_id
        chosen = next((c for c in found if c.id == wanted), found[0] if found else None)
        missing = (
            Markup("")
            if found
            else cards.empty(
                "There is no corpus to train on yet",
                cards.join("Add one on the ", cards.link("/corpora", "Corpora"), " page."),
            )
        )
        note, suggested = about_corpus(store, chosen) if chosen else (Markup(""), None)
        config: dict[str, Any] = (
            source.config if source else {"base": "starter", "method": "hydralora", "adapter": {}, "train": {}}
        )
        adapter = dict(config["adapter"])
        if source is None and suggested:
            adapter["num_experts"] = suggested
        train = (
            config["train"]
            if source
            else settings_of(store, "Quick", chosen.id if chosen else None, "starter", "hydralora")
        )
        updates = dict(zip(adapter_names, visible(config["method"], adapter), strict=True))
        for field, info in training.items():
            updates[field] = gr.update(value=train.get(field, info.get_default()))
        return (
            missing, gr.Dropdown(choices=corpus_choices(store), value=chosen.id if chosen else None),
            note, gr.Dropdown(choices=known_bases(store), value=config["base"]), config["method"], OWN if source else "Quick",
            gr.Button(interactive=bool(found)), *[updates[field] for field in all_names],
        )  # fmt: skip

    @shows_errors
    def pick_corpus(corpus_id: int | None, method_name: str) -> tuple[Any, Any]:
        if corpus_id is None:
            return Markup(""), gr.skip()
        note, suggested = about_corpus(store, store.ready_corpus(corpus_id))
        return note, suggested if suggested and "num_experts" in METHODS[
            method_name
        ].options.model_fields else gr.skip()

    @shows_errors
    def pick_method(method_name: str, corpus_id: int | None) -> list[Any]:
        _, suggested = about_corpus(store, store.ready_corpus(corpus_id)) if corpus_id else (None, None)
        names = list(METHODS[method_name].presets)
        return [about_method(method_name), gr.Dropdown(choices=names, value=None, visible=bool(names)),
                *visible(method_name, {"num_experts": suggested} if suggested else {})]  # fmt: skip

    @shows_errors
    def pick_published(method_name: str, which: str | None) -> list[Any]:
        return visible(method_name, METHODS[method_name].presets.get(which or "", {}))

    @shows_errors
    def pick_preset(which: str, *where: Any) -> list[Any]:
        if which not in PRESETS:
            return [gr.skip()] * len(training)
        chosen = settings_of(store, which, *where)
        return [chosen[field] for field in training]

    def guess(*given: Any) -> tuple[Markup, Any]:
        corpus_id, base_, method_name, steps, batch, every = given
        words = tell(store, corpus_id, base_, method_name, int(steps or 0), int(batch or 1), int(every or 0))
        return Markup(f"<p class='hy-quiet'>{cards.text(words)}</p>"), gr.Button(visible="Time a few steps" in words)

    def look(known: str, which: str, *given: Any) -> list[Any]:
        """The estimate; and, once the speed is known, what the preset comes to on this machine."""
        where = given[:3]
        ask_speed(store, *where)
        speed = known_speed(store, *where)
        now = repr((where, speed))
        words, button = guess(*given)
        fill = speed is not None and now != known and which in PRESETS
        return [words, button, now, *(pick_preset(which, *where) if fill else [gr.skip()] * len(training))]

    def time_steps(*given: Any) -> tuple[Markup, Any]:
        ask_speed(store, *given[:3], fetch=True)
        return guess(*given)

    @shows_errors
    def begin(corpus_id: int | None, given: str, base_: str, method_name: str, *values: Any) -> str:
        if corpus_id is None:
            raise UserError("No corpus is chosen. Choose one, or add one on the Corpora page.")
        if method_name not in METHODS:
            raise UserError("That method does not exist.")
        found = dict(zip(all_names, values, strict=True))
        config = {"base": (base_ or "").strip() or "starter", "method": method_name,
                  "adapter": collect(METHODS[method_name].options, found), "train": collect(TrainConfig, found)}  # fmt: skip
        run = store.start_run(corpus_id, config, name=given or "")
        store.speeds.give_way()
        return str(run.id)

    corpus.input(pick_corpus, [corpus, method], [corpus_note, inputs["num_experts"]], **TICK)
    method.change(pick_method, [method, corpus], [method_note, published, *adapter_inputs], **TICK)
    published.input(pick_published, [method, published], adapter_inputs, **TICK)
    where = [corpus, base, method]
    asked = [*where, *(inputs[field] for field in ("max_steps", "batch_size", "eval_every"))]
    train_inputs = [inputs[field] for field in training]
    preset.input(pick_preset, [preset, *where], train_inputs, **TICK)
    for field in training:
        inputs[field].input(lambda: OWN, None, preset, **TICK)
    for changed in asked[3:]:
        changed.change(guess, asked, [estimate, clock], **TICK)
    drawn = page.load(load, None, [problem, corpus, corpus_note, base, method, preset, start, *all_inputs], **TICK)
    shown = [estimate, clock, stamp, *train_inputs]
    drawn.then(look, [stamp, preset, *asked], shown, **TICK)
    gr.Timer(LIVE_SECONDS).tick(look, [stamp, preset, *asked], shown, **TICK)
    clock.click(time_steps, asked, [estimate, clock], **EVENT)
    start.click(begin, [corpus, name, base, method, *all_inputs], opened, **EVENT).success(
        None, opened, None, js=go_to("/run", "run")
    )
