"""Search for the point nearest to an input with given outputs, in growing balls; used for radii and counterfactuals.

`vantage` is a network as seen from an input, `target_rows` is the target, `first_reach` finds a point that reaches it
by a few steps, and `growing_balls` searches for a nearer one.
"""
