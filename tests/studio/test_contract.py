"""What the sources promise as a whole: who imports whom, and what never appears."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.home import Home
from jobs.store.store import Store

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = ("hydralora", "jobs", "studio")
NOT_IMPORTED_BY = {
    "hydralora": {"jobs", "studio", "app", "gradio", "fastapi", "sqlalchemy"},
    "jobs": {"studio", "app", "gradio"},
    "studio": {"app"},
}
# Inside a folder arrows point to the left only; what stands in one group does not import each other.
ORDER: dict[str, tuple[set[str], ...]] = {
    "hydralora": (
        {"errors", "limits", "model_bounds", "threads"},
        {"plain", "sheets"},
        {"bounds", "checked_json"},
        {"settings", "files", "progress"},
        {"options"},
        {"methods", "answer_settings", "samples", "tuner"},
        {"config", "decoding", "streaming"},
        {"results", "static_answers"},
        {"bases"},
        {"corpus"},
        {"adapters", "answering", "llamacpp"},
        {"training", "analysis"},
        {"generate"},
    ),
    "jobs": (
        {"database_file", "visitor", "http", "artefacts"},
        {"home"},
        {"kind_folders", "kind_limits"},
        {"kind"},
        {"kinds"},
        {"store"},
        {"breakdown", "endings", "new_bases", "machine", "repeats", "sweeping", "sending"},
        {"sizes"},
        {"tour"},
        {"runner"},
        {"chat", "artefact_choice"},
        {"tasks"},
    ),
    "studio": (
        {"quick_gradio", "terms"},
        {"figures"},
        {"cards", "form", "widgets", "doctor"},
        {"silence"},
        {"bases", "tray"},
        {
            "cluster_tree",
            "clusterings",
            "edits",
            "endpoint",
            "estimate",
            "exports",
            "selections",
            "served",
            "verdict",
        },
        {"comparison"},
        {"pages"},
        {"web"},
        {"cli"},
    ),
}
HEAVY = {"torch", "sklearn", "umap", "transformers", "peft"}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
WEB_PROCESS = """
import json, sys, psutil, app
from jobs.home import Home
from studio.web.server import create_app
create_app(Home(sys.argv[1]), keep_worker=False)
print(json.dumps({"modules": sorted(sys.modules), "bytes": psutil.Process().memory_info().rss}))
"""
MEMORY_LIMIT = 250_000_000  # bytes; with torch it would be twice that


def sources(*folders: str) -> list[Path]:
    """The Python files of some folders."""
    return sorted(path for folder in folders for path in (PROJECT / folder).rglob("*.py"))


def all_sources() -> list[Path]:
    return [PROJECT / "app.py", *sources(*FOLDERS)]


def nodes(path: Path) -> Iterator[ast.AST]:
    yield from ast.walk(ast.parse(path.read_text("utf-8"), str(path)))


def imported(path: Path) -> Iterator[str]:
    """Whole names of all modules a file imports, wherever in the file."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            yield node.module or ""


def called(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call with its name as written: ``open``, ``torch.load``."""
    for node in nodes(path):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("folder", NOT_IMPORTED_BY)
def test_imports_point_one_way(folder: str) -> None:
    for path in sources(folder):
        upward = NOT_IMPORTED_BY[folder] & {name.split(".")[0] for name in imported(path)}
        assert not upward, f"{path.relative_to(PROJECT)} imports {sorted(upward)}"


@pytest.mark.parametrize("folder", ORDER)
def test_inside_a_folder_arrows_point_one_way(folder: str) -> None:
    rank = {name: place for place, group in enumerate(ORDER[folder]) for name in group}
    wrong = []
    for path in sources(folder):
        here = path.relative_to(PROJECT / folder).with_suffix("").parts[0]
        if here.startswith("__"):
            continue
        for name in imported(path):
            there = name.removeprefix(f"{folder}.").split(".")[0]
            if name.startswith(f"{folder}.") and there != here and rank[there] >= rank[here]:
                wrong.append(f"{path.relative_to(PROJECT)} imports {name}")
    assert wrong == []


def test_every_folder_of_the_library_is_in_its_distribution() -> None:
    listed = tomllib.loads((PROJECT / "hydralora/pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(PROJECT).as_posix().replace("/", ".") for path in sources("hydralora")}
    assert set(listed) == folders | {"hydralora.shipped"}


def test_what_peft_sees_needs_nothing_else_of_ours() -> None:
    names = {name for path in sources("hydralora/tuner") for name in imported(path) if name.startswith("hydralora.")}
    allowed = ("hydralora.tuner", "hydralora.errors", "hydralora.settings", "hydralora.bounds", "hydralora.plain")
    assert [name for name in names if not name.startswith(allowed)] == []


def test_the_formatter_decides_every_line() -> None:
    places = [PROJECT / "app.py", *sources(*FOLDERS, "tests", "data")]
    assert [path.name for path in places if re.search(r"#\s*fmt: (skip|off)", path.read_text("utf-8"))] == []


def test_the_pages_import_nothing_heavy_themselves() -> None:
    for path in [PROJECT / "app.py", *sources("studio")]:
        heavy = HEAVY & {name.split(".")[0] for name in imported(path)}
        assert not heavy, f"{path.relative_to(PROJECT)} imports {sorted(heavy)}"


@pytest.fixture(scope="module")
def web_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a process holds that has built the whole application, on a home that was opened before."""
    home = tmp_path_factory.mktemp("home")
    Store(Home(home))
    answer = subprocess.run([sys.executable, "-c", WEB_PROCESS, str(home)], cwd=PROJECT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


def test_the_web_process_loads_nothing_heavy(web_process: dict[str, object]) -> None:
    assert not HEAVY & set(web_process["modules"])


def test_the_web_process_stays_small(web_process: dict[str, object]) -> None:
    assert web_process["bytes"] < MEMORY_LIMIT


def test_starting_the_studio_writes_nothing_beside_its_sources(web_process: dict[str, object]) -> None:
    assert web_process and not list((PROJECT / "studio").rglob("*.pyi"))


def test_no_page_holds_state_in_the_session() -> None:
    # One gr.State holds a connection open per tab, and the sixth tab of a browser no longer loads.
    for path in sources("studio"):
        names = {name for name, _ in called(path)}
        assert not names & {"gr.State", "gr.ChatInterface", "State", "ChatInterface"}, path.name


def test_templates_are_given_in_one_place() -> None:
    """Gradio runs ``${...}`` of a template as JavaScript, and ``{{...}}`` does not escape it."""
    found = [
        (path.name, ast.unparse(word.value))
        for path in sources("studio")
        for _, call in called(path)
        for word in call.keywords
        if word.arg == "html_template"
    ]
    assert [name for name, _ in found] == ["widgets.py"]  # of every widget, from what the next test looks at


def test_drawn_templates_hold_no_place_for_data() -> None:
    from studio import widgets

    parts = [widgets.FigurePanel(height=100), *(kind() for kind in widgets.Widget.__subclasses__())]
    assert len(parts) > 6
    for part in parts:
        assert not re.search(r"\$\{|\{\{", part.html_template)


@pytest.mark.parametrize("path", all_sources(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_nothing_is_unpickled_or_run_from_text(path: Path) -> None:
    assert not UNPICKLERS & {name.split(".")[0] for name in imported(path)}
    for name, call in called(path):
        assert name not in {"eval", "exec", "compile", "torch.load", "pd.read_pickle", "__import__"}, name
        for word in call.keywords:
            is_true = isinstance(word.value, ast.Constant) and word.value.value is True
            assert not (word.arg in {"trust_remote_code", "allow_pickle", "shell"} and is_true), word.arg


@pytest.mark.parametrize("path", sorted((PROJECT / "studio/static").rglob("*.js")), ids=lambda path: path.name)
def test_scripts_put_text_into_the_page_as_text_only(path: Path) -> None:
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|createContextualFragment|\beval\(|new Function"
    )
    assert not re.findall(forbidden, path.read_text("utf-8"))


@pytest.mark.parametrize("path", sorted((PROJECT / "studio/static").rglob("*.*")), ids=lambda path: path.name)
def test_nothing_served_names_another_host(path: Path) -> None:
    addresses = re.findall(r"(?:https?:|[\"'(])//[\w.-]+", path.read_text("utf-8"))
    assert not addresses


def test_the_page_head_loads_the_studios_own_scripts_only() -> None:
    from studio.web.theme import HEAD

    assert re.findall(r"src=\"([^\"]+)\"", HEAD)
    assert all(address.startswith("/ui/") for address in re.findall(r"(?:src|href)=\"([^\"]+)\"", HEAD))


@pytest.mark.parametrize("path", sorted(PROJECT.glob("requirements*.txt")), ids=lambda path: path.name)
def test_every_requirement_has_a_lower_and_an_upper_bound(path: Path) -> None:
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    wanted = [line for line in lines if line and not line.startswith(("#", "-r "))]
    for line in wanted:
        bounded = re.fullmatch(r"[\w.-]+(\[[\w,]+\])?(>=[\d.]+,<[\d.]+|~=\d+\.\d+[\d.]*)", line)
        assert bounded, line


def test_the_tree_has_no_drawer_for_odds_and_ends() -> None:
    assert not [path for path in all_sources() if path.stem in {"utils", "helpers", "misc", "common_utils"}]


def test_no_line_is_longer_than_120_characters() -> None:
    lines = [(path, line) for path in all_sources() for line in path.read_text("utf-8").splitlines()]
    assert not [(path.name, line) for path, line in lines if len(line) > 120]
