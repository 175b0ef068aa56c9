"""Search over cells for the nearest point to 0 whose outputs meet given conditions, with proven distances.

`sought` defines the question, `near_engine` opens cells, `ball_cells` bounds them in the ball that is still of
interest, `region_point` finds the nearest point of an activation region, and `descent` moves from region to region.
"""
