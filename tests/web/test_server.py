"""The server answers its own page, on this machine, within bounds; and nobody and nothing else."""

import csv
import dataclasses
import io
import json
import struct
import types

import numpy as np
import pyarrow.parquet as pq
import pytest
from explored import ATTACK, SENTENCES
from starlette.testclient import TestClient

from seqvae.web import guard
from seqvae.web.page import assets
from seqvae.web.points import as_tsv
from seqvae.web.server import create_app

HERE = "http://127.0.0.1:8000"
A = "the cat saw a cake"


@pytest.fixture
def client(explorer):
    return TestClient(create_app(explorer), base_url=HERE)


@pytest.fixture
def exposed(explorer):
    app = create_app(explorer, host="0.0.0.0", token="s3cret")
    return TestClient(app, base_url="http://192.0.2.7:8000", follow_redirects=False)


def test_the_page_and_its_files_are_served_with_a_strict_policy(client):
    page = client.get("/")
    assert page.status_code == 200
    for path in assets():
        if path != "index.html":
            assert client.get(f"/static/{path}").status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"


def test_the_page_names_no_other_site_and_has_no_script_or_style_inside(client):
    for path, content in assets().items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text, path
        assert "innerHTML" not in text, path
    html = assets()["index.html"].decode()
    assert "<style" not in html
    assert " style=" not in html
    assert html.count("<script") == 1
    assert " on" not in html.replace(" one", "").replace(" on the", "").replace(" on it", "").replace(" only", "")


@pytest.mark.parametrize(
    "path",
    ["/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd", "/static/js", "/x", "/api/map/../x"],
)
def test_no_file_but_those_of_the_page_is_served(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "192.0.2.7"]
)
def test_another_host_name_is_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_the_names_of_this_machine_are_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    ],
)
def test_a_page_of_another_site_is_refused(client, headers):
    assert client.get("/api/about", headers=headers).status_code == 403
    assert client.post("/api/sentence", json={"text": A}, headers=headers).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_click_on_the_address_elsewhere_opens_the_page_and_no_frame_does(client, exposed, site):
    click = {"sec-fetch-site": site, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=click).status_code == 200
    assert client.get("/", headers=click | {"sec-fetch-dest": "iframe"}).status_code == 403
    assert client.get("/", headers={"sec-fetch-site": site, "sec-fetch-mode": "cors"}).status_code == 403
    assert exposed.get("/", headers=click).status_code == 401
    assert exposed.get("/?token=s3cret", headers=click, follow_redirects=True).status_code == 200


def test_a_request_is_json_and_no_longer_than_it_may_be(client):
    post = {"content": b'{"text": "x"}', "headers": {"content-type": "text/plain"}}
    assert client.post("/api/sentence", **post).status_code == 415
    assert client.post("/api/sentence", json={"text": "x" * guard.LARGEST_BYTES}).status_code == 413
    pieces = (part for part in [b'{"text":', b'"x"}'])
    assert client.post("/api/sentence", content=pieces, headers={"content-type": "application/json"}).status_code == 411
    assert client.put("/api/sentence", json={}).status_code == 405
    assert client.get("/api/sentence").status_code == 405


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("sentence", {"text": "x" * 5000}),
        ("sentence", {"text": A, "neighbors": 1000}),
        ("sentence", {"text": A, "folder": "/etc"}),
        ("path", {"a": A, "b": A, "steps": 100_000}),
        ("sample", {"n": 1_000_000}),
        ("sample", {"top_p": 0}),
        ("fill", {"text": A, "n": 1000}),
        ("sum", {"terms": []}),
        ("sum", {"terms": [{"text": A, "weight": 1}] * 100}),
        ("decode", {"z": [0.0] * 10_000}),
    ],
)
def test_what_is_out_of_bounds_is_refused_before_the_model_sees_it(client, name, body):
    refused = client.post(f"/api/{name}", json=body)
    assert refused.status_code == 422
    assert refused.json()["error"]["what"]


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("decode", b'{"z": [1, 2]}', "E240"),
        ("fill", b'{"text": "no gap"}', "E298"),
        ("walk", b'{"text": "x", "dim": 77}', "E297"),
    ],
)
def test_a_mistake_is_told_with_its_code(client, name, body, code):
    told = client.post(f"/api/{name}", content=body, headers={"content-type": "application/json"})
    assert told.status_code == 400
    assert told.json()["error"]["code"] == code


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"z": [NaN, 0, 0, 0, 0]}', b'{"z": [1e999, 0, 0, 0, 0]}', b"\xff"]
)
def test_what_is_no_request_is_refused(client, body):
    assert client.post("/api/decode", content=body, headers={"content-type": "application/json"}).status_code == 422


def test_a_fault_is_told_without_its_insides(client, explorer, monkeypatch, caplog):
    monkeypatch.setattr(explorer.vae, "write", lambda *_, **__: 1 / 0)
    told = client.post("/api/decode", json={"z": [0.0] * 5})
    assert told.status_code == 500
    assert "ZeroDivisionError" in told.json()["error"]["what"]
    assert "Traceback" not in told.text
    assert "ZeroDivisionError" in caplog.text


def test_who_asks_too_often_is_told_to_wait(client, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: clock[0])
    statuses = [client.get("/api/column/length").status_code for _ in range(guard.BURST + 20)]
    assert 429 in statuses
    assert statuses[:50] == [200] * 50
    clock[0] += 1.0
    assert client.get("/api/column/length").status_code == 200


def test_columns_and_maps_are_little_endian_numbers(client, explorer):
    content = client.get("/api/column/length").content
    assert struct.unpack(f"<{SENTENCES}f", content) == tuple(map(float, explorer.corpus.store.lengths - 2))
    xy = np.frombuffer(client.get("/api/map/pca").content, "<f4").reshape(-1, 2)
    np.testing.assert_array_equal(xy, explorer.atlas.maps["pca"].xy)
    for name in ("label-9", "dim-5", "dim-x", "nothing", "label-"):
        assert client.get(f"/api/column/{name}").status_code == 404


def test_what_takes_long_is_asked_for_until_it_is_there(client, explorer):
    assert client.get("/api/column/nll").status_code in (200, 202)
    explorer.atlas.nll(wait=True)
    for _ in range(200):
        told = client.get("/api/column/nll")
        if told.status_code == 200:
            break
    nats = np.frombuffer(told.content, "<f4")
    assert nats == pytest.approx(explorer.vae.score(explorer.corpus.store, samples=1).nats, rel=1e-5)


def test_points_come_as_tsv_and_parquet_with_everything_that_is_known(client, explorer):
    told = client.get("/points/pca.tsv")
    assert "attachment" in told.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(told.text), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == SENTENCES
    assert rows[100]["text"] == ATTACK
    assert {"line", "text", "who", "meal", "tokens", "x", "y", "mean_0", "std_4"} <= set(rows[0])
    table = pq.read_table(io.BytesIO(client.get("/points/pca.parquet").content))
    assert table.column("text").to_pylist() == explorer.corpus.texts
    means = np.array(table.column("mean").to_pylist(), np.float32)
    np.testing.assert_array_equal(means, explorer.atlas.codes.mean)
    assert client.get("/points/tsne.tsv").status_code == 404


def test_labels_with_the_name_of_another_column_keep_to_one_of_their_own(explorer):
    named = [
        dataclasses.replace(each, title=title)
        for each, title in zip(explorer.corpus.labellings, ("y", "text"), strict=True)
    ]
    corpus = dataclasses.replace(explorer.corpus, labellings=named)
    other = types.SimpleNamespace(corpus=corpus, atlas=explorer.atlas)
    head, first, *_ = b"".join(as_tsv(other, explorer.atlas.maps["pca"])).decode().splitlines()
    cells = dict(zip(head.split("\t"), first.split("\t"), strict=True))
    assert cells["label_y"] == named[0].classes[named[0].numbers[0]]
    assert cells["label_text"] == named[1].classes[named[1].numbers[0]]
    assert cells["text"] == " ".join(explorer.corpus.texts[0].split())
    assert float(cells["y"]) == pytest.approx(float(explorer.atlas.maps["pca"].xy[0, 1]), rel=1e-5)


def test_others_are_let_in_by_the_token_alone(exposed):
    assert exposed.get("/").status_code == 401
    assert exposed.get("/api/about").status_code == 401
    assert exposed.get("/?token=wrong").status_code == 401
    assert exposed.get("/api/about?token=s3cret").status_code == 401
    welcome = exposed.get("/?token=s3cret&x=1")
    assert (welcome.status_code, welcome.headers["location"]) == (303, "/?x=1")
    cookie = welcome.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert exposed.get("/api/about").status_code == 200  # with the cookie
    assert exposed.get("/", headers={"host": "evil.example"}).status_code == 403


def test_every_answer_bears_the_policy_refusals_too(client):
    for path, headers in (("/", {}), ("/nowhere", {}), ("/", {"host": "evil.example"})):
        assert client.get(path, headers=headers).headers["content-security-policy"] == guard.POLICY


def test_the_corpus_reaches_the_page_as_data(client):
    told = client.get("/api/texts")
    assert told.headers["content-type"] == "application/json"
    assert ATTACK in json.loads(told.text)["texts"]
