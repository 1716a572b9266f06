"""The works of works.cpp in PyTorch, on request: the same lines in, the same lines out as serve.cpp.
argv: the number of torch's own threads."""
import json
import math
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


def normal(*shape):
    return torch.randn(*shape)


def attention(B, T, d, causal=False):
    Q, K, V = (normal(B, T, d).requires_grad_() for _ in range(3))
    G = normal(B, T, d)
    mask = torch.ones(T, T, dtype=torch.bool).triu(1) if causal else None

    def run():
        scores = Q @ K.transpose(-2, -1) / math.sqrt(d)
        if causal:
            scores = scores.masked_fill(mask, -math.inf)
        torch.autograd.grad(torch.softmax(scores, -1) @ V, (Q, K, V), G)
    return run


def fused_attention(B, T, d, causal):
    Q, K, V = (normal(B, T, d).requires_grad_() for _ in range(3))
    G = normal(B, T, d)

    def run():
        y = F._scaled_dot_product_attention(Q, K, V, None, 0.0, False, causal)[0]
        torch.autograd.grad(y, (Q, K, V), G)
    return run


class Heads(nn.Module):
    def __init__(self, d_model, heads):
        super().__init__()
        self.heads = heads
        self.W_q, self.W_k, self.W_v, self.W_o = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, x, mask=None):
        B, T, d_model = x.shape
        Q, K, V = (W(x).view(B, T, self.heads, -1).transpose(1, 2) for W in (self.W_q, self.W_k, self.W_v))
        scores = Q @ K.transpose(-2, -1) / math.sqrt(d_model // self.heads)
        if mask is not None:
            scores = scores.masked_fill(mask, -math.inf)
        y = torch.softmax(scores, -1) @ V
        return self.W_o(y.transpose(1, 2).reshape(B, T, d_model))


def multi_head(d_model, heads, B, T, causal=False):
    module = Heads(d_model, heads)
    x, G = normal(B, T, d_model).requires_grad_(), normal(B, T, d_model)
    mask = torch.ones(T, T, dtype=torch.bool).triu(1) if causal else None
    xs = list(module.parameters()) + [x]
    return lambda: torch.autograd.grad(module(x, mask), xs, G)


def torch_multi_head(d_model, heads, B, T, causal=False):
    module = nn.MultiheadAttention(d_model, heads, batch_first=True)
    x, G = normal(B, T, d_model).requires_grad_(), normal(B, T, d_model)
    mask = torch.ones(T, T, dtype=torch.bool).triu(1) if causal else None
    xs = list(module.parameters()) + [x]
    return lambda: torch.autograd.grad(module(x, x, x, need_weights=False, attn_mask=mask)[0], xs, G)


class Block(nn.Module):
    def __init__(self, d_model, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention = Heads(d_model, heads)
        self.up, self.down = nn.Linear(d_model, 4 * d_model), nn.Linear(4 * d_model, d_model)

    def forward(self, x, mask):
        x = x + self.attention(self.norm1(x), mask)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, layers, d_model, heads, T, vocabulary):
        super().__init__()
        self.embedding, self.positions = nn.Embedding(vocabulary, d_model), nn.Embedding(T, d_model)
        self.blocks = nn.ModuleList(Block(d_model, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(d_model), nn.Linear(d_model, vocabulary, bias=False)
        self.register_buffer("mask", torch.ones(T, T, dtype=torch.bool).triu(1))

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, self.mask)
        return self.head(self.norm(x))


def gpt(layers, d_model, heads, T, B, vocabulary=65):
    model = Gpt(layers, d_model, heads, T, vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens, targets = torch.randint(vocabulary, (B, T)), torch.randint(vocabulary, (B * T,))

    def run():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(tokens).view(B * T, vocabulary), targets).backward()
        optimizer.step()
    return run


def chain(length):
    x, b = torch.tensor(1.0, requires_grad=True), torch.tensor(0.999)

    def run():
        y = x
        for _ in range(length // 2):
            y = y * b + b
        torch.autograd.grad(y, x)
    return run


WORKS = {"chain of 1000": lambda: chain(1000), "normals 1M": lambda: lambda: torch.randn(1 << 20),
         "MultiHeadAttention 64/8 (2,10,64)": lambda: multi_head(64, 8, 2, 10),
         "nn.MultiheadAttention 64/8 (2,10,64)": lambda: torch_multi_head(64, 8, 2, 10),
         "GPT step 4x128 T64 B12": lambda: gpt(4, 128, 4, 64, 12),
         "GPT step 6x384 T256 B8": lambda: gpt(6, 384, 6, 256, 8)}
for d in (16, 256, 1024):
    WORKS[f"attention (1,10,{d})"] = lambda d=d: attention(1, 10, d)
for B, T in ((16, 512), (8, 1024)):
    for causal in (False, True):
        tail = " causal" if causal else ""
        WORKS[f"attention ({B},{T},64){tail}"] = lambda B=B, T=T, c=causal: attention(B, T, 64, c)
        WORKS[f"fused attention ({B},{T},64){tail}"] = lambda B=B, T=T, c=causal: fused_attention(B, T, 64, c)
for d_model, heads, B, T in ((512, 8, 8, 256), (768, 12, 4, 512)):
    for causal in (False, True):
        name = f"MultiHeadAttention {d_model}/{heads} ({B},{T},{d_model})" + (" causal" if causal else "")
        WORKS[name] = lambda a=(d_model, heads, B, T, causal): multi_head(*a)
        WORKS["nn." + name.replace("MultiHead", "Multihead")] = lambda a=(d_model, heads, B, T, causal): torch_multi_head(*a)


def median_time(run, seconds):
    run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 100000):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def main():
    torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
    prepared = {}
    for line in sys.stdin:
        seconds, name = line.rstrip("\n").split("\t")
        if name not in WORKS:
            print(json.dumps({"error": f"no work is named {name}"}), flush=True)
            continue
        if name not in prepared:
            prepared[name] = WORKS[name]()
        print(json.dumps({"seconds": median_time(prepared[name], float(seconds))}), flush=True)


if __name__ == "__main__":
    main()
