// The page: what is chosen, and what the engine is asked about it.
import { median } from "./answer.js";
import { digitOf } from "./digit.js";
import { Engine } from "./engine.js";
import { onChoice, onDrop, readFile } from "./files.js";
import { describeModel, meanR } from "./model.js";
import { Pad } from "./pad.js";
import { asSeen, bytesOf, fromGrey, pictureOf } from "./picture.js";
import { constantSchedule, unreduced, until } from "./schedule.js";
import { forgetTimes, part, showAnswer, showChoices, showModel, showNothing, showTimes, tell } from "./view.js";

const ROUNDS = 7; // of a measurement
const LAST_ROUNDS = 5; // that count: browsers translate a program better after its first runs
const EXAMPLE_SIDE = 8;
const FIRST_EXAMPLE = 3;

const bytesIn = (id) => Uint8Array.from(atob(part(id).textContent), (letter) => letter.charCodeAt(0));
const builtIn = () => ({ bytes: bytesIn("model-bytes"), name: "vim_digits.rmeeto", isBuiltIn: true });

const engine = new Engine(part("worker-source").textContent);
// removed: the schedule. block: after which groups are shown. seen: the picture as the model sees it, or null as long
// as the engine does not have it.
const state = { model: null, removed: [], block: 0, picture: null, seen: null };
let nextModel = null; // that is to be opened
let reading = Promise.resolve(); // ends when all files are read
let version = 0; // counts what is chosen
let isAsking = false;

// ---- asking: one question at a time, always about what was chosen last

function changed() {
  version++;
  if (state.model) showChoices(state, chooseBlock);
  if (!isAsking) ask();
}

async function ask() {
  isAsking = true;
  for (let asked = -1; asked !== version; ) {
    asked = version;
    await answer(() => asked === version).catch(recover);
  }
  isAsking = false;
}

function recover(error) {
  tell("problem", error.message);
  if (!error.isLost || state.model.isBuiltIn) return;
  nextModel = builtIn();
  version++;
}

async function answer(isLast) {
  if (nextModel) await openNext().catch(recover);
  if (!state.model) return;
  if (!state.picture) return showNothing();
  if (!state.seen) await prepare();
  if (!state.seen) return; // another picture was chosen meanwhile
  const { model, block, removed, seen } = state;
  const result = await engine.ask("run", { removed, shown: until(block, removed) });
  const groups = showAnswer({ model, block, seen }, result);
  performance.mark("answer");
  const detail = { logits: [...result.logits], groups: [...groups], block, removed, isLast: isLast() };
  document.dispatchEvent(new CustomEvent("answer", { detail }));
  await measure(model, removed, isLast);
}

async function prepare() {
  const { picture, model } = state;
  const { width, height } = picture.pixels;
  const pixels = bytesOf(picture.pixels, model.input.channels);
  const { image } = await engine.ask("prepare", { pixels, height, width }, [pixels.buffer]);
  if (state.picture === picture) state.seen = asSeen(image, model);
}

// The unreduced and the merged model in turns.
async function measure(model, removed, isLast) {
  const [whole, merged] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    if (!isLast()) return;
    const { milliseconds, logits } = await engine.ask("time", { removed: unreduced(model) });
    if (!isLast()) return;
    whole.push(milliseconds);
    merged.push((await engine.ask("time", { removed })).milliseconds);
    if (!isLast()) return;
    const [wholeTime, mergedTime] = [whole, merged].map((times) => median(times.slice(-LAST_ROUNDS)));
    showTimes(model, { whole: wholeTime, merged: mergedTime, logits });
  }
}

async function openNext() {
  const { bytes, name, isBuiltIn } = nextModel;
  nextModel = null;
  const opened = await engine.ask("open", { file: bytes }, [bytes.buffer]).catch((error) => {
    throw new Error(`${name} cannot be opened: ${error.message}`);
  });
  const model = describeModel(opened, name);
  const { strokes } = pad;
  const picture = strokes.length ? drawn(strokes, model) : state.picture;
  Object.assign(state, { model: { ...model, isBuiltIn }, removed: model.asSaved, picture, seen: null });
  state.block = model.reducing.at(-1) ?? model.depth - 1;
  Object.assign(part("r"), { max: model.largestR, value: meanR(model.asSaved, model) });
  part("block").max = model.depth - 1;
  part("r").disabled = part("block").disabled = false;
  part("built-in").hidden = isBuiltIn;
  const { frames } = model.input;
  const still = `The model takes clips of ${frames} frames: a picture is a clip that stands still.`;
  tell("note", frames > 1 ? still : "");
  showModel(model);
  showChoices(state, chooseBlock);
}

// ---- choosing

function chooseBlock(block) {
  state.block = block;
  changed();
}

function chooseSchedule(removed) {
  state.removed = removed;
  forgetTimes();
  changed();
}

function choosePicture(picture, note = "") {
  Object.assign(state, { picture, seen: null });
  tell("problem", "");
  tell("note", note);
  forgetTimes();
  changed();
}

function chooseModel(next) {
  nextModel = next;
  tell("problem", "");
  forgetTimes();
  changed();
}

// Files are read one after the other, so that the one that was chosen last is the one that is shown.
function takeFiles(files) {
  for (const file of files)
    reading = reading.then(() => takeFile(file)).catch((error) => tell("problem", error.message));
}

async function takeFile(file) {
  const { model, name, picture, note } = await readFile(file);
  if (model) return chooseModel({ bytes: model, name, isBuiltIn: false });
  pad.show(picture.canvas);
  choosePicture(picture, note);
}

// A drawing as a model takes it: as a digit like those of its training, or the pad as it is.
function drawn(strokes, model) {
  return model.readsDigits ? digitOf(strokes) : pictureOf(part("pad"));
}

function addExamples() {
  const bytes = bytesIn("example-bytes");
  const area = EXAMPLE_SIDE * EXAMPLE_SIDE;
  const pictures = Array.from({ length: bytes.length / area }, (_, digit) =>
    fromGrey(bytes.subarray(digit * area, (digit + 1) * area), EXAMPLE_SIDE, EXAMPLE_SIDE),
  );
  const choose = (picture) => {
    pad.show(picture.canvas);
    choosePicture(picture);
  };
  pictures.forEach((picture, digit) => {
    const button = Object.assign(document.createElement("button"), { type: "button", title: `a ${digit}` });
    button.setAttribute("aria-label", `Take a ${digit}`);
    button.append(picture.canvas);
    button.addEventListener("click", () => choose(picture));
    part("examples").append(button);
  });
  choose(pictures[FIRST_EXAMPLE]);
}

const pad = new Pad(part("pad"), (strokes) => state.model && choosePicture(drawn(strokes, state.model)));
part("clear").addEventListener("click", () => {
  pad.clear();
  choosePicture(null);
});
part("r").addEventListener("input", () => chooseSchedule(constantSchedule(Number(part("r").value), state.model)));
part("block").addEventListener("input", () => chooseBlock(Number(part("block").value)));
part("as-saved").addEventListener("click", () => {
  part("r").value = meanR(state.model.asSaved, state.model);
  chooseSchedule(state.model.asSaved);
});
part("built-in").addEventListener("click", () => chooseModel(builtIn()));
part("close").addEventListener("click", () => tell("problem", ""));
onChoice(part("choose-picture"), part("picture-file"), takeFiles);
onChoice(part("choose-model"), part("model-file"), takeFiles);
onDrop(takeFiles);

engine
  .ask("start", { library: bytesIn("library-bytes") })
  .then(() => {
    nextModel = builtIn();
    addExamples();
  })
  .catch((error) => tell("problem", `This browser cannot run the page: ${error.message}`));
