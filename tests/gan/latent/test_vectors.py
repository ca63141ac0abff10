import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.errors import UserError
from gan.latent.vectors import (
    clamp_to_prior,
    draw,
    interpolate,
    lerp,
    load_latents,
    neighbours,
    save_latents,
    slerp,
    values_outside_prior,
)

VALUES = st.floats(-100, 100, width=32, allow_subnormal=False)


def vectors(size=5):
    return arrays(np.float32, size, elements=VALUES)


def angle(a, b) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


class TestDraw:
    def test_vectors_do_not_depend_on_the_count(self):
        faces = draw(64, 100, 7)
        assert faces.shape == (64, 100)
        assert faces.dtype == np.float32
        for count in (0, 1, 8, 63):
            assert np.array_equal(draw(count, 100, 7), faces[:count])
        assert np.array_equal(draw(1000, 100, 7)[:64], faces)

    def test_seeds_give_different_vectors(self):
        firsts = {draw(1, 100, seed).tobytes() for seed in range(100)}
        assert len(firsts) == 100

    def test_distribution_is_uniform(self):
        z = draw(10_000, 100, 0)
        assert z.min() >= -1
        assert z.max() < 1
        counts, _ = np.histogram(z, 20, (-1, 1))
        # A million draws into 20 bins: 50,000 each, with a standard deviation of 218.
        assert abs(counts - 50_000).max() < 5 * 218
        assert abs(np.corrcoef(z[:, :10].T) - np.eye(10)).max() < 0.05

    def test_values_never_change(self):
        # The seed of a grid must keep its faces: these are the values of the first release.
        assert draw(1, 4, 0)[0].tolist() == FIRST_VALUES

    def test_arguments_out_of_range(self):
        for count, size, seed in ((-1, 4, 0), (1, 0, 0), (1, 4, -1)):
            with pytest.raises(ValueError, match=r"cannot draw|non-negative|>= 0"):
                draw(count, size, seed)


FIRST_VALUES = [
    float.fromhex(value) for value in ("0x1.187f58p-2", "-0x1.d77a18p-2", "-0x1.d60b0cp-1", "-0x1.ef1364p-1")
]


class TestNeighbours:
    def test_centre_and_distances(self):
        z = draw(1, 100, 3)[0]
        around = neighbours(z, 0.25, 0)
        assert around.shape == (9, 100)
        assert around.dtype == np.float32
        assert np.array_equal(around[4], z)
        distances = np.abs(np.delete(around, 4, 0) - z)
        assert distances.max() <= 0.25 + 1e-6
        assert distances.max() > 0.24
        assert distances.mean() == pytest.approx(0.125, abs=0.01)
        assert len(np.unique(around, axis=0)) == 9

    def test_noise_is_independent_of_draw(self):
        noise = np.delete(neighbours(np.zeros(100, np.float32), 1.0, 3), 4, 0)
        correlation = np.abs(np.corrcoef(np.concatenate([noise, draw(64, 100, 3)])) - np.eye(72))
        assert correlation.max() < 0.5
        assert np.array_equal(noise, np.delete(neighbours(np.zeros(100, np.float32), 1.0, 3), 4, 0))


class TestLerp:
    @given(vectors(), vectors(), st.floats(-1, 2))
    def test_values_on_the_line(self, a, b, t):
        assert np.allclose(lerp(a, b, t), a * (1 - t) + b * t, atol=1e-3)
        assert np.array_equal(lerp(a, b, 0), a)
        assert np.array_equal(lerp(a, b, 1), b)

    @given(st.integers(0, 1000), st.floats(0, 1))
    def test_line_stays_in_the_cube(self, seed, t):
        a, b = draw(2, 100, seed)
        assert values_outside_prior(lerp(a, b, t)) == (0, 0.0)


class TestSlerp:
    @given(vectors(), vectors(), st.floats(0, 1))
    def test_norm_is_between_those_of_the_ends(self, a, b, t):
        low, high = sorted([np.linalg.norm(a.astype(float)), np.linalg.norm(b.astype(float))])
        norm = np.linalg.norm(slerp(a, b, t).astype(float))
        assert low * (1 - 1e-5) - 1e-5 <= norm <= high * (1 + 1e-5) + 1e-5

    @given(vectors(), vectors())
    def test_ends_are_exact(self, a, b):
        assert np.array_equal(slerp(a, b, 0), a)
        assert np.array_equal(slerp(a, b, 1), b)
        assert slerp(a, b, 0.5).dtype == np.float32

    @given(vectors(), vectors(), st.floats(-1, 2))
    def test_symmetry(self, a, b, t):
        assert np.allclose(slerp(a, b, t), slerp(b, a, 1 - t), atol=2e-3)

    @given(vectors(), vectors(), st.floats(-3, 4))
    def test_values_are_finite(self, a, b, t):
        assert np.isfinite(slerp(a, b, t)).all()

    @given(st.integers(0, 1000), st.floats(0, 1))
    def test_direction_turns_at_a_constant_rate(self, seed, t):
        a, b = draw(2, 100, seed)
        total = angle(a, b)
        assert angle(a, slerp(a, b, t)) == pytest.approx(t * total, abs=1e-3)
        assert angle(slerp(a, b, t), b) == pytest.approx((1 - t) * total, abs=1e-3)

    def test_quarter_circle(self):
        a, b = np.float32([2, 0, 0]), np.float32([0, 2, 0])
        assert np.allclose(slerp(a, b, 0.5), [2**0.5, 2**0.5, 0])
        assert np.allclose(slerp(a, b, 1 / 3), [3**0.5, 1, 0])
        assert np.allclose(slerp(a, 2 * b, 0.5), [3 / 2**0.5, 3 / 2**0.5, 0])

    def test_extrapolation_continues_the_circle(self):
        a, b = np.float32([2, 0]), np.float32([0, 4])
        assert np.allclose(slerp(a, b, 2), [-4, 0], atol=1e-6)
        assert np.allclose(slerp(a, b, -1), [0, -2], atol=1e-6)

    def test_parallel_vectors(self):
        a = np.float32([1, 2, 3])
        assert np.allclose(slerp(a, a, 0.3), a)
        assert np.allclose(slerp(a, 3 * a, 0.5), 2 * a)

    def test_nearly_parallel_vectors(self):
        a, b = np.float32([1, 0]), np.float32([1, 1e-6])
        assert np.allclose(slerp(a, b, 0.5), [1, 0.5e-6], rtol=1e-5, atol=0)

    @pytest.mark.parametrize("size", [2, 3, 100])
    def test_opposite_vectors(self, size):
        a = draw(1, size, 1)[0]
        centre = slerp(a, -a, 0.5)
        assert np.linalg.norm(centre) == pytest.approx(np.linalg.norm(a), rel=1e-5)
        assert angle(a, centre) == pytest.approx(np.pi / 2, abs=1e-4)
        assert np.allclose(centre, slerp(-a, a, 0.5), atol=1e-5)

    def test_zero_and_one_dimensional_vectors(self):
        zero, a = np.zeros(3, np.float32), np.float32([0, 4, 0])
        assert np.allclose(slerp(zero, a, 0.25), [0, 1, 0])
        assert np.allclose(slerp(a, zero, 0.25), [0, 3, 0])
        assert np.array_equal(slerp(zero, zero, 0.5), zero)
        assert np.allclose(slerp(np.float32([2]), np.float32([-2]), 0.5), [0])

    def test_statistics_stated_in_the_help(self):
        pairs = draw(2000, 100, 5).reshape(1000, 2, 100)
        norms = np.linalg.norm(pairs.reshape(-1, 100), axis=1)
        assert norms.mean() == pytest.approx(5.8, abs=0.05)
        assert norms.std() == pytest.approx(0.3, abs=0.05)
        line = np.stack([lerp(a, b, 0.5) for a, b in pairs])
        arc = np.stack([slerp(a, b, 0.5) for a, b in pairs])
        assert np.linalg.norm(line, axis=1).mean() == pytest.approx(4.1, abs=0.05)
        assert np.linalg.norm(arc, axis=1).mean() == pytest.approx(5.8, abs=0.05)
        assert arc.var() == pytest.approx(1 / 3, rel=0.02)
        assert values_outside_prior(arc)[0] / arc.size == pytest.approx(0.09, abs=0.01)
        assert (np.abs(arc) > 1.3).sum() / (np.abs(arc) > 1).sum() < 0.15


class TestInterpolate:
    @pytest.mark.parametrize("method", ["linear", "spherical"])
    @settings(max_examples=30)
    @given(count=st.integers(2, 5), steps=st.integers(2, 6), loop=st.booleans())
    def test_points_and_even_steps(self, method, count, steps, loop):
        points = draw(count, 20, 1)
        z = interpolate(points, steps, method, loop=loop)
        assert z.dtype == np.float32
        assert len(z) == (count if loop else count - 1) * (steps - 1) + (not loop)
        assert np.array_equal(z[:: steps - 1], points)
        if method == "linear" and steps > 2:
            gaps = np.linalg.norm(np.diff(z[:steps], axis=0), axis=1)
            assert np.allclose(gaps, gaps[0], atol=1e-5)

    def test_loop_stops_one_step_before_the_start(self):
        points = draw(3, 20, 1)
        z = interpolate(points, 5, "linear", loop=True)
        assert np.allclose(z[-1], points[2] * 0.25 + points[0] * 0.75, atol=1e-6)

    def test_invalid_arguments(self):
        points = draw(3, 20, 1)
        for arguments in ((points[:1], 5), (points, 1), (points, 5, "cubic")):
            with pytest.raises(ValueError, match=r"path needs|method is"):
                interpolate(*arguments)


class TestPriorRange:
    def test_count_distance_and_clamping(self):
        z = np.float32([[0.5, -1.0, 1.0], [1.25, -3.0, 0.0]])
        assert values_outside_prior(z) == (2, 2.0)
        assert clamp_to_prior(z).tolist() == [[0.5, -1.0, 1.0], [1.0, -1.0, 0.0]]
        assert clamp_to_prior(z).dtype == np.float32
        assert values_outside_prior(clamp_to_prior(z)) == (0, 0.0)
        assert values_outside_prior(np.float32([0.25])) == (0, 0.0)


class Malicious:
    def __reduce__(self):
        return print, ("ran",)


class TestFiles:
    def test_round_trip(self, tmp_path):
        z = draw(5, 100, 0)
        save_latents(tmp_path / "new" / "a.npy", z)
        assert np.array_equal(load_latents(tmp_path / "new" / "a.npy", 100), z)
        assert np.array_equal(np.load(tmp_path / "new" / "a.npy", allow_pickle=False), z)
        assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.npy"]

    def test_conversion_to_float32(self, tmp_path):
        np.save(tmp_path / "a.npy", np.float64([[0.1, 1]]))
        assert load_latents(tmp_path / "a.npy", 2).dtype == np.float32

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((3, 99), np.float32), "99 values; this generator takes 100"),
            (np.zeros(100, np.float32), r"\[100\]"),
            (np.zeros((0, 100), np.float32), r"\[0, 100\]"),
            (np.full((2, 100), np.nan, np.float32), "vector 0 .*is not finite"),
            (np.float64([[0.0] * 100, [0.0] * 99 + [1e300]]), "vector 1 .*is not finite"),
            (np.zeros((2, 100), complex), "of numbers"),
            (np.array([["a"] * 100]), "of numbers"),
            (np.array([[Malicious()]], dtype=object), "not a .npy file"),
        ],
    )
    def test_unusable_arrays(self, tmp_path, capsys, array, message):
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        with pytest.raises(UserError, match=message) as error:
            load_latents(tmp_path / "a.npy", 100)
        assert "a.npy" in str(error.value)
        assert "\n" not in str(error.value)
        assert capsys.readouterr().out == ""

    def test_damaged_files(self, tmp_path):
        save_latents(tmp_path / "whole.npy", draw(5, 100, 0))
        whole = (tmp_path / "whole.npy").read_bytes()
        np.savez(tmp_path / "a.npz", z=draw(5, 100, 0))
        contents = [b"", b"P", b"not an array", whole[:40], whole[:-1], whole[:200]]
        contents += [whole.replace(b"(5, 100)", b"(9**99,)"), (tmp_path / "a.npz").read_bytes()]
        contents += [whole.replace(b"(5, 100), }          ", b"(5000000000000, 100),}")]
        for content in contents:
            (tmp_path / "a.npy").write_bytes(content)
            with pytest.raises(UserError, match=r"a\.npy"):
                load_latents(tmp_path / "a.npy", 100)

    def test_missing_file_or_folder(self, tmp_path):
        for place in (tmp_path, tmp_path / "nowhere.npy"):
            with pytest.raises(UserError, match="cannot read latents"):
                load_latents(place, 100)
