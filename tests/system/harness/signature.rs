//! Signs a request as clients of AWS do, in its simplest form: a GET without a query and without a body.

use aws_lc_rs::{digest, hmac};
use k8s_openapi::jiff::Timestamp;
use sluice_kit::client::{Call, get};

/// Temporary credentials, or those of an access key without a session token.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) session_token: Option<String>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// A signed `GET path` at a host, for execute-api in us-east-1.
pub(crate) fn signed(host: &str, path: &str, by: &Credentials) -> Call {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = time.split('T').next().unwrap_or_default().to_owned();
    let token = by.session_token.as_deref();
    let names = if token.is_some() { "host;x-amz-date;x-amz-security-token" } else { "host;x-amz-date" };
    let token_line = token.map(|token| format!("x-amz-security-token:{token}\n")).unwrap_or_default();
    let canonical = format!("GET\n{path}\n\nhost:{host}\nx-amz-date:{time}\n{token_line}\n{names}\n{}", sha256(b""));
    let scope = format!("{day}/us-east-1/execute-api/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let first = format!("AWS4{}", by.secret).into_bytes();
    let key = [&*day, "us-east-1", "execute-api", "aws4_request"].iter().fold(first, |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &to_sign));
    let id = &by.id;
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
    let call = get(host, path).header("x-amz-date", time).header("authorization", authorization);
    token.iter().fold(call, |call, token| call.header("x-amz-security-token", *token))
}
