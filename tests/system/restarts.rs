//! Restarts of the operator, and slow disks of proxies: `Programmed` is never earlier than the proxies, and both return quickly.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use sluice_kit::client::get;
use sluice_kit::{SOON, until as eventually};

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::load::Load;
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;

const HOST: &str = "restarts.example";
const RESTARTS: u32 = 20;

async fn setup(name: &str) -> anyhow::Result<(ApiServer, Fleet, Space)> {
    let server = ApiServer::start(name).await?;
    let fleet = Fleet::start(&server).await?;
    let space = Space::new(server.client().await?, "restarts").await?;
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&route("edited", "prod", "/edited", mock("first"))).await?;
    space.programmed_on_both("ApiRoute", "edited").await?;
    Ok((server, fleet, space))
}

/// Waits until the newest generation of the route is programmed. At that moment every proxy must serve it.
async fn never_early(fleet: &Fleet, space: &Space, body: &str) -> anyhow::Result<()> {
    let found = space.programmed("ApiRoute", "edited").await?;
    for response in fleet.all(&get(HOST, "/edited")).await? {
        anyhow::ensure!(response.body == body, "{body} is programmed as {found:?}; a proxy returned {response:?}");
    }
    Ok(())
}

#[tokio::test]
async fn programmed_is_not_early_in_twenty_restarts_of_the_operator() -> anyhow::Result<()> {
    let (_server, mut fleet, space) = setup("restarts").await?;
    let load = Load::start(&fleet, &[get(HOST, "/edited")]);
    for restart in 0..RESTARTS {
        let body = format!("restart {restart}");
        let changed = route("edited", "prod", "/edited", mock(&body));
        // The change comes before the end of the operator, or while there is none.
        if restart % 2 == 0 {
            space.apply(&changed).await?;
        }
        if restart % 4 < 2 {
            fleet.operator.kill();
        } else {
            fleet.operator.stop().await?;
        }
        space.apply(&changed).await?;
        // In every third restart one proxy returns when the other has served the change for some time: it is suspended, and
        // responds with the previous version at the moment at which it runs again.
        let late = fleet.proxies.get(1).filter(|_| restart % 3 == 0);
        late.map(|proxy| proxy.signal("STOP")).transpose()?;
        fleet.operator.launch()?;
        let resumed = async {
            let Some(late) = late else { return Ok(()) };
            let first = fleet.proxies.first().context("no proxies")?.http;
            eventually(format!("one proxy serves {body}"), SOON, || async {
                let response = get(HOST, "/edited").send(first).await?;
                anyhow::ensure!(response.body == body, "it returns {}", response.body);
                Ok::<_, anyhow::Error>(())
            })
            .await?;
            tokio::time::sleep(Duration::from_millis(500)).await; // in which a wrong status would be written
            late.signal("CONT")
        };
        let (resumed, early) = tokio::join!(resumed, never_early(&fleet, &space, &body));
        resumed?;
        early.with_context(|| format!("restart {restart}; the operator's log:\n{}", fleet.operator.log()))?;
        space.programmed_on_both("ApiRoute", "edited").await?;
    }
    load.finish().await?;
    Ok(())
}

#[tokio::test]
async fn proxies_reconnect_soon_after_the_operator_was_away() -> anyhow::Result<()> {
    let (_server, mut fleet, _space) = setup("reconnect").await?;
    let mut times = Vec::new();
    let back_in_time = |times: &[Duration]| times.last().is_some_and(|time| *time < Duration::from_secs(2));
    // Something else may use the machine at that moment: one of three times has to be short.
    for away in [14, 5, 5] {
        fleet.operator.kill();
        // Pauses that double from 200 ms without a limit would be 6 seconds and more after 14.
        tokio::time::sleep(Duration::from_secs(away)).await;
        fleet.operator.start().await?;
        let back = Instant::now();
        eventually("both proxies are connected", SOON, || async {
            let metrics = fleet.operator.metrics().await?.body;
            let line = r#"sluice_proxies{fleet="default",state="current"} 2"#;
            anyhow::ensure!(metrics.contains(line), "the metrics are:\n{metrics}");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        times.push(back.elapsed());
        if back_in_time(&times) {
            break;
        }
    }
    assert!(back_in_time(&times), "{times:?}");
    for proxy in &fleet.proxies {
        let log = proxy.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let pauses: Vec<u64> = lines.filter_map(|line| line["retry.ms"].as_str()?.parse().ok()).collect();
        assert!(pauses.len() > 5 && pauses.iter().all(|pause| *pause < 1_600), "{pauses:?}");
    }
    Ok(())
}

/// A library that delays each `fsync` and `fdatasync` of a program by this time.
fn slow_disk(folder: &Path, delay: Duration) -> anyhow::Result<PathBuf> {
    let (source, library) = (folder.join("slow_disk.c"), folder.join("slow_disk.so"));
    let millis = delay.as_millis();
    let text = format!(
        "#include <unistd.h>\n#include <sys/syscall.h>\nint fsync(int fd) {{ usleep({millis} * 1000); return syscall(SYS_fsync, fd); \
         }}\nint fdatasync(int fd) {{ usleep({millis} * 1000); return syscall(SYS_fdatasync, fd); }}\n"
    );
    std::fs::write(&source, text)?;
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status()?;
    anyhow::ensure!(built.success(), "cannot compile {}", source.display());
    Ok(library)
}

#[tokio::test]
async fn a_slow_disk_delays_neither_a_change_nor_the_next_one() -> anyhow::Result<()> {
    const WRITE: Duration = Duration::from_secs(5);
    const EDITS: u32 = 10;
    let (server, mut fleet, space) = setup("slow-disk").await?;
    let library = slow_disk(&server.folder, WRITE)?;
    for proxy in &mut fleet.proxies {
        proxy.restart_with(&[("LD_PRELOAD", &library)]).await?;
    }
    space.programmed_on_both("ApiRoute", "edited").await?;
    let began = Instant::now();
    for edit in 0..EDITS {
        let body = format!("edit {edit}");
        space.apply(&route("edited", "prod", "/edited", mock(&body))).await?;
        never_early(&fleet, &space, &body).await?;
    }
    // If each change waited for its own write, or for that of the one before, they would take 45 seconds at least.
    assert!(began.elapsed() < WRITE * (EDITS - 1) / 2, "{:?}", began.elapsed());
    // The newest is stored in the end.
    let newest = format!("edit {}", EDITS - 1);
    for proxy in &fleet.proxies {
        proxy.saved("configuration.state", &newest).await?;
    }
    Ok(())
}
