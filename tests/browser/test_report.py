"""The page of `report` in a real Chromium: opened, clicked, typed into; narrow, dark, without
scripts."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scopekeeper.history.store import HistoryStore
from tests.browser.chromium import Browser, Page, started
from tests.browser.days import HOSTILE, ends
from tests.machine import FOREVER, PROGRAM, Scopekeeper

pytestmark = pytest.mark.browser

COUNTS = (3, 300, 10_000)
AT_ONCE = 100
COLUMNS = ("ENDED", "SESSION", "LANE", "MEMBER", "REASON", "STATUS", "LASTED", "PEAK", "CPU",
           "EVIDENCE")  # fmt: skip
OUT = os.environ.get("LAB_OUT", "")
"""Where pictures are left for whoever wants to look at them."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with started(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Path]]:
    """What the program writes of so many ends, while a server and an orphan run."""
    folder = tmp_path_factory.mktemp("pages")
    program = Scopekeeper()
    owner = program.popen(list(FOREVER))
    program.member("-s", "test:living", "-n", "time", "--kind", "mcp", "--", *FOREVER)
    program.member("-s", "test:orphan", "--owner", str(owner.pid), "--", *FOREVER)
    owner.kill()
    owner.wait()
    found = {}
    for count in COUNTS:
        state = folder / f"state-{count}"
        state.mkdir(mode=0o700)
        HistoryStore(state).write(ends(count))
        found[count] = folder / f"{count}.html"
        subprocess.run(
            [PROGRAM, "report", found[count]], check=True, stdout=subprocess.PIPE,
            env=os.environ | {"SCOPEKEEPER_STATE": str(state)},
        )  # fmt: skip
    yield found
    program.call("stop", "-s", "test:living")
    program.call("stop", "-s", "test:orphan")
    program.close()


@pytest.fixture(params=COUNTS)
def count(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def shown(browser: Browser, pages: dict[int, Path], count: int) -> Iterator[Page]:
    """The page of so many ends, open; nothing may have gone wrong in it afterwards."""
    page = browser.page()
    page.size(1280, 900)
    page.scheme("light")
    page.open(pages[count])
    yield page
    assert page.problems == []
    assert page.requests == [pages[count].as_uri()]
    assert page.value("typeof window.hacked") == "undefined"
    page.close()


def rows(page: Page) -> list[list[str]]:
    """Return the texts of the rows that are shown."""
    found: list[list[str]] = page.value(
        "[...document.querySelectorAll('#lives tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return found


def column(page: Page, title: str) -> list[str]:
    return [row[COLUMNS.index(title)] for row in rows(page)]


def values(page: Page, title: str) -> list[float | str | None]:
    """Return the values of a column in the order in which all rows would be shown."""
    at = COLUMNS.index(title)
    data = json.loads(page.value("document.getElementById('data').textContent"))["rows"]
    texts = {tuple(c if isinstance(c, str) else c[0] for c in row): row[at] for row in data}
    found = [texts[tuple(row)] for row in rows(page)]
    return [each if isinstance(each, str) else each[1] for each in found]


def counted(page: Page) -> str:
    text: str = page.value("document.getElementById('count').textContent")
    return text


def sort(page: Page, title: str) -> str:
    """Click a title, and return how it is sorted by it then."""
    at = COLUMNS.index(title) + 1
    page.click(f"#lives th:nth-child({at}) button")
    order: str = page.value(
        f"document.querySelector('#lives th:nth-child({at})').getAttribute('aria-sort')"
    )
    return order


def search(page: Page, words: str) -> None:
    page.click("#words")
    page.value("document.getElementById('words').select()")
    page.type(words)


def test_it_opens_with_the_newest_and_pages_through_all(shown: Page, count: int) -> None:
    total = count + 2
    assert shown.value("[...document.querySelectorAll('#lives th')].map(x => x.textContent)") == [
        *COLUMNS
    ]
    assert column(shown, "ENDED")[:2] == ["running", "running"]
    assert len(rows(shown)) == min(total, AT_ONCE)
    seen = rows(shown)
    while not shown.value("document.getElementById('next').disabled"):
        shown.click("#next")
        more = rows(shown)
        assert 0 < len(more) <= AT_ONCE
        seen += more
    assert len(seen) == total
    if total > AT_ONCE:
        last = total // AT_ONCE * AT_ONCE
        assert counted(shown) == f"{last + 1:,} to {total:,} of {total:,}"
        shown.click("#previous")
        assert counted(shown) == f"{last - AT_ONCE + 1:,} to {last:,} of {total:,}"


@pytest.mark.parametrize("title", ["SESSION", "REASON", "LASTED", "PEAK", "CPU", "ENDED"])
def test_a_click_on_a_title_sorts_and_the_next_one_turns_it_round(shown: Page, title: str) -> None:
    orders = ["ascending", "descending"]
    if title in ("LASTED", "PEAK", "CPU"):  # the largest is what one looks for
        orders.reverse()
    for order in orders:
        assert sort(shown, title) == order
        found = values(shown, title)
        known = [each for each in found if each is not None]
        assert found == known + [None] * (len(found) - len(known)), "what is unknown is last"
        assert known == sorted(known, reverse=order == "descending")


def test_words_filter_and_all_of_them_have_to_be_there(shown: Page, count: int) -> None:
    search(shown, "LIVING main")
    ((_, session, lane, *_),) = rows(shown)
    assert (session, lane) == ("test:living", "main")
    assert counted(shown) == f"1 of {count + 2:,}"
    search(shown, "no such word")
    assert rows(shown) == []
    assert counted(shown) == f"0 of {count + 2:,}"
    search(shown, " ")
    assert len(rows(shown)) == min(count + 2, AT_ONCE)


def test_a_click_on_a_reason_filters_the_table_and_dims_the_timeline(shown: Page) -> None:
    chip = '.legend button[data-reason="signalled"]'
    number = int(shown.value(f"document.querySelector('{chip} b').textContent.replace(',', '')"))
    bright = ".timeline rect:not(.dim)"
    all_shapes = shown.value(f"document.querySelectorAll('{bright}').length")
    shown.click(chip)
    assert set(column(shown, "REASON")) == {"signalled"}
    assert f" of {counted(shown)}".split(" of ")[-2] == f"{number:,}"
    lit = shown.value(f"[...document.querySelectorAll('{bright}')].map(x => x.classList[0])")
    assert set(lit) <= {"r-signalled"}
    assert 0 < len(lit) < all_shapes
    shown.click('.legend button[data-reason="running"]')
    assert set(column(shown, "REASON")) == {"running", "signalled"}
    for each in ("signalled", "running"):
        shown.click(f'.legend button[data-reason="{each}"]')
    assert shown.value(f"document.querySelectorAll('{bright}').length") == all_shapes


def test_a_click_on_a_session_shows_its_members(shown: Page) -> None:
    shown.click('.timeline button[data-find="test:orphan"]')
    assert column(shown, "SESSION") == ["test:orphan"]
    first = shown.value("document.querySelector('.timeline button[data-find^=agent]').dataset.find")
    shown.click(f'.timeline button[data-find="{first}"]')
    assert set(column(shown, "SESSION")) == {first}, "not those whose name begins with it"
    assert "test:orphan" in shown.value(
        "[...document.querySelectorAll('h3')].find(x => x.textContent.startsWith('Scopes without'))"
        ".nextSibling.textContent"
    )


def test_hostile_names_are_text(shown: Page, count: int) -> None:
    search(shown, "hacked")
    names = [each for each in HOSTILE[: max(1, count // 3)] if "hacked" in each]
    assert sorted(column(shown, "SESSION")) == sorted(names)
    if count == COUNTS[-1]:  # they were not active last
        assert "Not drawn: " in shown.value("document.body.textContent")
    else:
        shown.click('.timeline button[data-find*="hacked"]')
    assert shown.value("document.querySelectorAll('img, iframe, object, link').length") == 0
    assert shown.value("document.scripts.length") == 2


def test_what_its_policy_does_not_name_cannot_run(
    browser: Browser, pages: dict[int, Path], tmp_path: Path
) -> None:
    forged = tmp_path / "forged.html"
    forged.write_text(
        pages[3].read_text().replace(
            "</body>", "<script>window.hacked = 1</script><p style='color: red' id='p'>"
            "<img src='https://192.0.2.1/x.png'></body>"
        )
    )  # fmt: skip
    page = browser.page()
    page.open(forged)
    assert page.value("typeof window.hacked") == "undefined"
    assert page.value("getComputedStyle(document.getElementById('p')).color") != "rgb(255, 0, 0)"
    assert len(page.problems) == 3, page.problems
    page.close()


def test_without_scripts_the_newest_rows_are_there_as_the_script_would_draw_them(
    browser: Browser, pages: dict[int, Path], count: int
) -> None:
    page = browser.page()
    page.open(pages[count])
    markup = "document.querySelector('#lives tbody').innerHTML"
    drawn = page.value(markup)
    page.open(pages[count], scripts=False)
    assert page.value(markup) == drawn
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_it_fits_the_window_light_and_dark(
    shown: Page, count: int, scheme: str, width: int
) -> None:
    shown.size(width, 900)
    shown.scheme(scheme)
    if OUT:
        name = f"report-{count}-{scheme}-{width}"
        shown.picture(Path(OUT) / f"{name}.png", whole=True)
        shown.picture(Path(OUT) / f"{name}-top.png")
    assert shown.value("document.documentElement.scrollWidth") == width
    lightness = shown.value(
        "(() => { const of = (name) => getComputedStyle(document.body)[name].match(/\\d+/g)"
        ".reduce((sum, each) => sum + Number(each), 0);"
        " return [of('backgroundColor'), of('color')]; })()"
    )
    assert (lightness[0] > lightness[1]) is (scheme == "light")
    # every bar lies inside of its track, and can be hit by the pointer
    assert shown.value(
        "[...document.querySelectorAll('.track svg')].every(svg => {"
        " const box = svg.getBoundingClientRect();"
        " return [...svg.querySelectorAll('rect')].every(each => {"
        "  const at = each.getBoundingClientRect();"
        "  return at.width > 0 && at.left >= box.left - 2 && at.right <= box.right + 2"
        "   && at.top >= box.top - 2 && at.bottom <= box.bottom + 2; }); })"
    )


def test_a_shape_shows_what_it_is_about(shown: Page) -> None:
    titles = shown.value(
        "[...document.querySelectorAll('.timeline rect')]"
        ".map(x => x.querySelector('title').textContent)"
    )
    assert titles
    assert all(any(word in each for word in ("member", "scope")) for each in titles)


@pytest.mark.parametrize("count", [10_000], indirect=True)
def test_ten_thousand_ends_can_be_used(
    browser: Browser, pages: dict[int, Path], count: int
) -> None:
    page = browser.page()
    times = {}
    began = time.monotonic()
    page.open(pages[count])
    assert len(rows(page)) == AT_ONCE
    times["open"] = time.monotonic() - began
    for name, act in (
        ("sort", lambda: sort(page, "EVIDENCE")),
        ("filter", lambda: search(page, "evidence 77")),
        ("reason", lambda: page.click(".legend button")),
    ):
        began = time.monotonic()
        act()
        rows(page)
        times[name] = time.monotonic() - began
    print({name: f"{seconds:.2f} s" for name, seconds in times.items()})
    assert max(times.values()) < 20, times  # a loaded machine; alone each takes below a second
    page.close()


SSH = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
[ "$2" = down ] && { echo "ssh: connect to host down port 22: No route to host" >&2; exit 255; }
export SCOPEKEEPER_STATE="FOLDER/$2"
exec sh -c "$3"
"""


def test_hosts_filter_the_table_and_the_timeline(browser: Browser, tmp_path: Path) -> None:
    """Two histories that answer by a stand-in for ssh, and a host that is down."""
    for host, count in (("build1", 40), ("build2", 7)):
        (tmp_path / host).mkdir(mode=0o700)
        HistoryStore(tmp_path / host).write(ends(count))
    (tmp_path / "ssh").write_text(SSH.replace("FOLDER", str(tmp_path)))
    (tmp_path / "ssh").chmod(0o755)
    path = f"{tmp_path}:{Path(PROGRAM).parent}:/usr/bin:/bin"
    hosts = [word for host in ("build1", "build2", "down") for word in ("-H", host)]
    done = subprocess.run(
        [PROGRAM, "report", *hosts, tmp_path / "all.html"], env=os.environ | {"PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "scopekeeper: down: ssh: connect to host down port 22: No route to host\n"
    page = browser.page()
    page.size(1280, 900)
    page.open(tmp_path / "all.html")
    chips = "[...document.querySelectorAll('.legend button[data-host]')].map(x => x.textContent)"
    found = [text.split() for text in page.value(chips)]
    assert [host for host, _ in found] == ["build1", "build2", "down"]
    first, second, none = (int(number) for _, number in found)
    assert first >= 40, "what runs on this machine is on it as well"
    assert second >= 7
    assert none == 0
    total = f"{first + second}"
    assert counted(page) == total
    drawn = (
        "[...new Set([...document.querySelectorAll('.timeline rect:not(.dim)')]"
        ".map(x => x.closest('.track').dataset.host))].sort()"
    )
    assert page.value(drawn) == ["build1", "build2"]
    page.click(".legend button[data-host=build2]")
    assert counted(page) == f"{second} of {total}"
    assert {row[0] for row in rows(page)} == {"build2"}
    assert page.value(drawn) == ["build2"]
    page.click(".legend button[data-reason]")
    assert int(counted(page).partition(" ")[0]) < second
    page.click(".legend button[data-reason]")
    page.click(".legend button[data-host=build2]")
    assert counted(page) == total
    page.click(".name button[data-of=build1]")
    assert {row[0] for row in rows(page)} == {"build1"}
    if OUT:
        page.value("document.getElementById('words').value = ''")
        page.picture(Path(OUT) / "report-hosts.png", whole=True)
    assert page.problems == []
    page.close()
