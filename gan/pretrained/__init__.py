"""The generator that comes with the project: drawn faces, 96 px, G of 250 150 90 54 channels, half precision.

docs/pretrained.md says how it was made. Nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path

NAME = "drawn"
"""Selects it wherever a script takes a run."""
FILE = Path(__file__).with_name("drawn.safetensors")
