import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from engine.errors import UserError
from gan.export.generator_file import load_generator_file, save_generator
from gan.generator import load_generator
from gan.latent.directions import KEY, Direction, Directions, parse_strengths, path_of, to_name
from gan.latent.gaussian import to_gaussian
from gan.latent.vectors import draw

SIZE = 100


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=SIZE)
    return vector / np.linalg.norm(vector)


DIRECTIONS = Directions(
    "0123456789abcdef",
    {"smile": Direction(unit(0), "landmarks", {"effect": 0.8}), "glasses": Direction(unit(1), "classifier")},
)


class TestMove:
    def test_a_strength_is_a_distance_along_the_unit_vector(self):
        z = draw(5, SIZE, 0)
        moved = DIRECTIONS.move(z, {"smile": 1.5, "glasses": -1})
        assert moved.dtype == np.float32
        step = to_gaussian(moved) - to_gaussian(z)
        assert abs(step - (1.5 * unit(0) - unit(1))).max() < 1e-3

    def test_strength_0_returns_the_bits(self):
        z = draw(5, SIZE, 0) * 1.7
        z[0, 0], z[0, 1] = -1, -0.0
        for strengths in ({}, {"smile": 0.0}, {"smile": 0.0, "glasses": -0.0}):
            assert DIRECTIONS.move(z, strengths).tobytes() == z.tobytes()
        assert DIRECTIONS.move(z[0], {}).tobytes() == z[0].tobytes()

    @given(st.floats(-100, 100), st.integers(0, 1000))
    def test_never_leaves_the_prior(self, strength, seed):
        z = draw(3, SIZE, seed)
        z[0] = np.where(np.arange(SIZE) % 2, 1, -1)
        assert abs(DIRECTIONS.move(z, {"smile": strength})).max() <= 1

    @given(st.floats(-3, 3), st.integers(0, 1000))
    def test_moving_back_returns(self, strength, seed):
        z = draw(3, SIZE, seed)
        back = DIRECTIONS.move(DIRECTIONS.move(z, {"smile": strength}), {"smile": -strength})
        assert abs(back - z).max() < 1e-5

    def test_excess_over_the_prior_is_kept(self):
        z = draw(1, SIZE, 0)[0]
        z[:3] = 1.5, -2, 1
        moved = DIRECTIONS.move(z, {"smile": 1})
        inside = DIRECTIONS.move(np.clip(z, -1, 1), {"smile": 1})
        assert abs(moved - inside - (z - np.clip(z, -1, 1))).max() < 1e-6
        assert abs(moved[:3] - z[:3]).max() < 0.01

    def test_unknown_names_and_wild_strengths_are_refused(self):
        z = draw(1, SIZE, 0)
        with pytest.raises(UserError, match=r"no direction grin; the directions .* are smile, glasses$"):
            DIRECTIONS.move(z, {"grin": 1})
        with pytest.raises(UserError, match=r"has no directions yet; run directions\.py to find some"):
            Directions("").move(z, {"grin": 1})
        for strength in (float("nan"), float("inf"), 101):
            with pytest.raises(UserError, match="the strength of smile must be -100 to 100"):
                DIRECTIONS.move(z, {"smile": strength})


@pytest.fixture(scope="module")
def generator(tiny_run):
    return load_generator(tiny_run)


class TestFiles:
    def test_saved_directions_load_exactly(self, tmp_path):
        DIRECTIONS.save(path_of(tmp_path))
        loaded = Directions.load(tmp_path)
        assert loaded.names == ("smile", "glasses")
        assert loaded.generator == DIRECTIONS.generator
        assert loaded["smile"].scores == {"effect": 0.8}
        assert all(np.array_equal(loaded[name].vector, DIRECTIONS[name].vector) for name in loaded.names)
        table = json.loads((tmp_path / "directions.json").read_text())
        assert table[0] == {"name": "smile", "source": "landmarks", "effect": 0.8}

    def test_they_belong_to_one_generator_also_in_half_precision(self, generator, tiny_run, tmp_path):
        assert Directions.of(generator).names == ()
        run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
        directions = replace(DIRECTIONS, generator=generator.digest)
        directions.save(path_of(run))
        assert Directions.of(load_generator(run)).names == directions.names
        with pytest.raises(UserError, match="belongs to another generator, or to other weights of this one"):
            Directions.of(load_generator(run, raw=True))
        for half in (False, True):
            file = tmp_path / f"{half}.safetensors"
            save_generator(generator, file, half=half)
            assert Directions.of(load_generator_file(file)).names == ()
            directions.save(path_of(file))
            assert path_of(file).name == f"{half}.directions.safetensors"
            assert Directions.of(load_generator_file(file)).names == directions.names

    def test_directions_of_another_size_are_refused(self, generator, tmp_path):
        run = Path(shutil.copytree(generator.run, tmp_path / "run"))
        Directions(generator.digest, {"smile": Direction(np.eye(7)[0], "x")}).save(path_of(run))
        with pytest.raises(UserError, match="its directions have 7 values, not 100"):
            Directions.of(load_generator(run))

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ("truncated", "is damaged, or not a .safetensors file"),
            ("text", "is damaged, or not a .safetensors file"),
            ("no directions", "contains no directions"),
            ("other format", "in another format; this version reads face-lab directions 1"),
            ("description", "its description cannot be read"),
            ("fewer", "do not fit their description"),
            ("NaN", "a direction is not of length 1"),
            ("long", "a direction is not of length 1"),
            ("name", "'no smile' is not a valid direction name"),
        ],
    )
    def test_a_damaged_file_is_refused_in_one_line(self, tmp_path, how, message):
        file = path_of(tmp_path)
        DIRECTIONS.save(file)
        with safe_open(file, "np") as opened:
            metadata, vectors = opened.metadata(), opened.get_tensor(KEY)
        edits = {
            "no directions": lambda: metadata.clear(),
            "other format": lambda: metadata.update({KEY: metadata[KEY].replace("directions 1", "x")}),
            "description": lambda: metadata.update({KEY: metadata[KEY][:-5]}),
            "NaN": lambda: vectors.__setitem__((0, 0), np.nan),
            "long": lambda: vectors.__imul__(2),
            "name": lambda: metadata.update({KEY: metadata[KEY].replace("smile", "no smile")}),
        }
        edits.get(how, lambda: None)()
        vectors = vectors[:1] if how == "fewer" else vectors
        content = safetensors.numpy.save({KEY: vectors}, metadata)
        file.write_bytes({"truncated": content[:-9], "text": b"smile"}.get(how, content))
        with pytest.raises(UserError, match=message) as error:
            Directions.load(tmp_path)
        assert "\n" not in str(error.value)

    def test_missing_and_unwritable_files(self, tmp_path):
        with pytest.raises(UserError, match=r"directions\.safetensors cannot be read: No such file"):
            Directions.load(tmp_path)
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot be written to"):
            DIRECTIONS.save(tmp_path / "file" / "directions.safetensors")


def test_names_and_strengths():
    assert [to_name(text) for text in ("no glasses", "0", "Zoë", "a-b/c", "")] == [
        *("no_glasses", "class_0", "Zoë", "a_b_c", "class")
    ]
    assert parse_strengths(["smile=1.5", "glasses=-1"]) == {"smile": 1.5, "glasses": -1}
    for words in (["smile"], ["smile=big"], ["=1"], ["smile=nan"], ["smile=1000"], ["a=1", "a=2"]):
        with pytest.raises(UserError, match=r"NAME=STRENGTH|given twice"):
            parse_strengths(words)


def test_removing_and_replacing():
    assert DIRECTIONS.without(["smile"]).names == ("glasses",)
    assert DIRECTIONS.with_directions({"smile": Direction(unit(2), "tiles")})["smile"].source == "tiles"
    with pytest.raises(UserError, match="no direction grin"):
        DIRECTIONS.without(["grin"])
