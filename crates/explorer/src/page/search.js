// Search for a part of a text, in any case; on a page from a server also for texts of like meaning.

let folded = null;
let rowsOf = null;
/** Number of the search that was started last; answers to earlier ones are dropped. */
let latest = 0;

/** Rows whose text contains `query`, which is in lower case. */
function search(query) {
  folded ??= points.text.map((text) => text.toLowerCase());
  const found = [];
  for (let row = 0; row < points.n; row++) if (folded[row].includes(query)) found.push(row);
  return found;
}

/** Rows of the page whose texts are nearest in meaning, as the server finds them. */
async function searchMeaning(query) {
  const { results } = await editor.request('POST', 'search', { query, k: 100, truncate: true });
  if (!rowsOf) {
    rowsOf = new Map();
    points.text.forEach((text, row) => rowsOf.set(text, [...(rowsOf.get(text) ?? []), row]));
  }
  return [...new Set(results.flatMap((result) => rowsOf.get(result.text) ?? []))];
}

function showFound(query, found) {
  state.query = query;
  state.found = found;
  $('found').textContent = found ? plural(found.length, 'text') : '';
  emit('found');
}

function setQuery(text) {
  latest++;
  const query = text.trim().toLowerCase();
  if (query === state.query && !state.meaning) return;
  showFound(query, query ? search(query) : null);
}

async function setMeaning(text) {
  const query = text.trim();
  const number = ++latest;
  if (!query) return showFound('', null);
  const answer = await attempt(() => searchMeaning(query));
  if (answer && number === latest) showFound(query, answer.value);
}

function clearSearch() {
  $('search').value = '';
  latest++;
  showFound('', null);
}

function startSearch() {
  let wait = 0;
  $('meaning').hidden = !source.served;
  $('meaning').addEventListener('click', () => {
    state.meaning = !state.meaning;
    $('meaning').setAttribute('aria-pressed', String(state.meaning));
    $('search').placeholder = state.meaning ? 'Describe what you look for, then Enter' : 'Search the texts';
    clearSearch();
    $('search').focus();
  });
  $('search').addEventListener('input', () => {
    clearTimeout(wait);
    // A request for every letter would be too many.
    if (state.meaning) {
      if (!$('search').value) clearSearch();
      return;
    }
    wait = setTimeout(() => {
      setQuery($('search').value);
      if (state.found && !isNarrow()) openTab('texts');
    }, 90);
  });
  $('search').addEventListener('keydown', async (event) => {
    if (event.key !== 'Enter') return;
    clearTimeout(wait);
    if (state.meaning) await setMeaning($('search').value);
    else setQuery($('search').value);
    if (state.found) openTab('texts');
  });
}
