// The laboratory in two dimensions, first part: perceptrons, their derivatives, Adam. All parts become one module.
//
// Our own and not @tensorflow/tfjs-core, weighed at batch 128 for a plain GAN of layers 2-64-64, in node on one core
// (4.22, its processor backend; its others need WebAssembly, which a policy with no eval forbids, or a graphics card):
//   tfjs-core and backend-cpu, minified    327 kB (91 kB compressed)    32 steps a second, no derivative of the
//                                          derivative of a leaky ReLU, which penalties need
//   ours: all parts with their comments    65 kB (20 kB compressed)    237 steps a second, exact
// Half of ours, the drawing and the controls, would stay with theirs too.
//
// As it stands, layers 2-48-48 at batch 128, steps a second of one core's time in headless Chromium on an EPYC, by
// tests/benchmarks/laboratory_speed.py: GAN 421, with R1 324, diffusion and flow matching 510; with three steps of the
// critic to one of G, WGAN clipped 203, with penalty 139. With all its pictures the page made 155 (GAN) beside eleven
// other tasks on two cores, which take from its slices of 22 ms and not from the pictures.

/** A stream of random numbers that a seed fixes (mulberry32), uniform and normal. */
export function randomStream(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  const fill = (n, draw) => Float64Array.from({ length: n }, draw);
  return { uniform, normal, uniforms: (n) => fill(n, uniform), normals: (n) => fill(n, normal) };
}

/**
 * C (m, n) = or += A (m, k) times B (k, n). A and B are read by strides, A[i * ai + p * ap] and B[p * bp + j * bj], so
 * that any of them may be transposed. Tiles of 3 by 3: nine sums and what they are made of fit the sixteen registers of
 * a processor, which 4 by 4 do not, and that is a seventh faster.
 */
export function product(C, A, B, m, k, n, ai, ap, bp, bj, add) {
  const m3 = m - (m % 3), n3 = n - (n % 3);
  if (!add) C.fill(0, 0, m * n);
  for (let i = 0; i < m3; i += 3) {
    for (let j = 0; j < n3; j += 3) {
      let c00 = 0, c01 = 0, c02 = 0, c10 = 0, c11 = 0, c12 = 0, c20 = 0, c21 = 0, c22 = 0;
      for (let p = 0, a = i * ai, b = j * bj; p < k; p++, a += ap, b += bp) {
        const b0 = B[b], b1 = B[b + bj], b2 = B[b + 2 * bj];
        let one = A[a];
        c00 += one * b0; c01 += one * b1; c02 += one * b2;
        one = A[a + ai];
        c10 += one * b0; c11 += one * b1; c12 += one * b2;
        one = A[a + 2 * ai];
        c20 += one * b0; c21 += one * b1; c22 += one * b2;
      }
      let c = i * n + j;
      C[c] += c00; C[c + 1] += c01; C[c + 2] += c02; c += n;
      C[c] += c10; C[c + 1] += c11; C[c + 2] += c12; c += n;
      C[c] += c20; C[c + 1] += c21; C[c + 2] += c22;
    }
  }
  for (let i = 0; i < m; i++) { // what the tiles leave over
    for (let j = i < m3 ? n3 : 0; j < n; j++) {
      let sum = 0;
      for (let p = 0, a = i * ai, b = j * bj; p < k; p++, a += ap, b += bp) sum += A[a] * B[b];
      C[i * n + j] += sum;
    }
  }
}

const SLOPE = 0.2; // of the leaky ReLU below zero

/**
 * A perceptron with leaky ReLU between its layers. Weights, gradient and Adam's averages are flat arrays; a layer's
 * weights (out, in) and bias (out) are views of them, in torch's order.
 */
export class Perceptron {
  constructor(sizes, random) {
    let size = 0;
    for (let l = 1; l < sizes.length; l++) size += (sizes[l - 1] + 1) * sizes[l];
    this.sizes = sizes;
    this.theta = new Float64Array(size);
    this.gradient = new Float64Array(size);
    this.first = new Float64Array(size);
    this.second = new Float64Array(size);
    this.time = 0;
    this.layers = [];
    for (let l = 1, at = 0; l < sizes.length; l++) {
      const [into, out] = [sizes[l - 1], sizes[l]];
      const end = at + into * out, views = (from) => [from.subarray(at, end), from.subarray(end, end + out)];
      const [W, b] = views(this.theta), [dW, db] = views(this.gradient);
      this.layers.push({ into, out, W, b, dW, db });
      at += (into + 1) * out;
      for (let i = 0; i < W.length; i++) W[i] = (2 * random.uniform() - 1) / Math.sqrt(into);
    }
    this.buffers = new Map();
  }

  /** Room for n rows: what each layer puts out, the derivatives by it, and tangents. */
  room(n) {
    if (!this.buffers.has(n)) {
      const rows = () => this.sizes.map((units) => new Float64Array(n * units));
      this.buffers.set(n, { values: rows(), deltas: rows(), tangents: rows() });
    }
    return this.buffers.get(n);
  }

  /** x (n, in) -> (n, out), a buffer that the next pass of n rows writes over. */
  forward(x, n) {
    const { values } = this.room(n);
    values[0] = x;
    this.layers.forEach(({ into, out, W, b }, l) => {
      const y = values[l + 1], last = l === this.layers.length - 1;
      product(y, values[l], W, n, into, out, into, 1, 1, into, false);
      for (let r = 0, i = 0; r < n; r++) {
        for (let j = 0; j < out; j++, i++) {
          const sum = y[i] + b[j];
          y[i] = last || sum > 0 ? sum : SLOPE * sum;
        }
      }
    });
    return values[this.layers.length];
  }

  /**
   * dy (n, out), the derivatives by the outputs of the last pass of n rows -> those by its inputs (n, in), or nothing
   * where inputs is false. Adds the derivatives by the weights to the gradient, unless weights is false.
   */
  backward(dy, n, { weights = true, inputs = true } = {}) {
    const { values, deltas } = this.room(n);
    deltas[this.layers.length] = dy;
    for (let l = this.layers.length - 1; l >= 0; l--) {
      const { into, out, W, dW, db } = this.layers[l], delta = deltas[l + 1];
      if (weights) {
        product(dW, delta, values[l], out, n, into, 1, out, into, 1, true);
        for (let r = 0, i = 0; r < n; r++) for (let j = 0; j < out; j++, i++) db[j] += delta[i];
      }
      if (l === 0 && !inputs) return null;
      product(deltas[l], delta, W, n, out, into, out, 1, into, 1, false);
      if (l > 0) bend(deltas[l], values[l], n * into);
    }
    return deltas[0];
  }

  /**
   * The second derivative that penalties on slopes need. After `backward(ones, n)` has given the slopes g (n, in), and
   * for u (n, in) = dP/dg, adds dP/dW to the gradient. Leaky ReLU is linear in pieces, so g = W1' M1 W2' M2 w3 with
   * masks M that do not move: u' g is a forward pass of u without biases, and dP/dW of a layer the product of what
   * `backward` brought to its outputs and of what that pass brings to its inputs. Exact, and zero for the biases.
   */
  backwardOfSlopes(u, n) {
    const { values, deltas, tangents } = this.room(n);
    tangents[0] = u;
    this.layers.forEach(({ into, out, W, dW }, l) => {
      product(dW, deltas[l + 1], tangents[l], out, n, into, 1, out, into, 1, true);
      if (l === this.layers.length - 1) return;
      product(tangents[l + 1], tangents[l], W, n, into, out, into, 1, 1, into, false);
      bend(tangents[l + 1], values[l + 1], n * out);
    });
  }

  /** One step of Adam (Kingma and Ba 2015) against the gradient, which is zero afterwards. */
  adam(rate, beta1, beta2) {
    const { theta, gradient, first, second } = this;
    this.time += 1;
    const step = rate / (1 - beta1 ** this.time), scale = 1 / Math.sqrt(1 - beta2 ** this.time);
    for (let i = 0; i < theta.length; i++) {
      const g = gradient[i];
      first[i] += (1 - beta1) * (g - first[i]);
      second[i] += (1 - beta2) * (g * g - second[i]);
      theta[i] -= step * first[i] / (scale * Math.sqrt(second[i]) + 1e-8);
    }
    gradient.fill(0);
  }

  clip(bound) {
    const { theta } = this;
    for (let i = 0; i < theta.length; i++) theta[i] = Math.min(bound, Math.max(-bound, theta[i]));
  }
}

/** The leaky ReLU's derivative, told by the sign of what it put out. */
function bend(delta, value, length) {
  for (let i = 0; i < length; i++) if (value[i] <= 0) delta[i] *= SLOPE;
}
