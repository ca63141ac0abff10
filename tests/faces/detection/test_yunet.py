import numpy as np
import pytest

from engine.errors import UserError
from faces.detection.load import load_detector
from faces.detection.yunet import YuNet
from tests.faces.detection.tiny_yunet import BOX, POINTS, save_other_network, save_tiny_yunet

pytest.importorskip("cv2", reason="needs the extra 'photos'")
pytest.importorskip("onnx", reason="needs onnx to make a small network")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("yunet") / "tiny 日本.onnx"
    save_tiny_yunet(path)
    return path


def red_at(x, y, width=320, height=240, side=8):
    """Black but for a red cell whose middle is x, y."""
    image = np.zeros((3, height, width), np.uint8)
    image[0, y - side // 2 : y + side // 2, x - side // 2 : x + side // 2] = 255
    return image


def test_box_score_and_points_are_where_the_network_says(tiny):
    (face,) = load_detector(tiny)(red_at(100, 60))
    width, height = BOX
    assert face.box == pytest.approx(
        (100 - width / 2, 60 - height / 2, 100 + width / 2, 60 + height / 2), abs=0.1
    )
    assert face.score == pytest.approx(1.0, abs=1e-3)
    # The person's right eye, which a YuNet tells first, is the picture's left one.
    np.testing.assert_allclose(face.points, np.array(POINTS) + np.array([100, 60]), atol=0.1)


def test_a_large_photo_is_searched_reduced_and_answered_in_its_own_pixels(tiny):
    (face,) = YuNet(tiny)(red_at(1200, 816, width=2560, height=1280, side=64))
    left, top, right, bottom = face.box
    assert (left + right) / 2 == pytest.approx(1200, abs=8)
    assert (top + bottom) / 2 == pytest.approx(816, abs=8)
    # The smaller of the two searches sees no cell that is red all over.
    assert right - left == pytest.approx(BOX[0] * 4, rel=0.02)


def test_no_face_a_score_that_is_too_low_and_one_that_is_too_small(tiny):
    image = red_at(100, 60)
    assert YuNet(tiny)(np.zeros_like(image)) == []
    assert YuNet(tiny)(image, smallest=BOX[0] + 1) == []
    dim = (image * 0.8).astype(np.uint8)
    assert YuNet(tiny, least_score=0.9)(dim) == []
    assert len(YuNet(tiny, least_score=0.7)(dim)) == 1
    with pytest.raises(UserError, match="--least-score must be 1 or less for a YuNet, not 4"):
        YuNet(tiny, least_score=4)


def test_a_file_that_is_missing_or_something_else_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no file .*missing\.onnx"):
        YuNet(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    save_other_network(tmp_path / "other.onnx")
    for name in ("text", "other"):
        with pytest.raises(UserError, match=rf"{name}\.onnx is no YuNet"):
            YuNet(tmp_path / f"{name}.onnx")
