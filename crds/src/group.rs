//! The API group of the custom resources and its version.

/// The API group of every custom resource.
pub const GROUP: &str = "sluice.dev";

/// The one served version of the group.
pub const VERSION: &str = "v1alpha1";

/// What an object's `apiVersion` must say.
pub const API_VERSION: &str = "sluice.dev/v1alpha1";
