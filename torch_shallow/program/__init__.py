"""From an `nn.Module` to the canonical form of a ReLU network.

Reading order: `model` is the whole way, and `tracer` its first half. `model_copy` checks and copies the module;
`exported`, `onnx` and `hold` are other ways in. `graph` follows the model's code and holds every node against the
allow-list. `rewriting` writes piecewise-linear operations with ReLUs. `head` cuts off an end that is not piecewise
linear. `extraction` reads the affine segments off by `affine_forms`, for all neurons or for those that can change sign
in a box.
`verification` compares the result with the model. The result is a `relu_program.ReLUProgram`, or where that would be
too large the graph itself: `traced.TracedModel`.
"""
