"""Faces drawn from parameters, with every label known: data to start with, and to check what is learnt.

    face = sample_face(seed=0, index=7)
    image, landmarks = draw_face(face)          # uint8 [112, 112, 3], float64 [29, 2]
    write_folder("data/drawn", count=5000)      # 00000.png ..., labels.csv

The parameters are in `traits`, the landmarks' names in `shape`; the other files paint.
"""

from faces.drawn.attributes import Face, Moment, Person, sample_face, sample_moment, sample_person
from faces.drawn.folder import default_folder, write_folder
from faces.drawn.portrait import draw_face
from faces.drawn.shape import AREAS, LANDMARKS, MIRROR

__all__ = [
    "AREAS", "LANDMARKS", "MIRROR", "Face", "Moment", "Person",
    "default_folder", "draw_face", "sample_face", "sample_moment", "sample_person", "write_folder",
]  # fmt: skip
