"""Objectives by which a flow learns to take fewer steps. A velocity here is a function (x [B, ..], t, width) -> like x; t and width in
[0, 1] are numbers or [B]. `mask`, like x but for its last axis, tells what counts.

The student's velocity at t is the mean of the flow's over the rest of t's segment, of which there are `steps`, uniform; one Euler step
of that width then goes as far as the flow does. With one segment the student is a consistency model.
"""
import torch


def masked(error, mask):
    return (error.pow(2).mean(-1) * mask).sum() / mask.sum().clamp(min=1)


def jump(student, teacher, x, mask, steps, small, use=None):
    """Progressive distillation (Salimans and Ho 2022) on velocities: one step must get to where `small` of the teacher's do.

    The student meets the points it gets to by itself. `use` is given each step's loss, to go backward from it before the next one;
    returns the mean square of what all jumps miss.
    """
    total, far = 0.0, 1 / steps
    for i in range(steps):
        with torch.no_grad():
            y, t = x, i * far
            for k in range(small):
                y = y + far / small * teacher(y, t + k * far / small, far / small)
        v = student(x, t, far)
        loss = masked(v - (y - x) / far, mask) * far ** 2
        if use is not None:
            use(loss)
        total += loss.item()
        x = x + far * v.detach()
    return total


@torch.no_grad()
def two_points(teacher, x, steps, small):
    """One teacher step of each trajectory, begun at a random one of its points -> x, t, the point after it, that one's t, end of the segment."""
    n = steps * small
    at = torch.randint(0, n, (len(x),), device=x.device)
    wide = lambda z: z.view(-1, *[1] * (x.dim() - 1))
    before = after = x
    for k in range(int(at.max()) + 1):
        y = x + teacher(x, k / n, 1 / n) / n
        before, after = torch.where(wide(at == k), x, before), torch.where(wide(at == k), y, after)
        x = y
    end = (torch.div(at, small, rounding_mode="floor") + 1) / steps
    return before, at / n, after, (at + 1) / n, end, wide


def consistency(student, target, teacher, x, mask, steps, small):
    """Consistency distillation (Song et al. 2023; segments: Heek et al. 2024): neighbours on a path have the same end. target: an average of the student."""
    x, t, y, u, end, wide = two_points(teacher, x, steps, small)
    with torch.no_grad():
        far = y + wide(end - u) * target(y, u, end - u)                        # at the end of the segment that is y itself
    return masked(student(x, t, end - t) - (far - x) / wide(end - t), mask * end.sub(t).pow(2).view(-1, *[1] * (mask.dim() - 1)))


def mean_flow(student, teacher, x, mask, steps, small):
    """Mean flow (Geng et al. 2025, eq. 6): u = v + (end - t) du/dt, the derivative along the path as a difference over one teacher step."""
    x, t, y, u, end, wide = two_points(teacher, x, steps, small)
    v = student(x, t, end - t)
    with torch.no_grad():
        slope = (student(y, u, end - u) - v) / wide(u - t)
        want = (y - x) / wide(u - t) + wide(end - u) * slope
    return masked(v - want, mask * end.sub(t).pow(2).view(-1, *[1] * (mask.dim() - 1)))
