//! One proxy's stream: the hello, the changes that the proxy is sent, its acknowledgements. `admission` decides who may open
//! a stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use http_body::Body;
use http_body_util::BodyExt as _;
use k8s_openapi::jiff::Timestamp;
use sluice_wire::codec::{self, CodecError, Decoder};
use sluice_wire::{
    AccessReview, Ack, Capabilities, Down, FleetName, Hash, Hello, Outcome, Parts, Reviewed, Up, Welcome,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::publish::admission::Admitted;
use crate::publish::configuration::{Current, Published, delta};
use crate::publish::key_uses::KeyUses;
use crate::publish::proxies::{Known, Membership, Proxies};
use crate::publish::reviewer::Reviewer;

/// Frames of proxies are small; the longest is the list of hashes in the hello.
const MAX_UP_BYTES: usize = 64 << 20;
const MAX_NAME_BYTES: usize = 253;
/// Texts of proxies are cut at these lengths in logs.
const MAX_PROGRAM_CHARS: usize = 64;
const MAX_REASON_CHARS: usize = 1024;
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Later acknowledgements count the proxy as lagging.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Without an acknowledgement for this long the stream ends, and the proxy reconnects.
const ACK_LIMIT: Duration = Duration::from_secs(120);
const PING_EVERY: Duration = Duration::from_secs(10);
/// Idle timeout: a proxy replies to each ping.
const IDLE_TIMEOUT: Duration = Duration::from_secs(35);
/// Write timeout: a proxy that reads nothing for this long is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Access reviews of one proxy at a time. A proxy waits for 256, each at most a second longer than the review takes.
const MAX_REVIEWS: usize = 1024;
/// A stream ends after this time, and the proxy connects again with a valid credential: the lifetime of the chart's tokens.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DisconnectReason {
    #[error("the proxy closed the stream")]
    Closed,
    #[error("the stream failed: {0}")]
    Broken(String),
    #[error("cannot decode a frame")]
    Codec(#[from] CodecError),
    #[error("the proxy sent a frame out of order")]
    OutOfOrder,
    #[error("the proxy's name is empty or too long")]
    BadName,
    #[error("the proxy {proxy} presented the token of the Pod {pod}")]
    OtherPod { proxy: String, pod: String },
    #[error("the token of the proxy {proxy} does not allow the fleet {fleet}")]
    OtherFleet { proxy: String, fleet: FleetName },
    #[error("the proxy waits for too many access reviews")]
    TooManyReviews,
    #[error("the proxy sent no hello in time")]
    NoHello,
    #[error("the proxy sent nothing for too long")]
    Idle,
    #[error("the proxy does not read the stream")]
    NotReading,
    #[error("the proxy did not acknowledge in time")]
    NotAcknowledging,
    #[error("a newer connection of the same proxy replaced this one")]
    Replaced,
    #[error("the stream is too old: the proxy has to authenticate again")]
    TooOld,
    #[error("the operator is stopping")]
    Stopping,
}

/// Frames out of a request's body.
struct FrameReader<B> {
    body: B,
    decoder: Decoder<Up>,
}

impl<B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin> FrameReader<B> {
    /// The first frame, apart from those of a newer version.
    async fn hello(&mut self) -> Result<Hello, DisconnectReason> {
        loop {
            match self.next().await? {
                Up::Hello(hello) => return Ok(hello),
                Up::Unknown(_) => {}
                Up::Ack(_) | Up::Pong | Up::Review(_) | Up::Used(_) => return Err(DisconnectReason::OutOfOrder),
            }
        }
    }

    /// Cancel safe.
    async fn next(&mut self) -> Result<Up, DisconnectReason> {
        loop {
            if let Some(frame) = self.decoder.next() {
                return Ok(frame?);
            }
            match self.body.frame().await {
                None => return Err(DisconnectReason::Closed),
                Some(Err(error)) => return Err(DisconnectReason::Broken(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.push(&data);
                    }
                }
            }
        }
    }
}

fn capped(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

/// A configuration that was sent and is not acknowledged yet.
struct InFlight {
    published: Published,
    at: Instant,
    late: bool,
}

struct ProxyStream {
    down: mpsc::Sender<Bytes>,
    membership: Membership,
    fleet: FleetName,
    known: Known,
    /// The version of the last acknowledgement, which is not sent again.
    acknowledged: Option<Hash>,
    in_flight: Option<InFlight>,
    /// The size of the fleet that was sent to the proxy.
    fleet_size: u32,
    max_age: Duration,
    services: Services,
    /// The access reviews under way.
    reviews: FuturesUnordered<BoxFuture<'static, Reviewed>>,
}

/// What the operator does for proxies besides their configuration.
pub(crate) struct Services {
    pub(crate) reviewer: Reviewer,
    pub(crate) key_uses: KeyUses,
}

/// Serves a stream until it ends.
pub(crate) async fn run<B>(
    body: B,
    down: mpsc::Sender<Bytes>,
    mut current: watch::Receiver<Option<Arc<Current>>>,
    proxies: Proxies,
    admitted: Admitted,
    services: Services,
) -> DisconnectReason
where
    B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
{
    let mut frames = FrameReader { body, decoder: Decoder::with_max(MAX_UP_BYTES) };
    let mut hello = match tokio::time::timeout(HELLO_TIMEOUT, frames.hello()).await {
        Err(_) => return DisconnectReason::NoHello,
        Ok(Err(ended)) => return ended,
        Ok(Ok(hello)) => hello,
    };
    let reported: Parts<Hash> = std::mem::take(&mut hello.parts).into_iter().collect();
    let proxy = hello.proxy.clone();
    if proxy.is_empty() || proxy.len() > MAX_NAME_BYTES || proxy.chars().any(char::is_control) {
        return DisconnectReason::BadName;
    }
    if !admitted.may_join(&hello.fleet) {
        tracing::warn!(proxy.name = proxy, fleet.name = %hello.fleet, "rejected a proxy whose token is for another fleet");
        return DisconnectReason::OtherFleet { proxy, fleet: hello.fleet };
    }
    // A token of one Pod must not authenticate another.
    if let Some(pod) = admitted.pod.filter(|pod| *pod != proxy) {
        tracing::warn!(proxy.name = proxy, token.pod = pod, "rejected a proxy that presented the token of another Pod");
        return DisconnectReason::OtherPod { proxy, pod };
    }
    tracing::info!(proxy.name = proxy, proxy.version = capped(&hello.program, MAX_PROGRAM_CHARS),
        fleet.name = %hello.fleet, config.parts = reported.len(), "proxy connected");
    let membership = proxies.join(&hello, reported.clone());
    let welcome = hello.capabilities.has_frame("Welcome");
    // A long list of capabilities is not kept for the life of the stream.
    let fleet = hello.fleet.clone();
    drop(hello);
    let mut stream = ProxyStream {
        down,
        membership,
        fleet,
        known: Known::Reported(reported),
        acknowledged: None,
        in_flight: None,
        fleet_size: 0,
        max_age: max_age(&proxy),
        services,
        reviews: FuturesUnordered::new(),
    };
    if welcome && let Err(ended) = stream.welcome().await {
        return ended;
    }
    let ended = stream.serve(&mut frames, &mut current, &proxies).await;
    tracing::info!(proxy.name = proxy, reason = %ended, "proxy disconnected");
    ended
}

/// Up to a tenth less than the maximum, by the proxy's name: proxies of a fleet do not reconnect at the same moment.
fn max_age(proxy: &str) -> Duration {
    let sum = proxy.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    MAX_AGE - MAX_AGE / 10 * (sum % 100) / 100
}

impl ProxyStream {
    async fn serve<B>(
        &mut self,
        frames: &mut FrameReader<B>,
        current: &mut watch::Receiver<Option<Arc<Current>>>,
        proxies: &Proxies,
    ) -> DisconnectReason
    where
        B: Body<Data = Bytes, Error: std::fmt::Display> + Unpin,
    {
        let mut members = proxies.changes();
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_frame = Instant::now();
        let replaced = self.membership.replaced.clone();
        let mut end = std::pin::pin!(tokio::time::sleep(self.max_age));
        loop {
            if let Err(ended) = self.notify_fleet_size(proxies).await {
                return ended;
            }
            let newest = current.borrow_and_update().clone();
            if let Some(newest) = newest
                && let Err(ended) = self.offer(newest.of(&self.fleet)).await
            {
                return ended;
            }
            let deadline =
                self.in_flight.as_ref().map(|sent| sent.at + if sent.late { ACK_LIMIT } else { ACK_TIMEOUT });
            let outcome = tokio::select! {
                frame = frames.next() => {
                    last_frame = Instant::now();
                    let newest = current.borrow().clone();
                    frame.and_then(|frame| self.on_frame(frame, newest.as_deref()))
                }
                Some(reviewed) = self.reviews.next(), if !self.reviews.is_empty() => {
                    self.send(&Down::Reviewed(reviewed)).await
                }
                changed = current.changed() => changed.map_err(|_| DisconnectReason::Stopping),
                changed = members.changed() => changed.map_err(|_| DisconnectReason::Stopping),
                () = replaced.cancelled() => Err(DisconnectReason::Replaced),
                () = end.as_mut() => Err(DisconnectReason::TooOld),
                _ = ping.tick() => {
                    if last_frame.elapsed() > IDLE_TIMEOUT { Err(DisconnectReason::Idle) } else { self.send(&Down::Ping).await }
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => self.late(),
            };
            if let Err(ended) = outcome {
                return ended;
            }
        }
    }

    async fn welcome(&mut self) -> Result<(), DisconnectReason> {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        self.send(&Down::Welcome(Welcome { program, capabilities: Capabilities::of_this_version() })).await
    }

    async fn notify_fleet_size(&mut self, proxies: &Proxies) -> Result<(), DisconnectReason> {
        let proxies = u32::try_from(proxies.size_of(&self.fleet)).unwrap_or(u32::MAX).max(1);
        if proxies != self.fleet_size {
            self.fleet_size = proxies;
            self.send(&Down::Fleet { proxies }).await?;
        }
        Ok(())
    }

    /// Sends the difference to the newest configuration, unless the proxy is still applying one: then the newest follows.
    async fn offer(&mut self, newest: &Published) -> Result<(), DisconnectReason> {
        let version = newest.version;
        if self.in_flight.is_some() || self.acknowledged == Some(version) {
            return Ok(());
        }
        let delta = match &self.known {
            Known::Reported(hashes) => delta(hashes, newest),
            Known::Acknowledged(parts) => delta(parts, newest),
        };
        self.send(&Down::Delta(delta)).await?;
        self.in_flight = Some(InFlight { published: newest.clone(), at: Instant::now(), late: false });
        Ok(())
    }

    fn on_frame(&mut self, frame: Up, newest: Option<&Current>) -> Result<(), DisconnectReason> {
        let ack = match frame {
            Up::Hello(_) => return Err(DisconnectReason::OutOfOrder),
            Up::Pong => return Ok(()),
            Up::Review(review) => return self.review(review),
            Up::Used(used) => {
                if let Some(newest) = newest {
                    self.services.key_uses.record(used, &self.fleet, newest, Timestamp::now());
                }
                return Ok(());
            }
            // The decoder has ended the stream already if the frame is essential.
            Up::Unknown(unknown) => {
                tracing::debug!(frame = unknown.name, "ignored a frame of a newer version");
                return Ok(());
            }
            Up::Ack(ack) => ack,
        };
        let Ack { version, outcome, diagnostics } = ack;
        let Some(sent) = self.in_flight.take() else { return Err(DisconnectReason::OutOfOrder) };
        if sent.published.version != version {
            return Err(DisconnectReason::OutOfOrder);
        }
        self.acknowledged = Some(version);
        match outcome {
            Outcome::Applied => {
                self.known = Known::Acknowledged(sent.published.parts.clone());
                self.membership.applied(&sent.published, diagnostics);
            }
            Outcome::Rejected { why } => {
                self.log_rejection(version, &why);
                self.membership.rejected(version, why);
            }
            Outcome::Unknown(unknown) => {
                let why =
                    format!("The proxy reports the outcome {:?}, which this operator does not know.", unknown.name);
                self.log_rejection(version, &why);
                self.membership.rejected(version, why);
            }
        }
        Ok(())
    }

    /// Begins an access review.
    fn review(&self, review: AccessReview) -> Result<(), DisconnectReason> {
        if self.reviews.len() >= MAX_REVIEWS {
            return Err(DisconnectReason::TooManyReviews);
        }
        self.reviews.push(Box::pin(self.services.reviewer.clone().review(review)));
        Ok(())
    }

    fn log_rejection(&self, version: Hash, why: &str) {
        tracing::warn!(
            proxy.name = self.membership.name(),
            fleet.name = %self.fleet,
            config.version = version.short(),
            error = capped(why, MAX_REASON_CHARS),
            "a proxy rejected the configuration"
        );
    }

    fn late(&mut self) -> Result<(), DisconnectReason> {
        match &mut self.in_flight {
            Some(sent) if sent.late => Err(DisconnectReason::NotAcknowledging),
            Some(sent) => {
                sent.late = true;
                self.membership.lagging();
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn send(&mut self, frame: &Down) -> Result<(), DisconnectReason> {
        let bytes = Bytes::from(codec::encode(frame)?);
        match tokio::time::timeout(SEND_TIMEOUT, self.down.send(bytes)).await {
            Err(_) => Err(DisconnectReason::NotReading),
            Ok(Err(_)) => Err(DisconnectReason::Closed),
            Ok(Ok(())) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
