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

/** A spread belongs to a figure: two digits say enough. */
export const spread = (/** @type {number|null|undefined} */ value) =>
  value === null || value === undefined ? "–" : value !== 0 && value < 1e-3 ? figure(value) : two.format(value);

const superscript = (/** @type {number} */ power) =>
  String(power).replace("-", "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]);

export const percent = (/** @type {number} */ share) =>
  `${share !== 0 && Math.abs(share) < 0.01 ? three.format(share * 100) : Math.round(share * 100)} %`.replace("-", "−");

export const plural = (/** @type {number} */ value, /** @type {string} */ word) =>
  `${count(value)} ${word}${value === 1 ? "" : "s"}`;

/** "14 × 14" of a token grid; several grids of a module that fires at several scales. */
export const grids = (/** @type {{height: number, width: number}[]|null|undefined} */ list) =>
  (list ?? []).map((grid) => `${grid.height} × ${grid.width}`).join(", ");
