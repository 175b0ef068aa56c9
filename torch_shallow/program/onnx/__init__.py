"""Read ONNX files as modules: `file` is the entry point and compares the result, and `graph_reader` reads operators."""
