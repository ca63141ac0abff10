"""Eyes that a cascade finds in generated and in real faces."""

import re

import numpy as np
import pytest

from experiments.eyes import has_both_eyes
from faces.drawn import draw_face, sample_face
from tests.in_process import refusal, succeed

pytest.importorskip("cv2")


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("columns", [slice(0, 48), slice(48, 96)])
def test_both_eyes_are_found_unless_one_is_covered(number, columns):
    face = np.moveaxis(draw_face(sample_face(0, number), 96)[0], -1, 0).copy()
    assert has_both_eyes(face)
    face[:, 25:55, columns] = face[:, 55:56, 47:48]
    assert not has_both_eyes(face)


def test_the_share_is_printed_beside_that_of_real_images(tiny_run):
    lines = succeed("experiments/eyes.py", tiny_run, "--checkpoint", "newest", "--count", 20).lines
    assert lines[0] == "both eyes found, by ema weights of step 6:"
    assert re.fullmatch(r"generated: 0\.\d{3} ± 0\.\d{3} of 20 faces", lines[1])
    assert re.fullmatch(r"real: 0\.\d{3} ± 0\.\d{3} of 20 faces", lines[2])


def test_a_file_of_a_generator_is_refused():
    assert "does not name the real faces" in refusal("experiments/eyes.py", "drawn")
