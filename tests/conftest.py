"""Tests run side by side, a file at a time; those that train and drive a browser take turns.

They run on the CPU, also where there is a GPU; ``HYDRA_TEST_DEVICE=cuda`` runs those of the library on it.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

pytest_plugins = ["tests.postgresql", "tests.new_homes"]

if os.environ.get("HYDRA_TEST_DEVICE", "cpu") == "cpu":  # before torch looks; for the processes that tests start too
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any file of tests brings transformers, which reads it then


# These train, stream and click, so only one of them at a time has the machine; others that drive a browser just read.
ALONE = {f"tests/browser/test_{name}.py" for name in ("thread", "tour", "chat", "pages", "real_base", "newcomer")}


# Whole matrices of methods, trainers, architectures and processes, and what takes longest of what others hold too:
# files, tests of a file, and single cases. `make test-long` runs them.
LONG = {
    "tests/benchmarks/test_bench_gpu.py",
    "tests/browser/test_clusters.py",
    "tests/browser/test_extremes.py",
    "tests/browser/test_newcomer.py",
    "tests/browser/test_real_base.py",
    "tests/browser/test_tour.py",
    "tests/hydralora/test_distributed.py",
    "tests/hydralora/test_any_trainer.py",
    "tests/hydralora/test_llamacpp.py",
    "tests/hydralora/test_stacked.py",
    "tests/hydralora/test_blocks.py",
    "tests/jobs/test_out_of_memory.py",
    "tests/jobs/test_ownership.py",
    "tests/browser/test_accessible.py::test_no_tab_of_a_run_breaks_a_rule",
    "tests/browser/test_accessible.py::test_who_wants_no_motion_gets_none",
    "tests/browser/test_accessible.py::test_a_page_breaks_no_rule[compare answers]",
    "tests/browser/test_accessible.py::test_a_page_breaks_no_rule[endpoint with keys]",
    "tests/browser/test_accessible.py::test_a_page_breaks_no_rule[runs]",
    "tests/browser/test_accessible.py::test_a_phone_shows_the_whole_width[compare]",
    "tests/browser/test_accessible.py::test_focus_is_seen_at_every_stop[light-new run]",
    "tests/browser/test_pages.py::test_the_two_ways_to_begin_are_reached_by_keyboard_alone",
    "tests/browser/test_thread.py::test_two_tabs_show_the_same_run",
    "tests/browser/test_thread.py::test_a_conversation_is_there_again_after_a_reload",
    "tests/changes/test_changes.py::test_a_training_setting",
    "tests/hydralora/test_maps.py::test_the_smallest_map_can_be_drawn[umap]",
    "tests/hydralora/test_tuner.py::test_what_the_model_card_says_is_true",
    "tests/jobs/test_tasks.py::test_a_run_learns_preferences_and_is_looked_into",
    "tests/jobs/test_tasks.py::test_its_clusters_are_broken_down_and_their_adapters_compared",
    "tests/jobs/test_tour.py::test_the_real_tour_arrives_with_nobody_looking",
    "tests/jobs/test_worker.py::test_stop_ends_a_deaf_job_after_the_grace",
    "tests/security/test_files.py::test_a_file_that_would_become_too_much_is_one_sentence_in_little_memory[bomb.csv.gz]",
    "tests/security/test_fuzz.py::test_no_command_ends_in_a_traceback",
    "tests/security/test_fuzz.py::test_no_event_of_a_page_breaks",
    "tests/security/test_limits.py::test_a_job_that_is_killed_for_its_time_leaves_nothing_half_stored_and_no_process",
    "tests/security/test_payloads.py::test_file_data_is_refused_in_every_field_of_every_event",
    "tests/studio/test_app.py::test_a_second_start_on_the_same_folder_finds_what_was_kept",
    "tests/studio/test_cli.py::test_a_check_names_what_a_base_would_cut_and_what_can_be_left_out",
    "tests/studio/test_cli.py::test_a_run_is_inspected_on_another_corpus",
    "tests/studio/test_serve.py::test_the_studio_is_started_with_its_endpoint_and_remembers_it",
    "tests/browser/test_accessible.py::test_curves_are_smoothed_and_put_on_a_log_scale_by_the_keyboard_and_stay_so",
    "tests/browser/test_accessible.py::test_nothing_in_a_figure_lies_over_another_thing_at_any_width",
    "tests/browser/test_chat.py::test_two_people_who_chat_at_once_each_get_their_own_answer",
    "tests/chaos/test_chaos.py::test_a_training_ends_as_if_nothing_had_happened[job and worker, commit, 0.10 s apart]",
    "tests/chaos/test_chaos.py::test_a_training_ends_as_if_nothing_had_happened[web and reaper, save, 0.00 s apart]",
    "tests/hydralora/test_tuner.py::test_the_method_is_registered_whichever_module_is_imported_first",
    "tests/jobs/test_engines.py",
    "tests/jobs/test_queue.py::test_eight_processes_never_claim_the_same_job[postgresql]",
    "tests/jobs/test_tasks.py::test_finished_loras_are_mixed",
    "tests/jobs/test_tasks.py::test_rows_that_are_too_long_are_shortened_by_one_job_and_taken_back_by_one_step",
    "tests/jobs/test_worker.py::test_heavy_jobs_run_one_after_the_other",
    "tests/security/test_endpoint.py::test_a_key_has_a_name",
    "tests/security/test_endpoint.py::test_a_key_opens_nothing_but_the_endpoint",
    "tests/security/test_numbers.py::test_an_id_that_none_can_have_does_not_exist",
    "tests/security/test_paths.py::test_no_page_and_no_address_names_a_folder_of_the_machine[lost]",
    "tests/security/test_paths.py::test_no_page_and_no_address_names_a_folder_of_the_machine[succeeded]",
    "tests/studio/test_cli.py::test_a_file_that_is_no_corpus_is_refused_and_not_listed",
    "tests/browser/test_import.py",
    "tests/browser/test_selection.py::test_a_loop_is_left_out_and_the_next_run_trains_on_the_rest",
    "tests/hydralora/test_maps.py::test_a_map_of_noise_is_labelled_as_noise[umap]",
    "tests/browser/test_accessible.py::test_a_page_breaks_no_rule[corpus with a selection]",
    "tests/browser/test_accessible.py::test_a_page_breaks_no_rule[run running]",
    "tests/browser/test_accessible.py::test_the_menu_of_a_cluster_breaks_no_rule_and_closes_by_the_keyboard",
    "tests/hydralora/test_narrowing.py::test_umap_places_every_row_keeps_copies_together_and_is_read_in_the_place_of_svd",
    "tests/studio/test_cli.py::test_inspect_measures_answers_gates_and_heads",
}


# Of what holds for both databases, the files that `make test` runs over PostgreSQL too, where it is installed.
ALWAYS_BOTH = {f"tests/jobs/test_{name}.py" for name in ("queue", "steps", "store")}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the long ones, by their file or their mark, where nobody asks for them."""
    if os.environ.get("HYDRA_TEST_LONG"):
        return
    left = pytest.mark.skip(reason="long: `make test-long` runs it")
    for item in items:
        names = {item.nodeid, item.nodeid.split("[")[0], item.nodeid.split("::")[0]}
        if names & LONG or item.get_closest_marker("long"):
            item.add_marker(left)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked so over both databases, where it does not say itself over which."""
    own = [mark for mark in metafunc.definition.iter_markers("parametrize") if "database" in mark.args[0]]
    if not own and "database" in metafunc.fixturenames and metafunc.definition.get_closest_marker("databases"):
        file = metafunc.definition.nodeid.split("::")[0]
        marks = [] if file in ALWAYS_BOTH else [pytest.mark.long]
        metafunc.parametrize("database", ["sqlite", pytest.param("postgresql", marks=marks)], indirect=True)


class ByFile(LoadFileScheduling):
    """Hands out whole files: their tests share what is made once for the file."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "browser" if file in ALONE else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Called once where tests are handed out: in their order, so that those of browsers, which take longest, begin."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture(scope="module", autouse=True)
def no_loop_is_left() -> None:
    """Fails the first test of a file that inherits a running event loop: `asyncio.run` would fail at random there."""
    assert asyncio._get_running_loop() is None, "a file run before left its event loop running"
