//! What an authorizer sees of a request.

use http::{HeaderMap, Method};
use sluice_wire::{Behavior, PartName};

use super::facts::RequestFacts;
use crate::template::Variables;

/// What an authorizer sees of a request: its headers as they came, and everything else (method, path, query, path parameters,
/// address) as variables and facts, so that it is computed only for the kinds that need it.
pub(crate) struct AuthRequest<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    /// The ApiRoute that is called; none: it is not known.
    pub(crate) route: Option<&'a PartName>,
    pub(crate) behavior: Behavior,
    /// The rule names scopes.
    pub(crate) with_scopes: bool,
    pub(crate) variables: &'a (dyn Variables + Sync),
    pub(crate) facts: &'a (dyn Fn() -> RequestFacts + Sync),
}
