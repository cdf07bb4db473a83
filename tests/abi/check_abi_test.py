#!/usr/bin/env python3
"""Shows that check_abi.py notices what it is there to notice."""

import pathlib
import tempfile
import unittest

import check_abi

GOOD = """/* A header. */
#ifndef X_H
#define X_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef int32_t qft_status;
#define QFT_ERROR_SHAPE 1004
#define QFT_KIND 3 /* words
                      over lines */
typedef struct qft_error qft_error;
typedef struct qft_thing qft_thing;
typedef int32_t (*qft_callback)(void* user, const char* text, size_t length);
typedef struct qft_options {
  uint64_t struct_size;
  double rate; /* > 0; in a comment bool */
  const char* name;
  int64_t shape[4];
  qft_callback callback;
  void (*destroy)(void* user);
} qft_options;
/* Does. Errors: SHAPE (BAD). Thread: one. Blocks: for the work. Since: 0.1. */
QFT_API qft_status qft_thing_do(qft_thing* thing, const qft_options* options, float* out,
                                qft_callback callback, qft_thing** other, qft_error** error);
/* Thread: any, also during a step. Blocks: no. Since: 0.1. */
QFT_API const char* qft_name(void);
#ifdef __cplusplus
}
#endif
#endif
"""


def problems(text):
    header = check_abi.Header()
    header.read("x.h", text)
    return header.problems


class HeaderTest(unittest.TestCase):
    def test_good_header_passes(self):
        header = check_abi.Header()
        header.read("x.h", GOOD)
        self.assertEqual(header.problems, [])
        self.assertEqual(header.functions, ["qft_thing_do", "qft_name"])
        self.assertEqual(header.structs, {"qft_options"})
        self.assertEqual(header.codes, {"SHAPE"})

    def test_each_defect_is_noticed(self):
        defects = {
            "no thread tag": ("Thread: one. ", ""),
            "no blocks tag": ("Blocks: no. ", ""),
            "no since tag": (" Since: 0.1. */\nQFT_API const", " */\nQFT_API const"),
            "unknown thread": ("Thread: one.", "Thread: some."),
            "unknown blocks": ("Blocks: no.", "Blocks: maybe."),
            "malformed version": ("Since: 0.1. */\nQFT_API const",
                                  "Since: soon. */\nQFT_API const"),
            "tag twice": ("Thread: one.", "Thread: one. Thread: any."),
            "unknown error": ("Errors: SHAPE", "Errors: SHAPES"),
            "no comment": ("/* Thread: any, also during a step. Blocks: no. Since: 0.1. */\n", ""),
            "bool argument": ("float* out", "bool out"),
            "long argument": ("float* out", "long out"),
            "int argument": ("float* out", "int out"),
            "unsigned pointer": ("float* out", "unsigned long* out"),
            "char by value": ("float* out", "char out"),
            "struct by value": ("const qft_options* options", "qft_options options"),
            "handle by value": ("qft_thing* thing,", "qft_thing thing,"),
            "three stars": ("qft_thing** other", "qft_thing*** other"),
            "variadic": ("qft_error** error);", "qft_error** error, ...);"),
            "error not last": (", qft_error** error);", ");"),
            "empty arguments": ("qft_name(void)", "qft_name()"),
            "enum": ("typedef struct qft_thing qft_thing;",
                     "typedef enum qft_kind { A } qft_kind;"),
            "void handle": ("typedef struct qft_thing qft_thing;", "typedef void* qft_thing;"),
            "bit-field": ("double rate;", "uint32_t rate : 3;"),
            "union": ("double rate;", "union { double a; float b; } rate;"),
            "nested struct": ("double rate;", "qft_thing rate;"),
            "no struct_size": ("  uint64_t struct_size;\n", ""),
            "struct_size of another type": ("uint64_t struct_size", "size_t struct_size"),
            "callback with a bad type": ("(*qft_callback)(void* user", "(*qft_callback)(long user"),
            "member function with a bad type": ("(*destroy)(void* user)", "(*destroy)(int user)"),
            "code in between": ("typedef int32_t qft_status;", "static int x;"),
        }
        for name, (old, new) in defects.items():
            with self.subTest(name):
                self.assertIn(old, GOOD)
                self.assertNotEqual(problems(GOOD.replace(old, new)), [])


class ListsTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.write("x.h", GOOD)
        self.write("symbols.txt", "qft_name\nqft_thing_do\n")
        self.write("x.map", "X {\n global:\n qft_name; qft_thing_do;\n local:\n *;\n};\n")

    def write(self, name, text):
        (self.folder / name).write_text(text, encoding="utf-8")

    def check(self):
        names = ("x.h", "symbols.txt", "x.map")
        return check_abi.check_lists(*(str(self.folder / name) for name in names))

    def test_equal_lists_pass(self):
        self.assertEqual(self.check(), [])

    def test_differences_are_noticed(self):
        for name, text in {
            "x.h": GOOD.replace("qft_name", "qft_other"),
            "symbols.txt": "qft_name\n",
            "x.map": "X { global: qft_name; qft_thing_do; qft_more; local: *; };",
        }.items():
            with self.subTest(name):
                before = (self.folder / name).read_text(encoding="utf-8")
                self.write(name, text)
                self.assertNotEqual(self.check(), [])
                self.write(name, before)

    def test_open_version_script_is_noticed(self):
        self.write("x.map", "X { global: qft_name; qft_thing_do; };")
        self.assertNotEqual(self.check(), [])


if __name__ == "__main__":
    unittest.main()
