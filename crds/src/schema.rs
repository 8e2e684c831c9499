//! Validates an object by the schema of its kind as an API server does: defaults, unknown fields, types, bounds, CEL. Errors
//! have the path of their field; the caller finds its place in a file.

mod explain;
mod field_error;
mod metadata;
mod suggest;

use std::{collections::BTreeMap, sync::OnceLock};

use kube::core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use regex::Regex;
use serde_json::{Map, Value};

pub use explain::closest;
pub use field_error::{FieldError, Path, Place, Step};

use crate::field;
use crate::manifest::{self, ManifestError};

/// Deeper objects are rejected; no schema here is nearly that deep.
const MAX_DEPTH: usize = 64;

/// The most errors that are reported for one object.
const MAX_ERRORS: usize = 50;

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A pattern is not a regular expression.
    #[error("the schema's pattern {pattern:?} cannot be compiled")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The error of the compiler.
        source: regex::Error,
    },
    /// A rule is not a CEL expression.
    #[error("the schema has a rule that cannot be compiled: {reason}")]
    Rule {
        /// The error of the compiler.
        reason: String,
    },
    /// The definitions could not be made.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// A schema that is prepared for validation.
pub struct SchemaValidator {
    schema: Value,
    rules: CompiledSchema,
    patterns: BTreeMap<String, Regex>,
    validator: Validator,
}

impl std::fmt::Debug for SchemaValidator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchemaValidator").field("patterns", &self.patterns.len()).finish_non_exhaustive()
    }
}

/// The validators of the kinds of Sluice, by kind; prepared once.
///
/// # Errors
///
/// When a schema is invalid, which a test of this crate prevents.
pub fn validators() -> Result<&'static BTreeMap<String, SchemaValidator>, &'static SchemaError> {
    static VALIDATORS: OnceLock<Result<BTreeMap<String, SchemaValidator>, SchemaError>> = OnceLock::new();
    VALIDATORS
        .get_or_init(|| {
            manifest::definitions()?
                .into_iter()
                .map(|definition| Ok((definition.kind.clone(), SchemaValidator::new(definition.schema())?)))
                .collect()
        })
        .as_ref()
}

impl SchemaValidator {
    /// Prepares the structural schema of a kind; what every object has (`apiVersion`, `kind`, `metadata`) is added.
    ///
    /// # Errors
    ///
    /// When a pattern or a CEL rule of the schema cannot be compiled.
    pub fn new(schema: &Value) -> Result<Self, SchemaError> {
        let schema = metadata::whole_object(schema);
        let mut patterns = BTreeMap::new();
        collect_patterns(&schema, &mut patterns)?;
        let rules = compile_schema(&schema);
        if let Some(error) = first_rule_error(&rules) {
            return Err(SchemaError::Rule { reason: error });
        }
        Ok(Self { schema, rules, patterns, validator: Validator::new() })
    }

    /// Sets defaults, removes nulls, and returns every error. An API server accepts the object when there is none.
    ///
    /// CEL rules are evaluated for an object without other errors only, as in an API server.
    pub fn validate(&self, object: &mut Value) -> Vec<FieldError> {
        self.validate_change(None, object)
    }

    /// As [`Self::validate`], for an object that replaces an old one: rules that compare both are evaluated as well.
    pub fn validate_update(&self, old: &Value, object: &mut Value) -> Vec<FieldError> {
        let mut old = old.clone();
        self.visit(&mut old);
        self.validate_change(Some(&old), object)
    }

    fn visit(&self, object: &mut Value) -> Vec<FieldError> {
        let mut visit = Visit { validator: self, path: Path::default(), errors: Vec::new(), hints: true };
        visit.value(&self.schema, object);
        visit.errors
    }

    fn validate_change(&self, old: Option<&Value>, object: &mut Value) -> Vec<FieldError> {
        let mut errors = self.visit(object);
        if errors.is_empty()
            && let Err(failed) = self.validator.validate_compiled(&self.rules, object, old)
        {
            errors.extend(failed.into_vec().into_iter().map(|error| {
                let path = Path::parse(&error.field_path);
                let message = match error.kind {
                    ErrorKind::ValidationFailure => format!("{path}: {}.", error.message),
                    _ => {
                        format!("{path}: the validation rule {:?} cannot be evaluated: {}.", error.rule, error.message)
                    }
                };
                FieldError { path, place: Place::Value, message, hint: None }
            }));
        }
        errors
    }
}

fn collect_patterns(schema: &Value, patterns: &mut BTreeMap<String, Regex>) -> Result<(), SchemaError> {
    let Value::Object(node) = schema else { return Ok(()) };
    if let Some(pattern) = node.get("pattern").and_then(Value::as_str)
        && !patterns.contains_key(pattern)
    {
        let regex =
            Regex::new(pattern).map_err(|source| SchemaError::Pattern { pattern: pattern.to_owned(), source })?;
        patterns.insert(pattern.to_owned(), regex);
    }
    for child in node.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::values) {
        collect_patterns(child, patterns)?;
    }
    for child in ["items", "additionalProperties"].into_iter().filter_map(|key| node.get(key)) {
        collect_patterns(child, patterns)?;
    }
    Ok(())
}

fn first_rule_error(rules: &CompiledSchema) -> Option<String> {
    rules
        .validations
        .iter()
        .find_map(|rule| rule.as_ref().err().map(ToString::to_string))
        .or_else(|| rules.properties.values().find_map(first_rule_error))
        .or_else(|| rules.items.as_deref().and_then(first_rule_error))
        .or_else(|| rules.additional_properties.as_deref().and_then(first_rule_error))
}

/// One walk over an object and its schema.
struct Visit<'a> {
    validator: &'a SchemaValidator,
    path: Path,
    errors: Vec<FieldError>,
    /// Whether suggestions are made.
    hints: bool,
}

impl Visit<'_> {
    fn error(&mut self, place: Place, message: String, hint: Option<String>) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(FieldError { path: self.path.clone(), place, message, hint });
        }
    }

    fn value(&mut self, schema: &Value, value: &mut Value) {
        if self.path.len() > MAX_DEPTH {
            return self.error(Place::Value, "This is nested too deeply.".to_owned(), None);
        }
        let int_or_string = flag(schema, "x-kubernetes-int-or-string");
        let type_ = schema.get("type").and_then(Value::as_str);
        if type_ == Some("integer") || int_or_string {
            whole(value);
        }
        match (type_, &mut *value) {
            (Some("object"), Value::Object(map)) => self.object(schema, map),
            (Some("array"), Value::Array(items)) => self.array(schema, items),
            (Some("string"), Value::String(text)) => self.text(schema, text),
            (None, Value::String(text)) if int_or_string => self.text(schema, text),
            (Some("integer"), Value::Number(number)) if !number.is_f64() => self.number(schema, number),
            (None, Value::Number(number)) if int_or_string && !number.is_f64() => self.number(schema, number),
            (Some("number"), Value::Number(number)) => self.number(schema, number),
            (Some("boolean"), Value::Bool(_)) => {}
            (None, _) if !int_or_string => {}
            (_, found) => {
                let message = format!(
                    "{} must be {}, but it is {}.",
                    self.path,
                    explain::type_name(type_.unwrap_or("intOrString")),
                    explain::found(found)
                );
                let hint = self.suggestion(schema, found).or_else(|| explain::format(schema));
                return self.error(Place::Value, message, hint);
            }
        }
        self.allowed(schema, value);
    }

    fn allowed(&mut self, schema: &Value, value: &Value) {
        let Some(allowed) = schema.get("enum").and_then(Value::as_array) else { return };
        if allowed.contains(value) {
            return;
        }
        let names: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
        let written = value.as_str().unwrap_or_default();
        let hint = closest(written, names.iter().copied()).map(|name| format!("Did you mean {name}?"));
        let message =
            format!("{} cannot be {}: it must be one of {}.", self.path, explain::found(value), explain::list(&names));
        self.error(Place::Value, message, hint);
    }

    fn object(&mut self, schema: &Value, map: &mut Map<String, Value>) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let additional = schema.get("additionalProperties").filter(|schema| schema.is_object());
        let keep_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields");
        // An API server takes null for absent where a schema does not say `nullable`; ours never do.
        map.retain(|key, value| {
            let known = additional.is_some() || properties.is_some_and(|properties| properties.contains_key(key));
            !(known && value.is_null())
        });
        for (name, child) in properties.into_iter().flatten() {
            if let Some(default) = child.get("default").filter(|_| !map.contains_key(name)) {
                map.insert(name.clone(), default.clone());
            }
        }
        self.required(schema, map);
        if let Some(most) = bound(schema, "maxProperties").filter(|most| map.len() > *most) {
            self.error(
                Place::Value,
                format!("{} has {} entries; at most {most} are allowed.", self.path, map.len()),
                None,
            );
        }
        for (name, child) in map.iter_mut() {
            self.path.push(Step::Key(name.clone()));
            match properties.and_then(|properties| properties.get(name)).or(additional) {
                Some(schema) => self.value(schema, child),
                None if keep_unknown => {}
                None => self.unknown(name, properties),
            }
            self.path.pop();
        }
    }

    fn required(&mut self, schema: &Value, map: &Map<String, Value>) {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !map.contains_key(*name)) {
            let child = schema.get("properties").and_then(|properties| properties.get(name));
            let message = match self.path.len() {
                0 => format!("The field {name} is missing."),
                _ => format!("{} requires the field {name}.", self.path),
            };
            self.error(Place::Key, message, child.and_then(explain::example));
        }
    }

    fn unknown(&mut self, name: &str, properties: Option<&Map<String, Value>>) {
        let known: Vec<&str> = properties.into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let hint = match closest(name, known.iter().copied()) {
            Some(near) => Some(format!("Did you mean {near}?")),
            None if known.is_empty() => None,
            None => Some(format!("The fields here are {}.", explain::list(&known))),
        };
        let message = format!("There is no field {}.", self.path);
        self.error(Place::Key, message, hint);
    }

    fn array(&mut self, schema: &Value, items: &mut [Value]) {
        if let Some(most) = bound(schema, "maxItems").filter(|most| items.len() > *most) {
            self.error(
                Place::Value,
                format!("{} has {} items; at most {most} are allowed.", self.path, items.len()),
                None,
            );
            return;
        }
        if let Some(least) = bound(schema, "minItems").filter(|least| items.len() < *least) {
            let message = format!("{} has {} items; at least {least} are required.", self.path, items.len());
            self.error(Place::Value, message, explain::example(schema));
        }
        let Some(item_schema) = schema.get("items") else { return };
        for (index, item) in items.iter_mut().enumerate() {
            self.path.push(Step::Index(index));
            self.value(item_schema, item);
            self.path.pop();
        }
        self.unique(schema, items);
    }

    /// Rejects a second item with the identity of an earlier one, in sets and in maps written as lists.
    fn unique(&mut self, schema: &Value, items: &[Value]) {
        let keys: Vec<&str> = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => Vec::new(),
            Some("map") => schema
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array)
                .map(|keys| keys.iter().filter_map(Value::as_str).collect())
                .unwrap_or_default(),
            _ => return,
        };
        let identity = |item: &Value| match keys.as_slice() {
            [] => item.to_string(),
            keys => keys
                .iter()
                .map(|key| item.get(*key).map(ToString::to_string).unwrap_or_default())
                .collect::<Vec<_>>()
                .join(", "),
        };
        let mut seen = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let identity = identity(item);
            if let Some(first) = seen.insert(identity.clone(), index) {
                self.path.push(Step::Index(index));
                let what = if keys.is_empty() { String::new() } else { format!("{} ", keys.join(" and ")) };
                let message = format!("{} repeats the {what}{identity} of item {first}.", self.path);
                self.error(Place::Value, message, Some("It must be unique in this list.".to_owned()));
                self.path.pop();
            }
        }
    }

    fn text(&mut self, schema: &Value, text: &str) {
        let length = text.chars().count();
        if let Some(most) = bound(schema, "maxLength").filter(|most| length > *most) {
            let message = format!("{} has {length} characters; at most {most} are allowed.", self.path);
            return self.error(Place::Value, message, explain::example(schema));
        }
        if let Some(least) = bound(schema, "minLength").filter(|least| length < *least) {
            let message = match length {
                0 => format!("{} is empty.", self.path),
                _ => format!("{} has {length} characters; at least {least} are required.", self.path),
            };
            return self.error(Place::Value, message, explain::example(schema));
        }
        let Some(pattern) = schema.get("pattern").and_then(Value::as_str) else { return };
        let matches = self.validator.patterns.get(pattern).is_some_and(|regex| regex.is_match(text));
        if !matches {
            let found = explain::found(&Value::String(text.to_owned()));
            let message = format!("{} cannot be {found}: {}.", self.path, explain::pattern(pattern));
            let hint = self.suggestion(schema, &Value::String(text.to_owned()));
            self.error(Place::Value, message, hint.or_else(|| explain::example_of(schema)));
        }
    }

    /// Whether the schema accepts a value; its validation rules are not evaluated.
    fn accepts(&self, schema: &Value, value: &Value) -> bool {
        let mut visit = Visit { validator: self.validator, path: Path::default(), errors: Vec::new(), hints: false };
        visit.value(schema, &mut value.clone());
        visit.errors.is_empty()
    }

    /// What to write instead of a value: a sentence. The schema accepts what it suggests.
    fn suggestion(&self, schema: &Value, found: &Value) -> Option<String> {
        if !self.hints {
            return None;
        }
        let text = match found {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => found.to_string(),
            _ => return None,
        };
        let pattern = schema.get("pattern").and_then(Value::as_str);
        if pattern == Some(field::DURATION_PATTERN) {
            return suggest::duration(schema, &text);
        }
        if pattern == Some(field::BYTES_PATTERN) {
            return suggest::size(&text);
        }
        let string = || Value::String(text.clone());
        match schema.get("type").and_then(Value::as_str)? {
            "string" if !found.is_string() && self.accepts(schema, &string()) => {
                Some(format!("Put it in quotes: \"{text}\"."))
            }
            "string" if schema.get("enum").is_none() && !found.is_boolean() => {
                let mut spellings = suggest::spellings(&text).into_iter();
                let accepted = spellings.find(|spelling| self.accepts(schema, &Value::String(spelling.clone())))?;
                Some(format!("Write {accepted}."))
            }
            "integer" | "number" | "boolean" => {
                let plain = match text.trim().to_ascii_lowercase().as_str() {
                    "yes" | "on" => "true".to_owned(),
                    "no" | "off" => "false".to_owned(),
                    other => other.to_owned(),
                };
                let value: Value = serde_json::from_str(&plain).ok()?;
                self.accepts(schema, &value).then(|| format!("Write {plain} without quotes."))
            }
            "array" => {
                let item = self.accepts(schema, &Value::Array(vec![found.clone()]));
                item.then(|| format!("Write it as a list: [{text}]."))
            }
            _ => None,
        }
    }

    fn number(&mut self, schema: &Value, number: &serde_json::Number) {
        let Some(value) = number.as_f64() else { return };
        let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
        if limit("minimum").is_some_and(|least| value < least) || limit("maximum").is_some_and(|most| value > most) {
            let range = match (limit("minimum"), limit("maximum")) {
                (Some(least), Some(most)) => format!("from {least} to {most}"),
                (Some(least), None) => format!("at least {least}"),
                (_, Some(most)) => format!("at most {most}"),
                (None, None) => String::new(),
            };
            let message = format!("{} cannot be {number}: it must be {range}.", self.path);
            self.error(Place::Value, message, explain::example(schema));
        }
    }
}

/// Writes `80.0` as `80`: an API server treats them as equal.
#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and within 2^53")]
fn whole(value: &mut Value) {
    const LARGEST: f64 = 9_007_199_254_740_992.0;
    if let Value::Number(number) = value
        && number.is_f64()
        && let Some(float) = number.as_f64()
        && float.fract() == 0.0
        && float.abs() <= LARGEST
    {
        *number = (float as i64).into();
    }
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool) == Some(true)
}

fn bound(schema: &Value, key: &str) -> Option<usize> {
    schema.get(key).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok())
}

#[cfg(test)]
mod tests;
