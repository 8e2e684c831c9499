//! Matches host and path to a Stage: exact names, then wildcards, then Stages without hostnames.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::stage::Stage;

/// Stages of one host, longest base path first.
type HostStages = Vec<Arc<Stage>>;

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
                map.entry(host.name().into()).or_default().push(stage.clone());
            }
            if stage.hostnames.is_empty() {
                table.any.push(stage.clone());
            }
        }
        let lists = table.exact.values_mut().chain(table.wildcard.values_mut());
        for list in lists.chain(std::iter::once(&mut table.any)) {
            // Two Stages with one host and base path are a conflict that the operator reports. Here the smaller name wins.
            list.sort_by(|a, b| b.base.len().cmp(&a.base.len()).then_with(|| a.part.cmp(&b.part)));
        }
        table
    }

    /// The Stage for a lower-case host without port, and a canonical path. A claimed host has no other Stages.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&Arc<Stage>> {
        self.claimed(host).unwrap_or(&self.any).iter().find(|stage| below(path, &stage.base).is_some())
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
