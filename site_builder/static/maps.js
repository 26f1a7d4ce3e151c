// Maps on a canvas: of activation, in three ways, and of what patches pass towards a direction and away; where on the picture they lie.

export const MAP_SIDE = 28; // as in maps.py: maps of more tokens a side come as block maxima

/** Colours of the heat overlay, from weak to strong: dark violet, red, yellow. */
const HEAT = [[52, 10, 90], [140, 28, 110], [214, 62, 62], [246, 142, 40], [252, 222, 110]];

export const OVERLAYS = [["spotlight", "spotlight"], ["heat", "heat"], ["crop", "crop"], ["off", "off"]];

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
  if (overlay !== "heat" && overlay !== "spotlight") return clear(canvas);
  const { levels, height, width, cell } = decodeMap(example);
  const image = new ImageData(width, height);
  levels.forEach((level, at) => {
    const value = example.low + (example.high - example.low) * level;
    image.data.set(overlay === "heat" ? heat(full > 0 ? value / full : 0) : [8, 8, 10, 225 * (1 - level) ** 1.5], at * 4);
  });
  return paint(canvas, image, [cell[0] * height, cell[1] * width]);
}

export const clear = (/** @type {HTMLCanvasElement} */ canvas) => canvas.getContext("2d")?.clearRect(0, 0, canvas.width, canvas.height);

/** Colours of a signed map at its ends: towards, away. */
const [TOWARDS, AWAY] = [[226, 30, 38], [30, 84, 232]];

/**
 * Draw what each patch passes: red towards, blue away, clear nothing (see maps.py for the digits).
 * @param {HTMLCanvasElement} canvas @param {import("./heads.js").HeadExample} example
 * @param {number} full what has the strongest colour
 */
export function drawSigned(canvas, example, full) {
  const block = Math.ceil(Math.max(example.rows, example.columns) / MAP_SIDE);
  const [height, width] = [Math.ceil(example.rows / block), Math.ceil(example.columns / block)];
  const image = new ImageData(width, height);
  [...example.map].forEach((digit, at) => image.data.set(signed(((parseInt(digit, 32) - 15) / 15) * (example.scale / full)), at * 4));
  // smooth between the centres of tokens: both colours stay pure, as their alphas meet at 0
  paint(canvas, image, [(block * height) / example.rows, (block * width) / example.columns]);
}

const signed = (/** @type {number} */ share) => [...(share < 0 ? AWAY : TOWARDS), 220 * Math.min(1, Math.abs(share)) ** 0.8];

/** Enlarge an image over a canvas, bilinear; reach: how far it goes, as shares of the canvas's height and width. */
function paint(canvas, image, [down, across]) {
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const small = new OffscreenCanvas(image.width, image.height);
  /** @type {OffscreenCanvasRenderingContext2D} */ (small.getContext("2d")).putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = true; // bilinear: the centre of a cell has its own value
  pen.drawImage(small, 0, 0, canvas.width * across, canvas.height * down);
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
