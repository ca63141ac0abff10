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


def test_enroll_and_remove_return_new_galleries(gallery):
    assert gallery.people == {"Ada": 2, "Bo": 1}
    assert gallery.enroll("Bo", [[1, 5]]).people == {"Ada": 2, "Bo": 2}
    assert gallery.remove("Ada").people == {"Bo": 1}
    assert gallery.remove("Ada").embeddings.tolist() == [[0, 1]]
    assert gallery.people == {"Ada": 2, "Bo": 1}, "not changed in place"
    np.testing.assert_allclose(np.linalg.norm(gallery.embeddings, axis=1), 1, rtol=1e-6)


def test_duplicate_embeddings_are_skipped(gallery):
    again = gallery.enroll("Ada", [[4, 0], [1, 1.00001], [0, 1], [0, 3]])
    assert again.people == {"Ada": 3, "Bo": 1}
    assert again.embeddings[-1].tolist() == [0, 1], "Bo's embedding is new to Ada"
    assert np.array_equal(gallery.enroll("Bo", [[0, 1]]).embeddings, gallery.embeddings)


def test_update_locks_the_gallery(gallery, tmp_path, monkeypatch):
    path = tmp_path / "new" / "people.npz"
    before, after = update_gallery(path, lambda it: it.remove("Bo"), gallery)
    assert (before.people, after.people) == ({"Ada": 2, "Bo": 1}, {"Ada": 2})

    def update_twice(loaded: Gallery) -> Gallery:
        monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.1)
        with pytest.raises(UserError, match=r"another process is changing people\.npz"):
            update_gallery(path, lambda it: it.remove("Ada"))
        return loaded.enroll("Cy", [[1, 2]])

    update_gallery(path, update_twice, gallery)
    assert load_gallery(path).people == {"Ada": 2, "Cy": 1}
    with locked(path.parent):
        update_gallery(path, lambda it: it.remove("Cy"))  # a run in the same folder has another lock


def test_identification_by_hand(gallery):
    # 30 degrees from x: 15 from Ada's second embedding and 60 from Bo's.
    face = [[np.cos(np.pi / 6) * 9, np.sin(np.pi / 6) * 9]]
    np.testing.assert_allclose(gallery.similarities(face), [[np.cos(np.pi / 12), 0.5]], rtol=1e-6)
    (match,) = gallery.identify(face, 0.9)
    assert (match.name, match.nearest) == ("Ada", "Ada")
    assert match.similarity == pytest.approx(np.cos(np.pi / 12))
    (match,) = gallery.identify(face, 0.97)
    assert (match.name, match.nearest) == (None, "Ada")
    assert gallery.identify([[0, 1], [-1, -1]], 0.5)[0].name == "Bo"


def test_similarity_equal_to_the_threshold_is_accepted(gallery):
    assert gallery.identify([[0, 1]], 1.0)[0].name == "Bo"


def test_save_and_load_without_pickle(gallery, tmp_path):
    path = tmp_path / "дом" / "people.npz"
    saved = gallery.enroll("Zoë Ж", [[1, -1]]).with_threshold(0.25)
    saved.save(path)
    loaded = load_gallery(path, NETWORK)
    assert (loaded.names, loaded.threshold, loaded.checkpoint) == (saved.names, 0.25, saved.checkpoint)
    assert np.array_equal(loaded.embeddings, saved.embeddings)
    with np.load(path, allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored)
    gallery.save(path)
    assert load_gallery(path).threshold is None


def test_empty_gallery_is_usable(gallery, tmp_path):
    nobody = gallery.remove("Ada").remove("Bo")
    nobody.save(tmp_path / "g.npz")
    loaded = load_gallery(tmp_path / "g.npz", NETWORK)
    assert loaded.people == {}
    assert loaded.enroll("Cy", [[1, 0, 0]]).embeddings.shape == (1, 3)
    with pytest.raises(UserError, match="the gallery is empty"):
        loaded.identify([[1, 0]], 0)


def test_other_network_is_an_error(gallery, tmp_path):
    gallery.save(tmp_path / "g.npz")
    with pytest.raises(UserError, match="gallery of another network"):
        load_gallery(tmp_path / "g.npz", "fedcba9876543210")


def test_pickled_code_is_not_run(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.savez(tmp_path / "malicious.npz", format=np.array([Malicious()], object))
    (tmp_path / "malicious.pkl").write_bytes(pickle.dumps(Malicious()))
    for name in ("malicious.npz", "malicious.pkl"):
        with pytest.raises(UserError, match="damaged, or not a gallery"):
            load_gallery(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_unreadable_files(gallery, tmp_path):
    with pytest.raises(UserError, match="cannot be opened: No such file"):
        load_gallery(tmp_path / "gone.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match="damaged, or not a gallery"):
        load_gallery(tmp_path / "text.npz")
    gallery.save(tmp_path / "g.npz")
    content = (tmp_path / "g.npz").read_bytes()
    for length in range(0, len(content), 97):
        (tmp_path / "cut.npz").write_bytes(content[:length])
        with pytest.raises(UserError, match="damaged, or not a gallery"):
            load_gallery(tmp_path / "cut.npz")


def test_corrupt_bytes_raise_only_user_errors(gallery, tmp_path):
    gallery.save(tmp_path / "g.npz")
    content, loadable = (tmp_path / "g.npz").read_bytes(), 0
    offsets = range(0, len(content), 5)
    for offset in offsets:
        corrupt = bytearray(content)
        corrupt[offset] ^= 0xFF
        (tmp_path / "g.npz").write_bytes(corrupt)
        # Some bytes, such as a date, do not matter.
        with contextlib.suppress(UserError):
            load_gallery(tmp_path / "g.npz")
            loadable += 1
    assert loadable < len(offsets) / 2


def test_update_of_a_missing_file_leaves_no_files(tmp_path):
    with pytest.raises(UserError, match="cannot be opened: No such file"):
        update_gallery(tmp_path / "new" / "gone.npz", lambda it: it)
    assert not list(tmp_path.iterdir())


def test_failed_save_keeps_the_old_file(gallery, tmp_path, monkeypatch):
    path = tmp_path / "g.npz"
    gallery.save(path)

    def disk_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", disk_full)
    with pytest.raises(UserError, match="No space left"):
        gallery.remove("Bo").save(path)
    assert load_gallery(path).people == gallery.people
    assert [file.name for file in tmp_path.iterdir()] == ["g.npz"]


@pytest.mark.parametrize("threshold", [-1.01, 1.01, float("nan"), float("inf")])
def test_invalid_thresholds(gallery, threshold):
    with pytest.raises(UserError, match="from -1 to 1"):
        gallery.identify([[1, 0]], threshold)
    with pytest.raises(UserError, match="from -1 to 1"):
        gallery.with_threshold(threshold)
    assert check_threshold(-1) == -1.0


@pytest.mark.parametrize("name", ["", "  ", "\u3000", "\u200d", "two\nlines", "two\u2028lines"])
def test_invalid_names(gallery, name):
    with pytest.raises(UserError, match="is not a name"):
        gallery.enroll(name, [[1, 0]])


@pytest.mark.parametrize(
    "name",
    [
        *("Zoe\u0308 Ünal", "  Zoë   Ünal ", "Zo\u00eb U\u0308nal"),
        *("Zoë\u3000Ünal", "Zoë\u00a0Ünal\u2009"),
    ],
)
def test_names_that_look_the_same_are_the_same(gallery, name):
    enrolled = gallery.enroll("Zoë Ünal", [[1, 2]]).enroll(name, [[2, 1]])
    assert enrolled.people == {"Ada": 2, "Bo": 1, "Zoë Ünal": 2}
    assert enrolled.remove(name).people == gallery.people


@pytest.mark.parametrize("name", ["\u0dc1\u0dca\u200d\u0dbb\u0dd3", "\u0645\u06cc\u200c\u0646\u0627"])
def test_names_may_have_joiners_where_the_script_needs_them(gallery, name):
    assert gallery.enroll(name, [[1, 2]]).people[name] == 1


def test_people_with_an_embedding(gallery):
    both = gallery.enroll("Cy", [[0, 1], [1, 0.2]])
    assert [both.people_with(vector) for vector in unit_vectors([[0, 3], [9, 0], [1, -1]])] == [
        ["Bo", "Cy"],
        ["Ada"],
        [],
    ]
    assert empty_gallery(NETWORK, gallery.checkpoint).people_with([1, 0]) == []


def test_remove_of_a_missing_name(gallery):
    with pytest.raises(UserError, match="Cy is not in the gallery, which has: Ada, Bo"):
        gallery.remove("Cy")


@pytest.mark.parametrize("vectors", [[[0, 0]], [[np.nan, 1]], [1, 0], [[1, 0, 0]]])
def test_invalid_embeddings(gallery, vectors):
    with pytest.raises(ValueError, match="vector"):
        gallery.enroll("Cy", vectors)


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=1, max_size=9))
def test_unit_vectors_ignore_the_length(rows):
    vectors = np.array(rows) + np.array([10, 0, 0])
    np.testing.assert_allclose(unit_vectors(vectors), unit_vectors(vectors * 7), atol=1e-6)
