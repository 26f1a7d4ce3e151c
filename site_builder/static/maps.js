// Activation maps on a canvas: decoding, where on the picture they lie, and the three ways to draw them.

const MAP_SIDE = 28; // as in examples.py: maps of more tokens a side come as block maxima

/** Colours of the heat overlay, from weak to strong: dark violet, red, yellow. */
const HEAT = [[52, 10, 90], [140, 28, 110], [214, 62, 62], [246, 142, 40], [252, 222, 110]];

export const OVERLAYS = [["heat", "heat"], ["spotlight", "spotlight"], ["crop", "crop"], ["off", "off"]];

export const nextOverlay = (/** @type {string} */ last) => {
  const modes = OVERLAYS.map(([key]) => key);
  return modes[(modes.indexOf(last) + 1) % modes.length];
};

/** Values of a map, with its size and the size of one of its cells as shares of the picture. */
export function decodeMap(/** @type {import("./evidence.js").Example} */ example) {
  const block = Math.ceil(Math.max(example.rows, example.columns) / MAP_SIDE);
  const [height, width] = [Math.ceil(example.rows / block), Math.ceil(example.columns / block)];
  const levels = Float32Array.from(example.map, (digit) => parseInt(digit, 16) / 15);
  return { levels, height, width, cell: [block / example.rows, block / example.columns] };
}

/**
 * Draw a map over a picture whose whole square the canvas covers.
 * @param {HTMLCanvasElement} canvas @param {import("./evidence.js").Example} example
 * @param {string} overlay heat: activation over `full`, the same in all pictures; spotlight: from this picture's least to its most
 * @param {number} full the activation that has the strongest colour
 */
export function drawMap(canvas, example, overlay, full) {
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (overlay !== "heat" && overlay !== "spotlight") return;
  const { levels, height, width, cell } = decodeMap(example);
  const small = new OffscreenCanvas(width, height);
  const image = new ImageData(width, height);
  levels.forEach((level, at) => {
    const value = example.low + (example.high - example.low) * level;
    image.data.set(overlay === "heat" ? heat(full > 0 ? value / full : 0) : [8, 8, 10, 225 * (1 - level) ** 1.5], at * 4);
  });
  /** @type {OffscreenCanvasRenderingContext2D} */ (small.getContext("2d")).putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = true; // bilinear: the centre of a cell has its own value
  pen.drawImage(small, 0, 0, canvas.width * cell[1] * width, canvas.height * cell[0] * height);
}

/** RGBA of a share of the full activation: clear at 0 and below. */
function heat(/** @type {number} */ share) {
  const at = Math.min(1, Math.max(0, share));
  const place = at * (HEAT.length - 1);
  const [low, high] = [HEAT[Math.floor(place)], HEAT[Math.ceil(place)]];
  const mixed = low.map((channel, i) => channel + (high[i] - channel) * (place % 1));
  return [...mixed, 205 * at ** 0.8];
}

/** Left, top, right, bottom of the strongest patch, as shares of the picture. */
export const patchBox = (/** @type {import("./evidence.js").Example} */ { box, row, column, rows, columns }) =>
  box ?? [column / columns, row / rows, (column + 1) / columns, (row + 1) / rows];

/** Left and top of the window of half the side that labels look at: of nine, the one nearest the strongest patch. */
export const cropWindow = (/** @type {import("./evidence.js").Example} */ { row, column, rows, columns }) =>
  [band(column, columns) / 4, band(row, rows) / 4];

const band = (/** @type {number} */ at, /** @type {number} */ count) =>
  Number(4 * (2 * at + 1) >= 3 * count) + Number(4 * (2 * at + 1) > 5 * count);
