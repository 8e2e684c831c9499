//! Clients that send requests continuously during a change. A single response with another status than 200 fails the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;

use super::programs::Fleet;
use sluice_kit::client::{Call, Session};

/// Between two requests of one client, so that the machine has CPU time for the rest.
const PACE: Duration = Duration::from_millis(2);

/// Running clients, one for each proxy and call.
pub(crate) struct Load {
    over: Arc<AtomicBool>,
    clients: JoinSet<anyhow::Result<u64>>,
}

impl Load {
    /// Starts the clients.
    pub(crate) fn start(fleet: &Fleet, calls: &[Call]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for proxy in fleet.proxies.iter().map(|proxy| proxy.http) {
            for call in calls {
                let (call, over) = (call.clone(), over.clone());
                clients.spawn(async move {
                    let mut session = Session::open(proxy).await?;
                    let mut count = 0;
                    while !over.load(Ordering::Relaxed) {
                        if !session.usable().await {
                            session = Session::open(proxy).await?;
                        }
                        let at = || format!("request {count} of {call:?} to {proxy}");
                        let response = session.send(&call).await.with_context(at)?;
                        anyhow::ensure!(response.status == 200, "{}: {response:?}", at());
                        count += 1;
                        tokio::time::sleep(PACE).await;
                    }
                    Ok(count)
                });
            }
        }
        Self { over, clients }
    }

    /// Stops the clients; returns the number of responses, all of them with 200.
    pub(crate) async fn finish(mut self) -> anyhow::Result<u64> {
        self.over.store(true, Ordering::Relaxed);
        let mut total = 0;
        while let Some(count) = self.clients.join_next().await {
            total += count??;
        }
        anyhow::ensure!(total > 0, "the clients have not sent a request");
        Ok(total)
    }
}
