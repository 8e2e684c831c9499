//! How long the proxy waits for clients and upstreams. The defaults are those of production; tests start proxies with
//! shorter ones. The time that a response may take belongs to its rule.

use std::time::Duration;

/// Timeouts of client connections. Each bounds one wait.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// TLS handshake.
    pub tls_handshake: Duration,
    /// From the accepted connection, or the end of its TLS handshake, to the first byte of a request.
    pub first_byte: Duration,
    /// From the first byte of an HTTP/1.1 request's head to its last.
    pub head: Duration,
    /// Between two requests of an HTTP/1.1 connection: longer than the 60 seconds for which load balancers keep theirs.
    pub idle: Duration,
    /// From the end of a client's stream to the beginning of the response to its last request. A client that is gone looks the
    /// same, so that the request is not served for longer.
    pub half_closed: Duration,
    /// Without progress of a write to a client's socket.
    pub write: Duration,
    /// For each 8 KiB of a request body, until the response begins; only time spent waiting for the client counts.
    pub upload: Duration,
    /// Without progress of a response body, or of a request body once the response has begun: as for AWS's response streams.
    pub stream_idle: Duration,
    /// Without a byte in either direction of a WebSocket connection (AWS: 10 minutes).
    pub tunnel_idle: Duration,
    /// From the head of a request to the end of its response or WebSocket (AWS: 2 hours for WebSockets). A caller
    /// that was permitted then must be permitted again.
    pub stream_age: Duration,
    /// How often an HTTP/2 connection is checked. A response without progress is reset after three checks, a connection
    /// without requests gets GOAWAY after six and is closed after three more.
    pub http2_check: Duration,
    /// Connections to upstreams.
    pub upstream: UpstreamTimeouts,
}

/// Timeouts of connections to upstreams.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamTimeouts {
    /// From the look-up of a name to a connection, with its TLS handshake and HTTP/2 settings, that can be used.
    pub connect: Duration,
    /// A connection without requests is closed after this long. It is shorter than the idle timeout of most servers, so
    /// that few connections are closed by the server at the moment they are used.
    pub idle: Duration,
    /// A request waits for at most this long for a free HTTP/2 stream.
    pub stream: Duration,
    /// An endpoint that could not be reached is chosen last for this long.
    pub eject: Duration,
    /// Between two pings on an HTTP/2 connection with open streams.
    pub ping: Duration,
    /// From a ping to its acknowledgement.
    pub pong: Duration,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            idle: Duration::from_secs(50),
            stream: Duration::from_secs(5),
            eject: Duration::from_secs(2),
            ping: Duration::from_secs(20),
            pong: Duration::from_secs(10),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tls_handshake: Duration::from_secs(10),
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            half_closed: Duration::from_secs(3),
            write: Duration::from_secs(30),
            upload: Duration::from_secs(30),
            stream_idle: Duration::from_secs(300),
            tunnel_idle: Duration::from_secs(600),
            stream_age: Duration::from_secs(7200),
            http2_check: Duration::from_secs(10),
            upstream: UpstreamTimeouts::default(),
        }
    }
}
