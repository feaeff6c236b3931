"""Follows every link and picture of the built book to its file and, if it has one, its heading: check.py FOLDER."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    def __init__(self, file):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "img":
            self.links.append(attributes["src"])


folder = Path(sys.argv[1]).resolve()
# One page repeats all others, and the error page is told where the book will be.
pages = {
    file: Page(file)
    for file in folder.glob("*.html")
    if file.name not in ("print.html", "404.html", "toc.html")
}
wrong = []
for file, page in pages.items():
    for link in page.links:
        url = urlsplit(link)
        if url.scheme:
            continue
        target = folder / unquote(url.path) if url.path else file
        if not target.exists():
            wrong.append(f"{file.name}: {link}: no such page")
        elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].ids:
            wrong.append(f"{file.name}: {link}: no such heading")
print(*wrong, sep="\n", end="\n" if wrong else "")
sys.exit(1 if wrong or not pages else 0)
