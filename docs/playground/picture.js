// Pictures: files, and how they become the bytes that a model takes.

const MOST_BYTES = 100e6; // of a picture's file
const MOST_PIXELS = 4096 * 4096; // of a canvas, on a telephone

// Decodes a file, upright. Returns its pixels, and the size it had if it was too large and was made smaller.
// Throws an Error in words for people.
export async function readPicture(file) {
  if (file.size > MOST_BYTES)
    throw new Error(`${file.name} is larger than ${MOST_BYTES / 1e6} MB, the most for a picture.`);
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
    throw new Error(`${file.name || "This"} is no picture that this browser can decode.`);
  });
  const { width, height } = bitmap;
  const shrink = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const canvas = canvasOf(Math.max(1, Math.floor(width * shrink)), Math.max(1, Math.floor(height * shrink)));
  const context = contextOf(canvas);
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return { ...pictureOf(canvas), formerSize: shrink < 1 ? { width, height } : null };
}

export function pictureOf(canvas) {
  return { canvas, pixels: contextOf(canvas).getImageData(0, 0, canvas.width, canvas.height) };
}

// RGBA to grey (ITU-R 601-2, in the whole numbers of Pillow) or to RGB.
export function bytesOf(pixels, channels) {
  const from = pixels.data;
  const count = from.length / 4;
  const to = new Uint8Array(count * channels);
  for (let i = 0, j = 0; i < from.length; i += 4) {
    const [red, green, blue] = [from[i], from[i + 1], from[i + 2]];
    if (channels === 1) to[j++] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    else (to[j++] = red), (to[j++] = green), (to[j++] = blue);
  }
  return to;
}

// Grey bytes as a picture.
export function fromGrey(grey, width, height) {
  const pixels = new ImageData(width, height);
  grey.forEach((value, i) => pixels.data.set([value, value, value, 255], 4 * i));
  const canvas = canvasOf(width, height);
  contextOf(canvas).putImageData(pixels, 0, 0);
  return { canvas, pixels };
}

// The picture behind a prepared image, RGB bytes (height, width, 3): cropped and resized as the model sees it.
export function asSeen(image, { input, mean, std }) {
  const { channels, frames, height, width } = input;
  const area = height * width;
  const seen = new Uint8ClampedArray(3 * area);
  for (let i = 0; i < area; i++)
    for (let c = 0; c < 3; c++) {
      const channel = Math.min(c, channels - 1);
      seen[3 * i + c] = (image[channel * frames * area + i] * std[channel] + mean[channel]) * 255; // rounds and clamps
    }
  return seen;
}

export function canvasOf(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

// Of a canvas whose pixels are read: the browser keeps them where reading is quick.
export function contextOf(canvas) {
  return canvas.getContext("2d", { willReadFrequently: true });
}
