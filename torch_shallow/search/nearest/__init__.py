"""The nearest point to 0 where outputs are as asked for: a search over cells, by proven distances.

`sought` is the question, `near_engine` opens cells, `ball_cells` bounds them in the ball that is still of interest,
`region_point` finds the nearest point of an activation region, and `descent` goes from region to region.
"""
