// One WebGL 2 pane: exposed voxel faces, range rings and the vehicle's outline.
// The faces lie in a texture and the vertex shader pulls them by gl_VertexID, six vertices a face:
// instances of four vertices each are slow on many drivers. Smooth edges come from drawing at two
// pixels a CSS pixel, so that a moving view can be drawn at fewer (see Pace in scene.js).

const FULL_DENSITY = 2; // pixels a CSS pixel of a view at rest
const FACES_A_ROW = 2048; // of the face texture; every WebGL 2 device has textures this wide

const FACE_VERTEX = `#version 300 es
uniform mat4 camera;
uniform highp usampler2D faces;
uniform vec3 origin;
uniform float voxel;
uniform int direction;
uniform vec3 eye;
uniform sampler2D palette;
out vec2 corner;
out vec3 colour;
out float distanceM;
flat out vec4 light;

const int FACES_A_ROW = ${FACES_A_ROW};
const int QUAD[6] = int[6](0, 1, 2, 2, 1, 3);
const float SIDE_LIGHT[6] = float[6](0.80, 0.74, 0.86, 0.68, 0.45, 1.0);

void main() {
  int axis = direction >> 1;
  bool outward = (direction & 1) == 1;
  int index = gl_VertexID / 6;
  uvec2 face = texelFetch(faces, ivec2(index % FACES_A_ROW, index / FACES_A_ROW), 0).rg;
  int point = QUAD[gl_VertexID % 6];
  vec2 quad = vec2(point & 1, point >> 1);
  corner = outward ? quad : quad.yx; // keeps every face counter-clockwise from outside
  vec3 cell = vec3(face.x & 0xffffu, face.x >> 16, face.y & 0xffu);
  cell[axis] += outward ? 1.0 : 0.0;
  cell[(axis + 1) % 3] += corner.x;
  cell[(axis + 2) % 3] += corner.y;
  vec3 place = origin + cell * voxel;
  uint shade = face.y >> 16;
  light = vec4(shade & 3u, (shade >> 2) & 3u, (shade >> 4) & 3u, (shade >> 6) & 3u) / 3.0;
  colour = texelFetch(palette, ivec2(int((face.y >> 8) & 0xffu), 0), 0).rgb * SIDE_LIGHT[direction];
  distanceM = distance(place, eye);
  gl_Position = camera * vec4(place, 1.0);
}`;

const FACE_FRAGMENT = `#version 300 es
precision highp float;
in vec2 corner;
in vec3 colour;
in float distanceM;
uniform float density;
flat in vec4 light;
out vec4 pixel;

void main() {
  float ambient = mix(mix(light.x, light.y, corner.x), mix(light.z, light.w, corner.x), corner.y);
  // a thin dark edge around each voxel, which fades before it could flicker
  vec2 fromEdge = min(corner, 1.0 - corner);
  float pixels = min(fromEdge.x / fwidth(corner.x), fromEdge.y / fwidth(corner.y)) / density;
  float edge = (1.0 - smoothstep(0.3, 1.2, pixels)) * smoothstep(110.0, 30.0, distanceM) * 0.3;
  pixel = vec4(colour * (0.62 + 0.38 * ambient) * (1.0 - edge), 1.0);
}`;

const LINE_VERTEX = `#version 300 es
layout(location = 0) in vec3 place;
uniform mat4 camera;
void main() { gl_Position = camera * vec4(place, 1.0); }`;

const LINE_FRAGMENT = `#version 300 es
precision highp float;
uniform vec4 ink;
out vec4 pixel;
void main() { pixel = vec4(ink.rgb * ink.a, ink.a); }`;

function compile(gl, vertexSource, fragmentSource) {
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertexSource], [gl.FRAGMENT_SHADER, fragmentSource]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  const uniforms = {};
  for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i += 1) {
    const { name } = gl.getActiveUniform(program, i);
    uniforms[name] = gl.getUniformLocation(program, name);
  }
  return { program, uniforms };
}

// Rings every 10 m on the ground (z = 0), and a box of a car's size with a roof that points ahead.
function sceneLines(extentM) {
  const rings = [];
  for (let radius = 10; radius <= extentM; radius += 10) {
    for (let i = 0; i < 96; i += 1) {
      for (const step of [i, i + 1]) {
        const angle = (step / 96) * 2 * Math.PI;
        rings.push(radius * Math.cos(angle), radius * Math.sin(angle), 0);
      }
    }
  }
  const [back, front, half, height] = [-1, 3.8, 0.95, 1.6]; // metres; the origin is the rear axle
  const corners = [[back, -half], [front, -half], [front, half], [back, half]];
  const car = [];
  corners.forEach(([x, y], i) => {
    const [x2, y2] = corners[(i + 1) % 4];
    car.push(x, y, 0, x2, y2, 0, x, y, height, x2, y2, height, x, y, 0, x, y, height);
  });
  const [a, b, c, d] = corners.map(([x, y]) => [x, y, height]);
  const nose = [front + 1.6, 0, height];
  car.push(...b, ...nose, ...nose, ...c);
  const roof = [...a, ...b, ...c, ...a, ...c, ...d, ...b, ...nose, ...c];
  const parts = { rings: rings.length / 3, car: car.length / 3, roof: roof.length / 3 };
  return { points: new Float32Array([...rings, ...car, ...roof]), ...parts };
}

class VoxelPane {
  constructor(canvas, orbit) {
    this.canvas = canvas;
    this.orbit = orbit;
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.setUp(); this.upload(); this.draw(FULL_DENSITY); });
    this.setUp();
  }

  setUp() {
    // kept for screenshots and print; the page's ground shines through where nothing is
    const gl = this.canvas.getContext("webgl2", { antialias: false, alpha: true, preserveDrawingBuffer: true });
    if (!gl) throw new Error("this browser offers no WebGL 2");
    this.gl = gl;
    this.faces = compile(gl, FACE_VERTEX, FACE_FRAGMENT);
    this.lines = compile(gl, LINE_VERTEX, LINE_FRAGMENT);
    this.lineBuffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.lineBuffer);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    this.bindTexture(0); // the colours; both are filled by upload
    this.bindTexture(1); // the faces
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.CULL_FACE);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  bindTexture(place) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + place);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.NEAREST);
  }

  // colours: 256 of them, three bytes each.
  setFaces(scene, mesh, colours) {
    this.scene = scene;
    this.mesh = mesh;
    this.colours = colours;
    this.upload();
  }

  upload() {
    if (!this.mesh) return;
    const { gl, scene } = this;
    const extent = Math.max(-scene.origin[0], scene.origin[0] + scene.nx * scene.voxel);
    this.lineParts = sceneLines(extent);
    const rows = Math.max(1, Math.ceil(this.mesh.drawn / FACES_A_ROW));
    const words = new Uint32Array(rows * FACES_A_ROW * 2);
    words.set(this.mesh.words);
    gl.activeTexture(gl.TEXTURE0);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB8, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, this.colours);
    gl.activeTexture(gl.TEXTURE1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RG32UI, FACES_A_ROW, rows, 0, gl.RG_INTEGER, gl.UNSIGNED_INT, words);
    gl.bufferData(gl.ARRAY_BUFFER, this.lineParts.points, gl.STATIC_DRAW);
  }

  resize(density) {
    const width = Math.max(1, Math.round(this.canvas.clientWidth * density));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * density));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.gl.viewport(0, 0, width, height);
    return width / height;
  }

  // density: pixels a CSS pixel.
  draw(density) {
    if (!this.mesh || this.gl.isContextLost()) return;
    const { gl } = this;
    const camera = this.orbit.matrix(this.resize(density));
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    this.drawFaces(camera, density);
    this.drawLines(camera);
  }

  drawFaces(camera, density) {
    const { gl, scene, mesh } = this;
    const { program, uniforms } = this.faces;
    const eye = this.orbit.eye();
    gl.useProgram(program);
    gl.uniformMatrix4fv(uniforms.camera, false, camera);
    gl.uniform3fv(uniforms.origin, scene.origin);
    gl.uniform3fv(uniforms.eye, eye);
    gl.uniform1f(uniforms.voxel, scene.voxel);
    gl.uniform1f(uniforms.density, density);
    gl.uniform1i(uniforms.palette, 0);
    gl.uniform1i(uniforms.faces, 1);
    gl.disableVertexAttribArray(0);
    mesh.groups.forEach(({ first, count }, direction) => {
      if (!count || !this.canFace(direction, eye)) return;
      gl.uniform1i(uniforms.direction, direction);
      gl.drawArrays(gl.TRIANGLES, first * 6, count * 6);
    });
  }

  // Faces towards +x cannot be seen from before the grid's first x, and so on.
  canFace(direction, eye) {
    const { nx, ny, nz, origin, voxel } = this.scene;
    const axis = direction >> 1;
    const size = [nx, ny, nz][axis] * voxel;
    return direction & 1 ? eye[axis] > origin[axis] : eye[axis] < origin[axis] + size;
  }

  drawLines(camera) {
    const { gl, lineParts } = this;
    const { program, uniforms } = this.lines;
    const dark = currentTheme() === "dark";
    gl.useProgram(program);
    gl.uniformMatrix4fv(uniforms.camera, false, camera);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 3, gl.FLOAT, false, 12, 0);
    gl.enable(gl.BLEND);
    gl.uniform4fv(uniforms.ink, dark ? [1, 1, 1, 0.35] : [0, 0, 0, 0.3]);
    gl.drawArrays(gl.LINES, 0, lineParts.rings);
    gl.disable(gl.DEPTH_TEST); // the vehicle is where one looks from: always shown
    gl.uniform4fv(uniforms.ink, [1, 1, 1, 0.85]);
    gl.drawArrays(gl.TRIANGLES, lineParts.rings + lineParts.car, lineParts.roof);
    gl.uniform4fv(uniforms.ink, [0, 0, 0, 1]);
    gl.drawArrays(gl.LINES, lineParts.rings, lineParts.car);
    gl.enable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
  }
}
