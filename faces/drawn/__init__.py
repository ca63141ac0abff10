"""Faces drawn from parameters, with known labels: a first data set, and a test of what networks learn.

    face = sample_face(seed=0, index=7)
    image, landmarks = draw_face(face)          # uint8 [112, 112, 3], float64 [29, 2]
    write_folder("data/drawn", count=5000)      # 00000.png ..., labels.csv

`attributes` contains the parameters, `shape` the landmarks, and the other modules paint.
"""

from faces.drawn.attributes import Face, Person, Scene, sample_face, sample_person, sample_scene
from faces.drawn.folder import default_folder, write_folder
from faces.drawn.portrait import draw_face
from faces.drawn.shape import LANDMARKS

__all__ = [
    "LANDMARKS", "Face", "Person", "Scene",
    "default_folder", "draw_face", "sample_face", "sample_person", "sample_scene", "write_folder",
]  # fmt: skip
