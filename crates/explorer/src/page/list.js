// The list of categories: order, filter, choice, marks for merging. One stop of the tab key; arrows move.

class CategoryList {
  constructor() {
    this.list = $('list');
    this.current = null;
    $('coarse-filter').append(el('option', { value: '' }, 'All coarse'), ...coarseNames.map((name) => el('option', { value: name }, name)));
    $('coarse-filter').hidden = coarseNames.length < 2;
    for (const id of ['filter', 'coarse-filter', 'sort']) $(id).addEventListener('input', () => this.renew());
    this.list.addEventListener('click', (event) => this.click(event));
    this.list.addEventListener('keydown', (event) => this.key(event));
    this.list.addEventListener('pointerover', (event) => this.preview(event.target.closest('.item')));
    this.list.addEventListener('pointerleave', () => this.preview(null));
    // The list itself is only reached by the link at the top of the page.
    this.list.addEventListener('focus', () => this.item(this.current ?? this.shown[0]?.id)?.focus());
    $('merge-clear').addEventListener('click', () => {
      state.marked.clear();
      emit('marked');
    });
    $('merge').addEventListener('click', () => askMerge([...state.marked]));
    on('catalogue colour theme', () => this.renew());
    on('selection', () => this.showSelection());
    on('marked', () => this.showMarks());
    this.renew();
  }

  item(id) {
    return this.list.querySelector(`[data-id="${id}"]`);
  }

  renew() {
    const words = $('filter').value.trim().toLowerCase();
    const coarse = $('coarse-filter').value;
    const fits = (category) => (!coarse || category.coarse === coarse)
      && (!words || category.name.toLowerCase().includes(words) || String(category.id) === words || category.keywords.some((keyword) => keyword.term.toLowerCase().includes(words)));
    const byName = (a, b) => a.name.localeCompare(b.name) || a.id - b.id;
    const bySize = (a, b) => b.size - a.size || a.id - b.id;
    const order = {
      size: bySize,
      name: byName,
      coarse: (a, b) => (a.coarse ?? '').localeCompare(b.coarse ?? '') || bySize(a, b),
      tight: (a, b) => (b.coherence ?? -1) - (a.coherence ?? -1) || bySize(a, b),
      loose: (a, b) => (a.coherence ?? 2) - (b.coherence ?? 2) || bySize(a, b),
    }[$('sort').value];
    const active = state.catalogue.active();
    this.shown = active.filter(fits).sort(order);
    const hadFocus = this.list.contains(document.activeElement);
    const top = this.list.scrollTop;
    this.list.replaceChildren(...this.shown.map((category) => this.row(category)));
    this.list.scrollTop = top;
    if (this.shown.length === 0) this.list.append(el('li', { className: 'empty', role: 'presentation' }, 'No category fits the filter.'));
    $('list-count').textContent = this.shown.length === active.length ? count(active.length) : `${count(this.shown.length)} of ${count(active.length)}`;
    if (!this.shown.some((category) => category.id === this.current)) this.current = state.selected;
    this.showSelection();
    this.showMarks();
    if (hadFocus) this.item(this.current)?.focus();
  }

  row(category) {
    const coherence = category.coherence;
    return el(
      'li',
      { className: 'item', role: 'option', tabIndex: -1, data: { id: category.id }, title: category.name },
      el('span', { className: 'tick', title: 'Mark for merging (M)', aria: { hidden: true } }, el('i', { style: { background: categoryColour(category) } })),
      el('span', { className: 'name' }, category.name),
      el('span', { className: 'size' }, count(category.size)),
      el('span', { className: 'under' }, category.keywords.slice(0, 4).map((keyword) => keyword.term).join(', ') || category.coarse || '—'),
      coherence === null ? '' : el('span', { className: 'bar-cell', title: `Coherence ${coherence.toFixed(2)}` }, el('i', { style: { width: `${Math.max(0, Math.min(1, coherence)) * 100}%` } })),
      el('span', { className: 'hidden marks' }, ''),
    );
  }

  showSelection() {
    if (state.selected !== null) this.current = state.selected;
    for (const item of this.list.querySelectorAll('.item')) {
      const chosen = Number(item.dataset.id) === state.selected;
      item.setAttribute('aria-selected', String(chosen));
      item.tabIndex = -1;
      if (chosen) item.scrollIntoView({ block: 'nearest' });
    }
    const stop = this.item(this.current) ?? this.list.querySelector('.item');
    if (stop) stop.tabIndex = 0;
  }

  showMarks() {
    for (const item of this.list.querySelectorAll('.item')) {
      const on = state.marked.has(Number(item.dataset.id));
      item.classList.toggle('marked', on);
      item.querySelector('.marks').textContent = on ? ', marked for merging' : '';
    }
    $('merge-bar').hidden = state.marked.size === 0;
    $('merge-count').textContent = `${count(state.marked.size)} marked`;
    $('merge').disabled = state.marked.size < 2;
  }

  click(event) {
    const item = event.target.closest('.item');
    if (!item) return;
    const id = Number(item.dataset.id);
    this.current = id;
    if (event.target.closest('.tick') || event.ctrlKey || event.metaKey) mark(id);
    else this.choose(id);
  }

  choose(id) {
    select(id);
    openTab('details');
  }

  preview(item) {
    const id = item ? Number(item.dataset.id) : null;
    if (id === state.preview) return;
    state.preview = id;
    emit('preview');
  }

  key(event) {
    const at = this.shown.findIndex((category) => category.id === Number(document.activeElement.dataset.id));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: this.shown.length - 1, PageDown: at + 10, PageUp: at - 10 }[event.key];
    if (to !== undefined && this.shown.length > 0) {
      const next = this.shown[Math.min(this.shown.length - 1, Math.max(0, to))];
      this.current = next.id;
      const item = this.item(next.id);
      item.scrollIntoView({ block: 'nearest' });
      item.focus();
    } else if ((event.key === 'Enter' || event.key === ' ') && at >= 0) {
      this.choose(this.shown[at].id);
    } else if (event.key.toLowerCase() === 'm' && at >= 0 && !event.ctrlKey && !event.metaKey) {
      mark(this.shown[at].id);
    } else {
      return;
    }
    event.preventDefault();
  }
}
