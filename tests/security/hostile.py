"""Values that no form sends, and a studio with something of every kind in it to send them to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from hydralora.corpus.query import Query
from jobs.home import Home
from jobs.runner.service import hold_lock
from jobs.runner.worker import SLOTS
from jobs.store.status import JobStatus
from jobs.store.store import Store
from tests.studio.stored import Stored, routing_result, weights_result

NUMBERS = [
    -1,
    0,
    1,
    2,
    2**31,
    2**53 + 1,
    2**63,
    10**30,
    -(10**30),
    0.5,
    -0.0,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
]
TEXTS = [
    "",
    " ",
    "1",
    "-1",
    "9" * 25,
    "9" * 5_000,
    "1e308",
    "NaN",
    "Infinity",
    "nan",
    "٣",
    "0x10",
    "\ud800",
    "a\udfffb",
    "\x00",
    "\x1b[2J\x9b31m",
    "‮txt",
    "a\r\nb",
    "../../etc/passwd",
    "/etc/passwd",
    "{}",
    "[]",
    "null",
    "=1+1",
    "x" * 300_000,
    "<img src=x onerror=alert(1)>",
    "__class__",
    "%s%n",
]
SCALARS = st.sampled_from([None, True, False, *NUMBERS, *TEXTS])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TEXTS[:20]), inner, max_size=3),
    max_leaves=6,
)


def budget(examples: int) -> settings:
    """The same examples every time, as many as fit a minute; how long one takes says nothing."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def fill(home: Home) -> Store:
    """A corpus with clusters, edits and a selection, a finished run with steps and looks, and a chat, each
    with id 1."""
    store = Store(home)
    stored = Stored(store)
    corpus = stored.corpus(rows=[{"prompt": f"question {i}", "answer": "a", "label": "b"} for i in range(8)])
    stored.clustering(corpus)
    store.selections.add(corpus.id, "Some", Query(search="question"))
    store.edits.add(corpus.id, 0, "question 0", "another answer")
    store.cluster_edits.rename(corpus.id, 1, "Boats")
    store.exclusions.add(corpus.id, [7], "it is wrong")
    run = store.runs.start(corpus.id, {"base": "starter", "adapter": {"num_experts": 2}, "train": {"max_steps": 4}})
    held = store.attempts.claim("tests", "here", "heavy")
    assert held is not None and run.job is not None and held.id == run.job.id
    stored.steps(
        store.runs.get(run.id), [{"loss": 2.0, "gates": {"layer": [0.5, 0.5]}}, {"loss": 1.0, "eval_loss": 1.5}]
    )
    store.attempts.finish(
        held, JobStatus.SUCCEEDED, time.time(), result={"trainable": 10, "total": 20, "seconds": 1.0, "steps": 4}
    )
    stored.adapter(run, ["adapter_config.json", "adapter_model.safetensors"])
    stored.analysis(store.runs.get(run.id), "routing", routing_result())
    stored.analysis(store.runs.get(run.id), "weights", weights_result())
    conversation = store.chats.create("A chat")
    question = store.chats.ask(conversation.id, "What?")
    store.chats.write_answer(
        store.chats.begin_answer(question, run.id, {}).id,
        text="That.",
        tokens=[["That.", [[0.5, 0.5]], 5]],
        state="done",
    )
    return store


@contextmanager
def refusing_worker(store: Store) -> Iterator[None]:
    """Nothing is computed: no worker can start beside us, and every job that is queued fails at once."""
    lock, ended = hold_lock(store.home), threading.Event()

    def refuse() -> None:
        while not ended.wait(0.02):
            for lane in SLOTS:
                while (job := store.attempts.claim("tests", "here", lane)) is not None:
                    store.attempts.finish(
                        job, JobStatus.FAILED, time.time(), error="Nothing is computed here.", error_kind="user"
                    )

    thread = threading.Thread(target=refuse, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if lock is not None:
            lock.close()
