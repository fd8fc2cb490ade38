// From labels to the faces that can be seen: a voxel's face counts where its neighbour is empty,
// hidden or cut away. One face is two 32-bit words, in a texture:
//   word 0: x in bits 0-15, y in bits 16-31
//   word 1: z in bits 0-7, colour in bits 8-15, corner light in bits 16-23 (four times two bits)
// Faces are grouped by direction (-x +x -y +y -z +z), so a viewer can skip those turned away.

const MOST_FACES = 1_200_000;

// Which voxels are drawn, with an empty border, so that no neighbour lookup needs a bounds check.
function solidVoxels(scene, labels, visible, top) {
  const { nx, ny, nz } = scene;
  const strideY = nz + 2;
  const strideX = (ny + 2) * strideY;
  const solid = new Uint8Array((nx + 2) * strideX);
  let occupied = 0;
  for (let x = 0, from = 0; x < nx; x += 1) {
    for (let y = 0; y < ny; y += 1, from += nz) {
      const to = (x + 1) * strideX + (y + 1) * strideY + 1;
      for (let z = 0; z < top; z += 1) {
        if (!visible[labels[from + z]]) continue;
        solid[to + z] = 1;
        occupied += 1;
      }
    }
  }
  return { solid, strides: [strideX, strideY, 1], occupied };
}

// Faces by square ring around the middle: where there are too many, the far rings are left out.
function facesByRing(scene, { solid, strides }) {
  const { nx, ny } = scene;
  const rings = new Uint32Array(Math.max(nx, ny) + 1);
  forEachSolid(scene, solid, strides, (at, x, y) => {
    let faces = 0;
    for (const stride of strides) faces += 2 - solid[at - stride] - solid[at + stride];
    rings[ringOf(nx, ny, x, y)] += faces;
  });
  return rings;
}

function ringOf(nx, ny, x, y) {
  return Math.max(Math.abs(2 * x + 1 - nx), Math.abs(2 * y + 1 - ny)) >> 1;
}

function forEachSolid({ nx, ny, nz }, solid, [strideX, strideY], visit) {
  for (let x = 0; x < nx; x += 1) {
    for (let y = 0; y < ny; y += 1) {
      let at = (x + 1) * strideX + (y + 1) * strideY + 1;
      for (let z = 0; z < nz; z += 1, at += 1) if (solid[at]) visit(at, x, y, z);
    }
  }
}

// The rings that fit under the limit, and how many faces they and all have.
function withinLimit(rings, limit) {
  let drawn = 0;
  let ring = 0;
  while (ring < rings.length && drawn + rings[ring] <= limit) drawn += rings[ring++];
  let all = drawn;
  for (let r = ring; r < rings.length; r += 1) all += rings[r];
  return { lastRing: ring - 1, drawn, all };
}

// Ambient light of a face's four corners, 0 to 3 each, from its eight neighbours in the open layer:
// two sides and the diagonal of a corner darken it, and two sides close it (the usual voxel rule).
function cornerLight(solid, open, u, v) {
  const [left, right, down, up] = [solid[open - u], solid[open + u], solid[open - v], solid[open + v]];
  const corner = (a, b, diagonal) => (a && b ? 0 : 3 - a - b - diagonal);
  return corner(left, down, solid[open - u - v]) | (corner(right, down, solid[open + u - v]) << 2)
    | (corner(left, up, solid[open - u + v]) << 4) | (corner(right, up, solid[open + u + v]) << 6);
}

// painted: the index of each voxel's colour.
// -> { words, groups: [{first, count}] x 6, occupied, drawn, all, radius } (radius null: everything)
function exposedFaces(scene, labels, painted, visible, top, limit = MOST_FACES) {
  const { nx, ny, nz } = scene;
  const voxels = solidVoxels(scene, labels, visible, top);
  const { solid, strides } = voxels;
  const { lastRing, drawn, all } = withinLimit(facesByRing(scene, voxels), limit);
  const counts = new Uint32Array(6);
  const near = (x, y) => ringOf(nx, ny, x, y) <= lastRing;
  forEachSolid(scene, solid, strides, (at, x, y) => {
    if (!near(x, y)) return;
    for (let axis = 0; axis < 3; axis += 1) {
      counts[2 * axis] += 1 - solid[at - strides[axis]];
      counts[2 * axis + 1] += 1 - solid[at + strides[axis]];
    }
  });
  const groups = [];
  for (let direction = 0, first = 0; direction < 6; direction += 1) {
    groups.push({ first, count: counts[direction] });
    first += counts[direction];
  }
  const words = new Uint32Array(drawn * 2);
  const next = groups.map((group) => group.first * 2);
  forEachSolid(scene, solid, strides, (at, x, y, z) => {
    if (!near(x, y)) return;
    const colour = painted[(x * ny + y) * nz + z];
    for (let direction = 0; direction < 6; direction += 1) {
      const axis = direction >> 1;
      const open = at + (direction & 1 ? strides[axis] : -strides[axis]);
      if (solid[open]) continue;
      const light = cornerLight(solid, open, strides[(axis + 1) % 3], strides[(axis + 2) % 3]);
      words[next[direction]] = x | (y << 16);
      words[next[direction] + 1] = z | (colour << 8) | (light << 16);
      next[direction] += 2;
    }
  });
  const radius = drawn < all ? (lastRing + 1) * scene.voxel : null;
  return { words, groups, occupied: voxels.occupied, drawn, all, radius };
}
