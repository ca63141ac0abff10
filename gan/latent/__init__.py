"""Exploring the latent space of a trained generator.

- `gan.latent.vectors` draws, interpolates, saves and loads latent vectors.
- `gan.latent.arithmetic` parses and evaluates sums such as "3,17,42 - 5,8,9 + 11,12,13".
- `gan.latent.directions` moves vectors along named directions, in the coordinate of `gan.latent.gaussian`.
- `gan.latent.regression` finds directions from scores of faces, or from faces that somebody chose, and
  `gan.latent.leading` those along which images change most.
- `gan.latent.render` writes grids, single images, interpolations and sums into a run's folder, each with
  its latent vectors; `gan.latent.figure` lays out the picture of a sum.

No module here but `gan.latent.leading` imports torch.
"""

from typing import Literal

Interpolation = Literal["linear", "spherical"]
PathFormat = Literal["grid", "strip", "gif", "mp4"]
"""A row for each pair of neighbours, all images in one row, or a film."""
