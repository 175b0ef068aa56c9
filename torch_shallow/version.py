"""The version of the package, for what is written into files."""

VERSION = "0.2.0"
