"""From a program and a domain to all activation regions: a tree of cuts, and an interior point of each of its leaves.

`enumerate` is the way in, and `runs` gives the work to any number of workers, in any number of runs. Of `engines`, one
walks the cells by their rays (fast in few dimensions), the other by linear programs (in any dimension). `problem` and
`task_output` are what they get and give; `growing_tree` puts the pieces together, `balance` makes the tree flat, and
`affine_maps` reads the affine map of each region off it.

Questions that need no list of regions are posed as `question` says, and `ask` answers them: `runs/best_first` opens the
most promising cells, other `engines` bound them, and `milp` does the same by one mixed-integer program.
"""
