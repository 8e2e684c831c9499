//! A backend in threads: a function makes its response from the raw head and body of a request.

use std::collections::HashMap;
use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::http1::read_until;
use crate::tls::{Issued, server_config};

/// A server for HTTP/1.1 that listens until the test process ends or [`Backend::close`] is called.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// The requests so far.
    pub requests: Arc<AtomicUsize>,
    /// The connections so far.
    pub connections: Arc<AtomicUsize>,
    open: Arc<Open>,
}

/// What [`Backend::close`] ends.
#[derive(Debug, Default)]
struct Open {
    closed: AtomicBool,
    streams: Mutex<HashMap<usize, TcpStream>>,
}

impl Backend {
    /// A backend on loopback whose responses, as raw text, come from `respond(head, body)`. An empty text closes the
    /// connection.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub fn start(respond: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), None, respond)
    }

    /// The same with TLS.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub fn start_tls(issued: &Issued, respond: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), Some(issued), respond)
    }

    /// The same on another address of this machine, with or without TLS.
    ///
    /// # Panics
    ///
    /// When the address is not of this machine, or no port is free.
    pub fn start_on(
        address: IpAddr,
        tls: Option<&Issued>,
        respond: impl Fn(&str, &str) -> String + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(SocketAddr::new(address, 0), tls, respond)
    }

    /// The same on a certain port: a host with several addresses has one port.
    ///
    /// # Panics
    ///
    /// When the address is not of this machine, or the port is not free.
    pub fn start_at(
        address: SocketAddr,
        tls: Option<&Issued>,
        respond: impl Fn(&str, &str) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let open = Arc::new(Open::default());
        let backend =
            Self { address, requests: requests.clone(), connections: connections.clone(), open: open.clone() };
        let tls = tls.map(|issued| Arc::new(server_config(issued, &["http/1.1"])));
        let respond = Arc::new(respond);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if open.closed.load(Ordering::SeqCst) {
                    return;
                }
                let number = connections.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).unwrap_or_default();
                open.streams.lock().unwrap().insert(number, stream.try_clone().unwrap());
                let (requests, respond, tls, open) = (requests.clone(), respond.clone(), tls.clone(), open.clone());
                std::thread::spawn(move || {
                    match tls.map(|tls| ServerConnection::new(tls).unwrap()) {
                        None => serve(stream, &requests, &*respond),
                        Some(tls) => serve(StreamOwned::new(tls, stream), &requests, &*respond),
                    }
                    open.end(number);
                });
            }
        });
        backend
    }

    /// A backend that repeats the request that it got.
    #[must_use]
    pub fn echo() -> Self {
        Self::start(|head, body| ok(&format!("{head}{body}")))
    }

    /// How many requests it got.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Stops listening and closes every connection.
    pub fn close(&self) {
        self.open.closed.store(true, Ordering::SeqCst);
        // Wakes the thread that listens, which then ends.
        drop(TcpStream::connect(self.address));
        let numbers: Vec<usize> = self.open.streams.lock().unwrap().keys().copied().collect();
        numbers.into_iter().for_each(|number| self.open.end(number));
    }
}

impl Open {
    fn end(&self, number: usize) {
        let stream = self.streams.lock().unwrap().remove(&number);
        stream.map(|stream| stream.shutdown(Shutdown::Both)).transpose().unwrap_or_default();
    }
}

/// A response 200 with a body.
#[must_use]
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A response 200 with JSON that describes the request: the backend's name, and method, path and headers as received.
#[must_use]
pub fn described(name: &str, head: &str) -> String {
    let mut lines = head.lines();
    let mut fields = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let headers: serde_json::Map<String, Value> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), Value::from(value)))
        .collect();
    let body = json!({"name": name, "method": method, "path": path, "headers": headers}).to_string();
    let length = body.len();
    // A response to HEAD has the headers of the one to GET, and no body.
    let body = if method == "HEAD" { "" } else { &body };
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn serve(stream: impl Read + Write, requests: &AtomicUsize, respond: &(impl Fn(&str, &str) -> String + ?Sized)) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some((head, body))) = read_request(&mut stream) {
        requests.fetch_add(1, Ordering::SeqCst);
        let text = respond(&head, &body);
        let stream = stream.get_mut();
        if text.is_empty() || stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

fn read_request(stream: &mut impl Read) -> std::io::Result<Option<(String, String)>> {
    let head = read_until(stream, b"\r\n\r\n")?;
    if !head.ends_with(b"\r\n\r\n") {
        return Ok(None);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if let Some(length) = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()) {
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
    } else if lower.contains("transfer-encoding: chunked") {
        body = read_until(stream, b"0\r\n\r\n")?;
        if !body.ends_with(b"0\r\n\r\n") {
            return Ok(None);
        }
    }
    Ok(Some((head, String::from_utf8_lossy(&body).into_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Http2, http1, tls};

    #[test]
    fn a_backend_counts_describes_and_closes() {
        let backend = Backend::start(|head, _| described("one", head));
        let response = http1::send(backend.address, "GET", "/a?b=c", &[("x-tenant", "t")], "").unwrap();
        let body = response.json();
        assert_eq!(
            (&body["name"], &body["path"], &body["headers"]["x-tenant"]),
            (&json!("one"), &json!("/a?b=c"), &json!("t"))
        );
        let mut kept = http1::connect(backend.address).unwrap();
        kept.write_all(http1::request("h", "GET", "/", &[], "").as_bytes()).unwrap();
        assert_eq!(http1::read_response(&mut kept).status, 200);
        assert_eq!((backend.requests(), backend.connections.load(Ordering::SeqCst)), (2, 2));
        let silent = Backend::start(|_, _| String::new());
        assert!(http1::get(silent.address, "/").is_err(), "an empty response closes the connection");
        backend.close();
        assert_eq!(kept.read(&mut [0]).unwrap_or_default(), 0);
        crate::eventually("the port is closed", || TcpStream::connect(backend.address).is_err());
    }

    #[test]
    fn a_client_trusts_the_given_certificate_only() {
        let (right, wrong) = (tls::issue("localhost"), tls::issue("localhost"));
        let backend = Backend::start_tls(&right, |head, body| ok(&format!("{head}{body}")));
        let open = |trusted| {
            Http2::connect_tls(backend.address, "localhost", tls::client_config(&[trusted], &["h2", "http/1.1"]))
        };
        assert_eq!(open(&right).unwrap_err().to_string(), "HTTP/2 was not agreed on");
        assert!(open(&wrong).unwrap_err().to_string().contains("certificate"));
    }
}
