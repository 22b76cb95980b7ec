// Colour: one scale for all maps. Viridis grows evenly in lightness, so it can be read without seeing hue.

const VIRIDIS = [
  [68, 1, 84],
  [72, 36, 117],
  [65, 68, 135],
  [53, 95, 141],
  [42, 120, 142],
  [33, 145, 140],
  [34, 168, 132],
  [68, 191, 112],
  [122, 209, 81],
  [189, 223, 38],
  [253, 231, 37],
];
const STEPS = 256;
const COLOURS = Array.from({ length: STEPS }, (_, i) => ramp(i / (STEPS - 1)));
const INKS = COLOURS.map((rgb) => (luminance(rgb) > 0.22 ? "#10151b" : "#ffffff"));
const STYLES = COLOURS.map((rgb) => `rgb(${rgb.join(" ")})`);

function ramp(x) {
  const place = x * (VIRIDIS.length - 1);
  const left = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[left].map((low, i) => Math.round(low + (place - left) * (VIRIDIS[left + 1][i] - low)));
}

function luminance(rgb) {
  const linear = rgb.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}

/** A scale from numbers to colours. `root`: equal steps of the square root, so that small probabilities can be seen. */
function makeScale(low, high, root = false) {
  const [from, to] = high - low > 1e-9 * Math.max(1, Math.abs(high)) ? [low, high] : [low - 0.5, low + 0.5];
  const share = (x) => Math.min(1, Math.max(0, (x - from) / (to - from)));
  const index = (x) => Math.round((STEPS - 1) * (root ? Math.sqrt(share(x)) : share(x)));
  return { low: from, high: to, root, fill: (x) => STYLES[index(x)], ink: (x) => INKS[index(x)] };
}

/** The smallest and largest finite number of several [array, from, to], of the entries that count. */
function finiteRange(spans, counts) {
  let low = Infinity;
  let high = -Infinity;
  for (const [array, from, to] of spans) {
    for (let i = from; i < to; i++) {
      if (!counts(i)) continue;
      const x = array[i];
      if (x < low && x !== -Infinity) low = x;
      if (x > high && x !== Infinity) high = x;
    }
  }
  return low <= high ? [low, high] : [0, 1];
}

/** The scale as a CSS gradient. */
function gradient() {
  return `linear-gradient(to right, ${VIRIDIS.map((rgb) => `rgb(${rgb.join(" ")})`).join(", ")})`;
}
