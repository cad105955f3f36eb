// Names on the map: the largest categories first, as many as fit without touching each other.

class Labels {
  constructor() {
    this.context = document.createElement('canvas').getContext('2d');
    this.widths = new Map();
    this.renew();
  }

  /** After a change of the categories: where each has most of its texts. */
  renew() {
    this.anchors = [...state.members].map(([id, rows]) => {
      const [x, y] = densest(rows);
      return { id, x, y, size: rows.length, text: shorten(state.catalogue.get(id).name, 30) };
    });
    this.anchors.sort((a, b) => b.size - a.size || a.id - b.id);
    this.key = '';
  }

  width(text, font) {
    const key = `${font} ${text}`;
    if (!this.widths.has(key)) {
      this.context.font = font;
      this.widths.set(key, this.context.measureText(text).width);
    }
    return this.widths.get(key);
  }

  /**
   * The labels that have room. Depends on the scale only, not on the part that is seen, so that none
   * comes or goes while the map is moved.
   */
  layout(camera) {
    const key = `${camera.scale} ${camera.width} ${camera.height} ${state.selected} ${state.preview}`;
    if (key === this.key) return this.placed;
    this.key = key;
    const first = [state.preview, state.selected].filter((id) => id !== null);
    const order = [...this.anchors.filter((anchor) => first.includes(anchor.id)), ...this.anchors.filter((anchor) => !first.includes(anchor.id))];
    const most = Math.max(8, ((camera.width * camera.height) / 26000) * camera.zoom ** 2);
    const largest = this.anchors[0]?.size ?? 1;
    const family = getComputedStyle(document.documentElement).getPropertyValue('--font');
    this.placed = [];
    for (const anchor of order) {
      if (this.placed.length >= most) break;
      const chosen = first.includes(anchor.id);
      const size = Math.round(11.5 + 3 * Math.sqrt(anchor.size / largest));
      const font = `${chosen ? 700 : 600} ${size}px ${family}`;
      const width = this.width(anchor.text, font) + 14;
      const height = size + 12;
      const x = anchor.x * camera.scale;
      const y = -anchor.y * camera.scale;
      const box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2];
      const free = this.placed.every((other) => box[2] < other.box[0] || box[0] > other.box[2] || box[3] < other.box[1] || box[1] > other.box[3]);
      if (free) this.placed.push({ ...anchor, font, box, chosen });
    }
    return this.placed;
  }

  draw(context, camera, colours) {
    context.textAlign = 'center';
    context.textBaseline = 'middle';
    context.lineJoin = 'round';
    const looking = state.preview ?? state.selected;
    const quiet = looking !== null || chosenRows() !== null || state.legend !== null;
    for (const label of this.layout(camera)) {
      const [x, y] = camera.toScreen(label.x, label.y);
      if (x < -150 || y < -20 || x > camera.width + 150 || y > camera.height + 20) continue;
      context.font = label.font;
      context.globalAlpha = quiet && !label.chosen ? 0.5 : 1;
      context.strokeStyle = colours.ground;
      context.lineWidth = 4;
      context.strokeText(label.text, x, y);
      context.fillStyle = colours.text;
      context.fillText(label.text, x, y);
    }
    context.globalAlpha = 1;
  }
}

/** The middle of the place where these texts lie closest: of the best 3 by 3 cells of a grid. */
function densest(rows) {
  const cell = (v) => Math.floor(v * 40);
  const counts = new Map();
  for (const row of rows) {
    for (let dx = -1; dx <= 1; dx++) {
      for (let dy = -1; dy <= 1; dy++) {
        const key = (cell(points.x[row]) + dx) * 1000 + cell(points.y[row]) + dy;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
    }
  }
  let best = 0;
  let most = 0;
  for (const [key, number] of counts) {
    if (number > most) [best, most] = [key, number];
  }
  let [x, y, n] = [0, 0, 0];
  for (const row of rows) {
    const [cx, cy] = [cell(points.x[row]), cell(points.y[row])];
    const near = [-1, 0, 1].some((dx) => [-1, 0, 1].some((dy) => (cx + dx) * 1000 + cy + dy === best));
    if (near) [x, y, n] = [x + points.x[row], y + points.y[row], n + 1];
  }
  return [x / n, y / n];
}
