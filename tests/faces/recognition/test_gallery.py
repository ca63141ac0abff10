import contextlib
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from engine.lock import locked
from faces.recognition import gallery as module
from faces.recognition.gallery import (
    Gallery,
    check_threshold,
    empty_gallery,
    load_gallery,
    unit_vectors,
    update_gallery,
)

NETWORK = "0123456789abcdef"


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    """Ada along x and at 45 degrees, Bo along y."""
    empty = empty_gallery(NETWORK, tmp_path / "best.pt")
    return empty.enroll("Ada", [[2, 0], [3, 3]]).enroll("Bo", [[0, 0.1]])


def test_who_is_in_it(gallery):
    assert gallery.people == {"Ada": 2, "Bo": 1}
    assert gallery.enroll("Bo", [[1, 5]]).people == {"Ada": 2, "Bo": 2}
    assert gallery.remove("Ada").people == {"Bo": 1}
    assert gallery.remove("Ada").vectors.tolist() == [[0, 1]]
    assert gallery.people == {"Ada": 2, "Bo": 1}, "a gallery is never changed in place"
    np.testing.assert_allclose(np.linalg.norm(gallery.vectors, axis=1), 1, rtol=1e-6)


def test_the_same_image_twice_is_there_once(gallery):
    again = gallery.enroll("Ada", [[4, 0], [1, 1.00001], [0, 1], [0, 3]])
    assert again.people == {"Ada": 3, "Bo": 1}
    assert again.vectors[-1].tolist() == [0, 1], "Bo's vector is new to Ada"
    assert np.array_equal(gallery.enroll("Bo", [[0, 1]]).vectors, gallery.vectors)


def test_a_gallery_is_changed_by_one_process_at_a_time(gallery, tmp_path, monkeypatch):
    path = tmp_path / "new" / "people.npz"
    before, after = update_gallery(path, lambda it: it.remove("Bo"), gallery)
    assert (before.people, after.people) == ({"Ada": 2, "Bo": 1}, {"Ada": 2})

    def meanwhile(read: Gallery) -> Gallery:
        monkeypatch.setattr(module, "WAIT", 0.1)
        with pytest.raises(UserError, match=r"another process is changing people\.npz"):
            update_gallery(path, lambda it: it.remove("Ada"))
        return read.enroll("Cy", [[1, 2]])

    update_gallery(path, meanwhile, gallery)
    assert load_gallery(path).people == {"Ada": 2, "Cy": 1}
    with locked(path.parent):
        update_gallery(path, lambda it: it.remove("Cy"))  # a run in the same folder is no hindrance


def test_the_best_cosine_names_by_hand(gallery):
    # 30 degrees from x: 15 from Ada's second vector and 60 from Bo's.
    face = [[np.cos(np.pi / 6) * 9, np.sin(np.pi / 6) * 9]]
    np.testing.assert_allclose(gallery.similarities(face), [[np.cos(np.pi / 12), 0.5]], rtol=1e-6)
    (match,) = gallery.identify(face, 0.9)
    assert (match.name, match.nearest) == ("Ada", "Ada")
    assert match.similarity == pytest.approx(np.cos(np.pi / 12))
    (match,) = gallery.identify(face, 0.97)
    assert (match.name, match.nearest) == (None, "Ada")
    assert gallery.identify([[0, 1], [-1, -1]], 0.5)[0].name == "Bo"


def test_a_similarity_equal_to_the_threshold_is_enough(gallery):
    assert gallery.identify([[0, 1]], 1.0)[0].name == "Bo"


def test_it_comes_back_from_its_file_which_holds_no_code(gallery, tmp_path):
    path = tmp_path / "дом" / "people.npz"
    full = gallery.enroll("Zoë Ж", [[1, -1]]).with_threshold(0.25)
    full.save(path)
    back = load_gallery(path, NETWORK)
    assert (back.names, back.threshold, back.checkpoint) == (full.names, 0.25, full.checkpoint)
    assert np.array_equal(back.vectors, full.vectors)
    with np.load(path, allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored)
    gallery.save(path)
    assert load_gallery(path).threshold is None


def test_nobody_left_is_still_a_gallery(gallery, tmp_path):
    nobody = gallery.remove("Ada").remove("Bo")
    nobody.save(tmp_path / "g.npz")
    back = load_gallery(tmp_path / "g.npz", NETWORK)
    assert back.people == {}
    assert back.enroll("Cy", [[1, 0, 0]]).vectors.shape == (1, 3)
    with pytest.raises(UserError, match="nobody is in the gallery"):
        back.identify([[1, 0]], 0)


def test_another_network_is_refused(gallery, tmp_path):
    gallery.save(tmp_path / "g.npz")
    with pytest.raises(UserError, match="gallery of another network"):
        load_gallery(tmp_path / "g.npz", "fedcba9876543210")


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.savez(tmp_path / "evil.npz", format=np.array([Evil()], object))
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.npz", "evil.pkl"):
        with pytest.raises(UserError, match="damaged, or no gallery"):
            load_gallery(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_files_that_are_none(gallery, tmp_path):
    with pytest.raises(UserError, match="cannot be opened: No such file"):
        load_gallery(tmp_path / "gone.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match="damaged, or no gallery"):
        load_gallery(tmp_path / "text.npz")
    whole = tmp_path / "whole.npz"
    gallery.save(whole)
    for length in range(0, whole.stat().st_size, 97):
        (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:length])
        with pytest.raises(UserError, match="damaged, or no gallery"):
            load_gallery(tmp_path / "cut.npz")


def test_a_file_in_which_bytes_have_changed_is_one_line(gallery, tmp_path):
    gallery.save(tmp_path / "g.npz")
    whole, unharmed = (tmp_path / "g.npz").read_bytes(), 0
    places = range(0, len(whole), 5)
    for place in places:
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        (tmp_path / "g.npz").write_bytes(broken)
        # What nobody checks, such as a date, does no harm.
        with contextlib.suppress(UserError):
            load_gallery(tmp_path / "g.npz")
            unharmed += 1
    assert unharmed < len(places) / 2


def test_changing_what_is_not_there_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="cannot be opened: No such file"):
        update_gallery(tmp_path / "new" / "gone.npz", lambda it: it)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_one(gallery, tmp_path, monkeypatch):
    path = tmp_path / "g.npz"
    gallery.save(path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(UserError, match="No space left"):
        gallery.remove("Bo").save(path)
    assert load_gallery(path).people == gallery.people
    assert [left.name for left in tmp_path.iterdir()] == ["g.npz"]


@pytest.mark.parametrize("threshold", [-1.01, 1.01, float("nan"), float("inf")])
def test_thresholds_outside_of_cosines(gallery, threshold):
    with pytest.raises(UserError, match="from -1 to 1"):
        gallery.identify([[1, 0]], threshold)
    with pytest.raises(UserError, match="from -1 to 1"):
        gallery.with_threshold(threshold)
    assert check_threshold(-1) == -1.0


@pytest.mark.parametrize("name", ["", "  ", "\u3000", "two\nlines", "two\u2028lines"])
def test_names_that_are_none(gallery, name):
    with pytest.raises(UserError, match="is no name"):
        gallery.enroll(name, [[1, 0]])


@pytest.mark.parametrize(
    "name",
    [
        *("Zoe\u0308 Ünal", "  Zoë   Ünal ", "Zo\u00eb U\u0308nal"),
        *("Zoë\u3000Ünal", "Zoë\u00a0Ünal\u2009"),
    ],
)
def test_a_name_that_looks_the_same_is_the_same(gallery, name):
    known = gallery.enroll("Zoë Ünal", [[1, 2]]).enroll(name, [[2, 1]])
    assert known.people == {"Ada": 2, "Bo": 1, "Zoë Ünal": 2}
    assert known.remove(name).people == gallery.people


def test_who_has_a_vector(gallery):
    both = gallery.enroll("Cy", [[0, 1], [1, 0.2]])
    assert [both.people_with(vector) for vector in unit_vectors([[0, 3], [9, 0], [1, -1]])] == [
        ["Bo", "Cy"],
        ["Ada"],
        [],
    ]
    assert empty_gallery(NETWORK, gallery.checkpoint).people_with([1, 0]) == []


def test_who_is_not_there_cannot_be_removed(gallery):
    with pytest.raises(UserError, match="Cy is not in the gallery; there are: Ada, Bo"):
        gallery.remove("Cy")


@pytest.mark.parametrize("vectors", [[[0, 0]], [[np.nan, 1]], [1, 0], [[1, 0, 0]]])
def test_vectors_that_are_none(gallery, vectors):
    with pytest.raises(ValueError, match="vector"):
        gallery.enroll("Cy", vectors)


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=1, max_size=9))
def test_lengths_say_nothing(rows):
    vectors = np.array(rows) + np.array([10, 0, 0])
    np.testing.assert_allclose(unit_vectors(vectors), unit_vectors(vectors * 7), atol=1e-6)
