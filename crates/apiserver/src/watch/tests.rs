use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::store::{Key, Transaction};

struct World {
    store: Arc<Store>,
    _directory: tempfile::TempDir,
}

fn spec() -> Spec {
    Spec {
        name: "things".to_owned(),
        kind: "Thing".to_owned(),
        api_version: "v1".to_owned(),
        fields: Box::new(|object| vec![("size".into(), object["size"].to_string())]),
        era: 0,
        on_load: Box::new(|_| 0),
    }
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path(), vec![Arc::new(spec())]).unwrap());
        Self { store, _directory: directory }
    }

    async fn put(&self, name: &str, size: u64, labels: Value) -> u64 {
        let key = Key::new(0, "ns", name);
        let object = json!({ "metadata": { "name": name, "labels": labels }, "size": size });
        let mut transaction = Transaction::default();
        match self.store.get(&key) {
            Some(record) => transaction.replace(key, record.version, object),
            None => transaction.create(key, object),
        }
        self.store.commit(transaction).await.unwrap()[0].version
    }

    async fn delete(&self, name: &str) -> u64 {
        let key = Key::new(0, "ns", name);
        let mut transaction = Transaction::default();
        let version = self.store.get(&key).unwrap().version;
        transaction.delete(key, version, None);
        self.store.commit(transaction).await.unwrap()[0].version
    }

    fn watch(&self, labels: &str, fields: &str, start: Start) -> BoxStream<'static, WatchEvent> {
        Watch {
            kind: wire::kinds::find("", "v1", "configmaps").unwrap().into(),
            store: self.store.clone(),
            resource: 0,
            spec: Arc::new(spec()),
            selection: Selection::parse("", labels, fields, &["size"]).unwrap(),
            start,
            bookmarks: true,
            timeout: Duration::from_secs(3600),
        }
        .stream()
    }
}

fn text(event: &WatchEvent) -> String {
    let object = |kind: &str, stored: &Stored| {
        let value = stored.value();
        let metadata = &value["metadata"];
        format!("{kind} {} {}", metadata["name"].as_str().unwrap(), value["size"])
    };
    match event {
        WatchEvent::Added(stored) => object("ADDED", stored),
        WatchEvent::Modified(stored) => object("MODIFIED", stored),
        WatchEvent::Deleted(stored) => object("DELETED", stored),
        WatchEvent::Bookmark { initial_events_end, .. } => format!("BOOKMARK {initial_events_end}"),
        WatchEvent::Error(failure) => format!("ERROR {}", failure.code),
    }
}

async fn take(stream: &mut BoxStream<'static, WatchEvent>, count: usize) -> Vec<String> {
    stream.take(count).map(|event| text(&event)).collect().await
}

#[tokio::test]
async fn a_watch_sees_what_exists_then_what_happens() {
    let world = World::new();
    world.put("a", 1, json!({})).await;
    let mut stream = world.watch("", "", Start::Objects { marked: true });
    assert_eq!(take(&mut stream, 2).await, ["ADDED a 1", "BOOKMARK true"]);
    world.put("a", 2, json!({})).await;
    world.put("b", 1, json!({})).await;
    world.delete("a").await;
    assert_eq!(take(&mut stream, 3).await, ["MODIFIED a 2", "ADDED b 1", "DELETED a 2"]);
}

#[tokio::test]
async fn a_watch_from_the_future_waits_for_what_comes_after_it() {
    let world = World::new();
    let first = world.put("a", 1, json!({})).await;
    let mut stream = world.watch("", "", Start::After(first + 2));
    for size in [2, 3, 4] {
        world.put("a", size, json!({})).await;
    }
    assert_eq!(take(&mut stream, 1).await, ["MODIFIED a 4"]);
}

#[tokio::test]
async fn gaining_and_losing_selection_is_added_and_deleted() {
    let world = World::new();
    let first = world.put("a", 1, json!({})).await;
    let mut stream = world.watch("on", "", Start::After(first));
    world.put("a", 2, json!({ "on": "1" })).await;
    world.put("a", 3, json!({ "on": "2" })).await;
    let version = world.put("a", 4, json!({})).await;
    world.delete("a").await;
    assert_eq!(take(&mut stream, 2).await, ["ADDED a 2", "MODIFIED a 3"]);
    let Some(WatchEvent::Deleted(last)) = stream.next().await else { panic!("no DELETED") };
    let last = last.value();
    assert_eq!(last["size"], 3, "the state that was last selected");
    assert_eq!(last["metadata"]["resourceVersion"], version.to_string());
}

#[tokio::test]
async fn field_selectors_select() {
    let world = World::new();
    let mut stream = world.watch("", "size!=1,metadata.namespace=ns", Start::Now);
    world.put("a", 1, json!({})).await;
    world.put("b", 2, json!({})).await;
    assert_eq!(take(&mut stream, 1).await, ["ADDED b 2"]);
}

#[tokio::test]
async fn a_watch_that_is_too_slow_is_told() {
    let world = World::new();
    let first = world.put("a", 1, json!({})).await;
    let mut stream = world.watch("", "", Start::After(first));
    let mut transaction = Transaction::default();
    for number in 0..10_000 {
        let object = json!({ "metadata": {}, "size": number });
        transaction.create(Key::new(0, "ns", &format!("n{number}")), object);
    }
    world.store.commit(transaction).await.unwrap();
    assert_eq!(take(&mut stream, 2).await, ["ERROR 410"], "and it ends");
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_when_nothing_happens_and_at_the_end() {
    let world = World::new();
    let watch = Watch {
        kind: wire::kinds::find("", "v1", "configmaps").unwrap().into(),
        store: world.store.clone(),
        resource: 0,
        spec: Arc::new(spec()),
        selection: Selection::default(),
        start: Start::Now,
        bookmarks: true,
        timeout: Duration::from_secs(90),
    };
    let events: Vec<String> = watch.stream().map(|event| text(&event)).collect().await;
    assert_eq!(events, ["BOOKMARK false", "BOOKMARK false"]);
}

#[test]
fn field_selectors_parse_as_upstream() {
    let parse = |text| Selection::parse("", "", text, &["spec.type"]).map(drop);
    assert!(parse("").is_ok());
    assert!(parse("spec.type==A,metadata.name!=b").is_ok());
    assert!(parse("metadata.name=a\\,b").is_ok());
    let error = parse("spec.type").unwrap_err();
    assert_eq!(error, "invalid selector: 'spec.type'; can't understand 'spec.type'");
    assert_eq!(parse("status.foo=1").unwrap_err(), "field label not supported: status.foo");
}
