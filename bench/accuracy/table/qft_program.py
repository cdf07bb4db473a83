"""libqft under training and test, through its C ABI."""

import numpy

from qft_ctypes import Decoder, Library, Model, Session

# What is written down of a step: at every `TELEMETRY_EVERY`th, counts of codes and rows as sums up to it.
TELEMETRY_EVERY = 50
SUMMED = ("codes_changed", "rows_grown", "updates_lost")
AS_IT_IS = ("codes_saturated", "codes_total", "rounding_walk", "gradient_norm")


class Program:
    def __init__(self, library, model, settings, seed, engine, train, tests, step_documents):
        self.train_documents, self.tests = train, tests
        self.micro_batch_tokens = step_documents * train.parts["train"][0].shape[1]
        self.model = Model(Library(library / "libqft.so"), model)
        self.session = Session(self.model, seed=seed, engine=engine, threads=2,
                               micro_batch_tokens=self.micro_batch_tokens, **settings)
        self.curve, self.sums, self.rows = [], dict.fromkeys(SUMMED, 0), []

    def step(self, rate, rows):
        """One update on documents `rows` of the training part."""
        result = self.session.step(rate, *self.train_documents.unpadded("train", rows))
        self.curve.append(result["loss"])
        for name in SUMMED:
            self.sums[name] += result[name]
        if result["step"] % TELEMETRY_EVERY == 0:
            self.rows.append({"step": result["step"], **self.sums,
                              **{name: result[name] for name in AS_IT_IS}})

    def losses(self):
        """Of the steps so far."""
        return self.curve

    def document_losses(self, name):
        """[rows] sums over the tokens with loss, nats."""
        lengths = self.tests.lengths(name)
        sums = []
        first = 0
        while first < len(lengths):
            fits = numpy.cumsum(lengths[first:]) <= self.micro_batch_tokens
            rows = range(first, first + int(fits.sum()))
            tokens, targets, documents = self.tests.unpadded(name, rows)
            losses = self.session.token_losses(tokens, targets, documents)
            sums.extend(numpy.bincount(documents, losses))
            first += len(rows)
        return sums

    def answers(self, name, count, most, end):
        """Token lists, one for each of the first `count` rows."""
        prompts = [self.tests.prompt(name, row)[0] for row in range(count)]
        decoder = Decoder(self.session, max(map(len, prompts)) + most,
                          self.model.config()["vocab_size"])
        answers = [decoder.answer(prompt, end, most) for prompt in prompts]
        decoder.close()
        return answers

    def report(self):
        """What a run says of itself at its end."""
        metrics = self.session.metrics()
        kinds = ("weight", "residual", "critical", "momentum", "gradient")
        return {"state_bytes": {kind: metrics[f"{kind}_bytes"] for kind in kinds},
                "parameters": metrics["parameters"], "telemetry": self.rows,
                "quantised_rows": self.model.quantised_rows,
                "critical_overlap": self.session.critical_overlap()}
