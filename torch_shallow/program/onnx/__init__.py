"""ONNX files as modules: `file` is the way in, `graph` reads operators, `check` compares the result with the file."""
