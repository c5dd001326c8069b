"""The one folder in which everything the studio keeps lives."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from hydralora.errors import UserError

HOME_VARIABLE = "HYDRA_STUDIO_HOME"
DATABASE_VARIABLE = "HYDRA_STUDIO_DATABASE"


class Home:
    """Paths by id under one private folder (mode 0700). Ids are integers, so no name is a path."""

    def __init__(self, root: Path | str | None = None) -> None:
        named = root or os.environ.get(HOME_VARIABLE) or user_data_path("hydra-studio")
        self.root = Path(named).expanduser().absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in ("corpora", "clusterings", "runs", "analyses", "jobs", "uploads", "server"):
                (self.root / name).mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(
                f"The folder {self.root} cannot be used ({error.strerror}). "
                f"Choose another with --home or {HOME_VARIABLE}."
            ) from error

    @property
    def database_url(self) -> str:
        """URL of the database: SQLite in this folder, or what the environment names."""
        return os.environ.get(DATABASE_VARIABLE) or f"sqlite:///{self.root / 'studio.db'}"

    def corpus(self, corpus_id: int) -> Path:
        """Folder of an imported corpus."""
        return self.root / "corpora" / str(int(corpus_id))

    def clustering(self, clustering_id: int) -> Path:
        """Folder of a clustering."""
        return self.root / "clusterings" / str(int(clustering_id))

    def run(self, run_id: int) -> Path:
        """Folder of a run: checkpoints and the finished adapter."""
        return self.root / "runs" / str(int(run_id))

    def analysis(self, analysis_id: int) -> Path:
        """Folder of an analysis' results."""
        return self.root / "analyses" / str(int(analysis_id))

    def job(self, job_id: int, attempt: int) -> Path:
        """Folder of one attempt at a job: spec, log, metrics, result."""
        return self.root / "jobs" / str(int(job_id)) / str(int(attempt))

    @property
    def uploads(self) -> Path:
        """Where uploaded files wait until they are imported."""
        return self.root / "uploads"

    @property
    def make_room(self) -> Path:
        """There while a training run needs the GPU; the model server then gives it back."""
        return self.root / "make-room"

    @property
    def server(self) -> Path:
        """Where the model server says how it is reached."""
        return self.root / "server"
