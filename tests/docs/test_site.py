"""The pages of docs/ as a site: every link leads somewhere, and viewing it fetches nothing."""

import os
import re
import subprocess
import sys

import pytest

from tests.docs.blocks import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make site` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_it(site):
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"README"}
    assert pages | {"index", "about", "contributing"} <= {path.stem for path in site.glob("*.html")}
    assert (site / "pictures/demo.svg").read_bytes() == (
        ROOT / "docs/pictures/demo.svg"
    ).read_bytes()


def test_viewing_it_fetches_nothing_from_elsewhere(site):
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|iframe|source)[^>]*src="(https?://[^"]*)"', text)
        fetched += re.findall(r'<link[^>]*href="(https?://[^"]*)"', text)
        assert not fetched, page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:|@import", sheet.read_text(encoding="utf-8")), (
            sheet
        )
