"""Available memory, and the memory needed to make a shallow network of the regions found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch_shallow.errors import OutOfMemoryError
from torch_shallow.geometry.chart import Chart
from torch_shallow.program.relu_program import ReLUProgram

_ROOT = Path("/")


def cgroup_memory(root: Path = _ROOT) -> int | None:
    """Return the bytes left before the tightest limit of this process's control groups and their parents.

    Cached files that the kernel would drop count as free, since they do not get a process killed.

    Args:
        root: Folder that contains `/proc` and the mounted groups.

    Returns:
        The number of bytes; None if there is no limit or no control group.
    """
    left = [_left(folder) for folder in _groups(root)]
    return min((bytes_left for bytes_left in left if bytes_left is not None), default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the memory groups, of both versions, from the process's own outwards."""
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
            # A container may see only a part of the tree, as if it were the whole.
            inner = own[kind].removeprefix(mounted.rstrip("/")).lstrip("/")
            folder = outermost / inner if (outermost / inner).is_dir() else outermost
            while folder != outermost:
                yield folder
                folder = folder.parent
            yield outermost


def _left(folder: Path) -> int | None:
    """Return the bytes left before the limit of one group; None if it has none."""
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


_NUMBER, _INDEX = 8, 4  # bytes of a float64 or int64, and of an `index_type` for fewer than 2^31 regions
_SMALL = 16 << 20  # bytes of everything that does not grow with the number of regions


def available_memory() -> int:
    """Return the bytes this process may still use: the least that the machine, its groups and its own limits leave."""
    import psutil

    left = [int(psutil.virtual_memory().available), cgroup_memory(), *_limits()]
    return max(0, min(bytes_left for bytes_left in left if bytes_left is not None))


def _limits() -> list[int]:
    """Return what the process's limits leave of its address space and of its data segment."""
    try:
        import resource
    except ImportError:  # Windows has no such module
        return []
    import psutil

    used = psutil.Process().memory_info()
    limits = ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, getattr(used, "data", 0)))
    soft = [(resource.getrlimit(kind)[0], now) for kind, now in limits]
    return [int(most - now) for most, now in soft if most != resource.RLIM_INFINITY]


def needed_memory(program: ReLUProgram, num_coordinates: int, num_regions: int, store_maps: bool) -> int:
    """Return the peak bytes of finishing, beyond those of the pieces in which the regions were found; rounded up.

    Finishing joins the pieces, rebuilds the tree, and composes half-spaces and local models. Array sizes are counted
    per region, as there are about as many cuts as regions.

    Args:
        program: The network.
        num_coordinates: Number of coordinates of the chart.
        num_regions: Number of regions found.
        store_maps: Whether local models are stored.
    """
    index = _INDEX if num_regions < 1 << 31 else _NUMBER
    pattern, point = (program.num_neurons + 7) // 8, _NUMBER * num_coordinates
    # `packed_patterns` and `points` in the new order, beside the old ones.
    copies = pattern + point
    # `children` and `cut_neurons` of a tree. The freed memory of the pieces' codes is too fragmented to be reused.
    tree = 3 * _NUMBER
    # `order`, `starts` and the sorting space while building; `first`, `order` and `ends` while composing.
    orders = 3 * index
    # `rows` of half-spaces: a normal and an offset for each.
    inputs = _inputs(program)
    half_spaces = _NUMBER * (inputs + 1)
    # `weights` and `biases` of local models.
    local_models = _NUMBER * program.num_outputs * (inputs + 1) if store_maps else 0
    # The tree in the form of the indicator, and one level of it while its depth is found.
    indicator = 6 * _NUMBER
    building = tree + copies + orders
    # The distinct `rows`, possibly all of them, and the keys by which they are found.
    sharing = half_spaces + 5 * _NUMBER
    composing = half_spaces + local_models + max(orders, sharing, half_spaces + indicator)
    return _SMALL + num_regions * (tree + max(building, composing))


def _inputs(program: ReLUProgram) -> int:
    """Return an upper bound of the number of rows of the network's `AffineMaps.projection`."""
    reads = [stage.weight[:, : program.num_inputs].any(axis=0) for stage in program.stages]
    used = sum(bool(any(column)) for column in zip(*reads, strict=True))
    return int(min(used, program.num_neurons))


def check_memory(program: ReLUProgram, chart: Chart, num_regions: int, store_maps: bool, explored: float) -> None:
    """Check that a network can be made of the regions found, as long as there is memory to report it.

    Args:
        program: The network.
        chart: Coordinates of the regions.
        num_regions: Number of regions found.
        store_maps: Whether local models will be stored.
        explored: Share of the tree that is done.

    Raises:
        OutOfMemoryError: A network would take more memory than there is.
    """
    needed, available = needed_memory(program, chart.num_coordinates, num_regions, store_maps), available_memory()
    if needed > available:
        without_maps = "leave out the local models with store_maps=False, " if store_maps else ""
        raise OutOfMemoryError(
            f"domain: expected regions that fit into memory, found {num_regions:,} in the {explored:.3%} of the tree "
            f"explored so far; making a network of them may take {_in_words(needed)} more, with only "
            f"{_in_words(available)} available; take a smaller domain, stop earlier with max_regions=, {without_maps}"
            "or use a machine with more memory, where a run with checkpoint= continues from its file."
        )


def _in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
