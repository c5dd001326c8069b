"""What is said: no password, nothing a terminal obeys, no line that a stranger wrote, no formula."""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from sqlalchemy.exc import IntegrityError

from hydralora import sheets
from hydralora.errors import UserError
from hydralora.plain import UNSHOWN, one_line, plain
from jobs.home import DATABASE_VARIABLE, Home
from jobs.runner.child import Job
from jobs.runner.lease import Held, Lease
from jobs.runner.running import RunningJob, write_spec
from jobs.runner.worker import Worker
from jobs.store.database import migrate, open_engine, shown_url, without_secrets
from jobs.store.rows import clean_name
from jobs.store.store import Store
from studio.cli import main as cli
from studio.cli import terminal
from studio.doctor import examine
from tests.javascript.node import from_module
from tests.postgresql import PASSWORD, Server, binaries

STUDIO = Path(cli.__file__).parents[1]
SECRET = "s3cr3t"
ADDRESSES = [
    f"postgresql://ann:{SECRET}@127.0.0.1:1/studio",
    f"postgresql+psycopg://ann:{SECRET}@127.0.0.1/studio",
    f"postgresql://ann:{SECRET}%40x@host/db",
    f"postgresql://ann:p@{SECRET}@host/db",
    f"postgresql://ann:{SECRET}/x@host/db",
    f"postgresql:///db?password={SECRET}",
    f"mysql://ann:{SECRET}@host/db",
    f"nosuch://ann:{SECRET}@host/db",
    f"postgresql://ann:x@host:{SECRET}/db",
    f"host=h password={SECRET}",
    f"sqlite:////nowhere/at/all.db?password={SECRET}",
]
EVIL = "\x1b[2J\x1b]0;title\x07\x9b31mred\x08\x08\r\x00\u202egpj.exe\u2066\u200f\x85\ufeff\U000e0041end"


# Passwords


@pytest.mark.filterwarnings("ignore:Query string argument")
@pytest.mark.parametrize("url", ADDRESSES)
def test_a_message_names_the_database_without_its_password(url: str) -> None:
    with pytest.raises(UserError) as error:
        migrate(url)
        open_engine(url).connect()
    assert SECRET not in str(error.value) and len(str(error.value)) > 40


@pytest.mark.filterwarnings("ignore:Query string argument")
@pytest.mark.parametrize("url", ADDRESSES)
def test_a_command_says_no_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DATABASE_VARIABLE, url)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--home", str(tmp_path), "runs", "list", "--json"])
    told = capfd.readouterr()
    assert ended.value.code == 2 and "Traceback" not in told.err
    assert SECRET not in told.out + told.err


def test_a_worker_that_cannot_start_says_why_without_the_password(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.runner.worker", "--home", str(tmp_path)],
        env={**os.environ, DATABASE_VARIABLE: ADDRESSES[0]},
        cwd=STUDIO.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2 and "The database postgresql://ann:***@" in done.stderr
    assert SECRET not in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_the_doctors_findings_say_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATABASE_VARIABLE, ADDRESSES[0])
    findings = examine(tmp_path, 7860)
    assert any(f.name == "database" and not f.ok for f in findings) and SECRET not in repr(findings)


WRONG = {
    "password": ({"password": SECRET}, "password authentication failed"),
    "user": ({"username": "nobody", "password": SECRET}, "password authentication failed"),
    "database": ({"database": "not_there"}, 'database "not_there" does not exist'),
    "port": ({"port": 1}, "[Cc]onnection refused"),
    "options": ({"query": {"sslmode": "verify-full", "sslpassword": SECRET}}, "ssl|SSL|certificate"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_server_says_is_told_without_the_password(
    postgresql: Server,
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong, words = WRONG[what]
    monkeypatch.setenv(DATABASE_VARIABLE, postgresql.url(**wrong))
    with pytest.raises(SystemExit) as ended:
        cli.main(["--home", str(tmp_path), "runs", "list"])
    told = capfd.readouterr()
    assert ended.value.code == 2 and re.search(words, told.err) and len(told.err.strip().splitlines()) == 1
    assert "studio:***@" in told.err or "nobody:***@" in told.err
    hides_all(told.out + told.err + caplog.text)


def hides_all(said: str) -> None:
    for secret in (SECRET, PASSWORD, quote(PASSWORD), quote(PASSWORD, safe=""), quote_plus(PASSWORD)):
        assert secret not in said


def test_what_is_said_when_the_server_has_gone_has_no_password(
    postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    programs = binaries()
    assert programs is not None
    server = Server(programs)
    monkeypatch.setenv(DATABASE_VARIABLE, server.url(server.new()))
    store = Store(Home(tmp_path / "home"))
    worker = Worker(store.home, store=store)
    job = store.queue.submit("map")
    held = store.attempts.claim(worker.me.name, worker.me.host, "light")
    assert held is not None
    lease = Lease(write_spec(store.home, held, None), store.home.database_url)
    server.stop()
    for use in (worker.do_round, lambda: store.queue.stop(job.id), lambda: store.runs.all()):
        with pytest.raises(UserError, match=r"cannot be opened or written: .*Check that it can be reached") as error:
            use()
        hides_all(str(error.value))
    assert lease.renew() == Held.UNKNOWN
    with caplog.at_level(logging.DEBUG):
        worker.care._take_care(RunningJob(held, tmp_path, {}), worker.care._watch)
    assert caplog.text
    hides_all(caplog.text)


def test_a_drivers_own_words_lose_the_password() -> None:
    url = f"postgresql://ann:{SECRET}%40x@host/db?sslpassword=key+phrase"
    said = f'could not connect with "{url}", password {SECRET}@x or {SECRET}%40x, key {"key phrase"}'
    told = without_secrets(said, url)
    assert SECRET not in told and "key phrase" not in told and "could not connect" in told


def test_what_helps_is_still_said() -> None:
    assert (
        shown_url(f"postgresql://ann:{SECRET}@db.example:5433/studio") == "postgresql://ann:***@db.example:5433/studio"
    )
    assert shown_url("sqlite:////home/ann/studio.db") == "sqlite:////home/ann/studio.db"


def test_an_error_of_the_database_says_no_value_of_a_statement(tmp_path: Path) -> None:
    store = Store(Home(tmp_path / "home"))
    question = store.chats.ask(store.chats.create().id, "What?")
    with pytest.raises(IntegrityError) as error:
        store.chats.begin_answer(replace(question, conversation_id=987), None, {"text": "private"})
    assert "FOREIGN KEY" in str(error.value) and "private" not in str(error.value)


# Terminals


def test_text_for_a_terminal_moves_nothing_and_turns_nothing() -> None:
    shown = plain(EVIL)
    assert not UNSHOWN.search(shown) and "red" in shown and "end" in shown
    assert plain("tab\tand\r\nline, ünïcode, 👩\u200d🔬, עברית") == "tab\tand\nline, ünïcode, 👩\u200d🔬, עברית"


def test_tables_lines_and_answers_are_printed_plain(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.out.print(EVIL)
    terminal.err.print(EVIL)
    terminal.out.write(EVIL)
    terminal.print_table(["name", EVIL], [[EVIL, 1]])
    terminal.show({"name": EVIL}, True, lambda: None)
    told = capsys.readouterr()
    assert not UNSHOWN.search(told.out + told.err) and told.out.count("end") >= 3


def test_a_name_given_to_a_command_reaches_no_terminal_raw(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["--home", str(tmp_path), "corpora", "add", f"{EVIL.replace(chr(0), '')}.csv"]
    with pytest.raises(SystemExit):
        cli.main(words)
    with pytest.raises(SystemExit):
        cli.main(["runs", "show", "\x1b[2J"])
    told = capfd.readouterr()
    assert "no such file" in told.err and not UNSHOWN.search(told.out + told.err)


def test_only_one_module_prints() -> None:
    for path in STUDIO.rglob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert path.name == "terminal.py" or not names & {"print", "Console"}, path.name


def test_a_stored_name_is_one_plain_line() -> None:
    name = clean_name(f"first\nsecond {EVIL}")
    assert name.startswith("first second") and name.isprintable()


def test_a_conversations_title_is_one_plain_line(tmp_path: Path) -> None:
    chats = Store(Home(tmp_path / "home")).chats
    made = chats.create()
    chats.change(made.id, title="one\n# two \x1b[31m")
    assert chats.get(made.id).title == "one # two [31m"
    asked = chats.create()
    chats.ask(asked.id, "\x1b\x1b")
    assert chats.get(asked.id).title == "New conversation"


# Logs


def test_what_a_job_reports_is_one_line_of_its_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jobs")
    job = Job(tmp_path, {"kind": "map", "payload": {}, "home": str(tmp_path / "home")})
    job.report(1.0, "Reading a.csv\r\n12:00:00  100%  Done\x1b[1A")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and "Reading a.csv" in lines[0] and not UNSHOWN.search(lines[0])


def test_one_line_is_one_line_for_every_reader() -> None:
    assert one_line("a\nb\r\nc\u2028d\x0be\x85f\x1cg").splitlines() == ["a b c\ufffdd\ufffde\ufffdf\ufffdg"]


# Formulas

FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "\u00a0=1",
    "\u3000=1",
    "\u200b=1",
    "\ufeff=1",
    "＝1",
    " ＋1",
    "－1",
    "＠A",
    "-2+3|cmd",
    "--1",
    "+",
    "-",
    "=",
    "-1 2",
    "+-1",
]
HARMLESS = ["", "a=1", "1", "-1", "+1.5e-3", "-.5", "1e9", "C1", "a-b", "x@y", "'=1"]


@pytest.mark.parametrize("cell", FORMULAS)
def test_a_cell_that_would_be_a_formula_is_text(cell: str) -> None:
    assert sheets.defused(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", HARMLESS)
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert sheets.defused(cell) == cell


def test_numbers_stay_numbers_and_nothing_stays_empty() -> None:
    rows = list(
        csv.reader(
            io.StringIO(sheets.as_csv(["step", "=loss"], [[1, -2.5], [2, None], [3, 1e-7], ["a,b", 'say "hi"\r\nx']]))
        )
    )
    assert rows == [["step", "'=loss"], ["1", "-2.5"], ["2", ""], ["3", "1e-07"], ["a,b", 'say "hi"\r\nx']]


@pytest.mark.parametrize("name", ["FORMULA", "NUMBER"])
def test_the_browser_defuses_the_same_cells(name: str) -> None:
    pattern = from_module("table", f"module.{name}.source")
    assert pattern == getattr(sheets, name).pattern
    script = re.compile(pattern)
    assert all(bool(script.search(cell)) == bool(getattr(sheets, name).search(cell)) for cell in [*FORMULAS, *HARMLESS])


def test_the_pages_script_writes_cells_as_we_do() -> None:
    cells = [*FORMULAS, *HARMLESS, "a,b", 'a"b', "a\rb"]
    written = from_module("table", "given.map(module.csvCell)", cells)
    assert [next(csv.reader(io.StringIO(cell, newline="")), [""])[0] for cell in written] == [
        sheets.defused(cell) for cell in cells
    ]


def test_every_csv_is_written_in_one_place() -> None:
    for path in STUDIO.rglob("*.py"):
        if path.name != "sheets.py":
            text = path.read_text("utf-8")
            assert "import csv" not in text and "to_csv" not in text and '",".join' not in text, path.name


def test_an_unknown_command_is_refused_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["runs", "show", "99999999999999999999"],
        ["runs", "show", "x"],
        ["runs", "show"],
        ["nosuch"],
        ["runs", "list", "--nosuch"],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        told = capfd.readouterr()
        assert ended.value.code == 2 and told.out == "" and len(told.err.strip().splitlines()) == 1, told.err
    with contextlib.suppress(SystemExit):
        cli.main(["runs"])
    told = capfd.readouterr()
    assert "Usage" in told.out and told.err == ""
