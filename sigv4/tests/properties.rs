//! What is signed is verified, and nothing else is.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::collection::vec;
use proptest::prelude::*;
use sluice_sigv4::{BodyHash, Options, Presented, RequestParts, Signer, signing_key};

use crate::{ACCESS_KEY_ID, SECRET};

#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    host: String,
    body: Vec<u8>,
    presigned: bool,
    options: Options,
    epoch: u64,
}

impl Request {
    fn parts<'a>(&'a self, method: &'a Method) -> RequestParts<'a> {
        let (path, query) = (&self.path, self.query.as_deref());
        RequestParts { method, path, query, headers: &self.headers, host: Some(&self.host) }
    }

    fn sign(mut self) -> Self {
        let time = UNIX_EPOCH + Duration::from_secs(self.epoch);
        let signer = Signer::new(ACCESS_KEY_ID, SECRET, "eu-central-1", "execute-api", time)
            .with_session_token("token/+=")
            .with_options(self.options);
        let (method, body) = (self.method.parse().unwrap(), BodyHash::of(&self.body));
        if self.presigned {
            let query = signer.presign(&self.parts(&method), Duration::from_secs(60), &body).unwrap();
            self.query = Some(query);
        } else {
            let added = signer.sign(&self.parts(&method), &body).unwrap();
            self.headers.extend(added);
        }
        self
    }

    fn verifies(&self, key: &[&str; 4]) -> bool {
        let Ok(Some(presented)) = Presented::find(&self.headers, self.query.as_deref(), self.options) else {
            return false;
        };
        let key = signing_key(key[0], key[1], key[2], key[3]);
        let method = self.method.parse().unwrap();
        presented.verify(&key, &self.parts(&method), &BodyHash::of(&self.body)).is_ok()
    }

    fn key(day: &str) -> [&str; 4] {
        [SECRET, day, "eu-central-1", "execute-api"]
    }
}

const DAY: &str = "20240229";
const EPOCH: u64 = 1_709_164_800;

fn requests() -> impl Strategy<Value = Request> {
    let header = ("x-[a-z]{1,6}", "[ -~é]{0,12}");
    let text = (
        "[A-Z]{3,7}",
        "(/([a-zA-Z0-9~*!@:é ]|%[0-9A-F]{2}|[.]){0,6}){1,5}",
        proptest::option::of("([a-c]{0,2}=?([a-z0-9+*~é ]|%[0-9A-Fa-f]{2}){0,5}&?){0,5}"),
        "[a-z]{1,9}[.]example(:[1-9][0-9]{2})?",
    );
    let rest = (vec(header, 0..5), vec(any::<u8>(), 0..40), any::<[bool; 3]>(), 0..86_400u64);
    (text, rest).prop_map(|((method, path, query, host), (list, body, flags, second))| {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        let [presigned, double_encode, normalize] = flags;
        let options = Options { double_encode, normalize, ..Options::default() };
        Request { method, path, query, headers, host, body, presigned, options, epoch: EPOCH + second }
    })
}

/// A letter that is not the one at a place, if a letter or digit is there and no part of an escape.
fn change(text: &str, at: prop::sample::Index) -> Option<String> {
    let at = at.index(text.len().max(1));
    let bytes = text.as_bytes();
    let escape = |back: usize| at >= back && bytes[at - back] == b'%';
    if !bytes.get(at)?.is_ascii_alphanumeric() || escape(1) || escape(2) {
        return None;
    }
    let mut changed = bytes.to_vec();
    changed[at] = if changed[at] == b'q' { b'r' } else { b'q' };
    String::from_utf8(changed).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_signed_is_verified(request in requests()) {
        prop_assert!(request.sign().verifies(&Request::key(DAY)));
    }

    #[test]
    fn a_changed_byte_is_rejected(request in requests(), at: prop::sample::Index, body_byte in 1..=255u8) {
        let signed = request.sign();
        let key = Request::key(DAY);
        if let Some(method) = change(&signed.method, at) {
            let changed = Request { method, ..signed.clone() };
            prop_assert!(!changed.verifies(&key));
        }
        // What a dot segment removes is no part of a normalized path.
        let all_counts = !signed.options.normalize || !signed.path.contains("/..");
        if let Some(path) = change(&signed.path, at).filter(|_| all_counts) {
            let changed = Request { path, ..signed.clone() };
            prop_assert!(!changed.verifies(&key));
        }
        if let Some(query) = signed.query.as_deref().and_then(|query| change(query, at)) {
            let changed = Request { query: Some(query), ..signed.clone() };
            prop_assert!(!changed.verifies(&key));
        }
        if let Some(host) = change(&signed.host, at) {
            let changed = Request { host, ..signed.clone() };
            prop_assert!(!changed.verifies(&key));
        }
        let mut body = signed.body.clone();
        if body.is_empty() {
            body.push(body_byte);
        } else {
            let at = at.index(body.len());
            body[at] ^= body_byte;
        }
        let changed = Request { body, ..signed.clone() };
            prop_assert!(!changed.verifies(&key));
        for name in signed.headers.keys() {
            let text = String::from_utf8(signed.headers[name].as_bytes().to_vec()).unwrap();
            // The header of the credential has parts that nothing depends on, as its separators.
            let Some(value) = change(&text, at).filter(|_| name != "authorization") else { continue };
            let mut headers = signed.headers.clone();
            *headers.get_mut(name).unwrap() = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            let changed = Request { headers, ..signed.clone() };
            prop_assert!(!changed.verifies(&key), "{}", name);
        }
        for part in 0..4 {
            let mut key = key;
            let changed = change(key[part], at);
            let Some(changed) = changed.as_deref() else { continue };
            key[part] = changed;
            prop_assert!(!signed.verifies(&key));
        }
    }

    #[test]
    fn a_changed_scope_or_signature_is_rejected(request in requests(), at: prop::sample::Index) {
        let signed = Request { presigned: false, ..request }.sign();
        let text = signed.headers["authorization"].to_str().unwrap();
        let (_, rest) = text.split_once("AKIDEXAMPLE").unwrap();
        if let Some(changed) = change(rest, at) {
            let mut headers = signed.headers.clone();
            let text = text.replace(rest, &changed);
            headers.insert("authorization", HeaderValue::from_str(&text).unwrap());
            let changed = Request { headers, ..signed.clone() };
            prop_assert!(!changed.verifies(&Request::key(DAY)));
        }
    }

    #[test]
    fn a_removed_or_added_part_is_rejected(request in requests()) {
        let signed = request.sign();
        let key = Request::key(DAY);
        for name in signed.headers.keys() {
            if signed.headers[name].as_bytes().iter().all(|byte| *byte == b' ') {
                continue;
            }
            let mut headers = signed.headers.clone();
            headers.remove(name);
            let changed = Request { headers, ..signed.clone() };
            prop_assert!(!changed.verifies(&key), "{}", name);
        }
        let query = format!("{}&added", signed.query.clone().unwrap_or_default());
        let changed = Request { query: Some(query), ..signed.clone() };
            prop_assert!(!changed.verifies(&key));
        let path = format!("{}/added", signed.path);
        let changed = Request { path, ..signed.clone() };
            prop_assert!(!changed.verifies(&key));
    }

    #[test]
    fn any_header_and_query_is_read_or_rejected(
        header in vec((32..=255u8).prop_map(|byte| if byte == 127 { 9 } else { byte }), 0..200),
        parts in vec("(Credential|SignedHeaders|Signature|)=?[a-z/;0-9=]{0,20}[, ]{0,2}", 0..6),
        date in "[0-9TZ]{0,17}",
        query in "(X-Amz-(Algorithm|Credential|Date|Expires|SignedHeaders|Signature)=?[^&]{0,12}&?){0,6}",
    ) {
        let text = format!("AWS4-HMAC-SHA256 {}", parts.concat());
        for value in [header.as_slice(), text.as_bytes()] {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::from_bytes(value).unwrap());
            headers.insert("x-amz-date", HeaderValue::from_str(&date).unwrap());
            let found = Presented::find(&headers, None, Options::default());
            let is_complete = matches!(&found, Ok(Some(_)));
            prop_assert!(found.is_err() || is_complete);
            if let Err(error) = found {
                prop_assert!(!error.to_string().is_empty() && !error.redacted().is_empty());
            }
        }
        if let Ok(Some(presented)) = Presented::find(&HeaderMap::new(), Some(&query), Options::default()) {
            prop_assert!(presented.is_presigned());
        }
    }
}
