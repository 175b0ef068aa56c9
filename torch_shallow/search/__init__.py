"""Search for all activation regions of a program in a domain: a tree of cuts, with an interior point in each leaf.

`enumerate` is the entry point, and `runs` distributes the work over any number of workers and runs. Of the `engines`,
one walks the cells by their rays (fast in few dimensions), another by linear programs (in any dimension). `problem`
and `task_output` are their input and output; `growing_tree` joins the pieces, `balance` flattens the tree, and
`affine_maps` reads the affine map of each region off it.

Questions that need no list of regions are posed in the form of `question` and answered by `ask`: `runs/best_first`
opens the most promising cells, other `engines` bound them, and `milp` solves a single mixed-integer program instead.
"""
