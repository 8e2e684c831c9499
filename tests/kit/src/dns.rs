//! A name server in threads, over UDP and TCP, whose responses can be changed at any time.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};

/// What the server knows of a name.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Its addresses, of one or both families.
    Addresses(Vec<IpAddr>),
    /// The same, in a response that does not fit in a datagram.
    Truncated(Vec<IpAddr>),
    /// It is another name.
    Alias(String),
    /// The name does not exist. That is also the response for names that the server does not know.
    NotFound,
    /// The server fails.
    Failure,
    /// It never responds.
    Silence,
}

/// A name server on a port of loopback.
#[derive(Clone, Debug)]
pub struct Dns {
    /// Where it listens, over UDP and TCP.
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    names: HashMap<String, (u32, Entry)>,
    asked: Vec<String>,
}

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

impl Dns {
    /// A server that knows no name yet.
    ///
    /// # Panics
    ///
    /// When no port is free.
    #[must_use]
    pub fn start() -> Self {
        // A port that is free for both protocols.
        let (datagrams, streams) = std::iter::repeat_with(|| {
            let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let streams = TcpListener::bind(datagrams.local_addr().unwrap()).ok()?;
            Some((datagrams, streams))
        })
        .take(100)
        .flatten()
        .next()
        .unwrap();
        let dns = Self { port: datagrams.local_addr().unwrap().port(), state: Arc::default() };
        let (udp, tcp) = (dns.clone(), dns.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((size, from)) = datagrams.recv_from(&mut buffer) {
                if let Some(response) = buffer.get(..size).and_then(|query| udp.respond(query, true)) {
                    datagrams.send_to(&response, from).unwrap_or_default();
                }
            }
        });
        std::thread::spawn(move || {
            for stream in streams.incoming().map_while(Result::ok) {
                let tcp = tcp.clone();
                std::thread::spawn(move || tcp.serve(stream));
            }
        });
        dns
    }

    /// Changes what the server knows of a name, without a dot at its end.
    ///
    /// # Panics
    ///
    /// When a thread of the server has panicked.
    pub fn set(&self, name: &str, ttl: u32, entry: Entry) {
        self.state.lock().unwrap().names.insert(name.to_owned(), (ttl, entry));
    }

    /// The names that were asked for so far, once for each query, in lower case.
    ///
    /// # Panics
    ///
    /// When a thread of the server has panicked.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            if stream.read_exact(&mut query).is_err() {
                return;
            }
            let Some(response) = self.respond(&query, false) else { continue };
            let length = u16::try_from(response.len()).unwrap().to_be_bytes();
            if stream.write_all(&[&length, response.as_slice()].concat()).is_err() {
                return;
            }
        }
    }

    /// The response to a query (RFC 1035, 4); none: silence.
    fn respond(&self, query: &[u8], datagram: bool) -> Option<Vec<u8>> {
        let (name, kind, question) = question(query)?;
        let mut state = self.state.lock().unwrap();
        state.asked.push(name.clone());
        let (mut records, mut code, mut truncated) = (Vec::new(), 0, false);
        let mut at = name;
        // As a recursive server: with the addresses of the name that is meant.
        for _ in 0..8 {
            let (ttl, entry) = state.names.get(&at).cloned().unwrap_or((0, Entry::NotFound));
            match entry {
                Entry::Alias(to) => {
                    records.push(record(&at, CNAME, ttl, &labels(&to)));
                    at = to;
                    continue;
                }
                Entry::Truncated(_) if datagram => truncated = true,
                Entry::Addresses(list) | Entry::Truncated(list) => {
                    records.extend(list.iter().filter_map(|address| match (kind, address) {
                        (A, IpAddr::V4(address)) => Some(record(&at, A, ttl, &address.octets())),
                        (AAAA, IpAddr::V6(address)) => Some(record(&at, AAAA, ttl, &address.octets())),
                        _ => None,
                    }));
                }
                Entry::NotFound => code = 3,
                Entry::Failure => code = 2,
                Entry::Silence => return None,
            }
            break;
        }
        let flags: u16 = 0x8180 | u16::from(truncated) << 9 | code;
        let count = u16::try_from(records.len()).unwrap();
        let mut response = query.get(..2)?.to_vec();
        for number in [flags, 1, count, 0, 0] {
            response.extend(number.to_be_bytes());
        }
        response.extend(question);
        response.extend(records.concat());
        Some(response)
    }
}

/// The name, the type and the bytes of the question of a query.
fn question(query: &[u8]) -> Option<(String, u16, &[u8])> {
    let (mut at, mut name) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        name.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    Some((name.join("."), kind, query.get(12..at + 4)?))
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

fn record(name: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = labels(name);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(1_u16.to_be_bytes());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}
