// What colour a voxel takes: that of its class, or that of its instance.
// A paint has one byte a voxel, an index into 256 colours.

const WITHOUT_INSTANCE = [174, 176, 180]; // grey: what is no single thing steps back
const INSTANCE_COLOURS = 255; // then they come round again
const GOLDEN_TURN = 0.61803398875; // of the hue circle: successive instances land far apart

function instancePalette() {
  const colours = new Uint8Array(256 * 3);
  colours.set(WITHOUT_INSTANCE, 0);
  for (let i = 1; i <= INSTANCE_COLOURS; i += 1) {
    colours.set(hueColour((i * GOLDEN_TURN) % 1, [0.5, 0.38, 0.62][i % 3]), i * 3);
  }
  return colours;
}

// HSL of saturation 0.75 to three numbers from 0 to 255.
function hueColour(hue, lightness) {
  const spread = 0.75 * Math.min(lightness, 1 - lightness);
  return [0, 8, 4].map((n) => {
    const k = (n + hue * 12) % 12;
    return Math.round(255 * (lightness - spread * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

class Paints {
  constructor(classes) {
    this.byInstance = false;
    this.palettes = [paletteOf(classes), instancePalette()];
  }

  get palette() {
    return this.palettes[Number(this.byInstance)];
  }

  // The index of every voxel's colour.
  of(grid) {
    if (!this.byInstance) return grid.labels;
    grid.painted ??= Uint8Array.from(grid.instances ?? new Uint8Array(grid.labels.length), (number) => (number ? 1 + ((number - 1) % INSTANCE_COLOURS) : 0));
    return grid.painted;
  }
}

// How many instances are among the voxels that are shown.
function countInstances({ nx, ny, nz }, grid, visible, top) {
  const seen = new Set();
  for (let column = 0; column < nx * ny; column += 1) {
    for (let i = column * nz; i < column * nz + top; i += 1) {
      if (grid.instances[i] && visible[grid.labels[i]]) seen.add(grid.instances[i]);
    }
  }
  return seen.size;
}
