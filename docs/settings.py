"""Write docs/settings.md from the dataclasses of settings: `python docs/settings.py`."""

from __future__ import annotations

from pathlib import Path

from engine.settings import settings_tables
from faces.landmarks.settings import LandmarkSettings
from faces.recognition.settings import ClassifierSettings
from gan.config import Settings

PAGE = Path(__file__).with_name("settings.md")
INTRODUCTION = """# Settings

Generated from the dataclasses of settings by `python docs/settings.py`. `--help` has the same groups.
All training scripts also take `--resume`, `--init-from`, `--force` and `--dry-run`.
The defaults of train_gan.py are those of the preset `evening`.
"""


def settings_page() -> str:
    """The text of docs/settings.md."""
    tables = {
        "train_gan.py": Settings,
        "train_landmarks.py": LandmarkSettings,
        "train_classifier.py": ClassifierSettings,
    }
    sections = [f"## {script}\n\n{settings_tables(settings)}\n" for script, settings in tables.items()]
    return "\n".join([INTRODUCTION, *sections])


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
