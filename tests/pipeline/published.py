"""The published loop of feature visualization, written again and plainly, by its description.

Source: Ghiasi, Kazemi et al. (2212.06727) and what its public code executes, read and described in our own
words: eight copies of one picture, each recoloured, offset, all rolled alike, through the whole network; the
mean of a diagonal matrix as the objective; total variation of the augmented batch; Adam with a cosine to
zero; clamp. One neuron at a time, nothing shared with pipeline/ but the random numbers, which are handed in.
"""

import torch


def total_variation(x):
    """Four directional differences, each an un-squared L2 norm a plane, averaged over batch and channels."""
    right = x[:, :, :, 1:] - x[:, :, :, :-1]
    down = x[:, :, 1:, :] - x[:, :, :-1, :]
    falling = x[:, :, 1:, 1:] - x[:, :, :-1, :-1]
    rising = x[:, :, 1:, :-1] - x[:, :, :-1, 1:]
    return sum(d.norm(p=2, dim=(2, 3)).mean() for d in (right, down, falling, rising))


def visualize(network, normalise, hidden_of, start, unit, numbers, steps=401, of=401, weight=0.0005 * 0.1):
    """The picture after `steps` of the `of` steps of the schedule.

    network(x) runs the whole model; hidden_of() gives the last forward's hidden vector of the site after its
    activation function, patch tokens only, (copies, tokens, width). start: (1, 3, h, w). numbers(step) gives
    mean, std, offset, each (copies, 3, 1, 1), and the two shifts.
    """
    image = start.clone().requires_grad_()
    adam = torch.optim.Adam([image], lr=0.1, betas=(0.5, 0.99), eps=1e-8)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, of - 1, 0.0)
    for step in range(steps):
        mean, std, offset, shifts = numbers(step)
        copies = image.repeat(len(mean), 1, 1, 1)
        augmented = torch.roll((copies - mean) / std + offset, shifts=shifts, dims=(2, 3))
        network(normalise(augmented))
        features = hidden_of().mean(dim=1)  # (copies, width)
        loss = -features[:, unit].diag().mean() + weight * total_variation(augmented)
        adam.zero_grad()
        loss.backward()
        adam.step()
        cosine.step()
        image.data = image.data.clamp(0, 1)
    return image.detach()
