// Schedules: how many tokens are merged before each block.

// The most that one reduction can merge: half of the tokens that it may take. kept: those that it may not.
export function capacity(tokens, kept) {
  return Math.max(0, Math.floor((tokens - kept) / 2));
}

// r tokens before each reducing block. What a block cannot merge, the following ones merge as far as they can, as
// rmeeto's `merge:r=…` does.
export function constantSchedule(r, model) {
  const removed = new Array(model.depth).fill(0);
  let due = 0;
  let gone = 0;
  for (const block of model.reducing) {
    due += r;
    removed[block] = Math.min(due - gone, capacity(model.tokens - gone, model.kept));
    gone += removed[block];
  }
  return removed;
}

export const unreduced = (model) => new Array(model.depth).fill(0);

// The same up to a block, and nothing after it: at its end, tokens are where they are after that block.
export function until(block, removed) {
  return removed.map((count, place) => (place <= block ? count : 0));
}

// Tokens that leave each block.
export function tokensLeft(removed, model) {
  let left = model.tokens;
  return removed.map((count) => (left -= count));
}

export const same = (one, other) => one.every((count, block) => count === other[block]);
