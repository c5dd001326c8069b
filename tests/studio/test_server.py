"""The web application's own addresses, asked as a browser asks them."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from html import escape

import pytest
from fastapi.testclient import TestClient

from hydralora.corpus.folder import Corpus as Rows
from hydralora.results import GroupGates
from jobs.home import Home
from jobs.store.status import JobStatus
from studio.pages.corpora import views as corpora_page
from studio.pages.corpora.cluster_views import cluster_list
from studio.pages.run import headline
from studio.pages.run import views as run
from studio.web.guard import CONTENT_POLICY
from studio.web.server import create_app
from tests.studio.conftest import bearer
from tests.studio.stored import (
    LAYERS,
    Stored,
    group_result,
    map_result,
    routing_result,
    weights_result,
)

HOSTILE = "<img src=x onerror=alert(1)>\"'{{7*7}}${alert(2)}"
PAGES = ("/", "/corpora", "/new-run", "/run", "/chat", "/endpoint", "/tour")
STEPS = [
    {"loss": 2.0, "learning_rate": 0.001, "tokens_per_second": 50.0, "gates": {name: [0.75, 0.25] for name in LAYERS}},
    {"loss": 1.5, "eval_loss": 1.75, "learning_rate": 0.002, "tokens_per_second": 60.0},
]


def panel(client: TestClient, address: str) -> dict:
    """A figure as a panel reads it: valid JSON with a drawing, a reading aid and a table."""
    reply = client.get(address)
    assert reply.status_code == 200, reply.text
    found = json.loads(reply.text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["figure"]["data"] and "layout" in found["figure"]
    assert found["aid"].strip() and found["name"]
    assert all(len(row) == len(found["table"]["head"]) for row in found["table"]["rows"])
    return found


# Who may ask


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.7"])
def test_a_foreign_host_name_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/ui/health", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:7860", "localhost"])
def test_this_machines_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/ui/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9999", "https://127.0.0.1.evil.example", "null"]
)
def test_another_site_cannot_write(client: TestClient, origin: str) -> None:
    before = client.get("/ui/chat/start").json()["conversations"]
    assert client.post("/ui/chat/conversations", headers={"Origin": origin}).status_code == 403
    assert client.get("/ui/chat/start").json()["conversations"] == before


@pytest.mark.parametrize("address", ["/gradio_api/queue/join", "/gradio_api/upload"])
def test_another_site_cannot_reach_the_pages_events(client: TestClient, address: str) -> None:
    assert client.post(address, json={}, headers={"Origin": "http://evil.example"}).status_code == 403


def test_the_page_itself_may_write(client: TestClient) -> None:
    assert client.post("/ui/chat/conversations", headers={"Origin": "http://127.0.0.1"}).status_code == 200


def test_no_site_is_given_leave_to_read(client: TestClient) -> None:
    reply = client.get("/ui/health", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in reply.headers


def test_a_preflight_of_another_site_is_refused(client: TestClient) -> None:
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    reply = client.options("/ui/chat/conversations", headers=headers)
    assert reply.status_code >= 400 and "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("address", ["/", "/ui/health", "/ui/runs/9/metrics.csv", "/ui/static/chat.js"])
def test_every_answer_carries_the_security_headers(client: TestClient, address: str) -> None:
    headers = client.get(address).headers
    assert headers["content-security-policy"] == CONTENT_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_the_content_policy_names_no_other_host() -> None:
    assert "http" not in CONTENT_POLICY and "*" not in CONTENT_POLICY


@pytest.mark.parametrize("address", ["/openapi.json", "/docs", "/redoc", "/monitoring", "/gradio_api/monitoring"])
def test_nothing_describes_the_addresses_to_strangers(client: TestClient, address: str) -> None:
    assert client.get(address).status_code in (403, 404)


@pytest.mark.parametrize("name", ["studio.db", "server/server.json"])
def test_no_address_gives_out_the_studios_own_files(client: TestClient, home: Home, name: str) -> None:
    path = home.root / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_text('{"token": "secret"}')
    assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


@pytest.mark.parametrize("path", ["..%2fserver.py", "%2e%2e/server.py", "..%5cserver.py", "%2fetc%2fpasswd"])
def test_the_folder_of_static_files_cannot_be_left(client: TestClient, path: str) -> None:
    assert client.get(f"/ui/static/{path}").status_code == 404


# Pages and links


@pytest.mark.parametrize("address", PAGES)
def test_every_page_opens(client: TestClient, address: str) -> None:
    reply = client.get(address)
    assert reply.status_code == 200 and "Hydra Studio" in reply.text


@pytest.mark.parametrize(
    "address, target",
    [
        ("/runs/3", "/run?run=3"),
        ("/corpora/4", "/corpora?corpus=4"),
        ("/inspect/5", "/run?run=5&tab=answers"),
        ("/chat/6", "/run?run=6&tab=chat"),
        ("/chat/6?conversation=2", "/run?run=6&tab=chat&conversation=2"),
        ("/inspect", "/run"),
        ("/inspect?run=5", "/run?tab=answers&run=5"),
        ("/chat?run=6&conversation=2", "/run?tab=chat&run=6&conversation=2"),
        ("/chat?run=%22%3E%0d%0aX:y", "/run?tab=chat&run=%22%3E%0D%0AX%3Ay"),
    ],
)
def test_short_and_former_addresses_lead_to_their_page(client: TestClient, address: str, target: str) -> None:
    reply = client.get(address, follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (307, target)


@pytest.mark.parametrize("address", ["/runs/three", "/runs/3%0d%0aSet-Cookie:a=b", "/inspect/1e3"])
def test_a_short_link_takes_whole_numbers_only(client: TestClient, address: str) -> None:
    reply = client.get(address, follow_redirects=False)
    assert reply.status_code in (404, 422) and "location" not in reply.headers and "set-cookie" not in reply.headers


def test_health_counts_jobs_and_workers(client: TestClient, stored: Stored) -> None:
    stored.run(stored.corpus(), finished=False)
    assert client.get("/ui/health").json() == {"ok": True, "workers": 0, "queued": 1, "running": 0}


def test_the_plotting_script_comes_from_here(client: TestClient) -> None:
    reply = client.get("/ui/plotly.min.js")
    assert reply.headers["content-type"].startswith("text/javascript") and "plotly.js" in reply.text[:400]


def test_a_second_application_over_the_same_folder_sees_the_same(client: TestClient, home: Home) -> None:
    made = client.post("/ui/chat/conversations").json()
    app = create_app(home, keep_worker=False)
    with TestClient(app, base_url="http://127.0.0.1", headers=bearer(app)) as other:
        assert made in other.get("/ui/chat/start").json()["conversations"]


# What is not there

UNKNOWN = 987_654
WITH_ID = (
    "/ui/figures/clusterings/{}/map",
    "/ui/figures/clusterings/{}/elbow",
    "/ui/figures/analyses/{}/layers",
    "/ui/runs/{}/adapter.zip",
    "/ui/runs/{}/metrics.csv",
    "/ui/figures/runs/{}/loss",
    "/ui/chat/examples/{}",
    "/ui/chat/conversations/{}",
    "/ui/chat/answers/{}",
    "/ui/chat/conversations/{}/export.md",
    "/ui/chat/conversations/{}/export.json",
)


@pytest.mark.parametrize("address", WITH_ID)
def test_an_unknown_id_gives_one_sentence(client: TestClient, address: str) -> None:
    reply = client.get(address.format(UNKNOWN))
    assert reply.status_code in (400, 404)
    assert f" {UNKNOWN} does not exist." in reply.json()["detail"]


@pytest.mark.parametrize("address", WITH_ID)
@pytest.mark.parametrize("item", ["x", "9.5", "-1", "9'--", "99999999999999999999999"])
def test_an_id_that_is_no_id_is_refused(client: TestClient, address: str, item: str) -> None:
    reply = client.get(address.format(item))
    assert reply.status_code in (404, 422) and reply.json()["detail"]


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.LOST])
def test_a_missing_adapter_names_the_runs_status(client: TestClient, stored: Stored, status: JobStatus) -> None:
    failed = stored.run(stored.corpus(), status=status)
    reply = client.get(f"/ui/runs/{failed.id}/adapter.zip")
    assert reply.status_code == 400 and status in reply.json()["detail"]


def test_an_unfinished_run_has_no_adapter_to_download(client: TestClient, stored: Stored) -> None:
    waiting = stored.run(stored.corpus(), finished=False)
    stored.adapter(waiting, ["adapter_model.safetensors"])
    reply = client.get(f"/ui/runs/{waiting.id}/adapter.zip")
    assert reply.status_code == 400 and "is not finished (queued)" in reply.json()["detail"]


def test_a_finished_run_whose_folder_was_deleted_says_so(client: TestClient, stored: Stored) -> None:
    done = stored.run(stored.corpus())
    reply = client.get(f"/ui/runs/{done.id}/adapter.zip")
    assert reply.status_code == 400 and "adapter" in reply.json()["detail"]


# Downloads


def test_the_adapter_holds_the_allowed_files_only(client: TestClient, stored: Stored) -> None:
    done = stored.run(stored.corpus())
    allowed = ["README.md", "adapter_config.json", "adapter_model.safetensors", "run.json"]
    folder = stored.adapter(done, [*allowed, "optimizer.pt", "training_args.bin", "notes.txt", ".hidden"])
    (folder / "deep").mkdir()
    reply = client.get(f"/ui/runs/{done.id}/adapter.zip")
    archive = zipfile.ZipFile(io.BytesIO(reply.content))
    assert sorted(archive.namelist()) == allowed
    assert archive.read("run.json") == b"this is run.json"
    assert f'filename="run-{done.id}-adapter.zip"' in reply.headers["content-disposition"]


def test_the_metrics_table_holds_every_recorded_number(client: TestClient, stored: Stored) -> None:
    given = stored.run(stored.corpus(), finished=False)
    held = stored.store.attempts.claim("tests", "here", "heavy")
    stored.steps(stored.store.runs.get(given.id), STEPS)
    assert held is not None
    rows = list(csv.DictReader(io.StringIO(client.get(f"/ui/runs/{given.id}/metrics.csv").text)))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert [(float(row["loss"]), row["eval_loss"]) for row in rows] == [(2.0, ""), (1.5, "1.75")]
    assert "gates" not in rows[0]


# Figures of what is stored


@pytest.fixture
def running(stored: Stored) -> int:
    """The id of a run with two recorded steps."""
    given = stored.run(stored.corpus(), finished=False)
    assert stored.store.attempts.claim("tests", "here", "heavy") is not None
    stored.steps(stored.store.runs.get(given.id), STEPS)
    return given.id


def test_the_loss_figure_holds_the_recorded_losses(client: TestClient, running: int) -> None:
    found = panel(client, f"/ui/figures/runs/{running}/loss")
    assert [trace["y"] for trace in found["figure"]["data"]] == [[2.0, 1.5], [1.75]]
    assert found["table"]["rows"] == [[1, 2.0, None], [2, 1.5, 1.75]]


@pytest.mark.parametrize("view, values", [("speed", [50.0, 60.0]), ("rate", [0.001, 0.002])])
def test_the_other_curves_hold_the_recorded_numbers(
    client: TestClient, running: int, view: str, values: list[float]
) -> None:
    assert panel(client, f"/ui/figures/runs/{running}/{view}")["figure"]["data"][0]["y"] == values


def test_the_gates_figure_holds_the_mean_of_all_layers(client: TestClient, running: int) -> None:
    assert panel(client, f"/ui/figures/runs/{running}/gates")["table"]["rows"] == [[1, 0.75, 0.25]]


def test_the_gates_figure_holds_the_layer_asked_for(client: TestClient, running: int) -> None:
    assert "L1 up" in panel(client, f"/ui/figures/runs/{running}/gates?layer={LAYERS[1]}")["aid"]


@pytest.mark.parametrize("address", ["gates?layer=__class__", "secrets"])
def test_a_view_or_layer_that_is_not_there_is_refused(client: TestClient, running: int, address: str) -> None:
    reply = client.get(f"/ui/figures/runs/{running}/{address}")
    assert reply.status_code == 400 and reply.json()["detail"].endswith(".")


def test_a_run_without_steps_says_when_the_figure_comes(client: TestClient, stored: Stored) -> None:
    waiting = stored.run(stored.corpus(), finished=False)
    assert "first step" in client.get(f"/ui/figures/runs/{waiting.id}/loss").json()["empty"]


def test_a_method_without_a_router_says_that_it_has_none(client: TestClient, stored: Stored) -> None:
    plain = stored.run(stored.corpus(), finished=False, method="lora", adapter={})
    stored.store.attempts.claim("tests", "here", "heavy")
    stored.steps(stored.store.runs.get(plain.id), [{"loss": 1.0}])
    assert "no router" in client.get(f"/ui/figures/runs/{plain.id}/gates").json()["empty"]


def test_the_elbow_marks_the_suggested_number(client: TestClient, stored: Stored) -> None:
    clustering = stored.clustering(stored.corpus())
    found = panel(client, f"/ui/figures/clusterings/{clustering.id}/elbow")
    assert found["table"]["rows"][1] == [2, 2.0, 0.75, 0.9]
    assert found["figure"]["layout"]["shapes"][0]["x0"] == 2


def test_an_unfinished_clustering_says_so(client: TestClient, stored: Stored) -> None:
    waiting = stored.store.clusterings.add(stored.corpus().id, 2)
    reply = client.get(f"/ui/figures/clusterings/{waiting.id}/elbow")
    assert (reply.status_code, reply.json()["detail"]) == (400, "This clustering is not finished yet. Wait for it.")


@pytest.mark.parametrize(
    "view", ["layers", "effective", "distribution", "distribution?layer=999", "classes", "groups", "agreement"]
)
def test_every_view_of_the_gates_is_a_figure(client: TestClient, stored: Stored, view: str) -> None:
    found = stored.analysis(stored.run(stored.corpus()), "routing", routing_result())
    panel(client, f"/ui/figures/analyses/{found.id}/{view}")


@pytest.mark.parametrize(
    "view",
    [
        "layers",
        "layers?what=cka",
        "norms",
        "drift",
        "heads",
        "heads?layer=1&what=overlap",
        "heads?layer=-5&what=head_cosine",
        "norms?step=77",
    ],
)
def test_every_view_of_the_heads_is_a_figure(client: TestClient, stored: Stored, view: str) -> None:
    found = stored.analysis(stored.run(stored.corpus()), "weights", weights_result())
    panel(client, f"/ui/figures/analyses/{found.id}/{view}")


def test_the_map_of_the_matrices_is_a_figure(client: TestClient, stored: Stored) -> None:
    params = {"which": "B", "layout": "pca", "seed": 0}
    found = stored.analysis(stored.run(stored.corpus()), "map", map_result(), params)
    assert len(panel(client, f"/ui/figures/analyses/{found.id}/map")["table"]["rows"]) == 4


@pytest.mark.parametrize(
    "kind, view", [("routing", "secrets"), ("weights", "heads?what=name"), ("weights", "secrets"), ("routing", "norms")]
)
def test_a_view_that_an_analysis_has_not_is_refused(client: TestClient, stored: Stored, kind: str, view: str) -> None:
    result = routing_result() if kind == "routing" else weights_result()
    found = stored.analysis(stored.run(stored.corpus()), kind, result)
    reply = client.get(f"/ui/figures/analyses/{found.id}/{view}")
    assert reply.status_code == 400 and re.match("There is no (view|measure) called", reply.json()["detail"])


@pytest.mark.parametrize("group, reason", [("cluster", "Cluster the corpus first."), ("label", "no label column")])
def test_gates_without_groups_say_what_is_missing(client: TestClient, stored: Stored, group: str, reason: str) -> None:
    found = stored.analysis(stored.run(stored.corpus()), "routing", routing_result(groups={}))
    assert reason in client.get(f"/ui/figures/analyses/{found.id}/groups?group={group}").json()["empty"]


def test_gates_with_one_group_say_that_there_is_one(client: TestClient, stored: Stored) -> None:
    one = {"cluster": GroupGates(names=["C1"], real=False, sentence="There is only one group.")}
    found = stored.analysis(stored.run(stored.corpus()), "routing", routing_result(groups=one))
    assert "There is only one group." in client.get(f"/ui/figures/analyses/{found.id}/agreement").json()["empty"]


def test_an_unfinished_analysis_says_so(client: TestClient, stored: Stored) -> None:
    waiting = stored.store.analyses.ask(stored.run(stored.corpus()).id, "routing")
    reply = client.get(f"/ui/figures/analyses/{waiting.id}/layers")
    assert (reply.status_code, reply.json()["detail"]) == (400, "This analysis is not finished yet.")


# Text is hostile


def test_hostile_names_reach_the_pages_escaped_only(stored: Stored) -> None:
    corpus = stored.corpus(
        HOSTILE,
        [{"prompt": HOSTILE, "answer": HOSTILE, "label": HOSTILE}, {"prompt": "a", "answer": "b", "label": "c"}],
    )
    clustering = stored.clustering(corpus, [[HOSTILE], ["boat"]])
    made = stored.run(corpus, HOSTILE)
    drawn = [
        headline.runs_list(stored.store, made),
        corpora_page.corpora_list(stored.store, corpus.id),
        headline.headline(stored.store, made, None, None, is_small=False),
        corpora_page.facts(stored.store, corpus),
        corpora_page.cluster_report(stored.store, clustering),
        cluster_list(clustering),
        corpora_page.rows_table(Rows(stored.home.corpus(corpus.id)).take([0]), [0], "one"),
        run.settings_table(made, None),
    ]
    assert all("<img" not in html for html in drawn)
    assert sum(escape(HOSTILE)[:40] in html for html in drawn) >= 5


def test_hostile_group_names_and_sentences_stay_data_in_figures(client: TestClient, stored: Stored) -> None:
    group = group_result(names=[HOSTILE, "other"])
    found = stored.analysis(stored.run(stored.corpus()), "routing", routing_result(groups={"label": group}))
    reply = client.get(f"/ui/figures/analyses/{found.id}/groups?group=label")
    assert reply.headers["content-type"] == "application/json" and reply.headers["x-content-type-options"] == "nosniff"
    assert reply.json()["table"]["rows"][0][0] == HOSTILE
    assert reply.json()["figure"]["data"][0]["y"][0] == escape(HOSTILE)  # plotly reads some tags


def test_the_first_page_holds_no_stored_name(client: TestClient, stored: Stored) -> None:
    stored.run(stored.corpus(HOSTILE), HOSTILE)
    for address in PAGES:
        assert HOSTILE not in client.get(address).text
