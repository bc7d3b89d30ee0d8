// A pad to draw on, with mouse, finger or pen. It also shows pictures that were chosen.
import { drawStrokes } from "./digit.js";
import { contextOf } from "./picture.js";

const INK_SHARE = 1 / 11; // of the pad's side

export class Pad {
  // onDrawing: called with all strokes after each movement. Points are from 0 to 1, whatever the pad's size on screen.
  constructor(canvas, onDrawing) {
    this.canvas = canvas;
    this.onDrawing = onDrawing;
    this.strokes = [];
    this.pointer = null;
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.go(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => (this.pointer = null));
    this.clear();
  }

  begin(event) {
    if (this.pointer !== null || event.button > 0) return;
    event.preventDefault();
    if (!this.strokes.length) this.clear(); // a picture goes when drawing begins
    this.pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.strokes.push([this.pointOf(event)]);
    this.draw();
  }

  go(event) {
    if (event.pointerId !== this.pointer) return;
    const passed = event.getCoalescedEvents?.() ?? [];
    this.strokes.at(-1).push(...(passed.length ? passed : [event]).map((one) => this.pointOf(one)));
    this.draw();
  }

  pointOf(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - left) / width, y: (event.clientY - top) / height };
  }

  draw() {
    const { context, side } = this;
    const onPad = this.strokes.map((stroke) => stroke.map(({ x, y }) => ({ x: x * side, y: y * side })));
    this.blacken();
    drawStrokes(context, onPad, INK_SHARE * side);
    this.onDrawing(this.strokes);
  }

  clear() {
    this.strokes = [];
    this.pointer = null;
    this.blacken();
  }

  // Shows the middle of a picture; its own pixels stay square if it is small.
  show(picture) {
    this.clear();
    const { context, side } = this;
    const { width, height } = picture;
    const shorter = Math.min(width, height);
    context.imageSmoothingEnabled = shorter > 64;
    context.drawImage(picture, (width - shorter) / 2, (height - shorter) / 2, shorter, shorter, 0, 0, side, side);
  }

  blacken() {
    this.context.fillStyle = "black";
    this.context.fillRect(0, 0, this.side, this.side);
  }

  get context() {
    return contextOf(this.canvas);
  }

  get side() {
    return this.canvas.width;
  }
}
