"""For ``make site``: what the pages of docs/ link to beside docs/.

The repository's README and CONTRIBUTING become pages; other files are named, without a link.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = {"README.md": "about.md", "CONTRIBUTING.md": "contributing.md"}
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie beside docs/."""
    for name, page in _PAGES.items():
        text = (_ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_LINK.sub(_from_root, text)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lead links out of docs/ to those pages, and drop others."""
    return _LINK.sub(_from_docs, markdown)


def _from_docs(link: re.Match[str]) -> str:
    text, target, anchor = link[1], link[2], link[3] or ""
    if not target.startswith("../"):
        return link[0]
    page = _PAGES.get(target.removeprefix("../"))
    return f"[{text}]({page}{anchor})" if page else text


def _from_root(link: re.Match[str]) -> str:
    text, target, anchor = link[1], link[2], link[3] or ""
    if target.startswith("https://"):
        return link[0]
    page = _PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else "")
    return f"[{text}]({page}{anchor})" if page else text
