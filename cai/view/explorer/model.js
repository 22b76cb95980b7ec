// A finite world in the browser: read from the data of the page, edited by hand. Pure functions, no document.
//
//   Engine.readModel(data, variant = 0) -> Model      the variant is row-major over data.options
//   Engine.edited(model, edits) -> Model              a new model; the given one stays as it is
//
// Model  { S, A, horizon (null: infinite), discount, logInitial [S], terminal [S], ended [S], cellOf [S], usualReward,
//          slices: [Slice], sliceAt [T] or null }
// Slice  { logPrior, prior [S·A], offset [S·A+1], logProb, prob, successor, reward, cell [N], most (outcomes of an (s, a)),
//          largest (finite size of a reward) }
// Edits  { walls: [cell], rewards: [{cell, reward}], goals: [{cell, reward}], start: state or null }, all optional
//
//   wall     an outcome that would enter the cell leaves the state as it is, and pays what most steps pay
//   reward   an outcome that enters the cell from another one pays so much more
//   goal     the same, and whoever is there stays there, at no further reward: the episode has ended
//   start    the trajectory begins in this state

"use strict";

const Engine = (() => {
  const TYPES = { f8: Float64Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array };

  const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const VALUE = Uint8Array.from({ length: 128 }, (_, code) => Math.max(0, DIGITS.indexOf(String.fromCharCode(code))));

  /** Read base64 of little-endian numbers, the order of every machine that has a browser. */
  function numbers(type, text) {
    const bytes = new Uint8Array((text.length / 4) * 3);
    for (let i = 0, n = 0; i < text.length; i += 4) {
      let word = 0;
      for (let j = i; j < i + 4; j++) word = (word << 6) | VALUE[text.charCodeAt(j)];
      bytes[n++] = word >> 16;
      bytes[n++] = word >> 8;
      bytes[n++] = word;
    }
    const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
    return new TYPES[type](bytes.buffer, 0, (bytes.length - padding) / TYPES[type].BYTES_PER_ELEMENT);
  }

  function readArray({ type, data, values, index }) {
    if (values === undefined) return numbers(type, data);
    const known = numbers(type, values);
    return TYPES[type].from(numbers(index, data), (i) => known[i]);
  }

  function readModel(data, variant = 0) {
    const tables = data.variants[variant];
    const array = (name) => readArray(data.arrays[name]);
    return {
      S: data.states.count,
      A: data.actions.count,
      horizon: data.clock.horizon,
      discount: data.clock.discount,
      logInitial: array(tables.initial),
      terminal: array(tables.terminal),
      ended: array(tables.ended),
      cellOf: Int32Array.from(data.map.cell),
      usualReward: tables.usual_reward,
      slices: tables.slices.map((slice) => readSlice(slice, array)),
      sliceAt: tables.slice_at === null ? null : array(tables.slice_at),
    };
  }

  function readSlice(slice, array) {
    const [logPrior, logProb, offset] = [slice.log_prior, slice.log_prob, slice.offset].map(array);
    return {
      logPrior,
      prior: logPrior.map(Math.exp),
      offset,
      most: offset.reduce((most, end, i) => Math.max(most, i === 0 ? 0 : end - offset[i - 1]), 0),
      logProb,
      prob: logProb.map(Math.exp),
      successor: array(slice.successor),
      ...rewards(array(slice.reward)),
      cell: array(slice.cell),
    };
  }

  /** The rewards, and the largest finite size of one: choices are tied by it. */
  function rewards(reward) {
    return { reward, largest: reward.reduce((most, r) => (Number.isFinite(r) ? Math.max(most, Math.abs(r)) : most), 0) };
  }

  function edited(model, { walls = [], rewards = [], goals = [], start = null }) {
    const wall = new Set(walls);
    const extra = new Map();
    for (const { cell, reward } of [...rewards, ...goals]) extra.set(cell, (extra.get(cell) ?? 0) + reward);
    const goal = new Set(goals.map(({ cell }) => cell));
    const absorbs = Uint8Array.from(model.cellOf, (cell) => goal.has(cell));
    return {
      ...model,
      logInitial: start === null ? model.logInitial : model.logInitial.map((_, s) => (s === start ? 0 : -Infinity)),
      ended: model.ended.map((over, s) => over || absorbs[s]),
      slices: model.slices.map((slice) => editedSlice(model, slice, { wall, extra, absorbs })),
    };
  }

  function editedSlice(model, slice, { wall, extra, absorbs }) {
    const { S, A, cellOf } = model;
    const [successor, reward, cell] = [slice.successor.slice(), slice.reward.slice(), slice.cell.slice()];
    for (let s = 0; s < S; s++) {
      for (let k = slice.offset[s * A]; k < slice.offset[(s + 1) * A]; k++) {
        if (absorbs[s]) {
          [successor[k], reward[k], cell[k]] = [s, 0, cellOf[s]];
        } else if (wall.has(cell[k]) && cell[k] !== cellOf[s]) {
          [successor[k], reward[k], cell[k]] = [s, model.usualReward, cellOf[s]];
        } else if (extra.has(cell[k]) && cell[k] !== cellOf[s]) {
          reward[k] += extra.get(cell[k]);
        }
      }
    }
    return { ...slice, successor, ...rewards(reward), cell };
  }

  return { readModel, edited };
})();
