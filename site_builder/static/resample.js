// Images as the models' preprocessing has them (pipeline/models/preprocess.py): the short side to the input's, the centre
// cut out, each pixel the weighted mean of those that it covers. A canvas weighs otherwise in each browser; here the
// weights, and how sums are rounded, are Pillow's, so that both give the same bytes. Pure: no document.

/** Filters: how far each reaches at the image's own size, and its weight at a distance. After the formulas by which Pillow names them. */
const FILTERS = {
  bilinear: { reach: 1, weight: (/** @type {number} */ x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, weight: cubic },
  lanczos: { reach: 3, weight: (/** @type {number} */ x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
};
const SHARPNESS = -0.5; // of the cubic
const BITS = 22; // after the point, of a weight: what 32 leave beside 8 of a pixel and 2 of sums

function cubic(/** @type {number} */ at) {
  const x = Math.abs(at);
  if (x < 1) return ((SHARPNESS + 2) * x - (SHARPNESS + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * SHARPNESS : 0;
}

const sinc = (/** @type {number} */ x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** Python's round: halves go to the even neighbour. */
const even = (/** @type {number} */ x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

/** Size to which an image is resized, and left and top of what is cut out of it, so that it fills (height, width). */
export function fitted(/** @type {number} */ from_width, /** @type {number} */ from_height, /** @type {number} */ width, /** @type {number} */ height) {
  const scale = Math.max(height / from_height, width / from_width);
  const whole = [Math.max(width, even(from_width * scale)), Math.max(height, even(from_height * scale))];
  return { width: whole[0], height: whole[1], left: Math.floor((whole[0] - width) / 2), top: Math.floor((whole[1] - height) / 2) };
}

/**
 * For each of some output pixels along one axis: the first input pixel that it covers, how many, and their weights.
 * @param {number} from pixels of the input @param {number} to pixels of the whole output
 * @param {number} first @param {number} count of the output pixels that are wanted
 * @param {string} method
 */
function covering(from, to, first, count, method) {
  const { reach, weight } = FILTERS[method];
  const scale = from / to, wide = Math.max(scale, 1), support = reach * wide;
  return Array.from({ length: count }, (_, index) => {
    const centre = (first + index + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = Array.from({ length: end - begin }, (_, at) => weight((begin + at - centre + 0.5) / wide));
    const sum = weights.reduce((all, one) => all + one, 0);
    const fixed = weights.map((one) => { const value = (one / sum) * 2 ** BITS; return Math.trunc(value + (value < 0 ? -0.5 : 0.5)); });
    return { begin, weights: Int32Array.from(fixed) };
  });
}

/** The nearest pixel of each output pixel along one axis; places are summed up step by step, as Pillow does. */
function nearest(/** @type {number} */ from, /** @type {number} */ to, /** @type {number} */ first, /** @type {number} */ count) {
  const step = from / to, found = [];
  for (let index = 0, place = step / 2; index < first + count; index++, place += step) found.push({ begin: Math.trunc(place), weights: Int32Array.of(2 ** BITS) });
  return found.slice(first);
}

/**
 * The centre of an image as a model takes it.
 * @param {Uint8ClampedArray|Uint8Array} rgba of the image, opaque, row by row
 * @param {number} from_width @param {number} from_height
 * @param {number} width @param {number} height of the model's input
 * @param {string} method bilinear, bicubic, lanczos or nearest; others stand for bicubic
 * @returns {Uint8Array} (height, width, 3)
 */
export function centreOf(rgba, from_width, from_height, width, height, method) {
  const whole = fitted(from_width, from_height, width, height);
  const kind = method === "nearest" || method in FILTERS ? method : "bicubic";
  const axis = kind === "nearest" ? nearest : (from, to, first, count) => (from === to
    ? Array.from({ length: count }, (_, at) => ({ begin: first + at, weights: Int32Array.of(2 ** BITS) })) : covering(from, to, first, count, kind));
  const across = axis(from_width, whole.width, whole.left, width), down = axis(from_height, whole.height, whole.top, height);
  const top = down[0].begin, bottom = Math.max(...down.map(({ begin, weights }) => begin + weights.length));
  const narrow = new Uint8Array((bottom - top) * width * 3);
  for (let y = top; y < bottom; y++) {
    across.forEach(({ begin, weights }, x) => {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 2 ** (BITS - 1), place = 4 * (y * from_width + begin) + channel;
        for (let at = 0; at < weights.length; at++, place += 4) sum += weights[at] * rgba[place];
        narrow[3 * ((y - top) * width + x) + channel] = byte(sum);
      }
    });
  }
  const out = new Uint8Array(height * width * 3);
  down.forEach(({ begin, weights }, y) => {
    for (let x = 0; x < 3 * width; x++) {
      let sum = 2 ** (BITS - 1), place = 3 * width * (begin - top) + x;
      for (let at = 0; at < weights.length; at++, place += 3 * width) sum += weights[at] * narrow[place];
      out[3 * width * y + x] = byte(sum);
    }
  });
  return out;
}

const byte = (/** @type {number} */ sum) => Math.min(255, Math.max(0, sum >> BITS));

/** float32 (3, height, width) in [0, 1] of bytes (height, width, 3). */
export function planes(/** @type {Uint8Array} */ square) {
  const pixels = square.length / 3, out = new Float32Array(square.length);
  for (let at = 0; at < square.length; at++) out[(at % 3) * pixels + Math.floor(at / 3)] = square[at] / 255;
  return out;
}
