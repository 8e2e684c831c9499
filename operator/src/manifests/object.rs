//! One YAML document → one object of the cluster state, or what is wrong with it.
//! Whether the object can work together with others is translation's to say.

use base64::Engine as _;
use k8s_openapi::{
    ByteString,
    api::{
        core::v1::{ConfigMap, Secret, Service},
        discovery::v1::EndpointSlice,
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluice_crds::{
    API_VERSION, ApiKey, ApiRoute, Authorizer, Stage, UsagePlan,
    schema::{self, Fault, Judge, Path, Place, Step, closest},
};

use super::{
    core::{self, CoreKind},
    yaml::{Content, Document, Mark, Node},
};
use crate::objects::{Kind, Object, ObjectKey, Unparsable};

/// Kinds that are plainly not configuration and not worth a word either.
const SILENT: [&str; 1] = ["Namespace"];

/// What came of a document.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) objects: Vec<(Mark, Object)>,
    pub(super) errors: Vec<(Mark, String)>,
    pub(super) notes: Vec<(Mark, String)>,
}

/// Which type a document is of.
#[derive(Clone, Copy)]
enum Type {
    Ours(Kind),
    Core(CoreKind),
}

impl Type {
    const fn kind(self) -> Kind {
        match self {
            Self::Ours(kind) => kind,
            Self::Core(CoreKind::Secret) => Kind::Secret,
            Self::Core(CoreKind::ConfigMap) => Kind::ConfigMap,
            Self::Core(CoreKind::Service) => Kind::Service,
            Self::Core(CoreKind::EndpointSlice) => Kind::EndpointSlice,
        }
    }

    const fn api_version(self) -> &'static str {
        match self {
            Self::Ours(_) => API_VERSION,
            Self::Core(kind) => kind.api_version(),
        }
    }

    fn judge(self) -> Result<&'static Judge, String> {
        let missing = || format!("The schema of {} is missing.", self.kind());
        match self {
            Self::Ours(kind) => schema::judges().map_err(ToString::to_string)?.get(kind.as_str()).ok_or_else(missing),
            Self::Core(kind) => core::judges().map_err(ToString::to_string)?.get(&kind).ok_or_else(missing),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        Kind::OURS.into_iter().map(Self::Ours).chain(CoreKind::ALL.into_iter().map(Self::Core))
    }
}

/// Reads one document; empty ones come to nothing.
pub(super) fn read(document: &Document) -> Outcome {
    let mut outcome = Outcome::default();
    let faults = document.faults.iter().map(|fault| (fault.at, fault.message.clone())).collect();
    read_node(&document.root, faults, &mut outcome);
    outcome
}

fn read_node(node: &Node, faults: Vec<(Mark, String)>, outcome: &mut Outcome) {
    match &node.content {
        Content::Scalar(Value::Null) => outcome.errors.extend(faults),
        Content::Map(_) => match type_of(node) {
            Ok(Some(type_)) => read_object(node, type_, faults, outcome),
            Ok(None) if node.text("kind") == Some("List") => read_list(node, faults, outcome),
            Ok(None) => {
                outcome.errors.extend(faults);
                let kind = node.text("kind").unwrap_or_default();
                if !SILENT.contains(&kind) {
                    let name =
                        node.entry("metadata").and_then(|metadata| metadata.value.text("name")).unwrap_or_default();
                    outcome.notes.push((node.at, format!("{kind} {name} is not used here; a cluster runs it.")));
                }
            }
            Err(error) => {
                outcome.errors.extend(faults);
                outcome.errors.push(error);
            }
        },
        _ => {
            outcome.errors.extend(faults);
            let message = "A manifest is a mapping with apiVersion, kind and metadata.";
            outcome.errors.push((node.at, message.to_owned()));
        }
    }
}

fn read_list(node: &Node, faults: Vec<(Mark, String)>, outcome: &mut Outcome) {
    outcome.errors.extend(faults);
    match node.entry("items").map(|entry| &entry.value.content) {
        Some(Content::List(items)) => items.iter().for_each(|item| read_node(item, Vec::new(), outcome)),
        _ => outcome.errors.push((node.at, "A List has its objects in the list items.".to_owned())),
    }
}

/// The type that `apiVersion` and `kind` name; none when it is a kind that is not used here.
fn type_of(node: &Node) -> Result<Option<Type>, (Mark, String)> {
    let value_at = |key: &str| node.entry(key).map_or(node.at, |entry| entry.value.at);
    let Some(kind) = node.text("kind") else {
        return Err((value_at("kind"), "The object needs a kind, for example ApiRoute.".to_owned()));
    };
    let known = Type::all().find(|type_| type_.kind().as_str() == kind);
    let Some(api_version) = node.text("apiVersion") else {
        let version = known.map_or(API_VERSION, Type::api_version);
        return Err((value_at("apiVersion"), format!("The object needs an apiVersion: write apiVersion: {version}.")));
    };
    if let Some(type_) = known {
        if type_.api_version() == api_version {
            return Ok(Some(type_));
        }
        // Other projects have kinds of these names as well: only near versions are taken for ours.
        let (group, _) = api_version.split_once('/').unwrap_or(("", api_version));
        let (ours, _) = type_.api_version().split_once('/').unwrap_or(("", type_.api_version()));
        let near = group == ours || closest(group, [ours]).is_some() || matches!(type_, Type::Ours(_));
        if near {
            let message = format!("{kind} is not served in {api_version}: write apiVersion: {}.", type_.api_version());
            return Err((value_at("apiVersion"), message));
        }
        return Ok(None);
    }
    let here: Vec<&str> =
        Type::all().filter(|type_| type_.api_version() == api_version).map(|type_| type_.kind().as_str()).collect();
    let meant = closest(kind, here.iter().copied());
    if api_version == API_VERSION || (meant.is_some() && api_version != "v1") {
        let hint =
            meant.map_or_else(|| format!("The kinds are {}.", here.join(", ")), |kind| format!("Did you mean {kind}?"));
        return Err((value_at("kind"), format!("There is no kind {kind} in {api_version}. {hint}")));
    }
    Ok(None)
}

fn read_object(node: &Node, type_: Type, mut faults: Vec<(Mark, String)>, outcome: &mut Outcome) {
    let mut value = node.to_json();
    if let (Type::Ours(_), Value::Object(map)) = (type_, &mut value) {
        // As with `kubectl apply`: a status is the operator's to write.
        map.remove("status");
    }
    let identity = identity(&value).map(|key| (type_.kind(), key));
    match type_.judge() {
        Ok(judge) => {
            let secret = matches!(type_, Type::Core(CoreKind::Secret));
            let found = judge.judge(&mut value);
            faults.extend(found.iter().map(|fault| (node.locate(&fault.path, fault.place), told(fault, secret))));
        }
        Err(error) => faults.push((node.at, error)),
    }
    if faults.is_empty() {
        match typed(type_, value, node) {
            Ok(object) => {
                outcome.objects.push((node.at, object));
                return;
            }
            Err(error) => faults.push(error),
        }
    }
    faults.sort();
    if let (Some((kind, key)), Some((_, first))) = (identity, faults.first()) {
        let why = match faults.len() {
            1 => first.clone(),
            several => format!("{first} ({} more faults)", several - 1),
        };
        outcome.objects.push((node.at, Object::Unparsable(kind, key, Unparsable { generation: None, uid: None, why })));
    }
    outcome.errors.extend(faults);
}

/// A fault's words, without the content of Secrets.
fn told(fault: &Fault, secret: bool) -> String {
    let content = matches!(fault.path.steps(), [Step::Key(first), ..] if first == "data" || first == "stringData");
    if secret && content {
        return format!("{} must be a text. Put it in quotes.", fault.path);
    }
    fault.to_string()
}

fn identity(value: &Value) -> Option<ObjectKey> {
    let metadata = value.get("metadata")?;
    let name = metadata.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or("default");
    Some(ObjectKey::new(namespace, name))
}

fn typed(type_: Type, mut value: Value, node: &Node) -> Result<Object, (Mark, String)> {
    if value["metadata"]["namespace"].is_null() {
        value["metadata"]["namespace"] = "default".into();
    }
    match type_ {
        Type::Ours(Kind::Stage) => from_value::<Stage>(value, node).map(Object::from),
        Type::Ours(Kind::ApiRoute) => from_value::<ApiRoute>(value, node).map(Object::from),
        Type::Ours(Kind::Authorizer) => from_value::<Authorizer>(value, node).map(Object::from),
        Type::Ours(Kind::ApiKey) => from_value::<ApiKey>(value, node).map(Object::from),
        Type::Ours(Kind::UsagePlan) => from_value::<UsagePlan>(value, node).map(Object::from),
        Type::Ours(other) => Err((node.at, format!("{other} is not a kind of Sluice."))),
        Type::Core(CoreKind::Secret) => secret(value, node).map(Object::from),
        Type::Core(CoreKind::ConfigMap) => {
            decodable(&mut value, "binaryData", node)?;
            from_value::<ConfigMap>(value, node).map(Object::from)
        }
        Type::Core(CoreKind::Service) => from_value::<Service>(value, node).map(Object::from),
        Type::Core(CoreKind::EndpointSlice) => from_value::<EndpointSlice>(value, node).map(Object::from),
    }
}

fn from_value<K: DeserializeOwned>(value: Value, node: &Node) -> Result<K, (Mark, String)> {
    serde_json::from_value(value).map_err(|error| (node.at, format!("The object cannot be read: {error}.")))
}

/// A Secret as an API server keeps it: `stringData` has gone into `data`.
fn secret(mut value: Value, node: &Node) -> Result<Secret, (Mark, String)> {
    decodable(&mut value, "data", node)?;
    // The reader's own words could hold a piece of the content.
    let mut secret: Secret =
        serde_json::from_value(value).map_err(|_| (node.at, "The Secret cannot be read.".to_owned()))?;
    if let Some(texts) = secret.string_data.take() {
        let data = secret.data.get_or_insert_default();
        data.extend(texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
    }
    Ok(secret)
}

/// Takes line ends out of Base64, as an API server does, and says which entry is not Base64.
fn decodable(value: &mut Value, field: &str, node: &Node) -> Result<(), (Mark, String)> {
    let Some(Value::Object(entries)) = value.get_mut(field) else { return Ok(()) };
    for (key, entry) in entries {
        let Value::String(text) = entry else { continue };
        text.retain(|c| !matches!(c, '\r' | '\n'));
        if base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).is_err() {
            let path: Path = [Step::Key(field.to_owned()), Step::Key(key.clone())].into_iter().collect();
            let hint = if field == "data" { " Write plain text under stringData." } else { "" };
            let message = format!("{path} is not Base64.{hint}");
            return Err((node.locate(&path, Place::Value), message));
        }
    }
    Ok(())
}
