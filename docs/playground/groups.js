// Groups of merged patches drawn over a picture, each in its mean colour and parted by thin light lines: the drawing of
// `rmeeto show` (rmeeto.viz.groups).

const PICTURE_PIXELS = 672;
const BORDER_OPACITY = 0.75;
const BORDER_SHARE = 1 / 24; // of a patch's side

// The group of each patch, (frames, height, width) of the grid. map: of all tokens; places that are no patches go.
export function groupsOf(map, model) {
  return map.filter((_, place) => !model.protected.includes(place));
}

// seen: RGB bytes (height, width, 3). Of a clip, whose frames are equal here, the first frame is drawn.
export function drawGroups(canvas, seen, groups, model) {
  const { height, width } = model.input;
  const factor = Math.max(1, Math.floor(PICTURE_PIXELS / Math.max(height, width)));
  const planes = cellsOf(groups, model);
  const colours = meanColours(seen, planes);
  const cells = planes[0];
  const side = (factor * Math.max(height, width)) / Math.max(model.grid.height, model.grid.width);
  const thickness = Math.max(1, nearestEven(side * BORDER_SHARE));
  const wide = width * factor;
  const high = height * factor;
  const at = (y, x) => cells[Math.floor(y / factor) * width + Math.floor(x / factor)];
  const picture = new ImageData(wide, high);
  for (let y = 0; y < high; y++)
    for (let x = 0; x < wide; x++) {
      const group = at(y, x);
      let isBorder = false;
      for (let step = 1; step <= thickness && !isBorder; step++)
        isBorder = (y >= step && at(y - step, x) !== group) || (x >= step && at(y, x - step) !== group);
      const line = isBorder ? BORDER_OPACITY : 0;
      const pixel = 4 * (y * wide + x);
      for (let c = 0; c < 3; c++) picture.data[pixel + c] = colours.get(group)[c] * (1 - line) + 255 * line;
      picture.data[pixel + 3] = 255;
    }
  canvas.width = wide;
  canvas.height = high;
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

// The group of each pixel, for every frame of the grid.
function cellsOf(groups, { input, grid }) {
  const { height, width } = input;
  return Array.from({ length: grid.frames }, (_, frame) => {
    const cells = new Int32Array(height * width);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const row = Math.floor((y * grid.height) / height);
        const column = Math.floor((x * grid.width) / width);
        cells[y * width + x] = groups[(frame * grid.height + row) * grid.width + column];
      }
    return cells;
  });
}

function meanColours(seen, planes) {
  const sums = new Map(); // red, green, blue, pixels
  for (const cells of planes)
    cells.forEach((group, pixel) => {
      if (!sums.has(group)) sums.set(group, [0, 0, 0, 0]);
      const sum = sums.get(group);
      for (let c = 0; c < 3; c++) sum[c] += seen[3 * pixel + c];
      sum[3]++;
    });
  return new Map([...sums].map(([group, [...sum]]) => [group, sum.slice(0, 3).map((value) => value / sum[3])]));
}

// As Python rounds: of two that are equally near, the even one.
function nearestEven(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}
