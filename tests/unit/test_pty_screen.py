"""What was on the screen of a run is there again: same picture, cursor and modes."""

import pathlib
import shutil
import time
from collections.abc import Iterator

import pyte
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scopekeeper.exec.modes import Modes
from scopekeeper.exec.screen import LIMIT, redraw
from scopekeeper.exec.screen import _Terminal as Emulator
from tests.unit.terminals import Tmux, record

_TEXT = "".join(f"line {number} äöü 中文 😀 x\n" for number in range(300))


def _picture(output: bytes, cols: int = 20, rows: int = 6) -> tuple[list[str], tuple[int, int]]:
    """Return what pyte alone makes of an output: lines, and the cursor."""
    screen = pyte.Screen(cols, rows)
    pyte.ByteStream(screen).feed(output)
    return screen.display, (screen.cursor.x, screen.cursor.y)


def _state(output: bytes, cols: int, rows: int) -> object:
    emulator, modes = Emulator(cols, rows), Modes()
    assert emulator.feed(output.decode("utf-8", "replace"))
    modes.feed(output)
    screen = emulator.screen
    cells = [[screen.buffer[y][x] for x in range(cols)] for y in range(rows)]
    odd = sorted(modes.again().split(b"\x1b"))
    return cells, screen.cursor.x, screen.cursor.y, odd, emulator.alternate, emulator.title


@pytest.fixture
def tmux(tmp_path: pathlib.Path) -> Iterator[Tmux]:
    if not shutil.which("tmux"):
        pytest.skip("no tmux to compare with")
    with Tmux(tmp_path) as terminal:
        yield terminal


_PROGRAMS = {
    "less": (["less", "TEXT"], [b" ", b"/50\r"]),
    "less left again": (["sh", "-c", "echo before; less TEXT; sleep 9"], [b" ", b"q"]),
    "vim": (["vim", "-u", "NONE", "-c", "syntax on|set nu|vsplit", "TEXT"], [b"\x04", b"inew"]),
    "top": (["top", "-d", "30"], []),
    "ls": (["ls", "--color=always", "-la", "/etc", "/dev"], []),
    "bash": (["bash", "--norc"], [b"tput setaf 3; echo yellow\r", b"unfinished\x02\x02"]),
}


@pytest.mark.parametrize("name", _PROGRAMS)
def test_a_program_is_seen_as_it_was(name: str, tmux: Tmux, tmp_path: pathlib.Path) -> None:
    argv, typed = _PROGRAMS[name]
    if not shutil.which(argv[0]):
        pytest.skip(f"no {argv[0]}")
    text = tmp_path / "text"
    text.write_text(_TEXT)
    output = record([word.replace("TEXT", str(text)) for word in argv], typed)
    assert tmux.show(redraw(output, 80, 24)) == tmux.show(output)


def test_modes_that_are_on_are_on_again(tmux: Tmux) -> None:
    output = (
        b"\x1b[?1049h\x1b[2J\x1b[5;10r\x1b[?1h\x1b=\x1b[?2004h\x1b[?1002h\x1b[?1006h\x1b[?25l"
        b"\x1b[4h\x1b[?7l\x1b]2;a title\x07\x1b[7;3H"
    )
    picture = tmux.show(output)
    assert " 1 1 1 " in picture[1]
    assert "a title" in picture[1]
    assert tmux.show(redraw(output, 80, 24)) == picture


@pytest.mark.parametrize(
    "output",
    [
        b"plain\r\nlines\r\n$ ",
        b"twenty columns fill.",
        b"twenty columns fill.\r\nmore",
        b"\x1b[6;1Hlast line of the pic",
        b"one\ntwo\x1b[2;2H\x1b[31mred",
        b"\xe4\xb8\xad\xe6\x96\x87 e\xcc\x81 x",
        b"a\r\nb\r\nc\r\nd\r\ne\r\nf\r\ng\r\nh",
    ],
)
def test_text_stands_where_it_stood(output: bytes) -> None:
    assert _picture(redraw(output, 20, 6)) == _picture(output)


@pytest.mark.parametrize(
    ("sgr", "drawn_as"),
    [
        ("1", "1"), ("3", "3"), ("4", "4"), ("7", "7"), ("9", "9"), ("31", "31"), ("97", "97"),
        ("44", "44"), ("105", "105"), ("38;5;208", "38;5;208"), ("48;5;17", "48;5;17"),
        ("38;2;1;2;3", "38;2;1;2;3"), ("38:2::1:2:3", "38;2;1;2;3"), ("38:5:208", "38;5;208"),
        ("48:2:1:2:3", "48;2;1;2;3"), ("1;4;38;5;208;48;2;0;0;1", "1;4;38;5;208;48;2;0;0;1"),
        # pyte has one underline, without a colour
        ("4:3", "4"), ("4;4:0", ""), ("4;58;5;9", "4"), ("4;58:2::9:9:9;31", "4;31"),
        ("58;5;4", ""),
    ],
)  # fmt: skip
def test_colours_and_attributes_are_those_that_were_written(sgr: str, drawn_as: str) -> None:
    output = f"\x1b[{sgr}mword".encode()
    drawn = redraw(output, 20, 6)
    assert _state(drawn, 20, 6) == _state(output, 20, 6)
    style = f"0;{drawn_as}" if drawn_as else "0"
    assert f"\x1b[{style}mword" in drawn.decode()


def test_colours_that_were_ended_are_not_there() -> None:
    drawn = redraw(b"\x1b[1;3;4;7;31;42m\x1b[22;23;24;27;39;49mplain", 20, 6)
    assert drawn.replace(b"\x1b[m", b"").replace(b"\x1b[0m", b"").startswith(b"\x1b[1;1Hplain")


def test_what_is_no_text_is_not_shown_as_text() -> None:
    strange = (
        b"\x1bP+q544e\x1b\\\x1b_apc\x1b\\\x1b[>4;2m\x1b[?2026$p\x1b[=5u\x1b[5 q\x1b]52;c;eA==\x07"
    )
    assert _picture(redraw(strange + b"seen", 20, 6))[0][0] == "seen".ljust(20)
    assert b"\x1b[0;4" not in redraw(strange + b"seen", 20, 6)


def test_the_main_screen_comes_back_when_the_program_leaves() -> None:
    output = b"before\r\n$ \x1b[?1049h\x1b[2J\x1b[Hfull screen"
    assert _state(redraw(output, 20, 6), 20, 6) == _state(output, 20, 6)
    assert b"\x1b[?1049h" in redraw(output, 20, 6)
    left = redraw(output, 20, 6) + b"\x1b[?1049l"
    assert _state(left, 20, 6) == _state(b"before\r\n$ ", 20, 6)


def test_output_that_ends_in_the_middle_goes_on_there() -> None:
    whole = "a\x1b[1;31mrot \x1b]2;title\x1b\\中文\x1b[0m.".encode()
    for cut in range(len(whole) + 1):
        drawn = redraw(whole[:cut], 20, 6) + whole[cut:]
        assert _state(drawn, 20, 6) == _state(whole, 20, 6), cut


@pytest.mark.parametrize(
    "beginning", [b";31mrest", b"\xad\x96", b"title\x07", b"0;1Hx", b"half a line"]
)
def test_a_tail_that_begins_in_the_middle_starts_at_a_safe_place(beginning: bytes) -> None:
    drawn = redraw(beginning + b"\nline\r\n$ ", 20, 6, whole=False)
    assert _picture(drawn)[0][:2] == ["line".ljust(20), "$".ljust(20)]
    drawn = redraw(beginning + b"\x1b[H\x1b[2Jline", 20, 6, whole=False)
    assert _picture(drawn)[0][0] == "line".ljust(20)


def test_a_short_whole_output_is_all_there() -> None:
    assert _picture(redraw(b"no newline", 20, 6))[0][0] == "no newline".ljust(20)


def test_only_the_last_of_a_long_output_is_looked_at() -> None:
    output = b"\x1b[?2004h" + b"x" * LIMIT + b"\nlast"
    assert b"2004" not in redraw(output, 20, 6)
    assert _picture(redraw(output, 20, 6))[0][0] == "last".ljust(20)


def test_on_a_smaller_window_the_cursor_is_still_seen() -> None:
    output = "\r\n".join(f"{number} a line that is long" for number in range(20)).encode()
    picture, cursor = _picture(redraw(output, 40, 24, window=(10, 5)), 10, 5)
    assert picture == [f"{number} a line that is long"[:10] for number in range(15, 20)]
    assert cursor[1] == 4


_pieces = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=10).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.from_regex(rb"\x1b\[[?>=!]?[0-9;:]{0,8}[ $!]?[@-~]", fullmatch=True),
    st.sampled_from(
        [b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?47h", b"\x1b7", b"\x1b8", b"\x1bc", b"\x1bM",
         b"\x1b(0", b"\x1b[2;4r", b"\x1b[?6h", b"\n", b"\x1b[2J", b"\x1b[99999999999d",
         b"\x1b[5J", b"\x1b[?3h", "中".encode(), b"\x1b[4h", b"\x1b[b", b"\x1b#8"]
    ),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    st.lists(_pieces, max_size=40).map(b"".join),
    st.integers(-1, 30),
    st.integers(-1, 12),
    st.booleans(),
    st.none() | st.tuples(st.integers(1, 30), st.integers(1, 12)),
)
def test_no_output_breaks_it(
    output: bytes, cols: int, rows: int, whole: bool, window: tuple[int, int] | None
) -> None:
    redraw(output, cols, rows, whole=whole, window=window)


@settings(max_examples=100, deadline=None)
@given(st.lists(_pieces, max_size=40).map(b"".join))
@example("\N{WAVY DASH}\N{COMBINING GRAVE ACCENT}x".encode())
def test_what_was_drawn_again_is_drawn_the_same_again(output: bytes) -> None:
    drawn = redraw(output, 12, 5)
    again = redraw(drawn, 12, 5)
    assert _state(drawn, 12, 5) == _state(again, 12, 5)


def test_a_wide_character_at_the_end_of_a_line_is_not_cut() -> None:
    output = ("x" * 19 + "\u4e2d").encode()
    assert _picture(redraw(output, 20, 6))[0][:2] == ["x" * 19 + " ", "\u4e2d" + " " * 18]
    assert _picture(redraw(b"\x1b[?7l" + output, 20, 6))[0][0] == "x" * 18 + "\u4e2d"


def test_erasing_leaves_the_background_and_no_other_attribute() -> None:
    drawn = redraw(b"\x1b[7;4;44mx\x1b[K", 4, 1).decode()
    assert drawn.startswith("\x1b[1;1H\x1b[0;4;7;44mx\x1b[0;44m   \x1b[m")


def test_a_cursor_that_was_saved_once_is_restored_each_time() -> None:
    output = b"at \x1b7here\r\n\x1b8"
    assert _picture(redraw(output + b"1\x1b82", 20, 6))[0][0] == "at 2ere".ljust(20)
    assert _picture(redraw(output, 20, 6) + b"1\x1b8", 20, 6)[1] == (3, 0)


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (b"\x1b(0lqqk\x1b(B.", "┌──┐."),
        (b"x\x1b[4b.", "xxxxx."),
        (b"one\r\ntwo\x1b[1;1H\x1b[S", "two"),
        (b"one\r\ntwo\x1b[2;1H\x1b[2;6r\x1b[T", "one"),
        ("\u2764\ufe0f heart".encode(), "\u2764 heart"),
        (b"\x1b[31;1;2;3;4Ax\x1b[99Jy", "xy"),
    ],
)
def test_what_pyte_alone_gets_wrong_is_right(output: bytes, line: str) -> None:
    assert _picture(redraw(output, 20, 6))[0][0] == line.ljust(20)


@pytest.mark.parametrize(
    "hard",
    [b"\x1b]", b"\x1b[", b"\x1bP", b"\x1b[1;", b"\x1b[9999S", b"\x1b[2J", b"\x1b[@", b"\n",
     b"x\x1b[9999b", "\u0301".encode(), b"\x1b7", b"\x1b[?1049h\x1b[?1049l"],
)  # fmt: skip
def test_a_hostile_output_costs_little(hard: bytes) -> None:
    # each of these is much work for some terminal
    began = time.process_time()
    redraw(b"x" * 2000 + hard * ((LIMIT - 2000) // len(hard)), 300, 100)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("end", [b"m", b"H", b"h", b""])
@pytest.mark.parametrize("one", [b"9", b"1;", b"4:", b"38:2:", b"58;2;"])
def test_a_sequence_of_many_numbers_does_nothing(one: bytes, end: bytes) -> None:
    for mark in (b"", b"?"):
        output = b"x\x1b[" + mark + one * 40_000 + end
        assert _picture(redraw(output + b"\x1b[my", 20, 6))[0][0] == "xy".ljust(20)


def test_nothing_is_drawn_that_makes_a_terminal_answer_or_act() -> None:
    asks = (b"\x1b[c", b"\x1b[>c", b"\x1b[5n", b"\x1b[6n", b"\x1b[?6n", b"\x1bZ", b"\x1b[21t",
            b"\x1b[>q", b"\x1b[?2026$p", b"\x1bP$qm\x1b\\", b"\x1b]52;c;eA==\x07",
            b"\x1b]10;?\x07", b"\x1b]8;;file:///x\x07", b"\x1b[5i", b"\x1b[>4;2m", b"\x1b[>1u",
            b"\x1b[?1004h")  # fmt: skip
    drawn = redraw(b"".join(asks[:-1]) + b"seen" + asks[-1], 20, 6)
    assert drawn == b"\x1b[1;1H\x1b[0mseen\x1b[m\x1b[H\x1b[?1004h\x1b[1;5H\x1b[0m"
