//! Secret as a watched kind: its schema in manifests, and what counts as a change.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value, json};
use sluice_crds::condition::reason;
use sluice_crds::schema::Path;

use crate::objects::manifest_schema::{base64_entries, object, texts};
use crate::objects::watched::{Target, Watched};

impl Watched for Secret {
    const SENSITIVE: bool = true;

    fn same(&self, other: &Self) -> bool {
        self.data == other.data
    }

    fn manifest_schema() -> Option<Value> {
        let (text, flag) = (json!({"type": "string"}), json!({"type": "boolean"}));
        Some(object(&[], &[("type", text), ("data", texts()), ("stringData", texts()), ("immutable", flag)]))
    }

    fn normalize(manifest: &mut Value) -> Result<(), (Path, String)> {
        base64_entries(manifest, "data", " Use stringData for plain text.")?;
        let Some(Value::Object(texts)) = manifest.as_object_mut().and_then(|secret| secret.remove("stringData")) else {
            return Ok(());
        };
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key, json!(STANDARD.encode(text.as_str()?)))));
        match manifest.get_mut("data") {
            Some(Value::Object(data)) => data.extend(texts),
            _ => manifest["data"] = Value::Object(texts.collect::<Map<_, _>>()),
        }
        Ok(())
    }
}

impl Target for Secret {
    const NOT_FOUND: &'static str = reason::SECRET_NOT_FOUND;
}
