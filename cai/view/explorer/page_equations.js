// The equations of a rule with the numbers of one cell put in, as MathML:
// it needs no font and no script, and can be read aloud.

const MOST_TERMS = 5;

const mi = (name) => `<mi>${name}</mi>`;
const mn = (x, digits = 4) => `<mn>${show(x, digits)}</mn>`;
const mo = (sign) => `<mo stretchy="false">${sign}</mo>`;
const mtext = (text) => `<mtext>${escaped(text)}</mtext>`;
const mrow = (...parts) => `<mrow>${parts.join("")}</mrow>`;
const msub = (base, below) => `<msub>${base}${below}</msub>`;
const msup = (base, above) => `<msup>${base}${above}</msup>`;
const munder = (base, below) => `<munder>${base}${below}</munder>`;
const over = (top, bottom) => `<mfrac>${top}${bottom}</mfrac>`;
const call = (name, ...inside) => mrow(name, mo("("), ...inside, mo(")"));

const S_ = mi("s");
const A_ = mi("a");
const S_NEXT = mrow(mi("s"), mo("′"));
const THIN = `<mspace width="0.18em"/>`;
const LOG = mrow(THIN, mi("log"), THIN);
const EXP = mrow(THIN, mi("exp"));

/** What each rule does, by part: how actions are averaged in v, and how outcomes are in q. */
const FORMS = {
  POSTERIOR: { actions: "soft", outcomes: "soft", cold: "α" },
  VARIATIONAL: { actions: "soft", outcomes: "mean", cold: "α" },
  HARD: { actions: "max", outcomes: "mean", cold: "α" },
  MAP: { actions: "mode", outcomes: "mode", cold: "α" },
  PLANNING: { actions: "mode", outcomes: "soft", cold: "α" },
  RISK: { actions: "soft", outcomes: "soft", cold: "η" },
};

function vOf(t) {
  return call(msub(mi("v"), mi(t)), S_);
}

function qOf(t) {
  return call(msub(mi("q"), mi(t)), S_, mo(","), A_);
}

const PRIOR = call(mi("p"), A_, mo("|"), S_);
const DYNAMICS = call(mi("p"), S_NEXT, mo("|"), S_, mo(","), A_);

/** The law of v in letters: α log Σ p(a|s) exp(q/α), max q, or max (α log p + q). */
function lawOfV(rule, t) {
  const q = qOf(t);
  const laws = {
    soft: mrow(mi("α"), LOG, munder(mo("∑"), A_), PRIOR, call(EXP, mrow(q, mo("/"), mi("α")))),
  };
  laws.max = mrow(munder(mi("max"), A_), THIN, q);
  laws.mode = mrow(munder(mi("max"), A_), mo("("), mi("α"), LOG, PRIOR, mo("+"), q, mo(")"));
  return laws[FORMS[rule].actions];
}

/** The law of q in letters. Where the discount is below 1, c(s′) is what v(s′) is worth if the next step may never come. */
function lawOfQ(rule, t, discount) {
  const next = discount < 1 ? call(mi("c"), S_NEXT) : call(msub(mi("v"), mi(t + 1)), S_NEXT);
  const gain = mrow(mo("("), mi("r"), mo("+"), next, mo(")"));
  const cold = mi(FORMS[rule].cold);
  const laws = {
    mean: mrow(munder(mo("∑"), S_NEXT), DYNAMICS, gain),
    mode: mrow(munder(mi("max"), S_NEXT), mo("("), mi("α"), LOG, DYNAMICS, mo("+"), gain, mo(")")),
    soft: mrow(cold, LOG, munder(mo("∑"), S_NEXT), DYNAMICS, EXP, gain, mo("/"), cold),
  };
  return laws[FORMS[rule].outcomes];
}

/** What c(s′) is where the discount is below 1: the step after may never come. */
function lawOfSurvival(rule, t) {
  const next = call(msub(mi("v"), mi(t + 1)), S_NEXT);
  const cold = mi(FORMS[rule].cold);
  const ends = mrow(mo("+"), mn(1), mo(MINUS), mi("γ"));
  const laws = {
    mean: mrow(mi("γ"), next),
    mode: mrow(
      mi("max"),
      mo("("),
      next,
      mo("+"),
      mi("α"),
      LOG,
      mi("γ"),
      mo(","),
      mi("α"),
      LOG,
      mo("("),
      mn(1),
      mo(MINUS),
      mi("γ"),
      mo(")"),
      mo(")"),
    ),
    soft: mrow(cold, LOG, mo("("), mi("γ"), EXP, mo("("), next, mo("/"), cold, mo(")"), ends, mo(")")),
  };
  return `<math>${mrow(call(mi("c"), S_NEXT), mo("="), laws[FORMS[rule].outcomes])}</math>`;
}

/**
 * The equation of v with numbers: a line for the law, one for each term, one for the result.
 *
 * `account`: { rule, t, alpha, v, actions: [{ name, prior, q, pi }] }.
 */
function equationOfV(account) {
  const { rule, t, alpha, v } = account;
  const allowed = account.actions.filter((action) => action.prior > 0);
  const terms = byWeight(allowed, (action) => action.pi);
  const kinds = {
    soft: {
      open: mrow(mn(alpha), LOG, mo("(")),
      close: mo(")"),
      sign: "+",
      term: (a) => softTerm(a.prior, mn(a.q), alpha),
    },
    max: { open: mrow(mi("max"), mo("{")), close: mo("}"), sign: ",", term: (a) => mn(a.q) },
    mode: { open: mrow(mi("max"), mo("{")), close: mo("}"), sign: ",", term: (a) => modeTerm(a.prior, mn(a.q), alpha) },
  };
  const kind = kinds[FORMS[rule].actions];
  const lines = termLines(terms, allowed.length, kind, (action) => action.name);
  return equation(vOf(t), lawOfV(rule, t), lines, v);
}

/**
 * The equation of q of one action with numbers.
 *
 * `outcomes`: [{ name, p, tilted, reward, next }] with `next` what is still to come there.
 */
function equationOfQ(account, action, outcomes) {
  const { rule, t, discount } = account;
  const cold = FORMS[rule].cold === "η" ? account.eta : account.alpha;
  const terms = byWeight(outcomes, (outcome) => outcome.tilted);
  const gain = (o) => mrow(mo("("), mn(o.reward), mo(o.next < 0 ? MINUS : "+"), mn(Math.abs(o.next)), mo(")"));
  const kinds = {
    soft: { open: mrow(mn(cold), LOG, mo("(")), close: mo(")"), sign: "+", term: (o) => softTerm(o.p, gain(o), cold) },
    mean: { open: "", close: "", sign: "+", term: (o) => mrow(mn(o.p), gain(o)) },
    mode: {
      open: mrow(mi("max"), mo("{")),
      close: mo("}"),
      sign: ",",
      term: (o) => modeTerm(o.p, gain(o), account.alpha),
    },
  };
  const lines = termLines(terms, outcomes.length, kinds[FORMS[rule].outcomes], (outcome) => outcome.name);
  return equation(qOf(t).replace(A_, () => mtext(action.name)), lawOfQ(rule, t, discount), lines, action.q);
}

function softTerm(weight, inside, cold) {
  return mrow(mn(weight, 3), call(EXP, mrow(inside, mo("/"), mn(cold))));
}

function modeTerm(weight, inside, alpha) {
  return mrow(mn(alpha), LOG, mn(weight, 3), mo("+"), inside);
}

/** The heaviest terms, in their own order. */
function byWeight(items, weight) {
  const heaviest = [...items].sort((one, other) => weight(other) - weight(one)).slice(0, MOST_TERMS);
  return items.filter((item) => heaviest.includes(item));
}

function termLines(terms, count, kind, name) {
  const lines = terms.map((term, i) => {
    const last = i === terms.length - 1 && count === terms.length;
    const after = last ? kind.close : mo(kind.sign);
    return {
      math: mrow(i === 0 ? kind.open : mrow(mo(""), `<mspace width="1.2em"/>`), kind.term(term), after),
      name: name(term),
    };
  });
  const left = count - terms.length;
  if (left > 0)
    lines.push({ math: mrow(`<mspace width="1.2em"/>`, mo("…"), kind.close), name: `${left} more, smaller` });
  return lines;
}

/** Lay out `left = law = lines = result` with aligned signs and the name of each term at its side. */
function equation(left, law, lines, result) {
  const row = (...cells) => `<mtr>${cells.map((cell) => `<mtd>${cell}</mtd>`).join("")}</mtr>`;
  const rows = [row(left, mo("="), law, "")];
  lines.forEach((line, i) => rows.push(row("", i === 0 ? mo("=") : "", line.math, mtext(line.name))));
  rows.push(
    row("", mo("="), `<mrow class="result">${mn(result)}<mspace width="0.3em"/>${mtext("reward units")}</mrow>`, ""),
  );
  return `<math><mtable class="equation" displaystyle="true">${rows.join("")}</mtable></math>`;
}
