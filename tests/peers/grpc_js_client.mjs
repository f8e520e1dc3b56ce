// Calls by grpc-js, of bytes as they are: grpc_js_client.mjs ADDRESS REQUEST_HEX [CA_FILE]. A line of JSON for each: its
// name and the answer's bytes, or the error.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(process.cwd() + "/");
const grpc = require("@grpc/grpc-js");
const [address, request, ca] = process.argv.slice(2);
const credentials = ca ? grpc.credentials.createSsl(readFileSync(ca)) : grpc.credentials.createInsecure();
const client = new grpc.Client(address, credentials);
const same = (bytes) => bytes;

function said(name, error, answer) {
  console.log(JSON.stringify({ name, code: error ? error.code : 0, answer: answer ? answer.toString("hex") : "" }));
}

function call(name, service, bytes) {
  return new Promise((done) =>
    client.makeUnaryRequest(`/${service}/${name}`, same, same, bytes, { deadline: Date.now() + 60_000 }, (error, answer) => {
      said(name, error, answer);
      done();
    }),
  );
}

function stream(name, service, messages) {
  return new Promise((done) => {
    const going = client.makeBidiStreamRequest(`/${service}/${name}`, same, same, { deadline: Date.now() + 60_000 });
    going.on("data", (answer) => said(name, null, answer));
    going.on("error", (error) => said(name, error));
    going.on("end", done);
    messages.forEach((message) => going.write(message));
    going.end();
  });
}

const inference = "inference.GRPCInferenceService";
const body = Buffer.from(request, "hex");
await call("ServerLive", inference, Buffer.alloc(0));
await call("ModelInfer", inference, body);
await call("Nothing", inference, body);
await Promise.all(Array.from({ length: 100 }, () => call("ModelInfer", inference, body)));
await stream("ModelStreamInfer", inference, [body, body]);
await call("Check", "grpc.health.v1.Health", Buffer.alloc(0));
client.close();
