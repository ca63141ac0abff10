import numpy as np
import pytest

from engine.errors import UserError
from faces.detection import load_detector
from faces.detection.yunet import YuNet
from tests.faces.detection.tiny_yunet import BOX, POINTS, save_other_network, save_tiny_yunet

pytest.importorskip("cv2", reason="needs the extra 'photos'")
pytest.importorskip("onnx", reason="needs onnx to make a small network")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("yunet") / "tiny 日本.onnx"
    save_tiny_yunet(path)
    return path


def red_square(x, y, width=320, height=240, side=8):
    """A black image with a red square centred at x, y."""
    image = np.zeros((3, height, width), np.uint8)
    image[0, y - side // 2 : y + side // 2, x - side // 2 : x + side // 2] = 255
    return image


def test_box_score_and_keypoints(tiny):
    (face,) = load_detector(tiny)(red_square(100, 60))
    width, height = BOX
    assert face.box == pytest.approx(
        (100 - width / 2, 60 - height / 2, 100 + width / 2, 60 + height / 2), abs=0.1
    )
    assert face.score == pytest.approx(1.0, abs=1e-3)
    # YuNet begins with the person's right eye, which is on the left of the image.
    np.testing.assert_allclose(face.keypoints, np.array(POINTS) + np.array([100, 60]), atol=0.1)


def test_boxes_of_a_reduced_photo_are_in_its_own_pixels(tiny):
    (face,) = YuNet(tiny)(red_square(1200, 816, width=2560, height=1280, side=64))
    left, top, right, bottom = face.box
    assert (left + right) / 2 == pytest.approx(1200, abs=8)
    assert (top + bottom) / 2 == pytest.approx(816, abs=8)
    # In the smaller of the two search sizes no cell is entirely red.
    assert right - left == pytest.approx(BOX[0] * 4, rel=0.02)


def test_min_score_and_min_width(tiny):
    image = red_square(100, 60)
    assert YuNet(tiny)(np.zeros_like(image)) == []
    assert YuNet(tiny)(image, min_width=BOX[0] + 1) == []
    dim = (image * 0.8).astype(np.uint8)
    assert YuNet(tiny, min_score=0.9)(dim) == []
    assert len(YuNet(tiny, min_score=0.7)(dim)) == 1
    with pytest.raises(UserError, match="--min-score must be 1 or less for a YuNet, not 4"):
        YuNet(tiny, min_score=4)


def test_missing_or_invalid_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no file .*missing\.onnx"):
        YuNet(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    save_other_network(tmp_path / "other.onnx")
    for name in ("text", "other"):
        with pytest.raises(UserError, match=rf"{name}\.onnx is not a YuNet"):
            YuNet(tmp_path / f"{name}.onnx")
