//! The fuzz targets: functions that panic where a property does not hold for some bytes. `fuzz_targets/` runs them with libFuzzer
//! (`make fuzz`); `tests/fuzz.rs` runs them over the committed corpus and a fixed number of mutations, on stable Rust (`make test`).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_iam::{Context, Kind, Options, Policy, Principal, Request, Values, Verdict};
use sluice_proxy::config::store::Store;
use sluice_proxy::internals::{self, Tokens};
use sluice_proxy::run::AddressHeader;
use sluice_sigv4::{BodyHash, Presented, RequestParts, SigningKey};
use sluice_wire::codec::{Decoder, encode};
use sluice_wire::{
    Algorithm, AuthorizerPart, ClientAuthentication, Down, Frame, Hash, Introspection, Issuer, Jwt, KeySource,
    ObjectRef, Template, TokenSource, Up, default_token_types,
};

/// A path has one canonical form or none, and nothing that decodes it again finds another path in it.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(internals::query_pairs(text));
    let Some(canonical) = internals::canonical_path(text) else { return };
    assert_eq!(internals::canonical_path(&canonical).as_deref(), Some(canonical.as_str()), "not idempotent: {text:?}");
    assert!(canonical.starts_with('/') && canonical.is_ascii(), "{canonical:?}");
    let decoded = decode(decode(canonical.clone().into_bytes()));
    for text in [canonical.as_bytes(), &decoded] {
        let count = |text: &[u8]| text.split(|byte| *byte == b'/').count();
        assert_eq!(count(text), count(canonical.as_bytes()), "decoding adds a segment: {canonical:?}");
        for segment in text.split(|byte| *byte == b'/' || *byte == b'\\') {
            let bare = segment.split(|byte| *byte == b';').next().unwrap_or_default();
            assert!(!matches!(bare, b"." | b".."), "a dot segment: {canonical:?}");
        }
        assert!(!text.iter().any(u8::is_ascii_control), "a control character: {canonical:?}");
    }
}

/// Whatever a client writes before what a trusted proxy appends, the client has the address that the proxy states, or the request
/// is rejected.
pub fn source(data: &[u8]) {
    for (header, appended) in [
        (AddressHeader::XForwardedFor, &b", 203.0.113.7"[..]),
        (AddressHeader::XForwardedFor, b", 203.0.113.7:4711, 10.2.2.2"),
        (AddressHeader::Forwarded, b", for=203.0.113.7"),
        (AddressHeader::Forwarded, b", for=203.0.113.7;proto=https, for=10.2.2.2"),
    ] {
        let Ok(value) = HeaderValue::from_bytes(&[data, appended].concat()) else { return };
        let found = internals::stated_client(header, value);
        let malformed = header == AddressHeader::Forwarded && found.is_none();
        assert!(malformed || found == Some([203, 0, 113, 7].into()), "{header:?} {}: {found:?}", data.escape_ascii());
    }
}

/// What a certificate states can be a header's value, whatever it contains, and bytes after it make it invalid.
pub fn certificate(data: &[u8]) {
    let Some(fields) = internals::certificate_fields(data) else { return };
    for (field, text) in &fields {
        assert!(text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)), "{field:?}: {text:?}");
        assert_eq!(text.trim(), text, "{field:?}: a recipient would remove white space");
    }
    assert!(internals::certificate_fields(&[data, &[0]].concat()).is_none(), "bytes after the certificate");
}

/// A policy has one reading: white space and the order of members do not change what it decides, and a statement that denies
/// everything denies everything, whatever is beside it.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(decided) = verdict(text) else { return };
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { panic!("a policy that is not JSON: {text:?}") };
    assert_eq!(verdict(&value.to_string()), Some(decided), "{text:?}");
    let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"});
    match &mut value["Statement"] {
        Value::Array(list) => list.push(deny),
        one => *one = json!([one.take(), deny]),
    }
    assert!(matches!(verdict(&value.to_string()), None | Some('-')), "{text:?}");
}

/// `+`, `-` or `0` for a request with some context; none: the document is rejected.
pub fn verdict(text: &str) -> Option<char> {
    struct Facts;
    impl Context for Facts {
        fn values(&self, key: &str) -> Values<'_> {
            Values::borrowed(match key {
                "aws:sourceip" => Some("192.0.2.7"),
                "aws:securetransport" => Some("true"),
                "aws:useragent" => Some("shop/1.0"),
                "aws:epochtime" => Some("1800000000"),
                _ => None,
            })
        }
    }
    let options = Options { resource_prefix: Some("arn:aws:execute-api:eu-west-1:111122223333:shop") };
    let policy = Policy::parse(text, Kind::Resource, options).ok()?;
    let verdict = policy.evaluate(&Request {
        action: "execute-api:Invoke",
        resource: "arn:aws:execute-api:eu-west-1:111122223333:shop/prod/GET/orders/7",
        principal: Principal::Anonymous,
        context: &Facts,
    });
    Some(match verdict {
        Verdict::Allow(_) => '+',
        Verdict::Deny(_) => '-',
        Verdict::Silent => '0',
    })
}

/// Percent decoding as a lenient backend does it.
fn decode(bytes: Vec<u8>) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// The public half of a key whose private half is deleted; `corpus/token/valid` is signed with it.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "fuzz", "x": "5-jl_a-HIGP45D09NklSqyM7FAPXFIp95NwYiR1fNNE", "y": "JA_xMqe_yNOJgxoVWDj_oNUA2d_4dsuV3B3joPipifc"}]}"#;

/// Of all values of the `authorization` header only the one that was signed is accepted.
pub fn token(data: &[u8]) {
    if accepts(data) {
        let (scheme, token) = data.trim_ascii().split_at("Bearer".len());
        let signed = include_str!("corpus/token/valid").trim_start_matches("Bearer ");
        let same = scheme.eq_ignore_ascii_case(b"bearer") && token.trim_ascii() == signed.as_bytes();
        assert!(same, "accepted: {:?}", data.escape_ascii().to_string());
    }
}

/// Whether a request with this `authorization` header is authorized.
pub fn accepts(authorization: &[u8]) -> bool {
    let value = HeaderValue::from_bytes(authorization);
    value.is_ok_and(|value| tokens().accept(&HeaderMap::from_iter([(AUTHORIZATION, value)])))
}

/// Of a request with a verified token, no other place in which a token is accepted reaches the backend, and everything else with
/// usual names does.
/// The first line is the query; the others are cookies and subprotocols.
pub fn credential(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let query = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let Ok(uri) = format!("/a?{query}").parse::<Uri>() else { return };
    let mut headers = HeaderMap::new();
    for line in lines {
        let Ok(value) = HeaderValue::from_bytes(line.trim_ascii()) else { return };
        let name = if line.contains(&b'=') { COOKIE } else { SEC_WEBSOCKET_PROTOCOL };
        headers.append(name, value);
    }
    let sent = uri.query().unwrap_or_default().to_owned();
    let (query, forwarded) = tokens().forwarded(uri, headers.clone()).expect("the rest of a query is a query");
    let split = |value: &[u8], separators: &[u8]| -> Vec<Vec<u8>> {
        let all = value.split(|byte| separators.contains(byte)).map(|element| element.trim_ascii().to_vec());
        all.filter(|element| !element.is_empty()).collect()
    };
    let elements = |headers: &HeaderMap, name: &HeaderName, separator: u8| -> Vec<Vec<u8>> {
        headers.get_all(name).into_iter().flat_map(|value| split(value.as_bytes(), &[separator])).collect()
    };
    for (before, after, wanted) in [
        (split(sent.as_bytes(), b"&"), split(query.as_bytes(), b"&"), "accesstoken"),
        (elements(&headers, &COOKIE, b';'), elements(&forwarded, &COOKIE, b';'), "session"),
        (
            elements(&headers, &SEC_WEBSOCKET_PROTOCOL, b','),
            elements(&forwarded, &SEC_WEBSOCKET_PROTOCOL, b','),
            "bearer",
        ),
    ] {
        let mut rest = before.iter();
        assert!(
            after.iter().all(|element| rest.any(|other| other == element)),
            "{after:?} is not a part of {before:?}"
        );
        // Names in the usual characters, with other letters.
        let is_other = |element: &&Vec<u8>| {
            let usual = element.iter().all(|byte| byte.is_ascii_alphanumeric() || b"=-_".contains(byte));
            usual && !element.to_ascii_lowercase().split(|byte| *byte == b'=').any(|name| letters(name) == wanted)
        };
        let others = |elements: &[Vec<u8>]| elements.iter().filter(is_other).cloned().collect::<Vec<_>>();
        assert_eq!(others(&after), others(&before), "of {before:?}");
        // As the least strict backend divides and compares them.
        let dividers: &[u8] = if wanted == "accesstoken" { b";" } else { b"; ,\t\"" };
        for part in after.iter().flat_map(|element| split(element, dividers)) {
            let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
            // Some remove other white space than that of ASCII around a name, and none removes it in a name.
            let start = name.iter().position(u8::is_ascii).unwrap_or(name.len());
            let end = name.iter().rposition(u8::is_ascii).map_or(start, |last| last + 1);
            let name = name.get(start..end).filter(|name| name.is_ascii()).unwrap_or_default();
            let named = letters(&decode_form(&String::from_utf8_lossy(name))) == wanted;
            let is_token = match wanted {
                "bearer" => part.to_ascii_lowercase().starts_with(b"bearer."),
                "session" => named && part.contains(&b'='),
                _ => named,
            };
            assert!(!is_token, "{part:?} of {before:?} is forwarded");
        }
    }
}

/// Letters and digits in lower case.
fn letters(text: &[u8]) -> String {
    text.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

/// Decodes a name of a form as a backend does it.
fn decode_form(text: &str) -> Vec<u8> {
    decode(text.replace('+', " ").into_bytes())
}

fn tokens() -> &'static Tokens {
    static TOKENS: LazyLock<(Tokens, tokio::runtime::Runtime)> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be built");
        let keys = KeySource::Inline(KEYS.to_owned());
        let jwt = Jwt {
            issuers: vec![Issuer {
                issuer: "https://idp.example".into(),
                audiences: vec!["shop".into()],
                any_audience: false,
                keys,
            }],
            algorithms: vec![Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA],
            token_from: vec![
                TokenSource::Header { header: "authorization".into(), scheme: Some("Bearer".into()) },
                TokenSource::Query { query: "access_token".into() },
                TokenSource::Cookie { cookie: "session".into() },
                TokenSource::WebSocketProtocol { web_socket_protocol: "bearer.".into() },
            ],
            clock_skew_s: 0,
            required_claims: BTreeMap::new(),
            token_types: default_token_types(),
        };
        let object = ObjectRef::new("Authorizer", "shop", "idp");
        let part = AuthorizerPart { object, kind: sluice_wire::AuthorizerKind::Jwt(jwt) };
        (Tokens::new(&part, runtime.handle().clone()).unwrap(), runtime)
    });
    &TOKENS.0
}

/// Whatever an introspection endpoint responds, a token is accepted only if every reader finds an active token for the audience
/// in it that has not expired.
pub fn introspection(data: &[u8]) {
    if !introspected(data) {
        return;
    }
    let text = data.escape_ascii().to_string();
    let response: Value = serde_json::from_slice(data).expect("JSON is accepted only");
    assert_eq!(response.get("active"), Some(&Value::Bool(true)), "{text}");
    let for_shop = match &response["aud"] {
        Value::Array(list) => list.iter().any(|audience| audience == "shop"),
        Value::Null => response["client_id"] == "shop",
        audience => audience == "shop",
    };
    assert!(for_shop && response["iss"] == "https://idp.example", "{text}");
    let time = |name: &str| response.get(name).map(|time| time.as_f64().expect("a time is a number"));
    let now = INTROSPECTED_AT as f64;
    assert!(time("exp").is_none_or(|exp| exp > now - 61.0), "{text}");
    assert!(time("nbf").is_none_or(|nbf| nbf < now + 61.0), "{text}");
}

const INTROSPECTED_AT: u64 = 1_800_000_000;

/// Whether a token is accepted for a response of its endpoint.
pub fn introspected(response: &[u8]) -> bool {
    let part = Introspection {
        url: "https://idp.example/introspect".into(),
        client_id: "gateway".into(),
        client_secret: "fuzz".into(),
        client_authentication: ClientAuthentication::Basic,
        token_from: Vec::new(),
        issuer: Some("https://idp.example".into()),
        audiences: vec!["shop".into()],
        any_audience: false,
        required_claims: BTreeMap::new(),
        result_ttl_ms: 60_000,
        timeout_ms: 1_000,
    };
    internals::introspected(&part, response, UNIX_EPOCH + Duration::from_secs(INTROSPECTED_AT))
}

/// A template that parses prints as a text that parses to the same template.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(template) = text.parse::<Template>() else { return };
    let printed = template.to_string();
    let again: Result<Template, _> = printed.parse();
    assert_eq!(again.as_ref(), Ok(&template), "{text:?} prints as {printed:?}");
    assert!(!printed.chars().any(|c| c.is_control() && c != '\t'), "{printed:?}");
    let json = serde_json::to_string(&template).expect("a template has a JSON form");
    assert_eq!(serde_json::from_str::<Template>(&json).ok().as_ref(), Some(&template), "{json}");
}

/// Frames are decoded alike however the stream is cut, and what was decoded survives another encoding.
pub fn codec(data: &[u8]) {
    frames::<Up>(data);
    frames::<Down>(data);
}

fn frames<T: Serialize + DeserializeOwned + Frame + Debug>(data: &[u8]) {
    // Less than the whole input, so that the cap is tried as well.
    let max = data.len().saturating_sub(8);
    let whole = decoded::<T>(&[data], max);
    let middle = usize::from(data.first().copied().unwrap_or_default()) % (data.len() + 1);
    let (left, right) = data.split_at(middle);
    assert_eq!(decoded::<T>(&[left, right], max), whole, "cut at {middle}");
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(decoded::<T>(&bytes, max), whole, "byte by byte");
    for frame in whole.0 {
        let again = decoded::<T>(&[&frame], usize::MAX);
        assert_eq!(again, (vec![frame], true), "the encoding of a decoded frame");
    }
}

/// The frames of a stream, encoded again, and whether the stream ended between two frames.
fn decoded<T: Serialize + DeserializeOwned + Frame + Debug>(pieces: &[&[u8]], max: usize) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = Decoder::<T>::with_max(max);
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(Ok(frame)) = decoder.next() {
            frames.push(encode(&frame).expect("a decoded frame can be encoded"));
        }
    }
    assert!(decoder.next().is_none(), "a frame is left, or the decoder goes on after an error");
    (frames, decoder.at_boundary())
}

/// A damaged state file is rejected or yields an earlier version; every part that it yields is verified.
pub fn state(data: &[u8]) {
    let folder = Folder::new();
    std::fs::write(folder.0.join("configuration.state"), data).expect("a temporary folder can be written");
    std::fs::write(folder.0.join("fleet.state"), data).expect("a temporary folder can be written");
    let store = Store::open(&folder.0, &sluice_wire::FleetName::default()).expect("a temporary folder can be opened");
    assert!(store.fleet().is_none_or(|proxies| proxies > 0));
    let Some(parts) = store.load() else { return };
    for (name, part) in parts.iter() {
        assert_eq!(name, &part.name);
        assert_eq!(Hash::of(part.json.as_bytes()), part.hash, "an unverified part: {name}");
        // A part may be of another version of the program: it decodes or it does not.
        drop(part.decode());
    }
    let again = Store::open(&folder.0, &sluice_wire::FleetName::default())
        .expect("it was open")
        .load()
        .expect("a file that was loaded can be loaded again");
    assert_eq!(again.version(), parts.version());
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Memory where there is some: a fuzzer opens thousands of files a second.
        let base = Some(PathBuf::from("/dev/shm")).filter(|shm| shm.is_dir()).unwrap_or_else(std::env::temp_dir);
        let path = base.join(format!("sluice-fuzz-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary folder can be made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

const SIGNING_KEY: [u8; 32] = [7; 32];

/// A request in a text: method and target, headers, an empty line, the body.
fn signed_request(data: &[u8]) -> Option<(Method, Uri, HeaderMap, &[u8])> {
    let split = data.windows(2).position(|pair| pair == b"\n\n")?;
    let (head, body) = data.split_at_checked(split)?;
    let mut lines = std::str::from_utf8(head).ok()?.split('\n');
    let (method, target) = lines.next()?.split_once(' ')?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    Some((method.parse().ok()?, target.parse().ok()?, headers, body.get(2..)?))
}

/// What of a request must not differ from the one that was signed: method, path without the segments that normalization removes,
/// parameters in any order, host, and body.
fn meaning(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> (String, Vec<u8>, Vec<String>, Vec<u8>) {
    let mut segments: Vec<&str> = Vec::new();
    for segment in uri.path().split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let ends = uri.path().len() > 1 && uri.path().ends_with('/');
    let path = [segments.join("/").as_bytes(), if ends { &b"/"[..] } else { b"" }].concat();
    let is_signature = |pair: &&str| decode(pair.as_bytes().to_vec()).starts_with(b"X-Amz-Signature");
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !is_signature(pair));
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| decode(text.replace('+', " ").into_bytes()).escape_ascii().to_string();
        format!("{}={}", plain(name), plain(value))
    });
    let mut pairs: Vec<String> = pairs.collect();
    pairs.sort();
    let host =
        headers.get_all("host").iter().map(|value| value.as_bytes().trim_ascii()).collect::<Vec<_>>().join(&b',');
    (method.to_string(), path, pairs, [&host, &b"\n"[..], body].concat())
}

/// Whether a signature is valid for the signing key of the corpus, whatever its time and scope are.
pub fn is_signed(data: &[u8]) -> bool {
    let Some((method, uri, headers, body)) = signed_request(data) else { return false };
    let query = uri.query();
    let Ok(Some(presented)) = Presented::find(&headers, query, sluice_sigv4::Options::default()) else { return false };
    drop(presented.check_time(UNIX_EPOCH + Duration::from_secs(1_795_780_800), Duration::from_secs(300)));
    drop(presented.check_scope(|region| region == "eu-west-1", "execute-api"));
    let request = RequestParts { method: &method, path: uri.path(), query, headers: &headers, host: None };
    let hash = presented.declared_body().cloned().unwrap_or_else(|| BodyHash::of(body));
    presented.verify(&SigningKey::from_bytes(SIGNING_KEY), &request, &hash).is_ok()
        && (hash == BodyHash::of(body) || hash == BodyHash::Unsigned)
}

/// A request with a valid signature is one of those that were signed.
pub fn signature(data: &[u8]) {
    if !is_signed(data) {
        return;
    }
    let signed: [&[u8]; 2] = [include_bytes!("corpus/signature/header"), include_bytes!("corpus/signature/presigned")];
    let meant = |data: &[u8]| {
        let (method, uri, headers, body) = signed_request(data)?;
        Some(meaning(&method, &uri, &headers, body))
    };
    let found = meant(data);
    assert!(
        signed.iter().any(|original| meant(original) == found),
        "another request: {:?}",
        String::from_utf8_lossy(data)
    );
}
