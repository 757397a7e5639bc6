// Tag texts with transformers.js on onnxruntime's WebAssembly, as a browser does.
//
//     node transformers_js.mjs FOLDER-OF-BUNDLES BUNDLE DTYPE < texts.json > answers.json
//
// In Node, transformers.js takes onnxruntime-node unless the program brings a runtime of its own.
import { readFileSync } from "node:fs";
import * as wasm from "onnxruntime-web";

globalThis[Symbol.for("onnxruntime")] = wasm;
const { AutoModelForSequenceClassification, AutoTokenizer, env } = await import(
    "@huggingface/transformers"
);

const [folder, bundle, dtype] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = folder;
// The WebAssembly of the npm package, not that of a server.
env.useWasmCache = false;
delete env.backends.onnx.wasm.wasmPaths;

const tokenizer = await AutoTokenizer.from_pretrained(bundle);
const model = await AutoModelForSequenceClassification.from_pretrained(bundle, {
    dtype,
    device: "auto",
});
const probabilities = [];
for (const text of JSON.parse(readFileSync(0, "utf-8"))) {
    const { logits } = await model(tokenizer(text, { truncation: true }));
    probabilities.push(...logits.sigmoid().tolist());
}
const { id2label, studytag } = model.config;
const backends = Object.keys(wasm.env.versions);
process.stdout.write(JSON.stringify({ backends, id2label, studytag, probabilities }));
