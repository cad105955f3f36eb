// The part of the plane that is seen.

class Camera {
  constructor(changed) {
    this.changed = changed;
    this.width = 1;
    this.height = 1;
    this.x = 0;
    this.y = 0;
    /** Pixels a unit; the map is one unit long. */
    this.scale = 1;
    this.flight = 0;
  }

  /** Scale at which everything is seen. */
  get whole() {
    const free = (side) => Math.max(side * 0.9, side - 96);
    return Math.min(free(this.width) / Math.max(points.width, 1e-3), free(this.height) / Math.max(points.height, 1e-3));
  }

  resize(width, height) {
    const everything = this.scale === 1 || Math.abs(this.scale / this.whole - 1) < 1e-6;
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
    if (everything) this.scale = this.whole;
    this.changed();
  }

  toScreen(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, (this.y - y) * this.scale + this.height / 2];
  }

  toPlane(sx, sy) {
    return [(sx - this.width / 2) / this.scale + this.x, this.y - (sy - this.height / 2) / this.scale];
  }

  /** How far it is zoomed in; 1: everything is seen. */
  get zoom() {
    return this.scale / this.whole;
  }

  /** By pixels. */
  pan(dx, dy) {
    this.flight++;
    this.place(this.x - dx / this.scale, this.y + dy / this.scale, this.scale);
  }

  /** Keeps what is at a place of the screen there. */
  zoomAt(factor, sx = this.width / 2, sy = this.height / 2) {
    this.flight++;
    const [x, y] = this.toPlane(sx, sy);
    const scale = this.bounded(this.scale * factor);
    this.place(x - (sx - this.width / 2) / scale, y + (sy - this.height / 2) / scale, scale);
  }

  bounded(scale) {
    return Math.min(this.whole * 400, Math.max(this.whole * 0.6, scale));
  }

  place(x, y, scale) {
    this.x = Math.min(0.75, Math.max(-0.75, x));
    this.y = Math.min(0.75, Math.max(-0.75, y));
    this.scale = scale;
    this.changed();
  }

  /** Moves there; at once where motion is unwanted. */
  fly(x, y, scale) {
    const flight = ++this.flight;
    if (stillness.matches) {
      this.place(x, y, scale);
      return;
    }
    const from = { x: this.x, y: this.y, scale: this.scale };
    const started = performance.now();
    const step = (now) => {
      if (flight !== this.flight) return;
      const t = Math.min(1, Math.max(0, (now - started) / 350));
      const eased = 1 - (1 - t) ** 3;
      const scaled = from.scale * (scale / from.scale) ** eased;
      // The share of the way that keeps the target still on the screen while the scale changes.
      const ratio = scale / from.scale;
      const way = Math.abs(ratio - 1) < 1e-3 ? eased : (1 - from.scale / scaled) / (1 - 1 / ratio);
      this.place(from.x + (x - from.x) * way, from.y + (y - from.y) * way, scaled);
      if (t < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  everything() {
    this.fly(0, 0, this.whole);
  }

  /** Shows these texts, without the outermost of them. */
  show(rows) {
    if (rows.length === 0) return;
    const range = (values) => {
      const sorted = Float32Array.from(rows, (row) => values[row]).sort();
      const cut = Math.floor(sorted.length * 0.04);
      return [sorted[cut], sorted[sorted.length - 1 - cut]];
    };
    const [left, right] = range(points.x);
    const [bottom, top] = range(points.y);
    const scale = 0.6 * Math.min(this.width / Math.max(right - left, 1e-4), this.height / Math.max(top - bottom, 1e-4));
    this.fly((left + right) / 2, (bottom + top) / 2, Math.min(this.bounded(scale), this.whole * 24));
  }
}
