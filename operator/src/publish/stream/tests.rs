use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::StreamBody;
use prometheus::Registry;
use sluice_wire::Unknown;

use super::*;
use crate::metrics::Metrics;
use crate::publish::publisher::Publisher;
use crate::translate::Translation;

struct Rig {
    up: mpsc::Sender<Bytes>,
    down: mpsc::Receiver<Bytes>,
    proxies: Proxies,
    stream: tokio::task::JoinHandle<DisconnectReason>,
    _publisher: Publisher,
}

async fn rig() -> Rig {
    rig_with(None).await
}

async fn rig_with(pod: Option<&str>) -> Rig {
    rig_that_begins(Up::Hello(Hello::new("one", "test")), pod).await
}

async fn rig_that_begins(first: Up, pod: Option<&str>) -> Rig {
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let (publisher, proxies) = (Publisher::new(metrics.clone()), Proxies::new(metrics));
    publisher.publish(Translation::default());
    let (up, pieces) = mpsc::channel::<Bytes>(64);
    let (sender, down) = mpsc::channel(64);
    let stream =
        futures::stream::unfold(pieces, |mut pieces| async { pieces.recv().await.map(|bytes| (bytes, pieces)) });
    let body = StreamBody::new(Box::pin(stream.map(|bytes| Ok::<_, std::convert::Infallible>(Frame::data(bytes)))));
    let admitted = Admitted { pod: pod.map(str::to_owned), fleets: None };
    let services = Services { reviewer: Reviewer::none(), key_uses: KeyUses::default() };
    let stream = tokio::spawn(run(body, sender, publisher.subscribe(), proxies.clone(), admitted, services));
    up.send(Bytes::from(codec::encode(&first).unwrap())).await.unwrap();
    Rig { up, down, proxies, stream, _publisher: publisher }
}

async fn receive(rig: &mut Rig) -> Option<Down> {
    let mut decoder = Decoder::new();
    decoder.push(&rig.down.recv().await?);
    decoder.next().map(|frame| frame.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_it_is_too_old() {
    let mut rig = rig().await;
    let begun = Instant::now();
    let mut decoder = Decoder::new();
    while let Some(bytes) = rig.down.recv().await {
        decoder.push(&bytes);
        while let Some(frame) = decoder.next() {
            let reply = match frame.unwrap() {
                Down::Ping => Up::Pong,
                Down::Delta(delta) => {
                    Up::Ack(Ack { version: delta.version, outcome: Outcome::Applied, diagnostics: Vec::new() })
                }
                _ => continue,
            };
            // An error: the stream has ended.
            rig.up.send(Bytes::from(codec::encode(&reply).unwrap())).await.unwrap_or_default();
        }
    }
    assert!(matches!(rig.stream.await.unwrap(), DisconnectReason::TooOld));
    let age = begun.elapsed();
    assert!(age <= MAX_AGE && age >= MAX_AGE * 9 / 10, "{age:?}");
    let ages: Vec<Duration> = ["a", "b", "sluice-proxy-7d-x", "sluice-proxy-7d-y"].map(max_age).into();
    assert!(ages.iter().all(|age| *age <= MAX_AGE && *age >= MAX_AGE * 9 / 10) && ages[0] != ages[1]);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_responds_to_pings_but_never_acknowledges_lags_and_is_disconnected() {
    let mut rig = rig().await;
    let begun = Instant::now();
    let mut lagged = None;
    while let Some(frame) = receive(&mut rig).await {
        if frame == Down::Ping && rig.up.send(Bytes::from(codec::encode(&Up::Pong).unwrap())).await.is_err() {
            break;
        }
        if lagged.is_none() && rig.proxies.member(&FleetName::default(), "one").is_some_and(|member| member.lagging) {
            lagged = Some(begun.elapsed());
        }
    }
    assert!(matches!(rig.stream.await.unwrap(), DisconnectReason::NotAcknowledging));
    assert!(lagged.is_some_and(|after| after >= ACK_TIMEOUT && after <= ACK_TIMEOUT + PING_EVERY), "{lagged:?}");
    assert!(begun.elapsed() >= ACK_LIMIT && rig.proxies.is_empty());
}

#[tokio::test(start_paused = true)]
async fn frames_of_a_newer_version_do_not_replace_the_hello() {
    let greeting = Up::Unknown(Unknown { name: "Greeting".into(), essential: false });
    let rig = rig_that_begins(greeting.clone(), None).await;
    let up = rig.up.clone();
    let talking = tokio::spawn(async move {
        while up.send(Bytes::from(codec::encode(&greeting).unwrap())).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    assert!(matches!(rig.stream.await.unwrap(), DisconnectReason::NoHello));
    talking.abort();
}

#[tokio::test(start_paused = true)]
async fn a_token_of_one_pod_does_not_speak_for_another() {
    let stolen = rig_with(Some("two")).await;
    assert!(matches!(stolen.stream.await.unwrap(), DisconnectReason::OtherPod { .. }));
    assert!(stolen.proxies.is_empty());
    let mut own = rig_with(Some("one")).await;
    assert!(receive(&mut own).await.is_some());
    assert_eq!(own.proxies.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_proxy_leaves_the_fleet() {
    let mut rig = rig().await;
    while receive(&mut rig).await.is_some() {}
    assert!(matches!(rig.stream.await.unwrap(), DisconnectReason::Idle));
    assert!(rig.proxies.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_read_leaves_the_fleet() {
    let rig = rig().await;
    // Pings fill the queue in the end; until then the proxy sends frames, so that the idle timeout does not come first.
    let up = rig.up.clone();
    let talking = tokio::spawn(async move {
        while up.send(Bytes::from(codec::encode(&Up::Pong).unwrap())).await.is_ok() {
            tokio::time::sleep(PING_EVERY).await;
        }
    });
    let ended = rig.stream.await.unwrap();
    assert!(matches!(ended, DisconnectReason::NotAcknowledging | DisconnectReason::NotReading), "{ended}");
    assert!(rig.proxies.is_empty());
    talking.abort();
}
