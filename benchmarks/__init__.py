"""Comparisons with other tools, each on the same machine and in the same run; `README.md` has the results."""
