// Classifies pictures in this browser. What a file or a class is called is only ever text here.

const TOP = 5;
const RATE = 0.05; // the share of sets that may miss the true class
const MOST = 4096; // px of the longer side; larger pictures are scaled before they are read
const element = (id) => document.getElementById(id);
const state = element("state"), picture = element("picture"), video = element("video");
let session, Tensor, about, stream = null;
let limits = null; // with what it says that it does not know, where the model can
let told = () => ""; // the verdict on the latest picture
let newest = 0; // the number of the latest picture or film; what is older is not shown any more
let busy = Promise.resolve(); // the runtime takes one picture at a time

function say(text, bad = false) {
  state.textContent = text;
  state.className = bad ? "bad" : "";
}

async function start() {
  about = await (await fetch("about.json")).json();
  let ort;
  try {
    ort = await import("./runtime/ort.js");
  } catch (error) {
    say(
      "The runtime is not in this folder yet. Fetch it once with: npm pack onnxruntime-web, and put it " +
        "here with: alexnet export RUN --format web --runtime onnxruntime-web-....tgz", true);
    return;
  }
  ort.env.wasm.numThreads = 1; // several would need headers that few static hosts send
  const place = (name) => new URL(`runtime/${name}`, document.baseURI).href;
  ort.env.wasm.wasmPaths = { mjs: place("ort-wasm.js"), wasm: place("ort-wasm.wasm") };
  Tensor = ort.Tensor;
  say("Loading the model.");
  session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  const { top1, n } = about.metrics;
  const figures = n ? ` It was right for ${(100 * top1).toFixed(1)} % of ${n} test pictures.` : "";
  element("about").textContent =
    `It knows ${about.names.length} classes, and answers with one of them whatever it sees: ` +
    `${about.names.slice(0, 20).join(", ")}${about.names.length > 20 ? ", ..." : ""}.${figures}`;
  limits = about.calibration ? limitsOf(about.calibration) : null;
  element("doubt").hidden = !limits;
  element("camera").disabled = false;
  say("Ready.");
}

// As scoring/conformal.py, of rising numbers; null where there are too few for the rate.
function limitsOf({ p, distance }) {
  const rank = Math.floor((p.length + 1) * RATE + 1e-9);
  return rank ? { p: Math.fround(p[rank - 1]), distance: Math.fround(distance[p.length - rank]) } : null;
}

function verdict(p, distance) {
  const held = p.map((_, label) => label).filter((label) => p[label] >= limits.p);
  held.sort((one, other) => p[other] - p[one]);
  const names = held.slice(0, TOP).map((label) => about.names[label]);
  if (held.length > TOP) names.push(`${held.length - TOP} more`);
  return (names.join(" or ") || "none of these") + (distance > limits.distance ? "; unlike anything seen" : "");
}

function showVerdict() {
  element("verdict").textContent = element("unsure").checked ? told() : "";
}

// RGB bytes of what is drawn, transparency over white, as in training.
function read(source, width, height) {
  const scale = Math.min(1, MOST / Math.max(width, height));
  picture.width = Math.max(2, Math.round(width * scale));
  picture.height = Math.max(2, Math.round(height * scale));
  const context = picture.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, picture.width, picture.height);
  context.drawImage(source, 0, 0, picture.width, picture.height);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  const rgb = new Uint8Array(picture.width * picture.height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return new Tensor("uint8", rgb, [1, picture.height, picture.width, 3]);
}

function classify(images, own, tell) {
  const turn = busy.then(async () => {
    if (own !== newest) return;
    const began = performance.now();
    const { probabilities, distance } = await session.run({ images });
    if (own !== newest) return;
    const p = Array.from(probabilities.data);
    show(p);
    told = () => verdict(p, distance.data[0]);
    showVerdict();
    element("speed").textContent = tell(performance.now() - began);
  });
  busy = turn.catch(() => {});
  return turn;
}

function show(p) {
  const order = p.map((_, label) => label).sort((one, other) => p[other] - p[one]).slice(0, TOP);
  const lines = order.map((label) => {
    const line = document.createElement("li");
    const [name, share, bar] = ["span", "span", "progress"].map((kind) => document.createElement(kind));
    name.textContent = about.names[label];
    share.textContent = `${(100 * p[label]).toFixed(1)} %`;
    bar.value = p[label];
    line.dataset.p = p[label];
    line.append(name, share, bar);
    return line;
  });
  element("classes").replaceChildren(...lines);
}

async function classifyFile(file) {
  if (!session || !file) return;
  stop();
  const own = ++newest;
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch (error) {
    say("That is not a picture this browser can read.", true);
    return;
  }
  if (own !== newest) return; // another one came in the meantime
  const images = read(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  say(file.name ? `Classified: ${file.name}` : "Classified.");
  await classify(images, own, (ms) => `${ms.toFixed(0)} ms`);
}

const TROUBLE = {
  NotAllowedError: "The camera is not allowed here. Allow it in the site settings of the browser (often behind the lock beside the address), and press Camera again.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera is in use by another program.",
};

async function watch() {
  if (!navigator.mediaDevices) {
    say("Browsers give the camera to pages from https or localhost only.", true);
    return;
  }
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    say(TROUBLE[error.name] || `The camera does not start (${error.name}).`, true);
    return;
  }
  const own = ++newest;
  stream.getTracks().forEach((track) => track.addEventListener("ended", stop));
  video.srcObject = stream;
  await video.play();
  element("camera").textContent = "Stop";
  say("Live.");
  let last = performance.now();
  while (own === newest) {
    await classify(read(video, video.videoWidth, video.videoHeight), own, () => {
      const now = performance.now(), rate = 1000 / (now - last);
      last = now;
      return `${rate.toFixed(1)} pictures per second`;
    });
    await new Promise(requestAnimationFrame);
  }
}

function stop() {
  if (!stream) return;
  stream.getTracks().forEach((track) => track.stop());
  stream = null;
  newest++;
  video.srcObject = null;
  element("camera").textContent = "Camera";
  say("Ready.");
}

const failed = (error) => say(`Something went wrong: ${error.message}`, true);
element("file").addEventListener("change", (event) => classifyFile(event.target.files[0]).catch(failed));
element("unsure").addEventListener("change", showVerdict);
element("camera").addEventListener("click", () => (stream ? stop() : watch().catch(failed)));
document.addEventListener("paste", (event) => classifyFile(event.clipboardData.files[0]).catch(failed));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  classifyFile(event.dataTransfer.files[0]).catch(failed);
});
start().catch(failed);
