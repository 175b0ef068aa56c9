"""Exploring the cells of a domain with any number of workers, within budgets, and going on later.

`schedule` is the loop; it cuts the work into tasks (`task`), which it gives to threads or to an executor (`workers`).
`budget` says when to stop, `checkpoint` keeps what is found on disk, `memory` looks ahead, `progress` shows it, and
`interruption` is Ctrl-C.
"""
