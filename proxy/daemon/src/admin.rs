//! The admin endpoint: `/metrics`, `/healthz`, `/readyz`. It is read-only and shows no configuration.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::Readiness;

/// Further connections wait. Scrapers and probes need a few.
const MAX_CONNECTIONS: usize = 64;
/// Timeout for a request's head; also the idle timeout of a connection.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

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

async fn accept(listener: TcpListener, registry: Registry, readiness: Readiness) {
    let permits = std::sync::Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin endpoint");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (registry, readiness) = (registry.clone(), readiness.clone());
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
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an admin connection failed");
            }
            drop(permit);
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
}
