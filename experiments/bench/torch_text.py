"""`surgeon train text` in PyTorch: the same model, text, batches of the same kind, optimizer and schedule. Prints one JSON
line: held-out loss, and the seconds that the steps took.   argv: threads, text file, config.json of our run"""
import json
import math
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

from torch_works import Gpt

torch.set_num_threads(int(sys.argv[1]))
with open(sys.argv[2], encoding="utf-8") as file:
    text = file.read()
with open(sys.argv[3]) as file:
    options = json.load(file)
options = options.get("options", options)


def knob(name):
    value = options.get(name, options.get(name.replace("-", "_")))
    return value["value"] if isinstance(value, dict) else value


T, batch, steps = int(knob("tokens")), int(knob("batch")), int(knob("steps"))
letters = {c: i for i, c in enumerate(sorted(set(text)))}
symbols = torch.tensor([letters[c] for c in text])
cut = len(symbols) - max(len(symbols) // 10, T + 1)
torch.manual_seed(int(knob("seed")))
layers, d_model = int(knob("layers")), int(knob("d-model"))
model = Gpt(layers, d_model, int(knob("heads")), T, len(letters))
for name, p in model.named_parameters():   # as GPT-2 starts
    if p.dim() == 2:
        joins = name.endswith("W_o.weight") or name.endswith("down.weight")
        nn.init.normal_(p, 0.0, 0.02 / math.sqrt(2 * layers) if joins else 0.02)
    elif name.endswith("bias"):
        nn.init.zeros_(p)
model.head.weight = model.embedding.weight   # tied
matrices = [p for p in model.parameters() if p.dim() > 1]
vectors = [p for p in model.parameters() if p.dim() <= 1]
lr = float(knob("lr"))
optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": float(knob("weight-decay"))},
                               {"params": vectors, "weight_decay": 0.0}], lr=lr)
warmup = max(int(knob("warmup")), 1)


def draw(begin, end, n):
    starts = torch.randint(begin, end - T, (n,))
    windows = torch.stack([symbols[s:s + T + 1] for s in starts])
    return windows[:, :-1], windows[:, 1:]


def loss_of(tokens, targets):
    return F.cross_entropy(model(tokens).reshape(-1, len(letters)), targets.reshape(-1))


start = time.perf_counter()
for step in range(steps):
    for group in optimizer.param_groups:
        group["lr"] = lr * (0.01 + 0.99 * min(step, warmup) / warmup)
    optimizer.zero_grad(set_to_none=True)
    loss_of(*draw(0, cut, batch)).backward()
    nn.utils.clip_grad_norm_(model.parameters(), float(knob("clip")))
    optimizer.step()
seconds = time.perf_counter() - start
with torch.no_grad():
    held_out = sum(loss_of(*draw(cut, len(symbols), 64)).item() for _ in range(16)) / 16
print(json.dumps({"loss": held_out, "seconds": seconds}))
