// Numbers, as a person reads them.

const MINUS = "\u2212";
const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** Write a number with `digits` significant digits: −0.0123, 4.5×10⁻⁷, −∞. */
function show(x, digits = 4) {
  if (Number.isNaN(x)) return "–";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : `${MINUS}∞`;
  const size = Math.abs(x);
  if (size < 1e-12) return "0";
  if (size < 1e-4 || size >= 1e6) return scientific(x, Math.min(digits, 3));
  const text = String(Number(x.toPrecision(digits)));
  return text.replace("-", MINUS);
}

function scientific(x, digits) {
  const [mantissa, power] = x.toExponential(digits - 1).split("e");
  const raised = [...String(Math.abs(Number(power)))].map((digit) => SUPERSCRIPTS[Number(digit)]).join("");
  return `${String(Number(mantissa)).replace("-", MINUS)}×10${Number(power) < 0 ? "⁻" : ""}${raised}`;
}

/** Write a number for a narrow cell of a map: three digits, no more than six characters or so. */
function showShort(x) {
  if (!Number.isFinite(x)) return show(x);
  const size = Math.abs(x);
  if (size < 1e-12) return "0";
  if (size >= 1e4 && size < 1e6) return `${show(x / 1000, 3)}k`;
  const text = size >= 1e-3 && size < 1e4 ? String(Number(x.toPrecision(3))) : x.toExponential(0).replace("e+", "e");
  return text.replace(/-/g, MINUS).replace(/^(−?)0\./, "$1.");
}

/** Write a probability in words of percent: 38 %, 0.2 %, "less than 0.01 %". */
function showPercent(p) {
  if (p > 0 && p < 1e-4) return `${show(100 * p, 2)} %`;
  return `${show(100 * p, p > 0.1 ? 3 : 2)} %`;
}

/** Escape a text for HTML. */
function escaped(text) {
  return String(text).replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);
}
