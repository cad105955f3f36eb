// The map: drawing, pointer, keyboard, lasso, tooltip.

/** Cells of a grid over the map, to find texts near a place. */
class Grid {
  constructor() {
    this.side = 160;
    const starts = new Uint32Array(this.side * this.side + 1);
    const cells = Uint32Array.from({ length: points.n }, (_, row) => this.cell(points.x[row], points.y[row]));
    for (const cell of cells) starts[cell + 1]++;
    for (let i = 0; i < this.side * this.side; i++) starts[i + 1] += starts[i];
    const next = starts.slice();
    this.rows = new Uint32Array(points.n);
    cells.forEach((cell, row) => { this.rows[next[cell]++] = row; });
    this.starts = starts;
  }

  line(v) {
    return Math.min(this.side - 1, Math.max(0, Math.floor((v + 0.5) * this.side)));
  }

  cell(x, y) {
    return this.line(y) * this.side + this.line(x);
  }

  /** Calls `visit` with the rows of the cells that touch a rectangle. */
  each(left, bottom, right, top, visit) {
    for (let line = this.line(bottom); line <= this.line(top); line++) {
      const from = this.starts[line * this.side + this.line(left)];
      const to = this.starts[line * this.side + this.line(right) + 1];
      for (let at = from; at < to; at++) visit(this.rows[at]);
    }
  }

  /** The nearest text within a distance that `allowed` does not refuse, or -1. */
  nearest(x, y, distance, allowed) {
    let best = -1;
    let least = distance * distance;
    this.each(x - distance, y - distance, x + distance, y + distance, (row) => {
      const squared = (points.x[row] - x) ** 2 + (points.y[row] - y) ** 2;
      if (squared <= least && allowed(row)) [best, least] = [row, squared];
    });
    return best;
  }

  /** Texts inside a polygon `[[x, y], ...]`. */
  inside(polygon) {
    const xs = polygon.map(([x]) => x);
    const ys = polygon.map(([, y]) => y);
    const rows = [];
    this.each(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), (row) => {
      const [x, y] = [points.x[row], points.y[row]];
      let within = false;
      for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
        const [ax, ay] = polygon[i];
        const [bx, by] = polygon[j];
        if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
      }
      if (within) rows.push(row);
    });
    return rows.sort((a, b) => a - b);
  }
}

class MapView {
  constructor() {
    this.overlay = $('overlay');
    this.context = this.overlay.getContext('2d');
    this.camera = new Camera(() => this.redraw());
    this.grid = new Grid();
    this.labels = new Labels();
    this.points = makePoints($('points'), () => this.repaint());
    this.order = new Uint32Array(points.n);
    this.rgba = new Uint8Array(4 * points.n);
    this.lit = null;
    this.hover = -1;
    this.path = null;
    this.lassoMode = false;
    this.pointers = new Map();
    new ResizeObserver(() => this.resize()).observe(this.overlay.parentElement);
    this.listen();
    on('catalogue', () => this.labels.renew());
    on('catalogue colour legend selection preview found lasso theme', () => this.repaint());
    on('theme', () => { this.palette = null; });
    on('selection', () => this.follow());
    this.resize();
    this.repaint();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.overlay.parentElement;
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    for (const canvas of [$('points'), this.overlay]) {
      canvas.width = Math.max(1, Math.round(width * this.ratio));
      canvas.height = Math.max(1, Math.round(height * this.ratio));
    }
    this.camera.resize(width, height);
    // A canvas that changes its size is empty until it is drawn again.
    this.draw();
  }

  /** Rows that stand out as an array of 0 and 1, or null where all do. */
  emphasis() {
    const rows = chosenRows();
    const looking = state.preview ?? state.selected;
    let listed = rows;
    if (!rows && state.legend) {
      return Uint8Array.from({ length: points.n }, (_, row) => (state.legend.rows(row) ? 1 : 0));
    }
    if (!rows && looking !== null) listed = state.members.get(looking) ?? [];
    if (!listed) return null;
    const lit = new Uint8Array(points.n);
    for (const row of listed) lit[row] = 1;
    return lit;
  }

  /** After a change of colours or of what stands out. */
  repaint() {
    this.lit = this.emphasis();
    const grey = GREY[state.dark ? 'dark' : 'light'];
    const full = points.n > 8000 ? 205 : 225;
    let behind = 0;
    let front = points.n;
    for (let row = points.n - 1; row >= 0; row--) {
      const lit = !this.lit || this.lit[row] === 1;
      const [r, g, b] = lit ? scheme.colour(row) : grey;
      this.rgba.set([r, g, b, lit ? full : state.dark ? 46 : 52], 4 * row);
      if (lit) this.order[--front] = row;
      else this.order[behind++] = row;
    }
    this.points.paint(this.rgba, this.order);
    this.painted = true;
    this.redraw();
  }

  redraw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => this.draw());
  }

  get radius() {
    const { width, height, zoom } = this.camera;
    const base = Math.min(4.2, Math.max(1.35, 0.42 * Math.sqrt((width * height) / points.n)));
    return Math.min(8, base * Math.max(1, zoom) ** 0.3);
  }

  draw() {
    if (this.pending) cancelAnimationFrame(this.pending);
    this.pending = 0;
    const { camera, context, ratio } = this;
    if (!this.painted) return;
    this.points.draw(camera, this.radius, ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, camera.width, camera.height);
    if (!this.palette) {
      const style = getComputedStyle(document.documentElement);
      const read = (name) => style.getPropertyValue(name).trim();
      this.palette = { ground: read('--ground'), text: read('--text'), focus: read('--focus'), accent: read('--accent') };
    }
    this.labels.draw(context, camera, this.palette);
    if (this.hover >= 0) this.ring(this.hover);
    if (this.path) this.drawPath();
    if (this.overlay.matches(':focus-visible')) this.drawMiddle();
  }

  ring(row) {
    const { context, camera } = this;
    const [x, y] = camera.toScreen(points.x[row], points.y[row]);
    context.beginPath();
    context.arc(x, y, this.radius + 3.5, 0, 7);
    context.lineWidth = 2;
    context.strokeStyle = this.palette.text;
    context.stroke();
  }

  drawPath() {
    const { context } = this;
    context.beginPath();
    this.path.forEach(([x, y]) => context.lineTo(x, y));
    context.closePath();
    context.globalAlpha = 0.14;
    context.fillStyle = this.palette.accent;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 1.5;
    context.strokeStyle = this.palette.accent;
    context.setLineDash([5, 4]);
    context.stroke();
    context.setLineDash([]);
  }

  /** Where the keyboard points. */
  drawMiddle() {
    const { context, camera } = this;
    const [x, y] = [camera.width / 2, camera.height / 2];
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + 5 * dx, y + 5 * dy);
      context.lineTo(x + 14 * dx, y + 14 * dy);
    }
    context.lineWidth = 2;
    context.strokeStyle = this.palette.focus;
    context.stroke();
  }

  /** The text near a place of the screen, or -1; what stands out first. */
  at(sx, sy, reach = Math.max(7, this.radius + 4)) {
    const [x, y] = this.camera.toPlane(sx, sy);
    const distance = reach / this.camera.scale;
    const lit = this.lit ? this.grid.nearest(x, y, distance, (row) => this.lit[row] === 1) : -1;
    return lit >= 0 ? lit : this.grid.nearest(x, y, distance, () => true);
  }

  pointAt(row, sx, sy) {
    if (row !== this.hover) {
      this.hover = row;
      this.overlay.classList.toggle('over', row >= 0);
      if (row >= 0) $('tooltip').replaceChildren(...describe(row));
      this.redraw();
    }
    const box = $('tooltip');
    box.hidden = row < 0;
    if (row < 0) return;
    const { width, height } = this.camera;
    const left = sx + 16 + box.offsetWidth > width ? sx - 14 - box.offsetWidth : sx + 16;
    const top = Math.min(sy + 14, height - box.offsetHeight - 8);
    box.style.transform = `translate(${Math.max(4, Math.round(left))}px, ${Math.max(4, Math.round(top))}px)`;
  }

  listen() {
    const { overlay, camera } = this;
    const place = (event) => {
      const box = overlay.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    overlay.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      overlay.setPointerCapture(event.pointerId);
      const at = place(event);
      this.pointers.set(event.pointerId, at);
      this.moved = 0;
      if (this.pointers.size === 1 && (event.shiftKey || this.lassoMode)) this.path = [at];
      else if (this.pointers.size > 1) this.path = null;
      this.pointAt(-1);
    });
    overlay.addEventListener('pointermove', (event) => {
      const at = place(event);
      const before = this.pointers.get(event.pointerId);
      if (!before) {
        this.pointAt(this.at(...at), ...at);
        return;
      }
      const [dx, dy] = [at[0] - before[0], at[1] - before[1]];
      this.moved += Math.abs(dx) + Math.abs(dy);
      if (this.path) {
        this.path.push(at);
        this.redraw();
      } else if (this.pointers.size === 2) {
        const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
        const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
        camera.zoomAt(apart(at) / apart(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
        camera.pan(dx / 2, dy / 2);
      } else if (this.moved > 3) {
        overlay.classList.add('dragging');
        camera.pan(dx, dy);
      }
      this.pointers.set(event.pointerId, at);
    });
    const release = (event) => {
      if (!this.pointers.delete(event.pointerId)) return;
      overlay.classList.remove('dragging');
      if (this.path) {
        const path = this.path.map(([x, y]) => camera.toPlane(x, y));
        this.path = null;
        if (event.type === 'pointerup' && path.length > 2) this.choose(this.grid.inside(path));
        this.redraw();
      } else if (event.type === 'pointerup' && this.moved <= 3) {
        const row = this.at(...place(event));
        select(row < 0 ? null : state.category[row]?.id ?? null);
        if (row >= 0) openTab('details');
      }
    };
    overlay.addEventListener('pointerup', release);
    overlay.addEventListener('pointercancel', release);
    overlay.addEventListener('pointerleave', () => this.pointAt(-1));
    overlay.addEventListener('dblclick', (event) => camera.zoomAt(2, ...place(event)));
    overlay.addEventListener('wheel', (event) => {
      event.preventDefault();
      const step = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
      camera.zoomAt(Math.exp(-Math.max(-240, Math.min(240, step)) * (event.ctrlKey ? 0.008 : 0.0022)), ...place(event));
      this.pointAt(this.at(...place(event)), ...place(event));
    }, { passive: false });
    overlay.addEventListener('keydown', (event) => this.key(event));
    overlay.addEventListener('focus', () => this.redraw());
    overlay.addEventListener('blur', () => {
      this.pointAt(-1);
      this.redraw();
    });
    $('zoom-in').addEventListener('click', () => this.zoom(1.6));
    $('zoom-out').addEventListener('click', () => this.zoom(1 / 1.6));
    $('fit').addEventListener('click', () => camera.everything());
    $('lasso').addEventListener('click', () => this.setLasso(!this.lassoMode));
  }

  zoom(factor) {
    const { camera } = this;
    camera.fly(camera.x, camera.y, camera.bounded(camera.scale * factor));
  }

  setLasso(mode) {
    this.lassoMode = mode;
    $('lasso').setAttribute('aria-pressed', String(mode));
    this.overlay.classList.toggle('lasso', mode);
  }

  choose(rows) {
    setLassoed(rows.length > 0 ? rows : null);
    this.setLasso(false);
    if (rows.length > 0) openTab('texts');
    $('map-says').textContent = `${plural(rows.length, 'text')} selected`;
  }

  /** Selects the texts that are seen. */
  chooseView() {
    const { camera } = this;
    const [left, top] = camera.toPlane(0, 0);
    const [right, bottom] = camera.toPlane(camera.width, camera.height);
    this.choose(this.grid.inside([[left, bottom], [right, bottom], [right, top], [left, top]]));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 200 : 60;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    const { camera } = this;
    const middle = [camera.width / 2, camera.height / 2];
    if (moves[event.key]) {
      camera.pan(...moves[event.key]);
      this.pointAt(this.at(...middle, 40), ...middle);
      if (this.hover >= 0) $('map-says').textContent = points.text[this.hover];
    } else if (event.key === 'Enter') {
      const row = this.at(...middle, 60);
      if (row >= 0) {
        select(state.category[row]?.id ?? null);
        openTab('details');
      }
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Brings the category that is looked at into view, unless some of it is seen already. */
  follow() {
    const anchor = this.labels.anchors.find((each) => each.id === state.selected);
    if (!anchor) return;
    const [x, y] = this.camera.toScreen(anchor.x, anchor.y);
    const seen = x > 0 && y > 0 && x < this.camera.width && y < this.camera.height;
    if (!seen) this.camera.show(state.members.get(anchor.id));
  }

  /** Moves to a text and points at it. */
  visit(row) {
    const { camera } = this;
    camera.fly(points.x[row], points.y[row], Math.max(camera.scale, camera.whole * 6));
    this.hover = row;
    this.redraw();
  }
}

/** What the tooltip says about a text. */
function describe(row) {
  const category = state.category[row];
  const fine = fineOf(row);
  return [
    el('div', {}, shorten(points.text[row], 280)),
    category && el('div', { className: 'where' }, dot(categoryColour(category), true), el('b', {}, category.name), category.coarse ? `in ${category.coarse}` : ''),
    fine && el('div', { className: 'where' }, `True label: ${fine}`),
  ].filter(Boolean);
}
