//! The admin endpoint: `/metrics`, `/healthz`, `/readyz`. It is read-only and shows no configuration.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::{Places, Readiness, files};

/// Scrapers and probes need a few connections.
const MAX_CONNECTIONS: usize = 64;
/// Timeout for a request's head; also the idle timeout of a connection.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection serves requests for this long, and then the last one for [`READ_TIMEOUT`]: also one whose client reads
/// nothing.
const MAX_AGE: Duration = Duration::from_secs(60);

/// A running admin endpoint; it stops when this is dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Admin {
    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on `address` and serves until the returned value is dropped.
pub async fn serve(address: SocketAddr, registry: Registry, readiness: Readiness) -> io::Result<Admin> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(accept(listener, registry, readiness));
    Ok(Admin { address, task })
}

/// Connections that the admin endpoint has at most, for a process with this limit of file descriptors. They are kept free for
/// it.
#[must_use]
pub fn max_connections(descriptors: usize) -> usize {
    (descriptors / 8).clamp(4, MAX_CONNECTIONS)
}

async fn accept(listener: TcpListener, registry: Registry, readiness: Readiness) {
    let places = Places::new(max_connections(files::limit()));
    loop {
        let (stream, source) = match listener.accept().await {
            Ok((stream, address)) => (stream, address.ip()),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin endpoint");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (registry, readiness) = (registry.clone(), readiness.clone());
        let place = places.take(source);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = respond(request.method(), request.uri().path(), &registry, &readiness);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ_TIMEOUT)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            let serving = async {
                let mut ended = tokio::time::timeout(MAX_AGE, connection.as_mut()).await;
                if ended.is_err() {
                    connection.as_mut().graceful_shutdown();
                    ended = tokio::time::timeout(READ_TIMEOUT, connection).await;
                }
                if let Ok(Err(error)) = ended {
                    tracing::debug!(%error, "an admin connection failed");
                }
            };
            tokio::select! {
                () = serving => {}
                () = place.evicted() => {}
            }
        });
    }
}

fn respond(method: &Method, path: &str, registry: &Registry, readiness: &Readiness) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n".to_owned());
    }
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let waiting = readiness.waiting_for();
            if waiting.is_empty() {
                text(StatusCode::OK, "ok\n".to_owned())
            } else {
                text(StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", waiting.join(", ")))
            }
        }
        "/metrics" => match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(page) => text(StatusCode::OK, page),
            Err(error) => {
                tracing::error!(%error, "cannot encode the metrics");
                text(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the metrics; see the log\n".to_owned())
            }
        },
        _ => text(StatusCode::NOT_FOUND, "known paths: /metrics, /healthz, /readyz\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use prometheus::IntCounter;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn readiness_health_and_metrics_are_served_over_http() {
        let registry = Registry::new();
        let counter = IntCounter::new("sluice_test_total", "Counts in a test.").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.inc();
        let readiness = Readiness::default();
        let blocker = readiness.block("first configuration");
        let admin = serve(SocketAddr::from(([127, 0, 0, 1], 0)), registry, readiness).await.unwrap();
        assert!(get(admin.address(), "/healthz").await.starts_with("HTTP/1.1 200"));
        let waiting = get(admin.address(), "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("first configuration"), "{waiting}");
        drop(blocker);
        assert!(get(admin.address(), "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(admin.address(), "/metrics").await.contains("sluice_test_total 1"));
        assert!(get(admin.address(), "/").await.starts_with("HTTP/1.1 404"));
    }

    /// Clients that never complete a request, of several kinds. More of them than there are connections.
    #[tokio::test]
    async fn clients_that_occupy_all_connections_do_not_delay_a_probe() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let registry = Registry::new();
        let gauge = prometheus::IntGaugeVec::new(prometheus::Opts::new("sluice_test", "A long page."), &["n"]).unwrap();
        (0..20_000).for_each(|n| gauge.with_label_values(&[format!("{n:0100}")]).set(1));
        registry.register(Box::new(gauge)).unwrap();
        let admin = serve(any, registry, Readiness::default()).await.unwrap();
        for sent in [
            "",
            "G",
            "GET /healthz HTTP/1.1\r\nhost: a",
            "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", // and keeps the connection
            "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n", // and reads nothing
            "POST /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n",
        ] {
            let mut strangers = Vec::new();
            for _ in 0..MAX_CONNECTIONS + 40 {
                let mut stream = tokio::net::TcpStream::connect(admin.address()).await.unwrap();
                stream.write_all(sent.as_bytes()).await.unwrap();
                strangers.push(stream);
            }
            let probe = tokio::time::timeout(Duration::from_secs(5), get(admin.address(), "/healthz"));
            assert!(probe.await.expect("served at once").starts_with("HTTP/1.1 200"), "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_a_deadline_for_its_request_and_for_reading_the_response() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let admin = serve(any, Registry::new(), Readiness::default()).await.unwrap();
        for sent in ["", "GET /healthz HTTP/1.1\r\nhost: a", "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let mut stream = tokio::net::TcpStream::connect(admin.address()).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut response = Vec::new();
            let ended = tokio::time::timeout(2 * MAX_AGE, stream.read_to_end(&mut response)).await;
            assert!(ended.expect("closed").is_ok(), "{sent:?}");
        }
    }

    #[test]
    fn the_number_of_connections_follows_from_the_file_descriptors() {
        assert_eq!((max_connections(64), max_connections(1 << 20), max_connections(0)), (8, MAX_CONNECTIONS, 4));
    }
}
