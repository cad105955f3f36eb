// What the page was made of.

/** Stands for no name and no category. */
const NONE = 0xffffffff;

const source = JSON.parse($('data').textContent);
$('data').remove();

/** Little-endian numbers of 4 bytes from base64. */
function numbers(text, Kind) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return new Kind(bytes.buffer);
}

/** The texts: one entry in every array a text. Places are centred and the longer side is 1. */
const points = (() => {
  const x = numbers(source.x, Float32Array);
  const y = numbers(source.y, Float32Array);
  const range = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
  const [left, right] = range(x);
  const [bottom, top] = range(y);
  const side = Math.max(right - left, top - bottom) || 1;
  for (let i = 0; i < x.length; i++) {
    x[i] = (x[i] - (left + right) / 2) / side;
    y[i] = (y[i] - (bottom + top) / 2) / side;
  }
  return {
    n: x.length,
    x,
    y,
    width: (right - left) / side,
    height: (top - bottom) / side,
    text: source.texts,
    category: numbers(source.category, Uint32Array),
    coarse: numbers(source.coarse, Uint32Array),
    fine: numbers(source.fine, Uint32Array),
    split: numbers(source.split, Uint32Array),
  };
})();

const coarseNames = source.coarse_names;
const fineNames = source.fine_names;
const splitNames = source.split_names;
const hasNew = splitNames.some((name) => name.startsWith('update'));

/** Coarse name of a text. */
const coarseOf = (row) => (points.coarse[row] === NONE ? null : coarseNames[points.coarse[row]]);

/** True label of a text. */
const fineOf = (row) => (points.fine[row] === NONE ? null : fineNames[points.fine[row]]);
