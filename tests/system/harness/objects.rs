//! Objects of a namespace as YAML and JSON: apply, read, delete, and waiting for their conditions.

use anyhow::Context as _;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use serde_json::Value;

use sluice_kit::{SOON, until as eventually};

/// A namespace of one test; never deleted, because without a controller manager it would stay `Terminating`.
#[derive(Clone)]
pub(crate) struct Space {
    pub(crate) client: kube::Client,
    pub(crate) name: String,
}

/// A condition of an object, with what makes it current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Space {
    /// Creates the namespace.
    pub(crate) async fn new(client: kube::Client, name: &str) -> anyhow::Result<Self> {
        let space = Self { client, name: name.to_owned() };
        space.apply(&serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await?;
        Ok(space)
    }

    fn api(&self, api_version: &str, kind: &str) -> anyhow::Result<Api<DynamicObject>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let everywhere = ["Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"];
        Ok(if everywhere.contains(&kind) {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), &self.name, &resource)
        })
    }

    fn parse(&self, object: &Value) -> anyhow::Result<(Api<DynamicObject>, String, DynamicObject)> {
        let text = |value: &Value, what: &str| {
            value.as_str().map(str::to_owned).with_context(|| format!("an object without {what}: {object}"))
        };
        let api = self.api(&text(&object["apiVersion"], "apiVersion")?, &text(&object["kind"], "kind")?)?;
        let name = text(&object["metadata"]["name"], "metadata.name")?;
        let mut object: DynamicObject = serde_json::from_value(object.clone())?;
        if object.metadata.namespace.is_some() {
            object.metadata.namespace = Some(self.name.clone());
        }
        Ok((api, name, object))
    }

    /// Applies one object as a person would with `kubectl apply --server-side`.
    pub(crate) async fn apply(&self, object: &Value) -> anyhow::Result<DynamicObject> {
        let (api, name, object) = self.parse(object)?;
        api.patch(&name, &PatchParams::apply("tests").force(), &Patch::Apply(&object))
            .await
            .with_context(|| format!("cannot apply {name}"))
    }

    /// Creates the object in a dry run.
    pub(crate) async fn try_create(&self, object: &Value) -> anyhow::Result<Result<DynamicObject, kube::Error>> {
        let (api, _, object) = self.parse(object)?;
        Ok(api.create(&PostParams { dry_run: true, ..PostParams::default() }, &object).await)
    }

    /// Creates an object, and replaces it by another of that name in a dry run.
    pub(crate) async fn try_replace(
        &self,
        old: &Value,
        new: &Value,
    ) -> anyhow::Result<Result<DynamicObject, kube::Error>> {
        let created = self.apply(old).await?;
        let (api, name, mut object) = self.parse(new)?;
        object.metadata.resource_version = created.metadata.resource_version;
        Ok(api.replace(&name, &PostParams { dry_run: true, ..PostParams::default() }, &object).await)
    }

    /// One of our objects, as JSON.
    pub(crate) async fn get(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        self.get_of("sluice.dev/v1alpha1", kind, name).await
    }

    /// An object of any group, as JSON.
    pub(crate) async fn get_of(&self, api_version: &str, kind: &str, name: &str) -> anyhow::Result<Value> {
        let object =
            self.api(api_version, kind)?.get(name).await.with_context(|| format!("cannot read {kind} {name}"))?;
        Ok(serde_json::to_value(object)?)
    }

    /// All objects of a kind in the namespace, as JSON.
    pub(crate) async fn list_of(&self, api_version: &str, kind: &str) -> anyhow::Result<Vec<Value>> {
        let list = self.api(api_version, kind)?.list(&ListParams::default()).await?;
        list.items.into_iter().map(|object| Ok(serde_json::to_value(object)?)).collect()
    }

    /// Deletes one of our objects.
    pub(crate) async fn delete(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        self.delete_of("sluice.dev/v1alpha1", kind, name).await
    }

    /// Deletes an object of any group.
    pub(crate) async fn delete_of(&self, api_version: &str, kind: &str, name: &str) -> anyhow::Result<()> {
        self.api(api_version, kind)?.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until a condition of the object's newest generation is as expected.
    pub(crate) async fn condition(
        &self,
        kind: &str,
        name: &str,
        type_: &str,
        expected: impl Fn(&Condition) -> bool,
    ) -> anyhow::Result<Condition> {
        eventually(format!("{type_} of {kind} {}/{name}", self.name), SOON, || async {
            let object = self.get(kind, name).await?;
            let found = current(&object, type_)?;
            anyhow::ensure!(expected(&found), "it is {found:?}");
            Ok::<_, anyhow::Error>(found)
        })
        .await
    }

    /// Waits until the object is `Programmed` on two proxies. An operator does not count a proxy that has not reconnected to it
    /// yet, so a fleet of two can be `1 of 1 proxies` for a moment.
    pub(crate) async fn programmed_on_both(&self, kind: &str, name: &str) -> anyhow::Result<Condition> {
        let both = |found: &Condition| found.status == "True" && found.message.contains("2 of 2 proxies");
        self.condition(kind, name, "Programmed", both).await
    }

    /// Waits until the object is `Programmed`.
    pub(crate) async fn programmed(&self, kind: &str, name: &str) -> anyhow::Result<Condition> {
        self.condition(kind, name, "Programmed", |condition| condition.status == "True").await
    }
}

/// The condition of a type, if it is about the object's newest generation.
pub(crate) fn current(object: &Value, type_: &str) -> anyhow::Result<Condition> {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition = conditions
        .iter()
        .find(|condition| condition["type"] == type_)
        .with_context(|| format!("no such condition; the status is {}", object["status"]))?;
    anyhow::ensure!(
        condition["observedGeneration"] == object["metadata"]["generation"],
        "it is about generation {}, not {}",
        condition["observedGeneration"],
        object["metadata"]["generation"]
    );
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    Ok(Condition { status: text("status"), reason: text("reason"), message: text("message") })
}
