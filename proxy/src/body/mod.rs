//! Request bodies on their way to an upstream, and why a body ends early. Bodies of responses are in `pipeline`.

mod error;
mod upload;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use crate::client::Peer;

pub(crate) use error::BodyError;
pub(crate) use upload::{Upload, UploadState};

/// A request's body on its way to the upstream. Nothing is boxed or buffered that can be forwarded as it arrives.
pub(crate) enum RequestBody {
    Empty,
    /// Forwarded as it arrives.
    Stream(Box<Upload>),
}

impl RequestBody {
    /// Forwards at most `limit` bytes of `incoming` as they arrive.
    pub(crate) fn stream(incoming: Incoming, limit: u64, state: Arc<UploadState>, peer: Arc<Peer>) -> Self {
        Self::Stream(Box::new(Upload::new(incoming, limit, state, peer)))
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream(upload) => Pin::new(&mut **upload).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(upload) => upload.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(upload) => upload.size_hint(),
        }
    }
}
