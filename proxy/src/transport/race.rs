//! Racing of several addresses of one host (RFC 8305).

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

/// The next address is tried when the one before has not connected after this long (RFC 8305, section 5: Connection
/// Attempt Delay).
const STAGGER: Duration = Duration::from_millis(250);

/// Races addresses and returns the first connection. A later address starts when those before it have failed or are slow
/// (RFC 8305; the order is the caller's). None: there is no address.
pub(crate) async fn race<T, E, F>(addresses: &[SocketAddr], dial: impl Fn(SocketAddr) -> F) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut rest = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = None;
    loop {
        match rest.next() {
            Some(address) => attempts.push(dial(*address)),
            None if attempts.is_empty() => return last.map(Err),
            None => {}
        }
        // Ends with a connection, or when the next address is to be tried.
        loop {
            let step = if rest.len() == 0 {
                attempts.next().await
            } else {
                match tokio::time::timeout(STAGGER, attempts.next()).await {
                    Ok(step) => step,
                    Err(_) => break,
                }
            };
            match step {
                Some(Ok(made)) => return Some(Ok(made)),
                Some(Err(error)) => {
                    last = Some(error);
                    if rest.len() > 0 {
                        break;
                    }
                }
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn an_address_that_does_not_respond_delays_the_others_by_a_quarter_second_only() {
        let addresses: Vec<SocketAddr> = (1..=4).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let started = Instant::now();
        let made = race(&addresses, async |address: SocketAddr| match address.port() {
            1 | 3 => std::future::pending().await,
            2 => Err("refused"),
            port => Ok(port),
        });
        assert_eq!(made.await, Some(Ok(4)));
        let took = started.elapsed();
        assert!(took >= STAGGER * 2 && took < STAGGER * 4, "{took:?}");
        let none = race(&addresses, async |address: SocketAddr| Err::<(), _>(address.port()));
        assert_eq!(none.await, Some(Err(4)));
        assert_eq!(race(&[], async |_| Ok::<(), ()>(())).await, None);
    }
}
