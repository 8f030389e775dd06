// Every data set here is a mixture of small Gaussians of one spread: points of the plane as centres, each as likely as
// any other. So its density and its score are known exactly, at every level of noise. Centres belong to parts: the
// modes of the ring, stretches of a curve, heaps of drawn points.

const TURN = 2 * Math.PI;

function ring() {
  const centres = Array.from({ length: 8 }, (_, k) => [2 * Math.cos(TURN * k / 8), 2 * Math.sin(TURN * k / 8)]);
  return { centres, part: centres.map((_, k) => k), sd: 0.08 };
}

/** n centres along a curve of u in (0, 1), cut into equal parts. */
function along(curve, n, parts, sd) {
  const places = Array.from({ length: n }, (_, k) => (k + 0.5) / n);
  return { centres: places.map(curve), part: places.map((u) => Math.floor(u * parts)), sd };
}

function join(...sets) {
  let parts = 0;
  const joined = { centres: [], part: [], sd: sets[0].sd };
  for (const set of sets) {
    joined.centres.push(...set.centres);
    joined.part.push(...set.part.map((p) => p + parts));
    parts += 1 + Math.max(...set.part);
  }
  return joined;
}

const spiral = () => along((u) => {
  const r = 0.3 + 2.1 * Math.sqrt(u), angle = 1.9 * TURN * Math.sqrt(u);
  return [r * Math.cos(angle), r * Math.sin(angle)];
}, 96, 8, 0.06);

const moons = () => join(
  along((u) => [1.6 * Math.cos(Math.PI * u) - 0.8, 1.6 * Math.sin(Math.PI * u) - 0.4], 48, 4, 0.1),
  along((u) => [0.8 - 1.6 * Math.cos(Math.PI * u), 0.4 - 1.6 * Math.sin(Math.PI * u)], 48, 4, 0.1));

const lines = () => join(along((u) => [-2, 3 * u - 1.5], 48, 4, 0.05), along((u) => [2, 3 * u - 1.5], 48, 4, 0.05));

export const DATA = { ring, spiral, moons, lines };
const HEAP = 0.5; // drawn points nearer than this belong together

/** Drawn points [[x, y], ...] as a data set; those that hang together are one part. */
export function drawn(points) {
  const part = points.map((_, i) => i);
  const root = (i) => { while (part[i] !== i) i = part[i]; return i; };
  points.forEach(([x, y], i) => points.slice(0, i).forEach(([u, v], j) => {
    if (Math.hypot(x - u, y - v) < HEAP) part[root(i)] = root(j);
  }));
  const roots = [...new Set(points.map((_, i) => root(i)))];
  return { centres: points, part: points.map((_, i) => roots.indexOf(root(i))), sd: 0.05 };
}

/** What can be asked of a data set. */
export class Mixture {
  constructor({ centres, part, sd }) {
    this.centres = centres;
    this.part = part;
    this.sd = sd;
    this.parts = 1 + Math.max(...part);
    this.share = Array.from({ length: this.parts }, (_, k) => part.filter((p) => p === k).length / part.length);
  }

  /** n points (n, 2). */
  sample(n, random) {
    const x = new Float64Array(2 * n);
    for (let i = 0; i < 2 * n; i += 2) {
      const [u, v] = this.centres[Math.floor(random.uniform() * this.centres.length)];
      x[i] = u + this.sd * random.normal();
      x[i + 1] = v + this.sd * random.normal();
    }
    return x;
  }

  /**
   * At the point x, y of alpha x0 + sigma eps: the logarithm of its density, and the mean of x0 there. The score is
   * (alpha mean - x) / sigma^2.
   */
  posterior(x, y, alpha, sigma) {
    const { centres, sd } = this, spread = (alpha * sd) ** 2 + sigma ** 2;
    let nearest = Infinity, total = 0, meanX = 0, meanY = 0;
    for (const [u, v] of centres) nearest = Math.min(nearest, (x - alpha * u) ** 2 + (y - alpha * v) ** 2);
    for (const [u, v] of centres) {
      const far = (x - alpha * u) ** 2 + (y - alpha * v) ** 2 - nearest;
      const weight = Math.exp(-far / (2 * spread));
      total += weight;
      meanX += weight * u;
      meanY += weight * v;
    }
    const own = alpha * sd ** 2 / spread; // how far a component's mean of x0 follows x
    const [u, v] = [meanX / total, meanY / total];
    const log = Math.log(total / (centres.length * TURN * spread)) - nearest / (2 * spread);
    return { log, mean: [u + own * (x - alpha * u), v + own * (y - alpha * v)] };
  }

  /** The part within three standard deviations of one of whose centres the point lies, or -1. */
  partAt(x, y) {
    let best = -1, nearest = (3 * this.sd) ** 2;
    this.centres.forEach(([u, v], k) => {
      const far = (x - u) ** 2 + (y - v) ** 2;
      if (far < nearest) [best, nearest] = [this.part[k], far];
    });
    return best;
  }

  /** How points (n, 2) cover the parts: the share on each, how many hold half their fair share, the share on any. */
  cover(points) {
    const n = points.length / 2, shares = new Array(this.parts).fill(0);
    for (let i = 0; i < 2 * n; i += 2) {
      const part = this.partAt(points[i], points[i + 1]);
      if (part >= 0) shares[part] += 1 / n;
    }
    const held = shares.filter((share, k) => share >= this.share[k] / 2).length;
    return { shares, held, on: shares.reduce((a, b) => a + b, 0) };
  }

  /** n points of a cloud with no parts: a circle for the ring, else a Gaussian of the same mean and covariance. */
  featureless(n, random, circle) {
    const x = new Float64Array(2 * n);
    const [mx, my] = [0, 1].map((d) => this.centres.reduce((sum, c) => sum + c[d], 0) / this.centres.length);
    const moment = (d, e) => this.centres.reduce((sum, c) => sum + (c[d] - (d ? my : mx)) * (c[e] - (e ? my : mx)), 0)
      / this.centres.length + (d === e ? this.sd ** 2 : 0);
    const a = Math.sqrt(moment(0, 0)), b = moment(0, 1) / a, c = Math.sqrt(Math.max(0, moment(1, 1) - b * b));
    for (let i = 0; i < 2 * n; i += 2) {
      const [p, q, angle] = [random.normal(), random.normal(), TURN * random.uniform()];
      x[i] = circle ? 2 * Math.cos(angle) + this.sd * p : mx + a * p;
      x[i + 1] = circle ? 2 * Math.sin(angle) + this.sd * q : my + b * p + c * q;
    }
    return x;
  }
}

/** The logarithm of a kernel estimate of a density at x, y, from points (n, 2) with Gaussian kernels of one width. */
export function kernelLog(points, width, x, y) {
  let nearest = Infinity, total = 0;
  for (let i = 0; i < points.length; i += 2) {
    nearest = Math.min(nearest, (x - points[i]) ** 2 + (y - points[i + 1]) ** 2);
  }
  for (let i = 0; i < points.length; i += 2) {
    const far = (x - points[i]) ** 2 + (y - points[i + 1]) ** 2 - nearest;
    total += Math.exp(-far / (2 * width * width));
  }
  return Math.log(total / (points.length / 2 * TURN * width * width)) - nearest / (2 * width * width);
}
