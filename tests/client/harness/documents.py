"""The README and the documents beside it: what they tell a reader to type and to write, wherever it is."""

import re

from .helm import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def everything():
    """The text of all documents."""
    return "\n".join(document.read_text() for document in DOCUMENTS)


def section(name, title):
    """A section of the document `docs/<name>`, with the sections below it."""
    text = (ROOT / "docs" / name).read_text()
    [(marks, body)] = re.findall(rf"^(#+) {re.escape(title)}\n(.*)", text, re.MULTILINE | re.DOTALL)
    return re.split(rf"^#{{1,{len(marks)}}} ", body, maxsplit=1, flags=re.MULTILINE)[0]


def typed(markdown):
    """The commands of its `sh` blocks, each in one line."""
    blocks = [block.split("\n", 1)[1] for block in markdown.split("```")[1::2] if block.startswith("sh\n")]
    return [line.strip() for block in blocks for line in block.replace("\\\n", "").splitlines() if line.strip()]
