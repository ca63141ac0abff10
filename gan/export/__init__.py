"""A trained generator as one file: .safetensors for this project, .onnx for any other."""
