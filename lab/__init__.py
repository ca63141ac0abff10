"""Where made faces and seen faces meet: directions with names, photos in latent space.

gan and faces do not import each other. What needs both is here, for the scripts and the pages.
"""
