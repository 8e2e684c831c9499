//! Reads one YAML document as an object, or finds what is wrong with it. References to other objects are checked by
//! `translate`.

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::Value;
use sluice_crds::API_VERSION;
use sluice_crds::schema::{self, FieldError, Path, Place, SchemaError, SchemaValidator, Step, closest};

use super::yaml::{Content, Document, Mark, YamlNode};
use crate::objects::{
    Kind, Object, ObjectKey, Unparsable, UnparsableStage, Watched as _, for_kind, recorded_access_keys,
};

/// The objects of a document, its errors, and notes about what is ignored.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) objects: Vec<(Mark, Object)>,
    pub(super) errors: Vec<(Mark, String)>,
    pub(super) notes: Vec<(Mark, String)>,
}

/// The validators of all kinds that manifests may hold; compiled once.
fn validator(kind: Kind) -> Result<&'static SchemaValidator, String> {
    static VALIDATORS: OnceLock<Result<BTreeMap<Kind, SchemaValidator>, SchemaError>> = OnceLock::new();
    let missing = || format!("The schema of {kind} is missing.");
    if kind.is_own() {
        return schema::validators().map_err(ToString::to_string)?.get(kind.as_str()).ok_or_else(missing);
    }
    let compile = || {
        let schemas = Kind::ALL.iter().filter_map(|kind| Some((*kind, for_kind!(*kind, K => K::manifest_schema())?)));
        schemas.map(|(kind, schema)| Ok((kind, SchemaValidator::new(&schema)?))).collect()
    };
    VALIDATORS.get_or_init(compile).as_ref().map_err(ToString::to_string)?.get(&kind).ok_or_else(missing)
}

/// Reads one document; empty ones come to nothing.
pub(super) fn read(document: &Document) -> Outcome {
    let mut outcome = Outcome::default();
    let errors = document.errors.iter().map(|error| (error.at, error.message.clone())).collect();
    read_node(&document.root, errors, &mut outcome);
    outcome
}

fn read_node(node: &YamlNode, errors: Vec<(Mark, String)>, outcome: &mut Outcome) {
    match &node.content {
        Content::Scalar(Value::Null) => outcome.errors.extend(errors),
        Content::Map(_) => match kind_of(node) {
            Ok(Some(kind)) => read_object(node, kind, errors, outcome),
            Ok(None) if node.text("kind") == Some("List") => read_list(node, errors, outcome),
            Ok(None) => {
                outcome.errors.extend(errors);
                let kind = node.text("kind").unwrap_or_default();
                let name = node.entry("metadata").and_then(|metadata| metadata.value.text("name")).unwrap_or_default();
                outcome.notes.push((node.at, format!("{kind} {name} is ignored here; a cluster runs it.")));
            }
            Err(error) => {
                outcome.errors.extend(errors);
                outcome.errors.push(error);
            }
        },
        _ => {
            outcome.errors.extend(errors);
            let message = "A manifest must be a mapping with apiVersion, kind and metadata.";
            outcome.errors.push((node.at, message.to_owned()));
        }
    }
}

fn read_list(node: &YamlNode, errors: Vec<(Mark, String)>, outcome: &mut Outcome) {
    outcome.errors.extend(errors);
    match node.entry("items").map(|entry| &entry.value.content) {
        Some(Content::List(items)) => items.iter().for_each(|item| read_node(item, Vec::new(), outcome)),
        _ => outcome.errors.push((node.at, "A List must have its objects in the list `items`.".to_owned())),
    }
}

/// The kind that `apiVersion` and `kind` name; none when it is a kind that is not used here.
fn kind_of(node: &YamlNode) -> Result<Option<Kind>, (Mark, String)> {
    let value_at = |key: &str| node.entry(key).map_or(node.at, |entry| entry.value.at);
    let Some(kind) = node.text("kind") else {
        return Err((value_at("kind"), "The object has no kind, for example kind: ApiRoute.".to_owned()));
    };
    let known = Kind::named(kind);
    let Some(api_version) = node.text("apiVersion") else {
        let version = known.map_or_else(|| API_VERSION.to_owned(), Kind::api_version);
        return Err((value_at("apiVersion"), format!("The object has no apiVersion: use apiVersion: {version}.")));
    };
    if let Some(known) = known {
        let served = known.api_version();
        if served == api_version {
            return Ok(Some(known));
        }
        // Other projects have kinds of these names as well: only near versions are taken for ours.
        let (group, _) = api_version.split_once('/').unwrap_or(("", api_version));
        let near = group == known.group() || closest(group, [known.group().as_str()]).is_some() || known.is_own();
        if near {
            let message = format!("{kind} does not exist in {api_version}: use apiVersion: {served}.");
            return Err((value_at("apiVersion"), message));
        }
        return Ok(None);
    }
    let here = Kind::ALL.iter().filter(|kind| kind.api_version() == api_version);
    let here: Vec<&str> = here.map(|kind| kind.as_str()).collect();
    let meant = closest(kind, here.iter().copied());
    if api_version == API_VERSION || (meant.is_some() && api_version != "v1") {
        let hint =
            meant.map_or_else(|| format!("The kinds are {}.", here.join(", ")), |kind| format!("Did you mean {kind}?"));
        return Err((value_at("kind"), format!("There is no kind {kind} in {api_version}. {hint}")));
    }
    Ok(None)
}

fn read_object(node: &YamlNode, kind: Kind, mut errors: Vec<(Mark, String)>, outcome: &mut Outcome) {
    let mut value = node.to_json();
    if let (true, Value::Object(map)) = (kind.is_own(), &mut value) {
        // As with `kubectl apply`, a status is ignored: the operator writes it.
        map.remove("status");
    }
    let key = key_of(kind, &value);
    let stage = UnparsableStage::read(kind, &value).map(Box::new);
    let access_keys = recorded_access_keys(kind, &value);
    match validator(kind) {
        Ok(validator) => {
            let sensitive = for_kind!(kind, K => K::SENSITIVE);
            let found = validator.validate(&mut value);
            errors
                .extend(found.iter().map(|error| (node.locate(&error.path, error.place), described(error, sensitive))));
        }
        Err(error) => errors.push((node.at, error)),
    }
    if errors.is_empty() {
        match typed(kind, value, node) {
            Ok(object) => {
                outcome.objects.push((node.at, object));
                return;
            }
            Err(error) => errors.push(error),
        }
    }
    errors.sort();
    if let (Some(key), Some((_, first))) = (key, errors.first()) {
        let why = match errors.len() {
            1 => first.clone(),
            several => format!("{first} ({} more errors)", several - 1),
        };
        let unparsable = Unparsable { generation: None, uid: None, created: None, stage, access_keys, why };
        outcome.objects.push((node.at, Object::Unparsable(kind, key, unparsable)));
    }
    outcome.errors.extend(errors);
}

/// The message of a error, without the content of Secrets.
fn described(error: &FieldError, sensitive: bool) -> String {
    let content = matches!(error.path.steps(), [Step::Key(first), ..] if first == "data" || first == "stringData");
    if sensitive && content {
        return format!("{} must be a string. Put it in quotes.", error.path);
    }
    error.to_string()
}

fn key_of(kind: Kind, value: &Value) -> Option<ObjectKey> {
    let metadata = value.get("metadata")?;
    let name = metadata.get("name")?.as_str().filter(|name| !name.is_empty())?;
    let default = if kind.is_namespaced() { "default" } else { "" };
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or(default);
    Some(ObjectKey::new(namespace, name))
}

fn typed(kind: Kind, mut value: Value, node: &YamlNode) -> Result<Object, (Mark, String)> {
    if kind.is_namespaced() && value["metadata"]["namespace"].is_null() {
        value["metadata"]["namespace"] = "default".into();
    }
    let unreadable = |path: Path, message| (node.locate(&path, Place::Value), message);
    for_kind!(kind, K => {
        K::normalize(&mut value).map_err(|(path, message)| unreadable(path, message))?;
        serde_json::from_value::<K>(value).map(Object::from).map_err(|error| {
            // The deserializer's message could hold a piece of the content.
            let why = if K::SENSITIVE { String::new() } else { format!(": {error}") };
            (node.at, format!("Cannot parse the {kind}{why}."))
        })
    })
}
