"""From an `nn.Module` to the canonical form of a ReLU network."""
