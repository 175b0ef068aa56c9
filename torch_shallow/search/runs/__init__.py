"""Exploring the cells of a domain with any number of workers, within budgets, and going on later.

`schedule` is the loop; it cuts the work into tasks, which it gives to threads or to an executor (`workers`).
`budget` says when to stop, by itself or by Ctrl-C, `checkpoint` keeps what is found on disk, `memory` looks ahead, and
`watch` stops in time and shows how far it is.
"""
