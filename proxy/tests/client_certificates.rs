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

fn last_line(gate: &Gate, count: usize) -> serde_json::Value {
    eventually("a line", || gate.log.lines().len() >= count);
    gate.log.lines().pop().unwrap()
}

#[test]
fn a_client_needs_a_certificate_of_the_stage_and_its_fields_are_variables() {
    let (server, partners, others) = (issue("shop.example"), Authority::new("Partners"), Authority::new("Others"));
    let mut gate = Gate::start();
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
