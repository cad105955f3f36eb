// A second run on the same texts. Categories of both runs are paired by the texts they share, the pair with
// most of them first, each category at most once; a text has moved if its two categories are no pair.

class Comparison {
  constructor(other) {
    this.title = other.title;
    this.of = numbers(other.category, Uint32Array);
    this.names = new Map(other.categories.map((category) => [category.id, category]));
    on('catalogue', () => this.renew());
    this.renew();
  }

  renew() {
    const shared = new Map();
    const sizes = new Map();
    this.missing = 0;
    for (let row = 0; row < points.n; row++) {
      const category = state.category[row];
      const other = this.of[row];
      if (other === NONE) this.missing++;
      if (!category || other === NONE) continue;
      if (!shared.has(category.id)) shared.set(category.id, new Map());
      const others = shared.get(category.id);
      others.set(other, (others.get(other) ?? 0) + 1);
      sizes.set(other, (sizes.get(other) ?? 0) + 1);
    }
    this.pairs = [...shared].flatMap(([id, others]) => [...others].map(([other, number]) => {
      const all = state.members.get(id).length + sizes.get(other) - number;
      return { id, other, number, overlap: number / all };
    }));
    this.pairs.sort((a, b) => b.number - a.number || a.id - b.id || a.other - b.other);
    this.partner = new Map();
    const taken = new Set();
    for (const pair of this.pairs) {
      if (this.partner.has(pair.id) || taken.has(pair.other)) continue;
      this.partner.set(pair.id, pair.other);
      taken.add(pair.other);
      pair.partner = true;
    }
    this.moved = 0;
    for (let row = 0; row < points.n; row++) if (this.change(row) === 1) this.moved++;
  }

  /** 0 same, 1 moved, 2 not in the other run. */
  change(row) {
    if (this.of[row] === NONE) return 2;
    const category = state.category[row];
    return category && this.partner.get(category.id) === this.of[row] ? 0 : 1;
  }
}

let comparison = null;

function startComparison() {
  if (source.comparison) comparison = new Comparison(source.comparison);
}

let onlyMoved = false;

function compareBody() {
  const known = points.n - comparison.missing;
  const pairs = comparison.pairs.filter((pair) => (state.selected === null || pair.id === state.selected) && !(onlyMoved && pair.partner));
  const name = (id) => state.catalogue.get(id).name;
  const head = (text, className = '') => el('th', { scope: 'col', className }, text);
  return [
    el('div', {}, el('h2', {}, 'Compared with ', comparison.title), el('p', { className: 'quiet' }, state.selected === null ? 'Pairs of categories by the texts they share.' : `Pairs of “${name(state.selected)}”.`)),
    el('dl', { className: 'facts' }, fact('Same', percent(known ? (known - comparison.moved) / known : 0)), fact('Moved', count(comparison.moved)), fact('Only here', count(comparison.missing))),
    el(
      'div',
      { className: 'actions' },
      el('button', { type: 'button', className: 'secondary', aria: { pressed: onlyMoved }, on: { click: () => { onlyMoved = !onlyMoved; showPanel(); } } }, onlyMoved ? 'Show all pairs' : 'Moved texts only'),
      state.selected === null ? null : el('button', { type: 'button', className: 'plain', on: { click: () => select(null) } }, 'All categories'),
    ),
    pairs.length === 0 ? el('p', { className: 'hint' }, 'No text moved.') : el(
      'table',
      { className: 'pairs' },
      el('thead', {}, el('tr', {}, head('Here'), head('There'), head('Texts', 'number'), head('Overlap', 'number'))),
      el('tbody', {}, pairs.slice(0, 300).map((pair) => el(
        'tr',
        { className: pair.partner ? '' : 'moved' },
        el('td', {}, el('button', { type: 'button', on: { click: () => select(pair.id) } }, name(pair.id))),
        el('td', {}, comparison.names.get(pair.other)?.name ?? String(pair.other)),
        el('td', { className: 'number' }, count(pair.number)),
        el('td', { className: 'number' }, percent(pair.overlap)),
      ))),
    ),
    pairs.length > 300 ? el('p', { className: 'hint' }, `The 300 largest of ${count(pairs.length)} pairs.`) : null,
  ];
}
