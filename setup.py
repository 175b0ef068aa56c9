"""Give package indexes the README without its picture and the links that only work in a clone."""

import re
from pathlib import Path

from setuptools import setup

PICTURE = re.compile(r":\n\n<img [^>]*>\n\n\*.*\*\n")  # after a sentence, with its caption
LINK = re.compile(r"\[([^\]]+)\]\((?!https?://)[^)]*\)")

text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
setup(
    long_description=LINK.sub(r"\1", PICTURE.sub(".\n", text)),
    long_description_content_type="text/markdown",
)
