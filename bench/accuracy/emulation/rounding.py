"""Random bits and the quantising of operands, as functions that torch.compile fuses into one kernel.

Codes are whole numbers in [-127, 127] held in bf16, which represents them exactly, so that tensor
cores multiply them with fp32 sums.
"""

import torch

BLOCK = 128  # momentum and blocked grids, along the row


def _mix(x):
    """The finaliser of MurmurHash3 on int32 (products wrap)."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * -2048144789
    x = (x ^ ((x >> 13) & 0x7FFFF)) * -1028477387
    return x ^ ((x >> 16) & 0xFFFF)


def uniform(shape, key, bits=24):
    """[0, 1) for each element from (key, index); key is an int32 tensor on the device."""
    count = 1
    for size in shape:
        count *= size
    index = torch.arange(count, dtype=torch.int32, device=key.device).view(shape)
    word = _mix(_mix(index ^ key[0]) + key[1])
    return ((word >> (32 - bits)) & ((1 << bits) - 1)).float() * (2.0 ** -bits)


def step_key(step, salt):
    return torch.stack((_mix(step * 668265263 + salt), _mix(salt * 374761393 + step)))


def round_stochastic(x, key, bits=24):
    """sign(x) * (floor(|x|) + [r < frac(|x|)])."""
    magnitude = x.abs()
    low = magnitude.floor()
    up = (uniform(x.shape, key, bits) < magnitude - low).float()
    return torch.copysign(low + up, x)


def _scale(absmax):
    return absmax / 127.0


def _inverse(scale):
    return torch.where(scale > 0, 1.0 / scale, 0.0)


@torch.compile(dynamic=False)
def quantize_rows(x, keep):
    """x [S, T, K] to nearest with a scale a token; keep [K] is 0 at critical features, else 1."""
    x = x * keep
    scale = _scale(x.abs().amax(-1, keepdim=True))
    return (x * _inverse(scale)).round().bfloat16(), scale


@torch.compile(dynamic=False)
def second_term(x, keep, codes, scale):
    """What quantize_rows leaves of x, in 256ths of the scale."""
    rest = (x * keep * _inverse(scale) - codes.float()) * 256.0
    return rest.round().clamp(-127.0, 127.0).bfloat16()


@torch.compile(dynamic=False)
def quantize_output_gradient(dy, fold, step, salt, stochastic: bool):
    """dy [S, T, N] * fold [S, 1, N] with a scale a token."""
    value = dy * fold
    scale = _scale(value.abs().amax(-1, keepdim=True))
    value = value * _inverse(scale)
    if stochastic:
        return round_stochastic(value, step_key(step, salt), 16).bfloat16(), scale
    return value.round().bfloat16(), scale


@torch.compile(dynamic=False)
def quantize_output_gradient_transposed(dy, fold, step, salt, stochastic: bool):
    """dy [S, T, N] * fold [S, T, 1] with a scale a feature over the tokens; not transposed here."""
    value = dy * fold
    scale = _scale(value.abs().amax(1, keepdim=True))
    value = value * _inverse(scale)
    if stochastic:
        return round_stochastic(value, step_key(step, salt), 16).bfloat16(), scale
    return value.round().bfloat16(), scale


@torch.compile(dynamic=False)
def scale_rows_and_columns(products, row_scale, column_scale):
    """Products [S, T, N] of codes times a scale a token and a grid a feature."""
    return products * row_scale * column_scale


@torch.compile(dynamic=False)
def scale_into(target, products, scale):
    target.copy_(products * scale)


@torch.compile(dynamic=False)
def scale_add_into(target, products, scale):
    target.copy_(target + products * scale)


def integer_matmul(a, b):
    """Product of matrices of codes with fp32 sums, [S, M, K] x [S, K, N]."""
    if a.is_cuda:
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a.float(), b.float())


def to_blocks(x):
    """[..., K] -> [..., ceil(K / 128), 128], zeros behind."""
    columns = x.shape[-1]
    blocks = -(-columns // BLOCK)
    return torch.nn.functional.pad(x, (0, blocks * BLOCK - columns)).unflatten(-1, (blocks, BLOCK))


def from_blocks(x, columns):
    return x.flatten(-2)[..., :columns]
