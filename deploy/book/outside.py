"""Mends the links of the book that lead out of docs/, as mdBook asks its preprocessors.

Some files of the repository are pages of the book: links go there. Of a link to any other file
only its text is left, because a book has no other files.
"""

import json
import posixpath
import re
import sys

# Pages that consist of a file from elsewhere.
INCLUDED = {
    "architecture.md": "ARCHITECTURE.md",
    "security.md": "SECURITY.md",
    "helm.md": "helm/pollux/README.md",
    "javascript.md": "clients/js/README.md",
}
PAGES = {file: page for page, file in INCLUDED.items()}
# What the book says in a page of its own.
PAGES["README.md"] = "getting-started.md"

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def mend(page, content):
    source = INCLUDED.get(page, f"docs/{page}")

    def of(match):
        text, target = match.groups()
        if "://" in target or target.startswith(("#", "mailto:")):
            return match.group(0)
        file, hash_, anchor = target.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), file))
        if file in PAGES:
            anchor = "" if file == "README.md" else hash_ + anchor
            return f"[{text}]({PAGES[file]}{anchor})"
        if file.startswith("docs/"):
            return f"[{text}]({file.removeprefix('docs/')}{hash_}{anchor})"
        return text

    # Blocks of code are as they are.
    parts = re.split(r"(^```.*?^```$)", content, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else LINK.sub(of, part) for part in parts)


def walk(items):
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            chapter = item["Chapter"]
            if chapter.get("path"):
                chapter["content"] = mend(chapter["path"], chapter["content"])
            walk(chapter["sub_items"])


if sys.argv[1:2] == ["supports"]:
    sys.exit(0)
_, book = json.load(sys.stdin)
walk(book.get("items") or book.get("sections") or [])
json.dump(book, sys.stdout)
