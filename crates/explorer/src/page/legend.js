// Which colour means what, and the legend that says so. An entry of the legend points out its texts.

/** Row -> value, value -> colour, and the entries of the legend. */
function makeScheme() {
  const { dark } = state;
  const shade = dark ? 'dark' : 'light';
  const grey = GREY[shade];
  const colours = new Map();
  let value;
  let entries = [];
  let note = '';
  const coarseEntries = () => coarseNames.map((name, index) => ({ value: index, name, colour: baseColour(index, dark), rows: (row) => points.coarse[row] === index }));
  /** Gives values shades of their group: `[value, group, size]`. */
  const shades = (items) => {
    const groups = new Map();
    for (const item of items.sort((a, b) => b[2] - a[2] || a[0] - b[0])) {
      if (!groups.has(item[1])) groups.set(item[1], []);
      groups.get(item[1]).push(item[0]);
    }
    // Without coarse categories there are no hues to keep to.
    const alone = groups.size < 2;
    for (const [group, values] of groups) {
      values.forEach((each, index) => colours.set(each, alone ? baseColour(index, dark) : group < 0 ? NEUTRAL[shade] : shadeColour(group, index, values.length, dark)));
    }
  };
  if (state.colourBy === 'coarse') {
    value = (row) => points.coarse[row];
    entries = coarseEntries();
    entries.forEach((entry) => colours.set(entry.value, entry.colour));
  } else if (state.colourBy === 'category') {
    value = (row) => state.category[row]?.id;
    shades(state.catalogue.active().map((category) => [category.id, coarseNames.indexOf(category.coarse), category.size]));
    entries = coarseNames.length > 1 ? coarseEntries() : [];
    note = coarseNames.length > 1 ? 'Shades: categories of one coarse category' : '';
  } else if (state.colourBy === 'fine') {
    value = (row) => points.fine[row];
    const sizes = fineNames.map(() => 0);
    const votes = fineNames.map(() => new Map());
    for (let row = 0; row < points.n; row++) {
      const fine = points.fine[row];
      if (fine === NONE) continue;
      sizes[fine]++;
      votes[fine].set(points.coarse[row], (votes[fine].get(points.coarse[row]) ?? 0) + 1);
    }
    const group = votes.map((vote) => [...vote].sort((a, b) => b[1] - a[1])[0]?.[0] ?? NONE).map((coarse) => (coarse === NONE ? -1 : coarse));
    shades(fineNames.map((_, index) => [index, group[index], sizes[index]]));
    entries = fineNames.map((name, index) => ({ value: index, name, group: group[index], colour: colours.get(index), rows: (row) => points.fine[row] === index }));
    entries.sort((a, b) => a.group - b.group || a.value - b.value);
  } else if (state.colourBy === 'new') {
    const kind = splitNames.map((name) => (name.startsWith('update') ? 2 : name === 'test' ? 1 : 0));
    value = (row) => (points.split[row] === NONE ? 0 : kind[points.split[row]]);
    entries = [['Known', grey], ['Test', KNOWN[shade]], ['New', NEW[shade]]].map(([name, colour], index) => ({ value: index, name, colour, rows: (row) => value(row) === index }));
    entries = entries.filter((entry) => entry.value === 0 || kind.includes(entry.value));
    entries.forEach((entry) => colours.set(entry.value, entry.colour));
  } else {
    value = (row) => comparison.change(row);
    entries = [['Same category', grey], ['Moved', NEW[shade]], ['Not in the other run', KNOWN[shade]]].map(([name, colour], index) => ({ value: index, name, colour, rows: (row) => value(row) === index }));
    entries.forEach((entry) => colours.set(entry.value, entry.colour));
  }
  return { value, entries, note, colour: (row) => colours.get(value(row)) ?? grey, of: (each) => colours.get(each) ?? grey };
}

let scheme = null;

/** Colour of a category in lists: its own where the map shows categories, else that of its coarse one. */
function categoryColour(category) {
  if (state.colourBy === 'category') return css(scheme.of(category.id));
  const coarse = coarseNames.indexOf(category.coarse);
  return css(coarse < 0 ? NEUTRAL[state.dark ? 'dark' : 'light'] : baseColour(coarse, state.dark));
}

function showLegend() {
  const totals = new Map(scheme.entries.map((entry) => [entry, 0]));
  if (scheme.entries.length <= 40) {
    for (const entry of scheme.entries) {
      let total = 0;
      for (let row = 0; row < points.n; row++) if (entry.rows(row)) total++;
      totals.set(entry, total);
    }
  }
  const shown = scheme.entries.filter((entry) => scheme.entries.length > 40 || totals.get(entry) > 0);
  const looksAt = (entry) => state.legend?.name === entry.name;
  $('legend').replaceChildren(
    ...shown.map((entry) => el(
      'button',
      {
        type: 'button',
        title: totals.get(entry) ? plural(totals.get(entry), 'text') : '',
        aria: { pressed: looksAt(entry) },
        on: { click: () => { state.legend = looksAt(entry) ? null : entry; emit('legend'); } },
      },
      dot(css(entry.colour)),
      el('span', { className: 'name' }, entry.name),
    )),
    ...(scheme.note ? [el('p', {}, scheme.note)] : []),
  );
  $('legend').hidden = shown.length === 0 && !scheme.note;
}

function startLegend() {
  const modes = [['coarse', 'Coarse', coarseNames.length > 0], ['category', 'Category', true], ['fine', 'True label', fineNames.length > 0], ['new', 'New', splitNames.length > 1 || hasNew], ['change', 'Change', comparison !== null]];
  state.colourBy = 'category';
  $('colours').append(...modes.filter(([, , there]) => there).map(([key, name]) => el(
    'label',
    {},
    el('input', { type: 'radio', name: 'colour', value: key, checked: key === state.colourBy, on: { change: () => { state.colourBy = key; state.legend = null; emit('colour'); emit('legend'); } } }),
    el('span', {}, name),
  )));
  const renew = () => {
    scheme = makeScheme();
    showLegend();
  };
  on('colour catalogue theme', renew);
  on('legend', showLegend);
  renew();
}
