// Sliders and choices: real inputs with labels, made once, then kept in step with the state.

const ALPHA_STEPS = 400;
const ETA_STEPS = 200;

/** A slider with its name and its value in words; `codec` turns positions into values and back. */
function slider({ id, name, max, min = 0, title }, codec, onChange) {
  const label = document.createElement("label");
  label.className = "slider";
  label.title = title ?? "";
  label.innerHTML = `<span class="head"><span>${name}</span><output id="${id}-text" for="${id}"></output></span>
    <input type="range" id="${id}" min="${min}" max="${max}" step="1">`;
  const input = label.querySelector("input");
  input.addEventListener("input", () => onChange(codec.value(Number(input.value))));
  const sync = (value) => {
    const position = Math.round(codec.position(value));
    if (Number(input.value) !== position) input.value = position;
    label.querySelector("output").textContent = codec.words(value);
    input.setAttribute("aria-valuetext", codec.words(value));
  };
  return { label, sync };
}

/** Equal steps of the logarithm, rounded to two digits. */
function logCodec(low, high, steps, words) {
  const range = Math.log(high / low);
  return {
    value: (position) => Number((low * Math.exp((range * position) / steps)).toPrecision(2)),
    position: (value) => (steps * Math.log(value / low)) / range,
    words,
  };
}

/** η from risk-averse (−) through ∞, in the middle, to risk-seeking (+): equal steps of the logarithm of |η| on either side. */
function etaCodec(low, high) {
  const range = Math.log(high / low);
  return {
    value: (position) => {
      const side = position / ETA_STEPS;
      return Number(((side < 0 ? -1 : 1) * low * Math.exp(range * (1 - Math.abs(side)))).toPrecision(2));
    },
    position: (value) => Math.sign(value) * ETA_STEPS * (1 - Math.log(Math.abs(value) / low) / range),
    words: (value) => `${show(value, 2)} reward units`,
  };
}

const plainCodec = (words) => ({ value: (position) => position, position: (value) => value, words });

/** A row of radio buttons that looks like one control; returns a function that keeps it in step. */
function segment(box, name, options, onPick) {
  box.innerHTML = options
    .map(
      ({ value, label, title }) =>
        `<label title="${escaped(title ?? "")}"><input type="radio" name="${name}" value="${value}">${escaped(label)}</label>`,
    )
    .join("");
  box.onchange = (event) => onPick(event.target.value);
  return (value) => {
    for (const input of box.querySelectorAll("input")) input.checked = input.value === String(value);
  };
}

/** Boxes to tick, one a rule. */
function chips(box, options, onChange) {
  box.innerHTML = options
    .map(
      ({ value, label, title }) =>
        `<label title="${escaped(title)}"><input type="checkbox" value="${value}">${label}</label>`,
    )
    .join("");
  box.onchange = () => onChange([...box.querySelectorAll("input:checked")].map((input) => input.value));
  return (values) => {
    for (const input of box.querySelectorAll("input")) {
      input.checked = values.includes(input.value);
      input.disabled = values.length === 1 && input.checked;
    }
  };
}

/** The place of each option in a variant's number, the last option varying fastest; and back. */
function indicesOf(data, variant) {
  const places = [];
  let rest = variant;
  for (const { values } of [...data.options].reverse()) {
    places.unshift(rest % values.length);
    rest = Math.floor(rest / values.length);
  }
  return places;
}

function variantOf(data, places) {
  return data.options.reduce((number, { values }, i) => number * values.length + places[i], 0);
}
