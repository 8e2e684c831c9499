//! HTTP/1.1 from a thread: a request is text, so that a test can also send what no client would.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Nothing takes longer on a machine that works.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A response, completely read.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The status code; 0 where there was no status line.
    pub status: u16,
    /// The headers in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body without its transfer coding.
    pub body: String,
}

impl Response {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// The text of a request; `host` is sent unless `headers` have one, and `content-length` where there is a body.
#[must_use]
pub fn request(host: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("host: {host}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text
}

/// Connects, with [`TIMEOUT`] for every read and write.
///
/// # Errors
///
/// If no server listens at the address.
pub fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request to `localhost` on a connection of its own.
///
/// # Errors
///
/// Where the connection fails, or what comes back is no response.
pub fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<Response> {
    let mut stream = connect(address)?;
    stream.write_all(request("localhost", method, path, headers, body).as_bytes())?;
    let response = if method == "HEAD" { try_read_head(&mut stream)? } else { try_read_response(&mut stream)? };
    if response.status == 0 {
        return Err(std::io::Error::other("the connection was closed without a response"));
    }
    Ok(response)
}

/// A GET; see [`send`].
///
/// # Errors
///
/// As [`send`].
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<Response> {
    send(address, "GET", path, &[], "")
}

/// Reads status line and headers, and nothing beyond them. Status 0 where the connection ends before the status line.
pub fn read_head(stream: &mut impl Read) -> Response {
    try_read_head(stream).unwrap_or_default()
}

/// Reads a response with its body.
///
/// # Panics
///
/// When the connection ends within the body.
pub fn read_response(stream: &mut impl Read) -> Response {
    match try_read_head(stream) {
        Ok(head) => try_read_body(head, stream).unwrap(),
        Err(_) => Response::default(),
    }
}

fn try_read_response(stream: &mut impl Read) -> std::io::Result<Response> {
    let head = try_read_head(stream)?;
    try_read_body(head, stream)
}

fn try_read_head(stream: &mut impl Read) -> std::io::Result<Response> {
    let text = read_until(stream, b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap_or(0);
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    Ok(Response { status, headers, body: String::new() })
}

/// Byte by byte, so that nothing of what follows is taken from the stream. The end of the stream ends the text as well.
pub(crate) fn read_until(stream: &mut impl Read, end: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end) && stream.read(&mut byte)? == 1 {
        text.push(byte[0]);
    }
    Ok(text)
}

fn try_read_body(mut response: Response, stream: &mut impl Read) -> std::io::Result<Response> {
    let mut body = Vec::new();
    if let Some(length) = response.header("content-length").and_then(|value| value.parse::<usize>().ok()) {
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
    } else if response.header("transfer-encoding").is_some() {
        loop {
            let line = read_until(stream, b"\r\n")?;
            let size =
                usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).map_err(std::io::Error::other)?;
            let start = body.len();
            body.resize(start + size + 2, 0);
            let chunk = body.get_mut(start..).unwrap_or_default();
            stream.read_exact(chunk)?;
            body.truncate(start + size);
            if size == 0 {
                break;
            }
        }
    }
    response.body = String::from_utf8_lossy(&body).into_owned();
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read_to_its_end_and_not_beyond() {
        let two = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n\
                   HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
        let mut stream = two.as_bytes();
        let first = read_response(&mut stream);
        assert_eq!((first.status, first.body.as_str()), (200, "abcde"));
        let second = read_response(&mut stream);
        assert_eq!((second.status, second.body.as_str(), second.header("content-length")), (404, "no", Some("2")));
        assert_eq!(read_response(&mut stream).status, 0);
    }
}
