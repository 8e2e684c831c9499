//! The proxy as a whole: builds the modules, connects them, starts the threads and stops them in order.

mod explain;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use prometheus::Registry;
use rustls::pki_types::CertificateDer;
use sluice_daemon::{admin, files};
use sluice_wire::{Ack, Delta, Diagnostic, Network, Outcome, Part, PartName, Parts, RequestPolicy};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::access_review::AccessReviews;
use crate::auth::{Fetcher, Services};
use crate::body::MemoryBudget;
use crate::client::{Connections, Orders};
use crate::compile::Control;
use crate::config::Configuration;
use crate::config::store::Operation;
use crate::explain::Explanation;
use crate::gateway::Gateway;
use crate::key_use::KeyUses;
use crate::listen::tls::{Certificates, TlsServer};
use crate::listen::{ListenContext, Opening, accept, bind, relief};
use crate::observe::Recorder;
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::Metrics;
use crate::overload::{Limits, Load, Memory};
use crate::pipeline::Worker;
use crate::source::{Networks, Trusted};
use crate::state::State;
use crate::timeouts::Timeouts;
pub use crate::transport::NameFiles;
use crate::transport::{Context, Egress, PoolLimits, Resolver, Tls};
use explain::Explainer;

pub use crate::listen::Strictness;
pub use crate::source::{AddressHeader, TrustedProxies};
pub use explain::{ExplainError, RequestToExplain, TlsClient};

/// Where access log lines go.
pub enum LogSink {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Anywhere else.
    Writer(Box<dyn Write + Send>),
}

/// What a proxy needs to start.
pub struct Settings {
    /// Where plain HTTP is served; port 0 takes a free one.
    pub http: Option<SocketAddr>,
    /// Where HTTPS is served.
    pub https: Option<SocketAddr>,
    /// Worker threads; none: one for each core.
    pub threads: Option<usize>,
    /// Where access log lines go.
    pub access_log: LogSink,
    /// Where metrics are registered.
    pub registry: Registry,
    /// Whether upstreams may be on this machine's loopback addresses: for development.
    pub allow_loopback: bool,
    /// Certificate authorities that are trusted in addition to the system's, for integrations and key sets.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Limits of the whole process.
    pub limits: Limits,
    /// What happens to requests that two programs could interpret differently, at Stages that do not say it.
    pub request_policy: RequestPolicy,
    /// Timeouts of client connections.
    pub timeouts: Timeouts,
    /// How names are looked up.
    pub names: NameFiles,
    /// What HTTP/1.1 requests may look like where programs read them differently.
    pub strictness: Strictness,
    /// The port where clients reach HTTPS: where plain HTTP is redirected. Unset: the port of `https`.
    pub https_port: Option<u16>,
    /// Proxies in front of this one, whose statements about their clients are true.
    pub trusted_proxies: TrustedProxies,
    /// The listeners whose connections begin with a header of the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// Networks of load balancers that terminate TLS: their `X-Forwarded-Proto` is true.
    pub tls_terminators: Vec<Network>,
    /// Runs what is not on the request path.
    pub runtime: tokio::runtime::Handle,
}

/// The listeners whose connections begin with a header of the PROXY protocol. Only trusted proxies may connect to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// That for plain HTTP.
    pub http: bool,
    /// That for HTTPS.
    pub https: bool,
}

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No socket.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread, or no timer in it.
    #[error("cannot start a worker thread")]
    Thread(#[source] io::Error),
    /// A metric exists already.
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
    /// TLS cannot be set up.
    #[error("cannot configure TLS")]
    Tls(#[from] rustls::Error),
}

/// A running proxy.
pub struct Proxy {
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    control: Mutex<Served>,
    close: watch::Sender<bool>,
    load: Arc<Load>,
    connections: Arc<Connections>,
    watching: tokio::task::AbortHandle,
    alive: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    metrics: Arc<Metrics>,
    egress: Egress,
    access_reviews: AccessReviews,
    key_uses: KeyUses,
    explainer: Explainer,
}

struct Served {
    control: Control,
    /// What came through [`Proxy::apply`].
    configuration: Configuration,
}

impl Proxy {
    /// Binds, starts the threads and serves. Until the first configuration is applied, each request is rejected with 503.
    ///
    /// # Errors
    /// A socket, a thread, a metric or TLS cannot be had.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let threads =
            settings.threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1).max(1);
        let metrics = Arc::new(Metrics::new(&settings.registry, threads)?);
        let sink: Option<Box<dyn Write + Send>> = match settings.access_log {
            LogSink::Off => None,
            LogSink::Stdout => Some(Box::new(io::stdout())),
            LogSink::Writer(writer) => Some(writer),
        };
        let log = AccessLog::start(sink, threads, metrics.log_dropped.clone()).map_err(StartError::Thread)?;
        let gateway = Arc::new(ArcSwap::from_pointee(Gateway::empty()));
        let certificates = Arc::new(Certificates::default());
        let timeouts = settings.timeouts.upstream;
        let (close, closed) = watch::channel(false);
        let log = Arc::new(log);
        let descriptors = Descriptors::find(threads);
        let memory = Memory::find(settings.limits.memory);
        let limits = settings.limits.resolve(memory.limit(), descriptors.free);
        metrics.show(&limits, memory.limit());
        let load = Arc::new(Load::new(limits.requests, threads));
        let connections =
            Connections::new(limits.connections, limits.connections_per_source, metrics.connections.clone());
        let watching = relief::watch(load.clone(), connections.clone(), memory, metrics.load.clone());
        let watching = settings.runtime.spawn(watching).abort_handle();
        let no_stage = metrics.stage("");
        let shared = Arc::new(ListenContext {
            connections: connections.clone(),
            load: load.clone(),
            timeouts: Arc::new(settings.timeouts),
            streams: limits.streams,
            reserved_from: descriptors.reserved_from,
            closed,
            strictness: settings.strictness,
            trusted: Arc::new(Trusted::new(&settings.trusted_proxies)),
            tls_terminators: Networks::new(&settings.tls_terminators),
        });
        let egress = Egress::new(settings.allow_loopback);
        egress.limit_descriptors(descriptors.reserved_from);
        let pool_limits = PoolLimits { requests: limits.requests_per_upstream, ..PoolLimits::default() };
        let resolver = Resolver::new(settings.names, settings.runtime.clone());
        let transport = Context { egress: egress.clone(), resolver, timeouts, limits: pool_limits, threads };
        let tls = Tls::new(settings.extra_roots)?;
        let access_reviews = AccessReviews::default();
        let fetcher = Fetcher::new(tls.clone(), transport.clone());
        let auth = Services::new(settings.runtime.clone(), fetcher, access_reviews.clone());
        let key_uses = auth.principals.key_uses().clone();
        let memory = MemoryBudget::new(limits.buffer_memory, metrics.buffered.clone());
        let state = State::new(auth, metrics.clone(), memory, tls, transport);
        let control = Control::new(gateway.clone(), certificates.clone(), state, settings.request_policy);
        let server = Arc::new(TlsServer::new(certificates)?);
        let recorder = |worker| Recorder { worker, no_stage: no_stage.clone(), log: log.clone(), load: load.clone() };
        let explainer = Explainer {
            shared: shared.clone(),
            worker: Worker::new(gateway.clone(), recorder(0)),
            tls: server.clone(),
        };
        let (stop, stopping) = watch::channel(false);
        let alive = Arc::new(AtomicUsize::new(0));
        let mut proxy = Self {
            http: None,
            https: None,
            control: Mutex::new(Served { control, configuration: Configuration::default() }),
            close,
            load: load.clone(),
            connections,
            watching,
            alive,
            stop,
            threads: Mutex::default(),
            metrics,
            egress,
            access_reviews,
            key_uses,
            explainer,
        };
        for index in 0..threads {
            let http = proxy.http.or(settings.http).map(listen).transpose()?;
            let https = proxy.https.or(settings.https).map(listen).transpose()?;
            proxy.http = http.as_ref().map(|(address, _)| *address);
            proxy.https = https.as_ref().map(|(address, _)| *address);
            if index == 0 {
                proxy.http.iter().chain(&proxy.https).for_each(|address| proxy.reserve(address.port()));
            }
            let worker = Worker::new(gateway.clone(), recorder(index));
            let sockets = Sockets {
                http: http.map(|(_, socket)| socket),
                https: https.map(|(_, socket)| socket),
                proxy_protocol: settings.proxy_protocol,
                tls: server.clone(),
            };
            let running = Running::enter(&proxy.alive);
            let thread =
                spawn(shared.clone(), worker, sockets, stopping.clone(), running).map_err(StartError::Thread)?;
            proxy.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        if let Some(port) = settings.https_port.or_else(|| Some(proxy.https?.port())) {
            proxy.served().control.set_https_port(port);
        }
        Ok(proxy)
    }

    /// Where plain HTTP is served.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Where HTTPS is served.
    #[must_use]
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Makes a port of this machine no destination for requests: something of this program listens there.
    pub fn reserve(&self, port: u16) {
        self.egress.reserve(port);
    }

    /// Applies a change, as if it came from the operator's stream.
    pub fn apply(&self, delta: Delta) -> Ack {
        let mut served = self.served();
        let version = delta.version;
        let step = match served.configuration.step(delta) {
            Ok(step) => step,
            Err(error) => {
                self.rejected();
                let outcome = Outcome::Rejected { why: error.to_string() };
                return Ack { version, outcome, diagnostics: Vec::new() };
            }
        };
        served.configuration = step.next;
        let Served { control, configuration } = &mut *served;
        let diagnostics = control.apply(&configuration.parts, &step.changed, &step.removed);
        Ack { version, outcome: Outcome::Applied, diagnostics }
    }

    /// Puts a checked configuration in force: what a configuration source calls.
    pub fn apply_parts(&self, parts: &Parts<Part>, changed: &[PartName], removed: &[PartName]) -> Vec<Diagnostic> {
        self.served().control.apply(parts, changed, removed)
    }

    /// What would happen to a request, as it is explained by the code that would serve it. The integration is not called, and the
    /// cache is neither read nor filled; servers that authorizers need are called, and limits count the request. For a proxy that
    /// serves no clients: it counts and logs as its first worker thread does. Blocks, at most for the time of the slowest
    /// authorizer.
    ///
    /// # Errors
    /// The request cannot be sent.
    pub fn explain(&self, request: &RequestToExplain) -> Result<Explanation, ExplainError> {
        let mut explanation = self.explainer.explain(request)?;
        crate::explain::complete(&mut explanation, &self.served().configuration.parts);
        Ok(explanation)
    }

    /// The questions that its authorizers ask the operator.
    #[must_use]
    pub fn access_reviews(&self) -> AccessReviews {
        self.access_reviews.clone()
    }

    /// When access keys were last used.
    #[must_use]
    pub fn key_uses(&self) -> KeyUses {
        self.key_uses.clone()
    }

    /// Counts a configuration that was rejected.
    pub fn rejected(&self) {
        self.metrics.rejected.inc();
    }

    /// Counts a failure to read or write the last known good configuration.
    pub fn state_failed(&self, operation: Operation) {
        let operation = match operation {
            Operation::Read => "read",
            Operation::Write => "write",
        };
        self.metrics.state_errors.with_label_values(&[operation]).inc();
    }

    /// How many proxies share each limit.
    pub fn set_fleet(&self, proxies: u32) {
        self.served().control.set_fleet(proxies);
    }

    fn served(&self) -> std::sync::MutexGuard<'_, Served> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces to all clients that their connections end: responses have `Connection: close`, HTTP/2 connections get
    /// GOAWAY. Connections are accepted and requests are served until [`Proxy::shutdown`].
    pub fn drain(&self) {
        self.load.set_draining();
        self.connections.order(Orders::ANNOUNCE);
    }

    /// Stops accepting, closes idle connections, lets requests in progress end for at most `grace`, then ends the threads.
    /// Blocks.
    pub fn shutdown(&self, grace: Duration) {
        self.drain();
        self.close.send_replace(true);
        self.connections.order(Orders::CLOSE);
        let deadline = Instant::now() + grace;
        while self.metrics.connections.open.get() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.watching.abort();
        self.stop.send_replace(true);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("worker thread panicked");
            }
        }
    }

    /// Worker threads that run; fewer than were started: the program should end.
    #[must_use]
    pub fn threads_alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

/// The file descriptors of the process.
struct Descriptors {
    /// Connections of clients and to upstreams may have so many.
    free: usize,
    /// Larger ones are kept for the admin endpoint, the operator and files. A new descriptor is the smallest that is free, so
    /// a connection with a larger one shows that all others are in use.
    reserved_from: usize,
}

impl Descriptors {
    fn find(threads: usize) -> Self {
        let limit = files::raise_limit();
        let reserved_from = limit.saturating_sub(admin::max_connections(limit) + 8);
        // Each worker opens listeners and queues of events.
        Self { free: reserved_from.saturating_sub(files::open() + 8 * threads), reserved_from }
    }
}

/// Counts a worker thread for as long as it runs.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn enter(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(alive.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Sockets {
    http: Option<std::net::TcpListener>,
    https: Option<std::net::TcpListener>,
    proxy_protocol: ProxyProtocol,
    tls: Arc<TlsServer>,
}

fn listen(address: SocketAddr) -> Result<(SocketAddr, std::net::TcpListener), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let socket = bind(address).map_err(failed)?;
    Ok((socket.local_addr().map_err(failed)?, socket))
}

fn spawn(
    shared: Arc<ListenContext>,
    worker: Arc<Worker>,
    sockets: Sockets,
    mut stop: watch::Receiver<bool>,
    running: Running,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name = format!("worker-{}", worker.recorder.worker);
    std::thread::Builder::new().name(name).spawn(move || {
        let running = running;
        runtime.block_on(async {
            drop(tokio::spawn(crate::deadline::watch()));
            let ProxyProtocol { http, https } = sockets.proxy_protocol;
            let plain = Opening { proxy_protocol: http, tls: None };
            let secure = Opening { proxy_protocol: https, tls: Some(sockets.tls) };
            for (socket, opening) in [(sockets.http, plain), (sockets.https, secure)] {
                let Some(socket) = socket else { continue };
                match TcpListener::from_std(socket) {
                    Ok(listener) => drop(tokio::spawn(accept(shared.clone(), listener, opening, worker.clone()))),
                    Err(error) => {
                        tracing::error!(%error, "cannot use a listening socket");
                        return;
                    }
                }
            }
            drop(stop.wait_for(|stop| *stop).await);
        });
        runtime.shutdown_background();
        drop(running);
    })
}
