// Tag texts with transformers.js on onnxruntime's WebAssembly, as a browser does.
//
//     node transformers_js.mjs FOLDER-OF-BUNDLES BUNDLE DTYPE < texts.json > answers.json
//
// In Node, transformers.js takes onnxruntime-node unless the program brings a runtime of its own.
import { readFileSync } from "node:fs";
import * as wasm from "onnxruntime-web";

globalThis[Symbol.for("onnxruntime")] = wasm;
const { AutoModelForSequenceClassification, AutoTokenizer, Tensor, env } = await import(
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
const { id2label, studytag } = model.config;

// As docs/how-to/share-a-model.md shows it: truncation by transformers.js drops the final [SEP].
function encode(text) {
    const ids = tokenizer.encode(text);
    if (ids.length > studytag.max_length) {
        ids.splice(studytag.max_length - 1, Infinity, ids.at(-1));
    }
    const tensor = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, ids.length]);
    return { input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) };
}

const probabilities = [];
for (const text of JSON.parse(readFileSync(0, "utf-8"))) {
    const { logits } = await model(encode(text));
    probabilities.push(...logits.sigmoid().tolist());
}
const backends = Object.keys(wasm.env.versions);
process.stdout.write(JSON.stringify({ backends, id2label, studytag, probabilities }));
