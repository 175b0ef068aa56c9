"""Version of the package, as written into files."""

VERSION = "0.2.0"
