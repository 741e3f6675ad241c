"""models/noise.h: normal numbers that are a function of seed, stream and index."""
import math

import numpy as np
import torch

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(z):
    z = np.asarray(z, dtype=np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def gaussian(seed, stream, first, count):
    """models/noise.h: numbers first .. first + count - 1 of a stream, float32."""
    with np.errstate(over="ignore"):
        inner = int(mix((seed + GAMMA) & MASK)) ^ (((stream + 1) * GAMMA) & MASK)
        key = mix(inner)
        index = np.arange(first, first + count, dtype=np.int64).astype(np.uint64)
        pair = (index >> np.uint64(1)) * np.uint64(2)
        unit = lambda n: ((mix(key + n * np.uint64(GAMMA)) >> np.uint64(40)) + np.uint64(1)).astype(np.float32) * np.float32(2.0 ** -24)
        radius = np.sqrt(np.float32(-2) * np.log(unit(pair)))
        angle = np.float32(2 * math.pi) * unit(pair + np.uint64(1))
    return torch.from_numpy(np.where(index & np.uint64(1), radius * np.sin(angle), radius * np.cos(angle)).astype(np.float32))
