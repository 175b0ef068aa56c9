"""ONNX files as modules: `file` is the way in, and compares what it made with the reference implementation of ONNX."""
