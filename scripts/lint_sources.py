#!/usr/bin/env python3
"""Checks all C and C++ sources that a configured build folder compiles with clang-tidy.

  scripts/lint_sources.py BUILD_FOLDER    from the repository's root

Prints the findings and exits 1 when there are any. Sources that were clean and have not changed since are not
looked at again: BUILD_FOLDER/lint/clean has a file for each, named by a hash of all that its findings depend
on, system headers aside.

Nearly all of clang-tidy's time goes to the headers of the C++ library, gtest and others, which it walks
once a translation unit. So sources with the same options are checked as one: a generated file that
includes them. What that file shows decides nothing: if it doesn't compile, its sources are checked in smaller
groups; if it has findings, they are looked for in the sources alone.
"""

import collections
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

from lint_groups import groups_of, text_of

# GCC's options, unknown to clang, and those that mean nothing to the checks but tell targets apart. The
# warnings are the build's business.
IGNORED = re.compile(r"-(W|mmove-max=|mstore-max=|O|g|fPI[CE]|fvisibility).*|-D\w+_EXPORTS|-c")

FINDING = re.compile(r"^(/.+?):\d+:\d+: (?:warning|error): .*", re.MULTILINE)

Options = collections.namedtuple("Options", "suffix config_folder arguments")


def tracked(*patterns):
    listing = subprocess.run(["git", "ls-files", "-z", *patterns], check=True, capture_output=True, text=True)
    return [pathlib.Path(name) for name in listing.stdout.split("\0") if name]


def read_options(build, configs):
    """The Options of each source. What is compiled several times is checked once, kernels with the widest
    instruction set."""
    folders = {config.parent.absolute() for config in configs}
    options = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        source = pathlib.Path(entry["file"])
        if source.suffix == ".cu":  # needs a clang that knows this CUDA
            continue
        arguments = shlex.split(entry["command"])[1:]
        output = arguments.index("-o")
        del arguments[output : output + 2]
        arguments = [a for a in arguments if a != entry["file"] and not IGNORED.fullmatch(a)]
        # Clang 14 knows _Float16, which a test compares with, only with this option.
        arguments.append("-mavx512fp16")
        config_folder = next(folder for folder in source.parents if folder in folders)
        options[source] = Options(source.suffix, config_folder, tuple(arguments))
    return options


def findings(said):
    return {match[0] for match in FINDING.finditer(said)}


def includes(source, header):
    return f'/{header.name}"' in source.read_text()


def hashes_of(options, configs):
    common = hashlib.sha256()
    for path in configs + tracked("*.h"):
        common.update(path.read_bytes())
    hashes = {}
    for source, its in options.items():
        own = common.copy()
        own.update(repr((source, its)).encode() + source.read_bytes())
        hashes[source] = own.hexdigest()
    return hashes


class Linter:
    def __init__(self, build):
        self.clean = build / "lint" / "clean"
        self.clean.mkdir(parents=True, exist_ok=True)
        self.groups = build / "lint" / "groups"
        shutil.rmtree(self.groups, ignore_errors=True)
        # clang-tidy takes its settings from the folders above a file, here the generated one.
        configs = tracked("*.clang-tidy")
        for config in configs:
            copy = self.groups / config
            copy.parent.mkdir(parents=True)
            shutil.copy(config, copy)
        self.options = read_options(build, configs)
        self.hashes = hashes_of(self.options, configs)

    def run(self):
        """True when nothing was found."""
        alike = collections.defaultdict(list)
        for source in sorted(self.options):
            if not (self.clean / self.hashes[source]).exists():
                alike[self.options[source]].append(source)
        groups = [group for sources in alike.values() for group in groups_of(sources, pathlib.Path.cwd())]
        with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return all(list(pool.map(self.check_group, sorted(groups, key=len, reverse=True))))

    def write_group(self, sources):
        options = self.options[sources[0]]
        folder = self.groups / options.config_folder.relative_to(pathlib.Path.cwd())
        path = folder / (self.hashes[sources[0]] + options.suffix)
        path.write_text(text_of(sources))
        return path

    def tidy(self, path, options):
        """None when clean, otherwise what clang-tidy prints."""
        result = subprocess.run(
            ["clang-tidy", "--quiet", path, "--", *options.arguments], capture_output=True, text=True
        )
        return result.stdout + result.stderr if result.returncode else None

    def check_source(self, source):
        """None when clean; otherwise prints and returns what clang-tidy says."""
        said = self.tidy(source, self.options[source])
        if said is None:
            self.mark_clean([source])
        else:
            print(said, flush=True)
        return said

    def mark_clean(self, sources):
        for source in sources:
            (self.clean / self.hashes[source]).touch()

    def check_group(self, group):
        """True when clean."""
        if len(group) == 1:
            return self.check_source(group[0]) is None
        said = self.tidy(self.write_group(group), self.options[group[0]])
        if said is None:
            self.mark_clean(group)
            return True
        named = [pathlib.Path(name) for name in sorted(set(FINDING.findall(said)))]
        first = [source for source in group if any(source == file or includes(source, file) for file in named)]
        others = [source for source in group if source not in first]
        if "[clang-diagnostic-error" not in said:
            return self.check_one_by_one(first + others, findings(said))
        print(f"{len(group)} sources don't compile together: {', '.join(map(str, named))}", file=sys.stderr)
        if not first or not others:
            first, others = group[: len(group) // 2], group[len(group) // 2 :]
        return all([self.check_group(others), self.check_group(first)])

    def check_one_by_one(self, sources, missing):
        """True when clean. Of what was found in a group only that counts which a source shows alone; once all
        missing findings have been shown, the sources that are left are clean."""
        clean = True
        everything = not missing
        while sources and (missing or everything):
            said = self.check_source(sources.pop(0))
            if said is not None:
                clean = False
                missing = missing - findings(said)
        self.mark_clean(sources)
        if missing:
            print("Not counted, as no source shows it alone:", *sorted(missing), sep="\n", file=sys.stderr)
        return clean


if __name__ == "__main__":
    sys.exit(0 if Linter(pathlib.Path(sys.argv[1]).absolute()).run() else 1)
