"""Chapter 6's exercises: each oracle is written without the chapter's code."""

import itertools
import math

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from genmed_core.exercises.answers import Case, call
from genmed_core.exercises.sheet import Sheet

sheet = Sheet("06_wgan")


def uniform(g: torch.Generator, low: float, high: float) -> float:
    """A random number between two."""
    return low + (high - low) * torch.rand(1, generator=g).item()


# --- 6.1 and 6.2: predictions in the middle of the chapter ----------------------------------------------------------

sheet.number("6.1", "predict", 1, "Four heaps, four holes", truth=1.75, within=0.005, mistakes=[
    (7.0, "That is the way of all four heaps together; each holds a quarter of the earth."),
    ((4 + math.sqrt(2)) / 4, "You send every heap to its nearest hole, and one hole gets two of them. A plan has to "
                             "bring to each place just what is needed."),
    ((7 + math.sqrt(2)) / 4, "That is the plan that joins them in the order of the lists. There is a cheaper one."),
    (math.hypot(1.5, 0.25), "That is the distance of the two centres of mass. No plan can be cheaper, but earth that "
                            "has to go different ways costs more.")],
    why="The heap at (0, 1) fills the hole at (0, 2) for 1; the others go right for 6 in all, whoever of the lower two "
        "takes which hole: the cheapest plan is not always the only one.")

sheet.number("6.2", "predict", 2, "What a bound on weights allows", truth=4.096, within=0.02, mistakes=[
    (0.1, "That is the bound itself. The slope is a sum of products over all paths from input to output."),
    (0.001, "So much is one path, with three weights on it. How many paths are there?"),
    (0.064, "The product c · c · c is taken along 64 paths only; each unit of the first layer feeds 64 others."),
    (6.4, "That is one layer of 64 inputs. There are three layers."),
    (40.96, "A path crosses three weights: one into the first layer, one between, and one out."),
    (262.144, "There are two layers of 64 units between input and output, not three."),
    (1.0, "That is what one would wish for. Nothing ties the bound to it.")],
    why="All weights at +c, all units switched on: 64 · 64 paths with c³ each. Half the bound gives an eighth, one "
        "layer more of 64 units multiplies by 6.4: the factor K is an accident of bound and architecture.")


# --- 6.3 -------------------------------------------------------------------------------------------------------------


def heaps(g: torch.Generator) -> Case:
    """Five heaps and five holes in the plane; the first two of each are a trap for the greedy."""
    x, y = torch.randn(5, 2, generator=g) + 6, torch.randn(5, 2, generator=g) + 6
    x[:2] = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    y[:2] = torch.tensor([[0.45, 0.0], [0.0, 1.0]])
    size = uniform(g, 0.5, 2)
    return {"x": size * x, "y": size * y}


def ways(x, y):
    """All distances, by Pythagoras."""
    return (x[:, None] - y[None]).square().sum(2).sqrt()


@sheet.function("6.3", "code", 2, "The cheapest plan", cases=heaps)
def cheapest(x, y):
    """By the Hungarian method."""
    way = ways(x, y)
    rows, columns = linear_sum_assignment(way.numpy())
    return way[rows, columns].mean()


@cheapest.mistake("The ways of all heaps are added up; each holds 1/n of the earth.")
def _(x, y):
    return len(x) * cheapest.oracle(x, y)


@cheapest.mistake("Every heap goes to its nearest hole, however many are there already. A plan fills each hole once.")
def _(x, y):
    return ways(x, y).min(1).values.mean()


GREEDY = ("You take the shortest ways first, and what is left over has to go far: greed is not optimal. A heap may "
          "give up its nearest hole for the common good. Try all plans.")


@cheapest.mistake(GREEDY)
def _(x, y):
    way, free, total = ways(x, y), list(range(len(y))), 0.0
    for i in range(len(x)):
        j = min(free, key=lambda k: way[i, k].item())
        free.remove(j)
        total += way[i, j]
    return total / len(x)


@cheapest.mistake(GREEDY)
def _(x, y):
    way, total = ways(x, y).clone(), 0.0
    for _ in range(len(x)):
        k = way.argmin().item()
        total += way.flatten()[k]
        way[k // len(y)], way[:, k % len(y)] = math.inf, math.inf
    return total / len(x)


@cheapest.mistake("That is the mean of all distances, the cost of spreading each heap over all holes: a plan, and far "
                  "from the cheapest.")
def _(x, y):
    return ways(x, y).mean()


@cheapest.mistake("That is the plan that joins them as they are numbered.")
def _(x, y):
    return ways(x, y).diagonal().mean()


@cheapest.mistake("The squares of the ways are averaged: that is Wasserstein-2, squared or not. (6.2) has the ways "
                  "themselves.")
def _(x, y):
    way = ways(x, y) ** 2
    rows, columns = linear_sum_assignment(way.numpy())
    return way[rows, columns].mean().sqrt()


# --- 6.4 -------------------------------------------------------------------------------------------------------------


def samples(g: torch.Generator) -> Case:
    """Six numbers and four, which reach further to both sides."""
    x, y = torch.randn(6, generator=g), torch.randn(4, generator=g)
    y[0], y[2] = x.min() - uniform(g, 0.5, 1), x.max() + uniform(g, 0.5, 1)
    return {"x": x, "y": y}


def functions(x, y):
    """The places in order, and both distribution functions from each place to the next."""
    t = torch.cat([x, y]).sort().values
    return t, *((sample[None] <= t[:-1, None]).double().mean(1) for sample in (x, y))


@sheet.function("6.4", "code", 2, "On a line, with unequal numbers", cases=samples)
def wasserstein_1d(x, y):
    """Every number repeated until there are equally many, then sorted."""
    n = math.lcm(len(x), len(y))
    x, y = (sample.sort().values.repeat_interleave(n // len(sample)) for sample in (x, y))
    return (x - y).abs().mean()


@wasserstein_1d.mistake("The sorted samples are cut to the shorter one's length. Then the largest numbers of the other "
                        "have nowhere to go.")
def _(x, y):
    n = min(len(x), len(y))
    return (x.sort().values[:n] - y.sort().values[:n]).abs().mean()


@wasserstein_1d.mistake("The gap between the two distribution functions is averaged over the places. It is an area: "
                        "each gap counts for the length of the step on which it stands.")
def _(x, y):
    _, P, Q = functions(x, y)
    return (P - Q).abs().mean()


@wasserstein_1d.mistake("The same, with a last place of gap 0 in the mean: it is an area, and each gap counts for the "
                        "length of its step.")
def _(x, y):
    _, P, Q = functions(x, y)
    return (P - Q).abs().sum() / (len(x) + len(y))


@wasserstein_1d.mistake("That is the distance of the two means. It lacks the absolute value under the integral: where "
                        "the functions cross, earth goes both ways.")
def _(x, y):
    return (x.mean() - y.mean()).abs()


@wasserstein_1d.mistake("You square the gap between the functions: that is Cramér's distance, and no work.")
def _(x, y):
    t, P, Q = functions(x, y)
    return ((P - Q) ** 2 * t.diff()).sum()


@wasserstein_1d.mistake("That is the mean of all distances, every grain carried everywhere: the plan is missing.")
def _(x, y):
    return (x[:, None] - y[None]).abs().mean()


@wasserstein_1d.mistake("The largest gap is the statistic of Kolmogorov and Smirnov. It does not know how far.")
def _(x, y):
    _, P, Q = functions(x, y)
    return (P - Q).abs().max()


# --- 6.5 -------------------------------------------------------------------------------------------------------------


def gaussians(g: torch.Generator) -> Case:
    """Means and standard deviations of two Gaussians."""
    return {"mu_1": uniform(g, -1, 0), "sigma_1": uniform(g, 0.3, 1), "mu_2": uniform(g, 0.3, 1),
            "sigma_2": uniform(g, 1.5, 2.5)}


@sheet.function("6.5", "derive", 2, "Two Gaussians", cases=gaussians)
def between_gaussians(mu_1, sigma_1, mu_2, sigma_2):
    """The area between the two distribution functions on a fine grid."""
    t = torch.linspace(-25, 25, 100_001, dtype=torch.float64)
    P, Q = (torch.special.ndtr((t - mu) / sigma) for mu, sigma in ((mu_1, sigma_1), (mu_2, sigma_2)))
    return torch.trapezoid((P - Q).abs(), t)


@between_gaussians.mistake("That is the distance of the means. It is all of W only for equal widths.")
def _(mu_1, sigma_1, mu_2, sigma_2):
    return abs(mu_1 - mu_2)


@between_gaussians.mistake("That is Wasserstein-2, the root of a mean square. W is the mean of an absolute value.")
def _(mu_1, sigma_1, mu_2, sigma_2):
    return math.hypot(mu_1 - mu_2, sigma_1 - sigma_2)


@between_gaussians.mistake("You add what the means cost to what the widths cost. Along part of the line one way saves "
                           "the other, so the sum is only an upper bound.")
def _(mu_1, sigma_1, mu_2, sigma_2):
    return abs(mu_1 - mu_2) + abs(sigma_1 - sigma_2) * math.sqrt(2 / math.pi)


@between_gaussians.mistake("That is for equal means. Yours does not move when one of the heaps is shifted.")
def _(mu_1, sigma_1, mu_2, sigma_2):
    return abs(sigma_1 - sigma_2) * math.sqrt(2 / math.pi)


def folded(mean, sd):
    """E |mean + sd Z| by quadrature."""
    z = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    return torch.trapezoid((mean + sd * z).abs() * torch.exp(-z**2 / 2) / math.sqrt(2 * math.pi), z)


@between_gaussians.mistake("You draw the two independently, so that the variances add. The cheapest plan is sorted: "
                           "both take the *same* quantile, and the widths are subtracted.")
def _(mu_1, sigma_1, mu_2, sigma_2):
    return folded(mu_1 - mu_2, math.hypot(sigma_1, sigma_2))


@between_gaussians.mistake("In yours the widths are added: the plan runs backwards, smallest to largest.")
def _(mu_1, sigma_1, mu_2, sigma_2):
    return folded(mu_1 - mu_2, sigma_1 + sigma_2)


# --- 6.6 -------------------------------------------------------------------------------------------------------------


def shifts(g: torch.Generator) -> Case:
    """Five shifts, some that leave an overlap and some that do not, on the marks of a ruler."""
    marks = torch.cat([torch.randint(5, 60, (2,), generator=g), torch.randint(68, 128, (3,), generator=g)])
    return {"theta": marks / 64}


@sheet.function("6.6", "derive", 2, "Bars that overlap", cases=shifts, returns=("JS", "W"))
def bars(theta):
    """On the marks of the ruler, where both are exact."""
    cells = torch.arange(4 * 64, dtype=torch.float64) / 64
    found = []
    for shift in theta.tolist():
        p, q = ((cells >= a).logical_and(cells < a + 1).double() / 64 for a in (0.0, shift))
        m = (p + q) / 2
        js = (torch.xlogy(p, p / m.clamp(min=1e-9)) + torch.xlogy(q, q / m.clamp(min=1e-9))).sum() / 2
        gap = torch.cat([torch.zeros(1), (p - q).cumsum(0)]).abs()    # of the distribution functions, at the marks
        found.append((js, torch.trapezoid(gap, dx=1 / 64)))
    return tuple(torch.stack(column) for column in zip(*found, strict=True))


@bars.mistake("Your JS goes on growing when the bars no longer touch. It cannot exceed log 2.")
def _(theta):
    return theta * math.log(2), theta


@bars.mistake("That is JS of the two lines that never overlap. These bars share a part as long as θ < 1.")
def _(theta):
    return torch.full_like(theta, math.log(2)), theta


@bars.mistake("Your JS is twice too large: each of its two KL counts one half.")
def _(theta):
    return 2 * theta.clamp(max=1) * math.log(2), theta


@bars.mistake("Your JS is the share that does not overlap, the total variation. In nats each grain of it counts log 2.")
def _(theta):
    return theta.clamp(max=1), theta


@bars.mistake("Your W stops at 1. Beyond that the bars no longer touch, and every grain still has the whole way to go.")
def _(theta):
    return theta.clamp(max=1) * math.log(2), theta.clamp(max=1)


@bars.mistake("Your W carries only what does not overlap, by the shift θ. That part must go further, across the rest.")
def _(theta):
    return theta.clamp(max=1) * math.log(2), theta * theta.clamp(max=1)


@bars.mistake("Your JS falls with the distance: that is the share that *does* overlap.")
def _(theta):
    return (1 - theta).clamp(min=0) * math.log(2), theta


# --- 6.7 -------------------------------------------------------------------------------------------------------------

sheet.number("6.7", "predict", 2, "When crossing costs nothing", truth=1 / 3, within=0.02, mistakes=[
    (0.0, "Crossing is never cheaper, but it may cost the same: take x at 0 and 1, y at 2 and 3."),
    (0.5, "There are six orders of two x and two y on a line, all equally likely. Count those in which it is free."),
    (2 / 3, "That is the share in which crossing costs *more*."),
    (1 / 6, "Both x may lie to the left of both y, or both to the right."),
    (100 / 3, "Right, in per cent; a share between 0 and 1 is asked for."),
    (1.0, "Take x at 0 and 10, y at 1 and 11: the sorted plan costs 2, the crossed one 20.")],
    why="In two of six orders, both x on one side of both y. In all others the crossed plan is dearer, never cheaper: "
        "sorting is optimal, and not always alone.")


# --- 6.8 -------------------------------------------------------------------------------------------------------------


@sheet.function("6.8", "code", 1, "Two losses without a logarithm",
                cases=lambda g: {"on_real": torch.randn(6, 1, generator=g),
                                 "on_fake": torch.randn(6, 1, generator=g) - 1},
                returns=("critic's loss", "generator's loss"))
def wgan_losses(on_real, on_fake):
    """From sums."""
    real, fake = sum(on_real.flatten().tolist()), sum(on_fake.flatten().tolist())
    return (fake - real) / len(on_fake), -fake / len(on_fake)


@wgan_losses.mistake("The critic's sign is turned: made small, yours lets reals score *low*. The gap is to be large.")
def _(on_real, on_fake):
    return on_real.mean() - on_fake.mean(), -on_fake.mean()


@wgan_losses.mistake("The generator's sign is turned: it wants the scores of its fakes to be high.")
def _(on_real, on_fake):
    return on_fake.mean() - on_real.mean(), on_fake.mean()


@wgan_losses.mistake("Both signs are turned. A loss is made small, and the game (6.9) is a maximum for the critic.")
def _(on_real, on_fake):
    return on_real.mean() - on_fake.mean(), on_fake.mean()


@wgan_losses.mistake("That is the cross-entropy of chapter 4. A Wasserstein critic's loss has no logarithm.")
def _(on_real, on_fake):
    return (F.softplus(-on_real) + F.softplus(on_fake)).mean(), F.softplus(-on_fake).mean()


@wgan_losses.mistake("That is the halved cross-entropy of chapter 4. A Wasserstein critic's loss has no logarithm.")
def _(on_real, on_fake):
    return (F.softplus(-on_real) + F.softplus(on_fake)).mean() / 2, F.softplus(-on_fake).mean()


@wgan_losses.mistake("There is a sigmoid left: that is rung 1 of the ladder, which measures total variation.")
def _(on_real, on_fake):
    s_real, s_fake = on_real.sigmoid(), on_fake.sigmoid()
    return s_fake.mean() - s_real.mean(), -s_fake.mean()


@wgan_losses.mistake("Your generator's loss holds the reals' mean score too. It moves nothing, for it does not depend "
                     "on G; leave it out.")
def _(on_real, on_fake):
    return on_fake.mean() - on_real.mean(), on_real.mean() - on_fake.mean()


@wgan_losses.mistake("The critic's loss is halved, as in chapter 4. Then it reports half of W.")
def _(on_real, on_fake):
    return (on_fake.mean() - on_real.mean()) / 2, -on_fake.mean()


# --- 6.9 -------------------------------------------------------------------------------------------------------------


def tables(g: torch.Generator) -> Case:
    """Two tables of seven outcomes, each larger in several places."""
    p, q = (0.1 + torch.rand(7, generator=g) for _ in range(2))
    p[:3] += 1
    q[3:5] += 0.7
    q[5] += 2.5                                                       # the largest difference is one of q's
    return {"p": p / p.sum(), "q": q / q.sum()}


@sheet.function("6.9", "derive", 2, "Rung 1 of the ladder", cases=tables)
def best_gap(p, q):
    """The best of all critics with scores 0 and 1; a linear function has its greatest value at a corner."""
    critics = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(p))), dtype=torch.float64)
    return (critics @ (p - q)).max()


@best_gap.mistake("Twice too much: the scores lie between 0 and 1, not between -1 and 1.")
def _(p, q):
    return (p - q).abs().sum()


@best_gap.mistake("That critic scores a single outcome 1. It may do so for every outcome that gains.")
def _(p, q):
    return (p - q).max()


@best_gap.mistake("That is the largest difference in size; the critic adds up all differences of one sign.")
def _(p, q):
    return (p - q).abs().max()


@best_gap.mistake("That is the Jensen-Shannon divergence, which the *logarithmic* loss measures.")
def _(p, q):
    m = (p + q) / 2
    return ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2


@best_gap.mistake("You take p itself as the critic. The best one is all or nothing.")
def _(p, q):
    return (p * (p - q)).sum()


@best_gap.mistake("Your critic is the best discriminator of chapter 4, p/(p + q). Without the logarithm nothing holds "
                  "the scores back from 0 and 1.")
def _(p, q):
    return (p / (p + q) * (p - q)).sum()


@best_gap.mistake("That is the part which the two share, 1 minus what is asked for.")
def _(p, q):
    return torch.minimum(p, q).sum()


# --- 6.10 ------------------------------------------------------------------------------------------------------------


def mixed_pictures(g: torch.Generator) -> Case:
    """Weights of a critic with one hidden layer, real and fake pictures, and a weight for each pair."""
    return {"first": torch.randn(12, 5, generator=g) / 2, "last": torch.randn(5, 1, generator=g),
            "real": torch.randn(6, 1, 3, 4, generator=g), "fake": torch.randn(6, 1, 3, 4, generator=g) + 1,
            "a": torch.rand(6, generator=g)}


def penalty_seen(function, case):
    """The penalty, and its gradient in the critic's first weights."""
    first = case["first"].detach().requires_grad_()

    def f(x):
        return torch.tanh(x.flatten(1) @ first.to(x.dtype)) @ case["last"].to(x.dtype)

    found = call(function, {"f": f, **{name: case[name] for name in ("real", "fake", "a")}})
    if not (torch.is_tensor(found) and found.requires_grad):
        return {"penalty": found, "gradient in f": torch.zeros_like(first)}
    slope = torch.autograd.grad(found.sum(), first, allow_unused=True)[0]
    return {"penalty": found, "gradient in f": torch.zeros_like(first) if slope is None else slope}


def slopes(f, x, create_graph=True):
    """Each picture's slope, from its own backward pass -> (B,)."""
    found = []
    for k in range(len(x)):
        one = x[k:k + 1].detach().requires_grad_()
        gradient, = torch.autograd.grad(f(one).sum(), one, create_graph=create_graph)
        found.append(gradient.square().sum().sqrt())
    return torch.stack(found)


def between(real, fake, a):
    """Points on the way from fake (a = 0) to real (a = 1)."""
    return torch.lerp(fake, real, a.view(-1, 1, 1, 1))


@sheet.function("6.10", "code", 3, "The gradient penalty", cases=mixed_pictures, observe=penalty_seen)
def gradient_penalty(f, real, fake, a):
    """One picture at a time."""
    return ((slopes(f, between(real, fake, a)) - 1) ** 2).mean()


@gradient_penalty.mistake("The penalty is right and teaches nobody: its gradient in the critic's weights is lost. The "
                          "first derivative has to stay part of the graph.")
def _(f, real, fake, a):
    return gradient_penalty.oracle(f, real, fake, a).detach()


@gradient_penalty.mistake("You take the squared slope minus 1, squared. (6.8) has the slope itself, a root.")
def _(f, real, fake, a):
    return ((slopes(f, between(real, fake, a)) ** 2 - 1) ** 2).mean()


def gradient_at(f, x):
    """The gradient of the summed scores (B, 1, H, W)."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x, create_graph=True)[0]


def over(axes):
    """The penalty with its norm over some axes of (B, 1, H, W) only."""
    def penalty(f, real, fake, a):
        return ((gradient_at(f, between(real, fake, a)).norm(dim=axes) - 1) ** 2).mean()
    return penalty


for axes in (1, 2, 3, (1, 2), (1, 3), 0):
    gradient_penalty.mistake("The norm is taken over some axes only, so every row, column or pixel is asked to have "
                             "slope 1. The slope of a picture is one number: flatten it first.")(over(axes))


@gradient_penalty.mistake("The norm is taken over the whole batch at once: each picture has a slope of its own.")
def _(f, real, fake, a):
    return (gradient_at(f, between(real, fake, a)).norm() - 1) ** 2


@gradient_penalty.mistake("The mean slope is asked to be 1. Then steep places may hide behind flat ones: take the mean "
                          "last.")
def _(f, real, fake, a):
    return (slopes(f, between(real, fake, a)).mean() - 1) ** 2


@gradient_penalty.mistake("The gradient is taken of the *mean* score, so each picture's slope is divided by the "
                          "batch's size. Take it of the sum.")
def _(f, real, fake, a):
    return ((slopes(f, between(real, fake, a)) / len(a) - 1) ** 2).mean()


@gradient_penalty.mistake("All pairs share one weight, the first. Every pair has its own place on its way.")
def _(f, real, fake, a):
    return gradient_penalty.oracle(f, real, fake, a[:1].expand_as(a))


@gradient_penalty.mistake("In (6.8) a weighs the real picture and 1 - a the drawn one. (With random weights both ways "
                          "are as good; here they are given.)")
def _(f, real, fake, a):
    return gradient_penalty.oracle(f, fake, real, a)


@gradient_penalty.mistake("Only slopes above 1 pay. That is the one-sided penalty; (6.8) has two sides.")
def _(f, real, fake, a):
    return ((slopes(f, between(real, fake, a)) - 1).clamp(min=0) ** 2).mean()


@gradient_penalty.mistake("The slope is taken at the real pictures alone. It is to be 1 on the way between the two.")
def _(f, real, fake, a):
    return ((slopes(f, real) - 1) ** 2).mean()


@gradient_penalty.mistake("The penalty is zero-centred: slopes are asked to be 0, as in chapter 4.")
def _(f, real, fake, a):
    return (slopes(f, between(real, fake, a)) ** 2).mean()


# --- 6.11 ------------------------------------------------------------------------------------------------------------


def two_points(g: torch.Generator) -> Case:
    """A distance and a weight of the penalty."""
    return {"d": uniform(g, 0.5, 4), "lam": uniform(g, 0.5, 3)}


@sheet.function("6.11", "derive", 2, "The penalty's bias", cases=two_points, returns=("slope", "gap"))
def biased(d, lam):
    """One Newton step from a slope of 0, exact for a parabola."""
    s = torch.zeros((), dtype=torch.float64, requires_grad=True)
    loss = (0 - d * s) + lam * (s - 1) ** 2
    first, = torch.autograd.grad(loss, s, create_graph=True)
    second, = torch.autograd.grad(first, s)
    best = (s - first / second).detach()
    return best, best * d


@biased.mistake("So it would be without the pull of the gap. At slope 1 the penalty is flat, and the gap still pulls.")
def _(d, lam):
    return 1.0, d


@biased.mistake("The derivative of a square has a factor 2: your slope is too far from 1 by that.")
def _(d, lam):
    return 1 + d / lam, d * (1 + d / lam)


@biased.mistake("Your slope is *below* 1. The critic wants a large gap, so it pays for being steeper.")
def _(d, lam):
    return 1 - d / (2 * lam), d * (1 - d / (2 * lam))


@biased.mistake("The slope is right. The gap is the rise over the whole distance d.")
def _(d, lam):
    return biased.oracle(d, lam)[0], biased.oracle(d, lam)[0]


@biased.mistake("The slope is right, and W = d is what the gap *should* be. It is what a critic of this slope reports.")
def _(d, lam):
    return biased.oracle(d, lam)[0], d


@biased.mistake("Your slope does not depend on the distance: the gap is d times the slope, and that is what pulls.")
def _(d, lam):
    return 1 + 1 / (2 * lam), d * (1 + 1 / (2 * lam))


@biased.mistake("The slope is right. You give the least loss; the gap is its first part, without the penalty.")
def _(d, lam):
    s = biased.oracle(d, lam)[0]
    return s, d * s - lam * (s - 1) ** 2


# --- 6.12 ------------------------------------------------------------------------------------------------------------


def weights(g: torch.Generator) -> Case:
    """Weights within the bound, large gradients of the critic's loss, a rate and the bound."""
    c = uniform(g, 0.05, 0.1)
    return {"w": c * (2 * torch.rand(9, generator=g) - 1), "gradient": 2 * torch.randn(9, generator=g),
            "rate": uniform(g, 0.03, 0.06), "c": c}


@sheet.function("6.12", "code", 1, "A clipped step", cases=weights)
def clipped_step(w, gradient, rate, c):
    """Weight by weight."""
    return torch.tensor([min(max(v - rate * d, -c), c) for v, d in zip(w.tolist(), gradient.tolist(), strict=True)])


@clipped_step.mistake("The step goes uphill: the gradient is that of a loss.")
def _(w, gradient, rate, c):
    return (w + rate * gradient).clamp(-c, c)


@clipped_step.mistake("You clip the gradient. That makes a step small, and the weights may still grow without end.")
def _(w, gradient, rate, c):
    return w - rate * gradient.clamp(-c, c)


@clipped_step.mistake("Your new weights lie outside the bound, and G meets them. The clipping comes last.")
def _(w, gradient, rate, c):
    return w.clamp(-c, c) - rate * gradient


@clipped_step.mistake("Only the upper bound is kept; the weights may fall below -c.")
def _(w, gradient, rate, c):
    return (w - rate * gradient).clamp(max=c)


@clipped_step.mistake("You shrink all weights together, as when the norm of a gradient is clipped. Here each is cut by "
                      "itself.")
def _(w, gradient, rate, c):
    moved = w - rate * gradient
    return moved * min(1.0, c / moved.abs().max().item())


# --- 6.13 ------------------------------------------------------------------------------------------------------------


def clouds(g: torch.Generator) -> Case:
    """Two clouds of unequal size in three dimensions, and a bound."""
    shift = torch.tensor([1.0, -2.5, -1.0])
    return {"x": torch.randn(9, 3, generator=g) + shift, "y": torch.randn(6, 3, generator=g),
            "c": uniform(g, 0.05, 0.5)}


@sheet.function("6.13", "derive", 1, "The simplest clipped critic", cases=clouds)
def linear_gap(x, y, c):
    """The best of all corners of the cube of weights."""
    corners = torch.tensor(list(itertools.product((-c, c), repeat=x.shape[1])), dtype=torch.float64)
    return ((x @ corners.T).mean(0) - (y @ corners.T).mean(0)).max()


@linear_gap.mistake("That is for a weight vector of *length* c. Clipping bounds each weight by itself.")
def _(x, y, c):
    return c * (x.mean(0) - y.mean(0)).norm()


@linear_gap.mistake("All your weights are +c. Where the difference of the means is negative, -c gains more.")
def _(x, y, c):
    return c * (x.mean(0) - y.mean(0)).sum()


@linear_gap.mistake("The same with a sign for the whole: each weight may choose its own.")
def _(x, y, c):
    return c * (x.mean(0) - y.mean(0)).sum().abs()


@linear_gap.mistake("Only the best coordinate is used. All may be at the bound at once.")
def _(x, y, c):
    return c * (x.mean(0) - y.mean(0)).abs().max()


@linear_gap.mistake("The bound is missing: with twice the bound the gap is twice as large.")
def _(x, y, c):
    return (x.mean(0) - y.mean(0)).abs().sum()


@linear_gap.mistake("The mean is taken over coordinates instead of their sum.")
def _(x, y, c):
    return c * (x.mean(0) - y.mean(0)).abs().mean()


@linear_gap.mistake("The points are added up instead of averaged.")
def _(x, y, c):
    return c * (x.sum(0) - y.sum(0)).abs().sum()


# --- 6.14 ------------------------------------------------------------------------------------------------------------


def batches(g: torch.Generator) -> Case:
    """Two batches of unequal size, and a width."""
    return {"x": torch.randn(5, 2, generator=g), "y": torch.randn(7, 2, generator=g) + 0.5, "s": uniform(g, 0.6, 1.5)}


def kernels(x, y, two_s2):
    """The three tables of kernel values."""
    return tuple((-(a[:, None] - b[None]).square().sum(2) / two_s2).exp() for a, b in ((x, x), (y, y), (x, y)))


@sheet.function("6.14", "code", 2, "Means of a kernel", cases=batches)
def mmd2(x, y, s):
    """Pair by pair."""
    def mean(pairs):
        values = [math.exp(-math.dist(a, b) ** 2 / (2 * s**2)) for a, b in pairs]
        return sum(values) / len(values)

    x, y = x.tolist(), y.tolist()
    return (mean(itertools.permutations(x, 2)) + mean(itertools.permutations(y, 2))
            - 2 * mean(itertools.product(x, y)))


@mmd2.mistake("Pairs of a point with itself are counted. Each is worth 1, whatever the distributions: the estimate is "
              "too large, most of all in small batches.")
def _(x, y, s):
    K, L, M = kernels(x, y, 2 * s**2)
    return K.mean() + L.mean() - 2 * M.mean()


@mmd2.mistake("The diagonal is left out, and still divided for: without it a batch of N has N(N - 1) pairs.")
def _(x, y, s):
    K, L, M = kernels(x, y, 2 * s**2)
    return (K.mean() - 1 / len(x)) + (L.mean() - 1 / len(y)) - 2 * M.mean()


@mmd2.mistake("The cross term counts once. With one instead of two, equal distributions would not give 0.")
def _(x, y, s):
    return mmd2.oracle(x, y, s) + kernels(x, y, 2 * s**2)[2].mean()


@mmd2.mistake("The half in the kernel's exponent is lost: e to the minus d²/2s².")
def _(x, y, s):
    return mmd2.oracle(x, y, s / math.sqrt(2))


@mmd2.mistake("The width is not squared in the exponent.")
def _(x, y, s):
    return mmd2.oracle(x, y, math.sqrt(s))


@mmd2.mistake("The distance is not squared in the exponent: that is another kernel, Laplace's.")
def _(x, y, s):
    def off(a):
        K = (-torch.cdist(a, a) / (2 * s**2)).exp()
        return (K.sum() - len(a)) / (len(a) * (len(a) - 1))
    return off(x) + off(y) - 2 * (-torch.cdist(x, y) / (2 * s**2)).exp().mean()


@mmd2.mistake("The root is taken, or the sign is lost. The unbiased estimate may well be below 0.")
def _(x, y, s):
    return abs(mmd2.oracle(x, y, s)) ** 0.5


# --- 6.15 ------------------------------------------------------------------------------------------------------------


def two_places(g: torch.Generator) -> Case:
    """A distance and a width."""
    return {"d": uniform(g, 0.4, 2), "s": uniform(g, 0.6, 1.6)}


def reach_by(value, d, s):
    """Value, slope, and where the slope is greatest, of a function of d, by autograd and a search."""
    at = torch.tensor(d, dtype=torch.float64, requires_grad=True)
    slope, = torch.autograd.grad(value(at), at)
    low, high = torch.tensor(1e-3, dtype=torch.float64), torch.tensor(6 * s, dtype=torch.float64)
    for _ in range(60):                                               # where the second derivative changes its sign
        middle = ((low + high) / 2).requires_grad_()
        first, = torch.autograd.grad(value(middle), middle, create_graph=True)
        rises = torch.autograd.grad(first, middle)[0] > 0
        low, high = (middle.detach(), high) if rises else (low, middle.detach())
    return value(at).detach(), slope, low


@sheet.function("6.15", "derive", 2, "A kernel's reach", cases=two_places, returns=("MMD²", "slope", "best distance"))
def reach(d, s):
    """By automatic differentiation."""
    return reach_by(lambda t: 1 + 1 - 2 * torch.exp(-0.5 * (t / s) ** 2), d, s)


@reach.mistake("The cross term counts once: at d = 0 yours is not 0.")
def _(d, s):
    value, slope, best = reach.oracle(d, s)
    return 1 + value / 2, slope / 2, best


@reach.mistake("Half of it: two terms of 1 stand against 2 k(x, y).")
def _(d, s):
    value, slope, best = reach.oracle(d, s)
    return value / 2, slope / 2, best


@reach.mistake("The slope's sign is turned: MMD grows with the distance.")
def _(d, s):
    value, slope, best = reach.oracle(d, s)
    return value, -slope, best


@reach.mistake("The 2s² of the kernel became s²: value, slope and best distance all shrink.")
def _(d, s):
    return reach_by(lambda t: 2 - 2 * torch.exp(-((t / s) ** 2)), d, s)


@reach.mistake("Value and slope are right. At d = 0 the kernel is highest, and level: there is no slope. The slope is "
               "a product, d times a bell; set *its* derivative to 0.")
def _(d, s):
    value, slope, _ = reach.oracle(d, s)
    return value, slope, 0.0


@reach.mistake("Value and slope are right. The slope's derivative holds 1 - d²/s², which is not 0 at yours.")
def _(d, s):
    value, slope, best = reach.oracle(d, s)
    return value, slope, best / math.sqrt(2)


@reach.mistake("The slope lacks the inner derivative, d/s².")
def _(d, s):
    value, _, best = reach.oracle(d, s)
    return value, 2 - value, best


# --- 6.16 ------------------------------------------------------------------------------------------------------------


def tiny_game(g: torch.Generator) -> Case:
    """Rate, weight of the penalties, bound and length."""
    return {"eta": uniform(g, 0.1, 0.25), "lam": uniform(g, 0.4, 1), "c": uniform(g, 0.4, 0.7),
            "steps": int(torch.randint(30, 50, (1,), generator=g))}


def course(critic, eta, steps, move=None):
    """Places of the fake from (theta, psi) = (1, 1/2), the critic first, then the generator."""
    state = torch.tensor([1.0, 0.5], dtype=torch.float64)
    places = [state[0]]
    for _ in range(steps):
        psi = critic(state[0], state[1])
        theta = state[0] + eta * psi if move is None else move(state[0], state[1], psi)
        state = torch.stack([theta, psi])
        places.append(theta)
    return torch.stack(places)


def critics(eta, lam, c):
    """The three ways to move psi, from the gradient of the critic's loss by autograd."""
    def down(loss, psi):
        psi = psi.clone().requires_grad_()
        return psi.detach() - eta * torch.autograd.grad(loss(psi), psi)[0]

    return (lambda theta, psi: down(lambda p: p * theta, psi).clamp(-c, c),
            lambda theta, psi: down(lambda p: p * theta + lam * (p.abs() - 1) ** 2, psi),
            lambda theta, psi: down(lambda p: p * theta + lam * p**2, psi))


@sheet.function("6.16", "investigate", 3, "The smallest Wasserstein GAN", cases=tiny_game,
                returns=("clipped", "slope 1", "slope 0"))
def smallest_wgan(eta, lam, c, steps):
    """By automatic differentiation."""
    return tuple(course(critic, eta, steps) for critic in critics(eta, lam, c))


@smallest_wgan.mistake("Both players move at once. Here the critic moves first, and G follows the new ψ.")
def _(eta, lam, c, steps):
    return tuple(course(critic, eta, steps, lambda theta, psi, new: theta + eta * psi)
                 for critic in critics(eta, lam, c))


@smallest_wgan.mistake("The generator walks the wrong way: it wants a high score ψθ.")
def _(eta, lam, c, steps):
    return tuple(course(critic, eta, steps, lambda theta, psi, new: theta - eta * new)
                 for critic in critics(eta, lam, c))


@smallest_wgan.mistake("The first critic is not clipped.")
def _(eta, lam, c, steps):
    return course(critics(eta, lam, math.inf)[0], eta, steps), *smallest_wgan.oracle(eta, lam, c, steps)[1:]


@smallest_wgan.mistake("The second critic's penalty pulls ψ to +1 only. The slope is |ψ|, and -1 is as good.")
def _(eta, lam, c, steps):
    first, _, third = smallest_wgan.oracle(eta, lam, c, steps)
    return first, course(lambda t, p: p - eta * (t + 2 * lam * (p - 1)), eta, steps), third


@smallest_wgan.mistake("The derivative of a square has a factor 2; both penalties lack it.")
def _(eta, lam, c, steps):
    first, *_ = smallest_wgan.oracle(eta, lam, c, steps)
    return first, *smallest_wgan.oracle(eta, lam / 2, c, steps)[1:]


@smallest_wgan.mistake("The penalties have the wrong sign: they are part of a loss that the critic makes small.")
def _(eta, lam, c, steps):
    first, *_ = smallest_wgan.oracle(eta, lam, c, steps)
    return first, *(course(critic, eta, steps) for critic in critics(eta, -lam, c)[1:])


@smallest_wgan.mistake("The clipped critic pays a penalty too. It has a bound, and nothing else.")
def _(eta, lam, c, steps):
    _, second, third = smallest_wgan.oracle(eta, lam, c, steps)
    first = course(lambda t, p: (p - eta * (t + 2 * lam * (p.abs() - 1) * p.sign())).clamp(-c, c), eta, steps)
    return first, second, third


# --- 6.17 ------------------------------------------------------------------------------------------------------------

sheet.choice("6.17", "predict", 1, "Reading the meter", answer="a", wrongs={
    "b": "The theorem speaks of the best critic. This one is in the middle of a game, and it may be its skill that "
         "has grown.",
    "c": "On the digits, who stopped there stopped at the wrong moment: they went on improving.",
    "d": "A gap is no more blind than its critic. Those of fresh critics on frozen drawings follow the distance."},
    why="Gap = distance as far as the critic is at its best. Hold the drawings still and train a fresh critic on each "
        "set: then a difference between gaps is a difference between drawings.")
