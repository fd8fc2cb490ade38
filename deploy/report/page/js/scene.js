// The scene section: one sample at a time; classes and height act on the maps and both 3-D panes.

const ROAD_USERS = /^(car|truck|bus|trailer|construction_vehicle|bicycle|motorcycle|pedestrian)$/;

class SceneView {
  constructor(data) {
    this.data = data;
    this.root = document.getElementById("scene-view");
    this.loaded = new Map();
    this.hidden = new Set();
    this.top = Infinity;
    this.pending = false;
    this.paints = new Paints(data.classes);
    const at = (id) => document.getElementById(id);
    this.birdseye = new BirdsEye(at("birdseye"), at("birdseye-reading"), data.classes, this.paints);
    this.pace = new Pace(() => this.panes.forEach((pane) => pane.draw(FULL_DENSITY)));
    this.orbit = new Orbit(() => this.refresh(false));
    this.panes = [];
    this.connect();
  }

  connect() {
    const slider = document.getElementById("height-clip");
    slider.addEventListener("input", () => {
      this.top = Number(slider.value);
      this.refresh(true);
    });
    for (const button of this.root.querySelectorAll("[data-classes]")) {
      button.addEventListener("click", () => this.chooseClasses(button.dataset.classes));
    }
    for (const button of this.root.querySelectorAll("[data-colour]")) {
      button.addEventListener("click", () => this.colourBy(button.dataset.colour));
    }
    for (const button of this.root.querySelectorAll("[data-view]")) {
      button.addEventListener("click", () => this.orbit.look(button.dataset.view, this.viewScale()));
    }
    for (const button of this.root.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => this.orbit.zoom(button.dataset.zoom === "in" ? 0.8 : 1.25));
    }
    for (const button of document.querySelectorAll("#scene-choices button")) {
      button.addEventListener("click", () => this.show(Number(button.dataset.scene)));
    }
    new ResizeObserver(() => this.refresh(true)).observe(this.root);
    document.addEventListener("edgeport-theme", () => this.refresh(true));
    addEventListener("beforeprint", () => this.draw(true));
  }

  async show(index) {
    document.querySelectorAll("[data-scene-images]").forEach((images) => {
      images.hidden = Number(images.dataset.sceneImages) !== index;
    });
    document.querySelectorAll("#scene-choices button").forEach((button) => {
      button.setAttribute("aria-pressed", String(Number(button.dataset.scene) === index));
    });
    this.wanted = index;
    if (!this.loaded.has(index)) this.loaded.set(index, loadScene(this.data.scenes[index]));
    const scene = await this.loaded.get(index);
    if (this.wanted !== index) return; // another sample was chosen meanwhile
    if (!scene.grids.length) throw new Error("this sample has no label grid, so there is nothing to draw");
    this.root.hidden = false;
    this.setScene(scene);
  }

  setScene(scene) {
    const first = !this.scene;
    this.scene = scene;
    this.birdseye.setScene(scene);
    const numbered = scene.grids.some((grid) => grid.instances);
    document.getElementById("colour-choices").hidden = !numbered;
    if (!numbered && this.paints.byInstance) this.colourBy("class");
    this.setUpHeight();
    this.listClasses();
    if (first) this.orbit.look("behind", this.viewScale());
    this.makePanes();
    this.draw(true);
    this.root.dataset.state = "ready";
  }

  // The views are laid out for a grid of 80 m; other grids scale them.
  viewScale() {
    return (Math.max(this.scene.nx, this.scene.ny) * this.scene.voxel) / 80;
  }

  setUpHeight() {
    const slider = document.getElementById("height-clip");
    slider.max = String(this.scene.nz);
    this.top = Math.min(this.top, this.scene.nz);
    slider.value = String(this.top);
  }

  listClasses() {
    const { scene, data } = this;
    const list = document.getElementById("class-list");
    const rows = data.classes.map((entry, label) => {
      if (label === scene.free) return null;
      const count = Math.max(...scene.grids.map((grid) => grid.counts[label]));
      const box = create("input", { type: "checkbox", "data-label": String(label) });
      box.checked = !this.hidden.has(label);
      box.addEventListener("change", () => {
        if (box.checked) this.hidden.delete(label);
        else this.hidden.add(label);
        this.refresh(true);
      });
      const swatch = create("i", { class: "swatch", style: `background:${entry.colour}`, "aria-hidden": "true" });
      const row = create("label", {}, box, swatch, entry.name.replaceAll("_", " "));
      if (!count) row.className = "empty";
      row.title = scene.grids.map((grid) => `${spelled(grid.name)}: ${whole.format(grid.counts[label])} voxels`).join("\n");
      return row;
    });
    list.replaceChildren(...rows.filter(Boolean));
  }

  // "class" or "instance": in every view.
  colourBy(which) {
    this.paints.byInstance = which === "instance";
    for (const button of this.root.querySelectorAll("[data-colour]")) {
      button.setAttribute("aria-pressed", String(button.dataset.colour === which));
    }
    this.refresh(true);
  }

  chooseClasses(which) {
    this.data.classes.forEach((entry, label) => {
      const shown = which === "all" || (which === "users" && ROAD_USERS.test(entry.name));
      if (shown) this.hidden.delete(label);
      else this.hidden.add(label);
    });
    for (const box of document.querySelectorAll("#class-list input")) {
      box.checked = !this.hidden.has(Number(box.dataset.label));
    }
    this.refresh(true);
  }

  // Which of the 256 labels are drawn: free space never.
  visible() {
    const visible = new Uint8Array(256).fill(1);
    visible[this.scene.free] = 0;
    for (const label of this.hidden) visible[label] = 0;
    return visible;
  }

  makePanes() {
    const host = document.getElementById("voxels");
    const { grids } = this.scene;
    const count = Math.min(2, grids.length);
    if (this.panes.length === count) {
      this.panes.forEach((pane) => { pane.fillChoices(); });
      return;
    }
    host.replaceChildren();
    this.panes = [];
    for (let index = 0; index < count; index += 1) this.panes.push(new LabelledPane(this, index, host));
  }

  refresh(rebuild) {
    if (!this.scene) return;
    this.rebuild = this.rebuild || rebuild;
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame((now) => {
      this.pending = false;
      this.draw(this.rebuild, now);
    });
  }

  // Without a time stamp the view is at rest and drawn at full density.
  draw(rebuild, now) {
    this.rebuild = false;
    if (rebuild) {
      const visible = this.visible();
      const heightM = this.scene.origin[2] + this.top * this.scene.voxel;
      const all = this.top === this.scene.nz;
      document.getElementById("height-value").textContent = all ? "everything" : `${heightM.toFixed(1)} m above ground`;
      this.birdseye.draw(visible, this.top);
      this.panes.forEach((pane) => pane.build(visible, this.top));
    }
    const density = now !== undefined && !rebuild ? this.pace.moving(now) : FULL_DENSITY;
    this.panes.forEach((pane) => pane.draw(density));
  }
}

// A 3-D pane with the choice of its grid above and a statement of what is drawn below.
class LabelledPane {
  constructor(view, index, host) {
    this.view = view;
    this.index = index;
    this.choice = create("select", { "aria-label": `Grid of pane ${index + 1}` });
    this.note = create("span", { class: "quiet" });
    this.canvas = create("canvas", { tabindex: "0", role: "application", "aria-roledescription": "3-D view", "aria-describedby": "view-help" });
    this.statement = create("p", { class: "statement" });
    const heading = create("figcaption", {}, this.choice, this.note);
    host.append(create("figure", {}, heading, this.canvas, this.statement));
    this.choice.addEventListener("change", () => view.refresh(true));
    this.fillChoices();
    try {
      this.pane = new VoxelPane(this.canvas, view.orbit);
      attachPointers(this.canvas, view.orbit);
      attachKeys(this.canvas, view.orbit);
    } catch (error) {
      this.canvas.remove();
      this.statement.textContent = `No 3-D view: ${error.message}. The maps above show the same labels.`;
    }
  }

  fillChoices() {
    const { grids } = this.view.scene;
    const before = this.choice.selectedIndex;
    this.choice.replaceChildren(...grids.map((grid, i) => create("option", { value: String(i) }, spelled(grid.name))));
    this.choice.selectedIndex = before >= 0 && before < grids.length ? before : this.index;
  }

  build(visible, top) {
    const grid = this.view.scene.grids[this.choice.selectedIndex];
    this.note.textContent = grid.note;
    if (!this.pane) return;
    const { scene, paints } = this.view;
    const mesh = exposedFaces(scene, grid.labels, paints.of(grid), visible, top);
    this.pane.setFaces(scene, mesh, paints.palette);
    this.canvas.setAttribute("aria-label", `${spelled(grid.name)} occupancy in three dimensions, ${whole.format(mesh.occupied)} voxels`);
    const things = grid.instances ? countInstances(scene, grid, visible, top) : null;
    this.statement.textContent = describeMesh(mesh) + (things === null ? "" : ` ${whole.format(things)} ${things === 1 ? "instance" : "instances"}.`);
  }

  draw(density) {
    this.pane?.draw(density);
  }
}

// How densely a moving view is drawn: less where frames take long, and in full once it rests.
class Pace {
  constructor(atRest) {
    this.atRest = atRest;
    this.density = FULL_DENSITY;
  }

  moving(now) {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.atRest, 200);
    requestAnimationFrame((next) => {
      if (next - now > 50) this.density = Math.max(0.5, this.density * 0.7);
      else if (next - now < 20) this.density = Math.min(FULL_DENSITY, this.density * 1.05);
    });
    return this.density;
  }
}

function describeMesh(mesh) {
  const voxels = `${whole.format(mesh.occupied)} voxels, ${whole.format(mesh.drawn)} visible faces`;
  if (mesh.radius === null) return `${voxels}.`;
  return `${voxels} drawn of ${whole.format(mesh.all)}: only what lies within ${mesh.radius.toFixed(0)} m of the middle, because more would be too slow. Hide classes to see farther.`;
}

function startScene() {
  const source = document.getElementById("scene-data");
  if (!source) return;
  const problem = document.getElementById("scene-problem");
  const explain = (error) => { problem.textContent = `The label views cannot be drawn: ${error.message}.`; };
  if (typeof DecompressionStream === "undefined") {
    explain(new Error("this browser cannot inflate data (DecompressionStream, in browsers since 2023)"));
    return;
  }
  const view = new SceneView(JSON.parse(source.textContent));
  const show = view.show.bind(view);
  view.show = (index) => show(index).then(() => { problem.textContent = ""; }, explain);
  view.show(0);
}

startScene();
