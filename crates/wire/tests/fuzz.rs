//! Damaged bodies in every encoding and patch type, through all that a write goes through: an
//! answer comes, always, and soon, and memory stays bounded.
//!
//! `PORTOLAN_FUZZ_ROUNDS=1000000 cargo nextest run --release -p portolan-wire --test fuzz` for long.

use portolan_wire::apply::{self, Writer};
use portolan_wire::decode::{self, ContentType, FieldValidation};
use portolan_wire::kinds::{self, Env, KindRow};
use portolan_wire::patch::{self, PatchKind};
use portolan_wire::protobuf;
use portolan_wire::schema::Gvk;
use serde_json::{Value, json};
use testkit::fuzz::{self, Attempt, Random};

const CASES: &str = include_str!("data/recorded.jsonl");
/// MiB: nothing that a client sends in 3 MiB may take more, and these are far smaller.
const MOST_MEMORY: u64 = 512;

#[test]
fn any_object_is_answered() {
    let corpus = Corpus::new();
    for mut random in fuzz::rounds(400) {
        let (row, mut object) = corpus.object(&mut random);
        fuzz::damage(&mut object, &corpus.values, &mut random);
        for content in [ContentType::Json, ContentType::Yaml, ContentType::Protobuf] {
            let mut body = encoded(&object, content);
            if random.once_in(2) {
                fuzz::damage_bytes(&mut body, &mut random);
            }
            let input = (row.kind, content, String::from_utf8_lossy(&body));
            let _attempt = Attempt::on(&input);
            let validation = *random.one_of(&VALIDATIONS);
            if let Ok(decoded) = decode::object(&body, content, gvk(row), validation) {
                rules(row, decoded.value, &corpus.live(row));
            }
            let _ = decode::delete_options(&body, content);
        }
    }
    assert!(fuzz::most_memory() < MOST_MEMORY);
}

#[test]
fn any_patch_is_answered() {
    let corpus = Corpus::new();
    for mut random in fuzz::rounds(400) {
        let (row, mut patch) = corpus.object(&mut random);
        if random.once_in(2) {
            fuzz::damage(&mut patch, &corpus.values, &mut random);
        }
        let live = corpus.live(row);
        for kind in [PatchKind::Merge, PatchKind::Strategic] {
            patched(row, kind, &patch.to_string().into_bytes(), &live);
        }
        let operations = operations(&live, &corpus, &mut random).to_string();
        patched(row, PatchKind::Json, operations.as_bytes(), &live);
        let mut body = operations.into_bytes();
        fuzz::damage_bytes(&mut body, &mut random);
        patched(row, *random.one_of(&PATCHES), &body, &live);
    }
    assert!(fuzz::most_memory() < MOST_MEMORY);
}

#[test]
fn any_apply_is_answered() {
    let corpus = Corpus::new();
    for mut random in fuzz::rounds(400) {
        let (row, mut object) = corpus.object(&mut random);
        let mut live = corpus.live(row);
        fuzz::damage(&mut object, &corpus.values, &mut random);
        if random.once_in(2) {
            // What another server has stored, owners of fields included.
            fuzz::damage(&mut live, &corpus.values, &mut random);
        }
        let mut body = object.to_string().into_bytes();
        if random.once_in(4) {
            fuzz::damage_bytes(&mut body, &mut random);
        }
        let input = (row.kind, String::from_utf8_lossy(&body), &live);
        let _attempt = Attempt::on(&input);
        let Ok(config) = apply::parse(&body, *random.one_of(&VALIDATIONS)) else { continue };
        let live = Some(&live).filter(|_| !random.once_in(3));
        let force = random.once_in(2);
        if let Ok(new) = apply::apply(live, &config.value, gvk(row), &WRITER, force) {
            rules(row, new, &corpus.live(row));
        }
    }
    assert!(fuzz::most_memory() < MOST_MEMORY);
}

/// Objects that clients sent when the answers were recorded.
struct Corpus {
    objects: Vec<(&'static KindRow, Value)>,
    values: Vec<Value>,
}

impl Corpus {
    fn new() -> Self {
        let mut objects = Vec::new();
        for line in CASES.lines() {
            let case: Value = serde_json::from_str(line).expect("the data is JSON");
            for step in case["steps"].as_array().into_iter().flatten() {
                let body = &step["body"];
                objects.extend(kinds::row_of(body).map(|row| (row, body.clone())));
            }
        }
        // Kinds that were not recorded are at least tried with what others have.
        for row in kinds::kinds() {
            let mut object = objects[objects.len() % 7].1.clone();
            object["apiVersion"] = row.api_version().into();
            object["kind"] = row.kind.into();
            objects.push((row, object));
        }
        assert!(objects.len() > 100);
        let values = objects.iter().map(|(_, value)| value.clone()).collect();
        Self { objects, values }
    }

    fn object(&self, random: &mut Random) -> (&'static KindRow, Value) {
        let (row, object) = random.one_of(&self.objects);
        (row, object.clone())
    }

    /// A stored object of a kind.
    fn live(&self, row: &'static KindRow) -> Value {
        let first = self.objects.iter().find(|(other, _)| std::ptr::eq(*other, row));
        let mut live = first.map(|(_, object)| object.clone()).unwrap_or_default();
        let body = live.to_string().into_bytes();
        if let Ok(decoded) =
            decode::object(&body, ContentType::Json, gvk(row), FieldValidation::Ignore)
        {
            live = decoded.value;
        }
        (row.default)(&mut live, &env());
        apply::track_update(None, &mut live, gvk(row), &WRITER);
        live
    }
}

/// All rules of a kind, and every form in which its objects are shown.
fn rules(row: &'static KindRow, mut new: Value, old: &Value) {
    let env = env();
    (row.default)(&mut new, &env);
    apply::track_update(Some(old), &mut new, gvk(row), &WRITER);
    let mut created = new.clone();
    (row.prepare_create)(&mut created, &env);
    (row.validate_create)(&created, &env);
    (row.prepare_status)(&mut new.clone(), old, &env);
    (row.validate_status)(&new, old, &env);
    (row.prepare_update)(&mut new, old, &env);
    (row.validate_update)(&new, old, &env);
    (row.validate_update)(old, &new, &env);
    (row.default_on_read)(&mut new, &env);
    (row.warnings)(&new, Some(old));
    (row.selectable_fields)(&new);
    (row.cells)(&new, 1_700_000_000_000_000);
    if let Ok(message) = protobuf::encode(&new) {
        protobuf::decode(&message).expect("what was written can be read");
    }
}

fn patched(row: &'static KindRow, kind: PatchKind, body: &[u8], live: &Value) {
    let input = (row.kind, kind, String::from_utf8_lossy(body), live);
    let _attempt = Attempt::on(&input);
    let Ok(patch) = patch::parse(kind, body) else { return };
    if let Ok(patched) = patch::patch(kind, live, &patch, gvk(row), FieldValidation::Warn) {
        rules(row, patched.value, live);
    }
}

/// A JSON patch whose paths are mostly there.
fn operations(live: &Value, corpus: &Corpus, random: &mut Random) -> Value {
    let mut paths = Vec::new();
    collect_paths(live, String::new(), &mut paths);
    let count = 1 + random.below(6);
    (0..count)
        .map(|_| {
            let words = ["add", "remove", "replace", "move", "copy", "test", "merge"];
            let mut path = random.one_of(&paths).clone();
            if random.once_in(3) {
                path = format!("{path}/{}", fuzz::text(random));
            }
            let value = &random.one_of(&corpus.values)["spec"];
            json!({
                "op": random.one_of(&words), "path": path,
                "from": random.one_of(&paths), "value": value,
            })
        })
        .collect()
}

fn collect_paths(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                collect_paths(member, format!("{path}/{name}"), paths);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect_paths(item, format!("{path}/{index}"), paths);
            }
        }
        _ => {}
    }
    paths.push(path);
}

fn encoded(object: &Value, content: ContentType) -> Vec<u8> {
    match content {
        ContentType::Json => object.to_string().into_bytes(),
        ContentType::Yaml => {
            serde_saphyr::to_string(object).unwrap_or_else(|_| object.to_string()).into_bytes()
        }
        ContentType::Protobuf => {
            protobuf::encode(object).unwrap_or_else(|_| b"k8s\0\x0a\x02".to_vec())
        }
    }
}

fn gvk(row: &KindRow) -> Gvk<'static> {
    Gvk { group: row.group, version: row.version, kind: row.kind }
}

fn env() -> Env {
    let cidr = |text: &str| text.parse().expect("is a CIDR");
    Env {
        service_cidrs: vec![cidr("10.96.0.0/16"), cidr("fd00:10:96::/112")],
        node_ports: (30000, 32767),
        advertise: ([172, 30, 0, 1].into(), 6443),
    }
}

const WRITER: Writer<'static> =
    Writer { manager: "fuzz", subresource: "", now: "2026-01-01T00:00:00Z" };
const VALIDATIONS: [FieldValidation; 3] =
    [FieldValidation::Ignore, FieldValidation::Warn, FieldValidation::Strict];
const PATCHES: [PatchKind; 3] = [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic];
