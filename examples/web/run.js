// Runs a packed-int8 file: codes of an image that is chosen, or all codes that the address of the page names.
"use strict";

const ROWS_AT_ONCE = 16;
const CLASSES = "classes";
ort.env.wasm.numThreads = 1; // so that the page needs no cross-origin isolation
ort.env.wasm.wasmPaths = new URL("node_modules/onnxruntime-web/dist/", window.location.href).href;

const say = (text) => {
  document.getElementById("said").textContent = text;
};

/** What a session takes: the name of its input, the shape of one sample, and its array type. */
function inputOf(session) {
  const [input] = session.inputMetadata;
  if (input.type !== "uint8" && input.type !== "int8") {
    throw new Error(`the file takes ${input.type}; packed-int8 files take uint8 or int8`);
  }
  const shape = input.shape.slice(1).map(Number);
  return { name: input.name, type: input.type, shape, size: shape.reduce((a, b) => a * b, 1) };
}

/** The outputs of all samples in `bytes`, each a list of whole numbers by the name of the output. */
async function outputsOf(session, bytes) {
  const input = inputOf(session);
  const codes = input.type === "int8" ? new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length) : bytes;
  if (codes.length % input.size !== 0) {
    throw new Error(`${codes.length} codes are no whole samples of ${input.size}`);
  }
  const found = Object.fromEntries(session.outputNames.map((name) => [name, []]));
  for (let start = 0; start < codes.length; start += ROWS_AT_ONCE * input.size) {
    const part = codes.slice(start, start + ROWS_AT_ONCE * input.size);
    const given = new ort.Tensor(input.type, part, [part.length / input.size, ...input.shape]);
    const made = await session.run({ [input.name]: given });
    for (const name of session.outputNames) {
      for (const number of made[name].data) {
        const whole = Number(number); // an int64 comes as a BigInt, which JSON does not take: text keeps all its digits
        found[name].push(Number.isSafeInteger(whole) ? whole : String(number));
      }
    }
  }
  return found;
}

/** The pixels of the image file, scaled to what the session takes, channels first: grey for one channel. */
async function pixelsOf(file, input) {
  const [channels, height, width] = input.shape.length === 3 ? input.shape : [1, Math.sqrt(input.size), Math.sqrt(input.size)];
  if (!Number.isInteger(height) || (channels !== 1 && channels !== 3)) {
    throw new Error(`the file takes samples of the shape ${input.shape}, which no image has`);
  }
  const canvas = document.getElementById("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.drawImage(await createImageBitmap(file), 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const pixels = new Uint8Array(input.size);
  for (let at = 0; at < width * height; at += 1) {
    const rgb = data.subarray(4 * at, 4 * at + 3);
    if (channels === 3) {
      rgb.forEach((value, channel) => { pixels[channel * width * height + at] = value; });
    } else {
      pixels[at] = Math.round((rgb[0] * 299 + rgb[1] * 587 + rgb[2] * 114) / 1000);
    }
  }
  return pixels;
}

async function bytesAt(address) {
  const answer = await fetch(address);
  if (!answer.ok) {
    throw new Error(`${address}: ${answer.status} ${answer.statusText}`);
  }
  return new Uint8Array(await answer.arrayBuffer());
}

/** Run all codes of the address and post what comes of it. */
async function runAddressed(parameters) {
  const report = (content) => fetch(parameters.get("report"), { method: "POST", body: JSON.stringify(content) });
  try {
    const session = await ort.InferenceSession.create(await bytesAt(parameters.get("model")), { executionProviders: ["wasm"] });
    await report({ outputs: await outputsOf(session, await bytesAt(parameters.get("codes"))) });
    say("done");
  } catch (error) {
    await report({ error: String(error) });
    say(String(error));
  }
}

let session = null;

async function runChosen() {
  const model = document.getElementById("model").files[0];
  const image = document.getElementById("image").files[0];
  try {
    if (model !== undefined && session === null) {
      session = await ort.InferenceSession.create(new Uint8Array(await model.arrayBuffer()), { executionProviders: ["wasm"] });
      say(`${model.name} takes ${inputOf(session).name} of the shape ${inputOf(session).shape}. Choose an image.`);
    }
    if (session !== null && image !== undefined) {
      const made = await outputsOf(session, await pixelsOf(image, inputOf(session)));
      const { [CLASSES]: classes, ...codes } = made;
      const [first] = Object.values(codes);
      const best = classes === undefined ? first.indexOf(Math.max(...first)) : classes[0];
      say(`codes: ${JSON.stringify(codes)}\nlargest: ${best}`);
    }
  } catch (error) {
    say(String(error));
  }
}

const parameters = new URLSearchParams(window.location.search);
if (parameters.has("model")) {
  runAddressed(parameters);
} else {
  document.getElementById("model").addEventListener("change", () => { session = null; runChosen(); });
  document.getElementById("image").addEventListener("change", runChosen);
}
