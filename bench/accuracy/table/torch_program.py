"""transformers' LLaMA under training and test in PyTorch, with the optimizer in its own arithmetic. On a GPU a
step is one captured graph (of 8-bit Lion: all but the update), since a model this small is bound by
launches."""

import numpy
import torch
import transformers
from torch.nn import functional

EVALUATION_ROWS = 16
CLIP_NORM = 1.0


class Lion:
    """As docs/numerics.md writes it, in the weights' own type."""

    def __init__(self, weights, rate, beta1=0.9, beta2=0.99):
        self.weights, self.rate, self.beta1, self.beta2 = weights, rate, beta1, beta2
        self.momentum = [torch.zeros_like(weight) for weight in weights]

    def step(self, gradients):
        update = torch._foreach_lerp(self.momentum, gradients, 1 - self.beta1)
        torch._foreach_sign_(update)
        torch._foreach_mul_(update, self.rate)
        torch._foreach_sub_(self.weights, update)
        torch._foreach_lerp_(self.momentum, gradients, 1 - self.beta2)

    def states(self):
        return self.momentum


class AdamW:
    def __init__(self, weights, rate):
        self.weights = weights
        self.optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0, fused=True,
                                           capturable=rate.is_cuda)

    def step(self, gradients):
        for weight, gradient in zip(self.weights, gradients):
            weight.grad = gradient
        self.optimizer.step()

    def states(self):
        return [value for state in self.optimizer.state.values() for value in state.values()]


class Lion8bit:
    """Of bitsandbytes."""

    def __init__(self, weights, rate):
        import bitsandbytes
        self.weights, self.rate = weights, rate
        self.optimizer = bitsandbytes.optim.Lion8bit(weights, lr=0.0, betas=(0.9, 0.99))

    def step(self, gradients):
        for weight, gradient in zip(self.weights, gradients):
            weight.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.step()

    def states(self):
        return [value for state in self.optimizer.state.values() for name, value in state.items()
                if torch.is_tensor(value) and name != "qmap1"]  # the table is shared


OPTIMIZERS = {"lion": Lion, "adamw": AdamW, "lion8bit": Lion8bit}


class Program:
    def __init__(self, model, settings, train, tests, step_documents, device, eager):
        # fp32 products are fp32: no TF32.
        torch.set_float32_matmul_precision("highest")
        self.device, self.tests = torch.device(device), tests
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, settings["dtype"]), attn_implementation="sdpa")
        self.model.eval().to(self.device)  # it has no dropout
        self.weights = list(self.model.parameters())
        self.rows = {name: [torch.from_numpy(part).to(self.device, torch.int64)
                            for part in train.parts[name]] for name in train.parts}
        length = self.rows["train"][0].shape[1]
        self.tokens = torch.zeros(step_documents, length, dtype=torch.int64, device=self.device)
        self.targets = self.tokens.clone()
        self.rate = torch.zeros((), device=self.device)
        # bitsandbytes takes the rate from the host.
        self.optimizer_apart = settings["optimizer"] == "lion8bit"
        self.optimizer = OPTIMIZERS[settings["optimizer"]](self.weights, self.rate)
        self.curve = []
        self.captured = not eager and self.device.type == "cuda" and self._try_to_capture()

    def _logits(self, tokens):
        # A mask of its own keeps transformers from looking at values for one, which a graph forbids.
        length = tokens.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=self.device).tril()
        positions = torch.arange(length, device=self.device).expand(tokens.shape)
        return self.model(tokens, attention_mask=mask.expand(len(tokens), 1, length, length),
                          position_ids=positions, use_cache=False).logits

    def _token_losses(self, tokens, targets):
        """[rows, length] fp32, 0 without target."""
        logits = self._logits(tokens).float()
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1,
                                        reduction="none").view(targets.shape)

    def _gradients(self):
        """(loss, clipped gradients) of the documents in the buffers."""
        loss = self._token_losses(self.tokens, self.targets).sum() / (self.targets >= 0).sum()
        gradients = list(torch.autograd.grad(loss, self.weights))
        with torch.no_grad():
            norms = torch._foreach_norm([gradient.float() for gradient in gradients])
            factor = (CLIP_NORM / torch.linalg.vector_norm(torch.stack(norms))).clamp(max=1.0)
            torch._foreach_mul_(gradients, factor)
        return loss.detach(), gradients

    def _update(self, gradients):
        with torch.no_grad():
            self.optimizer.step(gradients)

    def _whole_step(self):
        loss, gradients = self._gradients()
        if not self.optimizer_apart:
            self._update(gradients)
        return loss, gradients

    def _try_to_capture(self):
        self.tokens.copy_(self.rows["train"][0][: len(self.tokens)])
        self.targets.copy_(self.rows["train"][1][: len(self.tokens)])
        try:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):  # at rate 0
                    self._whole_step()
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.outputs = self._whole_step()
        except RuntimeError as error:
            print("not captured:", error, flush=True)
        for state in self.optimizer.states():
            state.zero_()
        return hasattr(self, "outputs")

    def step(self, rate, rows):
        """One update on documents `rows` of the training part."""
        rows = torch.from_numpy(rows).to(self.device)
        self.tokens.copy_(self.rows["train"][0][rows])
        self.targets.copy_(self.rows["train"][1][rows])
        self.rate.fill_(rate)
        if self.captured:
            self.graph.replay()
            loss, gradients = self.outputs
        else:
            loss, gradients = self._whole_step()
        if self.optimizer_apart:
            self.optimizer.rate = rate
            self._update(gradients)
        self.curve.append(loss.clone())

    def losses(self):
        """Of the steps so far."""
        return torch.stack(self.curve).tolist() if self.curve else []

    @torch.no_grad()
    def document_losses(self, name):
        """[rows] sums over the tokens with loss, nats."""
        tokens, targets = (torch.from_numpy(part).to(self.device, torch.int64)
                           for part in self.tests.parts[name])
        sums = [self._token_losses(*rows).double().sum(1) for rows in
                zip(tokens.split(EVALUATION_ROWS), targets.split(EVALUATION_ROWS))]
        return torch.cat(sums).tolist()

    @torch.no_grad()
    def answers(self, name, count, most, end):
        """Token lists, one for each of the first `count` rows."""
        prompts = [self.tests.prompt(name, row)[0] for row in range(count)]
        longest = max(map(len, prompts))
        tokens = numpy.full((count, longest), end, numpy.int64)
        mask = numpy.zeros((count, longest), numpy.int64)
        for row, prompt in enumerate(prompts):
            tokens[row, longest - len(prompt):] = prompt
            mask[row, longest - len(prompt):] = 1
        output = self.model.generate(torch.from_numpy(tokens).to(self.device),
                                     attention_mask=torch.from_numpy(mask).to(self.device),
                                     do_sample=False, max_new_tokens=most, eos_token_id=end,
                                     pad_token_id=end)
        return [row[: row.index(end)] if end in row else row
                for row in output[:, longest:].tolist()]

    def report(self):
        """What a run says of itself at its end."""
        def bytes_of(tensors):
            return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return {"state_bytes": {"weight": bytes_of(self.weights),
                                "momentum": bytes_of(self.optimizer.states()),
                                "gradient": bytes_of(self.weights)},
                "parameters": sum(weight.numel() for weight in self.weights),
                "captured": self.captured}
