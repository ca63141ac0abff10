"""From images to the latent vectors of a generator.

- `gan.inversion.inversion` finds the vectors whose images come nearest to given ones, in the coordinate of
  `gan.inversion.coordinates`; `gan.inversion.polish` computes the last digits of an exact fit.
- `gan.inversion.encoder` estimates them in one pass; `gan.inversion.encoder_file` keeps it beside the run.
- `gan.inversion.distance` and `gan.inversion.features` compare images.
- `gan.inversion.lbfgs` minimises many functions at once.
- `gan.inversion.tuning` trains a copy of the generator to make given images exactly.
"""
