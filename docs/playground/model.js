// What the page knows of a model, from the description in its file.
import { capacity } from "./schedule.js";

export function describeModel({ description, tokens }, fileName) {
  const { input, patch, sizes, merge, prepare } = description;
  const kept = description.protected.length + guarded(merge);
  const asSaved = merge?.removed?.length ? merge.removed : new Array(sizes.depth).fill(0);
  const { class_names: given } = description;
  const names = given?.length ? given : Array.from({ length: sizes.classes }, (_, label) => `class ${label}`);
  return {
    fileName,
    name: description.name || fileName,
    reduction: description.reduction,
    precision: description.precision,
    depth: sizes.depth,
    tokens,
    protected: description.protected,
    kept,
    input,
    grid: {
      frames: input.frames / patch.frames,
      height: Math.floor(input.height / patch.height),
      width: Math.floor(input.width / patch.width),
    },
    mean: prepare.mean,
    std: prepare.std,
    names,
    readsDigits: names.length === 10 && names.every((name, digit) => name === String(digit)),
    asSaved,
    reducing: reducingBlocks(asSaved),
    largestR: capacity(tokens, kept),
  };
}

// Patches near the class token that a merging of neighbours leaves alone; the two beside them may have no neighbour left.
function guarded(merge) {
  return merge?.method === "neighbours" && merge.guard ? 2 * merge.guard + 2 : 0;
}

// Those of the file; of a file without a reduction every second block from block 2, as in the paper.
function reducingBlocks(removed) {
  const blocks = [...removed.keys()];
  const reducing = blocks.filter((block) => removed[block] > 0);
  return reducing.length ? reducing : blocks.filter((block) => block >= 2 && block % 2 === 0);
}

// The r that comes nearest to a schedule.
export function meanR(removed, model) {
  const total = removed.reduce((sum, count) => sum + count, 0);
  return Math.round(total / Math.max(1, model.reducing.length));
}
