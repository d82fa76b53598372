//! What clients see of stored objects.

use serde_json::{Value, json};

use super::*;

fn stored(name: &str) -> Stored {
    let object = json!({
        "kind": "Namespace", "apiVersion": "v1",
        "metadata": { "name": name, "resourceVersion": "7", "uid": "u" },
        "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
    });
    Stored { json: object.to_string().into(), value: None }
}

fn encoder(format: Format, shape: Shape) -> Encoder {
    let row = wire::kinds::find("", "v1", "namespaces").unwrap();
    Encoder::new(row.into(), Negotiated { format, shape }, &Query::default()).unwrap()
}

fn parsed(pieces: Pieces) -> Value {
    let text: Vec<u8> = pieces.flat_map(|piece| piece.to_vec()).collect();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn items_of_a_list_carry_no_type() {
    let items = vec![stored("a"), stored("b")];
    let more = Some(More { token: "token".to_owned(), remaining: Some(3) });
    let list = parsed(encoder(Format::Json, Shape::Object).list(items, 9, more).unwrap());
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("NamespaceList"), &json!("v1")));
    assert_eq!(
        list["metadata"],
        json!({ "resourceVersion": "9", "continue": "token", "remainingItemCount": 3 })
    );
    assert_eq!(list["items"][1]["metadata"]["name"], "b");
    assert_eq!(list["items"][1].get("kind"), None);
}

#[test]
fn an_empty_list_has_items() {
    let list = parsed(encoder(Format::Json, Shape::Object).list(Vec::new(), 1, None).unwrap());
    assert_eq!(list["items"], json!([]));
}

#[test]
fn a_long_list_comes_in_pieces_that_join() {
    let items: Vec<Stored> = (0..2000).map(|index| stored(&format!("n{index}"))).collect();
    let pieces = encoder(Format::Json, Shape::Object).list(items, 1, None).unwrap();
    let pieces: Vec<Bytes> = pieces.collect();
    assert!(pieces.len() > 2);
    let joined: Value = serde_json::from_slice(&pieces.concat()).unwrap();
    assert_eq!(joined["items"].as_array().map(Vec::len), Some(2000));
}

#[test]
fn a_list_as_yaml_is_the_same_list() {
    let plain =
        parsed(encoder(Format::Json, Shape::Object).list(vec![stored("a")], 1, None).unwrap());
    let pieces = encoder(Format::Yaml, Shape::Object).list(vec![stored("a")], 1, None).unwrap();
    let text: Vec<u8> = pieces.flat_map(|piece| piece.to_vec()).collect();
    let yaml: Value = serde_saphyr::from_str(std::str::from_utf8(&text).unwrap()).unwrap();
    assert_eq!(yaml, plain);
}

#[test]
fn metadata_of_one_object_and_of_a_list() {
    let one = encoder(Format::Json, Shape::Partial("v1")).object(&stored("a")).unwrap();
    let one: Value = serde_json::from_slice(&one).unwrap();
    assert_eq!(one["kind"], "PartialObjectMetadata");
    assert_eq!((one["metadata"]["name"].as_str(), one.get("spec")), (Some("a"), None));
    let list = encoder(Format::Json, Shape::PartialList("v1")).list(vec![stored("a")], 1, None);
    let list = parsed(list.unwrap());
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["kind"], "PartialObjectMetadata");
}

#[test]
fn metadata_of_the_wrong_number_is_not_acceptable() {
    let list = encoder(Format::Json, Shape::Partial("v1")).list(Vec::new(), 1, None);
    let message = list.err().unwrap().message;
    assert!(message.ends_with("the requested object is a list (*core.NamespaceList)"));
    let one = encoder(Format::Json, Shape::PartialList("v1")).object(&stored("a"));
    assert!(one.unwrap_err().message.ends_with("is not a list (*core.Namespace)"));
}

#[test]
fn a_table_has_columns_and_rows() {
    let table = encoder(Format::Json, Shape::Table("v1")).list(vec![stored("a")], 5, None);
    let table = parsed(table.unwrap());
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
}

#[test]
fn a_status_is_no_table() {
    let failure = status::not_found("", "namespaces", "x").to_value();
    let object = Stored { json: failure.to_string().into(), value: None };
    let text = encoder(Format::Json, Shape::Table("v1")).object(&object).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), failure);
}

#[test]
fn columns_come_once_in_a_watch() {
    let mut encoder = encoder(Format::Json, Shape::Table("v1"));
    let mut event = |event| {
        let frame = encoder.event(&event).unwrap();
        assert!(frame.ends_with(b"\n"));
        serde_json::from_slice::<Value>(&frame).unwrap()
    };
    assert!(event(WatchEvent::Added(stored("a")))["object"]["columnDefinitions"].is_array());
    assert!(event(WatchEvent::Deleted(stored("a")))["object"]["columnDefinitions"].is_null());
}

#[test]
fn a_bookmark_tells_where_the_initial_events_end() {
    let event = WatchEvent::Bookmark { resource_version: 4, initial_events_end: true };
    let frame = encoder(Format::Json, Shape::Object).event(&event).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&frame).unwrap(),
        json!({ "type": "BOOKMARK", "object": {
            "kind": "Namespace", "apiVersion": "v1", "metadata": {
                "resourceVersion": "4", "annotations": { "k8s.io/initial-events-end": "true" },
            },
        }})
    );
}
