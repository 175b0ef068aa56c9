"""Run the command line, `python -m torch_shallow COMMAND` or `torch-shallow COMMAND`; see `commands`."""

from __future__ import annotations

import sys

from torch_shallow.commands.parser import main

if __name__ == "__main__":
    sys.exit(main())
