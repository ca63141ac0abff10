"""Image classification and face recognition: from scratch, from a pretrained network, or by an embedding."""
