"""Photos and videos to a folder of face crops that train_gan.py eats.

    choice = PrepareChoice(Path("photos"), Path("data/me"))
    summary = prepare(choice)          # data/me/faces/..., left_out/..., manifest.csv, two contact sheets

Finding and turning faces is done by `faces.detection.load` and its neighbours; here is what is done with them.
"""

from faces.preparation.options import PrepareChoice
from faces.preparation.prepare import prepare

__all__ = ["PrepareChoice", "prepare"]
