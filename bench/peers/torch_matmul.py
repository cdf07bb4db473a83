#!/usr/bin/env python3
"""Times PyTorch's bf16 matrix products (cuBLASLt) on the shapes of LLaMA-2-7B's linear layers, and a copy
within the device's memory. Random data. Prints one JSON object: medians of twenty, after warming up.

  bench/peers/torch_matmul.py [TOKENS]
"""

import json
import statistics
import sys

import torch

SHAPES = [(4096, 4096), (11008, 4096), (4096, 11008)]  # outputs, inputs
RUNS = 20


def milliseconds(work):
    for _ in range(3):
        work()
    times = []
    for _ in range(RUNS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def main():
    tokens = int(sys.argv[1]) if len(sys.argv) > 1 else 8192
    result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "tokens": tokens}
    random = lambda rows, cols: torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16)
    for outputs, inputs in SHAPES:
        x, w, dy = random(tokens, inputs), random(outputs, inputs), random(tokens, outputs)
        products = 2e-9 * tokens * outputs * inputs
        for name, work in (("forward", lambda: x @ w.T), ("input gradient", lambda: dy @ w),
                           ("weight gradient", lambda: dy.T @ x)):
            time = milliseconds(work)
            result[f"{name} {tokens}x{outputs}x{inputs}"] = {
                "ms": round(time, 4), "tflops": round(products / time, 1)}
    source = torch.empty(1 << 30, device="cuda", dtype=torch.uint8).random_()
    target = torch.empty_like(source)
    time = milliseconds(lambda: target.copy_(source))
    result["copy_gb_per_second"] = round(2e-6 * source.numel() / time, 1)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
