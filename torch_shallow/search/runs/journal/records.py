"""Records one behind another in a file, each with digests, so that what was cut off or altered is told from the rest.

A record is a mark, the length of its content, a digest of the content, a digest of these three, and the content. The
second digest makes the length trustworthy: where it is wrong, the next record is looked for.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from mmap import ACCESS_READ, mmap
from typing import BinaryIO

_MARK = b"\xf3record\n"
_HEAD, _DIGEST = struct.Struct("<8sQ16s"), 16


def record(content: bytes) -> bytes:
    """The bytes of a record."""
    head = _HEAD.pack(_MARK, len(content), _digest(content))
    return b"".join((head, _digest(head), content))


def read_record(file: BinaryIO) -> bytes | None:
    """The content of the record at the position of a file; None if there is no whole one."""
    length = _length(file.read(_HEAD.size + _DIGEST))
    if length is None:
        return None
    _, digest = length
    content = file.read(length[0])
    return content if len(content) == length[0] and _digest(content) == digest else None


def any_record_behind(file: BinaryIO, position: int) -> bool:
    """Whether a record begins anywhere behind a position of a file."""
    with mmap(file.fileno(), 0, access=ACCESS_READ) as whole:
        at = whole.find(_MARK, position + 1)
        while at >= 0:
            if _length(whole[at : at + _HEAD.size + _DIGEST]) is not None:
                return True
            at = whole.find(_MARK, at + 1)
    return False


def _length(start: bytes) -> tuple[int, bytes] | None:
    """Length and digest of the content, as a record begins by saying; None if it does not."""
    head, digest = start[: _HEAD.size], start[_HEAD.size :]
    if len(head) < _HEAD.size or digest != _digest(head):
        return None
    mark, length, of_content = _HEAD.unpack(head)
    return (length, of_content) if mark == _MARK else None


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST).digest()
