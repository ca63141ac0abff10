"""Photos and videos to a folder of face crops that train_gan.py eats.

    choice = PrepareChoice(Path("photos"), Path("data/me"))
    summary = prepare(choice)          # data/me/faces/..., left_out/..., manifest.csv, two contact sheets

Finding and turning faces is the work of `faces.detection`; here is what is done with them.
"""

from faces.preparation.folder import prepare
from faces.preparation.options import PrepareChoice

__all__ = ["PrepareChoice", "prepare"]
