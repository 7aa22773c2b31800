"""``uninstall --gateway UNIT``: a typing error is refused, as ``install`` refuses it."""

import pytest

from scopekeeper.errors import ConfigError
from scopekeeper.install import locations, origin, shipped
from scopekeeper.install.uninstall import uninstall
from scopekeeper.systemd.systemctl import Systemctl

UNIT = "my-gateway.service"


class Manager(Systemctl):
    """The manager of a user who has these units; none is asked."""

    def __init__(self, *units):
        self.kind = "user"
        self._has = units

    def has(self, unit):
        return unit in self._has


@pytest.fixture
def places(tmp_path):
    return locations.find("user", {"HOME": str(tmp_path)})


def test_a_unit_that_there_is_not_is_refused(places):
    with pytest.raises(ConfigError, match=r"the user manager has no my-gatway\.service"):
        uninstall(Manager(UNIT), places, {}, "my-gatway.service", dry_run=True)


def test_a_unit_without_a_drop_in_has_nothing_to_change(places):
    assert uninstall(Manager(UNIT), places, {}, UNIT, dry_run=True).is_nothing


def test_the_drop_in_of_a_removed_unit_is_removed(places, tmp_path):
    drop_in = tmp_path / places.drop_in(UNIT)
    drop_in.parent.mkdir(parents=True)
    text = shipped.drop_in("/usr/bin/scopekeeper", shell=False)
    drop_in.write_bytes(origin.marked(text, str(drop_in)))
    change = uninstall(Manager(), places, {}, UNIT, dry_run=True)
    assert change.removed == [str(drop_in)]
