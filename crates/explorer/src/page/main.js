// Theme, keys, help, start.

const KEYS = [
  [['/'], 'Search the texts'],
  [['Esc'], 'Clear: lasso, search, legend, category'],
  [['←', '→', '↑', '↓'], 'Move the map, or move in the list'],
  [['+', '−'], 'Zoom'],
  [['0'], 'Show everything'],
  [['Enter'], 'Select the category in the middle of the map, or of the list'],
  [['L'], 'Lasso'],
  [['Shift', 'drag'], 'Draw around texts'],
  [['V'], 'Select the texts in view'],
  [['R'], 'Rename the category'],
  [['M'], 'Mark a category of the list for merging'],
  [['Ctrl', 'Z'], 'Undo an edit'],
  [['Tab'], 'Next control'],
  [['?'], 'These keys'],
];

function showHelp() {
  const title = 'Keyboard and mouse';
  const dialog = openDialog(title, el(
    'div',
    { className: 'content' },
    el('h2', {}, title),
    el('dl', { className: 'keys' }, KEYS.flatMap(([keys, what]) => [el('dt', {}, keys.map((key) => el('kbd', {}, key))), el('dd', {}, what)])),
    el('p', { className: 'quiet' }, 'Drag moves the map, the wheel zooms, a click selects a category.'),
    el('div', { className: 'buttons' }, el('button', { type: 'button', className: 'primary', on: { click: () => dialog.close() } }, 'Close')),
  ));
}

const THEMES = { auto: ['◐', 'as the system'], light: ['☀', 'light'], dark: ['☾', 'dark'] };

function startTheme() {
  const system = matchMedia('(prefers-color-scheme: dark)');
  const root = document.documentElement;
  const renew = () => {
    const chosen = root.dataset.theme;
    state.dark = chosen === 'dark' || (chosen === 'auto' && system.matches);
    root.dataset.shade = state.dark ? 'dark' : 'light';
    $('theme').textContent = THEMES[chosen][0];
    $('theme').setAttribute('aria-label', `Theme: ${THEMES[chosen][1]}`);
    emit('theme');
  };
  $('theme').addEventListener('click', () => {
    const names = Object.keys(THEMES);
    root.dataset.theme = names[(names.indexOf(root.dataset.theme) + 1) % names.length];
    renew();
  });
  system.addEventListener('change', renew);
  renew();
}

/** Takes back the last thing that narrows what is seen. */
function clearOne() {
  if (map.path || map.lassoMode) {
    map.path = null;
    map.setLasso(false);
    map.redraw();
  } else if (state.lassoed) {
    setLassoed(null);
  } else if (state.query) {
    clearSearch();
  } else if (state.legend) {
    state.legend = null;
    emit('legend');
  } else if (state.selected !== null) {
    select(null);
    if (isNarrow()) closePanel();
  } else if (state.marked.size > 0) {
    state.marked.clear();
    emit('marked');
  } else if (isNarrow()) {
    closePanel();
  }
}

function onKey(event) {
  if (event.defaultPrevented || document.querySelector('dialog[open]')) return;
  const writing = event.target.closest('input:not([type="radio"]), select, textarea');
  if (event.key === 'Escape') {
    if (writing?.id === 'search') clearSearch();
    else if (writing?.id === 'filter' && writing.value) {
      writing.value = '';
      writing.dispatchEvent(new Event('input'));
    } else clearOne();
    if (writing) $('overlay').focus();
    event.preventDefault();
    return;
  }
  if (writing) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'z') {
    if (!event.shiftKey) undo();
    else if (editor.redo) attempt(() => editor.redo());
    event.preventDefault();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const idle = document.activeElement === document.body;
  const actions = {
    '/': () => $('search').select(),
    '+': () => map.zoom(1.6),
    '=': () => map.zoom(1.6),
    '-': () => map.zoom(1 / 1.6),
    '−': () => map.zoom(1 / 1.6),
    0: () => map.camera.everything(),
    l: () => map.setLasso(!map.lassoMode),
    v: () => map.chooseView(),
    '?': showHelp,
    r: () => {
      if (state.selected === null) return;
      openTab('details');
      $('rename').click();
    },
  };
  const action = actions[event.key] ?? actions[event.key.toLowerCase()];
  if (action) {
    action();
    event.preventDefault();
  } else if (idle && event.key.startsWith('Arrow')) {
    map.key(event);
  }
}

startTheme();
startComparison();
setCatalogue(state.catalogue);
startLegend();
startEdits();
const map = new MapView();
const list = new CategoryList();
startPanel();
startSearch();
$('overlay').setAttribute('aria-label', `Map of ${plural(points.n, 'text')} in ${plural(state.catalogue.active().length, 'category', 'categories')}`);
$('subtitle').textContent = `${plural(points.n, 'text')}${source.total > points.n ? ` of ${count(source.total)}` : ''} · ${plural(state.catalogue.active().length, 'category', 'categories')}`;
$('help').addEventListener('click', showHelp);
addEventListener('keydown', onKey);
if (source.served) editor.start();
