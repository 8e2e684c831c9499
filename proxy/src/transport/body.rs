//! Bodies of requests on their way to a server, and a collector for bodies of responses that is capped.

use std::any::Any;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// What the client can send: hyper's bounds under one name.
pub(crate) trait SendBody:
    Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>> + Send> + Send + Unpin + 'static
{
}

impl<B> SendBody for B where
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>> + Send> + Send + Unpin + 'static
{
}

/// Something that is in use until a body has been sent: its HTTP/2 stream.
type InUse = Arc<dyn Any + Send + Sync>;

/// The body of a request.
pub(crate) enum Payload<B: SendBody> {
    Empty,
    /// It is sent as it arrives.
    Streaming(B),
    /// It had arrived as a whole when the request got an HTTP/2 stream, so that it can be sent again.
    Whole(Box<Whole>),
    /// On an HTTP/2 stream, which is in use until the body has been sent.
    OnStream(Box<OnStream<B>>),
}

pub(crate) struct Whole {
    /// None: it was sent.
    bytes: Option<Bytes>,
    stream: Option<InUse>,
}

pub(crate) struct OnStream<B: SendBody> {
    /// What was read while the body was looked at.
    first: Option<Result<Frame<Bytes>, B::Error>>,
    rest: B,
    stream: Option<InUse>,
}

impl<B: SendBody> From<B> for Payload<B> {
    fn from(body: B) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::Streaming(body) }
    }
}

impl<B: SendBody> Payload<B> {
    /// Reads what has arrived of the body, without waiting, so that small ones are known to be small.
    pub(super) async fn look(self) -> Self {
        let Self::Streaming(mut body) = self else { return self };
        let mut first = poll_once(&mut body).await;
        if first.is_none() {
            // The client's connection may have the body already, and no time yet to pass it on.
            tokio::task::yield_now().await;
            first = poll_once(&mut body).await;
        }
        match first {
            Some(None) => Self::in_memory(Bytes::new()),
            Some(Some(Ok(frame))) if body.is_end_stream() => match frame.into_data() {
                Ok(data) => Self::in_memory(data),
                Err(frame) => Self::OnStream(Box::new(OnStream { first: Some(Ok(frame)), rest: body, stream: None })),
            },
            Some(first) => Self::OnStream(Box::new(OnStream { first, rest: body, stream: None })),
            None => Self::OnStream(Box::new(OnStream { first: None, rest: body, stream: None })),
        }
    }

    /// A body that is in memory as a whole.
    pub(crate) fn in_memory(bytes: Bytes) -> Self {
        Self::Whole(Box::new(Whole { bytes: Some(bytes), stream: None }))
    }

    /// The length that the body cannot exceed.
    pub(super) fn longest(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Whole(body) => Some(body.bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streaming(body) => body.size_hint().upper(),
            Self::OnStream(body) => {
                let first = body.first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref());
                let first = first.map_or(0, Bytes::len) as u64;
                body.rest.size_hint().upper()?.checked_add(first)
            }
        }
    }

    /// A copy of a body that is in memory as a whole.
    pub(super) fn copy(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Whole(body) => body.bytes.clone().map(Self::in_memory),
            Self::Streaming(_) | Self::OnStream(_) => None,
        }
    }

    /// Keeps the stream in use until the body has been sent or dropped; none: the body is on no stream any more.
    pub(super) fn attach(&mut self, to: Option<InUse>) {
        match self {
            Self::Empty | Self::Streaming(_) => {}
            Self::Whole(body) => body.stream = to,
            Self::OnStream(body) => body.stream = to,
        }
    }

    /// Whether hyper does not get the length.
    pub(super) fn has_no_length(&self) -> bool {
        !matches!(self, Self::Empty)
    }
}

/// The next frame, without waiting for it; none: it has not arrived.
async fn poll_once<B: Body + Unpin>(body: &mut B) -> Option<Option<Result<Frame<B::Data>, B::Error>>> {
    std::future::poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

impl<B: SendBody> Body for Payload<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.get_mut() {
            Self::Streaming(body) => Pin::new(body).poll_frame(cx),
            Self::Empty => Poll::Ready(None),
            Self::Whole(body) => Poll::Ready(body.bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::OnStream(body) => match body.first.take() {
                Some(first) => Poll::Ready(Some(first)),
                None => Pin::new(&mut body.rest).poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Streaming(body) => body.is_end_stream(),
            Self::Empty => true,
            Self::Whole(body) => body.bytes.is_none(),
            Self::OnStream(body) => body.first.is_none() && body.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Streaming(body) => body.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
            // hyper writes a Content-Length from the exact size, which the client did not; with what was read already it
            // would also be wrong.
            Self::Whole(_) | Self::OnStream(_) => SizeHint::default(),
        }
    }
}

/// Why a body cannot be collected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError<E: StdError + 'static> {
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    #[error("cannot read the body")]
    Read(#[source] E),
}

/// Reads a body to its end. One that is longer than `limit` is an error as soon as that is known.
pub(crate) async fn collect_capped<B>(mut body: B, limit: usize) -> Result<Bytes, CollectError<B::Error>>
where
    B: Body<Data = Bytes, Error: StdError + 'static> + Unpin,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(CollectError::TooLong(limit));
    }
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(CollectError::Read)?.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(CollectError::TooLong(limit));
        }
        // Most bodies arrive in one piece, which needs no copy.
        if all.is_empty() && first.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&first);
            first = Bytes::new();
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::StreamExt as _;
    use http_body_util::{Full, StreamBody};

    use super::*;

    type Chunks = StreamBody<futures::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

    /// A body that arrives in pieces; none: it has not arrived yet.
    fn arriving(pieces: &[Option<&'static str>]) -> Payload<Chunks> {
        let all =
            pieces.iter().map_while(|piece| piece.map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))));
        let arrived = futures::stream::iter(all.collect::<Vec<_>>());
        Payload::from(match pieces.contains(&None) {
            true => StreamBody::new(arrived.chain(futures::stream::pending()).boxed()),
            false => StreamBody::new(arrived.boxed()),
        })
    }

    #[tokio::test]
    async fn what_was_read_to_see_the_size_of_a_body_is_sent_all_the_same() {
        let looked = arriving(&[Some("hel"), Some("lo")]).look().await;
        assert!(looked.copy().is_none());
        assert_eq!(looked.collect_all().await, "hello");
        let waiting = arriving(&[Some("hel"), None]).look().await;
        assert!(waiting.copy().is_none() && waiting.longest().is_none());
        // The end of a body without bytes is known at once.
        let empty = arriving(&[]).look().await;
        assert_eq!(empty.longest(), Some(0));
        assert!(empty.copy().is_some());
        let whole = Payload::from(Full::new(Bytes::from_static(b"hello"))).look().await;
        assert_eq!(whole.longest(), Some(5));
        assert_eq!(whole.copy().map(|copy| copy.longest()), Some(Some(5)));
        assert_eq!(whole.collect_all().await, "hello");
    }

    impl<B: SendBody<Error = Infallible>> Payload<B> {
        async fn collect_all(self) -> Bytes {
            collect_capped(self, 100).await.unwrap()
        }
    }

    #[tokio::test]
    async fn bodies_are_collected_up_to_the_limit() {
        let pieces = |list: &'static [&'static str]| {
            StreamBody::new(
                futures::stream::iter(list).map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(*piece)))),
            )
        };
        for (list, expected) in [
            (&[][..], Some("")),
            (&["hello"], Some("hello")),
            (&["hel", "l", "o"], Some("hello")),
            (&["hel", "lo", "!"], None),
            (&["hello!"], None),
        ] {
            let collected = collect_capped(pieces(list), 5).await;
            assert_eq!(collected.ok().as_deref(), expected.map(str::as_bytes), "{list:?}");
        }
        let announced = collect_capped(Full::new(Bytes::from_static(b"hello!")), 5).await;
        assert!(matches!(announced, Err(CollectError::TooLong(5))));
    }
}
