"""The one place that speaks to systemd: its managers, its files, its journal, its notifications.

``units`` and ``manager`` with ``dbus_wire`` serve the hot path of ``run`` and import builtin
modules only; everything else calls a manager through ``calls``. Imports the ground floor
(``errors``) and ``kernel``; every room above may import it.
"""
