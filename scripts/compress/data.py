"""What T2S and flow are compressed with: pairs of phonemes and semantic tokens, in one file.

    data.py features --features DIR --tokens FILE [--pseudo DIR] --out pairs.pt     from the training of the starter voice
    data.py takes --takes DIR ... --tokens FILE --out pairs.pt                      from the training of the cloning voice
    data.py logs --text 2-name2text.txt --semantic 6-name2semantic.tsv [--bert 3-bert] [--symbols FILE] --out pairs.pt
                                                              from the logs of a GPT-SoVITS training
    data.py spoken --model FOLDER --phonemes FILE|--random N --out pairs.pt         what the model itself says of texts

The last way needs no recordings (Kim and Rush 2016: a student learns best from its teacher's own sequences); --random texts are for
rehearsals. FILE of --symbols is JSON, symbol to id; without it the English ones are known. FILE of --phonemes has a line of symbols a text.
"""
import argparse
import json
import pathlib
import random
import sys

import torch
import torch.nn.functional as F
from tqdm import tqdm

from folder import Folder
from networks import load_t2s, nets


def pair(phonemes, tokens, bert=None):
    out = {"phonemes": torch.as_tensor(phonemes, dtype=torch.int16), "tokens": torch.as_tensor(tokens, dtype=torch.int16)}
    return out if bert is None else dict(out, bert=bert.half())


def from_features(a):
    import symbols
    import t2s
    import tokenizer

    net = tokenizer.Tokenizer()
    net.load_state_dict(torch.load(a.tokens))
    net.eval()
    data = tokenizer.load_features(a.features)
    train, held = [], []
    for u, codes in zip(data, t2s.tokenize(a.tokens, data)):
        (held if tokenizer.is_held_out(u) else train).append(pair(symbols.ids_of(u["ph"]), codes))
    for path in tqdm(sorted(pathlib.Path(a.pseudo).glob("*.pt")) if a.pseudo else (), desc="pseudo", unit="file"):
        for u in torch.load(path, weights_only=False):
            with torch.no_grad():
                codes = net.nearest(net.encode(torch.from_numpy(u["mel50"].astype("float32"))[None]))[0]
            train.append(pair(symbols.ids_of(u["ph"]), codes))
    return train, held


def from_takes(a):
    """Each with the mel of another take of its speaker, "reference" [T, 100], which the flow is conditioned by."""
    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "train" / "clone"))
    import stage
    import train_flow

    takes = [t for t in stage.load_takes(a.takes) if len(t["mel50"]) > 16]
    codes, _ = train_flow.tokenize(a.tokens, takes, torch.device("cpu"))
    others = stage.Others(takes, torch.device("cpu"))(torch.arange(len(takes))).tolist()
    train, held = [], []
    for take, tokens, other in zip(takes, codes, others):
        u = dict(pair(take["ph"], tokens), reference=torch.from_numpy(takes[other]["mel"][:400]))
        (held if stage.is_held_out(take["id"]) else train).append(u)
    random.Random(0).shuffle(held)
    if not held and len(train) > 1:                                            # of a handful one, too
        held.append(train.pop())
    return train, held


def read_logs(text, semantic, ids, bert=None):
    """The two tables of a GPT-SoVITS training -> pairs of the lines that both have and whose symbols are known."""
    tokens = dict(line.rstrip("\n").split("\t")[:2] for line in semantic if "\t" in line and not line.startswith("item_name"))
    out = []
    for line in text:
        name, symbols, *_ = line.rstrip("\n").split("\t")
        symbols = symbols.split()
        if name in tokens and all(s in ids for s in symbols):
            out.append(pair([ids[s] for s in symbols], [int(t) for t in tokens[name].split()], bert(name) if bert else None))
    return out


def from_logs(a):
    import symbols

    ids = json.loads(pathlib.Path(a.symbols).read_text(encoding="utf8")) if a.symbols else symbols.IDS
    bert = (lambda name: torch.load(pathlib.Path(a.bert) / f"{name}.pt").T) if a.bert else None
    with open(a.text, encoding="utf8") as text, open(a.semantic, encoding="utf8") as semantic:
        pairs = read_logs(text, semantic, ids, bert)
    return split(pairs)


def split(pairs, share=0.03):
    random.Random(0).shuffle(pairs)
    n = max(1, round(share * len(pairs)))
    return pairs[n:], pairs[:n]


@torch.no_grad()
def speak(net, texts, top_k, temperature, longest, generator):
    """Tokens of a batch of texts; no cache, so its cost grows with the square of the length."""
    device = net.pe.device
    n = torch.tensor([len(t) for t in texts], device=device)
    ph = torch.stack([F.pad(torch.as_tensor(t), (0, int(n.max()) - len(t))) for t in texts]).to(device)
    y, ends = torch.zeros(len(texts), 0, dtype=torch.long, device=device), [None] * len(texts)
    for step in range(longest):
        logits = net(ph, n, y)[0][:, -1].float()
        if step < 11:
            logits[:, -1] = -1e9
        v, i = (logits / temperature).topk(top_k)
        t = i.gather(1, torch.multinomial(torch.softmax(v, -1).cpu(), 1, generator=generator).to(device))
        for k in (t[:, 0] == net.eos).nonzero()[:, 0].tolist():
            ends[k] = step if ends[k] is None else ends[k]
        if all(e is not None for e in ends):
            break
        y = torch.cat([y, t.clamp(max=net.eos - 1)], 1)
    return [row[:e].cpu() for row, e in zip(y, ends)]


def from_speech(a):
    import symbols

    folder = Folder(a.model)
    net, s = load_t2s(folder)
    net.to(a.device)
    sampling = {"top_k": 15, "temperature": 1.0, **folder.manifest["t2s"].get("sampling", {})}
    rng = random.Random(0)
    if a.random:
        texts = [[rng.randrange(10, min(300, s["phoneme_vocab"])) for _ in range(rng.randrange(12, 40))] for _ in range(a.random)]
    else:
        with open(a.phonemes, encoding="utf8") as f:
            texts = [symbols.ids_of(line.split("\t")[-1].split()) for line in f if line.strip()]
    texts.sort(key=len)
    pairs, generator = [], torch.Generator().manual_seed(0)
    for i in tqdm(range(0, len(texts), a.batch), desc="spoken", unit="batch"):
        group = texts[i: i + a.batch]
        longest = min(a.longest, 20 + 6 * max(map(len, group)))
        pairs += [pair(t, y) for t, y in zip(group, speak(net, group, sampling["top_k"], sampling["temperature"], longest, generator))]
    return split(pairs)


class Pairs:
    """Batches of similar length of at most `positions` phonemes and tokens, endless, in random order."""

    def __init__(self, path, device, seed=0):
        data = torch.load(path)
        self.train, self.held, self.device, self.rng = data["train"], data["held"], device, random.Random(seed)

    def batches(self, positions):
        length = lambda u: len(u["phonemes"]) + len(u["tokens"])
        while True:
            order = sorted(self.train, key=lambda u: length(u) + self.rng.uniform(0, 12))
            groups, group = [], []
            for u in order:
                if group and (len(group) + 1) * length(u) > positions:
                    groups.append(group)
                    group = []
                group.append(u)
            groups.append(group)
            self.rng.shuffle(groups)
            for g in groups:
                yield self.collate(g)

    def held_batches(self, positions, most=24):
        held = sorted(self.held[:most], key=lambda u: len(u["phonemes"]) + len(u["tokens"]))
        n = max(1, positions // max(len(u["phonemes"]) + len(u["tokens"]) for u in held))
        return [self.collate(held[i: i + n]) for i in range(0, len(held), n)]

    def collate(self, group):
        """-> dict of phonemes, n_phonemes, tokens, n_tokens, and bert where the pairs have it."""
        pad = lambda key: torch.stack([F.pad(u[key].long(), (0, max(len(v[key]) for v in group) - len(u[key]))) for u in group]).to(self.device)
        count = lambda key: torch.tensor([len(u[key]) for u in group], device=self.device)
        out = {"phonemes": pad("phonemes"), "n_phonemes": count("phonemes"), "tokens": pad("tokens"), "n_tokens": count("tokens"), "bert": None}
        if any("bert" in u for u in group):
            width = next(u["bert"].shape[1] for u in group if "bert" in u)
            bert = torch.zeros(*out["phonemes"].shape, width)
            for row, u in zip(bert, group):
                if "bert" in u:
                    row[: len(u["bert"])] = u["bert"].float()
            out["bert"] = bert.to(self.device)
        return out


def targets(b, eos):
    """Token to predict at each row of the T2S's output, [B, P + 1]; -100 beyond the end."""
    P = b["tokens"].shape[1]
    at = torch.arange(P + 1, device=b["tokens"].device)[None]
    t = F.pad(b["tokens"], (0, 1), value=eos)
    n = b["n_tokens"][:, None]
    return torch.where(at < n, t, torch.where(at == n, torch.full_like(t, eos), torch.full_like(t, -100)))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = ap.add_subparsers(dest="command", required=True)
    features = commands.add_parser("features")
    features.add_argument("--features", required=True)
    features.add_argument("--tokens", required=True)
    features.add_argument("--pseudo")
    features.set_defaults(make=from_features)
    takes = commands.add_parser("takes")
    takes.add_argument("--takes", nargs="+", required=True)
    takes.add_argument("--tokens", required=True)
    takes.set_defaults(make=from_takes)
    logs = commands.add_parser("logs")
    logs.add_argument("--text", required=True)
    logs.add_argument("--semantic", required=True)
    logs.add_argument("--bert")
    logs.add_argument("--symbols")
    logs.set_defaults(make=from_logs)
    spoken = commands.add_parser("spoken")
    spoken.add_argument("--model", required=True)
    spoken.add_argument("--phonemes")
    spoken.add_argument("--random", type=int, default=0)
    spoken.add_argument("--batch", type=int, default=8)
    spoken.add_argument("--longest", type=int, default=400, help="tokens")
    spoken.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    spoken.set_defaults(make=from_speech)
    for p in (features, takes, logs, spoken):
        p.add_argument("--threads", type=int, default=1)
        p.add_argument("--out", required=True)
    a = ap.parse_args()
    if a.command == "spoken" and not (a.phonemes or a.random):
        ap.error("give --phonemes or --random")
    torch.set_num_threads(a.threads)
    train, held = a.make(a)
    if not train or not held:
        raise SystemExit("data.py: no pairs")
    nets.save({"train": train, "held": held}, a.out)
    print(f"{a.out}: {len(train)} pairs to train with, {len(held)} held out, {sum(len(u['tokens']) for u in train) / 25 / 3600:.2f} hours")


if __name__ == "__main__":
    main()
