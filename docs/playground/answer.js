// Logits for people: classes by probability, and the table of both models.

export const MOST_SHOWN = 5;

// The most likely classes, best first.
export function likely(logits, names, count = MOST_SHOWN) {
  const highest = logits.reduce((a, b) => Math.max(a, b));
  const odds = Array.from(logits, (logit) => Math.exp(logit - highest));
  const total = odds.reduce((a, b) => a + b);
  return [...odds.keys()]
    .sort((a, b) => odds[b] - odds[a])
    .slice(0, count)
    .map((label) => ({ name: names[label], share: odds[label] / total }));
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

export function listClasses(list, classes) {
  list.replaceChildren(
    ...classes.map(({ name, share }) => {
      const item = document.createElement("li");
      const bar = Object.assign(document.createElement("span"), { className: "share" });
      bar.style.width = `${100 * share}%`;
      item.append(textOf("name", name), textOf("percent", percent(share)), bar);
      return item;
    }),
  );
}

function textOf(className, textContent) {
  return Object.assign(document.createElement("span"), { className, textContent });
}

// The middle one of some numbers.
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

// Three digits.
export const milliseconds = (value) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
