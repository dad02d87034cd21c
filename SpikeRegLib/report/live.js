// The live view: unpacks the volumes that the page carries, draws them with NiiVue, says the values at the cursor.
// Points are LPS mm here, as everywhere in SpikeReg; NiiVue's are RAS.
"use strict";

const part = (name) => document.getElementById("live-" + name);

async function unpacked(base64) {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function loadScript(source) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    script.onload = resolve;
    script.onerror = () => reject(new Error("NiiVue could not be started"));
    document.head.append(script);
  });
}

async function open(volume) {
  const buffer = await unpacked(volume.codes);
  volume.codes = volume.bytes === 1 ? new Uint8Array(buffer) : new Uint16Array(buffer);
  volume.header = Uint8Array.from(atob(volume.header), (letter) => letter.charCodeAt(0));
}

// The value of the voxel in which a point lies; null outside and where there is none.
function valueAt(volume, lps) {
  const [i, j, k] = volume.matrix.slice(0, 3).map((row) =>
    Math.round(row[0] * lps[0] + row[1] * lps[1] + row[2] * lps[2] + row[3]));
  const [depth, height, width] = volume.shape;
  if (i < 0 || j < 0 || k < 0 || i >= width || j >= height || k >= depth) return null;
  const code = volume.codes[(k * height + j) * width + i];
  return code === 0 ? null : volume.first + volume.step * (code - 1);
}

// Each code's place on the colour scale, 5 to 255; 2 is a fold, between others of its colour; 0 is transparent.
function placeOfCode(volume) {
  const scaled = volume.kind === "jacobian" ? (value) => Math.log(Math.max(value, 1e-6)) : (value) => value;
  const [low, high] = volume.window.map(scaled);
  const places = new Uint8Array(volume.bytes === 1 ? 256 : 65536);
  for (let code = 1; code < places.length; code++) {
    const share = (scaled(volume.first + volume.step * (code - 1)) - low) / ((high - low) || 1);
    places[code] = 5 + Math.round(250 * Math.min(1, Math.max(0, share)));
    if (volume.kind === "jacobian" && volume.first + volume.step * (code - 1) <= volume.step / 2) places[code] = 2;
  }
  return places;
}

function drawn(volume) {
  const places = placeOfCode(volume);
  return Uint8Array.from(volume.codes, (code) => places[code]);
}

function checkerboard(fixed, warped, volume, squareMm) {
  const [depth, height, width] = volume.shape;
  const [a, b, c] = volume.spacing;
  const out = new Uint8Array(fixed.length);
  for (let k = 0, n = 0; k < depth; k++)
    for (let j = 0; j < height; j++)
      for (let i = 0; i < width; i++, n++) {
        const square = Math.floor(i * a / squareMm) + Math.floor(j * b / squareMm) + Math.floor(k * c / squareMm);
        out[n] = square % 2 ? warped[n] : fixed[n];
      }
  return out;
}

const COLOURS = { image: "grey", jacobian: "diverging", error: "sequential", rate: "sequential" };
const digits = (volume) => Math.min(6, Math.max(0, Math.ceil(-Math.log10(volume.step) - 1e-9)));

async function start() {
  if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this browser has no WebGL2");
  if (!window.DecompressionStream) throw new Error("this browser cannot unpack gzip");
  const data = JSON.parse(part("data").textContent);
  await loadScript(await unpacked(part("niivue").textContent));
  for (const volume of data.volumes) await open(volume);
  const found = (name) => data.volumes.find((volume) => volume.name === name);
  const fixed = found("fixed"), warped = found("warped");
  const pictures = new Map([["fixed", drawn(fixed)], ["warped", drawn(warped)]]);
  const layers = data.volumes.filter((volume) => volume.kind === "rate");

  const picture = (name) => {
    if (!pictures.has(name)) {
      const [one, other] = [pictures.get("fixed"), pictures.get("warped")];
      if (name === "difference") pictures.set(name, one.map((grey, n) => Math.max(5, Math.abs(grey - other[n]))));
      else if (name === "checkerboard") pictures.set(name, checkerboard(one, other, fixed, data.square_mm));
      else pictures.set(name, drawn(found(name)));
    }
    return pictures.get(name);
  };

  const nv = new niivue.Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [1, 0.8, 0.2, 0.7], crosshairWidth: 0.6, crosshairWidthUnit: "mm",
    isRadiologicalConvention: true, isSliceMM: true, isColorbar: false, isResizeCanvas: true, dragAndDropEnabled: false,
    multiplanarShowRender: niivue.SHOW_RENDER.NEVER, isCornerOrientationText: false, isRuler: true, logLevel: "error",
    showAllOrientationMarkers: true, clipPlaneHotKey: "", cycleClipPlaneHotKey: "", viewModeHotKey: "", loadingText: "",
  });
  for (let [name, anchors] of Object.entries(data.colours)) {
    const channel = (n) => anchors.map((colour) => parseInt(colour.slice(2 * n + 1, 2 * n + 3), 16));
    const at = anchors.map((_, n) => 5 + Math.round(250 * n / (anchors.length - 1)));
    const fold = name === "diverging" ? data.fold : anchors[0];
    anchors = [anchors[0], fold, fold, ...anchors];
    const [red, green, blue] = [0, 1, 2].map(channel);
    nv.addColormap("spikereg-" + name, {
      R: red, G: green, B: blue, A: [0, 255, 255, ...at.map(() => 255)], I: [0, 1, 4, ...at],
    });
  }
  const coloursOf = (name) => name === "difference" ? "sequential" : COLOURS[(found(name) || fixed).kind];
  const image = (name, opacity) => {
    const volume = found(name) || fixed, bytes = picture(name);
    const file = new Uint8Array(volume.header.length + bytes.length);
    file.set(volume.header);
    file.set(bytes, volume.header.length);
    return niivue.NVImage.new(file.buffer, name + ".nii", "spikereg-" + coloursOf(name), opacity, null, 0, 255);
  };

  await nv.attachToCanvas(part("canvas"));
  nv.addVolume(await image("fixed", 1));
  nv.setSliceType(niivue.SLICE_TYPE.MULTIPLANAR);

  let place = data.centre_mm, worst = -1, over = true;
  const opacity = () => over ? Number(part("blend").value) / 100 : 0;

  function readOut() {
    const text = (volume) => {
      const value = valueAt(volume, place);
      return value === null ? "–" : value.toFixed(digits(volume)) + (volume.kind === "error" ? " mm" : "");
    };
    part("place").textContent = place.map((mm) => (Math.round(10 * mm) / 10 + 0).toFixed(1)).join(", ");
    const shown = data.volumes.filter((volume) => volume.kind !== "rate");
    if (layers.length) shown.push(layers[Number(part("layer").value)]);
    part("values").replaceChildren(...shown.flatMap((volume) => {
      const [name, value] = [document.createElement("dt"), document.createElement("dd")];
      name.textContent = volume.kind === "rate" ? "Spike rate, " + volume.text : volume.text;
      value.textContent = text(volume);
      return [name, value];
    }));
  }
  nv.onLocationChange = (location) => {
    place = [-location.mm[0], -location.mm[1], location.mm[2]];
    part("worst-text").textContent = "";
    readOut();
  };
  function go(lps) {
    nv.scene.crosshairPos = nv.mm2frac([-lps[0], -lps[1], lps[2]]);
    place = lps;
    nv.drawScene();
    readOut();
  }

  function legend(name) {
    const colours = data.colours[coloursOf(name)];
    const ticks = data.legends[name] || (name.startsWith("spikes ") ? data.legends.spikes : null);
    part("legend").hidden = !ticks;
    if (!ticks) return;
    part("ramp").style.background = "linear-gradient(to right, " + colours.join(", ") + ")";
    part("ticks").replaceChildren(...ticks.ticks.map(([at, words]) => {
      const tick = document.createElement("span");
      tick.style.left = 100 * at + "%";
      tick.textContent = words;
      return tick;
    }));
    part("scale").textContent = ticks.text;
  }
  let turn = Promise.resolve();
  const show = () => turn = turn.then(async () => {
    const chosen = part("over").value;
    part("layers").hidden = chosen !== "spikes";
    const name = chosen === "spikes" ? layers[Number(part("layer").value)].name : chosen;
    part("layer-name").textContent = layers.length ? layers[Number(part("layer").value)].text : "";
    const next = await image(name, opacity());
    while (nv.volumes.length > 1) nv.removeVolume(nv.volumes[1]);
    nv.addVolume(next);
    legend(name);
    go(place);
  });
  function flicker() {
    over = !over;
    nv.setOpacity(1, opacity());
    part("flicker").setAttribute("aria-pressed", String(!over));
  }
  function nextWorst() {
    if (!data.worst.length) return;
    worst = (worst + 1) % data.worst.length;
    go(data.worst[worst].place_mm);
    part("worst-text").textContent =
      `Place ${worst + 1} of ${data.worst.length}: ${data.worst[worst].mm.toFixed(1)} mm expected`;
  }
  part("over").addEventListener("change", show);
  part("layer").addEventListener("input", show);
  part("blend").addEventListener("input", () => { over = true; nv.setOpacity(1, opacity()); });
  part("flicker").addEventListener("click", flicker);
  part("worst").addEventListener("click", nextWorst);
  part("still").addEventListener("change", (event) => document.body.classList.toggle("stills", event.target.checked));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("select, button, summary, a")) return;
    if (event.key === " ") { event.preventDefault(); flicker(); }
    if (event.key === "n") nextWorst();
  });
  document.body.classList.add("is-live"); // the canvas has a size from here on
  nv.resizeListener();
  await show();
  window.spikereg = { go, flicker, nextWorst, show: (name) => { part("over").value = name; return show(); },
    valueAt: (name, lps) => valueAt(found(name), lps), place: () => place };
  document.documentElement.dataset.live = "ready";
}

start().catch((error) => {
  document.body.classList.remove("is-live");
  document.documentElement.dataset.live = "failed";
  part("note").textContent = `The live view cannot be shown here (${error.message}); the still pictures below remain.`;
});
