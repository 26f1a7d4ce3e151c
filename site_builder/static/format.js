// Numbers and words as people read them.

const two = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const grouped = new Intl.NumberFormat("en");

export const count = (/** @type {number} */ value) => grouped.format(value);

/** Three significant digits, a true minus sign; an absent value is a dash. */
export function figure(/** @type {number|null|undefined} */ value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-3)) {
    const [digits, power] = value.toExponential(1).split("e");
    return `${digits.replace("-", "−")} × 10${superscript(Number(power))}`;
  }
  return (size >= 1000 ? grouped.format(Math.round(value)) : three.format(value)).replace("-", "−");
}

/** A figure that may be of either sign, with its sign. */
export const signed = (/** @type {number} */ value) => (value > 0 ? `+${figure(value)}` : figure(value));

const hundredths = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2, signDisplay: "negative" });

/** A correlation, or another figure between −1 and 1: two decimals. */
export const hundredth = (/** @type {number|null|undefined} */ value) =>
  value === null || value === undefined ? "–" : hundredths.format(value).replace("-", "−");

/** What a loss leaves: a fall of 0.5 is "−0.5", a rise "+0.5"; two digits. */
export const loss = (/** @type {number} */ fall) => (fall > 0 ? `−${two.format(fall)}` : fall < 0 ? `+${two.format(-fall)}` : "0");

/** A spread belongs to a figure: two digits say enough. */
export const spread = (/** @type {number|null|undefined} */ value) =>
  value === null || value === undefined ? "–" : value !== 0 && value < 1e-3 ? figure(value) : two.format(value);

const superscript = (/** @type {number} */ power) =>
  String(power).replace("-", "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]);

export const percent = (/** @type {number} */ share) =>
  `${share !== 0 && Math.abs(share) < 0.01 ? three.format(share * 100) : Math.round(share * 100)} %`.replace("-", "−");

/** A share with two digits, where shares of less than a tenth are compared: "32 %", "8.4 %", "−0.16 %"; absent: a dash. */
export const fine = (/** @type {number|null|undefined} */ share) =>
  share === null || share === undefined ? "–" : `${Math.abs(share) < 5e-6 ? 0 : two.format(100 * share)} %`.replace("-", "−");

/** A difference of two accuracies, in points of a hundred. */
export const points = (/** @type {number|null|undefined} */ value) =>
  value === null || value === undefined ? "–" : `${Math.abs(value) < 5e-6 ? 0 : two.format(100 * value)}`.replace("-", "−") + (Math.abs(value) === 0.01 ? " point" : " points");

export const plural = (/** @type {number} */ value, /** @type {string} */ word) =>
  `${count(value)} ${word}${value === 1 ? "" : "s"}`;

/** "14 × 14" of a token grid; several grids of a module that fires at several scales. */
export const grids = (/** @type {{height: number, width: number}[]|null|undefined} */ list) =>
  (list ?? []).map((grid) => `${grid.height} × ${grid.width}`).join(", ");

/** JSON text, indented; a text that is no JSON stays as it is. */
export function pretty(/** @type {string} */ text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** A number as its digits; absent: null, so that a figure says why. */
export const written = (/** @type {number|null|undefined} */ value) => (value === null || value === undefined ? null : String(value));

/** An instant to the minute. */
export const day = (/** @type {string|null|undefined} */ instant) =>
  instant ? new Date(instant).toISOString().slice(0, 16).replace("T", " ") + " UTC" : "not recorded";

/** "torch 2.8.0, timm 1.0.20"; a text stays as it is. */
export const versions = (/** @type {{name: string, version: string}[]|string|null|undefined} */ software) =>
  typeof software === "string" ? software : (software ?? []).map(({ name, version }) => `${name} ${version}`).join(", ");

/** What each stage of a model ran with; what an older atlas says of the model as a whole is said of each. @returns {Record<string, any>[]} */
export const stagesOf = (/** @type {Record<string, any>} */ { stages, software, precision }) =>
  (stages ?? []).map((/** @type {Record<string, any>} */ one) => ({ software, precision: one.stage === "visualize" ? precision : null, ...one }));
