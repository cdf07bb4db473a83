"""Weights, gradients and Lion momentum of one kind of matrix, for all layers L and all seeds S at once:
[L, S, N, K]. In INT8 with the variants the experiments compare, or in fp32 as the yardstick.

The compiled functions see rows, [L * S * N, K], whose number is dynamic: one compilation a width."""

import torch

from rounding import (from_blocks, round_stochastic, step_key, to_blocks)

BETA1, BETA2 = 0.9, 0.99


@torch.compile
def encode_gradient(gradient, step, salt, block: bool):
    """One INT8 push, in place: gradient [R, K] becomes what its codes decode to. Returns the
    square sums [R]."""
    value = gradient
    if block:
        parts = to_blocks(value)
        scale = parts.abs().amax(-1, keepdim=True) / 127.0
        codes = round_stochastic(parts * torch.where(scale > 0, 1.0 / scale, 0.0),
                                 step_key(step, salt), 16)
        decoded = from_blocks(codes * scale, value.shape[-1])
    else:
        scale = value.abs().amax(-1, keepdim=True) / 127.0
        codes = round_stochastic(value * torch.where(scale > 0, 1.0 / scale, 0.0),
                                 step_key(step, salt), 16)
        decoded = codes * scale
    gradient.copy_(decoded)
    return decoded.square().sum(-1)


@torch.compile
def lion_fp32(weight, momentum, gradient, rate, clip):
    """In place; clip [R, 1]."""
    gradient = gradient * clip
    update = torch.sign(BETA1 * momentum + (1 - BETA1) * gradient)
    weight.copy_(weight - rate * update)
    momentum.copy_(BETA2 * momentum + (1 - BETA2) * gradient)


def _requantize_momentum(momentum, scale_by, key):
    parts = to_blocks(momentum) if scale_by == "block" else momentum.unsqueeze(-2)
    scale = parts.abs().amax(-1, keepdim=True) / 127.0
    codes = round_stochastic(parts * torch.where(scale > 0, 1.0 / scale, 0.0), key, 16)
    columns = momentum.shape[-1]
    return from_blocks(codes, columns).to(torch.int8), scale


def _decode_momentum(codes, scale, scale_by):
    parts = to_blocks(codes.float()) if scale_by == "block" else codes.float().unsqueeze(-2)
    return from_blocks(parts * scale, codes.shape[-1])


@torch.compile
def lion_int8(fine, codes, grid, momentum, momentum_scale, gradient, moved_rows, rate, clip, step, salt,
              feedback, levels: int, rounding: str, momentum_by: str):
    """In place. fine: the codes times `levels` (1 without a residual plane; 16 and 256 with 4 and 8
    bits), whole numbers. Adds to moved_rows [R, 2]: codes that changed, and whether the row grew."""
    gradient = gradient * clip
    value = _decode_momentum(momentum, momentum_scale, momentum_by)
    update = torch.sign(BETA1 * value + (1 - BETA1) * gradient)
    delta = -(rate * update) / grid * levels
    old = fine.float()
    if rounding == "nearest":
        moved = old + delta.round()
    else:
        moved = old + round_stochastic(delta, step_key(step, salt))
    error = (old + delta - moved) / levels  # in grid steps
    # A row whose code would leave +-127 grows its grid by 1/16 and is rounded once more.
    limit = 127.0 * levels
    grown = moved.abs().amax(-1, keepdim=True) > limit
    shrunk = round_stochastic(moved * (16.0 / 17.0), step_key(step, salt + 101)).clamp(-limit, limit)
    moved = torch.where(grown, shrunk, moved)
    new_grid = torch.where(grown, grid * (17.0 / 16.0), grid)
    value = BETA2 * value + (1 - BETA2) * gradient
    # Error feedback (ECO's idea for a sign update, whose momentum has no unit of its own): what the
    # rounding lost, in grid steps, times the row's mean momentum.
    value = value - feedback * error * value.abs().mean(-1, keepdim=True)
    new_momentum, new_scale = _requantize_momentum(value, momentum_by, step_key(step, salt + 53))
    new_codes = (moved / levels).round()
    changed = (new_codes != (old / levels).round()).float().sum(-1, keepdim=True)
    fine.copy_(moved)
    codes.copy_(new_codes)
    grid.copy_(new_grid)
    momentum.copy_(new_momentum)
    momentum_scale.copy_(new_scale)
    moved_rows.copy_(moved_rows + torch.cat((changed, grown.float()), -1))


@torch.compile
def lion_refit(codes, grid, momentum, momentum_scale, gradient, rate, clip, step, salt):
    """The paper read plainly: decode, update, fit the grid to the row anew, round to nearest."""
    gradient = gradient * clip
    value = _decode_momentum(momentum, momentum_scale, "block")
    update = torch.sign(BETA1 * value + (1 - BETA1) * gradient)
    weight = codes.float() * grid - rate * update
    new_grid = weight.abs().amax(-1, keepdim=True) / 127.0
    value = BETA2 * value + (1 - BETA2) * gradient
    new_momentum, new_scale = _requantize_momentum(value, "block", step_key(step, salt + 53))
    codes.copy_((weight / new_grid).round())
    grid.copy_(new_grid)
    momentum.copy_(new_momentum)
    momentum_scale.copy_(new_scale)


class MatrixState:
    """`values`: [L, N, K] fp32; `columns`: critical input features, int64 [L, C] or None."""

    def __init__(self, values, seeds, arm, columns=None, salt=0):
        self.arm = arm
        self.initial = values
        self.seeds = seeds
        layers, rows, cols = values.shape
        device = values.device
        self.salt = torch.tensor(salt, dtype=torch.int32, device=device)
        self.push_salt = torch.tensor(salt + 977, dtype=torch.int32, device=device)
        self.gradient = torch.zeros(layers, seeds, rows, cols, device=device)
        self.keep = torch.ones(layers, 1, 1, cols, device=device)
        self.columns = columns if arm.critical_states else None
        self.elements = None
        self.moved_rows = torch.zeros(layers * seeds * rows, 2, device=device)
        if self.columns is not None:
            self.keep.view(layers, cols).scatter_(1, self.columns, 0.0)
        if arm.elements > 0:
            self.elements = (values.abs() >= _threshold(values, arm.elements)).unsqueeze(1)
        self.reset()

    @property
    def int8(self):
        return self.arm.states == "int8"

    def reset(self):
        values = self.initial.unsqueeze(1)
        layers, _, rows, cols = values.shape
        expand = (layers, self.seeds, rows, cols)
        if not self.int8:
            self._set("weight", values.expand(expand).clone())
            self._set("momentum", torch.zeros(expand, device=values.device))
            return
        dense = values * self.keep
        if self.elements is not None:
            self._set("apart", torch.where(self.elements, values, 0.0).expand(expand).clone())
            self._set("apart_momentum", torch.zeros(expand, device=values.device))
            dense = torch.where(self.elements, 0.0, dense)
        if self.columns is not None:
            index = self.columns[:, None, None, :].expand(layers, self.seeds, rows, -1)
            self._set("critical", values.expand(expand).gather(-1, index).contiguous())
            self._set("critical_momentum", torch.zeros_like(self.critical))
            self._set("critical_gradient", torch.zeros_like(self.critical))
        if self.arm.grid == "block":
            parts = to_blocks(dense)
            fitted = parts.abs().amax(-1, keepdim=True) / 120.0
            grid = from_blocks(fitted.expand_as(parts), cols)
        else:
            grid = dense.abs().amax(-1, keepdim=True) / 120.0
        grid = torch.where(grid > 0, grid, 2.0**-13)
        levels = self.arm.levels
        fine = (dense / grid * levels).round()
        self._set("grid", grid.expand(layers, self.seeds, rows, grid.shape[-1]).clone())
        kind = {1: torch.int8, 16: torch.int16, 256: torch.int16}[levels]
        self._set("fine", fine.to(kind).expand(expand).clone())
        self._set("codes", (fine / levels).round().bfloat16().expand(expand).clone())
        blocks = -(-cols // 128) if self.arm.momentum_by == "block" else 1
        self._set("momentum", torch.zeros(expand, dtype=torch.int8, device=values.device))
        self._set("momentum_scale", torch.zeros(layers, self.seeds, rows, blocks, 1,
                                                device=values.device))

    def _set(self, name, value):
        """In place from the second time on: a captured graph holds the addresses."""
        if hasattr(self, name):
            getattr(self, name).copy_(value)
        else:
            setattr(self, name, value)

    def values(self, layer):
        """[S, N, K] fp32, decoded, critical values included."""
        if not self.int8:
            return self.weight[layer]
        value = self.codes[layer].float() * self.grid[layer]
        if self.elements is not None:
            value = value + self.apart[layer]
        if self.columns is not None:
            index = self.columns[layer].expand(*value.shape[:2], -1)
            value = value.scatter(-1, index, self.critical[layer])
        return value

    def push(self, step):
        """What stands on the stack instead of the fp32 gradient; its square sum [S]."""
        if not self.int8:
            return self.gradient.square().sum((-1, -2)).sum(0)
        if self.elements is not None:
            self.raw = self.gradient.clone()
            self.gradient.masked_fill_(self.elements, 0.0)
        if self.columns is not None:
            self.gradient.mul_(self.keep)
        if self.arm.gradient_by != "fp32":
            squares = encode_gradient(rows_of(self.gradient), step, self.push_salt,
                                      self.arm.gradient_by == "block")
            squares = squares.view(self.gradient.shape[:3]).sum(-1)
        else:
            squares = self.gradient.square().sum((-1, -2))
        total = squares.sum(0)
        if self.columns is not None:
            total = total + self.critical_gradient.square().sum((-1, -2)).sum(0)
        if self.elements is not None:
            total = total + torch.where(self.elements, self.raw, 0.0).square().sum((-1, -2)).sum(0)
        return total

    def update(self, rate, clip, step):
        """clip [S]."""
        clip = _dynamic(clip[None, :, None].expand(self.gradient.shape[:3]).reshape(-1, 1))
        if not self.int8:
            lion_fp32(*map(rows_of, (self.weight, self.momentum, self.gradient)), rate, clip)
            return
        if self.elements is not None:
            gradient = torch.where(self.elements, self.raw, 0.0)
            lion_fp32(*map(rows_of, (self.apart, self.apart_momentum, gradient)), rate, clip)
            self.apart.mul_(self.elements)
        if self.columns is not None:
            lion_fp32(*map(rows_of, (self.critical, self.critical_momentum, self.critical_gradient)),
                      rate, clip)
        if self.arm.rounding == "frozen":
            return
        states = [rows_of(x) for x in (self.codes, self.grid, self.momentum)]
        scale = self.momentum_scale.flatten(0, 2)
        if self.arm.rounding == "refit":
            lion_refit(*states, _dynamic(scale), rows_of(self.gradient), rate, clip, step, self.salt)
            return
        lion_int8(rows_of(self.fine), *states, _dynamic(scale), rows_of(self.gradient),
                  _dynamic(self.moved_rows), rate, clip, step, self.salt, self.arm.feedback,
                  self.arm.levels, self.arm.rounding, self.arm.momentum_by)


def _dynamic(x):
    torch._dynamo.maybe_mark_dynamic(x, 0)
    return x


def rows_of(x):
    return _dynamic(x.view(-1, x.shape[-1]))


def _threshold(values, share):
    """Per layer, the magnitude that `share` of the elements reach."""
    flat = values.abs().flatten(1)
    count = max(1, int(flat.shape[1] * share))
    return flat.topk(count, dim=1).values[:, -1][:, None, None]
