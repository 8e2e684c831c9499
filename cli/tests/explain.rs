//! `sluice explain`: what it prints for requests to the examples, exit codes, and that a running `sluice dev` does the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Folder, Sluice, ask, eventually, examples, send};

pub(crate) fn explain(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice")).arg("explain").args(arguments).arg(folder).output().unwrap()
}

/// The text and the exit code.
fn text(example: &str, arguments: &[&str]) -> (String, Option<i32>) {
    let output = explain(&examples().join(example), arguments);
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

pub(crate) fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = explain(folder, &[arguments, &["--output", "json"]].concat());
    serde_json::from_slice(&output.stdout).map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap()
}

/// A token in the folder of an example.
fn token(name: &str) -> String {
    std::fs::read_to_string(examples().join("jwt").join(name)).unwrap().trim().to_owned()
}

#[test]
fn the_lines_name_what_decides() {
    let bearer = format!("authorization: Bearer {}", token("good.token"));
    type Row<'a> = (&'a str, &'a [&'a str], i32, &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        (
            "policy",
            &["GET", "http://127.0.0.1:8080/orders"],
            0,
            &[
                "pass    stage              Stage default/prod: base path /, behavior AwsRest, fleet default",
                "pass    rule               ApiRoute default/shop rule orders: ANY /orders",
                "pass    policy             stage.policy.Statement[0] (Orders) allows it",
                "pass    integration        a fixed response (Mock)",
                "HTTP/1.1 200 OK",
            ],
        ),
        (
            "policy",
            &["DELETE", "http://127.0.0.1:8080/orders"],
            1,
            &[
                "REJECT  policy             stage.policy.Statement[2] (ReadOnly) denies it",
                "arn:aws:execute-api:eu-west-1:111122223333:a1b2c3d4e5/prod/DELETE/orders",
                "The request would be rejected: PolicyDenied, denied by stage.policy.Statement[2]",
                "x-amzn-errortype: AccessDeniedException",
            ],
        ),
        (
            "policy",
            &["GET", "http://127.0.0.1:8080/reports"],
            1,
            &["REJECT  policy             no statement allows it"],
        ),
        (
            "policy",
            &["GET", "http://127.0.0.1:8080/reports", "-H", "User-Agent: reports/2.1"],
            0,
            &["pass    policy             stage.policy.Statement[1] (Reports) allows it"],
        ),
        (
            "iam",
            &["GET", "http://127.0.0.1:8080/orders", "--principal", "shop/reporting"],
            0,
            &[
                "pass    authorizer         Authorizer shop/aws (Iam): allowed",
                "caller arn:aws:iam::000000000000:user/reporting, Principal shop/reporting",
                "pass    policy             principal.policies[0].Statement[0] of the policy read-orders allows it",
            ],
        ),
        (
            "iam",
            &["DELETE", "http://127.0.0.1:8080/orders/7", "--principal", "shop/reporting"],
            1,
            &["id = 7", "REJECT  policy             no statement allows it"],
        ),
        (
            "iam",
            &["GET", "http://127.0.0.1:8080/orders"],
            1,
            &["REJECT  authorizer         Authorizer shop/aws (Iam): rejected, signature_missing"],
        ),
        (
            "jwt",
            &["GET", "http://127.0.0.1:8080/orders", "-H", &bearer],
            0,
            &["pass    authorizer         Authorizer default/staff (Jwt): allowed", "issuer https://idp.example"],
        ),
        (
            "jwt",
            &["DELETE", "http://127.0.0.1:8080/orders", "-H", &bearer],
            1,
            &["REJECT  scopes             one of: orders.write; the caller has: orders.read"],
        ),
        (
            "authorize",
            &["GET", "http://127.0.0.1:8080/tenants/acme/orders", "-H", "x-tenant: other"],
            1,
            &[
                "tenant = acme",
                "REJECT  authorize          authorize[0] request.headers['x-tenant'] == params.tenant: false",
                "The request would be rejected: ExpressionFalse, denied by authorize[0]",
                "Only members of the tenant may read its orders.",
            ],
        ),
        (
            "authorize",
            &["GET", "http://127.0.0.1:8080/tenants/acme/orders"],
            1,
            &["authorize[0] request.headers['x-tenant'] == params.tenant: no result: a key does not exist"],
        ),
        (
            "api-key",
            &["GET", "http://127.0.0.1:8080/reports", "-H", "x-api-key: {apiKey:default/globex}"],
            0,
            &[
                "pass    apiKey             ApiKey default/globex (header x-api-key), UsagePlan default/",
                "the API key at this rule: ",
            ],
        ),
        (
            "api-key",
            &["GET", "http://127.0.0.1:8080/query/catalogue?key=wrong"],
            1,
            &[
                "Stage default/query: base path /query",
                "REJECT  apiKey             no valid key in query parameter key",
            ],
        ),
        (
            "networks",
            &["GET", "http://127.0.0.1:8080/orders", "--source", "203.0.113.66"],
            1,
            &["REJECT  stageSource        the Stage does not accept the address 203.0.113.66"],
        ),
        (
            "networks",
            &[
                "GET",
                "http://127.0.0.1:8080/orders",
                "--trusted-proxies",
                "127.0.0.0/8",
                "-H",
                "x-forwarded-for: unknown!",
            ],
            1,
            &[
                "REJECT  stageSource        the address of the client, which a trusted proxy states, cannot be read",
                "Malformed",
            ],
        ),
        (
            "networks",
            &["GET", "http://127.0.0.1:8080/orders", "--source", "203.0.113.7"],
            0,
            &["The request would be forwarded:", "GET /orders\n", "x-forwarded-for: 203.0.113.7"],
        ),
        (
            "client-throttle",
            &["GET", "http://127.0.0.1:8080/login"],
            0,
            &["pass    clientThrottle     each client: 3 in 60s, burst 3", "ratelimit-policy: \"client\";q=3;w=60"],
        ),
        (
            "cache",
            &["GET", "http://127.0.0.1:8080/items?page=1"],
            0,
            &[
                "Cache: a stored response is used if there is one; otherwise the response is stored, if it may be. Time to live: 60000ms.",
            ],
        ),
        (
            "quickstart",
            &["PATCH", "http://127.0.0.1:8080/orders/7"],
            1,
            &["REJECT  rule               rules have this path, and none has this method", "allow: GET"],
        ),
        ("quickstart", &["GET", "http://127.0.0.1:8080/a/%2e%2e/b"], 1, &["REJECT  request\n", "Malformed"]),
        (
            "quickstart",
            &["POST", "http://127.0.0.1:8080/orders", "-d", "{}"],
            1,
            &["POST /orders\nhost 127.0.0.1, from 127.0.0.1 over http", "token_missing"],
        ),
    ];
    let folder = examples().join("client-certificates");
    let certificate = |name: &str| folder.join(name).display().to_string();
    let (valid, revoked) = (certificate("orders.pem"), certificate("revoked.pem"));
    let url = "https://api.localhost:8443/hello";
    let of_certificates: &[Row<'_>] = &[
        (
            "client-certificates",
            &["GET", url, "--client-certificate", &valid],
            0,
            &["over https", "pass    clientCertificate  CN=orders,O=Partner", "x-client: CN=orders,O=Partner"],
        ),
        ("client-certificates", &["GET", url], 1, &["REJECT  clientCertificate", "ClientCertificateRequired"]),
        (
            "client-certificates",
            &["GET", url, "--client-certificate", &revoked],
            1,
            &["REJECT  connection", "certificate_revoked", "The connection is closed without a response."],
        ),
        (
            "client-certificates",
            &["GET", "http://api.localhost:8080/hello"],
            1,
            &["REJECT  tls", "The request would be redirected: HttpsRedirect", "location: https://api.localhost/hello"],
        ),
        (
            "client-certificates",
            &["GET", "https://other.localhost/hello"],
            1,
            &["REJECT  connection         the TLS handshake fails: no Stage of this host has a usable certificate"],
        ),
        (
            "client-certificates",
            &["GET", "https://api.localhost/hello", "-H", "host: other.localhost"],
            1,
            &["REJECT  tls                the certificate of the connection is not valid for the host", "HTTP/1.1 421"],
        ),
        (
            "client-certificates",
            &["GET", "http://other.localhost/hello"],
            1,
            &["no Stage has this host and path", "Stage default/partners: api.localhost; base path /"],
        ),
    ];
    for (example, arguments, code, lines) in rows.iter().chain(of_certificates) {
        let (text, found) = text(example, arguments);
        assert_eq!(found, Some(*code), "{example} {arguments:?}: {text}");
        for line in *lines {
            assert!(text.contains(line), "{example} {arguments:?}: {line} is missing in\n{text}");
        }
    }
}

/// An explanation without what each request has for itself.
fn stable(mut value: Value) -> String {
    let headers = value["response"]["headers"].as_array_mut().unwrap();
    for header in headers {
        if header[0]
            .as_str()
            .is_some_and(|name| name.contains("request-id") || name.contains("requestid") || name.contains("apigw-id"))
        {
            header[1] = "ID".into();
        }
    }
    serde_json::to_string_pretty(&value).unwrap() + "\n"
}

#[test]
fn the_json_is_stable() {
    let rows: &[(&str, &str, &[&str])] = &[
        ("policy-denied", "policy", &["DELETE", "http://127.0.0.1:8080/orders"]),
        (
            "expression-false",
            "authorize",
            &["GET", "http://127.0.0.1:8080/tenants/acme/orders", "-H", "x-tenant: other"],
        ),
        (
            "key-forwarded",
            "quickstart",
            &["GET", "http://127.0.0.1:8080/catalog", "-H", "x-api-key: {apiKey:shop/acme}"],
        ),
        ("no-rule", "quickstart", &["GET", "http://127.0.0.1:8080/nothing"]),
    ];
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/explain");
    for (name, example, arguments) in rows {
        let found = stable(json(&examples().join(example), arguments));
        assert_eq!(sluice_kit::golden::compare(&golden.join(format!("{name}.json")), &found), Ok(()));
    }
}

#[test]
fn a_running_gateway_does_what_is_explained() {
    let good = format!("Bearer {}", token("good.token"));
    let unverified = format!("Bearer {}", token("unverified.token"));
    type Request<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);
    let rows: &[(&str, &[Request<'_>])] = &[
        (
            "policy",
            &[
                ("GET", "/orders", &[]),
                ("DELETE", "/orders", &[]),
                ("GET", "/orders/", &[]),
                ("GET", "/reports", &[]),
                ("GET", "/reports", &[("user-agent", "reports/1")]),
                ("GET", "/other", &[]),
            ],
        ),
        (
            "api-key",
            &[
                ("GET", "/items", &[]),
                ("GET", "/items", &[("x-api-key", "example-key-of-globex")]),
                ("GET", "/items", &[("x-api-key", "wrong")]),
                ("GET", "/query/catalogue", &[]),
                ("GET", "/query/catalogue?key=wrong", &[]),
                ("GET", "/query/catalogue?key=example-key-of-globex", &[]),
            ],
        ),
        (
            "authorize",
            &[
                ("GET", "/tenants/acme/orders", &[]),
                ("GET", "/tenants/acme/orders", &[("x-tenant", "acme")]),
                ("GET", "/tenants/acme/orders", &[("x-tenant", "other")]),
                ("POST", "/tenants/acme/orders", &[]),
            ],
        ),
        (
            "jwt",
            &[
                ("GET", "/orders", &[]),
                ("GET", "/orders", &[("authorization", &good)]),
                ("DELETE", "/orders", &[("authorization", &good)]),
                ("GET", "/orders", &[("authorization", &unverified)]),
                ("GET", "/orders", &[("authorization", "Bearer no.to.ken")]),
                ("GET", "/orders", &[("x-id-token", &good)]),
            ],
        ),
    ];
    for (example, requests) in rows {
        let folder = examples().join(example);
        let sluice = Sluice::dev(&folder);
        for (method, path, headers) in *requests {
            same(&sluice, &folder, method, path, headers, &[]);
        }
    }
}

#[test]
fn functions_are_called_and_their_policies_decide() {
    let folder = examples().join("lambda-authorizer");
    let sluice = Sluice::dev(&folder);
    let printed = sluice.printed();
    let idp = printed.split("example server at http://").nth(1).unwrap().lines().next().unwrap().to_owned();
    let address = idp.parse().unwrap();
    let form = [("content-type", "application/x-www-form-urlencoded"), ("accept", "text/plain")];
    let issued = send(address, "POST", "/token", &form, "client_id=acme&scope=orders.read").unwrap().body;
    let bearer = format!("Bearer {}", issued.trim());
    let mapping = format!("shop/identity:9400={idp}");
    let service = ["--service", &*mapping];
    for (method, headers) in [
        ("GET", &[("authorization", &*bearer)][..]),
        ("POST", &[("authorization", &*bearer)]),
        ("GET", &[("authorization", "Bearer x")]),
        ("GET", &[]),
    ] {
        same(&sluice, &folder, method, "/orders", headers, &service);
    }
    let header = format!("authorization: {bearer}");
    let denied = json(&folder, &["POST", "http://127.0.0.1:8080/orders", "-H", &header, "--service", &mapping]);
    assert_eq!(denied["authorizer"]["kind"], "Lambda", "{denied}");
    assert_eq!(denied["policy"]["effect"], "none", "{denied}");
    // What decides about an accepted request is not shown as the result of the check before the function.
    let stricter = Folder::copy_of("lambda-authorizer");
    let manifests = stricter.read("api.yaml");
    let statement = |effect: &str, method: &str| {
        format!(
            "{{Effect: {effect}, Principal: '*', Action: execute-api:Invoke, Resource: 'execute-api:/*/{method}/*'}}"
        )
    };
    let statements = [statement("Allow", "GET"), statement("Deny", "POST")].join(", ");
    let policy = format!("spec: {{policy: {{Version: '2012-10-17', Statement: [{statements}]}}}}\n");
    assert!(manifests.contains("\nspec: {}\n"));
    stricter.write("api.yaml", &manifests.replace("spec: {}\n", &policy));
    let lines = |method: &str| {
        let arguments = [method, "http://127.0.0.1:8080/orders", "-H", &header, "--service", &mapping];
        String::from_utf8(explain(&stricter.0, &arguments).stdout).unwrap()
    };
    let (accepted, denied) = (lines("GET"), lines("POST"));
    assert!(accepted.contains("pass    stagePolicy\npass    authorizer "), "{accepted}");
    assert!(accepted.contains("pass    policy             "), "{accepted}");
    assert!(denied.contains("REJECT  stagePolicy        stage.policy.Statement[1] denies it"), "{denied}");
    let arguments =
        ["GET", "http://127.0.0.1:8080/orders", "-H", &header, "--service", "shop/identity:9400=127.0.0.1:9"];
    let undecided = json(&stricter.0, &arguments);
    assert_eq!((&undecided["authorizer"]["decision"], &undecided["policy"]), (&"failed".into(), &Value::Null));
    // Without the function there is no decision.
    let unreachable = ["--service", "shop/identity:9400=127.0.0.1:9"];
    let failed = json(&folder, &[&["GET", "http://127.0.0.1:8080/orders", "-H", &header][..], &unreachable].concat());
    assert_eq!(failed["authorizer"]["decision"], "failed", "{failed}");
    assert_eq!(
        (&failed["response"]["status"], &failed["response"]["reason"]),
        (&503.into(), &"lambda_unavailable".into())
    );
}

/// Compares an explanation with the response and the line of the access log of a running `sluice dev`.
fn same(sluice: &Sluice, folder: &Path, method: &str, path: &str, headers: &[(&str, &str)], more: &[&str]) {
    let lines = |sluice: &Sluice| {
        let printed = sluice.printed();
        let lines = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line.get("requestId").is_some()).collect::<Vec<_>>()
    };
    let before = lines(sluice).len();
    let real = ask(sluice.address(), method, path, headers).unwrap();
    let line = eventually("logged", || lines(sluice).get(before).cloned());
    let url = format!("http://localhost{path}");
    let mut arguments = vec![method, &url];
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    arguments.extend(headers.iter().flat_map(|header| ["-H", header]));
    arguments.extend(more);
    let found = json(folder, &arguments);
    let what = format!("{} {method} {path} {headers:?}: {found}", folder.display());
    let response = &found["response"];
    assert_eq!((&response["reason"], &response["deniedBy"]), (&line["reason"], &line["deniedBy"]), "{what}");
    assert_eq!(response["status"], real.status, "{what}");
    assert_eq!(response["body"], real.body, "{what}");
    let stage = found["stage"]["name"].as_str();
    assert_eq!(stage, line["stage"].as_str(), "{what}");
    assert_eq!(found["rule"]["name"].as_str(), line["rule"].as_str(), "{what}");
}

#[test]
fn arguments_and_manifests_that_are_not_valid_have_exit_code_2() {
    let example = examples().join("policy");
    let url = "http://127.0.0.1:8080/orders";
    for (arguments, expected) in [
        (&["GET", "127.0.0.1/orders"][..], "must begin with http:// or https://"),
        (&["GET", "http:///orders"], "needs a host"),
        (&["GET", url, "-H", "no header"], "is not a header"),
        (&["GET", url, "-H", "a: b\nc: d"], "line end"),
        (
            &["GET", url, "-H", "x-api-key: {apiKey:default/unknown}"],
            "the value of ApiKey default/unknown is not known",
        ),
        (&["GET", url, "-d", "@/nowhere/at/all"], "cannot read the body /nowhere/at/all"),
        (&["GET", url, "--principal", "reporting"], "write NAMESPACE/NAME"),
        (
            &["GET", url, "--principal", "default/reporting"],
            "the access key of Principal default/reporting is not known",
        ),
        (&["GET", url, "--client-certificate", "/nowhere"], "needs an https URL"),
        (&["GET", url, "--source", "localhost"], "--source"),
        (&["GET"], "Usage"),
    ] {
        let output = explain(&example, arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected) && output.stdout.is_empty(), "{arguments:?}: {text}");
    }
    let missing = explain(Path::new("/nowhere/at/all"), &["GET", url]);
    assert_eq!(missing.status.code(), Some(2));

    let folder = Folder::copy_of("quickstart");
    let orders = folder.read("orders.yaml");
    folder.write("orders.yaml", &orders.replace("methods: [GET]", "methods: [GTE]"));
    let output = explain(&folder.0, &["GET", url]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("GTE"));
    // A missing Stage is not a mistake of the file: the gateway serves what is left.
    folder.write("orders.yaml", &orders.replace("  stages: [{name: prod}]", "  stages: [{name: prd}]"));
    let output = explain(&folder.0, &["GET", url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("StageNotFound"));
}

#[test]
fn the_help_teaches() {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice")).args(["explain", "--help"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["Exit code 0", "Examples:", "--principal", "--output", "{apiKey:", "The integration is not called"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
