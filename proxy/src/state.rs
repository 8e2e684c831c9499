//! State that survives a change of the configuration: buckets, key sets, caches, connections, metrics. One field for each.
//! `gateway` is the configuration; `compile` makes it from parts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_wire::{HttpTarget, PartName, UpstreamPart};

use crate::auth::Services;
use crate::body::MemoryBudget;
use crate::cache::Cache;
use crate::integration::{Upstream, upstream};
use crate::limit::Buckets;
use crate::observe::metrics::Metrics;
use crate::transport::{Context, Failures, Tls};

/// Everything that a swap must not lose.
pub(crate) struct State {
    pub(crate) buckets: Buckets,
    /// What authorizers share.
    pub(crate) auth: Services,
    pub(crate) caches: BTreeMap<PartName, Arc<Cache>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) memory: Arc<MemoryBudget>,
    /// Where clients reach HTTPS.
    pub(crate) https_port: u16,
    upstreams: BTreeMap<PartName, Arc<Upstream>>,
    /// By namespace: names that one namespace calls delay no look-up of another.
    external: HashMap<(String, bool, String, u16), Arc<Upstream>>,
    tls: Arc<Tls>,
    /// Of Services with authorities of their own.
    authorities: HashMap<PartName, (Vec<String>, Arc<Tls>)>,
    transport: Context,
    swept: Option<Instant>,
}

/// Buckets without a reference are kept at least this long.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl State {
    pub(crate) fn new(
        auth: Services,
        metrics: Arc<Metrics>,
        memory: Arc<MemoryBudget>,
        tls: Arc<Tls>,
        transport: Context,
    ) -> Self {
        Self {
            buckets: Buckets::default(),
            auth,
            caches: BTreeMap::new(),
            metrics,
            memory,
            https_port: 443,
            upstreams: BTreeMap::new(),
            external: HashMap::new(),
            tls,
            authorities: HashMap::new(),
            transport,
            swept: None,
        }
    }

    /// The Service behind a part; it may have no endpoints yet.
    pub(crate) fn upstream(&mut self, part: &PartName) -> Arc<Upstream> {
        let make =
            || Arc::new(Upstream::new(Failures::of(format_args!("Service {}", part.id())), self.transport.clone()));
        self.upstreams.entry(part.clone()).or_insert_with(make).clone()
    }

    /// The endpoints of a Service changed, or it is gone. An error: it cannot be called as written.
    pub(crate) fn update_upstream(&mut self, name: &PartName, part: Option<&UpstreamPart>) -> Result<(), String> {
        let upstream = self.upstream(name);
        let tls = self.authorities(name, part);
        let tls = || tls.as_ref().map_err(Clone::clone);
        let called = self.auth.called(name).map_or(Ok(()), |called| upstream::update(&called, part, tls()));
        upstream::update(&upstream, part, tls()).and(called)
    }

    /// What verifies the certificate of a Service. It is the same while the authorities are, so that connections stay.
    fn authorities(&mut self, name: &PartName, part: Option<&UpstreamPart>) -> Result<Arc<Tls>, String> {
        let Some(roots) = part.and_then(|part| part.tls.as_ref()?.roots.as_ref()) else {
            self.authorities.remove(name);
            return Ok(self.tls.clone());
        };
        if let Some((known, tls)) = self.authorities.get(name)
            && known == roots
        {
            return Ok(tls.clone());
        }
        let made = upstream::authorities(roots)?;
        self.authorities.insert(name.clone(), (roots.clone(), made.clone()));
        Ok(made)
    }

    /// An external host that a namespace calls; none: it is neither a name nor an address.
    pub(crate) fn external(&mut self, target: &HttpTarget, namespace: &str) -> Option<Arc<Upstream>> {
        let id = (namespace.to_owned(), target.tls, target.host.clone(), target.port);
        if let Some(known) = self.external.get(&id) {
            return Some(known.clone());
        }
        let made = Arc::new(upstream::external(target, namespace, &self.tls, self.transport.clone())?);
        self.external.insert(id, made.clone());
        Some(made)
    }

    /// Forgets what no configuration refers to any more: of caches, those of stages that do not cache.
    pub(crate) fn sweep(&mut self, is_there: impl Fn(&PartName) -> bool, caches: impl Fn(&PartName) -> bool) {
        self.authorities.retain(|name, _| is_there(name));
        self.auth.sweep();
        self.upstreams.retain(|name, upstream| is_there(name) || Arc::strong_count(upstream) > 1);
        self.external.retain(|_, upstream| Arc::strong_count(upstream) > 1);
        self.caches.retain(|name, _| caches(name));
        let now = Instant::now();
        // Buckets are many, and a change after the next will do.
        if self.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP_EVERY) {
            self.swept = Some(now);
            self.buckets.sweep(now);
        }
    }
}
