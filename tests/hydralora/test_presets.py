"""Minutes into steps, and the time a run is said to take."""

from __future__ import annotations

import pytest

from hydralora.config import TrainConfig, parse_config
from hydralora.corpus.imports import import_corpus
from hydralora.errors import StoppedError, TrainingError
from hydralora.progress import Progress
from hydralora.training.presets import LEAST_BATCH, PRESETS, Speed, preset_settings, settings_for, speed_of, stored
from hydralora.training.speed import measure_speed
from tests.hydralora.conftest import easy_rows, write_lines

FAST = Speed(start=5.0, step=0.08, evaluation=0.5, batch=16)
SLOW = Speed(start=30.0, step=6.0, evaluation=4.0, batch=16)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("speed", [None, FAST, SLOW])
def test_a_preset_gives_valid_settings_at_any_speed(name, speed):
    values = preset_settings(name, speed)
    assert TrainConfig(**values).max_steps == values["max_steps"]


@pytest.mark.parametrize("speed", [FAST, SLOW])
@pytest.mark.parametrize("minutes", [3, 8, 25])
def test_the_steps_of_a_preset_fill_its_minutes(speed, minutes):
    values = settings_for(60 * minutes, speed)
    told = speed.seconds(values["max_steps"], values["batch_size"], values["max_steps"] // values["eval_every"])
    assert 0.85 * 60 * minutes <= told <= 1.05 * 60 * minutes


def test_a_slow_machine_gets_a_smaller_batch_rather_than_a_handful_of_steps():
    values = settings_for(180, SLOW)
    assert LEAST_BATCH == values["batch_size"] < SLOW.batch and values["max_steps"] >= 60


def test_a_large_base_has_more_minutes():
    small, large = (preset_settings("Quick", SLOW, parameters=count) for count in (10**6, 10**8))
    assert large["max_steps"] > 1.5 * small["max_steps"] * small["batch_size"] / large["batch_size"]
    assert preset_settings("Quick", parameters=10**8)["max_steps"] == PRESETS["Quick"].large_steps


@pytest.mark.parametrize(("at_once", "parts"), [(16, 1), (4, 4), (1, 16), (64, 1)])
def test_a_step_that_is_read_in_parts_is_the_same_step(at_once, parts):
    whole, cut = settings_for(600, FAST), settings_for(600, FAST, at_once=at_once)
    assert cut["batch_size"] * cut["accumulation"] == whole["batch_size"] * whole["accumulation"] == 16
    assert cut["accumulation"] == parts and cut["max_steps"] == whole["max_steps"]


def test_a_small_corpus_is_not_repeated_for_ever():
    assert settings_for(1500, FAST, examples=1_000)["max_steps"] <= 30 * 1_000 // 16


def test_a_machine_too_slow_for_the_time_still_takes_some_steps():
    assert settings_for(10, SLOW)["max_steps"] == 20


def test_a_longer_run_takes_longer():
    assert FAST.seconds(200, 16, 0) > FAST.seconds(100, 16, 0)
    assert FAST.seconds(100, 32, 0) > FAST.seconds(100, 16, 0)


def test_a_speed_is_the_same_after_storing():
    assert speed_of({**stored(FAST), "peak_bytes": 7}) == FAST


def test_a_measured_speed_leaves_nothing_behind(base_folder, tmp_path):
    import_corpus([write_lines(tmp_path / "easy.jsonl", easy_rows())], tmp_path / "corpus")
    config = parse_config({"base": str(base_folder), "train": {"batch_size": 4, "accumulation": 2, "max_length": 96}})
    before = sorted(path.name for path in tmp_path.iterdir())
    speed = measure_speed(config, tmp_path / "corpus", spent=2.0)
    assert speed.step > 0 and speed.start > 2.0 and speed.evaluation > 0 and speed.batch == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_measurement_can_be_stopped(base_folder, tmp_path):
    import_corpus([write_lines(tmp_path / "easy.jsonl", easy_rows())], tmp_path / "corpus")
    config = parse_config({"base": str(base_folder), "train": {"batch_size": 4, "max_length": 96}})
    with pytest.raises(StoppedError):
        measure_speed(config, tmp_path / "corpus", progress=Progress(should_stop=lambda: True))


def test_a_corpus_that_fits_no_model_is_refused_as_the_run_would_be(base_folder, tmp_path):
    import_corpus([write_lines(tmp_path / "easy.jsonl", easy_rows())], tmp_path / "corpus")
    config = parse_config({"base": str(base_folder), "train": {"max_length": 8}})
    with pytest.raises(TrainingError, match="No example fits"):
        measure_speed(config, tmp_path / "corpus")
