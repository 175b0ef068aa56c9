"""What the regions say: explanations that are exact for the network itself.

`function` reads what is explained, `features` names and un-scales its inputs.
"""

from torch_shallow.explain.features import Features

__all__ = ["Features"]
