// Label grids: from base64 of zlib to one byte a voxel, index (x * ny + y) * nz + z.

async function inflate(base64, length) {
  const packed = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  if (bytes.length !== length) throw new Error(`a grid holds ${bytes.length} bytes, not ${length}`);
  return bytes;
}

// Little-endian numbers of 16 bits, on any machine.
function numbers16(bytes) {
  const numbers = new Uint16Array(bytes.length / 2);
  for (let i = 0; i < numbers.length; i += 1) numbers[i] = bytes[2 * i] | (bytes[2 * i + 1] << 8);
  return numbers;
}

// A scene with its grids inflated, and the geometry that every view needs.
async function loadScene(raw) {
  const [nx, ny, nz] = raw.shape;
  const grids = [];
  for (const grid of raw.grids) {
    const labels = await inflate(grid.labels, nx * ny * nz);
    const instances = grid.instances ? numbers16(await inflate(grid.instances, 2 * nx * ny * nz)) : null;
    grids.push({ name: grid.name, note: grid.note, labels, instances, counts: countLabels(labels) });
  }
  return { sample: raw.sample, nx, ny, nz, free: raw.free, voxel: raw.voxel_m, origin: raw.origin_m, grids };
}

function countLabels(labels) {
  const counts = new Uint32Array(256);
  for (let i = 0; i < labels.length; i += 1) counts[labels[i]] += 1;
  return counts;
}

// "#rrggbb" to three numbers from 0 to 255.
function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

// For each of the 256 labels: its colour, and whether it is drawn at all.
function paletteOf(classes) {
  const colours = new Uint8Array(256 * 3).fill(128);
  classes.forEach((entry, label) => colours.set(rgb(entry.colour), label * 3));
  return colours;
}

const whole = new Intl.NumberFormat("en-US");

function percentage(share) {
  // only exactly nothing reads 0 %
  if (share > 0 && share < 0.0001) return "< 0.01 %";
  return `${(share * 100).toFixed(2)} %`;
}

// Known abbreviations in their usual spelling, as in formats.py: int8-tensorrt is INT8 TensorRT.
const SPELLINGS = { "tensorrt-rtx": "TensorRT-RTX", tensorrt: "TensorRT", onnxruntime: "ONNX Runtime" };

function spelled(name) {
  const text = name
    .replace(/\b(tensorrt-rtx|tensorrt|onnxruntime)\b/gi, (word) => SPELLINGS[word.toLowerCase()])
    .replace(/\b(fp32|fp16|bf16|int8|int4)\b-?/gi, (word) => word.toUpperCase().replace("-", " "));
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function create(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") element.className = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}
