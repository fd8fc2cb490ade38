// Bird's-eye maps: the highest visible voxel of each column, forward (x) up, left (y) left.
// One map a grid, and one that shows in how many voxels of a column the first two differ.

class BirdsEye {
  constructor(host, reading, classes, paints) {
    this.host = host;
    this.reading = reading;
    this.classes = classes;
    this.paints = paints;
    this.maps = [];
    this.cell = null; // [x, y] under the pointer or the arrow keys
  }

  setScene(scene) {
    this.scene = scene;
    this.cell = null;
    this.maps = scene.grids.map((grid) => this.makeMap(spelled(grid.name), grid.note, grid));
    if (scene.grids.length > 1) this.maps.push(this.makeMap("Difference", "", null));
    this.host.replaceChildren(...this.maps.map((map) => map.figure));
    this.reading.textContent = "";
  }

  makeMap(name, note, grid) {
    const { nx, ny } = this.scene;
    const image = create("canvas", { width: ny, height: nx }); // a pixel a column, never shown itself
    const canvas = create("canvas", { tabindex: "0", role: "img", style: `aspect-ratio:${ny}/${nx}` });
    const detail = create("p", { class: "detail" }, note);
    const figure = create("figure", {}, create("figcaption", {}, name), canvas, detail);
    if (!grid) figure.append(this.makeRamp());
    canvas.addEventListener("pointermove", (event) => this.pointAt(event, canvas));
    canvas.addEventListener("pointerleave", () => this.choose(null));
    canvas.addEventListener("keydown", (event) => this.step(event));
    return { figure, image, canvas, detail, name, grid };
  }

  makeRamp() {
    return create("p", { class: "ramp" }, "1", create("i", { "aria-hidden": "true" }), `${this.scene.nz} voxels of a column`);
  }

  draw(visible, top) {
    this.visible = visible;
    this.top = top;
    for (const map of this.maps) {
      if (map.grid) this.drawLabels(map);
      else this.drawDifference(map);
      this.show(map);
    }
  }

  // The label of the highest voxel that is visible and not cut away, with its z; -1 for none.
  highest(labels, x, y) {
    const { ny, nz } = this.scene;
    const base = (x * ny + y) * nz;
    for (let z = this.top - 1; z >= 0; z -= 1) if (this.visible[labels[base + z]]) return z;
    return -1;
  }

  drawLabels(map) {
    const { nx, ny, nz } = this.scene;
    const context = map.image.getContext("2d");
    const image = context.createImageData(ny, nx);
    const { palette } = this.paints;
    const painted = this.paints.of(map.grid);
    let drawn = 0;
    for (let x = 0; x < nx; x += 1) {
      for (let y = 0; y < ny; y += 1) {
        const z = this.highest(map.grid.labels, x, y);
        if (z < 0) continue;
        drawn += 1;
        const colour = painted[(x * ny + y) * nz + z];
        const shade = 0.8 + (0.2 * (z + 1)) / nz; // a little relief: higher is lighter
        const at = ((nx - 1 - x) * ny + (ny - 1 - y)) * 4;
        for (let c = 0; c < 3; c += 1) image.data[at + c] = palette[colour * 3 + c] * shade;
        image.data[at + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    map.canvas.setAttribute("aria-label", `${map.name} from above: ${whole.format(drawn)} of ${whole.format(nx * ny)} columns show a voxel`);
  }

  drawDifference(map) {
    const { nx, ny, nz, grids } = this.scene;
    const [a, b] = [grids[0].labels, grids[1].labels];
    const context = map.image.getContext("2d");
    const image = context.createImageData(ny, nx);
    const hot = this.hotColour();
    let differing = 0;
    let compared = 0;
    for (let x = 0; x < nx; x += 1) {
      for (let y = 0; y < ny; y += 1) {
        const base = (x * ny + y) * nz;
        let here = 0;
        let any = false;
        for (let z = 0; z < this.top; z += 1) {
          if (!this.visible[a[base + z]] && !this.visible[b[base + z]]) continue;
          any = true;
          compared += 1;
          if (a[base + z] !== b[base + z]) here += 1;
        }
        differing += here;
        const at = ((nx - 1 - x) * ny + (ny - 1 - y)) * 4;
        if (here) image.data.set([...hot, 70 + 185 * Math.sqrt(here / nz)], at);
        else if (any) image.data.set([128, 136, 148, 56], at); // what both agree on, as a ghost
      }
    }
    context.putImageData(image, 0, 0);
    map.detail.textContent = compared ? `${whole.format(differing)} voxels, ${percentage(differing / compared)} of those shown` : "nothing shown";
    const names = `${spelled(grids[0].name)} and ${spelled(grids[1].name)}`;
    map.canvas.setAttribute("aria-label", `Difference of ${names} from above: ${map.detail.textContent}`);
  }

  hotColour() {
    const probe = create("i", { style: "color:var(--hot)" });
    this.host.append(probe);
    const colour = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
    return colour;
  }

  // The map at screen size, with range rings every 10 m, the vehicle, and the cell being read.
  show(map) {
    const { nx, ny, voxel, origin } = this.scene;
    const { clientWidth: width, clientHeight: height } = map.canvas;
    const density = Math.max(2, devicePixelRatio || 1); // at least two, for paper
    map.canvas.width = Math.max(1, Math.round(width * density));
    map.canvas.height = Math.max(1, Math.round(height * density));
    const context = map.canvas.getContext("2d");
    context.scale(density, density);
    context.imageSmoothingEnabled = false;
    context.drawImage(map.image, 0, 0, width, height);
    const perMetre = width / (ny * voxel);
    const left = (origin[1] + ny * voxel) * perMetre; // where y = 0 is
    const up = (origin[0] + nx * voxel) * perMetre; // where x = 0 is
    context.lineWidth = 1;
    const dark = currentTheme() === "dark";
    for (let radius = 10; radius <= 50; radius += 10) {
      context.strokeStyle = dark ? "rgba(255,255,255,.34)" : "rgba(0,0,0,.3)";
      context.beginPath();
      context.arc(left, up, radius * perMetre, 0, 2 * Math.PI);
      context.stroke();
    }
    this.drawVehicle(context, left, up, perMetre);
    if (this.cell) this.drawCross(context, width, height);
  }

  drawVehicle(context, left, up, perMetre) {
    context.beginPath();
    context.moveTo(left, up - 4 * perMetre);
    context.lineTo(left + 1.4 * perMetre, up + 1.4 * perMetre);
    context.lineTo(left, up + 0.5 * perMetre);
    context.lineTo(left - 1.4 * perMetre, up + 1.4 * perMetre);
    context.closePath();
    context.fillStyle = "#fff";
    context.strokeStyle = "#000";
    context.fill();
    context.stroke();
  }

  drawCross(context, width, height) {
    const { nx, ny } = this.scene;
    const [x, y] = this.cell;
    const cx = ((ny - 1 - y + 0.5) / ny) * width;
    const cy = ((nx - 1 - x + 0.5) / nx) * height;
    for (const [colour, wide] of [["#000", 3], ["#fff", 1]]) {
      context.strokeStyle = colour;
      context.lineWidth = wide;
      context.strokeRect(cx - 5, cy - 5, 10, 10);
    }
  }

  pointAt(event, canvas) {
    const { nx, ny } = this.scene;
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * ny);
    const row = Math.floor(((event.clientY - box.top) / box.height) * nx);
    this.choose([nx - 1 - row, ny - 1 - column]);
  }

  step(event) {
    const moves = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, 1], ArrowRight: [0, -1] };
    if (event.key === "Escape") this.choose(null);
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const from = this.cell ?? [this.scene.nx >> 1, this.scene.ny >> 1];
    const stride = event.shiftKey ? 10 : 1;
    this.choose([from[0] + move[0] * stride, from[1] + move[1] * stride]);
  }

  choose(cell) {
    const { nx, ny } = this.scene;
    const clamp = (value, size) => Math.max(0, Math.min(size - 1, value));
    this.cell = cell && [clamp(cell[0], nx), clamp(cell[1], ny)];
    for (const map of this.maps) this.show(map);
    this.reading.textContent = this.cell ? this.describe(...this.cell) : "";
  }

  describe(x, y) {
    const { ny, nz, voxel, origin, grids } = this.scene;
    const ahead = origin[0] + (x + 0.5) * voxel;
    const left = origin[1] + (y + 0.5) * voxel;
    const place = `${Math.abs(ahead).toFixed(1)} m ${ahead < 0 ? "behind" : "ahead"}, ${Math.abs(left).toFixed(1)} m ${left < 0 ? "right" : "left"}`;
    const seen = grids.map((grid) => {
      const z = this.highest(grid.labels, x, y);
      if (z < 0) return `${spelled(grid.name)} nothing`;
      const at = (x * ny + y) * nz + z;
      const number = grid.instances?.[at] ? ` ${grid.instances[at]}` : "";
      return `${spelled(grid.name)} ${this.nameOf(grid.labels[at])}${number} up to ${(origin[2] + (z + 1) * voxel).toFixed(1)} m`;
    });
    return `${place}: ${seen.join("; ")}`;
  }

  nameOf(label) {
    return (this.classes[label]?.name ?? `class ${label}`).replaceAll("_", " ");
  }
}
