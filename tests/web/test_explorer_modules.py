"""The explorer's modules, each called in a browser, against what they are a port of."""

import math
import shutil
import subprocess
from statistics import NormalDist

import numpy as np
import pytest

from engine.errors import UserError
from gan.export.page_weights import page_weights
from gan.latent.arithmetic import evaluate_expression, parse_expression
from gan.latent.vectors import draw, slerp
from tests.web.browser import launch
from tests.web.made_generator import NAMES, made_directions, made_generator
from tests.web.modules_page import ADDRESS, floats, modules_page, run
from web.page_file import STATIC

browser = pytest.fixture(scope="module")(launch)
page = pytest.fixture(scope="module")(modules_page)


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
    assert itself == free  # a locked direction keeps its own strength


def test_a_lock_changes_nothing_of_a_direction_that_it_holds(page):
    code = "[['yaw'], ['yaw', 'mixed']].map((locks) => Array.from(d.step({mixed: 2}, locks, 20)))"
    (before, after), _ = directions_in_page(page, code)
    assert after == before


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
