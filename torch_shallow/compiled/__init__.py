"""How the inner loops are compiled, and kept.

`decorator` has the two decorators: `compiled` for what Python calls, `inner` for what only compiled code calls.
`bundle` hands many arrays to compiled code by one pointer. `linking` puts the machine code of an entry point together
once, and `cache` keeps it on disk as long as no compiled function has changed.
"""
