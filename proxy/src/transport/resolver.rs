//! Looks up names as the system does: `/etc/hosts`, then the name servers, search domains and `ndots` of `/etc/resolv.conf`.
//! Look-ups are asynchronous, and those of one namespace are bounded: names without a response take no thread, and
//! delay no other namespace. How long a result is used is decided by `names`.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Look-ups of one namespace at the same time; others wait for them.
const PER_TENANT: usize = 32;
/// A look-up, with all search domains and repetitions, takes at most this long.
const DEADLINE: Duration = Duration::from_secs(10);
/// Once there are addresses of one family, those of the other are waited for this long: some servers never respond to
/// queries for IPv6 addresses.
const OTHER_FAMILY: Duration = Duration::from_millis(300);
/// The files are looked at again after this long.
const FILES: Duration = Duration::from_secs(5);
/// An address of `/etc/hosts` may change when the file is looked at again.
const HOSTS_TTL: Duration = FILES;
/// More addresses of one name are left out.
const MAX_ADDRESSES: usize = 1_000;
/// Queries on one TCP connection to a name server.
const MAX_ACTIVE: usize = 1_024;

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("the name does not exist, or has no addresses")]
    NotFound,
    #[error("the name server reports a failure, or cannot be reached")]
    Failed,
    #[error("no name server responds in time")]
    Timeout,
}

/// The files of the system's resolver.
#[derive(Clone, Debug)]
pub struct NameFiles {
    /// Name servers, search domains and options.
    pub resolv_conf: PathBuf,
    /// Names with fixed addresses.
    pub hosts: PathBuf,
    /// The port of name servers: other than 53 in tests.
    pub port: u16,
}

impl Default for NameFiles {
    fn default() -> Self {
        Self { resolv_conf: "/etc/resolv.conf".into(), hosts: "/etc/hosts".into(), port: 53 }
    }
}

/// The addresses of a name, and for how long they are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Sorted.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ttl: Duration,
}

/// Looks up names.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Shared>);

struct Shared {
    files: NameFiles,
    /// Look-ups run here, not on the threads that serve requests.
    runtime: Handle,
    settings: Mutex<Option<(Arc<Settings>, Instant)>>,
    /// By namespace; gone when it has no names any more.
    tenants: Mutex<HashMap<Box<str>, Weak<Semaphore>>>,
}

/// Bounds the look-ups of one namespace.
#[derive(Clone)]
pub(crate) struct Tenant(Arc<Semaphore>);

impl PartialEq for Tenant {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Resolver").field(&self.0.files).finish()
    }
}

impl Resolver {
    /// Look-ups run on `runtime`.
    pub(crate) fn new(files: NameFiles, runtime: Handle) -> Self {
        Self(Arc::new(Shared { files, runtime, settings: Mutex::default(), tenants: Mutex::default() }))
    }

    /// The share of look-ups of a namespace.
    pub(crate) fn tenant(&self, name: &str) -> Tenant {
        let mut tenants = self.0.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tenants.get(name).and_then(Weak::upgrade) {
            return Tenant(known);
        }
        tenants.retain(|_, tenant| tenant.strong_count() > 0);
        let made = Arc::new(Semaphore::new(PER_TENANT));
        tenants.insert(name.into(), Arc::downgrade(&made));
        Tenant(made)
    }

    /// Runs a look-up to its end, whatever happens to the request that began it.
    pub(super) fn spawn(&self, look_up: impl Future<Output = ()> + Send + 'static) {
        self.0.runtime.spawn(look_up);
    }

    /// The addresses of a host.
    pub(super) async fn look_up(&self, host: &str, tenant: &Tenant) -> Result<Resolved, NameError> {
        let Ok(_permit) = tenant.0.acquire().await else { return Err(NameError::Failed) };
        let search = async { self.settings().await.search(host).await };
        tokio::time::timeout(DEADLINE, search).await.unwrap_or(Err(NameError::Timeout))
    }

    /// What the files say now; they may change while the proxy runs.
    async fn settings(&self) -> Arc<Settings> {
        let known = self.0.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((settings, checked)) = &known
            && checked.elapsed() < FILES
        {
            return settings.clone();
        }
        let stamps = Stamps::of(&self.0.files).await;
        let settings = match known {
            Some((settings, _)) if settings.stamps == stamps => settings,
            _ => Arc::new(Settings::read(&self.0.files, stamps).await),
        };
        let checked = Some((settings.clone(), Instant::now()));
        *self.0.settings.lock().unwrap_or_else(PoisonError::into_inner) = checked;
        settings
    }
}

/// When the files were changed.
#[derive(PartialEq, Eq)]
struct Stamps([Option<SystemTime>; 2]);

impl Stamps {
    async fn of(files: &NameFiles) -> Self {
        Self([modified(&files.resolv_conf).await, modified(&files.hosts).await])
    }
}

async fn modified(path: &Path) -> Option<SystemTime> {
    tokio::fs::metadata(path).await.ok()?.modified().ok()
}

/// What the files say.
struct Settings {
    stamps: Stamps,
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
    /// None: there is no name server.
    servers: Option<TokioResolver>,
}

impl Settings {
    async fn read(files: &NameFiles, stamps: Stamps) -> Self {
        let mut hosts = Hosts::default();
        if let Ok(text) = tokio::fs::read(&files.hosts).await
            && let Err(error) = hosts.read_hosts_conf(text.as_slice())
        {
            tracing::warn!(file = %files.hosts.display(), %error, "cannot read names with fixed addresses");
        }
        let text = tokio::fs::read(&files.resolv_conf).await.unwrap_or_default();
        let parsed = system_conf::parse_resolv_conf(text);
        let (search, ndots, servers) = match parsed {
            Ok((config, options)) => {
                let (search, ndots) = (config.search().to_vec(), options.ndots);
                (search, ndots, servers(config, options, files.port))
            }
            Err(error) => {
                tracing::warn!(file = %files.resolv_conf.display(), %error, "no name server is configured");
                (Vec::new(), 1, None)
            }
        };
        Self { stamps, hosts, search, ndots, servers }
    }

    /// The names that may be meant, in the order in which they are tried (resolv.conf(5), `ndots`).
    fn candidates(&self, host: &str) -> Vec<Name> {
        let Ok(mut name) = Name::from_ascii(host) else { return Vec::new() };
        let dots = host.matches('.').count();
        // A name of this machine is in no domain (RFC 6761, 6.3); hickory does not send it to a name server.
        let relative = !name.is_fqdn() && !name.is_localhost();
        let mut searched = Vec::new();
        if relative {
            searched.extend(self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()));
            searched.iter_mut().for_each(|name| name.set_fqdn(true));
        }
        name.set_fqdn(true);
        let at = if !relative || dots >= self.ndots { 0 } else { searched.len() };
        searched.insert(at, name);
        searched
    }

    async fn search(&self, host: &str) -> Result<Resolved, NameError> {
        if let Some(found) = self.fixed(host) {
            return Ok(found);
        }
        let mut failure = NameError::NotFound;
        for name in self.candidates(host) {
            match self.query(&name).await {
                Ok(found) => return Ok(found),
                Err(NameError::NotFound) => {}
                Err(NameError::Failed) => failure = NameError::Failed,
                // The next domain could have another host of that name.
                Err(NameError::Timeout) => return Err(NameError::Timeout),
            }
        }
        Err(failure)
    }

    /// Of `/etc/hosts`: a name that is there is not asked for elsewhere, of whichever family its addresses are.
    fn fixed(&self, host: &str) -> Option<Resolved> {
        let mut name = Name::from_ascii(host).ok()?;
        name.set_fqdn(true);
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let records = [of(RecordType::A), of(RecordType::AAAA)].into_iter().flatten();
        let addresses: BTreeSet<IpAddr> = records.flat_map(|found| addresses(&LookupIp::from(found))).collect();
        (!addresses.is_empty()).then(|| Resolved { addresses: addresses.into_iter().collect(), ttl: HOSTS_TTL })
    }

    /// The addresses of a complete name, of both families.
    async fn query(&self, name: &Name) -> Result<Resolved, NameError> {
        let Some(servers) = &self.servers else { return Err(NameError::Failed) };
        let mut queries: FuturesUnordered<_> =
            [RecordType::A, RecordType::AAAA].into_iter().map(|kind| one_family(servers, name, kind)).collect();
        let first = queries.next().await.unwrap_or(Err(NameError::NotFound));
        let second = match &first {
            Ok(_) => tokio::time::timeout(OTHER_FAMILY, queries.next()).await.ok().flatten(),
            Err(_) => queries.next().await,
        };
        match (first, second.unwrap_or(Err(NameError::NotFound))) {
            (Ok(one), Ok(two)) => {
                let ttl = one.ttl.min(two.ttl);
                let addresses: BTreeSet<IpAddr> = one.addresses.into_iter().chain(two.addresses).collect();
                Ok(Resolved { addresses: addresses.into_iter().take(MAX_ADDRESSES).collect(), ttl })
            }
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            // The family that failed may be the one that has addresses.
            (Err(NameError::NotFound), Err(failure)) | (Err(failure), Err(_)) => Err(failure),
        }
    }
}

/// The name servers, with what is different from the library's defaults.
fn servers(config: ResolverConfig, options: ResolverOpts, port: u16) -> Option<TokioResolver> {
    let mut servers = config.name_servers().to_vec();
    for connection in servers.iter_mut().flat_map(|server| &mut server.connections) {
        connection.port = port;
    }
    // Search domains are ours: both families of one domain are looked up before the next domain.
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let set = builder.options_mut();
    *set = options;
    // Results are kept with the names.
    set.cache_size = 0;
    set.use_hosts_file = ResolveHosts::Never;
    // The TTL of a CNAME counts as well.
    set.preserve_intermediates = true;
    // As the system does: the order of the file.
    set.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    set.num_concurrent_reqs = 1;
    set.max_active_requests = MAX_ACTIVE;
    set.edns0 = true;
    builder.build().inspect_err(|error| tracing::warn!(%error, "cannot use the name servers")).ok()
}

async fn one_family(servers: &TokioResolver, name: &Name, kind: RecordType) -> Result<Resolved, NameError> {
    let found = servers.lookup(name.clone(), kind).await.map_err(|error| {
        tracing::debug!(%name, %kind, %error, "cannot resolve a name");
        match error {
            NetError::Dns(DnsError::NoRecordsFound(_)) => NameError::NotFound,
            NetError::Timeout => NameError::Timeout,
            _ => NameError::Failed,
        }
    })?;
    let counts =
        |record: &&Record| matches!(record.record_type(), RecordType::A | RecordType::AAAA | RecordType::CNAME);
    let ttl = found.message().all_sections().filter(counts).map(|record| record.ttl).min().unwrap_or_default();
    let addresses = addresses(&LookupIp::from(found));
    if addresses.is_empty() {
        return Err(NameError::NotFound);
    }
    let addresses = addresses.into_iter().take(MAX_ADDRESSES).collect();
    Ok(Resolved { addresses, ttl: Duration::from_secs(ttl.into()) })
}

fn addresses(found: &LookupIp) -> BTreeSet<IpAddr> {
    found.iter().collect()
}
