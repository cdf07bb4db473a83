"""How far one arm's loss is from another's, and how sure that is. Needs nothing but Python."""

import math

# 97.5 % points of Student's t by degrees of freedom.
STUDENT_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306,
              9: 2.262}
NORMAL_95 = 1.960


def mean_and_bound(values):
    """The mean, and half of its 95 % interval by Student's t; None for one value."""
    count = len(values)
    mean = sum(values) / count
    if count == 1:
        return mean, None
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, STUDENT_95[count - 1] * math.sqrt(variance / count)


def gap_over_documents(losses, base):
    """(gap in per cent, half of its 95 % interval) of sums of losses over the same documents: a ratio of
    sums, of which a document, not a token, is the unit that was drawn."""
    assert len(losses) == len(base)
    ratio = sum(losses) / sum(base)
    squares = sum((a - ratio * b) ** 2 for a, b in zip(losses, base))
    number = len(losses)
    error = math.sqrt(squares * number / (number - 1)) / sum(base)
    return 100 * (ratio - 1), 100 * NORMAL_95 * error


def wilson(successes, count):
    """95 % interval of a share."""
    share, z = successes / count, NORMAL_95
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)
