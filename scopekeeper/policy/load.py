"""Reads the policy's files.

/etc/scopekeeper/config.toml, then /etc/scopekeeper/config.d/*.toml by name, then the same two in
~/.config/scopekeeper, or in ``$SCOPEKEEPER_CONFIG``: later files override earlier ones.
"""

from scopekeeper import regular_files
from scopekeeper.policy.files import find
from scopekeeper.policy.rules import Policy, parse
from scopekeeper.policy.toml_file import PolicyError


def load() -> Policy:
    """Read the policy; raises PolicyError with the file and line that is invalid."""
    texts = []
    for path in find().sources:
        try:
            content = regular_files.read(path, follow=True)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise PolicyError(f"{path}: {error.strerror}") from None
        texts.append((path, text_of(path, content)))
    return parse(texts)


def text_of(path: str, content: bytes) -> str:
    """Return the text of a file with this content; raises PolicyError."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not UTF-8 (byte {error.start})") from None
