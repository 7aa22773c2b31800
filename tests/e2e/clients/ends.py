"""How a client ends: what its user does, or what is done to it."""

from collections.abc import Callable
from dataclasses import dataclass

from .desk import Desk
from .life import Life, Prompt, Screen


@dataclass(frozen=True, slots=True)
class End:
    """One way."""

    label: str
    begin: Callable[[Desk], Life]
    act: Callable[[Life], None]


def _prompt(*, background: bool = True) -> Callable[[Desk], Life]:
    return lambda desk: Prompt(desk, background=background)


def _screen(desk: Desk) -> Life:
    return Screen(desk, background=True)


def _signal(name: str) -> Callable[[Life], None]:
    return lambda life: life.signal(name)


def _finish(life: Life) -> None:
    assert isinstance(life, Prompt)
    life.finish()


def _leave(life: Life) -> None:
    assert isinstance(life, Screen)
    life.command(life.desk.client.exit_words)
    # some ask what is to be done with commands that run: the first answer is to end them
    life.press_until_end("\r")


def _interrupt(life: Life) -> None:
    assert isinstance(life, Screen)
    life.press_until_end("\x03")


def _close(life: Life) -> None:
    assert isinstance(life, Screen)
    life.hang_up()


ENDS = {
    # clients wait for what runs in the background before they end by themselves
    "finished": End("the turn ends", _prompt(background=False), _finish),
    **{
        name: End(f"{name} in a turn", _prompt(), _signal(name))
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
    },
    "tui-left": End("left by its own command", _screen, _leave),
    "tui-interrupted": End("Ctrl-C at its terminal", _screen, _interrupt),
    "tui-closed": End("its terminal is closed", _screen, _close),
    **{
        f"tui-{name}": End(f"{name}, at a terminal", _screen, _signal(name))
        for name in ("SIGTERM", "SIGHUP", "SIGKILL")
    },
}
"""By name. The first five have a prompt and no terminal."""
