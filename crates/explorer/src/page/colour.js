// Colours. The base is the palette of Okabe and Ito (2008), which people with any common colour
// blindness can tell apart; more than eight values repeat it darker and lighter. Categories take the hue
// of their coarse category and differ in lightness, which everybody sees.

const OKABE_ITO = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#d8c31a', '#8a8f98'];

const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const gamma = (c) => (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055);

/** OKLab (Ottosson 2020) of `#rrggbb`, as lightness, chroma, hue in radians. */
function toLch(hex) {
  const [r, g, b] = [1, 3, 5].map((at) => linear(parseInt(hex.slice(at, at + 2), 16) / 255));
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  const A = 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s;
  const B = 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s;
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s, Math.hypot(A, B), Math.atan2(B, A)];
}

/** `[r, g, b]` from 0 to 255; chroma is lowered until the colour exists on a screen. */
function fromLch(lightness, chroma, hue) {
  for (let c = chroma; ; c *= 0.92) {
    const A = c * Math.cos(hue);
    const B = c * Math.sin(hue);
    const l = (lightness + 0.3963377774 * A + 0.2158037573 * B) ** 3;
    const m = (lightness - 0.1055613458 * A - 0.0638541728 * B) ** 3;
    const s = (lightness - 0.0894841775 * A - 1.291485548 * B) ** 3;
    const rgb = [
      4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
      -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
      -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
    ];
    if (c < 0.005 || rgb.every((v) => v > -0.002 && v < 1.002)) {
      return rgb.map((v) => Math.round(255 * gamma(Math.min(1, Math.max(0, v)))));
    }
  }
}

const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

/** Lightness, chroma and hue of the value number `index`. */
function baseLch(index, dark) {
  const [lightness, chroma, hue] = toLch(OKABE_ITO[index % OKABE_ITO.length]);
  const round = Math.floor(index / OKABE_ITO.length);
  const shift = [0, -0.17, 0.13, -0.09, 0.07][round % 5];
  const [low, high] = dark ? [0.5, 0.93] : [0.38, 0.84];
  return [Math.min(high, Math.max(low, lightness + shift + (dark ? 0.03 : 0))), chroma, hue + 0.4 * round];
}

/** The colour of value number `index` of a list without an order. */
const baseColour = (index, dark) => fromLch(...baseLch(index, dark));

/** Colour number `index` of `total` inside the value number `group`. */
function shadeColour(group, index, total, dark) {
  if (total < 2) return baseColour(group, dark);
  const [, chroma, hue] = baseLch(group, dark);
  const [low, high] = dark ? [0.55, 0.9] : [0.42, 0.8];
  // Neighbours in the order of size end up far apart in lightness.
  const half = Math.ceil(total / 2);
  const place = index % 2 === 0 ? index / 2 : half + (index - 1) / 2;
  const lightness = low + ((high - low) * place) / (total - 1);
  return fromLch(lightness, chroma, hue + ((index % 3) - 1) * 0.13);
}

/** For what belongs to no group, darker than what does not stand out. */
const NEUTRAL = { light: [72, 82, 94], dark: [205, 212, 220] };
const GREY = { light: [154, 163, 174], dark: [98, 110, 124] };
const NEW = { light: [213, 94, 0], dark: [255, 138, 61] };
const KNOWN = { light: [0, 114, 178], dark: [86, 180, 233] };
