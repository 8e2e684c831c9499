//! The operator's stream: connect, say hello, take changes, acknowledge them, and begin anew when it breaks.
//! What a change does is in `session`; the connection itself is in `dial`.

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
use sluice_wire::{Down, Outcome, STREAM_PATH, Up};
use tokio::sync::mpsc;

use super::Session;
use super::dial::{DialError, dial};

/// The operator pings more often; a longer silence is a lost connection.
const SILENCE: Duration = Duration::from_secs(30);
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Answers that wait to be sent; the operator that does not take them is not there.
const ANSWERS: usize = 16;

/// Where the operator is, and how to be believed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://HOST:PORT`.
    pub operator: Uri,
    /// The authority that signed the operator's certificate, as PEM; none: the system's roots.
    pub authority: Option<PathBuf>,
    /// A service account token or a shared secret, read anew at each connect.
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
    #[error("the token file {0} is empty, too long, or not text that fits a header")]
    TokenText(PathBuf),
    #[error("the operator does not believe this proxy's token ({0})")]
    Unauthorized(StatusCode),
    #[error("the operator answered {0}")]
    Status(StatusCode),
    #[error("cannot write the request")]
    Request(#[from] http::Error),
    #[error("the stream broke")]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the operator was silent for {} s", SILENCE.as_secs())]
    Silent,
    #[error("the operator ended the stream")]
    Ended,
    #[error("the operator takes no answers")]
    Stuck,
    #[error("a configuration was refused: the next connection begins from what is served")]
    Refused,
}

/// Follows the operator for ever. To be dropped when the proxy stops.
pub async fn run(settings: &Settings, session: &mut Session) -> Infallible {
    let mut wait = FIRST_WAIT;
    loop {
        let mut took_a_change = false;
        let result = follow(settings, session, &mut took_a_change).await;
        session.set_connected(false);
        if took_a_change {
            wait = FIRST_WAIT;
        }
        let pause = jittered(wait);
        if let Err(error) = result {
            let error = sluice_daemon::logging::chain(&error);
            tracing::warn!(operator.url = %settings.operator, error, retry.ms = pause.as_millis(), "lost the operator; serving on");
        }
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

type Answers = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

async fn follow(settings: &Settings, session: &mut Session, took_a_change: &mut bool) -> Result<(), StreamError> {
    let mut sender = dial::<Answers>(&settings.operator, settings.authority.as_deref()).await?;
    let (answers, queue) = mpsc::channel::<Vec<u8>>(ANSWERS);
    let body = futures::stream::unfold(queue, |mut queue| async move { Some((queue.recv().await?, queue)) });
    let body: Answers = StreamBody::new(body.map(|bytes| Ok(Frame::data(Bytes::from(bytes)))).boxed());
    send(&answers, &session.hello()).await?;
    let request = request(settings, body).await?;
    let answer = tokio::time::timeout(ANSWER_DEADLINE, sender.send_request(request))
        .await
        .map_err(|_| StreamError::Silent)??;
    match answer.status() {
        StatusCode::OK => {}
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => return Err(StreamError::Unauthorized(status)),
        status => return Err(StreamError::Status(status)),
    }
    session.set_connected(true);
    tracing::info!(operator.url = %settings.operator, "following the operator");
    let mut body = answer.into_body();
    let mut decoder = Decoder::<Down>::new();
    loop {
        let piece = tokio::time::timeout(SILENCE, body.frame()).await.map_err(|_| StreamError::Silent)?;
        let Ok(data) = piece.ok_or(StreamError::Ended)??.into_data() else { continue };
        decoder.push(&data);
        while let Some(frame) = decoder.next() {
            let frame = frame?;
            let Some(up) = session.take(frame).await else { continue };
            send(&answers, &up).await?;
            if let Up::Ack(ack) = &up {
                if matches!(ack.outcome, Outcome::Refused { .. }) {
                    // The answer travels before the connection goes.
                    drop(answers);
                    tokio::time::sleep(FIRST_WAIT).await;
                    return Err(StreamError::Refused);
                }
                *took_a_change = true;
            }
        }
    }
}

async fn send(answers: &mpsc::Sender<Vec<u8>>, frame: &Up) -> Result<(), StreamError> {
    answers.send_timeout(codec::encode(frame)?, ANSWER_DEADLINE).await.map_err(|_| StreamError::Stuck)
}

async fn request(settings: &Settings, body: Answers) -> Result<Request<Answers>, StreamError> {
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

/// Between half of `wait` and all of it, so that a fleet does not come back at one moment.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 2];
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        return wait;
    }
    wait / 2 + (wait / 2) * u32::from(u16::from_be_bytes(random)) / 65_536
}

#[cfg(test)]
mod tests;
