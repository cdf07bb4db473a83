#!/usr/bin/env python3
"""Holds the C headers, the version scripts and the built libraries to the rules of the interface.

  check_abi.py header HEADER...              tags of every function, types in signatures and structs
  check_abi.py lists HEADER SYMBOLS MAP      header, committed list and version script name the same
  check_abi.py symbols LIBRARY SYMBOLS       the library exports exactly the committed list
"""

import re
import subprocess
import sys

FIXED = {"int8_t", "int16_t", "int32_t", "int64_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t",
         "size_t", "float", "double", "qft_status"}
BEHIND_POINTER = {"char", "void"}
DECLARATION = re.compile(
    r"/\*(?P<comment>(?:[^*]|\*(?!/))*)\*/|(?P<text>QFT_API[^;]*;|typedef\b[^;{]*"
    r"(?:\{[^}]*\}[^;]*)?;|\#[^\n]*)|(?P<other>\S)")
TAGS = {
    "Thread": re.compile(r"(any|one)(, also during a step)?"),
    "Blocks": re.compile(r"no|for the \w+|on file reads|while [\w ]+|up to timeout_ms"),
    "Since": re.compile(r"\d+\.\d+"),
}


class Header:
    """The declarations of one or more headers, read in order."""

    def __init__(self):
        self.problems = []
        self.functions = []
        self.codes = set()
        self.opaque = set()
        self.structs = set()
        self.callbacks = set()

    def read(self, path, text):
        comment = ""
        for match in DECLARATION.finditer(strip_scaffold(text)):
            where = f"{path}: "
            if match["comment"] is not None:
                comment = match["comment"]
            elif match["other"] is not None:
                self.problems.append(f"{where}unexpected text near {match['other']!r}")
                return
            else:
                declaration = " ".join(match["text"].split())
                self.declare(where, declaration, comment)
                comment = "" if declaration.startswith("QFT_API") else comment

    def declare(self, where, text, comment):
        if text.startswith("#"):
            code = re.fullmatch(r"#define QFT_(?:ERROR_)?(\w+) \d+", text)
            if code and "QFT_ERROR_" in text:
                self.codes.add(code[1])
        elif text.startswith("QFT_API"):
            self.function(where, text, comment)
        else:
            self.typedef(where, text)

    def typedef(self, where, text):
        if match := re.fullmatch(r"typedef struct (qft_\w+) \1;", text):
            self.opaque.add(match[1])
        elif match := re.fullmatch(r"typedef struct (qft_\w+) \{ (.*) \} \1;", text):
            self.structs.add(match[1])
            self.struct(f"{where}{match[1]}: ", re.sub(r"/\*.*?\*/", "", match[2]))
        elif match := re.fullmatch(r"typedef ([\w* ]+) ?\(\*(qft_\w+)\)\((.*)\);", text):
            self.callbacks.add(match[2])
            self.signature(f"{where}{match[2]}: ", match[1], match[3])
        elif text != "typedef int32_t qft_status;":
            self.problems.append(f"{where}typedef of a kind that is not allowed: {text}")

    def struct(self, where, body):
        members = [member.strip() for member in body.split(";") if member.strip()]
        if members[0] != "uint64_t struct_size":
            self.problems.append(f"{where}does not start with uint64_t struct_size")
        for member in members:
            if match := re.fullmatch(r"([\w* ]+?) ?\(\*\w+\)\((.*)\)", member):
                self.signature(where, match[1], match[2])
            else:
                self.type(where, re.sub(r"(\[\d+\])$", "", member), allow_callback=True)

    def function(self, where, text, comment):
        match = re.fullmatch(r"QFT_API ([\w ]+?[ *]+)(qft_\w+)\((.*)\);", text)
        if not match:
            self.problems.append(f"{where}unreadable declaration: {text}")
            return
        name = match[2]
        self.functions.append(name)
        where = f"{where}{name}: "
        self.signature(where, match[1], match[3])
        if re.fullmatch(r"qft_status ", match[1]) and not name.startswith("qft_error_"):
            if not text.endswith("qft_error** error);"):
                self.problems.append(f"{where}fallible, but the last argument is not the error")
        self.tags(where, " ".join(comment.replace("\n *", "\n ").split()))

    def tags(self, where, comment):
        for tag, pattern in TAGS.items():
            found = re.findall(rf"\b{tag}: ((?:[^.]|\.(?=\d))*)\.(?:\s|$)", comment + " ")
            if len(found) != 1:
                self.problems.append(f"{where}needs the tag {tag}: once, has it {len(found)} times")
            elif not pattern.fullmatch(found[0]):
                self.problems.append(f"{where}malformed tag {tag}: {found[0]}")
        for errors in re.findall(r"\bErrors: (.*?)(?=Thread:|Blocks:|$)", comment):
            for code in re.findall(r"\b[A-Z][A-Z_]{3,}\b", re.sub(r"\([^)]*\)", "", errors)):
                if code not in self.codes:
                    self.problems.append(f"{where}Errors: names {code}, which is no QFT_ERROR_*")

    def signature(self, where, result, arguments):
        if result.strip() != "void":
            self.type(where, result.strip() + " result")
        if arguments.strip() == "void":
            return
        if not arguments.strip():
            self.problems.append(f"{where}empty argument list, must be (void)")
            return
        for argument in arguments.split(","):
            self.type(where, argument.strip(), allow_callback=True)

    def type(self, where, declaration, allow_callback=False):
        match = re.fullmatch(r"(?:const )?(\w+)( ?\*(?: ?const)?(?: ?\*)?)? ?(\w+)", declaration)
        known = False
        if match:
            base, pointer = match[1], match[2]
            known = base in FIXED or (allow_callback and base in self.callbacks)
            if pointer:
                known = base in FIXED | BEHIND_POINTER | self.opaque | self.structs
        if not known:
            self.problems.append(f"{where}type that is not allowed: {declaration}")


def strip_scaffold(text):
    """Drops what only C++ or Windows sees and the comments beside constants."""
    text = re.sub(r'#ifdef __cplusplus.*?#endif', "", text, flags=re.S)
    text = re.sub(r"#if defined\(_WIN32\).*?#endif", "", text, flags=re.S)
    return re.sub(r"^(#define \w+ \d+) /\*.*?\*/", r"\1", text, flags=re.S | re.M)


def read_text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def read_headers(paths):
    header = Header()
    for path in paths:
        header.read(path, read_text(path))
    return header


def compare(what, got, expected):
    problems = [f"{what} lacks {name}" for name in sorted(set(expected) - set(got))]
    problems += [f"{what} has {name} beyond the list" for name in sorted(set(got) - set(expected))]
    if len(got) != len(set(got)):
        problems.append(f"{what} names something twice")
    return problems


def check_lists(header_path, symbols_path, map_path):
    functions = re.findall(r"QFT_API[^;]*?\b(qft_\w+)\s*\(",
                           re.sub(r"/\*.*?\*/", "", read_text(header_path), flags=re.S))
    expected = read_text(symbols_path).split()
    script = re.sub(r"#.*", "", read_text(map_path))
    node = re.fullmatch(r"\s*\w+\s*\{\s*global:\s*([^}]*?)local:\s*\*;\s*\};\s*", script)
    if not node:
        return [f"{map_path}: not one node with global: names and local: *"]
    exported = [name.strip() for name in node[1].split(";") if name.strip()]
    return compare(header_path, functions, expected) + compare(map_path, exported, expected)


def check_symbols(library, symbols_path):
    output = subprocess.run(["nm", "-D", "--defined-only", library], check=True,
                            capture_output=True, text=True).stdout
    exported = []
    for line in output.splitlines():
        _, kind, name = line.split()
        if kind != "A":  # the node of the version script itself
            exported.append(name.split("@")[0])
    return compare(library, exported, read_text(symbols_path).split())


def main(arguments):
    if len(arguments) >= 2 and arguments[0] == "header":
        header = read_headers(arguments[1:])
        problems = header.problems
        if not header.functions:
            problems.append("no functions found")
    elif len(arguments) == 4 and arguments[0] == "lists":
        problems = check_lists(*arguments[1:])
    elif len(arguments) == 3 and arguments[0] == "symbols":
        problems = check_symbols(*arguments[1:])
    else:
        print(__doc__, file=sys.stderr)
        return 2
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
