"""What all arms of a comparison share: documents as tokens, the order in which a seed trains on them, and
the learning rates. Needs numpy alone."""

import math

import numpy


class Documents:
    """Parts of prepare.py's tokens.npz: name -> (tokens, targets), int32 [rows, length], padded;
    targets[r, i] is the token after tokens[r, i], -1 where no loss is taken."""

    def __init__(self, path, names, limit=None):
        arrays = numpy.load(path)
        self.parts = {name: (arrays[f"{name}_tokens"][:limit], arrays[f"{name}_targets"][:limit])
                      for name in names}

    def lengths(self, name):
        """[rows] tokens up to and with the last target."""
        targets = self.parts[name][1]
        return targets.shape[1] - (targets[:, ::-1] >= 0).argmax(1) + 1

    def counts(self, name):
        """[rows] tokens with loss."""
        return (self.parts[name][1] >= 0).sum(1)

    def unpadded(self, name, rows):
        """(tokens, targets, document numbers), one after the other in one row."""
        tokens, targets = self.parts[name]
        lengths = self.lengths(name)[rows]
        pieces = list(zip(rows, lengths))
        return (numpy.concatenate([tokens[row, :n] for row, n in pieces]),
                numpy.concatenate([targets[row, :n] for row, n in pieces]),
                numpy.repeat(numpy.arange(len(pieces), dtype=numpy.int32), lengths))

    def prompt(self, name, row):
        """(the tokens before the first target, the targets)."""
        tokens, targets = (part[row] for part in self.parts[name])
        first = int((targets >= 0).argmax())
        return tokens[: first + 1], targets[targets >= 0]


def order(rows, seed, steps, documents):
    """Row numbers [steps, documents]: shuffled epochs, one after the other."""
    random = numpy.random.default_rng(1000 + seed)
    epochs = -(-steps * documents // rows)
    rows = numpy.concatenate([random.permutation(rows) for _ in range(epochs)])
    return rows[: steps * documents].reshape(steps, documents)


def learning_rate(peak, step, steps):
    """Of step 0, 1, ...: a linear warm-up over a 33rd of the steps times half a cosine."""
    warm_up = max(1, steps // 33)
    return peak * min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))
