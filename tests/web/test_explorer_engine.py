"""Which pictures the explorer's workers make first, and which are dropped."""

from __future__ import annotations

import pytest

from tests.web.browser import launch
from tests.web.modules_page import modules_page, run

browser = pytest.fixture(scope="module")(launch)
page = pytest.fixture(scope="module")(modules_page)


def test_the_latest_request_wins_and_the_most_urgent_goes_first(page):
    code = """await (async () => {
        const engine = new m.Engine(1), sent = [], workers = [];
        const add = () => {
            const worker = {
                postMessage(message) { if (message.z) sent.push([message.z, worker, message.id]); },
            };
            workers.push(worker);
            const ready = engine.add(worker, {});
            worker.onmessage({ data: { ready: true } });
            return ready;
        };
        await add();
        await add();
        const results = {};
        const ask = async (z, options) => {
            const picture = await engine.picture(z, options);
            results[z] = picture && picture.data[0];
        };
        const finish = async (z) => {
            const [, worker, id] = sent.find((one) => one[0] === z);
            worker.onmessage({ data: { id, pixels: new Uint8ClampedArray([z, 0, 0, 255]) } });
            await new Promise((resolve) => setTimeout(resolve));
        };
        ask(1, { purpose: "face", urgency: 2 }); ask(2, { purpose: "face", urgency: 2 });
        ask(10, {}); ask(3, { purpose: "face", urgency: 2 }); ask(4, { purpose: "face", urgency: 2 });
        await finish(2);
        await finish(1);
        await finish(4);
        await finish(10);
        return [sent.map(([z]) => z), results];
    })()"""
    order, results = run(page, "engine", code)
    assert order == [1, 2, 4, 10]
    # 3 was replaced while it waited; 1 came after 2 and must not be shown over it.
    assert results == {"1": None, "2": 2, "3": None, "4": 4, "10": 10}
