"""The explorer's modules, each called in a browser, against what they are a port of."""

import io
import json
import math
import mimetypes
import re
import shutil
import subprocess
import zlib
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from gan.export.page_weights import page_weights
from gan.latent.arithmetic import evaluate_expression, parse_expression
from gan.latent.vectors import draw, slerp
from tests.web.browser import launch
from tests.web.made_generator import NAMES, made_directions, made_generator
from web.page_file import STATIC, bundle

ADDRESS = "http://page.test"


browser = pytest.fixture(scope="module")(launch)


@pytest.fixture(scope="module")
def page(browser):
    """A page on which the modules can be imported; nothing else is answered."""
    page = browser.new_page()

    def answer(route):
        path = route.request.url.removeprefix(f"{ADDRESS}/static/")
        file = STATIC / path
        if route.request.url == f"{ADDRESS}/":
            route.fulfill(body="<!doctype html>", content_type="text/html")
        elif file.is_file():
            kind = "text/javascript" if path.endswith(".js") else mimetypes.guess_type(path)[0]
            route.fulfill(body=file.read_bytes(), content_type=kind)
        else:
            route.abort()

    page.route("**/*", answer)
    page.goto(f"{ADDRESS}/")
    return page


def run(page, module: str, code: str, argument=None):
    """The value of an expression of the module `m` and of `a`, the argument."""
    source = f"""async (a) => {{ const m = await import("/static/explorer/{module}.js"); return {code}; }}"""
    return page.evaluate(source, argument)


def floats(z):
    return [float(value) for value in np.ravel(z)]


@pytest.mark.parametrize(
    ("widths", "side", "latent_size"),
    [((12, 10, 8, 6), 32, 20), ((9, 17, 8, 5), 48, 7), ((250, 150, 90, 54), 96, 100)],
)
def test_pictures_equal_those_of_torch(page, widths, side, latent_size):
    generator = made_generator(widths, side, latent_size)
    z = draw(3, latent_size, 5)
    weights = page_weights(generator, made_directions(generator))
    page.route(f"{ADDRESS}/weights", lambda route: route.fulfill(body=weights, content_type="text/plain"))
    code = """await (async () => {
        const [code, file] = await Promise.all(["/static/explorer/kernel/generator.wasm", "/weights"].map(
            async (path) => (await fetch(path)).arrayBuffer()));
        const { run } = await m.createGenerator(code, file);
        return a.map((z) => Array.from(run(z)));
    })()"""
    pictures = run(page, "kernel", code, [floats(one) for one in z])
    page.unroute(f"{ADDRESS}/weights")
    pictures = np.array(pictures).reshape(3, side, side, 4)
    assert (pictures[..., 3] == 255).all()
    expected = generator.images(z).astype(int)
    assert expected.std() > 20
    assert np.abs(pictures[..., :3].transpose(0, 3, 1, 2) - expected).max() <= 2


def test_the_kernel_is_what_its_source_gives(tmp_path):
    clang = shutil.which("clang")
    version = subprocess.run([clang, "--version"], capture_output=True, text=True).stdout if clang else ""
    if "version 14." not in version or not shutil.which("wasm-ld"):
        pytest.skip("needs clang 14 and lld: apt-get install clang lld")
    subprocess.run([STATIC / "explorer/kernel/build.sh", tmp_path / "built.wasm"], check=True)
    committed = (STATIC / "explorer/kernel/generator.wasm").read_bytes()
    assert (tmp_path / "built.wasm").read_bytes() == committed


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**40 + 7, 2**63 - 3])
def test_a_seed_gives_the_faces_of_sample(page, seed):
    found = run(page, "random", "m.draw(9, 20, a).map((z) => Array.from(z))", str(seed))
    assert np.array_equal(np.array(found, np.float32), draw(9, 20, seed))


def test_error_function_and_inverse_normal(page):
    x = [0.0, 1e-9, 0.3, -1.0, 2.4999, 2.5001, -3.3, 5.9, 7.0]
    assert run(page, "gaussian", "a.map(m.erf)", x) == pytest.approx(list(map(math.erf, x)), abs=1e-14)
    p = [1e-12, 0.001, 0.07, 0.3, 0.5, 0.9, 1 - 2**-25]
    expected = [NormalDist().inv_cdf(value) for value in p]
    assert run(page, "gaussian", "a.map(m.inverseNormal)", p) == pytest.approx(expected, rel=1e-12)


def test_moves_equal_those_of_python(page):
    directions = made_directions(made_generator())
    z = draw(1, 20, 3)[0]
    z[:3] = [1.0, -1.7, 0.0]
    strengths = {"smile": 2.0, "yaw": -7.5}
    step = sum(strength * directions[name].vector for name, strength in strengths.items())
    found = run(page, "gaussian", "Array.from(m.moveBy(a.z, a.step))", {"z": floats(z), "step": floats(step)})
    assert found == pytest.approx(floats(directions.move(z, strengths)), abs=1e-6)
    still = run(page, "gaussian", "Array.from(m.moveBy(a.z, a.z.map(() => 0)))", {"z": floats(z)})
    assert np.array_equal(np.array(still, np.float32), z)


def test_paths_equal_those_of_python(page):
    a, b = draw(2, 20, 0)
    for t in (0.0, 0.3, 1.0):
        found = run(page, "vectors", "Array.from(m.slerp(a[0], a[1], a[2]))", [floats(a), floats(b), t])
        assert found == pytest.approx(floats(slerp(a, b, t)), abs=1e-6)
    lengths = run(
        page, "vectors", "[m.path(a, 5, true).length, m.path(a, 5, false).length]", [floats(a), floats(b)]
    )
    assert lengths == [10, 6]


def test_a_vector_survives_its_text(page):
    z = floats(draw(1, 20, 7)[0])
    assert run(page, "vectors", "Array.from(m.fromText(m.toText(a), a.length))", z) == z
    for text in ("", "****", "AAAA", "AADAfwAAwH8"):
        assert run(page, "vectors", "m.fromText(a, 20)", text) is None


SUMS = [
    *(
        "3",
        "007",
        "3,17,42 - 5,8,9 + 11,12,13",
        "2*5,7",
        "-(1 - -2 - (3 - 4))",
        ".5*3 + 1.*4 - 0.25*(5,6 - 2*7)",
    ),
    *("−3 – 5,8", "5,5,8", " ((63)) "),
]
DIRECTIONS = made_directions(made_generator())
MISTAKES = [
    *("", "  ", "3,17 - 64", "3,", "3 +", "+3", "3 17", "(3", "3)", "()", "1.5", "3,1.5", "(3)*2", "3,4*5"),
    *(
        "3,(4)",
        "3,-4",
        "3 / 2",
        "1e3",
        "3²",
        "1001*3",
        "100*(1 + 11*3)",
        "-" * 60 + "3",
        "(" * 2000,
        "9" * 999,
    ),
]


def sum_in_page(page, text, names=NAMES):
    code = """(() => { try { return m.parseSum(...a); } catch (error) { return error.message; } })()"""
    return run(page, "arithmetic", code, [text, 64, list(names)])


@pytest.mark.parametrize("text", SUMS)
def test_a_sum_has_the_value_of_python(page, text):
    faces = draw(64, 20, 0)
    code = "Array.from(m.evaluateSum(m.parseSum(a.text, 64), (i) => a.faces[i], 20).z)"
    found = run(page, "arithmetic", code, {"text": text, "faces": [floats(z) for z in faces]})
    assert found == pytest.approx(floats(evaluate_expression(parse_expression(text, 64), faces)), abs=1e-5)


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_sum_has_the_message_of_python(page, text):
    with pytest.raises(UserError) as error:
        parse_expression(text, 64, DIRECTIONS)
    assert sum_in_page(page, text) == str(error.value)


def test_directions_in_sums(page):
    terms = sum_in_page(page, "17 + 1.5*smile - glasses")
    assert [(term["direction"], term["weight"]) for term in terms] == [
        (None, 1),
        ("smile", 1.5),
        ("glasses", -1),
    ]


def directions_in_page(page, code, argument=None):
    """The value of an expression of `d`, the three directions and one between smile and yaw."""
    vectors = [one.vector for one in made_directions(made_generator()).by_name.values()]
    given = [*zip(NAMES, vectors, strict=True), ("mixed", 0.6 * vectors[0] + 0.8 * vectors[2])]
    table = [{"name": name, "kind": "named", "vector": floats(vector)} for name, vector in given]
    source = f"(() => {{ const d = new m.Directions(a.table); return {code}; }})()"
    return run(page, "directions", source, {"table": table, "argument": argument}), dict(given)


def test_a_locked_direction_stays_and_the_effect_remains(page):
    code = "[[], ['yaw'], ['pose'], ['mixed']].map((locks) => Array.from(d.step({mixed: 2}, locks, 20)))"
    (free, locked, pose, itself), given = directions_in_page(page, code)
    assert free == pytest.approx(floats(2 * given["mixed"]))
    assert locked @ given["yaw"] == pytest.approx(0, abs=1e-3)
    assert locked @ given["mixed"] == pytest.approx(2, abs=1e-3)
    assert pose == locked
    assert itself == [0] * 20


def test_nearly_equal_directions_under_a_lock_do_not_explode(page):
    code = """(
        d.add({name: "twin", vector: d.get("smile").vector.map((v, i) => v + 0.01 * d.get("yaw").vector[i])}),
        Array.from(d.step({twin: 1}, ["smile"], 20)))"""
    step, _ = directions_in_page(page, code)
    assert np.linalg.norm(step) < 11


def test_identity_is_preferred_but_the_effect_remains(page):
    code = """(d.setIdentity("1.0", [d.get("yaw").vector.map((v) => 20 * v)]),
        ["1.0", "1.1"].map((base) => Array.from(d.step({mixed: 1}, ["identity"], 20, base))))"""
    (step, other), given = directions_in_page(page, code)
    assert other == pytest.approx(floats(given["mixed"]))  # that face was not measured
    assert step @ given["mixed"] == pytest.approx(1, abs=1e-6)
    assert abs(step @ given["yaw"]) < 0.1 * abs(given["mixed"] @ given["yaw"])


def test_twenty_labels_find_a_direction(page):
    random = np.random.default_rng(3)
    u = random.normal(size=(20, 20))
    strong = np.linalg.qr(random.normal(size=(20, 4)))[0]
    metric = 5 * strong @ strong.T + 0.01 * np.eye(20)
    truth = strong[:, 1]
    order = np.argsort(u @ truth)
    argument = {"plus": u[order[10:]].tolist(), "minus": u[order[:10]].tolist(), "metric": metric.tolist()}
    found = np.array(
        run(page, "directions", "Array.from(m.learnDirection(a.plus, a.minus, a.metric))", argument)
    )
    difference = u[order[10:]].mean(0) - u[order[:10]].mean(0)
    assert np.linalg.norm(found) == pytest.approx(1)
    assert found @ truth > 0.8
    assert found @ truth > difference @ truth / np.linalg.norm(difference) + 0.1


def test_text_in_a_png(page):
    code = """await (async () => {
        const canvas = document.createElement("canvas");
        const blob = await new Promise((resolve) => canvas.toBlob(resolve));
        const png = m.addText(new Uint8Array(await blob.arrayBuffer()), "face-lab", a);
        const [text, other] = ["face-lab", "Author"].map((keyword) => m.readText(png, keyword));
        return { bytes: Array.from(png), text, other };
    })()"""
    found = run(page, "png", code, "seed=1&face=1.0~smile:1")
    assert (found["text"], found["other"]) == ("seed=1&face=1.0~smile:1", None)
    png = bytes(found["bytes"])
    start = png.index(b"tEXt")
    end = start + 4 + int.from_bytes(png[start - 4 : start], "big")
    assert int.from_bytes(png[end : end + 4], "big") == zlib.crc32(png[start:end])
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.text == {"face-lab": "seed=1&face=1.0~smile:1"}
    assert (
        run(
            page,
            "png",
            "m.readText(Uint8Array.from(a), 'face-lab')",
            list(b"\x89PNG\r\n\x1a\n\xff\xff\xff\xff"),
        )
        is None
    )


def test_a_state_survives_its_text(page):
    state = {
        **{
            "seed": str(2**63 - 1),
            "tool": "label",
            "pad": ["smile", "yaw"],
            "sum": "3,17 - 5 + 1.5*smile",
            "loop": False,
        },
        "face": {"base": f"{2**63 - 1}.17", "shift": {"smile": -1.25}, "locks": ["pose", "identity"]},
        "slots": [None, {"base": "vAAAAAA", "shift": {}, "locks": []}, *[None] * 6],
        **{"plus": ["5.1", "6.2"], "minus": ["5.3"], "own": [{"name": "größe", "text": "AAAAAA"}]},
    }
    text = run(page, "address", "m.encodeState(a, 'digest')", state)
    assert read(page, text) == {"state": state, "isForeign": False, "lost": []}
    assert read(page, text, digest="another")["isForeign"]
    assert read(page, "") is read(page, "nonsense") is read(page, "a=1&g=digest") is None


def read(page, text, digest="digest"):
    """The state of a text for a generator with latent vectors of one value."""
    description = {"digest": digest, "latent_size": 1, "seed": 7}
    return run(page, "address", "m.decodeState(...a)", [text, description])


@pytest.mark.parametrize(
    ("text", "lost", "kept"),
    [
        ("seed=5", [], {"seed": "5", "face": "5.0"}),
        ("face=1.3", [], {"seed": "7", "face": "1.3"}),
        ("seed=5&face=", ["the face"], {"seed": "5", "face": "5.0"}),
        ("seed=-1&face=1.3", ["the seed"], {"seed": "7", "face": "1.3"}),
        ("seed=1e99&face=1.3", ["the seed"], {"seed": "7", "face": "1.3"}),
        (f"seed={2**63}&face=1.3", ["the seed"], {"seed": "7", "face": "1.3"}),
        ("seed=2&face=<b>", ["the face"], {"seed": "2", "face": "2.0"}),
        ("seed=2&face=1.64", ["the face"], {"face": "2.0"}),
        (f"seed=2&face={2**63}.1", ["the face"], {"face": "2.0"}),
        ("seed=2&face=vAAAA", ["the face"], {"face": "2.0"}),
        ("seed=2&face=1.3~smile:x~yaw:2", ["an edit of the face"], {"face": "1.3~yaw:2"}),
        ("seed=2&face=1.3~smile:1e999", ["an edit of the face"], {"face": "1.3"}),
        ("seed=2&face=1.3~smile:900", [], {"face": "1.3~smile:20"}),
        ("seed=2&face=1.3&slots=1.1,,%00,1.2", ["kept face 3"], {"slots": "1.1,,,1.2,,,,"}),
        ("seed=2&face=1.3&slots=" + 9 * "1.1,", ["more than 8 kept faces"], {"slots": ",".join(8 * ["1.1"])}),
        ("seed=2&face=1.3&tool=hammer&sum=3", ["the tool"], {"tool": "sliders", "sum": "3"}),
        ("seed=2&face=1.3&plus=1.1,x,1.2", ["a label"], {"plus": ["1.1", "1.2"]}),
        ("seed=2&face=1.3&own=mine:%3Cb%3E&own=:x", ["the direction mine", "a direction"], {"own": []}),
        ("seed=2&face=1.3&own=constructor:AAAAAA", ["the direction constructor"], {"own": []}),
        ("seed=2&face=1.3&own=pose:AAAAAA", ["the direction pose"], {"own": []}),
    ],
)
def test_what_cannot_be_read_of_a_state_is_named_and_the_rest_kept(text, lost, kept, page):
    found = read(page, text)
    assert found["lost"] == lost
    state = found["state"]
    state["face"] = run(page, "address", "m.encodeFace(a)", state["face"])
    state["slots"] = ",".join(run(page, "address", "a.map(m.encodeFace)", state["slots"]))
    assert {name: state[name] for name in kept} == kept


def test_undo_and_redo(page):
    code = """(() => {
        const store = new m.Store({ n: 0 });
        const seen = [];
        store.observe(({ n }) => seen.push(n));
        store.change({ n: 1 });
        store.change({ n: 2 }, false);
        store.change({ n: 3 });
        store.undo(); store.undo(); store.undo(); store.redo();
        store.change({ n: 9 });
        store.redo();
        store.undo();
        return [seen, store.canUndo, store.canRedo];
    })()"""
    assert run(page, "state", code) == [[0, 1, 2, 3, 1, 0, 1, 9, 1], True, True]


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


def test_a_module_that_a_file_cannot_contain_is_refused(tmp_path: Path):
    (tmp_path / "one.js").write_text('import { two } from "./two.js";\nexport const one = two + 1;\n')
    (tmp_path / "two.js").write_text("export const two = 2;\n")
    assert "const {two} = module0" in re.sub(r"\{ (\w+) \} =", r"{\1} =", bundle(tmp_path / "one.js"))
    for text in (
        'import two from "./two.js";',
        "export default 1;",
        'import { one } from "./one.js";\nexport const two = 1;',
    ):
        (tmp_path / "two.js").write_text(text)
        with pytest.raises(ValueError, match=r"imports itself|does not support"):
            bundle(tmp_path / "one.js")


def test_the_scores_of_directions_are_in_the_page():
    generator = made_generator()
    weights = page_weights(generator, made_directions(generator))
    size = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + size])
    table = json.loads(header["__metadata__"]["page"])["directions"]
    assert [row["name"] for row in table[:4]] == [*NAMES, "sefa_1"]
    assert table[0]["leak"] == 0.2
    assert str(Path.cwd()).encode() not in weights
