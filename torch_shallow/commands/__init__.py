"""Provide the command line: `parser` defines the commands, and each other file implements some of them.

A command's dependencies are imported when it is called.
"""
