// The panel on the right: a category with its evidence, texts, the comparison, the edits.

const tabs = [
  { key: 'details', name: 'Details', body: () => detailsBody() },
  { key: 'texts', name: 'Texts', body: () => textsBody(), badge: () => chosenRows()?.length },
  { key: 'compare', name: 'Compare', body: () => compareBody(), there: () => comparison !== null },
  { key: 'edits', name: 'Edits', body: () => editsBody(), badge: () => editor.done.length || null },
];
let openKey = 'details';
let shownTab = '';

/** Shows a tab, and the panel where it is folded away. */
function openTab(key) {
  openKey = key;
  document.querySelector('.panel').classList.remove('closed');
  showPanel();
}

/** Whether the panel lies over the map. */
const isNarrow = () => matchMedia('(max-width: 1100px)').matches;

function closePanel() {
  document.querySelector('.panel').classList.add('closed');
}

function showPanel() {
  const shown = tabs.filter((tab) => tab.there?.() ?? true);
  const focused = document.activeElement?.parentElement === $('tabs');
  $('tabs').replaceChildren(
    ...shown.map((tab) => {
      const badge = tab.badge?.();
      return el(
        'button',
        { type: 'button', role: 'tab', id: `tab-${tab.key}`, tabIndex: tab.key === openKey ? 0 : -1, aria: { selected: tab.key === openKey, controls: 'tab-body' }, on: { click: () => openTab(tab.key) } },
        tab.name,
        badge === null || badge === undefined ? '' : el('span', { className: 'badge' }, count(badge)),
      );
    }),
  );
  if (focused) $(`tab-${openKey}`).focus();
  const body = $('tab-body');
  body.setAttribute('aria-labelledby', `tab-${openKey}`);
  const title = `${openKey} ${state.selected}`;
  const top = body.scrollTop;
  body.replaceChildren(...shown.find((tab) => tab.key === openKey).body().filter(Boolean));
  body.scrollTop = title === shownTab ? top : 0;
  shownTab = title;
}

function startPanel() {
  $('panel-close').addEventListener('click', closePanel);
  $('tabs').addEventListener('keydown', (event) => {
    const keys = tabs.filter((tab) => tab.there?.() ?? true).map((tab) => tab.key);
    const at = keys.indexOf(openKey);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: keys.length - 1 }[event.key];
    if (to === undefined) return;
    openTab(keys[(to + keys.length) % keys.length]);
    $(`tab-${openKey}`).focus();
    event.preventDefault();
  });
  on('catalogue selection found lasso colour theme edits', showPanel);
  if (isNarrow()) closePanel();
  showPanel();
}

const fact = (name, value) => el('div', {}, el('dt', {}, name), el('dd', {}, value));

const section = (title, extra, ...children) => el('section', {}, el('h3', {}, title, extra ? el('span', { className: 'count' }, extra) : null), ...children);

/** Without a category: what the page shows. */
function overview() {
  const active = state.catalogue.active();
  const total = source.total > points.n ? el('p', { className: 'hint' }, `The map shows ${count(points.n)} of ${count(source.total)} texts, drawn at random.`) : null;
  const strays = state.category.filter((category) => category === null).length;
  return [
    el('div', {}, el('h2', {}, source.title), el('p', { className: 'quiet' }, 'Choose a category in the list or on the map.')),
    el('dl', { className: 'facts' }, fact('Texts', count(source.total)), fact('Categories', count(active.length)), fact('Coarse', count(coarseNames.length))),
    total,
    strays > 0 ? el('p', { className: 'problem' }, `${plural(strays, 'text')} of this page are in categories that it does not know: reload it.`) : null,
    section(
      'Largest categories',
      null,
      rows(active.sort((a, b) => b.size - a.size || a.id - b.id).slice(0, 8).map((category) => ({ category, number: count(category.size) }))),
    ),
    el('p', { className: 'hint' }, el('kbd', {}, '/'), ' searches, ', el('kbd', {}, 'Shift'), ' and drag draws around texts, ', el('kbd', {}, '?'), ' shows all keys.'),
  ];
}

/** Categories to click through to. */
const rows = (entries) => el('ul', { className: 'rows' }, entries.map(({ category, number }) => el(
  'li',
  {},
  el('button', { type: 'button', on: { click: () => { select(category.id); openTab('details'); } } }, dot(categoryColour(category), true), el('span', { className: 'name' }, category.name), el('span', { className: 'number' }, number)),
)));

function detailsBody() {
  const category = state.selected === null ? null : state.catalogue.get(state.selected);
  if (!category) return overview();
  const members = state.members.get(category.id) ?? [];
  const near = category.nearest
    .map(({ id, cosine }) => ({ category: state.catalogue.resolve(id), number: cosine.toFixed(2) }))
    .filter((entry, index, all) => entry.category && entry.category.id !== category.id && all.findIndex((other) => other.category === entry.category) === index);
  const named = category.byHand ? ' · named by a person' : '';
  const mergeWith = near[0]?.category;
  return [
    el(
      'div',
      {},
      el('p', { className: 'crumb' }, dot(categoryColour(category), true), `${category.coarse ?? 'No coarse category'} · category ${category.id}${named}`),
      el('h2', { id: 'category-name' }, category.name),
      el(
        'div',
        { className: 'actions', id: 'category-actions' },
        el('button', { type: 'button', id: 'rename', className: 'secondary', title: 'Rename (R)', on: { click: () => showRename(category) } }, 'Rename'),
        mergeWith ? el('button', { type: 'button', className: 'secondary', title: `Merge with ${mergeWith.name}`, on: { click: () => askMerge([category.id, mergeWith.id]) } }, 'Merge…') : null,
        members.length > 0 ? el('button', { type: 'button', className: 'secondary', on: { click: () => map.camera.show(members) } }, 'Zoom to it') : null,
      ),
      el('div', { id: 'rename-place' }),
    ),
    el('dl', { className: 'facts' }, fact('Texts', count(category.size)), fact('Share', percent(category.size / Math.max(1, source.total))), fact('Coherence', category.coherence === null ? '—' : category.coherence.toFixed(2))),
    category.keywords.length > 0 ? section('Keywords', null, el('div', { className: 'chips' }, category.keywords.slice(0, 12).map(({ term, weight }) => el('span', { className: 'chip', title: `Weight ${Number(weight).toFixed(3)}` }, term)))) : null,
    category.medoids.length > 0 ? section('Most typical texts', null, el('ul', { className: 'texts' }, category.medoids.map((text) => el('li', {}, el('p', {}, text))))) : null,
    near.length > 0 ? section('Nearest categories', 'cosine', rows(near)) : null,
    fineNames.length > 0 ? section('True labels', null, shares(members, fineOf)) : null,
    section('Texts on the map', count(members.length), textList(members, { category: false })),
  ];
}

/** Counts of a name over rows as bars, largest first. */
function shares(members, nameOf, most = 6) {
  const counts = new Map();
  for (const row of members) counts.set(nameOf(row) ?? 'none', (counts.get(nameOf(row) ?? 'none') ?? 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
  const lines = sorted.slice(0, most);
  const left = sorted.slice(most).reduce((sum, [, number]) => sum + number, 0);
  if (left > 0) lines.push([`${plural(sorted.length - most, 'other')}`, left]);
  return el('div', { className: 'shares' }, lines.flatMap(([name, number]) => [
    el('span', { className: 'name', title: name }, name),
    el('span', { className: 'meter', aria: { hidden: true } }, el('i', { style: { width: `${(100 * number) / members.length}%` } })),
    el('span', { className: 'number' }, `${count(number)} · ${percent(number / members.length)}`),
  ]));
}

/** Texts to click at, a hundred at a time. */
function textList(members, { category = true, query = '' } = {}) {
  const list = el('ul', { className: 'texts' });
  const more = el('button', { type: 'button', className: 'secondary more' });
  const box = el('div', {}, list);
  let shown = 0;
  const extend = () => {
    const next = members.slice(shown, shown + 100);
    list.append(...next.map((row) => {
      const of = state.category[row];
      return el('li', {}, el(
        'button',
        { type: 'button', data: { row }, on: { click: () => map.visit(row) } },
        el('span', {}, ...marked(shorten(points.text[row], 400), query)),
        category && of ? el('span', { className: 'under' }, dot(categoryColour(of), true), of.name) : null,
      ));
    }));
    shown += next.length;
    more.textContent = `Show more of ${count(members.length)}`;
    if (shown < members.length) box.append(more);
    else more.remove();
  };
  more.addEventListener('click', extend);
  extend();
  return box;
}

/** Texts of the lasso or the search. */
function textsBody() {
  const chosen = chosenRows();
  if (!chosen) {
    return [el('p', { className: 'hint' }, 'Search, or draw around texts on the map: hold ', el('kbd', {}, 'Shift'), ' and drag, or press ', el('kbd', {}, 'L'), ' first. ', el('kbd', {}, 'V'), ' takes the texts in view.')];
  }
  const lasso = state.lassoed !== null;
  const counts = new Map();
  for (const row of chosen) {
    const category = state.category[row];
    if (category) counts.set(category, (counts.get(category) ?? 0) + 1);
  }
  const sorted = [...counts].sort((a, b) => b[1] - a[1] || a[0].id - b[0].id);
  return [
    el(
      'div',
      {},
      el('h2', {}, lasso ? `${plural(chosen.length, 'text')} selected` : `${plural(chosen.length, 'text')} ${state.meaning ? 'near' : 'with'} “${shorten(state.query, 40)}”`),
      el(
        'div',
        { className: 'actions' },
        sorted.length > 1 ? el('button', { type: 'button', className: 'secondary', on: { click: () => { for (const [category] of sorted.slice(0, 20)) state.marked.add(category.id); emit('marked'); } } }, 'Mark categories') : null,
        chosen.length > 0 ? el('button', { type: 'button', className: 'secondary', on: { click: () => map.camera.show(chosen) } }, 'Zoom to them') : null,
        el('button', { type: 'button', className: 'plain', on: { click: lasso ? () => setLassoed(null) : clearSearch } }, 'Clear'),
      ),
    ),
    sorted.length > 0 ? section('Categories', count(sorted.length), rows(sorted.slice(0, 12).map(([category, number]) => ({ category, number: `${count(number)} · ${percent(number / chosen.length)}` })))) : null,
    chosen.length > 0 ? section('Texts', count(chosen.length), textList(chosen, { query: lasso || state.meaning ? '' : state.query })) : null,
  ];
}
