// A trained network runs here: `load` a program that genmed_core.widgets.compile wrote, `run` it on typed arrays.
//
//   makeEngine  OPS and the run over a program's registers. It names nothing from outside of itself, so that its own
//               text is also the worker's: no second file, no build step, no eval.
//   startEngine the same in a worker; where a page refuses workers, on the page, a slice at a time.
//
// Convolutions, linear layers and products of matrices are one matrix product in tiles of 4 x 4: the numbers under four
// outputs are gathered once, and each of them serves four channels from a register. Buffers are made when a program is
// loaded, and nothing is allocated while it runs. An operation is done for one image of the batch after the other.
//
// Why not onnxruntime-web? One pass of chapter 8's U-Net, 19 million multiply-adds, as measured by
// tests/benchmarks/engine.py --core 1 in headless Chromium on one core of an Intel Xeon, median of 40 passes and best:
//   this file                          15 ms, 13 ms    0.02 MB; plain JavaScript, for any policy that lets it load
//   onnxruntime-web 1.30, one thread   11 ms,  3 ms   14.3  MB; does not start without 'wasm-unsafe-eval'
// A guided digit in 25 steps takes 1.2 s here, a latent film of 64 pixels with every step decoded 4.0 s, so its speed
// would buy nothing.

export function makeEngine() {
  const SCRATCH = new DataView(new ArrayBuffer(4));

  /** One IEEE half, as its 16 bits, to a number. Float16Array is too new to rely on. */
  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    SCRATCH.setUint32(0, ((bits & 0x8000) << 16) | ((exponent + 112) << 23) | (fraction << 13));
    return SCRATCH.getFloat32(0);
  }

  const size = (shape) => shape.reduce((a, b) => a * b, 1);

  /** The constants of a program by register, out of a DataView of its weights. Twin of `unpacked` in twin.py. */
  function unpack(registers, view) {
    const found = {};
    let at = 0;
    const float = () => { at += 4; return view.getFloat32(at - 4, true); };
    const byte = () => view.getInt8(at++);
    const short = () => { at += 2; return half(view.getUint16(at - 2, true)); };
    registers.forEach(({ shape, data, block = size(shape) / (shape[0] ?? 1) }, k) => { // a row shares a scale by default
      if (!data) return;
      const values = new Float32Array(size(shape));
      const scale = data === "<i1" ? Float32Array.from({ length: Math.ceil(values.length / block) }, float) : null;
      const next = data === "<f4" ? float : data === "<f2" ? short : byte;
      for (let i = 0; i < values.length; i++) values[i] = next() * (scale ? scale[Math.floor(i / block)] : 1);
      found[k] = values;
    });
    return found;
  }

  // --- the matrix product -------------------------------------------------------------------------------------------

  const roundUp = (n) => 4 * Math.ceil(n / 4);
  let panel = new Float32Array(4); // the numbers under four outputs
  let left = new Float32Array(4); // a left factor that is no constant, packed

  /** Rows of a matrix, w[row * rowStep + r * step], in fours: what the product reads of four rows lies together. */
  function pack(w, rows, R, rowStep, step, from, packed) {
    for (let k = 0, o = 0; k < rows; k += 4) for (let r = 0; r < R; r++) for (let i = 0; i < 4; i++) {
      packed[o++] = k + i < rows ? w[from + (k + i) * rowStep + r * step] : 0;
    }
    return packed;
  }

  /** out[to + k * stepK + n * stepN] = bias[k] + sum over r of W[k][r] x[taps[r] + bases[n]], for K rows, N columns. */
  function product(W, K, R, x, taps, bases, N, bias, biasFrom, out, to, stepK, stepN) {
    if (panel.length < 4 * R) panel = new Float32Array(4 * R);
    const p = panel;
    for (let n = 0; n < N; n += 4) {
      const n1 = Math.min(n + 1, N - 1), n2 = Math.min(n + 2, N - 1), n3 = Math.min(n + 3, N - 1);
      const b0 = bases[n], b1 = bases[n1], b2 = bases[n2], b3 = bases[n3];
      for (let r = 0, o = 0; r < R; r++, o += 4) {
        const tap = taps[r];
        p[o] = x[tap + b0];
        p[o + 1] = x[tap + b1];
        p[o + 2] = x[tap + b2];
        p[o + 3] = x[tap + b3];
      }
      for (let k = 0, w = 0; k < K; k += 4) {
        let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
        let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
        for (let o = 0; o < 4 * R; o += 4, w += 4) {
          const x0 = p[o], x1 = p[o + 1], x2 = p[o + 2], x3 = p[o + 3];
          let a = W[w];
          s00 += a * x0; s01 += a * x1; s02 += a * x2; s03 += a * x3;
          a = W[w + 1];
          s10 += a * x0; s11 += a * x1; s12 += a * x2; s13 += a * x3;
          a = W[w + 2];
          s20 += a * x0; s21 += a * x1; s22 += a * x2; s23 += a * x3;
          a = W[w + 3];
          s30 += a * x0; s31 += a * x1; s32 += a * x2; s33 += a * x3;
        }
        const columns = N - n;
        for (let i = 0; i < 4 && k + i < K; i++) {
          const b = bias ? bias[biasFrom + k + i] : 0, at = to + (k + i) * stepK + n * stepN;
          out[at] = b + (i === 0 ? s00 : i === 1 ? s10 : i === 2 ? s20 : s30);
          if (columns > 1) out[at + stepN] = b + (i === 0 ? s01 : i === 1 ? s11 : i === 2 ? s21 : s31);
          if (columns > 2) out[at + 2 * stepN] = b + (i === 0 ? s02 : i === 1 ? s12 : i === 2 ? s22 : s32);
          if (columns > 3) out[at + 3 * stepN] = b + (i === 0 ? s03 : i === 1 ? s13 : i === 2 ? s23 : s33);
        }
      }
    }
  }

  /** The same for one column that lies in a row: out[to + k] = bias[k] + W[k] . x. */
  function vectorProduct(W, K, R, x, bias, out) {
    for (let k = 0, w = 0; k < K; k += 4) {
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
      for (let r = 0; r < R; r++, w += 4) {
        const a = x[r];
        s0 += W[w] * a; s1 += W[w + 1] * a; s2 += W[w + 2] * a; s3 += W[w + 3] * a;
      }
      for (let i = 0; i < 4 && k + i < K; i++) {
        out[k + i] = (bias ? bias[k + i] : 0) + (i === 0 ? s0 : i === 1 ? s1 : i === 2 ? s2 : s3);
      }
    }
  }

  const places = (n, step) => Int32Array.from({ length: n }, (_, i) => i * step);

  // --- operations ---------------------------------------------------------------------------------------------------
  // Each is given its settings, its values before and after (Float32Arrays that stay where they are), their shapes, and
  // `once`, which makes what does not depend on the image a single time; it returns the function that computes.

  function conv(op, [x, w, bias], y, [[, C, H, V], [K, c, kh, kw]], [, , Ho, Vo], once) {
    const { stride: [sy, sx], padding: [py, px], dilation: [dy, dx], groups } = op;
    const Hp = H + 2 * py, Vp = V + 2 * px, N = Ho * Vo, R = c * kh * kw, k = K / groups;
    const padded = py || px ? once("padded", () => new Float32Array(C * Hp * Vp)) : x;
    const packed = once("packed", () => Array.from({ length: groups }, (_, g) => (
      pack(w, k, R, R, 1, g * k * R, new Float32Array(roundUp(k) * R)))));
    const tap = (g, r) => {
      const [channel, i, j] = [Math.floor(r / (kh * kw)), Math.floor(r / kw) % kh, r % kw];
      return ((g * c + channel) * Hp + i * dy) * Vp + j * dx;
    };
    const base = (n) => Math.floor(n / Vo) * sy * Vp + (n % Vo) * sx;
    const taps = once("taps", () => Array.from({ length: groups }, (_, g) => (
      Int32Array.from({ length: R }, (__, r) => tap(g, r)))));
    const bases = once("bases", () => Int32Array.from({ length: N }, (_, n) => base(n)));
    return () => {
      if (padded !== x) {
        for (let row = 0; row < C * H; row++) {
          const to = (Math.floor(row / H) * Hp + (row % H) + py) * Vp + px;
          for (let i = 0; i < V; i++) padded[to + i] = x[row * V + i];
        }
      }
      for (let g = 0; g < groups; g++) {
        product(packed[g], k, R, padded, taps[g], bases, N, bias, g * k, y, g * k * N, N, 1);
      }
    };
  }

  /** A product to one number for each output channel, kernel place and input pixel; then these are added up. */
  function convTranspose(op, [x, w, bias], y, [[, C, H, V], [, K, kh, kw]], [, , Ho, Vo], once) {
    const { stride: [sy, sx], padding: [py, px] } = op, rows = K * kh * kw, N = H * V;
    const packed = once("packed", () => pack(w, rows, C, 1, rows, 0, new Float32Array(roundUp(rows) * C)));
    const taps = once("taps", () => places(C, N)), bases = once("bases", () => places(N, 1));
    const parts = once("parts", () => new Float32Array(rows * N));
    return () => {
      product(packed, rows, C, x, taps, bases, N, null, 0, parts, 0, N, 1);
      for (let k = 0; k < K; k++) {
        y.fill(bias ? bias[k] : 0, k * Ho * Vo, (k + 1) * Ho * Vo);
        for (let i = 0; i < kh; i++) for (let j = 0; j < kw; j++) for (let r = 0; r < H; r++) {
          const row = r * sy + i - py, from = ((k * kh + i) * kw + j) * N + r * V, to = (k * Ho + row) * Vo;
          if (row < 0 || row >= Ho) continue;
          for (let q = 0; q < V; q++) {
            const column = q * sx + j - px;
            if (column >= 0 && column < Vo) y[to + column] += parts[from + q];
          }
        }
      }
    };
  }

  function linear(op, [x, w, bias], y, [, [O, I]], shape, once) {
    const M = x.length / I, packed = once("packed", () => pack(w, O, I, I, 1, 0, new Float32Array(roundUp(O) * I)));
    if (M === 1) return () => vectorProduct(packed, O, I, x, bias, y);
    const taps = once("taps", () => places(I, 1)), bases = once("bases", () => places(M, I));
    return () => product(packed, O, I, x, taps, bases, M, bias, 0, y, 0, 1, O);
  }

  /** a (..., M, R) times b (..., R, N), `batch` of them. */
  function matmul(op, [a, b], y, [A, B], shape, once) {
    const [M, R] = A.slice(-2), N = B.at(-1);
    const taps = once("taps", () => places(R, N));
    const bases = once("bases", () => Array.from({ length: op.batch }, (_, k) => (
      places(N, 1).map((n) => n + k * R * N))));
    return () => {
      if (left.length < roundUp(M) * R) left = new Float32Array(roundUp(M) * R);
      for (let k = 0; k < op.batch; k++) {
        pack(a, M, R, R, 1, k * M * R, left);
        product(left, M, R, b, taps, bases[k], N, null, 0, y, k * M * N, N, 1);
      }
    };
  }

  /** Each n values to mean 0 and spread 1; then `per` values after another share a weight and a shift. */
  function normalise(op, [x, w, b], y) {
    const { n, per, eps } = op, rescale = w ? affine(op, [y, w, b], y) : () => {};
    return () => {
      for (let from = 0; from < x.length; from += n) {
        let mean = 0, variance = 0;
        for (let i = from; i < from + n; i++) mean += x[i];
        mean /= n;
        for (let i = from; i < from + n; i++) variance += (x[i] - mean) * (x[i] - mean);
        const scale = 1 / Math.sqrt(variance / n + eps);
        for (let i = from; i < from + n; i++) y[i] = (x[i] - mean) * scale;
      }
      rescale(per);
    };
  }

  function affine({ per }, [x, w, b], y) {
    return () => {
      for (let from = 0, k = 0; from < x.length; from += per, k = (k + 1) % w.length) {
        const scale = w[k], shift = b[k];
        for (let i = from; i < from + per; i++) y[i] = scale * x[i] + shift;
      }
    };
  }

  function pool({ kind, kernel: [kh, kw], stride: [sy, sx], padding: [py, px] }, [x], y, [[, C, H, V]], [, , Ho, Vo]) {
    const most = kind === "max";
    return () => {
      for (let c = 0, o = 0; c < C; c++) for (let r = 0; r < Ho; r++) for (let q = 0; q < Vo; q++) {
        let value = most ? -Infinity : 0;
        for (let i = Math.max(0, py - r * sy); i < kh && r * sy + i - py < H; i++) {
          for (let j = Math.max(0, px - q * sx); j < kw && q * sx + j - px < V; j++) {
            const one = x[(c * H + r * sy + i - py) * V + q * sx + j - px];
            value = most ? Math.max(value, one) : value + one / (kh * kw);
          }
        }
        y[o++] = value;
      }
    };
  }

  /** Where, in an operand of the given strides, each of the output's runs begins; a run is the last dimension. */
  function starts(dims, strides, offset = 0) {
    let found = [offset];
    dims.slice(0, -1).forEach((n, d) => {
      found = found.flatMap((at) => Array.from({ length: n }, (_, i) => at + i * strides[d]));
    });
    return Int32Array.from(found);
  }

  function copy({ dims, strides, offset }, [x], y, shapes, shape, once) {
    const from = once("from", () => starts(dims, strides, offset)), n = dims.at(-1), step = strides.at(-1);
    return () => {
      for (let k = 0, o = 0; k < from.length; k++) for (let i = 0, at = from[k]; i < n; i++, at += step) y[o++] = x[at];
    };
  }

  /** An operation of two values; an operand's stride is 0 where it is repeated. */
  const ofTwo = (run) => ({ dims, strides: [a, b] }, [x, z], y, shapes, shape, once) => {
    const from = once("from", () => [starts(dims, a), starts(dims, b)]), n = dims.at(-1), u = a.at(-1), v = b.at(-1);
    return () => { for (let k = 0; k < from[0].length; k++) run(x, from[0][k], u, z, from[1][k], v, y, k * n, n); };
  };
  const add = (x, i, u, z, j, v, y, o, n) => {
    for (const end = o + n; o < end; o++, i += u, j += v) y[o] = x[i] + z[j];
  };
  const sub = (x, i, u, z, j, v, y, o, n) => {
    for (const end = o + n; o < end; o++, i += u, j += v) y[o] = x[i] - z[j];
  };
  const mul = (x, i, u, z, j, v, y, o, n) => {
    for (const end = o + n; o < end; o++, i += u, j += v) y[o] = x[i] * z[j];
  };
  const div = (x, i, u, z, j, v, y, o, n) => {
    for (const end = o + n; o < end; o++, i += u, j += v) y[o] = x[i] / z[j];
  };

  function cat({ inner }, parts, y) {
    const row = inner.reduce((a, b) => a + b, 0);
    return () => {
      let at = 0;
      parts.forEach((x, p) => {
        const n = inner[p];
        for (let i = 0, o = at; i < x.length; i += n, o += row) for (let j = 0; j < n; j++) y[o + j] = x[i + j];
        at += n;
      });
    };
  }

  function pad({ pad: [l, , top], value }, [x], y, [[, C, H, V]], [, , Ho, Vo]) {
    return () => {
      y.fill(value);
      for (let c = 0; c < C; c++) for (let r = Math.max(0, -top); r < H && r + top < Ho; r++) {
        const to = (c * Ho + r + top) * Vo + l, from = (c * H + r) * V;
        for (let q = Math.max(0, -l); q < V && q + l < Vo; q++) y[to + q] = x[from + q];
      }
    };
  }

  function softmax({ n }, [x], y) {
    return () => {
      for (let from = 0; from < x.length; from += n) {
        let most = -Infinity, total = 0;
        for (let i = from; i < from + n; i++) most = Math.max(most, x[i]);
        for (let i = from; i < from + n; i++) total += y[i] = Math.exp(x[i] - most);
        for (let i = from; i < from + n; i++) y[i] /= total;
      }
    };
  }

  /** One number of each n that lie in a row. */
  const ofEach = (f) => (op, [x], y) => () => {
    for (let k = 0; k < y.length; k++) y[k] = f(x, k * op.n, (k + 1) * op.n, op);
  };
  const total = (x, from, to) => { let sum = 0; for (let i = from; i < to; i++) sum += x[i]; return sum; };
  const amax = (x, from, to) => {
    let most = -Infinity;
    for (let i = from; i < to; i++) most = Math.max(most, x[i]);
    return most;
  };
  const amin = (x, from, to) => {
    let least = Infinity;
    for (let i = from; i < to; i++) least = Math.min(least, x[i]);
    return least;
  };
  const variance = (x, from, to, op) => {
    const mean = total(x, from, to) / op.n;
    let sum = 0;
    for (let i = from; i < to; i++) sum += (x[i] - mean) ** 2;
    return sum / (op.n - op.correction);
  };
  const logsumexp = (x, from, to) => {
    const most = amax(x, from, to);
    let sum = 0;
    for (let i = from; i < to; i++) sum += Math.exp(x[i] - most);
    return most + Math.log(sum);
  };

  /** erf to 1.5e-7: Abramowitz and Stegun 1964, formula 7.1.26. */
  function erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return Math.sign(x) * (1 - poly * Math.exp(-x * x));
  }

  const gather = (op, [x, index], y) => () => {
    const rows = x.length / y.length;
    for (let k = 0; k < y.length; k++) y[k] = x[k * rows + index[k]];
  };
  const embedding = (op, [w, index], y) => () => {
    const n = y.length / index.length;
    for (let k = 0; k < y.length; k++) y[k] = w[index[Math.floor(k / n)] * n + (k % n)];
  };
  const oneHot = ({ n }, [index], y) => () => {
    y.fill(0);
    for (let k = 0; k < index.length; k++) y[k * n + index[k]] = 1;
  };
  const pointwise = (f) => (op, [x], y) => () => { for (let i = 0; i < y.length; i++) y[i] = f(x[i], op); };

  const OPS = {
    conv, linear, matmul, normalise, affine, pool, copy, cat, pad, softmax, embedding, gather,
    conv_transpose: convTranspose,
    one_hot: oneHot,
    add: ofTwo(add),
    sub: ofTwo(sub),
    mul: ofTwo(mul),
    div: ofTwo(div),
    rsub: ofTwo((x, i, u, z, j, v, y, o, n) => sub(z, j, v, x, i, u, y, o, n)),
    mean: ofEach((x, from, to, op) => total(x, from, to) / op.n),
    sum: ofEach(total),
    amax: ofEach(amax),
    amin: ofEach(amin),
    logsumexp: ofEach(logsumexp),
    var: ofEach(variance),
    std: ofEach((...x) => Math.sqrt(variance(...x))),
    scale: pointwise((x, op) => op.factor * x + op.shift),
    tanh: pointwise(Math.tanh),
    sigmoid: pointwise((x) => 1 / (1 + Math.exp(-x))),
    relu: pointwise((x) => (x > 0 ? x : 0)),
    leaky_relu: pointwise((x, op) => (x > 0 ? x : op.slope * x)),
    elu: pointwise((x, op) => (x > 0 ? x : op.alpha * Math.expm1(x))),
    silu: pointwise((x) => x / (1 + Math.exp(-x))),
    gelu: pointwise((x) => 0.5 * x * (1 + erf(x / Math.SQRT2))),
    gelu_tanh: pointwise((x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)))),
    clamp: pointwise((x, op) => Math.min(Math.max(x, op.low), op.high)),
    floor_divide: pointwise((x, op) => Math.floor(x / op.by)),
    power: pointwise((x, op) => x ** op.exponent),
    exp: pointwise(Math.exp),
    log: pointwise(Math.log),
    sin: pointwise(Math.sin),
    cos: pointwise(Math.cos),
    sqrt: pointwise(Math.sqrt),
    rsqrt: pointwise((x) => 1 / Math.sqrt(x)),
    abs: pointwise(Math.abs),
    reciprocal: pointwise((x) => 1 / x),
  };

  // --- a program ----------------------------------------------------------------------------------------------------

  /**
   * A program, ready to run. graph, weights: of a Program, the weights as a DataView.
   * steps(inputs) is a generator that does one operation after another and returns the outputs; run(inputs) does all.
   * inputs: { name: numbers }, each of B images after one another. Returns a Float32Array for each output, B after one
   * another, which is the caller's to keep.
   */
  function load(graph, weights) {
    const { registers, ops, inputs, outputs } = graph, constants = unpack(registers, weights);
    const shared = ops.map(() => ({})), images = [];

    /** The registers of one more image, and its operations bound to them. */
    function prepare() {
      const values = [];
      registers.forEach(({ shape, view }, k) => {
        values[k] = constants[k] ?? (view ? null : new Float32Array(size(shape)));
      });
      const value = (k) => {
        const { shape, view } = registers[k];
        return (values[k] ??= value(view[0]).subarray(view[1], view[1] + size(shape)));
      };
      const computes = ops.map((op, i) => {
        const once = (name, make) => (shared[i][name] ??= make());
        if (!OPS[op.op]) throw new Error(`the browser has no operation ${op.op}`);
        return OPS[op.op](op, op.in.map(value), value(op.out), op.in.map((k) => registers[k].shape),
                          registers[op.out].shape, once);
      });
      return { value, computes };
    }

    function* steps(given) {
      const [first] = Object.keys(inputs), B = given[first].length / size(registers[inputs[first]].shape);
      while (images.length < B) images.push(prepare());
      for (const [name, k] of Object.entries(inputs)) {
        const n = size(registers[k].shape), numbers = given[name];
        if (numbers?.length !== B * n) throw new Error(`${name} needs ${n} numbers an image`);
        for (let b = 0; b < B; b++) for (let i = 0; i < n; i++) images[b].value(k)[i] = numbers[b * n + i];
      }
      for (let i = 0; i < ops.length; i++) {
        for (let b = 0; b < B; b++) images[b].computes[i]();
        yield i;
      }
      return outputs.map((k) => {
        const n = size(registers[k].shape), all = new Float32Array(B * n);
        for (let b = 0; b < B; b++) all.set(images[b].value(k), b * n);
        return all;
      });
    }

    const run = (given) => {
      const going = steps(given);
      for (;;) {
        const { done, value } = going.next();
        if (done) return value;
      }
    };
    return { run, steps };
  }

  return { load, OPS };
}

// --- in a worker ----------------------------------------------------------------------------------------------------

function answerInWorker(makeEngine) {
  const { load } = makeEngine(), loaded = new Map();
  onmessage = ({ data: { id, key, graph, weights, inputs } }) => {
    try {
      if (graph) loaded.set(key, load(graph, new DataView(weights)));
      postMessage({ id, result: inputs && loaded.get(key).run(inputs) });
    } catch (error) {
      postMessage({ id, error: error.message });
    }
  };
  postMessage({ id: "ready" });
}

const pause = () => new Promise((resume) => { setTimeout(resume); });

/** A worker that says it is ready, or null where the page has none to give. */
function startWorker() {
  return new Promise((settle) => {
    let worker = null;
    try {
      const source = `(${answerInWorker})(${makeEngine})`;
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      worker = new Worker(url);
      worker.addEventListener("message", () => { URL.revokeObjectURL(url); settle(worker); }, { once: true });
      worker.addEventListener("error", () => settle(null), { once: true });
      setTimeout(settle, 5000, null);
    } catch {
      settle(null);
    }
  });
}

/**
 * An engine for a page: `const net = engine.load(graph, weights); const [x] = await net.run({ x: numbers })`, as above,
 * but in a worker, and net.run returns a promise. engine.where is "worker" or "page" once the first run is through.
 * close() ends the worker.
 */
export function startEngine({ inWorker = true } = {}) {
  const ready = inWorker ? startWorker() : Promise.resolve(null), waiting = new Map();
  let last = 0;
  const engine = { where: null, load, close };
  ready.then((worker) => {
    engine.where = worker ? "worker" : "page";
    worker?.addEventListener("message", ({ data: { id, result, error } }) => {
      const { resolve, reject } = waiting.get(id) ?? {};
      waiting.delete(id);
      if (error) reject?.(new Error(error));
      else resolve?.(result);
    });
  });

  function ask(worker, message) {
    const id = (last += 1);
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      worker.postMessage({ id, ...message });
    });
  }

  function load(graph, weights) {
    const key = (last += 1);
    const loading = ready.then((worker) => {
      if (!worker) return makeEngine().load(graph, weights);
      const { buffer, byteOffset, byteLength } = weights;
      return ask(worker, { key, graph, weights: buffer.slice(byteOffset, byteOffset + byteLength) });
    });
    const run = async (inputs) => {
      const local = await loading;
      return local ? inSlices(local.steps(inputs)) : ask(await ready, { key, inputs });
    };
    return { run };
  }

  async function close() {
    (await ready)?.terminate();
  }

  return engine;
}

/** A program on the page itself: whenever 20 ms have gone, the page may answer its reader. */
async function inSlices(going) {
  for (let began = performance.now(); ;) {
    const { done, value } = going.next();
    if (done) return value;
    if (performance.now() - began > 20) {
      await pause();
      began = performance.now();
    }
  }
}
