//! Validation of definitions (CR1).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::jsonpath::JsonPath;
use crate::kinds::Env;
use crate::rules::error::{each, forbidden, immutable, invalid, not_supported, required};
use crate::rules::fields::Fields;
use crate::rules::{meta, text};
use crate::status::FieldError;
use crate::structural::{Scope, check};

/// All errors of a new definition.
pub(crate) fn validate_create(definition: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate(definition, false, text::dns_subdomain);
    errors.extend(name_errors(definition));
    errors.extend(approval_errors(definition));
    errors.extend(spec_errors(definition));
    errors.extend(stored_version_errors(definition));
    errors
}

/// All errors of a changed definition.
pub(crate) fn validate_update(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    // A definition on its way out only loses finalizers.
    if new.has("/metadata/deletionTimestamp") && new.at("/spec") == old.at("/spec") {
        return errors;
    }
    errors.extend(spec_errors(new));
    let mut fixed = vec!["group", "names.plural"];
    if crate::custom::is_established(old) {
        fixed.extend(["scope", "names.kind"]);
    }
    for name in fixed {
        let pointer = format!("/spec/{}", name.replace('.', "/"));
        if new.at(&pointer) != old.at(&pointer) {
            errors.push(immutable(format!("spec.{name}"), new.at(&pointer).clone()));
        }
    }
    errors.extend(stored_version_errors(new));
    errors
}

/// All errors of a status write.
pub(crate) fn validate_status(new: &Value, old: &Value, _: &Env) -> Vec<FieldError> {
    let mut errors = meta::validate_update(new, old);
    errors.extend(stored_version_errors(new));
    errors
}

/// The name says plural and group.
fn name_errors(definition: &Value) -> Vec<FieldError> {
    let (plural, group) = (definition.text("/spec/names/plural"), definition.text("/spec/group"));
    let name = definition.text("/metadata/name");
    if name == format!("{plural}.{group}") {
        return Vec::new();
    }
    let why = r#"must be spec.names.plural+"."+spec.group"#;
    vec![invalid("metadata.name", name, why)]
}

/// Groups of the Kubernetes community need its approval (KEP-1111).
fn approval_errors(definition: &Value) -> Vec<FieldError> {
    let group = definition.text("/spec/group");
    let is_protected = COMMUNITY_GROUPS
        .iter()
        .any(|community| group == *community || group.ends_with(&format!(".{community}")));
    let is_approved = !definition["metadata"]["annotations"][APPROVAL].is_null();
    if !is_protected || is_approved {
        return Vec::new();
    }
    let why = format!(
        "protected groups must have approval annotation {APPROVAL:?}, see \
         https://github.com/kubernetes/enhancements/pull/1111"
    );
    vec![required(format!("metadata.annotations[{APPROVAL}]"), &why)]
}

fn spec_errors(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let group = definition.text("/spec/group");
    if group.is_empty() {
        errors.push(required("spec.group", ""));
    } else {
        errors.extend(each("spec.group", group, text::dns_subdomain(group)));
        if !group.contains('.') {
            let why = "should be a domain with at least one dot";
            errors.push(invalid("spec.group", group, why));
        }
    }
    match definition.text("/spec/scope") {
        "" => errors.push(required("spec.scope", "")),
        "Cluster" | "Namespaced" => {}
        scope => errors.push(not_supported("spec.scope", scope, &["Cluster", "Namespaced"])),
    }
    errors.extend(all_version_errors(definition));
    for (index, version) in definition.list("/spec/versions").iter().enumerate() {
        errors.extend(version_errors(version, &format!("spec.versions[{index}]")));
    }
    errors.extend(names_errors(definition.at("/spec/names"), "spec.names"));
    if definition.flag("/spec/preserveUnknownFields") {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                   spec.versions[*].schema instead";
        errors.push(invalid("spec.preserveUnknownFields", true, why));
    }
    errors.extend(conversion_errors(definition.at("/spec/conversion")));
    errors
}

fn all_version_errors(definition: &Value) -> Vec<FieldError> {
    let versions = definition.list("/spec/versions");
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    let all_unique = versions.iter().all(|version| seen.insert(version.text("/name")));
    if !all_unique {
        let value = definition.at("/spec/versions").clone();
        errors.push(invalid("spec.versions", value, "must contain unique version names"));
    }
    if versions.iter().filter(|version| version.flag("/storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(invalid("spec.versions", definition.at("/spec/versions").clone(), why));
    }
    errors
}

fn version_errors(version: &Value, path: &str) -> Vec<FieldError> {
    let name = version.text("/name");
    let mut errors = each(format!("{path}.name"), name, text::dns_label_1035(name));
    if version.has("/deprecationWarning") && !version.flag("/deprecated") {
        let why = "can only be set for deprecated versions";
        errors.push(invalid(
            format!("{path}.deprecationWarning"),
            version.text("/deprecationWarning"),
            why,
        ));
    }
    let schema_path = format!("{path}.schema.openAPIV3Schema");
    match version.at("/schema/openAPIV3Schema") {
        Value::Null => errors.push(required(schema_path, "schemas are required")),
        schema => errors.extend(check(schema, Scope::Root, &schema_path)),
    }
    errors.extend(scale_errors(version.at("/subresources/scale"), path));
    for (index, column) in version.list("/additionalPrinterColumns").iter().enumerate() {
        errors.extend(column_errors(column, &format!("{path}.additionalPrinterColumns[{index}]")));
    }
    let selectable = version.list("/selectableFields");
    if selectable.len() > MOST_SELECTABLE {
        let limit = MOST_SELECTABLE;
        let field = format!("{path}.selectableFields");
        errors.push(crate::rules::error::too_many(field, selectable.len(), limit));
    }
    for (index, field) in selectable.iter().enumerate() {
        let place = format!("{path}.selectableFields[{index}].jsonPath");
        errors.extend(selectable_errors(field, version, &place));
    }
    errors
}

fn scale_errors(scale: &Value, path: &str) -> Vec<FieldError> {
    if scale.is_null() {
        return Vec::new();
    }
    let path = format!("{path}.subresources.scale");
    let mut errors = Vec::new();
    let mut path_error = |name: &str, roots: &[&str], is_required: bool| {
        let text = scale.text(&format!("/{name}"));
        let field = format!("{path}.{name}");
        if text.is_empty() {
            if is_required {
                errors.push(required(field, ""));
            }
            return;
        }
        let is_simple = JsonPath::parse(text).is_ok_and(|path| path.fields().is_some());
        if !is_simple || !roots.iter().any(|root| text.starts_with(&format!("{root}."))) {
            let why = format!("should be a json path under {}", roots.join(" or "));
            errors.push(invalid(field, text, why));
        }
    };
    path_error("specReplicasPath", &[".spec"], true);
    path_error("statusReplicasPath", &[".status"], true);
    path_error("labelSelectorPath", &[".spec", ".status"], false);
    errors
}

fn column_errors(column: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if column.text("/name").is_empty() {
        errors.push(required(format!("{path}.name"), ""));
    }
    match column.text("/type") {
        "" => {
            let why = format!("must be one of {}", COLUMN_TYPES.join(","));
            errors.push(required(format!("{path}.type"), &why));
        }
        ty if !COLUMN_TYPES.contains(&ty) => {
            let why = format!("must be one of {}", COLUMN_TYPES.join(","));
            errors.push(invalid(format!("{path}.type"), ty, why));
        }
        _ => {}
    }
    let format = column.text("/format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(invalid(format!("{path}.format"), format, why));
    }
    let text = column.text("/jsonPath");
    match JsonPath::parse(text) {
        _ if text.is_empty() => errors.push(required(format!("{path}.jsonPath"), "")),
        Ok(_) => {}
        Err(why) => errors.push(invalid(format!("{path}.jsonPath"), text, why)),
    }
    errors
}

/// Selectors name scalar fields of the schema, not of metadata.
fn selectable_errors(field: &Value, version: &Value, place: &str) -> Vec<FieldError> {
    let text = field.text("/jsonPath");
    if text.is_empty() {
        return vec![required(place, "")];
    }
    let path = JsonPath::parse(text).ok();
    let Some(names) = path.as_ref().and_then(JsonPath::fields) else {
        let why = "must be a simple path with fields only";
        return vec![invalid(place, text, why)];
    };
    if names.first() == Some(&"metadata") {
        return vec![forbidden(place, "must not point to fields in metadata")];
    }
    let schema = version.at("/schema/openAPIV3Schema");
    let part = names.iter().try_fold(schema, |part, name| part["properties"].get(name));
    match part.map(|part| part.text("/type")) {
        Some("string" | "boolean" | "integer") => Vec::new(),
        Some(_) => {
            let why = "must point to a field of type string, boolean or integer. Enum string \
                       fields and strings with formats are allowed.";
            vec![invalid(place, text, why)]
        }
        None => {
            let why = "must be a simple path to a field in the schema";
            vec![invalid(place, text, why)]
        }
    }
}

fn names_errors(names: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in ["plural", "singular"] {
        let value = names.text(&format!("/{name}"));
        let field = format!("{path}.{name}");
        match value {
            "" if name == "plural" => errors.push(required(field, "")),
            "" => {}
            value => errors.extend(each(field, value, text::dns_label_1035(value))),
        }
    }
    for name in ["kind", "listKind"] {
        let value = names.text(&format!("/{name}"));
        let field = format!("{path}.{name}");
        if value.is_empty() {
            errors.push(required(field, ""));
            continue;
        }
        let why = text::dns_label_1035(&value.to_lowercase());
        if !why.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", why.join(","));
            errors.push(invalid(field, value, why));
        }
    }
    let kind = names.text("/kind");
    if !kind.is_empty() && kind == names.text("/listKind") {
        let why = "kind and listKind may not be the same";
        errors.push(invalid(format!("{path}.listKind"), kind, why));
    }
    for list in ["shortNames", "categories"] {
        for (index, value) in names.texts(&format!("/{list}")).into_iter().enumerate() {
            let field = format!("{path}.{list}[{index}]");
            errors.extend(each(field, value, text::dns_label_1035(value)));
        }
    }
    errors
}

fn conversion_errors(conversion: &Value) -> Vec<FieldError> {
    let path = "spec.conversion";
    match conversion.text("/strategy") {
        "" => vec![required(format!("{path}.strategy"), "")],
        "None" if conversion.has("/webhook") => {
            let why = "should not be set when strategy is not set to Webhook";
            vec![forbidden(format!("{path}.webhook"), why)]
        }
        "Webhook" if !conversion.has("/webhook/clientConfig") => {
            let why = "required when strategy is set to Webhook";
            vec![required(format!("{path}.webhook.clientConfig"), why)]
        }
        "None" | "Webhook" => Vec::new(),
        other => vec![not_supported(format!("{path}.strategy"), other, &["None", "Webhook"])],
    }
}

/// Versions in which objects are stored cannot go.
fn stored_version_errors(definition: &Value) -> Vec<FieldError> {
    let versions: Vec<&str> =
        definition.list("/spec/versions").iter().map(|version| version.text("/name")).collect();
    let stored = definition.texts("/status/storedVersions");
    if stored.is_empty() {
        return vec![invalid(
            "status.storedVersions",
            Value::Array(Vec::new()),
            "must have at least one stored version",
        )];
    }
    let stored = stored.into_iter().enumerate();
    stored
        .filter(|(_, version)| !versions.contains(version))
        .map(|(index, version)| {
            let field = format!("status.storedVersions[{index}]");
            let why = format!(
                "missing from spec.versions; {version} was previously a storage version, and must \
                 remain in spec.versions until a storage migration ensures no data remains \
                 persisted in {version} and removes {version} from status.storedVersions"
            );
            invalid(field, version, why)
        })
        .collect()
}

const APPROVAL: &str = "api-approved.kubernetes.io";
const COMMUNITY_GROUPS: [&str; 2] = ["k8s.io", "kubernetes.io"];
const MOST_SELECTABLE: usize = 8;
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password"];
