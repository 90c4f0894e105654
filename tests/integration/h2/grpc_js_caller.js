// Calls a sidecar by @grpc/grpc-js and prints what came of it as JSON.
// Arguments: the target, the folder of the .proto files, the scenario. Run where the packages are installed.
"use strict";
const { createRequire } = require("node:module");
const packages = createRequire(process.cwd() + "/");
const grpc = packages("@grpc/grpc-js");
const loader = packages("@grpc/proto-loader");

const [target, protos, scenario] = process.argv.slice(2);
const files = ["tickserve/v1/predictor.proto", "open_inference/v2/inference.proto"];
const loaded = grpc.loadPackageDefinition(
  loader.loadSync(files, { includeDirs: [protos], keepCase: true, longs: Number })
);
const large = { "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 };
const credentials = grpc.credentials.createInsecure();
const predictor = new loaded.tickserve.v1.Predictor(target, credentials, large);
const triton = new loaded.inference.GRPCInferenceService(target, credentials, large);

function question(model, rows = 1, value = null, fields = {}) {
  const one = Buffer.from(new Float32Array(value === null ? [1, 2, 3] : [value, value, value]).buffer);
  const features = Buffer.concat(Array(rows).fill(one));
  return { parts: [{ model, rows, features }], ...fields };
}

function scores(response) {
  const raw = response.parts[0].outputs[0].raw;
  return Array.from({ length: raw.length / 4 }, (_, place) => raw.readFloatLE(4 * place));
}

function ended(error) {
  return { code: error.code, details: error.details };
}

function unary(client, method, request, metadata, options) {
  return new Promise((resolve) =>
    client[method](request, metadata ?? new grpc.Metadata(), options ?? {}, (error, response) =>
      resolve(error ? ended(error) : response)
    )
  );
}

async function cancelled(begin) {
  return new Promise((resolve) => {
    const call = begin((error) => resolve(ended(error)));
    setTimeout(() => call.cancel(), 2000);
  });
}

const scenarios = {
  async unary() {
    return scores(await unary(predictor, "Predict", question("one", 3)));
  },
  async many() {
    const asked = Array.from({ length: 200 }, () => unary(predictor, "Predict", question("one")));
    return (await Promise.all(asked)).map((response) => scores(response)[0]);
  },
  async stream() {
    const call = predictor.PredictStream();
    const ids = [];
    const status = new Promise((resolve) => call.on("status", resolve));
    call.on("data", (response) => ids.push(response.id));
    for (let number = 0; number < 500; number++) {
      call.write(question("one", 1, null, { id: String(number) }));
    }
    call.end();
    return { ids, code: (await status).code };
  },
  async deadline() {
    const options = { deadline: Date.now() + 300 };
    return unary(predictor, "Predict", question("loops", 1, 2 ** 62), null, options);
  },
  async cancel() {
    const request = question("loops", 1, 2 ** 62);
    const one = await cancelled((done) => predictor.Predict(request, done));
    const streamed = await cancelled((done) => {
      const call = predictor.PredictStream();
      call.on("error", done);
      call.on("data", () => {});
      call.write(request);
      return call;
    });
    return [one.code, streamed.code];
  },
  async metadata() {
    const metadata = new grpc.Metadata();
    metadata.set("note", "a note");
    metadata.set("note-bin", Buffer.from([0, 255, 10]));
    return scores(await unary(predictor, "Predict", question("one"), metadata));
  },
  async details() {
    const unknown = { model_name: "Modèle 100 % \u{1F4C8}", inputs: [], outputs: [] };
    return [await unary(triton, "ModelInfer", unknown), await unary(triton, "ServerMetadata", {})];
  },
  async large() {
    const rows = 900000;
    const answer = scores(await unary(predictor, "Predict", question("one", rows)));
    return { rows: answer.length, wrong: answer.filter((score) => score !== 6).length };
  },
  async compressed() {
    const options = { "grpc.default_compression_algorithm": 2 };
    const client = new loaded.tickserve.v1.Predictor(target, credentials, options);
    return scores(await unary(client, "Predict", question("one", 2)));
  },
};

scenarios[scenario]().then((result) => {
  console.log(JSON.stringify(result));
  process.exit(0);
});
