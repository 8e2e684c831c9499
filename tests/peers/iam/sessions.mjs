// The same as sessions.py, for JavaScript. The environment is that of IRSA. The arguments are the folder with the packages and the URL of
// the API.
import http from "node:http";
import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/");
const { STSClient, GetCallerIdentityCommand } = require("@aws-sdk/client-sts");
const { SignatureV4 } = require("@smithy/signature-v4");
const { HttpRequest } = require("@smithy/protocol-http");
const { Sha256 } = require("@aws-crypto/sha256-js");

const { hostname, port, host } = new URL(process.argv[3]);
const region = process.env.AWS_REGION;
const report = (what, expected, got) => console.log([what, expected, got].join("\t"));

const client = new STSClient({});
const { Arn } = await client.send(new GetCallerIdentityCommand({}));
report("SDK for JavaScript, GetCallerIdentity", true, Arn.startsWith("arn:aws:sts::000000000000:assumed-role/reporting/"));

const credentials = await client.config.credentials();
const signer = new SignatureV4({ service: "execute-api", region, sha256: Sha256, credentials });
const call = async (path) => {
  const request = new HttpRequest({ protocol: "http:", hostname, port: Number(port), method: "GET", path, headers: { host } });
  const { headers } = await signer.sign(request);
  return new Promise((resolve, reject) => {
    const sent = http.request({ hostname, port, method: "GET", path, headers }, (response) => {
      response.resume().on("end", () => resolve(response.statusCode));
    });
    sent.on("error", reject).end();
  });
};
report("SDK for JavaScript, a session signs", 200, await call("/orders"));
report("SDK for JavaScript, a path that the role's policy denies", 403, await call("/secrets"));
