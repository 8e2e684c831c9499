//! A benchmark, not a test: the operator's CPU time for a change, behind a real API server, with few and with many routes.
//! `make bench-operator`.

use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use sluice_kit::client::get;
use sluice_kit::until as eventually;

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;

const HOST: &str = "cpu.example";
const ROUTES: [usize; 4] = [10, 300, 3_000, 10_000];
/// Changes for each number of routes.
const CHANGES: usize = 200;
/// Requests to the API server at a time.
const PARALLEL: usize = 16;
/// Until thousands of routes are programmed.
const LONG: Duration = Duration::from_secs(300);

#[tokio::test]
#[ignore = "a benchmark: make bench-operator"]
async fn operator_cpu_for_a_change() -> anyhow::Result<()> {
    let server = ApiServer::start("operator-cpu").await?;
    let fleet = Fleet::start(&server).await?;
    let space = Space::new(server.client().await?, "cpu").await?;
    space.apply(&stage("prod", HOST)).await?;
    let mut made = 0;
    println!("{:>8} {:>22} {:>22}", "routes", "CPU ms for a change", "until served, p50 ms");
    for count in ROUTES {
        let new = (made..count).map(|number| {
            let object = route(&format!("r{number}"), "prod", &format!("/r/{number}/{{id}}"), mock("before"));
            let space = &space;
            async move { space.apply(&object).await.map(drop) }
        });
        futures::stream::iter(new).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        made = count;
        settled(&fleet, &space, count).await?;
        let before = fleet.operator.cpu()?;
        let mut times = Vec::new();
        for change in 0..CHANGES {
            let number = change * 7_919 % count;
            let body = format!("change {change} of {count}");
            let object = route(&format!("r{number}"), "prod", &format!("/r/{number}/{{id}}"), mock(&body));
            let began = std::time::Instant::now();
            space.apply(&object).await?;
            let call = get(HOST, &format!("/r/{number}/a"));
            while fleet.all(&call).await?.iter().any(|response| response.body != body) {
                anyhow::ensure!(began.elapsed() < LONG, "{body} is not served; its log:\n{}", fleet.operator.log());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            times.push(began.elapsed());
            // Statuses are written after a change is served. With few routes two changes of one would get one otherwise.
            space.programmed("ApiRoute", &format!("r{number}")).await?;
        }
        let cpu = (fleet.operator.cpu()? - before).as_secs_f64() * 1e3 / CHANGES as f64;
        times.sort();
        let median = times.get(CHANGES / 2).context("no changes")?.as_secs_f64() * 1e3;
        println!("{count:>8} {cpu:>22.2} {median:>22.2}");
    }
    Ok(())
}

/// Waits until the last route is programmed and the operator is idle: it has written all statuses.
async fn settled(fleet: &Fleet, space: &Space, count: usize) -> anyhow::Result<()> {
    eventually("the last route is served and the operator is idle", LONG, || async {
        space.programmed("ApiRoute", &format!("r{}", count - 1)).await?;
        let before = fleet.operator.cpu()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let used = fleet.operator.cpu()? - before;
        anyhow::ensure!(used < Duration::from_millis(10), "the operator used {used:?} in the last second");
        Ok::<_, anyhow::Error>(())
    })
    .await
}
