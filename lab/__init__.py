"""What needs both generated faces and networks that look at faces: named directions, photos in latent space.

gan and faces do not import each other; the scripts and the pages find here what combines them.
"""
