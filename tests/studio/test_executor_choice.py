"""What carries training out is chosen by command, kept, and refused in one sentence where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studio.commands import Commands, start_app


@pytest.fixture
def studio(tmp_path: Path) -> Commands:
    return Commands(tmp_path / "home")


def test_a_choice_is_remembered_with_what_a_job_is_given(studio: Commands) -> None:
    assert studio.json("worker", "status")["executor"]["executor"] == "local"
    chosen = studio.json("worker", "use", "spawn", "--job-cpus", 4, "--slurm", "partition=gpu")["executor"]
    assert (chosen["executor"], chosen["cpus"], chosen["options"]) == ("spawn", 4, {"partition": "gpu"})
    assert studio.json("worker", "status")["executor"] == chosen


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ray", "--ray-address", "127.0.0.1:9"), "The Ray cluster at http://127.0.0.1:9 does not answer"),
        (("ray", "--ray-address", "http://["), "does not answer"),
        (("slurm", "--slurm", "partition"), "`--slurm partition`: write --slurm NAME=VALUE"),
        (("spawn", "--job-cpus", 0), "A job needs at least one processor"),
        (("moon",), "There is no executor called 'moon'"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_one_sentence_and_nothing_is_changed(
    studio: Commands, words: tuple[object, ...], sentence: str
) -> None:
    done = studio("worker", "use", *words)
    assert done.returncode == 2 and sentence in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert studio.json("worker", "status")["executor"]["executor"] == "local"


@pytest.mark.parametrize(("executor", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_package_that_is_missing_is_named_with_the_command_that_installs_it(
    studio: Commands, executor: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.runner.choice.find_spec", lambda name: None)
    done = studio("worker", "use", executor)
    assert done.returncode == 2 and f"needs the package {package}" in done.stderr
    assert f"pip install 'hydra-studio[{executor}]'" in done.stderr


def test_the_studio_does_not_open_with_a_cluster_that_does_not_answer(studio: Commands) -> None:
    app = start_app(studio.home, "--port", "0", "--executor", "ray", "--ray-address", "127.0.0.1:9")
    _, said = app.communicate(timeout=60)
    assert app.returncode == 2 and "does not answer" in said and len(said.strip().splitlines()) == 1
    assert studio.json("worker", "status")["executor"]["executor"] == "local"
