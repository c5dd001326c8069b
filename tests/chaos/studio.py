"""The same with the whole studio: its web process, a model that trains, attempts forked from what has loaded torch."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from jobs.store.records import Job
from jobs.store.status import JobStatus
from tests.chaos.suite import Suite
from tests.chaos.world import PROJECT, World, until
from tests.hydralora.conftest import easy_rows, make_llama, make_tokenizer, write_lines

TRAIN = {"max_steps": 24, "save_every": 6, "eval_every": 12, "batch_size": 4, "max_length": 64}
ADAPTER = {"num_experts": 3, "r": 4}
IMPORT_SECONDS = 180.0


class StudioWorld(World):
    """A home in which a small model is trained on a small corpus, with an open studio."""

    def __init__(self, root: Path, environment: dict[str, str] | None = None) -> None:
        super().__init__(root, {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **(environment or {})})
        self.base = root.parent / "base"
        tokenizer = make_tokenizer()
        make_llama(len(tokenizer), positions=256).save_pretrained(self.base)
        tokenizer.save_pretrained(self.base)
        self.store.bases.add(self.base)
        self._corpus: int | None = None

    def start_web(self) -> subprocess.Popen[bytes]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        command = [sys.executable, str(PROJECT / "app.py"), "--home", str(self.home.root), "--port", port]
        with (self.home.root / "web.log").open("ab") as log:
            return subprocess.Popen(command, cwd=PROJECT, env=self.environment, stdout=log, stderr=log)

    def corpus(self) -> int:
        """The id of the corpus, which is imported when it is first asked for."""
        if self._corpus is None:
            file = write_lines(self.base.parent / "easy.jsonl", easy_rows())
            made = self.store.corpora.add("easy", [file])
            assert made.job is not None
            ended = until(lambda: self._ended(made.job), IMPORT_SECONDS, "the corpus was not imported")
            assert ended.status == JobStatus.SUCCEEDED, ended.error
            self._corpus = made.id
        return self._corpus

    def _ended(self, job: Job) -> Job | None:
        now = self.store.queue.get(job.id)
        return now if now.is_finished else None

    def config(self, seed: int) -> dict[str, Any]:
        """Settings of the training."""
        train = {**TRAIN, "seed": seed}
        return {"base": str(self.base), "method": "hydralora", "adapter": {**ADAPTER}, "train": train}

    def begin(self, seed: int, **payload: Any) -> Job:
        job = self.store.runs.start(self.corpus(), self.config(seed)).job
        assert job is not None
        return job


class StudioSuite(Suite):
    """Runs of a real training."""

    world_of = StudioWorld
    disk = "size=512m"
    end_seconds = 300.0
    training = 20.0
