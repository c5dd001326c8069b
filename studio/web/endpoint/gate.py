"""The gate of the endpoint: what begins with ``/v1`` is let in by a key, and by nothing else.

Keys open nothing else either: a cookie, the studio's token and a password are for people, keys are for programs.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from hydralora.errors import UserError
from jobs.http import App, Receive, Refused, Scope, Send, header, read_body, replay
from jobs.store.store import Store
from jobs.visitor import on_behalf_of
from studio.endpoint import ROOT
from studio.web.door import Tries, address_of
from studio.web.endpoint.problems import Problem

OFF = "The endpoint of this studio is switched off. Start it with `python app.py --endpoint`, or use the page Endpoint."
MAKE_ONE = "Make one with `python -m studio keys create NAME`."


class EndpointGate:
    """Middleware that hands requests below ``/v1`` to the endpoint, and all others on.

    Whoever has a valid key never waits: keys are drawn at random and too long to be guessed, so a wrong one is a
    mistake or a guesser, and only wrong ones are slowed down.

    Args:
        app: What answers everything else; None answers 404.
        endpoint: What answers below ``/v1``.
        is_on: Whether the endpoint is switched on, asked at every request.
        needs_key: Whether a key is asked for.
    """

    def __init__(
        self, app: App | None, endpoint: App, store: Store, is_on: Callable[[], bool], *, needs_key: bool = True
    ) -> None:
        self.app, self.endpoint, self.store, self.is_on, self.needs_key = app, endpoint, store, is_on, needs_key
        self.tries = Tries()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_endpoint(scope["path"]):
            try:
                await self._admit(scope, receive, send)
            except (Problem, Refused, UserError) as refusal:
                await Problem.of(refusal).answer(send)
        elif self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await Problem(404, f"There is no such address. This endpoint answers below {ROOT}.").answer(send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        visitor = f"key-{await run_in_threadpool(self._find, scope)}"  # it reads, and now and then writes, the database
        body = await read_body(scope, receive)
        scope["headers"] = [item for item in scope["headers"] if item[0] not in (b"cookie", b"authorization")]
        with on_behalf_of(visitor):
            await self.endpoint(scope, replay(body, receive), send)

    def _find(self, scope: Scope) -> int:
        """Id of the key of a request, where the endpoint is on.

        Raises:
            Problem: Where it is off, or the key is refused.
        """
        if not self.is_on():
            raise Problem(404, OFF, "endpoint_off")
        return self._key(scope)

    def _key(self, scope: Scope) -> int:
        """Id of the key that a request carries; 0 where none is asked for.

        Raises:
            Problem: Where it is missing, wrong, or one of too many wrong ones.
        """
        if not self.needs_key:
            return 0
        scheme, _, given = header(scope, "authorization").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise Problem(401, f"This endpoint asks for a key: `Authorization: Bearer KEY`. {MAKE_ONE}", "missing_key")
        found = self.store.keys.find(given.strip())
        if found is not None:
            return found.id
        address = address_of(scope)
        pause = self.tries.pause(address)
        if pause > 0:
            raise Problem(
                429,
                f"Too many wrong keys. Wait {pause:.0f} seconds, then try again.",
                "too_many_tries",
                headers={"retry-after": f"{pause + 1:.0f}"},
            )
        self.tries.fail(address)
        raise Problem(401, f"This key is wrong, or was revoked. {MAKE_ONE}", "invalid_api_key")


def is_endpoint(path: str) -> bool:
    """Whether an address is one of the endpoint's."""
    return path == ROOT or path.startswith(f"{ROOT}/")
