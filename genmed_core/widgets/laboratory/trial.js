const BATCH = 128, SHOWN = 512; // points of a step, and of the picture and the meter
const BLUR = 0.15; // both densities of the best D are blurred by this much, so that 512 fakes can tell theirs
const KEPT = 400; // values of a loss curve; beyond, neighbours are averaged

/** A loss curve that stays short: two neighbours become one whenever it gets too long. */
class Curve {
  constructor() {
    this.values = [];
    this.each = 1; // steps a value stands for
    this.open = [0, 0];
  }

  push(value) {
    this.open = [this.open[0] + value, this.open[1] + 1];
    if (this.open[1] < this.each) return;
    this.values.push(this.open[0] / this.open[1]);
    this.open = [0, 0];
    if (this.values.length < 2 * KEPT) return;
    this.values = Array.from({ length: KEPT }, (_, k) => (this.values[2 * k] + this.values[2 * k + 1]) / 2);
    this.each *= 2;
  }

  /** The mean of the last few values. */
  get now() {
    const last = this.values.slice(-10);
    return last.reduce((sum, value) => sum + value, 0) / last.length;
  }
}

/** One training from its start: a model, its data, and what came of it. */
export class Trial {
  constructor(settings) {
    this.kind = settings.model;
    this.isGame = this.kind in GAMES;
    this.isCritic = this.kind.startsWith("wgan");
    this.random = randomStream(settings.seed);
    this.model = this.isGame ? new Game(this.kind, this.random) : new Denoiser(this.kind, this.random);
    this.noise = randomStream(1000 + settings.seed).normals(2 * SHOWN);
    this.steps = 0;
    this.curves = { D: new Curve(), G: new Curve() };
    this.setData(settings);
  }

  /** The data may change while the networks stay, as when points are drawn. */
  setData({ data, points }) {
    const isRing = data === "ring";
    this.partName = isRing ? "mode" : "part";
    this.cloudName = isRing ? "a circle" : "a Gaussian";
    this.mixture = null;
    if (data === "drawn" && !points.length) return;
    this.mixture = new Mixture(data === "drawn" ? drawn(points) : DATA[data]());
    const random = randomStream(7);
    this.real = this.mixture.sample(SHOWN, random);
    this.realNoise = random.normals(2 * SHOWN);
    this.cloud = this.mixture.cover(this.mixture.featureless(4 * SHOWN, random, isRing));
    this.floor = this.isGame ? (this.isCritic ? 0 : this.model.rules.coin)
      : leastLoss(this.mixture, this.model.noising, random);
  }

  /** One step; who: "both", "D" or "G" where it is a game. */
  step(settings, who) {
    const { random, model, mixture } = this;
    this.steps += 1;
    if (!this.isGame) {
      const rules = { rate: settings.rate_d, momentum: settings.momentum };
      const eps = random.normals(2 * BATCH), t = random.uniforms(BATCH);
      return this.curves.D.push(model.train(mixture.sample(BATCH, random), eps, t, rules));
    }
    const { momentum, penalty, clip } = settings, shared = { momentum, weight: penalty, clip };
    const z = () => random.normals(BATCH * model.noise);
    let loss = 0;
    if (who !== "G") {
      for (let k = 0; k < settings.critic_steps; k++) {
        const real = mixture.sample(BATCH, random), mix = random.uniforms(BATCH);
        loss = model.trainD(real, z(), mix, { ...shared, rate: settings.rate_d });
      }
      this.curves.D.push(this.isCritic ? -loss : loss);
    }
    if (who !== "D") this.curves.G.push(model.trainG(z(), BATCH, { ...shared, rate: settings.rate_g }));
  }

  /** Points of G, or of the denoiser at a level of noise on their way down. */
  fakes(settings) {
    if (this.isGame) return this.model.G.forward(this.noise, SHOWN).slice();
    const guess = this.guess(settings.shown), ladder = levels(1, settings.steps);
    const path = WAYS.DDIM(this.noise, guess, this.model.noising, 1, { steps: settings.steps });
    let points = this.noise, k = 0;
    for (points of path) if (ladder[k++] <= settings.level) break;
    return points;
  }

  /** The data at a level of noise. */
  reals(level) {
    if (this.isGame || level === 0) return this.real;
    const [alpha, sigma] = this.model.noising.level(level);
    return this.real.map((value, i) => alpha * value + sigma * this.realNoise[i]);
  }

  /** What sees x0 and the noise in a point: the network, or the data's own density. */
  guess(shown) {
    if (shown === "exact" && this.mixture) return exactGuess(this.mixture, this.model.noising);
    return (x, t) => this.model.guess(x, t);
  }

  /** D over a grid (n, 2), from -1, fake, to 1, real; a critic's from its lowest to its highest. */
  judged(grid, shown, fakes) {
    const n = grid.length / 2;
    if (shown === "exact") {
      const values = new Float64Array(n);
      for (let i = 0; i < n; i++) {
        const [x, y] = [grid[2 * i], grid[2 * i + 1]];
        const odds = this.mixture.posterior(x, y, 1, BLUR).log - kernelLog(fakes.subarray(0, SHOWN), BLUR, x, y);
        values[i] = 2 * sigmoid(odds) - 1;
      }
      return values;
    }
    const scores = this.model.D.forward(grid, n), { judge } = this.model.rules;
    if (judge) return scores.map((s) => 2 * judge(s) - 1);
    const [low, high] = [Math.min(...scores), Math.max(...scores)];
    return scores.map((s) => 2 * (s - low) / (high - low || 1) - 1);
  }

  /** The density of the data at a level of noise over a grid (n, 2), as a share of its highest. */
  density(grid, level) {
    const [alpha, sigma] = this.model.noising.level(level), logs = new Float64Array(grid.length / 2);
    for (let i = 0; i < logs.length; i++) {
      logs[i] = this.mixture.posterior(grid[2 * i], grid[2 * i + 1], alpha, Math.max(sigma, 0.05)).log;
    }
    const highest = Math.max(...logs);
    return logs.map((log) => Math.exp(log - highest));
  }
}
