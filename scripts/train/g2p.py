#!/usr/bin/env python3
"""Train the grapheme-to-phoneme network of src/text (see src/text/en_g2p.h for how it is run).

    scripts/train/g2p.py CMUDICT.dict --out src/text/data/g2p.safetensors --golden tests/text/data/g2p_golden.tsv

Each letter of a word emits a chunk of zero to two phonemes. The chunks come from an EM alignment of the
dictionary; the network reads the letters in both directions and emits the chunks from left to right, each
one seeing the chunk before it. 5 % of the words (by CRC-32) are held out of training and measured.
Needs PyTorch and NumPy. About ten minutes on one CPU core.
"""
import argparse
import json
import random
import re
import struct
import time
import zlib
from collections import Counter, defaultdict

import numpy as np
import torch
from torch import nn

LETTERS = "abcdefghijklmnopqrstuvwxyz"
MAX_LETTERS = 24


def read_dictionary(path):
    """-> {word: [pronunciation, ...]} of the words of two letters or more that are only letters."""
    words = defaultdict(list)
    for line in open(path, encoding="utf-8"):
        fields = line.split("#")[0].split()
        if not fields:
            continue
        word = re.sub(r"\(\d+\)$", "", fields[0])
        if re.fullmatch(r"[a-z]+", word) and 2 <= len(word) <= MAX_LETTERS:
            words[word].append(tuple(fields[1:]))
    return words


def held_out(word):
    return zlib.crc32(word.encode()) % 20 == 0


def align(pairs, iterations=8):
    """EM over letter -> chunk of 0, 1 or 2 phonemes. -> list of chunk tuples, one per letter, or None."""
    phones = sorted({p for _, pron in pairs for p in pron})
    index = {p: i for i, p in enumerate(phones)}
    n_phones = len(phones)
    n_chunks = 1 + n_phones + n_phones * n_phones
    groups = defaultdict(list)
    for k, (word, pron) in enumerate(pairs):
        if len(pron) <= 2 * len(word):
            groups[len(word), len(pron)].append(k)
    data = []
    for (n, m), ks in sorted(groups.items()):
        letters = np.array([[LETTERS.index(c) for c in pairs[k][0]] for k in ks])
        pron = np.array([[index[p] for p in pairs[k][1]] for k in ks])
        one = 1 + pron
        two = 1 + n_phones + pron[:, :-1] * n_phones + pron[:, 1:] if m > 1 else None
        data.append((n, m, ks, letters, one, two))
    prob = np.full((len(LETTERS), n_chunks), 1e-4)
    prob[:, 0] = 0.1
    prob[:, 1:1 + n_phones] = 0.8 / n_phones
    for _ in range(iterations):
        counts = np.full(prob.shape, 1e-9)
        for n, m, ks, letters, one, two in data:
            size = len(ks)
            ahead = np.zeros((n + 1, m + 1, size))
            back = np.zeros((n + 1, m + 1, size))
            ahead[0, 0] = 1
            back[n, m] = 1
            for i in range(n):
                c = letters[:, i]
                for j in range(m + 1):
                    a = ahead[i, j]
                    ahead[i + 1, j] += a * prob[c, 0]
                    if j < m:
                        ahead[i + 1, j + 1] += a * prob[c, one[:, j]]
                    if j + 1 < m:
                        ahead[i + 1, j + 2] += a * prob[c, two[:, j]]
            for i in range(n - 1, -1, -1):
                c = letters[:, i]
                for j in range(m + 1):
                    b = back[i + 1, j] * prob[c, 0]
                    if j < m:
                        b = b + back[i + 1, j + 1] * prob[c, one[:, j]]
                    if j + 1 < m:
                        b = b + back[i + 1, j + 2] * prob[c, two[:, j]]
                    back[i, j] = b
            total = np.maximum(ahead[n, m], 1e-300)
            for i in range(n):
                c = letters[:, i]
                for j in range(m + 1):
                    w = ahead[i, j] / total
                    np.add.at(counts, (c, 0), w * back[i + 1, j] * prob[c, 0])
                    if j < m:
                        np.add.at(counts, (c, one[:, j]), w * back[i + 1, j + 1] * prob[c, one[:, j]])
                    if j + 1 < m:
                        np.add.at(counts, (c, two[:, j]), w * back[i + 1, j + 2] * prob[c, two[:, j]])
        prob = counts / counts.sum(1, keepdims=True)
    result = [None] * len(pairs)
    score = np.log(np.maximum(prob, 1e-12))
    for n, m, ks, letters, one, two in data:
        size = len(ks)
        best = np.full((n + 1, m + 1, size), -1e9)
        best[0, 0] = 0
        step = np.zeros((n + 1, m + 1, size), np.int8)
        for i in range(n):
            c = letters[:, i]
            for j in range(m + 1):
                for width, chunk in ((0, 0), (1, one[:, j] if j < m else None), (2, two[:, j] if j + 1 < m else None)):
                    if chunk is None:
                        continue
                    value = best[i, j] + score[c, chunk]
                    better = value > best[i + 1, j + width]
                    best[i + 1, j + width][better] = value[better]
                    step[i + 1, j + width][better] = width
        for b, k in enumerate(ks):
            chunks = []
            j = m
            for i in range(n, 0, -1):
                width = int(step[i, j, b])
                chunks.append(pairs[k][1][j - width:j])
                j -= width
            result[k] = chunks[::-1]
    return result


class G2p(nn.Module):
    """Letters [batch, n] -> chunk logits [batch, n, chunks]."""

    def __init__(self, n_chunks, dim=48, hidden=128, decoder=192):
        super().__init__()
        self.letter = nn.Embedding(len(LETTERS), dim)
        self.chunk = nn.Embedding(n_chunks + 1, dim)  # the last row stands for "nothing before"
        self.encoder = nn.GRU(dim, hidden, bidirectional=True, batch_first=True)
        self.decoder = nn.GRU(2 * hidden + dim, decoder, batch_first=True)
        self.out = nn.Linear(decoder, n_chunks)
        self.n_chunks = n_chunks

    def forward(self, letters, chunks, drop=0.0):
        seen = torch.cat([torch.full_like(chunks[:, :1], self.n_chunks), chunks[:, :-1]], 1)
        enc = self.encoder(self.letter(letters))[0]
        if drop:
            enc = nn.functional.dropout(enc, drop)
        hidden = self.decoder(torch.cat([enc, self.chunk(seen)], -1))[0]
        if drop:
            hidden = nn.functional.dropout(hidden, drop)
        return self.out(hidden)

    @torch.no_grad()
    def greedy(self, letters):
        enc = self.encoder(self.letter(letters))[0]
        seen = torch.full((letters.shape[0],), self.n_chunks)
        state = None
        result = []
        for t in range(letters.shape[1]):
            x = torch.cat([enc[:, t], self.chunk(seen)], -1)[:, None]
            hidden, state = self.decoder(x, state)
            seen = self.out(hidden[:, 0]).argmax(-1)
            result.append(seen)
        return torch.stack(result, 1)


def distance(a, b):
    """Edits between two sequences."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        last, row[0] = row[0], i + 1
        for j, y in enumerate(b):
            last, row[j + 1] = row[j + 1], min(row[j + 1] + 1, row[j] + 1, last + (x != y))
    return row[-1]


def speak(model, words, chunks):
    """-> {word: phoneme list} by greedy decoding."""
    by_length = defaultdict(list)
    for word in words:
        by_length[len(word)].append(word)
    result = {}
    for group in by_length.values():
        for start in range(0, len(group), 256):
            part = group[start:start + 256]
            letters = torch.tensor([[LETTERS.index(c) for c in w] for w in part])
            for word, ids in zip(part, model.greedy(letters).tolist()):
                result[word] = [p for i in ids for p in chunks[i]]
    return result


def measure(model, test, chunks):
    spoken = speak(model, list(test), chunks)
    word_errors = phone_errors = phones = flat_errors = 0
    for word, prons in test.items():
        got = spoken[word]
        best = min(prons, key=lambda p: distance(got, p))
        errors = distance(got, best)
        word_errors += errors > 0
        phone_errors += errors
        phones += len(best)
        plain = [p.rstrip("012") for p in got]
        flat_errors += all(plain != [p.rstrip("012") for p in pron] for pron in prons)
    return dict(words=len(test), word_error=word_errors / len(test), phoneme_error=phone_errors / phones,
                word_error_without_stress=flat_errors / len(test))


def save(path, tensors, metadata):
    header, blobs, offset = {"__metadata__": metadata}, [], 0
    for name, tensor in tensors.items():
        raw = tensor.detach().to(torch.float16).contiguous().numpy().tobytes()
        header[name] = dict(dtype="F16", shape=list(tensor.shape), data_offsets=[offset, offset + len(raw)])
        blobs.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dictionary")
    parser.add_argument("--out", required=True)
    parser.add_argument("--golden", help="write 200 held-out words with the network's answer")
    parser.add_argument("--epochs", type=float, default=9)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    random.seed(args.seed)

    words = read_dictionary(args.dictionary)
    pairs = [(w, p) for w, prons in words.items() for p in prons[:1]]
    train_pairs = [x for x in pairs if not held_out(x[0])]
    start = time.process_time()
    aligned = align(train_pairs)
    counts = Counter(c for chunks in aligned if chunks for c in chunks)
    chunks = [()] + sorted(c for c, k in counts.items() if c and k >= 8)
    index = {c: i for i, c in enumerate(chunks)}
    train = defaultdict(list)
    for (word, _), parts in zip(train_pairs, aligned):
        if parts and all(c in index for c in parts):
            train[len(word)].append(([LETTERS.index(c) for c in word], [index[c] for c in parts]))
    n_train = sum(map(len, train.values()))
    print(f"aligned in {time.process_time() - start:.0f} s: {n_train} words, {len(chunks)} chunks", flush=True)
    test = {w: p for w, p in words.items() if held_out(w)}

    model = G2p(len(chunks))
    print("parameters", sum(p.numel() for p in model.parameters()), flush=True)
    tensors = {n: (torch.tensor([a for a, _ in rows]), torch.tensor([b for _, b in rows])) for n, rows in train.items()}
    total = int(args.epochs * n_train / args.batch)
    adam = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98), weight_decay=1e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, 4e-3, total_steps=total + 1, pct_start=0.15)
    step = 0
    start = time.process_time()
    while step < total:
        batches = []
        for n, (letters, _) in tensors.items():
            order = torch.randperm(len(letters))
            batches += [(n, part) for part in order.split(args.batch)]
        random.shuffle(batches)
        losses = []
        for n, part in batches:
            if step >= total:
                break
            letters, target = tensors[n][0][part], tensors[n][1][part]
            logits = model(letters, target, drop=0.15)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
            adam.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            rate.step()
            losses.append(loss.item())
            step += 1
            if step % 100 == 0:
                print(f"step {step}/{total} loss {np.mean(losses[-100:]):.4f} cpu {time.process_time() - start:.0f} s", flush=True)

    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.half().float())
    figures = measure(model, test, chunks)
    print(json.dumps(figures), flush=True)
    metadata = dict(chunks=",".join(" ".join(c) for c in chunks), letters=LETTERS, max_letters=str(MAX_LETTERS),
                    held_out=json.dumps(figures))
    save(args.out, dict(model.named_parameters()), metadata)
    if args.golden:
        sample = sorted(random.Random(7).sample(sorted(test), 200))
        spoken = speak(model, sample, chunks)
        with open(args.golden, "w", encoding="utf-8") as f:
            for word in sample:
                f.write(f"{word}\t{' '.join(spoken[word])}\n")


if __name__ == "__main__":
    main()
