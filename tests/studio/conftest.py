"""A home folder with a store, and the web application over it without a worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from jobs.home import Home
from jobs.store.store import Store
from studio.web.server import create_app
from tests.studio.stored import Stored

ADDRESS = "http://127.0.0.1"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """One folder for the tests of a file; every test makes its own rows in it, and no file sees those of another."""
    return Home(tmp_path_factory.mktemp("studio") / "home")


@pytest.fixture(scope="module")
def store(home: Home) -> Store:
    return Store(home)


@pytest.fixture
def stored(store: Store) -> Iterator[Stored]:
    """Puts finished corpora, runs and analyses into the store; leaves no job waiting."""
    filled = Stored(store)
    yield filled
    filled.end_all()


@pytest.fixture(scope="module")
def client(home: Home) -> Iterator[TestClient]:
    """A browser without scripts; errors of the application reach it as status 500."""
    app = create_app(home, keep_worker=False)
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False, headers=bearer(app)) as opened:
        yield opened


def bearer(app: FastAPI) -> dict[str, str]:
    """What opens the door of an application for a script."""
    return {"Authorization": f"Bearer {app.state.door.secret}"}


def wait_for(look: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true value of ``look()``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing came within {seconds:.0f} s")
