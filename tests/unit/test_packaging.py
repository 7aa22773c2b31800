"""The recipes for other distributions say what the project says; what they install is right.

They are not built here. What reads them is run where it is installed.
"""

import ast
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from scopekeeper.cli.documents import texts
from scopekeeper.install import locations, shipped
from scopekeeper.version import __version__

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEPENDENCIES = {
    re.match(r"[\w-]+", each)[0]
    for each in PROJECT["project"]["dependencies"]
    if "'3.15'" not in each or "<" in each.partition(";")[2]
}
BUILD = {re.match(r"[\w-]+", each)[0] for each in PROJECT["build-system"]["requires"]}
ARCH, FEDORA = "PKGBUILD", "scopekeeper.spec"
NIX = ("flake.nix", "package.nix", "options.nix", "nixos.nix", "home-manager.nix")
RECIPES = (ARCH, FEDORA, *NIX)
BIN = "/opt/programs"


def text_of(name):
    return (PACKAGING / name).read_text(encoding="utf-8")


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


def read(*command, **how):
    done = subprocess.run(command, capture_output=True, text=True, **how)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture
def installed(tmp_path):
    """What install-units puts below /usr, each path from there."""
    done = subprocess.run(
        ["sh", PACKAGING / "install-units", tmp_path, "/usr", BIN], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return {
        str(path.relative_to(tmp_path / "usr")): path
        for path in tmp_path.rglob("*")
        if path.is_file()
    }


def test_all_that_install_installs_is_in_a_package(installed):
    """And nothing else, but for the examples; with the same text."""
    documents = texts()
    expected = {}
    for manager in ("system", "user"):
        places = locations.find(manager, {"HOME": "/home/someone"})
        for piece in locations.pieces(places, f"{BIN}/scopekeeper", documents):
            if piece.is_document:
                continue
            folder = f"lib/systemd/{manager}" if piece.is_unit else (
                "share/dbus-1/system.d" if piece.name.endswith(".conf")
                else f"share/dbus-1/{'system-' if manager == 'system' else ''}services"
            )  # fmt: skip
            expected[f"{folder}/{piece.name}"] = piece.text
    examples = {name for name in installed if "/examples/" in name}
    assert {name: path.read_text() for name, path in installed.items() if name not in examples} == (
        expected
    )
    shown = {ROOT / "units": "*.d/*", ROOT / "examples": "**/*"}
    assert {name.partition("/examples/")[2] for name in examples} == {
        str(path.relative_to(folder))
        for folder, pattern in shown.items()
        for path in folder.glob(pattern)
        if path.is_file()
    }
    assert {path.stat().st_mode & 0o777 for path in installed.values()} == {0o644}


def test_a_relative_root_is_one_of_the_caller(tmp_path):
    command = ["sh", PACKAGING / "install-units", "put/here", "/usr", "/usr/bin"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "put/here/usr/lib/systemd/user" / shipped.TEMPLATE).is_file()
    done = subprocess.run(command[:-1], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.startswith("usage: ")) == (2, True)


@pytest.mark.parametrize("recipe", [ARCH, FEDORA, "flake.nix"])
def test_a_recipe_says_at_its_head_what_was_checked_and_what_was_not(recipe):
    head = re.match(r"(?:#.*\n)+", text_of(recipe))[0]
    assert "# Checked: " in head
    assert re.search("# Not checked: .*not built here", head.replace("\n# ", " "), re.DOTALL) or (
        "was not built here" in head
    )


def test_no_recipe_has_an_address_of_its_own():
    for recipe in RECIPES:
        addresses = re.findall(r"https?://[^\s\"']+", text_of(recipe))
        assert not addresses, recipe
    for recipe in (ARCH, FEDORA):
        assert text_of(recipe).count("@URL@") == 1


# Arch


def variable(name):
    """Return a variable of the PKGBUILD as bash reads it: the words of an array."""
    script = f'set -u; . "$1"; printf "%s\\n" "${{{name}[@]}}"'
    return read("bash", "-c", script, "bash", PACKAGING / ARCH).split("\n")[:-1]


def test_arch_has_the_version_the_license_and_the_dependencies_of_the_project():
    assert variable("pkgver") == [__version__]
    assert variable("license") == [PROJECT["project"]["license"]]
    as_arch = {"prometheus-client": "prometheus_client"}
    assert set(variable("depends")) == {"python", "systemd"} | {
        f"python-{as_arch.get(name, name)}" for name in DEPENDENCIES
    }
    known = {"python-build", "python-installer"}
    assert set(variable("makedepends")) | set(variable("depends")) >= known | {
        f"python-{name}" for name in BUILD
    }
    (source,) = variable("source")
    assert source.endswith(f"/v{__version__}/scopekeeper-{__version__}.tar.gz")


def test_arch_installs_the_wheel_the_units_and_the_license(tmp_path):
    """Its functions, with stand-ins for the tools that only Arch has."""
    source = tmp_path / f"scopekeeper-{__version__}"
    source.symlink_to(ROOT)
    script = f"""
        set -eu; . {shlex.quote(str(PACKAGING / ARCH))}
        python() {{ echo "python $*" >> {tmp_path}/calls; }}
        pkgdir={tmp_path}/package
        (build); (package)
    """
    read("bash", "-c", script, cwd=tmp_path)
    package = tmp_path / "package/usr"
    assert (package / "lib/systemd/system" / shipped.TEMPLATE).is_file()
    for page in ("README.md", "docs/README.md", "docs/limits.md"):
        assert (package / "share/doc/scopekeeper" / page).read_text() == (ROOT / page).read_text()
    assert (package / "share/licenses/scopekeeper/LICENSE").read_text() == (
        (ROOT / "LICENSE").read_text()
    )
    wheel, installer = (tmp_path / "calls").read_text().splitlines()
    assert wheel == "python -m build --wheel --no-isolation"
    assert installer.startswith(f"python -m installer --destdir={tmp_path}/package dist/")


@needs("makepkg")
@needs("pacman")
@pytest.mark.skipif(os.geteuid() == 0, reason="makepkg refuses root")
def test_makepkg_reads_it(tmp_path):
    shutil.copy(PACKAGING / ARCH, tmp_path)
    printed = read("makepkg", "--printsrcinfo", cwd=tmp_path)
    assert f"pkgver = {__version__}" in printed


@needs("namcap")
def test_namcap_has_no_errors():
    assert " E: " not in read("namcap", PACKAGING / ARCH)


# Fedora

MACROS = {
    "name": "scopekeeper", "_bindir": "bin", "_datadir": "share", "_docdir": "share/doc",
    "_mandir": "share/man", "_unitdir": "lib/systemd/system", "_userunitdir": "lib/systemd/user",
}  # fmt: skip


def section(name):
    """Return the lines of a section of the spec."""
    found = re.search(rf"(?ms)^%{name}\b[^\n]*\n(.*?)(?=^%(?:\w+)\b(?!.*{{)|\Z)", text_of(FEDORA))
    return [line for line in found[1].splitlines() if line and not line.startswith("#")]


def tag(name):
    return re.search(rf"(?m)^{name}: +(.*)$", text_of(FEDORA))[1]


def test_fedora_has_the_version_and_the_license_of_the_project():
    assert (tag("Version"), tag("License")) == (__version__, PROJECT["project"]["license"])
    assert tag("Source").endswith("/v%{version}/%{name}-%{version}.tar.gz")
    assert f"- {__version__}-1" in text_of(FEDORA)


def test_fedora_lists_every_file_and_no_other(installed):
    """A build fails for a file that is not listed, and for a line that matches none."""
    text = text_of(FEDORA)
    listed = text[text.index("%files") : text.index("%changelog")].splitlines()[1:]
    patterns = []
    for line in filter(None, listed):
        if line.startswith("%doc "):
            assert all((ROOT / word).exists() for word in line.split()[1:])
            continue
        patterns.append(re.sub(r"%{(\w+)}", lambda found: MACROS[found[1]], line))
    scripts = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-scripts"].values()
    there = {*installed, *(f"share/{name}" for name in texts()), *(f"bin/{s}" for s in scripts)}
    # rpm compresses manual pages
    there = {f"{name}.gz" if "/man/" in name else name for name in there}

    def covers(pattern, name):
        return fnmatch(name, pattern) or name.startswith(f"{pattern}/")

    assert [name for name in sorted(there) if not any(covers(p, name) for p in patterns)] == []
    assert [p for p in patterns if not any(covers(p, name) for name in there)] == []


def test_fedora_never_stops_the_slice():
    scriptlets = "\n".join(line for line in text_of(FEDORA).splitlines() if "systemd_" in line)
    assert shipped.SLICE not in scriptlets
    assert scriptlets.count(shipped.ENABLED[0]) == 4


@needs("rpmspec")
def test_rpm_reads_it():
    printed = read("rpmspec", "--query", "--qf", "%{name} %{version}\n", PACKAGING / FEDORA)
    assert printed.splitlines() == [f"scopekeeper {__version__}"]


@needs("rpmlint")
def test_rpmlint_has_no_errors():
    done = subprocess.run(["rpmlint", PACKAGING / FEDORA], capture_output=True, text=True)
    assert ": E: " not in done.stdout
    assert " 0 errors" in done.stdout


# Nix


def bare(name):
    """Return a file of Nix without comments and without what stands in strings."""
    text = re.sub(r"(?m)#.*$", "", text_of(name))
    text = re.sub(r"''.*?''", "''", text, flags=re.DOTALL)
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)


@pytest.mark.parametrize("name", NIX)
def test_brackets_of_nix_are_pairs(name):
    pairs, open_ones = {")": "(", "]": "[", "}": "{"}, []
    for char in bare(name):
        if char in pairs.values():
            open_ones.append(char)
        elif char in pairs:
            assert open_ones, name
            assert open_ones.pop() == pairs[char], name
    assert not open_ones
    assert len(re.findall(r"\blet\b", bare(name))) == len(re.findall(r"\bin\b", bare(name)))


def words_of(name, attribute):
    """Return the words of ``attribute = with python3.pkgs; [ … ]``."""
    found = re.search(rf"{attribute} = with python3\.pkgs; \[(.*?)\]", text_of(name), re.DOTALL)
    return set(found[1].split())


def test_nix_has_the_version_and_the_dependencies_of_the_project():
    assert words_of("package.nix", "dependencies") == DEPENDENCIES
    assert words_of("package.nix", "build-system") == BUILD
    pattern = re.search(r'builtins\.match "((?:[^"\\]|\\.)*)"', text_of("package.nix"))[1]
    pattern = ast.literal_eval(f'"{pattern}"')
    found = re.fullmatch(pattern, (ROOT / "scopekeeper/version.py").read_text(), re.DOTALL)
    assert found[1] == __version__


def test_nix_enables_what_install_enables_and_links_all_of_a_users_units():
    nixos, home = text_of("nixos.nix"), text_of("home-manager.nix")
    for unit in shipped.ENABLED:
        stem, kind = unit.rsplit(".", 1)
        for manager in ("systemd", "systemd.user"):
            assert f"\n    {manager}.{kind}s.{stem}.wantedBy = " in nixos
        wanted = re.search(r"WantedBy=(\S+)", (ROOT / "units" / unit).read_text())[1]
        assert f'"{wanted}"' in nixos
        assert f'"{wanted}.wants/{unit}"' in home
    for unit in shipped.UNITS:
        assert f'"{unit}"' in home
    assert f'"{shipped.BUS_SERVICE}"' in home


def test_both_modules_have_the_same_options():
    for module in ("nixos.nix", "home-manager.nix"):
        text = text_of(module)
        file, given = re.search(
            r"options\.services\.scopekeeper = import (\S+) \{(.*?)\n  \};", text, re.DOTALL
        ).groups()
        assert file == "./options.nix"
        names = re.findall(r"\w+", re.search(r"inherit ([^;]*);", given)[1])
        names += re.findall(r"(?m)^    (\w+) = ", given)
        wanted = re.match(r"(?:#.*\n)*\{(.*?)\n\}:", text_of("options.nix"), re.DOTALL)[1]
        assert sorted(names) == sorted(re.findall(r"\w+", wanted))
        assert "mkOption" not in text


def nix(folder, *arguments):
    """Call nix-instantiate with a store of its own; root without nixbld gets a warning."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "NIX_STATE_DIR": str(folder),
                   "NIX_STORE_DIR": str(folder)}  # fmt: skip
    done = subprocess.run(
        ["nix-instantiate", *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs("nix-instantiate")
@pytest.mark.parametrize("name", NIX)
def test_nix_parses_it(name, tmp_path):
    nix(tmp_path, "--parse", PACKAGING / name)


@needs("nix-instantiate")
def test_nix_evaluates_package_and_modules(tmp_path):
    printed = nix(tmp_path, "--eval", "--strict", "--json", "--argstr", "packaging", PACKAGING,
               ROOT / "tests/unit/nixpkgs_standin.nix")  # fmt: skip
    found = json.loads(printed)
    assert found["name"] == f"scopekeeper-{__version__}"
    assert "/packaging/install-units" in found["script"]
    for options in found["options"]:
        assert set(options) == {"enable", "package", "settings"}
        assert options["package"]["default"] == f"/out/scopekeeper-{__version__}"
        assert "/scopekeeper/config.toml" in options["settings"]["description"]
    units = {name for name in found["home"]["xdg"]["configFile"] if name.startswith("systemd/")}
    assert {f"systemd/user/{unit}" for unit in shipped.UNITS} <= units
    assert found["home"]["home"]["packages"] == [f"/out/scopekeeper-{__version__}"]
    assert found["nixos"]["systemd"]["packages"] == [f"/out/scopekeeper-{__version__}"]
    assert found["nixos"]["systemd"]["user"]["timers"]["scopekeeper-reconcile"]["wantedBy"] == [
        "timers.target"
    ]


# the release


def test_fill_in_writes_the_address_and_the_checksum(tmp_path):
    sdist = tmp_path / f"scopekeeper-{__version__}.tar.gz"
    sdist.write_bytes(b"a release")
    url = "https://forge.invalid/owner/name"
    read(PACKAGING / "fill-in", url, sdist, tmp_path)
    for name in (ARCH, FEDORA):
        assert "@" not in re.sub(r"scopekeeper@\.service|\S+@scopekeeper|\[@\]|\$@", "",
                                 (tmp_path / name).read_text())  # fmt: skip
        assert url in (tmp_path / name).read_text()
    sums = read("bash", "-c", '. ./PKGBUILD; echo "$sha256sums $source"', cwd=tmp_path).split()
    assert sums == [hashlib.sha256(b"a release").hexdigest(),
                    f"{url}/releases/download/v{__version__}/{sdist.name}"]  # fmt: skip


def test_the_openclaw_plugin_is_written_with_the_address(tmp_path):
    plugin = ROOT / "scopekeeper/openclaw/plugin"
    url = "https://forge.invalid/owner/name"
    read(PACKAGING / "openclaw-plugin", url, tmp_path / "out")
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    shipped_ = {path.name: path.read_bytes() for path in plugin.iterdir()}
    package = json.loads(written.pop("package.json"))
    before = json.loads(shipped_.pop("package.json"))
    assert written == shipped_
    assert package == before | {
        "homepage": url,
        "repository": {"type": "git", "url": f"git+{url}.git",
                       "directory": "scopekeeper/openclaw/plugin"},
    }  # fmt: skip
    assert "://" not in json.dumps(before), "else it has an address of its own"
    done = subprocess.run([PACKAGING / "openclaw-plugin"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.startswith("usage: ")) == (2, True)


@pytest.fixture(scope="module")
def workflow():
    """The release workflow, as a reader of YAML sees it."""
    if not shutil.which("ruby"):
        pytest.skip("there is no ruby")
    program = "puts JSON.dump(YAML.load_file(ARGV[0]))"
    path = ROOT / ".github/workflows/release.yml"
    return json.loads(read("ruby", "-ryaml", "-rjson", "-e", program, path))


def scripts(workflow):
    return [
        step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step
    ]


def test_the_release_is_built_from_this_checkout_by_its_own_commands(workflow):
    joined = "\n".join(scripts(workflow))
    assert workflow["env"] == {"URL": "${{ github.server_url }}/${{ github.repository }}"}
    assert "https://" not in (ROOT / ".github/workflows/release.yml").read_text()
    for command in re.findall(r"(?m)^(packaging/\S+|make \w+)", joined):
        name, _, target = command.partition(" ")
        makefile = (ROOT / "Makefile").read_text()
        assert re.search(f"(?m)^{target}:", makefile) if target else (ROOT / name).exists()
    assert {"make deb", "python -m build", "sha256sum -- *"} <= {
        found for found in ("make deb", "python -m build", "sha256sum -- *") if found in joined
    } | {"python -m build"}
    assert re.search(r'bin/python" -m build\n', joined)


def test_the_release_is_attested_and_tried_on_both_debians(workflow):
    jobs = workflow["jobs"]
    assert jobs["debian"]["strategy"]["matrix"]["image"] == ["debian:12", "debian:13"]
    assert set(jobs["release"]["needs"]) == {"build", "debian"}
    assert workflow["permissions"] == {"contents": "read"}
    assert jobs["release"]["permissions"] == {
        "contents": "write", "id-token": "write", "attestations": "write"
    }  # fmt: skip
    used = [step.get("uses", "") for step in jobs["release"]["steps"]]
    assert any(each.startswith("actions/attest-build-provenance@") for each in used)
    assert all("permissions" not in job for name, job in jobs.items() if name != "release")
    actions = {step["uses"].split("@")[0] for job in jobs.values() for step in job["steps"]
               if "uses" in step}  # fmt: skip
    assert all(action.startswith("actions/") for action in actions)


def test_its_scripts_are_read_by_bash_and_shellcheck(workflow, tmp_path):
    for number, text in enumerate(scripts(workflow)):
        path = tmp_path / f"{number}.sh"
        path.write_text(f"#!/bin/bash\nset -e\n{text}\n")
        read("bash", "-n", path)
        if shutil.which("shellcheck"):
            done = subprocess.run(["shellcheck", path], capture_output=True, text=True)
            assert done.stdout == "", done.stdout


def test_a_tag_that_is_not_the_version_ends_the_release(workflow):
    (script,) = [each for each in scripts(workflow) if "GITHUB_REF_NAME" in each
                 and "version.py" in each]  # fmt: skip
    for tag_name, status in ((f"v{__version__}", 0), ("v9.9.9", 1), (__version__, 1)):
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=ROOT, capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin", "GITHUB_REF_NAME": tag_name},
        )  # fmt: skip
        assert done.returncode == status, done.stderr


@pytest.mark.parametrize("path", ["install-units", "fill-in", "openclaw-plugin"])
def test_shellcheck_finds_nothing_in_a_script(path):
    if not shutil.which("shellcheck"):
        pytest.skip("there is no shellcheck")
    assert subprocess.run(["shellcheck", PACKAGING / path], capture_output=True).stdout == b""


# where to report


def test_the_form_asks_for_what_the_commands_print():
    from click.testing import CliRunner

    from scopekeeper.cli.main import group

    form = (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text()
    named = [*re.findall(r"`scopekeeper ([^`]+)`", form),
             *re.findall(r"`scopekeeper ([^`]+)`", (ROOT / "SECURITY.md").read_text())]  # fmt: skip
    assert {"bugreport --hide-names", "doctor --json"} <= set(named)
    for command in named:
        name, *options = command.split()
        printed = CliRunner().invoke(group, [name, "--help"]).output
        assert all(option in printed for option in options), command


def test_the_form_is_one_of_github():
    if not shutil.which("ruby"):
        pytest.skip("there is no ruby")
    program = "puts JSON.dump(YAML.load_file(ARGV[0]))"
    path = ROOT / ".github/ISSUE_TEMPLATE/bug.yml"
    form = json.loads(read("ruby", "-ryaml", "-rjson", "-e", program, path))
    assert {"name", "description", "body"} <= set(form)
    fields = [each for each in form["body"] if each["type"] != "markdown"]
    assert len({each["id"] for each in fields}) == len(fields)
    assert {each["type"] for each in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert all(each["attributes"]["label"] for each in fields)


def test_the_packages_maintainer_is_the_project_and_nobody_who_exists():
    control = (ROOT / "debian/control").read_text()
    (maintainer,) = re.findall(r"(?m)^Maintainer: (.*)$", control)
    name, address = re.fullmatch(r"(.+) <(.+)>", maintainer).groups()
    assert name == "scopekeeper project"
    # RFC 2606: nobody can have it
    assert address.rpartition(".")[2] in ("example", "invalid")
    for recipe in ("debian/changelog", "packaging/scopekeeper.spec"):
        assert maintainer in (ROOT / recipe).read_text()
