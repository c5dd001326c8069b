"""What the web process keeps of each open page, and what it leaves out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest
from gradio.state_holder import SessionState, StateHolder

from studio.web import sessions
from studio.web.sessions import OpenPages

SMALL = """
import json, sys
from studio.web.footprint import keep_small
keep_small()
import tempfile, pyarrow as pa
from jobs.home import Home
from studio.web.server import create_app
app = create_app(Home(tempfile.mkdtemp()), keep_worker=False)
pages = next(r.app for r in reversed(app.routes) if hasattr(getattr(r, "app", None), "get_blocks"))
queue = pages.get_blocks()._queue
queue.events_recorded = 50
queue.compute_analytics_summary([{"function": "draw", "status": "success", "process_time": 1.0}])  # after each event
from studio.figures.warm import warm_up
warm_up()
print(json.dumps({"sum": sum(pa.array([1, 2]).to_pylist()),
    "pandas": "pandas" in sys.modules}))
"""
LATER = "import studio, gradio.caching as c; print(c.pd.DataFrame({'a': [1, 2]})['a'].sum())"


def pages() -> gr.Blocks:
    """Two hundred boxes, one of which an event changes."""
    with gr.Blocks() as blocks:
        for _ in range(200):
            gr.Textbox()
    return blocks


def test_an_open_page_keeps_no_configuration_of_every_component() -> None:
    blocks = pages()
    assert len(SessionState(blocks).config_values) >= 200  # what Gradio would keep; else this file has no reason
    assert OpenPages(blocks)["a page"].config_values == {}


def test_what_an_event_has_changed_is_remembered_for_its_page_alone() -> None:
    blocks = pages()
    holder: StateHolder = OpenPages(blocks)
    key = next(iter(blocks.blocks))
    holder["one"][key] = changed = gr.Textbox(value="new", render=False)
    holder["one"]._update_config(key)
    holder["one"]._update_value_in_config(key, "newer")
    assert holder["one"][key] is changed and holder["other"][key] is blocks.blocks[key]
    assert holder["one"].config_values == {}


def test_of_many_open_pages_those_used_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 3)
    holder = OpenPages(pages())
    for name in "abcad":
        holder[name]
    assert list(holder.session_data) == ["c", "a", "d"]


def run(code: str) -> str:
    project = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True).stdout


def test_the_web_process_draws_figures_reads_arrow_and_answers_events_without_pandas() -> None:
    found = json.loads(run(SMALL).splitlines()[-1])
    assert found["sum"] == 3 and not found["pandas"]


def test_who_imports_the_studio_as_a_library_still_has_pandas() -> None:
    assert run(LATER).strip() == "3"
