const sigmoid = (s) => 1 / (1 + Math.exp(-s));
const softplus = (s) => Math.max(s, 0) + Math.log1p(Math.exp(-Math.abs(s)));

// Each loss of one score s is [value, derivative]: of a real point and of a fake one for D, and of a fake one for G.
const LOGISTIC = {
  real: (s) => [softplus(-s), -sigmoid(-s)],
  fake: (s) => [softplus(s), sigmoid(s)],
  forger: (s) => [softplus(-s), -sigmoid(-s)], // the non-saturating one
};
const SATURATING = { ...LOGISTIC, forger: (s) => [-softplus(s), -sigmoid(s)] };
const SQUARES = {
  real: (s) => [(s - 1) ** 2 / 2, s - 1],
  fake: (s) => [s ** 2 / 2, s],
  forger: (s) => [(s - 1) ** 2 / 2, s - 1],
};
const WASSERSTEIN = { real: (s) => [-s, -1], fake: (s) => [s, 1], forger: (s) => [-s, -1] };

/**
 * The games. coin: D's loss when it can only toss coins. judge: a score as a number from 0, fake, to 1, real; critics
 * have none. penalty: where factor * weight * (|grad D| - slope)^2 is taken, between fakes and reals or at reals.
 */
export const GAMES = {
  "gan": { ...LOGISTIC, coin: 2 * Math.LN2, judge: sigmoid },
  "gan-saturating": { ...SATURATING, coin: 2 * Math.LN2, judge: sigmoid },
  "lsgan": { ...SQUARES, coin: 0.25, judge: (s) => Math.min(1, Math.max(0, s)) },
  "wgan-clip": { ...WASSERSTEIN, clipped: true },
  "wgan-gp": { ...WASSERSTEIN, penalty: "between", slope: 1, factor: 1 }, // Gulrajani et al. 2017
  "r1": { ...LOGISTIC, coin: 2 * Math.LN2, judge: sigmoid, penalty: "real", slope: 0, factor: 0.5 }, // Mescheder 2018
};

/** Two perceptrons that play: G draws points of the plane from noise (n, noise), D scores points. */
export class Game {
  constructor(kind, random, { noise = 2, hidden = 48 } = {}) {
    this.rules = GAMES[kind];
    this.noise = noise;
    this.G = new Perceptron([noise, hidden, hidden, 2], random);
    this.D = new Perceptron([2, hidden, hidden, 1], random);
  }

  /**
   * One step of D, or of the critic. real (n, 2), z (n, noise); mix (n), where on the way from fake to real the penalty
   * is taken; settings: rate, momentum, weight, clip. Returns its loss without the penalty.
   */
  trainD(real, z, mix, settings) {
    const { D, G, rules } = this, n = mix.length;
    const fake = G.forward(z, n), both = new Float64Array(4 * n), dy = new Float64Array(2 * n);
    both.set(real);
    both.set(fake, 2 * n);
    const scores = D.forward(both, 2 * n);
    let loss = 0;
    for (let i = 0; i < 2 * n; i++) {
      const [value, slope] = (i < n ? rules.real : rules.fake)(scores[i]);
      loss += value / n;
      dy[i] = slope / n;
    }
    D.backward(dy, 2 * n, { inputs: false });
    if (rules.penalty) this.penalise(real, fake, mix, settings.weight);
    D.adam(settings.rate, settings.momentum, BETA2);
    if (rules.clipped) D.clip(settings.clip);
    return loss;
  }

  /** Adds the gradient of factor * weight * mean (|grad D| - slope)^2. */
  penalise(real, fake, mix, weight) {
    const { D, rules } = this, n = mix.length;
    let x = real;
    if (rules.penalty === "between") x = real.map((value, i) => fake[i] + mix[i >> 1] * (value - fake[i]));
    D.forward(x, n);
    const g = D.backward(new Float64Array(n).fill(1), n, { weights: false }), u = new Float64Array(2 * n);
    for (let i = 0; i < 2 * n; i += 2) {
      const norm = Math.hypot(g[i], g[i + 1]) || 1e-12;
      const pull = 2 * rules.factor * weight * (norm - rules.slope) / (norm * n);
      u[i] = pull * g[i];
      u[i + 1] = pull * g[i + 1];
    }
    D.backwardOfSlopes(u, n);
  }

  /** One step of G from noise z (n, noise); returns its loss. */
  trainG(z, n, settings) {
    const { D, G, rules } = this;
    const scores = D.forward(G.forward(z, n), n), dy = new Float64Array(n);
    let loss = 0;
    for (let i = 0; i < n; i++) {
      const [value, slope] = rules.forger(scores[i]);
      loss += value / n;
      dy[i] = slope / n;
    }
    G.backward(D.backward(dy, n, { weights: false }), n, { inputs: false });
    G.adam(settings.rate, settings.momentum, BETA2);
    return loss;
  }

  /** Where each fake (n, 2) is pulled: minus the derivative of G's loss by it. */
  pull(fake, n) {
    const scores = this.D.forward(fake, n);
    const dy = scores.map((s) => -this.rules.forger(s)[1]);
    return this.D.backward(dy, n, { weights: false });
  }
}

const BETA2 = 0.99;
