"""Reading of any network for a search that asks for its program in one box after another."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torch_shallow.domain import Domain, WholeSpace
from torch_shallow.errors import WrongTypeError
from torch_shallow.explain.function import Function, check_searchable, outputs_at, read_function
from torch_shallow.functions import TreeFunction
from torch_shallow.functions.deep_function import local_maps
from torch_shallow.program.extraction import read_within
from torch_shallow.program.relu_program import ReLUProgram
from torch_shallow.program.verification import verify
from torch_shallow.search.partition import Partition

Vector = Float[np.ndarray, "inputs"]


class Searched:
    """A network and the domain in which it may be searched.

    Args:
        function: the function that the network computes.
        domain: domain of the search; if None, all of R^n for a deep network, and the domain of a shallow one.

    Attributes:
        function: the function that the network computes.
        domain: the domain of the search, intersected with that of a shallow network.
    """

    def __init__(self, function: Function, domain: Domain | None) -> None:
        self.function = function
        known = function.domain if isinstance(function, TreeFunction) else WholeSpace()
        self.domain = known if domain is None else known & domain
        self._whole: ReLUProgram | None = None

    def program(self, domain: Domain) -> ReLUProgram:
        """The network as a program that is valid on all of a domain, verified against the network.

        Raises:
            TransformError: the program would be too large, or differs from the network.
        """
        if isinstance(self.function, TreeFunction):
            tree = self.function.tree
            assert isinstance(tree, Partition)  # ensured by `read_searched`
            return tree.program
        if self._whole is not None:
            return self._whole
        traced = self.function.traced
        program = read_within(traced, domain)
        verify(program, traced.root, domain)
        if program.whole is None:
            self._whole = program
        return program

    @property
    def whole(self) -> ReLUProgram | None:
        """The program, if it is valid everywhere and has been read."""
        return self.program(self.domain) if isinstance(self.function, TreeFunction) else self._whole

    def outputs(self, x: Float[np.ndarray, "points inputs"]) -> Float[np.ndarray, "points outputs"]:
        """Outputs at some points, in float64; outside the domain they may be wrong."""
        if isinstance(self.function, TreeFunction):
            return self.program(self.domain)(x)
        y: np.ndarray = outputs_at(self.function, torch.from_numpy(x).to(self.function.device)).cpu().numpy()
        return y

    def local_map(self, x: Vector) -> tuple[Float[np.ndarray, "outputs inputs"], Float[np.ndarray, "outputs"]]:
        """Weight and bias of the outputs around a point."""
        if isinstance(self.function, TreeFunction):
            program = self.program(self.domain)
            return program.affine_maps(program.pattern(x[None])[0])[2:]
        row = torch.from_numpy(x)[None].to(self.function.device)
        weight, bias = local_maps(self.function, self.function.signs(row))
        return weight[0].cpu().numpy(), bias[0].cpu().numpy()


def read_searched(model: object, domain: Domain | None, example: Tensor | None, example_name: str) -> Searched:
    """Read a network of any kind for a search.

    Args:
        model: an `nn.Module`, an exported program, a shallow network, its trunk method or its function.
        domain: domain of the search, or None for all that is known.
        example: a batch of inputs that tells the shape of one.
        example_name: name of the argument that holds the example, for error messages.

    Raises:
        WrongTypeError: an argument is of another type.
        TransformError: the network has a head, cannot be read, or is not known everywhere.
    """
    if domain is not None and not isinstance(domain, Domain):
        raise WrongTypeError(f"domain: expected a Box, a Polytope or None, found {domain!r}; pass one of these.")
    function = read_function(model, example, "model", example_name)
    if isinstance(function, TreeFunction):
        check_searchable(function)
    return Searched(function, domain)
