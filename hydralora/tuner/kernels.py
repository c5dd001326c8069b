"""Triton kernels of the routing: its forward pass, its gradient, and both products around it where tokens are few.

``HP``, ``RP``, ``CP`` and ``JP`` are N, r, r + N and N r rounded up to powers of two, as tiles must be. Arithmetic is
float32; what torch would round to the layer's type on the way (``h``, and the gates before they are multiplied) is
rounded here too. Where A is shared, ``h`` has r columns and the logits follow.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _softmax(logits, there):
    """Softmax over the last axis of a tile ``(BLOCK, columns)``; zero where not ``there``."""
    logits = tl.where(there, logits, float("-inf"))
    shares = tl.exp(logits - tl.max(logits, 1)[:, None])
    return shares / tl.sum(shares, 1)[:, None]


@triton.jit
def _changed(shares, change, n, there, HEADS: tl.constexpr):
    """Gates ``(BLOCK, columns)`` times the first row of ``change`` ``(2, N)`` plus its second; ``n`` is the expert."""
    factor = tl.load(change + n, mask=there, other=0.0)
    return shares * factor[None, :] + tl.load(change + HEADS + n, mask=there, other=0.0)[None, :]


@triton.jit
def _tile(HEADS: tl.constexpr, RANK: tl.constexpr, SHARED: tl.constexpr, HP: tl.constexpr, RP: tl.constexpr):
    """Columns of ``A x`` ``(1, HP, RP)`` (the same for every head where A is shared) and of ``u``, and which exist."""
    n, r = tl.arange(0, HP)[None, :, None], tl.arange(0, RP)[None, None, :]
    there = (n < HEADS) & (r < RANK)
    of_u = n * RANK + r
    of_low = r + n * 0 if SHARED else of_u
    return of_low, of_u, there


@triton.jit(do_not_specialize=["tokens"])
def route(
    hidden,
    u,
    gates,
    change,
    tokens,
    HEADS: tl.constexpr,
    RANK: tl.constexpr,
    SHARED: tl.constexpr,
    KEEP: tl.constexpr,
    CHANGED: tl.constexpr,
    BLOCK: tl.constexpr,
    HP: tl.constexpr,
    RP: tl.constexpr,
):
    rows: tl.constexpr = RANK if SHARED else HEADS * RANK
    t = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # (BLOCK,)
    n = tl.arange(0, HP)
    inside, seen = t < tokens, n < HEADS
    row = hidden + t * (rows + HEADS)
    logits = tl.load(row[:, None] + rows + n[None, :], mask=inside[:, None] & seen[None, :], other=0.0)
    shares = _softmax(logits.to(tl.float32), seen[None, :])  # (BLOCK, HP)
    if CHANGED:
        shares = _changed(shares, change, n, seen, HEADS)
    if KEEP:
        place = gates + t[:, None] * HEADS + n[None, :]
        tl.store(place, shares, mask=inside[:, None] & seen[None, :])
    of_low, of_u, there = _tile(HEADS, RANK, SHARED, HP, RP)
    there = there & inside[:, None, None]
    low = tl.load(row[:, None, None] + of_low, mask=there, other=0.0).to(tl.float32)  # (BLOCK, HP, RP)
    rounded = shares.to(u.dtype.element_ty).to(tl.float32)
    product = (rounded[:, :, None] * low).to(u.dtype.element_ty)
    tl.store(u + t[:, None, None] * (HEADS * RANK) + of_u, product, mask=there)


@triton.jit
def _end_backward(
    hidden,
    back,
    grad_hidden,
    scaled,
    t,
    inside,
    scale,
    HEADS: tl.constexpr,
    RANK: tl.constexpr,
    SHARED: tl.constexpr,
    HP: tl.constexpr,
    RP: tl.constexpr,
):
    """Store the gradient of ``h``, and ``s u``, of the tokens ``t`` from ``back = s B^T dy`` ``(BLOCK, HP, RP)``."""
    rows: tl.constexpr = RANK if SHARED else HEADS * RANK
    kind = scaled.dtype.element_ty
    n, r = tl.arange(0, HP), tl.arange(0, RP)
    seen = n < HEADS
    row = hidden + t * (rows + HEADS)
    logits = tl.load(row[:, None] + rows + n[None, :], mask=inside[:, None] & seen[None, :], other=0.0)
    shares = _softmax(logits.to(tl.float32), seen[None, :])  # (BLOCK, HP)
    rounded = shares.to(kind).to(tl.float32)[:, :, None]
    of_low, of_u, there = _tile(HEADS, RANK, SHARED, HP, RP)
    there = there & inside[:, None, None]
    low = tl.load(row[:, None, None] + of_low, mask=there, other=0.0).to(tl.float32)  # (BLOCK, HP, RP)
    tl.store(scaled + t[:, None, None] * (HEADS * RANK) + of_u, (rounded * low * scale).to(kind), mask=there)
    out = grad_hidden + t * (rows + HEADS)
    if SHARED:
        total = tl.sum(rounded * back, 1)  # (BLOCK, RP)
        tl.store(out[:, None] + r[None, :], total.to(kind), mask=inside[:, None] & (r < RANK)[None, :])
    else:
        tl.store(out[:, None, None] + of_low, (rounded * back).to(kind), mask=there)
    grad_gates = tl.sum(back * low, 2)  # (BLOCK, HP)
    grad_logits = shares * (grad_gates - tl.sum(shares * grad_gates, 1)[:, None])
    tl.store(out[:, None] + rows + n[None, :], grad_logits.to(kind), mask=inside[:, None] & seen[None, :])


@triton.jit(do_not_specialize=["tokens"])
def route_backward(
    hidden,
    grad_u,
    grad_hidden,
    scaled,
    tokens,
    scale,
    HEADS: tl.constexpr,
    RANK: tl.constexpr,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
    HP: tl.constexpr,
    RP: tl.constexpr,
):
    t = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = t < tokens
    _, of_u, there = _tile(HEADS, RANK, SHARED, HP, RP)
    wide = t[:, None, None] * (HEADS * RANK) + of_u
    back = tl.load(grad_u + wide, mask=there & inside[:, None, None], other=0.0).to(tl.float32) * scale
    _end_backward(hidden, back, grad_hidden, scaled, t, inside, scale, HEADS, RANK, SHARED, HP, RP)


@triton.jit(do_not_specialize=["tokens"])
def back_and_route(
    grad,
    b,
    hidden,
    grad_hidden,
    scaled,
    tokens,
    scale,
    OUT: tl.constexpr,
    HEADS: tl.constexpr,
    RANK: tl.constexpr,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
    STRIDE: tl.constexpr,
):
    """``route_backward`` from ``dy`` ``(tokens, OUT)`` itself; N and r are powers of two."""
    kind = scaled.dtype.element_ty
    t = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    j, k = tl.arange(0, HEADS * RANK), tl.arange(0, STRIDE)
    inside = t < tokens
    total = tl.zeros((BLOCK, HEADS * RANK), tl.float32)
    for begin in range(0, OUT, STRIDE):
        o = begin + k
        there = o < OUT
        part = tl.load(grad + t[:, None] * OUT + o[None, :], mask=inside[:, None] & there[None, :], other=0.0)
        heads = tl.load(b + o[:, None] * (HEADS * RANK) + j[None, :], mask=there[:, None], other=0.0)
        total = tl.dot(part, heads, total)
    back = tl.reshape(total.to(kind).to(tl.float32) * scale, (BLOCK, HEADS, RANK))
    _end_backward(hidden, back, grad_hidden, scaled, t, inside, scale, HEADS, RANK, SHARED, HEADS, RANK)


@triton.jit(do_not_specialize=["tokens"])
def add_down(
    grad_x,
    grad_hidden,
    a,
    router,
    tokens,
    WIDTH: tl.constexpr,
    HEADS: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK: tl.constexpr,
    STRIDE: tl.constexpr,
    CP: tl.constexpr,
):
    """``dx += dh [A; W_g]`` of ``BLOCK`` tokens and ``STRIDE`` columns; one shared A."""
    t = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    column, c = tl.program_id(1) * STRIDE + tl.arange(0, STRIDE), tl.arange(0, CP)
    inside, there = (t < tokens)[:, None], (column < WIDTH)[None, :]
    low, logit = (c < RANK)[:, None], ((c >= RANK) & (c < RANK + HEADS))[:, None]
    part = tl.load(
        grad_hidden + t[:, None] * (RANK + HEADS) + c[None, :], mask=inside & (c < RANK + HEADS)[None, :], other=0.0
    )
    of_a = tl.load(a + c[:, None] * WIDTH + column[None, :], mask=low & there, other=0.0)
    of_router = tl.load(router + (c - RANK)[:, None] * WIDTH + column[None, :], mask=logit & there, other=0.0)
    place = grad_x + t[:, None] * WIDTH + column[None, :]
    before = tl.load(place, mask=inside & there, other=0.0).to(tl.float32)
    tl.store(place, tl.dot(part, of_a + of_router, before).to(grad_x.dtype.element_ty), mask=inside & there)


@triton.jit(do_not_specialize=["tokens"])
def project_and_route(
    x,
    a,
    router,
    hidden,
    u,
    gates,
    change,
    tokens,
    WIDTH: tl.constexpr,
    HEADS: tl.constexpr,
    RANK: tl.constexpr,
    KEEP: tl.constexpr,
    CHANGED: tl.constexpr,
    BLOCK: tl.constexpr,
    STRIDE: tl.constexpr,
    CP: tl.constexpr,
):
    """``h = [A x | W_g x]`` and ``u`` of ``BLOCK`` tokens by parts of ``STRIDE`` columns of ``x``; one shared A."""
    kind = u.dtype.element_ty
    t = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    c, k = tl.arange(0, CP), tl.arange(0, STRIDE)
    inside, low, logit = t < tokens, c < RANK, (c >= RANK) & (c < RANK + HEADS)
    total = tl.zeros((BLOCK, CP), tl.float32)
    for begin in range(0, WIDTH, STRIDE):
        column = begin + k
        there = column < WIDTH
        part = tl.load(x + t[:, None] * WIDTH + column[None, :], mask=inside[:, None] & there[None, :], other=0.0)
        of_a = tl.load(a + c[None, :] * WIDTH + column[:, None], mask=low[None, :] & there[:, None], other=0.0)
        of_router = tl.load(
            router + (c - RANK)[None, :] * WIDTH + column[:, None], mask=logit[None, :] & there[:, None], other=0.0
        )
        total = tl.dot(part, of_a + of_router, total)
    rounded = total.to(kind)  # (BLOCK, CP)
    kept = inside[:, None] & (c < RANK + HEADS)[None, :]
    tl.store(hidden + t[:, None] * (RANK + HEADS) + c[None, :], rounded, mask=kept)
    values = rounded.to(tl.float32)
    shares = _softmax(values, logit[None, :])
    if CHANGED:
        shares = _changed(shares, change, c - RANK, logit, HEADS)
    if KEEP:
        tl.store(gates + t[:, None] * HEADS + (c - RANK)[None, :], shares, mask=inside[:, None] & logit[None, :])
    shares = shares.to(kind).to(tl.float32)
    for n in tl.static_range(HEADS):
        gate = tl.sum(tl.where(c[None, :] == RANK + n, shares, 0.0), 1)  # (BLOCK,)
        place = u + t[:, None] * (HEADS * RANK) + n * RANK + c[None, :]
        tl.store(place, (gate[:, None] * values).to(kind), mask=inside[:, None] & low[None, :])


@triton.jit
def whole_update(
    y,
    x,
    a,
    router,
    b,
    gates,
    change,
    scale,
    OUT: tl.constexpr,
    WIDTH: tl.constexpr,
    HEADS: tl.constexpr,
    RANK: tl.constexpr,
    KEEP: tl.constexpr,
    CHANGED: tl.constexpr,
    BLOCK: tl.constexpr,
    STRIDE: tl.constexpr,
    CP: tl.constexpr,
    JP: tl.constexpr,
):
    """``y += s B u`` of one token and ``BLOCK`` outputs. Each program computes ``h`` anew, from the cache."""
    kind = y.dtype.element_ty
    t = tl.program_id(1).to(tl.int64)
    c, k = tl.arange(0, CP), tl.arange(0, STRIDE)
    low, logit = c < RANK, (c >= RANK) & (c < RANK + HEADS)
    total = tl.zeros((CP, STRIDE), tl.float32)
    for begin in tl.range(0, WIDTH, STRIDE, num_stages=3):
        column = begin + k
        there = column < WIDTH
        part = tl.load(x + t * WIDTH + column, mask=there, other=0.0)
        of_a = tl.load(a + c[:, None] * WIDTH + column[None, :], mask=low[:, None] & there[None, :], other=0.0)
        of_router = tl.load(
            router + (c - RANK)[:, None] * WIDTH + column[None, :], mask=logit[:, None] & there[None, :], other=0.0
        )
        total += (of_a + of_router).to(tl.float32) * part.to(tl.float32)[None, :]
    values = tl.sum(total, 1).to(kind).to(tl.float32)[None, :]  # (1, CP)
    shares = _softmax(values, logit[None, :])
    if CHANGED:
        shares = _changed(shares, change, c - RANK, logit, HEADS)
    if KEEP:
        place = gates + t * HEADS + (c - RANK)[None, :]
        tl.store(place, shares, mask=logit[None, :] & (tl.program_id(0) == 0))
    shares = shares.to(kind).to(tl.float32)
    j = tl.arange(0, JP)[:, None]  # column n r + i of u
    gate = tl.sum(tl.where(c[None, :] == RANK + j // RANK, shares, 0.0), 1)  # (JP,)
    u = (gate * tl.sum(tl.where(c[None, :] == j % RANK, values, 0.0), 1)).to(kind).to(tl.float32)
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.arange(0, JP)
    there = (o < OUT)[:, None] & (j < HEADS * RANK)[None, :]
    heads = tl.load(b + o[:, None].to(tl.int64) * (HEADS * RANK) + j[None, :], mask=there, other=0.0)
    added = tl.sum(heads.to(tl.float32) * u[None, :], 1) * scale  # (BLOCK,)
    place = y + t * OUT + o
    before = tl.load(place, mask=o < OUT, other=0.0).to(tl.float32)
    tl.store(place, (before + added).to(kind), mask=o < OUT)
