"""The threshold below which predict names no class: a file in the run's folder, beside its checkpoints.

Strangers get lower probabilities than the classes do (Hendrycks and Gimpel 2017). Nothing here imports torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UserError
from engine.files import atomic_write
from engine.runs import report_write_errors
from faces.recognition.open_set import OpenSet, check_scale, from_json

if TYPE_CHECKING:
    from faces.recognition.recognizer import Recognizer

FILE = "threshold.json"


def threshold_path(checkpoint: Path) -> Path:
    """The threshold's file: in the run's folder, or beside a checkpoint outside of a run."""
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent / FILE
    return checkpoint.with_suffix(f".{FILE}")


def save_threshold(recognizer: Recognizer, threshold: float, open_set: OpenSet | None = None) -> Path:
    """Write the threshold of a network, and what was measured, and return its file.

    Raises:
        UserError: the file cannot be written.
    """
    path = threshold_path(recognizer.checkpoint)
    with report_write_errors(path.parent), atomic_write(path) as temporary:
        content = {"network": recognizer.digest, "threshold": threshold}
        content |= {} if open_set is None else {"open_set": open_set.to_json()}
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def load_threshold(recognizer: Recognizer) -> tuple[float, list[str]]:
    """The threshold of a network, 0 if there is none, and notes.

    Raises:
        UserError: the file cannot be read.
    """
    path = threshold_path(recognizer.checkpoint)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        network, threshold = content["network"], float(content["threshold"])
    except FileNotFoundError:
        return 0.0, []
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} cannot be read: calibrate it again, or give --threshold") from None
    if network != recognizer.digest:
        return 0.0, [f"{path} is of another network, such as an earlier step: calibrate again to use it"]
    return threshold, [f"faces below a probability of {threshold:.4f}, from {path}, are none of the classes"]


def load_open_set(recognizer: Recognizer) -> OpenSet | None:
    """What calibrate measured of a network; None if nothing, or of another network.

    Raises:
        UserError: the file contains something else.
    """
    path = threshold_path(recognizer.checkpoint)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["network"] != recognizer.digest:
            return None
        open_set = from_json(content.get("open_set"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path} cannot be read: calibrate it again") from None
    check_scale(open_set, "probability", path)
    return open_set
