//! Certificates of clients: who is asked for one, which are accepted, and what integrations get.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{ExtendedKeyUsagePurpose, SerialNumber, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateRevocationListDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sluice_kit::authority::{Authority, ClientCertificate};
use sluice_kit::tls::{Issued, issue, issue_for};
use sluice_wire::*;

use crate::harness::*;

mod shared;

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What a Stage trusts.
fn trusting(authorities: &[&Authority]) -> ClientAuth {
    let roots = authorities.iter().map(|authority| base64(&authority.der)).collect();
    ClientAuth { required: true, roots, revocation: Vec::new(), forward: true }
}

fn with_lists(lists: &[String], auth: ClientAuth) -> ClientAuth {
    let der = |pem: &String| base64(&CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap());
    ClientAuth { revocation: lists.iter().map(der).collect(), ..auth }
}

fn certificate(issued: &Issued) -> (PartName, PartBody) {
    let object = ObjectRef::new("Secret", "shop", "tls");
    let part = CertificatePart {
        object,
        chain_pem: issued.chain_pem.clone(),
        key_pem: issued.key_pem.clone(),
        not_after: None,
    };
    (PartName::new(PartKind::Certificate, "shop/tls"), PartBody::Certificate(part))
}

/// A Stage for hosts and a base path, which has the certificate of the server, and its route.
fn stage_of(name: &str, hosts: &[&str], base: &str, auth: Option<ClientAuth>) -> Vec<(PartName, PartBody)> {
    let headers = [
        ("x-subject", "${context.identity.clientCert.subjectDN}"),
        ("x-uri", "${context.identity.clientCert.san.uri}"),
        ("x-serial", "${context.identity.clientCert.serialNumber}"),
    ];
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.parse().unwrap())).collect();
    let integration = Integration::Mock(Mock { status: 200, headers, body: name.to_owned() });
    let part = StagePart {
        object: ObjectRef::new("Stage", "shop", name),
        hostnames: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        base_path: base.into(),
        certificates: vec![PartName::new(PartKind::Certificate, "shop/tls")],
        tls: Some(StageTls { http: PlainHttp::Redirect, hsts: None, incomplete: false }),
        invalid: auth.is_some().then(|| CLIENT_AUTH_REQUIRED.to_owned()),
        client_auth: auth.map(Box::new),
        ..stage()
    };
    let stage_name = PartName::of_object(PartKind::Stage, "shop", name);
    let served = RoutePart {
        object: ObjectRef::new("ApiRoute", "shop", name),
        stages: vec![stage_name.clone()],
        version: None,
        rules: vec![rule("a", "GET", "/a", policy(integration))],
    };
    vec![
        (stage_name, PartBody::Stage(part)),
        (PartName::of_object(PartKind::Route, "shop", name), PartBody::Route(served)),
    ]
}

fn config(server: &Issued, client: Option<&ClientCertificate>, protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(server.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match client {
        Some(client) => builder.with_client_auth_cert(client.chain.clone(), client.key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// Settings of a client with one version of TLS.
fn of_version(
    server: &Issued,
    client: &ClientCertificate,
    version: &'static rustls::SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(server.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(builder.with_client_auth_cert(client.chain.clone(), client.key.clone_key()).unwrap())
}

/// A connection of a client.
struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    fn open(gate: &Gate, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        Ok(Self(StreamOwned::new(connection, sluice_kit::http1::connect(gate.proxy.https_addr().unwrap())?)))
    }

    fn get(&mut self, host: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
        self.0.write_all(sluice_kit::http1::request(host, "GET", path, headers, "").as_bytes())?;
        let response = read_response(&mut self.0);
        if response.status == 0 { Err(io::Error::other("closed without a response")) } else { Ok(response) }
    }
}

fn get(gate: &Gate, server: &Issued, client: Option<&ClientCertificate>, host: &str) -> io::Result<Response> {
    Connection::open(gate, host, &Arc::new(config(server, client, &[])))?.get(host, "/a", &[])
}

fn rejects(gate: &Gate, reason: &str, stage: &str) -> f64 {
    gate.metric(&format!(r#"sluice_rejects_total{{reason="{reason}",stage="{stage}"}}"#))
}

/// Lines of different worker threads are in no strict order.
fn with_one_thread() -> Gate {
    Gate::configured(|settings| settings.threads = Some(1))
}

/// Waits for the line of a handshake that failed.
fn eventually_rejected(gate: &Gate, what: &str, reason: &str) {
    eventually(what, || {
        let mut lines = gate.log.lines().into_iter().filter(|line| line["protocol"] == "TLS");
        let last = lines.next_back().map(|line| line["reason"].to_string()).unwrap_or_default();
        if last == format!("{reason:?}") { Ok(()) } else { Err(last) }
    });
}

fn last_line(gate: &Gate, count: usize) -> serde_json::Value {
    eventually("a line", || gate.log.lines().len() >= count);
    gate.log.lines().pop().unwrap()
}

fn http2(gate: &Gate, name: &str, server: &Issued, client: Option<&ClientCertificate>) -> Http2 {
    Http2::connect_tls(gate.proxy.https_addr().unwrap(), name, config(server, client, &["h2"])).unwrap()
}

fn status(connection: &Http2, host: &str) -> u16 {
    connection.ask(http::Request::get(format!("https://{host}/a")).body(Http2::empty()).unwrap()).0
}

#[test]
fn a_client_needs_a_certificate_of_the_stage_and_its_fields_are_variables() {
    let (server, partners, others) = (issue("shop.example"), Authority::new("Partners"), Authority::new("Others"));
    let mut gate = with_one_thread();
    gate.put(vec![certificate(&server)]);
    assert_eq!(gate.put(stage_of("prod", &["shop.example"], "/", Some(trusting(&[&partners])))), []);
    let client = partners.issue_with("orders", |params| {
        params.serial_number = Some(SerialNumber::from(4096_u64));
        params.subject_alt_names = vec![rcgen::SanType::URI("spiffe://partner/orders".try_into().unwrap())];
    });
    let served = get(&gate, &server, Some(&client), "shop.example").unwrap();
    assert_eq!(served.status, 200, "{served:?}");
    assert_eq!(served.header("x-subject"), Some("CN=orders"));
    assert_eq!(served.header("x-uri"), Some("spiffe://partner/orders"));
    assert_eq!(served.header("x-serial"), Some("10:00"));
    let line = last_line(&gate, 1);
    assert_eq!(line["certificateSubject"], "CN=orders");
    assert_eq!(line["certificateFingerprint"].as_str().unwrap().len(), 64);
    // None: a response, as AWS has it.
    let missing = get(&gate, &server, None, "shop.example").unwrap();
    assert_eq!(missing.status, 403);
    assert_eq!(last_line(&gate, 2)["reason"], "ClientCertificateRequired");
    // Of others: an alert.
    assert!(get(&gate, &server, Some(&others.issue("orders")), "shop.example").is_err());
    let line = last_line(&gate, 3);
    assert_eq!((&line["reason"], &line["protocol"]), (&"certificate_untrusted".into(), &"TLS".into()));
    assert_eq!(rejects(&gate, "ClientCertificateInvalid", ""), 1.0);
    // Over plain HTTP there is none.
    assert_eq!(gate.request("GET", "/a", &[("host", "shop.example")], "").status, 308);
}

#[test]
fn without_a_certificate_an_optional_stage_serves_and_an_invalid_one_is_rejected_all_the_same() {
    let (server, partners, others) = (issue("shop.example"), Authority::new("Partners"), Authority::new("Others"));
    let mut gate = with_one_thread();
    let auth = ClientAuth { required: false, ..trusting(&[&partners]) };
    gate.put(vec![certificate(&server)]);
    gate.put(stage_of("prod", &["shop.example"], "/", Some(auth)));
    let anonymous = get(&gate, &server, None, "shop.example").unwrap();
    assert_eq!((anonymous.status, anonymous.header("x-subject")), (200, Some("")));
    let known = get(&gate, &server, Some(&partners.issue("orders")), "shop.example").unwrap();
    assert_eq!((known.status, known.header("x-subject")), (200, Some("CN=orders")));
    assert!(get(&gate, &server, Some(&others.issue("orders")), "shop.example").is_err());
    last_line(&gate, 3);
    let subjects = gate.log.lines().into_iter().map(|line| line["certificateSubject"].as_str().map(str::to_owned));
    assert_eq!(subjects.flatten().collect::<Vec<_>>(), ["CN=orders"]);
}

#[test]
fn a_certificate_is_valid_now_for_clients_and_has_a_chain_to_the_authority() {
    let server = issue("shop.example");
    let root = Authority::new("Root");
    let (middle, others) = (root.intermediate("Middle"), Authority::new("Others"));
    let mut deep = root.intermediate("Level 1");
    for level in 2..=6 {
        deep = deep.intermediate(&format!("Level {level}"));
    }
    let mut gate = with_one_thread();
    gate.put(vec![certificate(&server)]);
    gate.put(stage_of("prod", &["shop.example"], "/", Some(trusting(&[&root]))));
    let usage =
        |usage: ExtendedKeyUsagePurpose| root.issue_with("a", |params| params.extended_key_usages = vec![usage]);
    let lifetime = |from, to| {
        root.issue_with("a", |params| {
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        })
    };
    let mut without_middle = middle.issue("a");
    without_middle.chain.truncate(1);
    let mut long = root.issue("a");
    long.chain.extend((0..8).map(|_| others.der.clone()));
    let names = |count: usize| {
        root.issue_with("a", |params| {
            let name = |at| rcgen::SanType::DnsName(format!("host-{at:04}.example").try_into().unwrap());
            params.subject_alt_names = (0..count).map(name).collect();
        })
    };
    for (what, client, expected) in [
        ("of the root", root.issue("a"), None),
        ("of an intermediate authority", middle.issue("a"), None),
        ("of an intermediate authority that is not sent", without_middle, Some("certificate_untrusted")),
        ("without a usage", root.issue_with("a", |params| params.extended_key_usages = vec![]), None),
        ("for servers", usage(ExtendedKeyUsagePurpose::ServerAuth), Some("certificate_wrong_purpose")),
        ("expired", lifetime(2019, 2020), Some("certificate_expired")),
        ("not valid yet", lifetime(2090, 2091), Some("certificate_not_yet_valid")),
        ("below six intermediate authorities", deep.issue("a"), None),
        ("below seven", deep.intermediate("Level 7").issue("a"), Some("certificate_too_large")),
        ("with a long chain", long, Some("certificate_too_large")),
        ("with many names", names(100), None),
        ("with too many names", names(400), Some("certificate_too_large")),
    ] {
        let response = get(&gate, &server, Some(&client), "shop.example");
        match expected {
            None => assert_eq!(response.unwrap().status, 200, "{what}"),
            Some(reason) => {
                assert!(response.is_err(), "{what}: {response:?}");
                eventually_rejected(&gate, what, reason);
            }
        }
    }
}

#[test]
fn a_stage_may_have_more_authorities_than_fit_into_a_handshake() {
    let server = issue("shop.example");
    let name = |number: usize| format!("Authority {number} {}", "x".repeat(60));
    let authorities: Vec<Authority> = (0..800).map(|number| Authority::new(&name(number))).collect();
    let mut gate = with_one_thread();
    gate.put(vec![certificate(&server)]);
    let all: Vec<&Authority> = authorities.iter().collect();
    assert_eq!(gate.put(stage_of("prod", &["shop.example"], "/", Some(trusting(&all)))), []);
    let client = authorities.last().unwrap().issue("a");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut connection = Connection::open(&gate, "shop.example", &of_version(&server, &client, version)).unwrap();
        assert_eq!(connection.get("shop.example", "/a", &[]).unwrap().status, 200, "{version:?}");
    }
}

#[test]
fn a_revoked_certificate_is_rejected_and_lists_that_are_missing_or_old_reject_all() {
    let server = issue("shop.example");
    let root = Authority::new("Root");
    let middle = root.intermediate("Middle");
    let serial = |serial: u64| {
        move |params: &mut rcgen::CertificateParams| {
            params.serial_number = Some(SerialNumber::from(serial));
        }
    };
    let (good, bad) = (middle.issue_with("good", serial(1)), middle.issue_with("bad", serial(2)));
    let current = |authority: &Authority, serials: &[u64]| authority.revocation_list(serials, 2090);
    let mut gate = with_one_thread();
    gate.put(vec![certificate(&server)]);
    gate.put(stage_of("prod", &["shop.example"], "/", Some(trusting(&[&root]))));
    let open = |client| Connection::open(&gate, "shop.example", &Arc::new(config(&server, Some(client), &[]))).unwrap();
    let mut kept = [Some(open(&good)), Some(open(&bad))];
    for (what, lists, of_good, of_bad) in [
        ("without lists", vec![], None, None),
        ("lists of both", vec![current(&root, &[]), current(&middle, &[2])], None, Some("certificate_revoked")),
        // That of the authority is looked at first.
        ("one list is missing", vec![current(&middle, &[2])], Some("revocation_unknown"), Some("revocation_unknown")),
        (
            "one list has expired",
            vec![current(&root, &[]), middle.revocation_list(&[2], 2024)],
            Some("revocation_list_expired"),
            Some("revocation_list_expired"),
        ),
    ] {
        let auth = with_lists(&lists, trusting(&[&root]));
        assert_eq!(gate.put(stage_of("prod", &["shop.example"], "/", Some(auth))), [], "{what}");
        for (client, expected) in [(&good, of_good), (&bad, of_bad)] {
            let response = get(&gate, &server, Some(client), "shop.example");
            assert_eq!(
                response.as_ref().ok().map(|response| response.status),
                expected.is_none().then_some(200),
                "{what}"
            );
            if let Some(reason) = expected {
                eventually_rejected(&gate, what, reason);
            }
        }
        // Connections that were open before are checked again, and end if another one would be rejected.
        for (kept, expected) in kept.iter_mut().zip([of_good, of_bad]) {
            let Some(connection) = kept else { continue };
            let response = connection.get("shop.example", "/a", &[]).unwrap();
            assert_eq!(response.status, if expected.is_none() { 200 } else { 421 }, "{what}");
            if expected.is_some() {
                assert_eq!(response.header("connection"), Some("close"), "{what}");
                let lapsed = || gate.log.lines().last().is_some_and(|line| line["reason"] == "certificate_lapsed");
                eventually("a line of the request", lapsed);
                *kept = None;
            }
        }
    }
    assert!(kept.iter().all(Option::is_none));
}

#[test]
fn integrations_get_the_verified_certificate_and_no_header_of_the_client() {
    let (server, partners) = (issue("shop.example"), Authority::new("Partners"));
    let backend = Backend::echo();
    let client = partners.issue("a");
    let mut gate = with_one_thread();
    gate.put(vec![certificate(&server), upstream(&[backend.address])]);
    let forwarded = format!(":{}:", base64(&client.chain[0]));
    let spoofed = [
        ("Client-Cert", ":AAAA:"),
        ("Client-Cert-Chain", ":AAAA:"),
        ("client_cert", ":AAAA:"),
        ("X-Forwarded-Client-Cert", "Hash=00"),
        ("X-SSL-Client-Verify", "SUCCESS"),
    ];
    for (required, forward, certified, expected) in [
        (true, true, true, Some(&forwarded)),
        (true, false, true, None),
        (false, true, true, Some(&forwarded)),
        (false, true, false, None),
    ] {
        let auth = ClientAuth { required, forward, ..trusting(&[&partners]) };
        let mut parts = stage_of("prod", &["shop.example"], "/", Some(auth));
        let served = RoutePart {
            object: ObjectRef::new("ApiRoute", "shop", "prod"),
            stages: vec![parts[0].0.clone()],
            version: None,
            rules: vec![rule("a", "GET", "/a", policy(service()))],
        };
        parts[1].1 = PartBody::Route(served);
        if let PartBody::Stage(stage) = &mut parts[0].1 {
            // The most generous setting.
            stage.request_policy.header_names = Some(HeaderNames::Forward);
        }
        assert_eq!(gate.put(parts), []);
        let settings = Arc::new(config(&server, Some(&client).filter(|_| certified), &[]));
        let mut connection = Connection::open(&gate, "shop.example", &settings).unwrap();
        let response = connection.get("shop.example", "/a", &spoofed).unwrap();
        assert_eq!(response.status, 200, "{response:?}");
        let sent = response.body.to_ascii_lowercase();
        let has = |name: &str| sent.lines().any(|line| line.contains(name));
        assert_eq!(has("client-cert"), expected.is_some(), "{}", response.body);
        assert!(expected.is_none_or(|value| response.body.contains(value)), "{}", response.body);
        assert!(!has("aaaa") && !has("hash=00") && !has("success") && !has("client_cert"), "{}", response.body);
    }
}

#[test]
fn stored_responses_are_separate_for_each_certificate_that_integrations_get() {
    let (server, partners) = (issue("shop.example"), Authority::new("Partners"));
    let mut gate = with_one_thread();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    let backend =
        Backend::start(move |_, _| ok(&counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst).to_string()));
    gate.put(vec![certificate(&server), upstream(&[backend.address])]);
    let (a, b) = (partners.issue("a"), partners.issue("b"));
    for (forward, scope, shared) in
        [(true, CacheScope::Shared, false), (false, CacheScope::Shared, true), (false, CacheScope::Caller, false)]
    {
        let auth = ClientAuth { forward, ..trusting(&[&partners]) };
        let mut parts = stage_of("prod", &["shop.example"], "/", Some(auth));
        let mut cached = policy(service());
        cached.cache = Some(RuleCache { scope, ..shared_cache() });
        let served = RoutePart {
            object: ObjectRef::new("ApiRoute", "shop", "prod"),
            stages: vec![parts[0].0.clone()],
            version: None,
            rules: vec![rule(if forward { "forwarded" } else { "own" }, "GET", "/a", cached)],
        };
        parts[1].1 = PartBody::Route(served);
        if let PartBody::Stage(stage) = &mut parts[0].1 {
            stage.cache = stage_with_cache().cache;
        }
        gate.put(parts);
        let body = |client| get(&gate, &server, Some(client), "shop.example").unwrap().body;
        let (first, again, other) = (body(&a), body(&a), body(&b));
        assert_eq!(first, again, "{forward} {scope:?}");
        assert_eq!(first == other, shared, "{forward} {scope:?}");
    }
}

#[test]
fn nothing_but_a_verified_certificate_opens_a_stage_that_requires_one() {
    let (server, partners) = (issue("shop.example"), Authority::new("Partners"));
    // A load balancer that terminates TLS states nothing about certificates.
    let mut gate = Gate::configured(|settings| settings.tls_terminators = vec!["127.0.0.1".parse().unwrap()]);
    gate.put(vec![certificate(&server)]);
    for behavior in [Behavior::Native, Behavior::AwsRest, Behavior::AwsHttp] {
        for http in [PlainHttp::Redirect, PlainHttp::Serve, PlainHttp::Off] {
            let mut parts = stage_of("prod", &["shop.example"], "/", Some(trusting(&[&partners])));
            if let PartBody::Stage(stage) = &mut parts[0].1 {
                stage.tls = Some(StageTls { http, hsts: None, incomplete: false });
                stage.behavior = behavior;
            }
            gate.put(parts);
            let over_balancer =
                [("x-forwarded-proto", "https"), ("x-forwarded-client-cert", "Hash=00"), ("client-cert", ":AAAA:")];
            let response = gate.request("GET", "/a", &over_balancer, "");
            assert_eq!(response.status, 403, "{behavior:?} {http:?}");
            if behavior == Behavior::AwsRest {
                assert_eq!(response.header("x-amzn-errortype"), Some("ForbiddenException"));
            }
            if behavior != Behavior::Native {
                assert_eq!(response.body, r#"{"message":"Forbidden"}"#);
            }
            let plain = gate.get("/a").status;
            assert_eq!(plain, if http == PlainHttp::Redirect { 308 } else { 403 }, "{behavior:?} {http:?}");
            assert_eq!(get(&gate, &server, None, "shop.example").unwrap().status, 403, "{behavior:?} {http:?}");
        }
    }
}

#[test]
fn a_stage_whose_authorities_cannot_be_used_serves_nothing() {
    let (server, partners) = (issue("shop.example"), Authority::new("Partners"));
    let client = partners.issue("a");
    let good = trusting(&[&partners]);
    let mut gate = with_one_thread();
    gate.put(vec![certificate(&server)]);
    for broken in [
        ClientAuth { roots: vec![], ..good.clone() },
        ClientAuth { roots: vec!["AAAA".into()], ..good.clone() },
        ClientAuth { roots: vec!["?".into()], ..good.clone() },
        ClientAuth { revocation: vec!["AAAA".into()], ..good.clone() },
    ] {
        gate.put(stage_of("prod", &["shop.example"], "/", Some(good.clone())));
        assert_eq!(get(&gate, &server, Some(&client), "shop.example").unwrap().status, 200);
        let diagnostics = gate.put(stage_of("prod", &["shop.example"], "/", Some(broken)));
        assert!(diagnostics.iter().any(|found| found.message.contains("Client certificates")), "{diagnostics:?}");
        assert_eq!(get(&gate, &server, Some(&client), "shop.example").unwrap().status, 500);
    }
    // The mark of a newer operator without the field: this is how an older proxy sees it.
    let mut parts = stage_of("prod", &["shop.example"], "/", Some(good));
    if let PartBody::Stage(stage) = &mut parts[0].1 {
        stage.client_auth = None;
    }
    gate.put(parts);
    assert_eq!(get(&gate, &server, Some(&client), "shop.example").unwrap().status, 500);
}
