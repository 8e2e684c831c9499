//! Rolling restarts: proxies are stopped and started one after the other while clients send requests through a load balancer
//! that uses ready proxies only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sluice_kit::client::{Session, get};
use tokio::task::JoinSet;

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;

const HOST: &str = "rolling.example";
const PROXIES: usize = 3;
/// Between two checks of readiness by the load balancer.
const PROBE: Duration = Duration::from_millis(20);

/// What clients have seen.
#[derive(Debug, Default)]
struct Seen {
    responses: AtomicUsize,
    /// Requests that failed on a kept connection and succeeded on another one.
    closed: AtomicUsize,
}

/// Which proxies get new connections.
struct Balancer {
    proxies: Vec<SocketAddr>,
    ready: Vec<AtomicBool>,
    next: AtomicUsize,
}

impl Balancer {
    fn pick(&self) -> SocketAddr {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed) % self.proxies.len();
            if self.ready[at].load(Ordering::Relaxed) {
                return self.proxies[at];
            }
        }
    }
}

/// A client that pauses between its requests and keeps its connection as long as it can.
async fn client(
    balancer: Arc<Balancer>,
    over: Arc<AtomicBool>,
    seen: Arc<Seen>,
    pause: Duration,
) -> anyhow::Result<()> {
    let call = get(HOST, "/a");
    let mut kept: Option<Session> = None;
    while !over.load(Ordering::Relaxed) {
        let reused = match &mut kept {
            Some(session) => session.usable().await,
            None => false,
        };
        if !reused {
            kept = None;
        }
        let mut session = match kept.take() {
            Some(session) => session,
            None => Session::open(balancer.pick()).await?,
        };
        let response = match session.send(&call).await {
            Err(_) if reused => {
                seen.closed.fetch_add(1, Ordering::Relaxed);
                session = Session::open(balancer.pick()).await?;
                session.send(&call).await?
            }
            result => result?,
        };
        anyhow::ensure!(response.status == 200, "{response:?}");
        seen.responses.fetch_add(1, Ordering::Relaxed);
        if response.header("connection") != Some("close") {
            kept = Some(session);
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// `SLUICE_ROUNDS` is the number of rounds; in each one, all proxies are restarted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restarts_lose_no_request_and_close_no_connection_that_is_in_use() -> anyhow::Result<()> {
    let rounds = std::env::var("SLUICE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let server = ApiServer::start("rolling").await?;
    let mut fleet = Fleet::of(&server, PROXIES).await?;
    let space = Space::new(server.client().await?, "rolling").await?;
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&route("a", "prod", "/a", mock("a"))).await?;
    space.programmed("ApiRoute", "a").await?;
    let balancer = Arc::new(Balancer {
        proxies: fleet.proxies.iter().map(|proxy| proxy.http).collect(),
        ready: (0..PROXIES).map(|_| AtomicBool::new(true)).collect(),
        next: AtomicUsize::new(0),
    });
    let (over, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for (at, admin) in fleet.proxies.iter().map(|proxy| proxy.admin).enumerate() {
        let (balancer, over) = (balancer.clone(), over.clone());
        tasks.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let ready = get("admin", "/readyz").send(admin).await.is_ok_and(|response| response.status == 200);
                balancer.ready[at].store(ready, Ordering::Relaxed);
                tokio::time::sleep(PROBE).await;
            }
            Ok(())
        });
    }
    // Clients that use their connections during the delay, and clients that do not.
    let (busy, idle) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    for number in 0..12_u64 {
        let pause = Duration::from_millis(if number < 8 { 3 + number } else { 1_700 + 97 * number });
        let seen = if number < 8 { busy.clone() } else { idle.clone() };
        tasks.spawn(client(balancer.clone(), over.clone(), seen, pause));
    }
    for _ in 0..rounds {
        for proxy in &mut fleet.proxies {
            proxy.drain_delay(1);
            proxy.stop().await?;
            proxy.start().await?;
        }
    }
    over.store(true, Ordering::Relaxed);
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    println!("{} restarts; clients in use: {busy:?}; idle clients: {idle:?}", rounds * PROXIES);
    assert!(busy.responses.load(Ordering::Relaxed) > 100 * rounds);
    assert_eq!(busy.closed.load(Ordering::Relaxed), 0, "connections in use were closed without an announcement");
    // HTTP/1.1 has no announcement without a response: a request may meet the end of an idle connection.
    assert!(idle.closed.load(Ordering::Relaxed) <= 1 + rounds / 10, "{idle:?}");
    Ok(())
}
