//! Reads a request body into memory, within its cap and the budget of the proxy.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http_body::Body;

use super::budget::{Arriving, Reservation};
use super::error::BodyError;

/// Memory that is reserved at a time for a body of unknown length.
const STEP: usize = 16 * 1024;

/// Why a body cannot be buffered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BufferError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the body is longer than may be buffered")]
    TooLarge,
    #[error("the memory budget for buffered bodies is exhausted")]
    NoMemory,
}

/// The bytes of a body, and the memory that they take.
struct Buffered {
    bytes: Vec<u8>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Buffered {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads `body` to its end. `reservation` is the memory for its expected length; it grows with the body, and is released
/// when the last copy of the returned bytes is dropped. A body of more than `cap` bytes is an error as soon as that is known.
///
/// `source` is where the client is: when the budget is exhausted, sources with less memory get that of sources with more.
pub(crate) async fn buffer<B>(
    mut body: B,
    cap: u64,
    reservation: Reservation,
    source: u128,
) -> Result<Bytes, BufferError>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    if body.size_hint().lower() > cap {
        return Err(BufferError::TooLarge);
    }
    let mut arriving = Arriving::new(reservation, source);
    let mut bytes = Vec::with_capacity(usize::try_from(arriving.bytes()).unwrap_or(0));
    loop {
        let frame = poll_fn(|cx| match arriving.poll_displaced(cx) {
            Poll::Ready(()) => Poll::Ready(Err(BufferError::NoMemory)),
            Poll::Pending => Pin::new(&mut body).poll_frame(cx).map(Ok),
        });
        let Some(frame) = frame.await? else { break };
        let Ok(data) = frame?.into_data() else { continue };
        let needed = bytes.len() + data.len();
        if needed as u64 > cap {
            return Err(BufferError::TooLarge);
        }
        if needed > bytes.capacity() {
            let most = usize::try_from(cap).unwrap_or(usize::MAX);
            let capacity = needed.max((bytes.capacity() * 2).max(STEP).min(most));
            if !arriving.grow((capacity - bytes.capacity()) as u64).await {
                return Err(BufferError::NoMemory);
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        // A copy: the data is a slice of a read buffer, which would stay in memory as a whole.
        bytes.extend_from_slice(&data);
    }
    Ok(Bytes::from_owner(Buffered { bytes, _reservation: arriving.arrived() }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use http_body::{Frame, SizeHint};
    use prometheus::IntGauge;

    use super::super::budget::MemoryBudget;
    use super::*;

    /// A body of unknown length in several pieces.
    struct Chunks(Vec<&'static [u8]>, u64);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let pieces = &mut self.get_mut().0;
            let next = (!pieces.is_empty()).then(|| pieces.remove(0));
            Poll::Ready(next.map(|bytes| Ok(Frame::data(Bytes::from_static(bytes)))))
        }

        fn size_hint(&self) -> SizeHint {
            let mut hint = SizeHint::default();
            hint.set_lower(self.1);
            hint
        }
    }

    fn budget(limit: u64) -> (Arc<MemoryBudget>, IntGauge) {
        let gauge = IntGauge::new("bytes", "Bytes.").unwrap();
        (MemoryBudget::new(limit, gauge.clone()), gauge)
    }

    async fn read(pieces: Chunks, cap: u64, budget: &Arc<MemoryBudget>) -> Result<Bytes, BufferError> {
        let reservation = budget.reserve(pieces.1).ok_or(BufferError::NoMemory)?;
        buffer(pieces, cap, reservation, 1).await
    }

    #[tokio::test]
    async fn a_body_takes_memory_until_its_last_copy_is_dropped() {
        let (budget, gauge) = budget(1 << 20);
        let bytes = read(Chunks(vec![b"hel", b"lo"], 0), 1 << 20, &budget).await.unwrap();
        assert_eq!(&bytes[..], b"hello");
        assert_eq!(gauge.get(), STEP as i64);
        let copy = bytes.clone();
        drop(bytes);
        assert_eq!(gauge.get(), STEP as i64);
        drop(copy);
        assert_eq!(gauge.get(), 0);
        let known = read(Chunks(vec![b"hello"], 5), 5, &budget).await.unwrap();
        assert_eq!(gauge.get(), 5);
        drop(known);
    }

    #[tokio::test]
    async fn a_body_beyond_its_cap_or_the_budget_is_an_error_and_takes_no_memory() {
        let (small, gauge) = budget(STEP as u64);
        let too_large = |error| matches!(error, BufferError::TooLarge);
        assert!(too_large(read(Chunks(vec![b"hello!"], 0), 5, &small).await.unwrap_err()));
        assert!(too_large(read(Chunks(vec![], 6), 5, &small).await.unwrap_err()));
        let held = read(Chunks(vec![b"hello"], 0), 1 << 20, &small).await.unwrap();
        let none = read(Chunks(vec![b"x"], 0), 5, &small).await.unwrap_err();
        assert!(matches!(none, BufferError::NoMemory));
        drop(held);
        assert_eq!(gauge.get(), 0);
        assert!(read(Chunks(vec![b"x"], 0), 5, &small).await.is_ok());
    }

    /// A body of some bytes, and then nothing more until its sender is dropped.
    struct Slow(Option<usize>, tokio::sync::oneshot::Receiver<()>);

    impl Body for Slow {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let this = self.get_mut();
            match this.0.take() {
                Some(size) => Poll::Ready(Some(Ok(Frame::data(vec![0; size].into())))),
                None => std::future::Future::poll(Pin::new(&mut this.1), cx).map(|_| None),
            }
        }
    }

    /// Each row: the sources of bodies that hold the whole budget and do not end, how long they have held it in seconds, the
    /// source of one more body, and the number of the body that gives it its memory.
    #[tokio::test(start_paused = true)]
    async fn a_body_gets_the_memory_of_a_slow_one_or_of_a_source_with_more() {
        for (holders, age, source, displaced) in [
            (&[1, 1, 1, 1][..], 0, 2, Some(0)),
            (&[1, 1, 2, 2], 0, 3, Some(0)),
            (&[1, 2, 2, 2], 0, 1, None),
            (&[1, 2, 2, 2, 2], 0, 1, Some(1)),
            (&[1, 2, 3, 4], 0, 5, None),
            (&[1, 2, 3, 4], 6, 5, Some(0)),
            (&[1, 1, 1, 1], 0, 1, None),
            (&[1, 1, 1, 1], 6, 1, Some(0)),
            (&[2, 1, 1, 3], 6, 9, Some(1)),
        ] {
            let size = STEP * 2;
            let (budget, gauge) = budget((holders.len() * size) as u64);
            let mut ends = Vec::new();
            let mut tasks = Vec::new();
            for holder in holders {
                let (end, ended) = tokio::sync::oneshot::channel();
                let reservation = budget.reserve(0).unwrap();
                tasks.push(tokio::spawn(buffer(Slow(Some(size), ended), 1 << 20, reservation, *holder)));
                ends.push(end);
            }
            while gauge.get() < (holders.len() * size) as i64 {
                tokio::task::yield_now().await;
            }
            tokio::time::advance(std::time::Duration::from_secs(age)).await;
            let one_more = Chunks(vec![b"hello"], 0);
            let result = buffer(one_more, 1 << 20, budget.reserve(0).unwrap(), source).await;
            assert_eq!(result.is_ok(), displaced.is_some(), "{holders:?} {age} {source}");
            drop(ends);
            for (at, task) in tasks.into_iter().enumerate() {
                let arrived = task.await.unwrap();
                assert_eq!(arrived.is_err(), displaced == Some(at), "{holders:?} {age} {source}: {at}");
            }
            drop(result);
            assert_eq!(gauge.get(), 0, "{holders:?}");
        }
    }
}
