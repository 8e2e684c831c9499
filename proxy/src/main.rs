//! The program `sluice-proxy`: parses flags, starts the proxy, subscribes to its configuration, and shuts down.

mod flags;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use prometheus::Registry;
use sluice_daemon::{Blocker, Readiness, admin, files, logging, signals};
use sluice_proxy::config::{Sink, Subscriber, file, store::Store, stream};
use sluice_proxy::run::{LogSink, NameFiles, Proxy, Settings, Strictness};
use sluice_wire::{FleetName, Network, RequestPolicy};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves the APIs that a Sluice operator configures.
#[derive(Parser)]
#[command(version)]
struct Flags {
    /// URL of the operator's configuration stream, such as https://sluice-operator:9443.
    #[arg(long, env = "SLUICE_OPERATOR", required_unless_present = "config", conflicts_with = "config")]
    operator: Option<http::Uri>,
    /// CA certificate of the operator, as a PEM file. Unset: the system's root certificates.
    #[arg(long, env = "SLUICE_OPERATOR_CA")]
    operator_ca: Option<PathBuf>,
    /// File with the service account token for the operator; read for each connection.
    #[arg(long, env = "SLUICE_TOKEN_FILE", conflicts_with = "secret_file")]
    token_file: Option<PathBuf>,
    /// File with a secret shared with the operator, instead of a token; read for each connection.
    #[arg(long, env = "SLUICE_SECRET_FILE")]
    secret_file: Option<PathBuf>,
    /// Directory for the last known good configuration. Private keys are stored only on a memory volume (tmpfs, ramfs).
    #[arg(long, env = "SLUICE_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Configuration file to serve, instead of a subscription to an operator.
    #[arg(long, env = "SLUICE_CONFIG")]
    config: Option<PathBuf>,
    /// Address for HTTP. Unset: no HTTP.
    #[arg(long, env = "SLUICE_HTTP")]
    http: Option<SocketAddr>,
    /// Address for HTTPS. Unset: no HTTPS.
    #[arg(long, env = "SLUICE_HTTPS")]
    https: Option<SocketAddr>,
    /// Port where clients reach HTTPS: where requests over plain HTTP are redirected.
    #[arg(long, env = "SLUICE_HTTPS_PORT", default_value_t = 443)]
    https_port: u16,
    /// Networks of load balancers that terminate TLS, separated by commas: `X-Forwarded-Proto: https` from them counts as
    /// HTTPS. Example: 10.0.0.0/8.
    #[arg(long, env = "SLUICE_TLS_TERMINATORS", value_delimiter = ',')]
    tls_terminators: Vec<Network>,
    /// HTTP/1.1 requests that programs read differently (Content-Length beside Transfer-Encoding, bare LF, white space in
    /// chunk sizes): `strict` rejects them, `lenient` repairs them.
    #[arg(long, env = "SLUICE_HTTP1_PARSING", value_enum, default_value = "strict")]
    http1_parsing: Parsing,
    /// Address for /metrics, /healthz and /readyz.
    #[arg(long, env = "SLUICE_ADMIN", default_value = "0.0.0.0:9091")]
    admin: SocketAddr,
    /// Name of this proxy. With tokens it must be the name of the Pod.
    #[arg(long, env = "SLUICE_NAME", default_value = "proxy")]
    name: String,
    /// Fleet of this proxy: it gets the configuration of the Stages that name this fleet.
    #[arg(long, env = "SLUICE_FLEET", default_value_t)]
    fleet: FleetName,
    /// Number of worker threads. Unset: one for each core.
    #[arg(long, env = "SLUICE_THREADS", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Log level: error, warn, info, debug, or a filter such as sluice_proxy=debug. The access log is separate.
    #[arg(long, env = "SLUICE_LOG", default_value = "info")]
    log: String,
    #[command(flatten)]
    front: flags::FrontFlags,
    #[command(flatten)]
    limits: flags::LimitFlags,
    /// What happens to requests that two programs could interpret differently, as NAME=VALUE with the names and values of
    /// Stage.spec.requestPolicy, at Stages that do not set it. Can be repeated; in the environment, separated by commas.
    #[arg(long, env = "SLUICE_REQUEST_POLICY", value_delimiter = ',', value_name = "NAME=VALUE")]
    request_policy: Vec<RequestPolicy>,
    /// Allow connections to loopback addresses, for development.
    #[arg(long, env = "SLUICE_ALLOW_LOOPBACK")]
    allow_loopback: bool,
    /// Seconds after the signal to stop in which connections are accepted, so that load balancers can remove this proxy.
    /// From the signal on, responses end their connections and HTTP/2 connections get GOAWAY.
    #[arg(long, env = "SLUICE_DRAIN_DELAY", default_value_t = 5)]
    drain_delay: u64,
    /// Seconds for requests in progress after that.
    #[arg(long, env = "SLUICE_DRAIN_GRACE", default_value_t = 30)]
    drain_grace: u64,
}

/// How requests are read that programs read differently.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Parsing {
    /// They are rejected.
    Strict,
    /// They are repaired.
    Lenient,
}

/// File descriptors that the kernel makes room for when the proxy starts: 128 KiB of its memory.
const DESCRIPTORS: usize = 16_384;

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    files::raise_limit();
    files::make_room(DESCRIPTORS);
    logging::init(&flags.log)?;
    if flags.http.is_none() && flags.https.is_none() {
        bail!("nothing to serve: set --http or --https to an address such as 0.0.0.0:8080");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(flags))
}

async fn serve(flags: Flags) -> anyhow::Result<()> {
    let registry = Registry::new();
    let readiness = Readiness::default();
    let unconfigured = readiness.block("the first configuration");
    let admin = admin::serve(flags.admin, registry.clone(), readiness.clone()).await;
    let admin = admin.with_context(|| format!("cannot serve the admin endpoint on {}", flags.admin))?;
    let proxy = Arc::new(Proxy::start(Settings {
        http: flags.http,
        https: flags.https,
        threads: flags.threads.map(usize::from),
        access_log: LogSink::Stdout,
        registry,
        allow_loopback: flags.allow_loopback,
        extra_roots: Vec::new(),
        limits: flags.limits.limits(),
        request_policy: flags.request_policy.iter().copied().collect(),
        timeouts: flags.limits.timeouts(),
        names: NameFiles::default(),
        strictness: match flags.http1_parsing {
            Parsing::Strict => Strictness::Strict,
            Parsing::Lenient => Strictness::Lenient,
        },
        https_port: Some(flags.https_port),
        trusted_proxies: flags.front.trusted_proxies(),
        proxy_protocol: flags.front.proxy_protocol()?,
        tls_terminators: flags.tls_terminators,
        runtime: tokio::runtime::Handle::current(),
    })?);
    proxy.reserve(flags.admin.port());
    tracing::info!(proxy.name = flags.name, fleet.name = %flags.fleet, proxy.http = ?proxy.http_addr(), proxy.https = ?proxy.https_addr(), "serving");
    let mut sink = sink(&proxy, unconfigured);
    let follow = async {
        match (&flags.config, &flags.operator) {
            (Some(path), _) => {
                for problem in
                    file::serve(path, &mut sink).with_context(|| format!("cannot serve {}", path.display()))?
                {
                    tracing::warn!(object = %problem.object, problem = problem.message, "object cannot be served as written");
                }
                std::future::pending().await
            }
            (None, Some(operator)) => {
                let store = flags
                    .state_dir
                    .as_deref()
                    .map(|dir| Store::open(dir, &flags.fleet))
                    .transpose()
                    .context("cannot use --state-dir")?;
                let counting = proxy.clone();
                let store =
                    store.map(|store| store.on_failure(Arc::new(move |operation| counting.state_failed(operation))));
                let settings = stream::StreamSettings {
                    operator: operator.clone(),
                    authority: flags.operator_ca.clone(),
                    token: flags.token_file.clone().or_else(|| flags.secret_file.clone()),
                };
                let mut subscriber = Subscriber::start(flags.name.clone(), flags.fleet.clone(), sink, store);
                match stream::run(&settings, &mut subscriber).await {}
            }
            (None, None) => bail!("no source of configuration: set --operator or --config"),
        }
    };
    tokio::select! {
        ended = follow => return ended,
        signal = signals::shutdown() => tracing::info!(signal = signal?, "stopping"),
        () = crashed(&proxy) => bail!("a worker thread ended unexpectedly"),
    }
    let _draining = readiness.block("shutdown");
    proxy.drain();
    tokio::time::sleep(Duration::from_secs(flags.drain_delay)).await;
    let grace = Duration::from_secs(flags.drain_grace);
    tokio::task::spawn_blocking(move || proxy.shutdown(grace)).await?;
    drop(admin);
    Ok(())
}

fn sink(proxy: &Arc<Proxy>, unconfigured: Blocker) -> Sink {
    let mut unconfigured = Some(unconfigured);
    let mut before: Option<bool> = None;
    let (apply, fleet, rejected) = (proxy.clone(), proxy.clone(), proxy.clone());
    Sink {
        apply: Box::new(move |parts, changed, removed| {
            let diagnostics = apply.apply_parts(parts, changed, removed);
            drop(unconfigured.take());
            diagnostics
        }),
        set_fleet: Box::new(move |proxies| fleet.set_fleet(proxies)),
        rejected: Box::new(move || rejected.rejected()),
        access_reviews: proxy.access_reviews(),
        key_uses: proxy.key_uses(),
        set_connected: Box::new(move |connected| {
            if before.replace(connected) != Some(connected) {
                tracing::info!(connected, "connection to the operator changed");
            }
        }),
    }
}

/// Resolves when a worker thread ends: a proxy with missing threads must be restarted.
async fn crashed(proxy: &Proxy) {
    let started = proxy.threads_alive();
    while proxy.threads_alive() >= started {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
