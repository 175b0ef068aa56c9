"""The file around a network: a safetensors file with two texts and two digests in its header, checked byte by byte.

The header's `__metadata__` has three entries: the number of the format, the description of the network as JSON, and a
SHA-256 digest of both. The description has a digest of all tensors. What is left of the file, the header's own
arrangement, can be told from its canonical form, so that no byte can change unnoticed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from torch_shallow.modules.files.damage import Damaged
from torch_shallow.paths import beside

FORMAT = 2
_FORMAT, _NETWORK, _DIGEST = "torch_shallow.format", "torch_shallow.network", "torch_shallow.sha256"
_KEYS = {_FORMAT, _NETWORK, _DIGEST}
_WHOLE_COPY = "copy or download the file again, whole"
_OURS = "a file that ShallowReLU.save() wrote"
_SAVE_ONE = "make one with shallow.save(path)"


def write(path: Path, description: Mapping[str, object], tensors: dict[str, Tensor]) -> None:
    """Write a file, all or nothing: into a new file beside it, which then takes its name.

    Args:
        path: where to.
        description: of the network; can be written as JSON.
        tensors: contiguous, on the CPU, without common memory.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    text = json.dumps(description, allow_nan=False)
    metadata = {_FORMAT: str(FORMAT), _NETWORK: text, _DIGEST: _digest(str(FORMAT), text)}
    with beside(path) as fresh:
        with fresh.open("xb") as file:
            mode = os.fstat(file.fileno()).st_mode  # safetensors would make a file that only its owner may read
        try:
            save_file(tensors, fresh, metadata)
        except SafetensorError as error:
            raise OSError(None, str(error)) from error
        fresh.chmod(mode)
        with fresh.open("rb+") as file:
            _order(file)
            os.fsync(file.fileno())
        fresh.replace(path)


def _order(file: BinaryIO) -> None:
    """Put the entries of the description in alphabetic order: safetensors draws one at random."""
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    file.seek(8)
    file.write(_canonical(header))


def _canonical(header: object) -> bytes:
    """A header as safetensors writes it, but for spaces behind it."""
    return json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()


def read(data: bytes) -> tuple[int, dict[str, Any], dict[str, Tensor]]:
    """Number of the format, description and tensors of a file; the digest of the tensors is not looked at.

    Args:
        data: all bytes of the file.

    Raises:
        Damaged: something else was written than `write` writes, or by a later version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    header = _header(data)
    number, description = _description(header.get("__metadata__"))
    _check_length(header, len(data) - 8 - int.from_bytes(data[:8], "little"))
    try:
        return number, description, load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        raise Damaged("a table of tensors that fit their bytes", f"one that does not ({error})") from error


def _header(data: bytes) -> dict[str, Any]:
    """The header of a safetensors file: its first 8 bytes are the length of the JSON that follows."""
    if not data:
        raise Damaged(_OURS, "an empty file", _WHOLE_COPY)
    if len(data) < 9:
        raise Damaged("a header of 8 bytes and more", f"{len(data)} bytes in all", _WHOLE_COPY)
    if data[8:9] != b"{":
        raise Damaged(*_foreign(data))
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        raise Damaged(
            f"a header of {length} bytes, as the file begins by saying", f"{len(data) - 8} bytes", _WHOLE_COPY
        )
    text = data[8 : 8 + length]
    try:
        header = json.loads(text.decode())
        canonical = _canonical(header)
    except UnicodeDecodeError as error:
        raise Damaged("a header in UTF-8", f"other bytes ({error.reason} at {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise Damaged("a header in JSON", f"another text ({error})") from error
    if text.rstrip(b" ") != canonical or len(text) - len(canonical) >= 8:
        raise Damaged("a header in the form that safetensors writes", "the same in another form, so it was altered")
    return dict(header)


def _foreign(data: bytes) -> tuple[str, str, str]:
    if data.startswith(b"PK\x03\x04"):
        return _OURS, "a zip archive, as torch.save() writes", "load it with torch.load(), or " + _SAVE_ONE
    if data[:1] == b"\x80" and data[1] <= 5:
        return _OURS, "a pickle, which could execute anything and is not read", _SAVE_ONE
    return _OURS, f"no safetensors file: it begins with {data[:8]!r}", _SAVE_ONE


def _description(metadata: object) -> tuple[int, dict[str, Any]]:
    """Format and description, if the format is known and nothing was altered."""
    if not isinstance(metadata, dict) or not _KEYS & metadata.keys():
        found = "a safetensors file without a description of a shallow network"
        raise Damaged(_OURS, found, "load it with safetensors.torch.load_file(), or " + _SAVE_ONE)
    if _FORMAT not in metadata:
        raise Damaged("the number of its format in its header", f"only {', '.join(sorted(metadata))}")
    number = metadata[_FORMAT]
    if not (isinstance(number, str) and number.isascii() and number.isdecimal() and len(number) < 10):
        raise Damaged("a whole number for its format", repr(number))
    if int(number) > FORMAT:
        raise Damaged(
            f"format {FORMAT} or an older one",
            f"format {number}",
            "install a newer version of torch_shallow",
        )
    if int(number) < 1:
        raise Damaged("a format from 1 on", f"format {number}")
    if metadata.keys() != _KEYS:
        found = f"{', '.join(sorted(metadata))}"
        raise Damaged(f"a header with {', '.join(sorted(_KEYS))} and nothing else", found)
    if metadata[_DIGEST] != _digest(number, str(metadata[_NETWORK])):
        raise Damaged("a description with the digest that its header says", "another digest, so it was altered")
    try:
        description = json.loads(metadata[_NETWORK])
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged("a description in JSON", f"another text ({error})") from error
    if not isinstance(description, dict):
        raise Damaged("a description with named fields", type(description).__name__)
    return int(number), description


def _check_length(header: dict[str, Any], found: int) -> None:
    try:
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
        short, long = found < end, found > end
    except (TypeError, KeyError, IndexError) as error:
        raise Damaged("the place of each tensor in its header", f"a table without it ({error})") from error
    if short:
        raise Damaged(f"{end} bytes of tensors", f"{found}: its end is missing", _WHOLE_COPY)
    if long:
        raise Damaged(f"{end} bytes of tensors", f"{found - end} bytes more behind them", _WHOLE_COPY)


def _digest(number: str, text: str) -> str:
    return sha256(f"{number}\n{text}".encode()).hexdigest()
