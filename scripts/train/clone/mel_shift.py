"""From the mean spectrum of what the flow makes of a speaker to that of the recording: models/mel_shift.h, for the voice that is exported."""
import torch

import nets

RANGE, MOST, LEAST_FRAMES = 4.0, 1.0, 25


def between(recorded, made):
    """Log mels [frames, bands] of the same words -> [bands], what has to be added to the second."""
    level = torch.logsumexp(2 * recorded, 1) / 2
    loud = level > level.max() - RANGE
    if loud.sum() < LEAST_FRAMES:
        raise ValueError(f"{int(loud.sum())} frames are loud, wanted {LEAST_FRAMES}")
    have = made[loud]
    shift = (recorded[loud].mean(0) - have.mean(0)).clamp(-MOST, MOST)
    return shift - (torch.logsumexp(2 * (have + shift), (0, 1)) - torch.logsumexp(2 * have, (0, 1))) / 2        # as loud as it was


@torch.no_grad()
def of_takes(net, reference, takes, codes, steps, temperature, postfilter=0.0):
    """For a voice whose reference is one take, from some takes of its speaker; codes: [N] of each. net: nets.AcousticModel in eval mode; postfilter: depth."""
    style = net.ref_enc(nets.normalise_mel(torch.from_numpy(reference["mel"].astype("float32"))[None]))
    recorded, made = [], []
    for take, code in zip(takes, codes):
        mel = torch.from_numpy(take["mel"].astype("float32"))
        ph = torch.from_numpy(take["ph"].astype("int64"))[None]
        mu = net.features(torch.from_numpy(code.astype("int64"))[None], ph, torch.tensor([ph.shape[1]]), style)
        noise = torch.randn(1, mu.shape[1], nets.N_MEL, generator=torch.Generator().manual_seed(0)) * temperature
        own = nets.mel_postfilter(nets.denormalise_mel(net.sample(mu, noise, steps))[0], postfilter)
        n = min(len(mel), len(own))
        recorded.append(mel[:n])
        made.append(own[:n])
    return between(torch.cat(recorded), torch.cat(made))
