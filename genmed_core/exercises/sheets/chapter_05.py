"""Chapter 5's exercises: each oracle is written without the chapter's code."""

import itertools
import math

import torch
from torch.distributions import Bernoulli, Categorical, kl_divergence

from genmed_core.exercises.answers import Case, call
from genmed_core.exercises.sheet import Sheet

sheet = Sheet("05_cgan")


def normal(g: torch.Generator, *size: int) -> torch.Tensor:
    """Standard Gaussian numbers from a generator."""
    return torch.randn(*size, generator=g)


def between(g: torch.Generator, low: float, high: float) -> float:
    """A number, evenly from low to high."""
    return low + (high - low) * float(torch.rand((), generator=g))


def two_sets_of_labels(g: torch.Generator, n: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels of real pictures and those asked for, another one in every place."""
    y = (torch.arange(n) % classes)[torch.randperm(n, generator=g)]
    return y, (y + 1 + int(torch.randint(classes - 1, (), generator=g))) % classes


def shares(g: torch.Generator, *size: int) -> torch.Tensor:
    """Positive numbers that add up to one, none of them tiny."""
    made = torch.rand(*size, generator=g) + 0.15
    return made / made.sum()


def nll(scores, labels):
    """Mean negative log-probability of labels under a softmax of scores (B, K)."""
    return -Categorical(logits=scores).log_prob(labels).mean()


def called(score, real):
    """Mean negative log-probability of calling scores (B,) real, or fake."""
    return -Bernoulli(logits=score).log_prob(torch.full_like(score, float(real))).mean()


# --- 5.1 to 5.3, in the middle of the chapter ------------------------------------------------


sheet.number("5.1", "predict", 1, "A loss that means a perfect generator", truth=math.log(2), within=0.02, why=(
    "At best D gives the right digit one half and 'fake' the other half, real picture or not: log 2 for each term, and "
    "half of both. A loss below it says that D still knows fakes."), mistakes=[
    (math.log(11), "That is the loss of guessing among eleven. The best D does better: which of the ten digits it is, "
                   "the picture shows."),
    (2 * math.log(2), "Two terms of log 2 each; but (5.1) has a half in front of both."),
    (math.log(2) / 2, "That is one of the two terms. The other is as large."),
    (0.0, "For that D would have to know real from fake. The generator is perfect: the two look alike."),
    (math.log(10), "That is guessing among ten digits. Which one it is can be seen; what cannot be seen is whether it "
                   "is real."),
])


sheet.choice("5.2", "predict", 1, "The same loss in better networks", answer="c", why=(
    "The class term is best satisfied by the clearest picture of each digit, and nothing in the loss asks for more "
    "than one of them."), wrongs={
    "a": "Obedience is just what this loss pays for, at full weight: -log q(y | x) is half of what G hears.",
    "b": "Better networks help, but they do what the loss asks. Which term asks for variety within a digit?",
    "d": "Digits go missing where G chooses what to draw. Here each is asked for as often as it occurs, and G is "
         "charged for each that is not read.",
})


sheet.choice("5.3", "predict", 1, "Who marks the drawings", answer="b", why=(
    "Its classifier was trained on the fakes, with the label that was asked for as the truth: so the two players could "
    "agree on marks that nobody else reads."), wrongs={
    "a": "If all readers had learned from real digits alone, they would agree. On what else has AC-GAN's own "
         "classifier been trained, and with which labels?",
    "c": "Seeing fakes does not make it strict: it is told that each of them *is* what was asked for, and so learns to "
         "read them, whatever they look like.",
    "d": "Its own classifier is half of the game: D and G both lower the same class term on fakes. That term will not "
         "stay high.",
})


# --- 5.4 -------------------------------------------------------------------------------------


def eleven_scores(g: torch.Generator) -> Case:
    """Eleven scores of real and of generated pictures, whose labels differ everywhere."""
    y, asked = two_sets_of_labels(g, 7, 10)
    return {"on_real": 2 * normal(g, 7, 11), "y": y, "on_fake": 2 * normal(g, 7, 11), "asked": asked}


@sheet.function("5.4", "code", 1, "Eleven classes", cases=eleven_scores, returns=("loss of D", "loss of G"))
def eleven_losses(on_real, y, on_fake, asked):
    """(5.1) by torch.distributions."""
    fake = torch.full_like(asked, 10)
    return (nll(on_real, y) + nll(on_fake, fake)) / 2, nll(on_fake, asked)


@eleven_losses.mistake("The two terms of D's loss are added; (5.1) has a half in front of each.")
def _(on_real, y, on_fake, asked):
    on_D, on_G = eleven_losses.oracle(on_real, y, on_fake, asked)
    return 2 * on_D, on_G


@eleven_losses.mistake("D is told that a fake is the digit that was asked for. In this form all fakes belong to the "
                       "eleventh class; it is G that wants them read as digits.")
def _(on_real, y, on_fake, asked):
    return (nll(on_real, y) + nll(on_fake, asked)) / 2, nll(on_fake, asked)


@eleven_losses.mistake("G is paid for any digit, so long as it is not called fake. It was asked for one: it wants its "
                       "drawing in the class `asked`.")
def _(on_real, y, on_fake, asked):
    return eleven_losses.oracle(on_real, y, on_fake, asked)[0], -torch.log1p(-on_fake.softmax(1)[:, 10]).mean()


@eleven_losses.mistake("G's drawings are judged under the labels of the *real* pictures. The two batches have nothing "
                       "to do with each other: keep the fakes with the labels that they were drawn for.")
def _(on_real, y, on_fake, asked):
    return eleven_losses.oracle(on_real, y, on_fake, asked)[0], nll(on_fake, y)


@eleven_losses.mistake("G's loss is D's term with the sign turned: the old minimax game, in which G asks only not to "
                       "be called fake. Here it asks for a class.")
def _(on_real, y, on_fake, asked):
    return eleven_losses.oracle(on_real, y, on_fake, asked)[0], -nll(on_fake, torch.full_like(asked, 10))


@eleven_losses.mistake("Fakes are put into class 0, and that is a digit. Classes are counted from 0, so that 'fake' is "
                       "the last, with the number K = 10.")
def _(on_real, y, on_fake, asked):
    return (nll(on_real, y) + nll(on_fake, 0 * asked)) / 2, nll(on_fake, asked)


# --- 5.5 -------------------------------------------------------------------------------------


@sheet.function("5.5", "code", 1, "Taking the loss apart", cases=lambda g: {"scores": 2 * normal(g, 6, 11)},
                returns=("r", "log q"))
def apart(scores):
    """From the eleven probabilities: the log-odds of not being fake, and what is left among the digits."""
    p = scores.softmax(1)
    real = p[:, :10].sum(1)
    return torch.log(real / p[:, 10]), torch.log(p[:, :10] / real[:, None])


@apart.mistake("'Fake' is among the scores that are put together for 'real'. Only the ten digits belong there: r is "
               "the log-odds of two things that exclude each other.")
def _(scores):
    return scores.logsumexp(1) - scores[:, 10], apart.oracle(scores)[1]


@apart.mistake("r compares the best digit alone with 'fake'. A picture that may be a 4 or a 9 is real either way: the "
               "probabilities of all ten add up.")
def _(scores):
    return scores[:, :10].max(1).values - scores[:, 10], apart.oracle(scores)[1]


@apart.mistake("r's sign is turned: it is to be large for what looks real.")
def _(scores):
    r, log_q = apart.oracle(scores)
    return -r, log_q


@apart.mistake("Your q still shares its probability with 'fake'. It is the classifier *given* that the picture is "
               "real: normalise over the ten.")
def _(scores):
    return apart.oracle(scores)[0], scores.log_softmax(1)[:, :10]


@apart.mistake("The second value is q itself; its logarithm is asked for, which is safer to compute.")
def _(scores):
    r, log_q = apart.oracle(scores)
    return r, log_q.exp()


@apart.mistake("The *scores* are added up for 'real'. They are logarithms: what adds up is their exponentials.")
def _(scores):
    return scores[:, :10].sum(1) - scores[:, 10], apart.oracle(scores)[1]


# --- 5.6 -------------------------------------------------------------------------------------


def densities(g: torch.Generator) -> Case:
    """p_r(x, y) on five points with three classes, and p_g(x)."""
    return {"p_r": shares(g, 5, 3), "p_g": shares(g, 5)}


@sheet.function("5.6", "derive", 2, "The best discriminator of eleven classes", cases=densities,
                returns=("D", "r", "q"))
def best_discriminator(p_r, p_g):
    """Descend on (5.1) over a table of scores, and read D, r and q off what is found."""
    weights = torch.cat([p_r, p_g[:, None]], 1)
    total = weights.sum(1, keepdim=True)
    scores = torch.zeros_like(weights)
    for _ in range(120):
        scores = scores - 2 * (scores.softmax(1) - weights / total)  # a cross-entropy's gradient at each x
    found = scores.softmax(1)
    return found, *apart_of(found)


def apart_of(D):
    """r and q of a table of probabilities whose last column is 'fake'."""
    return torch.log(D[:, :-1].sum(1) / D[:, -1]), D[:, :-1] / D[:, :-1].sum(1, keepdim=True)


def by_shares(p_r, p_g):
    """D in proportion to what weighs on each class."""
    weights = torch.cat([p_r, p_g[:, None]], 1)
    return weights / weights.sum(1, keepdim=True)


@best_discriminator.mistake("D and r are right. Your q is the joint density; q is conditional: at each x it adds up to "
                            "one.")
def _(p_r, p_g):
    D = by_shares(p_r, p_g)
    return D, apart_of(D)[0], p_r


@best_discriminator.mistake("D is right for digits and normalised among them alone, so that nothing is left for "
                            "'fake': the denominator has p_g(x) in it.")
def _(p_r, p_g):
    D = torch.cat([p_r / p_r.sum(1, keepdim=True), (p_g / (p_r.sum(1) + p_g))[:, None]], 1)
    return D, torch.log(p_r.sum(1) / p_g), apart_of(D)[1]


@best_discriminator.mistake("D and q are right. r is the *logarithm* of the ratio: a score, in log-odds.")
def _(p_r, p_g):
    D = by_shares(p_r, p_g)
    return D, apart_of(D)[0].exp(), apart_of(D)[1]


@best_discriminator.mistake("D and q are right. r's sign is turned: it is large where reals are frequent.")
def _(p_r, p_g):
    D = by_shares(p_r, p_g)
    return D, -apart_of(D)[0], apart_of(D)[1]


@best_discriminator.mistake("At each x your generated pictures weigh as much as all three classes together would if "
                            "each counted as one. In (5.1) p_r(x, k) stands against p_g(x), with no K in it.")
def _(p_r, p_g):
    D = by_shares(p_r, p_r.shape[1] * p_g)
    return D, *apart_of(D)


@best_discriminator.mistake("The columns are normalised over x. The softmax shares out a probability of one among the "
                            "classes, at each x anew.")
def _(p_r, p_g):
    weights = torch.cat([p_r, p_g[:, None]], 1)
    D = weights / weights.sum(0)
    return D, *apart_of(D)


# --- 5.7 -------------------------------------------------------------------------------------


class Judge:
    """A discriminator of pairs with weights that learn: x (B, 5), y (B,) -> scores (B,)."""

    __name__ = "D"

    def __init__(self, g: torch.Generator) -> None:
        self.weight = normal(g, 4, 5).double().requires_grad_()

    def __call__(self, x, y):
        return (x * self.weight.to(x.dtype)[y]).sum(1)


def pairs(g: torch.Generator) -> Case:
    """A judge, real pairs, fakes with what was asked for, and wrong labels for the reals."""
    y, asked = two_sets_of_labels(g, 6, 4)
    wrong = torch.where((y + 1) % 4 == asked, (y + 2) % 4, (y + 1) % 4)
    return {"D": Judge(g), "x": normal(g, 6, 5), "y": y, "fake": normal(g, 6, 5), "asked": asked, "wrong": wrong}


def loss_and_gradients(function, case):
    """The loss, and what its backward pass would bring to the fakes and to D."""
    fake = case["fake"].clone().requires_grad_()
    with torch.enable_grad():
        loss = call(function, case | {"fake": fake})
    seen = {"loss": loss, "gradient in the fakes": torch.zeros_like(fake), "gradient in D": torch.zeros(4, 5)}
    if torch.is_tensor(loss) and loss.requires_grad:
        on_fake, on_D = torch.autograd.grad(loss.sum(), (fake, case["D"].weight), allow_unused=True)
        seen |= {name: found for name, found in (("gradient in the fakes", on_fake), ("gradient in D", on_D))
                 if found is not None}
    return seen


@sheet.function("5.7", "code", 2, "Judge the pair", cases=pairs, observe=loss_and_gradients)
def pair_loss(D, x, y, fake, asked, wrong):
    """Real pairs called real; fakes, and reals under a wrong label, called fake, a half each."""
    return called(D(x, y), True) + (called(D(fake.detach(), asked), False) + called(D(x, wrong), False)) / 2


@pair_loss.mistake("The loss is right, and its gradient flows on into the fakes, so that D's step runs backwards "
                   "through the generator too: for nothing at best. Detach them.")
def _(D, x, y, fake, asked, wrong):
    return called(D(x, y), True) + (called(D(fake, asked), False) + called(D(x, wrong), False)) / 2


@pair_loss.mistake("The loss is right as a number, but it has lost its graph: D gets no gradient. Detach the fakes, "
                   "and nothing else.")
def _(D, x, y, fake, asked, wrong):
    return pair_loss.oracle(D, x, y, fake, asked, wrong).detach()


@pair_loss.mistake("The fakes are judged under the labels of the real pictures. Then D learns to spot fakes by their "
                   "wrong labels, and any drawing that fits its label passes, however poor.")
def _(D, x, y, fake, asked, wrong):
    return pair_loss.oracle(D, x, y, fake, y, wrong)


@pair_loss.mistake("Real pictures under a wrong label are called real here. The picture is; the *pair* is not, and it "
                   "is the pair that D judges.")
def _(D, x, y, fake, asked, wrong):
    return called(D(x, y), True) + (called(D(fake.detach(), asked), False) + called(D(x, wrong), True)) / 2


@pair_loss.mistake("The two kinds of bad pairs have no half each: D hears 'fake' twice as often as 'real', and its "
                   "best score is shifted.")
def _(D, x, y, fake, asked, wrong):
    return called(D(x, y), True) + called(D(fake.detach(), asked), False) + called(D(x, wrong), False)


@pair_loss.mistake("The wrong labels are shown with the fakes. Those are called fake anyway: only a *real* picture can "
                   "teach D that a label has to fit.")
def _(D, x, y, fake, asked, wrong):
    return called(D(x, y), True) + (called(D(fake.detach(), asked), False) + called(D(fake.detach(), wrong), False)) / 2


@pair_loss.mistake("The real pictures under wrong labels are missing: this is the plain loss of pairs.")
def _(D, x, y, fake, asked, wrong):
    return called(D(x, y), True) + called(D(fake.detach(), asked), False)


# --- 5.8 -------------------------------------------------------------------------------------


def scores_and_classes(g: torch.Generator) -> Case:
    """Scores of "real" and class scores for both kinds of pictures."""
    y, asked = two_sets_of_labels(g, 6, 5)
    return {"real": 2 * normal(g, 6), "real_classes": 1.5 * normal(g, 6, 5), "y": y, "fake": 2 * normal(g, 6),
            "fake_classes": 1.5 * normal(g, 6, 5), "asked": asked, "weight": between(g, 0.2, 0.8)}


def auxiliary(real, real_classes, y, fake, fake_classes, asked, on_D, on_G):
    """Both losses with class terms that are given."""
    return called(real, True) + called(fake, False) + on_D, called(fake, True) + on_G


@sheet.function("5.8", "code", 2, "The auxiliary classifier", cases=scores_and_classes,
                returns=("loss of D", "loss of G"))
def auxiliary_losses(real, real_classes, y, fake, fake_classes, asked, weight):
    """The class term is the mean over real and generated pictures together."""
    both = nll(torch.cat([real_classes, fake_classes]), torch.cat([y, asked]))
    return auxiliary(real, real_classes, y, fake, fake_classes, asked, weight * both, weight * nll(fake_classes, asked))


@auxiliary_losses.mistake("The classifier of D is trained on real pictures alone. That is what the eleven classes do; "
                          "AC-GAN's is trained on the fakes as well, and told that they are what was asked for.")
def _(*case):
    real, real_classes, y, fake, fake_classes, asked, weight = case
    return auxiliary(*case[:6], weight * nll(real_classes, y), weight * nll(fake_classes, asked))


@auxiliary_losses.mistake("In D's loss the class terms of reals and of fakes are added. It is a mean over all "
                          "pictures, so that each half counts half.")
def _(*case):
    real, real_classes, y, fake, fake_classes, asked, weight = case
    return auxiliary(*case[:6], weight * (nll(real_classes, y) + nll(fake_classes, asked)),
                     weight * nll(fake_classes, asked))


@auxiliary_losses.mistake("The fakes are classified under the labels of the real pictures: G would be taught to draw "
                          "something that it was not asked for.")
def _(*case):
    real, real_classes, y, fake, fake_classes, asked, weight = case
    return auxiliary_losses.oracle(real, real_classes, y, fake, fake_classes, y, weight)


@auxiliary_losses.mistake("G's class term has the wrong sign: G would avoid the digit it was asked for. Over the class "
                          "the two players do *not* disagree, and that is the trouble with this form.")
def _(*case):
    real, real_classes, y, fake, fake_classes, asked, weight = case
    return auxiliary_losses.oracle(*case)[0], called(fake, True) - weight * nll(fake_classes, asked)


@auxiliary_losses.mistake("The weight of the class term is forgotten.")
def _(*case):
    return auxiliary_losses.oracle(*case[:6], 1.0)


@auxiliary_losses.mistake("G is paid for being called *fake*, or with the old minimax loss. As in chapter 4 it wants "
                          "its drawings called real.")
def _(*case):
    real, real_classes, y, fake, fake_classes, asked, weight = case
    return auxiliary_losses.oracle(*case)[0], -called(fake, False) + weight * nll(fake_classes, asked)


# --- 5.9 -------------------------------------------------------------------------------------


@sheet.function("5.9", "code", 2, "Projection", cases=lambda g: {"W": normal(g, 6, 4) + 1}, returns=("v", "e"))
def projection(W):
    """Solve v + e_y = w_y for all y, and sum of e_y = 0, as one system of linear equations per feature."""
    K = len(W)
    left = torch.zeros(K + 1, K + 1).to(W)  # unknowns: v, then e_0 to e_(K-1)
    left[:K, 0], left[:K, 1:], left[K, 1:] = 1, torch.eye(K).to(W), 1
    found = torch.linalg.solve(left, torch.cat([W, torch.zeros(1, W.shape[1]).to(W)]))
    return found[0], found[1:]


@projection.mistake("The scores are the same, as any v would do. But your e do not add up to zero over the labels, and "
                    "that is asked for: v is to hold all that the classes have in common.")
def _(W):
    return W[0], W - W[0]


@projection.mistake("The common part is counted twice: once in v, and again in every e, which are still the rows of W.")
def _(W):
    return W.mean(0), W


@projection.mistake("v is the sum of the rows. Then v and e together are not the rows of W any more; what all of them "
                    "share is their mean.")
def _(W):
    return W.sum(0), W - W.sum(0)


@projection.mistake("e has the wrong sign: v + e is to be the row of W again.")
def _(W):
    return W.mean(0), W.mean(0) - W


@projection.mistake("Nothing is put into v: there is no part without a label, and your e do not add up to zero.")
def _(W):
    return torch.zeros(W.shape[1]).to(W), W


# --- 5.10 ------------------------------------------------------------------------------------


def two_joints(g: torch.Generator) -> Case:
    """p_g(x, y) and p_r(x, y), on six points with three classes."""
    return {"p_g": shares(g, 6, 3), "p_r": shares(g, 6, 3)}


@sheet.function("5.10", "derive", 2, "The chain rule, and what is missing", cases=two_joints,
                returns=("KL of the images", "class term", "entropy"))
def three_terms(p_g, p_r):
    """Point by point, with distributions over y at each x."""
    mass = p_g.sum(1)
    images = kl_divergence(Categorical(probs=mass), Categorical(probs=p_r.sum(1)))
    at_x = [Categorical(probs=row) for row in p_g]
    entropy = sum(m * q.entropy() for m, q in zip(mass, at_x, strict=True))
    cross = sum(m * (kl_divergence(q, Categorical(probs=row)) + q.entropy())
                for m, q, row in zip(mass, at_x, p_r, strict=True))
    return images, cross, entropy


@three_terms.mistake("The class term is averaged over *real* pairs. The generator hears it on its own drawings.")
def _(p_g, p_r):
    images, _, entropy = three_terms.oracle(p_g, p_r)
    return images, -(p_r * (p_r / p_r.sum(1, keepdim=True)).log()).sum(), entropy


@three_terms.mistake("The entropy is that of the pairs, H(x, y). What is missing in (5.5) is conditional: the doubt "
                     "about the label once the drawing is seen.")
def _(p_g, p_r):
    images, cross, _ = three_terms.oracle(p_g, p_r)
    return images, cross, -(p_g * p_g.log()).sum()


@three_terms.mistake("The entropy is that of the labels asked for, H(y). It has to be conditional on the drawing, and "
                     "is smaller by what the drawing shows.")
def _(p_g, p_r):
    images, cross, _ = three_terms.oracle(p_g, p_r)
    return images, cross, -(p_g.sum(0) * p_g.sum(0).log()).sum()


@three_terms.mistake("Condition on x, not on y: you divide by the sum over x. A classifier is asked for the label of a "
                     "given picture, p(y | x).")
def _(p_g, p_r):
    images = three_terms.oracle(p_g, p_r)[0]
    return images, -(p_g * (p_r / p_r.sum(0)).log()).sum(), -(p_g * (p_g / p_g.sum(0)).log()).sum()


@three_terms.mistake("The class term has p_r(x, y) in the logarithm, not p_r(y | x). Then the images are charged "
                     "twice, here and in the first term.")
def _(p_g, p_r):
    images, _, entropy = three_terms.oracle(p_g, p_r)
    return images, -(p_g * p_r.log()).sum(), entropy


@three_terms.mistake("The KL of the images is the wrong way round: (5.5) averages over what is generated.")
def _(p_g, p_r):
    _, cross, entropy = three_terms.oracle(p_g, p_r)
    return kl_divergence(Categorical(probs=p_r.sum(1)), Categorical(probs=p_g.sum(1))), cross, entropy


@three_terms.mistake("The entropy has the wrong sign: H is not negative, and (5.5) subtracts it.")
def _(p_g, p_r):
    images, cross, entropy = three_terms.oracle(p_g, p_r)
    return images, cross, -entropy


# --- 5.11 and 5.12: a class cut off ----------------------------------------------------------


def joint_and_weight(g: torch.Generator) -> Case:
    """p_r(x, y) on five points with two classes, and a weight that is not one."""
    return {"p_r": shares(g, 5, 2), "weight": between(g, 0.3, 0.7) * (1 if torch.rand((), generator=g) < 0.5 else 3)}


def hard(p_r, mass):
    """The mass at each x given to its likeliest label."""
    made = torch.zeros_like(p_r)
    made[torch.arange(len(p_r)), p_r.argmax(1)] = mass / mass.sum()
    return made


@sheet.function("5.11", "derive", 3, "The best generator for a game without the entropy", cases=joint_and_weight)
def cut_off(p_r, weight):
    """Every way of giving each x one label is tried; for each, the best p_g(x) is one of least divergence."""
    best, found = math.inf, None
    given = p_r / p_r.sum(1, keepdim=True)
    for names in itertools.product(range(p_r.shape[1]), repeat=len(p_r)):
        labels = torch.tensor(names)
        logs = p_r.sum(1).log() + weight * given.gather(1, labels[:, None])[:, 0].log()
        mass = logs.softmax(0)
        value = float((mass * (mass.log() - logs)).sum())  # the loss itself, at this p_g
        if value < best:
            best, found = value, torch.zeros_like(p_r).scatter(1, labels[:, None], mass[:, None])
    return found


@cut_off.mistake("That is p_r(x, y), the optimum of (5.5) in full. Without the entropy a drawing that leaves a doubt "
                 "is charged for it, and nothing pays it back.")
def _(p_r, weight):
    return p_r


@cut_off.mistake("Each x is shared among its labels, in proportion to a power of p_r(y | x). The loss is *linear* in "
                 "p_g(y | x): at each x it is least if all goes to one label.")
def _(p_r, weight):
    made = p_r.sum(1, keepdim=True) * (p_r / p_r.sum(1, keepdim=True)) ** weight
    return made / made.sum()


@cut_off.mistake("The labels are right: each x has its likelier one. But you leave p_g(x) as p_r(x). Where the label "
                 "is in doubt a drawing still costs the class term, so that the generator draws less of it.")
def _(p_r, weight):
    return hard(p_r, p_r.sum(1))


@cut_off.mistake("This is the answer for a weight of one: the weight is the power to which p_r(y | x) is taken.")
def _(p_r, weight):
    return hard(p_r, p_r.max(1).values)


@cut_off.mistake("The density is not normalised: what is drawn has to add up to one.")
def _(p_r, weight):
    largest = p_r.max(1).values / p_r.sum(1)
    return hard(p_r, p_r.sum(1)) * (largest**weight)[:, None]


@cut_off.mistake("The power stands on p_r(x, y) as a whole. The divergence of the images has weight one: only "
                 "p_r(y | x) carries the class term's weight.")
def _(p_r, weight):
    return hard(p_r, p_r.max(1).values ** weight)


CUT = math.exp(-0.5) / math.sqrt(2 * math.pi) / (0.5 * (1 + math.erf(math.sqrt(0.5))))
sheet.number("5.12", "derive", 2, "What is left of a class", truth=math.sqrt(1 - CUT - CUT**2), within=0.015, why=(
    "A Gaussian cut off one deviation below its mean. No network, no training and no chance had a hand in it: the "
    "variety is lost at the optimum of the game."), mistakes=[
    (1 - CUT - CUT**2, "That is the variance; take the root."),
    (1.0, "That would be the real class. At the optimum each x is drawn under its likelier label only: where does that "
          "leave the part of this class beyond the boundary?"),
    (math.sqrt(1 - 2 / math.pi), "That is a Gaussian cut at its own mean. The boundary is half way between the two "
                                 "classes, one deviation from either."),
    (0.0, "One picture for each class is what the game came to as networks play it. The optimum keeps more: p_g(x) "
          "still has to be near p_r(x)."),
])


# --- 5.13 and 5.14: diversity ----------------------------------------------------------------


def features_of_classes(g: torch.Generator) -> Case:
    """Drawn and real features of three classes, unequal in number and in width."""
    asked = torch.tensor([0] * 5 + [1] * 3 + [2] * 6)[torch.randperm(14, generator=g)]
    labels = torch.tensor([0] * 4 + [1] * 6 + [2] * 5)[torch.randperm(15, generator=g)]
    places, widths = 4 * normal(g, 3, 4), torch.tensor([0.4, 1.0, 2.0])
    return {"drawn": places[asked] + 0.7 * normal(g, 14, 4) * widths.flip(0)[asked, None], "asked": asked,
            "real": places[labels] + normal(g, 15, 4) * widths[labels, None], "labels": labels}


def mean_distance(x, power=1):
    """Over all pairs of different rows, in a loop."""
    found = [math.dist(a, b) ** power for a, b in itertools.combinations(x.tolist(), 2)]
    return sum(found) / len(found)


def per_class(drawn, asked, real, labels, spread=mean_distance):
    """The spread of each class, drawn and real."""
    return [(spread(drawn[asked == c]), spread(real[labels == c])) for c in labels.unique().tolist()]


@sheet.function("5.13", "code", 2, "Diversity within the class", cases=features_of_classes)
def diversity(drawn, asked, real, labels):
    """The mean over classes of a ratio of mean distances."""
    ratios = [a / b for a, b in per_class(drawn, asked, real, labels)]
    return sum(ratios) / len(ratios)


@diversity.mistake("The classes are lumped together: this is how far apart any two drawings are. The distances between "
                   "*different* digits hide what happens within one.")
def _(drawn, asked, real, labels):
    return mean_distance(drawn) / mean_distance(real)


@diversity.mistake("It is a ratio of averages; asked for is the average of the ratios. In yours a class that is wide "
                   "by nature drowns the others.")
def _(drawn, asked, real, labels):
    both = per_class(drawn, asked, real, labels)
    return sum(a for a, _ in both) / sum(b for _, b in both)


@diversity.mistake("A drawing is also compared with itself, at distance zero: `torch.cdist` has a diagonal. Take the "
                   "pairs of *different* drawings only.")
def _(drawn, asked, real, labels):
    both = per_class(drawn, asked, real, labels, lambda x: mean_distance(x) * (len(x) - 1) / len(x))
    return sum(a / b for a, b in both) / len(both)


@diversity.mistake("The distances are squared. Then few stray drawings count for more than all others.")
def _(drawn, asked, real, labels):
    both = per_class(drawn, asked, real, labels, lambda x: mean_distance(x, 2))
    return sum(a / b for a, b in both) / len(both)


@diversity.mistake("It is upside down: the drawings' distance over that of real ones, so that a collapsed generator "
                   "gets zero.")
def _(drawn, asked, real, labels):
    both = per_class(drawn, asked, real, labels)
    return sum(b / a for a, b in both) / len(both)


@diversity.mistake("The drawings of a class are picked by the labels of the *real* pictures, or the other way round: "
                   "each set has labels of its own.")
def _(drawn, asked, real, labels):
    spread = [float(torch.pdist(drawn[labels[: len(drawn)] == c]).mean()) for c in labels.unique()]
    both = per_class(drawn, asked, real, labels)
    return sum(mine / b for mine, (_, b) in zip(spread, both, strict=True)) / len(both)


sheet.number("5.14", "predict", 1, "A cheat with five pictures", truth=0.8, within=0.02, why=(
    "Two drawings are the same picture with probability 1/m, and else as far apart as two real ones: 1 - 1/m."),
    mistakes=[
    (0.2, "That is how often two drawings are the same picture. What is their distance in the other cases?"),
    (1.0, "All five are real and different, but two *drawings* are often the same one of them, at distance zero."),
    (0.0, "That is the cheat with a single picture. With five, two drawings are mostly different pictures."),
    (0.5, "Five pictures are few among hundreds, but diversity does not count pictures. It asks how far apart two "
          "drawings are on average."),
])


# --- 5.15 ------------------------------------------------------------------------------------


def points_of_classes(g: torch.Generator) -> Case:
    """Real and drawn points of three classes that overlap, and a radius at which a part is covered."""
    labels = torch.tensor([0] * 8 + [1] * 6 + [2] * 3)[torch.randperm(17, generator=g)]
    asked = torch.tensor([0] * 4 + [1] * 4 + [2] * 3)[torch.randperm(11, generator=g)]
    places = 0.8 * normal(g, 3, 2)
    return {"real": places[labels] + normal(g, 17, 2), "labels": labels, "drawn": places[asked] + normal(g, 11, 2),
            "asked": asked, "radius": between(g, 0.6, 0.8)}


@sheet.function("5.15", "code", 2, "Recall, class by class", cases=points_of_classes, returns=("of each class", "mean"))
def recall(real, labels, drawn, asked, radius):
    """Point by point."""
    found = []
    for c in labels.unique().tolist():
        mine = drawn[asked == c].tolist()
        near = [any(math.dist(x, other) <= radius for other in mine) for x in real[labels == c].tolist()]
        found.append(sum(near) / len(near))
    return found, sum(found) / len(found)


def recall_of(near, classes, labels):
    """Shares of what is near, class by class, and their mean."""
    found = [near[labels == c].double().mean() for c in classes]
    return torch.stack(found), sum(found) / len(found)


@recall.mistake("A drawing of *any* class may stand near. A real 4 is not covered by a 9 that looks like it: only "
                "drawings that were asked for as this class count.")
def _(real, labels, drawn, asked, radius):
    return recall_of((torch.cdist(real, drawn) <= radius).any(1), labels.unique(), labels)


@recall.mistake("It is the share of *drawings* that have a real point near: precision. Recall asks which of the real "
                "ones the generator can reach.")
def _(real, labels, drawn, asked, radius):
    near = (torch.cdist(drawn, real) <= radius) & (asked[:, None] == labels)
    return recall_of(near.any(1), labels.unique(), asked)


@recall.mistake("The shares are right. Their mean weighs each class by its number of real points, so that the rare "
                "class vanishes from it; here each class is to count once.")
def _(real, labels, drawn, asked, radius):
    each, _ = recall.oracle(real, labels, drawn, asked, radius)
    near = (torch.cdist(real, drawn) <= radius) & (labels[:, None] == asked)
    return each, near.any(1).double().mean()


@recall.mistake("It counts *pairs* that are near, not real points that have some drawing near. One drawing is enough, "
                "and ten copies of it are no better.")
def _(real, labels, drawn, asked, radius):
    near = torch.cdist(real, drawn) <= radius
    found = [near[labels == c][:, asked == c].double().mean() for c in labels.unique()]
    return torch.stack(found), sum(found) / len(found)


@recall.mistake("The squared distance is held against the radius.")
def _(real, labels, drawn, asked, radius):
    return recall.oracle(real, labels, drawn, asked, math.sqrt(radius))


# --- 5.16 and 5.17: the rare class -----------------------------------------------------------


def given_and_shares(g: torch.Generator) -> Case:
    """p(x | y) of real and generated pictures on five points, and unequal shares of three classes."""
    real, fake = (torch.stack([shares(g, 5) for _ in range(3)], 1) for _ in range(2))
    return {"real": real, "fake": fake, "share_real": torch.softmax(normal(g, 3), 0),
            "share_fake": torch.softmax(normal(g, 3), 0)}


@sheet.function("5.16", "derive", 2, "Asking for the rare class more often", cases=given_and_shares,
                returns=("score of pairs", "score of pictures"))
def scores_with_shares(real, fake, share_real, share_fake):
    """At every x the log-odds of the two tables of pairs, and of the two mixtures, number by number."""
    of_pairs = [[math.log(share_real[y] * real[x, y]) - math.log(share_fake[y] * fake[x, y]) for y in range(3)]
                for x in range(len(real))]
    of_pictures = [math.log(sum(share_real[y] * real[x, y] for y in range(3)))
                   - math.log(sum(share_fake[y] * fake[x, y] for y in range(3))) for x in range(len(real))]
    return torch.tensor(of_pairs).double(), torch.tensor(of_pictures).double()


@scores_with_shares.mistake("The score of pictures is right. In that of pairs the shares are missing: a pair occurs as "
                            "p(x | y) times how often y is shown, and the two shares differ.")
def _(real, fake, share_real, share_fake):
    return real.log() - fake.log(), scores_with_shares.oracle(real, fake, share_real, share_fake)[1]


@scores_with_shares.mistake("The two shares are exchanged: a class that is asked for more often than it occurs looks "
                            "*fake* as such.")
def _(real, fake, share_real, share_fake):
    return scores_with_shares.oracle(real, fake, share_fake, share_real)


@scores_with_shares.mistake("The score of pairs is right. For pictures both mixtures are taken with the *real* shares; "
                            "the generator's mixture has the shares in which you ask.")
def _(real, fake, share_real, share_fake):
    return (scores_with_shares.oracle(real, fake, share_real, share_fake)[0],
            (real @ share_real).log() - (fake @ share_real).log())


@scores_with_shares.mistake("The score of pairs is right. That of pictures is not its mean over labels: first the "
                            "densities are mixed, then the logarithm is taken.")
def _(real, fake, share_real, share_fake):
    of_pairs = scores_with_shares.oracle(real, fake, share_real, share_fake)[0]
    return of_pairs, of_pairs @ share_real.to(of_pairs)


@scores_with_shares.mistake("The score of pairs is right. In that of pictures the shares are missing: the mixture of "
                            "the classes is weighted by how often each is shown.")
def _(real, fake, share_real, share_fake):
    return (scores_with_shares.oracle(real, fake, share_real, share_fake)[0],
            real.mean(1).log() - fake.mean(1).log())


@scores_with_shares.mistake("The signs are turned: a score is large where real ones are more frequent.")
def _(real, fake, share_real, share_fake):
    return tuple(-part for part in scores_with_shares.oracle(real, fake, share_real, share_fake))


sheet.choice("5.17", "derive", 2, "Whose optimum moves", answer="a", why=(
    "For pairs the shares shift the y-th score by a constant, which has no gradient in x; for mixtures they bend the "
    "score itself, and G is pushed away from images that are perfect."), wrongs={
    "b": "The eleven classes do not see the label that was asked for. They compare mixtures of classes, and the "
         "mixture changes with the shares.",
    "c": "Look at the score of pairs again: what of it depends on the shares, and has that a gradient with respect to "
         "the *picture*?",
    "d": "Test it with perfect classes, p_g(x | y) = p_r(x | y), and shares that differ. Is log p_r(x) - log p_g(x) "
         "then the same at every x?",
})


# --- 5.18 ------------------------------------------------------------------------------------


def two_players(g: torch.Generator) -> Case:
    """An embedding of three classes, a linear generator, and a discriminator with the fourth class "fake"."""
    y = (torch.arange(7) % 3)[torch.randperm(7, generator=g)]
    return {"table": normal(g, 3, 2), "A": normal(g, 5, 2), "V": 0.7 * normal(g, 4, 5), "z": normal(g, 7, 2), "y": y,
            "steps": int(torch.randint(4, 8, (), generator=g)), "rate": between(g, 0.5, 0.8)}


def slope(table, A, V, z, y, target):
    """The gradient of a mean cross-entropy with respect to the table, worked back by hand."""
    p = ((z + table[y]) @ A.T @ V.T).softmax(1)
    back = (p - torch.eye(len(V)).to(p)[target]) @ V @ A / len(y)
    return torch.zeros_like(table).index_add(0, y, back)


def unit(x):
    """x divided by its length."""
    return x / x.norm()


def of_G(table, A, V, z, y):
    """G's loss."""
    return nll((z + table[y]) @ A.T @ V.T, y)


@sheet.function("5.18", "investigate", 3, "Who moves the embedding", cases=two_players,
                returns=("G alone", "both players"), rtol=5e-4)
def moved(table, A, V, z, y, steps, rate):
    """Both games, with gradients by hand."""
    alone, both, fake = table, table, torch.full_like(y, len(V) - 1)
    for _ in range(steps):
        alone = alone - rate * unit(slope(alone, A, V, z, y, y))
        both = both - rate * unit(slope(both, A, V, z, y, fake))
        both = both - rate * unit(slope(both, A, V, z, y, y))
    return of_G(alone, A, V, z, y), of_G(both, A, V, z, y)


def game(steps, table, step):
    """A table after so many steps."""
    for _ in range(steps):
        table = step(table)
    return table


@moved.mistake("G alone is right. In the other game D *climbs* its loss. D minimises as well: its cross-entropy for "
               "the class 'fake', and the embedding goes where fakes are easy to tell.")
def _(table, A, V, z, y, steps, rate):
    fake = torch.full_like(y, len(V) - 1)

    def step(t):
        t = t + rate * unit(slope(t, A, V, z, y, fake))
        return t - rate * unit(slope(t, A, V, z, y, y))

    return moved.oracle(table, A, V, z, y, steps, rate)[0], of_G(game(steps, table, step), A, V, z, y)


@moved.mistake("The steps are as long as the gradients. Here each step has the length `rate`, as with an optimiser "
               "that divides by the size of the gradient: that is why the weaker pull counts as much.")
def _(table, A, V, z, y, steps, rate):
    fake = torch.full_like(y, len(V) - 1)

    def step(t):
        t = t - rate * slope(t, A, V, z, y, fake)
        return t - rate * slope(t, A, V, z, y, y)

    alone = game(steps, table, lambda t: t - rate * slope(t, A, V, z, y, y))
    return of_G(alone, A, V, z, y), of_G(game(steps, table, step), A, V, z, y)


@moved.mistake("G alone is right. In the other game the two move at once, from gradients taken at the same place. D "
               "moves first, then G looks at where the embedding is by then.")
def _(table, A, V, z, y, steps, rate):
    fake = torch.full_like(y, len(V) - 1)

    def step(t):
        return t - rate * unit(slope(t, A, V, z, y, fake)) - rate * unit(slope(t, A, V, z, y, y))

    return moved.oracle(table, A, V, z, y, steps, rate)[0], of_G(game(steps, table, step), A, V, z, y)


@moved.mistake("G alone is right. In the other game G moves first; D does, as in the chapter's loop.")
def _(table, A, V, z, y, steps, rate):
    fake = torch.full_like(y, len(V) - 1)

    def step(t):
        t = t - rate * unit(slope(t, A, V, z, y, y))
        return t - rate * unit(slope(t, A, V, z, y, fake))

    return moved.oracle(table, A, V, z, y, steps, rate)[0], of_G(game(steps, table, step), A, V, z, y)


@moved.mistake("Each row of the table takes a step of its own length. The gradient is divided by the length of the "
               "whole: all rows together move by `rate`.")
def _(table, A, V, z, y, steps, rate):
    fake = torch.full_like(y, len(V) - 1)

    def each(x):
        return x / x.norm(dim=1, keepdim=True)

    def step(t):
        t = t - rate * each(slope(t, A, V, z, y, fake))
        return t - rate * each(slope(t, A, V, z, y, y))

    alone = game(steps, table, lambda t: t - rate * each(slope(t, A, V, z, y, y)))
    return of_G(alone, A, V, z, y), of_G(game(steps, table, step), A, V, z, y)


@moved.mistake("Both numbers are the same game: D never moves the embedding in yours. In the second, D takes a step on "
               "it too, before G does.")
def _(table, A, V, z, y, steps, rate):
    alone = moved.oracle(table, A, V, z, y, steps, rate)[0]
    return alone, alone


# --- 5.19 ------------------------------------------------------------------------------------


sheet.choice("5.19", "derive", 1, "Four forms", answer="c", why=(
    "Both are trained, on real images, to say which digit it is: q(k | x). A judge of pairs compares real with "
    "generated, and has nothing to say once the two agree."), wrongs={
    "a": "All have seen labels, but they were asked different things. What is each told to put out, and does it say "
         "which of ten digits a picture is?",
    "b": "Its ten outputs have no softmax over them: each compares real with generated within *its* class, and they "
         "were never set against each other on one picture.",
    "d": "Its best score is log p_r(x, y) - log p_g(x, y). To get p_r(y | x) one would have to know p_g; and with a "
         "good generator the score is near zero for any label that fits at all.",
})
