//! `sluice dev`: the printed calls work, edits interrupt no request, errors are isolated.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::harness::{Folder, Response, Sluice, ask, eventually, examples, get, get_tls, send};

/// Whether curl is installed. In CI it must be, because the test would otherwise be skipped unnoticed.
fn curl() -> bool {
    let there = Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(there || std::env::var_os("CI").is_none(), "curl is not installed, and the printed lines are curl lines");
    if !there {
        eprintln!("skipped: curl is not installed, so the printed lines cannot be tried");
    }
    there
}

/// Runs a line in a shell with what `before` sets, and gives what it prints.
fn shell(before: &str, line: &str) -> String {
    let output = Command::new("bash").args(["-c", &format!("{before}\n{line}")]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs the printed calls and gives their statuses, each of which must be the expected one.
fn statuses(sluice: &Sluice) -> Vec<String> {
    let lines = sluice.offered();
    let sets = |line: &&String| ["TOKEN=", "SESSION=", "field()"].iter().any(|set| line.starts_with(set));
    let token = lines.iter().filter(sets).cloned().collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for line in &lines {
        let Some((command, comment)) = line.split_once("   # ") else { continue };
        if command.starts_with("for ") {
            let statuses = shell("", command);
            assert!(statuses.starts_with("200") && statuses.ends_with("429"), "{line}: {statuses}");
            found.push("429".to_owned());
            continue;
        }
        let command = command.replace("curl -i ", "curl -s -o /dev/null -w '%{http_code}' ");
        let status: String = comment.chars().take(3).collect();
        assert_eq!(shell(&token, &command), status, "{line}\n{}", sluice.printed());
        found.push(status);
    }
    found.sort();
    found
}

#[test]
fn every_printed_call_of_the_quickstart_returns_its_expected_status() {
    if !curl() {
        return;
    }
    let sluice = Sluice::dev(&examples().join("quickstart"));
    // An order with a token twice, the catalogue with a key, /health; no token; another scope and no key; the burst.
    let expected = ["200", "200", "200", "200", "401", "403", "403", "429"];
    assert_eq!(statuses(&sluice), expected, "{:#?}", sluice.offered());
}

#[test]
fn signed_requests_and_tokens_of_service_accounts_are_accepted() {
    if !curl() {
        return;
    }
    // Signed, and not signed.
    let sluice = Sluice::dev(&examples().join("iam"));
    assert_eq!(statuses(&sluice), ["200", "403"], "{:#?}", sluice.offered());
    // With temporary credentials, and not signed.
    let sluice = Sluice::dev(&examples().join("iam-role"));
    assert_eq!(statuses(&sluice), ["200", "403"], "{:#?}", sluice.offered());
    let sluice = Sluice::dev(&examples().join("service-account"));
    assert_eq!(statuses(&sluice), ["200", "401"], "{:#?}", sluice.offered());
}

#[test]
fn tokens_are_introspected_and_a_revoked_one_is_rejected() {
    if !curl() {
        return;
    }
    let folder = Folder::copy_of("introspection");
    folder.write("api.yaml", &folder.read("api.yaml").replace("resultTtl: 5s", "resultTtl: 0s"));
    let sluice = Sluice::dev(&folder.0);
    // With a token, without one, with another scope.
    assert_eq!(statuses(&sluice), ["200", "401", "403"], "{:#?}", sluice.offered());
    let lines = sluice.offered();
    let line = lines.iter().find(|line| line.starts_with("TOKEN=")).unwrap();
    let issuer = line.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let form = [("accept", "text/plain"), ("content-type", "application/x-www-form-urlencoded")];
    let token = send(issuer, "POST", "/token", &form, "client_id=acme&scope=orders.read").unwrap().body;
    let bearer = format!("Bearer {}", token.trim());
    let read = || ask(sluice.address(), "GET", "/orders", &[("authorization", &bearer)]).unwrap();
    let accepted = read();
    assert_eq!((accepted.status, accepted.header("x-caller")), (200, Some("acme")));
    assert_eq!(send(issuer, "POST", "/revoke", &form, &format!("token={}", token.trim())).unwrap().status, 200);
    assert_eq!(read().status, 401);
}

/// A token of the identity provider that stands for the Service `shop/identity`.
fn token(sluice: &Sluice, client: &str, scope: &str) -> String {
    let printed = sluice.printed();
    let line = printed.lines().find(|line| line.contains("shop/identity")).unwrap();
    let is_part = |c: char| c == '.' || c == ':' || c.is_ascii_digit();
    let issuer = line.split("127.0.0.1").nth(1).unwrap().split(|c| !is_part(c)).next().unwrap();
    let issuer = format!("127.0.0.1{issuer}").parse().unwrap();
    let form = [("accept", "text/plain"), ("content-type", "application/x-www-form-urlencoded")];
    let token = send(issuer, "POST", "/token", &form, &format!("client_id={client}&scope={scope}")).unwrap().body;
    format!("Bearer {}", token.trim())
}

#[test]
fn a_function_names_the_key_of_a_request() {
    let sluice = Sluice::dev(&examples().join("usage-identifier"));
    let (globex, other) = (token(&sluice, "globex", "orders.read"), token(&sluice, "initech", "orders.read"));
    let key = ("x-api-key", "example-key-of-globex");
    for (headers, status) in [
        (vec![("authorization", other.as_str())], 403),
        (vec![("authorization", other.as_str()), key], 403),
        (vec![key], 401),
        (vec![("authorization", globex.as_str())], 200),
        (vec![("authorization", globex.as_str()), ("x-api-key", "another-key-0123456789")], 200),
        (vec![("authorization", globex.as_str())], 429),
    ] {
        let response = ask(sluice.address(), "GET", "/orders", &headers).unwrap();
        assert_eq!(response.status, status, "{headers:?}: {}", response.body);
        if status == 200 {
            assert_eq!(response.header("x-customer"), Some("globex"));
        }
    }
}

#[test]
fn a_function_decides_about_requests() {
    let sluice = Sluice::dev(&examples().join("lambda-authorizer"));
    let (read, write) = (token(&sluice, "acme", "orders.read"), token(&sluice, "acme", "orders.write"));
    for (method, token, status) in [
        ("GET", read.as_str(), 200),
        ("POST", read.as_str(), 403),
        ("POST", write.as_str(), 200),
        ("GET", "Bearer x", 401),
        ("GET", "x", 401),
    ] {
        let response = ask(sluice.address(), method, "/orders", &[("authorization", token)]).unwrap();
        assert_eq!(response.status, status, "{method} {token}: {}", response.body);
        if status == 200 {
            assert!(
                response.header("x-caller").is_some_and(|caller| caller.starts_with("acme orders.")),
                "{response:?}"
            );
        }
    }
}

#[test]
fn printed_calls_send_keys_where_the_stage_reads_them_and_name_networks_that_are_not_accepted() {
    if !curl() {
        return;
    }
    assert_eq!(statuses(&Sluice::dev(&examples().join("networks"))), ["403", "403"]);
    let folder = Folder::copy_of("api-key");
    let file = "api.yaml";
    let written = folder.read(file);
    for source in [
        "{type: Header, name: x-api-key}",
        "{type: Header, name: Authorization, scheme: ApiKey}",
        "{type: Query, name: key}",
        "{type: Cookie, name: key}",
    ] {
        folder.write(file, &written.replacen("spec: {}", &format!("spec: {{apiKeySource: {source}}}"), 1));
        let sluice = Sluice::dev(&folder.0);
        assert_eq!(statuses(&sluice), ["200", "200", "403"], "{source}: {:#?}", sluice.offered());
    }
}

#[test]
fn the_second_read_comes_from_the_cache() {
    let sluice = Sluice::dev(&examples().join("quickstart"));
    // TOKEN=$(curl … -d client_id=… http://ADDRESS/token)
    let lines = sluice.offered();
    let line = lines.iter().find(|line| line.starts_with("TOKEN=")).unwrap();
    let issuer = line.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let form = [("accept", "text/plain"), ("content-type", "application/x-www-form-urlencoded")];
    let token = send(issuer, "POST", "/token", &form, "client_id=acme&scope=orders.read").unwrap().body;
    let bearer = format!("Bearer {}", token.trim());
    let read = || -> Response { ask(sluice.address(), "GET", "/orders/42", &[("authorization", &bearer)]).unwrap() };
    let (first, second) = (read(), read());
    assert_eq!((first.status, second.status), (200, 200), "{first:?}");
    assert_eq!(first.body, second.body, "the backend numbers its responses");
    assert!(second.header("cache-status").is_some_and(|status| status.contains("; hit")), "{second:?}");
    assert!(second.body.contains(r#""customer":"acme""#), "{second:?}");
}

#[test]
fn an_edit_under_traffic_takes_effect_within_a_second_and_interrupts_no_request() {
    let folder = Folder::copy_of("quickstart");
    let stage = folder.read("stage.yaml");
    // These callers are faster than the quickstart's throttle allows.
    folder.write("stage.yaml", &stage.replace("rate: 1000, burst: 2000", "rate: 1000000, burst: 1000000"));
    let sluice = Sluice::dev(&folder.0);
    let address = sluice.address();
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let done = done.clone();
            std::thread::spawn(move || {
                let mut count = 0;
                while !done.load(Ordering::Relaxed) {
                    let (status, _) = get(address, "/health").unwrap();
                    assert_eq!(status, 200);
                    count += 1;
                }
                count
            })
        })
        .collect();
    let original = folder.read("orders.yaml");
    let mut times = Vec::new();
    for round in 0..5 {
        let body = format!("round-{round}");
        folder.write("orders.yaml", &original.replace(r#"{"status":"ok"}"#, &body));
        let saved = Instant::now();
        eventually("the edit is in effect", || get(address, "/health").unwrap().1.contains(&body).then_some(()));
        times.push(saved.elapsed());
    }
    // The median, so that one pause of a busy machine does not count.
    times.sort();
    assert!(times[2] < Duration::from_secs(1), "edits took {times:?}");
    done.store(true, Ordering::Relaxed);
    let served: u32 = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
    assert!(served > 0);
}

#[test]
fn a_broken_file_is_reported_with_line_and_column_and_its_objects_stay_served() {
    let folder = Folder::copy_of("quickstart");
    let sluice = Sluice::dev(&folder.0);
    let original = folder.read("orders.yaml");
    folder.write("orders.yaml", &original.replace("path: /health", "path: [/health"));
    sluice.wait_for("orders.yaml:");
    let printed = sluice.printed();
    let line = printed.lines().find(|line| line.contains("orders.yaml:")).unwrap();
    let mut numbers = line.split("orders.yaml:").nth(1).unwrap().split(':');
    let line_number: u32 = numbers.next().unwrap().parse().unwrap();
    let column: u32 = numbers.next().unwrap().parse().unwrap();
    assert!(line_number > 40 && column > 0, "{line}");
    assert_eq!(get(sluice.address(), "/health").unwrap().0, 200);
    // Mended, it follows again.
    folder.write("orders.yaml", &original.replace("path: /health", "path: /well"));
    eventually("the mended file is served", || (get(sluice.address(), "/well").unwrap().0 == 200).then_some(()));
}

#[test]
fn a_misspelt_field_is_reported_with_a_suggestion() {
    let folder = Folder::copy_of("quickstart");
    let sluice = Sluice::dev(&folder.0);
    folder.write("acme.yaml", &folder.read("acme.yaml").replace("customerId", "custommerId"));
    sluice.wait_for("acme.yaml:");
    let printed = sluice.printed();
    let line = printed.lines().find(|line| line.contains("acme.yaml:")).unwrap();
    assert!(line.contains("custommerId") && line.contains("customerId"), "{line}");
    assert_eq!(get(sluice.address(), "/health").unwrap().0, 200);
}

#[test]
fn a_broken_object_fails_closed_alone() {
    let folder = Folder::copy_of("quickstart");
    folder.write(
        "broken.yaml",
        "apiVersion: sluice.dev/v1alpha1\nkind: ApiRoute\nmetadata: {name: broken, namespace: shop}\nspec:\n  \
         stages: [{name: prod}]\n  authorization: {type: Authorizer, authorizer: {name: missing}}\n  rules:\n    - name: broken\n      methods: [GET]\n      \
         path: /broken\n      integration: {type: Mock, mock: {status: 200}}\n",
    );
    let sluice = Sluice::dev(&folder.0);
    assert!(sluice.printed().contains("AuthorizerNotFound"), "{}", sluice.printed());
    assert_eq!(get(sluice.address(), "/broken").unwrap().0, 500);
    assert_eq!(get(sluice.address(), "/health").unwrap().0, 200);
}

#[test]
fn a_deleted_file_is_no_longer_served() {
    let folder = Folder::copy_of("quickstart");
    let sluice = Sluice::dev(&folder.0);
    std::fs::remove_file(folder.0.join("orders.yaml")).unwrap();
    eventually("the route is gone", || (get(sluice.address(), "/health").unwrap().0 == 404).then_some(()));
}

#[test]
fn versions_are_distinguished_as_the_example_describes() {
    let sluice = Sluice::dev(&examples().join("versions"));
    assert_eq!(get(sluice.address(), "/v1/hello").unwrap().1.trim(), "hello from v1");
    assert!(get(sluice.address(), "/hello").unwrap().1.contains("name a version"));
    let named = ask(sluice.address(), "GET", "/hello", &[("x-api-version", "v2")]).unwrap();
    assert_eq!(named.body.trim(), "hello from v2");
}

#[test]
fn the_stages_of_all_fleets_are_served_and_those_that_need_two_proxies_are_reported() {
    let sluice = Sluice::dev(&examples().join("fleets"));
    for (host, path, status) in [
        ("api.shop.example", "/status", 200),
        ("api.shop.internal", "/admin", 200),
        ("api.shop.example", "/admin", 404),
    ] {
        let response = ask(sluice.address(), "GET", path, &[("host", host)]).unwrap();
        assert_eq!(response.status, status, "{host}{path}");
    }
    assert!(!sluice.printed().contains("of the fleet"), "{}", sluice.printed());
    let folder = Folder::copy_of("fleets");
    folder.write("api.yaml", &folder.read("api.yaml").replace("api.shop.internal", "api.shop.example"));
    let printed = Sluice::dev(&folder.0).printed();
    assert!(printed.contains("! Stage default/public of the fleet edge has a host and base path of"), "{printed}");
}

#[test]
fn ambiguous_requests_are_treated_as_the_example_describes_and_as_the_flag_says() {
    let folder = examples().join("request-policy");
    let sluice = Sluice::dev(&folder);
    let (status, body) = get(sluice.address(), "/lenient/projects/group%2Fname").unwrap();
    assert!(status == 200 && body.contains("group%2Fname"), "{status} {body}");
    for (path, status) in [
        ("/strict/projects/group%2Fname", 400),
        ("/strict/projects//7", 400),
        ("/lenient//projects//7", 200),
        ("/lenient/admin%2F", 400),
    ] {
        assert_eq!(get(sluice.address(), path).unwrap().0, status, "{path}");
    }
    let flags =
        ["--request-policy", "emptySegments=Collapse,semicolons=Drop", "--request-policy", "encodedSlashes=Decode"];
    let sluice = Sluice::dev_with(&folder, &flags);
    let (status, body) = get(sluice.address(), "/strict//projects;a%2F7").unwrap();
    assert!(status == 200 && body.contains(r#""path":"/projects/7""#), "{status} {body}");
    assert!(get(sluice.address(), "/lenient/projects/a%2Fb").unwrap().1.contains("a%2Fb"));
}

#[test]
fn networks_are_accepted_as_the_example_describes_behind_trusted_proxies() {
    let folder = examples().join("networks");
    for (trusted, rows) in [
        (
            &["--trusted-proxies", "127.0.0.0/8"][..],
            [
                ("/orders", "203.0.113.7", 200),
                ("/orders", "203.0.113.66", 403),
                ("/admin", "203.0.113.7", 403),
                ("/admin", "10.1.2.3", 200),
                ("/admin", "10.1.2.3, 203.0.113.7", 403),
            ],
        ),
        (&[], ["/orders", "/orders", "/admin", "/admin", "/admin"].map(|path| (path, "10.1.2.3", 403))),
    ] {
        let sluice = Sluice::dev_with(&folder, trusted);
        for (path, client, status) in rows {
            let response = ask(sluice.address(), "GET", path, &[("x-forwarded-for", client)]).unwrap();
            assert_eq!(response.status, status, "{path} {client} {trusted:?}");
        }
    }
}

#[test]
fn a_policy_allows_and_denies_requests_as_the_example_describes() {
    let sluice = Sluice::dev(&examples().join("policy"));
    for (method, path, agent, status) in [
        ("GET", "/orders", "curl/8", 200),
        ("GET", "/reports", "curl/8", 403),
        ("GET", "/reports", "reports/2.1", 200),
        ("DELETE", "/orders", "curl/8", 403),
    ] {
        let response = ask(sluice.address(), method, path, &[("user-agent", agent)]).unwrap();
        assert_eq!(response.status, status, "{method} {path} {agent}");
        assert_eq!(response.body.contains("with an explicit deny"), method == "DELETE", "{}", response.body);
    }
    let note = "403 unless the policy allows it";
    assert!(sluice.offered().iter().all(|line| line.contains(note)), "{:#?}", sluice.offered());
    // A policy that cannot be evaluated closes the Stage, and no call of it is offered.
    let folder = Folder::copy_of("policy");
    folder.write("api.yaml", &folder.read("api.yaml").replace("StringLike", "StringLikes"));
    let sluice = Sluice::dev(&folder.0);
    assert_eq!(ask(sluice.address(), "GET", "/orders", &[]).unwrap().status, 500);
    assert!(sluice.offered().iter().all(|line| !line.starts_with("curl")), "{:#?}", sluice.offered());
}

#[test]
fn no_printed_call_promises_a_200_without_the_certificate_that_a_stage_requires() {
    let folder = examples().join("client-certificates");
    let sluice = Sluice::dev_with(&folder, &["--https", "127.0.0.1:0"]);
    let calls: Vec<String> = sluice.offered().into_iter().filter(|line| line.starts_with("curl")).collect();
    let note = "# 403: hello needs a certificate of one of the Stage's authorities: --cert FILE";
    assert!(!calls.is_empty() && calls.iter().all(|line| line.ends_with(note)), "{calls:#?}");
    if curl() {
        let status = "curl -s -o /dev/null -w '%{http_code}'";
        let call = calls[0].replace("curl -i", status);
        assert_eq!(shell("", &call), "403");
        let with = call.replace("curl", &format!("curl --cert {}", folder.join("orders.pem").display()));
        assert_eq!(shell("", &with), "200");
    }
}

#[test]
fn an_interrupt_stops_it_cleanly() {
    let sluice = Sluice::dev(&examples().join("quickstart"));
    assert!(sluice.stop().success());
}

#[test]
fn a_mapped_service_is_forwarded_to_the_local_program_and_an_unreachable_one_is_a_502() {
    let backend = Sluice::backend("on this machine");
    let folder = Folder::copy_of("quickstart");
    std::fs::remove_file(folder.0.join("orders-service.yaml")).unwrap();
    let mapping = format!("shop/orders:80={}", backend.address());
    let sluice = Sluice::dev_with(&folder.0, &["--service", &mapping]);
    let (status, body) = get(sluice.address(), "/burst").unwrap();
    assert!(status == 200 && body.contains("on this machine"), "{status} {body}");
    assert!(backend.stop().success());
    assert_eq!(get(sluice.address(), "/burst").unwrap().0, 502);
}

#[test]
fn one_broken_rule_returns_500_and_other_rules_are_not_affected() {
    let folder = Folder::copy_of("quickstart");
    let sluice = Sluice::dev(&folder.0);
    let orders = folder.read("orders.yaml");
    let broken = orders.replace("authorizer: {name: customers}, scopes: [orders.write]", "authorizer: {name: missing}");
    folder.write("orders.yaml", &broken);
    sluice.wait_for("AuthorizerNotFound");
    let post = || ask(sluice.address(), "POST", "/orders", &[]).unwrap().status;
    eventually("the rule fails closed", || (post() == 500).then_some(()));
    assert_eq!(get(sluice.address(), "/health").unwrap().0, 200);
    folder.write("orders.yaml", &orders);
    eventually("the mended rule asks for a token", || (post() == 401).then_some(()));
}

#[test]
fn a_stage_with_tls_is_served_over_https_from_the_secret_in_the_folder() {
    let folder = Folder::copy_of("versions");
    const HOST: &str = "api.shop.example";
    let issued = sluice_kit::tls::issue(HOST);
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let (chain, key) = (base64(&issued.chain_pem), base64(&issued.key_pem));
    folder.write(
        "secret.yaml",
        &format!(
            "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: tls, namespace: default}}\n\
             data:\n  tls.crt: {chain}\n  tls.key: {key}\n"
        ),
    );
    let spec = format!("spec: {{hostnames: [{HOST}], tls: {{certificates: [{{name: tls}}]}}}}");
    folder.write("api.yaml", &folder.read("api.yaml").replace("spec: {}", &spec));
    let sluice = Sluice::dev_with(&folder.0, &["--https", "127.0.0.1:0"]);
    let printed = sluice.printed();
    let port = printed.split("https://127.0.0.1:").nth(1).unwrap().lines().next().unwrap();
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let (status, body) = get_tls(address, HOST, &issued, "/v1/hello").unwrap();
    assert_eq!((status, body.trim()), (200, "hello from v1"), "{printed}");
}

#[test]
fn metrics_and_readiness_are_served() {
    let sluice = Sluice::dev(&examples().join("versions"));
    assert_eq!(get(sluice.address(), "/v1/hello").unwrap().0, 200);
    let printed = sluice.printed();
    let admin = printed.split("Metrics: http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    assert_eq!(get(admin, "/readyz").unwrap().0, 200);
    let (_, metrics) = get(admin, "/metrics").unwrap();
    assert!(metrics.contains("sluice_requests_total{"), "{metrics}");
}

#[test]
fn a_port_in_use_is_rejected_and_never_shared() {
    let first = Sluice::dev(&examples().join("versions"));
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["dev", "--admin", "127.0.0.1:0", "--listen", &first.address().to_string()])
        .arg(examples().join("versions"))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && stderr.contains(&first.address().to_string()), "{stderr}");
}

#[test]
fn what_cannot_be_reached_is_named_with_its_remedy_and_no_call_promises_a_200() {
    let folder = Folder::copy_of("quickstart");
    let service = folder.read("orders-service.yaml");
    folder.write("orders-service.yaml", &service.replace("sluice.dev/dev-server: example-backend", "a: b"));
    let orders = folder.read("orders.yaml");
    let url = "{type: Http, http: {url: 'http://legacy.shop.svc:8080'}}";
    folder.write("orders.yaml", &orders.replacen("{type: Service, service: {name: orders, port: 80}}", url, 1));
    let sluice = Sluice::dev_with(&folder.0, &["--service", "shop/orders:8080=127.0.0.1:3000"]);
    let printed = sluice.printed();
    for line in [
        "! Service shop/orders has no address for port 80, so its requests get 503. Start the command with --service shop/orders:80=ADDR",
        "! The rule get-order of ApiRoute shop/orders forwards to http://legacy.shop.svc:8080",
        "! --service shop/orders:8080 has no effect: the Service has no such port; its ports are: 80",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    let offered = sluice.offered();
    assert!(
        offered.iter().any(|line| line.contains("# 503: catalog, Service shop/orders has no address")),
        "{offered:#?}"
    );
    assert!(
        offered.iter().any(|line| line.contains("# 502: get-order, legacy.shop.svc needs the DNS")),
        "{offered:#?}"
    );
    let promised: Vec<&String> = offered.iter().filter(|line| line.contains("# 200")).collect();
    assert!(promised.iter().all(|line| line.contains("/health")), "{promised:#?}");
    assert_eq!(get(sluice.address(), "/burst").unwrap().0, 503);
}

#[test]
fn a_rule_that_is_not_served_is_not_offered() {
    let folder = Folder::copy_of("quickstart");
    let orders = folder.read("orders.yaml");
    folder.write("orders.yaml", &orders.replacen("port: 80", "port: 81", 1));
    let offered = Sluice::dev(&folder.0).offered();
    assert!(!offered.is_empty() && !offered.iter().any(|line| line.contains("/orders/42")), "{offered:#?}");
}

#[test]
fn a_principal_without_a_secret_gets_an_access_key_that_the_printed_call_signs_with() {
    let folder = Folder::copy_of("iam");
    let written = folder.read("api.yaml");
    let without: Vec<&str> = written.lines().filter(|line| !line.starts_with("  accessKeys:")).collect();
    folder.write("api.yaml", &without.join("\n"));
    let sluice = Sluice::dev(&folder.0);
    let lines = sluice.offered();
    let line = lines.iter().find(|line| line.contains("--aws-sigv4 aws:amz:eu-west-1:execute-api ")).unwrap();
    let user = line.split("-u '").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    let (id, secret) = user.split_once(':').unwrap();
    assert!(id.starts_with("SLCE") && id.len() == 20 && secret.len() == 40, "{line}");
    assert!(
        line.contains("/orders   # 200") && sluice.printed().contains(&format!("user/reporting with {id}")),
        "{line}"
    );
}
