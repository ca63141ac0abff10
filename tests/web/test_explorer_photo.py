"""A photo in the explorer: it is fitted, refused, or given up when nobody waits for it."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch

from gan.export.generator_file import save_generator
from gan.latent.vectors import draw
from tests.web.explorer_client import Finder, Fitter, client, jpeg
from tests.web.made_generator import made_generator
from tests.web.serving import serving
from web.context import Context
from web.photo_faces import PhotoFaces
from web.text import decode_vector


@pytest.fixture
def file(tmp_path):
    save_generator(made_generator(), tmp_path / "faces.safetensors")
    return tmp_path / "faces.safetensors"


def test_a_photo_becomes_a_face(file, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", Fitter)
    visitor = client(file)
    answer = visitor.post("/api/explorer/photo", content=jpeg())
    assert answer.status_code == 200, answer.text
    assert decode_vector(answer.content) == pytest.approx(draw(1, 20, 4)[0])
    assert "2 faces" in answer.json()["note"]
    assert answer.json()["image"].startswith("data:image/png")
    assert visitor.get("/api/explorer/photo").json()["progress"] is None


class EndlessFitter(Fitter):
    started = threading.Event()

    def fit_faces(self, faces, progress):
        for step in range(12_000):  # two minutes
            progress(step / 12_000)
            self.started.set()
            time.sleep(0.01)
        raise AssertionError("not cancelled")


def test_a_fit_ends_with_the_server(file, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", EndlessFitter)
    EndlessFitter.started.clear()
    context = Context(file)
    with serving(context) as address, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{address}/api/explorer/photo", content=jpeg(), timeout=60)
        assert EndlessFitter.started.wait(60)
        context.closing.set()
        assert "the server is stopping" in answer.result(60).text


def test_a_fit_ends_when_the_page_has_gone_and_lets_others_upload_meanwhile(file, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", EndlessFitter)
    monkeypatch.setattr("web.explorer.WATCH_SECONDS", 0.05)
    EndlessFitter.started.clear()
    begun, ended = threading.Semaphore(0), threading.Semaphore(0)
    usual = PhotoFaces.fit

    def fit(*arguments):
        begun.release()
        try:
            return usual(*arguments)
        finally:
            ended.release()

    monkeypatch.setattr(PhotoFaces, "fit", fit)
    with serving(Context(file)) as address:
        url = f"{address}/api/explorer/photo"
        pages = [http.client.HTTPConnection(address.removeprefix("http://")) for _ in range(3)]
        for page in pages:  # more than may be in memory at once
            page.request("POST", "/api/explorer/photo", body=jpeg())
            assert begun.acquire(timeout=60)
        assert EndlessFitter.started.wait(60)
        # A fourth is read while the first is still fitted, and the others wait for it.
        assert "cannot be used" in httpx.post(url, content=b"no photo", timeout=60).text
        assert not ended.acquire(blocking=False)
        for page in pages:
            page.close()
        assert all(ended.acquire(timeout=60) for _ in pages)
        assert httpx.get(url, timeout=60).json()["progress"] is None


def test_a_stalled_upload_does_not_keep_its_place(file, monkeypatch):
    monkeypatch.setattr("web.uploads.SECONDS", 0.2)

    def stalled():
        yield b"a"
        time.sleep(2)
        yield b"b"

    with serving(Context(file)) as address:
        answer = httpx.post(f"{address}/api/explorer/photo", content=stalled(), timeout=20)
    assert answer.status_code == 408


def test_a_thread_that_used_torch_before_computes_on_one_core_from_then_on(file):
    context, threads = Context(file), torch.get_num_threads()

    async def count() -> tuple[int, int]:
        await context.compute(torch.set_num_threads, 3)
        before = await context.compute(torch.get_num_threads)
        await context.compute(context.generator)
        return before, await context.compute(torch.get_num_threads)

    assert asyncio.run(count()) == (3, 1)
    torch.set_num_threads(threads)


def test_a_photo_that_cannot_be_used_is_refused(file, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", Fitter)
    monkeypatch.setattr(Finder, "__call__", lambda self, photo: [])
    monkeypatch.setattr("web.photo_faces.MAX_PIXELS", 3000)
    answers = [client(file).post("/api/explorer/photo", content=data) for data in (b"", b"no photo", jpeg())]
    assert [answer.status_code for answer in answers] == [400, 400, 400]
    assert "cannot be used" in answers[1].json()["error"]
    assert "there is no face in this photo" in answers[2].json()["error"]
    monkeypatch.setattr("web.photo_faces.MAX_PIXELS", 1000)
    assert "cannot be used" in client(file).post("/api/explorer/photo", content=jpeg()).json()["error"]
