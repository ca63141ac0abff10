"""The server: what it refuses, what it sends, and how it starts and ends."""

from __future__ import annotations

import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from tests.conftest import ROOT
from tests.in_process import call
from tests.web.runs import make_run
from tests.web.serving import serving
from web import server
from web.context import Context
from web.security import MAX_BODY, is_allowed_host
from web.server import PAGES, create_app, open_listener, serve

CLASSIFIER = "classifiers/0001-people-32px"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    make_run(tmp_path / "outputs" / "0001-faces-16px")
    (tmp_path / "secret.png").write_bytes(b"secret")
    context = Context(output=tmp_path / "outputs")
    app = create_app(context)
    with TestClient(app, base_url="http://127.0.0.1:8421", raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("page", PAGES)
def test_every_page_comes_with_the_headers_that_confine_it(client, page):
    answer = client.get(f"/{page}")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "'unsafe-eval'" not in policy
    assert "http" not in policy
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "set-cookie" not in answer.headers
    # Nothing inline, which the policy would block, and no other host.
    assert "<style" not in answer.text
    assert "style=" not in answer.text
    assert "<script>" not in answer.text
    assert "//" not in answer.text.replace("<!--", "")


def test_the_first_page_is_the_explorer(client):
    assert client.get("/", follow_redirects=False).headers["location"] == "/explorer"


def test_no_static_file_names_another_host():
    allowed = ("http://www.w3.org/", "https://github.com/leeoniya/uPlot", "https://github.com/mattdesl")
    for path in (ROOT / "web" / "static").rglob("*"):
        if path.suffix in (".js", ".css", ".html", ".svg") and "vendor" not in path.parts:
            text = path.read_text(encoding="utf-8")
            for word in allowed:
                text = text.replace(word, "")
            assert "http://" not in text, path
            assert "https://" not in text, path


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:9000"}, 200),
        ({"host": "[::1]:8421"}, 200),
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": "evil.example@127.0.0.1"}, 421),
        ({"host": "192.168.0.7:8421"}, 421),
        ({"host": ""}, 421),
        ({"host": "127.0.0.1:port"}, 421),
        ({"origin": "http://127.0.0.1:8421"}, 200),
        ({"origin": "http://127.0.0.1:3000"}, 403),
        ({"origin": "https://127.0.0.1:8421"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
    ],
)
def test_only_this_servers_own_pages_may_use_it(client, headers, status):
    assert client.get("/api/training/runs", headers=headers).status_code == status


def test_a_link_from_another_site_opens_a_page_but_no_data(client):
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/training", headers=headers).status_code == 200
    assert client.get("/api/training/runs", headers=headers).status_code == 403
    assert client.get("/training", headers=headers | {"sec-fetch-dest": "iframe"}).status_code == 403


@pytest.mark.parametrize(
    ("name", "host", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("192.168.0.7", "0.0.0.0", True),
        ("evil.example", "0.0.0.0", False),
        (socket.gethostname(), "0.0.0.0", True),
        (socket.gethostname(), "127.0.0.1", False),
        ("lab.example", "lab.example", True),
    ],
)
def test_dns_rebinding_needs_a_name_so_digits_are_allowed_once_host_is_given(name, host, allowed):
    assert is_allowed_host(name, host) is allowed


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static//etc/passwd",
        "/api/training/sample?run=../0001-faces-16px&step=100",
        "/api/training/sample?run=0001-faces-16px&step=../../secret",
        "/api/training/sample?run=0001-faces-16px/..&step=100",
        "/api/training/real?run=.",
        "/api/training/real?run=/etc",
        "/api/training/run?run=",
    ],
)
def test_no_path_leaves_the_runs_or_the_package(client, path):
    answer = client.get(path)
    assert answer.status_code in (400, 404)
    assert b"secret" not in answer.content


def test_a_link_out_of_a_run_is_not_followed(client, tmp_path):
    run = tmp_path / "outputs" / "0001-faces-16px"
    sample = run / "samples" / "step_000100.png"
    sample.unlink()
    sample.symlink_to(tmp_path / "secret.png")
    (run / "real.png").symlink_to(tmp_path / "secret.png")
    name = "run=0001-faces-16px"
    for path in (f"sample?{name}&step=100", f"real?{name}", f"strip?{name}&tile=0&step=100"):
        answer = client.get(f"/api/training/{path}")
        assert answer.status_code == 404, path
        assert b"secret" not in answer.content


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(client):
    assert client.post("/api/training/runs", headers={"content-length": str(MAX_BODY + 1)}).status_code == 413
    assert client.post("/explorer", headers={"content-length": "-1"}).status_code in (400, 413)

    def undeclared():  # a generator is sent in chunks, without a length
        for _ in range(40):
            yield bytes(2**20)

    answer = client.post("/api/explorer/nearest", content=undeclared())
    assert answer.status_code == 413
    assert answer.headers["x-frame-options"] == "DENY"


def test_the_answer_to_an_unexpected_error_is_confined_too(client, monkeypatch):
    def fail(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr("web.library.Library.names", fail)
    answer = client.get("/api/training/runs")
    assert answer.status_code == 500
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "secret" not in answer.text


def test_a_thousand_fuzzed_requests_get_a_clean_refusal(client, arcface_run, tmp_path):
    shutil.copytree(arcface_run, tmp_path / "outputs" / CLASSIFIER)
    chance = random.Random(7)
    paths = ["/", "/explorer", "/static/", "/favicon.ico", "/nothing", "/api/explorer/", "/api/"]
    paths += [
        route.path
        for route in client.app.routes
        if route.path.startswith("/api/") and "stream" not in route.path
    ]
    words = [
        "0001-faces-16px",
        "..",
        "%00",
        "\x00",
        "é",
        "A" * 3000,
        "-1",
        "1e9",
        "9" * 40,
        "'\"<script>",
        "100",
    ]
    names = ["run", "step", "tile", "source", "name", "new", "value", "whole", "v", "x"]
    sources = [f"{kind}/{CLASSIFIER}" for kind in ("people", "classes")]
    found = Counter()
    for _ in range(1000):
        path = chance.choice(paths)
        query = [(chance.choice(names), chance.choice(words)) for _ in range(chance.randrange(4))]
        if "recogniser" in path and chance.random() < 0.7:  # get past the 404
            query.append(("source", chance.choice(sources)))
        method = chance.choice(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
        body = chance.randbytes(chance.randrange(200)) if chance.random() < 0.5 else b""
        headers = {
            "content-type": chance.choice(["image/png", "application/json", "multipart/form-data", "x"])
        }
        answer = client.request(
            method, path, params=query, content=body, headers=headers, follow_redirects=False
        )
        assert answer.status_code < 500, (method, path, query, answer.text)
        assert "Traceback" not in answer.text
        found[path, answer.status_code] += 1
    # Not all are refused before they are looked at.
    assert found["/api/recogniser/threshold", 400] > 0
    assert found["/api/recogniser/source", 200] > 0


def test_fifty_requests_at_once_are_answered(tmp_path):
    make_run(tmp_path / "0001-faces-16px")
    paths = ["/training", "/api/training/runs", "/api/training/sample?run=0001-faces-16px&step=300"]
    strip = "/api/training/strip?run=0001-faces-16px&tile=3&step=0&step=100"
    with serving(Context(output=tmp_path)) as address, httpx.Client(base_url=address, timeout=30) as http:
        start = time.monotonic()
        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(http.get, [*paths, strip] * 12 + paths[:2]))
        assert [answer.status_code for answer in answers] == [200] * 50
        assert time.monotonic() - start < 15


def test_the_script_says_its_address_serves_at_once_and_ends_cleanly_with_ctrl_c(tmp_path):
    command = [sys.executable, ROOT / "explore.py", "--no-browser", "--output", tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith(f"There is no run in {tmp_path}.")
        address = process.stdout.readline().split()[0]
        assert address.startswith("http://127.0.0.1:84")
        assert address.endswith("/explorer")
        with urllib.request.urlopen(address) as answer:
            assert b"Face lab" in answer.read()
        # A stream that is open must not keep the server from ending.
        make_run(tmp_path / "0001-faces-16px")
        stream = urllib.request.urlopen(f"{address[:-9]}/api/training/stream?run=0001-faces-16px")
        assert b"retry" in stream.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        assert process.stdout.read() == "stopped\n"
        assert process.stderr.read() == ""


@pytest.mark.parametrize("display", ["", ":0"])
@pytest.mark.parametrize("wanted", [True, False])
def test_the_browser_opens_the_page_where_there_is_a_display(display, wanted, monkeypatch, capsys):
    opened = queue.Queue()
    monkeypatch.setattr(server.webbrowser, "open", opened.put)
    monkeypatch.setattr(server._Server, "run", lambda *_, **__: None)
    monkeypatch.setattr(server.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    serve(Context(), host="127.0.0.1", port=None, browser=wanted, start="/training")
    address = capsys.readouterr().out.split()[0]
    if display and wanted:
        assert opened.get(timeout=10) == address
    assert opened.empty()


def test_an_address_that_others_can_reach_is_announced(monkeypatch, capsys):
    monkeypatch.setattr(server._Server, "run", lambda *_, **__: None)
    serve(Context(), host="0.0.0.0", port=None, browser=False)
    output = capsys.readouterr().out
    assert output.startswith("http://127.0.0.1:84")
    assert "warning: --host 0.0.0.0 serves everyone who can reach this machine, without a password" in output
    assert f"from other machines: http://{socket.gethostname()}:84" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port", "0"), "--port must be 1 to 65535, not 0"),
        (("none.safetensors",), "there is no file none.safetensors"),
        (("17",), "17 is not a run"),
        (("--gallery", "people.txt"), "--gallery people.txt must end in .npz"),
        (("--detector", "none.onnx"), "there is no file none.onnx"),
        (("--no-browser", "--host", "256.1.1.1"), "--host 256.1.1.1 cannot be used ("),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("explore.py", *arguments)
    assert result.code == 2
    assert message in result.error
    assert result.error.count("\n") == 1


def test_a_port_in_use_is_passed_over_unless_it_was_given(monkeypatch):
    with open_listener("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        monkeypatch.setattr(server, "PORT", port)
        with open_listener("127.0.0.1", None) as second:
            assert port < second.getsockname()[1] < port + server.PORTS_TRIED
        with pytest.raises(Exception, match="cannot be used"):
            open_listener("127.0.0.1", port)
