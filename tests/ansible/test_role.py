"""A real Ansible plays the role of examples/ansible over ssh: twice, the second changes nothing.

The hosts of the inventory are this machine, and a second one that it boots. Ansible is that of
Debian's archive, in a folder that ``make test-ansible`` shows.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.docs.how_to import section
from tests.systemd.ssh import Ssh

from .second import SecondMachine

ANSIBLE = Path("/opt/ansible")
ROLE = ROOT / "examples" / "ansible"
PACKAGES = Path("/srv/deb")
TIMER = "scopekeeper-reconcile.timer"
SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"
pytestmark = [
    pytest.mark.deb,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not ANSIBLE.exists(), reason=f"no {ANSIBLE}: make test-ansible has it"),
]


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[Ssh]:
    made = Ssh(tmp_path, "gateway1.example.org")
    yield made
    made.close()


@pytest.fixture
def apt() -> Iterator[None]:
    """Put python3-apt where the machine's Python finds it, as Ansible does with a network."""
    here, into = ANSIBLE / "usr/lib/python3/dist-packages", Path("/usr/lib/python3/dist-packages")
    links = [
        into / each.name for each in here.glob("apt*")
        if not (into / each.name).exists()
    ]  # fmt: skip
    for link in links:
        link.symlink_to(here / link.name)
    yield
    for link in links:
        link.unlink()


def ran(*words: str, **how: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=600, **how,
    )  # type: ignore[call-overload, no-any-return]  # fmt: skip


def play(folder: Path, ssh: Ssh, line: str) -> "tuple[int, str, dict[str, int]]":
    """Play the line of the page; return its status, its output and the sums of its last lines."""
    words = line.split()
    assert words[0] == "ansible-playbook"
    program = ANSIBLE / "usr/bin" / words[0]
    done = ran(
        "python3", str(program), *words[1:], cwd=folder,
        env={
            "PATH": SYSTEM, "HOME": str(folder), "LANG": "C.UTF-8",
            "PYTHONPATH": str(ANSIBLE / "usr/lib/python3/dist-packages"),
            "ANSIBLE_SSH_ARGS": f"-F {ssh.configuration}", "ANSIBLE_SSH_TRANSFER_METHOD": "piped",
            "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        },
    )  # fmt: skip
    recap = done.stdout.partition("PLAY RECAP")[2]
    sums: dict[str, int] = {}
    for name, count in re.findall(r"(\w+)=(\d+)", recap):
        sums[name] = sums.get(name, 0) + int(count)
    return done.returncode, done.stdout, sums


def remove() -> None:
    for user in (["runuser", "-u", "lab", "--", "env", "HOME=/home/lab",
                  f"XDG_RUNTIME_DIR=/run/user/{uid()}"], []):  # fmt: skip
        ran(*user, "scopekeeper", "uninstall", "--force")
    ran("dpkg", "--purge", "scopekeeper")
    shutil.rmtree("/etc/scopekeeper", ignore_errors=True)


def uid() -> str:
    return ran("id", "-u", "lab").stdout.strip()


@pytest.fixture
def second(tmp_path: Path, apt: None, ssh: Ssh) -> Iterator[SecondMachine]:
    """The other machine, reached with the same key."""
    made = SecondMachine(ANSIBLE, tmp_path)
    port = f"{made.address}:22"
    made.start(["dropbear", "-F", "-E", "-s", "-p", port, "-r", str(tmp_path / "host")])
    again = ssh.configuration.read_text().replace("gateway1.example.org", "gateway2.example.org")
    again = re.sub("HostName .*", f"HostName {made.address}", again)
    with ssh.configuration.open("a") as file:
        file.write(re.sub("Port .*", "Port 22", again))
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path, second: SecondMachine) -> Iterator[Path]:
    """The example as a user copies it."""
    copy = tmp_path / "ansible"
    shutil.copytree(ROLE, copy)
    (package,) = PACKAGES.glob("scopekeeper_*.deb")
    (copy / "dist").mkdir()
    shutil.copy(package, copy / "dist")
    inventory = copy / "inventory.yml"
    text = inventory.read_text().replace("[agent]", "[lab]")
    inventory.write_text(text)
    yield copy
    remove()


def test_it_installs_writes_the_rules_checks_and_changes_nothing_the_second_time(
    folder: Path, ssh: Ssh, second: SecondMachine
) -> None:
    (line,) = blocks(section("many-machines.md", "Hundreds of machines"), "sh")
    (package,) = (folder / "dist").iterdir()
    line = re.sub(r"dist/\S+\.deb", f"dist/{package.name}", line)
    status, out, sums = play(folder, ssh, line)
    assert status == 0, out
    assert sums["failed"] == sums["unreachable"] == 0
    assert sums["changed"] > 8
    for there in (lambda *words: ran(*words).stdout, second.run):
        shown = json.loads(there("scopekeeper", "policy", "show", "cron", "--json"))
        assert shown["rules"]["memory_max"]["value"] == "4G"
        assert there("systemctl", "is-enabled", TIMER).strip() == "enabled"
    # the inventory names a user of the second alone
    assert second.run("systemctl", "--user", "-M", "lab@", "is-enabled", TIMER).strip() == "enabled"
    status, out, sums = play(folder, ssh, line)
    assert (status, sums["changed"]) == (0, 0), out


def test_rules_that_are_wrong_stop_the_play_before_they_are_written(
    folder: Path, ssh: Ssh, second: SecondMachine
) -> None:
    inventory = folder / "inventory.yml"
    inventory.write_text(inventory.read_text().replace('ttl = "2h"', 'ttl = "soon"'))
    (package,) = (folder / "dist").iterdir()
    status, out, sums = play(
        folder, ssh, "ansible-playbook -i inventory.yml site.yml --extra-vars "
        f"scopekeeper_package=dist/{package.name}",
    )  # fmt: skip
    assert status == 2
    assert sums["failed"] == 2
    assert "soon" in out
    assert "Traceback" not in out
    assert not os.path.exists("/etc/scopekeeper/config.toml")
    assert second.run("find", "/etc", "-path", "/etc/scopekeeper/*") == ""
