"""A conversion needs one chunk of memory of its own, whatever the model's size: the kernel refuses it more."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flamingo_ds.checkpoint.stored_tensor import CHUNK_ELEMENTS
from tools.benchmark.large_checkpoint import write_large_checkpoint

ROOT = Path(__file__).parents[2]
CHUNK = 4 * CHUNK_ELEMENTS
MARGIN = 100_000_000
# Everything is imported and a conversion has run once; from there on RLIMIT_DATA allows so much and no more.
LIMITED = """
import resource, sys
from pathlib import Path
from flamingo_ds.checkpoint.conversion.to_hf import ExportOptions, export_checkpoint

def data_bytes():
    return 1024 * int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0])

small, large, out, allowed = sys.argv[1:]
export_checkpoint(Path(small), Path(out) / "first", ExportOptions())
limit = data_bytes() + int(allowed)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    bytearray(int(allowed) + 50_000_000)
except MemoryError:
    print("the limit holds")
export_checkpoint(Path(large), Path(out) / "second", ExportOptions(max_shard_size="1GB"))
print("converted")
"""


@pytest.mark.timeout(400)
def test_two_gigabytes_with_a_chunk_and_a_hundred_megabytes(tmp_path: Path) -> None:
    small = write_large_checkpoint(tmp_path / "small", 0.2)
    large = write_large_checkpoint(tmp_path / "large", 2.0)
    command = [sys.executable, "-c", LIMITED, str(small), str(large), str(tmp_path), str(CHUNK + MARGIN)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search("the limit holds\nconverted", done.stdout), done.stdout
    sizes = [path.stat().st_size for path in (tmp_path / "second").glob("model-*.safetensors")]
    assert sum(sizes) > 1.9e9
    assert len(sizes) == 2
