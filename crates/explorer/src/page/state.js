// What is shown at the moment. Everything that changes it says so; everything that shows it listens.

const state = {
  catalogue: new Catalogue(source.categories.map(fromSource), source.revision),
  /** Category in use of every text; null where the catalogue cannot tell. */
  category: [],
  /** Rows of every category in use, by id. */
  members: new Map(),
  colourBy: 'coarse',
  /** Id of the category that is looked at, or null. */
  selected: null,
  /** Id of the category under the pointer in the list, or null. */
  preview: null,
  /** Ids marked for merging. */
  marked: new Set(),
  /** Entry of the legend that is looked at, or null. */
  legend: null,
  /** What is searched for; in lower case where it is a part of the texts. */
  query: '',
  /** Whether the search is for meaning, on a server. */
  meaning: false,
  /** Rows that contain it, or null. */
  found: null,
  /** Rows inside the lasso, or null. */
  lassoed: null,
  dark: false,
};

const listeners = new Map();

/** Calls `listener` after each of the events. */
function on(events, listener) {
  for (const event of events.split(' ')) listeners.set(event, [...(listeners.get(event) ?? []), listener]);
}

function emit(event) {
  for (const listener of listeners.get(event) ?? []) listener();
}

/** Exchanges the catalogue and puts every text into its category. */
function setCatalogue(catalogue) {
  state.catalogue = catalogue;
  const resolved = new Map();
  state.members = new Map();
  state.category = Array.from(points.category, (id, row) => {
    if (!resolved.has(id)) resolved.set(id, catalogue.resolve(id));
    const category = resolved.get(id);
    if (category) {
      if (!state.members.has(category.id)) state.members.set(category.id, []);
      state.members.get(category.id).push(row);
    }
    return category;
  });
  const now = (id) => catalogue.resolve(id)?.id ?? null;
  state.selected = state.selected === null ? null : now(state.selected);
  state.preview = null;
  state.marked = new Set([...state.marked].map(now).filter((id) => id !== null));
  emit('catalogue');
  emit('selection');
  emit('marked');
}

/** Looks at a category, or at none. */
function select(id) {
  if (state.selected === id) return;
  state.selected = id;
  emit('selection');
}

function mark(id, on = !state.marked.has(id)) {
  if (on) state.marked.add(id);
  else state.marked.delete(id);
  emit('marked');
}

/** Texts inside the lasso, or null. */
function setLassoed(rows) {
  state.lassoed = rows;
  emit('lasso');
}

/** The texts the lists and the map point out: those of the lasso, else those of the search. */
const chosenRows = () => state.lassoed ?? state.found;
