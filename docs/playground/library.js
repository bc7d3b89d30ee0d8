// librmeeto in WebAssembly: one open model, and one picture that is prepared for it.

const UTF8 = new TextDecoder();

// What the C++ runtime asks of a system: a clock, and an output that is not there.
function system(memory) {
  return {
    clock_time_get: (_clock, _precision, at) => {
      new DataView(memory().buffer).setBigUint64(at, BigInt(Math.round(performance.now() * 1e6)), true);
      return 0;
    },
    fd_write: () => 0,
    fd_seek: () => 0,
    fd_close: () => 0,
  };
}

// Opens a model file. compiled: a WebAssembly.Module. Throws an Error whose message says what is wrong with the file.
// Each model has a memory of its own, which goes with it: WebAssembly's memory never shrinks.
export function openModel(compiled, file) {
  const instance = new WebAssembly.Instance(compiled, {
    wasi_snapshot_preview1: system(() => instance.exports.memory),
  });
  const library = instance.exports;
  library._initialize();
  const space = (Type, length) => allocate(library, Type, length);
  const bytes = space(Uint8Array, file.length);
  bytes.view().set(file);
  const handle = library.open_model(bytes.at, file.length);
  bytes.free();
  if (!handle) throw new Error(errorOf(library));
  return new Model(library, handle, space);
}

class Model {
  constructor(library, handle, space) {
    this.library = library;
    this.handle = handle;
    this.space = space;
    this.description = JSON.parse(text(library, library.description(handle)));
    const { input, patch, sizes, protected: kept } = this.description;
    const perFrame = input.channels * input.height * input.width;
    const patches =
      (input.frames / patch.frames) * Math.floor(input.height / patch.height) * Math.floor(input.width / patch.width);
    this.image = space(Float32Array, perFrame * input.frames);
    this.removed = space(Int32Array, sizes.depth);
    this.logits = space(Float32Array, sizes.classes);
    this.map = space(Int32Array, patches + kept.length);
  }

  // pixels: bytes (height, width, channels). Returns the image as the model sees it, (channels, frames, height, width).
  // A model of clips gets the picture in every frame.
  prepare(pixels, height, width) {
    const given = this.space(Uint8Array, pixels.length);
    given.view().set(pixels);
    for (let frame = 0; frame < this.description.input.frames; frame++) {
      const done = this.library.prepare(this.handle, given.at, height, width, frame, this.image.at);
      if (!done) throw new Error(errorOf(this.library));
    }
    given.free();
    return this.image.view().slice();
  }

  // removed: how many tokens are merged before each block. Returns logits, and which of the last tokens each of the
  // first has become a part of.
  run(removed) {
    this.removed.view().set(removed);
    const { handle, image, logits, map } = this;
    const done = this.library.run(handle, image.at, this.removed.at, logits.at, map.at);
    if (!done) throw new Error(errorOf(this.library));
    return { logits: logits.view().slice(), map: map.view().slice() };
  }
}

// Memory of the library. A view of it is made for each use: it ends when the memory grows.
function allocate(library, Type, length) {
  const at = library.malloc(Math.max(1, length) * Type.BYTES_PER_ELEMENT);
  if (!at) throw new RangeError("no memory left");
  return { at, length, view: () => new Type(library.memory.buffer, at, length), free: () => library.free(at) };
}

function errorOf(library) {
  return text(library, library.error_text());
}

function text(library, at) {
  const bytes = new Uint8Array(library.memory.buffer, at);
  return UTF8.decode(bytes.subarray(0, bytes.indexOf(0)));
}
