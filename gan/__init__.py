"""Makes faces: networks, losses, training, and tools for latent vectors."""
