// Rename, merge, undo. On a page from a server they go there and the categories are read anew after each;
// on a page from a file they stay in the page until they are saved as a list of edits.

/** An edit in words. */
function say(edit) {
  if (edit.rename) return `Category ${edit.rename.id} renamed to “${edit.rename.name}”`;
  return `Categories ${edit.merge.ids.join(', ')} merged into “${edit.merge.name}”`;
}

/** Edits that stay in the page. */
class PageEdits {
  constructor() {
    this.base = state.catalogue;
    this.done = [];
    this.undone = [];
    /** The list as it was saved last. */
    this.saved = null;
    addEventListener('beforeunload', (event) => {
      if (this.done.length > 0 && this.text() !== this.saved) event.preventDefault();
    });
  }

  renew() {
    setCatalogue(this.done.reduce((catalogue, edit) => catalogue.after(edit), this.base));
    emit('edits');
  }

  apply(edit) {
    this.done.push(edit);
    this.undone = [];
    this.renew();
    toast(`${say(edit)}.`);
  }

  async rename(id, name) {
    this.apply({ rename: { id, name } });
  }

  async merge(ids, name) {
    const into = state.catalogue.nextId();
    this.apply({ merge: { ids, name, into } });
    return into;
  }

  async undo() {
    const edit = this.done.pop();
    if (!edit) throw new Error('There is nothing to undo.');
    this.undone.push(edit);
    this.renew();
    toast(`Undone: ${say(edit)}.`);
  }

  async redo() {
    const edit = this.undone.pop();
    if (!edit) throw new Error('There is nothing to redo.');
    this.done.push(edit);
    this.renew();
    toast(`${say(edit)}.`);
  }

  /** The list as a file that `asterism categories apply` reads. */
  text() {
    return `${JSON.stringify({ schema: 'asterism/edits/1', revision: source.revision, edits: this.done }, null, 2)}\n`;
  }

  save() {
    const address = URL.createObjectURL(new Blob([this.text()], { type: 'application/json' }));
    el('a', { href: address, download: 'edits.json' }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
    this.saved = this.text();
  }
}

/** Edits that a server keeps. */
class ServerEdits {
  constructor() {
    this.done = [];
    /** Kept in this page only. */
    this.key = null;
  }

  async start() {
    try {
      await this.renew();
    } catch (error) {
      toast(error.message, true);
    }
  }

  async request(method, path, body) {
    const headers = { accept: 'application/json' };
    if (body) headers['content-type'] = 'application/json';
    if (this.key) headers.authorization = `Bearer ${this.key}`;
    let response;
    try {
      response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: 'no-store', redirect: 'error' });
    } catch {
      throw new Error('The server cannot be reached.');
    }
    if (response.status === 401) {
      const key = await askKey(this.key !== null);
      if (key === null) throw new Error('The server asks for a key.');
      this.key = key;
      return this.request(method, path, body);
    }
    const answer = await response.json().catch(() => null);
    if (!response.ok) {
      const said = answer?.error?.message ?? answer?.message ?? answer?.error;
      throw new Error(typeof said === 'string' ? said : `The server answered ${response.status}.`);
    }
    return answer;
  }

  /** Reads the categories, the retired ones too: through them the texts of the page are followed. */
  async renew() {
    const answer = await this.request('GET', 'categories');
    setCatalogue(new Catalogue(answer.categories.map(fromServer), answer.revision ?? 0));
    const lost = state.category.some((category) => category === null);
    $('notice').hidden = !lost;
    $('notice').replaceChildren('The categories have changed since this page was made.', el('button', { type: 'button', className: 'primary', on: { click: () => location.reload() } }, 'Reload'));
    emit('edits');
  }

  async send(path, body, said) {
    await this.request('POST', path, body);
    this.done.push(said);
    await this.renew();
    toast(`${said}.`);
  }

  async rename(id, name) {
    await this.send(`categories/${id}/rename`, { name }, say({ rename: { id, name } }));
  }

  async merge(ids, name) {
    await this.send('categories/merge', { ids, name }, say({ merge: { ids, name } }));
    return state.catalogue.resolve(ids[0])?.id ?? null;
  }

  async undo() {
    await this.send('categories/undo', {}, 'The last edit was undone');
  }
}

let editor = null;

function startEdits() {
  editor = source.served ? new ServerEdits() : new PageEdits();
}

/** Runs an edit; `tell` shows why it did not work. */
async function attempt(edit, tell = (message) => toast(message, true)) {
  try {
    return { value: await edit() };
  } catch (error) {
    tell(error.message);
    return null;
  }
}

/** The field for a new name, under the old one. */
function showRename(category) {
  const input = el('input', { type: 'text', value: category.name, maxLength: 200, autocomplete: 'off', aria: { label: `New name of ${category.name}` } });
  const problem = el('p', { className: 'problem', role: 'alert' });
  const close = () => {
    $('rename-place').replaceChildren();
    $('category-actions').hidden = false;
    $('rename')?.focus();
  };
  const form = el(
    'form',
    {
      className: 'inline',
      on: {
        submit: async (event) => {
          event.preventDefault();
          const name = input.value.trim();
          if (name === category.name) return close();
          problem.textContent = state.catalogue.objection(name, [category.id]) ?? '';
          if (problem.textContent) return;
          const done = await attempt(() => editor.rename(category.id, name), (message) => { problem.textContent = message; });
          if (done) $('rename')?.focus();
        },
        keydown: (event) => {
          if (event.key !== 'Escape') return;
          event.stopPropagation();
          close();
        },
      },
    },
    input,
    problem,
    el('div', { className: 'row' }, el('button', { type: 'submit', className: 'primary' }, 'Save name'), el('button', { type: 'button', className: 'plain', on: { click: close } }, 'Cancel')),
  );
  $('category-actions').hidden = true;
  $('rename-place').replaceChildren(form);
  input.focus();
  input.select();
}

/** Opens the dialog with a form; `submit` returns what is wrong, or nothing. Resolves when it is closed. */
function ask(title, content, action, submit) {
  const problem = el('p', { className: 'problem', role: 'alert' });
  let result = null;
  const form = el(
    'form',
    {
      on: {
        submit: async (event) => {
          event.preventDefault();
          const wrong = await submit((value) => { result = value; });
          problem.textContent = wrong ?? '';
          if (!wrong) dialog.close();
        },
      },
    },
    el('h2', {}, title),
    ...content,
    problem,
    el('div', { className: 'buttons' }, el('button', { type: 'button', className: 'secondary', on: { click: () => dialog.close() } }, 'Cancel'), el('button', { type: 'submit', className: 'primary' }, action)),
  );
  const dialog = openDialog(title, form);
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(result)));
}

async function askMerge(ids) {
  const parts = ids.map((id) => state.catalogue.get(id)).filter(Boolean).sort((a, b) => b.size - a.size || a.id - b.id);
  if (parts.length < 2) return;
  const input = el('input', { type: 'text', value: parts[0].name, maxLength: 200, autocomplete: 'off' });
  const into = await ask(
    `Merge ${parts.length} categories`,
    [
      el('ul', { className: 'rows' }, parts.slice(0, 12).map((part) => el('li', {}, dot(categoryColour(part), true), ` ${part.name} `, el('span', { className: 'count' }, plural(part.size, 'text'))))),
      parts.length > 12 ? el('p', { className: 'quiet' }, `and ${parts.length - 12} more`) : '',
      el('label', {}, 'Name of the merged category', input),
    ],
    'Merge',
    async (done) => {
      const name = input.value.trim();
      const wrong = state.catalogue.objection(name, ids);
      if (wrong) return wrong;
      let problem = null;
      const merged = await attempt(() => editor.merge(parts.map((part) => part.id).sort((a, b) => a - b), name), (message) => { problem = message; });
      if (merged) done(merged.value);
      return problem;
    },
  );
  if (into === null) return;
  for (const part of parts) state.marked.delete(part.id);
  state.marked.delete(into);
  emit('marked');
  select(into);
  openTab('details');
}

/** Asks for the key of the server; null if it is not given. */
async function askKey(again) {
  const input = el('input', { type: 'password', autocomplete: 'off', required: true });
  return ask(
    'Key of the server',
    [el('p', { className: 'quiet' }, again ? 'The server did not take this key.' : 'This server asks for a key. It is kept in this page only, until it is closed.'), el('label', {}, 'Key', input)],
    'Continue',
    async (done) => done(input.value) ?? null,
  );
}

const undo = () => attempt(() => editor.undo());

function editsBody() {
  const { done } = editor;
  const served = source.served;
  return [
    el(
      'div',
      {},
      el('h2', {}, done.length === 0 ? 'No edits yet' : plural(done.length, 'edit')),
      el('p', { className: 'quiet' }, served ? 'Edits are kept by the server at once.' : 'Edits are kept in this page. Save them as a list before you close it.'),
      el(
        'div',
        { className: 'actions' },
        served ? null : el('button', { type: 'button', id: 'save', className: 'primary', disabled: done.length === 0, on: { click: () => editor.save() } }, 'Save list'),
        el('button', { type: 'button', id: 'undo', className: 'secondary', disabled: !served && done.length === 0, title: 'Undo (Ctrl+Z)', on: { click: undo } }, 'Undo'),
        served ? null : el('button', { type: 'button', id: 'redo', className: 'secondary', disabled: editor.undone.length === 0, title: 'Redo (Ctrl+Shift+Z)', on: { click: () => attempt(() => editor.redo()) } }, 'Redo'),
      ),
    ),
    done.length > 0 ? el('ol', { className: 'log' }, [...done].reverse().map((edit) => el('li', {}, typeof edit === 'string' ? edit : say(edit)))) : null,
    served || done.length === 0 ? null : el('p', { className: 'hint' }, 'Apply the saved list to the run: ', el('code', {}, 'asterism categories apply RUN edits.json')),
  ];
}
