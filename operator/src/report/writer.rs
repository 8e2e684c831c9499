//! Writes statuses and Events of objects to the API server, with one field manager and a timeout for each request.

use std::time::Duration;

use kube::Client;
use kube::api::{Api, DynamicObject, Patch as KubePatch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter as EventReporter};
use serde_json::json;
use sluice_crds::condition::{Status, WARNINGS};
use sluice_wire::ObjectRef;

use crate::objects::{Kind, Object, for_own_kind};
use crate::report::status::Transition;

/// The field manager of every write.
pub const FIELD_MANAGER: &str = "sluice-operator";

const PATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest note of an Event.
const MAX_NOTE_BYTES: usize = 1000;

/// Writes statuses and Events.
pub(crate) struct StatusWriter {
    client: Client,
    recorder: Recorder,
}

impl StatusWriter {
    pub(crate) fn new(client: Client) -> Self {
        let reporter = EventReporter { controller: FIELD_MANAGER.to_owned(), instance: std::env::var("POD_NAME").ok() };
        Self { recorder: Recorder::new(client.clone(), reporter), client }
    }

    /// Applies a status by server-side apply; false: the object is gone, another object has its name now, or it does not have
    /// the version `only_to` any more.
    pub(crate) async fn apply(
        &self,
        object: &ObjectRef,
        uid: Option<String>,
        only_to: Option<String>,
        status: &serde_json::Value,
    ) -> Result<bool, String> {
        let kind = Kind::named(&object.kind);
        let Some(resource) = kind.and_then(|kind| for_own_kind!(kind, K => ApiResource::erase::<K>(&()))) else {
            return Ok(false);
        };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &object.namespace, &resource);
        let mut body = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": object.name, "namespace": object.namespace, "uid": uid},
            "status": status,
        });
        if let Some(version) = only_to {
            body["metadata"]["resourceVersion"] = json!(version);
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = KubePatch::Apply(&body);
        match tokio::time::timeout(PATCH_TIMEOUT, api.patch_status(&object.name, &parameters, &patch)).await {
            Err(_) => Err(format!("no response within {} s", PATCH_TIMEOUT.as_secs())),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(false),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(_)) => Ok(true),
        }
    }

    /// Writes an Event for each transition.
    pub(crate) async fn record(&self, object: &ObjectRef, live: &Object, transitions: &[Transition]) {
        let Some(reference) = live.reference() else { return };
        for transition in transitions {
            let cut = (0..=MAX_NOTE_BYTES.min(transition.message.len())).rev();
            let end = cut.into_iter().find(|end| transition.message.is_char_boundary(*end)).unwrap_or(0);
            let event = Event {
                type_: if transition.status == Status::True && transition.type_ != WARNINGS {
                    EventType::Normal
                } else {
                    EventType::Warning
                },
                reason: transition.reason.to_owned(),
                note: transition.message.get(..end).map(str::to_owned),
                action: transition.type_.to_owned(),
                secondary: None,
            };
            match tokio::time::timeout(PATCH_TIMEOUT, self.recorder.publish(&event, &reference)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%object, %error, "cannot write an event"),
                Err(_) => tracing::warn!(%object, "writing an event timed out"),
            }
        }
    }
}
