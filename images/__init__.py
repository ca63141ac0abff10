"""Images: from files to arrays to batches, and back to files.

- `images.dataset.load_folder` decodes a folder into one uint8 array [N, 3, S, S]; `images.scan` finds the
  files, `images.decode` reads them, `images.cache` stores the array and `images.holdout` splits it,
  with near-duplicates (`images.near_duplicates`) on one side.
- `images.sampler.batch_indices` selects the images of each training step.
- `images.tiles` converts between uint8 and [-1, 1] and lays images out in a grid, `images.video` writes
  GIF and MP4 files, `images.plots` draws training curves, and `images.fonts` finds fonts for names in any
  script.

No module here imports torch.
"""

from typing import Literal

VideoFormat = Literal["gif", "mp4"]
