"""Generates faces: a DCGAN, its training, and tools for trained generators.

- `config`: every setting, and the presets
- `networks`: generator and discriminator
- `losses`: the adversarial loss
- `augment`: augmentation in front of D
- `negatives`: corrupted real images that D learns to classify as fake
- `training_step`: one simultaneous update of both networks
- `trainer`: the state that a run carries from step to step
- `loop`: when to log, sample, score and save; `setup` builds it from a command line
- `monitor`: alarms; `rollback`: recovery from them; `validation`: scores on held-out images
- `milestones`: what is normal by which step; `curves`: what is plotted; `summary`: what --dry-run prints
- `generator`: trained generators: `load_generator(run).images(z)`; `pretrained`: the one that is included
- `export`: a generator as one file
- `options`: command-line arguments of the scripts that use a run
- `fast_conv`: faster convolutions on a CPU
- `latent`: latent vectors: drawing, interpolation, arithmetic, directions, pictures
- `inversion`: from images to latent vectors
- `metrics`: how good generated images are
"""
