// Tokens that leave each block, as bars; the dashed line is the model without merging.

const [WIDTH, HEIGHT, BELOW, LEFT] = [320, 140, 18, 28];

// chosen: the block that is shown. onChoose: called with a block that was clicked.
export function drawChart(svg, { tokens, left, chosen, onChoose }) {
  const step = (WIDTH - LEFT) / left.length;
  const floor = HEIGHT - BELOW;
  const y = (count) => floor - (count / tokens) * (floor - 12);
  const every = Math.ceil(left.length / 12); // blocks that are numbered
  const parts = [
    node("line", { x1: LEFT, x2: WIDTH, y1: y(tokens), y2: y(tokens), class: "whole-line" }),
    node("text", { x: LEFT - 6, y: y(tokens) + 4, class: "end" }, tokens),
    node("text", { x: LEFT - 6, y: floor, class: "end" }, 0),
  ];
  left.forEach((count, block) => {
    const x = LEFT + block * step;
    const bar = { x: x + step * 0.12, width: step * 0.76, y: y(count), height: Math.max(0, floor - y(count)), rx: 1.5 };
    parts.push(node("rect", { ...bar, class: block === chosen ? "bar chosen" : "bar" }));
    const middle = x + step / 2;
    if (block % every === 0) parts.push(node("text", { x: middle, y: HEIGHT - 3, class: "middle" }, block));
    if (block === chosen) parts.push(node("text", { x: middle, y: y(count) - 3, class: "middle count" }, count));
    const target = node("rect", { x, width: step, y: 0, height: HEIGHT, class: "target" });
    target.addEventListener("click", () => onChoose(block));
    parts.push(target);
  });
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("aria-label", `Tokens that leave each block: ${left.join(", ")}; ${tokens} without merging`);
  svg.replaceChildren(...parts);
}

function node(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
