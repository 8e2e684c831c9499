//! `sluice dev`: translates a folder of manifests with the operator's translation and serves it with the proxy, in one
//! process. `local` adds what a cluster would add, `reach` finds what cannot be reached without one, `curl` writes the example
//! calls, `print` the output.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use prometheus::Registry;
use sluice_daemon::{Readiness, admin, signals};
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::manifests::{self, Loaded};
use sluice_proxy::run::{LogSink, NameFiles, Proxy, ProxyProtocol, Settings, Strictness, TrustedProxies};
use sluice_proxy::{Limits, Timeouts};

use crate::args;

mod curl;
pub(crate) mod local;
mod print;
mod reach;
pub(crate) mod session;
mod token_server;

use session::{Changes, Session};
use token_server::TokenServer;

/// Time for requests in progress after a signal to stop.
const GRACE: Duration = Duration::from_secs(10);

/// How often the day is compared with the one of the signing keys.
const DAY_CHECK: Duration = Duration::from_secs(60);

/// Serves the folder until a signal to stop arrives.
pub(crate) async fn run(settings: args::Dev) -> anyhow::Result<ExitCode> {
    check_folder(&settings.folder)?;
    let mut stop = pin!(signals::shutdown());
    // The watch starts before the first load, so that no change is missed.
    let mut changes = pin!(manifests::watch(&settings.folder));
    let mut loaded = load(&settings.folder, None).await?;

    let registry = Registry::new();
    let readiness = Readiness::default();
    let waiting = readiness.block("the first configuration");
    let admin = admin::serve(settings.admin, registry.clone(), readiness).await.with_context(|| {
        format!("cannot listen on {} for metrics; set another address with --admin", settings.admin)
    })?;
    let proxy = start_proxy(&settings, registry)?;
    let address = proxy.http_addr().context("the proxy has no address")?;
    let base = format!("http://{address}");

    let mut session = Session::new(&settings.services);
    let mut tokens = TokenServer::new(settings.sts, session.local.providers())?;
    serve(&proxy, &mut session, &loaded).await?;
    tokens.update(&session).await?;
    drop(waiting);
    let places = print::Places {
        folder: &settings.folder,
        base: &base,
        https: proxy.https_addr(),
        admin: admin.address(),
        sts: tokens.address(),
    };
    print::start(&places, &session, &loaded);

    loop {
        tokio::select! {
            signal = &mut stop => {
                signal.context("cannot wait for signals")?;
                break;
            }
            Some(()) = changes.next() => {
                loaded = load(&settings.folder, Some(&loaded)).await?;
                match serve(&proxy, &mut session, &loaded).await {
                    Ok(changes) => print::change(&session, &changes, &loaded),
                    Err(error) => println!("! {error:#}"),
                }
                if let Err(error) = tokens.update(&session).await {
                    println!("! {error:#}");
                }
            }
            () = tokio::time::sleep(DAY_CHECK) => {
                if session.is_of_another_day() && let Err(error) = serve(&proxy, &mut session, &loaded).await {
                    println!("! {error:#}");
                }
            }
        }
    }
    println!("Stopping after the requests in progress.");
    tokio::task::spawn_blocking(move || proxy.shutdown(GRACE)).await.context("the proxy did not shut down cleanly")?;
    Ok(ExitCode::SUCCESS)
}

/// Fails if the path is not a readable folder.
pub(crate) fn check_folder(folder: &Path) -> anyhow::Result<()> {
    let found = std::fs::metadata(folder).with_context(|| format!("cannot read the folder {}", folder.display()))?;
    if !found.is_dir() {
        bail!("{} is a file; pass the folder that contains it", folder.display());
    }
    Ok(())
}

/// Loads the folder. Files that cannot be parsed keep the objects of the previous load.
async fn load(folder: &Path, before: Option<&Loaded>) -> anyhow::Result<Loaded> {
    let folder = folder.to_owned();
    let mut loaded =
        tokio::task::spawn_blocking(move || manifests::load(&folder)).await.context("cannot load the folder")?;
    if let Some(before) = before {
        if !loaded.directory_problems.is_empty() {
            // A directory that cannot be read does not mean that its files are deleted.
            for (path, manifest) in &before.files {
                loaded.files.entry(path.clone()).or_insert_with(|| manifest.clone());
            }
        }
        loaded.keep_from(before);
    }
    Ok(loaded)
}

/// The cluster state of a folder.
pub(crate) fn cluster_state_of(loaded: &Loaded) -> ClusterState {
    ClusterState::from_objects(loaded.objects().map(|located| located.object.clone()))
}

fn start_proxy(settings: &args::Dev, registry: Registry) -> anyhow::Result<Proxy> {
    for address in [Some(settings.listen), settings.https].into_iter().flatten() {
        check_free(address)?;
    }
    let proxy = Proxy::start(Settings {
        http: Some(settings.listen),
        https: settings.https,
        threads: None,
        access_log: LogSink::Stdout,
        registry,
        // Local backends listen on loopback addresses.
        allow_loopback: true,
        extra_roots: Vec::new(),
        limits: Limits::default(),
        strictness: Strictness::default(),
        https_port: None,
        trusted_proxies: TrustedProxies { networks: settings.trusted_proxies.clone(), ..TrustedProxies::default() },
        proxy_protocol: ProxyProtocol::default(),
        tls_terminators: Vec::new(),
        request_policy: settings.request_policy.iter().copied().collect(),
        timeouts: Timeouts::default(),
        names: NameFiles::default(),
        runtime: tokio::runtime::Handle::current(),
    });
    proxy.context("cannot start the proxy")
}

/// Fails if the port is in use. The proxy's threads share their port (SO_REUSEPORT) and would also share it with another
/// `sluice dev`, which would then get half of the requests.
fn check_free(address: SocketAddr) -> anyhow::Result<()> {
    let taken = || {
        format!("cannot listen on {address}; set another address with --listen or --https, port 0 selects a free port")
    };
    std::net::TcpListener::bind(address).map(drop).with_context(taken)
}

/// Applies the folder to the proxy and returns what changed.
async fn serve(proxy: &Proxy, session: &mut Session, loaded: &Loaded) -> anyhow::Result<Changes> {
    let step = session.prepare(&cluster_state_of(loaded)).await?;
    // Applying compiles the changed parts, which blocks.
    let ack = tokio::task::block_in_place(|| proxy.apply(step.delta.clone()));
    session.conclude(step, &ack)
}
