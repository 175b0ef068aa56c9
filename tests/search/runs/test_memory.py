"""How much memory is left is never more than any limit leaves, and what finishing takes never more than is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.search.programs import dense_program, mlp
from torch_shallow.domain import Box
from torch_shallow.errors import TransformError
from torch_shallow.geometry.chart import make_chart
from torch_shallow.search.runs import memory
from torch_shallow.search.runs.memory import available_memory, cgroup_memory, check_memory, needed_memory


def make(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def version_2(group: str, mounted: str = "/") -> dict[str, str]:
    return {
        "proc/self/cgroup": f"0::{group}\n",
        "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"31 23 0:28 {mounted} /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    }


def limits_2(folder: str, most: object, now: int, cached: int = 0) -> dict[str, str]:
    return {
        f"sys/fs/cgroup/{folder}/memory.max": f"{most}\n",
        f"sys/fs/cgroup/{folder}/memory.current": f"{now}\n",
        f"sys/fs/cgroup/{folder}/memory.stat": f"anon 5\nactive_file {cached // 2}\ninactive_file {cached // 2}\n",
    }


def limits_1(folder: str, most: int, now: int, cached: int = 0) -> dict[str, str]:
    return {
        f"sys/fs/cgroup/memory/{folder}/memory.limit_in_bytes": f"{most}\n",
        f"sys/fs/cgroup/memory/{folder}/memory.usage_in_bytes": f"{now}\n",
        f"sys/fs/cgroup/memory/{folder}/memory.stat": f"cache 9\ntotal_active_file {cached}\ntotal_inactive_file 0\n",
    }


VERSION_1 = {
    "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/job/step\n0::/\n",
    "proc/self/mountinfo": "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,cpu,memory\n"
    "36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
}
GROUPS = {
    "no groups": ({}, None),
    "no limit": (version_2("/job") | limits_2("job", "max", 10), None),
    "its own limit": (version_2("/job") | limits_2("job", 100, 10), 90),
    "a limit around it": (version_2("/job/step") | limits_2("job", 100, 60) | limits_2("job/step", 100, 10), 40),
    "a limit of the container": (version_2("/") | limits_2("", 100, 60), 40),
    "in a container that shows its own group": (version_2("/docker/1", "/docker/1") | limits_2("", 100, 70), 30),
    "in a container that shows it as the whole": (version_2("/docker/1") | limits_2("", 100, 70), 30),
    "cached files": (version_2("/job") | limits_2("job", 100, 90, 40), 50),
    "beyond the limit": (version_2("/job") | limits_2("job", 100, 110), 0),
    "version 1": (VERSION_1 | limits_1("job/step", 100, 80, 30) | limits_1("job", 1000, 10), 50),
    "version 1, a limit around it": (VERSION_1 | limits_1("job/step", 2**63 - 4096, 8) | limits_1("job", 30, 10), 20),
}


@pytest.mark.parametrize("name", GROUPS)
def test_what_groups_leave(name: str, tmp_path: Path) -> None:
    files, left = GROUPS[name]
    assert cgroup_memory(make(tmp_path, files)) == left


def test_groups_of_this_process() -> None:
    left = cgroup_memory()
    assert left is None or left > 0


def test_no_more_than_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < available_memory() <= psutil.virtual_memory().total
    monkeypatch.setattr(memory, "cgroup_memory", lambda: 12345)
    assert available_memory() == 12345


LIMITED = """
import resource
from torch_shallow.search.runs.memory import available_memory

for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
    before = available_memory()
    with open("/proc/self/statm") as file:
        pages = [int(number) for number in file.read().split()]
    used = pages[0 if kind == resource.RLIMIT_AS else 5] * resource.getpagesize()
    resource.setrlimit(kind, (used + (256 << 20), resource.RLIM_INFINITY))
    left = available_memory()
    assert (200 << 20) < left <= (256 << 20) <= before, (before, left)
    taken = bytearray(100 << 20)
    assert left - available_memory() >= (95 << 20)
    resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    del taken
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_limits_of_the_process_count() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=100)
    assert not done.returncode, done.stderr


MEASURED = """
import sys
from pathlib import Path
from tests.search.programs import mlp
from torch_shallow.domain import Box, WholeSpace
from torch_shallow.search.runs.memory import needed_memory
from torch_shallow.search.enumerate import enumerate_regions
from torch_shallow.search.growing_tree import Growth
from torch_shallow.modules.shallow_relu import ShallowReLU

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

store_maps = sys.argv[1] == "True"
sizes = [int(size) for size in sys.argv[2:]]
ShallowReLU(enumerate_regions(mlp(sizes[0], 4, 4, 1), WholeSpace()), store_maps=store_maps)
finish, begun = Growth.finish, []

def measured(growth, *arguments):
    Path("/proc/self/clear_refs").write_text("5")  # from now on, or compiling may have taken more
    begun.append(peak())
    return finish(growth, *arguments)

Growth.finish = measured
program = mlp(*sizes)
partition = enumerate_regions(program, Box(-10.0, 10.0))
shallow = ShallowReLU(partition, store_maps=store_maps)
needed = needed_memory(program, partition.chart.num_coordinates, shallow.num_regions, store_maps)
print(shallow.num_regions, needed, peak() - begun[0])
"""


LARGE = [(True, (3, 60, 30, 10)), pytest.param(False, (5, 16, 16, 1), marks=pytest.mark.slow)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("store_maps", "sizes"), LARGE)
def test_finishing_takes_no_more_than_is_said(store_maps: bool, sizes: tuple[int, ...]) -> None:
    command = [sys.executable, "-c", MEASURED, str(store_maps), *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert not done.returncode, done.stderr
    regions, needed, taken = map(int, done.stdout.split())
    assert regions > 100_000
    assert needed / 3 <= taken <= needed


def test_what_is_needed_grows_with_everything() -> None:
    program = mlp(3, 8, 8, 2)
    assert needed_memory(program, 3, 2000, True) > needed_memory(program, 3, 1000, True)
    assert needed_memory(program, 3, 1000, True) > needed_memory(program, 3, 1000, False)
    assert needed_memory(program, 30, 1000, False) > needed_memory(program, 3, 1000, False)
    assert needed_memory(program, 9, 1 << 31, False) > needed_memory(program, 9, (1 << 31) - 1, False) + (1 << 34)


def test_inputs_that_nothing_reads_take_nothing() -> None:
    weight = np.eye(2, 50)
    few, many = dense_program(2, [weight[:, :2]], [np.ones(2)]), dense_program(50, [weight], [np.ones(2)])
    assert needed_memory(few, 2, 1000, True) == needed_memory(many, 2, 1000, True)
    assert needed_memory(dense_program(2, [], []), 0, 1, True) > 0


def test_an_error_before_there_is_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    program = mlp(3, 8, 8, 2)
    chart = make_chart(program, Box(-1.0, 1.0))
    needed = needed_memory(program, 3, 10**7, True)
    monkeypatch.setattr(memory, "available_memory", lambda: needed)
    check_memory(program, chart, 10**7, True, 0.5)
    monkeypatch.setattr(memory, "available_memory", lambda: needed - 1)
    with pytest.raises(TransformError) as caught:
        check_memory(program, chart, 10**7, True, 0.123)
    message = str(caught.value)
    for part in ("10,000,000", "12.300%", "GB", "max_regions=", "store_maps=False", "checkpoint=", "smaller domain"):
        assert part in message
    check_memory(program, chart, 10**7, False, 0.5)
    monkeypatch.setattr(memory, "available_memory", lambda: 0)
    with pytest.raises(TransformError) as caught:
        check_memory(program, chart, 1, False, 0.5)
    assert "store_maps" not in str(caught.value)
