//! Certificates by name, changed while serving.

use std::io::Write as _;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sluice_wire::*;

use crate::harness::*;

struct Issued {
    chain_pem: String,
    key_pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
}

fn issue(name: &str) -> Issued {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    Issued { chain_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
}

fn certificate(name: &str, issued: &Issued) -> (PartName, PartBody) {
    let object = ObjectRef::new("Secret", "shop", name);
    let part = CertificatePart { object, chain_pem: issued.chain_pem.clone(), key_pem: issued.key_pem.clone() };
    (PartName::new(PartKind::Certificate, format!("shop/{name}")), PartBody::Certificate(part))
}

fn https(gate: &Gate, name: &str, trusted: &Issued) -> std::io::Result<Answer> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let connection =
        ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).map_err(std::io::Error::other)?;
    let stream = std::net::TcpStream::connect(gate.proxy.https_addr().unwrap())?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(format!("GET /a HTTP/1.1\r\nhost: {name}\r\n\r\n").as_bytes())?;
    Ok(read_answer(&mut stream))
}

#[test]
fn the_certificate_of_the_name_is_shown_and_follows_its_secret() {
    let mut gate = Gate::start();
    let (one, two) = (issue("shop.example"), issue("shop.example"));
    let with = StagePart { certificate: Some(PartName::new(PartKind::Certificate, "shop/tls")), ..stage() };
    gate.put(vec![
        stage_part(with),
        certificate("tls", &one),
        route("r", vec![rule("a", "GET", "/a", policy(mock("a")))]),
    ]);
    assert_eq!(https(&gate, "shop.example", &one).unwrap().body, "a");
    assert!(https(&gate, "shop.example", &two).is_err());
    assert!(https(&gate, "other.example", &one).is_err());
    gate.put(vec![certificate("tls", &two)]);
    assert_eq!(https(&gate, "shop.example", &two).unwrap().body, "a");
    assert!(https(&gate, "shop.example", &one).is_err());
    let broken = Issued { key_pem: "no key".into(), ..two };
    let diagnostics = gate.put(vec![certificate("tls", &broken)]);
    assert!(diagnostics.iter().any(|d| d.message.contains("shop/tls")), "{diagnostics:?}");
    assert!(https(&gate, "shop.example", &broken).is_err());
    assert_eq!(gate.get("/a").status, 200);
}
