//! The PROXY protocol, versions 1 and 2: a load balancer says before the first byte of a connection who its client is.

use std::io;
use std::net::IpAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The longest header. Version 2 can have fields beside the addresses; load balancers send some hundred bytes.
const MAX_HEADER: usize = 4096;
/// The longest header of version 1, with CR LF.
const MAX_LINE: usize = 107;
/// Version 2 begins with these bytes; every header of version 1 is longer.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// For whom a load balancer has opened a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    ForClient(IpAddr),
    /// For itself, or for a client that is not on an IP network.
    ForItself,
    /// It has closed the connection without a byte: it only looks whether the port is open.
    Closed,
}

/// Reads the header, and nothing behind it.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Opened> {
    if stream.peek(&mut [0]).await? == 0 {
        return Ok(Opened::Closed);
    }
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        read_binary(stream, &mut header).await?
    } else {
        read_line(stream, &mut header).await?
    }
    client(&header).ok_or_else(|| invalid("it is not a header of the PROXY protocol"))
}

fn client(header: &[u8]) -> Option<Opened> {
    let (parsed, length) = ProxyHeader::parse(header, ParseConfig::default()).ok()?;
    let client = parsed.proxied_address().map(|address| Opened::ForClient(address.source.ip().to_canonical()));
    (length == header.len()).then(|| client.unwrap_or(Opened::ForItself))
}

/// Command, protocol and the length of what follows.
async fn read_binary(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    header.extend(fixed);
    if header.len() + length > MAX_HEADER {
        return Err(invalid("the header is too long"));
    }
    let begun = header.len();
    header.resize(begun + length, 0);
    stream.read_exact(header.get_mut(begun..).unwrap_or_default()).await?;
    Ok(())
}

/// The rest of a line. What follows it stays in the socket, where a TLS handshake is read from.
async fn read_line(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    if !header.starts_with(b"PROXY ") {
        return Err(invalid("the connection does not begin with a header of the PROXY protocol"));
    }
    while header.len() < MAX_LINE {
        let mut seen = [0; MAX_LINE];
        let room = seen.get_mut(..MAX_LINE - header.len()).unwrap_or_default();
        let size = stream.peek(room).await?;
        let seen = seen.get(..size).unwrap_or_default();
        let end = seen.iter().position(|byte| *byte == b'\n');
        let size = end.map_or(size, |end| end + 1);
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let begun = header.len();
        header.resize(begun + size, 0);
        stream.read_exact(header.get_mut(begun..).unwrap_or_default()).await?;
        if end.is_some() {
            return Ok(());
        }
    }
    Err(invalid("the header is too long"))
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(command: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, protocol][..], &length, rest].concat()
    }

    #[test]
    fn headers_of_both_versions_name_the_client() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb];
        let v6: Vec<u8> = ["2001:db8::1", "2001:db8::2"]
            .iter()
            .flat_map(|text| text.parse::<std::net::Ipv6Addr>().unwrap().octets())
            .chain([0x12, 0x34, 0x01, 0xbb])
            .collect();
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n".to_vec(), Some(Some("192.0.2.1"))),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n".to_vec(), Some(Some("2001:db8::1"))),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 443\r\n".to_vec(), Some(Some("192.0.2.1"))),
            (b"PROXY UNKNOWN\r\n".to_vec(), Some(None)),
            (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), Some(None)),
            (binary(0x21, 0x11, &v4), Some(Some("192.0.2.1"))),
            (binary(0x21, 0x21, &v6), Some(Some("2001:db8::1"))),
            // Further fields, and the load balancer's own connection.
            (binary(0x21, 0x11, &[&v4[..], &[4, 0, 1, 0]].concat()), Some(Some("192.0.2.1"))),
            (binary(0x20, 0x00, &[]), Some(None)),
            (binary(0x20, 0x11, &v4), Some(None)),
            (binary(0x21, 0x00, &[]), Some(None)),
            (binary(0x21, 0x31, &[0; 216]), Some(None)),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\n".to_vec(), None),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 65536\r\n".to_vec(), None),
            (b"PROXY TCP4 192.0.2 10.0.0.1 4711 443\r\n".to_vec(), None),
            (b"PROXY TCP4 2001:db8::1 2001:db8::2 4711 443\r\n".to_vec(), None),
            (b"PROXY UDP4 192.0.2.1 10.0.0.1 4711 443\r\n".to_vec(), None),
            (binary(0x11, 0x11, &v4), None),
            (binary(0x22, 0x11, &v4), None),
            (binary(0x21, 0x41, &v4), None),
            (binary(0x21, 0x11, &v4[..11]), None),
            (binary(0x21, 0x21, &v6[..35]), None),
        ] {
            let opened = |client: Option<&str>| {
                client.map_or(Opened::ForItself, |text| Opened::ForClient(text.parse().unwrap()))
            };
            assert_eq!(client(&header), expected.map(opened), "{}", header.escape_ascii());
        }
    }
}
