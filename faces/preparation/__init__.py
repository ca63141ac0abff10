"""Photos and videos to a folder of face crops for train_gan.py.

    summary = prepare(PrepareArguments(Path("photos"), Path("data/me")))
    # data/me/faces/..., left_out/..., manifest.csv, contact sheets

`faces.detection` detects the faces; this package crops, assesses and records them.
"""

from faces.preparation.folder import prepare
from faces.preparation.options import PrepareArguments

__all__ = ["PrepareArguments", "prepare"]
