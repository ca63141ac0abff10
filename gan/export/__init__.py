"""A trained generator as one file: .safetensors for this project, .onnx for others, .html for a browser."""

GENERATOR_FORMAT = "face-lab generator 1"
"""Named in a generator's .safetensors file."""
