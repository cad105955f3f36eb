// The categories at one moment, and what edits make of them.

/** A category as the page holds it: `into` is the one it became by merging, or null; `gone`: no other took its place. */
function fromSource(category) {
  return {
    id: category.id,
    name: category.name,
    coarse: category.coarse ?? null,
    keywords: category.keywords.map(([term, weight]) => ({ term, weight })),
    medoids: category.medoids,
    size: category.size,
    coherence: category.coherence ?? null,
    nearest: category.nearest.map(([id, cosine]) => ({ id, cosine })),
    byHand: category.by_hand,
    into: null,
    gone: false,
  };
}

/** A category as the server describes it. */
function fromServer(category) {
  const status = category.status ?? 'active';
  return {
    id: category.id,
    name: String(category.name),
    coarse: category.coarse ?? null,
    keywords: category.keywords ?? [],
    medoids: category.medoids ?? [],
    size: category.size ?? 0,
    coherence: category.coherence ?? null,
    nearest: category.nearest ?? [],
    byHand: category.name_source === 'human',
    into: status.merged?.into ?? null,
    gone: status !== 'active' && !status.merged,
  };
}

class Catalogue {
  constructor(categories, revision) {
    this.revision = revision;
    this.byId = new Map(categories.map((category) => [category.id, category]));
  }

  /** Categories in use. */
  active() {
    return [...this.byId.values()].filter((category) => category.into === null && !category.gone);
  }

  get(id) {
    return this.byId.get(id);
  }

  /** The category in use that `id` has become; none where that cannot be told here. */
  resolve(id) {
    let category = this.byId.get(id);
    for (let step = 0; category && category.into !== null && step < this.byId.size; step++) {
      category = this.byId.get(category.into);
    }
    return category && category.into === null && !category.gone ? category : null;
  }

  /** Why a name cannot be given to the category `id`, or null. */
  objection(name, ids) {
    if (!name) return 'A category needs a name.';
    if (name.length > 200) return 'A name has at most 200 characters.';
    const same = (other) => other.toLowerCase() === name.toLowerCase();
    const other = this.active().find((category) => same(category.name) && !ids.includes(category.id));
    return other ? `Category ${other.id} has this name already.` : null;
  }

  /** Id of the next category that is born; retired ones keep theirs. */
  nextId() {
    return Math.max(source.next_id, ...[...this.byId.keys()].map((id) => id + 1));
  }

  /** The catalogue after an edit. */
  after(edit) {
    const categories = new Map(this.byId);
    if (edit.rename) {
      const { id, name } = edit.rename;
      categories.set(id, { ...this.get(id), name, byHand: true });
    } else {
      const { ids, name, into } = edit.merge;
      const parts = ids.map((id) => this.get(id));
      categories.set(into, { ...union(parts), id: into, name });
      for (const part of parts) categories.set(part.id, { ...part, into });
    }
    return new Catalogue([...categories.values()], this.revision + 1);
  }
}

/** Evidence of several categories together, as far as it can be told without vectors. */
function union(parts) {
  const best = (lists, key, value) => {
    const largest = new Map();
    for (const entry of lists.flat()) {
      const known = largest.get(entry[key]);
      if (!known || known[value] < entry[value]) largest.set(entry[key], entry);
    }
    return [...largest.values()].sort((a, b) => b[value] - a[value]);
  };
  const ids = parts.map((part) => part.id);
  return {
    coarse: parts.every((part) => part.coarse === parts[0].coarse) ? parts[0].coarse : null,
    keywords: best(parts.map((part) => part.keywords), 'term', 'weight').slice(0, 12),
    medoids: parts.flatMap((part) => part.medoids.slice(0, 3)),
    size: parts.reduce((sum, part) => sum + part.size, 0),
    coherence: null,
    nearest: best(parts.map((part) => part.nearest), 'id', 'cosine').filter((near) => !ids.includes(near.id)),
    byHand: true,
    into: null,
    gone: false,
  };
}
