"""Acoustic model of the starter voice: semantic codes + phonemes + reference -> mel (nets.AcousticModel).

    flow.py --features DIR --tokens FILE --out FILE [--again FILE] [--pseudo DIR] [--minutes M] [--resume [--same-speaker]]

Conditional flow matching (Lipman et al. 2023, OT path: x_t = (1 - t) x0 + t x1, target x1 - x0) on random crops; the reference
is a random stretch of another utterance of the same voice. A small direct mel loss on the features (a linear read-out
dropped after training) makes the encoder useful before the estimator is. With --again (pseudo.py) half of the crops get the tokens that
T2S was taught with, where they differ from the recording's own. With --pseudo the encoder, which overfits an hour of speech, is
also taught by the hours of pseudo.py, through a read-out of their 50 Hz mel. --same-speaker keeps the reference encoder as it is.
"""
import argparse
import copy
import glob
import math
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import nets
from symbols import ids_of
from t2s import tokenize
from tokenizer import Tokenizer, is_held_out, load_features

CROP = 64            # codes: 2.56 s, 240 mel frames
EDGE = 24            # mel frames at the crop's left whose context is missing: not scored
REFERENCE = 240      # mel frames


def crop(u, ids, ph, refs, rng):
    n = len(ids)
    k = rng.randrange(0, max(1, n - CROP + 1) )
    k -= k % 4                                                                 # 4 codes = 15 mel frames exactly
    m = torch.from_numpy(u["mel"].astype(np.float32))
    code, mel = ids[k: k + CROP], m[k // 4 * 15: k // 4 * 15 + CROP * 15 // 4]
    mask = torch.zeros(CROP * 15 // 4)
    mask[(EDGE if k else 0): len(mel)] = 1
    code = F.pad(code, (0, CROP - len(code)))
    mel = F.pad(mel, (0, 0, 0, CROP * 15 // 4 - len(mel)), value=-11.5)
    r = refs[rng.randrange(len(refs))]["mel"].astype(np.float32)
    s = rng.randrange(0, max(1, len(r) - REFERENCE + 1))
    r = torch.from_numpy(r[s: s + REFERENCE])
    return code, mel, mask, ph, F.pad(r, (0, 0, 0, REFERENCE - len(r)), value=-11.5)


def pseudo_crop(u, rng):
    ph, code, mel = u
    k = rng.randrange(0, max(1, len(code) - CROP + 1))
    code, mel = code[k: k + CROP], torch.from_numpy(mel[2 * k: 2 * (k + CROP)].astype(np.float32))
    mask = torch.zeros(2 * CROP)
    mask[(EDGE * 8 // 15 if k else 0): len(mel)] = 1
    return F.pad(code.long(), (0, CROP - len(code))), F.pad(mel, (0, 0, 0, 2 * CROP - len(mel))), mask, ph


def padded(ph):
    T = max(map(len, ph))
    return torch.stack([F.pad(p, (0, T - len(p))) for p in ph]), torch.tensor([len(p) for p in ph])


def average_speaker(net, data):
    """The reference encoder's output over twelve stretches of training speech, averaged: [1, gin]."""
    mels = [u["mel"].astype(np.float32)[20:260] for u in data if len(u["mel"]) > 300 and not is_held_out(u)][:12]
    with torch.no_grad():
        return net.ref_enc(nets.normalise_mel(torch.from_numpy(np.stack(mels)))).mean(0, keepdim=True)


def collate(rows):
    code, mel, mask, ph, ref = zip(*rows)
    return torch.stack(code), nets.normalise_mel(torch.stack(mel)), torch.stack(mask), *padded(ph), nets.normalise_mel(torch.stack(ref))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--features", required=True)
    ap.add_argument("--tokens", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--again", help="file of `pseudo.py again`")
    ap.add_argument("--pseudo", help="folder of `pseudo.py label`")
    ap.add_argument("--minutes", type=float, default=45)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--batch", type=int, default=12)
    ap.add_argument("--ema", type=float, default=0.998)
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--same-speaker", action="store_true")
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0), np.random.seed(0)
    rng = random.Random(0)
    data = load_features(a.features)
    ids = tokenize(a.tokens, data)
    other = ids
    if a.again:
        mel50 = torch.load(a.again, weights_only=False)
        other = tokenize(a.tokens, [dict(u, mel50=mel50.get(u["id"], u["mel50"])) for u in data])
        print(f"tokens of both kinds agree: {np.mean([(p == q).float().mean().item() for p, q in zip(ids, other)]):.3f}")
    ph = [torch.tensor(ids_of(u["ph"])) for u in data]
    index = [i for i, u in enumerate(data) if not is_held_out(u)]
    held = [i for i, u in enumerate(data) if is_held_out(u)][:24]
    refs = [data[i] for i in index if len(data[i]["mel"]) > REFERENCE]
    w = np.array([len(ids[i]) for i in index], float)
    w /= w.sum()
    net = nets.AcousticModel(nets.STARTER["acoustic"])
    tk = Tokenizer()
    tk.load_state_dict(torch.load(a.tokens))
    net.quantizer.vq.layers[0]._codebook.embed.copy_(tk.embed)
    readout, readout50 = nn.Linear(nets.STARTER["acoustic"]["feature_dim"], nets.N_MEL), nn.Linear(nets.STARTER["acoustic"]["feature_dim"], 80)
    if a.resume:
        s = torch.load(a.out)
        net.load_state_dict(s["net"]), readout.load_state_dict(s["readout"])
        if "readout50" in s:
            readout50.load_state_dict(s["readout50"])
    speaker = None
    if a.same_speaker:
        speaker = average_speaker(net, data)
        net.ref_enc.requires_grad_(False)
    tk.eval()
    pseudo = []
    for path in sorted(glob.glob(f"{a.pseudo}/*.pt")) if a.pseudo else ():
        with torch.no_grad():
            pseudo += [(torch.tensor(ids_of(u["ph"])), tk.nearest(tk.encode(torch.from_numpy(u["mel50"].astype(np.float32))[None]))[0].short(), u["mel50"])
                       for u in torch.load(path, weights_only=False)]
    if pseudo:
        wp = np.array([len(u[1]) for u in pseudo], float)
        print(f"{len(pseudo)} utterances for the encoder, {wp.sum() / 25 / 3600:.1f} hours", flush=True)
        wp /= wp.sum()
    ema = copy.deepcopy(net)
    params = [p for m in (net, readout, readout50) for p in m.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, a.lr, betas=(0.9, 0.98), weight_decay=0.01)
    hrng = random.Random(1)
    hb = collate([crop(data[i], ids[i], ph[i], refs, hrng) for i in held])
    hx0, ht = torch.randn(hb[1].shape, generator=torch.Generator().manual_seed(0)), torch.linspace(0.02, 0.98, len(held))

    def loss_of(model, b, x0, t):
        code, mel, mask, p, n_p, ref = b
        with nets.autocast():
            ge = model.ref_enc(ref) if speaker is None else speaker.expand(len(ref), -1)
            mu = model.features(code, p, n_p, ge)
            xt = (1 - t[:, None, None]) * x0 + t[:, None, None] * mel
            v = model.cfm.estimator(xt, mu, t)
            r = readout(mu)
        m = mask[..., None]
        fm = ((v.float() - (mel - x0)).pow(2) * m).sum() / m.sum() / nets.N_MEL
        direct = ((r.float() - mel).abs() * m).sum() / m.sum() / nets.N_MEL
        return fm, direct

    def pseudo_batch():
        code, mel, mask, ph = zip(*(pseudo_crop(pseudo[j], rng) for j in np.random.choice(len(pseudo), a.batch, p=wp)))
        ge = speaker
        if ge is None:
            r = refs[rng.randrange(len(refs))]["mel"].astype(np.float32)[:REFERENCE]
            ge = net.ref_enc(nets.normalise_mel(torch.from_numpy(r))[None])
        with nets.autocast():
            y = net.bridged(torch.stack(code), *padded(ph), ge.expand(a.batch, -1))
        return y, (torch.stack(mel) + 5) / 7, torch.stack(mask)

    def encoder_loss():
        y, mel, mask = pseudo_batch()
        return ((readout50(y.float()) - mel).abs() * mask[..., None]).sum() / mask.sum() / 80

    if pseudo and "readout50" not in (s if a.resume else ()):                  # fitted first, so that it teaches from the start
        with torch.no_grad():
            y, mel, mask = zip(*(pseudo_batch() for _ in range(20)))
            y, mel = (torch.cat(z).float()[torch.cat(mask) > 0] for z in (y, mel))
            best = torch.linalg.lstsq(F.pad(y, (0, 1), value=1.0), mel).solution
            readout50.weight.copy_(best[:-1].T), readout50.bias.copy_(best[-1])

    def save():
        nets.save(dict(net=ema.state_dict(), readout=readout.state_dict(), readout50=readout50.state_dict()), a.out)

    t0, step, log, last_eval = time.time(), 0, {}, time.time()
    while True:
        part = (time.time() - t0) / 60 / a.minutes
        if part >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / (60 if a.resume else 200)) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
        b = collate([crop(data[index[j]], rng.choice((ids, other))[index[j]], ph[index[j]], refs, rng) for j in np.random.choice(len(index), a.batch, p=w)])
        fm, direct = loss_of(net, b, torch.randn(b[1].shape), torch.rand(a.batch))
        encoder = encoder_loss() if pseudo else torch.zeros(())
        opt.zero_grad()
        (fm + 0.5 * direct + 0.5 * encoder).backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        step += 1
        nets.average(ema, net, a.ema, step)
        for k, v in dict(fm=fm, direct=direct, encoder=encoder).items():
            log[k] = 0.98 * log.get(k, v.item()) + 0.02 * v.item()
        if time.time() - last_eval > 60:
            last_eval = time.time()
            with torch.no_grad():
                hf, hd = loss_of(ema, hb, hx0, ht)
                code, mel, mask, p, n_p, ref = hb
                mu = ema.features(code, p, n_p, ema.ref_enc(ref) if speaker is None else speaker.expand(len(ref), -1))
                l1 = [((ema.sample(mu, hx0, k) - mel).abs() * mask[..., None]).sum() / mask.sum() / nets.N_MEL * 7 for k in (2, 4)]
            save()
            print(f"step {step} {(time.time() - t0) / 60:.1f} min " + " ".join(f"{k} {v:.4f}" for k, v in log.items())
                  + f" | held out: fm {hf:.4f} direct {hd:.4f} log-mel L1 of 2 and 4 steps {l1[0]:.3f} {l1[1]:.3f}", flush=True)
    save()


if __name__ == "__main__":
    main()
