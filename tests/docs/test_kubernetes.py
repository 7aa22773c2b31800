"""docs/kubernetes.md: its YAML and TOML can be read, and fit each other."""

import shlex
import tomllib
from typing import Any

from scopekeeper.cli.commands import GROUPS
from tests.docs.how_to import block

PAGE = "kubernetes.md"
_POD = {"runtimeClassName", "containers", "volumes"}
_CONTAINER = {"name", "image", "command", "env", "resources", "volumeMounts"}


def documents(title: str, language: str) -> list[Any]:
    """Return the documents of a block of YAML; machines of the lab have no parser for it."""
    import yaml  # mkdocs needs it

    return list(yaml.safe_load_all(block(PAGE, title, language)))


def test_the_pod_uses_the_runtime_that_the_nodes_have() -> None:
    config = tomllib.loads(block(PAGE, "1. Let the runtime", ""))
    runtimes = config["plugins"]["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]
    kind, pod = documents("2. Start the pod", "yaml")
    assert runtimes[kind["handler"]]["cgroup_writable"] is True
    assert (kind["apiVersion"], kind["kind"]) == ("node.k8s.io/v1", "RuntimeClass")
    assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
    assert pod["spec"]["runtimeClassName"] == kind["metadata"]["name"]


def test_the_fields_of_the_pod_are_those_of_a_pod_and_its_volumes_are_there() -> None:
    _, pod = documents("2. Start the pod", "yaml")
    assert set(pod["spec"]) == _POD
    (container,) = pod["spec"]["containers"]
    assert set(container) == _CONTAINER
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["spec"]["volumes"]}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert volumes.keys() == mounted.keys()
    (variable,) = container["env"]
    assert variable == {"name": "SCOPEKEEPER_STATE", "value": mounted["state"]}


def test_its_command_runs_an_init_and_a_command_that_there_is() -> None:
    _, pod = documents("2. Start the pod", "yaml")
    command = pod["spec"]["containers"][0]["command"]
    assert command[:4] == ["tini", "--", "sh", "-c"]
    called, gateway = map(shlex.split, command[4].split(";"))
    assert called[0] == "scopekeeper"
    assert called[1] in GROUPS["End"]
    assert gateway == ["exec", "my-gateway"]
