"""How many regions there are, without finding them all: `upper_bound` proves, `sampling` guesses well.

A probe (`probe`) walks parts of the tree and leaves out others at random, for which weights make up (`thinning`).
"""
