//! Access reviews: asks the API server on a proxy's behalf. Proxies have no rights in the cluster.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use sluice_wire::{AccessReview, Reviewed, ServiceAccountUser};
use tokio::sync::Semaphore;

/// Reviews at a time, of all proxies.
const MAX_REVIEWS: usize = 128;
/// The proxy waits a little longer.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Longer names are not valid in Kubernetes.
const MAX_NAME: usize = 253;
/// The longest method.
const MAX_VERB: usize = 32;

/// Asks the API server. Clones are the same.
#[derive(Clone)]
pub struct Reviewer(Option<Arc<Inner>>);

struct Inner {
    client: Client,
    places: Semaphore,
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reviewer")
    }
}

impl Reviewer {
    /// One that asks this API server.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(Some(Arc::new(Inner { client, places: Semaphore::new(MAX_REVIEWS) })))
    }

    /// One without an API server: it decides nothing.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// The result of a review; without a decision where the API server does not decide in time.
    pub(crate) async fn review(self, review: AccessReview) -> Reviewed {
        let id = review.id;
        let allowed = match (&self.0, spec(review)) {
            (Some(inner), Some(spec)) => inner.decide(spec).await,
            _ => None,
        };
        Reviewed { id, allowed }
    }
}

impl Inner {
    async fn decide(&self, spec: SubjectAccessReviewSpec) -> Option<bool> {
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let asked = async {
            let _place = self.places.acquire().await.ok()?;
            Some(api.create(&PostParams::default(), &review).await)
        };
        match tokio::time::timeout(TIMEOUT, asked).await {
            Ok(Some(Ok(reviewed))) => {
                let status = reviewed.status?;
                // Allowed and denied exclude each other; if not, it is denied.
                Some(status.allowed && status.denied != Some(true))
            }
            Ok(Some(Err(error))) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "access review failed");
                None
            }
            Ok(None) => None,
            Err(_) => {
                tracing::warn!(timeout.s = TIMEOUT.as_secs(), "access review timed out");
                None
            }
        }
    }
}

/// The question as the API server expects it; none: it is not valid.
fn spec(review: AccessReview) -> Option<SubjectAccessReviewSpec> {
    let AccessReview { user, verb, namespace, route, .. } = review;
    let groups = ServiceAccountUser::parse(&user)?.groups();
    let is_name = |name: &str| !name.is_empty() && name.len() <= MAX_NAME;
    if !is_name(&namespace) || !is_name(&route) || verb.is_empty() || verb.len() > MAX_VERB || verb == "*" {
        return None;
    }
    Some(SubjectAccessReviewSpec {
        user: Some(user),
        groups: Some(groups.to_vec()),
        resource_attributes: Some(ResourceAttributes {
            group: Some(sluice_crds::GROUP.to_owned()),
            resource: Some("apiroutes".to_owned()),
            subresource: Some("invoke".to_owned()),
            namespace: Some(namespace),
            name: Some(route),
            verb: Some(verb),
            ..ResourceAttributes::default()
        }),
        ..SubjectAccessReviewSpec::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(user: &str, verb: &str, namespace: &str, route: &str) -> AccessReview {
        AccessReview { id: 1, user: user.into(), verb: verb.into(), namespace: namespace.into(), route: route.into() }
    }

    #[test]
    fn a_question_names_the_user_with_its_groups_and_the_api_route() {
        let spec = spec(review("system:serviceaccount:shop:orders", "get", "api", "items")).unwrap();
        assert_eq!(spec.user.as_deref(), Some("system:serviceaccount:shop:orders"));
        let groups = ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"];
        assert_eq!(spec.groups.unwrap(), groups);
        let resource = spec.resource_attributes.unwrap();
        let named = [resource.group, resource.resource, resource.subresource, resource.verb];
        assert_eq!(named.map(Option::unwrap), ["sluice.dev", "apiroutes", "invoke", "get"]);
        assert_eq!((resource.namespace.as_deref(), resource.name.as_deref()), (Some("api"), Some("items")));
        assert!(spec.non_resource_attributes.is_none() && resource.version.is_none());
    }

    #[tokio::test]
    async fn what_is_no_question_about_a_service_account_and_an_api_route_is_not_decided() {
        let long = "a".repeat(254);
        for (user, verb, namespace, route) in [
            ("system:admin", "get", "api", "items"),
            ("system:serviceaccount:shop:", "get", "api", "items"),
            ("system:serviceaccount:shop:orders", "", "api", "items"),
            ("system:serviceaccount:shop:orders", "*", "api", "items"),
            ("system:serviceaccount:shop:orders", &long, "api", "items"),
            // Without a name the question would be about all ApiRoutes, without a namespace about all namespaces.
            ("system:serviceaccount:shop:orders", "get", "", "items"),
            ("system:serviceaccount:shop:orders", "get", "api", ""),
            ("system:serviceaccount:shop:orders", "get", &long, "items"),
        ] {
            assert!(spec(review(user, verb, namespace, route)).is_none(), "{user} {verb} {namespace} {route}");
        }
        let valid = review("system:serviceaccount:shop:orders", "get", "api", "items");
        assert_eq!(Reviewer::none().review(valid).await, Reviewed { id: 1, allowed: None });
    }
}
