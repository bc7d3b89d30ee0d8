// Files that are chosen or dropped: a model, or a picture.
import { readPicture } from "./picture.js";

const MOST_MODEL_BYTES = 1e9; // the file and what is packed from it share 4 GB at most
const MOST_HEADER_BYTES = 1e9;

// Returns {model: bytes, name}, or {picture, note}. Throws an Error in words for people.
export async function readFile(file) {
  if (await isModelFile(file)) return { model: await modelBytes(file), name: file.name };
  const picture = await readPicture(file);
  const { formerSize, pixels } = picture;
  const sizes = formerSize && [formerSize, pixels].map(({ width, height }) => `${width} × ${height}`);
  const note = sizes ? `The photo is large: it was made smaller first, from ${sizes.join(" to ")} pixels.` : "";
  return { picture, note };
}

// By its name, or by its beginning: a safetensors file has the length of its header, then a header in JSON.
async function isModelFile(file) {
  if (/\.(rmeeto|safetensors)$/i.test(file.name)) return true;
  const start = new DataView(await bytesOfFile(file.slice(0, 9), file.name));
  return start.byteLength === 9 && start.getBigUint64(0, true) < MOST_HEADER_BYTES && start.getUint8(8) === 0x7b;
}

async function modelBytes(file) {
  if (file.size > MOST_MODEL_BYTES)
    throw new Error(`${file.name} is larger than ${MOST_MODEL_BYTES / 1e9} GB, the most for a model in this page.`);
  return new Uint8Array(await bytesOfFile(file, file.name));
}

function bytesOfFile(file, name) {
  return file.arrayBuffer().catch(() => {
    throw new Error(`${name} cannot be read.`);
  });
}

// Files that are dropped anywhere on the page.
export function onDrop(take) {
  const mark = (is) => document.body.classList.toggle("dropping", is);
  for (const kind of ["dragenter", "dragover"])
    addEventListener(kind, (event) => {
      event.preventDefault();
      mark(true);
    });
  addEventListener("dragleave", (event) => mark(event.relatedTarget !== null));
  addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    take([...event.dataTransfer.files]);
  });
}

// A button that asks for a file.
export function onChoice(button, input, take) {
  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // the same file may be chosen again
  });
}
