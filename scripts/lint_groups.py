"""Which sources can be checked as one, included by one file: those that don't define the same name.

That is seen in the text, which takes no time: clang-format leaves what is at namespace scope in column 0 and
nothing else. A collision that is missed costs time only, as lint_sources.py says.
"""

import functools
import re

# Larger groups save little, take memory (0.8 GB at this size) and keep other processors waiting.
LARGEST_GROUP = 64

# Every fuzzer's function; a group gives each its own name.
FUZZ_FUNCTION = "LLVMFuzzerTestOneInput"

INCLUDE = re.compile(r'^#include "(.+?)"', re.MULTILINE)
MACRO = re.compile(r"^#define (\w+)(.*)", re.MULTILINE)
# From column 0 to the end of the line that ends a declaration or begins a body.
STATEMENT = re.compile(r"^(?=[A-Za-z}])(?:.*\n)*?.*[;{}] *(?://.*)?$", re.MULTILINE)
NAMESPACE = re.compile(r"namespace ([\w:]+ )?\{")
TEST = re.compile(r"TEST(?:_[FP])?\((\w+, \w+)\)")
TYPE = re.compile(r"(?:struct|class|union|enum class|enum) ([\w:<>]+)[^;()]*\{|using (\w+) =")
FUNCTION = re.compile(r"[^(=]*?([\w:~]+)\(((?s:.*))\{")
VARIABLE = re.compile(r"(?!extern|namespace|using|struct|class|enum)[^(=]*?([\w:]+)(?:\[.*?\])*(?: =|\{|;)")


def definition_in(statement):
    """The name that a statement at namespace scope defines, or None, and a function's parameters: functions
    of one name may differ in them."""
    statement = re.sub(r"^template <.*>\n", "", statement)
    if match := TEST.match(statement) or TYPE.match(statement):
        return match[match.lastindex], None
    if match := FUNCTION.match(statement):
        return match[1], re.sub(r"\s+|\w+(?=[,)])", "", match[2])  # less spaces and the parameters' names
    match = VARIABLE.match(statement)
    return match and match[1], None


@functools.cache
def definitions(path):
    """What mustn't be defined elsewhere: a name (anonymous namespaces are none, and members are left out, as
    their classes are named) and the file that defines it. Functions share a name, not name and parameters."""
    text = path.read_text()
    found = {f"#define {name}": value for name, value in MACRO.findall(text)}
    namespaces = []
    for statement in STATEMENT.findall(text):
        if match := NAMESPACE.match(statement):
            namespaces.append(match[1] or "")
        elif statement.startswith("}  // namespace") and namespaces:
            namespaces.pop()
        else:
            name, parameters = definition_in(statement)
            if name is None or "::" in name or name == FUZZ_FUNCTION:
                continue
            name = "".join(namespaces) + name
            if parameters is None:
                found[name] = path
            else:
                found.update({name: "function", f"{name}({parameters}": path})
    return found


@functools.cache
def definitions_seen(path, root):
    """The definitions of a file and of the project's headers that it includes, directly or not."""
    found = dict(definitions(path))
    for name in INCLUDE.findall(path.read_text()):
        header = next((p for p in (path.parent / name, root / name) if p.is_file()), None)
        if header:
            found.update(definitions_seen(header.resolve(), root))
    return found


def groups_of(sources, root):
    """Each source goes to the first group that has room and none of its names from elsewhere, first those that
    see most names: few groups would take them later."""
    groups = []
    for source in sorted(sources, key=lambda source: len(definitions_seen(source, root)), reverse=True):
        own = definitions_seen(source, root)
        for members, found in groups:
            if len(members) < LARGEST_GROUP and all(found.get(name, it) == it for name, it in own.items()):
                break
        else:
            members, found = [], {}
            groups.append((members, found))
        members.append(source)
        found.update(own)
    return [members for members, _ in groups]


def text_of(group):
    """The file that includes a group's sources."""
    return "".join(
        f"#define {FUZZ_FUNCTION} {FUZZ_FUNCTION}{i}\n"
        f'#include "{source}"  // NOLINT(bugprone-suspicious-include)\n'
        f"#undef {FUZZ_FUNCTION}\n"
        for i, source in enumerate(group)
    )
