//! Small HTTP servers behind the API: each names itself and says what reached it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// A server that answers every request with JSON: its `name`, and the request's method, path and headers.
#[derive(Debug)]
pub(crate) struct Backend {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Backend {
    /// Listens on this machine's own address: the API server refuses loopback in EndpointSlices. Traffic to a machine's
    /// own address never leaves it.
    pub(crate) async fn start(name: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((own_address()?, 0)).await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, name.to_owned(), requests.clone()));
        Ok(Self { address, requests, task })
    }

    /// How many requests have come.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, name: String, requests: Arc<AtomicU64>) {
    // Connections end with the server.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        while connections.try_join_next().is_some() {}
        let (name, requests) = (name.clone(), requests.clone());
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                requests.fetch_add(1, Ordering::Relaxed);
                let answer = answer(&name, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that goes away is not the backend's matter.
            connection.await.ok();
        });
    }
}

fn answer(name: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let headers: serde_json::Map<String, Value> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let body = json!({"name": name, "method": request.method().as_str(), "path": path, "headers": headers});
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The address from which this machine would talk to others. Nothing is sent: connecting a UDP socket only asks the
/// kernel for the route.
fn own_address() -> anyhow::Result<IpAddr> {
    const HINT: &str = "the system tests need an address of this machine that is not loopback, because the API server \
                        refuses loopback in EndpointSlices";
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    // 198.51.100.0/24 is for documentation.
    socket.connect(("198.51.100.1", 9)).context(HINT)?;
    let address = socket.local_addr()?.ip();
    anyhow::ensure!(!address.is_loopback() && !address.is_unspecified(), HINT);
    Ok(address)
}

/// A Service without a selector, port 80.
pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]},
    })
}

/// An EndpointSlice of a Service for one backend, as the controller manager would make it. One slice holds one port
/// number, and every backend has its own, hence a slice for each.
pub(crate) fn endpoints(service: &str, number: u32, backend: Option<&Backend>) -> Value {
    let endpoints: Vec<Value> = backend
        .iter()
        .map(|backend| json!({"addresses": [backend.address.ip()], "conditions": {"ready": true, "serving": true}}))
        .collect();
    let port = backend.map_or(80, |backend| backend.address.port());
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-{number}"), "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    })
}
