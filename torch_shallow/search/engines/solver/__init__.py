"""Cells as half-spaces, with HiGHS or any solver that cvxpy knows."""
