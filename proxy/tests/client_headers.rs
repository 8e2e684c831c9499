//! Headers that clients can spoof, and headers that AWS removes and adds.

use sluice_wire::*;

use crate::harness::*;

/// One of each kind, in several spellings.
const SPOOFABLE: [&str; 18] = [
    "Proxy",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-Original-Method",
    "X-Host",
    "X-Original-Host",
    "Front-End-Https",
    "X-Script-Name",
    "True-Client-IP",
    "X-Client-Ip",
    "CF-Connecting-IP",
    "X-Remote-User",
    "X-Remote-Extra-Scopes",
    "X-Forwarded-Prefix",
    "Client-Cert",
    "Client-Cert-Chain",
    "X-Forwarded-Client-Cert",
    "X-SSL-Client-S-DN",
];

fn gate(stage: StagePart) -> (Gate, Backend) {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let rules = vec![rule("all", "ANY", "/{p+}", policy(service()))];
    gate.put(vec![stage_part(stage), upstream(&[backend.address]), route("r", rules)]);
    (gate, backend)
}

fn forwarded(gate: &Gate, name: &str) -> bool {
    let response = gate.request("GET", "/a", &[(name, "evil-1"), (name, "evil-2"), ("x-user", "kept")], "");
    assert_eq!(response.status, 200, "{name}");
    assert!(response.body.contains("kept"), "{name}: {}", response.body);
    response.body.contains("evil")
}

#[test]
fn spoofable_headers_are_removed_unless_the_stage_forwards_them() {
    let forward_client_headers = ["x-original-url", "true-client-ip", "client-cert"].map(str::to_owned).to_vec();
    let (plain, _one) = gate(stage());
    let (chosen, _two) = gate(StagePart { forward_client_headers, ..stage() });
    for name in SPOOFABLE {
        assert!(!forwarded(&plain, name), "{name}");
        let is_chosen = matches!(name, "X-Original-URL" | "True-Client-IP");
        assert_eq!(forwarded(&chosen, name), is_chosen, "{name}");
    }
    assert!(forwarded(&plain, "X-Original"), "another name");
}

#[test]
fn other_spellings_of_them_are_not_forwarded_where_unusual_names_are() {
    let request_policy = RequestPolicy { header_names: Some(HeaderNames::Forward), ..RequestPolicy::default() };
    let (gate, _backend) = gate(StagePart { request_policy, ..stage() });
    for name in ["x_original_url", "x_client_ip", "true.client.ip", "X_Remote_User", "x_script-name", "client_cert"] {
        assert!(!forwarded(&gate, name), "{name}");
    }
    assert!(forwarded(&gate, "x_color"));
}

#[test]
fn aws_rest_apis_remove_and_add_headers_of_the_backends_request() {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let mut maps = policy(service());
    maps.request_headers.set = vec![("via".into(), "mapped".parse().unwrap())];
    let rules = vec![rule("all", "ANY", "/a", policy(service())), rule("maps", "ANY", "/maps", maps)];
    gate.put(vec![
        stage_part(StagePart { behavior: Behavior::AwsRest, ..stage() }),
        upstream(&[backend.address]),
        route("r", rules),
    ]);
    let removed = ["content-md5", "content-encoding", "max-forwards", "server", "via", "www-authenticate"];
    let sent: Vec<(&str, &str)> = removed.iter().map(|name| (*name, "removed")).collect();
    for path in ["/a", "/maps"] {
        let body = gate.request("GET", path, &sent, "").body;
        assert!(!body.contains("removed"), "{body}");
        assert_eq!(field(&body, "via"), (path == "/maps").then_some("mapped"), "{body}");
    }
    let header = |name: &'static str, value: &str| {
        let headers = if value.is_empty() { vec![] } else { vec![("x-amzn-trace-id", value)] };
        field(&gate.request("GET", "/a", &headers, "").body, name).map(str::to_owned)
    };
    let api = header("x-amzn-apigateway-api-id", "").unwrap();
    assert!(api.len() == 10 && header("x-amzn-apigateway-api-id", "").as_ref() == Some(&api), "{api}");
    let continued = "Root=1-67891233-abcdef012345678912345678;Parent=463ac35c9f6413ad;Sampled=1";
    assert_eq!(header("x-amzn-trace-id", continued).as_deref(), Some(continued));
    let made = header("x-amzn-trace-id", "").unwrap();
    for bad in ["x", "Root=1-6789-abcdef012345678912345678", "Root=2-67891233-abcdef012345678912345678"] {
        let new = header("x-amzn-trace-id", bad).unwrap();
        assert!(new.starts_with("Root=1-") && new.len() == made.len() && new != made, "{bad}: {new}");
    }
    assert_eq!(made.len(), "Root=1-67891233-abcdef012345678912345678".len(), "{made}");
    // The other behaviors change none of these.
    gate.put(vec![stage_part(stage())]);
    let body = gate.request("GET", "/a", &sent, "").body;
    assert_eq!(body.matches("removed").count(), removed.len(), "{body}");
    assert!(field(&body, "x-amzn-trace-id").is_none());
}

#[test]
fn aws_http_apis_name_the_type_of_an_empty_put() {
    let (gate, _backend) = gate(StagePart { behavior: Behavior::AwsHttp, ..stage() });
    let kind = |method, headers: &[(&str, &str)], body| {
        field(&gate.request(method, "/a", headers, body).body, "content-type").map(str::to_owned)
    };
    assert_eq!(kind("PUT", &[], "").as_deref(), Some("application/octet-stream"));
    assert_eq!(kind("PUT", &[("content-type", "text/csv")], "").as_deref(), Some("text/csv"));
    assert_eq!(kind("PUT", &[], "body"), None);
    assert_eq!(kind("POST", &[], ""), None);
}

/// The value of a header in the text of a request.
fn field<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request
        .lines()
        .find_map(|line| line.split_once(": ").filter(|(field, _)| field.eq_ignore_ascii_case(name)))
        .map(|(_, value)| value)
}
