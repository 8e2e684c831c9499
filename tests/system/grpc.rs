//! gRPC through a proxy to a real gRPC server over TLS: etcd, with requests in hand-written protocol buffers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use sluice_kit::until;

use crate::fixtures;
use crate::harness::api_server::{ApiServer, build};
use crate::harness::backend::own_address;
use crate::harness::objects::Space;
use crate::harness::process::{Process, port};
use crate::harness::programs::Fleet;

const HOST: &str = "grpc.example";
const SOON: Duration = Duration::from_secs(10);

/// etcd on this machine's own address, with TLS.
struct Etcd {
    address: SocketAddr,
    _process: Process,
}

impl Etcd {
    /// Starts it, and writes its certificate to `certificate`.
    fn start(folder: &Path, certificate: &Path) -> anyhow::Result<Self> {
        let address = SocketAddr::new(own_address()?, port()?);
        let issued = rcgen::generate_simple_self_signed(vec![address.ip().to_string()])?;
        let key = folder.join("grpc-etcd.key");
        std::fs::write(certificate, issued.cert.pem())?;
        std::fs::write(&key, issued.signing_key.serialize_pem())?;
        let (clients, peers) = (format!("https://{address}"), format!("http://127.0.0.1:{}", port()?));
        let flags = [
            format!("--data-dir={}", folder.join("grpc-etcd").display()),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--cert-file={}", certificate.display()),
            format!("--key-file={}", key.display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
        ];
        let process = Process::start("grpc-etcd", &build("api")?.join("etcd"), &flags, folder)?;
        Ok(Self { address, _process: process })
    }
}

/// A field of type bytes, string or message. All of them are short here.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    assert!(length < 128, "a length that needs one byte");
    [&[number << 3 | 2, length], value].concat()
}

/// A message with the length prefix of gRPC.
fn message(bytes: &[u8]) -> Bytes {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    Bytes::from([&[0], &length[..], bytes].concat())
}

type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// A client of the proxy, with HTTP/2 without TLS.
struct Client {
    sender: SendRequest<Body>,
}

impl Client {
    async fn connect(proxy: SocketAddr) -> anyhow::Result<Self> {
        let stream = tokio::net::TcpStream::connect(proxy).await?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    async fn send(&self, method: &str, messages: Body) -> anyhow::Result<Response<Incoming>> {
        let request = Request::post(format!("http://{HOST}/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(messages)?;
        let response = tokio::time::timeout(SOON, self.sender.clone().send_request(request)).await;
        Ok(response.with_context(|| format!("no response to {method}"))??)
    }

    /// A unary call, which must succeed.
    async fn call(&self, method: &str, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        let messages = StreamBody::new(stream::iter([Ok(Frame::data(message(request)))]).boxed());
        let response = self.send(method, messages).await?;
        anyhow::ensure!(response.status() == 200, "{method}: {response:?}");
        let (mut body, mut data, mut trailers) = (response.into_body(), Vec::new(), HeaderMap::new());
        while let Some(frame) = tokio::time::timeout(SOON, body.frame()).await? {
            match frame?.into_data() {
                Ok(piece) => data.extend_from_slice(&piece),
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        let status = trailers.get("grpc-status").map(|status| status.as_bytes());
        anyhow::ensure!(status == Some(b"0"), "{method}: {trailers:?}");
        anyhow::ensure!(data.len() >= 5, "{method}: {data:?} is no message");
        Ok(data.split_off(5))
    }
}

/// Waits until `expected` has arrived in the messages of a stream.
async fn arrives(body: &mut Incoming, seen: &mut Vec<u8>, expected: &[u8]) -> anyhow::Result<()> {
    let arrived = async {
        while !contains(seen, expected) {
            let frame = body.frame().await.context("the stream ended")??;
            seen.extend_from_slice(frame.data_ref().context("the stream ended with trailers")?);
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(SOON, arrived).await.context("nothing more arrives")?
}

fn contains(bytes: &[u8], expected: &[u8]) -> bool {
    bytes.windows(expected.len()).any(|window| window == expected)
}

#[tokio::test]
async fn grpc_over_tls_passes_with_trailers_and_streams_in_both_directions() -> anyhow::Result<()> {
    let server = ApiServer::start("grpc").await?;
    let mut fleet = Fleet::of(&server, 1).await?;
    let certificate = server.folder.join("grpc-etcd.crt");
    let etcd = Etcd::start(&server.folder, &certificate)?;
    let proxy = fleet.proxies.first_mut().context("no proxy")?;
    proxy.restart_trusting(&certificate).await?;
    let space = Space::new(server.client().await?, "grpc").await?;
    space.apply(&fixtures::stage("prod", HOST)).await?;
    let url = format!("https://{}/{{proxy}}", etcd.address);
    let mut route = fixtures::route("etcd", "prod", "/{proxy+}", json!({"type": "Http", "http": {"url": url}}));
    route["spec"]["rules"][0]["methods"] = json!(["POST"]);
    space.apply(&route).await?;
    space.programmed("ApiRoute", "etcd").await?;
    let client = Client::connect(proxy.http).await?;

    // grpc.health.v1: SERVING is 1.
    let healthy = until("etcd is healthy", SOON, || async {
        let response = client.call("grpc.health.v1.Health/Check", &[]).await?;
        anyhow::ensure!(response == [8, 1], "{response:?}");
        Ok::<_, anyhow::Error>(())
    });
    healthy.await?;

    // etcdserverpb.KV: the key is field 1, the value field 2.
    client.call("etcdserverpb.KV/Put", &[field(1, b"color"), field(2, b"green")].concat()).await?;
    let found = client.call("etcdserverpb.KV/Range", &field(1, b"color")).await?;
    assert!(contains(&found, b"green"), "{found:?}");

    // etcdserverpb.Watch: the request goes on while responses arrive. WatchRequest.create_request.key is field 1 of field 1.
    let create = message(&field(1, &field(1, b"color")));
    let messages = stream::iter([Ok(Frame::data(create))]).chain(stream::pending());
    let response = client.send("etcdserverpb.Watch/Watch", StreamBody::new(messages.boxed())).await?;
    let (mut body, mut seen) = (response.into_body(), Vec::new());
    // WatchResponse.created is field 3, a boolean.
    arrives(&mut body, &mut seen, &[3 << 3, 1]).await?;
    client.call("etcdserverpb.KV/Put", &[field(1, b"color"), field(2, b"orange")].concat()).await?;
    arrives(&mut body, &mut seen, b"orange").await
}
