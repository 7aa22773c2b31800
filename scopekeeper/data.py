"""Data classes that are cheap to make: ``dataclass`` as of dataclasses, without importing that.

dataclasses imports inspect, which takes twice as long as the interpreter itself, and it compiles
six methods of each class while a module is imported. Here all classes share their methods, except
``__init__``, which is compiled when there are many objects. A type checker sees dataclasses.

For modules that ``ls`` or ``exec`` import. It has what these need: ``frozen``, ``slots`` and
``eq``; ``field`` with ``default``, ``default_factory`` and ``compare``; no inheritance. Slots are
always there. The functions of dataclasses work on the objects, and import it then.
"""

from _operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
    from typing import Any

    def values(of: object) -> dict[str, Any]:
        """Return the values of an object by their names; objects among them stay objects."""
        raise NotImplementedError
else:
    _MISSING = object()

    class field:  # noqa: N801  as dataclasses calls it
        """What a field has beside its name."""

        __slots__ = ("compare", "default", "default_factory")

        def __init__(self, *, default=_MISSING, default_factory=_MISSING, compare=True):
            self.default = default
            self.default_factory = default_factory
            self.compare = compare

    def dataclass(*, frozen=False, slots=True, eq=True):
        """Make a class of a class body that annotates its fields."""
        if not slots:
            raise TypeError("a class of scopekeeper.data always has slots")
        return lambda body: _made(body, frozen=frozen, eq=eq)

    def replace(of, /, **changes):
        """Return an object of the same class with some values changed."""
        return type(of)(**{**values(of), **changes})

    def values(of):
        """Return the values of an object by their names; objects among them stay objects."""
        return {name: getattr(of, name) for name in of.__slots__}

    def _made(body, *, frozen, eq):
        content = {k: v for k, v in vars(body).items() if k not in ("__dict__", "__weakref__")}
        names = tuple(body.__annotations__)
        given = {name: content.pop(name) for name in names if name in content}
        fields = {
            name: value if isinstance(value, field) else field(default=value)
            for name, value in ((name, given.get(name, _MISSING)) for name in names)
        }
        compared = [name for name in names if fields[name].compare]
        content |= {
            "__slots__": names,
            "__match_args__": names,
            "__repr__": _repr,
            "__dataclass_fields__": _Fields(fields),
        }
        if eq:
            key = attrgetter(*compared) if compared else type
            content["__eq__"], content["__hash__"] = _comparison(key, hashable=frozen)
        if frozen:
            content |= {
                "__setattr__": _refuse, "__delattr__": _refuse,
                "__getstate__": _state, "__setstate__": _set_state,
            }  # fmt: skip
        made = type(body)(body.__name__, body.__bases__, content)
        made.__qualname__ = body.__qualname__

        few = iter(range(_FEW))

        def first_init(self, /, *given, **named):
            if next(few, None) is None or not _set_fields(self, fields, given, named):
                made.__init__ = _init(fields)
                made.__init__(self, *given, **named)

        made.__init__ = first_init
        return made

    _FEW = 30
    """Objects of a class that are made before its ``__init__`` is compiled, which takes as long."""

    def _set_fields(self, fields, given, named):
        """Set the fields; return False if the arguments are wrong."""
        values = {**dict(zip(fields, given, strict=False)), **named}
        if len(values) != len(given) + len(named):
            return False
        for name, each in fields.items():
            value = values.pop(name, each.default)
            if value is _MISSING:
                if each.default_factory is _MISSING:
                    return False
                value = each.default_factory()
            object.__setattr__(self, name, value)
        return not values

    def _init(fields):
        """Compile the method that sets the fields."""
        known = {"_set": object.__setattr__, "_missing": _MISSING}
        parameters, lines = [], []
        for name, each in fields.items():
            default, value = "", name
            if each.default_factory is not _MISSING:
                known[f"_make_{name}"] = each.default_factory
                default = "=_missing"
                value = f"_make_{name}() if {name} is _missing else {name}"
            elif each.default is not _MISSING:
                known[f"_default_{name}"] = each.default
                default = f"=_default_{name}"
            parameters.append(f"{name}{default}")
            lines.append(f" _set(self, {name!r}, {value})")
        code = f"def __init__(self, {', '.join(parameters)}):\n" + "\n".join(lines or [" pass"])
        exec(code, known)  # noqa: S102  the names are those of a class body of ours
        return known["__init__"]

    def _comparison(key, *, hashable):
        """Return the methods that compare the fields, and that hash them."""

        def is_equal(self, other):
            return key(self) == key(other) if type(other) is type(self) else NotImplemented

        def hash_of(self):
            return hash(key(self))

        return is_equal, hash_of if hashable else None

    def _repr(self):
        shown = ", ".join(f"{name}={value!r}" for name, value in values(self).items())
        return f"{type(self).__qualname__}({shown})"

    def _refuse(self, name, *_):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot change field {name!r}")

    def _state(self):
        return list(values(self).values())

    def _set_state(self, state):
        for name, value in zip(self.__slots__, state, strict=True):
            object.__setattr__(self, name, value)

    class _Fields:
        """Makes what the functions of dataclasses look for, when they do."""

        def __init__(self, fields):
            self._fields = fields

        def __get__(self, _, owner):
            import dataclasses

            wanted = []
            for name, each in self._fields.items():
                given = {"compare": each.compare}
                if each.default is not _MISSING:
                    given["default"] = each.default
                if each.default_factory is not _MISSING:
                    given["default_factory"] = each.default_factory
                wanted.append((name, owner.__annotations__[name], dataclasses.field(**given)))
            real = dataclasses.make_dataclass(owner.__name__, wanted)
            owner.__dataclass_fields__ = real.__dataclass_fields__
            return owner.__dataclass_fields__
