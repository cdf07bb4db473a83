"""Which generated answers end in the right number."""

import re

NUMBER = re.compile(r"####\s*(-?[\d,.]*\d)")


def final_number(text):
    """Of GSM8K's "#### 1,234"; None without one."""
    found = NUMBER.search(text)
    return float(found.group(1).replace(",", "")) if found else None


def correct(answers, references):
    """How many texts end in the number that their reference ends in."""
    return sum(final_number(answer) == final_number(reference)
               for answer, reference in zip(answers, references))
