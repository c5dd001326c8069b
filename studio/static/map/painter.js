/** Draws all points with WebGL2: one texture of shapes, one draw for what is not selected and one for what is. */

const VERTEX = `#version 300 es
in vec2 place;
in float cluster;
in float chosen;
uniform vec4 clip;
uniform float size, wanted, strength, last;
uniform vec3 colours[16];
flat out vec4 tint;
flat out float shape;
void main() {
  bool isDrawn = chosen == wanted;
  shape = min(cluster, last);
  tint = vec4(colours[int(shape)], strength);
  gl_PointSize = size;
  gl_Position = isDrawn ? vec4(place * clip.xy + clip.zw, 0.0, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
precision mediump sampler2DArray;
flat in vec4 tint;
flat in float shape;
uniform sampler2DArray shapes;
out vec4 colour;
void main() {
  float share = texture(shapes, vec3(gl_PointCoord, shape)).a * tint.a;
  colour = vec4(tint.rgb * share, share);
}`;
const CELL = 64; // px of a shape in its texture
const DIM = 0.16; // strength of what is not selected beside what is
const CHOSEN = 1.3; // how much larger a few selected points are drawn, so that a single one is found
const FEW = 0.1; // of all points
const LINE = 2.6; // of the 16 that a shape is wide

function compiled(gl, kind, source) {
  const shader = gl.createShader(kind);
  gl.shaderSource(shader, source);
  gl.compileShader(shader);
  return shader;
}

/** A program, or null where the context cannot have one (as when it was lost meanwhile). */
function program(gl) {
  const made = gl.createProgram();
  gl.attachShader(made, compiled(gl, gl.VERTEX_SHADER, VERTEX));
  gl.attachShader(made, compiled(gl, gl.FRAGMENT_SHADER, FRAGMENT));
  gl.linkProgram(made);
  return gl.getProgramParameter(made, gl.LINK_STATUS) ? made : null;
}

/** Size of a point in px: smaller where there are many, growing with the zoom. */
export function pointSize(count, zoom) {
  const base = count > 50_000 ? 5 : count > 10_000 ? 6 : count > 2_000 ? 8 : 11;
  return Math.min(14, base * zoom ** 0.4);
}

export class Painter {
  #gl;
  #program = null;
  #uniforms = {};
  #buffers = {};
  #count = 0;
  #hasSelection = false;
  #grown = 1; // size of what is selected beside the rest

  /** A painter for a canvas, or null where there is no WebGL2. */
  static on(canvas) {
    const gl = canvas.getContext("webgl2", { antialias: false, depth: false, powerPreference: "low-power" });
    return gl ? new Painter(gl) : null;
  }

  constructor(gl) {
    this.#gl = gl;
  }

  /** Makes everything on the graphics side; again after a lost context came back. */
  begin(shapes) {
    const gl = this.#gl;
    this.#program = program(gl);
    if (!this.#program) return;
    gl.useProgram(this.#program);
    for (const name of ["clip", "size", "wanted", "strength", "last", "colours"]) {
      this.#uniforms[name] = gl.getUniformLocation(this.#program, name);
    }
    for (const name of ["place", "cluster", "chosen"]) this.#buffers[name] = gl.createBuffer();
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.#fillShapes(shapes);
    gl.uniform1f(this.#uniforms.last, shapes.length - 1);
  }

  #fillShapes(shapes) {
    const gl = this.#gl;
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, gl.createTexture());
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 7, gl.RGBA8, CELL, CELL, shapes.length);
    const canvas = Object.assign(document.createElement("canvas"), { width: CELL, height: CELL });
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.scale(CELL / 16, CELL / 16);
    pen.lineWidth = LINE;
    shapes.forEach((path, layer) => {
      pen.clearRect(0, 0, 16, 16);
      pen.stroke(new Path2D(path));
      const pixels = pen.getImageData(0, 0, CELL, CELL);
      gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, 0, 0, layer, CELL, CELL, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    });
    gl.generateMipmap(gl.TEXTURE_2D_ARRAY);
    gl.texParameteri(gl.TEXTURE_2D_ARRAY, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
  }

  /** Takes the points over; `places` is every x beside its y, uint16. */
  setPoints({ x, y, cluster, count }) {
    const places = new Uint16Array(2 * count);
    for (let point = 0; point < count; point += 1) {
      places[2 * point] = x[point];
      places[2 * point + 1] = y[point];
    }
    this.#count = count;
    this.#fill("place", places, 2, this.#gl.UNSIGNED_SHORT, true);
    this.#fill("cluster", cluster, 1, this.#gl.UNSIGNED_BYTE, false);
  }

  /** Which points are selected, a byte each. */
  setMask(mask) {
    const chosen = mask.reduce((sum, one) => sum + one, 0);
    this.#hasSelection = chosen < mask.length;
    this.#grown = chosen < FEW * mask.length ? CHOSEN : 1;
    this.#fill("chosen", mask, 1, this.#gl.UNSIGNED_BYTE, false);
  }

  /** Colours of the clusters, the last one for all further ones; three shares of 1 each. */
  setColours(colours) {
    if (this.#program) this.#gl.uniform3fv(this.#uniforms.colours, colours.flat());
  }

  #fill(name, values, size, type, isNormal) {
    const gl = this.#gl;
    if (!this.#program) return;
    const place = gl.getAttribLocation(this.#program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.#buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, size, type, isNormal, 0, 0);
  }

  /** Draws what a view shows; `ratio` is pixels of the canvas for one of the page. */
  draw(view, ratio) {
    const gl = this.#gl;
    if (!this.#program || gl.isContextLost()) return;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform4fv(this.#uniforms.clip, view.clip);
    const size = pointSize(this.#count, view.zoom) * ratio;
    for (const wanted of this.#hasSelection ? [0, 1] : [1]) {
      gl.uniform1f(this.#uniforms.size, wanted ? size * this.#grown : size);
      gl.uniform1f(this.#uniforms.wanted, wanted);
      gl.uniform1f(this.#uniforms.strength, wanted ? 1 : DIM);
      gl.drawArrays(gl.POINTS, 0, this.#count);
    }
  }
}
