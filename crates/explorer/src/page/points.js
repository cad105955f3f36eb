// Draws the points: with WebGL 2, or on a plain canvas where there is none.

const VERTEX = `#version 300 es
in vec2 place;
in vec4 tint;
uniform vec4 view;
uniform float size;
out vec4 colour;
out float width;
void main() {
  gl_Position = vec4(place * view.zw + view.xy, 0.0, 1.0);
  width = size * (tint.a > 0.5 ? 1.0 : 0.8);
  gl_PointSize = width;
  colour = tint;
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 colour;
in float width;
out vec4 pixel;
void main() {
  float r = length(gl_PointCoord - 0.5) * width;
  float cover = clamp(width * 0.5 - r + 0.25, 0.0, 1.0) * colour.a;
  if (cover <= 0.0) discard;
  pixel = vec4(colour.rgb * cover, cover);
}`;

class GlPoints {
  constructor(canvas, gl, restored) {
    this.gl = gl;
    canvas.addEventListener('webglcontextlost', (event) => event.preventDefault());
    canvas.addEventListener('webglcontextrestored', () => {
      this.prepare();
      restored();
    });
    this.prepare();
  }

  prepare() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, code] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, code);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    this.view = gl.getUniformLocation(program, 'view');
    this.size = gl.getUniformLocation(program, 'size');

    const places = new Float32Array(2 * points.n);
    for (let i = 0; i < points.n; i++) {
      places[2 * i] = points.x[i];
      places[2 * i + 1] = points.y[i];
    }
    const attribute = (name, width, kind, normalised) => {
      const buffer = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      const at = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, width, kind, normalised, 0, 0);
      return buffer;
    };
    attribute('place', 2, gl.FLOAT, false);
    gl.bufferData(gl.ARRAY_BUFFER, places, gl.STATIC_DRAW);
    this.colours = attribute('tint', 4, gl.UNSIGNED_BYTE, true);
    this.order = gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.order);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** `rgba`: four bytes a text; `order`: rows, those drawn last lie on top. */
  paint(rgba, order) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.colours);
    gl.bufferData(gl.ARRAY_BUFFER, rgba, gl.DYNAMIC_DRAW);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, order, gl.DYNAMIC_DRAW);
  }

  draw(camera, radius, ratio) {
    const { gl } = this;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const sx = (2 * camera.scale) / camera.width;
    const sy = (2 * camera.scale) / camera.height;
    gl.uniform4f(this.view, -camera.x * sx, -camera.y * sy, sx, sy);
    gl.uniform1f(this.size, 2 * radius * ratio);
    gl.drawElements(gl.POINTS, points.n, gl.UNSIGNED_INT, 0);
  }
}

class PlainPoints {
  constructor(canvas) {
    this.context = canvas.getContext('2d');
  }

  paint(rgba, order) {
    this.order = order;
    // Setting a colour costs more than a rectangle, so that equal ones share a text.
    const names = new Map();
    this.fills = Array.from({ length: points.n }, (_, i) => {
      const key = (rgba[4 * i] << 24) | (rgba[4 * i + 1] << 16) | (rgba[4 * i + 2] << 8) | rgba[4 * i + 3];
      if (!names.has(key)) names.set(key, `rgb(${rgba[4 * i]} ${rgba[4 * i + 1]} ${rgba[4 * i + 2]} / ${rgba[4 * i + 3] / 255})`);
      return names.get(key);
    });
  }

  draw(camera, radius, ratio) {
    const { context } = this;
    const { width, height } = context.canvas;
    context.clearRect(0, 0, width, height);
    const r = radius * ratio;
    const scale = camera.scale * ratio;
    const left = width / 2 - camera.x * scale;
    const top = height / 2 + camera.y * scale;
    let fill = null;
    for (const row of this.order) {
      const x = points.x[row] * scale + left;
      const y = top - points.y[row] * scale;
      if (x < -r || y < -r || x > width + r || y > height + r) continue;
      if (fill !== this.fills[row]) {
        fill = this.fills[row];
        context.fillStyle = fill;
      }
      if (r < 3) {
        context.fillRect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
      } else {
        context.beginPath();
        context.arc(x, y, r, 0, 7);
        context.fill();
      }
    }
  }
}

/** `#plain` in the address asks for the plain canvas. */
function makePoints(canvas, restored) {
  const gl = location.hash === '#plain' ? null : canvas.getContext('webgl2', { antialias: false, alpha: true, premultipliedAlpha: true });
  return gl ? new GlPoints(canvas, gl, restored) : new PlainPoints(canvas);
}
