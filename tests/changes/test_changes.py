"""Each of the first seven tasks of the table, made in a scratch copy by following it, then driven."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.changes.scratch import Scratch, follows

# A store with an imported corpus, filled as the worker fills it; and the pages over it.
STORE = """
import atexit, json, sys, tempfile
from pathlib import Path
import gradio as gr
from jobs.home import Home
from jobs.store.store import Store
from tests.studio.stored import Stored
stored = Stored(Store(Home(Path(tempfile.mkdtemp()) / "home")))
store = stored.store
def draw(kind):
    with gr.Blocks() as blocks:
        return kind(blocks, store)
def command(*words):
    from tests.studio.commands import Commands
    commands = Commands(store.home.root)
    atexit.register(commands.end)  # it may have started a worker
    done = commands(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout
"""
# A tiny base and a corpus on disk, for what trains.
TRAIN = """
from hydralora.config import parse_config
from hydralora.corpus.imports import import_corpus
from hydralora.training.train import train_adapter
from tests.hydralora.conftest import easy_rows, make_llama, make_tokenizer, write_lines
root = Path(tempfile.mkdtemp())
make_llama(len(make_tokenizer())).save_pretrained(root / "base", safe_serialization=True)
make_tokenizer().save_pretrained(root / "base")
import_corpus([write_lines(root / "easy.jsonl", easy_rows())], root / "corpus")
def train(steps, config):
    whole = {"base": str(root / "base"), "train": {"max_steps": 2, "batch_size": 4, "max_length": 64}, **config}
    return train_adapter(parse_config(whole), root / "corpus", root / "run", on_step=lambda n, v: steps.append(v))
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path)


@pytest.mark.long
def test_a_routed_method_with_another_gate(scratch: Scratch) -> None:
    scratch.put(
        "hydralora/tuner/gating.py",
        '{"softmax": softmax_gate',
        ', "sigmoid": lambda logits: logits.sigmoid() / logits.sigmoid().sum(-1, keepdim=True)',
    )
    scratch.put(
        "hydralora/methods.py",
        "_LIST = (\n",
        """    Method(
        name="sigmoid_lora",
        title="Sigmoid LoRA",
        options=HydraOptions,
        tuner="HYDRALORA",
        fixed={"gate": "sigmoid"},
        routed=True,
        summary="HydraLoRA with a sigmoid for every head.",
        formula="g_i = sigma_i / sum_j sigma_j",
        source="a scratch copy",
        reconstruction="None.",
    ),
""",
    )
    assert follows("a routed method with another gate", scratch)
    said = scratch.run(
        STORE
        + TRAIN
        + """
steps = []
summary = train(steps, {"method": "sigmoid_lora", "adapter": {"r": 2}, "train": {"max_steps": 5, "max_length": 64}})
gates = [row for step in steps for row in step.get("gates", {}).values()]
assert gates and all(abs(sum(row) - 1) < 1e-5 for row in gates)
from studio.pages.new_run.page import NewRunPage
page = draw(NewRunPage)
assert "sigmoid for every head" in page.pick_method("sigmoid_lora", None)[page.method_note]
corpus = stored.corpus()
run = json.loads(command("runs", "start", "--corpus", corpus.id, "--method", "sigmoid_lora", "--json"))
print(store.runs.get(run["run_id"]).config.method, summary.steps)
"""
    )
    assert said.split() == ["sigmoid_lora", "5"]


def test_a_file_format(scratch: Scratch) -> None:
    scratch.write(
        "hydralora/corpus/pairs_rows.py",
        '''"""Rows of a text with a question and an answer in turn."""

from hydralora.corpus.rows import Row, Table


def open_pairs(file):
    """Every two lines as one row."""
    lines = [(number, line.strip()) for number, line in file.lines() if isinstance(line, str)]
    pairs = zip(lines[::2], lines[1::2])
    rows = (Row(number, {"prompt": prompt, "answer": answer}) for (number, prompt), (_, answer) in pairs)
    return Table("pairs", rows, ["prompt", "answer"])
''',
    )
    scratch.put(
        "hydralora/corpus/formats.py",
        "from hydralora.corpus.json_rows import open_json\n",
        "from hydralora.corpus.pairs_rows import open_pairs\n",
    )
    scratch.put("hydralora/corpus/formats.py", "FORMATS = (\n", '    Format("Pairs", (".pairs",), open_pairs),\n')
    assert follows("a file format", scratch)
    said = scratch.run(
        STORE
        + """
from hydralora.corpus.imports import import_corpus
from studio.pages.corpora.page import LEAD, CorporaPage
assert ".pairs" in draw(CorporaPage).files.file_types and "Pairs" in LEAD
file = store.home.root / "talk.pairs"
file.write_text("What is red?\\nThe door.\\nWhat is blue?\\nThe boat.\\n")
print(import_corpus([file], store.home.root / "read").examples)
"""
    )
    assert said.split() == ["2"]


def test_a_training_setting(scratch: Scratch) -> None:
    scratch.put(
        "hydralora/config.py",
        "    gradient_checkpointing: bool = Field(\n"
        '        False, description="Recompute activations (gradient checkpointing): less memory, more time"\n    )\n',
        '    adam_beta2: float = Field(0.999, gt=0.0, lt=1.0, description="Decay of the squared gradients")\n',
    )
    scratch.put(
        "hydralora/training/arguments.py",
        "        weight_decay=train.weight_decay,\n",
        "        adam_beta2=train.adam_beta2,\n",
    )
    assert follows("a training setting", scratch)
    said = scratch.run(
        STORE
        + """
from studio.pages.new_run.page import NewRunPage
from hydralora.config import parse_config
from hydralora.training.arguments import training_arguments
page, corpus = draw(NewRunPage), stored.corpus()
assert page.inputs["adam_beta2"].value == 0.999
values = {name: component.value for name, component in page.inputs.items()} | {"adam_beta2": 0.5}
run = store.runs.get(int(page.begin(corpus.id, "", "starter", "hydralora", *values.values())[page.opened]))
arguments = training_arguments(run.config, store.home.root, False, 32)
words = ("runs", "start", "--corpus", corpus.id, "--set", "train.adam_beta2=0.75", "--json")
by_command = store.runs.get(json.loads(command(*words))["run_id"])
print(arguments.adam_beta2, by_command.config.train.adam_beta2)
"""
    )
    assert said.split() == ["0.5", "0.75"]


@pytest.mark.long
def test_a_metric_of_every_step(scratch: Scratch) -> None:
    scratch.put(
        "hydralora/training/trainer.py",
        'values["tokens_per_second"] = self.trainer.tokens_seen / max(now - self._since, 1e-9)\n',
        '            values["perplexity"] = math.exp(values["loss"])\n',
    )
    scratch.put(
        "studio/figures/curves.py",
        "CURVES: dict[str, Curve] = {\n",
        '    "perplexity": Curve("Perplexity", {"perplexity": "perplexity"}, "perplexity", "exp(loss)."),\n',
    )
    assert follows("a metric of every step", scratch)
    said = scratch.run(
        STORE
        + TRAIN
        + """
import math
from fastapi.testclient import TestClient
from studio.pages.run.page import RunPage
from tests.security.studio_client import make_client
steps = []
train(steps, {})
assert all(abs(step["perplexity"] - math.exp(step["loss"])) < 1e-6 for step in steps if "loss" in step)
run = stored.run(stored.corpus(), finished=False)
stored.steps(run, [{"loss": 1.0, "perplexity": math.e}])
assert any("perplexity" in getattr(part, "charts", ()) for part in draw(RunPage).parts)
reply = make_client(store.home).get(f"/ui/figures/runs/{run.id}/perplexity")
print(reply.status_code, reply.json()["table"]["rows"])
"""
    )
    assert said.startswith("200 [[1, 2.718")


@pytest.mark.long
def test_an_analysis_view(scratch: Scratch) -> None:
    scratch.write(
        "hydralora/results/lengths.py",
        '''"""How long the answers of a corpus are."""

from pydantic import Field

from hydralora.results.base import Result


class Lengths(Result):
    """Characters of the answers that a run was trained on."""

    FILE = "lengths.json"

    characters: list[int] = Field(description="Of every answer, ``(examples,)``")
    sentence: str = Field(description="The longest in words")
''',
    )
    scratch.write(
        "hydralora/analysis/lengths.py",
        '''"""How long answers are."""

from hydralora.corpus.folder import Corpus
from hydralora.results.lengths import Lengths


def measure_lengths(run_folder, corpus_folder, out_folder, *, clusters_folder, progress):
    """Count the characters of every answer."""
    found = [len(example.answer) for example in Corpus(corpus_folder)]
    return Lengths(characters=found, sentence=f"The longest answer has {max(found)} characters.").write(out_folder)
''',
    )
    scratch.put(
        "jobs/kinds.py",
        "for _kind in (\n",
        """    Kind(
        "lengths",
        "Lengths",
        "jobs.tasks.measure",
        measure="hydralora.analysis.lengths.measure_lengths",
        version=1,
        result=Lengths,
        look={},
        on_corpus=True,
    ),
""",
    )
    scratch.put(
        "jobs/kinds.py", "from hydralora.plain import shown\n", "from hydralora.results.lengths import Lengths\n"
    )
    scratch.write(
        "studio/pages/run/lengths.py",
        '''"""Lengths of answers."""

import gradio as gr
import plotly.graph_objects as go

from hydralora.results.lengths import Lengths
from studio.figures.base import Figure, layout_of
from studio.figures.views import VIEWS
from studio.pages.run.tab import Tab, on_corpus, source, state_of
from studio.widgets import FigurePanel


def bars(found):
    """One bar for every answer."""
    drawing = go.Figure(layout=layout_of(280))
    drawing.add_bar(y=found.characters)
    rows, title = [[n] for n in found.characters], f"The longest answer has {max(found.characters):,} characters"
    return Figure(drawing, "Characters of every answer.", "lengths", ["characters"], rows, title)


VIEWS["lengths"] = lambda folder, query: {"bars": lambda: bars(Lengths.read(folder))}


class LengthsTab(Tab):
    """A sentence and the bars."""

    title = "Lengths"

    def layout(self):
        self.verdict, self.chart = gr.HTML(), FigurePanel(height=280)

    def live(self):
        return [self.verdict, self.chart]

    def wants(self, look):
        return on_corpus(look, "lengths")

    def show(self, look, found):
        lengths = found.get("lengths")
        return {self.verdict: state_of(lengths, "No corpus."), self.chart: source(lengths, "bars")}
''',
    )
    assert follows("an analysis view", scratch)
    said = scratch.run(
        STORE
        + """
from hydralora.results.lengths import Lengths
from studio.pages.run.page import RunPage
from tests.studio.test_handlers import asking
from tests.security.studio_client import make_client
page, run = draw(RunPage), stored.run(stored.corpus())
tab = next(tab for tab in page.parts if tab.title == "Lengths")
values = [pick.value for pick in page.own_picks]
page.draw(asking(run=run.id, tab="lengths"), page.choosers.corpus.value, "", *values, "")
waiting = {job.kind: job for job in store.queue.jobs() if job.run_id == run.id}
assert "lengths" in waiting, sorted(waiting)
from jobs.runner.child import Job, find_task
job = waiting["lengths"]
folder = store.home.job(job.id, 1)
folder.mkdir(parents=True)
adapter = store.home.run(run.id) / "adapter"
adapter.mkdir(parents=True)
from tests.studio.stored import SUMMARY
from hydralora.results import AdapterFacts
AdapterFacts(config=run.config, summary=SUMMARY).write(adapter)
found = find_task("lengths")(Job(folder, {"kind": "lengths", "payload": job.payload, "home": str(store.home.root)}))
while (held := store.attempts.claim("tests", "here", "light")) is not None:
    from jobs.store.status import JobStatus
    result = found.row() if held.kind == "lengths" else {"sentence": "Done."}
    done = JobStatus.SUCCEEDED if held.kind == "lengths" else JobStatus.STOPPED
    store.attempts.finish(held, done, 1.0, result=result)
changes = page.draw(asking(run=run.id, tab="lengths"), page.choosers.corpus.value, "", *values, "")
assert found.sentence in changes[tab.verdict]
reply = make_client(store.home).get(changes[tab.chart]["src"])
assert reply.status_code == 200, reply.text
from jobs.kinds import looks
print(len(reply.json()["table"]["rows"]), "lengths" in looks())
"""
    )
    assert said.split() == ["4", "True"]


def test_a_kind_of_job(scratch: Scratch) -> None:
    scratch.put(
        "jobs/tasks.py",
        "from jobs.runner.child import Job\n",
        '''

def tidy(job: Job) -> dict[str, Any]:
    """Count what is uploaded."""
    job.report(0.5, "Counting")
    return {"sentence": f"{len(list(job.home.uploads.iterdir()))} folders."}

''',
    )
    scratch.put("jobs/kinds.py", "for _kind in (\n", '    Kind("tidy", "Tidying up", "jobs.tasks.tidy"),\n')
    assert follows("a kind of job", scratch)
    said = scratch.run(
        STORE
        + """
from jobs.runner.worker import Worker
from studio.tray import tray
import time
job = store.queue.submit("tidy")
assert "Tidying up" in [row["title"] for row in tray(store)["waiting"]]
worker = Worker(store.home, store=store)
deadline = time.monotonic() + 120
while not store.queue.get(job.id).is_finished and time.monotonic() < deadline:
    worker.do_round()
    time.sleep(0.1)
done = store.queue.get(job.id)
print(done.status, (done.result or {}).get("sentence"), done.error)
"""
    )
    assert said.startswith("succeeded ") and "folders." in said


def test_a_page(scratch: Scratch) -> None:
    scratch.write(
        "studio/pages/about.py",
        '''"""About: how many corpora there are."""

import gradio as gr

from studio import cards
from studio.pages.page import Page
from studio.widgets import LiveChanges


class AboutPage(Page):
    """One number, kept up to date."""

    title = "About"
    path = "about"

    def layout(self):
        gr.HTML(cards.head("About", "What is here."))
        self.watch, self.count = LiveChanges({"of": "corpora"}), gr.HTML()

    def connect(self):
        self.on_change(self.watch, self.draw, None, self.count)

    def draw(self):
        """The number now."""
        return {self.count: cards.card("Corpora", len(self.store.corpora.all()))}
''',
    )
    scratch.put("studio/pages/__init__.py", "import gradio as gr\n\n", "from studio.pages.about import AboutPage\n")
    scratch.put("studio/pages/__init__.py", "PAGES: tuple[type[Page], ...] = (", "AboutPage, ")
    assert follows("a page", scratch)
    said = scratch.run(
        STORE
        + """
from studio.pages.about import AboutPage
from tests.security.studio_client import make_client
from tests.studio.pages import opened
stored.corpus()
page = draw(AboutPage)
assert ">1<" in page.draw()[page.count]
client = make_client(store.home)
print(client.get("/about").status_code, ">1<" in opened(client, "about", "draw")[0], "/about" in client.get("/").text)
"""
    )
    assert said.split() == ["200", "True", "True"]


@pytest.mark.long
def test_an_executor(scratch: Scratch) -> None:
    scratch.write(
        "jobs/runner/executors/plain.py",
        '''"""Attempts as bare processes, which are found again by what they write into their folder."""

import subprocess
from pathlib import Path

from jobs.runner.begin import command, leave
from jobs.runner.ownership import give_up, started_in
from jobs.runner.processes import family, is_alive, kill


class PlainExecutor:
    def __init__(self, choice, home):
        self.choice, self.children = choice, {}

    def check(self):
        """Nothing is needed."""

    def slots(self, kind):
        return 2

    def is_ready(self, kind, cwd):
        return True

    def start(self, kind, folder, cwd, gpu=None):
        leave(folder, kind, self.choice, 0)
        said = (folder / "said.txt").open("w")
        child = subprocess.Popen(command(folder), stdout=said, start_new_session=True)
        self.children[str(folder)] = child
        return {"engine": "plain", "folder": str(folder), "pid": child.pid}

    def is_alive(self, handle):
        child, folder = self.children.get(handle["folder"]), Path(handle["folder"])
        return child.poll() is None if child else is_alive(started_in(folder))

    def stop(self, handle, *, at_once=False):
        if at_once:
            give_up(Path(handle["folder"]))
            kill(family(started_in(Path(handle["folder"]))))

    def logs(self, handle):
        return (Path(handle["folder"]) / "said.txt").read_text()

    def collect(self, handle):
        self.children.pop(handle["folder"], None)
''',
    )
    scratch.put("jobs/runner/executors/__init__.py", '    "slurm": SlurmExecutor,\n', '    "plain": PlainExecutor,\n')
    scratch.put(
        "jobs/runner/executors/__init__.py",
        "from jobs.runner.executors.local import LocalExecutor\n",
        "from jobs.runner.executors.plain import PlainExecutor\n",
    )
    scratch.put("tests/jobs/test_engines.py", "ENGINES = [\n", '    _engine("plain", Choice("plain")),\n')
    assert follows("an executor", scratch)
    scratch.run(
        """
import pytest
assert pytest.main(["tests/jobs/test_engines.py", "-q", "-k", "plain", "-p", "no:cacheprovider"]) == 0
from studio.cli.serve import parse_options
from studio.cli.executor import chosen
assert chosen(parse_options(["--executor", "plain"])).executor == "plain"
"""
    )
