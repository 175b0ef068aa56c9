"""Read an `nn.Module` into the canonical form of a ReLU network.

Reading order: `model` is the whole path, and `tracer` its first half. `model_copy` checks and copies the module;
`exported`, `onnx` and `hold` are other entry points. `graph` follows the model's code and checks every node against the
allow-list. `rewriting` expresses piecewise-linear operations by ReLUs. `head` splits off an end that is not piecewise
linear. `extraction` reads the affine segments by means of `affine_forms`, for all neurons or for those that can change
sign in a box. `verification` compares the result with the model. The result is a `relu_program.ReLUProgram` or, if that
would be too large, the graph itself: `traced.TracedModel`.
"""
