"""A LLaMA whose linear layers are the integer pipeline of docs/numerics.md, for S seeds at once: every
activation is [S, T, ...], every weight [S, N, K], so that one batched product serves all seeds."""

import math

import torch
from torch.nn import functional

from rounding import (integer_matmul, quantize_output_gradient, quantize_output_gradient_transposed,
                      quantize_rows, scale_add_into, scale_into, scale_rows_and_columns,
                      second_term)

HEAD_CHUNK = 8192
# Query, key and value as one matrix, gate and up too: rows have their own grids, so only the dy of
# the input gradient notices (one scale a token for all of them).
LINEAR = ("qkv", "o", "gate_up", "down")


class Site:
    """One linear layer: its state's layer and its input's critical features."""

    def __init__(self, name, state, layer, columns, arm, salts, step, rotation=None):
        self.name, self.state, self.layer, self.columns = name, state, layer, columns
        self.arm, self.salts, self.step, self.rotation = arm, salts, step, rotation
        self.keep = torch.ones(state.initial.shape[-1], device=state.initial.device)
        if columns is not None:
            self.keep[columns] = 0.0

    def weight_at_columns(self):
        if self.state.columns is not None:
            return self.state.critical[self.layer]
        return self.state.codes[self.layer][..., self.columns].float() * self.state.grid[self.layer]


def _forward(site, x):
    """(output, what backward needs)."""
    state, layer = site.state, site.layer
    if not site.arm.integer_forward:
        if site.name in site.arm.quantised_sites:
            codes, scale = quantize_rows(x, site.keep)
            x = codes.float() * scale + x * (1 - site.keep)
        return torch.bmm(x, state.values(layer).transpose(1, 2)), (x, None, None)
    codes, scale = quantize_rows(x, site.keep)
    y = scale_rows_and_columns(integer_matmul(codes, state.codes[layer].transpose(1, 2)), scale,
                               state.grid[layer].transpose(1, 2))
    if site.name in site.arm.two_terms:
        more = integer_matmul(second_term(x, site.keep, codes, scale),
                              state.codes[layer].transpose(1, 2))
        y += scale_rows_and_columns(more, scale / 256, state.grid[layer].transpose(1, 2))
    if site.columns is None:
        return y, (codes, scale, None)
    apart = x[..., site.columns]
    return y.baddbmm_(apart, site.weight_at_columns().transpose(1, 2)), (codes, scale, apart)


def columns_to_int8(x):
    """x [S, R, C] to nearest with a scale a column, decoded."""
    scale = (x.abs().amax(1, keepdim=True) / 127.0).clamp(min=1e-30)
    return (x / scale).round() * scale


def _weight_gradient(site, dy, kept, rows, part):
    """Into state.gradient for the output features `rows` (a slice), part `part` of the outputs."""
    state, layer, (codes, scale, apart) = site.state, site.layer, kept
    gradient = state.gradient[layer][:, rows]
    if not site.arm.integer_forward:
        torch.bmm(dy.transpose(1, 2), codes, out=gradient)  # `codes` are values here
        return
    dy_codes, dy_scale = quantize_output_gradient_transposed(
        dy, scale, site.step, site.salts[2 * part + 1], site.arm.stochastic_dy)
    scale_into(gradient, integer_matmul(dy_codes.transpose(1, 2), codes), dy_scale.transpose(1, 2))
    if apart is None:
        return
    inverse = torch.where(scale > 0, 1.0 / scale, 0.0)
    if site.arm.critical_backward == "int8":
        thin = torch.bmm(dy_codes.float().transpose(1, 2), columns_to_int8(apart * inverse))
        state.critical_gradient[layer][:, rows] += thin * dy_scale.transpose(1, 2)
    elif state.columns is not None:
        state.critical_gradient[layer][:, rows] += torch.bmm(dy.transpose(1, 2), apart)
    else:
        thin = torch.bmm(dy_codes.float().transpose(1, 2), apart * inverse)
        gradient[..., site.columns] += thin * dy_scale.transpose(1, 2)


def _input_gradient(site, dy, dx, rows, part):
    """Adds to dx what the output features `rows` contribute."""
    state, layer = site.state, site.layer
    if not site.arm.integer_forward:
        dx.baddbmm_(dy, state.values(layer)[:, rows])
        return
    dy_codes, dy_scale = quantize_output_gradient(
        dy, state.grid[layer][:, rows].transpose(1, 2), site.step, site.salts[2 * part],
        site.arm.stochastic_dy)
    scale_add_into(dx, integer_matmul(dy_codes, state.codes[layer][:, rows]), dy_scale)
    if site.arm.critical_backward == "int8":
        apart = columns_to_int8(state.critical[layer][:, rows] / state.grid[layer][:, rows])
        dx[..., site.columns] += torch.bmm(dy_codes.float(), apart) * dy_scale
    elif state.columns is not None:
        dx[..., site.columns] += torch.bmm(dy, state.critical[layer][:, rows])


class Linear(torch.autograd.Function):
    """Weight gradients go to the states' buffers; autograd sees only the activations."""

    @staticmethod
    def forward(ctx, x, site):
        y, kept = _forward(site, x)
        ctx.site, ctx.kept = site, kept
        return y

    @staticmethod
    def backward(ctx, dy):
        rows = slice(0, dy.shape[-1])
        dx = torch.zeros_like(ctx.kept[0], dtype=torch.float32)
        _input_gradient(ctx.site, dy, dx, rows, 0)
        _weight_gradient(ctx.site, dy, ctx.kept, rows, 0)
        return dx, None


@torch.compile(dynamic=False)
def rms_norm(x, weight, epsilon: float):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


@torch.compile(dynamic=False)
def swiglu(gate_up):
    gate, up = gate_up.chunk(2, -1)
    return functional.silu(gate) * up


@torch.compile(dynamic=False)
def rope(x, cosine, sine):
    """x [S, T, heads, dim] -> [S, heads, T, dim], halves paired."""
    half = x.shape[-1] // 2
    x = x.transpose(1, 2)
    rotated = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * cosine + rotated * sine


@torch.compile(dynamic=False)
def cross_entropy(logits, targets, loss_weight):
    """logits become their gradient in place; returns -log p at the targets (0 where they are < 0)."""
    row_max = logits.amax(-1, keepdim=True)
    log_sum = (logits - row_max).exp().sum(-1, keepdim=True).log() + row_max
    target = logits.gather(-1, targets.clamp(min=0).unsqueeze(-1))
    loss = torch.where(targets >= 0, (log_sum - target).squeeze(-1), 0.0)
    column = torch.arange(logits.shape[-1], device=logits.device)
    hit = (column == targets.unsqueeze(-1)).float()
    logits.copy_(((logits - log_sum).exp() - hit) * loss_weight.unsqueeze(-1))
    return loss


@torch.compile(dynamic=False)
def token_loss(logits, targets):
    row_max = logits.amax(-1, keepdim=True)
    log_sum = (logits - row_max).exp().sum(-1, keepdim=True).log() + row_max
    target = logits.gather(-1, targets.clamp(min=0).unsqueeze(-1))
    return torch.where(targets >= 0, (log_sum - target).squeeze(-1), 0.0)


def hadamard_blocks(size, device, block=64):
    """A rotation: Hadamard matrices of `block` along the diagonal."""
    matrix = torch.ones(1, 1, device=device)
    while matrix.shape[0] < block:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)), 0)
    assert size % block == 0
    return torch.block_diag(*[matrix / math.sqrt(block)] * (size // block))


class Llama:
    """states: name -> MatrixState of qkv, o, gate_up, down [layers] and embedding [1 layer];
    norms: leaf [2 * layers + 1, S, 1, D]."""

    def __init__(self, config, states, norms, columns, arm, step):
        self.config, self.states, self.norms, self.arm, self.step = config, states, norms, arm, step
        device = norms.device
        self.sites = []
        salts = torch.arange(10000, 10000 + 32 * 4 * (config["layers"] + 1), dtype=torch.int32,
                             device=device).view(-1, 32)
        for layer in range(config["layers"]):
            sites = {}
            for number, name in enumerate(LINEAR):
                width = states[name].initial.shape[-1]
                rotation = hadamard_blocks(width, device) if name in arm.hadamard else None
                sites[name] = Site(name, states[name], layer, columns[name][layer] if columns else None,
                                   arm, salts[4 * layer + number], step, rotation)
            self.sites.append(sites)
        self.rotation = hadamard_blocks(config["hidden"], device) if "head" in arm.hadamard else None
        self.head = Site("head", states["embedding"], 0, columns["head"][0] if columns else None, arm,
                         salts[4 * config["layers"]], step)
        positions = torch.arange(config["length"], device=device, dtype=torch.float32)
        frequency = config["rope_theta"] ** (
            -torch.arange(0, config["head_dim"], 2, device=device).float() / config["head_dim"])
        angle = torch.outer(positions, frequency).repeat(1, 2)
        self.cosine, self.sine = angle.cos(), angle.sin()
        self.observe = None  # called with (site name, layer, x) where set

    def _linear(self, x, site_name, layer):
        site = self.sites[layer][site_name]
        if site.rotation is not None:
            x = x @ site.rotation
        if self.observe is not None:
            self.observe(site_name, layer, x)
        return Linear.apply(x, site)

    def _attention(self, qkv):
        config = self.config
        q, k, v = qkv.split([n * config["head_dim"] for n in
                             (config["heads"], config["kv_heads"], config["kv_heads"])], -1)
        seeds, tokens = qkv.shape[:2]
        rows = seeds * (tokens // config["length"])
        dim, heads, groups = config["head_dim"], config["heads"], config["kv_heads"]
        shape = lambda x, count: x.reshape(rows, config["length"], count, dim)
        q = rope(shape(q, heads), self.cosine, self.sine)
        k = rope(shape(k, groups), self.cosine, self.sine)
        v = shape(v, groups).transpose(1, 2)
        k, v = (x.repeat_interleave(heads // groups, 1) for x in (k, v))
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return out.transpose(1, 2).reshape(seeds, tokens, heads * dim)

    def embed(self, tokens):
        state = self.states["embedding"]
        rows = torch.stack([self._embedding_rows(state, seed, tokens[seed])
                            for seed in range(tokens.shape[0])])
        return rows if self.rotation is None else rows @ self.rotation.T

    def _embedding_rows(self, state, seed, tokens):
        if not state.int8:
            return state.weight[0, seed][tokens]
        rows = state.codes[0, seed][tokens].float() * state.grid[0, seed][tokens]
        if state.columns is not None:
            rows[:, state.columns[0]] = state.critical[0, seed][tokens]
        if state.elements is not None:
            rows = rows + state.apart[0, seed][tokens]
        return rows

    def hidden(self, embedded):
        config, h = self.config, embedded
        for layer in range(config["layers"]):
            x = rms_norm(h, self.norms[2 * layer], config["epsilon"])
            h = h + self._linear(self._attention(self._linear(x, "qkv", layer)), "o", layer)
            x = rms_norm(h, self.norms[2 * layer + 1], config["epsilon"])
            h = h + self._linear(swiglu(self._linear(x, "gate_up", layer)), "down", layer)
        return rms_norm(h, self.norms[2 * config["layers"]], config["epsilon"])

    def logits(self, hidden):
        if self.rotation is not None:
            hidden = hidden @ self.rotation
        if self.observe is not None:
            self.observe("head", 0, hidden)
        if self.arm.bf16_head:
            weight = self.states["embedding"].values(0).bfloat16()
            return torch.bmm(hidden.bfloat16(), weight.transpose(1, 2)).float(), (hidden, None, None)
        return _forward(self.head, hidden)

    def loss(self, tokens, targets):
        logits, _ = self.logits(self.hidden(self.embed(tokens)))
        return token_loss(logits, targets)

    def loss_and_gradients(self, tokens, targets, loss_weight):
        """Fills the states' gradient buffers and norms.grad. Returns token losses [S, T]."""
        embedded = self.embed(tokens).requires_grad_()
        hidden = self.hidden(embedded)
        with torch.no_grad():
            logits, kept = self.logits(hidden)
            loss = cross_entropy(logits, targets, loss_weight)
            dx = self._head_backward(logits, hidden, kept)
        hidden.backward(dx)
        with torch.no_grad():
            self._embedding_backward(tokens, embedded.grad)
        return loss

    def _head_backward(self, dlogits, hidden, kept):
        state = self.states["embedding"]
        dx = torch.zeros_like(hidden)
        if self.arm.bf16_head:
            weight, dy = state.values(0).bfloat16(), dlogits.bfloat16()
            dx += torch.bmm(dy, weight).float()
            state.gradient[0] = torch.bmm(dy.transpose(1, 2), kept[0].bfloat16()).float()
        else:
            vocabulary = dlogits.shape[-1]
            for number, begin in enumerate(range(0, vocabulary, HEAD_CHUNK)):
                rows = slice(begin, min(begin + HEAD_CHUNK, vocabulary))
                _input_gradient(self.head, dlogits[..., rows], dx, rows, number)
                _weight_gradient(self.head, dlogits[..., rows], kept, rows, number)
        return dx if self.rotation is None else dx @ self.rotation.T

    def _embedding_backward(self, tokens, gradient):
        state = self.states["embedding"]
        if self.rotation is not None:
            gradient = gradient @ self.rotation
        if state.columns is not None:
            columns = state.columns[0]
            for seed in range(tokens.shape[0]):
                state.critical_gradient[0, seed].index_add_(0, tokens[seed], gradient[seed][:, columns])
        for seed in range(tokens.shape[0]):
            state.gradient[0, seed].index_add_(0, tokens[seed], gradient[seed])
