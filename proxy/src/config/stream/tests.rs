//! A proxy and the operator's end of a stream, in this process, over real sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sluice_wire::{Delta, FleetName, Hash, Hello, Part, PartKind, PartName, Parts};
use tokio::net::TcpListener;

use super::*;
use crate::config::Sink;

/// One connection as the operator sees it: what the proxy sends, and where to reply.
struct Peer {
    authorization: Option<String>,
    ups: mpsc::Receiver<Up>,
    downs: mpsc::Sender<Vec<u8>>,
}

impl Peer {
    async fn next(&mut self) -> Up {
        tokio::time::timeout(Duration::from_secs(10), self.ups.recv()).await.unwrap().unwrap()
    }

    async fn hello(&mut self) -> Hello {
        match self.next().await {
            Up::Hello(hello) => hello,
            other => panic!("{other:?} instead of a hello"),
        }
    }

    async fn send(&self, frame: &Down) {
        self.downs.send(codec::encode(frame).unwrap()).await.unwrap();
    }
}

/// Listens and hands out connections.
async fn operator() -> (SocketAddr, mpsc::Receiver<Peer>) {
    operator_with(None).await
}

async fn operator_with(tls: Option<tokio_rustls::TlsAcceptor>) -> (SocketAddr, mpsc::Receiver<Peer>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (peers, queue) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let peers = peers.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| serve(request, peers.clone()));
            let tls = tls.clone();
            tokio::spawn(async move {
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                match tls {
                    None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        drop(http.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            });
        }
    });
    (address, queue)
}

async fn serve(
    request: Request<hyper::body::Incoming>,
    peers: mpsc::Sender<Peer>,
) -> Result<http::Response<Replies>, Infallible> {
    assert_eq!(request.uri().path(), STREAM_PATH);
    let authorization = request.headers().get(header::AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
    let (to_test, ups) = mpsc::channel(16);
    let (downs, to_proxy) = mpsc::channel::<Vec<u8>>(16);
    let mut body = request.into_body();
    tokio::spawn(async move {
        let mut decoder = Decoder::<Up>::new();
        while let Some(Ok(frame)) = body.frame().await {
            decoder.push(frame.data_ref().unwrap());
            while let Some(frame) = decoder.next() {
                drop(to_test.send(frame.unwrap()).await);
            }
        }
    });
    peers.send(Peer { authorization, ups, downs }).await.unwrap();
    let frames = futures::stream::unfold(to_proxy, |mut queue| async move { Some((queue.recv().await?, queue)) });
    // Torn in the middle, as a network may.
    let torn = frames.flat_map(|bytes| {
        let (one, two) = bytes.split_at(bytes.len() / 2);
        futures::stream::iter([one.to_vec(), two.to_vec()].map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    });
    Ok(http::Response::new(StreamBody::new(torn.boxed())))
}

fn delta(base: Hash, upsert: Vec<Part>, all: &[&Part]) -> Down {
    let version = all.iter().map(|part| (part.name.clone(), part.hash)).collect::<Parts<Hash>>().version();
    Down::Delta(Delta { base, version, upsert, remove: vec![] })
}

fn part(id: &str) -> Part {
    Part { name: PartName::new(PartKind::Route, id), hash: Hash::of(b"{}"), json: "{}".into() }
}

fn sink(fleet: &Arc<Mutex<u32>>) -> Sink {
    let fleet = Arc::clone(fleet);
    Sink {
        apply: Box::new(|_, _, _| Vec::new()),
        set_fleet: Box::new(move |n| *fleet.lock().unwrap() = n),
        set_connected: Box::new(|_| {}),
        rejected: Box::new(|| {}),
    }
}

#[tokio::test]
async fn a_proxy_follows_acknowledges_and_resumes_by_hash() {
    let (address, mut peers) = operator().await;
    let token = std::env::temp_dir().join(format!("sluice-token-{}", std::process::id()));
    std::fs::write(&token, "first\n").unwrap();
    let settings = StreamSettings {
        operator: format!("http://{address}").parse().unwrap(),
        authority: None,
        token: Some(token.clone()),
    };
    let fleet = Arc::new(Mutex::new(0));
    let mut subscriber = Subscriber::start("proxy-1".into(), FleetName::default(), sink(&fleet), None);
    let proxy = tokio::spawn(async move { run(&settings, &mut subscriber).await });

    let mut peer = peers.recv().await.unwrap();
    assert_eq!(peer.authorization.as_deref(), Some("Bearer first"));
    let hello = peer.hello().await;
    assert_eq!((hello.proxy.as_str(), hello.parts.len()), ("proxy-1", 0));
    let (a, b) = (part("n/a"), part("n/b"));
    peer.send(&Down::Fleet { proxies: 3 }).await;
    peer.send(&delta(Hash::NONE, vec![a.clone()], &[&a])).await;
    assert!(matches!(peer.next().await, Up::Ack(ack) if ack.outcome == Outcome::Applied));
    assert_eq!(*fleet.lock().unwrap(), 3);
    peer.send(&Down::Ping).await;
    assert_eq!(peer.next().await, Up::Pong);

    // The stream breaks: the proxy comes back with a new token and what it has.
    std::fs::write(&token, "second").unwrap();
    drop(peer);
    let mut peer = peers.recv().await.unwrap();
    assert_eq!(peer.authorization.as_deref(), Some("Bearer second"));
    assert_eq!(peer.hello().await.parts, BTreeMap::from([(a.name.clone(), a.hash)]));

    // A delta to another base is rejected, and the next connection begins with the configuration that is served.
    let base = Parts::from_iter([(a.name.clone(), a.hash)]).version();
    peer.send(&delta(base, vec![b], &[&a])).await;
    assert!(matches!(peer.next().await, Up::Ack(ack) if matches!(ack.outcome, Outcome::Rejected { .. })));
    let mut peer = peers.recv().await.unwrap();
    assert_eq!(peer.hello().await.parts.len(), 1);
    proxy.abort();
    std::fs::remove_file(&token).unwrap();
}

fn acceptor(certified: &rcgen::CertifiedKey<rcgen::KeyPair>) -> tokio_rustls::TlsAcceptor {
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn over_tls_only_an_operator_with_a_certificate_of_the_given_ca_is_trusted() {
    let names = vec!["localhost".to_owned()];
    let (ours, other) = (
        rcgen::generate_simple_self_signed(names.clone()).unwrap(),
        rcgen::generate_simple_self_signed(names).unwrap(),
    );
    let (address, mut peers) = operator_with(Some(acceptor(&ours))).await;
    for (certified, trusted) in [(&other, false), (&ours, true)] {
        let file = std::env::temp_dir().join(format!("sluice-ca-{}-{trusted}", std::process::id()));
        std::fs::write(&file, certified.cert.pem()).unwrap();
        let operator: Uri = format!("https://localhost:{}", address.port()).parse().unwrap();
        let settings = StreamSettings { operator, authority: Some(file.clone()), token: None };
        let mut subscriber = Subscriber::start("p".into(), FleetName::default(), sink(&Arc::default()), None);
        if trusted {
            let proxy = tokio::spawn(async move { run(&settings, &mut subscriber).await });
            assert_eq!(peers.recv().await.unwrap().hello().await.proxy, "p");
            proxy.abort();
        } else {
            let error = follow(&settings, &mut subscriber, &mut false).await.unwrap_err();
            assert!(matches!(error, StreamError::Dial(DialError::Connect { .. })), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
    }
}

#[tokio::test]
async fn a_token_never_travels_in_the_clear_to_another_machine() {
    let settings = StreamSettings { operator: "ftp://127.0.0.1".parse().unwrap(), authority: None, token: None };
    let mut subscriber = Subscriber::start("p".into(), FleetName::default(), sink(&Arc::default()), None);
    let error = follow(&settings, &mut subscriber, &mut false).await.unwrap_err();
    assert!(matches!(error, StreamError::Dial(DialError::Address(_))), "{error}");
}
