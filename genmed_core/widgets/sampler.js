// DDPM, DDIM and a second-order sampler for a network that runs here; twin of sampling.py, by the same names.

/** A hash of 32 bits. */
const mixed = (x) => {
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0xd35a2d97);
  return (x ^ (x >>> 15)) >>> 0;
};

/** Standard normal numbers, draw `draw` of a seed: number i is a hash of seed, draw and i (Wellons 2018). */
export function noise(seed, draw, count) {
  const key = mixed((mixed(seed) ^ draw) >>> 0), x = new Float32Array(count);
  const uniform = (i) => (mixed((mixed(i) ^ key) >>> 0) + 0.5) / 4294967296;
  for (let i = 0; i < count; i++) {
    x[i] = Math.sqrt(-2 * Math.log(uniform(2 * i))) * Math.cos(2 * Math.PI * uniform(2 * i + 1));
  }
  return x;
}

/** `steps` of the T time steps, evenly spaced, from T - 1 down to 0. */
export function spacedTimesteps(T, steps) {
  if (steps === 1) return [T - 1];
  const gaps = steps - 1;
  return Array.from({ length: steps }, (_, k) => Math.floor((2 * (gaps - k) * (T - 1) + gaps) / (2 * gaps)));
}

/** x0 noised to step t; the arrays of the schedule begin with the clean image, t = -1. */
export function qSample({ alphaBar, noiseVar }, x0, t, eps) {
  const a = Math.sqrt(alphaBar[t + 1]), s = Math.sqrt(noiseVar[t + 1]);
  return x0.map((value, i) => a * value + s * eps[i]);
}

/** The network's output read as the guess of the clean image. */
function predict({ alphaBar, noiseVar, predicts, clip }, output, x, t) {
  const bar = alphaBar[t + 1], v = noiseVar[t + 1], a = Math.sqrt(bar), s = Math.sqrt(v);
  const read = {
    eps: (o, value) => (value - s * o) / a,
    x0: (o) => o,
    v: (o, value) => (a * value - s * o) / (bar + v),
  }[predicts];
  return x.map((value, i) => {
    const guess = read(output[i], value);
    return clip ? Math.min(Math.max(guess, clip[0]), clip[1]) : guess;
  });
}

/** The network's output, guided: with and without the label in one batch. */
async function guided({ net, inputs, null: none }, x, t, y, guidance) {
  const [nameX, nameT, nameY] = inputs, n = x.length;
  if (guidance === 1 || nameY === undefined) {
    return (await net.run({ [nameX]: x, [nameT]: [t], ...(nameY === undefined ? {} : { [nameY]: [y] }) }))[0];
  }
  const both = new Float32Array(2 * n);
  both.set(x);
  both.set(x, n);
  const [out] = await net.run({ [nameX]: both, [nameT]: [t, t], [nameY]: [y, none] });
  return out.subarray(0, n).map((value, i) => out[n + i] + guidance * (value - out[n + i]));
}

/** DDIM's step from x_t to x_{t_prev}. */
function stride({ alphaBar, noiseVar }, x0, x, t, tPrev, eta, fresh) {
  const bar = alphaBar[t + 1], v = noiseVar[t + 1], barPrev = alphaBar[tPrev + 1], vPrev = noiseVar[tPrev + 1];
  const variance = eta ** 2 * vPrev * (v - (bar / barPrev) * vPrev) / v;
  const a = Math.sqrt(bar), s = Math.sqrt(v), aPrev = Math.sqrt(barPrev);
  const direction = Math.sqrt(Math.max(0, vPrev - variance)), spread = Math.sqrt(variance);
  return x.map((value, i) => aPrev * x0[i] + direction * ((value - a * x0[i]) / s) + (spread ? spread * fresh[i] : 0));
}

/** The textbook's step: take the noise's direction away, at one step's length for each step. */
function subtracted({ alphaBar, priorStd, T }, x0, x, t, tPrev) {
  const a = Math.sqrt(alphaBar[t + 1]), noise = Float64Array.from(x, (value, i) => value - a * x0[i]);
  const mean = noise.reduce((sum, v) => sum + v, 0) / x.length;
  const spread = Math.sqrt(noise.reduce((sum, v) => sum + (v - mean) ** 2, 0) / x.length + 1e-5);
  const length = (t - tPrev) * priorStd / Math.sqrt(T);
  return x.map((value, i) => value - length * (noise[i] - mean) / spread);
}

/** The guess in the middle of the coming stride (DPM-Solver++). */
function extrapolated({ alphaBar, noiseVar }, x0, before, t, tPrev) {
  if (!before || tPrev <= 0) return x0;
  const snr = (s) => 0.5 * Math.log(alphaBar[s + 1] / noiseVar[s + 1]), [r, x0Before] = before;
  const factor = (snr(tPrev) - snr(t)) / (2 * (snr(t) - snr(r)));
  return x0.map((value, i) => value + factor * (value - x0Before[i]));
}

/**
 * Draws one picture: yields { t, k, of, x, x0 } at each step, from noise down.
 * model: { net, inputs, alphaBar, noiseVar, priorStd, T, predicts, clip, null, count }, count the numbers of a picture;
 * prior, a network from noise to x_T, where there is one.
 * known: { x0, start, keep }: see sampling.py; keep has a number for each number of the picture.
 */
export async function* sample(model, { y, seed, steps, eta, guidance, window: [low, high], order = 1, known = {},
                                       pure = false, subtract = false }) {
  const { T, count, priorStd } = model, { x0: given, start = null, keep = null } = known;
  const last = start ?? T - 1, times = spacedTimesteps(last + 1, Math.min(steps, last + 1));
  let x = noise(seed, 0, count), before = null;
  if (given && start !== null) x = qSample(model, given, start, x);
  else if (model.prior && !pure) [x] = await model.prior.run(y === null ? { x } : { x, y: [y] });
  else x = x.map((value) => priorStd * value);
  for (let k = 0; k < times.length; k++) {
    const t = times[k], tPrev = times[k + 1] ?? -1, here = x;
    if (keep) {
      const noised = qSample(model, given, t, noise(seed, k + 1001, count));
      x = here.map((value, i) => keep[i] * noised[i] + (1 - keep[i]) * value);
    }
    const output = await guided(model, x, t, y, low <= t && t < high ? guidance : 1);
    const x0 = predict(model, output, x, t);
    const end = subtract && tPrev < 0 ? subtracted(model, x0, x, t, tPrev) : x0;
    const done = tPrev < 0 && keep ? end.map((value, i) => keep[i] * given[i] + (1 - keep[i]) * value) : end;
    yield { t, k, of: times.length, x, x0: done };
    const guess = order === 2 ? extrapolated(model, x0, before, t, tPrev) : x0;
    before = [t, x0];
    x = subtract ? subtracted(model, x0, x, t, tPrev)
      : stride(model, guess, x, t, tPrev, eta, eta ? noise(seed, k + 1, count) : null);
  }
}
