//! Matches host and path to a Stage: exact names, then wildcards, then Stages without hostnames.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use sluice_wire::Behavior;

use super::stage::Stage;

/// More Stages of one host than this are looked up by their base paths.
const FEW: usize = 4;

/// The Stages of one host.
#[derive(Default)]
struct HostStages {
    /// Longest base path first.
    all: Vec<Arc<Stage>>,
    /// None: they are few.
    by_base: Option<ByBase>,
    /// The behavior that all of them have, or `Native`.
    behavior: Behavior,
}

/// Stages by base path.
struct ByBase {
    stages: HashMap<Box<str>, Arc<Stage>, FixedState>,
    /// The lengths of the base paths, longest first.
    lengths: Box<[usize]>,
}

impl HostStages {
    fn sort(&mut self) {
        // Two Stages with one host and base path are a conflict that the operator reports. Here the smaller name wins.
        self.all.sort_by(|a, b| b.base.len().cmp(&a.base.len()).then_with(|| a.part.cmp(&b.part)));
        let first = self.all.first().map(|stage| stage.behavior).unwrap_or_default();
        let agree = self.all.iter().all(|stage| stage.behavior == first);
        self.behavior = if agree { first } else { Behavior::Native };
        if self.all.len() > FEW {
            let mut stages: HashMap<Box<str>, Arc<Stage>, FixedState> = HashMap::default();
            let mut lengths = Vec::new();
            for stage in &self.all {
                stages.entry(stage.base.clone()).or_insert_with(|| stage.clone());
                lengths.push(stage.base.len());
            }
            lengths.dedup();
            self.by_base = Some(ByBase { stages, lengths: lengths.into() });
        }
    }

    fn find(&self, path: &str) -> Option<&Arc<Stage>> {
        let Some(by_base) = &self.by_base else {
            return self.all.iter().find(|stage| below(path, &stage.base).is_some());
        };
        // A base path has 256 characters at most, so there are few lengths.
        by_base.lengths.iter().find_map(|length| {
            let (base, rest) = path.split_at_checked(*length)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| by_base.stages.get(base)).flatten()
        })
    }
}

/// The names come from the configuration, and clients can only look them up: no client can cause hash collisions.
type Named = HashMap<Box<str>, HostStages, FixedState>;

/// Stages by host and base path.
#[derive(Default)]
pub(crate) struct HostTable {
    exact: Named,
    /// By what follows `*.`.
    wildcard: Named,
    any: HostStages,
}

impl HostTable {
    pub(crate) fn new<'a>(stages: impl Iterator<Item = &'a Arc<Stage>>) -> Self {
        let mut table = Self::default();
        for stage in stages {
            for host in &stage.hostnames {
                let map = if host.is_wildcard() { &mut table.wildcard } else { &mut table.exact };
                map.entry(host.name().into()).or_default().all.push(stage.clone());
            }
            if stage.hostnames.is_empty() {
                table.any.all.push(stage.clone());
            }
        }
        let hosts = table.exact.values_mut().chain(table.wildcard.values_mut());
        hosts.chain(std::iter::once(&mut table.any)).for_each(HostStages::sort);
        table
    }

    /// The Stage for a lower-case host without port, and a canonical path. A claimed host has no other Stages.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&Arc<Stage>> {
        self.claimed(host).unwrap_or(&self.any).find(path)
    }

    /// The behavior of a host where none of its Stages has the path: that of its Stages, if they agree.
    pub(crate) fn behavior(&self, host: &str) -> Behavior {
        self.claimed(host).unwrap_or(&self.any).behavior
    }

    fn claimed(&self, host: &str) -> Option<&HostStages> {
        if let Some(stages) = self.exact.get(host) {
            return Some(stages);
        }
        if self.wildcard.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(stages) = self.wildcard.get(parent) {
                return Some(stages);
            }
            rest = parent;
        }
        None
    }
}

/// The rest of `path` after `base` (`""` or `/prod`), if the path is below it. The rest starts with a slash.
pub(crate) fn below<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    match path.strip_prefix(base) {
        Some("") => Some("/"),
        Some(rest) if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_ends_at_a_slash() {
        assert_eq!(below("/prod/a", "/prod"), Some("/a"));
        assert_eq!(below("/prod", "/prod"), Some("/"));
        assert_eq!(below("/product", "/prod"), None);
        assert_eq!(below("/a", ""), Some("/a"));
    }
}
