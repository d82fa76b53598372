//! Reading manifests: YAML or JSON files, folders and stdin, with the line of every field, so
//! that an error names file, line and field.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

/// One object of a manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// The object.
    pub(crate) value: Value,
    /// Where it came from.
    origin: String,
    /// Line of every field, by path such as `spec.ports[0].port`; the object itself is "".
    lines: BTreeMap<String, u64>,
}

impl Manifest {
    /// `FILE:LINE` of a field, or of its nearest parent that stands in the file.
    pub(crate) fn place(&self, field: &str) -> String {
        let mut path = field;
        loop {
            if let Some(line) = self.line(path) {
                return format!("{}:{line}", self.origin);
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None if path.is_empty() => return self.origin.clone(),
                None => path = "",
            }
        }
    }

    /// Line of a field. Some messages leave list indexes out: then the first such field counts.
    fn line(&self, path: &str) -> Option<u64> {
        let unindexed = |known: &str| {
            let parts =
                known.split('[').map(|part| part.split_once(']').map_or(part, |(_, end)| end));
            parts.collect::<String>() == path
        };
        self.lines.get(path).copied().or_else(|| {
            self.lines.iter().filter(|(known, _)| unindexed(known)).map(|(_, line)| *line).min()
        })
    }

    /// `Kind name` for messages.
    pub(crate) fn title(&self) -> String {
        let text = |pointer: &str| self.value.pointer(pointer).and_then(Value::as_str);
        let kind = text("/kind").unwrap_or("object");
        match text("/metadata/name") {
            Some(name) => format!("{kind} {name:?}"),
            None => kind.to_owned(),
        }
    }
}

/// The objects that `up` deploys when it is given no files.
const EXAMPLES: [(&str, &str); 4] = [
    ("examples/web.yaml", include_str!("../../../examples/web.yaml")),
    ("examples/clusterip.yaml", include_str!("../../../examples/clusterip.yaml")),
    ("examples/nodeport.yaml", include_str!("../../../examples/nodeport.yaml")),
    ("examples/loadbalancer.yaml", include_str!("../../../examples/loadbalancer.yaml")),
];

/// The three Services of the README with their pods.
pub(crate) fn examples() -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for (name, text) in EXAMPLES {
        manifests.extend(parse(name, text)?);
    }
    Ok(manifests)
}

/// All objects of files, folders (`*.yaml`, `*.yml`, `*.json`, by name) and `-` for stdin.
pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("read manifests from stdin")?;
            manifests.extend(parse("<stdin>", &text)?);
        } else if path.is_dir() {
            for file in manifest_files(path)? {
                manifests.extend(read_file(&file)?);
            }
        } else {
            manifests.extend(read_file(path)?);
        }
    }
    if manifests.is_empty() {
        bail!("the files hold no object: every document needs apiVersion, kind and metadata");
    }
    Ok(manifests)
}

fn manifest_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", folder.display()))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> anyhow::Result<Vec<Manifest>> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| format!("read {name}"))?;
    parse(&name, &text)
}

/// The one document of a file that need not be a Kubernetes object.
pub(crate) fn read_document(path: &Path) -> anyhow::Result<Manifest> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| format!("read {name}"))?;
    document(&name, &text)
}

/// The one document of a text.
pub(crate) fn document(origin: &str, text: &str) -> anyhow::Result<Manifest> {
    let mut documents = documents(origin, text)?.into_iter();
    match (documents.next(), documents.next()) {
        (Some(document), None) => Ok(document),
        (None, _) => bail!("{origin} is empty"),
        (Some(_), Some(second)) => bail!("{}: there is a second document", second.place("")),
    }
}

/// The objects of one text. Lists (`kind: List`) are opened.
fn parse(origin: &str, text: &str) -> anyhow::Result<Vec<Manifest>> {
    let manifests = documents(origin, text)?;
    manifests.iter().try_for_each(require_type)?;
    Ok(manifests)
}

fn documents(origin: &str, text: &str) -> anyhow::Result<Vec<Manifest>> {
    let documents: Vec<Spanned<Node>> = serde_saphyr::from_multiple(text).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        anyhow::anyhow!("{origin}:{line}: not valid YAML: {}", first_line(&error.to_string()))
    })?;
    let mut manifests = Vec::new();
    for document in documents {
        let line = document.referenced.line();
        match document.value {
            Node::Map(fields) if is_list(&fields) => {
                let items = fields.into_iter().find(|(key, _)| key.value == "items");
                let Some((_, Spanned { value: Node::List(items), .. })) = items else { continue };
                manifests.extend(items.into_iter().map(|item| Manifest::new(origin, item)));
            }
            Node::Map(_) => manifests.push(Manifest::new(origin, document)),
            Node::Scalar(Value::Null) => {}
            Node::Scalar(_) | Node::List(_) => {
                bail!("{origin}:{line}: an object needs fields such as apiVersion and kind")
            }
        }
    }
    Ok(manifests)
}

fn is_list(fields: &[(Spanned<String>, Spanned<Node>)]) -> bool {
    fields.iter().any(|(key, value)| {
        let Node::Scalar(Value::String(kind)) = &value.value else { return false };
        key.value == "kind" && kind == "List"
    })
}

fn require_type(manifest: &Manifest) -> anyhow::Result<()> {
    for field in ["apiVersion", "kind"] {
        if !manifest.value[field].is_string() {
            bail!("{}: field {field} is missing", manifest.place(field));
        }
    }
    let metadata = &manifest.value["metadata"];
    if !metadata["name"].is_string() && !metadata["generateName"].is_string() {
        bail!("{}: field metadata.name is missing", manifest.place("metadata"));
    }
    Ok(())
}

/// The library adds a snippet of the input below its message.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

impl Manifest {
    fn new(origin: &str, node: Spanned<Node>) -> Self {
        let mut lines = BTreeMap::from([(String::new(), node.referenced.line())]);
        let value = node.value.into_value("", &mut lines);
        Self { value, origin: origin.to_owned(), lines }
    }
}

/// A YAML value that remembers where its parts stand.
#[derive(Debug)]
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl Node {
    /// The plain value; notes the line of everything below `path`.
    fn into_value(self, path: &str, lines: &mut BTreeMap<String, u64>) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => {
                let item = |(index, item): (usize, Spanned<Self>)| {
                    let path = format!("{path}[{index}]");
                    lines.insert(path.clone(), item.referenced.line());
                    item.value.into_value(&path, lines)
                };
                Value::Array(items.into_iter().enumerate().map(item).collect())
            }
            Self::Map(fields) => {
                let field = |(key, value): (Spanned<String>, Spanned<Self>)| {
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{}", key.value);
                    lines.insert(path.clone(), key.referenced.line());
                    (key.value, value.value.into_value(&path, lines))
                };
                Value::Object(fields.into_iter().map(field).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Node::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: a
spec:
  ports:
  - port: 80
    targetPort: 8080
---
apiVersion: v1
kind: ConfigMap
metadata: {name: b}
";

    #[test]
    fn every_field_knows_its_line() {
        let manifests = parse("two.yaml", TWO).unwrap();
        assert_eq!(manifests.len(), 2);
        assert_eq!(manifests[0].place("spec.ports[0].targetPort"), "two.yaml:8");
        assert_eq!(manifests[0].place("spec.ports[0].nodePort"), "two.yaml:7", "its parent");
        assert_eq!(manifests[0].place("spec.ports.targetPort"), "two.yaml:8", "without an index");
        assert_eq!(manifests[1].place("metadata.name"), "two.yaml:12");
        assert_eq!(manifests[0].value["spec"]["ports"][0]["port"], 80);
    }

    #[test]
    fn broken_yaml_names_file_and_line() {
        let error = parse("bad.yaml", "a: 1\nb: [1\nc: 2\n").unwrap_err().to_string();
        assert!(error.starts_with("bad.yaml:"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn a_document_without_a_kind_is_refused() {
        let error = parse("x.yaml", "apiVersion: v1\nmetadata: {name: a}\n").unwrap_err();
        assert_eq!(error.to_string(), "x.yaml:1: field kind is missing");
    }

    #[test]
    fn a_list_is_opened() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: c}\n";
        let manifests = parse("list.yaml", text).unwrap();
        assert_eq!(manifests[0].title(), "ConfigMap \"c\"");
        assert_eq!(manifests[0].place("kind"), "list.yaml:5");
    }

    #[test]
    fn the_examples_are_the_three_types() {
        let manifests = examples().unwrap();
        let types: Vec<&str> = manifests
            .iter()
            .filter_map(|manifest| manifest.value["spec"]["type"].as_str())
            .collect();
        assert_eq!(types, ["ClusterIP", "NodePort", "LoadBalancer"]);
    }
}
