"""Read and write the file format of networks: a safetensors file with two texts and two digests in its header.

The header's `__metadata__` has three entries: the number of the format, the description of the network as JSON, and a
SHA-256 digest of both. The description ends with a digest of all tensors. The header contains nothing else and has only
one valid form, so that no byte can change unnoticed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from torch_shallow.paths import beside
from torch_shallow.program.model import hash_tensors

FORMAT = 4
ANOTHER_COPY = "use another copy of the file, or transform the model and save the network again"
_FORMAT, _NETWORK, _DIGEST = "torch_shallow.format", "torch_shallow.network", "torch_shallow.sha256"
_TENSORS = "tensors_sha256"
_WHOLE_COPY = "copy or download the whole file again"
_OURS = "a file written by ShallowReLU.save()"
_SAVE_ONE = "make one with shallow.save(path)"


class Damaged(Exception):
    """Raised if a file is not what `save` writes; the caller that knows the file's name adds it.

    Args:
        expected: what was expected.
        found: what was found.
        remedy: what to do.
    """

    def __init__(self, expected: str, found: str, remedy: str = ANOTHER_COPY) -> None:
        super().__init__(f"expected {expected}, found {found}; {remedy}.")


def write(path: Path, description: Mapping[str, object], tensors: dict[str, Tensor]) -> None:
    """Write a file, whole or not at all: into a temporary file in the same folder, which is then renamed.

    Args:
        path: path of the file.
        description: description of the network, which can be written as JSON.
        tensors: contiguous tensors on the CPU that share no memory.

    Raises:
        OSError: the file cannot be written; an existing file is left as it was.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    text = json.dumps({**description, _TENSORS: hash_tensors(tensors)}, allow_nan=False)
    metadata = {_FORMAT: str(FORMAT), _NETWORK: text, _DIGEST: _digest(str(FORMAT), text)}
    with beside(path) as fresh:
        fresh.touch(exist_ok=False)
        mode = fresh.stat().st_mode  # safetensors would create a file that only its owner may read
        try:
            save_file(tensors, fresh, metadata)
        except SafetensorError as error:
            raise OSError(None, str(error)) from error
        fresh.chmod(mode)
        with fresh.open("rb+") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            file.seek(8)
            file.write(_canonical({**header, "__metadata__": dict(sorted(metadata.items()))}))  # in a fixed order
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)


def read(data: bytes) -> tuple[int, dict[str, Any], dict[str, Tensor]]:
    """Read the number of the format, the description and the tensors of a file.

    Args:
        data: all bytes of the file.

    Raises:
        Damaged: the file was not written by `write`, was written by a later version, or was altered.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    number, description = _description(_metadata(data))
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        raise Damaged("a table of tensors that matches the file's bytes", f"one that does not ({error})") from error
    if description.pop(_TENSORS, None) != hash_tensors(tensors):
        raise Damaged("tensors with the digest given in the description", "another digest, so they were altered")
    return number, description, tensors


def _metadata(data: bytes) -> Any:
    """Return the metadata of a safetensors file, whose first 8 bytes are the length of a header in JSON."""
    if data[8:9] != b"{":
        raise Damaged(*_foreign(data))
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length]
    if len(text) < length:
        raise Damaged(f"a header of {length} bytes, as the file's first bytes say", f"{len(text)} bytes", _WHOLE_COPY)
    try:
        header = json.loads(text.decode())
        canonical = _canonical(header)
        places = [place for name in header if name != "__metadata__" for place in header[name]["data_offsets"]]
        in_order, end = places == sorted(places), 8 + length + max(places, default=0)
    except UnicodeDecodeError as error:
        raise Damaged("a header in UTF-8", f"other bytes ({error.reason} at {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise Damaged("a header in JSON", f"other text ({error})") from error
    except (TypeError, KeyError) as error:
        raise Damaged("the place of each tensor in the header", f"a table without it ({error})") from error
    if text != canonical.ljust(-(-len(canonical) // 8) * 8) or not in_order:
        raise Damaged("a header in the form that safetensors writes", "another form, so the file was altered")
    if len(data) != end:
        raise Damaged(f"a file of {end} bytes, as its header says", f"one of {len(data)} bytes", _WHOLE_COPY)
    return header.get("__metadata__")


def _canonical(header: Mapping[str, Any]) -> bytes:
    """Write a header as safetensors does, without the spaces after it; each tensor has exactly three entries."""
    told = {
        name: entry if name == "__metadata__" else {key: entry[key] for key in ("dtype", "shape", "data_offsets")}
        for name, entry in header.items()
    }
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()


def _foreign(data: bytes) -> tuple[str, str, str]:
    if len(data) < 9:
        return _OURS, f"only {len(data)} bytes", _WHOLE_COPY
    if data.startswith(b"PK\x03\x04"):
        return _OURS, "a zip archive, as torch.save() writes it", "load it with torch.load(), or " + _SAVE_ONE
    if data[:1] == b"\x80" and data[1] <= 5:
        return _OURS, "a pickle, which could execute any code and is not read", _SAVE_ONE
    return _OURS, f"a file that begins with {data[:8]!r} and is no safetensors file", _SAVE_ONE


def _description(metadata: Any) -> tuple[int, dict[str, Any]]:
    """Return format and description, after checking that the format is known and nothing was altered."""
    if not isinstance(metadata, dict) or not metadata.keys() & {_FORMAT, _NETWORK, _DIGEST}:
        found = "a safetensors file without a description of a shallow network"
        raise Damaged(_OURS, found, "load it with safetensors.torch.load_file(), or " + _SAVE_ONE)
    number = metadata.get(_FORMAT, str(FORMAT))
    if number not in map(str, range(1, FORMAT + 1)):
        raise Damaged(f"a format from 1 to {FORMAT}", repr(number), "install the newest version of torch_shallow")
    if sorted(metadata) != [_FORMAT, _NETWORK, _DIGEST]:
        raise Damaged(f"a header with {_FORMAT}, {_NETWORK}, {_DIGEST}", ", ".join(sorted(metadata)))
    if metadata[_DIGEST] != _digest(number, str(metadata[_NETWORK])):
        raise Damaged("a description with the digest given in the header", "another digest, so it was altered")
    try:
        description = json.loads(metadata[_NETWORK])
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged("a description in JSON", f"other text ({error})") from error
    if not isinstance(description, dict):
        raise Damaged("a description with named fields", type(description).__name__)
    return int(number), description


def _digest(number: str, text: str) -> str:
    return sha256(f"{number}\n{text}".encode()).hexdigest()
