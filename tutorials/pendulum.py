"""A pendulum that is held upright by a motor of limited torque, and a controller that is learned from records."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from scipy.integrate import solve_ivp
from scipy.linalg import expm, solve_discrete_are
from torch import Tensor, nn

MASS, LENGTH, GRAVITY = 1.0, 0.5, 9.81  # kg, m, m/s²
LIMIT = 3.0  # N·m, in both directions
STEP = 0.05  # s, for which the torque is held
REACH = np.array([0.3, 2.0])  # rad, rad/s: what networks read as 1

FALLING = GRAVITY / LENGTH  # angular acceleration by rad of the angle, 1/s²
TURNING = 1 / (MASS * LENGTH**2)  # angular acceleration by N·m, 1/(kg m²)


class Pendulum(NamedTuple):
    """The upright pendulum for small angles, and what is best for it.

    States are (angle, rate), in shares of `REACH`: after a step the state is `A @ x + B @ torque`, exactly.

    Attributes:
        A: what becomes of the state by itself.
        B: what the torque adds.
        law: the torque of least quadratic cost (LQR), cut off at the limit of the motor.
        cost: the least cost of what is to come is `x @ cost @ x`, as long as the torque is not cut off.
    """

    A: Float64[Tensor, "2 2"]
    B: Float64[Tensor, "2 1"]
    law: nn.Sequential
    cost: Float64[Tensor, "2 2"]


def pendulum() -> Pendulum:
    """The linear model of a step, and the optimal law."""
    rates = np.array([[0.0, 1.0, 0.0], [FALLING, 0.0, TURNING], [0.0, 0.0, 0.0]])
    step = expm(rates * STEP)[:2] / REACH[:, None]
    a, b = step[:, :2] * REACH, step[:, 2:]
    weight = np.array([[1 / LIMIT**2]])
    cost = solve_discrete_are(a, b, np.eye(2), weight)
    gain = np.linalg.solve(weight + b.T @ cost @ b, b.T @ cost @ a)
    linear = nn.Linear(2, 1, bias=False).double().requires_grad_(False)
    linear.weight.copy_(torch.tensor(-gain))
    law = nn.Sequential(linear, nn.Hardtanh(-LIMIT, LIMIT))
    return Pendulum(torch.tensor(a), torch.tensor(b), law, torch.tensor(cost))


def records(law: nn.Module, rows: int = 200) -> tuple[Float64[Tensor, "rows 2"], Float64[Tensor, "rows 1"]]:
    """States, and the torques that the law gives there, measured with an error of 0.1 N·m."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(rows, 2, generator=generator, dtype=torch.float64) - 1
    return x, law(x) + 0.1 * torch.randn(rows, 1, generator=generator, dtype=torch.float64)


def train(
    x: Float64[Tensor, "rows 2"], torque: Float64[Tensor, "rows 1"], hidden: Sequence[int] = (16, 16)
) -> nn.Sequential:
    """A network with hidden layers of so many ReLUs, fitted by least squares."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        widths = (2, *hidden)
        layers = [(nn.Linear(inputs, outputs), nn.ReLU()) for inputs, outputs in itertools.pairwise(widths)]
        model = nn.Sequential(*itertools.chain(*layers), nn.Linear(widths[-1], 1)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(600):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), torque).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def sine_error(angle: float) -> Float64[Tensor, "2"]:
    """How far, at most, the linear model of a step is from the pendulum itself, which falls by the sine of its angle.

    The difference e obeys e'' = FALLING (e + sin(angle) - angle), and e = e' = 0 at the beginning of the step.

    Args:
        angle: in rad, more than the pendulum has at any time of the step.
    """
    error, root = angle - np.sin(angle), np.sqrt(FALLING)
    return torch.tensor(error * np.array([np.cosh(root * STEP) - 1, root * np.sinh(root * STEP)]) / REACH)


def simulate(controller: nn.Module, start: Float64[Tensor, "2"], steps: int) -> Float64[Tensor, "steps_and_start 2"]:
    """The pendulum itself, sine and all, at the beginning of each step; it stops at twice the `REACH`."""
    states = [start * torch.tensor(REACH)]
    while len(states) <= steps and bool((states[-1].abs() <= 2 * torch.tensor(REACH)).all()):
        torque = float(controller(states[-1] / torch.tensor(REACH)))

        def rates(_: float, state: np.ndarray, torque: float = torque) -> list[float]:
            return [state[1], FALLING * np.sin(state[0]) + TURNING * torque]

        states.append(torch.tensor(solve_ivp(rates, (0, STEP), states[-1], rtol=1e-9, atol=1e-9).y[:, -1]))
    return torch.stack(states)
