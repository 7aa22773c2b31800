"""Read the argv of docker and podman: whether it runs a container that has to end with it. Pure.

`run` imports this on its hot path, though only for these two programs: builtin modules only.
"""

PROGRAMS = ("docker", "podman")
LABEL = "scopekeeper.claim"
"""The label of a container that a claim is about; its value is the claim's id."""
VARIABLES = (
    "HOME", "PATH", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS",
    "DOCKER_TLS_VERIFY", "CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINER_SSHKEY",
    "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "STORAGE_DRIVER", "STORAGE_OPTS",
)  # fmt: skip
"""Environment variables that decide which containers the program sees."""

_REACH_VALUED = {
    "docker": ("-H", "--host", "-c", "--context", "--config", "--tlscacert", "--tlscert",
               "--tlskey", "-l", "--log-level"),
    "podman": ("-c", "--connection", "--url", "--identity", "--root", "--runroot",
               "--storage-driver", "--log-level", "--cgroup-manager"),
}  # fmt: skip
_REACH_FLAGS = {
    "docker": ("-D", "--debug", "--tls", "--tlsverify"),
    "podman": ("-r", "--remote", "--syslog"),
}
"""Options before the subcommand. Others make the call one that is left as it is."""
_FLAGS = (
    "--init", "--interactive", "--no-healthcheck", "--oom-kill-disable", "--privileged",
    "--publish-all", "--quiet", "--read-only", "--sig-proxy", "--tty", "--disable-content-trust",
    "--env-host", "--http-proxy", "--no-hostname", "--no-hosts", "--passwd", "--replace", "--rmi",
    "--rootfs", "--tls-verify", "--unsetenv-all", "--read-only-tmpfs", "--use-api-socket",
)  # fmt: skip
"""Options of `run` without a value in the next word."""
_SHORT_FLAGS = "itPq"
_FALSE = ("false", "0", "f", "F", "FALSE", "False")


class Call:
    """A call that runs a container in the foreground."""

    __slots__ = ("at", "reach", "removes")

    def __init__(self, at: int, reach: list[str], *, removes: bool) -> None:
        self.at = at
        """Where an option of `run` can be inserted."""
        self.reach = reach
        """The options before the subcommand: another call with them sees the same containers."""
        self.removes = removes
        """Whether the caller wants the container removed once it has ended (``--rm``)."""

    def labelled(self, argv: list[str], claim_id: str) -> list[str]:
        """Return argv with a label for the container."""
        return [*argv[: self.at], f"--label={LABEL}={claim_id}", *argv[self.at :]]


def read(argv: list[str]) -> Call | None:
    """Return what a call of docker or podman does; None if it runs no container, or detaches it.

    Raises ValueError if an option before the subcommand is unknown: then nobody can tell.
    """
    program = argv[0].rpartition("/")[2]
    at = 1
    while at < len(argv) and argv[at].startswith("-"):
        name, equals, _ = argv[at].partition("=")
        if name in _REACH_VALUED[program]:
            at += 1 if equals else 2
        elif name in _REACH_FLAGS[program]:
            at += 1
        elif "run" in argv[at:]:
            raise ValueError(f"option {name[:40]} of {program} is unknown")
        else:
            return None
    reach = argv[1:at]
    if argv[at : at + 1] == ["container"]:
        at += 1
    if argv[at : at + 1] != ["run"]:
        return None
    given = _options(argv[at + 1 :])
    return None if given["d"] else Call(at + 1, reach, removes=given["rm"])


def _options(words: list[str]) -> dict[str, bool]:
    """Return whether ``--detach`` and ``--rm`` are among the options before the image.

    The value of an unknown option that begins with a dash is read as an option: rather leave a
    container alone than end one that was to be detached.
    """
    given = {"d": False, "rm": False}
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-", "--"):
        word = words[at]
        at += 1
        name, equals, value = word.partition("=")
        if name in ("--detach", "--rm"):
            given["d" if name == "--detach" else "rm"] = value not in _FALSE
            continue
        takes = not equals and name not in _FLAGS
        if not word.startswith("--"):
            takes = False
            for letter in name[1:]:
                if letter == "d":
                    given["d"] = value not in _FALSE
                elif letter not in _SHORT_FLAGS:
                    takes = name.endswith(letter) and not equals
                    break
        if takes and at < len(words) and not words[at].startswith("-"):
            at += 1
    return given
