//! A proxy and the operator's end of a stream, in this process, over real sockets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sluice_kit::duplex::{Duplex, listen};
use sluice_kit::tls::issue;
use sluice_wire::{
    Capabilities, Delta, FleetName, Hash, Hello, KeyUse, Part, PartKind, PartName, Parts, Reviewed, Used, Welcome,
};

use super::*;
use crate::access_review::{AccessReviews, Question, Undecided};
use crate::config::Sink;
use crate::key_use::KeyUses;

async fn hello(peer: &mut Duplex) -> Hello {
    match peer.receive().await {
        Up::Hello(hello) => hello,
        other => panic!("{other:?} instead of a hello"),
    }
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
        access_reviews: AccessReviews::default(),
        key_uses: KeyUses::default(),
    }
}

#[tokio::test]
async fn a_proxy_follows_acknowledges_and_resumes_by_hash() {
    let (address, mut peers) = listen(None).await;
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
    assert_eq!((peer.path.as_str(), peer.authorization.as_deref()), (STREAM_PATH, Some("Bearer first")));
    let first = hello(&mut peer).await;
    assert_eq!((first.proxy.as_str(), first.parts.len()), ("proxy-1", 0));
    let (a, b) = (part("n/a"), part("n/b"));
    peer.send(&Down::Fleet { proxies: 3 }).await;
    peer.send(&delta(Hash::NONE, vec![a.clone()], &[&a])).await;
    assert!(matches!(peer.receive().await, Up::Ack(ack) if ack.outcome == Outcome::Applied));
    assert_eq!(*fleet.lock().unwrap(), 3);
    peer.send(&Down::Ping).await;
    assert_eq!(peer.receive::<Up>().await, Up::Pong);

    // The stream breaks: the proxy comes back with a new token and what it has.
    std::fs::write(&token, "second").unwrap();
    drop(peer);
    let mut peer = peers.recv().await.unwrap();
    assert_eq!(peer.authorization.as_deref(), Some("Bearer second"));
    assert_eq!(hello(&mut peer).await.parts, BTreeMap::from([(a.name.clone(), a.hash)]));

    // A delta to another base is rejected, and the next connection begins with the configuration that is served.
    let base = Parts::from_iter([(a.name.clone(), a.hash)]).version();
    peer.send(&delta(base, vec![b], &[&a])).await;
    assert!(matches!(peer.receive().await, Up::Ack(ack) if matches!(ack.outcome, Outcome::Rejected { .. })));
    let mut peer = peers.recv().await.unwrap();
    assert_eq!(hello(&mut peer).await.parts.len(), 1);
    proxy.abort();
    std::fs::remove_file(&token).unwrap();
}

#[tokio::test]
async fn over_tls_only_an_operator_with_a_certificate_of_the_given_ca_is_trusted() {
    let (ours, other) = (issue("localhost"), issue("localhost"));
    let (address, mut peers) = listen(Some(&ours)).await;
    for (certified, trusted) in [(&other, false), (&ours, true)] {
        let file = std::env::temp_dir().join(format!("sluice-ca-{}-{trusted}", std::process::id()));
        std::fs::write(&file, &certified.chain_pem).unwrap();
        let operator: Uri = format!("https://localhost:{}", address.port()).parse().unwrap();
        let settings = StreamSettings { operator, authority: Some(file.clone()), token: None };
        let mut subscriber = Subscriber::start("p".into(), FleetName::default(), sink(&Arc::default()), None);
        if trusted {
            let proxy = tokio::spawn(async move { run(&settings, &mut subscriber).await });
            assert_eq!(hello(&mut peers.recv().await.unwrap()).await.proxy, "p");
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

#[test]
fn a_proxy_is_back_within_two_seconds_of_the_operator_and_a_fleet_spreads_its_attempts() {
    let refused = StreamError::Dial(DialError::Connect {
        host: "operator:9443".to_owned(),
        source: crate::transport::ConnectError::Io(std::io::ErrorKind::ConnectionRefused.into()),
    });
    for error in [refused, StreamError::Ended, StreamError::Idle] {
        let max = error.max_backoff();
        // The times of the attempts of each proxy in ten minutes without the operator.
        let attempts = |_| {
            let (mut backoff, mut at) = (Backoff::new(), Duration::ZERO);
            std::iter::from_fn(move || {
                at += backoff.next(max);
                Some(at)
            })
            .take_while(|at| *at < Duration::from_secs(600))
            .collect::<Vec<Duration>>()
        };
        let fleet: Vec<Vec<Duration>> = (0..200).map(attempts).collect();
        for attempts in &fleet {
            let longest = attempts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(longest < Duration::from_secs(2), "{longest:?}");
            assert!(attempts.len() < 800, "{} attempts in ten minutes", attempts.len());
        }
        // No proxy is ahead of the others: in the second after its return the operator sees about the same as in the next.
        let returned = Duration::from_secs(300);
        let first = fleet.iter().map(|attempts| attempts.iter().find(|at| **at >= returned).unwrap().as_millis());
        let mut counts = [0; 20];
        first.for_each(|at| counts[usize::try_from((at - returned.as_millis()) / 100).unwrap()] += 1);
        assert!(counts.iter().all(|count| *count < 40), "within each 100 ms: {counts:?}");
    }
}

#[test]
fn after_a_rejection_the_pauses_become_longer_than_while_the_operator_is_away() {
    let mut backoff = Backoff::new();
    for error in [StreamError::Rejected, StreamError::Unauthorized(StatusCode::UNAUTHORIZED)] {
        let longest = (0..20).map(|_| backoff.next(error.max_backoff())).max().unwrap();
        assert!(longest > MAX_BACKOFF / 2 && longest <= MAX_BACKOFF, "{longest:?}");
    }
    let absent = backoff.next(StreamError::Ended.max_backoff());
    assert!(absent <= MAX_ABSENT_BACKOFF, "{absent:?}");
}

#[tokio::test]
async fn questions_are_sent_to_an_operator_that_reviews_and_again_after_a_reconnect() {
    let (address, mut peers) = listen(None).await;
    let settings =
        StreamSettings { operator: format!("http://{address}").parse().unwrap(), authority: None, token: None };
    let sink = sink(&Arc::default());
    let reviews = sink.access_reviews.clone();
    let mut subscriber = Subscriber::start("p".into(), FleetName::default(), sink, None);
    let proxy = tokio::spawn(async move { run(&settings, &mut subscriber).await });
    let question = |user: &str| Question {
        user: format!("system:serviceaccount:shop:{user}").into(),
        verb: "get".into(),
        namespace: "shop".into(),
        route: "items".into(),
    };

    let mut peer = peers.recv().await.unwrap();
    hello(&mut peer).await;
    // An operator that does not list the frame is not asked.
    let capabilities = Capabilities::from_iter(["frame/Ping"]);
    peer.send(&Down::Welcome(Welcome { program: "old".into(), capabilities })).await;
    peer.send(&Down::Ping).await;
    assert_eq!(peer.receive::<Up>().await, Up::Pong);
    assert_eq!(reviews.ask(&question("ann")).await, Err(Undecided));

    let capabilities = Capabilities::of_this_version();
    peer.send(&Down::Welcome(Welcome { program: "new".into(), capabilities })).await;
    peer.send(&Down::Ping).await;
    assert_eq!(peer.receive::<Up>().await, Up::Pong);
    let (ann, bob) = (question("ann"), question("bob"));
    let reply = async {
        let Up::Review(review) = peer.receive().await else { panic!("no question") };
        assert_eq!(
            (&*review.user, &*review.verb, &*review.namespace, &*review.route),
            (&*ann.user, "get", "shop", "items")
        );
        peer.send(&Down::Reviewed(Reviewed { id: review.id, allowed: Some(true) })).await;
    };
    let (outcome, ()) = tokio::join!(reviews.ask(&ann), reply);
    assert_eq!(outcome, Ok(true));

    // The stream ends, as it does each hour: the question is asked again on the next one.
    let reconnect = async {
        assert!(matches!(peer.receive().await, Up::Review(_)));
        drop(peer);
        let mut peer = peers.recv().await.unwrap();
        hello(&mut peer).await;
        let capabilities = Capabilities::of_this_version();
        peer.send(&Down::Welcome(Welcome { program: "new".into(), capabilities })).await;
        let Up::Review(review) = peer.receive().await else { panic!("no question") };
        assert_eq!(&*review.user, &*bob.user);
        peer.send(&Down::Reviewed(Reviewed { id: review.id, allowed: Some(false) })).await;
        peer
    };
    let (outcome, _peer) = tokio::join!(reviews.ask(&bob), reconnect);
    assert_eq!(outcome, Ok(false));
    proxy.abort();
}

#[tokio::test]
async fn uses_of_access_keys_are_reported_to_an_operator_that_takes_them() {
    let (address, mut peers) = listen(None).await;
    let settings =
        StreamSettings { operator: format!("http://{address}").parse().unwrap(), authority: None, token: None };
    let sink = sink(&Arc::default());
    let uses = sink.key_uses.clone();
    let mut subscriber = Subscriber::start("p".into(), FleetName::default(), sink, None);
    let proxy = tokio::spawn(async move { run(&settings, &mut subscriber).await });
    let principal = PartName::of_object(PartKind::Principal, "shop", "ann");
    let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(600);

    let mut peer = peers.recv().await.unwrap();
    hello(&mut peer).await;
    uses.of(&principal, "A").note(at);
    // An operator that does not list the frame gets none.
    let capabilities = Capabilities::from_iter(["frame/Ping"]);
    peer.send(&Down::Welcome(Welcome { program: "old".into(), capabilities })).await;
    for _ in 0..3 {
        peer.send(&Down::Ping).await;
        assert_eq!(peer.receive::<Up>().await, Up::Pong);
    }
    drop(peer);

    let mut peer = peers.recv().await.unwrap();
    hello(&mut peer).await;
    let capabilities = Capabilities::of_this_version();
    peer.send(&Down::Welcome(Welcome { program: "new".into(), capabilities })).await;
    let keys = vec![KeyUse { principal, id: "A".into(), at: 600 }];
    assert_eq!(peer.receive::<Up>().await, Up::Used(Used { keys }));
    proxy.abort();
}
