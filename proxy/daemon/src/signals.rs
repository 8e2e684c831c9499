//! When to stop: SIGTERM or SIGINT. What stopping means is the program's.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves with the signal's name once the program is asked to stop.
pub async fn shutdown() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
