"""Compilation of the inner loops, and caching of their machine code.

`decorator` has the decorator of compiled functions, and `bundle` passes many arrays to them by one pointer.
`machine_code` assembles each entry point once, and keeps it on disk as long as its sources are unchanged.
"""
