"""The door: who is asking, and what they may do. The one place that decides it.

As JupyterLab has it: a token in the address that is opened (random at each start), or a password; after it a
signed cookie. Every address is behind it: pages, figures, static files, downloads and Gradio's own routes.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote

from starlette.datastructures import MutableHeaders

from hydralora.errors import UserError
from jobs.http import App, Message, Receive, Refused, Scope, Send, header, read_body
from jobs.visitor import on_behalf_of
from studio.web.sign_in import answer_page, clean_target, query_of, redirect, safe_target, sign_in_page

SIGN_IN, SIGN_OUT = "/ui/sign-in", "/ui/sign-out"
COOKIE_SECONDS = 30 * 24 * 3600
LEAST_PASSWORD = 8  # characters
MOST_SECRET = 1_024  # characters of a given password or token
FREE_TRIES = 5  # wrong ones, before the pause
PAUSE_SECONDS = 30.0  # doubled by each further wrong try
LONGEST_PAUSE = 900.0
MOST_ADDRESSES = 10_000  # whose wrong tries are remembered


@dataclass(frozen=True)
class Visitor:
    """Somebody who came through the door.

    Args:
        session: One browser, or one holder of the token; names who uploaded a file and whose turn it is.
        name: Who it is. There is one user today, the owner.
    """

    session: str
    name: str = "owner"

    def may(self, method: str, path: str) -> bool:
        """Whether this visitor may ask for this; the owner may everything."""
        return self.name == "owner"


class Tries:
    """Counts wrong tries by address and makes a guesser wait; nobody waits who is let in already."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def pause(self, address: str) -> float:
        """Seconds until this address may try again."""
        return max(0.0, self._wrong.get(address, (0, 0.0))[1] - self.clock())

    def fail(self, address: str) -> None:
        """Note a wrong try."""
        count = self._wrong.pop(address, (0, 0.0))[0] + 1
        over = count - FREE_TRIES
        pause = 0.0 if over < 0 else min(PAUSE_SECONDS * 2.0 ** min(over, 10), LONGEST_PAUSE)
        self._wrong[address] = (count, self.clock() + pause)
        while len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)

    def succeed(self, address: str) -> None:
        """Forget the wrong tries of an address."""
        self._wrong.pop(address, None)


class Door:
    """Knows the secret, signs cookies, and tells visitors from strangers.

    Args:
        secret: The token or password that opens; None leaves the door open (for this machine only).
        key_file: Where the key that signs cookies is kept, so that a restart signs nobody out.
        is_password: The secret was chosen by a person; cookies of an earlier password are not valid then.

    Raises:
        UserError: When the password is too short.
    """

    def __init__(self, secret: str | None, key_file: Path, *, is_password: bool = False) -> None:
        if is_password and secret is not None and len(secret) < LEAST_PASSWORD:
            raise UserError(
                f"The password has {len(secret)} characters; it needs at least {LEAST_PASSWORD}. Choose a longer one."
            )
        self.secret, self.is_password, self.tries = secret, is_password, Tries()
        key = _kept_key(key_file)
        self._key = hmac.digest(key, (secret or "").encode() if is_password else b"", "sha256")
        self.cookie = "hydra-" + hashlib.sha256(b"name" + key).hexdigest()[:8]

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked for anything."""
        return self.secret is None

    def visitor(self, scope: Scope) -> Visitor | None:
        """Who is asking, by cookie or by ``Authorization: Bearer <secret>``; None is a stranger."""
        session = self._session(scope)
        if session is not None:
            return Visitor(session)
        if self.is_open:
            return Visitor(secrets.token_hex(8))
        scheme, _, given = header(scope, "authorization").partition(" ")
        if scheme.lower() == "bearer" and self.admits(given, address_of(scope)):
            return Visitor("bearer")
        return None

    def admits(self, given: str, address: str) -> bool:
        """Whether this is the secret; wrong ones are counted.

        Raises:
            Refused: While this address has to wait.
        """
        pause = self.tries.pause(address)
        if pause > 0:
            raise Refused(
                429,
                f"Too many wrong tries. Wait {pause:.0f} seconds, then try again.",
                {"retry-after": f"{pause + 1:.0f}"},
            )
        right = self.secret is not None and len(given) <= MOST_SECRET and _same(given, self.secret)
        (self.tries.succeed if right else self.tries.fail)(address)
        return right

    def sign(self, session: str) -> str:
        """The cookie of a session: its name, when it was given, and a signature over both."""
        claim = f"{session}.{int(time.time())}"
        return f"{claim}.{self._signature(claim)}"

    def _signature(self, claim: str) -> str:
        return hmac.new(self._key, claim.encode(), "sha256").hexdigest()

    def _session(self, scope: Scope) -> str | None:
        """The session of a valid cookie."""
        claim, _, signature = cookie_value(scope, self.cookie).rpartition(".")
        session, _, given_at = claim.partition(".")
        if not claim or not hmac.compare_digest(signature.encode(), self._signature(claim).encode()):
            return None
        return session if 0 <= time.time() - int(given_at) + 60 < COOKIE_SECONDS else None


def cookie_value(scope: Scope, name: str) -> str:
    """The value of a cookie as it was sent; empty where there is none.

    Ours needs no quotes. Python's own reader of cookies takes quotes off in a time that grows by the square of what a
    stranger sends (CVE-2024-7592), and is therefore not asked.
    """
    parts = (part.strip().partition("=") for part in header(scope, "cookie").split(";"))
    return next((value for key, _, value in parts if key == name), "")


def _same(given: str, secret: str) -> bool:
    """Compared in a time that tells nothing of the secret, its length included."""
    return hmac.compare_digest(
        hashlib.sha256(given.encode("utf-8", "surrogatepass")).digest(), hashlib.sha256(secret.encode()).digest()
    )


def _kept_key(path: Path) -> bytes:
    """The key of this home, made at its first start; readable by its owner only."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    return path.read_bytes()


def address_of(scope: Scope) -> str:
    """The network address that a request came from; of IPv6 its /64, as whoever has one address there has all."""
    peer = str((scope.get("client") or ("unknown",))[0])
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:  # a Unix socket
        return peer
    if address.version == 4 or address.is_loopback:
        return peer
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address), 64), strict=False))


class DoorMiddleware:
    """Lets visitors through, and shows strangers the way in."""

    def __init__(self, app: App, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            await self._admit(scope, receive, send)
        except Refused as refusal:
            await refusal.answer(send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in (SIGN_IN, SIGN_OUT):
            await self._sign(scope, receive, send)
            return
        token = query_of(scope).get("token") if scope["method"] == "GET" else None
        if token is not None and not self.door.is_open:
            await self._follow_token(scope, send, token)
            return
        visitor = self.door.visitor(scope)
        if visitor is None:
            await self._turn_away(scope, send)
            return
        if not visitor.may(scope["method"], scope["path"]):
            raise Refused(403, "You may not do this.")
        scope.setdefault("state", {})["visitor"] = visitor
        keeping = self._keeping(scope, visitor, send)
        scope["headers"] = [item for item in scope["headers"] if item[0] != b"cookie"]  # nothing inside asks for one
        with on_behalf_of(visitor.session):
            await self.app(scope, receive, keeping)

    def _keeping(self, scope: Scope, visitor: Visitor, send: Send) -> Send:
        """``send`` that gives an open door's visitor a cookie, so that the next request is known to be theirs."""
        if not self.door.is_open or self.door._session(scope) is not None:
            return send

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("set-cookie", self._cookie(scope, self.door.sign(visitor.session)))
            await send(message)

        return with_cookie

    async def _follow_token(self, scope: Scope, send: Send, token: str) -> None:
        """A token in the address is changed into a cookie, and leaves the address."""
        target = clean_target(scope)
        if self.door.visitor(scope) is None and not self.door.admits(token, address_of(scope)):
            await answer_page(
                send, 401, sign_in_page(target, self.door.is_password, "The token in this address is wrong.")
            )
            return
        await self._welcome(scope, send, target)

    async def _turn_away(self, scope: Scope, send: Send) -> None:
        wants_page = scope["method"] in ("GET", "HEAD") and "text/html" in header(scope, "accept")
        if wants_page:
            await redirect(send, f"{SIGN_IN}?next={quote(clean_target(scope), safe='')}")
            return
        raise Refused(401, "Sign in first: open the address that the studio printed when it started.")

    async def _sign(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == SIGN_OUT:
            gone = self._cookie(scope, "", seconds=0)
            await redirect(send, SIGN_IN, [("set-cookie", gone)])
            return
        if scope["method"] in ("GET", "HEAD"):
            target = safe_target(query_of(scope).get("next", "/"))
            if self.door.visitor(scope) is not None:
                await redirect(send, target)
            else:
                await answer_page(send, 200, sign_in_page(target, self.door.is_password))
            return
        form = dict(parse_qsl((await read_body(scope, receive, 8_192)).decode("utf-8", "replace")))
        target = safe_target(form.get("next", "/"))
        try:
            right = self.door.admits(form.get("secret", ""), address_of(scope))
            problem = "" if right else f"This {'password' if self.door.is_password else 'token'} is wrong."
        except Refused as refusal:
            right, problem = False, refusal.sentence
        if right:
            await self._welcome(scope, send, target)
        else:
            await answer_page(send, 401, sign_in_page(target, self.door.is_password, problem))

    async def _welcome(self, scope: Scope, send: Send, target: str) -> None:
        session = self.door._session(scope) or secrets.token_hex(8)
        await redirect(send, target, [("set-cookie", self._cookie(scope, self.door.sign(session)))])

    def _cookie(self, scope: Scope, value: str, seconds: int = COOKIE_SECONDS) -> str:
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        return f"{self.door.cookie}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
