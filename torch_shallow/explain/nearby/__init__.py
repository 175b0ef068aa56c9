"""The nearest point to an input where outputs are as asked for, in balls that grow: what radii and counterfactuals ask.

`vantage` is a network as seen from an input, `target_rows` what is to be reached, `first_reach` finds a point that
reaches it by steps, and `growing_balls` searches for a nearer one.
"""
