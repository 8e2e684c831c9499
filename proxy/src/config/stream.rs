//! The operator's stream: connects, sends the hello, passes frames to `subscriber`, sends its replies, and reconnects with
//! backoff. `dial` opens the connection.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{Request, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use sluice_wire::codec::{self, CodecError, Decoder};
use sluice_wire::{AccessReview, Capabilities, Down, Outcome, STREAM_PATH, Up};
use tokio::sync::mpsc;

use super::dial::{DialError, dial};
use super::subscriber::Subscriber;
use crate::key_use::KeyUses;

/// Idle timeout: the operator pings more often.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest pause while the operator is not there. An attempt costs it nothing then, and a proxy must be back within two
/// seconds when the operator is.
const MAX_ABSENT_BACKOFF: Duration = Duration::from_millis(1600);
/// The longest pause after the operator rejected the proxy or its configuration: each attempt costs it work.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Frames that wait to be sent.
const QUEUE: usize = 16;

/// The operator's address and the proxy's credentials.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// `https://HOST:PORT`.
    pub operator: Uri,
    /// The certificate authority of the operator's certificate, as PEM; none: the system's roots.
    pub authority: Option<PathBuf>,
    /// A service account token or a shared secret, read again for each connection.
    pub token: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("cannot read the token file {path}")]
    Token {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the token file {0} is empty, too long, or not a valid header value")]
    TokenText(PathBuf),
    #[error("the operator rejected this proxy's token ({0})")]
    Unauthorized(StatusCode),
    #[error("the operator responded with {0}")]
    Status(StatusCode),
    #[error("cannot build the request")]
    Request(#[from] http::Error),
    #[error("the stream failed")]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the operator sent nothing for {} s", IDLE_TIMEOUT.as_secs())]
    Idle,
    #[error("the operator closed the stream")]
    Ended,
    #[error("the operator does not read replies")]
    Stuck,
    #[error("a configuration was rejected: reconnecting with the configuration that is served")]
    Rejected,
}

impl StreamError {
    /// The longest pause before the next attempt.
    fn max_backoff(&self) -> Duration {
        match self {
            Self::Dial(DialError::Connect { .. }) | Self::Http(_) | Self::Idle | Self::Ended | Self::Stuck => {
                MAX_ABSENT_BACKOFF
            }
            Self::Dial(_)
            | Self::Token { .. }
            | Self::TokenText(_)
            | Self::Unauthorized(_)
            | Self::Status(_)
            | Self::Request(_)
            | Self::Codec(_)
            | Self::Rejected => MAX_BACKOFF,
        }
    }
}

/// The pauses between connections.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Self(FIRST_BACKOFF)
    }

    /// The pause after another failure: twice the last one, at most `max`, with jitter.
    fn next(&mut self, max: Duration) -> Duration {
        let wait = self.0.min(max);
        self.0 = (wait * 2).min(MAX_BACKOFF);
        jittered(wait)
    }
}

/// Follows the operator and never returns. Dropped when the proxy stops.
pub async fn run(settings: &StreamSettings, subscriber: &mut Subscriber) -> Infallible {
    let mut backoff = Backoff::new();
    loop {
        let mut applied = false;
        let result = follow(settings, subscriber, &mut applied).await;
        subscriber.set_connected(false);
        subscriber.access_reviews().disconnect();
        if applied {
            backoff = Backoff::new();
        }
        let max = result.as_ref().err().map_or(MAX_ABSENT_BACKOFF, StreamError::max_backoff);
        let pause = backoff.next(max);
        if let Err(error) = result {
            let error = sluice_daemon::logging::chain(&error);
            tracing::warn!(operator.url = %settings.operator, error, retry.ms = pause.as_millis(), "disconnected from the operator; keeping the current configuration");
        }
        tokio::time::sleep(pause).await;
    }
}

type Replies = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

async fn follow(settings: &StreamSettings, subscriber: &mut Subscriber, applied: &mut bool) -> Result<(), StreamError> {
    let mut sender = dial::<Replies>(&settings.operator, settings.authority.as_deref()).await?;
    let (replies, queue) = mpsc::channel::<Vec<u8>>(QUEUE);
    let body = futures::stream::unfold(queue, |mut queue| async move { Some((queue.recv().await?, queue)) });
    let body: Replies = StreamBody::new(body.map(|bytes| Ok(Frame::data(Bytes::from(bytes)))).boxed());
    send(&replies, &subscriber.hello()).await?;
    let request = request(settings, body).await?;
    let response =
        tokio::time::timeout(REPLY_TIMEOUT, sender.send_request(request)).await.map_err(|_| StreamError::Idle)??;
    match response.status() {
        StatusCode::OK => {}
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => return Err(StreamError::Unauthorized(status)),
        status => return Err(StreamError::Status(status)),
    }
    subscriber.set_connected(true);
    tracing::info!(operator.url = %settings.operator, "connected to the operator");
    let mut body = response.into_body();
    let mut decoder = Decoder::<Down>::new();
    let mut reports = Reports::default();
    loop {
        let next = tokio::time::timeout(IDLE_TIMEOUT, body.frame());
        let piece = reports.send_until(next, &replies).await?;
        let piece = piece.map_err(|_| StreamError::Idle)?;
        let Ok(data) = piece.ok_or(StreamError::Ended)??.into_data() else { continue };
        decoder.push(&data);
        while let Some(frame) = decoder.next() {
            let frame = frame?;
            if let Down::Welcome(welcome) = &frame {
                reports.begin(&welcome.capabilities, subscriber);
            }
            let Some(up) = subscriber.on_frame(frame) else { continue };
            send(&replies, &up).await?;
            if let Up::Ack(ack) = &up {
                if matches!(ack.outcome, Outcome::Rejected { .. }) {
                    // Let the reply leave before the connection closes.
                    drop(replies);
                    tokio::time::sleep(FIRST_BACKOFF).await;
                    return Err(StreamError::Rejected);
                }
                *applied = true;
            }
        }
    }
}

/// What the proxy sends by itself, as far as the operator knows the frames.
#[derive(Default)]
struct Reports {
    questions: Option<mpsc::Receiver<AccessReview>>,
    key_uses: Option<KeyUses>,
}

impl Reports {
    /// The operator has stated what it understands.
    fn begin(&mut self, capabilities: &Capabilities, subscriber: &Subscriber) {
        if capabilities.has_frame("Review") {
            self.questions = Some(subscriber.access_reviews().connect());
        }
        if capabilities.has_frame("Used") {
            subscriber.key_uses().connect();
            self.key_uses = Some(subscriber.key_uses().clone());
        }
    }

    /// Sends what there is until a future is ready.
    async fn send_until<T>(
        &mut self,
        next: impl Future<Output = T>,
        replies: &mpsc::Sender<Vec<u8>>,
    ) -> Result<T, StreamError> {
        let mut next = std::pin::pin!(next);
        loop {
            let question = async { self.questions.as_mut()?.recv().await };
            let used = async { Some(self.key_uses.as_ref()?.next().await) };
            let up = tokio::select! {
                next = &mut next => return Ok(next),
                Some(question) = question => Up::Review(question),
                Some(used) = used => Up::Used(used),
            };
            send(replies, &up).await?;
        }
    }
}

async fn send(replies: &mpsc::Sender<Vec<u8>>, frame: &Up) -> Result<(), StreamError> {
    replies.send_timeout(codec::encode(frame)?, REPLY_TIMEOUT).await.map_err(|_| StreamError::Stuck)
}

async fn request(settings: &StreamSettings, body: Replies) -> Result<Request<Replies>, StreamError> {
    let host = settings.operator.authority().map_or("", |a| a.as_str());
    let scheme = settings.operator.scheme_str().unwrap_or("https");
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(STREAM_PATH).build()?;
    let mut request = Request::post(uri).header(header::CONTENT_TYPE, "application/octet-stream");
    if let Some(path) = &settings.token {
        let failed = |source| StreamError::Token { path: path.clone(), source };
        let text = tokio::fs::read_to_string(path).await.map_err(failed)?;
        let text = text.trim();
        let unfit = || StreamError::TokenText(path.clone());
        if text.is_empty() || text.len() > MAX_TOKEN_BYTES {
            return Err(unfit());
        }
        let mut value = http::HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| unfit())?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    Ok(request.body(body)?)
}

/// Between half of `wait` and all of it, so that the proxies of a fleet do not reconnect at the same moment.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 2];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        return wait;
    }
    wait / 2 + (wait / 2) * u32::from(u16::from_be_bytes(random)) / 65_536
}

#[cfg(test)]
mod tests;
