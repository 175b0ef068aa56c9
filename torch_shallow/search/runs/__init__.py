"""Exploration of the cells of a domain by any number of workers, within budgets, and its continuation.

`schedule` is the loop; it divides the work into tasks for threads or an executor (`workers`). `budget` decides when to
stop, including on Ctrl-C, `checkpoint` keeps results on disk, `memory` looks ahead, and `watch` stops in time and shows
progress.
"""
