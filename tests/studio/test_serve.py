"""`python -m studio serve RUN`: a process of its own that starts worker and model server by itself; and `keys`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from jobs.home import Home
from jobs.store.store import Store
from tests.studio.commands import ENVIRONMENT, PROJECT, Commands
from tests.studio.serving import answering_run
from tests.studio.stored import Stored

ASK = [{"role": "user", "content": "The door is red. Which colour has the door?"}]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    commands = Commands(tmp_path_factory.mktemp("serve") / "home")
    yield commands
    commands.end()


@contextmanager
def serving(studio: Commands, *words: object) -> Iterator[list[str]]:
    """The command in a process; what it says until it listens."""
    line = [sys.executable, "-m", "studio", "--home", str(studio.home), "serve", *map(str, words), "--port", "0"]
    process = subprocess.Popen(line, cwd=PROJECT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = []
        while not said or not said[-1].startswith("Models:"):
            said.append(process.stdout.readline())
            assert said[-1], "the command ended"
        yield said
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_a_run_is_served_without_the_page_and_answers_openais_client(studio: Commands) -> None:
    run = answering_run(Stored(Store(Home(studio.home))))
    with serving(studio, run.id) as said:
        secret = re.search(r"hydra-\S+", "".join(said))
        address = re.search(r"http://127\.0\.0\.1:\d+/v1", "".join(said))
        assert secret and address and f"run-{run.id}, starter" in said[-1]
        with OpenAI(base_url=address[0], api_key=secret[0], max_retries=0, timeout=120) as client:
            reply = client.chat.completions.create(model=f"run-{run.id}", messages=ASK, max_tokens=8, temperature=0)
            assert reply.usage.completion_tokens > 0
        with OpenAI(base_url=address[0], api_key="x", max_retries=0) as client, pytest.raises(openai.OpenAIError):
            client.models.list()
    with serving(studio, run.id) as said:
        assert "hydra-" not in "".join(said), "a key is printed once"


def test_the_process_that_serves_loads_neither_torch_nor_the_pages(studio: Commands) -> None:
    look = (
        "import sys; from studio.cli import main; from studio.web.endpoint.alone import endpoint_app;"
        "from jobs.home import Home; from jobs.store.store import Store;"
        "endpoint_app(Store(Home(sys.argv[1])), None, ['127.0.0.1']);"
        "print(sorted({'torch', 'gradio', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    line = [sys.executable, "-c", look, str(studio.home)]
    done = subprocess.run(line, cwd=PROJECT, env=os.environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("--host", "0.0.0.0"), "Add --allow-network"),
        (("--host", "0.0.0.0", "--allow-network", "--no-key"), "--no-key is for this machine only"),
        ((99,), "Run 99 does not exist"),
    ],
)
def test_what_would_open_it_too_wide_is_refused(studio: Commands, words: tuple[object, ...], sentence: str) -> None:
    done = studio("serve", *words)
    assert done.returncode == 2 and sentence in done.stderr


def test_keys_are_made_listed_and_revoked_by_command(studio: Commands) -> None:
    made = studio.json("keys", "create", "notebook")
    listed = studio.json("keys", "list")
    assert "notebook" in [key["name"] for key in listed["keys"]] and made["key"] not in str(listed)
    assert studio.json("keys", "on") == {"endpoint": True} and studio.json("keys", "list")["endpoint"] is True
    assert studio("keys", "create", "notebook").returncode == 2
    assert studio.json("keys", "revoke", "notebook", "--yes")["name"] == "notebook"
    assert studio("keys", "revoke", "notebook", "--yes").returncode == 2
    assert studio.json("keys", "off") == {"endpoint": False}


def test_the_studio_is_started_with_its_endpoint_and_remembers_it(tmp_path: Path) -> None:
    home = tmp_path / "home"

    def start(*words: str) -> bool:
        line = [sys.executable, "app.py", "--home", str(home), "--port", "0", "--no-worker", *words]
        process = subprocess.Popen(line, cwd=PROJECT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline()
        process.terminate()
        process.wait(timeout=20)
        return Store(Home(home)).keys.is_on

    assert [start(), start("--endpoint"), start(), start("--no-endpoint")] == [False, True, True, False]
