"""The command line: `parser` says what there is, and each other file does some of it.

What a command needs is imported when it is called.
"""
