"""ONNX files as modules: `file` is the way in, `graph` reads the operators, and `check` compares the module with the file."""
