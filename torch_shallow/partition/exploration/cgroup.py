"""What the control groups of Linux still give this process: the limits of containers and batch systems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def cgroup_memory(root: Path = _ROOT) -> int | None:
    """Bytes until the tightest limit of the groups that this process is in, and of those around them.

    Cached files that the kernel would drop count as free, as nobody is killed for them.

    Args:
        root: where `/proc` and the mounted groups are.

    Returns:
        None if there is no limit, or no control group.
    """
    left = [_left(folder) for folder in _groups(root)]
    return min((bytes_left for bytes_left in left if bytes_left is not None), default=None)


def _groups(root: Path) -> Iterator[Path]:
    """The folders of the groups for memory, of both versions, from the process's own outwards."""
    own = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            own["cgroup" if controllers else "cgroup2"] = group
    for line in _lines(root / "proc/self/mountinfo"):
        # "36 35 98:0 /mounted/group /mount/point options optional ... - type source options of the file system"
        before, _, after = line.partition(" - ")
        (mounted, point), (kind, _, options) = before.split()[3:5], after.split()[:3]
        if kind in own and (kind == "cgroup2" or "memory" in options.split(",")):
            outermost = root / point.lstrip("/")
            # A container may see a part of the tree only, as if it were the whole.
            inner = own[kind].removeprefix(mounted.rstrip("/")).lstrip("/")
            folder = outermost / inner if (outermost / inner).is_dir() else outermost
            while folder != outermost:
                yield folder
                folder = folder.parent
            yield outermost


def _left(folder: Path) -> int | None:
    """Bytes until the limit of one group; None if it has none."""
    for limit, used, cached in (
        ("memory.max", "memory.current", ("active_file", "inactive_file")),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
    ):
        most, now = _lines(folder / limit), _lines(folder / used)
        if most and now and most[0] != "max":
            counts = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat"))
            free = sum(int(counts.get(name, 0)) for name in cached)
            return max(0, int(most[0]) - int(now[0]) + free)
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
