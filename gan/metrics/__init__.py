"""Measures of sets of images: by their pixels, and by features of a network."""
