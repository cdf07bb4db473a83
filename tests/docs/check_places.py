#!/usr/bin/env python3
"""Checks a Markdown file: that the files its links name exist, and that where a link is followed by
`code`, the file holds that text. check_places.py FILE"""

import pathlib
import re
import sys


def main():
    document = pathlib.Path(sys.argv[1])
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)(?:\s+`([^`]+)`)?", text)
    wrong = []
    for path, place in links:
        file = document.parent / path
        if not file.exists():
            wrong.append(f"{path} does not exist")
        elif place and place not in file.read_text(encoding="utf-8"):
            wrong.append(f"{path} does not hold `{place}`")
    headings = re.findall(r"^## .*$", text, re.MULTILINE)
    wrong += [f"no place in: {line}" for line in headings if "](" not in line]
    print("\n".join(wrong) or f"{len(links)} places found")
    sys.exit(1 if wrong or not links else 0)


if __name__ == "__main__":
    main()
