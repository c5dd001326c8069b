"""The model server keeps off a device that training needs. ``meta`` stands for a GPU."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import httpx
import pytest
import uvicorn

from jobs.chat.server import Ask, Load, Server, build_app
from jobs.home import Home
from jobs.runner.worker import Worker
from jobs.store.bases import Bases
from jobs.store.store import Store
from tests.hydralora.conftest import make_llama, make_tokenizer
from tests.jobs.conftest import wait_for


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, tokenizer = tmp_path_factory.mktemp("base"), make_tokenizer()
    make_llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def home(tmp_path: Path, base: str) -> Home:
    """A home on whose list the base is."""
    home = Home(tmp_path / "home")
    Bases(home).add(Path(base))
    return home


@pytest.fixture
def server(home: Home, base: str) -> Server:
    """A server whose base lies on the device."""
    server = Server(home)
    server.device = "cpu"
    server.load(Load(base=base)).base.to("meta")
    server.device = "meta"
    return server


def test_what_is_loaded_is_told_by_its_name_and_not_by_its_folder(home: Home, base: str) -> None:
    ask = Ask(base=base, messages=[{"role": "user", "content": "red"}], settings={"max_tokens": 1}, request_id="1")
    said = [json.loads(line).get("state") for line in Server(home).answer(ask)]
    assert said[0] == f"Loading base model {Bases(home).all()[0].name}" and base not in str(said)


def test_the_device_is_given_back_when_training_needs_it(server: Server) -> None:
    server.make_room()
    assert server.model is not None
    server.home.make_room.touch()
    server.make_room()
    assert server.model is None


def test_an_answer_under_way_keeps_the_device(server: Server) -> None:
    server.home.make_room.touch()
    with server.turn:
        server.make_room()
    assert server.model is not None


def test_answers_come_from_the_processor_meanwhile_and_say_so(server: Server, base: str) -> None:
    server.home.make_room.touch()
    ask = Ask(request_id="a", base=base, messages=[{"role": "user", "content": "The door is red."}])
    lines = list(server.answer(ask))
    assert any("computed on the CPU" in line for line in lines)
    assert '"done"' in lines[-1] and server.model is not None and server.model.base.device.type == "cpu"


def test_the_device_is_taken_again_when_training_has_ended(server: Server) -> None:
    server.home.make_room.touch()
    assert server.place == "cpu"
    server.home.make_room.unlink()
    assert server.place == "meta"


def test_a_server_on_the_processor_never_makes_room(home: Home, base: str) -> None:
    server = Server(home)
    server.device = "cpu"
    server.load(Load(base=base))
    home.make_room.touch()
    server.make_room()
    assert server.model is not None


def test_training_that_waits_or_runs_asks_for_room_and_then_gives_it_back(
    home: Home, store: Store, tmp_path: Path
) -> None:
    worker = Worker(home, store=store)
    job = store.queue.submit("train")
    worker._share_gpu()
    assert home.make_room.exists()
    store.queue.stop(job.id)
    worker._share_gpu()
    assert not home.make_room.exists()


def test_one_question_too_many_is_refused_with_a_sentence(server: Server, base: str) -> None:
    server.waiting = 16
    ask = Ask(request_id="a", base=base, messages=[{"role": "user", "content": "Hello"}])
    assert "Too many questions are waiting" in next(iter(server.answer(ask)))


def test_a_reader_who_leaves_in_mid_answer_gives_the_turn_to_the_next(home: Home, base: str) -> None:
    server = Server(home)
    web = uvicorn.Server(uvicorn.Config(build_app(server, "t"), log_level="warning"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_for(lambda: web.started)
    address, headers = f"http://127.0.0.1:{listener.getsockname()[1]}/answer", {"Authorization": "Bearer t"}
    for number in range(3):
        ask = {
            "request_id": str(number),
            "base": base,
            "messages": [{"role": "user", "content": "The door is red."}],
            "settings": {"temperature": 1.0, "max_tokens": 80, "seed": number},
        }
        with httpx.stream("POST", address, json=ask, headers=headers, timeout=60) as reply:
            assert "text" in next(line for line in reply.iter_lines() if '"text"' in line)
    wait_for(lambda: not server.turn.is_held and server.waiting == 0)
    web.should_exit = True
    thread.join()
