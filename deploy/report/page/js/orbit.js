// A camera on an orbit around a point, and the mouse, touch and keys that move it.
// Angles in radians, lengths in metres; x forward, y left, z up.

const NEAR_M = 0.5;
const FAR_M = 600;
const FIELD_OF_VIEW = (38 * Math.PI) / 180;
const VIEWS = {
  behind: { azimuth: Math.PI, elevation: 0.52, distance: 86, target: [-1, 0, -3] },
  above: { azimuth: Math.PI, elevation: 1.5, distance: 120, target: [0, 0, 0] },
  side: { azimuth: -Math.PI / 2, elevation: 0.4, distance: 96, target: [0, 0, 0] },
};

class Orbit {
  constructor(changed) {
    this.changed = changed;
    this.look("behind");
  }

  look(name, scale = 1) {
    const { azimuth, elevation, distance, target } = VIEWS[name];
    Object.assign(this, { azimuth, elevation, distance: distance * scale, target: [...target] });
    this.scale = scale;
    this.changed();
  }

  turn(right, up) {
    this.azimuth -= right;
    this.elevation = Math.max(-0.2, Math.min(1.55, this.elevation + up));
    this.changed();
  }

  // Moves the target in the ground plane, as if the ground were dragged by metres.
  pan(right, forward) {
    const [c, s] = [Math.cos(this.azimuth), Math.sin(this.azimuth)];
    this.target[0] += s * right * -1 - c * forward;
    this.target[1] += c * right - s * forward;
    this.target = this.target.map((value) => Math.max(-200, Math.min(200, value)));
    this.changed();
  }

  zoom(factor) {
    this.distance = Math.max(4, Math.min(300, this.distance * factor));
    this.changed();
  }

  eye() {
    const flat = Math.cos(this.elevation) * this.distance;
    return [
      this.target[0] + Math.cos(this.azimuth) * flat,
      this.target[1] + Math.sin(this.azimuth) * flat,
      this.target[2] + Math.sin(this.elevation) * this.distance,
    ];
  }

  // Projection times view, column by column as WebGL takes it.
  matrix(aspect) {
    const eye = this.eye();
    const back = unit(eye.map((value, i) => value - this.target[i]));
    const right = unit([-Math.sin(this.azimuth), Math.cos(this.azimuth), 0]);
    const up = cross(back, right);
    const f = 1 / Math.tan(FIELD_OF_VIEW / 2);
    const a = (FAR_M + NEAR_M) / (NEAR_M - FAR_M);
    const b = (2 * FAR_M * NEAR_M) / (NEAR_M - FAR_M);
    // a narrow pane keeps the width in view, a wide one the height
    const [fx, fy] = aspect < 4 / 3 ? [(f * 3) / 4, (f * 3 * aspect) / 4] : [f / aspect, f];
    const shift = [right, up, back].map((axis) => -dot(axis, eye));
    const columns = [];
    for (let i = 0; i < 3; i += 1) columns.push(fx * right[i], fy * up[i], a * back[i], -back[i]);
    columns.push(fx * shift[0], fy * shift[1], a * shift[2] + b, -shift[2]);
    return new Float32Array(columns);
  }
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const unit = (a) => a.map((value) => value / Math.hypot(...a));

// One finger sideways turns (up and down scrolls the page), two move, pinch and tilt.
function attachPointers(canvas, orbit) {
  const pointers = new Map();
  const perPixel = () => (orbit.distance * 1.1) / canvas.clientWidth;
  const onMove = (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    if (pointers.size === 1) {
      const move = event.shiftKey || event.buttons === 2 || event.buttons === 4;
      if (move) orbit.pan(-dx * perPixel(), dy * perPixel());
      else orbit.turn(dx * 0.008, event.pointerType === "touch" ? 0 : dy * 0.006);
    } else if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const span = (from) => Math.hypot(from[0] - other[0], from[1] - other[1]) || 1;
      orbit.zoom(span(before) / span(now));
      orbit.pan((-dx * perPixel()) / 2, (dy * perPixel()) / 2);
    }
    pointers.set(event.pointerId, now);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", onMove);
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  // the wheel scrolls the page until the view was clicked or reached by keyboard
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas) return;
    event.preventDefault();
    orbit.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.004));
  }, { passive: false });
}

function attachKeys(canvas, orbit) {
  const turns = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.08], ArrowDown: [0, -0.08] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const turn = turns[event.key];
    if (turn && event.shiftKey) orbit.pan(turn[0] * orbit.distance * 0.4, turn[1] * orbit.distance * 0.5);
    else if (turn) orbit.turn(...turn);
    else if (event.key === "+" || event.key === "=") orbit.zoom(0.85);
    else if (event.key === "-" || event.key === "_") orbit.zoom(1.18);
    else if (event.key === "0" || event.key === "Home") orbit.look("behind", orbit.scale);
    else return;
    event.preventDefault();
  });
}
