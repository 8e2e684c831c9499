//! The stream as a proxy sees it: over TLS and HTTP/2, with real sockets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use sluice_kit::eventually_async as eventually;
use sluice_kit::tls::{Issued, client_config, issue};
use sluice_operator::metrics::Metrics;
use sluice_operator::publish::server::Server;
use sluice_operator::publish::{Admission, CertificateFiles, KeyUses, Member, Proxies, Publisher};
use sluice_operator::translate::translate;
use sluice_wire::codec::{Decoder, encode};
use sluice_wire::{
    AccessReview, Ack, Delta, Diagnostic, Down, FleetName, Hash, Hello, ObjectRef, Outcome, PartName, Reviewed,
    STREAM_PATH, Up,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

const TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(crate) struct Rig {
    address: std::net::SocketAddr,
    roots: Arc<rustls::ClientConfig>,
    pub(crate) publisher: Publisher,
    pub(crate) proxies: Proxies,
    stop: CancellationToken,
    folder: std::path::PathBuf,
    registry: prometheus::Registry,
    pub(crate) key_uses: KeyUses,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn files(name: &str) -> (std::path::PathBuf, Issued) {
    let folder = std::env::temp_dir().join(format!("sluice-stream-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = issue("operator.test");
    std::fs::write(folder.join("tls.crt"), &made.chain_pem).unwrap();
    std::fs::write(folder.join("tls.key"), &made.key_pem).unwrap();
    (folder, made)
}

pub(crate) async fn rig(name: &str) -> Rig {
    let (folder, made) = files(name);
    let certificate = CertificateFiles { chain: folder.join("tls.crt"), key: folder.join("tls.key") };
    let registry = prometheus::Registry::new();
    let metrics = Metrics::new(&registry).unwrap();
    let admission = Admission::secret(SECRET);
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), certificate, admission, metrics.clone()).await.unwrap();
    let key_uses = KeyUses::default();
    let server = server.with_key_uses(key_uses.clone());
    let (publisher, proxies) = (Publisher::new(metrics.clone()), Proxies::new(metrics));
    let (address, stop) = (server.address(), CancellationToken::new());
    tokio::spawn(server.serve(publisher.subscribe(), proxies.clone(), stop.clone()));
    let roots = Arc::new(client_config(&[&made], &["h2"]));
    Rig { address, roots, publisher, proxies, stop, folder, registry, key_uses }
}

async fn connect(rig: &Rig) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(rig.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(rig.roots.clone());
    connector.connect(ServerName::try_from("operator.test").unwrap(), tcp).await.unwrap()
}

pub(crate) struct Proxy {
    pub(crate) up: mpsc::Sender<Bytes>,
    down: Incoming,
    decoder: Decoder<Down>,
}

impl Proxy {
    pub(crate) async fn open(rig: &Rig, secret: &str) -> Result<Self, StatusCode> {
        let io = TokioIo::new(connect(rig).await);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let (up, receiver) = mpsc::channel::<Bytes>(16);
        let stream = futures::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|bytes| (Ok::<_, std::convert::Infallible>(Frame::data(bytes)), receiver))
        });
        let body: BoxBody<Bytes, std::convert::Infallible> =
            BoxBody::new(StreamBody::new(Stream(Mutex::new(Box::pin(stream)))));
        let request = Request::post(format!("https://operator.test{STREAM_PATH}"))
            .header("authorization", format!("Bearer {secret}"))
            .body(body)
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        if response.status() != StatusCode::OK {
            return Err(response.status());
        }
        Ok(Self { up, down: response.into_body(), decoder: Decoder::new() })
    }

    async fn hello(rig: &Rig, name: &str, parts: BTreeMap<PartName, Hash>) -> Self {
        let proxy = Self::open(rig, SECRET).await.unwrap();
        proxy.say(&Up::Hello(Hello { parts, ..Hello::new(name, "test") })).await;
        proxy
    }

    pub(crate) async fn say(&self, frame: &Up) {
        self.up.send(Bytes::from(encode(frame).unwrap())).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Option<Down> {
        loop {
            match self.decoder.next() {
                Some(frame) => return Some(frame.unwrap()),
                None => {
                    let frame = tokio::time::timeout(TIMEOUT, self.down.frame()).await.unwrap()?.ok()?;
                    self.decoder.push(&frame.into_data().unwrap());
                }
            }
        }
    }

    pub(crate) async fn delta(&mut self) -> Delta {
        loop {
            if let Down::Delta(delta) = self.receive().await.unwrap() {
                return delta;
            }
        }
    }

    async fn ack(&self, version: Hash, outcome: Outcome, diagnostics: Vec<Diagnostic>) {
        self.say(&Up::Ack(Ack { version, outcome, diagnostics })).await;
    }
}

/// A boxed body must be Sync; the future inside the stream is not.
struct Stream<S>(Mutex<std::pin::Pin<Box<S>>>);

impl<S: futures::Stream> futures::Stream for Stream<S> {
    type Item = S::Item;
    fn poll_next(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<S::Item>> {
        self.0.lock().unwrap().as_mut().poll_next(cx)
    }
}

pub(crate) fn member(rig: &Rig, name: &str) -> Member {
    rig.proxies.member(&FleetName::default(), name).unwrap()
}

pub(crate) fn publish(rig: &Rig, path: &str) -> Hash {
    let state = crate::objects::state(&format!(
        "kind: Stage\nmetadata: {{name: prod}}\nspec: {{}}\n---\nkind: ApiRoute\nmetadata: {{name: orders}}\nspec:\n  \
         stages: [{{name: prod}}]\n  authorization: {{type: None}}\n  rules: [{{name: a, methods: [GET], path: {path}, \
         integration: {{type: Mock, mock: {{}}}}}}]\n"
    ));
    rig.publisher.publish(translate(&state));
    rig.publisher.subscribe().borrow().as_ref().unwrap().of(&FleetName::default()).version
}

#[tokio::test]
async fn a_proxy_gets_everything_then_differences_and_its_acks_are_counted() {
    let rig = rig("deltas").await;
    let first = publish(&rig, "/a");
    let mut proxy = Proxy::hello(&rig, "one", BTreeMap::new()).await;
    let delta = proxy.delta().await;
    assert_eq!((delta.base, delta.version, delta.upsert.len()), (Hash::NONE, first, 2));
    assert!(member(&rig, "one").version.is_none());
    proxy.ack(first, Outcome::Applied, Vec::new()).await;
    eventually("the ack is counted", || member(&rig, "one").version == Some(first)).await;
    let second = publish(&rig, "/b");
    let delta = proxy.delta().await;
    assert_eq!((delta.base, delta.version), (first, second));
    assert_eq!(delta.upsert.iter().map(|part| part.name.to_string()).collect::<Vec<_>>(), ["route/shop/orders"]);
    // A newer configuration waits for the ack and then comes at once, without the one between.
    publish(&rig, "/c");
    let last = publish(&rig, "/d");
    proxy.ack(second, Outcome::Applied, Vec::new()).await;
    let delta = proxy.delta().await;
    assert_eq!((delta.base, delta.version), (second, last));
}

#[tokio::test]
async fn a_proxy_that_has_everything_gets_an_empty_delta_to_say_so() {
    let rig = rig("resume").await;
    let version = publish(&rig, "/a");
    let hashes = rig.publisher.subscribe().borrow().as_ref().unwrap().of(&FleetName::default()).parts.clone();
    let mut proxy =
        Proxy::hello(&rig, "one", hashes.iter().map(|(name, part)| (name.clone(), part.hash)).collect()).await;
    let delta = proxy.delta().await;
    assert_eq!((delta.base, delta.version), (version, version));
    assert!(delta.upsert.is_empty() && delta.remove.is_empty());
}

#[tokio::test]
async fn every_proxy_learns_how_many_there_are() {
    let rig = rig("fleet").await;
    let mut one = Proxy::hello(&rig, "one", BTreeMap::new()).await;
    assert!(matches!(one.receive().await, Some(Down::Welcome(welcome)) if welcome.capabilities.has_frame("Ack")));
    assert!(matches!(one.receive().await, Some(Down::Fleet { proxies: 1 })));
    let two = Proxy::hello(&rig, "two", BTreeMap::new()).await;
    let count = async |proxy: &mut Proxy| loop {
        if let Some(Down::Fleet { proxies }) = proxy.receive().await {
            return proxies;
        }
    };
    assert_eq!(count(&mut one).await, 2);
    drop(two);
    assert_eq!(count(&mut one).await, 1);
}

#[tokio::test]
async fn each_fleet_gets_its_own_configuration_and_size() {
    let rig = rig("fleets").await;
    let manifest = "kind: Stage\nmetadata: {name: prod}\nspec: {}\n---\nkind: Stage\nmetadata: {name: edge}\nspec: {fleet: {name: edge}}\n";
    rig.publisher.publish(translate(&crate::objects::state(manifest)));
    let edge: FleetName = "edge".parse().unwrap();
    let join = async |name: &str, fleet: &str| {
        let proxy = Proxy::open(&rig, SECRET).await.unwrap();
        proxy.say(&Up::Hello(Hello { fleet: fleet.parse().unwrap(), ..Hello::new(name, "test") })).await;
        proxy
    };
    let names = |delta: &Delta| delta.upsert.iter().map(|part| part.name.to_string()).collect::<Vec<_>>();
    let (mut one, mut two, mut lost) =
        (join("one", "default").await, join("one", "edge").await, join("lost", "nowhere").await);
    let (first, second, none) = (one.delta().await, two.delta().await, lost.delta().await);
    assert_eq!(
        (names(&first), names(&second), names(&none)),
        (vec!["stage/shop/prod".to_owned()], vec!["stage/shop/edge".to_owned()], vec![])
    );
    let _three = join("three", "edge").await;
    let size = async |proxy: &mut Proxy| loop {
        if let Some(Down::Fleet { proxies }) = proxy.receive().await
            && proxies != 1
        {
            return proxies;
        }
    };
    assert_eq!(size(&mut two).await, 2);
    eventually("all are connected", || rig.proxies.len() == 4).await;
    assert_eq!((rig.proxies.size_of(&edge), rig.proxies.size_of(&FleetName::default())), (2, 1));
    // A change of one fleet does not reach the other: its proxy is only asked whether it is there.
    one.ack(first.version, Outcome::Applied, Vec::new()).await;
    two.ack(second.version, Outcome::Applied, Vec::new()).await;
    let changed = manifest.replace("{fleet: {name: edge}}", "{fleet: {name: edge}, hostnames: [a.example]}");
    rig.publisher.publish(translate(&crate::objects::state(&changed)));
    assert_eq!(names(&two.delta().await), ["stage/shop/edge"]);
    let current = rig.publisher.subscribe().borrow().clone().unwrap();
    assert_eq!(current.of(&FleetName::default()).version, first.version);
    eventually("the acknowledgement counts", || member(&rig, "one").version == Some(first.version)).await;
}

#[tokio::test]
async fn a_rejection_is_stored_and_the_next_delta_is_based_on_the_served_version() {
    let rig = rig("rejected").await;
    let first = publish(&rig, "/a");
    let mut proxy = Proxy::hello(&rig, "one", BTreeMap::new()).await;
    proxy.delta().await;
    proxy.ack(first, Outcome::Rejected { why: "no".into() }, Vec::new()).await;
    eventually("the rejection is known", || member(&rig, "one").rejected == Some((first, "no".into()))).await;
    let second = publish(&rig, "/b");
    let delta = proxy.delta().await;
    assert_eq!((delta.base, delta.version), (Hash::NONE, second));
    let object = ObjectRef::new("ApiRoute", "shop", "orders");
    proxy.ack(second, Outcome::Applied, vec![Diagnostic { object: object.clone(), message: "odd".into() }]).await;
    eventually("diagnostics are known", || member(&rig, "one").diagnostics.get(&object).is_some()).await;
}

#[tokio::test]
async fn a_client_without_the_secret_gets_no_stream() {
    let rig = rig("secret").await;
    publish(&rig, "/a");
    for wrong in ["", "wrong", SECRET.trim_start_matches('0')] {
        assert_eq!(Proxy::open(&rig, wrong).await.err(), Some(StatusCode::UNAUTHORIZED), "{wrong:?}");
    }
    assert!(rig.proxies.is_empty());
}

#[tokio::test]
async fn what_is_out_of_turn_ends_the_stream() {
    let rig = rig("turn").await;
    publish(&rig, "/a");
    let mut early = Proxy::open(&rig, SECRET).await.unwrap();
    early.say(&Up::Pong).await;
    assert!(early.receive().await.is_none());
    let mut wrong = Proxy::hello(&rig, "one", BTreeMap::new()).await;
    wrong.delta().await;
    wrong.ack(Hash::of(b"other"), Outcome::Applied, Vec::new()).await;
    while wrong.receive().await.is_some() {}
    eventually("the proxy has left", || rig.proxies.is_empty()).await;
}

#[tokio::test]
async fn without_proof_only_loopback_is_served() {
    let (folder, _) = files("open");
    let certificate = CertificateFiles { chain: folder.join("tls.crt"), key: folder.join("tls.key") };
    let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
    let bind =
        |address: &str| Server::bind(address.parse().unwrap(), certificate.clone(), Admission::Open, metrics.clone());
    assert!(bind("0.0.0.0:0").await.is_err());
    assert!(bind("127.0.0.1:0").await.is_ok());
    std::fs::remove_dir_all(folder).unwrap();
}

/// Clients that are not proxies, each with a connection from an own address or all from one.
async fn strangers(rig: &Rig, sent: &[u8], number: u16, several_sources: bool) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for n in 0..number {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        let [high, low] = if several_sources { n.to_be_bytes() } else { [0, 1] };
        socket.bind(std::net::SocketAddr::from(([127, 9, high, low], 0))).unwrap();
        let mut stream = socket.connect(rig.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        all.push(stream);
    }
    all
}

/// The beginning of a TLS handshake, without its end.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[tokio::test]
async fn clients_that_send_nothing_do_not_keep_a_proxy_from_the_stream() {
    sluice_daemon::files::raise_limit();
    let rig = rig("silent").await;
    publish(&rig, "/a");
    let mut connected = Proxy::hello(&rig, "connected", BTreeMap::new()).await;
    let served = connected.delta().await.version;
    for (sent, several_sources) in [(&b""[..], false), (b"", true), (HALF_A_HELLO, false), (HALF_A_HELLO, true)] {
        let strangers = strangers(&rig, sent, 1_030, several_sources).await;
        let joins = async { Proxy::hello(&rig, "newcomer", BTreeMap::new()).await.delta().await };
        tokio::time::timeout(Duration::from_secs(2), joins).await.expect("a proxy is served at once");
        drop(strangers);
    }
    let text = prometheus::TextEncoder::new().encode_to_string(&rig.registry.gather()).unwrap();
    assert!(text.contains(r#"sluice_stream_rejections_total{reason="Evicted"}"#), "{text}");
    // The connected proxy has kept its stream.
    publish(&rig, "/b");
    connected.ack(served, Outcome::Applied, Vec::new()).await;
    assert_eq!(connected.delta().await.base, served);
}

/// Connections with TLS, and as much of HTTP/2 as `sent` has.
async fn tls_strangers(rig: &Rig, sent: &[u8], number: usize) -> Vec<TlsStream<TcpStream>> {
    let mut all = Vec::new();
    for _ in 0..number {
        let mut tls = connect(rig).await;
        tls.write_all(sent).await.unwrap();
        all.push(tls);
    }
    all
}

#[tokio::test]
async fn clients_that_never_complete_a_request_do_not_keep_a_proxy_from_the_stream() {
    sluice_daemon::files::raise_limit();
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    // HEADERS without END_HEADERS: the head goes on.
    let half_a_head = [PREFACE, b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x83"].concat();
    let rig = rig("half").await;
    publish(&rig, "/a");
    for sent in [&b""[..], PREFACE, &half_a_head] {
        let strangers = tls_strangers(&rig, sent, 1_030).await;
        let joins = async { Proxy::hello(&rig, "newcomer", BTreeMap::new()).await.delta().await };
        tokio::time::timeout(Duration::from_secs(2), joins).await.expect("a proxy is served at once");
        drop(strangers);
    }
}

#[tokio::test]
async fn a_connection_ends_after_a_request_that_is_not_authenticated() {
    let rig = rig("one-try").await;
    let io = TokioIo::new(connect(&rig).await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let serving = tokio::spawn(connection);
    let request = Request::post(format!("https://operator.test{STREAM_PATH}"));
    let request = request.header("authorization", "Bearer wrong").body(http_body_util::Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    tokio::time::timeout(TIMEOUT, serving).await.expect("closed").unwrap().unwrap_or_default();
}

#[tokio::test]
async fn a_question_has_a_result_also_where_nothing_reviews_access() {
    let rig = rig("reviews").await;
    let mut proxy = Proxy::hello(&rig, "one", BTreeMap::new()).await;
    let review = AccessReview {
        id: 7,
        user: "system:serviceaccount:shop:orders".into(),
        verb: "get".into(),
        namespace: "shop".into(),
        route: "items".into(),
    };
    proxy.say(&Up::Review(review)).await;
    let reviewed = loop {
        if let Down::Reviewed(reviewed) = proxy.receive().await.unwrap() {
            break reviewed;
        }
    };
    assert_eq!(reviewed, Reviewed { id: 7, allowed: None });
    std::fs::remove_dir_all(&rig.folder).unwrap();
}
