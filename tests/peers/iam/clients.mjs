// The same as clients.py, for JavaScript.
import http from "node:http";
import { createRequire } from "node:module";

const require = createRequire(process.argv[2] + "/");
const aws4 = require("aws4");
const { SignatureV4 } = require("@smithy/signature-v4");
const { HttpRequest } = require("@smithy/protocol-http");
const { Sha256 } = require("@aws-crypto/sha256-js");

const [url, key, secret] = process.argv.slice(3);
const { hostname, port, host } = new URL(url);
const REGION = "eu-west-1";
const BODY = '{"order": "€"}';

const report = (what, expected, got) => console.log([what, expected, got].join("\t"));
const send = (method, path, headers, body) =>
  new Promise((resolve, reject) => {
    const request = http.request({ hostname, port, method, path, headers }, (response) => {
      response.resume().on("end", () => resolve(response.statusCode));
    });
    request.on("error", reject).end(body);
  });

const byAws4 = (method, path, body, options = {}) => {
  const signed = aws4.sign(
    { host, method, path, body, service: "execute-api", region: REGION, headers: {}, ...options },
    { accessKeyId: key, secretAccessKey: options.secret ?? secret },
  );
  return send(method, signed.path, signed.headers, body);
};
for (const path of ["/orders", "/orders/a%20b", "/o?q=a%2Bb&q=c"]) {
  report(`aws4 GET ${path}`, 200, await byAws4("GET", path));
  report(`aws4 presigned GET ${path}`, 200, await byAws4("GET", path, undefined, { signQuery: true }));
}
report("aws4 PUT", 200, await byAws4("PUT", "/orders/1", BODY));
report("aws4, another secret", 403, await byAws4("GET", "/a", undefined, { secret: "x" }));

const bySmithy = async (method, path, query, body, { presign = false, at = Date.now(), credentials = {} } = {}) => {
  const signer = new SignatureV4({
    service: "execute-api",
    region: REGION,
    sha256: Sha256,
    credentials: { accessKeyId: key, secretAccessKey: secret, ...credentials },
  });
  const request = new HttpRequest({ protocol: "http:", hostname, port: Number(port), method, path, query, headers: { host }, body });
  const options = { signingDate: new Date(at), expiresIn: 60 };
  const signed = presign ? await signer.presign(request, options) : await signer.sign(request, options);
  const parameters = Object.entries(signed.query ?? {}).flatMap(([name, values]) =>
    [values].flat().map((value) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`),
  );
  const target = parameters.length ? `${signed.path}?${parameters.join("&")}` : signed.path;
  return send(method, target, signed.headers, body);
};
for (const [path, query] of [["/orders", {}], ["/orders/a%20b/(1)/~x", {}], ["/o", { q: ["a+b", "c"], empty: "" }]]) {
  report(`smithy GET ${path}`, 200, await bySmithy("GET", path, query));
  report(`smithy presigned GET ${path}`, 200, await bySmithy("GET", path, query, undefined, { presign: true }));
}
report("smithy PUT", 200, await bySmithy("PUT", "/orders/1", {}, BODY));
report("smithy, a denied path", 403, await bySmithy("GET", "/secrets/1", {}));
report("smithy, session token", 403, await bySmithy("GET", "/a", {}, undefined, { credentials: { sessionToken: "token" } }));
report("smithy, 6 minutes ago", 403, await bySmithy("GET", "/a", {}, undefined, { at: Date.now() - 360_000 }));
report("smithy, in 6 minutes", 403, await bySmithy("GET", "/a", {}, undefined, { at: Date.now() + 360_000 }));
report("smithy, 4 minutes ago", 200, await bySmithy("GET", "/a", {}, undefined, { at: Date.now() - 240_000 }));
