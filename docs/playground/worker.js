// Computes beside the page, so that the page never waits. It answers each message with one.
import { openModel } from "./library.js";

// Of a measurement: short runs are repeated, because browsers round their clocks.
const LEAST_MILLISECONDS = 20;
const CHANNELS = [1, 3];
const NO_MEMORY = "The model and the picture need more memory than this page can have.";

let compiled = null;
let model = null;

const replies = {
  start({ library }) {
    compiled = new WebAssembly.Module(library);
  },

  open({ file }) {
    const opened = openModel(compiled, file); // if this fails, the former model stays
    const { channels } = opened.description.input;
    if (!CHANNELS.includes(channels))
      throw new Error(`it takes ${channels} channels; pictures have 1 (grey) or 3 (colour)`);
    model = opened;
    return { description: model.description, tokens: model.map.length };
  },

  prepare({ pixels, height, width }) {
    return { image: model.prepare(pixels, height, width) };
  },

  // shown: a schedule that ends after the block whose groups are wanted; the groups at the end are those of `removed`.
  run({ removed, shown }) {
    const answer = model.run(removed);
    const ends = shown.every((count, block) => count === removed[block]);
    return { logits: answer.logits, map: ends ? answer.map : model.run(shown).map };
  },

  time({ removed }) {
    const start = performance.now();
    let runs = 0;
    let passed = 0;
    while (passed < LEAST_MILLISECONDS) {
      model.run(removed);
      runs++;
      passed = performance.now() - start;
    }
    return { milliseconds: passed / runs, logits: model.logits.view().slice() };
  },
};

onmessage = ({ data: { number, kind, content } }) => {
  try {
    postMessage({ number, result: replies[kind](content) });
  } catch (error) {
    // The library ends by a trap if it gets no memory. What it leaves behind is not used again.
    const isTrap = error instanceof WebAssembly.RuntimeError || error instanceof RangeError;
    if (isTrap && kind !== "open") model = null;
    postMessage({ number, problem: isTrap ? NO_MEMORY : error.message, isLost: model === null });
  }
};
