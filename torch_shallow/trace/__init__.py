"""From an `nn.Module` to the canonical form of a ReLU network.

Reading order: `reader` is the whole way; `model_copy` checks and copies the model, `symbolic` traces the copy,
`accounting` holds every node against the allow-list of `operations`, `linearity` reads the affine segments off,
`verification` compares the result with the model. The result is a `program.ReLUProgram`.
"""
