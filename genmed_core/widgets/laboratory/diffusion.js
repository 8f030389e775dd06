/**
 * x_t = alpha x0 + sigma eps at a level t of noise from 0, none, to 1, nothing else. answer: what the network says of
 * x_t; unpack: x0 and eps from that. Diffusion says eps (Ho et al. 2020), with a cosine in place of their schedule
 * (Nichol and Dhariwal 2021); flow matching goes straight and says the velocity (Lipman et al. 2023).
 */
export const NOISINGS = {
  diffusion: {
    level: (t) => [Math.cos(Math.PI * t / 2), Math.sin(Math.PI * t / 2)],
    answer: (x0, eps) => eps,
    unpack(x, said, t) {
      const [alpha, sigma] = this.level(t);
      return [(x - sigma * said) / alpha, said];
    },
  },
  flow: {
    level: (t) => [1 - t, t],
    answer: (x0, eps) => eps - x0,
    unpack: (x, said, t) => [x - t * said, x + (1 - t) * said],
  },
};
const WAVES = 4; // the network is told t as cosines of 1 to 4 half turns
const MEMORY = 0.99; // of the running mean of the weights, which draws
const FIRST = 0.985, LAST = 0.01; // the levels between which paths run

/** A perceptron that learns what noise was added; the running mean of its weights guesses. */
export class Denoiser {
  constructor(kind, random, { hidden = 64 } = {}) {
    this.noising = NOISINGS[kind];
    const sizes = [2 + WAVES, hidden, hidden, hidden, 2];
    this.net = new Perceptron(sizes, random);
    this.mean = new Perceptron(sizes, random);
    this.mean.theta.set(this.net.theta);
  }

  /** Points (n, 2) and their levels (n) as the network reads them, (n, 2 + WAVES). */
  inputs(x, t) {
    const n = t.length, width = 2 + WAVES, input = new Float64Array(n * width);
    for (let i = 0; i < n; i++) {
      input[i * width] = x[2 * i];
      input[i * width + 1] = x[2 * i + 1];
      for (let k = 1; k <= WAVES; k++) input[i * width + 1 + k] = Math.cos(Math.PI * k * t[i]);
    }
    return input;
  }

  /** One step from x0 (n, 2), eps (n, 2) and levels t (n); returns the mean squared error before it. */
  train(x0, eps, t, settings) {
    const n = t.length, x = new Float64Array(2 * n), dy = new Float64Array(2 * n);
    for (let i = 0; i < 2 * n; i++) {
      const [alpha, sigma] = this.noising.level(t[i >> 1]);
      x[i] = alpha * x0[i] + sigma * eps[i];
    }
    const said = this.net.forward(this.inputs(x, t), n);
    let loss = 0;
    for (let i = 0; i < 2 * n; i++) {
      const error = said[i] - this.noising.answer(x0[i], eps[i]);
      loss += error * error / (2 * n);
      dy[i] = error / n;
    }
    this.net.backward(dy, n, { inputs: false });
    this.net.adam(settings.rate, settings.momentum, 0.99);
    const now = this.net.theta, mean = this.mean.theta;
    for (let i = 0; i < mean.length; i++) mean[i] += (1 - MEMORY) * (now[i] - mean[i]);
    return loss;
  }

  /** x0 and eps (n, 2) that the network sees in points x (n, 2) of level t. */
  guess(x, t) {
    const n = x.length / 2, said = this.mean.forward(this.inputs(x, new Float64Array(n).fill(t)), n);
    const x0 = new Float64Array(2 * n), eps = new Float64Array(2 * n);
    for (let i = 0; i < 2 * n; i++) [x0[i], eps[i]] = this.noising.unpack(x[i], said[i], t);
    return { x0, eps };
  }
}

/** The same from the mixture itself: the best guess there is. */
export function exactGuess(mixture, noising) {
  return (x, t) => {
    const [alpha, sigma] = noising.level(t), x0 = new Float64Array(x.length), eps = new Float64Array(x.length);
    for (let i = 0; i < x.length; i += 2) {
      const { mean } = mixture.posterior(x[i], x[i + 1], alpha, sigma);
      for (let d = 0; d < 2; d++) {
        x0[i + d] = mean[d];
        eps[i + d] = (x[i + d] - alpha * mean[d]) / sigma;
      }
    }
    return { x0, eps };
  };
}

/** The loss of that best guess, from n draws: no network comes below it, but for chance. */
export function leastLoss(mixture, noising, random, n = 2000) {
  const guess = exactGuess(mixture, noising), x0 = mixture.sample(n, random), eps = random.normals(2 * n);
  let loss = 0;
  for (let i = 0; i < n; i++) {
    const t = random.uniform(), [alpha, sigma] = noising.level(t);
    const pair = [0, 1].map((d) => x0[2 * i + d]), noise = [0, 1].map((d) => eps[2 * i + d]);
    const best = guess(pair.map((value, d) => alpha * value + sigma * noise[d]), t);
    for (let d = 0; d < 2; d++) {
      const miss = noising.answer(best.x0[d], best.eps[d]) - noising.answer(pair[d], noise[d]);
      loss += miss * miss / (2 * n);
    }
  }
  return loss;
}

/** Levels of a path in equal steps, from `from` to the last, and 0. */
export function levels(from, steps) {
  const top = Math.min(from, FIRST);
  if (top <= LAST) return [top, 0];
  return [...Array.from({ length: steps }, (_, k) => top + (LAST - top) * k / steps), LAST, 0];
}

// A way is a generator of points (n, 2): from x at level `from` down to no noise. guess(x, t) -> { x0, eps }.

/** One step of DDIM (Song, Meng and Ermon 2021): the guessed x0 and eps, mixed for the next level; eta of new noise. */
function* ddimSteps(x, guess, noising, from, { steps, eta, random }) {
  const ladder = levels(from, steps);
  yield x;
  for (let k = 0; k + 1 < ladder.length; k++) {
    const { x0, eps } = guess(x, ladder[k]);
    const [alpha, sigma] = noising.level(ladder[k]), [alphaNext, sigmaNext] = noising.level(ladder[k + 1]);
    const kept = alpha * sigmaNext / (alphaNext * sigma);
    const fresh = eta * sigmaNext * Math.sqrt(Math.max(0, 1 - kept * kept));
    const old = Math.sqrt(sigmaNext ** 2 - fresh ** 2);
    x = x0.map((value, i) => alphaNext * value + old * eps[i] + (fresh ? fresh * random.normal() : 0));
    yield x;
  }
}

/** Langevin steps that stay at one level: half a step up the score, and noise. */
function* langevinSteps(x, guess, noising, from, { steps, random, spread }) {
  const t = Math.max(LAST, Math.min(from, FIRST)), [alpha, sigma] = noising.level(t);
  const step = 0.3 * (sigma ** 2 + (alpha * spread) ** 2);
  yield x;
  for (let k = 0; k < steps; k++) {
    const { eps } = guess(x, t);
    x = x.map((value, i) => value - step / 2 * eps[i] / sigma + Math.sqrt(step) * random.normal());
    yield x;
  }
}

/** The ways down. The equation's own path is DDIM's in 200 steps. */
export const WAYS = {
  Langevin: (x, guess, noising, from, options) => langevinSteps(x, guess, noising, from, { ...options, steps: 200 }),
  DDPM: (x, guess, noising, from, options) => ddimSteps(x, guess, noising, from, { ...options, eta: 1 }),
  DDIM: (x, guess, noising, from, options) => ddimSteps(x, guess, noising, from, { ...options, eta: 0 }),
  ODE: (x, guess, noising, from, options) => ddimSteps(x, guess, noising, from, { ...options, eta: 0, steps: 200 }),
};
