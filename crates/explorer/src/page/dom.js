// Elements. Text is always set as text: strings become text nodes, never markup.

const $ = (id) => document.getElementById(id);

/** An element with properties and children; `on` holds listeners, `aria` and `style` what they say. */
function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key === 'on') {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (key === 'aria') {
      for (const [name, state] of Object.entries(value)) element.setAttribute(`aria-${name}`, String(state));
    } else if (key === 'style') {
      for (const [name, setting] of Object.entries(value)) element.style.setProperty(name, setting);
    } else if (key === 'data') {
      Object.assign(element.dataset, value);
    } else if (key in element) {
      element[key] = value;
    } else {
      element.setAttribute(key, value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const number = new Intl.NumberFormat('en');

/** A number with separators. */
const count = (value) => number.format(value);

/** `1 text`, `2 texts`. */
const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

const percent = (share) => `${share >= 0.995 || share === 0 ? Math.round(share * 100) : (share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;

/** The start of a text. */
const shorten = (text, length) => (text.length > length ? `${text.slice(0, length - 1).trimEnd()}…` : text);

/** The text with every place of `query` (lower case) in a mark element. */
function marked(text, query) {
  if (!query) return [text];
  const low = text.toLowerCase();
  // Some letters change their length in lower case; then places would not agree.
  if (low.length !== text.length) return [text];
  const parts = [];
  let from = 0;
  for (let at = low.indexOf(query); at >= 0; at = low.indexOf(query, from)) {
    parts.push(text.slice(from, at), el('mark', {}, text.slice(at, at + query.length)));
    from = at + query.length;
  }
  parts.push(text.slice(from));
  return parts;
}

/** A coloured dot. */
const dot = (colour, small = false) => el('i', { className: small ? 'dot small' : 'dot', style: { background: colour }, aria: { hidden: true } });

/** A short message at the bottom. */
function toast(message, bad = false) {
  const box = el('div', { className: bad ? 'toast bad' : 'toast' }, message);
  $('toasts').append(box);
  setTimeout(() => box.remove(), bad ? 9000 : 4000);
}

/** A dialog that goes when it is closed. One may stand over another. */
function openDialog(title, content) {
  const dialog = el('dialog', { aria: { label: title }, on: { close: () => dialog.remove() } }, content);
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

const stillness = matchMedia('(prefers-reduced-motion: reduce)');
