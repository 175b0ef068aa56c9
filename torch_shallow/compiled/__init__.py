"""How the inner loops are compiled, and kept.

`decorator` has the decorator of compiled functions, and `bundle` hands many arrays to them by one pointer.
`machine_code` puts what an entry point is made of together once, and keeps it on disk as long as nothing has changed.
"""
