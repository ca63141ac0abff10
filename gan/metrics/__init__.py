"""Measures of sets of images.

- `distribution`: FID, KID, precision, recall, density and coverage of features.
- `features`: feature spaces: random (`random_network`), Inception, or any network.
- `swd`, `ms_ssim`, `pixels`: sliced Wasserstein distance, MS-SSIM, checkerboard and pairwise distances.
- `memorization`: how much is copied from training images, found in `thumbnails`; `nearest`: those most like
  one image.
- `compare`: all scores of one set against another.
- `references`, `evaluate`, `report`, `verdict`: the evaluation of a run, used by evaluate.py.

Importing this package does not import torch; its modules do.
"""
