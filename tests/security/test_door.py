"""The door: nobody comes in without the token or the password, by any address."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from hydralora.errors import UserError
from jobs.home import Home
from studio.cli import serve as command_line
from studio.web.address import Address, running_address
from studio.web.door import FREE_TRIES, PAUSE_SECONDS, Door, DoorMiddleware, Tries, address_of, cookie_value
from studio.web.server import create_app
from tests.security.conftest import ADDRESS, Served, visit

PASSWORD = "a password that is long"
HTML = {"Accept": "text/html"}


def addresses(studio: FastAPI) -> list[tuple[str, str]]:
    """Every method and address of the studio and of Gradio below it, with every variable part filled in."""
    found = set()
    for route in all_routes(studio.routes):
        for method in {"GET", "POST", "DELETE"} & (getattr(route, "methods", None) or set()):
            found.add((method, re.sub(r"\{[^}]*\}", "1", route.path)))
    return sorted(found)


def all_routes(routes: list[Any]) -> Iterator[Any]:
    """Routes of an application, of the routers it includes, and of what is mounted below it."""
    for route in routes:
        below = getattr(route, "original_router", None) or getattr(route, "app", None)
        if hasattr(below, "routes"):
            yield from all_routes(below.routes)
        else:
            yield route


def options(*words: str) -> argparse.Namespace:
    return command_line.parse_options(list(words))


def test_no_address_answers_a_stranger(studio: FastAPI, stranger: TestClient) -> None:
    all_of_them = [*addresses(studio), ("GET", "/ui/static/studio.js"), ("GET", "/assets/x.js"), ("GET", "/runs/1")]
    assert len(all_of_them) > 60
    answered = {}
    for method, path in all_of_them:
        reply = stranger.request(method, path, follow_redirects=False)
        if reply.status_code != 401 or "Sign in first" not in reply.text:
            answered[method, path] = reply.status_code
    assert answered == {}


@pytest.mark.parametrize("path", ["/", "/runs/1", "/inspect?run=3&layer=L1", "/ui/static/studio.js"])
def test_a_stranger_who_wants_a_page_is_led_to_the_sign_in_page_and_back(
    studio: FastAPI, stranger: TestClient, path: str
) -> None:
    reply = stranger.get(path, headers=HTML)
    assert reply.status_code == 200 and "Sign in" in reply.text
    form = {"secret": studio.state.door.secret, "next": reply.url.params["next"]}
    back = stranger.post("/ui/sign-in", data=form, follow_redirects=False)
    assert (back.status_code, back.headers["location"]) == (303, path.replace("&", "&"))


def test_the_token_in_an_address_becomes_a_cookie_and_leaves_the_address(studio: FastAPI, stranger: TestClient) -> None:
    reply = stranger.get(f"/run?run=3&token={studio.state.door.secret}", follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (303, "/run?run=3")
    assert "HttpOnly" in reply.headers["set-cookie"] and "SameSite=Lax" in reply.headers["set-cookie"]
    assert stranger.get("/ui/health").status_code == 200


def test_a_cookie_over_https_never_travels_in_clear(studio: FastAPI) -> None:
    client = TestClient(studio, base_url="https://127.0.0.1")
    reply = client.get(f"/?token={studio.state.door.secret}", follow_redirects=False)
    assert "Secure" in reply.headers["set-cookie"]


@pytest.mark.parametrize(
    "given", ["", "wrong", "x" * 5_000, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")]
)
def test_a_wrong_token_opens_nothing(home: Home, given: str) -> None:
    made = create_app(home, keep_worker=False)
    client = TestClient(made, base_url=ADDRESS)
    assert client.get("/ui/health", params={"token": given}).status_code == 401
    assert client.post("/ui/sign-in", data={"secret": given}).status_code == 401
    assert client.get("/ui/health", headers={"Authorization": f"Bearer {given}".encode()}).status_code == 401
    assert "set-cookie" not in client.get("/ui/health").headers


def test_five_wrong_tries_make_even_the_right_one_wait(home: Home) -> None:
    made = create_app(home, keep_worker=False)
    client = TestClient(made, base_url=ADDRESS)
    for _ in range(FREE_TRIES):
        assert client.get("/ui/health", headers={"Authorization": "Bearer wrong"}).status_code == 401
    right = {"Authorization": f"Bearer {made.state.door.secret}"}
    reply = client.get("/ui/health", headers=right)
    assert reply.status_code == 429 and int(reply.headers["retry-after"]) > 0
    assert client.post("/ui/sign-in", data={"secret": made.state.door.secret}).status_code == 401


def test_whoever_is_in_already_does_not_wait(home: Home) -> None:
    made = create_app(home, keep_worker=False)
    inside = visit(made)
    guesser = TestClient(made, base_url=ADDRESS)
    for _ in range(FREE_TRIES + 1):
        guesser.get("/ui/health", headers={"Authorization": "Bearer wrong"})
    assert inside.get("/ui/health").status_code == 200


def test_the_pause_ends_and_grows_with_each_further_wrong_try() -> None:
    now = [100.0]
    tries = Tries(clock=lambda: now[0])
    for _ in range(FREE_TRIES):
        tries.fail("10.0.0.1")
    assert tries.pause("10.0.0.1") == PAUSE_SECONDS and tries.pause("10.0.0.2") == 0
    now[0] += PAUSE_SECONDS
    assert tries.pause("10.0.0.1") == 0
    tries.fail("10.0.0.1")
    assert tries.pause("10.0.0.1") == 2 * PAUSE_SECONDS


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c,  # the last of its signature is no hexadecimal digit
        lambda c: "x" + c,
        lambda c: c.split(".")[0] + ".9999999999." + c.split(".")[2],
        lambda c: "..",
        lambda c: "",
    ],
)  # type: ignore[no-untyped-def]
def test_a_forged_cookie_opens_nothing(studio: FastAPI, stranger: TestClient, change) -> None:
    door = studio.state.door
    forged = change(door.sign("somebody")[:-1] + "g")
    assert stranger.get("/ui/health", headers={"Cookie": f"{door.cookie}={forged}"}).status_code == 401


@pytest.mark.parametrize(
    "cookie",
    ['a="' + '\\"' * 30_000 + '"', 'a="' + "\\101" * 15_000, ";" * 60_000, "a=b;" * 15_000, "=", "a", '"', "\xff"],
)
def test_the_cookies_of_a_stranger_are_not_unquoted(studio: FastAPI, stranger: TestClient, cookie: str) -> None:
    for name in ("other", studio.state.door.cookie):
        headers = {"Cookie": f"{name}={cookie}".encode("latin-1")}
        assert stranger.get("/ui/health", headers=headers).status_code == 401
    scope = {"headers": [(b"cookie", f"b=c; name={cookie}".encode("latin-1"))]}
    assert cookie_value(scope, "name") == cookie.partition(";")[0]  # as it was sent: taking quotes off takes seconds


def test_a_cookie_is_found_among_others_and_goes_no_further_inside(studio: FastAPI, visitor: TestClient) -> None:
    mine = f"{studio.state.door.cookie}={visitor.cookies[studio.state.door.cookie]}"
    fresh = TestClient(studio, base_url=ADDRESS)
    assert fresh.get("/ui/health", headers={"Cookie": f'a="b;c"; {mine} ;d=e'}).status_code == 200

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        assert all(name != b"cookie" for name, _ in scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    behind = TestClient(DoorMiddleware(inside, studio.state.door), base_url=ADDRESS)
    assert behind.get("/", headers={"Cookie": mine}).status_code == 204


@pytest.mark.parametrize(
    "origin", ["http://[", "http://[::1", "http://a]b", "x", "null", "//", "http://127.0.0.1@evil", "\xff"]
)
def test_an_odd_origin_is_another_site(visitor: TestClient, stranger: TestClient, origin: str) -> None:
    for client in (visitor, stranger):
        reply = client.post("/ui/chat/conversations", headers={"Origin": origin.encode("latin-1")})
        assert (reply.status_code, reply.json()) == (403, {"detail": "Requests from other sites are refused."})


def test_an_old_cookie_opens_nothing(studio: FastAPI, stranger: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    door = studio.state.door
    old = door.sign("somebody")
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 31 * 24 * 3600)
    assert stranger.get("/ui/health", headers={"Cookie": f"{door.cookie}={old}"}).status_code == 401


def test_a_restart_signs_nobody_out(home: Home, tmp_path: Path) -> None:
    first = Door("one token", tmp_path / "key")
    second = Door("another token", tmp_path / "key")
    assert (first.cookie, second._session(_with(second, first.sign("me")))) == (second.cookie, "me")


def test_another_password_signs_everybody_out(tmp_path: Path) -> None:
    first = Door(PASSWORD, tmp_path / "key", is_password=True)
    second = Door(PASSWORD + "!", tmp_path / "key", is_password=True)
    assert second._session(_with(second, first.sign("me"))) is None


def _with(door: Door, cookie: str) -> dict[str, object]:
    return {"headers": [(b"cookie", f"{door.cookie}={cookie}".encode())]}


def test_the_key_of_the_cookies_is_its_owners_only(tmp_path: Path) -> None:
    Door("token", tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil",
        "javascript:alert(1)",
        "/x\r\nX-Injected: yes",
        "",
        "/\t/evil",
    ],
)
def test_signing_in_never_leads_to_another_site(studio: FastAPI, stranger: TestClient, target: str) -> None:
    form = {"secret": studio.state.door.secret, "next": target}
    reply = stranger.post("/ui/sign-in", data=form, follow_redirects=False)
    assert reply.headers["location"] == "/" and "x-injected" not in reply.headers


def test_nothing_of_an_address_runs_in_the_sign_in_page(stranger: TestClient) -> None:
    page = stranger.get("/ui/sign-in", params={"next": '/"><script>alert(1)</script>'}).text
    assert "<script" not in page


def test_signing_out_closes_the_door_behind_one(visitor: TestClient) -> None:
    visitor.post("/ui/sign-out")
    assert visitor.get("/ui/health").status_code == 401


def test_a_web_socket_is_closed(visitor: TestClient, stranger: TestClient) -> None:
    for client in (visitor, stranger):
        with (
            pytest.raises(WebSocketDisconnect) as ended,
            client.websocket_connect("/gradio_api/x", headers={"Host": "127.0.0.1"}),
        ):
            pass
        assert ended.value.code == 1008


# The command line


@pytest.mark.parametrize(
    "words",
    [
        ("--host", "0.0.0.0"),
        ("--host", "0.0.0.0", "--allow-network"),
        ("--host", "0.0.0.0", "--allow-network", "--no-token"),
        ("--no-token", "--password", PASSWORD),
        ("--host", "gpu-box.lan", "--no-token"),
    ],
)
def test_a_door_that_would_stand_open_to_others_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"\.$"):
        command_line.choose_secret(options(*words))


def test_the_network_is_let_in_with_a_password() -> None:
    words = ("--host", "0.0.0.0", "--allow-network", "--password", PASSWORD)
    assert command_line.choose_secret(options(*words)) == (PASSWORD, True)


def test_a_short_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 8"):
        Door("1234567", tmp_path / "key", is_password=True)


def test_each_start_has_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(command_line.TOKEN_VARIABLE, raising=False)
    found = {command_line.choose_secret(options())[0] for _ in range(3)}
    assert len(found) == 3 and all(token and len(token) >= 32 for token in found)


def test_without_a_token_whoever_is_on_this_machine_comes_in(tmp_path: Path) -> None:
    made = create_app(Home(tmp_path / "home"), keep_worker=False, door=Door(None, tmp_path / "key"))
    client = TestClient(made, base_url=ADDRESS)
    first = client.get("/ui/health")
    assert first.status_code == 200 and "set-cookie" in first.headers
    assert "set-cookie" not in client.get("/ui/health").headers  # the same visitor now


@pytest.mark.parametrize(
    ("peers", "count"),
    [
        (["2001:db8::1", "2001:db8::2", "2001:db8::ffff:1"], 1),
        (["2001:db8::1", "2001:db8:0:1::1"], 2),
        (["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1"], 2),
        (["fe80::1%eth0", "fe80::2%eth1"], 1),
        (["::1", "127.0.0.1", "unix"], 3),
    ],
)
def test_wrong_tries_are_counted_for_whoever_has_many_addresses(peers: list[str], count: int) -> None:
    assert len({address_of({"client": (peer, 1)}) for peer in peers}) == count


@pytest.mark.parametrize("name", ["*", "", "a*b", "*.*", "http://a", "a/b", "a b", "a:80", "\ud800", "x" * 300, "[::1"])
def test_a_host_name_that_is_none_or_lets_all_in_is_refused_at_the_start(name: str) -> None:
    with pytest.raises(UserError, match="write a name as it stands in the address") as error:
        command_line.allowed_hosts("127.0.0.1", ["gpu-box.lan", name])
    assert str(error.value).isprintable() and len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["gpu-box.lan", "*.example.org", "10.0.0.5", "[fe80::1]", "gpu_box"])
def test_a_host_name_is_a_name_an_address_or_all_below_a_name(name: str) -> None:
    assert command_line.allowed_hosts("127.0.0.1", [name])[-1] == name


def test_on_the_network_only_named_hosts_are_answered() -> None:
    assert command_line.allowed_hosts("10.1.2.3", ["gpu-box.lan"]) == [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "10.1.2.3",
        "gpu-box.lan",
    ]
    assert "*" not in command_line.allowed_hosts("0.0.0.0", [])


def test_a_forwarded_address_of_nobody_is_not_believed(tmp_path: Path) -> None:
    made = create_app(Home(tmp_path / "home"), keep_worker=False)
    with Served(made) as served:
        statuses = [
            httpx.get(
                f"http://127.0.0.1:{served.port}/ui/health",
                headers={"Authorization": "Bearer wrong", "X-Forwarded-For": f"10.0.0.{number}"},
            ).status_code
            for number in range(FREE_TRIES + 1)
        ]
    assert statuses == [401] * FREE_TRIES + [429]


def test_a_named_proxy_is_believed(tmp_path: Path) -> None:
    made = create_app(Home(tmp_path / "home"), keep_worker=False)
    with Served(made, command_line.server_config(made, ["127.0.0.1"])) as served:
        statuses = [
            httpx.get(
                f"http://127.0.0.1:{served.port}/ui/health",
                headers={"Authorization": "Bearer wrong", "X-Forwarded-For": f"10.0.0.{number}"},
            ).status_code
            for number in range(FREE_TRIES + 1)
        ]
    assert statuses == [401] * (FREE_TRIES + 1)


# The address for the command line


def test_the_address_of_a_running_studio_can_be_asked_for(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    address = Address.of("127.0.0.1", 7860, Door("the token", tmp_path / "key"))
    with address.kept(home):
        assert running_address(home) == Address("http://127.0.0.1:7860", "the token", os.getpid())
        assert (home.server / "studio.json").stat().st_mode & 0o077 == 0
    with pytest.raises(UserError, match="No studio runs"):
        running_address(home)


def test_a_password_is_never_kept(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with Address.of("127.0.0.1", 7860, Door(PASSWORD, tmp_path / "key", is_password=True)).kept(home):
        assert PASSWORD not in (home.server / "studio.json").read_text()
