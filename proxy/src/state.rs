//! What outlives a configuration: buckets, key sets, caches, connections, metrics. One field for each.
//! What a configuration is made of is `gateway`'s; when it is made, `compile`'s.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sluice_wire::{HttpTarget, PartName};

use crate::auth::KeySets;
use crate::cache::Cache;
use crate::dialling::Dialling;
use crate::integration::balance::Upstream;
use crate::integration::pool::{Place, Speech};
use crate::limit::Limits;
use crate::observe::metrics::Metrics;

/// Everything that a swap must not lose.
pub(crate) struct State {
    pub(crate) limits: Limits,
    pub(crate) key_sets: KeySets,
    pub(crate) caches: BTreeMap<PartName, Arc<Cache>>,
    pub(crate) metrics: Arc<Metrics>,
    upstreams: BTreeMap<PartName, Arc<Upstream>>,
    outside: HashMap<(bool, String, u16), Arc<Upstream>>,
    tls: Arc<ClientConfig>,
    dialling: Dialling,
    threads: usize,
    swept: Option<Instant>,
}

/// Buckets that nobody refers to wait at least so long.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl State {
    pub(crate) fn new(
        key_sets: KeySets,
        metrics: Arc<Metrics>,
        tls: Arc<ClientConfig>,
        dialling: Dialling,
        threads: usize,
    ) -> Self {
        Self {
            limits: Limits::default(),
            key_sets,
            caches: BTreeMap::new(),
            metrics,
            upstreams: BTreeMap::new(),
            outside: HashMap::new(),
            tls,
            dialling,
            threads,
            swept: None,
        }
    }

    /// The Service behind a part; it may have no endpoints yet.
    pub(crate) fn upstream(&mut self, part: &PartName) -> Arc<Upstream> {
        let make = || Arc::new(Upstream::new(self.dialling.clone(), self.threads));
        self.upstreams.entry(part.clone()).or_insert_with(make).clone()
    }

    /// An outside host; none: it is neither a name nor an address.
    pub(crate) fn outside(&mut self, target: &HttpTarget) -> Option<Arc<Upstream>> {
        let id = (target.tls, target.host.clone(), target.port);
        if let Some(known) = self.outside.get(&id) {
            return Some(known.clone());
        }
        let speech = if target.tls {
            let name = target.host.trim_start_matches('[').trim_end_matches(']').to_owned();
            Speech::Tls(self.tls.clone(), ServerName::try_from(name).ok()?)
        } else {
            Speech::Plain
        };
        let place = Place::Name(target.host.as_str().into(), target.port);
        let made = Arc::new(Upstream::single(place, speech, self.dialling.clone(), self.threads));
        self.outside.insert(id, made.clone());
        Some(made)
    }

    /// Forgets what no configuration refers to any more: of caches, those of stages that do not cache.
    pub(crate) fn sweep(&mut self, is_there: impl Fn(&PartName) -> bool, caches: impl Fn(&PartName) -> bool) {
        self.upstreams.retain(|name, upstream| is_there(name) || Arc::strong_count(upstream) > 1);
        self.outside.retain(|_, upstream| Arc::strong_count(upstream) > 1);
        self.caches.retain(|name, _| caches(name));
        let now = Instant::now();
        // Buckets are many, and a change after the next will do.
        if self.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP_EVERY) {
            self.swept = Some(now);
            self.limits.sweep(now);
        }
    }
}
