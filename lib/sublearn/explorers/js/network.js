// A network of two hidden layers with two heads: products, outputs, gradients and Adam, in float64.
//
// Matrices are Float64Array, row by row, in a workspace of product.js that comes with the network.

import { key, normal } from "./random.js";

export const PARTS = ["hidden0", "hidden1", "class_head", "aux_head"];
export const CLASSES = 10;
export const PIXELS = 64;

function shape(part, width, auxDim) {
  return { hidden0: [PIXELS, width], hidden1: [width, width], class_head: [width, CLASSES], aux_head: [width, auxDim] }[
    part
  ];
}

// Weights drawn from N(0, 1/fan_in), biases zero. A column keeps its draws whatever the number of columns is.
export function initial(space, seed, use, width, auxDim) {
  const network = { space, width, auxDim };
  for (const part of PARTS) {
    const [rows, columns] = shape(part, width, auxDim);
    const stream = key(seed, use, PARTS.indexOf(part));
    const weight = space.zeros(rows * columns);
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) weight[i * columns + j] = normal(stream, j * rows + i) / Math.sqrt(rows);
    }
    network[part] = { weight, bias: new Float64Array(columns), rows, columns };
  }
  return network;
}

// A copy; `mix(part)` gives another network and its share p, for sqrt(1 - p^2) mine + p its.
export function copy(network, mix = () => null) {
  const made = { space: network.space, width: network.width, auxDim: network.auxDim };
  for (const part of PARTS) {
    const { weight, bias, rows, columns } = network[part];
    const [other, p] = mix(part) || [network, 0];
    const kept = Math.sqrt(1 - p * p);
    const mixed = network.space.zeros(weight.length);
    mixed.set(weight.map((value, place) => kept * value + p * other[part].weight[place]));
    made[part] = { weight: mixed, bias: bias.slice(), rows, columns };
  }
  return made;
}

// Buffers for the activations and the gradients of `batch` rows.
export function buffers(network, batch) {
  const { width, space } = network;
  const made = { batch, first: space.zeros(batch * width), second: space.zeros(batch * width), gradient: {} };
  made.back = [space.zeros(batch * width), space.zeros(batch * width)];
  made.turned = space.zeros(width * Math.max(width, CLASSES, network.auxDim));
  for (const head of ["class_head", "aux_head"]) made[head] = space.zeros(batch * network[head].columns);
  made.error = space.zeros(batch * Math.max(CLASSES, network.auxDim));
  for (const part of PARTS) {
    const { rows, columns } = network[part];
    made.gradient[part] = { weight: space.zeros(rows * columns), bias: new Float64Array(columns) };
  }
  return made;
}

function affine(space, out, inputs, layer, batch, relu) {
  const { weight, bias, rows, columns } = layer;
  space.multiply(out, inputs, rows, 1, weight, batch, rows, columns);
  for (let i = 0, at = 0; i < batch; i++) {
    for (let j = 0; j < columns; j++, at++) {
      const value = out[at] + bias[j];
      out[at] = relu && value < 0 ? 0 : value;
    }
  }
}

// Fill `buffers` with both hidden layers and the named heads, for inputs (batch x 64).
export function forward(network, inputs, buffers, heads) {
  const { space } = network;
  affine(space, buffers.first, inputs, network.hidden0, buffers.batch, true);
  affine(space, buffers.second, buffers.first, network.hidden1, buffers.batch, true);
  for (const head of heads) affine(space, buffers[head], buffers.second, network[head], buffers.batch, false);
}

function layerGradient(space, gradient, inputs, error, layer, batch) {
  const { rows, columns } = layer;
  space.multiply(gradient.weight, inputs, 1, rows, error, rows, batch, columns);
  gradient.bias.fill(0);
  for (let i = 0, at = 0; i < batch; i++) for (let j = 0; j < columns; j++, at++) gradient.bias[j] += error[at];
}

function through(space, out, error, layer, active, buffers) {
  const { weight, rows, columns } = layer;
  for (let i = 0, at = 0; i < rows; i++)
    for (let j = 0; j < columns; j++, at++) buffers.turned[j * rows + i] = weight[at];
  space.multiply(out, error, columns, 1, buffers.turned, buffers.batch, columns, rows);
  for (let at = 0; at < buffers.batch * rows; at++) if (active[at] <= 0) out[at] = 0;
}

// Gradients of all that lies before `head`, from the derivative of the loss by its logits (in buffers.error).
export function backward(network, inputs, buffers, head) {
  const { space } = network;
  const { batch, gradient, error, back } = buffers;
  layerGradient(space, gradient[head], buffers.second, error, network[head], batch);
  through(space, back[1], error, network[head], buffers.second, buffers);
  layerGradient(space, gradient.hidden1, buffers.first, back[1], network.hidden1, batch);
  through(space, back[0], back[1], network.hidden1, buffers.first, buffers);
  layerGradient(space, gradient.hidden0, inputs, back[0], network.hidden0, batch);
}

function softmax(logits, start, columns, out) {
  let top = -Infinity,
    sum = 0;
  for (let j = 0; j < columns; j++) top = Math.max(top, logits[start + j]);
  for (let j = 0; j < columns; j++) sum += out[j] = Math.exp(logits[start + j] - top);
  for (let j = 0; j < columns; j++) out[j] /= sum;
}

// Each loss puts its derivative by the logits into buffers.error and returns its mean over the batch.
export function crossEntropy(buffers, labels) {
  const p = new Float64Array(CLASSES);
  let loss = 0;
  for (let i = 0; i < buffers.batch; i++) {
    softmax(buffers.class_head, i * CLASSES, CLASSES, p);
    loss -= Math.log(p[labels[i]]);
    for (let j = 0; j < CLASSES; j++) buffers.error[i * CLASSES + j] = (p[j] - (j === labels[i])) / buffers.batch;
  }
  return loss / buffers.batch;
}

export function squaredError(buffers, targets, columns) {
  let loss = 0;
  for (let at = 0; at < buffers.batch * columns; at++) {
    const gap = buffers.aux_head[at] - targets[at];
    loss += gap * gap;
    buffers.error[at] = (2 * gap) / (buffers.batch * columns);
  }
  return loss / (buffers.batch * columns);
}

export function divergence(buffers, targets, columns) {
  const p = new Float64Array(columns),
    q = new Float64Array(columns);
  let loss = 0;
  for (let i = 0; i < buffers.batch; i++) {
    softmax(targets, i * columns, columns, p);
    softmax(buffers.aux_head, i * columns, columns, q);
    for (let j = 0; j < columns; j++) {
      loss += p[j] * Math.log(p[j] / q[j]);
      buffers.error[i * columns + j] = (q[j] - p[j]) / buffers.batch;
    }
  }
  return loss / buffers.batch;
}

// The state of Adam for the named parts.
export function adam(network, parts) {
  const optimizer = { step: 0, parts };
  for (const part of parts) {
    const { weight, bias } = network[part];
    optimizer[part] = [weight, bias].map((values) => [
      new Float64Array(values.length),
      new Float64Array(values.length),
    ]);
  }
  return optimizer;
}

// One step of Adam (0.9, 0.999, 1e-8), in place.
export function update(network, gradient, optimizer, rate) {
  optimizer.step += 1;
  const size = rate / (1 - 0.9 ** optimizer.step),
    scale = 1 / Math.sqrt(1 - 0.999 ** optimizer.step);
  for (const part of optimizer.parts) {
    for (const [place, what] of ["weight", "bias"].entries()) {
      const values = network[part][what],
        slope = gradient[part][what],
        [mean, square] = optimizer[part][place];
      for (let at = 0; at < values.length; at++) {
        const g = slope[at];
        const m = (mean[at] = 0.9 * mean[at] + 0.1 * g);
        const v = (square[at] = 0.999 * square[at] + 0.001 * g * g);
        values[at] -= (size * m) / (Math.sqrt(v) * scale + 1e-8);
      }
    }
  }
}
