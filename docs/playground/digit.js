// A drawing as the digits are that the model was trained on: 8×8 cells of 0 to 16, white on black. Each fills all
// eight rows, and its strokes are about a cell thick.
import { canvasOf, contextOf, fromGrey } from "./picture.js";

const CELLS = 8;
const LEVELS = 16;
const FINE = 16; // pixels of a cell while it is drawn
const SIDE = CELLS * FINE;
const THICKNESS = 1.2 * FINE;
const WIDEST = 7 * FINE;
const LEAST_EXTENT = 0.12; // of the pad; a smaller drawing is not enlarged further

// strokes: lists of points {x, y}, from 0 to 1.
export function digitOf(strokes) {
  const context = contextOf(canvasOf(SIDE, SIDE));
  context.fillRect(0, 0, SIDE, SIDE);
  drawStrokes(context, centred(strokes), THICKNESS);
  return fromGrey(averaged(context.getImageData(0, 0, SIDE, SIDE).data), CELLS, CELLS);
}

export function drawStrokes(context, strokes, thickness) {
  Object.assign(context, { strokeStyle: "white", lineWidth: thickness, lineCap: "round", lineJoin: "round" });
  for (const [first, ...others] of strokes) {
    context.beginPath();
    context.moveTo(first.x, first.y);
    for (const { x, y } of others.length ? others : [first]) context.lineTo(x, y);
    context.stroke();
  }
}

// The strokes moved and scaled so that they fill all rows.
function centred(strokes) {
  const [left, right] = extent(strokes.flat().map(({ x }) => x));
  const [top, bottom] = extent(strokes.flat().map(({ y }) => y));
  const room = (side) => side - THICKNESS;
  const scale = Math.min(
    room(SIDE) / Math.max(bottom - top, LEAST_EXTENT),
    room(WIDEST) / Math.max(right - left, LEAST_EXTENT),
  );
  const place = (value, low, high) => (value - (low + high) / 2) * scale + SIDE / 2;
  return strokes.map((stroke) => stroke.map(({ x, y }) => ({ x: place(x, left, right), y: place(y, top, bottom) })));
}

function extent(values) {
  return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
}

// Each cell's mean, in as many levels as the digits have.
function averaged(rgba) {
  const sums = new Array(CELLS * CELLS).fill(0);
  for (let y = 0; y < SIDE; y++)
    for (let x = 0; x < SIDE; x++)
      sums[Math.floor(y / FINE) * CELLS + Math.floor(x / FINE)] += rgba[4 * (y * SIDE + x)];
  return Uint8Array.from(sums, (sum) => {
    const level = Math.round((sum / (FINE * FINE * 255)) * LEVELS);
    return Math.round((level * 255) / LEVELS);
  });
}
