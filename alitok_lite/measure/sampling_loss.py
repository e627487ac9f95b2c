"""The sampling loss: the Frechet distance between sampled pictures and reconstructions of unseen pictures, both from
the same decoder. What the tokenizer loses is in both, so the distance is what the AR model loses.

A Frechet distance of N pictures is too large by about a constant over N. Measured at several N, the line in 1 / N gives
the distance that infinitely many pictures would have.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .metrics import frechet_distance


def distances(a: Tensor, b: Tensor, counts: Sequence[int]) -> dict[str, float]:
    """Frechet distances of two sets of features (N, D) by the number of pictures, and for infinitely many.

    At each number the sets are cut into as many disjoint parts as they have, and the mean counts. The line in 1 / N
    gives `infinite` (its value at 0) and `slope`; numbers above N are left out.

    Shape: distances((40, 3), (40, 3), (10, 20)) -> {'10': float, '20': float, 'infinite': float, 'slope': float}
    """
    total, found = min(len(a), len(b)), {}
    for count in (count for count in counts if count <= total):
        parts = range(0, total - count + 1, count)
        found[count] = sum(frechet_distance(a[i : i + count], b[i : i + count]) for i in parts) / len(parts)
    if len(found) < 2:
        raise ValueError(f"{total} pictures are too few for a line through {tuple(counts)}")
    x = torch.tensor([1 / count for count in found], dtype=torch.float64)
    y = torch.tensor(list(found.values()), dtype=torch.float64)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    line = {"infinite": float(y.mean() - slope * x.mean()), "slope": float(slope)}
    return {str(count): value for count, value in found.items()} | line


def sampling_loss(samples: Tensor, reconstructions: Tensor) -> dict[str, float]:
    """The loss of samples, and that of a perfect AR model, from features (N, D) in the same order of classes.

    sampling_loss: the distance for infinitely many pictures. sampling_loss_floor: the same of two halves of the
    reconstructions, about 0. Empty where there are too few pictures for the line, which needs two numbers above D.

    Shape: sampling_loss((40, 3), (40, 3)) -> {'sampling_loss': float, 'sampling_loss_floor': float}
    """
    count, width = samples.shape
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))  # parts of all classes, not one each
    samples, reconstructions = samples[order], reconstructions[order]
    half = count // 2
    found = {}
    for name, one, other in (
        ("sampling_loss", samples, reconstructions),
        ("sampling_loss_floor", reconstructions[:half], reconstructions[half:]),
    ):
        total = min(len(one), len(other))
        counts = [total // part for part in (8, 4, 2, 1) if total // part > width]
        if len(counts) > 1:
            found[name] = distances(one, other, counts)["infinite"]
    return found
