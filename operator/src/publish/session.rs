//! One proxy's stream: what it has, what it is sent, what it says to that. Who may open a stream is `subscriber`'s.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use sluice_wire::codec::{self, CodecError, Decoder};
use sluice_wire::{Ack, Down, Hash, Hello, Outcome, Parts, Up};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::publish::fleet::Membership;
use crate::publish::{Current, Fleet, Known, delta};

/// What a proxy sends is small; the longest is its list of hashes.
const MAX_UP_BYTES: usize = 64 << 20;
const MAX_NAME_BYTES: usize = 253;
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Later acknowledgements count the proxy as lagging.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Without an acknowledgement for so long the stream ends, and the proxy begins anew.
const ACK_LIMIT: Duration = Duration::from_secs(120);
const PING_EVERY: Duration = Duration::from_secs(10);
/// A proxy that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(35);
/// A proxy that does not read for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the proxy closed the stream")]
    Closed,
    #[error("the stream broke: {0}")]
    Broken(String),
    #[error("cannot read a frame")]
    Codec(#[from] CodecError),
    #[error("the proxy sent something out of turn")]
    OutOfTurn,
    #[error("the proxy's name is empty or too long")]
    BadName,
    #[error("the proxy {proxy} came with a token of the Pod {pod}")]
    OtherPod { proxy: String, pod: String },
    #[error("the proxy did not say hello in time")]
    NoHello,
    #[error("the proxy has been silent for too long")]
    Silent,
    #[error("the proxy does not read")]
    NotReading,
    #[error("the proxy did not acknowledge in time")]
    NotAcknowledging,
    #[error("a newer connection of the proxy took its place")]
    Replaced,
    #[error("the operator stops")]
    Stopping,
}

/// Frames out of a request's body.
struct Frames<B> {
    body: B,
    decoder: Decoder<Up>,
}

impl<B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin> Frames<B> {
    /// Losing the future loses nothing.
    async fn next(&mut self) -> Result<Up, Ended> {
        loop {
            if let Some(frame) = self.decoder.next() {
                return Ok(frame?);
            }
            match self.body.frame().await {
                None => return Err(Ended::Closed),
                Some(Err(error)) => return Err(Ended::Broken(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.push(&data);
                    }
                }
            }
        }
    }
}

/// What was sent and not yet acknowledged.
struct Sent {
    current: Arc<Current>,
    at: Instant,
    late: bool,
}

struct Session {
    down: mpsc::Sender<Bytes>,
    membership: Membership,
    known: Known,
    /// The version that was answered last, so that it is not sent again.
    answered: Option<Hash>,
    sent: Option<Sent>,
    told: u32,
}

/// Runs a stream until it ends.
pub(crate) async fn run<B>(
    body: B,
    down: mpsc::Sender<Bytes>,
    mut current: watch::Receiver<Option<Arc<Current>>>,
    fleet: Fleet,
    pod: Option<String>,
) -> Ended
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    let mut frames = Frames { body, decoder: Decoder::with_max(MAX_UP_BYTES) };
    let hello = match tokio::time::timeout(HELLO_TIMEOUT, frames.next()).await {
        Err(_) => return Ended::NoHello,
        Ok(Err(ended)) => return ended,
        Ok(Ok(Up::Hello(hello))) => hello,
        Ok(Ok(_)) => return Ended::OutOfTurn,
    };
    let Hello { proxy, program, parts } = hello;
    if proxy.is_empty() || proxy.len() > MAX_NAME_BYTES || proxy.chars().any(char::is_control) {
        return Ended::BadName;
    }
    // A token that was taken from one Pod must not speak for another.
    if let Some(pod) = pod.filter(|pod| *pod != proxy) {
        tracing::warn!(proxy.name = proxy, token.pod = pod, "a subscriber with the token of another Pod was refused");
        return Ended::OtherPod { proxy, pod };
    }
    tracing::info!(proxy.name = proxy, proxy.version = program, config.parts = parts.len(), "proxy connected");
    let told: Parts<Hash> = parts.into_iter().collect();
    let membership = fleet.join(&proxy, told.clone());
    let mut session = Session { down, membership, known: Known::Told(told), answered: None, sent: None, told: 0 };
    let ended = session.serve(&mut frames, &mut current, &fleet).await;
    tracing::info!(proxy.name = proxy, reason = %ended, "proxy disconnected");
    ended
}

impl Session {
    async fn serve<B>(
        &mut self,
        frames: &mut Frames<B>,
        current: &mut watch::Receiver<Option<Arc<Current>>>,
        fleet: &Fleet,
    ) -> Ended
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        let mut members = fleet.changes();
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let replaced = self.membership.replaced.clone();
        loop {
            if let Err(ended) = self.tell_fleet(fleet).await {
                return ended;
            }
            let newest = current.borrow_and_update().clone();
            if let Some(newest) = newest
                && let Err(ended) = self.offer(newest).await
            {
                return ended;
            }
            let deadline = self.sent.as_ref().map(|sent| sent.at + if sent.late { ACK_LIMIT } else { ACK_TIMEOUT });
            let outcome = tokio::select! {
                frame = frames.next() => {
                    heard = Instant::now();
                    frame.and_then(|frame| self.hear(frame))
                }
                changed = current.changed() => changed.map_err(|_| Ended::Stopping),
                changed = members.changed() => changed.map_err(|_| Ended::Stopping),
                () = replaced.cancelled() => Err(Ended::Replaced),
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE { Err(Ended::Silent) } else { self.send(&Down::Ping).await }
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => self.late(),
            };
            if let Err(ended) = outcome {
                return ended;
            }
        }
    }

    async fn tell_fleet(&mut self, fleet: &Fleet) -> Result<(), Ended> {
        let proxies = u32::try_from(fleet.len()).unwrap_or(u32::MAX).max(1);
        if proxies != self.told {
            self.told = proxies;
            self.send(&Down::Fleet { proxies }).await?;
        }
        Ok(())
    }

    /// Sends the difference to the newest configuration, unless the proxy is busy with one: then the newest comes next.
    async fn offer(&mut self, newest: Arc<Current>) -> Result<(), Ended> {
        let version = newest.published.version;
        if self.sent.is_some() || self.answered == Some(version) {
            return Ok(());
        }
        let delta = match &self.known {
            Known::Told(hashes) => delta(hashes, &newest.published),
            Known::Served(parts) => delta(parts, &newest.published),
        };
        self.send(&Down::Delta(delta)).await?;
        self.sent = Some(Sent { current: newest, at: Instant::now(), late: false });
        Ok(())
    }

    fn hear(&mut self, frame: Up) -> Result<(), Ended> {
        let ack = match frame {
            Up::Hello(_) => return Err(Ended::OutOfTurn),
            Up::Pong => return Ok(()),
            Up::Ack(ack) => ack,
        };
        let Ack { version, outcome, diagnostics } = ack;
        let Some(sent) = self.sent.take() else { return Err(Ended::OutOfTurn) };
        if sent.current.published.version != version {
            return Err(Ended::OutOfTurn);
        }
        self.answered = Some(version);
        match outcome {
            Outcome::Applied => {
                self.known = Known::Served(sent.current.published.parts.clone());
                self.membership.applied(&sent.current.published, diagnostics);
            }
            Outcome::Refused { why } => {
                tracing::warn!(config.version = version.short(), error = why, "a proxy refused the configuration");
                self.membership.refused(version, why);
            }
        }
        Ok(())
    }

    fn late(&mut self) -> Result<(), Ended> {
        match &mut self.sent {
            Some(sent) if sent.late => Err(Ended::NotAcknowledging),
            Some(sent) => {
                sent.late = true;
                self.membership.lagging();
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn send(&self, frame: &Down) -> Result<(), Ended> {
        let bytes = Bytes::from(codec::encode(frame)?);
        match tokio::time::timeout(SEND_TIMEOUT, self.down.send(bytes)).await {
            Err(_) => Err(Ended::NotReading),
            Ok(Err(_)) => Err(Ended::Closed),
            Ok(Ok(())) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures::StreamExt as _;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use prometheus::Registry;

    use super::*;
    use crate::metrics::Metrics;
    use crate::publish::Publisher;
    use crate::translate::Translation;

    struct Rig {
        up: mpsc::Sender<Bytes>,
        down: mpsc::Receiver<Bytes>,
        fleet: Fleet,
        session: tokio::task::JoinHandle<Ended>,
        _publisher: Publisher,
    }

    async fn rig() -> Rig {
        rig_with(None).await
    }

    async fn rig_with(pod: Option<&str>) -> Rig {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let (publisher, fleet) = (Publisher::new(metrics.clone()), Fleet::new(metrics));
        publisher.publish(Translation::default());
        let (up, pieces) = mpsc::channel::<Bytes>(64);
        let (sender, down) = mpsc::channel(64);
        let stream =
            futures::stream::unfold(pieces, |mut pieces| async { pieces.recv().await.map(|bytes| (bytes, pieces)) });
        let body = StreamBody::new(Box::pin(stream.map(|bytes| Ok::<_, std::convert::Infallible>(Frame::data(bytes)))));
        let session = tokio::spawn(run(body, sender, publisher.subscribe(), fleet.clone(), pod.map(str::to_owned)));
        let hello = Hello { proxy: "one".into(), program: "test".into(), parts: BTreeMap::new() };
        up.send(Bytes::from(codec::encode(&Up::Hello(hello)).unwrap())).await.unwrap();
        Rig { up, down, fleet, session, _publisher: publisher }
    }

    async fn hear(rig: &mut Rig) -> Option<Down> {
        let mut decoder = Decoder::new();
        decoder.push(&rig.down.recv().await?);
        decoder.next().map(|frame| frame.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_answers_pings_but_never_acknowledges_lags_and_then_has_to_begin_anew() {
        let mut rig = rig().await;
        let begun = Instant::now();
        let mut lagged = None;
        while let Some(frame) = hear(&mut rig).await {
            if frame == Down::Ping && rig.up.send(Bytes::from(codec::encode(&Up::Pong).unwrap())).await.is_err() {
                break;
            }
            if lagged.is_none() && rig.fleet.members().get("one").is_some_and(|member| member.lagging) {
                lagged = Some(begun.elapsed());
            }
        }
        assert!(matches!(rig.session.await.unwrap(), Ended::NotAcknowledging));
        assert!(lagged.is_some_and(|after| after >= ACK_TIMEOUT && after <= ACK_TIMEOUT + PING_EVERY), "{lagged:?}");
        assert!(begun.elapsed() >= ACK_LIMIT && rig.fleet.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_of_one_pod_does_not_speak_for_another() {
        let stolen = rig_with(Some("two")).await;
        assert!(matches!(stolen.session.await.unwrap(), Ended::OtherPod { .. }));
        assert!(stolen.fleet.is_empty());
        let mut own = rig_with(Some("one")).await;
        assert!(hear(&mut own).await.is_some());
        assert_eq!(own.fleet.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_proxy_leaves_the_fleet() {
        let mut rig = rig().await;
        while hear(&mut rig).await.is_some() {}
        assert!(matches!(rig.session.await.unwrap(), Ended::Silent));
        assert!(rig.fleet.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_does_not_read_leaves_the_fleet() {
        let rig = rig().await;
        // Its pings fill the queue in the end; until then silence would be noticed first, so it talks.
        let up = rig.up.clone();
        let talking = tokio::spawn(async move {
            while up.send(Bytes::from(codec::encode(&Up::Pong).unwrap())).await.is_ok() {
                tokio::time::sleep(PING_EVERY).await;
            }
        });
        let ended = rig.session.await.unwrap();
        assert!(matches!(ended, Ended::NotAcknowledging | Ended::NotReading), "{ended}");
        assert!(rig.fleet.is_empty());
        talking.abort();
    }
}
