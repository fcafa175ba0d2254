import subprocess
import sys

import pytest

from flamingo_ds.config import ConfigError
from flamingo_ds.launching.hostlist import expand_hostlist


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n1", ["n1"]),
        ("n[1-3,07],login", ["n1", "n2", "n3", "n07", "login"]),
        ("gpu-[008-011]", ["gpu-008", "gpu-009", "gpu-010", "gpu-011"]),
        ("rack[1-2]n[1,3]-ib", ["rack1n1-ib", "rack1n3-ib", "rack2n1-ib", "rack2n3-ib"]),
        ("a,b[9-10],c.cluster.org", ["a", "b9", "b10", "c.cluster.org"]),
    ],
)
def test_every_form_that_slurm_writes(text, hosts):
    assert expand_hostlist(text) == hosts


@pytest.mark.parametrize("text", ["", "n[1-", "n[3-1]", "n[a-b]", "n[]", "n1,", ",n1", "n1,,n2", "n[1-2]]", "n[1-2-3]"])
def test_what_is_no_list_is_refused(text):
    with pytest.raises(ConfigError, match="a list of nodes as SLURM writes it"):
        expand_hostlist(text)


def test_the_command_prints_a_name_a_line():
    command = [sys.executable, "-m", "flamingo_ds.launching.hostlist", "n[1-2],login"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "n1\nn2\nlogin\n"
