"""Tells who or what is on an image: learnt from scratch, from a pretrained network, or as an embedding."""
