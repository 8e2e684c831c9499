//! The rules of each version of an API that is named by a header, a query parameter or `Accept`. A version in the path is a
//! segment of the tree.

use http::HeaderMap;
use http::header::ACCEPT;
use sluice_wire::VersionScheme;

use super::children::{Children, Stays};
use crate::gateway::path;

/// Trees by version.
#[derive(Clone)]
pub(super) struct Versions<T> {
    /// By name of the header, then of the version.
    headers: Children<Children<T>>,
    query: Children<Children<T>>,
    media_type: Children<T>,
}

impl<T> Default for Versions<T> {
    fn default() -> Self {
        Self { headers: Children::default(), query: Children::default(), media_type: Children::default() }
    }
}

impl<T> Versions<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.query.is_empty() && self.media_type.is_empty()
    }

    /// The tree of the version that the request names: in a header, or else in a query parameter, or else in `Accept`. Of
    /// several headers the first by name counts, of several values the first one that is a version.
    pub(super) fn find(&self, headers: &HeaderMap, query: Option<&str>) -> Option<&T> {
        self.in_headers(headers).or_else(|| self.in_query(query)).or_else(|| self.in_accept(headers))
    }

    fn in_headers(&self, headers: &HeaderMap) -> Option<&T> {
        if self.headers.is_empty() {
            return None;
        }
        let found = headers.iter().filter_map(|(name, value)| {
            let versions = self.headers.get(name.as_str())?;
            Some((name.as_str(), versions.get(value.to_str().ok()?)?))
        });
        // Of equal names the first is taken: values keep their order.
        found.min_by_key(|(name, _)| *name).map(|(_, tree)| tree)
    }

    fn in_query(&self, query: Option<&str>) -> Option<&T> {
        if self.query.is_empty() {
            return None;
        }
        path::query_pairs(query.unwrap_or_default()).find_map(|(name, value)| self.query.get(&name)?.get(&value))
    }

    fn in_accept(&self, headers: &HeaderMap) -> Option<&T> {
        if self.media_type.is_empty() {
            return None;
        }
        media_versions(headers).find_map(|version| self.media_type.get(version))
    }
}

impl<T: Clone> Versions<T> {
    /// The tree of a version, which is created if it does not exist. None: the version is in the path.
    pub(super) fn entry(&mut self, scheme: &VersionScheme, name: &str, make: impl FnOnce() -> T) -> Option<&mut T> {
        match scheme {
            VersionScheme::Path => None,
            VersionScheme::Header(header) => {
                Some(self.headers.entry(&header.to_ascii_lowercase(), Children::default).entry(name, make))
            }
            VersionScheme::Query(parameter) => Some(self.query.entry(parameter, Children::default).entry(name, make)),
            VersionScheme::MediaType => Some(self.media_type.entry(name, make)),
        }
    }

    /// Changes the tree of a version. `change` decides whether it is removed.
    pub(super) fn change(&mut self, scheme: &VersionScheme, name: &str, change: impl FnOnce(&mut T) -> Stays) {
        let (by_name, parameter) = match scheme {
            VersionScheme::Path => return,
            VersionScheme::MediaType => return self.media_type.change(name, change),
            VersionScheme::Header(header) => (&mut self.headers, header.to_ascii_lowercase()),
            VersionScheme::Query(parameter) => (&mut self.query, parameter.clone()),
        };
        by_name.change(&parameter, |versions| {
            versions.change(name, change);
            if versions.is_empty() { Stays::No } else { Stays::Yes }
        });
    }
}

/// Values of the parameter `version` of `Accept`, as in `application/json;version=v1`.
fn media_versions(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split([',', ';'])).filter_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("version").then(|| value.trim().trim_matches('"'))
    })
}
