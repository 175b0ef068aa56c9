"""ONNX files as modules: `file` is the way in and compares the result with the file, `graph_reader` reads operators."""
