// Everything that is written into the page.
import { likely, listClasses, milliseconds, percent } from "./answer.js";
import { drawChart } from "./chart.js";
import { drawGroups, groupsOf } from "./groups.js";
import { constantSchedule, same, tokensLeft } from "./schedule.js";

const UNKNOWN = "…";

export const part = (id) => document.getElementById(id);

// Shows a text, or takes it away if it is empty.
export function tell(id, text) {
  part(`${id}-text`).textContent = text;
  part(id).hidden = !text;
}

export function showChoices({ model, removed, block }, onChoose) {
  const left = tokensLeft(removed, model);
  const r = Number(part("r").value);
  const isConstant = same(removed, constantSchedule(r, model));
  part("r-value").textContent = isConstant ? r : `as saved, ${r} on average`;
  part("reducing").textContent = model.reducing.length;
  part("as-saved").disabled = same(removed, model.asSaved);
  part("block").value = block;
  part("block-value").textContent = block;
  part("block-tokens").textContent = `${left[block]} of ${model.tokens} tokens`;
  part("whole-tokens").textContent = model.tokens;
  part("merged-tokens").textContent = left.at(-1);
  drawChart(part("chart"), { tokens: model.tokens, left, chosen: block, onChoose });
}

// The groups are those after `block`. Returns the group of each patch.
export function showAnswer({ model, block, seen }, { logits, map }) {
  const classes = likely(logits, model.names);
  const share = Object.assign(document.createElement("small"), { textContent: percent(classes[0].share) });
  part("answer").replaceChildren(`${classes[0].name} `, share);
  listClasses(part("classes"), classes);
  part("merged-answer").textContent = classes[0].name;
  const groups = groupsOf(map, model);
  drawGroups(part("groups"), seen, groups, model);
  const words = `The picture's ${groups.length} patches in ${new Set(groups).size} groups after block ${block}`;
  part("groups").setAttribute("aria-label", words);
  return groups;
}

export function showNothing() {
  part("answer").textContent = "Nothing drawn yet";
  part("classes").replaceChildren();
  const groups = part("groups");
  groups.getContext("2d").clearRect(0, 0, groups.width, groups.height);
  groups.setAttribute("aria-label", "Nothing drawn yet");
  part("merged-answer").textContent = UNKNOWN;
  forgetTimes();
}

// What an earlier choice gave is not shown beside a later one.
export function forgetTimes() {
  for (const id of ["whole-answer", "whole-time", "merged-time"]) part(id).textContent = UNKNOWN;
  part("speed").textContent = "Measuring …";
}

// Of one picture at a time, in milliseconds. logits: of the unreduced model.
export function showTimes({ names }, { whole, merged, logits }) {
  part("whole-answer").textContent = likely(logits, names, 1)[0].name;
  part("whole-time").textContent = milliseconds(whole);
  part("merged-time").textContent = milliseconds(merged);
  part("speed").textContent = `Merging makes it ${(whole / merged).toFixed(2)}× as fast here.`;
}

export function showModel(model) {
  const { input, name, reduction, precision, depth, tokens } = model;
  const clip = input.frames > 1 ? `clips of ${input.frames} frames, ` : "";
  const facts = {
    name,
    input: `${clip}${input.width} × ${input.height} pixels, ${input.channels === 1 ? "grey" : "colour"}`,
    size: `${depth} blocks, ${tokens} tokens, ${model.names.length} classes, ${precision}`,
    "saved with": reduction || "no reduction",
  };
  const element = (kind, textContent) => Object.assign(document.createElement(kind), { textContent });
  const lines = Object.entries(facts).flatMap(([term, value]) => [element("dt", term), element("dd", value)]);
  part("facts").replaceChildren(...lines);
  part("kicker").textContent = `rmeeto playground · ${name}`;
  part("hint").textContent = `${model.readsDigits ? "Draw a digit" : "Draw"}, or drop a photo anywhere.`;
  part("examples").hidden = !model.readsDigits;
}
