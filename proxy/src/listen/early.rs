//! Responses to requests that are rejected before there is a request: their heads cannot be parsed, or have two readings. The
//! connection ends with the response.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Response};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::context::{EarlyRequest, Handler};
use crate::client::Peer;
use crate::reject::Reject;

/// So much is read of what a client still sends: a socket that is closed with unread bytes
/// discards what was sent.
const UNREAD: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// Rejects a request and closes the connection.
pub(super) async fn respond<S>(
    mut socket: S,
    peer: Arc<Peer>,
    request: EarlyRequest,
    reject: &Reject,
    handler: &impl Handler,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head_only = request.parts.method == Method::HEAD;
    let response = handler.reject(peer, request, reject);
    let bytes = encode(&response, head_only);
    let sent = async {
        socket.write_all(&bytes).await?;
        socket.flush().await?;
        socket.shutdown().await?;
        let mut buffer = [0; 4096];
        let mut unread = 0;
        while unread < UNREAD {
            match socket.read(&mut buffer).await? {
                0 => break,
                size => unread += size,
            }
        }
        std::io::Result::Ok(())
    };
    if !matches!(tokio::time::timeout(LINGER, sent).await, Ok(Ok(()))) {
        tracing::debug!("client did not read the response to an invalid request");
    }
}

/// As HTTP/1.1 text.
fn encode(response: &Response<Bytes>, head_only: bool) -> Vec<u8> {
    let status = response.status();
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("Error").as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in response.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"connection: close\r\ndate: ");
    out.extend_from_slice(httpdate::fmt_http_date(SystemTime::now()).as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    if !head_only {
        out.extend_from_slice(response.body());
    }
    out
}
