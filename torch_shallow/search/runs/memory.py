"""How much memory there is, and how much it takes to make a shallow network of the regions that are found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch_shallow.errors import OutOfMemoryError
from torch_shallow.geometry.chart import Chart
from torch_shallow.program.relu_program import ReLUProgram

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


_NUMBER, _INDEX = 8, 4  # bytes of a float64 or int64, and of what `index_type` gives for fewer than 2^31 regions
_SMALL = 16 << 20  # bytes of everything that does not grow with the number of regions


def available_memory() -> int:
    """Bytes that this process may still take: the least of what the machine, its groups and its own limits leave."""
    import psutil

    left = [int(psutil.virtual_memory().available), cgroup_memory(), *_limits()]
    return max(0, min(bytes_left for bytes_left in left if bytes_left is not None))


def _limits() -> list[int]:
    """What the limits of the process leave of its address space and of its data."""
    try:
        import resource
    except ImportError:  # Windows has none
        return []
    import psutil

    used = psutil.Process().memory_info()
    limits = ((resource.RLIMIT_AS, used.vms), (resource.RLIMIT_DATA, getattr(used, "data", 0)))
    soft = [(resource.getrlimit(kind)[0], now) for kind, now in limits]
    return [int(most - now) for most, now in soft if most != resource.RLIM_INFINITY]


def needed_memory(program: ReLUProgram, num_coordinates: int, num_regions: int, store_maps: bool) -> int:
    """Bytes that finishing takes at its peak, beyond those of the pieces in which the regions were found; rounded up.

    Finishing joins the pieces, builds the tree anew, and composes half-spaces and local models. The bytes of each array
    are counted for each region, as there are about as many cuts.

    Args:
        program: the network.
        num_coordinates: of the chart.
        num_regions: how many are found.
        store_maps: whether local models are stored.
    """
    index = _INDEX if num_regions < 1 << 31 else _NUMBER
    pattern, point = (program.num_neurons + 7) // 8, _NUMBER * num_coordinates
    # `packed_patterns` and `points` in the new order, beside the old ones.
    copies = pattern + point
    # `children` and `cut_neurons` of a tree. The memory of the pieces' codes goes back in parts too small to be used.
    tree = 3 * _NUMBER
    # `order`, `starts` and the room to sort in while building, `first`, `order` and `ends` while composing.
    orders = 3 * index
    # `rows` of half-spaces, a normal and an offset each.
    inputs = _inputs(program)
    half_spaces = _NUMBER * (inputs + 1)
    # `weights` and `biases` of local models.
    local_models = _NUMBER * program.num_outputs * (inputs + 1) if store_maps else 0
    # The tree as the indicator has it, and a level of it while its depth is found.
    indicator = 6 * _NUMBER
    building = tree + copies + orders
    # The distinct `rows`, which may be all of them, and the keys by which they are found.
    sharing = half_spaces + 5 * _NUMBER
    composing = half_spaces + local_models + max(orders, sharing, half_spaces + indicator)
    return _SMALL + num_regions * (tree + max(building, composing))


def _inputs(program: ReLUProgram) -> int:
    """Number of coordinates that the network reads of its input, or more: see `AffineMaps.projection`."""
    reads = [stage.weight[:, : program.num_inputs].any(axis=0) for stage in program.stages]
    used = sum(bool(any(column)) for column in zip(*reads, strict=True))
    return int(min(used, program.num_neurons))


def check_memory(program: ReLUProgram, chart: Chart, num_regions: int, store_maps: bool, explored: float) -> None:
    """Make sure that a network can be made of the regions that are found, while there still is memory to say so.

    Args:
        program: the network.
        chart: coordinates of the regions.
        num_regions: how many are found.
        store_maps: whether local models will be stored.
        explored: share of the tree that is done.

    Raises:
        OutOfMemoryError: it would take more memory than there is.
    """
    needed, available = needed_memory(program, chart.num_coordinates, num_regions, store_maps), available_memory()
    if needed > available:
        without_maps = "leave out the local models with store_maps=False, " if store_maps else ""
        raise OutOfMemoryError(
            f"domain: expected regions that fit into memory, found {num_regions:,} in the {explored:.3%} of the tree "
            f"that is explored, of which making a network may take {_in_words(needed)} more, with "
            f"{_in_words(available)} available; take a smaller domain, stop earlier with max_regions=, {without_maps}"
            "or use a machine with more memory, where a run with checkpoint= goes on from what its file keeps."
        )


def _in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
