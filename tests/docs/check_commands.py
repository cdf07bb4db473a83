#!/usr/bin/env python3
"""Checks that each `ctest ... -R PATTERN` a Markdown file names selects a test of this build, and that
each `build/bin/PROGRAM --gtest_filter=...` does. check_commands.py FILE BUILD_FOLDER"""

import pathlib
import re
import shlex
import subprocess
import sys


def is_selected(command, build):
    """Whether the command selects any test."""
    words = [word for word in shlex.split(command) if "=" not in word or word.startswith("-")]
    if words[0] == "ctest":
        words[words.index("build")] = str(build)
        output = subprocess.run([*words, "-N"], check=True, capture_output=True, text=True).stdout
        return "Total Tests: 0" not in output
    program = build / pathlib.Path(words[0]).relative_to("build")
    output = subprocess.run([program, *words[1:], "--gtest_list_tests"], check=True,
                            capture_output=True, text=True).stdout
    return re.search(r"^  \w", output, re.MULTILINE) is not None


def main():
    text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    # A bar in a table's cell is escaped.
    commands = [command.replace("\\|", "|") for command in re.findall(r"`([^`\n]+)`", text)]
    commands = [c for c in commands if c.startswith("ctest ") or "--gtest_filter" in c]
    wrong = [c for c in commands if not is_selected(c, pathlib.Path(sys.argv[2]))]
    print("\n".join(f"selects no test: {c}" for c in wrong) or f"{len(commands)} commands")
    sys.exit(1 if wrong or not commands else 0)


if __name__ == "__main__":
    main()
